/* Layers: rows with parameters, as the plan runs them. A layer is an op and the activation that
 * follows it, both on one tile of rows while it is in cache. Its parameters are a dense matrix of
 * param_rows rows in the flat buffer, cut by rows into the tiles of the weights phase. */
#ifndef FBP_CORE_LAYER_H
#define FBP_CORE_LAYER_H

#include "core/kernels.h"

typedef struct {
    const fbp_row *op;
    const fbp_row *activation; /* NULL: none */
    double op_attrs[FBP_MAX_ATTRS], activation_attrs[FBP_MAX_ATTRS];
    int64_t n_in, n_out;
    int64_t ld_in, ld_out; /* leading dimensions of the tiles it reads and writes */
    int64_t offset;        /* of its parameters in the flat buffer, in elements */
    int64_t param_rows;    /* rows of its parameters: n_in of weights, then the bias */
    fbp_products products;
    int64_t columns; /* its products may be cut by output columns, at multiples of this */
    fbp_dtype dtype;
    const fbp_gemm_kernels *gemm;
    const fbp_vector_kernels *vector;
} fbp_layer;

/* One layer's parameters as a call sees them. The packed copies are made at the start of a call and
 * kept by the weights phase; none outlives the call. */
typedef struct {
    const void *params; /* (param_rows, n_out) */
    void *packed;       /* panels for forward, or NULL: forward reads params by BLAS or by rows */
    void *packed_t;     /* panels for the gradient of the input, or NULL */
    void *start;        /* what forward needs to read params as they lie, or NULL */
} fbp_weights;

/* The rows of samples that a sparse first layer reads in place of a tile. */
typedef struct {
    const fbp_samples *samples;
    int64_t first;         /* rows first, first + 1, ... of samples where index is NULL */
    const uint32_t *index; /* else rows index[0], index[1], ... */
} fbp_sparse_rows;

struct fbp_layer_kernels {
    /* Bytes that each packed copy takes; 0: none is needed. */
    void (*packed_bytes)(const fbp_layer *layer, size_t *packed, size_t *packed_t);
    /* Bytes that forward needs to read params as they lie, worth it for few rows; 0: it cannot. */
    size_t (*direct_bytes)(const fbp_layer *layer);
    /* Renews the packed copies of parameter rows [begin, end). */
    void (*pack)(const fbp_layer *layer, const fbp_weights *weights, int64_t begin, int64_t end);
    /* Columns [begin, end) of y (rows, ld_out) from x: (rows, ld_in), or an fbp_sparse_rows. begin
     * is a multiple of layer->columns, and end is fbp_piece_end() of it or of a later piece. */
    void (*forward)(const fbp_layer *layer, const fbp_weights *weights, int64_t rows, int64_t begin,
                    int64_t end, const void *x, void *y);
    /* Columns [begin, end), cut likewise, of dx (rows, ld_in) from dy (rows, ld_out): dx = dy w^T.
     * NULL: nothing can lie before it. */
    void (*backward_input)(const fbp_layer *layer, const fbp_weights *weights, int64_t rows,
                           int64_t begin, int64_t end, const void *dy, void *dx);
    /* g (end - begin, n_out), dense, (+)= the gradient of parameter rows [begin, end), over all
     * rows of the batch: x^T dy, and the sum of dy for the bias. */
    void (*backward_params)(const fbp_layer *layer, int64_t begin, int64_t end, int64_t rows,
                            const void *x, const void *dy, int add, void *g);
    /* Tangents along tx (NULL: none), tdy and the tangent of the parameters, whose packed copies
     * are in tweights: of forward, of backward_input and, added to tg (param_rows, n_out), of
     * backward_params. scratch is as large as the result. NULL: the row has none. */
    void (*forward_tangent)(const fbp_layer *layer, const fbp_weights *weights,
                            const fbp_weights *tweights, int64_t rows, const void *x,
                            const void *tx, void *ty, void *scratch);
    void (*backward_input_tangent)(const fbp_layer *layer, const fbp_weights *weights,
                                   const fbp_weights *tweights, int64_t rows, const void *dy,
                                   const void *tdy, void *tdx, void *scratch);
    void (*backward_params_tangent)(const fbp_layer *layer, int64_t rows, const void *x,
                                    const void *tx, const void *dy, const void *tdy, void *tg);
};

/* A product n columns wide is cut into pieces of layer->columns, the last of which may be a third
 * wider: so no sliver is left, and pieces begin where panels do. */
static inline int64_t fbp_piece_end(const fbp_layer *layer, int64_t begin, int64_t n) {
    int64_t columns = layer->columns;
    return n - begin <= columns + columns / 3 ? n : begin + columns;
}
static inline int64_t fbp_column_pieces(const fbp_layer *layer, int64_t n) {
    int64_t left = n - layer->columns / 3;
    return left <= layer->columns ? 1 : fbp_pieces(left, layer->columns);
}

static inline const fbp_layer_kernels *fbp_layer_ops(const fbp_layer *layer) {
    return layer->op->kernels[layer->dtype];
}

static inline const fbp_activation_kernels *fbp_layer_activation(const fbp_layer *layer) {
    return layer->activation == NULL ? NULL : layer->activation->kernels[layer->dtype];
}

/* Row-major products through BLAS, for layers too wide for our own kernels (core/blas.c). */
void fbp_blas_multiply(fbp_dtype dtype, int transpose_a, int transpose_b, int64_t m, int64_t n,
                       int64_t k, const void *a, int64_t lda, const void *b, int64_t ldb,
                       double beta, void *c, int64_t ldc);
int fbp_blas_present(fbp_dtype dtype);

#endif
