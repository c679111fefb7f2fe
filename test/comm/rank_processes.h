// rank_processes.h: ranks as processes of their own, for the tests of how they find each other.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include "../../llmc/comm/launcher.h"
#include "../../llmc/comm/rendezvous.h"
#include "../test.h"

inline Place place_of(int rank, int world) { return {.rank = rank, .world = world, .local_rank = rank, .local_world = world, .by = "options"}; }

// A process that calls meet(), prints what it returns and exits with 0. Killed at the end, by its id.
class RankProcess {
    int out_ = -1, status_ = 0;
    bool ended_ = false;

  public:
    pid_t pid;
    std::string said;

    RankProcess(int rank, int world, const std::function<std::string()>& meet) {
        int fd[2];
        if (pipe2(fd, O_CLOEXEC)) abort();
        fflush(nullptr);
        pid = fork();
        if (pid == 0) {
            dup2(fd[1], 1), dup2(fd[1], 2);
            g_rank = rank, g_world = world;
            alarm(30);
            for (const char* name : {"LLMC_SECRET", "LLMC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
            const std::string blob = meet();
            const std::string text = "got " + blob + "\n";  // may have zeros in it
            fwrite(text.data(), 1, text.size(), stdout), fflush(stdout);
            _exit(0);
        }
        close(fd[1]);
        out_ = fd[0];
    }
    RankProcess(RankProcess&& o) noexcept : out_(std::exchange(o.out_, -1)), status_(o.status_), ended_(o.ended_), pid(std::exchange(o.pid, -1)), said(std::move(o.said)) {}
    ~RankProcess() {
        if (pid > 0 && !ended_) kill(pid, SIGKILL), waitpid(pid, &status_, 0);
        if (out_ >= 0) close(out_);
    }
    // Reads until it has said `text`, or has ended, or 10 s have passed.
    bool says(const std::string& text) {
        for (char buffer[4096]; said.find(text) == said.npos;) {
            pollfd ready = {out_, POLLIN, 0};
            if (poll(&ready, 1, 10000) != 1) return false;
            const ssize_t n = read(out_, buffer, sizeof buffer);
            if (n <= 0) return false;
            said.append(buffer, (size_t)n);
        }
        return true;
    }
    bool runs() {
        if (!ended_) ended_ = waitpid(pid, &status_, WNOHANG) == pid;
        return !ended_;
    }
    // Its exit code, once it has ended; 128 + its signal.
    int code() {
        (void)says("no rank says this, so all is read");
        if (!ended_) waitpid(pid, &status_, 0), ended_ = true;
        return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
    }
};
inline bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

inline const std::string BLOB = "the blob of rank 0";
inline void expect_got(RankProcess& p, const std::string& blob = BLOB) {
    const int code = p.code();
    if (code || p.said != "got " + blob + "\n") FAIL("exit code %d, said \"%s\"", code, p.said.c_str());
}
inline void expect_died(RankProcess& p, int expected, const std::string& says) {
    const int code = p.code();
    if (code != expected || !has(p.said, "error: rank ") || !has(p.said, says)) FAIL("exit code %d, said \"%s\", expected %d and \"%s\"", code, p.said.c_str(), expected, says.c_str());
}
