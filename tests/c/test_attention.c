/* Attention, in what Python cannot ask: how its memory grows, operands that the samples share, and
 * results that are not wanted. */
#include <stdio.h>
#include <string.h>

#include "core/node.h"

static int failures;

static void expect(int holds, const char *what) {
    if (holds) return;
    failures++;
    printf("does not hold: %s\n", what);
}

static const double attrs[] = {2.0, 0.0, 0.0}; /* heads, causal, scale */
static const int counts[] = {1, 1, 1};
enum { width = 32, heads = 2 };

static fbp_shape matrix(int64_t rows, int batched) {
    fbp_shape shape = {.batched = batched, .ndim = 2, .shape = {rows, width}};
    return shape;
}

static fbp_node *node_of(fbp_dtype dtype, int64_t length, int batched, int masks) {
    fbp_shape inputs[4] = {matrix(length, batched), matrix(length, batched),
                           matrix(length, batched)};
    inputs[3] = (fbp_shape){.ndim = 1, .shape = {length}};
    fbp_node *node = NULL;
    const fbp_row *row = fbp_row_find(FBP_OP, "attention");
    expect(fbp_node_create(row, dtype, attrs, counts, 3 + masks, inputs, &node) == FBP_OK,
           "a node of attention is made");
    return node;
}

static size_t scratch(const fbp_node *node, int64_t samples) {
    return fbp_node_ops(node)->scratch_bytes(node, samples);
}

/* What is kept grows with the length, what a call works in does not grow at all. */
static void check_memory(fbp_dtype dtype) {
    fbp_node *shorter = node_of(dtype, 100, 1, 0), *longer = node_of(dtype, 100000, 1, 0);
    expect(scratch(shorter, 1) == scratch(longer, 1), "scratch does not grow with the length");
    expect(scratch(shorter, 1) == scratch(shorter, 999), "nor with the samples");
    expect(scratch(longer, 1) < (size_t)1 << 19, "and stays in the second cache");
    fbp_node_info few = fbp_node_describe(shorter), many = fbp_node_describe(longer);
    expect(few.n_outputs == 2 && few.n_results == 1, "one result, and one thing kept");
    expect(few.outputs[1].shape[0] * few.outputs[1].shape[1] == 100 * heads &&
               many.outputs[1].shape[0] * many.outputs[1].shape[1] == 100000 * heads,
           "a number is kept for each query and head");
    fbp_node_destroy(shorter);
    fbp_node_destroy(longer);
}

enum { length = 5, size = length * width };

static double x[3][2 * size], mask[2 * length], y[2 * size], kept[2 * heads * length];
static double other[2 * size];

static fbp_arrays arrays_of(int64_t samples, double *result, double *sums) {
    fbp_arrays arrays = {.samples = samples, .x = {x[0], x[1], x[2], mask}, .y = {result, sums}};
    return arrays;
}

static void check_sharing(void) {
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 2 * size; j++) x[i][j] = (double)((i + 1) * (j + 3) % 17) / 17.0;
    for (int j = 0; j < length; j++) mask[j] = j % 3 != 1;
    fbp_node *batched = node_of(FBP_F64, length, 1, 1), *single = node_of(FBP_F64, length, 0, 1);
    fbp_arrays both = arrays_of(2, y, kept), one = arrays_of(1, other, NULL);
    expect(fbp_node_forward(batched, &both) == FBP_OK, "one mask serves all samples");
    expect(fbp_node_forward(single, &one) == FBP_OK, "there need be no sample axis");
    expect(memcmp(y, other, sizeof y / 2) == 0, "which changes no bit, kept or not");
    for (int i = 0; i < 3; i++) one.x[i] = x[i] + size;
    expect(fbp_node_forward(single, &one) == FBP_OK, "the second sample by itself");
    expect(memcmp(y + size, other, sizeof y / 2) == 0, "the mask is that of the first");
    fbp_node_destroy(batched);
    fbp_node_destroy(single);
}

int main(void) {
    check_memory(FBP_F32);
    check_memory(FBP_F64);
    check_sharing();
    return failures != 0;
}
