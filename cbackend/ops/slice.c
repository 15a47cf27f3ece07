/* The family of ops that take a part of their input, or make it a part: index, pad and
 * concatenate. It holds no arithmetic but the sums of gradients. */
#include "ops/move.h"

/* ---- index ---- */

enum { STARTS, STEPS, COUNTS };

static fbp_status index_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    fbp_shape *y = &node->out[0].is;
    for (int attr = STARTS; attr <= COUNTS; attr++) {
        fbp_status status = check_count(node, attr);
        if (status != FBP_OK) return status;
    }
    y->batched = x->batched;
    y->ndim = x->ndim;
    for (int i = 0; i < x->ndim; i++) {
        int64_t start = fbp_whole(node, STARTS, i), step = fbp_whole(node, STEPS, i);
        int64_t count = y->shape[i] = fbp_whole(node, COUNTS, i), n = x->shape[i];
        if (step == 0)
            return fbp_fail(FBP_INVALID, "steps of index: found 0, wanted any other integer");
        double end = (double)start + (double)(count - 1) * (double)step;
        if (count > 0 && (start >= n || end < 0.0 || end >= (double)n))
            return fbp_fail(FBP_INVALID,
                            "index: found elements %lld to %.0f of axis %d, wanted 0 to %lld as x "
                            "is of shape %s",
                            (long long)start, end, i, (long long)n - 1, fbp_shape_words(x));
    }
    return FBP_OK;
}

static void index_relate(const fbp_node *node, int input, const fbp_operand *x, relation *to) {
    const fbp_operand *y = &node->out[0];
    (void)input;
    for (int i = 0; i < y->is.ndim; i++) {
        int64_t count = y->is.shape[i]; /* up to 1, the step may be of any size */
        int64_t step = count > 1 ? fbp_whole(node, STEPS, i) : 0;
        int64_t start = count > 0 ? fbp_whole(node, STARTS, i) : 0;
        walk_axis(&to->steps, count, step * x->strides[i], y->strides[i], 0);
        to->first_in += start * x->strides[i];
    }
}

static void index_forward(const fbp_node *node, const fbp_call *call) {
    place(node, index_relate, call->at.samples, call->at.x, call->at.y[0]);
}

/* dx = dy where x was taken from, 0 elsewhere; no element is taken twice. */
static void index_backward(const fbp_node *node, const fbp_call *call) {
    fill(node->dtype, &node->in[0], call->at.samples, 0.0, call->at.dx[0]);
    fetch(node, index_relate, call->at.samples, call->at.dy[0], call->at.dx);
}

static const fbp_node_kernels index_kernels = {.forward = index_forward,
                                               .backward = index_backward};

/* ---- pad: not linear, as its value has no tangent ---- */

enum { BEFORE, AFTER, VALUE };

static fbp_status pad_infer(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    fbp_shape *y = &node->out[0].is;
    for (int attr = BEFORE; attr <= AFTER; attr++) {
        fbp_status status = check_count(node, attr);
        if (status != FBP_OK) return status;
    }
    y->batched = x->batched;
    y->ndim = x->ndim;
    for (int i = 0; i < x->ndim; i++)
        y->shape[i] = fbp_whole(node, BEFORE, i) + x->shape[i] + fbp_whole(node, AFTER, i);
    return FBP_OK;
}

static void pad_relate(const fbp_node *node, int input, const fbp_operand *x, relation *to) {
    const fbp_operand *y = &node->out[0];
    (void)input;
    for (int i = 0; i < y->is.ndim; i++) {
        walk_axis(&to->steps, x->is.shape[i], x->strides[i], y->strides[i], 0);
        to->first_out += fbp_whole(node, BEFORE, i) * y->strides[i];
    }
}

static void pad_forward(const fbp_node *node, const fbp_call *call) {
    fill(node->dtype, &node->out[0], call->at.samples, fbp_number(node, VALUE, 0), call->at.y[0]);
    place(node, pad_relate, call->at.samples, call->at.x, call->at.y[0]);
}

/* dx = dy without what was put around x. */
static void pad_backward(const fbp_node *node, const fbp_call *call) {
    fetch(node, pad_relate, call->at.samples, call->at.dy[0], call->at.dx);
}

static void pad_tangent(const fbp_node *node, const fbp_call *call) {
    fill(node->dtype, &node->out[0], call->at.samples, 0.0, call->at.ty[0]);
    place(node, pad_relate, call->at.samples, call->at.tx, call->at.ty[0]);
}

static void pad_backward_tangent(const fbp_node *node, const fbp_call *call) {
    fetch(node, pad_relate, call->at.samples, call->at.tdy[0], call->at.tdx);
}

static const fbp_node_kernels pad_kernels = {.forward = pad_forward,
                                             .backward = pad_backward,
                                             .tangent = pad_tangent,
                                             .backward_tangent = pad_backward_tangent};

/* ---- concatenate: geometry holds the axis, and where along it each input begins ---- */

static const char *const parts[FBP_MAX_INPUTS] = {"a", "b", "c", "d", "e", "f", "g", "h"};

static int same_shape_but(const fbp_shape *a, const fbp_shape *b, int axis) {
    int same = a->ndim == b->ndim;
    for (int i = 0; same && i < a->ndim; i++) same = i == axis || a->shape[i] == b->shape[i];
    return same;
}

static fbp_status concatenate_infer(fbp_node *node) {
    const fbp_shape *a = &node->in[0].is;
    fbp_shape *y = &node->out[0].is;
    int axis = fbp_axis_of(node, 0, 0, a);
    if (axis < 0) return FBP_INVALID;
    *y = *a;
    y->shape[axis] = 0;
    node->geometry[0] = axis;
    for (int i = 0; i < node->n_in; i++) {
        const fbp_shape *part = &node->in[i].is;
        if (!same_shape_but(part, a, axis))
            return fbp_fail(FBP_INVALID,
                            "concatenate: found a of shape %s and %s of shape %s, wanted shapes "
                            "that differ in axis %d alone",
                            fbp_shape_words(a), parts[i], fbp_shape_words(part), axis);
        node->geometry[1 + i] = y->shape[axis];
        y->shape[axis] += part->shape[axis];
    }
    return FBP_OK;
}

static void concatenate_relate(const fbp_node *node, int input, const fbp_operand *x,
                               relation *to) {
    const fbp_operand *y = &node->out[0];
    for (int i = 0; i < y->is.ndim; i++)
        walk_axis(&to->steps, x->is.shape[i], x->strides[i], y->strides[i], 0);
    to->first_out = node->geometry[1 + input] * y->strides[node->geometry[0]];
}

static void concatenate_forward(const fbp_node *node, const fbp_call *call) {
    place(node, concatenate_relate, call->at.samples, call->at.x, call->at.y[0]);
}

/* da = a's part of dy; what all samples share is in each result, so its gradient is a sum. */
static void concatenate_backward(const fbp_node *node, const fbp_call *call) {
    fetch(node, concatenate_relate, call->at.samples, call->at.dy[0], call->at.dx);
}

static void concatenate_shared(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                               int64_t end, int adds, void *g) {
    fbp_operand sum = node->in[input];
    (void)begin, (void)end; /* all rows */
    fbp_lay_out(&sum, fbp_width(&sum));
    if (!adds) fill(node->dtype, &sum, 1, 0.0, g);
    relation r = relation_of(concatenate_relate, node, input, &sum, call->at.samples);
    walk_turn(&r.steps);
    add(node->dtype, r.steps, call->at.dy[0], r.first_out, g, r.first_in);
}

static const fbp_node_kernels concatenate_kernels = {.forward = concatenate_forward,
                                                     .backward = concatenate_backward,
                                                     .backward_shared = concatenate_shared};

static const fbp_row rows[] = {
    MOVE(index, "a basic slice of x along every axis", 3,
         LIST("starts", 0, "the first element along each axis"),
         LIST("steps", -MOST, "from one element to the next, not 0"),
         LIST("counts", 0, "of elements")),
    MOVE(pad, "x with elements of one value around it", 3,
         LIST("before", 0, "elements added before each axis"),
         LIST("after", 0, "elements added after each axis"),
         {.name = "value", .low = -INFINITY, .high = INFINITY, .doc = "of what is added"}),
    {.name = "concatenate",
     .doc = "the inputs, one after the other along an axis",
     .kind = FBP_OP,
     .n_attrs = 1,
     .attrs = {{.name = "axis",
                .low = -FBP_MAX_DIMS,
                .high = FBP_MAX_DIMS - 1,
                .doc = "along which inputs may differ",
                .whole = 1}},
     .op = {1, FBP_MAX_INPUTS, parts, .axis = FBP_AXIS_NONE},
     .infer = concatenate_infer,
     .node = {&concatenate_kernels, &concatenate_kernels}},
};

extern const fbp_family FBP_FAMILY(slice);
const fbp_family FBP_FAMILY(slice) = {rows, sizeof rows / sizeof rows[0]};
