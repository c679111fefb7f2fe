// step_guard.cuh: the step guard on the device: the mean loss and check_step's decision whether the update is skipped, so that the host
// need not wait for either.
#pragma once
#include <cstddef>
#include "../layers/step_stats.h"
#include "device.cuh"

namespace step_guard_detail {
constexpr int THREADS = 1024;

// One block; a thread adds every 1024th loss, so the order of additions is the same on every GPU.
template <class = void>  // a template, as several files include this one
__global__ void __launch_bounds__(THREADS) sum_kernel(double* loss_sum, const float* losses, size_t N, bool accumulate) {
    pdl_wait();
    double sum = 0;
    for (size_t n = threadIdx.x; n < N; n += THREADS) sum += (double)losses[n];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss_sum = (accumulate ? *loss_sum : 0) + sum;
}

// One block; a thread adds every 1024th chunk's, so the order of additions is the same on every GPU and for any number of them.
template <class = void>  // a template, as several files include this one
__global__ void __launch_bounds__(THREADS) guard_step_kernel(StepStats* step_stats, History* history, const double* sums, const unsigned* order,
                                                             size_t leaves, size_t chunks, double n_losses, StepLimits limits) {
    pdl_wait();
    double norm_squared = 0;
    for (size_t i = threadIdx.x; i < chunks; i += THREADS) norm_squared += sums[order[leaves + i]];
    norm_squared = block_sum(norm_squared);
    if (threadIdx.x != 0) return;
    double loss = 0;
    for (size_t i = 0; i < leaves; i++) loss += sums[order[i]];
    *step_stats = check_step(*history, loss / n_losses, sqrt(norm_squared), limits);
}
}  // namespace step_guard_detail

// loss_sum = or +=  sum of losses, in double
inline void sum_losses(double* loss_sum,     // (1)
                       const float* losses,  // (N)
                       size_t N, bool accumulate, stream_t stream) {
    using namespace step_guard_detail;
    launch(sum_kernel<>, {1, THREADS}, stream, loss_sum, losses, N, accumulate);
}

// step_stats = check_step of a step; the history gets its loss and norm. Its losses' sums, one a leaf of the micro-batches, and its gradients' sums of
// squares, one a chunk, stand in `sums`, wherever their ranks are: they are added in their own order, which is that of any number of ranks.
inline void guard_step(StepStats* step_stats,       // (1)
                       History* history,            // (1)
                       const double* sums,          // sums[order[i]]: of leaf i; of chunk i - leaves
                       const unsigned* order,       // (leaves + chunks)
                       size_t leaves, size_t chunks,
                       double n_losses, StepLimits limits, stream_t stream) {
    launch(step_guard_detail::guard_step_kernel<>, {1, step_guard_detail::THREADS}, stream, step_stats, history, sums, order, leaves, chunks, n_losses, limits);
}
