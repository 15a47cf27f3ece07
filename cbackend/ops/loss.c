/* The family of losses: the formulas of math/losses.h as kernels for float and double, and their
 * rows of the table. It holds the loops over samples and outputs and no formula, except that of
 * softmax, which is one over a row.
 *
 * Raw outputs are worked on in blocks of 64 bytes, the unit of their leading dimension: a block is
 * whole vectors on every instruction set. The order of a sum over outputs depends on their number
 * alone. So a sample's loss has the same bits in any batch, and on v3 and v4. The loops of losses
 * on softmax are in softmax_loss.h. */
#ifndef real

#include <math.h>

#include "core/loss_node.h"
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
     .kernels = {&name_##_kernels_f32, &name_##_kernels_f64},                                      \
     FBP_LOSS_NODE(FBP_TARGET_##target_)},
#define ATTR ATTR_ENTRY
#define LOSS(name, target, link, attributes, flops, doc, value, slope, curvature)                  \
    LOSS_ROW(name, target, link, flops, doc, ATTR_COUNT(attributes), ENTRIES_##attributes)
#define SOFTMAX_LOSS(name, attributes, flops, doc, value, slope, even, curvature)                  \
    LOSS_ROW(name, CLASS, softmax, flops, doc, ATTR_COUNT(attributes), ENTRIES_##attributes)

static const fbp_row rows[] = {
#include "math/losses.h"
};

const fbp_family FBP_FAMILY(loss) = {rows, sizeof rows / sizeof rows[0]};

#else

#define LANES (64 / (int)sizeof(real)) /* of a block; the unit of a leading dimension */
#define CHUNK 256                      /* outputs worked on at once, a multiple of LANES */
#define GROUP 16                       /* samples whose softmax is worked on at once */

/* The sum over a block, as a tree. */
FBP_INLINE real FN(sum_lanes)(const real *x) {
    real a[LANES / 2], b[LANES / 4], c[LANES / 8];
    FBP_LANEWISE
    for (int l = 0; l < LANES / 2; l++) a[l] = x[l] + x[l + LANES / 2];
    FBP_LANEWISE
    for (int l = 0; l < LANES / 4; l++) b[l] = a[l] + a[l + LANES / 4];
    FBP_LANEWISE
    for (int l = 0; l < LANES / 8; l++) c[l] = b[l] + b[l + LANES / 8];
    return LANES == 16 ? c[0] + c[LANES / 8 - 1] : c[0];
}

FBP_INLINE real FN(max_lanes)(const real *x) {
    real a[LANES / 2], b[LANES / 4], c[LANES / 8];
    FBP_LANEWISE
    for (int l = 0; l < LANES / 2; l++) a[l] = x[l] > x[l + LANES / 2] ? x[l] : x[l + LANES / 2];
    FBP_LANEWISE
    for (int l = 0; l < LANES / 4; l++) b[l] = a[l] > a[l + LANES / 4] ? a[l] : a[l + LANES / 4];
    FBP_LANEWISE
    for (int l = 0; l < LANES / 8; l++) c[l] = b[l] > b[l + LANES / 8] ? b[l] : b[l + LANES / 8];
    return c[0] > c[LANES / 8 - 1] ? c[0] : c[LANES / 8 - 1];
}

/* How many lanes of a block are outputs, when `left` outputs are left. */
FBP_INLINE int FN(live_lanes)(int64_t left) { return left < LANES ? (int)left : LANES; }

/* ---- losses that are a sum over outputs ---- */

/* Rows in a chunk lie one after another without padding, so that one output or ten waste no lanes.
 * Reading and writing go by whole blocks and may overrun a chunk by less than one. */
typedef struct {
    real z[CHUNK + LANES], tz[CHUNK + LANES], t[CHUNK + LANES];
    real value[CHUNK + LANES], dz[CHUNK + LANES];
} FN(chunk);

/* The formulas over n elements of a chunk, n a multiple of LANES: value and its derivative by z, or
 * the tangents of both along tz. */
typedef void FN(chunk_function)(int64_t n, FN(chunk) * chunk, const double *attrs);

/* Copies of whole blocks, of which the last overruns its row: blocks go from the last to the first,
 * so that what is overrun is written afterwards. */
FBP_INLINE void FN(pack)(int64_t rows, int64_t width, int64_t ld, const real *z, real *packed) {
    for (int64_t j = (width - 1) / LANES * LANES; j >= 0; j -= LANES)
        for (int64_t i = 0; i < rows; i++)
            memcpy(packed + i * width + j, z + i * ld + j, LANES * sizeof(real));
}

/* x (rows, end) = scale times the packed rows, then zeros. */
FBP_INLINE void FN(unpack)(int64_t rows, int64_t width, const real *packed, const real *scale,
                           int64_t end, int64_t ld, real *x) {
    for (int64_t j = 0; j < width; j += LANES)
        for (int64_t i = 0; i < rows; i++) {
            const int live = FN(live_lanes)(width - j);
            const real s = scale ? scale[i] : (real)1;
            FBP_LANEWISE
            for (int l = 0; l < LANES; l++)
                x[i * ld + j + l] = l < live ? s * packed[i * width + j + l] : (real)0;
        }
    for (int64_t j = (width + LANES - 1) / LANES * LANES; j < end; j += LANES)
        for (int64_t i = 0; i < rows; i++) memset(x + i * ld + j, 0, LANES * sizeof(real));
}

/* The sum over a sample's outputs: one chain for a few, LANES chains and then a tree for more. */
FBP_INLINE real FN(sum_row)(int64_t width, const real *x) {
    real sum = (real)0, lanes[LANES] = {(real)0};
    if (width < LANES) {
        for (int64_t j = 0; j < width; j++) sum += x[j];
        return sum;
    }
    for (int64_t j = 0; j < width; j += LANES) {
        const int live = FN(live_lanes)(width - j);
        FBP_LANEWISE
        for (int l = 0; l < LANES; l++) lanes[l] += l < live ? x[j + l] : (real)0;
    }
    return FN(sum_lanes)(lanes);
}

static void FN(sum_over_outputs)(int64_t rows, int64_t k, int64_t ld, const real *z, const real *tz,
                                 const real *t, const real *scale, real *value, real *dz,
                                 const double *attrs, FN(chunk_function) * function) {
    FN(chunk) chunk;
    const int64_t most = k < CHUNK ? CHUNK / k : 1;
    for (int64_t i = 0; i < rows; i += most)
        for (int64_t j = 0; j < k; j += CHUNK) {
            const int64_t count = rows - i < most ? rows - i : most;
            const int64_t width = k - j < CHUNK ? k - j : CHUNK, n = count * width;
            FN(pack)(count, width, ld, z + i * ld + j, chunk.z);
            if (tz) FN(pack)(count, width, ld, tz + i * ld + j, chunk.tz);
            memcpy(chunk.t, t + i * k + j, (size_t)n * sizeof(real));
            memset(chunk.t + n, 0, LANES * sizeof(real));
            function((n + LANES - 1) / LANES * LANES, &chunk, attrs);
            for (int64_t r = 0; value && r < count; r++) {
                const real sum = FN(sum_row)(width, chunk.value + r * width);
                value[i + r] = j == 0 ? sum : value[i + r] + sum;
            }
            if (dz)
                FN(unpack)(count, width, chunk.dz, scale ? scale + i : NULL,
                           j + width == k ? ld - j : width, ld, dz + i * ld + j);
        }
}

#include "ops/softmax_loss.h"

/* ---- the links ---- */

/* p (rows, k) = the packed rows. */
FBP_INLINE void FN(store)(int64_t rows, int64_t width, const real *packed, int64_t ldp, real *p) {
    if (ldp == width)
        memcpy(p, packed, (size_t)(rows * width) * sizeof(real));
    else
        for (int64_t i = 0; i < rows; i++)
            memcpy(p + i * ldp, packed + i * width, (size_t)width * sizeof(real));
}

#define LINK(name, formula)                                                                        \
    static void FN(predict_##name)(int64_t rows, int64_t k, int64_t ld, const void *z_in,          \
                                   int64_t ldp, void *p_out) {                                     \
        real packed[CHUNK + LANES];                                                                \
        const int64_t most = k < CHUNK ? CHUNK / k : 1;                                            \
        for (int64_t i = 0; i < rows; i += most)                                                   \
            for (int64_t j = 0; j < k; j += CHUNK) {                                               \
                const int64_t count = rows - i < most ? rows - i : most;                           \
                const int64_t width = k - j < CHUNK ? k - j : CHUNK;                               \
                FN(pack)(count, width, ld, (const real *)z_in + i * ld + j, packed);               \
                for (int64_t e = 0; e < (count * width + LANES - 1) / LANES * LANES; e++) {        \
                    const real z = packed[e];                                                      \
                    packed[e] = formula;                                                           \
                }                                                                                  \
                FN(store)(count, width, packed, ldp, (real *)p_out + i * ldp + j);                 \
            }                                                                                      \
    }
LINK(identity, z)
LINK(logistic, FN(logistic)(z))
LINK(exp, FN(exp)(z))
#undef LINK

static void FN(predict_softmax)(int64_t rows, int64_t k, int64_t ld, const void *z_in, int64_t ldp,
                                void *p_out) {
    real packed[CHUNK + LANES], max = (real)0, sum = (real)0;
    const int64_t most = k < CHUNK ? CHUNK / k : 1;
    for (int64_t i = 0; i < rows; i += most)
        for (int64_t j = 0; j < k; j += CHUNK) {
            const int64_t count = rows - i < most ? rows - i : most;
            const int64_t width = k - j < CHUNK ? k - j : CHUNK;
            for (int64_t r = 0; r < count; r++) {
                const real *const z = (const real *)z_in + (i + r) * ld;
                if (j == 0) { /* a row in several chunks is alone in each of them */
                    max = FN(max_row)(k, z);
                    sum = FN(exp_row)(k, z, max, -1, NULL);
                }
                for (int64_t c = 0; c < width; c += LANES) {
                    FBP_LANEWISE
                    for (int l = 0; l < LANES; l++)
                        packed[r * width + c + l] = FN(exp)(z[j + c + l] - max) / sum;
                }
            }
            FN(store)(count, width, packed, ldp, (real *)p_out + i * ldp + j);
        }
}

/* ---- the kernels of each row ---- */

#define ATTR ATTR_CONSTANT
#define LOSS(name, target, link, attributes, flops, doc, value_, slope_, curvature_)               \
    static void FN(name##_forward_chunk)(int64_t n, FN(chunk) * chunk, const double *attrs) {      \
        attributes;                                                                                \
        (void)attrs;                                                                               \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real z = chunk->z[i], t = chunk->t[i];                                           \
            chunk->value[i] = value_;                                                              \
            chunk->dz[i] = slope_;                                                                 \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_tangent_chunk)(int64_t n, FN(chunk) * chunk, const double *attrs) {      \
        attributes;                                                                                \
        (void)attrs;                                                                               \
        FBP_INDEPENDENT                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const real z = chunk->z[i], t = chunk->t[i], tz = chunk->tz[i];                        \
            (void)z, (void)t;                                                                      \
            chunk->value[i] = tz * (slope_);                                                       \
            chunk->dz[i] = tz * (curvature_);                                                      \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_forward)(int64_t rows, int64_t k, int64_t ld, const void *z,             \
                                   const void *t, const void *scale, void *value, void *dz,        \
                                   const double *attrs) {                                          \
        FN(sum_over_outputs)(rows, k, ld, z, NULL, t, scale, value, dz, attrs,                     \
                             FN(name##_forward_chunk));                                            \
    }                                                                                              \
    static void FN(name##_tangent)(int64_t rows, int64_t k, int64_t ld, const void *z,             \
                                   const void *tz, const void *t, const void *scale, void *tvalue, \
                                   void *tdz, const double *attrs) {                               \
        FN(sum_over_outputs)(rows, k, ld, z, tz, t, scale, tvalue, tdz, attrs,                     \
                             FN(name##_tangent_chunk));                                            \
    }                                                                                              \
    static const fbp_loss_kernels FN(name##_kernels) = {FN(name##_forward), FN(name##_tangent),    \
                                                        FN(predict_##link)};

#define SOFTMAX_LOSS(name, attributes, flops, doc, value_, slope_, even_, curvature_)              \
    static real FN(name##_even)(const double *attrs) {                                             \
        attributes;                                                                                \
        (void)attrs;                                                                               \
        return even_;                                                                              \
    }                                                                                              \
    static void FN(name##_group)(FN(group) * g, const double *attrs) {                             \
        attributes;                                                                                \
        (void)attrs;                                                                               \
        FBP_LANEWISE                                                                               \
        for (int r = 0; r < GROUP; r++) {                                                          \
            const real c = g->c[r], q = g->q[r], lead = g->lead[r];                                \
            (void)q, (void)lead;                                                                   \
            g->value[r] = value_;                                                                  \
            g->slope[r] = slope_;                                                                  \
            g->curvature[r] = curvature_;                                                          \
        }                                                                                          \
    }                                                                                              \
    static void FN(name##_forward)(int64_t rows, int64_t k, int64_t ld, const void *z,             \
                                   const void *t, const void *scale, void *value, void *dz,        \
                                   const double *attrs) {                                          \
        FN(softmax_forward)(rows, k, ld, z, t, scale, value, dz, attrs, FN(name##_group),          \
                            FN(name##_even)(attrs));                                               \
    }                                                                                              \
    static void FN(name##_tangent)(int64_t rows, int64_t k, int64_t ld, const void *z,             \
                                   const void *tz, const void *t, const void *scale, void *tvalue, \
                                   void *tdz, const double *attrs) {                               \
        FN(softmax_tangent)(rows, k, ld, z, tz, t, scale, tvalue, tdz, attrs, FN(name##_group),    \
                            FN(name##_even)(attrs));                                               \
    }                                                                                              \
    static const fbp_loss_kernels FN(name##_kernels) = {FN(name##_forward), FN(name##_tangent),    \
                                                        FN(predict_softmax)};

#include "math/losses.h"
#undef SOFTMAX_LOSS
#undef LOSS
#undef ATTR
#undef LANES
#undef CHUNK
#undef GROUP

#endif
