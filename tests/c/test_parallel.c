/* Teams, also with many more threads than cores: nobody leaves a barrier before all have come, and
 * the shares of a range cover it once. */
#include <stdio.h>

#include "core/parallel.h"

enum { most_threads = 17, rounds = 300 };

static int failures;

static void expect(int holds, const char *what) {
    if (holds) return;
    failures++;
    printf("does not hold: %s\n", what);
}

typedef struct {
    int round[most_threads]; /* the round that each thread has come to */
    int wrong[most_threads];
    int size[most_threads];
} meetings;

static void meet(void *context, const fbp_team *team) {
    meetings *all = context;
    all->size[team->thread] = team->size;
    for (int r = 1; r <= rounds; r++) {
        all->round[team->thread] = r;
        fbp_barrier(team);
        for (int t = 0; t < team->size; t++) all->wrong[team->thread] += all->round[t] != r;
        fbp_barrier(team); /* or a quick thread would go on to the next round too soon */
    }
}

static void check_barrier(int n_threads) {
    meetings all = {{0}, {0}, {0}};
    fbp_parallel(n_threads, meet, &all);
    int granted = all.size[0];
    expect(granted >= 1 && granted <= n_threads, "the team has at most the threads asked for");
    expect(!fbp_has_openmp() || granted == n_threads, "and all of them where OpenMP is there");
    for (int t = 0; t < granted; t++) {
        expect(all.wrong[t] == 0, "whoever leaves a barrier finds all others there");
        expect(all.round[t] == rounds, "all rounds are run");
    }
}

static void check_shares(int64_t n, int size) {
    int64_t next = 0;
    for (int t = 0; t < size; t++) {
        fbp_team team = {t, size, NULL};
        fbp_range share = fbp_share(n, &team);
        expect(share.begin == next, "shares follow one another");
        expect(share.end - share.begin >= n / size && share.end - share.begin <= n / size + 1,
               "shares are even");
        next = share.end;
    }
    expect(next == n, "shares cover the range");
}

int main(void) {
    for (int n_threads = 1; n_threads <= most_threads; n_threads += 4) check_barrier(n_threads);
    for (int size = 1; size <= 5; size++)
        for (int64_t n = 0; n < 20; n++) check_shares(n, size);
    return failures != 0;
}
