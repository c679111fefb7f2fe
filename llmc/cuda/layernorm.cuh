// layernorm.cuh: layer normalisation (Ba, Kiros, Hinton 2016), and the residual addition before it. RMSNorm (Zhang, Sennrich 2019), which Llama has,
// is the same with a mean of 0 and without a bias: where `mean` is null. Kernels know it at compile time (RMS). Without weights they are 1.
#pragma once
#include <cstddef>
#include "../layers/arguments.h"
#include "column_sums.cuh"
#include "device.cuh"

namespace layernorm_detail {
constexpr int MAX_C = 16384;  // a row of fp32 is then 64 KB of shared memory, which every GPU from sm_80 on has

template <int SIZE, class F> __device__ inline void load_weights(float (&w)[SIZE], const F* weight, int c) {
    for (int i = 0; i < SIZE; i++) w[i] = 1;
    if (weight) load_floats(w, weight + c);
}

// ---- forward: a warp a row; the row is kept in shared memory, where each lane reads only what it wrote itself, so no barrier is needed

template <class F, bool RESIDUAL, bool RMS>
__global__ void forward_kernel(F* residual,      // (N, C) written if RESIDUAL
                               F* out,           // (N, C)
                               float* mean,      // (N) null if RMS
                               float* rstd,      // (N)
                               const F* inp1,    // (N, C)
                               const F* inp2,    // (N, C) if RESIDUAL
                               const F* weight,  // (C) or null: 1
                               const F* bias,    // (C) or null
                               size_t N, int C, float eps) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const size_t n = (size_t)blockIdx.x * (blockDim.x / WARP) + warp;
    if (n >= N) return;
    F* row = (F*)dynamic_shared() + (size_t)warp * C;
    // 1. mean; RMSNorm has the sum of squares instead
    float sum = 0;
    for (int c = lane * SIZE; c < C; c += WARP * SIZE) {
        float x[SIZE];
        load_floats(x, inp1 + n * C + c);
        if constexpr (RESIDUAL) {
            float y[SIZE];
            load_floats<ONCE>(y, inp2 + n * C + c);
            for (int i = 0; i < SIZE; i++) x[i] = to_float(from_float<F>(x[i] + y[i]));  // rounded, as the backward will read it
            store_floats(residual + n * C + c, x);
        }
        store_floats(row + c, x);
        for (int i = 0; i < SIZE; i++) sum += RMS ? x[i] * x[i] : x[i];
    }
    const float total = warp_sum(sum), m = RMS ? 0 : total / (float)C;
    // 2. rstd
    float squares = 0;
    for (int c = RMS ? C : lane * SIZE; c < C; c += WARP * SIZE) {
        float x[SIZE];
        load_floats(x, row + c);
        for (int i = 0; i < SIZE; i++) squares += (x[i] - m) * (x[i] - m);
    }
    const float s = 1.0f / sqrtf((RMS ? total : warp_sum(squares)) / (float)C + eps);
    // 3. scale and shift
    for (int c = lane * SIZE; c < C; c += WARP * SIZE) {
        float x[SIZE], w[SIZE], b[SIZE] = {};
        load_floats(x, row + c);
        load_weights(w, weight, c);
        if (bias) load_floats(b, bias + c);
        for (int i = 0; i < SIZE; i++) x[i] = (x[i] - m) * s * w[i] + b[i];
        store_floats(out + n * C + c, x);
    }
    if (!RMS && lane == 0) mean[n] = m;
    if (lane == 0) rstd[n] = s;
}

template <class F, bool RESIDUAL>
void forward(F* residual, F* out, float* mean, float* rstd, const F* inp1, const F* inp2, const F* weight, const F* bias, size_t N,
             int C, float eps, stream_t stream) {
    CHECK(C % 8 == 0 && C <= MAX_C, "layernorm: %d channels, must be a multiple of 8 up to %d", C, MAX_C);
    const size_t row = (size_t)C * sizeof(F);
    const size_t warps = row <= 8192 ? 4 : 1;  // 6 KB a block for GPT-2 124M; never more than 64 KB
    launch(mean ? forward_kernel<F, RESIDUAL, false> : forward_kernel<F, RESIDUAL, true>, {(unsigned)ceil_div(N, warps), (unsigned)(warps * WARP), warps * row},
           stream, residual, out, mean, rstd, inp1, inp2, weight, bias, N, C, eps);
}

template <class F> __global__ void add_kernel(F* out, const F* inp1, const F* inp2, size_t n) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t begin = thread_index() * SIZE;
    if (begin + SIZE <= n) {
        float x[SIZE], y[SIZE];
        load_floats(x, inp1 + begin);
        load_floats(y, inp2 + begin);
        for (int i = 0; i < SIZE; i++) x[i] += y[i];
        store_floats(out + begin, x);
    } else {
        for (size_t i = begin; i < n; i++) out[i] = from_float<F>(to_float(inp1[i]) + to_float(inp2[i]));
    }
}

// ---- backward: a thread owns columns, and a block loops over rows, so that dweight and dbias accumulate in registers.
// The blocks' partial sums go to the workspace, and a second kernel adds them in a fixed order.

constexpr int COLUMNS = 8;        // neighbouring columns: 16 bytes of bf16
constexpr int MAX_THREADS = 512;  // of a block; beyond 4096 columns each owns several groups
constexpr int ROWS = 2;           // that a block reduces together: twice the loads in flight, half the barriers

// A thread for each group of columns, in whole warps.
constexpr int threads_of(int C) {
    const int threads = (C / COLUMNS + WARP - 1) / WARP * WARP;
    return threads < MAX_THREADS ? threads : MAX_THREADS;
}
// About 8 on each SM of an H100 (of 96 threads for C = 768, all running at once), or 4 of more threads: enough loads in
// flight for its memory, and the partial sums, 6 MB, stay in L2. Independent of the GPU, so that results are bitwise identical on every one.
constexpr int max_blocks(int C) { return C <= 1024 ? 1024 : 512; }

// Sums over the block of each of K numbers.
template <int K> __device__ inline void block_sums(float (&x)[K]) {
    __shared__ float sums[K][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    for (int i = 0; i < K; i++) x[i] = warp_sum(x[i]);
    if (lane == 0) for (int i = 0; i < K; i++) sums[i][warp] = x[i];
    __syncthreads();  // sync: every warp reads the sums of all warps
    for (int i = 0; i < K; i++) x[i] = warp_sum(lane < warps ? sums[i][lane] : 0.0f);
    __syncthreads();  // sync: the next rows overwrite `sums`
}

// GROUPS: of columns that a thread owns, blockDim.x * COLUMNS columns apart. RMSNorm has no mean(dn) and no dbias: a sum a row, and half the partial sums.
template <class F, int GROUPS, bool RMS>
__global__ void __launch_bounds__(MAX_THREADS)
backward_kernel(F* dinp, float* partials /* (gridDim.x, RMS ? 1 : 2, C) */, const F* dout, const F* inp, const float* mean,
                                const float* rstd, const F* weight, size_t N, int C, bool add_to_dinp) {
    pdl_wait();
    constexpr int SUMS = RMS ? 1 : 2;  // of a row: of dn, and of dn * n
    const int first = threadIdx.x * COLUMNS, step = blockDim.x * COLUMNS;
    float dw[GROUPS][COLUMNS] = {}, db[GROUPS][COLUMNS] = {};
    for (size_t begin = (size_t)blockIdx.x * ROWS; begin < N; begin += (size_t)gridDim.x * ROWS) {
        // 1. the two means of each row, and what its columns add to dweight and dbias
        float sums[SUMS * ROWS] = {};
        for (int r = 0; r < ROWS; r++) {
            const size_t n = begin + r;
            if (n >= N) break;
            const float m = RMS ? 0 : mean[n], s = rstd[n];
            for (int k = 0; k < GROUPS; k++) {
                const int c = first + k * step;
                if (c >= C) break;
                float d[COLUMNS], x[COLUMNS], w[COLUMNS];
                load_floats(d, dout + n * C + c);
                load_floats(x, inp + n * C + c);
                load_weights(w, weight, c);
                for (int i = 0; i < COLUMNS; i++) {
                    const float normed = (x[i] - m) * s, dn = d[i] * w[i];
                    dw[k][i] += d[i] * normed, db[k][i] += d[i];
                    if (!RMS) sums[SUMS * r] += dn;
                    sums[SUMS * r + SUMS - 1] += dn * normed;
                }
            }
        }
        block_sums(sums);
        // 2. dinp; the rows are read again, from L1
        for (int r = 0; r < ROWS; r++) {
            const size_t n = begin + r;
            if (n >= N) break;
            const float m = RMS ? 0 : mean[n], s = rstd[n], mean_dn = RMS ? 0 : sums[SUMS * r] / (float)C, mean_dn_n = sums[SUMS * r + SUMS - 1] / (float)C;
            for (int k = 0; k < GROUPS; k++) {
                const int c = first + k * step;
                if (c >= C) break;
                float d[COLUMNS], x[COLUMNS], w[COLUMNS], old[COLUMNS] = {};
                load_floats(d, dout + n * C + c);
                load_floats(x, inp + n * C + c);
                load_weights(w, weight, c);
                if (add_to_dinp) load_floats(old, dinp + n * C + c);
                for (int i = 0; i < COLUMNS; i++)
                    x[i] = old[i] + (d[i] * w[i] - mean_dn - (x[i] - m) * s * mean_dn_n) * s;
                store_floats(dinp + n * C + c, x);
            }
        }
    }
    // 3. this block's partial sums
    for (int k = 0; weight && k < GROUPS; k++) {
        const int c = first + k * step;
        if (c >= C) break;
        float* part = partials + (size_t)blockIdx.x * SUMS * C + c;
        store_floats(part, dw[k]);
        if (!RMS) store_floats(part + C, db[k]);
    }
}
}  // namespace layernorm_detail

// Workspace of the backward, in bytes.
inline size_t layernorm_workspace(int C) { return (size_t)layernorm_detail::max_blocks(C) * 2 * (size_t)C * sizeof(float); }

// out = (inp - mean) * rstd * weight + bias
template <class F>
void layernorm_forward(F* out,           // (N, C)
                       float* mean,      // (N) or null: RMSNorm
                       float* rstd,      // (N) 1 / sqrt(variance + eps)
                       const F* inp,     // (N, C)
                       const F* weight,  // (C) or null: 1
                       const F* bias,    // (C) or null
                       size_t N, int C, float eps, stream_t stream) {
    layernorm_detail::forward<F, false>(nullptr, out, mean, rstd, inp, nullptr, weight, bias, N, C, eps, stream);
}

// residual = inp1 + inp2,  out = layernorm(residual).  Bitwise identical to the two functions one after the other: the row
// is rounded to F before its mean is taken.  residual may be inp1 or inp2.
template <class F>
void residual_layernorm_forward(F* residual,      // (N, C)
                                F* out,           // (N, C)
                                float* mean,      // (N) or null: RMSNorm
                                float* rstd,      // (N)
                                const F* inp1,    // (N, C)
                                const F* inp2,    // (N, C)
                                const F* weight,  // (C) or null: 1
                                const F* bias,    // (C) or null
                                size_t N, int C, float eps, stream_t stream) {
    layernorm_detail::forward<F, true>(residual, out, mean, rstd, inp1, inp2, weight, bias, N, C, eps, stream);
}

// out = inp1 + inp2;  out may be inp1 or inp2
template <class F>
void residual_forward(F* out, const F* inp1, const F* inp2, size_t n, stream_t stream) {
    launch(layernorm_detail::add_kernel<F>, over(ceil_div(n, Pack<F>::SIZE), 256), stream, out, inp1, inp2, n);
}

// dinp = or +=   dweight = or +=   dbias = or +=
//   dx = rstd * (dn - mean(dn) - n * mean(dn * n)),  dn = dout * weight,  n = (inp - mean) * rstd
//   dweight = sum over rows of dout * n,  dbias = sum over rows of dout;  of RMSNorm mean and mean(dn) are 0
// dinp may be dout or inp.
template <class F>
void layernorm_backward(F* dinp,            // (N, C)
                        float* dweight,     // (C) or null, as weight
                        float* dbias,       // (C) or null
                        const F* dout,      // (N, C)
                        const F* inp,       // (N, C)
                        const float* mean,  // (N) or null: RMSNorm
                        const float* rstd,  // (N)
                        const F* weight,    // (C) or null: 1
                        size_t N, int C, LayernormBackward how, stream_t stream) {
    using namespace layernorm_detail;
    CHECK(C % 8 == 0 && C <= MAX_C, "layernorm: %d channels, must be a multiple of 8 up to %d", C, MAX_C);
    CHECK(stream.workspace_bytes >= layernorm_workspace(C), "layernorm: %zu bytes of workspace, must be %zu", stream.workspace_bytes,
          layernorm_workspace(C));
    CHECK(mean || !dbias, "layernorm: a bias, but no mean: RMSNorm has none");
    CHECK(weight || (!dweight && !dbias), "layernorm: gradients of weights or biases, but no weights");
    float* partials = (float*)stream.workspace;
    const size_t most = (size_t)max_blocks(C), blocks = ceil_div(N, ROWS) < most ? ceil_div(N, ROWS) : most;
    auto run = [&](auto kernel) {
        launch(kernel, {(unsigned)blocks, (unsigned)threads_of(C)}, stream, dinp, partials, dout, inp, mean, rstd, weight, N, C,
               how.add_to_dinp);
    };
    constexpr int MOST = MAX_C / (MAX_THREADS * COLUMNS);
    if (C <= MAX_THREADS * COLUMNS) run(mean ? backward_kernel<F, 1, false> : backward_kernel<F, 1, true>);
    else run(mean ? backward_kernel<F, MOST, false> : backward_kernel<F, MOST, true>);
    if (dweight) column_sums_detail::reduce_partials({{dweight, dbias}}, partials, (int)blocks, mean ? 2 * C : C, C, how.accumulate, stream);
}
