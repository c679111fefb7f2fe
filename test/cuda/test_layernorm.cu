#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/layernorm.h"
}
#include "../../llmc/cuda/layernorm.cuh"

namespace {
// N rows of C; the last shapes exceed a warp, the rows of a block, the columns that a thread owns in one group, the shared memory that
// needs no opt-in, and the rows that all blocks together take in one iteration.
struct Shape { size_t N; int C; };
const std::vector<Shape> SHAPES = {{1, 8}, {7, 48}, {3, 264}, {33, 768}, {5, 1600}, {2, 4104}, {1, 12808}, {2051, 16}};

template <class F> struct Case {
    size_t N;
    int C;
    float eps;  // GPT-2's, or as large as the variance
    std::vector<F> x, y, w, b, dout;
    std::vector<float> dw, db;
    Case(Random& r, Shape s) : N(s.N), C(s.C), eps(C % 16 ? 0.7f : 1e-5f) {
        x = normal_values<F>(r, N * (size_t)C, 1, 0.5f), y = normal_values<F>(r, N * (size_t)C), dout = normal_values<F>(r, N * (size_t)C);
        w = normal_values<F>(r, (size_t)C, 0.3f, 1), b = normal_values<F>(r, (size_t)C);
        dw = normal_values<float>(r, (size_t)C), db = normal_values<float>(r, (size_t)C);
    }
    // Sums over a row in other orders: C / 32 + 5 roundings here, C / 64 + 8 there, each of terms as large as |x| / deviation,
    // which is below 6 for these values; then a few operations.
    double roundings() const { return 6 * ((double)C / 20 + 13); }
};
}  // namespace

TEST_BOTH(cuda_layernorm_forward) {
    Random r(1);
    for (Shape shape : SHAPES) {
        Case<F> s(r, shape);
        for (int how : {0, 1, 2, 3, 4}) {  // LayerNorm without and with a bias, RMSNorm; RMSNorm and LayerNorm without weights
            const bool biased = how == 1, rms = how == 2 || how == 3, weighted = how < 3;
            std::vector<F> out(s.x.size());
            std::vector<float> mean(s.N), rstd(s.N);
            cpu::layernorm_forward(out.data(), rms ? nullptr : mean.data(), rstd.data(), s.x.data(), weighted ? s.w.data() : nullptr, biased ? s.b.data() : nullptr, s.N, s.C, s.eps, {});
            OnDevice<F> x(s.x), w(s.w), b(s.b);
            std::vector<float> got_mean, got_rstd;
            auto got = for_schedules([&] {
                OnDevice<F> o(s.x.size());
                OnDevice<float> m(s.N), d(s.N);
                TestStream stream;
                layernorm_forward(o.data(), rms ? nullptr : m.data(), d.data(), x.data(), weighted ? w.data() : nullptr, biased ? b.data() : nullptr, s.N, s.C, s.eps, stream);
                got_mean = rms ? mean : m.written(), got_rstd = d.written();
                return o.written();
            });
            EXPECT_CLOSE(got.data(), out.data(), got.size(), 2 * half_ulp<F>() + s.roundings() * 0x1p-24);  // both are rounded to F
            EXPECT_NEAR(got_mean.data(), mean.data(), s.N, s.roundings() * 0x1p-24 * std::sqrt((double)s.N));
            EXPECT_CLOSE(got_rstd.data(), rstd.data(), s.N, s.roundings() * 0x1p-24);
        }
    }
}

// The sum, its LayerNorm or RMSNorm, and the two in one, in place too.
TEST_BOTH(cuda_residual_layernorm) {
    Random r(2);
    for (Shape shape : SHAPES) {
        Case<F> s(r, shape);
        std::vector<F> sum(s.x.size());
        cpu::residual_forward(sum.data(), s.x.data(), s.y.data(), sum.size(), {});
        for (int place : {0, 1, 2, 3}) for_schedules([&] {
            const bool rms = place == 3;
            OnDevice<F> x(s.x), y(s.y), w(s.w), b(s.b), residual(s.x.size()), out(s.x.size()), sum2(s.x.size()), out2(s.x.size());
            OnDevice<float> mean(s.N), rstd(s.N), mean2(s.N), rstd2(s.N);
            TestStream stream;
            residual_forward(sum2.data(), x.data(), y.data(), s.x.size(), stream);
            layernorm_forward(out2.data(), rms ? nullptr : mean2.data(), rstd2.data(), sum2.data(), w.data(), rms ? nullptr : b.data(), s.N, s.C, s.eps, stream);
            synchronize(stream);
            OnDevice<F>& to = place == 0 ? residual : place == 2 ? y : x;
            residual_layernorm_forward(to.data(), out.data(), rms ? nullptr : mean.data(), rstd.data(), x.data(), y.data(), w.data(), rms ? nullptr : b.data(), s.N, s.C, s.eps, stream);
            EXPECT(same_bits(sum2.written(), sum));
            EXPECT(same_bits(to.written(), sum));
            EXPECT(same_bits(out.written(), out2.written()));
            EXPECT(same_bits(rstd.written(), rstd2.written()));
            if (!rms) EXPECT(same_bits(mean.written(), mean2.written()));
            return std::vector<float>();
        });
    }
    // a number of elements that no pack divides
    std::vector<F> a = normal_values<F>(r, 1003), b = normal_values<F>(r, 1003), sum(1003);
    cpu::residual_forward(sum.data(), a.data(), b.data(), 1003, {});
    OnDevice<F> da(a), db(b);
    TestStream stream;
    residual_forward(da.data(), da.data(), db.data(), 1003, stream);
    EXPECT(same_bits(da.written(), sum));
}

TEST_BOTH(cuda_layernorm_backward) {
    Random r(3);
    for (Shape shape : SHAPES) {
        Case<F> s(r, shape);
        std::vector<F> normed(s.x.size());
        std::vector<float> mean(s.N), rstd(s.N);
        cpu::layernorm_forward(normed.data(), mean.data(), rstd.data(), s.x.data(), s.w.data(), (const F*)nullptr, s.N, s.C, s.eps, {});
        for (int how = 0; how < 8; how++) {
            if ((shape.N > 1000 || shape.C > 10000) && how != 3 && how != 5 && how != 7) continue;  // long, and only the size is new
            const bool rms = how == 4 || how == 5 || how == 7, weighted = how < 6, biased = weighted && !rms;
            const LayernormBackward options{.accumulate = how % 2 == 1, .add_to_dinp = how == 2 || how == 3 || how == 5 || how == 7};
            std::vector<F> dx = s.y;
            std::vector<float> dw = s.dw, db = s.db;
            cpu::layernorm_backward(dx.data(), weighted ? dw.data() : nullptr, biased ? db.data() : nullptr, s.dout.data(), s.x.data(), rms ? nullptr : mean.data(), rstd.data(), weighted ? s.w.data() : nullptr, s.N, s.C, options, {});
            std::vector<float> got_dw, got_db;
            auto got = for_schedules([&] {
                OnDevice<F> dinp(s.x.size()), dout(s.dout), x(s.x), w(s.w);
                OnDevice<float> dweight((size_t)s.C), dbias((size_t)s.C), m(mean), d(rstd);
                if (options.add_to_dinp) dinp.set(s.y);
                if (options.accumulate) dweight.set(s.dw), dbias.set(s.db);
                TestStream stream(layernorm_workspace(s.C));
                layernorm_backward(dinp.data(), weighted ? dweight.data() : nullptr, biased ? dbias.data() : nullptr, dout.data(), x.data(), rms ? nullptr : m.data(), d.data(), weighted ? w.data() : nullptr, s.N, s.C, options, stream);
                got_dw = weighted ? dweight.written() : dw, got_db = biased ? dbias.written() : db;
                return dinp.written();
            });
            // dx: as the forward's; the sums over rows have N terms of the size of the products
            EXPECT_CLOSE(got.data(), dx.data(), dx.size(), 2 * half_ulp<F>() + s.roundings() * 0x1p-24);
            const double sum_of_rows = ((double)s.N / 16 + 10) * 6 * 0x1p-24 * std::sqrt((double)s.N * s.C) * 4;
            EXPECT_NEAR(got_dw.data(), dw.data(), dw.size(), sum_of_rows + 0x1p-23 * norm(dw));
            EXPECT_NEAR(got_db.data(), db.data(), db.size(), sum_of_rows + 0x1p-23 * norm(db));
        }
    }
}

// Whole numbers of mean 0 and deviation 1, so it is said, and C a power of two: all is exact in any order, and the CPU's. The
// second has more rows than all blocks take at once, and several warps in each: what they share is written again.
TEST_BOTH(cuda_layernorm_backward_exact) {
    Random r(5);
    for (Shape s : std::vector<Shape>{{5, 64}, {2050, 512}}) {
        const size_t n = s.N * (size_t)s.C, C = (size_t)s.C;
        std::vector<F> x = small_integers<F>(r, n), dout = small_integers<F>(r, n), w = small_integers<F>(r, C), dx(n);
        std::vector<float> mean(s.N, 0.0f), rstd(s.N, 1.0f), dw(C), db(C);
        cpu::layernorm_backward(dx.data(), dw.data(), db.data(), dout.data(), x.data(), mean.data(), rstd.data(), w.data(), s.N, s.C, {}, {});
        OnDevice<F> on_x(x), on_dout(dout), on_w(w);
        OnDevice<float> m(mean), d(rstd);
        for (int schedule : {1, 2}) {
            set_schedule(schedule);
            OnDevice<F> dinp(n);
            OnDevice<float> dweight(C), dbias(C);
            TestStream stream(layernorm_workspace(s.C));
            layernorm_backward(dinp.data(), dweight.data(), dbias.data(), on_dout.data(), on_x.data(), m.data(), d.data(), on_w.data(),
                               s.N, s.C, {}, stream);
            EXPECT(same_bits(dweight.written(), dw) && same_bits(dbias.written(), db));
            const std::vector<F> got = dinp.written();
            for (size_t i = 0; i < n; i++) EXPECT_EQ((float)got[i], (float)dx[i]);  // as numbers: 0 + -0 is 0
        }
    }
}

// dinp in place of dout or inp, and no bias: bitwise identical.
TEST_BOTH(cuda_layernorm_backward_in_place) {
    Random r(4);
    Case<F> s(r, {35, 296});
    std::vector<float> mean(s.N, 0.5f), rstd(s.N, 0.9f);
    std::vector<std::vector<F>> results;
    for (int place : {0, 1, 2}) {
        OnDevice<F> dinp(s.x.size()), dout(s.dout), x(s.x), w(s.w);
        OnDevice<float> dweight((size_t)s.C), m(mean), d(rstd);
        TestStream stream(layernorm_workspace(s.C));
        OnDevice<F>& to = place == 0 ? dinp : place == 1 ? dout : x;
        layernorm_backward(to.data(), dweight.data(), (float*)nullptr, dout.data(), x.data(), m.data(), d.data(), w.data(), s.N, s.C, {}, stream);
        dweight.written();
        results.push_back(to.written());
    }
    EXPECT(same_bits(results[0], results[1]) && same_bits(results[0], results[2]));
}

TEST(cuda_layernorm_refuses) {
    TestStream stream;
    EXPECT_REFUSED("multiple of 8", layernorm_forward<float>(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 1, 12, 1e-5f, stream));
    EXPECT_REFUSED("RMSNorm has none", float x; TestStream with(layernorm_workspace(8)); layernorm_backward<float>(nullptr, &x, &x, nullptr, nullptr, nullptr, nullptr, nullptr, 1, 8, {}, with));
    EXPECT_REFUSED("but no weights", float x; TestStream with(layernorm_workspace(8)); layernorm_backward<float>(nullptr, &x, nullptr, nullptr, nullptr, &x, nullptr, nullptr, 1, 8, {}, with));
    EXPECT_REFUSED("bytes of workspace", layernorm_backward<float>(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 1, 16, {}, stream));
}
