/* Samples, targets and weights as the phases read them, and what a caller may get wrong about
 * them. */
#ifndef FBP_CORE_PROBLEM_H
#define FBP_CORE_PROBLEM_H

#include "core/plan.h"

enum { FBP_ALL_TURNS = -1 };

/* The samples of one batch: rows first, first + 1, ... of the problem, or order[first], ... */
typedef struct {
    const fbp_problem *problem;
    const uint32_t *order;
    int64_t first, rows;
    int64_t before, after; /* samples of the same step that are run before these, and after */
    double weight;         /* the sum of the weights of all samples of the step */
    int doublings;         /* the losses' gradients are multiplied by 2 to the power of it */
    int masks;             /* whether there are random masks, functions of these: */
    fbp_draws draws;       /* seed and step */
    int64_t place;         /* of its first row in what they take for the batch */
    int turn;              /* of gradients that are formed; FBP_ALL_TURNS: any */
} fbp_batch;

/* Samples of the whole step. */
static inline int64_t fbp_batch_whole(const fbp_batch *batch) {
    return batch->before + batch->rows + batch->after;
}

static inline int64_t fbp_problem_rows(const fbp_problem *problem) { return problem->x[0].rows; }

/* Rows first, first + 1, ... of a problem whose weights sum to `weight`, as a batch by themselves.
 * */
static inline fbp_batch fbp_batch_of(const fbp_problem *problem, int64_t first, int64_t rows,
                                     double weight) {
    fbp_batch batch = {.problem = problem,
                       .first = first,
                       .rows = rows,
                       .weight = weight,
                       .masks = problem->masks,
                       .draws = problem->draws,
                       .place = first};
    return batch;
}

/* The order from row `row` of the batch on, or NULL. */
static inline const uint32_t *fbp_batch_order(const fbp_batch *batch, int64_t row) {
    return batch->order == NULL ? NULL : batch->order + batch->first + row;
}

static inline int64_t fbp_batch_sample(const fbp_batch *batch, int64_t row) {
    int64_t place = batch->first + row;
    return batch->order == NULL ? place : (int64_t)batch->order[place];
}

/* The batch from row `row` on, as a node reads an input of compressed rows. */
static inline fbp_sparse_rows fbp_batch_sparse(const fbp_batch *batch, int input, int64_t row) {
    fbp_sparse_rows rows = {&batch->problem->x[input], batch->first + row,
                            fbp_batch_order(batch, row)};
    return rows;
}

/* Rows [row, row + rows) of the batch into the buffer of an input's value. */
void fbp_batch_gather(const fbp_plan *plan, const fbp_batch *batch, const fbp_value *value,
                      int64_t row, int64_t rows, void *to);

double fbp_batch_weight(const fbp_plan *plan, const fbp_batch *batch);
/* scale (rows, positions) = a sample's weight over the batch's, times the loss's factor, over its
 * positions: so the gradient is that of the weighted mean; times what the batch asks for
 * besides. */
void fbp_batch_scales(const fbp_plan *plan, const fbp_batch *batch, const fbp_loss *loss,
                      int64_t begin, int64_t rows, void *scale);
void fbp_batch_targets(const fbp_plan *plan, const fbp_batch *batch, int loss, int64_t begin,
                       int64_t rows, void *target);

/* Wrong shapes, targets out of range and the like, told with the name of the argument. */
fbp_status fbp_check_samples(const fbp_plan *plan, const fbp_samples *x);
/* Samples that fit the plan, at least one, and a positive sum of weights, which is returned. */
fbp_status fbp_check_problem(const fbp_plan *plan, const fbp_problem *problem, double *weight);

#endif
