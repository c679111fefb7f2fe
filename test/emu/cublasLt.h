// cublasLt.h: a stand-in for cuBLASLt: products of matrices by columns, with fp32 sums and the epilogues of a linear layer. What
// the library refuses is refused here as far as its manual says. Its plain loops run in the order of the stream.
#pragma once
#define CUBLAS_STAND_IN 1
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>
#include "cuda_bf16.h"
#include "cuda_fp16.h"

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_NOT_INITIALIZED = 1, CUBLAS_STATUS_ALLOC_FAILED = 3, CUBLAS_STATUS_INVALID_VALUE = 7,
                      CUBLAS_STATUS_ARCH_MISMATCH = 8, CUBLAS_STATUS_EXECUTION_FAILED = 13, CUBLAS_STATUS_INTERNAL_ERROR = 14, CUBLAS_STATUS_NOT_SUPPORTED = 15 };
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16F = 2, CUDA_R_16BF = 14 };
using cudaDataType = cudaDataType_t;
enum cublasComputeType_t { CUBLAS_COMPUTE_16F = 64, CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_16BF = 75, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 };
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 };
enum cublasLtOrder_t { CUBLASLT_ORDER_COL = 0, CUBLASLT_ORDER_ROW = 1 };
enum cublasLtEpilogue_t {
    CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_RELU = 2, CUBLASLT_EPILOGUE_BIAS = 4, CUBLASLT_EPILOGUE_RELU_BIAS = 6, CUBLASLT_EPILOGUE_GELU = 32,
    CUBLASLT_EPILOGUE_GELU_BIAS = 36, CUBLASLT_EPILOGUE_GELU_AUX = 160, CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 164, CUBLASLT_EPILOGUE_DGELU = 192,
    CUBLASLT_EPILOGUE_DGELU_BGRAD = 208, CUBLASLT_EPILOGUE_BGRADA = 256, CUBLASLT_EPILOGUE_BGRADB = 512 };
enum cublasLtMatmulDescAttributes_t {
    CUBLASLT_MATMUL_DESC_COMPUTE_TYPE = 0, CUBLASLT_MATMUL_DESC_SCALE_TYPE = 1, CUBLASLT_MATMUL_DESC_POINTER_MODE = 2, CUBLASLT_MATMUL_DESC_TRANSA = 3,
    CUBLASLT_MATMUL_DESC_TRANSB = 4, CUBLASLT_MATMUL_DESC_TRANSC = 5, CUBLASLT_MATMUL_DESC_FILL_MODE = 6, CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
    CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12,
    CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26 };
enum cublasLtMatrixLayoutAttribute_t { CUBLASLT_MATRIX_LAYOUT_TYPE, CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_MATRIX_LAYOUT_ROWS, CUBLASLT_MATRIX_LAYOUT_COLS,
                                       CUBLASLT_MATRIX_LAYOUT_LD, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET };
enum cublasLtMatmulPreferenceAttributes_t {
    CUBLASLT_MATMUL_PREF_SEARCH_MODE = 0, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8 };
enum cublasLtReductionScheme_t { CUBLASLT_REDUCTION_SCHEME_NONE = 0, CUBLASLT_REDUCTION_SCHEME_INPLACE = 1, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2,
                                 CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE = 4, CUBLASLT_REDUCTION_SCHEME_MASK = 7 };

namespace emu {
struct Product {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void *bias = nullptr, *aux = nullptr;
    int64_t aux_ld = 0;
    int bias_type = -1;  // the output's
};
struct Layout { cudaDataType_t type; uint64_t rows, cols; int64_t ld; int32_t order = CUBLASLT_ORDER_COL, batch = 1; int64_t stride = 0; };
struct Preference { size_t workspace = 0; uint32_t alignment[4] = {256, 256, 256, 256}, reductions = CUBLASLT_REDUCTION_SCHEME_MASK; };

inline bool& only_plain_epilogues() { static bool only = false; return only; }  // for tests of what is done without
inline double& epilogue_cost() { static double ms = 0; return ms; }             // what a product with any other takes longer
inline size_t size_of(int type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }
inline float read(const void* p, int type, size_t i) {
    return type == CUDA_R_32F ? ((const float*)p)[i] : type == CUDA_R_16BF ? (float)((const __nv_bfloat16*)p)[i] : (float)((const __half*)p)[i];
}
inline void write(void* p, int type, size_t i, float x) {
    if (type == CUDA_R_32F) ((float*)p)[i] = x;
    else if (type == CUDA_R_16BF) ((__nv_bfloat16*)p)[i] = x;
    else ((__half*)p)[i] = x;
}
inline bool has(cublasLtEpilogue_t e, int bit) { return (e & bit) != 0; }
constexpr int BIT_RELU = 2, BIT_BIAS = 4, BIT_BGRAD = 16, BIT_GELU = 32, BIT_DGELU = 64, BIT_AUX = 128, BIT_BGRADA = 256, BIT_BGRADB = 512;

// As TF32 has it: 10 of 23 bits behind the point, ties away from zero (PTX: cvt.rna.tf32.f32).
inline float tf32(float x) { return std::isfinite(x) ? std::bit_cast<float>((std::bit_cast<uint32_t>(x) + 0x1000) & ~0x1fffu) : x; }
inline float gelu_by_tanh(float x) { return 0.5f * x * (1 + std::tanh(0.79788456f * (x + 0.044715f * x * x * x))); }
inline float gelu_slope(float x) {
    const float t = std::tanh(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
}

// What an algorithm remembers: for which problem it was found, and what it was promised.
struct Algorithm {
    uint64_t workspace, problem;
    uint32_t reductions, ticks;  // of the emulated clock that it takes
    uint16_t alignment[6];  // of a, b, c, d, bias, aux
};
static_assert(sizeof(Algorithm) <= 64);
inline uint64_t problem_of(const Product& p, const Layout& a, const Layout& b, const Layout& d) {
    uint64_t h = 0;
    for (uint64_t x : {(uint64_t)p.compute, (uint64_t)p.transpose_a, (uint64_t)p.transpose_b, (uint64_t)p.epilogue, (uint64_t)p.bias_type, (uint64_t)p.aux_ld,
                       (uint64_t)a.type, a.rows, a.cols, (uint64_t)a.ld, b.rows, b.cols, (uint64_t)b.ld, (uint64_t)d.type, (uint64_t)d.ld})
        h = (h ^ x) * 0x9E3779B97F4A7C15, h ^= h >> 32;
    return h;
}
// As the library reads it from the pointers that a description has when an algorithm is looked for.
inline uint16_t alignment_of(const void* p) { return (uint16_t)(1 << std::countr_zero((size_t)p | 256)); }

inline bool has_bias(const Product& p) { return has(p.epilogue, BIT_BIAS | BIT_BGRAD | BIT_BGRADA | BIT_BGRADB); }
inline bool has_aux(const Product& p) { return has(p.epilogue, BIT_AUX | BIT_DGELU); }
inline size_t bias_bytes(const Product& p, const Layout& d) { return (has(p.epilogue, BIT_BGRADB) ? d.cols : d.rows) * size_of(d.type); }
inline size_t bytes_of(const Layout& l) { return (size_t)(l.ld * (int64_t)(l.cols - 1) + (int64_t)l.rows) * size_of(l.type); }
inline size_t aux_bytes(const Product& p, const Layout& d) { return ((size_t)p.aux_ld * (d.cols - 1) + d.rows) * size_of(d.type); }

inline cublasStatus_t supported(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    if (p.scale != CUDA_R_32F || (p.compute != CUBLAS_COMPUTE_32F && p.compute != CUBLAS_COMPUTE_32F_FAST_TF32)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool types = a.type == b.type && c.type == d.type && a.type != CUDA_R_64F && (d.type == CUDA_R_32F || d.type == a.type);
    if (!types) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (const Layout* l : {&a, &b, &c, &d}) {
        if (l->order != CUBLASLT_ORDER_COL || l->batch != 1) return CUBLAS_STATUS_NOT_SUPPORTED;
        if (l->rows == 0 || l->cols == 0 || l->ld < (int64_t)l->rows) return CUBLAS_STATUS_INVALID_VALUE;
        if (size_of(l->type) * (size_t)l->ld % 16) return CUBLAS_STATUS_NOT_SUPPORTED;  // it has slower ones; nobody here wants them
    }
    const uint64_t m = p.transpose_a ? a.cols : a.rows, k = p.transpose_a ? a.rows : a.cols, n = p.transpose_b ? b.rows : b.cols;
    if (d.rows != m || d.cols != n || c.rows != m || c.cols != n || (p.transpose_b ? b.cols : b.rows) != k) return CUBLAS_STATUS_INVALID_VALUE;
    switch (p.epilogue) {
        case CUBLASLT_EPILOGUE_DEFAULT: case CUBLASLT_EPILOGUE_RELU: case CUBLASLT_EPILOGUE_BIAS: case CUBLASLT_EPILOGUE_RELU_BIAS: case CUBLASLT_EPILOGUE_GELU:
        case CUBLASLT_EPILOGUE_GELU_BIAS: case CUBLASLT_EPILOGUE_GELU_AUX: case CUBLASLT_EPILOGUE_GELU_AUX_BIAS: case CUBLASLT_EPILOGUE_DGELU:
        case CUBLASLT_EPILOGUE_DGELU_BGRAD: case CUBLASLT_EPILOGUE_BGRADA: case CUBLASLT_EPILOGUE_BGRADB: break;
        default: return CUBLAS_STATUS_INVALID_VALUE;
    }
    const bool plain = p.epilogue == CUBLASLT_EPILOGUE_DEFAULT || p.epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (only_plain_epilogues() && !plain) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!plain && has_aux(p) && (!p.aux || p.aux_ld < (int64_t)m || p.aux_ld % 8)) return CUBLAS_STATUS_INVALID_VALUE;
    if (has_bias(p) && !p.bias) return CUBLAS_STATUS_INVALID_VALUE;
    if (has_bias(p) && p.bias_type >= 0 && p.bias_type != (int)d.type) return CUBLAS_STATUS_NOT_SUPPORTED;  // fp8 alone may differ
    return CUBLAS_STATUS_SUCCESS;
}

// Its accesses are not looked at: that would take ten times as long.
__attribute__((no_sanitize("thread")))
inline void run_product(const Product& p, float alpha, const void* a, Layout la, const void* b, Layout lb, float beta, const void* c, Layout lc, void* d, Layout ld, uint32_t first = 0) {
    const size_t m = ld.rows, n = ld.cols, k = p.transpose_a ? la.rows : la.cols;
    // both as rows over k, in fp32
    std::vector<float> rows(m * k), cols(n * k);
    for (size_t i = 0; i < m; i++) for (size_t l = 0; l < k; l++) rows[i * k + l] = read(a, la.type, p.transpose_a ? i * (size_t)la.ld + l : l * (size_t)la.ld + i);
    for (size_t j = 0; j < n; j++) for (size_t l = 0; l < k; l++) cols[j * k + l] = read(b, lb.type, p.transpose_b ? l * (size_t)lb.ld + j : j * (size_t)lb.ld + l);
    const int bias_type = p.bias_type >= 0 ? p.bias_type : ld.type;
    if (has(p.epilogue, BIT_BGRADA)) for (size_t i = 0; i < m; i++) { float s = 0; for (size_t l = 0; l < k; l++) s += rows[i * k + l]; write(p.bias, bias_type, i, s); }
    if (has(p.epilogue, BIT_BGRADB)) for (size_t j = 0; j < n; j++) { float s = 0; for (size_t l = 0; l < k; l++) s += cols[j * k + l]; write(p.bias, bias_type, j, s); }
    if (p.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && la.type == CUDA_R_32F) for (auto* x : {&rows, &cols}) for (float& e : *x) e = tf32(e);
    std::vector<float> bias_gradient(m);
    for (size_t j = 0; j < n; j++) for (size_t i = 0; i < m; i++) {
        constexpr size_t LANES = 16;  // running sums: a loop that becomes vectors
        float sums[LANES] = {};
        const float *x = &rows[i * k], *y = &cols[j * k];
        size_t l = 0;
        for (; l + LANES <= k; l += LANES) for (size_t v = 0; v < LANES; v++) sums[v] += x[l + v] * y[l + v];
        for (; l < k; l++) sums[l % LANES] += x[l] * y[l];
        float sum = 0;
        for (size_t v = 0; v < LANES; v++) sum += sums[(first + v) % LANES];
        sum = alpha * sum + (beta != 0 ? beta * read(c, lc.type, j * (size_t)lc.ld + i) : 0);
        if (has(p.epilogue, BIT_BIAS)) sum += read(p.bias, bias_type, i);
        if (has(p.epilogue, BIT_DGELU)) sum *= gelu_slope(read(p.aux, ld.type, j * (size_t)p.aux_ld + i));
        else if (has(p.epilogue, BIT_AUX)) write(p.aux, ld.type, j * (size_t)p.aux_ld + i, sum);
        if (has(p.epilogue, BIT_GELU)) sum = gelu_by_tanh(sum);
        if (has(p.epilogue, BIT_RELU)) sum = std::fmax(sum, 0.0f);
        bias_gradient[i] += sum;
        write(d, ld.type, j * (size_t)ld.ld + i, sum);
    }
    if (has(p.epilogue, BIT_BGRAD)) for (size_t i = 0; i < m; i++) write(p.bias, bias_type, i, bias_gradient[i]);
}
}  // namespace emu

using cublasLtHandle_t = struct EmuCublasLt*;
using cublasLtMatmulDesc_t = emu::Product*;
using cublasLtMatrixLayout_t = emu::Layout*;
using cublasLtMatmulPreference_t = emu::Preference*;
struct cublasLtMatmulAlgo_t { uint64_t data[8]; };
struct cublasLtMatmulHeuristicResult_t { cublasLtMatmulAlgo_t algo; size_t workspaceSize; cublasStatus_t state; float wavesCount; int reserved[4]; };
struct EmuCublasLt {};

#define EMU_CUBLAS_ENTER() do { if (emu::enter(__func__) != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED; } while (0)
inline size_t cublasLtGetVersion() { return 130000; }
inline const char* cublasLtGetStatusName(cublasStatus_t s) {
    switch (s) {
        case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
        case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown";
}
inline const char* cublasLtGetStatusString(cublasStatus_t s) { return s == CUBLAS_STATUS_SUCCESS ? "success" : "an error"; }
inline cublasStatus_t cublasLtCreate(cublasLtHandle_t* h) { EMU_CUBLAS_ENTER(); *h = new EmuCublasLt; return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { delete h; return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* p, cublasComputeType_t compute, cudaDataType_t scale) {
    EMU_CUBLAS_ENTER();
    *p = new emu::Product{compute, scale};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t p) { delete p; return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t p, cublasLtMatmulDescAttributes_t name, const void* value, size_t bytes) {
    auto take = [&](auto& field, size_t size) {
        if (bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy((void*)&field, value, size);
        return CUBLAS_STATUS_SUCCESS;
    };
    switch (name) {
        case CUBLASLT_MATMUL_DESC_TRANSA: return take(p->transpose_a, 4);
        case CUBLASLT_MATMUL_DESC_TRANSB: return take(p->transpose_b, 4);
        case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(p->epilogue, 4);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(p->bias, sizeof(void*));
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(p->bias_type, 4);
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return take(p->aux, sizeof(void*));
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return take(p->aux_ld, 8);
        default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}
inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* l, cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t ld) {
    EMU_CUBLAS_ENTER();
    *l = new emu::Layout{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) { delete l; return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name, const void* value, size_t bytes) {
    if (name == CUBLASLT_MATRIX_LAYOUT_ORDER && bytes == 4) memcpy(&l->order, value, 4);
    else if (name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && bytes == 4) memcpy(&l->batch, value, 4);
    else if (name == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && bytes == 8) memcpy(&l->stride, value, 8);
    else return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* p) { EMU_CUBLAS_ENTER(); *p = new emu::Preference; return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { delete p; return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name, const void* value, size_t bytes) {
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof(size_t)) memcpy(&p->workspace, value, bytes);
    else if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK && bytes == 4) memcpy(&p->reductions, value, 4);
    else if (name >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && name <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES && bytes == 4)
        memcpy(&p->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, 4);
    else return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}
// There are two algorithms that want a workspace, the slower one first, and that add in different orders.
inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t p, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                                     cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t* results, int* found) {
    EMU_CUBLAS_ENTER();
    *found = 0;
    if (cublasStatus_t s = emu::supported(*p, *a, *b, *c, *d); s != CUBLAS_STATUS_SUCCESS) return s;
    if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    for (; *found < std::min(wanted, 2); ++*found) {
        emu::Algorithm algorithm{std::min<size_t>(preference->workspace, 4096), emu::problem_of(*p, *a, *b, *d), preference->reductions, *found == 0 ? 3u : 1u, {}};
        for (int i = 0; i < 4; i++) algorithm.alignment[i] = (uint16_t)preference->alignment[i];
        algorithm.alignment[4] = emu::alignment_of(p->bias), algorithm.alignment[5] = emu::alignment_of(p->aux);
        results[*found] = {};
        memcpy(&results[*found].algo, &algorithm, sizeof algorithm);
        results[*found].workspaceSize = algorithm.workspace;
    }
    return CUBLAS_STATUS_SUCCESS;
}
// Whether an algorithm, from wherever it comes, is one for this problem.
inline cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t p, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result) {
    EMU_CUBLAS_ENTER();
    emu::Algorithm algo;
    memcpy(&algo, algorithm, sizeof algo);
    if (emu::supported(*p, *a, *b, *c, *d) != CUBLAS_STATUS_SUCCESS || algo.problem != emu::problem_of(*p, *a, *b, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    *result = {*algorithm, algo.workspace, CUBLAS_STATUS_SUCCESS, 0, {}};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t p, const void* alpha, const void* a, cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb,
                                     const void* beta, const void* c, cublasLtMatrixLayout_t lc, void* d, cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t* algorithm,
                                     void* workspace, size_t workspace_bytes, cudaStream_t stream) {
    EMU_CUBLAS_ENTER();
    if (cublasStatus_t s = emu::supported(*p, *la, *lb, *lc, *ld); s != CUBLAS_STATUS_SUCCESS) return s;
    if (c == d && (lc->ld != ld->ld || lc->type != ld->type)) return CUBLAS_STATUS_INVALID_VALUE;
    emu::Algorithm algo{0, 0, 0, 1, {16, 16, 16, 16, 16, 16}};  // none given: the library looks for one itself
    if (algorithm) memcpy(&algo, algorithm, sizeof algo);
    if (algorithm && algo.problem != emu::problem_of(*p, *la, *lb, *ld)) return CUBLAS_STATUS_INVALID_VALUE;
    const bool biased = emu::has_bias(*p), aux = emu::has_aux(*p);
    if (!a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
    const void* pointers[6] = {a, b, c, d, biased ? p->bias : nullptr, aux ? p->aux : nullptr};
    for (int i = 0; i < 6; i++) if ((size_t)pointers[i] % algo.alignment[i]) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (workspace_bytes < algo.workspace || (size_t)workspace % 256) return CUBLAS_STATUS_INVALID_VALUE;
    auto fits = [](const void* x, size_t bytes) { return emu::copy_fits("cublasLtMatmul", x, bytes); };
    if (!fits(a, emu::bytes_of(*la)) || !fits(b, emu::bytes_of(*lb)) || !fits(c, emu::bytes_of(*lc)) || !fits(d, emu::bytes_of(*ld)) ||
        (biased && !fits(p->bias, emu::bias_bytes(*p, *ld))) || (aux && !fits(p->aux, emu::aux_bytes(*p, *ld))) || !fits(workspace, algo.workspace))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    auto overlaps = [&](const void* x, const emu::Layout& l) { return (char*)x < (char*)d + emu::bytes_of(*ld) && (char*)d < (char*)x + emu::bytes_of(l); };
    if (overlaps(a, *la) || overlaps(b, *lb)) {  // blocks of d are written while others still read
        fprintf(stderr, "emulator: cublasLtMatmul: the result lies where an operand is\n");
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    emu::enqueue(stream, "cublasLtMatmul", [tag = emu::label(), p = *p, x = *(const float*)alpha, a, la = *la, b, lb = *lb, y = *(const float*)beta, c, lc = *lc, d, ld = *ld, workspace, algo] {
        if (algo.workspace) memset(workspace, 0xff, algo.workspace);  // it is the library's now
        // parts of a sum that are added in place come as they come; the other schemes have an order
        const uint32_t first = algo.reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE ? emu::random(16) : algo.ticks;
        emu::queue().clock += 0.01 * (algo.ticks - 1) + (p.epilogue == CUBLASLT_EPILOGUE_DEFAULT || p.epilogue == CUBLASLT_EPILOGUE_BIAS ? 0 : emu::epilogue_cost());
        emu::run_product(p, x, a, la, b, lb, y, c, lc, d, ld, first);
        EMU_WATCH(written(d, emu::bytes_of(ld)));
        const bool sums = emu::has(p.epilogue, emu::BIT_BGRADA | emu::BIT_BGRADB | emu::BIT_BGRAD);
        const bool before_gelu = emu::has(p.epilogue, emu::BIT_AUX) && !emu::has(p.epilogue, emu::BIT_DGELU);
        if (sums) EMU_WATCH(written(p.bias, emu::bias_bytes(p, ld)));
        if (before_gelu) EMU_WATCH(written(p.aux, emu::aux_bytes(p, ld)));
        // as if every operand went through a cache that holds it
        const size_t of_bias = emu::has_bias(p) ? emu::bias_bytes(p, ld) : 0;
        const size_t of_aux = emu::has_aux(p) ? emu::aux_bytes(p, ld) : 0;
        const size_t read = emu::bytes_of(la) + emu::bytes_of(lb) + (y != 0 ? emu::bytes_of(lc) : 0) + (sums ? 0 : of_bias) + (before_gelu ? 0 : of_aux);
        emu::tell({emu::Event::WORK, "cublasLtMatmul", emu::once(read, emu::bytes_of(ld) + (sums ? of_bias : 0) + (before_gelu ? of_aux : 0)), tag});
    });
    return CUBLAS_STATUS_SUCCESS;
}
