#include <limits>
#include "../../llmc/cpu/global_norm.h"
#include "../layers.h"

// Squares of floats are exact in double; a sum of n of them, in parts of fewer than n / 4 terms, is off by n 2^-53 at most.
TEST(global_norm_squared) {
    Random r(1);
    for (int shape = 0; shape < 60; shape++) {
        size_t n = shape < 4 ? (size_t)shape : (size_t)r.between(1, shape % 2 ? 300 : 70000);
        Guarded<float> g(normal_values<float>(r, n, shape % 3 ? 1.0f : 1e25f));
        double exact = 0, out = -1;
        for (size_t i = 0; i < n; i++) exact += (double)g[i] * (double)g[i];
        global_norm_squared(&out, g.data(), n, stream_t{});
        EXPECT(std::fabs(out - exact) <= exact * (double)n * 0x1p-53);
    }
}

TEST(global_norm_passes_nan_and_infinity_on) {
    Random r(2);
    for (int shape = 0; shape < 60; shape++) {
        std::vector<float> g = normal_values<float>(r, (size_t)r.between(1, 40000));
        double out;
        size_t at = r.word() % g.size();
        g[at] = -std::numeric_limits<float>::infinity();
        global_norm_squared(&out, g.data(), g.size(), stream_t{});
        EXPECT(std::isinf(out));
        g[at] = std::numeric_limits<float>::quiet_NaN();
        global_norm_squared(&out, g.data(), g.size(), stream_t{});
        EXPECT(std::isnan(out));
    }
}

TEST(global_norm_same_bits_for_any_threads) {
    Random r(3);
    auto g = normal_values<float>(r, 100003);
    EXPECT(same_bits_for_any_threads([&] {
        std::vector<double> out(1);
        global_norm_squared(out.data(), g.data(), g.size(), stream_t{});
        return out;
    }));
}
