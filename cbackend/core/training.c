/* Making a training: what it is told is checked, its memory counted, for those who only ask as for
 * those who train, and carved. Running it is the business of fit.c. */
#include "core/training.h"

#include <math.h>

#include "core/status.h"

/* ---- what it is told ---- */

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
    int64_t batches = (rows_of(spec) + spec->batch - 1) / spec->batch;
    if (spec->accumulate < 1 || spec->accumulate > batches)
        return fbp_fail(FBP_INVALID, "accumulate: found %lld, wanted 1 to the %lld batches of X",
                        (long long)spec->accumulate, (long long)batches);
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

/* Whether gradients are kept: an update must know more than the gradient of its own tile, or that
 * is the sum over several batches, or formed while weights are still read. */
static int keeps_gradient(const fbp_training *training) {
    const fbp_training_spec *spec = &training->spec;
    int turns = training->pass.plan->training.n_turns;
    return spec->clip_norm > 0.0 || needs_norms(training) || spec->accumulate > 1 || turns > 0 ||
           fbp_may_skip(training);
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

int64_t fbp_samples_of_step(const fbp_training *training) {
    int64_t samples = training->spec.batch * training->spec.accumulate;
    int64_t all = training->n_samples; /* 0: not known */
    return samples < all || all == 0 ? samples : all;
}

static void carve(fbp_training *training, const fbp_plan *plan, fbp_carver *carver) {
    const fbp_training_spec *spec = &training->spec;
    fbp_pass_carve(&training->pass, plan, training->params, spec->batch,
                   fbp_samples_of_step(training), spec->n_threads, carver);
    training->last_epoch = fbp_carve(carver, plan->graph.n_params, fbp_size(plan->dtype));
    training->order = fbp_carve(carver, spec->shuffle ? training->n_samples : 0, sizeof(uint32_t));
    training->squares = fbp_carve(carver, 2 * (int64_t)plan->n_tiles + 2, sizeof(double));
    training->gradient_squares = fbp_carve(carver, plan->n_tiles, sizeof(double));
    int64_t kept = keeps_gradient(training) ? plan->graph.n_params : 0;
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
    if (!keeps_gradient(training)) training->gradient = NULL;
    training->pass.gradient = training->gradient;
    training->pass.form = fbp_training_form;
    training->pass.form_context = training;
    *out = training;
    return FBP_OK;
}

void fbp_training_destroy(fbp_training *training) {
    if (training == NULL) return;
    fbp_free(training->block);
    fbp_free(training);
}

static int is_of_values(const fbp_plan *plan, int b) {
    const fbp_schedule *schedule = &plan->training;
    if (schedule->buffers[b].where != FBP_IN_BATCH && schedule->buffers[b].store < 0) return 0;
    for (int v = 0; v < plan->graph.n_values; v++)
        if (schedule->gradient_at[v] == b) return 0;
    return 1;
}

/* From an element on, the end of the room that buffers of values have without a gap; `at` where
 * they have none. */
static int64_t end_of_values(const fbp_plan *plan, int64_t at) {
    const fbp_schedule *schedule = &plan->training;
    for (int b = 0; b < schedule->n_buffers; b++) {
        const fbp_buffer *buffer = &schedule->buffers[b];
        int64_t end = buffer->offset + buffer->elements;
        if (buffer->store >= 0 || buffer->offset > at || end <= at || !is_of_values(plan, b))
            continue;
        at = end;
        b = -1; /* those before may go on from here */
    }
    return at;
}

/* Gradients share the room of values where they can: what a gradient lies in counts as one, unless
 * it is the room of values at another time. */
static void count_values(const fbp_plan *plan, int64_t batch, fbp_memory *memory) {
    const fbp_schedule *schedule = &plan->training;
    int64_t size = (int64_t)fbp_size(plan->dtype), values = 0, pad = fbp_pad(plan->dtype);
    int64_t at = 0;
    while (at < schedule->batch_elements) {
        int64_t end = end_of_values(plan, at);
        values += end - at;
        at = end > at ? end : at + pad;
    }
    int64_t deltas = (schedule->batch_elements - values) * size;
    values *= size;
    for (int b = 0; b < schedule->n_buffers; b++) {
        const fbp_buffer *buffer = &schedule->buffers[b];
        if (buffer->store < 0) continue;
        int64_t bytes = buffer->elements * (int64_t)sizeof(uint16_t);
        *(is_of_values(plan, b) ? &values : &deltas) += bytes;
    }
    memory->activations = batch * values;
    memory->deltas = batch * deltas;
}

fbp_memory fbp_plan_memory(const fbp_plan *plan, const fbp_training_spec *spec, int64_t n_samples) {
    int64_t params = plan->graph.n_params * (int64_t)fbp_size(plan->dtype);
    fbp_memory memory = {0};
    fbp_carver copies = {NULL, 0};
    fbp_weights_carve(plan, NULL, NULL, FBP_FOR_TRAINING, &copies);
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
    memory.gradients = own * threads + (int64_t)pass->partial_bytes;
    if (keeps_gradient(&training)) memory.gradients += params;
    memory.thread_scratch = ((int64_t)pass->thread_bytes - own) * threads;
    memory.order = spec->shuffle ? n_samples * (int64_t)sizeof(uint32_t) : 0;
    memory.last_epoch = params;
    memory.total = (int64_t)(fbp_block_bytes(counting.used) + fbp_block_bytes(sizeof training));
    memory.other = memory.total - memory.activations - memory.deltas - memory.weight_copies -
                   memory.thread_scratch - memory.gradients - memory.order - memory.last_epoch;
    return memory;
}
