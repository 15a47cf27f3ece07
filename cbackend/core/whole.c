/* Calls over all samples at once: the full gradient and inspection. */
#include <math.h>
#include <string.h>

#include "core/callbacks.h"
#include "core/status.h"

/* ---- the full gradient ---- */

/* Samples are taken in blocks, so that memory does not grow with their number; the gradient's sums
 * run on from block to block, in order. Where samples are coupled, all are one batch. */
enum { gradient_rows = 1024 };

static int64_t rows_of_block(const fbp_plan *plan, int64_t n) {
    return n < gradient_rows || plan->training.coupled >= 0 ? n : gradient_rows;
}

typedef struct {
    fbp_pass pass;
    const fbp_problem *problem;
    const void *params;
    void *grad;
    int64_t rows; /* of a block */
    int n_threads;
    double weight;   /* the sum of all samples' weights */
    double *squares; /* (n_tiles) */
    double loss;
    int stop_after_rows, stop; /* what the first thread knew before each barrier of a block */
} fbp_full;

static void full_carve(void *context, fbp_carver *carver) {
    fbp_full *call = context;
    const fbp_plan *plan = call->pass.plan;
    fbp_pass_carve(&call->pass, plan, call->params, call->rows, call->rows, call->n_threads,
                   carver);
    call->squares = fbp_carve(carver, plan->n_tiles, sizeof *call->squares);
}

static void accumulate_unit(void *context, fbp_lane *lane, const fbp_units *unit) {
    fbp_full *call = context;
    const fbp_pass *pass = &call->pass;
    const fbp_batch *batch = lane->batch;
    const fbp_plan *plan = pass->plan;
    const fbp_tile *tile = &plan->tiles[unit->tile];
    void *to = fbp_at(plan, call->grad, tile->offset);
    int alone = pass->most_parts == 1 || fbp_parts_of(plan, tile->parameter, batch->rows) == 1;
    if (batch->first > 0 && alone) {
        fbp_tile_gradient(lane, tile, 1, to);
        return;
    }
    const void *g = fbp_unit_gradient(lane, unit); /* which overruns the tile's end */
    if (g == NULL) return;
    if (batch->first > 0)
        plan->vector->add_scaled(tile->cost, 1.0, g, to);
    else
        memcpy(to, g, (size_t)tile->cost * fbp_size(plan->dtype));
}

static void finish_tile(fbp_full *call, int64_t t) {
    const fbp_plan *plan = call->pass.plan;
    const fbp_tile *tile = &plan->tiles[t];
    int64_t offset = tile->offset, weights = tile->weights;
    const void *w = fbp_at(plan, call->params, offset);
    double penalty = call->problem->alpha / call->weight;
    if (call->grad != NULL && penalty != 0.0)
        plan->vector->add_scaled(weights, penalty, w, fbp_at(plan, call->grad, offset));
    call->squares[t] = plan->vector->sum_squares(weights, w);
}

static void full_thread(void *context, const fbp_team *team) {
    fbp_full *call = context;
    fbp_pass *pass = &call->pass;
    const fbp_plan *plan = pass->plan;
    int64_t n = fbp_problem_rows(call->problem);
    fbp_range tiles = fbp_tiles_share(plan, team);
    fbp_pass_begin(pass, team);
    fbp_barrier(team);
    for (int64_t first = 0; first < n; first += pass->batch) {
        int64_t rows = n - first < pass->batch ? n - first : pass->batch;
        fbp_batch batch = fbp_batch_of(call->problem, first, rows, call->weight);
        fbp_rows_phase(pass, &batch, team);
        if (team->thread == 0) call->stop_after_rows = fbp_pass_stopped(pass);
        fbp_barrier(team);
        if (call->stop_after_rows) return; /* gradients are not formed of samples that are undone */
        if (team->thread == 0) call->loss += fbp_step_loss(pass, rows);
        if (plan->training.n_turns == 0) fbp_take_turn(pass, &batch, team, 0);
        if (team->thread == 0) call->stop = fbp_pass_stopped(pass);
        fbp_barrier(team);
        if (call->stop) return;
    }
    for (int64_t t = tiles.begin; t < tiles.end; t++) finish_tile(call, t);
}

/* Frozen parameters have no gradient: zeros. */
static void clear(const fbp_plan *plan, void *grad) {
    if (grad != NULL && plan->tile_params < plan->graph.n_params)
        memset(grad, 0, (size_t)plan->graph.n_params * fbp_size(plan->dtype));
}

fbp_status fbp_gradient(fbp_plan *plan, const void *params, const fbp_problem *problem,
                        int n_threads, fbp_poll_fn poll, void *poll_context, double *loss,
                        void *grad) {
    fbp_full call = {.problem = problem,
                     .params = params,
                     .grad = grad,
                     .pass = {.plan = plan, .watch = {.ask = poll, .context = poll_context}}};
    call.pass.form = grad != NULL ? accumulate_unit : NULL;
    call.pass.form_context = &call;
    fbp_status status = fbp_check_problem(plan, problem, &call.weight);
    if (status != FBP_OK) return status;
    int64_t n = fbp_problem_rows(problem);
    call.rows = rows_of_block(plan, n);
    double flops = fbp_sample_flops(plan, problem->x) * (double)call.rows;
    call.n_threads = fbp_threads_for_call(plan, flops, n_threads);
    fbp_scratch scratch;
    status = fbp_pool_carve(&plan->pool, full_carve, &call, &scratch);
    if (status != FBP_OK) return status;
    fbp_units_reset(&call.pass);
    clear(plan, grad);
    fbp_parallel(call.n_threads, full_thread, &call);
    if (call.stop_after_rows || call.stop)
        status = fbp_fail(FBP_INTERRUPTED, "the gradient was interrupted");
    status = fbp_calls_end(&call.pass, status);
    if (status != FBP_OK) {
        fbp_pool_give(&plan->pool, scratch);
        return status;
    }
    double squares = 0.0;
    for (int t = 0; t < plan->n_tiles; t++) squares += call.squares[t];
    *loss = call.loss + 0.5 * problem->alpha * squares / call.weight;
    fbp_pool_give(&plan->pool, scratch);
    return FBP_OK;
}

/* ---- inspection ---- */

fbp_status fbp_inspect(fbp_plan *plan, const void *params, const fbp_problem *problem,
                       void *const *values, void *const *gradients, void *const *predictions) {
    double weight = 0.0;
    fbp_status status = fbp_check_problem(plan, problem, &weight);
    if (status != FBP_OK) return status;
    int64_t n = fbp_problem_rows(problem);
    fbp_full call = {.pass = {.plan = plan}, .params = params, .n_threads = 1};
    /* What samples share has one gradient, over all of them. */
    call.rows = plan->training.n_meetings > 0 ? n : rows_of_block(plan, n);
    fbp_scratch scratch;
    status = fbp_pool_carve(&plan->pool, full_carve, &call, &scratch);
    if (status != FBP_OK) return status;
    fbp_pass_begin(&call.pass, &fbp_alone);
    for (int64_t first = 0; first < n && !fbp_callback_failed(&call.pass); first += call.rows) {
        int64_t rows = n - first < call.rows ? n - first : call.rows;
        fbp_batch batch = fbp_batch_of(problem, first, rows, weight);
        fbp_trace trace = {
            .values = values, .gradients = gradients, .predictions = predictions, .first = first};
        fbp_rows_traced(&call.pass, &batch, &trace);
    }
    status = fbp_calls_end(&call.pass, FBP_OK);
    fbp_pool_give(&plan->pool, scratch);
    return status;
}
