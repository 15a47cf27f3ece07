/* What random masks do to an element: it is kept, and then scaled and shifted, or a constant takes
 * its place. A template (expand.h) and functions of the probability; it holds no loop, and draws no
 * number: that is math/rng.h. */
#ifndef FBP_MATH_MASKS_H
#define FBP_MATH_MASKS_H

#include <math.h>

#include "math/scalar.h"

/* Draws below `threshold`, of 2^32, drop. */
typedef struct {
    uint32_t threshold;
    double scale, shift, dropped;
} fbp_masking;

/* Of what is linear in the element, such as its gradient: the same without constants. */
FBP_INLINE fbp_masking fbp_masking_slope(fbp_masking masking) {
    const fbp_masking slope = {masking.threshold, masking.scale, 0.0, 0.0};
    return slope;
}

FBP_INLINE uint32_t fbp_mask_threshold(double p) {
    const double threshold = floor(p * 0x1p32 + 0.5);
    return threshold < 0x1p32 ? (uint32_t)threshold : UINT32_MAX;
}

/* x / (1 - p) or 0: the mean stays (Srivastava et al., Dropout, 2014, with the scale in training
 * rather than after it). */
FBP_INLINE fbp_masking fbp_dropout_masking(double p) {
    const fbp_masking masking = {fbp_mask_threshold(p), 1.0 / (1.0 - p), 0.0, 0.0};
    return masking;
}

/* scale x + shift, with selu's limit for -infinity, s, in place of x where it is dropped: of x with
 * mean 0 and variance 1 both stay (Klambauer et al., Self-normalizing neural networks, 2017). Mean
 * and variance before scale and shift are p s and (1 - p) (1 + p s^2). */
FBP_INLINE fbp_masking fbp_alpha_dropout_masking(double p) {
    const double limit = -1.7580993408473768;
    const double scale = 1.0 / sqrt((1.0 - p) * (1.0 + p * limit * limit));
    const double shift = -scale * p * limit;
    const fbp_masking masking = {fbp_mask_threshold(p), scale, shift, scale * limit + shift};
    return masking;
}

#endif

#ifdef real

FBP_INLINE real FN(masked)(uint32_t draw, uint32_t threshold, real x, real scale, real shift,
                           real dropped) {
    return draw < threshold ? dropped : FBP_FMA(x, scale, shift);
}

#endif
