/* The family of update rules: the formulas of math/optimizers.h as kernels for float and double,
 * and their rows of the table. It holds the loops and no formula. */
#ifndef real

#include <math.h>

#include "core/row.h"
#include "math/attributes.h"
#include "math/momenta.h"
#include "math/scalar.h"

/* What to do with a rule's states: their number; the arrays they lie in; one element of each, read
 * into a variable of the state's name, and written back. */
#define COUNT_NONE() 0
#define COUNT_ONE(a) 1
#define COUNT_TWO(a, b) 2
#define COUNT_THREE(a, b, c) 3
#define BIND_NONE() (void)states
#define BIND_ONE(a) real *const FBP_RESTRICT a##_array = states[0]
#define BIND_TWO(a, b)                                                                             \
    BIND_ONE(a);                                                                                   \
    real *const FBP_RESTRICT b##_array = states[1]
#define BIND_THREE(a, b, c)                                                                        \
    BIND_TWO(a, b);                                                                                \
    real *const FBP_RESTRICT c##_array = states[2]
#define LOAD_NONE()
#define LOAD_ONE(a) real a = a##_array[i]
#define LOAD_TWO(a, b)                                                                             \
    LOAD_ONE(a);                                                                                   \
    LOAD_ONE(b)
#define LOAD_THREE(a, b, c)                                                                        \
    LOAD_TWO(a, b);                                                                                \
    LOAD_ONE(c)
#define STORE_NONE()
#define STORE_ONE(a) a##_array[i] = a
#define STORE_TWO(a, b)                                                                            \
    STORE_ONE(a);                                                                                  \
    STORE_ONE(b)
#define STORE_THREE(a, b, c)                                                                       \
    STORE_TWO(a, b);                                                                               \
    STORE_ONE(c)

/* Preparation is double arithmetic for either type. */
#define real double
#define ATTR ATTR_CONSTANT
#define DECAY DECAY_CONSTANT
#define LET(name, formula) const double name = formula;
#define SCALAR(name, formula) *scalars++ = formula;
#define RULE(name_, states, attributes, doc, scalars_, update)                                     \
    static void name_##_prepare(double rate, double decay_factor, int64_t steps,                   \
                                const double *attrs, double *scalars) {                            \
        const double step = (double)steps;                                                         \
        (void)step;                                                                                \
        (void)decay_factor;                                                                        \
        attributes;                                                                                \
        (void)attrs;                                                                               \
        scalars_;                                                                                  \
    }
#define TENSOR_RULE(name_, states, attributes, doc, scalars_, direction, ratio_, update)           \
    RULE(name_, states, attributes, doc, scalars_, update)                                         \
    static double name_##_ratio(double norm_w, double norm_d) { return ratio_; }
#include "math/optimizers.h"
#undef TENSOR_RULE
#undef RULE
#undef SCALAR
#undef LET
#undef ATTR
#undef DECAY
#undef real

#define FBP_TEMPLATE "ops/optimizer.c"
#include "math/expand.h"

#define ATTR ATTR_ENTRY
#define DECAY ATTR_ENTRY
#define RULE(name_, states, attributes, doc_, scalars, update)                                     \
    {.name = #name_,                                                                               \
     .doc = doc_,                                                                                  \
     .kind = FBP_RULE,                                                                             \
     .n_attrs = ATTR_COUNT(attributes),                                                            \
     .attrs = {ENTRIES_##attributes},                                                              \
     .n_states = COUNT_##states,                                                                   \
     .kernels = {&name_##_kernels_f32, &name_##_kernels_f64}},
#define TENSOR_RULE(name_, states, attributes, doc_, scalars, direction, ratio_, update)           \
    {.name = #name_,                                                                               \
     .doc = doc_,                                                                                  \
     .kind = FBP_RULE,                                                                             \
     .n_attrs = ATTR_COUNT(attributes),                                                            \
     .attrs = {ENTRIES_##attributes},                                                              \
     .n_states = COUNT_##states,                                                                   \
     .needs = FBP_NEEDS_TENSOR_NORMS,                                                              \
     .kernels = {&name_##_kernels_f32, &name_##_kernels_f64}},

static const fbp_row rows[] = {
#include "math/optimizers.h"
};

const fbp_family FBP_FAMILY(rule) = {rows, sizeof rows / sizeof rows[0]};

#else

#define LET(name, formula)
#define SCALAR(name, formula)                                                                      \
    const real name = (real)(*scalars++);                                                          \
    (void)name;
#define RULE(name_, states_, attributes, doc, scalars_, update_)                                   \
    static void FN(name_##_update)(int64_t n, const void *g_in, void *w_inout,                     \
                                   void *const *states, const double *scalars) {                   \
        const real *const FBP_RESTRICT g_array = g_in;                                             \
        real *const FBP_RESTRICT w_array = w_inout;                                                \
        BIND_##states_;                                                                            \
        scalars_;                                                                                  \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real g = g_array[i];                                                             \
            real w = w_array[i];                                                                   \
            LOAD_##states_;                                                                        \
            update_;                                                                               \
            STORE_##states_;                                                                       \
            w_array[i] = w;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static const fbp_rule_kernels FN(name_##_kernels) = {.prepare = name_##_prepare,               \
                                                         .update = FN(name_##_update)};

#define TENSOR_RULE(name_, states_, attributes, doc, scalars_, direction, ratio_, update_)         \
    static void FN(name_##_direct)(int64_t n, void *g_inout, const void *w_in,                     \
                                   void *const *states, const double *scalars) {                   \
        real *const FBP_RESTRICT g_array = g_inout;                                                \
        const real *const FBP_RESTRICT w_array = w_in;                                             \
        BIND_##states_;                                                                            \
        scalars_;                                                                                  \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real g = g_array[i], w = w_array[i];                                             \
            LOAD_##states_;                                                                        \
            direction;                                                                             \
            STORE_##states_;                                                                       \
            g_array[i] = d;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static void FN(name_##_advance)(int64_t n, double ratio_in, const void *d_in, void *w_inout,   \
                                    const double *scalars) {                                       \
        const real ratio = (real)ratio_in, *const FBP_RESTRICT d_array = d_in;                     \
        real *const FBP_RESTRICT w_array = w_inout;                                                \
        scalars_;                                                                                  \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real d = d_array[i];                                                             \
            real w = w_array[i];                                                                   \
            update_;                                                                               \
            w_array[i] = w;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static const fbp_rule_kernels FN(name_##_kernels) = {.prepare = name_##_prepare,               \
                                                         .direct = FN(name_##_direct),             \
                                                         .ratio = name_##_ratio,                   \
                                                         .advance = FN(name_##_advance)};

#include "math/optimizers.h"
#undef TENSOR_RULE
#undef RULE
#undef SCALAR
#undef LET

#endif
