/* What forward, backward and their tangents share: where a head's rows lie, their copies in blocks,
 * and the scores that may not be attended to. A template (expand.h), a part of attention.c. */

#define LINE (64 / (int)sizeof(real)) /* elements of a cache line: whole vectors everywhere */

/* exp(x), the weight of a score that lies x above the largest of its row or above the log of the
 * row's sum; but 0 below 1e-34 (1e-304 in double). Such weights add nothing that a sum would
 * notice, and products with them are denormal, which takes processors a hundred times as long: with
 * every forbidden score, -inf, this halved the speed. */
FBP_INLINE real FN(weight)(real x) {
    const real lowest = FBP_IS_F32 ? (real)-80 : (real)-700;
    return x < lowest ? (real)0 : FN(exp)(FN(at_least)(x, lowest));
}

/* ---- where a head lies ---- */

/* A head's rows in an array; `at` NULL stands for zeros. Whether they may be written to is the
 * caller's to know. */
typedef struct {
    real *at;
    int64_t stride;
} FN(head);

static FN(head) FN(head_of)(const fbp_node *node, const fbp_operand *x, const void *array,
                            int64_t column, int64_t sample) {
    FN(head) found = {NULL, x->row_stride};
    if (array != NULL)
        found.at = fbp_element(node->dtype, array, sample * x->sample_stride + column);
    return found;
}

typedef struct {
    FN(head) q, k, v;
} FN(heads);

/* In the arrays of the inputs: x, tx, dx or tdx of a call. */
static FN(heads) FN(inputs_of)(const fbp_node *node, const void *arrays, place at) {
    const layout of = layout_of(node);
    const int64_t column = at.head * of.width, next = of.packed ? of.heads * of.width : 0;
    const int k = of.packed ? 0 : 1, v = of.packed ? 0 : 2;
    const void *from[3]; /* a copy, since some are arrays of void * and others of const void * */
    memcpy(from, arrays, sizeof from);
    FN(heads) found;
    found.q = FN(head_of)(node, &node->in[0], from[0], column, at.sample);
    found.k = FN(head_of)(node, &node->in[k], from[k], column + next, at.sample);
    found.v = FN(head_of)(node, &node->in[v], from[v], column + 2 * next, at.sample);
    return found;
}

static FN(head) FN(result_of)(const fbp_node *node, const void *array, place at) {
    const int64_t width = layout_of(node).width;
    return FN(head_of)(node, &node->out[0], array, at.head * width, at.sample);
}

/* The logs of sums (queries) that are kept, or their tangents. */
static real *FN(kept_of)(const fbp_node *node, const void *array, place at) {
    const fbp_operand *kept = &node->out[1];
    return FN(head_of)(node, kept, array, at.head * kept->row_stride, at.sample).at;
}

/* (keys), or NULL where all may be attended to. */
static const real *FN(mask_of)(const fbp_node *node, const fbp_call *call, place at) {
    const int last = node->n_in - 1;
    if (node->n_in != (layout_of(node).packed ? 2 : 4)) return NULL;
    return FN(head_of)(node, &node->in[last], call->at.x[last], 0, at.sample).at;
}

/* ---- rows into blocks and back ---- */

/* to (n, ld) = rows [first, first + n), then zeros to the end of a cache line. Keys that the mask
 * forbids become zeros: what stands there is to have no effect, be it NaN. */
static void FN(copy)(int64_t n, int64_t width, FN(head) from, int64_t first, const real *mask,
                     int64_t ld, real *to) {
    for (int64_t r = 0; r < n; r++, to += ld) {
        const int zero = from.at == NULL || (mask != NULL && mask[first + r] == (real)0);
        const real *const row = zero ? NULL : from.at + (first + r) * from.stride;
        int64_t j = 0;
        for (; j + LINE <= width && !zero; j += LINE) {
            FBP_LANEWISE
            for (int l = 0; l < LINE; l++) to[j + l] = row[j + l];
        }
        for (; j < width && !zero; j++) to[j] = row[j];
        for (; j % LINE != 0 || j < width; j++) to[j] = (real)0;
    }
}

/* Rows [first, first + n) of `to` += factor c. */
static void FN(add)(int64_t n, int64_t width, real factor, const real *c, int64_t ldc, FN(head) to,
                    int64_t first) {
    for (int64_t r = 0; r < n; r++) {
        const real *const from = c + r * ldc;
        real *const row = to.at + (first + r) * to.stride;
        FBP_INDEPENDENT
        for (int64_t j = 0; j < width; j++) row[j] = FBP_FMA(factor, from[j], row[j]);
    }
}

static void FN(clear)(int64_t n, int64_t width, FN(head) x) {
    for (int64_t r = 0; r < n && x.at != NULL; r++)
        memset(x.at + r * x.stride, 0, (size_t)width * sizeof(real));
}

/* How many of n keys are left without those at the end that the mask forbids: padding. */
static int64_t FN(without_padding)(const real *mask, int64_t first, int64_t n) {
    while (mask != NULL && n > 0 && mask[first + n - 1] == (real)0) n--;
    return n;
}

/* ---- blocks ---- */

/* Scores (n, ld) of keys [k0, k0 + n) and FEW queries from q0 on that may not be attended to become
 * -inf. */
static void FN(forbid)(const layout *of, const real *mask, int64_t n, int64_t k0, int64_t q0,
                       int64_t ld, real *s) {
    for (int64_t j = 0; j < n; j++) {
        int64_t forbidden = of->causal && k0 + j > q0 ? smaller(k0 + j - q0, FEW) : 0;
        if (mask != NULL && mask[k0 + j] == (real)0) forbidden = FEW;
        for (int64_t l = 0; l < forbidden; l++) s[j * ld + l] = -(real)INFINITY;
    }
}

/* As forbid(), for scores (n, ld) of queries from q0 on and FEW keys from k0 on. */
static void FN(forbid_columns)(const layout *of, const real *mask, int64_t n, int64_t q0,
                               int64_t k0, int64_t ld, real *s) {
    const int64_t nk = smaller(FEW, of->keys - k0);
    for (int64_t l = 0; mask != NULL && l < nk; l++)
        for (int64_t i = 0; i < n && mask[k0 + l] == (real)0; i++) s[i * ld + l] = -(real)INFINITY;
    for (int64_t i = 0; of->causal && i < n && q0 + i < k0 + FEW; i++)
        for (int64_t l = q0 + i + 1 - k0; l < FEW; l++) s[i * ld + l] = -(real)INFINITY;
}

/* The sums over `width` of a times b, whose rows are ld apart, in LINE chains that are added up
 * pairwise. */
static void FN(dots)(int64_t n, int64_t width, int64_t ld, const real *a, const real *b,
                     real *out) {
    for (int64_t r = 0; r < n; r++) {
        real lanes[LINE] = {(real)0};
        for (int64_t j = r * ld; j < r * ld + width; j += LINE) {
            FBP_LANEWISE
            for (int l = 0; l < LINE; l++) lanes[l] = FBP_FMA(a[j + l], b[j + l], lanes[l]);
        }
        for (int half = LINE / 2; half > 0; half /= 2)
            for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
        out[r] = lanes[0];
    }
}

/* The logs of n sums, with 0 in the place of -inf: all of that query's scores are -inf. */
static void FN(finite_logs)(int64_t n, const real *lse, real *to) {
    for (int64_t i = 0; i < n; i++) to[i] = lse[i] == -(real)INFINITY ? (real)0 : lse[i];
}
