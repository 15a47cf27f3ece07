/* Orders of samples, for the training loop; the rest of core/rng.c is public in fbp.h. */
#ifndef FBP_CORE_RNG_H
#define FBP_CORE_RNG_H

#include "fbp.h"

/* Epochs are numbered below this: each has a stream of its own. */
#define FBP_MAX_EPOCHS ((int64_t)1 << 31)

/* The order of n samples (n below 2^32) in an epoch: a function of (seed, epoch) alone. */
void fbp_shuffle(uint64_t seed, uint64_t epoch, int64_t n, uint32_t *order);

#endif
