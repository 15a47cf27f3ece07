/* Every allocation may fail: for the n-th, for every n until the work succeeds, the call must say
 * so and leave nothing behind (the sanitizer looks for leaks). And the steady state allocates
 * nothing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fbp.h"

enum { n_samples = 40, n_inputs = 3, n_hidden = 5, n_outputs = 2 };
enum { n_params = (n_inputs + 1) * n_hidden + (n_hidden + 1) * n_outputs };

static int failures;

static void expect(int holds, const char *what) {
    if (holds) return;
    failures++;
    printf("does not hold: %s\n", what);
}

static double x[n_samples * n_inputs], y[n_samples * n_outputs], params[n_params], grad[n_params];
static double m[n_params], v[n_params], out[n_samples * n_outputs];

static const fbp_samples samples = {
    .data = x, .rows = n_samples, .cols = n_inputs, .row_stride = n_inputs, .col_stride = 1};
static const void *const targets[] = {y};
static const fbp_problem problem = {.x = &samples, .target = targets, .alpha = 0.01};

static fbp_status make_plan(fbp_plan **plan) {
    fbp_row_spec specs[] = {{.name = "linear", .units = n_hidden},
                            {.name = "tanh"},
                            {.name = "linear", .units = n_outputs}};
    fbp_row_spec loss = {.name = "squared_error"};
    return fbp_plan_create(n_inputs, 3, specs, &loss, FBP_F64, 0, plan);
}

static fbp_status train(fbp_plan *plan, int64_t epochs) {
    fbp_training_spec spec = {.problem = problem,
                              .rule = "adam",
                              .attrs = {0.9, 0.999, 1e-8},
                              .batch = 16,
                              .accumulate = 1,
                              .shuffle = 1,
                              .n_threads = 2};
    void *states[] = {m, v};
    fbp_training *training = NULL;
    fbp_status status = fbp_training_create(plan, &spec, params, states, &training);
    if (status != FBP_OK) return status;
    double rates[64], losses[64];
    for (int i = 0; i < 64; i++) rates[i] = 1e-3;
    fbp_run run = {.n_epochs = epochs, .rates = rates, .rates_per_epoch = 1, .losses = losses};
    int64_t before = fbp_allocation_count();
    status = fbp_training_run(training, &run);
    expect(fbp_allocation_count() == before, "training allocates nothing while it runs");
    fbp_training_destroy(training);
    return status;
}

/* A layer in mixed precision, whose schedule has further steps. */
static fbp_status make_mixed(fbp_plan **plan) {
    static const fbp_shape in = {.ndim = 1, .shape = {n_inputs}};
    static const fbp_parameter_spec weights = {
        .shape = {.ndim = 2, .shape = {n_inputs, n_outputs}}};
    static const int read[] = {0, 1}, made[] = {2}, counts[1] = {0}, result = 3;
    static const fbp_node_spec nodes[] = {
        {.op = "linear", .counts = counts, .n_inputs = 2, .inputs = read},
        {.op = "tanh", .counts = counts, .n_inputs = 1, .inputs = made}};
    static const fbp_loss_spec loss = {.name = "squared_error", .value = 3, .factor = 1.0};
    fbp_graph_spec spec = {.dtype = FBP_F32,
                           .precision = FBP_FP16,
                           .n_inputs = 1,
                           .inputs = &in,
                           .n_parameters = 1,
                           .parameters = &weights,
                           .n_nodes = 2,
                           .nodes = nodes,
                           .n_losses = 1,
                           .losses = &loss,
                           .n_outputs = 1,
                           .outputs = &result};
    return fbp_plan_of_graph(&spec, plan);
}

static fbp_status train_mixed(void) {
    static float x_f32[n_samples * n_inputs], y_f32[n_samples * n_outputs];
    float w[n_inputs * n_outputs] = {0.5f}, grad_f32[n_inputs * n_outputs];
    const fbp_samples in = {.data = x_f32,
                            .rows = n_samples,
                            .cols = n_inputs,
                            .row_stride = n_inputs,
                            .col_stride = 1};
    const void *const target[] = {y_f32};
    fbp_problem all = {.x = &in, .target = target};
    fbp_plan *plan = NULL;
    double loss = 0.0;
    fbp_status status = make_mixed(&plan);
    if (status == FBP_OK) status = fbp_gradient(plan, w, &all, 1, NULL, NULL, &loss, grad_f32);
    fbp_plan_destroy(plan);
    return status;
}

/* Everything that a caller may ask of the core, in turn. */
static fbp_status everything(void) {
    fbp_plan *plan = NULL;
    double loss = 0.0, z[n_samples * n_hidden], d[n_samples * n_hidden];
    /* The input, two weights and two biases, then z, its activation, and the raw output. */
    void *values[8] = {[5] = z}, *gradients[8] = {[5] = d}, *to = out;
    const void *dx = x;
    fbp_status status = make_plan(&plan);
    if (status == FBP_OK) status = train(plan, 2);
    if (status == FBP_OK) status = train_mixed();
    if (status == FBP_OK) status = fbp_predict(plan, params, &samples, 0, 2, NULL, NULL, &to);
    if (status == FBP_OK) status = fbp_gradient(plan, params, &problem, 2, NULL, NULL, &loss, grad);
    if (status == FBP_OK) status = fbp_hessian_product(plan, params, &problem, grad, grad);
    if (status == FBP_OK) status = fbp_tangent(plan, params, &samples, grad, &dx, &to);
    if (status == FBP_OK) status = fbp_inspect(plan, params, &problem, values, gradients, &to);
    fbp_plan_destroy(plan);
    return status;
}

int main(void) {
    for (int i = 0; i < n_samples * n_inputs; i++) x[i] = sin(i);
    for (int i = 0; i < n_samples * n_outputs; i++) y[i] = cos(i);
    for (int i = 0; i < n_params; i++) params[i] = sin(3.0 * i) / 2.0;
    int64_t nth = 1;
    for (; nth < 1000; nth++) {
        fbp_fail_allocation(nth);
        fbp_status status = everything();
        if (status == FBP_OK) break;
        expect(status == FBP_NO_MEMORY, "a failed allocation is reported as such");
        expect(strstr(fbp_message(), "out of memory") != NULL, "and says so");
    }
    fbp_fail_allocation(0);
    expect(nth > 8 && nth < 1000, "several allocations were made to fail, and then none");
    return failures != 0;
}
