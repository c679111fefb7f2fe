#include <limits>
#include "../../llmc/cuda/global_norm.cuh"
#include "device_test.h"

static double norm_on_device(const std::vector<float>& grads) {
    return for_schedules([&] {
        OnDevice<double> out(1);
        OnDevice<float> g(grads);
        TestStream stream(global_norm_workspace());
        global_norm_squared(out.data(), g.data(), g.size(), stream);
        return out.written();
    })[0];
}

// Squares of floats are exact in double; a sum of n of them is off by n 2^-53 of itself at most.
TEST(cuda_global_norm_squared) {
    Random r(1);
    for (size_t n : {0, 1, 3, 4, 5, 1023, 1024, 1025, 4099, 70001})
        for (float size : {1.0f, 1e25f, 1e-30f}) {
            auto g = normal_values<float>(r, n, size);
            double exact = 0;
            for (float x : g) exact += (double)x * (double)x;
            EXPECT(std::fabs(norm_on_device(g) - exact) <= exact * (double)n * 0x1p-53);
        }
}

// Every block of the largest grid, and more than one turn of them. Squares of whole numbers add up exactly.
TEST(cuda_global_norm_of_many) {
    Random r(2);
    auto g = small_integers<float>(r, 1024 * 256 * 4 * 2 + 259);
    double exact = 0;
    for (float x : g) exact += (double)x * (double)x;
    OnDevice<double> out(1);
    OnDevice<float> grads(g);
    TestStream stream(global_norm_workspace());
    global_norm_squared(out.data(), grads.data(), grads.size(), stream);
    EXPECT_EQ(out.written()[0], exact);
}

TEST(cuda_global_norm_passes_nan_and_infinity_on) {
    Random r(3);
    for (size_t at : {0, 1500, 2049}) {
        auto g = normal_values<float>(r, 2050);
        g[at] = -std::numeric_limits<float>::infinity();
        EXPECT(std::isinf(norm_on_device(g)));
        g[at ^ 1] = std::numeric_limits<float>::quiet_NaN();
        EXPECT(std::isnan(norm_on_device(g)));
    }
}

TEST(cuda_global_norm_refuses) {
    OnDevice<double> out(1);
    OnDevice<float> grads(4);
    TestStream stream(8);
    EXPECT_REFUSED("bytes of workspace", global_norm_squared(out.data(), grads.data(), 4, stream));
}
