/* The rows phase, in two forms with the same bits.
 *
 * By rows: a thread takes its rows of the batch, tile by tile, through all layers, forward and
 * back, without waiting for anyone. By columns: where the batch has too few rows for the threads,
 * each layer's product is cut by output columns as well, and the team meets after each layer. */
#include <string.h>

#include "core/pass.h"

/* A piece of a layer's output: rows of the batch and columns. */
typedef struct {
    int64_t row, rows, begin, end;
} piece;

static void *tile_of(const fbp_plan *plan, void *buffer, int64_t row, int64_t ld) {
    return fbp_at(plan, buffer, row * ld);
}

/* ---- tracing ---- */

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

/* ---- the steps of a piece ---- */

static void gather(fbp_pass *pass, const fbp_batch *batch, int64_t row, int64_t rows) {
    const fbp_plan *plan = pass->plan;
    const fbp_samples *x = &batch->problem->x;
    if (plan->sparse) return;
    const uint32_t *order = fbp_batch_order(batch, row);
    int64_t start = order == NULL ? (batch->first + row) * x->row_stride : 0;
    int64_t ld = plan->layers[0].ld_in;
    plan->vector->gather(rows, x->cols, fbp_at(plan, x->data, start), x->row_stride, x->col_stride,
                         order, tile_of(plan, pass->input[0], row, ld), ld);
}

/* The elements of a piece are whole rows with their padding, or a part of each row. */
static int is_whole(const piece *p, int64_t n) { return p->begin == 0 && p->end == n; }

/* The activation's backward reads what fbp_row.reads names: z lies in delta[l], its output in the
 * next layer's input. */
static int keeps_z(const fbp_layer *layer) { return layer->activation->reads == FBP_READS_INPUT; }

static void activate(const fbp_plan *plan, const fbp_layer *layer, const piece *p, const void *z,
                     void *out) {
    const fbp_activation_kernels *activation = fbp_layer_activation(layer);
    int64_t ld = layer->ld_out;
    if (is_whole(p, layer->n_out)) {
        activation->value(p->rows * ld, z, out, layer->activation_attrs);
        return;
    }
    for (int64_t at = p->begin; at < p->rows * ld; at += ld)
        activation->value(p->end - p->begin, fbp_at(plan, z, at), fbp_at(plan, out, at),
                          layer->activation_attrs);
}

static void forward(fbp_pass *pass, const fbp_batch *batch, int l, const piece *p,
                    const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    const fbp_layer *layer = &plan->layers[l];
    fbp_sparse_rows sparse = fbp_batch_sparse(batch, p->row);
    const void *in = l == 0 && plan->sparse ? (const void *)&sparse
                                            : tile_of(plan, pass->input[l], p->row, layer->ld_in);
    void *delta = tile_of(plan, pass->delta[l], p->row, layer->ld_out);
    int last = l + 1 == plan->n_layers;
    void *out = last ? delta : tile_of(plan, pass->input[l + 1], p->row, layer->ld_out);
    void *z = layer->activation != NULL && keeps_z(layer) ? delta : out;
    fbp_layer_ops(layer)->forward(layer, &pass->weights[l], p->rows, p->begin, p->end, in, z);
    if (trace != NULL) trace_z(plan, layer, trace, l, z, p->row, p->rows);
    if (last) return;
    if (layer->activation != NULL) activate(plan, layer, p, z, out);
    if (trace != NULL) trace_tile(plan, layer, trace->a, l, out, trace->first + p->row, p->rows);
    if (p->end == layer->n_out)
        plan->vector->set_bias_input(p->rows, layer->n_out, layer->ld_out, 1.0, out);
}

/* A sample of weight 0 is absent: should its loss overflow, 0 times infinity would be heard. */
static void mute_weightless(fbp_pass *pass, int64_t row, int64_t rows) {
    const fbp_plan *plan = pass->plan;
    int last = plan->n_layers - 1;
    int64_t ld = plan->layers[last].ld_out;
    size_t size = fbp_size(plan->dtype);
    for (int64_t r = row; r < row + rows; r++) {
        if (fbp_real_at(plan->dtype, pass->scale, r) != 0.0) continue;
        memset(fbp_at(plan, pass->loss, r), 0, size);
        memset(tile_of(plan, pass->delta[last], r, ld), 0, (size_t)ld * size);
    }
}

static void loss(fbp_pass *pass, const fbp_batch *batch, int64_t row, int64_t rows,
                 const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    int last = plan->n_layers - 1;
    const fbp_layer *layer = &plan->layers[last];
    void *z = tile_of(plan, pass->delta[last], row, layer->ld_out);
    void *target = (char *)pass->target + (size_t)row * fbp_target_bytes(plan);
    void *scale = fbp_at(plan, pass->scale, row);
    fbp_batch_targets(plan, batch, row, rows, target);
    fbp_batch_scales(plan, batch, row, rows, scale);
    if (trace != NULL && trace->a != NULL)
        fbp_plan_loss(plan)->predict(
            rows, layer->n_out, layer->ld_out, z, layer->n_out,
            tile_of(plan, trace->a[last], trace->first + row, layer->n_out));
    fbp_plan_loss(plan)->forward(rows, layer->n_out, layer->ld_out, z, target, scale,
                                 fbp_at(plan, pass->loss, row), z, plan->loss_attrs);
    if (batch->problem->weight != NULL) mute_weightless(pass, row, rows);
}

/* From the delta of layer l, above 0, to that of the layer before it, whose columns p names. */
static void backward(fbp_pass *pass, int l, const piece *p, void *scratch) {
    const fbp_plan *plan = pass->plan;
    const fbp_layer *layer = &plan->layers[l], *before = &plan->layers[l - 1];
    int64_t ld = before->ld_out;
    const void *dy = tile_of(plan, pass->delta[l], p->row, layer->ld_out);
    void *dz = tile_of(plan, pass->delta[l - 1], p->row, ld);
    void *dx = before->activation == NULL ? dz : scratch;
    fbp_layer_ops(layer)->backward_input(layer, &pass->weights[l], p->rows, p->begin, p->end, dy,
                                         dx);
    if (before->activation == NULL) return;
    const fbp_activation_kernels *activation = fbp_layer_activation(before);
    const void *saved = keeps_z(before) ? dz : tile_of(plan, pass->input[l], p->row, ld);
    if (is_whole(p, layer->n_in)) {
        activation->backward(p->rows * ld, dx, saved, dz, before->activation_attrs);
        return;
    }
    for (int64_t at = p->begin; at < p->rows * ld; at += ld)
        activation->backward(p->end - p->begin, fbp_at(plan, dx, at), fbp_at(plan, saved, at),
                             fbp_at(plan, dz, at), before->activation_attrs);
}

/* ---- by rows ---- */

static void forward_by_rows(fbp_pass *pass, const fbp_batch *batch, int64_t row, int64_t rows,
                            const fbp_trace *trace) {
    gather(pass, batch, row, rows);
    for (int l = 0; l < pass->plan->n_layers; l++) {
        piece whole = {row, rows, 0, pass->plan->layers[l].n_out};
        forward(pass, batch, l, &whole, trace);
    }
}

static void tile_by_rows(fbp_pass *pass, const fbp_batch *batch, int64_t row, int64_t rows,
                         void *scratch, const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    forward_by_rows(pass, batch, row, rows, trace);
    loss(pass, batch, row, rows, trace);
    for (int l = plan->n_layers - 1; l >= 0; l--) {
        const fbp_layer *layer = &plan->layers[l];
        if (trace != NULL)
            trace_tile(plan, layer, trace->delta, l,
                       tile_of(plan, pass->delta[l], row, layer->ld_out), trace->first + row, rows);
        piece whole = {row, rows, 0, layer->n_in};
        if (l > 0) backward(pass, l, &whole, scratch);
    }
}

static void by_rows(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team,
                    const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    int64_t unit = fbp_row_step(plan, pass->batch), tile = fbp_row_tile(plan, pass->batch);
    fbp_range share = fbp_share((batch->rows + unit - 1) / unit, team);
    int64_t end = share.end * unit < batch->rows ? share.end * unit : batch->rows;
    for (int64_t row = share.begin * unit; row < end; row += tile) {
        int64_t rows = end - row < tile ? end - row : tile;
        if (fbp_watch_stopped(&pass->watch)) return;
        tile_by_rows(pass, batch, row, rows, fbp_thread_scratch(pass, team), trace);
        fbp_watch_work(&pass->watch, team, plan->flops * (double)rows);
    }
}

/* ---- by columns ---- */

/* This thread's pieces of an output n columns wide, one after the other. They are counted down the
 * rows first, so that a thread reads few columns of the weights; rows that follow each other are
 * taken together as far as a tile holds them, and on BLAS, whose bits would change, never. */
typedef struct {
    const fbp_layer *layer;
    int64_t n, rows, unit, tile;
    fbp_range share;
} pieces;

static pieces pieces_of(const fbp_pass *pass, const fbp_batch *batch, const fbp_layer *layer,
                        int64_t n, const fbp_team *team) {
    const fbp_plan *plan = pass->plan;
    pieces all = {.layer = layer, .n = n, .rows = batch->rows};
    all.unit = fbp_row_step(plan, pass->batch);
    all.tile = fbp_row_tile(plan, pass->batch);
    int64_t units = fbp_column_pieces(layer, n) * fbp_pieces(batch->rows, all.unit);
    all.share = fbp_share(units, team);
    return all;
}

static int next_piece(pieces *left, piece *p) {
    if (left->share.begin >= left->share.end) return 0;
    int64_t down = fbp_pieces(left->rows, left->unit);
    int64_t column = left->share.begin / down, first = left->share.begin % down;
    int64_t count = left->tile / left->unit;
    if (count > down - first) count = down - first;
    if (count > left->share.end - left->share.begin) count = left->share.end - left->share.begin;
    left->share.begin += count;
    p->row = first * left->unit;
    p->rows = count * left->unit < left->rows - p->row ? count * left->unit : left->rows - p->row;
    p->begin = column * left->layer->columns;
    p->end = fbp_piece_end(left->layer, p->begin, left->n);
    return 1;
}

/* n: the columns that the layer's product has in all. */
static void watch_piece(fbp_pass *pass, const fbp_layer *layer, int64_t n, const piece *p,
                        const fbp_team *team) {
    double share = (double)((p->end - p->begin) * p->rows) / (double)n;
    fbp_watch_work(&pass->watch, team, fbp_product_flops(layer) * share);
}

/* Nobody leaves early, since the others would wait: a call that is to stop does so after the
 * phase. */
static void by_columns(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team) {
    const fbp_plan *plan = pass->plan;
    fbp_range rows = fbp_share(batch->rows, team);
    gather(pass, batch, rows.begin, rows.end - rows.begin);
    fbp_barrier(team);
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        pieces left = pieces_of(pass, batch, layer, layer->n_out, team);
        for (piece p; next_piece(&left, &p);) {
            forward(pass, batch, l, &p, NULL);
            watch_piece(pass, layer, layer->n_out, &p, team);
        }
        fbp_barrier(team);
    }
    loss(pass, batch, rows.begin, rows.end - rows.begin, NULL);
    for (int l = plan->n_layers - 1; l > 0; l--) {
        const fbp_layer *layer = &plan->layers[l];
        fbp_barrier(team);
        pieces left = pieces_of(pass, batch, layer, layer->n_in, team);
        for (piece p; next_piece(&left, &p);) {
            backward(pass, l, &p, fbp_thread_scratch(pass, team));
            watch_piece(pass, layer, layer->n_in, &p, team);
        }
    }
}

/* ---- the phase ---- */

void fbp_rows_phase(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team) {
    if (fbp_cuts_columns(pass->plan, batch->rows, pass->batch, team->size))
        by_columns(pass, batch, team);
    else
        by_rows(pass, batch, team, NULL);
}

void fbp_rows_traced(fbp_pass *pass, const fbp_batch *batch, const fbp_trace *trace) {
    by_rows(pass, batch, &fbp_alone, trace);
}

int fbp_first_bad_layer(fbp_pass *pass, const fbp_batch *batch) {
    int64_t tile = fbp_row_tile(pass->plan, pass->batch); /* as the step was cut: the same bits */
    int first = -1;
    for (int64_t row = 0; row < batch->rows; row += tile) {
        int64_t rows = batch->rows - row < tile ? batch->rows - row : tile;
        int layer = -1;
        fbp_trace trace = {.bad_layer = &layer};
        forward_by_rows(pass, batch, row, rows, &trace);
        if (layer >= 0 && (first < 0 || layer < first)) first = layer;
    }
    return first;
}
