/* Cutting parameters: the tiles of the weights phase, where each gradient comes from, and in how
 * many parts it is formed. All by the shapes alone. */
#include "core/plan.h"

/* ---- parts of a gradient ---- */

int fbp_parts_of(const fbp_plan *plan, int p, int64_t samples) {
    int64_t parts = 0;
    for (int u = plan->first_use[p]; u < plan->first_use[p + 1]; u++)
        parts += fbp_use_blocks(plan, &plan->uses[u], samples);
    return (int)parts;
}

int fbp_most_parts(const fbp_plan *plan, int64_t samples) {
    int most = 1;
    for (int t = 0; t < plan->n_tiles; t++) {
        int parts = fbp_parts_of(plan, plan->tiles[t].parameter, samples);
        if (parts > most) most = parts;
    }
    return most;
}

/* ---- tiles of parameters ---- */

/* Rows of a parameter seen as a matrix, of which the bias that follows may be one more. */
static int64_t rows_of(const fbp_plan *plan, int p) {
    return fbp_positions(&plan->graph.values[plan->graph.parameters[p].value].is);
}

static int64_t width_of(const fbp_plan *plan, int p) {
    return fbp_width(&plan->graph.values[plan->graph.parameters[p].value].is);
}

static int trains(const fbp_plan *plan, int p) {
    return plan->first_use[p] < plan->first_use[p + 1];
}

/* Whether parameter p is the bias that lies behind the weights of the one node that uses both, and
 * is not frozen where they are not, nor penalised: then tiles of the weights take it along. */
static int is_joined(const fbp_plan *plan, int p) {
    const fbp_use *use = &plan->uses[plan->first_use[p]];
    const fbp_use *before = use - 1;
    if (p == 0 || !trains(plan, p) || !trains(plan, p - 1)) return 0;
    if (plan->graph.parameters[p].penalised) return 0;
    if (plan->first_use[p + 1] - plan->first_use[p] != 1) return 0;
    if (plan->first_use[p] - plan->first_use[p - 1] != 1) return 0;
    const fbp_node *node = &plan->graph.nodes[use->node];
    return node->row->bias_follows && before->node == use->node && before->input == 1 &&
           use->input == 2;
}

/* Parameter rows of a tile: about 64 tiles, each of which reads the gradients of the whole batch,
 * and hardly more than 65536 elements where our own kernels run, so that gradient, weights and
 * optimiser state of a tile stay in the second cache together. Where samples have many rows each
 * these gradients are large, and their blocks occupy the threads: fewer, larger tiles. Whole groups
 * of rows: tiles meet at the ends of cache lines in the transposed copies, and of vectors where a
 * single output has the rows fill them. */
enum { ROW_GROUP = 16, LEAST_ELEMENTS = 1024, LEAST_OF_MANY_ROWS = 16384, MOST_ELEMENTS = 65536 };
enum { LEAST_OF_MIXED = 8192 }; /* of which each takes up the batch's gradients in 16 bits */

static int64_t tile_rows(const fbp_plan *plan, int p) {
    const fbp_node *node = &plan->graph.nodes[plan->uses[plan->first_use[p]].node];
    if (node->products == FBP_BLAS) return 256;
    int64_t least = fbp_positions(&node->out[0]) > 1 ? LEAST_OF_MANY_ROWS : LEAST_ELEMENTS;
    if (plan->half != NULL && least < LEAST_OF_MIXED) least = LEAST_OF_MIXED;
    int64_t elements = plan->graph.n_params / 64;
    if (elements < least) elements = least;
    if (elements > MOST_ELEMENTS) elements = MOST_ELEMENTS;
    int64_t rows = fbp_round_up(elements / width_of(plan, p) + 1, ROW_GROUP);
    /* A sparse tile searches every sample: fewer, larger tiles. */
    return node->row->reads_sparse && rows < 512 ? 512 : rows;
}

static int is_divisible(const fbp_plan *plan, int p) {
    int divisible = 1;
    for (int u = plan->first_use[p]; u < plan->first_use[p + 1]; u++)
        divisible &= plan->graph.nodes[plan->uses[u].node].row->divisible ||
                     plan->graph.nodes[plan->uses[u].node].alone;
    return divisible;
}

/* Counts the tiles of parameter p or, with room for them, makes them. A bias alone is no tile of
 * its own: for one row all gradients would be read again. */
static void cut_parameter(fbp_plan *plan, int p) {
    int64_t end = rows_of(plan, p), each = is_divisible(plan, p) ? tile_rows(plan, p) : end;
    if (p + 1 < plan->graph.n_parameters && is_joined(plan, p + 1)) end++;
    for (int64_t begin = 0, stop; begin < end; begin = stop, plan->n_tiles++) {
        stop = end - begin <= each + 1 ? end : begin + each;
        if (plan->tiles == NULL) continue;
        int64_t cost = (stop - begin) * width_of(plan, p);
        int64_t own = ((stop < rows_of(plan, p) ? stop : rows_of(plan, p)) - begin);
        fbp_tile tile = {.parameter = p,
                         .begin = begin,
                         .end = stop,
                         .cost = cost,
                         .own = own * width_of(plan, p),
                         .offset = plan->graph.parameters[p].offset + begin * width_of(plan, p)};
        tile.weights = plan->graph.parameters[p].penalised ? tile.own : 0;
        plan->tiles[plan->n_tiles] = tile;
        plan->tile_params += cost;
        if (cost > plan->largest_tile) plan->largest_tile = cost;
    }
}

static fbp_status cut_tiles(fbp_plan *plan) {
    for (int pass = 0; pass < 2; pass++) {
        plan->n_tiles = 0;
        for (int p = 0; p < plan->graph.n_parameters; p++)
            if (trains(plan, p) && !is_joined(plan, p)) cut_parameter(plan, p);
        if (pass == 0) plan->tiles = fbp_alloc((size_t)plan->n_tiles * sizeof *plan->tiles);
        if (plan->tiles == NULL) return FBP_NO_MEMORY;
    }
    return FBP_OK;
}

/* Where each parameter is used, from the last node to the first. */
static fbp_status find_uses(fbp_plan *plan) {
    const fbp_graph *graph = &plan->graph;
    size_t most = (size_t)graph->n_nodes * FBP_MAX_INPUTS;
    plan->uses = fbp_alloc(most * sizeof *plan->uses);
    plan->first_use = fbp_alloc((size_t)(graph->n_parameters + 1) * sizeof *plan->first_use);
    if (plan->uses == NULL || plan->first_use == NULL) return FBP_NO_MEMORY;
    for (int p = 0; p < graph->n_parameters; p++) {
        plan->first_use[p] = plan->n_uses;
        for (int n = graph->n_nodes - 1; n >= 0; n--)
            for (int i = 0; i < graph->nodes[n].n_in; i++) {
                int used = graph->inputs[n][i] == graph->parameters[p].value &&
                           (fbp_sums_gradient(graph, n, i) || fbp_yields_gradient(graph, n, i));
                fbp_use use = {n, i};
                if (used) plan->uses[plan->n_uses++] = use;
            }
    }
    plan->first_use[graph->n_parameters] = plan->n_uses;
    return FBP_OK;
}

static int packs_derived(const fbp_plan *plan, int n) {
    const fbp_graph *graph = &plan->graph;
    int derived = 0;
    for (int i = 1; i < graph->nodes[n].n_in; i++)
        derived |= graph->values[graph->inputs[n][i]].source == FBP_FROM_NODE;
    return derived;
}

/* Counts tiles of copies behind the first `count` or, with room for them, makes them; returns how
 * many there are then. */
static int cut_copies_of(fbp_plan *plan, int n, int count) {
    enum { rows_of_a_tile = 64 };
    const fbp_node *node = &plan->graph.nodes[n];
    int64_t rows = fbp_positions(&node->in[1]) + (node->n_in == 3);
    for (int64_t begin = 0; begin < rows; begin += rows_of_a_tile, count++) {
        int64_t end = begin + rows_of_a_tile < rows ? begin + rows_of_a_tile : rows;
        fbp_copies copies = {n, begin, end};
        if (plan->copies != NULL) plan->copies[count] = copies;
    }
    return count;
}

/* Copies of weights are packed by several threads: in tiles of their rows. */
static fbp_status cut_copies(fbp_plan *plan) {
    for (int pass = 0; pass < 2; pass++) {
        int count[2] = {0, 0};
        for (int derived = 0, all = 0; derived < 2; derived++) {
            for (int n = 0; n < plan->graph.n_nodes; n++)
                if (fbp_packs(&plan->graph.nodes[n]) && packs_derived(plan, n) == derived)
                    all = cut_copies_of(plan, n, all);
            count[derived] = all;
        }
        plan->n_copies = count[0];
        plan->n_derived_copies = count[1] - count[0];
        if (pass == 0) plan->copies = fbp_alloc((size_t)count[1] * sizeof *plan->copies);
        if (plan->copies == NULL) return FBP_NO_MEMORY;
    }
    return FBP_OK;
}

fbp_status fbp_cut_parameters(fbp_plan *plan) {
    fbp_status status = find_uses(plan);
    if (status == FBP_OK) status = cut_tiles(plan);
    return status == FBP_OK ? cut_copies(plan) : status;
}
