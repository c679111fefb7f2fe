// step_guard.h: the step guard on the device: the mean loss and check_step's decision whether the update is skipped, so that the host
// need not wait for either.
#pragma once
#include <cmath>
#include <cstddef>
#include "../layers/step_stats.h"
#include "device.h"

// loss_sum = or +=  sum of losses, in double
inline void sum_losses(double* loss_sum,     // (1)
                       const float* losses,  // (N)
                       size_t N, bool accumulate, stream_t) {
    double sum = 0;
    for (size_t n = 0; n < N; n++) sum += (double)losses[n];
    *loss_sum = (accumulate ? *loss_sum : 0) + sum;
}

// step_stats = check_step of a step; the history gets its loss and norm. Its losses' sums, one a leaf of the micro-batches, and its gradients' sums of
// squares, one a chunk, stand in `sums`, wherever their ranks are: they are added in their own order, which is that of any number of ranks.
inline void guard_step(StepStats* step_stats,       // (1)
                       History* history,            // (1)
                       const double* sums,          // sums[order[i]]: of leaf i; of chunk i - leaves
                       const unsigned* order,       // (leaves + chunks)
                       size_t leaves, size_t chunks,
                       double n_losses, StepLimits limits, stream_t) {
    double loss = 0, norm_squared = 0;
    for (size_t i = 0; i < leaves; i++) loss += sums[order[i]];
    for (size_t i = leaves; i < leaves + chunks; i++) norm_squared += sums[order[i]];
    *step_stats = check_step(*history, loss / n_losses, std::sqrt(norm_squared), limits);
}
