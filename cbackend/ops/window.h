/* Windows that slide along the axes of a sample, which convolutions and poolings have in common: a
 * sample (H, W, C) has two such axes, and one (L, C) is an image of a single line. */
#ifndef FBP_OPS_WINDOW_H
#define FBP_OPS_WINDOW_H

#include "core/node.h"

/* Element t of window i lies at i * stride + t * dilation - padding. */
typedef struct {
    int64_t in, out, kernel, stride, padding, dilation;
} fbp_window;

/* More elements than these no memory holds; with more zeros around a sample, counts of bytes would
 * overflow. */
#define FBP_MOST_ELEMENTS 0x1p48

/* What lists of one or two numbers, of which one stands for both axes, may be. */
#define FBP_AXES .whole = 1, .high = 65536, .least = 1, .most = 2

/* The attribute's number for one of the two axes, the first of which a line has not. */
static inline int64_t fbp_along_axis(const fbp_node *node, int attr, int axis) {
    int lines = node->in[0].is.ndim == 2, count = fbp_count(node, attr);
    return fbp_whole(node, attr, count == 2 && !lines ? axis : 0);
}

/* Refuses two numbers where there is one axis. */
static inline fbp_status fbp_check_axes(const fbp_node *node, int attr) {
    if (node->in[0].is.ndim == 3 || fbp_count(node, attr) <= 1) return FBP_OK;
    return fbp_fail(FBP_INVALID, "%s of %s: found 2 numbers, wanted 1 for x of shape %s",
                    node->row->attrs[attr].name, node->row->name, fbp_shape_words(&node->in[0].is));
}

/* Settles `out` of both windows from all else, and whether zeros around all of it fit memory. */
static inline fbp_status fbp_slide(const fbp_node *node, fbp_window *windows, int64_t depth) {
    const fbp_shape *x = &node->in[0].is;
    double elements = (double)depth;
    for (int axis = 3 - x->ndim; axis < 2; axis++) {
        fbp_window *w = &windows[axis];
        int64_t reach = (w->kernel - 1) * w->dilation + 1, room = w->in + 2 * w->padding;
        if (w->in < 1 || w->kernel < 1 || reach > room)
            return fbp_fail(FBP_INVALID,
                            "%s: found x of shape %s and a kernel of %lld that reaches over %lld, "
                            "wanted at most the %lld that axis %d has with its padding",
                            node->row->name, fbp_shape_words(x), (long long)w->kernel,
                            (long long)reach, (long long)room, x->batched + axis - 3 + x->ndim);
        w->out = (room - reach) / w->stride + 1;
        elements *= (double)room + (double)reach;
    }
    if (elements <= FBP_MOST_ELEMENTS) return FBP_OK;
    return fbp_fail(FBP_INVALID, "%s: found x of shape %s, which no memory holds with its padding",
                    node->row->name, fbp_shape_words(x));
}

/* The axis that a line has not. */
static inline fbp_window fbp_no_axis(void) { return (fbp_window){1, 1, 1, 1, 0, 1}; }

#endif
