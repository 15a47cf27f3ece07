/* What ops that move elements have in common. Each says how the elements of an input and those of
 * the result lie to each other, as a walk (walk.h) over both: forward copies along it, backward
 * copies or adds the other way. Rows may be padded on either side, so nothing here takes an array
 * to be dense. The ops themselves are in shape.c and slice.c. */
#ifndef FBP_OPS_MOVE_H
#define FBP_OPS_MOVE_H

#include <math.h>

#include "core/node_run.h"
#include "ops/walk.h"

#define FBP_TEMPLATE "ops/walk.h"
#include "math/expand.h"

/* Elements of an input, array 0 of the walk, and of the result, array 1: one each. */
typedef struct {
    walk steps;
    int64_t first_in, first_out;
} relation;

/* An op's own part: axes of the walk and the first elements. x is the input, or the dense sum of
 * its gradients. */
typedef void (*relate)(const fbp_node *node, int input, const fbp_operand *x, relation *to);

static inline relation relation_of(relate own, const fbp_node *node, int input,
                                   const fbp_operand *x, int64_t samples) {
    const fbp_operand *y = &node->out[0];
    relation found = {.first_in = 0};
    if (y->is.batched) walk_axis(&found.steps, samples, x->sample_stride, y->sample_stride, 0);
    own(node, input, x, &found);
    return found;
}

static inline void copy(fbp_dtype dtype, walk steps, const void *from, int64_t first_from, void *to,
                        int64_t first_to) {
    if (walk_is_empty(&steps)) return; /* then the first element may be none of the array's */
    if (dtype == FBP_F32)
        walk_copy_f32(steps, (const float *)from + first_from, (float *)to + first_to);
    else
        walk_copy_f64(steps, (const double *)from + first_from, (double *)to + first_to);
}

static inline void add(fbp_dtype dtype, walk steps, const void *from, int64_t first_from, void *to,
                       int64_t first_to) {
    if (walk_is_empty(&steps)) return;
    if (dtype == FBP_F32)
        walk_add_f32(steps, (const float *)from + first_from, (float *)to + first_to);
    else
        walk_add_f64(steps, (const double *)from + first_from, (double *)to + first_to);
}

static inline void fill(fbp_dtype dtype, const fbp_operand *x, int64_t samples, double value,
                        void *to) {
    if (dtype == FBP_F32)
        fill_f32(x, samples, value, to);
    else
        fill_f64(x, samples, value, to);
}

/* The inputs' elements go to their places in the result. */
static inline void place(const fbp_node *node, relate own, int64_t samples, const void *const *x,
                         void *y) {
    for (int i = 0; i < node->n_in; i++) {
        relation r = relation_of(own, node, i, &node->in[i], samples);
        copy(node->dtype, r.steps, x[i], r.first_in, y, r.first_out);
    }
}

/* Gradients of elements come from where the elements went. */
static inline void fetch(const fbp_node *node, relate own, int64_t samples, const void *dy,
                         void *const *dx) {
    for (int i = 0; i < node->n_in; i++) {
        if (dx[i] == NULL || node->shared & 1u << i) continue;
        relation r = relation_of(own, node, i, &node->in[i], samples);
        walk_turn(&r.steps);
        copy(node->dtype, r.steps, dy, r.first_out, dx[i], r.first_in);
    }
}

/* One number for each axis of the input. */
static inline fbp_status check_count(const fbp_node *node, int attr) {
    const fbp_shape *x = &node->in[0].is;
    if (fbp_count(node, attr) == x->ndim) return FBP_OK;
    return fbp_fail(FBP_INVALID, "%s of %s: found %d numbers, wanted %d as x is of shape %s",
                    node->row->attrs[attr].name, node->row->name, fbp_count(node, attr), x->ndim,
                    fbp_shape_words(x));
}

/* More than this no array has, and all below it doubles and sums of them hold exactly. */
#define MOST 0x1p48
#define LIST(name_, low_, doc_)                                                                    \
    {.name = name_,                                                                                \
     .fallback = NAN,                                                                              \
     .low = low_,                                                                                  \
     .high = MOST,                                                                                 \
     .doc = doc_,                                                                                  \
     .whole = 1,                                                                                   \
                                                                                                   \
     .most = FBP_MAX_DIMS}

static const char *const move_inputs[] = {"x"};

/* A row of one input. */
#define MOVE(name_, doc_, n_attrs_, ...)                                                           \
    {                                                                                              \
        .name = #name_, .doc = doc_, .kind = FBP_OP, .n_attrs = n_attrs_, .attrs = {__VA_ARGS__},  \
        .op = {1, 1, move_inputs, .axis = FBP_AXIS_NONE}, .infer = name_##_infer,                  \
        .node = {&name_##_kernels, &name_##_kernels}                                               \
    }

#endif
