// swiglu.h: the gated activation of Llama's MLP (Shazeer 2020, "GLU variants improve transformer"): silu(gate) * up, of the product that yields both.
#pragma once
#include <cstddef>
#include "device.h"
#include "vec.h"

namespace swiglu_detail {
// silu(x) = x s,  silu'(x) = s + x s (1 - s),  s = 1 / (1 + e^-x),  1 - s = e^-x s: one exponential and no cancellation.
// Below -100 silu is -0 whatever x is: the clamp is for -infinity, where x s would be a NaN. Where e^-x is infinite s is 0, and 1 - s must not be a NaN. Of
// an infinity the slope is NaN, which the gradient's norm shows: 0 or 1 would hide it.
struct Silu { vfloat value, slope; };
inline Silu silu(vfloat x) {
    const vfloat c = vmax(splat(-100.0f), x);  // in this order, and below too, so that a NaN stays one
    const vfloat e = vexp(-c), s = 1.0f / (1.0f + e), value = c * s;
    return {value, s + value * (vmin(splat(8e37f), e) * s) + 0.0f * x};
}
}  // namespace swiglu_detail

// out = silu(gate) * up
template <class F>
void swiglu_forward(F* out,        // (N, FF)
                    const F* inp,  // (N, 2 FF) a token's gate, then its up
                    size_t N, int FF, stream_t) {
    parallel_rows(N, FF, [=](size_t n) {
        const F *gate = inp + n * 2 * (size_t)FF, *up = gate + FF;
        F* y = out + n * (size_t)FF;
        each_vector(FF, [=](int c, int k) { store_first(y + c, swiglu_detail::silu(load_first(gate + c, k)).value * load_first(up + c, k), k); });
    });
}

// dinp =   dgate = dout * up * silu'(gate),  dup = dout * silu(gate)
// dinp may be inp.
template <class F>
void swiglu_backward(F* dinp,        // (N, 2 FF)
                     const F* dout,  // (N, FF)
                     const F* inp,   // (N, 2 FF)
                     size_t N, int FF, stream_t) {
    parallel_rows(N, FF, [=](size_t n) {
        const F *gate = inp + n * 2 * (size_t)FF, *up = gate + FF, *dy = dout + n * (size_t)FF;
        F *dgate = dinp + n * 2 * (size_t)FF, *dup = dgate + FF;
        each_vector(FF, [=](int c, int k) {
            const swiglu_detail::Silu g = swiglu_detail::silu(load_first(gate + c, k));
            const vfloat d = load_first(dy + c, k), u = load_first(up + c, k);
            store_first(dgate + c, d * u * g.slope, k);
            store_first(dup + c, d * g.value, k);
        });
    });
}
