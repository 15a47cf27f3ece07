/* The linear layer, y = x w + b, for dense samples and, as first layer, for CSR samples.
 *
 * The bias is the weight of an input that is always one: rows of x are followed by that one, so the
 * gradient of the bias is one more row of the product that forms that of the weights. */
#include <string.h>

#include "core/node.h"

static size_t bytes_of(const fbp_node *node, int64_t elements) {
    return (size_t)elements * fbp_size(node->dtype);
}

static int64_t n_in(const fbp_node *node) { return fbp_width(&node->in[0]); }
static int64_t n_out(const fbp_node *node) { return fbp_width(&node->out[0]); }
static int64_t rows_of(const fbp_node *node, const fbp_call *call) {
    return fbp_rows_of(&node->out[0], call->at.samples);
}

/* ---- shapes ---- */

static const char *const inputs[] = {"x", "w", "b"};

static fbp_status linear_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is, *w = &node->in[1].is, *b = &node->in[2].is;
    int64_t columns = fbp_width(&node->in[0]), outputs = fbp_width(&node->in[1]);
    if (x->ndim < 1 || w->ndim != 2 || w->batched || w->shape[0] != columns || columns < 1 ||
        outputs < 1)
        return fbp_fail(FBP_INVALID,
                        "linear: found x of shape %s and w of shape %s, wanted w of shape "
                        "(features of x, outputs)",
                        fbp_shape_words(x), fbp_shape_words(w));
    if (node->n_in == 3 && (b->ndim != 1 || b->batched || b->shape[0] != outputs))
        return fbp_fail(FBP_INVALID, "linear: found b of shape %s, wanted (%lld,) as w is %s",
                        fbp_shape_words(b), (long long)outputs, fbp_shape_words(w));
    fbp_like_first(node);
    node->out[0].is.content = FBP_REAL;
    node->out[0].is.shape[x->ndim - 1] = outputs;
    node->reads_in = 3u;
    node->flops[0] = 2.0 * (double)fbp_elements(&node->in[0]) * (double)outputs;
    node->flops[1] = 2.0 * node->flops[0];
    return FBP_OK;
}

/* ---- copies of the weights ---- */

static void linear_packed_sizes(const fbp_node *node, int64_t *packed, int64_t *packed_t) {
    int bias = node->n_in == 3;
    *packed = fbp_packed_size(node->dtype, n_in(node) + bias, n_out(node));
    *packed_t = fbp_packed_size(node->dtype, n_out(node), n_in(node));
}

/* The bias, padded to whole vectors. Reading the weights overruns their last row by less than a
 * vector. */
static size_t linear_direct_bytes(const fbp_node *node, int64_t behind) {
    int64_t padded = fbp_round_up(n_out(node), fbp_pad(node->dtype));
    int can = padded - n_out(node) <= behind && node->n_in == 3;
    return can ? bytes_of(node, padded) : 0;
}

/* Panels of a copy from column `begin` on, k rows each. */
static inline const void *panels_from(const fbp_node *node, const fbp_weights *weights,
                                      const void *packed, int64_t k, int64_t begin) {
    if (weights->half != NULL) return (const uint16_t *)packed + begin * k;
    return fbp_element(node->dtype, packed, begin * k);
}

static void linear_pack(const fbp_node *node, const fbp_weights *weights, int64_t begin,
                        int64_t end) {
    int64_t bias = node->n_in == 3, columns = n_out(node), k = n_in(node);
    int64_t end_w = end < k ? end : k;
    const void *rows = fbp_element(node->dtype, weights->params, begin * columns);
    const fbp_half_kernels *half = weights->half;
    if (weights->start != NULL) {
        if (end > k) memcpy(weights->start, weights->bias, bytes_of(node, columns));
        return;
    }
    if (weights->packed != NULL) {
        if (begin < end_w)
            node->gemm->pack(k + bias, columns, begin, end_w - begin, rows, weights->packed, half);
        if (end > k)
            node->gemm->pack(k + bias, columns, k, 1, weights->bias, weights->packed, half);
    }
    if (weights->packed_t != NULL && begin < end_w) /* the bias is not part of w^T */
        node->gemm->pack_transposed(columns, k, begin, end_w - begin, rows, weights->packed_t,
                                    half);
}

/* ---- dense samples ---- */

/* Where products are BLAS's, another cut would give other bits: rows are taken from the first of a
 * call on, or of a sample that has many, and columns as plans cut them. */
enum { blas_rows = 512 };

static void forward_by_blas(const fbp_node *node, const fbp_call *call, const void *bias) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    int64_t rows = rows_of(node, call), in_turn = fbp_positions(x) > 1 ? fbp_positions(x) : rows;
    for (int64_t r = 0; r < rows; r++) {
        void *to = fbp_element(node->dtype, call->at.y[0], r * y->row_stride + call->begin);
        if (bias != NULL)
            memcpy(to, fbp_element(node->dtype, bias, call->begin),
                   bytes_of(node, call->end - call->begin));
    }
    for (int64_t first = 0, count; first < rows; first += count) {
        int64_t left = in_turn - first % in_turn;
        count = left < blas_rows ? left : blas_rows;
        for (int64_t begin = call->begin, next; begin < call->end; begin = next) {
            next = fbp_piece_end(node, begin, n_out(node));
            fbp_blas_multiply(
                node->dtype, 0, 0, count, next - begin, n_in(node),
                fbp_element(node->dtype, call->at.x[0], first * x->row_stride), x->row_stride,
                fbp_element(node->dtype, call->at.x[1], begin), n_out(node),
                bias == NULL ? 0.0 : 1.0,
                fbp_element(node->dtype, call->at.y[0], first * y->row_stride + begin),
                y->row_stride);
        }
    }
}

static void linear_forward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    const fbp_weights *weights = call->weights;
    fbp_dtype dtype = node->dtype;
    int64_t rows = rows_of(node, call), k = n_in(node), columns = n_out(node);
    if (rows == 0) return;
    const void *bias = node->n_in == 3 ? call->at.x[2] : NULL;
    if (weights != NULL && weights->start != NULL) { /* predict, which cuts no columns */
        node->gemm->multiply_unpacked(rows, columns, k, call->at.x[0], x->row_stride, call->at.x[1],
                                      weights->start, call->at.y[0], y->row_stride);
        return;
    }
    int64_t begin = weights == NULL ? 0 : call->begin, end = weights == NULL ? columns : call->end;
    void *to = fbp_element(dtype, call->at.y[0], begin);
    if (weights != NULL && weights->packed != NULL) {
        fbp_bias start = node->n_in < 3 ? FBP_BIAS_NONE : bias ? FBP_BIAS_START : FBP_BIAS_SKIP;
        const void *panels =
            panels_from(node, weights, weights->packed, k + (node->n_in == 3), begin);
        node->gemm->multiply(rows, end - begin, k, call->at.x[0], x->row_stride, panels,
                             weights->half, start, to, y->row_stride);
    } else if (weights != NULL && node->products == FBP_BLAS) {
        forward_by_blas(node, call, bias);
    } else {
        const void *from = bias == NULL ? NULL : fbp_element(dtype, bias, begin);
        node->gemm->multiply_in_parts(rows, end - begin, k, call->at.x[0], x->row_stride,
                                      fbp_element(dtype, call->at.x[1], begin), columns, 0, from,
                                      call->half, to, y->row_stride);
    }
}

/* dx = dy w^T, dw = x^T dy, db = sum of dy over the rows.
 * (Rumelhart, Hinton and Williams, Nature 323, 1986.) */

static void input_gradient_by_blas(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    int64_t rows = rows_of(node, call), in_turn = fbp_positions(x) > 1 ? fbp_positions(x) : rows;
    for (int64_t first = 0, count; first < rows; first += count) {
        int64_t left = in_turn - first % in_turn;
        count = left < blas_rows ? left : blas_rows;
        for (int64_t begin = call->begin, next; begin < call->end; begin = next) {
            next = fbp_piece_end(node, begin, n_in(node));
            fbp_blas_multiply(
                node->dtype, 0, 1, count, next - begin, n_out(node),
                fbp_element(node->dtype, call->at.dy[0], first * y->row_stride), y->row_stride,
                fbp_element(node->dtype, call->at.x[1], begin * n_out(node)), n_out(node), 0.0,
                fbp_element(node->dtype, call->at.dx[0], first * x->row_stride + begin),
                x->row_stride);
        }
    }
}

static void input_gradient(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    const fbp_weights *weights = call->weights;
    fbp_dtype dtype = node->dtype;
    int64_t rows = rows_of(node, call), columns = n_out(node);
    if (rows == 0) return;
    int64_t begin = weights == NULL ? 0 : call->begin;
    int64_t end = weights == NULL ? n_in(node) : call->end;
    void *to = fbp_element(dtype, call->at.dx[0], begin);
    if (weights != NULL && weights->packed_t != NULL)
        node->gemm->multiply(rows, end - begin, columns, call->at.dy[0], y->row_stride,
                             panels_from(node, weights, weights->packed_t, columns, begin),
                             weights->half, FBP_BIAS_NONE, to, x->row_stride);
    else if (weights != NULL && node->products == FBP_BLAS)
        input_gradient_by_blas(node, call);
    else
        node->gemm->multiply_in_parts(rows, end - begin, columns, call->at.dy[0], y->row_stride,
                                      fbp_element(dtype, call->at.x[1], begin * columns), columns,
                                      1, NULL, call->half, to, x->row_stride);
}

static void linear_backward_shared(const fbp_node *node, const fbp_call *call, int input,
                                   int64_t begin, int64_t end, int add, void *g) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    int64_t rows = rows_of(node, call), first = begin + (input == 2 ? n_in(node) : 0);
    const void *columns = fbp_element(node->dtype, call->at.x[0], first), *dy = call->at.dy[0];
    if (rows == 0) { /* a product is of at least one */
        if (!add) memset(g, 0, bytes_of(node, (end - begin) * n_out(node)));
        return;
    }
    if (node->products == FBP_BLAS && call->weights != NULL)
        fbp_blas_multiply(node->dtype, 1, 0, end - begin, n_out(node), rows, columns, x->row_stride,
                          dy, y->row_stride, add ? 1.0 : 0.0, g, n_out(node));
    else if (n_out(node) ==
             1) /* the column lies like a row, and x fills the lanes: whole ones, as */
        /* tiles are cut, or to the padding of x */
        node->gemm->multiply_transposed(1, end - begin, rows, dy, y->row_stride, columns,
                                        x->row_stride, add, g);
    else
        node->gemm->multiply_transposed(end - begin, n_out(node), rows, columns, x->row_stride, dy,
                                        y->row_stride, add, g);
}

static void linear_backward(const fbp_node *node, const fbp_call *call) {
    if (call->at.dx[0] != NULL) input_gradient(node, call);
    for (int i = 1; i < node->n_in; i++) { /* of a node without samples */
        if (call->at.dx[i] == NULL || node->shared >> i & 1u) continue;
        const fbp_operand *w = &node->in[i];
        memset(call->at.dx[i], 0, bytes_of(node, fbp_elements(w)));
        linear_backward_shared(node, call, i, 0, fbp_positions(w), 1, call->at.dx[i]);
    }
}

/* ---- CSR samples: forward and backward walk the stored values; no packed copy would help ---- */

static const fbp_sparse_rows *sparse_of(const fbp_call *call) { return call->at.x[0]; }

static void sparse_forward(const fbp_node *node, const fbp_call *call) {
    const fbp_sparse_rows *x = sparse_of(call);
    node->vector->csr_multiply(call->at.samples, n_out(node), x->samples, x->first, x->index,
                               call->at.x[1], call->at.x[2], call->at.y[0],
                               node->out[0].row_stride);
}

static void sparse_backward_shared(const fbp_node *node, const fbp_call *call, int input,
                                   int64_t begin, int64_t end, int add, void *g) {
    const fbp_sparse_rows *x = sparse_of(call);
    int64_t first = begin + (input == 2 ? n_in(node) : 0);
    if (!add) memset(g, 0, bytes_of(node, (end - begin) * n_out(node)));
    node->vector->csr_multiply_transposed(call->at.samples, n_out(node), n_in(node), x->samples,
                                          x->first, x->index, call->at.dy[0],
                                          node->out[0].row_stride, first, first + end - begin, g);
}

static const fbp_node_kernels linear = {.forward = linear_forward,
                                        .backward = linear_backward,
                                        .backward_shared = linear_backward_shared,
                                        .packed_sizes = linear_packed_sizes,
                                        .direct_bytes = linear_direct_bytes,
                                        .pack = linear_pack};

static const fbp_node_kernels linear_csr = {.forward = sparse_forward,
                                            .backward_shared = sparse_backward_shared};

static const fbp_row rows[] = {
    {.name = "linear",
     .doc = "x w + b, with w (n_in, n_out) and b (n_out)",
     .kind = FBP_OP,
     .sparse_form = "linear_csr",
     .op = {2, 3, inputs, FBP_AXIS_DATA, .data = 1u},
     .infer = linear_infer,
     .node = {&linear, &linear},
     .bilinear = 1,
     .divisible = 1,
     .padded = 1u,
     .padded_results = 1,
     .ones = 1u,
     .zero_padding = FBP_ZEROS_ALWAYS,
     .bias_follows = 1,
     .columns_apart = 1},
    {.name = "linear_csr",
     .doc = "x w + b for samples x in compressed sparse rows; a first layer",
     .kind = FBP_OP,
     .reads_sparse = 1,
     .op = {2, 3, inputs, FBP_AXIS_DATA, .data = 1u},
     .infer = linear_infer,
     .node = {&linear_csr, &linear_csr},
     .bilinear = 1,
     .divisible = 1,
     .padded_results = 1,
     .bias_follows = 1},
};

extern const fbp_family FBP_FAMILY(op);
const fbp_family FBP_FAMILY(op) = {rows, 2};
