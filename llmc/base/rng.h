// rng.h: one counter-based generator for everything random: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As
// Easy as 1, 2, 3", SC 2011). A number depends on (seed, purpose, step, index) alone: there is no state to save, and any
// number of ranks and threads draws the same numbers.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include "host_device.h"
#include "threads.h"

enum Purpose : uint32_t { RNG_INIT = 1, RNG_SHUFFLE, RNG_ROUNDING, RNG_SAMPLING, RNG_TEST, RNG_HOLD_OUT };

struct Random4 { uint32_t x[4]; };

// The four words of counter (index, step, purpose) under key seed.
HOST_DEVICE inline Random4 philox(uint64_t seed, Purpose purpose, uint32_t step, uint64_t index) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = step, c3 = purpose;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1, c3 = (uint32_t)p0;
        k0 += 0x9E3779B9, k1 += 0xBB67AE85;
    }
    return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1): 24 bits, every value exact in a float.
inline float uniform(uint32_t x) { return (float)(x >> 8) * 0x1p-24f; }

// Natural logarithm of x in (0, 1], and cosine and sine of 2 pi u, u in [0, 1), by polynomials: bitwise identical with
// every C library, and loops over them vectorise. Relative error below 2e-7; enough to initialise weights.
namespace rng_detail {
inline float log_unit(float x) {
    uint32_t bits = __builtin_bit_cast(uint32_t, x);
    int e = (int)((bits + 0x4afb0d) >> 23) - 127;  // x = m 2^e, sqrt(1/2) <= m < sqrt(2)
    float m = __builtin_bit_cast(float, bits - ((uint32_t)e << 23));
    float s = (m - 1) / (m + 1), s2 = s * s;       // log m = 2 atanh s, |s| < 0.172
    float series = 1 + s2 * (1.f / 3 + s2 * (1.f / 5 + s2 * (1.f / 7 + s2 * (1.f / 9))));
    return 2 * s * series + (float)e * 0.69314718f;
}
// sin(pi/2 a) for |a| <= 1/2 and cos likewise, by Taylor's series in b = pi/2 a, |b| <= pi/4
inline float sin_small(float b) { float s = b * b; return b * (1 + s * (-1.f / 6 + s * (1.f / 120 + s * (-1.f / 5040)))); }
inline float cos_small(float b) { float s = b * b; return 1 + s * (-.5f + s * (1.f / 24 + s * (-1.f / 720 + s * (1.f / 40320)))); }
}

// Two independent N(0, 1) numbers from two words (Box and Muller 1958).
inline void normal_pair(uint32_t a, uint32_t b, float& z0, float& z1) {
    using namespace rng_detail;
    float radius = std::sqrt(-2 * log_unit(1 - uniform(a)));
    int quadrant = (int)((b + (1u << 29)) >> 30);             // nearest multiple of a quarter turn
    int32_t rest = (int32_t)(b - ((uint32_t)quadrant << 30)); // in [-2^29, 2^29)
    float angle = (float)rest * (1.57079633f * 0x1p-30f);
    float s = sin_small(angle), c = cos_small(angle);
    float cosine = (quadrant & 1) ? s : c, sine = (quadrant & 1) ? c : s;
    int q = quadrant & 3;
    z0 = radius * (q == 1 || q == 2 ? -cosine : cosine);
    z1 = radius * (q >= 2 ? -sine : sine);
}

// out[i] = stddev * z,  z ~ N(0, 1) number (first + i) of `tensor`; a shard of a tensor gets the numbers of the whole.
// first must be even. Each loop does one thing over arrays of fixed size: as one loop g++ makes no vectors of it; LOG 16.
inline void normal_fill(float* out, size_t n, float stddev, uint64_t seed, uint32_t tensor, size_t first) {
    constexpr size_t PAIRS = 64;
    parallel_blocks(n, 32 * 2 * PAIRS, [=](size_t begin, size_t end) { for (size_t at = begin; at < end; at += 2 * PAIRS) {
        uint32_t a[PAIRS], b[PAIRS];
        float z0[PAIRS], z1[PAIRS], z[2 * PAIRS];
        for (size_t i = 0; i < PAIRS; i++) {
            Random4 r = philox(seed, RNG_INIT, tensor, (first + at) / 2 + i);
            a[i] = r.x[0], b[i] = r.x[1];
        }
        for (size_t i = 0; i < PAIRS; i++) normal_pair(a[i], b[i], z0[i], z1[i]);
        for (size_t i = 0; i < PAIRS; i++) z[2 * i] = stddev * z0[i], z[2 * i + 1] = stddev * z1[i];
        memcpy(out + at, z, std::min(2 * PAIRS, n - at) * sizeof(float));
    }});
}
