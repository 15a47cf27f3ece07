/* Making nodes: attributes and operands checked, shapes settled, arrays laid out. */
#include "core/node.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/plan.h"
#include "core/registry.h"

/* ---- words ---- */

const char *fbp_shape_words(const fbp_shape *shape) {
    enum { at_a_time = 8, longest = 8 + 22 * FBP_MAX_DIMS }; /* 20 digits and ", " each */
#if defined(_MSC_VER) && !defined(__clang__)
    static __declspec(thread) char words[at_a_time][longest];
    static __declspec(thread) int turn;
#else
    static _Thread_local char words[at_a_time][longest];
    static _Thread_local int turn;
#endif
    char *out = words[turn++ % at_a_time];
    int used = snprintf(out, longest, "(%s", shape->batched ? "n" : "");
    for (int i = 0; i < shape->ndim; i++)
        used += snprintf(out + used, (size_t)(longest - used), "%s%lld",
                         i > 0 || shape->batched ? ", " : "", (long long)shape->shape[i]);
    snprintf(out + used, (size_t)(longest - used), "%s)",
             shape->ndim + shape->batched == 1 ? "," : "");
    return out;
}

/* ---- what families ask while they infer ---- */

int fbp_axis_of(const fbp_node *node, int attr, int i, const fbp_shape *shape) {
    int64_t axis = fbp_whole(node, attr, i);
    if (axis < -shape->ndim || axis >= shape->ndim) {
        fbp_fail(FBP_INVALID, "%s of %s: found %lld, wanted an axis of an array of shape %s",
                 node->row->attrs[attr].name, node->row->name, (long long)axis,
                 fbp_shape_words(shape));
        return -1;
    }
    return (int)(axis < 0 ? axis + shape->ndim : axis);
}

void fbp_like_first(fbp_node *node) { node->out[0].is = node->in[0].is; }

/* ---- attributes ---- */

static fbp_status check_number(const fbp_row *row, const fbp_attr *attr, double value) {
    int above = attr->low_open ? value > attr->low : value >= attr->low;
    int below = attr->high_open ? value < attr->high : value <= attr->high;
    if (above && below && !(attr->whole && value != floor(value))) return FBP_OK;
    return fbp_fail(FBP_INVALID, "%s of %s: found %g, wanted %s in %c%g, %g%c", attr->name,
                    row->name, value, attr->whole ? "an integer" : "a number",
                    attr->low_open ? '(' : '[', attr->low, attr->high, attr->high_open ? ')' : ']');
}

static fbp_status take_numbers(fbp_node *node, const double *numbers, const int *counts) {
    const fbp_row *row = node->row;
    int used = 0;
    for (int a = 0; a < row->n_attrs; a++) {
        const fbp_attr *attr = &row->attrs[a];
        int least = attr->most == 0 ? 1 : attr->least, most = attr->most == 0 ? 1 : attr->most;
        if (counts[a] < least || counts[a] > most || used + counts[a] > FBP_MAX_NUMBERS)
            return fbp_fail(FBP_INVALID, "%s of %s: found %d numbers, wanted %d to %d", attr->name,
                            row->name, counts[a], least, most);
        node->first[a] = used;
        for (int i = 0; i < counts[a]; i++) {
            fbp_status status = check_number(row, attr, numbers[used + i]);
            if (status != FBP_OK) return status;
            node->numbers[used + i] = numbers[used + i];
        }
        used += counts[a];
    }
    for (int a = row->n_attrs; a <= FBP_MAX_ATTRS; a++) node->first[a] = used;
    return FBP_OK;
}

/* ---- operands ---- */

/* More elements than these no memory holds, and counts of bytes would overflow. An axis of none
 * hides no others: strides pass over them. */
static const double most_elements = 0x1p48;

static fbp_status check_shape(const fbp_row *row, const char *name, const fbp_shape *shape) {
    if (shape->ndim < 0 || shape->ndim > FBP_MAX_DIMS)
        return fbp_fail(FBP_INVALID, "%s of %s: found %d dimensions, wanted at most %d", name,
                        row->name, shape->ndim, FBP_MAX_DIMS);
    double elements = 1.0;
    for (int i = 0; i < shape->ndim; i++) {
        elements *= shape->shape[i] == 0 ? 1.0 : (double)shape->shape[i];
        if (shape->shape[i] < 0 || elements > most_elements)
            return fbp_fail(FBP_INVALID, "%s of %s: found the shape %s, which no array has", name,
                            row->name, fbp_shape_words(shape));
    }
    return FBP_OK;
}

static fbp_status take_inputs(fbp_node *node, int n_inputs, const fbp_shape *inputs) {
    const fbp_op_info *op = &node->row->op;
    if (n_inputs < op->least_inputs || n_inputs > op->most_inputs || n_inputs > FBP_MAX_INPUTS)
        return fbp_fail(FBP_INVALID, "%s: found %d inputs, wanted %d to %d", node->row->name,
                        n_inputs, op->least_inputs, op->most_inputs);
    node->n_in = n_inputs;
    for (int i = 0; i < n_inputs; i++) {
        fbp_status status = check_shape(node->row, op->inputs[i], &inputs[i]);
        if (status != FBP_OK) return status;
        int integers = inputs[i].content == FBP_INDEX;
        if (integers != (int)(op->indices >> i & 1u))
            return fbp_fail(FBP_INVALID, "%s of %s: found %s, wanted %s", op->inputs[i],
                            node->row->name, integers ? "integers" : "reals",
                            integers ? "reals" : "integers (int32)");
        node->in[i].is = inputs[i];
        if (inputs[i].content == FBP_REAL) node->differentiable |= 1u << i;
    }
    return FBP_OK;
}

static fbp_status settle_outputs(fbp_node *node) {
    int batched = 0;
    for (int i = 0; i < node->n_in; i++) batched |= node->in[i].is.batched;
    if (node->row->couples_samples) batched = 0;
    for (int i = 0; i < node->n_out + node->n_kept; i++) {
        node->out[i].is.batched = batched;
        fbp_status status = check_shape(node->row, "the result", &node->out[i].is);
        if (status != FBP_OK) return status;
    }
    for (int i = 0; batched && i < node->n_in; i++)
        if (!node->in[i].is.batched) node->shared |= node->differentiable & 1u << i;
    if (node->shared != 0 && fbp_node_ops(node)->backward_shared == NULL)
        return fbp_fail(FBP_ABSENT, "%s: found operands with and without a sample axis, wanted %s",
                        node->row->name, "all with one");
    return FBP_OK;
}

/* ---- memory ---- */

void fbp_lay_out(fbp_operand *x, int64_t row_stride) {
    int64_t stride = x->row_stride = row_stride;
    if (x->is.ndim > 0) x->strides[x->is.ndim - 1] = 1;
    for (int i = x->is.ndim - 2; i >= 0; i--) {
        x->strides[i] = stride;
        stride *= x->is.shape[i];
    }
    x->sample_stride = x->is.batched ? stride : 0;
}

/* Dense, or padded where the row wants that. */
static void lay_out_alone(fbp_node *node) {
    for (int i = 0; i < node->n_in + node->n_out + node->n_kept; i++) {
        fbp_operand *x = i < node->n_in ? &node->in[i] : &node->out[i - node->n_in];
        int padded = i < node->n_in ? (int)(node->row->padded >> i & 1u)
                                    : i < node->n_in + node->n_out && node->row->padded_results;
        fbp_lay_out(x, padded ? fbp_leading(node->dtype, fbp_width(x)) : fbp_width(x));
    }
}

fbp_status fbp_node_infer(fbp_node *node, const fbp_row *row, fbp_dtype dtype,
                          const double *numbers, const int *counts, int n_inputs,
                          const fbp_shape *inputs) {
    const fbp_variant *variant = fbp_variant_current();
    node->row = row;
    node->dtype = dtype;
    node->gemm = variant->gemm->kernels[dtype];
    node->vector = variant->vector->kernels[dtype];
    node->n_out = 1;
    fbp_status status = take_numbers(node, numbers, counts);
    if (status == FBP_OK) status = take_inputs(node, n_inputs, inputs);
    if (status == FBP_OK) status = row->infer(node);
    if (status == FBP_OK) status = settle_outputs(node);
    return status;
}

/* ---- alone ---- */

/* "a of shape (2, 3) and b of shape (2,)". */
static fbp_status fail_to_broadcast(const fbp_row *row, int n_inputs, const fbp_lengths *shapes) {
    char words[FBP_MAX_INPUTS * 256] = "";
    size_t used = 0;
    for (int i = 0; i < n_inputs && used < sizeof words; i++) {
        int more = shapes[i].ndim > FBP_MAX_DIMS; /* its first axis is that of the samples */
        fbp_shape shape = {.batched = more, .ndim = shapes[i].ndim - more};
        for (int d = 0; d < shape.ndim; d++) shape.shape[d] = shapes[i].lengths[d + more];
        used += (size_t)snprintf(words + used, sizeof words - used, "%s%s of shape %s",
                                 i > 0 ? " and " : "", row->op.inputs[i], fbp_shape_words(&shape));
    }
    return fbp_fail(FBP_INVALID, "%s: found %s, wanted shapes that broadcast", row->name, words);
}

/* Those that span the first axis of the result have the samples there, or one element for all. */
static fbp_status spanned_samples(const fbp_row *row, int n_inputs, const fbp_lengths *shapes,
                                  fbp_sampled *found) {
    int most = 0;
    for (int i = 0; i < n_inputs; i++) most = shapes[i].ndim > most ? shapes[i].ndim : most;
    for (int i = 0; i < n_inputs && most > row->op.own_axes; i++) {
        found->leading[i] = shapes[i].ndim == most;
        if (!found->leading[i] || shapes[i].lengths[0] == 1) continue;
        if (found->samples != 1 && found->samples != shapes[i].lengths[0])
            return fail_to_broadcast(row, n_inputs, shapes);
        found->samples = shapes[i].lengths[0];
    }
    for (int i = 0; i < n_inputs; i++)
        found->batched[i] = found->leading[i] && shapes[i].lengths[0] == found->samples;
    return FBP_OK;
}

fbp_status fbp_op_samples(const fbp_row *row, int n_inputs, const fbp_lengths *shapes,
                          fbp_sampled *found) {
    fbp_sampled none = {.samples = 1};
    *found = none;
    if (row->op.axis == FBP_AXIS_SPANNED) return spanned_samples(row, n_inputs, shapes, found);
    int any = 0;
    for (int i = 0; i < n_inputs && row->op.axis == FBP_AXIS_DATA; i++) {
        if (!(row->op.data >> i & 1u)) continue;
        found->leading[i] = found->batched[i] = 1;
        if (shapes[i].ndim == 0)
            return fbp_fail(FBP_INVALID,
                            "%s: found a number as input %d, wanted an array with the samples "
                            "along its first axis",
                            row->name, i);
        int64_t n = shapes[i].lengths[0], before = found->samples;
        if (any && n != before)
            return fbp_fail(FBP_INVALID,
                            "%s: found [%lld, %lld] samples, wanted as many in each input",
                            row->name, (long long)(n < before ? n : before),
                            (long long)(n < before ? before : n));
        found->samples = n;
        any = 1;
    }
    return FBP_OK;
}

fbp_status fbp_node_infer_alone(fbp_node *node, const fbp_row *row, fbp_dtype dtype,
                                const double *numbers, const int *counts, int n_inputs,
                                const fbp_shape *inputs) {
    fbp_lengths whole[FBP_MAX_INPUTS] = {{0}};
    fbp_shape shapes[FBP_MAX_INPUTS];
    fbp_sampled found;
    for (int i = 0; i < n_inputs; i++) {
        whole[i].ndim = inputs[i].ndim;
        for (int d = 0; d < inputs[i].ndim; d++) whole[i].lengths[d] = inputs[i].shape[d];
    }
    fbp_status status = fbp_op_samples(row, n_inputs, whole, &found);
    if (status != FBP_OK) return status;
    for (int i = 0; i < n_inputs; i++) {
        shapes[i] = inputs[i];
        shapes[i].batched = found.batched[i];
        shapes[i].ndim -= found.leading[i];
        for (int d = 0; d < shapes[i].ndim; d++)
            shapes[i].shape[d] = inputs[i].shape[d + found.leading[i]];
    }
    status = fbp_node_infer(node, row, dtype, numbers, counts, n_inputs, shapes);
    node->alone = 1;
    node->samples = found.samples;
    if (status == FBP_OK) lay_out_alone(node);
    return status;
}

fbp_shape fbp_whole_shape(const fbp_node *node, const fbp_operand *x) {
    fbp_shape whole = x->is;
    if (!whole.batched) return whole;
    whole.batched = 0;
    whole.shape[0] = node->samples;
    for (int d = 0; d < x->is.ndim; d++) whole.shape[d + 1] = x->is.shape[d];
    whole.ndim++;
    return whole;
}

fbp_operand fbp_kept_operand(const fbp_node *node, int i) {
    fbp_operand whole = node->out[i];
    if (!node->alone) return whole;
    whole.is = fbp_whole_shape(node, &node->out[i]);
    fbp_lay_out(&whole, node->out[i].row_stride);
    return whole;
}

fbp_status fbp_node_create(const fbp_row *row, fbp_dtype dtype, const double *numbers,
                           const int *counts, int n_inputs, const fbp_shape *inputs,
                           fbp_node **out) {
    *out = NULL;
    if (row->infer == NULL || row->reads_sparse)
        return fbp_fail(FBP_ABSENT, "the row '%s' runs in plans only", row->name);
    fbp_node *node = fbp_alloc(sizeof *node);
    if (node == NULL) return FBP_NO_MEMORY;
    fbp_status status = fbp_node_infer(node, row, dtype, numbers, counts, n_inputs, inputs);
    if (status == FBP_OK && row->couples_samples && inputs[0].batched)
        status = fbp_fail(FBP_INVALID,
                          "%s: found %s of shape %s, wanted no sample axis: alone, it takes the "
                          "rows of all samples in one array",
                          row->name, row->op.inputs[0], fbp_shape_words(&inputs[0]));
    if (status != FBP_OK) {
        fbp_free(node);
        return status;
    }
    lay_out_alone(node);
    *out = node;
    return FBP_OK;
}

void fbp_node_destroy(fbp_node *node) { fbp_free(node); }

fbp_op_info fbp_op_describe(const fbp_row *row) { return row->op; }

fbp_node_info fbp_node_describe(const fbp_node *node) {
    fbp_node_info info = {.n_results = node->n_out,
                          .n_outputs = node->n_out + node->n_kept,
                          .differentiable = node->differentiable,
                          .reads_inputs = node->reads_in,
                          .reads_outputs = node->reads_out,
                          .flops_forward = node->flops[0],
                          .flops_backward = node->flops[1]};
    for (int i = 0; i < info.n_outputs; i++) info.outputs[i] = node->out[i].is;
    return info;
}
