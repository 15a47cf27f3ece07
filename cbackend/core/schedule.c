/* Making a schedule: the steps in their order, and the buffers that each needs, which room.c gives
 * their places. */
#include "core/schedule.h"

#include <string.h>

#include "core/arena.h"

/* What is known while a schedule grows. */
typedef struct {
    fbp_schedule *out;
    const fbp_graph *graph;
    int training;
    char *clean;  /* (n_values) the gradient's padding holds zeros */
    char *needed; /* (n_values) for what a schedule for predict yields */
    int *summed; /* (n_values) of its uses, those by this node and later ones are in the gradient */
} making;

/* ---- buffers ---- */

/* What samples share is made anew by every tile of predict. */
static int new_buffer(making *m, const fbp_operand *x) {
    fbp_buffer *buffer = &m->out->buffers[m->out->n_buffers];
    int64_t elements = x->is.batched ? x->sample_stride : fbp_elements(x);
    buffer->elements = fbp_round_up(elements, fbp_pad(m->graph->dtype));
    buffer->begin = buffer->end = m->out->n_steps;
    buffer->where = x->is.batched || !m->training ? FBP_IN_TILE : FBP_IN_COMMON;
    return m->out->n_buffers++;
}

/* The step that is being made reads or writes it. */
static void touch(making *m, int buffer) {
    if (buffer >= 0) m->out->buffers[buffer].end = m->out->n_steps;
}

/* The weights phase reads it. */
static void keep(making *m, int buffer) {
    if (buffer >= 0) m->out->buffers[buffer].kept = 1;
}

static const fbp_value *value_of(const making *m, int v) { return &m->graph->values[v]; }

/* Whether the elements of one can lie where those of the other do. */
static int fits(const fbp_operand *x, const fbp_operand *y) {
    return x->is.batched == y->is.batched && fbp_extent(x, 1) == fbp_extent(y, 1);
}

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
    if (fbp_is_sparse(value) || value->n_uses == 0 || !m->needed[v]) return;
    m->out->value_at[v] = new_buffer(m, &value->is);
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
    return fits(&value_of(m, x)->is, &value_of(m, y)->is);
}

static int goes_back(const making *m, int n) { return m->training && fbp_goes_back(m->graph, n); }

static int reads_samples(const making *m, int n) {
    for (int i = 0; i < m->graph->nodes[n].n_in; i++)
        if (m->graph->nodes[n].in[i].is.batched) return 1;
    return 0;
}

/* Who takes a step of node n: of those that samples share, one thread what is made of such values
 * alone. */
static fbp_crew crew_of(const making *m, int n, fbp_crew of_samples) {
    if (!m->training || !fbp_is_coupled(&m->graph->nodes[n])) return FBP_BY_TILES;
    return reads_samples(m, n) ? of_samples : FBP_BY_ONE;
}

static void forward(making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    fbp_schedule *out = m->out;
    int result = m->graph->first_result[n];
    add_step(m, FBP_FORWARD, n)->by = crew_of(m, n, FBP_BY_PARTS);
    for (int i = 0; i < node->n_out; i++) {
        int place = i == 0 && takes_place(m, n);
        out->value_at[result + i] =
            place ? out->value_at[m->graph->inputs[n][0]] : new_buffer(m, &node->out[i]);
        touch(m, out->value_at[result + i]);
    }
    for (int i = node->n_out; i < node->n_out + node->n_kept && goes_back(m, n); i++)
        out->kept_at[n * FBP_MAX_OUTPUTS + i] = new_buffer(m, &node->out[i]);
    for (int i = 0; i < node->n_in; i++) touch(m, out->value_at[m->graph->inputs[n][i]]);
    end_step(m);
    for (int i = 0; i < node->n_out; i++) set_ones(m, result + i);
}

/* ---- gradients ---- */

static void join(making *m, fbp_step_kind kind, int v, int from) {
    fbp_step *step = add_step(m, kind, v);
    step->from = from;
    step->by = value_of(m, v)->is.is.batched ? FBP_BY_TILES : FBP_BY_ONE;
    touch(m, from);
    touch(m, m->out->gradient_at[v]);
    end_step(m);
}

/* A gradient that lies in another buffer becomes the value's, or is added to it. */
static void arrive(making *m, int v, int from) {
    int held = m->out->gradient_at[v] >= 0;
    if (!held) m->out->gradient_at[v] = new_buffer(m, &value_of(m, v)->is);
    join(m, held ? FBP_ADD : FBP_PASS, v, from);
}

/* The gradient of a value that samples share: the sums of its uses by nodes behind node n that are
 * not in it yet, from the last to the first. What they read is kept until the end of the step. */
static void sum_uses(making *m, int v, int n) {
    const fbp_graph *graph = m->graph;
    for (int user = m->summed[v] - 1; user > n; user--)
        for (int i = 0; i < graph->nodes[user].n_in; i++) {
            if (graph->inputs[user][i] != v || !fbp_sums_gradient(graph, user, i)) continue;
            fbp_step *step = add_step(m, FBP_SUM, user);
            step->by = FBP_BY_PARTS;
            step->from = i;
            step->add = m->out->gradient_at[v] >= 0;
            if (!step->add) m->out->gradient_at[v] = new_buffer(m, &value_of(m, v)->is);
            step->to[0] = m->out->gradient_at[v];
            touch(m, step->to[0]);
            end_step(m);
        }
    m->summed[v] = n + 1;
}

/* Before node n goes back, all that comes to what it shares with others from behind it is there. */
static void sum_before(making *m, int n) {
    const fbp_graph *graph = m->graph;
    if (!fbp_is_coupled(&graph->nodes[n])) return;
    for (int i = 0; i < graph->nodes[n].n_out; i++) sum_uses(m, graph->first_result[n] + i, n);
    for (int i = 0; i < graph->nodes[n].n_in; i++) {
        const fbp_value *x = value_of(m, graph->inputs[n][i]);
        if (!x->is.is.batched && x->gradient) sum_uses(m, graph->inputs[n][i], n);
    }
}

static void loss(making *m, int index) {
    int v = m->graph->losses[index].value;
    const fbp_value *z = value_of(m, v);
    fbp_step *step = add_step(m, FBP_LOSS_OF, index);
    touch(m, m->out->value_at[v]);
    int again = m->out->gradient_at[v] >= 0;
    if (z->gradient) {
        int place = !again && z->n_uses == 1 && !read_by_producer(m, v);
        step->to[0] = place ? m->out->value_at[v] : new_buffer(m, &z->is);
        touch(m, step->to[0]);
    }
    int made = step->to[0];
    end_step(m);
    if (again && made >= 0)
        join(m, FBP_ADD, v, made);
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
    const fbp_operand *x = &value_of(m, v)->is;
    if (m->out->gradient_at[v] >= 0) return new_buffer(m, x);
    int dy = m->out->gradient_at[result];
    int place = i == 0 && alone && node->in_place && node->n_out == 1 &&
                !fbp_shares_gradient(m->graph, n) && fits(x, &value_of(m, result)->is);
    return m->out->gradient_at[v] = place ? dy : new_buffer(m, x);
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
    int own = new_buffer(m, &value_of(m, m->graph->inputs[n][i])->is);
    step->to[i] = m->out->dx_at[n * FBP_MAX_INPUTS + i] = own;
    keep(m, own);
}

static void backward(making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    const int *inputs = m->graph->inputs[n];
    int computed = 0, moved = 0, shared = fbp_shares_gradient(m->graph, n);
    sum_before(m, n);
    for (int i = 0; i < node->n_out; i++)
        m->out->complete_at[m->graph->first_result[n] + i] = m->out->n_steps;
    clear_padding(m, n);
    touch_what_backward_reads(m, n, shared);
    int dy_clean = m->clean[m->graph->first_result[n]];
    for (int i = 0; i < node->n_in; i++)
        computed += (is_wanted(m, n, i) && !(node->passes >> i & 1u)) || is_read_again(m, n, i);
    if (computed > 0) {
        fbp_step *step = add_step(m, FBP_BACKWARD, n);
        step->by = crew_of(m, n, FBP_BY_TILES);
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
            if (extra[i] >= 0) join(m, FBP_ADD, inputs[i], extra[i]);
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

/* ---- the whole ---- */

/* Of a node one of whose results is wanted, and has no parameter in its place. */
static int is_needed(const making *m, int n) {
    int needed = m->training;
    for (int i = 0; i < m->graph->nodes[n].n_out; i++) {
        int v = m->graph->first_result[n] + i;
        needed |= m->needed[v] && value_of(m, v)->parameter < 0;
    }
    return needed;
}

static void find_needed(making *m, int n_outputs, const int *outputs) {
    memset(m->needed, m->training, (size_t)m->graph->n_values);
    m->out->coupled = -1;
    for (int i = 0; i < n_outputs; i++) m->needed[outputs[i]] = 1;
    for (int n = m->graph->n_nodes - 1; n >= 0; n--) {
        if (!is_needed(m, n)) continue;
        for (int i = 0; i < m->graph->nodes[n].n_in; i++) m->needed[m->graph->inputs[n][i]] = 1;
        if (fbp_is_coupled(&m->graph->nodes[n]) && reads_samples(m, n)) m->out->coupled = n;
    }
}

static void make(making *m, int n_outputs, const int *outputs) {
    const fbp_graph *graph = m->graph;
    for (int v = 0; v < graph->n_values; v++) m->summed[v] = graph->n_nodes;
    find_needed(m, n_outputs, outputs);
    for (int v = 0; v < graph->n_inputs; v++) gather(m, v);
    for (int n = 0; n < graph->n_nodes; n++)
        if (is_needed(m, n)) forward(m, n);
    for (int i = 0; i < n_outputs; i++) touch(m, m->out->value_at[outputs[i]]);
    m->out->first_loss = m->out->n_steps;
    for (int i = 0; i < graph->n_losses && m->training; i++) loss(m, i);
    for (int n = graph->n_nodes - 1; n >= 0 && m->training; n--)
        if (goes_back(m, n)) backward(m, n);
    for (int v = 0; v < graph->n_values; v++)
        if (m->out->gradient_at[v] >= 0 && graph->values[v].source == FBP_FROM_INPUT)
            m->out->complete_at[v] = m->out->n_steps;
    for (int v = 0; v < graph->n_values; v++) /* what follows a value does so after the step */
        if (m->training && graph->values[v].parameter >= 0) keep(m, m->out->value_at[v]);
    fbp_schedule_place(m->out, graph, m->training);
}

fbp_status fbp_schedule_make(fbp_schedule *schedule, const fbp_graph *graph, int n_outputs,
                             const int *outputs) {
    fbp_status status = fbp_schedule_allocate(schedule, graph);
    if (status != FBP_OK) return status;
    size_t values = (size_t)graph->n_values;
    making m = {.out = schedule, .graph = graph, .training = outputs == NULL};
    m.clean = fbp_alloc(values);
    m.needed = fbp_alloc(values);
    m.summed = fbp_alloc(values * sizeof *m.summed);
    if (m.clean != NULL && m.needed != NULL && m.summed != NULL)
        make(&m, n_outputs, outputs);
    else
        status = FBP_NO_MEMORY;
    fbp_free(m.clean);
    fbp_free(m.needed);
    fbp_free(m.summed);
    return status;
}
