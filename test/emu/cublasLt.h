// cublasLt.h: a stand-in for cuBLASLt. What it multiplies is in cublaslt_products.h, what it refuses in cublaslt_rules.h; a product is
// done in the order of the stream.
#pragma once
#define CUBLAS_STAND_IN 1
#include "cublaslt_real.h"
#include "cublaslt_rules.h"

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
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE: return take(p->aux_type, 4);
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
    if (cublasStatus_t s = emu::check_problem(*p, *a, *b, *c, *d); s != CUBLAS_STATUS_SUCCESS) return s;
    if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    for (; *found < std::min(wanted, emu::proposals()); ++*found) {
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
    if (emu::check_problem(*p, *a, *b, *c, *d) != CUBLAS_STATUS_SUCCESS || algo.problem != emu::problem_of(*p, *a, *b, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    *result = {*algorithm, algo.workspace, CUBLAS_STATUS_SUCCESS, 0, {}};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t p, const void* alpha, const void* a, cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb,
                                     const void* beta, const void* c, cublasLtMatrixLayout_t lc, void* d, cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t* algorithm,
                                     void* workspace, size_t workspace_bytes, cudaStream_t stream) {
    EMU_CUBLAS_ENTER();
    const emu::Operands operands{alpha, beta, a, b, c, d, workspace, workspace_bytes};
    if (cublasStatus_t s = emu::check_call(*p, *la, *lb, *lc, *ld, operands); s != CUBLAS_STATUS_SUCCESS) return s;
    if (emu::real_cublaslt().answers())
        if (const std::string why = emu::real_cublaslt().refusal(*p, *la, *lb, *lc, *ld, operands); !why.empty()) {
            fprintf(stderr, "cuBLASLt itself refuses a product: %s\n", why.c_str());
            return CUBLAS_STATUS_INVALID_VALUE;
        }
    emu::Algorithm algo{0, 0, 0, 1, {16, 16, 16, 16, 16, 16}};  // none given: the library looks for one itself
    if (algorithm) memcpy(&algo, algorithm, sizeof algo);
    if (algorithm && algo.problem != emu::problem_of(*p, *la, *lb, *ld)) return emu::refuse_product(CUBLAS_STATUS_INVALID_VALUE, "the algorithm is one of another product");
    if (emu::refused_algorithms() >> (algo.ticks == 1) & 1 || (emu::refused_epilogues() && !emu::is_plain(*p))) return emu::refuse_product(CUBLAS_STATUS_NOT_SUPPORTED, "on request");
    if (emu::arguments_only()) return CUBLAS_STATUS_SUCCESS;
    const bool biased = emu::has_bias(*p), aux = emu::has_aux(*p);
    const void* pointers[6] = {a, b, c, d, biased ? p->bias : nullptr, aux ? p->aux : nullptr};
    for (int i = 0; i < 6; i++) if ((size_t)pointers[i] % algo.alignment[i]) return emu::refuse_product(CUBLAS_STATUS_NOT_SUPPORTED, "a pointer is less aligned than the algorithm was promised");
    if (workspace_bytes < algo.workspace) return emu::refuse_product(CUBLAS_STATUS_INVALID_VALUE, "the algorithm needs more workspace");
    auto fits = [](const void* x, size_t bytes) { return emu::copy_fits("cublasLtMatmul", x, bytes); };
    if (!fits(a, emu::bytes_of(*la)) || !fits(b, emu::bytes_of(*lb)) || !fits(c, emu::bytes_of(*lc)) || !fits(d, emu::bytes_of(*ld)) ||
        (biased && !fits(p->bias, emu::bias_bytes(*p, *ld))) || (aux && !fits(p->aux, emu::aux_bytes(*p, *ld))) || !fits(workspace, algo.workspace))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    auto overlaps = [&](const void* x, const emu::Layout& l) { return (char*)x < (char*)d + emu::bytes_of(*ld) && (char*)d < (char*)x + emu::bytes_of(l); };
    if (overlaps(a, *la) || overlaps(b, *lb)) {  // blocks of d are written while others still read
        fprintf(stderr, "emulator: cublasLtMatmul: the result lies where an operand is\n");
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    const cudaError_t enqueued = emu::enqueue(stream, "cublasLtMatmul", [tag = emu::label(), p = *p, x = *(const float*)alpha, a, la = *la, b, lb = *lb, y = *(const float*)beta, c, lc = *lc, d, ld = *ld, workspace, algo] {
        if (algo.workspace) memset(workspace, 0xff, algo.workspace);  // it is the library's now
        // parts of a sum that are added in place come as they come; the other schemes have an order
        const uint32_t first = algo.reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE ? emu::random(16) : algo.ticks;
        emu::queue().clock += 0.01 * (algo.ticks == emu::fastest_algorithm() ? 0 : 2) + (emu::is_plain(p) ? 0 : emu::epilogue_cost());
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
    return enqueued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
