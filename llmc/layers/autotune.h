// autotune.h: where the choices come from with which a warm-up begins. Other algorithms round differently: a run keeps its own.
#pragma once
#include <string>
#include <vector>

struct Autotune {
    std::string cache;                    // folder of the autotune cache of this machine; empty: ~/.cache/llmc
    std::vector<std::string> given = {};  // what another run or rank chose: autotuned_choices() there
    bool complete = false;                // it needed no others, and where all of them can be used, neither do we
};
