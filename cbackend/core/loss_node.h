/* Losses as nodes: of raw outputs z (..., k) and a target, one value for each position. */
#ifndef FBP_CORE_LOSS_NODE_H
#define FBP_CORE_LOSS_NODE_H

#include "core/node.h"

fbp_status fbp_loss_infer(fbp_node *node);
extern const fbp_node_kernels fbp_loss_node;
extern const char *const fbp_loss_inputs[2];

/* The fields of such a row. */
#define FBP_LOSS_NODE(target)                                                                      \
    .op = {2,                                                                                      \
           2,                                                                                      \
           fbp_loss_inputs,                                                                        \
           FBP_AXIS_DATA,                                                                          \
           .data = 3u,                                                                             \
           .indices = (target) == FBP_TARGET_CLASS ? 2u : 0u},                                     \
    .infer = fbp_loss_infer, .node = {&fbp_loss_node, &fbp_loss_node}, .padded = 1u,               \
    .zero_padding = FBP_ZEROS_ALWAYS

#endif
