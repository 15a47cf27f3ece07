/* What the files of convolutions have in common: the shape that infer notes, images with zeros
 * around them, and lists of where patches lie. Nothing here computes a result. */
#ifndef FBP_OPS_CONVOLUTION_H
#define FBP_OPS_CONVOLUTION_H

#include <string.h>

#include "core/arena.h"
#include "math/scalar.h"
#include "ops/window.h"

/* What infer notes. A group is a product of its own; but groups of a single channel and output,
 * which would fill one lane each, are together one product of columns that are apart. */
typedef struct {
    fbp_window axes[2];              /* lines, positions */
    int64_t depth_in, depth_out;     /* channels and outputs, all of them */
    int64_t groups;                  /* products */
    int64_t channels, outputs;       /* of a position, in a patch of one product */
    int64_t columns_in, columns_out; /* of one product: of the input's gradient, of the result */
    int64_t apart;
} shape;

_Static_assert(sizeof(shape) <= FBP_MAX_GEOMETRY * sizeof(int64_t), "more than geometry holds");

static inline shape shape_of(const fbp_node *node) {
    shape s;
    memcpy(&s, node->geometry, sizeof s);
    return s;
}

static inline int64_t kernel_of(const shape *s) { return s->axes[0].kernel * s->axes[1].kernel; }
static inline int64_t positions_in(const shape *s) { return s->axes[0].in * s->axes[1].in; }
static inline int64_t positions_out(const shape *s) { return s->axes[0].out * s->axes[1].out; }

/* Samples of a call: a node without a sample axis has one. */
static inline int64_t samples_of(const fbp_node *node, const fbp_call *call) {
    return node->in[0].is.batched ? call->at.samples : 1;
}

/* ---- what is to be convolved ---- */

/* An image with zeros around it. */
typedef struct {
    int64_t in[2], before[2], after[2]; /* by axis: lines, positions */
    int64_t depth;                      /* elements of a position */
    int64_t position, line;             /* from one to the next, in elements */
    int as_it_lies;                     /* nothing is around it: it need not be copied */
} frame;

/* Columns that are apart are read in whole vectors, beyond the last position too. */
static inline void settle(frame *f, int64_t apart, int64_t row_stride) {
    int64_t around = f->before[0] | f->before[1] | f->after[0] | f->after[1];
    f->as_it_lies = !around && !(apart && f->depth % FBP_LANES != 0);
    f->position = f->as_it_lies ? row_stride : f->depth;
    f->line = f->position * (f->before[1] + f->in[1] + f->after[1]);
}

/* Of the room for a copy, with some to read beyond it. */
static inline int64_t elements_of(const frame *f) {
    int64_t lines = f->before[0] + f->in[0] + f->after[0];
    return f->as_it_lies ? 0 : f->line * lines + FBP_LANES;
}

/* The sample's image: where it lies, or a copy in `room`, whose zeros are already there. */
static inline const void *framed(const fbp_node *node, const frame *f, const void *sample,
                                 int64_t row_stride, void *room) {
    if (f->as_it_lies) return sample;
    size_t size = fbp_size(node->dtype), row = (size_t)f->depth * size;
    const char *from = sample;
    for (int64_t y = 0; y < f->in[0]; y++) {
        char *to = fbp_element(node->dtype, room,
                               (y + f->before[0]) * f->line + f->before[1] * f->position);
        if (row_stride == f->depth) {
            memcpy(to, from, (size_t)f->in[1] * row);
            from += (size_t)f->in[1] * row;
            continue;
        }
        for (int64_t x = 0; x < f->in[1]; x++, to += row, from += (size_t)row_stride * size)
            memcpy(to, from, row);
    }
    return room;
}

static inline frame frame_of_input(const shape *s, int64_t row_stride) {
    frame f = {.depth = s->depth_in};
    for (int axis = 0; axis < 2; axis++) {
        f.in[axis] = s->axes[axis].in;
        f.before[axis] = f.after[axis] = s->axes[axis].padding;
    }
    settle(&f, s->apart, row_stride);
    return f;
}

/* What the gradient of the input reads of that of the result: as far as any window that holds a
 * position of the input. */
static inline frame frame_of_gradient(const shape *s, int64_t row_stride) {
    frame f = {.depth = s->depth_out};
    for (int axis = 0; axis < 2; axis++) {
        const fbp_window *w = &s->axes[axis];
        int64_t before = (w->kernel - 1) * w->dilation - w->padding;
        int64_t after = (w->in - 1 + w->padding) / w->stride - (w->out - 1);
        f.in[axis] = w->out;
        f.before[axis] = before > 0 ? before / w->stride : 0;
        f.after[axis] = after > 0 ? after : 0;
    }
    settle(&f, s->apart, row_stride);
    return f;
}

/* Offsets of the elements of a grid, to its last axis fastest. */
static inline void grid(int64_t first, const int64_t n[3], const int64_t step[3], int64_t *to) {
    for (int64_t i = 0; i < n[0]; i++)
        for (int64_t j = 0; j < n[1]; j++)
            for (int64_t k = 0; k < n[2]; k++)
                *to++ = first + i * step[0] + j * step[1] + k * step[2];
}

/* The gradients, which a file of their own holds. `weights` and `bias` add to g, of which `weights`
 * forms rows [begin, end). */
typedef struct {
    void (*input)(const fbp_node *node, const fbp_call *call);
    void (*weights)(const fbp_node *node, const fbp_call *call, int64_t begin, int64_t end,
                    void *g);
    void (*bias)(const fbp_node *node, const fbp_call *call, void *g);
    size_t (*scratch_bytes)(const fbp_node *node);
} gradients;

extern const gradients FBP_FAMILY(convolution_gradients);

#endif
