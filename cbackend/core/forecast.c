/* What is known of a plan before it runs: what it is, its FLOPs, and how its work spreads over
 * threads. (Its memory is counted where it is carved, in fit.c.) */
#include "core/pass.h"

fbp_plan_info fbp_plan_describe(const fbp_plan *plan) {
    fbp_plan_info info = {plan->n_inputs, plan->n_outputs, plan->n_params,  plan->n_layers,
                          plan->dtype,    plan->sparse,    plan->uses_blas, plan->loss};
    return info;
}

fbp_layer_info fbp_plan_layer(const fbp_plan *plan, int index) {
    const fbp_layer *layer = &plan->layers[index];
    fbp_layer_info info = {
        layer->op->name, layer->activation == NULL ? NULL : layer->activation->name,
        layer->n_in,     layer->n_out,
        layer->offset,   layer->products};
    return info;
}

/* A product of m x k by k x n takes 2 m k n: forward has one a layer, backward one for the weights
 * and, but in the first layer, one for the input. */
void fbp_plan_flops(const fbp_plan *plan, double *forward, double *backward) {
    *forward = *backward = 0.0;
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        double product = fbp_product_flops(layer);
        double bias = (double)layer->n_out;
        double curve = layer->activation == NULL ? 0.0 : layer->activation->flops * bias;
        *forward += product + bias + curve;
        *backward += product + bias + curve + (l > 0 ? product : 0.0);
    }
    *forward += plan->loss->flops * (double)plan->n_outputs;
}

/* The share of the busiest thread in the cost of the weights phase. */
static double busiest_share(const fbp_plan *plan, int n_blocks, int n_threads) {
    int64_t most = 0;
    for (int i = 0; i < n_threads; i++) {
        fbp_team team = {i, n_threads, NULL};
        fbp_range units = fbp_units_share(plan, n_blocks, &team);
        int64_t cost = 0;
        for (int64_t u = units.begin; u < units.end; u++) cost += plan->tiles[u / n_blocks].cost;
        if (cost > most) most = cost;
    }
    return (double)most / (double)(plan->n_params * n_blocks);
}

fbp_balance fbp_plan_balance(const fbp_plan *plan, int64_t batch, int n_threads) {
    int n_blocks = fbp_row_blocks(plan, batch);
    int by_columns = fbp_cuts_columns(plan, batch, batch, n_threads);
    double all = fbp_rows_span(plan, batch, batch, 1, 0);
    double span = fbp_rows_span(plan, batch, batch, n_threads, by_columns);
    fbp_balance balance = {all / n_threads / span,
                           1.0 / n_threads / busiest_share(plan, n_blocks, n_threads), by_columns,
                           n_blocks};
    return balance;
}
