#include "../../llmc/cpu/swiglu.h"
#include "../swiglu_test.h"

// e^-x is off by 3 roundings, and s, its sum with 1 and the quotient, by 5 of itself; then x s and the product with up.
constexpr double ROUNDINGS = 8;

TEST(swiglu_oracle_is_the_derivative) {
    for (int i = -400; i <= 400; i++) {
        const double d = central_differences({i / 10.0}, [](const std::vector<double>& x) { return exact_silu(x[0]); })[0];
        if (!(std::fabs(d - silu_slope(i / 10.0)) <= 1e-8)) FAIL("slope %g, differences %g at %g", silu_slope(i / 10.0), d, i / 10.0);
    }
}

TEST_BOTH(swiglu_over_the_range) {
    const SwigluLine<F> line;
    std::vector<F> out(line.dout.size()), dinp(line.inp.size());
    swiglu_forward(out.data(), line.inp.data(), line.N, line.FF, stream_t{});
    swiglu_backward(dinp.data(), line.dout.data(), line.inp.data(), line.N, line.FF, stream_t{});
    line.check(out, dinp, ROUNDINGS);
}

TEST_BOTH(swiglu_of_infinity_and_nan) {
    swiglu_ends<F>([](const std::vector<F>& inp, const std::vector<F>& dout, std::vector<F>& out, std::vector<F>& dinp) {
        swiglu_forward(out.data(), inp.data(), out.size(), 1, stream_t{});
        swiglu_backward(dinp.data(), dout.data(), inp.data(), out.size(), 1, stream_t{});
    });
}

TEST_BOTH(swiglu_rows) {
    Random r(1);
    for (SwigluSize size : {SwigluSize{7, 48}, {1, 1}, {3, 7}, {5, 131}, {2, 1536}, {40, 1000}}) {
        const SwigluCase<F> s(r, size);
        Guarded<F> out(s.dout.size()), dinp(s.inp.size()), in_place(s.inp);
        swiglu_forward(out.data(), s.inp.data(), s.N, s.FF, stream_t{});
        swiglu_backward(dinp.data(), s.dout.data(), s.inp.data(), s.N, s.FF, stream_t{});
        EXPECT_WHOLE(out);
        EXPECT_WHOLE(dinp);
        s.check(out.values(), dinp.values(), ROUNDINGS);
        swiglu_backward(in_place.data(), s.dout.data(), in_place.data(), s.N, s.FF, stream_t{});
        EXPECT(same_bits(in_place.all, dinp.all));
        EXPECT(same_bits_for_any_threads([&] {
            std::vector<F> all(s.dout.size());
            std::vector<F> d(s.inp.size());
            swiglu_forward(all.data(), s.inp.data(), s.N, s.FF, stream_t{});
            swiglu_backward(d.data(), s.dout.data(), s.inp.data(), s.N, s.FF, stream_t{});
            all.insert(all.end(), d.begin(), d.end());
            return all;
        }));
    }
}
