// test_limits.cpp: how many cores and how much memory a process may use, by what control groups say.
#include <fstream>
#include "../../llmc/base/limits.h"
#include "../../llmc/io/files.h"
#include "../test.h"

TEST(cores_of_a_control_group) {
    const std::string root = "build/tmp/cgroup_test";
    remove_tree(root), make_folders(root + "/a/b"), make_folders(root + "/cpu/d");
    const auto put = [&](const char* file, const char* text) { std::ofstream(root + file) << text; };
    const auto cores = [&](const char* groups) { return quota_cores(groups, root); };
    EXPECT(cores("0::/a/b\n") > 1e9 && cores("") > 1e9 && cores("nonsense\n0:\n") > 1e9);
    put("/a/b/cpu.max", "max 100000\n");
    EXPECT(cores("0::/a/b\n") > 1e9);
    put("/a/b/cpu.max", "150000 100000\n");
    EXPECT_EQ(cores("0::/a/b\n"), 1.5);
    put("/a/cpu.max", "50000 100000\n");  // of the group above
    EXPECT_EQ(cores("0::/a/b\n"), 0.5);
    put("/cpu.max", "20000 100000\n");    // in a container: of the root that it sees
    EXPECT_EQ(cores("0::/\n"), 0.2);
    put("/cpu/d/cpu.cfs_quota_us", "-1\n"), put("/cpu/d/cpu.cfs_period_us", "100000\n");
    EXPECT(cores("12:memory:/m\n4:cpu,cpuacct:/d\n") > 1e9);
    put("/cpu/d/cpu.cfs_quota_us", "300000\n");
    EXPECT_EQ(cores("12:memory:/m\n4:cpu,cpuacct:/d\n"), 3.0);
    EXPECT(cores("4:cpuset:/d\n") > 1e9);
    EXPECT(usable_cores() >= 1);
}

TEST(memory_limit_of_a_control_group) {
    const std::string root = "build/tmp/cgroup_test";
    remove_tree(root), make_folders(root + "/a/b"), make_folders(root + "/memory/d");
    const auto put = [&](const char* file, const char* text) { std::ofstream(root + file) << text; };
    const auto bytes = [&](const char* groups) { return limited_bytes(groups, root); };
    put("/a/b/memory.max", "max\n"), put("/a/b/cpu.max", "150000 100000\n");
    EXPECT(bytes("0::/a/b\n") > 1e20);
    put("/a/b/memory.max", "8589934592\n");
    EXPECT_EQ(bytes("0::/a/b\n"), 8589934592.0);
    put("/a/memory.max", "4096\n");
    EXPECT_EQ(bytes("0::/a/b\n"), 4096.0);
    put("/memory/d/memory.limit_in_bytes", "9223372036854771712\n");  // version 1 where there is no limit
    EXPECT(bytes("4:cpu,cpuacct:/d\n12:memory:/d\n") > 1e20);
    put("/memory/d/memory.limit_in_bytes", "1000000\n");
    EXPECT_EQ(bytes("4:cpu,cpuacct:/d\n12:memory:/d\n"), 1e6);
    EXPECT(bytes("4:cpu:/d\n") > 1e20);
    EXPECT(usable_memory(2) <= usable_memory(1) / 2 + 1 && usable_memory(1) > 1e6);
}
