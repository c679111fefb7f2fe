// AdamW in C++ and in CUDA, part by part: doc/learn/adamw.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-adamw` says how far it is.
//     m = beta1 * m + (1 - beta1) * g,   v = beta2 * v + (1 - beta2) * g^2          moments
//     p = p - lr * (mhat / (sqrt(vhat) + eps) + weight_decay * p),   mhat = m / (1 - beta1^t),   vhat = v / (1 - beta2^t)
// All arrays have n elements, each treated by itself. t is the step's number, from 1.
#include <cmath>
#include "../../../llmc/layers/adamw.h"

struct Hyper { float lr, beta1, beta2, eps, weight_decay; int t; };
struct Correction { float m, v; };  // mhat = m * correction.m, vhat = v * correction.v

// ---- 1. the update in C++
Correction correction_of(const Hyper& h) {
    return {BLANK, BLANK};  // 1 / (1 - beta1^t) and 1 / (1 - beta2^t), by std::pow in double
}
// p, m and v are updated in place
void adamw_cpp(float* p, float* m, float* v, const float* grads, size_t n, Hyper h) {
    const Correction correction = correction_of(h);
    for (size_t i = 0; i < n; i++) {
        const float g = grads[i];
        BLANK;  // the moments of element i, then p[i]
    }
}

// ---- 2. the global norm, and how far gradients are clipped
// What all gradients are multiplied by, so that the root of the sum of their squares is at most max_norm: 1 if it is already.
float clip_scale(const float* grads, size_t n, float max_norm) {
    return BLANK;  // the norm, added up in double; then the factor
}

// ---- 3. stochastic rounding to bf16
// A float's bits as an integer, and back.
HOST_DEVICE uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
HOST_DEVICE float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
// x as a float whose lower 16 bits are 0, which is what a bf16 can hold: one of its two neighbours, the farther from 0 with probability (x's lower 16 bits) / 2^16.
// The lower 16 bits of `random` are uniform; its upper ones may be anything. x is finite.
HOST_DEVICE float round_to_bf16(float x, uint32_t random) {
    return BLANK;  // add the random bits to x's bits, then drop the lower 16
}

// ---- 4. CUDA, the global norm: partial sums, then one block
constexpr int THREADS = 256, MAX_BLOCKS = 132 * 2048 / THREADS;  // as many as an H100 holds at once: 132 multiprocessors, 2048 threads each
// partials[blockIdx.x] = the sum of squares of this block's share. block_sum(x) gives every thread the sum of x over its block; all of its threads must call it.
__global__ void squares_kernel(float* partials, const float* grads, size_t n) {
    BLANK;  // thread_index() is this thread's number in the whole grid, which has gridDim.x * blockDim.x threads: its elements are that far apart
}
// *scale = as in part 2, from the partial sums; one block of THREADS threads
__global__ void scale_kernel(float* scale, const float* partials, int n_partials, float max_norm) {
    BLANK;  // each thread adds its share of them, neighbouring threads neighbouring ones; then over the block, and one thread stores
}
// partials has room for MAX_BLOCKS
void scale_cuda(float* scale, float* partials, const float* grads, float max_norm, size_t n, stream_t stream) {
    const unsigned blocks = BLANK;  // MAX_BLOCKS of them, or where n is small as many as leave each thread four elements; ceil_div(n, k) is n / k rounded up
    launch(squares_kernel, {blocks, THREADS}, stream, partials, grads, n);
    launch(scale_kernel, {1, THREADS}, stream, scale, partials, (int)blocks, max_norm);
}

// ---- 5. CUDA, an element a thread
// As part 1, but g = *scale * grads[i], and of the n elements only the first `decayed` have weight decay: matrices come first, then biases and LayerNorms.
__global__ void element_kernel(float* p, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, Correction correction) {
    const size_t i = thread_index();
    if (i >= n) return;
    BLANK;  // the update of element i
}
void element_cuda(float* p, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, stream_t stream) {
    launch(element_kernel, over(n, 128), stream, p, m, v, grads, scale, n, decayed, h, correction_of(h));
}

// ---- 6. CUDA, fused: master weights, their rounded copy, 16-byte loads, one pass
// As part 5 for the master weights, of which params gets a copy: round_to_bf16(master[i], rounding_bits(seed, h.t, i)). n need not be a multiple of 4.
__device__ void update(float& p, float& m, float& v, float g, float decay, const Hyper& h, const Correction& correction) {
    BLANK;  // one element: p, m and v are changed; g has been scaled, decay is weight_decay or 0
}
__global__ void fused_kernel(float* params, float* master, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, Correction correction, uint64_t seed) {
    const size_t begin = 4 * thread_index();
    const float clip = *scale;
    if (begin + 4 <= n) {
        BLANK;  // four elements: load_floats(x, pointer) fills float x[4], store_floats(pointer, x) stores it
    } else {
        BLANK;  // the tail: what there is from `begin` on, element by element
    }
}
void fused_cuda(float* params, float* master, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, uint64_t seed, stream_t stream) {
    const Grid grid = BLANK;  // four elements a thread; 128 threads a block
    launch(fused_kernel, grid, stream, params, master, m, v, grads, scale, n, decayed, h, correction_of(h), seed);
}
