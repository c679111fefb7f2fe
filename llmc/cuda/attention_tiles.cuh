// attention_tiles.cuh: what the attention kernels share: sizes, tile shapes, masks, and the double-buffered loop over the tiles of keys and values.
#pragma once
#include "tile.cuh"

namespace attention_detail {
constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f;
constexpr int MAX_HS = 256;

// A token of qkv is NH heads of queries, NKV of keys and NKV of values, HS each; NH / NKV heads of queries share one of keys
// and values (grouped-query attention).
struct AttentionShape {
    int B, T, NH, NKV, HS;
    __host__ __device__ size_t width() const { return (size_t)(NH + 2 * NKV) * HS; }
    __host__ __device__ int group() const { return NH / NKV; }
};

// A block keeps a tile of rows() rows (queries; in the kernel of dk and dv: keys) in shared memory and loops over tiles of `columns` rows of the
// other operand, double-buffered: cp.async fills one buffer while the other is multiplied. FlashAttention's kBlockM and kBlockN. A warp has the
// accumulator fragments of 16 * m rows in registers.
struct TileShape {
    int warps, m, columns;
    constexpr int threads() const { return WARP * warps; }
    constexpr int rows() const { return 16 * m * warps; }
};
// Shared memory of `row_tiles` tiles of rows and two buffers of two tiles of columns.
template <class F, int D> constexpr size_t tile_bytes(TileShape tile_shape, int row_tiles) {
    return (size_t)(row_tiles * tile_shape.rows() + 4 * tile_shape.columns) * D * sizeof(F);
}
constexpr size_t MAX_SHARED = 99 * 1024;  // the most a block can have on sm_86, 89 and 120; 163 KB on sm_80, 227 on sm_90 and 100

// Tiles follow one another in dynamic shared memory: the tile that begins after so many rows.
template <class F, int D> __device__ inline Tile<F, D> tile_at(int rows) { return {(F*)dynamic_shared() + rows * D}; }

// Head sizes are padded to 64, 128 or 256: each kernel is instantiated for these three.
template <class Body> void for_padded(int HS, Body body) {
    if (HS <= 64) body(std::integral_constant<int, 64>{});
    else if (HS <= 128) body(std::integral_constant<int, 128>{});
    else body(std::integral_constant<int, 256>{});
}

// Each block takes one tile of rows of one head. The blocks with the most work come first, so that the tail of the launch is short.
template <class Kernel, class... A>
void launch_tiles(Kernel kernel, TileShape tile_shape, size_t heads, int T, int parts, size_t shared, stream_t stream, A... arguments) {
    const size_t blocks = heads * ceil_div(T, tile_shape.rows()) * parts;
    CHECK(blocks < (size_t)1 << 31, "attention: %zu tiles are too many for one launch", blocks);
    launch(kernel, Grid{(unsigned)blocks, (unsigned)tile_shape.threads(), shared}, stream, arguments...);
}

// The first token at or after `key` that does not see it: its document begins later, or the sequence ends. A binary search: starts never fall.
__device__ inline int end_of_document(const int* starts, int key, int T) {
    int low = key, high = T;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (starts[middle] > key) high = middle; else low = middle + 1;
    }
    return low;
}

// The queries of a block, all of one head, and of them this warp's 16 m from `first` on.
template <class F, int ROWS, int M> struct QueryTile {
    int T, HS, b, h;
    int query, row, first;  // position of the block's first query; index in the block of the warp's first; position of the warp's first
    size_t token, width;    // index of sequence b's first token; elements from one token to the next
    const F *q, *k, *v;     // of sequence b's first token
    const int* starts;      // of sequence b, or null
    int earliest, latest;   // where the documents of this warp's first and last query begin

    __device__ QueryTile(const AttentionShape& shape, const F* qkv, const int* all_starts) : T(shape.T), HS(shape.HS), width(shape.width()) {
        const int heads = shape.B * shape.NH, tile = gridDim.x / heads - 1 - blockIdx.x / heads;  // the last sees the most keys
        b = blockIdx.x % heads / shape.NH, h = blockIdx.x % shape.NH;
        query = tile * ROWS, row = threadIdx.x / WARP * 16 * M, first = query + row, token = (size_t)b * T;
        q = qkv + token * width + (size_t)h * HS;
        k = qkv + token * width + (size_t)(shape.NH + h / shape.group()) * HS, v = k + (size_t)shape.NKV * HS;
        starts = all_starts ? all_starts + token : nullptr;
        earliest = document(first), latest = document(first + 16 * M - 1);
    }
    // Where t's document begins; the padding repeats the last token.
    __device__ int document(int t) const { return starts ? starts[min(t, T - 1)] : 0; }

    // The causal mask and the document mask: scores of the keys that a query does not see become -infinity.
    template <int KEYS> __device__ void apply_mask(Accumulator<M, KEYS>& s, int key) const {
        if (key + KEYS - 1 <= first && latest <= key) return;  // nothing is masked: most tiles, away from the diagonal
        each_row<M>([&](int m, int half) {
            const int last = first + s.row(m, 2 * half) - key, begin = document(last + key) - key;
            #pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
                #pragma unroll
                for (int i = 0; i < 2; i++)
                    if (const int j = s.column(n, i); (j < begin) | (j > last)) s.x[m][n][2 * half + i] = -INFINITY;
        });
    }

    // body(key, keys, values) for each tile of keys and values of which this warp's queries see some, double-buffered by cp.async: the next tile
    // is in flight while this one is multiplied. Copies that were started before have arrived at the first call of body.
    template <int KEYS, int THREADS, int D, class Body> __device__ void for_each_kv_tile(Tile<F, D> tiles, Body body) const {
        const auto keys = [&](int buffer) { return Tile<F, D>{tiles.at + 2 * buffer * KEYS * D}; };
        const auto values = [&](int buffer) { return Tile<F, D>{tiles.at + (2 * buffer + 1) * KEYS * D}; };
        const auto fetch_keys = [&](int key, int buffer) {
            async_copy_tile<KEYS, THREADS>(keys(buffer), k + key * width, width, T - key, HS);
            async_copy_tile<KEYS, THREADS>(values(buffer), v + key * width, width, T - key, HS);
            cp_async_commit_group();
        };
        const int begin = document(query) / KEYS * KEYS, end = min(T, query + ROWS);
        fetch_keys(begin, 0);
        for (int key = begin, buffer = 0; key < end; key += KEYS, buffer ^= 1) {
            cp_async_wait_group<0>();
            __syncthreads();  // sync: every thread's copies of this tile have arrived, and no thread still reads the buffer that the next tile overwrites
            if (key + KEYS < end) fetch_keys(key + KEYS, buffer ^ 1);
            if (key < first + 16 * M && key + KEYS > earliest) body(key, keys(buffer), values(buffer));
        }
    }
};
}  // namespace attention_detail
