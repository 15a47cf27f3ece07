/* What forward mode (tangent.c) and forward over reverse (hessian.c) have in common: a pass with a
 * tangent beside every value. */
#ifndef FBP_CORE_TANGENTS_H
#define FBP_CORE_TANGENTS_H

#include "core/pass.h"

/* Of a value: what it is and its tangent, its gradient and the tangent of that; and whether a
 * gradient has come yet. */
typedef struct {
    void *x, *tx, *d, *td;
    int reached;
} fbp_strand;

typedef struct {
    const fbp_plan *plan;
    const void *params, *tparams;
    int64_t tile;
    int back;           /* gradients too */
    fbp_strand *values; /* (n_values) */
    fbp_strand *kept;   /* (n_nodes, FBP_MAX_OUTPUTS) */
    void *zeros;        /* of the largest parameter or constant, for a constant's tangent */
    void *again[FBP_MAX_INPUTS + FBP_MAX_OUTPUTS]; /* the largest operand each */
    void *scratch, *scale, *loss, *target;
} fbp_tangents;

/* Room for tiles of so many samples in all. */
fbp_status fbp_tangents_start(fbp_tangents *call, fbp_plan *plan, int64_t rows,
                              fbp_scratch *scratch);
/* The call of node n on the samples of a batch, all but the gradients of its inputs; and of one
 * that runs by itself. */
void fbp_tangents_fill(fbp_tangents *call, int n, const fbp_batch *batch, fbp_call *to,
                       fbp_sparse_rows *sparse);
fbp_call fbp_tangents_alone(fbp_tangents *call, int n, const fbp_batch *batch);
/* Padding behind rows: a one behind those of values, none behind tangents and gradients. */
void fbp_tangents_pad(const fbp_tangents *call, const fbp_operand *x, int64_t rows, double first,
                      void *at);
/* Through all nodes for the samples of a tile; tx0 holds, for each input, NULL or the tangent of
 * all samples (n_samples, elements), dense. */
void fbp_tangents_forward(fbp_tangents *call, const fbp_batch *batch, const void *const *tx0);

#endif
