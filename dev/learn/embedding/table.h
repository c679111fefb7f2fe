// table.h: what the parts of the exercise on the embedding must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
constexpr int V = 11;  // words: few, so that they repeat
inline int positions_of(Size s) { return s.N % 1024 == 0 ? 1024 : s.N % 7 == 0 ? 7 : s.N % 8 == 0 ? 8 : 1; }

enum Mistake { NONE, NO_POSITION, POSITION_N, ROW_OF_WTE, NO_TOKEN, OVERWRITTEN, LAST_ONLY, DROPS_LAST, DROPS_FIRST, SORTED_ROW, BATCH_ROW, STRIDE_C };
// Word 3 is every second token, as frequent words are; word 10 does not occur.
inline std::vector<int> tokens_of(Size s) {
    std::vector<int> inp;
    for (int n = 0; n < s.N; n++) inp.push_back(n % 2 ? 3 : n / 2 * 7 % (V - 1));
    return inp;
}
inline Doubles forward_oracle(const std::vector<int>& inp, const Doubles& wte, const Doubles& wpe, Size s, Mistake m = NONE) {
    const int T = positions_of(s);
    Doubles out;
    for (int n = 0; n < s.N; n++)
        for (int c = 0; c < s.C; c++) {
            const int row = m == ROW_OF_WTE ? n % V : inp[(size_t)n], position = m == POSITION_N ? n / T % T : n % T;
            out.push_back((m == NO_TOKEN ? 0 : wte[(size_t)(row * s.C + c)]) + (m == NO_POSITION ? 0 : wpe[(size_t)(position * s.C + c)]));
        }
    return out;
}
struct Sorted { std::vector<int> order, first; };
inline Sorted sorted(const std::vector<int>& inp, int mistake = 0) {  // 1: unstable, the larger n first; 2: first holds ends; 3: first holds counts; 4: in first[v + 1]
    Sorted s;
    for (int v = 0; v < V; v++) {
        s.first.push_back((int)s.order.size());
        for (int n = 0; n < (int)inp.size(); n++) if (inp[(size_t)n] == v) s.order.push_back(n);
        if (mistake == 1) std::reverse(s.order.begin() + s.first.back(), s.order.end());
        if (mistake == 2) s.first.back() = (int)s.order.size();
        if (mistake == 3) s.first.back() = (int)s.order.size() - s.first.back();
    }
    s.first.push_back((int)inp.size());
    if (mistake == 4) for (int v = V; v >= 0; v--) s.first[(size_t)v] = v ? s.first[(size_t)v] - s.first[(size_t)v - 1] : 0;
    return s;
}
inline Doubles dwte_oracle(const std::vector<int>& inp, const Doubles& dout, const Doubles& before, Size s, Mistake m = NONE) {
    Doubles d = before;
    const Sorted rows = sorted(inp);
    for (int i = 0; i < s.N; i++) {
        const int n = rows.order[(size_t)i], v = inp[(size_t)n], begin = rows.first[(size_t)v], end = rows.first[(size_t)v + 1];
        if ((m == DROPS_LAST && i == end - 1) || (m == DROPS_FIRST && i == begin)) continue;
        for (int c = 0; c < s.C; c++) {
            double& x = d[(size_t)(v * s.C + c)];
            if ((m == OVERWRITTEN && i == begin) || m == LAST_ONLY) x = 0;
            x += dout[(size_t)((m == SORTED_ROW ? i : n) * s.C + c)];
        }
    }
    return d;
}
inline Doubles dwpe_oracle(const Doubles& dout, const Doubles& before, Size s, Mistake m = NONE) {
    const int T = positions_of(s), C = s.C;
    Doubles d = before;
    for (int n = 0; n < s.N; n++)
        for (int c = 0; c < C; c++) {
            double& x = d[(size_t)((m == BATCH_ROW ? n / T % T : n % T) * C + c)];
            if ((m == OVERWRITTEN && n < T) || m == LAST_ONLY) x = 0;
            if (m == DROPS_LAST && n >= s.N - T) continue;
            x += dout[(size_t)((m == STRIDE_C ? n / T + n % T : n) * C + c)];
        }
    return d;
}
// Sums of at most N terms below 8: N + 1 roundings.
inline double sums_bound(Size s) { return (s.N + 1) * 0x1p-24 * 8 * 2; }

template <bool CUDA> void grade_forward(Trial& t, Size s) {
    const int T = positions_of(s);
    const std::vector<int> tokens = tokens_of(s);
    const Doubles token = t.normal((size_t)(V * s.C)), position = t.normal((size_t)(T * s.C));
    float* out = t.result("out", (size_t)(s.N * s.C), s.C);
    const int* inp = t.given("inp", tokens);
    const float *wte = t.given("wte", token, s.C), *wpe = t.given("wpe", position, s.C);
    t.run([&] {
        if constexpr (CUDA) forward_cuda(out, inp, wte, wpe, s.N / T, T, s.C, t.stream);
        else forward_cpp(out, inp, wte, wpe, s.N / T, T, s.C);
    });
    auto with = [&](Mistake m) { return t.wants(m) ? forward_oracle(tokens, token, position, s, m) : Doubles(); };
    t.expect("out", with(NONE), 0x1p-24 * 16, {{"wpe is not added", with(NO_POSITION)}, {"the position is n / T, the row of the batch: it is n % T", with(POSITION_N)}, {"row n takes row n of wte, not that of token inp[n]", with(ROW_OF_WTE)}, {"wte is not added", with(NO_TOKEN)}});
}
inline void expect_dwpe(Trial& t, const Doubles& dout, const Doubles& before, Size s) {
    auto with = [&](Mistake m) { return t.wants(m) ? dwpe_oracle(dout, before, s, m) : Doubles(); };
    t.expect("dwpe", with(NONE), sums_bound(s), {{"dwpe is overwritten: it is +=, other micro-batches have added to it", with(OVERWRITTEN)}, {"each row of the batch overwrites what those before it have added", with(LAST_ONLY)}, {"the last row of the batch is left out", with(DROPS_LAST)}, {"the position is n / T, the row of the batch: it is n % T", with(BATCH_ROW)},
             {"rows of the batch are taken to be C elements apart: it is T * C", with(STRIDE_C)}, {"nothing is added to it", before}});
}
inline void expect_dwte(Trial& t, const std::vector<int>& tokens, const Doubles& dout, const Doubles& before, Size s) {
    auto with = [&](Mistake m) { return dwte_oracle(tokens, dout, before, s, m); };
    t.expect("dwte", with(NONE), sums_bound(s), {{"dwte is overwritten: it is +=, the classifier has written it before", with(OVERWRITTEN)}, {"each occurrence of a token overwrites those before it", with(LAST_ONLY)},
             {"of each token the last row is left out: rows are begin .. end - 1", with(DROPS_LAST)}, {"of each token the first row is left out", with(DROPS_FIRST)}, {"row i of dout is taken, not row order[i]", with(SORTED_ROW)}, {"nothing is added to it", before}});
}
inline void grade_backward(Trial& t, Size s) {
    const int T = positions_of(s);
    const std::vector<int> tokens = tokens_of(s);
    const Doubles d = t.normal((size_t)(s.N * s.C)), dwte0 = t.normal((size_t)(V * s.C)), dwpe0 = t.normal((size_t)(T * s.C));
    float *dwte = t.changed("dwte", dwte0, s.C), *dwpe = t.changed("dwpe", dwpe0, s.C);
    const float* dout = t.given("dout", d, s.C);
    const int* inp = t.given("inp", tokens);
    t.run([&] { backward_cpp(dwte, dwpe, dout, inp, s.N / T, T, s.C); });
    expect_dwte(t, tokens, d, dwte0, s);
    expect_dwpe(t, d, dwpe0, s);
}
inline void grade_positions(Trial& t, Size s) {
    const int T = positions_of(s);
    const Doubles d = t.normal((size_t)(s.N * s.C)), before = t.normal((size_t)(T * s.C));
    float* dwpe = t.changed("dwpe", before, s.C);
    const float* dout = t.given("dout", d, s.C);
    t.run([&] { positions_cuda(dwpe, dout, s.N / T, T, s.C, t.stream); });
    expect_dwpe(t, d, before, s);
}
inline void grade_sort(Trial& t, Size s) {
    const std::vector<int> inp = tokens_of(s);
    float *got_first = t.result("first", V + 1), *got_order = t.result("order", inp.size());
    t.run([&] {
        std::vector<int> order(inp.size(), 12345), first(V + 1, 12345);
        sort_tokens(order.data(), first.data(), inp.data(), s.N, V);
        for (size_t v = 0; v <= V; v++) got_first[v] = (float)first[v];
        for (size_t i = 0; i < inp.size(); i++) got_order[i] = (float)order[i];
    });
    auto doubles = [](const std::vector<int>& x) { return Doubles(x.begin(), x.end()); };
    const Sorted right = sorted(inp);
    t.expect("first", doubles(right.first), 0.1, {{"they are where tokens end: the placing has moved them on, so it needs a copy", doubles(sorted(inp, 2).first)}, {"they are counts, which are not added up", doubles(sorted(inp, 3).first)}, {"they are counts, which are not added up", doubles(sorted(inp, 4).first)}});
    t.expect("order", doubles(right.order), 0.1, {{"the sort is not stable: of one token the larger n comes first", doubles(sorted(inp, 1).order)}});
}
inline void grade_tokens(Trial& t, Size s) {
    const std::vector<int> tokens = tokens_of(s);
    const Sorted rows = sorted(tokens);
    const Doubles d = t.normal((size_t)(s.N * s.C)), before = t.normal((size_t)(V * s.C));
    float* dwte = t.changed("dwte", before, s.C);
    const float* dout = t.given("dout", d, s.C);
    const int *order = t.given("order", rows.order), *first = t.given("first", rows.first);
    t.run([&] { tokens_cuda(dwte, dout, order, first, V, s.C, t.stream); });
    expect_dwte(t, tokens, d, before, s);
}

inline const std::vector<Size> ODD = {{21, 5}, {1, 1}, {35, 33}, {64, 128}}, FOURS = {{21, 12}, {1, 4}, {35, 132}, {32, 256}};
constexpr Size LARGE = {16384, 1024};  // 64 MB an array, 1024 positions; part 6 is not timed: eleven tokens are eleven warps
inline const std::vector<Part> PARTS = {
    {grade_forward<false>, {{21, 5}, {1, 1}, {64, 33}}},
    {grade_backward, {{21, 5}, {1, 1}, {64, 33}}},
    {grade_forward<true>, FOURS, true, {.sectors = 1.1, .access = 14, .launches = 1, .threads = true}, {LARGE}},
    {grade_positions, ODD, true, {.sectors = 1.1, .launches = 1, .threads = true}, {LARGE}},
    {grade_sort, {{21, 1}, {1, 1}, {64, 1}}},
    {grade_tokens, ODD, true, {.sectors = 1.1, .launches = 1}},
};
}  // namespace learn
