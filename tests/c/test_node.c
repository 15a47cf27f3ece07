/* Ops as plans run them: many samples at once, rows padded on all sides, operands with and without
 * a sample axis. Each is held to the same op on one sample alone, dense, which the Python tests
 * hold to NumPy. Nothing here has a tolerance: a sample's bits may not depend on how arrays lie,
 * and where gradients are summed over samples, numbers are small integers, whose sums are exact in
 * any order. What must not be written holds a number that no op yields. */
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/node_run.h"
#include "core/registry.h"

enum { samples = 3, padding = 5, beyond = 64, most_axes = 4 };
static const double untouched = -12345.0;

static int failures;
static uint32_t state = 1;
static fbp_dtype dtype;

static int64_t integer(int64_t least, int64_t below) {
    state = state * 1664525u + 1013904223u;
    return least + (int64_t)((uint64_t)(state >> 8) * (uint64_t)(below - least) >> 24);
}

/* ---- cases ---- */

typedef struct {
    int batched, ndim;
    int64_t shape[most_axes];
    int64_t least, below; /* of integers; both 0: reals */
} input;

typedef struct {
    const char *op;
    int n_inputs;
    input inputs[3];
    int counts[3];
    double numbers[12];
} test_case;

/* An input of which each sample has its own, and one that all of them share; of reals, or of
 * integers in a range. */
#define EACH(ndim, ...) {1, ndim, {__VA_ARGS__}, 0, 0}
#define ALL(ndim, ...) {0, ndim, {__VA_ARGS__}, 0, 0}
#define EACH_OF(least, below, ndim, ...) {1, ndim, {__VA_ARGS__}, least, below}
#define ALL_OF(least, below, ndim, ...) {0, ndim, {__VA_ARGS__}, least, below}

static const test_case cases[] = {
    {"reshape", 1, {EACH(3, 2, 3, 4)}, {2}, {6, 4}},
    {"reshape", 1, {EACH(2, 6, 5)}, {3}, {5, 3, 2}},
    {"reshape", 1, {EACH(1, 7)}, {2}, {7, 1}},
    {"reshape", 1, {ALL(2, 4, 3)}, {1}, {12}},
    {"transpose", 1, {EACH(2, 19, 35)}, {2}, {1, 0}},
    {"transpose", 1, {EACH(3, 2, 3, 5)}, {3}, {1, 2, 0}},
    {"transpose", 1, {EACH(3, 2, 3, 5)}, {3}, {1, 0, 2}},
    {"transpose", 1, {ALL(2, 4, 6)}, {2}, {1, 0}},
    {"index", 1, {EACH(1, 9)}, {1, 1, 1}, {8, -2, 5}},
    {"index", 1, {EACH(2, 5, 7)}, {2, 2, 2}, {1, 6, 2, -3, 2, 2}},
    {"index", 1, {EACH(2, 5, 7)}, {2, 2, 2}, {1, 2, 1, 1, 3, 4}},
    {"index", 1, {ALL(2, 5, 7)}, {2, 2, 2}, {0, 0, 2, 1, 3, 7}},
    {"pad", 1, {EACH(2, 3, 4)}, {2, 2, 1}, {1, 0, 2, 3, 7}},
    {"pad", 1, {EACH(1, 3)}, {1, 1, 1}, {0, 1, -2}},
    {"concatenate", 3, {EACH(2, 2, 3), ALL(2, 4, 3), EACH(2, 1, 3)}, {1}, {0}},
    {"concatenate", 3, {ALL(2, 2, 3), EACH(2, 2, 1), ALL(2, 2, 9)}, {1}, {1}},
    {"concatenate", 2, {ALL(2, 2, 3), ALL(2, 2, 1)}, {1}, {1}},
    {"broadcast", 1, {EACH(1, 3)}, {2}, {4, 3}},
    {"broadcast", 1, {EACH(3, 2, 1, 3)}, {4}, {2, 2, 5, 3}},
    {"broadcast", 1, {EACH(2, 5, 1)}, {2}, {5, 21}},
    {"take", 2, {EACH(2, 5, 3), EACH_OF(-5, 5, 2, 4, 3)}, {1}, {0}},
    {"take", 2, {EACH(3, 2, 5, 3), ALL_OF(-5, 5, 1, 7)}, {1}, {1}},
    {"take", 2, {EACH(3, 2, 5, 3), ALL_OF(0, 5, 0, 0)}, {1}, {1}},
    {"take", 2, {EACH(2, 3, 6), EACH_OF(-6, 6, 2, 2, 5)}, {1}, {-1}},
    {"take", 2, {EACH(3, 2, 3, 6), EACH_OF(-6, 6, 0, 0)}, {1}, {2}},
    {"take", 2, {EACH(1, 6), EACH_OF(-6, 6, 2, 3, 2)}, {1}, {0}},
    {"take", 2, {ALL(2, 5, 3), EACH_OF(-5, 5, 2, 4, 3)}, {1}, {0}},
    {"take", 2, {ALL(2, 3, 5), EACH_OF(-5, 5, 1, 9)}, {1}, {1}},
    {"take_along", 2, {EACH(2, 5, 3), EACH_OF(-5, 5, 2, 7, 3)}, {1}, {0}},
    {"take_along", 2, {EACH(2, 5, 3), ALL_OF(-3, 3, 2, 5, 4)}, {1}, {1}},
    {"take_along", 2, {ALL(2, 5, 3), EACH_OF(-3, 3, 2, 1, 4)}, {1}, {-1}},
    {"take_along", 2, {EACH(3, 1, 3, 2), EACH_OF(-3, 3, 3, 4, 5, 1)}, {1}, {1}},
    {"embedding", 2, {EACH_OF(-9, 9, 1, 4), ALL(2, 9, 5)}, {0}, {0}},
    {"embedding", 2, {EACH_OF(0, 4, 2, 3, 2), ALL(2, 4, 1)}, {0}, {0}},
    {"embedding", 2, {EACH_OF(0, 7, 0, 0), ALL(2, 7, 3)}, {0}, {0}},
    {"embedding", 2, {ALL_OF(0, 7, 1, 20), ALL(2, 7, 3)}, {0}, {0}},
    {"matmul", 2, {EACH(2, 3, 5), EACH(2, 5, 4)}, {0}, {0}},
    {"matmul", 2, {EACH(2, 7, 19), EACH(2, 19, 53)}, {0}, {0}},
    {"matmul", 2, {EACH(2, 3, 5), EACH(2, 5, 32)}, {0}, {0}}, /* whole vectors */
    {"matmul", 2, {EACH(2, 3, 5), ALL(2, 5, 17)}, {0}, {0}},
    {"matmul", 2, {ALL(2, 3, 5), EACH(2, 5, 1)}, {0}, {0}},
    {"matmul", 2, {EACH(4, 2, 1, 3, 5), EACH(3, 4, 5, 2)}, {0}, {0}},
    {"matmul", 2, {ALL(4, 2, 1, 3, 5), EACH(3, 4, 5, 2)}, {0}, {0}},
    {"matmul", 2, {EACH(3, 2, 300, 3), ALL(3, 1, 3, 50)}, {0}, {0}},
    {"matmul", 2, {ALL(2, 2, 3), ALL(2, 3, 2)}, {0}, {0}},
};

/* ---- arrays ---- */

static size_t bytes_of(const fbp_operand *x, int64_t elements) {
    return (size_t)elements * (x->is.content == FBP_INDEX ? sizeof(int32_t) : fbp_size(dtype));
}

static double get(const fbp_operand *x, const void *array, int64_t i) {
    return x->is.content == FBP_INDEX ? ((const int32_t *)array)[i] : fbp_real_at(dtype, array, i);
}

static void put(const fbp_operand *x, void *array, int64_t i, double value) {
    if (x->is.content == FBP_INDEX)
        ((int32_t *)array)[i] = (int32_t)value;
    else if (dtype == FBP_F32)
        ((float *)array)[i] = (float)value;
    else
        ((double *)array)[i] = value;
}

/* Where an element of a sample, counted as in a dense array, lies. */
static int64_t place(const fbp_operand *x, int64_t sample, int64_t element) {
    int64_t width = fbp_width(x);
    return sample * x->sample_stride + element / width * x->row_stride + element % width;
}

/* An array all of whose elements are `untouched`, with more of them behind it. */
static void *new_array(const fbp_operand *x) {
    int64_t n = fbp_extent(x, samples) + beyond;
    void *array = fbp_alloc(bytes_of(x, n));
    for (int64_t i = 0; i < n; i++) put(x, array, i, untouched);
    return array;
}

static void *new_input(const fbp_operand *x, int64_t least, int64_t below, double divisor) {
    void *array = new_array(x);
    for (int64_t s = 0; s < (x->is.batched ? samples : 1); s++)
        for (int64_t i = 0; i < fbp_elements(x); i++)
            put(x, array, place(x, s, i), (double)integer(least, below) / divisor);
    return array;
}

static void *new_dense(const fbp_operand *x) {
    return fbp_alloc(bytes_of(x, fbp_elements(x) + beyond));
}

static void *dense_copy(const fbp_operand *x, const void *array, int64_t sample) {
    void *copy = new_dense(x);
    for (int64_t i = 0; i < fbp_elements(x); i++)
        put(x, copy, i, get(x, array, place(x, sample, i)));
    return copy;
}

static void expect(int holds, const test_case *test, const char *what) {
    if (holds) return;
    failures++;
    printf("%s, case %d, %s on %s: %s\n", test->op, (int)(test - cases),
           dtype == FBP_F32 ? "float" : "double", fbp_isa_current(), what);
}

/* Whether a sample's part equals a dense array. */
static int same(const fbp_operand *x, const void *array, int64_t sample, const void *dense) {
    int equal = 1;
    for (int64_t i = 0; i < fbp_elements(x); i++)
        equal &= get(x, array, place(x, sample, i)) == get(x, dense, i);
    return equal;
}

/* Whether all but the elements is as new_array() left it. */
static int clean(const fbp_operand *x, const void *array) {
    int untouched_yet = 1, width = (int)fbp_width(x);
    int64_t n = fbp_extent(x, samples);
    for (int64_t i = 0; i < n + beyond; i++)
        if (i >= n || i % x->row_stride >= width) untouched_yet &= get(x, array, i) == untouched;
    return untouched_yet;
}

/* ---- one case ---- */

typedef struct {
    const test_case *test;
    fbp_node *node, *single; /* padded, for all samples; dense, for one */
    fbp_call call;
    void *scratch;
    double *sums[FBP_MAX_INPUTS]; /* of gradients by shared inputs */
} running;

static fbp_node *new_node(const test_case *test, int batched) {
    const fbp_row *row = fbp_row_find(FBP_OP, test->op);
    fbp_shape shapes[FBP_MAX_INPUTS] = {{.content = FBP_REAL}};
    for (int i = 0; i < test->n_inputs; i++) {
        const input *in = &test->inputs[i];
        shapes[i].content = in->least < in->below ? FBP_INDEX : FBP_REAL;
        shapes[i].batched = batched && in->batched;
        shapes[i].ndim = in->ndim;
        memcpy(shapes[i].shape, in->shape, sizeof in->shape);
    }
    fbp_node *node;
    if (fbp_node_create(row, dtype, test->numbers, test->counts, test->n_inputs, shapes, &node) !=
        FBP_OK) {
        failures++;
        printf("%s\n", fbp_message());
    }
    return node;
}

static void prepare(running *run) {
    fbp_node *node = run->node;
    double divisor = node->shared == 0 ? 7.0 : 1.0;
    for (int i = 0; i < node->n_in; i++) {
        const input *in = &run->test->inputs[i];
        fbp_operand *x = &node->in[i];
        fbp_lay_out(x, fbp_width(x) + padding + i);
        run->call.at.x[i] = in->least < in->below ? new_input(x, in->least, in->below, 1.0)
                                                  : new_input(x, -9, 10, divisor);
        run->call.at.dx[i] = new_array(x);
        run->sums[i] = fbp_alloc((size_t)fbp_elements(x) * sizeof(double));
    }
    fbp_lay_out(&node->out[0], fbp_width(&node->out[0]) + padding + 3);
    run->call.at.samples = samples;
    run->call.at.y[0] = new_array(&node->out[0]);
    run->call.at.dy[0] = new_input(&node->out[0], -9, 10, divisor);
    size_t (*scratch)(const fbp_node *, int64_t) = fbp_node_ops(node)->scratch_bytes;
    run->scratch = run->call.scratch = fbp_alloc(scratch == NULL ? 1 : scratch(node, samples));
}

/* Forward and backward of all samples against those of a single one. */
static void check_sample(running *run, int64_t sample) {
    const fbp_node *node = run->node;
    const fbp_arrays *at = &run->call.at;
    fbp_arrays one = {.samples = 1};
    for (int i = 0; i < node->n_in; i++) {
        one.x[i] = dense_copy(&node->in[i], at->x[i], sample);
        if (node->differentiable & 1u << i) one.dx[i] = new_dense(&node->in[i]);
    }
    one.y[0] = new_dense(&node->out[0]);
    one.dy[0] = dense_copy(&node->out[0], at->dy[0], sample);
    fbp_status status = fbp_node_forward(run->single, &one);
    if (status == FBP_OK) status = fbp_node_backward(run->single, &one);
    expect(status == FBP_OK, run->test, "a run of one sample failed");
    expect(same(&node->out[0], at->y[0], sample, one.y[0]), run->test, "the result is wrong");
    for (int i = 0; i < node->n_in; i++) {
        if (node->shared & 1u << i)
            for (int64_t e = 0; e < fbp_elements(&node->in[i]); e++)
                run->sums[i][e] += fbp_real_at(dtype, one.dx[i], e);
        else if (one.dx[i] != NULL)
            expect(same(&node->in[i], at->dx[i], sample, one.dx[i]), run->test,
                   "a gradient is wrong");
        fbp_free(fbp_element(dtype, one.x[i], 0));
        fbp_free(one.dx[i]);
    }
    fbp_free(one.y[0]);
    fbp_free(fbp_element(dtype, one.dy[0], 0));
}

/* The sum in one piece, and, where rows can be formed alone, in two; then added to itself. */
static void check_shared(running *run, int i) {
    const fbp_node *node = run->node;
    fbp_operand g = node->in[i];
    fbp_lay_out(&g, fbp_width(&g));
    void *sum = new_array(&g);
    int64_t rows = fbp_positions(&g), first = node->row->divisible ? rows / 3 : rows;
    const fbp_node_kernels *ops = fbp_node_ops(node);
    for (int add = 0; add < 2; add++) {
        ops->backward_shared(node, &run->call, i, 0, first, add, sum);
        if (first < rows) /* the first of two may overrun its part, so the second comes later */
            ops->backward_shared(node, &run->call, i, first, rows, add,
                                 fbp_element(dtype, sum, first * fbp_width(&g)));
        int equal = 1;
        for (int64_t e = 0; e < fbp_elements(&g); e++)
            equal &= fbp_real_at(dtype, sum, e) == (1 + add) * run->sums[i][e];
        expect(equal, run->test, add ? "a shared gradient adds up wrongly" : "one is wrong");
    }
    fbp_free(sum);
}

static void check_case(const test_case *test) {
    running run = {.test = test, .node = new_node(test, 1), .single = new_node(test, 0)};
    if (run.node == NULL || run.single == NULL) return;
    prepare(&run);
    const fbp_node *node = run.node;
    const fbp_node_kernels *ops = fbp_node_ops(node);
    ops->forward(node, &run.call);
    ops->backward(node, &run.call);
    for (int64_t s = 0; s < (node->out[0].is.batched ? samples : 1); s++) check_sample(&run, s);
    expect(clean(&node->out[0], run.call.at.y[0]), test, "the result's padding was written");
    for (int i = 0; i < node->n_in; i++) {
        expect(clean(&node->in[i], run.call.at.dx[i]), test, "a gradient's padding was written");
        if (node->shared & 1u << i) check_shared(&run, i);
    }
    for (int i = 0; i < node->n_in; i++) {
        fbp_free(fbp_element(dtype, run.call.at.x[i], 0));
        fbp_free(run.call.at.dx[i]);
        fbp_free(run.sums[i]);
    }
    fbp_free(run.call.at.y[0]);
    fbp_free(fbp_element(dtype, run.call.at.dy[0], 0));
    fbp_free(run.scratch);
    fbp_node_destroy(run.node);
    fbp_node_destroy(run.single);
}

int main(void) {
    for (int isa = 0; isa < fbp_isa_count(); isa++) {
        fbp_isa_force(fbp_isa_name(isa));
        for (int d = FBP_F32; d <= FBP_F64; d++) {
            dtype = (fbp_dtype)d;
            for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_case(&cases[i]);
        }
    }
    if (failures > 0) printf("%d failures\n", failures);
    return failures != 0;
}
