/* The weights phase: the batch complete, each thread forms gradients of its tiles of the parameters
 * over all samples. A gradient is formed in parts: one for each use of the parameter and, where
 * there are few parameters and many rows, for each block of samples. Several threads may take them;
 * they are added in their order by whoever forms the last, so nobody waits, and the bits are the
 * same whoever that is. */
#include "core/pass.h"

/* ---- shares ---- */

static int uses_of(const fbp_plan *plan, int p) {
    return plan->first_use[p + 1] - plan->first_use[p];
}

/* What a unit of a tile costs, in 1/64 of an element over all samples. */
static int64_t unit_cost(const fbp_plan *plan, const fbp_tile *tile, int parts) {
    return 64 * tile->cost * uses_of(plan, tile->parameter) / parts;
}

/* Parts of a tile's gradient; with rows of 0, one. */
static int parts_of(const fbp_plan *plan, const fbp_tile *tile, int64_t rows) {
    return rows == 0 ? 1 : fbp_parts_of(plan, tile->parameter, rows);
}

/* A unit belongs to the thread in whose part of the total cost its middle lies. */
fbp_range fbp_units_share(const fbp_plan *plan, int64_t rows, const fbp_team *team) {
    int64_t total = 0, before = 0, u = 0;
    for (int t = 0; t < plan->n_tiles; t++) {
        int parts = parts_of(plan, &plan->tiles[t], rows);
        total += parts * unit_cost(plan, &plan->tiles[t], parts);
    }
    fbp_range share = {-1, -1};
    for (int t = 0; t < plan->n_tiles; t++) {
        int parts = parts_of(plan, &plan->tiles[t], rows);
        int64_t cost = unit_cost(plan, &plan->tiles[t], parts);
        for (int part = 0; part < parts; part++, u++, before += cost) {
            /* The middle, doubled: costs are far from where that would overflow. */
            double middle = (double)(2 * before + cost) / (double)(2 * total);
            int owner = (int)(middle * team->size);
            if (owner >= team->thread && share.begin < 0) share.begin = u;
            if (owner > team->thread && share.end < 0) share.end = u;
        }
    }
    if (share.end < 0) share.end = u;
    if (share.begin < 0 || share.begin > share.end) share.begin = share.end;
    return share;
}

fbp_range fbp_tiles_share(const fbp_plan *plan, const fbp_team *team) {
    return fbp_units_share(plan, 0, team);
}

fbp_units fbp_units_begin(const fbp_plan *plan, int64_t rows, int most_parts, fbp_range share) {
    fbp_units units = {.n_parts = 1, .most_parts = most_parts, .left = share.end - share.begin};
    int64_t skipped = share.begin;
    if (most_parts == 1) {
        units.tile = (int)skipped;
        return units;
    }
    for (; units.tile < plan->n_tiles; units.tile++) {
        units.n_parts = parts_of(plan, &plan->tiles[units.tile], rows);
        if (skipped < units.n_parts) break;
        skipped -= units.n_parts;
    }
    units.part = (int)skipped;
    return units;
}

void fbp_units_next(const fbp_plan *plan, int64_t rows, fbp_units *units) {
    units->left--;
    if (++units->part < units->n_parts || units->left == 0) return;
    units->part = 0;
    units->tile++;
    if (units->most_parts > 1) units->n_parts = parts_of(plan, &plan->tiles[units->tile], rows);
}

/* ---- gradients ---- */

/* The part of a tile's gradient that one use has, over rows of the batch. */
static void form(const fbp_pass *pass, const fbp_batch *batch, const fbp_tile *tile,
                 const fbp_use *use, fbp_range rows, int add, void *g, const fbp_team *team) {
    const fbp_node *node = &pass->plan->graph.nodes[use->node];
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, batch, team);
    lane.row = rows.begin;
    lane.rows = rows.end - rows.begin;
    fbp_call *call = fbp_lane_backward(&lane, use->node);
    fbp_node_ops(node)->backward_shared(node, call, use->input, tile->begin, tile->end, add, g);
}

void fbp_tile_gradient(const fbp_pass *pass, const fbp_batch *batch, const fbp_tile *tile, int add,
                       void *g, const fbp_team *team) {
    fbp_range all = {0, batch->rows};
    const fbp_use *use = &pass->plan->uses[pass->plan->first_use[tile->parameter]];
    form(pass, batch, tile, use, all, add, g, team);
}

void fbp_units_reset(fbp_pass *pass) {
    for (int t = 0; pass->most_parts > 1 && t < pass->plan->n_tiles; t++)
        fbp_counter_set(&pass->formed[t], 0);
}

static char *partial_of(const fbp_pass *pass, int tile, int part) {
    return pass->partials + (size_t)((int64_t)tile * pass->most_parts + part) * pass->partial_bytes;
}

/* The blocks of each use, and then the uses, each in their order. */
static void *add_up(const fbp_pass *pass, int t, int64_t rows) {
    const fbp_plan *plan = pass->plan;
    const fbp_tile *tile = &plan->tiles[t];
    int part = 0;
    for (int u = plan->first_use[tile->parameter]; u < plan->first_use[tile->parameter + 1]; u++) {
        int64_t blocks = fbp_shared_blocks(&plan->graph.nodes[plan->uses[u].node], rows);
        void *first = partial_of(pass, t, part);
        for (int64_t b = 1; b < blocks; b++)
            plan->vector->add_scaled(tile->cost, 1.0, partial_of(pass, t, part + (int)b), first);
        if (part > 0) plan->vector->add_scaled(tile->cost, 1.0, first, partial_of(pass, t, 0));
        part += (int)blocks;
    }
    return partial_of(pass, t, 0);
}

const fbp_use *fbp_unit_use(const fbp_plan *plan, int64_t rows, const fbp_units *unit,
                            int64_t *block, int64_t *blocks) {
    const fbp_use *use = &plan->uses[plan->first_use[plan->tiles[unit->tile].parameter]];
    for (*block = unit->part;; use++, *block -= *blocks) {
        *blocks = fbp_shared_blocks(&plan->graph.nodes[use->node], rows);
        if (*block < *blocks || unit->n_parts == 1) return use;
    }
}

void *fbp_unit_gradient(fbp_pass *pass, const fbp_batch *batch, const fbp_units *unit,
                        const fbp_team *team) {
    const fbp_plan *plan = pass->plan;
    const fbp_tile *tile = &plan->tiles[unit->tile];
    if (unit->n_parts == 1) {
        void *g = fbp_thread_gradient(pass, team);
        fbp_tile_gradient(pass, batch, tile, 0, g, team);
        return g;
    }
    int64_t b, blocks;
    const fbp_use *use = fbp_unit_use(plan, batch->rows, unit, &b, &blocks);
    fbp_range rows = {batch->rows * b / blocks, batch->rows * (b + 1) / blocks};
    form(pass, batch, tile, use, rows, 0, partial_of(pass, unit->tile, unit->part), team);
    fbp_counter *formed = &pass->formed[unit->tile];
    if (fbp_counter_add(formed, 1) < unit->n_parts) return NULL;
    fbp_counter_set(formed, 0);
    return add_up(pass, unit->tile, batch->rows);
}
