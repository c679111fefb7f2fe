// radix_sort.cuh: the places of each token of a batch together, in their order: a stable radix sort by token id, the lower bits first. Each round: the tiles
// count their digits; from the counts follows where the keys of a tile and a digit go; the tiles put them there. A warp a tile: its 32 lanes
// see one another's digits.
#pragma once
#include "device.cuh"

namespace embedding_detail {
struct Occurrence { int token, n; };  // inp[n] == token

constexpr int ROUNDS = 3, DIGIT_BITS = 6, DIGITS = 1 << DIGIT_BITS, MAX_V = 1 << ROUNDS * DIGIT_BITS;  // ids below 2^18
constexpr int TILE = 512, STEPS = TILE / WARP;  // 16 keys a lane, all on their way at once; a counter for 8 keys

__device__ inline int digit_of(int token, int round) { return token >> round * DIGIT_BITS & (DIGITS - 1); }

// This lane's keys of its block's tile; token -1 beyond the end. Round 0 takes them as they stand in the batch.
__device__ inline void load_tile(Occurrence (&mine)[STEPS], const Occurrence* from, const int* inp, int N, int round) {
    for (int step = 0; step < STEPS; step++) {
        const int i = (int)blockIdx.x * TILE + step * WARP + (int)threadIdx.x;
        mine[step] = i >= N ? Occurrence{-1, 0} : round == 0 ? Occurrence{inp[i], i} : from[i];
    }
}

__global__ void __launch_bounds__(WARP) histogram_kernel(int* counts,        // (DIGITS, tiles)
                                                     const Occurrence* from,  // (N)
                                                     const int* inp,     // (N)
                                                     int N, int round) {
    pdl_wait();
    __shared__ int count[DIGITS];
    Occurrence mine[STEPS];
    load_tile(mine, from, inp, N, round);
    for (int d = threadIdx.x; d < DIGITS; d += WARP) count[d] = 0;
    __syncwarp();  // the zeros are there before anything is added
    for (const Occurrence& p : mine) if (p.token >= 0) atomicAdd(&count[digit_of(p.token, round)], 1);
    __syncwarp();  // all has been added
    for (int d = threadIdx.x; d < DIGITS; d += WARP) counts[(size_t)d * gridDim.x + blockIdx.x] = count[d];
}

// counts[d][tile] = keys of digit d in the tiles before; totals[d] = in all tiles.  A warp a digit.
__global__ void scan_kernel(int* counts,  // (DIGITS, tiles)
                                 int* totals,  // (DIGITS)
                                 int tiles) {
    pdl_wait();
    constexpr int EACH = 8;  // a lane takes 32 bytes, a sector
    const int lane = threadIdx.x % WARP, d = (int)thread_index() / WARP;
    int* row = counts + (size_t)d * tiles;
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

__global__ void __launch_bounds__(WARP) scatter_kernel(Occurrence* to,          // (N)
                                                     const Occurrence* from,  // (N)
                                                     const int* inp,     // (N)
                                                     const int* counts,  // (DIGITS, tiles)
                                                     const int* totals,  // (DIGITS)
                                                     int N, int round) {
    pdl_wait();
    __shared__ int next[DIGITS];  // where this tile's next key of a digit goes
    const int lane = threadIdx.x;
    Occurrence mine[STEPS];
    load_tile(mine, from, inp, N, round);
    // 1. the first: behind all smaller digits, and behind the same one's keys in the tiles before
    constexpr int EACH = DIGITS / WARP;
    int total[EACH], sum = 0;
    for (int j = 0; j < EACH; j++) total[j] = totals[lane * EACH + j], sum += total[j];
    int smaller = warp_prefix_sum(sum) - sum;
    for (int j = 0; j < EACH; smaller += total[j++])
        next[lane * EACH + j] = smaller + counts[(size_t)(lane * EACH + j) * gridDim.x + blockIdx.x];
    // 2. 32 keys at a time; lanes with the same digit in the order of the lanes
    #pragma unroll  // or else `mine` is no registers
    for (const Occurrence& p : mine) {
        const bool there = p.token >= 0;
        const int d = digit_of(p.token, round);
        const unsigned same = lanes_with_same(there ? d : -1);
        const int earlier = __popc(same & ((1u << lane) - 1));
        __syncwarp();  // `next` has been set, and moved on for the keys before
        const int first = there ? next[d] : 0;
        __syncwarp();  // all lanes have read it
        if (there && earlier == 0) next[d] = first + __popc(same);
        if (there) to[first + earlier] = p;
    }
}
}  // namespace embedding_detail
