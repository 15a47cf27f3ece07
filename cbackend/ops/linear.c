/* The linear layer, y = x w + b, for dense samples and, as first layer, for CSR samples.
 *
 * The weights (n_in, n_out) and under them the bias (n_out) are one matrix of n_in + 1 rows: the
 * bias is the weight of an input that is always one. The tiles that a layer reads carry that one in
 * column n_in, so the bias needs no code of its own in backward. */
#include <string.h>

#include "core/layer.h"
#include "core/node.h"

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

/* ---- as a node: inputs x (..., n_in), w (n_in, n_out) and, if there is one, b (n_out) ---- */

static const char *const inputs[] = {"x", "w", "b"};

static fbp_status node_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is, *w = &node->in[1].is, *b = &node->in[2].is;
    int64_t n_in = fbp_width(&node->in[0]), n_out = fbp_width(&node->in[1]);
    if (x->ndim < 1 || w->ndim != 2 || w->batched || w->shape[0] != n_in || n_in < 1 || n_out < 1)
        return fbp_fail(FBP_INVALID,
                        "linear: found x of shape %s and w of shape %s, wanted w of shape "
                        "(features of x, outputs)",
                        fbp_shape_words(x), fbp_shape_words(w));
    if (node->n_in == 3 && (b->ndim != 1 || b->batched || b->shape[0] != n_out))
        return fbp_fail(FBP_INVALID, "linear: found b of shape %s, wanted (%lld,) as w is %s",
                        fbp_shape_words(b), (long long)n_out, fbp_shape_words(w));
    fbp_like_first(node);
    node->out[0].is.shape[x->ndim - 1] = n_out;
    node->reads_in = 3u;
    node->flops[0] = 2.0 * (double)fbp_elements(&node->in[0]) * (double)n_out;
    node->flops[1] = 2.0 * node->flops[0];
    return FBP_OK;
}

static void node_forward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    const void *bias = node->n_in == 3 ? call->at.x[2] : NULL;
    node->gemm->multiply_in_parts(fbp_rows_of(x, call->at.samples), fbp_width(y), fbp_width(x),
                                  call->at.x[0], x->row_stride, call->at.x[1], fbp_width(y), 0,
                                  bias, call->at.y[0], y->row_stride);
}

static void node_input_gradient(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    node->gemm->multiply_in_parts(fbp_rows_of(x, call->at.samples), fbp_width(x), fbp_width(y),
                                  call->at.dy[0], y->row_stride, call->at.x[1], fbp_width(y), 1,
                                  NULL, call->at.dx[0], x->row_stride);
}

/* The bias is the weight of the one that follows each row of x. */
static void node_shared_gradient(const fbp_node *node, const fbp_call *call, int input,
                                 int64_t begin, int64_t end, int add, void *g) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    int64_t column = input == 2 ? fbp_width(x) : 0;
    node->gemm->multiply_transposed(end - begin, fbp_width(y), fbp_rows_of(x, call->at.samples),
                                    fbp_element(node->dtype, call->at.x[0], begin + column),
                                    x->row_stride, call->at.dy[0], y->row_stride, add, g);
}

static void node_backward(const fbp_node *node, const fbp_call *call) {
    if (call->at.dx[0] != NULL) node_input_gradient(node, call);
    for (int i = 1; i < node->n_in; i++) { /* of a node without samples */
        if (call->at.dx[i] == NULL || node->shared & 1u << i) continue;
        const fbp_operand *w = &node->in[i];
        memset(call->at.dx[i], 0, (size_t)fbp_elements(w) * fbp_size(node->dtype));
        node_shared_gradient(node, call, i, 0, fbp_positions(w), 1, call->at.dx[i]);
    }
}

static const fbp_node_kernels node = {
    .forward = node_forward, .backward = node_backward, .backward_shared = node_shared_gradient};

static const fbp_row rows[] = {
    {.name = "linear",
     .doc = "x w + b, with w (n_in, n_out) and b (n_out)",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .sparse_form = "linear_csr",
     .kernels = {&linear, &linear},
     .op = {2, 3, inputs, FBP_AXIS_DATA, 1u},
     .infer = node_infer,
     .node = {&node, &node},
     .bilinear = 1,
     .divisible = 1,
     .padded = 1u,
     .padded_results = 1},
    {.name = "linear_csr",
     .doc = "x w + b for samples x in compressed sparse rows; a first layer",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .reads_sparse = 1,
     .kernels = {&linear_csr, &linear_csr}},
};

extern const fbp_family FBP_FAMILY(op);
const fbp_family FBP_FAMILY(op) = {rows, 2};
