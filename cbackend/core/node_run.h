/* What runs of single nodes and of plans have in common: the order of sums over samples, and the
 * tangents that follow from linearity. */
#ifndef FBP_CORE_NODE_RUN_H
#define FBP_CORE_NODE_RUN_H

#include "core/node.h"

/* Settles all of a node, of samples, but where its arrays lie. */
fbp_status fbp_node_infer(fbp_node *node, const fbp_row *row, fbp_dtype dtype,
                          const double *numbers, const int *counts, int n_inputs,
                          const fbp_shape *inputs);
/* The same of a node of a plan that runs by itself, on arrays of these whole shapes. */
fbp_status fbp_node_infer_alone(fbp_node *node, const fbp_row *row, fbp_dtype dtype,
                                const double *numbers, const int *counts, int n_inputs,
                                const fbp_shape *inputs);
/* The shape of a whole array of its results; and what any node keeps, as plans have it. */
fbp_shape fbp_whole_shape(const fbp_node *node, const fbp_operand *x);
fbp_operand fbp_kept_operand(const fbp_node *node, int i);
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

/* Runs by itself, on dense arrays, in room that the caller has and that holds anything. Backward
 * reads what forward wrote to y. */
typedef enum {
    FBP_RUN_FORWARD,
    FBP_RUN_BACKWARD,
    FBP_RUN_TANGENT,
    FBP_RUN_BACKWARD_TANGENT
} fbp_way;
size_t fbp_alone_bytes(const fbp_node *node, fbp_way way);
void fbp_run_alone(const fbp_node *node, const fbp_arrays *arrays, fbp_way way, void *room);

#endif
