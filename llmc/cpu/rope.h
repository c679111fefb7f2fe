// rope.h: rotary position embedding (Su et al. 2021, "RoFormer"), and the RMSNorm of each query and key before it (QK-norm: Henry et al. 2020, Qwen3).
// A head of HS elements is HS/2 pairs (i, i + HS/2), as in Hugging Face's weights; the pair of frequency w_i is rotated by the angle position * w_i.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>
#include "../base/check.h"
#include "../base/heads.h"
#include "device.h"
#include "vec.h"

namespace rope_detail {
// y = x rotated by the angles of one position; sign = -1 rotates back, which is the transpose. x is normed before if eps > 0, and then scaled by weight, if there is one.
template <class F>
inline void rotate(F* y, const F* x, const F* weight, const float* cos_sin, float sign, int HS, float eps) {
    const int half = HS / 2;
    float s = 1;
    if (eps > 0) {
        vfloat squares{};
        each_vector(half, [&](int i, int k) {
            const vfloat a = load_first(x + i, k), b = load_first(x + half + i, k);
            squares += a * a + b * b;
        });
        s = 1.0f / std::sqrt(sum(squares) / (float)HS + eps);
    }
    each_vector(half, [=](int i, int k) {
        vfloat a = load_first(x + i, k), b = load_first(x + half + i, k);
        if (eps > 0) a = a * s, b = b * s;
        if (weight) a = a * load_first(weight + i, k), b = b * load_first(weight + half + i, k);
        const vfloat c = load_first(cos_sin + i, k), d = load_first(cos_sin + half + i, k) * sign;
        store_first(y + i, a * c - b * d, k);
        store_first(y + half + i, b * c + a * d, k);
    });
}

// dx and dw += of one normed head. g, the gradient of what was rotated, is computed in both passes, as it is cheaper than to keep it.
//   dx = rstd * (dn - n * mean(dn * n)),  dn = g * weight,  n = x * rstd,  dw = g * n;  dw is null without weights, which are 1
template <class F>
inline void backward_normed(F* dx, float* dw, const F* dy, const F* x, const F* weight, const float* cos_sin, int HS, float eps) {
    const int half = HS / 2;
    const auto scale = [=](int i, int k) { return weight ? load_first(weight + i, k) : splat(1.0f); };
    vfloat squares{}, products{};  // sums of x * x and dn * x
    each_vector(half, [&](int i, int k) {
        const vfloat a = load_first(x + i, k), b = load_first(x + half + i, k), da = load_first(dy + i, k), db = load_first(dy + half + i, k);
        const vfloat c = load_first(cos_sin + i, k), d = load_first(cos_sin + half + i, k);
        squares += a * a + b * b;
        products += (da * c + db * d) * scale(i, k) * a + (db * c - da * d) * scale(half + i, k) * b;
    });
    const float s = 1.0f / std::sqrt(sum(squares) / (float)HS + eps), mean_dn_n = sum(products) * s / (float)HS;
    each_vector(half, [=](int i, int k) {
        const vfloat a = load_first(x + i, k) * s, b = load_first(x + half + i, k) * s, da = load_first(dy + i, k), db = load_first(dy + half + i, k);
        const vfloat c = load_first(cos_sin + i, k), d = load_first(cos_sin + half + i, k), ga = da * c + db * d, gb = db * c - da * d;
        if (dw) store_first(dw + i, load_first(dw + i, k) + ga * a, k), store_first(dw + half + i, load_first(dw + half + i, k) + gb * b, k);
        store_first(dx + i, (ga * scale(i, k) - a * mean_dn_n) * s, k);
        store_first(dx + half + i, (gb * scale(half + i, k) - b * mean_dn_n) * s, k);
    });
}

// The values of a token, which have no position.
template <class F> inline void copy_values(F* out, const F* inp, const Heads& heads) {
    if (out != inp) memcpy((void*)(out + heads.q() + heads.kv()), (const void*)(inp + heads.q() + heads.kv()), (size_t)heads.kv() * sizeof(F));
}
inline void check(const Heads& heads, const void* weight, float eps) {
    CHECK(eps > 0 || !weight, "rope: weights of a norm, but no norm");
    CHECK(heads.HS % 2 == 0, "rope: heads of %d, must be even: their elements are rotated in pairs", heads.HS);
}
}  // namespace rope_detail

// out: queries and keys, normed if eps > 0, then rotated by position pos + t; values are copied.
// out may be inp.
template <class F>
void rope_forward(F* out,                // (B, T, QKV)
                  const F* inp,          // (B, T, QKV)
                  const F* qnormw,       // (HS) or null, as knormw: the norm has none
                  const F* knormw,       // (HS) or null
                  const float* cos_sin,  // (positions, HS) cosines of a position's HS/2 angles, then their sines
                  int B, int T, int pos, const Heads& heads, float eps, stream_t) {
    rope_detail::check(heads, qnormw, eps);
    const Heads h = heads;
    parallel_rows((size_t)B * (size_t)T, h.qkv(), [=](size_t n) {
        F* y = out + n * (size_t)h.qkv();
        const F* x = inp + n * (size_t)h.qkv();
        const float* angles = cos_sin + ((size_t)pos + n % (size_t)T) * (size_t)h.HS;
        for (int i = 0; i < h.NH + h.NKV; i++) rope_detail::rotate(y + i * h.HS, x + i * h.HS, i < h.NH ? qnormw : knormw, angles, 1, h.HS, eps);
        rope_detail::copy_values(y, x, h);
    });
}

// dinp =   dqnormw, dknormw = or +=
//   g = dout rotated back; without norm dinp = g, else as in backward_normed, the gradients of weights summed over tokens and heads
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
                   int B, int T, const Heads& heads, float eps, bool accumulate, stream_t) {
    rope_detail::check(heads, qnormw, eps);
    constexpr size_t ROWS = 16;    // tokens a chunk, whose partial sums one task computes
    constexpr size_t CHUNKS = 64;  // in flight at a time: 64 KB of partial sums if HS = 128
    static std::vector<float> partial_sums;
    const Heads h = heads;
    const size_t N = (size_t)B * (size_t)T, HS = (size_t)h.HS;
    if (qnormw && partial_sums.size() < CHUNKS * 2 * HS) partial_sums.resize(CHUNKS * 2 * HS);
    float* partials = partial_sums.data();
    if (qnormw && !accumulate) for (size_t c = 0; c < HS; c++) dqnormw[c] = dknormw[c] = 0;
    for (size_t first = 0; first < N; first += CHUNKS * ROWS) {
        const size_t last = N - first < CHUNKS * ROWS ? N : first + CHUNKS * ROWS;
        parallel_blocks(last - first, ROWS, [=](size_t begin, size_t end) {
            float *dq = partials + begin / ROWS * 2 * HS, *dk = dq + HS;
            if (qnormw) for (size_t c = 0; c < 2 * HS; c++) dq[c] = 0;
            for (size_t n = first + begin; n < first + end; n++) {
                F* dx = dinp + n * (size_t)h.qkv();
                const F *dy = dout + n * (size_t)h.qkv(), *x = eps > 0 ? inp + n * (size_t)h.qkv() : nullptr;
                const float* angles = cos_sin + n % (size_t)T * HS;
                for (int i = 0; i < h.NH + h.NKV; i++) {
                    const int at = i * h.HS;
                    if (eps > 0) rope_detail::backward_normed(dx + at, !qnormw ? nullptr : i < h.NH ? dq : dk, dy + at, x + at, i < h.NH ? qnormw : knormw, angles, h.HS, eps);
                    else rope_detail::rotate(dx + at, dy + at, (const F*)nullptr, angles, -1, h.HS, 0);
                }
                rope_detail::copy_values(dx, dy, h);
            }
        });
        // the chunks' partial sums, added in their order, whichever thread computed them
        const size_t chunks = (last - first + ROWS - 1) / ROWS;
        for (size_t k = 0; qnormw && k < chunks; k++)
            for (size_t c = 0; c < HS; c++) dqnormw[c] += partials[k * 2 * HS + c], dknormw[c] += partials[(k * 2 + 1) * HS + c];
    }
}
