/* Normalisation of each row by statistics of its own: layer_norm and rms_norm, which is the same
 * about 0 in place of the mean. Formulas of an element are in math/norms.h; what is normalised
 * channel by channel is in group_norm.c and batch_norm.c.
 *
 * Kept for backward are the mean and 1 / std of each row. Sums over a row are formed in FBP_LANES
 * chains of doubles; those of the squares are of deviations, in a second pass, so that no digits
 * cancel where the mean is large.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include "math/norms.h"
#include "ops/lanes.h"
#include "ops/norms.h"

enum { EPSILON };          /* attributes */
enum { X, GAIN, BIAS };    /* inputs */
enum { MEAN, SCALE };      /* columns of what is kept */
enum { CENTRED };          /* in geometry: whether the mean is taken off */
enum { CHUNK_SIZE = 256 }; /* columns of a shared gradient summed at once */

#define FBP_TEMPLATE "math/norms.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/norm.c"
#include "math/expand.h"

static const char *const inputs[] = {"x", "gain", "bias"};

static fbp_status infer(fbp_node *node, int centred) {
    const fbp_shape *x = &node->in[X].is;
    fbp_status status = fbp_infer_affine(node, GAIN);
    if (status != FBP_OK) return status;
    fbp_like_first(node);
    node->n_kept = 1;
    node->out[1].is = *x;
    node->out[1].is.shape[x->ndim - 1] = 2;
    node->geometry[CENTRED] = centred;
    node->reads_in = 1u << X | (node->n_in > GAIN ? 1u << GAIN : 0u);
    node->reads_out = 2u;
    node->in_place = 1;
    node->flops[0] = (centred ? 8.0 : 6.0) * (double)fbp_elements(&node->in[X]);
    node->flops[1] = 15.0 * (double)fbp_elements(&node->in[X]);
    return FBP_OK;
}

static fbp_status infer_layer(fbp_node *node) { return infer(node, 1); }
static fbp_status infer_rms(fbp_node *node) { return infer(node, 0); }

/* PyTorch takes the machine's epsilon of the dtype for rms_norm: then a float32 and a float64
 * network would be different functions, and a row of zeros would be scaled by 10^3 or 10^7. 1e-6 is
 * what published models with this norm use. */
static const fbp_row rows[] = {
    {.name = "layer_norm",
     .doc = "(x - mean) / sqrt(variance + epsilon) * gain + bias, over the last axis (Ba, Kiros "
            "and Hinton, 2016)",
     .kind = FBP_OP,
     .n_attrs = 1,
     .attrs = {FBP_EPSILON_ATTR(1e-5)},
     .reads = FBP_READS_INPUT,
     .op = {1, 3, inputs, FBP_AXIS_DATA, .data = 1u << X},
     .infer = infer_layer,
     .node = {&kernels_f32, &kernels_f64}},
    {.name = "rms_norm",
     .doc = "x / sqrt(mean square + epsilon) * gain, over the last axis (Zhang and Sennrich, 2019)",
     .kind = FBP_OP,
     .n_attrs = 1,
     .attrs = {FBP_EPSILON_ATTR(1e-6)},
     .reads = FBP_READS_INPUT,
     .op = {1, 2, inputs, FBP_AXIS_DATA, .data = 1u << X},
     .infer = infer_rms,
     .node = {&kernels_f32, &kernels_f64}},
};

extern const fbp_family FBP_FAMILY(norm);
const fbp_family FBP_FAMILY(norm) = {rows, sizeof rows / sizeof rows[0]};

#else

/* ---- operands ---- */

/* Ones and zeros in place of parameters, and of tangents of parameters, that are not given. */
typedef struct {
    const real *gain, *bias, *tgain, *tbias;
} FN(affine);

static size_t FN(scratch_bytes)(const fbp_node *node, int64_t samples) {
    (void)samples;
    return 2 * (size_t)fbp_width(&node->in[X]) * sizeof(real);
}

static FN(affine) FN(affine_of)(const fbp_node *node, const fbp_call *call) {
    int64_t width = fbp_width(&node->in[X]);
    real *ones = call->scratch, *zeros = ones + width;
    for (int64_t j = 0; j < width; j++) ones[j] = (real)1, zeros[j] = (real)0;
    FN(affine) a = {ones, zeros, zeros, zeros};
    if (node->n_in > GAIN) a.gain = call->at.x[GAIN], a.tgain = call->at.tx[GAIN];
    if (node->n_in > BIAS) a.bias = call->at.x[BIAS], a.tbias = call->at.tx[BIAS];
    return a;
}

static const real *FN(row_of)(const fbp_operand *x, const void *base, int64_t row) {
    return (const real *)base + row * x->row_stride;
}

static real *FN(row_to)(const fbp_operand *x, void *base, int64_t row) {
    return (real *)base + row * x->row_stride;
}

/* ---- sums over a row: what is past its end counts as 0, in vectors, where a shorter loop would be
 * scalar ---- */

FBP_INLINE void FN(add_values)(int live, const real *x, double *lanes) {
    FBP_LANEWISE
    for (int j = 0; j < FBP_LANES; j++) lanes[j] += j < live ? (double)x[j] : 0.0;
}

FBP_INLINE void FN(add_squares)(int live, const real *x, real mean, double *lanes) {
    FBP_LANEWISE
    for (int j = 0; j < FBP_LANES; j++) {
        const double d = j < live ? (double)(x[j] - mean) : 0.0;
        lanes[j] += d * d;
    }
}

static double FN(mean_value)(int64_t n, const real *x) {
    double lanes[FBP_LANES] = {0};
    int64_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES) FN(add_values)(FBP_LANES, x + i, lanes);
    if (i < n) FN(add_values)((int)(n - i), x + i, lanes);
    return fbp_fold(lanes) / (double)n;
}

static double FN(mean_square)(int64_t n, const real *x, real mean) {
    double lanes[FBP_LANES] = {0};
    int64_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES) FN(add_squares)(FBP_LANES, x + i, mean, lanes);
    if (i < n) FN(add_squares)((int)(n - i), x + i, mean, lanes);
    return fbp_fold(lanes) / (double)n;
}

/* The means over a row of u = w gain and of u hat, and of their tangents. */
typedef struct {
    double one[FBP_LANES], hat[FBP_LANES];
} FN(lane_sums);

typedef struct {
    real one, hat;
} FN(means);

FBP_INLINE void FN(add_along)(int live, const real *w, const real *gain, const real *x, real mean,
                              real scale, FN(lane_sums) * sums) {
    FBP_LANEWISE
    for (int j = 0; j < FBP_LANES; j++) {
        const real u = j < live ? w[j] * gain[j] : (real)0;
        const real hat = j < live ? FN(norm_hat)(x[j], mean, scale) : (real)0;
        sums->one[j] += (double)u;
        sums->hat[j] += (double)u * (double)hat;
    }
}

static FN(means) FN(means_of)(int64_t n, int centred, FN(lane_sums) * sums) {
    const FN(means) means = {centred ? (real)(fbp_fold(sums->one) / (double)n) : (real)0,
                             (real)(fbp_fold(sums->hat) / (double)n)};
    return means;
}

static FN(means) FN(along)(int64_t n, int centred, const real *w, const real *gain, const real *x,
                           real mean, real scale) {
    FN(lane_sums) sums = {{0}, {0}};
    int64_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES)
        FN(add_along)(FBP_LANES, w + i, gain + i, x + i, mean, scale, &sums);
    if (i < n) FN(add_along)((int)(n - i), w + i, gain + i, x + i, mean, scale, &sums);
    return FN(means_of)(n, centred, &sums);
}

/* ---- forward ---- */

static void FN(forward)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0], *kept = &node->out[1];
    const FN(affine) a = FN(affine_of)(node, call);
    const real *const gain = a.gain, *const bias = a.bias;
    int64_t n = fbp_width(x), rows = fbp_rows_of(x, call->at.samples);
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = FN(row_of)(x, call->at.x[X], r);
        real *const ys = FN(row_to)(y, call->at.y[0], r);
        const real mean = node->geometry[CENTRED] ? (real)FN(mean_value)(n, xs) : (real)0;
        const double square = FN(mean_square)(n, xs, mean);
        const real scale = (real)fbp_norm_scale(square, fbp_number(node, EPSILON, 0));
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++)
            ys[j] = FN(norm_affine)(FN(norm_hat)(xs[j], mean, scale), gain[j], bias[j]);
        if (call->at.y[1] == NULL) continue;
        real *const stats = FN(row_to)(kept, call->at.y[1], r);
        stats[MEAN] = mean;
        stats[SCALE] = scale;
    }
}

/* ---- backward: dgain = sum of dy hat, dbias = sum of dy, dx as in math/norms.h with
 * dhat = dy gain ---- */

static void FN(backward_shared)(const fbp_node *node, const fbp_call *call, int input,
                                int64_t begin, int64_t end, int add, void *g_) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0], *kept = &node->out[1];
    int64_t n = fbp_width(x), rows = fbp_rows_of(x, call->at.samples);
    real *const g = g_;
    (void)begin, (void)end; /* the one row there is */
    for (int64_t first = 0; first < n; first += CHUNK_SIZE) {
        int64_t m = n - first < CHUNK_SIZE ? n - first : CHUNK_SIZE;
        double sums[CHUNK_SIZE] = {0};
        for (int64_t r = 0; r < rows; r++) {
            const real *const xs = FN(row_of)(x, call->at.x[X], r) + first;
            const real *const dys = FN(row_of)(y, call->at.dy[0], r) + first;
            const real *const stats = FN(row_of)(kept, call->at.y[1], r);
            const real mean = stats[MEAN], scale = stats[SCALE];
            if (input == BIAS)
                for (int64_t j = 0; j < m; j++) sums[j] += (double)dys[j];
            else
                for (int64_t j = 0; j < m; j++)
                    sums[j] += (double)dys[j] * (double)FN(norm_hat)(xs[j], mean, scale);
        }
        for (int64_t j = 0; j < m; j++)
            g[first + j] = (add ? g[first + j] : (real)0) + (real)sums[j];
    }
}

static void FN(backward)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0], *kept = &node->out[1];
    const real *const gain = FN(affine_of)(node, call).gain;
    int64_t n = fbp_width(x), rows = call->at.dx[X] ? fbp_rows_of(x, call->at.samples) : 0;
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = FN(row_of)(x, call->at.x[X], r);
        const real *const dys = FN(row_of)(y, call->at.dy[0], r);
        real *const dxs = FN(row_to)(x, call->at.dx[X], r);
        const real *const stats = FN(row_of)(kept, call->at.y[1], r);
        const real mean = stats[MEAN], scale = stats[SCALE];
        const FN(means) along =
            FN(along)(n, (int)node->geometry[CENTRED], dys, gain, xs, mean, scale);
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const real hat = FN(norm_hat)(xs[j], mean, scale);
            dxs[j] = scale * FN(norm_slope)(dys[j] * gain[j], hat, along.one, along.hat);
        }
    }
    for (int i = GAIN; i < node->n_in; i++) /* of a node without samples */
        if (call->at.dx[i] != NULL && !(node->shared & 1u << i))
            FN(backward_shared)(node, call, i, 0, 1, 0, call->at.dx[i]);
}

/* ---- tangents: those of the mean and of scale are mean(tx) and -scale^2 mean(hat tx) ---- */

static void FN(tangent)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0], *kept = &node->out[1];
    const FN(affine) a = FN(affine_of)(node, call);
    const real *const gain = a.gain, *const tgain = a.tgain, *const tbias = a.tbias;
    int64_t n = fbp_width(x), rows = fbp_rows_of(x, call->at.samples);
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = FN(row_of)(x, call->at.x[X], r);
        const real *const txs = FN(row_of)(x, call->at.tx[X], r);
        real *const tys = FN(row_to)(y, call->at.ty[0], r);
        const real *const stats = FN(row_of)(kept, call->at.y[1], r);
        const real mean = stats[MEAN], scale = stats[SCALE];
        const FN(means) along =
            FN(along)(n, (int)node->geometry[CENTRED], txs, call->scratch, xs, mean, scale);
        const real tmean = along.one, tscale = -scale * scale * along.hat;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const real hat = FN(norm_hat)(xs[j], mean, scale);
            const real that = FN(norm_hat_tangent)(xs[j], txs[j], mean, tmean, scale, tscale);
            tys[j] = FN(norm_affine_tangent)(hat, that, gain[j], tgain[j], tbias[j]);
        }
        if (call->at.ty[1] == NULL) continue;
        real *const tstats = FN(row_to)(kept, call->at.ty[1], r);
        tstats[MEAN] = tmean;
        tstats[SCALE] = tscale;
    }
}

/* What backward is made of, with tangents, at an element. */
typedef struct {
    real dhat, tdhat, hat, that;
} FN(element);

typedef struct {
    const real *x, *tx, *dy, *tdy;
    real mean, scale, tmean, tscale;
} FN(row_along);

static FN(row_along) FN(row_along_of)(const fbp_node *node, const fbp_call *call, int64_t r) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0], *kept = &node->out[1];
    const real *const stats = FN(row_of)(kept, call->at.y[1], r);
    const real *const tstats = FN(row_of)(kept, call->at.ty[1], r);
    const FN(row_along) row = {FN(row_of)(x, call->at.x[X], r),
                               FN(row_of)(x, call->at.tx[X], r),
                               FN(row_of)(y, call->at.dy[0], r),
                               FN(row_of)(y, call->at.tdy[0], r),
                               stats[MEAN],
                               stats[SCALE],
                               tstats[MEAN],
                               tstats[SCALE]};
    return row;
}

FBP_INLINE FN(element) FN(element_of)(FN(row_along) row, int64_t j, real gain, real tgain) {
    const FN(element)
        e = {row.dy[j] * gain, FBP_FMA(row.tdy[j], gain, row.dy[j] * tgain),
             FN(norm_hat)(row.x[j], row.mean, row.scale),
             FN(norm_hat_tangent)(row.x[j], row.tx[j], row.mean, row.tmean, row.scale, row.tscale)};
    return e;
}

FBP_INLINE void FN(add_element)(FN(element) e, int lane, FN(lane_sums) * sums,
                                FN(lane_sums) * tsums) {
    sums->one[lane] += (double)e.dhat;
    sums->hat[lane] += (double)e.dhat * (double)e.hat;
    tsums->one[lane] += (double)e.tdhat;
    tsums->hat[lane] += (double)e.tdhat * (double)e.hat + (double)e.dhat * (double)e.that;
}

static void FN(backward_tangent_row)(int64_t n, int centred, FN(row_along) row, const real *gain,
                                     const real *tgain, real *tdx) {
    FN(lane_sums) sums = {{0}, {0}}, tsums = {{0}, {0}};
    for (int64_t j = 0; j < n; j++)
        FN(add_element)(FN(element_of)(row, j, gain[j], tgain[j]), (int)(j % FBP_LANES), &sums,
                        &tsums);
    const FN(means) along = FN(means_of)(n, centred, &sums),
                    talong = FN(means_of)(n, centred, &tsums);
    FBP_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const FN(element) e = FN(element_of)(row, j, gain[j], tgain[j]);
        const real slope = FN(norm_slope)(e.dhat, e.hat, along.one, along.hat);
        const real tslope =
            FN(norm_slope_tangent)(e.tdhat, e.hat, e.that, along.hat, talong.one, talong.hat);
        tdx[j] = FBP_FMA(row.tscale, slope, row.scale * tslope);
    }
}

static void FN(shared_tangent)(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                               int64_t end, int add, void *tg_) {
    int64_t n = fbp_width(&node->in[X]), rows = fbp_rows_of(&node->in[X], call->at.samples);
    real *const tg = tg_;
    (void)begin, (void)end;
    for (int64_t first = 0; first < n; first += CHUNK_SIZE) {
        int64_t m = n - first < CHUNK_SIZE ? n - first : CHUNK_SIZE;
        double sums[CHUNK_SIZE] = {0};
        for (int64_t r = 0; r < rows; r++) {
            const FN(row_along) row = FN(row_along_of)(node, call, r);
            for (int64_t j = 0; j < m; j++) {
                const FN(element) e = FN(element_of)(row, first + j, (real)1, (real)0);
                sums[j] += input == BIAS
                               ? (double)e.tdhat
                               : (double)e.tdhat * (double)e.hat + (double)e.dhat * (double)e.that;
            }
        }
        for (int64_t j = 0; j < m; j++)
            tg[first + j] = (add ? tg[first + j] : (real)0) + (real)sums[j];
    }
}

static void FN(backward_tangent)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X];
    const FN(affine) a = FN(affine_of)(node, call);
    int64_t rows = call->at.tdx[X] ? fbp_rows_of(x, call->at.samples) : 0;
    for (int64_t r = 0; r < rows; r++)
        FN(backward_tangent_row)(fbp_width(x), (int)node->geometry[CENTRED],
                                 FN(row_along_of)(node, call, r), a.gain, a.tgain,
                                 FN(row_to)(x, call->at.tdx[X], r));
    for (int i = GAIN; i < node->n_in; i++)
        if (call->at.tdx[i] != NULL && !(node->shared & 1u << i))
            FN(shared_tangent)(node, call, i, 0, 1, 0, call->at.tdx[i]);
}

static const fbp_node_kernels FN(kernels) = {.forward = FN(forward),
                                             .backward = FN(backward),
                                             .backward_shared = FN(backward_shared),
                                             .tangent = FN(tangent),
                                             .backward_tangent = FN(backward_tangent),
                                             .shared_tangent = FN(shared_tangent),
                                             .scratch_bytes = FN(scratch_bytes)};

#endif
