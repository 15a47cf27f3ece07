/* Nodes run by themselves on dense arrays: what eager evaluation is made of. The kernels, and the
 * cuts that decide bits, are those of plans. */
#include "core/node_run.h"

#include <string.h>

#include "core/arena.h"

/* ---- arrays as the kernels want them ---- */

/* Dense arrays become padded ones where the node's operands are, and back. */
typedef struct {
    const fbp_node *node;
    const fbp_arrays *arrays;
    fbp_way run;
    fbp_call call;
    void *zeros;
    size_t zero_bytes;
    void *partial; /* a block's part of a shared gradient, in elements as many as the largest */
    void *again[FBP_MAX_INPUTS];
} running;

static size_t element_bytes(const running *run, const fbp_operand *x) {
    return x->is.content == FBP_INDEX ? sizeof(int32_t) : fbp_size(run->node->dtype);
}

static int is_padded(const fbp_operand *x) { return x->row_stride != fbp_width(x); }

static int64_t rows_of(const running *run, const fbp_operand *x) {
    return fbp_rows_of(x, run->arrays->samples);
}

/* Room for an operand; kernels may overrun its end by less than a cache line. */
static void *room_for(const running *run, const fbp_operand *x, fbp_carver *carver) {
    int64_t n = fbp_extent(x, run->arrays->samples) + fbp_pad(run->node->dtype);
    return fbp_carve(carver, n, element_bytes(run, x));
}

static void copy_rows(const running *run, const fbp_operand *x, const void *from, int64_t from_row,
                      void *to, int64_t to_row) {
    size_t size = fbp_size(run->node->dtype);
    for (int64_t r = 0; r < rows_of(run, x); r++)
        memcpy((char *)to + (size_t)(r * to_row) * size,
               (const char *)from + (size_t)(r * from_row) * size, (size_t)fbp_width(x) * size);
}

/* What a kernel is to read: zeros for NULL, a padded copy with `after` behind each row, or the
 * caller's array itself. */
static const void *to_read(running *run, const fbp_operand *x, const void *from, double after,
                           fbp_carver *carver) {
    size_t bytes = (size_t)(fbp_extent(x, run->arrays->samples)) * element_bytes(run, x);
    if (from == NULL) {
        if (bytes > run->zero_bytes) run->zero_bytes = bytes;
        return run->zeros;
    }
    if (!is_padded(x)) return from;
    void *to = room_for(run, x, carver);
    if (carver->base == NULL) return NULL;
    copy_rows(run, x, from, fbp_width(x), to, x->row_stride);
    run->node->vector->set_bias_input(rows_of(run, x), fbp_width(x), x->row_stride, after, to);
    return to;
}

static void *to_write(const running *run, const fbp_operand *x, void *to, fbp_carver *carver) {
    return to == NULL || !is_padded(x) ? to : room_for(run, x, carver);
}

/* A gradient that others are made of is there though the caller did not ask for it. */
static void *gradient_to_write(const running *run, int i, void *to, fbp_carver *carver) {
    const fbp_operand *x = &run->node->in[i];
    int read = (int)(run->node->reads_dx >> i & 1u);
    return read && to == NULL ? room_for(run, x, carver) : to_write(run, x, to, carver);
}

/* The outputs of forward lie in y, which later runs read. */
static void *to_read_again(running *run, const fbp_operand *y, void *from, fbp_carver *carver) {
    if (from == NULL || !is_padded(y)) return from;
    void *to = room_for(run, y, carver);
    if (carver->base != NULL) copy_rows(run, y, from, fbp_width(y), to, y->row_stride);
    return to;
}

static void carve_inputs(running *run, int i, fbp_carver *carver) {
    const fbp_operand *x = &run->node->in[i];
    const fbp_arrays *from = run->arrays;
    fbp_arrays *at = &run->call.at;
    int tangents = run->run == FBP_RUN_TANGENT || run->run == FBP_RUN_BACKWARD_TANGENT;
    at->x[i] = to_read(run, x, from->x[i], 1.0, carver);
    if (tangents) at->tx[i] = to_read(run, x, from->tx[i], 0.0, carver);
    at->dx[i] = at->tdx[i] = NULL;
    if (run->run == FBP_RUN_BACKWARD) at->dx[i] = gradient_to_write(run, i, from->dx[i], carver);
    if (run->run != FBP_RUN_BACKWARD_TANGENT) return;
    if (run->node->reads_dx & 1u << i) at->dx[i] = room_for(run, x, carver);
    at->tdx[i] = gradient_to_write(run, i, from->tdx[i], carver);
}

static void carve_outputs(running *run, int i, fbp_carver *carver) {
    const fbp_operand *y = &run->node->out[i];
    const fbp_arrays *from = run->arrays;
    fbp_arrays *at = &run->call.at;
    int back = run->run == FBP_RUN_BACKWARD || run->run == FBP_RUN_BACKWARD_TANGENT;
    if (run->run == FBP_RUN_FORWARD)
        at->y[i] = to_write(run, y, from->y[i], carver);
    else
        at->y[i] = to_read_again(run, y, from->y[i], carver);
    if (run->run == FBP_RUN_TANGENT) at->ty[i] = to_write(run, y, from->ty[i], carver);
    if (run->run == FBP_RUN_BACKWARD_TANGENT)
        at->ty[i] = to_read_again(run, y, from->ty[i], carver);
    if (back && i < run->node->n_out) at->dy[i] = to_read(run, y, from->dy[i], 0.0, carver);
    if (run->run == FBP_RUN_BACKWARD_TANGENT && i < run->node->n_out)
        at->tdy[i] = to_read(run, y, from->tdy[i], 0.0, carver);
}

static void carve(void *context, fbp_carver *carver) {
    running *run = context;
    const fbp_node *node = run->node;
    run->call.at = *run->arrays;
    run->call.all = run->arrays->samples;
    run->zeros = fbp_carve(carver, (int64_t)run->zero_bytes, 1);
    int64_t largest = 0;
    for (int i = 0; i < node->n_in; i++) {
        carve_inputs(run, i, carver);
        int64_t elements = fbp_elements(&node->in[i]);
        if (node->shared & 1u << i && elements > largest) largest = elements;
        run->again[i] = NULL;
        if (node->row->bilinear && run->run == FBP_RUN_BACKWARD_TANGENT && i < 2)
            run->again[i] = room_for(run, &node->in[i], carver);
    }
    for (int i = 0; i < node->n_out + node->n_kept; i++) {
        carve_outputs(run, i, carver);
        if (node->row->bilinear && run->run == FBP_RUN_TANGENT)
            run->again[i] = room_for(run, &node->out[i], carver);
    }
    int64_t sum = run->run == FBP_RUN_FORWARD || run->run == FBP_RUN_TANGENT ? 0 : largest;
    run->partial = fbp_carve(carver, sum + fbp_pad(node->dtype), fbp_size(node->dtype));
    size_t (*scratch)(const fbp_node *, int64_t) = fbp_node_ops(node)->scratch_bytes;
    size_t bytes = scratch == NULL ? 0 : scratch(node, run->arrays->samples);
    run->call.scratch = fbp_carve(carver, (int64_t)bytes, 1);
}

/* Results go back to the caller's dense arrays. */
static void give_back(const running *run, const fbp_operand *x, const void *from, void *to) {
    if (to != NULL && from != to) copy_rows(run, x, from, x->row_stride, to, fbp_width(x));
}

static void give_all_back(const running *run) {
    const fbp_node *node = run->node;
    const fbp_arrays *to = run->arrays, *at = &run->call.at;
    for (int i = 0; i < node->n_out + node->n_kept; i++) {
        if (run->run == FBP_RUN_FORWARD) give_back(run, &node->out[i], at->y[i], to->y[i]);
        if (run->run == FBP_RUN_TANGENT) give_back(run, &node->out[i], at->ty[i], to->ty[i]);
    }
    for (int i = 0; i < node->n_in; i++) {
        if (node->shared & 1u << i) continue;
        if (run->run == FBP_RUN_BACKWARD) give_back(run, &node->in[i], at->dx[i], to->dx[i]);
        if (run->run == FBP_RUN_BACKWARD_TANGENT)
            give_back(run, &node->in[i], at->tdx[i], to->tdx[i]);
    }
}

/* ---- runs ---- */

/* The call from sample `first` on. */
static fbp_call part_of(const fbp_node *node, const fbp_call *call, int64_t first,
                        int64_t samples) {
    fbp_call part = *call;
    part.at.samples = samples;
    part.at.draws.first += first;
    for (int i = 0; i < node->n_in; i++) {
        const fbp_operand *x = &node->in[i];
        int64_t skipped = first * x->sample_stride;
        if (x->is.content == FBP_INDEX)
            part.at.x[i] = (const int32_t *)call->at.x[i] + skipped;
        else
            part.at.x[i] = fbp_element(node->dtype, call->at.x[i], skipped);
        part.at.tx[i] = fbp_element(node->dtype, call->at.tx[i], skipped);
        part.at.dx[i] = fbp_element(node->dtype, call->at.dx[i], skipped);
        part.at.tdx[i] = fbp_element(node->dtype, call->at.tdx[i], skipped);
    }
    for (int i = 0; i < node->n_out + node->n_kept; i++) {
        int64_t skipped = first * node->out[i].sample_stride;
        part.at.y[i] = fbp_element(node->dtype, call->at.y[i], skipped);
        part.at.ty[i] = fbp_element(node->dtype, call->at.ty[i], skipped);
        part.at.dy[i] = fbp_element(node->dtype, call->at.dy[i], skipped);
        part.at.tdy[i] = fbp_element(node->dtype, call->at.tdy[i], skipped);
    }
    return part;
}

static void sum_shared(const running *run, int input, void *g) {
    const fbp_node *node = run->node;
    int64_t samples = run->arrays->samples, rows = fbp_positions(&node->in[input]);
    int64_t blocks = fbp_shared_blocks(node, samples);
    for (int64_t b = 0; b < blocks; b++) {
        int64_t first = samples * b / blocks, end = samples * (b + 1) / blocks;
        fbp_call part = part_of(node, &run->call, first, end - first);
        if (run->run == FBP_RUN_BACKWARD)
            fbp_node_ops(node)->backward_shared(node, &part, input, 0, rows, 0, run->partial);
        else
            fbp_run_shared_tangent(node, &part, input, 0, rows, 0, run->partial);
        int64_t n = fbp_elements(&node->in[input]);
        if (b == 0)
            memcpy(g, run->partial, (size_t)n * fbp_size(node->dtype));
        else
            node->vector->add_scaled(n, 1.0, run->partial, g);
    }
}

static void run_backward(running *run, void *const *gradients) {
    const fbp_node *node = run->node;
    unsigned wanted = 0;
    for (int i = 0; i < node->n_in; i++)
        if (gradients[i] != NULL) wanted |= 1u << i;
    if (wanted & ~node->shared || (wanted && node->reads_dx)) {
        if (run->run == FBP_RUN_BACKWARD || node->reads_dx)
            fbp_node_ops(node)->backward(node, &run->call);
        if (run->run == FBP_RUN_BACKWARD_TANGENT)
            fbp_run_backward_tangent(node, &run->call, run->again);
    }
    for (int i = 0; i < node->n_in; i++)
        if (wanted & node->shared & 1u << i) sum_shared(run, i, gradients[i]);
}

/* How many zeros stand in place of arrays, which are carved first. */
static void count_zeros(running *run) {
    fbp_carver counting = {NULL, 0};
    carve(run, &counting);
}

static void execute(running *run) {
    const fbp_node *node = run->node;
    memset(run->zeros, 0, run->zero_bytes);
    if (run->run == FBP_RUN_FORWARD)
        fbp_node_ops(node)->forward(node, &run->call);
    else if (run->run == FBP_RUN_TANGENT)
        fbp_run_tangent(node, &run->call, run->again);
    else
        run_backward(run, run->run == FBP_RUN_BACKWARD ? run->arrays->dx : run->arrays->tdx);
    give_all_back(run);
}

/* ---- in the caller's room ---- */

/* Where all arrays are given and, for results whose gradient is zero, the zeros. */
size_t fbp_alone_bytes(const fbp_node *node, fbp_way way) {
    fbp_arrays arrays = {.samples = node->samples};
    char given;
    for (int i = 0; i < node->n_in; i++) {
        arrays.x[i] = arrays.tx[i] = &given;
        arrays.dx[i] = arrays.tdx[i] = &given;
    }
    for (int i = 0; i < node->n_out + node->n_kept; i++) {
        arrays.y[i] = arrays.ty[i] = &given;
        arrays.dy[i] = arrays.tdy[i] = &given;
    }
    running run = {.node = node, .arrays = &arrays, .run = way};
    fbp_carver counting = {NULL, 0};
    carve(&run, &counting);
    for (int i = 0; i < node->n_out; i++) arrays.dy[i] = arrays.tdy[i] = NULL;
    count_zeros(&run);
    return counting.used + fbp_carved_bytes((int64_t)run.zero_bytes, 1);
}

void fbp_run_alone(const fbp_node *node, const fbp_arrays *arrays, fbp_way way, void *room) {
    running run = {.node = node, .arrays = arrays, .run = way};
    fbp_carver carving = {room, 0};
    count_zeros(&run);
    carve(&run, &carving);
    execute(&run);
}

/* ---- in room from a pool ---- */

/* Of a gradient that passes unchanged, the kernel writes nothing. */
static fbp_status check(const fbp_node *node, const fbp_arrays *arrays, fbp_way run) {
    if (arrays->samples < 0)
        return fbp_fail(FBP_INVALID, "%s: found %lld samples, wanted at least 0", node->row->name,
                        (long long)arrays->samples);
    if (run == FBP_RUN_BACKWARD_TANGENT && !fbp_has_backward_tangent(node->row))
        return fbp_fail(FBP_ABSENT, "the row '%s' has no tangent of its backward", node->row->name);
    for (int i = 0; i < node->n_in; i++)
        if ((arrays->dx[i] != NULL || arrays->tdx[i] != NULL) && !(node->differentiable & 1u << i))
            return fbp_fail(FBP_ABSENT, "%s has no gradient by its input %d", node->row->name, i);
    return fbp_node_check_indices(node, arrays);
}

static fbp_status run_in_pool(const fbp_node *node, const fbp_arrays *arrays, fbp_way which) {
    static fbp_pool pool;
    running run = {.node = node, .arrays = arrays, .run = which};
    fbp_status status = check(node, arrays, which);
    if (status != FBP_OK) return status;
    count_zeros(&run);
    fbp_scratch scratch;
    status = fbp_pool_carve(&pool, carve, &run, &scratch);
    if (status != FBP_OK) return status;
    execute(&run);
    fbp_pool_give(&pool, scratch);
    return FBP_OK;
}

fbp_status fbp_node_follow(const fbp_node *node, int64_t samples, double momentum, const void *y,
                           void *p) {
    if (fbp_node_ops(node)->follow == NULL)
        return fbp_fail(FBP_ABSENT, "%s: found a running parameter, which nothing of it can follow",
                        node->row->name);
    fbp_node_ops(node)->follow(node, samples, momentum, y, p);
    return FBP_OK;
}

fbp_status fbp_node_forward(const fbp_node *node, const fbp_arrays *arrays) {
    return run_in_pool(node, arrays, FBP_RUN_FORWARD);
}

fbp_status fbp_node_backward(const fbp_node *node, const fbp_arrays *arrays) {
    return run_in_pool(node, arrays, FBP_RUN_BACKWARD);
}

fbp_status fbp_node_tangent(const fbp_node *node, const fbp_arrays *arrays) {
    return run_in_pool(node, arrays, FBP_RUN_TANGENT);
}

fbp_status fbp_node_backward_tangent(const fbp_node *node, const fbp_arrays *arrays) {
    return run_in_pool(node, arrays, FBP_RUN_BACKWARD_TANGENT);
}
