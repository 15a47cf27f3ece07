/* Elementwise functions of two numbers a and b: value, first and second derivatives, and nothing
 * else. No loop, no array.
 *
 * Included in two ways. Without CURVED it is a template (expand.h) of what does not fit a line.
 * With CURVED, LINEAR and COMPARISON it is the list itself:
 *
 *     LINEAR(name, what its derivatives read: NOTHING or INPUT,
 *            whose gradient is that of the result: bit 0 for a, bit 1 for b,
 *            FLOPs of a value, "doc", value, derivative by a, derivative by b)
 *     CURVED(name, FLOPs, "doc", value, derivative by a, by b, twice by a, by a and b, twice by b)
 *     COMPARISON(name, "doc", condition)
 *
 * LINEAR is what is linear in a and b together or in each alone, so that its tangents follow. A
 * comparison is 1 where the condition holds and 0 elsewhere, and has no derivative. */
#ifndef CURVED

/* The larger, a where neither is, and its share in the gradient: where both are equal each has
 * half, as in PyTorch. NaN gives NaN. */
FBP_INLINE real FN(larger)(real a, real b) { return a >= b ? a : (a < b ? b : a + b); }

FBP_INLINE real FN(share_above)(real a, real b) {
    const real unequal = a > b ? (real)1 : (a < b ? (real)0 : a + b);
    return a == b ? (real)0.5 : unequal;
}

#else

/* clang-format off */

LINEAR(add, NOTHING, 3, 1, "a + b",
    a + b,
    (real)1,
    (real)1)

LINEAR(subtract, NOTHING, 1, 1, "a - b",
    a - b,
    (real)1,
    (real)-1)

LINEAR(multiply, INPUT, 0, 1, "a * b",
    a * b,
    b,
    a)

CURVED(divide, 1, "a / b",
    a / b,
    (real)1 / b,
    -(a / b) / b,
    (real)0,
    (real)-1 / b / b,
    (real)2 * (a / b) / b / b)

CURVED(maximum, 1, "the larger of a and b; where they are equal each has half the gradient",
    FN(larger)(a, b),
    FN(share_above)(a, b),
    FN(share_above)(b, a),
    (real)0,
    (real)0,
    (real)0)

CURVED(minimum, 1, "the smaller of a and b; where they are equal each has half the gradient",
    -FN(larger)(-a, -b),
    FN(share_above)(b, a),
    FN(share_above)(a, b),
    (real)0,
    (real)0,
    (real)0)

COMPARISON(less, "1 where a < b, else 0; no gradient", a < b)
COMPARISON(less_equal, "1 where a <= b, else 0; no gradient", a <= b)
COMPARISON(greater, "1 where a > b, else 0; no gradient", a > b)
COMPARISON(greater_equal, "1 where a >= b, else 0; no gradient", a >= b)
COMPARISON(equal, "1 where a equals b, else 0; no gradient", a == b)
COMPARISON(not_equal, "1 where a differs from b, else 0; no gradient", a != b)

/* clang-format on */

#endif
