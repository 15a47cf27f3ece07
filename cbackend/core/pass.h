/* The two phases of a step over one batch, and the buffers that they share. Training, full
 * gradients and inspection are made of these. */
#ifndef FBP_CORE_PASS_H
#define FBP_CORE_PASS_H

#include "core/problem.h"
#include "core/watch.h"

/* Buffers of one running call, for batches of up to `batch` rows.
 *
 * input[l] (batch, ld_in) is what layer l reads: the gathered samples, or the activation before it.
 * delta[l] (batch, ld_out) is the gradient of the loss by layer l's pre-activation z; until
 * backward reaches it, it holds z itself where the activation's backward reads its input, and in
 * the last layer. So a batch's memory is one activation and one delta for each layer; all else
 * lives in tiles, and in partial gradients where rows are cut into blocks. */
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
    int n_blocks;         /* of rows, into which the weights phase cuts the batch */
    int64_t n_partials;   /* n_tiles * n_blocks, or 0 where one block is all */
    char *partials;       /* (n_tiles, n_blocks): gradients of a tile over a block of rows */
    size_t partial_bytes; /* of each */
    fbp_counter *formed;  /* (n_tiles): how many of a tile's partial gradients are there */
    fbp_watch watch;
} fbp_pass;

/* Carves the buffers; with a carver of base NULL it only counts. */
void fbp_pass_carve(fbp_pass *pass, const fbp_plan *plan, const void *params, int64_t batch,
                    int n_threads, fbp_carver *carver);

static inline void *fbp_thread_scratch(const fbp_pass *pass, const fbp_team *team) {
    return pass->threads + (size_t)team->thread * pass->thread_bytes;
}

/* ---- packed copies of the weights ---- */

/* What the copies are for: predict needs none for backward, and both it and tangents run on our own
 * kernels where training runs on BLAS. */
typedef enum {
    FBP_FOR_TRAINING,
    FBP_FOR_PREDICT,
    FBP_FOR_FEW_ROWS, /* predict, from the weights as they lie */
    FBP_FOR_TANGENTS
} fbp_purpose;

/* The weights of each layer, with room for their copies. */
fbp_weights *fbp_weights_carve(const fbp_plan *plan, const void *params, fbp_purpose purpose,
                               fbp_carver *carver);
/* Fills the copies of this thread's share of the tiles. */
void fbp_weights_pack(const fbp_plan *plan, const fbp_weights *weights, const fbp_team *team);

/* ---- rows phase ---- */

/* What an onlooker wants of a pass: each layer's values, (rows, n_out) and dense, and the first
 * layer with a pre-activation that is not finite (-1: none). Any may be NULL. Rows count from
 * `first`. */
typedef struct {
    void *const *z, *const *a, *const *delta;
    int *bad_layer;
    int64_t first;
} fbp_trace;

/* This thread's part of the rows phase: gather, forward, loss, and backward to the first layer's
 * delta. */
void fbp_rows_phase(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team);
/* The whole phase on one thread, under the eyes of an onlooker. */
void fbp_rows_traced(fbp_pass *pass, const fbp_batch *batch, const fbp_trace *trace);
/* The first layer with a pre-activation that is not finite, of a batch that is run forward for
 * this; -1: none. */
int fbp_first_bad_layer(fbp_pass *pass, const fbp_batch *batch);

/* ---- weights phase ---- */

/* Its units: unit u is block u % n_blocks of the batch's rows for tile u / n_blocks. A thread's
 * units, and its tiles, are consecutive and of about equal cost. */
fbp_range fbp_units_share(const fbp_plan *plan, int n_blocks, const fbp_team *team);
fbp_range fbp_tiles_share(const fbp_plan *plan, const fbp_team *team);

/* No unit is formed yet: for buffers that come from a pool, or that a stopped phase has left. */
void fbp_units_reset(fbp_pass *pass);
/* The gradient of one tile of parameters over all rows of the batch, into g or added to it. */
void fbp_tile_gradient(const fbp_pass *pass, const fbp_batch *batch, const fbp_tile *tile, int add,
                       void *g);
/* Forms a unit's gradient. Returns the tile's, over the whole batch, to the thread that forms the
 * last of its units, and NULL to the others. */
void *fbp_unit_gradient(fbp_pass *pass, const fbp_batch *batch, int64_t unit, const fbp_team *team);

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

#endif
