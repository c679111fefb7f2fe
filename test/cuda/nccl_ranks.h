// nccl_ranks.h: a test's ranks: processes of their own, begun anew as the trainer's are, since a GPU cannot be used after a fork. Each runs this program's
// test again from its beginning, and what is not its part of it does nothing.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <atomic>
#include <set>
#include "../../llmc/comm/comm.h"
#include "../../llmc/comm/nccl.h"
#include "device_test.h"

namespace {
struct RankOutcome {
    int code;
    std::string output;
    double seconds, noted;  // when it had ended, and when its transport was last asked for something or had done it; 0: never
    double waited() const { return seconds - noted; }
};
struct RankOptions {
    int world = 2;
    double deadline = 20, limit = 60;            // seconds: of an operation; that no rank's transport is asked for anything
    int stopped = -1;                            // the rank that does not end by itself: it is killed when the others have ended
    int never = -1;                              // the rank that is there, and does not open its transport
    std::vector<std::string> environment = {};   // NAME=value
};
using RankBody = std::function<void(Comm&)>;

inline const char* rank_variable() { return getenv("TEST_RANK"); }
// NCCL's files in /dev/shm; others' come and go.
inline std::set<std::string> shared_memory() {
    std::set<std::string> names;
    if (DIR* folder = opendir("/dev/shm")) {
        while (dirent* e = readdir(folder)) if (strstr(e->d_name, "nccl")) names.insert(e->d_name);
        closedir(folder);
    }
    return names;
}
// Where the id goes from rank 0 to the others; how many are there; and each one's note, in seconds of the machine's clock.
struct IdBoard {
    std::atomic<int> there;
    NcclId id;
    std::atomic<double> noted[64];
};
inline double clock_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
// Notes where a deadline can begin: what processes and steps take before it is a matter of how busy the machine is.
class NotedTransport : public Transport {
    const std::shared_ptr<Transport> inner_;
    std::atomic<double>& noted_;
    template <class Work> void note(Work work) { noted_ = clock_seconds(), work(), noted_ = clock_seconds(); }

public:
    NotedTransport(std::shared_ptr<Transport> inner, std::atomic<double>& noted) : inner_(std::move(inner)), noted_(noted) {}
    void all_gather_host(void* all, size_t bytes) override { note([&] { inner_->all_gather_host(all, bytes); }); }
    void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t stream) override { note([&] { inner_->exchange(sends, receives, stream); }); }
    void all_gather(void* all, size_t bytes, stream_t stream) override { note([&] { inner_->all_gather(all, bytes, stream); }); }
    bool adds() const override { return inner_->adds(); }
    void reduce_scatter(float* all, size_t n, size_t rest, stream_t stream) override { note([&] { inner_->reduce_scatter(all, n, rest, stream); }); }
    void all_reduce(float* all, size_t n, stream_t stream) override { note([&] { inner_->all_reduce(all, n, stream); }); }
    void* memory_of_collectives(size_t bytes, uint64_t places, bool one_machine) override { void* memory; note([&] { memory = inner_->memory_of_collectives(bytes, places, one_machine); }); return memory; }
    std::string windows() const override { return inner_->windows(); }
    void leave() override { note([&] { inner_->leave(); }); }
};

[[noreturn]] inline void be_a_rank(const RankOptions& options, const RankBody& body) {
    g_failures = 0;
    Comm comm;
    comm.rank = g_rank = atoi(rank_variable()), comm.world = g_world = options.world;
    flight_recorder().deadline = options.deadline;
    if (!ON_CPU) CUDA_CHECK(cudaSetDevice(comm.rank));
    IdBoard& board = *(IdBoard*)mmap(nullptr, sizeof(IdBoard), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(getenv("TEST_BOARD")), 0);
    if (comm.rank == 0) board.id = new_nccl_id();
    for (board.there++; board.there < comm.world;) usleep(1000);  // so that no deadline counts another's beginning
    if (comm.rank == options.never) raise(SIGSTOP);
    std::atomic<double>& noted = board.noted[comm.rank];
    noted = clock_seconds();
    comm.transport = std::make_shared<NotedTransport>(open_nccl(comm.rank, comm.world, board.id), noted);
    noted = clock_seconds();
    body(comm);
    comm.leave();
    fflush(nullptr);
    _exit(g_failures ? 1 : 0);
}
// body(comm) on each rank, with NCCL between them; what became of each. Nothing of them may be left.
inline std::vector<RankOutcome> on_ranks(const RankOptions& options, const RankBody& body) {
    static std::string test;
    static int calls = 0;
    if (test != g_test_name) test = g_test_name, calls = 0;
    const int call = calls++, W = options.world;
    if (rank_variable()) {
        if (call == atoi(getenv("TEST_CALL"))) be_a_rank(options, body);
        return std::vector<RankOutcome>((size_t)W);
    }
    const std::set<std::string> shared_before = shared_memory();
    const int board = memfd_create("id", 0);
    if (board < 0 || ftruncate(board, sizeof(IdBoard))) abort();
    const IdBoard& notes = *(const IdBoard*)mmap(nullptr, sizeof(IdBoard), PROT_READ, MAP_SHARED, board, 0);
    std::vector<RankOutcome> outcomes((size_t)W, RankOutcome{-1, "", 0, 0});
    std::vector<pid_t> pids;
    std::vector<pollfd> pipes;
    fflush(nullptr);
    const double began = clock_seconds();
    const auto seconds = [&] { return clock_seconds() - began; };
    const auto noted = [&](size_t r) { return std::max(0.0, notes.noted[r] - began); };
    for (int r = 0; r < W; r++) {
        int fd[2];
        if (pipe2(fd, O_CLOEXEC)) abort();
        const pid_t pid = fork();
        if (pid < 0) abort();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            dup2(fd[1], 1), dup2(fd[1], 2);
            setenv("TEST_RANK", std::to_string(r).c_str(), 1), setenv("TEST_CALL", std::to_string(call).c_str(), 1), setenv("TEST_BOARD", std::to_string(board).c_str(), 1);
            for (const std::string& e : options.environment) setenv(e.substr(0, e.find('=')).c_str(), e.substr(e.find('=') + 1).c_str(), 1);
            execl("/proc/self/exe", "tests", "--only", test.c_str(), (char*)nullptr);
            _exit(127);
        }
        close(fd[1]);
        pids.push_back(pid), pipes.push_back({fd[0], POLLIN, 0});
    }
    close(board);
    for (int left = W; left > 0;) {
        double last = 0;
        for (size_t r = 0; r < (size_t)W; r++) last = std::max(last, noted(r));
        if (seconds() - last > options.limit || (left == 1 && options.stopped >= 0 && outcomes[(size_t)options.stopped].code < 0))
            for (int r = 0; r < W; r++) if (outcomes[(size_t)r].code < 0) kill(pids[(size_t)r], SIGKILL);
        poll(pipes.data(), pipes.size(), 20);
        for (size_t r = 0; r < (size_t)W; r++) {
            char buffer[4096];
            if (pipes[r].fd >= 0 && pipes[r].revents) {
                const ssize_t n = read(pipes[r].fd, buffer, sizeof buffer);
                if (n > 0) outcomes[r].output.append(buffer, (size_t)n);
                else close(pipes[r].fd), pipes[r].fd = -1;
            }
            int status;
            if (pipes[r].fd < 0 && outcomes[r].code < 0 && waitpid(pids[r], &status, WNOHANG) == pids[r])
                outcomes[r].code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), outcomes[r].seconds = seconds(), outcomes[r].noted = noted(r), left--;
        }
    }
    munmap((void*)&notes, sizeof(IdBoard));
    if (shared_memory() != shared_before) FAIL("something is left in /dev/shm");
    return outcomes;
}
inline std::string said(const std::vector<RankOutcome>& ranks) {
    std::string all;
    for (size_t r = 0; r < ranks.size(); r++) all += format("\n    rank %zu, code %d, %.1f s after %.1f: ", r, ranks[r].code, ranks[r].waited(), ranks[r].noted) + ranks[r].output;
    return all;
}
inline void expect_well(const std::vector<RankOutcome>& ranks) {
    if (rank_variable()) return;
    for (const RankOutcome& r : ranks) if (r.code) { FAIL("a world of %zu:%s", ranks.size(), said(ranks).c_str()); return; }
}
// All but one end by themselves, with EXIT_COMM and one line that has one of the texts, `late` seconds after the deadline of what each did last at the latest.
inline void expect_ended(const std::vector<RankOutcome>& ranks, const RankOptions& options, int culprit, const std::vector<std::string>& texts, double late = 4) {
    if (rank_variable()) return;
    for (int r = 0; r < (int)ranks.size(); r++) {
        if (r == culprit) continue;
        const RankOutcome& o = ranks[(size_t)r];
        std::string errors;  // the stand-in's own lines are not ours
        for (size_t at = 0; at < o.output.size();) {
            const size_t end = std::min(o.output.find('\n', at), o.output.size());
            if (o.output.compare(at, 10, "emulator: ")) errors += o.output.substr(at, end + 1 - at);
            at = end + 1;
        }
        bool named = texts.empty();
        for (const std::string& t : texts) named |= errors.find(t) != std::string::npos;
        const bool line = std::count(errors.begin(), errors.end(), '\n') == 1 && errors.rfind(format("error: rank %d: ", r), 0) == 0;
        if (o.code != EXIT_COMM || !line || !named || o.waited() > options.deadline + late) { FAIL("expected rank %d to end with '%s':%s", r, texts.empty() ? "" : texts[0].c_str(), said(ranks).c_str()); return; }
    }
}
// Whether this machine can have so many.
inline bool has_gpus(int world) {
    int n = 0;
    return ON_CPU || (cudaGetDeviceCount(&n) == cudaSuccess && n >= world);
}
}  // namespace
