// apart.h: keeps the threads of a team on different cores while other processes want some of them, too. Linux balances how many threads a core has:
// of a team of two and another's busy loop, on two cores, two share a core either way, so that it may leave the team on one core and the loop alone on
// the other, for seconds. A thread that finds one of a lower number on its own core moves, and may be moved again by the system at any time.
#pragma once
#include <sched.h>
#include <atomic>
#include <chrono>

#ifdef __linux__
class Apart {
    static constexpr auto EVERY = std::chrono::milliseconds(2);  // below a time slice of 3 to 4 ms; four system calls where it moves, none where not
    std::atomic<int> core[CPU_SETSIZE];                          // where each thread was last seen, or -1

public:
    Apart() { for (auto& c : core) c.store(-1, std::memory_order_relaxed); }
    int seen_on(int number) const { return core[number].load(std::memory_order_relaxed); }

    // Called by the thread itself. Its affinity is afterwards what it was.
    void look(int number) {
        if (number >= CPU_SETSIZE) return;
        const int here = sched_getcpu();
        core[number].store(here, std::memory_order_relaxed);
        bool shared = false;
        for (int lower = 0; lower < number; lower++) shared |= seen_on(lower) == here;
        cpu_set_t allowed;
        if (!shared || sched_getaffinity(0, sizeof allowed, &allowed)) return;
        cpu_set_t free = allowed;
        for (auto& c : core) if (const int taken = c.load(std::memory_order_relaxed); taken >= 0) CPU_CLR(taken, &free);
        for (int i = 1; i < CPU_SETSIZE; i++) {
            const int there = (here + i) % CPU_SETSIZE;  // the nearest one, for the sake of caches
            if (!CPU_ISSET(there, &free)) continue;
            cpu_set_t only;
            CPU_ZERO(&only);
            CPU_SET(there, &only);
            if (sched_setaffinity(0, sizeof only, &only) == 0) core[number].store(there, std::memory_order_relaxed);
            sched_setaffinity(0, sizeof allowed, &allowed);
            return;
        }
    }
    // The same, now and then.
    void look_now_and_then(int number) {
        thread_local std::chrono::steady_clock::time_point next{};
        const auto now = std::chrono::steady_clock::now();
        if (now >= next) next = now + EVERY, look(number);
    }
};
#else
struct Apart {
    void look_now_and_then(int) {}
};
#endif
