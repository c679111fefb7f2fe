// Whenever the process dies, and however full the disk is, the last good checkpoint stays.
#include <atomic>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#ifdef __linux__
#include <sys/ptrace.h>
#endif
#include "checkpoints.h"

TEST(full_disk) {
    std::string out = fresh("full");
    save(out, 1, 1);
    size_t limit = 0, failed = 0;
    for (;; limit = limit * 5 / 4 + 1) {  // a file may be `limit` bytes long; then as if the disk were full
        Outcome o = run_child([&] {
            signal(SIGXFSZ, SIG_IGN);
            rlimit r{limit, limit};
            setrlimit(RLIMIT_FSIZE, &r);
            save(out, 2, 2, 10007);
        });
        if (o.code == 0) break;
        failed++;
        EXPECT_EQ(o.code, 1);
        EXPECT(o.output.find(out + "/.step_00000002.new/") != std::string::npos && o.output.find(": File too large\n") == o.output.size() - 17);
        EXPECT_STR(names(out), "DONE_00000001 step_00000001 ");  // what was half-written is gone, and its space is free
        EXPECT_EQ(seed_of(newest(out).path), 1);
        if (limit > 1000000 || g_failures) return FAIL("never succeeded");
    }
    EXPECT(failed > 20 && limit > 40000);
    EXPECT_EQ(seed_of(newest(out).path), 2);
}

struct Shared { std::atomic<int> committed; };  // what the dying child had already promised
static Shared* shared_memory() {
    static Shared* memory = (Shared*)mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory->committed = 0;
    return memory;
}

#ifdef __linux__
// Runs body in a child and kills it as it enters its k-th system call. 1: killed, 0: it ended before, -1: no ptrace here.
static int kill_at_call(int k, const std::function<void()>& body) {
    fflush(nullptr);
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
        raise(SIGSTOP);
        body();
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    for (int stop = 0; WIFSTOPPED(status); stop++) {
        if (stop == 2 * k - 1) {  // stops alternate: call 1 entered, left, call 2 entered, ...
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return 1;
        }
        ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);
        waitpid(pid, &status, 0);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

// Between two system calls the disk does not change, so these are all the states that a killed process can leave.
TEST(killed_at_every_system_call_of_a_replacement) {
    std::string out = fresh("kill_replace");
    Shared* memory = shared_memory();
    save(out, 5, 0);
    int calls = 0;
    for (;;) {
        int killed = kill_at_call(++calls, [&] { save(out, 5, calls); memory->committed = calls; });
        if (killed < 0) SKIP("no ptrace here");
        Checkpoint c = newest(out);  // step 5 is always there, and it is the old one or the new one
        if (c.step != 5) return FAIL("killed at call %d: nothing left in %s", calls, names(out).c_str());
        int seed = seed_of(c.path);
        EXPECT(seed <= calls && seed >= memory->committed);
        if (!killed) break;
    }
    EXPECT(calls > 50);
    save(out, 5, -1);
    EXPECT_STR(names(out), "DONE_00000005 step_00000005 ");
}

TEST(killed_at_every_system_call_of_a_save_and_prune) {
    std::string out = fresh("kill_prune");
    Shared* memory = shared_memory();
    save(out, 1);
    int step = 1, calls = 0;
    for (;;) {
        int killed = kill_at_call(++calls, [&] { save(out, step + 1); memory->committed = step + 1; prune_checkpoints(out, 1, 0); });
        if (killed < 0) SKIP("no ptrace here");
        Checkpoint c = newest(out);
        EXPECT(c.step == step || c.step == step + 1);
        EXPECT(c.step >= memory->committed);
        for (const Checkpoint& any : list_checkpoints(out)) EXPECT_STR(verify_checkpoint(any.path), "");  // no half of one, ever
        expect_done_is_true(out);
        if (g_failures) return;
        step = c.step;
        if (!killed) break;
        prune_checkpoints(out, 1, 0);  // each round begins with one, or the deaths while pruning would pile them up
    }
    EXPECT(calls > 50);
    EXPECT_STR(names(out), format("DONE_%08d step_%08d ", step, step));
}
#endif

TEST(killed_at_random_times) {
    std::string out = fresh("kill_random");
    Shared* memory = shared_memory();
    uint64_t random = 3;
    int kills = 0;
    for (int round = 0; round < 25; round++) {
        int first = newest(out).step + 1;
        fflush(nullptr);
        pid_t pid = fork();
        if (pid == 0) {
            for (int step = first; step < first + 1000; step++) {
                save(out, step, 0, 100003);
                memory->committed = step;
                prune_checkpoints(out, 2, 0);
            }
            _exit(0);
        }
        random = random * 6364136223846793005u + 1442695040888963407u;
        if (round % 5 == 4) for (int i = 0; i < 60000 && memory->committed < std::max(first, 1); i++) usleep(1000);  // on a slow disk the rest may never get to a commit
        usleep((useconds_t)(random >> 33) % 60000);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        kills += WIFSIGNALED(status);
        EXPECT(newest(out).step >= memory->committed || (memory->committed == 0 && newest(out).step == -1));
        for (const Checkpoint& any : list_checkpoints(out)) EXPECT_STR(verify_checkpoint(any.path), "");
        expect_done_is_true(out);
    }
    EXPECT(kills > 0 && newest(out).step > 0);
    repair_done(out, newest(out).step);  // as a run that goes on does: death may have come before DONE
    save(out, newest(out).step + 1), prune_checkpoints(out, 2, 0);
    EXPECT_EQ(list_folder(out).size(), (size_t)4);  // with their DONE, and nothing of all the deaths is left
}
