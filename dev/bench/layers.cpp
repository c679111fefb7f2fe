// layers.cpp: every layer of GPT-2 124M, and SmolLM2 135M's that it does not have, by either backend: FLOP/s against the rate of a product, on a CPU of one that stays in
// the cache and on a GPU of a large one; GB/s against a large copy; both measured in this run. What fits in a cache may go
// faster than the copy.
//     build/bench_layers RESULTS.jsonl [batch] [seq] [seconds a layer]       build/gpu/bench_layers the same on a GPU
#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <string_view>
#include <vector>
#include "../../llmc/backend.h"
#include "../../llmc/base/heads.h"
#include "../../llmc/base/threads.h"
#include "../../llmc/base/rng.h"
#include "minimum_traffic.h"
#include "results.h"

constexpr bool ON_GPU = std::string_view(BACKEND) == "cuda";
constexpr int CALLS = ON_GPU ? 20 : 1;  // one after the other, and then the GPU is waited for

// Median seconds of a call, after one to warm up.
template <class Call> double median_seconds(double budget, stream_t stream, Call call) {
    call();
    synchronize(stream);
    std::vector<double> times;
    for (Clock::time_point begin = Clock::now(); seconds_since(begin) < budget || times.size() < 5;) {
        Clock::time_point start = Clock::now();
        for (int i = 0; i < CALLS; i++) call();
        synchronize(stream);
        times.push_back(seconds_since(start) / CALLS);
    }
    return median(times);
}

template <class X> X* on_device(const std::vector<X>& values) {
    X* x = (X*)device_alloc(values.size() * sizeof(X));
    const stream_t stream = open_stream({});
    copy_to_device(x, values.data(), values.size() * sizeof(X), stream);
    synchronize(stream);
    return x;
}
// Random numbers in memory like the arena's; the same million again and again.
template <class F> F* make(size_t n, float scale = 1) {
    std::vector<F> values(n);
    parallel_blocks(n, 1 << 16, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; i++) values[i] = F(scale * (uniform(philox(1, RNG_TEST, 0, i % 1000003).x[0]) - 0.5f));
    });
    return on_device(values);
}

static double g_copy_rate, g_budget;

// A call of a layer, and its minimum traffic.
#define CALL(layer, ...) minimum_traffic::layer(__VA_ARGS__), [&] { layer(__VA_ARGS__); }

template <class F> void bench(Results& results, const char* type, int B, int T) {
    const int C = 768, NH = 12, V = 50257, Vp = 50304, chunk = ON_GPU ? 2048 : 256;
    const size_t N = (size_t)B * T, n = (size_t)12 * 12 * C * C;
    const double peak = measure_peak_flops<F>(0.2);
    const size_t workspace = workspace_bytes(N, C, 4 * C, Vp);
    const stream_t stream = open_stream({.workspace = device_alloc(workspace), .workspace_bytes = workspace, .kernels = {.tf32 = true}, .autotuning = true});
    auto row = [&](const char* layer, double flops, double bytes, auto call) {
        const double s = median_seconds(g_budget, stream, call), limit = std::max(flops / peak, bytes / g_copy_rate);
        printf("%-5s %-28s %9.3f ms %7.1f GFLOP/s (%3.0f%%) %7.2f GB/s (%3.0f%%)  limit %.3f ms\n", type, layer, 1e3 * s, flops / s / 1e9,
               100 * flops / s / peak, bytes / s / 1e9, 100 * bytes / s / g_copy_rate, 1e3 * limit);
        results.add(format("\"layer\": \"%s\", \"precision\": \"%s\", \"batch\": %d, \"seq\": %d, \"ms\": %.4f, \"gflops\": %.2f, \"gbs\": %.3f, "
                           "\"peak_gflops\": %.1f, \"copy_gbs\": %.2f", layer, type, B, T, 1e3 * s, flops / s / 1e9, bytes / s / 1e9, peak / 1e9, g_copy_rate / 1e9));
    };
    printf("%s: %s, %s, peak %.1f GFLOP/s, copy %.2f GB/s, B=%d T=%d C=%d\n", type, device_name().c_str(), gemm_path<F>().c_str(), peak / 1e9,
           g_copy_rate / 1e9, B, T, C);

    F *x = make<F>(N * 4 * C), *y = make<F>(N * 4 * C), *z = make<F>(N * 4 * C), *w = make<F>((size_t)Vp * C, 0.1f), *qkv = make<F>(N * 3 * C);
    float *dw = make<float>((size_t)Vp * C), *mean = make<float>(N), *rstd = make<float>(N), *lse = make<float>(N * NH), *dbias = make<float>(4 * C);
    const Heads heads{NH, NH, C / NH};
    float* scratch = make<float>(attention_scratch(B, T, heads));
    std::vector<int> ids(N);
    for (size_t i = 0; i < N; i++) ids[i] = (int)(philox(2, RNG_TEST, 0, i).x[0] % (unsigned)V);

    int* tokens = on_device(ids);
    minimum_traffic::g_tokens = (double)std::set<int>(ids.begin(), ids.end()).size();

    row("embedding forward", 0, CALL(embedding_forward, x, tokens, w, w, B, T, C, 0, stream));
    row("embedding backward", 0, CALL(embedding_backward, dw, dw, x, tokens, B, T, C, 1024, true, stream));
    row("layernorm forward", 0, CALL(layernorm_forward, y, mean, rstd, x, w, w, N, C, 1e-5f, stream));
    row("residual + layernorm", 0, CALL(residual_layernorm_forward, z, y, mean, rstd, x, y, w, w, N, C, 1e-5f, stream));
    row("layernorm backward", 0, CALL(layernorm_backward, z, dw, dbias, y, x, mean, rstd, w, N, C, {.accumulate = true, .add_to_dinp = true}, stream));
    struct Linear { const char* name; int in, out; };
    for (const Linear& l : std::vector<Linear>{{"qkv", C, 3 * C}, {"attproj", C, C}, {"fc", C, 4 * C}, {"fcproj", 4 * C, C}}) {
        double flops = 2.0 * N * l.in * l.out;
        std::string s = l.name;
        row((s + " forward").c_str(), flops, CALL(matmul_forward, y, x, w, w, N, l.in, l.out, {}, stream));
        row((s + " backward input").c_str(), flops, CALL(matmul_backward_input, y, x, w, N, l.in, l.out, {}, stream));
        row((s + " backward weight").c_str(), flops, CALL(matmul_backward_weight, dw, dbias, x, y, N, l.in, l.out, true, stream));
    }
    row("fc + gelu forward", 2.0 * N * C * 4 * C, CALL(matmul_forward, y, x, w, w, N, C, 4 * C, {.pre_gelu = z}, stream));
    row("gelu backward", 0, CALL(gelu_backward, z, y, x, N * 4 * C, stream));
    row("relu2 forward", 0, CALL(relu2_forward, y, x, N * 4 * C, stream));
    row("relu2 backward", 0, CALL(relu2_backward, z, y, x, N * 4 * C, stream));
    row("fcproj + gelu backward input", 2.0 * N * C * 4 * C, CALL(matmul_backward_input, y, x, w, N, 4 * C, C, {.pre_gelu = z}, stream));
    const int* no_starts = nullptr;
    row("attention forward", 2.0 * N * T * C, CALL(attention_forward, y, lse, qkv, no_starts, B, T, heads, stream));
    row("attention backward", 5.0 * N * T * C, CALL(attention_backward, z, x, y, lse, qkv, no_starts, scratch, B, T, heads, stream));
    if (const std::string path = attention_path<F>({}); !path.empty()) printf("%s: attention %s\n", type, path.c_str());

    const Heads grouped{9, 3, 64};
    const int CL = grouped.q(), FF = 1536;
    F* no_weights = nullptr;
    std::vector<float> cos_sin((size_t)T * 64);  // of true angles: what is rotated in place again and again keeps its size
    for (size_t i = 0; i < cos_sin.size(); i++) cos_sin[i] = i % 64 < 32 ? std::cos((float)(i / 64)) : std::sin((float)(i / 64));
    const float* angles = on_device(cos_sin);
    float *no_mean = nullptr, *no_gradients = nullptr;
    row("rmsnorm forward", 0, CALL(layernorm_forward, y, no_mean, rstd, x, w, no_weights, N, CL, 1e-5f, stream));
    row("residual + rmsnorm", 0, CALL(residual_layernorm_forward, z, y, no_mean, rstd, x, y, w, no_weights, N, CL, 1e-5f, stream));
    row("rmsnorm backward", 0, CALL(layernorm_backward, z, dw, no_gradients, y, x, no_mean, rstd, w, N, CL, {.accumulate = true, .add_to_dinp = true}, stream));
    row("rope", 0, CALL(rope_forward, qkv, qkv, no_weights, no_weights, angles, B, T, 0, grouped, 1e-5f, stream));
    row("rope backward", 0, CALL(rope_backward, qkv, no_gradients, no_gradients, qkv, no_weights, no_weights, no_weights, angles, B, T, grouped, 1e-5f, true, stream));
    row("rope with norms of heads", 0, CALL(rope_forward, y, qkv, w, w, angles, B, T, 0, grouped, 1e-5f, stream));
    row("rope with norms backward", 0, CALL(rope_backward, z, dw, dbias, y, qkv, w, w, angles, B, T, grouped, 1e-5f, true, stream));
    row("swiglu forward", 0, CALL(swiglu_forward, y, x, N, FF, stream));
    row("swiglu backward", 0, CALL(swiglu_backward, z, y, x, N, FF, stream));

    F* logits = make<F>((size_t)chunk * Vp);
    float *losses = make<float>((size_t)chunk), *no_bias = nullptr;
    ids.resize((size_t)chunk);
    int* targets = on_device(ids);
    double head = 2.0 * chunk * C * Vp;
    row("head forward, a chunk", head, CALL(matmul_forward, logits, x, w, (const F*)nullptr, chunk, C, Vp, {}, stream));
    row("classifier, a chunk", 0, CALL(fused_classifier, logits, losses, targets, 1e-3f, (size_t)chunk, V, Vp, {.write_dlogits = true}, stream));
    row("head backward input", head, CALL(matmul_backward_input, y, logits, w, chunk, C, Vp, {}, stream));
    row("head backward weight", head, CALL(matmul_backward_weight, dw, no_bias, logits, x, chunk, C, Vp, true, stream));

    constexpr bool narrow = !std::is_same_v<F, float>;
    F* params = make<F>(n);
    float *master = narrow ? make<float>(n) : nullptr, *grads = make<float>(n), *m = make<float>(n), *v = make<float>(n);
    zero(v, n * sizeof(float), stream);
    Segment* all = on_device(std::vector<Segment>{{0, n, 1}});
    StepStats* step_stats = on_device(std::vector<StepStats>{{.loss = 0, .norm = 0, .z = 0, .scale = 1, .skip = APPLIED}});
    std::vector<Chunk> list;
    for (size_t at = 0; at < n; at += CHUNK) list.push_back({at, std::min(CHUNK, n - at)});
    const Chunk* chunks = on_device(list);
    double* squares = make<double>(list.size());
    const AdamW hyper{.lr = 1e-4f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .t = 1, .seed = 1};
    row("global norm, 85M", 0, CALL(sum_gradients, grads, squares, (float*)nullptr, 0, 1, chunks, list.size(), (size_t)0, n, stream));
    row("AdamW, 85M", 0, CALL(adamw_update, params, master, grads, m, v, all, 1, step_stats, n, hyper, stream));
}

int main(int argc, char** argv) {
    const int B = argc > 2 ? atoi(argv[2]) : 4, T = argc > 3 ? atoi(argv[3]) : 64;
    g_budget = argc > 4 ? atof(argv[4]) : 0.3;
    if (argc < 2 || B < 1 || T < 1 || g_budget <= 0) die_with(EXIT_USAGE, "usage: bench_layers RESULTS.jsonl [batch] [seq] [seconds a layer]");
    Results results(argv[1], ON_GPU ? device_name() : cpu_name());
    const size_t n = (size_t)(device_memory(1) > 0x1p33 ? 64 : 1) << 20;
    float *from = make<float>(n), *to = make<float>(n);
    const stream_t stream = open_stream({});
    g_copy_rate = 8.0 * (double)n / median_seconds(1, stream, [&] { copy_on_device(to, from, n * sizeof(float), stream); });
    bench<float>(results, "fp32", B, T);
    bench<bf16>(results, "bf16", B, T);
}
