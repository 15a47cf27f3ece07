/* The linear layer, y = x w + b, for dense samples and, as first layer, for CSR samples.
 *
 * The weights (n_in, n_out) and under them the bias (n_out) are one matrix of n_in + 1 rows: the
 * bias is the weight of an input that is always one. The tiles that a layer reads carry that one in
 * column n_in, so the bias needs no code of its own in backward. */
#include <string.h>

#include "core/layer.h"

static size_t row_bytes(const fbp_layer *layer, int64_t columns) {
    return (size_t)columns * fbp_size(layer->dtype);
}

static const void *bias_of(const fbp_layer *layer, const fbp_weights *weights) {
    return fbp_element(layer->dtype, weights->params, layer->n_in * layer->n_out);
}

static void linear_packed_bytes(const fbp_layer *layer, size_t *packed, size_t *packed_t) {
    size_t size = fbp_size(layer->dtype);
    *packed = (size_t)fbp_packed_size(layer->dtype, layer->n_in + 1, layer->n_out) * size;
    *packed_t = (size_t)fbp_packed_size(layer->dtype, layer->n_out, layer->n_in) * size;
}

/* The bias, padded to whole vectors. Reading the weights overruns their last row by less than a
 * vector: as far as the bias reaches, unless it is shorter. */
static size_t linear_direct_bytes(const fbp_layer *layer) {
    int64_t padded = fbp_round_up(layer->n_out, fbp_pad(layer->dtype));
    return padded - layer->n_out > layer->n_out ? 0 : (size_t)padded * fbp_size(layer->dtype);
}

static void linear_pack(const fbp_layer *layer, const fbp_weights *weights, int64_t begin,
                        int64_t end) {
    const void *rows = fbp_element(layer->dtype, weights->params, begin * layer->n_out);
    if (weights->start != NULL) {
        if (end > layer->n_in)
            memcpy(weights->start, bias_of(layer, weights), row_bytes(layer, layer->n_out));
        return;
    }
    if (weights->packed != NULL)
        layer->gemm->pack(layer->n_in + 1, layer->n_out, begin, end - begin, rows, weights->packed);
    if (weights->packed_t != NULL) {
        int64_t end_w = end < layer->n_in ? end : layer->n_in; /* the bias is not part of w^T */
        if (begin < end_w)
            layer->gemm->pack_transposed(layer->n_out, layer->n_in, begin, end_w - begin, rows,
                                         weights->packed_t);
    }
}

static void linear_forward(const fbp_layer *layer, const fbp_weights *weights, int64_t rows,
                           int64_t begin, int64_t end, const void *x, void *y) {
    fbp_dtype dtype = layer->dtype;
    if (weights->start != NULL) { /* predict, which cuts no columns */
        layer->gemm->multiply_unpacked(rows, layer->n_out, layer->n_in, x, layer->ld_in,
                                       weights->params, weights->start, y, layer->ld_out);
        return;
    }
    if (weights->packed != NULL) {
        const void *panels = fbp_element(dtype, weights->packed, begin * (layer->n_in + 1));
        layer->gemm->multiply(rows, end - begin, layer->n_in, x, layer->ld_in, panels,
                              FBP_BIAS_START, fbp_element(dtype, y, begin), layer->ld_out);
        return;
    }
    const void *bias = fbp_element(dtype, bias_of(layer, weights), begin);
    if (layer->products == FBP_IN_PARTS) {
        layer->gemm->multiply_in_parts(rows, end - begin, layer->n_in, x, layer->ld_in,
                                       fbp_element(dtype, weights->params, begin), layer->n_out, 0,
                                       bias, fbp_element(dtype, y, begin), layer->ld_out);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        memcpy(fbp_element(dtype, y, r * layer->ld_out + begin), bias,
               row_bytes(layer, end - begin));
    for (int64_t next; begin < end; begin = next) { /* another cut, other bits */
        next = fbp_piece_end(layer, begin, layer->n_out);
        fbp_blas_multiply(dtype, 0, 0, rows, next - begin, layer->n_in, x, layer->ld_in,
                          fbp_element(dtype, weights->params, begin), layer->n_out, 1.0,
                          fbp_element(dtype, y, begin), layer->ld_out);
    }
}

/* dx = dy w^T, dw = x^T dy, db = sum of dy over the rows.
 * (Rumelhart, Hinton and Williams, Nature 323, 1986.) */

static void linear_backward_input(const fbp_layer *layer, const fbp_weights *weights, int64_t rows,
                                  int64_t begin, int64_t end, const void *dy, void *dx) {
    fbp_dtype dtype = layer->dtype;
    if (weights->packed_t != NULL) {
        const void *panels = fbp_element(dtype, weights->packed_t, begin * layer->n_out);
        layer->gemm->multiply(rows, end - begin, layer->n_out, dy, layer->ld_out, panels,
                              FBP_BIAS_NONE, fbp_element(dtype, dx, begin), layer->ld_in);
        return;
    }
    if (layer->products == FBP_IN_PARTS) {
        const void *from = fbp_element(dtype, weights->params, begin * layer->n_out);
        layer->gemm->multiply_in_parts(rows, end - begin, layer->n_out, dy, layer->ld_out, from,
                                       layer->n_out, 1, NULL, fbp_element(dtype, dx, begin),
                                       layer->ld_in);
        return;
    }
    for (int64_t next; begin < end; begin = next) {
        next = fbp_piece_end(layer, begin, layer->n_in);
        fbp_blas_multiply(dtype, 0, 1, rows, next - begin, layer->n_out, dy, layer->ld_out,
                          fbp_element(dtype, weights->params, begin * layer->n_out), layer->n_out,
                          0.0, fbp_element(dtype, dx, begin), layer->ld_in);
    }
}

static void linear_backward_params(const fbp_layer *layer, int64_t begin, int64_t end, int64_t rows,
                                   const void *x, const void *dy, int add, void *g) {
    const void *columns = fbp_element(layer->dtype, x, begin);
    if (layer->products == FBP_BLAS)
        fbp_blas_multiply(layer->dtype, 1, 0, end - begin, layer->n_out, rows, columns,
                          layer->ld_in, dy, layer->ld_out, add ? 1.0 : 0.0, g, layer->n_out);
    else if (layer->n_out ==
             1) /* the column lies like a row, and x fills the lanes: whole ones, as */
        /* tiles are cut, or to the padding of x */
        layer->gemm->multiply_transposed(1, end - begin, rows, dy, layer->ld_out, columns,
                                         layer->ld_in, add, g);
    else
        layer->gemm->multiply_transposed(end - begin, layer->n_out, rows, columns, layer->ld_in, dy,
                                         layer->ld_out, add, g);
}

/* The layer is linear in x and in w, so each tangent is the function itself applied to a tangent,
 * once for each of the two. Tangents always run on our own kernels. */

static void linear_forward_tangent(const fbp_layer *layer, const fbp_weights *weights,
                                   const fbp_weights *tweights, int64_t rows, const void *x,
                                   const void *tx, void *ty, void *scratch) {
    linear_forward(layer, tweights, rows, 0, layer->n_out, x, ty);
    if (tx == NULL) return;
    layer->gemm->multiply(rows, layer->n_out, layer->n_in, tx, layer->ld_in, weights->packed,
                          FBP_BIAS_SKIP, scratch, layer->ld_out);
    layer->vector->add_scaled(rows * layer->ld_out, 1.0, scratch, ty);
}

static void linear_backward_input_tangent(const fbp_layer *layer, const fbp_weights *weights,
                                          const fbp_weights *tweights, int64_t rows, const void *dy,
                                          const void *tdy, void *tdx, void *scratch) {
    linear_backward_input(layer, weights, rows, 0, layer->n_in, tdy, tdx);
    linear_backward_input(layer, tweights, rows, 0, layer->n_in, dy, scratch);
    layer->vector->add_scaled(rows * layer->ld_in, 1.0, scratch, tdx);
}

static void linear_backward_params_tangent(const fbp_layer *layer, int64_t rows, const void *x,
                                           const void *tx, const void *dy, const void *tdy,
                                           void *tg) {
    layer->gemm->multiply_transposed(layer->param_rows, layer->n_out, rows, x, layer->ld_in, tdy,
                                     layer->ld_out, 1, tg);
    if (tx != NULL)
        layer->gemm->multiply_transposed(layer->param_rows, layer->n_out, rows, tx, layer->ld_in,
                                         dy, layer->ld_out, 1, tg);
}

/* CSR samples: forward and backward walk the stored values; no packed copy would help. */

static void sparse_packed_bytes(const fbp_layer *layer, size_t *packed, size_t *packed_t) {
    (void)layer;
    *packed = *packed_t = 0;
}

static size_t sparse_direct_bytes(const fbp_layer *layer) {
    (void)layer;
    return 0;
}

static void sparse_pack(const fbp_layer *layer, const fbp_weights *weights, int64_t begin,
                        int64_t end) {
    (void)layer, (void)weights, (void)begin, (void)end;
}

static void sparse_forward(const fbp_layer *layer, const fbp_weights *weights, int64_t rows,
                           int64_t begin, int64_t end, const void *x, void *y) {
    const fbp_sparse_rows *sparse = x;
    (void)begin, (void)end; /* all columns: a piece of them would read all stored values too */
    layer->vector->csr_multiply(rows, layer->n_out, layer->n_in, sparse->samples, sparse->first,
                                sparse->index, weights->params, y, layer->ld_out);
}

static void sparse_backward_params(const fbp_layer *layer, int64_t begin, int64_t end, int64_t rows,
                                   const void *x, const void *dy, int add, void *g) {
    const fbp_sparse_rows *sparse = x;
    if (!add) memset(g, 0, (size_t)((end - begin) * layer->n_out) * fbp_size(layer->dtype));
    layer->vector->csr_multiply_transposed(rows, layer->n_out, layer->n_in, sparse->samples,
                                           sparse->first, sparse->index, dy, layer->ld_out, begin,
                                           end, g);
}

/* Samples have no tangent here: a derivative by the entries of a sparse matrix has no use yet. */
static void sparse_forward_tangent(const fbp_layer *layer, const fbp_weights *weights,
                                   const fbp_weights *tweights, int64_t rows, const void *x,
                                   const void *tx, void *ty, void *scratch) {
    (void)weights, (void)tx, (void)scratch;
    sparse_forward(layer, tweights, rows, 0, layer->n_out, x, ty);
}

static void sparse_backward_params_tangent(const fbp_layer *layer, int64_t rows, const void *x,
                                           const void *tx, const void *dy, const void *tdy,
                                           void *tg) {
    (void)tx, (void)dy;
    sparse_backward_params(layer, 0, layer->param_rows, rows, x, tdy, 1, tg);
}

static const fbp_layer_kernels linear = {
    linear_packed_bytes,    linear_direct_bytes,           linear_pack,
    linear_forward,         linear_backward_input,         linear_backward_params,
    linear_forward_tangent, linear_backward_input_tangent, linear_backward_params_tangent};

static const fbp_layer_kernels linear_csr = {sparse_packed_bytes,
                                             sparse_direct_bytes,
                                             sparse_pack,
                                             sparse_forward,
                                             NULL,
                                             sparse_backward_params,
                                             sparse_forward_tangent,
                                             NULL,
                                             sparse_backward_params_tangent};

static const fbp_row rows[] = {
    {.name = "linear",
     .doc = "x w + b, with w (n_in, n_out) and b (n_out)",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .sparse_form = "linear_csr",
     .kernels = {&linear, &linear}},
    {.name = "linear_csr",
     .doc = "x w + b for samples x in compressed sparse rows; a first layer",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .reads_sparse = 1,
     .kernels = {&linear_csr, &linear_csr}},
};

extern const fbp_family FBP_FAMILY(op);
const fbp_family FBP_FAMILY(op) = {rows, 2};
