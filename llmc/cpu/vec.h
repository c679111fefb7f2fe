// vec.h: SIMD: the widest float vector of this CPU, by the compiler's vector extensions. Layers are written once, for vectors of W
// floats: W = 16 on AVX-512, 8 on AVX2, 4 elsewhere (SSE, NEON). bf16 is widened on load, rounded on store.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include "../base/bf16.h"

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vfloat __attribute__((vector_size(W * 4)));
typedef int32_t vint __attribute__((vector_size(W * 4)));
typedef uint32_t vuint __attribute__((vector_size(W * 4)));
typedef uint16_t vhalf __attribute__((vector_size(W * 2)));

inline vfloat splat(float x) { return x - vfloat{}; }  // x - 0 keeps the sign of -0 and every NaN

inline vfloat load(const float* p) { vfloat v; memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, vfloat v) { memcpy(p, &v, sizeof v); }

#if defined(__AVX512F__) && !defined(__clang__)  // g++ splits the generic code into two halves and joins them again
inline vuint widen(vhalf h) {
    typedef int16_t vshort __attribute__((vector_size(W * 2)));
    return (vuint)__builtin_ia32_pmovzxwd512_mask((vshort)h, vint{}, (uint16_t)-1);
}
inline vfloat vsqrt(vfloat x) { return __builtin_ia32_sqrtps512_mask(x, x, (uint16_t)-1, 4 /* the current rounding mode */); }
#else
inline vuint widen(vhalf h) { return __builtin_convertvector(h, vuint); }
inline vfloat vsqrt(vfloat x) { for (int i = 0; i < W; i++) x[i] = __builtin_sqrtf(x[i]); return x; }
#endif

inline vfloat load(const bf16* p) {
    vhalf h;
    memcpy(&h, p, sizeof h);
    return (vfloat)(widen(h) << 16);
}
// Round to nearest even; a NaN keeps its upper bits and becomes quiet: bitwise identical to bf16(float).
inline vhalf to_bf16(vfloat v) {
    vuint u = (vuint)v;
    vuint rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, quiet = (u >> 16) | 0x40;
    vuint nan = (vuint)(v != v);
    return __builtin_convertvector((rounded & ~nan) | (quiet & nan), vhalf);
}
inline void store(bf16* p, vfloat v) { vhalf h = to_bf16(v); memcpy(p, &h, sizeof h); }
// Stochastic rounding, element by element bitwise identical to bf16.h's.
inline vhalf round_stochastic(vfloat v, vhalf random) {
    vuint u = (vuint)v;
    vuint rounded = (u & 0x7f800000) == 0x7f800000 ? u : u + widen(random);
    rounded = v != v ? u | 0x400000 : rounded;
    return __builtin_convertvector(rounded >> 16, vhalf);
}

// The tail of a row, a partial vector: missing elements read as 0 and are not written.
template <class F> inline vfloat load_part(const F* p, int n) {
    F part[W] = {};
    memcpy(part, p, (size_t)n * sizeof(F));
    return load(part);
}
template <class F> inline void store_part(F* p, vfloat v, int n) {
    F part[W];
    store(part, v);
    memcpy(p, part, (size_t)n * sizeof(F));
}

// Transposes W vectors of W elements in registers: x[i][j] <-> x[j][i], in log2(W) stages that swap blocks of 1, 2, 4, ... The elements
// may be any 4 bytes: they are only moved.
#if defined(__clang__)
#define VEC_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VEC_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vint{__VA_ARGS__})
#endif
template <int S, int... j> inline void swap_blocks(vfloat* x, std::integer_sequence<int, j...>) {
    #pragma GCC unroll 16
    for (int i = 0; i < W; i++) {
        if (i & S) continue;
        vfloat a = x[i], b = x[i + S];
        x[i]     = VEC_SHUFFLE(a, b, ((j & S) ? W + j - S : j)...);
        x[i + S] = VEC_SHUFFLE(a, b, ((j & S) ? W + j : j + S)...);
    }
}
inline void transpose(vfloat x[W]) {
    constexpr auto lanes = std::make_integer_sequence<int, W>();
    swap_blocks<1>(x, lanes);
    swap_blocks<2>(x, lanes);
    if constexpr (W > 4) swap_blocks<4>(x, lanes);
    if constexpr (W > 8) swap_blocks<8>(x, lanes);
}

inline vfloat select(vint mask, vfloat yes, vfloat no) { return mask ? yes : no; }  // mask: a comparison of two vectors
inline vfloat vmax(vfloat a, vfloat b) { return a > b ? a : b; }
inline vfloat vmin(vfloat a, vfloat b) { return a < b ? a : b; }

// Loads n <= W elements; with n = W known to the compiler it is a plain load.
template <class F> inline vfloat load_first(const F* p, int n) { return n == W ? load(p) : load_part(p, n); }
template <class F> inline void store_first(F* p, vfloat v, int n) { if (n == W) store(p, v); else store_part(p, v, n); }
// A row of n elements, W at a time: body(i, W) for whole vectors, then body(i, n - i) for the tail.
template <class Body> inline void each_vector(int n, Body body) {
    int i = 0;
    for (; i + W <= n; i += W) body(i, W);
    if (i < n) body(i, n - i);
}

// Horizontal sum and maximum of a vector, always as the same tree (halves are folded), so that the order of additions does not
// depend on the compiler.
template <int N, class Fold> inline float fold_halves(const float* x, Fold fold) {
    if constexpr (N == 2) return fold(x[0], x[1]);
    else {
        typedef float half __attribute__((vector_size(N * 2)));
        half low, high;
        memcpy(&low, x, sizeof low), memcpy(&high, x + N / 2, sizeof high);
        low = fold(low, high);
        float y[N / 2];
        memcpy(y, &low, sizeof low);
        return fold_halves<N / 2>(y, fold);
    }
}
inline float sum(vfloat v) { float x[W]; store(x, v); return fold_halves<W>(x, [](auto a, auto b) { return a + b; }); }
inline float max(vfloat v) { float x[W]; store(x, v); return fold_halves<W>(x, [](auto a, auto b) { return a > b ? a : b; }); }

// e^x = 2^k * e^r,  k = round(x / ln 2),  |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7, whose remainder is
// at most r^8/8! = 5e-9 relative: under half an ulp of a float. Below -87.3 the result is 0 (no denormals), above 88.3 it
// is infinite, NaN stays NaN.
inline vfloat vexp(vfloat x) {
    constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it leaves the integer nearest to x in the low bits
    vfloat k = x * 1.44269504f + ROUND;
    vuint exponent = (vuint)k << 23;
    k -= ROUND;
    vfloat r = x - k * 0.693359375f - k * -2.12194440e-4f;  // ln 2 in two parts: the first product is exact
    vfloat p = splat(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    vfloat y = (vfloat)((vuint)p + exponent);
    y = select(x < -87.3f, vfloat{}, y);
    y = select(x > 88.3f, splat(__builtin_inff()), y);
    return select(x != x, x, y);
}

// tanh(x) = 1 - 2 / (e^2x + 1): no overflow for any x, since e^2x is 0 or infinite at the ends. Near 0 the difference
// cancels; there the odd series x - x^3/3 + 2x^5/15 - 17x^7/315 takes over (|x| < 0.2: error x^9 * 0.022 / x < 6e-8).
inline vfloat vtanh(vfloat x) {
    vfloat far = 1.0f - 2.0f / (vexp(2.0f * x) + 1.0f);
    vfloat s = x * x;
    vfloat near = x + x * s * (-1.0f / 3 + s * (2.0f / 15 + s * (-17.0f / 315)));
    return select((vint)(s < 0.04f), near, far);
}

// 2^x for x <= 127, by the same steps; the multiplication keeps a NaN. Below -126 the result is 0.
inline vfloat vexp2(vfloat x) {
    constexpr float ROUND = 12582912.0f + 127;  // with the bias of the exponent field
    vfloat k = x + ROUND;
    vfloat power = (vfloat)((vint)k << 23);
    vfloat r = x - (k - ROUND);
    vfloat p = splat(1.5252734e-5f);            // ln(2)^7 / 7!
    p = p * r + 1.5403530e-4f;
    p = p * r + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
    return select(x < -126.0f, vfloat{}, p * power);
}
