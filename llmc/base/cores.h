// cores.h: how many cores this process may use at a time: what its affinity allows, and no more than its control group's quota, which a container
// with `--cpus 2` has on a machine of 64 cores: more threads than that would only be stopped in turn.
#pragma once
#include <sched.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <string>

namespace cores_detail {
// The beginning of a small file, "" if there is none.
inline std::string read_text(const std::string& path) {
    char text[16384];
    FILE* file = fopen(path.c_str(), "r");
    if (!file) return "";
    const size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    return std::string(text, n);
}
}  // namespace cores_detail

// Cores that the quotas of a control group and of those above it allow, infinity if none does. `groups` is the text of /proc/self/cgroup, `root`
// where the groups are mounted. Version 2: "0::/path" and cpu.max, "quota period" or "max period" in microseconds (Linux,
// Documentation/admin-guide/cgroup-v2.rst); version 1: "4:cpu,cpuacct:/path" and cpu.cfs_quota_us, -1 if there is none.
inline double quota_cores(const std::string& groups, const std::string& root) {
    using namespace cores_detail;
    double least = 1e30;
    const auto limit = [&](double quota, double period) { if (quota > 0 && period > 0) least = std::min(least, quota / period); };
    for (size_t begin = 0, end; begin < groups.size(); begin = end + 1) {
        end = std::min(groups.find('\n', begin), groups.size());
        const std::string line = groups.substr(begin, end - begin);
        const size_t first = line.find(':'), second = first == line.npos ? first : line.find(':', first + 1);
        if (second == line.npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool version2 = controllers.empty();
        if (!version2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
        for (std::string path = line.substr(second + 1);; path = path.substr(0, path.rfind('/'))) {  // the group, then those above it
            if (path == "/") path = "";
            const std::string folder = root + (version2 ? "" : "/cpu") + path;
            const std::string text = version2 ? read_text(folder + "/cpu.max") : read_text(folder + "/cpu.cfs_quota_us") + " " + read_text(folder + "/cpu.cfs_period_us");
            double quota = 0, period = 0;
            if (sscanf(text.c_str(), "%lf %lf", &quota, &period) == 2) limit(quota, period);  // "max" is no number
            if (path.empty() || path[0] != '/') break;
        }
    }
    return least;
}

#ifdef __linux__
inline int usable_cores() {
    cpu_set_t set;
    const int affinity = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return std::max((int)std::min((double)affinity, quota_cores(cores_detail::read_text("/proc/self/cgroup"), "/sys/fs/cgroup")), 1);
}
#else
inline int usable_cores() { return std::max((int)sysconf(_SC_NPROCESSORS_ONLN), 1); }
#endif
