/* Matrix products by the BLAS that SciPy brings, through pointers set at import: no BLAS is linked,
 * and no second one enters the process. Always called from one thread of our own team, with BLAS's
 * own threads limited to one by the caller. */
#include "core/node.h"

static fbp_sgemm_fn sgemm_pointer;
static fbp_dgemm_fn dgemm_pointer;

void fbp_set_blas(fbp_sgemm_fn sgemm, fbp_dgemm_fn dgemm) {
    sgemm_pointer = sgemm;
    dgemm_pointer = dgemm;
}

int fbp_blas_present(fbp_dtype dtype) {
    return dtype == FBP_F32 ? sgemm_pointer != NULL : dgemm_pointer != NULL;
}

/* BLAS is column-major: a row-major c = a b is its c^T = b^T a^T, so the operands swap places. The
 * Fortran interface takes pointers to variables, and does not write to its inputs. */
void fbp_blas_multiply(fbp_dtype dtype, int transpose_a, int transpose_b, int64_t m, int64_t n,
                       int64_t k, const void *a, int64_t lda, const void *b, int64_t ldb,
                       double beta, void *c, int64_t ldc) {
    char ta = transpose_a ? 'T' : 'N', tb = transpose_b ? 'T' : 'N';
    int im = (int)m, in = (int)n, ik = (int)k, ia = (int)lda, ib = (int)ldb, ic = (int)ldc;
    union {
        const void *in;
        void *out;
    } left = {a}, right = {b};
    if (dtype == FBP_F32) {
        float one = 1.0f, keep = (float)beta;
        sgemm_pointer(&tb, &ta, &in, &im, &ik, &one, right.out, &ib, left.out, &ia, &keep, c, &ic);
    } else {
        double one = 1.0, keep = beta;
        dgemm_pointer(&tb, &ta, &in, &im, &ik, &one, right.out, &ib, left.out, &ia, &keep, c, &ic);
    }
}
