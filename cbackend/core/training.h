/* What a training holds, as the files see it that make one (training.c), that run its epochs
 * (fit.c), that turn gradients into new weights (update.c), and that say what went wrong
 * (culprit.c). */
#ifndef FBP_CORE_TRAINING_H
#define FBP_CORE_TRAINING_H

#include "core/pass.h"

struct fbp_training {
    fbp_pass pass;
    fbp_training_spec spec;
    int64_t n_samples;
    const fbp_row *rule;
    const fbp_rule_kernels *kernels;
    char *params, *last_epoch; /* (n_params): the weights, and those of the last whole epoch */
    void *states[FBP_MAX_STATES];
    char *gradient; /* (n_params), where more than a tile of it must be known before the update */
    /* Parameters whose rates and decays have the same factors make a group. */
    int n_groups, *group_of;              /* (n_parameters) */
    double *rate_factors, *decay_factors; /* (n_groups) */
    double *scalars;                      /* (threads, n_groups, FBP_MAX_SCALARS) of the step */
    uint32_t *order;                      /* (samples) the epoch's order, or NULL */
    double *squares; /* (n_tiles + 1, 2): sums of squares of each tile's own and of its bias; at
                      * last, as of a bias, that of the running values */
    double *gradient_squares; /* (n_tiles): of the gradient, before it is clipped */
    /* (n_tiles, 4), for a rule that needs norms: sums of squares of the weights and the bias, and
     * of their directions */
    double *norms;
    void *block; /* all of the above */
    fbp_culprit culprit;
    fbp_batch bad_step; /* the culprit's */
    /* of the current run: */
    fbp_run *run;
    int stop_after_rows, stop_after_weights; /* what the first thread knew before each barrier */
    fbp_status status;
};

/* Whether a step may turn out to be none: then gradients are kept until the norm of all is
 * known. */
static inline int fbp_may_skip(const fbp_training *training) {
    return fbp_scales_losses(training->pass.plan);
}

/* Samples of a step that is not the last of an epoch. */
int64_t fbp_samples_of_step(const fbp_training *training);
/* The batch that is run when so many samples of a step have been. */
static inline fbp_batch fbp_part_of_step(const fbp_training *training, const fbp_batch *step,
                                         int64_t before) {
    fbp_batch part = *step;
    part.before = part.place = before;
    part.first += before;
    part.after = step->rows - before - training->spec.batch;
    if (part.after < 0) part.after = 0;
    part.rows = step->rows - before - part.after;
    return part;
}

/* What the updates of a step are made of, the same on every thread. */
typedef struct {
    double weight;   /* the sum of the batch's weights */
    int measured;    /* the norm of the gradient is wanted */
    int doublings;   /* of the losses' gradients: undone before anything else */
    double *scalars; /* (n_groups, FBP_MAX_SCALARS) */
} fbp_update;

/* ---- update.c ---- */

/* Sums of squares of a tile's weights; and of all weights that the penalty is on, each times its
 * factor, which is not finite if any weight or bias is not. */
void fbp_training_measure(fbp_training *training, int64_t t);
void fbp_training_measure_running(fbp_training *training);
double fbp_training_squares(const fbp_training *training);

/* Takes the gradient of tile t over the whole batch: adds the penalty, and updates the tile or,
 * where more must be known first, keeps the gradient for the third phase. */
void fbp_training_take(fbp_training *training, const fbp_update *update, int64_t t, void *g);
/* Forms a unit in its turn, and keeps the gradient that it completes (fbp_pass.form). */
void fbp_training_form(void *training, fbp_lane *lane, const fbp_units *unit);
/* The norm of the gradient, if it was measured, once all tiles are taken. */
double fbp_training_gradient_norm(const fbp_training *training);
/* What follows when all tiles are taken, if anything does: this thread's part of the third phase,
 * the gradient's norm being known. It ends with a meeting. */
void fbp_training_finish(fbp_training *training, const fbp_update *update, fbp_range tiles,
                         double norm, const fbp_team *team);

/* Running values follow what a batch has made; on one thread. */
void fbp_training_follow(fbp_training *training, const fbp_batch *batch, const fbp_team *team);

/* ---- culprit.c ---- */

/* The culprit's node, and FBP_NOT_FINITE with a message, of the bad step. */
fbp_status fbp_explain(fbp_training *training);

#endif
