/* The family of activations: the formulas of math/activations.h as kernels for float and double,
 * and their rows of the table. It holds the loops and no formula. */
#ifndef real

#include <math.h>

#include "core/row.h"
#include "math/attributes.h"
#include "math/scalar.h"

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/activations.h"
#include "math/expand.h"

/* The name under which a row's derivatives see what it reads, and the array to read it from, which
 * is NULL for a row that reads nothing. */
#define NAME_NOTHING unused
#define NAME_INPUT x
#define NAME_OUTPUT y
#define SAVED_NOTHING dy
#define SAVED_INPUT saved
#define SAVED_OUTPUT saved

#define FBP_TEMPLATE "ops/activation.c"
#include "math/expand.h"

#define ATTR ATTR_ENTRY
#define ROW(name_, reads_, attributes, flops_, doc_, value, slope, curvature)                      \
    {.name = #name_,                                                                               \
     .doc = doc_,                                                                                  \
     .kind = FBP_ACTIVATION,                                                                       \
     .n_attrs = ATTR_COUNT(attributes),                                                            \
     .attrs = {ENTRIES_##attributes},                                                              \
     .reads = FBP_READS_##reads_,                                                                  \
     .flops = flops_,                                                                              \
     .kernels = {&name_##_kernels_f32, &name_##_kernels_f64}},

static const fbp_row rows[] = {
#include "math/activations.h"
};

const fbp_family FBP_FAMILY(activation) = {rows, sizeof rows / sizeof rows[0]};

#else

#define ATTR ATTR_CONSTANT
#define ROW(name, reads, attributes, flops, doc, value, slope, curvature)                          \
    static void FN(name##_value)(int64_t n, const void *x_in, void *y_out, const double *attrs) {  \
        const real *const xs = x_in;                                                               \
        real *const ys = y_out;                                                                    \
        attributes;                                                                                \
        (void)attrs;                                                                               \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real x = xs[i];                                                                  \
            ys[i] = value;                                                                         \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_backward)(int64_t n, const void *dy, const void *saved, void *dx,        \
                                    const double *attrs) {                                         \
        const real *const dys = dy, *const saveds = SAVED_##reads;                                 \
        real *const dxs = dx;                                                                      \
        attributes;                                                                                \
        (void)attrs, (void)saved;                                                                  \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real NAME_##reads = saveds[i];                                                   \
            (void)NAME_##reads;                                                                    \
            dxs[i] = dys[i] * (slope);                                                             \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_backward_tangent)(int64_t n, const void *dy, const void *ddy,            \
                                            const void *saved, const void *tx, void *ddx,          \
                                            const double *attrs) {                                 \
        const real *const dys = dy, *const ddys = ddy, *const saveds = SAVED_##reads;              \
        const real *const txs = tx;                                                                \
        real *const ddxs = ddx;                                                                    \
        attributes;                                                                                \
        (void)attrs, (void)saved;                                                                  \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real NAME_##reads = saveds[i];                                                   \
            (void)NAME_##reads;                                                                    \
            ddxs[i] = ddys[i] * (slope) + dys[i] * (curvature) * txs[i];                           \
        }                                                                                          \
    }                                                                                              \
    static const fbp_activation_kernels FN(name##_kernels) = {                                     \
        FN(name##_value), FN(name##_backward), FN(name##_backward_tangent)};

#include "math/activations.h"
#undef ROW
#undef ATTR

#endif
