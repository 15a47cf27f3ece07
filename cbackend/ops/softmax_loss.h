/* The loops of losses that are functions of softmax's probabilities, a part of the template loss.c:
 * exponentials of a row, the measures of a sample that formulas are told in, gradients by the raw
 * outputs and their tangents. No formula of a loss.
 *
 * A loss has a slope by c = -log(p[target]) and one by the mean of -log(p) over all classes,
 * `even`; a row of raw outputs z has k classes. No include guard: it is meant to be included once
 * for each type. */

/* e = exp(z - max) over a row: no overflow, and at least one term is 1. Lanes beyond k get 0, and
 * the block that ends the row is stored whole. Returns the sum over all but column `skipped`. e may
 * be z; where it is NULL, only the sum is wanted. */
FBP_INLINE real FN(exp_row)(int64_t k, const real *z, real max, int64_t skipped, real *e) {
    real lanes[LANES] = {(real)0};
    for (int64_t j = 0; j < k; j += LANES) {
        real block[LANES];
        const int live = FN(live_lanes)(k - j), omitted = (int)(skipped - j);
        FBP_LANEWISE
        for (int l = 0; l < LANES; l++) {
            const real x = FN(exp)(z[j + l] - max);
            block[l] = l < live ? x : (real)0;
            lanes[l] += l == omitted ? (real)0 : block[l];
        }
        if (e) memcpy(e + j, block, sizeof block);
    }
    return FN(sum_lanes)(lanes);
}

FBP_INLINE real FN(max_row)(int64_t k, const real *z) {
    real lanes[LANES];
    FBP_LANEWISE
    for (int l = 0; l < LANES; l++) lanes[l] = -(real)INFINITY;
    for (int64_t j = 0; j < k; j += LANES) {
        const int live = FN(live_lanes)(k - j);
        FBP_LANEWISE
        for (int l = 0; l < LANES; l++) {
            const real x = l < live ? z[j + l] : -(real)INFINITY;
            lanes[l] = x > lanes[l] ? x : lanes[l];
        }
    }
    return FN(max_lanes)(lanes);
}

/* How far x[target] is above the mean over a row: the mean of x[target] - x, each term divided
 * first, so that the sum of large ones is finite. */
FBP_INLINE real FN(lead_of)(int64_t k, const real *x, int64_t target) {
    real lanes[LANES] = {(real)0};
    const real top = x[target], share = (real)1 / (real)k;
    for (int64_t j = 0; j < k; j += LANES) {
        const int live = FN(live_lanes)(k - j);
        FBP_LANEWISE
        for (int l = 0; l < LANES; l++) lanes[l] += l < live ? (top - x[j + l]) * share : (real)0;
    }
    return FN(sum_lanes)(lanes);
}

/* Some samples: with p = softmax(z)[target], q = 1 - p, which is the share of the other classes and
 * so keeps its digits, c = -log(p), and the lead of the target's output, where it is wanted. */
typedef struct {
    int rows;
    /* the largest output, the target's, and the sum of exp(z - max) over all and over the others */
    real max[GROUP], top[GROUP], sum[GROUP], others[GROUP];
    real c[GROUP], q[GROUP], lead[GROUP];
    real value[GROUP], slope[GROUP], curvature[GROUP]; /* as SOFTMAX_LOSS states them */
} FN(group);

typedef void FN(group_function)(FN(group) * group, const double *attrs);

/* e (rows, ld) is as in exp_row. */
FBP_INLINE void FN(measure)(int64_t k, int64_t ld, const real *z, const int32_t *target, real *e,
                            FN(group) * g) {
    for (int r = 0; r < g->rows; r++) {
        g->max[r] = FN(max_row)(k, z + r * ld);
        g->top[r] = z[r * ld + target[r]];
        g->others[r] = FN(exp_row)(k, z + r * ld, g->max[r], target[r], e ? e + r * ld : NULL);
    }
    for (int r = g->rows; r < GROUP; r++) g->max[r] = g->top[r] = g->others[r] = (real)0;
    FBP_LANEWISE
    for (int r = 0; r < GROUP; r++) {
        const real own = FN(exp)(g->top[r] - g->max[r]);
        g->sum[r] = g->others[r] + own;
        g->q[r] = g->others[r] / g->sum[r];
        /* Where the target's class leads, own is 1 and a small c keeps its digits. */
        const real rest = own == (real)1 ? g->others[r] : (g->others[r] - (real)1) + own;
        g->c[r] = (g->max[r] - g->top[r]) + FN(log1p)(rest);
    }
}

/* Of e = exp(z - max) with its sum over a row, and a the slope by c:
 *     dz = scale (a (p - onehot) + even (p - 1 / k)). */
static void FN(even_row)(int64_t k, int64_t ld, int64_t target, real slope, real even, real q,
                         real sum, real scale, real *e) {
    const real factor = (slope + even) / sum, level = even / (real)k;
    const real own = e[target] * (even / sum) - level;
    for (int64_t j = 0; j < ld; j += LANES) {
        const int64_t live = k - j;
        FBP_LANEWISE
        for (int l = 0; l < LANES; l++)
            e[j + l] = l < live ? scale * (e[j + l] * factor - level) : (real)0;
    }
    e[target] = scale * (own - slope * q);
}

/* `even` is the loss's slope by the mean of -log(p) over all classes, for all samples the same. */
static void FN(softmax_forward)(int64_t rows, int64_t k, int64_t ld, const real *z,
                                const int32_t *target, const real *scale, real *value, real *dz,
                                const double *attrs, FN(group_function) * function, real even) {
    FN(group) g;
    memset(g.lead, 0, sizeof g.lead);
    for (int64_t i = 0; i < rows; i += GROUP) {
        g.rows = rows - i < GROUP ? (int)(rows - i) : GROUP;
        real *const e = dz ? dz + i * ld : NULL;
        for (int r = 0; even != (real)0 && r < g.rows; r++) /* before e takes the place of z */
            g.lead[r] = FN(lead_of)(k, z + (i + r) * ld, target[i + r]);
        FN(measure)(k, ld, z + i * ld, target + i, e, &g);
        function(&g, attrs);
        for (int r = 0; r < g.rows; r++) {
            value[i + r] = g.value[r];
            if (!dz) continue;
            if (even != (real)0) {
                FN(even_row)(k, ld, target[i + r], g.slope[r], even, g.q[r], g.sum[r],
                             scale ? scale[i + r] : (real)1, e + r * ld);
                continue;
            }
            /* slope (p - onehot) */
            const real slope = scale ? scale[i + r] * g.slope[r] : g.slope[r];
            const real factor = slope / g.sum[r];
            int64_t j = 0;
            for (; j < k; j += LANES) {
                FBP_LANEWISE
                for (int l = 0; l < LANES; l++) e[r * ld + j + l] *= factor;
            }
            for (; j < ld; j += LANES) memset(e + r * ld + j, 0, LANES * sizeof(real));
            e[r * ld + target[i + r]] = -slope * g.q[r];
        }
    }
}

/* Along tz: dc = sum of p (tz - tz[target]) is the tangent of c, and with the slope a and the
 * curvature b / q of the loss by c, the tangent of dz is
 *     b dc / q (p - onehot) + (a + even) p (tz - tz[target] - dc). */
static void FN(softmax_tangent)(int64_t rows, int64_t k, int64_t ld, const real *z, const real *tz,
                                const int32_t *target, const real *scale, real *tvalue, real *tdz,
                                const double *attrs, FN(group_function) * function, real even) {
    FN(group) g;
    memset(g.lead, 0, sizeof g.lead); /* of the value, which is not wanted here */
    for (int64_t i = 0; i < rows; i++) {
        const real *const zi = z + i * ld, *const tzi = tz + i * ld, top = tzi[target[i]];
        g.rows = 1;
        FN(measure)(k, ld, zi, target + i, NULL, &g);
        function(&g, attrs);
        real lanes[LANES] = {(real)0};
        for (int64_t j = 0; j < k; j += LANES) {
            const int live = FN(live_lanes)(k - j);
            FBP_LANEWISE
            for (int l = 0; l < LANES; l++) {
                const real x = FN(exp)(zi[j + l] - g.max[0]) * (tzi[j + l] - top);
                lanes[l] += l < live ? x : (real)0;
            }
        }
        const real dc = FN(sum_lanes)(lanes) / g.sum[0];
        if (tvalue) tvalue[i] = dc * g.slope[0];
        if (tvalue && even != (real)0) tvalue[i] += even * (dc + FN(lead_of)(k, tzi, target[i]));
        if (!tdz) continue;
        const real s = scale ? scale[i] : (real)1, b = s * g.curvature[0];
        const real a = s * (g.slope[0] + even);
        const real share =
            g.others[0] > (real)0 ? b * dc / g.others[0] : (real)0; /* b dc / q sum */
        for (int64_t j = 0; j < ld; j += LANES) {
            const int live = FN(live_lanes)(k - j);
            FBP_LANEWISE
            for (int l = 0; l < LANES; l++) {
                const real e = FN(exp)(zi[j + l] - g.max[0]);
                const real x = e * (share + a / g.sum[0] * (tzi[j + l] - top - dc));
                tdz[i * ld + j + l] = l < live ? x : (real)0;
            }
        }
        tdz[i * ld + target[i]] = -dc * (b + a * ((real)1 - g.q[0]));
    }
}
