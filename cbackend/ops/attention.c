/* The family of attention: scaled dot-product attention with several heads (Vaswani et al.,
 * Attention is all you need, 2017), of q, k and v apart or side by side in one input. Here are its
 * rows and the sizes of its blocks; its kernels are in attention_kernels.h and, as tangents, in
 * attention_tangent.h. Projections and positional encodings are other ops' business.
 *
 * Scores are worked on in blocks of FEW by MANY that stay in cache and are never kept: backward
 * forms them again, from the log of each query's sum of exponentials (Rabe and Staats,
 * Self-attention does not need O(n^2) memory, 2021; Dao et al., FlashAttention, 2022). So memory
 * grows with the length, not with its square. Blocks begin at multiples of their size, and each sum
 * over keys or queries runs through them in order: which bits a sample gets is decided by its own
 * shapes alone. */
#include <math.h>
#include <string.h>

#include "core/node.h"
#include "math/scalar.h"

/* Blocks are of MANY keys by FEW queries in forward and of MANY queries by FEW keys in backward:
 * what there are FEW of lies along a row and fills the lanes. FEW is a multiple of a cache line's
 * elements, MANY of FEW. With fewer than 32 the products slow down; with more a causal mask wastes
 * more: of length 128, 16 and 64 took 2 and 17 % longer. */
enum { FEW = 32, MANY = 128 };

enum { HEADS, CAUSAL, SCALE }; /* attributes */

typedef struct {
    int64_t heads, width; /* of a head */
    int64_t ld;           /* the width in whole cache lines: of copies */
    int64_t queries, keys;
    int causal;
    int packed; /* q, k and v side by side in one input */
    double scale;
} layout;

static layout layout_of(const fbp_node *node) {
    layout of = {.heads = fbp_whole(node, HEADS, 0), .packed = node->n_in < 3};
    of.width = fbp_width(&node->out[0]) / of.heads;
    of.ld = fbp_round_up(of.width, fbp_pad(node->dtype));
    of.queries = fbp_positions(&node->in[0]);
    of.keys = of.packed ? of.queries : fbp_positions(&node->in[1]);
    of.causal = fbp_number(node, CAUSAL, 0) != 0.0;
    of.scale = fbp_number(node, SCALE, 0);
    if (of.scale == 0.0) of.scale = 1.0 / sqrt((double)of.width);
    return of;
}

/* One head of one sample. */
typedef struct {
    int64_t sample, head;
} place;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

typedef void on_head(const fbp_node *node, const fbp_call *call, place at);

static void each_head(const fbp_node *node, const fbp_call *call, on_head *run) {
    int64_t samples = node->out[0].is.batched ? call->at.samples : 1;
    int64_t heads = fbp_whole(node, HEADS, 0);
    for (place at = {0, 0}; at.sample < samples; at.sample++)
        for (at.head = 0; at.head < heads; at.head++) run(node, call, at);
}

/* For the tangent of backward, which takes most: q, dy and y of MANY queries with their tangents, k
 * and v of FEW keys with theirs, and the scores and their gradients with theirs. */
static size_t scratch_bytes(const fbp_node *node, int64_t samples) {
    (void)samples; /* one after the other */
    int64_t ld = layout_of(node).ld;
    int64_t n = 3 * MANY * 2 * ld + 2 * FEW * 2 * ld + 2 * MANY * 2 * FEW + fbp_pad(node->dtype);
    return (size_t)n * fbp_size(node->dtype);
}

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/attention_blocks.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/attention_kernels.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/attention_tangent.h"
#include "math/expand.h"

/* ---- the rows ---- */

static const char *const inputs[] = {"q", "k", "v", "mask"};
static const char *const packed_inputs[] = {"qkv", "mask"};

/* Pairs of a query and a key that it attends to, masks aside. */
static double pairs(const layout *of) {
    double q = (double)of->queries, k = (double)of->keys;
    if (!of->causal) return q * k;
    return k >= q ? q * (q + 1.0) / 2.0 : k * (k + 1.0) / 2.0 + (q - k) * k;
}

static int is_sequence(const fbp_shape *x) {
    return x->ndim == 2 && x->content == FBP_REAL && x->shape[0] > 0 && x->shape[1] > 0;
}

/* What both rows settle, for results (queries, width). */
static fbp_status settle(fbp_node *node, int64_t queries, int64_t keys, int64_t width, int masked) {
    const fbp_row *row = node->row;
    int64_t heads = fbp_whole(node, HEADS, 0);
    if (width % heads != 0)
        return fbp_fail(FBP_INVALID, "heads of %s: found %lld, wanted a divisor of the width %lld",
                        row->name, (long long)heads, (long long)width);
    const fbp_shape *mask = &node->in[node->n_in - 1].is;
    if (masked && (mask->ndim != 1 || mask->shape[0] != keys || mask->content != FBP_REAL))
        return fbp_fail(FBP_INVALID,
                        "%s: found a mask of %s of shape %s, wanted reals, 0 or 1 for each of the "
                        "%lld keys",
                        row->name, mask->content == FBP_INDEX ? "integers" : "reals",
                        fbp_shape_words(mask), (long long)keys);
    fbp_like_first(node);
    node->out[0].is.shape[1] = width;
    node->n_kept = 1; /* the log of each query's sum of exponentials, -inf where it has no key */
    node->out[1].is = node->out[0].is;
    node->out[1].is.shape[0] = heads;
    node->out[1].is.shape[1] = queries;
    if (masked) node->differentiable &= ~(1u << (node->n_in - 1));
    node->reads_in = (1u << node->n_in) - 1u;
    node->reads_out = 3u;
    const double of_softmax = 20.0; /* FLOPs of a score's exponential and of what goes with it */
    layout of = layout_of(node);
    double each = (double)heads * pairs(&of);
    node->flops[0] = each * (2.0 * 2.0 * (double)of.width + of_softmax);
    node->flops[1] = each * (5.0 * 2.0 * (double)of.width + of_softmax);
    return FBP_OK;
}

static fbp_status infer(fbp_node *node) {
    const fbp_shape *q = &node->in[0].is, *k = &node->in[1].is, *v = &node->in[2].is;
    if (!is_sequence(q) || !is_sequence(k) || !is_sequence(v) || k->shape[1] != q->shape[1] ||
        v->shape[0] != k->shape[0] || v->shape[1] != k->shape[1])
        return fbp_fail(FBP_INVALID,
                        "attention: found q of shape %s, k of shape %s and v of shape %s, wanted "
                        "reals (queries, width), (keys, width) and (keys, width)",
                        fbp_shape_words(q), fbp_shape_words(k), fbp_shape_words(v));
    return settle(node, q->shape[0], k->shape[0], q->shape[1], node->n_in == 4);
}

static fbp_status infer_packed(fbp_node *node) {
    const fbp_shape *x = &node->in[0].is;
    if (!is_sequence(x) || x->shape[1] % 3 != 0)
        return fbp_fail(FBP_INVALID,
                        "self_attention: found qkv of shape %s, wanted reals (positions, 3 times "
                        "the width)",
                        fbp_shape_words(x));
    return settle(node, x->shape[0], x->shape[0], x->shape[1] / 3, node->n_in == 2);
}

#define ATTRIBUTES                                                                                 \
    {                                                                                              \
        {.name = "heads",                                                                          \
         .fallback = 1,                                                                            \
         .low = 1,                                                                                 \
         .high = INFINITY,                                                                         \
         .high_open = 1,                                                                           \
         .whole = 1,                                                                               \
         .doc = "number of heads, a divisor of the width"},                                        \
        {.name = "causal",                                                                         \
         .low = 0,                                                                                 \
         .high = 1,                                                                                \
         .whole = 1,                                                                               \
         .doc = "1: position i attends to keys 0 to i"},                                           \
        {.name = "scale",                                                                          \
         .low = 0,                                                                                 \
         .high = INFINITY,                                                                         \
         .high_open = 1,                                                                           \
         .doc = "factor of the scores; 0: 1 / sqrt(width of a head)"},                             \
    }

static const fbp_row rows[] = {
    {.name = "attention",
     .doc = "softmax(scale q k^T) v for each head, over the keys whose mask is not 0; a query "
            "without any key gives zeros",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .n_attrs = 3,
     .attrs = ATTRIBUTES,
     .op = {3, 4, inputs, FBP_AXIS_DATA, .data = 15u},
     .infer = infer,
     .node = {&kernels_f32, &kernels_f64}},
    {.name = "self_attention",
     .doc = "attention of q, k and v that lie side by side in one input",
     .kind = FBP_OP,
     .reads = FBP_READS_INPUT,
     .n_attrs = 3,
     .attrs = ATTRIBUTES,
     .op = {1, 2, packed_inputs, FBP_AXIS_DATA, .data = 3u},
     .infer = infer_packed,
     .node = {&kernels_f32, &kernels_f64}},
};

extern const fbp_family FBP_FAMILY(attention);
const fbp_family FBP_FAMILY(attention) = {rows, sizeof rows / sizeof rows[0]};
