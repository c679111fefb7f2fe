// column_sums.cuh: the sum of each column, a reduction in two kernels whose order of additions is the same on every GPU: blocks compute partial
// sums of some rows each, and the second kernel adds the partial sums. dbias is such a sum; LayerNorm's dweight and dbias use the second kernel.
#pragma once
#include "device.cuh"

namespace column_sums_detail {
// to[i][c] = or +=  the sum of the partial sums. 32 columns a block; each warp adds every 16th partial sum, then the first warp adds the warps'.
struct Destinations { float* to[2]; };  // null: not stored
constexpr int REDUCE_WARPS = 16;
template <class Partial>  // float; a template, as several files include this one
__global__ void __launch_bounds__(WARP * REDUCE_WARPS) reduce_partials_kernel(Destinations destinations, const Partial* partials,  // (n_partials, width)
                                                                        int n_partials, int width, int n /* columns of each */, bool accumulate) {
    pdl_wait();
    __shared__ float sums[REDUCE_WARPS][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, c = blockIdx.x * WARP + lane;
    float sum = 0;
    if (c < width) {
        #pragma unroll 8  // 8 loads in flight: 64 partial sums a warp are 8 waits for memory
        for (int p = warp; p < n_partials; p += REDUCE_WARPS) sum += partials[(size_t)p * width + c];
    }
    sums[warp][lane] = sum;
    __syncthreads();  // sync: the first warp reads the sums of all warps
    if (warp > 0 || c >= width) return;
    sum = 0;
    for (int w = 0; w < REDUCE_WARPS; w++) sum += sums[w][lane];
    if (float* to = destinations.to[c / n]) to[c % n] = (accumulate ? to[c % n] : 0) + sum;
}

inline void reduce_partials(Destinations destinations, const float* partials, int n_partials, int width, int n, bool accumulate, stream_t stream) {
    launch(reduce_partials_kernel<float>, {(unsigned)ceil_div((size_t)width, WARP), WARP * REDUCE_WARPS}, stream, destinations, partials, n_partials, width, n, accumulate);
}

// A warp takes a row of 256 columns, 8 a lane: 16 bytes of bf16. The sums of eight warps are added in shared memory: 8 KB.
constexpr int COLUMNS = 8, BLOCK_COLUMNS = WARP * COLUMNS, WARPS = 8;
template <class F>
__global__ void __launch_bounds__(WARP * WARPS) partial_sums_kernel(float* partials /* (gridDim.y, n) */, const F* x /* (N, n) */, size_t N, int n, size_t rows) {
    pdl_wait();
    alignas(16) __shared__ float sums[WARPS][BLOCK_COLUMNS];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, c = blockIdx.x * BLOCK_COLUMNS + lane * COLUMNS;
    const size_t begin = blockIdx.y * rows, end = begin + rows < N ? begin + rows : N;
    float sum[COLUMNS] = {};
    if (c < n) {
        #pragma unroll 4
        for (size_t r = begin + warp; r < end; r += WARPS) {
            float v[COLUMNS];
            load_floats(v, x + r * n + c);
            for (int i = 0; i < COLUMNS; i++) sum[i] += v[i];
        }
    }
    store_floats(&sums[warp][lane * COLUMNS], sum);
    __syncthreads();  // sync: from here on a thread reads a column of all warps
    const int column = blockIdx.x * BLOCK_COLUMNS + threadIdx.x;
    float total = 0;
    for (int w = 0; w < WARPS; w++) total += sums[w][threadIdx.x];
    if (column < n) partials[(size_t)blockIdx.y * n + column] = total;
}
static_assert(WARP * WARPS == BLOCK_COLUMNS);

constexpr size_t MAX_BLOCKS = 1024;  // 8 on each SM of an H100: enough loads in flight for its memory
}  // namespace column_sums_detail

// Bytes that sum_columns needs for its partial sums of n columns or fewer, for any number of rows.
inline size_t column_sums_workspace(int n) {
    using namespace column_sums_detail;
    return (MAX_BLOCKS * BLOCK_COLUMNS + (size_t)n) * sizeof(float);
}

// to[c] = or +=  sum over r of x[r][c];  n is a multiple of 8
template <class F>
void sum_columns(float* to,       // (n)
                 const F* x,      // (N, n)
                 float* partials,    // (column_sums_workspace())
                 size_t N, int n, bool accumulate, stream_t stream) {
    using namespace column_sums_detail;
    CHECK(n % COLUMNS == 0, "a sum over rows of %d columns, must be a multiple of %d", n, COLUMNS);
    const size_t across = ceil_div(n, BLOCK_COLUMNS), most = MAX_BLOCKS / across + 1;
    const size_t rows = ceil_div(ceil_div(N, most), WARPS) * WARPS, down = ceil_div(N, rows);
    launch(partial_sums_kernel<F>, {{(unsigned)across, (unsigned)down}, WARP * WARPS}, stream, partials, x, N, n, rows);
    reduce_partials({{to, nullptr}}, partials, (int)down, n, n, accumulate, stream);
}
