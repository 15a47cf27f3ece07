/* Forward over reverse: the Hessian of the loss times a direction of the parameters, tile by tile.
 * What parameters and constants alone make goes back behind the last tile, by the sums of all. */
#include <string.h>

#include "core/status.h"
#include "core/tangents.h"

/* A gradient with its tangent arrives at a value: written where none has come, else added. */
static void arrive(fbp_tangents *call, int v, int64_t rows, const void *d, const void *td) {
    fbp_strand *s = &call->values[v];
    int64_t n = fbp_extent(&call->plan->graph.values[v].is, rows);
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
    for (int v = 0; v < plan->graph.n_values; v++)
        if (plan->graph.values[v].is.is.batched) call->values[v].reached = 0;
    for (int i = 0; i < plan->graph.n_losses; i++) {
        const fbp_loss *loss = &plan->graph.losses[i];
        const fbp_loss_kernels *kernels = loss->row->kernels[plan->dtype];
        const fbp_operand *z = &plan->graph.values[loss->value].is;
        int64_t rows = batch->rows * fbp_positions(z), k = fbp_width(z), ld = z->row_stride;
        const fbp_strand *s = &call->values[loss->value];
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

/* The gradient of an input that samples share, of these samples: of a parameter only its tangent is
 * wanted. */
static void shared_backward(fbp_tangents *call, int n, int i, const fbp_call *one, void *product) {
    const fbp_plan *plan = call->plan;
    const fbp_node *node = &plan->graph.nodes[n];
    const fbp_value *value = &plan->graph.values[plan->graph.inputs[n][i]];
    const fbp_strand *s = &call->values[plan->graph.inputs[n][i]];
    int64_t rows = fbp_positions(&value->is);
    void *to = s->td;
    if (value->source == FBP_FROM_PARAMETER)
        to = fbp_at(plan, product, plan->graph.parameters[value->index].offset);
    else
        fbp_node_ops(node)->backward_shared(node, one, i, 0, rows, 1, s->d);
    fbp_run_shared_tangent(node, one, i, 0, rows, 1, to);
}

/* Sums over all tiles begin with zeros. */
static void clear_derived(fbp_tangents *call) {
    const fbp_graph *graph = &call->plan->graph;
    for (int v = 0; v < graph->n_values; v++) {
        fbp_strand *s = &call->values[v];
        if (graph->values[v].source != FBP_FROM_NODE || !graph->values[v].derived) continue;
        size_t bytes = (size_t)fbp_elements(&graph->values[v].is) * fbp_size(call->plan->dtype);
        memset(s->d, 0, bytes);
        memset(s->td, 0, bytes);
        s->reached = 1;
    }
}

/* Back through what is derived, one input at a time. */
static void backward_derived(fbp_tangents *call, const fbp_batch *batch, void *product) {
    const fbp_plan *plan = call->plan;
    const fbp_graph *graph = &plan->graph;
    for (int n = graph->n_nodes - 1; n >= 0; n--)
        for (int i = 0; i < graph->nodes[n].n_in && graph->nodes[n].alone; i++) {
            const fbp_node *node = &graph->nodes[n];
            int v = graph->inputs[n][i];
            const fbp_value *x = &graph->values[v];
            if (!(node->differentiable >> i & 1u) || !x->gradient || !fbp_goes_back(graph, n))
                continue;
            fbp_call one = fbp_tangents_alone(call, n, batch);
            one.at.dx[i] = call->again[0];
            fbp_run_alone(node, &one.at, FBP_RUN_BACKWARD, call->scratch);
            one.at.dx[i] = NULL;
            one.at.tdx[i] = call->again[1];
            fbp_run_alone(node, &one.at, FBP_RUN_BACKWARD_TANGENT, call->scratch);
            if (x->source == FBP_FROM_PARAMETER)
                plan->vector->add_scaled(fbp_elements(&x->is), 1.0, call->again[1],
                                         fbp_at(plan, product, graph->parameters[x->index].offset));
            else
                arrive(call, v, batch->rows, call->again[0], call->again[1]);
        }
}

static void backward(fbp_tangents *call, const fbp_batch *batch, void *product) {
    const fbp_plan *plan = call->plan;
    const fbp_graph *graph = &plan->graph;
    start_at_losses(call, batch);
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        const fbp_node *node = &graph->nodes[n];
        int reached = 0;
        if (node->alone) continue;
        for (int i = 0; i < node->n_out; i++) {
            fbp_strand *s = &call->values[graph->first_result[n] + i];
            size_t bytes =
                (size_t)(batch->rows * node->out[i].sample_stride) * fbp_size(plan->dtype);
            reached |= s->reached;
            if (!s->reached) memset(s->d, 0, bytes), memset(s->td, 0, bytes);
            fbp_tangents_pad(call, &node->out[i], batch->rows, 0.0, s->d);
            fbp_tangents_pad(call, &node->out[i], batch->rows, 0.0, s->td);
        }
        if (!reached) continue;
        fbp_sparse_rows sparse[FBP_MAX_INPUTS];
        fbp_call one = {.begin = 0};
        fbp_tangents_fill(call, n, batch, &one, sparse);
        node_backward(call, n, batch, &one);
        for (int i = 0; i < node->n_in; i++) {
            int wanted = graph->values[graph->inputs[n][i]].gradient;
            if (wanted && node->shared >> i & 1u) shared_backward(call, n, i, &one, product);
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
        if (plan->graph.nodes[n].callback == NULL && /* which fbp_tangents_start tells of */
            !fbp_has_backward_tangent(plan->graph.nodes[n].row))
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
    status = fbp_tangents_start(&call, plan, n, &scratch);
    if (status != FBP_OK) return status;
    memset(product, 0, (size_t)plan->graph.n_params * fbp_size(plan->dtype));
    clear_derived(&call);
    for (int64_t first = 0; first < n; first += call.tile) {
        int64_t rows = n - first < call.tile ? n - first : call.tile;
        fbp_batch batch = fbp_batch_of(problem, first, rows, weight);
        fbp_tangents_forward(&call, &batch, NULL);
        backward(&call, &batch, product);
        if (first + rows == n) backward_derived(&call, &batch, product);
    }
    for (int t = 0; t < plan->n_tiles; t++) {
        int64_t offset = plan->tiles[t].offset;
        plan->vector->add_scaled(plan->tiles[t].weights, problem->alpha / weight,
                                 fbp_at(plan, v, offset), fbp_at(plan, product, offset));
    }
    fbp_pool_give(&plan->pool, scratch);
    return FBP_OK;
}
