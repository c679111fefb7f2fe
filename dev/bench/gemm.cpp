// gemm.cpp: the matrix products of GPT-2 124M, in GFLOP/s, against the peak that the multipliers reach in the cache and,
// if built with oneDNN, against its matmul on the same operands in the same run, alternating.
//
//   g++ -std=c++20 -O3 -march=native -fno-math-errno -fno-trapping-math -pthread dev/bench/gemm.cpp -o build/bench_gemm
//   ... with oneDNN: add  -DWITH_ONEDNN -ldnnl
//   build/bench_gemm [seconds a product, default 0.5] [fp32 | bf16] [forward | input | weight]
//
// Columns: best of all repetitions, and in brackets the median. The ratio is best to best, and median to median.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
#include "../../llmc/cpu/matmul.h"
#ifdef WITH_ONEDNN
#include <dnnl.hpp>
#endif

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class F> struct Buffer {  // on huge pages, as the trainer's arena is
    F* data;
    size_t n;
    explicit Buffer(size_t count) : n(count) {
        size_t bytes = (n * sizeof(F) + (2 << 20) - 1) >> 21 << 21;
        data = (F*)aligned_alloc(2 << 20, bytes);
        madvise(data, bytes, MADV_HUGEPAGE);
        uint32_t x = 1;
        for (size_t i = 0; i < n; i++) x = x * 1664525 + 1013904223, data[i] = F((float)(x >> 8) / (1 << 24) - 0.5f);
    }
    ~Buffer() { free(data); }
    Buffer(const Buffer&) = delete;
};

#ifdef WITH_ONEDNN
// c (m, n) = a (m, k) @ b (k, n), each with its two strides.
template <class F> constexpr auto TYPE = std::is_same_v<F, bf16> ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
struct OneDnn {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    dnnl::matmul product;
    dnnl::memory a, b, c;
    template <class A, class B, class C>
    OneDnn(A* pa, long a_row, long a_col, B* pb, long b_row, long b_col, C* pc, long m, long n, long k) {
        dnnl::memory::desc da({m, k}, TYPE<A>, {a_row, a_col}), db({k, n}, TYPE<B>, {b_row, b_col}), dc({m, n}, TYPE<C>, {n, 1});
        product = dnnl::matmul({dnnl::matmul::desc(da, db, dc), engine});
        a = dnnl::memory(da, engine, pa), b = dnnl::memory(db, engine, pb), c = dnnl::memory(dc, engine, pc);
    }
    void operator()() {
        product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
        stream.wait();
    }
};
#else
struct OneDnn {
    template <class... Args> OneDnn(Args...) {}
    void operator()() {}
};
#endif
#ifdef WITH_ONEDNN
constexpr bool ONEDNN = true;
#else
constexpr bool ONEDNN = false;
#endif

struct Rate { double best, median; };
struct Samples {
    std::vector<double> seconds;
    template <class Body> void take(Body&& body) {
        double start = now();
        body();
        seconds.push_back(now() - start);
    }
    Rate rate(double flops) {
        std::sort(seconds.begin(), seconds.end());
        return {flops / seconds.front() / 1e9, flops / seconds[seconds.size() / 2] / 1e9};
    }
};

static double g_seconds = 0.5, g_log_ratio = 0;
static int g_ratios = 0;

template <class Ours> void compare(const char* name, size_t N, int OC, int C, double peak, Ours&& ours, OneDnn&& theirs) {
    Samples us, them;
    ours(), theirs();  // page faults, plans
    for (double end = now() + g_seconds; now() < end || us.seconds.size() < 3;) {
        us.take(ours);
        if (ONEDNN) them.take(theirs);
    }
    double flops = 2.0 * (double)N * OC * C;
    Rate r = us.rate(flops);
    printf("%-9s %5zu %6d %5d  %6.0f (%5.0f) %5.0f %%", name, N, OC, C, r.best, r.median, 100 * r.median * 1e9 / peak);
    if (ONEDNN) {
        Rate t = them.rate(flops);
        printf("   %6.0f (%5.0f)   %5.2f (%4.2f)", t.best, t.median, r.best / t.best, r.median / t.median);
        g_log_ratio += std::log(r.median / t.median), g_ratios++;
    }
    printf("\n");
    fflush(stdout);
}

template <class F> void bench(const char* type, const std::string& only) {
    double peak = measure_peak_flops<F>(0.2);
    printf("\n%s by %s, %d threads: %.0f GFLOP/s in cache\n", type, gemm_path<F>().c_str(), max_threads(), peak / 1e9);
    printf("product       N     OC     C    GFLOP/s (med.)  of peak%s\n", ONEDNN ? "   oneDNN           ratio" : "");
    for (size_t N : {256, 2048})
        for (auto [OC, C] : {std::pair{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}, {50304, 768}}) {
            size_t n = N;
            int oc = OC, c = C;
            Buffer<F> inp(n * c), weight((size_t)oc * c), act(n * oc), dinp(n * c);
            Buffer<float> dweight((size_t)oc * c);
            if (only.empty() || only == "forward")
                compare("forward", n, oc, c, peak,
                        [&] { matmul_forward<F>(act.data, inp.data, weight.data, nullptr, n, c, oc, {}, {}); },
                        OneDnn(inp.data, c, 1l, weight.data, 1l, c, act.data, (long)n, oc, c));
            if (only.empty() || only == "input")
                compare("input", n, oc, c, peak,
                        [&] { matmul_backward_input<F>(dinp.data, act.data, weight.data, n, c, oc, {}, {}); },
                        OneDnn(act.data, oc, 1l, weight.data, c, 1l, dinp.data, (long)n, c, oc));
            if (only.empty() || only == "weight")
                compare("weight", n, oc, c, peak,
                        [&] { matmul_backward_weight<F>(dweight.data, nullptr, act.data, inp.data, n, c, oc, false, {}); },
                        OneDnn(act.data, 1l, oc, inp.data, c, 1l, dweight.data, oc, c, (long)n));
        }
    if (g_ratios) printf("geometric mean of the median ratios: %.2f\n", std::exp(g_log_ratio / g_ratios));
    g_log_ratio = 0, g_ratios = 0;
}

int main(int argc, char** argv) {
    if (argc > 1) g_seconds = atof(argv[1]);
    std::string type = argc > 2 ? argv[2] : "", only = argc > 3 ? argv[3] : "";
    if (type != "bf16") bench<float>("fp32", only);
    if (type != "fp32") bench<bf16>("bf16", only);
}
