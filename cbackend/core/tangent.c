/* Forward mode, and forward over reverse: the derivative of a pass along one direction of the
 * parameters (and, in forward mode, of the samples). One thread, tile by tile, on our own
 * kernels. */
#include <string.h>

#include "core/pass.h"
#include "core/status.h"

enum { tangent_rows = 64 };

/* For each layer l and one tile of rows: its input x and pre-activation z, the gradients d by z,
 * and the tangents of the three. */
typedef struct {
    const fbp_plan *plan;
    const void *params, *tparams;
    fbp_weights *weights, *tweights;
    void **x, **tx, **z, **tz, **d, **td;
    void *g, *tg, *scratch; /* one tile each */
    void *scale, *loss;
} fbp_tangents;

static void **carve_tiles(const fbp_plan *plan, int n, fbp_carver *carver) {
    void **tiles = fbp_carve(carver, n, sizeof *tiles);
    for (int i = 0; i < n; i++) {
        void *tile = fbp_carve(carver, tangent_rows * plan->widest, fbp_size(plan->dtype));
        if (carver->base != NULL) tiles[i] = tile;
    }
    return tiles;
}

static void carve(void *context, fbp_carver *carver) {
    fbp_tangents *call = context;
    const fbp_plan *plan = call->plan;
    int n = plan->n_layers;
    call->weights = fbp_weights_carve(plan, call->params, FBP_FOR_TANGENTS, carver);
    call->tweights = fbp_weights_carve(plan, call->tparams, FBP_FOR_TANGENTS, carver);
    call->x = carve_tiles(plan, n, carver);
    call->tx = carve_tiles(plan, n, carver);
    call->z = carve_tiles(plan, n, carver);
    call->tz = carve_tiles(plan, n, carver);
    call->d = carve_tiles(plan, n, carver);
    call->td = carve_tiles(plan, n, carver);
    size_t size = fbp_size(plan->dtype);
    call->g = fbp_carve(carver, tangent_rows * plan->widest, size);
    call->tg = fbp_carve(carver, tangent_rows * plan->widest, size);
    call->scratch = fbp_carve(carver, tangent_rows * plan->widest, size);
    call->scale = fbp_carve(carver, tangent_rows, size);
    call->loss = fbp_carve(carver, tangent_rows, size);
}

static fbp_status start(fbp_tangents *call, fbp_plan *plan, fbp_scratch *scratch) {
    fbp_status status = fbp_pool_carve(&plan->pool, carve, call, scratch);
    if (status != FBP_OK) return status;
    fbp_weights_pack(plan, call->weights, &fbp_alone);
    fbp_weights_pack(plan, call->tweights, &fbp_alone);
    return FBP_OK;
}

/* What the activation of layer l saved: its input z, or its output, which the next layer reads. */
static const void *saved_by(const fbp_tangents *call, int l) {
    return call->plan->layers[l].activation->reads == FBP_READS_OUTPUT ? call->x[l + 1]
                                                                       : call->z[l];
}

/* Forward through all layers for samples first to first + rows - 1; tx0 is NULL or the tangent of
 * the samples (n_samples, n_inputs), dense. */
static void forward(fbp_tangents *call, const fbp_samples *x, const void *tx0, int64_t first,
                    int64_t rows) {
    const fbp_plan *plan = call->plan;
    const fbp_vector_kernels *vector = plan->vector;
    int64_t ld = plan->layers[0].ld_in;
    fbp_sparse_rows sparse = {x, first, NULL};
    if (!plan->sparse)
        vector->gather(rows, x->cols, fbp_at(plan, x->data, first * x->row_stride), x->row_stride,
                       x->col_stride, NULL, call->x[0], ld);
    if (tx0 != NULL) {
        vector->gather(rows, x->cols, fbp_at(plan, tx0, first * x->cols), x->cols, 1, NULL,
                       call->tx[0], ld);
        vector->set_bias_input(rows, x->cols, ld, 0.0, call->tx[0]);
    }
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        const fbp_layer_kernels *ops = fbp_layer_ops(layer);
        const void *in = l == 0 && plan->sparse ? (const void *)&sparse : call->x[l];
        const void *tin = l == 0 && tx0 == NULL ? NULL : call->tx[l];
        ops->forward(layer, &call->weights[l], rows, 0, layer->n_out, in, call->z[l]);
        ops->forward_tangent(layer, &call->weights[l], &call->tweights[l], rows, in, tin,
                             call->tz[l], call->scratch);
        if (l + 1 == plan->n_layers) return;
        int64_t n = rows * layer->ld_out;
        if (layer->activation == NULL) {
            memcpy(call->x[l + 1], call->z[l], (size_t)n * fbp_size(plan->dtype));
            memcpy(call->tx[l + 1], call->tz[l], (size_t)n * fbp_size(plan->dtype));
        } else {
            const fbp_activation_kernels *activation = fbp_layer_activation(layer);
            activation->value(n, call->z[l], call->x[l + 1], layer->activation_attrs);
            activation->backward(n, call->tz[l], saved_by(call, l), call->tx[l + 1],
                                 layer->activation_attrs);
        }
        vector->set_bias_input(rows, layer->n_out, layer->ld_out, 1.0, call->x[l + 1]);
        vector->set_bias_input(rows, layer->n_out, layer->ld_out, 0.0, call->tx[l + 1]);
    }
}

fbp_status fbp_tangent(fbp_plan *plan, const void *params, const fbp_samples *x,
                       const void *tparams, const void *tx, void *tz) {
    fbp_status status = fbp_check_samples(plan, x);
    if (status != FBP_OK) return status;
    for (int l = 0; l < plan->n_layers; l++)
        if (fbp_layer_ops(&plan->layers[l])->forward_tangent == NULL)
            return fbp_fail(FBP_ABSENT, "the row '%s' has no tangent", plan->layers[l].op->name);
    if (tx != NULL && plan->sparse)
        return fbp_fail(FBP_ABSENT, "dX: the row '%s' has no tangent in its samples",
                        plan->layers[0].op->name);
    fbp_tangents call = {.plan = plan, .params = params, .tparams = tparams};
    fbp_scratch scratch;
    status = start(&call, plan, &scratch);
    if (status != FBP_OK) return status;
    int last = plan->n_layers - 1;
    int64_t k = plan->n_outputs, ld = plan->layers[last].ld_out;
    for (int64_t first = 0; first < x->rows; first += tangent_rows) {
        int64_t rows = x->rows - first < tangent_rows ? x->rows - first : tangent_rows;
        forward(&call, x, tx, first, rows);
        for (int64_t r = 0; r < rows; r++)
            memcpy(fbp_at(plan, tz, (first + r) * k), fbp_at(plan, call.tz[last], r * ld),
                   (size_t)k * fbp_size(plan->dtype));
    }
    fbp_pool_give(&plan->pool, scratch);
    return FBP_OK;
}

/* From the loss back to the first layer, gradients and their tangents side by side. */
static void backward(fbp_tangents *call, const fbp_problem *problem, int64_t first, int64_t rows,
                     double weight) {
    const fbp_plan *plan = call->plan;
    int last = plan->n_layers - 1;
    fbp_batch batch = {problem, NULL, first, rows, weight};
    const char *target = (const char *)problem->target + (size_t)first * fbp_target_bytes(plan);
    fbp_batch_scales(plan, &batch, 0, rows, call->scale);
    int64_t k = plan->n_outputs, ld = plan->layers[last].ld_out;
    fbp_plan_loss(plan)->forward(rows, k, ld, call->z[last], target, call->scale, call->loss,
                                 call->d[last], plan->loss_attrs);
    fbp_plan_loss(plan)->tangent(rows, k, ld, call->z[last], call->tz[last], target, call->scale,
                                 NULL, call->td[last], plan->loss_attrs);
    for (int l = last; l > 0; l--) {
        const fbp_layer *layer = &plan->layers[l], *before = &plan->layers[l - 1];
        const fbp_layer_kernels *ops = fbp_layer_ops(layer);
        int plain = before->activation == NULL;
        void *g = plain ? call->d[l - 1] : call->g, *tg = plain ? call->td[l - 1] : call->tg;
        ops->backward_input(layer, &call->weights[l], rows, 0, layer->n_in, call->d[l], g);
        ops->backward_input_tangent(layer, &call->weights[l], &call->tweights[l], rows, call->d[l],
                                    call->td[l], tg, call->scratch);
        if (plain) continue;
        const fbp_activation_kernels *activation = fbp_layer_activation(before);
        int64_t n = rows * before->ld_out;
        activation->backward(n, g, saved_by(call, l - 1), call->d[l - 1], before->activation_attrs);
        activation->backward_tangent(n, g, tg, saved_by(call, l - 1), call->tz[l - 1],
                                     call->td[l - 1], before->activation_attrs);
    }
}

static fbp_status check_tangents(const fbp_plan *plan) {
    if (fbp_plan_loss(plan)->tangent == NULL)
        return fbp_fail(FBP_ABSENT, "the loss '%s' has no tangent", plan->loss->name);
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        const fbp_layer_kernels *ops = fbp_layer_ops(layer);
        if (ops->forward_tangent == NULL || ops->backward_params_tangent == NULL ||
            (l > 0 && ops->backward_input_tangent == NULL))
            return fbp_fail(FBP_ABSENT, "the row '%s' has no tangent of its backward",
                            layer->op->name);
        if (layer->activation != NULL && fbp_layer_activation(layer)->backward_tangent == NULL)
            return fbp_fail(FBP_ABSENT, "the activation '%s' has no tangent of its backward",
                            layer->activation->name);
    }
    return FBP_OK;
}

fbp_status fbp_hessian_product(fbp_plan *plan, const void *params, const fbp_problem *problem,
                               const void *v, void *product) {
    double weight = 0.0;
    fbp_status status = fbp_check_problem(plan, problem, &weight);
    if (status == FBP_OK) status = check_tangents(plan);
    if (status != FBP_OK) return status;
    fbp_tangents call = {.plan = plan, .params = params, .tparams = v};
    fbp_scratch scratch;
    status = start(&call, plan, &scratch);
    if (status != FBP_OK) return status;
    memset(product, 0, (size_t)plan->n_params * fbp_size(plan->dtype));
    for (int64_t first = 0; first < problem->x.rows; first += tangent_rows) {
        int64_t left = problem->x.rows - first, rows = left < tangent_rows ? left : tangent_rows;
        forward(&call, &problem->x, NULL, first, rows);
        backward(&call, problem, first, rows, weight);
        fbp_sparse_rows sparse = {&problem->x, first, NULL};
        for (int l = 0; l < plan->n_layers; l++) {
            const fbp_layer *layer = &plan->layers[l];
            const void *x = l == 0 && plan->sparse ? (const void *)&sparse : call.x[l];
            fbp_layer_ops(layer)->backward_params_tangent(
                layer, rows, x, l == 0 ? NULL : call.tx[l], call.d[l], call.td[l],
                fbp_at(plan, product, layer->offset));
        }
    }
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        plan->vector->add_scaled(layer->n_in * layer->n_out, problem->alpha / weight,
                                 fbp_at(plan, v, layer->offset),
                                 fbp_at(plan, product, layer->offset));
    }
    fbp_pool_give(&plan->pool, scratch);
    return FBP_OK;
}
