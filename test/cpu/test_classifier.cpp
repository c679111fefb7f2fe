#include <limits>
#include "../../llmc/cpu/classifier.h"
#include "../layers.h"

constexpr int SHAPES = 60;
using Doubles = std::vector<double>;

static double capped(double z, double cap) { return cap > 0 ? cap * z / std::sqrt(z * z + cap * cap) : z; }
static double loss_oracle(const double* x, int V, int target, double cap = 0) {
    double largest = capped(x[0], cap), sum = 0;
    for (int i = 0; i < V; i++) largest = std::fmax(largest, capped(x[i], cap));
    for (int i = 0; i < V; i++) sum += std::exp(capped(x[i], cap) - largest);
    return std::log(sum) + (largest - capped(x[target], cap));
}

template <class F> struct ClassifierCase {
    size_t N;
    int V, Vp;
    float dloss;
    std::vector<F> logits;
    std::vector<int> targets;
    ClassifierCase(Random& r, int max_N, int max_V, float spread)
        : N((size_t)r.between(1, max_N)), V(r.between(1, max_V)), Vp(V + r.between(0, 70)), dloss(1.0f / (float)(N * 3)) {
        logits = normal_values<F>(r, N * Vp, spread, -1);
        for (size_t n = 0; n < N; n++) {
            targets.push_back(r.between(0, V - 1));
            for (int i = V; i < Vp; i++) logits[n * Vp + i] = F(1000.0f);  // padding must not count
        }
    }
};

// Derived: a weight e^(x - max) is off by 2^-24 |x - max| (the rounding of the difference) and 2 roundings of exp; the
// entries that carry the sum are within 16 of the maximum, so 20 roundings bound a probability and the logarithm of the
// sum. The loss itself is stored in fp32, so its size counts too. A capped logit has five roundings, each of the cap at most, and its slope, 1 or less, ten more.
TEST_BOTH(classifier) {
    Random r(1);
    for (int shape = 0; shape < SHAPES; shape++) {
        const float spread = shape % 3 == 0 ? 0.1f : shape % 3 == 1 ? 3.0f : 30.0f, cap = shape % 4 < 2 ? 0 : shape % 4 == 2 ? 15 : 2;
        const double roundings = 20 + 5 * (double)cap + 10 * (cap > 0);
        ClassifierCase<F> s(r, 9, shape % 5 ? 300 : 4000, spread);
        auto x = in_double(s.logits);
        Doubles losses_exact(s.N), d_exact(s.N * s.Vp);
        for (size_t n = 0; n < s.N; n++) {
            losses_exact[n] = loss_oracle(&x[n * s.Vp], s.V, s.targets[n], cap);
            for (int i = 0; i < s.V; i++) {
                const double z = x[n * s.Vp + i], slope = cap > 0 ? std::pow(1 + z * z / (cap * cap), -1.5) : 1;
                double p = std::exp(capped(z, cap) - capped(x[n * s.Vp + s.targets[n]], cap) - losses_exact[n]);
                d_exact[n * s.Vp + i] = (p - (i == s.targets[n])) * slope * (double)s.dloss;
            }
        }
        Guarded<F> d(s.logits);
        Guarded<float> losses(s.N), only(s.N);
        fused_classifier(d.data(), only.data(), s.targets.data(), s.dloss, s.N, s.V, s.Vp, {.softcap = cap}, stream_t{});
        EXPECT(same_bits(d.values(), s.logits));
        fused_classifier(d.data(), losses.data(), s.targets.data(), s.dloss, s.N, s.V, s.Vp, {.write_dlogits = true, .softcap = cap}, stream_t{});
        EXPECT_WHOLE(d);
        EXPECT_WHOLE(losses);
        EXPECT(same_bits(losses.all, only.all));
        EXPECT_NEAR(losses.data(), losses_exact.data(), s.N, roundings * 0x1p-24 * (std::sqrt((double)s.N) + norm(losses_exact)));
        // 1 - p of a confident row is small, but p's error is not: it is measured against 1
        EXPECT_NEAR(d.data(), d_exact.data(), d.size(),
                    half_ulp<F>() * norm(d_exact) + roundings * 0x1p-24 * (double)s.dloss * std::sqrt((double)s.N));
        int wrong = 0;
        for (size_t n = 0; n < s.N; n++) for (int i = s.V; i < s.Vp; i++) wrong += (float)d[n * s.Vp + i] != 0;
        EXPECT_EQ(wrong, 0);
    }
}

TEST_BOTH(classifier_is_the_derivative) {
    Random r(2);
    for (int shape = 0; shape < SHAPES; shape++) {
        ClassifierCase<F> s(r, 4, 60, 2.0f);
        const float cap = shape % 3 == 0 ? 0 : shape % 3 == 1 ? 15 : 2;
        Doubles exact;
        for (size_t n = 0; n < s.N; n++) {
            std::vector<F> row(&s.logits[n * s.Vp], &s.logits[n * s.Vp] + s.Vp);
            auto loss = [&](const Doubles& x) { return loss_oracle(x.data(), s.V, s.targets[n], cap) * (double)s.dloss; };
            Doubles d = central_differences(in_double(row), loss);
            exact.insert(exact.end(), d.begin(), d.end());
        }
        std::vector<float> losses(s.N);
        auto d = s.logits;
        fused_classifier(d.data(), losses.data(), s.targets.data(), s.dloss, s.N, s.V, s.Vp, {.write_dlogits = true, .softcap = cap}, stream_t{});
        EXPECT_NEAR(d.data(), exact.data(), d.size(),
                    half_ulp<F>() * norm(exact) + (20 + 5 * (double)cap + 10 * (cap > 0)) * 0x1p-24 * (double)s.dloss * std::sqrt((double)s.N));
    }
}

// The real vocabulary, and rows whose softmax is hard: the maximum comes last, one entry is 1e4 above the rest, all
// are equal, most are minus infinity, a whole block of them first.
TEST_BOTH(classifier_hard_rows) {
    Random r(3);
    const int V = 50257, Vp = 50304;
    const size_t N = 4;
    auto logits = normal_values<F>(r, N * Vp, 2);
    for (int i = 0; i < V; i++) {
        logits[i] = F((float)i * 0.001f);
        logits[2 * (size_t)Vp + i] = F(-7.0f);
        if (i < 3000 || i % 3) logits[3 * (size_t)Vp + i] = F(-std::numeric_limits<float>::infinity());
    }
    logits[(size_t)Vp + 40000] = F(1e4f);
    auto x = in_double(logits);
    for (int target : {50256, 40000, 0}) {
        logits[3 * (size_t)Vp + target] = F(0.5f), x[3 * (size_t)Vp + target] = 0.5;
        auto d = logits;
        std::vector<int> targets(N, target);
        std::vector<float> losses(N);
        fused_classifier(d.data(), losses.data(), targets.data(), 1.0f, N, V, Vp, {.write_dlogits = true}, stream_t{});
        for (size_t n = 0; n < N; n++) {
            double exact = loss_oracle(&x[n * Vp], V, target);
            // one float below its maximum, the loss is log(1 + tiny): 4e-6 absolute, as derived above, else relative
            if (!(std::fabs((double)losses[n] - exact) <= 20 * 0x1p-24 * (1 + exact))) FAIL("row %zu: %.9g, expected %.9g", n, (double)losses[n], exact);
            double sum = 0;  // gradients of a row cancel: sum of p = 1; 50257 entries with one rounding to F each
            for (int i = 0; i < V; i++) sum += (double)(float)d[n * Vp + i];
            EXPECT(std::fabs(sum) <= half_ulp<F>() * 2 + 40 * 0x1p-24);
        }
    }
}

TEST_BOTH(classifier_ignores_negative_targets_and_passes_nan_on) {
    const int V = 131, Vp = 192;
    Random r(4);
    auto d = normal_values<F>(r, 3 * Vp);
    d[Vp + 130] = F(std::numeric_limits<float>::quiet_NaN());
    d[2 * Vp + 77] = F(std::numeric_limits<float>::infinity());
    std::vector<int> targets{-1, 5, 6};
    std::vector<float> losses(3, 9.0f);
    fused_classifier(d.data(), losses.data(), targets.data(), 1.0f, 3, V, Vp, {.write_dlogits = true}, stream_t{});
    EXPECT_EQ(losses[0], 0.0f);
    int wrong = 0;
    for (int i = 0; i < Vp; i++) wrong += (float)d[i] != 0;
    EXPECT_EQ(wrong, 0);
    EXPECT(losses[1] != losses[1]);
    EXPECT(losses[2] != losses[2]);
    targets[0] = 131;
    // one thread: a child process has none of its parent's others
    EXPECT_DIES("target 131", set_threads(1); fused_classifier(d.data(), losses.data(), targets.data(), 1.0f, 1, V, Vp, {.write_dlogits = true}, stream_t{}));
}

// Logits of any size are bounded, and have no slope there; an infinite one shows, in bounded ones too.
TEST_BOTH(classifier_with_a_softcap_far_out) {
    const int V = 131, Vp = 192;
    std::vector<F> d(3 * Vp, F(-1e4f));
    d[7] = F(1e4f), d[2 * Vp + 77] = F(std::numeric_limits<float>::infinity());
    std::vector<int> targets{7, 9, 5};
    std::vector<float> losses(3);
    fused_classifier(d.data(), losses.data(), targets.data(), 1.0f, 3, V, Vp, {.write_dlogits = true, .softcap = 15}, stream_t{});
    EXPECT(std::fabs(losses[0]) <= 105 * 0x1p-24);  // 130 e^-30, as derived above
    EXPECT(std::fabs((double)losses[1] - std::log(131.0)) < 1e-5);
    for (int i = 0; i < 2 * Vp; i++) EXPECT(std::fabs((float)d[i]) < 1e-8);
    EXPECT(losses[2] != losses[2]);
}

TEST_BOTH(classifier_same_bits_for_any_threads) {
    Random r(5);
    ClassifierCase<F> s(r, 40, 2000, 3);
    EXPECT(same_bits_for_any_threads([&] {
        auto d = s.logits;
        std::vector<float> all(s.N);
        fused_classifier(d.data(), all.data(), s.targets.data(), s.dloss, s.N, s.V, s.Vp, {.write_dlogits = true}, stream_t{});
        for (F e : d) all.push_back((float)e);
        return all;
    }));
}
