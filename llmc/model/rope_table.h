// rope_table.h: the angles by which rotary positions turn queries and keys (Su et al. 2021, "RoFormer"), as cosines and sines. In fp32 at each step, as
// transformers computes them (modeling_rope_utils.py): of a far position another rounding of a frequency is another angle.
#pragma once
#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>
#include "config.h"

// The frequency of each pair of a head, in radians a position: 1 / theta^(2 i / HS); 0 where positions are learned. "llama3" scaling: a wavelength above original / low becomes `factor` times
// as long, one below original / high stays, and between the two the frequency goes from one to the other, linearly in 1 / wavelength.
inline std::vector<float> rope_frequencies(const Config& c) {
    const RopeScaling& s = c.rope_scaling;
    std::vector<float> frequencies((size_t)c.HS / 2);
    for (size_t i = 0; i < frequencies.size(); i++) {
        const float exponent = (float)(2 * i) / (float)c.HS, w = c.arch.positions == ROTARY ? 1 / (float)std::pow(c.theta, (double)exponent) : 0;
        frequencies[i] = w;
        if (s.factor == 1) continue;
        const float wavelength = (float)(2 * std::numbers::pi) / w, original = (float)s.original, factor = (float)s.factor, low = (float)s.low, high = (float)s.high;
        if (wavelength < original / high) continue;
        const float smooth = (original / wavelength - low) / (high - low);
        frequencies[i] = wavelength > original / low ? w / factor : (1 - smooth) * w / factor + smooth * w;
    }
    return frequencies;
}

// (positions, HS): of each position the cosines of its HS / 2 angles, then their sines.
inline std::vector<float> rope_table(const Config& c, size_t positions) {
    const std::vector<float> frequencies = rope_frequencies(c);
    const size_t pairs = frequencies.size();
    std::vector<float> table(positions * 2 * pairs);
    for (size_t p = 0; p < positions; p++)
        for (size_t i = 0; i < pairs; i++) {
            const float angle = (float)p * frequencies[i];
            table[2 * p * pairs + i] = (float)std::cos((double)angle), table[(2 * p + 1) * pairs + i] = (float)std::sin((double)angle);
        }
    return table;
}
