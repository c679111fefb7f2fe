// attention_backward.cuh: the three kernels of attention's backward: delta = rowsum(dout * out); dQ; dK and dV. P is recomputed from lse,
// as in Dao 2023, "FlashAttention-2", algorithm 2, where delta is D.
//
// The kernels of dQ and of dK, dV each recompute S, P, dP and dS: 7 matrix products a tile where one kernel for all would do 5, so up to 40 %
// more FLOPs. In return no accumulator is shared between blocks: no atomics, bitwise identical results, and no dQ in fp32 in memory
// (4 B T C bytes to clear, add to and convert).
#pragma once
#include "attention_tiles.cuh"

namespace attention_detail {
// By the bytes of a row, as in the forward, here with two tiles of rows. A lane's registers: m * D / 2 for each accumulator, of at most
// 128 columns, and m * columns / 2 each for P and dS.
//   128 B: 48 KB; dq 64 + 2 * 32, dk and dv 2 * 64 + 2 * 32: 32 rows a warp, as each fragment of the B operand is then used twice: 48 ldmatrix for
//          128 mma, where 16 rows took 72. It just fits in 255 registers (LOG 63)
//   256 B: 64 KB; at bf16 64 + 2 * 16, 2 * 64 + 2 * 16;  512 B: 96 KB;  1024 B: 96 KB: correct, not tuned
template <class F, int D> constexpr TileShape backward_tile_shape() {
    constexpr size_t bytes = D * sizeof(F);
    return bytes == 128 ? TileShape{4, 2, 32} : bytes == 256 ? TileShape{4, 1, 32} : bytes == 512 ? TileShape{4, 1, 16} : TileShape{2, 1, 8};
}
// Shared memory of the dk, dv kernel besides tiles: lse, delta and document start of each query, in both buffers.
template <class F, int D> constexpr size_t statistics_bytes() { return 2 * 3 * backward_tile_shape<F, D>().columns * sizeof(float); }
// The accumulators of dk and dv fit in the registers up to this many columns of a head; for larger heads a block computes a part of the columns.
template <int D> constexpr int part_columns() { return D < 128 ? D : 128; }

// delta = rowsum(dout * out) + 0 lse, head by head: an infinite lse would make P zero, and the row's gradients in silence; now they are NaN. Eight lanes a
// head: 16 bytes each are a head of 64 in bf16.
template <class F>
__global__ void attention_delta_kernel(float* delta,   // (B, NH, T)
                                       const F* dout,  // (B, T, NH * HS)
                                       const F* out,   // (B, T, NH * HS)
                                       const float* lse,  // (B, NH, T)
                                       AttentionShape shape) {
    pdl_wait();
    constexpr int LANES = 8, SIZE = Pack<F>::SIZE;
    const size_t i = thread_index() / LANES, n = (size_t)shape.B * shape.T * shape.NH;
    float sum = 0;
    if (i < n)
        for (int d = threadIdx.x % LANES * SIZE; d < shape.HS; d += LANES * SIZE) {
            const Pack<F> a = load_pack(dout + i * shape.HS + d), b = load_pack(out + i * shape.HS + d);
            for (int j = 0; j < SIZE; j++) sum += to_float(a[j]) * to_float(b[j]);
        }
    sum = lanes_sum<LANES>(sum);
    const size_t token = i / shape.NH, h = i % shape.NH, b = token / shape.T, t = token % shape.T;
    if (i >= n || threadIdx.x % LANES != 0) return;
    const size_t row = (b * shape.NH + h) * shape.T + t;
    delta[row] = fmaf(0, lse[row], sum);
}

// dq[t] = scale * sum over u of ds[t][u] k[u],  ds[t][u] = p[t][u] (dout[t] . v[u] - delta[t]).  A block keeps its queries and loops over the keys.
template <class F, int D>
__global__ void __launch_bounds__(backward_tile_shape<F, D>().threads(), 2)
attention_dq_kernel(F* dqkv,            // (B, T, (NH + 2 NKV) * HS): writes dq
                    const F* dout,      // (B, T, NH * HS)
                    const float* lse,   // (B, NH, T)
                    const float* delta, // (B, NH, T)
                    const F* qkv,       // (B, T, (NH + 2 NKV) * HS)
                    const int* starts,  // (B, T) or null
                    AttentionShape shape, float scale) {
    pdl_wait();
    constexpr TileShape tile_shape = backward_tile_shape<F, D>();
    constexpr int ROWS = tile_shape.rows(), KEYS = tile_shape.columns, M = tile_shape.m, THREADS = tile_shape.threads();
    // 1. the queries and their gradients
    const QueryTile<F, ROWS, M> my(shape, qkv, starts);
    const int T = shape.T, HS = shape.HS;
    const size_t C = (size_t)shape.NH * HS;
    const Tile<F, D> queries = tile_at<F, D>(0), douts = tile_at<F, D>(ROWS);
    async_copy_tile<ROWS, THREADS>(queries, my.q + my.query * my.width, my.width, T - my.query, HS);
    async_copy_tile<ROWS, THREADS>(douts, dout + (my.token + my.query) * C + (size_t)my.h * HS, C, T - my.query, HS);
    Accumulator<M, D> dq{};
    float lse_log2[M][2], delta_t[M][2];
    each_row<M>([&](int m, int half) {
        const int t = min(my.first + dq.row(m, 2 * half), T - 1);  // the padding repeats the last query, and is not stored
        const size_t at = ((size_t)my.b * shape.NH + my.h) * T + t;
        lse_log2[m][half] = lse[at] * LOG2E, delta_t[m][half] = delta[at];
    });
    my.template for_each_kv_tile<KEYS, THREADS>(tile_at<F, D>(2 * ROWS), [&](int key, Tile<F, D> keys, Tile<F, D> values) {
        // 2. S and dP
        Accumulator<M, KEYS> s{}, ds{};
        multiply_transposed(s, queries, my.row, keys);
        my.apply_mask(s, key);
        multiply_transposed(ds, douts, my.row, values);
        // 3. P, dS, and dQ += dS K
        s.each([&](int m, int n, int i) {
            const float p = ex2_approx(fmaf(s.x[m][n][i], scale * LOG2E, -lse_log2[m][i / 2]));
            ds.x[m][n][i] = p * (ds.x[m][n][i] - delta_t[m][i / 2]);
        });
        multiply(dq, ds, keys);
    });
    dq.scale(scale);
    store(dqkv + (my.token + my.first) * my.width + (size_t)my.h * HS, my.width, T - my.first, HS, dq, queries, my.row);
}

// dk[u] = scale * sum over t of ds[t][u] q[t],  dv[u] = sum over t of p[t][u] dout[t],  over all heads of queries that share this
// head of keys.  A block keeps its keys and values and loops over the queries; scores are transposed, so that P^T and dS^T are A operands.
template <class F, int D>
__global__ void __launch_bounds__(backward_tile_shape<F, D>().threads(), 2)
attention_dkv_kernel(F* dqkv,            // (B, T, (NH + 2 NKV) * HS): writes dk, dv
                     const F* dout,      // (B, T, NH * HS)
                     const float* lse,   // (B, NH, T)
                     const float* delta, // (B, NH, T)
                     const F* qkv,       // (B, T, (NH + 2 NKV) * HS)
                     const int* starts,  // (B, T) or null
                     AttentionShape shape, float scale) {
    pdl_wait();
    constexpr TileShape tile_shape = backward_tile_shape<F, D>();
    constexpr int ROWS = tile_shape.rows(), QUERIES = tile_shape.columns, M = tile_shape.m, THREADS = tile_shape.threads(), COLUMNS = part_columns<D>();
    constexpr size_t TILES = tile_bytes<F, D>(tile_shape, 2);
    // 1. the block's keys begin at `key`, this warp's at `first`; dk and dv of the columns from `part` on
    const int T = shape.T, HS = shape.HS, heads = shape.B * shape.NKV;
    const int b = blockIdx.x % heads / shape.NKV, h = blockIdx.x % shape.NKV, part = blockIdx.x / heads % (D / COLUMNS) * COLUMNS;
    const int key = blockIdx.x / heads / (D / COLUMNS) * ROWS, row = threadIdx.x / WARP * 16 * M, first = key + row;
    const size_t width = shape.width(), C = (size_t)shape.NH * HS, token = (size_t)b * T;
    const size_t k = token * width + (size_t)(shape.NH + h) * HS, v = k + (size_t)shape.NKV * HS;
    const int* start = starts ? starts + token : nullptr;
    // 2. keys, values, and the first tile of queries that see them; query heads one after another
    const int end = start ? end_of_document(start, min(key + ROWS, T) - 1, T) : T;
    const int steps = (end - key + QUERIES - 1) / QUERIES * shape.group();
    const auto statistics = [](int buffer) { return (float*)(dynamic_shared() + TILES) + 3 * buffer * QUERIES; };
    const auto queries = [](int buffer) { return tile_at<F, D>(2 * ROWS + 2 * buffer * QUERIES); };
    const auto douts = [](int buffer) { return tile_at<F, D>(2 * ROWS + (2 * buffer + 1) * QUERIES); };
    const auto after = [&](int query) { return query + QUERIES < end ? query + QUERIES : key; };  // behind the last one the next head's first
    int head = h * shape.group(), next = key;  // of the tile that is fetched next
    const auto fetch_queries = [&](int buffer) {
        const int query = next;
        const F *q = qkv + (token + query) * width + (size_t)head * HS, *dy = dout + (token + query) * C + (size_t)head * HS;
        async_copy_tile<QUERIES, THREADS>(queries(buffer), q, width, T - query, HS);
        async_copy_tile<QUERIES, THREADS>(douts(buffer), dy, C, T - query, HS);
        if (const int i = threadIdx.x; i < QUERIES) {  // of the padding q, dout, lse and delta are zero: P is 1, and what it adds is 0
            const int t = min(query + i, T - 1), bytes = query + i < T ? 4 : 0;
            const size_t at = ((size_t)b * shape.NH + head) * T + t;
            cp_async_4(statistics(buffer) + i, lse + at, bytes);
            cp_async_4(statistics(buffer) + QUERIES + i, delta + at, bytes);
            cp_async_4(statistics(buffer) + 2 * QUERIES + i, start ? (const void*)(start + t) : lse, start ? 4 : 0);
        }
        cp_async_commit_group();
        next = after(query), head += next == key;
    };
    async_copy_tile<ROWS, THREADS>(tile_at<F, D>(0), qkv + k + key * width, width, T - key, HS);
    async_copy_tile<ROWS, THREADS>(tile_at<F, D>(ROWS), qkv + v + key * width, width, T - key, HS);
    fetch_queries(0);

    Accumulator<M, COLUMNS> dk{}, dv{};
    for (int step = 0, query = key, buffer = 0; step < steps; step++, query = after(query), buffer ^= 1) {
        cp_async_wait_group<0>();
        __syncthreads();  // sync: every thread's copies of this tile have arrived, and no thread still reads the buffer that the next tile overwrites
        if (step + 1 < steps) fetch_queries(buffer ^ 1);
        const float *lse_t = statistics(buffer), *delta_t = lse_t + QUERIES;
        const int* document = (const int*)(delta_t + QUERIES);
        if (query + QUERIES <= first || document[0] >= first + 16 * M) continue;  // none of them sees this warp's keys
        // 3. S^T and dP^T, keys by queries
        Accumulator<M, QUERIES> p{}, ds{};
        multiply_transposed(p, tile_at<F, D>(0), row, queries(buffer));
        multiply_transposed(ds, tile_at<F, D>(ROWS), row, douts(buffer));
        if (query < first + 16 * M - 1 || document[QUERIES - 1] > first)
            p.each([&](int m, int n, int i) {
                const int u = first + p.row(m, i), t = p.column(n, i);
                if ((u > query + t) | (u < document[t])) p.x[m][n][i] = -INFINITY;
            });
        // 4. P^T, dS^T, dV += P^T dout, dK += dS^T Q
        p.each([&](int m, int n, int i) {
            const int t = p.column(n, i);
            p.x[m][n][i] = ex2_approx(fmaf(p.x[m][n][i], scale * LOG2E, -lse_t[t] * LOG2E));
            ds.x[m][n][i] = p.x[m][n][i] * (ds.x[m][n][i] - delta_t[t]);
        });
        multiply(dv, p, douts(buffer), part);
        multiply(dk, ds, queries(buffer), part);
    }
    dk.scale(scale);
    store(dqkv + k + first * width, width, T - first, HS, dk, tile_at<F, D>(0), row, part);
    store(dqkv + v + first * width, width, T - first, HS, dv, tile_at<F, D>(ROWS), row, part);
}
}  // namespace attention_detail
