// matmul.h: the three products of a linear layer, out = inp @ weight^T + bias with weight (OC, C), by gemm.h. What follows
// a product immediately (bias, GELU, its derivative, accumulation) is done while the sums are still in the cache.
#pragma once
#include "gelu_math.h"
#include "gemm.h"
#include "gemm_bf16.h"

namespace matmul_detail {
using namespace gemm_detail;

template <class F> void gemm(Operand<F> a, size_t ni, Operand<F> b, size_t nj, size_t K, Finish finish) {
    if constexpr (std::is_same_v<F, bf16> && !std::is_same_v<Bf16Engine, Fma>) {
        if (Bf16Engine::usable()) return run<Bf16Engine>(a, ni, b, nj, K, finish);
    }
    run<Fma>(a, ni, b, nj, K, finish);
}

template <class F> inline vfloat load_most(const F* p, int n) { return n >= W ? load(p) : load_part(p, n); }
template <class F> inline void store_most(F* p, vfloat v, int n) { if (n >= W) store(p, v); else store_part(p, v, n); }
template <class F> inline vfloat rounded(vfloat v) {
    if constexpr (std::is_same_v<F, bf16>) return (vfloat)(__builtin_convertvector(to_bf16(v), vuint) << 16);
    return v;
}
}  // namespace matmul_detail

// The unit that multiplies F here, for the banner.
template <class F> const char* gemm_path() {
    using namespace gemm_detail;
    if constexpr (std::is_same_v<F, bf16> && !std::is_same_v<Bf16Engine, Fma>)
        if (Bf16Engine::usable()) return Bf16Engine::NAME;
    return Fma::NAME;
}

template <class F> struct MatmulForward { F* pre_gelu = nullptr; };  // (N, OC)

// out = inp @ weight^T + bias;  with pre_gelu: pre_gelu = that,  out = gelu(pre_gelu)
//
// The weights are the rows of the product: they are many and only copied, while the activations, of which there are few
// to a task, are the ones that get transposed; so the sums come out as (OC, N) and are turned around at the end.
template <class F>
void matmul_forward(F* out,             // (N, OC)
                    const F* inp,       // (N, C)
                    const F* weight,    // (OC, C)
                    const F* bias,      // (OC) or null
                    size_t N, int C, int OC, MatmulForward<F> also, stream_t) {
    using namespace matmul_detail;
    auto finish = [=](const float* c, size_t ldc, size_t oc0, int n_oc, size_t row0, int rows) {
        for (int o = 0; o < n_oc; o += W) {
            int left = n_oc - o;
            vfloat b = bias ? load_most(bias + oc0 + o, left) : vfloat{};
            for (int j = 0; j < rows; j += W) {
                vfloat x[W];
                for (int r = 0; r < W; r++) x[r] = load(c + (o + r) * ldc + j);
                transpose(x);
                for (int r = 0; r < W && j + r < rows; r++) {
                    size_t at = (row0 + j + r) * OC + oc0 + o;
                    vfloat y = bias ? x[r] + b : x[r];
                    if (also.pre_gelu) {
                        y = rounded<F>(y);
                        store_most(also.pre_gelu + at, y, left);
                        y = gelu(y);
                    }
                    store_most(out + at, y, left);
                }
            }
        }
    };
    gemm<F>({weight, (size_t)C, true}, OC, {inp, (size_t)C, true}, N, C, Finish::with(finish));
}

template <class F> struct MatmulBackwardInput {
    const F* pre_gelu = nullptr;  // (N, C): inp was gelu(pre_gelu), and the gradient goes through to pre_gelu
    bool accumulate = false;
};

// dinp (=, += if accumulate)  dout @ weight * gelu'(pre_gelu)
template <class F>
void matmul_backward_input(F* dinp,          // (N, C)
                           const F* dout,    // (N, OC)
                           const F* weight,  // (OC, C)
                           size_t N, int C, int OC, MatmulBackwardInput<F> also, stream_t) {
    using namespace matmul_detail;
    auto finish = [=](const float* c, size_t ldc, size_t row0, int rows, size_t c0, int n_c) {
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < n_c; j += W) {
                size_t at = (row0 + r) * C + c0 + j;
                int left = n_c - j;
                vfloat y = load(c + r * ldc + j);
                if (also.pre_gelu) y *= gelu_grad(load_most(also.pre_gelu + at, left));
                if (also.accumulate) y += load_most(dinp + at, left);
                store_most(dinp + at, y, left);
            }
    };
    gemm<F>({dout, (size_t)OC, true}, N, {weight, (size_t)C, false}, C, OC, Finish::with(finish));
}

// dweight (=, += if accumulate)  dout^T @ inp,   dbias likewise  sum over rows of dout
template <class F>
void matmul_backward_weight(float* dweight,   // (OC, C)
                            float* dbias,     // (OC) or null
                            const F* dout,    // (N, OC)
                            const F* inp,     // (N, C)
                            size_t N, int C, int OC, bool accumulate, stream_t) {
    using namespace matmul_detail;
    auto finish = [=](const float* c, size_t ldc, size_t oc0, int n_oc, size_t c0, int n_c) {
        for (int r = 0; r < n_oc; r++)
            for (int j = 0; j < n_c; j += W) {
                float* to = dweight + (oc0 + r) * C + c0 + j;
                vfloat y = load(c + r * ldc + j);
                if (accumulate) y += load_most(to, n_c - j);
                store_most(to, y, n_c - j);
            }
    };
    gemm<F>({dout, (size_t)OC, false}, OC, {inp, (size_t)C, false}, C, N, Finish::with(finish));
    if (!dbias) return;
    // A thread sums a strip of columns over all rows, in order.
    #pragma omp parallel for
    for (int o = 0; o < OC; o += 4 * W) {
        vfloat total[4] = {};
        for (size_t n = 0; n < N; n++)
            for (int v = 0; v < 4; v++)
                if (o + v * W < OC) total[v] += load_most(dout + n * OC + o + v * W, OC - o - v * W);
        for (int v = 0; v < 4 && o + v * W < OC; v++) {
            float* to = dbias + o + v * W;
            int left = OC - o - v * W;
            if (accumulate) total[v] += load_most(to, left);
            store_most(to, total[v], left);
        }
    }
}

// FLOP/s of all threads when nothing waits for memory: each multiplies blocks that stay in its L1 for so many seconds.
// The fastest of about 20 slices counts, so that a disturbance does not.
template <class F> double measure_peak_flops(double seconds) {
    using namespace gemm_detail;
    if constexpr (std::is_same_v<F, bf16> && !std::is_same_v<Bf16Engine, Fma>)
        if (Bf16Engine::usable()) return measure_peak<Bf16Engine>(seconds);
    return measure_peak<Fma>(seconds);
}
