// attention_forward.cuh: the kernel of attention's forward, out = softmax(scale q k^T, masked) v, as in Dao 2023, "FlashAttention-2",
// section 3.1: a block keeps a tile of queries and loops over the tiles of keys and values that they see, with an online softmax, so that
// scores S and probabilities P never leave the registers. Its three steps: max and scale; rescale the output accumulated so far where
// row_max grew; finalise, at the end: divide by row_sum. Exponentials are 2^x, one instruction (ex2), with log2(e) in the scale.
#pragma once
#include "attention_tiles.cuh"

namespace attention_detail {
// By the bytes of a row. A lane's accumulators take m * D / 2 registers, its scores m * columns / 2; all in all 255 at most, for an occupancy of two
// blocks of 4 warps an SM where shared memory is large enough. A fragment of the B operand is used for 16 m rows: 32 halve the shared-memory
// traffic, which with 16 takes as long as the tensor cores of an sm_80 and longer than those of an sm_90.
//    128 B: 48 KB,  64 + 64 registers     two blocks everywhere
//    256 B: 64 KB, 128 + 32 at bf16       two on sm_80 and sm_90, one where there are 99 KB
//    512 B: 96 KB, 128 + 16;  1024 B: 96 KB, 128 + 4: correct, not tuned
template <class F, int D> constexpr TileShape forward_tile_shape() {
    constexpr size_t bytes = D * sizeof(F);
    return bytes == 128 ? TileShape{4, 2, 64} : bytes == 256 ? TileShape{4, 2, 32} : bytes == 512 ? TileShape{4, 1, 32} : TileShape{4, 1, 8};
}

// row_max is raised, and the accumulators rescaled, only when a score exceeds it by this much, in powers of 2 (conditional
// rescaling, as in FlashAttention-4): unnormalised probabilities of up to 2^8 lose no accuracy in floating point, and a rescale is then rare.
constexpr float RESCALE_THRESHOLD = 8;

// One step of the online softmax. s: scores -> unnormalised probabilities 2^(scale * (s - row_max)); row_max, row_sum, o are updated with
// this tile of keys.
template <int M, int KEYS, int D>
__device__ inline void softmax(Accumulator<M, KEYS>& s, Accumulator<M, D>& o, float (&row_max)[M][2], float (&row_sum)[M][2], float scale) {
    // 1. max: the tile's largest score of each row, which is in four lanes
    float tile_max[M][2], rescale[M][2];
    each_row<M>([&](int m, int half) { tile_max[m][half] = -INFINITY; });
    s.each([&](int m, int n, int i) { tile_max[m][i / 2] = fmaxf(tile_max[m][i / 2], s.x[m][n][i]); });
    // 2. rescale the rows whose row_max is exceeded by more than the threshold
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
    // 3. probabilities and row_sum. While all keys of a row are masked, row_max is -infinity, and -infinity - -infinity would be NaN
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
    const QueryTile<F, ROWS, M> my(shape, qkv, starts);
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
        // 3. softmax, O += P V
        softmax(s, o, row_max, row_sum, scale);
        multiply(o, s, values);
    });
    // 4. finalise: divide by row_sum; for the backward, lse, the log of the sum of e^score
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
