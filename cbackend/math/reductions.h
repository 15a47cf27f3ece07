/* What reductions do to an element: x is it, y the result that it went into, dy the gradient of
 * that. A template (expand.h); it holds no loop. */

/* exp(x - y) does not overflow where y is the largest x, or logsumexp. An infinite largest x is
 * left out, as SciPy does, so that the sum is 0 or infinite and its logarithm the result. */
FBP_INLINE real FN(anchor)(real largest) {
    return FN(magnitude)(largest) == (real)INFINITY ? (real)0 : largest;
}

/* exp(x - y), the share of x in logsumexp and its derivative: 0 for all where y is minus
 * infinity. */
FBP_INLINE real FN(share)(real x, real y) {
    return FN(exp)(x - (y == -(real)INFINITY ? (real)0 : y));
}

/* The larger; NaN where either is. */
FBP_INLINE real FN(greatest)(real x, real y) { return x > y ? x : (x == x ? y : x); }
FBP_INLINE real FN(least)(real x, real y) { return x < y ? x : (x == x ? y : x); }

/* 1 for the elements that are the largest or smallest. */
FBP_INLINE real FN(is_extreme_of)(real x, real y) { return x == y ? (real)1 : (real)0; }
