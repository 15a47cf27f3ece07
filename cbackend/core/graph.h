/* A graph: the nodes of a network and its losses in the order in which they run, and the values
 * that pass between them. It says what is computed from what and whose gradients are wanted;
 * nothing of memory, threads or time. */
#ifndef FBP_CORE_GRAPH_H
#define FBP_CORE_GRAPH_H

#include "core/node_run.h"

typedef enum { FBP_FROM_INPUT, FBP_FROM_PARAMETER, FBP_FROM_CONSTANT, FBP_FROM_NODE } fbp_source;

/* Values are numbered: inputs, parameters, constants, then the results of the nodes in turn. */
typedef struct {
    fbp_operand is; /* of every consumer alike */
    fbp_source source;
    int index;     /* of the input, parameter, constant or node */
    int output;    /* which of a node's results */
    int n_uses;    /* as inputs of nodes and losses */
    int trainable; /* depends on a parameter that is not frozen */
    int gradient;  /* and a loss depends on it: its gradient is wanted */
    int ones;      /* a consumer reads a one after the last column */
    int derived;   /* a parameter, a constant, or made of these alone */
    int parameter; /* that stands in its place in predict, and follows it in training; or -1 */
} fbp_value;

typedef struct {
    int64_t offset; /* in the flat buffer */
    int value, frozen, penalised;
} fbp_parameter;

typedef struct {
    const fbp_row *row;
    double attrs[FBP_MAX_ATTRS];
    int value;     /* its raw outputs */
    double factor; /* in the total */
} fbp_loss;

typedef struct {
    fbp_dtype dtype;
    fbp_precision precision;
    int n_inputs, n_parameters, n_constants, n_nodes, n_values, n_losses, n_running;
    int last_checkpoint; /* the largest number of one; 0: there are none */
    fbp_value *values;
    fbp_parameter *parameters;
    fbp_node *nodes;
    int (*inputs)[FBP_MAX_INPUTS]; /* (n_nodes) the values that a node reads */
    int *first_result;             /* (n_nodes) the value that is its first result */
    void **constants;              /* (n_constants) copies */
    fbp_loss *losses;
    fbp_running_spec *running;
    void **callbacks; /* (n_nodes) of those that the caller computes, what they are made of */
    int n_callbacks;
    int64_t n_params;      /* elements of all parameters */
    double flops[2];       /* of one sample: forward, backward */
    double flops_alone[2]; /* once a step, of nodes that run by themselves */
} fbp_graph;

/* The last step of making one. */
fbp_status fbp_graph_lay_out(fbp_graph *graph);
fbp_status fbp_graph_make(fbp_graph *graph, const fbp_graph_spec *spec);
void fbp_graph_free(fbp_graph *graph);

/* Bytes of one sample's target of a loss: an int32_t for a class, reals otherwise, for each
 * position. */
size_t fbp_target_bytes(const fbp_graph *graph, const fbp_loss *loss);

static inline int fbp_is_sparse(const fbp_value *value) {
    return value->is.is.content == FBP_SPARSE;
}
/* A node whose results samples share: made of all samples of a batch, or of what they share. */
static inline int fbp_is_common(const fbp_graph *graph, int n) {
    return !graph->values[graph->first_result[n]].is.is.batched;
}
/* And that of parameters and constants alone: the same for all samples of a step, or of a call. */
static inline int fbp_is_derived(const fbp_graph *graph, int n) {
    return graph->values[graph->first_result[n]].derived;
}
/* The checkpoint that it is of, or 0: what is derived is of none. */
static inline int fbp_checkpoint_of(const fbp_graph *graph, int n) {
    return graph->last_checkpoint > 0 && !fbp_is_derived(graph, n) ? graph->nodes[n].checkpoint : 0;
}
/* What a node's FLOPs count for, where they are told for one sample. */
static inline double fbp_node_times(const fbp_node *node) {
    return node->alone ? (double)node->samples : 1.0;
}
/* Whether a loss depends on what node n makes, and that on what is trained. */
int fbp_goes_back(const fbp_graph *graph, int n);
/* Whether the gradient of input i is wanted of node n, as a sum over samples, if they share it. */
int fbp_sums_gradient(const fbp_graph *graph, int n, int i);
/* Whether node n, by itself, yields a parameter's gradient, as input i, or its part of that. */
int fbp_yields_gradient(const fbp_graph *graph, int n, int i);
/* Of a sample's backward through node n, to what is wanted alone: half where there are two
 * gradients and one is not. */
double fbp_backward_flops(const fbp_graph *graph, int n);
double fbp_loss_flops(const fbp_graph *graph, const fbp_loss *loss); /* of a sample's values */
/* Whether it is wanted of any input. */
int fbp_shares_gradient(const fbp_graph *graph, int n);

#endif
