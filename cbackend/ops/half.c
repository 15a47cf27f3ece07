/* Loops over numbers of 16 bits: rounding, storing and taking up again what mixed plans keep of a
 * batch, and rounding their compute copies of weights. The formulas are math/half.h's; compilers
 * make vectors of them. Arithmetic on such numbers is nowhere: it is float32's. */
#include "core/kernels.h"
#include "math/half.h"

#define KERNELS(format)                                                                            \
    static void store_##format(int64_t n, float *x, uint16_t *to) {                                \
        FBP_INDEPENDENT for (int64_t i = 0; i < n; i++) {                                          \
            const uint16_t half = fbp_narrow_##format(x[i]);                                       \
            to[i] = half;                                                                          \
            x[i] = fbp_widen_##format(half);                                                       \
        }                                                                                          \
    }                                                                                              \
    static void load_##format(int64_t n, const uint16_t *from, float *x) {                         \
        FBP_INDEPENDENT for (int64_t i = 0; i < n; i++) x[i] = fbp_widen_##format(from[i]);        \
    }                                                                                              \
    static void round_##format(int64_t n, const float *from, float *to) {                          \
        FBP_INDEPENDENT for (int64_t i = 0; i < n; i++) to[i] =                                    \
            fbp_widen_##format(fbp_narrow_##format(from[i]));                                      \
    }

KERNELS(bf16)
KERNELS(fp16)

extern const fbp_half_kernels FBP_FAMILY(half)[];
const fbp_half_kernels FBP_FAMILY(half)[] = {{store_bf16, load_bf16, round_bf16},
                                             {store_fp16, load_fp16, round_fp16}};
