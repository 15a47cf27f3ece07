/* The rows phase, in two forms with the same bits; segments.c has a third, for plans where samples
 * are coupled.
 *
 * By rows: a thread takes its samples of the batch, tile by tile, through all steps of the
 * schedule, forward and back, without waiting for anyone. By columns: where the batch has too few
 * samples for the threads, each product of a chain is cut by output columns as well, and the team
 * meets after each. */
#include "core/pass.h"
#include "core/unary.h"

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
        if (p->end == n) fbp_run_step(lane, step, NULL);
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
    lane.rooms[FBP_IN_TILE] = (fbp_room){pass->shared_tile, lane.rooms[FBP_IN_BATCH].unit};
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
        fbp_run_step(&lane, step, NULL);
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
