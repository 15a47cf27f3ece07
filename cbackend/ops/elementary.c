/* Kernels over arrays for each function of math/elementary.h and math/trigonometry.h; see
 * elementary.h. */
#ifndef real

#include <math.h>

#include "math/scalar.h"
#include "ops/elementary.h"

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/trigonometry.h"
#include "math/expand.h"

#define FOR_EACH_FUNCTION(DO)                                                                      \
    DO(exp)                                                                                        \
    DO(expm1) DO(log) DO(log1p) DO(tanh) DO(logistic) DO(softplus) DO(erf) DO(erfc) DO(cospi)

#define FBP_TEMPLATE "ops/elementary.c"
#include "math/expand.h"

#define ENTRY(name) {#name, {name##_kernel_f32, name##_kernel_f64}},
extern const fbp_elementary FBP_FAMILY(elementary)[];
const fbp_elementary FBP_FAMILY(elementary)[] = {FOR_EACH_FUNCTION(ENTRY){NULL, {NULL, NULL}}};

#else

#define KERNEL(name)                                                                               \
    static void FN(name##_kernel)(int64_t n, const void *x_in, void *y_out) {                      \
        const real *const x = x_in;                                                                \
        real *const y = y_out;                                                                     \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) y[i] = FN(name)(x[i]);                                     \
    }
FOR_EACH_FUNCTION(KERNEL)
#undef KERNEL

#endif
