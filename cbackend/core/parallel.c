/* OpenMP, atomics and fork, and nothing else: kernels are serial and never come here.
 *
 * A child forked while its parent had an OpenMP team would hang in libgomp: its team's threads do not
 * exist there. So the child is marked at fork and runs everything on one thread, with the same bits. */
#include "core/parallel.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

#if defined(_WIN32)
#include <windows.h>
#else
#include <pthread.h>
#endif

static int forked_child;

#if !defined(_WIN32)
static void mark_child(void) { forked_child = 1; }

#if defined(__GNUC__)
__attribute__((constructor))
#endif
static void watch_forks(void) { pthread_atfork(NULL, NULL, mark_child); }
#endif

int fbp_in_forked_child(void) { return forked_child; }

int fbp_has_openmp(void) {
#if defined(_OPENMP)
    return 1;
#else
    return 0;
#endif
}

int fbp_max_threads(void) {
#if defined(_OPENMP)
    return forked_child ? 1 : omp_get_max_threads();
#else
    return 1;
#endif
}

void fbp_parallel(int n_threads, fbp_body body, void *context) {
#if defined(_OPENMP)
    if (n_threads > 1 && !forked_child) {
#pragma omp parallel num_threads(n_threads)
        body(context, omp_get_thread_num(), omp_get_num_threads());
        return;
    }
#endif
    (void)n_threads;
    body(context, 0, 1);
}

void fbp_barrier(void) {
#if defined(_OPENMP)
    if (omp_get_num_threads() > 1) {
#pragma omp barrier
    }
#endif
}

fbp_range fbp_share(int64_t n, int thread, int n_threads) {
    int64_t each = n / n_threads, rest = n % n_threads;
    int64_t begin = each * thread + (thread < rest ? thread : rest);
    fbp_range share = {begin, begin + each + (thread < rest)};
    return share;
}

#if defined(_WIN32)
int64_t fbp_counter_add(fbp_counter *counter, int64_t by) {
    return InterlockedExchangeAdd64(&counter->value, by) + by;
}
int64_t fbp_counter_read(fbp_counter *counter) { return InterlockedExchangeAdd64(&counter->value, 0); }
void fbp_counter_set(fbp_counter *counter, int64_t value) {
    InterlockedExchange64(&counter->value, value);
}
#else
int64_t fbp_counter_add(fbp_counter *counter, int64_t by) {
    return __atomic_add_fetch(&counter->value, by, __ATOMIC_SEQ_CST);
}
int64_t fbp_counter_read(fbp_counter *counter) {
    return __atomic_load_n(&counter->value, __ATOMIC_SEQ_CST);
}
void fbp_counter_set(fbp_counter *counter, int64_t value) {
    __atomic_store_n(&counter->value, value, __ATOMIC_SEQ_CST);
}
#endif
