// adamw.cuh: AdamW (Loshchilov and Hutter 2019) for all tensors in one launch over flat buffers.
#pragma once
#include <cmath>
#include <cstddef>
#include <type_traits>
#include "../layers/adamw.h"
#include "../layers/step_stats.h"
#include "../base/rng.h"
#include "device.cuh"

namespace adamw_detail {
template <class F> struct Buffers { F* params; float* master; const float* grads; float *m, *v; };  // (n) each
struct Step : AdamW { float mhat, vhat; };  // 1 / (1 - beta^t)

constexpr int GROUP = 8;  // elements a thread: one call of Philox gives their random bits; 16 bytes of bf16, 32 of fp32

// The CPU's formula, contracted to FMAs as compilers do there: bitwise identical in fp32. taint: 0, or NaN once a p was not finite: 0 times it is NaN.
// p is not where m and v were not: infinity - infinity, infinity / v.
__device__ inline void step_element(float& p, float& m, float& v, float& taint, float grad, float scale, float decay, const Step& h) {
    const float g = __fmul_rn(grad, scale);  // must not be fused with g - m
    m = fmaf(1 - h.beta1, g - m, m);
    v = fmaf(1 - h.beta2, fmaf(g, g, -v), v);
    p = fmaf(-h.lr, fmaf(decay, p, m * h.mhat / (sqrtf(v * h.vhat) + h.eps)), p);
    taint = fmaf(0, p, taint);
}

// The only segment that can contain element i: the last that does not begin after it; -1 if all do. A binary search.
__device__ inline int find_segment(const Segment* segments, int n_segments, size_t i) {
    int low = 0, high = n_segments;  // the first that begins after i is in low .. high
    while (low < high) {
        const int middle = (low + high) / 2;
        if (segments[middle].offset <= i) low = middle + 1; else high = middle;
    }
    return low - 1;
}

__device__ inline void store_rounded(float* params, const float (&p)[GROUP], const Step&, size_t) { store_floats(params, p); }
__device__ inline void store_rounded(bf16* params, const float (&p)[GROUP], const Step& h, size_t i) {
    const Random4 random = philox(h.seed, RNG_ROUNDING, (uint32_t)h.t, (h.first + i) / GROUP);
    Pack<bf16> rounded;
    for (int k = 0; k < GROUP; k++) rounded[k] = round_stochastic(p[k], random.x[k / 2] >> (k % 2 * 16));
    store_pack(params, rounded);
}

// Eight elements, aligned to 16 bytes, all in one segment; h.first is a multiple of 8.
template <class F> __device__ inline void step_group(const Buffers<F>& b, size_t i, float& taint, float scale, float decay, const Step& h) {
    float g[GROUP], m[GROUP], v[GROUP], p[GROUP];
    load_floats<ONCE>(g, b.grads + i);
    load_floats<ONCE>(m, b.m + i);
    load_floats<ONCE>(v, b.v + i);
    if (b.master) load_floats<ONCE>(p, b.master + i); else load_floats(p, b.params + i);
    for (int k = 0; k < GROUP; k++) step_element(p[k], m[k], v[k], taint, g[k], scale, decay, h);
    store_floats<ONCE>(b.m + i, m);
    store_floats<ONCE>(b.v + i, v);
    if (b.master) store_floats<ONCE>(b.master + i, p);
    store_rounded(b.params + i, p, h, i);
}

template <class F> __device__ inline void step_one(const Buffers<F>& b, size_t i, float& taint, float scale, float decay, const Step& h) {
    float p = b.master ? b.master[i] : to_float(b.params[i]);
    step_element(p, b.m[i], b.v[i], taint, b.grads[i], scale, decay, h);
    if (b.master) b.master[i] = p;
    if constexpr (std::is_same_v<F, float>) b.params[i] = p;
    else b.params[i] = round_stochastic(p, rounding_bits(h.seed, h.t, h.first + i));
}

template <class F>
__global__ void __launch_bounds__(256) adamw_kernel(Buffers<F> b,
                                                    const Segment* segments, int n_segments,
                                                    StepStats* step_stats,  // (1)
                                                    size_t n, Step h) {
    pdl_wait();
    const size_t begin = thread_index() * GROUP;
    if (begin >= n || step_stats->skip) return;
    const float scale = step_stats->scale;
    float taint = 0;
    int s = find_segment(segments, n_segments, begin);
    // 1. the usual case: all eight in one segment
    if (s >= 0 && begin + GROUP - segments[s].offset <= segments[s].count && h.first % GROUP == 0) {
        step_group(b, begin, taint, scale, segments[s].decay * h.weight_decay, h);
    } else {  // 2. else element by element, each with its own segment
        for (size_t i = begin; i < begin + GROUP; i++) {
            while (s + 1 < n_segments && segments[s + 1].offset <= i) s++;
            if (s >= 0 && i - segments[s].offset < segments[s].count) step_one(b, i, taint, scale, segments[s].decay * h.weight_decay, h);
        }
    }
    if (!(taint == 0)) atomicMax(&step_stats->not_finite, 1);
}
}  // namespace adamw_detail

//   m += (1 - beta1) (g - m),   v += (1 - beta2) (g^2 - v),   g = step_stats->scale * grad
//   p -= lr * (mhat / (sqrt(vhat) + eps) + decay * weight_decay * p),   mhat = m / (1 - beta1^t),  vhat = v / (1 - beta2^t)
// p is the master weight where there is one, else the parameter; bf16 parameters are p rounded stochastically.
template <class F>
void adamw_update(F* params,          // (n)
                  float* master,      // (n) or null: the parameters are the masters
                  const float* grads, // (n)
                  float* m,           // (n)
                  float* v,           // (n)
                  const Segment* segments, int n_segments,  // on the device, in the order of their offsets; none overlap
                  StepStats* step_stats,  // (1) on the device; the update is skipped if it says so; not_finite becomes 1 if a weight is
                  size_t n, AdamW h, stream_t stream) {
    using namespace adamw_detail;
    const Step step{h, (float)(1 / (1 - std::pow((double)h.beta1, h.t))), (float)(1 / (1 - std::pow((double)h.beta2, h.t)))};
    const Buffers<F> buffers{params, master, grads, m, v};
    launch(adamw_kernel<F>, over(ceil_div(n, GROUP), 256), stream, buffers, segments, n_segments, step_stats, n, step);
}
