// table.h: what the parts of LayerNorm's exercise must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
// ---- the oracle, in double; with a mistake in it, if one is named --------------------------------------------------------
enum Mistake {
    NONE, EPS_OUTSIDE, NO_EPS, DIVISOR, NO_CENTER, VARIANCE_ONLY, NO_WEIGHT, NO_BIAS, FIRST_ROW, NOT_DIVIDED,
    NO_DN_WEIGHT, NO_WEIGHT_IN_MEANS, NO_MEAN_DN, NO_MEAN_DN_N, NO_RSTD, SUM_NOT_MEAN, ONE_SUM, DW_OF_X, DB_WEIGHTED, DB_OVERWRITTEN, DW_LAST_ROW,
};
struct Norm { Doubles out, mean, rstd; };
inline Norm forward_oracle(const Doubles& x, const Doubles& w, const Doubles& b, size_t N, size_t C, double eps, Mistake mistake = NONE) {
    Norm y{Doubles(N * C), Doubles(N), Doubles(N)};
    for (size_t n = 0; n < N; n++) {
        const double* row = x.data() + (mistake == FIRST_ROW ? 0 : n * C);
        double m = 0, v = 0;
        for (size_t c = 0; c < C; c++) m += row[c] / (mistake == NOT_DIVIDED ? 1 : (double)C);
        for (size_t c = 0; c < C; c++) v += mistake == NO_CENTER ? row[c] * row[c] : (row[c] - m) * (row[c] - m);
        v /= mistake == NOT_DIVIDED ? 1 : mistake == DIVISOR ? (double)C - 1 : (double)C;
        y.mean[n] = m;
        y.rstd[n] = mistake == EPS_OUTSIDE ? 1 / (std::sqrt(v) + eps) : mistake == NO_EPS ? 1 / std::sqrt(v) : mistake == VARIANCE_ONLY ? 1 / (v + eps) : 1 / std::sqrt(v + eps);
        for (size_t c = 0; c < C; c++)
            y.out[n * C + c] = (row[c] - m) * y.rstd[n] * (mistake == NO_WEIGHT ? 1 : w[c]) + (mistake == NO_BIAS ? 0 : b[c]);
    }
    return y;
}
struct Gradients { Doubles dx, dw, db; };
inline Gradients backward_oracle(const Doubles& dout, const Doubles& x, const Norm& y, const Doubles& w, const Doubles& dw0, const Doubles& db0, size_t N, size_t C, Mistake mistake = NONE) {
    Gradients g{Doubles(N * C), dw0, db0};
    for (size_t n = 0; n < N; n++) {
        auto dn = [&](size_t c) { return dout[n * C + c] * (mistake == NO_DN_WEIGHT ? 1 : w[c]); };
        auto normed = [&](size_t c) { return (x[n * C + c] - y.mean[n]) * y.rstd[n]; };
        double a = 0, b = 0;
        for (size_t c = 0; c < C; c++) {
            const double d = mistake == NO_WEIGHT_IN_MEANS ? dout[n * C + c] : dn(c);
            a += d, b += d * normed(c);
        }
        if (mistake != SUM_NOT_MEAN) a /= mistake == ONE_SUM ? 1 : (double)C, b /= (double)C;
        for (size_t c = 0; c < C; c++) {
            g.dx[n * C + c] = (mistake == NO_RSTD ? 1 : y.rstd[n]) * (dn(c) - (mistake == NO_MEAN_DN ? 0 : a) - (mistake == NO_MEAN_DN_N ? 0 : normed(c) * b));
            const double dw = dout[n * C + c] * (mistake == DW_OF_X ? x[n * C + c] : normed(c)), db = dout[n * C + c] * (mistake == DB_WEIGHTED ? w[c] : 1);
            const bool overwritten = mistake == DB_OVERWRITTEN && n == 0, last = mistake == DW_LAST_ROW;
            g.dw[c] = (overwritten || last ? 0 : g.dw[c]) + dw, g.db[c] = (overwritten || last ? 0 : g.db[c]) + db;
        }
    }
    return g;
}

// ---- the parts -------------------------------------------------------------------------------------------------------------
// eps is as large as the variance where C is odd, so that a misplaced one shows.
inline float eps_of(Size s) { return s.C % 2 ? 0.7f : 1e-5f; }
// Running sums of C floats: C roundings of 2^-24 of terms below 4 deviations, in the mean, in the variance and in what is made of them.
inline double bound_of(const Doubles& of, Size s) {
    double largest = 1;
    for (double x : of) largest = std::fmax(largest, std::fabs(x));
    return 2 * (s.C + 16) * 0x1p-24 * largest;
}

using Forward = void (*)(float*, float*, float*, const float*, const float*, const float*, int, int, float, stream_t);
inline void expect_forward(Trial& t, const Doubles& x, const Doubles& w, const Doubles& b, Size s) {
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    const double eps = eps_of(s);
    auto with = [&](Mistake mistake) { return t.wants(mistake) ? forward_oracle(x, w, b, N, C, eps, mistake) : Norm(); };
    const Norm right = with(NONE), outside = with(EPS_OUTSIDE), no_eps = with(NO_EPS), divisor = with(DIVISOR), center = with(NO_CENTER), only = with(VARIANCE_ONLY), first = with(FIRST_ROW),
               sum = with(NOT_DIVIDED);
    t.expect("mean", right.mean, bound_of(right.mean, s), {{"the sum is not divided by C", sum.mean}, {"every row is the first: inp + n * C", first.mean}});
    const Doubles& r = right.rstd;
    t.expect("rstd", r, bound_of(r, s), {{"eps stands outside of the root", outside.rstd}, {"eps is not there", no_eps.rstd}, {"the variance is divided by C - 1: LayerNorm divides by C", divisor.rstd},
                                         {"the mean is not subtracted before squaring", center.rstd}, {"the root is missing: rstd = 1 / sqrt(variance + eps)", only.rstd}});
    t.expect("out", right.out, bound_of(right.out, s), {{"the factor weight is missing", with(NO_WEIGHT).out}, {"bias is not added", with(NO_BIAS).out}, {"every row is the first: inp + n * C", first.out}});
}
template <Forward forward> void grade_forward(Trial& t, Size s) {
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    const Doubles x = t.normal(N * C, 0.5, 1), w = t.normal(C, 1, 0.3), b = t.normal(C);
    float *out = t.result("out", N * C, s.C), *mean = t.result("mean", N), *rstd = t.result("rstd", N);
    const float *inp = t.given("inp", x, s.C), *weight = t.given("weight", w), *bias = t.given("bias", b);
    t.run([&] { forward(out, mean, rstd, inp, weight, bias, s.N, s.C, eps_of(s), t.stream); });
    expect_forward(t, x, w, b, s);
}
inline void forward_on_host(float* out, float* mean, float* rstd, const float* inp, const float* weight, const float* bias, int N, int C, float eps, stream_t) {
    forward_cpp(out, mean, rstd, inp, weight, bias, N, C, eps);
}

inline void grade_slope(Trial& t, Size) {
    float *got = t.result("slope", 1), *after = t.result("x", 1);
    t.run([&] {
        double x = 2;
        *got = (float)slope([&] { return x * x * x; }, x, 0.01);
        *after = (float)x;
    });
    // of x^3 at 2, h = 0.01: 3 x^2 + h^2 from both sides, 3 x^2 + 3 x h + h^2 from one
    t.expect("slope", {12.0001}, 1e-5, {{"it is taken from one side: (loss(x + h) - loss(x)) / h", {12.0601}}, {"one of the two losses is taken at x itself", {6.03005}}, {"it is divided by h: the two points are 2 h apart", {24.0002}}, {"the two losses are in the other order", {-12.0001}}});
    t.expect("x", {2}, 1e-6, {{"x is not put back", {1.99}}});
}

inline void grade_fused(Trial& t, Size s) {
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    const Doubles x1 = t.normal(N * C, 0.5, 1), x2 = t.normal(N * C), w = t.normal(C, 1, 0.3), b = t.normal(C);
    Doubles sum(N * C);
    for (size_t i = 0; i < t.filled(sum.size()); i++) sum[i] = (float)x1[i] + (float)x2[i];
    float *residual = t.result("residual", N * C, s.C), *out = t.result("out", N * C, s.C), *mean = t.result("mean", N), *rstd = t.result("rstd", N);
    const float *inp1 = t.given("inp1", x1, s.C), *inp2 = t.given("inp2", x2, s.C), *weight = t.given("weight", w), *bias = t.given("bias", b);
    t.run([&] { forward_fused(residual, out, mean, rstd, inp1, inp2, weight, bias, s.N, s.C, eps_of(s), t.stream); });
    t.expect("residual", sum, bound_of(sum, s), {{"inp2 is not added", x1}});
    expect_forward(t, sum, w, b, s);
}

template <bool CUDA> void grade_backward(Trial& t, Size s) {
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    const Doubles x = t.normal(N * C, 0.5, 1), w = t.normal(C, 1, 0.3), d = t.normal(N * C), dw0 = t.normal(C), db0 = t.normal(C);
    const Norm y = t.filled(N) ? forward_oracle(x, w, w, N, C, eps_of(s)) : Norm{{}, Doubles(N), Doubles(N)};
    float *dinp = t.result("dinp", N * C, s.C), *dweight = t.changed("dweight", dw0), *dbias = t.changed("dbias", db0);
    const float *dout = t.given("dout", d, s.C), *inp = t.given("inp", x, s.C), *mean = t.given("mean", y.mean), *rstd = t.given("rstd", y.rstd), *weight = t.given("weight", w);
    if constexpr (CUDA) {
        float* partials = t.scratch("partials", (size_t)MAX_GROUPS * 2 * C);
        t.run([&] { backward_cuda(dinp, dweight, dbias, partials, dout, inp, mean, rstd, weight, s.N, s.C, t.stream); });
    } else t.run([&] { backward_cpp(dinp, dweight, dbias, dout, inp, mean, rstd, weight, s.N, s.C); });
    auto with = [&](Mistake mistake) { return t.wants(mistake) ? backward_oracle(d, x, y, w, dw0, db0, N, C, mistake) : Gradients(); };
    const Gradients right = with(NONE), overwritten = with(DB_OVERWRITTEN), last = with(DW_LAST_ROW);
    t.expect("dinp", right.dx, bound_of(right.dx, s), {{"the factor weight is missing in dn = dout * weight", with(NO_DN_WEIGHT).dx}, {"the means are those of dout, not of dn = dout * weight", with(NO_WEIGHT_IN_MEANS).dx}, {"mean(dn) is not subtracted", with(NO_MEAN_DN).dx},
             {"n * mean(dn * n) is not subtracted", with(NO_MEAN_DN_N).dx}, {"the factor rstd is missing", with(NO_RSTD).dx}, {"sums over the row stand where means must: divide by C", with(SUM_NOT_MEAN).dx},
             {"of dn the sum over the row is taken, not the mean: divide by C", with(ONE_SUM).dx}});
    const double sums = (s.N + 16) * 0x1p-24 * 16;  // N roundings of terms below 16
    t.expect("dweight", right.dw, sums, {{"dweight is overwritten: it is +=, other micro-batches have added to it", overwritten.dw}, {"each row overwrites what the rows before it have added", last.dw}, {"dout is multiplied by x, not by n = (x - mean) * rstd", with(DW_OF_X).dw}});
    t.expect("dbias", right.db, sums, {{"dbias is overwritten: it is +=, other micro-batches have added to it", overwritten.db}, {"each row overwrites what the rows before it have added", last.db}, {"dout is multiplied by weight", with(DB_WEIGHTED).db}});
}

inline const std::vector<Size> ODD = {{3, 7}, {1, 1}, {70, 33}, {32, 256}}, FOURS = {{7, 36}, {1, 4}, {33, 132}, {32, 256}};
constexpr Size LARGE = {16384, 1024};  // 64 MB an array
constexpr Advice ROWS = {.outside_shared = "how many bytes does a block need: a row of C floats for each of its warps?"};
inline const std::vector<Part> PARTS = {
    {grade_forward<forward_on_host>, {{3, 7}, {1, 1}, {5, 33}, {2, 768}}},
    {grade_slope, {{1, 1}}},
    {grade_backward<false>, {{3, 7}, {1, 1}, {33, 5}, {2, 768}}},
    {grade_forward<forward_naive>, ODD, true, {}, {LARGE}},
    {grade_forward<forward_block>, ODD, true, {.sectors = 1.1, .no_conflicts = true, .threads = true}, {LARGE}},
    {grade_forward<forward_warp>, ODD, true, {.asked = 2.05, .sectors = 1.1, .launches = 1, .no_conflicts = true, .threads = true}, {LARGE}, ROWS},
    {grade_forward<forward_pack>, FOURS, true, {.asked = 2.05, .sectors = 1.1, .access = 14, .launches = 1, .no_conflicts = true, .threads = true}, {LARGE}, ROWS},
    {grade_fused, FOURS, true, {.asked = 1.6, .touched = 1.05, .sectors = 1.1, .access = 14, .launches = 1, .no_conflicts = true, .threads = true}, {LARGE}, ROWS},
    {grade_backward<true>, {{3, 7}, {1, 1}, {70, 33}, {64, 256}}, true, {.sectors = 1.1, .launches = 3, .no_conflicts = true, .threads = true, .turns = 8}, {LARGE}},
};
}  // namespace learn
