/* Walks: elements of two or three arrays visited together, each array by strides of its own. What
 * copies, sums and picks elements by position is made of them. The first part holds the walk
 * itself, the second, a template (expand.h), copies and sums along it; neither knows an op. */
#ifndef FBP_OPS_WALK_H
#define FBP_OPS_WALK_H

#include <string.h>

#include "core/node.h"
#include "math/scalar.h"

enum { walk_axes = FBP_MAX_DIMS + 2, walk_arrays = 3 };

/* Axes from the outermost to the innermost, whose elements are one run. */
typedef struct {
    int n_axes;
    int64_t count[walk_axes];
    int64_t stride[walk_axes][walk_arrays];
} walk;

/* Where a walk is: the first element of a run in each array. */
typedef struct {
    int64_t index[walk_axes], at[walk_arrays];
} walk_place;

/* Another axis, inside of those before. One of a single element is none. */
static inline void walk_axis(walk *w, int64_t count, int64_t first, int64_t second, int64_t third) {
    if (count == 1) return;
    w->count[w->n_axes] = count;
    w->stride[w->n_axes][0] = first;
    w->stride[w->n_axes][1] = second;
    w->stride[w->n_axes][2] = third;
    w->n_axes++;
}

/* An innermost axis of one element: every element is a run, and no walk has less than one. */
static inline void walk_singly(walk *w) {
    w->count[w->n_axes] = 1;
    for (int k = 0; k < walk_arrays; k++) w->stride[w->n_axes][k] = 0;
    w->n_axes++;
}

/* Neighbouring axes that all arrays pass evenly become one. The order of the elements stays. */
static inline void walk_join(walk *w) {
    int last = 0;
    for (int a = 1; a < w->n_axes; a++) {
        int even = 1;
        for (int k = 0; k < walk_arrays; k++)
            even &= w->stride[last][k] == w->stride[a][k] * w->count[a];
        int to = even ? last : ++last;
        w->count[to] = even ? w->count[last] * w->count[a] : w->count[a];
        memcpy(w->stride[to], w->stride[a], sizeof w->stride[a]);
    }
    if (w->n_axes == 0)
        walk_singly(w);
    else
        w->n_axes = last + 1;
}

static inline int walk_is_empty(const walk *w) {
    int empty = 0;
    for (int a = 0; a < w->n_axes; a++) empty |= w->count[a] == 0;
    return empty;
}

/* The first two arrays change places. */
static inline void walk_turn(walk *w) {
    for (int a = 0; a < w->n_axes; a++) {
        int64_t first = w->stride[a][0];
        w->stride[a][0] = w->stride[a][1];
        w->stride[a][1] = first;
    }
}

/* To the next run; 0 after the last. */
static inline int walk_next(const walk *w, walk_place *place) {
    for (int a = w->n_axes - 2; a >= 0; a--) {
        int64_t step = ++place->index[a] < w->count[a] ? 1 : 1 - w->count[a];
        for (int k = 0; k < walk_arrays; k++) place->at[k] += step * w->stride[a][k];
        if (step == 1) return 1;
        place->index[a] = 0;
    }
    return 0;
}

/* Where one array has its elements side by side along the last axis and the other along another,
 * that one becomes the last but one. Returns whether it is so: then the two are transposed. */
static inline int walk_transposes(walk *w) {
    int last = w->n_axes - 1;
    const int64_t *run = w->stride[last];
    int other = run[0] == 1, found = -1; /* the array that jumps along the last axis */
    if ((run[0] == 1) == (run[1] == 1) || run[other] == 0) return 0;
    for (int a = 0; a < last; a++)
        if (w->stride[a][other] == 1) found = a;
    if (found < 0) return 0;
    int64_t count = w->count[found], strides[walk_arrays];
    memcpy(strides, w->stride[found], sizeof strides);
    for (int a = found; a + 1 < last; a++) {
        w->count[a] = w->count[a + 1];
        memcpy(w->stride[a], w->stride[a + 1], sizeof strides);
    }
    w->count[last - 1] = count;
    memcpy(w->stride[last - 1], strides, sizeof strides);
    return 1;
}

#endif

#ifdef real

FBP_INLINE void FN(copy_run)(int64_t n, const real *from, int64_t from_step, real *to,
                             int64_t to_step) {
    if (from_step == 1 && to_step == 1) {
        memcpy(to, from, (size_t)n * sizeof(real));
    } else if (from_step == 0 && to_step == 1) {
        const real value = *from;
        for (int64_t i = 0; i < n; i++) to[i] = value;
    } else {
        for (int64_t i = 0; i < n; i++) to[i * to_step] = from[i * from_step];
    }
}

/* Rows and columns change places, in squares that stay in cache. */
static inline void FN(copy_transposed)(int64_t rows, int64_t columns, const real *from,
                                       const int64_t *from_steps, real *to,
                                       const int64_t *to_steps) {
    enum { square = 16 };
    for (int64_t r = 0; r < rows; r += square) {
        for (int64_t c = 0; c < columns; c += square) {
            const int64_t r_end = r + square < rows ? r + square : rows;
            const int64_t c_end = c + square < columns ? c + square : columns;
            for (int64_t i = r; i < r_end; i++)
                for (int64_t j = c; j < c_end; j++)
                    to[i * to_steps[0] + j * to_steps[1]] =
                        from[i * from_steps[0] + j * from_steps[1]];
        }
    }
}

/* The second array becomes the first. The walk is the function's own to rearrange. */
static inline void FN(walk_copy)(walk w, const real *from, real *to) {
    if (walk_is_empty(&w)) return;
    walk_join(&w);
    walk_place place = {0};
    if (!walk_transposes(&w)) {
        const int last = w.n_axes - 1;
        do {
            FN(copy_run)(w.count[last], from + place.at[0], w.stride[last][0], to + place.at[1],
                         w.stride[last][1]);
        } while (walk_next(&w, &place));
        return;
    }
    const int row = w.n_axes - 2, column = w.n_axes - 1;
    const int64_t from_steps[2] = {w.stride[row][0], w.stride[column][0]};
    const int64_t to_steps[2] = {w.stride[row][1], w.stride[column][1]};
    w.n_axes--; /* a run is now all of a matrix */
    do {
        FN(copy_transposed)(w.count[row], w.count[column], from + place.at[0], from_steps,
                            to + place.at[1], to_steps);
    } while (walk_next(&w, &place));
}

/* A sum of n elements in chains that do not depend on the width of vectors. */
FBP_INLINE real FN(sum_run)(int64_t n, const real *x, int64_t step) {
    real sums[FBP_LANES] = {(real)0};
    int64_t i = 0;
    if (step == 1) {
        for (; i + FBP_LANES <= n; i += FBP_LANES) {
            FBP_LANEWISE
            for (int l = 0; l < FBP_LANES; l++) sums[l] += x[i + l];
        }
    }
    for (; i < n; i++) sums[i % FBP_LANES] += x[i * step];
    for (int half = FBP_LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) sums[l] += sums[l + half];
    return sums[0];
}

FBP_INLINE void FN(add_run)(int64_t n, const real *from, int64_t from_step, real *to,
                            int64_t to_step) {
    if (from_step == 1 && to_step == 1) {
        FBP_INDEPENDENT
        for (int64_t i = 0; i < n; i++) to[i] += from[i];
    } else {
        for (int64_t i = 0; i < n; i++) to[i * to_step] += from[i * from_step];
    }
}

/* The second array += the first; where it stands still, a sum. The order of a sum is that of the
 * walk's axes as they were given, however the arrays lie. */
static inline void FN(walk_add)(walk w, const real *from, real *to) {
    if (walk_is_empty(&w)) return;
    if (w.n_axes == 0) walk_singly(&w);
    walk_place place = {0};
    const int last = w.n_axes - 1;
    const int64_t n = w.count[last], step = w.stride[last][0], to_step = w.stride[last][1];
    do {
        const real *const x = from + place.at[0];
        real *const y = to + place.at[1];
        if (to_step == 0)
            *y += FN(sum_run)(n, x, step);
        else
            FN(add_run)(n, x, step, y, to_step);
    } while (walk_next(&w, &place));
}

/* All elements of an operand, and nothing of what pads its rows. */
static inline void FN(fill)(const fbp_operand *x, int64_t samples, double value, real *to) {
    int64_t rows = fbp_rows_of(x, samples), width = fbp_width(x);
    const real element = (real)value;
    if (x->row_stride == width) {
        width *= rows;
        rows = rows > 0;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) to[r * x->row_stride + i] = element;
}

#endif
