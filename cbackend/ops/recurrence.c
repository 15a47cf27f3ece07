/* Recurrent layers: rows that scan over the steps of a sequence, given the input's share of the
 * pre-activations, p, which is one product for all steps and the concern of `linear`. This file
 * says what operands they take and what they keep; what a unit computes stands in math/cells.h, the
 * loops over units in recurrence_units.h, those over steps in recurrence_scan.h and
 * recurrence_tangent.h.
 *
 * States begin at 0. Initial ones would be further inputs behind the mask, which is data as they
 * are; an optional input that is absent before one that is there is given as an empty array. */
#include <math.h>
#include <string.h>

#include "core/node.h"
#include "math/scalar.h"

/* What differs between the rows besides the units. Counts of blocks: in p, in what is kept for
 * backward, and in the gradients that recurrence_units.h makes. Indices of inputs: 0 for none.
 * FLOPs for each unit and step besides the products, of forward and of backward. */
typedef struct {
    int blocks, kept, slopes;
    int bias, mask;
    double flops[2];
} cell;

enum { RNN, LSTM, GRU };
static const cell cells[] = {
    [RNN] = {.blocks = 1, .kept = 0, .slopes = 1, .mask = 2, .flops = {23, 5}},
    [LSTM] = {.blocks = 4, .kept = 5, .slopes = 4, .mask = 2, .flops = {112, 48}},
    [GRU] = {.blocks = 3, .kept = 4, .slopes = 4, .bias = 2, .mask = 3, .flops = {72, 20}},
};

/* Of a node's geometry; its attributes: the last is `reverse`, and the rnn's first this. */
enum { CELL = 0 };
enum { NONLINEARITY = 0 };

/* A scan and its sizes. n is the number of units, filled up to whole cache lines. */
typedef struct {
    const fbp_node *node;
    const fbp_call *call;
    const cell *is;
    int64_t samples, steps, units, n;
    int reverse, relu;
} scan;

static int has(const fbp_node *node, int input) {
    return input > 0 && input < node->n_in && fbp_elements(&node->in[input]) > 0;
}

static scan scan_of(const fbp_node *node, const fbp_call *call) {
    const fbp_operand *p = &node->in[0];
    scan s = {.node = node, .call = call, .is = &cells[node->geometry[CELL]]};
    s.samples = call->at.samples;
    s.steps = fbp_positions(p);
    s.units = fbp_width(p) / s.is->blocks;
    s.n = fbp_round_up(s.units, fbp_pad(node->dtype));
    s.reverse = fbp_whole(node, node->row->n_attrs - 1, 0) == 1;
    s.relu = s.is == &cells[RNN] && fbp_whole(node, NONLINEARITY, 0) == 1;
    return s;
}

/* ---- what infer settles ---- */

static fbp_status check_weights(const fbp_node *node, const cell *is) {
    const fbp_shape *p = &node->in[0].is, *w = &node->in[1].is;
    int64_t units = w->ndim == 2 ? w->shape[0] : 0;
    int reals = p->content == FBP_REAL && w->content == FBP_REAL;
    if (reals && p->batched && p->ndim == 2 && units >= 1 && !w->batched &&
        p->shape[1] == w->shape[1] && w->shape[1] == is->blocks * units)
        return FBP_OK;
    return fbp_fail(FBP_INVALID,
                    "%s: found p of shape %s and w of shape %s, wanted reals of shapes (steps, %d "
                    "h) for each sample and (h, %d h), h being the units",
                    node->row->name, fbp_shape_words(p), fbp_shape_words(w), is->blocks,
                    is->blocks);
}

static fbp_status check_vector(const fbp_node *node, int input, int batched, int64_t length,
                               int because_of) {
    const fbp_shape *x = &node->in[input].is;
    if (!has(node, input) ||
        (x->content == FBP_REAL && x->batched == batched && x->ndim == 1 && x->shape[0] == length))
        return FBP_OK;
    fbp_shape wanted = {.batched = batched, .ndim = 1, .shape = {length}};
    return fbp_fail(
        FBP_INVALID, "%s: found %s of %s of shape %s, wanted reals of shape %s as %s is %s",
        node->row->name, node->row->op.inputs[input], x->content == FBP_REAL ? "reals" : "integers",
        fbp_shape_words(x), fbp_shape_words(&wanted), node->row->op.inputs[because_of],
        fbp_shape_words(&node->in[because_of].is));
}

static fbp_status infer(fbp_node *node, int which) {
    const cell *is = &cells[which];
    const fbp_shape *p = &node->in[0].is;
    node->geometry[CELL] = which;
    fbp_status status = check_weights(node, is);
    if (status == FBP_OK) status = check_vector(node, is->bias, 0, node->in[1].is.shape[0], 1);
    if (status == FBP_OK) status = check_vector(node, is->mask, 1, p->shape[0], 0);
    if (status != FBP_OK) return status;
    const scan s = scan_of(node, &(fbp_call){.scratch = NULL});
    fbp_like_first(node);
    node->out[0].is.shape[1] = s.units;
    node->n_kept = is->kept > 0;
    node->out[1].is = node->out[0].is;
    node->out[1].is.shape[1] = is->kept * s.n;
    node->differentiable = 3u | (has(node, is->bias) ? 1u << is->bias : 0u);
    node->reads_in = 2u | (has(node, is->mask) ? 1u << is->mask : 0u);
    node->reads_out = is->kept > 0 ? 3u : 1u;
    node->reads_dx = 1u;
    double products = 2.0 * (double)s.units * is->blocks;
    double unit_steps = (double)(s.steps * s.units);
    node->flops[0] = unit_steps * (products + is->flops[0]);
    node->flops[1] = unit_steps * (2.0 * products + is->flops[1]);
    return FBP_OK;
}

static fbp_status rnn_infer(fbp_node *node) { return infer(node, RNN); }
static fbp_status lstm_infer(fbp_node *node) { return infer(node, LSTM); }
static fbp_status gru_infer(fbp_node *node) { return infer(node, GRU); }

/* ---- the kernels ---- */

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/cells.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/recurrence_units.h"
#include "math/expand.h"
#include "ops/recurrence_scan.h"
#define FBP_TEMPLATE "ops/recurrence_scan.h"
#include "math/expand.h"
#define FBP_TEMPLATE "ops/recurrence_tangent.h"
#include "math/expand.h"

#define KERNELS(type)                                                                              \
    {.forward = forward_##type,                                                                    \
     .backward = backward_##type,                                                                  \
     .backward_shared = sum_##type,                                                                \
     .tangent = tangent_##type,                                                                    \
     .backward_tangent = backward_tangent_##type,                                                  \
     .shared_tangent = sum_tangent_##type,                                                         \
     .scratch_bytes = scratch_bytes}
static const fbp_node_kernels f32 = KERNELS(f32), f64 = KERNELS(f64);

/* ---- the table ---- */

static const char *const plain_inputs[] = {"p", "w", "mask"};
static const char *const gru_inputs[] = {"p", "w", "bn", "mask"};

#define REVERSE                                                                                    \
    {.name = "reverse", .high = 1, .whole = 1, .doc = "1: from the last step to the first"}
/* A step is a product with a row for each sample: whole blocks of the micro-kernel. (LSTM of 64
 * units and 64 steps: of 6, 8, 16 and 32 samples a step of training took 4.4, 2.9, 3.0 and 3.4 ms;
 * with more, what a tile keeps leaves the second cache.) */
#define SCAN(name_)                                                                                \
    .name = #name_, .kind = FBP_OP, .infer = name_##_infer, .node = {&f32, &f64}, .divisible = 1,  \
    .padded = 1u, .least_samples = 8

static const fbp_row rows[] = {
    {SCAN(rnn),
     .doc = "h = f(p + h w) from step to step: p (steps, h), w (h, h), mask (steps), 0 where the "
            "state stays",
     .n_attrs = 2,
     .attrs = {{.name = "nonlinearity", .high = 1, .whole = 1, .doc = "f: 0 tanh, 1 relu"},
               REVERSE},
     .op = {2, 3, plain_inputs, FBP_AXIS_DATA, .data = 5u}},
    {SCAN(lstm),
     .doc =
         "the LSTM's h from step to step: p (steps, 4 h) and w (h, 4 h) of the gates i, f, g, o, "
         "mask (steps), 0 where the state stays",
     .n_attrs = 1, .attrs = {REVERSE}, .op = {2, 3, plain_inputs, FBP_AXIS_DATA, .data = 5u}},
    {SCAN(gru),
     .doc = "the GRU's h from step to step: p (steps, 3 h) and w (h, 3 h) of the gates r, z, n, bn "
            "(h) or (0) added to h w of n, mask (steps), 0 where the state stays",
     .n_attrs = 1, .attrs = {REVERSE}, .op = {2, 4, gru_inputs, FBP_AXIS_DATA, .data = 9u}},
};

extern const fbp_family FBP_FAMILY(recurrence);
const fbp_family FBP_FAMILY(recurrence) = {rows, 3};
