/* Samples, targets and weights: read batch by batch, and checked before anything runs. */
#include "core/problem.h"

#include <math.h>
#include <string.h>

#include "core/status.h"

/* ---- reading ---- */

double fbp_batch_weight(const fbp_plan *plan, const fbp_batch *batch) {
    const void *weight = batch->problem->weight;
    if (weight == NULL) return (double)batch->rows;
    double sum = 0.0;
    for (int64_t r = 0; r < batch->rows; r++)
        sum += fbp_real_at(plan->dtype, weight, fbp_batch_sample(batch, r));
    return sum;
}

void fbp_batch_scales(const fbp_plan *plan, const fbp_batch *batch, int64_t begin, int64_t rows,
                      void *scale) {
    const void *weight = batch->problem->weight;
    for (int64_t r = 0; r < rows; r++) {
        double own = weight == NULL
                         ? 1.0
                         : fbp_real_at(plan->dtype, weight, fbp_batch_sample(batch, begin + r));
        if (plan->dtype == FBP_F32)
            ((float *)scale)[r] = (float)(own / batch->weight);
        else
            ((double *)scale)[r] = own / batch->weight;
    }
}

void fbp_batch_targets(const fbp_plan *plan, const fbp_batch *batch, int64_t begin, int64_t rows,
                       void *target) {
    size_t bytes = fbp_target_bytes(plan);
    const char *from = batch->problem->target;
    for (int64_t r = 0; r < rows; r++)
        memcpy((char *)target + (size_t)r * bytes,
               from + (size_t)fbp_batch_sample(batch, begin + r) * bytes, bytes);
}

/* ---- checking ---- */

/* Everything that a walk over the stored values relies on. */
static fbp_status check_csr(const fbp_samples *x) {
    if (x->indptr[0] < 0 || x->indptr[x->rows] > x->stored)
        return fbp_fail(FBP_INVALID, "X: found indptr from %lld to %lld for %lld stored values",
                        (long long)x->indptr[0], (long long)x->indptr[x->rows],
                        (long long)x->stored);
    for (int64_t r = 0; r < x->rows; r++) {
        if (x->indptr[r] > x->indptr[r + 1] || x->indptr[r + 1] > x->stored)
            return fbp_fail(FBP_INVALID,
                            "X: found an indptr that falls, or passes the %lld stored values, at "
                            "row %lld",
                            (long long)x->stored, (long long)r);
        int64_t before = -1;
        for (int64_t e = x->indptr[r]; e < x->indptr[r + 1]; e++) {
            if (x->indices[e] <= before || x->indices[e] >= x->cols)
                return fbp_fail(
                    FBP_INVALID,
                    "X: found column %d after column %lld in row %lld, wanted columns that "
                    "rise and lie below %lld",
                    x->indices[e], (long long)before, (long long)r, (long long)x->cols);
            before = x->indices[e];
        }
    }
    return FBP_OK;
}

fbp_status fbp_check_samples(const fbp_plan *plan, const fbp_samples *x) {
    if (x->cols != plan->n_inputs)
        return fbp_fail(FBP_INVALID, "X: found %lld columns, wanted %lld", (long long)x->cols,
                        (long long)plan->n_inputs);
    if ((x->indptr != NULL) != plan->sparse)
        return fbp_fail(FBP_INVALID, "X: found %s samples, wanted %s: the plan was made for them",
                        x->indptr != NULL ? "sparse" : "dense", plan->sparse ? "sparse" : "dense");
    if (x->rows < 0 || x->rows >= UINT32_MAX)
        return fbp_fail(FBP_INVALID, "X: found %lld rows, wanted 0 to %u", (long long)x->rows,
                        UINT32_MAX - 1);
    return plan->sparse ? check_csr(x) : FBP_OK;
}

/* Targets in the range that the loss is made for; NaN is in none. */
static fbp_status check_targets(const fbp_plan *plan, const void *target, int64_t rows) {
    fbp_target kind = plan->loss->target;
    if (kind == FBP_TARGET_REAL) return FBP_OK;
    int64_t n = kind == FBP_TARGET_CLASS ? rows : rows * plan->n_outputs;
    double high = kind == FBP_TARGET_CLASS    ? (double)(plan->n_outputs - 1)
                  : kind == FBP_TARGET_BINARY ? 1.0
                                              : INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double t = kind == FBP_TARGET_CLASS ? (double)((const int32_t *)target)[i]
                                            : fbp_real_at(plan->dtype, target, i);
        if (!(t >= 0.0 && t <= high))
            return fbp_fail(FBP_INVALID, "y: found %g, wanted 0 to %g: the targets of '%s'", t,
                            high, plan->loss->name);
    }
    return FBP_OK;
}

static fbp_status check_weights(const fbp_plan *plan, const void *weight, int64_t rows) {
    for (int64_t i = 0; weight != NULL && i < rows; i++) {
        double w = fbp_real_at(plan->dtype, weight, i);
        if (!(w >= 0.0 && w < INFINITY))
            return fbp_fail(FBP_INVALID,
                            "sample_weight: found %g, wanted finite numbers of at least 0", w);
    }
    return FBP_OK;
}

fbp_status fbp_check_problem(const fbp_plan *plan, const fbp_problem *problem, double *weight) {
    fbp_status status = fbp_check_samples(plan, &problem->x);
    if (status != FBP_OK) return status;
    if (problem->x.rows < 1) return fbp_fail(FBP_INVALID, "X: found no rows, wanted at least 1");
    status = check_targets(plan, problem->target, problem->x.rows);
    if (status != FBP_OK) return status;
    status = check_weights(plan, problem->weight, problem->x.rows);
    if (status != FBP_OK) return status;
    if (!(problem->alpha >= 0.0 && problem->alpha < INFINITY))
        return fbp_fail(FBP_INVALID, "alpha: found %g, wanted a finite number of at least 0",
                        problem->alpha);
    fbp_batch all = {problem, NULL, 0, problem->x.rows, 0.0};
    *weight = fbp_batch_weight(plan, &all);
    if (!(*weight > 0.0 && *weight < INFINITY))
        return fbp_fail(FBP_INVALID,
                        "sample_weight: found a sum of %g, wanted a finite one above 0", *weight);
    return FBP_OK;
}
