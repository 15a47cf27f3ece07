/* The few scalar primitives that formulas are written in. Nothing here knows of loops or arrays.
 *
 * FBP_FMA(a, b, c) is the only way to fuse a multiplication with an addition outside the matrix
 * micro-kernel: a fused multiply-add where the target has one, a*b + c where it has not. Every file
 * but the micro-kernel's is compiled with -ffp-contract=off, so that a formula rounds alike in a
 * vector body, in its tail and in a fused loop. */
#ifndef FBP_MATH_SCALAR_H
#define FBP_MATH_SCALAR_H

#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define FBP_INLINE static __forceinline
#define FBP_RESTRICT __restrict
#elif defined(__CUDACC__)
#define FBP_INLINE static __host__ __device__ __forceinline__
#define FBP_RESTRICT __restrict__
#else
#define FBP_INLINE static inline __attribute__((always_inline, unused))
#define FBP_RESTRICT restrict
#endif

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
#define FBP_HAS_FMA 1
#define FBP_FMA_F32(a, b, c) __builtin_fmaf((a), (b), (c))
#define FBP_FMA_F64(a, b, c) __builtin_fma((a), (b), (c))
#else
#define FBP_HAS_FMA 0
#define FBP_FMA_F32(a, b, c) ((a) * (b) + (c))
#define FBP_FMA_F64(a, b, c) ((a) * (b) + (c))
#endif

/* Before a loop whose iterations do not depend on each other, though its output may be its input;
 * and before one over a block of lanes: it is to become vectors, where gcc left alone would first
 * unroll it into scalars. */
#if defined(__clang__)
#define FBP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define FBP_LANEWISE
#elif defined(__GNUC__)
#define FBP_INDEPENDENT _Pragma("GCC ivdep")
#define FBP_LANEWISE _Pragma("GCC unroll 1")
#elif defined(_MSC_VER)
#define FBP_INDEPENDENT __pragma(loop(ivdep))
#define FBP_LANEWISE
#else
#define FBP_INDEPENDENT
#define FBP_LANEWISE
#endif

/* Asks for the cache line at an address, which need not be anyone's; FAR: into the second cache. */
#if defined(__GNUC__) && !defined(__CUDACC__)
#define FBP_PREFETCH(address) __builtin_prefetch(address)
#define FBP_PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2)
#else
#define FBP_PREFETCH(address) ((void)(address))
#define FBP_PREFETCH_FAR(address) ((void)(address))
#endif

/* Sums are formed in this many interleaved chains, whatever the width of the processor's vectors,
 * so that every instruction set adds in the same order. */
#define FBP_LANES 16

#endif
