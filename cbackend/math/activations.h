/* The activations: value, first and second derivative, and nothing else. No loop, no array.
 *
 * Included in two ways. Without ROW it is a template (expand.h) of the few functions whose formula
 * does not fit a line. With ROW it is the list itself:
 *
 *     ROW(name, reads, attributes, FLOPs of a value, "doc", value, slope, curvature)
 *
 * The value is an expression in x. The derivatives are expressions in what the row reads: x for
 * INPUT, y for OUTPUT, neither for NOTHING; the name that a row does not read is not even declared.
 * A row reads OUTPUT where that costs no digits, since the input then need not be kept. Attributes
 * go by their names. NaN gives NaN in all three (where they read anything); at a kink the slope is
 * the one stated, for 0.0 and -0.0 alike.
 *
 * Values are within 4 ulp, denormal results included; for silu with another beta than 1 that is on
 * top of what the rounding of beta * x does. First derivatives are within 4 eps of the largest
 * magnitude that they take, second ones within 8. tests/c/test_elementary.c measures both. */
#ifndef ROW

#if FBP_IS_F32
#define SATURATED 110.0f /* exp(-SATURATED) times anything of interest is 0 */
#define TAIL_END 18.0f   /* the normal distribution and gelu_tanh are 0 below -TAIL_END */
#else
#define SATURATED 760.0
#define TAIL_END 40.0
#endif

FBP_INLINE real FN(clamped)(real x, real limit) {
    return FN(at_most)(FN(at_least)(x, -limit), limit);
}

/* x / (1 + exp(-(u + tail))). The lower tail multiplies x by exp(u) before the exponent is applied,
 * since exp(u) alone would be denormal there and short of digits. */
FBP_INLINE real FN(gated)(real x, real u, real tail) {
    const int upper = u >= (real)0;
    const FN(parts_of_exp) e = FN(exp_parts)(-FN(magnitude)(u), upper ? tail : -tail);
    const real y = (upper ? x : FN(times_exp)(x, e)) / ((real)1 + FN(exp_of_parts)(e)) *
                   (upper ? (real)1 : e.s2);
    return u < (real)-1.5 * SATURATED ? (real)-0.0 : y; /* -inf * 0 */
}

/* Derivatives by u of u logistic(u). */
FBP_INLINE real FN(silu_slope)(real u) {
    const real c = FN(clamped)(u, SATURATED); /* inf * 0 */
    const FN(shares) s = FN(logistic_shares)(c);
    return s.above * ((real)1 + c * s.below);
}

FBP_INLINE real FN(silu_curvature)(real u) {
    const real c = FN(clamped)(u, SATURATED);
    const FN(shares) s = FN(logistic_shares)(c);
    return s.above * s.below * ((real)2 + c * (s.below - s.above));
}

/* x times the normal distribution function, as max(x, 0) - |x| Q(|x|) with its upper tail Q. */
FBP_INLINE real FN(gelu)(real x) {
    const real a = FN(at_most)(FN(magnitude)(x), TAIL_END);
    const real square = a * a;
    const FN(parts_of_exp) e =
        FN(exp_parts)((real)-0.5 * square, (real)0.5 * FN(product_tail)(a, a, square));
    return (x >= (real)0 ? x : (real)-0.0) - FN(times_normal_tail)(a, FN(tail_at)(a), e) * e.s2;
}

FBP_INLINE real FN(gelu_slope)(real x) {
    const real c = FN(clamped)(x, TAIL_END);
    const real e = FN(exp)((real)-0.5 * c * c);
    const real tail = e * FN(normal_tail)(FN(tail_at)(FN(magnitude)(c))).scaled;
    return (x < (real)0 ? tail : (real)1 - tail) + (real)0.3989422804014327 * c * e;
}

FBP_INLINE real FN(gelu_curvature)(real x) {
    const real c = FN(clamped)(x, TAIL_END);
    return (real)0.3989422804014327 * FN(exp)((real)-0.5 * c * c) * ((real)2 - c * c);
}

/* gelu_tanh = x / (1 + exp(-u)) with u = x (C1 + C3 x^2), C1 = 2 sqrt(2 / pi), C3 = 0.044715 C1. */
#if FBP_IS_F32
#define C1 1.59576917f
#define C1_LOW -4.534068e-08f
#define C3 0.071354814f
#define C3_LOW 2.3988325e-09f
#else
#define C1 1.5957691216057308
#define C1_LOW -9.96930880911092e-17
#define C3 0.07135481627260025
#define C3_LOW -6.175149918155315e-19
#endif

FBP_INLINE real FN(gelu_tanh)(real x) {
    /* u to twice the precision, as exp multiplies its error by u. */
    const real c = FN(clamped)(x, TAIL_END);
    const real square = c * c, square_tail = FN(product_tail)(c, c, square);
    const real p = C3 * square;
    const real p_tail = FN(product_tail)(C3, square, p) + C3 * square_tail + C3_LOW * square;
    const real q = C1 + p, back = q - C1;
    const real q_tail = (C1 - (q - back)) + (p - back) + p_tail + C1_LOW;
    const real u = c * q;
    return FN(gated)(x, u, FN(product_tail)(c, q, u) + c * q_tail);
}

FBP_INLINE real FN(gelu_tanh_slope)(real x) {
    const real c = FN(clamped)(x, TAIL_END);
    const real u = c * (C1 + C3 * c * c), du = C1 + (real)3 * C3 * c * c;
    const FN(shares) s = FN(logistic_shares)(u);
    return s.above * ((real)1 + c * du * s.below);
}

FBP_INLINE real FN(gelu_tanh_curvature)(real x) {
    const real c = FN(clamped)(x, TAIL_END);
    const real u = c * (C1 + C3 * c * c), du = C1 + (real)3 * C3 * c * c, ddu = (real)6 * C3 * c;
    const FN(shares) s = FN(logistic_shares)(u);
    return s.above * s.below * ((real)2 * du + c * (ddu + du * du * (s.below - s.above)));
}

#undef C1
#undef C1_LOW
#undef C3
#undef C3_LOW

/* x tanh(softplus(x)) = x n / d in e = exp(-|x|): n = 1 + 2e, d = n + 2e^2 for x >= 0;
 * n = 2e + e^2, d = n + 2 below. */
FBP_INLINE real FN(mish)(real x) {
    const int upper = x >= (real)0;
    const FN(parts_of_exp) parts = FN(exp_parts)(-FN(magnitude)(x), (real)0);
    const real e = FN(exp_of_parts)(parts);
    const real n = FBP_FMA(e, upper ? (real)2 : e, upper ? (real)1 : (real)2 * e);
    const real d = n + (upper ? (real)2 * e * e : (real)2);
    const real lower = FN(times_exp)(FBP_FMA(x, e, (real)2 * x), parts); /* x n */
    const real y = (upper ? x * n : lower) / d * (upper ? (real)1 : parts.s2);
    return x < (real)-1.5 * SATURATED ? (real)-0.0 : y;
}

/* tanh(softplus(x)), and its derivative (1 - tanh^2) logistic(x), with 1 - tanh = (d - n) / d. */
typedef struct {
    real gate, slope;
} FN(mish_gate);

FBP_INLINE FN(mish_gate) FN(gate_of_mish)(real x) {
    const int upper = x >= (real)0;
    const real e = FN(exp)(-FN(magnitude)(x));
    const real n = upper ? (real)1 + (real)2 * e : e * ((real)2 + e);
    const real rest = upper ? (real)2 * e * e : (real)2;
    const real w = (real)1 / (n + rest);
    FN(mish_gate) t;
    t.gate = n * w;
    t.slope = rest * w * ((real)1 + t.gate) * (upper ? (real)1 : e) / ((real)1 + e);
    return t;
}

FBP_INLINE real FN(mish_slope)(real x) {
    const real c = FN(clamped)(x, SATURATED);
    const FN(mish_gate) t = FN(gate_of_mish)(c);
    return t.gate + c * t.slope;
}

/* The second derivative of the gate is slope (1 - s - 2 gate s), s = logistic(x). */
FBP_INLINE real FN(mish_curvature)(real x) {
    const real c = FN(clamped)(x, SATURATED);
    const FN(mish_gate) t = FN(gate_of_mish)(c);
    const FN(shares) s = FN(logistic_shares)(c);
    return t.slope * ((real)2 + c * (s.below - (real)2 * t.gate * s.above));
}

FBP_INLINE real FN(softsign)(real x) {
    const real a = FN(at_most)(FN(magnitude)(x), (real)1e30); /* inf / inf */
    return FN(with_sign)(a / ((real)1 + a), x);
}

FBP_INLINE real FN(softsign_slope)(real x) {
    const real w = (real)1 / ((real)1 + FN(magnitude)(x));
    return w * w;
}

/* -2 sign(x) / (1 + |x|)^3, 0 at the kink of the slope. */
FBP_INLINE real FN(softsign_curvature)(real x) {
    const real w = (real)1 / ((real)1 + FN(magnitude)(x));
    return x == (real)0 ? (real)0 : FN(with_sign)((real)2 * w * w * w, -x);
}

#undef SATURATED
#undef TAIL_END

#else

/* clang-format off */

ROW(identity, NOTHING, NO_ATTRS, 0, "x",
    x,
    (real)1,
    (real)0)

ROW(logistic, OUTPUT, NO_ATTRS, 20, "1 / (1 + exp(-x))",
    FN(logistic)(x),
    y * ((real)1 - y),
    y * ((real)1 - y) * ((real)1 - (real)2 * y))

ROW(tanh, OUTPUT, NO_ATTRS, 22, "tanh(x)",
    FN(tanh)(x),
    ((real)1 - y) * ((real)1 + y),
    (real)-2 * y * (((real)1 - y) * ((real)1 + y)))

ROW(relu, OUTPUT, NO_ATTRS, 1, "x where x > 0, else 0; slope 0 at 0",
    FN(positive_part)(x),
    y > (real)0 ? (real)1 : y,
    y > (real)0 ? (real)0 : y)

ROW(leaky_relu, OUTPUT, ATTR(slope, 0.01, ABOVE(0), BELOW(INFINITY), "slope below 0 and at 0"), 2,
    "x where x > 0, else slope * x",
    x > (real)0 ? x : slope * x,
    y > (real)0 ? (real)1 : (y <= (real)0 ? slope : y),
    FN(step)(y) - FN(step)(y))

ROW(elu, OUTPUT, ATTR(alpha, 1, ABOVE(0), BELOW(INFINITY), "minus the limit at -infinity"), 20,
    "x where x > 0, else alpha * (exp(x) - 1); slope alpha at 0",
    x > (real)0 ? x : alpha * FN(expm1)(x),
    y > (real)0 ? (real)1 : y + alpha,
    y > (real)0 ? (real)0 : y + alpha)

ROW(softplus, OUTPUT, NO_ATTRS, 38, "log(1 + exp(x))",
    FN(softplus)(x),
    -FN(expm1)(-y),
    -FN(expm1)(-y) * FN(exp)(-y))

ROW(softsign, INPUT, NO_ATTRS, 3, "x / (1 + |x|)",
    FN(softsign)(x),
    FN(softsign_slope)(x),
    FN(softsign_curvature)(x))

ROW(silu, INPUT, ATTR(beta, 1, ABOVE(0), BELOW(INFINITY), "sharpness of the gate"), 24,
    "x * logistic(beta * x)",
    FN(gated)(x, beta * x, (real)0),
    FN(silu_slope)(beta * x),
    beta * FN(silu_curvature)(beta * x))

ROW(gelu, INPUT, NO_ATTRS, 60, "x * (1 + erf(x / sqrt(2))) / 2",
    FN(gelu)(x),
    FN(gelu_slope)(x),
    FN(gelu_curvature)(x))

ROW(gelu_tanh, INPUT, NO_ATTRS, 50, "x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2",
    FN(gelu_tanh)(x),
    FN(gelu_tanh_slope)(x),
    FN(gelu_tanh_curvature)(x))

ROW(mish, INPUT, NO_ATTRS, 32, "x * tanh(softplus(x))",
    FN(mish)(x),
    FN(mish_slope)(x),
    FN(mish_curvature)(x))

ROW(hard_tanh, OUTPUT, NO_ATTRS, 2, "x limited to [-1, 1]; slope 0 at -1 and 1",
    FN(at_most)(FN(at_least)(x, (real)-1), (real)1),
    FN(step)((real)1 - FN(magnitude)(y)),
    y - y)

#define SELU_SCALE (real)1.0507009873554805
#define SELU_LIMIT (real)1.7580993408473768 /* scale * alpha */
ROW(selu, OUTPUT, NO_ATTRS, 20, "scale * elu(x, alpha), self-normalising (Klambauer et al., 2017)",
    x > (real)0 ? SELU_SCALE * x : SELU_LIMIT * FN(expm1)(x),
    y > (real)0 ? SELU_SCALE : y + SELU_LIMIT,
    y > (real)0 ? (real)0 : y + SELU_LIMIT)
#undef SELU_SCALE
#undef SELU_LIMIT

/* clang-format on */

#endif
