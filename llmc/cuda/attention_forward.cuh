// attention_forward.cuh: the kernel of attention's forward, out = softmax(scale q k^T, masked) v, as in Dao 2023, "FlashAttention-2": a
// block keeps a tile of queries and walks over the tiles of keys and values that they see, with an online softmax, so that scores and
// weights never leave the registers. Its three steps: the row's maximum and scale, the rescaling of what was accumulated with a smaller
// maximum, and at the end (finalise) the division by the row's sum. Exponentials are 2^x, one instruction (ex2), with log2(e) in the scale.
#pragma once
#include "attention_tiles.cuh"

namespace attention_detail {
// By the bytes of a row. A lane's accumulators take m * D / 2 registers, its scores m * columns / 2; all in all 255 at most, for an occupancy of two
// blocks of 4 warps an SM where shared memory has room for both. The right factor's fragments serve 16 m rows: 32 halve the
// reading of shared memory, which with 16 is as slow as the products of an sm_80 and slower than those of an sm_90.
//    128 B: 48 KB,  64 + 64 registers     two blocks everywhere
//    256 B: 64 KB, 128 + 32 at bf16       two on sm_80 and sm_90, one where there are 99 KB
//    512 B: 96 KB, 128 + 16;  1024 B: 96 KB, 128 + 4: correct, not tuned
template <class F, int D> constexpr TileShape forward_tile_shape() {
    constexpr size_t bytes = D * sizeof(F);
    return bytes == 128 ? TileShape{4, 2, 64} : bytes == 256 ? TileShape{4, 2, 32} : bytes == 512 ? TileShape{4, 1, 32} : TileShape{4, 1, 8};
}

// A score may be this much above row_max, in powers of 2, before row_max follows and the accumulators are rescaled: weights of up to 2^8 lose
// nothing in floating point, and a rescale is then rare instead of needed for nearly every tile.
constexpr float RESCALE_THRESHOLD = 8;

// s: scores -> weights 2^(scale * (s - row_max)); row_max, row_sum, o: as they were before these keys -> as they are with them.
template <int M, int KEYS, int D>
__device__ inline void softmax(Accumulator<M, KEYS>& s, Accumulator<M, D>& o, float (&row_max)[M][2], float (&row_sum)[M][2], float scale) {
    // 1. max and scale: the tile's largest score of each row, which is in four lanes
    float tile_max[M][2], rescale[M][2];
    each_row<M>([&](int m, int half) { tile_max[m][half] = -INFINITY; });
    s.each([&](int m, int n, int i) { tile_max[m][i / 2] = fmaxf(tile_max[m][i / 2], s.x[m][n][i]); });
    // 2. rescale: rows whose maximum is left behind by more than the threshold
    bool any = false;
    each_row<M>([&](int m, int half) {
        const float x = lanes_max<4>(tile_max[m][half]);
        const bool grew = x > row_max[m][half] + RESCALE_THRESHOLD / scale;
        rescale[m][half] = grew ? ex2_approx((row_max[m][half] - x) * scale) : 1;
        if (grew) row_max[m][half] = x;
        any |= grew;
    });
    if (warp_any(any)) {
        o.scale_rows(rescale);
        each_row<M>([&](int m, int half) { row_sum[m][half] *= rescale[m][half]; });
    }
    // 3. weights. A row that has seen nothing yet has -infinity as maximum, which is not to be subtracted from itself
    each_row<M>([&](int m, int half) { rescale[m][half] = row_max[m][half] == -INFINITY ? 0 : row_max[m][half] * scale; });
    s.each([&](int m, int n, int i) {
        s.x[m][n][i] = ex2_approx(fmaf(s.x[m][n][i], scale, -rescale[m][i / 2]));
        row_sum[m][i / 2] += s.x[m][n][i];
    });
}

template <class F, int D>
__global__ void __launch_bounds__(forward_tile_shape<F, D>().threads(), 2)
attention_forward_kernel(F* out,             // (B, T, NH * HS)
                         float* lse,         // (B, NH, T)
                         const F* qkv,       // (B, T, (NH + 2 NKV) * HS)
                         const int* starts,  // (B, T) or null
                         AttentionShape shape, float scale) {
    pdl_wait();
    constexpr TileShape tile_shape = forward_tile_shape<F, D>();
    constexpr int ROWS = tile_shape.rows(), KEYS = tile_shape.columns, M = tile_shape.m, THREADS = tile_shape.threads();
    // 1. the queries
    const Queries<F, ROWS, M> my(shape, qkv, starts);
    const int T = shape.T, HS = shape.HS;
    const Tile<F, D> queries = tile_at<F, D>(0);
    async_copy_tile<ROWS, THREADS>(queries, my.q + my.query * my.width, my.width, T - my.query, HS);
    Accumulator<M, D> o{};
    float row_max[M][2], row_sum[M][2];
    each_row<M>([&](int m, int half) { row_max[m][half] = -INFINITY, row_sum[m][half] = 0; });
    my.template for_each_kv_tile<KEYS, THREADS>(tile_at<F, D>(ROWS), [&](int key, Tile<F, D> keys, Tile<F, D> values) {
        // 2. scores
        Accumulator<M, KEYS> s{};
        multiply_transposed(s, queries, my.row, keys);
        my.apply_mask(s, key);
        // 3. weights, and the weighted sum of values
        softmax(s, o, row_max, row_sum, scale);
        multiply(o, s, values);
    });
    // 4. finalise: divide by the row's sum, and for the backward the log of the sum of e^score
    each_row<M>([&](int m, int half) {
        const int t = my.first + o.row(m, 2 * half);
        const float sum = lanes_sum<4>(row_sum[m][half]);
        if (t < T && threadIdx.x % 4 == 0) lse[((size_t)my.b * shape.NH + my.h) * T + t] = row_max[m][half] * scale * LN2 + logf(sum);
        row_sum[m][half] = 1 / sum;
    });
    o.scale_rows(row_sum);
    const size_t C = (size_t)shape.NH * HS;
    store(out + (my.token + my.first) * C + (size_t)my.h * HS, C, T - my.first, HS, o, queries, my.row);
}
}  // namespace attention_detail
