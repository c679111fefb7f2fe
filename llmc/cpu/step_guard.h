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

// step_stats = check_step of a step whose n_losses losses add up to loss_sum; the history gets its loss and norm
inline void guard_step(StepStats* step_stats,       // (1)
                       History* history,            // (1)
                       const double* loss_sum,      // (1)
                       const double* norm_squared,  // (1)
                       double n_losses, StepLimits limits, stream_t) {
    *step_stats = check_step(*history, *loss_sum / n_losses, std::sqrt(*norm_squared), limits);
}
