// gelu.cuh: the activation of the MLP, when it is not fused into the matmul before or after it.
#pragma once
#include <cstddef>
#include "device.cuh"
#include "gelu_math.cuh"

namespace gelu_detail {
constexpr unsigned THREADS = 256;

// A thread takes 16 bytes, or what is left of them at the end.
template <class F> __global__ void __launch_bounds__(THREADS) forward_kernel(F* out, const F* inp, size_t n) {
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t begin = thread_index() * SIZE;
    if (begin + SIZE <= n) {
        float x[SIZE];
        load_floats<ONCE>(x, inp + begin);
        for (int i = 0; i < SIZE; i++) x[i] = gelu(x[i]);
        store_floats(out + begin, x);
    } else {
        for (size_t i = begin; i < n; i++) out[i] = from_float<F>(gelu(to_float(inp[i])));
    }
}

template <class F> __global__ void __launch_bounds__(THREADS) backward_kernel(F* dinp, const F* dout, const F* inp, size_t n) {
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t begin = thread_index() * SIZE;
    if (begin + SIZE <= n) {
        float x[SIZE], d[SIZE];
        load_floats<ONCE>(x, inp + begin);
        load_floats<ONCE>(d, dout + begin);
        for (int i = 0; i < SIZE; i++) d[i] *= gelu_grad(x[i]);
        store_floats(dinp + begin, d);
    } else {
        for (size_t i = begin; i < n; i++) dinp[i] = from_float<F>(to_float(dout[i]) * gelu_grad(to_float(inp[i])));
    }
}
}  // namespace gelu_detail

// out = gelu(inp)
template <class F>
void gelu_forward(F* out, const F* inp, size_t n, stream_t stream) {
    using namespace gelu_detail;
    launch(forward_kernel<F>, over(ceil_div(n, Pack<F>::SIZE), THREADS), stream, out, inp, n);
}

// dinp = dout * gelu'(inp);  dinp may be dout
template <class F>
void gelu_backward(F* dinp, const F* dout, const F* inp, size_t n, stream_t stream) {
    using namespace gelu_detail;
    launch(backward_kernel<F>, over(ceil_div(n, Pack<F>::SIZE), THREADS), stream, dinp, dout, inp, n);
}
