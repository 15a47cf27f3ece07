/* The units of a group of samples at one step: loops around the formulas of math/cells.h. A
 * template (expand.h), a part of ops/recurrence.c; it knows of no steps and no products.
 *
 * A sample's row consists of blocks of n values, one after the other, the first for one gate, the
 * next for the next; n is a multiple of a cache line's elements. Only samples k with runs[k] take
 * the step. A loop takes few formulas at a time, so that their constants stay in registers from one
 * sample to the next. Where `const int` is a parameter it is a constant once inlined. */

/* A row of each sample, sample k's at + k * by. */
typedef struct {
    const real *at;
    int64_t by;
} FN(lines);

/* What backward and tangents know of the step; c_before is a part of what the step before kept. */
typedef struct {
    FN(lines) kept, h, h_before, c_before;
} FN(point);

/* hw, the states before times w, becomes the gates; h and c, the states before, those after. In
 * these and all further structures rows without a stride lie without gaps. */
typedef struct {
    int64_t samples, n;
    const unsigned char *runs;
    FN(lines) p;
    const real *bias;
    real *hw, *h, *c;
    real *kept;
    int64_t kept_by;
} FN(forward_step);

/* dh and dc are gradients by the states after and become those by the states before, but for what
 * comes to h through the product: for that stands da, the gradient by hw and, where that is not the
 * gradient by p, also by p's last block, behind. */
typedef struct {
    int64_t samples, n;
    const unsigned char *runs;
    FN(point) at;
    real *dh, *dc, *da;
} FN(backward_step);

/* thw is the tangent of hw. th and tc, tangents of the states before, become those of the states
 * after. */
typedef struct {
    int64_t samples, n;
    const unsigned char *runs;
    FN(point) at;
    FN(lines) tp;
    const real *thw, *tbias;
    real *th, *tc;
    real *tkept;
    int64_t tkept_by;
} FN(tangent_step);

/* The tangents of what a backward_step says, whose dh, dc and da are still as they were. */
typedef struct {
    FN(backward_step) d;
    FN(point) t;
    real *tdh, *tdc, *tda;
} FN(bend_step);

FBP_INLINE const real *FN(line)(FN(lines) of, int64_t k) { return of.at + k * of.by; }

/* ---- rnn ---- */

FBP_INLINE void FN(rnn_forward_as)(const int relu, FN(forward_step) s) {
    for (int64_t k = 0; k < s.samples; k++) {
        const real *p = FN(line)(s.p, k), *hw = s.hw + k * s.n;
        real *h = s.h + k * s.n;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < s.n; j++) h[j] = FN(rnn_unit)(relu, p[j] + hw[j]);
    }
}

FBP_INLINE void FN(rnn_backward_as)(const int relu, FN(backward_step) s) {
    for (int64_t k = 0; k < s.samples; k++) {
        const real *h = FN(line)(s.at.h, k);
        real *dh = s.dh + k * s.n, *da = s.da + k * s.n;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < s.n; j++) {
            da[j] = dh[j] * FN(rnn_slope)(relu, h[j]);
            dh[j] = (real)0;
        }
    }
}

FBP_INLINE void FN(rnn_tangent_as)(const int relu, FN(tangent_step) s) {
    for (int64_t k = 0; k < s.samples; k++) {
        const real *h = FN(line)(s.at.h, k), *tp = FN(line)(s.tp, k), *thw = s.thw + k * s.n;
        real *th = s.th + k * s.n;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < s.n; j++) th[j] = FN(rnn_slope)(relu, h[j]) * (tp[j] + thw[j]);
    }
}

FBP_INLINE void FN(rnn_bend_as)(const int relu, FN(bend_step) s) {
    const int64_t n = s.d.n;
    for (int64_t k = 0; k < s.d.samples; k++) {
        const real *h = FN(line)(s.d.at.h, k), *th = FN(line)(s.t.h, k), *dh = s.d.dh + k * n;
        real *tdh = s.tdh + k * n, *tda = s.tda + k * n;
        if (!s.d.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            tda[j] = tdh[j] * FN(rnn_slope)(relu, h[j]) + dh[j] * FN(rnn_bend)(relu, h[j], th[j]);
            tdh[j] = (real)0;
        }
    }
}

#define EITHER(name)                                                                               \
    static void FN(rnn_##name##_units)(int relu, FN(name##_step) s) {                              \
        if (relu)                                                                                  \
            FN(rnn_##name##_as)(1, s);                                                             \
        else                                                                                       \
            FN(rnn_##name##_as)(0, s);                                                             \
    }
EITHER(forward)
EITHER(backward)
EITHER(tangent)
EITHER(bend)
#undef EITHER

/* ---- gates: hw becomes gates in blocks [from, to) of so many ---- */

FBP_INLINE void FN(gates)(const int as_tanh, const int blocks, FN(forward_step) s, int64_t from,
                          int64_t to) {
    for (int64_t k = 0; k < s.samples; k++) {
        const real *p = FN(line)(s.p, k);
        real *hw = s.hw + k * blocks * s.n;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = from * s.n; j < to * s.n; j++) hw[j] = FN(gate)(as_tanh, p[j] + hw[j]);
    }
}

/* ---- lstm: blocks i, f, g, o, of what is kept also c ---- */

FBP_INLINE FN(lstm_values) FN(lstm_at)(const real *kept, int64_t n, int64_t j) {
    const FN(lstm_values)
        u = {kept[j], kept[n + j], kept[2 * n + j], kept[3 * n + j], kept[4 * n + j], (real)0};
    return u;
}

FBP_INLINE void FN(lstm_put)(FN(lstm_values) u, real *to, int64_t n, int64_t j) {
    to[j] = u.i;
    to[n + j] = u.f;
    to[2 * n + j] = u.g;
    to[3 * n + j] = u.o;
}

static void FN(lstm_forward_units)(int relu, FN(forward_step) s) {
    const int64_t n = s.n;
    (void)relu;
    FN(gates)(0, 4, s, 0, 2);
    FN(gates)(1, 4, s, 2, 3);
    FN(gates)(0, 4, s, 3, 4);
    for (int64_t k = 0; k < s.samples; k++) {
        const real *gates = s.hw + k * 4 * n;
        real *h = s.h + k * n, *c = s.c + k * n, *kept = s.kept + k * s.kept_by;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(lstm_values) u =
                FN(lstm_unit)(gates[j], gates[n + j], gates[2 * n + j], gates[3 * n + j], c[j]);
            FN(lstm_put)(u, kept, n, j);
            kept[4 * n + j] = c[j] = u.c;
            h[j] = u.h;
        }
    }
}

static void FN(lstm_backward_units)(int relu, FN(backward_step) s) {
    const int64_t n = s.n;
    (void)relu;
    for (int64_t k = 0; k < s.samples; k++) {
        const real *kept = FN(line)(s.at.kept, k), *c_before = FN(line)(s.at.c_before, k);
        real *dh = s.dh + k * n, *dc = s.dc + k * n, *da = s.da + k * 4 * n;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(lstm_values) u = FN(lstm_at)(kept, n, j);
            const FN(lstm_values) d = FN(lstm_unit_backward)(u, c_before[j], dh[j], dc[j]);
            FN(lstm_put)(d, da, n, j);
            dc[j] = d.c;
            dh[j] = (real)0;
        }
    }
}

static void FN(lstm_tangent_units)(int relu, FN(tangent_step) s) {
    const int64_t n = s.n;
    (void)relu;
    for (int64_t k = 0; k < s.samples; k++) {
        const real *kept = FN(line)(s.at.kept, k), *c_before = FN(line)(s.at.c_before, k);
        const real *tp = FN(line)(s.tp, k), *thw = s.thw + k * 4 * n;
        real *th = s.th + k * n, *tc = s.tc + k * n, *tkept = s.tkept + k * s.tkept_by;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(lstm_values) t = FN(lstm_unit_tangent)(
                FN(lstm_at)(kept, n, j), c_before[j], tp[j] + thw[j], tp[n + j] + thw[n + j],
                tp[2 * n + j] + thw[2 * n + j], tp[3 * n + j] + thw[3 * n + j], tc[j]);
            FN(lstm_put)(t, tkept, n, j);
            tkept[4 * n + j] = tc[j] = t.c;
            th[j] = t.h;
        }
    }
}

static void FN(lstm_bend_units)(int relu, FN(bend_step) s) {
    const int64_t n = s.d.n;
    (void)relu;
    for (int64_t k = 0; k < s.d.samples; k++) {
        const real *kept = FN(line)(s.d.at.kept, k), *c_before = FN(line)(s.d.at.c_before, k);
        const real *tkept = FN(line)(s.t.kept, k), *tc_before = FN(line)(s.t.c_before, k);
        const real *dh = s.d.dh + k * n, *dc = s.d.dc + k * n;
        real *tdh = s.tdh + k * n, *tdc = s.tdc + k * n, *tda = s.tda + k * 4 * n;
        if (!s.d.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(lstm_values) td =
                FN(lstm_unit_bend)(FN(lstm_at)(kept, n, j), FN(lstm_at)(tkept, n, j), c_before[j],
                                   tc_before[j], dh[j], tdh[j], dc[j], tdc[j]);
            FN(lstm_put)(td, tda, n, j);
            tdc[j] = td.c;
            tdh[j] = (real)0;
        }
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

static void FN(gru_forward_units)(int relu, FN(forward_step) s) {
    const int64_t n = s.n;
    (void)relu;
    FN(gates)(0, 3, s, 0, 2);
    for (int64_t k = 0; k < s.samples; k++) {
        const real *p = FN(line)(s.p, k), *gates = s.hw + k * 3 * n;
        real *h = s.h + k * n, *kept = s.kept + k * s.kept_by;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(gru_values) u = FN(gru_unit)(gates[j], gates[n + j], p[2 * n + j],
                                                  gates[2 * n + j] + s.bias[j], h[j]);
            FN(gru_put)(u, kept, n, j);
            h[j] = u.h;
        }
    }
}

static void FN(gru_backward_units)(int relu, FN(backward_step) s) {
    const int64_t n = s.n;
    (void)relu;
    for (int64_t k = 0; k < s.samples; k++) {
        const real *kept = FN(line)(s.at.kept, k), *h_before = FN(line)(s.at.h_before, k);
        real *dh = s.dh + k * n, *da = s.da + k * 4 * n;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(gru_values) d =
                FN(gru_unit_backward)(FN(gru_at)(kept, n, j), h_before[j], dh[j]);
            FN(gru_put_slopes)(d, da, n, j);
            dh[j] = d.h;
        }
    }
}

static void FN(gru_tangent_units)(int relu, FN(tangent_step) s) {
    const int64_t n = s.n;
    (void)relu;
    for (int64_t k = 0; k < s.samples; k++) {
        const real *kept = FN(line)(s.at.kept, k), *h_before = FN(line)(s.at.h_before, k);
        const real *tp = FN(line)(s.tp, k), *thw = s.thw + k * 3 * n;
        real *th = s.th + k * n, *tkept = s.tkept + k * s.tkept_by;
        if (!s.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(gru_values) t = FN(gru_unit_tangent)(
                FN(gru_at)(kept, n, j), h_before[j], tp[j] + thw[j], tp[n + j] + thw[n + j],
                tp[2 * n + j], thw[2 * n + j] + s.tbias[j], th[j]);
            FN(gru_put)(t, tkept, n, j);
            th[j] = t.h;
        }
    }
}

static void FN(gru_bend_units)(int relu, FN(bend_step) s) {
    const int64_t n = s.d.n;
    (void)relu;
    for (int64_t k = 0; k < s.d.samples; k++) {
        const real *kept = FN(line)(s.d.at.kept, k), *h_before = FN(line)(s.d.at.h_before, k);
        const real *tkept = FN(line)(s.t.kept, k), *th_before = FN(line)(s.t.h_before, k);
        const real *dh = s.d.dh + k * n;
        real *tdh = s.tdh + k * n, *tda = s.tda + k * 4 * n;
        if (!s.d.runs[k]) continue;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < n; j++) {
            const FN(gru_values) td =
                FN(gru_unit_bend)(FN(gru_at)(kept, n, j), FN(gru_at)(tkept, n, j), h_before[j],
                                  th_before[j], dh[j], tdh[j]);
            FN(gru_put_slopes)(td, tda, n, j);
            tdh[j] = td.h;
        }
    }
}
