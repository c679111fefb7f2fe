// layernorm.h: layer normalisation (Ba, Kiros, Hinton 2016), and the residual addition before it. RMSNorm (Zhang, Sennrich 2019), which Llama has, is
// the same with a mean of 0 and without a bias: where `mean` is null. Without weights they are 1.
#pragma once
#include <cmath>
#include <cstddef>
#include <vector>
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
    float m = mean ? sum_row(C, [=](int c, int k) { return load_first(x + c, k); }) / (float)C : 0;
    float variance = sum_row(C, [=](int c, int k) { vfloat d = load_first(x + c, k) - m; return d * d; }) / (float)C;
    float s = 1.0f / std::sqrt(variance + eps);
    each_vector(C, [=](int c, int k) {
        vfloat shift = bias ? load_first(bias + c, k) : splat(0.0f), scale = weight ? load_first(weight + c, k) : splat(1.0f);
        store_first(out + c, (load_first(x + c, k) - m) * s * scale + shift, k);
    });
    if (mean) *mean = m;
    *rstd = s;
}

template <class F> inline void add_row(F* out, const F* a, const F* b, int n) {
    each_vector(n, [=](int c, int k) { store_first(out + c, load_first(a + c, k) + load_first(b + c, k), k); });
}
}  // namespace layernorm_detail

// out = (inp - mean) * rstd * weight + bias
template <class F>
void layernorm_forward(F* out,           // (N, C)
                       float* mean,      // (N) or null: RMSNorm
                       float* rstd,      // (N) 1 / sqrt(variance + eps)
                       const F* inp,     // (N, C)
                       const F* weight,  // (C) or null: 1
                       const F* bias,    // (C) or null
                       size_t N, int C, float eps, stream_t) {
    parallel_rows(N, C, [=](size_t n) {
        layernorm_detail::forward_row(out + n * C, mean ? mean + n : nullptr, rstd + n, inp + n * C, weight, bias, C, eps);
    });
}

// residual = inp1 + inp2,  out = layernorm(residual).  Bitwise identical to the two functions one after the other: the row
// is rounded to F, and read again from the cache.  residual may be inp1 or inp2.
template <class F>
void residual_layernorm_forward(F* residual,      // (N, C)
                                F* out,           // (N, C)
                                float* mean,      // (N) or null: RMSNorm
                                float* rstd,      // (N)
                                const F* inp1,    // (N, C)
                                const F* inp2,    // (N, C)
                                const F* weight,  // (C) or null: 1
                                const F* bias,    // (C) or null
                                size_t N, int C, float eps, stream_t) {
    parallel_rows(N, C, [=](size_t n) {
        F* row = residual + n * C;
        layernorm_detail::add_row(row, inp1 + n * C, inp2 + n * C, C);
        layernorm_detail::forward_row(out + n * C, mean ? mean + n : nullptr, rstd + n, row, weight, bias, C, eps);
    });
}

// out = inp1 + inp2;  out may be inp1 or inp2
template <class F>
void residual_forward(F* out, const F* inp1, const F* inp2, size_t n, stream_t) {
    parallel_blocks(n, 16384, [=](size_t begin, size_t end) {
        layernorm_detail::add_row(out + begin, inp1 + begin, inp2 + begin, (int)(end - begin));
    });
}

namespace layernorm_detail {
// The rows from begin to end: dinp, and their sums of dweight and dbias in dw and db, which are null without weights.
template <class F>
void backward_rows(F* dinp, float* dw, float* db, const F* dout, const F* inp, const float* mean, const float* rstd, const F* weight, size_t begin, size_t end, int C,
                   bool add_to_dinp) {
    const auto scale = [=](int c, int k) { return weight ? load_first(weight + c, k) : splat(1.0f); };
    for (int c = 0; dw && c < C; c++) dw[c] = db[c] = 0;
    for (size_t r = begin; r < end; r++) {
        const F *dy = dout + r * C, *x = inp + r * C;
        F* dx = dinp + r * C;
        const float m = mean ? mean[r] : 0, s = rstd[r];
        // 1. the two means
        vfloat sum_dn{}, sum_dn_n{};
        each_vector(C, [&](int c, int k) {
            vfloat dn = load_first(dy + c, k) * scale(c, k);
            sum_dn += dn;
            sum_dn_n += dn * ((load_first(x + c, k) - m) * s);
        });
        const float mean_dn = mean ? sum(sum_dn) / (float)C : 0, mean_dn_n = sum(sum_dn_n) / (float)C;
        // 2. dinp, and this row's share of dweight and dbias
        each_vector(C, [&](int c, int k) {
            vfloat d = load_first(dy + c, k), n = (load_first(x + c, k) - m) * s;
            if (dw) store_first(dw + c, load_first(dw + c, k) + d * n, k), store_first(db + c, load_first(db + c, k) + d, k);
            vfloat g = (d * scale(c, k) - mean_dn - n * mean_dn_n) * s;
            store_first(dx + c, add_to_dinp ? load_first(dx + c, k) + g : g, k);
        });
    }
}
}  // namespace layernorm_detail

// dinp = or +=   dweight = or +=   dbias = or +=
//   dx = rstd * (dn - mean(dn) - n * mean(dn * n)),  dn = dout * weight,  n = (inp - mean) * rstd
//   dweight = sum over rows of dout * n,  dbias = sum over rows of dout;  of RMSNorm mean and mean(dn) are 0
// dinp may be dout or inp.
template <class F>
void layernorm_backward(F* dinp,            // (N, C)
                        float* dweight,     // (C) or null, as weight
                        float* dbias,       // (C) or null
                        const F* dout,      // (N, C)
                        const F* inp,       // (N, C)
                        const float* mean,  // (N) or null: RMSNorm
                        const float* rstd,  // (N)
                        const F* weight,    // (C) or null: 1
                        size_t N, int C, LayernormBackward how, stream_t) {
    CHECK(mean || !dbias, "layernorm: a bias, but no mean: RMSNorm has none");
    CHECK(weight || (!dweight && !dbias), "layernorm: gradients of weights or biases, but no weights");
    constexpr size_t ROWS = 32;    // rows a chunk, whose partial sums one task computes
    constexpr size_t CHUNKS = 64;  // in flight at a time: 0.4 MB of partial sums if C = 768
    static std::vector<float> partial_sums;
    if (partial_sums.size() < CHUNKS * 2 * (size_t)C) partial_sums.resize(CHUNKS * 2 * (size_t)C);
    float* partials = partial_sums.data();
    if (!how.accumulate) {
        for (int c = 0; dweight && c < C; c++) dweight[c] = 0;
        for (int c = 0; dbias && c < C; c++) dbias[c] = 0;
    }
    for (size_t first = 0; first < N; first += CHUNKS * ROWS) {
        const size_t last = N - first < CHUNKS * ROWS ? N : first + CHUNKS * ROWS;
        parallel_blocks(last - first, ROWS, [=](size_t begin_row, size_t end_row) {
            float* dw = dweight ? partials + begin_row / ROWS * 2 * C : nullptr;
            layernorm_detail::backward_rows(dinp, dw, dw ? dw + C : nullptr, dout, inp, mean, rstd, weight, first + begin_row, first + end_row, C, how.add_to_dinp);
        });
        if (!dweight) continue;
        // 3. the chunks' partial sums, added in their order, whichever thread computed them
        const size_t chunks = (last - first + ROWS - 1) / ROWS;
        parallel_blocks((size_t)C, 1024, [=](size_t begin, size_t end) {
            for (size_t k = 0; k < chunks; k++) {
                const float *dw = partials + k * 2 * C, *db = dw + C;
                for (size_t c = begin; c < end; c++) dweight[c] += dw[c];
                if (dbias) for (size_t c = begin; c < end; c++) dbias[c] += db[c];
            }
        });
    }
}
