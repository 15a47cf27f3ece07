/* Forward mode: the derivative of a pass along one direction of the parameters and of the samples.
 * One thread, tile by tile, every value in a buffer of its own, without packed copies. What
 * parameters and constants alone make goes forward before the first tile. */
#include <string.h>

#include "core/status.h"
#include "core/tangents.h"

enum { most_tangent_rows = 64 };

/* ---- memory ---- */

static void *carve_one(const fbp_tangents *call, const fbp_operand *x, fbp_carver *carver) {
    int64_t n = fbp_extent(x, call->tile) + fbp_pad(call->plan->dtype);
    return fbp_carve(carver, n, fbp_size(call->plan->dtype));
}

static void carve_strand(const fbp_tangents *call, const fbp_operand *x, fbp_strand *s,
                         fbp_carver *carver) {
    fbp_strand made = {carve_one(call, x, carver), carve_one(call, x, carver), NULL, NULL, 0};
    if (call->back) {
        made.d = carve_one(call, x, carver);
        made.td = carve_one(call, x, carver);
    }
    if (carver->base != NULL) *s = made;
}

static void carve_strands(fbp_tangents *call, fbp_carver *carver) {
    const fbp_graph *graph = &call->plan->graph;
    call->values = fbp_carve(carver, graph->n_values, sizeof *call->values);
    call->kept = fbp_carve(carver, (int64_t)graph->n_nodes * FBP_MAX_OUTPUTS, sizeof *call->kept);
    for (int v = 0; v < graph->n_values; v++)
        if ((graph->values[v].is.is.batched && !fbp_is_sparse(&graph->values[v])) ||
            graph->values[v].source == FBP_FROM_NODE)
            carve_strand(call, &graph->values[v].is, &call->values[v], carver);
    for (int n = 0; n < graph->n_nodes; n++) {
        const fbp_node *node = &graph->nodes[n];
        for (int i = node->n_out; i < node->n_out + node->n_kept; i++) {
            fbp_operand kept = fbp_kept_operand(node, i);
            carve_strand(call, &kept, &call->kept[n * FBP_MAX_OUTPUTS + i], carver);
        }
    }
}

static void carve(void *context, fbp_carver *carver) {
    fbp_tangents *call = context;
    const fbp_graph *graph = &call->plan->graph;
    size_t size = fbp_size(call->plan->dtype), scratch = 0;
    carve_strands(call, carver);
    int64_t widest = 0, unbatched = 0, positions = 1;
    size_t target = 0;
    for (int v = 0; v < graph->n_values; v++) {
        const fbp_operand *x = &graph->values[v].is;
        int64_t elements = fbp_elements(x);
        if (x->sample_stride * call->tile > widest) widest = x->sample_stride * call->tile;
        if (!x->is.batched && elements > unbatched) unbatched = elements;
    }
    if (graph->flops_alone[0] > 0.0 && unbatched > widest) widest = unbatched;
    for (int n = 0; n < graph->n_nodes; n++) {
        const fbp_node *node = &graph->nodes[n];
        size_t bytes = 0;
        for (fbp_way way = FBP_RUN_FORWARD; node->alone && way <= FBP_RUN_BACKWARD_TANGENT; way++)
            if (fbp_alone_bytes(node, way) > bytes) bytes = fbp_alone_bytes(node, way);
        if (!node->alone && fbp_node_ops(node)->scratch_bytes != NULL)
            bytes = fbp_node_ops(node)->scratch_bytes(node, call->tile);
        if (bytes > scratch) scratch = bytes;
    }
    for (int i = 0; i < graph->n_losses; i++) {
        const fbp_loss *loss = &graph->losses[i];
        int64_t own = fbp_positions(&graph->values[loss->value].is);
        size_t bytes = fbp_target_bytes(graph, loss);
        if (own > positions) positions = own;
        if (bytes > target) target = bytes;
    }
    call->zeros = fbp_carve(carver, unbatched, size);
    for (int i = 0; i < FBP_MAX_INPUTS + FBP_MAX_OUTPUTS; i++)
        call->again[i] = fbp_carve(carver, widest + fbp_pad(call->plan->dtype), size);
    call->scratch = fbp_carve(carver, (int64_t)scratch, 1);
    call->scale = fbp_carve(carver, call->tile * positions, size);
    call->loss = fbp_carve(carver, call->tile * positions, size);
    call->target = fbp_carve(carver, call->tile, target);
    if (carver->base != NULL) memset(call->zeros, 0, (size_t)unbatched * size);
}

fbp_status fbp_tangents_start(fbp_tangents *call, fbp_plan *plan, int64_t rows,
                              fbp_scratch *scratch) {
    for (int n = 0; n < plan->graph.n_nodes; n++)
        if (plan->graph.nodes[n].callback != NULL)
            return fbp_fail(FBP_ABSENT, "%s is a Function, which has no tangent",
                            plan->graph.nodes[n].row->name);
    if (plan->training.coupled >= 0)
        return fbp_fail(FBP_ABSENT,
                        "the row '%s' couples the samples of a batch: tangents take them in tiles",
                        plan->graph.nodes[plan->training.coupled].row->name);
    int64_t tile = plan->most_positions > 1 ? fbp_row_tile(plan, rows) : most_tangent_rows;
    call->plan = plan;
    call->tile = tile < rows ? tile : rows;
    return fbp_pool_carve(&plan->pool, carve, call, scratch);
}

/* ---- forward ---- */

void fbp_tangents_pad(const fbp_tangents *call, const fbp_operand *x, int64_t rows, double first,
                      void *at) {
    if (x->row_stride == fbp_width(x)) return;
    call->plan->vector->set_bias_input(rows * fbp_positions(x), fbp_width(x), x->row_stride, first,
                                       at);
}

/* tx (n, elements), dense, to the value's layout; NULL: zeros. */
static void take_tangent(const fbp_tangents *call, const fbp_value *value, const void *tx,
                         int64_t first, int64_t rows, void *to) {
    const fbp_plan *plan = call->plan;
    const fbp_operand *x = &value->is;
    size_t size = fbp_size(plan->dtype), width = (size_t)fbp_width(x) * size;
    memset(to, 0, (size_t)(rows * x->sample_stride) * size);
    for (int64_t r = 0; tx != NULL && r < rows * fbp_positions(x); r++)
        memcpy(fbp_at(plan, to, r * x->row_stride),
               fbp_at(plan, tx, first * fbp_elements(x) + r * fbp_width(x)), width);
}

void fbp_tangents_fill(fbp_tangents *call, int n, const fbp_batch *batch, fbp_call *to,
                       fbp_sparse_rows *sparse) {
    const fbp_plan *plan = call->plan;
    const fbp_graph *graph = &plan->graph;
    const fbp_node *node = &graph->nodes[n];
    for (int i = 0; i < node->n_in; i++) {
        const fbp_value *value = &graph->values[graph->inputs[n][i]];
        const fbp_strand *s = &call->values[graph->inputs[n][i]];
        if (value->source == FBP_FROM_PARAMETER) {
            int64_t offset = graph->parameters[value->index].offset;
            to->at.x[i] = fbp_at(plan, call->params, offset);
            to->at.tx[i] = fbp_at(plan, call->tparams, offset);
        } else if (value->source == FBP_FROM_CONSTANT) {
            to->at.x[i] = graph->constants[value->index];
            to->at.tx[i] = call->zeros;
        } else if (fbp_is_sparse(value)) {
            sparse[i] = fbp_batch_sparse(batch, value->index, 0);
            to->at.x[i] = &sparse[i];
        } else {
            to->at.x[i] = s->x;
            to->at.tx[i] = s->tx;
        }
    }
    for (int i = 0; i < node->n_out + node->n_kept; i++) {
        const fbp_strand *s = i < node->n_out ? &call->values[graph->first_result[n] + i]
                                              : &call->kept[n * FBP_MAX_OUTPUTS + i];
        to->at.y[i] = s->x;
        to->at.ty[i] = s->tx;
        to->at.dy[i] = s->d;
        to->at.tdy[i] = s->td;
    }
    to->at.samples = batch->rows;
    to->at.training = batch->masks;
    to->at.draws = batch->draws;
    to->at.draws.stream = node->stream;
    to->at.draws.first = batch->first;
    to->scratch = call->scratch;
}

fbp_call fbp_tangents_alone(fbp_tangents *call, int n, const fbp_batch *batch) {
    fbp_sparse_rows none[FBP_MAX_INPUTS];
    fbp_call one = {.begin = 0};
    fbp_tangents_fill(call, n, batch, &one, none);
    one.at.samples = call->plan->graph.nodes[n].samples;
    one.at.draws.first = 0;
    return one;
}

static void forward_alone(fbp_tangents *call, int n, const fbp_batch *batch) {
    const fbp_node *node = &call->plan->graph.nodes[n];
    fbp_call one = fbp_tangents_alone(call, n, batch);
    fbp_run_alone(node, &one.at, FBP_RUN_FORWARD, call->scratch);
    fbp_run_alone(node, &one.at, FBP_RUN_TANGENT, call->scratch);
}

void fbp_tangents_forward(fbp_tangents *call, const fbp_batch *batch, const void *const *tx0) {
    const fbp_plan *plan = call->plan;
    const fbp_graph *graph = &plan->graph;
    for (int v = 0; v < graph->n_inputs; v++) {
        const fbp_value *value = &graph->values[v];
        if (fbp_is_sparse(value)) continue;
        fbp_batch_gather(plan, batch, value, 0, batch->rows, call->values[v].x);
        take_tangent(call, value, tx0 == NULL ? NULL : tx0[v], batch->first, batch->rows,
                     call->values[v].tx);
    }
    for (int n = 0; n < graph->n_nodes; n++) {
        const fbp_node *node = &graph->nodes[n];
        if (node->alone) {
            if (batch->first == 0) forward_alone(call, n, batch);
            continue;
        }
        fbp_sparse_rows sparse[FBP_MAX_INPUTS];
        fbp_call one = {.begin = 0};
        fbp_tangents_fill(call, n, batch, &one, sparse);
        fbp_node_ops(node)->forward(node, &one);
        fbp_run_tangent(node, &one, call->again);
        for (int i = 0; i < node->n_out; i++) {
            const fbp_operand *y = &node->out[i];
            fbp_tangents_pad(call, y, batch->rows, 1.0, one.at.y[i]);
            fbp_tangents_pad(call, y, batch->rows, 0.0, one.at.ty[i]);
        }
    }
}

/* Tangents of samples in compressed rows, and of rows without one, cannot be had. */
static fbp_status check_tangents(const fbp_plan *plan, const void *const *tx) {
    for (int v = 0; tx != NULL && v < plan->graph.n_inputs; v++)
        if (tx[v] != NULL && plan->graph.values[v].is.is.content != FBP_REAL)
            return fbp_fail(FBP_ABSENT, "dX: the row '%s' has no tangent in its samples",
                            plan->graph.nodes[0].row->name);
    return FBP_OK;
}

fbp_status fbp_tangent(fbp_plan *plan, const void *params, const fbp_samples *x,
                       const void *tparams, const void *const *tx, void *const *tz) {
    fbp_status status = fbp_check_samples(plan, x);
    if (status == FBP_OK) status = check_tangents(plan, tx);
    if (status != FBP_OK || x[0].rows == 0) return status;
    fbp_tangents call = {.params = params, .tparams = tparams};
    fbp_scratch scratch;
    status = fbp_tangents_start(&call, plan, x[0].rows, &scratch);
    if (status != FBP_OK) return status;
    fbp_problem problem = {.x = x};
    for (int64_t first = 0; first < x[0].rows; first += call.tile) {
        int64_t left = x[0].rows - first, rows = left < call.tile ? left : call.tile;
        fbp_batch batch = {.problem = &problem, .first = first, .rows = rows};
        fbp_tangents_forward(&call, &batch, tx);
        for (int o = 0; o < plan->n_outputs; o++) {
            const fbp_operand *z = &plan->graph.values[plan->outputs[o]].is;
            int64_t k = fbp_width(z), positions = fbp_positions(z);
            for (int64_t r = 0; r < rows * positions; r++)
                memcpy(fbp_at(plan, tz[o], (first * positions + r) * k),
                       fbp_at(plan, call.values[plan->outputs[o]].tx, r * z->row_stride),
                       (size_t)k * fbp_size(plan->dtype));
        }
    }
    fbp_pool_give(&plan->pool, scratch);
    return FBP_OK;
}
