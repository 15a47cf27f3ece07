/* The momenta of NAdam (Dozat, 2016), which grow from about half of beta to beta as steps pass:
 *
 *     mu_t = beta * (1 - q**t / 2),    q = 0.96**decay
 *
 * and the product of those of all steps so far, from which its bias correction is made. Both are
 * functions of the step, so that nothing needs to be kept between steps. */
#ifndef FBP_MATH_MOMENTA_H
#define FBP_MATH_MOMENTA_H

#include <math.h>

#include "math/scalar.h"

FBP_INLINE double fbp_momentum(double beta, double decay, double step) {
    return beta * (1 - 0.5 * pow(0.96, step * decay));
}

/* mu_1 * .. * mu_step = beta**step * (1 - q/2) * .. * (1 - q**step / 2). Only its distance from 1
 * matters: at 2^-54 the double nearest to that is 1, and a factor with q**t = 2^-53 is 1 itself. So
 * the loop ends after 54 rounds where q is near 1, and after some 2400 for the worst of q. */
FBP_INLINE double fbp_momenta_product(double beta, double decay, double step) {
    const double q = pow(0.96, decay);
    double product = pow(beta, step), power = q;
    for (double t = 1; t <= step && product > 0x1p-54 && power > 0x1p-53; t++) {
        product *= 1 - 0.5 * power;
        power *= q;
    }
    return product;
}

#endif
