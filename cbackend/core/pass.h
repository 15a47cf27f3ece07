/* The two phases of a step over one batch, and the buffers that they share. Training, full gradients and
 * inspection are made of these. */
#ifndef FBP_CORE_PASS_H
#define FBP_CORE_PASS_H

#include "core/plan.h"
#include "core/watch.h"

/* Buffers of one running call, for batches of up to `batch` rows.
 *
 * input[l] (batch, ld_in) is what layer l reads: the gathered samples, or the activation before it.
 * delta[l] (batch, ld_out) is the gradient of the loss by layer l's pre-activation z; until backward
 * reaches it, it holds z itself where the activation's backward reads its input, and in the last layer.
 * All else lives in tiles. So a batch's memory is one activation and one delta for each layer. */
typedef struct {
    const fbp_plan *plan;
    int64_t batch;
    void **input, **delta;
    fbp_weights *weights; /* (n_layers) */
    void *target;         /* (batch) of fbp_target_bytes() each */
    void *scale;          /* (batch) sample weight over the sum of weights */
    void *loss;           /* (batch) */
    char *threads;        /* scratch of each thread: a tile of rows, or the gradient of a tile */
    size_t thread_bytes;
    fbp_watch watch;
} fbp_pass;

/* Carves the buffers; with a carver of base NULL it only counts. */
void fbp_pass_carve(fbp_pass *pass, const fbp_plan *plan, int64_t batch, int n_threads,
                    fbp_carver *carver);

/* Points the weights at params and makes the packed copies of this thread's share of them. */
void fbp_pass_set_params(fbp_pass *pass, const void *params);
void fbp_pass_pack(fbp_pass *pass, const fbp_team *team);

/* What an onlooker wants of a pass: each layer's values, (rows, n_out) and dense, and the first layer
 * with a pre-activation that is not finite (-1: none). Any may be NULL. Rows count from `first`. */
typedef struct {
    void *const *z, *const *a, *const *delta;
    int *bad_layer;
    int64_t first;
} fbp_trace;

/* The samples of one batch: rows first, first + 1, ... of the problem, or order[first], ... */
typedef struct {
    const fbp_problem *problem;
    const uint32_t *order;
    int64_t first, rows;
    double weight; /* the sum of their weights */
} fbp_batch;

double fbp_batch_weight(const fbp_plan *plan, const fbp_batch *batch);
/* scale (rows) = a row's weight over the batch's, from row `begin` of the batch on: so the gradient is
 * that of the weighted mean. */
void fbp_batch_scales(const fbp_plan *plan, const fbp_batch *batch, int64_t begin, int64_t rows,
                      void *scale);
/* Samples that fit the plan, at least one, and a positive sum of weights, which is returned. */
fbp_status fbp_check_problem(const fbp_plan *plan, const fbp_problem *problem, double *weight);

/* Rows phase: gather, forward, loss, and backward to the first layer's delta, for rows [begin, end) of
 * the batch. */
void fbp_rows_phase(fbp_pass *pass, const fbp_batch *batch, fbp_range rows, const fbp_team *team,
                    const fbp_trace *trace);
/* The first layer with a pre-activation that is not finite, of a batch that is run forward for this; -1:
 * none. */
int fbp_first_bad_layer(fbp_pass *pass, const fbp_batch *batch);
fbp_range fbp_rows_share(const fbp_plan *plan, int64_t rows, int64_t batch, const fbp_team *team);

/* Weights phase: the gradient of one tile of parameters over the whole batch, into g. */
void fbp_tile_gradient(fbp_pass *pass, const fbp_batch *batch, const fbp_tile *tile, int add,
                       void *g);
/* The tiles of a thread: consecutive, and of about equal cost. */
fbp_range fbp_tiles_share(const fbp_plan *plan, const fbp_team *team);

/* Weights, without biases, in a tile: what the penalty is about. */
static inline int64_t fbp_tile_weights(const fbp_plan *plan, const fbp_tile *tile) {
    const fbp_layer *layer = &plan->layers[tile->layer];
    int64_t end = tile->end < layer->n_in ? tile->end : layer->n_in;
    return end > tile->begin ? (end - tile->begin) * layer->n_out : 0;
}

static inline int64_t fbp_tile_offset(const fbp_plan *plan, const fbp_tile *tile) {
    const fbp_layer *layer = &plan->layers[tile->layer];
    return layer->offset + tile->begin * layer->n_out;
}

static inline void *fbp_at(const fbp_plan *plan, const void *base, int64_t element) {
    union {
        const void *in;
        void *out;
    } pointer = {(const char *)base + (size_t)element * fbp_size(plan->dtype)};
    return pointer.out;
}

#endif
