# The public header of the C core, as Cython sees it. Declarations only, in the header's order.
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "fbp.h" nogil:
    ctypedef enum fbp_status:
        FBP_OK
        FBP_INVALID
        FBP_NO_MEMORY
        FBP_NOT_FINITE
        FBP_INTERRUPTED
        FBP_ABSENT
        FBP_FAILED

    const char *fbp_message()

    ctypedef enum fbp_dtype:
        FBP_F32
        FBP_F64
    ctypedef enum fbp_precision:
        FBP_FULL
        FBP_BF16
        FBP_FP16
    ctypedef enum fbp_kind:
        FBP_OP
        FBP_ACTIVATION
        FBP_LOSS
        FBP_RULE
        FBP_FUNCTION
    ctypedef enum fbp_reads:
        FBP_READS_NOTHING
        FBP_READS_INPUT
        FBP_READS_OUTPUT
    ctypedef enum fbp_needs:
        FBP_NEEDS_NOTHING
        FBP_NEEDS_TENSOR_NORMS
    ctypedef enum fbp_target:
        FBP_TARGET_REAL
        FBP_TARGET_NONNEGATIVE
        FBP_TARGET_BINARY
        FBP_TARGET_CLASS

    enum: FBP_MAX_ATTRS
    enum: FBP_MAX_STATES

    ctypedef struct fbp_attr:
        const char *name
        double fallback, low, high
        int low_open, high_open
        const char *doc
        int whole
        int least, most

    ctypedef struct fbp_row:
        pass

    int fbp_row_count()
    const fbp_row *fbp_row_at(int index)
    const fbp_row *fbp_row_find(fbp_kind kind, const char *name)

    ctypedef struct fbp_row_info:
        const char *name
        const char *doc
        fbp_kind kind
        int n_attrs
        const fbp_attr *attrs
        fbp_reads reads
        fbp_target target
        const char *link
        int n_states
        fbp_needs needs
        int row_independent, has_tangent, has_backward_tangent
        int reads_sparse
    fbp_row_info fbp_row_describe(const fbp_row *row)
    fbp_status fbp_row_check(const fbp_row *row, const double *attrs)

    fbp_status fbp_activation_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, int order,
                                  int64_t n, const void *x, void *out)
    fbp_status fbp_loss_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, int64_t rows,
                            int64_t k, const void *z, const void *target, void *value, void *dz)
    fbp_status fbp_loss_tangent(const fbp_row *row, fbp_dtype dtype, const double *attrs, int64_t rows,
                                int64_t k, const void *z, const void *tz, const void *target,
                                void *tvalue, void *tdz)
    fbp_status fbp_loss_predict(const fbp_row *row, fbp_dtype dtype, int64_t rows, int64_t k,
                                const void *z, void *prediction)
    fbp_status fbp_rule_run(const fbp_row *row, fbp_dtype dtype, const double *attrs, double rate,
                            int64_t step, int64_t n, const void *g, void *w, void **states)
    fbp_status fbp_elementary_run(const char *name, fbp_dtype dtype, int64_t n, const void *x, void *out)
    const char *fbp_elementary_name(int index)
    void fbp_narrow(fbp_precision precision, int64_t n, float *x, uint16_t *out)
    void fbp_widen(fbp_precision precision, int64_t n, const uint16_t *bits, float *out)

    enum: FBP_MAX_DIMS
    enum: FBP_MAX_INPUTS
    enum: FBP_MAX_OUTPUTS

    ctypedef enum fbp_content:
        FBP_REAL
        FBP_INDEX
        FBP_SPARSE

    ctypedef struct fbp_shape:
        fbp_content content
        int batched
        int ndim
        int64_t shape[8]

    ctypedef enum fbp_sample_axis:
        FBP_AXIS_NONE
        FBP_AXIS_DATA
        FBP_AXIS_SPANNED

    ctypedef struct fbp_op_info:
        int least_inputs, most_inputs
        const char **inputs
        fbp_sample_axis axis
        unsigned data, indices
        int own_axes, random
    fbp_op_info fbp_op_describe(const fbp_row *row)

    ctypedef struct fbp_lengths:
        int ndim
        int64_t lengths[9]

    ctypedef struct fbp_sampled:
        int leading[8]
        int batched[8]
        int64_t samples

    fbp_status fbp_op_samples(const fbp_row *row, int n_inputs, const fbp_lengths *shapes,
                              fbp_sampled *found)

    ctypedef struct fbp_draws:
        uint64_t seed
        uint64_t step
        uint32_t stream
        int64_t first

    ctypedef struct fbp_arrays:
        int64_t samples
        int training
        fbp_draws draws
        const void *x[8]
        void *y[4]
        const void *dy[4]
        void *dx[8]
        const void *tx[8]
        void *ty[4]
        const void *tdy[4]
        void *tdx[8]

    ctypedef struct fbp_node:
        pass
    fbp_status fbp_node_create(const fbp_row *row, fbp_dtype dtype, const double *numbers,
                               const int *counts, int n_inputs, const fbp_shape *inputs,
                               fbp_node **node)
    void fbp_node_destroy(fbp_node *node)

    ctypedef struct fbp_node_info:
        int n_results, n_outputs
        fbp_shape outputs[4]
        unsigned differentiable
        unsigned reads_inputs, reads_outputs
        double flops_forward, flops_backward
    fbp_node_info fbp_node_describe(const fbp_node *node)
    fbp_status fbp_node_forward(const fbp_node *node, const fbp_arrays *arrays)
    fbp_status fbp_node_follow(const fbp_node *node, int64_t samples, double momentum,
                               const void *y, void *p)
    fbp_status fbp_node_backward(const fbp_node *node, const fbp_arrays *arrays)
    fbp_status fbp_node_tangent(const fbp_node *node, const fbp_arrays *arrays)
    fbp_status fbp_node_backward_tangent(const fbp_node *node, const fbp_arrays *arrays)

    int fbp_isa_count()
    const char *fbp_isa_name(int index)
    const char *fbp_isa_current()
    fbp_status fbp_isa_force(const char *name)
    int fbp_has_openmp()
    int fbp_max_threads()
    int fbp_in_forked_child()

    ctypedef void (*fbp_sgemm_fn)(char *transa, char *transb, int *m, int *n, int *k, float *alpha,
                                  float *a, int *lda, float *b, int *ldb, float *beta, float *c, int *ldc)
    ctypedef void (*fbp_dgemm_fn)(char *transa, char *transb, int *m, int *n, int *k, double *alpha,
                                  double *a, int *lda, double *b, int *ldb, double *beta, double *c,
                                  int *ldc)
    void fbp_set_blas(fbp_sgemm_fn sgemm, fbp_dgemm_fn dgemm)

    fbp_status fbp_permutation(uint64_t seed, uint64_t epoch, int64_t n, uint32_t *out)
    void fbp_uniform(uint64_t seed, uint32_t stream, int64_t n, double low, double high, fbp_dtype dtype,
                     void *out)
    void fbp_normal(uint64_t seed, uint32_t stream, int64_t n, fbp_dtype dtype, void *out)

    int64_t fbp_allocation_count()
    int64_t fbp_allocated_bytes()
    void fbp_fail_allocation(int64_t nth)

    ctypedef struct fbp_samples:
        const void *data
        int64_t rows, cols
        int64_t row_stride, col_stride
        const int64_t *indptr
        const int32_t *indices
        int64_t stored

    ctypedef struct fbp_parameter_spec:
        fbp_shape shape
        int frozen
        int penalised

    ctypedef struct fbp_array:
        void *data
        fbp_content content
        int ndim
        int64_t shape[FBP_MAX_DIMS + 1]
        int64_t strides[FBP_MAX_DIMS + 1]

    ctypedef struct fbp_called:
        fbp_dtype dtype
        int n_inputs, n_results
        unsigned wanted
        fbp_array x[FBP_MAX_INPUTS]
        fbp_array y[FBP_MAX_OUTPUTS]
        void *left

    ctypedef struct fbp_callback:
        const char *name
        int n_results
        const fbp_shape *results
        void *context
        int (*forward)(void *context, fbp_called *call) noexcept
        int (*backward)(void *context, fbp_called *call) noexcept
        void (*release)(void *left) noexcept

    ctypedef struct fbp_node_spec:
        const char *op
        const double *numbers
        const int *counts
        int n_inputs
        const int *inputs
        const fbp_callback *callback
        int checkpoint

    ctypedef struct fbp_loss_spec:
        const char *name
        double attrs[FBP_MAX_ATTRS]
        int value
        double factor

    ctypedef struct fbp_running_spec:
        int parameter, value
        double momentum

    ctypedef struct fbp_graph_spec:
        fbp_dtype dtype
        fbp_precision precision
        int n_inputs, n_parameters, n_constants, n_nodes, n_losses, n_outputs, n_running
        const fbp_shape *inputs
        const fbp_parameter_spec *parameters
        const fbp_shape *constants
        const void **constant_data
        const fbp_node_spec *nodes
        const fbp_loss_spec *losses
        const int *outputs
        const fbp_running_spec *running

    ctypedef struct fbp_row_spec:
        const char *name
        double attrs[FBP_MAX_ATTRS]
        int64_t units

    ctypedef struct fbp_plan:
        pass

    fbp_status fbp_plan_of_graph(const fbp_graph_spec *spec, fbp_plan **plan)
    fbp_status fbp_plan_create(int64_t n_inputs, int n_specs, const fbp_row_spec *specs,
                               const fbp_row_spec *loss, fbp_dtype dtype, int sparse, fbp_plan **plan)
    void fbp_plan_destroy(fbp_plan *plan)

    ctypedef struct fbp_plan_info:
        int64_t n_params
        int n_inputs, n_parameters, n_constants, n_nodes, n_values, n_losses, n_outputs
        const int *outputs
        fbp_dtype dtype
        fbp_precision precision
        int uses_blas
    fbp_plan_info fbp_plan_describe(const fbp_plan *plan)

    ctypedef enum fbp_products:
        FBP_PACKED
        FBP_IN_PARTS
        FBP_BLAS

    ctypedef struct fbp_node_place:
        const fbp_row *row
        int n_inputs, n_results, first_result
        const int *inputs
        fbp_products products
        int called
        int goes_back
        unsigned reads_inputs, reads_results
        int64_t kept
        int kept_whole_batch
        double flops[2]
        int checkpoint, runs_again
    fbp_node_place fbp_plan_node(const fbp_plan *plan, int node)

    ctypedef struct fbp_value_place:
        fbp_shape shape
        int64_t offset
        int gradient
        int64_t bytes
        int shares, whole_batch
    fbp_value_place fbp_plan_value(const fbp_plan *plan, int value)

    ctypedef struct fbp_loss_place:
        const fbp_row *row
        int value
        double factor, flops
    fbp_loss_place fbp_plan_loss_at(const fbp_plan *plan, int loss)
    ctypedef struct fbp_planned:
        const char *what
        int index
    int fbp_plan_n_steps(const fbp_plan *plan)
    fbp_planned fbp_plan_step(const fbp_plan *plan, int step)

    void fbp_plan_flops(const fbp_plan *plan, int64_t samples, double *forward, double *backward)

    ctypedef struct fbp_balance:
        double rows, weights
        int by_columns, n_blocks
    fbp_balance fbp_plan_balance(const fbp_plan *plan, int64_t batch, int n_threads)

    ctypedef int (*fbp_poll_fn)(void *context) noexcept

    fbp_status fbp_predict(fbp_plan *plan, const void *params, const fbp_samples *x, int raw,
                           int n_threads, fbp_poll_fn poll, void *poll_context, void **out)

    ctypedef struct fbp_problem:
        const fbp_samples *x
        const void **target
        const void *weight
        double alpha
        int masks
        fbp_draws draws

    ctypedef struct fbp_frozen:
        pass
    fbp_status fbp_freeze(fbp_plan *plan, const void *params, fbp_frozen **frozen)
    void fbp_frozen_destroy(fbp_frozen *frozen)
    fbp_status fbp_frozen_predict(
        const fbp_frozen *frozen, const fbp_samples *x, int raw, int n_threads, fbp_poll_fn poll,
        void *poll_context, void **out) nogil

    fbp_status fbp_gradient(fbp_plan *plan, const void *params, const fbp_problem *problem,
                            int n_threads, fbp_poll_fn poll, void *poll_context, double *loss,
                            void *grad)
    fbp_status fbp_tangent(fbp_plan *plan, const void *params, const fbp_samples *x,
                           const void *tparams, const void **tx, void **tz)
    fbp_status fbp_hessian_product(fbp_plan *plan, const void *params, const fbp_problem *problem,
                                   const void *v, void *product)
    fbp_status fbp_profile(fbp_plan *plan, const void *params, const fbp_problem *problem,
                           double *seconds)
    fbp_status fbp_inspect(fbp_plan *plan, const void *params, const fbp_problem *problem,
                           void **values, void **gradients, void **predictions)

    ctypedef struct fbp_training_spec:
        fbp_problem problem
        const char *rule
        double attrs[FBP_MAX_ATTRS]
        int64_t batch, accumulate
        double clip_norm, clip_value
        const double *rate_factors
        const double *decay_factors
        int shuffle
        uint64_t seed
        int n_threads

    ctypedef struct fbp_memory:
        int64_t activations, deltas, weight_copies, thread_scratch, gradients, order
        int64_t last_epoch, other, total
    fbp_memory fbp_plan_memory(const fbp_plan *plan, const fbp_training_spec *spec, int64_t n_samples)
    fbp_memory fbp_plan_memory_of_predict(const fbp_plan *plan, int64_t rows, int n_threads)

    ctypedef struct fbp_training:
        pass

    fbp_status fbp_training_create(fbp_plan *plan, const fbp_training_spec *spec, void *params,
                                   void **states, fbp_training **training)
    void fbp_training_destroy(fbp_training *training)

    enum: FBP_FIRST_DOUBLINGS

    ctypedef struct fbp_run:
        int64_t first_epoch
        int64_t n_epochs
        const double *rates
        int64_t rates_per_epoch
        double *losses
        double *step_losses
        double *gradient_norms
        double *last_norms
        double *seconds
        fbp_poll_fn poll
        void *poll_context
        int doublings
        int64_t good_steps, skipped_steps
        int64_t step
        int64_t epochs_done

    fbp_status fbp_training_run(fbp_training *training, fbp_run *run)

    ctypedef enum fbp_bad:
        FBP_BAD_RESULT
        FBP_BAD_GRADIENT
        FBP_BAD_WEIGHT

    ctypedef struct fbp_culprit:
        int64_t epoch, step
        int node
        fbp_bad bad
    fbp_culprit fbp_training_culprit(const fbp_training *training)
