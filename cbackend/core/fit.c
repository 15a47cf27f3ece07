/* Training: whole epochs of two-phase steps, with no Python and no allocation in the loop. A team
 * of threads is formed once for a run and meets twice a step, or after each layer too where columns
 * are cut.
 *
 * What every thread must decide alike (the loss is not finite, a weight is not, stop) it decides
 * from the same numbers, read between the same two barriers: so no further barrier is needed. */
#include <math.h>
#include <string.h>

#include "core/culprit.h"
#include "core/rng.h"
#include "core/status.h"

struct fbp_training {
    fbp_pass pass;
    fbp_training_spec spec;
    int64_t n_samples;
    const fbp_row *rule;
    const fbp_rule_kernels *kernels;
    char *params, *last_epoch; /* (n_params): the weights, and those of the last whole epoch */
    void *states[FBP_MAX_STATES];
    uint32_t *order; /* (samples) the epoch's order, or NULL */
    double *squares; /* (n_tiles + 1, 2): sums of squares of each tile's weights and of its bias; at
                      * last, as of a bias, that of the running values */
    void *block;     /* all of the above */
    fbp_culprit culprit;
    fbp_batch bad; /* the culprit's */
    /* of the current run: */
    fbp_run *run;
    int stop_after_rows, stop_after_weights; /* what the first thread knew before each barrier */
    fbp_status status;
};

/* ---- making one ---- */

static int64_t rows_of(const fbp_training_spec *spec) { return fbp_problem_rows(&spec->problem); }

static fbp_status check_spec(const fbp_plan *plan, const fbp_training_spec *spec) {
    double weight = 0.0;
    fbp_status status = fbp_check_problem(plan, &spec->problem, &weight);
    if (status != FBP_OK) return status;
    if (spec->batch < 1 || spec->batch > rows_of(spec))
        return fbp_fail(FBP_INVALID, "batch_size: found %lld, wanted 1 to the %lld samples of X",
                        (long long)spec->batch, (long long)rows_of(spec));
    if (plan->n_tiles == 0)
        return fbp_fail(FBP_INVALID, "parameters: found none that is trained: all are frozen, or "
                                     "none has a part in a loss");
    return FBP_OK;
}

static void carve(fbp_training *training, const fbp_plan *plan, fbp_carver *carver) {
    const fbp_training_spec *spec = &training->spec;
    fbp_pass_carve(&training->pass, plan, training->params, spec->batch, spec->n_threads, carver);
    training->last_epoch = fbp_carve(carver, plan->graph.n_params, fbp_size(plan->dtype));
    training->order = fbp_carve(carver, spec->shuffle ? training->n_samples : 0, sizeof(uint32_t));
    training->squares = fbp_carve(carver, 2 * (int64_t)plan->n_tiles + 2, sizeof(double));
}

/* FLOPs of a step: its products, and of each parameter the update, which is all that counts where
 * samples are sparse. */
static double step_flops(const fbp_plan *plan, double of_sample, int64_t batch) {
    return of_sample * (double)batch + 10.0 * (double)plan->graph.n_params;
}

fbp_status fbp_training_create(fbp_plan *plan, const fbp_training_spec *spec, void *params,
                               void *const *states, fbp_training **out) {
    *out = NULL;
    fbp_status status = check_spec(plan, spec);
    if (status != FBP_OK) return status;
    const fbp_row *rule = fbp_variant_find(plan->variant, FBP_RULE, spec->rule);
    if (rule == NULL) return FBP_INVALID;
    status = fbp_row_check(rule, spec->attrs);
    if (status != FBP_OK) return status;
    if (rule->n_states > FBP_MAX_STATES)
        return fbp_fail(FBP_INVALID, "rule: found %d states in '%s', wanted at most %d",
                        rule->n_states, rule->name, FBP_MAX_STATES);
    fbp_training *training = fbp_alloc(sizeof *training);
    if (training == NULL) return FBP_NO_MEMORY;
    training->spec = *spec;
    training->n_samples = rows_of(spec);
    double flops = step_flops(plan, fbp_sample_flops(plan, spec->problem.x), spec->batch);
    training->spec.n_threads = fbp_threads_for_step(plan, flops, spec->n_threads);
    training->rule = rule;
    training->kernels = rule->kernels[plan->dtype];
    training->params = params;
    for (int s = 0; s < rule->n_states; s++) training->states[s] = states[s];
    fbp_carver counting = {NULL, 0};
    carve(training, plan, &counting);
    training->block = fbp_alloc(counting.used);
    if (training->block == NULL) {
        fbp_training_destroy(training);
        return FBP_NO_MEMORY;
    }
    fbp_carver carving = {training->block, 0};
    carve(training, plan, &carving);
    if (!spec->shuffle) training->order = NULL;
    *out = training;
    return FBP_OK;
}

void fbp_training_destroy(fbp_training *training) {
    if (training == NULL) return;
    fbp_free(training->block);
    fbp_free(training);
}

/* Gradients share the room of values where they can: what a gradient lies in counts as one. */
static void count_values(const fbp_plan *plan, int64_t batch, fbp_memory *memory) {
    const fbp_schedule *schedule = &plan->training;
    int64_t size = (int64_t)fbp_size(plan->dtype), gradients = 0;
    for (int b = 0; b < schedule->n_buffers; b++) {
        int holds = 0;
        for (int v = 0; v < plan->graph.n_values; v++) holds |= schedule->gradient_at[v] == b;
        if (holds && schedule->buffers[b].where == FBP_IN_BATCH)
            gradients += schedule->buffers[b].elements;
    }
    memory->deltas = batch * gradients * size;
    memory->activations = batch * schedule->batch_elements * size - memory->deltas;
}

fbp_memory fbp_plan_memory(const fbp_plan *plan, int64_t batch, int64_t n_samples, int n_threads) {
    size_t size = fbp_size(plan->dtype);
    fbp_memory memory = {0};
    fbp_carver copies = {NULL, 0};
    fbp_weights_carve(plan, NULL, FBP_FOR_TRAINING, &copies);
    memory.weight_copies = (int64_t)copies.used;
    count_values(plan, batch, &memory);
    fbp_training training = {.n_samples = n_samples};
    training.spec.batch = batch;
    training.spec.n_threads = n_threads =
        fbp_threads_for_step(plan, step_flops(plan, plan->flops, batch), n_threads);
    training.spec.shuffle = 1;
    fbp_carver counting = {NULL, 0};
    carve(&training, plan, &counting);
    const fbp_pass *pass = &training.pass;
    memory.gradients =
        (int64_t)pass->gradient_bytes * n_threads + (int64_t)pass->partial_bytes * pass->n_partials;
    memory.thread_scratch = (int64_t)(pass->thread_bytes - pass->gradient_bytes) * n_threads;
    memory.order = n_samples * (int64_t)sizeof(uint32_t);
    memory.last_epoch = plan->graph.n_params * (int64_t)size;
    memory.total = (int64_t)(fbp_block_bytes(counting.used) + fbp_block_bytes(sizeof training));
    memory.other = memory.total - memory.activations - memory.deltas - memory.weight_copies -
                   memory.thread_scratch - memory.gradients - memory.order - memory.last_epoch;
    return memory;
}

/* ---- the weights phase of one thread ---- */

static void sum_tile_squares(fbp_training *training, int64_t t) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_tile *tile = &plan->tiles[t];
    int64_t offset = tile->offset, weights = tile->weights;
    training->squares[2 * t] =
        plan->vector->sum_squares(weights, fbp_at(plan, training->params, offset));
    training->squares[2 * t + 1] = plan->vector->sum_squares(
        tile->cost - weights, fbp_at(plan, training->params, offset + weights));
}

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

/* Penalty, update and renewed copies of a tile, while it is in cache with its gradient g. */
static void update_tile(fbp_training *training, const fbp_batch *batch, int64_t t, void *g,
                        const double *scalars) {
    const fbp_plan *plan = training->pass.plan;
    const fbp_tile *tile = &plan->tiles[t];
    int64_t offset = tile->offset;
    void *w = fbp_at(plan, training->params, offset);
    double penalty = training->spec.problem.alpha / batch->weight;
    if (penalty != 0.0) plan->vector->add_scaled(tile->weights, penalty, w, g);
    void *states[FBP_MAX_STATES];
    for (int s = 0; s < training->rule->n_states; s++)
        states[s] = fbp_at(plan, training->states[s], offset);
    training->kernels->update(tile->cost, g, w, states, scalars);
    sum_tile_squares(training, t);
    renew_copies(training, tile);
}

/* ---- running values ---- */

static void sum_running_squares(fbp_training *training) {
    const fbp_graph *graph = &training->pass.plan->graph;
    double sum = 0.0;
    for (int i = 0; i < graph->n_running; i++) {
        const fbp_parameter *p = &graph->parameters[graph->running[i].parameter];
        sum += training->pass.plan->vector->sum_squares(
            fbp_elements(&graph->values[p->value].is),
            fbp_at(training->pass.plan, training->params, p->offset));
    }
    training->squares[2 * training->pass.plan->n_tiles + 1] = sum;
}

/* They are of all samples, and few: one thread's concern, while the others form gradients. */
static void follow_values(fbp_training *training, const fbp_batch *batch, const fbp_team *team) {
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
    sum_running_squares(training);
}

/* ---- one run ---- */

/* Sum of squares of all weights without biases; not finite if any weight or bias is not. */
static double total_squares(const fbp_training *training) {
    double weights = 0.0, biases = 0.0;
    for (int t = 0; t <= training->pass.plan->n_tiles; t++) {
        weights += training->squares[2 * t];
        biases += training->squares[2 * t + 1];
    }
    return isfinite(biases) ? weights : NAN;
}

static void blame(fbp_training *training, const fbp_batch *batch, int64_t epoch, int64_t step,
                  int in_weights) {
    training->bad = *batch;
    training->culprit.epoch = epoch;
    training->culprit.step = step;
    training->culprit.in_weights = in_weights;
    training->status = FBP_NOT_FINITE;
}

/* One batch: returns whether to go on, the same on every thread. loss is the first thread's
 * concern. Whoever stops early leaves rows or tiles undone: the weights of the last epoch are put
 * back. */
static int run_batch(fbp_training *training, const fbp_batch *batch, fbp_range share, int64_t epoch,
                     int64_t index, const double *scalars, double *loss, const fbp_team *team) {
    fbp_pass *pass = &training->pass;
    const fbp_plan *plan = pass->plan;
    double squares = total_squares(training); /* now: beyond the barrier they change */
    fbp_rows_phase(pass, batch, team);
    if (team->thread == 0) training->stop_after_rows = fbp_watch_stopped(&pass->watch);
    fbp_barrier(team);
    if (training->stop_after_rows) return 0;
    *loss = fbp_batch_loss(pass, batch->rows) +
            0.5 * training->spec.problem.alpha * squares / batch->weight;
    if (!isfinite(*loss)) {
        if (team->thread == 0) blame(training, batch, epoch, index, 0);
        return 0;
    }
    follow_values(training, batch, team);
    fbp_units units = fbp_units_begin(plan, batch->rows, pass->most_parts, share);
    for (; units.left > 0 && !fbp_watch_stopped(&pass->watch);
         fbp_units_next(plan, batch->rows, &units)) {
        void *g = fbp_unit_gradient(pass, batch, &units, team);
        if (g != NULL) update_tile(training, batch, units.tile, g, scalars);
        int64_t products = plan->tiles[units.tile].cost * batch->rows / units.n_parts;
        fbp_watch_work(&pass->watch, team, 2.0 * (double)products);
    }
    if (team->thread == 0) training->stop_after_weights = fbp_watch_stopped(&pass->watch);
    fbp_barrier(team);
    if (training->stop_after_weights) return 0;
    if (isfinite(total_squares(training))) return 1;
    if (team->thread == 0) blame(training, batch, epoch, index, 1);
    return 0;
}

/* Batches of an epoch, the shorter last one among them. */
static int64_t count_batches(const fbp_training_spec *spec) {
    return (rows_of(spec) + spec->batch - 1) / spec->batch;
}

static int run_epoch(fbp_training *training, int64_t e, int64_t *step, fbp_range whole,
                     const fbp_team *team) {
    fbp_run *run = training->run;
    const fbp_training_spec *spec = &training->spec;
    const fbp_plan *plan = training->pass.plan;
    int64_t n = training->n_samples, n_batches = count_batches(spec);
    const double *rates = run->rates + e * run->rates_per_epoch;
    double sum = 0.0;
    for (int64_t b = 0; b < n_batches; b++) {
        fbp_batch batch = {.problem = &spec->problem,
                           .order = training->order,
                           .first = b * spec->batch,
                           .rows = spec->batch,
                           .masks = 1,
                           .draws = {.seed = spec->seed, .step = (uint64_t)*step}};
        if (batch.first + batch.rows > n) batch.rows = n - batch.first;
        batch.weight = fbp_batch_weight(plan, &batch);
        double loss = 0.0;
        if (batch.weight > 0.0) { /* nothing can be learnt from samples without weight */
            double scalars[FBP_MAX_SCALARS];
            double rate = rates[run->rates_per_epoch == 1 ? 0 : b];
            training->kernels->prepare(rate, *step + 1, spec->attrs, scalars);
            fbp_range units =
                batch.rows == spec->batch ? whole : fbp_units_share(plan, batch.rows, team);
            if (!run_batch(training, &batch, units, run->first_epoch + e, b, scalars, &loss, team))
                return 0;
            ++*step;
        }
        sum += loss * (double)batch.rows;
        if (team->thread == 0 && run->step_losses != NULL)
            run->step_losses[e * n_batches + b] = loss;
    }
    if (team->thread == 0) run->losses[e] = sum / (double)n;
    return 1;
}

static void begin_epoch(fbp_training *training, int64_t e, const fbp_team *team) {
    const fbp_plan *plan = training->pass.plan;
    size_t size = fbp_size(plan->dtype);
    /* A last batch without weight is passed without a meeting: another thread may still be weighing
     * it by the order that is about to change. */
    fbp_barrier(team);
    fbp_range share = fbp_share(plan->graph.n_params, team);
    memcpy(training->last_epoch + (size_t)share.begin * size,
           training->params + (size_t)share.begin * size, (size_t)(share.end - share.begin) * size);
    if (team->thread == 0 && training->order != NULL)
        fbp_shuffle(training->spec.seed, (uint64_t)(training->run->first_epoch + e),
                    training->n_samples, training->order);
    fbp_barrier(team);
}

static void run_thread(void *context, const fbp_team *team) {
    fbp_training *training = context;
    fbp_run *run = training->run;
    int64_t step = run->step;
    fbp_range tiles = fbp_tiles_share(training->pass.plan, team);
    for (int64_t t = tiles.begin; t < tiles.end; t++) sum_tile_squares(training, t);
    if (team->thread == 0) sum_running_squares(training);
    fbp_weights_pack(training->pass.plan, training->pass.weights, team);
    fbp_range units = fbp_units_share(training->pass.plan, training->spec.batch, team);
    for (int64_t e = 0; e < run->n_epochs; e++) {
        begin_epoch(training, e, team);
        if (!run_epoch(training, e, &step, units, team)) break;
        if (team->thread == 0) {
            run->step = step;
            run->epochs_done = e + 1;
        }
    }
}

fbp_status fbp_training_run(fbp_training *training, fbp_run *run) {
    const fbp_plan *plan = training->pass.plan;
    if (run->first_epoch < 0 || run->first_epoch + run->n_epochs > FBP_MAX_EPOCHS)
        return fbp_fail(FBP_INVALID, "first_epoch: found %lld, wanted 0 to %lld",
                        (long long)run->first_epoch, (long long)(FBP_MAX_EPOCHS - run->n_epochs));
    int64_t n_batches = count_batches(&training->spec);
    if (run->rates_per_epoch != 1 && run->rates_per_epoch != n_batches)
        return fbp_fail(FBP_INVALID,
                        "rates: found %lld an epoch, wanted 1, or %lld, one for each batch",
                        (long long)run->rates_per_epoch, (long long)n_batches);
    fbp_watch watch = {.ask = run->poll, .context = run->poll_context};
    training->pass.watch = watch;
    fbp_units_reset(&training->pass);
    training->run = run;
    training->status = FBP_OK;
    run->epochs_done = 0;
    fbp_parallel(training->spec.n_threads, run_thread, training);
    if (training->status == FBP_NOT_FINITE)
        training->status =
            fbp_explain(&training->pass, &training->bad, training->squares, &training->culprit);
    else if (run->epochs_done < run->n_epochs)
        training->status = fbp_fail(FBP_INTERRUPTED, "training was interrupted");
    if (training->status != FBP_OK)
        memcpy(training->params, training->last_epoch,
               (size_t)plan->graph.n_params * fbp_size(plan->dtype));
    return training->status;
}

fbp_culprit fbp_training_culprit(const fbp_training *training) { return training->culprit; }
