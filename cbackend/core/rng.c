/* Arrays of random numbers and orders of samples, all functions of (seed, stream, position): the
 * loops around math/rng.h. */
#include "core/rng.h"

#include "core/status.h"
#include "math/rng.h"

/* Streams from here on number the epochs of a seed; those below are the callers', one for each
 * tensor of starting weights. */
#define EPOCH_STREAMS 0x80000000u

enum { draws_at_once = 64 };

/* Draws for positions first to first + draws_at_once - 1; first is a multiple of 4. */
static void fill_draws(uint64_t seed, uint32_t stream, uint64_t first, uint32_t *draws) {
    for (int i = 0; i < draws_at_once / 4; i++)
        fbp_random_block(seed, stream, first / 4 + (uint64_t)i, 0, draws + 4 * i);
}

/* Fisher and Yates' shuffle, from the inside out: place i takes what lies at a random place j <= i,
 * and sample i goes there. The draw for place i is fbp_random_below(..., i, i + 1), taken from a
 * block of draws where that needs no second attempt. */
void fbp_shuffle(uint64_t seed, uint64_t epoch, int64_t n, uint32_t *order) {
    uint32_t stream = EPOCH_STREAMS | (uint32_t)epoch, draws[draws_at_once];
    for (int64_t i = 0; i < n; i++) {
        if (i % draws_at_once == 0) fill_draws(seed, stream, (uint64_t)i, draws);
        uint32_t bound = (uint32_t)i + 1;
        uint64_t product = (uint64_t)draws[i % draws_at_once] * bound;
        uint32_t j = (uint32_t)product >= bound
                         ? (uint32_t)(product >> 32)
                         : fbp_random_below(seed, stream, (uint64_t)i, bound);
        order[i] = order[j];
        order[j] = (uint32_t)i;
    }
}

fbp_status fbp_permutation(uint64_t seed, uint64_t epoch, int64_t n, uint32_t *out) {
    if (n < 0 || n >= UINT32_MAX)
        return fbp_fail(FBP_INVALID, "n: found %lld, wanted 0 to %u", (long long)n, UINT32_MAX - 1);
    if (epoch >= (uint64_t)FBP_MAX_EPOCHS)
        return fbp_fail(FBP_INVALID, "epoch: found %llu, wanted 0 to %lld",
                        (unsigned long long)epoch, (long long)FBP_MAX_EPOCHS - 1);
    fbp_shuffle(seed, epoch, n, out);
    return FBP_OK;
}

void fbp_uniform(uint64_t seed, uint32_t stream, int64_t n, double low, double high,
                 fbp_dtype dtype, void *out) {
    for (int64_t i = 0; i < n; i++) {
        double number = low + (high - low) * fbp_random_uniform_f64(seed, stream, (uint64_t)i);
        if (dtype == FBP_F32)
            ((float *)out)[i] = (float)number;
        else
            ((double *)out)[i] = number;
    }
}

void fbp_normal(uint64_t seed, uint32_t stream, int64_t n, fbp_dtype dtype, void *out) {
    for (int64_t i = 0; i < n; i++) {
        double number = fbp_random_normal(seed, stream, (uint64_t)i);
        if (dtype == FBP_F32)
            ((float *)out)[i] = (float)number;
        else
            ((double *)out)[i] = number;
    }
}
