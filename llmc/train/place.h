// place.h: which of a run's processes this one is, how many it starts, and where those of a plan would be.
#pragma once
#include <algorithm>
#include <string>
#include "../backend.h"
#include "../base/check.h"
#include "../base/limits.h"
#include "../comm/connect.h"
#include "../comm/launcher.h"
#include "../comm/visible_gpus.h"
#include "options.h"

// Which of the run's processes this one is; --plan is of many and alone.
inline Place place_of(const Options& opt) {
    if (!opt.plan.empty()) return {};
    const Place place = find_place(was_given(opt, "rank") ? opt.rank : -1, opt.nproc, was_given(opt, "gpus_per_node") ? opt.gpus_per_node : 0);
    if (place.by == "spawned") return place;
    const int n = std::max(opt.ranks, opt.gpus);
    const char* option = opt.ranks > 1 ? "--ranks" : "--gpus";
    if (n > 1 && place.world > 1) die_with(EXIT_USAGE, "%s: %d given, but this is one of %d processes (%s) already", option, n, place.world, place.by.c_str());
    if (n > 1 && was_given(opt, "nproc")) die_with(EXIT_USAGE, "%s: %d given, but --nproc is %d", option, n, opt.nproc);
    return place;
}
// How many ranks this process starts, and does nothing else; 1: none, it is the run. A chat is one process, and so is what a launcher has started, unless told
// (`srun --pty bash` leaves its variables to whoever types there).
inline int ranks_to_start(const Options& opt, const Place& place) {
    const bool given = was_given(opt, RANKS_ARE_GPUS ? "ranks" : "gpus");
    if (given && opt.plan.empty()) die_with(EXIT_USAGE, RANKS_ARE_GPUS ? "--ranks: given, but ranks are GPUs here: --gpus" : "--gpus: given, but this program trains on a CPU: --ranks");
    if (!opt.plan.empty() || !opt.chat.empty() || place.world > 1 || place.by == "spawned") return 1;
    const int told = RANKS_ARE_GPUS ? opt.gpus : opt.ranks;
    return told > 0 ? told : !place.by.empty() || was_given(opt, "nproc") ? 1 : std::max(visible_gpus(), 1);
}

// How GPUs find each other. MPI's launcher is not there under torchrun, whose variables name rank 0's machine.
inline Meeting meeting_of(const Options& opt, const Place& place) {
    if (!RANKS_ARE_GPUS && place.world > 1 && opt.init != "mpi") die_with(EXIT_USAGE, "--init: '%s' given, must be left out: it is for GPUs; ranks on a CPU are started by mpirun or --ranks", opt.init.c_str());
    const bool tcp = place.by == "torchrun" && !was_given(opt, "init");
    if (!tcp && opt.init != "tcp" && !opt.secret_file.empty()) die_with(EXIT_USAGE, "--secret-file: '%s' given, must be left out: it has no effect without --init tcp", opt.secret_file.c_str());
    const bool meets = place.world > 1;  // --plan meets nobody: the file may be on other machines alone
    return {tcp ? "tcp" : opt.init, opt.server, opt.fs_path, meets && !opt.secret_file.empty() ? read_secret(opt.secret_file) : ""};
}

// As ranks_of_each_node (open.h) would find them.
inline int planned_ranks_of_each_node(const Options& opt) {
    const int G = opt.gpus_per_node;
    return G > 1 && opt.nproc > G && opt.nproc % G == 0 && (G & (G - 1)) == 0 ? G : 0;
}

// As cores_of_rank (open.h) would find them.
inline int planned_cores_of_rank(const Options& opt) { return std::max(usable_cores() / std::min(opt.nproc, opt.gpus_per_node), 1); }
