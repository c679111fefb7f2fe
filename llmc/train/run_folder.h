// run_folder.h: the folder that a run writes to: which, and ours alone for the whole run.
#pragma once
#include <memory>
#include <string>
#include "../io/checkpoint.h"
#include "../io/run_lock.h"
#include "options.h"

// What an earlier run was writing when it was killed. The lock is ours.
inline void clear_leftovers(const std::string& out) {
    for (const char* folder : {"", "/tokens"}) remove_leftovers(out + folder);
}

// Dies, before anything is written, if another process runs there or an earlier run's checkpoints would be overwritten.
inline std::shared_ptr<RunLock> lock_folder(const std::string& out, bool resume) {
    auto lock = std::make_shared<RunLock>();
    if (std::string holder = lock->take(out); !holder.empty())
        die_with(EXIT_USAGE, "--out: %s; wait for it, or give another --out", holder.c_str());
    if (!resume && !list_checkpoints(out).empty())
        die_with(EXIT_USAGE, "--out: %s holds checkpoints of an earlier run; --resume 1 goes on from the newest, another "
                 "--out starts afresh", out.c_str());
    clear_leftovers(out);
    return lock;
}

// The first of out, out2, out3, ... that no run has used. mkdir and the lock decide between runs that start at the same time.
inline std::string take_free_folder(std::shared_ptr<RunLock>& lock) {
    for (int i = 1;; i++) {
        const std::string out = i == 1 ? "out" : "out" + std::to_string(i);
        struct stat info;
        const bool missing = stat(out.c_str(), &info) != 0;
        if (!missing && (!S_ISDIR(info.st_mode) || access(out.c_str(), W_OK | X_OK))) continue;
        auto used = [&] { return access((out + "/main.log").c_str(), F_OK) == 0 || !list_checkpoints(out).empty(); };
        if (!missing && used()) continue;
        auto mine = std::make_shared<RunLock>();
        if (!mine->take(out).empty() || used()) continue;  // another run was faster, and may have ended already
        clear_leftovers(out);
        return lock = mine, out;
    }
}
