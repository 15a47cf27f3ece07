/* The table: every family's rows, for the instruction set in use. */
#ifndef FBP_CORE_REGISTRY_H
#define FBP_CORE_REGISTRY_H

#include "core/kernels.h"
#include "ops/elementary.h"

/* The families under ops/ that have rows. A file that makes a family adds its name here: in the
 * order op, function, activation, loss, rule of their kinds. */
/* clang-format off */
#define FBP_FAMILIES(X, isa)                                                                       \
    X(op, isa) X(matmul, isa) X(convolution, isa) X(pooling, isa) X(attention, isa)                \
    X(recurrence, isa) X(norm, isa) X(group_norm, isa) X(batch_norm, isa) X(moments, isa)          \
    X(dropout, isa) X(binary, isa) X(reduction, isa) X(softmax, isa) X(shape, isa)                 \
    X(slice, isa) X(take, isa)                                                                     \
    X(function, isa) X(activation, isa) X(loss, isa) X(rule, isa)
/* clang-format on */

#define FBP_COUNT_FAMILY(name, isa) +1
enum { fbp_n_families = 0 FBP_FAMILIES(FBP_COUNT_FAMILY, ) };

/* All that one instruction set's files export. */
typedef struct {
    const char *isa;
    const fbp_family *families[fbp_n_families];
    const fbp_kernel_pair *gemm, *vector;
    const fbp_elementary *elementary; /* ends with a NULL name */
    const fbp_half_kernels *halves;   /* of the formats of 16 bits, in their order */
} fbp_variant;

const fbp_variant *fbp_variant_current(void);
/* NULL for full precision. */
static inline const fbp_half_kernels *fbp_halves(const fbp_variant *variant,
                                                 fbp_precision precision) {
    return precision == FBP_FULL ? NULL : &variant->halves[precision - 1];
}
/* NULL if absent; `find` leaves a message then. */
const fbp_row *fbp_variant_look(const fbp_variant *variant, fbp_kind kind, const char *name);
const fbp_row *fbp_variant_find(const fbp_variant *variant, fbp_kind kind, const char *name);

#endif
