// attention_forward.cuh: the kernel of attention's forward (Dao 2023, "FlashAttention-2"): a block's queries go along the keys that
// they see, a tile at a time; scores and weights never leave the registers.
#pragma once
#include "attention_tiles.cuh"

namespace attention_detail {
// By the bytes of a row. A lane's sums take m * D / 2 registers, its scores m * columns / 2; all in all 255 at most, so that two
// blocks of 4 warps share an SM where shared memory has room for both. The right factor's fragments serve 16 m rows: 32 halve the
// reading of shared memory, which with 16 is as slow as the products of an sm_80 and slower than those of an sm_90.
//    128 B: 48 KB,  64 + 64 registers     two blocks everywhere
//    256 B: 64 KB, 128 + 32 at bf16       two on sm_80 and sm_90, one where there are 99 KB
//    512 B: 96 KB, 128 + 16;  1024 B: 96 KB, 128 + 4: correct, not tuned
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
    wait_for_turn();
    constexpr Cut cut = forward_cut<F, D>();
    constexpr int ROWS = cut.rows(), KEYS = cut.columns, M = cut.m, THREADS = cut.threads();
    // 1. the queries
    const Queries<F, ROWS, M> my(shape, qkv, starts);
    const int T = shape.T, HS = shape.HS;
    const Tile<F, D> queries = tile_at<F, D>(0);
    fetch<ROWS, THREADS>(queries, my.q + my.query * my.width, my.width, T - my.query, HS);
    Sums<M, D> o{};
    float top[M][2], total[M][2];
    each_row<M>([&](int m, int half) { top[m][half] = -INFINITY, total[m][half] = 0; });
    my.template along_keys<KEYS, THREADS>(tile_at<F, D>(ROWS), [&](int key, Tile<F, D> keys, Tile<F, D> values) {
        // 2. scores
        Sums<M, KEYS> s{};
        multiply_transposed(s, queries, my.row, keys);
        my.hide(s, key);
        // 3. weights, and the weighted sum of values
        softmax(s, o, top, total, scale);
        multiply(o, s, values);
    });
    // 4. the means, and for the backward the log of the sum of e^score
    each_row<M>([&](int m, int half) {
        const int t = my.first + o.row(m, 2 * half);
        const float sum = lanes_sum<4>(total[m][half]);
        if (t < T && threadIdx.x % 4 == 0) lse[((size_t)my.b * shape.NH + my.h) * T + t] = top[m][half] * scale * LN2 + logf(sum);
        total[m][half] = 1 / sum;
    });
    o.scale_rows(total);
    const size_t C = (size_t)shape.NH * HS;
    store(out + (my.token + my.first) * C + (size_t)my.h * HS, C, T - my.first, HS, o, queries, my.row);
}
}  // namespace attention_detail
