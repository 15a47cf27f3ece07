/* Losses as nodes. A position's value and gradient depend on that position alone; who adds them up,
 * and with which weights, is another's concern. */
#include "core/loss_node.h"

#include <string.h>

const char *const fbp_loss_inputs[2] = {"z", "target"};

fbp_status fbp_loss_infer(fbp_node *node) {
    const fbp_shape *z = &node->in[0].is, *t = &node->in[1].is;
    int classes = node->row->target == FBP_TARGET_CLASS;
    int fits = z->ndim >= 1 && t->ndim == z->ndim - classes && t->batched == z->batched;
    for (int i = 0; fits && i < t->ndim; i++) fits = t->shape[i] == z->shape[i];
    if (!fits || z->shape[z->ndim - 1] < 1)
        return fbp_fail(FBP_INVALID,
                        "%s: found z of shape %s and a target of %s of shape %s, "
                        "wanted %s",
                        node->row->name, fbp_shape_words(z), classes ? "integers" : "reals",
                        fbp_shape_words(t),
                        classes ? "an integer for each row of z" : "reals of the shape of z");
    node->range[1].below = z->shape[z->ndim - 1];
    node->out[0].is = *z;
    node->out[0].is.ndim--;
    node->differentiable = 1u;
    node->reads_in = 3u;
    node->flops[0] = node->row->flops * (double)fbp_elements(&node->in[0]);
    node->flops[1] = node->flops[0];
    return FBP_OK;
}

static const fbp_loss_kernels *kernels_of(const fbp_node *node) {
    return node->row->kernels[node->dtype];
}

static int64_t rows(const fbp_node *node, const fbp_call *call) {
    return fbp_rows_of(&node->in[0], call->at.samples);
}

static void forward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *z = &node->in[0];
    kernels_of(node)->forward(rows(node, call), fbp_width(z), z->row_stride, call->at.x[0],
                              call->at.x[1], NULL, call->at.y[0], NULL, node->numbers);
}

/* The gradient that comes in scales each row. */
static void backward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *z = &node->in[0];
    kernels_of(node)->forward(rows(node, call), fbp_width(z), z->row_stride, call->at.x[0],
                              call->at.x[1], call->at.dy[0], call->scratch, call->at.dx[0],
                              node->numbers);
}

static void tangent(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *z = &node->in[0];
    kernels_of(node)->tangent(rows(node, call), fbp_width(z), z->row_stride, call->at.x[0],
                              call->at.tx[0], call->at.x[1], NULL, call->at.ty[0], NULL,
                              node->numbers);
}

/* d (dy l') = tdy l' + dy l'' tz. */
static void backward_tangent(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *z = &node->in[0];
    int64_t n = rows(node, call), ld = z->row_stride;
    void *value = call->scratch, *second = fbp_element(node->dtype, value, n);
    kernels_of(node)->forward(n, fbp_width(z), ld, call->at.x[0], call->at.x[1], call->at.tdy[0],
                              value, call->at.tdx[0], node->numbers);
    kernels_of(node)->tangent(n, fbp_width(z), ld, call->at.x[0], call->at.tx[0], call->at.x[1],
                              call->at.dy[0], value, second, node->numbers);
    node->vector->add_scaled(n * ld, 1.0, second, call->at.tdx[0]);
}

static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    int64_t n = fbp_rows_of(&node->in[0], samples);
    return (size_t)(n * (1 + node->in[0].row_stride)) * fbp_size(node->dtype);
}

const fbp_node_kernels fbp_loss_node = {.forward = forward,
                                        .backward = backward,
                                        .tangent = tangent,
                                        .backward_tangent = backward_tangent,
                                        .scratch_bytes = scratch_bytes};
