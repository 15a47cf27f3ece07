/* Compiling a network: names become rows, widths become offsets and tiles, and everything that can
 * be known before anything runs (parameters, FLOPs, who computes what) is settled here. */
#include "core/plan.h"

#include <math.h>
#include <string.h>

#include "core/status.h"

/* ---- the rules that choose how a layer's products are formed ---- */

/* A layer runs its training products on BLAS when both its sides are at least this wide: from there
 * on BLAS's blocking for the cache beats our own kernels. In float these were the faster ones of v4
 * wherever training was measured both ways, in batches of 128 and 1024 and up to a width of 3072;
 * benchmarks/products.py compares the products by themselves. */
static const struct {
    const char *isa;       /* NULL: any other */
    int64_t from_width[2]; /* float, double */
} blas_rules[] = {{"v4", {4096, 1024}}, {NULL, {1024, 768}}};

/* Columns of one call of BLAS: few enough to occupy many threads, enough to be fast. */
static const int64_t blas_columns = 512;

/* From so many weights on our own kernels read them in parts, as they lie: packed copies would
 * leave the cache between steps, and double or treble the memory that the weights take. */
static const int64_t parts_from = 1 << 20;

static int wants_blas(const fbp_plan *plan, const fbp_layer *layer) {
    int i = 0;
    while (blas_rules[i].isa != NULL && strcmp(blas_rules[i].isa, plan->variant->isa) != 0) i++;
    int64_t from = blas_rules[i].from_width[layer->dtype];
    return layer->n_in >= from && layer->n_out >= from && fbp_blas_present(layer->dtype);
}

static fbp_products products_of(const fbp_plan *plan, const fbp_layer *layer) {
    if (layer->op->reads_sparse) return FBP_PACKED;
    if (wants_blas(plan, layer)) return FBP_BLAS;
    return layer->n_in * layer->n_out < parts_from ? FBP_PACKED : FBP_IN_PARTS;
}

int64_t fbp_leading(fbp_dtype dtype, int64_t n) {
    int64_t pad = fbp_pad(dtype), ld = fbp_round_up(n + 1, pad);
    return ld % (8 * pad) == 0 ? ld + pad : ld;
}

int64_t fbp_row_tile(const fbp_plan *plan, int64_t batch) {
    if (!plan->copies_weights) return 64;
    int64_t whole = fbp_round_up(batch, 64); /* each tile copies the weights anew */
    return whole < 512 ? whole : 512;
}

int64_t fbp_row_step(const fbp_plan *plan, int64_t batch) {
    return plan->uses_blas ? fbp_row_tile(plan, batch) : 8;
}

/* Units of the weights phase are wanted for so many threads, and a block of fewer rows would cost
 * more to add up than a small part of what it takes to form. */
enum { wanted_units = 64, least_block = 256 };

int fbp_row_blocks(const fbp_plan *plan, int64_t batch) {
    int64_t wanted = wanted_units / plan->n_tiles, most = batch / least_block;
    int64_t blocks = wanted < most ? wanted : most;
    return plan->uses_blas || blocks < 1 ? 1 : (int)blocks;
}

/* ---- which form the rows phase takes ---- */

/* The share of equal units that the busiest of a team's threads has. */
static double busiest(int64_t units, int n_threads) {
    return (double)fbp_pieces(units, n_threads) / (double)units;
}

/* What a meeting costs: counted as 1 us of one core's work, since many threads meet more slowly
 * than two. */
static const double flops_per_meeting = 1e5;

double fbp_rows_span(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads,
                     int by_columns) {
    int64_t units = fbp_pieces(rows, fbp_row_step(plan, batch));
    double span = by_columns ? 2.0 * plan->n_layers * flops_per_meeting : 0.0;
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        int sparse = layer->op->reads_sparse;
        double flops = (sparse ? (double)layer->n_out : fbp_product_flops(layer)) * (double)rows;
        int64_t out = by_columns ? fbp_column_pieces(layer, layer->n_out) : 1;
        int64_t in = by_columns ? fbp_column_pieces(layer, layer->n_in) : 1;
        span += flops * busiest(units * out, n_threads);
        if (l > 0) span += flops * busiest(units * in, n_threads);
    }
    return span;
}

/* FLOPs that could be done while a weight is copied, by ourselves or by BLAS, where it comes from
 * the third cache at some 10 GB/s. */
static const double flops_per_copy = 60.0;

/* FLOPs that are worth what the busiest thread copies of the weights. */
static double copying(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads,
                      int by_columns) {
    int64_t units = fbp_pieces(rows, fbp_row_step(plan, batch));
    int64_t own = fbp_pieces(units, n_threads) * fbp_row_step(plan, batch);
    int64_t tiles = fbp_pieces(by_columns ? rows : own, fbp_row_tile(plan, batch));
    double elements = 0.0;
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        if (layer->products == FBP_PACKED) continue;
        double weights = (double)layer->n_in * (double)layer->n_out;
        int64_t out = fbp_column_pieces(layer, layer->n_out);
        int64_t in = fbp_column_pieces(layer, layer->n_in);
        elements += weights * (by_columns ? busiest(units * out, n_threads) : 1.0);
        if (l > 0) elements += weights * (by_columns ? busiest(units * in, n_threads) : 1.0);
    }
    return flops_per_copy * elements * (double)tiles;
}

int fbp_cuts_columns(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads) {
    double span[2];
    for (int form = 0; form < 2; form++)
        span[form] = fbp_rows_span(plan, rows, batch, n_threads, form) +
                     copying(plan, rows, batch, n_threads, form);
    return n_threads > 1 && span[1] < span[0];
}

/* About 10 us of one core's work where a team stays together (two quiet cores meet in a quarter of
 * a microsecond); four times as much where a team must first be formed. A network that gains little
 * from a second thread loses much when that thread is not there at once. */
static const double flops_per_step_thread = 1e6, flops_per_call_thread = 4e6;

static int threads_for(double flops, double each, int n_threads) {
    double worth = flops / each;
    if (worth < (double)n_threads) n_threads = (int)worth;
    return n_threads < 1 ? 1 : n_threads;
}

int fbp_threads_for_step(double flops, int n_threads) {
    return threads_for(flops, flops_per_step_thread, n_threads);
}

int fbp_threads_for_call(double flops, int n_threads) {
    return threads_for(flops, flops_per_call_thread, n_threads);
}

double fbp_sample_flops(const fbp_plan *plan, const fbp_samples *x) {
    if (!plan->sparse || x->rows == 0) return plan->flops;
    const fbp_layer *first = &plan->layers[0];
    double density = (double)x->stored / (double)x->rows / (double)x->cols;
    /* Forward, and backward to the weights. */
    return plan->flops - 2.0 * fbp_product_flops(first) * (1.0 - density);
}

size_t fbp_target_bytes(const fbp_plan *plan) {
    return plan->loss->target == FBP_TARGET_CLASS ? sizeof(int32_t)
                                                  : (size_t)plan->n_outputs * fbp_size(plan->dtype);
}

/* ---- making a plan ---- */

/* Far beyond any memory, and far below where a count of bytes would overflow. */
static const int64_t most_params = (int64_t)1 << 48;

static fbp_status add_op(fbp_plan *plan, const fbp_row_spec *spec, int64_t n_in) {
    int sparse_input = plan->n_layers == 0 && plan->sparse;
    const fbp_row *row = fbp_variant_find(plan->variant, FBP_OP, spec->name);
    if (row != NULL && sparse_input && row->sparse_form != NULL)
        row = fbp_variant_find(plan->variant, FBP_OP, row->sparse_form);
    if (row == NULL) return FBP_INVALID;
    if (row->reads_sparse != sparse_input)
        return fbp_fail(FBP_INVALID, "layer %d: found '%s', wanted an op that reads %s samples",
                        plan->n_layers, row->name, sparse_input ? "sparse" : "dense");
    if (spec->units < 1 || spec->units > INT32_MAX)
        return fbp_fail(FBP_INVALID, "units of layer %d: found %lld, wanted 1 to %d",
                        plan->n_layers, (long long)spec->units, INT32_MAX);
    if ((n_in + 1) * spec->units > most_params - plan->n_params)
        return fbp_fail(FBP_INVALID, "layers: found more than %lld parameters with layer %d",
                        (long long)most_params, plan->n_layers);
    fbp_layer *layer = &plan->layers[plan->n_layers++];
    layer->op = row;
    memcpy(layer->op_attrs, spec->attrs, sizeof layer->op_attrs);
    layer->n_in = n_in;
    layer->n_out = spec->units;
    layer->param_rows = n_in + 1;
    layer->ld_in = fbp_leading(plan->dtype, n_in);
    layer->ld_out = fbp_leading(plan->dtype, spec->units);
    layer->dtype = plan->dtype;
    layer->gemm = plan->gemm;
    layer->vector = plan->vector;
    layer->offset = plan->n_params;
    layer->products = products_of(plan, layer);
    layer->columns = layer->products == FBP_BLAS ? blas_columns : plan->gemm->columns;
    if (row->reads_sparse) layer->columns = spec->units; /* whole */
    plan->uses_blas |= layer->products == FBP_BLAS;
    plan->copies_weights |= layer->products != FBP_PACKED;
    plan->n_params += layer->param_rows * layer->n_out;
    if (!sparse_input && layer->ld_in > plan->widest) plan->widest = layer->ld_in;
    if (layer->ld_out > plan->widest) plan->widest = layer->ld_out;
    plan->n_outputs = spec->units;
    return fbp_row_check(row, layer->op_attrs);
}

static fbp_status add_spec(fbp_plan *plan, const fbp_row_spec *spec, int64_t n_in) {
    const fbp_row *row = fbp_variant_look(plan->variant, FBP_ACTIVATION, spec->name);
    if (row == NULL) return add_op(plan, spec, n_in);
    fbp_layer *layer = plan->n_layers == 0 ? NULL : &plan->layers[plan->n_layers - 1];
    if (layer == NULL || layer->activation != NULL)
        return fbp_fail(FBP_INVALID,
                        "layers: found the activation '%s' %s, wanted a layer before it", row->name,
                        layer == NULL ? "at the start" : "after another activation");
    layer->activation = row;
    memcpy(layer->activation_attrs, spec->attrs, sizeof layer->activation_attrs);
    return fbp_row_check(row, layer->activation_attrs);
}

/* Parameter rows of a tile: about 64 tiles, each of which reads the deltas of the whole batch, and
 * hardly more than 65536 elements where our own kernels run, so that gradient, weights and
 * optimiser state of a tile stay in the second cache together. Whole groups of 16 rows: tiles meet
 * at the ends of cache lines in the transposed copies, and of vectors where a single output has the
 * rows fill them. */
static int64_t tile_rows(const fbp_plan *plan, const fbp_layer *layer) {
    if (layer->products == FBP_BLAS) return 256;
    int64_t elements = plan->n_params / 64;
    if (elements < 1024) elements = 1024;
    if (elements > 65536) elements = 65536;
    int64_t rows = fbp_round_up(elements / layer->n_out + 1, 16);
    /* A sparse tile searches every sample: fewer, larger tiles. */
    return layer->op->reads_sparse && rows < 512 ? 512 : rows;
}

static fbp_status cut_tiles(fbp_plan *plan) {
    for (int pass = 0; pass < 2; pass++) {
        int count = 0;
        for (int l = 0; l < plan->n_layers; l++) {
            const fbp_layer *layer = &plan->layers[l];
            int64_t rows = tile_rows(plan, layer);
            for (int64_t begin = 0; begin < layer->param_rows; begin += rows, count++) {
                if (pass == 0) continue;
                int64_t end = begin + rows < layer->param_rows ? begin + rows : layer->param_rows;
                int64_t cost = (end - begin) * layer->n_out;
                fbp_tile tile = {l, begin, end, cost};
                plan->tiles[count] = tile;
                if (cost > plan->largest_tile) plan->largest_tile = cost;
            }
        }
        plan->n_tiles = count;
        if (pass == 0) plan->tiles = fbp_alloc((size_t)count * sizeof *plan->tiles);
        if (plan->tiles == NULL) return FBP_NO_MEMORY;
    }
    return FBP_OK;
}

static fbp_status compile(fbp_plan *plan, int n_specs, const fbp_row_spec *specs,
                          const fbp_row_spec *loss) {
    plan->layers = fbp_alloc((size_t)n_specs * sizeof *plan->layers);
    if (plan->layers == NULL) return FBP_NO_MEMORY;
    for (int i = 0; i < n_specs; i++) {
        int64_t n_in = plan->n_layers == 0 ? plan->n_inputs : plan->n_outputs;
        fbp_status status = add_spec(plan, &specs[i], n_in);
        if (status != FBP_OK) return status;
    }
    if (plan->n_layers == 0)
        return fbp_fail(FBP_INVALID,
                        "layers: found none, wanted at least one layer with parameters");
    if (plan->layers[plan->n_layers - 1].activation != NULL)
        return fbp_fail(FBP_INVALID,
                        "layers: found the activation '%s' at the end, wanted a layer: the "
                        "loss takes the raw output",
                        plan->layers[plan->n_layers - 1].activation->name);
    plan->loss = fbp_variant_find(plan->variant, FBP_LOSS, loss->name);
    if (plan->loss == NULL) return FBP_INVALID;
    memcpy(plan->loss_attrs, loss->attrs, sizeof plan->loss_attrs);
    fbp_status status = fbp_row_check(plan->loss, plan->loss_attrs);
    if (status != FBP_OK) return status;
    double forward = 0.0, backward = 0.0;
    fbp_plan_flops(plan, &forward, &backward);
    plan->flops = forward + backward;
    return cut_tiles(plan);
}

fbp_status fbp_plan_create(int64_t n_inputs, int n_specs, const fbp_row_spec *specs,
                           const fbp_row_spec *loss, fbp_dtype dtype, int sparse, fbp_plan **out) {
    *out = NULL;
    if (n_inputs < 1 || n_inputs > INT32_MAX)
        return fbp_fail(FBP_INVALID, "n_inputs: found %lld, wanted 1 to %d", (long long)n_inputs,
                        INT32_MAX);
    fbp_plan *plan = fbp_alloc(sizeof *plan);
    if (plan == NULL) return FBP_NO_MEMORY;
    plan->dtype = dtype;
    plan->sparse = sparse;
    plan->n_inputs = n_inputs;
    plan->variant = fbp_variant_current();
    plan->gemm = plan->variant->gemm->kernels[dtype];
    plan->vector = plan->variant->vector->kernels[dtype];
    fbp_status status = compile(plan, n_specs, specs, loss);
    if (status != FBP_OK) {
        fbp_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return FBP_OK;
}

void fbp_plan_destroy(fbp_plan *plan) {
    if (plan == NULL) return;
    fbp_pool_free(&plan->pool);
    fbp_free(plan->tiles);
    fbp_free(plan->layers);
    fbp_free(plan);
}
