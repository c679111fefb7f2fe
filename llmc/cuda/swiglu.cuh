// swiglu.cuh: the gated activation of Llama's MLP (Shazeer 2020, "GLU variants improve transformer"): silu(gate) * up, of the product that yields both.
// Limited by memory: 16 bytes of each tensor a thread, which are read once.
#pragma once
#include <cstddef>
#include "device.cuh"

namespace swiglu_detail {
constexpr unsigned THREADS = 256;
constexpr float LOG2E = 1.44269504f;

// silu(x) = x s,  silu'(x) = s + x s (1 - s),  s = 1 / (1 + e^-x),  1 - s = e^-x s: one exponential and no cancellation.
// Below -100 silu is -0 whatever x is: the clamp is for -infinity, where x s would be a NaN. Where e^-x is above 2^126, s is 0 (CUDA C++ Programming Guide,
// __fdividef), and 1 - s must not be a NaN. Of an infinity the slope is NaN, which the gradient's norm shows: 0 or 1 would hide it. Comparisons with a
// NaN are false, so it stays one (fmaxf would lose it).
struct Silu { float value, slope; };
__device__ inline Silu silu(float x) {
    const float c = x < -100.0f ? -100.0f : x;
    const float e = ex2_approx(-LOG2E * c), s = __fdividef(1.0f, 1.0f + e), value = c * s;
    return {value, fmaf(0, x, s + value * ((e > 8e37f ? 8e37f : e) * s))};
}

// Where a pack of out lies, and those of gate and up in inp.
template <class F> struct Offsets {
    size_t out, gate, up;
    __device__ Offsets(unsigned pack, int FF) {
        const unsigned packs = (unsigned)FF / Pack<F>::SIZE, n = pack / packs, c = pack % packs * Pack<F>::SIZE;  // 64-bit divisions would be many instructions
        out = (size_t)n * FF + c, gate = (size_t)n * 2 * FF + c, up = gate + FF;
    }
};

template <class F> __global__ void __launch_bounds__(THREADS) forward_kernel(F* out, const F* inp, unsigned packs, int FF) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t pack = thread_index();
    if (pack >= packs) return;
    const Offsets<F> at((unsigned)pack, FF);
    float gate[SIZE], up[SIZE];
    load_floats<ONCE>(gate, inp + at.gate);
    load_floats<ONCE>(up, inp + at.up);
    for (int i = 0; i < SIZE; i++) up[i] *= silu(gate[i]).value;
    store_floats(out + at.out, up);
}

template <class F> __global__ void __launch_bounds__(THREADS) backward_kernel(F* dinp, const F* dout, const F* inp, unsigned packs, int FF) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t pack = thread_index();
    if (pack >= packs) return;
    const Offsets<F> at((unsigned)pack, FF);
    float gate[SIZE], up[SIZE], d[SIZE];
    load_floats<ONCE>(gate, inp + at.gate);
    load_floats<ONCE>(up, inp + at.up);
    load_floats<ONCE>(d, dout + at.out);
    for (int i = 0; i < SIZE; i++) {
        const Silu g = silu(gate[i]);
        gate[i] = d[i] * up[i] * g.slope, up[i] = d[i] * g.value;
    }
    store_floats(dinp + at.gate, gate);
    store_floats(dinp + at.up, up);
}

// 16-byte packs of the output.
template <class F> unsigned count_packs(size_t N, int FF) {
    const size_t packs = N * (size_t)FF / Pack<F>::SIZE;
    CHECK(FF % 8 == 0, "swiglu: %d channels, must be a multiple of 8: kernels load 16 bytes at a time", FF);
    CHECK(packs < (size_t)1 << 31, "swiglu: %zu rows of %d are too many", N, FF);
    return (unsigned)packs;
}
}  // namespace swiglu_detail

// out = silu(gate) * up
template <class F>
void swiglu_forward(F* out,        // (N, FF)
                    const F* inp,  // (N, 2 FF) a token's gate, then its up
                    size_t N, int FF, stream_t stream) {
    using namespace swiglu_detail;
    const unsigned packs = count_packs<F>(N, FF);
    launch(forward_kernel<F>, over(packs, THREADS), stream, out, inp, packs, FF);
}

// dinp =   dgate = dout * up * silu'(gate),  dup = dout * silu(gate)
// dinp may be inp.
template <class F>
void swiglu_backward(F* dinp,        // (N, 2 FF)
                     const F* dout,  // (N, FF)
                     const F* inp,   // (N, 2 FF)
                     size_t N, int FF, stream_t stream) {
    using namespace swiglu_detail;
    const unsigned packs = count_packs<F>(N, FF);
    launch(backward_kernel<F>, over(packs, THREADS), stream, dinp, dout, inp, packs, FF);
}
