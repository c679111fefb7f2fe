// cores.h: how many cores this process may use at a time: what its affinity allows, and no more than its control group's quota, which a container
// with `--cpus 2` has on a machine of 64 cores: more threads than that would only be stopped in turn.
#pragma once
#include <sched.h>
#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

// Cores that the quotas of a control group and of those above it allow, infinity if none does. `groups` is the text of /proc/self/cgroup, `root`
// where the groups are mounted. Version 2: "0::/path" and cpu.max, "quota period" or "max period" in microseconds (Linux,
// Documentation/admin-guide/cgroup-v2.rst); version 1: "4:cpu,cpuacct:/path" and cpu.cfs_quota_us, -1 if there is none.
inline double quota_cores(const std::string& groups, const std::string& root) {
    double least = 1e30;
    const auto limit = [&](double quota, double period) { if (quota > 0 && period > 0) least = std::min(least, quota / period); };
    std::istringstream lines(groups);
    for (std::string line; std::getline(lines, line);) {
        const size_t first = line.find(':'), second = first == line.npos ? first : line.find(':', first + 1);
        if (second == line.npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool version2 = controllers.empty();
        if (!version2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
        for (std::string path = line.substr(second + 1);; path = path.substr(0, path.rfind('/'))) {  // the group, then those above it
            if (path == "/") path = "";
            const std::string folder = root + (version2 ? "" : "/cpu") + path;
            double quota = 0, period = 0;
            if (version2) std::ifstream(folder + "/cpu.max") >> quota >> period;  // "max" is no number: quota stays 0
            else std::ifstream(folder + "/cpu.cfs_quota_us") >> quota, std::ifstream(folder + "/cpu.cfs_period_us") >> period;
            limit(quota, period);
            if (path.empty() || path[0] != '/') break;
        }
    }
    return least;
}

#ifdef __linux__
inline int usable_cores() {
    cpu_set_t set;
    const int affinity = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)std::thread::hardware_concurrency();
    std::ostringstream groups;
    groups << std::ifstream("/proc/self/cgroup").rdbuf();
    return std::max((int)std::min((double)affinity, quota_cores(groups.str(), "/sys/fs/cgroup")), 1);
}
#else
inline int usable_cores() { return std::max((int)std::thread::hardware_concurrency(), 1); }
#endif
