// radix_sort.cuh: a stable least-significant-digit (LSD) radix sort of a batch's tokens by id, each with its index in the batch. Each pass sorts
// by one digit, with three kernels: a histogram of the digits of each tile; an exclusive scan of the histograms, which gives the offset of each
// tile and digit; a scatter of each key to its offset plus its rank among the tile's keys of that digit. A warp a tile: its lanes find their
// ranks by one warp match. (Merrill and Grimshaw 2011, "High Performance and Scalable Radix Sorting")
#pragma once
#include "device.cuh"

namespace embedding_detail {
struct Occurrence { int token, n; };  // inp[n] == token: the key, and the value that goes with it

constexpr int PASSES = 3, DIGIT_BITS = 6, DIGITS = 1 << DIGIT_BITS, MAX_V = 1 << PASSES * DIGIT_BITS;  // ids below 2^18
constexpr int TILE = 512, STEPS = TILE / WARP;  // 16 keys a lane, all loads in flight together; a bin of the histogram for 8 keys

__device__ inline int digit_of(int token, int pass) { return token >> pass * DIGIT_BITS & (DIGITS - 1); }

// This lane's keys of its block's tile; token -1 beyond the end. Pass 0 reads the batch itself.
__device__ inline void load_tile(Occurrence (&mine)[STEPS], const Occurrence* from, const int* inp, int N, int pass) {
    for (int step = 0; step < STEPS; step++) {
        const int i = (int)blockIdx.x * TILE + step * WARP + (int)threadIdx.x;
        mine[step] = i >= N ? Occurrence{-1, 0} : pass == 0 ? Occurrence{inp[i], i} : from[i];
    }
}

template <class = void>  // a template, as several files include this one
__global__ void __launch_bounds__(WARP) histogram_kernel(int* histograms,         // (DIGITS, tiles)
                                                         const Occurrence* from,  // (N)
                                                         const int* inp,          // (N)
                                                         int N, int pass) {
    pdl_wait();
    __shared__ int histogram[DIGITS];
    Occurrence mine[STEPS];
    load_tile(mine, from, inp, N, pass);
    for (int d = threadIdx.x; d < DIGITS; d += WARP) histogram[d] = 0;
    __syncwarp();  // sync: every bin is 0 before any lane adds to it
    for (const Occurrence& p : mine) if (p.token >= 0) atomicAdd(&histogram[digit_of(p.token, pass)], 1);
    __syncwarp();  // sync: every lane has added its keys before the bins are stored
    for (int d = threadIdx.x; d < DIGITS; d += WARP) histograms[(size_t)d * gridDim.x + blockIdx.x] = histogram[d];
}

// Exclusive scan along the tiles, in place: histograms[d][tile] = keys of digit d in the tiles before; totals[d] = in all tiles.  A warp a digit.
template <class = void>  // a template, as several files include this one
__global__ void scan_kernel(int* histograms,  // (DIGITS, tiles)
                            int* totals,      // (DIGITS)
                            int tiles) {
    pdl_wait();
    constexpr int EACH = 8;  // items a lane: 32 bytes, a sector
    const int lane = threadIdx.x % WARP, d = (int)thread_index() / WARP;
    int* row = histograms + (size_t)d * tiles;
    int before = 0;
    for (int begin = 0; begin < tiles; begin += WARP * EACH) {
        const int first = begin + lane * EACH;
        int x[EACH], sum = 0;
        for (int j = 0; j < EACH; j++) x[j] = first + j < tiles ? row[first + j] : 0, sum += x[j];
        const int end = before + warp_prefix_sum(sum);
        for (int j = 0, at = end - sum; j < EACH; at += x[j++]) if (first + j < tiles) row[first + j] = at;
        before = from_lane(end, WARP - 1);
    }
    if (lane == 0) totals[d] = before;
}

template <class = void>  // a template, as several files include this one
__global__ void __launch_bounds__(WARP) scatter_kernel(Occurrence* to,          // (N)
                                                       const Occurrence* from,  // (N)
                                                       const int* inp,          // (N)
                                                       const int* histograms,   // (DIGITS, tiles) scanned
                                                       const int* totals,       // (DIGITS)
                                                       int N, int pass) {
    pdl_wait();
    __shared__ int offsets[DIGITS];  // where this tile's next key of a digit goes
    const int lane = threadIdx.x;
    Occurrence mine[STEPS];
    load_tile(mine, from, inp, N, pass);
    // 1. offsets: an exclusive scan of the totals of all smaller digits, plus the keys of the same digit in the tiles before
    constexpr int EACH = DIGITS / WARP;
    int total[EACH], sum = 0;
    for (int j = 0; j < EACH; j++) total[j] = totals[lane * EACH + j], sum += total[j];
    int smaller = warp_prefix_sum(sum) - sum;
    for (int j = 0; j < EACH; smaller += total[j++])
        offsets[lane * EACH + j] = smaller + histograms[(size_t)(lane * EACH + j) * gridDim.x + blockIdx.x];
    // 2. scatter, 32 keys at a time; a key's rank is the number of lanes below with the same digit, so the sort is stable
    #pragma unroll  // keeps `mine` in registers: its indices must be known at compile time
    for (const Occurrence& p : mine) {
        const bool there = p.token >= 0;
        const int d = digit_of(p.token, pass);
        const unsigned peers = lanes_with_same(there ? d : -1);
        const int rank = __popc(peers & ((1u << lane) - 1));
        __syncwarp();  // sync: `offsets` are set, and advanced for the keys before
        const int first = there ? offsets[d] : 0;
        __syncwarp();  // sync: every lane has read its offset before one advances it
        if (there && rank == 0) offsets[d] = first + __popc(peers);
        if (there) to[first + rank] = p;
    }
}
}  // namespace embedding_detail
