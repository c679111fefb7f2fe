// layernorm.h: layer normalisation (Ba, Kiros, Hinton 2016), and the residual addition before it.
#pragma once
#include <cmath>
#include <cstddef>
#include "../base/check.h"
#include "../layers/arguments.h"
#include "device.h"
#include "vec.h"

namespace layernorm_detail {
// Sum of term(c, k) over a row; k elements of the vector count. Four accumulators hide the latency of the addition.
template <class Term> inline float sum_row(int C, Term term) {
    vfloat s[4] = {};
    int c = 0;
    for (; c + 4 * W <= C; c += 4 * W) {
        s[0] += term(c, W), s[1] += term(c + W, W), s[2] += term(c + 2 * W, W), s[3] += term(c + 3 * W, W);
    }
    for (; c + W <= C; c += W) s[0] += term(c, W);
    if (c < C) {
        float rest[W];
        store(rest, term(c, C - c));
        s[1] += load_part(rest, C - c);
    }
    return sum((s[0] + s[1]) + (s[2] + s[3]));
}

template <class F>
inline void forward_row(F* out, float* mean, float* rstd, const F* x, const F* weight, const F* bias, int C, float eps) {
    // 1. mean  2. rstd  3. scale and shift
    float m = sum_row(C, [=](int c, int k) { return load_first(x + c, k); }) / (float)C;
    float variance = sum_row(C, [=](int c, int k) { vfloat d = load_first(x + c, k) - m; return d * d; }) / (float)C;
    float s = 1.0f / std::sqrt(variance + eps);
    each_vector(C, [=](int c, int k) {
        vfloat shift = bias ? load_first(bias + c, k) : splat(0.0f);
        store_first(out + c, (load_first(x + c, k) - m) * s * load_first(weight + c, k) + shift, k);
    });
    *mean = m, *rstd = s;
}

template <class F> inline void add_row(F* out, const F* a, const F* b, int n) {
    each_vector(n, [=](int c, int k) { store_first(out + c, load_first(a + c, k) + load_first(b + c, k), k); });
}
}  // namespace layernorm_detail

// out = (inp - mean) * rstd * weight + bias
template <class F>
void layernorm_forward(F* out,           // (N, C)
                       float* mean,      // (N)
                       float* rstd,      // (N) 1 / sqrt(variance + eps)
                       const F* inp,     // (N, C)
                       const F* weight,  // (C)
                       const F* bias,    // (C) or null
                       size_t N, int C, float eps, stream_t) {
    #pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++)
        layernorm_detail::forward_row(out + n * C, mean + n, rstd + n, inp + n * C, weight, bias, C, eps);
}

// residual = inp1 + inp2,  out = layernorm(residual).  Bitwise identical to the two functions one after the other: the row
// is rounded to F, and read again from the cache.  residual may be inp1 or inp2.
template <class F>
void residual_layernorm_forward(F* residual,      // (N, C)
                                F* out,           // (N, C)
                                float* mean,      // (N)
                                float* rstd,      // (N)
                                const F* inp1,    // (N, C)
                                const F* inp2,    // (N, C)
                                const F* weight,  // (C)
                                const F* bias,    // (C) or null
                                size_t N, int C, float eps, stream_t) {
    #pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++) {
        F* row = residual + n * C;
        layernorm_detail::add_row(row, inp1 + n * C, inp2 + n * C, C);
        layernorm_detail::forward_row(out + n * C, mean + n, rstd + n, row, weight, bias, C, eps);
    }
}

// out = inp1 + inp2;  out may be inp1 or inp2
template <class F>
void residual_forward(F* out, const F* inp1, const F* inp2, size_t n, stream_t) {
    constexpr size_t BLOCK = 16384;
    #pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += BLOCK)
        layernorm_detail::add_row(out + i, inp1 + i, inp2 + i, (int)(n - i < BLOCK ? n - i : BLOCK));
}

// dinp = or +=   dweight = or +=   dbias = or +=
//   dx = rstd * (dn - mean(dn) - n * mean(dn * n)),  dn = dout * weight,  n = (inp - mean) * rstd
//   dweight = sum over rows of dout * n,  dbias = sum over rows of dout
// dinp may be dout or inp.
template <class F>
void layernorm_backward(F* dinp,            // (N, C)
                        float* dweight,     // (C)
                        float* dbias,       // (C) or null
                        const F* dout,      // (N, C)
                        const F* inp,       // (N, C)
                        const float* mean,  // (N)
                        const float* rstd,  // (N)
                        const F* weight,    // (C)
                        size_t N, int C, LayernormBackward how, stream_t) {
    constexpr int MAX_C = 16384;  // two rows of partial sums on the stack: 128 KB
    constexpr size_t ROWS = 32;   // rows a chunk: partial sums within it are private to a thread
    CHECK(C <= MAX_C, "layernorm: %d channels, at most %d", C, MAX_C);
    if (!how.accumulate) {
        for (int c = 0; c < C; c++) dweight[c] = 0;
        for (int c = 0; dbias && c < C; c++) dbias[c] = 0;
    }
    // `ordered`: the partial sums are added in the order of the chunks, whichever thread computed them
    #pragma omp parallel for ordered schedule(static, 1)
    for (size_t begin = 0; begin < N; begin += ROWS) {
        alignas(64) float dw[MAX_C], db[MAX_C];
        for (int c = 0; c < C; c++) dw[c] = db[c] = 0;
        size_t end = begin + ROWS < N ? begin + ROWS : N;
        for (size_t r = begin; r < end; r++) {
            const F *dy = dout + r * C, *x = inp + r * C;
            F* dx = dinp + r * C;
            const float m = mean[r], s = rstd[r];
            // 1. the two means
            vfloat sum_dn{}, sum_dn_n{};
            each_vector(C, [&](int c, int k) {
                vfloat dn = load_first(dy + c, k) * load_first(weight + c, k);
                sum_dn += dn;
                sum_dn_n += dn * ((load_first(x + c, k) - m) * s);
            });
            const float mean_dn = sum(sum_dn) / (float)C, mean_dn_n = sum(sum_dn_n) / (float)C;
            // 2. dinp, and this row's share of dweight and dbias
            each_vector(C, [&](int c, int k) {
                vfloat d = load_first(dy + c, k), n = (load_first(x + c, k) - m) * s;
                store_first(dw + c, load_first(dw + c, k) + d * n, k);
                store_first(db + c, load_first(db + c, k) + d, k);
                vfloat g = (d * load_first(weight + c, k) - mean_dn - n * mean_dn_n) * s;
                store_first(dx + c, how.add_to_dinp ? load_first(dx + c, k) + g : g, k);
            });
        }
        #pragma omp ordered
        {
            for (int c = 0; c < C; c++) dweight[c] += dw[c];
            for (int c = 0; dbias && c < C; c++) dbias[c] += db[c];
        }
    }
}
