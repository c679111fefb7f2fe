// emu_test.h: what the emulator's own tests share: a launch in a line, a buffer, and the search for a mistake that a kernel makes on purpose.
#pragma once
#include <cuda_on_cpu.h>
#include <string>
#include <vector>
#include "../test.h"

inline const char* name_of(cudaError_t error) { return cudaGetErrorName(error); }
namespace {
#define OK(call) do { const auto e_ = (call); if (e_ != decltype(e_)()) FAIL("%s: %s", #call, name_of(e_)); } while (0)

template <class... P, class... A> cudaError_t run(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t s, A... a) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = s;
    return cudaLaunchKernelEx(&config, kernel, a...);
}
// The same by programmatic dependent launch.
template <class... P, class... A> cudaError_t run_programmatic(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t s, A... a) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization, early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = block, config.attrs = &early, config.numAttrs = 1, config.stream = s;
    return cudaLaunchKernelEx(&config, kernel, a...);
}
// ... behind another kernel, without which it would not come early.
__global__ void before_it() {}
template <class... P, class... A> cudaError_t run_early(void (*kernel)(P...), dim3 grid, dim3 block, A... a) {
    OK(run(before_it, 1, 1, 0, nullptr));
    return run_programmatic(kernel, grid, block, nullptr, a...);
}
template <int WHEN> __global__ void in_turn(int* x) {  // 0: before it touches memory, 1: after, 2: not all threads
    if (WHEN == 2 && threadIdx.x == 0) return;
    if (WHEN != 1) cudaGridDependencySynchronize();
    x[threadIdx.x] = 1;
    if (WHEN == 1) cudaGridDependencySynchronize();
}
template <class X> struct Buffer {
    X* p = nullptr;
    size_t n;
    explicit Buffer(size_t n_) : n(n_) { OK(cudaMalloc(&p, n * sizeof(X))); }
    explicit Buffer(const std::vector<X>& v) : Buffer(v.size()) {
        OK(cudaMemcpy(p, v.data(), n * sizeof(X), cudaMemcpyHostToDevice));
        OK(cudaDeviceSynchronize());  // streams that do not block would not wait for it
    }
    ~Buffer() { cudaFree(p); }
    std::vector<X> values() {
        std::vector<X> v(n);
        OK(cudaDeviceSynchronize());
        OK(cudaMemcpy(v.data(), p, n * sizeof(X), cudaMemcpyDeviceToHost));
        return v;
    }
};

// A mistake must end with an error that is said in a line with `text`, in at least one of some schedules.
template <class Body> void expect_found(const char* name, const char* text, Body body) {
    Outcome last{};
    for (int seed = 1; seed <= 20; seed++) {
        last = run_child([&] {
            emu::set_seed((uint64_t)seed);
            body();
            if (cudaDeviceSynchronize() != cudaSuccess || g_failures) _exit(1);
        });
        if (last.code && last.output.find(text) != std::string::npos) return;
    }
    FAIL("%s: not found: exit code %d, said '%s'", name, last.code, last.output.c_str());
}
// A test of refusals, which say why on stderr: that is shown only when it fails.
template <class Body> void quietly(Body body) {
    Outcome o = run_child([&] { g_failures = 0, body(); if (g_failures) _exit(1); });
    if (o.code) FAIL("exit code %d:\n%s", o.code, o.output.c_str());
}
}  // namespace
