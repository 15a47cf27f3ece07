/* The loops of softmax, around the formulas of math/softmax.h: over rows that lie one element after
 * the other, the last axis, and as functions of elements for sweeps along another axis. A template
 * (expand.h).
 *
 * Rows are worked on in blocks of 64 bytes, whole vectors on every instruction set; the last block
 * of a row is copied, so that nothing beyond it is touched. Sums are formed in as many chains as a
 * block has elements, and from piece to piece of a long row in double. */
#ifndef FBP_OPS_SOFTMAX_H
#define FBP_OPS_SOFTMAX_H

#include "core/broadcast.h"
#include "math/scalar.h"

/* Over rows of k elements; from[i] lies in rows ld[i] apart, and so does `to`, which may be one of
 * them. */
typedef void row_function(int64_t rows, int64_t k, const void *const *from, const int64_t *ld,
                          void *to, int64_t ld_to);

/* What a gradient or tangent is made of. The functions of elements read what the row function does
 * and then, for the result, s and u. */
typedef struct {
    row_function *rows;
    int n_read, n_sums;
    fbp_elements_fn *term[2], *result;
} pass;

typedef struct {
    row_function *rows;
    fbp_elements_fn *term;   /* of x and the largest */
    fbp_elements_fn *result; /* of these and of what `settle` makes of the sum */
    void (*settle)(int64_t n, const double *sums, void *settled);
} forward_pass;

typedef struct {
    forward_pass forward;
    pass backward, tangent, backward_tangent;
} softmax_kernels;

enum { PIECE = 1024 }; /* elements between two additions in double */

#endif

#ifdef real

#define LANES (64 / (int)sizeof(real))

/* A block folded to one element, as a tree. */
#define FOLD(name, a, b, chosen)                                                                   \
    FBP_INLINE real FN(name)(const real *x) {                                                      \
        real h[LANES / 2], q[LANES / 4], e[LANES / 8];                                             \
        FBP_LANEWISE                                                                               \
        for (int l = 0; l < LANES / 2; l++) {                                                      \
            const real a = x[l], b = x[l + LANES / 2];                                             \
            h[l] = chosen;                                                                         \
        }                                                                                          \
        FBP_LANEWISE                                                                               \
        for (int l = 0; l < LANES / 4; l++) {                                                      \
            const real a = h[l], b = h[l + LANES / 4];                                             \
            q[l] = chosen;                                                                         \
        }                                                                                          \
        FBP_LANEWISE                                                                               \
        for (int l = 0; l < LANES / 8; l++) {                                                      \
            const real a = q[l], b = q[l + LANES / 8];                                             \
            e[l] = chosen;                                                                         \
        }                                                                                          \
        const real a = e[0], b = e[LANES / 8 - 1];                                                 \
        return LANES == 8 ? a : chosen;                                                            \
    }
FOLD(sum_lanes, a, b, a + b)
FOLD(max_lanes, a, b, a > b ? a : b)
#undef FOLD

/* The block at x, or a copy of its first elements with `fill` behind them. */
FBP_INLINE const real *FN(block_at)(const real *x, int64_t left, real fill, real *copy) {
    if (left >= LANES) return x;
    const int live = (int)left;
    FBP_LANEWISE
    for (int l = 0; l < LANES; l++) copy[l] = l < live ? x[l] : fill;
    return copy;
}

FBP_INLINE void FN(store_block)(const real *block, int64_t left, real *to) {
    const int live = left < LANES ? (int)left : LANES;
    if (left >= LANES) {
        memcpy(to, block, LANES * sizeof(real));
        return;
    }
    FBP_INDEPENDENT
    for (int l = 0; l < LANES; l++)
        if (l < live) to[l] = block[l];
}

/* ---- forward ---- */

FBP_INLINE real FN(max_of_row)(int64_t k, const real *x) {
    real lanes[LANES], copy[LANES];
    FBP_LANEWISE
    for (int l = 0; l < LANES; l++) lanes[l] = -(real)INFINITY;
    for (int64_t j = 0; j < k; j += LANES) {
        const real *const block = FN(block_at)(x + j, k - j, -(real)INFINITY, copy);
        FBP_LANEWISE
        for (int l = 0; l < LANES; l++) lanes[l] = block[l] > lanes[l] ? block[l] : lanes[l];
    }
    return FN(max_lanes)(lanes);
}

/* e = exp(x - max), unless e is NULL, and their sum. Of minus infinities alone the sum is NaN. */
FBP_INLINE double FN(exp_of_row)(int64_t k, const real *x, real max, real *e) {
    double sum = 0;
    for (int64_t piece = 0; piece < k; piece += PIECE) {
        const int64_t end = piece + PIECE < k ? piece + PIECE : k;
        real lanes[LANES] = {(real)0};
        for (int64_t j = piece; j < end; j += LANES) {
            real copy[LANES], term[LANES];
            const real *const block = FN(block_at)(x + j, end - j, -(real)INFINITY, copy);
            FBP_LANEWISE
            for (int l = 0; l < LANES; l++) term[l] = FN(exp)(block[l] - max);
            FBP_LANEWISE
            for (int l = 0; l < LANES; l++) lanes[l] += term[l];
            if (e != NULL) FN(store_block)(term, end - j, e + j);
        }
        sum += (double)FN(sum_lanes)(lanes);
    }
    return sum;
}

/* A row of at most a block, which never leaves the registers. */
FBP_INLINE void FN(softmax_of_block)(int64_t k, const real *x, real *y) {
    real copy[LANES], e[LANES];
    const real *const block = FN(block_at)(x, k, -(real)INFINITY, copy);
    const real max = FN(max_lanes)(block);
    FBP_LANEWISE
    for (int l = 0; l < LANES; l++) e[l] = FN(exp)(block[l] - max);
    const real scale = (real)(1.0 / (double)FN(sum_lanes)(e));
    FBP_LANEWISE
    for (int l = 0; l < LANES; l++) e[l] *= scale;
    FN(store_block)(e, k, y);
}

static void FN(softmax_rows)(int64_t rows, int64_t k, const void *const *from, const int64_t *ld,
                             void *to, int64_t ld_to) {
    for (int64_t r = 0; r < rows; r++) {
        const real *const x = (const real *)from[0] + r * ld[0];
        real *const y = (real *)to + r * ld_to;
        if (k <= LANES) {
            FN(softmax_of_block)(k, x, y);
            continue;
        }
        const real scale = (real)(1.0 / FN(exp_of_row)(k, x, FN(max_of_row)(k, x), y));
        FBP_INDEPENDENT
        for (int64_t j = 0; j < k; j++) y[j] *= scale;
    }
}

/* log of a sum of which one term is 1, given without it: a small sum of the others keeps its
 * digits. */
FBP_INLINE real FN(rest_of)(double sum) { return (real)(sum - 1.0); }

/* Some rows at once, so that their logarithms are worked out together. */
static void FN(log_softmax_rows)(int64_t rows, int64_t k, const void *const *from,
                                 const int64_t *ld, void *to, int64_t ld_to) {
    for (int64_t i = 0; i < rows; i += LANES) {
        const int n = rows - i < LANES ? (int)(rows - i) : LANES;
        const real *const x = (const real *)from[0] + i * ld[0];
        real max[LANES], log_sum[LANES] = {(real)0};
        for (int r = 0; r < n; r++) {
            max[r] = FN(max_of_row)(k, x + r * ld[0]);
            log_sum[r] = FN(rest_of)(FN(exp_of_row)(k, x + r * ld[0], max[r], NULL));
        }
        FBP_LANEWISE
        for (int r = 0; r < LANES; r++) log_sum[r] = FN(log1p)(log_sum[r]);
        for (int r = 0; r < n; r++)
            for (int64_t j = 0; j < k; j += LANES) {
                real copy[LANES], y[LANES];
                const real *const block = FN(block_at)(x + r * ld[0] + j, k - j, (real)0, copy);
                FBP_LANEWISE
                for (int l = 0; l < LANES; l++) y[l] = (block[l] - max[r]) - log_sum[r];
                FN(store_block)(y, k - j, (real *)to + (i + r) * ld_to + j);
            }
    }
}

#define FORWARD(name, result, settled_)                                                            \
    static void FN(name##_elements)(int64_t n, const void *const *from, void *to,                  \
                                    const double *numbers) {                                       \
        const real *const xs = from[0], *const maxima = from[1], *const sums = from[2];            \
        real *const ys = to;                                                                       \
        (void)numbers;                                                                             \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real x = xs[i] - maxima[i], settled = sums[i];                                   \
            ys[i] = result;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_settle)(int64_t n, const double *sums, void *settled) {                  \
        for (int64_t i = 0; i < n; i++) ((real *)settled)[i] = settled_;                           \
    }
FORWARD(softmax, FN(exp)(x) * settled, (real)(1.0 / sums[i]))
FORWARD(log_softmax, x - settled, FN(log1p)(FN(rest_of)(sums[i])))
#undef FORWARD

static void FN(exp_minus)(int64_t n, const void *const *from, void *to, const double *numbers) {
    const real *const xs = from[0], *const maxima = from[1];
    real *const ys = to;
    (void)numbers;
    FBP_INDEPENDENT
    for (int64_t i = 0; i < n; i++) ys[i] = FN(exp)(xs[i] - maxima[i]);
}

/* ---- gradients and tangents ---- */

#define READS_ONE 2
#define READS_ALL 4
#define NAMES_ONE(of, i) const real y = of(0)[i], d = of(1)[i]
#define NAMES_ALL(of, i) const real y = of(0)[i], dy = of(1)[i], ty = of(2)[i], tdy = of(3)[i]
#define IN_BLOCK(k) block[k]
#define IN_ARRAY(k) ((const real *)from[k])

#define ELEMENTS(name, reads, sums, result)                                                        \
    static void FN(name)(int64_t n, const void *const *from, void *to, const double *numbers) {    \
        real *const out = to;                                                                      \
        (void)numbers;                                                                             \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            NAMES_##reads(IN_ARRAY, i);                                                            \
            NOT_ALL_USED_##reads;                                                                  \
            sums;                                                                                  \
            out[i] = result;                                                                       \
        }                                                                                          \
    }

/* The blocks at j of all that is read. */
#define TAKE_BLOCKS(reads, j, left)                                                                \
    const real *block[READS_##reads];                                                              \
    real copies[READS_##reads][LANES];                                                             \
    for (int i = 0; i < READS_##reads; i++)                                                        \
    block[i] = FN(block_at)((const real *)from[i] + r * ld[i] + (j), left, (real)0, copies[i])

#define PASS(name, reads, term_s, term_u, result)                                                  \
    static void FN(name##_rows)(int64_t rows, int64_t k, const void *const *from,                  \
                                const int64_t *ld, void *to, int64_t ld_to) {                      \
        for (int64_t r = 0; r < rows; r++) {                                                       \
            double sum_s = 0, sum_u = 0;                                                           \
            for (int64_t piece = 0; piece < k; piece += PIECE) {                                   \
                const int64_t end = piece + PIECE < k ? piece + PIECE : k;                         \
                real s[LANES] = {(real)0}, u[LANES] = {(real)0};                                   \
                for (int64_t j = piece; j < end; j += LANES) {                                     \
                    TAKE_BLOCKS(reads, j, end - j);                                                \
                    FBP_LANEWISE                                                                   \
                    for (int l = 0; l < LANES; l++) {                                              \
                        NAMES_##reads(IN_BLOCK, l);                                                \
                        NOT_ALL_USED_##reads;                                                      \
                        s[l] += term_s;                                                            \
                        u[l] += term_u;                                                            \
                    }                                                                              \
                }                                                                                  \
                sum_s += (double)FN(sum_lanes)(s);                                                 \
                sum_u += (double)FN(sum_lanes)(u);                                                 \
            }                                                                                      \
            const real s = (real)sum_s, u = (real)sum_u;                                           \
            (void)u;                                                                               \
            for (int64_t j = 0; j < k; j += LANES) {                                               \
                real out[LANES];                                                                   \
                TAKE_BLOCKS(reads, j, k - j);                                                      \
                FBP_LANEWISE                                                                       \
                for (int l = 0; l < LANES; l++) {                                                  \
                    NAMES_##reads(IN_BLOCK, l);                                                    \
                    NOT_ALL_USED_##reads;                                                          \
                    out[l] = result;                                                               \
                }                                                                                  \
                FN(store_block)(out, k - j, (real *)to + r * ld_to + j);                           \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    ELEMENTS(name##_s, reads, , term_s)                                                            \
    ELEMENTS(name##_u, reads, , term_u)                                                            \
    ELEMENTS(name##_result, reads, SUMS_##reads, result)
#define NOT_ALL_USED_ONE (void)y, (void)d
#define NOT_ALL_USED_ALL (void)y, (void)dy, (void)ty, (void)tdy
#define SUMS_ONE const real s = IN_ARRAY(2)[i]
#define SUMS_ALL const real s = IN_ARRAY(4)[i], u = IN_ARRAY(5)[i]

#include "math/softmax.h"
#undef PASS

#define BY(name, reads, sums)                                                                      \
    {FN(name##_rows), reads, sums, {FN(name##_s), FN(name##_u)}, FN(name##_result)}
static const softmax_kernels FN(softmax_kernels) = {
    .forward = {FN(softmax_rows), FN(exp_minus), FN(softmax_elements), FN(softmax_settle)},
    .backward = BY(softmax_backward, READS_ONE, 1),
    .tangent = BY(softmax_backward, READS_ONE, 1),
    .backward_tangent = BY(softmax_backward_tangent, READS_ALL, 2)};
static const softmax_kernels FN(log_softmax_kernels) = {
    .forward = {FN(log_softmax_rows), FN(exp_minus), FN(log_softmax_elements),
                FN(log_softmax_settle)},
    .backward = BY(log_softmax_backward, READS_ONE, 1),
    .tangent = BY(log_softmax_tangent, READS_ONE, 1),
    .backward_tangent = BY(log_softmax_backward_tangent, READS_ALL, 2)};

#undef BY
#undef TAKE_BLOCKS
#undef ELEMENTS
#undef READS_ONE
#undef READS_ALL
#undef NAMES_ONE
#undef NAMES_ALL
#undef NOT_ALL_USED_ONE
#undef NOT_ALL_USED_ALL
#undef SUMS_ONE
#undef SUMS_ALL
#undef IN_BLOCK
#undef IN_ARRAY
#undef LANES

#endif
