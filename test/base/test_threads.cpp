// test_threads.cpp: each task is done once, by any number of threads.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>
#include "../../llmc/base/threads.h"
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
struct Threads {  // as many as a test wants, and then as many as before
    int before = max_threads();
    explicit Threads(int n) { set_threads(n); }
    ~Threads() { set_threads(before); }
};
void each_once(size_t tasks) {
    std::vector<std::atomic<int>> done(tasks);
    parallel_for(tasks, [&](size_t task) { done[task]++; });
    for (size_t i = 0; i < tasks; i++) if (done[i] != 1) return FAIL("task %zu of %zu was done %d times by %d threads", i, tasks, (int)done[i], max_threads());
}
}  // namespace

TEST(threads_each_task_once) {
    for (int n : {1, 2, 3, 8, 2}) {  // more, and fewer again
        Threads threads(n);
        for (size_t tasks : {0, 1, 2, 3, 7, 64, 1000}) for (int again = 0; again < 50; again++) each_once(tasks);
    }
}

// What a task writes is seen by the caller and by the tasks of the next job, without any other synchronisation: for ThreadSanitizer.
TEST(threads_results_are_seen) {
    Threads threads(4);
    std::vector<size_t> values(257);
    for (size_t round = 1; round <= 200; round++) {
        parallel_for(values.size(), [&](size_t i) { values[i] += round; });
        parallel_for(values.size() / 2, [&](size_t i) { std::swap(values[i], values[values.size() - 1 - i]); });
        if (values[0] != round * (round + 1) / 2) return FAIL("%zu after round %zu", values[0], round);
    }
}

TEST(threads_numbers_are_below_their_count) {
    Threads threads(8);
    each_once(1000);
    set_threads(3);  // the others are still there
    std::vector<std::atomic<int>> busy(3);
    std::atomic<int> highest = 0;
    for (int job = 0; job < 50; job++)
        parallel_for(30, [&](size_t) {
            const int n = thread_number();
            if (n >= 3) return (void)(highest = n);
            EXPECT(busy[(size_t)n]++ == 0);  // two tasks that run at once have two numbers
            usleep(20);
            busy[(size_t)n]--;
        });
    if (highest >= 3) FAIL("thread %d of 3", (int)highest);
}

// Between jobs a team sleeps, whatever its caller does: also where the caller sleeps, whose core the others must leave alone.
TEST(threads_sleep_between_jobs) {
    Threads threads(4);
    const auto used = [] { timespec t; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec; };
    each_once(100);
    const double before = used();
    usleep(200000);
    if (const double ms = used() - before; ms > 20) FAIL("%.1f ms of CPU time in 200 ms without a job", ms);  // 3 threads, 0.2 ms each
}

// A task may call a function that has tasks itself, and other threads may have jobs at the same time: each does its own.
TEST(threads_jobs_within_jobs) {
    Threads threads(3);
    std::atomic<int> inner = 0;
    parallel_for(8, [&](size_t) { parallel_for(10, [&](size_t) { inner++; }); });
    EXPECT_EQ((int)inner, 80);
    std::vector<std::thread> callers;
    for (int c = 0; c < 3; c++) callers.emplace_back([] { for (int i = 0; i < 100; i++) each_once(20); });
    for (std::thread& t : callers) t.join();
}

// After a fork only the thread that forked is there: it does all by itself.
TEST(threads_after_a_fork) {
    Threads threads(3);
    each_once(100);
    const Outcome o = run_child([] { each_once(100); _exit(7); });  // not exit: LeakSanitizer looks for threads that a fork does not copy
    EXPECT_EQ(o.code, 7);
}

TEST(threads_blocks_and_rows_cover_everything) {
    Threads threads(2);
    for (size_t n : {0, 1, 9, 10, 11, 100}) {
        std::vector<std::atomic<int>> seen(n);
        parallel_blocks(n, 10, [&](size_t begin, size_t end) {
            EXPECT(begin < end && end - begin <= 10 && begin % 10 == 0);
            for (size_t i = begin; i < end; i++) seen[i]++;
        });
        for (int C : {1, 768, 100000}) parallel_rows(n, C, [&](size_t row) { seen[row]++; });
        for (auto& s : seen) EXPECT(s == 4);
    }
}

#ifdef __linux__
namespace {
cpu_set_t affinity() {
    cpu_set_t cores;
    CHECK(sched_getaffinity(0, sizeof cores, &cores) == 0, "this thread's affinity");
    return cores;
}
const cpu_set_t AT_START = affinity();
struct Affinity {  // is put back at the test's end
    const cpu_set_t before = (usleep(10000), affinity());  // when the threads of earlier tests sleep
    Affinity() { if (!CPU_EQUAL(&before, &AT_START)) FAIL("the team has left this thread with another affinity than it had"); }
    ~Affinity() { sched_setaffinity(0, sizeof before, &before); }
};
// This thread's affinity and two cores of it, each and both. False: it has only one.
bool two_cores(cpu_set_t& all, cpu_set_t& one, cpu_set_t& other, cpu_set_t& two) {
    all = affinity();
    CPU_ZERO(&one);
    CPU_ZERO(&other);
    for (int core = 0, n = 0; n < 2 && core < CPU_SETSIZE; core++) if (CPU_ISSET(core, &all)) CPU_SET(core, n++ ? &other : &one);
    CPU_OR(&two, &one, &other);
    return CPU_COUNT(&two) == 2;
}
}  // namespace

// Two threads of a team on one core: the one of the higher number leaves, and may afterwards run where it might before.
TEST(threads_move_apart) {
    const Affinity put_back;
    cpu_set_t all, one, other, two, after;
    if (!two_cores(all, one, other, two)) SKIP("one core: there is no other one to move to");
    int stayed = 0, moved = 0, full = 0;  // of 100 tries, as the system may move this thread at any time
    for (int again = 0; again < 100; again++) {
        auto alone = std::make_unique<Cores>(), apart = std::make_unique<Cores>();
        sched_setaffinity(0, sizeof two, &two);
        const int before = sched_getcpu();
        alone->look(1);
        stayed += alone->seen_on(1) == before;
        sched_setaffinity(0, sizeof one, &one);
        apart->look(0);  // as if it were the other one
        apart->look(1);
        if (apart->seen_on(1) != apart->seen_on(0)) return FAIL("it moved to core %d, which is not allowed", apart->seen_on(1));
        sched_setaffinity(0, sizeof two, &two);
        apart->look(1);
        if (apart->seen_on(1) == apart->seen_on(0) || !CPU_ISSET(apart->seen_on(1), &two)) return FAIL("beside thread 0 on core %d it went to core %d", apart->seen_on(0), apart->seen_on(1));
        moved += sched_getcpu() == apart->seen_on(1);
        const int here = sched_getcpu();
        apart->look(2);  // no core is left for a third one
        full += apart->seen_on(2) == here;
        sched_getaffinity(0, sizeof after, &after);
        if (!CPU_EQUAL(&two, &after)) return FAIL("its affinity is another than before");
    }
    if (stayed < 50) FAIL("alone in the team it left its core, %d times of 100", 100 - stayed);
    if (moved < 50) FAIL("it was not where it says that it moved to, %d times of 100", 100 - moved);
    if (full < 50) FAIL("it left its core for one that is taken, %d times of 100", 100 - full);
}

// A thread that others wait for and that does not get its core, which it shares with a busy loop, is given the core of one that waits, which takes its
// place. Not so one that nobody waits for, that runs, or that is on the waiting thread's own core.
TEST(threads_change_places) {
    const Affinity put_back;
    cpu_set_t all, one, other, two, after;
    if (!two_cores(all, one, other, two)) SKIP("one core: there are no places to change");
    constexpr int TRIES = 20;
    int changed = 0, as_said = 0, went_on = 0, runs = 0;  // each in some tries at least: the system may move a thread or put it aside at any time
    for (int again = 0; again < TRIES; again++) {
        auto cores = std::make_unique<Cores>();
        std::atomic<bool> stop = false, sleeps = false;
        std::atomic<int> where = -1;
        std::atomic<pid_t> id = 0;
        sched_setaffinity(0, sizeof other, &other);
        cores->look(0);
        sched_setaffinity(0, sizeof two, &two);
        std::thread awaited([&] {
            sched_setaffinity(0, sizeof one, &one);
            cores->look(1);
            sched_setaffinity(0, sizeof two, &two);
            for (id = (pid_t)syscall(SYS_gettid); !stop;) if (sleeps) sleeps.wait(true); else where = sched_getcpu();
        });
        while (where < 0) threads_detail::pause();
        cores->awaited(1, true);
        sleeps = true;
        const std::string stat = format("/proc/self/task/%d/stat", (int)id);
        for (std::string text; text.find(") S") == text.npos; usleep(500)) CHECK(try_read_file(stat, text).empty(), "%s", stat.c_str());
        for (int i = 0; i < 100; i++) if (cores->change_places(0)) FAIL("it changed places with a thread that sleeps");
        sleeps = false, sleeps.notify_all();
        where = -1;
        while (where < 0) threads_detail::pause();
        sched_setaffinity(0, sizeof other, &other);
        bool change = false;
        for (int i = 0; i < 50; i++) change |= cores->change_places(0);
        runs += !change;
        sched_setaffinity(0, sizeof one, &one);
        if (CPU_ISSET(cores->seen_on(1), &one) && cores->change_places(0)) FAIL("it changed places with a thread on its own core");
        sched_setaffinity(0, sizeof other, &other);
        sched_setaffinity(0, sizeof two, &two);
        std::thread loop([&] {
            sched_setaffinity(0, sizeof one, &one);
            while (!stop) threads_detail::pause();
        });
        cores->awaited(1, false);
        change = false;
        for (int i = 0; i < 20000; i++) change |= cores->change_places(0);
        if (change) FAIL("it changed places with a thread that nobody waits for");
        cores->awaited(1, true);
        change = false;
        for (int i = 0; i < 200000 && !change; i++) change = cores->change_places(0);
        changed += change;
        as_said += CPU_ISSET(sched_getcpu(), &one) && CPU_ISSET(cores->seen_on(0), &one) && CPU_ISSET(cores->seen_on(1), &other);
        for (int thread = 0; thread < 2; thread++) {
            sched_getaffinity(thread ? id.load() : 0, sizeof after, &after);
            if (!CPU_EQUAL(&two, &after)) FAIL("the affinity of thread %d is another than before", thread);
        }
        for (const auto start = std::chrono::steady_clock::now(); !CPU_ISSET(where, &other) && std::chrono::steady_clock::now() - start < std::chrono::milliseconds(50);) usleep(100);
        went_on += CPU_ISSET(where, &other);
        stop = true;
        awaited.join();
        loop.join();
    }
    if (!changed || !as_said) FAIL("of %d tries places were changed in %d, and the threads are where it says in %d", TRIES, changed, as_said);
    if (!went_on) FAIL("who was awaited went on on the other core in none of %d tries", TRIES);
    if (!runs) FAIL("it changed places with a thread that runs in each of %d tries", TRIES);
}

// The caller is awaited while it has a job, the others while they have a task.
TEST(threads_are_awaited) {
    Threads threads(2);
    const Cores& cores = threads_detail::team().cores;
    std::atomic<int> wrong = 0, of_others = 0;
    for (int again = 0; again < 1000 && of_others < 5; again++) {
        parallel_for(2, [&](size_t) {
            wrong += !cores.is_awaited(0) || !cores.is_awaited(thread_number());
            of_others += thread_number() == 1;
            if (!thread_number()) usleep(1000);  // the other task is for the other thread
        });
        wrong += cores.is_awaited(0);
    }
    if (!of_others) FAIL("the second thread had none of 2000 tasks");
    if (wrong) FAIL("%d times who has a task was not awaited, or the caller was without one", (int)wrong);
    for (const auto start = std::chrono::steady_clock::now(); cores.is_awaited(1); usleep(100))
        if (std::chrono::steady_clock::now() - start > std::chrono::seconds(10)) return FAIL("the second thread is awaited still, and has no task");
}

// Who has had a task has asked for short time slices; where Linux does not take that, before 6.12, nothing is to be seen.
TEST(threads_ask_for_short_slices) {
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } attr{};
    const auto slice = [&] { return syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) ? 0 : attr.runtime; };
    uint64_t taken = 0;
    std::thread([&] {
        if (!slice() || attr.policy != SCHED_OTHER) return;
        attr.runtime = 700'000;
        if (!syscall(SYS_sched_setattr, 0, &attr, 0)) taken = slice();
    }).join();
    if (taken != 700'000) SKIP("this Linux does not take a time slice");
    Threads threads(2);
    std::atomic<int> wrong = 0;
    uint64_t of[2] = {};  // either may take both tasks
    for (int again = 0; again < 1000 && !(of[0] && of[1]); again++)
        parallel_for(2, [&](size_t) {
            decltype(attr) now{};
            if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0)) wrong++;
            of[thread_number()] = now.runtime;
            if (!thread_number()) usleep(1000);  // the other task is for the other thread
        });
    if (wrong || of[0] != 500'000 || of[1] != 500'000) FAIL("the two threads have slices of %llu and %llu ns", (unsigned long long)of[0], (unsigned long long)of[1]);
}

// A process that is forked while a thread moves another has no copy of the one that moves: nobody waits for it there.
TEST(threads_fork_while_one_is_moved) {
    const Affinity put_back;
    cpu_set_t all, one, other, two;
    if (!two_cores(all, one, other, two)) SKIP("one core: there are no places to change");
    auto cores = std::make_unique<Cores>();
    std::atomic<bool> stop = false;
    std::atomic<int> changes = 0;
    std::vector<std::thread> threads;
    auto run = [&](const cpu_set_t& where, auto body) {
        threads.emplace_back([&cores, &stop, where, body] {
            sched_setaffinity(0, sizeof where, &where);
            while (!stop) body();
        });
    };
    for (const cpu_set_t& core : {one, other}) run(core, [] { threads_detail::pause(); });  // so that who is awaited is put aside, wherever it is
    run(two, [&] { cores->look_now_and_then(1), cores->awaited(1, true); });
    run(two, [&] { cores->look_now_and_then(2), changes += cores->change_places(2); });
    const auto start = std::chrono::steady_clock::now();
    int forks = 0;
    for (; forks < 200 && std::chrono::steady_clock::now() - start < std::chrono::seconds(20); forks++) {
        const pid_t child = fork();
        if (!child) {
            alarm(10);
            cores->awaited(1, false);
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (status) { FAIL("fork %d: the child waits for a thread that it does not have", forks); break; }
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    if (!changes) FAIL("no places were changed beside %d forks", forks);
}
#endif
