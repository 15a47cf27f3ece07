/* Training: whole epochs of steps, with no Python and no allocation in the loop. A team of threads
 * is formed once for a run and meets after each phase of a step, of which there are two, or three
 * where an update must know more than its own gradient; or after each layer too where columns are
 * cut.
 *
 * What every thread must decide alike (the loss is not finite, a weight is not, stop) it decides
 * from the same numbers, read between the same two barriers: so no further barrier is needed. */
#include <math.h>
#include <string.h>

#include "core/callbacks.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/training.h"

/* ---- one run ---- */

/* One step: the batch, its place, and what it comes to. */
typedef struct {
    fbp_batch batch; /* all of its samples; they may be run in several batches */
    int64_t epoch, index;
    fbp_update update;
    double loss, norm; /* norm: of the gradient, where it is measured */
    int skipped;
} a_step;

/* What an epoch leaves to the next; every thread has its own, and comes to the same. */
typedef struct {
    int64_t step; /* updates made */
    int doublings;
    int64_t good_steps, skipped_steps;
} progress;

/* This thread's part of what the weights phase forms, in a whole batch, and of the tiles. */
typedef struct {
    fbp_range units, tiles;
} shares;

/* The weights phase of this thread. Whoever stops early leaves tiles undone. */
static void take_gradients(fbp_training *training, const a_step *step, const fbp_batch *batch,
                           const shares *own, const fbp_team *team) {
    fbp_pass *pass = &training->pass;
    const fbp_plan *plan = pass->plan;
    int as_ever = pass->most_parts == 1 || batch->rows == fbp_samples_of_step(training);
    fbp_range share = as_ever ? own->units : fbp_units_share(plan, batch, team);
    fbp_units units = fbp_units_begin(plan, batch, pass->most_parts, share);
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    for (; units.left > 0 && !fbp_pass_stopped(pass); fbp_units_next(plan, batch, &units)) {
        void *g = fbp_unit_gradient(&lane, &units);
        if (g != NULL) fbp_training_take(training, &step->update, units.tile, g);
        int64_t products = plan->tiles[units.tile].cost * batch->rows / units.n_parts;
        fbp_watch_work(&pass->watch, team, 2.0 * (double)products);
    }
}

/* The same where checkpoints had gradients formed in the rows phase. */
static void take_kept(fbp_training *training, const a_step *step, const fbp_batch *batch,
                      const shares *own) {
    const fbp_plan *plan = training->pass.plan;
    for (int64_t t = own->tiles.begin; t < own->tiles.end && batch->after == 0; t++)
        fbp_training_take(training, &step->update, t,
                          fbp_at(plan, training->gradient, plan->tiles[t].offset));
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

/* The rows phase and the weights phase of one batch of the step. Returns whether to go on, the same
 * on every thread. Whoever stops early leaves rows or tiles undone: the weights of the last epoch
 * are put back. */
static int run_batch(fbp_training *training, a_step *step, const fbp_batch *batch, double squares,
                     const shares *own, const fbp_team *team) {
    fbp_pass *pass = &training->pass;
    fbp_rows_phase(pass, batch, team);
    if (team->thread == 0) training->stop_after_rows = fbp_pass_stopped(pass);
    fbp_barrier(team);
    if (training->stop_after_rows) return 0;
    if (batch->after == 0) {
        step->loss = fbp_step_loss(pass, step->batch.rows);
        if (batch->doublings > 0) step->loss = ldexp(step->loss, -batch->doublings);
        step->loss += 0.5 * training->spec.problem.alpha * squares / batch->weight;
        if (!is_good(training, step, step->loss, FBP_BAD_RESULT, team)) return 0;
    }
    fbp_training_follow(training, batch, team);
    if (pass->schedule->n_turns > 0)
        take_kept(training, step, batch, own);
    else
        take_gradients(training, step, batch, own, team);
    if (team->thread == 0) training->stop_after_weights = fbp_pass_stopped(pass);
    fbp_barrier(team);
    return !training->stop_after_weights;
}

/* Whether the step is skipped, since its gradient is not finite; and by how much the next one's
 * losses are scaled. Without scaling nothing is left to try: that is told as an error. */
static int is_skipped(const fbp_training *training, const a_step *step, progress *so_far) {
    if (!fbp_may_skip(training)) return 0;
    if (!isfinite(step->norm)) {
        so_far->good_steps = 0;
        if (so_far->doublings == 0) return 0;
        so_far->doublings--;
        so_far->skipped_steps++;
        return 1;
    }
    if (++so_far->good_steps < FBP_GOOD_STEPS) return 0;
    so_far->good_steps = 0;
    if (so_far->doublings < FBP_MOST_DOUBLINGS) so_far->doublings++;
    return 0;
}

/* Returns whether to go on, the same on every thread. */
static int run_step(fbp_training *training, a_step *step, progress *so_far, const shares *own,
                    const fbp_team *team) {
    double squares = fbp_training_squares(training); /* now: in the last batch they change */
    for (int64_t before = 0; before < step->batch.rows; before += training->spec.batch) {
        fbp_batch batch = fbp_part_of_step(training, &step->batch, before);
        if (!run_batch(training, step, &batch, squares, own, team)) return 0;
    }
    if (step->update.measured) step->norm = fbp_training_gradient_norm(training);
    step->skipped = is_skipped(training, step, so_far);
    if (step->skipped) return 1;
    if (training->gradient != NULL) {
        if (!is_good(training, step, step->norm, FBP_BAD_GRADIENT, team)) return 0;
        fbp_training_finish(training, &step->update, own->tiles, step->norm, team);
    }
    return is_good(training, step, fbp_training_squares(training), FBP_BAD_WEIGHT, team);
}

/* Steps of an epoch, the shorter last one among them. */
static int64_t count_steps(const fbp_training *training) {
    int64_t samples = fbp_samples_of_step(training);
    return (training->n_samples + samples - 1) / samples;
}

/* Step b of the epoch that is run, before it runs. */
static a_step begin_step(const fbp_training *training, int64_t e, int64_t b, const progress *so_far,
                         const fbp_team *team) {
    const fbp_training_spec *spec = &training->spec;
    const fbp_run *run = training->run;
    a_step step = {.epoch = run->first_epoch + e, .index = b};
    step.batch = (fbp_batch){.problem = &spec->problem,
                             .order = training->order,
                             .first = b * fbp_samples_of_step(training),
                             .rows = fbp_samples_of_step(training),
                             .doublings = so_far->doublings,
                             .masks = 1,
                             .draws = {.seed = spec->seed, .step = (uint64_t)so_far->step}};
    int64_t left = training->n_samples - step.batch.first;
    if (step.batch.rows > left) step.batch.rows = left;
    step.update.weight = step.batch.weight = fbp_batch_weight(training->pass.plan, &step.batch);
    int last = step.batch.first + step.batch.rows == training->n_samples;
    step.update.measured = spec->clip_norm > 0.0 || run->gradient_norms != NULL ||
                           fbp_may_skip(training) || (last && run->last_norms != NULL);
    step.update.doublings = so_far->doublings;
    double rate = run->rates[run->rates_per_epoch == 1 ? e : e * run->rates_per_epoch + b];
    int n_groups = training->n_groups;
    step.update.scalars = training->scalars + team->thread * n_groups * FBP_MAX_SCALARS;
    for (int g = 0; g < n_groups; g++)
        training->kernels->prepare(rate * training->rate_factors[g], training->decay_factors[g],
                                   so_far->step + 1, spec->attrs,
                                   step.update.scalars + g * FBP_MAX_SCALARS);
    return step;
}

static int run_epoch(fbp_training *training, int64_t e, progress *so_far, const shares *own,
                     const fbp_team *team) {
    fbp_run *run = training->run;
    int64_t n_steps = count_steps(training);
    double sum = 0.0, began = run->seconds == NULL ? 0.0 : fbp_seconds(), norm = 0.0;
    for (int64_t b = 0; b < n_steps; b++) {
        a_step step = begin_step(training, e, b, so_far, team);
        if (step.batch.weight > 0.0) { /* nothing can be learnt from samples without weight */
            if (!run_step(training, &step, so_far, own, team)) return 0;
            so_far->step += !step.skipped;
        }
        sum += step.loss * (double)step.batch.rows;
        norm = step.norm;
        if (team->thread != 0) continue;
        if (run->step_losses != NULL) run->step_losses[e * n_steps + b] = step.loss;
        if (run->gradient_norms != NULL) run->gradient_norms[e * n_steps + b] = step.norm;
    }
    if (team->thread != 0) return 1;
    run->losses[e] = sum / (double)training->n_samples;
    if (run->last_norms != NULL) run->last_norms[e] = norm;
    if (run->seconds != NULL) run->seconds[e] = fbp_seconds() - began;
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
    progress so_far = {run->step, fbp_may_skip(training) ? run->doublings : 0, run->good_steps,
                       run->skipped_steps};
    const fbp_plan *plan = training->pass.plan;
    fbp_batch whole = {.rows = fbp_samples_of_step(training)};
    shares own = {fbp_units_share(plan, &whole, team), fbp_tiles_share(plan, team)};
    for (int64_t t = own.tiles.begin; t < own.tiles.end; t++) fbp_training_measure(training, t);
    if (team->thread == 0) fbp_training_measure_running(training);
    fbp_pass_begin(&training->pass, team);
    for (int64_t e = 0; e < run->n_epochs; e++) {
        begin_epoch(training, e, team);
        if (!run_epoch(training, e, &so_far, &own, team)) break;
        if (team->thread == 0) {
            run->step = so_far.step;
            run->doublings = so_far.doublings;
            run->good_steps = so_far.good_steps;
            run->skipped_steps = so_far.skipped_steps;
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
    int64_t n_steps = count_steps(training);
    if (run->rates_per_epoch != 1 && run->rates_per_epoch != n_steps)
        return fbp_fail(FBP_INVALID,
                        "rates: found %lld an epoch, wanted 1, or %lld, one for each step",
                        (long long)run->rates_per_epoch, (long long)n_steps);
    if (run->doublings < 0 || run->doublings > FBP_MOST_DOUBLINGS)
        return fbp_fail(FBP_INVALID, "doublings: found %d, wanted 0 to %d", run->doublings,
                        FBP_MOST_DOUBLINGS);
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
    training->status = fbp_calls_end(&training->pass, training->status);
    if (training->status != FBP_OK)
        memcpy(training->params, training->last_epoch,
               (size_t)plan->graph.n_params * fbp_size(plan->dtype));
    return training->status;
}

fbp_culprit fbp_training_culprit(const fbp_training *training) { return training->culprit; }
