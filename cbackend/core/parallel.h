/* Threads: the only file that knows of OpenMP, locks, atomics, fork and the clock. */
#ifndef FBP_CORE_PARALLEL_H
#define FBP_CORE_PARALLEL_H

#include "fbp.h"

/* What a thread of a team knows of it. */
typedef struct fbp_meeting fbp_meeting;
typedef struct {
    int thread, size;
    fbp_meeting *meeting;
} fbp_team;

extern const fbp_team fbp_alone; /* one thread */

/* Runs body once on each thread of a team and waits for all. With one thread, body is simply
 * called. The runtime may grant fewer threads than asked for: body is told. */
typedef void (*fbp_body)(void *context, const fbp_team *team);
void fbp_parallel(int n_threads, fbp_body body, void *context);

void fbp_barrier(const fbp_team *team); /* all threads of the team meet; alone, it does nothing */

/* The part of [0, n) that belongs to a thread: consecutive, and even to within one. */
typedef struct {
    int64_t begin, end;
} fbp_range;
fbp_range fbp_share(int64_t n, const fbp_team *team);

/* A number that several threads may count at once. */
typedef struct {
    volatile long long value;
} fbp_counter;
int64_t fbp_counter_add(fbp_counter *counter, int64_t by); /* the new value */
int64_t fbp_counter_read(fbp_counter *counter);
void fbp_counter_set(fbp_counter *counter, int64_t value);

double fbp_seconds(void); /* since some moment; the system may set the clock */

#endif
