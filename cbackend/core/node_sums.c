/* What a node's functions leave to the mechanism: the blocks in which it adds up over samples, and
 * the tangents of rows that are linear or bilinear. No loop over elements is here. */
#include "core/node_run.h"

/* ---- the order of a sum over samples ---- */

/* A shared gradient of few elements, over many rows, is formed in blocks of samples: for more
 * threads than it has tiles. A block of fewer rows would cost more to add up than it saves. */
enum { elements_in_blocks = 65536, least_block_rows = 256 };

int64_t fbp_shared_blocks(const fbp_node *node, int64_t samples) {
    if (node->shared == 0) return 1; /* no sum: the node runs once */
    int64_t elements = 1;
    for (int i = 0; i < node->n_in; i++) {
        int64_t own = node->shared >> i & 1u ? fbp_elements(&node->in[i]) : 0;
        if (own > elements) elements = own;
    }
    int64_t rows = samples * fbp_positions(&node->out[0]);
    int64_t blocks = elements_in_blocks / elements;
    if (blocks > rows / least_block_rows) blocks = rows / least_block_rows;
    if (blocks > samples) blocks = samples;
    return blocks < 1 ? 1 : blocks;
}

/* ---- tangents that follow from linearity ---- */

int fbp_has_tangent(const fbp_row *row) { return row->infer != NULL && row->node[0] != NULL; }

int fbp_has_backward_tangent(const fbp_row *row) {
    return fbp_has_tangent(row) &&
           (row->node[0]->tangent == NULL || row->node[0]->backward_tangent != NULL);
}

/* Of two factors one may have no gradient, as samples in compressed rows have none: then the row is
 * linear in the other. */
static int is_bilinear(const fbp_node *node) {
    return node->row->bilinear && (node->differentiable & 3u) == 3u;
}

/* The call with inputs that are differentiable replaced by their tangents: all, or one alone of the
 * first two. */
static fbp_call along(const fbp_node *node, const fbp_call *call, unsigned which) {
    fbp_call other = *call;
    for (int i = 0; i < node->n_in; i++)
        if (which & node->differentiable & 1u << i) other.at.x[i] = call->at.tx[i];
    return other;
}

void fbp_run_tangent(const fbp_node *node, const fbp_call *call, void *const *again) {
    const fbp_node_kernels *ops = fbp_node_ops(node);
    if (ops->tangent != NULL) {
        ops->tangent(node, call);
        return;
    }
    /* f(tx0, x1, tb...) + f(x0, tx1, 0): what is added, the bias, counts once. */
    int twice = is_bilinear(node);
    fbp_call first = along(node, call, twice ? ~2u : ~0u);
    for (int i = 0; i < node->n_out + node->n_kept; i++) first.at.y[i] = call->at.ty[i];
    ops->forward(node, &first);
    if (!twice) return;
    fbp_call second = along(node, call, 2u);
    second.at.x[2] = NULL;
    for (int i = 0; i < node->n_out; i++) second.at.y[i] = again[i];
    ops->forward(node, &second);
    for (int i = 0; i < node->n_out; i++)
        node->vector->add_scaled(fbp_extent(&node->out[i], call->at.samples), 1.0, again[i],
                                 call->at.ty[i]);
}

void fbp_run_backward_tangent(const fbp_node *node, const fbp_call *call, void *const *again) {
    const fbp_node_kernels *ops = fbp_node_ops(node);
    if (ops->tangent != NULL) {
        ops->backward_tangent(node, call);
        return;
    }
    fbp_call first = *call;
    for (int i = 0; i < node->n_out; i++) first.at.dy[i] = call->at.tdy[i];
    for (int i = 0; i < node->n_in; i++) first.at.dx[i] = call->at.tdx[i];
    ops->backward(node, &first);
    if (!is_bilinear(node)) return;
    fbp_call second = along(node, call, 3u);
    int wanted = 0;
    for (int i = 0; i < node->n_in; i++) {
        int serves = i < 2 && call->at.tdx[i] != NULL && !(node->shared & 1u << i);
        second.at.dx[i] = serves ? again[i] : NULL;
        wanted |= serves;
    }
    if (!wanted) return;
    ops->backward(node, &second);
    for (int i = 0; i < 2; i++)
        if (second.at.dx[i] != NULL)
            node->vector->add_scaled(fbp_extent(&node->in[i], call->at.samples), 1.0, again[i],
                                     call->at.tdx[i]);
}

void fbp_run_shared_tangent(const fbp_node *node, const fbp_call *call, int input, int64_t begin,
                            int64_t end, int add, void *tg) {
    const fbp_node_kernels *ops = fbp_node_ops(node);
    if (ops->tangent != NULL) {
        ops->shared_tangent(node, call, input, begin, end, add, tg);
        return;
    }
    fbp_call first = *call;
    for (int i = 0; i < node->n_out; i++) first.at.dy[i] = call->at.tdy[i];
    ops->backward_shared(node, &first, input, begin, end, add, tg);
    if (!is_bilinear(node) || input > 1) return;
    fbp_call second = along(node, call, 3u);
    ops->backward_shared(node, &second, input, begin, end, 1, tg);
}
