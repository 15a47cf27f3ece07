/* Making a graph of a specification: rows looked up, shapes inferred, and what needs a gradient. */
#include "core/graph.h"

#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/callbacks.h"
#include "core/plan.h"
#include "core/registry.h"

/* Far beyond any memory, and far below where a count of bytes would overflow. */
static const int64_t most_params = (int64_t)1 << 48;

/* ---- values ---- */

static fbp_value *add_value(fbp_graph *graph, const fbp_shape *shape, fbp_source source,
                            int index) {
    fbp_value *value = &graph->values[graph->n_values++];
    value->is.is = *shape;
    value->source = source;
    value->index = index;
    value->parameter = -1;
    return value;
}

static fbp_status add_parameters(fbp_graph *graph, const fbp_graph_spec *spec) {
    for (int i = 0; i < spec->n_parameters; i++) {
        const fbp_parameter_spec *from = &spec->parameters[i];
        fbp_value *value = add_value(graph, &from->shape, FBP_FROM_PARAMETER, i);
        double elements = 1.0;
        for (int d = 0; d < from->shape.ndim; d++) elements *= (double)from->shape.shape[d];
        if (from->shape.batched || from->shape.content != FBP_REAL || !(elements >= 1.0) ||
            elements + (double)graph->n_params > (double)most_params)
            return fbp_fail(FBP_INVALID,
                            "parameter %d: found the shape %s, wanted at most %lld "
                            "reals in all",
                            i, fbp_shape_words(&from->shape), (long long)most_params);
        fbp_parameter parameter = {graph->n_params, graph->n_values - 1, from->frozen,
                                   from->penalised};
        graph->parameters[i] = parameter;
        graph->n_params += (int64_t)elements;
        value->trainable = !from->frozen;
        value->derived = 1;
    }
    return FBP_OK;
}

static fbp_status add_constants(fbp_graph *graph, const fbp_graph_spec *spec) {
    for (int i = 0; i < spec->n_constants; i++) {
        fbp_value *value = add_value(graph, &spec->constants[i], FBP_FROM_CONSTANT, i);
        value->derived = 1;
        size_t size = value->is.is.content == FBP_INDEX ? sizeof(int32_t) : fbp_size(graph->dtype);
        size_t bytes = (size_t)fbp_elements(&value->is) * size;
        graph->constants[i] = fbp_alloc(bytes + FBP_ALIGN);
        if (graph->constants[i] == NULL) return FBP_NO_MEMORY;
        memcpy(graph->constants[i], spec->constant_data[i], bytes);
    }
    return FBP_OK;
}

/* ---- nodes ---- */

static const fbp_row *row_of_node(const char *name) {
    static const fbp_kind kinds[] = {FBP_OP, FBP_FUNCTION, FBP_ACTIVATION};
    for (int k = 0; k < 3; k++) {
        const fbp_row *row = fbp_variant_look(fbp_variant_current(), kinds[k], name);
        if (row != NULL) return row;
    }
    fbp_variant_find(fbp_variant_current(), FBP_OP, name);
    return NULL;
}

/* A row with packed copies of its weights makes them of what stays the same in a step. */
static fbp_status check_weights(const fbp_graph *graph, int n) {
    const fbp_node *node = &graph->nodes[n];
    for (int i = 1; i < node->n_in && fbp_packs(node); i++) {
        const fbp_value *w = &graph->values[graph->inputs[n][i]];
        if (w->source == FBP_FROM_NODE && !w->derived)
            return fbp_fail(FBP_INVALID,
                            "node %d: found the result of a node as input %d of '%s', wanted a "
                            "parameter, a constant or what is made of these alone",
                            n, i, node->row->name);
    }
    return FBP_OK;
}

/* A node that runs by itself, on whole arrays. Integers among them are constants. */
static fbp_status check_alone(const fbp_graph *graph, int n) {
    const fbp_node *node = &graph->nodes[n];
    fbp_arrays arrays = {.samples = node->samples};
    if (node->row->couples_samples)
        return fbp_fail(FBP_INVALID,
                        "node %d: found '%s' of values without samples, wanted some with", n,
                        node->row->name);
    for (int i = 0; i < node->n_in; i++) {
        const fbp_value *x = &graph->values[graph->inputs[n][i]];
        if (x->source == FBP_FROM_CONSTANT) arrays.x[i] = graph->constants[x->index];
    }
    return fbp_node_check_indices(node, &arrays);
}

static fbp_status infer(fbp_graph *graph, fbp_node *node, const fbp_row *row,
                        const fbp_node_spec *spec, const fbp_shape *shapes) {
    int batched = 0;
    for (int i = 0; i < spec->n_inputs; i++) batched |= shapes[i].batched;
    return (batched ? fbp_node_infer : fbp_node_infer_alone)(node, row, graph->dtype, spec->numbers,
                                                             spec->counts, spec->n_inputs, shapes);
}

/* The nodes of a checkpoint follow each other, and so do checkpoints. */
static fbp_status check_checkpoint(fbp_graph *graph, int n, int checkpoint) {
    int before = n > 0 ? graph->nodes[n - 1].checkpoint : 0, most = graph->last_checkpoint;
    if (checkpoint != 0 && checkpoint != before && checkpoint <= most)
        return fbp_fail(FBP_INVALID, "node %d: found checkpoint %d, wanted 0, %s%d or more", n,
                        checkpoint, before > 0 ? "that of the node before it, or " : "", most + 1);
    if (checkpoint > most) graph->last_checkpoint = checkpoint;
    graph->nodes[n].checkpoint = checkpoint;
    return FBP_OK;
}

/* What the node is: of a row of the table, on operands of these shapes, or the caller's. */
static fbp_status settle(fbp_graph *graph, const fbp_node_spec *spec, const fbp_shape *shapes,
                         int sparse) {
    int n = graph->n_nodes;
    if (spec->callback != NULL) return fbp_callback_settle(graph, spec, shapes);
    const fbp_row *row = row_of_node(spec->op);
    if (row != NULL && sparse && row->sparse_form != NULL) row = row_of_node(row->sparse_form);
    if (row == NULL) return FBP_INVALID;
    if (row->infer == NULL || row->reads_sparse != sparse)
        return fbp_fail(FBP_INVALID, "node %d: found '%s', wanted an op that reads %s samples", n,
                        row->name, sparse ? "sparse" : "dense");
    return infer(graph, &graph->nodes[n], row, spec, shapes);
}

static fbp_status check(const fbp_graph *graph, int n) {
    const fbp_node *node = &graph->nodes[n];
    if (node->callback != NULL) return FBP_OK;
    return node->alone ? check_alone(graph, n) : check_weights(graph, n);
}

static fbp_status add_node(fbp_graph *graph, const fbp_node_spec *spec) {
    fbp_shape shapes[FBP_MAX_INPUTS];
    int n = graph->n_nodes, sparse = 0, trainable = 0, derived = 1;
    if (spec->n_inputs > FBP_MAX_INPUTS)
        return fbp_fail(FBP_INVALID, "node %d: found %d inputs, wanted at most %d", n,
                        spec->n_inputs, FBP_MAX_INPUTS);
    for (int i = 0; i < spec->n_inputs; i++) {
        if (spec->inputs[i] < 0 || spec->inputs[i] >= graph->n_values)
            return fbp_fail(FBP_INVALID, "node %d: found input %d, wanted a value made before", n,
                            spec->inputs[i]);
        fbp_value *value = &graph->values[spec->inputs[i]];
        shapes[i] = value->is.is;
        value->n_uses++;
        sparse |= fbp_is_sparse(value);
        derived &= value->derived;
        graph->inputs[n][i] = spec->inputs[i];
    }
    fbp_status status = settle(graph, spec, shapes, sparse);
    if (status == FBP_OK) status = check_checkpoint(graph, n, spec->checkpoint);
    if (status != FBP_OK) return status;
    fbp_node *node = &graph->nodes[n];
    if (n > 0)
        node->stream = graph->nodes[n - 1].stream + (uint32_t)graph->nodes[n - 1].row->op.random;
    graph->n_nodes++;
    graph->first_result[n] = graph->n_values;
    for (int i = 0; i < node->n_in; i++)
        trainable |= (node->differentiable >> i & 1u) && graph->values[spec->inputs[i]].trainable;
    for (int i = 0; i < node->n_out; i++) {
        fbp_shape whole = node->out[i].is;
        if (node->callback == NULL && node->alone) whole = fbp_whole_shape(node, &node->out[i]);
        fbp_value *value = add_value(graph, &whole, FBP_FROM_NODE, n);
        value->output = i;
        value->trainable = trainable;
        value->derived = derived;
    }
    return check(graph, n);
}

/* ---- losses ---- */

static fbp_status add_loss(fbp_graph *graph, const fbp_loss_spec *spec) {
    fbp_loss *loss = &graph->losses[graph->n_losses++];
    loss->row = fbp_variant_find(fbp_variant_current(), FBP_LOSS, spec->name);
    if (loss->row == NULL) return FBP_INVALID;
    memcpy(loss->attrs, spec->attrs, sizeof loss->attrs);
    loss->value = spec->value;
    loss->factor = spec->factor;
    int known = spec->value >= 0 && spec->value < graph->n_values;
    if (!known || graph->values[spec->value].source != FBP_FROM_NODE ||
        !graph->values[spec->value].is.is.batched || graph->values[spec->value].is.is.ndim < 1)
        return fbp_fail(FBP_INVALID,
                        "loss '%s': found value %d, wanted the result of a node, of samples",
                        spec->name, spec->value);
    graph->values[spec->value].n_uses++;
    if (!(spec->factor > 0.0 && spec->factor < INFINITY))
        return fbp_fail(FBP_INVALID, "loss '%s': found the weight %g, wanted a positive number",
                        spec->name, spec->factor);
    return fbp_row_check(loss->row, loss->attrs);
}

/* ---- running values ---- */

static fbp_status check_running(const fbp_graph *graph, const fbp_running_spec *spec) {
    int p = spec->parameter, v = spec->value;
    if (p < 0 || p >= graph->n_parameters)
        return fbp_fail(FBP_INVALID, "running: found parameter %d, wanted 0 to %d", p,
                        graph->n_parameters - 1);
    const fbp_value *stands = &graph->values[graph->parameters[p].value];
    if (!graph->parameters[p].frozen || stands->n_uses > 0)
        return fbp_fail(FBP_INVALID,
                        "running: found parameter %d, which is %s, wanted a frozen one that no "
                        "node reads",
                        p, stands->n_uses > 0 ? "read by a node" : "trained");
    if (v < 0 || v >= graph->n_values || graph->values[v].source != FBP_FROM_NODE ||
        graph->values[v].output != 0)
        return fbp_fail(FBP_INVALID, "running: found value %d, wanted the result of a node", v);
    const fbp_node *node = &graph->nodes[graph->values[v].index];
    if (fbp_node_ops(node)->follow == NULL)
        return fbp_fail(FBP_ABSENT, "running: found value %d, of '%s', which nothing can follow", v,
                        node->row->name);
    const fbp_shape *of = &stands->is.is, *is = &graph->values[v].is.is;
    int same = of->ndim == is->ndim;
    for (int d = 0; same && d < is->ndim; d++) same = of->shape[d] == is->shape[d];
    if (!same)
        return fbp_fail(FBP_INVALID,
                        "running: found parameter %d of shape %s, wanted %s, as value %d has", p,
                        fbp_shape_words(of), fbp_shape_words(is), v);
    if (!(spec->momentum >= 0.0 && spec->momentum <= 1.0))
        return fbp_fail(FBP_INVALID, "running: found the momentum %g, wanted a number in [0, 1]",
                        spec->momentum);
    return FBP_OK;
}

static fbp_status add_running(fbp_graph *graph, const fbp_running_spec *spec) {
    fbp_status status = check_running(graph, spec);
    if (status != FBP_OK) return status;
    for (int i = 0; i < graph->n_running; i++)
        if (graph->running[i].parameter == spec->parameter ||
            graph->running[i].value == spec->value)
            return fbp_fail(FBP_INVALID,
                            "running: found parameter %d for value %d, wanted each but once",
                            spec->parameter, spec->value);
    graph->running[graph->n_running++] = *spec;
    graph->values[spec->value].parameter = spec->parameter;
    return FBP_OK;
}

size_t fbp_target_bytes(const fbp_graph *graph, const fbp_loss *loss) {
    const fbp_operand *z = &graph->values[loss->value].is;
    return loss->row->target == FBP_TARGET_CLASS ? (size_t)fbp_positions(z) * sizeof(int32_t)
                                                 : (size_t)fbp_elements(z) * fbp_size(graph->dtype);
}

/* ---- what is wanted ---- */

static void find_gradients(fbp_graph *graph) {
    for (int i = 0; i < graph->n_losses; i++) {
        fbp_value *z = &graph->values[graph->losses[i].value];
        z->gradient = z->trainable;
    }
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        const fbp_node *node = &graph->nodes[n];
        int reached = 0;
        for (int i = 0; i < node->n_out; i++)
            reached |= graph->values[graph->first_result[n] + i].gradient;
        for (int i = 0; reached && i < node->n_in; i++) {
            fbp_value *x = &graph->values[graph->inputs[n][i]];
            x->gradient |= (node->differentiable >> i & 1u) && x->trainable;
        }
    }
}

int fbp_goes_back(const fbp_graph *graph, int n) {
    for (int i = 0; i < graph->nodes[n].n_out; i++)
        if (graph->values[graph->first_result[n] + i].gradient) return 1;
    return 0;
}

int fbp_sums_gradient(const fbp_graph *graph, int n, int i) {
    int wanted = graph->values[graph->inputs[n][i]].gradient && fbp_goes_back(graph, n);
    return wanted && !graph->nodes[n].alone && graph->nodes[n].shared >> i & 1u;
}

int fbp_yields_gradient(const fbp_graph *graph, int n, int i) {
    const fbp_node *node = &graph->nodes[n];
    const fbp_value *x = &graph->values[graph->inputs[n][i]];
    int wanted = x->gradient && node->differentiable >> i & 1u && fbp_goes_back(graph, n);
    return wanted && node->alone && x->source == FBP_FROM_PARAMETER;
}

int fbp_shares_gradient(const fbp_graph *graph, int n) {
    for (int i = 0; i < graph->nodes[n].n_in; i++)
        if (fbp_sums_gradient(graph, n, i)) return 1;
    return 0;
}

/* ---- FLOPs ---- */

double fbp_backward_flops(const fbp_graph *graph, int n) {
    const fbp_node *node = &graph->nodes[n];
    int able = 0, wanted = 0;
    if (!fbp_goes_back(graph, n)) return 0.0;
    for (int i = 0; i < node->n_in && i < 2; i++) {
        int can = (int)(node->differentiable >> i & 1u);
        able += can;
        wanted += can && graph->values[graph->inputs[n][i]].gradient;
    }
    return able > 0 ? node->flops[1] * wanted / able * fbp_node_times(node) : 0.0;
}

double fbp_loss_flops(const fbp_graph *graph, const fbp_loss *loss) {
    return loss->row->flops * (double)fbp_elements(&graph->values[loss->value].is);
}

static void count_flops(fbp_graph *graph) {
    for (int n = 0; n < graph->n_nodes; n++) {
        double *flops = graph->nodes[n].alone ? graph->flops_alone : graph->flops;
        flops[0] += graph->nodes[n].flops[0] * fbp_node_times(&graph->nodes[n]);
        flops[1] += fbp_backward_flops(graph, n);
    }
    for (int i = 0; i < graph->n_losses; i++)
        graph->flops[0] += fbp_loss_flops(graph, &graph->losses[i]);
}

/* ---- the whole ---- */

static fbp_status allocate(fbp_graph *graph, const fbp_graph_spec *spec) {
    size_t most = (size_t)(spec->n_inputs + spec->n_parameters + spec->n_constants) +
                  (size_t)spec->n_nodes * FBP_MAX_OUTPUTS;
    graph->values = fbp_alloc(most * sizeof *graph->values);
    graph->parameters = fbp_alloc((size_t)spec->n_parameters * sizeof *graph->parameters);
    graph->nodes = fbp_alloc((size_t)spec->n_nodes * sizeof *graph->nodes);
    graph->inputs = fbp_alloc((size_t)spec->n_nodes * sizeof *graph->inputs);
    graph->first_result = fbp_alloc((size_t)spec->n_nodes * sizeof *graph->first_result);
    graph->constants = fbp_alloc((size_t)spec->n_constants * sizeof *graph->constants);
    graph->losses = fbp_alloc((size_t)spec->n_losses * sizeof *graph->losses);
    graph->running = fbp_alloc((size_t)spec->n_running * sizeof *graph->running);
    graph->callbacks = fbp_alloc((size_t)spec->n_nodes * sizeof *graph->callbacks);
    int all = graph->values && graph->parameters && graph->nodes && graph->inputs &&
              graph->first_result && graph->constants && graph->losses && graph->running &&
              graph->callbacks;
    return all ? FBP_OK : FBP_NO_MEMORY;
}

fbp_status fbp_graph_make(fbp_graph *graph, const fbp_graph_spec *spec) {
    graph->dtype = spec->dtype;
    graph->precision = spec->precision;
    if (spec->precision != FBP_FULL && spec->dtype != FBP_F32)
        return fbp_fail(FBP_INVALID, "precision: found 16 bits for a graph of float64, wanted them "
                                     "for one of float32, or full");
    if (spec->n_inputs < 1 || spec->n_inputs > FBP_MAX_INPUTS || spec->n_losses > FBP_MAX_INPUTS)
        return fbp_fail(FBP_INVALID,
                        "graph: found %d inputs and %d losses, wanted 1 to %d inputs "
                        "and at most %d losses",
                        spec->n_inputs, spec->n_losses, FBP_MAX_INPUTS, FBP_MAX_INPUTS);
    fbp_status status = allocate(graph, spec);
    if (status != FBP_OK) return status;
    for (int i = 0; i < spec->n_inputs; i++)
        add_value(graph, &spec->inputs[i], FBP_FROM_INPUT, i)->is.is.batched = 1;
    graph->n_inputs = spec->n_inputs;
    graph->n_parameters = spec->n_parameters;
    status = add_parameters(graph, spec);
    graph->n_constants = spec->n_constants;
    if (status == FBP_OK) status = add_constants(graph, spec);
    for (int i = 0; i < spec->n_nodes && status == FBP_OK; i++)
        status = add_node(graph, &spec->nodes[i]);
    for (int i = 0; i < spec->n_losses && status == FBP_OK; i++)
        status = add_loss(graph, &spec->losses[i]);
    for (int i = 0; i < spec->n_running && status == FBP_OK; i++)
        status = add_running(graph, &spec->running[i]);
    if (status != FBP_OK) return status;
    find_gradients(graph);
    count_flops(graph);
    return fbp_graph_lay_out(graph);
}

void fbp_graph_free(fbp_graph *graph) {
    for (int i = 0; graph->constants != NULL && i < graph->n_constants; i++)
        fbp_free(graph->constants[i]);
    for (int i = 0; i < graph->n_callbacks; i++) fbp_free(graph->callbacks[i]);
    fbp_free(graph->callbacks);
    fbp_free(graph->values);
    fbp_free(graph->parameters);
    fbp_free(graph->nodes);
    fbp_free(graph->inputs);
    fbp_free(graph->first_result);
    fbp_free(graph->constants);
    fbp_free(graph->losses);
    fbp_free(graph->running);
}
