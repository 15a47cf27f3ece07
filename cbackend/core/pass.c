/* The buffers of a running call, and the packed copies of its weights. */
#include <string.h>

#include "core/callbacks.h"

/* ---- packed copies ---- */

/* What stays the same in a step: a parameter, a constant, or what is made of these. */
static const char *weight_at(const fbp_plan *plan, const fbp_schedule *schedule, const void *params,
                             const char *common, int v) {
    const fbp_value *value = &plan->graph.values[v];
    if (value->source == FBP_FROM_CONSTANT) return plan->graph.constants[value->index];
    if (value->source == FBP_FROM_NODE)
        return common +
               (size_t)schedule->buffers[schedule->value_at[v]].offset * fbp_size(plan->dtype);
    return fbp_at(plan, params, plan->graph.parameters[value->index].offset);
}

/* Elements behind its array that may be read. */
static int64_t behind(const fbp_plan *plan, int v) {
    const fbp_value *value = &plan->graph.values[v];
    if (value->source == FBP_FROM_CONSTANT) return 0;
    if (value->source == FBP_FROM_NODE) return fbp_pad(plan->dtype) - 1; /* fbp_pass_carve_common */
    const fbp_parameter *parameter = &plan->graph.parameters[value->index];
    return plan->graph.n_params - parameter->offset - fbp_elements(&value->is);
}

/* Bytes of a node's copies for forward. */
typedef struct {
    size_t packed, start;
} copy_bytes;

/* Copies of what training reads have 16 bits in a mixed plan. */
static size_t size_for(const fbp_plan *plan, fbp_purpose purpose) {
    int half = plan->half != NULL && purpose == FBP_FOR_TRAINING;
    return half ? sizeof(uint16_t) : fbp_size(plan->dtype);
}

static copy_bytes bytes_of(const fbp_plan *plan, int n, fbp_purpose purpose) {
    const fbp_node *node = &plan->graph.nodes[n];
    const fbp_node_kernels *ops = fbp_node_ops(node);
    copy_bytes bytes = {0, 0};
    int64_t packed, back;
    if (purpose == FBP_FOR_FEW_ROWS)
        bytes.start = ops->direct_bytes(node, behind(plan, plan->graph.inputs[n][1]));
    if (bytes.start == 0 && (purpose != FBP_FOR_TRAINING || node->products == FBP_PACKED)) {
        ops->packed_sizes(node, &packed, &back);
        bytes.packed = (size_t)packed * size_for(plan, purpose);
    }
    return bytes;
}

/* And for the gradient of the input, if it is wanted. */
static size_t bytes_for_backward(const fbp_plan *plan, int n) {
    const fbp_node *node = &plan->graph.nodes[n];
    int64_t packed, back = 0;
    if (node->products == FBP_PACKED && plan->graph.values[plan->graph.inputs[n][0]].gradient)
        fbp_node_ops(node)->packed_sizes(node, &packed, &back);
    return (size_t)back * size_for(plan, FBP_FOR_TRAINING);
}

static void *carve_copy(fbp_carver *carver, size_t bytes) {
    return bytes > 0 ? fbp_carve(carver, (int64_t)bytes, 1) : NULL;
}

/* Copies lie in the order in which a step reads them, forward and back: while a product works on
 * the end of one, it asks for the start of the next. */
fbp_weights *fbp_weights_carve(const fbp_plan *plan, const void *params, const char *common,
                               fbp_purpose purpose, fbp_carver *carver) {
    const fbp_schedule *s = purpose == FBP_FOR_TRAINING ? &plan->training : &plan->prediction;
    int n_nodes = plan->graph.n_nodes, counts = carver->base == NULL;
    fbp_weights none, *weights = fbp_carve(carver, n_nodes, sizeof *weights);
    for (int n = 0; n < n_nodes; n++) {
        const fbp_node *node = &plan->graph.nodes[n];
        if (!fbp_packs(node)) continue;
        copy_bytes bytes = bytes_of(plan, n, purpose);
        fbp_weights *w = counts ? &none : &weights[n];
        w->packed = carve_copy(carver, bytes.packed);
        w->start = carve_copy(carver, bytes.start);
        w->packed_t = NULL;
        w->half = purpose == FBP_FOR_TRAINING ? plan->half : NULL;
        if (counts) continue;
        const int *inputs = plan->graph.inputs[n];
        w->params = weight_at(plan, s, params, common, inputs[1]);
        w->bias = node->n_in == 3 ? weight_at(plan, s, params, common, inputs[2]) : NULL;
    }
    for (int n = n_nodes - 1; purpose == FBP_FOR_TRAINING && n >= 0; n--) {
        if (!fbp_packs(&plan->graph.nodes[n])) continue;
        fbp_weights *w = counts ? &none : &weights[n];
        w->packed_t = carve_copy(carver, bytes_for_backward(plan, n));
    }
    return weights;
}

static void pack(const fbp_plan *plan, const fbp_weights *weights, int first, int count,
                 const fbp_team *team) {
    fbp_range share = fbp_share(count, team);
    for (int64_t c = share.begin; c < share.end; c++) {
        const fbp_copies *copies = &plan->copies[first + c];
        const fbp_node *node = &plan->graph.nodes[copies->node];
        fbp_node_ops(node)->pack(node, &weights[copies->node], copies->begin, copies->end);
    }
}

void fbp_weights_pack(const fbp_plan *plan, const fbp_weights *weights, const fbp_team *team) {
    pack(plan, weights, 0, plan->n_copies, team);
}

void fbp_weights_pack_derived(const fbp_plan *plan, const fbp_weights *weights,
                              const fbp_team *team) {
    pack(plan, weights, plan->n_copies, plan->n_derived_copies, team);
}

void fbp_pass_begin(const fbp_pass *pass, const fbp_team *team) {
    fbp_weights_pack(pass->plan, pass->weights, team);
}

/* ---- buffers ---- */

static size_t scratch_of_nodes(const fbp_plan *plan, int64_t samples) {
    size_t most = 0;
    for (int n = 0; n < plan->graph.n_nodes; n++) {
        const fbp_node *node = &plan->graph.nodes[n];
        size_t (*scratch)(const fbp_node *, int64_t) = fbp_node_ops(node)->scratch_bytes;
        size_t bytes = scratch == NULL || node->alone ? 0 : scratch(node, samples);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* Products may read a row of weights further than it is, by less than a cache line. */
void fbp_pass_carve_common(fbp_pass *pass, const fbp_plan *plan, const fbp_schedule *schedule,
                           fbp_carver *carver) {
    if (schedule->common_elements == 0) return;
    int64_t elements = schedule->common_elements + fbp_pad(plan->dtype);
    pass->common_values = fbp_carve(carver, elements, fbp_size(plan->dtype));
    pass->alone = fbp_carve(carver, plan->alone_bytes, 1);
}

static void carve_threads(fbp_pass *pass, int n_threads, size_t scratch, fbp_carver *carver) {
    size_t size = fbp_size(pass->plan->dtype);
    pass->tile_bytes = fbp_carved_bytes(pass->schedule->tile_elements * pass->tile, size);
    pass->thread_bytes =
        pass->tile_bytes + pass->gradient_bytes + fbp_carved_bytes((int64_t)scratch, 1);
    /* Bytes for each thread, of which a plan may need none. */
    pass->threads = fbp_carve(carver, (int64_t)pass->thread_bytes, (size_t)n_threads);
}

static void carve_losses(fbp_pass *pass, int64_t whole, fbp_carver *carver) {
    const fbp_graph *graph = &pass->plan->graph;
    size_t size = fbp_size(pass->plan->dtype);
    pass->losses = fbp_carve(carver, graph->n_losses, sizeof *pass->losses);
    for (int i = 0; i < graph->n_losses; i++) {
        const fbp_loss *loss = &graph->losses[i];
        int64_t n = whole * fbp_positions(&graph->values[loss->value].is);
        fbp_loss_room room;
        room.target = fbp_carve(carver, pass->batch, fbp_target_bytes(graph, loss));
        room.scale = fbp_carve(carver, n, size);
        room.value = fbp_carve(carver, n, size);
        if (carver->base != NULL) pass->losses[i] = room;
    }
}

void fbp_pass_carve_weights(fbp_pass *pass, const fbp_plan *plan, const void *params,
                            fbp_carver *carver) {
    fbp_pass_carve_common(pass, plan, &plan->training, carver);
    pass->params = params;
    pass->half = plan->half;
    pass->weights =
        fbp_weights_carve(plan, pass->params, pass->common_values, FBP_FOR_TRAINING, carver);
}

/* Samples of any node's call: the weights phase, and meetings, take all; a mixed plan's take them
 * in parts. */
static int64_t most_samples(const fbp_pass *pass) {
    int in_parts = pass->plan->half != NULL && pass->schedule->n_meetings == 0;
    return in_parts ? pass->tile : pass->batch;
}

static void carve_partials(fbp_pass *pass, int64_t whole, fbp_carver *carver) {
    const fbp_plan *plan = pass->plan;
    pass->most_parts = fbp_most_parts(plan, whole);
    int n_tiles = pass->most_parts > 1 ? plan->n_tiles : 0;
    pass->formed = fbp_carve(carver, n_tiles, sizeof *pass->formed);
    pass->partials_at = fbp_carve(carver, n_tiles, sizeof *pass->partials_at);
    pass->partial_bytes = 0;
    for (int t = 0; t < n_tiles; t++) {
        const fbp_tile *tile = &plan->tiles[t];
        int parts = fbp_parts_of(plan, tile->parameter, whole);
        if (carver->base != NULL) pass->partials_at[t] = (int64_t)pass->partial_bytes;
        if (parts > 1) pass->partial_bytes += (size_t)parts * fbp_partial_bytes(plan, tile);
    }
    pass->partials = fbp_carve(carver, (int64_t)pass->partial_bytes, 1);
}

void fbp_pass_carve(fbp_pass *pass, const fbp_plan *plan, const void *params, int64_t batch,
                    int64_t whole, int n_threads, fbp_carver *carver) {
    size_t size = fbp_size(plan->dtype);
    int64_t tile = fbp_row_tile(plan, batch);
    pass->plan = plan;
    pass->schedule = &plan->training;
    pass->batch = batch;
    pass->tile = tile < batch ? tile : batch;
    if (plan->graph.n_callbacks > 0) fbp_calls_carve(pass, plan, carver);
    fbp_pass_carve_weights(pass, plan, params, carver);
    pass->batch_values = fbp_carve(carver, batch * plan->training.batch_elements, size);
    pass->stored = fbp_carve(carver, batch * plan->training.stored_elements, sizeof *pass->stored);
    size_t parts = fbp_parts_bytes(plan, pass->schedule, batch, whole);
    pass->parts = fbp_carve(carver, (int64_t)parts, 1);
    carve_losses(pass, whole, carver);
    int64_t gradient = plan->largest_tile + fbp_pad(plan->dtype); /* products overrun their end */
    size_t scratch = scratch_of_nodes(plan, most_samples(pass));
    pass->gradient_bytes = fbp_carved_bytes(gradient, size);
    carve_threads(pass, n_threads, scratch, carver);
    pass->by_columns = fbp_cuts_columns(plan, batch, batch, n_threads);
    int64_t together = pass->by_columns ? batch * plan->training.tile_elements : 0;
    pass->shared_tile = fbp_carve(carver, together, size);
    carve_partials(pass, whole, carver);
}

void fbp_pass_carve_prediction(fbp_pass *pass, const fbp_plan *plan, int64_t tile, int n_threads,
                               fbp_carver *carver) {
    pass->plan = plan;
    pass->schedule = &plan->prediction;
    pass->batch = pass->tile = tile;
    carve_threads(pass, n_threads, scratch_of_nodes(plan, tile), carver);
}

/* ---- lanes ---- */

void fbp_lane_begin(fbp_lane *lane, const fbp_pass *pass, const fbp_batch *batch,
                    const fbp_team *team) {
    size_t size = fbp_size(pass->plan->dtype);
    lane->pass = pass;
    lane->batch = batch;
    char *tile = pass->threads + (size_t)team->thread * pass->thread_bytes;
    lane->rooms[FBP_IN_BATCH] = (fbp_room){pass->batch_values, (size_t)pass->batch * size};
    lane->rooms[FBP_IN_TILE] = (fbp_room){tile, (size_t)pass->tile * size};
    lane->rooms[FBP_IN_COMMON] = (fbp_room){pass->common_values, 1};
    lane->rooms[FBP_IN_PARAMETERS] = (fbp_room){pass->params, 1};
    lane->row = lane->rows = lane->tile_row = 0;
    lane->call.scratch = tile + pass->tile_bytes + pass->gradient_bytes;
    lane->call.at.training = batch->masks;
    lane->call.at.draws = batch->draws;
    lane->call.all = batch->rows;
    lane->call.half = pass->half;
}

static inline void *buffer_at(const fbp_lane *lane, int buffer, const fbp_operand *is) {
    const fbp_buffer *at = &lane->pass->schedule->buffers[buffer];
    const fbp_room *room = &lane->rooms[at->where];
    fbp_dtype dtype = lane->pass->plan->dtype;
    if (at->where == FBP_IN_COMMON) return fbp_element(dtype, room->base, at->offset);
    size_t size = is->is.content == FBP_REAL ? fbp_size(dtype) : sizeof(int32_t);
    int64_t row = at->where == FBP_IN_TILE ? lane->tile_row : lane->row;
    size_t bytes = (size_t)at->offset * room->unit + (size_t)(row * is->sample_stride) * size;
    return fbp_element(dtype, room->base + bytes, 0);
}

void *fbp_lane_buffer(const fbp_lane *lane, int buffer, const fbp_operand *is) {
    return buffer_at(lane, buffer, is);
}

void *fbp_lane_value(const fbp_lane *lane, int v) {
    return buffer_at(lane, lane->pass->schedule->value_at[v],
                     &lane->pass->plan->graph.values[v].is);
}

void *fbp_lane_gradient(const fbp_lane *lane, int v) {
    return buffer_at(lane, lane->pass->schedule->gradient_at[v],
                     &lane->pass->plan->graph.values[v].is);
}

static inline const void *at_spot(fbp_lane *lane, const fbp_spot *spot) {
    if (spot->where <= FBP_IN_GRAPH) return spot->fixed;
    if (spot->where == FBP_IN_SAMPLES) {
        lane->sparse = fbp_batch_sparse(lane->batch, (int)spot->offset, lane->row);
        return &lane->sparse;
    }
    const fbp_room *room = &lane->rooms[spot->where];
    int64_t row = spot->where == FBP_IN_TILE ? lane->tile_row : lane->row;
    return room->base + spot->offset * room->unit + (size_t)row * spot->sample;
}

/* Pointers of the call are set, each where its spot says. */
static inline void find(fbp_lane *lane, const fbp_spot *spots, int count) {
    for (int i = 0; i < count; i++) {
        const void *at = at_spot(lane, &spots[i]);
        memcpy((char *)&lane->call.at + spots[i].slot, &at, sizeof at);
    }
}

static inline void begin_call(fbp_lane *lane, int n, int forward) {
    const fbp_node *node = &lane->pass->plan->graph.nodes[n];
    fbp_call *call = &lane->call;
    call->at.samples = lane->rows;
    call->at.draws.stream = node->stream;
    call->at.draws.first = lane->batch->place + lane->row;
    call->weights = NULL;
    if (node->columns == 0 || lane->pass->weights == NULL) return; /* it keeps no copies */
    call->weights = &lane->pass->weights[n];
    call->begin = 0;
    call->end = fbp_width(forward ? &node->out[0] : &node->in[0]);
}

fbp_call *fbp_lane_forward(fbp_lane *lane, int n) {
    const fbp_spots *spots = &lane->pass->schedule->spots[n];
    begin_call(lane, n, 1);
    find(lane, spots->first, spots->n_forward);
    return &lane->call;
}

fbp_call *fbp_lane_again(fbp_lane *lane, int n) {
    const fbp_spots *spots = &lane->pass->schedule->spots[n];
    begin_call(lane, n, 1);
    find(lane, spots->again, spots->n_forward);
    return &lane->call;
}

fbp_call *fbp_lane_backward(fbp_lane *lane, int n) {
    const fbp_spots *spots = &lane->pass->schedule->spots[n];
    begin_call(lane, n, 0);
    find(lane, spots->back, spots->n_back);
    return &lane->call;
}

fbp_call *fbp_lane_sum(fbp_lane *lane, int n) {
    const fbp_spots *spots = &lane->pass->schedule->spots[n];
    begin_call(lane, n, 0);
    find(lane, spots->back, spots->n_sum);
    return &lane->call;
}
