/* The units of one sample at one step: loops around the formulas of math/cells.h. A template
 * (expand.h), a part of ops/recurrence.c; it knows of no steps and no products.
 *
 * Rows consist of blocks of n values, one after the other, the first for one gate, the next for the
 * next; n is a multiple of a cache line's elements. Where `const int relu` is a parameter it is a
 * constant once inlined. */

/* What backward and tangents know of the step; c_before is a part of what the step before kept. */
typedef struct {
    const real *kept, *h, *h_before, *c_before;
} FN(point);

/* hw is the state before times w. h and c are the state before and become that after. */
typedef struct {
    int64_t n;
    const real *p, *hw, *bias;
    real *h, *c, *kept;
} FN(forward_row);

/* dh and dc are gradients by the state after and become those by the state before, but for what
 * comes to h through the product: for that stands da, the gradient by hw and, where that is not the
 * gradient by p, also by p's last block, behind. */
typedef struct {
    int64_t n;
    FN(point) at;
    real *dh, *dc, *da;
} FN(backward_row);

/* thw is the tangent of hw. th and tc, tangents of the state before, become those of that after. */
typedef struct {
    int64_t n;
    FN(point) at;
    const real *tp, *thw, *tbias;
    real *th, *tc, *tkept;
} FN(tangent_row);

/* The tangents of what a backward_row says; its dh, dc and da are still as they were. */
typedef struct {
    FN(backward_row) d;
    FN(point) t;
    real *tdh, *tdc, *tda;
} FN(bend_row);

/* ---- rnn ---- */

FBP_INLINE void FN(rnn_forward_as)(const int relu, FN(forward_row) r) {
    FBP_INDEPENDENT
    for (int64_t j = 0; j < r.n; j++) r.h[j] = FN(rnn_unit)(relu, r.p[j] + r.hw[j]);
}

FBP_INLINE void FN(rnn_backward_as)(const int relu, FN(backward_row) r) {
    FBP_INDEPENDENT
    for (int64_t j = 0; j < r.n; j++) {
        r.da[j] = r.dh[j] * FN(rnn_slope)(relu, r.at.h[j]);
        r.dh[j] = (real)0;
    }
}

FBP_INLINE void FN(rnn_tangent_as)(const int relu, FN(tangent_row) r) {
    FBP_INDEPENDENT
    for (int64_t j = 0; j < r.n; j++)
        r.th[j] = FN(rnn_slope)(relu, r.at.h[j]) * (r.tp[j] + r.thw[j]);
}

FBP_INLINE void FN(rnn_bend_as)(const int relu, FN(bend_row) r) {
    FBP_INDEPENDENT
    for (int64_t j = 0; j < r.d.n; j++) {
        const real h = r.d.at.h[j];
        r.tda[j] = r.tdh[j] * FN(rnn_slope)(relu, h) + r.d.dh[j] * FN(rnn_bend)(relu, h, r.t.h[j]);
        r.tdh[j] = (real)0;
    }
}

#define EITHER(name)                                                                               \
    static void FN(rnn_##name##_units)(int relu, FN(name##_row) r) {                               \
        if (relu)                                                                                  \
            FN(rnn_##name##_as)(1, r);                                                             \
        else                                                                                       \
            FN(rnn_##name##_as)(0, r);                                                             \
    }
EITHER(forward)
EITHER(backward)
EITHER(tangent)
EITHER(bend)
#undef EITHER

/* ---- lstm: blocks i, f, g, o, of what is kept also c ---- */

FBP_INLINE FN(lstm_values) FN(lstm_at)(const real *kept, int64_t n, int64_t j) {
    const FN(lstm_values)
        u = {kept[j], kept[n + j], kept[2 * n + j], kept[3 * n + j], kept[4 * n + j], (real)0};
    return u;
}

FBP_INLINE void FN(lstm_put_gates)(FN(lstm_values) u, real *to, int64_t n, int64_t j) {
    to[j] = u.i;
    to[n + j] = u.f;
    to[2 * n + j] = u.g;
    to[3 * n + j] = u.o;
}

static void FN(lstm_forward_units)(int relu, FN(forward_row) r) {
    const int64_t n = r.n;
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const FN(lstm_values) u = FN(lstm_unit)(r.p[j] + r.hw[j], r.p[n + j] + r.hw[n + j],
                                                r.p[2 * n + j] + r.hw[2 * n + j],
                                                r.p[3 * n + j] + r.hw[3 * n + j], r.c[j]);
        FN(lstm_put_gates)(u, r.kept, n, j);
        r.kept[4 * n + j] = r.c[j] = u.c;
        r.h[j] = u.h;
    }
}

static void FN(lstm_backward_units)(int relu, FN(backward_row) r) {
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < r.n; j++) {
        const FN(lstm_values) u = FN(lstm_at)(r.at.kept, r.n, j);
        const FN(lstm_values) d = FN(lstm_unit_backward)(u, r.at.c_before[j], r.dh[j], r.dc[j]);
        FN(lstm_put_gates)(d, r.da, r.n, j);
        r.dc[j] = d.c;
        r.dh[j] = (real)0;
    }
}

static void FN(lstm_tangent_units)(int relu, FN(tangent_row) r) {
    const int64_t n = r.n;
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const FN(lstm_values) t = FN(lstm_unit_tangent)(
            FN(lstm_at)(r.at.kept, n, j), r.at.c_before[j], r.tp[j] + r.thw[j],
            r.tp[n + j] + r.thw[n + j], r.tp[2 * n + j] + r.thw[2 * n + j],
            r.tp[3 * n + j] + r.thw[3 * n + j], r.tc[j]);
        FN(lstm_put_gates)(t, r.tkept, n, j);
        r.tkept[4 * n + j] = r.tc[j] = t.c;
        r.th[j] = t.h;
    }
}

static void FN(lstm_bend_units)(int relu, FN(bend_row) r) {
    const int64_t n = r.d.n;
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const FN(lstm_values) td = FN(lstm_unit_bend)(
            FN(lstm_at)(r.d.at.kept, n, j), FN(lstm_at)(r.t.kept, n, j), r.d.at.c_before[j],
            r.t.c_before[j], r.d.dh[j], r.tdh[j], r.d.dc[j], r.tdc[j]);
        FN(lstm_put_gates)(td, r.tda, n, j);
        r.tdc[j] = td.c;
        r.tdh[j] = (real)0;
    }
}

/* ---- gru: blocks r, z and n, of what is kept also q; of gradients r, z, q and n ---- */

FBP_INLINE FN(gru_values) FN(gru_at)(const real *kept, int64_t n, int64_t j) {
    const FN(gru_values) u = {kept[j], kept[n + j], kept[2 * n + j], kept[3 * n + j], (real)0};
    return u;
}

FBP_INLINE void FN(gru_put)(FN(gru_values) u, real *to, int64_t n, int64_t j) {
    to[j] = u.r;
    to[n + j] = u.z;
    to[2 * n + j] = u.n;
    to[3 * n + j] = u.q;
}

FBP_INLINE void FN(gru_put_slopes)(FN(gru_values) d, real *to, int64_t n, int64_t j) {
    to[j] = d.r;
    to[n + j] = d.z;
    to[2 * n + j] = d.q;
    to[3 * n + j] = d.n;
}

static void FN(gru_forward_units)(int relu, FN(forward_row) r) {
    const int64_t n = r.n;
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const FN(gru_values) u = FN(gru_unit)(r.p[j] + r.hw[j], r.p[n + j] + r.hw[n + j],
                                              r.p[2 * n + j], r.hw[2 * n + j] + r.bias[j], r.h[j]);
        FN(gru_put)(u, r.kept, n, j);
        r.h[j] = u.h;
    }
}

static void FN(gru_backward_units)(int relu, FN(backward_row) r) {
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < r.n; j++) {
        const FN(gru_values) u = FN(gru_at)(r.at.kept, r.n, j);
        const FN(gru_values) d = FN(gru_unit_backward)(u, r.at.h_before[j], r.dh[j]);
        FN(gru_put_slopes)(d, r.da, r.n, j);
        r.dh[j] = d.h;
    }
}

static void FN(gru_tangent_units)(int relu, FN(tangent_row) r) {
    const int64_t n = r.n;
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const FN(gru_values) t = FN(gru_unit_tangent)(
            FN(gru_at)(r.at.kept, n, j), r.at.h_before[j], r.tp[j] + r.thw[j],
            r.tp[n + j] + r.thw[n + j], r.tp[2 * n + j], r.thw[2 * n + j] + r.tbias[j], r.th[j]);
        FN(gru_put)(t, r.tkept, n, j);
        r.th[j] = t.h;
    }
}

static void FN(gru_bend_units)(int relu, FN(bend_row) r) {
    const int64_t n = r.d.n;
    (void)relu;
    FBP_INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const FN(gru_values) td =
            FN(gru_unit_bend)(FN(gru_at)(r.d.at.kept, n, j), FN(gru_at)(r.t.kept, n, j),
                              r.d.at.h_before[j], r.t.h_before[j], r.d.dh[j], r.tdh[j]);
        FN(gru_put_slopes)(td, r.tda, n, j);
        r.tdh[j] = td.h;
    }
}
