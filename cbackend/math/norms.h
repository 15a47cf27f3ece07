/* Normalisation of an element, given the statistics of what it is normalised with, and how the
 * statistics of blocks become those of their union. A template (expand.h) and two functions of
 * doubles; it holds no loop.
 *
 * hat = (x - mean) * scale, where scale = 1 / sqrt(variance + epsilon); then y = hat * gain + bias.
 * By the root of the mean square instead (Zhang and Sennrich, Root mean square layer normalization,
 * 2019) it is the same with mean 0. */
#ifndef FBP_MATH_NORMS_H
#define FBP_MATH_NORMS_H

#include <math.h>

#include "math/scalar.h"

FBP_INLINE double fbp_norm_scale(double variance, double epsilon) {
    return 1.0 / sqrt(variance + epsilon);
}

/* Mean, and sum of squares about it, of `count` numbers. */
typedef struct {
    double mean, squares;
} fbp_moments;

/* Those of two sets together (Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm
 * for computing sample variances, 1979). */
FBP_INLINE fbp_moments fbp_merge_moments(double n_a, fbp_moments a, double n_b, fbp_moments b) {
    const double apart = b.mean - a.mean, share = n_b / (n_a + n_b);
    const fbp_moments both = {a.mean + apart * share,
                              a.squares + b.squares + apart * apart * (n_a * share)};
    return both;
}

/* Of the biased variance of so many numbers, more than one. */
FBP_INLINE double fbp_unbiased(double variance, double count) {
    return variance * (count / (count - 1.0));
}

/* A running value after one more batch. */
FBP_INLINE double fbp_follow(double running, double found, double momentum) {
    return (1.0 - momentum) * running + momentum * found;
}

#endif

#ifdef real

FBP_INLINE real FN(norm_hat)(real x, real mean, real scale) { return (x - mean) * scale; }

/* Its tangent, where mean and scale move as well. */
FBP_INLINE real FN(norm_hat_tangent)(real x, real tx, real mean, real tmean, real scale,
                                     real tscale) {
    return FBP_FMA(tx - tmean, scale, (x - mean) * tscale);
}

FBP_INLINE real FN(norm_affine)(real hat, real gain, real bias) { return FBP_FMA(hat, gain, bias); }

FBP_INLINE real FN(norm_affine_tangent)(real hat, real that, real gain, real tgain, real tbias) {
    return FBP_FMA(that, gain, FBP_FMA(hat, tgain, tbias));
}

/* dx = scale (dhat - mean(dhat) - hat mean(dhat hat)), the means being over what shares the
 * statistics: mean and scale are functions of x too (Ba, Kiros and Hinton, Layer normalization,
 * 2016; Ioffe and Szegedy, Batch normalization, 2015, for the derivation). */
FBP_INLINE real FN(norm_slope)(real dhat, real hat, real along_one, real along_hat) {
    return FBP_FMA(-hat, along_hat, dhat - along_one);
}

/* Tangent of the slope. */
FBP_INLINE real FN(norm_slope_tangent)(real tdhat, real hat, real that, real along_hat,
                                       real talong_one, real talong_hat) {
    return FBP_FMA(-that, along_hat, FBP_FMA(-hat, talong_hat, tdhat - talong_one));
}

#endif
