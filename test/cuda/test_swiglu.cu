#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/swiglu.h"
}
#include "../../llmc/cuda/swiglu.cuh"
#include "../swiglu_test.h"

namespace {
// e^-x: -x log2 e, up to 126, is rounded once and its factor was: 2 * 2^-24 * 126 * ln 2; 2^-22 of the exponential itself; 2 ulp of the quotient; the
// sum, and then x s and the product with up.
constexpr double ROUNDINGS = 2 * 126 * 0.694 + 4 + 4 + 6;

// out and dinp, by a stream of its own; in place too.
template <class F> void run(const SwigluCase<F>& s, std::vector<F>& out, std::vector<F>& dinp) {
    OnDevice<F> inp(s.inp), dout(s.dout), o(s.dout.size()), d(s.inp.size());
    TestStream stream;
    swiglu_forward(o.data(), inp.data(), s.N, s.FF, stream);
    swiglu_backward(d.data(), dout.data(), inp.data(), s.N, s.FF, stream);
    out = o.written(), dinp = d.written();
    swiglu_backward(inp.data(), dout.data(), inp.data(), s.N, s.FF, stream);
    EXPECT(same_bits(inp.written(), dinp));
}
}  // namespace

TEST_BOTH(cuda_swiglu) {
    Random r(1);
    std::vector<SwigluCase<F>> cases = {SwigluLine<F>()};
    for (SwigluSize size : std::vector<SwigluSize>{{7, 48}, {1, 8}, {3, 136}, {2, 1536}}) cases.push_back(SwigluCase<F>(r, size));
    for (const SwigluCase<F>& s : cases) {
        std::vector<F> dinp;
        const std::vector<F> out = for_schedules([&] {
            std::vector<F> o;
            run(s, o, dinp);
            return o;
        });
        s.check(out, dinp, ROUNDINGS);
    }
}

TEST_BOTH(cuda_swiglu_of_infinity_and_nan) {
    swiglu_ends<F>([](const std::vector<F>& inp, const std::vector<F>& dout, std::vector<F>& out, std::vector<F>& dinp) {
        SwigluCase<F> s(1, (int)out.size() + 1);  // eight, the last beside what is asked for
        for (size_t i = 0; i < out.size(); i++) s.inp.push_back(inp[2 * i]);
        s.inp.push_back(F(1.0f));
        for (size_t i = 0; i < out.size(); i++) s.inp.push_back(inp[2 * i + 1]);
        s.inp.push_back(F(1.0f));
        s.dout = dout, s.dout.push_back(F(1.0f));
        std::vector<F> o, d;
        run(s, o, d);
        for (size_t i = 0; i < out.size(); i++) out[i] = o[i], dinp[2 * i] = d[i], dinp[2 * i + 1] = d[o.size() + i];
    });
}

// The CPU's, but for the exponential.
TEST_BOTH(cuda_swiglu_beside_the_cpu) {
    Random r(2);
    SwigluCase<F> s(r, {5, 264});
    std::vector<F> out, dinp, y(s.dout.size()), dx(s.inp.size());
    run(s, out, dinp);
    cpu::swiglu_forward(y.data(), s.inp.data(), s.N, s.FF, {});
    cpu::swiglu_backward(dx.data(), s.dout.data(), s.inp.data(), s.N, s.FF, {});
    EXPECT_CLOSE(out.data(), y.data(), y.size(), 2 * half_ulp<F>() + ROUNDINGS * 0x1p-24);
    EXPECT_CLOSE(dinp.data(), dx.data(), dx.size(), 2 * half_ulp<F>() + 2 * ROUNDINGS * 0x1p-24);
}

TEST(cuda_swiglu_refuses) {
    TestStream stream;
    EXPECT_REFUSED("multiple of 8", swiglu_forward<float>(nullptr, nullptr, 1, 12, stream));
}
