/* The half of a schedule that goes back: the losses, whose gradients they begin with, and the nodes
 * from the last to the first. */
#include "core/making.h"

static void join(fbp_making *m, fbp_step_kind kind, int v, int from) {
    fbp_step *step = fbp_add_step(m, kind, v);
    step->from = from;
    step->by = fbp_value_of(m, v)->is.is.batched ? FBP_BY_TILES : FBP_BY_ONE;
    fbp_touch(m, from);
    fbp_touch(m, m->out->gradient_at[v]);
    fbp_end_step(m);
}

/* A gradient that lies in another buffer becomes the value's, or is added to it. */
static void arrive(fbp_making *m, int v, int from) {
    int held = m->out->gradient_at[v] >= 0;
    if (!held) m->out->gradient_at[v] = fbp_new_buffer(m, &fbp_value_of(m, v)->is);
    join(m, held ? FBP_ADD : FBP_PASS, v, from);
}

/* Backward of node n reads its operands and the gradients of its results; if `kept`, gradients of
 * parameters are formed from them as well. */
static void touch_what_backward_reads(fbp_making *m, int n, int kept) {
    const fbp_node *node = &m->graph->nodes[n];
    fbp_schedule *out = m->out;
    for (int i = 0; i < node->n_in + node->n_out + node->n_kept; i++) {
        int o = i - node->n_in, at, gradient = -1;
        if (o < 0) {
            int x = m->graph->inputs[n][i];
            at = node->reads_in >> i & 1u ? fbp_back_at(out, m->graph, n, x) : -1;
        } else if (o < node->n_out) {
            int v = m->graph->first_result[n] + o;
            at = node->reads_out >> o & 1u ? fbp_back_at(out, m->graph, n, v) : -1;
            gradient = out->gradient_at[v];
        } else {
            at = out->kept_at[n * FBP_MAX_OUTPUTS + o];
        }
        fbp_touch(m, at);
        fbp_touch(m, gradient);
        if (!kept) continue;
        fbp_keep(m, at);
        fbp_keep(m, gradient);
    }
}

/* What its nodes read has room for the whole batch. */
void fbp_sum_uses(fbp_making *m, int v, int n) {
    const fbp_graph *graph = m->graph;
    for (int user = m->summed[v] - 1; user > n; user--)
        for (int i = 0; i < graph->nodes[user].n_in; i++) {
            if (graph->inputs[user][i] != v || !fbp_sums_gradient(graph, user, i)) continue;
            fbp_step *step = fbp_add_step(m, FBP_SUM, user);
            step->by = FBP_BY_PARTS;
            step->from = i;
            step->add = m->out->gradient_at[v] >= 0;
            if (!step->add) m->out->gradient_at[v] = fbp_new_buffer(m, &fbp_value_of(m, v)->is);
            step->to[0] = m->out->gradient_at[v];
            step->runs_on = m->out->goes_apart && fbp_value_of(m, v)->derived;
            fbp_touch(m, step->to[0]);
            touch_what_backward_reads(m, user, 0);
            for (int x = 0; x < graph->nodes[user].n_in; x++)
                fbp_touch(m, m->out->dx_at[user * FBP_MAX_INPUTS + x]);
            fbp_end_step(m);
        }
    m->summed[v] = n + 1;
}

/* Before node n goes back, all that comes to what it shares with others from behind it is there. */
static void sum_before(fbp_making *m, int n) {
    const fbp_graph *graph = m->graph;
    if (!fbp_is_common(graph, n) && !graph->nodes[n].alone) return;
    for (int i = 0; i < graph->nodes[n].n_out; i++) fbp_sum_uses(m, graph->first_result[n] + i, n);
    for (int i = 0; i < graph->nodes[n].n_in; i++) {
        const fbp_value *x = fbp_value_of(m, graph->inputs[n][i]);
        int made = x->source == FBP_FROM_NODE; /* a parameter's is for the weights phase */
        if (made && !x->is.is.batched && x->gradient) fbp_sum_uses(m, graph->inputs[n][i], n);
    }
}

static void loss(fbp_making *m, int index) {
    int v = m->graph->losses[index].value;
    const fbp_value *z = fbp_value_of(m, v);
    fbp_step *step = fbp_add_step(m, FBP_LOSS_OF, index);
    fbp_touch(m, m->out->value_at[v]);
    int again = m->out->gradient_at[v] >= 0;
    if (z->gradient) {
        int place = !again && z->n_uses == 1 && !fbp_read_by_producer(m, v);
        step->to[0] = place ? m->out->value_at[v] : fbp_new_buffer(m, &z->is);
        fbp_touch(m, step->to[0]);
    }
    int made = step->to[0];
    fbp_end_step(m);
    if (again && made >= 0)
        join(m, FBP_ADD, v, made);
    else
        m->out->gradient_at[v] = made;
    m->clean[v] = 1;
}

/* A gradient that passes a node unchanged: the buffer itself where nobody else needs it. */
static void pass(fbp_making *m, int n, int v, int *moved) {
    fbp_schedule *out = m->out;
    int from = out->gradient_at[m->graph->first_result[n]];
    if (out->gradient_at[v] < 0 && !*moved && fbp_value_of(m, v)->n_uses == 1 &&
        !fbp_shares_gradient(m->graph, n)) {
        out->gradient_at[v] = from;
        *moved = 1;
    } else {
        arrive(m, v, from);
    }
}

/* Gradients that take part in products must have zeros in their padding. */
static void clear_padding(fbp_making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    int result = m->graph->first_result[n];
    for (int i = 0; i < node->n_out && node->row->padded_results; i++) {
        if (m->out->gradient_at[result + i] < 0 || m->clean[result + i]) continue;
        fbp_add_step(m, FBP_ZEROS, result + i);
        fbp_touch(m, m->out->gradient_at[result + i]);
        fbp_end_step(m);
    }
}

/* Where a gradient goes: to its value's buffer, or, where that holds one already, to another, which
 * is then added. */
static int destination(fbp_making *m, int n, int i, int alone) {
    const fbp_node *node = &m->graph->nodes[n];
    int v = m->graph->inputs[n][i], result = m->graph->first_result[n];
    const fbp_operand *x = &fbp_value_of(m, v)->is;
    if (m->out->gradient_at[v] >= 0) return fbp_new_buffer(m, x);
    int dy = m->out->gradient_at[result];
    int place = i == 0 && alone && node->in_place && node->n_out == 1 &&
                !fbp_shares_gradient(m->graph, n) && fbp_fits(x, &fbp_value_of(m, result)->is);
    return m->out->gradient_at[v] = place ? dy : fbp_new_buffer(m, x);
}

static int is_wanted(const fbp_making *m, int n, int i) {
    const fbp_node *node = &m->graph->nodes[n];
    return (node->differentiable & ~node->shared) >> i & 1u &&
           fbp_value_of(m, m->graph->inputs[n][i])->gradient;
}

/* Whether the gradients of shared inputs are made of that of input i, in the weights phase. */
static int is_read_again(const fbp_making *m, int n, int i) {
    return m->graph->nodes[n].reads_dx >> i & 1u && fbp_shares_gradient(m->graph, n);
}

/* A gradient that is read again lies in a buffer of its own, and what arrives at the value is a
 * copy. */
static void set_apart(fbp_making *m, int n, int i, fbp_step *step) {
    int own = fbp_new_buffer(m, &fbp_value_of(m, m->graph->inputs[n][i])->is);
    step->to[i] = m->out->dx_at[n * FBP_MAX_INPUTS + i] = own;
    fbp_keep(m, own);
}

static void backward(fbp_making *m, int n) {
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
        fbp_step *step = fbp_add_step(m, FBP_BACKWARD, n);
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
            fbp_touch(m, step->to[i]);
        }
        fbp_end_step(m);
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

/* By itself: all gradients are made anew, those of parameters for the weights phase. */
static void backward_alone(fbp_making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    const int *inputs = m->graph->inputs[n];
    int extra[FBP_MAX_INPUTS];
    sum_before(m, n);
    for (int i = 0; i < node->n_out; i++)
        m->out->complete_at[m->graph->first_result[n] + i] = m->out->n_steps;
    touch_what_backward_reads(m, n, 0);
    fbp_step *step = fbp_add_step(m, FBP_BACKWARD, n);
    step->by = FBP_BY_ONE;
    for (int i = 0; i < node->n_in; i++) {
        const fbp_value *x = fbp_value_of(m, inputs[i]);
        extra[i] = -1;
        if (!(node->differentiable >> i & 1u) || !x->gradient) continue;
        if (fbp_yields_gradient(m->graph, n, i)) {
            set_apart(m, n, i, step);
            continue;
        }
        step->to[i] = fbp_new_buffer(m, &x->is);
        m->clean[inputs[i]] = 0;
        if (m->out->gradient_at[inputs[i]] < 0)
            m->out->gradient_at[inputs[i]] = step->to[i];
        else
            extra[i] = step->to[i];
    }
    fbp_end_step(m);
    for (int i = 0; i < node->n_in; i++)
        if (extra[i] >= 0) join(m, FBP_ADD, inputs[i], extra[i]);
}

/* ---- the whole ---- */

/* Gradients arrive at what is derived in the order of its uses: one that is of what samples share
 * has no part in what goes back apart. */
static int can_go_apart(const fbp_graph *graph) {
    for (int n = 0; n < graph->n_nodes; n++)
        for (int i = 0; i < graph->nodes[n].n_in; i++) {
            const fbp_value *x = &graph->values[graph->inputs[n][i]];
            if (graph->nodes[n].alone && !fbp_is_derived(graph, n) && x->derived &&
                x->source == FBP_FROM_NODE)
                return 0;
        }
    return 1;
}

/* One meeting for all that is derived, where that can be. */
static void nodes_backward(fbp_making *m) {
    int apart = m->out->goes_apart = can_go_apart(m->graph);
    for (int turn = 0; turn <= apart; turn++) {
        m->out->first_apart = m->out->n_steps;
        for (int n = m->graph->n_nodes - 1; n >= 0; n--) {
            if (!fbp_goes_back(m->graph, n) || (apart && turn != fbp_is_derived(m->graph, n)))
                continue;
            fbp_go_back_to(m, n);
            (m->graph->nodes[n].alone ? backward_alone : backward)(m, n);
        }
    }
    if (!apart) m->out->first_apart = m->out->n_steps;
    fbp_end_turns(m);
}

void fbp_make_backward(fbp_making *m) {
    for (int i = 0; i < m->graph->n_losses; i++) loss(m, i);
    nodes_backward(m);
}
