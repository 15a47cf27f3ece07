/* Attention and its gradient, head by head. A template (expand.h), a part of attention.c, which
 * says in which blocks; it holds no tangent. */

/* ---- forward: blocks of MANY keys by FEW queries ---- */

/* What forward works on: a head, MANY of its queries with the logs of their sums so far, and copies
 * of MANY keys. */
typedef struct {
    layout of;
    const fbp_gemm_kernels *gemm;
    FN(heads) x;
    FN(head) y;
    const real *mask;
    real *k, *v; /* (MANY, ld) */
    real *s;     /* (MANY, FEW) */
    real *c;     /* (FEW, ld) */
    real lse[MANY];
} FN(forward_work);

/* For FEW queries: the largest score of a block, the sum of exp(score - top), the log of the sum
 * over all keys so far, and what the results before and those of this block are weighted with. */
typedef struct {
    real top[FEW], sum[FEW], lse[FEW], before[FEW], now[FEW];
} FN(sums);

/* s = exp(scale s - top). Where a query has no key top is 0, so that no -inf meets another. */
static void FN(exponentials)(int64_t n, real scale, real *s, FN(sums) * of) {
    real most[FEW], sum[FEW];
    FBP_LANEWISE
    for (int l = 0; l < FEW; l++) {
        most[l] = -(real)INFINITY;
        sum[l] = (real)0;
    }
    for (int64_t j = 0; j < n; j++) {
        FBP_LANEWISE
        for (int l = 0; l < FEW; l++) most[l] = s[j * FEW + l] > most[l] ? s[j * FEW + l] : most[l];
    }
    FBP_LANEWISE
    for (int l = 0; l < FEW; l++)
        of->top[l] = most[l] == -(real)INFINITY ? (real)0 : scale * most[l];
    for (int64_t j = 0; j < n; j++) {
        FBP_LANEWISE
        for (int l = 0; l < FEW; l++) {
            const real e = FN(weight)(FBP_FMA(scale, s[j * FEW + l], -of->top[l]));
            s[j * FEW + l] = e;
            sum[l] += e;
        }
    }
    memcpy(of->sum, sum, sizeof sum);
}

/* The sums of exponentials over two sets of keys add up, and their results are averaged with them
 * as weights. (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018.) */
static void FN(join)(int first, FN(sums) * of) {
    FBP_LANEWISE
    for (int l = 0; l < FEW; l++) {
        const real own = of->sum[l] == (real)0 ? (real)0 : (real)1 / of->sum[l];
        const real lse = of->top[l] + FN(log)(of->sum[l]);
        const real most = of->lse[l] > lse ? of->lse[l] : lse;
        const real top = most == -(real)INFINITY ? (real)0 : most;
        const real before = FN(weight)(of->lse[l] - top), now = FN(weight)(lse - top);
        const real share = before + now == (real)0 ? (real)0 : (real)1 / (before + now);
        of->before[l] = share * before;
        of->now[l] = first ? own : share * now * own;
        of->lse[l] = first ? lse : top + FN(log)(before + now);
    }
}

/* The results of a block, c (n, width), are joined to those of the blocks before. */
static void FN(average)(int64_t n, int64_t width, int first, const FN(sums) * of, const real *c,
                        FN(head) y, int64_t q0) {
    for (int64_t i = 0; i < n; i++) {
        const real *const from = c + i * width, before = of->before[i], now = of->now[i];
        real *const row = y.at + (q0 + i) * y.stride;
        if (first) {
            FBP_INDEPENDENT
            for (int64_t j = 0; j < width; j++) row[j] = now * from[j];
        } else {
            FBP_INDEPENDENT
            for (int64_t j = 0; j < width; j++) row[j] = FBP_FMA(now, from[j], before * row[j]);
        }
    }
}

/* nq queries from q0 on and n keys from k0 on, which are in k and v; lse (nq) those of the
 * queries. */
static void FN(forward_block)(const FN(forward_work) * w, int64_t q0, int64_t nq, int64_t k0,
                              int64_t n, real *lse) {
    const int64_t width = w->of.width, ld = w->of.ld;
    const FN(head) q = w->x.q;
    FN(sums) sums;
    memset(sums.lse, 0, sizeof sums.lse);
    memcpy(sums.lse, lse, (size_t)nq * sizeof(real));
    if (n > 0)
        w->gemm->multiply_in_parts(n, nq, width, w->k, ld, q.at + q0 * q.stride, q.stride, 1, NULL,
                                   NULL, w->s, FEW);
    FN(forbid)(&w->of, w->mask, n, k0, q0, FEW, w->s);
    FN(exponentials)(n, (real)w->of.scale, w->s, &sums);
    FN(join)(k0 == 0, &sums);
    memcpy(lse, sums.lse, (size_t)nq * sizeof(real));
    if (n > 0)
        w->gemm->multiply_transposed(nq, width, n, w->s, FEW, w->v, ld, 0, w->c);
    else
        memset(w->c, 0, (size_t)(nq * width) * sizeof(real));
    FN(average)(nq, width, k0 == 0, &sums, w->c, w->y, q0);
}

static void FN(forward_head)(const fbp_node *node, const fbp_call *call, place at) {
    FN(forward_work) w = {.of = layout_of(node), .gemm = node->gemm};
    const layout *const of = &w.of;
    w.x = FN(inputs_of)(node, call->at.x, at);
    w.y = FN(result_of)(node, call->at.y[0], at);
    w.mask = FN(mask_of)(node, call, at);
    w.k = call->scratch;
    w.v = w.k + MANY * of->ld;
    w.s = w.v + MANY * of->ld;
    w.c = w.s + MANY * FEW;
    real *const kept = FN(kept_of)(node, call->at.y[1], at);
    for (int64_t first = 0; first < of->queries; first += MANY) {
        const int64_t end = smaller(first + MANY, of->queries);
        const int64_t keys = of->causal ? smaller(of->keys, end) : of->keys;
        for (int64_t k0 = 0; k0 < keys; k0 += MANY) {
            const int64_t nk = FN(without_padding)(w.mask, k0, smaller(MANY, keys - k0));
            if (nk == 0 && k0 > 0) continue;
            FN(copy)(nk, of->width, w.x.k, k0, w.mask, of->ld, w.k);
            FN(copy)(nk, of->width, w.x.v, k0, w.mask, of->ld, w.v);
            for (int64_t q0 = first; q0 < end; q0 += FEW) {
                const int64_t nq = smaller(FEW, end - q0);
                const int64_t n = of->causal ? smaller(nk, q0 + nq - k0) : nk;
                FN(forward_block)(&w, q0, nq, k0, n, w.lse + (q0 - first));
            }
        }
        if (kept != NULL) memcpy(kept + first, w.lse, (size_t)(end - first) * sizeof(real));
    }
}

static void FN(forward)(const fbp_node *node, const fbp_call *call) {
    each_head(node, call, FN(forward_head));
}

/* ---- backward: blocks of MANY queries by FEW keys ---- */

/* What backward works on: a head, and copies of MANY queries and of FEW keys. */
typedef struct {
    layout of;
    const fbp_gemm_kernels *gemm;
    FN(heads) x, dx;
    FN(head) y, dy;
    const real *mask, *kept;
    real *qs, *dys; /* (MANY, ld) */
    real *ks, *vs;  /* (FEW, ld) */
    real *s, *ds;   /* (MANY, FEW) */
    real *c;        /* (MANY, ld), and a line that products may write behind it */
    real lse[MANY], delta[MANY];
} FN(backward_work);

/* p = exp(scale s - lse) and ds = p (dp - delta), in the place of s and dp. */
static void FN(slopes)(int64_t n, real scale, const real *lse, const real *delta, real *s,
                       real *dp) {
    for (int64_t i = 0; i < n; i++) {
        real *const row = s + i * FEW, *const drow = dp + i * FEW;
        const real log_sum = lse[i], mean = delta[i];
        FBP_LANEWISE
        FBP_INDEPENDENT
        for (int l = 0; l < FEW; l++) {
            const real p = FN(weight)(FBP_FMA(scale, row[l], -log_sum));
            row[l] = p;
            drow[l] = p * (drow[l] - mean);
        }
    }
}

/* With p = softmax(scale q k^T), row by row, and y = p v:
 *     dv = p^T dy,  dp = dy v^T,  ds = p (dp - sum(dy y)),
 *     dq = scale ds k,  dk = scale ds^T q,
 * where the sum over the width of dy y is that over the keys of p dp. (Dao et al., 2022, B.2.)
 *
 * Of the nq queries from q0 on, those that attend to keys from k0 on. */
static void FN(backward_block)(FN(backward_work) * w, int64_t q0, int64_t nq, int64_t k0) {
    const fbp_gemm_kernels *const gemm = w->gemm;
    const int64_t width = w->of.width, ld = w->of.ld;
    const int64_t nk = FN(without_padding)(w->mask, k0, smaller(FEW, w->of.keys - k0));
    if (nk == 0) return;
    const int64_t first = w->of.causal && k0 > q0 ? k0 - q0 : 0, n = nq - first;
    const real *const q = w->qs + first * ld, *const dy = w->dys + first * ld;
    const real scale = (real)w->of.scale;
    FN(copy)(nk, width, w->x.k, k0, w->mask, ld, w->ks);
    FN(copy)(nk, width, w->x.v, k0, w->mask, ld, w->vs);
    gemm->multiply_in_parts(n, nk, width, q, ld, w->ks, ld, 1, NULL, NULL, w->s, FEW);
    gemm->multiply_in_parts(n, nk, width, dy, ld, w->vs, ld, 1, NULL, NULL, w->ds, FEW);
    FN(forbid_columns)(&w->of, w->mask, n, q0 + first, k0, FEW, w->s);
    FN(slopes)(n, scale, w->lse + first, w->delta + first, w->s, w->ds);
    if (w->dx.v.at != NULL) {
        gemm->multiply_transposed(nk, width, n, w->s, FEW, dy, ld, 0, w->c);
        FN(add)(nk, width, (real)1, w->c, width, w->dx.v, k0);
    }
    if (w->dx.k.at != NULL) {
        gemm->multiply_transposed(nk, width, n, w->ds, FEW, q, ld, 0, w->c);
        FN(add)(nk, width, scale, w->c, width, w->dx.k, k0);
    }
    if (w->dx.q.at != NULL) {
        gemm->multiply_in_parts(n, width, nk, w->ds, FEW, w->ks, ld, 0, NULL, NULL, w->c, ld);
        FN(add)(n, width, scale, w->c, ld, w->dx.q, q0 + first);
    }
}

static void FN(backward_head)(const fbp_node *node, const fbp_call *call, place at) {
    FN(backward_work) w = {.of = layout_of(node), .gemm = node->gemm};
    const layout *const of = &w.of;
    w.x = FN(inputs_of)(node, call->at.x, at);
    w.dx = FN(inputs_of)(node, call->at.dx, at);
    w.y = FN(result_of)(node, call->at.y[0], at);
    w.dy = FN(result_of)(node, call->at.dy[0], at);
    w.mask = FN(mask_of)(node, call, at);
    w.kept = FN(kept_of)(node, call->at.y[1], at);
    w.qs = call->scratch;
    w.dys = w.qs + MANY * of->ld;
    w.ks = w.dys + MANY * of->ld;
    w.vs = w.ks + FEW * of->ld;
    w.s = w.vs + FEW * of->ld;
    w.ds = w.s + MANY * FEW;
    w.c = w.ds + MANY * FEW;
    FN(clear)(of->queries, of->width, w.dx.q);
    FN(clear)(of->keys, of->width, w.dx.k);
    FN(clear)(of->keys, of->width, w.dx.v);
    for (int64_t q0 = 0; q0 < of->queries; q0 += MANY) {
        const int64_t nq = smaller(MANY, of->queries - q0);
        const int64_t keys = of->causal ? smaller(of->keys, q0 + nq) : of->keys;
        FN(copy)(nq, of->width, w.x.q, q0, NULL, of->ld, w.qs);
        FN(copy)(nq, of->width, w.dy, q0, NULL, of->ld, w.dys);
        FN(copy)(nq, of->width, w.y, q0, NULL, of->ld, w.c);
        FN(dots)(nq, of->ld, of->ld, w.dys, w.c, w.delta);
        FN(finite_logs)(nq, w.kept + q0, w.lse);
        for (int64_t k0 = 0; k0 < keys; k0 += FEW) FN(backward_block)(&w, q0, nq, k0);
    }
}

static void FN(backward)(const fbp_node *node, const fbp_call *call) {
    each_head(node, call, FN(backward_head));
}
