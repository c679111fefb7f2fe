// gelu.h: the activation of the MLP, when it is not fused into the matmul before or after it: GELU, or ReLU squared (So et al. 2021, "Primer"), which never is.
#pragma once
#include "device.h"
#include "gelu_math.h"

namespace gelu_detail {
constexpr size_t BLOCK = 16384;  // elements a task: 64 KB; a small tensor is one task, done by the caller

template <class F, class Each> void over_vectors(size_t n, Each each) {
    parallel_blocks(n, BLOCK, [=](size_t begin, size_t end) {
        for (size_t i = begin; i < end; i += W) each(i, end - i < W ? (int)(end - i) : W);
    });
}
template <class F> inline vfloat load_n(const F* p, int n) { return n == W ? load(p) : load_part(p, n); }
template <class F> inline void store_n(F* p, vfloat v, int n) { if (n == W) store(p, v); else store_part(p, v, n); }
}  // namespace gelu_detail

// out = gelu(inp)
template <class F>
void gelu_forward(F* out, const F* inp, size_t n, stream_t) {
    gelu_detail::over_vectors<F>(n, [=](size_t i, int k) {
        gelu_detail::store_n(out + i, gelu(gelu_detail::load_n(inp + i, k)), k);
    });
}

// dinp = dout * gelu'(inp);  dinp may be dout
template <class F>
void gelu_backward(F* dinp, const F* dout, const F* inp, size_t n, stream_t) {
    gelu_detail::over_vectors<F>(n, [=](size_t i, int k) {
        using namespace gelu_detail;
        store_n(dinp + i, load_n(dout + i, k) * gelu_grad(load_n(inp + i, k)), k);
    });
}

// out = max(inp, 0)^2;  a NaN stays one
template <class F>
void relu2_forward(F* out, const F* inp, size_t n, stream_t) {
    gelu_detail::over_vectors<F>(n, [=](size_t i, int k) {
        const vfloat x = vmax(splat(0.0f), gelu_detail::load_n(inp + i, k));  // in this order
        gelu_detail::store_n(out + i, x * x, k);
    });
}

// dinp = dout * 2 max(inp, 0);  dinp may be dout.  Of an infinity it is NaN, as GELU's.
template <class F>
void relu2_backward(F* dinp, const F* dout, const F* inp, size_t n, stream_t) {
    gelu_detail::over_vectors<F>(n, [=](size_t i, int k) {
        using namespace gelu_detail;
        const vfloat x = load_n(inp + i, k);
        store_n(dinp + i, load_n(dout + i, k) * (2.0f * vmax(splat(0.0f), x) + 0.0f * x), k);
    });
}
