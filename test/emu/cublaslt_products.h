// cublaslt_products.h: what cuBLASLt's stand-in multiplies: products of matrices by columns, with fp32 sums and the epilogues of a linear
// layer, in plain loops.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
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
    CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE = 22, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26 };
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
    int bias_type = -1, aux_type = -1;  // the output's
};
struct Layout { cudaDataType_t type; uint64_t rows, cols; int64_t ld; int32_t order = CUBLASLT_ORDER_COL, batch = 1; int64_t stride = 0; };
struct Preference { size_t workspace = 0; uint32_t alignment[4] = {256, 256, 256, 256}, reductions = CUBLASLT_REDUCTION_SCHEME_MASK; };

inline bool& only_plain_epilogues() { static bool only = false; return only; }  // for tests of what is done without
inline double& epilogue_cost() { static double ms = 0; return ms; }             // what a product with any other takes longer
// Of the two algorithms the one that this machine is quicker by (EMU_FASTEST), in ticks: 1, or 3.
inline uint32_t fastest_algorithm() { static const uint32_t ticks = getenv("EMU_FASTEST") ? (uint32_t)atoi(getenv("EMU_FASTEST")) : 1; return ticks; }
inline int& proposals() { static int n = 2; return n; }                          // how many algorithms the heuristic knows of
inline unsigned& refused_algorithms() { static unsigned bits = 0; return bits; }  // by their places: proposed, and refused when they are called
inline bool& refused_epilogues() { static bool all = false; return all; }        // proposed, and refused when they are called
inline bool& arguments_only() { static bool only = false; return only; }         // calls are looked at, and nothing is multiplied
inline size_t size_of(int type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }
// n numbers of a matrix, `stride` apart: the type is asked for once, as that takes longer than a product.
inline void read(float* out, const void* p, int type, size_t at, size_t stride, size_t n) {
    if (type == CUDA_R_32F) for (size_t i = 0; i < n; i++) out[i] = ((const float*)p)[at + i * stride];
    else if (type == CUDA_R_16BF) for (size_t i = 0; i < n; i++) out[i] = std::bit_cast<float>((uint32_t)((const __nv_bfloat16*)p)[at + i * stride].bits << 16);
    else for (size_t i = 0; i < n; i++) out[i] = (float)((const __half*)p)[at + i * stride];
}
inline void write(void* p, int type, size_t at, const float* x, size_t n) {
    if (type == CUDA_R_32F) memcpy((float*)p + at, x, n * sizeof(float));
    else if (type == CUDA_R_16BF) for (size_t i = 0; i < n; i++) ((__nv_bfloat16*)p)[at + i] = x[i];
    else for (size_t i = 0; i < n; i++) ((__half*)p)[at + i] = x[i];
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
    uint32_t reductions, ticks;  // of the emulated clock that it takes, and where its sums begin
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

inline bool is_plain(const Product& p) { return p.epilogue == CUBLASLT_EPILOGUE_DEFAULT || p.epilogue == CUBLASLT_EPILOGUE_BIAS; }
inline bool has_bias(const Product& p) { return has(p.epilogue, BIT_BIAS | BIT_BGRAD | BIT_BGRADA | BIT_BGRADB); }
inline bool has_aux(const Product& p) { return has(p.epilogue, BIT_AUX | BIT_DGELU); }
inline size_t bias_bytes(const Product& p, const Layout& d) { return (has(p.epilogue, BIT_BGRADB) ? d.cols : d.rows) * size_of(d.type); }
inline size_t bytes_of(const Layout& l) { return (size_t)(l.ld * (int64_t)(l.cols - 1) + (int64_t)l.rows) * size_of(l.type); }
inline size_t aux_bytes(const Product& p, const Layout& d) { return ((size_t)p.aux_ld * (d.cols - 1) + d.rows) * size_of(d.type); }

// Its accesses are not looked at: that would take ten times as long. LANES rows of the result side by side; a sum is LANES sums, of each LANES-th product.
__attribute__((no_sanitize("thread")))
inline void run_product(const Product& p, float alpha, const void* a, Layout la, const void* b, Layout lb, float beta, const void* c, Layout lc, void* d, Layout ld, uint32_t first = 0) {
    constexpr size_t LANES = 16;
    typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
    const size_t m = ld.rows, n = ld.cols, k = p.transpose_a ? la.rows : la.cols, padded = (k + LANES - 1) / LANES * LANES, groups = (m + LANES - 1) / LANES;
    // in fp32: of a the LANES rows of a group, l by l; of b columns; behind k zeros, which leave a sum as it is
    std::vector<float> of_a(groups * padded * LANES), of_b(n * padded);
    float *const rows = of_a.data(), *const cols = of_b.data();
    for (size_t i = 0; i < m; i += LANES) for (size_t l = 0; l < k; l++)
        read(rows + i * padded + l * LANES, a, la.type, p.transpose_a ? i * (size_t)la.ld + l : l * (size_t)la.ld + i, p.transpose_a ? (size_t)la.ld : 1, std::min(LANES, m - i));
    for (size_t j = 0; j < n; j++) read(cols + j * padded, b, lb.type, p.transpose_b ? j : j * (size_t)lb.ld, p.transpose_b ? (size_t)lb.ld : 1, k);
    const int bias_type = p.bias_type >= 0 ? p.bias_type : ld.type;
    if (has(p.epilogue, BIT_BGRADA)) for (size_t i = 0; i < m; i++) {
        float s = 0;
        for (size_t l = 0; l < k; l++) s += rows[i / LANES * LANES * padded + l * LANES + i % LANES];
        write(p.bias, bias_type, i, &s, 1);
    }
    if (has(p.epilogue, BIT_BGRADB)) for (size_t j = 0; j < n; j++) {
        float s = 0;
        for (size_t l = 0; l < k; l++) s += cols[j * padded + l];
        write(p.bias, bias_type, j, &s, 1);
    }
    if (p.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && la.type == CUDA_R_32F) for (auto* x : {&of_a, &of_b}) for (float& e : *x) e = tf32(e);
    const bool biased = has(p.epilogue, BIT_BIAS), dgelu = has(p.epilogue, BIT_DGELU), aux = has(p.epilogue, BIT_AUX), gelu = has(p.epilogue, BIT_GELU), relu = has(p.epilogue, BIT_RELU), bias_gradient = has(p.epilogue, BIT_BGRAD);
    std::vector<float> gradient(m);
    for (size_t j = 0; j < n; j++) for (size_t i = 0; i < m; i += LANES) {
        const size_t some = std::min(LANES, m - i);
        Lanes sums[LANES] = {};
        const float *x = rows + i * padded, *y = cols + j * padded;
        for (size_t l = 0; l < padded; l += LANES) for (size_t v = 0; v < LANES; v++) sums[v] += *(const Lanes*)(x + (l + v) * LANES) * y[l + v];
        Lanes sum = {};
        for (size_t v = 0; v < LANES; v++) sum += sums[(first + v) % LANES];
        float out[LANES], before[LANES] = {}, bias[LANES], pre_gelu[LANES];
        if (beta != 0) read(before, c, lc.type, j * (size_t)lc.ld + i, 1, some);
        if (biased) read(bias, p.bias, bias_type, i, 1, some);
        if (dgelu) read(pre_gelu, p.aux, ld.type, j * (size_t)p.aux_ld + i, 1, some);
        for (size_t v = 0; v < some; v++) {
            float z = alpha * sum[v] + (beta != 0 ? beta * before[v] : 0);
            if (biased) z += bias[v];
            if (dgelu) z *= gelu_slope(pre_gelu[v]);
            else if (aux) pre_gelu[v] = z;
            if (gelu) z = gelu_by_tanh(z);
            if (relu) z = std::fmax(z, 0.0f);
            if (bias_gradient) gradient[i + v] += z;
            out[v] = z;
        }
        if (aux && !dgelu) write(p.aux, ld.type, j * (size_t)p.aux_ld + i, pre_gelu, some);
        write(d, ld.type, j * (size_t)ld.ld + i, out, some);
    }
    if (bias_gradient) write(p.bias, bias_type, 0, gradient.data(), m);
}
}  // namespace emu
