/* The table: every family's rows, for the instruction set in use. */
#ifndef FBP_CORE_REGISTRY_H
#define FBP_CORE_REGISTRY_H

#include "core/kernels.h"
#include "ops/elementary.h"

/* All that one instruction set's files export. */
typedef struct {
    const char *isa;
    const fbp_family *families[4]; /* by fbp_kind */
    const fbp_kernel_pair *gemm, *vector;
    const fbp_elementary *elementary; /* ends with a NULL name */
} fbp_variant;

const fbp_variant *fbp_variant_current(void);
const fbp_row *fbp_variant_find(const fbp_variant *variant, fbp_kind kind, const char *name);

#endif
