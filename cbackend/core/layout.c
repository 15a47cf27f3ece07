/* Where the elements of a graph's values lie: dense, or in rows that are padded for the products
 * that read them. Not where in memory: room.c. */
#include "core/arena.h"
#include "core/graph.h"
#include "core/plan.h"

/* Whether a node's result is to be laid out as its input i: where it may take its place, or the
 * result's gradient is the input's. */
static int lies_alike(const fbp_graph *graph, int n, int i) {
    const fbp_node *node = &graph->nodes[n];
    if (!graph->values[graph->inputs[n][i]].is.is.batched) return 0;
    return (i == 0 && node->in_place) || node->passes >> i & 1u;
}

/* Padding spreads from an input of node n to its result, or the other way. */
static int spread_padding(const fbp_graph *graph, int n, char *padded) {
    const fbp_node *node = &graph->nodes[n];
    char *result = &padded[graph->first_result[n]];
    int changed = 0;
    for (int i = 0; i < node->n_in; i++) {
        char *input = &padded[graph->inputs[n][i]];
        int alike = lies_alike(graph, n, i), before = *input + *result;
        if (node->row->padded >> i & 1u || (alike && *result)) *input = 1;
        if (node->row->padded_results || (alike && *input)) *result = 1;
        changed |= *input + *result != before;
    }
    return changed;
}

/* Rows of a value are padded where a node that makes or reads it, or a loss, wants that. */
static void lay_out(fbp_graph *graph, char *padded) {
    for (int i = 0; i < graph->n_losses; i++) padded[graph->losses[i].value] = 1;
    for (int changed = 1; changed;) {
        changed = 0;
        for (int n = 0; n < graph->n_nodes; n++) changed |= spread_padding(graph, n, padded);
    }
    for (int v = 0; v < graph->n_values; v++) {
        fbp_value *value = &graph->values[v];
        int64_t width = fbp_width(&value->is);
        int batched = value->is.is.batched && value->is.is.content == FBP_REAL;
        fbp_lay_out(&value->is, batched && padded[v] ? fbp_leading(graph->dtype, width) : width);
    }
}

/* The nodes see the values' layout; what they keep is dense. (Rows that run by themselves have
 * theirs.) */
static void settle_nodes(fbp_graph *graph) {
    for (int n = 0; n < graph->n_nodes; n++) {
        fbp_node *node = &graph->nodes[n];
        if (node->alone && node->callback == NULL) continue;
        for (int i = 0; i < node->n_in; i++) {
            fbp_value *x = &graph->values[graph->inputs[n][i]];
            node->in[i] = x->is;
            x->ones |= (int)(node->row->ones >> i & 1u);
        }
        for (int i = 0; i < node->n_out; i++)
            node->out[i] = graph->values[graph->first_result[n] + i].is;
        for (int i = node->n_out; i < node->n_out + node->n_kept; i++)
            fbp_lay_out(&node->out[i], fbp_width(&node->out[i]));
    }
}

fbp_status fbp_graph_lay_out(fbp_graph *graph) {
    char *padded = fbp_alloc((size_t)graph->n_values);
    if (padded == NULL) return FBP_NO_MEMORY;
    lay_out(graph, padded);
    fbp_free(padded);
    settle_nodes(graph);
    return FBP_OK;
}
