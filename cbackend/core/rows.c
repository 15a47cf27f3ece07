/* Rows run by themselves, outside any plan: for functions, for tests and for looking. */
#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/node_run.h"
#include "core/plan.h"
#include "core/registry.h"
#include "core/status.h"

fbp_row_info fbp_row_describe(const fbp_row *row) {
    int tangent = 0, backward_tangent = 0;
    if (row->kind == FBP_LOSS) {
        const fbp_loss_kernels *kernels = row->kernels[FBP_F64];
        tangent = backward_tangent = kernels->tangent != NULL;
    } else if (row->infer != NULL) {
        tangent = fbp_has_tangent(row);
        backward_tangent = fbp_has_backward_tangent(row);
    }
    fbp_row_info info = {.name = row->name,
                         .doc = row->doc,
                         .kind = row->kind,
                         .n_attrs = row->n_attrs,
                         .attrs = row->attrs,
                         .reads = row->reads,
                         .target = row->target,
                         .link = row->link,
                         .n_states = row->n_states,
                         .needs = row->needs,
                         .row_independent = !row->couples_samples,
                         .has_tangent = tangent,
                         .has_backward_tangent = backward_tangent,
                         .reads_sparse = row->reads_sparse};
    return info;
}

fbp_status fbp_row_check(const fbp_row *row, const double *attrs) {
    for (int i = 0; i < row->n_attrs; i++) {
        const fbp_attr *attr = &row->attrs[i];
        double value = attrs[i];
        int above = attr->low_open ? value > attr->low : value >= attr->low;
        int below = attr->high_open ? value < attr->high : value <= attr->high;
        if (!above || !below)
            return fbp_fail(FBP_INVALID, "%s of %s: found %g, wanted a number in %c%g, %g%c",
                            attr->name, row->name, value, attr->low_open ? '(' : '[', attr->low,
                            attr->high, attr->high_open ? ')' : ']');
    }
    return FBP_OK;
}

static void fill(fbp_dtype dtype, int64_t n, double value, void *out) {
    for (int64_t i = 0; i < n; i++) {
        if (dtype == FBP_F32)
            ((float *)out)[i] = (float)value;
        else
            ((double *)out)[i] = value;
    }
}

/* The derivatives are what backward gives for a unit gradient, and what its tangent adds to it. */
fbp_status fbp_activation_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, int order,
                              int64_t n, const void *x, void *out) {
    const fbp_activation_kernels *kernels = row->kernels[dtype];
    size_t bytes = (size_t)n * fbp_size(dtype);
    if (order == 0) {
        kernels->value(n, x, out, attrs);
        return FBP_OK;
    }
    char *block = fbp_alloc(3 * bytes);
    if (block == NULL) return FBP_NO_MEMORY;
    char *saved = block, *one = block + bytes, *zero = block + 2 * bytes;
    if (row->reads == FBP_READS_OUTPUT)
        kernels->value(n, x, saved, attrs);
    else
        memcpy(saved, x, bytes);
    fill(dtype, n, 1.0, one);
    fill(dtype, n, 0.0, zero);
    if (order == 1)
        kernels->backward(n, one, saved, out, attrs);
    else
        kernels->backward_tangent(n, one, zero, saved, one, out, attrs);
    fbp_free(block);
    return FBP_OK;
}

/* Rows of k elements spread out to the padded rows that loss kernels work on, and back. */
static void spread(fbp_dtype dtype, int64_t rows, int64_t k, int64_t ld, const void *from, void *to,
                   int back) {
    size_t size = fbp_size(dtype), width = (size_t)k * size;
    for (int64_t r = 0; r < rows; r++) {
        size_t dense = (size_t)r * width, padded = (size_t)(r * ld) * size;
        memcpy((char *)to + (back ? dense : padded), (const char *)from + (back ? padded : dense),
               width);
    }
}

fbp_status fbp_loss_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, int64_t rows,
                        int64_t k, const void *z, const void *target, void *value, void *dz) {
    const fbp_loss_kernels *kernels = row->kernels[dtype];
    int64_t ld = fbp_leading(dtype, k);
    void *padded = fbp_alloc((size_t)(rows * ld) * fbp_size(dtype));
    if (padded == NULL) return FBP_NO_MEMORY;
    spread(dtype, rows, k, ld, z, padded, 0);
    kernels->forward(rows, k, ld, padded, target, NULL, value, padded, attrs);
    spread(dtype, rows, k, ld, padded, dz, 1);
    fbp_free(padded);
    return FBP_OK;
}

fbp_status fbp_loss_tangent(const fbp_row *row, fbp_dtype dtype, const double *attrs, int64_t rows,
                            int64_t k, const void *z, const void *tz, const void *target,
                            void *tvalue, void *tdz) {
    const fbp_loss_kernels *kernels = row->kernels[dtype];
    if (kernels->tangent == NULL)
        return fbp_fail(FBP_ABSENT, "the loss '%s' has no tangent", row->name);
    int64_t ld = fbp_leading(dtype, k);
    size_t bytes = (size_t)(rows * ld) * fbp_size(dtype);
    char *block = fbp_alloc(3 * bytes);
    if (block == NULL) return FBP_NO_MEMORY;
    spread(dtype, rows, k, ld, z, block, 0);
    spread(dtype, rows, k, ld, tz, block + bytes, 0);
    kernels->tangent(rows, k, ld, block, block + bytes, target, NULL, tvalue, block + 2 * bytes,
                     attrs);
    spread(dtype, rows, k, ld, block + 2 * bytes, tdz, 1);
    fbp_free(block);
    return FBP_OK;
}

fbp_status fbp_loss_predict(const fbp_row *row, fbp_dtype dtype, int64_t rows, int64_t k,
                            const void *z, void *prediction) {
    const fbp_loss_kernels *kernels = row->kernels[dtype];
    int64_t ld = fbp_leading(dtype, k);
    void *padded = fbp_alloc((size_t)(rows * ld) * fbp_size(dtype));
    if (padded == NULL) return FBP_NO_MEMORY;
    spread(dtype, rows, k, ld, z, padded, 0);
    kernels->predict(rows, k, ld, padded, k, prediction);
    fbp_free(padded);
    return FBP_OK;
}

fbp_status fbp_rule_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, double rate,
                        int64_t step, int64_t n, const void *g, void *w, void *const *states) {
    const fbp_rule_kernels *kernels = row->kernels[dtype];
    double scalars[FBP_MAX_SCALARS];
    kernels->prepare(rate, 1.0, step, attrs, scalars);
    if (row->needs == FBP_NEEDS_NOTHING) {
        kernels->update(n, g, w, states, scalars);
        return FBP_OK;
    }
    const fbp_vector_kernels *vector = fbp_variant_current()->vector->kernels[dtype];
    void *d = fbp_alloc((size_t)n * fbp_size(dtype));
    if (d == NULL) return FBP_NO_MEMORY;
    memcpy(d, g, (size_t)n * fbp_size(dtype));
    kernels->direct(n, d, w, states, scalars);
    double ratio = kernels->ratio(sqrt(vector->sum_squares(n, w)), sqrt(vector->sum_squares(n, d)));
    kernels->advance(n, ratio, d, w, scalars);
    fbp_free(d);
    return FBP_OK;
}

const char *fbp_elementary_name(int index) {
    const fbp_elementary *list = fbp_variant_current()->elementary;
    for (int i = 0; list[i].name != NULL; i++)
        if (i == index) return list[i].name;
    return NULL;
}

fbp_status fbp_elementary_run(const char *name, fbp_dtype dtype, int64_t n, const void *x,
                              void *out) {
    for (const fbp_elementary *one = fbp_variant_current()->elementary; one->name != NULL; one++) {
        if (strcmp(one->name, name) != 0) continue;
        one->kernels[dtype](n, x, out);
        return FBP_OK;
    }
    return fbp_fail(FBP_INVALID, "found '%s', wanted the name of an elementary function", name);
}
