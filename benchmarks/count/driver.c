/* What `make count` counts. Without arguments it lists its cases; given an instruction set and the
 * name of a case, it prepares that case and runs it once, on one thread, inside of counted(), where
 * callgrind collects. All data are functions of a seed, and nobody looks at a clock: the counts of
 * one binary repeat to the last digit. A case takes callgrind a few seconds at most. What is
 * allocated goes with the process. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fbp.h"

typedef enum { EPOCH, PREDICT, GRADIENT } work_kind;

typedef struct {
    const char *name;
    work_kind work;
    int64_t rows, batch, n_inputs, n_outputs;
    int n_hidden;      /* layers */
    int64_t widths[2]; /* of the hidden layers, in turn */
    const char *activation;
    fbp_dtype dtype;
    int64_t stored; /* values in each row of a CSR input; 0: dense */
} test_case;

enum { most_layers = 33 }; /* of a case */

static const test_case cases[] = {
    {"epoch 64-100-10", EPOCH, 1000, 200, 64, 10, 1, {100}, "relu", FBP_F32, 0},
    {"epoch 20-64-32-1", EPOCH, 1600, 32, 20, 1, 2, {64, 32}, "relu", FBP_F32, 0},
    {"epoch 54-256-256-7", EPOCH, 512, 256, 54, 7, 2, {256, 256}, "relu", FBP_F32, 0},
    {"epoch 64-(64)x32-1", EPOCH, 128, 64, 64, 1, 32, {64, 64}, "tanh", FBP_F32, 0},
    {"epoch 2000-100-10 CSR of 1 %", EPOCH, 1000, 200, 2000, 10, 1, {100}, "relu", FBP_F32, 20},
    {"gradient 20-64-32-1 float64", GRADIENT, 1000, 0, 20, 1, 2, {64, 32}, "tanh", FBP_F64, 0},
    {"predict 1 row 54-256-256-7", PREDICT, 1, 0, 54, 7, 2, {256, 256}, "relu", FBP_F32, 0},
    {"predict 1000 rows 54-256-256-7", PREDICT, 1000, 0, 54, 7, 2, {256, 256}, "relu", FBP_F32, 0},
};

/* What a case runs on; made before counting. */
typedef struct {
    const test_case *of;
    fbp_plan *plan;
    fbp_training *training;
    fbp_samples x;
    const void *target;
    fbp_problem problem; /* of the two, so it is filled where they lie */
    void *params, *out, *states[2];
} prepared;

static void check(fbp_status status) {
    if (status == FBP_OK) return;
    fprintf(stderr, "%s\n", fbp_message());
    exit(1);
}

static void *zeros(int64_t count, size_t size) {
    void *block = calloc((size_t)count, size);
    if (block == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return block;
}

/* One output is a value to be met, several are those of a classifier. */
static int has_classes(const test_case *c) { return c->n_outputs > 1; }

static size_t size_of(const test_case *c) {
    return c->dtype == FBP_F32 ? sizeof(float) : sizeof(double);
}

static fbp_plan *make_plan(const test_case *c) {
    fbp_row_spec specs[2 * most_layers] = {{0}}, loss = {0};
    loss.name = has_classes(c) ? "softmax_cross_entropy" : "squared_error";
    int n = 0;
    for (int i = 0; i < c->n_hidden; i++) {
        specs[n].name = "linear";
        specs[n++].units = c->widths[i % 2];
        specs[n++].name = c->activation;
    }
    specs[n].name = "linear";
    specs[n++].units = c->n_outputs;
    fbp_plan *plan = NULL;
    check(fbp_plan_create(c->n_inputs, n, specs, &loss, c->dtype, c->stored > 0, &plan));
    return plan;
}

/* Uniform, of variance 1 / n_in: activations neither vanish nor saturate. */
static void *make_params(const test_case *c, const fbp_plan *plan) {
    fbp_plan_info info = fbp_plan_describe(plan);
    char *params = zeros(info.n_params, size_of(c));
    uint32_t layer = 0;
    for (int n = 0; n < info.n_nodes; n++) {
        fbp_node_place node = fbp_plan_node(plan, n);
        if (node.n_inputs < 3) continue;
        fbp_value_place w = fbp_plan_value(plan, node.inputs[1]);
        int64_t n_in = w.shape.shape[0], n_out = w.shape.shape[1];
        double bound = sqrt(3.0 / (double)n_in);
        fbp_uniform(1, layer++, n_in * n_out, -bound, bound, c->dtype,
                    params + (size_t)w.offset * size_of(c));
    }
    return params;
}

static fbp_samples make_samples(const test_case *c) {
    int64_t stored = c->stored * c->rows, count = stored > 0 ? stored : c->rows * c->n_inputs;
    void *data = zeros(count, size_of(c));
    fbp_normal(2, 0, count, c->dtype, data);
    fbp_samples x = {.data = data, .rows = c->rows, .cols = c->n_inputs, .stored = stored};
    x.row_stride = c->n_inputs;
    x.col_stride = 1;
    if (stored == 0) return x;
    /* One column of each stretch of n_inputs / stored: their indices rise. */
    int64_t *indptr = zeros(c->rows + 1, sizeof *indptr), stretch = c->n_inputs / c->stored;
    int32_t *indices = zeros(stored, sizeof *indices);
    for (int64_t i = 0; i < c->rows; i++) {
        indptr[i + 1] = (i + 1) * c->stored;
        for (int64_t j = 0; j < c->stored; j++)
            indices[i * c->stored + j] = (int32_t)(j * stretch + (7 * i + 3 * j) % stretch);
    }
    x.indptr = indptr;
    x.indices = indices;
    return x;
}

static void *make_target(const test_case *c) {
    if (!has_classes(c)) {
        void *values = zeros(c->rows * c->n_outputs, size_of(c));
        fbp_normal(3, 0, c->rows * c->n_outputs, c->dtype, values);
        return values;
    }
    int32_t *classes = zeros(c->rows, sizeof *classes);
    for (int64_t i = 0; i < c->rows; i++) classes[i] = (int32_t)(i % c->n_outputs);
    return classes;
}

static void prepare(const test_case *c, prepared *p) {
    p->of = c;
    p->plan = make_plan(c);
    int64_t n_params = fbp_plan_describe(p->plan).n_params;
    p->params = make_params(c, p->plan);
    p->x = make_samples(c);
    p->target = make_target(c);
    p->problem.x = &p->x;
    p->problem.target = &p->target;
    p->problem.alpha = 1e-4;
    p->out = zeros(c->work == GRADIENT ? n_params : c->rows * c->n_outputs, size_of(c));
    for (int i = 0; i < 2; i++) p->states[i] = zeros(n_params, size_of(c));
    if (c->work == EPOCH) {
        fbp_training_spec spec = {.problem = p->problem,
                                  .rule = "adam",
                                  .attrs = {0.9, 0.999, 1e-8},
                                  .batch = c->batch,
                                  .accumulate = 1,
                                  .shuffle = 1,
                                  .n_threads = 1};
        check(fbp_training_create(p->plan, &spec, p->params, p->states, &p->training));
    }
}

static fbp_status work(const prepared *p) {
    double rate = 1e-3, loss = 0.0;
    fbp_run run = {.n_epochs = 1, .rates = &rate, .rates_per_epoch = 1, .losses = &loss};
    switch (p->of->work) {
    case EPOCH:
        return fbp_training_run(p->training, &run);
    case PREDICT:
        return fbp_predict(p->plan, p->params, &p->x, 0, 1, NULL, NULL, &p->out);
    case GRADIENT:
        return fbp_gradient(p->plan, p->params, &p->problem, 1, NULL, NULL, &loss, p->out);
    }
    return FBP_INVALID;
}

/* callgrind knows it by its name: so it is neither static nor inlined. */
#if defined(__GNUC__)
__attribute__((noinline))
#endif
fbp_status counted(const prepared *p);

fbp_status counted(const prepared *p) { return work(p); }

int main(int argc, char **argv) {
    enum { n_cases = sizeof cases / sizeof cases[0] };
    for (int i = 0; i < n_cases; i++) {
        if (argc == 1) printf("%s\n", cases[i].name);
        if (argc != 3 || strcmp(argv[2], cases[i].name) != 0) continue;
        check(fbp_isa_force(argv[1]));
        prepared p = {0};
        prepare(&cases[i], &p);
        /* The first call allocates what later ones use again; training has it already. */
        if (p.training == NULL) check(work(&p));
        check(counted(&p));
        return 0;
    }
    return argc == 1 ? 0 : 2;
}
