/* Mixed precision while a call runs: what is stored of a batch in 16 bits, on its way out of a tile
 * and back into one. (Copies of weights are the concern of the rows that keep them.) Every number
 * that is stored is rounded in the tile as well, so that all who read it, in the rows phase or in
 * the weights phase, read the same. What is stored, and when, schedule_stores.c has decided; the
 * rounding is a kernel's. */
#include "core/pass.h"

/* ---- tiles ---- */

static float *in_tile(const fbp_lane *lane, const fbp_buffer *at) {
    const fbp_room *room = &lane->rooms[FBP_IN_TILE];
    return fbp_element(FBP_F32, room->base + (size_t)at->offset * room->unit,
                       lane->tile_row * at->stride);
}

static uint16_t *in_store(const fbp_lane *lane, const fbp_buffer *at) {
    return lane->pass->stored + at->store * lane->pass->batch + lane->row * at->stride;
}

void fbp_store_tile(const fbp_lane *lane, int buffer) {
    const fbp_buffer *at = &lane->pass->schedule->buffers[buffer];
    lane->pass->plan->half->store(lane->rows * at->stride, in_tile(lane, at), in_store(lane, at));
}

void fbp_load_tile(const fbp_lane *lane, int buffer) {
    if (buffer < 0) return;
    const fbp_buffer *at = &lane->pass->schedule->buffers[buffer];
    if (at->store < 0) return;
    lane->pass->plan->half->load(lane->rows * at->stride, in_store(lane, at), in_tile(lane, at));
}

/* ---- sums over samples ---- */

/* Columns [begin, end) of a node's first input, and what is beside them in cache lines. */
static void load_columns(const fbp_lane *lane, int buffer, const fbp_operand *is, int64_t begin,
                         int64_t end) {
    const fbp_buffer *at = &lane->pass->schedule->buffers[buffer];
    int64_t pad = fbp_pad(FBP_F32), first = begin - begin % pad, past = fbp_round_up(end, pad);
    if (past > is->row_stride) past = is->row_stride;
    const uint16_t *from = in_store(lane, at);
    float *to = in_tile(lane, at);
    for (int64_t r = 0; r < fbp_rows_of(is, lane->rows); r++)
        lane->pass->plan->half->load(past - first, from + r * is->row_stride + first,
                                     to + r * is->row_stride + first);
}

/* All that rows [begin, end) of the gradient of an input are made of in node n. It was there all at
 * once in the rows phase, so there is room for each in the tile, where its spot says. */
static void load_operands(const fbp_lane *lane, int n, int input, fbp_range of) {
    const fbp_graph *graph = &lane->pass->plan->graph;
    const fbp_schedule *schedule = lane->pass->schedule;
    const fbp_node *node = &graph->nodes[n];
    int x = schedule->value_at[graph->inputs[n][0]];
    int apart = node->row->columns_apart && x >= 0 && schedule->buffers[x].store >= 0;
    int64_t behind = input == 2 ? fbp_width(&node->in[0]) : 0;
    if (apart) load_columns(lane, x, &node->in[0], behind + of.begin, behind + of.end);
    for (int i = 0; i < node->n_in; i++) {
        if (node->reads_in >> i & 1u && !(i == 0 && apart))
            fbp_load_tile(lane, schedule->value_at[graph->inputs[n][i]]);
        fbp_load_tile(lane, schedule->dx_at[n * FBP_MAX_INPUTS + i]);
    }
    for (int i = 0; i < node->n_out; i++) {
        int v = graph->first_result[n] + i;
        if (node->reads_out >> i & 1u) fbp_load_tile(lane, schedule->value_at[v]);
        fbp_load_tile(lane, schedule->gradient_at[v]);
    }
    for (int i = node->n_out; i < node->n_out + node->n_kept; i++)
        fbp_load_tile(lane, schedule->kept_at[n * FBP_MAX_OUTPUTS + i]);
}

/* Samples of a part: a power of two that a tile holds, so that parts end at the same places of a
 * step in whatever batches it is run. */
static int64_t samples_of_part(const fbp_pass *pass) {
    int64_t samples = 1;
    while (2 * samples <= pass->tile && samples < 256) samples *= 2;
    return samples;
}

void fbp_sum_in_parts(fbp_lane *lane, int n, int input, int64_t stop, fbp_range of, int add,
                      void *g) {
    int64_t before = lane->batch->before, each = samples_of_part(lane->pass);
    do {
        int64_t end = (before + lane->row) / each * each + each - before;
        lane->rows = (end < stop ? end : stop) - lane->row;
        load_operands(lane, n, input, of);
        fbp_sum_at_once(lane, n, input, of, add, g);
        add = 1;
        lane->row += lane->rows;
    } while (lane->row < stop);
}
