#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/matmul.h"
}
#include "../../llmc/cuda/peak.cuh"

namespace {
struct Shape { size_t N; int C, OC; };
const std::vector<Shape> SHAPES = {{1, 8, 8}, {7, 48, 144}, {33, 64, 40}, {64, 128, 256}, {5, 520, 24}, {130, 16, 16}};

// Every product by cuBLASLt with its epilogues and, emulated, without them.
template <class Body> void with_and_without_epilogues(Body body) {
    body();
#ifdef CUBLAS_STAND_IN
    for (auto& [shape, plan] : matmul_detail::plans()) if (plan.algorithms.empty()) FAIL("no plan for %s", shape.text().c_str());  // it has all
    matmul_detail::plans().clear();
    emu::only_plain_epilogues() = true;
    body();
    matmul_detail::plans().clear();
    emu::only_plain_epilogues() = false;
#endif
}

template <class F> struct Case {
    size_t N;
    int C, OC;
    std::vector<F> x, w, b, d, old, pre;
    std::vector<float> dw, db;
    Case(Random& r, Shape s, bool integers) : N(s.N), C(s.C), OC(s.OC) {
        auto values = [&](size_t n) { return integers ? small_integers<F>(r, n) : normal_values<F>(r, n); };
        x = values(N * (size_t)C), w = values((size_t)OC * (size_t)C), b = values((size_t)OC), d = values(N * (size_t)OC);
        old = values(N * (size_t)C), pre = values(N * (size_t)C);
        dw = small_integers<float>(r, (size_t)OC * (size_t)C), db = small_integers<float>(r, (size_t)OC);
    }
};
// Sums of k products in any two orders: each within k 2^-24 of the sum of the terms' sizes, which is below 2k for these
// values; relative to sqrt(k), the size of the result.
double sums(size_t k) { return 2 * std::sqrt((double)k) * 2 * 0x1p-24 * 4; }

#ifdef CUBLAS_STAND_IN
void forget_plans() { matmul_detail::plans().clear(), matmul_detail::autotune_cache().clear(); }
// A weight's gradient and a bias's: a product, and what its epilogue sums.
struct Gradients {
    static constexpr size_t N = 40;
    static constexpr int C = 16, OC = 24;
    std::vector<bf16> d, x;
    std::vector<float> expected = std::vector<float>((size_t)OC);  // the bias's
    TestStream stream;
    OnDevice<bf16> dout, inp;
    explicit Gradients(Random r) : d(small_integers<bf16>(r, N * OC)), x(small_integers<bf16>(r, N * C)), stream(matmul_workspace(4 * OC)), dout(d), inp(x) {
        for (size_t i = 0; i < d.size(); i++) expected[i % OC] += (float)d[i];
    }
    void run(float* dweight, float* dbias) { matmul_backward_weight(dweight, dbias, dout.data(), inp.data(), N, C, OC, false, stream); }
    // The bias's gradient, at so many floats behind the beginning of a row of the arena.
    std::vector<float> bias(size_t skip = 0) {
        OnDevice<float> dweight((size_t)OC * C), dbias(skip + OC);
        if (skip) dbias.set(std::vector<float>(skip + OC));
        run(dweight.data(), dbias.data() + skip);
        dweight.written();
        const std::vector<float> all = dbias.written();
        return {all.begin() + (long)skip, all.end()};
    }
    void weight() {
        OnDevice<float> dweight((size_t)OC * C);
        run(dweight.data(), nullptr);
        dweight.written();
    }
};
const matmul_detail::GemmPlan& plan_of(cublasLtEpilogue_t epilogue) {
    for (auto& [shape, plan] : matmul_detail::plans()) if (shape.epilogue == epilogue) return plan;
    FAIL("no plan with the epilogue");
    return matmul_detail::plans().begin()->second;
}
#endif
}  // namespace

// While a stream tunes, the fastest algorithm of those that the library proposes is found, and kept.
TEST(cuda_matmul_tunes) {
#ifndef CUBLAS_STAND_IN
    SKIP("which algorithm is fastest is known of the stand-in only");
#else
    TestStream stream(matmul_workspace(2080));
    matmul_detail::plans().clear();
    OnDevice<float> out(24 * 16), x(24 * 8), w(16 * 8);
    auto ticks = [&] {
        matmul_forward(out.data(), x.data(), w.data(), (const float*)nullptr, 24, 8, 16, {}, stream);
        emu::Algorithm algorithm;
        memcpy(&algorithm, &matmul_detail::plans().begin()->second.algorithms[0], sizeof algorithm);
        return algorithm.ticks;
    };
    EXPECT_EQ(ticks(), 3u);  // the library's first choice
    stream.stream.autotuning = true;
    EXPECT_EQ(ticks(), 1u);
    EXPECT_EQ(matmul_detail::plans().begin()->second.algorithms.size(), (size_t)1);
    stream.stream.autotuning = false;
    matmul_detail::plans().clear();
    EXPECT_EQ(ticks(), 1u);  // known by now
    forget_plans();
#endif
}

// While a stream tunes, an epilogue is compared with doing without it, both ways give the same, and the slower is not taken again; a choice
// read from a file is not measured again.
TEST(cuda_matmul_epilogues_are_compared) {
#ifndef CUBLAS_STAND_IN
    SKIP("which is faster is known of the stand-in only");
#else
    Gradients g(Random(7));
    auto plan = []() -> const matmul_detail::GemmPlan& { return plan_of(CUBLASLT_EPILOGUE_BGRADB); };
    forget_plans();
    EXPECT(same_bits(g.bias(), g.expected));
    EXPECT(!plan().compared && plan().algorithms.size() > 1);
    for (double cost : {0.0, 1e3}) {  // of what stands in for the epilogue, in ms of the emulated clock
        forget_plans();
        emu::epilogue_cost() = cost;
        g.stream.stream.autotuning = true;
        EXPECT(same_bits(g.bias(), g.expected));
        g.stream.stream.autotuning = false;
        EXPECT(plan().compared && plan().algorithms.empty() == (cost > 0));
        std::vector<std::string> used;  // of the slower way nothing
        matmul_detail::autotune_cache().list(used);
        EXPECT_EQ(used.size(), (size_t)(cost > 0 ? 2 : 1));
        const int measured = matmul_detail::autotune_cache().measured;
        matmul_detail::plans().clear();
        g.stream.stream.autotuning = true;
        EXPECT(same_bits(g.bias(), g.expected));
        g.stream.stream.autotuning = false;
        EXPECT(plan().compared && plan().algorithms.empty() == (cost > 0));
        EXPECT_EQ(matmul_detail::autotune_cache().measured, measured);
    }
    emu::epilogue_cost() = 0;
    forget_plans();
#endif
}

// cuBLASLt may refuse an algorithm that its heuristic proposed: then the next algorithm is called, or a kernel of its own does the epilogue;
// one line says so, and only a product without any algorithm ends the run.
TEST(cuda_matmul_refused_when_called) {
#ifndef CUBLAS_STAND_IN
    SKIP("the library refuses on request in its stand-in only");
#else
    Gradients g(Random(9));
    auto run = [&](bool biased) { if (biased) EXPECT(same_bits(g.bias(), g.expected)); else g.weight(); };
    auto expect = [&](int code, const char* says, int lines, auto body) {
        forget_plans();
        const Outcome o = run_child([&] { g_failures = 0; body(); if (g_failures) exit(3); });
        const int said = (int)std::count(o.output.begin(), o.output.end(), '\n');
        if (o.code != code || o.output.find(says) == std::string::npos || said != lines) FAIL("expected code %d and \"%s\": code %d: %s", code, says, o.code, o.output.c_str());
    };
    for (bool autotuning : both()) for (int proposals : {1, 2}) {
        g.stream.stream.autotuning = autotuning, emu::proposals() = proposals;
        for (unsigned first : {1u, 2u}) if (proposals == 2) {  // one of two
            emu::refused_algorithms() = first;
            // an algorithm that is not reached is not tried, unless all are
            const bool reached = autotuning || first == 1;
            expect(0, reached ? "CUBLAS_STATUS_NOT_SUPPORTED: a product of (16, 40) x (40, 24), bf16 to fp32, epilogue 1, alignment 128: 1 of its algorithms are left out" : "", reached, [&] { run(false), run(false); });
        }
        emu::refused_algorithms() = 3;
        expect(1, "error: cublasLtMatmul: CUBLAS_STATUS_NOT_SUPPORTED: a product of (16, 40)", 1, [&] { run(false); });
        emu::refused_algorithms() = 0, emu::refused_epilogues() = true;
        expect(0, "epilogue 512, alignment 128: what its epilogue does is done by kernels of its own", 1, [&] { run(true), run(true); });
        emu::refused_epilogues() = false;
    }
    // what another run chose and this library does not take, or did without where there is no doing without
    g.stream.stream.autotuning = false, emu::proposals() = 2;
    forget_plans(), run(false);
    const auto [shape, plan] = std::pair(matmul_detail::plans().begin()->first, matmul_detail::plans().begin()->second.algorithms[0]);
    for (bool none : both())
        expect(0, none ? "" : "2 of its algorithms are left out", !none, [&] {  // the one from the file, and the same again
            matmul_detail::autotune_cache().known[shape] = {none ? std::nullopt : std::optional(plan)};
            emu::refused_algorithms() = none ? 0 : 1;
            run(false);
        });
    emu::refused_algorithms() = 0;
    forget_plans();
#endif
}

// What another run chose goes before what is measured or in the autotune cache, and does not get into it; what is not of this library and GPU, or
// refused, is counted.
TEST(cuda_matmul_takes_choices) {
#ifndef CUBLAS_STAND_IN
    SKIP("which algorithm is fastest is known of the stand-in only");
#else
    auto& cache = matmul_detail::autotune_cache();
    const std::string folder = BUILD "/tmp/choices";
    remove_tree(folder), make_folders(folder);
    Gradients g(Random(11));
    const auto autotune_quietly = [&] {
        matmul_detail::plans().clear();
        g.stream.stream.autotuning = true, g.weight(), g.stream.stream.autotuning = false;
    };
    const auto autotune = [&] {
        autotune_quietly();
        std::vector<std::string> lines;
        cache.list(lines);
        EXPECT_EQ(lines.size(), (size_t)1);
        return lines.empty() ? "" : lines[0];
    };
    forget_plans();
    const std::string faster = autotune();  // than the heuristic's first
    EXPECT(faster.starts_with("cublaslt-130000-emulated-GPU 16 24 40 0 1 14 0 1 0 128 "));
    cache.save(folder);
    const std::string file = read_file(cache.path(folder));
    forget_plans(), g.weight();
    cache.store(matmul_detail::plans().begin()->first, matmul_detail::plans().begin()->second.algorithms[0]), cache.use(matmul_detail::plans().begin()->first);
    std::vector<std::string> lines;
    cache.list(lines);
    const std::string slower = lines[0];
    EXPECT(slower != faster);
    for (bool give_first : both()) {
        forget_plans();
        if (!give_first) cache.load(folder);
        EXPECT(cache.give(slower));
        cache.load(folder);
        EXPECT_STR(autotune(), slower);
        EXPECT(cache.measured == 0 && cache.refused == 0);
        cache.store({}, std::nullopt);  // another shape that is measured
        cache.save(folder);
        const std::string now = read_file(cache.path(folder));
        EXPECT(now.find(file) != now.npos && now.size() > file.size());
        write_file_atomically(cache.path(folder), file);
    }
    // refused before the call, and by it: the algorithm is measured anew, and the one refused is counted
    forget_plans();
    std::string other = slower;
    other[other.rfind(' ') + 1 + 2 * 8] ^= 1;  // of another problem
    EXPECT(cache.give(other));
    EXPECT_STR(autotune(), faster);
    EXPECT(cache.refused == 1 && cache.measured == 1);
    forget_plans();
    EXPECT(cache.give(slower));
    emu::refused_algorithms() = 1;
    EXPECT_STR(run_child([&] { autotune_quietly(), printf("%d of those given, %zu known\n", cache.refused, cache.known.size()); }).output,
               "cublasLtMatmul: CUBLAS_STATUS_NOT_SUPPORTED: a product of (16, 40) x (40, 24), bf16 to fp32, epilogue 1, alignment 128: 2 of its algorithms are left out\n1 of those given, 0 known\n");
    emu::refused_algorithms() = 0;
    // of another library, version or GPU, or not to be read
    forget_plans();
    for (std::string line : {"cublaslt-130100-emulated-GPU" + faster.substr(faster.find(' ')), "attention-130000-emulated-GPU" + faster.substr(faster.find(' ')), faster.substr(0, faster.size() - 1),
                             std::string("cublaslt-130000-emulated-GPU"), std::string()}) EXPECT(!cache.give(line));
    EXPECT(cache.known.empty());
#endif
}

#ifdef CUBLAS_STAND_IN
// A bias's gradient may begin at any 16 bytes: the plan is made for such a place, and the epilogue is not refused there.
TEST(cuda_matmul_bias_gradient_at_16_bytes) {
    Gradients g(Random(10));
    forget_plans();
    const Outcome o = run_child([&] {
        g_failures = 0;
        EXPECT(same_bits(g.bias(16 / sizeof(float)), g.expected));
        EXPECT(!plan_of(CUBLASLT_EPILOGUE_BGRADB).algorithms.empty());
        if (g_failures) exit(3);
    });
    if (o.code || !o.output.empty()) FAIL("code %d: %s", o.code, o.output.c_str());
}

// Nothing is put into a capture that is invalid, and the product does not say that it was.
TEST(cuda_matmul_in_an_invalid_capture) {
    Gradients g(Random(11));
    OnDevice<float> dweight((size_t)g.OC * g.C);
    g.weight();
    const Outcome o = run_child([&] {
        CUDA_CHECK(cudaStreamBeginCapture(g.stream.stream, cudaStreamCaptureModeRelaxed));
        cudaStreamSynchronize(g.stream.stream);
        g.run(dweight.data(), nullptr);
    });
    if (o.code != 1 || o.output.find("cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED: a product") == std::string::npos) FAIL("code %d: %s", o.code, o.output.c_str());
}
#endif

TEST_BOTH(cuda_matmul_forward) {
    TestStream stream(matmul_workspace(2080));  // of the largest shape
    Random r(1);
    for (Shape shape : SHAPES) for (bool integers : both()) {
        Case<F> s(r, shape, integers);
        for (int how = 0; how < 4; how++) {
            const bool biased = how % 2 == 1, gelu = how >= 2;
            std::vector<F> out(s.N * (size_t)s.OC), pre(gelu ? out.size() : 0);
            cpu::matmul_forward(out.data(), s.x.data(), s.w.data(), biased ? s.b.data() : nullptr, s.N, s.C, s.OC, {.pre_gelu = gelu ? pre.data() : nullptr}, {});
            for (bool fused : both()) with_and_without_epilogues([&] {
                std::vector<F> got_pre;
                auto got = for_schedules([&] {
                    OnDevice<F> x(s.x), w(s.w), b(s.b), o(out.size()), p(pre.size());
                    stream.stream.kernels.gelu_fusion = fused;
                    matmul_forward(o.data(), x.data(), w.data(), biased ? b.data() : nullptr, s.N, s.C, s.OC, {.pre_gelu = gelu ? p.data() : nullptr}, stream);
                    got_pre = gelu ? p.written() : std::vector<F>();
                    return o.written();
                });
                const double bound = 2 * half_ulp<F>() + sums((size_t)s.C);
                EXPECT_CLOSE(got_pre.data(), pre.data(), pre.size(), bound);
                EXPECT_CLOSE(got.data(), out.data(), out.size(), bound + (gelu ? 2 * half_ulp<F>() + 150 * 0x1p-24 : 0));
                if (integers) EXPECT(same_bits(gelu ? got_pre : got, gelu ? pre : out));
            });
        }
    }
}

TEST_BOTH(cuda_matmul_backward_input) {
    TestStream stream(matmul_workspace(2080));  // of the largest shape
    Random r(2);
    for (Shape shape : SHAPES) for (bool integers : both()) {
        Case<F> s(r, shape, integers);
        for (int how = 0; how < 3; how++) {  // plain, accumulated, through GELU
            std::vector<F> dinp = s.old;
            cpu::matmul_backward_input(dinp.data(), s.d.data(), s.w.data(), s.N, s.C, s.OC, {.pre_gelu = how == 2 ? s.pre.data() : nullptr, .accumulate = how == 1}, {});
            with_and_without_epilogues([&] {
                auto got = for_schedules([&] {
                    OnDevice<F> d(s.d), w(s.w), pre(s.pre), o(s.old.size());
                    if (how == 1) o.set(s.old);
                    matmul_backward_input(o.data(), d.data(), w.data(), s.N, s.C, s.OC, {.pre_gelu = how == 2 ? pre.data() : nullptr, .accumulate = how == 1}, stream);
                    return o.written();
                });
                // without the epilogue the product is rounded to F before GELU's derivative: one rounding more
                EXPECT_CLOSE(got.data(), dinp.data(), dinp.size(), 3 * half_ulp<F>() + sums((size_t)s.OC) + (how == 2 ? 300 * 0x1p-24 : 0));
                if (integers && how < 2) EXPECT(same_bits(got, dinp));
            });
        }
    }
}

TEST_BOTH(cuda_matmul_backward_weight) {
    TestStream stream(matmul_workspace(2080));  // of the largest shape
    Random r(3);
    for (Shape shape : SHAPES) for (bool integers : both()) {
        Case<F> s(r, shape, integers);
        for (int how = 0; how < 4; how++) {
            const bool accumulate = how % 2 == 1, biased = how < 2;
            std::vector<float> dw = s.dw, db = s.db, got_db;
            cpu::matmul_backward_weight(dw.data(), biased ? db.data() : nullptr, s.d.data(), s.x.data(), s.N, s.C, s.OC, accumulate, {});
            with_and_without_epilogues([&] {
                auto got = for_schedules([&] {
                    OnDevice<F> d(s.d), x(s.x);
                    OnDevice<float> w(dw.size()), b(db.size());
                    if (accumulate) w.set(s.dw), b.set(s.db);
                    matmul_backward_weight(w.data(), biased ? b.data() : nullptr, d.data(), x.data(), s.N, s.C, s.OC, accumulate, stream);
                    got_db = biased ? b.written() : std::vector<float>();
                    return w.written();
                });
                EXPECT_CLOSE(got.data(), dw.data(), dw.size(), sums(s.N) + 0x1p-23);
                if (biased) EXPECT_NEAR(got_db.data(), db.data(), db.size(), sums(s.N) * std::sqrt((double)s.N * s.OC) + 0x1p-23 * norm(db));
                if (integers) EXPECT(same_bits(got, dw) && (!biased || same_bits(got_db, db)));
            });
        }
    }
}

// Sums over rows: fewer than warps, many parts of a row a warp, and parts of several (9001); what is written is written once.
TEST_BOTH(cuda_sum_columns) {
    Random r(8);
    for (auto [N, n] : std::vector<std::pair<size_t, int>>{{1, 8}, {7, 256}, {8, 264}, {9, 40}, {300, 16}, {2500, 520}, {9001, 8}}) for (bool accumulate : both()) {
        std::vector<F> x = small_integers<F>(r, N * (size_t)n);
        std::vector<float> old = small_integers<float>(r, (size_t)n), sums = accumulate ? old : std::vector<float>((size_t)n);
        for (size_t i = 0; i < x.size(); i++) sums[i % (size_t)n] += (float)x[i];
        OnDevice<F> device(x);
        OnDevice<float> parts(column_sums_workspace(n) / sizeof(float));
        TestStream stream;
        EXPECT(same_bits(for_schedules([&] {
            OnDevice<float> to((size_t)n);
            if (accumulate) to.set(old);
            sum_columns(to.data(), device.data(), parts.data(), N, n, accumulate, stream);
            parts.check_margins();
            return to.written();
        }), sums));
    }
}

// A long sum, one row, and pointers that are aligned to 16 bytes only.
TEST_BOTH(cuda_matmul_odd_places) {
    Random r(4);
    const int C = 4096, OC = 16;
    std::vector<F> x = small_integers<F>(r, 3 * C), w = small_integers<F>(r, (size_t)OC * C), out((size_t)OC);
    const size_t skip = 16 / sizeof(F);
    cpu::matmul_forward(out.data(), x.data() + skip, w.data(), (const F*)nullptr, 1, C, OC, {}, {});
    OnDevice<F> dx(x), dw(w), o((size_t)OC);
    TestStream stream(matmul_workspace(4 * C));
    matmul_forward(o.data(), dx.data() + skip, dw.data(), (const F*)nullptr, 1, C, OC, {}, stream);
    EXPECT(same_bits(o.written(), out));
    EXPECT_REFUSED("not aligned to 16 bytes", matmul_forward(o.data(), dx.data() + 1, dw.data(), (const F*)nullptr, 1, C, OC, {}, stream));
    EXPECT_REFUSED("bytes of workspace", matmul_forward(o.data(), dx.data(), dw.data(), (const F*)nullptr, 1, C, OC, {}, TestStream(64)));
    EXPECT_REFUSED("cuBLASLt has no algorithm", matmul_forward(o.data(), dx.data(), dw.data(), (const F*)nullptr, 1, 0, OC, {}, stream));
}

// A plan is made once: for other pointers of the same alignment it serves again, for less aligned ones it does not.
TEST_BOTH(cuda_matmul_plans) {
    Random r(5);
    const int C = 32, OC = 16, N = 3;
    const size_t skip = 16 / sizeof(F);
    std::vector<F> x = small_integers<F>(r, N * C), w = small_integers<F>(r, OC * C), b = small_integers<F>(r, OC + skip), out(N * OC);
    TestStream stream(matmul_workspace(4 * C));
    OnDevice<F> dx(x), dw(w), db(b);
    matmul_detail::plans().clear();
    auto forward = [&](const F* bias, const F* device_bias, size_t plans) {
        OnDevice<F> o(out.size());
        cpu::matmul_forward(out.data(), x.data(), w.data(), bias, N, C, OC, {}, {});
        matmul_forward(o.data(), dx.data(), dw.data(), device_bias, N, C, OC, {}, stream);
        EXPECT(same_bits(o.written(), out));
        EXPECT_EQ(matmul_detail::plans().size(), plans);
    };
    forward(b.data(), db.data(), 1), forward(b.data(), db.data(), 1);
    forward(b.data() + skip, db.data() + skip, 2), forward(nullptr, nullptr, 3), forward(b.data(), db.data(), 3);
}

// TF32 drops 13 of a factor's 23 bits behind the point: by rounding or by cutting off, a factor moves by 2^-10 of itself at
// most, so a term by 2^-9, and errors of terms add up as the terms do. It is used where the stream says so, and only there.
TEST(cuda_matmul_tf32) {
    Random r(6);
    const size_t N = 64;
    const int C = 256, OC = 64;
    std::vector<float> x = normal_values<float>(r, N * C), w = normal_values<float>(r, (size_t)OC * C), out(N * OC);
    cpu::matmul_forward(out.data(), x.data(), w.data(), (const float*)nullptr, N, C, OC, {}, {});
    for (bool tf32 : both()) {
        TestStream stream(matmul_workspace(4 * C), tf32);
        OnDevice<float> dx(x), dw(w), o(out.size());
        matmul_forward(o.data(), dx.data(), dw.data(), (const float*)nullptr, N, C, OC, {}, stream);
        const double error = relative_error(o.written().data(), out.data(), out.size());
        if (!(error <= (tf32 ? 0x1p-9 : sums(C)))) FAIL("tf32 %d: relative error %.3g", tf32, error);
        if (ON_CPU && tf32) EXPECT(error > 0x1p-14);  // the library may do better, its stand-in does not
    }
}

#ifdef CUBLAS_STAND_IN
// Whichever call fails, the last line says which, with its status, and of which product.
TEST(cuda_matmul_calls_that_fail) {
    OnDevice<float> x(64), w(64), o(64), pre(64), b(8);
    TestStream stream(matmul_workspace(32));
    stream.stream.kernels.gelu_fusion = true;
    matmul_detail::handle(), matmul_detail::plans().clear();
    int n = 1;
    for (; n < 100; n++) {
        Outcome outcome = run_child([&] {
            matmul_detail::plans().clear();
            emu::fail_call(n);
            matmul_forward(o.data(), x.data(), w.data(), b.data(), 8, 8, 8, {.pre_gelu = pre.data()}, stream);
            emu::fail_call(0);
        });
        if (outcome.code == 0) break;
        const std::string& said = outcome.output;
        const size_t line = said.find('\n') + 1;  // after what the emulator says
        if (said.find("(8, 8) x (8, 8), fp32 to fp32", line) == std::string::npos || said.find("CUBLAS_STATUS_EXECUTION_FAILED", line) == std::string::npos ||
            said.find("cublasLt", line) == std::string::npos || said.find('\n', line) != said.size() - 1) FAIL("call %d: said \"%s\"", n, said.c_str());
    }
    EXPECT_EQ(n, 8);  // a description, three layouts, a preference, the heuristic, the product
    for (int calls : {7, 1}) {  // and the second time only the product
        emu::fail_call(100);
        matmul_forward(o.data(), x.data(), w.data(), b.data(), 8, 8, 8, {.pre_gelu = pre.data()}, stream);
        EXPECT_EQ(emu::calls_to_failure(), 100 - calls);
        emu::fail_call(0);
    }
}
#endif

TEST(cuda_rates) {
    for (double rate : {measure_peak_flops<float>(0.01), measure_peak_flops<bf16>(0.01)}) EXPECT(rate > 1e6 && rate < 1e16);
    OnDevice<int> memory(std::vector<int>(1 << 12, 1));
    EXPECT(measure_bandwidth(memory.data(), 1 << 14) > 1e3);
    EXPECT(gemm_path<bf16>().starts_with("cuBLASLt"));
}
