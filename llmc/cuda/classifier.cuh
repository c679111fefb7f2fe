// classifier.cuh: softmax and cross entropy in one go; the logits are overwritten with their gradient.
#pragma once
#include <cfloat>
#include <cstddef>
#include "../base/check.h"
#include "device.cuh"

namespace classifier_detail {
constexpr int THREADS = 1024;  // a row of 50257 is long: the more loads are under way, the better
constexpr float LOG2E = 1.44269504f;

// The packs that a thread keeps in registers between the two looks at its row: 28 or 32 registers of 64. All of a row of
// 57344 bf16; of fp32 32768, and what is beyond is read again, from a cache.
template <class F> constexpr int KEPT = sizeof(F) == 2 ? 7 : 8;

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

// The columns of a pack from V on become `with`.
template <int SIZE> __device__ inline void pad(float (&x)[SIZE], int column, int V, float with) {
    if (column + SIZE <= V) return;  // all packs of a row but one or none
    for (int i = 0; i < SIZE; i++) if (column + i >= V) x[i] = with;
}

// The thread's running maximum and sum meet a pack. A NaN does not move the maximum, but the sum becomes one, and with it the
// loss and all gradients of the row.
template <class F> __device__ inline void meet(Softmax& s, const Pack<F>& pack, int column, int V) {
    constexpr int SIZE = Pack<F>::SIZE;
    float x[SIZE], largest = s.max;
    for (int i = 0; i < SIZE; i++) x[i] = to_float(pack[i]);
    pad(x, column, V, -INFINITY);  // adds nothing to the sum
    for (int i = 0; i < SIZE; i++) largest = fmaxf(largest, x[i]);
    float sum = s.sum * ex2_approx((s.max - largest) * LOG2E);
    for (int i = 0; i < SIZE; i++) sum += ex2_approx((x[i] - largest) * LOG2E);
    s = {largest, sum};
}

template <class F>
__global__ void __launch_bounds__(THREADS, 1) classifier_kernel(F* logits, float* losses, const int* targets, float dloss,
                                                                int V, int Vp, bool write_dlogits) {
    pdl_wait();
    static_assert(THREADS == WARP * WARP);
    constexpr int SIZE = Pack<F>::SIZE, STEP = THREADS * SIZE, KEEP = KEPT<F>;
    F* row = logits + (size_t)blockIdx.x * Vp;
    const int first = threadIdx.x * SIZE, target = targets[blockIdx.x];
    // 1. the row, or most of it: all loads are under way before the first is waited for
    int4 kept[KEEP];  // each a Pack<F>
    #pragma unroll    // or else `kept` is no registers
    for (int k = 0; k < KEEP; k++) {
        const int column = first + k * STEP;
        kept[k] = column < V ? __builtin_bit_cast(int4, load_pack(row + column)) : int4{};
    }
    auto pack_of = [&](int k) { return __builtin_bit_cast(Pack<F>, kept[k]); };
    // 2. maximum and sum
    Softmax s{-FLT_MAX, 0};  // not -infinity, which minus itself is a NaN
    #pragma unroll
    for (int k = 0; k < KEEP; k++) meet(s, pack_of(k), first + k * STEP, V);
    #pragma unroll 1  // more would take registers from `kept`
    for (int column = first + KEEP * STEP; column < V; column += STEP) meet(s, load_pack(row + column), column, V);
    // 3. the target's logit, in the cache by now, before anybody overwrites it
    const float correct = target < 0 ? 0 : to_float(row[target]);
    s = block_softmax(s);
    for (int4& pack : kept) compiler_barrier(pack);  // or else its elements, as floats, would take twice the registers
    // 4. the gradient. The barrier of block_softmax stands between all reading of `correct` and its overwriting.
    const float scale = target < 0 ? 0 : dloss / s.sum;
    auto gradient = [&](float x) { return ex2_approx((x - s.max) * LOG2E) * scale; };
    auto put = [&](const Pack<F>& pack, int column) {
        float d[SIZE];
        for (int i = 0; i < SIZE; i++) d[i] = gradient(to_float(pack[i]));
        pad(d, column, V, 0.0f);  // be there NaNs or not
        store_floats(row + column, d);
    };
    if (write_dlogits) {
        #pragma unroll
        for (int k = 0; k < KEEP; k++) {
            const int column = first + k * STEP;
            if (column < V) put(pack_of(k), column);
            else if (column < Vp) store_pack(row + column, Pack<F>{});
        }
        #pragma unroll 1
        for (int column = first + KEEP * STEP; column < Vp; column += STEP) {
            if (column < V) put(load_pack(row + column), column);
            else store_pack(row + column, Pack<F>{});
        }
        // the target's own, by the thread that has just written its pack: p - 1 must not see F's rounding of p
        if (target >= 0 && target / SIZE % THREADS == (int)threadIdx.x)
            row[target] = from_float<F>(gradient(correct) - dloss);
    }
    // 5. the loss, when the registers of `kept` are free for the logarithm
    if (threadIdx.x == 0)
        losses[blockIdx.x] = target < 0 ? 0 : (float)(log((double)s.sum) + ((double)s.max - (double)correct));
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
    CHECK(Vp % 8 == 0 && V <= Vp, "classifier: rows of %d for %d logits, must be a multiple of 8 and as many", Vp, V);
    launch(classifier_kernel<F>, {(unsigned)N, THREADS}, stream, logits, losses, targets, dloss, V, Vp, write_dlogits);
}
