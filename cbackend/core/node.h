/* Nodes: the ops of a graph. A node is a row of the table with its attributes, on operands whose
 * shapes are settled. This header is the contract between the mechanism, which decides what runs
 * when, on which samples and in which memory, and the families under ops/, which compute.
 *
 * Operands. The array of an operand lies in rows: its last axis is contiguous, and all positions
 * of all samples, one sample after the other, are evenly spaced. So `x` is a matrix of
 * fbp_rows_of(x, samples) rows of fbp_width(x) elements, x->row_stride apart. Rows may be padded;
 * the padding holds anything.
 *
 * Samples. A node runs on any number of consecutive samples, and what it yields for a sample
 * depends on that sample alone: not on how many run together, nor on the thread. Sums over samples
 * are formed in two places only: `backward_shared`, and the forward of a row that couples samples,
 * whose results have no sample axis.
 *
 * A node that reads nothing of samples, but such results, parameters and constants, runs once for
 * all, on whole dense arrays, as it does by itself (node_run.c): what it takes for samples is then
 * the first axis of its arrays, where its row says so. One that the caller computes runs by itself
 * too, on all samples of a batch where it has some; its row is its own, with a name alone. */
#ifndef FBP_CORE_NODE_H
#define FBP_CORE_NODE_H

#include "core/kernels.h"
#include "core/status.h"

#define FBP_MAX_NUMBERS 64  /* of all attributes together */
#define FBP_MAX_GEOMETRY 32 /* what a family notes of its shapes */

typedef struct {
    fbp_shape is;
    int64_t row_stride;            /* all in elements */
    int64_t strides[FBP_MAX_DIMS]; /* of its axes; the last is 1 */
    int64_t sample_stride;         /* 0 unless batched */
} fbp_operand;

static inline int64_t fbp_width(const fbp_operand *x) {
    return x->is.ndim == 0 ? 1 : x->is.shape[x->is.ndim - 1];
}
static inline int64_t fbp_positions(const fbp_operand *x) {
    int64_t n = 1;
    for (int i = 0; i + 1 < x->is.ndim; i++) n *= x->is.shape[i];
    return n;
}
static inline int64_t fbp_elements(const fbp_operand *x) { return fbp_positions(x) * fbp_width(x); }
/* Rows of so many samples, of which an operand that is not batched has its own alone. */
static inline int64_t fbp_rows_of(const fbp_operand *x, int64_t samples) {
    return x->is.batched ? samples * fbp_positions(x) : fbp_positions(x);
}
/* Elements from the first to past the last, padding included. */
static inline int64_t fbp_extent(const fbp_operand *x, int64_t samples) {
    return fbp_rows_of(x, samples) * x->row_stride;
}

struct fbp_node {
    const fbp_row *row;
    fbp_dtype dtype;
    const fbp_gemm_kernels *gemm;
    const fbp_vector_kernels *vector;
    /* The numbers of attribute i are numbers[first[i]] to numbers[first[i + 1] - 1]. */
    double numbers[FBP_MAX_NUMBERS];
    int first[FBP_MAX_ATTRS + 1];
    int n_in, n_out, n_kept; /* results out[0 .. n_out - 1], then what is kept for backward alone */
    fbp_operand in[FBP_MAX_INPUTS], out[FBP_MAX_OUTPUTS];

    /* What a family's `infer` settles besides the shapes in `out`: */
    unsigned reads_in, reads_out; /* bit i: backward, or its tangent, reads in[i], out[i] */
    unsigned reads_dx;       /* bit i: sums over samples are made of in[i]'s gradient; see below */
    unsigned differentiable; /* bit i: in[i] can have a gradient; at first, all that are real */
    unsigned passes;         /* bit i: in[i]'s gradient is that of out[0], unchanged */
    int in_place;            /* out[0] may lie where in[0] lies, and likewise their gradients */
    double flops[2]; /* of one sample: forward, and backward to all that is differentiable */
    struct { /* of in[i], if it is of integers: they are at least `least` and less than `below` */
        int64_t least, below;
    } range[FBP_MAX_INPUTS];
    int64_t geometry[FBP_MAX_GEOMETRY];

    /* By the mechanism: of the differentiable inputs, those that are not batched where the results
     * are, so that their gradient is a sum over samples. */
    unsigned shared;
    /* In a plan, of a row with packed copies: how it forms its products, and at multiples of how
     * many columns they may be cut. Alone a node takes what comes, as FBP_IN_PARTS. */
    fbp_products products;
    int64_t columns;
    /* In a plan, what tells its random masks from others: how many random nodes stand before it. */
    uint32_t stream;
    /* In a plan, that it runs by itself, and on so many of what it takes for samples; and who runs
     * it where that is the caller, then on the whole batch (callbacks.c), or NULL. */
    int alone;
    int64_t samples;
    const fbp_callback *callback;
    /* In a plan, the part that runs again in backward and has it, from 1; 0: none. */
    int checkpoint;
};

/* The parameters of a node, input 1 and perhaps the bias in input 2, as a call sees them. Packed
 * copies are made at the start of a call and kept by the weights phase; none outlives the call. */
typedef struct {
    const void *params, *bias;
    const fbp_half_kernels *half; /* whose 16 bits the packed copies have; NULL: the dtype's own */
    void *packed;   /* panels for forward, or NULL: forward reads params by BLAS or by rows */
    void *packed_t; /* panels for the gradient of the input, or NULL */
    void *start;    /* what forward needs to read params as they lie, or NULL */
} fbp_weights;

/* The rows of samples that stand in place of an input of FBP_SPARSE. */
typedef struct {
    const fbp_samples *samples;
    int64_t first;         /* rows first, first + 1, ... of samples where index is NULL */
    const uint32_t *index; /* else rows index[0], index[1], ... */
} fbp_sparse_rows;

/* Number `i` of attribute `attr`, and how many it has. */
static inline double fbp_number(const fbp_node *node, int attr, int i) {
    return node->numbers[node->first[attr] + i];
}
static inline int64_t fbp_whole(const fbp_node *node, int attr, int i) {
    return (int64_t)fbp_number(node, attr, i);
}
static inline int fbp_count(const fbp_node *node, int attr) {
    return node->first[attr + 1] - node->first[attr];
}

/* One call of a family's functions: the arrays, which lie as the node's operands say, and what else
 * the mechanism provides. */
typedef struct {
    fbp_arrays at;
    void *scratch;                /* scratch_bytes() of them */
    const fbp_weights *weights;   /* NULL: no copies */
    const fbp_half_kernels *half; /* in whose 16 bits products read parameters; or NULL */
    int64_t begin, end; /* the columns that forward or backward is to form, of a row with copies */
    int64_t all;        /* samples of the batch, of which at.samples are some */
} fbp_call;

/* The functions of a row, one set for each dtype.
 *
 * Where the gradient of an input is wanted, so are those of the inputs in node.reads_dx, none of
 * which is shared. Then `backward` of the same samples has written dx before backward_shared and
 * shared_tangent read it, and `backward_tangent` tdx before shared_tangent does.
 *
 * Tangents: where `tangent` is NULL the results are linear in all differentiable inputs together
 * or, with row.bilinear, in inputs 0 and 1 each and in the further ones together; the mechanism
 * then makes all three tangents from the first three functions. */
struct fbp_node_kernels {
    void (*forward)(const fbp_node *node, const fbp_call *call);
    /* dx of every input that is differentiable and not shared. NULL: there is none. */
    void (*backward)(const fbp_node *node, const fbp_call *call);
    /* g, dense, (+)= rows [begin, end) of in[input]'s gradient, that is the sum over the samples
     * of the call, one after the other. The rows are all, unless row.divisible. It may overrun the
     * end of g by less than a cache line, if it does not add. NULL: no input is ever shared. */
    void (*backward_shared)(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                            int64_t end, int add, void *g);
    void (*tangent)(const fbp_node *node, const fbp_call *call); /* ty along tx */
    /* tdx along tx and tdy, of the inputs that backward serves; NULL: there is no such tangent. */
    void (*backward_tangent)(const fbp_node *node, const fbp_call *call);
    void (*shared_tangent)(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                           int64_t end, int add, void *tg);
    size_t (*scratch_bytes)(const fbp_node *node, int64_t samples); /* NULL: none is needed */

    /* Rows that couple samples. Forward is also to be had in parts, for several threads: partial
     * results of blocks, as many as shapes alone decide, and what they make together, in their
     * order. Backward takes some of the samples, and the gradient of the results. */
    int64_t (*blocks)(const fbp_node *node, int64_t samples);
    size_t (*partial_bytes)(const fbp_node *node);
    void (*partial)(const fbp_node *node, const fbp_call *call, int64_t block, void *to);
    void (*join)(const fbp_node *node, const fbp_call *call, const void *partials);
    /* p, dense as out[0] is, follows the result y of so many samples, by a share of `momentum`.
     * NULL: nothing can follow it. */
    void (*follow)(const fbp_node *node, int64_t samples, double momentum, const void *y, void *p);

    /* Rows that keep copies of input 1 in a plan, and whose products can be cut by columns: */
    void (*packed_sizes)(const fbp_node *node, int64_t *packed, int64_t *packed_t); /* elements */
    /* Bytes that forward needs to read params as they lie, worth it for few rows; 0: it cannot. So
     * many elements behind them may be read as well. */
    size_t (*direct_bytes)(const fbp_node *node, int64_t behind);
    /* Renews the copies of rows [begin, end) of the parameters, the bias being the last. */
    void (*pack)(const fbp_node *node, const fbp_weights *weights, int64_t begin, int64_t end);
};

/* A product n columns wide is cut into pieces of node->columns, the last of which may be a third
 * wider: so no sliver is left, and pieces begin where panels do. */
static inline int64_t fbp_piece_end(const fbp_node *node, int64_t begin, int64_t n) {
    int64_t columns = node->columns;
    return n - begin <= columns + columns / 3 ? n : begin + columns;
}
static inline int64_t fbp_column_pieces(const fbp_node *node, int64_t n) {
    int64_t left = n - node->columns / 3;
    return left <= node->columns ? 1 : fbp_pieces(left, node->columns);
}

/* Row-major products through BLAS, for layers too wide for our own kernels (core/blas.c). */
void fbp_blas_multiply(fbp_dtype dtype, int transpose_a, int transpose_b, int64_t m, int64_t n,
                       int64_t k, const void *a, int64_t lda, const void *b, int64_t ldb,
                       double beta, void *c, int64_t ldc);
int fbp_blas_present(fbp_dtype dtype);

static inline const fbp_node_kernels *fbp_node_ops(const fbp_node *node) {
    return node->row->node[node->dtype];
}

/* Whether it keeps packed copies of its weights in a plan. */
static inline int fbp_packs(const fbp_node *node) {
    return fbp_node_ops(node)->pack != NULL && !node->alone;
}

/* An activation or a function: each element of the result is made of one element. */
static inline int fbp_is_elementwise(const fbp_node *node) {
    return node->row->kind == FBP_ACTIVATION || node->row->kind == FBP_FUNCTION;
}

/* ---- for `infer` ---- */

/* A shape in words, "(n, 3, 4)" for a batched one of (3, 4). Holds at most a few at a time. */
const char *fbp_shape_words(const fbp_shape *shape);
/* An axis counted from the front; from the end where it is negative. -1, with a message, where
 * there is none. */
int fbp_axis_of(const fbp_node *node, int attr, int i, const fbp_shape *shape);
/* out[0] becomes what in[0] is. */
void fbp_like_first(fbp_node *node);

#endif
