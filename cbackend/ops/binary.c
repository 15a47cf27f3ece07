/* The family of elementwise functions of several operands, which broadcast: those of two numbers in
 * math/binary.h, and `where`. It holds the loops over elements that lie one after the other, and
 * the nodes; which elements meet is the business of core/broadcast.h.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include <math.h>
#include <string.h>

#include "core/broadcast.h"
#include "math/scalar.h"

/* Functions of elements, with what they read in this order: the inputs; of tangents, the tangents
 * of the inputs; of slopes, dy; of tangents of slopes, then tdy. An input that a slope has no use
 * for is not read: dy stands in its place. */
typedef struct {
    unsigned passes; /* bit i: input i has dy for its gradient */
    fbp_sink sum;
    fbp_elements_fn *value, *tangent;
    fbp_elements_fn *slope[3], *slope_tangent[3]; /* by the input */
} kernels;

#define FBP_TEMPLATE "math/binary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/binary.c"
#include "math/expand.h"

/* ---- nodes ---- */

static const kernels *kernels_of(const fbp_node *node) { return node->row->kernels[node->dtype]; }

/* Of an element's gradient by input i: none where it is the result's, one product where the row is
 * linear, else two, and an addition where it is summed. */
static double slope_flops(const fbp_node *node, int i) {
    double own = node->row->reads == FBP_READS_INPUT && !node->row->bilinear ? 2.0 : 1.0;
    if (kernels_of(node)->passes >> i & 1u) own = 0.0;
    return own * node->row->flops + (fbp_spans_result(node, i) ? 0.0 : 1.0);
}

static fbp_status infer(fbp_node *node) {
    fbp_status status = fbp_broadcast(node);
    if (status != FBP_OK) return status;
    double elements = (double)fbp_elements(&node->out[0]);
    for (int i = 0; i < node->n_in; i++) {
        if (kernels_of(node)->slope[i] == NULL) {
            node->differentiable &= ~(1u << i);
            continue;
        }
        node->flops[1] += slope_flops(node, i) * elements;
        if (fbp_spans_result(node, i)) node->passes |= kernels_of(node)->passes & 1u << i;
    }
    if (node->row->reads == FBP_READS_INPUT) node->reads_in = (1u << node->n_in) - 1;
    node->flops[0] = node->row->flops * elements;
    return FBP_OK;
}

/* The condition takes part in no gradient, and the result cannot lie where it lies. */
static fbp_status where_infer(fbp_node *node) {
    fbp_status status = infer(node);
    node->reads_in = 1u;
    node->in_place = 0;
    return status;
}

static void start(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call,
                  fbp_elements_fn *function) {
    fbp_sweep_start(sweep, node, &node->out[0], call->at.samples, function);
}

static void read_inputs(fbp_sweep *sweep, const fbp_node *node, const void *const *x) {
    for (int i = 0; i < node->n_in; i++) fbp_sweep_read(sweep, &node->in[i], x[i]);
}

static void forward(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    start(&sweep, node, call, kernels_of(node)->value);
    read_inputs(&sweep, node, call->at.x);
    fbp_sweep_write(&sweep, &node->out[0], call->at.y[0]);
}

static void tangent(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    start(&sweep, node, call, kernels_of(node)->tangent);
    read_inputs(&sweep, node, call->at.x);
    read_inputs(&sweep, node, call->at.tx);
    fbp_sweep_write(&sweep, &node->out[0], call->at.ty[0]);
}

/* What a comparison's tangent is. */
static void no_tangent(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *y = &node->out[0];
    for (int64_t r = 0; r < fbp_rows_of(y, call->at.samples); r++)
        memset(fbp_element(node->dtype, call->at.ty[0], r * y->row_stride), 0,
               (size_t)fbp_width(y) * fbp_size(node->dtype));
}

/* dx = dy df/dx, of an operand that is broadcast summed over all that it meets. */
static void start_slope(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call, int input) {
    const fbp_operand *y = &node->out[0];
    start(sweep, node, call, kernels_of(node)->slope[input]);
    for (int i = 0; i < node->n_in; i++) {
        int read = (int)(node->reads_in >> i & 1u);
        fbp_sweep_read(sweep, read ? &node->in[i] : y, read ? call->at.x[i] : call->at.dy[0]);
    }
    fbp_sweep_read(sweep, y, call->at.dy[0]);
}

/* tdx = tdy df/dx + dy times the tangent of df/dx. */
static void start_slope_tangent(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call,
                                int input) {
    start(sweep, node, call, kernels_of(node)->slope_tangent[input]);
    read_inputs(sweep, node, call->at.x);
    read_inputs(sweep, node, call->at.tx);
    fbp_sweep_read(sweep, &node->out[0], call->at.dy[0]);
    fbp_sweep_read(sweep, &node->out[0], call->at.tdy[0]);
}

static void to_input(fbp_sweep *sweep, const fbp_node *node, const fbp_call *call, int input,
                     void *dx) {
    const fbp_operand *x = &node->in[input];
    if (fbp_spans_result(node, input)) {
        fbp_sweep_write(sweep, x, dx);
        return;
    }
    for (int64_t r = 0; r < fbp_rows_of(x, call->at.samples); r++)
        memset(fbp_element(node->dtype, dx, r * x->row_stride), 0,
               (size_t)fbp_width(x) * fbp_size(node->dtype));
    fbp_sweep_add(sweep, x, dx, &kernels_of(node)->sum);
}

static void to_shared(fbp_sweep *sweep, const fbp_node *node, int input, int add, void *g) {
    fbp_operand dense = fbp_dense(&node->in[input]);
    if (!add) memset(g, 0, (size_t)fbp_elements(&dense) * fbp_size(node->dtype));
    fbp_sweep_add(sweep, &dense, g, &kernels_of(node)->sum);
}

/* The first input comes last: its gradient may lie where dy lies. */
static void backward(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    for (int i = node->n_in - 1; i >= 0; i--) {
        if (call->at.dx[i] == NULL || node->shared & 1u << i) continue;
        start_slope(&sweep, node, call, i);
        to_input(&sweep, node, call, i, call->at.dx[i]);
    }
}

static void backward_shared(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                            int64_t end, int add, void *g) {
    fbp_sweep sweep;
    (void)begin, (void)end; /* all rows */
    start_slope(&sweep, node, call, input);
    to_shared(&sweep, node, input, add, g);
}

static void backward_tangent(const fbp_node *node, const fbp_call *call) {
    fbp_sweep sweep;
    for (int i = node->n_in - 1; i >= 0; i--) {
        if (call->at.tdx[i] == NULL || node->shared & 1u << i) continue;
        start_slope_tangent(&sweep, node, call, i);
        to_input(&sweep, node, call, i, call->at.tdx[i]);
    }
}

static void shared_tangent(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                           int64_t end, int add, void *tg) {
    fbp_sweep sweep;
    (void)begin, (void)end;
    start_slope_tangent(&sweep, node, call, input);
    to_shared(&sweep, node, input, add, tg);
}

static const fbp_node_kernels linear = {
    .forward = forward, .backward = backward, .backward_shared = backward_shared};

static const fbp_node_kernels curved = {.forward = forward,
                                        .backward = backward,
                                        .backward_shared = backward_shared,
                                        .tangent = tangent,
                                        .backward_tangent = backward_tangent,
                                        .shared_tangent = shared_tangent};

static const fbp_node_kernels comparison = {.forward = forward,
                                            .backward = backward,
                                            .tangent = no_tangent,
                                            .backward_tangent = backward_tangent};

/* ---- rows ---- */

static const char *const operands[] = {"a", "b"};
static const char *const choice[] = {"condition", "a", "b"};

#define BINARY_ROW(name_, doc_, flops_, reads_, node_, ...)                                        \
    {.name = #name_,                                                                               \
     .doc = doc_,                                                                                  \
     .kind = FBP_OP,                                                                               \
     .reads = FBP_READS_##reads_,                                                                  \
     .flops = flops_,                                                                              \
     .kernels = {&name_##_kernels_f32, &name_##_kernels_f64},                                      \
     .op = {2, 2, operands, FBP_AXIS_SPANNED, .data = 0},                                          \
     .infer = infer,                                                                               \
     .node = {&node_, &node_},                                                                     \
     __VA_ARGS__},
#define LINEAR(name, reads, passes, flops, doc, value, by_a, by_b)                                 \
    BINARY_ROW(name, doc, flops, reads, linear, .bilinear = FBP_READS_##reads == FBP_READS_INPUT)
#define CURVED(name, flops, doc, value, by_a, by_b, aa, ab, bb)                                    \
    BINARY_ROW(name, doc, flops, INPUT, curved, .bilinear = 0)
#define COMPARISON(name, doc, condition)                                                           \
    BINARY_ROW(name, doc, 1, NOTHING, comparison, .bilinear = 0)

static const fbp_row rows[] = {
#include "math/binary.h"
    {.name = "where",
     .doc = "a where the condition is not 0, else b; no gradient to the condition",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .flops = 1,
     .kernels = {&where_kernels_f32, &where_kernels_f64},
     .op = {3, 3, choice, FBP_AXIS_SPANNED, .data = 0},
     .infer = where_infer,
     .node = {&linear, &linear}},
};

extern const fbp_family FBP_FAMILY(binary);
const fbp_family FBP_FAMILY(binary) = {rows, sizeof rows / sizeof rows[0]};

#else /* the template */

/* ---- gradients added up ---- */

static void FN(add_each)(int64_t n, const void *results, void *to) {
    const real *const xs = results;
    real *const ys = to;
    FBP_INDEPENDENT
    for (int64_t i = 0; i < n; i++) ys[i] += xs[i];
}

/* In FBP_LANES chains, folded pairwise. */
static void FN(add_all)(int64_t n, const void *results, void *to) {
    const real *const xs = results;
    real lanes[FBP_LANES] = {(real)0};
    int64_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES) {
        FBP_LANEWISE
        for (int l = 0; l < FBP_LANES; l++) lanes[l] += xs[i + l];
    }
    for (int l = 0; i + l < n; l++) lanes[l] += xs[i + l];
    for (int width = FBP_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    *(real *)to += lanes[0];
}

#define SUM {sizeof(real), FN(add_each), FN(add_all)}

/* ---- the functions of each row ---- */

#define OVER_ELEMENTS(function, declarations, result)                                              \
    static void FN(function)(int64_t n, const void *const *from, void *to,                         \
                             const double *numbers) {                                              \
        const real *const as = from[0], *const bs = from[1];                                       \
        real *const out = to;                                                                      \
        (void)numbers;                                                                             \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real a = as[i], b = bs[i];                                                       \
            (void)a, (void)b;                                                                      \
            declarations;                                                                          \
            out[i] = result;                                                                       \
        }                                                                                          \
    }
#define READ(name, place) const real name = ((const real *)from[place])[i]

#define LINEAR(name, reads, passes_, flops, doc, value_, by_a, by_b)                               \
    OVER_ELEMENTS(name##_value, , value_)                                                          \
    OVER_ELEMENTS(name##_by_a, READ(dy, 2), dy *(by_a))                                            \
    OVER_ELEMENTS(name##_by_b, READ(dy, 2), dy *(by_b))                                            \
    static const kernels FN(name##_kernels) = {.passes = passes_,                                  \
                                               .sum = SUM,                                         \
                                               .value = FN(name##_value),                          \
                                               .slope = {FN(name##_by_a), FN(name##_by_b)}};

#define CURVED(name, flops, doc, value_, by_a, by_b, aa, ab, bb)                                   \
    OVER_ELEMENTS(name##_value, , value_)                                                          \
    OVER_ELEMENTS(name##_tangent, READ(ta, 2); READ(tb, 3), ta * (by_a) + tb * (by_b))             \
    OVER_ELEMENTS(name##_by_a, READ(dy, 2), dy *(by_a))                                            \
    OVER_ELEMENTS(name##_by_b, READ(dy, 2), dy *(by_b))                                            \
    OVER_ELEMENTS(name##_by_a_tangent, READ(ta, 2); READ(tb, 3); READ(dy, 4);                      \
                  READ(tdy, 5), tdy * (by_a) + dy * ((aa) * ta + (ab) * tb))                       \
    OVER_ELEMENTS(name##_by_b_tangent, READ(ta, 2); READ(tb, 3); READ(dy, 4);                      \
                  READ(tdy, 5), tdy * (by_b) + dy * ((ab) * ta + (bb) * tb))                       \
    static const kernels FN(name##_kernels) = {                                                    \
        .sum = SUM,                                                                                \
        .value = FN(name##_value),                                                                 \
        .tangent = FN(name##_tangent),                                                             \
        .slope = {FN(name##_by_a), FN(name##_by_b)},                                               \
        .slope_tangent = {FN(name##_by_a_tangent), FN(name##_by_b_tangent)}};

#define COMPARISON(name, doc, condition)                                                           \
    OVER_ELEMENTS(name##_value, , (condition) ? (real)1 : (real)0)                                 \
    static const kernels FN(name##_kernels) = {.sum = SUM, .value = FN(name##_value)};

#include "math/binary.h"
#undef LINEAR
#undef CURVED
#undef COMPARISON

/* The condition is read in the place of a. */
OVER_ELEMENTS(where_value, READ(c, 2), a != (real)0 ? b : c)
OVER_ELEMENTS(where_by_a, READ(dy, 3), a != (real)0 ? dy : (real)0)
OVER_ELEMENTS(where_by_b, READ(dy, 3), a != (real)0 ? (real)0 : dy)
static const kernels FN(where_kernels) = {
    .sum = SUM, .value = FN(where_value), .slope = {NULL, FN(where_by_a), FN(where_by_b)}};

#undef OVER_ELEMENTS
#undef READ
#undef SUM

#endif
