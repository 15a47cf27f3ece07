/* Forward mode, and forward over reverse: the derivative of a pass along one direction of the
 * parameters (and, in forward mode, of the samples). One thread, tile by tile, every value in a
 * buffer of its own, without packed copies. */
#include <string.h>

#include "core/pass.h"
#include "core/status.h"

enum { most_tangent_rows = 64 };

/* Of a value: what it is and its tangent, its gradient and the tangent of that; and whether a
 * gradient has come yet. */
typedef struct {
    void *x, *tx, *d, *td;
    int reached;
} strand;

typedef struct {
    const fbp_plan *plan;
    const void *params, *tparams;
    int64_t tile;
    int back;       /* gradients too */
    strand *values; /* (n_values) */
    strand *kept;   /* (n_nodes, FBP_MAX_OUTPUTS) */
    void *zeros;    /* of the largest parameter or constant, for a constant's tangent */
    void *again[FBP_MAX_INPUTS + FBP_MAX_OUTPUTS]; /* the largest operand each */
    void *scratch, *scale, *loss, *target;
} fbp_tangents;

/* ---- memory ---- */

static void *carve_one(const fbp_tangents *call, const fbp_operand *x, fbp_carver *carver) {
    int64_t n = call->tile * x->sample_stride + fbp_pad(call->plan->dtype);
    return fbp_carve(carver, n, fbp_size(call->plan->dtype));
}

static void carve_strand(const fbp_tangents *call, const fbp_operand *x, strand *s,
                         fbp_carver *carver) {
    strand made = {carve_one(call, x, carver), carve_one(call, x, carver), NULL, NULL, 0};
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
        if (graph->values[v].is.is.batched && !fbp_is_sparse(&graph->values[v]))
            carve_strand(call, &graph->values[v].is, &call->values[v], carver);
    for (int n = 0; n < graph->n_nodes; n++) {
        const fbp_node *node = &graph->nodes[n];
        for (int i = node->n_out; i < node->n_out + node->n_kept; i++)
            carve_strand(call, &node->out[i], &call->kept[n * FBP_MAX_OUTPUTS + i], carver);
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
    for (int n = 0; n < graph->n_nodes; n++) {
        const fbp_node *node = &graph->nodes[n];
        if (fbp_node_ops(node)->scratch_bytes == NULL) continue;
        size_t bytes = fbp_node_ops(node)->scratch_bytes(node, call->tile);
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

static fbp_status start(fbp_tangents *call, fbp_plan *plan, int64_t rows, fbp_scratch *scratch) {
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

/* Padding behind rows: a one behind those of values, none behind tangents and gradients. */
static void set_padding(const fbp_tangents *call, const fbp_operand *x, int64_t rows, double first,
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

static void fill_inputs(fbp_tangents *call, int n, const fbp_batch *batch, fbp_call *to,
                        fbp_sparse_rows *sparse) {
    const fbp_plan *plan = call->plan;
    const fbp_graph *graph = &plan->graph;
    const fbp_node *node = &graph->nodes[n];
    for (int i = 0; i < node->n_in; i++) {
        const fbp_value *value = &graph->values[graph->inputs[n][i]];
        const strand *s = &call->values[graph->inputs[n][i]];
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
        const strand *s = i < node->n_out ? &call->values[graph->first_result[n] + i]
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

/* Through all nodes for the samples of a tile; tx0 holds, for each input, NULL or the tangent of
 * all samples (n_samples, elements), dense. */
static void forward(fbp_tangents *call, const fbp_batch *batch, const void *const *tx0) {
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
        fbp_sparse_rows sparse[FBP_MAX_INPUTS];
        fbp_call one = {.begin = 0};
        fill_inputs(call, n, batch, &one, sparse);
        fbp_node_ops(node)->forward(node, &one);
        fbp_run_tangent(node, &one, call->again);
        for (int i = 0; i < node->n_out; i++) {
            const fbp_operand *y = &node->out[i];
            set_padding(call, y, batch->rows, 1.0, one.at.y[i]);
            set_padding(call, y, batch->rows, 0.0, one.at.ty[i]);
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
    status = start(&call, plan, x[0].rows, &scratch);
    if (status != FBP_OK) return status;
    fbp_problem problem = {.x = x};
    for (int64_t first = 0; first < x[0].rows; first += call.tile) {
        int64_t left = x[0].rows - first, rows = left < call.tile ? left : call.tile;
        fbp_batch batch = {.problem = &problem, .first = first, .rows = rows};
        forward(&call, &batch, tx);
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

/* ---- forward over reverse ---- */

/* A gradient with its tangent arrives at a value: written where none has come, else added. */
static void arrive(fbp_tangents *call, int v, int64_t rows, const void *d, const void *td) {
    strand *s = &call->values[v];
    int64_t n = rows * call->plan->graph.values[v].is.sample_stride;
    size_t bytes = (size_t)n * fbp_size(call->plan->dtype);
    if (s->reached) {
        call->plan->vector->add_scaled(n, 1.0, d, s->d);
        call->plan->vector->add_scaled(n, 1.0, td, s->td);
    } else {
        memcpy(s->d, d, bytes);
        memcpy(s->td, td, bytes);
    }
    s->reached = 1;
}

static void start_at_losses(fbp_tangents *call, const fbp_batch *batch) {
    const fbp_plan *plan = call->plan;
    for (int v = 0; v < plan->graph.n_values; v++) call->values[v].reached = 0;
    for (int i = 0; i < plan->graph.n_losses; i++) {
        const fbp_loss *loss = &plan->graph.losses[i];
        const fbp_loss_kernels *kernels = loss->row->kernels[plan->dtype];
        const fbp_operand *z = &plan->graph.values[loss->value].is;
        int64_t rows = batch->rows * fbp_positions(z), k = fbp_width(z), ld = z->row_stride;
        const strand *s = &call->values[loss->value];
        fbp_batch_targets(plan, batch, i, 0, batch->rows, call->target);
        fbp_batch_scales(plan, batch, loss, 0, batch->rows, call->scale);
        kernels->forward(rows, k, ld, s->x, call->target, call->scale, call->loss, call->again[0],
                         loss->attrs);
        kernels->tangent(rows, k, ld, s->x, s->tx, call->target, call->scale, NULL, call->again[1],
                         loss->attrs);
        if (plan->graph.values[loss->value].gradient)
            arrive(call, loss->value, batch->rows, call->again[0], call->again[1]);
    }
}

/* Gradients of a node's inputs and their tangents, in buffers of their own until they arrive. */
static void node_backward(fbp_tangents *call, int n, const fbp_batch *batch, fbp_call *one) {
    const fbp_plan *plan = call->plan;
    const fbp_graph *graph = &plan->graph;
    const fbp_node *node = &graph->nodes[n];
    for (int i = 0; i < node->n_in; i++) {
        int v = graph->inputs[n][i];
        int wanted = (node->differentiable & ~node->shared) >> i & 1u && graph->values[v].gradient;
        unsigned reads = node->reads_dx >> i & 1u;
        if (!wanted && !reads) continue;
        /* One input at a time: two buffers, and two for what a bilinear row yields again; two stay
         * as they are, for the gradients that are made of them. */
        one->at.dx[i] = call->again[reads ? 4 : 0];
        one->at.tdx[i] = call->again[reads ? 5 : 1];
        void *again[FBP_MAX_INPUTS] = {call->again[2], call->again[3]};
        fbp_node_ops(node)->backward(node, one);
        fbp_run_backward_tangent(node, one, again);
        if (wanted) arrive(call, v, batch->rows, one->at.dx[i], one->at.tdx[i]);
        if (!reads) one->at.dx[i] = one->at.tdx[i] = NULL;
    }
}

static void backward(fbp_tangents *call, const fbp_batch *batch, void *product) {
    const fbp_plan *plan = call->plan;
    const fbp_graph *graph = &plan->graph;
    start_at_losses(call, batch);
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        const fbp_node *node = &graph->nodes[n];
        int reached = 0;
        for (int i = 0; i < node->n_out; i++) {
            strand *s = &call->values[graph->first_result[n] + i];
            size_t bytes =
                (size_t)(batch->rows * node->out[i].sample_stride) * fbp_size(plan->dtype);
            reached |= s->reached;
            if (!s->reached) memset(s->d, 0, bytes), memset(s->td, 0, bytes);
            set_padding(call, &node->out[i], batch->rows, 0.0, s->d);
            set_padding(call, &node->out[i], batch->rows, 0.0, s->td);
        }
        if (!reached) continue;
        fbp_sparse_rows sparse[FBP_MAX_INPUTS];
        fbp_call one = {.begin = 0};
        fill_inputs(call, n, batch, &one, sparse);
        node_backward(call, n, batch, &one);
        for (int i = 0; i < node->n_in; i++) {
            const fbp_value *value = &graph->values[graph->inputs[n][i]];
            if (!(node->shared >> i & 1u) || !value->gradient) continue;
            fbp_run_shared_tangent(node, &one, i, 0, fbp_positions(&value->is), 1,
                                   fbp_at(plan, product, graph->parameters[value->index].offset));
        }
    }
}

static fbp_status check_backward_tangents(const fbp_plan *plan) {
    for (int i = 0; i < plan->graph.n_losses; i++) {
        const fbp_row *row = plan->graph.losses[i].row;
        if (((const fbp_loss_kernels *)row->kernels[plan->dtype])->tangent == NULL)
            return fbp_fail(FBP_ABSENT, "the loss '%s' has no tangent", row->name);
    }
    for (int n = 0; n < plan->graph.n_nodes; n++)
        if (!fbp_has_backward_tangent(plan->graph.nodes[n].row))
            return fbp_fail(FBP_ABSENT, "the row '%s' has no tangent of its backward",
                            plan->graph.nodes[n].row->name);
    return FBP_OK;
}

fbp_status fbp_hessian_product(fbp_plan *plan, const void *params, const fbp_problem *problem,
                               const void *v, void *product) {
    double weight = 0.0;
    fbp_status status = fbp_check_problem(plan, problem, &weight);
    if (status == FBP_OK) status = check_backward_tangents(plan);
    if (status != FBP_OK) return status;
    int64_t n = fbp_problem_rows(problem);
    fbp_tangents call = {.params = params, .tparams = v, .back = 1};
    fbp_scratch scratch;
    status = start(&call, plan, n, &scratch);
    if (status != FBP_OK) return status;
    memset(product, 0, (size_t)plan->graph.n_params * fbp_size(plan->dtype));
    for (int64_t first = 0; first < n; first += call.tile) {
        int64_t rows = n - first < call.tile ? n - first : call.tile;
        fbp_batch batch = {.problem = problem,
                           .first = first,
                           .rows = rows,
                           .weight = weight,
                           .masks = problem->masks,
                           .draws = problem->draws};
        forward(&call, &batch, NULL);
        backward(&call, &batch, product);
    }
    for (int t = 0; t < plan->n_tiles; t++) {
        int64_t offset = plan->tiles[t].offset;
        plan->vector->add_scaled(plan->tiles[t].weights, problem->alpha / weight,
                                 fbp_at(plan, v, offset), fbp_at(plan, product, offset));
    }
    fbp_pool_give(&plan->pool, scratch);
    return FBP_OK;
}
