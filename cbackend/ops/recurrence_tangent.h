/* The tangents of forward, of backward and of the sums over samples: scans like those of
 * recurrence_scan.h, with a second product at each step for the tangent of w. A template
 * (expand.h), a part of ops/recurrence.c; it holds no formula of a unit. */

/* ---- the tangent of forward: that of h_before w is th_before w + h_before tw ---- */

static void FN(tangent_group)(const scan *s, int64_t first, const real *w, const real *tw,
                              const real *tbias, const FN(rooms) * room, real *tp_room,
                              real *scratch) {
    const fbp_node *node = s->node;
    const fbp_arrays *at = &s->call->at;
    const fbp_operand *p = &node->in[0], *y = &node->out[0], *kept = &node->out[1];
    const int64_t n = s->n, width = s->is->blocks * n, samples = group_at(s, first);
    real *const thw = FN(zeros)(&scratch, samples * width);
    real *const more = FN(take)(&scratch, samples * width);
    real *const th = FN(zeros)(&scratch, samples * n), *const tc = FN(zeros)(&scratch, samples * n);
    for (int64_t i = 0; i < s->steps; i++) {
        const int64_t t = place(s, i);
        if (i > 0) {
            const real *h = FN(row)(y, at->y[0], first, place(s, i - 1));
            const int64_t ldh = s->steps * y->row_stride;
            node->gemm->multiply(samples, width, s->units, th, n, w, FBP_BIAS_NONE, thw, width);
            node->gemm->multiply(samples, width, s->units, h, ldh, tw, FBP_BIAS_NONE, more, width);
            node->vector->add_scaled(samples * width, 1.0, more, thw);
        }
        for (int64_t k = 0; k < samples; k++) {
            const int64_t sample = first + k;
            FN(tangent_row) r = {.n = n, .thw = thw + k * width, .tbias = tbias};
            r.th = th + k * n;
            r.tc = tc + k * n;
            if (s->is->kept > 0) r.tkept = FN(row)(kept, at->ty[1], sample, t);
            if (FN(masked)(s, sample, t)) {
                FN(hold)(s, r.tc, r.tkept);
            } else {
                r.tp = FN(filled)(s, s->is->blocks, FN(row)(p, at->tx[0], sample, t), tp_room);
                r.at = FN(point_at)(s, room, at->y, sample, i);
                FN(units)[node->geometry[CELL]].tangent(s->relu, r);
            }
            FN(move)(FN(row)(y, at->ty[0], sample, t), r.th, s->units);
        }
    }
}

static void FN(tangent)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 0, &scratch);
    const real *tw = FN(packed)(&s, call->at.tx[1], 0, &scratch);
    const real *tbias = FN(bias)(&s, call->at.tx, &scratch);
    const FN(rooms) room = FN(rooms_in)(&s, &scratch);
    real *tp_room = FN(zeros)(&scratch, s.is->blocks * s.n);
    for (int64_t first = 0; first < s.samples; first += GROUP)
        FN(tangent_group)(&s, first, w, tw, tbias, &room, tp_room, scratch);
}

/* ---- the tangent of backward: that of da w^T is tda w^T + da tw^T ---- */

static void FN(bend_group)(const scan *s, int64_t first, const real *w, const real *tw,
                           const FN(rooms) * room, const FN(rooms) * troom, real *scratch) {
    const fbp_node *node = s->node;
    const fbp_arrays *at = &s->call->at;
    const int64_t n = s->n, samples = group_at(s, first), ld = s->is->slopes * n;
    const int64_t k_width = s->is->blocks * n;
    real *const da = FN(take)(&scratch, samples * ld), *const tda =
                                                           FN(take)(&scratch, samples * ld);
    real *const back = FN(zeros)(&scratch, 7 * samples * n), *const tback = back + samples * n;
    real *const more = tback + samples * n, *const dh = more + samples * n;
    real *const tdh = dh + samples * n, *const dc = tdh + samples * n,
                *const tdc = dc + samples * n;
    for (int64_t i = s->steps - 1; i >= 0; i--) {
        const int64_t t = place(s, i);
        for (int64_t k = 0; k < samples; k++) {
            const int64_t sample = first + k;
            FN(backward_row) d = {.n = n, .dh = dh + k * n, .dc = dc + k * n, .da = da + k * ld};
            FN(bend_row) r = {.tdh = tdh + k * n, .tdc = tdc + k * n, .tda = tda + k * ld};
            FN(add_incoming)(s, at->dy[0], sample, t, back + k * n, d.dh);
            FN(add_incoming)(s, at->tdy[0], sample, t, tback + k * n, r.tdh);
            if (FN(masked)(s, sample, t)) {
                memset(d.da, 0, (size_t)ld * sizeof(real));
                memset(r.tda, 0, (size_t)ld * sizeof(real));
            } else {
                d.at = FN(point_at)(s, room, at->y, sample, i);
                r.t = FN(point_at)(s, troom, at->ty, sample, i);
                r.d = d;
                FN(units)[node->geometry[CELL]].bend(s->relu, r);
                FN(units)[node->geometry[CELL]].backward(s->relu, d);
            }
            if (at->tdx[0] != NULL)
                FN(put_slopes)(s, r.tda, FN(row)(&node->in[0], at->tdx[0], sample, t));
        }
        if (i == 0) break;
        node->gemm->multiply(samples, s->units, k_width, da, ld, w, FBP_BIAS_NONE, back, n);
        node->gemm->multiply(samples, s->units, k_width, tda, ld, w, FBP_BIAS_NONE, tback, n);
        node->gemm->multiply(samples, s->units, k_width, da, ld, tw, FBP_BIAS_NONE, more, n);
        node->vector->add_scaled(samples * n, 1.0, more, tback);
    }
}

static void FN(backward_tangent)(const fbp_node *node, const fbp_call *call) {
    const scan s = scan_of(node, call);
    real *scratch = call->scratch;
    const real *w = FN(packed)(&s, call->at.x[1], 1, &scratch);
    const real *tw = FN(packed)(&s, call->at.tx[1], 1, &scratch);
    const FN(rooms) room = FN(rooms_in)(&s, &scratch), troom = FN(rooms_in)(&s, &scratch);
    for (int64_t first = 0; first < s.samples; first += GROUP)
        FN(bend_group)(&s, first, w, tw, &room, &troom, scratch);
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
