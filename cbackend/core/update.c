/* From gradients to new weights: what follows the gradient of a tile, at once where the update needs
 * to know nothing else, and otherwise in a third phase, when all threads have formed theirs. It
 * holds no loop over samples and no formula.
 *
 * Where something is known of all tiles, it is summed up from one number for each, in the order of
 * the tiles and by each thread for itself: the same bits whoever formed them. */
#include <math.h>
#include <string.h>

#include "core/training.h"
#include "math/clipping.h"

/* ---- sums of squares ---- */

void fbp_training_measure(fbp_training *training, int64_t t) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_tile *tile = &plan->tiles[t];
    int64_t offset = tile->offset, weights = tile->weights;
    training->squares[2 * t] =
        plan->vector->sum_squares(weights, fbp_at(plan, training->params, offset));
    training->squares[2 * t + 1] = plan->vector->sum_squares(
        tile->cost - weights, fbp_at(plan, training->params, offset + weights));
}

double fbp_training_squares(const fbp_training *training) {
    double weights = 0.0, biases = 0.0;
    for (int t = 0; t < training->pass.plan->n_tiles; t++) {
        weights += training->squares[2 * t];
        biases += training->squares[2 * t + 1];
    }
    biases += training->squares[2 * training->pass.plan->n_tiles + 1];
    return isfinite(biases) ? weights : NAN;
}

/* ---- the update of a tile ---- */

/* The packed copies of a tile's parameters, in every node that keeps some. */
static void renew_copies(const fbp_training *training, const fbp_tile *tile) {
    const fbp_plan *plan = training->pass.plan;
    for (int u = plan->first_use[tile->parameter]; u < plan->first_use[tile->parameter + 1]; u++) {
        const fbp_use *use = &plan->uses[u];
        const fbp_node *node = &plan->graph.nodes[use->node];
        int64_t above = use->input == 2 ? fbp_positions(&node->in[1]) : 0;
        if (fbp_node_ops(node)->pack != NULL)
            fbp_node_ops(node)->pack(node, &training->pass.weights[use->node], above + tile->begin,
                                     above + tile->end);
    }
}

/* The rule and renewed copies, of a tile whose gradient g is all that it has to know. */
static void update_tile(fbp_training *training, const fbp_update *update, int64_t t, void *g) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_tile *tile = &plan->tiles[t];
    void *states[FBP_MAX_STATES];
    for (int s = 0; s < training->rule->n_states; s++)
        states[s] = fbp_at(plan, training->states[s], tile->offset);
    training->kernels->update(tile->cost, g, fbp_at(plan, training->params, tile->offset), states,
                              update->scalars);
    fbp_training_measure(training, t);
    renew_copies(training, tile);
}

/* ---- what follows the gradient of a tile, while it is in cache ---- */

void fbp_training_take(fbp_training *training, const fbp_update *update, int64_t t, void *g) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_training_spec *spec = &training->spec;
    const fbp_tile *tile = &plan->tiles[t];
    double penalty = spec->problem.alpha / update->weight;
    if (penalty != 0.0)
        plan->vector->add_scaled(tile->weights, penalty,
                                 fbp_at(plan, training->params, tile->offset), g);
    if (update->measured) training->gradient_squares[t] = plan->vector->sum_squares(tile->cost, g);
    if (spec->clip_value > 0.0) plan->vector->clip(tile->cost, spec->clip_value, g);
    if (training->gradient == NULL)
        update_tile(training, update, t, g);
    else
        memcpy(fbp_at(plan, training->gradient, tile->offset), g,
               (size_t)tile->cost * fbp_size(plan->dtype));
}

double fbp_training_gradient_norm(const fbp_training *training) {
    double sum = 0.0;
    for (int t = 0; t < training->pass.plan->n_tiles; t++) sum += training->gradient_squares[t];
    return sqrt(sum);
}

/* ---- the third phase ---- */

void fbp_training_finish(fbp_training *training, const fbp_update *update, fbp_range tiles,
                         double norm) {
    const fbp_plan *plan = training->pass.plan;
    double factor = fbp_clip_factor(norm, training->spec.clip_norm);
    for (int64_t t = tiles.begin; t < tiles.end; t++) {
        void *g = fbp_at(plan, training->gradient, plan->tiles[t].offset);
        if (factor != 1.0) plan->vector->scale(plan->tiles[t].cost, factor, g);
        update_tile(training, update, t, g);
    }
}

/* ---- running values ---- */

void fbp_training_measure_running(fbp_training *training) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_graph *graph = &plan->graph;
    double sum = 0.0;
    for (int i = 0; i < graph->n_running; i++) {
        const fbp_parameter *p = &graph->parameters[graph->running[i].parameter];
        sum += plan->vector->sum_squares(fbp_elements(&graph->values[p->value].is),
                                         fbp_at(plan, training->params, p->offset));
    }
    training->squares[2 * plan->n_tiles + 1] = sum;
}

/* They are of all samples, and few: one thread's concern, while the others form gradients. */
void fbp_training_follow(fbp_training *training, const fbp_batch *batch, const fbp_team *team) {
    const fbp_plan *plan = training->pass.plan;
    if (plan->graph.n_running == 0 || team->thread != 0) return;
    fbp_lane lane;
    fbp_lane_begin(&lane, &training->pass, batch, team);
    for (int i = 0; i < plan->graph.n_running; i++) {
        const fbp_running_spec *running = &plan->graph.running[i];
        const fbp_node *node = &plan->graph.nodes[plan->graph.values[running->value].index];
        int64_t offset = plan->graph.parameters[running->parameter].offset;
        fbp_node_ops(node)->follow(node, batch->rows, running->momentum,
                                   fbp_lane_value(&lane, running->value),
                                   fbp_at(plan, training->params, offset));
    }
    fbp_training_measure_running(training);
}
