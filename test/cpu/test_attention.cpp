#include <limits>
#include <numeric>
#include "../../llmc/cpu/attention.h"
#include "../layers.h"

using Doubles = std::vector<double>;

using Ints = std::vector<int>;  // starts of documents; none: all is one
struct AttentionShape {
    int B, T;
    Heads heads;
    size_t tokens() const { return (size_t)B * T; }
    size_t row() const { return (size_t)heads.qkv(); }   // of qkv
    size_t width() const { return (size_t)heads.q(); }   // of out
    size_t rows() const { return tokens() * heads.NH; }  // of softmax
    // where head h of a token has its q, its k and v, its out
    size_t q(size_t token, int h) const { return token * row() + (size_t)h * heads.HS; }
    size_t k(size_t token, int h) const { return q(token, heads.NH + h / (heads.NH / heads.NKV)); }
    size_t v(size_t token, int h) const { return k(token, h) + (size_t)heads.NKV * heads.HS; }
    size_t o(size_t token, int h) const { return token * width() + (size_t)h * heads.HS; }

    static AttentionShape random(Random& r, int max_T, int max_HS) {
        const int B = r.between(1, 2), T = r.between(1, max_T), NKV = r.between(1, 2), NH = NKV * r.between(1, 3);
        return {B, T, {NH, NKV, r.between(1, max_HS)}};
    }
    // Mostly small ones; a few that take several tiles, or several groups of tiles, or long heads; and whole tiles.
    static AttentionShape number(int shape, Random& r) {
        if (shape == 0) return {2, 128, {2, 2, 64}};
        if (shape == 12) return {1, 64, {2, 1, 128}};
        AttentionShape s = random(r, shape % 4 ? 40 : 150, shape % 12 == 2 ? 140 : 20);
        if (shape % 12 == 1) s.T = r.between(257, 330);
        return s;
    }
};

// The definition, with a row of probabilities at a time.
struct Attention { Doubles out, lse; };
static Attention attention_oracle(const Doubles& qkv, const AttentionShape& s, const Ints& starts = {}) {
    const int T = s.T, HS = s.heads.HS;
    Attention y{Doubles(s.tokens() * s.width()), Doubles(s.rows())};
    Doubles p((size_t)T);
    for (int b = 0; b < s.B; b++)
        for (int h = 0; h < s.heads.NH; h++)
            for (int t = 0; t < T; t++) {
                const size_t first = (size_t)b * T;
                const int start = starts.empty() ? 0 : starts[first + t];
                const double* q = &qkv[s.q(first + t, h)];
                double largest = -1e300, sum = 0;
                for (int u = start; u <= t; u++) {
                    const double* k = &qkv[s.k(first + u, h)];
                    p[u] = 0;
                    for (int d = 0; d < HS; d++) p[u] += q[d] * k[d];
                    p[u] /= std::sqrt((double)HS);
                    largest = std::fmax(largest, p[u]);
                }
                for (int u = start; u <= t; u++) sum += p[u] = std::exp(p[u] - largest);
                y.lse[((size_t)b * s.heads.NH + h) * T + t] = largest + std::log(sum);
                double* out = &y.out[s.o(first + t, h)];
                for (int u = start; u <= t; u++) {
                    const double *v = &qkv[s.v(first + u, h)], weight = p[u] / sum;
                    for (int d = 0; d < HS; d++) out[d] += weight * v[d];
                }
            }
    return y;
}
// The gradient by its formulas, from the `out` that the forward stored.
static Doubles backward_oracle(const Doubles& dout, const Doubles& out, const Doubles& qkv, const AttentionShape& s, const Ints& starts = {}) {
    const int T = s.T, HS = s.heads.HS;
    const double scale = 1 / std::sqrt((double)HS);
    Attention y = attention_oracle(qkv, s, starts);
    Doubles d(qkv.size());
    for (int b = 0; b < s.B; b++)
        for (int h = 0; h < s.heads.NH; h++)
            for (int t = 0; t < T; t++) {
                const size_t first = (size_t)b * T, at = s.q(first + t, h), row = s.o(first + t, h);
                const double *q = &qkv[at], *dy = &dout[row];
                double *dq = &d[at], D = 0;
                for (int i = 0; i < HS; i++) D += dy[i] * out[row + i];
                for (int u = starts.empty() ? 0 : starts[first + t]; u <= t; u++) {
                    const double *k = &qkv[s.k(first + u, h)], *v = &qkv[s.v(first + u, h)];
                    double *dk = &d[s.k(first + u, h)], *dv = &d[s.v(first + u, h)], score = 0, dp = 0;
                    for (int i = 0; i < HS; i++) score += q[i] * k[i] * scale, dp += dy[i] * v[i];
                    const double p = std::exp(score - y.lse[((size_t)b * s.heads.NH + h) * T + t]), ds = p * (dp - D) * scale;
                    for (int i = 0; i < HS; i++) dv[i] += p * dy[i], dq[i] += ds * k[i], dk[i] += ds * q[i];
                }
            }
    return d;
}

// Roundings: a score is a sum of HS products scaled by 1/sqrt(HS), |q||k|/sqrt(HS) in size; the tests' scores reach about
// 6, and e^s turns 6 * 2^-24 * (a few roundings) into a relative error of the weight: 32 roundings bound a row. The
// sums over T terms add sqrt(T), below 20 here.
constexpr double ROUNDINGS = 64;

TEST_BOTH(attention_forward) {
    Random r(1);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        auto qkv = normal_values<F>(r, s.tokens() * s.row());
        Guarded<F> out(s.tokens() * s.width());
        Guarded<float> lse(s.rows());
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.heads, stream_t{});
        Attention exact = attention_oracle(in_double(qkv), s);
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
        auto qkv = normal_values<F>(r, s.tokens() * s.row()), dout = normal_values<F>(r, s.tokens() * s.width());
        Guarded<F> out(s.tokens() * s.width()), dqkv(qkv.size());
        Guarded<float> lse(s.rows()), scratch(attention_scratch(s.B, s.T, s.heads));
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.heads, stream_t{});
        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), nullptr, scratch.data(), s.B, s.T, s.heads, stream_t{});
        EXPECT_WHOLE(dqkv);
        EXPECT(scratch.untouched());
        auto exact = backward_oracle(in_double(dout), in_double(out.values()), in_double(qkv), s);
        EXPECT_NEAR(dqkv.data(), exact.data(), exact.size(), half_ulp<F>() * norm(exact) +
                    ROUNDINGS * 0x1p-24 * backward_size(exact, in_double(dout), in_double(qkv), s.heads.HS));
    }
}

// Central differences of sum(out * dout). In bf16 the backward's delta is computed from the rounded out: |dout| |out| 2^-8 more.
TEST_BOTH(attention_backward_is_the_derivative) {
    Random r(3);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::random(r, 7, 5);
        auto qkv = normal_values<F>(r, s.tokens() * s.row()), dout = normal_values<F>(r, s.tokens() * s.width());
        auto dout_exact = in_double(dout), qkv_exact = in_double(qkv);
        auto exact = central_differences(qkv_exact, [&](const Doubles& x) {
            Attention y = attention_oracle(x, s);
            return std::inner_product(y.out.begin(), y.out.end(), dout_exact.begin(), 0.0);
        });
        std::vector<F> out(s.tokens() * s.width()), dqkv(qkv.size());
        std::vector<float> lse(s.rows()), scratch(attention_scratch(s.B, s.T, s.heads));
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.heads, stream_t{});
        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), nullptr, scratch.data(), s.B, s.T, s.heads, stream_t{});
        double size = backward_size(exact, dout_exact, qkv_exact, s.heads.HS);
        double stored = std::is_same_v<F, float> ? 0 : 0x1p-8 * size;
        EXPECT_NEAR(dqkv.data(), exact.data(), exact.size(), half_ulp<F>() * norm(exact) + stored + ROUNDINGS * 0x1p-24 * size);
    }
}

// Tokens after t do not reach the result of t in any bit, not even as NaN; nor does the rest of the batch.
TEST_BOTH(attention_sees_no_future_and_no_neighbour) {
    Random r(4);
    for (int shape = 0; shape < 60; shape++) {
        AttentionShape s = AttentionShape::number(shape, r);
        auto qkv = normal_values<F>(r, s.tokens() * s.row());
        std::vector<F> out(s.tokens() * s.width()), out2 = out;
        std::vector<float> lse(s.rows()), lse2 = lse;
        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.heads, stream_t{});
        const int t = r.between(0, s.T - 1), b = r.between(0, s.B - 1);
        auto other = qkv;
        const float poison[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e4f};
        for (size_t n = 0; n < s.tokens(); n++)
            if (n / s.T != (size_t)b || n % s.T > (size_t)t)
                for (size_t c = 0; c < s.row(); c++) other[n * s.row() + c] = F(poison[shape % 3]);
        attention_forward(out2.data(), lse2.data(), other.data(), nullptr, s.B, s.T, s.heads, stream_t{});
        const size_t from = (size_t)b * s.T * s.width(), bytes = (size_t)(t + 1) * s.width() * sizeof(F);
        EXPECT(!memcmp((void*)&out[from], (void*)&out2[from], bytes));
        for (int h = 0; h < s.heads.NH; h++) {
            const size_t row = ((size_t)b * s.heads.NH + h) * s.T;
            EXPECT(!memcmp(&lse[row], &lse2[row], (size_t)(t + 1) * sizeof(float)));
        }
        // the sequence alone, up to t, is bitwise identical too
        attention_forward(out2.data(), lse2.data(), &qkv[(size_t)b * s.T * s.row()], nullptr, 1, t + 1, s.heads, stream_t{});
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

// A window by its definition: of the last tokens those of the document.
static Ints seen_from(const Ints& documents, const AttentionShape& s, int window) {
    Ints starts;
    for (int i = 0; i < s.B * s.T; i++) starts.push_back(std::max(documents.empty() ? 0 : documents[(size_t)i], i % s.T - (window - 1)));
    return starts;
}
// Of one token, a tile with one more or less, the whole sequence and more, any; by itself or within documents.
static Ints random_windows(Random& r, const AttentionShape& s, int number) {
    const int widths[] = {1, 63, 64, 65, s.T, s.T + 9, r.between(1, s.T), r.between(1, s.T)}, window = widths[number % 8];
    const Ints documents = number % 3 == 0 ? random_starts(r, s) : Ints();
    Ints starts((size_t)s.B * s.T);
    window_starts(starts.data(), documents.empty() ? nullptr : documents.data(), window, s.B, s.T, stream_t{});
    EXPECT(starts == seen_from(documents, s, window));
    return starts;
}

TEST_BOTH(attention_within_documents_and_windows) {
    Random r(8);
    for (int shape = 0; shape < 120; shape++) {
        AttentionShape s = AttentionShape::number(shape / 2, r);
        Ints starts = shape % 2 ? random_windows(r, s, shape / 2) : random_starts(r, s);
        auto qkv = normal_values<F>(r, s.tokens() * s.row()), dout = normal_values<F>(r, s.tokens() * s.width());
        Guarded<F> out(s.tokens() * s.width()), dqkv(qkv.size());
        Guarded<float> lse(s.rows()), scratch(attention_scratch(s.B, s.T, s.heads));
        attention_forward(out.data(), lse.data(), qkv.data(), starts.data(), s.B, s.T, s.heads, stream_t{});
        Attention exact = attention_oracle(in_double(qkv), s, starts);
        EXPECT_WHOLE(out);
        EXPECT_WHOLE(lse);
        EXPECT_CLOSE(out.data(), exact.out.data(), out.size(), tolerance<F>(ROUNDINGS));
        EXPECT_NEAR(lse.data(), exact.lse.data(), lse.size(), ROUNDINGS * 0x1p-24 * std::sqrt((double)lse.size()));

        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), starts.data(), scratch.data(), s.B, s.T, s.heads, stream_t{});
        EXPECT_WHOLE(dqkv);
        EXPECT(scratch.untouched());
        auto d = backward_oracle(in_double(dout), in_double(out.values()), in_double(qkv), s, starts);
        EXPECT_NEAR(dqkv.data(), d.data(), d.size(), half_ulp<F>() * norm(d) +
                    ROUNDINGS * 0x1p-24 * backward_size(d, in_double(dout), in_double(qkv), s.heads.HS));
    }
}

TEST_BOTH(attention_within_documents_and_windows_is_the_derivative) {
    Random r(9);
    for (int shape = 0; shape < 80; shape++) {
        AttentionShape s = AttentionShape::random(r, 9, 5);
        Ints starts = shape % 2 ? random_windows(r, s, shape / 2) : random_starts(r, s);
        auto qkv = normal_values<F>(r, s.tokens() * s.row()), dout = normal_values<F>(r, s.tokens() * s.width());
        auto dout_exact = in_double(dout), qkv_exact = in_double(qkv);
        auto exact = central_differences(qkv_exact, [&](const Doubles& x) {
            Attention y = attention_oracle(x, s, starts);
            return std::inner_product(y.out.begin(), y.out.end(), dout_exact.begin(), 0.0);
        });
        std::vector<F> out(s.tokens() * s.width()), dqkv(qkv.size());
        std::vector<float> lse(s.rows()), scratch(attention_scratch(s.B, s.T, s.heads));
        attention_forward(out.data(), lse.data(), qkv.data(), starts.data(), s.B, s.T, s.heads, stream_t{});
        attention_backward(dqkv.data(), dout.data(), out.data(), lse.data(), qkv.data(), starts.data(), scratch.data(), s.B, s.T, s.heads, stream_t{});
        double size = backward_size(exact, dout_exact, qkv_exact, s.heads.HS);
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
        auto qkv = normal_values<F>(r, s.tokens() * s.row());
        std::vector<F> out(s.tokens() * s.width()), out2 = out;
        std::vector<float> lse(s.rows()), lse2 = lse;
        attention_forward(out.data(), lse.data(), qkv.data(), starts.data(), s.B, s.T, s.heads, stream_t{});

        const int b = r.between(0, s.B - 1), t = r.between(0, s.T - 1), begin = starts[(size_t)b * s.T + t];
        int end = t + 1;
        while (end < s.T && starts[(size_t)b * s.T + end] == begin) end++;
        const size_t row = (size_t)b * s.T;
        std::vector<F> alone(&qkv[row * s.row()], &qkv[row * s.row()] + (size_t)end * s.row());
        const float poison[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e4f};
        for (size_t i = 0; i < (size_t)begin * s.row(); i++) alone[i] = F(poison[shape % 3]);
        Ints others;
        for (int i = 0; i < end; i++) others.push_back(i >= begin ? begin : shape % 2 ? i : 0);
        attention_forward(out2.data(), lse2.data(), alone.data(), others.data(), 1, end, s.heads, stream_t{});
        EXPECT(!memcmp((void*)&out[(row + begin) * s.width()], (void*)&out2[(size_t)begin * s.width()], (size_t)(end - begin) * s.width() * sizeof(F)));
        for (int h = 0; h < s.heads.NH; h++)
            EXPECT(!memcmp(&lse[((size_t)b * s.heads.NH + h) * s.T + begin], &lse2[(size_t)h * end + begin], (size_t)(end - begin) * sizeof(float)));

        attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, s.heads, stream_t{});
        attention_forward(out2.data(), lse2.data(), qkv.data(), none.data(), s.B, s.T, s.heads, stream_t{});
        EXPECT(same_bits(out, out2) && same_bits(lse, lse2));
    }
}

// What is before t's window does not reach t, nor any token behind it, in any bit, not even as NaN; gradients of t and on do not reach it either.
TEST_BOTH(attention_sees_nothing_before_its_window) {
    Random r(12);
    for (int shape = 0; shape < 60; shape++) {
        const AttentionShape s = AttentionShape::number(shape, r);
        const Ints starts = random_windows(r, s, shape);
        const auto qkv = normal_values<F>(r, s.tokens() * s.row()), dout = normal_values<F>(r, s.tokens() * s.width());
        const int t = r.between(0, s.T - 1), start = starts[(size_t)t];
        auto other = qkv, of_late = dout;
        const float poison[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e4f};
        for (size_t i = 0; i < (size_t)start * s.row(); i++) other[i] = F(poison[shape % 3]);
        for (size_t i = (size_t)t * s.width(); i < of_late.size(); i++) of_late[i] = F(1000 * r.normal());
        std::vector<F> out(dout.size()), out2 = out, d(qkv.size()), d2 = d;
        std::vector<float> lse(s.rows()), lse2 = lse, scratch(attention_scratch(s.B, s.T, s.heads));
        attention_forward(out.data(), lse.data(), qkv.data(), starts.data(), s.B, s.T, s.heads, stream_t{});
        attention_forward(out2.data(), lse2.data(), other.data(), starts.data(), s.B, s.T, s.heads, stream_t{});
        EXPECT(!memcmp((void*)&out[(size_t)t * s.width()], (void*)&out2[(size_t)t * s.width()], (size_t)(s.T - t) * s.width() * sizeof(F)));
        for (int h = 0; h < s.heads.NH; h++) EXPECT(!memcmp(&lse[(size_t)h * s.T + t], &lse2[(size_t)h * s.T + t], (size_t)(s.T - t) * sizeof(float)));
        attention_backward(d.data(), dout.data(), out.data(), lse.data(), qkv.data(), starts.data(), scratch.data(), s.B, s.T, s.heads, stream_t{});
        attention_backward(d2.data(), of_late.data(), out.data(), lse.data(), qkv.data(), starts.data(), scratch.data(), s.B, s.T, s.heads, stream_t{});
        for (size_t i = 0; i < (size_t)start * s.row(); i++)
            if (!((float)d[i] == (float)d2[i])) { FAIL("token %d: a gradient from behind its window", (int)(i / s.row())); break; }
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
        auto qkv = normal_values<F>(r, (size_t)s.T * s.row());
        const size_t cached = (size_t)s.heads.NKV * s.heads.HS;
        std::vector<F> expected((size_t)s.T * s.width());
        std::vector<float> lse((size_t)s.heads.NH * s.T);
        const int windows[] = {0, 1, s.T, r.between(1, s.T)}, window = windows[shape % 4];
        const Ints starts = seen_from({}, s, window);
        attention_forward(expected.data(), lse.data(), qkv.data(), window ? starts.data() : nullptr, 1, s.T, s.heads, stream_t{});
        Guarded<F> out(expected.size()), kcache((size_t)s.T * cached), vcache((size_t)s.T * cached);
        for (int pos = 0, call = 0; pos < s.T; call++) {  // a prompt, some tokens one by one or nearly so, the rest
            int n = call == 0 || call > 9 ? r.between(1, s.T) : r.between(1, 3);
            if (n > s.T - pos) n = s.T - pos;
            attention_cached(out.data() + (size_t)pos * s.width(), kcache.data(), vcache.data(), &qkv[(size_t)pos * s.row()], n, pos, window, s.heads, stream_t{});
            pos += n;
        }
        EXPECT_WHOLE(out);
        EXPECT_WHOLE(kcache);
        EXPECT_WHOLE(vcache);
        EXPECT(same_bits(out.values(), expected));
        for (size_t t = 0; t < (size_t)s.T; t++) {
            EXPECT(!memcmp((void*)(kcache.data() + t * cached), (void*)&qkv[s.k(t, 0)], cached * sizeof(F)));
            EXPECT(!memcmp((void*)(vcache.data() + t * cached), (void*)&qkv[s.v(t, 0)], cached * sizeof(F)));
        }
    }
}

TEST_BOTH(attention_same_bits_for_any_threads) {
    Random r(6);
    for (const Heads& heads : std::vector<Heads>{{3, 3, 16}, {6, 2, 16}, {4, 1, 24}}) {
        const AttentionShape s{3, 131, heads};
        auto qkv = normal_values<F>(r, s.tokens() * s.row()), dout = normal_values<F>(r, s.tokens() * s.width());
        EXPECT(same_bits_for_any_threads([&] {
            std::vector<F> out(dout.size()), d(qkv.size());
            std::vector<float> lse(s.rows()), scratch(attention_scratch(s.B, s.T, heads));
            attention_forward(out.data(), lse.data(), qkv.data(), nullptr, s.B, s.T, heads, stream_t{});
            attention_backward(d.data(), dout.data(), out.data(), lse.data(), qkv.data(), nullptr, scratch.data(), s.B, s.T, heads, stream_t{});
            for (F e : out) lse.push_back((float)e);
            for (F e : d) lse.push_back((float)e);
            return lse;
        }));
    }
}

// Grouped queries are query heads that each have a copy of their group's keys and values: out, lse and dq in the same bits. dk and dv are the copies'
// added up: of those each is rounded when it is stored, here only the sum, and in fp32 it is another order.
TEST_BOTH(attention_of_grouped_queries) {
    Random r(11);
    const int groups[5][2] = {{1, 1}, {2, 1}, {6, 2}, {9, 3}, {4, 4}}, lengths[4] = {1, 7, 65, 130}, sizes[4] = {8, 24, 64, 128};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++) {
            const int NH = groups[i][0], NKV = groups[i][1], T = lengths[j], HS = sizes[(i + j) % 4];
            const AttentionShape s{T < 65 ? 2 : 1, T, {NH, NKV, HS}}, copies{s.B, T, {NH, NH, HS}};
            const Ints starts = i % 2 == j / 2 % 2 ? random_starts(r, s) : Ints();
            const auto qkv = normal_values<F>(r, s.tokens() * s.row()), dout = normal_values<F>(r, s.tokens() * s.width());
            std::vector<F> repeated(copies.tokens() * copies.row());
            for (size_t t = 0; t < s.tokens(); t++)
                for (int h = 0; h < NH; h++)
                    for (int d = 0; d < HS; d++)
                        repeated[copies.q(t, h) + d] = qkv[s.q(t, h) + d], repeated[copies.k(t, h) + d] = qkv[s.k(t, h) + d], repeated[copies.v(t, h) + d] = qkv[s.v(t, h) + d];
            std::vector<F> out[2] = {dout, dout}, dqkv[2] = {qkv, repeated};
            std::vector<float> lse[2] = {std::vector<float>(s.rows()), std::vector<float>(s.rows())};
            for (bool grouped : {true, false}) {
                const Heads& heads = grouped ? s.heads : copies.heads;
                const F* inp = grouped ? qkv.data() : repeated.data();
                std::vector<float> scratch(attention_scratch(s.B, T, heads));
                attention_forward(out[!grouped].data(), lse[!grouped].data(), inp, starts.empty() ? nullptr : starts.data(), s.B, T, heads, stream_t{});
                attention_backward(dqkv[!grouped].data(), dout.data(), out[!grouped].data(), lse[!grouped].data(), inp, starts.empty() ? nullptr : starts.data(), scratch.data(),
                                   s.B, T, heads, stream_t{});
            }
            EXPECT(same_bits(out[0], out[1]) && same_bits(lse[0], lse[1]));
            const auto exact = backward_oracle(in_double(dout), in_double(out[0]), in_double(qkv), s, starts);
            const double fp32 = ROUNDINGS * 0x1p-24 * backward_size(exact, in_double(dout), in_double(qkv), HS);
            EXPECT_NEAR(dqkv[0].data(), exact.data(), exact.size(), half_ulp<F>() * norm(exact) + fp32);
            Doubles sum(qkv.size()), magnitude(qkv.size());
            for (size_t t = 0; t < s.tokens(); t++)
                for (int h = 0; h < NH; h++) {
                    EXPECT(!memcmp((void*)&dqkv[0][s.q(t, h)], (void*)&dqkv[1][copies.q(t, h)], (size_t)HS * sizeof(F)));
                    for (int d = 0; d < HS; d++) {
                        const auto add = [&](size_t at, F x) { sum[at] += (double)(float)x, magnitude[at] += std::fabs((double)(float)x); };
                        sum[s.q(t, h) + d] = (double)(float)dqkv[0][s.q(t, h) + d];
                        add(s.k(t, h) + d, dqkv[1][copies.k(t, h) + d]), add(s.v(t, h) + d, dqkv[1][copies.v(t, h) + d]);
                    }
                }
            EXPECT_NEAR(dqkv[0].data(), sum.data(), sum.size(), half_ulp<F>() * (norm(sum) + norm(magnitude)) + fp32);
        }
}

// A NaN anywhere in what a query sees reaches it, so that the loss shows it; scores far apart do not overflow.
TEST_BOTH(attention_passes_nan_on_and_survives_large_scores) {
    Random r(7);
    const int T = 70, C = 16;
    auto qkv = normal_values<F>(r, (size_t)T * 3 * C, 30);
    std::vector<F> out((size_t)T * C);
    std::vector<float> lse((size_t)T);
    attention_forward(out.data(), lse.data(), qkv.data(), nullptr, 1, T, {1, 1, C}, stream_t{});
    for (F e : out) EXPECT(std::isfinite((float)e));
    for (int part = 0; part < 3; part++) {
        auto bad = qkv;
        bad[(size_t)(40 * 3 + part) * C + 5] = F(std::numeric_limits<float>::quiet_NaN());
        attention_forward(out.data(), lse.data(), bad.data(), nullptr, 1, T, {1, 1, C}, stream_t{});
        EXPECT(std::isnan((float)out[40 * C + 5]));
        EXPECT(!std::isnan((float)out[39 * C + 5]));
    }
}

TEST(attention_says_no_to_heads_that_do_not_fit) {
    std::vector<float> x(10000);
    EXPECT_DIES("3 heads do not divide among 2 of keys", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, {3, 2, 8}, stream_t{}));
    EXPECT_DIES("head size 300", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, {1, 1, 300}, stream_t{}));
}

// An lse that is not finite, which the forward does not make, is not taken for a row without weight: dq of that row, and what it adds to dk, are NaN.
TEST_BOTH(attention_backward_passes_on_a_lse_that_is_not_finite) {
    Random r(8);
    const int T = 70, C = 16;
    const auto qkv = normal_values<F>(r, (size_t)T * 3 * C), dout = normal_values<F>(r, (size_t)T * C);
    std::vector<F> out((size_t)T * C), dqkv((size_t)T * 3 * C);
    std::vector<float> lse((size_t)T), scratch(attention_scratch(1, T, {1, 1, C}));
    attention_forward(out.data(), lse.data(), qkv.data(), nullptr, 1, T, {1, 1, C}, stream_t{});
    for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        auto with = lse;
        with[41] = bad;
        attention_backward(dqkv.data(), dout.data(), out.data(), with.data(), qkv.data(), nullptr, scratch.data(), 1, T, {1, 1, C}, stream_t{});
        EXPECT(std::isnan((float)dqkv[41 * 3 * C]) && std::isnan((float)dqkv[40 * 3 * C + C]));
        EXPECT(std::isfinite((float)dqkv[40 * 3 * C]));
    }
}
