// arithmetic.h: intrinsics for numbers, loads and stores with hints, atomics, fences.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <type_traits>
#include "blocks.h"

using std::max;
using std::min;
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
// Rounded products and sums, which no compiler may fuse: here a barrier for it, as -ffp-contract would otherwise.
namespace emu { template <class X> inline X rounded(X x) { asm volatile("" : "+m"(x)); return x; } }
inline float __fmul_rn(float a, float b) { return emu::rounded(a * b); }
inline float __fadd_rn(float a, float b) { return emu::rounded(a + b); }
inline float __fsub_rn(float a, float b) { return emu::rounded(a - b); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1 / a; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dmul_rn(double a, double b) { return emu::rounded(a * b); }
inline double __dadd_rn(double a, double b) { return emu::rounded(a + b); }
// The fast ones are right here to the last bit but one; on a GPU to a few units (CUDA C++ Programming Guide, table of intrinsics).
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float a, float b) { return std::fabs(b) > 0x1p126f && std::fabs(b) < INFINITY ? 0 * a : a / b; }
inline float __saturatef(float x) { return x >= 0 ? std::fmin(x, 1.0f) : 0; }
inline float rsqrtf(float a) { return 1 / std::sqrt(a); }
inline double rsqrt(double a) { return 1 / std::sqrt(a); }
inline void __sincosf(float x, float* s, float* c) { *s = std::sin(x), *c = std::cos(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero((unsigned)x); }
inline int __ffs(int x) { return x ? std::countr_zero((unsigned)x) + 1 : 0; }
inline unsigned __brev(unsigned x) { unsigned r = 0; for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i); return r; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    const uint64_t both = (uint64_t)y << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= (unsigned)(both >> (s >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return r;
}
inline size_t __cvta_generic_to_shared(const void* p) { return (size_t)p; }
inline long long clock64() { static long long now = 0; return now += 1 + emu::random(64); }
inline void __nanosleep(unsigned) { emu::pause(); }
inline void __trap() { emu::fault("__trap()"); abort(); }

template <class X> X __ldg(const X* p) { return *p; }
template <class X> X __ldcs(const X* p) { return *p; }
template <class X> X __ldcg(const X* p) { return *p; }
template <class X> X __ldca(const X* p) { return *p; }
template <class X> void __stcs(X* p, std::type_identity_t<X> x) { *p = x; }
template <class X> void __stcg(X* p, std::type_identity_t<X> x) { *p = x; }
template <class X> void __stwb(X* p, std::type_identity_t<X> x) { *p = x; }
template <class X> void __stwt(X* p, std::type_identity_t<X> x) { *p = x; }

inline void __threadfence() { EMU_WATCH(fence()); }
inline void __threadfence_system() { EMU_WATCH(fence()); }
inline void __threadfence_block() {}

namespace emu {
// Before an atomic operation others may go first; the operation itself is not to be seen as two accesses.
template <class X, class Next> [[gnu::no_sanitize("thread")]] X atomic(X* p, Next next) {
    if (machine().thread && random(4) == 0) pause();
    EMU_WATCH(atomic(p, sizeof(X)));
    const X old = *p;
    *p = next(old);
    return old;
}
}  // namespace emu
#define EMU_ATOMIC(name, expression)                                                                        \
    template <class X> X name(X* p, std::type_identity_t<X> v) { return emu::atomic(p, [=](X old) -> X { return (X)(expression); }); } \
    template <class X> X name##_block(X* p, std::type_identity_t<X> v) { return name(p, v); }               \
    template <class X> X name##_system(X* p, std::type_identity_t<X> v) { return name(p, v); }
EMU_ATOMIC(atomicAdd, old + v)
EMU_ATOMIC(atomicSub, old - v)
EMU_ATOMIC(atomicMax, old > v ? old : v)
EMU_ATOMIC(atomicMin, old < v ? old : v)
EMU_ATOMIC(atomicExch, (static_cast<void>(old), v))
EMU_ATOMIC(atomicAnd, old & v)
EMU_ATOMIC(atomicOr, old | v)
EMU_ATOMIC(atomicXor, old ^ v)
EMU_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
EMU_ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1)
#undef EMU_ATOMIC
template <class X> X atomicCAS(X* p, std::type_identity_t<X> expected, std::type_identity_t<X> v) {
    return emu::atomic(p, [=](X old) { return old == expected ? v : old; });
}
