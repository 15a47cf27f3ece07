/* The buffers of a running call, and the packed copies of its weights. */
#include "core/pass.h"

fbp_weights *fbp_weights_carve(const fbp_plan *plan, const void *params, fbp_purpose purpose,
                               fbp_carver *carver) {
    fbp_weights *weights = fbp_carve(carver, plan->n_layers, sizeof *weights);
    for (int l = 0; l < plan->n_layers; l++) {
        const fbp_layer *layer = &plan->layers[l];
        size_t packed_bytes = 0, packed_t_bytes = 0;
        if (purpose != FBP_FOR_TRAINING || layer->products == FBP_PACKED)
            fbp_layer_ops(layer)->packed_bytes(layer, &packed_bytes, &packed_t_bytes);
        int backward = purpose == FBP_FOR_TRAINING || purpose == FBP_FOR_TANGENTS;
        if (l == 0 || !backward) packed_t_bytes = 0; /* no gradient goes there */
        size_t start_bytes =
            purpose == FBP_FOR_FEW_ROWS ? fbp_layer_ops(layer)->direct_bytes(layer) : 0;
        if (start_bytes > 0) packed_bytes = 0;
        void *packed = fbp_carve(carver, (int64_t)packed_bytes, 1);
        void *packed_t = fbp_carve(carver, (int64_t)packed_t_bytes, 1);
        void *start = fbp_carve(carver, (int64_t)start_bytes, 1);
        if (carver->base == NULL) continue;
        weights[l].params = fbp_at(plan, params, layer->offset);
        weights[l].packed = packed_bytes > 0 ? packed : NULL;
        weights[l].packed_t = packed_t_bytes > 0 ? packed_t : NULL;
        weights[l].start = start_bytes > 0 ? start : NULL;
    }
    return weights;
}

void fbp_weights_pack(const fbp_plan *plan, const fbp_weights *weights, const fbp_team *team) {
    fbp_range share = fbp_tiles_share(plan, team);
    for (int64_t t = share.begin; t < share.end; t++) {
        const fbp_tile *tile = &plan->tiles[t];
        const fbp_layer *layer = &plan->layers[tile->layer];
        fbp_layer_ops(layer)->pack(layer, &weights[tile->layer], tile->begin, tile->end);
    }
}

void fbp_pass_carve(fbp_pass *pass, const fbp_plan *plan, const void *params, int64_t batch,
                    int n_threads, fbp_carver *carver) {
    size_t size = fbp_size(plan->dtype);
    int n = plan->n_layers;
    pass->plan = plan;
    pass->batch = batch;
    pass->weights = fbp_weights_carve(plan, params, FBP_FOR_TRAINING, carver);
    pass->input = fbp_carve(carver, n, sizeof *pass->input);
    pass->delta = fbp_carve(carver, n, sizeof *pass->delta);
    for (int l = 0; l < n; l++) {
        const fbp_layer *layer = &plan->layers[l];
        int64_t input_rows = l == 0 && plan->sparse ? 0 : batch;
        void *input = fbp_carve(carver, input_rows * layer->ld_in, size);
        void *delta = fbp_carve(carver, batch * layer->ld_out, size);
        if (carver->base == NULL) continue;
        pass->input[l] = input;
        pass->delta[l] = delta;
    }
    pass->target = fbp_carve(carver, batch, fbp_target_bytes(plan));
    pass->scale = fbp_carve(carver, batch, size);
    pass->loss = fbp_carve(carver, batch, size);
    int64_t rows = fbp_row_tile(plan, batch) * plan->widest;
    int64_t tile = plan->largest_tile + fbp_pad(plan->dtype); /* products overrun their end */
    pass->thread_bytes = fbp_carved_bytes(rows > tile ? rows : tile, size);
    pass->threads = fbp_carve(carver, n_threads, pass->thread_bytes);
    pass->n_blocks = fbp_row_blocks(plan, batch);
    pass->n_partials = pass->n_blocks > 1 ? (int64_t)plan->n_tiles * pass->n_blocks : 0;
    pass->partial_bytes = fbp_carved_bytes(tile, size);
    pass->partials = fbp_carve(carver, pass->n_partials, pass->partial_bytes);
    pass->formed = fbp_carve(carver, pass->n_blocks > 1 ? plan->n_tiles : 0, sizeof *pass->formed);
}
