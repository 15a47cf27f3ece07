/* The end of a sum in FBP_LANES interleaved chains. It holds no loop over an array: each sum has
 * its own. */
#ifndef FBP_OPS_LANES_H
#define FBP_OPS_LANES_H

#include "math/scalar.h"

FBP_INLINE double fbp_fold(double lanes[FBP_LANES]) {
    for (int width = FBP_LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

#endif
