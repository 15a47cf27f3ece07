/* Making a schedule: the steps in their order, and the buffers that each needs, which room.c gives
 * their places. Here those that go forward; schedule_back.c has those that go back. */
#include <string.h>

#include "core/arena.h"
#include "core/making.h"

/* ---- steps ---- */

void fbp_set_ones(fbp_making *m, int v, int again) {
    if (!fbp_value_of(m, v)->ones || !m->training) return;
    fbp_step *step = fbp_add_step(m, FBP_ONES, v);
    step->again = again;
    step->to[0] = again ? m->out->again_at[v] : m->out->value_at[v];
    fbp_touch(m, step->to[0]);
    fbp_end_step(m);
}

static void gather(fbp_making *m, int v) {
    const fbp_value *value = fbp_value_of(m, v);
    if (fbp_is_sparse(value) || value->n_uses == 0 || !m->needed[v]) return;
    m->out->value_at[v] = fbp_new_buffer(m, &value->is);
    fbp_add_step(m, FBP_GATHER, v);
    fbp_touch(m, m->out->value_at[v]);
    fbp_end_step(m);
}

int fbp_takes_place(const fbp_making *m, int n, int at, int read_again) {
    const fbp_node *node = &m->graph->nodes[n];
    const fbp_value *x = fbp_value_of(m, m->graph->inputs[n][0]);
    if (!node->in_place || node->alone || at < 0 || x->n_uses != 1 || read_again) return 0;
    return fbp_fits(&x->is, &fbp_value_of(m, m->graph->first_result[n])->is);
}

/* In a checkpoint backward does not read it again, but what comes from elsewhere is there for the
 * second run. */
static int takes_place(const fbp_making *m, int n) {
    int x = m->graph->inputs[n][0], back = m->training && fbp_reads_first(m, n);
    int read_again = fbp_runs_twice(m, n) ? !fbp_is_within(m, n, x) : back;
    return fbp_takes_place(m, n, m->out->value_at[x], read_again);
}

/* Who takes a step of node n: one thread what runs by itself, all of them what samples share. */
static fbp_crew crew_of(const fbp_making *m, int n) {
    if (m->graph->nodes[n].alone) return FBP_BY_ONE;
    return fbp_is_common(m->graph, n) ? FBP_BY_PARTS : FBP_BY_TILES;
}

static void forward(fbp_making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    fbp_schedule *out = m->out;
    int result = m->graph->first_result[n];
    int back = m->training && fbp_goes_back(m->graph, n) && !fbp_runs_twice(m, n);
    fbp_add_step(m, FBP_FORWARD, n)->by = crew_of(m, n);
    for (int i = 0; i < node->n_out; i++) {
        int place = i == 0 && takes_place(m, n);
        out->value_at[result + i] = place ? out->value_at[m->graph->inputs[n][0]]
                                          : fbp_new_buffer(m, &fbp_value_of(m, result + i)->is);
        fbp_touch(m, out->value_at[result + i]);
    }
    for (int i = node->n_out; i < node->n_out + node->n_kept && back; i++) {
        fbp_operand kept = fbp_kept_operand(node, i);
        out->kept_at[n * FBP_MAX_OUTPUTS + i] = fbp_new_buffer(m, &kept);
    }
    for (int i = 0; i < node->n_in; i++) fbp_touch(m, out->value_at[m->graph->inputs[n][i]]);
    fbp_end_step(m);
    for (int i = 0; i < node->n_out; i++) fbp_set_ones(m, result + i, 0);
}

/* ---- the whole ---- */

/* Of a node one of whose results is wanted, and has no parameter in its place. */
static int is_needed(const fbp_making *m, int n) {
    int needed = m->training;
    for (int i = 0; i < m->graph->nodes[n].n_out; i++) {
        int v = m->graph->first_result[n] + i;
        needed |= m->needed[v] && fbp_value_of(m, v)->parameter < 0;
    }
    return needed;
}

/* A callback may do so; in predict its results are taken for those of samples that know nothing of
 * each other. */
static int couples(const fbp_making *m, int n) {
    const fbp_node *node = &m->graph->nodes[n];
    if (node->callback != NULL) return m->training && !fbp_is_common(m->graph, n);
    return fbp_is_common(m->graph, n) && !node->alone;
}

static void find_needed(fbp_making *m, int n_outputs, const int *outputs) {
    memset(m->needed, m->training, (size_t)m->graph->n_values);
    m->out->coupled = -1;
    for (int i = 0; i < n_outputs; i++) m->needed[outputs[i]] = 1;
    for (int n = m->graph->n_nodes - 1; n >= 0; n--) {
        if (!is_needed(m, n)) continue;
        for (int i = 0; i < m->graph->nodes[n].n_in; i++) m->needed[m->graph->inputs[n][i]] = 1;
        if (couples(m, n)) m->out->coupled = n;
    }
}

/* What is there before any sample is read: in predict also what running parameters make. */
static int comes_first(const fbp_making *m, int n) {
    if (m->training) return fbp_is_derived(m->graph, n);
    return m->graph->nodes[n].alone && fbp_is_common(m->graph, n);
}

/* In predict: where samples meet, an output is yielded behind the last step, for whole batches. */
static void keep_outputs(fbp_making *m, int n_outputs, const int *outputs) {
    int meet = 0;
    for (int s = m->out->n_derived; s < m->out->n_steps; s++)
        meet |= m->out->steps[s].by != FBP_BY_TILES;
    for (int i = 0; i < n_outputs; i++) {
        fbp_touch(m, m->out->value_at[outputs[i]]);
        if (meet) fbp_keep(m, m->out->value_at[outputs[i]]);
    }
}

static void all_forward(fbp_making *m) {
    const fbp_graph *graph = m->graph;
    for (int n = 0; n < graph->n_nodes; n++)
        if (comes_first(m, n) && is_needed(m, n)) forward(m, n);
    m->out->n_derived = m->out->n_steps;
    for (int v = 0; v < graph->n_inputs; v++) gather(m, v);
    for (int n = 0; n < graph->n_nodes; n++)
        if (!comes_first(m, n) && is_needed(m, n)) forward(m, n);
}

static void make(fbp_making *m, int n_outputs, const int *outputs) {
    const fbp_graph *graph = m->graph;
    for (int v = 0; v < graph->n_values; v++) m->summed[v] = graph->n_nodes;
    find_needed(m, n_outputs, outputs);
    all_forward(m);
    keep_outputs(m, n_outputs, outputs);
    m->out->first_loss = m->out->n_steps;
    if (m->training) fbp_make_backward(m);
    for (int v = 0; v < graph->n_values; v++)
        if (m->out->gradient_at[v] >= 0 && graph->values[v].source == FBP_FROM_INPUT)
            m->out->complete_at[v] = m->out->n_steps;
    for (int v = 0; v < graph->n_values; v++) /* what follows a value does so after the step */
        if (m->training && graph->values[v].parameter >= 0) fbp_keep(m, m->out->value_at[v]);
}

fbp_status fbp_schedule_make(fbp_schedule *schedule, const fbp_graph *graph, int n_outputs,
                             const int *outputs) {
    fbp_status status = fbp_schedule_allocate(schedule, graph);
    if (status != FBP_OK) return status;
    size_t values = (size_t)graph->n_values;
    fbp_making m = {.out = schedule, .graph = graph, .training = outputs == NULL};
    m.clean = fbp_alloc(values);
    m.needed = fbp_alloc(values);
    m.again = fbp_alloc(values);
    m.summed = fbp_alloc(values * sizeof *m.summed);
    if (m.clean != NULL && m.needed != NULL && m.again != NULL && m.summed != NULL)
        make(&m, n_outputs, outputs);
    else
        status = FBP_NO_MEMORY;
    if (status == FBP_OK && m.training && graph->precision != FBP_FULL)
        status = fbp_schedule_store(schedule, graph);
    if (status == FBP_OK) fbp_schedule_place(schedule, graph, m.training);
    fbp_free(m.clean);
    fbp_free(m.needed);
    fbp_free(m.again);
    fbp_free(m.summed);
    return status;
}
