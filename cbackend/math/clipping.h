/* Clipping: what a gradient that is too large becomes. By norm the whole gradient keeps its
 * direction (Pascanu, Mikolov and Bengio, 2013); by value each element is held to a range. A NaN
 * is not hidden by either. */
#ifndef FBP_MATH_CLIPPING_H
#define FBP_MATH_CLIPPING_H

#include "math/scalar.h"

/* g *= min(1, most / (norm + 1e-6)), in the form of torch.nn.utils.clip_grad_norm_. */
FBP_INLINE double fbp_clip_factor(double norm, double most) {
    const double factor = most / (norm + 1e-6);
    return factor < 1 ? factor : 1;
}

/* g = min(max(g, -most), most); also for vectors of the type `real`. */
#define FBP_CLIP(g, most) ((g) > (most) ? (most) : (g) < -(most) ? -(most) : (g))

#endif
