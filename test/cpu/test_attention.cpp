#include <limits>
#include <numeric>
#include "../../llmc/cpu/attention.h"
#include "../layers.h"

using Doubles = std::vector<double>;

// The definition, with a row of probabilities at a time.
struct Attention { Doubles out, lse; };
using Ints = std::vector<int>;  // starts of documents; none: all is one
static Attention attention_oracle(const Doubles& qkv, int B, int T, int C, int NH, const Ints& starts = {}) {
    const int HS = C / NH;
    Attention y{Doubles((size_t)B * T * C), Doubles((size_t)B * NH * T)};
    Doubles p((size_t)T);
    for (int b = 0; b < B; b++)
        for (int h = 0; h < NH; h++)
            for (int t = 0; t < T; t++) {
                const int start = starts.empty() ? 0 : starts[(size_t)b * T + t];
                const double* q = &qkv[((size_t)b * T + t) * 3 * C + h * HS];
                double largest = -1e300, sum = 0;
                for (int u = start; u <= t; u++) {
                    const double* k = &qkv[((size_t)b * T + u) * 3 * C + C + h * HS];
                    p[u] = 0;
                    for (int d = 0; d < HS; d++) p[u] += q[d] * k[d];
                    p[u] /= std::sqrt((double)HS);
                    largest = std::fmax(largest, p[u]);
                }
                for (int u = start; u <= t; u++) sum += p[u] = std::exp(p[u] - largest);
                y.lse[((size_t)b * NH + h) * T + t] = largest + std::log(sum);
                double* out = &y.out[((size_t)b * T + t) * C + h * HS];
                for (int u = start; u <= t; u++) {
                    const double *v = &qkv[((size_t)b * T + u) * 3 * C + 2 * C + h * HS], weight = p[u] / sum;
                    for (int d = 0; d < HS; d++) out[d] += weight * v[d];
                }
            }
    return y;
}
// The gradient by its formulas, from the `out` that the forward stored.
static Doubles backward_oracle(const Doubles& dout, const Doubles& out, const Doubles& qkv, int B, int T, int C, int NH, const Ints& starts = {}) {
    const int HS = C / NH;
    const double scale = 1 / std::sqrt((double)HS);
    Attention y = attention_oracle(qkv, B, T, C, NH, starts);
    Doubles d(qkv.size());
    for (int b = 0; b < B; b++)
        for (int h = 0; h < NH; h++)
            for (int t = 0; t < T; t++) {
                const size_t at = ((size_t)b * T + t) * 3 * C + h * HS, row = ((size_t)b * T + t) * C + h * HS;
                const double *q = &qkv[at], *dy = &dout[row];
                double *dq = &d[at], D = 0;
                for (int i = 0; i < HS; i++) D += dy[i] * out[row + i];
                for (int u = starts.empty() ? 0 : starts[(size_t)b * T + t]; u <= t; u++) {
                    const size_t other = ((size_t)b * T + u) * 3 * C + C + h * HS;
                    const double *k = &qkv[other], *v = k + C;
                    double *dk = &d[other], *dv = dk + C, s = 0, dp = 0;
                    for (int i = 0; i < HS; i++) s += q[i] * k[i] * scale, dp += dy[i] * v[i];
                    const double p = std::exp(s - y.lse[((size_t)b * NH + h) * T + t]), ds = p * (dp - D) * scale;
                    for (int i = 0; i < HS; i++) dv[i] += p * dy[i], dq[i] += ds * k[i], dk[i] += ds * q[i];
                }
            }
    return d;
}

struct AttentionShape {
    int B, T, C, NH;
    AttentionShape(Random& r, int max_T, int max_HS) : B(r.between(1, 2)), T(r.between(1, max_T)), NH(r.between(1, 3)) {
        C = NH * r.between(1, max_HS);
    }
    // Mostly small ones; a few that take several tiles, or several groups of tiles, or long heads; and whole tiles.
    static AttentionShape number(int shape, Random& r) {
        AttentionShape s(r, shape % 4 ? 40 : 150, shape % 12 == 2 ? 140 : 20);
        if (shape % 12 == 1) s.T = r.between(257, 330);
        if (shape == 0) s.B = 2, s.NH = 2, s.C = 128, s.T = 128;
        if (shape == 12) s.B = 1, s.NH = 1, s.C = 128, s.T = 64;
        return s;
    }
    size_t tokens() const { return (size_t)B * T; }
};

// Roundings: a score is a sum of HS products scaled by 1/sqrt(HS), |q||k|/sqrt(HS) in size; the tests' scores reach about
// 6, and e^s turns 6 * 2^-24 * (a few roundings) into a relative error of the weight: 32 roundings bound a row. The
// sums over T terms add sqrt(T), below 20 here.
constexpr double ROUNDINGS = 64;

TEST_BOTH(attention_forward) {
    Random r(1);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        auto qkv = normal_values<F>(r, s.tokens() * 3 * s.C);
        Guarded<F> out(s.tokens() * s.C);
        Guarded<float> lse((size_t)s.B * s.NH * s.T);
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.C, s.NH, stream_t{});
        Attention exact = attention_oracle(in_double(qkv), s.B, s.T, s.C, s.NH);
        EXPECT_WHOLE(out);
        EXPECT_WHOLE(lse);
        EXPECT_CLOSE(out.data(), exact.out.data(), out.size(), tolerance<F>(ROUNDINGS));
        EXPECT_NEAR(lse.data(), exact.lse.data(), lse.size(), ROUNDINGS * 0x1p-24 * std::sqrt((double)lse.size()));
    }
}

// ds = p (dp - D) is a difference: its error is measured against the terms before they cancel, |dout| |v| |k|.
static double backward_size(const Doubles& exact, const Doubles& dout, const Doubles& qkv, int HS) {
    const double rms = norm(qkv) / std::sqrt((double)qkv.size());
    return norm(exact) + norm(dout) * rms * rms * std::sqrt((double)HS);
}

TEST_BOTH(attention_backward) {
    Random r(2);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        auto qkv = normal_values<F>(r, s.tokens() * 3 * s.C), dout = normal_values<F>(r, s.tokens() * s.C);
        Guarded<F> out(s.tokens() * s.C), dqkv(qkv.size());
        Guarded<float> lse((size_t)s.B * s.NH * s.T), scratch(attention_scratch(s.B, s.T, s.C, s.NH));
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.C, s.NH, stream_t{});
        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), nullptr, scratch.data(), s.B, s.T, s.C, s.NH, stream_t{});
        EXPECT_WHOLE(dqkv);
        EXPECT(scratch.untouched());
        auto exact = backward_oracle(in_double(dout), in_double(out.values()), in_double(qkv), s.B, s.T, s.C, s.NH);
        EXPECT_NEAR(dqkv.data(), exact.data(), exact.size(), half_ulp<F>() * norm(exact) +
                    ROUNDINGS * 0x1p-24 * backward_size(exact, in_double(dout), in_double(qkv), s.C / s.NH));
    }
}

// Central differences of sum(out * dout). In bf16 the backward's delta is computed from the rounded out: |dout| |out| 2^-8 more.
TEST_BOTH(attention_backward_is_the_derivative) {
    Random r(3);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s(r, 7, 5);
        auto qkv = normal_values<F>(r, s.tokens() * 3 * s.C), dout = normal_values<F>(r, s.tokens() * s.C);
        auto dout_exact = in_double(dout), qkv_exact = in_double(qkv);
        auto exact = central_differences(qkv_exact, [&](const Doubles& x) {
            Attention y = attention_oracle(x, s.B, s.T, s.C, s.NH);
            return std::inner_product(y.out.begin(), y.out.end(), dout_exact.begin(), 0.0);
        });
        std::vector<F> out(s.tokens() * s.C), dqkv(qkv.size());
        std::vector<float> lse((size_t)s.B * s.NH * s.T), scratch(attention_scratch(s.B, s.T, s.C, s.NH));
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.C, s.NH, stream_t{});
        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), nullptr, scratch.data(), s.B, s.T, s.C, s.NH, stream_t{});
        double size = backward_size(exact, dout_exact, qkv_exact, s.C / s.NH);
        double stored = std::is_same_v<F, float> ? 0 : 0x1p-8 * size;
        EXPECT_NEAR(dqkv.data(), exact.data(), exact.size(), half_ulp<F>() * norm(exact) + stored + ROUNDINGS * 0x1p-24 * size);
    }
}

// Tokens after t do not reach the result of t in any bit, not even as NaN; nor does the rest of the batch.
TEST_BOTH(attention_sees_no_future_and_no_neighbour) {
    Random r(4);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        auto qkv = normal_values<F>(r, s.tokens() * 3 * s.C);
        std::vector<F> out(s.tokens() * s.C), out2 = out;
        std::vector<float> lse((size_t)s.B * s.NH * s.T), lse2 = lse;
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.C, s.NH, stream_t{});
        const int t = r.between(0, s.T - 1), b = r.between(0, s.B - 1);
        auto other = qkv;
        const float poison[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e4f};
        for (size_t n = 0; n < s.tokens(); n++)
            if (n / s.T != (size_t)b || n % s.T > (size_t)t)
                for (int c = 0; c < 3 * s.C; c++) other[n * 3 * s.C + c] = F(poison[shape % 3]);
        attention_forward(out2.data(), lse2.data(), other.data(), nullptr, s.B, s.T, s.C, s.NH, stream_t{});
        const size_t from = (size_t)b * s.T * s.C, bytes = (size_t)(t + 1) * s.C * sizeof(F);
        EXPECT(!memcmp((void*)&out[from], (void*)&out2[from], bytes));
        for (int h = 0; h < s.NH; h++) {
            const size_t row = ((size_t)b * s.NH + h) * s.T;
            EXPECT(!memcmp(&lse[row], &lse2[row], (size_t)(t + 1) * sizeof(float)));
        }
        // the sequence alone, up to t, is bitwise identical too
        attention_forward(out2.data(), lse2.data(), &qkv[from * 3], nullptr, 1, t + 1, s.C, s.NH, stream_t{});
        EXPECT(!memcmp((void*)&out[from], (void*)out2.data(), bytes));
    }
}

// Documents of random lengths: of one token, of many tiles, one a row.
static Ints random_starts(Random& r, const AttentionShape& s) {
    Ints starts;
    const int longest = r.between(1, 2 * s.T);
    for (int b = 0; b < s.B; b++)
        for (int t = 0, start = 0, next = r.between(1, longest); t < s.T; t++) {
            if (t == next) start = t, next += r.between(1, longest);
            starts.push_back(start);
        }
    return starts;
}

TEST_BOTH(attention_within_documents) {
    Random r(8);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        Ints starts = random_starts(r, s);
        auto qkv = normal_values<F>(r, s.tokens() * 3 * s.C), dout = normal_values<F>(r, s.tokens() * s.C);
        Guarded<F> out(s.tokens() * s.C), dqkv(qkv.size());
        Guarded<float> lse((size_t)s.B * s.NH * s.T), scratch(attention_scratch(s.B, s.T, s.C, s.NH));
        attention_forward(out.data(), lse.data(), qkv.data(), starts.data(), s.B, s.T, s.C, s.NH, stream_t{});
        Attention exact = attention_oracle(in_double(qkv), s.B, s.T, s.C, s.NH, starts);
        EXPECT_WHOLE(out);
        EXPECT_WHOLE(lse);
        EXPECT_CLOSE(out.data(), exact.out.data(), out.size(), tolerance<F>(ROUNDINGS));
        EXPECT_NEAR(lse.data(), exact.lse.data(), lse.size(), ROUNDINGS * 0x1p-24 * std::sqrt((double)lse.size()));

        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), starts.data(), scratch.data(), s.B, s.T, s.C, s.NH, stream_t{});
        EXPECT_WHOLE(dqkv);
        EXPECT(scratch.untouched());
        auto d = backward_oracle(in_double(dout), in_double(out.values()), in_double(qkv), s.B, s.T, s.C, s.NH, starts);
        EXPECT_NEAR(dqkv.data(), d.data(), d.size(), half_ulp<F>() * norm(d) +
                    ROUNDINGS * 0x1p-24 * backward_size(d, in_double(dout), in_double(qkv), s.C / s.NH));
    }
}

TEST_BOTH(attention_within_documents_is_the_derivative) {
    Random r(9);
    for (int shape = 0; shape < 40; shape++) {
        AttentionShape s(r, 9, 5);
        Ints starts = random_starts(r, s);
        auto qkv = normal_values<F>(r, s.tokens() * 3 * s.C), dout = normal_values<F>(r, s.tokens() * s.C);
        auto dout_exact = in_double(dout), qkv_exact = in_double(qkv);
        auto exact = central_differences(qkv_exact, [&](const Doubles& x) {
            Attention y = attention_oracle(x, s.B, s.T, s.C, s.NH, starts);
            return std::inner_product(y.out.begin(), y.out.end(), dout_exact.begin(), 0.0);
        });
        std::vector<F> out(s.tokens() * s.C), dqkv(qkv.size());
        std::vector<float> lse((size_t)s.B * s.NH * s.T), scratch(attention_scratch(s.B, s.T, s.C, s.NH));
        attention_forward(out.data(), lse.data(), qkv.data(), starts.data(), s.B, s.T, s.C, s.NH, stream_t{});
        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), starts.data(), scratch.data(), s.B, s.T, s.C, s.NH, stream_t{});
        double size = backward_size(exact, dout_exact, qkv_exact, s.C / s.NH);
        double stored = std::is_same_v<F, float> ? 0 : 0x1p-8 * size;
        EXPECT_NEAR(dqkv.data(), exact.data(), exact.size(), half_ulp<F>() * norm(exact) + stored + ROUNDINGS * 0x1p-24 * size);
    }
}

// A document is bitwise identical to itself alone at the same positions, whatever is before and behind it, even NaN, and however
// that is divided into documents. Starts of 0 everywhere are no starts.
TEST_BOTH(attention_of_a_document_alone) {
    Random r(10);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        Ints starts = random_starts(r, s), none((size_t)s.B * s.T, 0);
        auto qkv = normal_values<F>(r, s.tokens() * 3 * s.C);
        std::vector<F> out(s.tokens() * s.C), out2 = out;
        std::vector<float> lse((size_t)s.B * s.NH * s.T), lse2 = lse;
        attention_forward(out.data(), lse.data(), qkv.data(), starts.data(), s.B, s.T, s.C, s.NH, stream_t{});

        const int b = r.between(0, s.B - 1), t = r.between(0, s.T - 1), begin = starts[(size_t)b * s.T + t];
        int end = t + 1;
        while (end < s.T && starts[(size_t)b * s.T + end] == begin) end++;
        const size_t row = (size_t)b * s.T;
        std::vector<F> alone(&qkv[row * 3 * s.C], &qkv[row * 3 * s.C] + (size_t)end * 3 * s.C);
        const float poison[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e4f};
        for (size_t i = 0; i < (size_t)begin * 3 * s.C; i++) alone[i] = F(poison[shape % 3]);
        Ints others;
        for (int i = 0; i < end; i++) others.push_back(i >= begin ? begin : shape % 2 ? i : 0);
        attention_forward(out2.data(), lse2.data(), alone.data(), others.data(), 1, end, s.C, s.NH, stream_t{});
        EXPECT(!memcmp((void*)&out[(row + begin) * s.C], (void*)&out2[(size_t)begin * s.C], (size_t)(end - begin) * s.C * sizeof(F)));
        for (int h = 0; h < s.NH; h++)
            EXPECT(!memcmp(&lse[((size_t)b * s.NH + h) * s.T + begin], &lse2[(size_t)h * end + begin], (size_t)(end - begin) * sizeof(float)));

        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.C, s.NH, stream_t{});
        attention_forward(out2.data(), lse2.data(), qkv.data(), none.data(), s.B, s.T, s.C, s.NH, stream_t{});
        EXPECT(same_bits(out, out2) && same_bits(lse, lse2));
    }
}

TEST(starts_of_documents) {
    const int tokens[] = {5, 9, 1, 9, 9, 2, /**/ 9, 1, 1, 1, 1, 9};
    int starts[12];
    document_starts(starts, tokens, 9, 2, 6, stream_t{});
    const int expected[] = {0, 1, 1, 3, 4, 4, /**/ 0, 0, 0, 0, 0, 5};
    EXPECT(!memcmp(starts, expected, sizeof starts));
}

// Prefill in chunks of any size and decode: attention with the KV cache is bitwise identical to the forward.
TEST_BOTH(attention_cached) {
    Random r(5);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        auto qkv = normal_values<F>(r, (size_t)s.T * 3 * s.C);
        std::vector<F> expected((size_t)s.T * s.C);
        std::vector<float> lse((size_t)s.NH * s.T);
        attention_forward(expected.data(), lse.data(), qkv.data(), nullptr, 1, s.T, s.C, s.NH, stream_t{});
        Guarded<F> out(expected.size()), kcache(expected.size()), vcache(expected.size());
        for (int pos = 0, call = 0; pos < s.T; call++) {  // a prompt, some tokens one by one or nearly so, the rest
            int n = call == 0 || call > 9 ? r.between(1, s.T) : r.between(1, 3);
            if (n > s.T - pos) n = s.T - pos;
            attention_cached(out.data() + (size_t)pos * s.C, kcache.data(), vcache.data(), &qkv[(size_t)pos * 3 * s.C], n, pos, s.C, s.NH, stream_t{});
            pos += n;
        }
        EXPECT_WHOLE(out);
        EXPECT_WHOLE(kcache);
        EXPECT_WHOLE(vcache);
        EXPECT(same_bits(out.values(), expected));
    }
}

TEST_BOTH(attention_same_bits_for_any_threads) {
    Random r(6);
    const int B = 3, T = 131, C = 48, NH = 3;
    auto qkv = normal_values<F>(r, (size_t)B * T * 3 * C), dout = normal_values<F>(r, (size_t)B * T * C);
    EXPECT(same_bits_for_any_threads([&] {
        std::vector<F> out((size_t)B * T * C), d(qkv.size());
        std::vector<float> lse((size_t)B * NH * T), scratch(attention_scratch(B, T, C, NH));
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, B, T, C, NH, stream_t{});
        attention_backward(d.data(), dout.data(), out.data(), lse.data(), qkv.data(), nullptr, scratch.data(), B, T, C, NH, stream_t{});
        for (F e : out) lse.push_back((float)e);
        for (F e : d) lse.push_back((float)e);
        return lse;
    }));
}

// A NaN anywhere in what a query sees reaches it, so that the loss shows it; scores far apart do not overflow.
TEST_BOTH(attention_passes_nan_on_and_survives_large_scores) {
    Random r(7);
    const int T = 70, C = 16;
    auto qkv = normal_values<F>(r, (size_t)T * 3 * C, 30);
    std::vector<F> out((size_t)T * C);
    std::vector<float> lse((size_t)T);
    attention_forward(out.data(), lse.data(), qkv.data(), nullptr, 1, T, C, 1, stream_t{});
    for (F e : out) EXPECT(std::isfinite((float)e));
    for (int part = 0; part < 3; part++) {
        auto bad = qkv;
        bad[(size_t)(40 * 3 + part) * C + 5] = F(std::numeric_limits<float>::quiet_NaN());
        attention_forward(out.data(), lse.data(), bad.data(), nullptr, 1, T, C, 1, stream_t{});
        EXPECT(std::isnan((float)out[40 * C + 5]));
        EXPECT(!std::isnan((float)out[39 * C + 5]));
    }
}

TEST(attention_says_no_to_heads_that_do_not_fit) {
    std::vector<float> x(10000);
    EXPECT_DIES("10 channels", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, 10, 3, stream_t{}));
    EXPECT_DIES("head size 300", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, 300, 1, stream_t{}));
}

// An lse that is not finite, which the forward does not make, is not taken for a row without weight: dq of that row, and what it adds to dk, are NaN.
TEST_BOTH(attention_backward_passes_on_a_lse_that_is_not_finite) {
    Random r(8);
    const int T = 70, C = 16;
    const auto qkv = normal_values<F>(r, (size_t)T * 3 * C), dout = normal_values<F>(r, (size_t)T * C);
    std::vector<F> out((size_t)T * C), dqkv((size_t)T * 3 * C);
    std::vector<float> lse((size_t)T), scratch(attention_scratch(1, T, C, 1));
    attention_forward(out.data(), lse.data(), qkv.data(), nullptr, 1, T, C, 1, stream_t{});
    for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        auto with = lse;
        with[41] = bad;
        attention_backward(dqkv.data(), dout.data(), out.data(), with.data(), qkv.data(), nullptr, scratch.data(), 1, T, C, 1, stream_t{});
        EXPECT(std::isnan((float)dqkv[41 * 3 * C]) && std::isnan((float)dqkv[40 * 3 * C + C]));
        EXPECT(std::isfinite((float)dqkv[40 * 3 * C]));
    }
}
