/* Panels of 16 bits, in which mixed plans keep copies of weights: half of what a step reads of
 * them.
 * A part of a panel at a time is widened to where all rows of a pass it from the first cache; so a
 * product has the bits of one with panels of 32 bits that are rounded alike. Part of gemm.c. */

/* Rows of a panel from `columns` columns of b, and zeros after them. */
static void narrow_rows(const fbp_half_kernels *half, int64_t rows, int64_t columns, const float *b,
                        int64_t ldb, int64_t width, uint16_t *panel) {
    for (int64_t r = 0; r < rows; r++) {
        uint16_t *to = panel + r * width;
        half->narrow(columns, b + r * ldb, to);
        for (int64_t j = columns; j < width; j++) to[j] = 0;
    }
}

static void pack_half(int64_t k, int64_t n, int64_t row, int64_t rows, const float *b,
                      uint16_t *panels, const fbp_half_kernels *half) {
    int64_t left = fbp_pieces(n, LANES), column = 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        int64_t filled = n - column < width ? n - column : width;
        narrow_rows(half, rows, filled, b + column, n, width, panels + row * width);
        panels += k * width;
        column += width;
        left -= vectors;
    }
}

/* Columns [begin, end) of a panel from as many rows of w: those of a part in full width first. */
static void narrow_transposed(const fbp_half_kernels *half, int64_t k, int64_t begin, int64_t end,
                              const float *w, int64_t width, uint16_t *panel) {
    _Alignas(64) float part[BLOCK_BYTES / sizeof(float)];
    int64_t most = steps_of_f32(k, width / LANES);
    for (int64_t first = 0; first < k; first += most) {
        int64_t steps = k - first < most ? k - first : most;
        copy_transposed_f32(steps, end - begin, w + first, k, width, part);
        if (end - begin == width)
            half->narrow(steps * width, part, panel + first * width);
        else
            for (int64_t p = 0; p < steps; p++)
                half->narrow(end - begin, part + p * width, panel + (first + p) * width + begin);
    }
}

static void pack_transposed_half(int64_t k, int64_t n, int64_t row, int64_t rows, const float *w,
                                 uint16_t *panels, const fbp_half_kernels *half) {
    int64_t left = fbp_pieces(n, LANES), column = 0;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), width = vectors * LANES;
        int64_t begin = row > column ? row : column;
        int64_t end = row + rows < column + width ? row + rows : column + width;
        if (begin < end)
            narrow_transposed(half, k, begin - column, end - column, w + (begin - row) * k, width,
                              panels);
        if (row + rows == n) /* with the last rows of w, the zeros after them */
            for (int64_t p = 0; p < k; p++)
                for (int64_t j = n - column; j < width; j++) panels[p * width + j] = 0;
        panels += k * width;
        column += width;
        left -= vectors;
    }
}

/* While the rows of a work on one part, the next of the panels is asked for. */
static void multiply_half(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                          const uint16_t *panels, const fbp_half_kernels *half, fbp_bias bias,
                          float *c, int64_t ldc) {
    _Alignas(64) float part[BLOCK_BYTES / sizeof(float)];
    float start[3 * VECTOR_BYTES / sizeof(float)];
    factors_f32 f = {.a_row = lda, .a_step = 1, .b = part};
    int64_t left = fbp_pieces(n, LANES);
    if (bias == FBP_BIAS_START) f.start = start;
    while (left > 0) {
        int64_t vectors = panel_vectors(left), most = steps_of_f32(k, vectors);
        f.ldb = vectors * LANES;
        f.ld_next = f.ldb / 2; /* of floats, as far as a row of 16 bits */
        if (bias == FBP_BIAS_START) half->load(f.ldb, panels + k * f.ldb, start);
        for (int64_t first = 0; first < k; first += most) {
            int64_t steps = k - first < most ? k - first : most;
            half->load(steps * f.ldb, panels + first * f.ldb, part);
            f.a = a + first;
            f.next = (const void *)(panels + (first + steps) * f.ldb);
            panel_of_f32(vectors, m, steps, steps, f, first > 0, c, ldc);
        }
        panels += (k + (bias != FBP_BIAS_NONE)) * f.ldb;
        c += f.ldb;
        left -= vectors;
    }
}
