/* Convolutions in one and two dimensions, channels last, as products of patches: the kernels of
 * patches.h read a patch where it lies, in a copy of the sample that has zeros around it, so no
 * matrix of patches is ever formed. Cross-correlation, as in all of machine learning: the kernel is
 * not flipped in forward.
 *
 * A sample is an image of lines of positions of channels; a sample (L, C) is one line. The weights
 * are the matrix (kernel * channels of a group, outputs), row (t, c) of which weighs channel c of
 * element t of the kernel. Samples are taken one by one, so that what is read again stays in
 * cache. */
#include "ops/convolution.h"

/* ---- forward: y[p, o] = b[o] + sum over t, c of x[p stride + t dilation - padding, c] w[t, c, o]
 * ---- */

typedef struct {
    void *image, *panels; /* panels of each group, one after the other */
    int64_t *rows, *runs, *out;
    int64_t panel_size;
} forward_room;

static forward_room carve_forward(const fbp_node *node, const shape *s, const frame *f,
                                  fbp_carver *carver) {
    size_t size = fbp_size(node->dtype), word = sizeof(int64_t);
    forward_room room;
    room.panel_size = fbp_packed_size(node->dtype, kernel_of(s) * s->channels + 1, s->columns_out);
    room.image = fbp_carve(carver, elements_of(f), size);
    room.panels = fbp_carve(carver, room.panel_size * s->groups, size);
    room.rows = fbp_carve(carver, positions_out(s), word);
    room.runs = fbp_carve(carver, kernel_of(s), word);
    room.out = fbp_carve(carver, positions_out(s), word);
    return room;
}

static void pack_forward(const fbp_node *node, const shape *s, const void *w, const void *bias,
                         const fbp_half_kernels *half, const forward_room *room) {
    int64_t k = kernel_of(s) * s->channels, wide = s->depth_out;
    for (int64_t g = 0; g < s->groups; g++) {
        void *panels = fbp_element(node->dtype, room->panels, g * room->panel_size);
        const void *from = fbp_element(node->dtype, w, g * s->columns_out);
        int64_t rows = k + (bias != NULL);
        node->gemm->pack_part(rows, s->columns_out, 0, k, from, wide, 0, panels);
        if (bias == NULL) continue;
        from = fbp_element(node->dtype, bias, g * s->columns_out);
        node->gemm->pack_part(rows, s->columns_out, k, 1, from, wide, 0, panels);
    }
    if (half != NULL) half->round(room->panel_size * s->groups, room->panels);
}

/* The patches of all positions of the result. Where neighbours lie side by side, and all of their
 * channels are wanted, a line of the kernel is one run. */
static fbp_patches patches_of_output(const shape *s, const frame *f, const forward_room *room) {
    const fbp_window *h = &s->axes[0], *w = &s->axes[1];
    int joined = s->groups == 1 && !s->apart && w->dilation == 1 && f->position == f->depth;
    grid(0, (int64_t[]){1, h->out, w->out},
         (int64_t[]){0, h->stride * f->line, w->stride * f->position}, room->rows);
    grid(0, (int64_t[]){1, h->kernel, joined ? 1 : w->kernel},
         (int64_t[]){0, h->dilation * f->line, w->dilation * f->position}, room->runs);
    return (fbp_patches){.rows = room->rows,
                         .runs = room->runs,
                         .n_runs = h->kernel * (joined ? 1 : w->kernel),
                         .length = s->channels * (joined ? w->kernel : 1),
                         .step = 1,
                         .apart = (int)s->apart};
}

static void forward(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    const shape s = shape_of(node);
    const frame f = frame_of_input(&s, x->row_stride);
    fbp_carver carver = {call->scratch, 0};
    forward_room room = carve_forward(node, &s, &f, &carver);
    const void *bias = node->n_in == 3 ? call->at.x[2] : NULL;
    pack_forward(node, &s, call->at.x[1], bias, call->half, &room);
    fbp_patches patches = patches_of_output(&s, &f, &room);
    grid(0, (int64_t[]){1, 1, positions_out(&s)}, (int64_t[]){0, 0, y->row_stride}, room.out);
    memset(room.image, 0, (size_t)elements_of(&f) * fbp_size(node->dtype));
    for (int64_t i = 0; i < samples_of(node, call); i++) {
        const void *sample = fbp_element(node->dtype, call->at.x[0], i * x->sample_stride);
        const void *image = framed(node, &f, sample, x->row_stride, room.image);
        for (int64_t g = 0; g < s.groups; g++)
            node->gemm->multiply_patches(
                positions_out(&s), s.columns_out, &patches,
                fbp_element(node->dtype, image, g * s.channels),
                fbp_element(node->dtype, room.panels, g * room.panel_size),
                bias != NULL ? FBP_BIAS_START : FBP_BIAS_NONE, room.out,
                fbp_element(node->dtype, call->at.y[0], i * y->sample_stride + g * s.columns_out));
    }
}

static void shared_gradient(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                            int64_t end, int add, void *g) {
    int64_t elements = (end - begin) * fbp_width(&node->out[0]);
    if (!add) memset(g, 0, (size_t)elements * fbp_size(node->dtype));
    if (input == 1)
        FBP_FAMILY(convolution_gradients).weights(node, call, begin, end, g);
    else
        FBP_FAMILY(convolution_gradients).bias(node, call, g);
}

static void backward(const fbp_node *node, const fbp_call *call) {
    if (call->at.dx[0] != NULL) FBP_FAMILY(convolution_gradients).input(node, call);
    for (int i = 1; i < node->n_in; i++) /* of a node without samples */
        if (call->at.dx[i] != NULL && !(node->shared & 1u << i))
            shared_gradient(node, call, i, 0, fbp_positions(&node->in[i]), 0, call->at.dx[i]);
}

static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    (void)samples; /* one at a time */
    const shape s = shape_of(node);
    const frame f = frame_of_input(&s, node->in[0].row_stride);
    fbp_carver carver = {NULL, 0};
    carve_forward(node, &s, &f, &carver);
    size_t gradient = FBP_FAMILY(convolution_gradients).scratch_bytes(node);
    return carver.used > gradient ? carver.used : gradient;
}

/* ---- the table ---- */

static const char *const inputs[] = {"x", "w", "b"};
enum { STRIDE, PADDING, DILATION, GROUPS, N_ATTRS };

static fbp_status check_inputs(const fbp_node *node) {
    const fbp_shape *x = &node->in[0].is, *w = &node->in[1].is, *b = &node->in[2].is;
    int reals = 1;
    for (int i = 0; i < node->n_in; i++) reals &= node->in[i].is.content == FBP_REAL;
    if (!reals || x->ndim < 2 || x->ndim > 3 || w->ndim != x->ndim + 1 || w->batched)
        return fbp_fail(FBP_INVALID,
                        "conv: found x of shape %s and w of shape %s%s, wanted a sample of shape "
                        "(length, channels) with w of shape (kernel, channels / groups, outputs), "
                        "or (height, width, channels) with two axes of a kernel",
                        fbp_shape_words(x), fbp_shape_words(w), reals ? "" : " of integers");
    int64_t groups = fbp_whole(node, GROUPS, 0), channels = fbp_width(&node->in[0]);
    int64_t outputs = fbp_width(&node->in[1]);
    if (channels < 1 || outputs < 1 || channels % groups != 0 || outputs % groups != 0 ||
        w->shape[w->ndim - 2] != channels / groups)
        return fbp_fail(FBP_INVALID,
                        "conv: found x of shape %s, w of shape %s and %lld groups, wanted w of "
                        "shape (kernel, channels of x / groups, outputs) and a number of groups "
                        "that divides channels and outputs",
                        fbp_shape_words(x), fbp_shape_words(w), (long long)groups);
    if (node->n_in == 3 && (b->ndim != 1 || b->batched || b->shape[0] != outputs))
        return fbp_fail(FBP_INVALID, "conv: found b of shape %s, wanted (%lld,) as w is %s",
                        fbp_shape_words(b), (long long)outputs, fbp_shape_words(w));
    return FBP_OK;
}

static fbp_status infer(fbp_node *node) {
    fbp_status status = check_inputs(node);
    for (int attr = STRIDE; status == FBP_OK && attr <= DILATION; attr++)
        status = fbp_check_axes(node, attr);
    if (status != FBP_OK) return status;
    const fbp_shape *x = &node->in[0].is, *w = &node->in[1].is;
    const int64_t groups = fbp_whole(node, GROUPS, 0);
    const int64_t channels = fbp_width(&node->in[0]), outputs = fbp_width(&node->in[1]);
    const int64_t apart = groups > 1 && channels == groups && outputs == groups;
    const int64_t products = apart ? 1 : groups;
    shape s = {.axes = {fbp_no_axis()},
               .depth_in = channels,
               .depth_out = outputs,
               .groups = products,
               .channels = channels / groups,
               .outputs = outputs / groups,
               .columns_in = channels / products,
               .columns_out = outputs / products,
               .apart = apart};
    for (int axis = 3 - x->ndim; axis < 2; axis++)
        s.axes[axis] = (fbp_window){.in = x->shape[x->ndim - 3 + axis],
                                    .kernel = w->shape[x->ndim - 3 + axis],
                                    .stride = fbp_along_axis(node, STRIDE, axis),
                                    .padding = fbp_along_axis(node, PADDING, axis),
                                    .dilation = fbp_along_axis(node, DILATION, axis)};
    status = fbp_slide(node, s.axes, channels + outputs);
    if (status != FBP_OK) return status;
    memcpy(node->geometry, &s, sizeof s);
    fbp_like_first(node);
    for (int axis = 3 - x->ndim; axis < 2; axis++)
        node->out[0].is.shape[x->ndim - 3 + axis] = s.axes[axis].out;
    node->out[0].is.shape[x->ndim - 1] = outputs;
    node->reads_in = 3u;
    node->flops[0] =
        2.0 * (double)fbp_elements(&node->out[0]) * (double)(kernel_of(&s) * s.channels);
    node->flops[1] = 2.0 * node->flops[0];
    return FBP_OK;
}

static const fbp_node_kernels node = {.forward = forward,
                                      .backward = backward,
                                      .backward_shared = shared_gradient,
                                      .scratch_bytes = scratch_bytes};

static const fbp_row rows[] = {
    {.name = "conv",
     .doc = "convolution of samples (L, C) or (H, W, C) with w (kernel, C / groups, outputs), plus "
            "b (outputs)",
     .kind = FBP_OP,
     .n_attrs = N_ATTRS,
     .attrs = {[STRIDE] = {"stride", 1, .low = 1, .doc = "positions from one window to the next",
                           FBP_AXES},
               [PADDING] = {"padding", 0, .low = 0, .doc = "zeros before and after each axis",
                            FBP_AXES},
               [DILATION] = {"dilation", 1, .low = 1,
                             .doc = "positions from one element of the kernel to the next",
                             FBP_AXES},
               [GROUPS] = {"groups", 1, .low = 1, .high = 0x1p31, .whole = 1,
                           .doc = "equal parts of the channels, each with outputs of its own"}},
     .reads = FBP_READS_INPUT,
     .op = {2, 3, inputs, FBP_AXIS_DATA, .data = 1u},
     .infer = infer,
     .node = {&node, &node},
     .bilinear = 1,
     .divisible = 1},
};

extern const fbp_family FBP_FAMILY(convolution);
const fbp_family FBP_FAMILY(convolution) = {rows, 1};
