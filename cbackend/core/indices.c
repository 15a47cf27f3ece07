/* Whether the integers that an op is given are in range: the one mistake in the elements of an
 * array that kernels could not survive, since they follow them. */
#include "core/node_run.h"

static fbp_status wrong(const fbp_node *node, int input, int64_t found) {
    const fbp_row *row = node->row;
    const char *name = row->op.inputs[input];
    int64_t least = node->range[input].least, most = node->range[input].below - 1;
    if (least > most)
        return fbp_fail(FBP_INVALID, "%s of %s: found %lld, wanted none, as there is no element",
                        name, row->name, (long long)found);
    return fbp_fail(FBP_INVALID, "%s of %s: found %lld, wanted %lld to %lld", name, row->name,
                    (long long)found, (long long)least, (long long)most);
}

static fbp_status check_row(const fbp_node *node, int input, int64_t n, const int32_t *indices) {
    int64_t lowest = node->range[input].least, highest = node->range[input].below - 1;
    const int32_t least = lowest < INT32_MIN ? INT32_MIN : (int32_t)lowest;
    const int32_t most = highest > INT32_MAX ? INT32_MAX : (int32_t)highest;
    int outside = 0;
    for (int64_t i = 0; i < n; i++) outside |= indices[i] < least || indices[i] > most;
    if (!outside) return FBP_OK;
    int64_t first = 0;
    while (indices[first] >= least && indices[first] <= most) first++;
    return wrong(node, input, indices[first]);
}

fbp_status fbp_node_check_indices(const fbp_node *node, const fbp_arrays *arrays) {
    for (int i = 0; i < node->n_in; i++) {
        const fbp_operand *x = &node->in[i];
        int64_t rows = fbp_rows_of(x, arrays->samples), width = fbp_width(x);
        if (x->is.content != FBP_INDEX || rows * width == 0) continue;
        if (arrays->x[i] == NULL) { /* zeros */
            if (node->range[i].least > 0 || node->range[i].below <= 0) return wrong(node, i, 0);
            continue;
        }
        for (int64_t r = 0; r < rows; r++) {
            const int32_t *row = (const int32_t *)arrays->x[i] + r * x->row_stride;
            fbp_status status = check_row(node, i, width, row);
            if (status != FBP_OK) return status;
        }
    }
    return FBP_OK;
}
