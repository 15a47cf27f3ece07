/* Scans over the steps: forward, backward, and the sums that are gradients of w and bn. A template
 * (expand.h), a part of ops/recurrence.c; it holds no formula of a unit, and no tangents.
 *
 * The samples pass in groups whose states, gathered without gaps, stay in cache from the first step
 * to the last. A step of a group is a product, states (samples, n) by w, and then each sample's
 * units. What an operand has for a sample and step is `units` long, what units work on n long:
 * where the two differ it goes through room that is filled up with zeros, and w likewise, once a
 * call. */
#ifndef FBP_OPS_RECURRENCE_SCAN_H
#define FBP_OPS_RECURRENCE_SCAN_H

/* Samples in a group; rows at a time for which a sum over all rows copies the states before. */
enum { GROUP = 32, ROWS = 128 };

/* Where the i-th step that is taken lies. */
static int64_t place(const scan *s, int64_t i) { return s->reverse ? s->steps - 1 - i : i; }

static int64_t group_at(const scan *s, int64_t first) {
    return s->samples - first < GROUP ? s->samples - first : GROUP;
}

/* Enough for each of the runs; the largest is that of the gradients' tangents. */
static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    const scan s = scan_of(node, &(fbp_call){.at.samples = samples});
    const cell *is = s.is;
    int64_t copies_of_w = 4 * is->blocks * s.n * s.n;
    int64_t single = (2 * is->blocks + 2 * is->kept + 16) * s.n;
    int64_t group = group_at(&s, 0) * (2 * is->slopes + 8) * s.n;
    int64_t sums = ROWS * (s.units + fbp_round_up(is->blocks * s.units, fbp_pad(node->dtype)));
    int64_t scans = copies_of_w + single + group;
    return (size_t)(scans > sums ? scans : sums) * fbp_size(node->dtype);
}

#endif

#ifdef real

/* ---- memory ---- */

static real *FN(take)(real **scratch, int64_t n) {
    real *taken = *scratch;
    *scratch += n;
    return taken;
}

static real *FN(zeros)(real **scratch, int64_t n) {
    return memset(FN(take)(scratch, n), 0, (size_t)n * sizeof(real));
}

static void FN(move)(real *to, const real *from, int64_t n) {
    memcpy(to, from, (size_t)n * sizeof(real));
}

/* An operand's row for a sample at a step. */
static real *FN(row)(const fbp_operand *x, const void *base, int64_t sample, int64_t t) {
    return fbp_element(FBP_IS_F32 ? FBP_F32 : FBP_F64, base,
                       sample * x->sample_stride + t * x->row_stride);
}

/* Its blocks n apart: as it lies, or in `room`, where zeros follow each block. */
static const real *FN(filled)(const scan *s, int64_t blocks, const real *row, real *room) {
    if (s->units == s->n) return row;
    for (int64_t b = 0; b < blocks; b++) FN(move)(room + b * s->n, row + b * s->units, s->units);
    return room;
}

/* Panels of w (units, blocks n), or of its transpose. */
static const real *FN(packed)(const scan *s, const void *w_, int transposed, real **scratch) {
    const int64_t blocks = s->is->blocks, width = blocks * s->n;
    const real *w = w_;
    if (s->units != s->n) {
        real *room = FN(zeros)(scratch, s->units * width);
        for (int64_t r = 0; r < s->units; r++)
            FN(filled)(s, blocks, w + r * blocks * s->units, room + r * width);
        w = room;
    }
    real *panels = FN(take)(scratch, width * s->n);
    if (transposed)
        s->node->gemm->pack_transposed(width, s->units, 0, s->units, w, panels);
    else
        s->node->gemm->pack(s->units, width, 0, s->units, w, panels);
    return panels;
}

static int FN(masked)(const scan *s, int64_t sample, int64_t t) {
    const int i = s->is->mask;
    const real *mask = s->call->at.x[i];
    return has(s->node, i) && mask[sample * s->node->in[i].sample_stride + t] == (real)0;
}

/* What a masked step keeps: zeros, and the cell, where there is one, in the last block. */
static void FN(hold)(const scan *s, const real *c, real *kept) {
    const int64_t gates = (s->is->kept - 1) * s->n;
    if (gates < 0) return;
    memset(kept, 0, (size_t)gates * sizeof(real));
    FN(move)(kept + gates, c, s->n);
}

/* Rows of zeros, and room for what is filled up, at one sample and step. */
typedef struct {
    const real *zeros;
    real *h, *h_before;
} FN(rooms);

static FN(rooms) FN(rooms_in)(const scan *s, real **scratch) {
    FN(rooms) r;
    r.zeros = FN(zeros)(scratch, s->n);
    r.h = FN(zeros)(scratch, s->n);
    r.h_before = FN(zeros)(scratch, s->n);
    return r;
}

/* What forward, or its tangent, has left in h and kept for the i-th step of a sample. */
static FN(point)
    FN(point_at)(const scan *s, const FN(rooms) * room, void *const *y, int64_t sample, int64_t i) {
    const fbp_operand *h = &s->node->out[0], *kept = &s->node->out[1];
    const int64_t t = place(s, i), before = place(s, i - 1);
    FN(point) at = {.h_before = room->zeros, .c_before = room->zeros};
    at.h = FN(filled)(s, 1, FN(row)(h, y[0], sample, t), room->h);
    if (i > 0) at.h_before = FN(filled)(s, 1, FN(row)(h, y[0], sample, before), room->h_before);
    if (s->is->kept == 0) return at;
    at.kept = FN(row)(kept, y[1], sample, t);
    if (i > 0) at.c_before = FN(row)(kept, y[1], sample, before) + (s->is->kept - 1) * s->n;
    return at;
}

/* ---- the units, by cell ---- */

typedef struct {
    void (*forward)(int relu, FN(forward_row) r);
    void (*backward)(int relu, FN(backward_row) r);
    void (*tangent)(int relu, FN(tangent_row) r);
    void (*bend)(int relu, FN(bend_row) r);
} FN(units_of);

#define UNITS(name)                                                                                \
    {FN(name##_forward_units), FN(name##_backward_units), FN(name##_tangent_units),                \
     FN(name##_bend_units)}
static const FN(units_of)
    FN(units)[] = {[RNN] = UNITS(rnn), [LSTM] = UNITS(lstm), [GRU] = UNITS(gru)};
#undef UNITS

/* ---- forward ---- */

static void FN(forward_group)(const scan *s, int64_t first, const real *w, real *room,
                              const real *bias, real *scratch) {
    const fbp_node *node = s->node;
    const fbp_operand *p = &node->in[0], *y = &node->out[0], *kept = &node->out[1];
    const fbp_arrays *at = &s->call->at;
    const int64_t n = s->n, width = s->is->blocks * n, samples = group_at(s, first);
    real *const hw = FN(zeros)(&scratch, samples * width);
    real *const h = FN(zeros)(&scratch, samples * n), *const c = FN(zeros)(&scratch, samples * n);
    real *const unkept = FN(take)(&scratch, s->is->kept * n);
    for (int64_t i = 0; i < s->steps; i++) {
        const int64_t t = place(s, i);
        if (i > 0)
            node->gemm->multiply(samples, width, s->units, h, n, w, FBP_BIAS_NONE, hw, width);
        for (int64_t k = 0; k < samples; k++) {
            const int64_t sample = first + k;
            FN(forward_row) r = {n, NULL, hw + k * width, bias, h + k * n, c + k * n, unkept};
            r.p = FN(filled)(s, s->is->blocks, FN(row)(p, at->x[0], sample, t), room);
            if (node->n_kept > 0 && at->y[1] != NULL) r.kept = FN(row)(kept, at->y[1], sample, t);
            if (FN(masked)(s, sample, t))
                FN(hold)(s, r.c, r.kept);
            else
                FN(units)[node->geometry[CELL]].forward(s->relu, r);
            FN(move)(FN(row)(y, at->y[0], sample, t), r.h, s->units);
        }
    }
}

/* bn, filled up; zeros where it is absent. */
static const real *FN(bias)(const scan *s, const void *const *x, real **scratch) {
    real *bias = FN(zeros)(scratch, s->n);
    if (has(s->node, s->is->bias)) FN(move)(bias, x[s->is->bias], s->units);
    return bias;
}

static void FN(forward)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 0, &scratch);
    const real *bias = FN(bias)(&s, call->at.x, &scratch);
    real *room = FN(zeros)(&scratch, s.is->blocks * s.n);
    for (int64_t first = 0; first < s.samples; first += GROUP)
        FN(forward_group)(&s, first, w, room, bias, scratch);
}

/* ---- backward (Werbos, Backpropagation through time, 1990). With da the gradient by h_before w:
 *          dp = da, but for the last block of a gru, which has its own,
 *          dh_before = da w^T + dh times what h has of h_before beside the product,
 *          dw = the sum over samples and steps of h_before^T da, dbn of da's last block ---- */

/* dy, where the group's gradients begin, is added to what comes from the steps after. */
static void FN(add_incoming)(const scan *s, const void *dy, int64_t sample, int64_t t,
                             const real *back, real *dh) {
    const real *row = FN(row)(&s->node->out[0], dy, sample, t);
    FBP_INDEPENDENT
    for (int64_t j = 0; j < s->units; j++) dh[j] = (dh[j] + back[j]) + row[j];
}

/* da (slopes n) becomes a row of dp. */
static void FN(put_slopes)(const scan *s, const real *da, real *dp) {
    const int64_t last = s->is->blocks - 1;
    for (int64_t b = 0; b < last; b++) FN(move)(dp + b * s->units, da + b * s->n, s->units);
    FN(move)(dp + last * s->units, da + (s->is->slopes - 1) * s->n, s->units);
}

static void FN(backward_group)(const scan *s, int64_t first, const real *w, const FN(rooms) * room,
                               real *scratch) {
    const fbp_node *node = s->node;
    const fbp_arrays *at = &s->call->at;
    const int64_t n = s->n, samples = group_at(s, first), ld = s->is->slopes * n;
    real *const da = FN(take)(&scratch, samples * ld);
    real *const back = FN(zeros)(&scratch, samples * n);
    real *const dh = FN(zeros)(&scratch, samples * n), *const dc = FN(zeros)(&scratch, samples * n);
    for (int64_t i = s->steps - 1; i >= 0; i--) {
        const int64_t t = place(s, i);
        for (int64_t k = 0; k < samples; k++) {
            const int64_t sample = first + k;
            FN(backward_row) r = {.n = n, .dh = dh + k * n, .dc = dc + k * n, .da = da + k * ld};
            FN(add_incoming)(s, at->dy[0], sample, t, back + k * n, r.dh);
            if (FN(masked)(s, sample, t)) {
                memset(r.da, 0, (size_t)ld * sizeof(real));
            } else {
                r.at = FN(point_at)(s, room, at->y, sample, i);
                FN(units)[node->geometry[CELL]].backward(s->relu, r);
            }
            if (at->dx[0] != NULL)
                FN(put_slopes)(s, r.da, FN(row)(&node->in[0], at->dx[0], sample, t));
        }
        if (i > 0)
            node->gemm->multiply(samples, s->units, s->is->blocks * n, da, ld, w, FBP_BIAS_NONE,
                                 back, n);
    }
}

static void FN(backward)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 1, &scratch);
    const FN(rooms) room = FN(rooms_in)(&s, &scratch);
    for (int64_t first = 0; first < s.samples; first += GROUP)
        FN(backward_group)(&s, first, w, &room, scratch);
}

/* ---- sums over samples ---- */

/* One of the terms of a sum: states h, or their tangents, and gradients da by p, or tangents, of
 * which the gru's last block is by a, not by h_before w: there q's is that times r, the first kept
 * block, and its tangent has a second part, from the tangent of r. */
typedef struct {
    const void *h;
    const void *dp, *kept;
    const void *more_dp, *more_kept; /* NULL: no second part */
} FN(term);

/* The last block of a gru's da in row `row` of all rows. */
FBP_INLINE void FN(gru_da)(const scan *s, const FN(term) * term, int64_t row, int add, real *to) {
    const fbp_operand *p = &s->node->in[0], *kept = &s->node->out[1];
    const real *dn = (const real *)term->dp + row * p->row_stride + 2 * s->units;
    const real *r = (const real *)term->kept + row * kept->row_stride;
    for (int64_t j = 0; j < s->units; j++) to[j] = add ? to[j] + dn[j] * r[j] : dn[j] * r[j];
    if (term->more_dp == NULL) return;
    dn = (const real *)term->more_dp + row * p->row_stride + 2 * s->units;
    r = (const real *)term->more_kept + row * kept->row_stride;
    for (int64_t j = 0; j < s->units; j++) to[j] += dn[j] * r[j];
}

static void FN(sum_bias)(const scan *s, const FN(term) * term, int add, real *g) {
    if (!add) memset(g, 0, (size_t)s->units * sizeof(real));
    for (int64_t row = 0; row < s->samples * s->steps; row++) FN(gru_da)(s, term, row, 1, g);
}

/* g (end - begin, blocks units) (+)= h_before^T da, over all rows in their order. */
static void FN(sum_weights)(const scan *s, const FN(term) * term, int64_t begin, int64_t end,
                            int add, real *g) {
    const fbp_node *node = s->node;
    const fbp_operand *p = &node->in[0], *h = &node->out[0];
    const int64_t all = s->samples * s->steps, columns = end - begin, width = fbp_width(p);
    const int64_t aside = s->reverse ? 1 : -1, none = s->reverse ? s->steps - 1 : 0;
    real *scratch = s->call->scratch, *const before = FN(take)(&scratch, ROWS * columns);
    if (!add && all == 0) memset(g, 0, (size_t)(columns * width) * sizeof(real));
    for (int64_t first = 0; first < all; first += ROWS) {
        const int64_t count = all - first < ROWS ? all - first : ROWS;
        const real *da = (const real *)term->dp + first * p->row_stride;
        int64_t ld = p->row_stride;
        for (int64_t k = 0; k < count; k++) {
            const int64_t row = first + k;
            if (row % s->steps == none)
                memset(before + k * columns, 0, (size_t)columns * sizeof(real));
            else
                FN(move)(before + k * columns,
                         (const real *)term->h + (row + aside) * h->row_stride + begin, columns);
        }
        if (s->is == &cells[GRU]) {
            ld = fbp_round_up(width, fbp_pad(node->dtype));
            for (int64_t k = 0; k < count; k++) {
                FN(move)(scratch + k * ld, da + k * p->row_stride, 2 * s->units);
                FN(gru_da)(s, term, first + k, 0, scratch + k * ld + 2 * s->units);
            }
            da = scratch;
        }
        node->gemm->multiply_transposed(columns, width, count, before, columns, da, ld, add, g);
        add = 1;
    }
}

static void FN(sum)(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                    int64_t end, int add, void *g) {
    const scan s = scan_of(node, call);
    const fbp_arrays *at = &call->at;
    const FN(term) term = {at->y[0], at->dx[0], at->y[1], NULL, NULL};
    if (input == 1)
        FN(sum_weights)(&s, &term, begin, end, add, g);
    else
        FN(sum_bias)(&s, &term, add, g);
}

#endif
