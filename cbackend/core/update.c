/* From gradients to new weights: what follows the gradient of a tile, at once where the update
 * needs to know nothing else, and otherwise in a third phase, when all threads have formed theirs.
 * It holds no loop over samples and no formula.
 *
 * Where something is known of all tiles, it is summed up from one number for each, in the order of
 * the tiles and by each thread for itself: the same bits whoever formed them. */
#include <math.h>
#include <string.h>

#include "core/training.h"

/* ---- groups ---- */

static double decay_factor(const fbp_training *training, int parameter) {
    return training->decay_factors[training->group_of[parameter]];
}

static const double *scalars_of(const fbp_training *training, const fbp_update *update,
                                int parameter) {
    return update->scalars + training->group_of[parameter] * FBP_MAX_SCALARS;
}

/* Elements of a tile from its start on that have the same scalars: all of it, or its own. */
static int64_t alike(const fbp_training *training, const fbp_tile *tile) {
    const int *group = &training->group_of[tile->parameter];
    return tile->own == tile->cost || group[0] == group[1] ? tile->cost : tile->own;
}

/* ---- sums of squares ---- */

/* Sums of squares of what belongs to a tile's parameter, and of what to the bias after it. */
static void measure(const fbp_plan *plan, const fbp_tile *tile, const void *x, double *squares) {
    squares[0] = plan->vector->sum_squares(tile->own, x);
    squares[1] = plan->vector->sum_squares(tile->cost - tile->own, fbp_at(plan, x, tile->own));
}

void fbp_training_measure(fbp_training *training, int64_t t) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_tile *tile = &plan->tiles[t];
    measure(plan, tile, fbp_at(plan, training->params, tile->offset), &training->squares[2 * t]);
}

double fbp_training_squares(const fbp_training *training) {
    const fbp_plan *plan = training->pass.plan;
    double penalised = 0.0, others = 0.0;
    for (int t = 0; t < plan->n_tiles; t++) {
        const fbp_tile *tile = &plan->tiles[t];
        if (tile->weights > 0)
            penalised += decay_factor(training, tile->parameter) * training->squares[2 * t];
        else
            others += training->squares[2 * t];
        others += training->squares[2 * t + 1];
    }
    others += training->squares[2 * plan->n_tiles + 1];
    return isfinite(others) ? penalised : NAN;
}

/* ---- the update of a tile ---- */

/* The copies of a tile's parameters, in every node that keeps some. */
static void renew_copies(const fbp_training *training, const fbp_tile *tile) {
    const fbp_plan *plan = training->pass.plan;
    for (int u = plan->first_use[tile->parameter]; u < plan->first_use[tile->parameter + 1]; u++) {
        const fbp_use *use = &plan->uses[u];
        const fbp_node *node = &plan->graph.nodes[use->node];
        int64_t above = use->input == 2 ? fbp_positions(&node->in[1]) : 0;
        if (fbp_packs(node))
            fbp_node_ops(node)->pack(node, &training->pass.weights[use->node], above + tile->begin,
                                     above + tile->end);
    }
}

static void keep(const fbp_training *training, const fbp_tile *tile, const void *g) {
    const fbp_plan *plan = training->pass.plan;
    void *to = fbp_at(plan, training->gradient, tile->offset);
    if (to != g) memcpy(to, g, (size_t)tile->cost * fbp_size(plan->dtype));
}

/* What the rule makes of n gradients: new weights or, where it needs norms, a direction. */
static void run_rule(const fbp_training *training, int64_t offset, int64_t n, void *g,
                     const double *scalars) {
    const fbp_plan *plan = training->pass.plan;
    void *w = fbp_at(plan, training->params, offset), *states[FBP_MAX_STATES];
    for (int s = 0; s < training->rule->n_states; s++)
        states[s] = fbp_at(plan, training->states[s], offset);
    if (training->rule->needs == FBP_NEEDS_TENSOR_NORMS)
        training->kernels->direct(n, g, w, states, scalars);
    else
        training->kernels->update(n, g, w, states, scalars);
}

static void apply_rule(fbp_training *training, const fbp_update *update, int64_t t, void *g) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_tile *tile = &plan->tiles[t];
    int64_t n = alike(training, tile);
    run_rule(training, tile->offset, n, g, scalars_of(training, update, tile->parameter));
    if (n < tile->cost)
        run_rule(training, tile->offset + n, tile->cost - n, fbp_at(plan, g, n),
                 scalars_of(training, update, tile->parameter + 1));
    if (training->rule->needs == FBP_NEEDS_TENSOR_NORMS) {
        double *norms = &training->norms[4 * t];
        memcpy(norms, &training->squares[2 * t], 2 * sizeof *norms);
        measure(plan, tile, g, norms + 2);
        keep(training, tile, g);
    } else {
        fbp_training_measure(training, t);
        renew_copies(training, tile);
    }
}

/* ---- what follows the gradient of a tile, while it is in cache ---- */

void fbp_training_take(fbp_training *training, const fbp_update *update, int64_t t, void *g) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_training_spec *spec = &training->spec;
    const fbp_tile *tile = &plan->tiles[t];
    if (update->doublings > 0)
        plan->vector->multiply(tile->cost, ldexp(1.0, -update->doublings), g);
    double penalty = spec->problem.alpha / update->weight * decay_factor(training, tile->parameter);
    if (penalty != 0.0)
        plan->vector->add_scaled(tile->weights, penalty,
                                 fbp_at(plan, training->params, tile->offset), g);
    if (update->measured) training->gradient_squares[t] = plan->vector->sum_squares(tile->cost, g);
    if (spec->clip_value > 0.0) plan->vector->clip_value(tile->cost, spec->clip_value, g);
    if (spec->clip_norm > 0.0 || fbp_may_skip(training))
        keep(training, tile, g);
    else
        apply_rule(training, update, t, g);
}

/* In a plan with checkpoints the weights change when all have gone back: what is formed in turns is
 * kept until then. */
void fbp_training_form(void *training, fbp_lane *lane, const fbp_units *unit) {
    fbp_training *own = training;
    void *g = fbp_unit_gradient(lane, unit);
    if (g != NULL) keep(own, &own->pass.plan->tiles[unit->tile], g);
}

double fbp_training_gradient_norm(const fbp_training *training) {
    double sum = 0.0;
    for (int t = 0; t < training->pass.plan->n_tiles; t++) sum += training->gradient_squares[t];
    return sqrt(sum);
}

/* ---- the third phase ---- */

static void update_tiles(fbp_training *training, const fbp_update *update, fbp_range tiles,
                         double norm) {
    const fbp_plan *plan = training->pass.plan;
    for (int64_t t = tiles.begin; t < tiles.end; t++) {
        void *g = fbp_at(plan, training->gradient, plan->tiles[t].offset);
        if (training->spec.clip_norm > 0.0)
            plan->vector->clip_norm(plan->tiles[t].cost, norm, training->spec.clip_norm, g);
        apply_rule(training, update, t, g);
    }
}

/* The rule's ratios for parameter p, all of whose tiles are known, and for the bias after it. */
static void find_ratios(const fbp_training *training, int64_t t, double *ratios) {
    const fbp_plan *plan = training->pass.plan;
    int p = plan->tiles[t].parameter;
    double sums[4] = {0.0};
    while (t > 0 && plan->tiles[t - 1].parameter == p) t--;
    for (; t < plan->n_tiles && plan->tiles[t].parameter == p; t++)
        for (int i = 0; i < 4; i++) sums[i] += training->norms[4 * t + i];
    for (int i = 0; i < 2; i++)
        ratios[i] = training->kernels->ratio(sqrt(sums[i]), sqrt(sums[2 + i]));
}

static void advance(const fbp_training *training, int64_t offset, int64_t n, double ratio,
                    const double *scalars) {
    const fbp_plan *plan = training->pass.plan;
    training->kernels->advance(n, ratio, fbp_at(plan, training->gradient, offset),
                               fbp_at(plan, training->params, offset), scalars);
}

static void advance_tiles(fbp_training *training, const fbp_update *update, fbp_range tiles) {
    const fbp_plan *plan = training->pass.plan;
    double ratios[2];
    for (int64_t t = tiles.begin; t < tiles.end; t++) {
        const fbp_tile *tile = &plan->tiles[t];
        int64_t offset = tile->offset, own = tile->own;
        if (t == tiles.begin || tile[-1].parameter != tile->parameter)
            find_ratios(training, t, ratios);
        advance(training, offset, own, ratios[0], scalars_of(training, update, tile->parameter));
        if (own < tile->cost)
            advance(training, offset + own, tile->cost - own, ratios[1],
                    scalars_of(training, update, tile->parameter + 1));
        fbp_training_measure(training, t);
        renew_copies(training, tile);
    }
}

void fbp_training_finish(fbp_training *training, const fbp_update *update, fbp_range tiles,
                         double norm, const fbp_team *team) {
    if (training->spec.clip_norm > 0.0 || fbp_may_skip(training)) {
        update_tiles(training, update, tiles, norm);
        fbp_barrier(team);
    }
    if (training->rule->needs == FBP_NEEDS_TENSOR_NORMS) {
        advance_tiles(training, update, tiles);
        fbp_barrier(team);
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
