// sass.cpp: looks at the machine code of kernels (sass.h). Prints what their main loops consist of; fails if a kernel for sm_90 or newer, which may be
// launched while the one before it still runs, touches global memory before it has waited for that one.
//     nvdisasm -c CUBIN | build/sass ARCH KERNELS        KERNELS: how many there must be
#include <cstdio>
#include <iostream>
#include "sass.h"

int main(int argc, char** argv) {
    if (argc != 3) die_with(EXIT_USAGE, "usage: nvdisasm -c CUBIN | sass ARCH KERNELS");
    const int arch = atoi(argv[1]), expected = atoi(argv[2]);
    const std::vector<sass::Kernel> kernels = sass::read(std::cin);
    CHECK((int)kernels.size() == expected, "sass: sm_%d: %zu kernels where the compiler made %d", arch, kernels.size(), expected);
    int early = 0;
    for (const sass::Kernel& kernel : kernels) {
        for (const sass::Loop& loop : sass::main_loops(kernel))
            printf("sm_%d  loop depth %d  %5d instructions  %4d HMMA  %4d LDSM  %s\n", arch, loop.depth, loop.instructions, loop.hmma, loop.ldsm, kernel.name.c_str());
        const sass::Instruction* access = arch >= 90 ? sass::access_before_wait(kernel) : nullptr;
        if (access) printf("sm_%d: %s touches global memory before it has waited: %s\n", arch, kernel.name.c_str(), access->text.c_str());
        early += access != nullptr;
    }
    if (arch >= 90 && early == 0) printf("sm_%d: %d kernels wait before they touch global memory\n", arch, expected);
    return early > 0;
}
