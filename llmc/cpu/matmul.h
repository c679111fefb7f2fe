// matmul.h: the three products of a linear layer, out = inp @ weight^T + bias with weight (OC, C), by gemm.h, with fused
// epilogues: bias, GELU, its derivative and accumulation are done while the accumulators are still in the cache.
#pragma once
#include "../layers/arguments.h"
#include "gelu_math.h"
#include "gemm.h"
#include "gemm_bf16.h"

namespace matmul_detail {
using namespace gemm_detail;

template <class F> inline vfloat rounded(vfloat v) {
    if constexpr (std::is_same_v<F, bf16>) return (vfloat)(__builtin_convertvector(to_bf16(v), vuint) << 16);
    return v;
}

template <class F> struct ForwardEpilogue {
    F *out, *pre_gelu;
    const F* bias;
    size_t OC;
    void prefetch(Prefetcher& output, OutputTile at) const {
        output.add(out + at.i0 * OC + at.j0, OC * sizeof(F), at.ni, at.nj * sizeof(F), true);
        if (pre_gelu) output.add(pre_gelu + at.i0 * OC + at.j0, OC * sizeof(F), at.ni, at.nj * sizeof(F), true);
    }
    void call(const float* c, int ldc, OutputTile at) const {
        for (int j = 0; j < at.nj; j += W) {
            const int left = at.nj - j;
            const vfloat b = bias ? load_most(bias + at.j0 + j, left) : vfloat{};
            for (int i = 0; i < at.ni; i++) {
                const size_t to = (at.i0 + i) * OC + at.j0 + j;
                vfloat y = load(c + i * ldc + j);
                if (bias) y += b;
                if (pre_gelu) {
                    y = rounded<F>(y);
                    store_most(pre_gelu + to, y, left);
                    y = gelu(y);
                }
                store_most(out + to, y, left);
            }
        }
    }
};
template <class F> struct InputEpilogue {
    F* dinp;
    const F* pre_gelu;
    size_t C;
    bool accumulate;
    void prefetch(Prefetcher& output, OutputTile at) const {
        output.add(dinp + at.i0 * C + at.j0, C * sizeof(F), at.ni, at.nj * sizeof(F), true);
        if (pre_gelu) output.add(pre_gelu + at.i0 * C + at.j0, C * sizeof(F), at.ni, at.nj * sizeof(F), false);
    }
    void call(const float* c, int ldc, OutputTile at) const {
        for (int i = 0; i < at.ni; i++)
            for (int j = 0; j < at.nj; j += W) {
                size_t to = (at.i0 + i) * C + at.j0 + j;
                int left = at.nj - j;
                vfloat y = load(c + i * ldc + j);
                if (pre_gelu) y *= gelu_grad(load_most(pre_gelu + to, left));
                if (accumulate) y += load_most(dinp + to, left);
                store_most(dinp + to, y, left);
            }
    }
};
struct WeightEpilogue {
    float* dweight;
    size_t C;
    bool accumulate;
    void prefetch(Prefetcher& output, OutputTile at) const {
        output.add(dweight + at.i0 * C + at.j0, C * sizeof(float), at.ni, at.nj * sizeof(float), true);
    }
    void call(const float* c, int ldc, OutputTile at) const {
        for (int i = 0; i < at.ni; i++)
            for (int j = 0; j < at.nj; j += W) {
                float* to = dweight + (at.i0 + i) * C + at.j0 + j;
                vfloat y = load(c + i * ldc + j);
                if (accumulate) y += load_most(to, at.nj - j);
                store_most(to, y, at.nj - j);
            }
    }
};
}  // namespace matmul_detail

// The instruction set of the micro-kernel that multiplies F here, for the banner.
template <class F> std::string gemm_path() {
    using namespace gemm_detail;
    if constexpr (std::is_same_v<F, bf16> && !std::is_same_v<Bf16Kernel, Fma>)
        if (Bf16Kernel::usable()) return Bf16Kernel::NAME;
    return Fma::NAME;
}

// out = inp @ weight^T + bias;  with pre_gelu: pre_gelu = that,  out = gelu(pre_gelu)
//
// The activations are operand A, the weights operand B, so that the accumulators are (N, OC), as `out` is.
template <class F>
void matmul_forward(F* out,             // (N, OC)
                    const F* inp,       // (N, C)
                    const F* weight,    // (OC, C)
                    const F* bias,      // (OC) or null
                    size_t N, int C, int OC, MatmulForward<F> also, stream_t) {
    using namespace matmul_detail;
    matmul_detail::ForwardEpilogue<F> epilogue = {out, also.pre_gelu, bias, (size_t)OC};
    gemm<F>({inp, (size_t)C, true}, N, {weight, (size_t)C, true}, OC, C, Epilogue::with(epilogue));
}

// dinp (=, += if accumulate)  dout @ weight * gelu'(pre_gelu)
template <class F>
void matmul_backward_input(F* dinp,          // (N, C)
                           const F* dout,    // (N, OC)
                           const F* weight,  // (OC, C)
                           size_t N, int C, int OC, MatmulBackwardInput<F> also, stream_t) {
    using namespace matmul_detail;
    matmul_detail::InputEpilogue<F> epilogue = {dinp, also.pre_gelu, (size_t)C, also.accumulate};
    gemm<F>({dout, (size_t)OC, true}, N, {weight, (size_t)C, false}, C, OC, Epilogue::with(epilogue));
}

// dweight (=, += if accumulate)  dout^T @ inp,   dbias likewise  sum over rows of dout
template <class F>
void matmul_backward_weight(float* dweight,   // (OC, C)
                            float* dbias,     // (OC) or null
                            const F* dout,    // (N, OC)
                            const F* inp,     // (N, C)
                            size_t N, int C, int OC, bool accumulate, stream_t) {
    using namespace matmul_detail;
    matmul_detail::WeightEpilogue epilogue = {dweight, (size_t)C, accumulate};
    gemm<F>({dout, (size_t)OC, false}, OC, {inp, (size_t)C, false}, C, N, Epilogue::with(epilogue));
    if (!dbias) return;
    // A thread sums 4 W columns over all rows, in the order of the rows.
    parallel_blocks((size_t)OC, 4 * W, [=](size_t begin, size_t) {
        const int o = (int)begin;
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
    });
}

// Peak FLOP/s of all threads: each multiplies blocks that stay in its L1 cache for so many seconds. The fastest of about 20
// slices counts, so that other work on the machine does not.
template <class F> double measure_peak_flops(double seconds, bool = true) {
    using namespace gemm_detail;
    if constexpr (std::is_same_v<F, bf16> && !std::is_same_v<Bf16Kernel, Fma>)
        if (Bf16Kernel::usable()) return measure_peak<Bf16Kernel>(seconds);
    return measure_peak<Fma>(seconds);
}
