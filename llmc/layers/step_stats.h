// step_stats.h: is this step's update to be trusted? The same arithmetic on a CPU and on a GPU.
#pragma once
#include <cmath>
#include "../base/host_device.h"

// The last 128 values of something, oldest first: a checkpoint keeps them.
struct Window {
    static constexpr int SIZE = 128;
    double values[SIZE];
    int count;

    // How many standard deviations x lies above them; NaN until there are 128. x then takes the place of the oldest.
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

struct History { Window losses, norms; };  // zeros: nothing has happened yet

enum Skip : int { APPLIED, NOT_FINITE, LOSS_SPIKE, NORM_SPIKE };

// What a step came to. It stays where the gradients are: AdamW obeys it, the host reads it later.
struct StepStats {
    double loss, norm;  // mean of the losses, length of the gradient before clipping
    double z;           // of what was skipped for
    float scale;        // of the gradient: clips it
    int skip;           // Skip: what made the step one to leave out
};

struct StepGuard {
    double grad_clip;                 // length to which gradients are cut; 0: as they are
    double skip_loss_z, skip_grad_z;  // standard deviations above the history from which an update is left out; 0: never
};

// A loss or a norm that is not finite leaves the history as it was.
HOST_DEVICE inline StepStats check_step(History& history, double loss, double norm, StepGuard limits) {
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
