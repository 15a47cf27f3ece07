/* Asking the caller, now and then, whether a long call should stop. */
#ifndef FBP_CORE_WATCH_H
#define FBP_CORE_WATCH_H

#include "core/parallel.h"

typedef struct {
    fbp_poll_fn ask; /* NULL: nobody */
    void *context;
    double budget; /* FLOPs until the next question; the first thread's */
    fbp_counter stopped;
} fbp_watch;

/* Each thread says what it has done; the first thread asks about every 20 ms of its work, and more
 * often where a call is not worth counting. */
static inline void fbp_watch_work(fbp_watch *watch, const fbp_team *team, double flops) {
    if (team->thread != 0 || watch->ask == NULL) return;
    watch->budget -= flops + 1e5;
    if (watch->budget > 0.0) return;
    watch->budget = 1e9;
    if (watch->ask(watch->context) != 0) fbp_counter_set(&watch->stopped, 1);
}

static inline int fbp_watch_stopped(fbp_watch *watch) {
    return watch->ask != NULL && fbp_counter_read(&watch->stopped) != 0;
}

#endif
