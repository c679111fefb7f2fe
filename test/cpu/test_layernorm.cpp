#include "../../llmc/cpu/layernorm.h"
#include "../layers.h"

constexpr int SHAPES = 60;
using Doubles = std::vector<double>;

struct Norm { Doubles out, mean, rstd; };
static Norm layernorm_oracle(const Doubles& x, const Doubles& w, const Doubles& b, size_t N, int C, double eps, bool rms) {
    Norm y{Doubles(N * C), Doubles(N), Doubles(N)};
    for (size_t n = 0; n < N; n++) {
        double mean = 0, variance = 0;
        for (int c = 0; c < C && !rms; c++) mean += x[n * C + c] / C;
        for (int c = 0; c < C; c++) variance += (x[n * C + c] - mean) * (x[n * C + c] - mean) / C;
        y.mean[n] = mean, y.rstd[n] = 1 / std::sqrt(variance + eps);
        for (int c = 0; c < C; c++) y.out[n * C + c] = (x[n * C + c] - mean) * y.rstd[n] * w[c] + (b.empty() ? 0 : b[c]);
    }
    return y;
}
// The mean is off by a few 2^-24 of the row's largest element, and x - mean with it: in units of the standard deviation
// that is the ratio of the two. 8 + C / 64 roundings make the mean (64 running sums), as many the variance.
static double condition(const Doubles& x, const Norm& y, int C) {
    double worst = 1;
    for (size_t i = 0; i < x.size(); i++) worst = std::fmax(worst, std::fabs(x[i]) * y.rstd[i / C]);
    return worst * (8 + C / 64.0);
}

template <class F> struct LayernormCase {
    size_t N;
    int C;
    float eps;  // GPT-2's, none that counts, and one as large as the variance, so that a misplaced one shows
    std::vector<F> x, w, b, dout;
    bool biased, rms, weighted;  // rms: RMSNorm, which has no bias; without weights they are 1
    LayernormCase(Random& r, int max_N, int max_C, bool is_rms) : N((size_t)r.between(1, max_N)), C(r.between(1, max_C)), eps(C % 3 == 0 ? 1e-5f : C % 3 == 1 ? 1e-12f : 0.7f) {
        x = normal_values<F>(r, N * C, 1, 0.5f), w = normal_values<F>(r, C, 0.3f, 1), dout = normal_values<F>(r, N * C);
        weighted = r.between(0, 3) > 0;
        if (!weighted) w.assign((size_t)C, F(1.0f));
        rms = is_rms, biased = weighted && !rms && r.between(0, 2) > 0;
        if (biased) b = normal_values<F>(r, C);
    }
    const F* weight() const { return weighted ? w.data() : nullptr; }
    const F* bias() const { return biased ? b.data() : nullptr; }
    Norm oracle() const { return layernorm_oracle(in_double(x), in_double(w), in_double(b), N, C, eps, rms); }
    template <class M> M* or_null(M* mean) const { return rms ? nullptr : mean; }
};

TEST_BOTH(layernorm_forward) {
    Random r(1);
    for (int shape = 0; shape < SHAPES; shape++) {
        LayernormCase<F> s(r, 40, shape % 4 ? 90 : 1100, shape % 3 == 0);
        Norm exact = s.oracle();
        Guarded<F> out(s.x.size());
        Guarded<float> mean(s.N), rstd(s.N);
        layernorm_forward(out.data(), s.or_null(mean.data()), rstd.data(), s.x.data(), s.weight(), s.bias(), s.N, s.C, s.eps, stream_t{});
        EXPECT_WHOLE(out);
        EXPECT(mean.untouched());
        EXPECT_WHOLE(rstd);
        const double roundings = 2 * condition(in_double(s.x), exact, s.C);
        // n = (x - mean) * rstd has norm sqrt(N C) or less, whatever the bias adds to it or takes away
        EXPECT_NEAR(out.data(), exact.out.data(), out.size(),
                    half_ulp<F>() * norm(exact.out) + roundings * 0x1p-24 * std::sqrt((double)s.N * s.C) * 2);
        if (!s.rms) EXPECT_NEAR(mean.data(), exact.mean.data(), s.N, roundings * 0x1p-24 * std::sqrt((double)s.N));
        EXPECT_CLOSE(rstd.data(), exact.rstd.data(), s.N, roundings * 0x1p-24);
    }
}

TEST_BOTH(residual_layernorm_has_the_bits_of_its_parts) {
    Random r(2);
    for (int shape = 0; shape < SHAPES; shape++) {
        LayernormCase<F> s(r, 20, 300, shape % 3 == 0);
        auto other = normal_values<F>(r, s.x.size());
        Guarded<F> residual(s.x.size()), out(s.x.size()), residual2(s.x.size()), out2(s.x.size());
        Guarded<float> mean(s.N), rstd(s.N), mean2(s.N), rstd2(s.N);
        residual_layernorm_forward(residual.data(), out.data(), s.or_null(mean.data()), rstd.data(), s.x.data(), other.data(), s.weight(),
                                   s.bias(), s.N, s.C, s.eps, stream_t{});
        residual_forward(residual2.data(), s.x.data(), other.data(), s.x.size(), stream_t{});
        layernorm_forward(out2.data(), s.or_null(mean2.data()), rstd2.data(), residual2.data(), s.weight(), s.bias(), s.N, s.C, s.eps, stream_t{});
        EXPECT_WHOLE(residual);
        EXPECT_WHOLE(residual2);
        EXPECT_WHOLE(out);
        EXPECT(same_bits(residual.all, residual2.all));
        EXPECT(same_bits(out.all, out2.all));
        EXPECT(same_bits(mean.all, mean2.all));
        EXPECT(same_bits(rstd.all, rstd2.all));
        int wrong = 0;
        for (size_t i = 0; i < s.x.size(); i++) wrong += (float)residual[i] != (float)F((float)s.x[i] + (float)other[i]);
        EXPECT_EQ(wrong, 0);
        auto in_place = s.x;
        residual_layernorm_forward(in_place.data(), out2.data(), s.or_null(mean2.data()), rstd2.data(), in_place.data(), other.data(),
                                   s.weight(), s.bias(), s.N, s.C, s.eps, stream_t{});
        EXPECT(same_bits(in_place, residual.values()));
        EXPECT(same_bits(out2.all, out.all));
    }
}

// Against central differences of sum(out * dout), in double. dx is a difference of terms of size rstd * dn, and those
// cancel when C is small (C = 1: dx = 0), so its error is measured in their size; each took about the roundings of n.
TEST_BOTH(layernorm_backward_is_the_derivative) {
    Random r(3);
    for (int shape = 0; shape < SHAPES; shape++) {
        LayernormCase<F> s(r, shape % 3 ? 4 : 70, shape % 3 ? 40 : 5, shape % 4 >= 2);
        const size_t n = s.x.size(), C = (size_t)s.C;
        auto x = in_double(s.x), w = in_double(s.w), b = in_double(s.b), dout = in_double(s.dout);
        auto loss = [&](const Doubles& v) {  // v = x, w, b
            Doubles vb(v.begin() + (long)(n + C), v.end());
            Norm y = layernorm_oracle(Doubles(v.begin(), v.begin() + (long)n), Doubles(v.begin() + (long)n, v.begin() + (long)(n + C)), vb,
                                      s.N, s.C, s.eps, s.rms);
            double sum = 0;
            for (size_t i = 0; i < n; i++) sum += y.out[i] * dout[i];
            return sum;
        };
        Doubles all = x;
        all.insert(all.end(), w.begin(), w.end()), all.insert(all.end(), b.begin(), b.end());
        Doubles exact = central_differences(all, loss);

        std::vector<F> out(n);
        std::vector<float> mean(s.N), rstd(s.N);
        layernorm_forward(out.data(), s.or_null(mean.data()), rstd.data(), s.x.data(), s.weight(), s.bias(), s.N, s.C, s.eps, stream_t{});
        const double roundings = 4 * condition(x, s.oracle(), s.C);
        double size = 0;  // of rstd * dn
        for (size_t i = 0; i < n; i++) size += std::pow((double)rstd[i / C] * dout[i] * w[i % C], 2);
        size = std::sqrt(size);
        auto dx0 = normal_values<F>(r, n);
        auto dw0 = normal_values<float>(r, C), db0 = normal_values<float>(r, C);
        for (bool accumulate : {false, true})
            for (bool add : {false, true}) {
                Guarded<F> dx = add ? Guarded<F>(dx0) : Guarded<F>(n);
                Guarded<float> dw = accumulate ? Guarded<float>(dw0) : Guarded<float>(C), db = accumulate ? Guarded<float>(db0) : Guarded<float>(C);
                layernorm_backward(dx.data(), s.weighted ? dw.data() : nullptr, s.biased ? db.data() : nullptr, s.dout.data(), s.x.data(), s.or_null(mean.data()),
                                   rstd.data(), s.weight(), s.N, s.C, {.accumulate = accumulate, .add_to_dinp = add}, stream_t{});
                EXPECT_WHOLE(dx);
                EXPECT(dw.untouched() && (s.weighted ? dw.written() : accumulate || Guarded<float>::poisoned(dw[0])));
                EXPECT(db.untouched());
                EXPECT(s.biased || accumulate || Guarded<float>::poisoned(db[0]));
                Doubles dx_exact(exact.begin(), exact.begin() + (long)n), dw_exact(exact.begin() + (long)n, exact.begin() + (long)(n + C)),
                        db_exact(exact.begin() + (long)(n + C), exact.end());
                for (size_t i = 0; add && i < n; i++) dx_exact[i] += (double)(float)dx0[i];
                for (size_t i = 0; accumulate && i < C; i++) dw_exact[i] += (double)dw0[i];
                for (size_t i = 0; accumulate && s.biased && i < C; i++) db_exact[i] += (double)db0[i];
                EXPECT_NEAR(dx.data(), dx_exact.data(), n, half_ulp<F>() * norm(dx_exact) + roundings * 0x1p-24 * size);
                // a sum of N terms dout * n, |n| <= sqrt(C); 1 for the value added to
                if (s.weighted) EXPECT_NEAR(dw.data(), dw_exact.data(), C, roundings * 0x1p-24 * std::sqrt((double)C) * (norm(dout) + 1));
                if (s.biased) EXPECT_NEAR(db.data(), db_exact.data(), C, (double)s.N * 0x1p-24 * (norm(dout) + std::sqrt((double)C)));
            }
    }
}

TEST_BOTH(layernorm_backward_in_place_and_for_any_threads) {
    Random r(4);
    struct Size { size_t N; int C; };
    for (Size size : {Size{131, 203}, {1, 7}, {32, 64}, {33, 768}, {257, 16}}) {
        const size_t N = size.N;
        const int C = size.C;
        auto x = normal_values<F>(r, N * C), w = normal_values<F>(r, C), dout = normal_values<F>(r, N * C), out = x;
        std::vector<float> mean(N), rstd(N);
        layernorm_forward(out.data(), mean.data(), rstd.data(), x.data(), w.data(), (const F*)nullptr, N, C, 1e-5f, stream_t{});
        for (bool rms : {false, true}) {
            std::vector<float> dw(C), db(C), dw2(C), db2(C);
            std::vector<F> dx(N * C), in_place = dout;
            auto backward = [&](F* d, const F* dy, float* dweight, float* dbias) {
                layernorm_backward(d, dweight, rms ? nullptr : dbias, dy, x.data(), rms ? nullptr : mean.data(), rstd.data(), w.data(), N, C, {}, stream_t{});
            };
            backward(dx.data(), dout.data(), dw.data(), db.data());
            backward(in_place.data(), in_place.data(), dw2.data(), db2.data());
            EXPECT(same_bits(dx, in_place));
            EXPECT(same_bits(dw, dw2));
            EXPECT(same_bits(db, db2));
            EXPECT(same_bits_for_any_threads([&] {
                std::vector<float> all(2 * (size_t)C);
                backward(dx.data(), dout.data(), all.data(), all.data() + C);
                for (F e : dx) all.push_back((float)e);
                return all;
            }));
        }
    }
}

TEST(rmsnorm_has_no_bias) {
    EXPECT_DIES("RMSNorm has none", float x[8] = {}; layernorm_backward(x, x, x, x, x, (float*)nullptr, x, x, 1, 8, {}, stream_t{}));
    EXPECT_DIES("but no weights", float x[8] = {}; layernorm_backward(x, x, (float*)nullptr, x, x, x, x, (float*)nullptr, 1, 8, {}, stream_t{}));
}
