/* The loops around elementwise formulas: kernels for every ROW of the list FBP_ROWS, which is
 * math/activations.h or one of its form. A template (expand.h), for the files that make families of
 * such lists; it holds no formula.
 *
 * NAME_ is the name under which a row's derivatives see what it reads, SAVED_ the array to read it
 * from, which is of no interest for a row that reads nothing. */
#ifndef FBP_OPS_UNARY_H
#define FBP_OPS_UNARY_H

#include "core/unary.h"
#include "math/attributes.h"
#include "math/scalar.h"

#define NAME_NOTHING unused
#define NAME_INPUT x
#define NAME_OUTPUT y
#define SAVED_NOTHING dy
#define SAVED_INPUT saved
#define SAVED_OUTPUT saved

/* What ROW is where the list becomes rows of the table, of the kind FBP_ROWS_KIND. */
#define UNARY_ROW(name_, reads_, attributes, flops_, doc_, value, slope, curvature)                \
    {.name = #name_,                                                                               \
     .doc = doc_,                                                                                  \
     .kind = FBP_ROWS_KIND,                                                                        \
     .n_attrs = ATTR_COUNT(attributes),                                                            \
     .attrs = {ENTRIES_##attributes},                                                              \
     .reads = FBP_READS_##reads_,                                                                  \
     .flops = flops_,                                                                              \
     .kernels = {&name_##_kernels_f32, &name_##_kernels_f64},                                      \
     FBP_UNARY_NODE(FBP_ROWS_ZEROS)},

#endif

#ifdef real

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

#include FBP_ROWS
#undef ROW
#undef ATTR

#endif
