// attention_test.h: what the tests of attention by our kernels and by cuDNN share: its definition in double, and how far off a result may be.
#pragma once
#include "../../llmc/cuda/attention.cuh"
#include "device_test.h"

namespace attention_test {
using Doubles = std::vector<double>;
using Ints = std::vector<int>;
using attention_detail::AttentionShape;

struct Case : AttentionShape {
    Ints starts;  // of documents; none: all of a row is one
    size_t tokens() const { return (size_t)B * T; }
    size_t C() const { return (size_t)NH * HS; }  // of out
    Heads heads() const { return {NH, NKV, HS}; }
    size_t q(size_t token, int h) const { return token * width() + (size_t)h * HS; }
    size_t k(size_t token, int h) const { return q(token, NH + h / group()); }
    size_t v(size_t token, int h) const { return q(token, NH + NKV + h / group()); }
    int start(size_t token) const { return starts.empty() ? 0 : starts[token]; }
    double scale() const { return 1 / std::sqrt((double)HS); }
};

// The definition. `size` is what a sum would be were none of its terms negative: what errors of its terms are measured by.
struct Oracle { Doubles lse, out, out_size, d, d_size; };
EMU_OWN inline double dot(const double* a, const double* b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}
// sum += a x, and its size
EMU_OWN inline void add_times(double* sum, double* size, double a, const double* x, int n) {
    for (int i = 0; i < n; i++) {
        const double term = a * x[i];
        sum[i] += term, size[i] += std::fabs(term);
    }
}
inline void weights(Doubles& p, double& lse, const Case& c, const Doubles& qkv, size_t row, int t, int h) {
    double largest = -1e300, sum = 0;
    for (int u = c.start(row + t); u <= t; u++)
        largest = std::fmax(largest, p[u] = dot(&qkv[c.q(row + t, h)], &qkv[c.k(row + u, h)], c.HS) * c.scale());
    for (int u = c.start(row + t); u <= t; u++) sum += p[u] = std::exp(p[u] - largest);
    for (int u = c.start(row + t); u <= t; u++) p[u] /= sum;
    lse = largest + std::log(sum);
}
inline Oracle attention_oracle(const Case& c, const Doubles& qkv, const Doubles& dout = {}, const Doubles& out = {}) {
    const Doubles none(c.tokens() * c.C()), nothing(qkv.size());
    Oracle y{Doubles(c.tokens() * c.NH), none, none, nothing, nothing};
    Doubles p((size_t)c.T);
    for (int b = 0; b < c.B; b++)
        for (int h = 0; h < c.NH; h++)
            for (int t = 0; t < c.T; t++) {
                const size_t row = (size_t)b * c.T, o = (row + t) * c.C() + (size_t)h * c.HS, q = c.q(row + t, h);
                weights(p, y.lse[((size_t)b * c.NH + h) * c.T + t], c, qkv, row, t, h);
                const double D = dout.empty() ? 0 : dot(&dout[o], &out[o], c.HS);
                for (int u = c.start(row + t); u <= t; u++) {
                    const size_t k = c.k(row + u, h), v = c.v(row + u, h);
                    add_times(&y.out[o], &y.out_size[o], p[u], &qkv[v], c.HS);
                    if (dout.empty()) continue;
                    const double ds = p[u] * (dot(&dout[o], &qkv[v], c.HS) - D) * c.scale();
                    add_times(&y.d[q], &y.d_size[q], ds, &qkv[k], c.HS);
                    add_times(&y.d[k], &y.d_size[k], ds, &qkv[q], c.HS);
                    add_times(&y.d[v], &y.d_size[v], p[u], &dout[o], c.HS);
                }
            }
    return y;
}

// Of the device: out, lse, dqkv.
template <class F> struct Results {
    std::vector<F> out, dqkv;
    std::vector<float> lse;
    std::vector<F> all() const {  // for a comparison of bits
        std::vector<F> x = out;
        x.insert(x.end(), dqkv.begin(), dqkv.end());
        x.insert(x.end(), (const F*)lse.data(), (const F*)(lse.data() + lse.size()));
        return x;
    }
};

// fp32: a score is a sum of HS products scaled by 1/sqrt(HS); the tests' scores reach about 6, and e^s turns 6 * 2^-24 * (a few
// roundings) into a relative error of the weight; ex2.approx adds 4 * 2^-24. 64 bound a row; sums over T terms add sqrt(T) < 20.
constexpr double ROUNDINGS = 84;
// bf16: weights and their gradients are rounded to bf16 before they are multiplied again, each of them off by up to 2^-8 of
// itself: a sum by up to 2^-8 of its size. In fp32 they are not.
template <class F> constexpr double FACTORS = std::is_same_v<F, float> ? 0 : 0x1p-8;

template <class F> void expect_right(const Case& c, const std::vector<F>& qkv, const std::vector<F>& dout, const Results<F>& y,
                                     double scores = 1,     // how many times larger than 6 they are
                                     double again = 0) {    // rounding of what each query head of a group adds to dk and dv
    const double fp32 = ROUNDINGS * scores * 0x1p-24;
    const Doubles x = in_double(qkv);
    const Oracle exact = attention_oracle(c, x, in_double(dout), in_double(y.out));
    const int before = g_failures;
    EXPECT_NEAR(y.lse.data(), exact.lse.data(), y.lse.size(), fp32 * std::sqrt((double)y.lse.size()));
    EXPECT_NEAR(y.out.data(), exact.out.data(), y.out.size(),
                half_ulp<F>() * norm(exact.out) + (FACTORS<F> + fp32) * norm(exact.out_size));
    if (!dout.empty()) {
        // ds = p (dp - D) is a difference: its error is measured against the terms before they cancel, |dout| |v| |k|
        const double rms = norm(x) / std::sqrt((double)x.size());
        const double terms = norm(exact.d) + norm(dout) * rms * rms * std::sqrt((double)c.HS);
        EXPECT_NEAR(y.dqkv.data(), exact.d.data(), exact.d.size(),
                    half_ulp<F>() * norm(exact.d) + (FACTORS<F> + again) * norm(exact.d_size) + fp32 * terms);
    }
    if (g_failures > before)
        printf("    with B %d, T %d, NH %d, NKV %d, HS %d%s\n", c.B, c.T, c.NH, c.NKV, c.HS, c.starts.empty() ? "" : ", documents");
}
}  // namespace attention_test
using namespace attention_test;
