#include <limits>
#include "../../llmc/cpu/gradients.h"
#include "../gradients_test.h"

static const std::vector<int> WORLDS{1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33};

// Every rank of every world: bitwise the tree's sum, written there and nowhere else.
TEST(gradients_are_summed_as_a_tree) {
    Random r(1);
    for (int world : WORLDS) {
        const GradientsCase c(r, world);
        const std::vector<float> expected = c.expected();
        for (int rank = 0; rank < world; rank += world > 9 ? 5 : 1) {
            std::vector<float> grads = c.ranks[(size_t)rank], received = c.received(rank);
            std::vector<double> squares(c.chunks.size());
            sum_gradients(grads.data() + c.first, squares.data(), received.data(), rank, world, c.chunks.data(), c.chunks.size(), c.first, c.n, stream_t{});
            EXPECT(same_bits(std::vector<float>(grads.begin() + (long)c.first, grads.begin() + (long)(c.first + c.n)), expected));
            EXPECT(std::equal(grads.begin(), grads.begin() + (long)c.first, c.ranks[(size_t)rank].begin()));
            EXPECT(std::equal(grads.end() - (long)c.AFTER, grads.end(), c.ranks[(size_t)rank].end() - (long)c.AFTER));
            EXPECT(c.squares_are_right(squares));
        }
    }
}

// What one rank adds of four leaves is what two or four ranks make of them: subtrees are nodes of the tree.
TEST(gradients_of_leaves_are_those_of_ranks) {
    Random r(2);
    const GradientsCase c(r, 4);
    std::vector<float> left = c.ranks[0], right = c.ranks[2];
    add_gradients(left.data(), c.ranks[1].data(), left.size(), stream_t{});
    add_gradients(right.data(), c.ranks[3].data(), right.size(), stream_t{});
    add_gradients(left.data(), right.data(), left.size(), stream_t{});
    EXPECT(same_bits(std::vector<float>(left.begin() + (long)c.first, left.begin() + (long)(c.first + c.n)), c.expected()));
}

// As bf16.h rounds and widens, element by element.
TEST(gradients_are_cast) {
    Random r(5);
    for (size_t n : {(size_t)64, (size_t)70016}) {
        std::vector<float> x = normal_values<float>(r, n), back(n);
        x[3] = INFINITY, x[5] = NAN, x[7] = 3.4e38f, x[9] = 1e-41f, x[11] = -0.0f;
        std::vector<bf16> y(n);
        cast_gradients(y.data(), x.data(), n, stream_t{});
        cast_gradients(back.data(), y.data(), n, stream_t{});
        int wrong = 0;
        for (size_t i = 0; i < n; i++) wrong += y[i].bits != bf16(x[i]).bits || __builtin_bit_cast(uint32_t, back[i]) != (uint32_t)y[i].bits << 16;
        EXPECT_EQ(wrong, 0);
    }
}

TEST(gradients_pass_nan_and_infinity_on) {
    Random r(3);
    GradientsCase c(r, 2);
    c.ranks[1][c.first + 64 + 5] = -std::numeric_limits<float>::infinity();
    c.ranks[0][c.first + 64 + CHUNK] = std::numeric_limits<float>::quiet_NaN();
    c.ranks[0][c.first] = 1e30f;  // whose square a float cannot hold
    std::vector<float> received = c.received(0);
    std::vector<double> squares(c.chunks.size());
    sum_gradients(c.ranks[0].data() + c.first, squares.data(), received.data(), 0, 2, c.chunks.data(), c.chunks.size(), c.first, c.n, stream_t{});
    EXPECT(std::isfinite(squares[0]) && squares[0] > 0.9e60 && std::isinf(squares[1]) && std::isnan(squares[2]) && std::isfinite(squares[3]));
}

TEST(gradients_same_bits_for_any_threads) {
    Random r(4);
    const GradientsCase c(r, 3);
    EXPECT(same_bits_for_any_threads([&] {
        std::vector<float> grads = c.ranks[1], received = c.received(1);
        std::vector<double> squares(c.chunks.size());
        sum_gradients(grads.data() + c.first, squares.data(), received.data(), 1, 3, c.chunks.data(), c.chunks.size(), c.first, c.n, stream_t{});
        squares.insert(squares.end(), grads.begin(), grads.end());
        return squares;
    }));
}
