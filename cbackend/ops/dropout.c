/* Dropout: random masks over elements, in training alone. A mask is a function of the node's draws
 * and of an element's place in the batch (math/rng.h), so backward forms it again and nothing is
 * stored; what is done to an element is in math/masks.h.
 *
 * The file includes itself, once for each dtype. */
#ifndef real

#include <string.h>

#include "core/node.h"
#include "math/attributes.h"
#include "math/masks.h"
#include "math/rng.h"

enum { P };     /* attributes */
enum { ALPHA }; /* in geometry: whether it is alpha_dropout */

/* In units of the other rows' FLOPs: ten rounds of integers for each four elements. */
static const double flops_of_a_draw = 20.0;

static fbp_masking masking_of(const fbp_node *node) {
    const double p = fbp_number(node, P, 0);
    return node->geometry[ALPHA] ? fbp_alpha_dropout_masking(p) : fbp_dropout_masking(p);
}

#define FBP_TEMPLATE "math/masks.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/dropout.c"
#include "math/expand.h"

static const char *const inputs[] = {"x"};

static fbp_status infer_dropout(fbp_node *node) {
    fbp_like_first(node);
    node->in_place = 1;
    node->flops[0] = node->flops[1] = flops_of_a_draw * (double)fbp_elements(&node->in[0]);
    return FBP_OK;
}

static fbp_status infer_alpha_dropout(fbp_node *node) {
    node->geometry[ALPHA] = 1;
    return infer_dropout(node);
}

#define DROPOUT_ROW(name_, doc_)                                                                   \
    {.name = #name_,                                                                               \
     .doc = doc_,                                                                                  \
     .kind = FBP_OP,                                                                               \
     .n_attrs = 1,                                                                                 \
     .attrs = {ATTR_ENTRY(p, 0.5, FROM(0), BELOW(1), "probability of being dropped")},             \
     .op = {1, 1, inputs, FBP_AXIS_DATA, .data = 1u, .random = 1},                                 \
     .infer = infer_##name_,                                                                       \
     .node = {&kernels_f32, &kernels_f64}},

static const fbp_row rows[] = {
    DROPOUT_ROW(dropout, "0 with probability p, else x / (1 - p); in training (Srivastava et al., "
                         "2014)")
        DROPOUT_ROW(alpha_dropout, "selu's limit with probability p, else x, scaled and shifted to "
                                   "mean 0 and variance 1; in training (Klambauer et al., 2017)")};

extern const fbp_family FBP_FAMILY(dropout);
const fbp_family FBP_FAMILY(dropout) = {rows, sizeof rows / sizeof rows[0]};

#else

/* Draws are made for 64 positions at once: those last made, for what comes after them. */
typedef struct {
    const fbp_call *call;
    uint64_t position, group; /* of the next element; of the draws */
    uint32_t draws[FBP_MASK_DRAWS];
    uint32_t threshold;
    real scale, shift, dropped;
} FN(masker);

FBP_INLINE void FN(mask_some)(const FN(masker) * m, const uint32_t *draws, int64_t n, const real *x,
                              real *y) {
    const uint32_t threshold = m->threshold;
    const real scale = m->scale, shift = m->shift, dropped = m->dropped;
    FBP_INDEPENDENT
    for (int64_t i = 0; i < n; i++)
        y[i] = FN(masked)(draws[i], threshold, x[i], scale, shift, dropped);
}

static void FN(mask_row)(FN(masker) * m, int64_t n, const real *x, real *y) {
    const fbp_draws *draws = &m->call->at.draws;
    for (int64_t done = 0, some; done < n; done += some, m->position += (uint64_t)some) {
        const uint64_t group = m->position / FBP_MASK_DRAWS;
        const int64_t begin = (int64_t)(m->position % FBP_MASK_DRAWS);
        if (group != m->group) {
            fbp_mask_draws(draws->seed, draws->step, draws->stream, group, m->draws);
            m->group = group;
        }
        some = FBP_MASK_DRAWS - begin < n - done ? FBP_MASK_DRAWS - begin : n - done;
        if (some == FBP_MASK_DRAWS) /* known to the compiler, which then makes vectors alone */
            FN(mask_some)(m, m->draws, FBP_MASK_DRAWS, x + done, y + done);
        else
            FN(mask_some)(m, m->draws + begin, some, x + done, y + done);
    }
}

/* y = the masked x, or x itself where nothing is dropped. */
static void FN(mask)(const fbp_node *node, const fbp_call *call, fbp_masking masking,
                     const fbp_operand *from, const void *x_, const fbp_operand *to, void *y_) {
    const real *x = x_;
    real *y = y_;
    int64_t width = fbp_width(from), rows = fbp_rows_of(from, call->at.samples);
    int64_t first = from->is.batched ? call->at.draws.first * fbp_elements(from) : 0;
    FN(masker)
    m = {.call = call,
         .position = (uint64_t)first,
         .group = UINT64_MAX,
         .threshold = masking.threshold,
         .scale = (real)masking.scale,
         .shift = (real)masking.shift,
         .dropped = (real)masking.dropped};
    int identity = !call->at.training || fbp_number(node, P, 0) == 0.0;
    if (rows > 0 && from->row_stride == width && to->row_stride == width) width *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++) {
        if (!identity)
            FN(mask_row)(&m, width, x + r * from->row_stride, y + r * to->row_stride);
        else if (x != y)
            memcpy(y + r * to->row_stride, x + r * from->row_stride, (size_t)width * sizeof(real));
    }
}

static void FN(forward)(const fbp_node *node, const fbp_call *call) {
    FN(mask)(node, call, masking_of(node), &node->in[0], call->at.x[0], &node->out[0],
             call->at.y[0]);
}

/* dx = scale dy where x was kept, exactly 0 where it was dropped. So are tangents along tx, and
 * those of gradients, which read nothing, along tdy. */

static void FN(backward)(const fbp_node *node, const fbp_call *call) {
    if (call->at.dx[0] == NULL) return;
    FN(mask)(node, call, fbp_masking_slope(masking_of(node)), &node->out[0], call->at.dy[0],
             &node->in[0], call->at.dx[0]);
}

static void FN(tangent)(const fbp_node *node, const fbp_call *call) {
    FN(mask)(node, call, fbp_masking_slope(masking_of(node)), &node->in[0], call->at.tx[0],
             &node->out[0], call->at.ty[0]);
}

static void FN(backward_tangent)(const fbp_node *node, const fbp_call *call) {
    if (call->at.tdx[0] == NULL) return;
    FN(mask)(node, call, fbp_masking_slope(masking_of(node)), &node->out[0], call->at.tdy[0],
             &node->in[0], call->at.tdx[0]);
}

static const fbp_node_kernels FN(kernels) = {.forward = FN(forward),
                                             .backward = FN(backward),
                                             .tangent = FN(tangent),
                                             .backward_tangent = FN(backward_tangent)};

#endif
