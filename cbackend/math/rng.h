/* Random numbers as functions of (seed, stream, position): nothing is kept, so any number can be
 * had again, in any order and on any thread. A stream separates uses of one seed. No loop over a
 * caller's array.
 *
 * The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy
 * as 1, 2, 3, 2011), written from the paper and held to its authors' known answers by the tests. */
#ifndef FBP_MATH_RNG_H
#define FBP_MATH_RNG_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "math/scalar.h"

#if defined(__AVX2__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

#define FBP_PHILOX_A 0xD2511F53u
#define FBP_PHILOX_B 0xCD9E8D57u
#define FBP_PHILOX_KEY_0 0x9E3779B9u /* the golden ratio, */
#define FBP_PHILOX_KEY_1 0xBB67AE85u /* and sqrt(3) - 1 */

/* Ten rounds over the counter, in place, under the key. */
FBP_INLINE void fbp_philox(const uint32_t key[2], uint32_t counter[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)FBP_PHILOX_A * counter[0];
        const uint64_t b = (uint64_t)FBP_PHILOX_B * counter[2];
        const uint32_t c0 = (uint32_t)(b >> 32) ^ counter[1] ^ k0;
        const uint32_t c2 = (uint32_t)(a >> 32) ^ counter[3] ^ k1;
        counter[0] = c0;
        counter[1] = (uint32_t)b;
        counter[2] = c2;
        counter[3] = (uint32_t)a;
        k0 += FBP_PHILOX_KEY_0;
        k1 += FBP_PHILOX_KEY_1;
    }
}

/* Block `block` of a stream: 128 random bits. `attempt` numbers the draws that one position needs
 * where some are rejected. */
FBP_INLINE void fbp_random_block(uint64_t seed, uint32_t stream, uint64_t block, uint32_t attempt,
                                 uint32_t out[4]) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    out[0] = (uint32_t)block;
    out[1] = (uint32_t)(block >> 32);
    out[2] = stream;
    out[3] = attempt;
    fbp_philox(key, out);
}

/* 32 or 64 random bits; a block serves four or two positions in turn. Both take from the same
 * blocks, so a stream is to be read by one of them only. */
FBP_INLINE uint32_t fbp_random_u32(uint64_t seed, uint32_t stream, uint64_t position) {
    uint32_t block[4];
    fbp_random_block(seed, stream, position / 4, 0, block);
    return block[position % 4];
}

FBP_INLINE uint64_t fbp_random_u64(uint64_t seed, uint32_t stream, uint64_t position) {
    uint32_t block[4];
    fbp_random_block(seed, stream, position / 2, 0, block);
    const uint32_t *const half = block + 2 * (position % 2);
    return (uint64_t)half[1] << 32 | half[0];
}

/* Uniform in [0, 1): a multiple of 2^-24 or 2^-53, which the type holds exactly. */
FBP_INLINE float fbp_random_uniform_f32(uint64_t seed, uint32_t stream, uint64_t position) {
    return (float)(fbp_random_u32(seed, stream, position) >> 8) * 0x1p-24f;
}

FBP_INLINE double fbp_random_uniform_f64(uint64_t seed, uint32_t stream, uint64_t position) {
    return (double)(fbp_random_u64(seed, stream, position) >> 11) * 0x1p-53;
}

/* Standard normal (Box and Muller, 1958): a block is a point of the plane, whose coordinates serve
 * two positions. It is as exact as the C library's log and cos; no hot loop draws from it. */
FBP_INLINE double fbp_random_normal(uint64_t seed, uint32_t stream, uint64_t position) {
    const uint64_t pair = position & ~(uint64_t)1;
    const double open = 1.0 - fbp_random_uniform_f64(seed, stream, pair); /* in (0, 1] */
    const double angle = 6.283185307179586 * fbp_random_uniform_f64(seed, stream, pair + 1);
    return sqrt(-2.0 * log(open)) * (position == pair ? cos(angle) : sin(angle));
}

/* Uniform in 0 .. bound - 1, for 0 < bound < 2^32, without bias (Lemire, Fast random integer
 * generation in an interval, 2019): the draw times the bound, over 2^32. A draw is made again where
 * the remainder is below 2^32 mod bound, which is less than bound: results with such remainders
 * would come up once too often. */
FBP_INLINE uint32_t fbp_random_below(uint64_t seed, uint32_t stream, uint64_t position,
                                     uint32_t bound) {
    for (uint32_t attempt = 0;; attempt++) {
        uint32_t block[4];
        fbp_random_block(seed, stream, position / 4, attempt, block);
        const uint64_t product = (uint64_t)block[position % 4] * bound;
        const uint32_t remainder = (uint32_t)product;
        if (remainder >= bound || remainder >= (UINT32_MAX - bound + 1) % bound)
            return (uint32_t)(product >> 32);
    }
}

/* ---- masks ----
 *
 * Draws for random masks are functions of (seed, step, stream, position), where the stream is the
 * op's own and the position counts the elements of a batch. Their counters differ from those of all
 * other draws in the highest bit of the last word, an attempt that no rejection ever reaches; the
 * rest of that word, and the upper half of the second, number the step. So the four words are
 *
 *     block % 2^32; block / 2^32 + 2^16 (step / 2^31 % 2^16); stream; 2^31 + step % 2^31
 *
 * and below 2^47 steps and 2^50 positions no two draws of a seed share a counter. */

/* Words of several blocks side by side, each in the lower half of 64 bits; the upper halves may
 * hold anything. gcc would form all 128 bits of a product of such lanes, so the instruction that
 * wants the lower halves alone is named where there is one. */
#if defined(__GNUC__) && !defined(__CUDACC__) && defined(__AVX512F__)
#define FBP_WORDS 8
typedef uint64_t fbp_words __attribute__((vector_size(64)));
typedef uint32_t fbp_halves __attribute__((vector_size(32)));
#define FBP_MULTIPLY_WORDS(a, b) ((fbp_words)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#elif defined(__GNUC__) && !defined(__CUDACC__) && defined(__AVX2__)
#define FBP_WORDS 4
typedef uint64_t fbp_words __attribute__((vector_size(32)));
typedef uint32_t fbp_halves __attribute__((vector_size(16)));
#define FBP_MULTIPLY_WORDS(a, b) ((fbp_words)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#else
#define FBP_WORDS 1
typedef uint64_t fbp_words;
#define FBP_MULTIPLY_WORDS(a, b) ((uint64_t)(uint32_t)(a) * (uint32_t)(b))
#endif

enum { FBP_MASK_DRAWS = 64, FBP_MASK_BLOCKS = FBP_MASK_DRAWS / 4 };

FBP_INLINE fbp_words fbp_same_words(uint32_t word) { return (fbp_words){0} + word; }

/* word, word + 1 and so on. */
FBP_INLINE fbp_words fbp_next_words(uint32_t word) {
#if FBP_WORDS == 8
    return (fbp_words){0, 1, 2, 3, 4, 5, 6, 7} + word;
#elif FBP_WORDS == 4
    return (fbp_words){0, 1, 2, 3} + word;
#else
    return word;
#endif
}

FBP_INLINE void fbp_store_words(fbp_words words, uint32_t *to) {
#if FBP_WORDS > 1
    const fbp_halves halves = __builtin_convertvector(words, fbp_halves);
    memcpy(to, &halves, sizeof halves);
#else
    *to = (uint32_t)words;
#endif
}

/* fbp_philox on several counters. */
FBP_INLINE void fbp_philox_words(const uint32_t key[2], fbp_words counter[4]) {
    const fbp_words multiplier_a = fbp_same_words(FBP_PHILOX_A);
    const fbp_words multiplier_b = fbp_same_words(FBP_PHILOX_B);
    fbp_words k0 = fbp_same_words(key[0]), k1 = fbp_same_words(key[1]);
    for (int round = 0; round < 10; round++) {
        const fbp_words a = FBP_MULTIPLY_WORDS(multiplier_a, counter[0]);
        const fbp_words b = FBP_MULTIPLY_WORDS(multiplier_b, counter[2]);
        counter[0] = (b >> 32) ^ counter[1] ^ k0;
        counter[1] = b;
        counter[2] = (a >> 32) ^ counter[3] ^ k1;
        counter[3] = a;
        k0 += FBP_PHILOX_KEY_0;
        k1 += FBP_PHILOX_KEY_1;
    }
}

/* The draws for positions 64 * group on: that of position p is word p / 16 % 4 of block
 * p / 64 * 16 + p % 16, so that words can be written as they come. */
FBP_INLINE void fbp_mask_draws(uint64_t seed, uint64_t step, uint32_t stream, uint64_t group,
                               uint32_t draws[FBP_MASK_DRAWS]) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint64_t block = group * FBP_MASK_BLOCKS;
    const uint32_t high = (uint32_t)(block >> 32) | (uint32_t)(step >> 31) << 16;
    for (uint32_t i = 0; i < FBP_MASK_BLOCKS; i += FBP_WORDS) {
        fbp_words counter[4] = {fbp_next_words((uint32_t)block + i), fbp_same_words(high),
                                fbp_same_words(stream),
                                fbp_same_words((uint32_t)1 << 31 | (uint32_t)step)};
        fbp_philox_words(key, counter);
        for (int word = 0; word < 4; word++)
            fbp_store_words(counter[word], draws + word * FBP_MASK_BLOCKS + i);
    }
}

#endif
