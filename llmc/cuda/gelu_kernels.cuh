// gelu_kernels.cuh: the tanh GELU of GPT-2 and its derivative. Apart from gelu.cuh because matmul.cuh uses them too, where
// cuBLASLt has no such epilogue.
#pragma once
#include <cstddef>
#include "../layers/gelu.h"
#include "device.cuh"

namespace gelu_detail {
constexpr unsigned THREADS = 256;
constexpr float LOG2E = 1.44269504f;

// gelu(x) = x s, s as in llmc/layers/gelu.h.  Below -100 the result is -0 whatever x is: the clamp is for -infinity, where x s would
// be a NaN. Comparisons with a NaN are false, so it stays one (fmaxf would lose it).
__device__ inline float gelu(float x) {
    const float c = x < -100.0f ? -100.0f : x;
    const float e = ex2_approx(-LOG2E * c * (GELU_A + GELU_B * (c * c)));  // e^-2u: 0 or infinity at worst
    return __fdividef(c, 1.0f + e);
}

// gelu'(x) = s + x s (1 - s) (2u)',  (2u)' = A + 3 B x^2,  1 - s = e s  with e = e^-2u.
// Beyond |x| = 10 the derivative is 0 or 1 to the last bit that a float can hold beside 1; the clamp keeps e below 2^126,
// from where on __fdividef gives 0 (CUDA C++ Programming Guide, intrinsic functions). Of an infinity it is NaN, which the gradient's norm
// shows: 0 or 1 would hide it.
__device__ inline float gelu_grad(float x) {
    const float c = x < -10.0f ? -10.0f : x > 10.0f ? 10.0f : x;
    const float square = c * c;
    const float e = ex2_approx(-LOG2E * c * (GELU_A + GELU_B * square));
    const float s = __fdividef(1.0f, 1.0f + e);
    return fmaf(0, x, s + c * (e * s) * s * (GELU_A + 3 * GELU_B * square));
}

// An activation and its derivative. ReLU squared: a NaN stays one, and of an infinity the slope is NaN, as GELU's.
struct Gelu {
    __device__ static float value(float x) { return gelu(x); }
    __device__ static float slope(float x) { return gelu_grad(x); }
};
struct Relu2 {
    __device__ static float value(float x) { return x < 0 ? 0 : x * x; }
    __device__ static float slope(float x) { return fmaf(0, x, x < 0 ? 0 : 2 * x); }
};

// 16 bytes a thread, or the tail at the end.
template <class Activation, class F> __global__ void __launch_bounds__(THREADS) forward_kernel(F* out, const F* inp, size_t n) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t begin = thread_index() * SIZE;
    if (begin + SIZE <= n) {
        float x[SIZE];
        load_floats<ONCE>(x, inp + begin);
        for (int i = 0; i < SIZE; i++) x[i] = Activation::value(x[i]);
        store_floats(out + begin, x);
    } else {
        for (size_t i = begin; i < n; i++) out[i] = from_float<F>(Activation::value(to_float(inp[i])));
    }
}

template <class Activation, class F> __global__ void __launch_bounds__(THREADS) backward_kernel(F* dinp, const F* dout, const F* inp, size_t n) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t begin = thread_index() * SIZE;
    if (begin + SIZE <= n) {
        float x[SIZE], d[SIZE];
        load_floats<ONCE>(x, inp + begin);
        load_floats<ONCE>(d, dout + begin);
        for (int i = 0; i < SIZE; i++) d[i] *= Activation::slope(x[i]);
        store_floats(dinp + begin, d);
    } else {
        for (size_t i = begin; i < n; i++) dinp[i] = from_float<F>(to_float(dout[i]) * Activation::slope(to_float(inp[i])));
    }
}

template <class Activation = Gelu, class F> void forward(F* out, const F* inp, size_t n, stream_t stream) {
    launch(forward_kernel<Activation, F>, over(ceil_div(n, Pack<F>::SIZE), THREADS), stream, out, inp, n);
}
template <class Activation = Gelu, class F> void backward(F* dinp, const F* dout, const F* inp, size_t n, stream_t stream) {
    launch(backward_kernel<Activation, F>, over(ceil_div(n, Pack<F>::SIZE), THREADS), stream, dinp, dout, inp, n);
}
}  // namespace gelu_detail
