/* Pooling: the largest element, or the mean, of each window that slides along the axes of a sample,
 * channel by channel, channels last. Pooling over all positions is a reduction, and not here.
 *
 * Windows that reach beyond the sample hold what of them lies in it. Channels fill the lanes.
 * Nothing is kept for backward: to find a window's largest element again costs less than to write
 * and to read where it was.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include <math.h>

#include "math/scalar.h"
#include "ops/vectors.h"
#include "ops/window.h"

/* What infer notes. */
typedef struct {
    fbp_window axes[2]; /* lines, positions; a sample (L, C) is one line */
    int64_t channels;
    int64_t whole; /* the mean counts what lies beyond the sample, as zeros */
} shape;

_Static_assert(sizeof(shape) <= FBP_MAX_GEOMETRY * sizeof(int64_t), "more than geometry holds");

static shape shape_of(const fbp_node *node) {
    shape s;
    memcpy(&s, node->geometry, sizeof s);
    return s;
}

static int64_t samples_of(const fbp_node *node, const fbp_call *call) {
    return node->in[0].is.batched ? call->at.samples : 1;
}

/* Elements [begin, end) of an axis are in window i. */
typedef struct {
    int64_t begin, end;
} span;

FBP_INLINE span span_of(const fbp_window *w, int64_t i) {
    int64_t begin = i * w->stride - w->padding, end = begin + w->kernel;
    return (span){begin > 0 ? begin : 0, end < w->in ? end : w->in};
}

/* The part of a window that lies in the sample: offsets in elements. */
typedef struct {
    int64_t first, lines, positions, line, position;
} pool;

FBP_INLINE pool pool_of(const shape *s, int64_t row_stride, int64_t oy, int64_t ox) {
    span y = span_of(&s->axes[0], oy), x = span_of(&s->axes[1], ox);
    pool p = {.lines = y.end - y.begin,
              .positions = x.end - x.begin,
              .line = s->axes[1].in * row_stride,
              .position = row_stride};
    p.first = y.begin * p.line + x.begin * p.position;
    return p;
}

/* Whether each element is in one window at most, and whether in one at least. */
static int apart(const shape *s) {
    return s->axes[0].kernel <= s->axes[0].stride && s->axes[1].kernel <= s->axes[1].stride;
}
static int covered(const shape *s) {
    int all = 1;
    for (int axis = 0; axis < 2; axis++) {
        const fbp_window *w = &s->axes[axis];
        all &= w->kernel >= w->stride && (w->out - 1) * w->stride + w->kernel - w->padding >= w->in;
    }
    return all;
}

/* The runs over all windows: what each does with the elements of one. */
typedef enum { MAX, MAX_TANGENT, MAX_GRADIENT, MEAN, MEAN_GRADIENT } work;

#define FBP_TEMPLATE "ops/pooling.c"
#include "math/expand.h"

/* x, and what goes with it: its tangent, or the gradient of the result; a run that has no use for
 * one of them gets another. */
static void run(const fbp_node *node, const fbp_call *call, work what, const void *x,
                const void *along, void *out) {
    if (node->dtype == FBP_F32)
        run_f32(node, call, what, x, along, out);
    else
        run_f64(node, call, what, x, along, out);
}

/* ---- max_pool ---- */

static void max_forward(const fbp_node *node, const fbp_call *call) {
    run(node, call, MAX, call->at.x[0], call->at.x[0], call->at.y[0]);
}

/* dx = the sum of dy over the windows of which it is the largest element, of equal ones the first.
 * For a given winner this is linear. */
static void max_backward(const fbp_node *node, const fbp_call *call) {
    run(node, call, MAX_GRADIENT, call->at.x[0], call->at.dy[0], call->at.dx[0]);
}

static void max_tangent(const fbp_node *node, const fbp_call *call) {
    run(node, call, MAX_TANGENT, call->at.x[0], call->at.tx[0], call->at.ty[0]);
}

static void max_backward_tangent(const fbp_node *node, const fbp_call *call) {
    run(node, call, MAX_GRADIENT, call->at.x[0], call->at.tdy[0], call->at.tdx[0]);
}

/* ---- average_pool ---- */

static void mean_forward(const fbp_node *node, const fbp_call *call) {
    run(node, call, MEAN, call->at.x[0], call->at.x[0], call->at.y[0]);
}

/* dx = the sum of dy / n over the windows that hold it, n being what the mean divides by. */
static void mean_backward(const fbp_node *node, const fbp_call *call) {
    run(node, call, MEAN_GRADIENT, call->at.dx[0], call->at.dy[0], call->at.dx[0]);
}

/* ---- the table ---- */

static const char *const inputs[] = {"x"};
enum { KERNEL, STRIDE, PADDING, COUNT_PADDING };

static fbp_status check(const fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    if (x->content != FBP_REAL || x->ndim < 2 || x->ndim > 3 || fbp_width(&node->in[0]) < 1)
        return fbp_fail(FBP_INVALID,
                        "%s: found x of shape %s%s, wanted samples of shape (length, channels) or "
                        "(height, width, channels)",
                        node->row->name, fbp_shape_words(x),
                        x->content == FBP_REAL ? "" : " of integers");
    for (int attr = KERNEL; attr <= PADDING; attr++) {
        fbp_status status = fbp_check_axes(node, attr);
        if (status != FBP_OK) return status;
    }
    return FBP_OK;
}

static fbp_status infer(fbp_node *node) {
    fbp_status status = check(node);
    if (status != FBP_OK) return status;
    const fbp_shape *x = &node->in[0].is;
    int averages = node->row->n_attrs > COUNT_PADDING;
    shape s = {.axes = {fbp_no_axis()},
               .channels = fbp_width(&node->in[0]),
               .whole = averages && fbp_whole(node, COUNT_PADDING, 0)};
    for (int axis = 3 - x->ndim; axis < 2; axis++) {
        fbp_window w = {.in = x->shape[x->ndim - 3 + axis],
                        .kernel = fbp_along_axis(node, KERNEL, axis),
                        .padding = fbp_along_axis(node, PADDING, axis),
                        .dilation = 1};
        w.stride = fbp_count(node, STRIDE) ? fbp_along_axis(node, STRIDE, axis) : w.kernel;
        if (2 * w.padding > w.kernel)
            return fbp_fail(FBP_INVALID,
                            "padding of %s: found %lld, wanted at most half of the kernel of %lld, "
                            "so that no window is empty",
                            node->row->name, (long long)w.padding, (long long)w.kernel);
        s.axes[axis] = w;
    }
    status = fbp_slide(node, s.axes, s.channels);
    if (status != FBP_OK) return status;
    memcpy(node->geometry, &s, sizeof s);
    fbp_like_first(node);
    for (int axis = 3 - x->ndim; axis < 2; axis++)
        node->out[0].is.shape[x->ndim - 3 + axis] = s.axes[axis].out;
    node->reads_in = node->row->reads == FBP_READS_INPUT;
    node->flops[0] =
        (double)fbp_elements(&node->out[0]) * (double)(s.axes[0].kernel * s.axes[1].kernel);
    node->flops[1] = node->flops[0];
    return FBP_OK;
}

static const fbp_node_kernels max_node = {.forward = max_forward,
                                          .backward = max_backward,
                                          .tangent = max_tangent,
                                          .backward_tangent = max_backward_tangent};
static const fbp_node_kernels mean_node = {.forward = mean_forward, .backward = mean_backward};

#define WINDOW_ATTRS                                                                               \
    [KERNEL] = {"kernel", NAN, .low = 1, .doc = "positions of a window", FBP_AXES},                \
    [STRIDE] = {"stride",                                                                          \
                NAN,                                                                               \
                .low = 1,                                                                          \
                .high = 65536,                                                                     \
                .whole = 1,                                                                        \
                .most = 2,                                                                         \
                .doc = "positions from one window to the next; if none is given, the kernel"},     \
    [PADDING] = {"padding", 0, .low = 0, .doc = "positions before and after each axis", FBP_AXES}

static const fbp_row rows[] = {
    {.name = "max_pool",
     .doc = "the largest element of each window of samples (L, C) or (H, W, C)",
     .kind = FBP_OP,
     .n_attrs = COUNT_PADDING,
     .attrs = {WINDOW_ATTRS},
     .reads = FBP_READS_INPUT,
     .op = {1, 1, inputs, FBP_AXIS_DATA, .data = 1u},
     .infer = infer,
     .node = {&max_node, &max_node}},
    {.name = "average_pool",
     .doc = "the mean of each window of samples (L, C) or (H, W, C)",
     .kind = FBP_OP,
     .n_attrs = COUNT_PADDING + 1,
     .attrs = {WINDOW_ATTRS,
               [COUNT_PADDING] = {"count_include_pad", 1, .high = 1, .whole = 1,
                                  .doc = "whether the mean counts padding, as zeros"}},
     .op = {1, 1, inputs, FBP_AXIS_DATA, .data = 1u},
     .infer = infer,
     .node = {&mean_node, &mean_node}},
};

extern const fbp_family FBP_FAMILY(pooling);
const fbp_family FBP_FAMILY(pooling) = {rows, 2};

#else /* the template */

/* Without a branch, which of two elements is the larger being anyone's guess. */
FBP_INLINE real FN(choose)(sbits_t mask, real a, real b) {
    const union {
        real value;
        sbits_t bits;
    } first = {a}, second = {b};
    union {
        sbits_t bits;
        real value;
    } chosen = {(mask & first.bits) | (~mask & second.bits)};
    return chosen.value;
}

#define OF(name) FN(lone_##name)
#define V real
#define M sbits_t
#define TRUE_OF(comparison) (-(sbits_t)(comparison))
#define SELECT(m, a, b) FN(choose)(m, a, b)
#include "ops/pool_window.h"

#if defined(__GNUC__)
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(real)))
typedef real FN(vec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef sbits_t FN(lanes) __attribute__((vector_size(VECTOR_BYTES)));
#define OF(name) FN(wide_##name)
#define V FN(vec)
#define M FN(lanes)
#define TRUE_OF(comparison) (comparison)
#define SELECT(m, a, b) ((FN(vec))(((m) & (FN(lanes))(a)) | (~(m) & (FN(lanes))(b))))
#include "ops/pool_window.h"
#endif

/* All channels of a window. */
FBP_INLINE void FN(channels)(const work what, const int alone, const pool *p, const shape *s,
                             const real *x, const real *along, real *out) {
    const int64_t all = s->axes[0].kernel * s->axes[1].kernel, held = p->lines * p->positions;
    const int means = what == MEAN || what == MEAN_GRADIENT;
    const real share = means ? (real)1 / (real)(s->whole ? all : held) : (real)0;
    int64_t c = 0;
#if defined(__GNUC__)
    for (; c + LANES <= s->channels; c += LANES)
        FN(wide_window)(what, alone, p, share, x + c, along + c, out + c);
#endif
    for (; c < s->channels; c++) FN(lone_window)(what, alone, p, share, x + c, along + c, out + c);
}

/* All windows of a sample; those of a line after those of the line before. Of x, along and out
 * those that are as large as the input lie at `in`, the others at `result`. The usual window of two
 * by two is unrolled. */
FBP_INLINE void FN(sample)(const work what, const int alone, const fbp_node *node, const shape *s,
                           const real *x, const real *along, real *out) {
    const int64_t in = node->in[0].row_stride, result = node->out[0].row_stride;
    const int gradient = what == MAX_GRADIENT || what == MEAN_GRADIENT;
    for (int64_t oy = 0; oy < s->axes[0].out; oy++) {
        for (int64_t ox = 0; ox < s->axes[1].out; ox++) {
            pool p = pool_of(s, in, oy, ox);
            const int64_t at = (oy * s->axes[1].out + ox) * result;
            const real *const from = x + p.first, *const with = along + (gradient ? at : p.first);
            real *const to = out + (gradient ? p.first : at);
            if (p.lines == 2 && p.positions == 2) {
                p.lines = p.positions = 2;
                FN(channels)(what, alone, &p, s, from, with, to);
            } else {
                FN(channels)(what, alone, &p, s, from, with, to);
            }
        }
    }
}

static void FN(clear)(const fbp_operand *x, real *dx) {
    for (int64_t r = 0; r < fbp_positions(x); r++)
        memset(dx + r * x->row_stride, 0, (size_t)fbp_width(x) * sizeof(real));
}

/* One function for each kind of run, which are called through a table: inlined into one, they would
 * crowd each other's vectors out of the registers. */
#define SAMPLE(name, what, alone)                                                                  \
    static void FN(name)(const fbp_node *node, const shape *s, const real *x, const real *along,   \
                         real *out) {                                                              \
        FN(sample)(what, alone, node, s, x, along, out);                                           \
    }
SAMPLE(largest_of, MAX, 0)
SAMPLE(largest_tangent, MAX_TANGENT, 0)
SAMPLE(largest_gradient, MAX_GRADIENT, 0)
SAMPLE(largest_gradient_alone, MAX_GRADIENT, 1)
SAMPLE(mean_of, MEAN, 0)
SAMPLE(mean_gradient, MEAN_GRADIENT, 0)
SAMPLE(mean_gradient_alone, MEAN_GRADIENT, 1)
#undef SAMPLE

static void (*const FN(samples)[][2])(const fbp_node *, const shape *, const real *, const real *,
                                      real *) = {
    [MAX] = {FN(largest_of), FN(largest_of)},
    [MAX_TANGENT] = {FN(largest_tangent), FN(largest_tangent)},
    [MAX_GRADIENT] = {FN(largest_gradient), FN(largest_gradient_alone)},
    [MEAN] = {FN(mean_of), FN(mean_of)},
    [MEAN_GRADIENT] = {FN(mean_gradient), FN(mean_gradient_alone)},
};

static void FN(run)(const fbp_node *node, const fbp_call *call, work what, const void *x_,
                    const void *along_, void *out_) {
    const real *x = x_, *along = along_;
    real *out = out_;
    const shape s = shape_of(node);
    const int gradient = what == MAX_GRADIENT || what == MEAN_GRADIENT, alone = apart(&s);
    const int64_t in = node->in[0].sample_stride, result = node->out[0].sample_stride;
    for (int64_t i = 0; i < samples_of(node, call); i++) {
        if (gradient && !(alone && covered(&s))) FN(clear)(&node->in[0], out);
        FN(samples)[what][alone](node, &s, x, along, out);
        x += in;
        along += gradient ? result : in;
        out += gradient ? in : result;
    }
}

#undef LANES
#endif
