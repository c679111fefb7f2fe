// attention_forward.cuh: the kernel of attention's forward (Dao 2023, "FlashAttention-2"): a block's queries go along the keys that
// they see, a tile at a time; scores and weights never leave the registers.
#pragma once
#include "attention_tiles.cuh"

namespace attention_detail {
// By the bytes of a row. 96 KB at most, as 99 can be had on sm_86, 89 and 120. Two blocks of 4 warps share an SM of sm_80 (163 KB)
// and sm_90 (227 KB), which have registers for two anyway: a lane's sums take m * D / 2 of them, its scores m * columns / 2.
//   128 B: 48 KB,  64 + 64 registers;  the right factor's fragments serve 32 rows, which halves the reading of shared memory
//   256 B: 64 KB, 128 + 32 at bf16;  512 B: 96 KB, 128 + 16;  1024 B: 96 KB: correct, not tuned
template <class F, int D> constexpr Cut forward_cut() {
    constexpr size_t bytes = D * sizeof(F);
    return bytes == 128 ? Cut{4, 2, 64} : bytes == 256 ? Cut{4, 2, 32} : bytes == 512 ? Cut{4, 1, 32} : Cut{4, 1, 8};
}

// A score may be this much above the maximum that its row is measured by, in powers of 2, before that follows: weights of up to
// 2^8 lose nothing in floating point, and the sums need be scaled in few steps instead of nearly every one.
constexpr float LAG = 8;

// s: scores -> weights 2^(scale * (s - top)); top, total, o: as they were before these keys -> as they are with them.
template <int M, int KEYS, int D>
__device__ inline void softmax(Sums<M, KEYS>& s, Sums<M, D>& o, float (&top)[M][2], float (&total)[M][2], float scale) {
    // 1. the largest score of each row, which is in four lanes
    float largest[M][2], shrink[M][2];
    each_row<M>([&](int m, int half) { largest[m][half] = -INFINITY; });
    s.each([&](int m, int n, int i) { largest[m][i / 2] = fmaxf(largest[m][i / 2], s.x[m][n][i]); });
    // 2. rows whose maximum is left behind
    bool any = false;
    each_row<M>([&](int m, int half) {
        const float x = lanes_max<4>(largest[m][half]);
        const bool grew = x > top[m][half] + LAG / scale;
        shrink[m][half] = grew ? ex2_approx((top[m][half] - x) * scale) : 1;
        if (grew) top[m][half] = x;
        any |= grew;
    });
    if (warp_any(any)) {
        o.scale_rows(shrink);
        each_row<M>([&](int m, int half) { total[m][half] *= shrink[m][half]; });
    }
    // 3. weights. A row that has seen nothing yet has -infinity as maximum, which is not to be subtracted from itself
    each_row<M>([&](int m, int half) { shrink[m][half] = top[m][half] == -INFINITY ? 0 : top[m][half] * scale; });
    s.each([&](int m, int n, int i) {
        s.x[m][n][i] = ex2_approx(fmaf(s.x[m][n][i], scale, -shrink[m][i / 2]));
        total[m][i / 2] += s.x[m][n][i];
    });
}

template <class F, int D>
__global__ void __launch_bounds__(forward_cut<F, D>().threads(), 2)
attention_forward_kernel(F* out,             // (B, T, NH * HS)
                         float* lse,         // (B, NH, T)
                         const F* qkv,       // (B, T, (NH + 2 NKV) * HS)
                         const int* starts,  // (B, T) or null
                         Shape shape, float scale) {
    constexpr Cut cut = forward_cut<F, D>();
    constexpr int ROWS = cut.rows(), KEYS = cut.columns, M = cut.m, THREADS = cut.threads();
    // 1. whose queries: those from `query` on, of them this warp's from `first` on
    const int T = shape.T, HS = shape.HS, heads = shape.B * shape.NH;
    const int b = blockIdx.x % heads / shape.NH, h = blockIdx.x % shape.NH;
    const int query = (gridDim.x / heads - 1 - blockIdx.x / heads) * ROWS, row = threadIdx.x / WARP * 16 * M, first = query + row;
    const size_t width = shape.width(), token = (size_t)b * T;
    const F* q = qkv + token * width + (size_t)h * HS;
    const F* k = qkv + token * width + (size_t)(shape.NH + h / shape.group()) * HS;
    const F* v = k + (size_t)shape.NKV * HS;
    const int* start = starts ? starts + token : nullptr;
    // 2. the queries, and the first keys that they see
    const auto tile = [](int at) { return Tile<F, D>{(F*)dynamic_shared() + at * D}; };
    const auto fetch_keys = [&](int key, int buffer) {
        fetch<KEYS, THREADS>(tile(ROWS + 2 * buffer * KEYS), k + key * width, width, T - key, HS);
        fetch<KEYS, THREADS>(tile(ROWS + (2 * buffer + 1) * KEYS), v + key * width, width, T - key, HS);
        cp_async_commit_group();
    };
    const int begin = start ? start[query] / KEYS * KEYS : 0, end = min(T, query + ROWS);
    fetch<ROWS, THREADS>(tile(0), q + query * width, width, T - query, HS);
    fetch_keys(begin, 0);

    Sums<M, D> o{};
    float top[M][2], total[M][2];
    each_row<M>([&](int m, int half) { top[m][half] = -INFINITY, total[m][half] = 0; });
    const auto document = [&](int t) { return start ? start[min(t, T - 1)] : 0; };  // where t's begins; later ones' later
    const int earliest = document(first), latest = document(first + 16 * M - 1);
    for (int key = begin, buffer = 0; key < end; key += KEYS, buffer ^= 1) {
        cp_async_wait_group<0>();
        __syncthreads();  // all see these keys, and none still reads those before, which the next ones overwrite
        if (key + KEYS < end) fetch_keys(key + KEYS, buffer ^ 1);
        if (key >= first + 16 * M || key + KEYS <= earliest) continue;  // this warp sees none of them
        // 3. scores
        Sums<M, KEYS> s{};
        multiply_transposed(s, tile(0), row, tile(ROWS + 2 * buffer * KEYS));
        if (key + KEYS - 1 > first || key < latest)
            each_row<M>([&](int m, int half) {
                const int t = first + s.row(m, 2 * half);
                hide(s, m, half, document(t) - key, t - key);
            });
        // 4. weights, and the weighted sum of values
        softmax(s, o, top, total, scale);
        multiply(o, s, tile(ROWS + (2 * buffer + 1) * KEYS));
    }
    // 5. the means, and for the backward the log of the sum of e^score
    each_row<M>([&](int m, int half) {
        const int t = first + o.row(m, 2 * half);
        const float sum = lanes_sum<4>(total[m][half]);
        if (t < T && threadIdx.x % 4 == 0) lse[((size_t)b * shape.NH + h) * T + t] = top[m][half] * scale * LN2 + logf(sum);
        total[m][half] = 1 / sum;
    });
    o.scale_rows(total);
    store(out + (token + first) * shape.NH * HS + (size_t)h * HS, (size_t)shape.NH * HS, T - first, HS, o, tile(0), row);
}
}  // namespace attention_detail
