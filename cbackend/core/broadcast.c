/* Broadcasting: the shapes, and the sweeps. */
#include "core/broadcast.h"

#include <stdio.h>
#include <string.h>

#include "core/node_run.h"

/* ---- shapes ---- */

static fbp_status refuse(const fbp_node *node) {
    char found[320];
    int used = 0;
    for (int i = 0; i < node->n_in; i++)
        used += snprintf(found + used, sizeof found - (size_t)used, "%s%s of shape %s",
                         i == 0 ? "" : (i + 1 < node->n_in ? ", " : " and "),
                         node->row->op.inputs[i], fbp_shape_words(&node->in[i].is));
    return fbp_fail(FBP_INVALID, "%s: found %s, wanted shapes that broadcast", node->row->name,
                    found);
}

/* Length of the axis so far from the last; 1 where there is none. */
static int64_t length_at(const fbp_shape *x, int from_last) {
    return from_last < x->ndim ? x->shape[x->ndim - 1 - from_last] : 1;
}

int fbp_spans_result(const fbp_node *node, int input) {
    const fbp_shape *x = &node->in[input].is, *y = &node->out[0].is;
    int whole = x->ndim == y->ndim;
    for (int i = 0; i < node->n_in; i++) whole &= x->batched >= node->in[i].is.batched;
    for (int i = 0; whole && i < x->ndim; i++) whole = x->shape[i] == y->shape[i];
    return whole;
}

fbp_status fbp_broadcast(fbp_node *node) {
    fbp_shape *y = &node->out[0].is;
    int batched = 0;
    for (int i = 0; i < node->n_in; i++) batched |= node->in[i].is.batched;
    y->ndim = 0;
    for (int i = 0; i < node->n_in; i++) {
        const fbp_shape *x = &node->in[i].is;
        if (x->content != FBP_REAL)
            return fbp_fail(FBP_INVALID, "%s: found integers as %s, wanted reals", node->row->name,
                            node->row->op.inputs[i]);
        if (x->batched == batched && x->ndim > y->ndim) y->ndim = x->ndim;
    }
    for (int i = 0; i < node->n_in; i++) {
        const fbp_shape *x = &node->in[i].is;
        int along_samples = batched && !x->batched && x->ndim == y->ndim + 1 && x->shape[0] == 1;
        if ((x->batched && x->ndim < y->ndim) || (x->ndim > y->ndim && !along_samples))
            return refuse(node);
    }
    for (int j = 0; j < y->ndim; j++) {
        int64_t n = 1;
        for (int i = 0; i < node->n_in; i++) {
            int64_t own = length_at(&node->in[i].is, j);
            if (own != 1 && n != 1 && own != n) return refuse(node);
            if (own != 1) n = own;
        }
        y->shape[y->ndim - 1 - j] = n;
    }
    node->in_place = fbp_spans_result(node, 0);
    return FBP_OK;
}

fbp_operand fbp_dense(const fbp_operand *x) {
    fbp_operand dense = *x;
    fbp_lay_out(&dense, fbp_width(x));
    return dense;
}

/* ---- sweeps ---- */

void fbp_sweep_start(fbp_sweep *sweep, const fbp_node *node, const fbp_operand *over,
                     int64_t samples, fbp_elements_fn *function) {
    sweep->dtype = node->dtype;
    sweep->function = function;
    sweep->numbers = node->numbers;
    sweep->samples = over->is.batched ? samples : 1;
    sweep->n_read = 0;
    sweep->n_axes = over->is.ndim + 1;
    sweep->shape[0] = sweep->samples;
    for (int i = 0; i < over->is.ndim; i++) sweep->shape[i + 1] = over->is.shape[i];
}

static void take_strides(fbp_sweep *sweep, int k, const fbp_operand *x) {
    sweep->strides[k][0] = x->sample_stride;
    for (int i = 1; i < sweep->n_axes; i++) {
        int axis = x->is.ndim - (sweep->n_axes - i);
        sweep->strides[k][i] = axis >= 0 && x->is.shape[axis] > 1 ? x->strides[axis] : 0;
    }
}

void fbp_sweep_read(fbp_sweep *sweep, const fbp_operand *x, const void *from) {
    sweep->from[sweep->n_read] = from;
    take_strides(sweep, sweep->n_read++, x);
}

/* ---- pieces ---- */

/* The axes as they are walked: those that every array crosses in even steps are one, and along the
 * last each array has all its elements one after the other, or one element. The last array is what
 * is written. */
typedef struct {
    int n_axes, n_arrays;
    int64_t shape[FBP_MAX_DIMS + 2];
    int64_t strides[FBP_MOST_READ + 1][FBP_MAX_DIMS + 2];
    int64_t at[FBP_MOST_READ + 1]; /* of the piece */
    int64_t counts[FBP_MAX_DIMS + 2];
} walk;

static int follows(const walk *w, const fbp_sweep *sweep, int axis) {
    for (int k = 0; k < w->n_arrays; k++)
        if (w->strides[k][w->n_axes - 1] != sweep->strides[k][axis] * sweep->shape[axis]) return 0;
    return 1;
}

static void put_axis(walk *w, const fbp_sweep *sweep, int axis) {
    w->shape[w->n_axes] = sweep->shape[axis];
    for (int k = 0; k < w->n_arrays; k++) w->strides[k][w->n_axes] = sweep->strides[k][axis];
    w->n_axes++;
}

static void lay_axes(walk *w, const fbp_sweep *sweep, int first) {
    w->n_axes = 0;
    w->n_arrays = sweep->n_read + 1;
    for (int i = first; i < sweep->n_axes; i++) {
        if (sweep->shape[i] == 1) continue;
        if (w->n_axes > 0 && follows(w, sweep, i)) {
            w->n_axes--;
            int64_t outer = w->shape[w->n_axes];
            put_axis(w, sweep, i);
            w->shape[w->n_axes - 1] *= outer;
        } else {
            put_axis(w, sweep, i);
        }
    }
    int even = w->n_axes > 0;
    for (int k = 0; even && k < w->n_arrays; k++) {
        int64_t step = w->strides[k][w->n_axes - 1];
        even = step == 0 || step == 1;
    }
    if (even) return;
    w->shape[w->n_axes] = 1; /* rows of one element each, padded: pieces of one */
    for (int k = 0; k < w->n_arrays; k++) w->strides[k][w->n_axes] = 1;
    w->n_axes++;
}

static int64_t piece_length(const walk *w) { return w->shape[w->n_axes - 1]; }
static int64_t step_of(const walk *w, int array) { return w->strides[array][w->n_axes - 1]; }

static int first_piece(walk *w) {
    int any = 1;
    for (int i = 0; i < w->n_axes; i++) {
        w->counts[i] = 0;
        any &= w->shape[i] > 0;
    }
    return any;
}

static int next_piece(walk *w) {
    for (int i = w->n_axes - 2; i >= 0; i--) {
        int more = ++w->counts[i] < w->shape[i];
        for (int k = 0; k < w->n_arrays; k++)
            w->at[k] += more ? w->strides[k][i] : -w->strides[k][i] * (w->shape[i] - 1);
        if (more) return 1;
        w->counts[i] = 0;
    }
    return 0;
}

/* ---- running the function ---- */

/* n times the same element. */
static void fill(fbp_dtype dtype, int64_t n, const void *element, void *to) {
    if (dtype == FBP_F32)
        for (int64_t i = 0; i < n; i++) ((float *)to)[i] = *(const float *)element;
    else
        for (int64_t i = 0; i < n; i++) ((double *)to)[i] = *(const double *)element;
}

/* An array with one element all along a piece is read from a run of it. */
typedef struct {
    const void *from[FBP_MOST_READ];
    double runs[FBP_MOST_READ][FBP_RUN];
} reading;

static int begin_reading(const fbp_sweep *sweep, const walk *w, reading *r) {
    int64_t n = piece_length(w);
    int spread = 0;
    for (int k = 0; k < sweep->n_read; k++) {
        r->from[k] = fbp_element(sweep->dtype, sweep->from[k], w->at[k]);
        if (step_of(w, k) == 1) continue;
        fill(sweep->dtype, n < FBP_RUN ? n : FBP_RUN, r->from[k], r->runs[k]);
        r->from[k] = r->runs[k];
        spread = 1;
    }
    return spread;
}

static void read_on(const fbp_sweep *sweep, const walk *w, int64_t n, reading *r) {
    for (int k = 0; k < sweep->n_read; k++)
        if (step_of(w, k) == 1) r->from[k] = fbp_element(sweep->dtype, r->from[k], n);
}

void fbp_sweep_write(fbp_sweep *sweep, const fbp_operand *y, void *to) {
    walk w;
    reading r;
    memset(w.at, 0, sizeof w.at);
    take_strides(sweep, sweep->n_read, y);
    lay_axes(&w, sweep, 0);
    for (int more = first_piece(&w); more; more = next_piece(&w)) {
        int64_t left = piece_length(&w), most = begin_reading(sweep, &w, &r) ? FBP_RUN : left;
        char *out = fbp_element(sweep->dtype, to, w.at[sweep->n_read]);
        while (left > 0) {
            int64_t n = left < most ? left : most;
            sweep->function(n, r.from, out, sweep->numbers);
            left -= n;
            if (left == 0) break;
            read_on(sweep, &w, n, &r);
            out += (size_t)n * fbp_size(sweep->dtype);
        }
    }
}

/* Results that meet in one element, until they are handed over. */
typedef struct {
    const fbp_sink *sink;
    char *to, *element;
    int64_t held;
    double results[FBP_RUN];
} run_of_results;

static void hand_over(run_of_results *run) {
    if (run->held > 0) run->sink->all(run->held, run->results, run->element);
    run->held = 0;
}

static void add_piece(const fbp_sweep *sweep, const walk *w, run_of_results *run) {
    reading r;
    int64_t left = piece_length(w);
    char *element = run->to + w->at[sweep->n_read] * (int64_t)run->sink->size;
    int one = left == 1 || step_of(w, sweep->n_read) == 0;
    if (!one || element != run->element) hand_over(run);
    run->element = element;
    begin_reading(sweep, w, &r);
    while (left > 0) {
        int64_t room = FBP_RUN - run->held, n = left < room ? left : room;
        char *results = fbp_element(sweep->dtype, run->results, run->held);
        sweep->function(n, r.from, results, sweep->numbers);
        if (one) {
            run->held += n;
        } else {
            run->sink->each(n, results, element);
            element += (size_t)n * run->sink->size;
        }
        if (run->held == FBP_RUN) hand_over(run);
        left -= n;
        read_on(sweep, w, n, &r);
    }
}

void fbp_sweep_add(fbp_sweep *sweep, const fbp_operand *y, void *to, const fbp_sink *sink) {
    walk w;
    run_of_results run = {.sink = sink, .to = to};
    take_strides(sweep, sweep->n_read, y);
    lay_axes(&w, sweep, 1);
    for (int64_t s = 0; s < sweep->samples; s++) {
        for (int k = 0; k < w.n_arrays; k++) w.at[k] = s * sweep->strides[k][0];
        for (int more = first_piece(&w); more; more = next_piece(&w)) add_piece(sweep, &w, &run);
        hand_over(&run);
    }
}
