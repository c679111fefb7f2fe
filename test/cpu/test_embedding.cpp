#include "../../llmc/cpu/embedding.h"
#include "../layers.h"

constexpr int SHAPES = 60;
struct EmbeddingShape {
    int B, T, C, V, Tmax, pos0;
    EmbeddingShape(Random& r) : B(r.between(1, 5)), T(r.between(1, 13)), C(r.between(1, 150)), V(r.between(1, 20)) {
        pos0 = r.between(0, 3), Tmax = T + pos0 + r.between(0, 4);
    }
    size_t tokens() const { return (size_t)B * T; }
};
static std::vector<int> random_tokens(Random& r, size_t n, int V) {
    std::vector<int> x(n);
    for (int& t : x) t = r.between(0, V - 1);
    return x;
}

// One addition in fp32, one rounding to F: the result is known bitwise.
TEST_BOTH(embedding_forward) {
    Random r(1);
    for (int shape = 0; shape < SHAPES; shape++) {
        EmbeddingShape s(r);
        auto inp = random_tokens(r, s.tokens(), s.V);
        auto wte = normal_values<F>(r, (size_t)s.V * s.C), wpe = normal_values<F>(r, (size_t)s.Tmax * s.C);
        Guarded<F> out(s.tokens() * s.C);
        embedding_forward(out.data(), inp.data(), wte.data(), wpe.data(), s.B, s.T, s.C, s.pos0, stream_t{});
        EXPECT_WHOLE(out);
        int wrong = 0;
        for (size_t n = 0; n < s.tokens(); n++)
            for (int c = 0; c < s.C; c++)
                wrong += (float)out[n * s.C + c] !=
                         (float)F((float)wte[(size_t)inp[n] * s.C + c] + (float)wpe[(n % s.T + s.pos0) * s.C + c]);
        EXPECT_EQ(wrong, 0);
    }
}

// dwte +=, dwpe = or +=, against sums in double. A token occurs up to 65 times when V = 1; the sum of k terms of size 1
// in fp32 is off by at most k^2/2 halves of an ulp of 1, on average sqrt(k) of its norm: 64 roundings bound it.
TEST_BOTH(embedding_backward) {
    Random r(2);
    for (int shape = 0; shape < SHAPES; shape++) {
        EmbeddingShape s(r);
        auto inp = random_tokens(r, s.tokens(), s.V);
        auto dout = normal_values<F>(r, s.tokens() * s.C);
        auto dwte0 = normal_values<float>(r, (size_t)s.V * s.C), dwpe0 = normal_values<float>(r, (size_t)s.Tmax * s.C);
        for (bool accumulate : {false, true}) {
            auto dwte_exact = in_double(dwte0);
            auto dwpe_exact = accumulate ? in_double(dwpe0) : std::vector<double>(dwpe0.size());
            for (size_t n = 0; n < s.tokens(); n++)
                for (int c = 0; c < s.C; c++) {
                    double d = (double)(float)dout[n * s.C + c];
                    dwte_exact[(size_t)inp[n] * s.C + c] += d, dwpe_exact[n % s.T * s.C + c] += d;
                }
            Guarded<float> dwte(dwte0), dwpe = accumulate ? Guarded<float>(dwpe0) : Guarded<float>(dwpe0.size());
            embedding_backward(dwte.data(), dwpe.data(), dout.data(), inp.data(), s.B, s.T, s.C, s.Tmax, accumulate, stream_t{});
            EXPECT_WHOLE(dwte);
            EXPECT_WHOLE(dwpe);
            EXPECT_CLOSE(dwte.data(), dwte_exact.data(), dwte.size(), tolerance<float>(64));
            EXPECT_CLOSE(dwpe.data(), dwpe_exact.data(), dwpe.size(), tolerance<float>(8));
        }
    }
}

// loss = sum of out * dout as a function of (wte, wpe)
TEST_BOTH(embedding_backward_is_the_derivative) {
    Random r(3);
    for (int shape = 0; shape < SHAPES; shape++) {
        EmbeddingShape s(r);
        s.C = s.C % 7 + 1, s.V = s.V % 5 + 1;
        auto inp = random_tokens(r, s.tokens(), s.V);
        auto dout = normal_values<F>(r, s.tokens() * s.C);
        const size_t split = (size_t)s.V * s.C, total = split + (size_t)s.Tmax * s.C;
        auto loss = [&](const std::vector<double>& w) {
            double sum = 0;
            for (size_t n = 0; n < s.tokens(); n++)
                for (int c = 0; c < s.C; c++)
                    sum += (double)(float)dout[n * s.C + c] * (w[(size_t)inp[n] * s.C + c] + w[split + n % s.T * s.C + c]);
            return sum;
        };
        auto exact = central_differences(in_double(normal_values<float>(r, total)), loss);
        std::vector<float> d(total, 0.0f);
        embedding_backward(d.data(), d.data() + split, dout.data(), inp.data(), s.B, s.T, s.C, s.Tmax, false, stream_t{});
        EXPECT_CLOSE(d.data(), exact.data(), total, tolerance<float>(64));
    }
}

TEST_BOTH(embedding_same_bits_for_any_threads) {
    Random r(4);
    const int B = 3, T = 37, C = 203, V = 5;
    auto inp = random_tokens(r, (size_t)B * T, V);
    auto dout = normal_values<F>(r, (size_t)B * T * C);
    EXPECT(same_bits_for_any_threads([&] {
        std::vector<float> d((size_t)(V + T) * C, 0.0f);
        embedding_backward(d.data(), d.data() + (size_t)V * C, dout.data(), inp.data(), B, T, C, T, false, stream_t{});
        return d;
    }));
}
