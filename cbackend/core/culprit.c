/* A step that yields what is not finite: which node, and the words for it. */
#include <math.h>
#include <stdio.h>

#include "core/status.h"
#include "core/training.h"

static int node_of_tile(const fbp_plan *plan, int t) {
    return plan->uses[plan->first_use[plan->tiles[t].parameter]].node;
}

/* The node with a parameter that is not finite or too large to be squared; the first such. Or the
 * one whose result a running parameter follows. */
static int node_of_bad_weight(const fbp_plan *plan, const void *params, const double *squares) {
    for (int t = 0; t < plan->n_tiles; t++)
        if (!isfinite(squares[2 * t]) || !isfinite(squares[2 * t + 1]))
            return node_of_tile(plan, t);
    for (int i = 0; i < plan->graph.n_running; i++) {
        const fbp_value *p =
            &plan->graph.values[plan->graph.parameters[plan->graph.running[i].parameter].value];
        const void *at = fbp_at(plan, params, plan->graph.parameters[p->index].offset);
        if (plan->vector->first_not_finite(fbp_elements(&p->is), at) >= 0)
            return plan->graph.values[plan->graph.running[i].value].index;
    }
    return -1;
}

/* Likewise of a gradient: the first that backward comes by. */
static int node_of_bad_gradient(const fbp_plan *plan, const double *squares) {
    for (int t = plan->n_tiles - 1; t >= 0; t--)
        if (!isfinite(squares[t])) return node_of_tile(plan, t);
    return -1;
}

/* The step is run forward again, on weights that it has not changed: the first node with a result
 * that is not finite for any sample, or -1 where it is only the loss. */
static int node_of_bad_result(fbp_training *training) {
    const fbp_batch *step = &training->bad_step;
    int first = -1;
    for (int64_t before = 0; before < step->rows; before += training->spec.batch) {
        fbp_batch batch = fbp_part_of_step(training, step, before);
        int node = fbp_first_bad_node(&training->pass, &batch);
        if (node >= 0 && (first < 0 || node < first)) first = node;
    }
    return first;
}

/* The culprit in words: in a chain by its layer, else by its node. */
static void name_culprit(const fbp_plan *plan, int node, char *room, size_t size) {
    int layer = -1;
    for (int n = 0; n <= node; n++) layer += !fbp_is_elementwise(&plan->graph.nodes[n]);
    if (plan->is_chain)
        snprintf(room, size, "layer %d", layer);
    else
        snprintf(room, size, "node %d, '%s'", node, plan->graph.nodes[node].row->name);
}

/* Of a parameter or its gradient: what is `one` of which `all` are. */
static fbp_status explain_parameter(const fbp_plan *plan, const char *one, const char *all,
                                    const fbp_culprit *culprit) {
    char name[64];
    if (culprit->node < 0)
        return fbp_fail(FBP_NOT_FINITE,
                        "the %s became too large in step %lld of epoch %lld: the sum of their "
                        "squares overflows; try a lower learning rate, or scale the data",
                        all, (long long)culprit->step, (long long)culprit->epoch);
    name_culprit(plan, culprit->node, name, sizeof name);
    return fbp_fail(FBP_NOT_FINITE,
                    "a %s of %s became infinite or NaN in step %lld of epoch %lld: try a lower "
                    "learning rate, or scale the data",
                    one, name, (long long)culprit->step, (long long)culprit->epoch);
}

fbp_status fbp_explain(fbp_training *training) {
    const fbp_plan *plan = training->pass.plan;
    fbp_culprit *culprit = &training->culprit;
    if (culprit->bad == FBP_BAD_WEIGHT) {
        culprit->node = node_of_bad_weight(plan, training->params, training->squares);
        return explain_parameter(plan, "weight", "weights", culprit);
    }
    if (culprit->bad == FBP_BAD_GRADIENT) {
        culprit->node = node_of_bad_gradient(plan, training->gradient_squares);
        return explain_parameter(plan, "gradient", "gradients", culprit);
    }
    culprit->node = node_of_bad_result(training);
    char name[64], where[96] = "";
    if (culprit->node >= 0) {
        name_culprit(plan, culprit->node, name, sizeof name);
        snprintf(where, sizeof where, ", first in the output of %s", name);
    }
    return fbp_fail(
        FBP_NOT_FINITE,
        "the loss became infinite or NaN in step %lld of epoch %lld%s: try a lower learning "
        "rate, or scale the data",
        (long long)culprit->step, (long long)culprit->epoch, where);
}
