// The stand-in for cuBLASLt refuses what the library refuses: the same calls, right ones and wrong ones, are put to both. To the library only
// where one is installed (EMU_CUBLASLT, which make test-cublaslt sets).
#include <cublasLt.h>
#include <cuda_on_cpu.h>
#include "../../llmc/base/bf16.h"
#include "../test.h"

namespace {
enum StepStats { RIGHT, WRONG, WRONG_HERE };  // WRONG_HERE: by the manual, by what was promised to the heuristic, or as nobody here wants it

// D (16, 16) = A^T op(B), sums over 16. Places are in bytes from the beginning of an allocation of 1 KB.
struct Call {
    const char* name;
    StepStats verdict;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    int epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    bool transpose_a = true, transpose_b = false, bias_set = true, aux_set = true, alpha_set = true;
    int bias_type = -1, aux_type = -1;
    cudaDataType_t a_type = CUDA_R_16BF, b_type = CUDA_R_16BF, c_type = CUDA_R_16BF, d_type = CUDA_R_16BF, scale = CUDA_R_32F;
    cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
    uint64_t a_cols = 16, d_rows = 16, c_rows = 16, k = 16, k_later = 16;
    int64_t lda = 16, ldc = 16, ldd = 16, aux_ld = 16;
    int order = CUBLASLT_ORDER_COL;
    size_t a = 0, d = 0, bias = 0, aux = 0, workspace = 0, workspace_bytes = 4096;
    bool a_set = true, c_set = true, d_set = true, workspace_set = true, in_place = true, onto_a = false;
    float beta = 0;
    size_t since = 0;  // the library's version that refuses it first
};
constexpr auto INVALID = CUBLAS_STATUS_INVALID_VALUE;
constexpr auto UNSUPPORTED = CUBLAS_STATUS_NOT_SUPPORTED;
constexpr auto FAILED = CUBLAS_STATUS_EXECUTION_FAILED;
constexpr cudaDataType_t F32 = CUDA_R_32F, F16 = CUDA_R_16F, BF16 = CUDA_R_16BF;
constexpr int PLAIN = CUBLASLT_EPILOGUE_DEFAULT, BIAS = CUBLASLT_EPILOGUE_BIAS, DGELU = CUBLASLT_EPILOGUE_DGELU, GELU_AUX = CUBLASLT_EPILOGUE_GELU_AUX, BGRADB = CUBLASLT_EPILOGUE_BGRADB;

const Call CALLS[] = {
    {.name = "GELU_AUX_BIAS", .verdict = RIGHT},
    {.name = "GELU_AUX_BIAS, types told", .verdict = RIGHT, .bias_type = BF16, .aux_type = BF16},
    {.name = "DEFAULT", .verdict = RIGHT, .epilogue = PLAIN, .bias_set = false, .aux_set = false},
    {.name = "DEFAULT, the bias's type told", .verdict = RIGHT, .epilogue = PLAIN, .bias_set = false, .aux_set = false, .bias_type = BF16},
    {.name = "DEFAULT, an AUX pointer", .verdict = RIGHT, .epilogue = PLAIN, .bias_set = false},
    {.name = "DEFAULT of fp32 by TF32", .verdict = RIGHT, .epilogue = PLAIN, .bias_set = false, .aux_set = false, .a_type = F32, .b_type = F32, .c_type = F32, .d_type = F32, .compute = CUBLAS_COMPUTE_32F_FAST_TF32},
    {.name = "BIAS", .verdict = RIGHT, .epilogue = BIAS, .aux_set = false},
    {.name = "DGELU", .verdict = RIGHT, .epilogue = DGELU, .bias_set = false},
    {.name = "BGRADB to fp32", .verdict = RIGHT, .epilogue = BGRADB, .transpose_b = true, .aux_set = false, .bias_type = F32, .c_type = F32, .d_type = F32},
    {.name = "C null, beta 0", .verdict = RIGHT, .c_set = false, .in_place = false},
    // the epilogue's pointers
    {.name = "DEFAULT, a bias pointer", .verdict = WRONG, .status = INVALID, .epilogue = PLAIN, .aux_set = false},
    {.name = "GELU_AUX, a bias pointer", .verdict = WRONG, .status = INVALID, .epilogue = GELU_AUX},
    {.name = "DGELU, a bias pointer", .verdict = WRONG, .status = INVALID, .epilogue = DGELU},
    {.name = "BIAS, no bias pointer", .verdict = WRONG, .status = INVALID, .epilogue = BIAS, .bias_set = false, .aux_set = false},
    {.name = "BGRADB, no bias pointer", .verdict = WRONG, .status = INVALID, .epilogue = BGRADB, .transpose_b = true, .bias_set = false, .aux_set = false, .c_type = F32, .d_type = F32},
    {.name = "GELU_AUX_BIAS, no bias pointer", .verdict = WRONG, .status = INVALID, .bias_set = false},
    {.name = "GELU_AUX_BIAS, no AUX pointer", .verdict = WRONG, .status = UNSUPPORTED, .aux_set = false},
    {.name = "DGELU, no AUX pointer", .verdict = WRONG, .status = INVALID, .epilogue = DGELU, .bias_set = false, .aux_set = false},
    {.name = "the bias at an odd address", .verdict = WRONG, .status = INVALID, .bias = 1},
    // the epilogue's types and leading dimension
    {.name = "a bias of fp32 for bf16", .verdict = WRONG, .status = INVALID, .bias_type = F32},
    {.name = "a bias of fp16 for bf16", .verdict = WRONG, .status = INVALID, .bias_type = F16},
    {.name = "BGRADB of bf16 for fp32", .verdict = WRONG, .status = INVALID, .epilogue = BGRADB, .transpose_b = true, .aux_set = false, .bias_type = BF16, .c_type = F32, .d_type = F32},
    {.name = "DEFAULT, a bias's type that is not the output's", .verdict = WRONG, .status = INVALID, .epilogue = PLAIN, .bias_set = false, .aux_set = false, .bias_type = F32},
    {.name = "AUX of fp32 for bf16", .verdict = WRONG, .status = INVALID, .aux_type = F32},
    {.name = "AUX without a leading dimension", .verdict = WRONG, .status = INVALID, .aux_ld = 0},
    {.name = "AUX with too short a leading dimension", .verdict = WRONG, .status = INVALID, .aux_ld = 8},
    {.name = "AUX with a leading dimension of 20", .verdict = WRONG_HERE, .status = INVALID, .aux_ld = 20},
    {.name = "epilogue 3", .verdict = WRONG_HERE, .status = UNSUPPORTED, .epilogue = 3},
    {.name = "BGRADB, B not transposed", .verdict = WRONG, .status = UNSUPPORTED, .epilogue = BGRADB, .aux_set = false, .c_type = F32, .d_type = F32},
    {.name = "BGRADA, A transposed", .verdict = WRONG, .status = UNSUPPORTED, .epilogue = CUBLASLT_EPILOGUE_BGRADA, .aux_set = false, .c_type = F32, .d_type = F32},
    // types
    {.name = "A bf16, B fp32", .verdict = WRONG, .status = INVALID, .b_type = F32},
    {.name = "C fp32, D bf16", .verdict = WRONG, .status = INVALID, .c_type = F32, .in_place = false},
    {.name = "scale bf16", .verdict = WRONG, .status = INVALID, .scale = BF16, .since = 120600},
    {.name = "fp32 to bf16", .verdict = WRONG_HERE, .status = UNSUPPORTED, .a_type = F32, .b_type = F32},
    {.name = "sums in fp16", .verdict = WRONG_HERE, .status = UNSUPPORTED, .compute = CUBLAS_COMPUTE_16F},
    {.name = "TF32 of bf16", .verdict = WRONG_HERE, .status = UNSUPPORTED, .compute = CUBLAS_COMPUTE_32F_FAST_TF32},
    // shapes
    {.name = "lda below the rows", .verdict = WRONG, .status = INVALID, .lda = 8},
    {.name = "ldd below the rows", .verdict = WRONG, .status = INVALID, .ldc = 8, .ldd = 8},
    {.name = "lda of 20", .verdict = WRONG_HERE, .status = UNSUPPORTED, .lda = 20},
    {.name = "A has a column too many", .verdict = WRONG, .status = INVALID, .a_cols = 17},
    {.name = "C has fewer rows than D", .verdict = WRONG, .status = INVALID, .c_rows = 8, .in_place = false},
    {.name = "in place, and C laid out otherwise", .verdict = WRONG, .status = INVALID, .ldc = 24, .since = 130100},
    {.name = "rows for columns", .verdict = WRONG_HERE, .status = UNSUPPORTED, .order = CUBLASLT_ORDER_ROW},
    {.name = "no sums", .verdict = WRONG_HERE, .status = UNSUPPORTED, .k = 0, .k_later = 0},
    // operands
    {.name = "alpha null", .verdict = WRONG_HERE, .status = INVALID, .alpha_set = false},
    {.name = "A null", .verdict = WRONG, .status = INVALID, .a_set = false},
    {.name = "D null", .verdict = WRONG, .status = INVALID, .d_set = false, .in_place = false},
    {.name = "C null, beta 1", .verdict = WRONG, .status = INVALID, .c_set = false, .in_place = false, .beta = 1},
    {.name = "workspace at 16", .verdict = WRONG, .status = INVALID, .workspace = 16, .since = 120900},
    {.name = "workspace null", .verdict = WRONG, .status = INVALID, .workspace_set = false},
    // what the algorithm was promised
    {.name = "the algorithm of another product", .verdict = WRONG_HERE, .status = INVALID, .k_later = 8},
    {.name = "less workspace than the algorithm needs", .verdict = WRONG_HERE, .status = INVALID, .workspace_bytes = 64},
    {.name = "A less aligned", .verdict = WRONG_HERE, .status = UNSUPPORTED, .a = 16},
    {.name = "the bias less aligned", .verdict = WRONG_HERE, .status = UNSUPPORTED, .bias = 16},
    {.name = "AUX less aligned", .verdict = WRONG_HERE, .status = UNSUPPORTED, .aux = 16},
    {.name = "AUX beyond its allocation", .verdict = WRONG_HERE, .status = FAILED, .aux = 1024},
    {.name = "the result onto A", .verdict = WRONG_HERE, .status = FAILED, .onto_a = true}};

struct Memory {
    char* p;
    explicit Memory(size_t bytes) {
        if (cudaMalloc(&p, bytes) != cudaSuccess) FAIL("cudaMalloc");
        for (size_t i = 0; i < bytes / 2; i++) ((bf16*)p)[i] = bf16(1);
    }
    ~Memory() { cudaFree(p); }
};

// What the stand-in answers to a call, and what the library says of it.
struct Answers { cublasStatus_t status; std::string library; };
Answers ask(const Call& call) {
    Memory a(1024), b(1024), c(1024), d(1024), aux(1024), bias(1024), workspace(8192);
    cudaStream_t stream = nullptr;
    cudaStreamCreate(&stream);
    emu::Product p{call.compute, call.scale};
    p.transpose_a = call.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, p.transpose_b = call.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, p.epilogue = (cublasLtEpilogue_t)call.epilogue, p.bias_type = call.bias_type, p.aux_type = call.aux_type, p.aux_ld = call.aux_ld;
    p.bias = call.bias_set ? bias.p : nullptr, p.aux = call.aux_set ? aux.p : nullptr;
    emu::Layout la{call.a_type, call.k, call.a_cols, call.lda, call.order}, lb{call.b_type, call.transpose_b ? 16 : call.k, call.transpose_b ? call.k : 16, 16}, lc{call.c_type, call.c_rows, 16, call.ldc}, ld{call.d_type, call.d_rows, 16, call.ldd};
    emu::Preference preference{4096};
    if (call.onto_a) for (auto& x : preference.alignment) x = 16;
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t heuristic = cublasLtMatmulAlgoGetHeuristic(nullptr, &p, &la, &lb, &lc, &ld, &preference, 1, &found, &count);
    p.bias = p.bias ? bias.p + call.bias : nullptr, p.aux = p.aux ? aux.p + call.aux : nullptr, la.rows = (call.transpose_b ? lb.cols : lb.rows) = call.k_later;
    char* to = !call.d_set ? nullptr : call.onto_a ? a.p + 16 : d.p;
    const float one = 1;
    const emu::Operands o{call.alpha_set ? &one : nullptr, &call.beta, call.a_set ? a.p + call.a : nullptr, b.p, call.in_place ? to : call.c_set ? c.p : nullptr, to,
                          call.workspace_set ? workspace.p + call.workspace : nullptr, call.workspace_bytes};
    Answers answers;
    answers.status = heuristic != CUBLAS_STATUS_SUCCESS ? heuristic
        : cublasLtMatmul(nullptr, &p, o.alpha, o.a, &la, o.b, &lb, o.beta, o.c, &lc, to, &ld, &found.algo, (void*)o.workspace, o.workspace_bytes, stream);
    if (cudaStreamSynchronize(stream) != cudaSuccess) FAIL("%s: the stream fails", call.name);
    cudaStreamDestroy(stream);
    if (call.verdict == RIGHT && call.d_type == CUDA_R_16BF && call.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) EXPECT_EQ((float)((bf16*)d.p)[0], 17.0f);  // 16 terms and the bias; GELU leaves it
    if (emu::real_cublaslt().answers()) answers.library = emu::real_cublaslt().refusal(p, la, lb, lc, ld, o);
    return answers;
}
}  // namespace

TEST(cublaslt_stand_in_refuses) {
    for (const Call& call : CALLS) {
        const Answers a = ask(call);
        if (a.status != call.status) FAIL("%s: status %d, expected %d (%s)", call.name, (int)a.status, (int)call.status, emu::cublaslt_why().c_str());
    }
}

TEST(cublaslt_itself_refuses) {
    if (!emu::real_cublaslt().answers()) SKIP("no libcublasLt.so that answers without a GPU (make test-cublaslt)");
    printf("cuBLASLt %zu\n", emu::real_cublaslt().version());
    for (const Call& call : CALLS) {
        const std::string said = ask(call).library;
        if (call.verdict == RIGHT && !said.empty()) FAIL("%s: is right, and refused: %s", call.name, said.c_str());
        if (call.since > emu::real_cublaslt().version()) continue;
        if (call.verdict == WRONG && said.empty()) FAIL("%s: is wrong, and not refused", call.name);
        if (call.verdict == WRONG) printf("  %-50s %s\n", call.name, said.c_str());
    }
}

// What a product is, one number after the other. Whole numbers: sums are exact in any order. 19 rows are a group of 16 and a part of one, 21 terms no multiple of it.
TEST(cublaslt_stand_in_multiplies) {
    using namespace emu;
    const size_t m = 19, n = 5, k = 21, room = 32 * 32;
    using Numbers = std::vector<float>;  // of whatever type, in as many bytes
    uint32_t state = 1;
    const auto fill = [&](Numbers& x, int type, int bits) {
        for (size_t i = 0; i < room; i++) {
            state = state * 1664525 + 1013904223;
            const float e = (float)(int)(state >> (32 - bits)) * 0x1p4f / (float)(1 << bits) - 8;
            write(x.data(), type, i, &e, 1);
        }
    };
    const auto at = [](const Numbers& x, int type, size_t i) { float e; read(&e, x.data(), type, i, 1, 1); return e; };
    const auto narrowed = [&](float e, int type) { Numbers x(1); write(x.data(), type, 0, &e, 1); return at(x, type, 0); };
    for (cudaDataType_t type : {CUDA_R_32F, CUDA_R_16BF, CUDA_R_16F})
        for (int epilogue : {1, 4, 6, 160, 164, 192, 208, 256, 512})
            for (int transposed = 0; transposed < 4; transposed++) for (float beta : {0.0f, 2.0f}) {
                const bool ta = transposed & 1, tb = transposed & 2;
                const Layout la{type, ta ? k : m, ta ? m : k, (int64_t)(ta ? k : m) + 1}, lb{type, tb ? n : k, tb ? k : n, (int64_t)(tb ? n : k) + 2}, ld{type, m, n, m + 3};
                Numbers a(room), b(room), c(room), d(room), aux(room), bias(room);
                for (Numbers* x : {&a, &b, &c, &aux, &bias}) fill(*x, type, 4);
                const Numbers old_aux = aux, old_bias = bias;
                Product p{CUBLAS_COMPUTE_32F, CUDA_R_32F};
                p.transpose_a = ta ? CUBLAS_OP_T : CUBLAS_OP_N, p.transpose_b = tb ? CUBLAS_OP_T : CUBLAS_OP_N, p.epilogue = (cublasLtEpilogue_t)epilogue;
                p.bias = bias.data(), p.aux = aux.data(), p.aux_ld = m + 1;
                run_product(p, 2, a.data(), la, b.data(), lb, beta, c.data(), ld, d.data(), ld, 3);
                const auto in_a = [&](size_t i, size_t l) { return at(a, type, ta ? i * (size_t)la.ld + l : l * (size_t)la.ld + i); };
                const auto in_b = [&](size_t l, size_t j) { return at(b, type, tb ? l * (size_t)lb.ld + j : j * (size_t)lb.ld + l); };
                int wrong = 0;
                std::vector<float> gradient(m), of_a(m), of_b(n);
                for (size_t l = 0; l < k; l++) for (size_t i = 0; i < m; i++) of_a[i] += in_a(i, l);
                for (size_t l = 0; l < k; l++) for (size_t j = 0; j < n; j++) of_b[j] += in_b(l, j);
                for (size_t j = 0; j < n; j++) for (size_t i = 0; i < m; i++) {
                    float z = 0;
                    for (size_t l = 0; l < k; l++) z += in_a(i, l) * in_b(l, j);
                    z = 2 * z + beta * at(c, type, j * (m + 3) + i);
                    if (epilogue == 4 || epilogue == 6 || epilogue == 164) z += at(old_bias, type, i);
                    if (epilogue == 192 || epilogue == 208) z *= gelu_slope(at(old_aux, type, j * (m + 1) + i));
                    if (epilogue == 160 || epilogue == 164) wrong += at(aux, type, j * (m + 1) + i) != narrowed(z, type), z = gelu_by_tanh(z);
                    if (epilogue == 6) z = std::fmax(z, 0.0f);
                    gradient[i] += z;
                    wrong += at(d, type, j * (m + 3) + i) != narrowed(z, type);
                }
                for (size_t j = 0; j < n; j++) {  // between the columns
                    for (size_t i = m; i < m + 3; i++) wrong += at(d, type, j * (m + 3) + i) != 0;
                    wrong += at(aux, type, j * (m + 1) + m) != at(old_aux, type, j * (m + 1) + m);
                }
                for (size_t i = 0; i < m; i++) if (epilogue == 208 || epilogue == 256) wrong += at(bias, type, i) != narrowed((epilogue == 208 ? gradient : of_a)[i], type);
                for (size_t j = 0; j < n; j++) if (epilogue == 512) wrong += at(bias, type, j) != narrowed(of_b[j], type);
                if (wrong) FAIL("type %d, epilogue %d, transposed %d, beta %g: %d numbers are wrong", (int)type, epilogue, transposed, beta, wrong);
            }
    // Other numbers show where sums begin; by TF32 what is below 2^-10 of either operand is not there.
    Numbers a(room), b(room), d(room), e(room);
    fill(a, CUDA_R_32F, 24), fill(b, CUDA_R_32F, 24);
    const Layout rows{CUDA_R_32F, m, k, m}, columns{CUDA_R_32F, k, n, k}, result{CUDA_R_32F, m, n, m}, one{CUDA_R_32F, 1, 1, 1};
    run_product({CUBLAS_COMPUTE_32F, CUDA_R_32F}, 1, a.data(), rows, b.data(), columns, 0, nullptr, result, d.data(), result, 1);
    run_product({CUBLAS_COMPUTE_32F, CUDA_R_32F}, 1, a.data(), rows, b.data(), columns, 0, nullptr, result, e.data(), result, 7);
    EXPECT(d != e);
    EXPECT_CLOSE(d.data(), e.data(), m * n, 1e-5);
    const float exact = 1, more = 1 + 0x1p-12f;
    for (bool left : {false, true}) for (bool tf32 : {false, true}) {
        float y = 0;
        run_product({tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F}, 1, left ? &more : &exact, one, left ? &exact : &more, one, 0, nullptr, one, &y, one);
        EXPECT_EQ(y, tf32 ? exact : more);
    }
}
