/* The losses: value and its two derivatives by the raw output z, and nothing else. No loop, no
 * array.
 *
 * Included in two ways. Without LOSS it is a template (expand.h) of the few functions whose formula
 * does not fit a line. With LOSS and SOFTMAX_LOSS it is the list itself:
 *
 *     LOSS(name, target, link, attributes, FLOPs, "doc", value, slope, curvature)
 *
 * for a loss that is a sum over outputs, with expressions in z, the target t and the attributes by
 * name, and
 *
 *     SOFTMAX_LOSS(name, attributes, FLOPs, "doc", value, slope, even, curvature)
 *
 * for a function of the probability p that softmax gives the target's class: the value in terms of
 * q = 1 - p and c = -log(p), both free of cancellation, the slope by c, and the second derivative
 * by c times q, which stays finite where q goes to 0. `even` is the slope by u, the mean of -log(p)
 * over all classes, of the attributes alone; u = c + lead, the target's raw output less the mean of
 * all, which the loops leave at 0 where `even` is 0.
 *
 * No logarithm is ever taken of a probability, so raw outputs of any finite size give finite losses
 * (poisson excepted, whose loss is exp(z)). At a kink the slope is 0. Every loss is within a few
 * eps of the larger of its value and its largest term. */
#ifndef LOSS

/* sign(x), 0 at 0, NaN for NaN. */
FBP_INLINE real FN(sign)(real x) { return x > (real)0 ? (real)1 : (x < (real)0 ? (real)-1 : x); }

FBP_INLINE real FN(huber)(real d, real delta) {
    const real a = FN(magnitude)(d);
    return a <= delta ? (real)0.5 * a * a : delta * (a - (real)0.5 * delta);
}

FBP_INLINE real FN(quantile_slope)(real d, real quantile) {
    return d > (real)0 ? (real)1 - quantile : (d < (real)0 ? -quantile : d);
}

/* t, of which a share is 1/2 in its place: t itself, to the bit, where that is 0. */
FBP_INLINE real FN(smoothed)(real t, real share) { return t + share * ((real)0.5 - t); }

/* t log(t) - t z - t + exp(z), with the nearly equal terms taken from each other first. */
FBP_INLINE real FN(poisson)(real z, real t) {
    return (FN(exp)(z) - t) - t * (z - FN(log)(t > (real)0 ? t : (real)1));
}

/* The focal loss is t down a + (1 - t) up b, in p = logistic(z), q = 1 - p, a = -log(p),
 * b = -log(q), down = q^gamma = exp(-gamma b) and up = p^gamma. The derivatives by z are -q of a,
 * p of b, -gamma p down of down and gamma q up of up. */
typedef struct {
    real p, q, a, b, up, down;
} FN(focal_terms);

FBP_INLINE FN(focal_terms) FN(terms_of_focal)(real z, real gamma) {
    const FN(shares) s = FN(logistic_shares)(z);
    const real tail = FN(log1p_unit)(FN(exp)(-FN(magnitude)(z)));
    FN(focal_terms) f;
    f.p = s.above;
    f.q = s.below;
    f.a = FN(positive_part)(-z) + tail;
    f.b = FN(positive_part)(z) + tail;
    f.up = FN(exp)(-gamma * f.a);
    f.down = FN(exp)(-gamma * f.b);
    return f;
}

FBP_INLINE real FN(focal)(real z, real t, real gamma) {
    const FN(focal_terms) f = FN(terms_of_focal)(z, gamma);
    return t * f.down * f.a + ((real)1 - t) * f.up * f.b;
}

FBP_INLINE real FN(focal_slope)(real z, real t, real gamma) {
    const FN(focal_terms) f = FN(terms_of_focal)(z, gamma);
    return ((real)1 - t) * f.up * (gamma * f.q * f.b + f.p) -
           t * f.down * (gamma * f.p * f.a + f.q);
}

FBP_INLINE real FN(focal_curvature)(real z, real t, real gamma) {
    const FN(focal_terms) f = FN(terms_of_focal)(z, gamma);
    const real ones = gamma * (gamma * f.p * f.a + f.q) + f.q * ((real)1 + gamma - gamma * f.a);
    const real zeros = gamma * (gamma * f.q * f.b + f.p) + f.p * ((real)1 + gamma - gamma * f.b);
    return t * f.down * f.p * ones + ((real)1 - t) * f.up * f.q * zeros;
}

/* q^gamma, and c / q with its limit 1 where q is 0. */
FBP_INLINE real FN(focal_weight)(real q, real gamma) {
    const real power = FN(exp)(gamma * FN(log)(q > (real)0 ? q : (real)1));
    return q == (real)0 && gamma > (real)0 ? (real)0 : power;
}

FBP_INLINE real FN(focal_ratio)(real c, real q) { return q == (real)0 ? (real)1 : c / q; }

#else

/* clang-format off */

LOSS(squared_error, REAL, identity, NO_ATTRS, 3, "(z - t)**2 / 2",
    (real)0.5 * (z - t) * (z - t),
    z - t,
    (real)1)

LOSS(absolute_error, REAL, identity, NO_ATTRS, 2, "|z - t|; slope 0 at 0",
    FN(magnitude)(z - t),
    FN(sign)(z - t),
    (real)0)

LOSS(huber, REAL, identity,
    ATTR(delta, 1, ABOVE(0), BELOW(INFINITY), "residual from which the loss grows linearly"), 5,
    "(z - t)**2 / 2 where |z - t| <= delta, else delta * (|z - t| - delta / 2)",
    FN(huber)(z - t, delta),
    FN(at_most)(FN(at_least)(z - t, -delta), delta),
    FN(magnitude)(z - t) < delta ? (real)1 : (real)0)

LOSS(quantile, REAL, identity,
    ATTR(quantile, 0.5, ABOVE(0), BELOW(1), "the quantile to predict"), 3,
    "quantile * (t - z) where t > z, else (1 - quantile) * (z - t); slope 0 at 0",
    FN(quantile_slope)(z - t, quantile) * (z - t),
    FN(quantile_slope)(z - t, quantile),
    (real)0)

LOSS(poisson, NONNEGATIVE, exp, NO_ATTRS, 45,
    "half the Poisson deviance, t * log(t) - t * z - t + exp(z)",
    FN(poisson)(z, t),
    FN(exp)(z) - t,
    FN(exp)(z))

/* Label smoothing: Szegedy et al. 2016, "Rethinking the Inception architecture for computer
 * vision", arXiv:1512.00567, section 7. */
LOSS(sigmoid_cross_entropy, BINARY, logistic,
    ATTR(smoothing, 0, FROM(0), BELOW(1), "share of each target that is 1 / 2 in its place"), 45,
    "-t * log(p) - (1 - t) * log(1 - p), p = logistic(z)",
    (FN(positive_part)(z) - z * FN(smoothed)(t, smoothing)) +
        FN(log1p_unit)(FN(exp)(-FN(magnitude)(z))),
    FN(logistic)(z) - FN(smoothed)(t, smoothing),
    FN(logistic_shares)(z).above * FN(logistic_shares)(z).below)

LOSS(focal, BINARY, logistic,
    ATTR(gamma, 2, FROM(0), BELOW(INFINITY), "how fast confident outputs lose their weight"), 90,
    "-t * (1 - p)**gamma * log(p) - (1 - t) * p**gamma * log(1 - p), p = logistic(z)",
    FN(focal)(z, t, gamma),
    FN(focal_slope)(z, t, gamma),
    FN(focal_curvature)(z, t, gamma))

LOSS(hinge, BINARY, identity, NO_ATTRS, 5, "max(0, 1 - (2 * t - 1) * z); slope 0 at the kink",
    FN(positive_part)((real)1 - ((real)2 * t - (real)1) * z),
    FN(step)((real)1 - ((real)2 * t - (real)1) * z) * ((real)1 - (real)2 * t),
    (real)0)

SOFTMAX_LOSS(softmax_cross_entropy,
    ATTR(smoothing, 0, FROM(0), BELOW(1), "share of the target that all classes have alike"), 24,
    "-log(p), p = softmax(z)[t]; of the smoothed share, the mean over all t",
    c + smoothing * lead,
    (real)1 - smoothing,
    smoothing,
    (real)0)

SOFTMAX_LOSS(softmax_focal,
    ATTR(gamma, 2, FROM(0), BELOW(INFINITY), "how fast confident outputs lose their weight"), 28,
    "-(1 - p)**gamma * log(p), p = softmax(z)[t]",
    FN(focal_weight)(q, gamma) * c,
    FN(focal_weight)(q, gamma) * ((real)1 + gamma * ((real)1 - q) * FN(focal_ratio)(c, q)),
    (real)0,
    FN(focal_weight)(q, gamma) * gamma * ((real)1 - q) *
        ((real)2 - c + (gamma - (real)1) * ((real)1 - q) * FN(focal_ratio)(c, q)))

/* clang-format on */

#endif
