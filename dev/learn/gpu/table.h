// table.h: what the parts of the exercise on a GPU must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
inline size_t count(Size s) { return (size_t)s.N * (size_t)s.C; }
template <class F> Doubles made(size_t n, F f) { Doubles y; for (size_t i = 0; i < n; i++) y.push_back(f(i)); return y; }

inline void grade_scale(Trial& t, Size s) {
    const Doubles x = t.normal(count(s));
    float* out = t.result("out", x.size());
    const float* inp = t.given("inp", x);
    t.run([&] { scale(out, inp, 0.5f, (int)x.size(), t.stream); });
    t.expect("out", made(x.size(), [&](size_t i) { return x[i] / 2; }), 1e-30, {{"the factor is missing", x}});
}

inline void grade_sums(Trial& t, Size s) {
    const Doubles x = t.normal(count(s));
    float* out = t.result("out", (size_t)s.N);
    const float* inp = t.given("inp", x, s.C);
    t.run([&] { sum_rows(out, inp, s.N, s.C, t.stream); });
    // of the elements that are added: a thread's and a warp's number decide
    auto with = [&](auto counts, double factor = 1) {
        return made((size_t)s.N, [&](size_t n) { double sum = 0; for (int c = 0; c < s.C; c++) if (counts(c % 128)) sum += factor * x[n * (size_t)s.C + (size_t)c]; return sum; });
    };
    Doubles bound;  // some C / 128 + 7 roundings of sums that are no larger than that of all absolute values
    for (int n = 0; n < s.N; n++) { double all = 0; for (int c = 0; c < s.C; c++) all += std::fabs(x[(size_t)(n * s.C + c)]); bound.push_back((s.C / 128 + 8) * 0x1p-24 * all + 1e-30); }
    t.expect("out", with([](int) { return true; }), bound, {{"only the first warp's sum is there: the sums of the others are not added", with([](int l) { return l < 32; })}, {"only the first lane of each warp is added: nothing is exchanged", with([](int l) { return l % 32 == 0; })},
        {"only the first thread is added", with([](int l) { return l == 0; })}, {"offset 16 is missing", with([](int l) { return l % 32 < 16; })}, {"offset 1 is missing", with([](int l) { return l % 2 == 0; })}, {"every lane is added 32 times: one lane of a warp stores its sum", with([](int) { return true; }, 32)}});
}

inline void grade_transpose(Trial& t, Size s) {
    const Doubles x = t.normal(count(s));
    float* out = t.result("out", x.size(), s.N);
    const float* inp = t.given("inp", x, s.C);
    t.run([&] { transpose(out, inp, s.N, s.C, t.stream); });
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    t.expect("out", made(x.size(), [&](size_t i) { return x[i % N * C + i / N]; }), 1e-30, {{"it is a copy: rows have stayed rows", x},
        {"a row of inp is N further on in place of C", made(x.size(), [&](size_t i) { return x[(i % N * N + i / N) % x.size()]; })},
        {"each tile is at its place, but not transposed itself: the tile is read as it was written", N % 32 || C % 32 ? Doubles() : made(x.size(), [&](size_t i) { const size_t c = i / N, r = i % N; return x[(r / 32 * 32 + c % 32) * C + c / 32 * 32 + r % 32]; })}});
}

inline void grade_pairs(Trial& t, Size s) {
    const size_t N = (size_t)s.N, M = (size_t)s.C;
    const Doubles x = t.normal(N), y = t.normal(M);
    float* out = t.result("out", N);
    const float *a = t.given("x", x), *b = t.given("y", y);
    t.run([&] { pairs(out, a, b, s.N, s.C, t.stream); });
    auto sums = [&](auto counts) { return made(N, [&](size_t i) { double sum = 0; for (size_t j = 0; j < M; j++) if (counts(j)) sum += (x[i] - y[j]) * (x[i] - y[j]); return sum; }); };
    const Doubles right = sums([](size_t) { return true; });
    auto with = [&](auto counts) { return t.is_large() ? Doubles() : sums(counts); };
    Doubles bound;
    for (double r : right) bound.push_back((double)(M + 4) * 0x1p-24 * r);  // M additions of positive numbers, and two roundings of each
    t.expect("out", right, bound, {{"only the first tile is used", with([](size_t j) { return j < 256; })}, {"every fourth element of y was copied: 16 bytes are four floats", t.is_large() ? Doubles() : made(N, [&](size_t i) { double sum = 0; for (size_t j = 0; j < M; j++) { const double d = x[i] - (j % 4 ? 0 : y[j]); sum += d * d; } return sum; })},
        {"every other tile is missing: are both buffers used?", with([](size_t j) { return j / 256 % 2 == 0; })}});
}

inline double bf16_of(double x) {  // to nearest even
    const uint32_t bits = std::bit_cast<uint32_t>((float)x);
    return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}
inline void grade_product(Trial& t, Size s) {
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    const Doubles x = t.normal(N * C), w = t.normal(8 * C);
    float* out = t.result("out", N * 8, 8);
    const float *inp = t.given("inp", x, s.C), *weight = t.given("weight", w, s.C);
    t.run([&] { product(out, inp, weight, s.N, s.C, t.stream); });
    // a(r, k) and b(k, j): which element of inp's row and column, of weight's, is taken for it, within tiles of 16
    auto with = [&](auto a, auto b, auto c) {
        Doubles y(N * 8);
        for (size_t n = 0; n < N; n++) for (size_t j = 0; j < 8; j++) {
            double sum = 0;
            for (size_t k = 0; k < C; k++) {
                const auto [ar, ak] = a(n % 16, k % 16);
                const auto [bj, bk] = b(j, k % 16);
                sum += bf16_of(x[(n / 16 * 16 + ar) * C + k / 16 * 16 + ak]) * bf16_of(w[bj * C + k / 16 * 16 + bk]);
            }
            const auto [cr, cj] = c(n % 16, j);
            y[(n / 16 * 16 + cr) * 8 + cj] = sum;
        }
        return y;
    };
    auto mistake = [&](auto a, auto b, auto c) { return t.is_large() ? Doubles() : with(a, b, c); };
    using At = std::pair<size_t, size_t>;
    auto same = [](size_t i, size_t k) { return At(i, k); };
    auto corners = [](size_t r, size_t k) { return r / 8 == k / 8 ? At(r, k) : At(r ^ 8, k ^ 8); };
    auto halves = [](size_t i, size_t k) { return At(i, k ^ 1); };
    auto other = [](size_t i, size_t k) { return At(i, k ^ 8); };
    Doubles bound(N * 8);
    for (size_t n = 0; n < N; n++) for (size_t j = 0; j < 8; j++) for (size_t k = 0; k < C; k++) bound[n * 8 + j] += (double)(C + 2) * 0x1p-24 * std::fabs(x[n * C + k] * w[j * C + k]);
    t.expect("out", with(same, same, same), bound, {{"a[1] and a[2] are exchanged: a[1] is row g + 8", mistake(corners, same, same)}, {"the halves of A's registers or of B's are exchanged: A's lower column, B's lower row is in the lower half", mistake(halves, same, same)},
        {"b[0] and b[1] are exchanged, or a[0], a[1] and a[2], a[3]", mistake(same, other, same)}, {"columns 2t, 2t + 1 of out are exchanged", mistake(same, same, [](size_t r, size_t j) { return At(r, j ^ 1); })},
        {"rows g and g + 8 of out are exchanged", mistake(same, same, [](size_t r, size_t j) { return At(r ^ 8, j); })}, {"c[1] and c[2] are exchanged: c[1] is the column beside", mistake(same, same, [](size_t r, size_t j) { return At(r % 8 + j % 2 * 8, (j & ~1ul) + r / 8); })},
        {"every tile is multiplied by weight's first 16 columns", C == 16 ? Doubles() : made(N * 8, [&](size_t i) { double sum = 0; for (size_t k = 0; k < C; k++) sum += bf16_of(x[i / 8 * C + k]) * bf16_of(w[i % 8 * C + k % 16]); return sum; })},
        {"only the first 16 columns are used: are the sums of all warps added?", made(N * 8, [&](size_t i) { double sum = 0; for (size_t k = 0; k < 16; k++) sum += bf16_of(x[i / 8 * C + k]) * bf16_of(w[i % 8 * C + k]); return sum; })}});
}

inline void grade_streams(Trial& t, Size s) {
    const Doubles x = t.normal(count(s));
    float *out = t.result("out", x.size(), s.C), *buffer = t.changed("buffer", Doubles((size_t)s.C));
    const float* inp = t.given("inp", x, s.C);
    stream_t drains = open_stream({});
    drains.kernels.pdl = false;
    // then: whether each row that came out is its own or another row's: an earlier one's, or what the buffer began with; a later one's
    const size_t C = (size_t)s.C;
    const Doubles right = made(x.size(), [&](size_t i) { return (float)(2 * x[i] + 1); });
    Doubles got = right;
    for (uint64_t order = 1; order <= 8 && got == right && Device::set_order(order); order++) {  // of the streams; a mistake shows in some
        t.run([&] { two_streams(out, buffer, inp, s.N, s.C, t.stream, drains); });
        got.assign(t.values("out"), t.values("out") + x.size());
    }
    bool earlier = true, later = true;
    for (size_t n = 0; n < (size_t)s.N; n++) {
        bool before = got[n * C] == 1 || got[n * C] == right[n * C], after = got[n * C] == right[n * C];
        for (size_t m = 0; m < (size_t)s.N; m++) (m < n ? before : after) |= got[n * C] == right[m * C];
        earlier = earlier && before, later = later && after;
    }
    t.expect("out", right, 1e-30, {{"the buffer is drained before it is filled: drains does not wait for fills, or waits for what was recorded before", earlier ? got : Doubles()},
                                   {"the buffer is filled again before it is drained: fills does not wait for drains", later ? got : Doubles()}, {"neither stream waits for the other", got}});
}

constexpr Size LARGE = {4096, 4096};  // 64 MB an array; part 6 is not timed: its rows are short
inline const std::vector<Part> PARTS = {
    {grade_scale, {{7, 137}, {1, 1}, {3, 128}, {16, 256}}, true, {.asked = 1.01, .sectors = 1.01, .launches = 1, .threads = true}, {LARGE}},
    {grade_sums, {{3, 261}, {1, 1}, {2, 31}, {16, 512}}, true, {.asked = 1.01, .sectors = 1.01, .launches = 1, .no_conflicts = true, .threads = true}, {LARGE}},
    {grade_transpose, {{32, 64}, {5, 37}, {1, 1}, {33, 31}, {64, 96}}, true, {.asked = 1.01, .sectors = 1.01, .launches = 1, .no_conflicts = true, .threads = true}, {LARGE}},
    {grade_pairs, {{5, 260}, {1, 4}, {70, 600}, {64, 1024}}, true, {.sectors = 1.01, .launches = 1, .no_conflicts = true, .overlap = true}, {{131072, 4096}, 3.0 * 131072 * 4096}},
    {grade_product, {{16, 16}, {48, 32}, {32, 256}}, true, {.launches = 1, .threads = true}, {{16384, 1024}, 2.0 * 16384 * 1024 * 8, BF16}},
    {grade_streams, {{5, 37}, {1, 1}, {4, 64}}, true, {}},
};
}  // namespace learn
