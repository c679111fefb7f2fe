// stop.h: what signals ask for. SIGINT, SIGTERM, SIGHUP, SIGXCPU (the soft limit of `ulimit -t`), SIGUSR2 (before batch systems end a job: Grid Engine's
// -notify, LSF), and a reader of our standard output that has gone ask a run to finish its step, save and exit 0; so everything that takes long looks at stop_requested(). SIGUSR1 asks it to save and go on, as batch systems warn of a preemption.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <ctime>
#include "check.h"

namespace stop_detail {
inline volatile sig_atomic_t g_interrupted = 0;   // a SIGINT has come
inline volatile sig_atomic_t g_interrupt_ms = 0;  // when
inline volatile sig_atomic_t g_save_asked = 0;    // a SIGUSR1 has come, and nobody has taken it yet
inline bool g_watch_stdout = false;               // a pipe or a socket: its reader may go

inline int milliseconds() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int)(t.tv_sec % 1000000 * 1000 + t.tv_nsec / 1000000);
}

// Only SIGINT ends at once, and only the second: SIGTERM and SIGHUP come twice by themselves (from a batch system and a shell, from a
// terminal and a shell), and so does `timeout -s INT`, to us and to our group, but no person's second Ctrl-C within 50 ms.
inline void on_signal(int signal) {
    if (signal == SIGINT && g_interrupted && milliseconds() - g_interrupt_ms > 50) _exit(128 + signal);
    if (signal == SIGINT && !g_interrupted) {
        g_interrupt_ms = milliseconds();
        g_interrupted = 1;
    }
    if (!g_stop_signal) g_stop_signal = signal;
}
}  // namespace stop_detail

// First thing in main: descriptors 0 to 2 that the caller closed become /dev/null. Else the first files that are opened get these
// numbers, and what is printed ends up in them.
inline void open_standard_files() {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd) _exit(EXIT_FAILED);
}

// What a program that prints its result ends with: lost output, as on a full disk, is said, and is a failure. Who reads a pipe may stop as he likes.
inline int exit_code_of_output() {
    struct stat info;
    const int why = fflush(stdout) ? errno : 0;
    const bool lost = why || ferror(stdout), read_by_somebody = fstat(STDOUT_FILENO, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode));
    if (!lost || read_by_somebody) return 0;
    fprintf(stderr, "error: standard output: cannot write%s%s: what was printed is not whole\n", why ? ": " : "", why ? strerror(why) : "");
    return EXIT_FAILED;
}

namespace stop_detail {
inline void mask_save_requests(int how) {
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    sigprocmask(how, &set, nullptr);
}
}  // namespace stop_detail

// Before anything that takes time: a batch system's warning to a process that has just been started waits for catch_signals, instead of ending it. One that
// comes before main, while libraries are loaded, still does.
inline void hold_save_requests() { stop_detail::mask_save_requests(SIG_BLOCK); }

inline void catch_signals() {
    using namespace stop_detail;
    for (const int signal : {SIGINT, SIGTERM, SIGXCPU, SIGUSR2}) std::signal(signal, on_signal);
    std::signal(SIGUSR1, [](int) { g_save_asked = 1; });
    mask_save_requests(SIG_UNBLOCK);  // one may have waited since this process was started
    if (std::signal(SIGHUP, on_signal) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);  // nohup: it shall outlive the terminal
    std::signal(SIGPIPE, SIG_IGN);  // a write to a closed pipe is an error; stop_requested finds out
    std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is an error of write() with a name, like a full disk
    struct stat info;
    g_watch_stdout = fstat(STDOUT_FILENO, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode));
}
// Where there is nothing to finish.
inline void restore_signals() {
    for (const int signal : {SIGINT, SIGTERM, SIGXCPU, SIGUSR2, SIGUSR1, SIGPIPE}) std::signal(signal, SIG_DFL);
    if (std::signal(SIGHUP, SIG_DFL) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
    stop_detail::g_watch_stdout = false;
}

// g_stop_signal is the signal that asked first; SIGPIPE: standard output has no reader any more. A system call of a microsecond at most: for a step, a batch, a token. Asked of the pipe itself: stdio forgets why a write failed.
inline bool stop_requested() {
    using namespace stop_detail;
    if (!g_stop_signal && g_watch_stdout) {
        pollfd out = {STDOUT_FILENO, 0, 0};
        if (poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP))) g_stop_signal = SIGPIPE;
    }
    return g_stop_signal != 0;
}
inline int stop_exit_code() { return 128 + (int)g_stop_signal; }  // a shell's for a process that the signal ended

// Whether SIGUSR1 has come since this was asked before.
inline bool take_save_request() {
    const bool asked = stop_detail::g_save_asked != 0;
    if (asked) stop_detail::g_save_asked = 0;  // only then: one that comes between these lines is not lost
    return asked;
}

// Before there is anything to save.
inline void exit_if_stopping(const std::string& during) {
    if (stop_requested()) die_with(stop_exit_code(), "interrupted %s", during.c_str());
}
