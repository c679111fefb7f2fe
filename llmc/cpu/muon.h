// muon.h: Muon (layers/muon.h) for matrices of one shape: momentum, five iterations of products by gemm.h, weights. One matrix after the other, each by all
// threads: what a matrix becomes depends on it alone, bitwise.
#pragma once
#include <atomic>
#include "../layers/muon.h"
#include "../layers/step_stats.h"
#include "gemm_bf16.h"

namespace muon_detail {
using namespace gemm_detail;

// out = alpha * add + beta * (A B^T); out and add have `stride` columns
template <class F> struct Scaled {
    F* out;
    const F* add;
    float alpha, beta;
    size_t stride;
    void prefetch(Prefetcher& output, OutputTile at) const { output.add(out + at.i0 * stride + at.j0, stride * sizeof(F), at.ni, at.nj * sizeof(F), true); }
    void call(const float* c, int ldc, OutputTile at) const {
        for (int i = 0; i < at.ni; i++)
            for (int j = 0; j < at.nj; j += W) {
                const size_t to = (at.i0 + i) * stride + at.j0 + j;
                vfloat y = beta * load(c + i * ldc + j);
                if (add) y += alpha * load_most(add + to, at.nj - j);
                store_most(out + to, y, at.nj - j);
            }
    }
};
template <class F> void product(Operand<F> a, size_t ni, Operand<F> b, size_t nj, size_t K, const Scaled<F>& to) { gemm<F>(a, ni, b, nj, K, Epilogue::with(to)); }

// Where the orthogonalised X is: x or y (r, c); a, b: (r, r)
template <class F> F* orthogonalize(F* x, F* y, F* a, F* b, size_t r, size_t c) {
    for (const PolarExpress& p : POLAR_EXPRESS) {
        product<F>({x, c, true}, r, {x, c, true}, r, c, {a, nullptr, 0, 1, r});
        product<F>({a, r, true}, r, {a, r, true}, r, r, {b, a, p.b, p.c, r});  // A is symmetric
        product<F>({b, r, true}, r, {x, c, false}, c, r, {y, x, p.a, 1, c});
        std::swap(x, y);
    }
    return x;
}
}  // namespace muon_detail

// Matrices (rows, cols) of layers/muon.h's update, G = step_stats->scale * grad. The master weight is updated where there is one, else the parameter; bf16
// parameters are the result rounded stochastically.
template <class F>
void muon_update(F* params,                   // params + matrices[i].weight: (rows, cols), likewise the others
                 float* master,               // or null: the parameters are the masters
                 const float* grads,
                 float* m,
                 const MuonMatrix* matrices,  // (n)
                 char* scratch,               // MuonScratch(n, rows, cols).bytes()
                 StepStats* step_stats,       // (1) the update is skipped if it says so; not_finite becomes 1 if a weight is
                 size_t n, int rows, int cols, Muon h, stream_t) {
    using namespace muon_detail;
    if (step_stats->skip) return;
    const MuonScratch size(1, rows, cols);
    const size_t R = (size_t)rows, C = (size_t)cols, r = size.r, c = size.c;
    const bool tall = rows > cols;
    const float grad_scale = step_stats->scale, factor = muon_scale(rows, cols);
    double* const sums = (double*)scratch;  // (rows)
    F *const x = (F*)(sums + c), *const y = x + r * c, *const a = y + r * c, *const b = a + r * r;
    for (size_t k = 0; k < n; k++) {
        const MuonMatrix at = matrices[k];
        const auto nesterov = [=](size_t i) {
            const float g = grad_scale * grads[at.grad + i];
            return g + h.momentum * (m[at.state + i] - g);
        };
        // 1. momentum, and the squares of U, row by row, in double, where no finite U overflows
        parallel_for(R, [=](size_t row) {
            double sum = 0;
            for (size_t i = row * C; i < (row + 1) * C; i++) {
                float& mi = m[at.state + i];
                mi += (1 - h.momentum) * (grad_scale * grads[at.grad + i] - mi);
                const double u = (double)nesterov(i);
                sum += u * u;
            }
            sums[row] = sum;
        });
        double square = 0;
        for (size_t row = 0; row < R; row++) square += sums[row];
        const float by = (float)(1 / (MUON_SAFETY * std::sqrt(square) + MUON_EPS));
        // 2. X, wide
        parallel_for(R, [=](size_t row) {
            for (size_t j = 0; j < C; j++) x[tall ? j * R + row : row * C + j] = F(by * nesterov(row * C + j));
        });
        // 3. five iterations  4. weights
        const F* const o = orthogonalize(x, y, a, b, r, c);
        parallel_for(R, [=](size_t row) {
            float taint = 0;  // NaN once a weight is not finite
            Random4 random{};
            for (size_t j = 0; j < C; j++) {
                const size_t i = row * C + j;
                float p = master ? master[at.state + i] : (float)params[at.weight + i];
                p -= h.lr * (factor * (float)o[tall ? j * R + row : i] + h.weight_decay * p);
                taint += 0.0f * p;
                if (master) master[at.state + i] = p;
                if constexpr (std::is_same_v<F, float>) params[at.weight + i] = p;
                else {
                    const uint64_t e = at.first + i;
                    if (j == 0 || e % 8 == 0) random = philox(h.seed, RNG_ROUNDING, (uint32_t)h.t, e / 8);
                    params[at.weight + i] = ::round_stochastic(p, random.x[e % 8 / 2] >> (e % 2 * 16));
                }
            }
            if (!(taint == 0)) std::atomic_ref(step_stats->not_finite).store(1, std::memory_order_relaxed);
        });
    }
}
