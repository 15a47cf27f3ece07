/* The rows phase of a plan where samples are coupled: its steps in segments, between which all
 * threads meet. In a segment each thread takes its tiles; at a meeting the whole batch is there,
 * and a sum over it is formed in parts, by all threads, that are added in their order by whoever
 * has formed the last, or one thread takes a step for all. Which parts there are depends on the
 * shapes alone, so the bits are the same on any number of threads. No formula is here, and no row's
 * name.
 *
 * Nobody leaves a phase early, since the others would wait: a call that is to stop skips tiles,
 * meets where the others do, and stops after the phase. */
#include <string.h>

#include "core/pass.h"

/* ---- parts ---- */

/* The sum of a step over so many samples: its parts, and what each takes. */
typedef struct {
    int64_t count;
    size_t bytes;
} division;

static division division_of(const fbp_graph *graph, const fbp_step *step, int64_t samples) {
    const fbp_node *node = &graph->nodes[step->index];
    division d = {0, 0};
    if (step->kind == FBP_FORWARD) {
        d.count = fbp_node_ops(node)->blocks(node, samples);
        d.bytes = fbp_node_ops(node)->partial_bytes(node);
    } else {
        int64_t elements = fbp_elements(&node->in[step->from]) + fbp_pad(graph->dtype);
        d.count = fbp_shared_blocks(node, samples); /* sums may overrun their end */
        d.bytes = fbp_carved_bytes(elements, fbp_size(graph->dtype));
    }
    return d;
}

size_t fbp_parts_bytes(const fbp_plan *plan, const fbp_schedule *schedule, int64_t batch) {
    size_t most = 0;
    for (int s = 0; s < schedule->n_steps; s++) {
        if (schedule->steps[s].by != FBP_BY_PARTS) continue;
        division d = division_of(&plan->graph, &schedule->steps[s], batch);
        if ((size_t)d.count * d.bytes > most) most = (size_t)d.count * d.bytes;
    }
    return most;
}

static void form_part(fbp_lane *lane, const fbp_step *step, const division *d, int64_t part) {
    const fbp_node *node = &lane->pass->plan->graph.nodes[step->index];
    void *to = lane->pass->parts + (size_t)part * d->bytes;
    int64_t all = lane->batch->rows;
    lane->row = 0;
    lane->rows = all;
    if (step->kind == FBP_FORWARD) {
        fbp_node_ops(node)->partial(node, fbp_lane_forward(lane, step->index), part, to);
        return;
    }
    lane->row = all * part / d->count;
    lane->rows = all * (part + 1) / d->count - lane->row;
    fbp_call *call = fbp_lane_backward(lane, step->index);
    int64_t rows = fbp_positions(&node->in[step->from]);
    fbp_node_ops(node)->backward_shared(node, call, step->from, 0, rows, 0, to);
}

static void add_up(fbp_lane *lane, const fbp_step *step, const division *d) {
    const fbp_plan *plan = lane->pass->plan;
    const fbp_node *node = &plan->graph.nodes[step->index];
    char *parts = lane->pass->parts;
    lane->row = 0;
    lane->rows = lane->batch->rows;
    if (step->kind == FBP_FORWARD) {
        fbp_node_ops(node)->join(node, fbp_lane_forward(lane, step->index), parts);
        return;
    }
    int64_t n = fbp_elements(&node->in[step->from]);
    void *g = fbp_lane_buffer(lane, step->to[0], &node->in[step->from]);
    for (int64_t b = 1; b < d->count; b++)
        plan->vector->add_scaled(n, 1.0, parts + (size_t)b * d->bytes, parts);
    if (step->add)
        plan->vector->add_scaled(n, 1.0, parts, g);
    else
        memcpy(g, parts, (size_t)n * fbp_size(plan->dtype));
}

/* ---- meetings ---- */

static void by_parts(fbp_pass *pass, fbp_lane *lane, const fbp_step *step, const fbp_team *team,
                     const fbp_trace *trace) {
    const fbp_node *node = &pass->plan->graph.nodes[step->index];
    const division d = division_of(&pass->plan->graph, step, lane->batch->rows);
    fbp_range share = fbp_share(d.count, team);
    if (share.begin == share.end) return;
    double flops = node->flops[step->kind == FBP_FORWARD ? 0 : 1] * (double)lane->batch->rows;
    for (int64_t part = share.begin; part < share.end; part++) {
        form_part(lane, step, &d, part);
        fbp_watch_work(&pass->watch, team, flops / (double)d.count);
    }
    if (fbp_counter_add(&pass->summed, share.end - share.begin) < d.count) return;
    fbp_counter_set(&pass->summed, 0);
    add_up(lane, step, &d);
    if (trace != NULL && step->kind == FBP_FORWARD) fbp_trace_results(lane, trace, step->index);
}

/* Values that samples share are as those of one sample. */
static void by_one(fbp_lane *lane, int step, const fbp_team *team, const fbp_trace *trace) {
    if (team->thread != 0) return;
    lane->row = 0;
    lane->rows = 1;
    fbp_run_steps(lane, step, step + 1, trace);
}

static void meet(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int step,
                 const fbp_trace *trace) {
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    fbp_barrier(team);
    if (pass->schedule->steps[step].by != FBP_BY_PARTS) {
        by_one(&lane, step, team, trace);
        return;
    }
    double *seconds = fbp_trace_seconds(pass->plan, trace, &pass->schedule->steps[step]);
    double before = seconds == NULL ? 0.0 : fbp_seconds();
    by_parts(pass, &lane, &pass->schedule->steps[step], team, trace);
    if (seconds != NULL) *seconds += fbp_seconds() - before;
}

/* ---- the phase ---- */

void fbp_run_segments(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int end,
                      const fbp_trace *trace) {
    const fbp_step *steps = pass->schedule->steps;
    for (int s = 0, next; s < end; s = next) {
        for (next = s; next < end && steps[next].by == FBP_BY_TILES; next++) continue;
        fbp_run_tiles(pass, batch, team, s, next, trace);
        int first = next;
        for (; next < end && steps[next].by != FBP_BY_TILES; next++)
            meet(pass, batch, team, next, trace);
        if (next > first && next < end) fbp_barrier(team);
    }
}
