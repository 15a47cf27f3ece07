/* What is known of a plan before it runs: what it is, its FLOPs, and how its work spreads over
 * threads. (Its memory is counted where it is carved, in training.c.) */
#include "core/pass.h"

fbp_plan_info fbp_plan_describe(const fbp_plan *plan) {
    const fbp_graph *graph = &plan->graph;
    fbp_plan_info info = {graph->n_params, graph->n_inputs, graph->n_parameters, graph->n_constants,
                          graph->n_nodes,  graph->n_values, graph->n_losses,     plan->n_outputs,
                          plan->outputs,   plan->dtype,     plan->uses_blas};
    return info;
}

/* Bytes of a sample in a buffer of the training schedule. */
static int64_t bytes_at(const fbp_plan *plan, int buffer) {
    if (buffer < 0) return 0;
    return plan->training.buffers[buffer].elements * (int64_t)fbp_size(plan->dtype);
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
        if (at >= 0) place.kept_whole_batch |= plan->training.buffers[at].where == FBP_IN_BATCH;
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
    place.whole_batch = schedule->buffers[at].where == FBP_IN_BATCH;
    return place;
}

fbp_loss_place fbp_plan_loss_at(const fbp_plan *plan, int loss) {
    const fbp_loss *one = &plan->graph.losses[loss];
    fbp_loss_place place = {one->row, one->value, one->factor, fbp_loss_flops(&plan->graph, one)};
    return place;
}

/* ---- the order of a pass ---- */

static const char *const told[] = {[FBP_FORWARD] = "forward",
                                   [FBP_LOSS_OF] = "loss",
                                   [FBP_BACKWARD] = "backward",
                                   [FBP_SUM] = "backward_shared"};

/* The step before which `count` are told, of those that are. */
static int find_told(const fbp_schedule *schedule, int count) {
    int s = 0;
    for (; s < schedule->n_steps; s++)
        if (told[schedule->steps[s].kind] != NULL && count-- == 0) break;
    return s;
}

int fbp_plan_n_steps(const fbp_plan *plan) {
    int count = plan->n_uses;
    for (int s = 0; s < plan->training.n_steps; s++)
        count += told[plan->training.steps[s].kind] != NULL;
    return count;
}

fbp_planned fbp_plan_step(const fbp_plan *plan, int step) {
    int in_rows_phase = fbp_plan_n_steps(plan) - plan->n_uses;
    if (step >= in_rows_phase) {
        fbp_planned shared = {"backward_shared", plan->uses[step - in_rows_phase].node};
        return shared;
    }
    const fbp_step *found = &plan->training.steps[find_told(&plan->training, step)];
    fbp_planned planned = {told[found->kind], found->index};
    return planned;
}

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
