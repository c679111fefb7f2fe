// gradients.cuh: sums of gradients in a fixed order, and the sums of their squares that give the global gradient norm.
//
// What micro-batches and ranks contribute is added as a binary tree: 0 + 1, 2 + 3, then (0 + 1) + (2 + 3), ...; the last ones of a number that is no
// power of two wait until there is nobody else. A subtree that one rank has made is a node of the tree whoever makes the rest. Memory is the limit:
// each part is read once, the sum written once, 16 bytes a thread at a time, and the squares are taken from registers.
#pragma once
#include <cstddef>
#include "../layers/gradients.h"
#include "device.cuh"

namespace gradients_detail {
constexpr unsigned THREADS = 256;
constexpr int LEVELS = 3;  // of the tree in one pass over memory: 8 loads of 16 bytes in flight a thread, as many as 8 GPUs of a node give
constexpr int SIZE = Pack<float>::SIZE;

// The parts of the sum that this pass adds: every stride-th rank's, which the pass before made the sum of the ranks up to the next one.
struct Parts {
    float* grads;     // (n) this rank's
    float* received;  // (world - 1, n) the others'
    int rank, world, stride;
    size_t first, n;
    __device__ bool has(int part) const { return part * stride < world; }
    __device__ float* at(int part, size_t i) const {  // element i of the gradients
        const int r = part * stride;
        return r == rank ? grads + (i - first) : received + (size_t)(r < rank ? r : r - 1) * n + (i - first);
    }
};

// sum = the parts `part` .. part + 2^LEVEL - 1, of those there are
template <int LEVEL> __device__ inline void add_tree(float (&sum)[SIZE], const Parts& parts, int part, size_t i) {
    if constexpr (LEVEL == 0) load_floats(sum, parts.at(part, i));
    else {
        add_tree<LEVEL - 1>(sum, parts, part, i);
        const int right = part + (1 << (LEVEL - 1));
        if (!parts.has(right)) return;
        float other[SIZE];
        add_tree<LEVEL - 1>(other, parts, right, i);
        for (int k = 0; k < SIZE; k++) sum[k] += other[k];
    }
}

// A block a chunk and 2^LEVEL parts. LAST: one block a chunk, which has the sum of all.
template <int LEVEL, bool LAST>
__global__ void __launch_bounds__(THREADS) sum_kernel(double* squares, Parts parts, const Chunk* chunks) {
    pdl_wait();
    const Chunk chunk = chunks[blockIdx.x];
    const int part = LAST ? 0 : (int)blockIdx.y << LEVEL;
    double sum_of_squares = 0;
    for (size_t i = chunk.offset + threadIdx.x * SIZE; i < chunk.offset + chunk.count; i += THREADS * SIZE) {
        float sum[SIZE];
        add_tree<LEVEL>(sum, parts, part, i);
        if (LEVEL > 0) store_floats(LAST ? parts.grads + (i - parts.first) : parts.at(part, i), sum);
        for (int k = 0; k < SIZE; k++) sum_of_squares += (double)sum[k] * (double)sum[k];
    }
    if (!LAST || !squares) return;
    sum_of_squares = block_sum(sum_of_squares);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum_of_squares;
}

template <class = void>  // a template, as several files include this one
__global__ void __launch_bounds__(THREADS) add_kernel(float* sum, const float* other, size_t n) {
    pdl_wait();
    const size_t i = thread_index() * SIZE;
    if (i >= n) return;
    float a[SIZE], b[SIZE];
    load_floats(a, sum + i);
    load_floats<ONCE>(b, other + i);
    for (int k = 0; k < SIZE; k++) a[k] += b[k];
    store_floats(sum + i, a);
}

template <class Out, class In>
__global__ void __launch_bounds__(THREADS) cast_kernel(Out* out, const In* in, size_t n) {
    pdl_wait();
    constexpr int K = Pack<bf16>::SIZE;
    const size_t i = thread_index() * K;
    if (i >= n) return;
    float x[K];
    load_floats<ONCE>(x, in + i);
    store_floats(out + i, x);
}
}  // namespace gradients_detail

// sum += other, a node of the tree
inline void add_gradients(float* sum,          // (n)
                          const float* other,  // (n)
                          size_t n, stream_t stream) {
    using namespace gradients_detail;
    CHECK(n % 64 == 0, "add_gradients: %zu elements, must be a multiple of 64: 16-byte loads", n);
    launch(add_kernel<>, over(n / SIZE, THREADS), stream, sum, other, n);
}

// out = in, rounded to nearest: float to bf16, or back
template <class Out, class In>
void cast_gradients(Out* out,      // (n)
                    const In* in,  // (n)
                    size_t n, stream_t stream) {
    using namespace gradients_detail;
    CHECK(n % 64 == 0, "cast_gradients: %zu elements, must be a multiple of 64: 16-byte loads", n);
    launch(cast_kernel<Out, In>, over(n / Pack<bf16>::SIZE, THREADS), stream, out, in, n);
}

// Elements first .. first + n of the gradients = their sum over the ranks, of which this one's own are in place and the others' in `received`, which
// is overwritten; squares = the sum of g^2 of each of their chunks, in double, so that nothing overflows; NaN and infinity propagate.
// Null: none are made.
inline void sum_gradients(float* grads,            // (n)
                          double* squares,         // (n_chunks)
                          float* received,         // (world - 1, n), in the order of the ranks
                          int rank, int world,
                          const Chunk* chunks, size_t n_chunks,  // on the device: those of the elements
                          size_t first, size_t n, stream_t stream) {
    using namespace gradients_detail;
    Parts parts{grads, received, rank, world, 1, first, n};
    for (; ceil_div((size_t)world, (size_t)parts.stride) > 1 << LEVELS; parts.stride <<= LEVELS) {
        const size_t groups = ceil_div(ceil_div((size_t)world, (size_t)parts.stride), 1 << LEVELS);
        launch(sum_kernel<LEVELS, false>, Grid{dim3((unsigned)n_chunks, (unsigned)groups), THREADS}, stream, squares, parts, chunks);
    }
    const int left = (int)ceil_div((size_t)world, (size_t)parts.stride);
    const auto kernel = left == 1 ? sum_kernel<0, true> : left == 2 ? sum_kernel<1, true> : left <= 4 ? sum_kernel<2, true> : sum_kernel<3, true>;
    launch(kernel, Grid{(unsigned)n_chunks, THREADS}, stream, squares, parts, chunks);
}
