/* The family of losses: the formulas of math/losses.h as kernels for float and double, and their rows
 * of the table. It holds the loops over samples and outputs and no formula, except that of softmax,
 * which is one over a row.
 *
 * A row of raw outputs is worked on in blocks of 64 bytes, the unit of its leading dimension: every
 * block is whole vectors on every instruction set, and a sum over outputs is one chain for each of
 * the block's lanes, joined at the end in a fixed order. So a sample's loss has the same bits in any
 * batch and on v3 and v4. */
#ifndef real

#include <math.h>

#include "core/row.h"
#include "math/attributes.h"
#include "math/scalar.h"

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/losses.h"
#include "math/expand.h"

#define FBP_TEMPLATE "ops/loss.c"
#include "math/expand.h"

#define LOSS_ROW(name_, target_, link_, flops_, doc_, n_attrs_, ...)                               \
    {.name = #name_,                                                                               \
     .doc = doc_,                                                                                  \
     .kind = FBP_LOSS,                                                                             \
     .n_attrs = n_attrs_,                                                                          \
     .attrs = {__VA_ARGS__},                                                                       \
     .target = FBP_TARGET_##target_,                                                               \
     .link = #link_,                                                                               \
     .flops = flops_,                                                                              \
     .kernels = {&name_##_kernels_f32, &name_##_kernels_f64}},
#define ATTR ATTR_ENTRY
#define LOSS(name, target, link, attributes, flops, doc, value, slope, curvature)                  \
    LOSS_ROW(name, target, link, flops, doc, ATTR_COUNT(attributes), ENTRIES_##attributes)
#define SOFTMAX_LOSS(name, attributes, flops, doc, value, slope, curvature)                        \
    LOSS_ROW(name, CLASS, softmax, flops, doc, ATTR_COUNT(attributes), ENTRIES_##attributes)

static const fbp_row rows[] = {
#include "math/losses.h"
};

const fbp_family FBP_FAMILY(loss) = {rows, sizeof rows / sizeof rows[0]};

#else

#define LANES (64 / (int)sizeof(real))

/* The sum over lanes, as a tree. */
FBP_INLINE real FN(sum_lanes)(real *lanes)
{
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            lanes[l] += lanes[l + width];
    return lanes[0];
}

FBP_INLINE real FN(max_lanes)(real *lanes)
{
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            lanes[l] = lanes[l] > lanes[l + width] ? lanes[l] : lanes[l + width];
    return lanes[0];
}

/* How many of the block's lanes are outputs, when `left` outputs are left. */
FBP_INLINE int FN(live_lanes)(int64_t left)
{
    return left < LANES ? (int)left : LANES;
}

FBP_INLINE void FN(fill_zeros)(int64_t n, real *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (real)0;
}

/* ---- losses that are a sum over outputs ---- */

/* One block, of which `live` lanes are outputs: adds to the lanes of the value and stores those of
 * the gradient. z and dz may be one. */
typedef void FN(forward_block)(int live, const real *z, const real *t, real scale, real *value,
                               real *dz, const double *attrs);
typedef void FN(tangent_block)(int live, const real *z, const real *tz, const real *t, real scale,
                               real *tvalue, real *tdz, const double *attrs);

/* The target's row is dense: its last block is copied where reading all lanes would overrun it. */
FBP_INLINE const real *FN(target_block)(int live, const real *t, real *copy)
{
    if (live == LANES)
        return t;
    for (int l = 0; l < LANES; l++)
        copy[l] = (real)0;
    for (int l = 0; l < live; l++)
        copy[l] = t[l];
    return copy;
}

FBP_INLINE void FN(forward)(int64_t rows, int64_t k, int64_t ld, const real *z, const real *t,
                            const real *scale, real *value, real *dz, const double *attrs,
                            FN(forward_block) block)
{
    for (int64_t i = 0; i < rows; i++) {
        real unwanted[LANES], copy[LANES], lanes[LANES] = {(real)0};
        const real s = scale ? scale[i] : (real)1;
        for (int64_t j = 0; j < k; j += LANES) {
            const int live = FN(live_lanes)(k - j);
            real *const to = dz ? dz + i * ld + j : unwanted;
            const real *const tj = FN(target_block)(live, t + i * k + j, copy);
            block(live, z + i * ld + j, tj, s, lanes, to, attrs);
        }
        value[i] = FN(sum_lanes)(lanes);
        const int64_t end = (k + LANES - 1) / LANES * LANES;
        if (dz)
            FN(fill_zeros)(ld - end, dz + i * ld + end);
    }
}

FBP_INLINE void FN(tangent)(int64_t rows, int64_t k, int64_t ld, const real *z, const real *tz,
                            const real *t, const real *scale, real *tvalue, real *tdz,
                            const double *attrs, FN(tangent_block) block)
{
    for (int64_t i = 0; i < rows; i++) {
        real unwanted[LANES], copy[LANES], lanes[LANES] = {(real)0};
        const real s = scale ? scale[i] : (real)1;
        for (int64_t j = 0; j < k; j += LANES) {
            const int live = FN(live_lanes)(k - j);
            real *const to = tdz ? tdz + i * ld + j : unwanted;
            const real *const tj = FN(target_block)(live, t + i * k + j, copy);
            block(live, z + i * ld + j, tz + i * ld + j, tj, s, lanes, to, attrs);
        }
        const int64_t end = (k + LANES - 1) / LANES * LANES;
        if (tvalue)
            tvalue[i] = FN(sum_lanes)(lanes);
        if (tdz)
            FN(fill_zeros)(ld - end, tdz + i * ld + end);
    }
}

#define LINK(name, formula)                                                                        \
    static void FN(predict_##name)(int64_t rows, int64_t k, int64_t ld, const void *z_in,          \
                                   int64_t ldp, void *p_out)                                       \
    {                                                                                              \
        const real *const zs = z_in;                                                               \
        real *const ps = p_out;                                                                    \
        for (int64_t i = 0; i < rows; i++)                                                         \
            for (int64_t j = 0; j < k; j += LANES) {                                               \
                const int live = FN(live_lanes)(k - j);                                            \
                real block[LANES];                                                                 \
                for (int l = 0; l < LANES; l++) {                                                  \
                    const real z = zs[i * ld + j + l];                                             \
                    block[l] = formula;                                                            \
                }                                                                                  \
                for (int l = 0; l < live; l++)                                                     \
                    ps[i * ldp + j + l] = block[l];                                                \
            }                                                                                      \
    }
LINK(identity, z)
LINK(logistic, FN(logistic)(z))
LINK(exp, FN(exp)(z))
#undef LINK

/* ---- softmax and the losses on it ---- */

/* exp(z - max) / sum over the row: no overflow, and at least one term is 1. */
FBP_INLINE real FN(row_max)(int64_t k, const real *z)
{
    real lanes[LANES];
    for (int l = 0; l < LANES; l++)
        lanes[l] = -(real)INFINITY;
    for (int64_t j = 0; j < k; j += LANES) {
        const int live = FN(live_lanes)(k - j);
        for (int l = 0; l < LANES; l++) {
            const real x = l < live ? z[j + l] : -(real)INFINITY;
            lanes[l] = x > lanes[l] ? x : lanes[l];
        }
    }
    return FN(max_lanes)(lanes);
}

static void FN(predict_softmax)(int64_t rows, int64_t k, int64_t ld, const void *z_in, int64_t ldp,
                                void *p_out)
{
    for (int64_t i = 0; i < rows; i++) {
        const real *const z = (const real *)z_in + i * ld;
        real *const p = (real *)p_out + i * ldp;
        const real max = FN(row_max)(k, z);
        real lanes[LANES] = {(real)0}, e[LANES];
        for (int64_t j = 0; j < k; j += LANES) {
            const int live = FN(live_lanes)(k - j);
            for (int l = 0; l < LANES; l++) {
                e[l] = l < live ? FN(exp)(z[j + l] - max) : (real)0;
                lanes[l] += e[l];
            }
            for (int l = 0; l < live; l++)
                p[j + l] = e[l];
        }
        const real sum = FN(sum_lanes)(lanes);
        for (int64_t j = 0; j < k; j++)
            p[j] /= sum;
    }
}

/* One sample: with p = softmax(z)[target], q = 1 - p, which is the other classes' sum and so keeps
 * its digits, and c = -log(p). */
typedef struct {
    real max, sum, others; /* sum of exp(z - max), over all classes and over all but the target */
    real c, q;
} FN(softmax_sample);

FBP_INLINE FN(softmax_sample) FN(measure)(int64_t k, const real *z, int32_t target)
{
    FN(softmax_sample) s;
    real lanes[LANES] = {(real)0};
    s.max = FN(row_max)(k, z);
    for (int64_t j = 0; j < k; j += LANES) {
        const int live = FN(live_lanes)(k - j), skipped = (int)(target - j);
        for (int l = 0; l < LANES; l++) {
            const real e = FN(exp)(z[j + l] - s.max);
            lanes[l] += l < live && l != skipped ? e : (real)0;
        }
    }
    const real own = FN(exp)(z[target] - s.max);
    s.others = FN(sum_lanes)(lanes);
    s.sum = s.others + own;
    s.q = s.others / s.sum;
    /* Where the target's class leads, own is 1 and a small c keeps its digits. */
    s.c = (s.max - z[target]) +
          FN(log1p)(own == (real)1 ? s.others : (s.others - (real)1) + own);
    return s;
}

/* dz = a * (p - onehot). */
FBP_INLINE void FN(softmax_gradient)(int64_t k, int64_t ld, const real *z, int32_t target,
                                     const FN(softmax_sample) * s, real a, real *dz)
{
    const real factor = a / s->sum;
    for (int64_t j = 0; j < ld; j += LANES) {
        const int live = FN(live_lanes)(k - j);
        for (int l = 0; l < LANES; l++) {
            const real p = factor * FN(exp)(z[j + l] - s->max);
            dz[j + l] = l < live ? p : (real)0;
        }
    }
    dz[target] = -a * s->q;
}

/* Along tz: dc = sum of p (tz - tz[target]) is the tangent of c, and with the slope a and the
 * curvature b / q of the loss by c, the tangent of dz is
 *     b dc / q (p - onehot) + a p (tz - tz[target] - dc). */
FBP_INLINE real FN(softmax_tangent)(int64_t k, const real *z, const real *tz, int32_t target,
                                    const FN(softmax_sample) * s)
{
    real lanes[LANES] = {(real)0};
    for (int64_t j = 0; j < k; j += LANES) {
        const int live = FN(live_lanes)(k - j);
        for (int l = 0; l < LANES; l++) {
            const real e = FN(exp)(z[j + l] - s->max) * (tz[j + l] - tz[target]);
            lanes[l] += l < live ? e : (real)0;
        }
    }
    return FN(sum_lanes)(lanes) / s->sum;
}

FBP_INLINE void FN(softmax_gradient_tangent)(int64_t k, int64_t ld, const real *z, const real *tz,
                                             int32_t target, const FN(softmax_sample) * s, real dc,
                                             real a, real b, real *tdz)
{
    const real share = s->others > (real)0 ? b * dc / s->others : (real)0; /* b dc / (q sum) */
    const real factor = a / s->sum;
    for (int64_t j = 0; j < ld; j += LANES) {
        const int live = FN(live_lanes)(k - j);
        for (int l = 0; l < LANES; l++) {
            const real e = FN(exp)(z[j + l] - s->max);
            const real d = e * (share + factor * (tz[j + l] - tz[target] - dc));
            tdz[j + l] = l < live ? d : (real)0;
        }
    }
    tdz[target] = -dc * (b + a * ((real)1 - s->q));
}

/* ---- the kernels of each row ---- */

#define ATTR ATTR_CONSTANT
#define LOSS(name, target, link, attributes, flops, doc, value_, slope_, curvature_)               \
    FBP_INLINE void FN(name##_forward_block)(int live, const real *zs, const real *ts, real scale, \
                                             real *value, real *dz, const double *attrs)           \
    {                                                                                              \
        attributes(void) attrs;                                                                    \
        FBP_INDEPENDENT                                                                            \
        for (int l = 0; l < LANES; l++) {                                                          \
            const real z = zs[l], t = ts[l];                                                       \
            const real v = value_, slope = slope_;                                                 \
            value[l] += l < live ? v : (real)0;                                                    \
            dz[l] = l < live ? scale * slope : (real)0;                                            \
        }                                                                                          \
    }                                                                                              \
    FBP_INLINE void FN(name##_tangent_block)(int live, const real *zs, const real *tzs,            \
                                             const real *ts, real scale, real *tvalue, real *tdz,  \
                                             const double *attrs)                                  \
    {                                                                                              \
        attributes(void) attrs;                                                                    \
        FBP_INDEPENDENT                                                                            \
        for (int l = 0; l < LANES; l++) {                                                          \
            const real z = zs[l], t = ts[l];                                                       \
            const real slope = slope_, curvature = curvature_;                                     \
            (void)z, (void)t;                                                                      \
            tvalue[l] += l < live ? slope * tzs[l] : (real)0;                                      \
            tdz[l] = l < live ? scale * curvature * tzs[l] : (real)0;                              \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_forward)(int64_t rows, int64_t k, int64_t ld, const void *z,             \
                                   const void *t, const void *scale, void *value, void *dz,        \
                                   const double *attrs)                                            \
    {                                                                                              \
        FN(forward)(rows, k, ld, z, t, scale, value, dz, attrs, FN(name##_forward_block));         \
    }                                                                                              \
    static void FN(name##_tangent)(int64_t rows, int64_t k, int64_t ld, const void *z,             \
                                   const void *tz, const void *t, const void *scale, void *tvalue, \
                                   void *tdz, const double *attrs)                                 \
    {                                                                                              \
        FN(tangent)(rows, k, ld, z, tz, t, scale, tvalue, tdz, attrs, FN(name##_tangent_block));   \
    }                                                                                              \
    static const fbp_loss_kernels FN(name##_kernels) = {FN(name##_forward), FN(name##_tangent),    \
                                                        FN(predict_##link)};

#define SOFTMAX_LOSS(name, attributes, flops, doc, value_, slope_, curvature_)                     \
    static void FN(name##_forward)(int64_t rows, int64_t k, int64_t ld, const void *z_in,          \
                                   const void *targets, const void *scale, void *value, void *dz,  \
                                   const double *attrs)                                            \
    {                                                                                              \
        attributes(void) attrs;                                                                    \
        for (int64_t i = 0; i < rows; i++) {                                                       \
            const real *const z = (const real *)z_in + i * ld;                                     \
            const int32_t target = ((const int32_t *)targets)[i];                                  \
            const FN(softmax_sample) s = FN(measure)(k, z, target);                                \
            const real c = s.c, q = s.q, r = scale ? ((const real *)scale)[i] : (real)1;           \
            (void)q;                                                                               \
            ((real *)value)[i] = value_;                                                           \
            if (dz)                                                                                \
                FN(softmax_gradient)(k, ld, z, target, &s, r *(slope_), (real *)dz + i * ld);      \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_tangent)(int64_t rows, int64_t k, int64_t ld, const void *z_in,          \
                                   const void *tz_in, const void *targets, const void *scale,      \
                                   void *tvalue, void *tdz, const double *attrs)                   \
    {                                                                                              \
        attributes(void) attrs;                                                                    \
        for (int64_t i = 0; i < rows; i++) {                                                       \
            const real *const z = (const real *)z_in + i * ld;                                     \
            const real *const tz = (const real *)tz_in + i * ld;                                   \
            const int32_t target = ((const int32_t *)targets)[i];                                  \
            const FN(softmax_sample) s = FN(measure)(k, z, target);                                \
            const real c = s.c, q = s.q, r = scale ? ((const real *)scale)[i] : (real)1;           \
            (void)q, (void)c;                                                                      \
            const real dc = FN(softmax_tangent)(k, z, tz, target, &s);                             \
            if (tvalue)                                                                            \
                ((real *)tvalue)[i] = dc * (slope_);                                               \
            if (tdz)                                                                               \
                FN(softmax_gradient_tangent)                                                       \
                (k, ld, z, tz, target, &s, dc, r *(slope_), r *(curvature_),                       \
                 (real *)tdz + i * ld);                                                            \
        }                                                                                          \
    }                                                                                              \
    static const fbp_loss_kernels FN(name##_kernels) = {FN(name##_forward), FN(name##_tangent),    \
                                                        FN(predict_softmax)};

#include "math/losses.h"
#undef SOFTMAX_LOSS
#undef LOSS
#undef ATTR
#undef LANES

#endif
