// cuda_on_cpu.h: by this file sources know that their CUDA is emulated; and what a test may ask of the emulator:
//     emu::set_seed(n)        another order of threads, blocks and streams
//     emu::fail_call(n)       the n-th call of the runtime from now on fails
//     emu::protects() = true  host code that touches device memory ends the program with a line
//     emu::code_version() = n kernels are as if compiled for sm_n alone: 80, and there are no griddepcontrol_*; emu::code_versions()[kernel]: one
//     emu::listener() = f     f is told of every call, every wait of the host and everything the device does (listen.h)
//     emu::runs = f           f is asked before each kernel, with its grid and arguments, whether it runs
//     emu::traffic()          bytes that the last kernel read and wrote, in the watched build
#pragma once
#include "cuda_runtime.h"

namespace emu {
inline bool watched() { return g_watcher != nullptr; }
inline Traffic traffic() { return g_watcher ? g_watcher->traffic() : Traffic{}; }
}  // namespace emu
