/* Dense networks told in short: a chain of layers and one loss become a graph. */
#include <string.h>

#include "core/arena.h"
#include "core/plan.h"

/* The graph of a chain while it grows, with the arrays that its specification points to. */
typedef struct {
    fbp_graph_spec spec;
    fbp_parameter_spec *parameters; /* weights and bias of each layer in turn */
    fbp_node_spec *nodes;
    int (*inputs)[3];
    int *counts; /* of an elementwise row's attributes: one number each */
    int64_t width;
} chain;

static fbp_status add_linear(chain *c, const fbp_row_spec *from, int layer) {
    if (from->units < 1 || from->units > INT32_MAX)
        return fbp_fail(FBP_INVALID, "units of layer %d: found %lld, wanted 1 to %d", layer,
                        (long long)from->units, INT32_MAX);
    fbp_parameter_spec *w = &c->parameters[2 * layer], *b = w + 1;
    w->shape.ndim = 2;
    w->shape.shape[0] = c->width;
    w->shape.shape[1] = from->units;
    w->penalised = 1;
    b->shape.ndim = 1;
    b->shape.shape[0] = from->units;
    c->width = from->units;
    fbp_node_spec *node = &c->nodes[c->spec.n_nodes];
    int *inputs = c->inputs[c->spec.n_nodes];
    inputs[1] = 1 + 2 * layer;
    inputs[2] = 2 + 2 * layer;
    node->op = from->name;
    node->inputs = inputs;
    node->n_inputs = 3;
    node->counts = c->counts;
    node->numbers = from->attrs;
    return FBP_OK;
}

static fbp_status add_elementwise(chain *c, const fbp_row_spec *from, int after_linear) {
    if (!after_linear)
        return fbp_fail(
            FBP_INVALID, "layers: found the activation '%s' %s, wanted a layer before it",
            from->name, c->spec.n_nodes == 0 ? "at the start" : "after another activation");
    fbp_node_spec *node = &c->nodes[c->spec.n_nodes];
    node->op = from->name;
    node->inputs = c->inputs[c->spec.n_nodes];
    node->n_inputs = 1;
    node->counts = c->counts;
    node->numbers = from->attrs;
    return FBP_OK;
}

static fbp_status add_all(chain *c, int n_specs, const fbp_row_spec *specs) {
    int layers = 0, after_linear = 0;
    for (int i = 0; i < n_specs; i++) {
        int elementwise =
            fbp_variant_look(fbp_variant_current(), FBP_ACTIVATION, specs[i].name) != NULL;
        fbp_status status = elementwise ? add_elementwise(c, &specs[i], after_linear)
                                        : add_linear(c, &specs[i], layers++);
        if (status != FBP_OK) return status;
        after_linear = !elementwise;
        c->spec.n_nodes++;
    }
    if (layers == 0)
        return fbp_fail(FBP_INVALID,
                        "layers: found none, wanted at least one layer with parameters");
    if (!after_linear)
        return fbp_fail(FBP_INVALID,
                        "layers: found the activation '%s' at the end, wanted a layer: the loss "
                        "takes the raw output",
                        specs[n_specs - 1].name);
    c->spec.n_parameters = 2 * layers;
    return FBP_OK;
}

/* The first value is the input, then come the parameters; a node reads what the one before made. */
static void connect(chain *c) {
    for (int n = 0; n < c->spec.n_nodes; n++)
        c->inputs[n][0] = n == 0 ? 0 : c->spec.n_parameters + n;
}

static fbp_status allocate(chain *c, int n_specs) {
    size_t n = (size_t)n_specs;
    c->parameters = fbp_alloc(2 * n * sizeof *c->parameters);
    c->nodes = fbp_alloc(n * sizeof *c->nodes);
    c->inputs = fbp_alloc(n * sizeof *c->inputs);
    return c->parameters && c->nodes && c->inputs ? FBP_OK : FBP_NO_MEMORY;
}

static fbp_status make(chain *c, int64_t n_inputs, int n_specs, const fbp_row_spec *specs,
                       const fbp_row_spec *loss, int sparse, fbp_plan **plan) {
    int counts[FBP_MAX_ATTRS];
    for (int i = 0; i < FBP_MAX_ATTRS; i++) counts[i] = 1;
    fbp_status status = allocate(c, n_specs);
    if (status != FBP_OK) return status;
    c->counts = counts;
    c->width = n_inputs;
    status = add_all(c, n_specs, specs);
    if (status != FBP_OK) return status;
    connect(c);
    fbp_shape input = {.content = sparse ? FBP_SPARSE : FBP_REAL, .ndim = 1, .shape = {n_inputs}};
    int last = c->spec.n_parameters + c->spec.n_nodes;
    fbp_loss_spec one = {.name = loss->name, .value = last, .factor = 1.0};
    memcpy(one.attrs, loss->attrs, sizeof one.attrs);
    c->spec.n_inputs = c->spec.n_losses = c->spec.n_outputs = 1;
    c->spec.inputs = &input;
    c->spec.parameters = c->parameters;
    c->spec.nodes = c->nodes;
    c->spec.losses = &one;
    c->spec.outputs = &last;
    return fbp_plan_of_graph(&c->spec, plan);
}

fbp_status fbp_plan_create(int64_t n_inputs, int n_specs, const fbp_row_spec *specs,
                           const fbp_row_spec *loss, fbp_dtype dtype, int sparse, fbp_plan **plan) {
    *plan = NULL;
    if (n_inputs < 1 || n_inputs > INT32_MAX)
        return fbp_fail(FBP_INVALID, "n_inputs: found %lld, wanted 1 to %d", (long long)n_inputs,
                        INT32_MAX);
    chain c = {.spec = {.dtype = dtype}};
    fbp_status status = make(&c, n_inputs, n_specs, specs, loss, sparse, plan);
    fbp_free(c.parameters);
    fbp_free(c.nodes);
    fbp_free(c.inputs);
    return status;
}
