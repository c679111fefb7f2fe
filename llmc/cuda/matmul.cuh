// matmul.cuh: the three products of a linear layer, out = inp @ weight^T + bias with weight (OC, C), by cuBLASLt, with fused
// epilogues: bias, the derivative of GELU, the sum over rows that is dbias. (cuBLAS library manual, "Using the cuBLASLt API")
//
// cuBLASLt's matrices are column-major. Ours are row-major: (rows, cols) is (cols, rows) for cuBLASLt, so each product is written as its
// transpose: out^T = weight inp^T.
#pragma once
#include <string>
#include "../layers/arguments.h"
#include "column_sums.cuh"
#include "device.cuh"
#include "gelu_kernels.cuh"
#include "matmul_plans.cuh"

namespace matmul_detail {
// The largest power of two up to 128 to which all pointers are aligned; at least 16. Every tensor in the arena is aligned to 128 bytes.
inline size_t alignment_of(std::initializer_list<const void*> pointers) {
    size_t all = 128;
    for (const void* p : pointers) all |= (size_t)p;
    const size_t alignment = all & (~all + 1);
    CHECK(alignment >= 16, "matmul: a pointer is not aligned to 16 bytes");
    return alignment;
}

// d = op(a) op(b), or += with accumulate, then the epilogue.
struct Extra { const void* bias = nullptr; const void* aux = nullptr; bool accumulate = false; };
template <class In, class Out> struct Gemm {
    Out* d;
    const In *a, *b;
    GemmShape shape;
    Extra extra;
    stream_t stream;
    Gemm(Out* to, const In* x, const In* y, size_t m, size_t n, size_t k, bool transpose_a, bool transpose_b, cublasLtEpilogue_t epilogue, Extra also, stream_t s)
        : d(to), a(x), b(y), shape{m, n, k, transpose_a, transpose_b, cuda_type<In>(), cuda_type<Out>(), epilogue, s.kernels.tf32, alignment_of({x, y, to, also.bias, also.aux})},
          extra(also), stream(s) {}

    cublasStatus_t run_by(const GemmPlan& plan, const Algorithm& algorithm) const {
        const float alpha = 1, beta = extra.accumulate ? 1 : 0;
        return cublasLtMatmul(handle(), plan.product, &alpha, a, plan.a, b, plan.b, &beta, d, plan.d, d, plan.d, &algorithm, stream.workspace, LIBRARY_WORKSPACE, stream);
    }
    // Multiplies by the plan's first algorithm that cuBLASLt accepts. It may refuse an algorithm that its heuristic proposed; that one is removed
    // from the plan. While the stream is autotuning, all algorithms are called, and the fastest is kept. Returns CUBLAS_STATUS_SUCCESS, or why
    // the last one was refused: then none is left, and nothing was computed.
    cublasStatus_t try_run() const {
        GemmPlan& plan = plan_for(shape);
        CHECK(stream.workspace_bytes >= LIBRARY_WORKSPACE, "matmul: %zu bytes of workspace, must be %zu or more", stream.workspace_bytes, LIBRARY_WORKSPACE);
        if (extra.bias) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, extra.bias, shape);
        if (extra.aux) set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, extra.aux, shape);
        cublasStatus_t refusal = CUBLAS_STATUS_NOT_SUPPORTED;
        size_t runs = 0, refused = 0;
        while (runs < plan.algorithms.size() && (runs == 0 || stream.autotuning)) {
            const cublasStatus_t status = run_by(plan, plan.algorithms[runs]);
            if (status == CUBLAS_STATUS_SUCCESS) { runs++; continue; }
            // a call that fails otherwise may have written something; while the stream is autotuning, that does not matter
            CHECK(stream.autotuning || is_refusal(status), "cublasLtMatmul: %s: a product of %s", cublasLtGetStatusName(status), shape.text().c_str());
            refusal = status, refused++;
            plan.algorithms.erase(plan.algorithms.begin() + (long)runs);
            if (plan.algorithms.empty()) propose_again(plan, shape);
        }
        if (runs == 0) return refusal;
        if (refused) say_refused(refusal, shape, format("%zu of its algorithms are left out", refused));
        if (runs > 1) autotune(plan, shape, [&](const Algorithm& algorithm) { return run_by(plan, algorithm); }, stream);
        if (stream.autotuning) autotune_cache().use(shape);
        return runs > 1 ? run_by(plan, plan.algorithms[0]) : CUBLAS_STATUS_SUCCESS;
    }
    void run() const {
        GemmPlan& plan = plan_for(shape);
        if (plan.algorithms.empty()) propose_again(plan, shape);
        CHECK(!plan.algorithms.empty(), "cuBLASLt has no algorithm for a product of %s", shape.text().c_str());
        const cublasStatus_t status = try_run();
        CHECK(status == CUBLAS_STATUS_SUCCESS, "cublasLtMatmul: %s: a product of %s: each algorithm that cuBLASLt proposes is refused", cublasLtGetStatusName(status), shape.text().c_str());
    }
};

// A fused epilogue is not always faster: cuBLASLt may have fewer algorithms with it, or none that it accepts. `product` and then after() compute
// the result with the epilogue, separate() without it; while the stream is autotuning, both are measured, and the faster is kept.
template <class In, class Out, class After, class Separate>
void fused_or_separate(const Gemm<In, Out>& product, After after, Separate separate) {
    GemmPlan& plan = plan_for(product.shape);
    auto fused = [&] {
        const cublasStatus_t status = product.try_run();
        if (status == CUBLAS_STATUS_SUCCESS) after();
        else say_refused(status, product.shape, "what its epilogue does is done by kernels of its own");
        return status == CUBLAS_STATUS_SUCCESS;
    };
    if (product.stream.autotuning && !plan.algorithms.empty() && !plan.compared) {
        autotune_cache().comparing = true;
        const bool runs = fused();
        separate();  // autotunes its own product
        if (runs && fastest_ms(4, product.stream, separate) < fastest_ms(4, product.stream, fused)) plan.algorithms.clear();
        plan.compared = true;
        store_choice(plan, product.shape);
        autotune_cache().comparing = false;
    }
    if (product.stream.autotuning) autotune_cache().use(product.shape);
    if (plan.algorithms.empty() || !fused()) separate();
}

template <class = void>  // a template, as several files include this one
__global__ void add_kernel(float* to, const float* x, int n) {
    pdl_wait();
    const size_t i = thread_index();
    if (i < (size_t)n) to[i] += x[i];
}
}  // namespace matmul_detail

// Bytes of workspace of products: cuBLASLt's, and behind it what the gradient of a bias of at most OC elements needs.
inline size_t matmul_workspace(int OC) { return matmul_detail::LIBRARY_WORKSPACE + column_sums_workspace(OC); }

// The library of the matrix products and what was autotuned, for the banner.
template <class F> std::string gemm_path() {
    const auto& c = matmul_detail::autotune_cache();
    std::string how = format("cuBLASLt %zu.%zu", cublasLtGetVersion() / 10000, cublasLtGetVersion() / 100 % 100);
    if (c.measured) how += format(", %d shapes measured in %.1f s", c.measured, c.seconds);
    if (c.measured && !c.stored) how += " (not saved, as there is no folder for the cache: another run may not be bitwise identical)";
    return how;
}

// out = inp @ weight^T + bias;  with pre_gelu: pre_gelu = that,  out = gelu(pre_gelu)
// GELU is a kernel of its own, from the rounded pre_gelu, so that recomputation is bitwise identical; it is in the epilogue (tanh GELU too:
// manual, CUBLASLT_EPILOGUE_GELU) only with gelu_fusion.
template <class F>
void matmul_forward(F* out,             // (N, OC)
                    const F* inp,       // (N, C)
                    const F* weight,    // (OC, C)
                    const F* bias,      // (OC) or null
                    size_t N, int C, int OC, MatmulForward<F> also, stream_t stream) {
    using namespace matmul_detail;
    F* to = also.pre_gelu ? also.pre_gelu : out;
    const Gemm plain(to, weight, inp, OC, N, C, true, false, bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT, {.bias = bias}, stream);
    if (!also.pre_gelu) return plain.run();
    auto separate = [&] { plain.run(), gelu_detail::forward(out, also.pre_gelu, N * OC, stream); };
    if (!stream.kernels.gelu_fusion) return separate();
    const Gemm fused(out, weight, inp, OC, N, C, true, false, bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX,
                        {.bias = bias, .aux = also.pre_gelu}, stream);
    fused_or_separate(fused, [] {}, separate);
}

// dinp (=, += if accumulate)  dout @ weight * gelu'(pre_gelu)
template <class F>
void matmul_backward_input(F* dinp,          // (N, C)
                           const F* dout,    // (N, OC)
                           const F* weight,  // (OC, C)
                           size_t N, int C, int OC, MatmulBackwardInput<F> also, stream_t stream) {
    using namespace matmul_detail;
    CHECK(!also.pre_gelu || !also.accumulate, "matmul: the gradient through GELU is not accumulated");
    const Gemm plain(dinp, weight, dout, C, N, OC, false, false, CUBLASLT_EPILOGUE_DEFAULT, {.accumulate = also.accumulate}, stream);
    if (!also.pre_gelu) return plain.run();
    const Gemm fused(dinp, weight, dout, C, N, OC, false, false, CUBLASLT_EPILOGUE_DGELU, {.aux = also.pre_gelu}, stream);
    fused_or_separate(fused, [] {}, [&] { plain.run(), gelu_detail::backward(dinp, dinp, also.pre_gelu, N * C, stream); });
}

// dweight (=, += if accumulate)  dout^T @ inp,   dbias likewise  sum over rows of dout
template <class F>
void matmul_backward_weight(float* dweight,   // (OC, C)
                            float* dbias,     // (OC) or null
                            const F* dout,    // (N, OC)
                            const F* inp,     // (N, C)
                            size_t N, int C, int OC, bool accumulate, stream_t stream) {
    using namespace matmul_detail;
    const Gemm plain(dweight, inp, dout, C, OC, N, false, true, CUBLASLT_EPILOGUE_DEFAULT, {.accumulate = accumulate}, stream);
    if (!dbias) return plain.run();
    CHECK(stream.workspace_bytes >= LIBRARY_WORKSPACE + column_sums_workspace(OC), "matmul: %zu bytes of workspace are too few", stream.workspace_bytes);
    float* sums = (float*)((char*)stream.workspace + LIBRARY_WORKSPACE);
    // the product reads dout anyway; its epilogue overwrites dbias, so to accumulate it goes to `sums` and is added afterwards
    const Gemm fused(dweight, inp, dout, C, OC, N, false, true, CUBLASLT_EPILOGUE_BGRADB, {.bias = accumulate ? sums : dbias, .accumulate = accumulate}, stream);
    fused_or_separate(fused, [&] { if (accumulate) launch(add_kernel<>, over(OC, 256), stream, dbias, (const float*)sums, OC); },
                      [&] { plain.run(), sum_columns(dbias, dout, sums, N, OC, accumulate, stream); });
}
