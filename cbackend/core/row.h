/* What a row of the table is. Every activation, loss, update rule and layer op is one fbp_row, made
 * in its family's file under ops/ and found by name through core/registry.c. This header holds the
 * contracts between the mechanism, which calls rows, and the families, which implement them; it
 * holds no row and no mechanism.
 *
 * Family files are compiled once per instruction set (FBP_VARIANT is v2, v3, v4 or base) and export
 * one symbol each, FBP_FAMILY(name). Kernels are serial, allocate nothing and know nothing of
 * threads. Array arguments are `void` because each row carries a kernel for float and one for
 * double: kernels[FBP_F32] and kernels[FBP_F64]. */
#ifndef FBP_CORE_ROW_H
#define FBP_CORE_ROW_H

#include <stddef.h>
#include <stdint.h>

#include "fbp.h"

#define FBP_CONCAT_(a, b) a##_##b
#define FBP_CONCAT(a, b) FBP_CONCAT_(a, b)
#define FBP_FAMILY(name) FBP_CONCAT(fbp_family_##name, FBP_VARIANT)

/* Activations work on n contiguous elements; the output may be the input. `saved` is what
 * fbp_row.reads names: the activation's input x or its output y. */
typedef struct {
    void (*value)(int64_t n, const void *x, void *y, const double *attrs);
    /* dx = dy * f'. The same function is the tangent of value. */
    void (*backward)(int64_t n, const void *dy, const void *saved, void *dx, const double *attrs);
    /* Tangent of backward: ddx = ddy * f' + dy * f'' * tx, where tx is the tangent of x. */
    void (*backward_tangent)(int64_t n, const void *dy, const void *ddy, const void *saved,
                             const void *tx, void *ddx, const double *attrs);
} fbp_activation_kernels;

/* Losses work on `rows` samples of k raw outputs; z and dz have leading dimension ld, whose columns
 * k to ld - 1 hold nothing of meaning and of which dz gets zeros. The target t is int32_t (rows)
 * for FBP_TARGET_CLASS and real (rows, k), dense, otherwise. */
typedef struct {
    /* value (rows): the loss of each sample, not scaled. dz (rows, ld) = scale[row] * dloss/dz,
     * where dz may be z or NULL and scale (rows) may be NULL for ones. */
    void (*forward)(int64_t rows, int64_t k, int64_t ld, const void *z, const void *t,
                    const void *scale, void *value, void *dz, const double *attrs);
    /* Along the tangent tz of z: tvalue (rows), the tangent of value, and tdz (rows, ld), the
     * tangent of dz; either may be NULL. */
    void (*tangent)(int64_t rows, int64_t k, int64_t ld, const void *z, const void *tz,
                    const void *t, const void *scale, void *tvalue, void *tdz, const double *attrs);
    /* p (rows, ldp) = the prediction that belongs to the raw output: the loss's inverse link. */
    void (*predict)(int64_t rows, int64_t k, int64_t ld, const void *z, int64_t ldp, void *p);
} fbp_loss_kernels;

/* Update rules work on n contiguous parameters. `prepare` turns rate, step (from 1) and attributes
 * into the scalars of this step, once a step, with a multiple of the weight decay among these;
 * `update` applies them. states[i] is the i-th state vector's part for these parameters. No FMA and
 * no reassociation: the bits equal NumPy's.
 *
 * A rule that needs norms has no `update` but three functions: `direct` makes the direction of the
 * gradient, in its place; `ratio` is what follows of the norms of a whole tensor and of its whole
 * direction; `advance` is the step along the direction, in which it is a factor. */
#define FBP_MAX_SCALARS 12
typedef struct {
    void (*prepare)(double rate, double decay_factor, int64_t step, const double *attrs,
                    double *scalars);
    void (*update)(int64_t n, const void *g, void *w, void *const *states, const double *scalars);
    void (*direct)(int64_t n, void *g, const void *w, void *const *states, const double *scalars);
    double (*ratio)(double norm_w, double norm_d);
    void (*advance)(int64_t n, double ratio, const void *d, void *w, const double *scalars);
} fbp_rule_kernels;

typedef struct fbp_node_kernels fbp_node_kernels; /* core/node.h: ops as nodes of a graph */

typedef enum {
    FBP_ZEROS_NEVER = 0,
    FBP_ZEROS_KEPT, /* if those that it reads have */
    FBP_ZEROS_ALWAYS
} fbp_zeros;

struct fbp_row {
    const char *name;
    const char *doc; /* one line */
    fbp_kind kind;
    int n_attrs;
    fbp_attr attrs[FBP_MAX_ATTRS];
    fbp_reads reads;         /* what backward reads: activations and ops */
    fbp_target target;       /* losses: what kind of target they take */
    const char *link;        /* losses: name of the inverse link */
    int n_states;            /* rules: state vectors kept */
    fbp_needs needs;         /* rules */
    const char *sparse_form; /* ops: the row that takes its place for CSR samples, or NULL */
    int reads_sparse;        /* ops: its input is an fbp_sparse_rows, not a tile */
    int couples_samples;     /* ops: the results, without sample axis, are made of all samples */
    double flops; /* activations, losses: FLOPs per element of one value, for the plan's count */
    const void *kernels[2]; /* by fbp_dtype: fbp_activation_kernels, fbp_loss_kernels, ... */

    /* Ops as nodes. `infer` checks the shapes in node->in and settles those in node->out; a failure
     * names op, argument and shapes. */
    fbp_op_info op;
    fbp_status (*infer)(fbp_node *node);
    const fbp_node_kernels *node[2]; /* by fbp_dtype */
    int bilinear;                    /* see fbp_node_kernels */
    int divisible;                   /* backward_shared can form some rows of a gradient alone */
    /* Bit i: rows of input i, and of its gradient, are padded as fbp_leading() says, and a one
     * follows the last column. */
    unsigned padded;
    int padded_results;     /* likewise those of the results, whose gradients have zeros there */
    unsigned ones;          /* of the padded inputs, those whose one is read */
    fbp_zeros zero_padding; /* whether the gradients that it writes have zeros in their padding */
    int bias_follows;       /* the rows of input 1 may be taken one further: that one is input 2 */
    int columns_apart;      /* so that rows of it are made of those columns of input 0 alone */
    int least_samples;      /* that a call should have, or a multiple, to be fast; 0: any number */
};

typedef struct {
    const fbp_row *rows;
    int n_rows;
} fbp_family;

#endif
