/* The two phases of a step over one batch, and the buffers that they share. Training, full
 * gradients, inspection and predict are made of these. */
#ifndef FBP_CORE_PASS_H
#define FBP_CORE_PASS_H

#include "core/problem.h"
#include "core/watch.h"

/* What a loss is computed from and yields, for each sample and position: of a batch, or of all
 * batches of a step. */
typedef struct {
    void *target; /* of a batch: fbp_target_bytes() of a sample */
    void *scale;  /* of a step: its weight in the mean */
    void *value;
} fbp_loss_room;

/* Walks over a thread's units of the weights phase (below). */
typedef struct {
    int tile, part, n_parts; /* the unit: part `part` of tile `tile` */
    int most_parts;
    int64_t left;
} fbp_units;

/* A thread at work on a batch: below. */
typedef struct fbp_lane fbp_lane;

/* What callbacks have come to: callbacks.h. */
typedef struct fbp_calls fbp_calls;

/* Buffers of one running call, for batches of up to `batch` samples: those that the schedule keeps
 * for the whole batch, and for each thread those that hold a tile of it. */
typedef struct {
    const fbp_plan *plan;
    const fbp_schedule *schedule;
    const char *params;
    const fbp_half_kernels *half; /* how training reads weights in a mixed plan; or NULL */
    int64_t batch, tile;          /* samples */
    char *batch_values, *common_values;
    uint16_t *stored;      /* what a mixed plan stores of a batch */
    fbp_weights *weights;  /* (n_nodes) */
    fbp_loss_room *losses; /* (n_losses) */
    char *threads;         /* of each thread: a tile's values, a gradient, scratch of nodes */
    size_t thread_bytes, tile_bytes, gradient_bytes;
    int by_columns;       /* may be cut so */
    char *shared_tile;    /* and then: a tile as large as the batch, for all threads */
    int most_parts;       /* in which the gradient of any parameter is formed */
    char *partials;       /* of tiles whose gradient has several parts, these one after the other */
    int64_t *partials_at; /* (n_tiles): where, in bytes */
    size_t partial_bytes; /* of all of them together */
    fbp_counter *formed;  /* (n_tiles): how many of a tile's parts are there */
    char *alone;          /* room for a node that runs by itself */
    char *parts;          /* of the sum that is formed at a meeting */
    fbp_counter summed;   /* how many of them are there */
    fbp_calls *calls;     /* of callbacks; NULL where there are none */
    char *gradient;       /* (n_params): the sum so far, of a step of several batches; or NULL */
    /* In a plan with checkpoints: forms a unit in its turn, and does with it what the call is for;
     * or NULL. */
    void (*form)(void *form_context, fbp_lane *lane, const fbp_units *unit);
    void *form_context;
    fbp_watch watch;
} fbp_pass;

/* Whether it is to stop: its caller has said so, or a callback has failed. */
static inline int fbp_pass_stopped(fbp_pass *pass) {
    int may = pass->watch.ask != NULL || pass->calls != NULL;
    return may && fbp_counter_read(&pass->watch.stopped) != 0;
}

/* What the copies of weights are for: predict needs none for backward, and runs on our own kernels
 * where training runs on BLAS. */
typedef enum {
    FBP_FOR_TRAINING,
    FBP_FOR_PREDICT,
    FBP_FOR_FEW_ROWS /* predict, from the weights as they lie */
} fbp_purpose;

/* Carves the buffers of a schedule for batches of so many samples, and steps of `whole` samples;
 * with a carver of base NULL it only counts. */
void fbp_pass_carve(fbp_pass *pass, const fbp_plan *plan, const void *params, int64_t batch,
                    int64_t whole, int n_threads, fbp_carver *carver);
/* Of these the packed copies of weights, and what parameters make. */
void fbp_pass_carve_weights(fbp_pass *pass, const fbp_plan *plan, const void *params,
                            fbp_carver *carver);
/* What all samples share, and room for what makes it; for predict, before its weights. */
void fbp_pass_carve_common(fbp_pass *pass, const fbp_plan *plan, const fbp_schedule *schedule,
                           fbp_carver *carver);
void fbp_pass_carve_prediction(fbp_pass *pass, const fbp_plan *plan, int64_t tile, int n_threads,
                               fbp_carver *carver);

/* The weights of each node, with room for their copies. `common` are the values that all samples
 * share, where there are derived ones. */
fbp_weights *fbp_weights_carve(const fbp_plan *plan, const void *params, const char *common,
                               fbp_purpose purpose, fbp_carver *carver);
/* Fills the copies of this thread's share of the tiles: those of parameters and constants; those of
 * what is derived, too. */
void fbp_weights_pack(const fbp_plan *plan, const fbp_weights *weights, const fbp_team *team);
void fbp_weights_pack_derived(const fbp_plan *plan, const fbp_weights *weights,
                              const fbp_team *team);

/* All copies of weights, at the start of a call: this thread's share. Threads meet before others
 * read them. */
void fbp_pass_begin(const fbp_pass *pass, const fbp_team *team);

/* ---- a thread at work on some samples of a batch ---- */

/* Where values of one kind begin, and the bytes of one element of all samples there. */
typedef struct {
    const char *base;
    size_t unit;
} fbp_room;

struct fbp_lane {
    const fbp_pass *pass;
    const fbp_batch *batch;
    fbp_room rooms[FBP_IN_SAMPLES]; /* by fbp_where */
    int64_t row, rows;              /* of the batch */
    int64_t tile_row; /* of the tile's values: row `row` of the batch is this one of theirs */
    fbp_sparse_rows sparse;
    fbp_call call;
};

/* A thread's own lane, and its room for the gradient of a tile of parameters. */
void fbp_lane_begin(fbp_lane *lane, const fbp_pass *pass, const fbp_batch *batch,
                    const fbp_team *team);
static inline void *fbp_lane_parameters(const fbp_lane *lane) {
    const char *tile = lane->rooms[FBP_IN_TILE].base;
    return fbp_element(lane->pass->plan->dtype, tile + lane->pass->tile_bytes, 0);
}

/* Where the lane's rows of a buffer lie, each sample_stride elements apart. */
void *fbp_lane_buffer(const fbp_lane *lane, int buffer, const fbp_operand *is);
void *fbp_lane_value(const fbp_lane *lane, int v);
void *fbp_lane_gradient(const fbp_lane *lane, int v);

/* The call of a node on the lane's rows, forward, or forward again on the way back; and that of its
 * backward, and of its sums over samples. */
fbp_call *fbp_lane_forward(fbp_lane *lane, int n);
fbp_call *fbp_lane_again(fbp_lane *lane, int n);
fbp_call *fbp_lane_backward(fbp_lane *lane, int n);
fbp_call *fbp_lane_sum(fbp_lane *lane, int n);

/* ---- what a mixed plan stores in 16 bits: storage.c; of others there is none ---- */

/* The lane's rows of a buffer of the tile are rounded, and stored. */
void fbp_store_tile(const fbp_lane *lane, int buffer);
void fbp_load_tile(const fbp_lane *lane, int buffer); /* nothing, if it is not stored */
/* Rows `of` of the gradient of node n's input, as backward_shared forms them, from the lane's row
 * on to `stop`: through the thread's tile, which holds nothing else meanwhile, in parts that end at
 * fixed places of the step. */
void fbp_sum_in_parts(fbp_lane *lane, int n, int input, int64_t stop, fbp_range of, int add,
                      void *g);
/* Over the lane's rows. */
static inline void fbp_sum_at_once(fbp_lane *lane, int n, int input, fbp_range of, int add,
                                   void *g) {
    const fbp_node *node = &lane->pass->plan->graph.nodes[n];
    const fbp_call *call = fbp_lane_sum(lane, n);
    fbp_node_ops(node)->backward_shared(node, call, input, of.begin, of.end, add, g);
}
/* Over rows of the batch, in any plan. */
static inline void fbp_sum_over_rows(fbp_lane *lane, int n, int input, fbp_range rows, fbp_range of,
                                     int add, void *g) {
    lane->row = rows.begin;
    lane->rows = rows.end - rows.begin;
    if (lane->pass->plan->half == NULL)
        fbp_sum_at_once(lane, n, input, of, add, g);
    else
        fbp_sum_in_parts(lane, n, input, rows.end, of, add, g);
}

/* ---- rows phase ---- */

/* What an onlooker wants of a pass: values and gradients, (rows, elements) and dense, predictions,
 * and the first node with a result that is not finite (-1: none). Any may be NULL. Rows count from
 * `first`. Seconds, as fbp_profile tells them, are added to. */
typedef struct {
    void *const *values, *const *gradients, *const *predictions;
    int *bad_node;
    int64_t first;
    double *seconds;
} fbp_trace;

/* Where the time of a step goes. */
double *fbp_trace_seconds(const fbp_plan *plan, const fbp_trace *trace, const fbp_step *step);

/* A step of the schedule, and steps [begin, end), on the lane's rows: steps.c. */
void fbp_run_step(fbp_lane *lane, const fbp_step *step, const fbp_trace *trace);
void fbp_run_steps(fbp_lane *lane, int begin, int end, const fbp_trace *trace);
/* The same on this thread's tiles. */
void fbp_run_tiles(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int begin, int end,
                   const fbp_trace *trace);
/* What an onlooker wants of a node's results, once they are there; and of gradients that are
 * complete before a step. */
void fbp_trace_results(const fbp_lane *lane, const fbp_trace *trace, int n);
void fbp_trace_gradients(const fbp_lane *lane, const fbp_trace *trace, int step);

/* This thread's part of the rows phase: gather, forward, losses, and backward. */
void fbp_rows_phase(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team);
/* The whole phase on one thread, under the eyes of an onlooker. */
void fbp_rows_traced(fbp_pass *pass, const fbp_batch *batch, const fbp_trace *trace);
/* The first node with a result that is not finite, of a batch that is run forward for this; -1:
 * none. */
int fbp_first_bad_node(fbp_pass *pass, const fbp_batch *batch);

/* The losses of a step, of so many samples, weighted and added up. */
double fbp_step_loss(const fbp_pass *pass, int64_t rows);

/* ---- meetings in the rows phase, of plans with values that samples share ---- */

/* All that parameters and constants alone make, and packed copies of it, for a step or a call. All
 * threads have met before, and meet behind it before they read these. */
void fbp_derive(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team,
                const fbp_trace *trace);
/* Steps [0, end), segment by segment; and those of them that are behind what is derived. */
void fbp_run_segments(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int end,
                      const fbp_trace *trace);
void fbp_run_meetings(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int end,
                      const fbp_trace *trace);
/* Bytes of a part of a tile's gradient, whose end a product overruns. */
static inline size_t fbp_partial_bytes(const fbp_plan *plan, const fbp_tile *tile) {
    return fbp_carved_bytes(tile->cost + fbp_pad(plan->dtype), fbp_size(plan->dtype));
}
/* Bytes of the parts of any sum at a meeting. */
size_t fbp_parts_bytes(const fbp_plan *plan, const fbp_schedule *schedule, int64_t batch,
                       int64_t whole);

/* ---- weights phase ---- */

/* Its units: the parts of the gradients of all tiles, one tile after the other, that have rows in
 * the batch and their turn. A thread's units, and its tiles, are consecutive and of about equal
 * cost. */
fbp_range fbp_units_share(const fbp_plan *plan, const fbp_batch *batch, const fbp_team *team);
fbp_range fbp_tiles_share(const fbp_plan *plan, const fbp_team *team);

/* most_parts may be an upper bound, as for larger batches; if it is 1, all tiles have a part. */
fbp_units fbp_units_begin(const fbp_plan *plan, const fbp_batch *batch, int most_parts,
                          fbp_range share);
void fbp_units_next(const fbp_plan *plan, const fbp_batch *batch, fbp_units *units);

/* No unit is formed yet, nor part of a sum at a meeting: for buffers that come from a pool, or that
 * a stopped phase has left. */
void fbp_units_reset(fbp_pass *pass);
/* What a unit forms: of one use of the parameter, block `block` of the `blocks` in which the
 * samples of the step are taken. It is part `part` of the gradient over the whole step. */
typedef struct {
    const fbp_use *use;
    int64_t block, blocks;
    int part;
} fbp_part;
fbp_part fbp_unit_part(const fbp_plan *plan, const fbp_batch *batch, const fbp_units *unit);
/* Forms a unit's gradient. Returns the tile's, over the whole step, to the thread that forms the
 * last of its parts, and NULL to the others. A part that began in an earlier batch of the step is
 * continued: its sums run on. */
void *fbp_unit_gradient(fbp_lane *lane, const fbp_units *unit);
/* A turn of the gradients, in the rows phase: all units of this thread that have theirs. */
void fbp_take_turn(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int turn);
/* The gradient of one tile of parameters over all rows of the batch, formed in one part, added to
 * g. */
void fbp_tile_gradient(fbp_lane *lane, const fbp_tile *tile, int add, void *g);

#endif
