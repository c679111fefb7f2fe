// layers.h: what the layers of both backends agree on beyond names and arguments: constants, choices, and the few formulas
// that must give the same numbers on a CPU and on a GPU.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include "host_device.h"
#include "rng.h"

constexpr float LAYERNORM_EPS = 1e-5f;

// Of a GPU's free memory, what a plan leaves: modules, graphs and libraries take theirs later, from what is outside of the arena.
constexpr double GPU_KEPT_FREE = 0.05;

enum class AttentionBy { FASTEST, OURS, CUDNN };  // by whom, where there is a choice

// What a stream's kernels may use while they run: `workspace`, where what one leaves the next overwrites. How they do what can be
// done in several ways, and whether this is the time to find out which is fastest: results do not matter then.
struct StreamOptions {
    void* workspace = nullptr;
    size_t workspace_bytes = 0;
    bool tf32 = false, gelu_fusion = false, deterministic = true, pdl = true, tuning = false;
    AttentionBy attention = AttentionBy::FASTEST;
    bool any_gpu = false;  // memory for any GPU, not for the one that is here: --plan names another
};

struct LayernormBackward {
    bool accumulate = false;   // dweight, dbias += instead of =
    bool add_to_dinp = false;  // dinp += instead of =
};

template <class F> struct MatmulForward { F* pre_gelu = nullptr; };  // (N, OC)

template <class F> struct MatmulBackwardInput {
    const F* pre_gelu = nullptr;  // (N, C): inp was gelu(pre_gelu), and the gradient goes through to pre_gelu
    bool accumulate = false;
};

//   gelu(x) = x/2 * (1 + tanh(u)),  u = sqrt(2/pi) * (x + 0.044715 x^3)
// and (1 + tanh(u)) / 2 = 1 / (1 + e^-2u) = s, the logistic function of 2u: one exponential, and nothing cancels, neither
// near 0 nor in the tail.
constexpr float GELU_A = 1.5957691216f;              // 2 sqrt(2/pi)
constexpr float GELU_B = 1.5957691216f * 0.044715f;  // so that 2u = x (A + B x^2)

// ---- is this step's update to be trusted? ---------------------------------------------------------------------------

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
struct Verdict {
    double loss, norm;  // mean of the losses, length of the gradient before clipping
    double z;           // of what was skipped for
    float scale;        // of the gradient: clips it
    int skip;           // Skip: what made the step one to leave out
};

struct Limits {
    double grad_clip;                 // length to which gradients are cut; 0: as they are
    double skip_loss_z, skip_grad_z;  // standard deviations above the history from which an update is left out; 0: never
};

// A loss or a norm that is not finite leaves the history as it was.
HOST_DEVICE inline Verdict judge(History& history, double loss, double norm, Limits limits) {
    Verdict v{.loss = loss, .norm = norm, .z = NAN, .scale = 1, .skip = APPLIED};
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

// ---- AdamW ------------------------------------------------------------------------------------------------------------

// Elements offset .. offset + count of the flat buffers; a segment may begin and end anywhere.
struct Segment {
    size_t offset, count;
    float decay;  // times weight_decay: 1 for matrices and embeddings, 0 for the rest
};

struct AdamW {
    float lr, beta1, beta2, eps, weight_decay;
    int t;               // step, from 1
    uint64_t seed;       // of the rounding
    uint64_t first = 0;  // number in the whole model of element 0 here: a shard rounds as the whole does
};

// The 16 random bits that round element i at step t. Eight elements share one call of the generator, two a word.
HOST_DEVICE inline uint32_t rounding_bits(uint64_t seed, int t, uint64_t i) {
    uint32_t word = philox(seed, RNG_ROUNDING, (uint32_t)t, i / 8).x[i % 8 / 2];
    return i % 2 ? word >> 16 : word & 0xffff;
}
