// muon.cuh: Muon (layers/muon.h) for all matrices of one shape at once: a kernel for the momentum, one for X, fifteen batched products, one for the weights.
//
// A product is a tile of 128 x 64 a block and a matrix a slice of the grid, by tile.cuh: which block adds up what depends on the shape alone, so that a
// matrix's bits are the same however many others there are. (cuBLASLt chooses by the batch too.) All three products are P Q^T, rows of both along k:
// A = X X^T, A A = A A^T, and B X = B (X^T)^T for which X is kept a second time, transposed. At 124M the products are 1.6 TFLOP of a step's 450 and more.
#pragma once
#include "../layers/muon.h"
#include "../layers/step_stats.h"
#include "device.cuh"
#include "tile.cuh"

namespace muon_detail {
constexpr int THREADS = 256, GROUP = 8;
constexpr int WARPS = 4, ROWS = 32 * WARPS, COLUMNS = 64;  // of a tile of a product; two stages of both operands are 48 KB: four blocks an SM

struct Step : Muon { float scale; int rows, cols; };
template <class F> struct Buffers { F* params; float* master; const float* grads; float* m; const MuonMatrix* matrices; double* sums; };

__device__ inline float nesterov(float g, float m, const Step& h) { return fmaf(h.momentum, m - g, g); }

// 1. momentum, and the squares of U, in double, where no finite U overflows. Of MUON_SUMS blocks a matrix
template <class F> __global__ void __launch_bounds__(THREADS) momentum_kernel(Buffers<F> b, const StepStats* step_stats, Step h) {
    pdl_wait();
    if (step_stats->skip) return;
    const MuonMatrix at = b.matrices[blockIdx.y];
    double sum = 0;
    for (size_t i = thread_index() * GROUP; i < (size_t)h.rows * h.cols; i += MUON_SUMS * THREADS * GROUP) {
        float g[GROUP], m[GROUP];
        load_floats<ONCE>(g, b.grads + at.grad + i);
        load_floats(m, b.m + at.state + i);
        for (int k = 0; k < GROUP; k++) {
            g[k] *= step_stats->scale;
            m[k] = fmaf(1 - h.momentum, g[k] - m[k], m[k]);
            const double u = (double)nesterov(g[k], m[k], h);
            sum += u * u;
        }
        store_floats(b.m + at.state + i, m);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) b.sums[blockIdx.y * MUON_SUMS + blockIdx.x] = sum;
}

// 2. X, wide, and X^T
template <class F> __global__ void __launch_bounds__(THREADS) normalize_kernel(Buffers<F> b, F* wide, F* long_, const StepStats* step_stats, Step h) {
    pdl_wait();
    if (step_stats->skip) return;
    const double square = block_sum(threadIdx.x < MUON_SUMS ? b.sums[blockIdx.y * MUON_SUMS + threadIdx.x] : 0.0);
    const float by = (float)(1 / (MUON_SAFETY * sqrt(square) + MUON_EPS));
    const MuonMatrix at = b.matrices[blockIdx.y];
    const size_t size = (size_t)h.rows * h.cols, i = thread_index();
    if (i >= size) return;
    const F x = from_float<F>(by * nesterov(b.grads[at.grad + i] * step_stats->scale, b.m[at.state + i], h));
    F *same = (h.rows > h.cols ? long_ : wide) + blockIdx.y * size, *turned = (h.rows > h.cols ? wide : long_) + blockIdx.y * size;
    same[i] = x;
    turned[i % h.cols * h.rows + i / h.cols] = x;
}

// 3. out = alpha * add + beta * (p q^T), and that transposed
template <class F> struct Product { F *out, *transposed; const F *add, *p, *q; int rows, cols, K; float alpha, beta; };
template <class F> __global__ void __launch_bounds__(WARPS * WARP) product_kernel(Product<F> x, const StepStats* step_stats) {
    pdl_wait();
    if (step_stats->skip) return;
    constexpr int D = 128 / sizeof(F);  // of k a stage
    const int first = blockIdx.y * ROWS, column = blockIdx.x * COLUMNS, row = threadIdx.x / WARP * 32;
    const F *p = x.p + ((size_t)blockIdx.z * x.rows + first) * x.K, *q = x.q + ((size_t)blockIdx.z * x.cols + column) * x.K;
    const auto tile = [](int stage, int r) { return Tile<F, D>{(F*)dynamic_shared() + (stage * (ROWS + COLUMNS) + r) * D}; };
    const auto copy = [&](int k, int stage) {
        async_copy_tile<ROWS, WARPS * WARP>(tile(stage, 0), p + k, x.K, min(ROWS, x.rows - first), x.K - k);
        async_copy_tile<COLUMNS, WARPS * WARP>(tile(stage, ROWS), q + k, x.K, min(COLUMNS, x.cols - column), x.K - k);
        cp_async_commit_group();
    };
    Accumulator<2, COLUMNS> s{};
    copy(0, 0);
    for (int k = 0, stage = 0; k < x.K; k += D, stage ^= 1) {
        cp_async_wait_group<0>();
        __syncthreads();  // sync: all have copied this stage, and have multiplied the other, which is overwritten
        if (k + D < x.K) copy(k + D, stage ^ 1);
        multiply_transposed(s, tile(stage, 0), row, tile(stage, ROWS));
    }
    const size_t matrix = (size_t)blockIdx.z * x.rows * x.cols;
    s.each([&](int m, int n, int i) {
        const size_t r = (size_t)first + row + s.row(m, i), c = (size_t)column + s.column(n, i);
        if (r >= (size_t)x.rows || c >= (size_t)x.cols) return;
        const size_t to = matrix + r * x.cols + c;
        const F y = from_float<F>(x.add ? fmaf(x.beta, s.x[m][n][i], x.alpha * to_float(x.add[to])) : x.beta * s.x[m][n][i]);
        x.out[to] = y;
        if (x.transposed) x.transposed[matrix + c * x.rows + r] = y;
    });
}

// 4. weights, of an X as they are
template <class F> __global__ void __launch_bounds__(THREADS) weights_kernel(Buffers<F> b, const F* x, StepStats* step_stats, Step h) {
    pdl_wait();
    const size_t size = (size_t)h.rows * h.cols, i = thread_index();
    if (i >= size || step_stats->skip) return;
    const MuonMatrix at = b.matrices[blockIdx.y];
    float p = b.master ? b.master[at.state + i] : to_float(b.params[at.weight + i]);
    p = fmaf(-h.lr, fmaf(h.weight_decay, p, h.scale * to_float(x[blockIdx.y * size + i])), p);
    if (b.master) b.master[at.state + i] = p;
    if constexpr (std::is_same_v<F, float>) b.params[at.weight + i] = p;
    else b.params[at.weight + i] = round_stochastic(p, rounding_bits(h.seed, h.t, at.first + i));
    if (!(0 * p == 0)) atomicMax(&step_stats->not_finite, 1);
}
}  // namespace muon_detail

// Matrices (rows, cols) of layers/muon.h's update, G = step_stats->scale * grad. The master weight is updated where there is one, else the parameter; bf16
// parameters are the result rounded stochastically.
template <class F>
void muon_update(F* params,                   // params + matrices[i].weight: (rows, cols), likewise the others
                 float* master,               // or null: the parameters are the masters
                 const float* grads,
                 float* m,
                 const MuonMatrix* matrices,  // (n) on the device
                 char* scratch,               // MuonScratch(n, rows, cols).bytes()
                 StepStats* step_stats,       // (1) on the device; the update is skipped if it says so; not_finite becomes 1 if a weight is
                 size_t n, int rows, int cols, Muon h, stream_t stream) {
    using namespace muon_detail;
    CHECK(rows % GROUP == 0 && cols % GROUP == 0, "16-byte loads");
    CHECK(n < 1 << 16, "%zu matrices of one shape: a slice of the grid each", n);
    const MuonScratch size(n, rows, cols);
    const int r = (int)size.r, c = (int)size.c;
    const size_t rc = n * size.r * size.c, rr = n * size.r * size.r;
    double* sums = (double*)scratch;
    F *wide = (F*)(sums + n * std::max(MUON_SUMS, size.c)), *turned = wide + rc, *next = turned + rc, *A = next + rc, *B = A + rr;
    const Step step{h, muon_scale(rows, cols), rows, cols};
    const Buffers<F> b{params, master, grads, m, matrices, sums};
    const Grid elements{dim3((unsigned)ceil_div((size_t)rows * cols, THREADS), (unsigned)n), THREADS};
    launch(momentum_kernel<F>, {dim3(MUON_SUMS, (unsigned)n), THREADS}, stream, b, step_stats, step);
    launch(normalize_kernel<F>, elements, stream, b, wide, turned, step_stats, step);
    const auto product = [&](const Product<F>& x) {
        launch(product_kernel<F>, {dim3((unsigned)ceil_div(x.cols, COLUMNS), (unsigned)ceil_div(x.rows, ROWS), (unsigned)n), WARPS * WARP, 2 * (ROWS + COLUMNS) * 128}, stream, x, step_stats);
    };
    for (const PolarExpress& p : POLAR_EXPRESS) {
        product({A, nullptr, nullptr, wide, wide, r, r, c, 0, 1});
        product({B, nullptr, A, A, A, r, r, r, p.b, p.c});  // A is symmetric
        product({wide, next, wide, B, turned, r, c, r, p.a, 1});
        std::swap(turned, next);
    }
    launch(weights_kernel<F>, elements, stream, b, rows > cols ? turned : wide, step_stats, step);
}
