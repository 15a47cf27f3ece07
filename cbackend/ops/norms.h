/* What the families of normalisation say alike in their rows of the table. It holds no loop over
 * elements. */
#ifndef FBP_OPS_NORMS_H
#define FBP_OPS_NORMS_H

#include <math.h>

#include "core/node.h"
#include "math/attributes.h"
#include "math/scalar.h"

#define FBP_EPSILON_ATTR(fallback)                                                                 \
    ATTR_ENTRY(epsilon, fallback, ABOVE(0), BELOW(INFINITY), "added to the variance")

/* Whether x, input 0, has a last axis, and the inputs from `first` on are as long as it. */
FBP_INLINE fbp_status fbp_infer_affine(const fbp_node *node, int first) {
    const fbp_shape *x = &node->in[0].is;
    if (x->ndim < 1 || x->shape[x->ndim - 1] < 1)
        return fbp_fail(FBP_INVALID, "%s: found x of shape %s, wanted a last axis of features",
                        node->row->name, fbp_shape_words(x));
    for (int i = first; i < node->n_in; i++) {
        const fbp_shape *p = &node->in[i].is;
        if (p->ndim != 1 || p->batched || p->shape[0] != x->shape[x->ndim - 1])
            return fbp_fail(FBP_INVALID, "%s: found %s of shape %s, wanted (%lld,) as x is %s",
                            node->row->name, node->row->op.inputs[i], fbp_shape_words(p),
                            (long long)x->shape[x->ndim - 1], fbp_shape_words(x));
    }
    return FBP_OK;
}

#endif
