// cublaslt_rules.h: which products cuBLASLt's stand-in refuses: what the library refuses before it looks at a device, in its order and with its
// status (asked of 12.4 to 13.10: test_cublaslt.cpp puts the same calls to the library that is installed), and beyond it what the manual
// forbids ("cublasLtMatmul()", "cublasLtMatmulDescAttributes_t", "cublasLtEpilogue_t") or nobody here wants: the slower ways that it has for
// rows that are not aligned.
#pragma once
#include <string>
#include "cublaslt_products.h"

namespace emu {
// In this file's words, why the last product was refused.
inline std::string& cublaslt_why() { static std::string why; return why; }
inline cublasStatus_t refuse_product(cublasStatus_t status, const char* why) { cublaslt_why() = why; return status; }
#define REFUSE_IF(condition, status, why) do { if (condition) return refuse_product(CUBLAS_STATUS_##status, why); } while (0)

// What the heuristic and cublasLtMatmul both look at: types, shapes, and how the epilogue's attributes go together.
inline cublasStatus_t check_problem(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    // 1. types: sums in fp32, TF32 of fp32 only
    REFUSE_IF(p.compute == CUBLAS_COMPUTE_16F || a.type == CUDA_R_64F || d.type == CUDA_R_64F, NOT_SUPPORTED, "a combination of types that there is no product for");
    REFUSE_IF(p.scale != CUDA_R_32F, INVALID_VALUE, "the scale type is not the one of these types");
    REFUSE_IF(a.type != b.type, INVALID_VALUE, "A and B are of different types");
    REFUSE_IF(c.type != d.type, INVALID_VALUE, "C and D are of different types");
    REFUSE_IF(d.type != CUDA_R_32F && d.type != a.type, NOT_SUPPORTED, "a combination of types that there is no product for");
    REFUSE_IF(p.compute != CUBLAS_COMPUTE_32F && a.type != CUDA_R_32F, NOT_SUPPORTED, "a faster compute type is for fp32 inputs");
    REFUSE_IF(p.compute != CUBLAS_COMPUTE_32F && p.compute != CUBLAS_COMPUTE_32F_FAST_TF32, NOT_SUPPORTED, "a compute type that this stand-in does not know");
    REFUSE_IF(p.bias_type >= 0 && p.bias_type != (int)d.type, INVALID_VALUE, "the bias's type is not the output's, whether or not there is a bias");
    REFUSE_IF(p.aux_type >= 0 && p.aux_type != (int)d.type, INVALID_VALUE, "the type of AUX is not the output's");
    // 2. shapes
    const uint64_t m = p.transpose_a ? a.cols : a.rows, k = p.transpose_a ? a.rows : a.cols, n = p.transpose_b ? b.rows : b.cols;
    REFUSE_IF(c.rows != d.rows || c.cols != d.cols, INVALID_VALUE, "C and D have different shapes");
    REFUSE_IF(d.rows != m || d.cols != n || (p.transpose_b ? b.cols : b.rows) != k, INVALID_VALUE, "the shapes of A, B and D do not go together");
    for (const Layout* l : {&a, &b, &c, &d}) {
        REFUSE_IF(l->ld < (int64_t)l->rows, INVALID_VALUE, "a leading dimension is less than the rows");
        REFUSE_IF(l->rows == 0 || l->cols == 0, NOT_SUPPORTED, "a matrix without elements");
        REFUSE_IF(l->order != CUBLASLT_ORDER_COL || l->batch != 1, NOT_SUPPORTED, "this stand-in has one matrix, by columns");
        REFUSE_IF(size_of(l->type) * (size_t)l->ld % 16, NOT_SUPPORTED, "columns that are not aligned to 16 bytes");
    }
    // 3. the epilogue
    switch (p.epilogue) {
        case CUBLASLT_EPILOGUE_DEFAULT: case CUBLASLT_EPILOGUE_RELU: case CUBLASLT_EPILOGUE_BIAS: case CUBLASLT_EPILOGUE_RELU_BIAS: case CUBLASLT_EPILOGUE_GELU:
        case CUBLASLT_EPILOGUE_GELU_BIAS: case CUBLASLT_EPILOGUE_GELU_AUX: case CUBLASLT_EPILOGUE_GELU_AUX_BIAS: case CUBLASLT_EPILOGUE_DGELU:
        case CUBLASLT_EPILOGUE_DGELU_BGRAD: case CUBLASLT_EPILOGUE_BGRADA: case CUBLASLT_EPILOGUE_BGRADB: break;
        default: return refuse_product(CUBLAS_STATUS_NOT_SUPPORTED, "no such epilogue");
    }
    REFUSE_IF(only_plain_epilogues() && !is_plain(p), NOT_SUPPORTED, "on request");
    REFUSE_IF(p.epilogue == CUBLASLT_EPILOGUE_BGRADB && !p.transpose_b, NOT_SUPPORTED, "BGRADB, and B is not transposed");
    REFUSE_IF(p.epilogue == CUBLASLT_EPILOGUE_BGRADA && p.transpose_a, NOT_SUPPORTED, "BGRADA, and A is transposed");
    REFUSE_IF(has_aux(p) && p.aux_ld < (int64_t)d.rows, INVALID_VALUE, "the leading dimension of AUX is less than the rows");
    REFUSE_IF(has_aux(p) && p.aux_ld % 8, INVALID_VALUE, "the leading dimension of AUX is not a multiple of 8");
    REFUSE_IF(has_bias(p) && (size_t)p.bias % size_of(d.type), INVALID_VALUE, "the bias is not aligned to its elements");
    return CUBLAS_STATUS_SUCCESS;
}

// What a call has besides.
struct Operands { const void *alpha, *beta, *a, *b, *c, *d, *workspace; size_t workspace_bytes; };
inline cublasStatus_t check_call(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d, const Operands& o) {
    REFUSE_IF(!o.alpha || !o.beta, INVALID_VALUE, "alpha or beta is null");
    REFUSE_IF(o.c == o.d && (c.type != d.type || c.rows != d.rows || c.cols != d.cols || c.ld != d.ld || c.order != d.order || c.batch != d.batch || c.stride != d.stride), INVALID_VALUE,
              "C is D, and their layouts differ");
    REFUSE_IF(p.bias && !has_bias(p), INVALID_VALUE, "a bias pointer, but no bias in the epilogue");
    REFUSE_IF(!p.bias && has_bias(p), INVALID_VALUE, "the epilogue wants a bias pointer");
    REFUSE_IF(!p.aux && has(p.epilogue, BIT_GELU) && has_aux(p), NOT_SUPPORTED, "the epilogue wants an AUX pointer");
    REFUSE_IF(!p.aux && has_aux(p), INVALID_VALUE, "the epilogue wants an AUX pointer");
    if (const cublasStatus_t s = check_problem(p, a, b, c, d); s != CUBLAS_STATUS_SUCCESS) return s;
    REFUSE_IF(!o.a || !o.b || !o.d || (!o.c && *(const float*)o.beta != 0), INVALID_VALUE, "a matrix is null");
    REFUSE_IF((size_t)o.workspace % 256, INVALID_VALUE, "the workspace is not aligned to 256 bytes");
    REFUSE_IF(!o.workspace && o.workspace_bytes, INVALID_VALUE, "the workspace is null and has a size");
    return CUBLAS_STATUS_SUCCESS;
}
#undef REFUSE_IF
}  // namespace emu
