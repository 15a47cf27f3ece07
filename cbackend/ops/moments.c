/* The moments of each channel over all rows of all samples, for batch normalisation (batch_norm.c),
 * and how running moments follow them. It holds the loops; the formulas are in math/norms.h.
 *
 * A sum over all rows is that of blocks of 256, each formed alone, put together in order: so
 * different threads may form different blocks, with the same bits.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include <string.h>

#include "ops/channels.h"

enum { X };
enum { MEAN, VARIANCE }; /* rows of the result */
enum { BLOCK_ROWS = 256 };
enum { n_sums = 4, n_reals = 1 }; /* in scratch, for each channel */

static int64_t blocks(const fbp_node *node, int64_t samples) {
    return fbp_pieces(fbp_rows_of(&node->in[X], samples), BLOCK_ROWS);
}

/* Of a block: means, then sums of squares about them. */
static size_t partial_bytes(const fbp_node *node) {
    return (size_t)(2 * fbp_width(&node->in[X])) * sizeof(double);
}

static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    (void)samples;
    return (size_t)fbp_width(&node->in[X]) * (n_sums + n_reals) * sizeof(double);
}

#define FBP_TEMPLATE "math/norms.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/channels.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/moments.c"
#include "math/expand.h"

static const char *const inputs[] = {"x"};

static fbp_status infer_moments(fbp_node *node) {
    const fbp_shape *x = &node->in[X].is;
    if (x->ndim < 1 || fbp_elements(&node->in[X]) < 1)
        return fbp_fail(FBP_INVALID,
                        "moments: found x of shape %s, wanted rows, at least one, of channels",
                        fbp_shape_words(x));
    node->out[0].is = (fbp_shape){.ndim = 2, .shape = {2, fbp_width(&node->in[X])}};
    node->reads_in = 1u << X;
    node->reads_out = 1u;
    node->flops[0] = 4.0 * (double)fbp_elements(&node->in[X]);
    node->flops[1] = 3.0 * (double)fbp_elements(&node->in[X]);
    return FBP_OK;
}

static const fbp_row rows[] = {
    {.name = "moments",
     .doc = "(2, channels): mean and biased variance of each channel, the last axis, over all "
            "others and, in a plan, all samples of the batch, whatever their weights",
     .kind = FBP_OP,
     .couples_samples = 1,
     .reads = FBP_READS_INPUT,
     .op = {1, 1, inputs, FBP_AXIS_NONE, .data = 0},
     .infer = infer_moments,
     .node = {&moments_f32, &moments_f64}},
};

extern const fbp_family FBP_FAMILY(moments);
const fbp_family FBP_FAMILY(moments) = {rows, sizeof rows / sizeof rows[0]};

#else

/* ---- forward ---- */

/* Of a block of rows: the mean, and the sum of squares about it. */
static void FN(block_moments)(int64_t rows, int64_t n, FN(rows) x, double *FBP_RESTRICT mean,
                              double *FBP_RESTRICT squares) {
    for (int64_t c = 0; c < n; c++) mean[c] = squares[c] = 0.0;
    FN(add_values)(rows, n, x, mean);
    for (int64_t c = 0; c < n; c++) mean[c] /= (double)rows;
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = x.at + r * x.stride;
        for (int64_t c = 0; c < n; c++) {
            const double d = (double)xs[c] - mean[c];
            squares[c] += d * d;
        }
    }
}

static int64_t FN(rows_in_block)(int64_t rows, int64_t block) {
    int64_t left = rows - block * BLOCK_ROWS;
    return left < BLOCK_ROWS ? left : BLOCK_ROWS;
}

static void FN(partial)(const fbp_node *node, const fbp_call *call, int64_t block, void *to) {
    const fbp_operand *x = &node->in[X];
    int64_t n = fbp_width(x), rows = fbp_rows_of(x, call->at.samples);
    double *const means = to;
    FN(block_moments)(FN(rows_in_block)(rows, block), n,
                      FN(rows_from)(x, call->at.x[X], block * BLOCK_ROWS), means, means + n);
}

/* The blocks from `partials` or, where that is NULL, each formed here. */
static void FN(join)(const fbp_node *node, const fbp_call *call, const void *partials) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    int64_t n = fbp_width(x), rows = fbp_rows_of(x, call->at.samples);
    double *const means = call->scratch, *const squares = means + n, *const room = means + 2 * n;
    memset(means, 0, (size_t)(2 * n) * sizeof(double));
    for (int64_t b = 0; b < blocks(node, call->at.samples); b++) {
        const double *block = partials == NULL ? room : (const double *)partials + b * 2 * n;
        if (partials == NULL) FN(partial)(node, call, b, room);
        const double before = (double)(b * BLOCK_ROWS), more = (double)FN(rows_in_block)(rows, b);
        for (int64_t c = 0; c < n; c++) {
            const fbp_moments own = {means[c], squares[c]}, other = {block[c], block[n + c]};
            const fbp_moments both = fbp_merge_moments(before, own, more, other);
            means[c] = both.mean;
            squares[c] = both.squares;
        }
    }
    for (int64_t c = 0; c < n; c++) {
        FN(row_to)(y, call->at.y[0], MEAN)[c] = (real)means[c];
        FN(row_to)(y, call->at.y[0], VARIANCE)[c] = (real)(squares[c] / (double)rows);
    }
}

static void FN(forward)(const fbp_node *node, const fbp_call *call) { FN(join)(node, call, NULL); }

/* ---- backward ---- */

/* out = start + slope (x - mean) + tslope (tx - tmean), the last with tx alone. */
typedef struct {
    const real *mean, *tmean, *start, *slope, *tslope;
} FN(lines);

static void FN(fill_lines)(const fbp_node *node, int64_t rows, const void *x_, const void *tx_,
                           FN(lines) by, void *out_) {
    const fbp_operand *x = &node->in[X];
    int64_t n = fbp_width(x);
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = FN(rows_from)(x, x_, r).at;
        real *const out = FN(row_to)(x, out_, r);
        FBP_INDEPENDENT
        for (int64_t c = 0; c < n; c++)
            out[c] = FBP_FMA(xs[c] - by.mean[c], by.slope[c], by.start[c]);
        if (tx_ == NULL) continue;
        const real *const txs = FN(rows_from)(x, tx_, r).at;
        FBP_INDEPENDENT
        for (int64_t c = 0; c < n; c++)
            out[c] = FBP_FMA(txs[c] - by.tmean[c], by.tslope[c], out[c]);
    }
}

/* dx = (dmean + 2 dvariance (x - mean)) / rows, the rows of all samples of the batch. */
static FN(lines) FN(lines_of)(const fbp_node *node, const fbp_call *call, const void *slopes) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    int64_t n = fbp_width(x);
    const real share = (real)(1.0 / (double)fbp_rows_of(x, call->all));
    const real *const dmean = FN(rows_from)(y, slopes, MEAN).at;
    const real *const dvariance = FN(rows_from)(y, slopes, VARIANCE).at;
    real *const start = call->scratch, *const slope = start + n;
    for (int64_t c = 0; c < n; c++) {
        start[c] = dmean[c] * share;
        slope[c] = (real)2 * dvariance[c] * share;
    }
    const FN(lines) lines = {FN(rows_from)(y, call->at.y[0], MEAN).at, NULL, start, slope, NULL};
    return lines;
}

static void FN(backward)(const fbp_node *node, const fbp_call *call) {
    if (call->at.dx[X] == NULL) return;
    FN(fill_lines)(node, fbp_rows_of(&node->in[X], call->at.samples), call->at.x[X], NULL,
                   FN(lines_of)(node, call, call->at.dy[0]), call->at.dx[X]);
}

/* ---- tangents ---- */

/* tmean = mean(tx), tvariance = 2 mean((x - mean) tx), by blocks as well. */
static void FN(tangent)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    int64_t n = fbp_width(x), rows = fbp_rows_of(x, call->at.samples);
    double *const one = call->scratch, *const along = one + n, *const block = one + 2 * n;
    real *const ones = (real *)(one + n_sums * n);
    FN(fill)(n, (real)1, ones);
    const FN(statistics) s = {FN(rows_from)(y, call->at.y[0], MEAN).at, ones, NULL, NULL};
    memset(one, 0, (size_t)(2 * n) * sizeof(double));
    for (int64_t first = 0; first < rows; first += BLOCK_ROWS) {
        int64_t more = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS;
        memset(block, 0, (size_t)(2 * n) * sizeof(double));
        FN(add_along)(more, n, FN(rows_from)(x, call->at.tx[X], first),
                      FN(rows_from)(x, call->at.x[X], first), s, block, block + n);
        for (int64_t c = 0; c < 2 * n; c++) one[c] += block[c];
    }
    for (int64_t c = 0; c < n; c++) {
        FN(row_to)(y, call->at.ty[0], MEAN)[c] = (real)(one[c] / (double)rows);
        FN(row_to)(y, call->at.ty[0], VARIANCE)[c] = (real)(2.0 * along[c] / (double)rows);
    }
}

/* tdx = (tdmean + 2 tdvariance (x - mean) + 2 dvariance (tx - tmean)) / rows. */
static void FN(backward_tangent)(const fbp_node *node, const fbp_call *call) {
    int64_t n = fbp_width(&node->in[X]);
    fbp_call other = *call;
    other.scratch = (real *)call->scratch + 2 * n;
    FN(lines) lines = FN(lines_of)(node, call, call->at.tdy[0]);
    lines.tslope = FN(lines_of)(node, &other, call->at.dy[0]).slope;
    lines.tmean = FN(rows_from)(&node->out[0], call->at.ty[0], MEAN).at;
    FN(fill_lines)(node, fbp_rows_of(&node->in[X], call->at.samples), call->at.x[X], call->at.tx[X],
                   lines, call->at.tdx[X]);
}

/* ---- running moments ---- */

/* Of one row there is no unbiased variance, and nothing is learnt. */
static void FN(follow)(const fbp_node *node, int64_t samples, double momentum, const void *y,
                       void *p_) {
    const fbp_operand *is = &node->out[0];
    int64_t n = fbp_width(is), rows = fbp_rows_of(&node->in[X], samples);
    real *const p = p_;
    for (int64_t c = 0; c < n && rows > 1; c++) {
        const double mean = (double)FN(rows_from)(is, y, MEAN).at[c];
        const double variance = (double)FN(rows_from)(is, y, VARIANCE).at[c];
        p[c] = (real)fbp_follow((double)p[c], mean, momentum);
        p[n + c] =
            (real)fbp_follow((double)p[n + c], fbp_unbiased(variance, (double)rows), momentum);
    }
}

static const fbp_node_kernels FN(moments) = {.forward = FN(forward),
                                             .backward = FN(backward),
                                             .tangent = FN(tangent),
                                             .backward_tangent = FN(backward_tangent),
                                             .scratch_bytes = scratch_bytes,
                                             .blocks = blocks,
                                             .partial_bytes = partial_bytes,
                                             .partial = FN(partial),
                                             .join = FN(join),
                                             .follow = FN(follow)};

#endif
