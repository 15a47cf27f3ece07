/* The micro-kernel against its definition: every element of a product is one chain of fused
 * multiply-adds over k, in order. On instruction sets with a fused multiply-add the bits must be
 * those of fma(); on the others those of a multiplication and an addition. So nothing here has a
 * tolerance. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/registry.h"
#include "math/scalar.h"

static int failures;
static uint32_t state = 1;

static double number(void) { /* in [-1, 1), exact in float */
    state = state * 1664525u + 1013904223u;
    return (double)(int32_t)(state & 0xffffff00u) / 2147483648.0;
}

static double at(fbp_dtype dtype, const void *x, int64_t i) {
    return dtype == FBP_F32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

static double step(fbp_dtype dtype, int fused, double a, double b, double c) {
    if (dtype == FBP_F32) {
        volatile float product =
            (float)a * (float)b; /* rounded here, whatever the compiler likes */
        return (double)(fused ? fmaf((float)a, (float)b, (float)c) : product + (float)c);
    }
    volatile double product = a * b;
    return fused ? fma(a, b, c) : product + c;
}

/* The portable set is compiled for the same target as this file. */
static int fuses(const char *isa) {
    return strcmp(isa, "base") == 0 ? FBP_HAS_FMA : strcmp(isa, "v2") != 0;
}

static void *filled(fbp_dtype dtype, int64_t n) {
    void *x = fbp_alloc((size_t)n * fbp_size(dtype));
    for (int64_t i = 0; i < n; i++) {
        if (dtype == FBP_F32)
            ((float *)x)[i] = (float)number();
        else
            ((double *)x)[i] = number();
    }
    return x;
}

static void expect(int same, const char *what, const char *isa, int64_t m, int64_t n, int64_t k) {
    if (same) return;
    failures++;
    printf("%s on %s: wrong bits at m %lld, n %lld, k %lld\n", what, isa, (long long)m,
           (long long)n, (long long)k);
}

static int same_columns(fbp_dtype dtype, int64_t m, int64_t n, int64_t ld, const void *c,
                        const void *d) {
    int same = 1;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            same &= at(dtype, c, i * ld + j) == at(dtype, d, i * ld + j);
    return same;
}

/* Something else than c in the columns that a product fills, and c's own padding. */
static void *other(fbp_dtype dtype, int64_t m, int64_t n, int64_t ld, const void *c) {
    void *d = filled(dtype, m * ld);
    size_t size = fbp_size(dtype);
    for (int64_t i = 0; i < m; i++)
        memcpy((char *)d + (size_t)(i * ld + n) * size,
               (const char *)c + (size_t)(i * ld + n) * size, (size_t)(ld - n) * size);
    return d;
}

static void check_multiply(fbp_dtype dtype, int64_t m, int64_t n, int64_t k) {
    const fbp_variant *variant = fbp_variant_current();
    const fbp_gemm_kernels *gemm = variant->gemm->kernels[dtype];
    int fused = fuses(variant->isa);
    int64_t lda = k + 3, ldc = fbp_round_up(n, fbp_pad(dtype));
    void *a = filled(dtype, m * lda), *w = filled(dtype, (k + 1) * n), *c = filled(dtype, m * ldc);
    void *panels = fbp_alloc((size_t)fbp_packed_size(dtype, k + 1, n) * fbp_size(dtype));
    gemm->pack(k + 1, n, 0, k / 2, w, panels, NULL); /* in two parts, as tiles do */
    gemm->pack(k + 1, n, k / 2, k + 1 - k / 2, (char *)w + (size_t)(k / 2 * n) * fbp_size(dtype),
               panels, NULL);
    for (int bias = 0; bias < 2; bias++) {
        gemm->multiply(m, n, k, a, lda, panels, NULL, bias ? FBP_BIAS_START : FBP_BIAS_SKIP, c,
                       ldc);
        int same = 1;
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) {
                double sum = bias ? at(dtype, w, k * n + j) : 0.0;
                for (int64_t p = 0; p < k; p++)
                    sum =
                        step(dtype, fused, at(dtype, a, i * lda + p), at(dtype, w, p * n + j), sum);
                same &= sum == at(dtype, c, i * ldc + j);
            }
        }
        expect(same, bias ? "multiply with bias" : "multiply", variant->isa, m, n, k);
    }
    if (ldc - n <= n) { /* as far as the bias, which is the last row of w, may be overrun */
        void *start = fbp_alloc((size_t)ldc * fbp_size(dtype));
        void *d = filled(dtype, m * ldc);
        memcpy(start, (char *)w + (size_t)(k * n) * fbp_size(dtype), (size_t)n * fbp_size(dtype));
        gemm->multiply_unpacked(m, n, k, a, lda, w, start, d, ldc);
        expect(same_columns(dtype, m, n, ldc, c, d), "multiply_unpacked", variant->isa, m, n, k);
        fbp_free(start), fbp_free(d);
    }
    void *d = other(dtype, m, n, ldc, c);
    gemm->multiply_in_parts(m, n, k, a, lda, w, n, 0, (char *)w + (size_t)(k * n) * fbp_size(dtype),
                            NULL, d, ldc);
    expect(same_columns(dtype, m, ldc, ldc, c, d), "multiply_in_parts", variant->isa, m, n, k);
    fbp_free(a), fbp_free(w), fbp_free(c), fbp_free(d), fbp_free(panels);
}

/* c = a b^T through the packed transpose, for b (n, k). */
static void check_pack_transposed(fbp_dtype dtype, int64_t m, int64_t n, int64_t k) {
    const fbp_variant *variant = fbp_variant_current();
    const fbp_gemm_kernels *gemm = variant->gemm->kernels[dtype];
    int64_t ldc = fbp_round_up(n, fbp_pad(dtype)), half = n / 32 * 16;
    void *a = filled(dtype, m * k), *b = filled(dtype, n * k), *c = filled(dtype, m * ldc);
    void *direct = filled(dtype, k * n), *expected = filled(dtype, m * ldc);
    size_t size = fbp_size(dtype), bytes = (size_t)fbp_packed_size(dtype, k, n) * size;
    void *panels = fbp_alloc(bytes), *reference = fbp_alloc(bytes);
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < k; p++)
            memcpy((char *)direct + (size_t)(p * n + i) * size,
                   (char *)b + (size_t)(i * k + p) * size, size);
    gemm->pack(k, n, 0, k, direct, reference, NULL);
    gemm->pack_transposed(k, n, 0, half, b, panels, NULL);
    gemm->pack_transposed(k, n, half, n - half, (char *)b + (size_t)(half * k) * size, panels,
                          NULL);
    gemm->multiply(m, n, k, a, k, reference, NULL, FBP_BIAS_NONE, expected, ldc);
    gemm->multiply(m, n, k, a, k, panels, NULL, FBP_BIAS_NONE, c, ldc);
    expect(same_columns(dtype, m, n, ldc, expected, c), "pack_transposed", variant->isa, m, n, k);
    void *d = other(dtype, m, n, ldc, c);
    gemm->multiply_in_parts(m, n, k, a, k, b, k, 1, NULL, NULL, d, ldc);
    expect(same_columns(dtype, m, ldc, ldc, c, d), "multiply_in_parts of a transpose", variant->isa,
           m, n, k);
    fbp_free(a), fbp_free(b), fbp_free(c), fbp_free(d), fbp_free(direct), fbp_free(expected);
    fbp_free(panels), fbp_free(reference);
}

/* Products with panels of 16 bits, and with b rounded on the way, are those with b rounded before.
 * The panels are made of two parts of b, as tiles are. */
static void check_half(const fbp_half_kernels *half, int64_t m, int64_t n, int64_t k) {
    const fbp_variant *variant = fbp_variant_current();
    const fbp_gemm_kernels *gemm = variant->gemm->kernels[FBP_F32];
    int64_t lda = k + 3, ldc = fbp_round_up(n, fbp_pad(FBP_F32)), cut = k / 2, across = n / 32 * 16;
    int64_t size = fbp_packed_size(FBP_F32, k + 1, n);
    float *a = filled(FBP_F32, m * lda), *w = filled(FBP_F32, (k + 1) * n);
    float *rounded = fbp_alloc((size_t)((k + 1) * n) * sizeof *rounded);
    float *transposed = fbp_alloc((size_t)(k * n) * sizeof *transposed);
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++) transposed[j * k + p] = w[p * n + j];
    memcpy(rounded, w, (size_t)((k + 1) * n) * sizeof *w);
    half->round((k + 1) * n, rounded);
    float *panels = fbp_alloc((size_t)size * sizeof *panels);
    uint16_t *halves = (uint16_t *)filled(FBP_F32, size / 2);
    float *c = filled(FBP_F32, m * ldc), *d = other(FBP_F32, m, n, ldc, c);
    gemm->pack(k + 1, n, 0, k + 1, rounded, panels, NULL);
    gemm->pack(k + 1, n, 0, cut, w, halves, half);
    gemm->pack(k + 1, n, cut, k + 1 - cut, w + cut * n, halves, half);
    for (int bias = 0; bias < 2; bias++) {
        fbp_bias start = bias ? FBP_BIAS_START : FBP_BIAS_SKIP;
        gemm->multiply(m, n, k, a, lda, panels, NULL, start, c, ldc);
        gemm->multiply(m, n, k, a, lda, halves, half, start, d, ldc);
        expect(same_columns(FBP_F32, m, ldc, ldc, c, d), "16-bit multiply", variant->isa, m, n, k);
    }
    fbp_free(d), d = other(FBP_F32, m, n, ldc, c);
    gemm->multiply_in_parts(m, n, k, a, lda, w, n, 0, w + k * n, half, d, ldc);
    expect(same_columns(FBP_F32, m, ldc, ldc, c, d), "rounding in parts", variant->isa, m, n, k);
    gemm->pack(k, n, 0, k, rounded, panels, NULL);
    gemm->multiply(m, n, k, a, lda, panels, NULL, FBP_BIAS_NONE, c, ldc);
    gemm->pack_transposed(k, n, 0, across, transposed, halves, half);
    gemm->pack_transposed(k, n, across, n - across, transposed + across * k, halves, half);
    fbp_free(d), d = other(FBP_F32, m, n, ldc, c);
    gemm->multiply(m, n, k, a, lda, halves, half, FBP_BIAS_NONE, d, ldc);
    expect(same_columns(FBP_F32, m, ldc, ldc, c, d), "16-bit transpose", variant->isa, m, n, k);
    fbp_free(d), d = other(FBP_F32, m, n, ldc, c);
    gemm->multiply_in_parts(m, n, k, a, lda, transposed, k, 1, NULL, half, d, ldc);
    expect(same_columns(FBP_F32, m, ldc, ldc, c, d), "rounding a transpose in parts", variant->isa,
           m, n, k);
    fbp_free(a), fbp_free(w), fbp_free(rounded), fbp_free(transposed), fbp_free(panels);
    fbp_free(halves), fbp_free(c), fbp_free(d);
}

/* c (+)= a^T b; what lies more than a line beyond c's end must not be touched, nor anything beyond
 * it where the product is added. */
static void check_transposed(fbp_dtype dtype, int64_t m, int64_t n, int64_t k, int add) {
    const fbp_variant *variant = fbp_variant_current();
    const fbp_gemm_kernels *gemm = variant->gemm->kernels[dtype];
    int fused = fuses(variant->isa);
    int64_t lda = m + 5, ldb = fbp_round_up(n, fbp_pad(dtype)), spill = add ? 0 : fbp_pad(dtype);
    void *a = filled(dtype, k * lda), *b = filled(dtype, k * ldb);
    void *c = filled(dtype, m * n + 64),
         *before = fbp_alloc((size_t)(m * n + 64) * fbp_size(dtype));
    memcpy(before, c, (size_t)(m * n + 64) * fbp_size(dtype));
    gemm->multiply_transposed(m, n, k, a, lda, b, ldb, add, c);
    int same = 1;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = add ? at(dtype, before, i * n + j) : 0.0;
            for (int64_t p = 0; p < k; p++)
                sum = step(dtype, fused, at(dtype, a, p * lda + i), at(dtype, b, p * ldb + j), sum);
            same &= sum == at(dtype, c, i * n + j);
        }
    }
    for (int64_t i = m * n + spill; i < m * n + 64; i++)
        same &= at(dtype, c, i) == at(dtype, before, i);
    expect(same, add ? "multiply_transposed, adding" : "multiply_transposed", variant->isa, m, n,
           k);
    fbp_free(a), fbp_free(b), fbp_free(c), fbp_free(before);
}

/* What element (i, p) of patches is, for column j. */
static double patch_at(fbp_dtype dtype, const fbp_patches *patches, const void *a, int64_t i,
                       int64_t p, int64_t j) {
    int64_t run = patches->runs[p / patches->length], step = p % patches->length * patches->step;
    return at(dtype, a, patches->rows[i] + run + step + (patches->apart ? j : 0));
}

/* c = patches of a times b, with rows in reverse order and a gap of one behind each, which must not
 * be touched, and c += the same. */
static void check_patches(fbp_dtype dtype, int64_t m, int64_t n, int64_t length, int apart) {
    enum { n_runs = 3, most = 40, far = 4000 };
    const fbp_variant *variant = fbp_variant_current();
    const fbp_gemm_kernels *gemm = variant->gemm->kernels[dtype];
    const size_t size = fbp_size(dtype);
    int64_t rows[most], out[most], runs[n_runs], k = n_runs * length, ld = n + 1;
    for (int64_t i = 0; i < m; i++) {
        rows[i] = (int64_t)((number() + 1) * (double)far / 2);
        out[i] = (m - 1 - i) * ld;
    }
    for (int64_t i = 0; i < n_runs; i++) runs[i] = (int64_t)((number() + 1) * (double)far / 2);
    const fbp_patches patches = {rows, runs, n_runs, length, 3, apart};
    int64_t ldb = fbp_round_up(n, fbp_pad(dtype));
    void *a = filled(dtype, 2 * far + 3 * length + ldb), *b = filled(dtype, (k + 1) * ldb);
    void *panels = fbp_alloc((size_t)fbp_packed_size(dtype, k + 1, n) * size);
    void *c = filled(dtype, m * ld), *before = fbp_alloc((size_t)(m * ld) * size);
    memcpy(before, c, (size_t)(m * ld) * size);
    void *sum = filled(dtype, m * ldb), *sum_before = fbp_alloc((size_t)(m * ldb) * size);
    memcpy(sum_before, sum, (size_t)(m * ldb) * size);
    gemm->pack_part(k + 1, n, 0, k, b, ldb, 0, panels);
    gemm->pack_part(k + 1, n, k, 1, (char *)b + (size_t)(k * ldb) * size, ldb, 0, panels);
    gemm->multiply_patches(m, n, &patches, a, panels, FBP_BIAS_START, out, c);
    gemm->add_patches(m, n, &patches, a, b, ldb, sum, ldb);
    int same = 1, same_sum = 1, fused = fuses(variant->isa);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double chain = at(dtype, b, k * ldb + j), added = at(dtype, sum_before, i * ldb + j);
            for (int64_t p = 0; p < k; p++) {
                double x = patch_at(dtype, &patches, a, i, p, j), w = at(dtype, b, p * ldb + j);
                chain = step(dtype, fused, x, w, chain);
                added = step(dtype, fused, x, w, added);
            }
            same &= chain == at(dtype, c, out[i] + j);
            same_sum &= added == at(dtype, sum, i * ldb + j);
        }
        same &= at(dtype, c, out[i] + n) == at(dtype, before, out[i] + n);
    }
    expect(same, apart ? "multiply_patches, apart" : "multiply_patches", variant->isa, m, n, k);
    expect(same_sum, apart ? "add_patches, apart" : "add_patches", variant->isa, m, n, k);
    fbp_free(a), fbp_free(b), fbp_free(c), fbp_free(before), fbp_free(sum), fbp_free(sum_before);
    fbp_free(panels);
}

/* Panels of b from parts of its transpose are those of b. */
static void check_pack_part(fbp_dtype dtype, int64_t n, int64_t k) {
    const fbp_gemm_kernels *gemm = fbp_variant_current()->gemm->kernels[dtype];
    const size_t size = fbp_size(dtype), bytes = (size_t)fbp_packed_size(dtype, k, n) * size;
    int64_t ld = k + 2, half = k / 2;
    void *b = filled(dtype, k * n), *transposed = filled(dtype, n * ld);
    void *panels = filled(dtype, fbp_packed_size(dtype, k, n)), *expected = fbp_alloc(bytes);
    memcpy(expected, panels, bytes);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++)
            memcpy((char *)transposed + (size_t)(j * ld + i) * size,
                   (char *)b + (size_t)(i * n + j) * size, size);
    gemm->pack_part(k, n, 0, k, b, n, 0, expected);
    gemm->pack_part(k, n, half, k - half, (char *)transposed + (size_t)half * size, ld, 1, panels);
    if (half > 0) gemm->pack_part(k, n, 0, half, transposed, ld, 1, panels);
    expect(memcmp(panels, expected, bytes) == 0, "pack_part of a transpose",
           fbp_variant_current()->isa, 0, n, k);
    fbp_free(b), fbp_free(transposed), fbp_free(panels), fbp_free(expected);
}

int main(void) {
    static const int64_t ms[] = {1, 2, 3, 7, 8, 9, 13}, ks[] = {1, 2, 31}, long_k = 1601;
    for (int i = 0; i < fbp_isa_count(); i++) {
        fbp_isa_force(fbp_isa_name(i));
        for (int format = FBP_BF16; format <= FBP_FP16; format++) {
            const fbp_half_kernels *half = fbp_halves(fbp_variant_current(), (fbp_precision)format);
            for (int64_t n = 1; n <= 130; n++) check_half(half, ms[n % 7], n, ks[n % 3]);
            for (int64_t n = 1; n <= 130; n += 3) check_half(half, 9, n, long_k);
        }
        for (int dtype = 0; dtype < 2; dtype++) {
            for (int64_t n = 1; n <= 130; n++) {
                int64_t m = ms[n % 7], k = ks[n % 3];
                check_multiply((fbp_dtype)dtype, m, n, k);
                check_pack_transposed((fbp_dtype)dtype, m, n, k);
                check_transposed((fbp_dtype)dtype, m, n, k, 0);
                check_transposed((fbp_dtype)dtype, m, n, k, 1);
                check_patches((fbp_dtype)dtype, 1 + n % 40, n, 1 + n % 5, 0);
                check_patches((fbp_dtype)dtype, 1 + n % 23, n, 1 + n % 2, 1);
                check_pack_part((fbp_dtype)dtype, n, k);
            }
            for (int64_t n = 1; n <= 130; n += 3) { /* more of k than is taken in one go */
                check_multiply((fbp_dtype)dtype, 9, n, long_k);
                check_transposed((fbp_dtype)dtype, 9, n, long_k, 0);
                check_transposed((fbp_dtype)dtype, 9, n, long_k, 1);
            }
        }
    }
    return failures != 0;
}
