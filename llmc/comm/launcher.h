// launcher.h: which of how many processes is this one? Launchers say it by environment variables, and options may say it instead.
#pragma once
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include "../base/check.h"

struct Place {
    int rank = 0, world = 1;              // among all processes of the run
    int local_rank = 0, local_world = 1;  // among those on this machine
    std::string by;                       // spawned, options, torchrun, mpirun, mpiexec, srun; empty: this process alone
};

constexpr int GPUS_PER_NODE = 8;    // where nothing says how many ranks a machine has: llm.c's default for -pg
constexpr int MAX_WORLD = 1 << 20;  // more is a mistake, and what is computed from it must not overflow

namespace launcher_detail {
// An unset variable and an empty one are the same: `PMI_SIZE= ./train_gpt2` is how a shell takes one away.
inline const char* variable(const char* name) {
    const char* value = name ? getenv(name) : nullptr;
    return value && *value ? value : nullptr;
}
inline bool parse_count(const char* text, long least, long& count) {
    char* end;
    errno = 0;
    count = strtol(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && count >= least && count <= MAX_WORLD;
}
// The variable's value, or -1 if it is not set.
inline int count_of(const char* name, int least) {
    const char* value = variable(name);
    if (!value) return -1;
    long count;
    if (!parse_count(value, least, count)) die_with(EXIT_USAGE, "%s: '%s' set, must be a whole number from %d to %d", name, value, least, MAX_WORLD);
    return (int)count;
}

struct Launcher { const char *by, *rank, *world, *local_rank, *local_world; };

// Innermost first, as what is started by mpirun on a node of a Slurm job has the variables of both. torchrun stands before those that may
// have started it, once on each node; RANK and WORLD_SIZE by themselves stand last, as container platforms set them for a whole container.
// SLURM_NTASKS is not here: a batch script's shell has it too, and that runs its commands once.
inline constexpr Launcher SPAWNED = {"spawned", "LLMC_RANK", "LLMC_WORLD", "LLMC_LOCAL_RANK", "LLMC_LOCAL_WORLD"};
inline constexpr Launcher TORCHRUN = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
inline constexpr Launcher MPIRUN = {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
inline constexpr Launcher MPIEXEC = {"mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
inline constexpr Launcher MVAPICH = {"mpirun_rsh", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"};
inline constexpr Launcher JSRUN = {"jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_LOCAL_SIZE"};
inline constexpr Launcher SRUN = {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr};

// How many tasks Slurm started on a node: entry `node` of a list like "8(x2),4", which stands for 8, 8, 4. -1: there is no such entry.
inline int slurm_tasks_on_node(const char* list, int node) {
    for (const char* at = list; at && *at;) {
        int tasks = 0, times = 1, used = 0;
        if (sscanf(at, "%d%n", &tasks, &used) != 1 || tasks < 1 || tasks > MAX_WORLD) return -1;
        at += used, used = 0;
        if (*at == '(') {
            if (sscanf(at, "(x%d)%n", &times, &used) != 1 || used == 0 || times < 1) return -1;
            at += used;
        }
        if (node < times) return tasks;
        node -= times;
        if (*at && *at++ != ',') return -1;
    }
    return -1;
}

// Ranks fill one machine after the other.
inline void place_in_blocks(Place& p, int gpus_per_node) {
    const int per_node = gpus_per_node > 0 ? gpus_per_node : GPUS_PER_NODE;
    p.local_rank = p.rank % per_node;
    p.local_world = std::min(per_node, p.world - (p.rank - p.local_rank));
}

// What a launcher's variables say; false: it is not this one that started us.
inline bool read_launcher(const Launcher& l, Place& p, int gpus_per_node) {
    const int world = count_of(l.world, 1), rank = count_of(l.rank, 0);
    if (world < 0) return false;
    if (rank < 0 && world > 1) die_with(EXIT_USAGE, "%s: %d set, but not %s: which of them is this process?", l.world, world, l.rank);
    p.rank = std::max(rank, 0), p.world = world, p.by = l.by;
    if (p.rank >= world) die_with(EXIT_USAGE, "%s: %d set, must be below %s %d", l.rank, p.rank, l.world, world);
    int local_rank = count_of(l.local_rank, 0), local_world = count_of(l.local_world, 1);
    // a library of PMI has no such variables where Slurm starts the processes; Slurm has
    const bool slurm = &l == &SRUN || (&l == &MPIEXEC && count_of(SRUN.rank, 0) == p.rank && count_of(SRUN.world, 1) == world);
    if (slurm && local_rank < 0) local_rank = count_of(SRUN.local_rank, 0);
    if (slurm && local_world < 0) {
        const char* tasks = variable("SLURM_STEP_TASKS_PER_NODE");
        const int node = std::max(count_of("SLURM_NODEID", 0), 0);
        if (tasks && (local_world = slurm_tasks_on_node(tasks, node)) < 0)
            die_with(EXIT_USAGE, "SLURM_STEP_TASKS_PER_NODE: '%s' set, says nothing of node %d", tasks, node);
    }
    place_in_blocks(p, gpus_per_node);
    if (local_rank >= 0) p.local_rank = local_rank, p.local_world = std::max(p.local_world, local_rank + 1);
    if (local_world >= 0) p.local_world = local_world;
    if (p.local_rank >= p.local_world || p.local_world > world)
        die_with(EXIT_USAGE, "%s: rank %d of %d cannot be process %d of %d on its machine", l.by, p.rank, world, p.local_rank, p.local_world);
    return true;
}

inline Place place_by_launcher(int gpus_per_node) {
    Place p;
    const bool torchrun = variable("TORCHELASTIC_RUN_ID") && variable(TORCHRUN.rank);
    if (torchrun && read_launcher(TORCHRUN, p, gpus_per_node)) return p;
    for (const Launcher* l : {&MPIRUN, &MVAPICH, &JSRUN, &MPIEXEC, &SRUN}) {
        if (!read_launcher(*l, p, gpus_per_node)) continue;
        // PMIx says which rank, and leaves it to the launcher to say of how many: of another launcher that is another number
        const int pmix = count_of("PMIX_RANK", 0);
        if (pmix >= 0 && pmix != p.rank && l == &SRUN)
            die_with(EXIT_USAGE, "PMIX_RANK: %d set, SLURM_PROCID: %d: one launcher inside another, and the inner one does not say how many it started; give --nproc and --rank", pmix, p.rank);
        return p;
    }
    if (variable(TORCHRUN.rank) && read_launcher(TORCHRUN, p, gpus_per_node)) return p;
    if (count_of("PMIX_RANK", 0) >= 0)
        die_with(EXIT_USAGE, "PMIX_RANK: %s set, but nothing says how many processes there are; give --nproc and --rank", variable("PMIX_RANK"));
    return p;
}
}  // namespace launcher_detail

// The options --rank (-1: not given), --nproc (1 or less: not given) and --gpus-per-node (0: not given). A child that this program spawned knows
// its place, whatever its options, which are its parent's; given options may repeat what a launcher says, but not contradict it.
inline Place find_place(int rank, int nproc, int gpus_per_node) {
    using namespace launcher_detail;
    Place p;
    if (read_launcher(SPAWNED, p, gpus_per_node)) return p;
    const bool rank_given = rank >= 0, nproc_given = nproc > 1;
    if (!rank_given && !nproc_given) return place_by_launcher(gpus_per_node);
    if (nproc_given && nproc > MAX_WORLD) die_with(EXIT_USAGE, "--nproc: %d given, must be at most %d", nproc, MAX_WORLD);
    if (nproc_given && rank_given && rank >= nproc) die_with(EXIT_USAGE, "--rank: %d given, must be below --nproc %d", rank, nproc);
    // an outer launcher that does not say of how many is no contradiction to options that say it all
    const bool asks_launcher = !(nproc_given && rank_given && variable("PMIX_RANK") && !variable(SRUN.world) && !variable(MPIRUN.world) && !variable(MPIEXEC.world));
    if (asks_launcher) p = place_by_launcher(gpus_per_node);
    if (p.world > 1) {
        if (nproc_given && nproc != p.world) die_with(EXIT_USAGE, "--nproc: %d given, but %s started %d processes", nproc, p.by.c_str(), p.world);
        if (rank_given && rank != p.rank) die_with(EXIT_USAGE, "--rank: %d given, but %s says that this process is rank %d of %d", rank, p.by.c_str(), p.rank, p.world);
        if (nproc_given && rank_given) p.by = "options";
        return p;  // the launcher knows better than --gpus-per-node what is on this machine
    }
    if (!nproc_given) {
        if (rank > 0) die_with(EXIT_USAGE, "--rank: %d given, must be below --nproc %d", rank, std::max(nproc, 1));
        return p;
    }
    if (!rank_given) die_with(EXIT_USAGE, "--nproc: %d given, but not --rank, and no launcher says which of them this process is", nproc);
    p = {.rank = rank, .world = nproc, .by = "options"};
    place_in_blocks(p, gpus_per_node);
    return p;
}

// Before MPI starts: ranks of `srun` without PMI cannot find each other. OpenMPI ends there with a page of its own, which blames how it was built.
inline void refuse_srun_without_pmi(const Place& p) {
    if (p.by != "srun") return;  // PMI_SIZE would have made it mpiexec
    for (char** variable = environ; *variable; variable++) if (!strncmp(*variable, "PMI", 3)) return;  // PMIX_RANK; PMI_ and PMI2_ of others
    die_with(EXIT_USAGE, "srun: %d processes, but nothing of PMI, by which MPI finds the others: srun --mpi=pmix; srun --mpi=list shows what this Slurm has", p.world);
}
// MPI's own view of the world, once it is up: `srun` without PMI starts as many worlds of one as there are tasks, and each would train alone.
inline void refuse_other_world(const Place& p, int mpi_rank, int mpi_world) {
    if (mpi_world == p.world && mpi_rank == p.rank) return;
    const char* hint = p.by == "srun" && mpi_world == 1 ? "; srun --mpi=list shows what this Slurm has, srun --mpi=pmix or pmi2 is usual" : "";
    die_with(EXIT_USAGE, "%s: this process is rank %d of %d, but for MPI rank %d of %d%s", p.by.empty() ? "no launcher" : p.by.c_str(), p.rank, p.world, mpi_rank, mpi_world, hint);
}

// Text that all ranks of a run have alike and no other run has, empty where the launcher leaves none. LLMC_RUN_ID goes before it.
inline std::string run_id_of(const Place& p) {
    using launcher_detail::variable;
    const auto text = [](const char* name) -> std::string { const char* value = variable(name); return value ? value : ""; };
    if (variable("LLMC_RUN_ID")) return text("LLMC_RUN_ID");
    if (p.by == "srun" || p.by == "mpiexec") {
        if (variable("SLURM_JOB_ID") && variable("SLURM_STEP_ID"))
            return "slurm " + text("SLURM_JOB_ID") + "." + text("SLURM_STEP_ID") + " restart " + (variable("SLURM_RESTART_COUNT") ? text("SLURM_RESTART_COUNT") : "0");
    }
    if (p.by == "mpirun") return text("PMIX_NAMESPACE");  // of the PMIx server of this mpirun
    if (p.by == "torchrun" && variable("TORCHELASTIC_RUN_ID")) return "torchrun " + text("TORCHELASTIC_RUN_ID") + " restart " + text("TORCHELASTIC_RESTART_COUNT");
    return "";
}

// host:port where rank 0 can listen, by torchrun's variables, or empty. MASTER_PORT itself is torchrun's: its agent listens there.
inline std::string server_of_launcher() {
    using namespace launcher_detail;
    const char* host = variable("MASTER_ADDR");
    if (!host) return "";
    const std::string name = strchr(host, ':') ? format("[%s]", host) : host;
    const char* text = variable("MASTER_PORT");
    long port;
    if (!text) return name;
    if (!parse_count(text, 1, port) || port > 65535) die_with(EXIT_USAGE, "MASTER_PORT: '%s' set, must be a whole number from 1 to 65535", text);
    if (variable("TORCHELASTIC_RUN_ID")) port += port < 65535 ? 1 : -1;
    return name + ":" + std::to_string(port);
}
