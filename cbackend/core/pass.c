/* The rows phase and the weights phase. A thread takes its rows through all layers, forward and back,
 * without waiting for anyone; then, the batch complete, it takes its tiles of the weights. */
#include "core/pass.h"

#include <math.h>
#include <string.h>

#include "core/status.h"

/* ---- buffers ---- */

void fbp_pass_carve(fbp_pass *pass, const fbp_plan *plan, int64_t batch, int n_threads,
                    fbp_carver *carver) {
    size_t size = fbp_size(plan->dtype);
    int n = plan->n_layers, counting = carver->base == NULL;
    pass->plan = plan;
    pass->batch = batch;
    pass->input = fbp_carve(carver, n, sizeof *pass->input);
    pass->delta = fbp_carve(carver, n, sizeof *pass->delta);
    pass->weights = fbp_carve(carver, n, sizeof *pass->weights);
    for (int l = 0; l < n; l++) {
        const fbp_layer *layer = &plan->layers[l];
        size_t packed_bytes = 0, packed_t_bytes = 0;
        if (!layer->use_blas)
            fbp_layer_ops(layer)->packed_bytes(layer, &packed_bytes, &packed_t_bytes);
        if (l == 0) packed_t_bytes = 0; /* nothing lies before the first layer */
        int64_t input_rows = l == 0 && plan->sparse ? 0 : batch;
        void *input = fbp_carve(carver, input_rows * layer->ld_in, size);
        void *delta = fbp_carve(carver, batch * layer->ld_out, size);
        void *packed = fbp_carve(carver, (int64_t)packed_bytes, 1);
        void *packed_t = fbp_carve(carver, (int64_t)packed_t_bytes, 1);
        if (counting) continue;
        pass->input[l] = input;
        pass->delta[l] = delta;
        pass->weights[l].packed = packed_bytes > 0 ? packed : NULL;
        pass->weights[l].packed_t = packed_t_bytes > 0 ? packed_t : NULL;
    }
    pass->target = fbp_carve(carver, batch, fbp_target_bytes(plan));
    pass->scale = fbp_carve(carver, batch, size);
    pass->loss = fbp_carve(carver, batch, size);
    int64_t rows_scratch = fbp_row_tile(plan, batch) * plan->widest;
    int64_t tile_scratch =
        plan->largest_tile + fbp_pad(plan->dtype); /* products overrun their end */
    int64_t scratch = rows_scratch > tile_scratch ? rows_scratch : tile_scratch;
    fbp_carver one = {NULL, 0};
    fbp_carve(&one, scratch, size);
    pass->thread_bytes = one.used;
    pass->threads = fbp_carve(carver, n_threads, one.used);
}

void fbp_pass_set_params(fbp_pass *pass, const void *params) {
    for (int l = 0; l < pass->plan->n_layers; l++)
        pass->weights[l].params = fbp_at(pass->plan, params, pass->plan->layers[l].offset);
}

void fbp_pass_pack(fbp_pass *pass, const fbp_team *team) {
    fbp_range share = fbp_tiles_share(pass->plan, team);
    for (int64_t t = share.begin; t < share.end; t++) {
        const fbp_tile *tile = &pass->plan->tiles[t];
        const fbp_layer *layer = &pass->plan->layers[tile->layer];
        fbp_layer_ops(layer)->pack(layer, &pass->weights[tile->layer], tile->begin, tile->end);
    }
}

/* ---- shares ---- */

fbp_range fbp_rows_share(const fbp_plan *plan, int64_t rows, int64_t batch, const fbp_team *team) {
    int64_t unit = fbp_row_unit(plan, batch);
    fbp_range share = fbp_share((rows + unit - 1) / unit, team);
    share.begin *= unit;
    share.end *= unit;
    if (share.begin > rows) share.begin = rows;
    if (share.end > rows) share.end = rows;
    return share;
}

/* A tile belongs to the thread in whose part of the total cost its middle lies. */
fbp_range fbp_tiles_share(const fbp_plan *plan, const fbp_team *team) {
    fbp_range share = {plan->n_tiles, plan->n_tiles};
    int64_t before = 0;
    for (int t = 0; t < plan->n_tiles; t++) {
        int64_t middle = 2 * before + plan->tiles[t].cost; /* twice the cost up to the middle */
        int64_t owner = middle * team->size / (2 * plan->n_params);
        if (owner >= team->thread && t < share.begin) share.begin = t;
        if (owner > team->thread) {
            share.end = t;
            break;
        }
        before += plan->tiles[t].cost;
    }
    if (share.begin > share.end) share.begin = share.end;
    return share;
}

/* ---- rows phase ---- */

double fbp_batch_weight(const fbp_plan *plan, const fbp_batch *batch) {
    const void *weight = batch->problem->weight;
    if (weight == NULL) return (double)batch->rows;
    double sum = 0.0;
    for (int64_t r = 0; r < batch->rows; r++) {
        int64_t sample = batch->order == NULL ? batch->first + r : batch->order[batch->first + r];
        sum += plan->dtype == FBP_F32 ? (double)((const float *)weight)[sample]
                                      : ((const double *)weight)[sample];
    }
    return sum;
}

static void gather_targets(const fbp_pass *pass, const fbp_batch *batch, int64_t begin,
                           int64_t rows) {
    size_t bytes = fbp_target_bytes(pass->plan);
    const char *from = batch->problem->target;
    char *to = (char *)pass->target + (size_t)begin * bytes;
    for (int64_t r = 0; r < rows; r++) {
        int64_t place = batch->first + begin + r;
        int64_t sample = batch->order == NULL ? place : (int64_t)batch->order[place];
        memcpy(to + (size_t)r * bytes, from + (size_t)sample * bytes, bytes);
    }
}

void fbp_batch_scales(const fbp_plan *plan, const fbp_batch *batch, int64_t begin, int64_t rows,
                      void *scale) {
    const void *weight = batch->problem->weight;
    for (int64_t r = 0; r < rows; r++) {
        int64_t place = batch->first + begin + r;
        int64_t sample = batch->order == NULL ? place : (int64_t)batch->order[place];
        if (plan->dtype == FBP_F32) {
            double own = weight == NULL ? 1.0 : (double)((const float *)weight)[sample];
            ((float *)scale)[r] = (float)(own / batch->weight);
        } else {
            double own = weight == NULL ? 1.0 : ((const double *)weight)[sample];
            ((double *)scale)[r] = own / batch->weight;
        }
    }
}

static void *tile_of(const fbp_plan *plan, void *buffer, int64_t row, int64_t ld) {
    return fbp_at(plan, buffer, row * ld);
}

/* Copies a tile's columns, for inspection only. */
static void trace_tile(const fbp_plan *plan, const fbp_layer *layer, void *const *traces, int l,
                       const void *tile, int64_t begin, int64_t rows) {
    if (traces == NULL) return;
    size_t size = fbp_size(plan->dtype), width = (size_t)layer->n_out * size;
    for (int64_t r = 0; r < rows; r++)
        memcpy((char *)traces[l] + (size_t)(begin + r) * width,
               (const char *)tile + (size_t)(r * layer->ld_out) * size, width);
}

static void trace_z(const fbp_plan *plan, const fbp_layer *layer, const fbp_trace *trace, int l,
                    const void *z, int64_t begin, int64_t rows) {
    trace_tile(plan, layer, trace->z, l, z, trace->first + begin, rows);
    if (trace->bad_layer == NULL || *trace->bad_layer >= 0) return;
    for (int64_t r = 0; r < rows; r++)
        if (plan->vector->first_not_finite(layer->n_out, fbp_at(plan, z, r * layer->ld_out)) >= 0)
            *trace->bad_layer = l;
}

/* The activation's backward reads what fbp_row.reads names: z lies in delta[l], its output in the next
 * layer's input. */
static int keeps_z(const fbp_layer *layer) { return layer->activation->reads == FBP_READS_INPUT; }

static void forward_tile(fbp_pass *pass, const fbp_batch *batch, int64_t begin, int64_t rows,
                         const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    const fbp_samples *x = &batch->problem->x;
    const uint32_t *order = batch->order == NULL ? NULL : batch->order + batch->first + begin;
    fbp_sparse_rows sparse = {x, batch->first + begin, order};
    if (!plan->sparse) {
        int64_t start = order == NULL ? (batch->first + begin) * x->row_stride : 0;
        plan->vector->gather(
            rows, x->cols, fbp_at(plan, x->data, start), x->row_stride, x->col_stride, order,
            tile_of(plan, pass->input[0], begin, plan->layers[0].ld_in), plan->layers[0].ld_in);
    }
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        const void *in = l == 0 && plan->sparse
                             ? (const void *)&sparse
                             : tile_of(plan, pass->input[l], begin, layer->ld_in);
        void *delta = tile_of(plan, pass->delta[l], begin, layer->ld_out);
        if (l + 1 == plan->n_layers) {
            fbp_layer_ops(layer)->forward(layer, &pass->weights[l], rows, in, delta);
            if (trace != NULL) trace_z(plan, layer, trace, l, delta, begin, rows);
            return;
        }
        void *out = tile_of(plan, pass->input[l + 1], begin, layer->ld_out);
        void *z = layer->activation != NULL && keeps_z(layer) ? delta : out;
        fbp_layer_ops(layer)->forward(layer, &pass->weights[l], rows, in, z);
        if (trace != NULL) trace_z(plan, layer, trace, l, z, begin, rows);
        if (layer->activation != NULL)
            fbp_layer_activation(layer)->value(rows * layer->ld_out, z, out,
                                               layer->activation_attrs);
        if (trace != NULL) trace_tile(plan, layer, trace->a, l, out, trace->first + begin, rows);
        plan->vector->set_bias_input(rows, layer->n_out, layer->ld_out, 1.0, out);
    }
}

static void loss_tile(fbp_pass *pass, const fbp_batch *batch, int64_t begin, int64_t rows,
                      const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    int last = plan->n_layers - 1;
    const fbp_layer *layer = &plan->layers[last];
    void *z = tile_of(plan, pass->delta[last], begin, layer->ld_out);
    gather_targets(pass, batch, begin, rows);
    fbp_batch_scales(plan, batch, begin, rows, fbp_at(plan, pass->scale, begin));
    if (trace != NULL && trace->a != NULL)
        fbp_plan_loss(plan)->predict(
            rows, layer->n_out, layer->ld_out, z, layer->n_out,
            tile_of(plan, trace->a[last], trace->first + begin, layer->n_out));
    fbp_plan_loss(plan)->forward(rows, layer->n_out, layer->ld_out, z,
                                 (char *)pass->target + (size_t)begin * fbp_target_bytes(plan),
                                 fbp_at(plan, pass->scale, begin), fbp_at(plan, pass->loss, begin),
                                 z, plan->loss_attrs);
}

static void backward_tile(fbp_pass *pass, int64_t begin, int64_t rows, void *scratch,
                          const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    for (int l = plan->n_layers - 1; l >= 0; l--) {
        const fbp_layer *layer = &plan->layers[l];
        const void *dy = tile_of(plan, pass->delta[l], begin, layer->ld_out);
        if (trace != NULL) trace_tile(plan, layer, trace->delta, l, dy, trace->first + begin, rows);
        if (l == 0) return;
        const fbp_layer *before = &plan->layers[l - 1];
        void *dz = tile_of(plan, pass->delta[l - 1], begin, before->ld_out);
        if (before->activation == NULL) {
            fbp_layer_ops(layer)->backward_input(layer, &pass->weights[l], rows, dy, dz);
            continue;
        }
        fbp_layer_ops(layer)->backward_input(layer, &pass->weights[l], rows, dy, scratch);
        const void *saved =
            keeps_z(before) ? dz : tile_of(plan, pass->input[l], begin, layer->ld_in);
        fbp_layer_activation(before)->backward(rows * before->ld_out, scratch, saved, dz,
                                               before->activation_attrs);
    }
}

void fbp_rows_phase(fbp_pass *pass, const fbp_batch *batch, fbp_range rows, const fbp_team *team,
                    const fbp_trace *trace) {
    int64_t tile = fbp_row_tile(pass->plan, pass->batch);
    void *scratch = pass->threads + (size_t)team->thread * pass->thread_bytes;
    for (int64_t begin = rows.begin; begin < rows.end; begin += tile) {
        int64_t count = rows.end - begin < tile ? rows.end - begin : tile;
        if (fbp_watch_stopped(&pass->watch)) return;
        forward_tile(pass, batch, begin, count, trace);
        loss_tile(pass, batch, begin, count, trace);
        backward_tile(pass, begin, count, scratch, trace);
        fbp_watch_work(&pass->watch, team, pass->plan->flops * (double)count);
    }
}

int fbp_first_bad_layer(fbp_pass *pass, const fbp_batch *batch) {
    int layer = -1;
    fbp_trace trace = {.bad_layer = &layer};
    forward_tile(pass, batch, 0, batch->rows, &trace);
    return layer;
}

/* Targets in the range that the loss is made for; NaN is in none. */
static fbp_status check_targets(const fbp_plan *plan, const void *target, int64_t rows) {
    fbp_target kind = plan->loss->target;
    if (kind == FBP_TARGET_REAL) return FBP_OK;
    int64_t n = kind == FBP_TARGET_CLASS ? rows : rows * plan->n_outputs;
    double high = kind == FBP_TARGET_CLASS    ? (double)(plan->n_outputs - 1)
                  : kind == FBP_TARGET_BINARY ? 1.0
                                              : INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double t = kind == FBP_TARGET_CLASS ? (double)((const int32_t *)target)[i]
                   : plan->dtype == FBP_F32 ? (double)((const float *)target)[i]
                                            : ((const double *)target)[i];
        if (!(t >= 0.0 && t <= high))
            return fbp_fail(FBP_INVALID, "y: found %g, wanted 0 to %g: the targets of '%s'", t,
                            high, plan->loss->name);
    }
    return FBP_OK;
}

static fbp_status check_weights(const fbp_plan *plan, const void *weight, int64_t rows) {
    for (int64_t i = 0; weight != NULL && i < rows; i++) {
        double w = plan->dtype == FBP_F32 ? (double)((const float *)weight)[i]
                                          : ((const double *)weight)[i];
        if (!(w >= 0.0 && w < INFINITY))
            return fbp_fail(FBP_INVALID,
                            "sample_weight: found %g, wanted finite numbers of at least 0", w);
    }
    return FBP_OK;
}

fbp_status fbp_check_problem(const fbp_plan *plan, const fbp_problem *problem, double *weight) {
    fbp_status status = fbp_check_samples(plan, &problem->x);
    if (status != FBP_OK) return status;
    if (problem->x.rows < 1) return fbp_fail(FBP_INVALID, "X: found no rows, wanted at least 1");
    status = check_targets(plan, problem->target, problem->x.rows);
    if (status != FBP_OK) return status;
    status = check_weights(plan, problem->weight, problem->x.rows);
    if (status != FBP_OK) return status;
    if (!(problem->alpha >= 0.0 && problem->alpha < INFINITY))
        return fbp_fail(FBP_INVALID, "alpha: found %g, wanted a finite number of at least 0",
                        problem->alpha);
    fbp_batch all = {problem, NULL, 0, problem->x.rows, 0.0};
    *weight = fbp_batch_weight(plan, &all);
    if (!(*weight > 0.0 && *weight < INFINITY))
        return fbp_fail(FBP_INVALID,
                        "sample_weight: found a sum of %g, wanted a finite one above 0", *weight);
    return FBP_OK;
}

/* ---- weights phase ---- */

void fbp_tile_gradient(fbp_pass *pass, const fbp_batch *batch, const fbp_tile *tile, int add,
                       void *g) {
    const fbp_plan *plan = pass->plan;
    const fbp_layer *layer = &plan->layers[tile->layer];
    fbp_sparse_rows sparse = {&batch->problem->x, batch->first,
                              batch->order == NULL ? NULL : batch->order + batch->first};
    const void *x =
        tile->layer == 0 && plan->sparse ? (const void *)&sparse : pass->input[tile->layer];
    fbp_layer_ops(layer)->backward_params(layer, tile->begin, tile->end, batch->rows, x,
                                          pass->delta[tile->layer], add, g);
}
