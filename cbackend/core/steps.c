/* The steps of a schedule, each on some samples of a batch: what runs forward, through a loss and
 * back, and what an onlooker wants to see of it. Which samples, and by which thread, is told
 * elsewhere. */
#include <string.h>

#include "core/callbacks.h"
#include "core/unary.h"

/* ---- tracing ---- */

/* Copies the lane's rows of a value or gradient, for inspection only. */
static void trace_rows(const fbp_lane *lane, const fbp_trace *trace, void *const *traces, int v,
                       const void *from) {
    if (traces == NULL || traces[v] == NULL || lane->pass->schedule->value_at[v] < 0) return;
    const fbp_plan *plan = lane->pass->plan;
    const fbp_operand *x = &plan->graph.values[v].is;
    size_t size = fbp_size(plan->dtype), width = (size_t)fbp_width(x) * size;
    int64_t first = x->is.batched ? (trace->first + lane->row) * fbp_positions(x) : 0;
    for (int64_t r = 0; r < fbp_rows_of(x, lane->rows); r++)
        memcpy((char *)traces[v] + (size_t)(first + r) * width,
               (const char *)from + (size_t)(r * x->row_stride) * size, width);
}

static void look_for_bad(const fbp_lane *lane, const fbp_trace *trace, int n) {
    const fbp_plan *plan = lane->pass->plan;
    if (trace->bad_node == NULL || (*trace->bad_node >= 0 && *trace->bad_node <= n)) return;
    int v = plan->graph.first_result[n];
    const fbp_operand *y = &plan->graph.values[v].is;
    const void *at = fbp_lane_value(lane, v);
    for (int64_t r = 0; r < fbp_rows_of(y, lane->rows); r++)
        if (plan->vector->first_not_finite(fbp_width(y), fbp_at(plan, at, r * y->row_stride)) >= 0)
            *trace->bad_node = n;
}

/* What was finite may be beyond the largest number of 16 bits, once it is stored. Several results
 * may have had their place in a buffer; the last of them is in it. */
static void look_for_overflow(const fbp_lane *lane, const fbp_trace *trace, int buffer) {
    const fbp_graph *graph = &lane->pass->plan->graph;
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        if (lane->pass->schedule->value_at[graph->first_result[n]] != buffer) continue;
        look_for_bad(lane, trace, n);
        return;
    }
}

void fbp_trace_results(const fbp_lane *lane, const fbp_trace *trace, int n) {
    const fbp_graph *graph = &lane->pass->plan->graph;
    for (int i = 0; i < graph->nodes[n].n_out; i++) {
        int v = graph->first_result[n] + i;
        trace_rows(lane, trace, trace->values, v, fbp_lane_value(lane, v));
    }
    look_for_bad(lane, trace, n);
}

/* Gradients by what a node yields, complete once its backward is about to run. */
static void trace_gradient(const fbp_lane *lane, const fbp_trace *trace, int v) {
    if (trace->gradients[v] == NULL || lane->pass->schedule->gradient_at[v] < 0) return;
    trace_rows(lane, trace, trace->gradients, v, fbp_lane_gradient(lane, v));
}

void fbp_trace_gradients(const fbp_lane *lane, const fbp_trace *trace, int step) {
    const fbp_schedule *schedule = lane->pass->schedule;
    const fbp_graph *graph = &lane->pass->plan->graph;
    for (int v = 0; trace->gradients != NULL && v < graph->n_values; v++)
        if (schedule->complete_at[v] == step) trace_gradient(lane, trace, v);
}

/* ---- steps ---- */

/* On whole arrays, at a meeting. */
static void run_alone(fbp_lane *lane, const fbp_node *node, fbp_way way) {
    lane->call.at.samples = node->samples;
    lane->call.at.draws.first = 0;
    fbp_run_alone(node, &lane->call.at, way, lane->pass->alone);
}

static void run_forward(fbp_lane *lane, int n, int again) {
    const fbp_node *node = &lane->pass->plan->graph.nodes[n];
    if (node->callback != NULL) {
        fbp_callback_forward(lane, n, again);
        return;
    }
    if (node->alone) {
        fbp_lane_forward(lane, n);
        run_alone(lane, node, FBP_RUN_FORWARD);
        return;
    }
    fbp_node_ops(node)->forward(node, again ? fbp_lane_again(lane, n) : fbp_lane_forward(lane, n));
}

static void run_backward(fbp_lane *lane, const fbp_step *step) {
    const fbp_graph *graph = &lane->pass->plan->graph;
    const fbp_node *node = &graph->nodes[step->index];
    if (node->callback != NULL) {
        fbp_callback_backward(lane, step);
        return;
    }
    if (node->alone) fbp_lane_forward(lane, step->index); /* it may copy what it does not read */
    const fbp_call *call = fbp_lane_backward(lane, step->index);
    if (node->alone)
        run_alone(lane, node, FBP_RUN_BACKWARD);
    else
        fbp_node_ops(node)->backward(node, call);
}

static void set_padding(fbp_lane *lane, int v, double first, void *at) {
    const fbp_operand *x = &lane->pass->plan->graph.values[v].is;
    lane->pass->plan->vector->set_bias_input(lane->rows * fbp_positions(x), fbp_width(x),
                                             x->row_stride, first, at);
}

/* A sample of weight 0 is absent: should its loss overflow, 0 times infinity would be heard. */
static void mute_weightless(const fbp_lane *lane, const fbp_operand *z, const void *scale,
                            void *value, void *dz) {
    const fbp_plan *plan = lane->pass->plan;
    size_t size = fbp_size(plan->dtype);
    for (int64_t r = 0; r < lane->rows * fbp_positions(z); r++) {
        if (fbp_real_at(plan->dtype, scale, r) != 0.0) continue;
        memset(fbp_at(plan, value, r), 0, size);
        if (dz != NULL)
            memset(fbp_at(plan, dz, r * z->row_stride), 0, (size_t)z->row_stride * size);
    }
}

static void run_loss(fbp_lane *lane, const fbp_step *step, const fbp_trace *trace) {
    const fbp_plan *plan = lane->pass->plan;
    const fbp_loss *loss = &plan->graph.losses[step->index];
    const fbp_loss_kernels *kernels = loss->row->kernels[plan->dtype];
    const fbp_loss_room *room = &lane->pass->losses[step->index];
    const fbp_operand *z = &plan->graph.values[loss->value].is;
    int64_t positions = fbp_positions(z), k = fbp_width(z), ld = z->row_stride;
    void *at = fbp_lane_value(lane, loss->value);
    void *dz = step->to[0] < 0 ? NULL : fbp_lane_buffer(lane, step->to[0], z);
    void *target = (char *)room->target + (size_t)lane->row * fbp_target_bytes(&plan->graph, loss);
    int64_t place = (lane->batch->before + lane->row) * positions;
    void *scale = fbp_at(plan, room->scale, place), *value = fbp_at(plan, room->value, place);
    fbp_batch_targets(plan, lane->batch, step->index, lane->row, lane->rows, target);
    fbp_batch_scales(plan, lane->batch, loss, lane->row, lane->rows, scale);
    for (int o = 0; trace != NULL && trace->predictions != NULL && o < plan->n_outputs; o++)
        if (plan->outputs[o] == loss->value && trace->predictions[o] != NULL)
            kernels->predict(
                lane->rows * positions, k, ld, at, k,
                fbp_at(plan, trace->predictions[o], (trace->first + lane->row) * positions * k));
    kernels->forward(lane->rows * positions, k, ld, at, target, scale, value, dz, loss->attrs);
    if (lane->batch->problem->weight != NULL) mute_weightless(lane, z, scale, value, dz);
}

static void gather(fbp_lane *lane, int v) {
    const fbp_plan *plan = lane->pass->plan;
    fbp_batch_gather(plan, lane->batch, &plan->graph.values[v], lane->row, lane->rows,
                     fbp_lane_value(lane, v));
}

/* A gradient becomes another, or is added to it. */
static void join(fbp_lane *lane, const fbp_step *step) {
    const fbp_plan *plan = lane->pass->plan;
    const fbp_operand *is = &plan->graph.values[step->index].is;
    int64_t elements = fbp_extent(is, lane->rows);
    const void *from = fbp_lane_buffer(lane, step->from, is);
    void *to = fbp_lane_gradient(lane, step->index);
    if (step->kind == FBP_PASS)
        memcpy(to, from, (size_t)elements * fbp_size(plan->dtype));
    else
        plan->vector->add_scaled(elements, 1.0, from, to);
}

void fbp_run_step(fbp_lane *lane, const fbp_step *step, const fbp_trace *trace) {
    const fbp_graph *graph = &lane->pass->plan->graph;
    switch (step->kind) {
    case FBP_GATHER:
        gather(lane, step->index);
        break;
    case FBP_FORWARD:
        run_forward(lane, step->index, step->again);
        if (trace != NULL && !step->again) fbp_trace_results(lane, trace, step->index);
        break;
    case FBP_ONES:
        set_padding(lane, step->index, 1.0,
                    fbp_lane_buffer(lane, step->to[0], &graph->values[step->index].is));
        break;
    case FBP_LOSS_OF:
        run_loss(lane, step, trace);
        break;
    case FBP_BACKWARD:
        run_backward(lane, step);
        break;
    case FBP_PASS:
    case FBP_ADD:
        join(lane, step);
        break;
    case FBP_ZEROS:
        set_padding(lane, step->index, 0.0, fbp_lane_gradient(lane, step->index));
        break;
    case FBP_STORE:
        fbp_store_tile(lane, step->from);
        if (trace != NULL) look_for_overflow(lane, trace, step->from);
        break;
    case FBP_LOAD:
        fbp_load_tile(lane, step->from);
        break;
    case FBP_SUM: /* by all threads together: segments.c */
    case FBP_GRADIENTS:
        break;
    }
}

void fbp_run_steps(fbp_lane *lane, int begin, int end, const fbp_trace *trace) {
    const fbp_step *steps = lane->pass->schedule->steps;
    for (int s = begin; s < end; s++) {
        double *seconds = NULL, before = 0.0;
        if (trace != NULL) {
            fbp_trace_gradients(lane, trace, s);
            seconds = fbp_trace_seconds(lane->pass->plan, trace, &steps[s]);
        }
        if (seconds != NULL) before = fbp_seconds();
        fbp_run_step(lane, &steps[s], trace);
        if (seconds != NULL) *seconds += fbp_seconds() - before;
    }
    if (trace != NULL) fbp_trace_gradients(lane, trace, end);
}
