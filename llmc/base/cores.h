// cores.h: which cores the threads of a team are on while other processes want some of them, too. Linux shares cores among threads of which it does not
// know that they wait for one another. So the team sees to two things itself (LOG 91, 114):
// 1. Threads keep apart. Linux balances how many threads a core has: of a team of two and another's busy loop, on two cores, two share a core either
//    way, so that it may leave the team on one core and the loop alone on the other, for seconds.
// 2. Who waits for a thread that was put aside in the middle of a task changes places with it: the core goes on with what all wait for, and who has
//    nothing to do waits in its stead. If it slept, its share of the core would go to others, and the task would still wait.
// 3. Its threads ask for short time slices, so that one that was put aside, or comes to another core, is put back before long, and the other's slice
//    ends soon, too. Their shares stay fair: a slice says how often, not how much.
// The system may move a thread again at any time. Afterwards a thread may run where it might before; cores that a control group is given later are not
// taken by a thread that was moved.
#pragma once
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>

#ifdef __linux__
class Cores {
    static constexpr auto EVERY = std::chrono::milliseconds(2);       // below a time slice of 3 to 4 ms; five system calls where it moves, one where not
    static constexpr auto AT_ONCE = std::chrono::microseconds(100);   // few time slices end so soon; without it one loop had 0.25 of a core, LOG 114
    static constexpr uint64_t SLICE = 500'000;                        // nanoseconds; beside loops 0.3 and 1 ms gave as much, Linux's own 3 ms less, 10 ms far less: LOG 117
    struct alignas(64) Seat {                                         // a cache line each: its thread writes to it at every task
        std::atomic<int> core{-1};                                    // where the thread was last seen, or -1
        std::atomic<pid_t> thread{0};
        std::atomic<clockid_t> clock{};                               // the time that it has run
        std::atomic<bool> awaited{false};                             // others wait for what it does
    };
    Seat seats[CPU_SETSIZE];                                          // by the threads' numbers
    std::atomic<int> numbers{0};                                      // above the highest one
    std::atomic<pid_t> moving{0};                                     // the process of which a thread moves another, which is awaited; a thread moves itself while it is not

    // False: it may not run there.
    bool move(int number, int core) {
        cpu_set_t allowed, only;
        CPU_ZERO(&only);
        CPU_SET(core, &only);
        const pid_t thread = seats[number].thread.load(std::memory_order_relaxed);
        if (sched_getaffinity(thread, sizeof allowed, &allowed) || !CPU_ISSET(core, &allowed) || sched_setaffinity(thread, sizeof only, &only)) return false;
        sched_setaffinity(thread, sizeof allowed, &allowed);
        seats[number].core.store(core, std::memory_order_release);
        return true;
    }
    void move_itself(int number, int core) {
        const bool is = is_awaited(number);
        awaited(number, false);
        move(number, core);
        awaited(number, is);
    }
    // Linux 6.12 and later take it (sched_setattr(2): sched_runtime of SCHED_OTHER); where the system does not, slices are as they are.
    static void ask_for_short_slices() {
        struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } attr{};  // struct sched_attr, which glibc has since 2.41
        if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) || attr.policy != SCHED_OTHER) return;
        attr.runtime = SLICE;
        syscall(SYS_sched_setattr, 0, &attr, 0);
    }
    // It could run, and does not: its clock stands still between two looks, and it does not sleep for a file or a lock.
    static bool put_aside(const Seat& seat) {
        const clockid_t clock = seat.clock.load(std::memory_order_relaxed);
        timespec a, b;
        if (clock_gettime(clock, &a) || clock_gettime(clock, &b) || a.tv_nsec != b.tv_nsec) return false;
        char text[256], path[48];
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)seat.thread.load(std::memory_order_relaxed));
        const int file = open(path, O_RDONLY | O_CLOEXEC);
        const ssize_t n = file < 0 ? 0 : read(file, text, sizeof text - 1);
        if (file >= 0) close(file);
        text[n > 0 ? n : 0] = 0;
        const char* name_ends = strrchr(text, ')');  // "12 (name) R ..."
        return name_ends && strncmp(name_ends, ") R", 3) == 0;
    }

public:
    int seen_on(int number) const { return seats[number].core.load(std::memory_order_acquire); }
    bool is_awaited(int number) const { return seats[number].awaited.load(); }

    // Called by the thread itself: where it is, and away from there if one of a lower number is there, too.
    void look(int number) {
        if (number >= CPU_SETSIZE) return;
        Seat& seat = seats[number];
        const int here = sched_getcpu();
        clockid_t clock;
        if (here < 0 || pthread_getcpuclockid(pthread_self(), &clock)) return;
        for (int n = numbers; n <= number && !numbers.compare_exchange_weak(n, number + 1);) {}
        seat.clock.store(clock, std::memory_order_relaxed);
        seat.thread.store((pid_t)syscall(SYS_gettid), std::memory_order_relaxed);  // gettid() came with glibc 2.30
        seat.core.store(here, std::memory_order_release);  // who sees it sees the other two
        bool shared = false;
        for (int lower = 0; lower < number; lower++) shared |= seen_on(lower) == here;
        cpu_set_t free;
        if (!shared || sched_getaffinity(0, sizeof free, &free)) return;
        for (int other = 0; other < CPU_SETSIZE; other++) if (const int taken = seen_on(other); taken >= 0) CPU_CLR(taken, &free);
        for (int i = 1; i < CPU_SETSIZE; i++)
            if (const int there = (here + i) % CPU_SETSIZE; CPU_ISSET(there, &free)) {  // the nearest one, for the sake of caches
                move_itself(number, there);
                return;
            }
    }
    // The same, now and then.
    void look_now_and_then(int number) {
        thread_local std::chrono::steady_clock::time_point next{};
        if (next == decltype(next){}) ask_for_short_slices();
        const auto now = std::chrono::steady_clock::now();
        if (now >= next) next = now + EVERY, look(number);
    }

    // Called by the thread itself. After false nobody moves it, so that what it starts then, threads and processes, inherits an affinity that is its own.
    void awaited(int number, bool is) {
        if (number >= CPU_SETSIZE) return;
        seats[number].awaited.store(is);
        if (!is) for (pid_t by; (by = moving.load()) && by == getpid();) sched_yield();  // who moved there has no copy behind a fork
    }
    // Called by a thread that waits: changes places with one that is awaited and was put aside. False: there is none, or it waits for this thread's core.
    bool change_places(int number) {
        if (number >= CPU_SETSIZE) return false;
        for (int other = 0; other < numbers; other++) {
            const Seat& seat = seats[other];
            if (other == number || !is_awaited(other) || seen_on(other) < 0 || !put_aside(seat)) continue;
            if (pid_t nobody = 0; !moving.compare_exchange_strong(nobody, getpid())) return false;
            const int here = sched_getcpu(), there = seen_on(other);
            const bool moved = here >= 0 && here != there && is_awaited(other) && move(other, here);  // awaited still, now that it cannot become another
            moving.store(0);
            if (!moved) continue;
            const auto start = std::chrono::steady_clock::now();
            move_itself(number, there);
            if (std::chrono::steady_clock::now() - start < AT_ONCE) sched_yield();  // it came to wait, not to take the core from who runs there
            return true;
        }
        return false;
    }
};
#else
struct Cores {
    void look_now_and_then(int) {}
    void awaited(int, bool) {}
    bool change_places(int) { return false; }
};
#endif
