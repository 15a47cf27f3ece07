/* What runs of single nodes and of plans have in common: the order of sums over samples, and the
 * tangents that follow from linearity. */
#ifndef FBP_CORE_NODE_RUN_H
#define FBP_CORE_NODE_RUN_H

#include "core/node.h"

/* Settles all of a node but where its arrays lie. */
fbp_status fbp_node_infer(fbp_node *node, const fbp_row *row, fbp_dtype dtype,
                          const double *numbers, const int *counts, int n_inputs,
                          const fbp_shape *inputs);
/* Strides of an operand whose rows are row_stride elements apart. */
void fbp_lay_out(fbp_operand *x, int64_t row_stride);

/* Blocks of samples for which the gradients of a node's shared inputs are formed separately, to be
 * added in their order: a function of the shapes alone. Block b of n is the samples from
 * b * samples / n on. */
int64_t fbp_shared_blocks(const fbp_node *node, int64_t samples);

/* Whether `tangent`, and `backward_tangent`, can be had. */
int fbp_has_tangent(const fbp_row *row);
int fbp_has_backward_tangent(const fbp_row *row);

/* The three tangents, whether a row has them itself or they follow from its linearity. No pointer
 * that is read is NULL. `again` takes what a bilinear row yields the second time: arrays of the
 * results' layout, or of the inputs'; (positions, width) dense for a shared one. */
void fbp_run_tangent(const fbp_node *node, const fbp_call *call, void *const *again);
void fbp_run_backward_tangent(const fbp_node *node, const fbp_call *call, void *const *again);
void fbp_run_shared_tangent(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                            int64_t end, int add, void *tg);

#endif
