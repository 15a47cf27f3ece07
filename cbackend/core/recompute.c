/* Checkpoints, as the making of a schedule sees them: parts of a graph that keep nothing of a batch
 * but what crosses their borders. On the way forward their values live in tiles. Before such a part
 * goes back, its nodes run again, as far as backward reads what they make; behind it the gradients
 * of its parameters have their turn, and then the room of all that they are formed from is free for
 * the next (Chen et al. 2016, arXiv:1604.06174). Runs, sums and their order are those of the same
 * graph without checkpoints, and so are all bits. How steps run is no concern of this file.
 *
 * What samples share, and what parameters and constants alone make, is small, and made once. */
#include "core/making.h"

/* ---- the second run ---- */

int fbp_back_at(const fbp_schedule *schedule, const fbp_graph *graph, int n, int v) {
    int at = schedule->again_at[v];
    int here =
        at >= 0 && fbp_checkpoint_of(graph, graph->values[v].index) == fbp_checkpoint_of(graph, n);
    return here ? at : schedule->value_at[v];
}

/* The nodes [begin, end) of one checkpoint, and what is derived among them. */
typedef struct {
    int begin, end;
} stretch;

static stretch stretch_around(const fbp_graph *graph, int n) {
    stretch part = {n, n + 1};
    int checkpoint = graph->nodes[n].checkpoint;
    while (part.begin > 0 && graph->nodes[part.begin - 1].checkpoint == checkpoint) part.begin--;
    while (part.end < graph->n_nodes && graph->nodes[part.end].checkpoint == checkpoint) part.end++;
    return part;
}

/* Whether node n holds what it reads for the whole batch, until it has gone back. */
static int holds(const fbp_graph *graph, int n, int i) {
    if (!fbp_goes_back(graph, n)) return 0;
    if (fbp_checkpoint_of(graph, n) > 0) return 1; /* to run again */
    return (graph->nodes[n].reads_in >> i & 1u) &&
           (fbp_shares_gradient(graph, n) || fbp_is_common(graph, n));
}

/* Whether a value is there from the first run when its checkpoint goes back: held by a node behind
 * that. (What takes the place of what it reads does so only where no producer reads that.) */
static int is_there(const fbp_graph *graph, stretch part, int v) {
    for (int n = part.end; n < graph->n_nodes; n++)
        for (int i = 0; i < graph->nodes[n].n_in; i++)
            if (graph->inputs[n][i] == v && holds(graph, n, i)) return 1;
    return 0;
}

static void want_again(fbp_making *m, stretch part, int n, int v) {
    if (fbp_is_within(m, n, v) && !is_there(m->graph, part, v)) m->again[v] = 1;
}

/* Whether node n runs again: for what it keeps, as a callback may, or for a result that backward or
 * a later node reads again. */
static int runs_again(const fbp_making *m, int n) {
    if (!fbp_runs_twice(m, n)) return 0;
    const fbp_node *node = &m->graph->nodes[n];
    int again = (node->n_kept > 0 || node->callback != NULL) && fbp_goes_back(m->graph, n);
    for (int i = 0; i < node->n_out; i++) again |= m->again[m->graph->first_result[n] + i];
    return again;
}

static void find_what_runs_again(fbp_making *m, stretch part) {
    for (int n = part.end - 1; n >= part.begin; n--) {
        const fbp_node *node = &m->graph->nodes[n];
        int back = fbp_goes_back(m->graph, n);
        for (int i = 0; i < node->n_out; i++)
            if (back && node->reads_out >> i & 1u)
                want_again(m, part, n, m->graph->first_result[n] + i);
        int again = runs_again(m, n);
        for (int i = 0; i < node->n_in; i++)
            if (again || (back && node->reads_in >> i & 1u))
                want_again(m, part, n, m->graph->inputs[n][i]);
    }
}

static int takes_place(const fbp_making *m, int n) {
    int x = m->graph->inputs[n][0];
    return fbp_takes_place(m, n, m->out->again_at[x],
                           !fbp_is_within(m, n, x) || fbp_reads_first(m, n));
}

static void forward_again(fbp_making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    fbp_schedule *out = m->out;
    int result = m->graph->first_result[n];
    fbp_step *step = fbp_add_step(m, FBP_FORWARD, n);
    step->again = 1;
    step->by = node->alone ? FBP_BY_ONE : FBP_BY_TILES;
    for (int i = 0; i < node->n_out; i++) {
        int place = i == 0 && takes_place(m, n);
        out->again_at[result + i] = place ? out->again_at[m->graph->inputs[n][0]]
                                          : fbp_new_buffer(m, &fbp_value_of(m, result + i)->is);
        fbp_touch(m, out->again_at[result + i]);
    }
    for (int i = node->n_out; i < node->n_out + node->n_kept && fbp_goes_back(m->graph, n); i++) {
        fbp_operand kept = fbp_kept_operand(node, i);
        out->kept_at[n * FBP_MAX_OUTPUTS + i] = fbp_new_buffer(m, &kept);
    }
    for (int i = 0; i < node->n_in; i++)
        fbp_touch(m, fbp_back_at(out, m->graph, n, m->graph->inputs[n][i]));
    fbp_end_step(m);
    for (int i = 0; i < node->n_out; i++) fbp_set_ones(m, result + i, 1);
    out->flops_again += node->flops[0];
}

/* ---- turns ---- */

/* Whether the gradient of a derived value is made of sums over samples alone. */
static int is_of_sums(const fbp_graph *graph, int v) {
    for (int n = 0; n < graph->n_nodes; n++)
        for (int i = 0; i < graph->nodes[n].n_in; i++)
            if (graph->inputs[n][i] == v && graph->nodes[n].alone) return 0;
    return 1;
}

/* Behind node n, what is summed up of the nodes behind it waits for none of them. */
static void sum_derived(fbp_making *m, int n) {
    for (int v = 0; v < m->graph->n_values && m->out->goes_apart; v++) {
        const fbp_value *value = fbp_value_of(m, v);
        int made = value->source == FBP_FROM_NODE && value->derived && value->gradient;
        if (made && is_of_sums(m->graph, v)) fbp_sum_uses(m, v, n);
    }
}

/* All uses of parameters that have gone back since the last turn. */
static void take_turn(fbp_making *m) {
    fbp_add_step(m, FBP_GRADIENTS, m->out->n_turns)->by = FBP_BY_PARAMETERS;
    for (int b = 0; b < m->out->n_buffers; b++) {
        if (!m->out->buffers[b].waits) continue;
        fbp_touch(m, b);
        m->out->buffers[b].waits = 0;
    }
    fbp_end_step(m);
    m->out->n_turns++;
    m->due = 0;
}

void fbp_go_back_to(fbp_making *m, int n) {
    const fbp_graph *graph = m->graph;
    int to = fbp_checkpoint_of(graph, n);
    if (!fbp_is_derived(graph, n) && to != m->inside) {
        if (m->due) {
            sum_derived(m, n);
            take_turn(m);
        }
        m->inside = to;
        stretch part = stretch_around(graph, n);
        if (to > 0) find_what_runs_again(m, part);
        for (int again = part.begin; to > 0 && again < part.end; again++)
            if (runs_again(m, again)) forward_again(m, again);
    }
    m->out->turn_of[n] = m->out->n_turns;
    m->due |= fbp_shares_gradient(graph, n);
    for (int i = 0; i < graph->nodes[n].n_in; i++) m->due |= fbp_yields_gradient(graph, n, i);
}

/* Where nothing has had its turn, the weights phase is all that is needed. */
void fbp_end_turns(fbp_making *m) {
    if (m->out->n_turns > 0 && m->due) take_turn(m);
}
