// threads.h: one team of threads for all of the host's work. It is made for cores that others use too: a job is cut into tasks, whoever is free takes
// the next one, and the caller takes part, so that a thread that the system has put aside holds up nobody unless it sleeps on a task; who waits spins
// for some microseconds and then sleeps. (A barrier of OpenMP's waits for every thread, and libgomp spins meanwhile: beside two busy loops on two
// cores a step took 9 times as long, LOG 38.) What a task computes must not depend on who takes it.
#pragma once
#include <pthread.h>
#include <sched.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "check.h"
#include "cores.h"
#include "limits.h"

namespace threads_detail {
constexpr auto SPIN = std::chrono::microseconds(200);  // longer than the gap between two layers, shorter than a time slice; LOG 38
constexpr auto LOOK = std::chrono::microseconds(20);   // after so long, and again, it looks whether who is awaited was put aside; LOG 114
constexpr int CHANGES = 16;                            // of places in one wait, each with SPIN anew; with 4 as many beside six loops, LOG 114

#if defined(__x86_64__) || defined(__i386__)
inline void pause() { __builtin_ia32_pause(); }
#else
inline void pause() { sched_yield(); }
#endif

// Waits until ready(): some microseconds awake, in which it may change_places(), then asleep on `word`, which must change before it is notified.
template <class Ready, class Change> void wait_until(const std::atomic<unsigned>& word, Ready ready, Change change_places) {
    using clock = std::chrono::steady_clock;
    auto start = clock::now(), looked = start;
    int changes = 0;
    do {
        for (int i = 0; i < 64; i++) {
            if (ready()) return;
            pause();
        }
        if (changes < CHANGES && clock::now() - looked > LOOK) {
            if (change_places()) changes++, start = clock::now();
            looked = clock::now();
        }
    } while (clock::now() - start < SPIN);
    for (;;) {
        const unsigned before = word.load(std::memory_order_acquire);
        if (ready()) return;
        word.wait(before, std::memory_order_acquire);
    }
}

// Who has told OpenMP's programs how many threads to take has told this one.
inline int default_threads() {
    const char* told = getenv("OMP_NUM_THREADS");
    const int n = told ? atoi(told) : 0;
    return n > 0 ? std::min(n, usable_cores()) : usable_cores();
}

using Call = void (*)(void* context, size_t task);
class Team {
    // the job; read only by who holds one of its tasks
    Call call = nullptr;
    void* context = nullptr;
    size_t tasks = 0;
    alignas(64) std::atomic<uint64_t> left{0};       // tasks that nobody has taken yet: the next one is tasks - left; above them the threads of the job
    alignas(64) std::atomic<size_t> unfinished{0};
    alignas(64) std::atomic<unsigned> jobs{0};       // that there have been: what idle threads sleep on
    alignas(64) std::atomic<unsigned> finished{0};   // that are finished: what the caller sleeps on
    int size = default_threads();
    int started = 1;                                 // threads, the caller among them
    std::atomic<bool> busy{false};                   // with a job

    static constexpr int THREADS_AT = 48;
    static bool is_for(int number, uint64_t l) { return l << (64 - THREADS_AT) && (uint64_t)number < l >> THREADS_AT; }
    bool take(int number, size_t& task) {
        uint64_t l = left.load(std::memory_order_relaxed);
        while (is_for(number, l))
            if (left.compare_exchange_weak(l, l - 1, std::memory_order_acquire, std::memory_order_relaxed)) {
                task = tasks - (l & (((uint64_t)1 << THREADS_AT) - 1));
                return true;
            }
        return false;
    }
    void work(int number) {
        cores.look_now_and_then(number);
        for (size_t task; take(number, task);) {
            if (number) cores.awaited(number, true);
            call(context, task);
            if (number) cores.awaited(number, false);
            if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) finished.fetch_add(1, std::memory_order_release), finished.notify_one();
        }
    }
    // With a stack for the tiles of attention, which the defaults of some systems do not have room for.
    void start(int number) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, 8 << 20);
        pthread_t thread;
        const int error = pthread_create(&thread, &attributes, serve, (void*)(intptr_t)number);
        CHECK(!error, "--threads: no more than %d of %d threads could be started: %s", number, size, strerror(error));
        pthread_detach(thread);
        pthread_attr_destroy(&attributes);
    }
    static void* serve(void* number);

public:
    static thread_local int thread_number_;
    Cores cores;
    int threads() const { return size; }
    void resize(int n) { size = n; }
    void run(size_t n, Call f, void* with) {
        if (n <= 1 || threads() == 1 || busy.exchange(true, std::memory_order_acquire)) {  // nobody to share with: the others have a job
            for (size_t task = 0; task < n; task++) f(with, task);
            return;
        }
        for (; started < size; started++) start(started);
        cores.awaited(0, true);  // until the job is finished: it has tasks, and when they are done it makes the next one
        call = f, context = with, tasks = n;
        unfinished.store(n, std::memory_order_relaxed);
        left.store((uint64_t)size << THREADS_AT | n, std::memory_order_release);
        jobs.fetch_add(1, std::memory_order_release);
        jobs.notify_all();
        work(0);
        wait_until(finished, [&] { return unfinished.load(std::memory_order_acquire) == 0; }, [&] { return cores.change_places(0); });
        cores.awaited(0, false);
        busy.store(false, std::memory_order_release);
    }
};
inline thread_local int Team::thread_number_ = 0;
inline Team& team() {
    static Team* one = new Team;  // never destroyed: its threads sleep when the program ends
    return *one;
}
inline void* Team::serve(void* n) {
    const int number = thread_number_ = (int)(intptr_t)n;
    for (Team& all = team();;) {
        wait_until(all.jobs, [&] { return is_for(number, all.left.load(std::memory_order_relaxed)); }, [&] { return all.cores.change_places(number); });
        all.work(number);
    }
}
}  // namespace threads_detail

inline int max_threads() { return threads_detail::team().threads(); }
// Below max_threads(); two tasks of a job that run at once have two numbers. Of two jobs at once, by two callers, they may be the same: layers, whose
// scratch is a thread's, are called by one thread.
inline int thread_number() { return threads_detail::Team::thread_number_; }
// Between jobs, and before memory is planned for so many threads.
inline void set_threads(int n) { if (n > 0) threads_detail::team().resize(n); }

// What a user asks for, 0: a thread a core; more threads than there are cores for them only take each other's place. `cores`: that are this process's.
inline void choose_threads(int n, int cores = usable_cores()) {
    if (n > cores) fprintf(stderr, "--threads %d: this process may use %d core%s (affinity, control group, ranks): %d thread%s\n", n, cores, cores > 1 ? "s" : "", cores, cores > 1 ? "s" : "");
    set_threads(n ? std::min(n, cores) : std::min(max_threads(), cores));
}

// body(task) for each of the tasks; when it returns, all are done. A task within a task is done by its own thread.
template <class Body> void parallel_for(size_t tasks, const Body& body) {
    threads_detail::team().run(tasks, [](void* context, size_t task) { (*(const Body*)context)(task); }, (void*)&body);
}

// body(begin, end) for each block of 0 .. n: a block should take some ten microseconds, for the next one is handed out as quickly as a cache line moves.
template <class Body> void parallel_blocks(size_t n, size_t block, const Body& body) {
    parallel_for((n + block - 1) / block, [&](size_t task) { body(task * block, n - task * block < block ? n : (task + 1) * block); });
}

// body(row) for each row of C elements.
template <class Body> void parallel_rows(size_t rows, int C, const Body& body) {
    parallel_blocks(rows, 16384 / (size_t)C + 1, [&](size_t begin, size_t end) { for (size_t row = begin; row < end; row++) body(row); });
}
