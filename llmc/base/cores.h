// cores.h: which cores the threads of a team are on while other processes want some of them, too. Linux shares cores among threads of which it does not
// know that they wait for one another. So the team sees to two things itself (LOG 91, 114):
// 1. Threads keep apart. Linux balances how many threads a core has: of a team of two and another's busy loop, on two cores, two share a core either
//    way, so that it may leave the team on one core and the loop alone on the other, for seconds.
// 2. Who waits for a thread that was put aside in the middle of a task changes places with it: the core goes on with what all wait for, and who has
//    nothing to do waits in its stead. If it slept, its share of the core would go to others, and the task would still wait.
// The system may move a thread again at any time; a thread's affinity is afterwards what it was.
#pragma once
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#include <atomic>
#include <chrono>

#ifdef __linux__
class Cores {
    static constexpr auto EVERY = std::chrono::milliseconds(2);  // below a time slice of 3 to 4 ms; seven system calls where it moves, two where not
    static constexpr auto AT_ONCE = std::chrono::microseconds(100);  // no time slice of another ends so soon; without it one loop had 0.25 of a core, LOG 114
    struct alignas(64) Seat {                                    // a cache line each: its thread writes to it at every task
        std::atomic<int> core{-1};                               // where the thread was last seen, or -1
        std::atomic<pid_t> thread{0};
        std::atomic<clockid_t> clock{};                          // the time that it has run
        std::atomic<bool> awaited{false};                        // the others wait for what it does
        std::atomic<bool> moving{false};                         // its affinity is being changed, by one at a time: each puts back what it found
    };
    Seat seats[CPU_SETSIZE];                                     // by the threads' numbers
    std::atomic<int> numbers{0};                                 // above the highest one

    // False: it may not run there, or somebody else moves it.
    bool move(int number, int core) {
        Seat& seat = seats[number];
        if (seat.moving.exchange(true, std::memory_order_acquire)) return false;
        cpu_set_t allowed, only;
        CPU_ZERO(&only);
        CPU_SET(core, &only);
        const pid_t thread = seat.thread.load(std::memory_order_relaxed);
        const bool moved = sched_getaffinity(thread, sizeof allowed, &allowed) == 0 && CPU_ISSET(core, &allowed) && sched_setaffinity(thread, sizeof only, &only) == 0;
        if (moved) sched_setaffinity(thread, sizeof allowed, &allowed), seat.core.store(core, std::memory_order_relaxed);
        seat.moving.store(false, std::memory_order_release);
        return moved;
    }
    // The clock of a thread that runs goes on between two looks at it. One that has ended has none, and counts as one that runs.
    static bool runs(clockid_t clock) {
        timespec a, b;
        return clock_gettime(clock, &a) || clock_gettime(clock, &b) || a.tv_nsec != b.tv_nsec;
    }

public:
    int seen_on(int number) const { return seats[number].core.load(std::memory_order_acquire); }

    // Called by the thread itself: where it is, and away from there if one of a lower number is there, too.
    void look(int number) {
        if (number >= CPU_SETSIZE) return;
        Seat& seat = seats[number];
        const int here = sched_getcpu();
        for (int n = numbers; n <= number && !numbers.compare_exchange_weak(n, number + 1);) {}
        clockid_t clock;
        pthread_getcpuclockid(pthread_self(), &clock);
        seat.clock.store(clock, std::memory_order_relaxed);
        seat.thread.store(gettid(), std::memory_order_relaxed);
        seat.core.store(here, std::memory_order_release);  // who sees it sees the other two
        bool shared = false;
        for (int lower = 0; lower < number; lower++) shared |= seen_on(lower) == here;
        cpu_set_t free;
        if (!shared || sched_getaffinity(0, sizeof free, &free)) return;
        for (int other = 0; other < CPU_SETSIZE; other++) if (const int taken = seen_on(other); taken >= 0) CPU_CLR(taken, &free);
        for (int i = 1; i < CPU_SETSIZE; i++)
            if (const int there = (here + i) % CPU_SETSIZE; CPU_ISSET(there, &free)) {  // the nearest one, for the sake of caches
                move(number, there);
                return;
            }
    }
    // The same, now and then.
    void look_now_and_then(int number) {
        thread_local std::chrono::steady_clock::time_point next{};
        const auto now = std::chrono::steady_clock::now();
        if (now >= next) next = now + EVERY, look(number);
    }

    void awaited(int number, bool is) {
        if (number < CPU_SETSIZE) seats[number].awaited.store(is, std::memory_order_relaxed);
    }
    // Called by a thread that waits: changes places with one that is awaited and does not run. False: there is none, or it waits for this thread's own
    // core.
    bool change_places(int number) {
        if (number >= CPU_SETSIZE) return false;
        for (int other = 0; other < numbers; other++) {
            const Seat& seat = seats[other];
            if (other == number || !seat.awaited.load(std::memory_order_relaxed) || seen_on(other) < 0 || runs(seat.clock.load(std::memory_order_relaxed))) continue;
            const int here = sched_getcpu(), there = seen_on(other);
            const auto start = std::chrono::steady_clock::now();
            if (here == there || !move(other, here) || !move(number, there)) return false;
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
