/* What a mixed plan stores: of what is kept for the whole batch all that passes through a tile.
 * Once the last number of such a buffer is there, a further step rounds it, for all who read it,
 * and stores it in 16 bits. Its room in the tile is free from then until backward reads it again;
 * before that another step takes it up. Integers, and what is read where threads meet, are kept as
 * in any plan; with checkpoints that is all of it. Here a schedule that is whole gets these steps;
 * storage.c runs them. */
#include "core/arena.h"
#include "core/schedule.h"

/* What is known of a buffer: the last step that writes to it, and the last that reads or writes;
 * and where the further steps come to be. */
typedef struct {
    int written, touched, stored_at, taken_up_at;
} a_life;

/* ---- who writes and reads what ---- */

enum { MOST_TOUCHED = 2 * FBP_MAX_INPUTS + 4 * FBP_MAX_OUTPUTS };

/* The buffers that a step writes to: their number. */
static int written_by(const fbp_schedule *schedule, const fbp_graph *graph, const fbp_step *step,
                      int *written) {
    int n = 0, of = step->index;
    switch (step->kind) {
    case FBP_GATHER:
    case FBP_ONES:
        written[n++] = schedule->value_at[of];
        break;
    case FBP_PASS:
    case FBP_ADD:
    case FBP_ZEROS:
        written[n++] = schedule->gradient_at[of];
        break;
    case FBP_FORWARD:
        for (int i = 0; i < FBP_MAX_OUTPUTS; i++) {
            int is_result = i < graph->nodes[of].n_out;
            written[n++] = is_result ? schedule->value_at[graph->first_result[of] + i]
                                     : schedule->kept_at[of * FBP_MAX_OUTPUTS + i];
        }
        break;
    default:
        for (int i = 0; i < FBP_MAX_INPUTS; i++) written[n++] = step->to[i];
    }
    return n;
}

/* Those that it reads. A sum at a meeting reads what is stored of its operands. */
static int read_by(const fbp_schedule *schedule, const fbp_graph *graph, const fbp_step *step,
                   int *read) {
    int n = 0, of = step->index;
    if (step->kind == FBP_PASS || step->kind == FBP_ADD) read[n++] = step->from;
    if (step->kind == FBP_LOSS_OF) read[n++] = schedule->value_at[graph->losses[of].value];
    if (step->kind != FBP_FORWARD && step->kind != FBP_BACKWARD) return n;
    const fbp_node *node = &graph->nodes[of];
    int back = step->kind == FBP_BACKWARD;
    for (int i = 0; i < node->n_in; i++)
        if (!back || node->reads_in >> i & 1u) read[n++] = schedule->value_at[graph->inputs[of][i]];
    for (int i = 0; back && i < node->n_out; i++) {
        if (node->reads_out >> i & 1u) read[n++] = schedule->value_at[graph->first_result[of] + i];
        read[n++] = schedule->gradient_at[graph->first_result[of] + i];
    }
    for (int i = node->n_out; back && i < node->n_out + node->n_kept; i++)
        read[n++] = schedule->kept_at[of * FBP_MAX_OUTPUTS + i];
    return n;
}

/* After its last number is there, the longest time in which nobody touches it; none between two
 * steps that follow each other. */
static void note_gap(fbp_buffer *buffer, const a_life *life, int s) {
    int longest = buffer->again > buffer->pause ? buffer->again - buffer->pause : 1;
    if (life->touched < life->written || s - life->touched <= longest) return;
    buffer->pause = life->touched;
    buffer->again = s;
}

static void find_lives(fbp_schedule *schedule, const fbp_graph *graph, a_life *lives) {
    int touched[MOST_TOUCHED];
    for (int b = 0; b < schedule->n_buffers; b++) lives[b].written = lives[b].touched = -1;
    for (int s = 0; s < schedule->n_steps; s++) {
        int n = written_by(schedule, graph, &schedule->steps[s], touched);
        for (int i = 0; i < n; i++)
            if (touched[i] >= 0) lives[touched[i]].written = s;
    }
    for (int b = 0; b < schedule->n_buffers; b++)
        schedule->buffers[b].pause = schedule->buffers[b].again = schedule->buffers[b].end;
    for (int s = 0; s < schedule->n_steps; s++) {
        int n = written_by(schedule, graph, &schedule->steps[s], touched);
        n += read_by(schedule, graph, &schedule->steps[s], touched + n);
        for (int i = 0; i < n; i++) {
            if (touched[i] < 0) continue;
            note_gap(&schedule->buffers[touched[i]], &lives[touched[i]], s);
            lives[touched[i]].touched = s;
        }
    }
    /* The weights phase reads it together with what was there at its end, also where no step
     * does. */
    for (int b = 0; b < schedule->n_buffers; b++)
        if (lives[b].touched >= 0 && lives[b].touched < schedule->buffers[b].end)
            note_gap(&schedule->buffers[b], &lives[b], schedule->buffers[b].end);
}

/* Whether threads meet while it is in the tile. */
static int is_there_at_meeting(const fbp_schedule *schedule, const fbp_buffer *buffer,
                               const a_life *life) {
    int end = life->touched < buffer->end ? buffer->end - 1 : buffer->end;
    for (int s = buffer->begin; s <= end; s++) {
        if (s > buffer->pause && s < buffer->again) s = buffer->again;
        if (s <= end && schedule->steps[s].by != FBP_BY_TILES) return 1;
    }
    return 0;
}

static void choose(fbp_schedule *schedule, const a_life *lives) {
    for (int b = 0; b < schedule->n_buffers; b++) {
        fbp_buffer *buffer = &schedule->buffers[b];
        if (!buffer->kept || buffer->where != FBP_IN_TILE || buffer->content != FBP_REAL) continue;
        if (lives[b].written < 0 || is_there_at_meeting(schedule, buffer, &lives[b])) continue;
        buffer->store = schedule->stored_elements;
        schedule->stored_elements += buffer->elements;
    }
}

/* ---- further steps ---- */

/* Whether a step takes it up again, and which one needs that. */
static int is_taken_up(const fbp_buffer *buffer, const a_life *life) {
    return buffer->store >= 0 && buffer->again > buffer->pause && buffer->again <= life->touched;
}

/* For buffer b, in the name of the step that writes or needs it. Returns its place. */
static int add_step(fbp_schedule *schedule, fbp_step_kind kind, int b, const fbp_step *of) {
    fbp_step *step = &schedule->steps[schedule->n_steps];
    *step = (fbp_step){.kind = kind, .index = of->index, .from = b, .of = of->kind};
    for (int i = 0; i < FBP_MAX_INPUTS; i++) step->to[i] = -1;
    return schedule->n_steps++;
}

/* The steps anew: before each what is taken up for it, behind it what it has written last is
 * stored. at (n_before + 1): where each of the n_before, and the end, come to be. */
static void add_steps(fbp_schedule *schedule, const fbp_step *before, int n_before, a_life *lives,
                      int *at) {
    schedule->n_steps = 0;
    for (int s = 0; s < n_before; s++) {
        for (int b = 0; b < schedule->n_buffers; b++)
            if (is_taken_up(&schedule->buffers[b], &lives[b]) && schedule->buffers[b].again == s)
                lives[b].taken_up_at = add_step(schedule, FBP_LOAD, b, &before[s]);
        at[s] = schedule->n_steps;
        schedule->steps[schedule->n_steps++] = before[s];
        for (int b = 0; b < schedule->n_buffers; b++)
            if (schedule->buffers[b].store >= 0 && lives[b].written == s)
                lives[b].stored_at = add_step(schedule, FBP_STORE, b, &before[s]);
    }
    at[n_before] = schedule->n_steps;
}

static void renumber(fbp_schedule *schedule, const fbp_graph *graph, const a_life *lives,
                     const int *at) {
    for (int b = 0; b < schedule->n_buffers; b++) {
        fbp_buffer *buffer = &schedule->buffers[b];
        int taken_up = is_taken_up(buffer, &lives[b]);
        buffer->begin = at[buffer->begin];
        buffer->pause = at[buffer->pause];
        buffer->again = taken_up ? lives[b].taken_up_at : at[buffer->again];
        buffer->end = at[buffer->end];
        if (buffer->store < 0) continue;
        if (buffer->pause < lives[b].stored_at) buffer->pause = lives[b].stored_at;
        if (buffer->end < lives[b].stored_at) buffer->end = lives[b].stored_at;
    }
    for (int v = 0; v < graph->n_values; v++)
        if (schedule->complete_at[v] >= 0) schedule->complete_at[v] = at[schedule->complete_at[v]];
    schedule->first_loss = at[schedule->first_loss];
    schedule->first_apart = at[schedule->first_apart];
    schedule->n_derived = at[schedule->n_derived];
}

fbp_status fbp_schedule_store(fbp_schedule *schedule, const fbp_graph *graph) {
    if (schedule->n_turns > 0) return FBP_OK;
    int n_before = schedule->n_steps, most = n_before + 2 * schedule->n_buffers;
    fbp_step *before = schedule->steps;
    a_life *lives = fbp_alloc((size_t)schedule->n_buffers * sizeof *lives);
    int *at = fbp_alloc(((size_t)n_before + 1) * sizeof *at);
    fbp_step *steps = fbp_alloc((size_t)most * sizeof *steps);
    fbp_status status = lives != NULL && at != NULL && steps != NULL ? FBP_OK : FBP_NO_MEMORY;
    if (status == FBP_OK) {
        find_lives(schedule, graph, lives);
        choose(schedule, lives);
        schedule->steps = steps;
        add_steps(schedule, before, n_before, lives, at);
        renumber(schedule, graph, lives, at);
        steps = before;
    }
    fbp_free(steps);
    fbp_free(lives);
    fbp_free(at);
    return status;
}
