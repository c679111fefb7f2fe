// bf16.h: bfloat16 as the host sees it: the upper 16 bits of a float. The representation of CUDA's __nv_bfloat16.
#pragma once
#include <cstdint>
#include "host_device.h"

struct bf16 {
    uint16_t bits;
    bf16() = default;
    // Round to nearest, ties to even; a NaN stays a NaN (its quiet bit is set, so that it cannot round to infinity).
    HOST_DEVICE bf16(float x) {
        uint32_t u = __builtin_bit_cast(uint32_t, x);
        bool nan = (u & 0x7fffffff) > 0x7f800000;
        uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, quiet = (u >> 16) | 0x40;
        bits = (uint16_t)(nan ? quiet : rounded);
    }
    HOST_DEVICE operator float() const { return __builtin_bit_cast(float, (uint32_t)bits << 16); }
    HOST_DEVICE static bf16 from_bits(uint16_t b) { bf16 r; r.bits = b; return r; }
};
static_assert(sizeof(bf16) == 2);

// Stochastic rounding: up with probability (dropped bits) / 2^16, `random` uniform in its low 16 bits. Exact on
// representable values; NaN and infinity pass through (adding to an infinity's zero fraction never carries).
HOST_DEVICE inline bf16 round_stochastic(float x, uint32_t random) {
    uint32_t u = __builtin_bit_cast(uint32_t, x);
    bool special = (u & 0x7f800000) == 0x7f800000;
    return special ? bf16(x) : bf16::from_bits((uint16_t)((u + (random & 0xffff)) >> 16));
}
