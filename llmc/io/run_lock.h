// run_lock.h: one process at a time writes to a folder. The lock is FOLDER/.lock, held with flock, which the kernel drops however the
// process ends; the file says who holds it. Where the file system has no flock, it is the file .lock.exclusive, which only one process
// can create: who died holding it is found by host, process id and start time.
#pragma once
#include <sys/file.h>
#include <csignal>
#include <string>
#include <vector>
#include "files.h"

namespace run_lock_detail {
struct Held { std::string folder, file; bool made_folder; pid_t pid; };
inline std::vector<Held>& held() { static std::vector<Held> locks; return locks; }

inline std::string host_name() {
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    return *name ? name : "localhost";
}
struct ProcessInfo {
    char state = 0;                  // Z: has ended, and nobody has asked for its exit code yet
    unsigned long long started = 0;  // in ticks since boot: tells it from a later one with the same id; 0: unknown
};
inline ProcessInfo process_info(long pid) {  // of this host
    std::string text;
    ProcessInfo info;
    if (!try_read_file(format("/proc/%ld/stat", pid), text).empty()) return info;
    size_t end = text.rfind(')');  // behind the name, which may hold anything
    if (end != text.npos) sscanf(text.c_str() + end + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &info.state, &info.started);
    return info;
}
inline unsigned long long start_time(long pid) { return process_info(pid).started; }

struct Holder { char host[256] = ""; long pid = 0; unsigned long long started = 0; };
inline std::string holder_text(long pid) { return format("%s %ld %llu\n", host_name().c_str(), pid, start_time(pid)); }
inline bool parse_holder(const std::string& text, Holder& h) { return sscanf(text.c_str(), "%255s %ld %llu\n", h.host, &h.pid, &h.started) == 3; }

inline bool is_stale(const std::string& text) {
    Holder h;
    if (!parse_holder(text, h) || h.host != host_name()) return false;  // of another host nothing is known
    if (kill((pid_t)h.pid, 0) != 0 && errno == ESRCH) return true;
    const ProcessInfo now = process_info(h.pid);
    return now.state == 'Z' || (now.started && h.started && now.started != h.started);
}
inline std::string in_use(const std::string& folder, const std::string& text) {
    Holder h;
    if (!parse_holder(text, h)) return folder + ": in use by another process";
    return format("%s: in use by process %ld on %s", folder.c_str(), h.pid, h.host);
}
inline bool write_holder(int fd) {
    const std::string text = holder_text(getpid());
    return uninterrupted([&] { return ftruncate(fd, 0); }) == 0 && uninterrupted([&] { return pwrite(fd, text.data(), text.size(), 0); }) == (ssize_t)text.size();
}

inline void forget(const Held& lock, bool remove_empty_folder) {
    if (lock.pid != getpid()) return;  // a child's copy
    unlink(lock.file.c_str());
    if (remove_empty_folder && lock.made_folder) rmdir(lock.folder.c_str());  // fails where something is in it
}
inline void forget_all() { for (const Held& lock : held()) forget(lock, true); }
}  // namespace run_lock_detail

class RunLock {
    std::string folder_;
    int fd_ = -1;
    bool made_folder_ = false, ours_ = false;

    std::string hold(const std::string& file) {
        using namespace run_lock_detail;
        g_before_death = forget_all;
        held().push_back({folder_, file, made_folder_, getpid()});
        ours_ = true;
        return "";
    }

    std::string take_exclusive() {
        using namespace run_lock_detail;
        const std::string file = folder_ + "/.lock.exclusive", aside = file + format(".%d", (int)getpid());
        for (int attempt = 0; attempt < 100; attempt++) {
            int fd = open_file(file, O_RDWR | O_CREAT | O_EXCL);
            if (fd >= 0) {
                CHECK(write_holder(fd) && sync_file(fd) && close_file(fd), "%s", errno_text(file).c_str());
                return hold(file);
            }
            CHECK(errno == EEXIST, "%s", errno_text(file).c_str());
            std::string text, moved;
            if (!try_read_file(file, text).empty()) continue;  // just released
            if (!is_stale(text)) return in_use(folder_, text) + format("; if that is over, remove %s", file.c_str());
            // of several that find it stale one moves it away; who moves the new one's by mistake puts it back
            if (rename(file.c_str(), aside.c_str())) continue;
            if (try_read_file(aside, moved).empty() && moved != text) (void)!link(aside.c_str(), file.c_str());
            unlink(aside.c_str());
        }
        return in_use(folder_, "");
    }

  public:
    RunLock() = default;
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;
    ~RunLock() { release(); }

    // Whether this process holds the lock of that folder, by any RunLock.
    static bool held_here(const std::string& folder) {
        for (const auto& lock : run_lock_detail::held()) if (lock.folder == folder && lock.pid == getpid()) return true;
        return false;
    }

    // Whether a process runs there, without taking the lock, which would refuse a run that begins at that moment. Of one on another host
    // only its file is known.
    static bool is_in_use(const std::string& folder) {
        std::string text;
        for (const char* name : {"/.lock", "/.lock.exclusive"})
            if (try_read_file(folder + name, text).empty() && !run_lock_detail::is_stale(text)) return true;
        return false;
    }

    // "" and the lock is ours, or who holds it. The folder is made if it is missing.
    std::string take(const std::string& folder, int (*lock)(int, int) = flock) {
        using namespace run_lock_detail;
        folder_ = folder;
        make_folders(parent_folder(folder));
        made_folder_ = mkdir(folder.c_str(), 0777) == 0;
        if (made_folder_) fsync_dir(parent_folder(folder));
        else make_folders(folder);  // says what is wrong with it
        const std::string file = folder + "/.lock";
        for (;;) {
            int fd = open_file(file, O_RDWR | O_CREAT);
            CHECK(fd >= 0, "%s", errno_text(file).c_str());
            if (lock(fd, LOCK_EX | LOCK_NB) == 0) {
                struct stat ours, named;  // who held it may have removed the file before we locked it: then it locks nobody out
                if (fstat(fd, &ours) || stat(file.c_str(), &named) || ours.st_ino != named.st_ino || ours.st_dev != named.st_dev) { close(fd); continue; }
                (void)write_holder(fd);  // on a full disk it locks as well, without a name
                fd_ = fd;
                return hold(file);
            }
            const int error = errno;
            close(fd);
            if (error == EINTR) continue;
            if (error == EWOULDBLOCK) {
                std::string text;
                Holder h;
                for (int wait = 0; wait < 50 && !parse_holder(text, h); wait++) usleep(2000), (void)try_read_file(file, text);  // it is about to write it
                return in_use(folder, text);
            }
            unlink(file.c_str());
            CHECK(error == ENOLCK || error == ENOTSUP || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL, "%s: %s", file.c_str(), strerror(error));
            return take_exclusive();
        }
    }

    void release() {
        using namespace run_lock_detail;
        if (!std::exchange(ours_, false)) return;
        auto& locks = held();
        for (size_t i = 0; i < locks.size(); i++) {
            if (locks[i].folder != folder_ || locks[i].pid != getpid()) continue;
            forget(locks[i], false);  // while it is locked: nobody else has this file
            locks.erase(locks.begin() + (long)i);
            break;
        }
        if (fd_ >= 0) close(std::exchange(fd_, -1));
    }
};
