/* Elementwise functions of one input as nodes: every row of the activations' kind. */
#ifndef FBP_CORE_UNARY_H
#define FBP_CORE_UNARY_H

#include "core/node.h"

fbp_status fbp_unary_infer(fbp_node *node);
/* Forward, or backward, on columns [call->begin, call->end) of each row alone. */
void fbp_unary_piece(const fbp_node *node, const fbp_call *call, int back);
extern const fbp_node_kernels fbp_unary;
extern const char *const fbp_unary_inputs[1];

/* The fields of such a row. Slopes of activations are finite everywhere, so that zeros in the
 * padding of a gradient stay zeros; those of functions may not be. */
#define FBP_UNARY_NODE(zeros)                                                                      \
    .op = {.least_inputs = 1, .most_inputs = 1, .inputs = fbp_unary_inputs},                       \
    .infer = fbp_unary_infer, .node = {&fbp_unary, &fbp_unary}, .zero_padding = (zeros)

#endif
