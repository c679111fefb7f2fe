// classifier.cuh: softmax and cross entropy in one go; the logits are overwritten with their gradient.
#pragma once
#include <cfloat>
#include <cstddef>
#include "../check.h"
#include "device.cuh"

namespace classifier_detail {
constexpr int THREADS = 1024;  // a row of 50257 is long: the more loads are under way, the better
constexpr float LOG2E = 1.44269504f;

// The packs that a thread keeps in registers between the two looks at its row: 20 or 32 registers of 64 (24 spill on sm_100). Of
// a row of 50304 bf16 40960, of fp32 32768; what is beyond is read again, from the second-level cache.
template <class F> constexpr int KEPT = sizeof(F) == 2 ? 5 : 8;

// Maximum of the block's x, and sum of the terms, which were taken relative to the thread's own maximum.
struct Softmax { float max, sum; };
__device__ inline Softmax block_softmax(Softmax mine) {
    __shared__ float maxima[WARP], sums[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    // 1. of the warp
    float largest = warp_max(mine.max);
    float sum = warp_sum(mine.sum * ex2_approx((mine.max - largest) * LOG2E));
    if (lane == 0) maxima[warp] = largest, sums[warp] = sum;
    __syncthreads();  // every warp reads all of them
    // 2. of the block; THREADS / WARP == WARP, so that each lane has one
    const float theirs = maxima[lane];
    largest = warp_max(theirs);
    return {largest, warp_sum(sums[lane] * ex2_approx((theirs - largest) * LOG2E))};
}

// The thread's running maximum and sum meet a pack, of which the columns from V on do not count.
template <class F> __device__ inline void meet(Softmax& s, const Pack<F>& pack, int column, int V) {
    constexpr int SIZE = Pack<F>::SIZE;
    float x[SIZE], largest = s.max;
    for (int i = 0; i < SIZE; i++) {
        x[i] = column + i < V ? to_float(pack[i]) : -INFINITY;
        largest = x[i] > largest || x[i] != x[i] ? x[i] : largest;  // a NaN is not lost
    }
    float sum = s.sum * ex2_approx((s.max - largest) * LOG2E);
    for (int i = 0; i < SIZE; i++) sum += ex2_approx((x[i] - largest) * LOG2E);
    s = {largest, sum};
}

template <class F>
__global__ void __launch_bounds__(THREADS, 1) classifier_kernel(F* logits, float* losses, const int* targets, float dloss, int V, int Vp,
                                                                bool write_dlogits) {
    static_assert(THREADS == WARP * WARP);
    constexpr int SIZE = Pack<F>::SIZE, STEP = THREADS * SIZE, KEEP = KEPT<F>;
    F* row = logits + (size_t)blockIdx.x * Vp;
    const int first = threadIdx.x * SIZE, target = targets[blockIdx.x];
    // 1. the target's logit, before anybody overwrites it
    const float correct = target < 0 ? 0 : to_float(row[target]);
    // 2. maximum and sum
    Softmax s{-FLT_MAX, 0};  // not -infinity, which minus itself is a NaN
    Pack<F> kept[KEEP];
    #pragma unroll  // or else `kept` is no registers
    for (int k = 0; k < KEEP; k++) {
        const int column = first + k * STEP;
        if (column >= V) continue;
        kept[k] = load_pack(row + column);
        meet(s, kept[k], column, V);
    }
    for (int column = first + KEEP * STEP; column < V; column += STEP) meet(s, load_pack(row + column), column, V);
    s = block_softmax(s);
    if (threadIdx.x == 0) losses[blockIdx.x] = target < 0 ? 0 : (float)(log((double)s.sum) + ((double)s.max - (double)correct));
    if (!write_dlogits) return;
    // 3. the gradient. The barriers of block_softmax stand between the reading of `correct` and the writing of its column.
    const float scale = target < 0 ? 0 : dloss / s.sum;
    auto put = [&](Pack<F> pack, int column) {
        for (int i = 0; i < SIZE; i++) {
            const float e = ex2_approx((to_float(pack[i]) - s.max) * LOG2E);
            const float d = column + i == target ? (e / s.sum - 1) * dloss : e * scale;
            pack[i] = from_float<F>(column + i < V ? d : 0.0f);
        }
        store_pack(row + column, pack);
    };
    #pragma unroll
    for (int k = 0; k < KEEP; k++) {
        const int column = first + k * STEP;
        if (column < V) put(kept[k], column);
        else if (column < Vp) store_pack(row + column, Pack<F>{});
    }
    for (int column = first + KEEP * STEP; column < Vp; column += STEP) {
        if (column < V) put(load_pack(row + column), column);
        else store_pack(row + column, Pack<F>{});
    }
}
}  // namespace classifier_detail

// losses = -log softmax(logits[:V])[target];  if write_dlogits: logits = (softmax - onehot) * dloss, columns V..Vp-1 = 0.
// A target below 0 does not count: loss 0, gradient 0.  One read and one write of the logits, a block a row.
template <class F>
void fused_classifier(F* logits,           // (N, Vp) becomes its gradient
                      float* losses,       // (N)
                      const int* targets,  // (N) below V: the data loader has looked at them
                      float dloss,         // gradient of each loss
                      size_t N, int V, int Vp, bool write_dlogits, stream_t stream) {
    using namespace classifier_detail;
    CHECK(Vp % 8 == 0, "classifier: rows of %d, must be a multiple of 8", Vp);
    launch(classifier_kernel<F>, {(unsigned)N, THREADS}, stream, logits, losses, targets, dloss, V, Vp, write_dlogits);
}
