/* The weights phase: the batch complete, each thread forms gradients of its tiles of the parameters
 * over all samples. A gradient is formed in parts: one for each use of the parameter and, where
 * there are few parameters and many rows, for each block of samples. Several threads may take them;
 * they are added in their order by whoever forms the last, so nobody waits, and the bits are the
 * same whoever that is. */
#include <string.h>

#include "core/pass.h"

/* ---- shares ---- */

static int uses_of(const fbp_plan *plan, int p) {
    return plan->first_use[p + 1] - plan->first_use[p];
}

/* What a unit of a tile costs, in 1/64 of an element over all samples. */
static int64_t unit_cost(const fbp_plan *plan, const fbp_tile *tile, int parts) {
    return parts == 0 ? 0 : 64 * tile->cost * uses_of(plan, tile->parameter) / parts;
}

/* Of the blocks of samples in which a use's gradient is formed over the whole step, those that have
 * rows in the batch, if it is its turn. */
static fbp_range blocks_in(const fbp_plan *plan, const fbp_batch *batch, const fbp_use *use) {
    int64_t whole = fbp_batch_whole(batch), end = batch->before + batch->rows;
    int64_t blocks = fbp_use_blocks(plan, use, whole);
    fbp_range in = {0, blocks}, none = {0, 0};
    if (batch->turn != FBP_ALL_TURNS && plan->training.turn_of[use->node] != batch->turn)
        return none;
    if (fbp_comes_last(plan, use)) in.begin = batch->after > 0;
    if (whole == batch->rows || fbp_comes_last(plan, use)) return in;
    while (whole * (in.begin + 1) / blocks <= batch->before) in.begin++;
    while (whole * (in.end - 1) / blocks >= end) in.end--;
    return in;
}

/* Parts of a tile's gradient that have rows in the batch, and their turn; without a batch, one. */
static int parts_of(const fbp_plan *plan, const fbp_tile *tile, const fbp_batch *batch) {
    int p = tile->parameter;
    if (batch == NULL) return 1;
    int all = plan->training.n_turns == 0 || batch->turn == FBP_ALL_TURNS;
    if (all && batch->before + batch->after == 0) return fbp_parts_of(plan, p, batch->rows);
    int64_t parts = 0;
    for (int u = plan->first_use[p]; u < plan->first_use[p + 1]; u++) {
        fbp_range in = blocks_in(plan, batch, &plan->uses[u]);
        parts += in.end - in.begin;
    }
    return (int)parts;
}

/* A unit belongs to the thread in whose part of the total cost its middle lies. */
fbp_range fbp_units_share(const fbp_plan *plan, const fbp_batch *batch, const fbp_team *team) {
    int64_t total = 0, before = 0, u = 0;
    for (int t = 0; t < plan->n_tiles; t++) {
        int parts = parts_of(plan, &plan->tiles[t], batch);
        total += parts * unit_cost(plan, &plan->tiles[t], parts);
    }
    fbp_range share = {-1, -1};
    for (int t = 0; t < plan->n_tiles; t++) {
        int parts = parts_of(plan, &plan->tiles[t], batch);
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
    return fbp_units_share(plan, NULL, team);
}

fbp_units fbp_units_begin(const fbp_plan *plan, const fbp_batch *batch, int most_parts,
                          fbp_range share) {
    fbp_units units = {.n_parts = 1, .most_parts = most_parts, .left = share.end - share.begin};
    int64_t skipped = share.begin;
    if (most_parts == 1) {
        units.tile = (int)skipped;
        return units;
    }
    for (; units.tile < plan->n_tiles; units.tile++) {
        units.n_parts = parts_of(plan, &plan->tiles[units.tile], batch);
        if (skipped < units.n_parts) break;
        skipped -= units.n_parts;
    }
    units.part = (int)skipped;
    return units;
}

void fbp_units_next(const fbp_plan *plan, const fbp_batch *batch, fbp_units *units) {
    units->left--;
    if (++units->part < units->n_parts || units->left == 0) return;
    units->part = 0;
    do {
        units->tile++;
        if (units->most_parts > 1)
            units->n_parts = parts_of(plan, &plan->tiles[units->tile], batch);
    } while (units->n_parts == 0);
}

/* ---- gradients ---- */

/* Of a gradient that a node by itself has yielded. */
static void take(const fbp_lane *lane, const fbp_tile *tile, const fbp_use *use, int add, void *g) {
    const fbp_plan *plan = lane->pass->plan;
    const fbp_operand *is = &plan->graph.values[plan->graph.inputs[use->node][use->input]].is;
    int at = lane->pass->schedule->dx_at[use->node * FBP_MAX_INPUTS + use->input];
    const void *from = fbp_at(plan, fbp_lane_buffer(lane, at, is), tile->begin * fbp_width(is));
    if (add)
        plan->vector->add_scaled(tile->cost, 1.0, from, g);
    else
        memcpy(g, from, (size_t)tile->cost * fbp_size(plan->dtype));
}

/* The part of a tile's gradient that one use has, over rows of the batch. */
static void form(fbp_lane *lane, const fbp_tile *tile, const fbp_use *use, fbp_range rows, int add,
                 void *g) {
    fbp_range of = {tile->begin, tile->end};
    if (lane->pass->plan->graph.nodes[use->node].alone)
        take(lane, tile, use, add, g);
    else
        fbp_sum_over_rows(lane, use->node, use->input, rows, of, add, g);
}

void fbp_tile_gradient(fbp_lane *lane, const fbp_tile *tile, int add, void *g) {
    const fbp_plan *plan = lane->pass->plan;
    fbp_range all = {0, lane->batch->rows};
    form(lane, tile, &plan->uses[plan->first_use[tile->parameter]], all, add, g);
}

void fbp_units_reset(fbp_pass *pass) {
    fbp_counter_set(&pass->summed, 0);
    for (int t = 0; pass->most_parts > 1 && t < pass->plan->n_tiles; t++)
        fbp_counter_set(&pass->formed[t], 0);
}

static char *partial_of(const fbp_pass *pass, int tile, int part) {
    size_t bytes = fbp_partial_bytes(pass->plan, &pass->plan->tiles[tile]);
    return pass->partials + (size_t)pass->partials_at[tile] + (size_t)part * bytes;
}

/* The blocks of each use, and then the uses, each in their order. */
static void *add_up(const fbp_pass *pass, int t, int64_t rows) {
    const fbp_plan *plan = pass->plan;
    const fbp_tile *tile = &plan->tiles[t];
    int part = 0;
    for (int u = plan->first_use[tile->parameter]; u < plan->first_use[tile->parameter + 1]; u++) {
        int64_t blocks = fbp_use_blocks(plan, &plan->uses[u], rows);
        void *first = partial_of(pass, t, part);
        for (int64_t b = 1; b < blocks; b++)
            plan->vector->add_scaled(tile->cost, 1.0, partial_of(pass, t, part + (int)b), first);
        if (part > 0) plan->vector->add_scaled(tile->cost, 1.0, first, partial_of(pass, t, 0));
        part += (int)blocks;
    }
    return partial_of(pass, t, 0);
}

fbp_part fbp_unit_part(const fbp_plan *plan, const fbp_batch *batch, const fbp_units *unit) {
    fbp_part part = {.use = &plan->uses[plan->first_use[plan->tiles[unit->tile].parameter]]};
    for (int64_t skipped = unit->part;; part.use++) {
        fbp_range in = blocks_in(plan, batch, part.use);
        part.blocks = fbp_use_blocks(plan, part.use, fbp_batch_whole(batch));
        part.block = in.begin + skipped;
        if (part.block < in.end) break;
        skipped -= in.end - in.begin;
        part.part += (int)part.blocks;
    }
    part.part += (int)part.block;
    return part;
}

/* The one part of a tile's gradient, which lies in the sum of the step where that is kept. */
static void *form_alone(fbp_lane *lane, const fbp_tile *tile) {
    const fbp_plan *plan = lane->pass->plan;
    const fbp_batch *batch = lane->batch;
    void *g = fbp_lane_parameters(lane), *sum = fbp_at(plan, lane->pass->gradient, tile->offset);
    int last = fbp_comes_last(plan, &plan->uses[plan->first_use[tile->parameter]]);
    if (last && batch->after > 0) return NULL;
    if (batch->before > 0 && !last) {
        fbp_tile_gradient(lane, tile, 1, sum);
        g = sum;
    } else {
        fbp_tile_gradient(lane, tile, 0, g); /* overruns its end, as the sum may not */
        if (batch->after > 0) memcpy(sum, g, (size_t)tile->cost * fbp_size(plan->dtype));
    }
    return batch->after > 0 ? NULL : g;
}

void *fbp_unit_gradient(fbp_lane *lane, const fbp_units *unit) {
    const fbp_pass *pass = lane->pass;
    const fbp_batch *batch = lane->batch;
    const fbp_plan *plan = pass->plan;
    const fbp_tile *tile = &plan->tiles[unit->tile];
    int64_t whole = fbp_batch_whole(batch), end = batch->before + batch->rows;
    int n_parts = pass->most_parts == 1 ? 1 : fbp_parts_of(plan, tile->parameter, whole);
    if (n_parts == 1) return form_alone(lane, tile);
    fbp_part part = fbp_unit_part(plan, batch, unit);
    fbp_range rows = {whole * part.block / part.blocks, whole * (part.block + 1) / part.blocks};
    int begun = rows.begin < batch->before && !fbp_comes_last(plan, part.use);
    int done = rows.end <= end;
    rows.begin = begun ? 0 : rows.begin - batch->before;
    rows.end = (done ? rows.end : end) - batch->before;
    form(lane, tile, part.use, rows, begun, partial_of(pass, unit->tile, part.part));
    fbp_counter *formed = &pass->formed[unit->tile];
    if (!done || fbp_counter_add(formed, 1) < n_parts) return NULL;
    fbp_counter_set(formed, 0);
    return add_up(pass, unit->tile, whole);
}

/* ---- turns ---- */

void fbp_take_turn(fbp_pass *pass, const fbp_batch *batch, const fbp_team *team, int turn) {
    if (pass->form == NULL) return;
    const fbp_plan *plan = pass->plan;
    fbp_batch at = *batch;
    at.turn = turn;
    fbp_lane lane;
    fbp_lane_begin(&lane, pass, &at, team);
    int parts = plan->training.n_turns > 0 ? 2 : pass->most_parts; /* or none, of some tiles */
    fbp_units units = fbp_units_begin(plan, &at, parts, fbp_units_share(plan, &at, team));
    for (; units.left > 0 && !fbp_pass_stopped(pass); fbp_units_next(plan, &at, &units)) {
        pass->form(pass->form_context, &lane, &units);
        int64_t products = plan->tiles[units.tile].cost * at.rows / units.n_parts;
        fbp_watch_work(&pass->watch, team, 2.0 * (double)products);
    }
}
