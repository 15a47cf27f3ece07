/* The functions of test_elementary.c as the C library computes them: what ours are measured
 * against. A template: `real` is the type, W(name) the name of its function. */

static real W(exp_of)(real x) { return exp(x); }
static real W(expm1_of)(real x) { return expm1(x); }
static real W(log_of)(real x) { return log(x); }
static real W(log1p_of)(real x) { return log1p(x); }
static real W(tanh_of)(real x) { return tanh(x); }
static real W(logistic)(real x) { return 1 / (1 + exp(-x)); }
static real W(softplus)(real x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static real W(erf_of)(real x) { return erf(x); }
static real W(erfc_of)(real x) { return erfc(x); }

/* cos(pi x): the remainder is exact, and the C library never sees an argument above pi / 4. */
static real W(cospi_of)(real x) {
    const real pi = (real)3.14159265358979323846264338327950288L;
    const real a = fabs(fmod(x, (real)2)), s = a > 1 ? 2 - a : a;
    if (s > (real)0.25 && s < (real)0.75) return sin(pi * ((real)0.5 - s));
    return s > (real)0.5 ? -cos(pi * (1 - s)) : cos(pi * s);
}

/* Beyond this the functions below have reached their limits, and inf * 0 would follow. */
#define FAR_OUT 20000

static real W(gated)(real x, real gate) { return x < -FAR_OUT ? (real)-0.0 : x * gate; }

static real W(logistic_slope)(real x) {
    const real e = exp(-fabs(x));
    return e / ((1 + e) * (1 + e));
}

static real W(logistic_curvature)(real x) {
    const real e = exp(-fabs(x));
    return copysign(e * (1 - e) / ((1 + e) * (1 + e) * (1 + e)), -x);
}

static real W(tanh_slope)(real x) { return 1 / (cosh(x) * cosh(x)); }
static real W(tanh_curvature)(real x) { return -2 * tanh(x) * W(tanh_slope)(x); }

static real W(elu)(real x) { return x > 0 ? x : expm1(x); }
static real W(elu_slope)(real x) { return x > 0 ? 1 : exp(x); }

static real W(selu)(real x) {
    return x > 0 ? (real)1.0507009873554804934L * x : (real)1.7580993408473768600L * expm1(x);
}

static real W(selu_slope)(real x) {
    return x > 0 ? (real)1.0507009873554804934L : (real)1.7580993408473768600L * exp(x);
}

static real W(softsign)(real x) { return isinf(x) ? copysign((real)1, x) : x / (1 + fabs(x)); }
static real W(softsign_slope)(real x) { return 1 / ((1 + fabs(x)) * (1 + fabs(x))); }

static real W(softsign_curvature)(real x) {
    return x == 0 ? x : copysign(2 / ((1 + fabs(x)) * (1 + fabs(x)) * (1 + fabs(x))), -x);
}

static real W(silu)(real x) { return W(gated)(x, W(logistic)(x)); }

/* Derivatives of x g(x): g + x g', 2 g' + x g''. */
static real W(product_slope)(real x, real g, real dg) {
    return fabs(x) > FAR_OUT ? (real)(x > 0) : g + x * dg;
}

static real W(product_curvature)(real x, real dg, real ddg) {
    return fabs(x) > FAR_OUT ? 0 : 2 * dg + x * ddg;
}

static real W(silu_slope)(real x) {
    return W(product_slope)(x, W(logistic)(x), W(logistic_slope)(x));
}

static real W(silu_curvature)(real x) {
    return W(product_curvature)(x, W(logistic_slope)(x), W(logistic_curvature)(x));
}

/* erfc multiplies the relative error of its argument by up to 1500 in the tail of double: what the
 * argument has lost there, to the rounding of sqrt(1/2) and of the product, is put in. */
static real W(normal_cdf)(real x) {
    const real c = (real)0.70710678118654752440L, c_low = c * fma(-c, c, (real)0.5);
    const real z = -x * c;
    if (!(z > 1)) return erfc(z) / 2;
    const real lost = fma(-x, c, -z) - x * c_low;
    return erfc(z) / 2 - (real)0.56418958354775628695L * exp(-z * z) * lost;
}

static real W(density)(real x) { return (real)0.39894228040143267794L * exp(-x * x / 2); }
static real W(gelu)(real x) { return W(gated)(x, W(normal_cdf)(x)); }
static real W(gelu_slope)(real x) { return W(product_slope)(x, W(normal_cdf)(x), W(density)(x)); }

static real W(gelu_curvature)(real x) {
    return W(product_curvature)(x, W(density)(x), -x * W(density)(x));
}

/* gelu_tanh is x logistic(u): u and its derivatives. The roundings of u cost up to 1.1 ulp in the
 * tail of double, for which the bound of 4 has room. */
static real W(u)(real x) {
    return (real)1.5957691216057307117L * x * (1 + (real)0.044715L * x * x);
}

static real W(du)(real x) { return (real)1.5957691216057307117L * (1 + (real)0.134145L * x * x); }
static real W(ddu)(real x) { return (real)1.5957691216057307117L * (real)0.26829L * x; }
static real W(gelu_tanh)(real x) { return W(gated)(x, W(logistic)(W(u)(x))); }

static real W(gelu_tanh_slope)(real x) {
    return W(product_slope)(x, W(logistic)(W(u)(x)), W(logistic_slope)(W(u)(x)) * W(du)(x));
}

static real W(gelu_tanh_curvature)(real x) {
    const real dg = W(logistic_slope)(W(u)(x)) * W(du)(x);
    const real ddg = W(logistic_curvature)(W(u)(x)) * W(du)(x) * W(du)(x) +
                     W(logistic_slope)(W(u)(x)) * W(ddu)(x);
    return W(product_curvature)(x, dg, ddg);
}

/* mish is x tanh(softplus(x)). */
static real W(mish_gate)(real x) { return tanh(W(softplus)(x)); }

static real W(mish_gate_slope)(real x) { return W(tanh_slope)(W(softplus)(x)) * W(logistic)(x); }

static real W(mish)(real x) { return W(gated)(x, W(mish_gate)(x)); }

static real W(mish_slope)(real x) {
    return W(product_slope)(x, W(mish_gate)(x), W(mish_gate_slope)(x));
}

static real W(mish_curvature)(real x) {
    const real p = W(softplus)(x), s = W(logistic)(x);
    const real ddg = W(tanh_curvature)(p) * s * s + W(tanh_slope)(p) * W(logistic_slope)(x);
    return W(product_curvature)(x, W(mish_gate_slope)(x), ddg);
}
