// numbers.h: conversion of float to the narrow formats, to nearest with ties to even, exactly.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace emu {
// A format of 1 sign bit, E exponent bits and M mantissa bits. With an infinity: values above the largest become it; without
// (e4m3): the highest exponent is that of numbers too, all ones is NaN. `saturate`: they become the largest number instead.
template <int E, int M, bool INFINITE> struct Narrow {
    static constexpr int BIAS = (1 << (E - 1)) - 1, MIN_EXPONENT = 1 - BIAS;
    static constexpr uint32_t ALL = (1u << (E + M)) - 1;
    static constexpr uint32_t INF = ((1u << E) - 1) << M;                      // with an infinity
    static constexpr uint32_t LARGEST = INFINITE ? INF - 1 : ALL - 1;
    static constexpr uint32_t NOT_A_NUMBER = INFINITE ? ALL : ALL;

    static float to_float(uint32_t bits) {
        const uint32_t magnitude = bits & ALL, exponent = magnitude >> M, mantissa = magnitude & ((1u << M) - 1);
        float x;
        if (INFINITE ? magnitude > INF : magnitude == ALL) x = NAN;
        else if (INFINITE && magnitude == INF) x = INFINITY;
        else if (exponent == 0) x = std::ldexp((float)mantissa, MIN_EXPONENT - M);
        else x = std::ldexp((float)(mantissa | 1u << M), (int)exponent - BIAS - M);
        return bits >> (E + M) & 1 ? -x : x;
    }
    static uint32_t from_float(float f, bool saturate) {
        const uint32_t sign = (std::bit_cast<uint32_t>(f) >> 31) << (E + M);
        const double x = std::fabs((double)f);
        if (std::isnan(f)) return INFINITE && M == 10 ? ALL : sign | NOT_A_NUMBER;
        if (std::isinf(f)) return sign | (saturate || !INFINITE ? LARGEST + (!saturate && !INFINITE) : INF);
        int exponent = x > 0 ? std::ilogb(x) : MIN_EXPONENT;
        if (exponent < MIN_EXPONENT) exponent = MIN_EXPONENT;
        const double steps = std::nearbyint(std::ldexp(x, M - exponent));      // units in the last place, ties to even
        uint32_t bits = (uint32_t)steps + ((uint32_t)(exponent - MIN_EXPONENT) << M);
        if (steps == 0) bits = 0;
        if (bits > LARGEST || exponent > 2 * BIAS) bits = saturate ? LARGEST : INFINITE ? INF : NOT_A_NUMBER;
        return sign | bits;
    }
};
using Half = Narrow<5, 10, true>;
using E4M3 = Narrow<4, 3, false>;
using E5M2 = Narrow<5, 2, true>;
}  // namespace emu
