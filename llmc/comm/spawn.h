// spawn.h: one process a rank, on this machine. The parent starts itself anew once for each rank, waits, hands signals on, ends all
// children when one fails, and returns the first cause. It stays small and single-threaded: no CUDA, no threads, no MPI in it.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>
#include "../base/check.h"

struct Children {
    size_t shared_bytes = 0;                         // of memory that all children share, zeros at first
    std::vector<std::vector<std::string>> env = {};  // for each rank "NAME=value" beside what this process has; empty: nothing
    double grace_s = 3;                              // that the others have, once one has failed, to say what they know and end
};

namespace spawn_detail {
inline double seconds() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// This program's path, so that `ps` shows its name; if that is another file by now (built anew, removed), the kernel's link to what runs.
inline std::string own_path() {
    char path[4096] = "";
    struct stat running, named;
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    const bool same = n > 0 && stat("/proc/self/exe", &running) == 0 && stat(path, &named) == 0 && running.st_ino == named.st_ino && running.st_dev == named.st_dev;
    return same ? path : "/proc/self/exe";
}

// The environment of this process with `set` instead of, or beside, what it has.
inline std::vector<std::string> environment_with(const std::vector<std::string>& set) {
    std::vector<std::string> all;
    const auto name = [](const std::string& one) { return one.substr(0, one.find('=') + 1); };
    for (char** at = environ; *at; at++)
        if (std::none_of(set.begin(), set.end(), [&](const std::string& one) { return name(one) == name(*at); })) all.emplace_back(*at);
    all.insert(all.end(), set.begin(), set.end());
    return all;
}
inline std::vector<char*> pointers(const std::vector<std::string>& strings) {
    std::vector<char*> p;
    for (const std::string& s : strings) p.push_back((char*)s.c_str());
    p.push_back(nullptr);
    return p;
}

// SIGHUP is left alone where it is ignored, by nohup: the run shall outlive the terminal. SIGINT is not: a shell without job control ignores
// it for whatever it puts into the background.
inline sigset_t signals_of_parent() {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : {SIGINT, SIGTERM, SIGXCPU, SIGUSR1, SIGUSR2, SIGCHLD}) sigaddset(&set, signal);
    struct sigaction hup;
    if (sigaction(SIGHUP, nullptr, &hup) == 0 && hup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
    return set;
}

// What is left to do between fork and exec.
[[noreturn]] inline void become_child(int rank, pid_t parent, const sigset_t& handled, const sigset_t& mask, const char* path, char** argv, char** env) {
    // The child dies with the parent, of whatever that dies, SIGKILL included. The kernel keeps this through exec.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(EXIT_FAILED);  // it died before the line above: nobody would end this child
    // A handler of the parent's must not take a signal that waits, for exec forgets that it did; blocked, it waits through exec.
    for (int signal = 1; signal < NSIG; signal++)
        if (sigismember(&handled, signal) == 1 && std::signal(signal, SIG_DFL) == SIG_IGN) std::signal(signal, SIG_IGN);
    const int null = rank > 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;  // ranks that read from one terminal would each get a part
    if (null >= 0) dup2(null, STDIN_FILENO);
    sigset_t until_caught = mask;
    sigaddset(&until_caught, SIGUSR1);  // a batch system's warning would end a child that has no handler yet
    sigprocmask(SIG_SETMASK, &until_caught, nullptr);
    execve(path, argv, env);
    die("rank %d: %s: cannot start: %s", rank, path, strerror(errno));
}

inline int code_of(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }
}  // namespace spawn_detail

// Runs n children with this program and argv, and in their environment LLMC_RANK, LLMC_WORLD, LLMC_LOCAL_RANK, LLMC_LOCAL_WORLD, and with
// shared memory LLMC_SHARED_FD. Returns 0 when all exited with 0, else what the first that failed exited with, or 128 + its signal.
//
// SIGTERM, SIGHUP, SIGXCPU, SIGUSR2 and SIGUSR1 are handed on. Of SIGINT a rank may have had one already, as Ctrl-C goes to the whole process group, and a second
// one ends it at once (stop.h): it is handed on as SIGTERM, which asks the same and may come twice. A second SIGINT ends all at once.
inline int run_children(int n, char** argv, const Children& how = {}) {
    using namespace spawn_detail;
    // a memfd has no name: nothing stays in /dev/shm, however all of them end. Without MFD_CLOEXEC the children inherit it
    const int shared = how.shared_bytes ? memfd_create("llmc", 0) : -1;
    if (how.shared_bytes && (shared < 0 || ftruncate(shared, (off_t)how.shared_bytes))) die("memory shared by %d ranks, %zu bytes: %s", n, how.shared_bytes, strerror(errno));

    // Signals stay blocked and are taken one at a time by sigtimedwait: none comes between a look and a wait.
    const sigset_t handled = signals_of_parent();
    sigset_t mask;
    std::signal(SIGCHLD, SIG_DFL);  // ignored, as some launchers leave it, the children's exit codes would be lost
    sigprocmask(SIG_BLOCK, &handled, &mask);
    const std::string path = own_path();
    const pid_t parent = getpid();
    std::vector<pid_t> pids((size_t)n, 0);  // 0: has ended
    fflush(nullptr);
    for (int rank = 0; rank < n; rank++) {
        std::vector<std::string> set = {format("LLMC_RANK=%d", rank), format("LLMC_WORLD=%d", n), format("LLMC_LOCAL_RANK=%d", rank), format("LLMC_LOCAL_WORLD=%d", n)};
        if (shared >= 0) set.push_back(format("LLMC_SHARED_FD=%d", shared));
        if ((size_t)rank < how.env.size()) set.insert(set.end(), how.env[(size_t)rank].begin(), how.env[(size_t)rank].end());
        const std::vector<std::string> env = environment_with(set);
        const pid_t pid = fork();
        if (pid < 0) die("fork of rank %d: %s", rank, strerror(errno));  // those before it die with this process
        if (pid == 0) become_child(rank, parent, handled, mask, path.c_str(), argv, pointers(env).data());
        pids[(size_t)rank] = pid;
    }
    if (shared >= 0) close(shared);
    std::signal(SIGPIPE, SIG_IGN);  // the line about a child that was killed must not end this process before it has ended the others

    const auto send = [&](int signal) { for (pid_t pid : pids) if (pid) kill(pid, signal); };
    int cause = 0, asked = 0;             // exit code of the first that failed; signal that first asked to stop
    double interrupted = 0, kill_at = 0;  // when SIGINT came; when those that are left are killed
    for (int left = n; left > 0;) {
        siginfo_t info;
        timespec wait = {1, 0};
        if (kill_at > 0) {
            const double s = std::max(kill_at - seconds(), 0.0);
            wait = {(time_t)s, (long)((s - (double)(time_t)s) * 1e9)};
        }
        const int signal = sigtimedwait(&handled, &info, &wait);
        if (kill_at > 0 && seconds() >= kill_at) send(SIGKILL), kill_at = seconds() + 1;
        if (signal == SIGINT && interrupted > 0 && seconds() - interrupted > 0.25) {  // sooner it is the same request: `timeout -s INT` sends two
            send(SIGKILL);
            if (!cause) cause = 128 + SIGINT;
        } else if (signal > 0 && signal != SIGCHLD) {
            if (signal == SIGINT && interrupted == 0) interrupted = seconds();
            if (!asked && signal != SIGUSR1) asked = signal;
            send(signal == SIGINT ? SIGTERM : signal);
        }
        // Several may have ended by now, as one that fails takes others along: they notice and exit, so who was killed came first.
        int failed = -1, failed_status = 0;
        pid_t failed_pid = 0;
        for (int rank = 0; rank < n; rank++) {
            pid_t& pid = pids[(size_t)rank];
            int status = 0;
            if (!pid || waitpid(pid, &status, WNOHANG) != pid) continue;
            if (status && (failed < 0 || (WIFSIGNALED(status) && !WIFSIGNALED(failed_status)))) failed = rank, failed_status = status, failed_pid = pid;
            pid = 0, left--;
        }
        if (failed < 0 || cause) continue;
        cause = code_of(failed_status);
        const int by = WIFSIGNALED(failed_status) ? WTERMSIG(failed_status) : 0;
        if (asked && cause == 128 + SIGTERM) cause = 128 + asked;  // SIGINT was handed on as SIGTERM
        if (by && !(asked && (by == asked || by == SIGTERM || by == SIGINT)))
            fprintf(stderr, "error: rank %d (process %d) was killed by signal %d (%s)\n", failed, (int)failed_pid, by, strsignal(by));
        send(SIGTERM);
        kill_at = seconds() + how.grace_s;
    }
    sigprocmask(SIG_SETMASK, &mask, nullptr);
    return cause;
}

// In a child: the memory that it shares with the others, or nullptr if it has none. Once only: what a child starts itself does not inherit it.
inline void* shared_with_siblings(size_t bytes) {
    const char* text = getenv("LLMC_SHARED_FD");
    if (!text) return nullptr;
    char* end;
    const int fd = (int)strtol(text, &end, 10);
    struct stat s;
    if (*end || fstat(fd, &s) || s.st_size != (off_t)bytes) die("LLMC_SHARED_FD: '%s' set, is not the %zu bytes that the ranks of this run share", text, bytes);
    void* shared = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) die("memory shared by the ranks, %zu bytes: %s", bytes, strerror(errno));
    close(fd);
    unsetenv("LLMC_SHARED_FD");
    return shared;
}
