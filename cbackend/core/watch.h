/* Asking the caller, now and then, whether a long call should stop. */
#ifndef FBP_CORE_WATCH_H
#define FBP_CORE_WATCH_H

#include "core/parallel.h"

typedef struct {
    fbp_poll_fn ask; /* NULL: nobody */
    void *context;
    double budget; /* FLOPs until the next look at the clock; the first thread's */
    double next;   /* when to ask, in seconds of that clock; 0: not looked at yet */
    fbp_counter stopped;
} fbp_watch;

static inline void fbp_watch_stop(fbp_watch *watch) { fbp_counter_set(&watch->stopped, 1); }

/* Each thread says what it has done; the first thread asks every 20 ms. The clock is looked at
 * after some 10 us of work, or a hundred calls, so that small steps do not pay for it. */
static inline void fbp_watch_work(fbp_watch *watch, const fbp_team *team, double flops) {
    const double period = 0.02;
    if (team->thread != 0 || watch->ask == NULL) return;
    watch->budget -= flops + 1e4;
    if (watch->budget > 0.0) return;
    watch->budget = 1e6;
    double now = fbp_seconds();
    int due = now >= watch->next || watch->next > now + period; /* clocks are set back, too */
    if (watch->next != 0.0 && !due) return;
    int first = watch->next == 0.0;
    watch->next = now + period;
    if (!first && watch->ask(watch->context) != 0) fbp_watch_stop(watch);
}

#endif
