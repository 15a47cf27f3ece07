/* The random numbers: the generator against its authors' known answers, the numbers made of it
 * against their definitions, and their spread. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fbp.h"
#include "math/rng.h"

static int failures;

static void expect(int right, const char *what) {
    if (right) return;
    failures++;
    printf("%s\n", what);
}

/* From the file kat_vectors of the authors' library, Random123. */
static void check_known_answers(void) {
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
         {UINT32_MAX, UINT32_MAX},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, /* the digits of pi */
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t counter[4];
        memcpy(counter, known[i].counter, sizeof counter);
        fbp_philox(known[i].key, counter);
        expect(memcmp(counter, known[i].answer, sizeof counter) == 0, "philox: a wrong answer");
    }
}

/* Seed, stream and position all matter, high halves included. */
static void check_arguments(void) {
    const uint64_t high = (uint64_t)1 << 32;
    const uint32_t one = fbp_random_u32(1, 2, 3);
    expect(one == fbp_random_u32(1, 2, 3), "u32: not a function of its arguments");
    expect(one != fbp_random_u32(1 + high, 2, 3), "u32: the seed's high half is lost");
    expect(one != fbp_random_u32(2, 2, 3) && one != fbp_random_u32(1, 3, 3), "u32: lost arguments");
    expect(one != fbp_random_u32(1, 2, 4), "u32: the position within a block is lost");
    expect(one != fbp_random_u32(1, 2, 3 + 4 * high), "u32: the position's high half is lost");
}

/* The draws for masks are words of the blocks that rng.h says, for small and for large numbers, and
 * no other draw has their counters: it numbers attempts in the last word, from 0 on. */
static void check_masks(void) {
    const uint64_t seed = 0x0123456789abcdef, groups[] = {0, 5, ((uint64_t)1 << 44) - 1};
    const uint64_t steps[] = {0, 7, ((uint64_t)1 << 31) + 1, ((uint64_t)1 << 47) - 1};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, stream = 0xfffffff0;
    for (int g = 0; g < 3; g++)
        for (int s = 0; s < 4; s++) {
            uint32_t draws[FBP_MASK_DRAWS];
            fbp_mask_draws(seed, steps[s], stream, groups[g], draws);
            for (uint32_t i = 0; i < FBP_MASK_DRAWS; i++) {
                const uint64_t block = groups[g] * 16 + i % 16;
                uint32_t counter[4] = {(uint32_t)block,
                                       (uint32_t)(block >> 32) + (uint32_t)(steps[s] >> 31) * 65536,
                                       stream, 0x80000000 + (uint32_t)(steps[s] & 0x7fffffff)};
                fbp_philox(key, counter);
                expect(draws[i] == counter[i / 16], "masks: not the draws that were promised");
            }
        }
}

/* Averages of n draws may lie 5 standard deviations off. */
static void check_uniform(void) {
    enum { n = 100000 };
    double sum = 0, squares = 0, sum_float = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double x = fbp_random_uniform_f64(7, 1, i);
        const float y = fbp_random_uniform_f32(7, 1, i);
        if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) expect(0, "uniform: outside [0, 1)");
        if (ldexp(x, 53) != floor(ldexp(x, 53))) expect(0, "uniform: not a multiple of 2^-53");
        sum += x, squares += x * x, sum_float += (double)y;
    }
    const double spread = 5 / sqrt((double)n);
    expect(fabs(sum / (double)n - 0.5) < spread * sqrt(1 / 12.0), "uniform: wrong mean");
    expect(fabs(sum_float / (double)n - 0.5) < spread * sqrt(1 / 12.0),
           "uniform, float: wrong mean");
    expect(fabs(squares / (double)n - 1 / 3.0) < spread * sqrt(4 / 45.0),
           "uniform: wrong variance");
}

static void check_normal(void) {
    enum { n = 100000 };
    double moments[5] = {0, 0, 0, 0, 0}, neighbours = 0, last = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double x = fbp_random_normal(7, 2, i);
        double power = 1;
        for (int m = 0; m < 5; m++, power *= x) moments[m] += power / (double)n;
        neighbours += x * last / (double)n;
        last = x;
    }
    const double spread = 5 / sqrt((double)n);
    expect(fabs(moments[1]) < spread, "normal: wrong mean");
    expect(fabs(moments[2] - 1) < spread * sqrt(2.0), "normal: wrong variance");
    expect(fabs(moments[3]) < spread * sqrt(15.0), "normal: skewed");
    expect(fabs(moments[4] - 3) < spread * sqrt(96.0), "normal: wrong tails");
    expect(fabs(neighbours) < spread, "normal: the two of a pair are correlated");
}

/* For a bound of 3 * 2^30 a quarter of the draws must be made again; without that, every third
 * result would come up twice as often as the others. */
static void check_below(void) {
    enum { n = 90000 };
    const uint32_t bound = (uint32_t)3 << 30;
    double count[3] = {0, 0, 0}, small[7] = {0, 0, 0, 0, 0, 0, 0};
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t x = fbp_random_below(7, 3, i, bound);
        expect(x < bound, "below: too large");
        count[x % 3]++;
        small[fbp_random_below(7, 4, i, 7)]++;
    }
    for (int r = 0; r < 3; r++)
        expect(fabs(count[r] - (double)n / 3.0) < 5 * sqrt((double)n * 2 / 9.0), "below: biased");
    for (int r = 0; r < 7; r++)
        expect(fabs(small[r] - (double)n / 7.0) < 5 * sqrt((double)n * 6 / 49.0),
               "below 7: biased");
    expect(fbp_random_below(7, 3, 0, 1) == 0, "below 1: not 0");
}

/* A permutation, another for each seed and epoch, whose first place is uniform over the epochs. */
static void check_permutation(void) {
    enum { n = 1000, epochs = 20000, few = 5 };
    static uint32_t order[n], other[n], seen[n];
    expect(fbp_permutation(7, 0, n, order) == FBP_OK, "permutation: refused");
    for (int i = 0; i < n; i++) seen[order[i]]++;
    for (int i = 0; i < n; i++) expect(seen[i] == 1, "permutation: not one");
    fbp_permutation(7, 1, n, other);
    expect(memcmp(order, other, sizeof order) != 0, "permutation: the epoch is lost");
    fbp_permutation(8, 0, n, other);
    expect(memcmp(order, other, sizeof order) != 0, "permutation: the seed is lost");
    double first[few] = {0, 0, 0, 0, 0};
    for (uint64_t epoch = 0; epoch < epochs; epoch++) {
        fbp_permutation(7, epoch, few, order);
        first[order[0]]++;
    }
    for (int i = 0; i < few; i++)
        expect(fabs(first[i] - (double)epochs / 5.0) < 5 * sqrt((double)epochs * 4 / 25.0),
               "permutation: biased");
}

int main(void) {
    check_known_answers();
    check_arguments();
    check_masks();
    check_uniform();
    check_normal();
    check_below();
    check_permutation();
    return failures != 0;
}
