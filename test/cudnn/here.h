// here.h: builds the plans of attention of the README's models for the GPU that is here, runs them, and says of each PASS or FAIL with the
// library's own words. Each has a process of its own, as an error of the device stays for as long as its process lives.
#pragma once
#include <cuda_runtime.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include "../../llmc/model/config_names.h"
#include "../../llmc/cuda/attention_graph.h"

namespace here {
using namespace attention_graph;

inline Problem grouped(int B, int T, int NH, int NKV, int HS) { return {.B = B, .T = T, .NH = NH, .HS = HS, .NKV = NKV}; }
inline std::string text(const Problem& p) {
    char s[100];
    const std::string NH = std::to_string(p.NH) + (p.NKV == p.NH ? "" : "/" + std::to_string(p.NKV));
    snprintf(s, sizeof s, "B %2d, T %4d, %4s heads of %3d  %s", (int)p.B, (int)p.T, NH.c_str(), (int)p.HS, !p.backward ? "forward" : p.dq == ATOMIC ? "backward, atomic dq" : "backward, deterministic");
    return s + (p.window ? ", window " + std::to_string(p.window) : std::string());
}
inline std::string knob_name(int type) {
    switch (type) {
        case CUDNN_KNOB_TYPE_STAGES: return "STAGES";
        case CUDNN_KNOB_TYPE_KERNEL_CFG: return "KERNEL_CFG";
        case CUDNN_KNOB_TYPE_TILE_CGA_M: return "TILE_CGA_M";
        case CUDNN_KNOB_TYPE_STREAM_K: return "STREAM_K";
        case CUDNN_KNOB_TYPE_TILE_M: return "TILE_M";
        case CUDNN_KNOB_TYPE_TILE_N: return "TILE_N";
        default: return std::to_string(type);
    }
}
// "engine 6: KERNEL_CFG 2, STAGES 4"
inline std::string engine_of(Builder& b, const Plan& plan) {
    Descriptor config = b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), engine = b.make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    std::vector<Descriptor> knobs;
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++) knobs.push_back(b.make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR));
    int64_t one = 0, number = -1, count = 0;
    cudnnBackendGetAttribute(plan.plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one, &config);
    cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one, &engine);
    cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &one, &number);
    if (cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS, &count, knobs.data()) != CUDNN_STATUS_SUCCESS) count = 0;
    std::string s = "engine " + std::to_string(number);
    for (int64_t i = 0; i < count; i++) {
        int type = 0;
        int64_t value = 0;
        cudnnBackendGetAttribute(knobs[(size_t)i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &one, &type);
        cudnnBackendGetAttribute(knobs[(size_t)i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one, &value);
        s += (i ? ", " : ": ") + knob_name(type) + " " + std::to_string(value);
    }
    return s;
}

// What `body` returns, run in a process of its own, or 128 + the signal that ended it; what it printed, if someone wants to know.
inline int in_a_process(const std::function<int()>& body, std::string* output = nullptr, unsigned seconds = 120) {
    int fd[2];
    fflush(nullptr);
    if (output && pipe(fd)) return 127;
    const pid_t pid = fork();
    if (pid < 0) return 127;
    if (pid == 0) {
        alarm(seconds);  // what hangs ends by a signal
        if (output) dup2(fd[1], 1), close(fd[0]), close(fd[1]);
        const int code = body();
        fflush(nullptr);
        _exit(code);
    }
    if (output) {
        close(fd[1]);
        char buffer[4096];
        for (ssize_t n; (n = read(fd[0], buffer, sizeof buffer)) > 0;) output->append(buffer, (size_t)n);
        close(fd[0]);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// ---- one pass of one model ---------------------------------------------------------------------------------------------------
inline uint16_t to_bf16(float x) { uint32_t bits; memcpy(&bits, &x, 4); return (uint16_t)((bits + 0x8000) >> 16); }
inline float from_bf16(uint16_t x) { const uint32_t bits = (uint32_t)x << 16; float y; memcpy(&y, &bits, 4); return y; }

class Attempt {
public:
    // PASS, FAIL or SKIP, and the line's rest
    std::string line(const char* model, Problem p, bool deterministic) {
        int device = 0, major = 0, minor = 0;
        if (!cuda(cudaGetDevice(&device), "cudaGetDevice") || !cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute") ||
            !cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute")) return "FAIL " + head(model, p) + why;
        if (p.backward) p.dq = dq_accumulation(deterministic, 10 * major + minor, cudnnGetVersion());
        if (const std::string ours = not_asked(p, cudnnGetVersion()); !ours.empty()) return "SKIP " + head(model, p) + "ours: " + ours;
        const bool right = attempt(p);
        return (right ? "PASS " : "FAIL ") + head(model, p) + found + (right ? "" : (found.empty() ? "" : ": ") + why);
    }

private:
    std::string why, found;
    float* lse = nullptr;
    uint16_t *qkv = nullptr, *dout = nullptr, *out = nullptr, *dqkv = nullptr;
    char *delta = nullptr, *dq_accum = nullptr, *workspace = nullptr;
    cudaStream_t stream = nullptr;
    cudnnHandle_t handle = nullptr;

    static std::string head(const char* model, const Problem& p) { return std::string(model) + std::string(11 - std::min<size_t>(10, strlen(model)), ' ') + text(p) + "  "; }
    bool cuda(cudaError_t e, const char* call) {
        if (e != cudaSuccess && why.empty()) why = std::string(call) + ": " + cudaGetErrorString(e);
        return e == cudaSuccess;
    }
    bool right(bool condition, const std::string& otherwise) {
        if (!condition && why.empty()) why = otherwise;
        return condition;
    }
    template <class X> bool take(X** p, size_t n) { return cuda(cudaMalloc((void**)p, n * sizeof(X) + 256), "cudaMalloc"); }
    template <class X> std::vector<X> values(const X* p, size_t n) {
        std::vector<X> v(n);
        if (cuda(cudaStreamSynchronize(stream), "after the execution: cudaStreamSynchronize")) cuda(cudaMemcpy(v.data(), p, n * sizeof(X), cudaMemcpyDeviceToHost), "cudaMemcpy");
        return v;
    }
    bool fill(uint16_t* p, size_t n, const std::function<float(size_t)>& f) {
        std::vector<uint16_t> v(n);
        for (size_t i = 0; i < n; i++) v[i] = to_bf16(f(i));
        return cuda(cudaMemcpy(p, v.data(), n * 2, cudaMemcpyHostToDevice), "cudaMemcpy") && cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }
    static size_t values_at(const Problem& p) { return (size_t)((p.NH + p.NKV) * p.HS); }  // in a row of qkv
    bool run(const Plan& plan, const Problem& p) {
        const size_t k = (size_t)(p.NH * p.HS), v = values_at(p);
        std::map<int64_t, const void*> tensors = {{Q, qkv}, {K, qkv + k}, {V, qkv + v}, {OUT, out}, {LSE, lse}};
        if (p.backward) tensors.merge(std::map<int64_t, const void*>{{DOUT, dout}, {DQ, dqkv}, {DK, dqkv + k}, {DV, dqkv + v}, {DELTA, delta}});
        if (p.has_dq_accum()) tensors[DQ_ACCUM] = dq_accum;
        Builder b;
        execute(b, plan, p, tensors, workspace, handle, stream);
        return right(b.refused.empty(), b.refused);
    }

    bool attempt(const Problem& p) {
        Problem forward = p;
        forward.backward = false;
        const size_t T = (size_t)p.T, N = (size_t)p.B * T, C = (size_t)p.NH * (size_t)p.HS, row = (size_t)p.row(), v = values_at(p);
        Builder b;
        if (!b.take(cudnnCreate(&handle), "cudnnCreate")) return right(false, b.refused);
        const Plan plan = make_plan(b, p, handle);
        if (!right(b.refused.empty() && plan.plan, b.refused)) return false;
        found = engine_of(b, plan) + ", " + std::to_string(plan.workspace) + " bytes";
        if (!right(plan.workspace <= (int64_t)workspace_bytes(p), "of which a run sets apart only " + std::to_string(workspace_bytes(p)))) return false;
        Builder before;
        const Plan first = p.backward ? make_plan(before, forward, handle) : plan;
        if (!right(before.refused.empty() && first.plan, "the forward before it: " + before.refused)) return false;
        if (!cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags") || !take(&qkv, N * row) || !take(&dqkv, N * row) || !take(&dout, N * C) ||
            !take(&out, N * C) || !take(&lse, N * (size_t)p.NH) || !take(&delta, delta_bytes(p)) || !take(&dq_accum, dq_accum_bytes(p)) ||
            !take(&workspace, std::max(workspace_bytes(p), workspace_bytes(forward)))) return false;
        // 1. q = k = 0, v = dout = 1: all weights of t are 1 / (t + 1), so out = 1, lse = log(t + 1), dq = dk = 0, dv[u] = sum over t >= u of 1 / (t + 1),
        // as often as a head of values has query heads
        if (!fill(qkv, N * row, [&](size_t i) { return i % row < v ? 0.0f : 1.0f; }) || !fill(dout, N * C, [](size_t) { return 1.0f; })) return false;
        if (!run(first, forward) || (p.backward && !run(plan, p))) return false;
        if (!as_known(p, T, N, C)) return false;
        // 2. noise, twice: bitwise identical, unless the sum of dq is ATOMIC
        uint32_t seed = 1;
        const auto noise = [&](size_t) { return (float)(int32_t)(seed = seed * 1664525u + 1013904223u) * 0x1p-31f; };
        std::vector<uint16_t> once;
        if (!fill(qkv, N * row, noise) || !fill(dout, N * C, noise)) return false;
        for (int i = 0; i < 2; i++) {
            if (!run(first, forward) || (p.backward && !run(plan, p))) return false;
            const std::vector<uint16_t> y = p.backward ? values(dqkv, N * row) : values(out, N * C);
            for (uint16_t e : y) if (!right(std::isfinite(from_bf16(e)), "results that are not finite")) return false;
            if (i > 0 && (!p.backward || p.dq != ATOMIC) && !right(y == once, "not bitwise identical")) return false;
            once = y;
        }
        return why.empty() && measure(plan, p);
    }
    bool as_known(const Problem& p, size_t T, size_t N, size_t C) {
        const size_t row = (size_t)p.row(), v = values_at(p);
        const double group = (double)(p.NH / p.NKV);
        // the text only where it is wrong: a hundred million elements are looked at
        const auto near = [&](const char* name, double x, double y) {
            return std::fabs(x - y) <= 0.02 * std::fabs(y) + 0.001 || right(false, std::string(name) + " is " + std::to_string(x) + ", expected " + std::to_string(y));
        };
        const std::vector<uint16_t> y = values(out, N * C), d = values(dqkv, N * row);
        const std::vector<float> l = values(lse, N * (size_t)p.NH);
        std::vector<double> tail(T + 1);
        for (size_t t = T; t-- > 0;) tail[t] = tail[t + 1] + 1 / (double)(t + 1);
        for (size_t i = 0; i < l.size(); i++) if (!near("lse", l[i], std::log((double)(i % T + 1)))) return false;
        for (size_t i = 0; i < y.size(); i++) if (!near("out", from_bf16(y[i]), 1)) return false;
        if (p.backward) for (size_t i = 0; i < d.size(); i++) if (!near(i % row < v ? "dq or dk" : "dv", from_bf16(d[i]), i % row < v ? 0 : group * tail[i / row % T])) return false;
        return why.empty();
    }
    bool measure(const Plan& plan, const Problem& p) {
        cudaEvent_t begin = nullptr, end = nullptr;
        float ms = 0, fastest = INFINITY;
        if (!cuda(cudaEventCreate(&begin), "cudaEventCreate") || !cuda(cudaEventCreate(&end), "cudaEventCreate")) return false;
        for (int i = 0; i < 5; i++, fastest = std::min(fastest, ms))
            if (!cuda(cudaEventRecord(begin, stream), "cudaEventRecord") || !run(plan, p) || !cuda(cudaEventRecord(end, stream), "cudaEventRecord") ||
                !cuda(cudaEventSynchronize(end), "cudaEventSynchronize") || !cuda(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime")) return false;
        found += ", " + std::to_string(fastest) + " ms";
        return true;
    }
};

// Exit code 1 if one failed.
inline int run_models() {
#ifdef CUDNN_STAND_IN
    constexpr int SEQUENCES = 1, SHORTENED = 32;  // an interpreter's pace
#else
    constexpr int SEQUENCES = 4, SHORTENED = 1;
#endif
    struct Model { const char* name; Problem p; };
    std::vector<Model> models;
    for (const char* name : {"d12", "d24", "d36", "d48", "gpt3:c768", "gpt3:c1536", "gpt3:c2048", "gpt3:c2560"}) {
        const Config c = config_by_name(name, 50257);
        models.push_back({name, {SEQUENCES, c.max_T / SHORTENED, c.NH, c.HS}});
    }
    models.push_back({"groups 3", grouped(SEQUENCES, 2048 / SHORTENED, 9, 3, 64)});    // SmolLM2-135M's
    models.push_back({"groups 2", grouped(SEQUENCES, 2048 / SHORTENED, 16, 8, 128)});  // Qwen3-0.6B's
    int plans = 0, failed = 0;
    for (const Model& each : models)
        for (int pass = 0; pass < 3; pass++) {
            const char* model = each.name;
            Problem p = each.p;
            p.backward = pass > 0, p.dq = pass == 2 ? ATOMIC : SEPARATE_GEMM;
            const int code = in_a_process([&] {
                const std::string line = Attempt().line(model, p, pass < 2);
                printf("%s\n", line.c_str());
                return line.starts_with("FAIL") ? 1 : 0;
            });
            if (code > 1) printf("FAIL %s, %s: the process ended with %s %d\n", model, text(p).c_str(), code > 128 ? "signal" : "code", code > 128 ? code - 128 : code);
            plans++, failed += code != 0;
        }
    printf("%d plans, %d failed\n", plans, failed);
    return failed ? 1 : 0;
}
}  // namespace here
