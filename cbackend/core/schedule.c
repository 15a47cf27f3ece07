/* Making a schedule: the steps in their order, and buffers that share room where their times do not
 * meet. */
#include "core/schedule.h"

#include <string.h>

#include "core/arena.h"

/* What is known while a schedule grows. */
typedef struct {
    fbp_schedule *out;
    const fbp_graph *graph;
    int training;
    char *clean; /* (n_values) the gradient's padding holds zeros */
} making;

/* ---- buffers ---- */

static int new_buffer(making *m, int64_t elements) {
    fbp_buffer *buffer = &m->out->buffers[m->out->n_buffers];
    buffer->elements = fbp_round_up(elements, fbp_pad(m->graph->dtype));
    buffer->begin = buffer->end = m->out->n_steps;
    return m->out->n_buffers++;
}

/* The step that is being made reads or writes it. */
static void touch(making *m, int buffer) {
    if (buffer >= 0) m->out->buffers[buffer].end = m->out->n_steps;
}

/* The weights phase reads it. */
static void keep(making *m, int buffer) {
    if (buffer >= 0) m->out->buffers[buffer].batch = 1;
}

static const fbp_value *value_of(const making *m, int v) { return &m->graph->values[v]; }

static int64_t elements_of(const fbp_operand *x) { return x->is.batched ? x->sample_stride : 0; }

/* ---- steps ---- */

static fbp_step *add_step(making *m, fbp_step_kind kind, int index) {
    fbp_step *step = &m->out->steps[m->out->n_steps];
    step->kind = kind;
    step->index = index;
    for (int i = 0; i < FBP_MAX_INPUTS; i++) step->to[i] = -1;
    return step;
}

static void end_step(making *m) { m->out->n_steps++; }

static void set_ones(making *m, int v) {
    if (!value_of(m, v)->ones || !m->training) return;
    add_step(m, FBP_ONES, v);
    touch(m, m->out->value_at[v]);
    end_step(m);
}

static void gather(making *m, int v) {
    const fbp_value *value = value_of(m, v);
    if (fbp_is_sparse(value) || value->n_uses == 0) return;
    m->out->value_at[v] = new_buffer(m, elements_of(&value->is));
    add_step(m, FBP_GATHER, v);
    touch(m, m->out->value_at[v]);
    end_step(m);
}

/* Whether a value's producer reads it again in backward. */
static int read_by_producer(const making *m, int v) {
    const fbp_value *value = value_of(m, v);
    return value->source == FBP_FROM_NODE &&
           m->graph->nodes[value->index].reads_out >> value->output & 1u;
}

/* A result takes the place of the node's first input where nobody reads that again. */
static int takes_place(const making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    int x = m->graph->inputs[n][0], y = m->graph->first_result[n];
    int at = m->out->value_at[x];
    if (!node->in_place || at < 0 || value_of(m, x)->n_uses != 1) return 0;
    if (m->training && (node->reads_in & 1u || read_by_producer(m, x))) return 0;
    return elements_of(&value_of(m, x)->is) == elements_of(&value_of(m, y)->is);
}

static int goes_back(const making *m, int n) {
    int result = m->graph->first_result[n], found = 0;
    for (int i = 0; i < m->graph->nodes[n].n_out; i++) found |= value_of(m, result + i)->gradient;
    return m->training && found;
}

static void forward(making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    fbp_schedule *out = m->out;
    int result = m->graph->first_result[n];
    add_step(m, FBP_FORWARD, n);
    for (int i = 0; i < node->n_out; i++) {
        int place = i == 0 && takes_place(m, n);
        out->value_at[result + i] = place ? out->value_at[m->graph->inputs[n][0]]
                                          : new_buffer(m, elements_of(&node->out[i]));
        touch(m, out->value_at[result + i]);
    }
    for (int i = node->n_out; i < node->n_out + node->n_kept && goes_back(m, n); i++)
        out->kept_at[n * FBP_MAX_OUTPUTS + i] = new_buffer(m, elements_of(&node->out[i]));
    for (int i = 0; i < node->n_in; i++) touch(m, out->value_at[m->graph->inputs[n][i]]);
    end_step(m);
    for (int i = 0; i < node->n_out; i++) set_ones(m, result + i);
}

/* ---- gradients ---- */

static void add_to(making *m, int v, int from) {
    add_step(m, FBP_ADD, v)->from = from;
    touch(m, from);
    touch(m, m->out->gradient_at[v]);
    end_step(m);
}

/* A gradient that lies in another buffer becomes the value's, or is added to it. */
static void arrive(making *m, int v, int from) {
    if (m->out->gradient_at[v] >= 0) {
        add_to(m, v, from);
        return;
    }
    m->out->gradient_at[v] = new_buffer(m, elements_of(&value_of(m, v)->is));
    add_step(m, FBP_PASS, v)->from = from;
    touch(m, from);
    touch(m, m->out->gradient_at[v]);
    end_step(m);
}

static void loss(making *m, int index) {
    int v = m->graph->losses[index].value;
    const fbp_value *z = value_of(m, v);
    fbp_step *step = add_step(m, FBP_LOSS_OF, index);
    touch(m, m->out->value_at[v]);
    int again = m->out->gradient_at[v] >= 0;
    if (z->gradient) {
        int place = !again && z->n_uses == 1 && !read_by_producer(m, v);
        step->to[0] = place ? m->out->value_at[v] : new_buffer(m, elements_of(&z->is));
        touch(m, step->to[0]);
    }
    int made = step->to[0];
    end_step(m);
    if (again && made >= 0)
        add_to(m, v, made);
    else
        m->out->gradient_at[v] = made;
    m->clean[v] = 1;
}

/* A gradient that passes a node unchanged: the buffer itself where nobody else needs it. */
static void pass(making *m, int n, int v, int *moved) {
    fbp_schedule *out = m->out;
    int from = out->gradient_at[m->graph->first_result[n]];
    if (out->gradient_at[v] < 0 && !*moved && value_of(m, v)->n_uses == 1 &&
        !fbp_shares_gradient(m->graph, n)) {
        out->gradient_at[v] = from;
        *moved = 1;
    } else {
        arrive(m, v, from);
    }
}

/* Gradients that take part in products must have zeros in their padding. */
static void clear_padding(making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    int result = m->graph->first_result[n];
    for (int i = 0; i < node->n_out && node->row->padded_results; i++) {
        if (m->out->gradient_at[result + i] < 0 || m->clean[result + i]) continue;
        add_step(m, FBP_ZEROS, result + i);
        touch(m, m->out->gradient_at[result + i]);
        end_step(m);
    }
}

static void touch_what_backward_reads(making *m, int n, int shared) {
    const fbp_node *node = &m->graph->nodes[n];
    fbp_schedule *out = m->out;
    for (int i = 0; i < node->n_in + node->n_out + node->n_kept; i++) {
        int o = i - node->n_in, at, gradient = -1;
        if (o < 0) {
            at = node->reads_in >> i & 1u ? out->value_at[m->graph->inputs[n][i]] : -1;
        } else if (o < node->n_out) {
            int v = m->graph->first_result[n] + o;
            at = node->reads_out >> o & 1u ? out->value_at[v] : -1;
            gradient = out->gradient_at[v];
        } else {
            at = out->kept_at[n * FBP_MAX_OUTPUTS + o];
        }
        touch(m, at);
        touch(m, gradient);
        if (!shared) continue;
        keep(m, at);
        keep(m, gradient);
    }
}

/* Where a gradient goes: to its value's buffer, or, where that holds one already, to another, which
 * is then added. */
static int destination(making *m, int n, int i, int alone) {
    const fbp_node *node = &m->graph->nodes[n];
    int v = m->graph->inputs[n][i], result = m->graph->first_result[n];
    int64_t elements = elements_of(&value_of(m, v)->is);
    if (m->out->gradient_at[v] >= 0) return new_buffer(m, elements);
    int dy = m->out->gradient_at[result];
    int place = i == 0 && alone && node->in_place && node->n_out == 1 &&
                !fbp_shares_gradient(m->graph, n) &&
                elements == elements_of(&value_of(m, result)->is);
    return m->out->gradient_at[v] = place ? dy : new_buffer(m, elements);
}

static int is_wanted(const making *m, int n, int i) {
    const fbp_node *node = &m->graph->nodes[n];
    return (node->differentiable & ~node->shared) >> i & 1u &&
           value_of(m, m->graph->inputs[n][i])->gradient;
}

/* Whether the gradients of shared inputs are made of that of input i, in the weights phase. */
static int is_read_again(const making *m, int n, int i) {
    return m->graph->nodes[n].reads_dx >> i & 1u && fbp_shares_gradient(m->graph, n);
}

/* A gradient that is read again lies in a buffer of its own, and what arrives at the value is a
 * copy. */
static void set_apart(making *m, int n, int i, fbp_step *step) {
    const fbp_value *x = value_of(m, m->graph->inputs[n][i]);
    int own = new_buffer(m, elements_of(&x->is));
    step->to[i] = m->out->dx_at[n * FBP_MAX_INPUTS + i] = own;
    keep(m, own);
}

static void backward(making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    const int *inputs = m->graph->inputs[n];
    int computed = 0, moved = 0, shared = fbp_shares_gradient(m->graph, n);
    for (int i = 0; i < node->n_out; i++)
        m->out->complete_at[m->graph->first_result[n] + i] = m->out->n_steps;
    clear_padding(m, n);
    touch_what_backward_reads(m, n, shared);
    int dy_clean = m->clean[m->graph->first_result[n]];
    for (int i = 0; i < node->n_in; i++)
        computed += (is_wanted(m, n, i) && !(node->passes >> i & 1u)) || is_read_again(m, n, i);
    if (computed > 0) {
        fbp_step *step = add_step(m, FBP_BACKWARD, n);
        int extra[FBP_MAX_INPUTS];
        for (int i = 0; i < node->n_in; i++) {
            extra[i] = -1;
            if (is_read_again(m, n, i)) set_apart(m, n, i, step);
            if (!is_wanted(m, n, i) || node->passes >> i & 1u) continue;
            int held = m->out->gradient_at[inputs[i]] >= 0;
            int clean = node->row->zero_padding == FBP_ZEROS_ALWAYS ||
                        (node->row->zero_padding == FBP_ZEROS_KEPT && dy_clean);
            m->clean[inputs[i]] = (char)(clean && (!held || m->clean[inputs[i]]));
            if (is_read_again(m, n, i)) continue;
            step->to[i] = destination(m, n, i, computed == 1);
            if (held) extra[i] = step->to[i];
            touch(m, step->to[i]);
        }
        end_step(m);
        for (int i = 0; i < node->n_in; i++) {
            if (extra[i] >= 0) add_to(m, inputs[i], extra[i]);
            if (is_read_again(m, n, i) && is_wanted(m, n, i))
                arrive(m, inputs[i], m->out->dx_at[n * FBP_MAX_INPUTS + i]);
        }
    }
    for (int i = 0; i < node->n_in; i++) {
        if (!is_wanted(m, n, i) || !(node->passes >> i & 1u)) continue;
        int held = m->out->gradient_at[inputs[i]] >= 0;
        m->clean[inputs[i]] = (char)(dy_clean && (!held || m->clean[inputs[i]]));
        pass(m, n, inputs[i], &moved);
    }
}

/* ---- room ---- */

/* The lowest place where no buffer of the same kind and of overlapping time lies: one after the
 * other, as they begin. */
static void place(fbp_schedule *schedule, int index) {
    fbp_buffer *buffer = &schedule->buffers[index];
    int64_t at = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (int i = 0; i < index; i++) {
            const fbp_buffer *other = &schedule->buffers[i];
            int apart = other->batch != buffer->batch || other->end < buffer->begin ||
                        buffer->end < other->begin || other->offset + other->elements <= at ||
                        at + buffer->elements <= other->offset;
            if (apart) continue;
            at = other->offset + other->elements;
            moved = 1;
        }
    }
    buffer->offset = at;
    int64_t *most = buffer->batch ? &schedule->batch_elements : &schedule->tile_elements;
    if (at + buffer->elements > *most) *most = at + buffer->elements;
}

/* ---- spots ---- */

static fbp_spot spot_of_buffer(const making *m, int buffer, const fbp_operand *is) {
    size_t size = is->is.content == FBP_INDEX ? sizeof(int32_t) : fbp_size(m->graph->dtype);
    fbp_spot spot = {.sample = (size_t)is->sample_stride * size};
    if (buffer < 0) return spot;
    spot.where = m->out->buffers[buffer].batch ? FBP_IN_BATCH : FBP_IN_TILE;
    spot.offset = (size_t)m->out->buffers[buffer].offset;
    return spot;
}

static fbp_spot spot_of_value(const making *m, int v) {
    const fbp_value *value = value_of(m, v);
    const fbp_graph *graph = m->graph;
    fbp_spot spot = spot_of_buffer(m, m->out->value_at[v], &value->is);
    if (value->source == FBP_FROM_PARAMETER) {
        spot.where = FBP_IN_PARAMETERS;
        spot.offset = (size_t)graph->parameters[value->index].offset * fbp_size(graph->dtype);
    } else if (value->source == FBP_FROM_CONSTANT) {
        spot.where = FBP_IN_GRAPH;
        spot.fixed = graph->constants[value->index];
    } else if (fbp_is_sparse(value)) {
        spot.where = FBP_IN_SAMPLES;
        spot.input = value->index;
    }
    return spot;
}

static void find_spots(const making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    fbp_spots *spots = &m->out->spots[n];
    for (int i = 0; i < node->n_in; i++) {
        spots->in[i] = spot_of_value(m, m->graph->inputs[n][i]);
        spots->dx[i] = spot_of_buffer(m, m->out->dx_at[n * FBP_MAX_INPUTS + i], &node->in[i]);
    }
    for (int i = 0; i < node->n_out; i++) {
        int v = m->graph->first_result[n] + i;
        spots->out[i] = spot_of_value(m, v);
        spots->dy[i] = spot_of_buffer(m, m->out->gradient_at[v], &node->out[i]);
    }
    for (int i = node->n_out; i < node->n_out + node->n_kept; i++)
        spots->out[i] = spot_of_buffer(m, m->out->kept_at[n * FBP_MAX_OUTPUTS + i], &node->out[i]);
}

/* ---- the whole ---- */

static void make(making *m, int n_outputs, const int *outputs) {
    const fbp_graph *graph = m->graph;
    for (int v = 0; v < graph->n_inputs; v++) gather(m, v);
    for (int n = 0; n < graph->n_nodes; n++) forward(m, n);
    for (int i = 0; i < n_outputs; i++) touch(m, m->out->value_at[outputs[i]]);
    m->out->first_loss = m->out->n_steps;
    for (int i = 0; i < graph->n_losses && m->training; i++) loss(m, i);
    for (int n = graph->n_nodes - 1; n >= 0 && m->training; n--)
        if (goes_back(m, n)) backward(m, n);
    for (int v = 0; v < graph->n_values; v++)
        if (m->out->gradient_at[v] >= 0 && graph->values[v].source == FBP_FROM_INPUT)
            m->out->complete_at[v] = m->out->n_steps;
    for (int i = 0; i < m->out->n_buffers; i++) { /* the weights phase comes last */
        if (m->out->buffers[i].batch) m->out->buffers[i].end = m->out->n_steps;
    }
    for (int i = 0; i < m->out->n_buffers; i++) place(m->out, i);
    for (int n = 0; n < graph->n_nodes; n++) find_spots(m, n);
}

static fbp_status allocate(fbp_schedule *schedule, const fbp_graph *graph) {
    /* A node has a step forward, one for each result's ones and zeros, one back and, for each
     * input, one that adds or passes; a value, a gradient and one to be added for each. */
    size_t nodes = (size_t)graph->n_nodes, values = (size_t)graph->n_values;
    size_t losses = (size_t)graph->n_losses;
    size_t steps = nodes * (2 + 2 * FBP_MAX_OUTPUTS + FBP_MAX_INPUTS) + values + 2 * losses;
    size_t buffers = 2 * values + nodes * (FBP_MAX_OUTPUTS + 2 * FBP_MAX_INPUTS) + losses;
    schedule->steps = fbp_alloc(steps * sizeof *schedule->steps);
    schedule->buffers = fbp_alloc(buffers * sizeof *schedule->buffers);
    schedule->value_at = fbp_alloc(values * sizeof *schedule->value_at);
    schedule->gradient_at = fbp_alloc(values * sizeof *schedule->gradient_at);
    schedule->complete_at = fbp_alloc(values * sizeof *schedule->complete_at);
    schedule->kept_at = fbp_alloc(nodes * FBP_MAX_OUTPUTS * sizeof *schedule->kept_at);
    schedule->dx_at = fbp_alloc(nodes * FBP_MAX_INPUTS * sizeof *schedule->dx_at);
    schedule->spots = fbp_alloc(nodes * sizeof *schedule->spots);
    int all = schedule->dx_at && schedule->spots && schedule->steps && schedule->buffers &&
              schedule->value_at && schedule->gradient_at && schedule->complete_at &&
              schedule->kept_at;
    if (!all) return FBP_NO_MEMORY;
    for (size_t v = 0; v < values; v++)
        schedule->value_at[v] = schedule->gradient_at[v] = schedule->complete_at[v] = -1;
    for (size_t i = 0; i < nodes * FBP_MAX_OUTPUTS; i++) schedule->kept_at[i] = -1;
    for (size_t i = 0; i < nodes * FBP_MAX_INPUTS; i++) schedule->dx_at[i] = -1;
    return FBP_OK;
}

fbp_status fbp_schedule_make(fbp_schedule *schedule, const fbp_graph *graph, int n_outputs,
                             const int *outputs) {
    fbp_status status = allocate(schedule, graph);
    if (status != FBP_OK) return status;
    making m = {schedule, graph, outputs == NULL, fbp_alloc((size_t)graph->n_values)};
    if (m.clean == NULL) return FBP_NO_MEMORY;
    make(&m, n_outputs, outputs);
    fbp_free(m.clean);
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
}
