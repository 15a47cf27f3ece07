/* What the target's vectors are: for the files that spell vectors out, where the compiler left
 * alone would not find them.
 *
 * They are GNU C's, as wide as the target's registers. Without them a "vector" is one element, and
 * all that is made of them is plain C. */
#ifndef FBP_OPS_VECTORS_H
#define FBP_OPS_VECTORS_H

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define REGISTERS 32
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define REGISTERS 16
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define REGISTERS 32
#else
#define VECTOR_BYTES 16
#define REGISTERS 16
#endif

#endif
