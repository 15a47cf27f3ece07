/* Nodes that the caller computes: what the mechanism asks of callbacks.c. */
#ifndef FBP_CORE_CALLBACKS_H
#define FBP_CORE_CALLBACKS_H

#include "core/pass.h"

/* The next node of a graph becomes the one that the specification calls back for. */
fbp_status fbp_callback_settle(fbp_graph *graph, const fbp_node_spec *spec,
                               const fbp_shape *inputs);

/* What callbacks have come to in a running call. */
struct fbp_calls {
    int failed;   /* one has */
    void *left[]; /* (n_nodes) by forward for backward, or NULL */
};

/* Room for that, and nothing in it; for a plan with callbacks. */
void fbp_calls_carve(fbp_pass *pass, const fbp_plan *plan, fbp_carver *carver);
/* At the end of a call which has come to `status`: all that is left is released, and what comes
 * next may begin anew. Returns FBP_FAILED where a callback has failed. */
fbp_status fbp_calls_release(fbp_pass *pass, fbp_status status);
static inline fbp_status fbp_calls_end(fbp_pass *pass, fbp_status status) {
    return pass->calls == NULL ? status : fbp_calls_release(pass, status);
}

static inline int fbp_callback_failed(const fbp_pass *pass) {
    return pass->calls != NULL && pass->calls->failed;
}

/* Node n on the lane's rows, which are all of the batch. By the calling thread alone. */
void fbp_callback_forward(fbp_lane *lane, int n, int again);
void fbp_callback_backward(fbp_lane *lane, const fbp_step *step);

#endif
