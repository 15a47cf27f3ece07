/* Numbers of 16 bits, as bits: bfloat16, the upper half of a float32, with its range and 8 digits;
 * and float16 (IEEE 754's binary16), with 11 digits, from 2^-24 to 65504. Narrowing rounds to
 * nearest, ties to even, beyond the largest number to infinity; NaN stays NaN. Widening is exact.
 *
 * Integers and one exact addition alone, without branches: loops of these become vectors, and have
 * the same bits on every processor, whatever it has for such numbers. */
#ifndef FBP_MATH_HALF_H
#define FBP_MATH_HALF_H

#include "math/scalar.h"

FBP_INLINE uint32_t fbp_bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

FBP_INLINE float fbp_float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Half of the last place kept is added, less a little where that is even. A NaN whose payload lies
 * below would turn into infinity: it is made quiet, in a bit that stays. */
FBP_INLINE uint16_t fbp_narrow_bf16(float x) {
    const uint32_t bits = fbp_bits_of(x), nearest = bits + 0x7fffu + (bits >> 16 & 1u);
    const uint32_t is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return (uint16_t)((is_nan ? bits | 0x400000u : nearest) >> 16);
}

FBP_INLINE float fbp_widen_bf16(uint16_t half) { return fbp_float_of((uint32_t)half << 16); }

/* Exponents are 112 less; from 2^16 on (or a little less, by rounding) all is infinity. Below
 * 2^-14, where numbers lie 2^-24 apart, adding 0.5 rounds: its last place is that. */
FBP_INLINE uint16_t fbp_narrow_fp16(float x) {
    const uint32_t bits = fbp_bits_of(x), size = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    const uint32_t most = size < 0x47800000u ? size : 0x47800000u;
    const uint32_t normal = (most - 0x38000000u + 0xfffu + (most >> 13 & 1u)) >> 13;
    const uint32_t small = fbp_bits_of(fbp_float_of(size) + 0.5f) - 0x3f000000u;
    const uint32_t nan = 0x7e00u | (size >> 13 & 0x3ffu);
    const uint32_t finite = size < 0x38800000u ? small : normal;
    return (uint16_t)(sign | (size > 0x7f800000u ? nan : finite));
}

FBP_INLINE float fbp_widen_fp16(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, size = (uint32_t)(half & 0x7fffu) << 13;
    const uint32_t normal = size + (size < 0xf800000u ? 0x38000000u : 0x70000000u);
    const float small = fbp_float_of(size + 0x38800000u) - fbp_float_of(0x38800000u);
    return fbp_float_of(sign | (size < 0x800000u ? fbp_bits_of(small) : normal));
}

#endif
