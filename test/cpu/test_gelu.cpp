// The tanh GELU and its derivative against double, over the whole range of floats, and the tails of rows.
#include "../../llmc/cpu/gelu.h"
#include "../test.h"

static double gelu_exact(double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
static double gelu_slope(double x) {  // central difference: error h^2 |gelu'''| / 6 + 2^-53 |x| / h < 1e-10 at |x| <= 100
    double h = 1e-5;
    return (gelu_exact(x + h) - gelu_exact(x - h)) / (2 * h);
}
static float gelu_at(float x) { float y; gelu_forward(&y, &x, 1, {}); return y; }
static float slope_at(float x) { float y, one = 1; gelu_backward(&y, &one, &x, 1, {}); return y; }

// s = 1 / (1 + e^-2u) carries the error of e^-2u, relative 2^-24 (|2u| + 4): two roundings in 2u and the exponential's own.
// Relative to s that counts times (1 - s), and 1 - s < e^-2u for u > 0: the error stays below 2^-24 (4 + 2|u|(1 - s)) and,
// since 2|u| (1 - s) < 0.3 for u > 0, below 8 * 2^-24 |x| s on the right; on the left it is 2^-24 (2|u| + 8) of a gelu that
// is itself below e^-2|u|: absolute, that is less than 8 * 2^-24 again.
TEST(forward_against_double) {
    for (double x = -100; x <= 100; x += 0.00317) {
        float y = gelu_at((float)x);
        double exact = gelu_exact((double)(float)x), bound = 8 * 0x1p-24 * std::fmax(std::fabs(exact), std::fmin(std::fabs(x), 1.0));
        if (!(std::fabs(y - exact) <= bound)) FAIL("gelu(%g) = %.9g, expected %.9g", x, (double)y, exact);
    }
    for (double x = 1e-30; x < 1e-2; x *= 1.7)  // near 0, gelu(x) = x / 2 + O(x^2) to full relative accuracy
        for (double sign : {-1.0, 1.0}) {
            float v = (float)(sign * x), y = gelu_at(v);
            double exact = gelu_exact(v);
            if (!(std::fabs(y - exact) <= 8 * 0x1p-24 * std::fabs(exact))) FAIL("gelu(%g) = %.9g, expected %.9g", (double)v, (double)y, exact);
        }
}
TEST(backward_against_central_difference) {
    for (double x = -100; x <= 100; x += 0.00317) {
        float y = slope_at((float)x);
        // s as above, and x s (1 - s) (2u)', which is at most 0.6, by four more roundings: 16 * 2^-24 absolute covers both.
        double exact = gelu_slope((double)(float)x);
        if (!(std::fabs(y - exact) <= 16 * 0x1p-24)) FAIL("gelu'(%g) = %.9g, expected %.9g", x, (double)y, exact);
    }
}
TEST(ends_of_the_range) {
    float inf = __builtin_inff();
    EXPECT_EQ(gelu_at(inf), inf);
    EXPECT_EQ(gelu_at(-inf), 0.0f);
    EXPECT_EQ(gelu_at(3e38f), 3e38f);
    EXPECT_EQ(gelu_at(-3e38f), 0.0f);
    EXPECT_EQ(gelu_at(0.0f), 0.0f);
    EXPECT_EQ(slope_at(3e38f), 1.0f);
    EXPECT_EQ(slope_at(0.0f), 0.5f);
    EXPECT(std::fabs(slope_at(-3e38f)) < 1e-30f);
    EXPECT(std::isnan(gelu_at(NAN)) && std::isnan(slope_at(NAN)) && std::isnan(slope_at(inf)) && std::isnan(slope_at(-inf)));
}

// Every length has the same value at the same place, in place or not, and nothing is written behind the end.
template <class F> static void lengths() {
    constexpr size_t MAX = 40000;  // more than one block of a thread
    std::vector<F> inp(MAX + 1), dout(MAX + 1), whole(MAX), dwhole(MAX);
    for (size_t i = 0; i <= MAX; i++) inp[i] = F(std::sin((double)i) * 4), dout[i] = F(std::cos(1.7 * (double)i));
    gelu_forward(whole.data(), inp.data(), MAX, {});
    gelu_backward(dwhole.data(), dout.data(), inp.data(), MAX, {});
    for (size_t i = 0; i < MAX; i++) {
        double y = gelu_exact((float)inp[i]), dy = (float)dout[i] * gelu_slope((float)inp[i]);
        double ulp = std::is_same_v<F, bf16> ? 0x1p-8 : 0;  // one rounding to nearest of the stored value
        if (!(std::fabs((float)whole[i] - y) <= ulp * std::fabs(y) + 1e-6)) FAIL("element %zu: %g, expected %g", i, (double)(float)whole[i], y);
        if (!(std::fabs((float)dwhole[i] - dy) <= ulp * std::fabs(dy) + 2e-6)) FAIL("gradient %zu: %g, expected %g", i, (double)(float)dwhole[i], dy);
    }
    for (size_t n : {1, 3, 7, 16, 17, 48, 131, 16384, 16385, 39999}) {
        std::vector<F> out(n + 1, F(123.0f)), dinp(dout.begin(), dout.begin() + (long)n + 1);
        float behind = (float)dinp[n];
        gelu_forward(out.data(), inp.data(), n, {});
        gelu_backward(dinp.data(), dinp.data(), inp.data(), n, {});
        EXPECT(memcmp(out.data(), whole.data(), n * sizeof(F)) == 0);
        EXPECT(memcmp(dinp.data(), dwhole.data(), n * sizeof(F)) == 0);
        EXPECT((float)out[n] == 123.0f && (float)dinp[n] == behind);
    }
}
TEST(lengths_fp32) { lengths<float>(); }
TEST(lengths_bf16) { lengths<bf16>(); }

// max(x, 0)^2 and 2 max(x, 0): two roundings, and one to F; what is not finite shows.
template <class F> static void relu2() {
    for (size_t n : {1, 3, 16, 17, 131, 20000}) {
        std::vector<F> x(n), d(n), y(n + 1, F(123.0f)), dx(n + 1, F(123.0f));
        for (size_t i = 0; i < n; i++) x[i] = F(std::sin((double)i) * 4), d[i] = F(std::cos(1.7 * (double)i));
        relu2_forward(y.data(), x.data(), n, {});
        relu2_backward(dx.data(), d.data(), x.data(), n, {});
        for (size_t i = 0; i < n; i++) {
            const double at = std::fmax((double)(float)x[i], 0), slope = (double)(float)d[i] * 2 * at, ulp = (std::is_same_v<F, bf16> ? 0x1p-8 : 0) + 0x1p-23;
            if (!(std::fabs((float)y[i] - at * at) <= ulp * at * at && std::fabs((float)dx[i] - slope) <= ulp * std::fabs(slope))) FAIL("element %zu of %zu: %g, slope %g", i, n, (double)(float)y[i], (double)(float)dx[i]);
        }
        EXPECT((float)y[n] == 123.0f && (float)dx[n] == 123.0f);
        relu2_backward(d.data(), d.data(), x.data(), n, {});
        EXPECT(memcmp((const void*)d.data(), (const void*)dx.data(), n * sizeof(F)) == 0);
    }
    const float inf = __builtin_inff();
    std::vector<F> x = {F(NAN), F(inf), F(-inf), F(-1.0f), F(-0.0f), F(3.0f)}, one(6, F(1.0f)), y(6), dx(6);
    relu2_forward(y.data(), x.data(), 6, {});
    relu2_backward(dx.data(), one.data(), x.data(), 6, {});
    EXPECT(std::isnan((float)y[0]) && (float)y[1] == inf && (float)y[2] == 0 && (float)y[3] == 0 && (float)y[4] == 0 && (float)y[5] == 9);
    EXPECT(std::isnan((float)dx[0]) && std::isnan((float)dx[1]) && std::isnan((float)dx[2]) && (float)dx[3] == 0 && (float)dx[4] == 0 && (float)dx[5] == 6);
}
TEST(relu2_fp32) { relu2<float>(); }
TEST(relu2_bf16) { relu2<bf16>(); }
