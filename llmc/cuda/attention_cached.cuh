// attention_cached.cuh: attention with a KV cache, for prefill and decode. Few queries read many keys, so the keys of one query are split
// over the warps of a block, each with an online softmax of its own, and the partial results are combined at the end (split-KV;
// "Flash-Decoding", Dao et al. 2023, splits over blocks).
#pragma once
#include "attention_tiles.cuh"

namespace attention_detail {
// The keys and values of a token are appended as a row each, 16 bytes a thread.
template <class F>
__global__ void append_kernel(F* kcache,     // (n, KC), at the first new token
                              F* vcache,     // (n, KC)
                              const F* qkv,  // (n, NH * HS + 2 KC),  KC = NKV * HS
                              int n, AttentionShape shape) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t KC = (size_t)shape.NKV * shape.HS, packs = KC / SIZE, i = thread_index();
    if (i >= (size_t)n * packs) return;
    const size_t token = i / packs, c = i % packs * SIZE;
    const F* k = qkv + token * shape.width() + (size_t)shape.NH * shape.HS + c;
    store_pack(kcache + token * KC + c, load_pack(k));
    store_pack(vcache + token * KC + c, load_pack(k + KC));
}

constexpr int CACHED_THREADS = 512;  // 16 warps a query and head: one query alone needs many loads in flight
template <class F> constexpr int CACHED_LANES = 4 * sizeof(F);  // lanes that share a key: 16 bytes each are a head of 64

// A block a query and head. Each group of lanes takes every 64th key (bf16; fp32: 32nd) with an online softmax of its own; the partial results
// are combined in a fixed order, so a query's result is bitwise identical in prefill and decode.
template <class F>
__global__ void __launch_bounds__(CACHED_THREADS)
attention_cached_kernel(F* out,           // (n, NH * HS)
                        const F* kcache,  // (Tmax, NKV * HS)
                        const F* vcache,  // (Tmax, NKV * HS)
                        const F* qkv,     // (n, (NH + 2 NKV) * HS)
                        int pos, int window, AttentionShape shape, float scale) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE, LANES = CACHED_LANES<F>, PACKS = MAX_HS / (SIZE * LANES), WARPS = CACHED_THREADS / WARP;
    __shared__ float outs[WARPS][MAX_HS], row_maxes[WARPS], row_sums[WARPS];
    const int h = blockIdx.x % shape.NH, query = blockIdx.x / shape.NH, HS = shape.HS;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, mine = lane % LANES * SIZE;
    const size_t KC = (size_t)shape.NKV * HS, head = (size_t)(h / shape.group()) * HS;
    const auto each = [&](auto f) {  // f(pack, its first column) for this lane's packs of a row
        #pragma unroll
        for (int i = 0; i < PACKS; i++)
            if (const int d = i * LANES * SIZE + mine; d < HS) f(i, d);
    };
    // 1. the query
    Pack<F> q[PACKS];
    each([&](int i, int d) { q[i] = load_pack(qkv + query * shape.width() + (size_t)h * HS + d); });
    // 2. the online softmax over this group's keys
    float o[PACKS][SIZE] = {}, row_max = -INFINITY, row_sum = 0;
    const int last = pos + query, begin = window ? max(0, last - window + 1) : 0;
    for (int first = begin; first <= last; first += CACHED_THREADS / LANES) {  // the same number of iterations in all lanes: they shuffle below
        const int key = first + threadIdx.x / LANES;
        const bool seen = key <= last;
        const size_t at = (size_t)(seen ? key : 0) * KC + head;
        Pack<F> v[PACKS];
        float score = 0;
        each([&](int i, int d) {
            const Pack<F> k = load_pack(kcache + at + d);
            v[i] = load_pack(vcache + at + d);
            for (int j = 0; j < SIZE; j++) score += to_float(q[i][j]) * to_float(k[j]);
        });
        score = lanes_sum<LANES>(score) * scale;
        if (!seen) continue;
        const float before = row_max;
        row_max = fmaxf(row_max, score);
        const float rescale = ex2_approx(before - row_max), p = ex2_approx(score - row_max);
        row_sum = row_sum * rescale + p;
        each([&](int i, int) { for (int j = 0; j < SIZE; j++) o[i][j] = o[i][j] * rescale + p * to_float(v[i][j]); });
    }
    // 3. combine the groups of a warp: rescale to the largest row_max, add
    const float warp_row_max = warp_max(row_max), factor = row_max == -INFINITY ? 0 : ex2_approx(row_max - warp_row_max);
    row_sum = warp_sum(lane % LANES == 0 ? row_sum * factor : 0);
    #pragma unroll
    for (int i = 0; i < PACKS; i++)
        for (int j = 0; j < SIZE && i * LANES * SIZE < HS; j++) {
            const float sum = strided_sum<LANES>(o[i][j] * factor);
            if (const int d = i * LANES * SIZE + mine; lane < LANES && d < HS) outs[warp][d + j] = sum;
        }
    if (lane == 0) row_maxes[warp] = warp_row_max, row_sums[warp] = row_sum;
    __syncthreads();  // sync: every thread reads the partial results of all warps
    // 4. combine the warps likewise, finalise
    float m = -INFINITY, sum = 0, total = 0;
    for (int w = 0; w < WARPS; w++) m = fmaxf(m, row_maxes[w]);
    if ((int)threadIdx.x >= HS) return;
    for (int w = 0; w < WARPS; w++) {
        const float rescale = row_maxes[w] == -INFINITY ? 0 : ex2_approx(row_maxes[w] - m);
        sum += outs[w][threadIdx.x] * rescale, total += row_sums[w] * rescale;
    }
    out[(size_t)query * shape.NH * HS + (size_t)h * HS + threadIdx.x] = from_float<F>(sum / total);
}
}  // namespace attention_detail
