// checksum.cuh: checksums of memory, chunk by chunk, what has changed since they were taken, and what in it is not finite. Memory is the limit: a block a chunk, whose threads read
// 16 bytes at a time.
#pragma once
#include <cstddef>
#include "../layers/checksum.h"
#include "../layers/gradients.h"
#include "device.cuh"

namespace checksum_detail {
constexpr unsigned THREADS = 256;

// By all threads of the block.
template <class X> __device__ inline uint64_t checksum_of(const X* data, size_t count) {
    unsigned long long sum = 0;
    for (size_t i = threadIdx.x; i < count * sizeof(X) / 16; i += THREADS) {
        const Pack<uint32_t> words = load_pack((const uint32_t*)data + i * 4);
        for (int k = 0; k < 4; k++) sum += weighted_word(words[k], (uint32_t)(i * 4) + (uint32_t)k);
    }
    return block_sum(sum);
}

template <class X>
__global__ void __launch_bounds__(THREADS) checksum_kernel(uint64_t* sums, const X* data, const Chunk* chunks, size_t first) {
    pdl_wait();
    const Chunk chunk = chunks[blockIdx.x];
    const uint64_t sum = checksum_of(data + (chunk.offset - first), chunk.count);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

template <class X>
__global__ void __launch_bounds__(THREADS) compare_kernel(uint64_t* changed, const uint64_t* sums, const X* data, const Chunk* chunks, size_t first, uint64_t base) {
    pdl_wait();
    const Chunk chunk = chunks[blockIdx.x];
    const uint64_t sum = checksum_of(data + (chunk.offset - first), chunk.count);
    if (threadIdx.x == 0 && sum != sums[blockIdx.x]) atomicMin((unsigned long long*)changed, (unsigned long long)(base + blockIdx.x));
}

template <class X>
__global__ void __launch_bounds__(THREADS) not_finite_kernel(uint64_t* not_finite, const X* data, const Chunk* chunks, size_t first, uint64_t base) {
    pdl_wait();
    constexpr int SIZE = Pack<X>::SIZE;
    const Chunk chunk = chunks[blockIdx.x];
    float taint = 0;  // 0 times what is not finite is NaN
    for (size_t i = threadIdx.x * SIZE; i < chunk.count; i += THREADS * SIZE) {
        const Pack<X> values = load_pack(data + (chunk.offset - first) + i);
        for (int k = 0; k < SIZE; k++) taint = fmaf(0, to_float(values[k]), taint);
    }
    if (!(taint == 0)) atomicMin((unsigned long long*)not_finite, (unsigned long long)(base + blockIdx.x));
}
}  // namespace checksum_detail

// sums[c] = the checksum of the bits of chunk c
template <class X>
void checksum_chunks(uint64_t* sums,   // (n_chunks)
                     const X* data,    // elements `first` and those after it
                     const Chunk* chunks, size_t n_chunks,  // on the device
                     size_t first, stream_t stream) {
    if (n_chunks) launch(checksum_detail::checksum_kernel<X>, Grid{(unsigned)n_chunks, checksum_detail::THREADS}, stream, sums, data, chunks, first);
}

// *changed = the least `base` + c whose checksum is not sums[c], if that is less than *changed
template <class X>
void compare_chunks(uint64_t* changed,     // (1)
                    const uint64_t* sums,  // (n_chunks)
                    const X* data,         // elements `first` and those after it
                    const Chunk* chunks, size_t n_chunks,  // on the device
                    size_t first, uint64_t base, stream_t stream) {
    if (n_chunks) launch(checksum_detail::compare_kernel<X>, Grid{(unsigned)n_chunks, checksum_detail::THREADS}, stream, changed, sums, data, chunks, first, base);
}

// *not_finite = the least `base` + c that holds a value which is not finite, if that is less than *not_finite
template <class X>
void find_not_finite(uint64_t* not_finite,  // (1)
                     const X* data,         // elements `first` and those after it
                     const Chunk* chunks, size_t n_chunks,  // on the device
                     size_t first, uint64_t base, stream_t stream) {
    if (n_chunks) launch(checksum_detail::not_finite_kernel<X>, Grid{(unsigned)n_chunks, checksum_detail::THREADS}, stream, not_finite, data, chunks, first, base);
}
