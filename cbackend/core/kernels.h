/* The kernels below the rows: matrix products on tiles, and sums over vectors. One set for each
 * instruction set and dtype, implemented in ops/gemm.c and ops/vector.c; the mechanism and the
 * layer ops call them through these tables. Lengths, rows and strides are in elements. */
#ifndef FBP_CORE_KERNELS_H
#define FBP_CORE_KERNELS_H

#include "core/row.h"

/* Numbers of 16 bits in one of their formats, of which only ops/half.c knows. */
typedef struct {
    void (*store)(int64_t n, float *x, uint16_t *to); /* x is rounded, and stored */
    void (*load)(int64_t n, const uint16_t *from, float *x);
    void (*narrow)(int64_t n, const float *from, uint16_t *to);
    void (*round)(int64_t n, float *x); /* to what could be stored */
} fbp_half_kernels;

/* The right operand of our products is packed into panels, a few vectors wide, each (k, width) and
 * contiguous, zeros beyond column n: it is read in the order in which it lies, and ragged widths
 * cost no special case. fbp_packed_size() counts its elements, which are of the dtype or, with
 * `half`, and of float alone, of 16 bits. m, n and k are at least 1.
 *
 * Every element of a product is one chain of fused multiply-adds over k, in order: so its bits
 * depend neither on how many rows are computed together nor on the width of the vectors. */
typedef enum {
    FBP_BIAS_NONE = 0, /* panels have k rows */
    FBP_BIAS_START,    /* they have one more, the bias, which starts each chain */
    FBP_BIAS_SKIP      /* they have one more, which is left out */
} fbp_bias;

/* A left operand whose rows may overlap, as patches of an image do: element (i, u * length + v) of
 * it is a[rows[i] + runs[u] + v * step]. Or, if they are `apart`, a left operand for each column j,
 * which begins at a + j; whole vectors of columns are read. */
typedef struct {
    const int64_t *rows; /* one a row */
    const int64_t *runs; /* (n_runs) */
    int64_t n_runs, length, step;
    int apart;
} fbp_patches;

typedef struct {
    /* A product may be cut by columns at multiples of this, where panels begin. */
    int64_t columns;
    /* panels of b (k, n): rows [row, row + rows) of it are read from b (rows, n), dense. */
    void (*pack)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *b, void *panels,
                 const fbp_half_kernels *half);
    /* panels of the transpose of w (n, k): rows [row, row + rows) of w, columns of the panels, are
     * read from w (rows, k), dense. */
    void (*pack_transposed)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *w,
                            void *panels, const fbp_half_kernels *half);
    /* c (m, n) = a (m, k) b. Writes whole vectors: ldc is at least n rounded up to fbp_pad(). */
    void (*multiply)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                     const void *panels, const fbp_half_kernels *half, fbp_bias bias, void *c,
                     int64_t ldc);
    /* The same from b (k, n) as it lies, dense, for few rows, which would not repay packing. It
     * reads up to fbp_pad() elements beyond the end of b, and start, which begins each chain, is
     * padded to whole vectors. */
    void (*multiply_unpacked)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                              const void *b, const void *start, void *c, int64_t ldc);
    /* The same from b (k, n), rows ldb apart, or from its transpose (n, k), for many rows, where a
     * packed copy of all of b would not stay in cache. bias (n), which begins each chain, may be
     * NULL. With `half`, b and the bias are rounded as they are read. */
    void (*multiply_in_parts)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                              const void *b, int64_t ldb, int transposed, const void *bias,
                              const fbp_half_kernels *half, void *c, int64_t ldc);
    /* c (m, n), dense, = a^T b, or c + a^T b: a (k, m) and b (k, n), b padded with zeros to whole
     * vectors. Without `add` it writes up to fbp_pad() elements beyond the end of c. */
    void (*multiply_transposed)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                                const void *b, int64_t ldb, int add, void *c);
    /* panels of b (k, n): rows [row, row + rows) of them are read from those rows of b, ldb apart,
     * or from as many columns of its transpose, whose n rows are ldb apart. */
    void (*pack_part)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *b, int64_t ldb,
                      int transposed, void *panels);
    /* c (m, n), whose row i begins at c[out[i]], = patches of a times b; k may be 0. Writes n
     * columns. */
    void (*multiply_patches)(int64_t m, int64_t n, const fbp_patches *patches, const void *a,
                             const void *panels, fbp_bias bias, const int64_t *out, void *c);
    /* c (m, n), rows ldc apart, += patches of a times b, which has rows ldb apart; works on whole
     * vectors of b and c, whose padding may hold anything. */
    void (*add_patches)(int64_t m, int64_t n, const fbp_patches *patches, const void *a,
                        const void *b, int64_t ldb, void *c, int64_t ldc);
} fbp_gemm_kernels;

typedef struct {
    void (*add_scaled)(int64_t n, double factor, const void *x, void *y); /* y += factor * x */
    /* x, a part of a gradient, is clipped: by the norm of all of it, or each to [-most, most]. */
    void (*clip_norm)(int64_t n, double norm, double most, void *x);
    void (*clip_value)(int64_t n, double most, void *x);
    void (*multiply)(int64_t n, double factor, void *x); /* x *= factor */
    double (*sum_squares)(int64_t n, const void *x);
    double (*weighted_sum)(int64_t n, const void *weight, const void *x); /* weight may be NULL */
    int64_t (*first_not_finite)(int64_t n, const void *x);                /* its index, or -1 */
    /* Strided samples to dense rows: out[i] = x[index ? index[i] : i], then 1, then zeros to ld. */
    void (*gather)(int64_t rows, int64_t cols, const void *x, int64_t row_stride,
                   int64_t col_stride, const uint32_t *index, void *out, int64_t ld);
    /* y (rows, n) = CSR rows of x times w (cols, n), plus bias (n), which may be NULL. */
    void (*csr_multiply)(int64_t rows, int64_t n, const fbp_samples *x, int64_t first,
                         const uint32_t *index, const void *w, const void *bias, void *y,
                         int64_t ldy);
    /* g (row_end - row, n) += rows [row, row_end) of x^T dy; the bias gradient where row_end is
     * past cols. */
    void (*csr_multiply_transposed)(int64_t rows, int64_t n, int64_t cols, const fbp_samples *x,
                                    int64_t first, const uint32_t *index, const void *dy,
                                    int64_t lddy, int64_t row, int64_t row_end, void *g);
    /* Column n of x, the input that the bias weighs, becomes `value`; the columns after it 0. */
    void (*set_bias_input)(int64_t rows, int64_t n, int64_t ld, double value, void *x);
} fbp_vector_kernels;

/* A set of kernels for each dtype, as gemm.c and vector.c export them. */
typedef struct {
    const void *kernels[2];
} fbp_kernel_pair;

/* Elements of a cache line: rows of our own buffers are padded to it. */
static inline int64_t fbp_pad(fbp_dtype dtype) { return dtype == FBP_F32 ? 16 : 8; }

static inline int64_t fbp_pieces(int64_t n, int64_t each) { return (n + each - 1) / each; }
static inline int64_t fbp_round_up(int64_t n, int64_t multiple) {
    return fbp_pieces(n, multiple) * multiple;
}

static inline int64_t fbp_packed_size(fbp_dtype dtype, int64_t k, int64_t n) {
    return k * fbp_round_up(n, fbp_pad(dtype));
}

static inline size_t fbp_size(fbp_dtype dtype) {
    return dtype == FBP_F32 ? sizeof(float) : sizeof(double);
}

static inline double fbp_real_at(fbp_dtype dtype, const void *base, int64_t index) {
    return dtype == FBP_F32 ? (double)((const float *)base)[index] : ((const double *)base)[index];
}

/* The address of an element; whether it may be written to is the caller's to know. */
static inline void *fbp_element(fbp_dtype dtype, const void *base, int64_t index) {
    union {
        const void *in;
        void *out;
    } pointer = {(const char *)base + (size_t)index * fbp_size(dtype)};
    return pointer.out;
}

#endif
