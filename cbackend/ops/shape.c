/* The family of ops that give the elements of their input another order or number of axes: reshape,
 * transpose and broadcast. It holds no arithmetic but the sums of gradients. */
#include "ops/move.h"

/* The result's shape, as an attribute gives it. */
static const fbp_shape *take_shape(fbp_node *node, int attr) {
    fbp_shape *y = &node->out[0].is;
    y->batched = node->in[0].is.batched;
    y->ndim = fbp_count(node, attr);
    for (int i = 0; i < y->ndim; i++) y->shape[i] = fbp_whole(node, attr, i);
    return y;
}

/* ---- reshape ---- */

static fbp_status reshape_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is, *y = take_shape(node, 0);
    double elements = 1.0;
    for (int i = 0; i < y->ndim; i++) elements *= (double)y->shape[i];
    if (elements == (double)fbp_elements(&node->in[0])) return FBP_OK;
    return fbp_fail(FBP_INVALID,
                    "reshape: found x of shape %s, which has %lld elements, and shape %s, "
                    "which has %.15g",
                    fbp_shape_words(x), (long long)fbp_elements(&node->in[0]), fbp_shape_words(y),
                    elements);
}

/* Rows of one array become rows of another, of another width: elements in their order. Dense rows
 * are one long row. */
static void repack(fbp_dtype dtype, int64_t n, const void *from, const fbp_operand *x, void *to,
                   const fbp_operand *y) {
    const size_t size = fbp_size(dtype);
    const int64_t x_width = x->row_stride == fbp_width(x) ? n : fbp_width(x);
    const int64_t y_width = y->row_stride == fbp_width(y) ? n : fbp_width(y);
    const char *source = from;
    char *target = to;
    int64_t i = 0, j = 0; /* columns */
    while (n > 0) {
        int64_t run = x_width - i < y_width - j ? x_width - i : y_width - j;
        memcpy(target, source, (size_t)run * size);
        i += run;
        j += run;
        n -= run;
        if (n == 0) return;
        int64_t skip_x = i == x_width ? x->row_stride - x_width : 0;
        int64_t skip_y = j == y_width ? y->row_stride - y_width : 0;
        source += (size_t)(run + skip_x) * size;
        target += (size_t)(run + skip_y) * size;
        if (i == x_width) i = 0;
        if (j == y_width) j = 0;
    }
}

static int64_t all_elements(const fbp_operand *x, const fbp_call *call) {
    return fbp_rows_of(x, call->at.samples) * fbp_width(x);
}

static void reshape_forward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    repack(node->dtype, all_elements(x, call), call->at.x[0], x, call->at.y[0], y);
}

/* dx = dy, in the shape of x. */
static void reshape_backward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    repack(node->dtype, all_elements(x, call), call->at.dy[0], y, call->at.dx[0], x);
}

static const fbp_node_kernels reshape_kernels = {.forward = reshape_forward,
                                                 .backward = reshape_backward};

/* ---- transpose: geometry holds which axis of x each axis of the result is ---- */

static fbp_status transpose_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    fbp_shape *y = &node->out[0].is;
    fbp_status status = check_count(node, 0);
    if (status != FBP_OK) return status;
    unsigned seen = 0;
    y->batched = x->batched;
    y->ndim = x->ndim;
    for (int i = 0; i < x->ndim; i++) {
        int axis = fbp_axis_of(node, 0, i, x);
        if (axis < 0) return FBP_INVALID;
        if (seen & 1u << axis)
            return fbp_fail(FBP_INVALID, "axes of transpose: found %lld, wanted each axis once",
                            (long long)fbp_whole(node, 0, i));
        seen |= 1u << axis;
        y->shape[i] = x->shape[axis];
        node->geometry[i] = axis;
    }
    return FBP_OK;
}

static void transpose_relate(const fbp_node *node, int input, const fbp_operand *x, relation *to) {
    const fbp_operand *y = &node->out[0];
    (void)input;
    for (int i = 0; i < y->is.ndim; i++)
        walk_axis(&to->steps, y->is.shape[i], x->strides[node->geometry[i]], y->strides[i], 0);
}

static void transpose_forward(const fbp_node *node, const fbp_call *call) {
    place(node, transpose_relate, call->at.samples, call->at.x, call->at.y[0]);
}

/* dx = dy, with the axes back in their order. */
static void transpose_backward(const fbp_node *node, const fbp_call *call) {
    fetch(node, transpose_relate, call->at.samples, call->at.dy[0], call->at.dx);
}

static const fbp_node_kernels transpose_kernels = {.forward = transpose_forward,
                                                   .backward = transpose_backward};

/* ---- broadcast ---- */

static fbp_status broadcast_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is, *y = take_shape(node, 0);
    int more = y->ndim - x->ndim, fits = more >= 0;
    for (int i = 0; fits && i < x->ndim; i++)
        fits = x->shape[i] == 1 || x->shape[i] == y->shape[more + i];
    node->flops[1] = 1.0;
    for (int i = 0; i < y->ndim; i++) node->flops[1] *= (double)y->shape[i];
    if (fits) return FBP_OK;
    return fbp_fail(FBP_INVALID,
                    "broadcast: found x of shape %s and shape %s, wanted one that has, counted "
                    "from the last, the axes of x where they are not 1",
                    fbp_shape_words(x), fbp_shape_words(y));
}

static void broadcast_relate(const fbp_node *node, int input, const fbp_operand *x, relation *to) {
    const fbp_operand *y = &node->out[0];
    (void)input;
    for (int i = 0; i < y->is.ndim; i++) {
        int axis = i - (y->is.ndim - x->is.ndim);
        int64_t stride = axis < 0 || x->is.shape[axis] == 1 ? 0 : x->strides[axis];
        walk_axis(&to->steps, y->is.shape[i], stride, y->strides[i], 0);
    }
}

static void broadcast_forward(const fbp_node *node, const fbp_call *call) {
    place(node, broadcast_relate, call->at.samples, call->at.x, call->at.y[0]);
}

/* dx = the sum of dy over where x went. */
static void broadcast_backward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0];
    relation r = relation_of(broadcast_relate, node, 0, x, call->at.samples);
    walk_turn(&r.steps);
    fill(node->dtype, x, call->at.samples, 0.0, call->at.dx[0]);
    add(node->dtype, r.steps, call->at.dy[0], 0, call->at.dx[0], 0);
}

static const fbp_node_kernels broadcast_kernels = {.forward = broadcast_forward,
                                                   .backward = broadcast_backward};

static const fbp_row rows[] = {
    MOVE(reshape, "the elements of x in their order, in another shape", 1,
         LIST("shape", 0, "of the result")),
    MOVE(transpose, "x with its axes in another order", 1,
         LIST("axes", -FBP_MAX_DIMS, "of x, in the order of the result")),
    MOVE(broadcast, "x repeated along axes where it has one element, or none", 1,
         LIST("shape", 0, "of the result")),
};

extern const fbp_family FBP_FAMILY(shape);
const fbp_family FBP_FAMILY(shape) = {rows, sizeof rows / sizeof rows[0]};
