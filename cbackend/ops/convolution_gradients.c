/* The gradients of convolutions: of the input, as a convolution of the result's gradient; of the
 * weights, as products of which the elements of the kernel are the rows; of the bias.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include "math/scalar.h"
#include "ops/convolution.h"

#define FBP_TEMPLATE "ops/convolution_gradients.c"
#include "math/expand.h"

/* ---- backward: dx[q, c] = sum over t, o of dy[(q + padding - t dilation) / stride, o] w[t, c, o],
 * over those t for which it divides: again products of patches, with the kernel flipped. Positions
 * q that differ by a multiple of the stride have the same t; each such phase is one product.
 * (Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.) ---- */

/* Along one axis, positions first, first + stride, ... of the input. */
typedef struct {
    int64_t first, count;
    int64_t taps;      /* elements of the kernel that meet them */
    int64_t tap, step; /* the last of these, and from one to the one before it */
    int64_t at, move;  /* where that one meets the framed gradient, and the one before it */
} phase;

static phase phase_of(const fbp_window *w, int64_t before, int64_t first) {
    phase p = {.first = first, .count = fbp_pieces(w->in - first, w->stride), .step = 1};
    for (int64_t t = w->kernel - 1; t >= 0; t--) {
        if ((first + w->padding - t * w->dilation) % w->stride != 0) continue;
        if (p.taps == 0) p.tap = t;
        if (p.taps == 1) p.step = p.tap - t;
        p.taps++;
    }
    if (p.taps > 0) p.at = (first + w->padding - p.tap * w->dilation) / w->stride + before;
    p.move = p.step * w->dilation / w->stride;
    return p;
}

/* The product of a phase. */
typedef struct {
    fbp_patches patches;
    const int64_t *out;
    int64_t positions;
    void *panels; /* of each group, one after the other */
    int64_t panel_size;
} phase_product;

typedef struct {
    void *image, *panels;
    int64_t *rows, *runs, *out;
    phase_product *products;
} backward_room;

static int64_t phases_of(const fbp_window *w) { return w->in < w->stride ? w->in : w->stride; }

static backward_room carve_backward(const fbp_node *node, const shape *s, const frame *f,
                                    fbp_carver *carver) {
    size_t size = fbp_size(node->dtype), word = sizeof(int64_t);
    int64_t k = kernel_of(s) * s->outputs;
    backward_room room;
    room.image = fbp_carve(carver, elements_of(f), size);
    room.panels =
        fbp_carve(carver, fbp_packed_size(node->dtype, k, s->columns_in) * s->groups, size);
    room.rows = fbp_carve(carver, positions_in(s), word);
    room.runs = fbp_carve(carver, kernel_of(s), word);
    room.out = fbp_carve(carver, positions_in(s), word);
    room.products =
        fbp_carve(carver, phases_of(&s->axes[0]) * phases_of(&s->axes[1]), sizeof(phase_product));
    return room;
}

/* Rows (t, o) of the panels, the kernel's last element first. */
static void pack_phase(const fbp_node *node, const shape *s, const phase *h, const phase *w,
                       const void *weights, const phase_product *product) {
    int64_t wide = s->depth_out, rows = h->taps * w->taps * s->outputs;
    for (int64_t g = 0; g < s->groups; g++) {
        void *panels = fbp_element(node->dtype, product->panels, g * product->panel_size);
        for (int64_t i = 0; i < h->taps * w->taps; i++) {
            int64_t t = (h->tap - i / w->taps * h->step) * s->axes[1].kernel + w->tap -
                        i % w->taps * w->step;
            const void *from =
                fbp_element(node->dtype, weights, t * s->channels * wide + g * s->columns_out);
            node->gemm->pack_part(rows, s->columns_in, i * s->outputs, s->outputs, from, wide,
                                  !s->apart, panels);
        }
    }
}

/* Settles the product of one phase, and leaves in `room` what is free after it. */
static phase_product prepare(const fbp_node *node, const shape *s, const frame *f, const phase *h,
                             const phase *w, const void *weights, backward_room *room) {
    int64_t row = node->in[0].row_stride, strides[2] = {s->axes[0].stride, s->axes[1].stride};
    int64_t taps = h->taps * w->taps, positions = h->count * w->count;
    int joined =
        s->groups == 1 && !s->apart && w->move == 1 && f->position == f->depth && w->taps > 0;
    int64_t length = s->outputs * (joined ? w->taps : 1);
    phase_product product = {
        .patches = {room->rows, room->runs, taps * s->outputs / length, length, 1, (int)s->apart},
        .out = room->out,
        .positions = positions,
        .panels = room->panels,
        .panel_size = fbp_packed_size(node->dtype, taps * s->outputs, s->columns_in)};
    grid(0, (int64_t[]){1, h->count, w->count}, (int64_t[]){0, f->line, f->position}, room->rows);
    grid((h->first * s->axes[1].in + w->first) * row, (int64_t[]){1, h->count, w->count},
         (int64_t[]){0, strides[0] * s->axes[1].in * row, strides[1] * row}, room->out);
    grid(h->at * f->line + w->at * f->position, (int64_t[]){1, h->taps, joined ? 1 : w->taps},
         (int64_t[]){0, h->move * f->line, w->move * f->position}, room->runs);
    pack_phase(node, s, h, w, weights, &product);
    room->rows += positions;
    room->out += positions;
    room->runs += taps;
    room->panels = fbp_element(node->dtype, room->panels, product.panel_size * s->groups);
    return product;
}

static void input_gradient(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    const shape s = shape_of(node);
    const frame f = frame_of_gradient(&s, y->row_stride);
    fbp_carver carver = {call->scratch, 0};
    backward_room room = carve_backward(node, &s, &f, &carver), left = room;
    int64_t n = 0;
    for (int64_t i = 0; i < phases_of(&s.axes[0]); i++) {
        for (int64_t j = 0; j < phases_of(&s.axes[1]); j++) {
            phase h = phase_of(&s.axes[0], f.before[0], i),
                  w = phase_of(&s.axes[1], f.before[1], j);
            room.products[n++] = prepare(node, &s, &f, &h, &w, call->at.x[1], &left);
        }
    }
    if (call->half != NULL)
        call->half->round((float *)left.panels - (float *)room.panels, room.panels);
    memset(room.image, 0, (size_t)elements_of(&f) * fbp_size(node->dtype));
    for (int64_t i = 0; i < samples_of(node, call); i++) {
        const void *sample = fbp_element(node->dtype, call->at.dy[0], i * y->sample_stride);
        const void *image = framed(node, &f, sample, y->row_stride, room.image);
        for (int64_t j = 0; j < n * s.groups; j++) {
            const phase_product *product = &room.products[j / s.groups];
            int64_t g = j % s.groups;
            node->gemm->multiply_patches(
                product->positions, s.columns_in, &product->patches,
                fbp_element(node->dtype, image, g * s.outputs),
                fbp_element(node->dtype, product->panels, g * product->panel_size), FBP_BIAS_NONE,
                product->out,
                fbp_element(node->dtype, call->at.dx[0], i * x->sample_stride + g * s.columns_in));
        }
    }
}

/* ---- dw[t, c, o] = sum over p of x[p stride + t dilation - padding, c] dy[p, o]; db = sum of dy,
 * over all positions of all samples: products too, of which the elements of the kernel are the rows
 * and the positions are what is summed over ---- */

typedef struct {
    void *image, *sums, *gradient;
    int64_t *rows, *runs;
    int64_t ld;
} weights_room;

/* Whether all products can read the gradient of the result, and write theirs, where these lie. */
static int whole_vectors(const fbp_node *node, const shape *s) {
    return s->columns_out % fbp_pad(node->dtype) == 0;
}

static weights_room carve_weights(const fbp_node *node, const shape *s, const frame *f,
                                  int64_t rows, fbp_carver *carver) {
    size_t size = fbp_size(node->dtype), word = sizeof(int64_t);
    int copied = !whole_vectors(node, s);
    weights_room room = {.ld = s->groups * fbp_round_up(s->columns_out, fbp_pad(node->dtype))};
    room.image = fbp_carve(carver, elements_of(f), size);
    room.sums = fbp_carve(carver, copied ? rows * room.ld : 0, size);
    room.gradient = fbp_carve(
        carver, copied ? positions_out(s) * s->depth_out + fbp_pad(node->dtype) : 0, size);
    room.rows = fbp_carve(carver, rows, word);
    room.runs = fbp_carve(carver, s->axes[0].out, word);
    return room;
}

/* Rows of n elements from one spacing to another. */
static void copy_rows(fbp_dtype dtype, int64_t rows, int64_t n, const void *from, int64_t from_row,
                      void *to, int64_t to_row) {
    for (int64_t r = 0; r < rows; r++)
        memcpy(fbp_element(dtype, to, r * to_row), fbp_element(dtype, from, r * from_row),
               (size_t)n * fbp_size(dtype));
}

/* Each group's columns of g, dense, to or from columns of sums that whole vectors may overrun. */
static void move_sums(const fbp_node *node, const shape *s, int64_t rows, int back, void *g,
                      const weights_room *room) {
    int64_t wide = s->depth_out, padded = room->ld / s->groups;
    for (int64_t i = 0; i < s->groups; i++) {
        void *dense = fbp_element(node->dtype, g, i * s->columns_out);
        void *sums = fbp_element(node->dtype, room->sums, i * padded);
        if (back)
            copy_rows(node->dtype, rows, s->columns_out, sums, room->ld, dense, wide);
        else
            copy_rows(node->dtype, rows, s->columns_out, dense, wide, sums, room->ld);
    }
}

/* Rows [begin, end) of the weights' gradient, added to g. */
static void add_weights_gradient(const fbp_node *node, const fbp_call *call, int64_t begin,
                                 int64_t end, void *g) {
    const fbp_operand *x = &node->in[0], *y = &node->out[0];
    const shape s = shape_of(node);
    const fbp_window *h = &s.axes[0], *w = &s.axes[1];
    const frame f = frame_of_input(&s, x->row_stride);
    fbp_carver carver = {call->scratch, 0};
    int64_t k = kernel_of(&s) * s.channels, wide = s.depth_out;
    weights_room room = carve_weights(node, &s, &f, k, &carver);
    int direct = whole_vectors(node, &s);
    int64_t padded = room.ld / s.groups;
    void *sums = direct ? g : room.sums;
    if (!direct) move_sums(node, &s, end - begin, 0, g, &room);
    grid(0, (int64_t[]){h->kernel, w->kernel, s.channels},
         (int64_t[]){h->dilation * f.line, w->dilation * f.position, 1}, room.rows);
    grid(0, (int64_t[]){1, 1, h->out}, (int64_t[]){0, 0, h->stride * f.line}, room.runs);
    const fbp_patches patches = {room.rows + begin,      room.runs,   h->out, w->out,
                                 w->stride * f.position, (int)s.apart};
    memset(room.image, 0, (size_t)elements_of(&f) * fbp_size(node->dtype));
    for (int64_t i = 0; i < samples_of(node, call); i++) {
        const void *sample = fbp_element(node->dtype, call->at.x[0], i * x->sample_stride);
        const void *image = framed(node, &f, sample, x->row_stride, room.image);
        const void *dy = fbp_element(node->dtype, call->at.dy[0], i * y->sample_stride);
        int64_t row = direct ? y->row_stride : wide;
        if (!direct) {
            copy_rows(node->dtype, positions_out(&s), wide, dy, y->row_stride, room.gradient, wide);
            dy = room.gradient;
        }
        for (int64_t j = 0; j < s.groups; j++)
            node->gemm->add_patches(end - begin, s.columns_out, &patches,
                                    fbp_element(node->dtype, image, j * s.channels),
                                    fbp_element(node->dtype, dy, j * s.columns_out), row,
                                    fbp_element(node->dtype, sums, j * padded), room.ld);
    }
    if (!direct) move_sums(node, &s, end - begin, 1, g, &room);
}

static void add_bias_gradient(const fbp_node *node, const fbp_call *call, void *g) {
    const fbp_operand *y = &node->out[0];
    for (int64_t i = 0; i < samples_of(node, call); i++) {
        const void *dy = fbp_element(node->dtype, call->at.dy[0], i * y->sample_stride);
        if (node->dtype == FBP_F32)
            add_rows_f32(fbp_positions(y), fbp_width(y), dy, y->row_stride, g);
        else
            add_rows_f64(fbp_positions(y), fbp_width(y), dy, y->row_stride, g);
    }
}

static size_t scratch_bytes(const fbp_node *node) {
    const shape s = shape_of(node);
    const frame x = frame_of_input(&s, node->in[0].row_stride);
    const frame dy = frame_of_gradient(&s, node->out[0].row_stride);
    fbp_carver input = {NULL, 0}, weights = {NULL, 0};
    carve_backward(node, &s, &dy, &input);
    carve_weights(node, &s, &x, kernel_of(&s) * s.channels, &weights);
    return input.used > weights.used ? input.used : weights.used;
}

const gradients FBP_FAMILY(convolution_gradients) = {input_gradient, add_weights_gradient,
                                                     add_bias_gradient, scratch_bytes};

#else /* the template */

/* g (n) += the sum of the rows of dy, in four interleaved chains: one alone would wait for each
 * addition. */
static void FN(add_rows)(int64_t rows, int64_t n, const void *dy_, int64_t ld, void *g_) {
    const real *dy = dy_;
    real *g = g_;
    for (int64_t first = 0; first < n; first += FBP_LANES) {
        const int64_t width = n - first < FBP_LANES ? n - first : FBP_LANES;
        real sums[4][FBP_LANES] = {{0}};
        int64_t r = 0;
        if (width == FBP_LANES) {
            for (; r + 4 <= rows; r += 4)
                for (int chain = 0; chain < 4; chain++) {
                    FBP_LANEWISE
                    for (int j = 0; j < FBP_LANES; j++)
                        sums[chain][j] += dy[(r + chain) * ld + first + j];
                }
        }
        for (; r < rows; r++)
            for (int64_t j = 0; j < width; j++) sums[r % 4][j] += dy[r * ld + first + j];
        for (int64_t j = 0; j < width; j++)
            g[first + j] += (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
    }
}

#endif
