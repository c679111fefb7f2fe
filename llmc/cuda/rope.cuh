// rope.cuh: rotary position embedding (Su et al. 2021, "RoFormer"), and the RMSNorm of each query and key before it (QK-norm: Henry et al. 2020, Qwen3).
// A head of HS elements is HS/2 pairs (i, i + HS/2), as in Hugging Face's weights; the pair of frequency w_i is rotated by the angle position * w_i.
// Limited by memory. A head is a power of two of neighbouring lanes, each with 16 bytes of bf16 of the first half and those that are rotated with them: what
// a thread needs of a head's sums goes by shuffles, and its columns are the same in every head, so that gradients of the norms' weights add up in registers.
#pragma once
#include <cstddef>
#include <type_traits>
#include "../base/heads.h"
#include "column_sums.cuh"
#include "device.cuh"

namespace rope_detail {
constexpr int THREADS = 256, MAX_HS = 256;
constexpr unsigned MAX_BLOCKS = 512;  // of the backward with norms: an SM runs 2 of 110 registers a thread at a time, an H100 these in two waves. Independent of the GPU, so that
                                      // results are bitwise identical on every one

// Heads of 8 or 24 bf16 have halves that no 16 bytes divide: K = 4, and they are read one by one.
template <int K, class F> __device__ inline void load(float (&x)[K], const F* p) {
    if constexpr (K % Pack<F>::SIZE == 0) load_floats(x, p);
    else for (int i = 0; i < K; i++) x[i] = to_float(p[i]);
}
template <int K, class F> __device__ inline void store(F* p, const float (&x)[K]) {
    if constexpr (K % Pack<F>::SIZE == 0) store_floats(p, x);
    else for (int i = 0; i < K; i++) p[i] = from_float<F>(x[i]);
}

// A thread's elements of a head: K of the first half from `column` on, and the K that are rotated with them, half a head behind. Where HS / 2K is no power of two,
// some lanes have none.
template <int K> struct Lane {
    int lanes, slot, column, half;  // slot: which of the block's heads
    bool has;
    __device__ Lane(int shift /* log2 of the lanes of a head */, int HS) : lanes(1 << shift), slot((int)threadIdx.x >> shift), column(((int)threadIdx.x & (lanes - 1)) * K), half(HS / 2), has(column < half) {}
    template <class F> __device__ void load_pair(float (&a)[K], float (&b)[K], const F* head) const {
        if (has) load(a, head + column), load(b, head + half + column);
    }
    // Weights of a norm; without them 1.
    template <class F> __device__ void load_weights(float (&a)[K], float (&b)[K], const F* weight) const {
        for (int i = 0; i < K; i++) a[i] = b[i] = 1;
        if (weight) load_pair(a, b, weight);
    }
    template <class F> __device__ void store_pair(F* head, const float (&a)[K], const float (&b)[K]) const {
        if (has) store(head + column, a), store(head + half + column, b);
    }
    __device__ float sum(float x) const { return lanes_sum(x, lanes); }
};

// out: queries and keys, normed if NORM, then rotated; sign = -1 rotates back, which is the transpose. A thread for K pairs of a head; per_token: heads of
// a token, those of the values too if they are copied. Four blocks an SM are 64 registers; unasked, nvcc 13.0 took 48 for sm_90, and spilled.
template <class F, int K, bool NORM>
__global__ void __launch_bounds__(THREADS, 4) rotate_kernel(F* out, const F* inp, const F* qnormw, const F* knormw, const float* cos_sin, unsigned units, int per_token,
                                                         int T, int pos, Heads heads, int shift, float sign, float eps) {
    pdl_wait();
    const int HS = heads.HS;
    const Lane<K> lane(shift, HS);
    const unsigned unit = blockIdx.x * (THREADS >> shift) + lane.slot, n = unit / (unsigned)per_token;
    const int head = (int)(unit % (unsigned)per_token);
    const size_t at = ((size_t)n * (heads.NH + 2 * heads.NKV) + head) * HS;
    const bool there = unit < units, rotated = head < heads.NH + heads.NKV;
    float a[K] = {}, b[K] = {}, s = 1;
    if (there) lane.load_pair(a, b, inp + at);
    if constexpr (NORM) {
        // 1. the head's mean square, by all lanes of the warp
        float squares = 0;
        for (int i = 0; i < K; i++) squares += a[i] * a[i] + b[i] * b[i];
        s = 1.0f / sqrtf(lane.sum(squares) / (float)HS + eps);
    }
    if (!there) return;
    if (rotated) {
        // 2. scale  3. rotate
        float c[K] = {}, d[K] = {};
        if constexpr (NORM) {
            lane.load_weights(c, d, head < heads.NH ? qnormw : knormw);
            for (int i = 0; i < K; i++) a[i] *= s * c[i], b[i] *= s * d[i];
        }
        lane.load_pair(c, d, cos_sin + ((size_t)pos + n % (unsigned)T) * HS);
        for (int i = 0; i < K; i++) {
            const float x = a[i], sine = sign * d[i];
            a[i] = x * c[i] - b[i] * sine, b[i] = b[i] * c[i] + x * sine;
        }
    }
    lane.store_pair(out + at, a, b);
}

// dinp and this block's partial sums of dqnormw and dknormw. A block loops over the query heads of all tokens, then over the key heads.
//   g = dout rotated back,  dx = rstd * (dn - n * mean(dn * n)),  dn = g * weight,  n = x * rstd,  dweight = sum of g * n
template <class F, int K>
__global__ void __launch_bounds__(THREADS) backward_kernel(F* dinp, float* partials /* (gridDim.x, 2, HS) */, const F* dout, const F* inp, const F* qnormw, const F* knormw,
                                                           const float* cos_sin, unsigned N, int T, Heads heads, int shift, float eps) {
    pdl_wait();
    alignas(16) __shared__ float sums[THREADS][2 * K];
    const int HS = heads.HS;
    const Lane<K> lane(shift, HS);
    const unsigned slots = THREADS >> shift;
    for (int keys = 0; keys < 2; keys++) {
        const unsigned count = keys ? heads.NKV : heads.NH, units = N * count;
        float wa[K], wb[K], dw[2 * K] = {};
        lane.load_weights(wa, wb, keys ? knormw : qnormw);
        for (unsigned begin = blockIdx.x * slots; begin < units; begin += gridDim.x * slots) {
            const unsigned unit = begin + lane.slot, n = unit / count;
            const size_t at = ((size_t)n * (heads.NH + 2 * heads.NKV) + unit % count + (keys ? heads.NH : 0)) * HS;
            float a[K] = {}, b[K] = {}, ga[K] = {}, gb[K] = {}, c[K] = {}, d[K] = {};
            if (unit < units) {
                lane.load_pair(a, b, inp + at);
                lane.load_pair(ga, gb, dout + at);
                lane.load_pair(c, d, cos_sin + (size_t)(n % (unsigned)T) * HS);
            }
            // 1. g; the sums of x * x and of dn * x over the head, by all lanes of the warp
            float squares = 0, products = 0;
            for (int i = 0; i < K; i++) {
                const float y = ga[i];
                ga[i] = y * c[i] + gb[i] * d[i], gb[i] = gb[i] * c[i] - y * d[i];
                squares += a[i] * a[i] + b[i] * b[i], products += ga[i] * wa[i] * a[i] + gb[i] * wb[i] * b[i];
            }
            const float s = 1.0f / sqrtf(lane.sum(squares) / (float)HS + eps), mean_dn_n = lane.sum(products) * s / (float)HS;
            // 2. dweight  3. dx
            for (int i = 0; i < K; i++) {
                const float na = a[i] * s, nb = b[i] * s;
                dw[i] += ga[i] * na, dw[K + i] += gb[i] * nb;
                a[i] = (ga[i] * wa[i] - na * mean_dn_n) * s, b[i] = (gb[i] * wb[i] - nb * mean_dn_n) * s;
            }
            if (unit < units) lane.store_pair(dinp + at, a, b);
        }
        if (!qnormw) continue;
        // 4. the block's partial sums
        store_floats(sums[threadIdx.x], dw);
        __syncthreads();  // sync: from here on a thread reads a column of all heads
        for (int j = threadIdx.x; j < HS; j += THREADS) {
            const int second = j >= lane.half, c = second ? j - lane.half : j;
            float total = 0;
            for (unsigned slot = 0; slot < slots; slot++) total += sums[slot * lane.lanes + c / K][c % K + second * K];
            partials[((size_t)blockIdx.x * 2 + keys) * HS + j] = total;
        }
        __syncthreads();  // sync: the keys overwrite `sums`
    }
}

// The values, which have no position.
template <class F, int K> __global__ void __launch_bounds__(THREADS) copy_values_kernel(F* out, const F* inp, unsigned units, Heads heads, int shift) {
    pdl_wait();
    const Lane<K> lane(shift, heads.HS);
    const unsigned unit = blockIdx.x * (THREADS >> shift) + lane.slot;
    if (unit >= units) return;
    const size_t at = ((size_t)(unit / (unsigned)heads.NKV) * (heads.NH + 2 * heads.NKV) + heads.NH + heads.NKV + unit % (unsigned)heads.NKV) * heads.HS;
    float a[K], b[K];
    lane.load_pair(a, b, inp + at);
    lane.store_pair(out + at, a, b);
}

// What a head's lanes are, and the kernels of its K: 8 pairs a thread, or 4.
inline int lanes_shift(const Heads& heads, int K) {
    int shift = 0;
    while ((K << shift) < heads.HS / 2) shift++;
    return shift;
}
template <class Run> void with_pairs(const Heads& heads, size_t N, Run run) {
    CHECK(heads.HS % 8 == 0 && heads.HS <= MAX_HS, "rope: heads of %d, must be a multiple of 8 up to %d", heads.HS, MAX_HS);
    CHECK(N * (size_t)(heads.NH + 2 * heads.NKV) < (size_t)1 << 31, "rope: %zu tokens of %d heads are too many", N, heads.NH + 2 * heads.NKV);
    if (heads.HS % 16 == 0) run(std::integral_constant<int, 8>()); else run(std::integral_constant<int, 4>());
}
inline Grid grid_of(unsigned units, int shift) { return {(unsigned)ceil_div(units, THREADS >> shift), THREADS}; }

template <class F>
void rotate(F* out, const F* inp, const F* qnormw, const F* knormw, const float* cos_sin, int B, int T, int pos, const Heads& heads, float sign, float eps, stream_t stream) {
    CHECK(eps > 0 || !qnormw, "rope: weights of a norm, but no norm");
    const size_t N = (size_t)B * (size_t)T;
    with_pairs(heads, N, [&](auto k) {
        constexpr int K = k;
        const int shift = lanes_shift(heads, K), per_token = heads.NH + (out == inp ? 1 : 2) * heads.NKV;
        const unsigned units = (unsigned)N * (unsigned)per_token;
        launch(eps > 0 ? rotate_kernel<F, K, true> : rotate_kernel<F, K, false>, grid_of(units, shift), stream, out, inp, qnormw, knormw, cos_sin, units, per_token, T, pos, heads, shift, sign, eps);
    });
}
}  // namespace rope_detail

// Workspace of the backward, in bytes.
inline size_t rope_workspace(int HS) { return rope_detail::MAX_BLOCKS * 2 * (size_t)HS * sizeof(float); }

// out: queries and keys, normed if eps > 0, then rotated by position pos + t; values are copied.
// out may be inp.
template <class F>
void rope_forward(F* out,                // (B, T, QKV)
                  const F* inp,          // (B, T, QKV)
                  const F* qnormw,       // (HS) or null, as knormw: the norm has none
                  const F* knormw,       // (HS) or null
                  const float* cos_sin,  // (positions, HS) cosines of a position's HS/2 angles, then their sines
                  int B, int T, int pos, const Heads& heads, float eps, stream_t stream) {
    rope_detail::rotate(out, inp, qnormw, knormw, cos_sin, B, T, pos, heads, 1, eps, stream);
}

// dinp =   dqnormw, dknormw = or +=
//   g = dout rotated back; without norm dinp = g, else as over backward_kernel, the gradients of weights summed over tokens and heads
// dinp may be dout.
template <class F>
void rope_backward(F* dinp,               // (B, T, QKV)
                   float* dqnormw,        // (HS) or null, without weights
                   float* dknormw,        // (HS) or null
                   const F* dout,         // (B, T, QKV)
                   const F* inp,          // (B, T, QKV) or null, without norm: eps = 0
                   const F* qnormw,       // (HS) or null
                   const F* knormw,       // (HS) or null
                   const float* cos_sin,  // (positions, HS)
                   int B, int T, const Heads& heads, float eps, bool accumulate, stream_t stream) {
    using namespace rope_detail;
    if (eps == 0) return rotate(dinp, dout, qnormw, knormw, cos_sin, B, T, 0, heads, -1, eps, stream);
    CHECK(!qnormw || stream.workspace_bytes >= rope_workspace(heads.HS), "rope: %zu bytes of workspace, must be %zu", stream.workspace_bytes, rope_workspace(heads.HS));
    float* partials = (float*)stream.workspace;
    const size_t N = (size_t)B * (size_t)T;
    with_pairs(heads, N, [&](auto k) {
        constexpr int K = k;
        const int shift = lanes_shift(heads, K);
        Grid grid = grid_of((unsigned)N * (unsigned)heads.NH, shift);
        if (grid.blocks.x > MAX_BLOCKS) grid.blocks.x = MAX_BLOCKS;
        launch(backward_kernel<F, K>, grid, stream, dinp, partials, dout, inp, qnormw, knormw, cos_sin, (unsigned)N, T, heads, shift, eps);
        const unsigned values = (unsigned)N * (unsigned)heads.NKV;
        if (dinp != dout) launch(copy_values_kernel<F, K>, grid_of(values, shift), stream, dinp, dout, values, heads, shift);
        if (dqnormw) column_sums_detail::reduce_partials({{dqnormw, dknormw}}, partials, (int)grid.blocks.x, 2 * heads.HS, heads.HS, accumulate, stream);
    });
}
