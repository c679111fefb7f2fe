// warp.cuh: device functions that kernels share: programmatic dependent launch, 16-byte vector loads, conversions, reductions over a warp and a block.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <cstddef>
#include <cstdint>
#include "../base/bf16.h"
#if __has_include(<ptx_on_cpu.h>)
#include <ptx_on_cpu.h>
#else
#include "ptx.cuh"
#endif

constexpr int WARP = 32;

// Programmatic dependent launch (PDL): the first statement of every kernel. After it the kernel may read what earlier kernels of the stream wrote
// and overwrite what they read; the next kernel's blocks may be scheduled on SMs that have capacity left.
__device__ inline void pdl_wait() {
    griddepcontrol_wait();
    griddepcontrol_launch_dependents();
}

__device__ inline size_t thread_index() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }
template <class F> __device__ inline F from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline bf16 from_float<bf16>(float x) { return bf16::from_bits(__bfloat16_as_ushort(__float2bfloat16_rn(x))); }

// 16 bytes: one vector load or store of a thread. p must be aligned to 16 bytes.
template <class F> struct alignas(16) Pack {
    static constexpr int SIZE = 16 / sizeof(F);
    F x[SIZE];
    __device__ F& operator[](int i) { return x[i]; }
    __device__ const F& operator[](int i) const { return x[i]; }
};
template <class F> __device__ inline Pack<F> load_pack(const F* p) { return *(const Pack<F>*)p; }
template <class F> __device__ inline void store_pack(F* p, const Pack<F>& pack) { *(Pack<F>*)p = pack; }
// Streaming loads and stores (ld.global.cs, st.global.cs), for what is not reused: it is evicted from the cache first.
template <class F> __device__ inline Pack<F> load_pack_stream(const F* p) { return __builtin_bit_cast(Pack<F>, __ldcs((const int4*)p)); }
template <class F> __device__ inline void store_pack_stream(F* p, const Pack<F>& pack) { __stcs((int4*)p, __builtin_bit_cast(int4, pack)); }

// K elements from p on, as floats, 16 bytes at a time; K is a multiple of a pack's elements. ONCE: streaming, not reused.
enum Reuse { AGAIN, ONCE };
template <Reuse reuse = AGAIN, int K, class F> __device__ inline void load_floats(float (&x)[K], const F* p) {
    constexpr int SIZE = Pack<F>::SIZE;
    static_assert(K % SIZE == 0);
    for (int k = 0; k < K; k += SIZE) {
        const Pack<F> pack = reuse == ONCE ? load_pack_stream(p + k) : load_pack(p + k);
        for (int i = 0; i < SIZE; i++) x[k + i] = to_float(pack[i]);
    }
}
template <Reuse reuse = AGAIN, int K, class F> __device__ inline void store_floats(F* p, const float (&x)[K]) {
    constexpr int SIZE = Pack<F>::SIZE;
    static_assert(K % SIZE == 0);
    for (int k = 0; k < K; k += SIZE) {
        Pack<F> pack;
        for (int i = 0; i < SIZE; i++) pack[i] = from_float<F>(x[k + i]);
        if (reuse == ONCE) store_pack_stream(p + k, pack); else store_pack(p + k, pack);
    }
}

// Butterfly reductions over all 32 lanes; every lane gets the result, and the order is fixed.
template <class X> __device__ inline X warp_sum(X x) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffff, x, offset);
    return x;
}
__device__ inline float warp_max(float x) {  // ignores NaN
    for (int offset = WARP / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, offset));
    return x;
}
// The same over each group of LANES neighbouring lanes, a power of two.
template <int LANES> __device__ inline float lanes_sum(float x) {
    for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffff, x, offset);
    return x;
}
template <int LANES> __device__ inline float lanes_max(float x) {
    for (int offset = LANES / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, offset));
    return x;
}
__device__ inline float lanes_sum(float x, int lanes) {  // of as many as an argument of the kernel says
    for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffff, x, offset);
    return x;
}
// Over the lanes with the same lane % LANES.
template <int LANES> __device__ inline float strided_sum(float x) {
    for (int offset = LANES; offset < WARP; offset *= 2) x += __shfl_xor_sync(0xffffffff, x, offset);
    return x;
}
// Whether x is true in any lane.
__device__ inline bool warp_any(bool x) { return __any_sync(0xffffffff, x); }
// The lanes in which x is true, a bit each.
__device__ inline unsigned lanes_where(bool x) { return __ballot_sync(0xffffffff, x); }
// Inclusive scan: the sum of x over the lanes up to and including this one.
template <class X> __device__ inline X warp_prefix_sum(X x) {
    const int lane = threadIdx.x % WARP;
    for (int offset = 1; offset < WARP; offset *= 2) {
        const X below = __shfl_up_sync(0xffffffff, x, offset);
        if (lane >= offset) x += below;
    }
    return x;
}
template <class X> __device__ inline X from_lane(X x, int lane) { return __shfl_sync(0xffffffff, x, lane); }
// The lanes whose x equals this lane's, a bit each (match.any); its own bit is set.
__device__ inline unsigned lanes_with_same(int x) { return __match_any_sync(0xffffffff, x); }

// Sum over a block of at most 1024 threads, a multiple of 32; every thread gets it. All threads must call it.
template <class X> __device__ inline X block_sum(X x) {
    __shared__ X sums[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    x = warp_sum(x);
    if (lane == 0) sums[warp] = x;
    __syncthreads();  // sync: every warp reads the sums of all warps
    x = warp_sum(lane < warps ? sums[lane] : X(0));
    __syncthreads();  // sync: the next call overwrites `sums`
    return x;
}
