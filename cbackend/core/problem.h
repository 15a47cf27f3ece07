/* Samples, targets and weights as the phases read them, and what a caller may get wrong about
 * them. */
#ifndef FBP_CORE_PROBLEM_H
#define FBP_CORE_PROBLEM_H

#include "core/plan.h"

/* The samples of one batch: rows first, first + 1, ... of the problem, or order[first], ... */
typedef struct {
    const fbp_problem *problem;
    const uint32_t *order;
    int64_t first, rows;
    double weight; /* the sum of their weights */
} fbp_batch;

/* The order from row `row` of the batch on, or NULL. */
static inline const uint32_t *fbp_batch_order(const fbp_batch *batch, int64_t row) {
    return batch->order == NULL ? NULL : batch->order + batch->first + row;
}

static inline int64_t fbp_batch_sample(const fbp_batch *batch, int64_t row) {
    int64_t place = batch->first + row;
    return batch->order == NULL ? place : (int64_t)batch->order[place];
}

/* The batch from row `row` on, as a sparse first layer reads it. */
static inline fbp_sparse_rows fbp_batch_sparse(const fbp_batch *batch, int64_t row) {
    fbp_sparse_rows rows = {&batch->problem->x, batch->first + row, fbp_batch_order(batch, row)};
    return rows;
}

double fbp_batch_weight(const fbp_plan *plan, const fbp_batch *batch);
/* scale (rows) = a row's weight over the batch's, from row `begin` of the batch on: so the gradient
 * is that of the weighted mean. */
void fbp_batch_scales(const fbp_plan *plan, const fbp_batch *batch, int64_t begin, int64_t rows,
                      void *scale);
void fbp_batch_targets(const fbp_plan *plan, const fbp_batch *batch, int64_t begin, int64_t rows,
                       void *target);

/* Wrong shapes, targets out of range and the like, told with the name of the argument. */
fbp_status fbp_check_samples(const fbp_plan *plan, const fbp_samples *x);
/* Samples that fit the plan, at least one, and a positive sum of weights, which is returned. */
fbp_status fbp_check_problem(const fbp_plan *plan, const fbp_problem *problem, double *weight);

#endif
