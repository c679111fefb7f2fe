// matmul_plans.cuh: plans for cuBLASLt: the descriptors of a matrix product, made once a shape, and its algorithm. Autotuning measures in the
// warm-up which of the algorithms that the heuristic proposes is the fastest, and keeps it in the autotune cache, so that the next run starts
// sooner and is bitwise identical. (cuBLAS library manual, "Using the cuBLASLt API")
#pragma once
#include <cublasLt.h>
#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>
#include "autotune_cache.cuh"
#include "device.cuh"

namespace matmul_detail {
constexpr size_t LIBRARY_WORKSPACE = (size_t)32 << 20;  // as NVIDIA advises for Hopper (manual, cublasSetWorkspace)

#define CUBLAS_CHECK(call, shape) do { cublasStatus_t status_ = (call); CHECK(status_ == CUBLAS_STATUS_SUCCESS, \
    "%.*s: %s: a product of %s", (int)strcspn(#call, "("), #call, cublasLtGetStatusName(status_), (shape).text().c_str()); } while (0)

template <class X> constexpr cudaDataType_t cuda_type() { return sizeof(X) == 2 ? CUDA_R_16BF : CUDA_R_32F; }

// D (m, n) = op(A) op(B), sums over k, with m, n, k as in cuBLASLt's manual; the key of a plan.
struct GemmShape {
    size_t m, n, k;
    bool transpose_a, transpose_b;
    cudaDataType_t inputs, output;
    cublasLtEpilogue_t epilogue;
    bool tf32;
    size_t alignment;  // bytes to which all pointers are aligned, the epilogue's too
    auto operator<=>(const GemmShape&) const = default;
    std::string text() const {
        return format("(%zu, %zu) x (%zu, %zu), %s to %s, epilogue %d, alignment %zu", m, k, k, n, inputs == CUDA_R_16BF ? "bf16" : "fp32",
                      output == CUDA_R_16BF ? "bf16" : "fp32", (int)epilogue, alignment);
    }
};

// 64 opaque bytes that identify an algorithm of cuBLASLt; they may be stored in a file. A type of its own, as nvcc requires in a std::vector.
struct Algorithm : cublasLtMatmulAlgo_t {};

// A plan of a shape, made once.
struct GemmPlan {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    std::vector<Algorithm> algorithms;  // the first one is used; empty: cuBLASLt has none with the epilogue, or the epilogue is slower than a kernel of its own
    bool from_file = false;             // the algorithm is from the autotune cache, or was given
    bool compared = false;              // the epilogue's time with that of a kernel of its own
    GemmPlan() = default;
    GemmPlan(const GemmPlan&) = delete;
    ~GemmPlan() {
        for (auto layout : {a, b, d}) if (layout) cublasLtMatrixLayoutDestroy(layout);
        if (product) cublasLtMatmulDescDestroy(product);
    }
};

inline cublasLtHandle_t handle() {
    static cublasLtHandle_t h = [] {
        cublasLtHandle_t made;
        cublasStatus_t status = cublasLtCreate(&made);
        CHECK(status == CUBLAS_STATUS_SUCCESS, "cublasLtCreate: %s", cublasLtGetStatusName(status));
        return made;
    }();
    return h;
}

template <class X> void set(const GemmPlan& plan, cublasLtMatmulDescAttributes_t name, X value, const GemmShape& shape) {
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan.product, name, &value, sizeof value), shape);
}
template <class X> void prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name, X value, const GemmShape& shape) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value), shape);
}

// A line of the autotune cache: the shape, and the algorithm's bytes or "none": the epilogue is not worth it.
inline bool parse_choice(const std::string& line, GemmShape& s, std::optional<Algorithm>& chosen) {
    int transpose_a, transpose_b, inputs, output, epilogue, tf32, hex = 0;
    const int read = sscanf(line.c_str(), "%zu %zu %zu %d %d %d %d %d %d %zu %n", &s.m, &s.n, &s.k, &transpose_a, &transpose_b, &inputs, &output, &epilogue, &tf32, &s.alignment, &hex);
    if (read != 10) return false;
    s.transpose_a = transpose_a, s.transpose_b = transpose_b, s.inputs = (cudaDataType_t)inputs, s.output = (cudaDataType_t)output;
    s.epilogue = (cublasLtEpilogue_t)epilogue, s.tf32 = tf32;
    const std::string bytes = line.substr((size_t)hex);
    if (bytes == "none") return true;
    Algorithm algorithm;
    if (bytes.size() != 2 * sizeof algorithm) return false;
    size_t i = 0;
    for (unsigned byte; i < sizeof algorithm && sscanf(bytes.c_str() + 2 * i, "%2x", &byte) == 1; i++) ((unsigned char*)&algorithm)[i] = (unsigned char)byte;
    chosen = algorithm;
    return i == sizeof algorithm;
}
inline std::string print_choice(const GemmShape& s, const std::optional<Algorithm>& algorithm) {
    std::string text = format("%zu %zu %zu %d %d %d %d %d %d %zu ", s.m, s.n, s.k, s.transpose_a, s.transpose_b, (int)s.inputs, (int)s.output, (int)s.epilogue, s.tf32, s.alignment);
    if (!algorithm) return text + "none";
    for (size_t i = 0; i < sizeof *algorithm; i++) text += format("%02x", ((const unsigned char*)&*algorithm)[i]);
    return text;
}
// No algorithm: the epilogue is not worth it.
inline AutotuneCache<GemmShape, std::optional<Algorithm>>& autotune_cache() {
    static AutotuneCache<GemmShape, std::optional<Algorithm>> cache({"cublaslt", cublasLtGetVersion, parse_choice, print_choice});
    return cache;
}

constexpr int CANDIDATES = 8;  // by the heuristic's estimate, the fastest first

// The algorithms that the heuristic proposes among the deterministic ones, which are bitwise identical each time: no split-K, or its partial sums
// are added in fp32, in the workspace, in a fixed order (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE).
inline std::vector<Algorithm> propose_algorithms(const GemmPlan& plan, const GemmShape& shape) {
    cublasLtMatmulHeuristicResult_t results[CANDIDATES];
    cublasLtMatmulPreference_t preference;
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference), shape);
    prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, LIBRARY_WORKSPACE, shape);
    prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, shape);
    for (auto name : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                      CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        prefer(preference, name, (uint32_t)shape.alignment, shape);
    int found = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle(), plan.product, plan.a, plan.b, plan.d, plan.d, preference, CANDIDATES, results, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    const bool refused = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
    CHECK(refused || status == CUBLAS_STATUS_SUCCESS, "cublasLtMatmulAlgoGetHeuristic: %s: a product of %s", cublasLtGetStatusName(status),
          shape.text().c_str());
    std::vector<Algorithm> algorithms;
    for (int i = 0; i < found && !refused; i++) if (results[i].state == CUBLAS_STATUS_SUCCESS) algorithms.push_back({results[i].algo});
    return algorithms;
}

// From the autotune cache: the one algorithm, if the library still accepts it, or none, if the epilogue was not worth it. Else the heuristic's.
inline void find_algorithms(GemmPlan& plan, const GemmShape& shape) {
    const std::optional<Algorithm>* known = autotune_cache().find(shape);
    cublasLtMatmulHeuristicResult_t result;
    if (known && *known && (cublasLtMatmulAlgoCheck(handle(), plan.product, plan.a, plan.b, plan.d, plan.d, &**known, &result) != CUBLAS_STATUS_SUCCESS || result.workspaceSize > LIBRARY_WORKSPACE))
        autotune_cache().refuse(shape), known = nullptr;
    plan.from_file = plan.compared = known;
    if (!known) plan.algorithms = propose_algorithms(plan, shape);
    else if (*known) plan.algorithms = {**known};
}

// Replaces an algorithm from the autotune cache, which was refused, by the heuristic's.
inline void propose_again(GemmPlan& plan, const GemmShape& shape) {
    if (plan.from_file) autotune_cache().refuse(shape), plan.algorithms = propose_algorithms(plan, shape), plan.from_file = false;
}

// cuBLASLt rejected the arguments, and nothing was computed.
inline bool is_refusal(cublasStatus_t s) { return s == CUBLAS_STATUS_INVALID_VALUE || s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_ARCH_MISMATCH; }
inline void say_refused(cublasStatus_t status, const GemmShape& shape, const std::string& instead) {
    fprintf(stderr, "cublasLtMatmul: %s: a product of %s: %s\n", cublasLtGetStatusName(status), shape.text().c_str(), instead.c_str());
}

inline bool has_bias(cublasLtEpilogue_t e) { return e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || e == CUBLASLT_EPILOGUE_BGRADB; }
inline bool has_aux(cublasLtEpilogue_t e) { return e == CUBLASLT_EPILOGUE_GELU_AUX || e == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || e == CUBLASLT_EPILOGUE_DGELU; }

inline std::map<GemmShape, GemmPlan>& plans() { static std::map<GemmShape, GemmPlan> all; return all; }

inline GemmPlan& plan_for(const GemmShape& shape) {
    auto [at, fresh] = plans().try_emplace(shape);
    GemmPlan& plan = at->second;
    if (!fresh) return plan;
    const GemmShape& s = shape;
    const cublasComputeType_t compute = s.inputs == CUDA_R_32F && s.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&plan.product, compute, CUDA_R_32F), s);
    set(plan, CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, s);
    set(plan, CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, s);
    set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, s.epilogue, s);
    // each call sets its own pointers; from these the heuristic takes the alignment (cublasLt.h, the attributes' comments). A bias
    // pointer without a bias in the epilogue is CUBLAS_STATUS_INVALID_VALUE.
    if (has_bias(s.epilogue)) {
        set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void*)s.alignment, s);
        set(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, s.output, s);
    }
    if (has_aux(s.epilogue)) {
        set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, (const void*)s.alignment, s);
        set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, (int64_t)s.m, s);
    }
    auto layout = [&](cublasLtMatrixLayout_t* l, cudaDataType_t type, size_t rows, size_t cols) {
        CUBLAS_CHECK(cublasLtMatrixLayoutCreate(l, type, rows, cols, (int64_t)rows), s);
    };
    s.transpose_a ? layout(&plan.a, s.inputs, s.k, s.m) : layout(&plan.a, s.inputs, s.m, s.k);
    s.transpose_b ? layout(&plan.b, s.inputs, s.n, s.k) : layout(&plan.b, s.inputs, s.k, s.n);
    layout(&plan.d, s.output, s.m, s.n);
    find_algorithms(plan, s);
    return plan;
}

inline void store_choice(const GemmPlan& plan, const GemmShape& shape) {
    autotune_cache().store(shape, plan.algorithms.empty() ? std::nullopt : std::optional(plan.algorithms[0]));
}

// Autotunes: keeps the fastest of a plan's algorithms. run(algorithm) multiplies and may overwrite its operands. The algorithms are measured
// in turns, so that a change of the GPU's clock affects all of them; the fastest turn counts. Kernels are loaded by now.
template <class Run> void autotune(GemmPlan& plan, const GemmShape& shape, Run run, stream_t stream) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<float> ms(plan.algorithms.size(), INFINITY);
    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < ms.size(); i++) ms[i] = fminf(ms[i], fastest_ms(1, stream, [&] { run(plan.algorithms[i]); }));
    plan.algorithms = {plan.algorithms[(size_t)(std::min_element(ms.begin(), ms.end()) - ms.begin())]};
    store_choice(plan, shape);
    autotune_cache().seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace matmul_detail
