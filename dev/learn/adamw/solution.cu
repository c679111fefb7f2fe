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
    //{ 1 / (1 - beta1^t) and 1 / (1 - beta2^t), by std::pow in double
    return {(float)(1 / (1 - std::pow((double)h.beta1, h.t))), (float)(1 / (1 - std::pow((double)h.beta2, h.t)))};
    //} return {BLANK, BLANK};
}
// p, m and v are updated in place
void adamw_cpp(float* p, float* m, float* v, const float* grads, size_t n, Hyper h) {
    const Correction correction = correction_of(h);
    for (size_t i = 0; i < n; i++) {
        const float g = grads[i];
        //{ the moments of element i, then p[i]
        m[i] = h.beta1 * m[i] + (1 - h.beta1) * g;
        v[i] = h.beta2 * v[i] + (1 - h.beta2) * g * g;
        p[i] -= h.lr * (m[i] * correction.m / (sqrtf(v[i] * correction.v) + h.eps) + h.weight_decay * p[i]);
        //} BLANK;
    }
}

// ---- 2. the global norm, and how far gradients are clipped
// What all gradients are multiplied by, so that the root of the sum of their squares is at most max_norm: 1 if it is already.
float clip_scale(const float* grads, size_t n, float max_norm) {
    //{ the norm, added up in double; then the factor
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)grads[i] * grads[i];
    const double norm = std::sqrt(sum);
    return norm > max_norm ? (float)(max_norm / norm) : 1.0f;
    //} return BLANK;
}

// ---- 3. stochastic rounding to bf16
// A float's bits as an integer, and back.
HOST_DEVICE uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
HOST_DEVICE float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
// x as a float whose lower 16 bits are 0, which is what a bf16 can hold: one of its two neighbours, the farther from 0 with probability (x's lower 16 bits) / 2^16.
// The lower 16 bits of `random` are uniform; its upper ones may be anything. x is finite.
HOST_DEVICE float round_to_bf16(float x, uint32_t random) {
    //{ add the random bits to x's bits, then drop the lower 16
    return float_of((bits_of(x) + (random & 0xffff)) & 0xffff0000);
    //} return BLANK;
}

// ---- 4. CUDA, the global norm: partial sums, then one block
constexpr int THREADS = 256, MAX_BLOCKS = 132 * 2048 / THREADS;  // as many as an H100 holds at once: 132 multiprocessors, 2048 threads each
// partials[blockIdx.x] = the sum of squares of this block's share. block_sum(x) gives every thread the sum of x over its block; all of its threads must call it.
__global__ void squares_kernel(float* partials, const float* grads, size_t n) {
    //{ thread_index() is this thread's number in the whole grid, which has gridDim.x * blockDim.x threads: its elements are that far apart
    float sum = 0;
    for (size_t i = thread_index(); i < n; i += (size_t)gridDim.x * blockDim.x) sum += grads[i] * grads[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
    //} BLANK;
}
// *scale = as in part 2, from the partial sums; one block of THREADS threads
__global__ void scale_kernel(float* scale, const float* partials, int n_partials, float max_norm) {
    //{ each thread adds its share of them, neighbouring threads neighbouring ones; then over the block, and one thread stores
    float sum = 0;
    for (int i = threadIdx.x; i < n_partials; i += THREADS) sum += partials[i];
    const float norm = sqrtf(block_sum(sum));
    if (threadIdx.x == 0) *scale = norm > max_norm ? max_norm / norm : 1.0f;
    //} BLANK;
}
// partials has room for MAX_BLOCKS
void scale_cuda(float* scale, float* partials, const float* grads, float max_norm, size_t n, stream_t stream) {
    //{ MAX_BLOCKS of them, or where n is small as many as leave each thread four elements; ceil_div(n, k) is n / k rounded up
    const unsigned blocks = (unsigned)std::min((size_t)MAX_BLOCKS, ceil_div(n, (size_t)4 * THREADS));
    //} const unsigned blocks = BLANK;
    launch(squares_kernel, {blocks, THREADS}, stream, partials, grads, n);
    launch(scale_kernel, {1, THREADS}, stream, scale, partials, (int)blocks, max_norm);
}

// ---- 5. CUDA, an element a thread
// As part 1, but g = *scale * grads[i], and of the n elements only the first `decayed` have weight decay: matrices come first, then biases and LayerNorms.
__global__ void element_kernel(float* p, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, Correction correction) {
    const size_t i = thread_index();
    if (i >= n) return;
    //{ the update of element i
    const float g = *scale * grads[i], decay = i < decayed ? h.weight_decay : 0;
    const float mi = h.beta1 * m[i] + (1 - h.beta1) * g, vi = h.beta2 * v[i] + (1 - h.beta2) * g * g, pi = p[i];
    m[i] = mi, v[i] = vi;
    p[i] = pi - h.lr * (mi * correction.m / (sqrtf(vi * correction.v) + h.eps) + decay * pi);
    //} BLANK;
}
void element_cuda(float* p, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, stream_t stream) {
    launch(element_kernel, over(n, 128), stream, p, m, v, grads, scale, n, decayed, h, correction_of(h));
}

// ---- 6. CUDA, fused: master weights, their rounded copy, 16-byte loads, one pass
// As part 5 for the master weights, of which params gets a copy: round_to_bf16(master[i], rounding_bits(seed, h.t, i)). n need not be a multiple of 4.
__device__ void update(float& p, float& m, float& v, float g, float decay, const Hyper& h, const Correction& correction) {
    //{ one element: p, m and v are changed; g has been scaled, decay is weight_decay or 0
    m = h.beta1 * m + (1 - h.beta1) * g;
    v = h.beta2 * v + (1 - h.beta2) * g * g;
    p -= h.lr * (m * correction.m / (sqrtf(v * correction.v) + h.eps) + decay * p);
    //} BLANK;
}
__global__ void fused_kernel(float* params, float* master, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, Correction correction, uint64_t seed) {
    const size_t begin = 4 * thread_index();
    const float clip = *scale;
    if (begin + 4 <= n) {
        //{ four elements: load_floats(x, pointer) fills float x[4], store_floats(pointer, x) stores it
        float p4[4], m4[4], v4[4], g4[4];
        load_floats(p4, master + begin), load_floats(m4, m + begin), load_floats(v4, v + begin), load_floats(g4, grads + begin);
        for (int k = 0; k < 4; k++) update(p4[k], m4[k], v4[k], clip * g4[k], begin + k < decayed ? h.weight_decay : 0, h, correction);
        store_floats(master + begin, p4), store_floats(m + begin, m4), store_floats(v + begin, v4);
        for (int k = 0; k < 4; k++) p4[k] = round_to_bf16(p4[k], rounding_bits(seed, h.t, begin + k));
        store_floats(params + begin, p4);
        //} BLANK;
    } else {
        //{ the tail: what there is from `begin` on, element by element
        for (size_t i = begin; i < n; i++) {
            update(master[i], m[i], v[i], clip * grads[i], i < decayed ? h.weight_decay : 0, h, correction);
            params[i] = round_to_bf16(master[i], rounding_bits(seed, h.t, i));
        }
        //} BLANK;
    }
}
void fused_cuda(float* params, float* master, float* m, float* v, const float* grads, const float* scale, size_t n, size_t decayed, Hyper h, uint64_t seed, stream_t stream) {
    //{ four elements a thread; 128 threads a block
    const Grid grid = over(ceil_div(n, (size_t)4), 128);
    //} const Grid grid = BLANK;
    launch(fused_kernel, grid, stream, params, master, m, v, grads, scale, n, decayed, h, correction_of(h), seed);
}
