/* The weights phase: the batch complete, each thread forms gradients of its tiles of the weights
 * over all rows. Where there are few weights and many rows, the rows are cut into blocks as well,
 * which several threads may take; a tile's partial gradients are added in the order of the blocks
 * by whoever forms the last of them, so nobody waits, and the bits are the same whoever that is. */
#include "core/pass.h"

/* ---- shares ---- */

/* A unit belongs to the thread in whose part of the total cost its middle lies. */
fbp_range fbp_units_share(const fbp_plan *plan, int n_blocks, const fbp_team *team) {
    int64_t n_units = (int64_t)plan->n_tiles * n_blocks, before = 0;
    fbp_range share = {n_units, n_units};
    for (int64_t u = 0; u < n_units; u++) {
        int64_t cost = plan->tiles[u / n_blocks].cost;
        int64_t middle = 2 * before + cost; /* twice the cost up to the middle */
        int64_t owner = middle * team->size / (2 * plan->n_params * n_blocks);
        if (owner >= team->thread && u < share.begin) share.begin = u;
        if (owner > team->thread) {
            share.end = u;
            break;
        }
        before += cost;
    }
    if (share.begin > share.end) share.begin = share.end;
    return share;
}

fbp_range fbp_tiles_share(const fbp_plan *plan, const fbp_team *team) {
    return fbp_units_share(plan, 1, team);
}

/* ---- gradients ---- */

static void gradient(const fbp_pass *pass, const fbp_batch *batch, const fbp_tile *tile,
                     fbp_range rows, int add, void *g) {
    const fbp_plan *plan = pass->plan;
    const fbp_layer *layer = &plan->layers[tile->layer];
    fbp_sparse_rows sparse = fbp_batch_sparse(batch, rows.begin);
    const void *x = tile->layer == 0 && plan->sparse
                        ? (const void *)&sparse
                        : fbp_at(plan, pass->input[tile->layer], rows.begin * layer->ld_in);
    const void *dy = fbp_at(plan, pass->delta[tile->layer], rows.begin * layer->ld_out);
    fbp_layer_ops(layer)->backward_params(layer, tile->begin, tile->end, rows.end - rows.begin, x,
                                          dy, add, g);
}

void fbp_tile_gradient(const fbp_pass *pass, const fbp_batch *batch, const fbp_tile *tile, int add,
                       void *g) {
    fbp_range all = {0, batch->rows};
    gradient(pass, batch, tile, all, add, g);
}

void fbp_units_reset(fbp_pass *pass) {
    for (int t = 0; pass->n_blocks > 1 && t < pass->plan->n_tiles; t++)
        fbp_counter_set(&pass->formed[t], 0);
}

void *fbp_unit_gradient(fbp_pass *pass, const fbp_batch *batch, int64_t unit,
                        const fbp_team *team) {
    const fbp_plan *plan = pass->plan;
    int n = pass->n_blocks;
    int64_t t = unit / n, b = unit % n;
    const fbp_tile *tile = &plan->tiles[t];
    if (n == 1) {
        void *g = fbp_thread_scratch(pass, team);
        fbp_tile_gradient(pass, batch, tile, 0, g);
        return g;
    }
    char *partials = pass->partials + (size_t)(t * n) * pass->partial_bytes;
    fbp_range rows = {batch->rows * b / n, batch->rows * (b + 1) / n};
    gradient(pass, batch, tile, rows, 0, partials + (size_t)b * pass->partial_bytes);
    if (fbp_counter_add(&pass->formed[t], 1) < n) return NULL;
    fbp_counter_set(&pass->formed[t], 0);
    for (int i = 1; i < n; i++)
        plan->vector->add_scaled(tile->cost, 1.0, partials + (size_t)i * pass->partial_bytes,
                                 partials);
    return partials;
}
