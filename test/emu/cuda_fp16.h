// cuda_fp16.h: IEEE's binary16, with the toolkit's names.
#pragma once
#include "cuda_runtime.h"
#include "numbers.h"

struct alignas(2) __half_raw { unsigned short x; };
struct alignas(2) __half {
    unsigned short bits;
    __half() = default;
    __half(__half_raw raw) : bits(raw.x) {}
    __half(float f) : bits((unsigned short)emu::Half::from_float(f, false)) {}
    operator float() const { return emu::Half::to_float(bits); }
};
struct alignas(4) __half2 { __half x, y; };
inline __half __float2half(float f) { return f; }
inline __half __float2half_rn(float f) { return f; }
inline float __half2float(__half h) { return h; }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline __half __ushort_as_half(unsigned short u) { return __half_raw{u}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline float2 __half22float2(__half2 h) { return {h.x, h.y}; }
