/* The matrix micro-kernel: products of tiles that are too small for a BLAS call to pay, and of
 * everything that predict computes. It holds no formula but c = a b.
 *
 * A block of MR rows by NV vectors of c is kept in registers while k runs: NV loads of b and MR
 * broadcasts of a feed MR * NV fused multiply-adds. This is the one file compiled with
 * -ffp-contract=fast, since C has no vector type with a fused multiply-add to call by name: every
 * `acc += a * b` here becomes one wherever the processor has it (a test compares with fma()).
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include "core/kernels.h"
#include "math/scalar.h"

/* Vectors are GNU C's, as wide as the target's registers. Without them a "vector" is one element,
 * and all below is plain C. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define REGISTERS 32
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define REGISTERS 16
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define REGISTERS 32
#else
#define VECTOR_BYTES 16
#define REGISTERS 16
#endif

#if defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define SHUFFLES 1 /* gcc alone shuffles vectors by a vector of lanes */
#else
#define SHUFFLES 0
#endif

/* Rows of a block for 1, 2 and 3 vectors a row: accumulators, the vectors of b and one broadcast
 * must fit the registers, and at least 8 accumulators hide the latency of a fused multiply-add. */
#define ROWS_1 8
#define ROWS_2 (REGISTERS == 32 ? 8 : 4)
#define ROWS_3 (REGISTERS == 32 ? 8 : 4)

/* Bytes of b that a panel's rows pass through at a time: they, and what meets them, stay in the
 * first cache while all of the rows pass. */
enum { BLOCK_BYTES = 24576 };

/* Vectors in the next panel when `left` remain: three where possible, never a lone one at the end
 * (fbp_piece_end() relies on it: four at the end stay together, as two panels). */
static int64_t panel_vectors(int64_t left) {
    if (left >= 5) return 3;
    return left == 4 ? 2 : left;
}

#define FBP_TEMPLATE "ops/gemm.c"
#include "math/expand.h"

extern const fbp_kernel_pair FBP_FAMILY(gemm);
const fbp_kernel_pair FBP_FAMILY(gemm) = {{&kernels_f32, &kernels_f64}};

#else /* the template */

#if defined(__GNUC__)
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(real)))
typedef real FN(vec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef sbits_t FN(lanes) __attribute__((vector_size(VECTOR_BYTES)));
#else
#define LANES ((int64_t)1)
typedef real FN(vec);
#endif

/* At whose multiples a product may be cut by columns: of panels, and no less than a cache line. */
#define COLUMNS (LANES > 1 ? 3 * LANES : 48)

/* One block: rows mr, vectors nv, both constants once inlined. Element (i, p) of a is
 * a[i * a_row + p * a_step]; start (nv vectors) begins the chains unless it is NULL, or c does. */
FBP_INLINE void FN(block)(const int mr, const int nv, int64_t k, const real *a, int64_t a_row,
                          int64_t a_step, const real *b, int64_t ldb, const real *start, int add,
                          real *c, int64_t ldc) {
    FN(vec) acc[8][3];
    UNROLL for (int i = 0; i < mr; i++) {
        UNROLL for (int j = 0; j < nv; j++) {
            if (add)
                acc[i][j] = *(const FN(vec) *)(c + i * ldc + j * LANES);
            else if (start != NULL)
                acc[i][j] = *(const FN(vec) *)(start + j * LANES);
            else
                acc[i][j] = (FN(vec)){0};
        }
    }
    for (int64_t p = 0; p < k; p++) {
        FN(vec) row[3];
        UNROLL for (int j = 0; j < nv; j++) row[j] = *(const FN(vec) *)(b + p * ldb + j * LANES);
        UNROLL for (int i = 0; i < mr; i++) {
            const real factor = a[i * a_row + p * a_step];
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] += factor * row[j];
        }
    }
    UNROLL for (int i = 0; i < mr; i++) {
        UNROLL for (int j = 0; j < nv; j++) * (FN(vec) *)(c + i * ldc + j * LANES) = acc[i][j];
    }
}

/* All m rows of one panel: blocks of mr rows, then what is left in blocks of 4, 2 and 1. */
FBP_INLINE void FN(panel)(const int mr, const int nv, int64_t m, int64_t k, const real *a,
                          int64_t a_row, int64_t a_step, const real *b, int64_t ldb,
                          const real *start, int add, real *c, int64_t ldc) {
    int64_t i = 0;
#define BLOCKS(rows)                                                                               \
    for (; i + (rows) <= m; i += (rows))                                                           \
    FN(block)(rows, nv, k, a + i * a_row, a_row, a_step, b, ldb, start, add, c + i * ldc, ldc)
    BLOCKS(mr);
    if (mr > 4) BLOCKS(4);
    if (mr > 2) BLOCKS(2);
    BLOCKS(1);
#undef BLOCKS
}

/* One panel of so many vectors, `most` steps of k at a time: a chain that is stored and taken up
 * again keeps its bits. */
FBP_INLINE void FN(panel_in_steps)(const int mr, const int nv, int64_t m, int64_t k, int64_t most,
                                   const real *a, int64_t a_row, int64_t a_step, const real *b,
                                   int64_t ldb, const real *start, real *c, int64_t ldc) {
    int64_t first = 0;
    do {
        int64_t steps = k - first < most ? k - first : most;
        FN(panel)(mr, nv, m, steps, a + first * a_step, a_row, a_step, b + first * ldb, ldb, start,
                  first > 0, c, ldc);
        first += steps;
    } while (first < k);
}

FBP_INLINE void FN(panel_of)(int64_t vectors, int64_t m, int64_t k, int64_t most, const real *a,
                             int64_t a_row, int64_t a_step, const real *b, int64_t ldb,
                             const real *start, real *c, int64_t ldc) {
    if (vectors == 1)
        FN(panel_in_steps)(ROWS_1, 1, m, k, most, a, a_row, a_step, b, ldb, start, c, ldc);
    else if (vectors == 2)
        FN(panel_in_steps)(ROWS_2, 2, m, k, most, a, a_row, a_step, b, ldb, start, c, ldc);
    else
        FN(panel_in_steps)(ROWS_3, 3, m, k, most, a, a_row, a_step, b, ldb, start, c, ldc);
}

/* Steps of k to take at a time: even parts, in which b keeps to BLOCK_BYTES. */
static int64_t FN(steps_of)(int64_t k, int64_t vectors) {
    int64_t pieces = fbp_pieces(k, BLOCK_BYTES / (vectors * LANES * (int64_t)sizeof(real)));
    return pieces > 1 ? fbp_pieces(k, pieces) : k;
}

static void FN(multiply)(int64_t m, int64_t n, int64_t k, const void *a_, int64_t lda,
                         const void *panels, fbp_bias bias, void *c_, int64_t ldc) {
    const real *a = a_, *b = panels;
    real *c = c_;
    int64_t left = (n + LANES - 1) / LANES;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        const real *start = bias == FBP_BIAS_START ? b + k * width : NULL;
        FN(panel_of)(vectors, m, k, FN(steps_of)(k, vectors), a, lda, 1, b, width, start, c, ldc);
        b += (k + (bias != FBP_BIAS_NONE)) * width;
        c += width;
        left -= vectors;
    }
}

static void FN(multiply_unpacked)(int64_t m, int64_t n, int64_t k, const void *a_, int64_t lda,
                                  const void *b_, const void *start_, void *c_, int64_t ldc) {
    const real *a = a_, *b = b_, *start = start_;
    real *c = c_;
    int64_t left = (n + LANES - 1) / LANES, column = 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left);
        FN(panel_of)(vectors, m, k, k, a, lda, 1, b + column, n, start + column, c + column, ldc);
        column += vectors * LANES;
        left -= vectors;
    }
}

/* The last n_tail columns of a product that adds to c, by way of a block of whole vectors. */
static void FN(add_tail)(int64_t m, int64_t n, int64_t k, const real *a, int64_t lda, const real *b,
                         int64_t ldb, int64_t n_tail, real *c) {
    real block[ROWS_1 * (VECTOR_BYTES / sizeof(real))];
    for (int64_t i = 0; i < m; i += ROWS_1) {
        int64_t rows = m - i < ROWS_1 ? m - i : ROWS_1;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < LANES; j++)
                block[r * LANES + j] = j < n_tail ? c[(i + r) * n + j] : (real)0;
        FN(panel)(ROWS_1, 1, rows, k, a + i, 1, lda, b, ldb, NULL, 1, block, LANES);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n_tail; j++) c[(i + r) * n + j] = block[r * LANES + j];
    }
}

/* c is dense, so the last panel's whole vectors overrun the ends of its rows. Panels run from the
 * last to the first and rows upward: what is spilt into the next row is written again, rightly,
 * later. With `add` the chains start from c, which must not be spilt into: its last columns go by
 * way of a copy. */
static void FN(multiply_transposed)(int64_t m, int64_t n, int64_t k, const void *a_, int64_t lda,
                                    const void *b_, int64_t ldb, int add, void *c_) {
    const real *a = a_, *b = b_;
    real *c = c_;
    if (add) {
        int64_t whole = n / LANES * LANES;
        for (int64_t j = 0; j < whole; j += LANES)
            FN(panel)(ROWS_1, 1, m, k, a, 1, lda, b + j, ldb, NULL, 1, c + j, n);
        if (whole < n) FN(add_tail)(m, n, k, a, lda, b + whole, ldb, n - whole, c + whole);
        return;
    }
    int64_t left = (n + LANES - 1) / LANES, ragged = n % LANES != 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), column = (left - vectors) * LANES;
        /* A ragged panel must not read again what it has spilt: all of k at once. */
        int64_t steps = ragged ? k : FN(steps_of)(k, vectors);
        FN(panel_of)(vectors, m, k, steps, a, 1, lda, b + column, ldb, NULL, c + column, n);
        left -= vectors;
        ragged = 0;
    }
}

static void FN(pack)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *b_,
                     void *panels) {
    const real *b = b_;
    real *panel = panels;
    int64_t left = (n + LANES - 1) / LANES, column = 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        int64_t filled = n - column < width ? n - column : width;
        for (int64_t r = 0; r < rows; r++) {
            real *to = panel + (row + r) * width;
            const real *from = b + r * n + column;
            for (int64_t j = 0; j < filled; j++) to[j] = from[j];
            for (int64_t j = filled; j < width; j++) to[j] = (real)0;
        }
        panel += k * width;
        column += width;
        left -= vectors;
    }
}

/* Columns [0, k) of LANES rows of w, k apart, become rows of a panel `width` apart. Blocks of LANES
 * by LANES are transposed in registers: shuffling the rows' two halves into each other, as cards
 * are, log2(LANES) times over is a transposition. */
static void FN(transpose)(int64_t k, const real *w, int64_t width, real *panel) {
    int64_t p = 0;
#if SHUFFLES
    FN(lanes) low, high;
    UNROLL for (int j = 0; j < LANES; j++) {
        low[j] = (sbits_t)(j / 2 + j % 2 * LANES);
        high[j] = low[j] + (sbits_t)(LANES / 2);
    }
    for (; p + LANES <= k; p += LANES) {
        FN(vec) rows[LANES], mixed[LANES];
        UNROLL for (int i = 0; i < LANES; i++) rows[i] = *(const FN(vec) *)(w + i * k + p);
        UNROLL for (int step = 1; step < LANES; step *= 2) {
            UNROLL for (int i = 0; i < LANES / 2; i++) {
                mixed[2 * i] = __builtin_shuffle(rows[i], rows[i + LANES / 2], low);
                mixed[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + LANES / 2], high);
            }
            UNROLL for (int i = 0; i < LANES; i++) rows[i] = mixed[i];
        }
        UNROLL for (int i = 0; i < LANES; i++) * (FN(vec) *)(panel + (p + i) * width) = rows[i];
    }
#endif
    for (; p < k; p++)
        for (int i = 0; i < LANES; i++) panel[p * width + i] = w[i * k + p];
}

static void FN(pack_transposed)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *w_,
                                void *panels) {
    const real *w = w_;
    real *panel = panels;
    int64_t left = (n + LANES - 1) / LANES, column = 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        int64_t begin = row > column ? row : column;
        int64_t end = row + rows < column + width ? row + rows : column + width;
        int64_t i = begin;
        for (; i + LANES <= end; i += LANES)
            FN(transpose)(k, w + (i - row) * k, width, panel + (i - column));
        for (; i < end; i++) {
            const real *from = w + (i - row) * k;
            real *to = panel + (i - column);
            for (int64_t p = 0; p < k; p++) to[p * width] = from[p];
        }
        if (row + rows == n) /* with the last rows of w, the zeros after them */
            for (int64_t j = n - column; j < width; j++)
                for (int64_t p = 0; p < k; p++) panel[p * width + j] = (real)0;
        panel += k * width;
        column += width;
        left -= vectors;
    }
}

static const fbp_gemm_kernels FN(kernels) = {3 * LANES,
                                             FN(pack),
                                             FN(pack_transposed),
                                             FN(multiply),
                                             FN(multiply_unpacked),
                                             FN(multiply_transposed)};

#undef LANES
#undef COLUMNS
#endif
