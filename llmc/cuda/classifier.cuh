// classifier.cuh: softmax and cross entropy, forward and backward fused; the logits are overwritten with their gradient. A block a row, with
// an online softmax (Milakov and Gimelshein 2018); the row stays in registers between the reduction and the gradient.
#pragma once
#include <algorithm>
#include <cfloat>
#include <cstddef>
#include "../base/check.h"
#include "../layers/arguments.h"
#include "device.cuh"

namespace classifier_detail {
constexpr int THREADS = 1024;  // at most: a row of 50257 is long, and memory bandwidth needs many loads in flight; a short row has fewer packs
constexpr float LOG2E = 1.44269504f;

// The packs of a row that a thread keeps in registers between the reduction and the gradient: 28 or 32 registers of 64. All of a row of
// 57344 bf16; of fp32 the first 32768, and the rest is read again, from a cache.
template <class F> constexpr int KEPT = sizeof(F) == 2 ? 7 : 8;

// The online softmax of a row: row_max, row_sum = sum of e^(x - row_max). block_softmax combines those of a block's threads: a row_sum is
// rescaled from its thread's row_max to the block's.
struct Softmax { float row_max, row_sum; };
__device__ inline Softmax block_softmax(Softmax mine) {
    __shared__ float maxima[WARP], sums[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    // 1. over the warp
    float row_max = warp_max(mine.row_max);
    float row_sum = warp_sum(mine.row_sum * ex2_approx((mine.row_max - row_max) * LOG2E));
    if (lane == 0) maxima[warp] = row_max, sums[warp] = row_sum;
    __syncthreads();  // sync: every warp reads the results of all warps
    // 2. over the block, of at most WARP warps: each lane reads one warp's
    const Softmax theirs = lane < (int)blockDim.x / WARP ? Softmax{maxima[lane], sums[lane]} : Softmax{-FLT_MAX, 0};
    row_max = warp_max(theirs.row_max);
    return {row_max, warp_sum(theirs.row_sum * ex2_approx((theirs.row_max - row_max) * LOG2E))};
}

// What the softmax sees of a logit z, and the slope of that: softcap.h.
template <bool CAPPED> struct Cap {
    float inverse;  // 1 / cap
    __device__ float root(float z) const { return rsqrtf(fmaf(z * inverse, z * inverse, 1.0f)); }
    __device__ float value(float z) const { return CAPPED ? z * root(z) : z; }
    __device__ float slope(float z) const { const float r = CAPPED ? root(z) : 1; return r * r * r; }
};

// Sets the padding, the columns of a pack from V on, to `with`.
template <int SIZE> __device__ inline void pad(float (&x)[SIZE], int column, int V, float with) {
    if (column + SIZE <= V) return;  // all packs of a row but at most one
    for (int i = 0; i < SIZE; i++) if (column + i >= V) x[i] = with;
}

// One step of the thread's online softmax: a pack. A NaN does not change row_max, but row_sum becomes NaN, and with it the loss and all
// gradients of the row.
template <class F, bool CAPPED> __device__ inline void online_softmax(Softmax& s, const Pack<F>& pack, int column, int V, Cap<CAPPED> cap) {
    constexpr int SIZE = Pack<F>::SIZE;
    float x[SIZE], row_max = s.row_max;
    for (int i = 0; i < SIZE; i++) x[i] = cap.value(to_float(pack[i]));
    pad(x, column, V, -INFINITY);  // adds 0 to row_sum
    for (int i = 0; i < SIZE; i++) row_max = fmaxf(row_max, x[i]);
    float row_sum = s.row_sum * ex2_approx((s.row_max - row_max) * LOG2E);
    for (int i = 0; i < SIZE; i++) row_sum += ex2_approx((x[i] - row_max) * LOG2E);
    s = {row_max, row_sum};
}

template <class F, bool CAPPED>
__global__ void __launch_bounds__(THREADS, 1) classifier_kernel(F* logits, float* losses, const int* targets, float dloss,
                                                                int V, int Vp, bool write_dlogits, Cap<CAPPED> cap) {
    pdl_wait();
    static_assert(THREADS <= WARP * WARP);
    constexpr int SIZE = Pack<F>::SIZE, STEP = THREADS * SIZE, KEEP = KEPT<F>;  // a block of fewer threads has the row in their first packs
    F* row = logits + (size_t)blockIdx.x * Vp;
    const int first = threadIdx.x * SIZE, target = targets[blockIdx.x];
    // 1. the row, or most of it: all loads are in flight before the first is used
    int4 kept[KEEP];  // each a Pack<F>
    #pragma unroll    // keeps `kept` in registers: its indices must be known at compile time
    for (int k = 0; k < KEEP; k++) {
        const int column = first + k * STEP;
        kept[k] = column < V ? __builtin_bit_cast(int4, load_pack(row + column)) : int4{};
    }
    auto pack_of = [&](int k) { return __builtin_bit_cast(Pack<F>, kept[k]); };
    // 2. online softmax
    Softmax s{-FLT_MAX, 0};  // not -infinity: -infinity - -infinity is NaN
    #pragma unroll
    for (int k = 0; k < KEEP; k++) online_softmax(s, pack_of(k), first + k * STEP, V, cap);
    #pragma unroll 1  // unrolling would take registers from `kept`
    for (int column = first + KEEP * STEP; column < V; column += STEP) online_softmax(s, load_pack(row + column), column, V, cap);
    // 3. the target's logit, in the cache by now, before a thread overwrites it
    const float logit = target < 0 ? 0 : to_float(row[target]), correct = cap.value(logit);
    s = block_softmax(s);
    for (int4& pack : kept) compiler_barrier(pack);  // else the compiler would keep the elements as floats, in twice the registers
    // 4. the gradient. The barrier in block_softmax orders every thread's load of `correct` before the stores below.
    const float scale = target < 0 ? 0 : dloss / s.row_sum;
    auto gradient = [&](float z) { return ex2_approx((cap.value(z) - s.row_max) * LOG2E) * scale * cap.slope(z); };
    auto store_gradient = [&](const Pack<F>& pack, int column) {
        float d[SIZE];
        for (int i = 0; i < SIZE; i++) d[i] = gradient(to_float(pack[i]));
        pad(d, column, V, 0.0f);  // 0, even in a row of NaN
        store_floats(row + column, d);
    };
    if (write_dlogits) {
        #pragma unroll
        for (int k = 0; k < KEEP; k++) {
            const int column = first + k * STEP;
            if (column < V) store_gradient(pack_of(k), column);
            else if (column < Vp) store_pack(row + column, Pack<F>{});
        }
        #pragma unroll 1
        for (int column = first + KEEP * STEP; column < Vp; column += STEP) {
            if (column < V) store_gradient(load_pack(row + column), column);
            else store_pack(row + column, Pack<F>{});
        }
        // the target's own entry, by the thread that has just written its pack: p - 1 from the logit, not from p rounded to F
        if (target >= 0 && target / SIZE % THREADS == (int)threadIdx.x)
            row[target] = from_float<F>(gradient(logit) - dloss * cap.slope(logit));
    }
    // 5. the loss, last: the logarithm takes registers that `kept` no longer needs
    if (threadIdx.x == 0)
        losses[blockIdx.x] = target < 0 ? 0 : (float)(log((double)s.row_sum) + ((double)s.row_max - (double)correct));
}
}  // namespace classifier_detail

// losses = -log softmax(logits[:V])[target];  if write_dlogits: logits = (softmax - onehot) * dloss, columns V..Vp-1 = 0.
// With a softcap the softmax is of softcap(logits), and their gradient is one of the logits again. A target below 0 is ignored: loss 0, gradient 0.  One read and one write of the logits, a block a row.
template <class F>
void fused_classifier(F* logits,           // (N, Vp) becomes its gradient
                      float* losses,       // (N)
                      const int* targets,  // (N) below V: the data loader has checked them
                      float dloss,         // gradient of each loss
                      size_t N, int V, int Vp, Classifier how, stream_t stream) {
    using namespace classifier_detail;
    CHECK(Vp % 8 == 0 && V <= Vp, "classifier: rows of %d for %d logits, must be a multiple of 8 and as many", Vp, V);
    const Grid grid{(unsigned)N, (unsigned)std::min(THREADS, (Vp / Pack<F>::SIZE + WARP - 1) / WARP * WARP)};  // a thread a pack, as far as there are threads
    if (how.softcap > 0) launch(classifier_kernel<F, true>, grid, stream, logits, losses, targets, dloss, V, Vp, how.write_dlogits, Cap<true>{1 / how.softcap});
    else launch(classifier_kernel<F, false>, grid, stream, logits, losses, targets, dloss, V, Vp, how.write_dlogits, Cap<false>{});
}
