// global_norm.cuh: the square of the length of all gradients taken as one vector.
#pragma once
#include <cstddef>
#include "device.cuh"

namespace global_norm_detail {
// As many blocks on any GPU, so that the order of the sum is always the same. 1024 x 256 threads are all that 128 SMs
// hold at once; fewer blocks do where there is less than 16 bytes for each thread.
constexpr unsigned PARTS = 1024, THREADS = 256;

// parts[block] = sum of what its threads meet, 16 bytes at a time
__global__ void __launch_bounds__(THREADS) norm_parts_kernel(double* parts,       // (PARTS)
                                                             const float* grads,  // (n)
                                                             size_t n) {
    wait_for_turn();
    constexpr size_t SIZE = Pack<float>::SIZE;
    const size_t whole = n / SIZE * SIZE, first = thread_index() * SIZE, stride = gridDim.x * THREADS * SIZE;
    double sum = 0;
    #pragma unroll 4  // 64 bytes on their way at once
    for (size_t i = first; i < whole; i += stride) {
        const Pack<float> g = load_pack(grads + i);
        for (int k = 0; k < (int)SIZE; k++) sum += (double)g[k] * (double)g[k];
    }
    if (first == 0) for (size_t i = whole; i < n; i++) sum += (double)grads[i] * (double)grads[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) add_parts_kernel(double* out,          // (1)
                                                            const double* parts,  // (blocks)
                                                            unsigned blocks) {
    wait_for_turn();
    double sum = 0;
    for (unsigned p = threadIdx.x; p < blocks; p += THREADS) sum += parts[p];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum;
}
}  // namespace global_norm_detail

// Bytes that global_norm_squared needs.
inline size_t global_norm_workspace() { return global_norm_detail::PARTS * sizeof(double); }

// out = sum of grads[i]^2, in double, so that nothing overflows; NaN and infinity come through
inline void global_norm_squared(double* out,         // (1)
                                const float* grads,  // (n)
                                size_t n, stream_t stream) {
    using namespace global_norm_detail;
    CHECK(stream.workspace_bytes >= global_norm_workspace(), "global norm: %zu bytes of workspace, %zu needed",
          stream.workspace_bytes, global_norm_workspace());
    double* parts = (double*)stream.workspace;
    const size_t full = n / (THREADS * Pack<float>::SIZE) + 1;
    const unsigned blocks = full < PARTS ? (unsigned)full : PARTS;
    launch(norm_parts_kernel, Grid{blocks, THREADS}, stream, parts, grads, n);
    launch(add_parts_kernel, Grid{1, THREADS}, stream, out, parts, blocks);
}
