// global_norm.cuh: the square of the global gradient norm: the L2 norm of all gradients as one vector. Two kernels: partial sums, their sum.
#pragma once
#include <cstddef>
#include "device.cuh"

namespace global_norm_detail {
// As many blocks on any GPU, so that the order of additions is the same on all. 1024 x 256 threads are full occupancy of 128 SMs; fewer
// blocks where there are less than 16 bytes for each thread.
constexpr unsigned PARTIALS = 1024, THREADS = 256;

// partials[block] = sum of g^2 over the block's elements, 16 bytes a thread at a time
__global__ void __launch_bounds__(THREADS) norm_partials_kernel(double* partials,       // (PARTIALS)
                                                             const float* grads,  // (n)
                                                             size_t n) {
    pdl_wait();
    constexpr size_t SIZE = Pack<float>::SIZE;
    const size_t whole = n / SIZE * SIZE, first = thread_index() * SIZE, stride = gridDim.x * THREADS * SIZE;
    double sum = 0;
    #pragma unroll 4  // 64 bytes in flight
    for (size_t i = first; i < whole; i += stride) {
        const Pack<float> g = load_pack(grads + i);
        for (int k = 0; k < (int)SIZE; k++) sum += (double)g[k] * (double)g[k];
    }
    if (first == 0) for (size_t i = whole; i < n; i++) sum += (double)grads[i] * (double)grads[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) reduce_partials_kernel(double* out,          // (1)
                                                            const double* partials,  // (blocks)
                                                            unsigned blocks) {
    pdl_wait();
    double sum = 0;
    for (unsigned p = threadIdx.x; p < blocks; p += THREADS) sum += partials[p];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum;
}
}  // namespace global_norm_detail

// Bytes that global_norm_squared needs.
inline size_t global_norm_workspace() { return global_norm_detail::PARTIALS * sizeof(double); }

// out = sum of grads[i]^2, in double, so that nothing overflows; NaN and infinity propagate
inline void global_norm_squared(double* out,         // (1)
                                const float* grads,  // (n)
                                size_t n, stream_t stream) {
    using namespace global_norm_detail;
    CHECK(stream.workspace_bytes >= global_norm_workspace(), "global norm: %zu bytes of workspace, %zu needed",
          stream.workspace_bytes, global_norm_workspace());
    double* partials = (double*)stream.workspace;
    const size_t full = n / (THREADS * Pack<float>::SIZE) + 1;
    const unsigned blocks = full < PARTIALS ? (unsigned)full : PARTIALS;
    launch(norm_partials_kernel, Grid{blocks, THREADS}, stream, partials, grads, n);
    launch(reduce_partials_kernel, Grid{1, THREADS}, stream, out, partials, blocks);
}
