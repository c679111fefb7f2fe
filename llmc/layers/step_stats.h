// step_stats.h: the step guard. check_step decides whether a step's update is skipped: where the loss or the gradient norm is not finite,
// or a spike by its z-score over the last 128 steps. The same arithmetic on a CPU and on a GPU.
#pragma once
#include <cmath>
#include "../base/host_device.h"

// A sliding window: the last 128 values, oldest first. Checkpoints save it.
struct Window {
    static constexpr int SIZE = 128;
    double values[SIZE];
    int count;

    // How many standard deviations x lies above their mean; NaN until there are 128. Then x replaces the oldest.
    HOST_DEVICE double z_score(double x) {
        double z = NAN;
        if (count == SIZE) {
            double mean = 0, variance = 0;
            for (int i = 0; i < SIZE; i++) mean += values[i] / SIZE;
            for (int i = 0; i < SIZE; i++) variance += (values[i] - mean) * (values[i] - mean) / SIZE;
            z = variance > 0 ? (x - mean) / sqrt(variance) : 0;
            for (int i = 1; i < SIZE; i++) values[i - 1] = values[i];
            count--;
        }
        values[count++] = x;
        return z;
    }
};

struct History { Window losses, norms; };  // all zeros: empty

enum Skip : int { APPLIED, NOT_FINITE, LOSS_SPIKE, NORM_SPIKE };

// A step's statistics and the step guard's decision. They are in device memory: AdamW reads them there, the host later.
struct StepStats {
    double loss, norm;  // mean loss, global gradient norm before clipping
    double z;           // z-score of the loss or norm that was a spike
    float scale;        // gradient clipping: the factor of the gradient
    int skip;           // a Skip: whether the update is skipped, and why
    int not_finite = 0;  // by AdamW: 1 if a weight that it computed is not finite
};

// The step guard's thresholds.
struct StepLimits {
    double grad_clip;                 // norm to which gradients are clipped; 0: no clipping
    double skip_loss_z, skip_grad_z;  // z-scores of loss and norm above which the update is skipped; 0: never
};

// Whether to skip the update, and the clip factor. A loss or a norm that is not finite does not enter the history.
HOST_DEVICE inline StepStats check_step(History& history, double loss, double norm, StepLimits limits) {
    StepStats v{.loss = loss, .norm = norm, .z = NAN, .scale = 1, .skip = APPLIED};
    if (limits.grad_clip > 0 && norm > limits.grad_clip) v.scale = (float)(limits.grad_clip / norm);
    if (!(fabs(loss) <= 1.7976931348623157e308) || !(norm <= 1.7976931348623157e308)) {
        v.skip = NOT_FINITE;
        return v;
    }
    const double loss_z = history.losses.z_score(loss), norm_z = history.norms.z_score(norm);
    if (limits.skip_grad_z > 0 && norm_z > limits.skip_grad_z) v.skip = NORM_SPIKE, v.z = norm_z;
    if (limits.skip_loss_z > 0 && loss_z > limits.skip_loss_z) v.skip = LOSS_SPIKE, v.z = loss_z;
    return v;
}
