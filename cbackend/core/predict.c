/* Prediction: rows go through all layers in two tiles that take turns, always on our own kernels,
 * so that a row's bits depend on nothing but the row. */
#include <string.h>

#include "core/pass.h"
#include "core/status.h"

typedef struct {
    const fbp_plan *plan;
    const fbp_samples *x;
    const fbp_weights *weights;
    int prepared; /* the weights are, and stay */
    char *tiles;  /* two for each thread */
    size_t tile_bytes;
    const void *params;
    int raw, n_threads;
    void *out;
    fbp_watch watch;
    double flops; /* of one sample */
} fbp_prediction;

/* Rows of a tile. No more rows than these do not repay packing the weights. */
enum { tile_rows = 64 };

static void carve(void *context, fbp_carver *carver) {
    fbp_prediction *call = context;
    const fbp_plan *plan = call->plan;
    fbp_purpose purpose = call->x->rows <= tile_rows ? FBP_FOR_FEW_ROWS : FBP_FOR_PREDICT;
    if (!call->prepared) call->weights = fbp_weights_carve(plan, call->params, purpose, carver);
    call->tile_bytes = fbp_carved_bytes(tile_rows * plan->widest, fbp_size(plan->dtype));
    call->tiles = fbp_carve(carver, 2 * (int64_t)call->n_threads, call->tile_bytes);
}

static void run_tile(const fbp_prediction *call, int64_t begin, int64_t rows, char *x, char *y) {
    const fbp_plan *plan = call->plan;
    const fbp_samples *samples = call->x;
    fbp_sparse_rows sparse = {samples, begin, NULL};
    if (!plan->sparse)
        plan->vector->gather(
            rows, samples->cols, fbp_at(plan, samples->data, begin * samples->row_stride),
            samples->row_stride, samples->col_stride, NULL, x, plan->layers[0].ld_in);
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        const void *in = l == 0 && plan->sparse ? (const void *)&sparse : x;
        fbp_layer_ops(layer)->forward(layer, &call->weights[l], rows, 0, layer->n_out, in, y);
        if (layer->activation != NULL)
            fbp_layer_activation(layer)->value(rows * layer->ld_out, y, y, layer->activation_attrs);
        char *swap = x;
        x = y;
        y = swap;
    }
    int64_t k = plan->n_outputs, ld = plan->layers[plan->n_layers - 1].ld_out;
    char *out = fbp_at(plan, call->out, begin * k);
    if (!call->raw) {
        fbp_plan_loss(plan)->predict(rows, k, ld, x, k, out);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        memcpy(fbp_at(plan, out, r * k), fbp_at(plan, x, r * ld),
               (size_t)k * fbp_size(plan->dtype));
}

static void run_thread(void *context, const fbp_team *team) {
    fbp_prediction *call = context;
    if (!call->prepared) {
        fbp_weights_pack(call->plan, call->weights, team);
        fbp_barrier(team);
    }
    fbp_range share = fbp_share(call->x->rows, team);
    char *scratch = call->tiles + 2 * (size_t)team->thread * call->tile_bytes;
    for (int64_t begin = share.begin; begin < share.end; begin += tile_rows) {
        int64_t rows = share.end - begin < tile_rows ? share.end - begin : tile_rows;
        run_tile(call, begin, rows, scratch, scratch + call->tile_bytes);
        fbp_watch_work(&call->watch, team, call->flops * (double)rows);
        if (fbp_watch_stopped(&call->watch)) return;
    }
}

static fbp_status run(fbp_prediction *call, fbp_plan *plan, int n_threads) {
    const fbp_samples *x = call->x;
    fbp_status status = fbp_check_samples(plan, x);
    if (status != FBP_OK || x->rows == 0) return status;
    call->plan = plan;
    call->flops = fbp_sample_flops(plan, x) / 3.0; /* backward takes the rest */
    call->n_threads = fbp_threads_for_call(call->flops * (double)x->rows, n_threads);
    fbp_scratch scratch;
    status = fbp_pool_carve(&plan->pool, carve, call, &scratch);
    if (status != FBP_OK) return status;
    fbp_parallel(call->n_threads, run_thread, call);
    fbp_pool_give(&plan->pool, scratch);
    return fbp_watch_stopped(&call->watch) ? fbp_fail(FBP_INTERRUPTED, "predict was interrupted")
                                           : FBP_OK;
}

fbp_status fbp_predict(fbp_plan *plan, const void *params, const fbp_samples *x, int raw,
                       int n_threads, fbp_poll_fn poll, void *poll_context, void *out) {
    fbp_prediction call = {.x = x,
                           .params = params,
                           .raw = raw,
                           .out = out,
                           .watch = {.ask = poll, .context = poll_context}};
    return run(&call, plan, n_threads);
}

/* ---- frozen weights ---- */

struct fbp_frozen {
    fbp_plan *plan;
    void *params, *block;
    fbp_weights *weights;
};

static void carve_frozen(fbp_frozen *frozen, fbp_carver *carver) {
    const fbp_plan *plan = frozen->plan;
    frozen->params = fbp_carve(carver, plan->n_params, fbp_size(plan->dtype));
    frozen->weights = fbp_weights_carve(plan, frozen->params, FBP_FOR_PREDICT, carver);
}

fbp_status fbp_freeze(fbp_plan *plan, const void *params, fbp_frozen **out) {
    *out = NULL;
    fbp_frozen *frozen = fbp_alloc(sizeof *frozen);
    if (frozen == NULL) return FBP_NO_MEMORY;
    frozen->plan = plan;
    fbp_carver counting = {NULL, 0};
    carve_frozen(frozen, &counting);
    frozen->block = fbp_alloc(counting.used);
    if (frozen->block == NULL) {
        fbp_frozen_destroy(frozen);
        return FBP_NO_MEMORY;
    }
    fbp_carver carving = {frozen->block, 0};
    carve_frozen(frozen, &carving);
    memcpy(frozen->params, params, (size_t)plan->n_params * fbp_size(plan->dtype));
    fbp_weights_pack(plan, frozen->weights, &fbp_alone);
    *out = frozen;
    return FBP_OK;
}

void fbp_frozen_destroy(fbp_frozen *frozen) {
    if (frozen == NULL) return;
    fbp_free(frozen->block);
    fbp_free(frozen);
}

fbp_status fbp_frozen_predict(const fbp_frozen *frozen, const fbp_samples *x, int raw,
                              int n_threads, fbp_poll_fn poll, void *poll_context, void *out) {
    fbp_prediction call = {.x = x,
                           .weights = frozen->weights,
                           .prepared = 1,
                           .raw = raw,
                           .out = out,
                           .watch = {.ask = poll, .context = poll_context}};
    return run(&call, frozen->plan, n_threads);
}
