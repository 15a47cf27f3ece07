/* What is known of a plan before it runs: what it is, its FLOPs, and how its work spreads over
 * threads. (Its memory is counted where it is carved, in training.c.) */
#include <limits.h>

#include "core/pass.h"

fbp_plan_info fbp_plan_describe(const fbp_plan *plan) {
    const fbp_graph *graph = &plan->graph;
    fbp_plan_info info = {graph->n_params, graph->n_inputs, graph->n_parameters, graph->n_constants,
                          graph->n_nodes,  graph->n_values, graph->n_losses,     plan->n_outputs,
                          plan->outputs,   plan->dtype,     graph->precision,    plan->uses_blas};
    return info;
}

/* Bytes of a sample in a buffer of the training schedule. */
static int64_t bytes_at(const fbp_plan *plan, int buffer) {
    if (buffer < 0) return 0;
    const fbp_buffer *at = &plan->training.buffers[buffer];
    return at->elements * (int64_t)(at->store < 0 ? fbp_size(plan->dtype) : sizeof(uint16_t));
}

static int is_of_batch(const fbp_buffer *buffer) {
    return buffer->where == FBP_IN_BATCH || buffer->store >= 0;
}

fbp_node_place fbp_plan_node(const fbp_plan *plan, int n) {
    const fbp_node *node = &plan->graph.nodes[n];
    fbp_node_place place = {
        .row = node->row,
        .n_inputs = node->n_in,
        .n_results = node->n_out,
        .first_result = plan->graph.first_result[n],
        .inputs = plan->graph.inputs[n],
        .products = node->products,
        .called = node->callback != NULL,
        .goes_back = fbp_goes_back(&plan->graph, n),
        .reads_inputs = node->reads_in,
        .reads_results = node->reads_out & ((1u << node->n_out) - 1),
        .flops = {node->flops[0] * fbp_node_times(node), fbp_backward_flops(&plan->graph, n)},
        .checkpoint = fbp_is_derived(&plan->graph, n) ? 0 : node->checkpoint};
    place.runs_again = plan->training.again_at[place.first_result] >= 0;
    if (place.runs_again) place.flops[1] += node->flops[0];
    for (int i = node->n_out; i < node->n_out + node->n_kept; i++) {
        int at = plan->training.kept_at[n * FBP_MAX_OUTPUTS + i];
        place.kept += bytes_at(plan, at);
        if (at >= 0) place.kept_whole_batch |= is_of_batch(&plan->training.buffers[at]);
    }
    return place;
}

/* The buffer of a value that backward reads: in a checkpoint, of its second run. */
static int as_read_back(const fbp_schedule *schedule, int v) {
    return schedule->again_at[v] >= 0 ? schedule->again_at[v] : schedule->value_at[v];
}

fbp_value_place fbp_plan_value(const fbp_plan *plan, int v) {
    const fbp_value *value = &plan->graph.values[v];
    const fbp_schedule *schedule = &plan->training;
    fbp_value_place place = {
        .shape = value->is.is, .offset = -1, .shares = -1, .gradient = value->gradient};
    if (value->source == FBP_FROM_PARAMETER)
        place.offset = plan->graph.parameters[value->index].offset;
    int at = as_read_back(schedule, v);
    if (at < 0) return place;
    for (int before = v - 1; before >= 0; before--)
        if (as_read_back(schedule, before) == at) place.shares = before;
    place.bytes = place.shares < 0 ? bytes_at(plan, at) : 0;
    place.whole_batch = is_of_batch(&schedule->buffers[at]);
    return place;
}

fbp_loss_place fbp_plan_loss_at(const fbp_plan *plan, int loss) {
    const fbp_loss *one = &plan->graph.losses[loss];
    fbp_loss_place place = {one->row, one->value, one->factor, fbp_loss_flops(&plan->graph, one)};
    return place;
}

/* ---- the order of a pass ---- */

static const char *told(const fbp_step *step) {
    switch (step->kind) {
    case FBP_FORWARD:
        return step->again ? "forward_again" : "forward";
    case FBP_LOSS_OF:
        return "loss";
    case FBP_BACKWARD:
        return "backward";
    case FBP_SUM:
        return "backward_shared";
    default:
        return NULL;
    }
}

/* The turn of parameters' gradients that a step is, the weights phase being the last; or -1. */
static int turn_at(const fbp_schedule *schedule, int s) {
    if (s == schedule->n_steps) return schedule->n_turns == 0 ? 0 : -1;
    return schedule->steps[s].kind == FBP_GRADIENTS ? schedule->steps[s].index : -1;
}

/* The use that is number `count` of those that have this turn; or, past the last, n_uses. Counts
 * them down. */
static int find_use(const fbp_plan *plan, int turn, int *count) {
    int u = 0;
    for (; u < plan->n_uses; u++)
        if (plan->training.turn_of[plan->uses[u].node] == turn && (*count)-- == 0) break;
    return u;
}

/* Number `count` of what is told, counted down to what is left past the last. */
static fbp_planned find_planned(const fbp_plan *plan, int *count) {
    const fbp_schedule *schedule = &plan->training;
    fbp_planned planned = {NULL, -1};
    for (int s = 0; s <= schedule->n_steps && planned.what == NULL; s++) {
        int turn = turn_at(schedule, s), use = turn < 0 ? -1 : find_use(plan, turn, count);
        const fbp_step *step = s < schedule->n_steps ? &schedule->steps[s] : NULL;
        if (use >= 0 && use < plan->n_uses)
            planned = (fbp_planned){"backward_shared", plan->uses[use].node};
        else if (use < 0 && step != NULL && told(step) != NULL && (*count)-- == 0)
            planned = (fbp_planned){told(step), step->index};
    }
    return planned;
}

int fbp_plan_n_steps(const fbp_plan *plan) {
    int left = INT_MAX;
    find_planned(plan, &left);
    return INT_MAX - left;
}

fbp_planned fbp_plan_step(const fbp_plan *plan, int step) { return find_planned(plan, &step); }

void fbp_plan_flops(const fbp_plan *plan, int64_t samples, double *forward, double *backward) {
    const fbp_graph *graph = &plan->graph;
    *forward = graph->flops[0] * (double)samples + graph->flops_alone[0];
    double back = graph->flops[1] + plan->training.flops_again;
    *backward = back * (double)samples + graph->flops_alone[1];
}

/* The share of the busiest thread in the cost of the weights phase. */
static double busiest_share(const fbp_plan *plan, int64_t rows, int n_threads) {
    fbp_batch batch = {.rows = rows, .turn = FBP_ALL_TURNS};
    double most = 0.0, all = 0.0;
    for (int i = 0; i < n_threads; i++) {
        fbp_team team = {i, n_threads, NULL};
        fbp_range share = fbp_units_share(plan, &batch, &team);
        fbp_units units = fbp_units_begin(plan, &batch, fbp_most_parts(plan, rows), share);
        double cost = 0.0;
        for (; units.left > 0; fbp_units_next(plan, &batch, &units))
            cost += (double)plan->tiles[units.tile].cost / units.n_parts;
        if (cost > most) most = cost;
        all += cost;
    }
    return all > 0.0 ? most / all : 1.0;
}

fbp_balance fbp_plan_balance(const fbp_plan *plan, int64_t batch, int n_threads) {
    int by_columns = fbp_cuts_columns(plan, batch, batch, n_threads);
    double all = fbp_rows_span(plan, batch, batch, 1, 0);
    double span = fbp_rows_span(plan, batch, batch, n_threads, by_columns);
    fbp_balance balance = {all / n_threads / span,
                           1.0 / n_threads / busiest_share(plan, batch, n_threads), by_columns,
                           fbp_most_parts(plan, batch)};
    return balance;
}
