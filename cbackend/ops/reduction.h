/* The loops of reductions, around the formulas of math/reductions.h: how elements that meet are
 * added up, and the functions of elements before that. A template (expand.h).
 *
 * Sums are formed in double, in FBP_LANES chains, for either dtype: the error of a float sum does
 * not grow with its length. */
#ifndef FBP_OPS_REDUCTION_H
#define FBP_OPS_REDUCTION_H

#include "core/broadcast.h"
#include "math/scalar.h"

/* Functions of elements of x, with what else they read in this order: the result y, dy, tx, tdy,
 * ty, each as far as it is wanted. */
typedef struct {
    fbp_sink sum; /* to double */
    void (*quotient)(int64_t n, const double *over, const double *under, double factor, void *y);
    fbp_elements_fn *itself, *divided; /* divided: by numbers[0] */

    void (*fill)(int64_t n, double value, void *y);
    fbp_sink extreme[2]; /* the larger, the smaller */
    fbp_elements_fn *is_extreme, *extreme_part;
    void (*split)(int64_t n, const void *dy, const double *count, void *share);

    fbp_elements_fn *exp_below, *soft_part, *soft_part_tangent;
    void (*add_log)(int64_t n, const double *sums, void *y);
} kernels;

#endif

#ifdef real

/* ---- where elements meet ---- */

static void FN(add_each)(int64_t n, const void *results, void *to) {
    const real *const xs = results;
    double *const sums = to;
    FBP_INDEPENDENT
    for (int64_t i = 0; i < n; i++) sums[i] += (double)xs[i];
}

static void FN(add_all)(int64_t n, const void *results, void *to) {
    const real *const xs = results;
    double lanes[FBP_LANES] = {0};
    int64_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES) {
        FBP_LANEWISE
        for (int l = 0; l < FBP_LANES; l++) lanes[l] += (double)xs[i + l];
    }
    for (int l = 0; i + l < n; l++) lanes[l] += (double)xs[i + l];
    for (int width = FBP_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    *(double *)to += lanes[0];
}

#define EXTREME(name, chosen, none)                                                                \
    static void FN(name##_each)(int64_t n, const void *results, void *to) {                        \
        const real *const xs = results;                                                            \
        real *const ys = to;                                                                       \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) ys[i] = FN(chosen)(xs[i], ys[i]);                          \
    }                                                                                              \
    static void FN(name##_all)(int64_t n, const void *results, void *to) {                         \
        const real *const xs = results;                                                            \
        real lanes[FBP_LANES], y = *(real *)to;                                                    \
        int64_t i = 0;                                                                             \
        for (int l = 0; l < FBP_LANES; l++) lanes[l] = none;                                       \
        for (; i + FBP_LANES <= n; i += FBP_LANES) {                                               \
            FBP_LANEWISE                                                                           \
            for (int l = 0; l < FBP_LANES; l++) lanes[l] = FN(chosen)(xs[i + l], lanes[l]);        \
        }                                                                                          \
        for (int l = 0; i + l < n; l++) lanes[l] = FN(chosen)(xs[i + l], lanes[l]);                \
        for (int l = 0; l < FBP_LANES; l++) y = FN(chosen)(lanes[l], y);                           \
        *(real *)to = y;                                                                           \
    }
EXTREME(greatest, greatest, -(real)INFINITY)
EXTREME(least, least, (real)INFINITY)
#undef EXTREME

/* ---- functions of elements ---- */

#define OVER_ELEMENTS(function, declarations, result)                                              \
    static void FN(function)(int64_t n, const void *const *from, void *to,                         \
                             const double *numbers) {                                              \
        real *const out = to;                                                                      \
        (void)numbers;                                                                             \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            declarations;                                                                          \
            out[i] = result;                                                                       \
        }                                                                                          \
    }
#define READ(name, place) const real name = ((const real *)from[place])[i]

OVER_ELEMENTS(itself, READ(x, 0), x)
OVER_ELEMENTS(divided, READ(x, 0), x / (real)numbers[0])
OVER_ELEMENTS(is_extreme, READ(x, 0); READ(y, 1), FN(is_extreme_of)(x, y))
OVER_ELEMENTS(extreme_part, READ(x, 0); READ(y, 1); READ(part, 2), FN(is_extreme_of)(x, y) * part)
OVER_ELEMENTS(exp_below, READ(x, 0); READ(largest, 1), FN(exp)(x - FN(anchor)(largest)))
OVER_ELEMENTS(soft_part, READ(x, 0); READ(y, 1); READ(part, 2), FN(share)(x, y) * part)
OVER_ELEMENTS(soft_part_tangent, READ(x, 0); READ(y, 1); READ(dy, 2); READ(tx, 3); READ(tdy, 4);
              READ(ty, 5), FN(share)(x, y) * (tdy + dy * (tx - ty)))
#undef OVER_ELEMENTS
#undef READ

/* ---- of rows of the result ---- */

static void FN(quotient)(int64_t n, const double *over, const double *under, double factor,
                         void *y_out) {
    real *const y = y_out;
    for (int64_t i = 0; i < n; i++) y[i] = (real)(over[i] / (under ? under[i] : factor));
}

static void FN(fill)(int64_t n, double value, void *y_out) {
    real *const y = y_out;
    for (int64_t i = 0; i < n; i++) y[i] = (real)value;
}

static void FN(split)(int64_t n, const void *dy_in, const double *count, void *share_out) {
    const real *const dy = dy_in;
    real *const share = share_out;
    for (int64_t i = 0; i < n; i++) share[i] = dy[i] / (real)count[i];
}

/* The largest element's term is 1: a small sum of the others keeps its digits. */
static void FN(add_log)(int64_t n, const double *sums, void *y_out) {
    real *const y = y_out;
    FBP_INDEPENDENT
    for (int64_t i = 0; i < n; i++) y[i] = FN(anchor)(y[i]) + FN(log1p)((real)(sums[i] - 1.0));
}

static const kernels FN(kernels) = {.sum = {sizeof(double), FN(add_each), FN(add_all)},
                                    .quotient = FN(quotient),
                                    .itself = FN(itself),
                                    .divided = FN(divided),
                                    .fill = FN(fill),
                                    .extreme = {{sizeof(real), FN(greatest_each), FN(greatest_all)},
                                                {sizeof(real), FN(least_each), FN(least_all)}},
                                    .is_extreme = FN(is_extreme),
                                    .extreme_part = FN(extreme_part),
                                    .split = FN(split),
                                    .exp_below = FN(exp_below),
                                    .soft_part = FN(soft_part),
                                    .soft_part_tangent = FN(soft_part_tangent),
                                    .add_log = FN(add_log)};

#endif
