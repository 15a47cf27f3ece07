/* Loops over rows of channels, each channel with statistics of its own: what group_norm.c runs
 * within a sample and batch_norm.c over all of them. A template (expand.h); the formulas are in
 * math/norms.h.
 *
 * Sums over rows are one chain of doubles for each channel, in the order of the rows. */
#ifndef FBP_OPS_CHANNELS_H
#define FBP_OPS_CHANNELS_H

#include "core/node.h"
#include "math/norms.h"

#endif

#ifdef real

/* Rows of an operand. */
typedef struct {
    const real *at;
    int64_t stride;
} FN(rows);

static inline FN(rows) FN(rows_from)(const fbp_operand *x, const void *base, int64_t row) {
    const FN(rows) rows = {(const real *)base + row * x->row_stride, x->row_stride};
    return rows;
}

static inline real *FN(row_to)(const fbp_operand *x, void *base, int64_t row) {
    return (real *)base + row * x->row_stride;
}

/* Of each channel. Tangents are not read where there are none. */
typedef struct {
    const real *mean, *scale, *tmean, *tscale;
} FN(statistics);

typedef struct {
    const real *gain, *bias, *tgain, *tbias;
} FN(affine);

static inline void FN(fill)(int64_t n, real value, real *x) {
    for (int64_t c = 0; c < n; c++) x[c] = value;
}

/* one += the rows of x. */
static inline void FN(add_values)(int64_t rows, int64_t n, FN(rows) x, double *FBP_RESTRICT one) {
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = x.at + r * x.stride;
        for (int64_t c = 0; c < n; c++) one[c] += (double)xs[c];
    }
}

/* one += w and along += w hat. */
static inline void FN(add_along)(int64_t rows, int64_t n, FN(rows) w, FN(rows) x, FN(statistics) s,
                                 double *FBP_RESTRICT one, double *FBP_RESTRICT along) {
    for (int64_t r = 0; r < rows; r++) {
        const real *const ws = w.at + r * w.stride, *const xs = x.at + r * x.stride;
        for (int64_t c = 0; c < n; c++) {
            one[c] += (double)ws[c];
            along[c] += (double)ws[c] * (double)FN(norm_hat)(xs[c], s.mean[c], s.scale[c]);
        }
    }
}

/* Their tangents. */
static inline void FN(add_along_tangent)(int64_t rows, int64_t n, FN(rows) w, FN(rows) tw,
                                         FN(rows) x, FN(rows) tx, FN(statistics) s,
                                         double *FBP_RESTRICT tone, double *FBP_RESTRICT talong) {
    for (int64_t r = 0; r < rows; r++) {
        const real *const ws = w.at + r * w.stride, *const tws = tw.at + r * tw.stride;
        const real *const xs = x.at + r * x.stride, *const txs = tx.at + r * tx.stride;
        for (int64_t c = 0; c < n; c++) {
            const real hat = FN(norm_hat)(xs[c], s.mean[c], s.scale[c]);
            const real that =
                FN(norm_hat_tangent)(xs[c], txs[c], s.mean[c], s.tmean[c], s.scale[c], s.tscale[c]);
            tone[c] += (double)tws[c];
            talong[c] += (double)tws[c] * (double)hat + (double)ws[c] * (double)that;
        }
    }
}

/* y = hat gain + bias. */
static inline void FN(normalize_rows)(int64_t rows, int64_t n, FN(rows) x, FN(statistics) s,
                                      FN(affine) a, real *y, int64_t y_stride) {
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = x.at + r * x.stride;
        real *const ys = y + r * y_stride;
        FBP_INDEPENDENT
        for (int64_t c = 0; c < n; c++)
            ys[c] =
                FN(norm_affine)(FN(norm_hat)(xs[c], s.mean[c], s.scale[c]), a.gain[c], a.bias[c]);
    }
}

static inline void FN(normalize_rows_tangent)(int64_t rows, int64_t n, FN(rows) x, FN(rows) tx,
                                              FN(statistics) s, FN(affine) a, real *ty,
                                              int64_t ty_stride) {
    for (int64_t r = 0; r < rows; r++) {
        const real *const xs = x.at + r * x.stride, *const txs = tx.at + r * tx.stride;
        real *const tys = ty + r * ty_stride;
        FBP_INDEPENDENT
        for (int64_t c = 0; c < n; c++) {
            const real hat = FN(norm_hat)(xs[c], s.mean[c], s.scale[c]);
            const real that =
                FN(norm_hat_tangent)(xs[c], txs[c], s.mean[c], s.tmean[c], s.scale[c], s.tscale[c]);
            tys[c] = FN(norm_affine_tangent)(hat, that, a.gain[c], a.tgain[c], a.tbias[c]);
        }
    }
}

#endif
