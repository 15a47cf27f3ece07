/* Broadcasting as NumPy does it: which elements of operands of different shapes meet, and sweeps,
 * which run a function of elements over them. What the function is, and how elements are added up,
 * is another's: nothing here touches a number.
 *
 * An operand that lacks an axis, or has 1 element along it, has the same element all along it. */
#ifndef FBP_CORE_BROADCAST_H
#define FBP_CORE_BROADCAST_H

#include "core/node.h"

/* out[0] becomes what the shapes of the inputs, all real, broadcast to. Inputs with samples have
 * equally many axes; one without has at most as many, counted from the last, and before them at
 * most an axis of 1 where the others have the samples. Settles in_place as well. */
fbp_status fbp_broadcast(fbp_node *node);
/* Whether in[input] has the shape of out[0], samples included. */
int fbp_spans_result(const fbp_node *node, int input);
/* An operand of the same shape whose rows follow each other without a gap. */
fbp_operand fbp_dense(const fbp_operand *x);

/* A function of elements: n of them, one after the other, from each array that is read, which
 * stand in the order in which the sweep was given them. The result may be one of them. */
typedef void fbp_elements_fn(int64_t n, const void *const *from, void *to, const double *numbers);

/* Where results are not stored but added up, or their maximum taken: `each` adds n results to n
 * elements, `all` adds n results, at most FBP_RUN, to one. */
enum { FBP_RUN = 256 };
typedef struct {
    size_t size; /* of an element of what is added to */
    void (*each)(int64_t n, const void *results, void *to);
    void (*all)(int64_t n, const void *results, void *to);
} fbp_sink;

enum { FBP_MOST_READ = 8 };

/* A sweep over the elements of an operand, in their order: all its samples, one after the other. */
typedef struct {
    fbp_dtype dtype;
    fbp_elements_fn *function;
    const double *numbers;
    int64_t samples;
    int n_read, n_axes;
    int64_t shape[FBP_MAX_DIMS + 1]; /* the samples, then the axes */
    int64_t strides[FBP_MOST_READ + 1][FBP_MAX_DIMS + 1];
    const void *from[FBP_MOST_READ];
} fbp_sweep;

void fbp_sweep_start(fbp_sweep *sweep, const fbp_node *node, const fbp_operand *over,
                     int64_t samples, fbp_elements_fn *function);
void fbp_sweep_read(fbp_sweep *sweep, const fbp_operand *x, const void *from);
/* Results to an operand of the whole shape. */
void fbp_sweep_write(fbp_sweep *sweep, const fbp_operand *y, void *to);
/* Results into a sink, to an operand that has the same element along some axes. The order in which
 * an element is added up depends neither on strides nor on how many samples there are: consecutive
 * results of one sample that meet in it form runs of FBP_RUN. */
void fbp_sweep_add(fbp_sweep *sweep, const fbp_operand *y, void *to, const fbp_sink *sink);

#endif
