/* The family of softmax along an axis: the nodes. Along the last axis they run over rows, along
 * another as sweeps (core/broadcast.h); the loops of both are in ops/softmax.h, the formulas in
 * math/softmax.h. */
#include <math.h>
#include <string.h>

#include "ops/reduction.h"
#include "ops/softmax.h"

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/reductions.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/reduction.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/softmax.h"
#include "math/expand.h"

enum { AXIS }; /* attribute and geometry */

static const softmax_kernels *kernels_of(const fbp_node *node) {
    return node->row->kernels[node->dtype];
}

/* The sums of reductions, and their largest elements. */
static const kernels *reduction_of(const fbp_node *node) {
    return node->dtype == FBP_F32 ? &kernels_f32 : &kernels_f64;
}

static fbp_status infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    if (x->content != FBP_REAL)
        return fbp_fail(FBP_INVALID, "%s: found integers as x, wanted reals", node->row->name);
    int axis = fbp_axis_of(node, AXIS, 0, x);
    if (axis < 0) return FBP_INVALID;
    fbp_like_first(node);
    node->geometry[AXIS] = axis;
    node->reads_out = 1u;
    node->in_place = 1;
    node->flops[0] = node->row->flops * (double)fbp_elements(&node->in[0]);
    node->flops[1] = node->flops[0];
    return FBP_OK;
}

static int along_rows(const fbp_node *node) {
    return node->geometry[AXIS] == node->in[0].is.ndim - 1;
}

/* An array with its layout. */
typedef struct {
    const fbp_operand *as;
    const void *from;
} array;

static void run_rows(const fbp_call *call, row_function *function, int n, const array *arrays,
                     const fbp_operand *y, void *to) {
    const void *from[FBP_MOST_READ];
    int64_t ld[FBP_MOST_READ];
    for (int i = 0; i < n; i++) {
        from[i] = arrays[i].from;
        ld[i] = arrays[i].as->row_stride;
    }
    function(fbp_rows_of(y, call->at.samples), fbp_width(y), from, ld, to, y->row_stride);
}

/* ---- along another axis than the last ---- */

/* One number for all that lie along the axis. */
static fbp_operand reduced(const fbp_node *node) {
    fbp_operand z = node->in[0];
    z.is.shape[node->geometry[AXIS]] = 1;
    return fbp_dense(&z);
}

/* Scratch holds four doubles for each of those: two sums, and two numbers of the dtype. */
static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    fbp_operand z = reduced(node);
    return along_rows(node) ? 0 : (size_t)(4 * fbp_extent(&z, samples)) * sizeof(double);
}

static double *part(const fbp_node *node, const fbp_call *call, int i) {
    fbp_operand z = reduced(node);
    return (double *)call->scratch + i * fbp_extent(&z, call->at.samples);
}

static void start(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call,
                  fbp_elements_fn *function, int n, const array *arrays) {
    fbp_sweep_start(sweep, node, &node->in[0], call->at.samples, function);
    for (int i = 0; i < n; i++) fbp_sweep_read(sweep, arrays[i].as, arrays[i].from);
}

static void add_up(const fbp_node *node, const fbp_call *call, fbp_elements_fn *term, int n,
                   const array *arrays, double *sums) {
    fbp_sweep sweep;
    fbp_operand z = reduced(node);
    memset(sums, 0, (size_t)fbp_extent(&z, call->at.samples) * sizeof(double));
    start(&sweep, node, call, term, n, arrays);
    fbp_sweep_add(&sweep, &z, sums, &reduction_of(node)->sum);
}

static void sweep_forward(const fbp_node *node, const fbp_call *call) {
    const forward_pass *how = &kernels_of(node)->forward;
    const kernels *reduction = reduction_of(node);
    const fbp_operand z = reduced(node);
    const int64_t n = fbp_extent(&z, call->at.samples);
    double *sums = part(node, call, 0);
    void *largest = part(node, call, 2), *settled = part(node, call, 3);
    const array arrays[] = {{&node->in[0], call->at.x[0]}, {&z, largest}, {&z, settled}};
    fbp_sweep sweep;
    reduction->fill(n, -(double)INFINITY, largest);
    start(&sweep, node, call, reduction->itself, 1, arrays);
    fbp_sweep_add(&sweep, &z, largest, &reduction->extreme[0]);
    add_up(node, call, how->term, 2, arrays, sums);
    how->settle(n, sums, settled);
    start(&sweep, node, call, how->result, 3, arrays);
    fbp_sweep_write(&sweep, &node->out[0], call->at.y[0]);
}

static void sweep_pass(const fbp_node *node, const fbp_call *call, const pass *how, array *arrays,
                       const fbp_operand *y, void *to) {
    const fbp_operand z = reduced(node);
    fbp_sweep sweep;
    for (int i = 0; i < how->n_sums; i++) {
        double *sums = part(node, call, i), *rounded = part(node, call, 2 + i);
        add_up(node, call, how->term[i], how->n_read, arrays, sums);
        reduction_of(node)->quotient(fbp_extent(&z, call->at.samples), sums, NULL, 1.0, rounded);
        arrays[how->n_read + i] = (array){&z, rounded};
    }
    start(&sweep, node, call, how->result, how->n_read + how->n_sums, arrays);
    fbp_sweep_write(&sweep, y, to);
}

/* ---- nodes ---- */

static void run_pass(const fbp_node *node, const fbp_call *call, const pass *how, array *arrays,
                     const fbp_operand *y, void *to) {
    if (along_rows(node))
        run_rows(call, how->rows, how->n_read, arrays, y, to);
    else
        sweep_pass(node, call, how, arrays, y, to);
}

static void forward(const fbp_node *node, const fbp_call *call) {
    const array x = {&node->in[0], call->at.x[0]};
    if (along_rows(node))
        run_rows(call, kernels_of(node)->forward.rows, 1, &x, &node->out[0], call->at.y[0]);
    else
        sweep_forward(node, call);
}

static void backward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    array arrays[FBP_MOST_READ] = {{y, call->at.y[0]}, {y, call->at.dy[0]}};
    run_pass(node, call, &kernels_of(node)->backward, arrays, x, call->at.dx[0]);
}

static void tangent(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    array arrays[FBP_MOST_READ] = {{y, call->at.y[0]}, {x, call->at.tx[0]}};
    run_pass(node, call, &kernels_of(node)->tangent, arrays, y, call->at.ty[0]);
}

static void backward_tangent(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    array arrays[FBP_MOST_READ] = {
        {y, call->at.y[0]}, {y, call->at.dy[0]}, {y, call->at.ty[0]}, {y, call->at.tdy[0]}};
    run_pass(node, call, &kernels_of(node)->backward_tangent, arrays, x, call->at.tdx[0]);
}

static const fbp_node_kernels node = {.forward = forward,
                                      .backward = backward,
                                      .tangent = tangent,
                                      .backward_tangent = backward_tangent,
                                      .scratch_bytes = scratch_bytes};

/* ---- rows ---- */

static const char *const inputs[] = {"x"};

#define SOFTMAX(name_, flops_, doc_)                                                               \
    {                                                                                              \
        .name = #name_, .doc = doc_, .kind = FBP_OP, .n_attrs = 1,                                 \
        .attrs = {{.name = "axis",                                                                 \
                   .fallback = -1,                                                                 \
                   .low = -FBP_MAX_DIMS,                                                           \
                   .high = FBP_MAX_DIMS - 1,                                                       \
                   .doc = "along which the shares sum to 1",                                       \
                   .whole = 1}},                                                                   \
        .reads = FBP_READS_OUTPUT, .flops = flops_,                                                \
        .kernels = {&name_##_kernels_f32, &name_##_kernels_f64},                                   \
        .op = {1, 1, inputs, FBP_AXIS_NONE, .data = 0}, .infer = infer, .node = {&node, &node}     \
    }

static const fbp_row rows[] = {
    SOFTMAX(softmax, 20, "exp(x) over its sum along an axis; NaN where all are minus infinity"),
    SOFTMAX(log_softmax, 20, "log of softmax(x) along an axis; NaN where all are minus infinity"),
};

extern const fbp_family FBP_FAMILY(softmax);
const fbp_family FBP_FAMILY(softmax) = {rows, sizeof rows / sizeof rows[0]};
