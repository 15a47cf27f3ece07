/* Products whose left operand is patches: rows that overlap in memory, each with an address of its
 * own, of elements that lie in runs. The patches of an image are never formed. A template that
 * gemm.c includes, for its vectors and its flags; it holds nothing that knows of images. */

/* Rows of a block for 1, 2 and 3 vectors a row, where each has an address of its own, of which the
 * processor keeps 9 at hand. Kernels of 3 by 3 have multiples of 9 elements. */
#define PATCH_ROWS_1 9
#define PATCH_ROWS_2 (REGISTERS == 32 ? 9 : 6)
#define PATCH_ROWS_3 (REGISTERS == 32 ? 9 : 4)

/* What a block of the product reads and writes. */
typedef struct {
    const real *b; /* element (p, j): b[p * ldb + j] */
    int64_t ldb;
    const real *start;  /* where the chains start, a value for each column; NULL: at 0 */
    real *c;            /* (rows, columns), whole vectors where it is added to */
    const int64_t *out; /* row i of c begins at c[out[i]], */
    int64_t ldc;        /* or, where that is NULL, at c[i * ldc] */
    int64_t columns;
} FN(patch_factors);

/* One block: rows mr, vectors nv, both constants once inlined, as are `add`, with which the chains
 * start at c, and `apart`, which is for one vector. */
FBP_INLINE void FN(patch_block)(const int mr, const int nv, const int add, const int apart,
                                const fbp_patches *patches, const real *a, const int64_t *rows,
                                FN(patch_factors) f) {
    FN(vec) acc[9][3];
    const real *row[9];
    UNROLL for (int i = 0; i < mr; i++) {
        row[i] = a + rows[i];
        UNROLL for (int j = 0; j < nv; j++) {
            if (add)
                acc[i][j] = *(const FN(vec) *)(f.c + i * f.ldc + j * LANES);
            else if (f.start != NULL)
                acc[i][j] = *(const FN(vec) *)(f.start + j * LANES);
            else
                acc[i][j] = (FN(vec)){0};
        }
    }
    for (int64_t u = 0; u < patches->n_runs; u++) {
        int64_t at = patches->runs[u];
        for (int64_t v = 0; v < patches->length; v++) {
            FN(vec) columns[3];
            UNROLL for (int j = 0; j < nv; j++) columns[j] = *(const FN(vec) *)(f.b + j * LANES);
            UNROLL for (int i = 0; i < mr; i++) {
                if (apart) {
                    acc[i][0] += *(const FN(vec) *)(row[i] + at) * columns[0];
                } else {
                    const real factor = row[i][at];
                    UNROLL for (int j = 0; j < nv; j++) acc[i][j] += factor * columns[j];
                }
            }
            at += patches->step;
            f.b += f.ldb;
        }
    }
    UNROLL for (int i = 0; i < mr; i++) {
        real *c = add ? f.c + i * f.ldc : f.c + f.out[i];
        if (f.columns == nv * LANES) {
            UNROLL for (int j = 0; j < nv; j++) * (FN(vec) *)(c + j * LANES) = acc[i][j];
        } else {
            real whole[3 * VECTOR_BYTES / sizeof(real)];
            UNROLL for (int j = 0; j < nv; j++) * (FN(vec) *)(whole + j * LANES) = acc[i][j];
            memcpy(c, whole, (size_t)f.columns * sizeof(real));
        }
    }
}

/* Blocks of as many rows each. The blocks of a height are a function of their own, called through a
 * table: inlined into one, they would crowd each other's addresses out of the registers. Heights
 * beyond PATCH_ROWS, which nobody asks for, leave no code. */
typedef void FN(patch_function)(int64_t blocks, const fbp_patches *patches, const real *a,
                                const int64_t *rows, FN(patch_factors) f);

#define BLOCK(name, mr, nv, add, apart)                                                            \
    static void FN(name##_##mr)(int64_t blocks, const fbp_patches *patches, const real *a,         \
                                const int64_t *rows, FN(patch_factors) f) {                        \
        for (; mr <= PATCH_ROWS_##nv && blocks > 0; blocks--) {                                    \
            FN(patch_block)(mr, nv, add, apart, patches, a, rows, f);                              \
            rows += mr;                                                                            \
            if (add)                                                                               \
                f.c += mr * f.ldc;                                                                 \
            else                                                                                   \
                f.out += mr;                                                                       \
        }                                                                                          \
    }
#define BLOCKS(name, nv, add, apart)                                                               \
    BLOCK(name, 1, nv, add, apart)                                                                 \
    BLOCK(name, 2, nv, add, apart)                                                                 \
    BLOCK(name, 3, nv, add, apart)                                                                 \
    BLOCK(name, 4, nv, add, apart)                                                                 \
    BLOCK(name, 5, nv, add, apart)                                                                 \
    BLOCK(name, 6, nv, add, apart)                                                                 \
    BLOCK(name, 7, nv, add, apart)                                                                 \
    BLOCK(name, 8, nv, add, apart)                                                                 \
    BLOCK(name, 9, nv, add, apart)                                                                 \
    static FN(patch_function) *const FN(name)[] = {                                                \
        NULL,         FN(name##_1), FN(name##_2), FN(name##_3), FN(name##_4),                      \
        FN(name##_5), FN(name##_6), FN(name##_7), FN(name##_8), FN(name##_9),                      \
    };
BLOCKS(patch_1, 1, 0, 0)
BLOCKS(patch_2, 2, 0, 0)
BLOCKS(patch_3, 3, 0, 0)
BLOCKS(patch_apart, 1, 0, 1)
BLOCKS(patch_add_1, 1, 1, 0)
BLOCKS(patch_add_2, 2, 1, 0)
BLOCKS(patch_add_3, 3, 1, 0)
BLOCKS(patch_add_apart, 1, 1, 1)
#undef BLOCKS
#undef BLOCK

static FN(patch_function) *const *const FN(patch_functions)[2][4] = {
    {FN(patch_apart), FN(patch_1), FN(patch_2), FN(patch_3)},
    {FN(patch_add_apart), FN(patch_add_1), FN(patch_add_2), FN(patch_add_3)},
};

/* All m rows of one panel, in blocks as even as can be: one row alone is bound by the latency of
 * its chain, and takes as long as many. */
static void FN(patch_panel)(int add, int64_t vectors, int64_t m, const fbp_patches *patches,
                            const real *a, FN(patch_factors) f) {
    static const int64_t most[] = {PATCH_ROWS_1, PATCH_ROWS_1, PATCH_ROWS_2, PATCH_ROWS_3};
    FN(patch_function) *const *functions = FN(patch_functions)[add][vectors];
    int64_t blocks = fbp_pieces(m, most[vectors]), height = m / blocks, taller = m % blocks;
    const int64_t first = taller * (height + 1);
    if (taller > 0) functions[height + 1](taller, patches, a, patches->rows, f);
    if (add)
        f.c += first * f.ldc;
    else
        f.out += first;
    functions[height](blocks - taller, patches, a, patches->rows + first, f);
}

/* Columns that are apart share no element of a: nothing is gained by more vectors at a time. */
static void FN(patch_columns)(int add, int64_t vectors, int64_t m, const fbp_patches *patches,
                              const real *a, FN(patch_factors) f) {
    if (!patches->apart) {
        FN(patch_panel)(add, vectors, m, patches, a, f);
        return;
    }
    for (int64_t left = f.columns; left > 0; left -= LANES) {
        f.columns = left < LANES ? left : LANES;
        FN(patch_panel)(add, 0, m, patches, a, f);
        a += LANES;
        f.b += LANES;
        f.c += LANES;
        if (f.start != NULL) f.start += LANES;
    }
}

static void FN(multiply_patches)(int64_t m, int64_t n, const fbp_patches *patches, const void *a_,
                                 const void *panels, fbp_bias bias, const int64_t *out, void *c) {
    const real *a = a_;
    int64_t k = patches->n_runs * patches->length, column = 0;
    FN(patch_factors) f = {.b = panels, .out = out};
    while (column < n) {
        int64_t vectors = panel_vectors(fbp_pieces(n - column, LANES)), width = vectors * LANES;
        f.ldb = width;
        f.start = bias == FBP_BIAS_START ? f.b + k * width : NULL;
        f.c = (real *)c + column;
        f.columns = n - column < width ? n - column : width;
        FN(patch_columns)(0, vectors, m, patches, a, f);
        f.b += (k + (bias != FBP_BIAS_NONE)) * width;
        if (patches->apart) a += width;
        column += width;
    }
}

static void FN(add_patches)(int64_t m, int64_t n, const fbp_patches *patches, const void *a_,
                            const void *b, int64_t ldb, void *c, int64_t ldc) {
    const real *a = a_;
    FN(patch_factors) f = {.b = b, .ldb = ldb, .c = c, .ldc = ldc};
    for (int64_t column = 0; column < n;) {
        int64_t vectors = panel_vectors(fbp_pieces(n - column, LANES)), width = vectors * LANES;
        f.columns = width;
        FN(patch_columns)(1, vectors, m, patches, a, f);
        f.b += width;
        f.c += width;
        if (patches->apart) a += width;
        column += width;
    }
}

static void FN(pack_part)(int64_t k, int64_t n, int64_t row, int64_t rows, const void *b_,
                          int64_t ldb, int transposed, void *panels) {
    const real *b = b_;
    real *panel = panels;
    for (int64_t column = 0; column < n;) {
        int64_t width = panel_vectors(fbp_pieces(n - column, LANES)) * LANES;
        int64_t filled = n - column < width ? n - column : width;
        real *to = panel + row * width;
        if (transposed) {
            if (filled < width) memset(to, 0, (size_t)(rows * width) * sizeof(real));
            FN(copy_transposed)(rows, filled, b + column * ldb, ldb, width, to);
        } else {
            FN(copy)(rows, filled, b + column, ldb, width, to);
        }
        panel += k * width;
        column += width;
    }
}

#undef PATCH_ROWS_1
#undef PATCH_ROWS_2
#undef PATCH_ROWS_3
