// matmul.cuh: the three products of a linear layer, out = inp @ weight^T + bias with weight (OC, C), by cuBLASLt. What follows a
// product immediately (bias, the derivative of GELU, accumulation, the sum over rows that is the bias's gradient) is done by
// its epilogues. (cuBLAS library manual, "Using the cuBLASLt API")
//
// cuBLASLt counts its matrices by columns; one of ours, (rows, cols) by rows, is for it (cols, rows), so each product is
// written from right to left: out^T = weight inp^T.
#pragma once
#include <string>
#include "../layers.h"
#include "device.cuh"
#include "gelu_kernels.cuh"
#include "matmul_plans.cuh"

namespace matmul_detail {
// The largest power of two up to 256 that divides every pointer; 16 is the least.
inline size_t alignment_of(std::initializer_list<const void*> pointers) {
    size_t all = 256;
    for (const void* p : pointers) all |= (size_t)p;
    const size_t alignment = all & (~all + 1);
    CHECK(alignment >= 16, "matmul: a pointer is not aligned to 16 bytes");
    return alignment;
}

// d = op(a) op(b), or += with accumulate; false, and nothing happens, if cuBLASLt has no such product.
struct Extra { const void* bias = nullptr; const void* aux = nullptr; bool accumulate = false; };
template <class In, class Out>
bool multiply(Out* d, const In* a, const In* b, size_t m, size_t n, size_t k, bool transpose_a, bool transpose_b, cublasLtEpilogue_t epilogue,
              Extra extra, stream_t stream) {
    const Shape shape{m, n, k, transpose_a, transpose_b, cuda_type<In>(), cuda_type<Out>(), epilogue, stream.tf32, alignment_of({a, b, d, extra.bias, extra.aux})};
    Plan& plan = plan_for(shape);
    if (plan.algorithms.empty()) {
        CHECK(epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_BIAS, "cuBLASLt has no algorithm for a product of %s", shape.text().c_str());
        return false;
    }
    CHECK(stream.workspace_bytes >= LIBRARY_WORKSPACE, "matmul: %zu bytes of workspace, must be %zu or more", stream.workspace_bytes, LIBRARY_WORKSPACE);
    if (extra.bias) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, extra.bias, shape);
    if (extra.aux) set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, extra.aux, shape);
    const float alpha = 1, beta = extra.accumulate ? 1 : 0;
    auto run = [&](const Algorithm& algorithm) {
        CUBLAS_CHECK(cublasLtMatmul(handle(), plan.product, &alpha, a, plan.a, b, plan.b, &beta, d, plan.d, d, plan.d, &algorithm, stream.workspace,
                                    LIBRARY_WORKSPACE, stream), shape);
    };
    if (stream.tuning && plan.algorithms.size() > 1) keep_fastest(plan, shape, run, stream);
    run(plan.algorithms[0]);
    return true;
}

// ---- where there is no epilogue for the bias's gradient: sums over rows -------------------------------------------------

// A warp sums 32 columns over a part of the rows, the block's warps a part each; then the first adds the parts in their order.
constexpr int SUMMING_WARPS = 32;
template <class F>
__global__ void __launch_bounds__(WARP * SUMMING_WARPS) sum_rows_kernel(float* dbias, const F* dout, size_t N, int OC, bool accumulate) {
    __shared__ float sums[SUMMING_WARPS][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, o = blockIdx.x * WARP + lane;
    float sum = 0;
    if (o < OC) for (size_t n = warp; n < N; n += SUMMING_WARPS) sum += to_float(dout[n * OC + o]);
    sums[warp][lane] = sum;
    __syncthreads();  // the first warp reads what all have summed
    if (warp > 0 || o >= OC) return;
    sum = 0;
    for (int w = 0; w < SUMMING_WARPS; w++) sum += sums[w][lane];
    dbias[o] = (accumulate ? dbias[o] : 0) + sum;
}
__global__ void add_kernel(float* to, const float* x, int n) {
    const size_t i = thread_index();
    if (i < (size_t)n) to[i] += x[i];
}

template <class F> __global__ void fill_kernel(F* x, size_t n) {  // numbers of all sizes below 1: a GPU is slower with them than with zeros
    const size_t i = thread_index();
    if (i < n) x[i] = from_float<F>((float)((uint32_t)i * 2654435761u >> 8) * 0x1p-24f - 0.5f);
}
}  // namespace matmul_detail

// Bytes of workspace of the products of a model of width C: cuBLASLt's, and a bias's gradient.
inline size_t matmul_workspace(size_t, int C, int) { return matmul_detail::LIBRARY_WORKSPACE + 4 * (size_t)C * sizeof(float); }

// How products are made here, for the banner.
template <class F> std::string gemm_path() {
    const auto& c = matmul_detail::choices();
    std::string how = format("cuBLASLt %zu.%zu", cublasLtGetVersion() / 10000, cublasLtGetVersion() / 100 % 100);
    if (c.measured) how += format(", %d shapes measured in %.1f s", c.measured, c.seconds);
    return how;
}

// out = inp @ weight^T + bias;  with pre_gelu: pre_gelu = that,  out = gelu(pre_gelu)
// GELU follows in a kernel of its own, from the rounded pre_gelu, so that recomputing it gives the same bits; in the epilogue
// (tanh GELU too: manual, CUBLASLT_EPILOGUE_GELU) only if the stream says so.
template <class F>
void matmul_forward(F* out,             // (N, OC)
                    const F* inp,       // (N, C)
                    const F* weight,    // (OC, C)
                    const F* bias,      // (OC) or null
                    size_t N, int C, int OC, MatmulForward<F> also, stream_t stream) {
    using namespace matmul_detail;
    if (also.pre_gelu && stream.gelu_fusion) {
        const auto epilogue = bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
        if (multiply(out, weight, inp, OC, N, C, true, false, epilogue, {.bias = bias, .aux = also.pre_gelu}, stream)) return;
    }
    F* to = also.pre_gelu ? also.pre_gelu : out;
    multiply(to, weight, inp, OC, N, C, true, false, bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT, {.bias = bias}, stream);
    if (also.pre_gelu) gelu_detail::forward(out, also.pre_gelu, N * OC, stream);
}

// dinp (=, += if accumulate)  dout @ weight * gelu'(pre_gelu)
template <class F>
void matmul_backward_input(F* dinp,          // (N, C)
                           const F* dout,    // (N, OC)
                           const F* weight,  // (OC, C)
                           size_t N, int C, int OC, MatmulBackwardInput<F> also, stream_t stream) {
    using namespace matmul_detail;
    CHECK(!also.pre_gelu || !also.accumulate, "matmul: the gradient through GELU is not accumulated");
    const auto epilogue = also.pre_gelu ? CUBLASLT_EPILOGUE_DGELU : CUBLASLT_EPILOGUE_DEFAULT;
    if (multiply(dinp, weight, dout, C, N, OC, false, false, epilogue, {.aux = also.pre_gelu, .accumulate = also.accumulate}, stream)) return;
    multiply(dinp, weight, dout, C, N, OC, false, false, CUBLASLT_EPILOGUE_DEFAULT, {}, stream);
    gelu_detail::backward(dinp, dinp, also.pre_gelu, N * C, stream);
}

// dweight (=, += if accumulate)  dout^T @ inp,   dbias likewise  sum over rows of dout
template <class F>
void matmul_backward_weight(float* dweight,   // (OC, C)
                            float* dbias,     // (OC) or null
                            const F* dout,    // (N, OC)
                            const F* inp,     // (N, C)
                            size_t N, int C, int OC, bool accumulate, stream_t stream) {
    using namespace matmul_detail;
    if (dbias) {  // the product reads dout anyway; what it sums overwrites, so it is added afterwards
        float* sums = accumulate ? (float*)((char*)stream.workspace + LIBRARY_WORKSPACE) : dbias;
        CHECK(!accumulate || stream.workspace_bytes >= LIBRARY_WORKSPACE + (size_t)OC * sizeof(float), "matmul: %zu bytes of workspace are too few", stream.workspace_bytes);
        if (multiply(dweight, inp, dout, C, OC, N, false, true, CUBLASLT_EPILOGUE_BGRADB, {.bias = sums, .accumulate = accumulate}, stream)) {
            if (accumulate) launch(add_kernel, over(OC, 256), stream, dbias, (const float*)sums, OC);
            return;
        }
    }
    multiply(dweight, inp, dout, C, OC, N, false, true, CUBLASLT_EPILOGUE_DEFAULT, {.accumulate = accumulate}, stream);
    if (dbias) launch(sum_rows_kernel<F>, {(unsigned)ceil_div(OC, WARP), WARP * SUMMING_WARPS}, stream, dbias, dout, N, OC, accumulate);
}

// FLOP/s of one large product, the fastest of as many as fit in so many seconds (two at least); memory for it is taken and
// given back.
template <class F> double measure_peak_flops(double seconds, bool tf32 = true) {
    using namespace matmul_detail;
    const int side = device_properties().multiProcessorCount >= 16 ? 8192 : 64;  // what has fewer is no GPU to measure
    const size_t n = (size_t)side * side;
    F* memory = (F*)device_alloc(3 * n * sizeof(F));
    void* workspace = device_alloc(LIBRARY_WORKSPACE);
    stream_t stream = open_stream({.workspace = workspace, .workspace_bytes = LIBRARY_WORKSPACE, .tf32 = tf32});
    launch(fill_kernel<F>, over(2 * n, 256), stream, memory, 2 * n);
    cudaEvent_t begin = nullptr, end = nullptr;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    double best = 0, spent = 0;
    for (int i = 0; i < 3 || spent < seconds; i++) {
        record(begin, stream);
        matmul_forward(memory + 2 * n, memory, memory + n, (const F*)nullptr, side, side, side, {}, stream);
        record(end, stream);
        wait(end);
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
        spent += 1e-3 * ms;
        if (i > 0) best = std::max(best, 2e3 * (double)n * side / ms);  // the first makes the plan
    }
    CUDA_CHECK(cudaEventDestroy(begin));
    CUDA_CHECK(cudaEventDestroy(end));
    CUDA_CHECK(cudaStreamDestroy(stream));
    CUDA_CHECK(cudaFree(workspace));
    CUDA_CHECK(cudaFree(memory));
    return best;
}
