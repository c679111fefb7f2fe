// LayerNorm in C++ and in CUDA, part by part: doc/learn/layernorm.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-layernorm` says how far it is.
//     out = (inp - mean) * rstd * weight + bias,   rstd = 1 / sqrt(variance + eps)     each row of C by itself
// inp and out are (N, C), mean and rstd (N), weight and bias (C). Everything is fp32.
#include <functional>

// ---- 1. forward in C++
void forward_cpp(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps) {
    for (int n = 0; n < N; n++) {
        const float* x = inp + n * C;
        const float m = BLANK;  // the mean of the row
        const float s = BLANK;  // from the variance: the mean of (x - m)^2 over the row
        BLANK;  // scale and shift: the row of out
        mean[n] = m, rstd[n] = s;
    }
}

// ---- 2. the check: a slope by central differences
// How fast loss() grows with x, which it depends on. The error is of the order of h^2.
double slope(const std::function<double()>& loss, double& x, double h) {
    return BLANK;  // two losses, on both sides of x; afterwards x is what it was
}

// ---- 3. backward in C++
// dinp =   dweight +=   dbias +=
void backward_cpp(float* dinp, float* dweight, float* dbias, const float* dout, const float* inp, const float* mean, const float* rstd, const float* weight, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float *x = inp + n * C, *dy = dout + n * C, m = mean[n], s = rstd[n];
        float mean_dn = 0, mean_dn_n = 0;  // of dn = dout * weight, and of dn * normed, normed = (x - m) * s
        BLANK;  // the two means over the row
        for (int c = 0; c < C; c++) {
            const float normed = (x[c] - m) * s;
            BLANK;  // dinp of this element, and what it adds to dweight and dbias
        }
    }
}

// ---- 4. CUDA, naive: a thread a row
__global__ void naive_kernel(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps) {
    const int n = BLANK;  // this thread's row; a thread behind the last row has nothing to do
    const float* x = inp + n * C;
    BLANK;  // as in part 1, and mean[n] and rstd[n]
}
void forward_naive(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps, stream_t stream) {
    const unsigned threads = 64;
    const unsigned blocks = BLANK;  // enough of them for N rows
    launch(naive_kernel, {blocks, threads}, stream, out, mean, rstd, inp, weight, bias, N, C, eps);
}

// ---- 5. CUDA, coalesced: a block a row
constexpr int THREADS = 128;
// The sum of x over the block, of THREADS threads; every thread gets it.
__device__ float sum_of_block(float x) {
    __shared__ float sums[THREADS];
    const int t = threadIdx.x;
    sums[t] = x;
    const float sum = BLANK;  // a tree: half of the numbers are added to the other half, until one is left, with a barrier between each write and another thread's read, and before the next write
    return sum;
}
__global__ void block_kernel(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int C, float eps) {
    const int n = blockIdx.x;
    const float* x = inp + n * C;
    float sum = BLANK;  // this thread's share of the row's sum: neighbouring threads read neighbouring elements
    const float m = sum_of_block(sum) / C;
    float squares = BLANK;  // and of the squares
    const float s = 1 / sqrtf(sum_of_block(squares) / C + eps);
    BLANK;  // this thread's elements of out; one thread stores mean and rstd
}
void forward_block(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps, stream_t stream) {
    launch(block_kernel, {(unsigned)N, THREADS}, stream, out, mean, rstd, inp, weight, bias, C, eps);
}

// ---- 6. CUDA, a warp a row, which it keeps
constexpr int WARPS = 4;  // rows a block
__global__ void warp_kernel(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, n = blockIdx.x * WARPS + warp;
    if (n >= N) return;  // the whole warp
    float* row = (float*)dynamic_shared() + warp * C;  // this warp's place in shared memory
    const float m = BLANK;  // the row is read from inp once, kept in row, and summed on the way; warp_sum(x) gives every lane the sum over the warp
    const float s = BLANK;  // from row: each lane reads only what it has written itself, so no barrier is needed
    BLANK;  // out, mean, rstd
}
void forward_warp(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps, stream_t stream) {
    const Grid grid = {BLANK, BLANK, BLANK};  // blocks, threads and bytes of dynamic shared memory
    launch(warp_kernel, grid, stream, out, mean, rstd, inp, weight, bias, N, C, eps);
}

// ---- 7. CUDA, 16-byte loads: four elements a lane at a time
// C is a multiple of 4. load_floats(x, p) fills float x[4] from p on, store_floats(p, x) stores it.
__global__ void pack_kernel(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, n = blockIdx.x * WARPS + warp;
    if (n >= N) return;
    float* row = (float*)dynamic_shared() + warp * C;
    const float m = BLANK;  // as in part 6, four elements at a time
    const float s = BLANK;  // as in part 6, four elements at a time
    BLANK;  // out, mean, rstd
}
void forward_pack(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps, stream_t stream) {
    launch(pack_kernel, {(unsigned)ceil_div(N, WARPS), WARPS * WARP, WARPS * (size_t)C * sizeof(float)}, stream, out, mean, rstd, inp, weight, bias, N, C, eps);
}

// ---- 8. CUDA, fused with the residual addition before it
// residual = inp1 + inp2,  out = layernorm(residual), in one kernel. C is a multiple of 4.
__global__ void fused_kernel(float* residual, float* out, float* mean, float* rstd, const float* inp1, const float* inp2, const float* weight, const float* bias, int N, int C, float eps) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, n = blockIdx.x * WARPS + warp;
    if (n >= N) return;
    float* row = (float*)dynamic_shared() + warp * C;
    const float m = BLANK;  // as in part 7, but x is a sum, which is stored, too
    BLANK;  // the rest of part 7
}
void forward_fused(float* residual, float* out, float* mean, float* rstd, const float* inp1, const float* inp2, const float* weight, const float* bias, int N, int C, float eps, stream_t stream) {
    launch(fused_kernel, {(unsigned)ceil_div(N, WARPS), WARPS * WARP, WARPS * (size_t)C * sizeof(float)}, stream, residual, out, mean, rstd, inp1, inp2, weight, bias, N, C, eps);
}

// ---- 9. CUDA, backward: partial sums instead of atomics
constexpr int MAX_GROUPS = 132;  // of rows, each with a row of partial sums; times C columns they are 135,168 threads where C is 1024, half of what an H100 holds at once
// dinp: a warp a row, as in part 6, but the row is not kept.
__global__ void dinp_kernel(float* dinp, const float* dout, const float* inp, const float* mean, const float* rstd, const float* weight, int N, int C) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, n = blockIdx.x * WARPS + warp;
    if (n >= N) return;
    const float m = mean[n], s = rstd[n];
    BLANK;  // the two means of part 3, over the warp, then dinp
}
// partials is (groups, 2, C): dweight's and dbias's sums over the rows of a group, which are every groups-th row. Blocks along x are columns, a thread one; along y they are groups: blockIdx.y of gridDim.y.
__global__ void partials_kernel(float* partials, const float* dout, const float* inp, const float* mean, const float* rstd, int N, int C) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x, group = blockIdx.y, groups = gridDim.y;
    if (c >= C) return;
    float dw = 0, db = 0;
    BLANK;  // over the rows of this group; then they are stored at their place in partials
}
// dweight += and dbias += the sums of n_partials rows. A block has ADD_WARPS warps and WARP columns, a lane each: a warp adds up its share of the rows, then the block the warps' sums.
constexpr int ADD_WARPS = 8;
__global__ void add_kernel(float* dweight, float* dbias, const float* partials, int n_partials, int C) {
    __shared__ float dws[ADD_WARPS][WARP], dbs[ADD_WARPS][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int c = BLANK;  // this thread's column; a lane behind the last one has nothing to add, but comes to the barrier
    float dw = 0, db = 0;
    BLANK;  // of the partial sums the warp takes every ADD_WARPS-th, in their order; they go to dws[warp] and dbs[warp]
    BLANK;  // the first warp adds up what all warps have, in their order, and that to dweight and dbias once
}
// partials has room for MAX_GROUPS * 2 * C
void backward_cuda(float* dinp, float* dweight, float* dbias, float* partials, const float* dout, const float* inp, const float* mean, const float* rstd, const float* weight, int N, int C, stream_t stream) {
    const unsigned groups = (unsigned)std::min(MAX_GROUPS, (int)ceil_div(N, 4));  // each of four rows or so, of more where N is large
    launch(dinp_kernel, {(unsigned)ceil_div(N, WARPS), WARPS * WARP}, stream, dinp, dout, inp, mean, rstd, weight, N, C);
    launch(partials_kernel, {dim3((unsigned)ceil_div(C, THREADS), groups), THREADS}, stream, partials, dout, inp, mean, rstd, N, C);
    launch(add_kernel, {(unsigned)ceil_div(C, WARP), ADD_WARPS * WARP}, stream, dweight, dbias, partials, (int)groups, C);
}
