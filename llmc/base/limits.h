// limits.h: how many cores and how much memory this process may use. A container with `--cpus 2 --memory 8g` on a machine of 64 cores sees all that the
// machine has; threads beyond its quota would be stopped in turn, and memory beyond its limit ends the process.
#pragma once
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <string>
#include "check.h"

namespace limits_detail {
// The beginning of a small file, "" if there is none.
inline std::string read_text(const std::string& path) {
    char text[16384];
    FILE* file = fopen(path.c_str(), "r");
    if (!file) return "";
    const size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    return std::string(text, n);
}

// look(folder, is_version_2) of each control group that this process is in for a controller, and of those above it. `groups` is the text of
// /proc/self/cgroup, `root` where the groups are mounted. Lines: "0::/path" of version 2 (Linux, Documentation/admin-guide/cgroup-v2.rst),
// "4:cpu,cpuacct:/path" of version 1.
template <class Look> void for_each_group(const std::string& groups, const std::string& root, const std::string& controller, const Look& look) {
    for (size_t begin = 0, end; begin < groups.size(); begin = end + 1) {
        end = std::min(groups.find('\n', begin), groups.size());
        const std::string line = groups.substr(begin, end - begin);
        const size_t first = line.find(':'), second = first == line.npos ? first : line.find(':', first + 1);
        if (second == line.npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool version2 = controllers.empty();
        if (!version2 && ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
        for (std::string path = line.substr(second + 1);; path = path.substr(0, path.rfind('/'))) {
            if (path == "/") path = "";
            look(root + (version2 ? "" : "/" + controller) + path, version2);
            if (path.empty() || path[0] != '/') break;
        }
    }
}
}  // namespace limits_detail

// In main: a stack that ends is a crash without a word. Threads of the team have their own 8 MB (threads.h), the first one what the shell gives it.
inline void check_stack() {
    constexpr rlim_t LEAST = 1 << 20;  // the largest frame, of attention's backward, takes 643 KB by -Wframe-larger-than
    rlimit stack;
    if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur < LEAST)
        die_with(EXIT_USAGE, "ulimit -s: the stack is %llu KB, must be at least %llu", (unsigned long long)stack.rlim_cur / 1024, (unsigned long long)LEAST / 1024);
}

// Cores that the quotas of these groups allow, 1e30 if none does: cpu.max, "quota period" or "max period" in microseconds; version 1: cpu.cfs_quota_us, -1 if
// there is none.
inline double quota_cores(const std::string& groups, const std::string& root) {
    using namespace limits_detail;
    double least = 1e30;
    for_each_group(groups, root, "cpu", [&](const std::string& folder, bool version2) {
        const std::string text = version2 ? read_text(folder + "/cpu.max") : read_text(folder + "/cpu.cfs_quota_us") + " " + read_text(folder + "/cpu.cfs_period_us");
        double quota = 0, period = 0;
        if (sscanf(text.c_str(), "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) least = std::min(least, quota / period);  // "max" is no number
    });
    return least;
}
// Bytes that these groups may use, 1e30 if none has a limit: memory.max, a number or "max"; version 1: memory.limit_in_bytes, about 2^63 if there is none.
inline double limited_bytes(const std::string& groups, const std::string& root) {
    using namespace limits_detail;
    double least = 1e30;
    for_each_group(groups, root, "memory", [&](const std::string& folder, bool version2) {
        double bytes = 0;
        if (sscanf(read_text(folder + (version2 ? "/memory.max" : "/memory.limit_in_bytes")).c_str(), "%lf", &bytes) == 1 && bytes < 0x1p62) least = std::min(least, bytes);
    });
    return least;
}

#ifdef __linux__
inline int usable_cores() {
    cpu_set_t set;
    const int affinity = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return std::max((int)std::min((double)affinity, quota_cores(limits_detail::read_text("/proc/self/cgroup"), "/sys/fs/cgroup")), 1);
}
#else
inline int usable_cores() { return std::max((int)sysconf(_SC_NPROCESSORS_ONLN), 1); }
#endif

// Bytes of each of so many processes that share this machine: of its memory, or of the control group's, and no more than `ulimit -v` still leaves.
inline double usable_memory(int processes) {
    double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    bytes = std::min(bytes, limited_bytes(limits_detail::read_text("/proc/self/cgroup"), "/sys/fs/cgroup")) / processes;
    rlimit addresses;
    double mapped = 0;  // pages
    if (getrlimit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur != RLIM_INFINITY && sscanf(limits_detail::read_text("/proc/self/statm").c_str(), "%lf", &mapped) == 1)
        bytes = std::min(bytes, std::max((double)addresses.rlim_cur - mapped * (double)sysconf(_SC_PAGESIZE), 0.0));
    return bytes;
}
