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

/* Samples in a group: so many that their states and gates stay in the first cache, or, of weights
 * that the second would not hold, enough to repay reading them. Rows at a time for which a sum over
 * all rows copies the states before. */
enum { GROUP = 16, LARGE_GROUP = 32, HELD_BYTES = 1 << 20, ROWS = 128 };

static int64_t group_size(const scan *s) {
    int64_t bytes = s->is->blocks * s->n * s->n * (int64_t)fbp_size(s->node->dtype);
    int64_t most = bytes > HELD_BYTES ? LARGE_GROUP : GROUP;
    return s->samples < most ? s->samples : most;
}

/* Where the i-th step that is taken lies. */
static int64_t place(const scan *s, int64_t i) { return s->reverse ? s->steps - 1 - i : i; }

/* Enough for each of the runs; that of the gradients' tangents takes most. */
static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    const scan s = scan_of(node, &(fbp_call){.at.samples = samples});
    const cell *is = s.is;
    int64_t copies_of_w = 4 * is->blocks * s.n * s.n, single = (2 + is->kept) * s.n;
    int64_t group = group_size(&s) * (is->blocks + 2 * is->slopes + 12) * s.n;
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

/* `blocks` blocks of units become such of n; what lies between them is left alone. */
static void FN(spread)(const scan *s, int64_t blocks, const real *from, real *to) {
    for (int64_t b = 0; b < blocks; b++) FN(move)(to + b * s->n, from + b * s->units, s->units);
}

/* An operand's rows for a group at a step, with blocks of n: as they lie, or in `room`, where zeros
 * follow each block. */
static FN(lines) FN(lines_of)(const scan *s, const fbp_operand *x, const void *base, int64_t first,
                              int64_t samples, int64_t t, int64_t blocks, real *room) {
    FN(lines) found = {FN(row)(x, base, first, t), x->sample_stride};
    if (s->units == s->n) return found;
    for (int64_t k = 0; k < samples; k++)
        FN(spread)(s, blocks, FN(line)(found, k), room + k * blocks * s->n);
    return (FN(lines)){room, blocks * s->n};
}

/* Panels of w (units, blocks n), or of its transpose. */
static const real *FN(packed)(const scan *s, const void *w_, int transposed, real **scratch) {
    const int64_t blocks = s->is->blocks, width = blocks * s->n;
    const real *w = w_;
    if (s->units != s->n) {
        real *room = FN(zeros)(scratch, s->units * width);
        for (int64_t r = 0; r < s->units; r++)
            FN(spread)(s, blocks, w + r * blocks * s->units, room + r * width);
        w = room;
    }
    real *panels = FN(take)(scratch, width * s->n);
    if (transposed)
        s->node->gemm->pack_transposed(width, s->units, 0, s->units, w, panels, NULL);
    else
        s->node->gemm->pack(s->units, width, 0, s->units, w, panels, NULL);
    if (s->call->half != NULL) s->call->half->round(width * s->n, (void *)panels);
    return panels;
}

/* Which samples of a group take a step. */
static void FN(who_runs)(const scan *s, int64_t first, int64_t samples, int64_t t,
                         unsigned char *runs) {
    const int i = s->is->mask;
    const real *mask = s->call->at.x[i];
    const int64_t by = s->node->in[i].sample_stride;
    for (int64_t k = 0; k < samples; k++)
        runs[k] = !has(s->node, i) || mask[(first + k) * by + t] != (real)0;
}

/* What those keep that do not: zeros, and the cell, where there is one, in the last block. */
static void FN(hold)(const scan *s, int64_t samples, const unsigned char *runs, const real *c,
                     real *kept, int64_t by) {
    const int64_t gates = (s->is->kept - 1) * s->n;
    for (int64_t k = 0; k < samples && gates >= 0; k++) {
        if (runs[k]) continue;
        memset(kept + k * by, 0, (size_t)gates * sizeof(real));
        FN(move)(kept + k * by + gates, c + k * s->n, s->n);
    }
}

/* A row of zeros, and room for what is filled up. */
typedef struct {
    const real *zeros;
    real *h, *h_before;
} FN(rooms);

static FN(rooms) FN(rooms_in)(const scan *s, real **scratch) {
    FN(rooms) r;
    r.zeros = FN(zeros)(scratch, s->n);
    r.h = FN(zeros)(scratch, group_size(s) * s->n);
    r.h_before = FN(zeros)(scratch, group_size(s) * s->n);
    return r;
}

/* What forward, or its tangent, has left in h and kept for the i-th step of a group. */
static FN(point) FN(point_at)(const scan *s, const FN(rooms) * room, void *const *y, int64_t first,
                              int64_t samples, int64_t i) {
    const fbp_operand *h = &s->node->out[0], *kept = &s->node->out[1];
    const int64_t t = place(s, i), before = place(s, i - 1);
    FN(point) at = {.h_before = {room->zeros, 0}, .c_before = {room->zeros, 0}};
    at.h = FN(lines_of)(s, h, y[0], first, samples, t, 1, room->h);
    if (i > 0) at.h_before = FN(lines_of)(s, h, y[0], first, samples, before, 1, room->h_before);
    if (s->is->kept == 0) return at;
    at.kept = (FN(lines)){FN(row)(kept, y[1], first, t), kept->sample_stride};
    if (i > 0)
        at.c_before = (FN(lines)){FN(row)(kept, y[1], first, before) + (s->is->kept - 1) * s->n,
                                  kept->sample_stride};
    return at;
}

/* ---- the units, by cell ---- */

typedef struct {
    void (*forward)(int relu, FN(forward_step) step);
    void (*backward)(int relu, FN(backward_step) step);
    void (*tangent)(int relu, FN(tangent_step) step);
    void (*bend)(int relu, FN(bend_step) step);
} FN(units_of);

#define UNITS(name)                                                                                \
    {FN(name##_forward_units), FN(name##_backward_units), FN(name##_tangent_units),                \
     FN(name##_bend_units)}
static const FN(units_of)
    FN(units)[] = {[RNN] = UNITS(rnn), [LSTM] = UNITS(lstm), [GRU] = UNITS(gru)};
#undef UNITS

/* ---- forward ---- */

static void FN(forward_group)(const scan *s, int64_t first, int64_t samples, const real *w,
                              const real *bias, real *scratch) {
    const fbp_node *node = s->node;
    const fbp_operand *p = &node->in[0], *y = &node->out[0], *kept = &node->out[1];
    const fbp_arrays *at = &s->call->at;
    const int64_t n = s->n, width = s->is->blocks * n;
    unsigned char runs[LARGE_GROUP];
    FN(forward_step) step = {.samples = samples, .n = n, .runs = runs, .bias = bias};
    step.hw = FN(zeros)(&scratch, samples * width);
    step.h = FN(zeros)(&scratch, samples * n);
    step.c = FN(zeros)(&scratch, samples * n);
    step.kept = FN(take)(&scratch, s->is->kept * n); /* where nobody wants it */
    real *room = FN(zeros)(&scratch, samples * width);
    for (int64_t i = 0; i < s->steps; i++) {
        const int64_t t = place(s, i);
        if (i > 0)
            node->gemm->multiply(samples, width, s->units, step.h, n, w, NULL, FBP_BIAS_NONE,
                                 step.hw, width);
        step.p = FN(lines_of)(s, p, at->x[0], first, samples, t, s->is->blocks, room);
        if (node->n_kept > 0 && at->y[1] != NULL) {
            step.kept = FN(row)(kept, at->y[1], first, t);
            step.kept_by = kept->sample_stride;
        }
        FN(who_runs)(s, first, samples, t, runs);
        FN(units)[node->geometry[CELL]].forward(s->relu, step);
        FN(hold)(s, samples, runs, step.c, step.kept, step.kept_by);
        for (int64_t k = 0; k < samples; k++)
            FN(move)(FN(row)(y, at->y[0], first + k, t), step.h + k * n, s->units);
    }
}

/* bn, filled up; zeros where it is absent. */
static const real *FN(bias)(const scan *s, const void *const *x, real **scratch) {
    real *bias = FN(zeros)(scratch, s->n);
    if (has(s->node, s->is->bias)) FN(move)(bias, x[s->is->bias], s->units);
    if (s->call->half != NULL) s->call->half->round(s->n, (void *)bias);
    return bias;
}

static void FN(forward)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 0, &scratch);
    const real *bias = FN(bias)(&s, call->at.x, &scratch);
    const int64_t most = group_size(&s);
    for (int64_t first = 0; first < s.samples; first += most)
        FN(forward_group)(&s, first, s.samples - first < most ? s.samples - first : most, w, bias,
                          scratch);
}

/* ---- backward (Werbos, Backpropagation through time, 1990). With da the gradient by h_before w:
 *          dp = da, but for the last block of a gru, which has its own,
 *          dh_before = da w^T + dh times what h has of h_before beside the product,
 *          dw = the sum over samples and steps of h_before^T da, dbn of da's last block ---- */

/* To dh, what a group's states have of the states after beside the product, come what they have by
 * it, `back`, and dy. */
static void FN(add_incoming)(const scan *s, const void *dy, int64_t first, int64_t samples,
                             int64_t t, const real *back, real *dh) {
    for (int64_t k = 0; k < samples; k++, back += s->n, dh += s->n) {
        const real *row = FN(row)(&s->node->out[0], dy, first + k, t);
        FBP_INDEPENDENT
        for (int64_t j = 0; j < s->units; j++) dh[j] = (dh[j] + back[j]) + row[j];
    }
}

/* da becomes rows of dp, unless that is NULL: first it becomes 0 where a step is not taken. */
static void FN(put_slopes)(const scan *s, int64_t first, int64_t samples, int64_t t,
                           const unsigned char *runs, real *da, void *dp) {
    const int64_t last = s->is->blocks - 1, ld = s->is->slopes * s->n;
    for (int64_t k = 0; k < samples; k++, da += ld) {
        if (!runs[k]) memset(da, 0, (size_t)ld * sizeof(real));
        if (dp == NULL) continue;
        real *row = FN(row)(&s->node->in[0], dp, first + k, t);
        for (int64_t b = 0; b < last; b++) FN(move)(row + b * s->units, da + b * s->n, s->units);
        FN(move)(row + last * s->units, da + (s->is->slopes - 1) * s->n, s->units);
    }
}

static void FN(backward_group)(const scan *s, int64_t first, int64_t samples, const real *w,
                               const FN(rooms) * room, real *scratch) {
    const fbp_node *node = s->node;
    const fbp_arrays *at = &s->call->at;
    const int64_t n = s->n, ld = s->is->slopes * n;
    unsigned char runs[LARGE_GROUP];
    FN(backward_step) step = {.samples = samples, .n = n, .runs = runs};
    step.da = FN(take)(&scratch, samples * ld);
    step.dh = FN(zeros)(&scratch, samples * n);
    step.dc = FN(zeros)(&scratch, samples * n);
    real *const back = FN(zeros)(&scratch, samples * n);
    for (int64_t i = s->steps - 1; i >= 0; i--) {
        const int64_t t = place(s, i);
        FN(who_runs)(s, first, samples, t, runs);
        FN(add_incoming)(s, at->dy[0], first, samples, t, back, step.dh);
        step.at = FN(point_at)(s, room, at->y, first, samples, i);
        FN(units)[node->geometry[CELL]].backward(s->relu, step);
        FN(put_slopes)(s, first, samples, t, runs, step.da, at->dx[0]);
        if (i > 0)
            node->gemm->multiply(samples, s->units, s->is->blocks * n, step.da, ld, w, NULL,
                                 FBP_BIAS_NONE, back, n);
    }
}

static void FN(backward)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 1, &scratch);
    const FN(rooms) room = FN(rooms_in)(&s, &scratch);
    const int64_t most = group_size(&s);
    for (int64_t first = 0; first < s.samples; first += most)
        FN(backward_group)(&s, first, s.samples - first < most ? s.samples - first : most, w, &room,
                           scratch);
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
