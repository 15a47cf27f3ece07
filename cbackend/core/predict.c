/* Prediction: tiles of samples go forward through the graph, always on our own kernels, so that a
 * sample's bits depend on nothing but the sample. */
#include <string.h>

#include "core/callbacks.h"
#include "core/status.h"

typedef struct {
    fbp_pass pass;
    const fbp_samples *x;
    const fbp_pass *frozen; /* whose weights are prepared, and stay; or NULL */
    const void *params;
    int raw, n_threads;
    void *const *out;
    int64_t tile;
    double flops; /* of one sample */
} fbp_prediction;

/* Rows of a tile. No more rows than these do not repay packing the weights. */
enum { tile_rows = 64 };

/* Whether a callback takes the samples of a call together. (All that is derived is a meeting.) */
static int samples_meet(const fbp_plan *plan) {
    return plan->prediction.n_meetings > plan->prediction.n_derived;
}

static fbp_purpose purpose_of(const fbp_prediction *call) {
    int few = call->x[0].rows * call->pass.plan->most_positions <= tile_rows;
    return few ? FBP_FOR_FEW_ROWS : FBP_FOR_PREDICT;
}

static void carve(void *context, fbp_carver *carver) {
    fbp_prediction *call = context;
    const fbp_plan *plan = call->pass.plan;
    fbp_pass *pass = &call->pass;
    const fbp_pass *frozen = call->frozen;
    pass->params = call->params;
    if (plan->graph.n_callbacks > 0) fbp_calls_carve(pass, plan, carver);
    if (frozen != NULL) {
        pass->weights = frozen->weights;
        pass->common_values = frozen->common_values;
    } else {
        fbp_pass_carve_common(pass, plan, &plan->prediction, carver);
        pass->weights =
            fbp_weights_carve(plan, call->params, pass->common_values, purpose_of(call), carver);
    }
    fbp_pass_carve_prediction(pass, plan, call->tile, call->n_threads, carver);
    if (!samples_meet(plan)) return;
    pass->batch = call->x[0].rows;
    pass->batch_values =
        fbp_carve(carver, pass->batch * plan->prediction.batch_elements, fbp_size(plan->dtype));
}

/* A lane's rows of an output to the caller's. */
static void yield_output(const fbp_prediction *call, const fbp_lane *lane, int o) {
    const fbp_plan *plan = call->pass.plan;
    int v = plan->outputs[o];
    const fbp_operand *z = &plan->graph.values[v].is;
    int64_t positions = fbp_positions(z), k = fbp_width(z), rows = lane->rows * positions;
    const void *from = fbp_lane_value(lane, v);
    void *to = fbp_at(plan, call->out[o], lane->row * positions * k);
    for (int i = 0; i < plan->graph.n_losses && !call->raw; i++) {
        const fbp_loss *loss = &plan->graph.losses[i];
        if (loss->value != v) continue;
        const fbp_loss_kernels *kernels = loss->row->kernels[plan->dtype];
        kernels->predict(rows, k, z->row_stride, from, k, to);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        memcpy(fbp_at(plan, to, r * k), fbp_at(plan, from, r * z->row_stride),
               (size_t)k * fbp_size(plan->dtype));
}

/* All samples of the call, segment by segment. */
static void run_together(fbp_prediction *call, const fbp_batch *batch, const fbp_team *team) {
    fbp_pass *pass = &call->pass;
    const fbp_plan *plan = pass->plan;
    fbp_run_meetings(pass, batch, team, pass->schedule->n_steps, NULL);
    fbp_barrier(team);
    if (fbp_pass_stopped(pass)) return;
    fbp_range share = fbp_share(batch->rows, team);
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    lane.row = share.begin;
    lane.rows = share.end - share.begin;
    for (int o = 0; o < plan->n_outputs; o++) yield_output(call, &lane, o);
}

static void run_thread(void *context, const fbp_team *team) {
    fbp_prediction *call = context;
    fbp_pass *pass = &call->pass;
    const fbp_plan *plan = pass->plan;
    fbp_problem problem = {.x = call->x};
    fbp_batch batch = {.problem = &problem, .rows = call->x[0].rows};
    if (call->frozen == NULL) {
        fbp_weights_pack(plan, pass->weights, team);
        if (plan->prediction.n_derived > 0) fbp_derive(pass, &batch, team, NULL);
        fbp_barrier(team);
    }
    if (samples_meet(plan)) {
        run_together(call, &batch, team);
        return;
    }
    fbp_range share = fbp_share(batch.rows, team);
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, &batch, team);
    for (int64_t begin = share.begin; begin < share.end; begin += call->tile) {
        lane.row = begin;
        lane.rows = share.end - begin < call->tile ? share.end - begin : call->tile;
        fbp_run_steps(&lane, pass->schedule->n_derived, pass->schedule->n_steps, NULL);
        for (int o = 0; o < plan->n_outputs; o++) yield_output(call, &lane, o);
        fbp_watch_work(&pass->watch, team, call->flops * (double)lane.rows);
        if (fbp_pass_stopped(pass)) return;
    }
}

static int64_t tile_of(const fbp_plan *plan, int64_t rows) {
    int64_t tile = plan->most_positions > 1 ? fbp_row_tile(plan, rows) : tile_rows;
    return tile < rows ? tile : rows;
}

/* A sample's prediction depends on that sample alone. */
static fbp_status check_rows_alone(const fbp_plan *plan) {
    int n = plan->prediction.coupled;
    if (n < 0) return FBP_OK;
    return fbp_fail(FBP_ABSENT,
                    "predict: found node %d, '%s', which couples the samples of a batch, wanted a "
                    "running parameter in place of its result, value %d",
                    n, plan->graph.nodes[n].row->name, plan->graph.first_result[n]);
}

/* flops: of a sample's forward and backward. */
static void plan_call(fbp_prediction *call, const fbp_plan *plan, double flops, int n_threads) {
    call->pass.plan = plan;
    call->flops = flops / 3.0; /* backward takes the rest */
    call->n_threads = fbp_threads_for_call(plan, call->flops * (double)call->x[0].rows, n_threads);
    call->tile = tile_of(plan, call->x[0].rows);
}

static fbp_status run(fbp_prediction *call, fbp_plan *plan, int n_threads) {
    const fbp_samples *x = call->x;
    fbp_status status = check_rows_alone(plan);
    if (status == FBP_OK) status = fbp_check_samples(plan, x);
    if (status != FBP_OK || x[0].rows == 0) return status;
    plan_call(call, plan, fbp_sample_flops(plan, x), n_threads);
    fbp_scratch scratch;
    status = fbp_pool_carve(&plan->pool, carve, call, &scratch);
    if (status != FBP_OK) return status;
    fbp_parallel(call->n_threads, run_thread, call);
    if (fbp_pass_stopped(&call->pass))
        status = fbp_fail(FBP_INTERRUPTED, "predict was interrupted");
    status = fbp_calls_end(&call->pass, status);
    fbp_pool_give(&plan->pool, scratch);
    return status;
}

fbp_status fbp_predict(fbp_plan *plan, const void *params, const fbp_samples *x, int raw,
                       int n_threads, fbp_poll_fn poll, void *poll_context, void *const *out) {
    fbp_prediction call = {.x = x,
                           .params = params,
                           .raw = raw,
                           .out = out,
                           .pass = {.watch = {.ask = poll, .context = poll_context}}};
    return run(&call, plan, n_threads);
}

/* ---- what it takes ---- */

fbp_memory fbp_plan_memory_of_predict(const fbp_plan *plan, int64_t rows, int n_threads) {
    const fbp_samples x[FBP_MAX_INPUTS] = {{.rows = rows}};
    fbp_prediction call = {.x = x, .pass = {.plan = plan}};
    plan_call(&call, plan, plan->flops, n_threads);
    fbp_carver counting = {NULL, 0}, copies = {NULL, 0};
    carve(&call, &counting);
    fbp_weights_carve(plan, NULL, NULL, purpose_of(&call), &copies);
    fbp_memory memory = {.weight_copies = (int64_t)copies.used,
                         .thread_scratch = (int64_t)call.pass.thread_bytes * call.n_threads,
                         .total = (int64_t)fbp_block_bytes(counting.used)};
    memory.other = memory.total - memory.weight_copies - memory.thread_scratch;
    return memory;
}

/* ---- frozen weights ---- */

struct fbp_frozen {
    fbp_plan *plan;
    void *params, *block;
    fbp_pass pass; /* its weights, and what is derived of them */
};

static void carve_frozen(fbp_frozen *frozen, fbp_carver *carver) {
    fbp_plan *plan = frozen->plan;
    fbp_pass *pass = &frozen->pass;
    pass->params = frozen->params = fbp_carve(carver, plan->graph.n_params, fbp_size(plan->dtype));
    if (plan->graph.n_callbacks > 0) fbp_calls_carve(pass, plan, carver);
    fbp_pass_carve_common(pass, plan, &plan->prediction, carver);
    pass->weights =
        fbp_weights_carve(plan, frozen->params, pass->common_values, FBP_FOR_PREDICT, carver);
    if (plan->prediction.n_derived > 0) fbp_pass_carve_prediction(pass, plan, 1, 1, carver);
}

fbp_status fbp_freeze(fbp_plan *plan, const void *params, fbp_frozen **out) {
    *out = NULL;
    fbp_frozen *frozen = fbp_alloc(sizeof *frozen);
    if (frozen == NULL) return FBP_NO_MEMORY;
    frozen->plan = plan;
    frozen->pass.plan = plan;
    fbp_carver counting = {NULL, 0};
    carve_frozen(frozen, &counting);
    frozen->block = fbp_alloc(counting.used);
    if (frozen->block == NULL) {
        fbp_frozen_destroy(frozen);
        return FBP_NO_MEMORY;
    }
    fbp_carver carving = {frozen->block, 0};
    carve_frozen(frozen, &carving);
    memcpy(frozen->params, params, (size_t)plan->graph.n_params * fbp_size(plan->dtype));
    fbp_weights_pack(plan, frozen->pass.weights, &fbp_alone);
    const fbp_batch none = {.rows = 1};
    if (plan->prediction.n_derived > 0) fbp_derive(&frozen->pass, &none, &fbp_alone, NULL);
    fbp_status status = fbp_calls_end(&frozen->pass, FBP_OK);
    if (status == FBP_OK)
        *out = frozen;
    else
        fbp_frozen_destroy(frozen);
    return status;
}

void fbp_frozen_destroy(fbp_frozen *frozen) {
    if (frozen == NULL) return;
    fbp_free(frozen->block);
    fbp_free(frozen);
}

fbp_status fbp_frozen_predict(const fbp_frozen *frozen, const fbp_samples *x, int raw,
                              int n_threads, fbp_poll_fn poll, void *poll_context,
                              void *const *out) {
    fbp_prediction call = {.x = x,
                           .params = frozen->params,
                           .frozen = &frozen->pass,
                           .raw = raw,
                           .out = out,
                           .pass = {.watch = {.ask = poll, .context = poll_context}}};
    return run(&call, frozen->plan, n_threads);
}
