/* Elementwise functions that are no activations, in the form of math/activations.h: value, first
 * and second derivative. Outside their domain, and at its end, they are as in C's annex F: log of a
 * negative number is NaN, that of 0 minus infinity. */
#ifndef ROW

#else

/* clang-format off */

ROW(exp, OUTPUT, NO_ATTRS, 17, "exp(x)",
    FN(exp)(x),
    y,
    y)

ROW(log, INPUT, NO_ATTRS, 18, "the natural logarithm of x",
    FN(log)(x),
    (real)1 / x,
    (real)-1 / (x * x))

/* clang-format on */

#endif
