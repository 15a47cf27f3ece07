/* Making a schedule, in parts that grow it together: forward (schedule.c), back (schedule_back.c),
 * and forward again on the way back (recompute.c). What these need of it is here; nobody else
 * includes this. */
#ifndef FBP_CORE_MAKING_H
#define FBP_CORE_MAKING_H

#include "core/schedule.h"

/* What is known while a schedule grows. */
typedef struct {
    fbp_schedule *out;
    const fbp_graph *graph;
    int training;
    char *clean;  /* (n_values) the gradient's padding holds zeros */
    char *needed; /* (n_values) for what a schedule for predict yields */
    int *summed; /* (n_values) of its uses, those by this node and later ones are in the gradient */
    char *again; /* (n_values) backward reads it where its node runs again */
    int inside;  /* the checkpoint that goes back; 0: none */
    int due;     /* uses of parameters have gone back whose gradients have had no turn */
} fbp_making;

/* ---- buffers ---- */

static inline int fbp_new_buffer(fbp_making *m, const fbp_operand *x) {
    fbp_buffer *buffer = &m->out->buffers[m->out->n_buffers];
    int64_t elements = x->is.batched ? x->sample_stride : fbp_elements(x);
    buffer->elements = fbp_round_up(elements, fbp_pad(m->graph->dtype));
    buffer->stride = elements;
    buffer->store = -1;
    buffer->content = x->is.content;
    buffer->begin = buffer->end = m->out->n_steps;
    buffer->where = x->is.batched ? FBP_IN_TILE : FBP_IN_COMMON;
    return m->out->n_buffers++;
}

/* The step that is being made reads or writes it. */
static inline void fbp_touch(fbp_making *m, int buffer) {
    if (buffer >= 0) m->out->buffers[buffer].end = m->out->n_steps;
}

/* Gradients of parameters are formed from it. */
static inline void fbp_keep(fbp_making *m, int buffer) {
    if (buffer >= 0) m->out->buffers[buffer].kept = m->out->buffers[buffer].waits = 1;
}

static inline const fbp_value *fbp_value_of(const fbp_making *m, int v) {
    return &m->graph->values[v];
}

/* Whether the elements of one can lie where those of the other do. */
static inline int fbp_fits(const fbp_operand *x, const fbp_operand *y) {
    return x->is.batched == y->is.batched && fbp_extent(x, 1) == fbp_extent(y, 1);
}

/* ---- steps ---- */

static inline fbp_step *fbp_add_step(fbp_making *m, fbp_step_kind kind, int index) {
    fbp_step *step = &m->out->steps[m->out->n_steps];
    step->kind = kind;
    step->index = index;
    for (int i = 0; i < FBP_MAX_INPUTS; i++) step->to[i] = -1;
    return step;
}

static inline void fbp_end_step(fbp_making *m) { m->out->n_steps++; }

/* Whether a value's producer reads it again in backward. */
static inline int fbp_read_by_producer(const fbp_making *m, int v) {
    const fbp_value *value = fbp_value_of(m, v);
    return value->source == FBP_FROM_NODE &&
           m->graph->nodes[value->index].reads_out >> value->output & 1u;
}

/* Whether backward reads a node's first input, or what that was made as. */
static inline int fbp_reads_first(const fbp_making *m, int n) {
    return m->graph->nodes[n].reads_in & 1u || fbp_read_by_producer(m, m->graph->inputs[n][0]);
}
/* Whether a node's result takes the place of its first input, which lies in buffer `at`: nobody may
 * read that again. */
int fbp_takes_place(const fbp_making *m, int n, int at, int read_again);

/* The losses, and all nodes back from them. */
void fbp_make_backward(fbp_making *m);
/* The gradient of a value that samples share: the sums of its uses by nodes behind node n that are
 * not in it yet, from the last to the first. */
void fbp_sum_uses(fbp_making *m, int v, int n);

/* A one after the last column of value v, where a consumer reads it. */
void fbp_set_ones(fbp_making *m, int v, int again);

/* ---- checkpoints (recompute.c) ---- */

/* The checkpoint whose nodes run twice of which node n is one; 0: none. What samples share is made
 * but once. */
static inline int fbp_runs_twice(const fbp_making *m, int n) {
    return m->training && !fbp_is_common(m->graph, n) ? fbp_checkpoint_of(m->graph, n) : 0;
}
/* Whether value v is made in the checkpoint that node n is of. */
static inline int fbp_is_within(const fbp_making *m, int n, int v) {
    const fbp_value *value = fbp_value_of(m, v);
    return value->source == FBP_FROM_NODE && fbp_runs_twice(m, value->index) > 0 &&
           fbp_checkpoint_of(m->graph, value->index) == fbp_checkpoint_of(m->graph, n);
}
/* Before node n goes back, all that is done between checkpoints. */
void fbp_go_back_to(fbp_making *m, int n);
/* Behind the last one to go back. */
void fbp_end_turns(fbp_making *m);

#endif
