/* The matrix micro-kernel: products of tiles that are too small for a BLAS call to pay, and of
 * everything that predict computes. It holds no formula but c = a b.
 *
 * A block of MR rows by NV vectors of c is kept in registers while k runs: NV loads of b and MR
 * broadcasts of a feed MR * NV fused multiply-adds. This is the one file compiled with
 * -ffp-contract=fast, since C has no vector type with a fused multiply-add to call by name: every
 * `acc += a * b` here becomes one wherever the processor has it (a test compares with fma()).
 *
 * While a block works on one part of b it asks for the next, at every step of k for one cache line:
 * after a meeting of threads half of what a thread reads lies in the cache of another core, and
 * would come more slowly than it is used.
 *
 * The file includes itself, once for each dtype. It is long because the block, the panels that it
 * reads and all products made of it are compiled together. */
#ifndef real

#include <string.h>

#include "core/kernels.h"
#include "math/scalar.h"
#include "ops/vectors.h"

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

/* What a product reads. */
typedef struct {
    const real *a; /* element (i, p): a[i * a_row + p * a_step] */
    int64_t a_row, a_step;
    const real *b; /* element (p, j): b[p * ldb + j] */
    int64_t ldb;
    const real *start; /* where the chains start, a value for each column; NULL: at 0 */
    const real *next;  /* k rows, ld_next apart, that will be read soon; NULL: what follows b */
    int64_t ld_next;
} FN(factors);

/* What a block asks for: from `at` on, `step` bytes further at every step of k. */
typedef struct {
    const char *at;
    int64_t step;
} FN(ahead);

/* One block: rows mr, vectors nv, both constants once inlined. With `add` the chains start at c. */
FBP_INLINE void FN(block)(const int mr, const int nv, int64_t k, FN(factors) f, FN(ahead) ahead,
                          int add, real *c, int64_t ldc) {
    FN(vec) acc[8][3];
    UNROLL for (int i = 0; i < mr; i++) {
        UNROLL for (int j = 0; j < nv; j++) {
            if (add)
                acc[i][j] = *(const FN(vec) *)(c + i * ldc + j * LANES);
            else if (f.start != NULL)
                acc[i][j] = *(const FN(vec) *)(f.start + j * LANES);
            else
                acc[i][j] = (FN(vec)){0};
        }
    }
    for (int64_t p = 0; p < k; p++) {
        if (mr > 1 && nv > 1) /* one row or one vector is bound by loads */
            FBP_PREFETCH_FAR(ahead.at + p * ahead.step);
        FN(vec) row[3];
        UNROLL for (int j = 0; j < nv; j++) row[j] =
            *(const FN(vec) *)(f.b + p * f.ldb + j * LANES);
        UNROLL for (int i = 0; i < mr; i++) {
            const real factor = f.a[i * f.a_row + p * f.a_step];
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] += factor * row[j];
        }
    }
    UNROLL for (int i = 0; i < mr; i++) {
        UNROLL for (int j = 0; j < nv; j++) * (FN(vec) *)(c + i * ldc + j * LANES) = acc[i][j];
    }
}

/* All m rows of one panel: blocks of mr rows, then what is left in blocks of 4, 2 and 1. Of rows
 * ahead each block asks for another line of them; what follows b, as much as b itself, they share.
 */
FBP_INLINE void FN(panel)(const int mr, const int nv, int64_t m, int64_t k, FN(factors) f, int add,
                          real *c, int64_t ldc) {
    const int64_t size = sizeof(real), line = 64;
    int64_t share = f.ldb * size * mr / m, i = 0;
    FN(ahead) rows = {(const char *)f.next, f.ld_next * size};
    FN(ahead) bytes = {(const char *)(f.b + k * f.ldb), share};
    FN(ahead) ahead = f.next != NULL ? rows : bytes;
    int64_t further = f.next != NULL ? line : share * k;
#define BLOCKS(rows)                                                                               \
    for (; i + (rows) <= m; i += (rows), f.a += (rows) * f.a_row, ahead.at += further)             \
    FN(block)(rows, nv, k, f, ahead, add, c + i * ldc, ldc)
    BLOCKS(mr);
    if (mr > 4) BLOCKS(4);
    if (mr > 2) BLOCKS(2);
    BLOCKS(1);
#undef BLOCKS
}

/* One panel of so many vectors, `most` steps of k at a time: a chain that is stored and taken up
 * again keeps its bits. */
FBP_INLINE void FN(panel_in_steps)(const int mr, const int nv, int64_t m, int64_t k, int64_t most,
                                   FN(factors) f, int add, real *c, int64_t ldc) {
    int64_t first = 0;
    do {
        int64_t steps = k - first < most ? k - first : most;
        FN(panel)(mr, nv, m, steps, f, add || first > 0, c, ldc);
        f.a += steps * f.a_step;
        f.b += steps * f.ldb;
        if (f.next != NULL) f.next += steps * f.ld_next;
        first += steps;
    } while (first < k);
}

FBP_INLINE void FN(panel_of)(int64_t vectors, int64_t m, int64_t k, int64_t most, FN(factors) f,
                             int add, real *c, int64_t ldc) {
    if (vectors == 1)
        FN(panel_in_steps)(ROWS_1, 1, m, k, most, f, add, c, ldc);
    else if (vectors == 2)
        FN(panel_in_steps)(ROWS_2, 2, m, k, most, f, add, c, ldc);
    else
        FN(panel_in_steps)(ROWS_3, 3, m, k, most, f, add, c, ldc);
}

/* Steps of k to take at a time: even parts, in which b keeps to BLOCK_BYTES. */
static int64_t FN(steps_of)(int64_t k, int64_t vectors) {
    int64_t pieces = fbp_pieces(k, BLOCK_BYTES / (vectors * LANES * (int64_t)sizeof(real)));
    return pieces > 1 ? fbp_pieces(k, pieces) : k;
}

/* Rows of a panel from `columns` columns of b, and zeros after them. */
FBP_INLINE void FN(copy)(int64_t rows, int64_t columns, const real *b, int64_t ldb, int64_t width,
                         real *panel) {
    const int64_t whole = columns - columns % LANES;
    for (int64_t r = 0; r < rows; r++) {
        const real *from = b + r * ldb;
        real *to = panel + r * width;
        for (int64_t j = 0; j < whole; j += LANES)
            *(FN(vec) *)(to + j) = *(const FN(vec) *)(from + j);
        if (whole == width) continue;
        *(FN(vec) *)(to + whole) = (FN(vec)){0}; /* panels end with the vector */
        for (int64_t j = whole; j < columns; j++) to[j] = from[j];
    }
}

/* Columns [0, k) of LANES rows of w, ldw apart, become rows of a panel `width` apart. Blocks of
 * LANES by LANES are transposed in registers: shuffling the rows' two halves into each other, as
 * cards are, log2(LANES) times over is a transposition. */
static void FN(transpose)(int64_t k, const real *w, int64_t ldw, int64_t width, real *panel) {
    int64_t p = 0;
#if SHUFFLES
    FN(lanes) low, high;
    UNROLL for (int j = 0; j < LANES; j++) {
        low[j] = (sbits_t)(j / 2 + j % 2 * LANES);
        high[j] = low[j] + (sbits_t)(LANES / 2);
    }
    for (; p + LANES <= k; p += LANES) {
        FN(vec) rows[LANES], mixed[LANES];
        UNROLL for (int i = 0; i < LANES; i++) rows[i] = *(const FN(vec) *)(w + i * ldw + p);
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
        for (int i = 0; i < LANES; i++) panel[p * width + i] = w[i * ldw + p];
}

/* Columns of a panel from `rows` rows of w. */
static void FN(copy_transposed)(int64_t k, int64_t rows, const real *w, int64_t ldw, int64_t width,
                                real *panel) {
    int64_t i = 0;
    for (; i + LANES <= rows; i += LANES) FN(transpose)(k, w + i * ldw, ldw, width, panel + i);
    for (; i < rows; i++)
        for (int64_t p = 0; p < k; p++) panel[p * width + i] = w[i * ldw + p];
}

#if FBP_IS_F32
#include "ops/half_panels.h"
#endif

static void FN(multiply)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                         const void *panels, const fbp_half_kernels *half, fbp_bias bias, void *c_,
                         int64_t ldc) {
    real *c = c_;
    if (half != NULL) {
        multiply_half(m, n, k, a, lda, panels, half, bias, c_, ldc);
        return;
    }
    FN(factors) f = {.a = a, .a_row = lda, .a_step = 1, .b = panels};
    int64_t left = (n + LANES - 1) / LANES;
    while (left > 0) {
        int64_t vectors = panel_vectors(left);
        f.ldb = vectors * LANES;
        f.start = bias == FBP_BIAS_START ? f.b + k * f.ldb : NULL;
        FN(panel_of)(vectors, m, k, FN(steps_of)(k, vectors), f, 0, c, ldc);
        f.b += (k + (bias != FBP_BIAS_NONE)) * f.ldb;
        c += f.ldb;
        left -= vectors;
    }
}

static void FN(multiply_unpacked)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                                  const void *b, const void *start, void *c_, int64_t ldc) {
    real *c = c_;
    FN(factors) f = {.a = a, .a_row = lda, .a_step = 1, .b = b, .ldb = n, .start = start};
    f.ld_next = n;
    int64_t left = (n + LANES - 1) / LANES;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        f.next = f.b + width;
        FN(panel_of)(vectors, m, k, k, f, 0, c, ldc);
        f.b += width;
        f.start += width;
        c += width;
        left -= vectors;
    }
}

/* The last n_tail columns of a product that adds to c, by way of a block of whole vectors. */
static void FN(add_tail)(int64_t m, int64_t n, int64_t k, FN(factors) f, int64_t n_tail, real *c) {
    real block[ROWS_1 * (VECTOR_BYTES / sizeof(real))];
    for (int64_t i = 0; i < m; i += ROWS_1, f.a += ROWS_1) {
        int64_t rows = m - i < ROWS_1 ? m - i : ROWS_1;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < LANES; j++)
                block[r * LANES + j] = j < n_tail ? c[(i + r) * n + j] : (real)0;
        FN(panel)(ROWS_1, 1, rows, k, f, 1, block, LANES);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n_tail; j++) c[(i + r) * n + j] = block[r * LANES + j];
    }
}

/* c is dense, so the last panel's whole vectors overrun the ends of its rows. Panels run from the
 * last to the first and rows upward: what is spilt into the next row is written again, rightly,
 * later. With `add` the chains start from c, which must not be spilt into: its last columns go by
 * way of a copy.
 *
 * After the last panel the columns of a to the right are likely to come next. */
static void FN(multiply_transposed)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                                    const void *b_, int64_t ldb, int add, void *c_) {
    const real *b = b_;
    real *c = c_;
    FN(factors) f = {.a = a, .a_row = 1, .a_step = lda, .b = b, .ldb = ldb};
    if (add) {
        int64_t left = n / LANES;
        while (left > 0) {
            int64_t vectors = panel_vectors(left);
            FN(panel_of)(vectors, m, k, FN(steps_of)(k, vectors), f, 1, c, n);
            f.b += vectors * LANES;
            c += vectors * LANES;
            left -= vectors;
        }
        if (n % LANES != 0) FN(add_tail)(m, n, k, f, n % LANES, c);
        return;
    }
    int64_t left = (n + LANES - 1) / LANES, ragged = n % LANES != 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), column = (left - vectors) * LANES;
        left -= vectors;
        f.b = b + column;
        f.next = left > 0 ? f.b - panel_vectors(left) * LANES : f.a + m;
        f.ld_next = left > 0 ? ldb : lda;
        /* A ragged panel must not read again what it has spilt: all of k at once. */
        FN(panel_of)(vectors, m, k, ragged ? k : FN(steps_of)(k, vectors), f, 0, c + column, n);
        ragged = 0;
    }
}

static void FN(pack)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *b_, void *panels,
                     const fbp_half_kernels *half) {
    const real *b = b_;
    real *panel = panels;
    int64_t left = (n + LANES - 1) / LANES, column = 0;
    if (half != NULL) {
        pack_half(k, n, row, rows, b_, panels, half);
        return;
    }
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        int64_t filled = n - column < width ? n - column : width;
        FN(copy)(rows, filled, b + column, n, width, panel + row * width);
        panel += k * width;
        column += width;
        left -= vectors;
    }
}

static void FN(pack_transposed)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *w_,
                                void *panels, const fbp_half_kernels *half) {
    const real *w = w_;
    real *panel = panels;
    int64_t left = (n + LANES - 1) / LANES, column = 0;
    if (half != NULL) {
        pack_transposed_half(k, n, row, rows, w_, panels, half);
        return;
    }
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        int64_t begin = row > column ? row : column;
        int64_t end = row + rows < column + width ? row + rows : column + width;
        if (begin < end)
            FN(copy_transposed)(k, end - begin, w + (begin - row) * k, k, width,
                                panel + (begin - column));
        if (row + rows == n) /* with the last rows of w, the zeros after them */
            for (int64_t j = n - column; j < width; j++)
                for (int64_t p = 0; p < k; p++) panel[p * width + j] = (real)0;
        panel += k * width;
        column += width;
        left -= vectors;
    }
}

/* Each part of a panel is copied, or rounded, to where all rows of a pass it from the first cache.
 * What comes next is not asked for: it lies on as many pages as it has rows, and to look them up
 * took longer than to wait. */
static void FN(multiply_in_parts)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                                  const void *b_, int64_t ldb, int transposed, const void *bias_,
                                  const fbp_half_kernels *half, void *c_, int64_t ldc) {
    const real *b = b_, *bias = bias_;
    real *c = c_;
    _Alignas(64) real part[BLOCK_BYTES / sizeof(real)];
    real start[3 * VECTOR_BYTES / sizeof(real)];
    FN(factors) f = {.a_row = lda, .a_step = 1, .b = part, .next = part, .ld_next = 0};
    if (bias != NULL) f.start = start;
    int64_t left = (n + LANES - 1) / LANES, column = 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        int64_t filled = n - column < width ? n - column : width, most = FN(steps_of)(k, vectors);
        if (bias != NULL) FN(copy)(1, filled, bias + column, n, width, start);
        if (bias != NULL && half != NULL) half->round(width, (void *)start);
        if (transposed && filled < width) memset(part, 0, (size_t)(most * width) * sizeof(real));
        f.ldb = width;
        for (int64_t first = 0; first < k; first += most) {
            int64_t steps = k - first < most ? k - first : most;
            if (transposed)
                FN(copy_transposed)(steps, filled, b + column * ldb + first, ldb, width, part);
            else
                FN(copy)(steps, filled, b + first * ldb + column, ldb, width, part);
            if (half != NULL) half->round(steps * width, (void *)part);
            f.a = (const real *)a + first;
            FN(panel_of)(vectors, m, steps, steps, f, first > 0, c + column, ldc);
        }
        column += width;
        left -= vectors;
    }
}

#include "ops/patches.h"

static const fbp_gemm_kernels FN(kernels) = {3 * LANES,
                                             FN(pack),
                                             FN(pack_transposed),
                                             FN(multiply),
                                             FN(multiply_unpacked),
                                             FN(multiply_in_parts),
                                             FN(multiply_transposed),
                                             FN(pack_part),
                                             FN(multiply_patches),
                                             FN(add_patches)};

#undef LANES
#undef COLUMNS
#endif
