/* Random numbers as functions of (seed, stream, position): nothing is kept, so any number can be
 * had again, in any order and on any thread. A stream separates uses of one seed. No array, no loop
 * over one.
 *
 * The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy
 * as 1, 2, 3, 2011), written from the paper and held to its authors' known answers by the tests. */
#ifndef FBP_MATH_RNG_H
#define FBP_MATH_RNG_H

#include <math.h>
#include <stdint.h>

#include "math/scalar.h"

/* Ten rounds over the counter, in place, under the key. */
FBP_INLINE void fbp_philox(const uint32_t key[2], uint32_t counter[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * counter[0];
        const uint64_t b = (uint64_t)0xCD9E8D57 * counter[2];
        const uint32_t c0 = (uint32_t)(b >> 32) ^ counter[1] ^ k0;
        const uint32_t c2 = (uint32_t)(a >> 32) ^ counter[3] ^ k1;
        counter[0] = c0;
        counter[1] = (uint32_t)b;
        counter[2] = c2;
        counter[3] = (uint32_t)a;
        k0 += 0x9E3779B9; /* the golden ratio, */
        k1 += 0xBB67AE85; /* and sqrt(3) - 1 */
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

#endif
