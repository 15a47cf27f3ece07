/* Training: whole epochs of steps, with no Python and no allocation in the loop. A team of threads
 * is formed once for a run and meets after each phase of a step, of which there are two, or three
 * where an update must know more than its own gradient; or after each layer too where columns are
 * cut.
 *
 * What every thread must decide alike (the loss is not finite, a weight is not, stop) it decides
 * from the same numbers, read between the same two barriers: so no further barrier is needed. */
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "core/status.h"
#include "core/training.h"

/* ---- making one ---- */

static int64_t rows_of(const fbp_training_spec *spec) { return fbp_problem_rows(&spec->problem); }

static fbp_status check_clipping(const char *name, double most) {
    if (most >= 0.0 && most < INFINITY) return FBP_OK;
    return fbp_fail(FBP_INVALID, "%s: found %g, wanted a finite number above 0, or 0 for none",
                    name, most);
}

static fbp_status check_factors(const fbp_plan *plan, const char *name, const double *factors) {
    for (int p = 0; factors != NULL && p < plan->graph.n_parameters; p++)
        if (!(factors[p] >= 0.0 && factors[p] < INFINITY))
            return fbp_fail(FBP_INVALID, "%s[%d]: found %g, wanted a finite number of at least 0",
                            name, p, factors[p]);
    return FBP_OK;
}

static fbp_status check_spec(const fbp_plan *plan, const fbp_training_spec *spec) {
    double weight = 0.0;
    fbp_status status = fbp_check_problem(plan, &spec->problem, &weight);
    if (status != FBP_OK) return status;
    if (spec->batch < 1 || spec->batch > rows_of(spec))
        return fbp_fail(FBP_INVALID, "batch_size: found %lld, wanted 1 to the %lld samples of X",
                        (long long)spec->batch, (long long)rows_of(spec));
    status = check_clipping("clip_norm", spec->clip_norm);
    if (status == FBP_OK) status = check_clipping("clip_value", spec->clip_value);
    if (status != FBP_OK) return status;
    if (spec->clip_norm > 0.0 && spec->clip_value > 0.0)
        return fbp_fail(FBP_INVALID, "clip_norm: found %g beside a clip_value of %g, wanted one",
                        spec->clip_norm, spec->clip_value);
    status = check_factors(plan, "rate_factors", spec->rate_factors);
    if (status == FBP_OK) status = check_factors(plan, "decay_factors", spec->decay_factors);
    if (status != FBP_OK) return status;
    if (plan->n_tiles == 0)
        return fbp_fail(FBP_INVALID, "parameters: found none that is trained: all are frozen, or "
                                     "none has a part in a loss");
    return FBP_OK;
}

static int needs_norms(const fbp_training *training) {
    return training->rule != NULL && training->rule->needs == FBP_NEEDS_TENSOR_NORMS;
}

/* Whether an update must know more than the gradient of its own tile. */
static int has_third_phase(const fbp_training *training) {
    return training->spec.clip_norm > 0.0 || needs_norms(training);
}

/* Sorts parameters into groups, of which there are as many as parameters at most. */
static void find_groups(fbp_training *training, const fbp_plan *plan) {
    const fbp_training_spec *spec = &training->spec;
    training->n_groups = 0;
    for (int p = 0; p < plan->graph.n_parameters; p++) {
        double rate = spec->rate_factors == NULL ? 1.0 : spec->rate_factors[p];
        double decay = spec->decay_factors == NULL ? 1.0 : spec->decay_factors[p];
        int g = 0;
        while (g < training->n_groups &&
               (training->rate_factors[g] != rate || training->decay_factors[g] != decay))
            g++;
        training->rate_factors[g] = rate;
        training->decay_factors[g] = decay;
        training->group_of[p] = g;
        if (g == training->n_groups) training->n_groups++;
    }
}

static void carve(fbp_training *training, const fbp_plan *plan, fbp_carver *carver) {
    const fbp_training_spec *spec = &training->spec;
    fbp_pass_carve(&training->pass, plan, training->params, spec->batch, spec->n_threads, carver);
    training->last_epoch = fbp_carve(carver, plan->graph.n_params, fbp_size(plan->dtype));
    training->order = fbp_carve(carver, spec->shuffle ? training->n_samples : 0, sizeof(uint32_t));
    training->squares = fbp_carve(carver, 2 * (int64_t)plan->n_tiles + 2, sizeof(double));
    training->gradient_squares = fbp_carve(carver, plan->n_tiles, sizeof(double));
    int64_t kept = has_third_phase(training) ? plan->graph.n_params : 0;
    training->gradient = fbp_carve(carver, kept, fbp_size(plan->dtype));
    int64_t groups = plan->graph.n_parameters;
    training->group_of = fbp_carve(carver, groups, sizeof(int));
    training->rate_factors = fbp_carve(carver, groups, sizeof(double));
    training->decay_factors = fbp_carve(carver, groups, sizeof(double));
    int has_groups = spec->rate_factors != NULL || spec->decay_factors != NULL;
    training->n_groups = has_groups ? plan->graph.n_parameters : 1; /* at most */
    training->scalars = fbp_carve(carver, (int64_t)spec->n_threads * training->n_groups,
                                  FBP_MAX_SCALARS * sizeof(double));
    int64_t measured = needs_norms(training) ? 4 * (int64_t)plan->n_tiles : 0;
    training->norms = fbp_carve(carver, measured, sizeof(double));
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
    find_groups(training, plan);
    if (!has_third_phase(training)) training->gradient = NULL;
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

fbp_memory fbp_plan_memory(const fbp_plan *plan, const fbp_training_spec *spec, int64_t n_samples) {
    int64_t params = plan->graph.n_params * (int64_t)fbp_size(plan->dtype);
    fbp_memory memory = {0};
    fbp_carver copies = {NULL, 0};
    fbp_weights_carve(plan, NULL, FBP_FOR_TRAINING, &copies);
    memory.weight_copies = (int64_t)copies.used;
    count_values(plan, spec->batch, &memory);
    fbp_training training = {.spec = *spec, .n_samples = n_samples};
    if (spec->rule != NULL) training.rule = fbp_variant_find(plan->variant, FBP_RULE, spec->rule);
    training.spec.n_threads =
        fbp_threads_for_step(plan, step_flops(plan, plan->flops, spec->batch), spec->n_threads);
    fbp_carver counting = {NULL, 0};
    carve(&training, plan, &counting);
    const fbp_pass *pass = &training.pass;
    int64_t threads = training.spec.n_threads, own = (int64_t)pass->gradient_bytes;
    memory.gradients = own * threads + (int64_t)pass->partial_bytes * pass->n_partials;
    if (has_third_phase(&training)) memory.gradients += params;
    memory.thread_scratch = ((int64_t)pass->thread_bytes - own) * threads;
    memory.order = spec->shuffle ? n_samples * (int64_t)sizeof(uint32_t) : 0;
    memory.last_epoch = params;
    memory.total = (int64_t)(fbp_block_bytes(counting.used) + fbp_block_bytes(sizeof training));
    memory.other = memory.total - memory.activations - memory.deltas - memory.weight_copies -
                   memory.thread_scratch - memory.gradients - memory.order - memory.last_epoch;
    return memory;
}

/* ---- one run ---- */

/* One step: the batch, its place, and what it comes to. */
typedef struct {
    fbp_batch batch;
    int64_t epoch, index;
    fbp_update update;
    double loss, norm; /* norm: of the gradient, where it is measured */
} a_step;

/* This thread's part of what the weights phase forms, in a whole batch, and of the tiles. */
typedef struct {
    fbp_range units, tiles;
} shares;

/* The weights phase of this thread. Whoever stops early leaves tiles undone. */
static void take_gradients(fbp_training *training, const a_step *step, const shares *own,
                           const fbp_team *team) {
    fbp_pass *pass = &training->pass;
    const fbp_plan *plan = pass->plan;
    int64_t rows = step->batch.rows;
    fbp_range share = rows == training->spec.batch ? own->units : fbp_units_share(plan, rows, team);
    fbp_units units = fbp_units_begin(plan, rows, pass->most_parts, share);
    for (; units.left > 0 && !fbp_watch_stopped(&pass->watch); fbp_units_next(plan, rows, &units)) {
        void *g = fbp_unit_gradient(pass, &step->batch, &units, team);
        if (g != NULL) fbp_training_take(training, &step->update, units.tile, g);
        int64_t products = plan->tiles[units.tile].cost * rows / units.n_parts;
        fbp_watch_work(&pass->watch, team, 2.0 * (double)products);
    }
}

/* Whether the step may go on with a number that must be finite; all threads see the same one. */
static int is_good(fbp_training *training, const a_step *step, double number, fbp_bad bad,
                   const fbp_team *team) {
    if (isfinite(number)) return 1;
    if (team->thread == 0) {
        training->bad_step = step->batch;
        training->culprit.epoch = step->epoch;
        training->culprit.step = step->index;
        training->culprit.bad = bad;
        training->status = FBP_NOT_FINITE;
    }
    return 0;
}

/* Returns whether to go on, the same on every thread. Whoever stops early leaves rows or tiles
 * undone: the weights of the last epoch are put back. */
static int run_step(fbp_training *training, a_step *step, const shares *own, const fbp_team *team) {
    fbp_pass *pass = &training->pass;
    double squares = fbp_training_squares(training); /* now: beyond the barrier they change */
    fbp_rows_phase(pass, &step->batch, team);
    if (team->thread == 0) training->stop_after_rows = fbp_watch_stopped(&pass->watch);
    fbp_barrier(team);
    if (training->stop_after_rows) return 0;
    step->loss = fbp_batch_loss(pass, step->batch.rows) +
                 0.5 * training->spec.problem.alpha * squares / step->batch.weight;
    if (!is_good(training, step, step->loss, FBP_BAD_RESULT, team)) return 0;
    fbp_training_follow(training, &step->batch, team);
    take_gradients(training, step, own, team);
    if (team->thread == 0) training->stop_after_weights = fbp_watch_stopped(&pass->watch);
    fbp_barrier(team);
    if (training->stop_after_weights) return 0;
    if (step->update.measured) step->norm = fbp_training_gradient_norm(training);
    if (training->gradient != NULL) {
        if (!is_good(training, step, step->norm, FBP_BAD_GRADIENT, team)) return 0;
        fbp_training_finish(training, &step->update, own->tiles, step->norm, team);
    }
    return is_good(training, step, fbp_training_squares(training), FBP_BAD_WEIGHT, team);
}

/* Batches of an epoch, the shorter last one among them. */
static int64_t count_batches(const fbp_training_spec *spec) {
    return (rows_of(spec) + spec->batch - 1) / spec->batch;
}

/* Batch b of the epoch that is run, before it runs; `done` steps have been made in all. */
static a_step begin_step(const fbp_training *training, int64_t e, int64_t b, int64_t done,
                         const fbp_team *team) {
    const fbp_training_spec *spec = &training->spec;
    const fbp_run *run = training->run;
    a_step step = {.epoch = run->first_epoch + e, .index = b};
    step.batch = (fbp_batch){.problem = &spec->problem,
                             .order = training->order,
                             .first = b * spec->batch,
                             .rows = spec->batch,
                             .masks = 1,
                             .draws = {.seed = spec->seed, .step = (uint64_t)done}};
    int64_t left = training->n_samples - step.batch.first;
    if (step.batch.rows > left) step.batch.rows = left;
    step.update.weight = step.batch.weight = fbp_batch_weight(training->pass.plan, &step.batch);
    step.update.measured = spec->clip_norm > 0.0 || run->gradient_norms != NULL;
    double rate = run->rates[run->rates_per_epoch == 1 ? e : e * run->rates_per_epoch + b];
    int n_groups = training->n_groups;
    step.update.scalars = training->scalars + team->thread * n_groups * FBP_MAX_SCALARS;
    for (int g = 0; g < n_groups; g++)
        training->kernels->prepare(rate * training->rate_factors[g], training->decay_factors[g],
                                   done + 1, spec->attrs,
                                   step.update.scalars + g * FBP_MAX_SCALARS);
    return step;
}

static int run_epoch(fbp_training *training, int64_t e, int64_t *done, const shares *own,
                     const fbp_team *team) {
    fbp_run *run = training->run;
    int64_t n_batches = count_batches(&training->spec);
    double sum = 0.0;
    for (int64_t b = 0; b < n_batches; b++) {
        a_step step = begin_step(training, e, b, *done, team);
        if (step.batch.weight > 0.0) { /* nothing can be learnt from samples without weight */
            if (!run_step(training, &step, own, team)) return 0;
            ++*done;
        }
        sum += step.loss * (double)step.batch.rows;
        if (team->thread != 0) continue;
        if (run->step_losses != NULL) run->step_losses[e * n_batches + b] = step.loss;
        if (run->gradient_norms != NULL) run->gradient_norms[e * n_batches + b] = step.norm;
    }
    if (team->thread == 0) run->losses[e] = sum / (double)training->n_samples;
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
    const fbp_plan *plan = training->pass.plan;
    shares own = {fbp_units_share(plan, training->spec.batch, team), fbp_tiles_share(plan, team)};
    for (int64_t t = own.tiles.begin; t < own.tiles.end; t++) fbp_training_measure(training, t);
    if (team->thread == 0) fbp_training_measure_running(training);
    fbp_weights_pack(plan, training->pass.weights, team);
    for (int64_t e = 0; e < run->n_epochs; e++) {
        begin_epoch(training, e, team);
        if (!run_epoch(training, e, &step, &own, team)) break;
        if (team->thread == 0) {
            run->step = step;
            run->epochs_done = e + 1;
        }
    }
}

/* ---- the whole ---- */

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
        training->status = fbp_explain(training);
    else if (run->epochs_done < run->n_epochs)
        training->status = fbp_fail(FBP_INTERRUPTED, "training was interrupted");
    if (training->status != FBP_OK)
        memcpy(training->params, training->last_epoch,
               (size_t)plan->graph.n_params * fbp_size(plan->dtype));
    return training->status;
}

fbp_culprit fbp_training_culprit(const fbp_training *training) { return training->culprit; }
