/* The rows phase, in two forms with the same bits; segments.c has a third, for plans where samples
 * are coupled.
 *
 * By rows: a thread takes its samples of the batch, tile by tile, through all steps of the
 * schedule, forward and back, without waiting for anyone. By columns: where the batch has too few
 * samples for the threads, each product of a chain is cut by output columns as well, and the team
 * meets after each. The file is long because both take the same steps, each of which is told once,
 * where the compiler can put it into either. */
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
    fbp_call *call = fbp_lane_backward(lane, step->index);
    for (int i = 0; i < node->n_in; i++)
        if (step->to[i] >= 0) call->at.dx[i] = fbp_lane_buffer(lane, step->to[i], &node->in[i]);
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

static void run_step(fbp_lane *lane, const fbp_step *step, const fbp_trace *trace) {
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
        run_step(lane, &steps[s], trace);
        if (seconds != NULL) *seconds += fbp_seconds() - before;
    }
    if (trace != NULL) fbp_trace_gradients(lane, trace, end);
}

/* ---- by rows ---- */

void fbp_run_tiles(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int begin, int end,
                   const fbp_trace *trace) {
    const fbp_plan *plan = pass->plan;
    int64_t unit = fbp_row_step(plan, pass->batch), tile = pass->tile;
    fbp_range share = fbp_share((batch->rows + unit - 1) / unit, team);
    int64_t last = share.end * unit < batch->rows ? share.end * unit : batch->rows;
    double flops = plan->flops * (double)(end - begin) / (double)pass->schedule->n_steps;
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    for (int64_t row = share.begin * unit; row < last; row += tile) {
        lane.row = row;
        lane.rows = last - row < tile ? last - row : tile;
        if (fbp_pass_stopped(pass)) return;
        fbp_run_steps(&lane, begin, end, trace);
        fbp_watch_work(&pass->watch, team, flops * (double)lane.rows);
    }
}

/* Steps [0, end), which need no columns cut. */
static void by_rows(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int end,
                    const fbp_trace *trace) {
    if (pass->schedule->n_meetings > 0)
        fbp_run_segments(pass, batch, team, end, trace);
    else
        fbp_run_tiles(pass, batch, team, 0, end, trace);
}

/* ---- by columns ---- */

/* A piece of a product's output: rows of the batch and columns. */
typedef struct {
    int64_t row, rows, begin, end;
} piece;

/* This thread's pieces of an output n columns wide, one after the other. They are counted down the
 * rows first, so that a thread reads few columns of the weights; rows that follow each other are
 * taken together as far as a tile holds them, and on BLAS, whose bits would change, never. */
typedef struct {
    const fbp_node *node;
    int64_t n, rows, unit, tile;
    fbp_range share;
} pieces;

static int is_cut(const fbp_node *node) { return fbp_node_ops(node)->pack != NULL; }

static pieces pieces_of(const fbp_pass *pass, const fbp_batch *batch, const fbp_node *node,
                        int64_t n, const fbp_team *team) {
    pieces all = {.node = node, .n = n, .rows = batch->rows};
    all.unit = fbp_row_step(pass->plan, pass->batch);
    all.tile = fbp_row_tile(pass->plan, pass->batch);
    int64_t columns = is_cut(node) ? fbp_column_pieces(node, n) : 1;
    all.share = fbp_share(columns * fbp_pieces(batch->rows, all.unit), team);
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
    p->begin = is_cut(left->node) ? column * left->node->columns : 0;
    p->end = is_cut(left->node) ? fbp_piece_end(left->node, p->begin, left->n) : left->n;
    return 1;
}

static int overlap(const fbp_buffer *a, const fbp_buffer *b) {
    return a->where == b->where && a->offset < b->offset + b->elements &&
           b->offset < a->offset + a->elements;
}

/* Whether a buffer takes room of another that an earlier step works in: that one is done with it,
 * but on its own piece alone. */
static int takes_room_of(const fbp_pass *pass, int buffer, const fbp_step *earlier) {
    const fbp_schedule *schedule = pass->schedule;
    const fbp_graph *graph = &pass->plan->graph;
    int n = earlier->index, result = graph->first_result[n];
    int others[] = {schedule->value_at[graph->inputs[n][0]], schedule->value_at[result],
                    schedule->gradient_at[result], earlier->to[0]};
    int count = earlier->kind == FBP_BACKWARD ? 4 : 2;
    for (int i = 0; i < count; i++)
        if (others[i] >= 0 && others[i] != buffer &&
            overlap(&schedule->buffers[buffer], &schedule->buffers[others[i]]))
            return 1;
    return 0;
}

/* Whether a step comes after the `count` before it on the same piece: after a product, forward or
 * back, what is elementwise, and no thread still reads where it writes. */
static int follows(const fbp_pass *pass, const fbp_step *step, int count) {
    fbp_step_kind kind = step[-count].kind;
    if (step->kind == FBP_ONES) return kind == FBP_FORWARD;
    if (step->kind != kind || !fbp_is_elementwise(&pass->plan->graph.nodes[step->index])) return 0;
    int forward = kind == FBP_FORWARD, result = pass->plan->graph.first_result[step->index];
    int written = forward ? pass->schedule->value_at[result] : step->to[0];
    for (const fbp_step *earlier = step - count; earlier < step; earlier++)
        if (earlier->kind == kind && takes_room_of(pass, written, earlier)) return 0;
    return 1;
}

static void run_on_piece(fbp_lane *lane, const fbp_step *step, const piece *p, int64_t n) {
    const fbp_node *node = &lane->pass->plan->graph.nodes[step->index];
    fbp_call *call;
    if (step->kind == FBP_ONES) {
        if (p->end == n) run_step(lane, step, NULL);
    } else if (step->kind == FBP_FORWARD) {
        call = fbp_lane_forward(lane, step->index);
        call->begin = p->begin;
        call->end = p->end;
        if (fbp_is_elementwise(node))
            fbp_unary_piece(node, call, 0);
        else
            fbp_node_ops(node)->forward(node, call);
    } else {
        call = fbp_lane_backward(lane, step->index);
        call->at.dx[0] = fbp_lane_buffer(lane, step->to[0], &node->in[0]);
        call->begin = p->begin;
        call->end = p->end;
        if (fbp_is_elementwise(node))
            fbp_unary_piece(node, call, 1);
        else
            fbp_node_ops(node)->backward(node, call);
    }
}

/* A product, forward or back, and what follows it. Returns the number of steps done. */
static int product_by_columns(fbp_pass *pass, fbp_lane *lane, const fbp_step *steps, int n_steps,
                              const fbp_team *team) {
    const fbp_node *node = &pass->plan->graph.nodes[steps->index];
    int64_t n = fbp_width(steps->kind == FBP_FORWARD ? &node->out[0] : &node->in[0]);
    int count = 1;
    while (count < n_steps && follows(pass, &steps[count], count)) count++;
    pieces left = pieces_of(pass, lane->batch, node, n, team);
    for (piece p; next_piece(&left, &p);) {
        lane->row = lane->tile_row = p.row;
        lane->rows = p.rows;
        for (int s = 0; s < count; s++) run_on_piece(lane, &steps[s], &p, n);
        double share = (double)((p.end - p.begin) * p.rows) / (double)n;
        fbp_watch_work(&pass->watch, team, fbp_product_flops(node) * share);
    }
    return count;
}

/* Nobody leaves early, since the others would wait: a call that is to stop does so after the
 * phase. */
static void by_columns(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team) {
    const fbp_schedule *schedule = pass->schedule;
    fbp_range rows = fbp_share(batch->rows, team);
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    lane.tile = pass->shared_tile;
    lane.tile_unit = lane.batch_unit;
    for (int s = 0, count; s < schedule->n_steps; s += count) {
        const fbp_step *step = &schedule->steps[s];
        int product = step->kind == FBP_FORWARD || step->kind == FBP_BACKWARD;
        if (s > 0) fbp_barrier(team);
        if (product) {
            count = product_by_columns(pass, &lane, step, schedule->n_steps - s, team);
            continue;
        }
        lane.row = lane.tile_row = rows.begin;
        lane.rows = rows.end - rows.begin;
        run_step(&lane, step, NULL);
        count = 1;
    }
}

/* ---- the phase ---- */

void fbp_rows_phase(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team) {
    if (pass->by_columns && fbp_cuts_columns(pass->plan, batch->rows, pass->batch, team->size))
        by_columns(pass, batch, team);
    else
        by_rows(pass, batch, team, pass->schedule->n_steps, NULL);
}

void fbp_rows_traced(fbp_pass *pass, const fbp_batch *batch, const fbp_trace *trace) {
    by_rows(pass, batch, &fbp_alone, pass->schedule->n_steps, trace);
}

int fbp_first_bad_node(fbp_pass *pass, const fbp_batch *batch) {
    int node = -1;
    fbp_trace trace = {.bad_node = &node};
    by_rows(pass, batch, &fbp_alone, pass->schedule->first_loss, &trace);
    return node;
}

double fbp_step_loss(const fbp_pass *pass, int64_t rows) {
    const fbp_plan *plan = pass->plan;
    double sum = 0.0;
    for (int i = 0; i < plan->graph.n_losses; i++) {
        const fbp_operand *z = &plan->graph.values[plan->graph.losses[i].value].is;
        sum += plan->vector->weighted_sum(rows * fbp_positions(z), pass->losses[i].scale,
                                          pass->losses[i].value);
    }
    return sum;
}
