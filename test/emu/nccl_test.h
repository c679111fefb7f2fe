// nccl_test.h: ranks that are children of a test, and what they ask the stand-in for NCCL.
#pragma once
#include <nccl.h>
#include <sys/prctl.h>
#include "runtime_test.h"

namespace {
constexpr ncclResult_t ARGUMENT = ncclInvalidArgument, USAGE = ncclInvalidUsage;
#define NCCL_REFUSED(call, expected) do { const ncclResult_t r_ = (call), x_ = (expected); if (r_ != x_) FAIL("%s: %d, expected %d", #call, (int)r_, (int)x_); } while (0)
#define NCCL_OK(call) NCCL_REFUSED(call, ncclSuccess)

// Until it is ready, or has failed.
inline ncclResult_t settle(ncclComm_t c, ncclResult_t r) {
    if (r != ncclSuccess && r != ncclInProgress) return r;
    do if (ncclResult_t e = ncclCommGetAsyncError(c, &r); e != ncclSuccess) return e; while (r == ncclInProgress);
    return r;
}
#define SETTLED(c, call) NCCL_OK(settle(c, call))
inline ncclConfig_t not_blocking() { ncclConfig_t k = NCCL_CONFIG_INITIALIZER; k.blocking = 0; return k; }
inline ncclComm_t new_comm(int rank, int world, ncclUniqueId id, bool blocking = false) {
    ncclComm_t c = nullptr;
    ncclConfig_t k = not_blocking();
    k.blocking = blocking;
    const ncclResult_t r = ncclCommInitRankConfig(&c, world, id, rank, &k);
    SETTLED(c, r);
    return c;
}
inline ncclUniqueId new_id() { ncclUniqueId id; NCCL_OK(ncclGetUniqueId(&id)); return id; }
inline ncclComm_t alone() { return new_comm(0, 1, new_id()); }
inline void destroy(ncclComm_t c) { SETTLED(c, ncclCommFinalize(c)); NCCL_OK(ncclCommDestroy(c)); }

struct Ranks { std::vector<int> codes; std::string output; };
// body(rank, id) in a process each; who is still there after `limit` seconds is killed, and `stopped` when it alone is left: code 137.
inline Ranks ranks(int world, const std::function<void(int, ncclUniqueId)>& body, double limit = 20, int stopped = -1) {
    Ranks all{std::vector<int>((size_t)world, -1), ""};
    const Outcome o = run_child([&] {
        const ncclUniqueId id = new_id();
        std::vector<pid_t> pids;
        for (int r = 0; r < world; r++) {
            const pid_t pid = fork();
            if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                g_failures = 0, body(r, id);
                fflush(nullptr);
                _exit(g_failures ? 1 : 0);
            }
            pids.push_back(pid);
        }
        int left = world;
        for (int ms = 0; left; ms++) {
            for (int r = 0; r < world; r++) {
                int status;
                if (pids[(size_t)r] < 0 || waitpid(pids[(size_t)r], &status, WNOHANG) <= 0) continue;
                printf("@%d %d\n", r, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
                pids[(size_t)r] = -1, left--;
            }
            if (ms == (int)(limit * 1000) || (left == 1 && stopped >= 0 && pids[(size_t)stopped] > 0)) for (pid_t pid : pids) if (pid > 0) kill(pid, SIGKILL);
            usleep(1000);
        }
    });
    for (size_t at = 0; at < o.output.size();) {
        const size_t end = std::min(o.output.find('\n', at), o.output.size());
        int r, code;
        if (sscanf(o.output.c_str() + at, "@%d %d\n", &r, &code) == 2 && o.output[at] == '@') all.codes[(size_t)r] = code;
        else all.output += o.output.substr(at, end + 1 - at);
        at = end + 1;
    }
    return all;
}
inline std::string said(const Ranks& all) {
    std::string codes;
    for (int c : all.codes) codes += std::to_string(c) + " ";
    return codes + "\n" + all.output;
}
inline void well(int world, const std::function<void(int, ncclUniqueId)>& body) {
    const Ranks all = ranks(world, body);
    for (int code : all.codes) if (code) return FAIL("codes %s", said(all).c_str());
}
// Every schedule, or one of ten, must end with a line that has `text`.
inline void found(const char* text, const std::function<void(int, ncclUniqueId)>& body, bool always = true) {
    for (int seed = 1; seed <= (always ? 3 : 10); seed++) {
        const Ranks all = ranks(2, [&](int rank, ncclUniqueId id) { emu::set_seed((uint64_t)seed); body(rank, id); }, 3);
        const bool here = all.output.find(text) != std::string::npos;
        if (here && !always) return;
        if (!here && always) return FAIL("expected '%s': codes %s", text, said(all).c_str());
    }
    if (!always) FAIL("'%s' was not found", text);
}
// The error that a communicator comes to, within seconds.
inline ncclResult_t comes_to(ncclComm_t c, double seconds = 2) {
    ncclResult_t r = ncclSuccess;
    for (int i = 0; i < (int)(seconds * 1e4); i++) {
        NCCL_OK(ncclCommGetAsyncError(c, &r));
        if (r != ncclSuccess && r != ncclInProgress) return r;
        usleep(100);
    }
    return r;
}
template <class X> X* device(size_t n) { X* p = nullptr; OK(cudaMalloc(&p, n * sizeof(X))); return p; }
template <class X> X* device(const std::vector<X>& v) {
    X* p = device<X>(v.size());
    OK(cudaMemcpy(p, v.data(), v.size() * sizeof(X), cudaMemcpyHostToDevice)); OK(cudaDeviceSynchronize());
    return p;
}
template <class X> std::vector<X> host(const X* p, size_t n, cudaStream_t s) {
    std::vector<X> v(n);
    OK(cudaStreamSynchronize(s)); OK(cudaMemcpy(v.data(), p, n * sizeof(X), cudaMemcpyDeviceToHost));
    return v;
}
}  // namespace
