/* fbp.h: the public face of the C core.
 *
 * Every function that can fail returns an fbp_status; the sentence that explains a failure
 * (argument, what was found, what was wanted) is fbp_message(), kept for each thread. The core
 * never ends the process, prints, or keeps a pointer to the caller's arrays beyond a call,
 * fbp_training excepted, which says so. All matrices are row-major.
 *
 * It is long because it is the only one: a caller needs no other header. */
#ifndef FBP_H
#define FBP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ---- */

typedef enum {
    FBP_OK = 0,
    FBP_INVALID,     /* an argument is wrong */
    FBP_NO_MEMORY,   /* an allocation failed; nothing has changed */
    FBP_NOT_FINITE,  /* a loss or weight became infinite or NaN; see fbp_culprit */
    FBP_INTERRUPTED, /* the poll function asked to stop */
    FBP_ABSENT,      /* the row has no such function, for example no tangent */
    FBP_FAILED       /* a callback failed; what a step was to change has not changed */
} fbp_status;

const char *fbp_message(void);

/* ---- the table ---- */

typedef enum { FBP_F32 = 0, FBP_F64 = 1 } fbp_dtype;
/* In training of float32 what is kept for a whole batch, and the copies of weights that products
 * read, may be rounded to 16 bits: "mixed precision". Weights and arithmetic stay float32. */
typedef enum { FBP_FULL = 0, FBP_BF16, FBP_FP16 } fbp_precision;
/* A function is elementwise, as an activation is, but nothing to put between layers. */
typedef enum { FBP_OP = 0, FBP_ACTIVATION, FBP_LOSS, FBP_RULE, FBP_FUNCTION } fbp_kind;
typedef enum { FBP_READS_NOTHING = 0, FBP_READS_INPUT, FBP_READS_OUTPUT } fbp_reads;
typedef enum {
    FBP_TARGET_REAL = 0,    /* any finite number */
    FBP_TARGET_NONNEGATIVE, /* 0 or more */
    FBP_TARGET_BINARY,      /* 0 or 1 (in between where the loss allows it) */
    FBP_TARGET_CLASS        /* the index of a class, int32_t */
} fbp_target;

#define FBP_MAX_ATTRS 8
#define FBP_MAX_STATES 4 /* state vectors of an update rule */

/* A number that a row takes, with its range; of an op also a list of such. */
typedef struct {
    const char *name;
    double fallback; /* its value when none is given; NAN: it has to be given */
    double low, high;
    int low_open, high_open; /* whether the bound itself is excluded */
    const char *doc;
    int whole;       /* integers only */
    int least, most; /* numbers in a list; 0 and 0: a single number */
} fbp_attr;

typedef struct fbp_row fbp_row;

int fbp_row_count(void);
const fbp_row *fbp_row_at(int index);
const fbp_row *fbp_row_find(fbp_kind kind, const char *name); /* NULL, with a message, if absent */

/* What an update rule must know before it changes a weight, besides the gradient. */
typedef enum { FBP_NEEDS_NOTHING = 0, FBP_NEEDS_TENSOR_NORMS } fbp_needs;

/* What can be said of a row without running it. */
typedef struct {
    const char *name, *doc;
    fbp_kind kind;
    int n_attrs;
    const fbp_attr *attrs;
    fbp_reads reads;
    fbp_target target;
    const char *link;
    int n_states;
    fbp_needs needs;
    int row_independent, has_tangent, has_backward_tangent;
    int reads_sparse; /* an op on samples in compressed rows: it runs in plans only */
} fbp_row_info;
fbp_row_info fbp_row_describe(const fbp_row *row);

/* Whether a row's attributes, all of them and in its order, lie in their ranges. */
fbp_status fbp_row_check(const fbp_row *row, const double *attrs);

/* A row run by itself, on n contiguous elements or `rows` samples: for functions, tests and
 * looking. */
fbp_status fbp_activation_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, int order,
                              int64_t n, const void *x, void *out);
fbp_status fbp_loss_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, int64_t rows,
                        int64_t k, const void *z, const void *target, void *value, void *dz);
fbp_status fbp_loss_tangent(const fbp_row *row, fbp_dtype dtype, const double *attrs, int64_t rows,
                            int64_t k, const void *z, const void *tz, const void *target,
                            void *tvalue, void *tdz);
fbp_status fbp_loss_predict(const fbp_row *row, fbp_dtype dtype, int64_t rows, int64_t k,
                            const void *z, void *prediction);
fbp_status fbp_rule_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, double rate,
                        int64_t step, int64_t n, const void *g, void *w, void *const *states);
fbp_status fbp_elementary_run(const char *name, fbp_dtype dtype, int64_t n, const void *x,
                              void *out);
const char *fbp_elementary_name(int index); /* NULL past the last */
/* n numbers rounded to 16 bits of a precision other than full, as bits; and back. */
void fbp_narrow(fbp_precision precision, int64_t n, float *x, uint16_t *out); /* x is rounded too */
void fbp_widen(fbp_precision precision, int64_t n, const uint16_t *bits, float *out);

/* ---- nodes: ops on arrays, one at a time ---- */

#define FBP_MAX_DIMS 8
#define FBP_MAX_INPUTS 8
#define FBP_MAX_OUTPUTS 4 /* with what is kept for backward */

typedef enum {
    FBP_REAL = 0, /* of the node's dtype */
    FBP_INDEX,    /* int32_t */
    FBP_SPARSE    /* samples in compressed rows, as an input of a graph */
} fbp_content;

/* An operand that is `batched` has one array of this shape for each sample; one that is not, a
 * parameter or a constant, has one for all. The shape never counts the sample axis. */
typedef struct {
    fbp_content content;
    int batched;
    int ndim; /* 0: a number */
    int64_t shape[FBP_MAX_DIMS];
} fbp_shape;

/* Where the callers of single ops have the sample axis of an operand: nowhere, all of their array
 * being one sample; as the first axis of the operands that are data; or as the first axis of those
 * that span the first axis of the result. */
typedef enum { FBP_AXIS_NONE = 0, FBP_AXIS_DATA, FBP_AXIS_SPANNED } fbp_sample_axis;

typedef struct {
    int least_inputs, most_inputs; /* equal, unless inputs are optional or any number */
    const char *const *inputs;     /* (most_inputs) their names */
    fbp_sample_axis axis;
    unsigned data;    /* FBP_AXIS_DATA: bit i: input i is data */
    unsigned indices; /* bit i: input i is of integers; all others are of reals */
    int own_axes;     /* FBP_AXIS_SPANNED: so many last axes are never that of the samples */
    int random;       /* in training it is a function of the draws too, and not otherwise */
} fbp_op_info;
fbp_op_info fbp_op_describe(const fbp_row *row);

/* The shape of an array that has the samples along an axis of it. */
typedef struct {
    int ndim;
    int64_t lengths[FBP_MAX_DIMS + 1];
} fbp_lengths;
/* Which of the inputs of a single op give their first axis away as that of the samples, and which
 * of these have one array for each (where it broadcasts, its only element is for all); how many
 * samples there are, 1 where no input has any. */
typedef struct {
    int leading[FBP_MAX_INPUTS], batched[FBP_MAX_INPUTS];
    int64_t samples;
} fbp_sampled;
fbp_status fbp_op_samples(const fbp_row *row, int n_inputs, const fbp_lengths *shapes,
                          fbp_sampled *found);

/* What random masks are functions of: sample s of a call is sample first + s of its batch. */
typedef struct {
    uint64_t seed;
    uint64_t step;
    uint32_t stream; /* the node's own */
    int64_t first;
} fbp_draws;

/* The arrays of one call on `samples` samples: inputs, results and what is kept, and in d.. their
 * gradients, in t.. their tangents, in td.. the tangents of the gradients. A pointer that a
 * function has no use for may hold anything. Of what is read, NULL is zero; of what is written, it
 * is not wanted. Gradients are written, not added to. */
typedef struct {
    int64_t samples;
    int training;
    fbp_draws draws;
    const void *x[FBP_MAX_INPUTS];
    void *y[FBP_MAX_OUTPUTS];
    const void *dy[FBP_MAX_OUTPUTS];
    void *dx[FBP_MAX_INPUTS];
    const void *tx[FBP_MAX_INPUTS];
    void *ty[FBP_MAX_OUTPUTS];
    const void *tdy[FBP_MAX_OUTPUTS];
    void *tdx[FBP_MAX_INPUTS];
} fbp_arrays;

/* An op with its attributes on operands of these shapes: numbers holds those of all attributes one
 * after the other, counts how many each has. Immutable; any number of threads may run it. */
typedef struct fbp_node fbp_node;
fbp_status fbp_node_create(const fbp_row *row, fbp_dtype dtype, const double *numbers,
                           const int *counts, int n_inputs, const fbp_shape *inputs,
                           fbp_node **node);
void fbp_node_destroy(fbp_node *node);

typedef struct {
    int n_results, n_outputs; /* results come first, then what is kept for backward alone */
    fbp_shape outputs[FBP_MAX_OUTPUTS];
    unsigned differentiable; /* bit i: input i may have a gradient */
    unsigned reads_inputs, reads_outputs;
    double flops_forward, flops_backward; /* of one sample */
} fbp_node_info;
fbp_node_info fbp_node_describe(const fbp_node *node);

/* Runs a node on dense arrays, as a plan would, with the same bits. `forward` reads x and writes y;
 * `backward` reads x, y and dy and writes dx; `tangent` also reads tx and writes ty;
 * `backward_tangent` reads all but dx and writes tdx. */
fbp_status fbp_node_forward(const fbp_node *node, const fbp_arrays *arrays);
/* p, as out[0], follows the result y of so many samples by a share of `momentum`, as a running
 * parameter of a plan does. FBP_ABSENT where nothing can follow the row. */
fbp_status fbp_node_follow(const fbp_node *node, int64_t samples, double momentum, const void *y,
                           void *p);
fbp_status fbp_node_backward(const fbp_node *node, const fbp_arrays *arrays);
fbp_status fbp_node_tangent(const fbp_node *node, const fbp_arrays *arrays);
fbp_status fbp_node_backward_tangent(const fbp_node *node, const fbp_arrays *arrays);

/* Whether all integers among the inputs are in range. The four above look for themselves; whoever
 * else runs kernels has to, since kernels follow them. The arrays lie as the node's operands. */
fbp_status fbp_node_check_indices(const fbp_node *node, const fbp_arrays *arrays);

/* ---- instruction sets, threads, BLAS ---- */

int fbp_isa_count(void);             /* variants built in that this processor can run */
const char *fbp_isa_name(int index); /* from the plainest to the widest */
const char *fbp_isa_current(void);
fbp_status fbp_isa_force(const char *name); /* NULL: the widest. Holds for plans made afterwards. */

int fbp_has_openmp(void);
int fbp_max_threads(void); /* what the OpenMP runtime grants the calling thread */
int fbp_in_forked_child(void);

/* Column-major gemm of the BLAS interface (Fortran calling sequence). */
typedef void (*fbp_sgemm_fn)(char *transa, char *transb, int *m, int *n, int *k, float *alpha,
                             float *a, int *lda, float *b, int *ldb, float *beta, float *c,
                             int *ldc);
typedef void (*fbp_dgemm_fn)(char *transa, char *transb, int *m, int *n, int *k, double *alpha,
                             double *a, int *lda, double *b, int *ldb, double *beta, double *c,
                             int *ldc);
void fbp_set_blas(fbp_sgemm_fn sgemm, fbp_dgemm_fn dgemm);

/* ---- random numbers: functions of (seed, stream, position) ---- */

fbp_status fbp_permutation(uint64_t seed, uint64_t epoch, int64_t n, uint32_t *out);
void fbp_uniform(uint64_t seed, uint32_t stream, int64_t n, double low, double high,
                 fbp_dtype dtype, void *out);
void fbp_normal(uint64_t seed, uint32_t stream, int64_t n, fbp_dtype dtype, void *out);

/* ---- memory accounting ---- */

int64_t fbp_allocation_count(void); /* allocations made by the core so far, in all threads */
int64_t fbp_allocated_bytes(void);  /* and what they took, freed since or not */
void fbp_fail_allocation(
    int64_t nth); /* tests: the nth allocation from now fails; 0 turns it off */

/* ---- samples ---- */

/* A borrowed matrix of samples, dense with any strides or CSR (indptr not NULL; column indices rise
 * within a row and data holds the stored values). A sample of several dimensions is one row of its
 * elements, which then lie one after the other. */
typedef struct {
    const void *data;
    int64_t rows, cols;
    int64_t row_stride, col_stride; /* in elements; dense only */
    const int64_t *indptr;          /* (rows + 1) */
    const int32_t *indices;
    int64_t stored; /* length of indices and of data; CSR only */
} fbp_samples;

/* ---- graphs ---- */

/* Values are numbered: inputs, parameters, constants, then the results of each node in turn. */

typedef struct {
    fbp_shape shape; /* without samples */
    int frozen;      /* gets no gradient and is never changed */
    int penalised;   /* the penalty is on it: weights, not biases */
} fbp_parameter_spec;

/* An array of a callback, which has the samples along its first axis if its operand is batched. It
 * is there for the length of a call alone. */
typedef struct {
    void *data; /* NULL: of a gradient that is read, zeros; of one that is written, not wanted */
    fbp_content content;
    int ndim;
    int64_t shape[FBP_MAX_DIMS + 1], strides[FBP_MAX_DIMS + 1]; /* strides in elements */
} fbp_array;

/* One call of a callback: forward reads x and writes y; backward writes the gradients of the inputs
 * to x and reads those of the results in y. */
typedef struct {
    fbp_dtype dtype;
    int n_inputs, n_results;
    unsigned wanted; /* bit i: the gradient by input i will be */
    fbp_array x[FBP_MAX_INPUTS], y[FBP_MAX_OUTPUTS];
    void *left; /* by forward for backward, where a gradient is wanted; forward finds NULL */
} fbp_called;

/* An op that the caller computes, on all samples of a batch, or of a predict, at once: `forward`
 * and `backward` are called by the thread that has made the call which needs them, and return 0, or
 * 1 where they have failed, which ends that call with FBP_FAILED. `release` frees what forward
 * left, once backward has been, or the call ends. */
typedef struct {
    const char *name; /* copied */
    int n_results;
    const fbp_shape *results; /* copied; of samples, if any input is */
    void *context;            /* lives as long as the plan */
    int (*forward)(void *context, fbp_called *call);
    int (*backward)(void *context, fbp_called *call);
    void (*release)(void *left);
} fbp_callback;

typedef struct {
    const char *op;        /* an op, a function or an activation */
    const double *numbers; /* of all its attributes, and how many each has */
    const int *counts;
    int n_inputs;
    const int *inputs;            /* values */
    const fbp_callback *callback; /* in place of the three first; or NULL */
    int checkpoint; /* the part of the network that it is of, which runs again in backward; or 0 */
} fbp_node_spec;

typedef struct {
    const char *name;
    double attrs[FBP_MAX_ATTRS]; /* all of the row's attributes, in its order */
    int value;                   /* the raw outputs: the result of a node */
    double factor;               /* its weight in the total */
} fbp_loss_spec;

/* A frozen parameter that no node reads, of the value's shape. After each step of training it moves
 * by a share of `momentum` towards what the value, made by all samples of a batch, estimates of
 * further ones; predict takes it in the value's place. */
typedef struct {
    int parameter, value;
    double momentum; /* 0 to 1 */
} fbp_running_spec;

/* A network and its losses; at most FBP_MAX_INPUTS each of inputs, losses and outputs. Inputs have
 * a sample axis, which their shapes do not count; an input of FBP_SPARSE has one dimension. */
typedef struct {
    fbp_dtype dtype;
    fbp_precision precision; /* of training; of float64 only full */
    int n_inputs, n_parameters, n_constants, n_nodes, n_losses, n_outputs, n_running;
    const fbp_shape *inputs;
    const fbp_parameter_spec *parameters; /* in the order of the flat buffer */
    const fbp_shape *constants;
    const void *const *constant_data; /* copied */
    const fbp_node_spec *nodes;       /* a node reads values before its own */
    const fbp_loss_spec *losses;
    const int *outputs; /* values that predict yields */
    const fbp_running_spec *running;
} fbp_graph_spec;

/* ---- plans ---- */

typedef struct {
    const char *name;
    double attrs[FBP_MAX_ATTRS]; /* all of the row's attributes, in the row's order */
    int64_t units;               /* layer ops: width of the output */
} fbp_row_spec;

typedef struct fbp_plan fbp_plan;

/* A graph compiled for a dtype. Immutable; any number of threads may run it at once. */
fbp_status fbp_plan_of_graph(const fbp_graph_spec *spec, fbp_plan **plan);
/* A chain of layers and one loss: each `linear` may be followed by one activation. */
fbp_status fbp_plan_create(int64_t n_inputs, int n_specs, const fbp_row_spec *specs,
                           const fbp_row_spec *loss, fbp_dtype dtype, int sparse, fbp_plan **plan);
void fbp_plan_destroy(fbp_plan *plan);

typedef struct {
    int64_t n_params;
    int n_inputs, n_parameters, n_constants, n_nodes, n_values, n_losses, n_outputs;
    const int *outputs; /* values */
    fbp_dtype dtype;
    fbp_precision precision;
    int uses_blas; /* in training: the caller limits BLAS to one thread meanwhile */
} fbp_plan_info;
fbp_plan_info fbp_plan_describe(const fbp_plan *plan);

/* How a layer's products are formed in training. Predict always packs the weights, or reads them as
 * they lie. */
typedef enum {
    FBP_PACKED = 0, /* by our own kernels, from packed copies of the weights */
    FBP_IN_PARTS,   /* by our own kernels, which copy parts of the weights as they go */
    FBP_BLAS
} fbp_products;

typedef struct {
    const fbp_row *row;
    int n_inputs, n_results, first_result;
    const int *inputs; /* values */
    fbp_products products;
    int called;                           /* the caller computes it; its row has a name alone */
    int goes_back;                        /* its gradient is wanted */
    unsigned reads_inputs, reads_results; /* and its backward reads these */
    int64_t kept;         /* bytes of a sample that it keeps for backward beside its results */
    int kept_whole_batch; /* all samples of a batch, as whole_batch below */
    double flops[2]; /* of one sample: forward, backward to what is wanted; of all at once, where
                           * the results have no samples */
    int checkpoint;  /* the part of the network that it is of, or 0 */
    int runs_again;  /* in backward, whose FLOPs count it */
} fbp_node_place;
fbp_node_place fbp_plan_node(const fbp_plan *plan, int node);

typedef struct {
    fbp_shape shape;
    int64_t offset;  /* of a parameter, in the flat buffer; else -1 */
    int gradient;    /* is wanted */
    int64_t bytes;   /* of a sample, in training; 0 where it shares the room of another */
    int shares;      /* that other value, which comes before it; else -1 */
    int whole_batch; /* kept for all samples of a batch, for the gradients of parameters */
} fbp_value_place;
fbp_value_place fbp_plan_value(const fbp_plan *plan, int value);

typedef struct {
    const fbp_row *row;
    int value;
    double factor;
    double flops; /* of one sample */
} fbp_loss_place;
fbp_loss_place fbp_plan_loss_at(const fbp_plan *plan, int loss);

/* What a pass in training runs, in order: forward, losses and back, then the gradients of
 * parameters; of a checkpoint these when it has gone back. Moves of data are not told. */
typedef struct {
    const char *what; /* "forward", "forward_again" (in a checkpoint), "backward" and
                       * "backward_shared", of a node; "loss" */
    int index;        /* of the node or the loss */
} fbp_planned;
int fbp_plan_n_steps(const fbp_plan *plan);
fbp_planned fbp_plan_step(const fbp_plan *plan, int step);

/* FLOPs of forward and backward on so many samples, known before anything runs; what checkpoints
 * run again is backward's. */
void fbp_plan_flops(const fbp_plan *plan, int64_t samples, double *forward, double *backward);

/* How evenly a step on `batch` dense samples spreads over so many threads, if it gets them (small
 * steps run on fewer): in each phase the mean thread's work over the busiest one's, 1 where it is
 * even; and how the phases are cut. */
typedef struct {
    double rows, weights;
    int by_columns; /* the rows phase cuts products by columns too, and meets after each layer */
    int n_blocks;   /* of rows, for which the weights phase forms partial gradients */
} fbp_balance;
fbp_balance fbp_plan_balance(const fbp_plan *plan, int64_t batch, int n_threads);

/* Called now and then, from the calling thread, while a long call runs; not 0 asks it to stop. */
typedef int (*fbp_poll_fn)(void *context);

/* x: samples for each input, as many for each. out: for each output of the plan an array (rows,
 * elements), dense: the raw output, or the prediction that the link of its loss makes of it. poll
 * may be NULL. */
fbp_status fbp_predict(fbp_plan *plan, const void *params, const fbp_samples *x, int raw,
                       int n_threads, fbp_poll_fn poll, void *poll_context, void *const *out);

/* A plan with weights of its own, copied and packed once: for calls that come often. It never
 * changes; any number of threads may run it at once. The plan must live as long. */
typedef struct fbp_frozen fbp_frozen;
fbp_status fbp_freeze(fbp_plan *plan, const void *params, fbp_frozen **frozen);
void fbp_frozen_destroy(fbp_frozen *frozen);
fbp_status fbp_frozen_predict(const fbp_frozen *frozen, const fbp_samples *x, int raw,
                              int n_threads, fbp_poll_fn poll, void *poll_context,
                              void *const *out);

/* What a full pass works on: samples for each input, a target for each loss, and a weight for each
 * sample, or NULL. With loss_i the sum over losses of factor times the mean over a sample's
 * positions, the loss is
 * (sum_i weight_i * loss_i + alpha / 2 * sum of squared weights) / sum_i weight_i. */
typedef struct {
    const fbp_samples *x;
    const void *const *target;
    const void *weight;
    double alpha;
    int masks; /* whether there are random masks, of this seed and step */
    fbp_draws draws;
} fbp_problem;

/* loss, and grad (n_params) unless it is NULL, over all samples. poll may be NULL. */
fbp_status fbp_gradient(fbp_plan *plan, const void *params, const fbp_problem *problem,
                        int n_threads, fbp_poll_fn poll, void *poll_context, double *loss,
                        void *grad);

/* Forward mode: tz, as fbp_predict's out, the derivatives of the raw outputs along tparams and,
 * for each input, tx (rows, elements), or NULL. */
fbp_status fbp_tangent(fbp_plan *plan, const void *params, const fbp_samples *x,
                       const void *tparams, const void *const *tx, void *const *tz);

/* Forward over reverse: product (n_params) = Hessian of fbp_gradient's loss times v (n_params). */
fbp_status fbp_hessian_product(fbp_plan *plan, const void *params, const fbp_problem *problem,
                               const void *v, void *product);

/* One forward and one backward pass laid open: for each value of the graph what it is, and the
 * gradient of the loss by it; for each output the prediction. All (rows, elements); any may be
 * NULL. */
fbp_status fbp_inspect(fbp_plan *plan, const void *params, const fbp_problem *problem,
                       void *const *values, void *const *gradients, void *const *predictions);

/* One pass on one thread, as fbp_gradient makes it, and the seconds that each node takes in it:
 * (n_nodes + 1, 2), forward and backward; the last are those of gathering samples, and of losses.
 */
fbp_status fbp_profile(fbp_plan *plan, const void *params, const fbp_problem *problem,
                       double *seconds);

/* ---- training ---- */

typedef struct {
    fbp_problem problem;
    const char *rule;
    double attrs[FBP_MAX_ATTRS];
    int64_t batch; /* samples that are run at once */
    /* So many batches make a step: their gradients are summed, as those of one large batch. At
     * least 1, and no more than the batches of an epoch. */
    int64_t accumulate;
    /* The gradient, with the penalty's, is clipped to this norm, or each element of it to this
     * size; 0: it is not. One of them. */
    double clip_norm, clip_value;
    /* (parameters of the graph) each, or NULL for ones: factors of the rate, and of alpha and the
     * rule's weight decay. */
    const double *rate_factors, *decay_factors;
    int shuffle;
    uint64_t seed;
    int n_threads;
} fbp_training_spec;

/* Bytes that a training allocates, by part; gradients are those of the threads' tiles and of blocks
 * of samples, and the whole one where it is kept. And those that a predict of so many samples does:
 * copies of weights and scratch alone. */
typedef struct {
    int64_t activations, deltas, weight_copies, thread_scratch, gradients, order;
    int64_t last_epoch, other, total;
} fbp_memory;
/* Of a training by this spec on so many samples, before there are any: its problem is not looked
 * at, and its rule may be NULL. */
fbp_memory fbp_plan_memory(const fbp_plan *plan, const fbp_training_spec *spec, int64_t n_samples);
fbp_memory fbp_plan_memory_of_predict(const fbp_plan *plan, int64_t rows, int n_threads);

typedef struct fbp_training fbp_training;

/* Borrows params (n_params), states (n_states vectors of n_params) and the problem's arrays until
 * it is destroyed. */
fbp_status fbp_training_create(fbp_plan *plan, const fbp_training_spec *spec, void *params,
                               void *const *states, fbp_training **training);
void fbp_training_destroy(fbp_training *training);

/* As in torch.amp.GradScaler; Micikevicius et al. 2018, arXiv:1710.03740. */
enum { FBP_FIRST_DOUBLINGS = 16, FBP_MOST_DOUBLINGS = 24, FBP_GOOD_STEPS = 2000 };

typedef struct {
    int64_t first_epoch; /* number of the first epoch, which its order of samples depends on */
    int64_t n_epochs;
    const double *rates;     /* (n_epochs, rates_per_epoch) */
    int64_t rates_per_epoch; /* 1, or the steps of an epoch, also those without weight */
    double *losses;          /* (n_epochs), filled */
    double *step_losses;     /* (n_epochs * steps of an epoch), filled, or NULL */
    double *gradient_norms; /* likewise: of the gradient with the penalty's, before it is clipped */
    double *last_norms;     /* (n_epochs), filled with that of each epoch's last step, or NULL */
    double *seconds;        /* (n_epochs), filled with what each took, or NULL */
    fbp_poll_fn poll;       /* may be NULL */
    void *poll_context;
    /* In FBP_FP16 the losses' gradients are multiplied by 2 to the power of `doublings`, in steps
     * so far: FBP_FIRST_DOUBLINGS at first. A step whose gradient is not finite is skipped, and
     * halves that; FBP_GOOD_STEPS in a row without double it. Brought up to date by whole
     * epochs. */
    int doublings;
    int64_t good_steps; /* since the last change or skipped step */
    int64_t skipped_steps;
    int64_t step;        /* updates made before; on return also those made here */
    int64_t epochs_done; /* whole epochs made here */
} fbp_run;

/* Runs whole epochs. If it does not return FBP_OK, params are those of the last whole epoch. */
fbp_status fbp_training_run(fbp_training *training, fbp_run *run);

typedef enum { FBP_BAD_RESULT, FBP_BAD_GRADIENT, FBP_BAD_WEIGHT } fbp_bad;

/* After FBP_NOT_FINITE: where it happened, in a result of the node, or in the gradient or the value
 * of one of its parameters. node is -1 where no node but the loss itself, or a sum of squares,
 * overflowed. */
typedef struct {
    int64_t epoch, step; /* epoch as counted from first_epoch; step within the epoch, from 0 */
    int node;
    fbp_bad bad;
} fbp_culprit;
fbp_culprit fbp_training_culprit(const fbp_training *training);

#ifdef __cplusplus
}
#endif

#endif
