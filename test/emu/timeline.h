// timeline.h: when work would begin and end if all streams ran side by side and the host were ahead: behind whatever it comes after, and as long as a unit
// of time for a kernel or a copy, some for an operation between ranks, nothing for what only marks a place.
//     EMU_TIMELINE=file     file.PID gets a line for each operation: begin, end, stream, name
//     EMU_TIMELINE_NCCL=n   units of an operation between ranks, 8 unless told
#pragma once
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace emu {
inline FILE* timeline_file() {
    static FILE* file = getenv("EMU_TIMELINE") ? fopen((std::string(getenv("EMU_TIMELINE")) + "." + std::to_string(getpid())).c_str(), "w") : nullptr;
    return file;
}
// Returns when it ends.
inline double put_on_timeline(double begin, bool takes_time, const void* stream, const std::string& name) {
    static const double between_ranks = getenv("EMU_TIMELINE_NCCL") ? atof(getenv("EMU_TIMELINE_NCCL")) : 8;
    const double end = begin + (!takes_time ? 0 : name == "nccl" ? between_ranks : 1);
    if (timeline_file()) fprintf(timeline_file(), "%g %g %p %s\n", begin, end, stream, name.c_str()), fflush(timeline_file());
    return end;
}
}  // namespace emu
