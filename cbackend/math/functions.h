/* Elementwise functions that are no activations, in the form of math/activations.h, whose first
 * paragraph says how such a list is written and included: value, first and second derivative.
 *
 * Values are within 2 ulp, but for power, which states its own bound, and derivatives within 4
 * more: they have no largest magnitude to be measured by. Outside its domain, and at its end, a
 * value is as in C's annex F: log of a negative number is NaN, that of 0 minus infinity. Where the
 * value is NaN, a derivative may be anything. At a kink the slope is the one stated, which is
 * PyTorch's, for 0.0 and -0.0 alike. NaN gives NaN in all three where they read anything, except
 * that the power 0 of anything is 1. */
#ifndef ROW

/* c, but NaN for NaN. */
FBP_INLINE real FN(constant)(real c, real x) { return x == x ? c : x; }

FBP_INLINE real FN(sign)(real x) {
    return x > (real)0 ? (real)1 : (x < (real)0 ? (real)-1 : FN(constant)((real)0, x));
}

FBP_INLINE real FN(squared)(real x) { return x * x; }

/* 1 in [low, high], the bounds included, and 0 outside. */
FBP_INLINE real FN(clip_slope)(real x, real low, real high) {
    return x >= low && x <= high ? (real)1 : FN(constant)((real)0, x);
}

/* 2 / sqrt(pi) exp(-x^2), and its derivative. */
#define TWO_BY_ROOT_PI (real)1.1283791670955126
FBP_INLINE real FN(erf_slope)(real x) {
    return FN(constant)(FN(times_gauss)(TWO_BY_ROOT_PI, x), x);
}

FBP_INLINE real FN(erf_curvature)(real x) {
    const real c = FN(at_most)(FN(at_least)(x, (real)-30), (real)30); /* inf * 0 */
    return FN(times_gauss)((real)-2 * TWO_BY_ROOT_PI * c, x);
}
#undef TWO_BY_ROOT_PI

/* p x^(p - 1) and p (p - 1) x^(p - 2), 0 for all x where the factor is. The factors go in one after
 * the other: their product may overflow where the derivative is 0. */
FBP_INLINE real FN(power_slope)(real x, real p) {
    const real y = p * FN(power)(x, p, 1);
    return FN(from_bits)(FN(where_so)(p != (real)0, y));
}

FBP_INLINE real FN(power_curvature)(real x, real p) {
    const real q = p - (real)1, y = p * (q * FN(power)(x, p, 2));
    return FN(from_bits)(FN(where_so)((p != (real)0) & (q != (real)0), y));
}

#else

/* clang-format off */

ROW(exp, OUTPUT, NO_ATTRS, 17, "exp(x)",
    FN(exp)(x),
    y,
    y)

ROW(expm1, INPUT, NO_ATTRS, 20, "exp(x) - 1",
    FN(expm1)(x),
    FN(exp)(x),
    FN(exp)(x))

ROW(log, INPUT, NO_ATTRS, 18, "the natural logarithm of x",
    FN(log)(x),
    (real)1 / x,
    -FN(squared)((real)1 / x))

ROW(log1p, INPUT, NO_ATTRS, 22, "log(1 + x)",
    FN(log1p)(x),
    (real)1 / ((real)1 + x),
    -FN(squared)((real)1 / ((real)1 + x)))

ROW(erf, INPUT, NO_ATTRS, 40, "the error function of x",
    FN(erf)(x),
    FN(erf_slope)(x),
    FN(erf_curvature)(x))

ROW(negative, NOTHING, NO_ATTRS, 1, "-x",
    -x,
    (real)-1,
    (real)0)

ROW(absolute, INPUT, NO_ATTRS, 1, "|x|; slope 0 at 0",
    FN(magnitude)(x),
    FN(sign)(x),
    FN(constant)((real)0, x))

ROW(sign, NOTHING, NO_ATTRS, 1, "-1, 0 or 1 as x is negative, zero or positive; slope 0 everywhere",
    FN(sign)(x),
    (real)0,
    (real)0)

ROW(square, INPUT, NO_ATTRS, 1, "x * x",
    x * x,
    (real)2 * x,
    FN(constant)((real)2, x))

ROW(sqrt, OUTPUT, NO_ATTRS, 1, "the square root of x",
    FBP_SQRT(x),
    (real)0.5 / FN(magnitude)(y),
    (real)-0.25 / FN(magnitude)(y) / (y * y))

ROW(reciprocal, OUTPUT, NO_ATTRS, 1, "1 / x",
    (real)1 / x,
    -(y * y),
    (real)2 * y * (y * y))

ROW(power, INPUT, ATTR(exponent, NAN, ABOVE(-INFINITY), BELOW(INFINITY), "the power"), 60,
    "x to the power of a constant; NaN for x < 0 unless the exponent is whole",
    FN(power)(x, exponent, 0),
    FN(power_slope)(x, exponent),
    FN(power_curvature)(x, exponent))

ROW(clip, INPUT,
    ATTR(low, -INFINITY, FROM(-INFINITY), BELOW(INFINITY), "lower bound, none at -inf")
    ATTR(high, INFINITY, ABOVE(-INFINITY), UP_TO(INFINITY), "upper bound, none at inf"), 2,
    "x limited to [low, high], high where they are crossed; slope 1 at the bounds",
    FN(at_most)(FN(at_least)(x, low), high),
    FN(clip_slope)(x, low, high),
    FN(constant)((real)0, x))

/* clang-format on */

#endif
