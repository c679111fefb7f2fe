#include <limits>
#include "../../llmc/cuda/gradients.cuh"
#include "../gradients_test.h"
#include "device_test.h"

// Every rank of every world, of one pass over memory and of several: bitwise the tree's sum, which is the CPU's.
TEST(cuda_gradients_are_summed_as_a_tree) {
    Random r(1);
    for (int world : {1, 2, 3, 4, 5, 8, 9, 17, 65}) {
        const GradientsCase c(r, world);
        const std::vector<float> expected = c.expected();
        for (int rank : {0, world / 2, world - 1}) {
            std::vector<float> grads;
            const std::vector<double> squares = for_schedules([&] {
                OnDevice<float> g(c.ranks[(size_t)rank]), received(c.received(rank));
                OnDevice<double> s(c.chunks.size());
                OnDevice<Chunk> chunks(c.chunks);
                TestStream stream;
                sum_gradients(g.data() + c.first, s.data(), received.data(), rank, world, chunks.data(), c.chunks.size(), c.first, c.n, stream);
                grads = g.written();
                return s.written();
            });
            EXPECT(same_bits(std::vector<float>(grads.begin() + (long)c.first, grads.begin() + (long)(c.first + c.n)), expected));
            EXPECT(std::equal(grads.begin(), grads.begin() + (long)c.first, c.ranks[(size_t)rank].begin()));
            EXPECT(std::equal(grads.end() - (long)c.AFTER, grads.end(), c.ranks[(size_t)rank].end() - (long)c.AFTER));
            EXPECT(c.squares_are_right(squares));
        }
    }
}

TEST(cuda_gradients_are_added) {
    Random r(2);
    for (size_t n : {64, 1024, 1088, 70016}) {
        const std::vector<float> a = normal_values<float>(r, n), b = normal_values<float>(r, n);
        const std::vector<float> sum = for_schedules([&] {
            OnDevice<float> x(a), y(b);
            TestStream stream;
            add_gradients(x.data(), y.data(), n, stream);
            return x.written();
        });
        int wrong = 0;
        for (size_t i = 0; i < n; i++) wrong += sum[i] != a[i] + b[i];
        EXPECT_EQ(wrong, 0);
    }
    OnDevice<float> x(65), y(65);
    TestStream stream;
    EXPECT_REFUSED("must be a multiple of 64", add_gradients(x.data(), y.data(), 65, stream));
}

TEST(cuda_gradients_are_cast) {
    Random r(4);
    for (size_t n : {64, 4096, 70016}) {
        std::vector<float> x = normal_values<float>(r, n);
        x[3] = INFINITY, x[7] = 3.4e38f, x[11] = -0.0f;
        const std::vector<float> back = for_schedules([&] {
            OnDevice<float> a(x), b(n);
            OnDevice<bf16> y(n);
            TestStream stream;
            cast_gradients(y.data(), a.data(), n, stream);
            cast_gradients(b.data(), y.data(), n, stream);
            return b.written();
        });
        int wrong = 0;
        for (size_t i = 0; i < n; i++) wrong += __builtin_bit_cast(uint32_t, back[i]) != (uint32_t)bf16(x[i]).bits << 16;
        EXPECT_EQ(wrong, 0);
    }
    OnDevice<float> x(65);
    OnDevice<bf16> y(65);
    TestStream stream;
    EXPECT_REFUSED("must be a multiple of 64", cast_gradients(y.data(), x.data(), 65, stream));
}

TEST(cuda_gradients_pass_nan_and_infinity_on) {
    Random r(3);
    GradientsCase c(r, 2);
    c.ranks[1][c.first + 64 + 5] = -std::numeric_limits<float>::infinity();
    c.ranks[0][c.first + 64 + CHUNK] = std::numeric_limits<float>::quiet_NaN();
    c.ranks[0][c.first] = 1e30f;  // whose square a float cannot hold
    OnDevice<float> grads(c.ranks[0]), received(c.received(0));
    OnDevice<double> s(c.chunks.size());
    OnDevice<Chunk> chunks(c.chunks);
    TestStream stream;
    sum_gradients(grads.data() + c.first, s.data(), received.data(), 0, 2, chunks.data(), c.chunks.size(), c.first, c.n, stream);
    const std::vector<double> squares = s.written();
    EXPECT(std::isfinite(squares[0]) && squares[0] > 0.9e60 && std::isinf(squares[1]) && std::isnan(squares[2]) && std::isfinite(squares[3]));
}
