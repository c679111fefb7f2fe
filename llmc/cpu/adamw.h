// adamw.h: AdamW (Loshchilov and Hutter 2019) for all tensors in one call over flat buffers.
#pragma once
#include <atomic>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include "../base/check.h"
#include "../layers/adamw.h"
#include "../layers/step_stats.h"
#include "../base/rng.h"
#include "device.h"
#include "vec.h"

namespace adamw_detail {
// Philox on W / 2 counters at once, each word in the lower half of a 64-bit lane. The upper halves may hold anything: the
// multiplication reads the lower ones only.
constexpr int LANES = W / 2, GROUP = 8 * W;  // counters a vector; elements a call of rounding_group
typedef uint64_t vwide __attribute__((vector_size(W * 4)));

#if defined(__AVX512F__) && !defined(__clang__)  // g++ does not see that a 32 x 32 to 64-bit product is enough
typedef long long vlong __attribute__((vector_size(W * 4)));
inline vwide multiply_low(vwide a, uint32_t b) {
    return (vwide)__builtin_ia32_pmuludq512_mask((vint)a, (vint)(vwide{} + b), vlong{}, (uint8_t)-1);
}
#else
inline vwide multiply_low(vwide a, uint32_t b) { return (a & 0xffffffff) * (uint64_t)b; }
#endif

// out = the two words of low's lane 0, of high's lane 0, of low's lane 1, ...
template <int... j> inline void store_words(uint16_t* out, vint low, vint high, std::integer_sequence<int, j...>) {
    vint first = VEC_SHUFFLE(low, high, (j / 4 * 2 + j % 2 + j % 4 / 2 * W)...);
    vint second = VEC_SHUFFLE(low, high, (W / 2 + j / 4 * 2 + j % 2 + j % 4 / 2 * W)...);
    memcpy(out, &first, sizeof first);
    memcpy(out + 2 * W, &second, sizeof second);
}

// bits[e] = rounding_bits(seed, t, first + e), e < GROUP; first is a multiple of 8
inline void rounding_group(uint16_t* bits, uint64_t seed, int t, uint64_t first) {
    vwide index = {};
    for (int lane = 0; lane < LANES; lane++) index[lane] = (uint64_t)lane;
    index += first / 8;
    for (int half = 0; half < 2; half++, index += LANES) {
        vwide c0 = index, c1 = index >> 32, c2 = vwide{} + (uint32_t)t, c3 = vwide{} + (uint64_t)RNG_ROUNDING;
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; round++) {
            vwide p0 = multiply_low(c0, 0xD2511F53), p1 = multiply_low(c2, 0xCD9E8D57);
            c0 = (p1 >> 32) ^ c1 ^ (uint64_t)k0, c1 = p1;
            c2 = (p0 >> 32) ^ c3 ^ (uint64_t)k1, c3 = p0;
            k0 += 0x9E3779B9, k1 += 0xBB67AE85;
        }
        vwide low = (c0 & 0xffffffff) | c1 << 32, high = (c2 & 0xffffffff) | c3 << 32;
        store_words(bits + half * 4 * W, (vint)low, (vint)high, std::make_integer_sequence<int, W>());
    }
}

inline void store_random(float* p, vfloat v, const uint16_t*, int k) { store_first(p, v, k); }
inline void store_random(bf16* p, vfloat v, const uint16_t* bits, int k) {
    vhalf random;
    memcpy(&random, bits, sizeof random);
    vhalf rounded = round_stochastic(v, random);
    if (k == W) memcpy((void*)p, &rounded, sizeof rounded);
    else memcpy((void*)p, &rounded, (size_t)k * 2);
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
                  const Segment* segments, int n_segments,
                  StepStats* step_stats,  // (1) the update is skipped if it says so; not_finite becomes 1 if a weight is
                  size_t n, AdamW h, stream_t) {
    using namespace adamw_detail;
    constexpr size_t BLOCK = 32768;  // elements a task: half a megabyte to a megabyte of memory
    static_assert(BLOCK % GROUP == 0);
    if (step_stats->skip) return;
    const float scale = step_stats->scale;
    const float mhat = (float)(1 / (1 - std::pow((double)h.beta1, h.t)));
    const float vhat = (float)(1 / (1 - std::pow((double)h.beta2, h.t)));

    // Elements are numbered over the whole model, of which these are the n from h.first on; a block begins where a group of random numbers does.
    const size_t first_block = h.first / BLOCK, last_block = (h.first + n + BLOCK - 1) / BLOCK;
    parallel_for(last_block - first_block, [=](size_t task) {
        vfloat taint = splat(0);  // 0, or NaN once a p was not finite: 0 times it is NaN. p is not where m and v were not: infinity - infinity, infinity / v
        const size_t block = (first_block + task) * BLOCK;
        for (int s = 0; s < n_segments; s++) {
            const size_t segment = h.first + segments[s].offset, segment_end = segment + segments[s].count;
            const float decay = segments[s].decay * h.weight_decay;
            for (size_t group = block > segment ? block : segment / GROUP * GROUP; group < block + BLOCK && group < segment_end; group += GROUP) {
                const size_t begin = group < segment ? segment : group;
                const size_t end = group + GROUP < segment_end ? group + GROUP : segment_end;
                const size_t i = begin - h.first;
                alignas(64) uint16_t bits[GROUP + W];  // W more: the last vector of a group that begins late reads on
                if constexpr (!std::is_same_v<F, float>) rounding_group(bits, h.seed, h.t, group);
                each_vector((int)(end - begin), [&](int j, int k) {
                    vfloat g = load_first(grads + i + j, k) * scale;
                    vfloat mi = load_first(m + i + j, k), vi = load_first(v + i + j, k);
                    // One product and one sum each: the compiler can contract them to an FMA in one way only, so results are bitwise
                    // identical for every F and every place in a segment.
                    mi += (1 - h.beta1) * (g - mi);
                    vi += (1 - h.beta2) * (g * g - vi);
                    vfloat p = master ? load_first(master + i + j, k) : load_first(params + i + j, k);
                    p -= h.lr * (mi * mhat / (vsqrt(vi * vhat) + h.eps) + decay * p);
                    taint += 0.0f * p;
                    store_first(m + i + j, mi, k);
                    store_first(v + i + j, vi, k);
                    if (master) store_first(master + i + j, p, k);
                    store_random(params + i + j, p, bits + (begin - group) + j, k);
                });
            }
        }
        if (!(sum(taint) == 0)) std::atomic_ref(step_stats->not_finite).store(1, std::memory_order_relaxed);
    });
}
