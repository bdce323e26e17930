/* A wall clock that tests set, preloaded into the process under test: what clock_settime does to a machine, done to one process.
 *
 * KUROSHIO_CLOCK names a file of eight bytes: milliseconds by which the wall clock is ahead, in the machine's byte order. It is mapped, so
 * that a change holds at once. The monotonic clock stays as it is, as it does when a clock is set.
 *
 * Nothing here allocates or looks symbols up before main: the process's allocator asks for the time while it is made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *ahead_ms;

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("KUROSHIO_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) abort();
    void *mapped = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    close(file);
    ahead_ms = mapped;
}

static void add_ms(struct timespec *at, long long ms) {
    long long ns = at->tv_nsec + (ms % 1000) * 1000000;
    at->tv_sec += ms / 1000 + (ns >= 1000000000) - (ns < 0);
    at->tv_nsec = (ns + 1000000000) % 1000000000;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    if (syscall(SYS_clock_gettime, id, now) != 0) return -1;
    if ((id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) && ahead_ms) add_ms(now, *ahead_ms);
    return 0;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (now) *now = at.tv_sec;
    return at.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* A deadline of the wall clock comes earlier or later when the clock is set while somebody waits for it. The kernel knows the true clock
 * only, so nobody waits for longer than a moment: who is woken before looks again, as POSIX asks of all who wait (spurious wakeups). */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *deadline) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!wait) *(void **)&wait = dlsym(RTLD_DEFAULT, "pthread_cond_clockwait");
    struct timespec now, until;
    clock_gettime(CLOCK_REALTIME, &now);
    long long left = (deadline->tv_sec - now.tv_sec) * 1000 + (deadline->tv_nsec - now.tv_nsec) / 1000000;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &until);
    add_ms(&until, left < 0 ? 0 : left < 50 ? left + 1 : 50);
    int ended = wait(cond, lock, CLOCK_MONOTONIC, &until);
    return ended == ETIMEDOUT && left >= 50 ? 0 : ended;
}

/* As librdkafka calls it; glibc's types of C11 are those of POSIX under another name. */
int cnd_timedwait(cnd_t *cond, mtx_t *lock, const struct timespec *deadline) {
    switch (pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)lock, deadline)) {
        case 0: return thrd_success;
        case ETIMEDOUT: return thrd_timedout;
        default: return thrd_error;
    }
}
