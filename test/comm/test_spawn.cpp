// Children of one parent: what they are told, what ends them, and whose fault it was. They are this program, started anew: a role in the
// environment takes it away before main.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include "../../llmc/base/stop.h"
#include "../../llmc/comm/launcher.h"
#include "../../llmc/comm/spawn.h"
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
struct Shared {
    std::atomic<int> ready, stopped, go;
    std::atomic<int> terms, ints, hups, usr1s;
    std::atomic<int> pid[8];
};
Shared* g_mine;
void count(int signal) { (signal == SIGTERM ? g_mine->terms : signal == SIGINT ? g_mine->ints : signal == SIGHUP ? g_mine->hups : g_mine->usr1s)++; }
void sleep_ms(int ms) { usleep((useconds_t)ms * 1000); }

// What a child does; it ends by itself after 20 s at most, so that no mistake leaves it behind.
bool g_role = [] {
    const char* role = getenv("SPAWN_TEST_ROLE");
    if (!role || !getenv("LLMC_RANK")) return false;
    alarm(20);
    const Place p = find_place(-1, 1, 0);
    g_rank = p.rank, g_world = p.world;
    const std::string is = role;
    if (is == "places") {
        const char* device = getenv("SPAWN_TEST_DEVICE");
        printf("%d/%d %d/%d %s device %s\n", p.rank, p.world, p.local_rank, p.local_world, p.by.c_str(), device ? device : "none");
        fflush(stdout);
        _exit(0);
    }
    if (is == "stdin") {
        char from[64] = "";
        printf("%d reads %.4s\n", p.rank, readlink("/proc/self/fd/0", from, sizeof from - 1) > 0 ? from : "none");
        fflush(stdout);
        _exit(0);
    }
    if (is == "no memory") _exit(getenv("LLMC_SHARED_FD") || shared_with_siblings(100) ? 9 : 0);
    if (is == "other memory") shared_with_siblings(100), _exit(0);
    if (is == "blocked signals") {
        sigset_t now;
        sigprocmask(SIG_SETMASK, nullptr, &now);
        int blocked = 0, ignored = 0;
        const bool waits = sigismember(&now, SIGUSR1) && (catch_signals(), sigprocmask(SIG_SETMASK, nullptr, &now), !sigismember(&now, SIGUSR1));
        for (int s : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD}) blocked += sigismember(&now, s), ignored += std::signal(s, SIG_DFL) == SIG_IGN;
        printf("%d blocked, %d ignored, SIGUSR1 %s\n", blocked, ignored, waits ? "waits until it is caught" : "does not wait");
        fflush(stdout);
        _exit(0);
    }
    const char* fd = getenv("LLMC_SHARED_FD");
    if (fd) fcntl(atoi(fd), F_DUPFD_CLOEXEC, 10);  // for the test to find
    Shared& s = *(g_mine = (Shared*)shared_with_siblings(sizeof(Shared)));
    s.pid[p.rank] = getpid();
    if (is == "memory") {
        s.ready++;
        while (s.ready < p.world) sleep_ms(1);
        std::string maps;
        if (!try_read_file("/proc/self/maps", maps).empty() || maps.find(" /memfd:") == std::string::npos) _exit(8);
        _exit(getenv("LLMC_SHARED_FD") ? 9 : 0);
    }
    if (is == "counts signals") {
        catch_signals();
        for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) std::signal(signal, count);
    }
    if (is == "trainer") catch_signals();
    if (is == "ignores SIGTERM") std::signal(SIGTERM, SIG_IGN);
    s.ready++;
    if (is == "rank 1 exits 7" || is == "ignores SIGTERM") {
        while (s.ready < p.world) sleep_ms(1);
        if (p.rank == 1) die_with(7, "out of luck");
    }
    if (is == "others fail after") {  // as ranks do that find their peer gone
        while (!s.go) sleep_ms(1);
        if (p.rank == 2) raise(SIGKILL);
        _exit(1);
    }
    if (is == "trainer")
        for (;; sleep_ms(5))
            if (stop_requested()) s.stopped++, sleep_ms(300), _exit(0);  // finishes its step and saves
    if (is == "interrupted")
        for (catch_signals(), s.stopped++;; sleep_ms(5)) exit_if_stopping("before the first step");
    if (is == "counts signals") {
        while (!s.go) sleep_ms(5);
        _exit(0);
    }
    if (is == "rank 0 is done") {
        if (p.rank > 0) sleep_ms(200);
        _exit(0);
    }
    for (;;) pause();
}();

// A parent in a process and a process group of its own. The test looks into the memory that its children share, which it finds in /proc.
class Parent {
    int out_ = -1;
    bool ended_ = false;
    int status_ = 0;

  public:
    pid_t pid = -1;
    Shared* shared = nullptr;
    std::string output;

    Parent(const std::string& role, int n, Children how = {}, const std::function<void()>& before = [] {}) {
        int fd[2];
        if (pipe2(fd, O_CLOEXEC)) abort();
        how.shared_bytes = sizeof(Shared);
        fflush(nullptr);
        pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            dup2(fd[1], 1), dup2(fd[1], 2);
            setenv("SPAWN_TEST_ROLE", role.c_str(), 1);
            before();
            const char* argv[] = {"tests", "with", "arguments", nullptr};
            _exit(run_children(n, (char**)argv, how));
        }
        setpgid(pid, pid);
        close(fd[1]);
        out_ = fd[0];
        for (int i = 0; i < 1000 && !shared && !over(); i++) look(), sleep_ms(2);
    }
    ~Parent() {
        if (!ended_) kill(-pid, SIGKILL), waitpid(pid, &status_, 0);
        if (shared) munmap(shared, sizeof(Shared));
        close(out_);
    }
    void look() {
        FILE* list = fopen(format("/proc/%d/task/%d/children", (int)pid, (int)pid).c_str(), "r");
        int child = 0;
        if (!list) return;
        const bool found = fscanf(list, "%d", &child) == 1;
        fclose(list);
        for (int fd = 3; found && fd < 20; fd++) {
            char name[64] = "";
            const std::string link = format("/proc/%d/fd/%d", child, fd);
            if (readlink(link.c_str(), name, sizeof name - 1) <= 0 || strncmp(name, "/memfd:llmc", 11)) continue;
            const int memory = open(link.c_str(), O_RDWR | O_CLOEXEC);
            void* map = memory < 0 ? MAP_FAILED : mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
            if (memory >= 0) close(memory);
            if (map != MAP_FAILED) { shared = (Shared*)map; return; }
        }
    }
    bool over() {
        if (!ended_) ended_ = waitpid(pid, &status_, WNOHANG) == pid;
        return ended_;
    }
    bool wait_for(const std::function<bool()>& condition) {
        for (int i = 0; i < 2000 && !condition(); i++) sleep_ms(5);
        return condition();
    }
    bool ready(int n) { return shared && wait_for([&] { return shared->ready >= n; }); }
    // Its exit code, once it and every child have closed their output; -1 after 10 s.
    int code() {
        for (char text[4096];;) {
            pollfd ready = {out_, POLLIN, 0};
            if (poll(&ready, 1, 10000) != 1) return -1;
            const ssize_t n = read(out_, text, sizeof text);
            if (n <= 0) break;
            output.append(text, (size_t)n);
        }
        wait_for([&] { return over(); });
        if (!ended_) return -1;
        return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
    }
};
std::string sorted(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t at = 0, end; at < text.size(); at = end + 1) end = std::min(text.find('\n', at), text.size()), lines.push_back(text.substr(at, end - at));
    std::sort(lines.begin(), lines.end());
    std::string all;
    for (const std::string& line : lines) all += line + "\n";
    return all;
}
// A parent whose children have no need to be looked into.
Outcome spawn(const std::string& role, int n, const Children& how = {}, const std::function<void()>& before = [] {}) {
    return run_child([&] {
        setenv("SPAWN_TEST_ROLE", role.c_str(), 1);
        before();
        const char* argv[] = {"tests", nullptr};
        const int code = run_children(n, (char**)argv, how);
        _exit(code);
    });
}
}  // namespace

TEST(children_know_their_place) {
    Outcome o = spawn("places", 3, {.env = {{"SPAWN_TEST_DEVICE=a"}, {"SPAWN_TEST_DEVICE=b"}}}, [] { setenv("SPAWN_TEST_DEVICE", "parent's", 1); });
    EXPECT_EQ(o.code, 0);
    EXPECT_STR(sorted(o.output), "0/3 0/3 spawned device a\n1/3 1/3 spawned device b\n2/3 2/3 spawned device parent's\n");
    // the launcher that started the parent, alone, is not theirs
    o = spawn("places", 2, {}, [] { setenv("OMPI_COMM_WORLD_SIZE", "1", 1), setenv("OMPI_COMM_WORLD_RANK", "0", 1), setenv("LLMC_WORLD", "17", 1); });
    EXPECT_STR(sorted(o.output), "0/2 0/2 spawned device none\n1/2 1/2 spawned device none\n");
    EXPECT_EQ(spawn("places", 1).code, 0);
}

TEST(children_share_memory) {
    EXPECT_EQ(spawn("memory", 3, {.shared_bytes = sizeof(Shared)}).code, 0);  // each sees all three, keeps no descriptor of it, and it has no name that could be left
    EXPECT_EQ(spawn("no memory", 2).code, 0);
    const Outcome o = spawn("other memory", 1, {.shared_bytes = 4096});
    EXPECT(o.code == 1 && o.output.find("is not the 100 bytes") != std::string::npos);
}

TEST(children_begin_with_plain_signals) {
    EXPECT_STR(spawn("blocked signals", 1).output, "0 blocked, 0 ignored, SIGUSR1 waits until it is caught\n");
    EXPECT_STR(spawn("blocked signals", 1, {}, [] { catch_signals(); }).output, "0 blocked, 0 ignored, SIGUSR1 waits until it is caught\n");
    EXPECT_STR(spawn("blocked signals", 1, {}, [] { std::signal(SIGHUP, SIG_IGN); }).output, "0 blocked, 1 ignored, SIGUSR1 waits until it is caught\n");  // nohup
    EXPECT_EQ(spawn("rank 0 is done", 2, {.shared_bytes = sizeof(Shared)}, [] { std::signal(SIGCHLD, SIG_IGN); }).code, 0);
}

TEST(only_rank_0_reads_the_terminal) {
    const Outcome o = spawn("stdin", 3, {}, [] {
        int fd[2];
        if (pipe(fd)) abort();
        dup2(fd[0], 0), close(fd[1]);
    });
    EXPECT_STR(sorted(o.output), "0 reads pipe\n1 reads /dev\n2 reads /dev\n");
}

TEST(all_exit_0) {
    Parent parent("rank 0 is done", 3);
    EXPECT_EQ(parent.code(), 0);
    EXPECT_STR(parent.output, "");
}

TEST(one_exits_with_an_error) {
    Parent parent("rank 1 exits 7", 3);
    EXPECT_EQ(parent.code(), 7);
    EXPECT_STR(parent.output, "error: rank 1: out of luck\n");  // and no line of the parent's
}

TEST(one_is_killed) {
    Parent parent("waits", 3);
    EXPECT(parent.ready(3));
    const int victim = parent.shared->pid[2];
    kill(victim, SIGKILL);
    EXPECT_EQ(parent.code(), 128 + SIGKILL);
    EXPECT_STR(parent.output, format("error: rank 2 (process %d) was killed by signal 9 (Killed)\n", victim));
    Parent other("waits", 2);
    EXPECT(other.ready(2));
    kill(other.shared->pid[0], SIGTERM);  // by somebody else: nobody asked the run to stop
    EXPECT_EQ(other.code(), 128 + SIGTERM);
    EXPECT(other.output.find("error: rank 0 (process ") == 0 && other.output.find("was killed by signal 15 (Terminated)\n") != std::string::npos);
}

// The others exit with 1 at the same time: the parent, which was stopped, sees all of them at once.
TEST(who_was_killed_comes_first) {
    Parent parent("others fail after", 4);
    EXPECT(parent.ready(4));
    kill(parent.pid, SIGSTOP);
    parent.shared->go = 1;
    const auto zombies = [&] {
        int ended = 0;
        for (int rank = 0; rank < 4; rank++) ended += run_command(format("grep -q 'State:.Z' /proc/%d/status", parent.shared->pid[rank].load())).code == 0;
        return ended == 4;
    };
    EXPECT(parent.wait_for(zombies));
    kill(parent.pid, SIGCONT);
    EXPECT_EQ(parent.code(), 128 + SIGKILL);
    EXPECT(parent.output.find("error: rank 2 (process ") == 0);
}

TEST(who_does_not_end_is_killed) {
    const double start = spawn_detail::seconds();
    Parent parent("ignores SIGTERM", 3, {.grace_s = 0.2});
    const double ready = parent.ready(3) ? spawn_detail::seconds() : start;  // rank 1 exits when all are
    EXPECT_EQ(parent.code(), 7);
    const double now = spawn_detail::seconds();
    EXPECT(now - start >= 0.2 && now - ready < 5);
}

TEST(who_fails_leaves_time_to_the_others) {
    Parent parent("trainer", 2);
    EXPECT(parent.ready(2));
    kill(parent.shared->pid[0], SIGKILL);
    EXPECT_EQ(parent.code(), 128 + SIGKILL);
    EXPECT_EQ((int)parent.shared->stopped, 1);
}

TEST(the_parent_is_killed) {
    Parent parent("waits", 3);
    EXPECT(parent.ready(3));
    kill(parent.pid, SIGKILL);
    EXPECT_EQ(parent.code(), 128 + SIGKILL);  // all have closed their output: the children are dead too
}

TEST(signals_are_handed_on) {
    Parent parent("counts signals", 3);
    EXPECT(parent.ready(3));
    Shared& s = *parent.shared;
    kill(parent.pid, SIGUSR1);
    EXPECT(parent.wait_for([&] { return s.usr1s == 3; }));
    kill(parent.pid, SIGHUP);
    EXPECT(parent.wait_for([&] { return s.hups == 3; }));
    kill(parent.pid, SIGTERM);
    EXPECT(parent.wait_for([&] { return s.terms == 3; }));
    kill(parent.pid, SIGINT);
    EXPECT(parent.wait_for([&] { return s.terms == 6; }));
    EXPECT(s.ints == 0 && s.hups == 3 && s.usr1s == 3);
    s.go = 1;
    EXPECT_EQ(parent.code(), 0);
}

TEST(nohup_is_respected) {
    Parent parent("counts signals", 1, {}, [] { std::signal(SIGHUP, SIG_IGN); });
    EXPECT(parent.ready(1));
    kill(parent.pid, SIGHUP);
    kill(parent.pid, SIGTERM);
    EXPECT(parent.wait_for([&] { return parent.shared->terms == 1; }));
    EXPECT_EQ((int)parent.shared->hups, 0);
    parent.shared->go = 1;
    EXPECT_EQ(parent.code(), 0);
}

// To the parent alone, and to the whole group, as a terminal's Ctrl-C: every rank finishes its step, whenever the parent gets to hand it on.
TEST(asked_to_stop) {
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) {
        Parent parent("trainer", 3);
        EXPECT(parent.ready(3));
        kill(parent.pid, signal);
        EXPECT_EQ(parent.code(), 0);
        EXPECT_EQ((int)parent.shared->stopped, 3);
        EXPECT_STR(parent.output, "");
    }
    Parent parent("trainer", 3);
    EXPECT(parent.ready(3));
    kill(parent.pid, SIGSTOP);
    kill(-parent.pid, SIGINT);
    EXPECT(parent.wait_for([&] { return parent.shared->stopped == 3; }));
    sleep_ms(100);  // beyond what stop.h takes for one SIGINT
    kill(parent.pid, SIGCONT);
    EXPECT_EQ(parent.code(), 0);
    EXPECT_STR(parent.output, "");
}

TEST(asked_to_stop_before_there_is_anything_to_save) {
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) {
        Parent parent("interrupted", 2);
        EXPECT(parent.shared && parent.wait_for([&] { return parent.shared->stopped == 2; }));
        kill(parent.pid, signal);
        EXPECT_EQ(parent.code(), 128 + signal);
        EXPECT_STR(parent.output, "error: rank 0: interrupted before the first step\n");  // the others do not repeat it
        Parent plain("waits", 2);  // no handler yet
        EXPECT(plain.ready(2));
        kill(plain.pid, signal);
        EXPECT_EQ(plain.code(), 128 + signal);
        EXPECT_STR(plain.output, "");
    }
}

TEST(a_second_interrupt_ends_at_once) {
    Parent parent("counts signals", 2);
    EXPECT(parent.ready(2));
    const double start = spawn_detail::seconds();
    kill(parent.pid, SIGINT);
    EXPECT(parent.wait_for([&] { return parent.shared->terms >= 2; }));
    kill(parent.pid, SIGINT);  // the same request
    if (spawn_detail::seconds() - start < 0.1) EXPECT(parent.wait_for([&] { return parent.shared->terms >= 4; }));
    sleep_ms(260);
    kill(parent.pid, SIGINT);
    EXPECT_EQ(parent.code(), 128 + SIGINT);
    EXPECT_STR(parent.output, "");
}

// A pipe whose reader has gone: a rank that writes there dies as it would alone, and the parent still ends the others.
TEST(nobody_reads_the_output) {
    const Outcome o = run_child([] {
        int fd[2];
        if (pipe(fd)) abort();
        close(fd[0]);
        const int said = dup(1);
        fcntl(said, F_SETFD, FD_CLOEXEC);
        dup2(fd[1], 1), dup2(fd[1], 2);
        setenv("SPAWN_TEST_ROLE", "places", 1);
        const char* argv[] = {"tests", nullptr};
        const int code = run_children(2, (char**)argv);
        dprintf(said, "code %d", code);
    });
    EXPECT_STR(o.output, format("code %d", 128 + SIGPIPE));
}
