/* The tangents of forward, of backward and of the sums over samples: scans like those of
 * recurrence_scan.h, with a second product at each step for the tangent of w. A template
 * (expand.h), a part of ops/recurrence.c; it holds no formula of a unit. */

/* ---- the tangent of forward: that of h_before w is th_before w + h_before tw ---- */

static void FN(tangent_group)(const scan *s, int64_t first, int64_t samples, const real *w,
                              const real *tw, const real *tbias, const FN(rooms) * room,
                              real *scratch) {
    const fbp_node *node = s->node;
    const fbp_arrays *at = &s->call->at;
    const fbp_operand *y = &node->out[0], *kept = &node->out[1];
    const int64_t n = s->n, blocks = s->is->blocks, width = blocks * n;
    unsigned char runs[LARGE_GROUP];
    FN(tangent_step) step = {.samples = samples, .n = n, .runs = runs, .tbias = tbias};
    step.th = FN(zeros)(&scratch, samples * n);
    step.tc = FN(zeros)(&scratch, samples * n);
    real *const thw = FN(zeros)(&scratch, samples * width);
    real *const more = FN(take)(&scratch, samples * width);
    real *const tp_room = FN(zeros)(&scratch, samples * width);
    step.thw = thw;
    for (int64_t i = 0; i < s->steps; i++) {
        const int64_t t = place(s, i);
        if (i > 0) {
            const real *h = FN(row)(y, at->y[0], first, place(s, i - 1));
            node->gemm->multiply(samples, width, s->units, step.th, n, w, NULL, FBP_BIAS_NONE, thw,
                                 width);
            node->gemm->multiply(samples, width, s->units, h, y->sample_stride, tw, NULL,
                                 FBP_BIAS_NONE, more, width);
            node->vector->add_scaled(samples * width, 1.0, more, thw);
        }
        step.tp = FN(lines_of)(s, &node->in[0], at->tx[0], first, samples, t, blocks, tp_room);
        step.at = FN(point_at)(s, room, at->y, first, samples, i);
        if (node->n_kept > 0) {
            step.tkept = FN(row)(kept, at->ty[1], first, t);
            step.tkept_by = kept->sample_stride;
        }
        FN(who_runs)(s, first, samples, t, runs);
        FN(units)[node->geometry[CELL]].tangent(s->relu, step);
        FN(hold)(s, samples, runs, step.tc, step.tkept, step.tkept_by);
        for (int64_t k = 0; k < samples; k++)
            FN(move)(FN(row)(y, at->ty[0], first + k, t), step.th + k * n, s->units);
    }
}

static void FN(tangent)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 0, &scratch);
    const real *tw = FN(packed)(&s, call->at.tx[1], 0, &scratch);
    const real *tbias = FN(bias)(&s, call->at.tx, &scratch);
    const FN(rooms) room = FN(rooms_in)(&s, &scratch);
    const int64_t most = group_size(&s);
    for (int64_t first = 0; first < s.samples; first += most)
        FN(tangent_group)(&s, first, s.samples - first < most ? s.samples - first : most, w, tw,
                          tbias, &room, scratch);
}

/* ---- the tangent of backward: that of da w^T is tda w^T + da tw^T ---- */

static void FN(bend_group)(const scan *s, int64_t first, int64_t samples, const real *w,
                           const real *tw, const FN(rooms) * room, const FN(rooms) * troom,
                           real *scratch) {
    const fbp_node *node = s->node;
    const fbp_arrays *at = &s->call->at;
    const int64_t n = s->n, all = samples * n, ld = s->is->slopes * n, wide = s->is->blocks * n;
    unsigned char runs[LARGE_GROUP];
    FN(bend_step) step = {.d = {.samples = samples, .n = n, .runs = runs}};
    FN(backward_step) *d = &step.d;
    d->da = FN(take)(&scratch, samples * ld);
    step.tda = FN(take)(&scratch, samples * ld);
    d->dh = FN(zeros)(&scratch, all), step.tdh = FN(zeros)(&scratch, all);
    d->dc = FN(zeros)(&scratch, all), step.tdc = FN(zeros)(&scratch, all);
    real *const back = FN(zeros)(&scratch, all), *const tback = FN(zeros)(&scratch, all);
    real *const more = FN(take)(&scratch, all);
    for (int64_t i = s->steps - 1; i >= 0; i--) {
        const int64_t t = place(s, i);
        FN(who_runs)(s, first, samples, t, runs);
        FN(add_incoming)(s, at->dy[0], first, samples, t, back, d->dh);
        FN(add_incoming)(s, at->tdy[0], first, samples, t, tback, step.tdh);
        d->at = FN(point_at)(s, room, at->y, first, samples, i);
        step.t = FN(point_at)(s, troom, at->ty, first, samples, i);
        FN(units)[node->geometry[CELL]].bend(s->relu, step);
        FN(units)[node->geometry[CELL]].backward(s->relu, *d);
        FN(put_slopes)(s, first, samples, t, runs, d->da, NULL);
        FN(put_slopes)(s, first, samples, t, runs, step.tda, at->tdx[0]);
        if (i == 0) break;
        node->gemm->multiply(samples, s->units, wide, d->da, ld, w, NULL, FBP_BIAS_NONE, back, n);
        node->gemm->multiply(samples, s->units, wide, step.tda, ld, w, NULL, FBP_BIAS_NONE, tback,
                             n);
        node->gemm->multiply(samples, s->units, wide, d->da, ld, tw, NULL, FBP_BIAS_NONE, more, n);
        node->vector->add_scaled(all, 1.0, more, tback);
    }
}

static void FN(backward_tangent)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 1, &scratch);
    const real *tw = FN(packed)(&s, call->at.tx[1], 1, &scratch);
    const FN(rooms) room = FN(rooms_in)(&s, &scratch), troom = FN(rooms_in)(&s, &scratch);
    const int64_t most = group_size(&s);
    for (int64_t first = 0; first < s.samples; first += most)
        FN(bend_group)(&s, first, s.samples - first < most ? s.samples - first : most, w, tw, &room,
                       &troom, scratch);
}

/* ---- the tangents of the sums ---- */

/* That of h_before^T da is th_before^T da + h_before^T tda. */
static void FN(sum_tangent)(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                            int64_t end, int add, void *tg) {
    const scan s = scan_of(node, call);
    const fbp_arrays *at = &call->at;
    const FN(term) states = {at->ty[0], at->dx[0], at->y[1], NULL, NULL};
    const FN(term) slopes = {at->y[0], at->tdx[0], at->y[1], at->dx[0], at->ty[1]};
    if (input != 1) {
        FN(sum_bias)(&s, &slopes, add, tg);
        return;
    }
    FN(sum_weights)(&s, &states, begin, end, add, tg);
    FN(sum_weights)(&s, &slopes, begin, end, 1, tg);
}
