/* Loops over numbers of 16 bits: rounding, storing and taking up again what mixed plans keep of a
 * batch, and the 16-bit copies of weights. The formulas are math/half.h's; compilers
 * make vectors of them. Where the processor converts float16 itself, with the same bits, it does.
 * Arithmetic on such numbers is nowhere: it is float32's. */
#include "core/kernels.h"
#include "math/half.h"

/* A vector at a time: as many numbers of 16 bits at h as of 32 bits at x. EACH stands before a loop
 * over them, where that is still for the compiler to make. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define EACH
enum { CONVERTED = 16 };
FBP_INLINE void narrow_vector(const float *x, uint16_t *h) {
    enum { nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    _mm256_storeu_si256((__m256i *)(void *)h, _mm512_cvtps_ph(_mm512_loadu_ps(x), nearest));
}
FBP_INLINE void widen_vector(const uint16_t *h, float *x) {
    const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)h);
    _mm512_storeu_ps(x, _mm512_cvtph_ps(half));
}
#elif defined(__F16C__)
#include <immintrin.h>
#define EACH
enum { CONVERTED = 8 };
FBP_INLINE void narrow_vector(const float *x, uint16_t *h) {
    _mm_storeu_si128((__m128i *)(void *)h,
                     _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
}
FBP_INLINE void widen_vector(const uint16_t *h, float *x) {
    _mm256_storeu_ps(x, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)h)));
}
#else
#define EACH FBP_INDEPENDENT
enum { CONVERTED = 1 };
FBP_INLINE void narrow_vector(const float *x, uint16_t *h) { *h = fbp_narrow_fp16(*x); }
FBP_INLINE void widen_vector(const uint16_t *h, float *x) { *x = fbp_widen_fp16(*h); }
#endif

/* ---- bfloat16 ---- */

static void store_bf16(int64_t n, float *x, uint16_t *to) {
    FBP_INDEPENDENT for (int64_t i = 0; i < n; i++) {
        const uint16_t half = fbp_narrow_bf16(x[i]);
        to[i] = half;
        x[i] = fbp_widen_bf16(half);
    }
}

static void load_bf16(int64_t n, const uint16_t *from, float *x) {
    FBP_INDEPENDENT for (int64_t i = 0; i < n; i++) x[i] = fbp_widen_bf16(from[i]);
}

static void narrow_bf16(int64_t n, const float *from, uint16_t *to) {
    FBP_INDEPENDENT for (int64_t i = 0; i < n; i++) to[i] = fbp_narrow_bf16(from[i]);
}

static void round_bf16(int64_t n, float *x) {
    FBP_INDEPENDENT for (int64_t i = 0; i < n; i++) x[i] = fbp_widen_bf16(fbp_narrow_bf16(x[i]));
}

/* ---- float16: whole vectors, and what is left by the formulas ---- */

static void store_fp16(int64_t n, float *x, uint16_t *to) {
    int64_t whole = n - n % CONVERTED;
    EACH for (int64_t i = 0; i < whole; i += CONVERTED) {
        narrow_vector(x + i, to + i);
        widen_vector(to + i, x + i);
    }
    for (int64_t i = whole; i < n; i++) {
        to[i] = fbp_narrow_fp16(x[i]);
        x[i] = fbp_widen_fp16(to[i]);
    }
}

static void load_fp16(int64_t n, const uint16_t *from, float *x) {
    int64_t whole = n - n % CONVERTED;
    EACH for (int64_t i = 0; i < whole; i += CONVERTED) widen_vector(from + i, x + i);
    for (int64_t i = whole; i < n; i++) x[i] = fbp_widen_fp16(from[i]);
}

static void narrow_fp16(int64_t n, const float *from, uint16_t *to) {
    int64_t whole = n - n % CONVERTED;
    EACH for (int64_t i = 0; i < whole; i += CONVERTED) narrow_vector(from + i, to + i);
    for (int64_t i = whole; i < n; i++) to[i] = fbp_narrow_fp16(from[i]);
}

static void round_fp16(int64_t n, float *x) {
    int64_t whole = n - n % CONVERTED;
    EACH for (int64_t i = 0; i < whole; i += CONVERTED) {
        uint16_t half[CONVERTED];
        narrow_vector(x + i, half);
        widen_vector(half, x + i);
    }
    for (int64_t i = whole; i < n; i++) x[i] = fbp_widen_fp16(fbp_narrow_fp16(x[i]));
}

extern const fbp_half_kernels FBP_FAMILY(half)[];
const fbp_half_kernels FBP_FAMILY(half)[] = {{store_bf16, load_bf16, narrow_bf16, round_bf16},
                                             {store_fp16, load_fp16, narrow_fp16, round_fp16}};
