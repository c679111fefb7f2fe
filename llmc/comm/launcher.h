// launcher.h: was this process started as one of several, by mpirun, srun or torchrun?
#pragma once
#include <cstdlib>
#include "../base/check.h"

// As many runs as processes would write to one folder, each with all of the data.
inline void refuse_launcher() {
    struct Variable { const char *name, *with, *by; };
    // SLURM_NTASKS is not among them: a batch script's shell has it too, and that runs its commands once
    const Variable variables[] = {{"OMPI_COMM_WORLD_SIZE", nullptr, "mpirun"}, {"PMI_SIZE", nullptr, "mpiexec"},
                                  {"SLURM_STEP_NUM_TASKS", nullptr, "srun"}, {"WORLD_SIZE", "RANK", "torchrun"}};
    for (const Variable& v : variables) {
        const char* value = getenv(v.name);
        if (!value || (v.with && !getenv(v.with))) continue;
        char* end;
        const long processes = strtol(value, &end, 10);
        if (end != value && processes > 1)
            die_with(EXIT_USAGE, "%s: %ld set (by %s?), must be 1 or unset: this build has no communicator for several processes; start one", v.name, processes, v.by);
    }
}
