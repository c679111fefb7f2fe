// table.h: what the parts of GELU's exercise must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
enum Mistake { NONE, ERF, NO_CUBE, NO_ROOT, NO_HALF, SIGMOID, NO_CHAIN, DU_WITHOUT_3, NO_SQUARE, NO_DOUT };
inline double u_of(double x, Mistake m) { return (m == NO_ROOT ? 1 : std::sqrt(2 / 3.141592653589793)) * (x + (m == NO_CUBE ? 0 : 0.044715) * x * x * x); }
inline double gelu_oracle(double x, Mistake m = NONE) {
    if (m == ERF) return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    if (m == SIGMOID) return x / (1 + std::exp(-1.702 * x));
    return (m == NO_HALF ? x : x / 2) * (1 + std::tanh(u_of(x, m)));
}
inline double grad_oracle(double x, Mistake m = NONE) {
    const double t = std::tanh(u_of(x, NONE)), du = std::sqrt(2 / 3.141592653589793) * (1 + (m == DU_WITHOUT_3 ? 1 : 3) * 0.044715 * x * x);
    return (1 + t) / 2 + (m == NO_CHAIN ? 0 : x / 2 * (1 - (m == NO_SQUARE ? t : t * t)) * du);
}
template <class F> Doubles map(const Doubles& x, F f) { Doubles y; for (double v : x) y.push_back(f(v)); return y; }
// A dozen roundings of terms as large as x; the derivative's second term is below 3 wherever 1 - t^2 is not 0.
inline Doubles bound_of(const Doubles& x) { return map(x, [](double v) { return 12 * 0x1p-24 * std::fmax(1, std::fabs(v)); }); }
// Values of all sizes: beyond 10 or so gelu is 0 or x, and nothing may become infinite on the way.
inline Doubles inputs(Trial& t, size_t n) {
    Doubles x = t.normal(n, 0, 2);
    for (size_t i = 0; i < t.filled(n) && n > 4; i += 11) x[i] *= 20;
    return x;
}

using Forward = void (*)(float*, const float*, int, stream_t);
template <Forward forward> void grade_forward(Trial& t, Size s) {
    const size_t n = (size_t)s.N * (size_t)s.C;
    const Doubles x = inputs(t, n);
    float* out = t.result("out", n);
    const float* inp = t.given("inp", x);
    t.run([&] { forward(out, inp, (int)n, t.stream); });
    auto with = [&](Mistake m) { return t.wants(m) ? map(x, [=](double v) { return gelu_oracle(v, m); }) : Doubles(); };
    t.expect("out", with(NONE), bound_of(x), {{"it is the exact GELU, with erf: GPT-2 has the one with tanh", with(ERF)}, {"the term 0.044715 x^3 is missing", with(NO_CUBE)}, {"the factor sqrt(2/pi) is missing", with(NO_ROOT)},
                                              {"the factor 1/2 is missing", with(NO_HALF)}, {"it is x * sigmoid(1.702 x), another approximation", with(SIGMOID)}});
}
inline void forward_on_host(float* out, const float* inp, int n, stream_t) { forward_cpp(out, inp, n); }

inline void expect_backward(Trial& t, const Doubles& x, const Doubles& d) {
    auto with = [&](Mistake m) { Doubles y; for (size_t i = 0; i < x.size() && t.wants(m); i++) y.push_back((m == NO_DOUT ? 1 : d[i]) * grad_oracle(x[i], m)); return y; };
    Doubles bound;
    for (double v : d) bound.push_back(64 * 0x1p-24 * std::fmax(1, std::fabs(v)));  // 1 - t^2 cancels: a few roundings of 1, times x du / 2 < 10 where it is not 0
    t.expect("dinp", with(NONE), bound, {{"only the first term of the product rule is there: x depends on itself in tanh(u), too", with(NO_CHAIN)}, {"the 3 of 3 x^2, the derivative of x^3, is missing", with(DU_WITHOUT_3)},
                                         {"the square of 1 - tanh(u)^2, the derivative of tanh(u), is missing", with(NO_SQUARE)}, {"the factor dout is missing", with(NO_DOUT)}});
}
inline void grade_backward(Trial& t, Size s) {
    const size_t n = (size_t)s.N * (size_t)s.C;
    const Doubles x = inputs(t, n), d = t.normal(n);
    float* dinp = t.result("dinp", n);
    const float *dout = t.given("dout", d), *inp = t.given("inp", x);
    t.run([&] { backward_cpp(dinp, dout, inp, (int)n); });
    expect_backward(t, x, d);
}
inline void grade_in_place(Trial& t, Size s) {
    const size_t n = (size_t)s.N * (size_t)s.C;
    const Doubles x = inputs(t, n), d = t.normal(n);
    float* dinp = t.changed("dinp", d);
    const float* inp = t.given("inp", x);
    t.run([&] { backward_cuda(dinp, dinp, inp, (int)n, t.stream); });
    expect_backward(t, x, d);
}

inline const std::vector<Size> ODD = {{7, 37}, {1, 3}, {1, 1}, {32, 256}};
constexpr Size LARGE = {4096, 4096};  // 64 MB an array
inline const std::vector<Part> PARTS = {
    {grade_forward<forward_on_host>, {{7, 37}, {1, 1}}},
    {grade_backward, {{7, 37}, {1, 1}}},
    {grade_forward<forward_cuda>, ODD, true, {.asked = 1.01, .sectors = 1.1, .launches = 1, .threads = true}, {LARGE}},
    {grade_forward<forward_pack>, ODD, true, {.asked = 1.01, .sectors = 1.1, .access = 15, .launches = 1, .threads = true}, {LARGE}},
    {grade_in_place, {{7, 36}, {1, 4}, {32, 256}}, true, {.asked = 1.01, .sectors = 1.1, .access = 15, .launches = 1, .threads = true}, {LARGE}},
};
}  // namespace learn
