/* Compiling a graph: what its shapes decide before anything runs. How products are formed, how
 * samples and parameters are cut into tiles, and how much work is worth a thread. */
#include "core/plan.h"

#include <math.h>
#include <string.h>

#include "core/status.h"

/* ---- the rules that choose how a node's products are formed ---- */

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

static int wants_blas(const fbp_plan *plan, int64_t n_in, int64_t n_out) {
    int i = 0;
    while (blas_rules[i].isa != NULL && strcmp(blas_rules[i].isa, plan->variant->isa) != 0) i++;
    int64_t from = blas_rules[i].from_width[plan->dtype];
    int can = fbp_blas_present(plan->dtype) && plan->half == NULL; /* which is not BLAS's to read */
    return n_in >= from && n_out >= from && can;
}

/* Input 1 of a node with copies is its matrix of weights. */
static void choose_products(fbp_plan *plan, fbp_node *node) {
    if (!fbp_packs(node)) {
        node->products = FBP_PACKED;
        return;
    }
    int64_t n_in = fbp_positions(&node->in[1]), n_out = fbp_width(&node->in[1]);
    node->products = FBP_IN_PARTS;
    if (n_in * n_out < parts_from) node->products = FBP_PACKED;
    if (wants_blas(plan, n_in, n_out)) node->products = FBP_BLAS;
    node->columns = node->products == FBP_BLAS ? blas_columns : plan->gemm->columns;
    plan->uses_blas |= node->products == FBP_BLAS;
    plan->copies_weights |= node->products != FBP_PACKED;
}

int64_t fbp_leading(fbp_dtype dtype, int64_t n) {
    int64_t pad = fbp_pad(dtype), ld = fbp_round_up(n + 1, pad);
    return ld % (8 * pad) == 0 ? ld + pad : ld;
}

/* ---- tiles of samples ---- */

/* Elements of a tile that stay in the second cache beside the weights. */
static const int64_t tile_elements = 1 << 17;

static int64_t least_samples(const fbp_plan *plan) {
    int64_t least = 1;
    for (int n = 0; n < plan->graph.n_nodes; n++)
        if (plan->graph.nodes[n].row->least_samples > least)
            least = plan->graph.nodes[n].row->least_samples;
    return least;
}

/* Of samples that are one row each, 64; where tiles copy weights anew, more. Of samples with many
 * rows as many as stay in cache, in the numbers that their rows want. */
int64_t fbp_row_tile(const fbp_plan *plan, int64_t batch) {
    if (plan->most_positions > 1) {
        int64_t fit = tile_elements / (plan->widest_sample + 1), least = least_samples(plan);
        fit = fit < 64 ? fit : 64;
        return fit > least ? fit - fit % least : least;
    }
    if (!plan->copies_weights) return 64;
    int64_t whole = fbp_round_up(batch, 64);
    return whole < 512 ? whole : 512;
}

int64_t fbp_row_step(const fbp_plan *plan, int64_t batch) {
    if (plan->uses_blas) return fbp_row_tile(plan, batch);
    return plan->most_positions > 1 ? 1 : 8;
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
    double span = 0.0;
    for (int n = 0; n < plan->graph.n_nodes; n++) {
        const fbp_node *node = &plan->graph.nodes[n];
        int cut = by_columns && fbp_node_ops(node)->pack != NULL;
        int back = plan->graph.values[plan->graph.inputs[n][0]].gradient;
        if (fbp_is_elementwise(node) || node->alone) continue;
        double flops =
            node->row->reads_sparse ? (double)fbp_width(&node->out[0]) : fbp_product_flops(node);
        int64_t out = cut ? fbp_column_pieces(node, fbp_width(&node->out[0])) : 1;
        int64_t in = cut ? fbp_column_pieces(node, fbp_width(&node->in[0])) : 1;
        span += flops * (double)rows * busiest(units * out, n_threads);
        if (back) span += flops * (double)rows * busiest(units * in, n_threads);
        if (by_columns) span += 2.0 * flops_per_meeting;
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
    for (int n = 0; n < plan->graph.n_nodes; n++) {
        const fbp_node *node = &plan->graph.nodes[n];
        if (node->products == FBP_PACKED) continue;
        double weights = (double)fbp_elements(&node->in[1]);
        int64_t out = fbp_column_pieces(node, fbp_width(&node->out[0]));
        int64_t in = fbp_column_pieces(node, fbp_width(&node->in[0]));
        int back = plan->graph.values[plan->graph.inputs[n][0]].gradient;
        elements += weights * (by_columns ? busiest(units * out, n_threads) : 1.0);
        if (back) elements += weights * (by_columns ? busiest(units * in, n_threads) : 1.0);
    }
    return flops_per_copy * elements * (double)tiles;
}

int fbp_cuts_columns(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads) {
    double span[2];
    if (!plan->is_chain || plan->training.n_meetings > 0 || n_threads == 1) return 0;
    for (int form = 0; form < 2; form++)
        span[form] = fbp_rows_span(plan, rows, batch, n_threads, form) +
                     copying(plan, rows, batch, n_threads, form);
    return span[1] < span[0];
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

/* Before each sum over the batch threads meet, and mostly once more behind it. */
static double meeting(const fbp_plan *plan) {
    return 2.0 * flops_per_meeting * (double)plan->training.n_meetings;
}

int fbp_threads_for_step(const fbp_plan *plan, double flops, int n_threads) {
    return threads_for(flops, flops_per_step_thread + meeting(plan), n_threads);
}

int fbp_threads_for_call(const fbp_plan *plan, double flops, int n_threads) {
    return threads_for(flops, flops_per_call_thread + meeting(plan), n_threads);
}

double fbp_sample_flops(const fbp_plan *plan, const fbp_samples *x) {
    double flops = plan->flops;
    for (int n = 0; n < plan->graph.n_nodes; n++) {
        const fbp_node *node = &plan->graph.nodes[n];
        if (!node->row->reads_sparse) continue;
        const fbp_samples *from = &x[plan->graph.values[plan->graph.inputs[n][0]].index];
        if (from->rows == 0) continue;
        double density = (double)from->stored / (double)from->rows / (double)from->cols;
        /* Forward, and backward to the weights. */
        flops -= 2.0 * fbp_product_flops(node) * (1.0 - density);
    }
    return flops;
}

/* ---- making a plan ---- */

static void measure(fbp_plan *plan) {
    const fbp_graph *graph = &plan->graph;
    plan->is_chain = graph->n_losses == 1 && graph->n_inputs == 1;
    plan->most_positions = 1;
    for (int v = 0; v < graph->n_values; v++) {
        const fbp_operand *x = &graph->values[v].is;
        if (!x->is.batched || x->is.content == FBP_SPARSE) continue;
        if (fbp_positions(x) > plan->most_positions) plan->most_positions = fbp_positions(x);
    }
    for (int n = 0; n < graph->n_nodes; n++) {
        const fbp_node *node = &graph->nodes[n];
        int last =
            n == 0 ? graph->inputs[n][0] == 0 : graph->inputs[n][0] == graph->first_result[n - 1];
        plan->is_chain &= last && (fbp_is_elementwise(node) || node->row->bias_follows);
    }
    for (int n = 0; n < graph->n_nodes; n++)
        for (fbp_way way = FBP_RUN_FORWARD; way <= FBP_RUN_BACKWARD; way++) {
            const fbp_node *node = &graph->nodes[n];
            int by_row = node->alone && node->callback == NULL;
            int64_t bytes = by_row ? (int64_t)fbp_alone_bytes(node, way) : 0;
            if (bytes > plan->alone_bytes) plan->alone_bytes = bytes;
        }
    plan->is_chain &= plan->most_positions == 1;
    plan->flops = graph->flops[0] + graph->flops[1] + plan->training.flops_again;
}

/* Elements of a sample, of which the tiles of samples hang on: as without checkpoints, since the
 * bits of BLAS hang on the tiles. */
static fbp_status measure_sample(fbp_plan *plan) {
    const fbp_schedule *schedule = &plan->training;
    fbp_schedule plain = {0};
    fbp_status status = FBP_OK;
    if (plan->graph.last_checkpoint > 0) {
        fbp_graph graph = plan->graph; /* whose nodes are the plan's */
        graph.last_checkpoint = 0;
        status = fbp_schedule_make(&plain, &graph, 0, NULL);
        schedule = &plain;
    }
    plan->widest_sample = schedule->batch_elements + schedule->tile_elements;
    fbp_schedule_free(&plain);
    return status;
}

static fbp_status compile(fbp_plan *plan, const fbp_graph_spec *spec) {
    fbp_status status = fbp_graph_make(&plan->graph, spec);
    if (status != FBP_OK) return status;
    if (spec->n_nodes < 1 || spec->n_outputs < 1 || spec->n_outputs > FBP_MAX_INPUTS)
        return fbp_fail(FBP_INVALID,
                        "graph: found %d nodes and %d outputs, wanted at least one of each and at "
                        "most %d outputs",
                        spec->n_nodes, spec->n_outputs, FBP_MAX_INPUTS);
    for (int n = 0; n < plan->graph.n_nodes; n++) choose_products(plan, &plan->graph.nodes[n]);
    plan->outputs = fbp_alloc((size_t)spec->n_outputs * sizeof *plan->outputs);
    if (plan->outputs == NULL) return FBP_NO_MEMORY;
    plan->n_outputs = spec->n_outputs;
    for (int i = 0; i < spec->n_outputs; i++) {
        int v = plan->outputs[i] = spec->outputs[i];
        if (v < 0 || v >= plan->graph.n_values || plan->graph.values[v].source != FBP_FROM_NODE ||
            !plan->graph.values[v].is.is.batched)
            return fbp_fail(FBP_INVALID,
                            "output %d: found value %d, wanted the result of a node, of samples", i,
                            v);
    }
    status = fbp_schedule_make(&plan->training, &plan->graph, 0, NULL);
    if (status == FBP_OK)
        status = fbp_schedule_make(&plan->prediction, &plan->graph, plan->n_outputs, plan->outputs);
    if (status == FBP_OK) status = fbp_cut_parameters(plan);
    if (status == FBP_OK) measure(plan);
    return status == FBP_OK ? measure_sample(plan) : status;
}

fbp_status fbp_plan_of_graph(const fbp_graph_spec *spec, fbp_plan **out) {
    *out = NULL;
    fbp_plan *plan = fbp_alloc(sizeof *plan);
    if (plan == NULL) return FBP_NO_MEMORY;
    plan->dtype = spec->dtype;
    plan->variant = fbp_variant_current();
    plan->gemm = plan->variant->gemm->kernels[plan->dtype];
    plan->vector = plan->variant->vector->kernels[plan->dtype];
    plan->half = fbp_halves(plan->variant, spec->precision);
    fbp_status status = compile(plan, spec);
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
    fbp_graph_free(&plan->graph);
    fbp_schedule_free(&plan->training);
    fbp_schedule_free(&plan->prediction);
    fbp_free(plan->outputs);
    fbp_free(plan->tiles);
    fbp_free(plan->copies);
    fbp_free(plan->uses);
    fbp_free(plan->first_use);
    fbp_free(plan);
}
