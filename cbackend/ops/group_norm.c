/* Group normalisation, channels last: the channels of a group of a sample, over all of its
 * positions, are normalised together (Wu and He, 2018). One group is layer normalisation over
 * positions as well, a group for each channel is instance normalisation.
 *
 * Kept for backward are the mean and 1 / std of each group of each sample. A group's sum is that of
 * its channels' sums, in order. The loops over rows are in channels.h.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include <string.h>

#include "ops/channels.h"
#include "ops/lanes.h"
#include "ops/norms.h"

enum { GROUPS, EPSILON }; /* attributes */
enum { X, GAIN, BIAS };   /* inputs */
enum { MEAN, SCALE };     /* columns of what is kept */
enum { n_sums = 4, n_reals = 10 };

#define FBP_TEMPLATE "math/norms.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/channels.h"
#include "math/expand.h"

/* The sum over a group's channels: one chain for a few, FBP_LANES for more. */
static double sum_of(int64_t n, const double *x) {
    double sum = 0.0, lanes[FBP_LANES] = {0};
    if (n < FBP_LANES) {
        for (int64_t c = 0; c < n; c++) sum += x[c];
        return sum;
    }
    int64_t c = 0;
    for (; c + FBP_LANES <= n; c += FBP_LANES) {
        FBP_LANEWISE
        for (int j = 0; j < FBP_LANES; j++) lanes[j] += x[c + j];
    }
    for (int j = 0; c + j < n; j++) lanes[j] += x[c + j];
    return fbp_fold(lanes);
}

#define FBP_TEMPLATE "ops/group_norm.c"
#include "math/expand.h"

static const char *const inputs[] = {"x", "gain", "bias"};

static fbp_status infer(fbp_node *node) {
    int64_t groups = fbp_whole(node, GROUPS, 0);
    fbp_status status = fbp_infer_affine(node, GAIN);
    if (status != FBP_OK) return status;
    if (fbp_width(&node->in[X]) % groups != 0)
        return fbp_fail(FBP_INVALID,
                        "group_norm: found x of shape %s and %lld groups, wanted channels, the "
                        "last axis, that are a multiple of the groups",
                        fbp_shape_words(&node->in[X].is), (long long)groups);
    fbp_like_first(node);
    node->n_kept = 1;
    node->out[1].is = (fbp_shape){.ndim = 2, .shape = {groups, 2}};
    node->reads_in = 1u << X | (node->n_in > GAIN ? 1u << GAIN : 0u);
    node->reads_out = 2u;
    node->in_place = 1;
    node->flops[0] = 8.0 * (double)fbp_elements(&node->in[X]);
    node->flops[1] = 15.0 * (double)fbp_elements(&node->in[X]);
    return FBP_OK;
}

static const fbp_row rows[] = {
    {.name = "group_norm",
     .doc = "(x - mean) / sqrt(variance + epsilon) * gain + bias, over a sample's positions and a "
            "group of its channels, the last axis (Wu and He, 2018)",
     .kind = FBP_OP,
     .n_attrs = 2,
     .attrs = {{.name = "groups",
                .fallback = NAN,
                .low = 1,
                .high = 0x1p31,
                .doc = "of channels, all of the same size",
                .whole = 1},
               FBP_EPSILON_ATTR(1e-5)},
     .reads = FBP_READS_INPUT,
     .op = {1, 3, inputs, FBP_AXIS_DATA, .data = 1u << X},
     .infer = infer,
     .node = {&kernels_f32, &kernels_f64}},
};

extern const fbp_family FBP_FAMILY(group_norm);
const fbp_family FBP_FAMILY(group_norm) = {rows, sizeof rows / sizeof rows[0]};

#else

/* ---- scratch: for each channel sums, statistics and what stands for parameters not given ---- */

typedef struct {
    int64_t samples, positions, channels, groups, each; /* each: channels of a group */
    double count;                                       /* elements of a group of a sample */
    double *one, *along, *tone, *talong;
    real *mean, *scale, *tmean, *tscale;
    real *mean_one, *mean_along, *tmean_one, *tmean_along;
    FN(affine) affine;
    FN(statistics) statistics;
} FN(work);

static size_t FN(scratch_bytes)(const fbp_node *node, int64_t samples) {
    (void)samples;
    return (size_t)fbp_width(&node->in[X]) * (n_sums * sizeof(double) + n_reals * sizeof(real));
}

static FN(work) FN(work_of)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X];
    int64_t n = fbp_width(x), groups = fbp_whole(node, GROUPS, 0);
    double *const sums = call->scratch;
    real *const reals = (real *)(sums + n_sums * n), *const ones = reals + 8 * n, *zeros = ones + n;
    FN(fill)(n, (real)1, ones);
    FN(fill)(n, (real)0, zeros);
    FN(affine) affine = {ones, zeros, zeros, zeros};
    if (node->n_in > GAIN) affine.gain = call->at.x[GAIN], affine.tgain = call->at.tx[GAIN];
    if (node->n_in > BIAS) affine.bias = call->at.x[BIAS], affine.tbias = call->at.tx[BIAS];
    const FN(work) w = {.samples = x->is.batched ? call->at.samples : 1,
                        .positions = fbp_positions(x),
                        .channels = n,
                        .groups = groups,
                        .each = n / groups,
                        .count = (double)(fbp_positions(x) * (n / groups)),
                        .one = sums,
                        .along = sums + n,
                        .tone = sums + 2 * n,
                        .talong = sums + 3 * n,
                        .mean = reals,
                        .scale = reals + n,
                        .tmean = reals + 2 * n,
                        .tscale = reals + 3 * n,
                        .mean_one = reals + 4 * n,
                        .mean_along = reals + 5 * n,
                        .tmean_one = reals + 6 * n,
                        .tmean_along = reals + 7 * n,
                        .affine = affine,
                        .statistics = {reals, reals + n, reals + 2 * n, reals + 3 * n}};
    return w;
}

static void FN(clear)(const FN(work) * w, double *sums) {
    memset(sums, 0, (size_t)w->channels * sizeof(double));
}

/* means = those of the groups, of which sums hold each channel's part; in each channel. */
static void FN(group_means)(const FN(work) * w, const double *sums, real *means) {
    for (int64_t c = 0; c < w->channels; c += w->each)
        FN(fill)(w->each, (real)(sum_of(w->each, sums + c) / w->count), means + c);
}

/* The statistics of a sample's groups to and from what is kept, and from groups to channels. */
static void FN(keep)(const FN(work) * w, const fbp_operand *kept, const real *mean,
                     const real *scale, void *to, int64_t sample) {
    if (to == NULL) return;
    for (int64_t g = 0; g < w->groups; g++) {
        real *const row = FN(row_to)(kept, to, sample * w->groups + g);
        row[MEAN] = mean[g * w->each];
        row[SCALE] = scale[g * w->each];
    }
}

static void FN(recall)(const FN(work) * w, const fbp_operand *kept, const void *from,
                       int64_t sample, real *mean, real *scale) {
    for (int64_t g = 0; g < w->groups; g++) {
        const real *const row = FN(rows_from)(kept, from, sample * w->groups + g).at;
        FN(fill)(w->each, row[MEAN], mean + g * w->each);
        FN(fill)(w->each, row[SCALE], scale + g * w->each);
    }
}

/* ---- forward ---- */

/* The sample's mean, and 1 / std of the deviations from it. */
static void FN(measure)(const FN(work) * w, FN(rows) x, double epsilon) {
    FN(clear)(w, w->one);
    FN(add_values)(w->positions, w->channels, x, w->one);
    FN(group_means)(w, w->one, w->mean);
    FN(clear)(w, w->along);
    for (int64_t p = 0; p < w->positions; p++) {
        const real *const xs = x.at + p * x.stride, *const mean = w->mean;
        double *const FBP_RESTRICT squares = w->along;
        for (int64_t c = 0; c < w->channels; c++) {
            const double d = (double)(xs[c] - mean[c]);
            squares[c] += d * d;
        }
    }
    for (int64_t c = 0; c < w->channels; c += w->each) {
        const double variance = sum_of(w->each, w->along + c) / w->count;
        FN(fill)(w->each, (real)fbp_norm_scale(variance, epsilon), w->scale + c);
    }
}

static void FN(forward)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    const FN(work) w = FN(work_of)(node, call);
    for (int64_t s = 0; s < w.samples; s++) {
        const FN(rows) xs = FN(rows_from)(x, call->at.x[X], s * w.positions);
        FN(measure)(&w, xs, fbp_number(node, EPSILON, 0));
        FN(keep)(&w, &node->out[1], w.mean, w.scale, call->at.y[1], s);
        FN(normalize_rows)(w.positions, w.channels, xs, w.statistics, w.affine,
                           FN(row_to)(y, call->at.y[0], s * w.positions), y->row_stride);
    }
}

/* ---- backward: dgain = sum of dy hat, dbias = sum of dy, dx as in math/norms.h with
 * dhat = dy gain ---- */

/* means = those over groups of what is gain times sums in each channel. */
static void FN(weighted_means)(const FN(work) * w, double *sums, real *means) {
    for (int64_t c = 0; c < w->channels; c++) sums[c] *= (double)w->affine.gain[c];
    FN(group_means)(w, sums, means);
}

static void FN(sample_slopes)(const FN(work) * w, FN(rows) x, FN(rows) dy, real *dx,
                              int64_t stride) {
    const real *const gain = w->affine.gain, *const mean = w->mean, *const scale = w->scale;
    for (int64_t p = 0; p < w->positions; p++) {
        const real *const xs = x.at + p * x.stride, *const dys = dy.at + p * dy.stride;
        real *const dxs = dx + p * stride;
        FBP_INDEPENDENT
        for (int64_t c = 0; c < w->channels; c++) {
            const real hat = FN(norm_hat)(xs[c], mean[c], scale[c]);
            dxs[c] =
                scale[c] * FN(norm_slope)(dys[c] * gain[c], hat, w->mean_one[c], w->mean_along[c]);
        }
    }
}

static void FN(backward_shared)(const fbp_node *node, const fbp_call *call, int input,
                                int64_t begin, int64_t end, int add, void *g_) {
    const FN(work) w = FN(work_of)(node, call);
    real *const g = g_;
    (void)begin, (void)end; /* the one row there is */
    FN(clear)(&w, w.one);
    FN(clear)(&w, w.along);
    for (int64_t s = 0; s < w.samples; s++) {
        const FN(rows) dys = FN(rows_from)(&node->out[0], call->at.dy[0], s * w.positions);
        if (input == BIAS) {
            FN(add_values)(w.positions, w.channels, dys, w.one);
            continue;
        }
        FN(recall)(&w, &node->out[1], call->at.y[1], s, w.mean, w.scale);
        FN(add_along)(w.positions, w.channels, dys,
                      FN(rows_from)(&node->in[X], call->at.x[X], s * w.positions), w.statistics,
                      w.one, w.along);
    }
    for (int64_t c = 0; c < w.channels; c++)
        g[c] = (add ? g[c] : (real)0) + (real)(input == BIAS ? w.one[c] : w.along[c]);
}

static void FN(backward)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    const FN(work) w = FN(work_of)(node, call);
    for (int64_t s = 0; call->at.dx[X] != NULL && s < w.samples; s++) {
        const FN(rows) xs = FN(rows_from)(x, call->at.x[X], s * w.positions);
        const FN(rows) dys = FN(rows_from)(y, call->at.dy[0], s * w.positions);
        FN(recall)(&w, &node->out[1], call->at.y[1], s, w.mean, w.scale);
        FN(clear)(&w, w.one);
        FN(clear)(&w, w.along);
        FN(add_along)(w.positions, w.channels, dys, xs, w.statistics, w.one, w.along);
        FN(weighted_means)(&w, w.one, w.mean_one);
        FN(weighted_means)(&w, w.along, w.mean_along);
        FN(sample_slopes)(&w, xs, dys, FN(row_to)(x, call->at.dx[X], s * w.positions),
                          x->row_stride);
    }
    for (int i = GAIN; i < node->n_in; i++) /* of a node without samples */
        if (call->at.dx[i] != NULL && !(node->shared & 1u << i))
            FN(backward_shared)(node, call, i, 0, 1, 0, call->at.dx[i]);
}

/* ---- tangents: those of the mean and of scale are mean(tx) and -scale^2 mean(hat tx) ---- */

static void FN(tangent)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    const FN(work) w = FN(work_of)(node, call);
    for (int64_t s = 0; s < w.samples; s++) {
        const FN(rows) xs = FN(rows_from)(x, call->at.x[X], s * w.positions);
        const FN(rows) txs = FN(rows_from)(x, call->at.tx[X], s * w.positions);
        FN(recall)(&w, &node->out[1], call->at.y[1], s, w.mean, w.scale);
        FN(clear)(&w, w.one);
        FN(clear)(&w, w.along);
        FN(add_along)(w.positions, w.channels, txs, xs, w.statistics, w.one, w.along);
        FN(group_means)(&w, w.one, w.tmean);
        FN(group_means)(&w, w.along, w.mean_along);
        for (int64_t c = 0; c < w.channels; c++)
            w.tscale[c] = -w.scale[c] * w.scale[c] * w.mean_along[c];
        FN(keep)(&w, &node->out[1], w.tmean, w.tscale, call->at.ty[1], s);
        FN(normalize_rows_tangent)(w.positions, w.channels, xs, txs, w.statistics, w.affine,
                                   FN(row_to)(y, call->at.ty[0], s * w.positions), y->row_stride);
    }
}

/* All four sums of a sample, and the means over groups that its slopes and their tangents want. */
static void FN(sample_means)(const FN(work) * w, FN(rows) x, FN(rows) tx, FN(rows) dy,
                             FN(rows) tdy) {
    const real *const gain = w->affine.gain, *const tgain = w->affine.tgain;
    memset(w->one, 0, (size_t)(n_sums * w->channels) * sizeof(double));
    FN(add_along)(w->positions, w->channels, dy, x, w->statistics, w->one, w->along);
    FN(add_along_tangent)(w->positions, w->channels, dy, tdy, x, tx, w->statistics, w->tone,
                          w->talong);
    for (int64_t c = 0; c < w->channels; c++) {
        const double g = (double)gain[c], tg = (double)tgain[c];
        w->tone[c] = g * w->tone[c] + tg * w->one[c];
        w->talong[c] = g * w->talong[c] + tg * w->along[c];
    }
    FN(weighted_means)(w, w->one, w->mean_one);
    FN(weighted_means)(w, w->along, w->mean_along);
    FN(group_means)(w, w->tone, w->tmean_one);
    FN(group_means)(w, w->talong, w->tmean_along);
}

static void FN(sample_slopes_tangent)(const FN(work) * w, FN(rows) x, FN(rows) tx, FN(rows) dy,
                                      FN(rows) tdy, real *tdx, int64_t stride) {
    const real *const gain = w->affine.gain, *const tgain = w->affine.tgain;
    for (int64_t p = 0; p < w->positions; p++) {
        const real *const xs = x.at + p * x.stride, *const txs = tx.at + p * tx.stride;
        const real *const dys = dy.at + p * dy.stride, *const tdys = tdy.at + p * tdy.stride;
        real *const tdxs = tdx + p * stride;
        FBP_INDEPENDENT
        for (int64_t c = 0; c < w->channels; c++) {
            const real tdhat = FBP_FMA(tdys[c], gain[c], dys[c] * tgain[c]);
            const real hat = FN(norm_hat)(xs[c], w->mean[c], w->scale[c]);
            const real that = FN(norm_hat_tangent)(xs[c], txs[c], w->mean[c], w->tmean[c],
                                                   w->scale[c], w->tscale[c]);
            const real slope =
                FN(norm_slope)(dys[c] * gain[c], hat, w->mean_one[c], w->mean_along[c]);
            const real tslope = FN(norm_slope_tangent)(tdhat, hat, that, w->mean_along[c],
                                                       w->tmean_one[c], w->tmean_along[c]);
            tdxs[c] = FBP_FMA(w->tscale[c], slope, w->scale[c] * tslope);
        }
    }
}

static void FN(shared_tangent)(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                               int64_t end, int add, void *tg_) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    const FN(work) w = FN(work_of)(node, call);
    real *const tg = tg_;
    (void)begin, (void)end;
    FN(clear)(&w, w.tone);
    FN(clear)(&w, w.talong);
    for (int64_t s = 0; s < w.samples; s++) {
        FN(recall)(&w, &node->out[1], call->at.y[1], s, w.mean, w.scale);
        FN(recall)(&w, &node->out[1], call->at.ty[1], s, w.tmean, w.tscale);
        FN(add_along_tangent)(
            w.positions, w.channels, FN(rows_from)(y, call->at.dy[0], s * w.positions),
            FN(rows_from)(y, call->at.tdy[0], s * w.positions),
            FN(rows_from)(x, call->at.x[X], s * w.positions),
            FN(rows_from)(x, call->at.tx[X], s * w.positions), w.statistics, w.tone, w.talong);
    }
    for (int64_t c = 0; c < w.channels; c++)
        tg[c] = (add ? tg[c] : (real)0) + (real)(input == BIAS ? w.tone[c] : w.talong[c]);
}

static void FN(backward_tangent)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    const FN(work) w = FN(work_of)(node, call);
    for (int64_t s = 0; call->at.tdx[X] != NULL && s < w.samples; s++) {
        const FN(rows) xs = FN(rows_from)(x, call->at.x[X], s * w.positions);
        const FN(rows) txs = FN(rows_from)(x, call->at.tx[X], s * w.positions);
        const FN(rows) dys = FN(rows_from)(y, call->at.dy[0], s * w.positions);
        const FN(rows) tdys = FN(rows_from)(y, call->at.tdy[0], s * w.positions);
        FN(recall)(&w, &node->out[1], call->at.y[1], s, w.mean, w.scale);
        FN(recall)(&w, &node->out[1], call->at.ty[1], s, w.tmean, w.tscale);
        FN(sample_means)(&w, xs, txs, dys, tdys);
        FN(sample_slopes_tangent)(&w, xs, txs, dys, tdys,
                                  FN(row_to)(x, call->at.tdx[X], s * w.positions), x->row_stride);
    }
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
