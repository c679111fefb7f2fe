#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/matmul.h"
}
#include "../../llmc/cuda/matmul.cuh"

namespace {
struct Shape { size_t N; int C, OC; };
const std::vector<Shape> SHAPES = {{1, 8, 8}, {7, 48, 144}, {33, 64, 40}, {64, 128, 256}, {5, 520, 24}, {130, 16, 16}};

// Every product by cuBLASLt with its epilogues and, emulated, without them.
template <class Body> void with_and_without_epilogues(Body body) {
    body();
#ifdef CUBLAS_STAND_IN
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
}  // namespace

TEST_BOTH(cuda_matmul_forward) {
    TestStream stream(matmul_workspace(1, 520, 8));  // of the largest shape
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
                    stream.stream.gelu_fusion = fused;
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
    TestStream stream(matmul_workspace(1, 520, 8));  // of the largest shape
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
    TestStream stream(matmul_workspace(1, 520, 8));  // of the largest shape
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

// A long sum, one row, and pointers that are aligned to 16 bytes only.
TEST_BOTH(cuda_matmul_odd_places) {
    Random r(4);
    const int C = 4096, OC = 16;
    std::vector<F> x = small_integers<F>(r, 3 * C), w = small_integers<F>(r, (size_t)OC * C), out((size_t)OC);
    const size_t skip = 16 / sizeof(F);
    cpu::matmul_forward(out.data(), x.data() + skip, w.data(), (const F*)nullptr, 1, C, OC, {}, {});
    OnDevice<F> dx(x), dw(w), o((size_t)OC);
    TestStream stream(matmul_workspace(1, C, 8));
    matmul_forward(o.data(), dx.data() + skip, dw.data(), (const F*)nullptr, 1, C, OC, {}, stream);
    EXPECT(same_bits(o.written(), out));
    EXPECT_REFUSED("not aligned to 16 bytes", matmul_forward(o.data(), dx.data() + 1, dw.data(), (const F*)nullptr, 1, C, OC, {}, stream));
    EXPECT_REFUSED("bytes of workspace", matmul_forward(o.data(), dx.data(), dw.data(), (const F*)nullptr, 1, C, OC, {}, TestStream(64)));
    EXPECT_REFUSED("cuBLASLt has no algorithm", matmul_forward(o.data(), dx.data(), dw.data(), (const F*)nullptr, 1, 0, OC, {}, stream));
}

TEST(cuda_rates) {
    for (double rate : {measure_peak_flops<float>(0.01), measure_peak_flops<bf16>(0.01)}) EXPECT(rate > 1e6 && rate < 1e16);
    OnDevice<int> memory(std::vector<int>(1 << 12, 1));
    EXPECT(measure_bandwidth(memory.data(), 1 << 14) > 1e3);
    EXPECT(strstr(gemm_path<bf16>(), "cuBLASLt") != nullptr);
}
