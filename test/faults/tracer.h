// tracer.h: runs a program, as it is shipped, and stops it at each system call on files below a folder: to count them, to let one fail, to cut a write
// short, to kill the process before a call or half-way through a write, to hold up one of its threads, or to record what is written.
//
// By ptrace, with a seccomp filter (SECCOMP_RET_TRACE) so that only calls on files stop. Unlike a library in LD_PRELOAD it sees what libc calls from
// inside (stdio, nftw), and threads and ranks that are exec'd are traced like the first process.
#pragma once
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>
#include "../../llmc/io/files.h"

#ifdef __x86_64__
constexpr bool CAN_TRACE = true;
using Registers = user_regs_struct;
inline long call_number(const Registers& r) { return (long)r.orig_rax; }
inline uint64_t argument(const Registers& r, int i) { return i == 0 ? r.rdi : i == 1 ? r.rsi : i == 2 ? r.rdx : i == 3 ? r.r10 : i == 4 ? r.r8 : r.r9; }
inline long result_of(const Registers& r) { return (long)r.rax; }
inline void set_third_argument(Registers& r, uint64_t value) { r.rdx = value; }
inline void skip_call(Registers& r, long result) { r.orig_rax = (unsigned long long)-1, r.rax = (unsigned long long)result; }
#else
#error "the tracer knows the registers of x86-64 alone"
#endif

enum class Does { OPENS, LOOKS, READS, WRITES, SYNCS, TRUNCATES, CLOSES, LOCKS, LISTS, MAKES_FOLDER, REMOVES_FOLDER, UNLINKS, RENAMES, LINKS, OTHER };

// One row a system call: which arguments are its paths (each with the descriptor of the folder it starts from), its descriptor, its number of bytes.
struct CallRow { long number; const char* name; Does does; int folder, path, folder2, path2, fd, bytes; };
inline const CallRow CALL_ROWS[] = {
    {SYS_open, "open", Does::OPENS, -1, 0, -1, -1, -1, -1},          {SYS_openat, "openat", Does::OPENS, 0, 1, -1, -1, -1, -1},
    {SYS_creat, "creat", Does::OPENS, -1, 0, -1, -1, -1, -1},        {SYS_stat, "stat", Does::LOOKS, -1, 0, -1, -1, -1, -1},
    {SYS_lstat, "lstat", Does::LOOKS, -1, 0, -1, -1, -1, -1},        {SYS_newfstatat, "newfstatat", Does::LOOKS, 0, 1, -1, -1, -1, -1},
    {SYS_statx, "statx", Does::LOOKS, 0, 1, -1, -1, -1, -1},         {SYS_fstat, "fstat", Does::LOOKS, -1, -1, -1, -1, 0, -1},
    {SYS_access, "access", Does::LOOKS, -1, 0, -1, -1, -1, -1},      {SYS_faccessat, "faccessat", Does::LOOKS, 0, 1, -1, -1, -1, -1},
    {SYS_faccessat2, "faccessat2", Does::LOOKS, 0, 1, -1, -1, -1, -1}, {SYS_read, "read", Does::READS, -1, -1, -1, -1, 0, 2},
    {SYS_pread64, "pread", Does::READS, -1, -1, -1, -1, 0, 2},       {SYS_write, "write", Does::WRITES, -1, -1, -1, -1, 0, 2},
    {SYS_pwrite64, "pwrite", Does::WRITES, -1, -1, -1, -1, 0, 2},    {SYS_fsync, "fsync", Does::SYNCS, -1, -1, -1, -1, 0, -1},
    {SYS_fdatasync, "fdatasync", Does::SYNCS, -1, -1, -1, -1, 0, -1}, {SYS_ftruncate, "ftruncate", Does::TRUNCATES, -1, -1, -1, -1, 0, -1},
    {SYS_close, "close", Does::CLOSES, -1, -1, -1, -1, 0, -1},       {SYS_flock, "flock", Does::LOCKS, -1, -1, -1, -1, 0, -1},
    {SYS_getdents64, "getdents64", Does::LISTS, -1, -1, -1, -1, 0, -1}, {SYS_mkdir, "mkdir", Does::MAKES_FOLDER, -1, 0, -1, -1, -1, -1},
    {SYS_mkdirat, "mkdirat", Does::MAKES_FOLDER, 0, 1, -1, -1, -1, -1}, {SYS_rmdir, "rmdir", Does::REMOVES_FOLDER, -1, 0, -1, -1, -1, -1},
    {SYS_unlink, "unlink", Does::UNLINKS, -1, 0, -1, -1, -1, -1},    {SYS_unlinkat, "unlinkat", Does::UNLINKS, 0, 1, -1, -1, -1, -1},
    {SYS_rename, "rename", Does::RENAMES, -1, 0, -1, 1, -1, -1},     {SYS_renameat, "renameat", Does::RENAMES, 0, 1, 2, 3, -1, -1},
    {SYS_renameat2, "renameat2", Does::RENAMES, 0, 1, 2, 3, -1, -1}, {SYS_link, "link", Does::LINKS, -1, 0, -1, 1, -1, -1},
    {SYS_linkat, "linkat", Does::LINKS, 0, 1, 2, 3, -1, -1},         {SYS_symlink, "symlink", Does::OTHER, -1, 1, -1, -1, -1, -1},
    {SYS_symlinkat, "symlinkat", Does::OTHER, 1, 2, -1, -1, -1, -1}, {SYS_truncate, "truncate", Does::OTHER, -1, 0, -1, -1, -1, -1},
    {SYS_writev, "writev", Does::OTHER, -1, -1, -1, -1, 0, -1},      {SYS_pwritev, "pwritev", Does::OTHER, -1, -1, -1, -1, 0, -1},
    {SYS_pwritev2, "pwritev2", Does::OTHER, -1, -1, -1, -1, 0, -1},  {SYS_fallocate, "fallocate", Does::OTHER, -1, -1, -1, -1, 0, -1},
    {SYS_sendfile, "sendfile", Does::OTHER, -1, -1, -1, -1, 0, -1},  {SYS_copy_file_range, "copy_file_range", Does::OTHER, -1, -1, -1, -1, 2, -1},
};

struct Call {
    pid_t process;            // or thread
    const CallRow* row;
    std::string path, path2;  // absolute
    uint64_t arguments[6];
    int fd;                   // -1: it has none
    size_t bytes;             // that it was asked to read or write
    bool is(Does does) const { return row->does == does; }
    std::string text() const { return std::string(row->name) + " " + path + (path2.empty() ? "" : " -> " + path2); }
};

// What shall become of a call. SHORT, KILL_HALF_WAY: a read or write of more than one byte does half of them, and then there is a kill. HOLD: its thread
// waits in front of it until is_held() says no more, while others go on.
struct Order {
    enum What { GO, FAIL, SHORT, KILL, KILL_HALF_WAY, HOLD } what = GO;
    int error = 0;            // FAIL
    bool all = false;         // KILL: every process of the run, not the one that calls
};

inline std::string link_target(const std::string& path) {
    char target[PATH_MAX];
    const ssize_t n = readlink(path.c_str(), target, sizeof target);
    return n > 0 ? std::string(target, (size_t)n) : "";
}
inline std::string tracee_bytes(pid_t process, uint64_t address, size_t n) {
    std::string bytes(n, '\0');
    const iovec here = {bytes.data(), n}, there = {(void*)address, n};
    const ssize_t got = process_vm_readv(process, &here, 1, &there, 1, 0);
    bytes.resize(got < 0 ? 0 : (size_t)got);
    return bytes;
}

class Tracer {
    static constexpr int SECONDS = 120;  // that a run may take: one that waits for ever is ended and found out
    std::string below;                   // with a slash at its end, or empty: all files
    std::vector<pid_t> known;
    std::map<pid_t, Call> inside;        // calls whose exit is waited for
    std::map<pid_t, bool> kill_at_exit;
    std::vector<pid_t> held;

    static std::string tracee_path(pid_t process, uint64_t address) {
        std::string text;
        for (size_t n = 0; n < PATH_MAX && text.find('\0') == text.npos;) {  // not beyond the page: the next one may not be there
            const std::string more = tracee_bytes(process, address + n, std::min<size_t>(256, 4096 - (address + n) % 4096));
            if (more.empty()) break;
            text += more, n += more.size();
        }
        return text.substr(0, text.find('\0'));
    }
    static std::string path_of(pid_t process, const Registers& r, int folder, int path) {
        std::string text = tracee_path(process, argument(r, path));
        if (!text.empty() && text[0] == '/') return text;
        const int fd = folder < 0 ? AT_FDCWD : (int)argument(r, folder);
        const std::string from = link_target(fd == AT_FDCWD ? format("/proc/%d/cwd", (int)process) : format("/proc/%d/fd/%d", (int)process, fd));
        return text.empty() ? from : from + "/" + text;
    }
    bool is_below(const std::string& path) const { return path.size() >= below.size() - 1 && (path + "/").compare(0, below.size(), below) == 0; }

    static void install_filter() {
        std::vector<sock_filter> filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
        for (const CallRow& row : CALL_ROWS) {
            filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)row.number, 0, 1));
            filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
        }
        filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
        const sock_fprog program = {(unsigned short)filter.size(), filter.data()};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(126);
    }
    [[noreturn]] static void become(const std::string& command, const std::string& said) {
        const int fd = open(said.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(fd, 1), dup2(fd, 2), close(fd);
        ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        raise(SIGSTOP);
        install_filter();
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // LeakSanitizer does not work under ptrace
        execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), (char*)nullptr);
        _exit(127);
    }
    void kill_all() { for (pid_t process : known) kill(process, SIGKILL); }

    // At the entry of a call: what shall become of it is done.
    void enter(pid_t process) {
        Registers r;
        if (ptrace(PTRACE_GETREGS, process, nullptr, &r)) return;  // killed meanwhile
        const auto go = [&] { ptrace(PTRACE_CONT, process, nullptr, nullptr); };
        const CallRow* row = nullptr;
        for (const CallRow& each : CALL_ROWS) if (each.number == call_number(r)) row = &each;
        if (!row) return go();
        Call call = {process, row, "", "", {}, row->fd >= 0 ? (int)argument(r, row->fd) : -1, row->bytes >= 0 ? (size_t)argument(r, row->bytes) : 0};
        for (int i = 0; i < 6; i++) call.arguments[i] = argument(r, i);
        call.path = row->fd >= 0 ? link_target(format("/proc/%d/fd/%d", (int)process, call.fd)) : path_of(process, r, row->folder, row->path);
        if (row->path2 >= 0) call.path2 = path_of(process, r, row->folder2, row->path2);
        if (!is_below(call.path) && !is_below(call.path2)) return go();
        Order order = on_entry(call, calls++);
        if ((order.what == Order::SHORT || order.what == Order::KILL_HALF_WAY) && call.bytes < 2) order.what = order.what == Order::SHORT ? Order::GO : Order::KILL;
        kill_at_exit.erase(process);
        switch (order.what) {
        case Order::HOLD: return held.push_back(process);
        case Order::KILL: if (order.all) kill_all(); else kill(process, SIGKILL); return;
        case Order::FAIL: skip_call(r, -order.error); ptrace(PTRACE_SETREGS, process, nullptr, &r); return go();
        case Order::KILL_HALF_WAY: kill_at_exit[process] = order.all; [[fallthrough]];
        case Order::SHORT: set_third_argument(r, call.bytes / 2); ptrace(PTRACE_SETREGS, process, nullptr, &r); break;
        case Order::GO: if (!on_exit) return go(); break;
        }
        inside[process] = call;
        ptrace(PTRACE_SYSCALL, process, nullptr, nullptr);
    }
    void leave(pid_t process) {
        const auto call = inside.find(process), end = inside.end();
        Registers r;
        if (call != end && ptrace(PTRACE_GETREGS, process, nullptr, &r) == 0) {
            if (on_exit) on_exit(call->second, result_of(r));
            inside.erase(call);
            if (const auto k = kill_at_exit.find(process); k != kill_at_exit.end()) {
                if (k->second) kill_all(); else kill(process, SIGKILL);
                return;
            }
        }
        ptrace(PTRACE_CONT, process, nullptr, nullptr);
    }

public:
    std::function<Order(const Call&, int)> on_entry = [](const Call&, int) { return Order{}; };  // with the number of calls before it
    std::function<void(const Call&, long)> on_exit;  // with its result, or -errno; empty: nobody wants to know
    std::function<bool()> is_held = [] { return false; };  // asked again and again
    int calls = 0;
    pid_t first_process = 0;
    struct Ended { int code; std::string said; };  // 128 + signal if it was killed; -1: not within SECONDS

    explicit Tracer(const std::string& folder) : below(folder + "/") {}

    // `said`: a file for both streams. Returns when every process of the run has ended.
    Ended run(const std::string& command, const std::string& said) {
        fflush(nullptr);
        const pid_t first = fork();
        if (first == 0) become(command, said);
        int status = 0, code = -1;
        CHECK(waitpid(first, &status, 0) == first && WIFSTOPPED(status), "%s: cannot be traced", command.c_str());
        const long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
        CHECK(ptrace(PTRACE_SETOPTIONS, first, nullptr, options) == 0, "%s: cannot be traced: %s", command.c_str(), strerror(errno));
        known = {first}, held.clear(), first_process = first;
        struct sigaction act = {}, before;
        act.sa_handler = [](int) {};  // without SA_RESTART: waitpid returns
        sigaction(SIGALRM, &act, &before);
        alarm(SECONDS);
        ptrace(PTRACE_CONT, first, nullptr, nullptr);
        bool late = false;
        for (;;) {
            if (!held.empty() && !is_held()) {
                for (pid_t process : held) ptrace(PTRACE_CONT, process, nullptr, nullptr);
                held.clear();
            }
            const pid_t process = waitpid(-1, &status, __WALL | (held.empty() ? 0 : WNOHANG));
            if (process == 0) { usleep(1000); continue; }
            if (process < 0 && errno == EINTR) { late = true, kill_all(); continue; }
            if (process < 0) break;  // ECHILD: all have ended
            const bool is_new = std::find(known.begin(), known.end(), process) == known.end();
            if (is_new) known.push_back(process);
            if (!WIFSTOPPED(status)) {
                if (process == first) code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                std::erase(known, process);
                continue;
            }
            const int signal = WSTOPSIG(status), event = status >> 16;
            if (event == PTRACE_EVENT_SECCOMP) enter(process);
            else if (signal == (SIGTRAP | 0x80)) leave(process);
            else ptrace(PTRACE_CONT, process, nullptr, event || (is_new && signal == SIGSTOP) ? 0 : signal);
        }
        alarm(0);
        sigaction(SIGALRM, &before, nullptr);
        Ended ended = {late ? -1 : code, ""};
        (void)try_read_file(said, ended.said);
        return ended;
    }
};
