/* The family of ops that pick elements by integers: take, take_along and embedding. Each is a walk
 * (walk.h) over the input without the axis that is picked along, the result and the indices;
 * forward gathers along it, backward adds each gradient where its element came from, in the order
 * of the result's elements. It holds no arithmetic but those sums.
 *
 * The mechanism has made sure that indices are in range. Below 0 they count from the end. The file
 * includes itself, once for each dtype. */
#ifndef real

#include <math.h>

#include "core/node_run.h"
#include "ops/walk.h"

#define FBP_TEMPLATE "ops/walk.h"
#include "math/expand.h"

/* Array 0 of the walk is x, array 1 the result, array 2 the indices. */
typedef struct {
    walk steps;
    int64_t stride, length; /* of the axis of x */
} picking;

#define FBP_TEMPLATE "ops/take.c"
#include "math/expand.h"

/* ---- what the ops have in common ---- */

/* Indices may count from either end of an axis. */
static void allow(fbp_node *node, int input, int64_t length) {
    node->range[input].least = -length;
    node->range[input].below = length;
    node->reads_in = 1u << input;
}

/* Each op's own part: axes of the walk. x is the input, or the dense sum of its gradients. */
typedef picking (*relate)(const fbp_node *node, const fbp_operand *x, int64_t samples);

static picking begin_picking(const fbp_node *node, const fbp_operand *x, const fbp_operand *indices,
                             int axis, int64_t samples) {
    const fbp_operand *y = &node->out[0];
    picking p = {.stride = x->strides[axis], .length = x->is.shape[axis]};
    if (y->is.batched)
        walk_axis(&p.steps, samples, x->sample_stride, y->sample_stride, indices->sample_stride);
    return p;
}

static void gather(const fbp_node *node, relate own, const fbp_call *call, int x, int indices) {
    picking p = own(node, &node->in[x], call->at.samples);
    walk_join(&p.steps);
    if (walk_is_empty(&p.steps)) return;
    if (node->dtype == FBP_F32)
        gather_f32(&p, call->at.x[x], call->at.x[indices], call->at.y[0]);
    else
        gather_f64(&p, call->at.x[x], call->at.x[indices], call->at.y[0]);
}

/* Adds to the elements [begin, end) of the axis, of which dx holds no others. */
static void scatter(const fbp_node *node, relate own, const fbp_call *call, const fbp_operand *x,
                    int indices, int64_t begin, int64_t end, void *dx) {
    picking p = own(node, x, call->at.samples);
    walk_join(&p.steps);
    if (walk_is_empty(&p.steps)) return;
    if (node->dtype == FBP_F32)
        scatter_f32(&p, begin, end, call->at.dy[0], call->at.x[indices], dx);
    else
        scatter_f64(&p, begin, end, call->at.dy[0], call->at.x[indices], dx);
}

static void fill_with_zeros(fbp_dtype dtype, const fbp_operand *x, int64_t samples, void *to) {
    if (dtype == FBP_F32)
        fill_f32(x, samples, 0.0, to);
    else
        fill_f64(x, samples, 0.0, to);
}

/* dx[index of y_j] += dy_j over all elements j of the result, in their order. */
static void backward(const fbp_node *node, relate own, const fbp_call *call, int x, int indices) {
    const fbp_operand *to = &node->in[x];
    void *dx = call->at.dx[x];
    if (dx == NULL || node->shared & 1u << x) return;
    fill_with_zeros(node->dtype, to, call->at.samples, dx);
    scatter(node, own, call, to, indices, 0, INT64_MAX, dx);
}

/* The same into one dense sum for all samples. */
static void backward_shared(const fbp_node *node, relate own, const fbp_call *call, int x,
                            int indices, int add, void *g) {
    fbp_operand sum = node->in[x];
    fbp_lay_out(&sum, fbp_width(&sum));
    if (!add) fill_with_zeros(node->dtype, &sum, 1, g);
    scatter(node, own, call, &sum, indices, 0, INT64_MAX, g);
}

static const char *const x_and_indices[] = {"x", "indices"};

/* ---- take: geometry holds the axis ---- */

static fbp_status take_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is, *indices = &node->in[1].is;
    fbp_shape *y = &node->out[0].is;
    int axis = fbp_axis_of(node, 0, 0, x);
    if (axis < 0) return FBP_INVALID;
    if (x->ndim - 1 + indices->ndim > FBP_MAX_DIMS)
        return fbp_fail(FBP_INVALID,
                        "take: found x of shape %s and indices of shape %s, wanted a result of at "
                        "most %d axes",
                        fbp_shape_words(x), fbp_shape_words(indices), FBP_MAX_DIMS);
    node->geometry[0] = axis;
    allow(node, 1, x->shape[axis]);
    for (int i = 0; i < axis; i++) y->shape[y->ndim++] = x->shape[i];
    for (int i = 0; i < indices->ndim; i++) y->shape[y->ndim++] = indices->shape[i];
    for (int i = axis + 1; i < x->ndim; i++) y->shape[y->ndim++] = x->shape[i];
    node->flops[1] = 1.0;
    for (int i = 0; i < y->ndim; i++) node->flops[1] *= (double)y->shape[i];
    return FBP_OK;
}

/* Axes of x, then those of the indices in place of one of them, then further axes of x. */
static void pick_along(picking *p, int axis, const fbp_operand *x, const fbp_operand *indices,
                       const fbp_operand *y) {
    const int64_t *to = y->strides;
    for (int i = 0; i < axis; i++) walk_axis(&p->steps, x->is.shape[i], x->strides[i], *to++, 0);
    for (int i = 0; i < indices->is.ndim; i++)
        walk_axis(&p->steps, indices->is.shape[i], 0, *to++, indices->strides[i]);
    for (int i = axis + 1; i < x->is.ndim; i++)
        walk_axis(&p->steps, x->is.shape[i], x->strides[i], *to++, 0);
}

static picking take_relate(const fbp_node *node, const fbp_operand *x, int64_t samples) {
    const fbp_operand *indices = &node->in[1];
    int axis = (int)node->geometry[0];
    picking p = begin_picking(node, x, indices, axis, samples);
    pick_along(&p, axis, x, indices, &node->out[0]);
    return p;
}

static void take_forward(const fbp_node *node, const fbp_call *call) {
    gather(node, take_relate, call, 0, 1);
}

static void take_backward(const fbp_node *node, const fbp_call *call) {
    backward(node, take_relate, call, 0, 1);
}

static void take_shared(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                        int64_t end, int add, void *g) {
    (void)begin, (void)end; /* all rows */
    backward_shared(node, take_relate, call, input, 1, add, g);
}

static const fbp_node_kernels take = {
    .forward = take_forward, .backward = take_backward, .backward_shared = take_shared};

/* ---- take_along: geometry holds the axis ---- */

static fbp_status take_along_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is, *indices = &node->in[1].is;
    fbp_shape *y = &node->out[0].is;
    int axis = fbp_axis_of(node, 0, 0, x), fits = x->ndim == indices->ndim;
    if (axis < 0) return FBP_INVALID;
    *y = *x;
    for (int i = 0; fits && i < x->ndim; i++) {
        int64_t n = indices->shape[i];
        if (i == axis || x->shape[i] == 1) y->shape[i] = n;
        fits = i == axis || n == 1 || n == y->shape[i];
    }
    if (!fits)
        return fbp_fail(FBP_INVALID,
                        "take_along: found x of shape %s and indices of shape %s, wanted as many "
                        "axes, and all but axis %d to agree where neither is 1",
                        fbp_shape_words(x), fbp_shape_words(indices), axis);
    node->geometry[0] = axis;
    allow(node, 1, x->shape[axis]);
    node->flops[1] = 1.0;
    for (int i = 0; i < y->ndim; i++) node->flops[1] *= (double)y->shape[i];
    return FBP_OK;
}

static picking take_along_relate(const fbp_node *node, const fbp_operand *x, int64_t samples) {
    const fbp_operand *indices = &node->in[1], *y = &node->out[0];
    int axis = (int)node->geometry[0];
    picking p = begin_picking(node, x, indices, axis, samples);
    for (int i = 0; i < y->is.ndim; i++)
        walk_axis(&p.steps, y->is.shape[i], i == axis || x->is.shape[i] == 1 ? 0 : x->strides[i],
                  y->strides[i], indices->is.shape[i] == 1 ? 0 : indices->strides[i]);
    return p;
}

static void take_along_forward(const fbp_node *node, const fbp_call *call) {
    gather(node, take_along_relate, call, 0, 1);
}

static void take_along_backward(const fbp_node *node, const fbp_call *call) {
    backward(node, take_along_relate, call, 0, 1);
}

static void take_along_shared(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                              int64_t end, int add, void *g) {
    (void)begin, (void)end; /* all rows */
    backward_shared(node, take_along_relate, call, input, 1, add, g);
}

static const fbp_node_kernels take_along = {.forward = take_along_forward,
                                            .backward = take_along_backward,
                                            .backward_shared = take_along_shared};

/* ---- embedding ---- */

static const char *const indices_and_table[] = {"indices", "table"};

static fbp_status embedding_infer(fbp_node *node) {
    const fbp_shape *indices = &node->in[0].is, *table = &node->in[1].is;
    fbp_shape *y = &node->out[0].is;
    if (table->ndim != 2 || table->batched || indices->ndim + 1 > FBP_MAX_DIMS)
        return fbp_fail(
            FBP_INVALID,
            "embedding: found indices of shape %s and table of shape %s, wanted indices "
            "of at most %d axes and a table of two that all samples share",
            fbp_shape_words(indices), fbp_shape_words(table), FBP_MAX_DIMS - 1);
    allow(node, 0, table->shape[0]);
    *y = *indices;
    y->content = FBP_REAL;
    y->shape[y->ndim++] = table->shape[1];
    node->flops[1] = (double)fbp_elements(&node->in[0]) * (double)table->shape[1];
    return FBP_OK;
}

static picking embedding_relate(const fbp_node *node, const fbp_operand *table, int64_t samples) {
    const fbp_operand *indices = &node->in[0];
    picking p = begin_picking(node, table, indices, 0, samples);
    pick_along(&p, 0, table, indices, &node->out[0]);
    return p;
}

static void embedding_forward(const fbp_node *node, const fbp_call *call) {
    gather(node, embedding_relate, call, 1, 0);
}

static void embedding_backward(const fbp_node *node, const fbp_call *call) {
    backward(node, embedding_relate, call, 1, 0);
}

/* Rows [begin, end) of the table's gradient: whoever forms them reads all indices, and of dy what
 * belongs to those rows. */
static void embedding_shared(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                             int64_t end, int add, void *g) {
    fbp_operand rows = node->in[input];
    rows.is.shape[0] = end - begin;
    fbp_lay_out(&rows, fbp_width(&rows));
    if (!add) fill_with_zeros(node->dtype, &rows, 1, g);
    rows.is.shape[0] = node->in[input].is.shape[0]; /* which indices count from */
    scatter(node, embedding_relate, call, &rows, 0, begin, end, g);
}

static const fbp_node_kernels embedding = {.forward = embedding_forward,
                                           .backward = embedding_backward,
                                           .backward_shared = embedding_shared};

/* ---- the rows ---- */

#define AXIS                                                                                       \
    {.name = "axis",                                                                               \
     .fallback = NAN,                                                                              \
     .low = -FBP_MAX_DIMS,                                                                         \
     .high = FBP_MAX_DIMS - 1,                                                                     \
     .doc = "of x, along which to take",                                                           \
     .whole = 1}

static const fbp_row rows[] = {
    {.name = "take",
     .doc = "elements of x along an axis, by integers of any shape",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .n_attrs = 1,
     .attrs = {AXIS},
     .op = {2, 2, x_and_indices, FBP_AXIS_NONE, .indices = 2u},
     .infer = take_infer,
     .node = {&take, &take}},
    {.name = "take_along",
     .doc = "elements of x along an axis, by integers for each place in its other axes",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .n_attrs = 1,
     .attrs = {AXIS},
     .op = {2, 2, x_and_indices, FBP_AXIS_NONE, .indices = 2u},
     .infer = take_along_infer,
     .node = {&take_along, &take_along}},
    {.name = "embedding",
     .doc = "rows of a table, by integers of any shape",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .op = {2, 2, indices_and_table, FBP_AXIS_DATA, .data = 1u, .indices = 1u},
     .infer = embedding_infer,
     .node = {&embedding, &embedding},
     .divisible = 1},
};

extern const fbp_family FBP_FAMILY(take);
const fbp_family FBP_FAMILY(take) = {rows, sizeof rows / sizeof rows[0]};

#else

static void FN(gather)(const picking *p, const real *x, const int32_t *indices, real *y) {
    const int last = p->steps.n_axes - 1;
    const int64_t n = p->steps.count[last], *const step = p->steps.stride[last];
    walk_place place = {0};
    do {
        const real *const from = x + place.at[0];
        const int32_t *const index = indices + place.at[2];
        real *const to = y + place.at[1];
        if (step[2] == 0) { /* one index for the whole run */
            const int64_t i = *index < 0 ? *index + p->length : *index;
            FN(copy_run)(n, from + i * p->stride, step[0], to, step[1]);
            continue;
        }
        for (int64_t j = 0; j < n; j++) {
            const int64_t i = index[j * step[2]], at = i < 0 ? i + p->length : i;
            to[j * step[1]] = from[j * step[0] + at * p->stride];
        }
    } while (walk_next(&p->steps, &place));
}

static void FN(scatter)(const picking *p, int64_t begin, int64_t end, const real *dy,
                        const int32_t *indices, real *dx) {
    const int last = p->steps.n_axes - 1;
    const int64_t n = p->steps.count[last], *const step = p->steps.stride[last];
    walk_place place = {0};
    do {
        const real *const from = dy + place.at[1];
        const int32_t *const index = indices + place.at[2];
        real *const to = dx + place.at[0];
        if (step[2] == 0) {
            const int64_t i = *index < 0 ? *index + p->length : *index;
            if (i < begin || i >= end) continue;
            FN(add_run)(n, from, step[1], to + (i - begin) * p->stride, step[0]);
            continue;
        }
        for (int64_t j = 0; j < n; j++) {
            const int64_t i = index[j * step[2]], at = i < 0 ? i + p->length : i;
            if (at < begin || at >= end) continue;
            to[j * step[0] + (at - begin) * p->stride] += from[j * step[1]];
        }
    } while (walk_next(&p->steps, &place));
}

#endif
