// matmul_plans.cuh: what cuBLASLt must be told of a product, made once a shape, and which of its algorithms multiplies it: the
// fastest of those that it proposes, measured when a run begins and kept in a file, so that the next run begins sooner and has
// the same bits. (cuBLAS library manual, "Using the cuBLASLt API")
#pragma once
#include <cublasLt.h>
#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>
#include "../io/files.h"
#include "device.cuh"

namespace matmul_detail {
constexpr size_t LIBRARY_WORKSPACE = (size_t)32 << 20;  // as NVIDIA advises for Hopper (manual, cublasSetWorkspace)

#define CUBLAS_CHECK(call, shape) do { cublasStatus_t status_ = (call); CHECK(status_ == CUBLAS_STATUS_SUCCESS, \
    "%.*s: %s: a product of %s", (int)strcspn(#call, "("), #call, cublasLtGetStatusName(status_), (shape).text().c_str()); } while (0)

template <class X> constexpr cudaDataType_t cuda_type() { return sizeof(X) == 2 ? CUDA_R_16BF : CUDA_R_32F; }

// D (m, n) = op(A) op(B), sums over k, as cuBLASLt counts; every difference that makes another plan.
struct Shape {
    size_t m, n, k;
    bool transpose_a, transpose_b;
    cudaDataType_t inputs, output;
    cublasLtEpilogue_t epilogue;
    bool tf32;
    size_t alignment;  // bytes, of all pointers, the epilogue's too
    auto operator<=>(const Shape&) const = default;
    std::string text() const {
        return format("(%zu, %zu) x (%zu, %zu), %s to %s, epilogue %d, alignment %zu", m, k, k, n, inputs == CUDA_R_16BF ? "bf16" : "fp32",
                      output == CUDA_R_16BF ? "bf16" : "fp32", (int)epilogue, alignment);
    }
};

// 64 bytes that name one of the library's ways to multiply; they may be kept in a file. With a name, as nvcc's vectors want it.
struct Algorithm : cublasLtMatmulAlgo_t {};

// What a shape needs, made once.
struct Plan {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    std::vector<Algorithm> algorithms;  // the first one is used; none: cuBLASLt has none for the epilogue, or it is slower than doing without
    bool from_file = false;             // they are what another run chose
    bool compared = false;              // with doing without the epilogue
    Plan() = default;
    Plan(const Plan&) = delete;
    ~Plan() {
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

template <class X> void set(const Plan& plan, cublasLtMatmulDescAttributes_t name, X value, const Shape& shape) {
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(plan.product, name, &value, sizeof value), shape);
}
template <class X> void prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name, X value, const Shape& shape) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value), shape);
}

// What was measured: in this run, or in the one that wrote the file. No algorithm: the epilogue is not worth it.
struct AutotuneCache {
    std::map<Shape, std::optional<Algorithm>> known;
    int measured = 0;        // in this run
    double seconds = 0;
    bool kept = false;
};
inline AutotuneCache& autotune_cache() { static AutotuneCache c; return c; }

constexpr int CANDIDATES = 8;  // what cuBLASLt thinks fast comes first

// The algorithms that the library proposes among those that give bitwise identical results each time: parts of a sum over k are added in fp32,
// in the workspace, in their order, or there are none.
inline std::vector<Algorithm> propose_algorithms(const Plan& plan, const Shape& shape) {
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

// What another run chose, alone, if the library still takes it, or nothing, if that run did without the epilogue; else what it proposes.
inline void find_algorithms(Plan& plan, const Shape& shape) {
    const auto at = autotune_cache().known.find(shape);
    cublasLtMatmulHeuristicResult_t result;
    plan.from_file = at != autotune_cache().known.end() && (!at->second ||
        (cublasLtMatmulAlgoCheck(handle(), plan.product, plan.a, plan.b, plan.d, plan.d, &*at->second, &result) == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= LIBRARY_WORKSPACE));
    plan.compared = plan.from_file;
    if (!plan.from_file) plan.algorithms = propose_algorithms(plan, shape);
    else if (at->second) plan.algorithms = {*at->second};
}

// Of a plan whose only algorithm another run chose: what the library proposes here and now.
inline void propose_again(Plan& plan, const Shape& shape) {
    if (plan.from_file) plan.algorithms = propose_algorithms(plan, shape), plan.from_file = false;
}

// The call's arguments were looked at, and nothing was done.
inline bool is_refusal(cublasStatus_t s) { return s == CUBLAS_STATUS_INVALID_VALUE || s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_ARCH_MISMATCH; }
inline void say_refused(cublasStatus_t status, const Shape& shape, const std::string& instead) {
    fprintf(stderr, "cublasLtMatmul: %s: a product of %s: %s\n", cublasLtGetStatusName(status), shape.text().c_str(), instead.c_str());
}

inline bool has_bias(cublasLtEpilogue_t e) { return e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || e == CUBLASLT_EPILOGUE_BGRADB; }
inline bool has_aux(cublasLtEpilogue_t e) { return e == CUBLASLT_EPILOGUE_GELU_AUX || e == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || e == CUBLASLT_EPILOGUE_DGELU; }

inline std::map<Shape, Plan>& plans() { static std::map<Shape, Plan> all; return all; }

inline Plan& plan_for(const Shape& shape) {
    auto [at, fresh] = plans().try_emplace(shape);
    Plan& plan = at->second;
    if (!fresh) return plan;
    const Shape& s = shape;
    const cublasComputeType_t compute = s.inputs == CUDA_R_32F && s.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&plan.product, compute, CUDA_R_32F), s);
    set(plan, CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, s);
    set(plan, CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, s);
    set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, s.epilogue, s);
    // each call sets its own pointers; from these the heuristic reads how they are aligned (cublasLt.h, the attributes' comments). A bias
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

inline void store_choice(const Plan& plan, const Shape& shape) {
    autotune_cache().known[shape] = plan.algorithms.empty() ? std::nullopt : std::optional(plan.algorithms[0]);
    autotune_cache().measured++;
}

// Leaves a plan the fastest of its algorithms: run(algorithm) multiplies, whatever that does to the operands. All take turns, so that a
// clock that rises or falls meets all of them. The fastest turn counts; kernels are loaded by now.
template <class Run> void autotune(Plan& plan, const Shape& shape, Run run, stream_t stream) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<float> ms(plan.algorithms.size(), INFINITY);
    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < ms.size(); i++) ms[i] = fminf(ms[i], fastest_ms(1, stream, [&] { run(plan.algorithms[i]); }));
    plan.algorithms = {plan.algorithms[(size_t)(std::min_element(ms.begin(), ms.end()) - ms.begin())]};
    store_choice(plan, shape);
    autotune_cache().seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// ---- the autotune cache's file: of one GPU and one version of the library, a line a shape ----------------------------------------

inline std::string autotune_cache_path(const std::string& folder) { return folder + "/cublaslt-" + gpu_and_version(cublasLtGetVersion()) + ".txt"; }

// A line that cannot be read is as if it were not there: its shape is measured again.
inline void load_autotune_cache(const std::string& folder) {
    if (!folder.empty()) for_each_line(autotune_cache_path(folder), [](const std::string& line) {
        Shape s;
        int transpose_a, transpose_b, inputs, output, epilogue, tf32, hex = 0;
        const int read = sscanf(line.c_str(), "%zu %zu %zu %d %d %d %d %d %d %zu %n", &s.m, &s.n, &s.k, &transpose_a, &transpose_b, &inputs, &output, &epilogue, &tf32, &s.alignment, &hex);
        if (read != 10) return;
        s.transpose_a = transpose_a, s.transpose_b = transpose_b, s.inputs = (cudaDataType_t)inputs, s.output = (cudaDataType_t)output;
        s.epilogue = (cublasLtEpilogue_t)epilogue, s.tf32 = tf32;
        const std::string chosen = line.substr((size_t)hex);
        if (chosen == "none") autotune_cache().known.emplace(s, std::nullopt);
        Algorithm algorithm;
        if (chosen.size() != 2 * sizeof algorithm) return;
        size_t i = 0;
        for (unsigned byte; i < sizeof algorithm && sscanf(chosen.c_str() + 2 * i, "%2x", &byte) == 1; i++) ((unsigned char*)&algorithm)[i] = (unsigned char)byte;
        if (i == sizeof algorithm) autotune_cache().known.emplace(s, algorithm);
    });
}

// With what other runs have added meanwhile; of those that chose at the same time one wins. A folder that cannot be written is none.
inline void save_autotune_cache(const std::string& folder) {
    if (folder.empty() || !autotune_cache().measured) return;
    load_autotune_cache(folder);
    std::string text;
    for (const auto& [s, algorithm] : autotune_cache().known) {
        text += format("%zu %zu %zu %d %d %d %d %d %d %zu ", s.m, s.n, s.k, s.transpose_a, s.transpose_b, (int)s.inputs, (int)s.output, (int)s.epilogue, s.tf32, s.alignment);
        if (!algorithm) text += "none";
        else for (size_t i = 0; i < sizeof *algorithm; i++) text += format("%02x", ((const unsigned char*)&*algorithm)[i]);
        text += '\n';
    }
    make_folders(folder);
    write_file_atomically(autotune_cache_path(folder), text);
    autotune_cache().kept = true;
}
}  // namespace matmul_detail
