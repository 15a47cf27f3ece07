/* Convolutions and poolings as plans run them, and a node alone never does: on operands whose rows
 * lie further apart than they are long, with gradients of what samples share formed some rows and
 * some samples at a time. Everything must have the bits of the dense arrays in one go, and what
 * lies between the rows must stay as it is. */
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/node_run.h"
#include "core/registry.h"

static int failures;
static uint32_t state = 1;
static const float untouched = 777.0f;
enum { samples = 5, gap_in = 5, gap_out = 7 };

static float *filled(int64_t n) {
    float *x = fbp_alloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state / 2147483648.0f;
    }
    return x;
}

/* Rows of `width`, ld apart, from dense ones; nothing of meaning where there are none. */
static float *spread(const float *dense, int64_t rows, int64_t width, int64_t ld) {
    float *x = fbp_alloc((size_t)(rows * ld) * sizeof *x);
    for (int64_t i = 0; i < rows * ld; i++) x[i] = untouched;
    for (int64_t r = 0; dense != NULL && r < rows; r++)
        memcpy(x + r * ld, dense + r * width, (size_t)width * sizeof *x);
    return x;
}

static int same(const float *dense, const float *x, int64_t rows, int64_t width, int64_t ld) {
    for (int64_t r = 0; r < rows; r++) {
        if (memcmp(dense + r * width, x + r * ld, (size_t)width * sizeof *x) != 0) return 0;
        for (int64_t j = width; j < ld; j++)
            if (x[r * ld + j] != untouched) return 0;
    }
    return 1;
}

static void expect(int holds, const fbp_node *node, const char *what) {
    if (holds) return;
    failures++;
    printf("%s of %s on %s: other bits\n", what, node->row->name, fbp_isa_current());
}

/* The gradient of a shared input: in one go, and in two parts of rows and two of samples. */
static void check_shared(const fbp_node *dense, const fbp_call *call, const fbp_node *apart,
                         const fbp_call *spaced, int input) {
    const fbp_operand *w = &dense->in[input], *x = &apart->in[0], *y = &apart->out[0];
    int64_t rows = fbp_positions(w), width = fbp_width(w), half = rows / 2, n = samples / 2;
    float *whole = filled(rows * width), *parts = filled(rows * width);
    fbp_node_ops(dense)->backward_shared(dense, call, input, 0, rows, 0, whole);
    fbp_call first = *spaced, second = *spaced;
    first.at.samples = n;
    second.at.samples = samples - n;
    second.at.x[0] = (const float *)spaced->at.x[0] + n * x->sample_stride;
    second.at.dy[0] = (const float *)spaced->at.dy[0] + n * y->sample_stride;
    for (int64_t begin = 0; begin < rows; begin += begin < half ? half : rows) {
        int64_t end = begin < half ? half : rows;
        const fbp_node_kernels *ops = fbp_node_ops(apart);
        ops->backward_shared(apart, &first, input, begin, end, 0, parts + begin * width);
        ops->backward_shared(apart, &second, input, begin, end, 1, parts + begin * width);
    }
    expect(same(whole, parts, rows, width, width), dense, "a shared gradient in parts");
    fbp_free(whole), fbp_free(parts);
}

static void check(const char *name, const double *numbers, int n_inputs, const fbp_shape *inputs) {
    static const int counts[] = {1, 1, 1, 1};
    const fbp_row *row = fbp_row_find(FBP_OP, name);
    fbp_node *dense, *apart;
    if (fbp_node_create(row, FBP_F32, numbers, counts, n_inputs, inputs, &dense) != FBP_OK ||
        fbp_node_create(row, FBP_F32, numbers, counts, n_inputs, inputs, &apart) != FBP_OK) {
        failures++;
        printf("%s\n", fbp_message());
        return;
    }
    int64_t in = fbp_width(&dense->in[0]), out = fbp_width(&dense->out[0]);
    int64_t rows_in = fbp_rows_of(&dense->in[0], samples);
    int64_t rows_out = fbp_rows_of(&dense->out[0], samples);
    fbp_lay_out(&apart->in[0], in + gap_in);
    fbp_lay_out(&apart->out[0], out + gap_out);
    float *x = filled(rows_in * in), *dy = filled(rows_out * out);
    float *y = filled(rows_out * out), *dx = filled(rows_in * in);
    float *far_x = spread(x, rows_in, in, in + gap_in),
          *far_dy = spread(dy, rows_out, out, out + gap_out);
    float *far_y = spread(NULL, rows_out, out, out + gap_out);
    float *far_dx = spread(NULL, rows_in, in, in + gap_in);
    fbp_call call = {.at = {.samples = samples, .x = {x}, .y = {y}, .dy = {dy}, .dx = {dx}}};
    fbp_call spaced = {
        .at = {.samples = samples, .x = {far_x}, .y = {far_y}, .dy = {far_dy}, .dx = {far_dx}}};
    float *weights[FBP_MAX_INPUTS] = {NULL};
    for (int i = 1; i < n_inputs; i++)
        call.at.x[i] = spaced.at.x[i] = weights[i] = filled(fbp_elements(&dense->in[i]));
    const fbp_node_kernels *ops = fbp_node_ops(dense);
    if (ops->scratch_bytes != NULL) {
        call.scratch = fbp_alloc(ops->scratch_bytes(dense, samples));
        spaced.scratch = fbp_alloc(ops->scratch_bytes(apart, samples));
    }
    ops->forward(dense, &call), ops->forward(apart, &spaced);
    expect(same(y, far_y, rows_out, out, out + gap_out), dense, "the result");
    ops->backward(dense, &call), ops->backward(apart, &spaced);
    expect(same(dx, far_dx, rows_in, in, in + gap_in), dense, "the gradient");
    for (int i = 1; i < n_inputs; i++) check_shared(dense, &call, apart, &spaced, i);
    for (int i = 1; i < n_inputs; i++) fbp_free(weights[i]);
    fbp_free(x), fbp_free(dy), fbp_free(y), fbp_free(dx);
    fbp_free(far_x), fbp_free(far_dy), fbp_free(far_y), fbp_free(far_dx);
    fbp_free(call.scratch), fbp_free(spaced.scratch);
    fbp_node_destroy(dense), fbp_node_destroy(apart);
}

int main(void) {
    /* height, width, channels; kernel, outputs; padding, groups */
    static const int64_t sizes[][7] = {
        {6, 7, 3, 3, 4, 1, 1},    {6, 7, 16, 3, 32, 1, 1},  {5, 5, 8, 1, 6, 0, 1},
        {7, 6, 10, 3, 10, 1, 10}, {5, 5, 10, 1, 10, 0, 10}, {5, 5, 16, 1, 16, 0, 16},
        {6, 5, 4, 2, 6, 1, 2},    {9, 9, 3, 3, 20, 2, 1},
    };
    for (int isa = 0; isa < fbp_isa_count(); isa++) {
        fbp_isa_force(fbp_isa_name(isa));
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            const int64_t *s = sizes[i];
            const fbp_shape x = {FBP_REAL, 1, 3, {s[0], s[1], s[2]}};
            const fbp_shape w = {FBP_REAL, 0, 4, {s[3], s[3], s[2] / s[6], s[4]}};
            const fbp_shape b = {FBP_REAL, 0, 1, {s[4]}};
            for (int stride = 1; stride < 3; stride++) {
                /* stride, padding, dilation, groups; kernel, stride, padding, count_include_pad */
                check("conv", (double[]){stride, (double)s[5], 1, (double)s[6]}, 3,
                      (fbp_shape[]){x, w, b});
                check("max_pool", (double[]){2, stride, 0}, 1, &x);
                check("average_pool", (double[]){2, stride, 1, 0}, 1, &x);
            }
        }
    }
    return failures != 0;
}
