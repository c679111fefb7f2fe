// arithmetic.h: what a thread computes alone. (PTX ISA, "Integer Arithmetic Instructions" to "Data Movement and Conversion Instructions")
#pragma once
#include <cmath>
#include <limits>
#include "../emu/cuda_bf16.h"
#include "../emu/numbers.h"
#include "machine.h"

namespace ptx {
template <class F> void for_integers(F f) {
    f.template operator()<uint16_t>(".u16"), f.template operator()<uint32_t>(".u32"), f.template operator()<uint64_t>(".u64");
    f.template operator()<int16_t>(".s16"), f.template operator()<int32_t>(".s32"), f.template operator()<int64_t>(".s64");
}
template <class F> void for_bits(F f) {
    f.template operator()<uint16_t>(".b16"), f.template operator()<uint32_t>(".b32"), f.template operator()<uint64_t>(".b64");
}
template <class F> void for_floats(F f) { f.template operator()<float>(".f32"), f.template operator()<double>(".f64"); }

template <class T> using Wrapping = std::conditional_t<sizeof(T) == 2, uint32_t, std::make_unsigned_t<T>>;  // overflow is no mistake in PTX
template <class T, class S, class U> using Signed = std::conditional_t<std::is_signed_v<T>, S, U>;
template <class T> using Twice = std::conditional_t<sizeof(T) == 2, Signed<T, int32_t, uint32_t>,
    std::conditional_t<sizeof(T) == 4, Signed<T, int64_t, uint64_t>, Signed<T, __int128, unsigned __int128>>>;

template <class T> T divide(T a, T b) { return b == 0 ? (T)~(T)0 : std::is_signed_v<T> && b == (T)-1 ? (T)(Wrapping<T>)(0 - (Wrapping<T>)a) : (T)(a / b); }
template <class T> T remainder(T a, T b) { return b == 0 ? a : std::is_signed_v<T> && b == (T)-1 ? (T)0 : (T)(a % b); }

inline void define_integers() {
    for_integers([]<class T>(const std::string& type) {
        using W = Wrapping<T>;
        using TT = Twice<T>;
        define<T, T, T>("add" + type, [](T a, T b) { return (T)((W)a + (W)b); });
        define<T, T, T>("sub" + type, [](T a, T b) { return (T)((W)a - (W)b); });
        define<T, T, T>("mul.lo" + type, [](T a, T b) { return (T)((W)a * (W)b); });
        define<T, T, T>("mul.hi" + type, [](T a, T b) { return (T)((TT)a * (TT)b >> 8 * sizeof(T)); });
        define<T, T, T, T>("mad.lo" + type, [](T a, T b, T c) { return (T)((W)a * (W)b + (W)c); });
        define<T, T, T>("div" + type, [](T a, T b) { return divide(a, b); });
        define<T, T, T>("rem" + type, [](T a, T b) { return remainder(a, b); });
        define<T, T, T>("min" + type, [](T a, T b) { return std::min(a, b); });
        define<T, T, T>("max" + type, [](T a, T b) { return std::max(a, b); });
        define<T, T>("neg" + type, [](T a) { return (T)(0 - (W)a); });
        define<T, T>("abs" + type, [](T a) { return a < 0 ? (T)(0 - (W)a) : a; });
        // a shift by more than the width is one by the width
        define<T, T, uint32_t>("shr" + type, [](T a, uint32_t n) { return (T)(n < 8 * sizeof(T) ? a >> n : a < 0 ? -1 : 0); });
        if constexpr (sizeof(T) < 8) {
            define<TT, T, T>("mul.wide" + type, [](T a, T b) { return (TT)((TT)a * (TT)b); });
            define<TT, T, T, TT>("mad.wide" + type, [](T a, T b, TT c) { return (TT)((Wrapping<TT>)((TT)a * (TT)b) + (Wrapping<TT>)c); });
        }
    });
    for_bits([]<class T>(const std::string& type) {
        define<T, T, T>("and" + type, [](T a, T b) { return (T)(a & b); });
        define<T, T, T>("or" + type, [](T a, T b) { return (T)(a | b); });
        define<T, T, T>("xor" + type, [](T a, T b) { return (T)(a ^ b); });
        define<T, T>("not" + type, [](T a) { return (T)~a; });
        define<T, T, uint32_t>("shl" + type, [](T a, uint32_t n) { return (T)(n < 8 * sizeof(T) ? (uint64_t)a << n : 0); });
        define<T, T, uint32_t>("shr" + type, [](T a, uint32_t n) { return (T)(n < 8 * sizeof(T) ? a >> n : 0); });
        if constexpr (sizeof(T) > 2) {
            define<uint32_t, T>("popc" + type, [](T a) { return (uint32_t)std::popcount(a); });
            define<uint32_t, T>("clz" + type, [](T a) { return (uint32_t)std::countl_zero(a); });
            define<T, T, T, uint32_t, uint32_t>("bfi" + type, [](T a, T b, uint32_t at, uint32_t n) {  // the n low bits of a into b from bit `at` on
                at &= 255, n &= 255;
                if (at >= 8 * sizeof(T)) return b;
                const T ones = n >= 8 * sizeof(T) ? (T)~(T)0 : (T)(((T)1 << n) - 1), mask = (T)(ones << at);
                return (T)((b & ~mask) | (T)(a << at & mask));
            });
        }
    });
    using u32 = uint32_t;
    define<bool, bool, bool>("and.pred", [](bool a, bool b) { return a && b; });
    define<bool, bool, bool>("or.pred", [](bool a, bool b) { return a || b; });
    define<bool, bool, bool>("xor.pred", [](bool a, bool b) { return a != b; });
    define<bool, bool>("not.pred", [](bool a) { return !a; });
    define<u32, u32, u32, u32>("prmt.b32", [](u32 a, u32 b, u32 s) {  // bit 3 of a selector: the byte's sign, eight times
        const uint64_t both = (uint64_t)b << 32 | a;
        u32 d = 0;
        for (int k = 0; k < 4; k++) {
            const u32 byte = (u32)(both >> (s >> 4 * k & 7) * 8 & 0xff);
            d |= (s >> 4 * k & 8 ? (byte & 0x80 ? 0xff : 0) : byte) << 8 * k;
        }
        return d;
    });
    define<u32, u32, u32, u32>("shf.l.wrap.b32", [](u32 a, u32 b, u32 n) { return (u32)(((uint64_t)b << 32 | a) << (n & 31) >> 32); });
    define<u32, u32, u32, u32>("shf.r.wrap.b32", [](u32 a, u32 b, u32 n) { return (u32)(((uint64_t)b << 32 | a) >> (n & 31)); });
}

// ---- floating point: to nearest, ties to even; every NaN that arithmetic makes of floats is 0x7fffffff -------------------------------
template <class T> T canonical(T x) {
    if constexpr (sizeof(T) == 4) return std::isnan(x) ? std::bit_cast<float>(0x7fffffff) : x;
    return x;
}
// Of one NaN and a number it is the number; -0 is less than +0.
template <class T> T minimum(T a, T b) { return std::isnan(a) ? canonical(b) : std::isnan(b) ? a : a == b ? (std::signbit(a) ? a : b) : std::min(a, b); }
template <class T> T maximum(T a, T b) { return std::isnan(a) ? canonical(b) : std::isnan(b) ? a : a == b ? (std::signbit(a) ? b : a) : std::max(a, b); }
inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }  // .ftz

inline void define_floats() {
    for_floats([]<class T>(const std::string& type) {
        for (const char* rounding : {"", ".rn"}) {
            const std::string to = rounding + type;
            define<T, T, T>("add" + to, [](T a, T b) { return canonical(a + b); });
            define<T, T, T>("sub" + to, [](T a, T b) { return canonical(a - b); });
            define<T, T, T>("mul" + to, [](T a, T b) { return canonical(a * b); });
        }
        define<T, T, T, T>("fma.rn" + type, [](T a, T b, T c) { return canonical(std::fma(a, b, c)); });
        define<T, T, T>("div.rn" + type, [](T a, T b) { return canonical(a / b); });
        define<T, T>("rcp.rn" + type, [](T a) { return canonical(1 / a); });
        define<T, T>("sqrt.rn" + type, [](T a) { return canonical(std::sqrt(a)); });
        define<T, T, T>("min" + type, [](T a, T b) { return minimum(a, b); });
        define<T, T, T>("max" + type, [](T a, T b) { return maximum(a, b); });
        define<T, T>("neg" + type, [](T a) { return -a; });
        define<T, T>("abs" + type, [](T a) { return std::fabs(a); });
    });
    // the approximate ones are within a unit in the last place here; on a GPU within two or so
    using F = float;
    define<F, F>("ex2.approx.f32", [](F a) { return canonical(std::exp2(a)); });
    define<F, F>("ex2.approx.ftz.f32", [](F a) { return canonical(flushed(std::exp2(flushed(a)))); });
    define<F, F>("lg2.approx.f32", [](F a) { return canonical(std::log2(a)); });
    define<F, F>("rcp.approx.f32", [](F a) { return canonical(1 / a); });
    define<F, F>("rcp.approx.ftz.f32", [](F a) { return canonical(flushed(1 / flushed(a))); });
    define<F, F>("sqrt.approx.f32", [](F a) { return canonical(std::sqrt(a)); });
    define<F, F>("rsqrt.approx.f32", [](F a) { return canonical(1 / std::sqrt(a)); });
    define<F, F>("tanh.approx.f32", [](F a) { return canonical(std::tanh(a)); });
    for (const char* name : {"div.approx.f32", "div.full.f32"})
        define<F, F, F>(name, [](F a, F b) { return canonical(std::fabs(b) > 0x1p126f && std::fabs(b) < INFINITY ? 0 * a : a / b); });
    define<double, double>("rcp.approx.ftz.f64", [](double a) {  // 20 bits of mantissa, from and to
        const auto high = [](double x) { return std::bit_cast<double>(std::bit_cast<uint64_t>(x) >> 32 << 32); };
        return high(1 / high(a));
    });
}

// ---- comparisons ------------------------------------------------------------------------------------------------------------------------
template <class T> void define_comparisons(const std::string& type) {
    define<bool, T, T>("setp.eq" + type, [](T a, T b) { return a == b; });
    define<bool, T, T>("setp.lt" + type, [](T a, T b) { return a < b; });
    define<bool, T, T>("setp.le" + type, [](T a, T b) { return a <= b; });
    define<bool, T, T>("setp.gt" + type, [](T a, T b) { return a > b; });
    define<bool, T, T>("setp.ge" + type, [](T a, T b) { return a >= b; });
    if constexpr (std::is_integral_v<T>) define<bool, T, T>("setp.ne" + type, [](T a, T b) { return a != b; });
    else {  // without u all are false of a NaN, with u true
        define<bool, T, T>("setp.ne" + type, [](T a, T b) { return a < b || a > b; });
        define<bool, T, T>("setp.equ" + type, [](T a, T b) { return !(a < b || a > b); });
        define<bool, T, T>("setp.neu" + type, [](T a, T b) { return a != b; });
        define<bool, T, T>("setp.ltu" + type, [](T a, T b) { return !(a >= b); });
        define<bool, T, T>("setp.leu" + type, [](T a, T b) { return !(a > b); });
        define<bool, T, T>("setp.gtu" + type, [](T a, T b) { return !(a <= b); });
        define<bool, T, T>("setp.geu" + type, [](T a, T b) { return !(a < b); });
        define<bool, T, T>("setp.num" + type, [](T a, T b) { return a == a && b == b; });
        define<bool, T, T>("setp.nan" + type, [](T a, T b) { return a != a || b != b; });
    }
}
inline void define_choices() {
    for_integers([]<class T>(const std::string& type) { define_comparisons<T>(type); });
    for_bits([]<class T>(const std::string& type) { define_comparisons<T>(type); });
    for_floats([]<class T>(const std::string& type) { define_comparisons<T>(type); });
    for (const char* type : {".pred", ".b16", ".b32", ".b64", ".u16", ".u32", ".u64", ".s16", ".s32", ".s64", ".f32", ".f64"}) {
        define<uint64_t, uint64_t>(std::string("mov") + type, [](uint64_t a) { return a; });
        define<uint64_t, uint64_t, uint64_t, bool>(std::string("selp") + type, [](uint64_t a, uint64_t b, bool p) { return p ? a : b; });
    }
}

// ---- conversions ----------------------------------------------------------------------------------------------------------------------------
// To an integer what is too large becomes the largest, a NaN 0.
template <class D, class T> D to_integer(T x) {
    if (std::isnan(x)) return 0;
    if (x <= (T)std::numeric_limits<D>::min()) return std::numeric_limits<D>::min();
    if (x >= std::ldexp((T)1, std::numeric_limits<D>::digits)) return std::numeric_limits<D>::max();
    return (D)x;
}
inline uint16_t to_bf16(float x) { return __nv_bfloat16(x).bits; }
inline uint16_t to_f16(float x) { return (uint16_t)emu::Half::from_float(x, false); }
inline void define_conversions() {
    const auto for_all = [](auto f) {
        f.template operator()<uint8_t>(".u8"), f.template operator()<int8_t>(".s8");
        for_integers(f);
    };
    for_all([&]<class D>(const std::string& to) {
        for_all([&]<class A>(const std::string& from) { define<D, A>("cvt" + to + from, [](A a) { return (D)a; }); });
        for_floats([&]<class T>(const std::string& type) {
            define<T, D>("cvt.rn" + type + to, [](D a) { return (T)a; });
            define<D, T>("cvt.rzi" + to + type, [](T a) { return to_integer<D>(std::trunc(a)); });
            define<D, T>("cvt.rni" + to + type, [](T a) { return to_integer<D>(std::nearbyint(a)); });
            define<D, T>("cvt.rmi" + to + type, [](T a) { return to_integer<D>(std::floor(a)); });
            define<D, T>("cvt.rpi" + to + type, [](T a) { return to_integer<D>(std::ceil(a)); });
        });
    });
    for_floats([]<class T>(const std::string& type) {
        define<T, T>("cvt.rzi" + type + type, [](T a) { return std::trunc(a); });
        define<T, T>("cvt.rni" + type + type, [](T a) { return std::nearbyint(a); });
        define<T, T>("cvt.rmi" + type + type, [](T a) { return std::floor(a); });
        define<T, T>("cvt.rpi" + type + type, [](T a) { return std::ceil(a); });
    });
    using F = float;
    define<double, F>("cvt.f64.f32", [](F a) { return (double)a; });
    define<F, double>("cvt.rn.f32.f64", [](double a) { return canonical((float)a); });
    define<F, uint16_t>("cvt.f32.f16", [](uint16_t a) { return emu::Half::to_float(a); });
    define<F, uint16_t>("cvt.f32.bf16", [](uint16_t a) { return std::bit_cast<float>((uint32_t)a << 16); });
    define<uint16_t, F>("cvt.rn.f16.f32", [](F a) { return to_f16(a); });
    define<uint16_t, F>("cvt.rn.bf16.f32", [](F a) { return to_bf16(a); });
    define<uint16_t, F>("cvt.rz.bf16.f32", [](F a) { return std::isnan(a) ? (uint16_t)0x7fff : (uint16_t)(std::bit_cast<uint32_t>(a) >> 16); });
    // the first operand becomes the upper half
    define<uint32_t, F, F>("cvt.rn.bf16x2.f32", [](F a, F b) { return (uint32_t)to_bf16(a) << 16 | to_bf16(b); });
    define<uint32_t, F, F>("cvt.rn.f16x2.f32", [](F a, F b) { return (uint32_t)to_f16(a) << 16 | to_f16(b); });
}
}  // namespace ptx
