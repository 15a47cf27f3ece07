/* Samples, targets and weights: read batch by batch, and checked before anything runs. */
#include "core/problem.h"

#include <math.h>
#include <stdio.h>
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

void fbp_batch_gather(const fbp_plan *plan, const fbp_batch *batch, const fbp_value *value,
                      int64_t row, int64_t rows, void *to) {
    const fbp_samples *x = &batch->problem->x[value->index];
    const fbp_operand *is = &value->is;
    const uint32_t *order = fbp_batch_order(batch, row);
    int64_t start = order == NULL ? (batch->first + row) * x->row_stride : 0;
    if (is->is.content == FBP_INDEX) {
        size_t bytes = (size_t)x->cols * sizeof(int32_t);
        for (int64_t r = 0; r < rows; r++)
            memcpy((int32_t *)to + r * is->sample_stride,
                   (const int32_t *)x->data + fbp_batch_sample(batch, row + r) * x->row_stride,
                   bytes);
    } else if (fbp_positions(is) == 1) {
        plan->vector->gather(rows, x->cols, fbp_at(plan, x->data, start), x->row_stride,
                             x->col_stride, order, to, is->row_stride);
    } else { /* the rows of a sample lie one after the other */
        for (int64_t r = 0; r < rows; r++)
            plan->vector->gather(
                fbp_positions(is), fbp_width(is),
                fbp_at(plan, x->data, fbp_batch_sample(batch, row + r) * x->row_stride),
                fbp_width(is), 1, NULL, fbp_at(plan, to, r * is->sample_stride), is->row_stride);
    }
}

void fbp_batch_scales(const fbp_plan *plan, const fbp_batch *batch, const fbp_loss *loss,
                      int64_t begin, int64_t rows, void *scale) {
    const void *weight = batch->problem->weight;
    int64_t positions = fbp_positions(&plan->graph.values[loss->value].is);
    double share = loss->factor / (double)positions;
    if (batch->doublings > 0) share = ldexp(share, batch->doublings);
    for (int64_t r = 0; r < rows * positions; r++) {
        int64_t row = positions == 1 ? r : r / positions;
        double own = weight == NULL
                         ? 1.0
                         : fbp_real_at(plan->dtype, weight, fbp_batch_sample(batch, begin + row));
        double scaled = own / batch->weight * share;
        if (plan->dtype == FBP_F32)
            ((float *)scale)[r] = (float)scaled;
        else
            ((double *)scale)[r] = scaled;
    }
}

void fbp_batch_targets(const fbp_plan *plan, const fbp_batch *batch, int loss, int64_t begin,
                       int64_t rows, void *target) {
    size_t bytes = fbp_target_bytes(&plan->graph, &plan->graph.losses[loss]);
    const char *from = batch->problem->target[loss];
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

/* The name of input i, for messages: X, as long as there is but one. */
static const char *name_of(const fbp_plan *plan, int i, char *room, size_t size) {
    if (plan->graph.n_inputs == 1) return "X";
    snprintf(room, size, "X[%d]", i);
    return room;
}

static fbp_status check_input(const fbp_plan *plan, const fbp_samples *x, int i) {
    char room[32];
    const char *name = name_of(plan, i, room, sizeof room);
    const fbp_value *value = &plan->graph.values[i];
    int sparse = fbp_is_sparse(value);
    if (x->cols != fbp_elements(&value->is))
        return fbp_fail(FBP_INVALID, "%s: found %lld columns, wanted %lld", name,
                        (long long)x->cols, (long long)fbp_elements(&value->is));
    if ((x->indptr != NULL) != sparse)
        return fbp_fail(FBP_INVALID, "%s: found %s samples, wanted %s: the plan was made for them",
                        name, x->indptr != NULL ? "sparse" : "dense", sparse ? "sparse" : "dense");
    if (x->rows < 0 || x->rows >= UINT32_MAX)
        return fbp_fail(FBP_INVALID, "%s: found %lld rows, wanted 0 to %u", name,
                        (long long)x->rows, UINT32_MAX - 1);
    int whole =
        x->col_stride == 1 && (value->is.is.content == FBP_REAL || x->row_stride == x->cols);
    if (!sparse && !whole && (value->is.is.ndim > 1 || value->is.is.content == FBP_INDEX))
        return fbp_fail(FBP_INVALID, "%s: found strided samples, wanted each in one piece", name);
    return sparse ? check_csr(x) : FBP_OK;
}

/* Kernels follow integers: those that a node reads must be in its range. */
static fbp_status check_integers(const fbp_plan *plan, const fbp_samples *x) {
    const fbp_graph *graph = &plan->graph;
    for (int n = 0; n < graph->n_nodes; n++) {
        fbp_arrays arrays = {.samples = x[0].rows};
        int any = 0;
        for (int i = 0; i < graph->nodes[n].n_in; i++) {
            const fbp_value *value = &graph->values[graph->inputs[n][i]];
            if (value->is.is.content != FBP_INDEX) continue;
            arrays.x[i] = value->source == FBP_FROM_CONSTANT ? graph->constants[value->index]
                                                             : x[value->index].data;
            any = 1;
        }
        fbp_status status = any ? fbp_node_check_indices(&graph->nodes[n], &arrays) : FBP_OK;
        if (status != FBP_OK) return status;
    }
    return FBP_OK;
}

fbp_status fbp_check_samples(const fbp_plan *plan, const fbp_samples *x) {
    for (int i = 0; i < plan->graph.n_inputs; i++) {
        fbp_status status = check_input(plan, &x[i], i);
        if (status != FBP_OK) return status;
        if (x[i].rows != x[0].rows)
            return fbp_fail(FBP_INVALID, "X[%d]: found %lld rows, wanted %lld, as X[0] has", i,
                            (long long)x[i].rows, (long long)x[0].rows);
    }
    return check_integers(plan, x);
}

/* Targets in the range that the loss is made for; NaN is in none. */
static fbp_status check_targets(const fbp_plan *plan, const fbp_loss *loss, const void *target,
                                int64_t rows) {
    fbp_target kind = loss->row->target;
    const fbp_operand *z = &plan->graph.values[loss->value].is;
    if (kind == FBP_TARGET_REAL) return FBP_OK;
    int64_t n = rows * (kind == FBP_TARGET_CLASS ? fbp_positions(z) : fbp_elements(z));
    double high = kind == FBP_TARGET_CLASS    ? (double)(fbp_width(z) - 1)
                  : kind == FBP_TARGET_BINARY ? 1.0
                                              : INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double t = kind == FBP_TARGET_CLASS ? (double)((const int32_t *)target)[i]
                                            : fbp_real_at(plan->dtype, target, i);
        if (!(t >= 0.0 && t <= high))
            return fbp_fail(FBP_INVALID, "y: found %g, wanted 0 to %g: the targets of '%s'", t,
                            high, loss->row->name);
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
    fbp_status status = fbp_check_samples(plan, problem->x);
    if (status != FBP_OK) return status;
    int64_t rows = fbp_problem_rows(problem);
    if (rows < 1) return fbp_fail(FBP_INVALID, "X: found no rows, wanted at least 1");
    if (plan->graph.n_losses < 1)
        return fbp_fail(FBP_INVALID, "loss: found none, wanted a plan with at least one");
    for (int i = 0; i < plan->graph.n_losses; i++) {
        status = check_targets(plan, &plan->graph.losses[i], problem->target[i], rows);
        if (status != FBP_OK) return status;
    }
    status = check_weights(plan, problem->weight, rows);
    if (status != FBP_OK) return status;
    if (!(problem->alpha >= 0.0 && problem->alpha < INFINITY))
        return fbp_fail(FBP_INVALID, "alpha: found %g, wanted a finite number of at least 0",
                        problem->alpha);
    fbp_batch all = {.problem = problem, .rows = rows};
    *weight = fbp_batch_weight(plan, &all);
    if (!(*weight > 0.0 && *weight < INFINITY))
        return fbp_fail(FBP_INVALID,
                        "sample_weight: found a sum of %g, wanted a finite one above 0", *weight);
    return FBP_OK;
}
