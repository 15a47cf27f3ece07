/* The table of rows, once for each instruction set that was built, and the choice between them.
 * Names, order and attributes are the same in each; only the kernels differ. */
#include "core/registry.h"

#include <string.h>

#include "core/status.h"

/* The symbols that one variant's files export, and the row of the list of variants made of them. */
#define FAMILY_OF(name, isa) fbp_family_##name##_##isa
#define DECLARE_FAMILY(name, isa) extern const fbp_family FAMILY_OF(name, isa);
#define DECLARE(isa)                                                                               \
    FBP_FAMILIES(DECLARE_FAMILY, isa)                                                              \
    extern const fbp_kernel_pair FAMILY_OF(gemm, isa), FAMILY_OF(vector, isa);                     \
    extern const fbp_elementary FAMILY_OF(elementary, isa)[];                                      \
    extern const fbp_half_kernels FAMILY_OF(half, isa)[];

#define ADDRESS(name, isa) &FAMILY_OF(name, isa),
#define VARIANT(isa)                                                                               \
    {#isa,                                                                                         \
     {FBP_FAMILIES(ADDRESS, isa)},                                                                 \
     &FAMILY_OF(gemm, isa),                                                                        \
     &FAMILY_OF(vector, isa),                                                                      \
     FAMILY_OF(elementary, isa),                                                                   \
     FAMILY_OF(half, isa)}

#if defined(FBP_HAVE_BASE)
DECLARE(base)
#endif
#if defined(FBP_HAVE_V2)
DECLARE(v2)
#endif
#if defined(FBP_HAVE_V3)
DECLARE(v3)
#endif
#if defined(FBP_HAVE_V4)
DECLARE(v4)
#endif

/* From the plainest to the widest. */
static const fbp_variant variants[] = {
#if defined(FBP_HAVE_BASE)
    VARIANT(base),
#endif
#if defined(FBP_HAVE_V2)
    VARIANT(v2),
#endif
#if defined(FBP_HAVE_V3)
    VARIANT(v3),
#endif
#if defined(FBP_HAVE_V4)
    VARIANT(v4),
#endif
};

enum { n_variants = sizeof variants / sizeof variants[0] };

/* Whether this processor, and the system's saving of its registers, can run a variant. */
static int runs_here(const char *isa) {
#if defined(FBP_HAVE_V2)
    if (strcmp(isa, "v2") == 0)
        return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
#endif
#if defined(FBP_HAVE_V3)
    if (strcmp(isa, "v3") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi2");
#endif
#if defined(FBP_HAVE_V4)
    if (strcmp(isa, "v4") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
    (void)isa;
    return 1;
}

int fbp_isa_count(void) {
    int count = 0;
    while (count < n_variants && runs_here(variants[count].isa)) count++;
    return count;
}

const char *fbp_isa_name(int index) {
    return index >= 0 && index < fbp_isa_count() ? variants[index].isa : NULL;
}

static const fbp_variant *forced; /* NULL: the widest */

const fbp_variant *fbp_variant_current(void) {
    return forced != NULL ? forced : &variants[fbp_isa_count() - 1];
}

const char *fbp_isa_current(void) { return fbp_variant_current()->isa; }

fbp_status fbp_isa_force(const char *name) {
    if (name == NULL) {
        forced = NULL;
        return FBP_OK;
    }
    for (int i = 0; i < fbp_isa_count(); i++) {
        if (strcmp(variants[i].isa, name) == 0) {
            forced = &variants[i];
            return FBP_OK;
        }
    }
    return fbp_fail(FBP_INVALID,
                    "isa: found '%s', wanted an instruction set of this build that this "
                    "processor has; the widest is '%s'",
                    name, variants[fbp_isa_count() - 1].isa);
}

int fbp_row_count(void) {
    int count = 0;
    for (int f = 0; f < fbp_n_families; f++) count += fbp_variant_current()->families[f]->n_rows;
    return count;
}

const fbp_row *fbp_row_at(int index) {
    for (int f = 0; f < fbp_n_families && index >= 0; f++) {
        const fbp_family *family = fbp_variant_current()->families[f];
        if (index < family->n_rows) return &family->rows[index];
        index -= family->n_rows;
    }
    return NULL;
}

const fbp_row *fbp_variant_look(const fbp_variant *variant, fbp_kind kind, const char *name) {
    for (int f = 0; f < fbp_n_families; f++) {
        const fbp_family *family = variant->families[f];
        for (int i = 0; i < family->n_rows; i++)
            if (family->rows[i].kind == kind && strcmp(family->rows[i].name, name) == 0)
                return &family->rows[i];
    }
    return NULL;
}

const fbp_row *fbp_variant_find(const fbp_variant *variant, fbp_kind kind, const char *name) {
    static const char *const kinds[] = {"op", "activation", "loss", "update rule", "function"};
    const fbp_row *row = fbp_variant_look(variant, kind, name);
    if (row == NULL)
        fbp_fail(FBP_INVALID, "found '%s', wanted the name of a row of the table: there is no %s",
                 name, kinds[kind]);
    return row;
}

void fbp_narrow(fbp_precision precision, int64_t n, float *x, uint16_t *out) {
    fbp_halves(fbp_variant_current(), precision)->store(n, x, out);
}

void fbp_widen(fbp_precision precision, int64_t n, const uint16_t *bits, float *out) {
    fbp_halves(fbp_variant_current(), precision)->load(n, bits, out);
}

const fbp_row *fbp_row_find(fbp_kind kind, const char *name) {
    return fbp_variant_find(fbp_variant_current(), kind, name);
}
