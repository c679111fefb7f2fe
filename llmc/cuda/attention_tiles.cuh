// attention_tiles.cuh: what the kernels of attention share: sizes, the cutting into tiles, and what a query sees.
#pragma once
#include "tile.cuh"

namespace attention_detail {
constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f;
constexpr int MAX_HS = 256;

// A row of qkv is NH heads of queries, NKV of keys and NKV of values, HS each; NH / NKV heads of queries share one of keys.
struct Shape {
    int B, T, NH, NKV, HS;
    __host__ __device__ size_t width() const { return (size_t)(NH + 2 * NKV) * HS; }
    __host__ __device__ int group() const { return NH / NKV; }
};

// A block has its rows (queries; in the gradient of keys and values: keys) in shared memory, and a lane part of the results of
// 16 * m of them in registers; along these comes what they meet, `columns` at a time, two buffers of it so that one is filled
// while the other is multiplied.
struct Cut {
    int warps, m, columns;
    constexpr int threads() const { return WARP * warps; }
    constexpr int rows() const { return 16 * m * warps; }
};
// Shared memory of `row_tiles` tiles of rows and two buffers of two tiles of columns.
template <class F, int D> constexpr size_t tile_bytes(Cut cut, int row_tiles) {
    return (size_t)(row_tiles * cut.rows() + 4 * cut.columns) * D * sizeof(F);
}

// Head sizes are padded to 64, 128 or 256: as many kernels of a kind, and as many sizes that waste nothing.
template <class Body> void for_padded(int HS, Body body) {
    if (HS <= 64) body(std::integral_constant<int, 64>{});
    else if (HS <= 128) body(std::integral_constant<int, 128>{});
    else body(std::integral_constant<int, 256>{});
}

// Each block takes one tile of rows of one head. What has most to do comes first, so that the last to finish are short.
template <class Kernel, class... A>
void launch_tiles(Kernel kernel, Cut cut, size_t heads, int T, int parts, size_t shared, stream_t stream, A... arguments) {
    const size_t blocks = heads * ceil_div(T, cut.rows()) * parts;
    CHECK(blocks < (size_t)1 << 31, "attention: %zu tiles are too many for one launch", blocks);
    launch(kernel, Grid{(unsigned)blocks, (unsigned)cut.threads(), shared}, stream, arguments...);
}

// A row sees columns begin ... last of its scores: the others become -infinity.
template <int M, int N> __device__ inline void hide(Sums<M, N>& s, int m, int half, int begin, int last) {
    #pragma unroll
    for (int n = 0; n < N / 8; n++)
        #pragma unroll
        for (int i = 0; i < 2; i++) {
            const int column = s.column(n, i);
            if ((column < begin) | (column > last)) s.x[m][n][2 * half + i] = -INFINITY;
        }
}

// The first token at or after `key` that does not see it: its document begins later, or the row ends. Starts never fall.
__device__ inline int end_of_document(const int* starts, int key, int T) {
    int low = key, high = T;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (starts[middle] > key) high = middle; else low = middle + 1;
    }
    return low;
}
}  // namespace attention_detail
