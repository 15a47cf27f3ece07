/* Products whose left operand is patches: rows that overlap in memory, each with an address of its
 * own, of elements that lie in runs. The patches of an image are never formed. A template that
 * gemm.c includes, for its vectors and its flags; it holds nothing that knows of images. */

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

/* One block: rows mr, vectors nv, both constants once inlined. With `add` the chains start at c. */
FBP_INLINE void FN(patch_block)(const int mr, const int nv, const int add,
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
                const real factor = row[i][at];
                UNROLL for (int j = 0; j < nv; j++) acc[i][j] += factor * columns[j];
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

/* All m rows of one panel, in blocks as even as can be: one row alone is bound by the latency of
 * its chain, and takes as long as many. */
FBP_INLINE void FN(patch_panel)(const int most, const int nv, const int add, int64_t m,
                                const fbp_patches *patches, const real *a, FN(patch_factors) f) {
    const int64_t *rows = patches->rows;
    int64_t blocks = fbp_pieces(m, most);
    for (int64_t left = m; blocks > 0; blocks--) {
        int64_t mr = fbp_pieces(left, blocks);
        switch (mr) {
#define BLOCK(mr_)                                                                                 \
    case mr_:                                                                                      \
        if (mr_ <= most) FN(patch_block)(mr_, nv, add, patches, a, rows, f);                       \
        break;
            BLOCK(1)
            BLOCK(2)
            BLOCK(3)
            BLOCK(4)
            BLOCK(5)
            BLOCK(6)
            BLOCK(7)
            BLOCK(8)
            BLOCK(9)
#undef BLOCK
        default:
            break;
        }
        rows += mr;
        if (add)
            f.c += mr * f.ldc;
        else
            f.out += mr;
        left -= mr;
    }
}

FBP_INLINE void FN(patch_panel_of)(int64_t vectors, const int add, int64_t m,
                                   const fbp_patches *patches, const real *a, FN(patch_factors) f) {
    if (vectors == 1)
        FN(patch_panel)(PATCH_ROWS_1, 1, add, m, patches, a, f);
    else if (vectors == 2)
        FN(patch_panel)(PATCH_ROWS_2, 2, add, m, patches, a, f);
    else
        FN(patch_panel)(PATCH_ROWS_3, 3, add, m, patches, a, f);
}

static void FN(multiply_patches)(int64_t m, int64_t n, const fbp_patches *patches, const void *a,
                                 const void *panels, fbp_bias bias, const int64_t *out, void *c) {
    int64_t k = patches->n_runs * patches->length, column = 0;
    FN(patch_factors) f = {.b = panels, .out = out};
    while (column < n) {
        int64_t vectors = panel_vectors(fbp_pieces(n - column, LANES)), width = vectors * LANES;
        f.ldb = width;
        f.start = bias == FBP_BIAS_START ? f.b + k * width : NULL;
        f.c = (real *)c + column;
        f.columns = n - column < width ? n - column : width;
        FN(patch_panel_of)(vectors, 0, m, patches, a, f);
        f.b += (k + (bias != FBP_BIAS_NONE)) * width;
        column += width;
    }
}

static void FN(add_patches)(int64_t m, int64_t n, const fbp_patches *patches, const void *a,
                            const void *b, int64_t ldb, void *c, int64_t ldc) {
    FN(patch_factors) f = {.b = b, .ldb = ldb, .c = c, .ldc = ldc};
    for (int64_t column = 0; column < n;) {
        int64_t vectors = panel_vectors(fbp_pieces(n - column, LANES)), width = vectors * LANES;
        f.columns = width;
        FN(patch_panel_of)(vectors, 1, m, patches, a, f);
        f.b += width;
        f.c += width;
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
