/* Where the time of a pass goes: one thread makes it under the eyes of a clock. Nothing is computed
 * here that others would not compute; gradients are formed and forgotten. */
#include <string.h>

#include "core/callbacks.h"

enum { profiled_rows = 1024 }; /* of a block, as in a full gradient */

double *fbp_trace_seconds(const fbp_plan *plan, const fbp_trace *trace, const fbp_step *step) {
    if (trace == NULL || trace->seconds == NULL) return NULL;
    const fbp_graph *graph = &plan->graph;
    int none = graph->n_nodes, node = step->index, back = 0;
    switch (step->kind) {
    case FBP_GATHER:
        node = none;
        break;
    case FBP_FORWARD:
        back = step->again;
        break;
    case FBP_LOSS_OF:
        node = none;
        back = 1;
        break;
    case FBP_BACKWARD:
    case FBP_SUM:
        back = 1;
        break;
    case FBP_ONES: /* of a value, or of its gradient: they go to the node that it comes from */
    case FBP_PASS:
    case FBP_ADD:
    case FBP_ZEROS:
        back = step->kind != FBP_ONES || step->again;
        node = graph->values[step->index].source == FBP_FROM_NODE ? graph->values[step->index].index
                                                                  : none;
        break;
    case FBP_GRADIENTS: /* unit by unit: below */
        return NULL;
    case FBP_STORE:
    case FBP_LOAD: {
        fbp_step of = *step;
        of.kind = step->of;
        return fbp_trace_seconds(plan, trace, &of);
    }
    }
    return &trace->seconds[2 * node + back];
}

typedef struct {
    fbp_pass pass;
    const void *params;
    int64_t rows; /* of a block */
    double *seconds;
} profiling;

static void carve(void *context, fbp_carver *carver) {
    profiling *call = context;
    fbp_pass_carve(&call->pass, call->pass.plan, call->params, call->rows, call->rows, 1, carver);
}

static void profile_unit(void *context, fbp_lane *lane, const fbp_units *unit) {
    profiling *call = context;
    int node = fbp_unit_part(call->pass.plan, lane->batch, unit).use->node;
    double before = fbp_seconds();
    fbp_unit_gradient(lane, unit);
    call->seconds[2 * node + 1] += fbp_seconds() - before;
}

fbp_status fbp_profile(fbp_plan *plan, const void *params, const fbp_problem *problem,
                       double *seconds) {
    double weight = 0.0;
    fbp_status status = fbp_check_problem(plan, problem, &weight);
    if (status != FBP_OK) return status;
    int64_t n = fbp_problem_rows(problem);
    int together = plan->training.n_meetings > 0;
    profiling call = {.pass = {.plan = plan, .form = profile_unit}, .params = params};
    call.pass.form_context = &call;
    call.seconds = seconds;
    call.rows = n < profiled_rows || together ? n : profiled_rows;
    fbp_scratch scratch;
    status = fbp_pool_carve(&plan->pool, carve, &call, &scratch);
    if (status != FBP_OK) return status;
    memset(seconds, 0, 2 * ((size_t)plan->graph.n_nodes + 1) * sizeof *seconds);
    fbp_units_reset(&call.pass);
    fbp_pass_begin(&call.pass, &fbp_alone);
    for (int64_t first = 0; first < n; first += call.rows) {
        int64_t rows = n - first < call.rows ? n - first : call.rows;
        fbp_batch batch = fbp_batch_of(problem, first, rows, weight);
        fbp_trace trace = {.first = first, .seconds = seconds};
        fbp_rows_traced(&call.pass, &batch, &trace);
        if (fbp_callback_failed(&call.pass)) break;
        if (plan->training.n_turns == 0) fbp_take_turn(&call.pass, &batch, &fbp_alone, 0);
    }
    status = fbp_calls_end(&call.pass, FBP_OK);
    fbp_pool_give(&plan->pool, scratch);
    return status;
}
