/* The product of stacks of matrices, as numpy.matmul's: (..., M, K) by (..., K, N), leading axes
 * broadcast. It holds which matrices meet, and how their products come to lie where rows are not
 * padded for the micro-kernel (gemm.c), which alone computes. Each element is one chain of fused
 * multiply-adds over the inner axis, in order. */
#include <string.h>

#include "core/node_run.h"
#include "ops/walk.h"

/* The kernels write whole vectors, or a dense result. What would overrun, or is to be added, goes
 * by way of scratch: pieces of so many rows and columns. */
enum { piece_rows = 256, piece_columns = 48 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* c (rows, columns) = or += a piece. */
static void store(const fbp_node *node, int64_t rows, int64_t columns, const void *piece,
                  int64_t ld_piece, int add, void *c, int64_t ldc) {
    for (int64_t r = 0; r < rows; r++) {
        const void *from = fbp_element(node->dtype, piece, r * ld_piece);
        void *to = fbp_element(node->dtype, c, r * ldc);
        if (add)
            node->vector->add_scaled(columns, 1.0, from, to);
        else
            memcpy(to, from, (size_t)columns * fbp_size(node->dtype));
    }
}

static void clear(const fbp_node *node, int64_t rows, int64_t columns, void *c, int64_t ldc) {
    for (int64_t r = 0; r < rows; r++)
        memset(fbp_element(node->dtype, c, r * ldc), 0, (size_t)columns * fbp_size(node->dtype));
}

typedef struct {
    const void *at;
    int64_t row_stride;
} matrix;

/* c (m, n) = or += a (m, k) b, where b is (k, n) or, transposed, (n, k). It writes the elements of
 * c alone. */
static void multiply(const fbp_node *node, int64_t m, int64_t n, int64_t k, matrix a, matrix b,
                     int transposed, int add, void *c, int64_t ldc, void *scratch) {
    const fbp_dtype dtype = node->dtype;
    if (k == 0 && !add) clear(node, m, n, c, ldc);
    if (m == 0 || n == 0 || k == 0) return;
    const int64_t whole = add ? 0 : n / fbp_pad(dtype) * fbp_pad(dtype);
    if (whole > 0)
        node->gemm->multiply_in_parts(m, whole, k, a.at, a.row_stride, b.at, b.row_stride,
                                      transposed, NULL, NULL, c, ldc);
    for (int64_t j = whole; j < n; j += piece_columns) {
        const int64_t columns = least(n - j, piece_columns);
        const void *part = fbp_element(dtype, b.at, transposed ? j * b.row_stride : j);
        for (int64_t i = 0; i < m; i += piece_rows) {
            const int64_t rows = least(m - i, piece_rows);
            node->gemm->multiply_in_parts(
                rows, columns, k, fbp_element(dtype, a.at, i * a.row_stride), a.row_stride, part,
                b.row_stride, transposed, NULL, NULL, scratch, piece_columns);
            store(node, rows, columns, scratch, piece_columns, add,
                  fbp_element(dtype, c, i * ldc + j), ldc);
        }
    }
}

/* c (m, n) = or += a^T b for a (k, m) and b (k, n). The kernel reads b in whole vectors: its last
 * columns from a copy, which zeros follow. */
static void multiply_transposed(const fbp_node *node, int64_t m, int64_t n, int64_t k, matrix a,
                                matrix b, int add, void *c, int64_t ldc, void *scratch) {
    const fbp_dtype dtype = node->dtype;
    const int64_t pad = fbp_pad(dtype), whole = n / pad * pad;
    if (k == 0 && !add) clear(node, m, n, c, ldc);
    if (m == 0 || n == 0 || k == 0) return;
    if (!add && whole == n && ldc == n) {
        node->gemm->multiply_transposed(m, n, k, a.at, a.row_stride, b.at, b.row_stride, 0, c);
        return;
    }
    void *last = fbp_element(dtype, scratch, piece_rows * piece_columns + pad); /* (k, pad) */
    if (whole < n) {
        memset(last, 0, (size_t)(k * pad) * fbp_size(dtype));
        store(node, k, n - whole, fbp_element(dtype, b.at, whole), b.row_stride, 0, last, pad);
    }
    for (int64_t j = 0; j < n;) {
        const int64_t columns = j < whole ? least(whole - j, piece_columns) : n - whole;
        const matrix part =
            j < whole ? (matrix){fbp_element(dtype, b.at, j), b.row_stride} : (matrix){last, pad};
        for (int64_t i = 0; i < m; i += piece_rows) {
            const int64_t rows = least(m - i, piece_rows);
            node->gemm->multiply_transposed(rows, columns, k, fbp_element(dtype, a.at, i),
                                            a.row_stride, part.at, part.row_stride, 0, scratch);
            store(node, rows, columns, scratch, columns, add, fbp_element(dtype, c, i * ldc + j),
                  ldc);
        }
        j += columns;
    }
}

static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    const fbp_shape *y = &node->out[0].is;
    (void)samples;
    int64_t pad = fbp_pad(node->dtype), k = y->shape[y->ndim - 2];
    return (size_t)(piece_rows * piece_columns + pad + k * pad) * fbp_size(node->dtype);
}

/* ---- which matrices meet ---- */

static int64_t axis_length(const fbp_shape *x, int from_last) {
    return from_last < x->ndim ? x->shape[x->ndim - 1 - from_last] : 1;
}

static fbp_status infer(fbp_node *node) {
    const fbp_shape *a = &node->in[0].is, *b = &node->in[1].is;
    fbp_shape *y = &node->out[0].is;
    int fits = a->ndim >= 2 && b->ndim >= 2 && axis_length(a, 0) == axis_length(b, 1);
    double products = 1.0;
    y->ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int i = 2; fits && i < y->ndim; i++) {
        int64_t of_a = axis_length(a, i), of_b = axis_length(b, i);
        fits = of_a == of_b || of_a == 1 || of_b == 1;
        y->shape[y->ndim - 1 - i] = of_a == 1 ? of_b : of_a;
        products *= (double)(of_a == 1 ? of_b : of_a);
    }
    if (!fits)
        return fbp_fail(FBP_INVALID,
                        "matmul: found a of shape %s and b of shape %s, wanted (..., m, k) and "
                        "(..., k, n) with leading axes that agree where neither is 1",
                        fbp_shape_words(a), fbp_shape_words(b));
    y->shape[y->ndim - 2] = axis_length(a, 1);
    y->shape[y->ndim - 1] = axis_length(b, 0);
    node->reads_in = 3u;
    node->flops[0] = 2.0 * products * (double)axis_length(a, 1) * (double)axis_length(a, 0) *
                     (double)axis_length(b, 0);
    node->flops[1] = 2.0 * node->flops[0];
    return FBP_OK;
}

static int64_t stride_of(const fbp_operand *x, int from_last) {
    int axis = x->is.ndim - 1 - from_last;
    return axis < 0 || x->is.shape[axis] == 1 ? 0 : x->strides[axis];
}

/* Over all products: a, b and the result are the arrays 0, 1 and 2. */
static walk products_of(const fbp_node *node, const fbp_operand *a, const fbp_operand *b,
                        int64_t samples) {
    const fbp_operand *y = &node->out[0];
    walk steps = {.n_axes = 0};
    if (y->is.batched)
        walk_axis(&steps, samples, a->sample_stride, b->sample_stride, y->sample_stride);
    for (int i = y->is.ndim - 1; i >= 2; i--)
        walk_axis(&steps, axis_length(&y->is, i), stride_of(a, i), stride_of(b, i),
                  y->strides[y->is.ndim - 1 - i]);
    walk_singly(&steps);
    return steps;
}

/* Whether several products meet the same matrix, so that its gradient is a sum. */
static int repeats(const walk *steps, int array) {
    int found = 0;
    for (int i = 0; i < steps->n_axes; i++)
        found |= steps->count[i] > 1 && steps->stride[i][array] == 0;
    return found;
}

/* ---- the op ---- */

static matrix at(const fbp_node *node, const void *base, int64_t element, const fbp_operand *x) {
    return (matrix){fbp_element(node->dtype, base, element), x->row_stride};
}

static void forward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *a = &node->in[0], *b = &node->in[1], *y = &node->out[0];
    walk steps = products_of(node, a, b, call->at.samples);
    walk_place place = {0};
    if (walk_is_empty(&steps)) return;
    do {
        multiply(node, axis_length(&y->is, 1), fbp_width(y), fbp_width(a),
                 at(node, call->at.x[0], place.at[0], a), at(node, call->at.x[1], place.at[1], b),
                 0, 0, fbp_element(node->dtype, call->at.y[0], place.at[2]), y->row_stride,
                 call->scratch);
    } while (walk_next(&steps, &place));
}

/* da = dy b^T and db = a^T dy, summed over the products that a matrix is part of. g lies as `to`
 * says: it is in[input], or a dense sum in its place. */
static void gradient(const fbp_node *node, const fbp_call *call, int input, const fbp_operand *to,
                     int add, void *g) {
    const fbp_operand *y = &node->out[0], *other = &node->in[!input];
    walk steps = input == 0 ? products_of(node, to, other, call->at.samples)
                            : products_of(node, other, to, call->at.samples);
    const int64_t m = axis_length(&to->is, 1), n = fbp_width(to);
    if (!add && (repeats(&steps, input) || walk_is_empty(&steps))) {
        clear(node, fbp_rows_of(to, call->at.samples), n, g, to->row_stride);
        add = 1;
    }
    if (walk_is_empty(&steps)) return;
    walk_place place = {0};
    do {
        matrix dy = at(node, call->at.dy[0], place.at[2], y);
        matrix factor = at(node, call->at.x[!input], place.at[!input], other);
        void *c = fbp_element(node->dtype, g, place.at[input]);
        if (input == 0)
            multiply(node, m, n, fbp_width(y), dy, factor, 1, add, c, to->row_stride,
                     call->scratch);
        else
            multiply_transposed(node, m, n, axis_length(&y->is, 1), factor, dy, add, c,
                                to->row_stride, call->scratch);
    } while (walk_next(&steps, &place));
}

static void backward(const fbp_node *node, const fbp_call *call) {
    for (int i = 0; i < 2; i++)
        if (call->at.dx[i] != NULL && !(node->shared & 1u << i))
            gradient(node, call, i, &node->in[i], 0, call->at.dx[i]);
}

static void backward_shared(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                            int64_t end, int add, void *g) {
    fbp_operand sum = node->in[input];
    (void)begin, (void)end; /* all rows */
    fbp_lay_out(&sum, fbp_width(&sum));
    gradient(node, call, input, &sum, add, g);
}

static const fbp_node_kernels matmul = {.forward = forward,
                                        .backward = backward,
                                        .backward_shared = backward_shared,
                                        .scratch_bytes = scratch_bytes};

static const char *const inputs[] = {"a", "b"};

static const fbp_row rows[] = {
    {.name = "matmul",
     .doc = "matrix products a b, for a (..., m, k) and b (..., k, n)",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .op = {2, 2, inputs, FBP_AXIS_SPANNED, .own_axes = 2},
     .infer = infer,
     .node = {&matmul, &matmul},
     .bilinear = 1},
};

extern const fbp_family FBP_FAMILY(matmul);
const fbp_family FBP_FAMILY(matmul) = {rows, sizeof rows / sizeof rows[0]};
