#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/gelu.h"
}
#include "../../llmc/cuda/gelu.cuh"

namespace {
std::vector<float> arguments() {
    std::vector<float> x;
    for (int i = -4000; i <= 4000; i++) x.push_back((float)i / 320);  // -12.5 .. 12.5
    for (float e : {0.0f, -0.0f, 1e-30f, -1e-30f, 20.0f, -20.0f, 100.0f, -100.0f, 1e30f, -1e30f, INFINITY, -INFINITY}) x.push_back(e);
    return x;
}
double exact_gelu(double x) { return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double exact_gelu_grad(double x) {
    const double k = std::sqrt(2 / M_PI), s = 1 / (1 + std::exp(-2 * k * (x + 0.044715 * x * x * x)));
    return s + x * s * (1 - s) * 2 * k * (1 + 3 * 0.044715 * x * x);
}
// e^-2u from an argument |2u log2 e| that was rounded four times: 4 * 2^-24 * 127 * ln 2 at most where e^-2u is finite, and
// 2^-22 of the exponential itself, and a few operations more. The derivative loses as much relative to its terms, of which none
// is above 1.2.
constexpr double BOUND = (4 * 127 * 0.694 + 4 + 8) * 0x1p-24;
}  // namespace

TEST_BOTH(cuda_gelu) {
    std::vector<F> x;
    for (float e : arguments()) x.push_back(F(e));
    std::vector<F> dout(x.size(), F(1.0f));
    std::vector<F> back;
    auto y = for_schedules([&] {
        OnDevice<F> inp(x), d(dout), out(x.size()), dinp(x.size());
        TestStream stream;
        gelu_forward(out.data(), inp.data(), x.size(), stream);
        gelu_backward(dinp.data(), d.data(), inp.data(), x.size(), stream);
        back = dinp.written();
        gelu_backward(d.data(), d.data(), inp.data(), x.size(), stream);
        EXPECT(same_bits(d.written(), back));
        return out.written();
    });
    for (size_t i = 0; i < x.size(); i++) {
        const double at = (double)(float)x[i];
        const double exact = at < -100 ? 0 : at > 100 ? at : exact_gelu(at);
        if (std::isinf(at)) EXPECT((float)y[i] == (at > 0 ? INFINITY : 0.0f));
        // x / y is 0 on a GPU where y is above 2^126
        else if (!(std::fabs((double)(float)y[i] - exact) <= (half_ulp<F>() + BOUND) * std::fabs(exact) + std::fabs(at) * 0x1p-126))
            FAIL("gelu(%g) is %g, expected %g", at, (double)(float)y[i], exact);
        const double slope = std::fabs(at) > 20 ? at > 0 : exact_gelu_grad(at);
        if (std::isinf(at)) EXPECT(std::isnan((float)back[i]));
        else if (!(std::fabs((double)(float)back[i] - slope) <= half_ulp<F>() * std::fabs(slope) + 1.2 * BOUND))
            FAIL("gelu'(%g) is %g, expected %g", at, (double)(float)back[i], slope);
    }
    std::vector<F> nan(3, F(NAN));
    OnDevice<F> inp(nan), out(3);
    TestStream stream;
    gelu_forward(out.data(), inp.data(), 3, stream);
    for (F e : out.values()) EXPECT(std::isnan((float)e));
    OnDevice<F> one(std::vector<F>(3, F(1.0f)));
    gelu_backward(out.data(), one.data(), inp.data(), 3, stream);
    for (F e : out.values()) EXPECT(std::isnan((float)e));
}

// The CPU's, of sizes that no pack and no block divides.
TEST_BOTH(cuda_gelu_beside_the_cpu) {
    Random r(1);
    for (size_t n : {1, 5, 8, 2047, 4099}) {
        std::vector<F> x = normal_values<F>(r, n, 2), d = normal_values<F>(r, n), y(n), dx(n), back;
        cpu::gelu_forward(y.data(), x.data(), n, {});
        cpu::gelu_backward(dx.data(), d.data(), x.data(), n, {});
        auto got = for_schedules([&] {
            OnDevice<F> inp(x), dout(d), out(n), dinp(n);
            TestStream stream;
            gelu_forward(out.data(), inp.data(), n, stream);
            gelu_backward(dinp.data(), dout.data(), inp.data(), n, stream);
            back = dinp.written();
            return out.written();
        });
        EXPECT_CLOSE(got.data(), y.data(), n, 2 * half_ulp<F>() + 2 * BOUND);
        EXPECT_CLOSE(back.data(), dx.data(), n, 2 * half_ulp<F>() + 4 * BOUND);
    }
}

// ReLU squared: products of rounded numbers, so the CPU's bits; what is not finite, too.
TEST_BOTH(cuda_relu2_beside_the_cpu) {
    Random r(2);
    for (size_t n : {1, 5, 8, 2047, 4099}) {
        std::vector<F> x = normal_values<F>(r, n, 2), d = normal_values<F>(r, n), y(n), dx(n), back;
        if (n > 5) x[0] = F(NAN), x[1] = F(INFINITY), x[2] = F(-INFINITY), x[3] = F(0.0f);
        cpu::relu2_forward(y.data(), x.data(), n, {});
        cpu::relu2_backward(dx.data(), d.data(), x.data(), n, {});
        auto got = for_schedules([&] {
            OnDevice<F> inp(x), dout(d), out(n), dinp(n);
            TestStream stream;
            relu2_forward(out.data(), inp.data(), n, stream);
            relu2_backward(dinp.data(), dout.data(), inp.data(), n, stream);
            back = dinp.written();
            relu2_backward(dout.data(), dout.data(), inp.data(), n, stream);
            EXPECT(same_bits(dout.written(), back));
            return out.written();
        });
        for (size_t i = 0; i < n; i++) {
            const auto same = [](F a, F b) { return (float)a == (float)b || (std::isnan((float)a) && std::isnan((float)b)); };
            if (!same(got[i], y[i]) || !same(back[i], dx[i])) FAIL("element %zu of %zu: %g for %g, slope %g for %g", i, n, (double)(float)got[i], (double)(float)y[i], (double)(float)back[i], (double)(float)dx[i]);
        }
    }
}
