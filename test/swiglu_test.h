// swiglu_test.h: what the tests of both backends' swiglu share: the oracle in double, element by element.
#pragma once
#include <vector>
#include "layers.h"

inline double exact_silu(double x) { return x / (1 + std::exp(-x)); }
inline double silu_slope(double x) { const double s = 1 / (1 + std::exp(-x)); return s + x * s / (1 + std::exp(x)); }

// Whether an output or a gradient is right: `terms` is the size of what is added up in it.
template <class F> bool swiglu_near(F got, double exact, double terms, double roundings, double more) {
    return std::fabs((double)(float)got - exact) <= half_ulp<F>() * std::fabs(exact) + roundings * 0x1p-24 * terms + more;
}

struct SwigluSize { size_t N; int FF; };
template <class F> struct SwigluCase {
    size_t N;
    int FF;
    std::vector<F> inp, dout;
    SwigluCase(size_t n, int ff) : N(n), FF(ff) {}
    SwigluCase(Random& r, SwigluSize s) : N(s.N), FF(s.FF) { inp = normal_values<F>(r, 2 * N * (size_t)FF, 3), dout = normal_values<F>(r, N * (size_t)FF); }
    // `roundings` of out, relative to it. The slope is s + x s (1 - s), of which the second term may cancel the first: it takes twice as many of both.
    // Where e^-gate is above 2^126, gates below -87.3, all may be 0: silu and its slope are within 2e-36 of it there.
    void check(const std::vector<F>& out, const std::vector<F>& dinp, double roundings) const {
        for (size_t n = 0; n < N; n++)
            for (int c = 0; c < FF; c++) {
                const size_t i = n * (size_t)FF + (size_t)c, at = n * 2 * (size_t)FF + (size_t)c;
                const double gate = (double)(float)inp[at], up = (double)(float)inp[at + (size_t)FF], d = (double)(float)dout[i], s = 1 / (1 + std::exp(-gate));
                const double y = exact_silu(gate) * up, dgate = d * up * silu_slope(gate), dup = d * exact_silu(gate), tiny = gate < -87 ? 2e-36 * (1 + std::fabs(up)) * (1 + std::fabs(d)) : 0;
                if (!swiglu_near(out[i], y, std::fabs(y), roundings, tiny)) FAIL("silu(%g) %g is %g, expected %g", gate, up, (double)(float)out[i], y);
                if (!swiglu_near(dinp[at + (size_t)FF], dup, std::fabs(dup), roundings, tiny))
                    FAIL("dup of %g, %g is %g, expected %g", gate, up, (double)(float)dinp[at + (size_t)FF], dup);
                if (!swiglu_near(dinp[at], dgate, std::fabs(d * up) * (s + std::fabs(gate) * s / (1 + std::exp(gate))), 2 * roundings, tiny))
                    FAIL("dgate of %g, %g is %g, expected %g", gate, up, (double)(float)dinp[at], dgate);
            }
    }
};

// Gates from one end to the other, beside an up of 1 and a dout of 1: silu and its slope themselves.
template <class F> struct SwigluLine : SwigluCase<F> {
    SwigluLine() : SwigluCase<F>(1, 0) {
        std::vector<float> x = {0.0f, -0.0f, 1e-30f, -1e-30f, 88.0f, -88.0f, 89.0f, -89.0f, 200.0f, -200.0f, 1e30f, -1e30f, 3e38f, -3e38f};
        for (int i = -4096; i < 4096; i++) x.push_back((float)i * (100.0f / 4096));
        while (x.size() % 8) x.push_back(1.0f);
        for (float e : x) this->inp.push_back(F(e));
        this->FF = (int)x.size(), this->inp.resize(2 * x.size(), F(1.0f)), this->dout.assign(x.size(), F(1.0f));
    }
};

// Overflow beside the ends of the range: silu of -infinity is 0, of +infinity infinite; the slope of an infinity is NaN. A NaN stays one.
template <class F, class Run> void swiglu_ends(Run run) {
    const float inf = INFINITY;
    struct End { float gate, up, out; bool nan, slope_is_nan; };
    const std::vector<End> ends = {{inf, 1, inf, false, true}, {-inf, 1, 0, false, true}, {NAN, 1, 0, true, true}, {1, NAN, 0, true, true}, {3e38f, 0, 0, false, false}, {-3e38f, 3e38f, 0, false, false}, {inf, 0, 0, true, true}};
    std::vector<F> inp, dout(ends.size(), F(1.0f)), out(ends.size()), dinp(2 * ends.size());
    for (const End& e : ends) inp.push_back(F(e.gate)), inp.push_back(F(e.up));
    run(inp, dout, out, dinp);
    for (size_t i = 0; i < ends.size(); i++) {
        const End& e = ends[i];
        if (e.nan ? !std::isnan((float)out[i]) : (float)out[i] != e.out) FAIL("silu(%g) %g is %g", (double)e.gate, (double)e.up, (double)(float)out[i]);
        if (std::isnan((float)dinp[2 * i]) != e.slope_is_nan) FAIL("dgate of %g, %g is %g", (double)e.gate, (double)e.up, (double)(float)dinp[2 * i]);
        EXPECT_EQ(std::isnan((float)dinp[2 * i + 1]), std::isnan(e.gate));
    }
}
