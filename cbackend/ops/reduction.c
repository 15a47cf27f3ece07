/* The family of reductions along axes: sum, mean, max, min and logsumexp, as sweeps over their
 * input (core/broadcast.h) that add up to where the result is broadcast to. It holds the nodes;
 * what is done to elements that lie one after the other is in ops/reduction.h. */
#include <math.h>
#include <string.h>

#include "ops/reduction.h"

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/reductions.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/reduction.h"
#include "math/expand.h"

static const kernels *kernels_of(const fbp_node *node) { return node->row->kernels[node->dtype]; }

/* ---- shapes ---- */

enum { AXES, KEEPDIMS };          /* attributes */
enum { REDUCED, COUNT, EXTREME }; /* geometry: a bit an axis; elements of a sum; 0 max, 1 min */

static int is_reduced(const fbp_node *node, int axis) {
    return (int)(node->geometry[REDUCED] >> axis & 1);
}

static fbp_status take_axes(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    int given = fbp_count(node, AXES);
    if (given == 0) node->geometry[REDUCED] = (1 << x->ndim) - 1;
    for (int i = 0; i < given; i++) {
        int axis = fbp_axis_of(node, AXES, i, x);
        if (axis < 0) return FBP_INVALID;
        if (is_reduced(node, axis))
            return fbp_fail(FBP_INVALID, "axes of %s: found axis %d twice, wanted each once",
                            node->row->name, axis);
        node->geometry[REDUCED] |= (int64_t)1 << axis;
    }
    return FBP_OK;
}

static fbp_status infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    fbp_shape *y = &node->out[0].is;
    if (x->content != FBP_REAL)
        return fbp_fail(FBP_INVALID, "%s: found integers as x, wanted reals", node->row->name);
    fbp_status status = take_axes(node);
    if (status != FBP_OK) return status;
    node->geometry[COUNT] = 1;
    for (int i = 0; i < x->ndim; i++) {
        if (is_reduced(node, i)) node->geometry[COUNT] *= x->shape[i];
        if (!is_reduced(node, i) || fbp_whole(node, KEEPDIMS, 0))
            y->shape[y->ndim++] = is_reduced(node, i) ? 1 : x->shape[i];
    }
    node->flops[0] = node->row->flops * (double)fbp_elements(&node->in[0]);
    node->flops[1] = node->flops[0];
    return FBP_OK;
}

static fbp_status reading_infer(fbp_node *node) {
    node->reads_in = node->reads_out = 1u;
    return infer(node);
}

static fbp_status extreme_infer(fbp_node *node) {
    fbp_status status = reading_infer(node);
    if (status != FBP_OK || node->geometry[COUNT] > 0) return status;
    return fbp_fail(FBP_INVALID, "%s: found no elements along axes of x of shape %s, wanted some",
                    node->row->name, fbp_shape_words(&node->in[0].is));
}

static fbp_status min_infer(fbp_node *node) {
    node->geometry[EXTREME] = 1;
    return extreme_infer(node);
}

/* ---- sweeps ---- */

/* The result with all axes of x, of length 1 where it is reduced. */
static fbp_operand kept(const fbp_node *node) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    fbp_operand z = *y;
    z.is.ndim = x->is.ndim;
    int axis = 0, keepdims = y->is.ndim == x->is.ndim;
    for (int i = 0; i < x->is.ndim; i++) {
        int reduced = is_reduced(node, i);
        z.is.shape[i] = reduced ? 1 : x->is.shape[i];
        z.strides[i] = reduced && !keepdims ? 0 : y->strides[axis];
        if (!reduced || keepdims) axis++;
    }
    return z;
}

/* The same, one element after the other: for numbers worked out on the way. */
static fbp_operand kept_dense(const fbp_node *node) {
    fbp_operand z = kept(node);
    return fbp_dense(&z);
}

static void start(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call,
                  fbp_elements_fn *function) {
    fbp_sweep_start(sweep, node, &node->in[0], call->at.samples, function);
}

static void read_x(fbp_sweep *sweep, const fbp_node *node, const void *x) {
    fbp_sweep_read(sweep, &node->in[0], x);
}

static void read_y(fbp_sweep *sweep, const fbp_node *node, const void *y) {
    fbp_operand z = kept(node);
    fbp_sweep_read(sweep, &z, y);
}

static int64_t rows_of_result(const fbp_node *node, const fbp_call *call) {
    return fbp_rows_of(&node->out[0], call->at.samples);
}

static void *row_of(const fbp_node *node, void *y, int64_t row) {
    return fbp_element(node->dtype, y, row * node->out[0].row_stride);
}

/* Scratch holds twice as many doubles as the result has elements, in its order: the sums, and what
 * follows them. */
static int64_t elements(const fbp_node *node, int64_t samples) {
    return fbp_rows_of(&node->out[0], samples) * fbp_width(&node->out[0]);
}

static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    return (size_t)(2 * elements(node, samples)) * sizeof(double);
}

static double *sums_of(const fbp_call *call) { return call->scratch; }

static double *after_sums(const fbp_node *node, const fbp_call *call) {
    return sums_of(call) + elements(node, call->at.samples);
}

static void add_up(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call, double *sums) {
    fbp_operand z = kept_dense(node);
    memset(sums, 0, (size_t)elements(node, call->at.samples) * sizeof(double));
    fbp_sweep_add(sweep, &z, sums, &kernels_of(node)->sum);
}

/* y = the sums over other sums, or over a number. */
static void store(const fbp_node *node, const fbp_call *call, const double *over,
                  const double *under, double factor, void *y) {
    int64_t width = fbp_width(&node->out[0]);
    for (int64_t r = 0; r < rows_of_result(node, call); r++)
        kernels_of(node)->quotient(width, over + r * width, under ? under + r * width : NULL,
                                   factor, row_of(node, y, r));
}

/* ---- sum and mean: dx = dy, or dy over the number of elements ---- */

static void store_sum(const fbp_node *node, const fbp_call *call, double factor) {
    fbp_sweep sweep;
    start(&sweep, node, call, kernels_of(node)->itself);
    read_x(&sweep, node, call->at.x[0]);
    add_up(&sweep, node, call, sums_of(call));
    store(node, call, sums_of(call), NULL, factor, call->at.y[0]);
}

static void spread(const fbp_node *node, const fbp_call *call, fbp_elements_fn *function) {
    fbp_sweep sweep;
    const double count = (double)node->geometry[COUNT];
    start(&sweep, node, call, function);
    sweep.numbers = &count;
    read_y(&sweep, node, call->at.dy[0]);
    fbp_sweep_write(&sweep, &node->in[0], call->at.dx[0]);
}

static void sum_forward(const fbp_node *node, const fbp_call *call) { store_sum(node, call, 1.0); }

static void sum_backward(const fbp_node *node, const fbp_call *call) {
    spread(node, call, kernels_of(node)->itself);
}

static void mean_forward(const fbp_node *node, const fbp_call *call) {
    store_sum(node, call, (double)node->geometry[COUNT]);
}

static void mean_backward(const fbp_node *node, const fbp_call *call) {
    spread(node, call, kernels_of(node)->divided);
}

static const fbp_node_kernels sum = {
    .forward = sum_forward, .backward = sum_backward, .scratch_bytes = scratch_bytes};

static const fbp_node_kernels mean = {
    .forward = mean_forward, .backward = mean_backward, .scratch_bytes = scratch_bytes};

/* ---- max and min: dx = dy / n for each of the n elements that equal the result ---- */

static void find_extreme(const fbp_node *node, const fbp_call *call) {
    const int64_t which = node->geometry[EXTREME];
    fbp_sweep sweep;
    for (int64_t r = 0; r < rows_of_result(node, call); r++)
        kernels_of(node)->fill(fbp_width(&node->out[0]),
                               which ? (double)INFINITY : -(double)INFINITY,
                               row_of(node, call->at.y[0], r));
    start(&sweep, node, call, kernels_of(node)->itself);
    read_x(&sweep, node, call->at.x[0]);
    fbp_operand z = kept(node);
    fbp_sweep_add(&sweep, &z, call->at.y[0], &kernels_of(node)->extreme[which]);
}

static void start_at_result(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call,
                            fbp_elements_fn *function) {
    start(sweep, node, call, function);
    read_x(sweep, node, call->at.x[0]);
    read_y(sweep, node, call->at.y[0]);
}

static void count_extremes(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    start_at_result(&sweep, node, call, kernels_of(node)->is_extreme);
    add_up(&sweep, node, call, sums_of(call));
}

static void extreme_gradient(const fbp_node *node, const fbp_call *call, const void *dy, void *dx) {
    const int64_t width = fbp_width(&node->out[0]);
    void *share = after_sums(node, call);
    count_extremes(node, call);
    for (int64_t r = 0; r < rows_of_result(node, call); r++)
        kernels_of(node)->split(width, fbp_element(node->dtype, dy, r * node->out[0].row_stride),
                                sums_of(call) + r * width,
                                fbp_element(node->dtype, share, r * width));
    fbp_sweep sweep;
    start_at_result(&sweep, node, call, kernels_of(node)->extreme_part);
    fbp_operand z = kept_dense(node);
    fbp_sweep_read(&sweep, &z, share);
    fbp_sweep_write(&sweep, &node->in[0], dx);
}

static void extreme_backward(const fbp_node *node, const fbp_call *call) {
    extreme_gradient(node, call, call->at.dy[0], call->at.dx[0]);
}

/* ty = the mean of tx over the elements that equal the result. */
static void extreme_tangent(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    count_extremes(node, call);
    start_at_result(&sweep, node, call, kernels_of(node)->extreme_part);
    read_x(&sweep, node, call->at.tx[0]);
    add_up(&sweep, node, call, after_sums(node, call));
    store(node, call, after_sums(node, call), sums_of(call), 1.0, call->at.ty[0]);
}

/* Where x moves a little, the same elements are extreme. */
static void extreme_backward_tangent(const fbp_node *node, const fbp_call *call) {
    extreme_gradient(node, call, call->at.tdy[0], call->at.tdx[0]);
}

static const fbp_node_kernels extreme = {.forward = find_extreme,
                                         .backward = extreme_backward,
                                         .tangent = extreme_tangent,
                                         .backward_tangent = extreme_backward_tangent,
                                         .scratch_bytes = scratch_bytes};

/* ---- logsumexp: dx = dy softmax(x), with softmax(x) = exp(x - y) ---- */

static void logsumexp_forward(const fbp_node *node, const fbp_call *call) {
    const int64_t width = fbp_width(&node->out[0]);
    fbp_sweep sweep;
    find_extreme(node, call);
    start_at_result(&sweep, node, call, kernels_of(node)->exp_below);
    add_up(&sweep, node, call, sums_of(call));
    for (int64_t r = 0; r < rows_of_result(node, call); r++)
        kernels_of(node)->add_log(width, sums_of(call) + r * width, row_of(node, call->at.y[0], r));
}

static void logsumexp_backward(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    start_at_result(&sweep, node, call, kernels_of(node)->soft_part);
    read_y(&sweep, node, call->at.dy[0]);
    fbp_sweep_write(&sweep, &node->in[0], call->at.dx[0]);
}

static void logsumexp_tangent(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    start_at_result(&sweep, node, call, kernels_of(node)->soft_part);
    read_x(&sweep, node, call->at.tx[0]);
    add_up(&sweep, node, call, sums_of(call));
    store(node, call, sums_of(call), NULL, 1.0, call->at.ty[0]);
}

/* tdx = softmax(x) (tdy + dy (tx - ty)). */
static void logsumexp_backward_tangent(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    start_at_result(&sweep, node, call, kernels_of(node)->soft_part_tangent);
    read_y(&sweep, node, call->at.dy[0]);
    read_x(&sweep, node, call->at.tx[0]);
    read_y(&sweep, node, call->at.tdy[0]);
    read_y(&sweep, node, call->at.ty[0]);
    fbp_sweep_write(&sweep, &node->in[0], call->at.tdx[0]);
}

static const fbp_node_kernels logsumexp = {.forward = logsumexp_forward,
                                           .backward = logsumexp_backward,
                                           .tangent = logsumexp_tangent,
                                           .backward_tangent = logsumexp_backward_tangent,
                                           .scratch_bytes = scratch_bytes};

/* ---- rows ---- */

static const char *const inputs[] = {"x"};

#define REDUCTION(name_, doc_, flops_, reads_, infer_, node_)                                      \
    {                                                                                              \
        .name = #name_, .doc = doc_, .kind = FBP_OP, .n_attrs = 2,                                 \
        .attrs =                                                                                   \
            {{.name = "axes",                                                                      \
              .fallback = NAN,                                                                     \
              .low = -FBP_MAX_DIMS,                                                                \
              .high = FBP_MAX_DIMS - 1,                                                            \
              .doc = "axes that are reduced; all where none is given",                             \
              .whole = 1,                                                                          \
              .most = FBP_MAX_DIMS},                                                               \
             {.name = "keepdims", .high = 1, .doc = "1: they remain, with length 1", .whole = 1}}, \
        .reads = FBP_READS_##reads_, .flops = flops_, .kernels = {&kernels_f32, &kernels_f64},     \
        .op = {1, 1, inputs, FBP_AXIS_NONE, .data = 0}, .infer = infer_, .node = {&node_, &node_}  \
    }

static const fbp_row rows[] = {
    REDUCTION(sum, "the sum along axes", 1, NOTHING, infer, sum),
    REDUCTION(mean, "the mean along axes", 1, NOTHING, infer, mean),
    REDUCTION(max, "the largest along axes; equal ones share the gradient", 1, INPUT, extreme_infer,
              extreme),
    REDUCTION(min, "the smallest along axes; equal ones share the gradient", 1, INPUT, min_infer,
              extreme),
    REDUCTION(logsumexp, "log of the sum of exp(x) along axes; minus infinity of nothing", 20,
              INPUT, reading_infer, logsumexp),
};

extern const fbp_family FBP_FAMILY(reduction);
const fbp_family FBP_FAMILY(reduction) = {rows, sizeof rows / sizeof rows[0]};
