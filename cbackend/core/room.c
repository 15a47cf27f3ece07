/* The room of a schedule: its own, where its buffers lie, and where the operands of nodes are
 * found. */
#include <stddef.h>

#include "core/arena.h"
#include "core/schedule.h"

/* At most: of forward twice, and of backward. */
static size_t count_spots(const fbp_graph *graph) {
    size_t count = 0;
    for (int n = 0; n < graph->n_nodes; n++) {
        const fbp_node *node = &graph->nodes[n];
        count += (size_t)(4 * node->n_in + 4 * node->n_out + 3 * node->n_kept);
    }
    return count;
}

fbp_status fbp_schedule_allocate(fbp_schedule *schedule, const fbp_graph *graph) {
    /* A node has a step forward, one for each result's ones and zeros, one back and, for each
     * input, one that adds or passes and one that sums; a value, a gradient and one to be added for
     * each. */
    size_t nodes = (size_t)graph->n_nodes, values = (size_t)graph->n_values;
    size_t losses = (size_t)graph->n_losses;
    size_t steps = nodes * (2 + 2 * FBP_MAX_OUTPUTS + 2 * FBP_MAX_INPUTS) + values + 2 * losses;
    size_t buffers = 2 * values + nodes * (FBP_MAX_OUTPUTS + 2 * FBP_MAX_INPUTS) + losses;
    int again = graph->last_checkpoint > 0;
    if (again) { /* forward, ones and results once more, and a turn of the gradients */
        steps += nodes * (2 + FBP_MAX_OUTPUTS);
        buffers += values;
    }
    schedule->steps = fbp_alloc(steps * sizeof *schedule->steps);
    schedule->buffers = fbp_alloc(buffers * sizeof *schedule->buffers);
    schedule->value_at = fbp_alloc(values * sizeof *schedule->value_at);
    schedule->gradient_at = fbp_alloc(values * sizeof *schedule->gradient_at);
    schedule->complete_at = fbp_alloc(values * sizeof *schedule->complete_at);
    schedule->kept_at = fbp_alloc(nodes * FBP_MAX_OUTPUTS * sizeof *schedule->kept_at);
    schedule->dx_at = fbp_alloc(nodes * FBP_MAX_INPUTS * sizeof *schedule->dx_at);
    schedule->spots = fbp_alloc(nodes * sizeof *schedule->spots);
    schedule->again_at = fbp_alloc(values * sizeof *schedule->again_at);
    schedule->turn_of = fbp_alloc(nodes * sizeof *schedule->turn_of);
    schedule->all_spots = fbp_alloc(count_spots(graph) * sizeof *schedule->all_spots);
    int all = schedule->dx_at && schedule->again_at && schedule->turn_of && schedule->all_spots &&
              schedule->spots && schedule->steps && schedule->buffers && schedule->value_at &&
              schedule->gradient_at && schedule->complete_at && schedule->kept_at;
    if (!all) return FBP_NO_MEMORY;
    for (size_t v = 0; v < values; v++)
        schedule->value_at[v] = schedule->gradient_at[v] = schedule->complete_at[v] =
            schedule->again_at[v] = -1;
    for (size_t i = 0; i < nodes * FBP_MAX_OUTPUTS; i++) schedule->kept_at[i] = -1;
    for (size_t i = 0; i < nodes * FBP_MAX_INPUTS; i++) schedule->dx_at[i] = -1;
    return FBP_OK;
}

void fbp_schedule_free(fbp_schedule *schedule) {
    fbp_free(schedule->steps);
    fbp_free(schedule->buffers);
    fbp_free(schedule->value_at);
    fbp_free(schedule->gradient_at);
    fbp_free(schedule->complete_at);
    fbp_free(schedule->kept_at);
    fbp_free(schedule->dx_at);
    fbp_free(schedule->spots);
    fbp_free(schedule->all_spots);
    fbp_free(schedule->again_at);
    fbp_free(schedule->turn_of);
}

/* ---- buffers ---- */

/* Whether two are there at a time. */
static int is_with(const fbp_buffer *one, const fbp_buffer *other) {
    int first = other->begin <= one->pause && one->begin <= other->pause;
    int last = other->again <= one->end && one->again <= other->end;
    int before = one->again <= other->pause && other->begin <= one->end;
    int after = other->again <= one->pause && one->begin <= other->end;
    return first || last || before || after;
}

/* The lowest place where no buffer of the same kind and of overlapping time lies: one after the
 * other, as they begin. */
static void place(fbp_schedule *schedule, int index) {
    fbp_buffer *buffer = &schedule->buffers[index];
    int64_t at = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (int i = 0; i < index; i++) {
            const fbp_buffer *other = &schedule->buffers[i];
            int apart = other->where != buffer->where || !is_with(buffer, other) ||
                        other->offset + other->elements <= at ||
                        at + buffer->elements <= other->offset;
            if (apart) continue;
            at = other->offset + other->elements;
            moved = 1;
        }
    }
    buffer->offset = at;
    int64_t *most = buffer->where == FBP_IN_BATCH    ? &schedule->batch_elements
                    : buffer->where == FBP_IN_COMMON ? &schedule->common_elements
                                                     : &schedule->tile_elements;
    if (at + buffer->elements > *most) *most = at + buffer->elements;
}

/* Tiles come and go between two meetings. */
static int outlasts_tiles(const fbp_schedule *schedule, const fbp_buffer *buffer) {
    for (int s = buffer->begin; s <= buffer->end && schedule->n_meetings > 0; s++)
        if (s < schedule->n_steps && schedule->steps[s].by != FBP_BY_TILES) return 1;
    return 0;
}

/* Whether all threads meet between step s and the one before it (fbp_run_segments). */
static int meets_before(const fbp_schedule *schedule, int s) {
    fbp_crew by = schedule->steps[s].by;
    return by != schedule->steps[s - 1].by || by == FBP_BY_PARTS || by == FBP_BY_PARAMETERS;
}

/* Between two meetings threads are in different places of the schedule at a time: what is in the
 * batch has its room from the meeting before to the one behind. */
static void reach_meetings(const fbp_schedule *schedule, fbp_buffer *buffer) {
    while (buffer->begin > 0 && !meets_before(schedule, buffer->begin)) buffer->begin--;
    while (buffer->end + 1 < schedule->n_steps && !meets_before(schedule, buffer->end + 1))
        buffer->end++;
}

static void settle(fbp_schedule *schedule) {
    for (int s = 0; s < schedule->n_steps; s++)
        schedule->n_meetings += schedule->steps[s].by != FBP_BY_TILES;
    for (int i = 0; i < schedule->n_buffers; i++) {
        fbp_buffer *buffer = &schedule->buffers[i];
        if (buffer->store >= 0) continue;
        int batch = buffer->kept || outlasts_tiles(schedule, buffer);
        if (buffer->waits) buffer->end = schedule->n_steps;
        if (buffer->where == FBP_IN_TILE && batch) buffer->where = FBP_IN_BATCH;
        if (buffer->where == FBP_IN_BATCH) reach_meetings(schedule, buffer);
        buffer->pause = buffer->again = buffer->end;
    }
    for (int i = 0; i < schedule->n_buffers; i++) place(schedule, i);
}

/* ---- spots ---- */

static fbp_spot spot_of_buffer(const fbp_schedule *schedule, fbp_dtype dtype, int buffer,
                               const fbp_operand *is) {
    size_t size = is->is.content == FBP_INDEX ? sizeof(int32_t) : fbp_size(dtype);
    fbp_spot spot = {.sample = (size_t)is->sample_stride * size};
    if (buffer < 0) return spot;
    spot.where = schedule->buffers[buffer].where;
    spot.offset = (size_t)schedule->buffers[buffer].offset;
    if (spot.where == FBP_IN_COMMON) spot.offset *= size;
    return spot;
}

/* Of value v, which lies in a buffer if it is no parameter, constant or sparse input. */
static fbp_spot spot_of_value(const fbp_schedule *schedule, const fbp_graph *graph, int training,
                              int v, int buffer) {
    const fbp_value *value = &graph->values[v];
    fbp_spot spot = spot_of_buffer(schedule, graph->dtype, buffer, &value->is);
    int parameter = value->source == FBP_FROM_PARAMETER ? value->index
                    : training                          ? -1
                                                        : value->parameter;
    if (parameter >= 0) {
        spot.where = FBP_IN_PARAMETERS;
        spot.offset = (size_t)graph->parameters[parameter].offset * fbp_size(graph->dtype);
    } else if (value->source == FBP_FROM_CONSTANT) {
        spot.where = FBP_IN_GRAPH;
        spot.fixed = graph->constants[value->index];
    } else if (fbp_is_sparse(value)) {
        spot.where = FBP_IN_SAMPLES;
        spot.offset = (size_t)value->index;
    }
    return spot;
}

/* Spots are added one after the other, each for a pointer of fbp_arrays. */
static void add_spot(fbp_spot **end, size_t pointers, int i, fbp_spot spot) {
    spot.slot = (int)(pointers + (size_t)i * sizeof(void *));
    *(*end)++ = spot;
}

#define POINTERS(of) offsetof(fbp_arrays, of)

/* When a node first runs, or again. What it keeps for backward it keeps when it runs last. */
static fbp_spot *add_forward(const fbp_schedule *schedule, const fbp_graph *graph, int training,
                             int n, int again, fbp_spot *end) {
    const fbp_node *node = &graph->nodes[n];
    const int *kept = &schedule->kept_at[n * FBP_MAX_OUTPUTS];
    for (int i = 0; i < node->n_in; i++) {
        int v = graph->inputs[n][i];
        int at = again ? fbp_back_at(schedule, graph, n, v) : schedule->value_at[v];
        add_spot(&end, POINTERS(x), i, spot_of_value(schedule, graph, training, v, at));
    }
    for (int i = 0; i < node->n_out; i++) {
        int v = graph->first_result[n] + i;
        int at = again ? fbp_back_at(schedule, graph, n, v) : schedule->value_at[v];
        add_spot(&end, POINTERS(y), i, spot_of_value(schedule, graph, training, v, at));
    }
    int last = again || schedule->again_at[graph->first_result[n]] < 0;
    for (int i = node->n_out; i < node->n_out + node->n_kept; i++)
        add_spot(&end, POINTERS(y), i,
                 spot_of_buffer(schedule, graph->dtype, last ? kept[i] : -1, &node->out[i]));
    return end;
}

/* What backward reads, and sums over samples. */
static fbp_spot *add_read_back(const fbp_schedule *schedule, const fbp_graph *graph, int n,
                               fbp_spot *end) {
    const fbp_node *node = &graph->nodes[n];
    const int *kept = &schedule->kept_at[n * FBP_MAX_OUTPUTS];
    for (int i = 0; i < node->n_in; i++) {
        int v = graph->inputs[n][i], at = fbp_back_at(schedule, graph, n, v);
        if (node->reads_in >> i & 1u)
            add_spot(&end, POINTERS(x), i, spot_of_value(schedule, graph, 1, v, at));
    }
    for (int i = 0; i < node->n_out; i++) {
        int v = graph->first_result[n] + i, at = fbp_back_at(schedule, graph, n, v);
        if (node->reads_out >> i & 1u)
            add_spot(&end, POINTERS(y), i, spot_of_value(schedule, graph, 1, v, at));
        at = schedule->gradient_at[v];
        add_spot(&end, POINTERS(dy), i, spot_of_buffer(schedule, graph->dtype, at, &node->out[i]));
    }
    for (int i = node->n_out; i < node->n_out + node->n_kept; i++)
        add_spot(&end, POINTERS(y), i,
                 spot_of_buffer(schedule, graph->dtype, kept[i], &node->out[i]));
    return end;
}

/* Gradients of those inputs which sums read again, or which they do not; to: the buffers, or -1
 * where none is wanted. */
static fbp_spot *add_gradients(const fbp_schedule *schedule, const fbp_graph *graph, int n,
                               const int *to, int read_again, fbp_spot *end) {
    const fbp_node *node = &graph->nodes[n];
    for (int i = 0; i < node->n_in; i++)
        if ((int)(node->reads_dx >> i & 1u) == read_again)
            add_spot(&end, POINTERS(dx), i,
                     spot_of_buffer(schedule, graph->dtype, to[i], &node->in[i]));
    return end;
}

/* Where node n's backward writes to: at its one step, soon after its results' gradients are there;
 * if it has none, what its sums read may still be elsewhere. */
static const int *written_back(const fbp_schedule *schedule, const fbp_graph *graph, int n) {
    int s = schedule->complete_at[graph->first_result[n]];
    for (; s >= 0 && s < schedule->n_steps; s++)
        if (schedule->steps[s].kind == FBP_BACKWARD && schedule->steps[s].index == n)
            return schedule->steps[s].to;
    return &schedule->dx_at[n * FBP_MAX_INPUTS];
}

static void find_spots(fbp_schedule *schedule, const fbp_graph *graph, int training) {
    fbp_spot *end = schedule->all_spots;
    int again = graph->last_checkpoint > 0;
    for (int n = 0; n < graph->n_nodes; n++) {
        fbp_spots *spots = &schedule->spots[n];
        spots->first = spots->again = end;
        end = add_forward(schedule, graph, training, n, 0, end);
        spots->n_forward = (int)(end - spots->first);
        if (again) {
            spots->again = end;
            end = add_forward(schedule, graph, training, n, 1, end);
        }
        spots->back = end;
        spots->n_sum = spots->n_back = 0;
        if (!training) continue;
        const int *to = written_back(schedule, graph, n);
        end = add_gradients(schedule, graph, n, to, 1, add_read_back(schedule, graph, n, end));
        spots->n_sum = (int)(end - spots->back);
        end = add_gradients(schedule, graph, n, to, 0, end);
        spots->n_back = (int)(end - spots->back);
    }
}

void fbp_schedule_place(fbp_schedule *schedule, const fbp_graph *graph, int training) {
    settle(schedule);
    find_spots(schedule, graph, training);
}
