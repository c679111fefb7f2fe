// verdict.cuh: what a step came to, and whether its update shall happen: decided beside the gradients, so that the host need
// not wait for them.
#pragma once
#include <cstddef>
#include "../layers/step_guard.h"
#include "device.cuh"

namespace verdict_detail {
constexpr int THREADS = 1024;

// One block: a thread adds every 1024th loss, so the order is the same whatever the GPU.
__global__ void __launch_bounds__(THREADS) sum_kernel(double* loss_sum, const float* losses, size_t N, bool accumulate) {
    wait_for_turn();
    double sum = 0;
    for (size_t n = threadIdx.x; n < N; n += THREADS) sum += (double)losses[n];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss_sum = (accumulate ? *loss_sum : 0) + sum;
}

__global__ void judge_kernel(Verdict* verdict, History* history, const double* loss_sum, const double* norm_squared, double n_losses,
                             Limits limits) {
    wait_for_turn();
    *verdict = judge(*history, *loss_sum / n_losses, sqrt(*norm_squared), limits);
}
}  // namespace verdict_detail

// loss_sum = or +=  sum of losses, in double
inline void sum_losses(double* loss_sum,     // (1)
                       const float* losses,  // (N)
                       size_t N, bool accumulate, stream_t stream) {
    using namespace verdict_detail;
    launch(sum_kernel, {1, THREADS}, stream, loss_sum, losses, N, accumulate);
}

// verdict = of a step whose n_losses losses add up to loss_sum; the history moves on
inline void judge_step(Verdict* verdict,            // (1)
                       History* history,            // (1)
                       const double* loss_sum,      // (1)
                       const double* norm_squared,  // (1)
                       double n_losses, Limits limits, stream_t stream) {
    launch(verdict_detail::judge_kernel, {1, 1}, stream, verdict, history, loss_sum, norm_squared, n_losses, limits);
}
