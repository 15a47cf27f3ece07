/* The tangents of attention and of its gradient. A template (expand.h), a part of attention.c,
 * whose blocks and names it shares.
 *
 * Rows of copies come in pairs here: [a ta], a row and its tangent side by side, or [ta a]. The
 * product of [a ta] with the transpose of [tb b] is then the tangent of that of a with b, and so is
 * what two such pairs of matrices give as matrices of twice as many rows: a tangent costs one
 * product of twice the length. */

/* to (n, 2 ld) = rows [first, first + n) of x beside those of tx. */
static void FN(copy_pairs)(int64_t n, int64_t width, FN(head) x, FN(head) tx, int64_t first,
                           const real *mask, int64_t ld, real *to) {
    FN(copy)(n, width, x, first, mask, 2 * ld, to);
    FN(copy)(n, width, tx, first, mask, 2 * ld, to + ld);
}

/* [tc c] (m, 2 FEW) of c = a b^T, from a pair [a ta] (m, 2 ld) and a pair [tb b] (n, 2 ld). */
static void FN(multiply_pairs)(const fbp_gemm_kernels *gemm, int64_t m, int64_t n, int64_t width,
                               int64_t ld, const real *a, const real *b, real *c) {
    gemm->multiply_in_parts(m, n, ld + width, a, 2 * ld, b, 2 * ld, 1, NULL, NULL, c, 2 * FEW);
    gemm->multiply_in_parts(m, n, width, a, 2 * ld, b + ld, 2 * ld, 1, NULL, NULL, c + FEW,
                            2 * FEW);
}

/* ---- of forward: blocks of MANY keys by FEW queries ---- */

typedef struct {
    layout of;
    const fbp_gemm_kernels *gemm;
    FN(heads) x, tx;
    FN(head) ty;
    const real *mask;
    real *ks, *vs; /* (MANY, 2 ld): [k tk], [v tv] */
    real *qs;      /* (FEW, 2 ld): [tq q] */
    real *s;       /* (MANY, 2 FEW) */
    real *c;       /* (FEW, ld), and a line that products may write behind it */
    real lse[MANY], tlse[MANY];
} FN(tangent_work);

/* In the place of [ts s] (n, 2 FEW), keys by queries: [p ts, p], with ts scaled. tlse (FEW) += the
 * sum of p ts. */
static void FN(moved)(int64_t n, real scale, const real *lse, real *s, real *tlse) {
    for (int64_t j = 0; j < n; j++) {
        real *const row = s + j * 2 * FEW;
        FBP_LANEWISE
        FBP_INDEPENDENT
        for (int l = 0; l < FEW; l++) {
            const real p = FN(weight)(FBP_FMA(scale, row[FEW + l], -lse[l]));
            const real pts = p * (scale * row[l]);
            row[FEW + l] = p;
            row[l] = pts;
            tlse[l] += pts;
        }
    }
}

/* With ts = scale (tq k^T + q tk^T), the tangent of the log of a query's sum is tlse = sum(p ts),
 * and ty = (p ts) v + p tv - tlse y; all but the last term. lse and tlse: of the nq queries. */
static void FN(tangent_block)(const FN(tangent_work) * w, int64_t q0, int64_t nq, int64_t k0,
                              int64_t n, const real *lse, real *tlse) {
    const int64_t width = w->of.width, ld = w->of.ld;
    real logs[FEW] = {(real)0}, tlogs[FEW] = {(real)0};
    memcpy(logs, lse, (size_t)nq * sizeof(real));
    memcpy(tlogs, tlse, (size_t)nq * sizeof(real));
    FN(copy_pairs)(nq, width, w->tx.q, w->x.q, q0, NULL, ld, w->qs);
    FN(multiply_pairs)(w->gemm, n, nq, width, ld, w->ks, w->qs, w->s);
    FN(forbid)(&w->of, w->mask, n, k0, q0, 2 * FEW, w->s + FEW);
    FN(moved)(n, (real)w->of.scale, logs, w->s, tlogs);
    w->gemm->multiply_transposed(nq, width, 2 * n, w->s, FEW, w->vs, ld, 0, w->c);
    FN(add)(nq, width, (real)1, w->c, width, w->ty, q0);
    memcpy(tlse, tlogs, (size_t)nq * sizeof(real));
}

static void FN(tangent_head)(const fbp_node *node, const fbp_call *call, place at) {
    FN(tangent_work) w = {.of = layout_of(node), .gemm = node->gemm};
    const layout *const of = &w.of;
    w.x = FN(inputs_of)(node, call->at.x, at);
    w.tx = FN(inputs_of)(node, call->at.tx, at);
    w.ty = FN(result_of)(node, call->at.ty[0], at);
    w.mask = FN(mask_of)(node, call, at);
    w.ks = call->scratch;
    w.vs = w.ks + MANY * 2 * of->ld;
    w.qs = w.vs + MANY * 2 * of->ld;
    w.s = w.qs + FEW * 2 * of->ld;
    w.c = w.s + MANY * 2 * FEW;
    const FN(head) y = FN(result_of)(node, call->at.y[0], at);
    const real *const kept = FN(kept_of)(node, call->at.y[1], at);
    real *const tkept = FN(kept_of)(node, call->at.ty[1], at);
    FN(clear)(of->queries, of->width, w.ty);
    for (int64_t first = 0; first < of->queries; first += MANY) {
        const int64_t end = smaller(first + MANY, of->queries);
        const int64_t keys = of->causal ? smaller(of->keys, end) : of->keys;
        FN(finite_logs)(end - first, kept + first, w.lse);
        memset(w.tlse, 0, sizeof w.tlse);
        for (int64_t k0 = 0; k0 < keys; k0 += MANY) {
            const int64_t nk = FN(without_padding)(w.mask, k0, smaller(MANY, keys - k0));
            FN(copy_pairs)(nk, of->width, w.x.k, w.tx.k, k0, w.mask, of->ld, w.ks);
            FN(copy_pairs)(nk, of->width, w.x.v, w.tx.v, k0, w.mask, of->ld, w.vs);
            for (int64_t q0 = first; q0 < end && nk > 0; q0 += FEW) {
                const int64_t nq = smaller(FEW, end - q0);
                const int64_t n = of->causal ? smaller(nk, q0 + nq - k0) : nk;
                FN(tangent_block)(&w, q0, nq, k0, n, w.lse + (q0 - first), w.tlse + (q0 - first));
            }
        }
        for (int64_t i = first; i < end; i++)
            FN(add)(1, of->width, -w.tlse[i - first], y.at + i * y.stride, 0, w.ty, i);
        if (tkept != NULL) memcpy(tkept + first, w.tlse, (size_t)(end - first) * sizeof(real));
    }
}

static void FN(tangent)(const fbp_node *node, const fbp_call *call) {
    each_head(node, call, FN(tangent_head));
}

/* ---- of backward: blocks of MANY queries by FEW keys ---- */

typedef struct {
    layout of;
    const fbp_gemm_kernels *gemm;
    FN(heads) x, tx, tdx;
    FN(head) y, ty, dy, tdy;
    const real *mask, *kept, *tkept;
    real *qs, *dys; /* (MANY, 2 ld): [q tq], [dy tdy] */
    real *ks, *vs;  /* (FEW, 2 ld): [tk k], [tv v] */
    real *s, *ds;   /* (MANY, 2 FEW) */
    real *c;        /* (MANY, 2 ld), and a line that products may write behind it */
    real lse[MANY], tlse[MANY], delta[MANY], tdelta[MANY];
} FN(second_work);

/* In the place of [ts s] and [tdp dp] (n, 2 FEW): [tp p] and [tds ds], with
 *     tp = p (ts - tlse),  tds = tp (dp - delta) + p (tdp - tdelta). */
static void FN(moved_slopes)(int64_t first, int64_t n, const FN(second_work) * w) {
    const real scale = (real)w->of.scale;
    for (int64_t i = 0; i < n; i++) {
        real *const row = w->s + i * 2 * FEW, *const drow = w->ds + i * 2 * FEW;
        const real lse = w->lse[first + i], tlse = w->tlse[first + i];
        const real delta = w->delta[first + i], tdelta = w->tdelta[first + i];
        FBP_LANEWISE
        FBP_INDEPENDENT
        for (int l = 0; l < FEW; l++) {
            const real p = FN(weight)(FBP_FMA(scale, row[FEW + l], -lse));
            const real tp = p * FBP_FMA(scale, row[l], -tlse), slope = drow[FEW + l] - delta;
            row[l] = tp;
            row[FEW + l] = p;
            drow[FEW + l] = p * slope;
            drow[l] = FBP_FMA(tp, slope, p * (drow[l] - tdelta));
        }
    }
}

/* The lines above backward_block(), once more differentiated:
 *     tdv = tp^T dy + p^T tdy,  tdq = scale (tds k + ds tk),  tdk = scale (tds^T q + ds^T tq),
 * where delta = sum(dy y) has the tangent sum(dy ty + tdy y). */
static void FN(second_block)(FN(second_work) * w, int64_t q0, int64_t nq, int64_t k0) {
    const fbp_gemm_kernels *const gemm = w->gemm;
    const int64_t width = w->of.width, ld = w->of.ld;
    const int64_t nk = FN(without_padding)(w->mask, k0, smaller(FEW, w->of.keys - k0));
    if (nk == 0) return;
    const int64_t first = w->of.causal && k0 > q0 ? k0 - q0 : 0, n = nq - first;
    const real *const q = w->qs + first * 2 * ld, *const dy = w->dys + first * 2 * ld;
    const real scale = (real)w->of.scale;
    FN(copy_pairs)(nk, width, w->tx.k, w->x.k, k0, w->mask, ld, w->ks);
    FN(copy_pairs)(nk, width, w->tx.v, w->x.v, k0, w->mask, ld, w->vs);
    FN(multiply_pairs)(gemm, n, nk, width, ld, q, w->ks, w->s);
    FN(multiply_pairs)(gemm, n, nk, width, ld, dy, w->vs, w->ds);
    FN(forbid_columns)(&w->of, w->mask, n, q0 + first, k0, 2 * FEW, w->s + FEW);
    FN(moved_slopes)(first, n, w);
    if (w->tdx.v.at != NULL) {
        gemm->multiply_transposed(nk, width, 2 * n, w->s, FEW, dy, ld, 0, w->c);
        FN(add)(nk, width, (real)1, w->c, width, w->tdx.v, k0);
    }
    if (w->tdx.k.at != NULL) {
        gemm->multiply_transposed(nk, width, 2 * n, w->ds, FEW, q, ld, 0, w->c);
        FN(add)(nk, width, scale, w->c, width, w->tdx.k, k0);
    }
    for (int other = 0; w->tdx.q.at != NULL && other < 2; other++) { /* tds with k, ds with tk */
        const real *const k = other ? w->ks : w->ks + ld;
        gemm->multiply_in_parts(n, width, nk, w->ds + other * FEW, 2 * FEW, k, 2 * ld, 0, NULL,
                                NULL, w->c, ld);
        FN(add)(n, width, scale, w->c, ld, w->tdx.q, q0 + first);
    }
}

/* Copies of nq queries from q0 on, and what is known of each as a whole. */
static void FN(take_queries)(FN(second_work) * w, int64_t q0, int64_t nq) {
    const int64_t width = w->of.width, ld = w->of.ld;
    FN(copy_pairs)(nq, width, w->x.q, w->tx.q, q0, NULL, ld, w->qs);
    FN(copy_pairs)(nq, width, w->dy, w->tdy, q0, NULL, ld, w->dys);
    FN(copy_pairs)(nq, width, w->ty, w->y, q0, NULL, ld, w->c);
    FN(dots)(nq, ld, 2 * ld, w->dys, w->c + ld, w->delta);
    FN(dots)(nq, 2 * ld, 2 * ld, w->dys, w->c, w->tdelta);
    FN(finite_logs)(nq, w->kept + q0, w->lse);
    memset(w->tlse, 0, sizeof w->tlse);
    if (w->tkept != NULL) memcpy(w->tlse, w->tkept + q0, (size_t)nq * sizeof(real));
}

static void FN(second_head)(const fbp_node *node, const fbp_call *call, place at) {
    FN(second_work) w = {.of = layout_of(node), .gemm = node->gemm};
    const layout *const of = &w.of;
    w.x = FN(inputs_of)(node, call->at.x, at);
    w.tx = FN(inputs_of)(node, call->at.tx, at);
    w.tdx = FN(inputs_of)(node, call->at.tdx, at);
    w.y = FN(result_of)(node, call->at.y[0], at);
    w.ty = FN(result_of)(node, call->at.ty[0], at);
    w.dy = FN(result_of)(node, call->at.dy[0], at);
    w.tdy = FN(result_of)(node, call->at.tdy[0], at);
    w.mask = FN(mask_of)(node, call, at);
    w.kept = FN(kept_of)(node, call->at.y[1], at);
    w.tkept = FN(kept_of)(node, call->at.ty[1], at);
    w.qs = call->scratch;
    w.dys = w.qs + MANY * 2 * of->ld;
    w.ks = w.dys + MANY * 2 * of->ld;
    w.vs = w.ks + FEW * 2 * of->ld;
    w.s = w.vs + FEW * 2 * of->ld;
    w.ds = w.s + MANY * 2 * FEW;
    w.c = w.ds + MANY * 2 * FEW;
    FN(clear)(of->queries, of->width, w.tdx.q);
    FN(clear)(of->keys, of->width, w.tdx.k);
    FN(clear)(of->keys, of->width, w.tdx.v);
    for (int64_t q0 = 0; q0 < of->queries; q0 += MANY) {
        const int64_t nq = smaller(MANY, of->queries - q0);
        const int64_t keys = of->causal ? smaller(of->keys, q0 + nq) : of->keys;
        FN(take_queries)(&w, q0, nq);
        for (int64_t k0 = 0; k0 < keys; k0 += FEW) FN(second_block)(&w, q0, nq, k0);
    }
}

static void FN(backward_tangent)(const fbp_node *node, const fbp_call *call) {
    each_head(node, call, FN(second_head));
}

static const fbp_node_kernels FN(kernels) = {.forward = FN(forward),
                                             .backward = FN(backward),
                                             .tangent = FN(tangent),
                                             .backward_tangent = FN(backward_tangent),
                                             .scratch_bytes = scratch_bytes};
