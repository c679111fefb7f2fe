// peak.cuh: peak FLOP/s of this GPU, measured where its data sheet is not known.
#pragma once
#include <algorithm>
#include <cmath>
#include "matmul.cuh"

namespace matmul_detail {
template <class F> __global__ void fill_kernel(F* x, size_t n) {  // random-looking numbers: with zeros a GPU takes less power and runs at a higher clock
    pdl_wait();
    const size_t i = thread_index();
    if (i < n) x[i] = from_float<F>((float)((uint32_t)i * 2654435761u >> 8) * 0x1p-24f - 0.5f);
}
}  // namespace matmul_detail

// FLOP/s of one large matrix product by the fastest of the library's algorithms: each runs at least three times, all of them for `seconds`.
// Memory is allocated for it and freed.
template <class F> double measure_peak_flops(double seconds, bool tf32 = true) {
    using namespace matmul_detail;
    const int side = device_properties().multiProcessorCount >= 16 ? 8192 : 64;  // fewer SMs: the emulator
    const size_t n = (size_t)side * side;
    F* memory = (F*)device_alloc(3 * n * sizeof(F));
    void* workspace = device_alloc(LIBRARY_WORKSPACE);
    stream_t stream = open_stream({.workspace = workspace, .workspace_bytes = LIBRARY_WORKSPACE, .kernels = {.tf32 = tf32}});
    launch(fill_kernel<F>, over(2 * n, 256), stream, memory, 2 * n);
    const Gemm product(memory + 2 * n, memory, memory + n, side, side, side, true, false, CUBLASLT_EPILOGUE_DEFAULT, {}, stream);
    product.run();
    const GemmPlan& plan = plan_for(product.shape);
    double best = INFINITY, spent = 0;
    for (int turn = 0; turn < 3 || spent < seconds; turn++)
        for (const Algorithm& algorithm : plan.algorithms) {
            bool runs = true;
            const double ms = fastest_ms(1, stream, [&] { runs = product.run_by(plan, algorithm) == CUBLAS_STATUS_SUCCESS; });
            spent += 1e-3 * ms;
            if (turn > 0 && runs) best = std::min(best, ms);  // turn 0 loads kernels
        }
    CUDA_CHECK(cudaStreamDestroy(stream));
    CUDA_CHECK(cudaFree(workspace));
    CUDA_CHECK(cudaFree(memory));
    return 2e3 * (double)n * side / best;
}
