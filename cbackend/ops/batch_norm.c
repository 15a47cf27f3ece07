/* Batch normalisation (Ioffe and Szegedy, 2015) with the moments given: those of a batch, which
 * moments.c forms and which have gradients, or running ones. The loops over rows are in channels.h.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include <string.h>

#include "ops/channels.h"
#include "ops/norms.h"

enum { EPSILON };
enum { X, MOMENTS, GAIN, BIAS };
enum { MEAN, VARIANCE };          /* rows of moments */
enum { n_sums = 4, n_reals = 4 }; /* in scratch, for each channel */

#define FBP_TEMPLATE "math/norms.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/channels.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/batch_norm.c"
#include "math/expand.h"

static const char *const inputs[] = {"x", "moments", "gain", "bias"};

static fbp_status infer_normalize(fbp_node *node) {
    const fbp_shape *x = &node->in[X].is, *m = &node->in[MOMENTS].is;
    int64_t channels = fbp_width(&node->in[X]);
    fbp_status status = fbp_infer_affine(node, GAIN);
    if (status != FBP_OK) return status;
    if (m->ndim != 2 || m->batched || m->shape[0] != 2 || m->shape[1] != channels)
        return fbp_fail(FBP_INVALID,
                        "normalize: found moments of shape %s, wanted (2, %lld), a row of means "
                        "and one of variances, as x is %s",
                        fbp_shape_words(m), (long long)channels, fbp_shape_words(x));
    fbp_like_first(node);
    node->reads_in = 1u << X | 1u << MOMENTS | (node->n_in > GAIN ? 1u << GAIN : 0u);
    node->in_place = 1;
    node->flops[0] = 4.0 * (double)fbp_elements(&node->in[X]);
    node->flops[1] = 8.0 * (double)fbp_elements(&node->in[X]);
    return FBP_OK;
}

static const fbp_row rows[] = {
    {.name = "normalize",
     .doc = "(x - mean) / sqrt(variance + epsilon) * gain + bias, for each channel, the last axis, "
            "with moments (2, channels) given",
     .kind = FBP_OP,
     .n_attrs = 1,
     .attrs = {FBP_EPSILON_ATTR(1e-5)},
     .reads = FBP_READS_INPUT,
     .op = {2, 4, inputs, FBP_AXIS_DATA, .data = 1u << X},
     .infer = infer_normalize,
     .node = {&normalize_f32, &normalize_f64}},
};

extern const fbp_family FBP_FAMILY(batch_norm);
const fbp_family FBP_FAMILY(batch_norm) = {rows, sizeof rows / sizeof rows[0]};

#else

/* ---- normalize ---- */

/* What the channels have, with scale = 1 / sqrt(variance + epsilon) and its tangent, and ones and
 * zeros for parameters that are not given; sums are those of channels.h. */
typedef struct {
    int64_t rows, channels;
    double *one, *along, *tone, *talong;
    FN(affine) affine;
    FN(statistics) statistics;
} FN(work);

static size_t FN(scratch_bytes)(const fbp_node *node, int64_t samples) {
    (void)samples;
    return (size_t)fbp_width(&node->in[X]) * (n_sums * sizeof(double) + n_reals * sizeof(real));
}

static FN(work) FN(work_of)(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[X], *moments = &node->in[MOMENTS];
    int64_t n = fbp_width(x);
    double *const sums = call->scratch;
    real *const scale = (real *)(sums + n_sums * n);
    real *const tscale = scale + n, *const ones = scale + 2 * n, *const zeros = scale + 3 * n;
    const real *const variance = FN(rows_from)(moments, call->at.x[MOMENTS], VARIANCE).at;
    const real epsilon = (real)fbp_number(node, EPSILON, 0);
    for (int64_t c = 0; c < n; c++) {
        scale[c] = (real)1 / FBP_SQRT(variance[c] + epsilon);
        ones[c] = (real)1;
        zeros[c] = (real)0;
    }
    FN(affine) affine = {ones, zeros, zeros, zeros};
    if (node->n_in > GAIN) affine.gain = call->at.x[GAIN], affine.tgain = call->at.tx[GAIN];
    if (node->n_in > BIAS) affine.bias = call->at.x[BIAS], affine.tbias = call->at.tx[BIAS];
    const FN(work) w = {
        .rows = fbp_rows_of(x, call->at.samples),
        .channels = n,
        .one = sums,
        .along = sums + n,
        .tone = sums + 2 * n,
        .talong = sums + 3 * n,
        .affine = affine,
        .statistics = {FN(rows_from)(moments, call->at.x[MOMENTS], MEAN).at, scale, NULL, tscale}};
    return w;
}

/* With tangents: that of scale is -scale^3 / 2 that of the variance. */
static FN(work) FN(work_along)(const fbp_node *node, const fbp_call *call) {
    FN(work) w = FN(work_of)(node, call);
    const fbp_operand *moments = &node->in[MOMENTS];
    const real *const tvariance = FN(rows_from)(moments, call->at.tx[MOMENTS], VARIANCE).at;
    const real *const scale = w.statistics.scale;
    real *const tscale = (real *)(w.one + n_sums * w.channels) + w.channels;
    for (int64_t c = 0; c < w.channels; c++)
        tscale[c] = (real)-0.5 * scale[c] * scale[c] * scale[c] * tvariance[c];
    w.statistics.tmean = FN(rows_from)(moments, call->at.tx[MOMENTS], MEAN).at;
    return w;
}

static void FN(normalize_forward)(const fbp_node *node, const fbp_call *call) {
    const FN(work) w = FN(work_of)(node, call);
    FN(normalize_rows)(w.rows, w.channels, FN(rows_from)(&node->in[X], call->at.x[X], 0),
                       w.statistics, w.affine, call->at.y[0], node->out[0].row_stride);
}

/* dx = dy gain scale, dgain = sum of dy hat, dbias = sum of dy,
 * dmean = -gain scale sum of dy, dvariance = -gain scale^2 / 2 sum of dy hat. */

static void FN(backward_shared)(const fbp_node *node, const fbp_call *call, int input,
                                int64_t begin, int64_t end, int add, void *g_) {
    const FN(work) w = FN(work_of)(node, call);
    real *const g = g_;
    (void)begin, (void)end; /* all rows there are */
    const FN(rows) dys = FN(rows_from)(&node->out[0], call->at.dy[0], 0);
    memset(w.one, 0, (size_t)(2 * w.channels) * sizeof(double));
    if (input == BIAS)
        FN(add_values)(w.rows, w.channels, dys, w.one);
    else
        FN(add_along)(w.rows, w.channels, dys, FN(rows_from)(&node->in[X], call->at.x[X], 0),
                      w.statistics, w.one, w.along);
    int64_t n = input == MOMENTS ? 2 * w.channels : w.channels;
    for (int64_t c = 0; c < n && !add; c++) g[c] = (real)0;
    for (int64_t c = 0; c < w.channels; c++) {
        const double scale = (double)w.statistics.scale[c];
        const double slope = (double)w.affine.gain[c] * scale;
        if (input == MOMENTS) {
            g[c] += (real)(-slope * w.one[c]);
            g[w.channels + c] += (real)(-0.5 * slope * scale * w.along[c]);
        } else
            g[c] += (real)(input == GAIN ? w.along[c] : w.one[c]);
    }
}

static void FN(normalize_backward)(const fbp_node *node, const fbp_call *call) {
    const FN(work) w = FN(work_of)(node, call);
    const real *const gain = w.affine.gain, *const scale = w.statistics.scale;
    int64_t rows = call->at.dx[X] != NULL ? w.rows : 0;
    for (int64_t r = 0; r < rows; r++) {
        const real *const dys = FN(rows_from)(&node->out[0], call->at.dy[0], r).at;
        real *const dxs = FN(row_to)(&node->in[X], call->at.dx[X], r);
        FBP_INDEPENDENT
        for (int64_t c = 0; c < w.channels; c++) dxs[c] = dys[c] * (gain[c] * scale[c]);
    }
    for (int i = MOMENTS; i < node->n_in; i++) /* of a node without samples */
        if (call->at.dx[i] != NULL && !(node->shared & 1u << i))
            FN(backward_shared)(node, call, i, 0, 1, 0, call->at.dx[i]);
}

static void FN(normalize_tangent)(const fbp_node *node, const fbp_call *call) {
    const FN(work) w = FN(work_along)(node, call);
    FN(normalize_rows_tangent)(w.rows, w.channels, FN(rows_from)(&node->in[X], call->at.x[X], 0),
                               FN(rows_from)(&node->in[X], call->at.tx[X], 0), w.statistics,
                               w.affine, call->at.ty[0], node->out[0].row_stride);
}

static void FN(shared_tangent)(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                               int64_t end, int add, void *tg_) {
    const fbp_operand *x = &node->in[X], *y = &node->out[0];
    const FN(work) w = FN(work_along)(node, call);
    const FN(rows) xs = FN(rows_from)(x, call->at.x[X], 0);
    const FN(rows) dys = FN(rows_from)(y, call->at.dy[0], 0);
    real *const tg = tg_;
    (void)begin, (void)end;
    memset(w.one, 0, (size_t)(n_sums * w.channels) * sizeof(double));
    FN(add_along)(w.rows, w.channels, dys, xs, w.statistics, w.one, w.along);
    FN(add_along_tangent)(w.rows, w.channels, dys, FN(rows_from)(y, call->at.tdy[0], 0), xs,
                          FN(rows_from)(x, call->at.tx[X], 0), w.statistics, w.tone, w.talong);
    int64_t n = input == MOMENTS ? 2 * w.channels : w.channels;
    for (int64_t c = 0; c < n && !add; c++) tg[c] = (real)0;
    for (int64_t c = 0; c < w.channels; c++) {
        const double gain = (double)w.affine.gain[c], tgain = (double)w.affine.tgain[c];
        const double scale = (double)w.statistics.scale[c];
        const double tscale = (double)w.statistics.tscale[c];
        const double slope = gain * scale, tslope = tgain * scale + gain * tscale;
        if (input == MOMENTS) {
            tg[c] -= (real)(tslope * w.one[c] + slope * w.tone[c]);
            tg[w.channels + c] -= (real)(0.5 * (tslope * scale + slope * tscale) * w.along[c] +
                                         0.5 * slope * scale * w.talong[c]);
        } else
            tg[c] += (real)(input == GAIN ? w.talong[c] : w.tone[c]);
    }
}

static void FN(normalize_backward_tangent)(const fbp_node *node, const fbp_call *call) {
    const FN(work) w = FN(work_along)(node, call);
    const real *const gain = w.affine.gain, *const tgain = w.affine.tgain;
    const real *const scale = w.statistics.scale, *const tscale = w.statistics.tscale;
    int64_t rows = call->at.tdx[X] != NULL ? w.rows : 0;
    for (int64_t r = 0; r < rows; r++) {
        const real *const dys = FN(rows_from)(&node->out[0], call->at.dy[0], r).at;
        const real *const tdys = FN(rows_from)(&node->out[0], call->at.tdy[0], r).at;
        real *const tdxs = FN(row_to)(&node->in[X], call->at.tdx[X], r);
        FBP_INDEPENDENT
        for (int64_t c = 0; c < w.channels; c++)
            tdxs[c] = tdys[c] * (gain[c] * scale[c]) +
                      dys[c] * (tgain[c] * scale[c] + gain[c] * tscale[c]);
    }
    for (int i = MOMENTS; i < node->n_in; i++)
        if (call->at.tdx[i] != NULL && !(node->shared & 1u << i))
            FN(shared_tangent)(node, call, i, 0, 1, 0, call->at.tdx[i]);
}

static const fbp_node_kernels FN(normalize) = {.forward = FN(normalize_forward),
                                               .backward = FN(normalize_backward),
                                               .backward_shared = FN(backward_shared),
                                               .tangent = FN(normalize_tangent),
                                               .backward_tangent = FN(normalize_backward_tangent),
                                               .shared_tangent = FN(shared_tangent),
                                               .scratch_bytes = FN(scratch_bytes)};

#endif
