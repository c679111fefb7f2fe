// products.cu: each kind of matrix product that a training step makes, as the trainer itself asks for it, in fp32, TF32 and bf16: a line
// each, PASS or FAIL with cuBLASLt's own words.
//     products [part of a line] [--all]        --all: Llama's and GPT-3's sizes too, which take some GB
// On a GPU all algorithms that the library proposes are called, the fastest is kept, and results are compared with sums in double. Built for the
// emulator it does the same with sizes that a CPU can multiply; with EMU_CUBLASLT=/path/to/libcublasLt.so.13 it puts the real sizes to
// the library's check of arguments, and multiplies nothing. Kinds run in a process of their own, from which those that are left go on in
// another when one dies: a CUDA error is for ever. (make test-cublaslt; make products on a GPU)
#include <sys/wait.h>
#include <unistd.h>
#include <functional>
#include <string>
#include <vector>
#include "../../llmc/model/config_names.h"
#include "../../llmc/cuda/matmul.cuh"
#ifdef CUBLAS_STAND_IN
#include <cuda_on_cpu.h>
constexpr bool ON_GPU = false;
inline bool arguments_only() { return emu::arguments_only(); }
#else
constexpr bool ON_GPU = true;
inline bool arguments_only() { return false; }
#endif

namespace {
constexpr size_t N = ON_GPU ? 1024 : 24;  // tokens
constexpr float OLD = 3;                  // what an accumulated gradient begins with

// What element i of operand `which` is: small whole numbers, whose products and their sums are exact in fp32, TF32 and bf16's accumulators.
__host__ __device__ inline float element(int which, size_t i) { return (float)((((uint32_t)i * 2654435761u + (uint32_t)which * 40503u) >> 20) % 5) - 2; }
template <class F> __global__ void fill_operand(F* x, size_t n, int which) {
    pdl_wait();
    const size_t i = thread_index();
    if (i < n) x[i] = from_float<F>(which < 0 ? OLD : element(which, i));
}

// Memory of the device, of which a kind takes what it needs from the beginning.
class Pool {
public:
    template <class F> F* take(size_t n, int which, stream_t stream) {
        const size_t bytes = (n * sizeof(F) + 255) / 256 * 256;
        if (arguments_only() && bytes > (size_t)1 << 24) return (F*)((size_t)1 << 20);  // nobody looks there
        void* p = nullptr;
        CUDA_CHECK(cudaMalloc(&p, bytes));
        all.push_back(p);
        if (!arguments_only()) launch(fill_operand<F>, over(n, 256), stream, (F*)p, n, which);
        return (F*)p;
    }
    ~Pool() { for (void* p : all) cudaFree(p); }

private:
    std::vector<void*> all;
};

struct Kind { std::string name; std::function<std::string()> run; };  // run: empty, or what is wrong

double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) {
    const double t = std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
    return (1 + t) / 2 + x / 2 * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
enum Operand { INP, WEIGHT, BIAS, DOUT, PRE };

// Compares some elements of a result, (rows, cols), with what they should be. Sums of whole numbers below 2^24 are exact; what is stored is
// rounded, once by the product and once by GELU; GELU's own fp32 arithmetic is off by some 2^-20.
template <class F> std::string compare(const char* what, const F* device, size_t rows, size_t cols, double tolerance, std::function<double(size_t, size_t)> expected) {
    for (size_t i = 0; i < 48; i++) {
        const size_t at = i == 0 ? 0 : i == 1 ? rows * cols - 1 : (i * 0x9E3779B97F4A7C15u >> 11) % (rows * cols);
        F got;
        CUDA_CHECK(cudaMemcpy(&got, device + at, sizeof got, cudaMemcpyDeviceToHost));
        const double right = expected(at / cols, at % cols);
        if (!(std::fabs((double)(float)got - right) <= tolerance * std::fmax(1, std::fabs(right)))) return format("%s[%zu][%zu] is %g, should be %g", what, at / cols, at % cols, (double)(float)got, right);
    }
    return "";
}

struct Run {
    Pool pool;
    void* workspace;
    stream_t stream;
    Run(bool tf32, bool gelu_fusion, int C) {
        const size_t bytes = matmul_workspace(4 * C);
        CUDA_CHECK(cudaMalloc(&workspace, bytes));
        stream = open_stream({.workspace = workspace, .workspace_bytes = bytes, .kernels = {.tf32 = tf32, .gelu_fusion = gelu_fusion}, .autotuning = true});
        CUDA_CHECK(cudaDeviceSynchronize());
    }
    ~Run() { cudaStreamDestroy(stream.handle), cudaFree(workspace); }
    template <class F> F* take(size_t n, int which) { return pool.take<F>(n, which, stream); }
};

// The products of one linear layer, inp (N, C) to out (N, OC).
template <class F> void add_kinds(std::vector<Kind>& kinds, const std::string& where, bool tf32, const char* layer, int C, int OC, bool biased, bool gelu_behind, bool gelu_before) {
    const std::string precision = sizeof(F) == 2 ? "bf16" : tf32 ? "TF32" : "fp32";
    auto kind = [&](const std::string& what, std::function<std::string()> run) { kinds.push_back({format("%-11s %s %-8s %s", where.c_str(), precision.c_str(), layer, what.c_str()), std::move(run)}); };
    const double stored = sizeof(F) == 2 ? 0x1p-8 : 0x1p-20;
    const auto W = [C](size_t o, size_t c) { return (double)element(WEIGHT, o * (size_t)C + c); };
    const auto sum = [](size_t n, auto term) { double s = 0; for (size_t i = 0; i < n; i++) s += term(i); return s; };

    for (bool fused : {false, true}) {
        if (fused && !gelu_behind) continue;
        kind(fused ? "forward, GELU by the epilogue" : gelu_behind ? "forward, GELU behind" : "forward", [=] {
            Run r(tf32, fused, C);
            F *out = r.take<F>(N * OC, 0), *pre = r.take<F>(N * OC, 0);
            const F *inp = r.take<F>(N * C, INP), *weight = r.take<F>((size_t)OC * C, WEIGHT), *bias = biased ? r.take<F>((size_t)OC, BIAS) : nullptr;
            matmul_forward(out, inp, weight, bias, N, C, OC, {.pre_gelu = gelu_behind ? pre : nullptr}, r.stream);
            synchronize(r.stream);
            if (arguments_only()) return std::string();
            const auto right = [&](size_t n, size_t o) { return sum((size_t)C, [&](size_t c) { return element(INP, n * C + c) * W(o, c); }) + (biased ? element(BIAS, o) : 0); };
            if (!gelu_behind) return compare("out", out, N, OC, stored, right);
            const std::string wrong = compare("pre_gelu", pre, N, OC, stored, right);
            return wrong.empty() ? compare("out", out, N, OC, 3 * stored, [&](size_t n, size_t o) { return gelu(right(n, o)); }) : wrong;
        });
    }
    kind(gelu_before ? "gradient of inp, through GELU" : "gradient of inp", [=] {
        Run r(tf32, false, C);
        F* dinp = r.take<F>(N * C, 0);
        const F *dout = r.take<F>(N * OC, DOUT), *weight = r.take<F>((size_t)OC * C, WEIGHT), *pre = gelu_before ? r.take<F>(N * C, PRE) : nullptr;
        matmul_backward_input(dinp, dout, weight, N, C, OC, {.pre_gelu = pre}, r.stream);
        synchronize(r.stream);
        if (arguments_only()) return std::string();
        return compare("dinp", dinp, N, C, 3 * stored, [&](size_t n, size_t c) {
            return sum((size_t)OC, [&](size_t o) { return element(DOUT, n * OC + o) * W(o, c); }) * (gelu_before ? gelu_slope(element(PRE, n * C + c)) : 1);
        });
    });
    for (bool accumulate : {false, true}) kind(accumulate ? "gradient of weight, added" : "gradient of weight", [=] {
        Run r(tf32, false, std::max(C, OC / 4));
        float *dweight = r.take<float>((size_t)OC * C, -1), *dbias = biased ? r.take<float>((size_t)OC, -1) : nullptr;
        const F *dout = r.take<F>(N * OC, DOUT), *inp = r.take<F>(N * C, INP);
        matmul_backward_weight(dweight, dbias, dout, inp, N, C, OC, accumulate, r.stream);
        r.stream.autotuning = false;  // each algorithm that was tried has added: once more, from the beginning
        if (!arguments_only()) launch(fill_operand<float>, over((size_t)OC * C, 256), r.stream, dweight, (size_t)OC * C, -1);
        if (!arguments_only() && biased) launch(fill_operand<float>, over((size_t)OC, 256), r.stream, dbias, (size_t)OC, -1);
        matmul_backward_weight(dweight, dbias, dout, inp, N, C, OC, accumulate, r.stream);
        synchronize(r.stream);
        if (arguments_only()) return std::string();
        const double old = accumulate ? OLD : 0;
        const std::string wrong = compare("dweight", dweight, OC, C, 0x1p-20, [&](size_t o, size_t c) { return old + sum(N, [&](size_t n) { return element(DOUT, n * OC + o) * element(INP, n * C + c); }); });
        if (!wrong.empty() || !biased) return wrong;
        return compare("dbias", dbias, 1, OC, 0x1p-20, [&](size_t, size_t o) { return old + sum(N, [&](size_t n) { return element(DOUT, n * OC + o); }); });
    });
}

std::vector<Kind> all_kinds(bool all) {
    std::vector<Kind> kinds;
    std::vector<std::string> models{"d12", "d24", "d36", "d48"};
    if (!ON_GPU && !arguments_only()) models = {"d1c64h1"};
    else for (const auto& s : config_detail::PUBLISHED_SIZES) if (all || s.C <= 1024) models.push_back(std::string(s.name));
    if (models.size() > 1 && all) for (const auto& s : config_detail::GPT3_SIZES) models.push_back(format("gpt3:c%d", s.width));
    for (const std::string& name : models) {
        const int published = published_vocabulary(name);
        const Config c = config_by_name(name, models.size() == 1 ? 131 : published ? published : 50257);
        const bool biased = c.arch.bias, gelu = !c.gated();
        auto of = [&]<class F>(F, bool tf32) {
            add_kinds<F>(kinds, name, tf32, "qkv", c.C, c.QKV(), biased, false, false);
            add_kinds<F>(kinds, name, tf32, "attproj", c.heads().q(), c.C, biased, false, false);
            add_kinds<F>(kinds, name, tf32, "fc", c.C, c.hidden(), biased, gelu, false);
            add_kinds<F>(kinds, name, tf32, "fcproj", c.FF, c.C, biased, false, gelu);
            add_kinds<F>(kinds, name, tf32, "logits", c.C, c.Vp(), false, false, false);
        };
        of(0.0f, false), of(0.0f, true), of(bf16(0), false);
    }
    return kinds;
}

// What was chosen for the products of the last kind.
std::string chosen() {
    std::string text;
    for (const auto& [shape, plan] : matmul_detail::plans())
        text += format("%sepilogue %d %s", text.empty() ? "" : ", ", (int)shape.epilogue, plan.algorithms.empty() ? "left out" : "taken");
    return text;
}

// In a child: kinds from `first` on, each announced and then judged.
void run_kinds(const std::vector<Kind>& kinds, size_t first) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    for (size_t i = first; i < kinds.size(); i++) {
        printf("begin %zu\n", i);
        alarm(120);
        const std::string wrong = kinds[i].run();
        if (wrong.empty()) printf("passed %s\n", chosen().c_str());
        else printf("failed %s\n", wrong.c_str());
        matmul_detail::plans().clear();
    }
    fflush(nullptr);
    _exit(0);
}

// Runs kinds from `first` on and prints their lines; where the next child must begin.
size_t watch_child(const std::vector<Kind>& kinds, size_t first, int& failed) {
    int ends[2];
    CHECK(pipe(ends) == 0, "pipe: %s", strerror(errno));
    fflush(nullptr);
    const pid_t child = fork();
    CHECK(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        dup2(ends[1], 1), dup2(ends[1], 2), close(ends[0]), close(ends[1]);
        run_kinds(kinds, first);
    }
    close(ends[1]);
    FILE* lines = fdopen(ends[0], "r");
    char line[4096];
    std::string said;  // by the library or the trainer since the kind began
    size_t next = first;
    auto judge = [&](bool passed, const std::string& words) {
        printf("%s  %-60s %s%s%s\n", passed ? "PASS" : "FAIL", kinds[next].name.c_str(), words.c_str(), said.empty() ? "" : ": ", said.c_str());
        fflush(stdout);
        failed += !passed, next++, said.clear();
    };
    while (fgets(line, sizeof line, lines)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "begin ", 6)) said.clear();
        else if (!strncmp(line, "passed ", 7)) judge(true, line + 7);
        else if (!strncmp(line, "failed ", 7)) judge(false, line + 7);
        else said += (said.empty() ? "" : "; ") + std::string(line);
    }
    fclose(lines);
    int status = 0;
    waitpid(child, &status, 0);
    if (next < kinds.size()) judge(false, WIFSIGNALED(status) ? format("signal %d", WTERMSIG(status)) : format("exit code %d", WEXITSTATUS(status)));
    return next;
}
}  // namespace

int main(int argc, char** argv) {
    std::string part;
    bool all = false;
    for (int i = 1; i < argc; i++) !strcmp(argv[i], "--all") ? (void)(all = true) : (void)(part = argv[i]);
#ifdef CUBLAS_STAND_IN
    if (getenv("EMU_CUBLASLT")) {
        if (!emu::real_cublaslt().answers()) return 77;
        emu::arguments_only() = true;
        printf("cuBLASLt %zu looks at the arguments\n", emu::real_cublaslt().version());
    }
#endif
    std::vector<Kind> kinds = all_kinds(all);
    std::erase_if(kinds, [&](const Kind& k) { return k.name.find(part) == std::string::npos; });
    int failed = 0;
    for (size_t next = 0; next < kinds.size();) next = watch_child(kinds, next, failed);
    printf("%zu products: %zu passed, %d failed\n", kinds.size(), kinds.size() - (size_t)failed, failed);
    return failed != 0 || kinds.empty();
}
