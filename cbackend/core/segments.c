/* The rows phase of a plan with checkpoints, or where samples share what is made: its steps in
 * segments, between which all threads meet. First comes what parameters and constants alone make.
 * In a segment each thread takes its tiles; at a meeting the whole batch is there, and a sum over
 * it is formed in parts, by all threads, that are added in their order by whoever has formed the
 * last, or one thread takes a step for all. Which parts there are depends on the shapes alone, so
 * the bits are the same on any number of threads. In a plan with checkpoints gradients of
 * parameters have their turns at meetings too. No formula is here, and no row's name.
 *
 * Nobody leaves a phase early, since the others would wait: a call that is to stop skips tiles,
 * meets where the others do, and stops after the phase. */
#include <string.h>

#include "core/callbacks.h"

/* ---- parts ---- */

/* The sum of a step over so many samples: its parts, and what each takes. Parts are blocks of
 * samples; of a gradient so many, for each of the `cuts` of its rows, of which a cut has `rows`. */
typedef struct {
    int64_t count, blocks, cuts, rows;
    size_t bytes;
} division;

/* Rows of a gradient that one part forms: large ones occupy all threads so. Each element is summed
 * by itself, unless by BLAS, whose bits hang on the cut: that is by the shapes alone. */
static int64_t rows_of_cut(const fbp_node *node, int input) {
    enum { elements_of_cut = 16384, rows_of_group = 16 };
    const fbp_operand *is = &node->in[input];
    int64_t rows = fbp_round_up(elements_of_cut / (fbp_width(is) + 1) + 1, rows_of_group);
    return !node->row->divisible || rows > fbp_positions(is) ? fbp_positions(is) : rows;
}

static division division_of(const fbp_graph *graph, const fbp_step *step, int64_t samples) {
    const fbp_node *node = &graph->nodes[step->index];
    division d = {.cuts = 1};
    if (step->kind == FBP_FORWARD) {
        d.blocks = fbp_node_ops(node)->blocks(node, samples);
        d.bytes = fbp_node_ops(node)->partial_bytes(node);
    } else {
        d.rows = rows_of_cut(node, step->from);
        d.cuts = fbp_pieces(fbp_positions(&node->in[step->from]), d.rows);
        d.blocks = fbp_shared_blocks(node, samples);
        int64_t elements = d.rows * fbp_width(&node->in[step->from]) + fbp_pad(graph->dtype);
        d.bytes = fbp_carved_bytes(elements, fbp_size(graph->dtype)); /* sums overrun their end */
    }
    d.count = d.blocks * d.cuts;
    return d;
}

/* The gradient of what is derived is summed over all batches of a step, in the whole's blocks. */
static int goes_on(const fbp_schedule *schedule, int s) {
    return s >= schedule->first_apart || schedule->steps[s].runs_on;
}

/* Bytes of the parts of steps [0, end): those of sums that go on lie behind the others. */
static size_t parts_before(const fbp_plan *plan, const fbp_schedule *schedule, int64_t batch,
                           int64_t whole, int end) {
    size_t most = 0, going_on = 0;
    for (int s = 0; s < schedule->n_steps; s++) {
        if (schedule->steps[s].by != FBP_BY_PARTS) continue;
        int on = goes_on(schedule, s);
        division d = division_of(&plan->graph, &schedule->steps[s], on ? whole : batch);
        size_t bytes = (size_t)d.count * d.bytes;
        if (on && s < end) going_on += bytes;
        if (!on && bytes > most) most = bytes;
    }
    return most + going_on;
}

size_t fbp_parts_bytes(const fbp_plan *plan, const fbp_schedule *schedule, int64_t batch,
                       int64_t whole) {
    return parts_before(plan, schedule, batch, whole, schedule->n_steps);
}

/* A part of a sum at a meeting: `to` is where it lies. */
static void form_part(fbp_lane *lane, int s, const division *d, int64_t part, char *to) {
    const fbp_batch *batch = lane->batch;
    const fbp_step *step = &lane->pass->schedule->steps[s];
    const fbp_node *node = &lane->pass->plan->graph.nodes[step->index];
    lane->row = 0;
    lane->rows = batch->rows;
    if (step->kind == FBP_FORWARD) {
        fbp_node_ops(node)->partial(node, fbp_lane_forward(lane, step->index), part, to);
        return;
    }
    const fbp_operand *is = &node->in[step->from];
    int64_t block = part % d->blocks, begin = part / d->blocks * d->rows;
    int64_t end = begin + d->rows < fbp_positions(is) ? begin + d->rows : fbp_positions(is);
    int on = goes_on(lane->pass->schedule, s);
    int64_t whole = on ? fbp_batch_whole(batch) : batch->rows, before = on ? batch->before : 0;
    int64_t first = whole * block / d->blocks - before;
    int64_t stop = whole * (block + 1) / d->blocks - before;
    fbp_range rows = {first > 0 ? first : 0, stop < batch->rows ? stop : batch->rows};
    fbp_range of = {begin, end};
    if (rows.begin >= rows.end) return; /* it is of other batches */
    fbp_sum_over_rows(lane, step->index, step->from, rows, of, first < 0, to);
}

static void add_up(fbp_lane *lane, const fbp_step *step, const division *d, char *parts) {
    const fbp_plan *plan = lane->pass->plan;
    const fbp_node *node = &plan->graph.nodes[step->index];
    lane->row = 0;
    lane->rows = lane->batch->rows;
    if (step->kind == FBP_FORWARD) {
        fbp_node_ops(node)->join(node, fbp_lane_forward(lane, step->index), parts);
        return;
    }
    const fbp_operand *is = &node->in[step->from];
    for (int64_t cut = 0; cut < d->cuts; cut++) {
        int64_t begin = cut * d->rows * fbp_width(is), left = fbp_elements(is) - begin;
        int64_t n = left < d->rows * fbp_width(is) ? left : d->rows * fbp_width(is);
        void *g = fbp_at(plan, fbp_lane_buffer(lane, step->to[0], is), begin);
        char *first = parts + (size_t)(cut * d->blocks) * d->bytes;
        for (int64_t b = 1; b < d->blocks; b++)
            plan->vector->add_scaled(n, 1.0, first + (size_t)b * d->bytes, first);
        if (step->add)
            plan->vector->add_scaled(n, 1.0, first, g);
        else
            memcpy(g, first, (size_t)n * fbp_size(plan->dtype));
    }
}

/* ---- meetings ---- */

static void by_parts(fbp_pass *pass, fbp_lane *lane, int s, const fbp_team *team,
                     const fbp_trace *trace) {
    const fbp_step *step = &pass->schedule->steps[s];
    const fbp_node *node = &pass->plan->graph.nodes[step->index];
    const fbp_batch *batch = lane->batch;
    int on = goes_on(pass->schedule, s);
    int64_t whole = fbp_batch_whole(batch);
    const division d = division_of(&pass->plan->graph, step, on ? whole : batch->rows);
    char *parts = pass->parts;
    if (on) parts += parts_before(pass->plan, pass->schedule, pass->batch, whole, s);
    fbp_range share = fbp_share(d.count, team);
    if (share.begin == share.end) return;
    double flops = node->flops[step->kind == FBP_FORWARD ? 0 : 1] * (double)batch->rows;
    for (int64_t part = share.begin; part < share.end; part++) {
        form_part(lane, s, &d, part, parts + (size_t)part * d.bytes);
        fbp_watch_work(&pass->watch, team, flops / (double)d.count);
    }
    if (fbp_counter_add(&pass->summed, share.end - share.begin) < d.count) return;
    fbp_counter_set(&pass->summed, 0);
    if (on && batch->after > 0) return;
    add_up(lane, step, &d, parts);
    if (trace != NULL && step->kind == FBP_FORWARD) fbp_trace_results(lane, trace, step->index);
}

/* For all: what samples share, or what a callback makes of a whole batch. */
static void by_one(fbp_pass *pass, fbp_lane *lane, int step, const fbp_team *team,
                   const fbp_trace *trace) {
    if (team->thread != 0 || fbp_pass_stopped(pass)) return;
    lane->row = 0;
    lane->rows = lane->batch->rows;
    fbp_run_steps(lane, step, step + 1, trace);
    if (fbp_callback_failed(pass)) fbp_watch_stop(&pass->watch);
}

static void meet(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int step,
                 const fbp_trace *trace) {
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    lane.rows = batch->rows;
    if (trace != NULL) fbp_trace_gradients(&lane, trace, step);
    if (pass->schedule->steps[step].by == FBP_BY_PARAMETERS) {
        fbp_take_turn(pass, batch, team, pass->schedule->steps[step].index);
        return;
    }
    if (pass->schedule->steps[step].by != FBP_BY_PARTS) {
        if (goes_on(pass->schedule, step) && batch->after > 0) return;
        by_one(pass, &lane, step, team, trace);
        return;
    }
    if (fbp_pass_stopped(pass)) return;
    double *seconds = fbp_trace_seconds(pass->plan, trace, &pass->schedule->steps[step]);
    double before = seconds == NULL ? 0.0 : fbp_seconds();
    by_parts(pass, &lane, step, team, trace);
    if (seconds != NULL) *seconds += fbp_seconds() - before;
}

/* ---- what is derived ---- */

void fbp_derive(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team,
                const fbp_trace *trace) {
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    for (int s = 0; s < pass->schedule->n_derived; s++) by_one(pass, &lane, s, team, trace);
    if (pass->plan->n_derived_copies == 0) return;
    fbp_barrier(team);
    fbp_weights_pack_derived(pass->plan, pass->weights, team);
}

/* ---- the phase ---- */

void fbp_run_meetings(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int end,
                      const fbp_trace *trace) {
    const fbp_step *steps = pass->schedule->steps;
    for (int s = pass->schedule->n_derived, next; s < end; s = next) {
        for (next = s; next < end && steps[next].by == FBP_BY_TILES; next++) continue;
        fbp_run_tiles(pass, batch, team, s, next, trace);
        int meeting = next;
        for (; next < end && steps[next].by != FBP_BY_TILES; next++) {
            int alone = next > meeting && steps[next - 1].by == FBP_BY_ONE;
            if (!alone || steps[next].by != FBP_BY_ONE) fbp_barrier(team); /* else one goes on */
            meet(pass, batch, team, next, trace);
        }
        if (next > meeting && next < end) fbp_barrier(team);
    }
}

void fbp_run_segments(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int end,
                      const fbp_trace *trace) {
    if (pass->schedule->n_derived > 0) {
        fbp_derive(pass, batch, team, trace);
        fbp_barrier(team);
    }
    fbp_run_meetings(pass, batch, team, end, trace);
}
