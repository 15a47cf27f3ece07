/* Sums over vectors, the gathering of samples and the products of sparse rows: what the mechanism
 * does to arrays besides running rows. Sums are formed in FBP_LANES interleaved chains of doubles,
 * added up pairwise at the end: the same bits on every instruction set.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include "core/kernels.h"
#include "math/clipping.h"
#include "ops/lanes.h"

/* Samples to fetch ahead: from 2 to 16 gained the same few per cent of a step of 64-100-10. */
enum { AHEAD = 6 };

#define FBP_TEMPLATE "ops/vector.c"
#include "math/expand.h"

extern const fbp_kernel_pair FBP_FAMILY(vector);
const fbp_kernel_pair FBP_FAMILY(vector) = {{&kernels_f32, &kernels_f64}};

#else /* the template */

static void FN(add_scaled)(int64_t n, double factor, const void *x_, void *y_) {
    const real *x = x_, scale = (real)factor;
    real *y = y_;
    for (int64_t i = 0; i < n; i++) y[i] += scale * x[i];
}

static void FN(clip_norm)(int64_t n, double norm, double most, void *x_) {
    const real factor = (real)fbp_clip_factor(norm, most);
    real *x = x_;
    if (factor == (real)1) return;
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

static void FN(clip_value)(int64_t n, double most_, void *x_) {
    const real most = (real)most_;
    real *x = x_;
    for (int64_t i = 0; i < n; i++) x[i] = FBP_CLIP(x[i], most);
}

static void FN(multiply)(int64_t n, double factor_, void *x_) {
    const real factor = (real)factor_;
    real *x = x_;
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

static double FN(sum_squares)(int64_t n, const void *x_) {
    const real *x = x_;
    double lanes[FBP_LANES] = {0};
    int64_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES)
        for (int j = 0; j < FBP_LANES; j++) lanes[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < n; j++) lanes[j] += (double)x[i + j] * (double)x[i + j];
    return fbp_fold(lanes);
}

static double FN(weighted_sum)(int64_t n, const void *weight_, const void *x_) {
    const real *x = x_, *weight = weight_;
    double lanes[FBP_LANES] = {0};
    for (int64_t i = 0; i < n; i += FBP_LANES) {
        int end = n - i < FBP_LANES ? (int)(n - i) : FBP_LANES;
        for (int j = 0; j < end; j++)
            lanes[j] +=
                weight == NULL ? (double)x[i + j] : (double)weight[i + j] * (double)x[i + j];
    }
    return fbp_fold(lanes);
}

/* x - x is 0 for what is finite and NaN for what is not. */
static int64_t FN(first_not_finite)(int64_t n, const void *x_) {
    const real *x = x_;
    for (int64_t i = 0; i < n; i += FBP_LANES) {
        int64_t end = i + FBP_LANES < n ? i + FBP_LANES : n;
        for (int64_t j = i; j < end; j++)
            if (!(x[j] - x[j] == (real)0)) return j;
    }
    return -1;
}

/* Shuffled samples lie anywhere: their lines are asked for before they are needed. */
static void FN(fetch)(int64_t cols, const real *row) {
    for (int64_t j = 0; j < cols; j += 64 / (int64_t)sizeof(real)) FBP_PREFETCH(row + j);
}

static void FN(gather)(int64_t rows, int64_t cols, const void *x_, int64_t row_stride,
                       int64_t col_stride, const uint32_t *index, void *out_, int64_t ld) {
    const real *x = x_;
    real *out = out_;
    for (int64_t r = 0; r < rows; r++) {
        const real *from = x + (index == NULL ? r : (int64_t)index[r]) * row_stride;
        if (index != NULL && col_stride == 1 && r + AHEAD < rows)
            FN(fetch)(cols, x + (int64_t)index[r + AHEAD] * row_stride);
        real *to = out + r * ld;
        if (col_stride == 1)
            for (int64_t j = 0; j < cols; j++) to[j] = from[j];
        else
            for (int64_t j = 0; j < cols; j++) to[j] = from[j * col_stride];
        if (cols < ld) to[cols] = (real)1;
        for (int64_t j = cols + 1; j < ld; j++) to[j] = (real)0;
    }
}

static void FN(set_bias_input)(int64_t rows, int64_t n, int64_t ld, double value, void *x_) {
    real *x = x_;
    for (int64_t r = 0; r < rows; r++) {
        x[r * ld + n] = (real)value;
        for (int64_t j = n + 1; j < ld; j++) x[r * ld + j] = (real)0;
    }
}

static void FN(csr_multiply)(int64_t rows, int64_t n, const fbp_samples *x, int64_t first,
                             const uint32_t *index, const void *w_, const void *bias_, void *y_,
                             int64_t ldy) {
    const real *w = w_, *bias = bias_, *data = x->data;
    real *y = y_;
    for (int64_t r = 0; r < rows; r++) {
        int64_t sample = index == NULL ? first + r : (int64_t)index[r];
        real *to = y + r * ldy;
        for (int64_t j = 0; j < n; j++) to[j] = bias == NULL ? (real)0 : bias[j];
        for (int64_t j = n; j < ldy; j++) to[j] = (real)0;
        int64_t end = x->indptr[sample + 1];
        for (int64_t e = x->indptr[sample]; e < end; e++) {
            const real *from = w + (int64_t)x->indices[e] * n, value = data[e];
            if (e + AHEAD < end) FN(fetch)(n, w + (int64_t)x->indices[e + AHEAD] * n);
            for (int64_t j = 0; j < n; j++) to[j] = FBP_FMA(value, from[j], to[j]);
        }
    }
}

static void FN(csr_multiply_transposed)(int64_t rows, int64_t n, int64_t cols, const fbp_samples *x,
                                        int64_t first, const uint32_t *index, const void *dy_,
                                        int64_t lddy, int64_t row, int64_t row_end, void *g_) {
    const real *dy = dy_, *data = x->data;
    real *g = g_;
    for (int64_t r = 0; r < rows; r++) {
        int64_t sample = index == NULL ? first + r : (int64_t)index[r];
        const real *from = dy + r * lddy;
        int64_t low = x->indptr[sample], end = x->indptr[sample + 1], high = end;
        while (low < high) { /* the first stored column at or after `row` */
            int64_t middle = low + (high - low) / 2;
            if (x->indices[middle] < row)
                low = middle + 1;
            else
                high = middle;
        }
        for (int64_t e = low; e < end && x->indices[e] < row_end; e++) {
            real *to = g + ((int64_t)x->indices[e] - row) * n, value = data[e];
            for (int64_t j = 0; j < n; j++) to[j] = FBP_FMA(value, from[j], to[j]);
        }
        if (row_end > cols)
            for (int64_t j = 0; j < n; j++) g[(cols - row) * n + j] += from[j];
    }
}

static const fbp_vector_kernels FN(kernels) = {FN(add_scaled),       FN(clip_norm),
                                               FN(clip_value),       FN(multiply),
                                               FN(sum_squares),      FN(weighted_sum),
                                               FN(first_not_finite), FN(gather),
                                               FN(csr_multiply),     FN(csr_multiply_transposed),
                                               FN(set_bias_input)};

#endif
