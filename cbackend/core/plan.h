/* A plan: a graph compiled for one dtype and instruction set, with the schedules, the cuts and the
 * choice of products that its shapes decide. Immutable once made; each running call takes scratch
 * of its own. */
#ifndef FBP_CORE_PLAN_H
#define FBP_CORE_PLAN_H

#include "core/arena.h"
#include "core/parallel.h"
#include "core/registry.h"
#include "core/schedule.h"

/* A tile of the weights phase: rows [begin, end) of a parameter, seen as a matrix, and where its
 * node says so the bias after them. Cut by the shapes alone. */
typedef struct {
    int parameter;
    int64_t begin, end;
    int64_t cost;    /* elements of the gradient */
    int64_t own;     /* those at the start that are the parameter's, and not the bias's */
    int64_t weights; /* those at the start that the penalty is on */
    int64_t offset;  /* in the flat buffer */
} fbp_tile;

/* Where a parameter, or a value that samples share, is used: its gradient is the sum over these, in
 * the order in which backward comes by. */
typedef struct {
    int node, input;
} fbp_use;

/* A tile of a node's packed copies. */
typedef struct {
    int node;
    int64_t begin, end;
} fbp_copies;

struct fbp_plan {
    fbp_graph graph;
    fbp_schedule training, prediction;
    fbp_dtype dtype;
    int uses_blas, copies_weights; /* some node: FBP_BLAS; not FBP_PACKED */
    int is_chain; /* of products and elementwise rows, each sample one row: columns can be cut */
    int64_t alone_bytes;    /* room for any node that runs by itself */
    int64_t most_positions; /* rows of a sample in any value */
    int n_outputs;
    int *outputs;
    const fbp_variant *variant;
    const fbp_gemm_kernels *gemm;
    const fbp_vector_kernels *vector;
    const fbp_half_kernels *half; /* of a mixed plan; else NULL */
    int n_tiles, n_copies, n_derived_copies, n_uses;
    fbp_tile *tiles;
    fbp_copies *copies;  /* those that are made of what is derived come last */
    fbp_use *uses;       /* of parameter p: uses[first_use[p]] to uses[first_use[p + 1] - 1] */
    int *first_use;      /* (n_parameters + 1) */
    int64_t tile_params; /* elements of all tiles: what is trained */
    int64_t largest_tile, widest_sample; /* elements */
    double flops;                        /* of one sample's forward and backward */
    fbp_pool pool;
};

static inline void *fbp_at(const fbp_plan *plan, const void *base, int64_t element) {
    return fbp_element(plan->dtype, base, element);
}

/* Leading dimension of a tile n wide: room for the column of ones, whole cache lines, and not a
 * multiple of a great power of two, which would make the rows of a tile compete for the same cache
 * lines. */
int64_t fbp_leading(fbp_dtype dtype, int64_t n);

/* Samples in a tile of the rows phase, and the multiple at which threads may cut the batch. On our
 * own kernels any cut gives the same bits; on BLAS the tiles are fixed by the shape. */
int64_t fbp_row_tile(const fbp_plan *plan, int64_t batch);
int64_t fbp_row_step(const fbp_plan *plan, int64_t batch);

/* Whether a team cuts products by columns too: a plan with few rows and wide layers occupies more
 * threads so, but they meet after each layer. The bits are the same. */
int fbp_cuts_columns(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads);
/* FLOPs of the busiest thread in either form, and of the meetings that it waits for. A sparse first
 * layer counts for next to nothing, and is not cut: each piece would read all stored values. */
double fbp_rows_span(const fbp_plan *plan, int64_t rows, int64_t batch, int n_threads,
                     int by_columns);

/* Whether the gradients of the losses are scaled, so that float16 holds the smaller ones too.
 * (Those of bfloat16 have the range of float32.) */
static inline int fbp_scales_losses(const fbp_plan *plan) {
    return plan->graph.precision == FBP_FP16;
}

/* Blocks of samples in which a use yields its part of a gradient; a node that runs by itself yields
 * it whole. */
static inline int64_t fbp_use_blocks(const fbp_plan *plan, const fbp_use *use, int64_t samples) {
    const fbp_node *node = &plan->graph.nodes[use->node];
    return node->alone ? 1 : fbp_shared_blocks(node, samples);
}

/* Whether a use yields it but once a step, with the last of its batches. */
static inline int fbp_comes_last(const fbp_plan *plan, const fbp_use *use) {
    return plan->training.goes_apart && fbp_is_derived(&plan->graph, use->node);
}

/* The last step of making a plan: uses, tiles and copies. */
fbp_status fbp_cut_parameters(fbp_plan *plan);
/* Parts in which the gradient of parameter p is formed, on so many samples: blocks of samples for
 * each of its uses. The most of any parameter. */
int fbp_parts_of(const fbp_plan *plan, int p, int64_t samples);
int fbp_most_parts(const fbp_plan *plan, int64_t samples);

/* Threads that so many FLOPs are worth, at most n_threads, since waking a thread costs more than a
 * small step: for a step of training, whose team stays together, or for a call that forms its
 * own. */
int fbp_threads_for_step(const fbp_plan *plan, double flops, int n_threads);
int fbp_threads_for_call(const fbp_plan *plan, double flops, int n_threads);
/* FLOPs of one of these samples, which in a sparse plan depend on the stored values. */
double fbp_sample_flops(const fbp_plan *plan, const fbp_samples *x);

/* FLOPs of a node's product on one sample. */
static inline double fbp_product_flops(const fbp_node *node) { return node->flops[0]; }

#endif
