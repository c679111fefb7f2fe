// adamw.h: AdamW's hyperparameters, which elements have weight decay, and the random bits of stochastic rounding, for both backends.
#pragma once
#include <cstddef>
#include <cstdint>
#include "../base/host_device.h"
#include "../base/rng.h"

// Elements offset .. offset + count of the flat buffers; a segment may begin and end anywhere.
struct Segment {
    size_t offset, count;
    float decay;  // times weight_decay: 1 for matrices and embeddings, 0 for the rest
};

struct AdamW {
    float lr, beta1, beta2, eps, weight_decay;
    int t;               // step, from 1
    uint64_t seed;       // of the rounding
    uint64_t first = 0;  // index in the whole model of element 0 here: a shard is rounded as the whole is
};

// The 16 random bits that round element i at step t. Eight elements share one call of the generator, two a word.
HOST_DEVICE inline uint32_t rounding_bits(uint64_t seed, int t, uint64_t i) {
    uint32_t word = philox(seed, RNG_ROUNDING, (uint32_t)t, i / 8).x[i % 8 / 2];
    return i % 2 ? word >> 16 : word & 0xffff;
}
