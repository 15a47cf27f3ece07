/* OpenMP, atomics, locks, fork and the clock, and nothing else: kernels are serial and never come
 * here.
 *
 * Teams come from OpenMP, but meet at a barrier of our own. OpenMP's runtimes spin for milliseconds
 * before they sleep: on a busy machine a thread that waits then keeps the processor from the one it
 * waits for, and a step of 75 us took 11 ms. Ours spins for about as long as waking a thread takes,
 * then sleeps.
 *
 * A child forked while its parent had an OpenMP team would hang in libgomp: its team's threads do
 * not exist there. So the child is marked at fork and runs everything on one thread, with the same
 * bits. */
#include "core/parallel.h"

#include <time.h>

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
static void watch_forks(void) {
    pthread_atfork(NULL, NULL, mark_child);
}
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

/* ---- teams ---- */

const fbp_team fbp_alone = {0, 1, NULL};

#if defined(_WIN32)
typedef SRWLOCK lock_t;
typedef CONDITION_VARIABLE signal_t;
#define LOCK_INIT SRWLOCK_INIT
#define SIGNAL_INIT CONDITION_VARIABLE_INIT
#define take_lock(lock) AcquireSRWLockExclusive(lock)
#define give_lock(lock) ReleaseSRWLockExclusive(lock)
#define wait_signal(signal, lock) SleepConditionVariableSRW(signal, lock, INFINITE, 0)
#define send_signal(signal) WakeAllConditionVariable(signal)
#else
typedef pthread_mutex_t lock_t;
typedef pthread_cond_t signal_t;
#define LOCK_INIT PTHREAD_MUTEX_INITIALIZER
#define SIGNAL_INIT PTHREAD_COND_INITIALIZER
#define take_lock(lock) pthread_mutex_lock(lock)
#define give_lock(lock) pthread_mutex_unlock(lock)
#define wait_signal(signal, lock) pthread_cond_wait(signal, lock)
#define send_signal(signal) pthread_cond_broadcast(signal)
#endif

struct fbp_meeting {
    fbp_counter arrived, round, sleeping;
    lock_t lock;
    signal_t all_here;
};

/* 55 us where a pause takes 11 ns, as measured; about what putting a thread to sleep and waking it
 * costs. */
enum { spins = 5000 };

static void relax(void) {
#if defined(_WIN32)
    YieldProcessor();
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int same_round(fbp_meeting *meeting, int64_t round) {
    return fbp_counter_read(&meeting->round) == round;
}

void fbp_barrier(const fbp_team *team) {
    if (team->size == 1) return;
    fbp_meeting *meeting = team->meeting;
    int64_t round = fbp_counter_read(&meeting->round);
    if (fbp_counter_add(&meeting->arrived, 1) == team->size) {
        fbp_counter_set(&meeting->arrived, 0);
        fbp_counter_add(&meeting->round, 1);
        if (fbp_counter_read(&meeting->sleeping) > 0) {
            take_lock(&meeting->lock); /* whoever counts as sleeping waits, or has seen the round */
            send_signal(&meeting->all_here);
            give_lock(&meeting->lock);
        }
        return;
    }
    for (int i = 0; i < spins && same_round(meeting, round); i++) relax();
    if (!same_round(meeting, round)) return;
    take_lock(&meeting->lock);
    fbp_counter_add(&meeting->sleeping, 1);
    while (same_round(meeting, round)) wait_signal(&meeting->all_here, &meeting->lock);
    fbp_counter_add(&meeting->sleeping, -1);
    give_lock(&meeting->lock);
}

void fbp_parallel(int n_threads, fbp_body body, void *context) {
#if defined(_OPENMP)
    if (n_threads > 1 && !forked_child) {
        fbp_meeting meeting = {{0}, {0}, {0}, LOCK_INIT, SIGNAL_INIT};
#pragma omp parallel num_threads(n_threads)
        {
            fbp_team team = {omp_get_thread_num(), omp_get_num_threads(), &meeting};
            body(context, &team);
        }
        return;
    }
#endif
    (void)n_threads;
    body(context, &fbp_alone);
}

fbp_range fbp_share(int64_t n, const fbp_team *team) {
    int64_t each = n / team->size, rest = n % team->size, thread = team->thread;
    int64_t begin = each * thread + (thread < rest ? thread : rest);
    fbp_range share = {begin, begin + each + (thread < rest)};
    return share;
}

double fbp_seconds(void) {
    struct timespec now = {0};
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- counters ---- */

#if defined(_WIN32)
int64_t fbp_counter_add(fbp_counter *counter, int64_t by) {
    return InterlockedExchangeAdd64(&counter->value, by) + by;
}
int64_t fbp_counter_read(fbp_counter *counter) {
    return InterlockedExchangeAdd64(&counter->value, 0);
}
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
