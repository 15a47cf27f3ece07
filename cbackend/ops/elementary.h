/* The elementary functions of math/elementary.h and math/trigonometry.h as kernels over arrays: so
 * that tests can measure their accuracy on each instruction set, and for the few numbers that
 * Python needs with the engine's bits. No row of the table runs them. */
#ifndef FBP_OPS_ELEMENTARY_H
#define FBP_OPS_ELEMENTARY_H

#include "core/row.h"

typedef struct {
    const char *name; /* NULL in the entry after the last */
    /* By fbp_dtype: y[i] = f(x[i]) for n contiguous elements; y may be x. */
    void (*kernels[2])(int64_t n, const void *x, void *y);
} fbp_elementary;

#endif
