/* A plan: a network and its loss, compiled for one dtype and instruction set. Immutable once made;
 * each running call takes scratch of its own. */
#ifndef FBP_CORE_PLAN_H
#define FBP_CORE_PLAN_H

#include "core/arena.h"
#include "core/layer.h"
#include "core/parallel.h"
#include "core/registry.h"

/* A tile of the weights phase: parameter rows [begin, end) of a layer. Cut by the shapes alone. */
typedef struct {
    int layer;
    int64_t begin, end;
    int64_t cost; /* elements of the gradient */
} fbp_tile;

struct fbp_plan {
    fbp_dtype dtype;
    int sparse, uses_blas, copies_weights; /* some layer: FBP_BLAS; not FBP_PACKED */
    int n_layers;
    fbp_layer *layers;
    int64_t n_inputs, n_outputs, n_params;
    int64_t widest; /* greatest leading dimension of any layer's tile */
    const fbp_row *loss;
    double loss_attrs[FBP_MAX_ATTRS];
    const fbp_variant *variant;
    const fbp_gemm_kernels *gemm;
    const fbp_vector_kernels *vector;
    int n_tiles;
    fbp_tile *tiles;
    int64_t largest_tile; /* elements */
    double flops;         /* of one sample's forward and backward */
    fbp_pool pool;
};

static inline const fbp_loss_kernels *fbp_plan_loss(const fbp_plan *plan) {
    return plan->loss->kernels[plan->dtype];
}

static inline void *fbp_at(const fbp_plan *plan, const void *base, int64_t element) {
    return fbp_element(plan->dtype, base, element);
}

/* Bytes of one sample's target: an int32_t for a class, n_outputs reals otherwise. */
size_t fbp_target_bytes(const fbp_plan *plan);

/* Leading dimension of a tile n wide: room for the column of ones, whole cache lines, and not a
 * multiple of a great power of two, which would make the rows of a tile compete for the same cache
 * lines. */
int64_t fbp_leading(fbp_dtype dtype, int64_t n);

/* Rows in a tile of the rows phase, and the multiple at which threads may cut the batch. On our own
 * kernels any cut gives the same bits; on BLAS the tiles are fixed by the shape. */
int64_t fbp_row_tile(const fbp_plan *plan, int64_t batch);
int64_t fbp_row_step(const fbp_plan *plan, int64_t batch);

/* Whether a team cuts products by columns too: a plan with few rows and wide layers occupies more
 * threads so, but they meet after each layer. The bits are the same. */
int fbp_cuts_columns(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads);
/* FLOPs of the busiest thread in either form, and of the meetings that it waits for. A sparse first
 * layer counts for next to nothing, and is not cut: each piece would read all stored values. */
double fbp_rows_span(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads,
                     int by_columns);

/* Blocks of a batch's rows for which the weights phase forms partial gradients. Cut by shape
 * alone. */
int fbp_row_blocks(const fbp_plan *plan, int64_t batch);

/* Threads that so many FLOPs are worth, at most n_threads, since waking a thread costs more than a
 * small step: for a step of training, whose team stays together, or for a call that forms its
 * own. */
int fbp_threads_for_step(double flops, int n_threads);
int fbp_threads_for_call(double flops, int n_threads);
/* FLOPs of a layer's product on one sample. */
static inline double fbp_product_flops(const fbp_layer *layer) {
    return 2.0 * (double)layer->n_in * (double)layer->n_out;
}
/* FLOPs of one of these samples, which in a sparse plan depend on the stored values. */
double fbp_sample_flops(const fbp_plan *plan, const fbp_samples *x);

#endif
