// table.h: what the parts of the exercise on Llama 3 must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
inline Doubles scaled_by(const Doubles& x, double factor, double least) { Doubles y; for (double v : x) y.push_back(factor * std::fmax(least, std::fabs(v))); return y; }

// ---- RMSNorm
enum Norm { RIGHT, MEAN, SUM, EPS_OUTSIDE, NO_ROOT, NO_WEIGHT, NO_SECOND_TERM, LAYERNORM_TERM, DN_WITHOUT_WEIGHT, NOT_NORMED, SET, LAST_ROW, MEAN_IS_SUM, ONE_WITHOUT_WEIGHT };
struct Normed { Doubles out, rstd, dinp, dweight; };
inline Normed rmsnorm(const Doubles& x, const Doubles& w, const Doubles& dout, const Doubles& begun, size_t N, size_t C, double eps, Norm m) {
    Normed r{Doubles(N * C), Doubles(N), Doubles(N * C), m == SET ? Doubles(C) : begun};
    for (size_t n = 0; n < N; n++) {
        double mean = 0, squares = 0, sum_dn_n = 0, sum_dn = 0;
        for (size_t c = 0; c < C; c++) mean += m == MEAN ? x[n * C + c] / (double)C : 0;
        for (size_t c = 0; c < C; c++) squares += (x[n * C + c] - mean) * (x[n * C + c] - mean) / (m == SUM ? 1 : (double)C);
        const double s = m == EPS_OUTSIDE ? 1 / (std::sqrt(squares) + eps) : m == NO_ROOT ? 1 / (squares + eps) : 1 / std::sqrt(squares + eps);
        r.rstd[n] = s;
        for (size_t c = 0; c < C; c++) {
            const double dn = dout[n * C + c] * (m == DN_WITHOUT_WEIGHT ? 1 : w[c]);
            r.out[n * C + c] = (x[n * C + c] - mean) * s * (m == NO_WEIGHT ? 1 : w[c]), sum_dn_n += dn * x[n * C + c] * s / (m == MEAN_IS_SUM ? 1 : (double)C), sum_dn += m == LAYERNORM_TERM ? dn / (double)C : 0;
        }
        for (size_t c = 0; c < C; c++) {
            const double normed = x[n * C + c] * s, dn = dout[n * C + c] * (m == DN_WITHOUT_WEIGHT || m == ONE_WITHOUT_WEIGHT ? 1 : w[c]);
            r.dinp[n * C + c] = s * (dn - sum_dn - (m == NO_SECOND_TERM ? 0 : normed * sum_dn_n)), r.dweight[c] = (m == LAST_ROW ? 0 : r.dweight[c]) + dout[n * C + c] * (m == NOT_NORMED ? x[n * C + c] : normed);
        }
    }
    return r;
}
struct NormInputs { Doubles x, w, dout, begun; size_t N, C; };
constexpr double EPS = 0.25;  // so large that its place shows
inline NormInputs norm_inputs(Trial& t, Size s) {
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    return {t.normal(N * C, 0.5, 1), t.normal(C, 1, 0.5), t.normal(N * C), t.normal(C), N, C};
}
inline void grade_rmsnorm(Trial& t, Size s) {
    const NormInputs i = norm_inputs(t, s);
    float *out = t.result("out", i.N * i.C, s.C), *rstd = t.result("rstd", i.N);
    const float *inp = t.given("inp", i.x, s.C), *weight = t.given("weight", i.w);
    t.run([&] { rmsnorm_forward(out, rstd, inp, weight, s.N, s.C, (float)EPS); });
    auto with = [&](Norm m) { return rmsnorm(i.x, i.w, i.dout, i.begun, i.N, i.C, EPS, m); };
    const double roundings = (s.C + 8) * 0x1p-24;  // of the sum of squares, and a few
    t.expect("rstd", with(RIGHT).rstd, roundings, {{"the mean is subtracted: that is LayerNorm", with(MEAN).rstd}, {"the sum of squares is not divided by C", with(SUM).rstd}, {"eps is outside of the root", with(EPS_OUTSIDE).rstd}, {"the root is missing", with(NO_ROOT).rstd}});
    t.expect("out", with(RIGHT).out, scaled_by(with(RIGHT).out, roundings, 1e-3), {{"the weight is missing", with(NO_WEIGHT).out}, {"the mean is subtracted: that is LayerNorm", with(MEAN).out}});
}
inline void grade_rmsnorm_backward(Trial& t, Size s) {
    const NormInputs i = norm_inputs(t, s);
    float *dinp = t.result("dinp", i.N * i.C, s.C), *dweight = t.changed("dweight", i.begun);
    const float *dout = t.given("dout", i.dout, s.C), *inp = t.given("inp", i.x, s.C), *rstd = t.given("rstd", rmsnorm(i.x, i.w, i.dout, i.begun, i.N, i.C, EPS, RIGHT).rstd), *weight = t.given("weight", i.w);
    t.run([&] { rmsnorm_backward(dinp, dweight, dout, inp, rstd, weight, s.N, s.C); });
    auto with = [&](Norm m) { return rmsnorm(i.x, i.w, i.dout, i.begun, i.N, i.C, EPS, m); };
    const double roundings = (s.C + s.N + 16) * 0x1p-24 * 16;  // of terms of up to 16
    t.expect("dinp", with(RIGHT).dinp, roundings, {{"it is the sum of dn * n over the row, not its mean", with(MEAN_IS_SUM).dinp}, {"the term n * mean(dn * n) is missing: rstd depends on inp, too", with(NO_SECOND_TERM).dinp}, {"mean(dn) is subtracted: that is LayerNorm's, which subtracts a mean", with(LAYERNORM_TERM).dinp}, {"dn = dout * weight: the weight is missing", with(DN_WITHOUT_WEIGHT).dinp}, {"dn = dout * weight: the weight is in the mean, but not in dinp", with(ONE_WITHOUT_WEIGHT).dinp}});
    t.expect("dweight", with(RIGHT).dweight, roundings, {{"dweight is +=: the last row's alone is there", with(LAST_ROW).dweight}, {"dweight is +=: what was there is lost", with(SET).dweight}, {"n = inp * rstd: rstd is missing", with(NOT_NORMED).dweight}});
}

// ---- rotary positions
enum Rotation { TURN, BACK, NEIGHBOURS, CHANGED, EXPONENT, FROM_ONE, NOTHING_TURNED, UNSCALED };
inline Doubles turned(const Doubles& x, size_t T, size_t HS, double theta, Rotation m, double sign = 1) {
    Doubles y = x;
    for (size_t t = 0; t < T; t++) for (size_t i = 0; i < HS / 2; i++) {
        const double exponent = -(m == EXPONENT ? 1.0 : 2.0) * (double)i / (double)HS, angle = (m == BACK ? -sign : m == NOTHING_TURNED ? 0 : sign) * ((double)t + (m == FROM_ONE)) * (m == UNSCALED ? 1 : std::pow(theta, exponent));
        const size_t a = t * HS + (m == NEIGHBOURS ? 2 * i : i), b = m == NEIGHBOURS ? a + 1 : a + HS / 2;
        y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
        y[b] = x[b] * std::cos(angle) + (m == CHANGED ? y[a] : x[a]) * std::sin(angle);
    }
    return y;
}
template <void (*rope)(float*, int, int, float)> void grade_rope(Trial& t, Size s) {
    constexpr bool backward = rope == rope_backward;
    const size_t T = (size_t)s.N, HS = (size_t)s.C;
    const Doubles x = t.normal(T * HS);
    float* p = t.changed(backward ? "dx" : "x", x, s.C);
    t.run([&] { rope(p, s.N, s.C, 100); });
    auto with = [&](Rotation m) { return turned(x, T, HS, 100, m, backward ? -1 : 1); };
    // an angle of up to T is rounded, and so is the power, which it multiplies
    t.expect(backward ? "dx" : "x", with(TURN), 8 * (s.N + 4) * 0x1p-24 * 4, {{backward ? "it is turned forward again: the gradient is turned back" : "it is turned the other way", with(BACK)}, {"neighbours are paired: the other one of a pair is HS/2 further on", with(NEIGHBOURS)},
        {"b is turned with the a that has just been changed: keep what it was", with(CHANGED)}, {"the exponent is -2i / HS", with(EXPONENT)}, {"positions begin with 0", with(FROM_ONE)}, {"nothing is turned", with(NOTHING_TURNED)}, {"all pairs are turned as fast: the angle depends on i", with(UNSCALED)}});
}

// ---- SwiGLU
enum Gate { GATED, EXCHANGED, SIGMOID, NO_UP, GATE_AND_UP_APART, SLOPE_S, NO_DOWN, NO_SLOPE, D_EXCHANGED };
inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline Doubles swiglu(const Doubles& x, size_t N, size_t FF, Gate m) {
    Doubles y;
    for (size_t n = 0; n < N; n++) for (size_t c = 0; c < FF; c++) {
        double g = x[n * 2 * FF + c], u = x[n * 2 * FF + FF + c];
        if (m == EXCHANGED) std::swap(g, u);
        if (m == GATE_AND_UP_APART) g = x[n * 2 * FF + 2 * c], u = x[n * 2 * FF + 2 * c + 1];
        y.push_back((m == SIGMOID ? 1 : g) * sigmoid(g) * (m == NO_UP ? 1 : u));
    }
    return y;
}
inline Doubles swiglu_gradient(const Doubles& x, const Doubles& dout, size_t N, size_t FF, Gate m) {
    Doubles y(2 * N * FF);
    for (size_t n = 0; n < N; n++) for (size_t c = 0; c < FF; c++) {
        const size_t at = n * 2 * FF + c;
        const double g = x[at], u = x[at + FF], s = sigmoid(g), d = m == NO_DOWN ? 1 : dout[n * FF + c];
        y[at] = d * (m == NO_UP ? 1 : u) * (m == SLOPE_S ? s : m == NO_SLOPE ? 1 : s + g * s * (1 - s)), y[at + FF] = d * (m == SIGMOID ? s : g * s);
        if (m == D_EXCHANGED) std::swap(y[at], y[at + FF]);
    }
    return y;
}
inline void grade_swiglu(Trial& t, Size s) {
    const size_t N = (size_t)s.N, FF = (size_t)s.C;
    const Doubles x = t.normal(2 * N * FF, 0, 2);
    float* out = t.result("out", N * FF, s.C);
    const float* inp = t.given("inp", x, 2 * s.C);
    t.run([&] { swiglu_forward(out, inp, s.N, s.C); });
    auto with = [&](Gate m) { return swiglu(x, N, FF, m); };
    double largest = 0;
    for (double y : with(GATED)) largest = std::fmax(largest, std::fabs(y));
    t.expect("out", with(GATED), 16 * 0x1p-24 * largest, {{"gate and up are exchanged: gate comes first", with(EXCHANGED)}, {"it is the sigmoid of gate, not gate times it", with(SIGMOID)}, {"up is missing", with(NO_UP)}, {"gate and up are taken by turns: a row is all of gate, then all of up", with(GATE_AND_UP_APART)}});
}
inline void grade_swiglu_backward(Trial& t, Size s) {
    const size_t N = (size_t)s.N, FF = (size_t)s.C;
    const Doubles x = t.normal(2 * N * FF, 0, 2), d = t.normal(N * FF);
    float* dinp = t.result("dinp", 2 * N * FF, 2 * s.C);
    const float *dout = t.given("dout", d, s.C), *inp = t.given("inp", x, 2 * s.C);
    t.run([&] { swiglu_backward(dinp, dout, inp, s.N, s.C); });
    auto with = [&](Gate m) { return swiglu_gradient(x, d, N, FF, m); };
    // the slope's two terms may cancel: a few roundings of the largest of either, 8, times dout and up
    t.expect("dinp", with(GATED), 64 * 0x1p-24 * 8, {{"silu'(z) has a second term, z s (1 - s)", with(SLOPE_S)}, {"gate's gradient does not go through silu", with(NO_SLOPE)}, {"dgate has the factor up", with(NO_UP)}, {"dup has the factor silu(gate), not the sigmoid alone", with(SIGMOID)},
        {"dgate and dup are exchanged: gate's gradient comes first", with(D_EXCHANGED)}, {"the factor dout is missing", with(NO_DOWN)}});
}

// ---- grouped queries
enum Share { SHARE, BY_TURNS, FIRST_KEY, NO_SCALE, SCALE_HS, VALUES, LAST_ONLY, QUERY_ONLY, KEY_ONLY, ASSIGNED };
constexpr int QUERY_HEADS = 6, KEY_HEADS = 2;  // the table's
struct Scores { Doubles scores, dqkv; };
inline Scores attention_scores(const Doubles& qkv, const Doubles& d, const Doubles& begun, size_t T, size_t HS, Share m) {
    const size_t NH = QUERY_HEADS, NKV = KEY_HEADS, width = (NH + 2 * NKV) * HS;
    Scores r{Doubles(NH * T * T), begun};
    for (size_t h = 0; h < NH; h++) for (size_t t = 0; t < T; t++) for (size_t s = 0; s <= t; s++) {
        const size_t head = m == BY_TURNS ? h % NKV : m == FIRST_KEY ? 0 : h / (NH / NKV), q = t * width + h * HS, k = s * width + (NH + head + (m == VALUES ? NKV : 0)) * HS, at = (h * T + t) * T + s;
        const double scale = m == NO_SCALE ? 1 : m == SCALE_HS ? 1 / (double)HS : 1 / std::sqrt((double)HS);
        for (size_t i = 0; i < HS; i++) {
            r.scores[at] += qkv[q + i] * qkv[k + i] * scale;
            if (m != KEY_ONLY) r.dqkv[q + i] += d[at] * scale * qkv[k + i];
            if (m == ASSIGNED) r.dqkv[k + i] = d[at] * scale * qkv[q + i];
            else if (m != QUERY_ONLY && (m != LAST_ONLY || h % (NH / NKV) == NH / NKV - 1)) r.dqkv[k + i] += d[at] * scale * qkv[q + i];
        }
    }
    return r;
}
inline void grade_scores(Trial& t, Size s) {
    const size_t T = (size_t)s.N, HS = (size_t)s.C, NH = QUERY_HEADS, width = (NH + 2 * KEY_HEADS) * HS;
    const Doubles x = t.normal(T * width), none(NH * T * T);
    float* out = t.result("scores", NH * T * T, s.N);
    const float* qkv = t.given("qkv", x, (int)width);
    t.run([&] { scores_forward(out, qkv, s.N, {QUERY_HEADS, KEY_HEADS, s.C}); });
    auto with = [&](Share m) { return attention_scores(x, none, Doubles(T * width), T, HS, m).scores; };
    t.expect("scores", with(SHARE), 8 * (s.C + 4) * 0x1p-24 * std::sqrt((double)s.C), {{"heads take keys by turns: neighbouring heads of queries share one, h / (NH / NKV)", with(BY_TURNS)}, {"all heads read the first head of keys", with(FIRST_KEY)}, {"1 / sqrt(HS) is missing", with(NO_SCALE)}, {"the scale is 1 / sqrt(HS), not 1 / HS", with(SCALE_HS)},
        {"these are values: keys come right behind the queries", with(VALUES)}});
}
inline void grade_scores_backward(Trial& t, Size s) {
    const size_t T = (size_t)s.N, HS = (size_t)s.C, NH = QUERY_HEADS, width = (NH + 2 * KEY_HEADS) * HS;
    const Doubles x = t.normal(T * width), d = t.normal(NH * T * T), begun = t.normal(T * width);
    float* dqkv = t.changed("dqkv", begun, (int)width);
    const float *dscores = t.given("dscores", d, s.N), *qkv = t.given("qkv", x, (int)width);
    t.run([&] { scores_backward(dqkv, dscores, qkv, s.N, {QUERY_HEADS, KEY_HEADS, s.C}); });
    auto with = [&](Share m) { return attention_scores(x, d, begun, T, HS, m).dqkv; };
    t.expect("dqkv", with(SHARE), 16 * (double)(3 * T + 4) * 0x1p-24 * 8, {{"a key's gradient is the sum over the heads that share it: only the last head's is there", with(LAST_ONLY)}, {"a key's gradient is +=: the last score's alone is there", with(ASSIGNED)}, {"keys get no gradient", with(QUERY_ONLY)}, {"queries get no gradient", with(KEY_ONLY)},
        {"the scale is missing", with(NO_SCALE)}, {"heads take keys by turns", with(BY_TURNS)}});
}

// ---- longer contexts
enum Long { SMOOTH, ALL_SLOWER, NO_BETWEEN, EXCHANGED_LIMITS, NO_PI, OTHER_WAY, COMPARED_OTHERWISE };
inline double frequency(double w, double factor, double low, double high, double original, Long m) {
    if (m == ALL_SLOWER) return w / factor;
    if (m == EXCHANGED_LIMITS) std::swap(low, high);
    const double wavelength = (m == NO_PI ? 1 : 2 * 3.141592653589793) / w;
    if (m == COMPARED_OTHERWISE ? wavelength < original / low : wavelength > original / low) return w / factor;
    if (m == COMPARED_OTHERWISE ? wavelength > original / high : wavelength < original / high || m == NO_BETWEEN) return w;
    const double smooth = (original / wavelength - low) / (high - low);
    return m == OTHER_WAY ? smooth * w / factor + (1 - smooth) * w : (1 - smooth) * w / factor + smooth * w;
}
inline void grade_long(Trial& t, Size s) {
    const size_t n = (size_t)s.N;
    Doubles w;
    for (size_t i = 0; i < n; i++) w.push_back((float)std::pow(500000.0, -(double)i / (double)n));  // Llama 3's, of heads of 2n
    float* out = t.result("w", n);
    t.run([&] { for (size_t i = 0; i < n; i++) out[i] = scaled((float)w[i], 8, 1, 4, 8192); });
    auto with = [&](Long m) { Doubles y; for (double v : w) y.push_back(frequency(v, 8, 1, 4, 8192, m)); return y; };
    t.expect("w", with(SMOOTH), scaled_by(with(SMOOTH), 32 * 0x1p-24, 0), {{"all frequencies are divided: fast ones stay", with(ALL_SLOWER)}, {"between the two limits nothing is interpolated", with(NO_BETWEEN)}, {"low and high are exchanged: low is of the long wavelengths", with(EXCHANGED_LIMITS)}, {"the comparisons are the wrong way round: long wavelengths become slower", with(COMPARED_OTHERWISE)}, {"a wavelength is 2 pi / w positions", with(NO_PI)},
        {"smooth is 1 where nothing changes: the two terms are exchanged", with(OTHER_WAY)}});
}

inline const std::vector<Size> ROWS = {{7, 37}, {1, 1}, {3, 64}};
inline const std::vector<Part> PARTS = {
    {grade_rmsnorm, ROWS}, {grade_rmsnorm_backward, ROWS}, {grade_rope<rope_forward>, {{7, 12}, {1, 2}, {40, 8}}}, {grade_rope<rope_backward>, {{7, 12}, {1, 2}, {40, 8}}}, {grade_swiglu, ROWS}, {grade_swiglu_backward, ROWS},
    {grade_scores, {{5, 4}, {1, 3}, {9, 8}}}, {grade_scores_backward, {{5, 4}, {1, 3}, {9, 8}}}, {grade_long, {{64, 1}, {7, 1}}},
};
}  // namespace learn
