/* Nodes that the caller computes, as an op written in Python: how they stand in a graph, and how
 * they run. A callback sees whole arrays where they lie in the plan's buffers, padded or not; what
 * it does with them is its own affair. What forward leaves for backward belongs to the running
 * call: a plan stays immutable. No formula is here, and no knowledge of Python.
 *
 * A callback that fails ends its pass as an interruption does: the others skip what is left of the
 * phase, all threads meet, and no weight has changed. */
#include "core/callbacks.h"

#include <string.h>

#include "core/arena.h"

/* ---- in a graph ---- */

/* What a node of a graph points to: a row that has nothing but a name, and the caller's functions.
 */
typedef struct {
    fbp_row row;
    fbp_callback callback;
    char name[];
} own_row;

static const fbp_node_kernels no_kernels;

static own_row *make_row(const fbp_callback *callback) {
    size_t length = strlen(callback->name) + 1;
    own_row *own = fbp_alloc(sizeof *own + length);
    if (own == NULL) return NULL;
    memcpy(own->name, callback->name, length);
    own->callback = *callback;
    own->callback.results = NULL; /* the node has them */
    own->row.name = own->callback.name = own->name;
    own->row.doc = "computed by the caller";
    own->row.kind = FBP_OP;
    own->row.node[FBP_F32] = own->row.node[FBP_F64] = &no_kernels;
    return own;
}

static fbp_status check_inputs(int n, const fbp_node_spec *spec, const fbp_shape *inputs) {
    const char *name = spec->callback->name;
    if (spec->n_inputs < 1)
        return fbp_fail(FBP_INVALID, "node %d: found no inputs of '%s', wanted at least one", n,
                        name);
    for (int i = 0; i < spec->n_inputs; i++)
        if (inputs[i].content == FBP_SPARSE)
            return fbp_fail(FBP_INVALID,
                            "node %d: found samples in compressed rows as input %d of '%s', wanted "
                            "dense ones",
                            n, i, name);
    return FBP_OK;
}

static fbp_status check_results(int n, const fbp_callback *callback, int batched) {
    if (callback->n_results < 1 || callback->n_results > FBP_MAX_OUTPUTS)
        return fbp_fail(FBP_INVALID, "node %d: found %d results of '%s', wanted 1 to %d", n,
                        callback->n_results, callback->name, FBP_MAX_OUTPUTS);
    for (int i = 0; i < callback->n_results; i++) {
        const fbp_shape *y = &callback->results[i];
        int fits = y->content == FBP_REAL && y->batched == batched && y->ndim <= FBP_MAX_DIMS;
        for (int d = 0; fits && d < y->ndim; d++) fits = y->shape[d] >= 1;
        if (!fits)
            return fbp_fail(FBP_INVALID,
                            "node %d: found result %d of '%s' of the shape %s, wanted reals, at "
                            "least one, %s samples",
                            n, i, callback->name, fbp_shape_words(y), batched ? "of" : "without");
    }
    return FBP_OK;
}

fbp_status fbp_callback_settle(fbp_graph *graph, const fbp_node_spec *spec,
                               const fbp_shape *inputs) {
    const fbp_callback *callback = spec->callback;
    int n = graph->n_nodes, batched = 0;
    fbp_node *node = &graph->nodes[n];
    for (int i = 0; i < spec->n_inputs; i++) batched |= inputs[i].batched;
    fbp_status status = check_inputs(n, spec, inputs);
    if (status == FBP_OK) status = check_results(n, callback, batched);
    if (status != FBP_OK) return status;
    own_row *own = make_row(callback);
    if (own == NULL) return FBP_NO_MEMORY;
    graph->callbacks[graph->n_callbacks++] = own;
    node->row = &own->row;
    node->callback = &own->callback;
    node->dtype = graph->dtype;
    node->n_in = spec->n_inputs;
    node->n_out = callback->n_results;
    node->alone = 1;
    node->samples = 1;
    for (int i = 0; i < node->n_in; i++) {
        node->in[i].is = inputs[i];
        if (inputs[i].content == FBP_REAL) node->differentiable |= 1u << i;
        node->range[i].least = INT32_MIN; /* what integers mean is the caller's affair */
        node->range[i].below = (int64_t)INT32_MAX + 1;
    }
    for (int i = 0; i < node->n_out; i++) node->out[i].is = callback->results[i];
    return FBP_OK;
}

/* ---- in a running call ---- */

void fbp_calls_carve(fbp_pass *pass, const fbp_plan *plan, fbp_carver *carver) {
    size_t bytes = sizeof *pass->calls + (size_t)plan->graph.n_nodes * sizeof(void *);
    pass->calls = fbp_carve(carver, 1, bytes);
    if (carver->base != NULL) memset(pass->calls, 0, bytes);
}

static void release(const fbp_pass *pass, int n) {
    void **left = &pass->calls->left[n];
    if (*left != NULL) pass->plan->graph.nodes[n].callback->release(*left);
    *left = NULL;
}

fbp_status fbp_calls_release(fbp_pass *pass, fbp_status status) {
    for (int n = 0; n < pass->plan->graph.n_nodes; n++) release(pass, n);
    int failed = pass->calls->failed;
    pass->calls->failed = 0;
    return failed ? fbp_fail(FBP_FAILED, "a callback failed") : status;
}

/* The gradients that backward will be asked for; none in predict. */
static unsigned wanted_of(const fbp_pass *pass, int n) {
    const fbp_graph *graph = &pass->plan->graph;
    const fbp_node *node = &graph->nodes[n];
    unsigned wanted = 0;
    if (pass->schedule != &pass->plan->training || !fbp_goes_back(graph, n)) return 0;
    for (int i = 0; i < node->n_in; i++)
        if (node->differentiable >> i & 1u && graph->values[graph->inputs[n][i]].gradient)
            wanted |= 1u << i;
    return wanted;
}

/* In a checkpoint: what it keeps for backward is of its second run. */
static int runs_again(const fbp_pass *pass, int n) {
    const fbp_schedule *schedule = pass->schedule;
    return schedule->again_at[pass->plan->graph.first_result[n]] >= 0;
}

static fbp_array array_of(const fbp_operand *x, int64_t samples, void *data) {
    fbp_array array = {.data = data, .content = x->is.content};
    if (x->is.batched) {
        array.shape[0] = samples;
        array.strides[0] = x->sample_stride;
        array.ndim = 1;
    }
    for (int d = 0; d < x->is.ndim; d++, array.ndim++) {
        array.shape[array.ndim] = x->is.shape[d];
        array.strides[array.ndim] = x->strides[d];
    }
    return array;
}

static fbp_called call_of(const fbp_lane *lane, int n) {
    const fbp_node *node = &lane->pass->plan->graph.nodes[n];
    fbp_called call = {.dtype = node->dtype, .n_inputs = node->n_in, .n_results = node->n_out};
    return call;
}

/* The caller reads what it may not write, in an array of the same kind. */
static void *readable(const void *data) {
    union {
        const void *in;
        void *out;
    } either = {data};
    return either.out;
}

void fbp_callback_forward(fbp_lane *lane, int n, int again) {
    const fbp_node *node = &lane->pass->plan->graph.nodes[n];
    fbp_calls *calls = lane->pass->calls;
    fbp_called call = call_of(lane, n);
    const fbp_arrays *at = &(again ? fbp_lane_again(lane, n) : fbp_lane_forward(lane, n))->at;
    if (again || !runs_again(lane->pass, n)) call.wanted = wanted_of(lane->pass, n);
    for (int i = 0; i < node->n_in; i++)
        call.x[i] = array_of(&node->in[i], lane->rows, readable(at->x[i]));
    for (int i = 0; i < node->n_out; i++) call.y[i] = array_of(&node->out[i], lane->rows, at->y[i]);
    release(lane->pass, n); /* forward may run again, for a look at what it yields */
    calls->failed |= node->callback->forward(node->callback->context, &call) != 0;
    calls->left[n] = call.left;
}

/* dx = the caller's, along dy. */
void fbp_callback_backward(fbp_lane *lane, const fbp_step *step) {
    int n = step->index;
    const fbp_node *node = &lane->pass->plan->graph.nodes[n];
    fbp_calls *calls = lane->pass->calls;
    fbp_called call = call_of(lane, n);
    const fbp_arrays *at = &fbp_lane_backward(lane, n)->at;
    for (int i = 0; i < node->n_in; i++) call.x[i] = array_of(&node->in[i], lane->rows, at->dx[i]);
    for (int i = 0; i < node->n_out; i++)
        call.y[i] = array_of(&node->out[i], lane->rows, readable(at->dy[i]));
    call.wanted = wanted_of(lane->pass, n);
    call.left = calls->left[n];
    calls->failed |= node->callback->backward(node->callback->context, &call) != 0;
    release(lane->pass, n);
}
