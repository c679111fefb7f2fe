// run_folder.h: the folder that a run writes to: which, and ours alone for the whole run.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <memory>
#include <string>
#include "../io/checkpoint.h"
#include "../io/run_lock.h"
#include "agree.h"
#include "named_files.h"
#include "options.h"
#include "run.h"

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

namespace run_detail {
// An existing folder is locked before it is looked at, but for --plan, which writes nothing; a new one is made by make_out, when all that can be
// wrong has been found. Rank 0 holds the lock for all.
inline void choose_out(Run& run) {
    const Options& opt = run.opt;
    run.out = opt.out.empty() && opt.resume ? "out" : opt.out.substr(0, std::max<size_t>(opt.out.find_last_not_of('/') + 1, opt.out.starts_with('/')));  // without slashes at its end
    struct stat there;
    if (run.comm.rank == 0 && !run.out.empty() && stat(run.out.c_str(), &there) == 0) {
        if (!S_ISDIR(there.st_mode)) die_with(EXIT_USAGE, "--out: %s is a %s, must be a folder, or a name that is free", run.out.c_str(), S_ISREG(there.st_mode) ? "file" : kind_of_no_file(run.out).c_str());
        if (is_file(run.out + "/config.json") && is_file(run.out + "/model.safetensors"))  // what a run writes there would be among its files
            die_with(EXIT_USAGE, "--out: %s is a model, or a checkpoint, must be the folder of a run%s", run.out.c_str(),
                     is_file(run.out + "/trainer.json") ? (", as " + parent_folder(run.out) + " is").c_str() : "");
    }
    struct stat out, replayed;
    if (run.comm.rank == 0 && !opt.replay.empty() && !stat(run.out.c_str(), &out) && !stat(opt.replay.c_str(), &replayed) && out.st_dev == replayed.st_dev && out.st_ino == replayed.st_ino)
        die_with(EXIT_USAGE, "--out: %s is the run that --replay repeats, must be another folder", run.out.c_str());
    if (run.comm.rank == 0 && !run.out.empty() && is_folder(run.out) && opt.plan.empty()) run.lock = lock_folder(run.out, opt.resume);
    if (run.comm.broadcast(run.lock != nullptr)) check_shared_out(run.comm, run.out);  // before anything is looked for in it
}
inline void make_out(Run& run) {
    const Options& opt = run.opt;
    if (run.comm.rank == 0) {
        if (run.out.empty() && opt.steps != 0) run.out = take_free_folder(run.lock);
        if (!run.out.empty() && !run.lock) run.lock = lock_folder(run.out, opt.resume);
        if (!run.out.empty() && !opt.resume) repair_done(run.out, -1);
    }
    run.out = run.comm.broadcast(run.out);  // empty: nothing is trained, and nothing written
    check_shared_out(run.comm, run.out);
}
}  // namespace run_detail
