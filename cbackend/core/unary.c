/* Elementwise functions of one input as nodes. The padding of rows is computed with them: what lies
 * there costs less than to skip it. */
#include "core/unary.h"

const char *const fbp_unary_inputs[1] = {"x"};

fbp_status fbp_unary_infer(fbp_node *node) {
    const fbp_row *row = node->row;
    fbp_like_first(node);
    node->reads_in = row->reads == FBP_READS_INPUT;
    node->reads_out = row->reads == FBP_READS_OUTPUT;
    node->in_place = 1;
    node->flops[0] = row->flops * (double)fbp_elements(&node->in[0]);
    node->flops[1] = node->flops[0];
    return FBP_OK;
}

static const fbp_activation_kernels *kernels_of(const fbp_node *node) {
    return node->row->kernels[node->dtype];
}

static const void *saved(const fbp_node *node, const fbp_call *call) {
    return node->row->reads == FBP_READS_OUTPUT ? call->at.y[0] : call->at.x[0];
}

static int64_t elements(const fbp_node *node, const fbp_call *call) {
    return fbp_extent(&node->in[0], call->at.samples);
}

static void forward(const fbp_node *node, const fbp_call *call) {
    kernels_of(node)->value(elements(node, call), call->at.x[0], call->at.y[0], node->numbers);
}

static void backward(const fbp_node *node, const fbp_call *call) {
    kernels_of(node)->backward(elements(node, call), call->at.dy[0], saved(node, call),
                               call->at.dx[0], node->numbers);
}

/* The function of a tangent is that of a gradient: both times f'. */
static void tangent(const fbp_node *node, const fbp_call *call) {
    kernels_of(node)->backward(elements(node, call), call->at.tx[0], saved(node, call),
                               call->at.ty[0], node->numbers);
}

static void backward_tangent(const fbp_node *node, const fbp_call *call) {
    kernels_of(node)->backward_tangent(elements(node, call), call->at.dy[0], call->at.tdy[0],
                                       saved(node, call), call->at.tx[0], call->at.tdx[0],
                                       node->numbers);
}

void fbp_unary_piece(const fbp_node *node, const fbp_call *call, int back) {
    const fbp_operand *x = &node->in[0];
    int64_t ld = x->row_stride, n = call->end - call->begin;
    if (n == fbp_width(x)) {
        (back ? backward : forward)(node, call);
        return;
    }
    const fbp_arrays *at = &call->at;
    for (int64_t i = call->begin; i < fbp_extent(x, at->samples); i += ld) {
        if (back)
            kernels_of(node)->backward(n, fbp_element(node->dtype, at->dy[0], i),
                                       fbp_element(node->dtype, saved(node, call), i),
                                       fbp_element(node->dtype, at->dx[0], i), node->numbers);
        else
            kernels_of(node)->value(n, fbp_element(node->dtype, at->x[0], i),
                                    fbp_element(node->dtype, at->y[0], i), node->numbers);
    }
}

const fbp_node_kernels fbp_unary = {.forward = forward,
                                    .backward = backward,
                                    .tangent = tangent,
                                    .backward_tangent = backward_tangent};
