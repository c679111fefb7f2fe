// count.h: what a kernel asks of memory, as the grader counts it, for the chapters' own kernels.
//     Counted c = count([&] { launch(kernel, grid, stream, ...); });     printf("%.1f", c.sectors);
#pragma once
#include <sys/wait.h>
#include <unistd.h>
#include <vector>
#include "../../llmc/cuda/tile.cuh"
#include "accesses.h"

struct Counted {
    double sectors;    // of 32 bytes of device memory
    double fewest;     // ... that would hold what each warp asked for at once
    double conflicts;  // turns that warps waited for banks of shared memory
    double bytes;      // that lanes asked for
};
template <class Work> Counted count(Work work) {
    static accesses::Record record;
    record = {};
    accesses::begin(), accesses::record = &record;
    emu::listener() = [](const emu::Event& e) { if (e.kind == emu::Event::WORK) accesses::kernel_ends(); };
    work();
    CUDA_CHECK(cudaDeviceSynchronize());
    emu::listener() = nullptr, accesses::record = nullptr;
    return {(double)record.sectors, (double)record.fewest_sectors, (double)record.conflicts, (double)record.bytes};
}
// Whose kernels come one after the other: they need no pdl_wait().
inline stream_t plain_stream() { return open_stream({.kernels = {.pdl = false}}); }
// n floats of device memory: 0, 1, 2, ...
inline float* numbers(size_t n) {
    float* p = (float*)device_alloc(n * sizeof(float));
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)i;
    CUDA_CHECK(cudaMemcpy(p, x.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    return p;
}
inline std::vector<float> on_host(const float* p, size_t n) {
    std::vector<float> x(n);
    CUDA_CHECK(cudaMemcpy(x.data(), p, n * sizeof(float), cudaMemcpyDeviceToHost));
    return x;
}
// In a process of its own: a mistake that is shown leaves the device broken.
inline void apart(void (*block)()) {
    const pid_t child = fork();
    if (child == 0) block(), fflush(stdout), _exit(0);
    CHECK(child > 0, "fork: %s", strerror(errno));
    waitpid(child, nullptr, 0);
}
