#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/classifier.h"
}
#include "../../llmc/cuda/classifier.cuh"

namespace {
struct Shape { size_t N; int V, Vp; };
// The last is longer than what the threads of a block keep in registers.
const std::vector<Shape> SHAPES = {{1, 1, 8}, {3, 131, 192}, {2, 1024, 1024}, {5, 8197, 8256}, {1, 57601, 57664}};
}  // namespace

// An exponential is off by 2^-22 and by 2^-24 of its argument, |x - max| log2 e < 20 here; the sum of the terms by their
// number a thread and log2 of the threads. A capped logit has a root of 2^-22 and a few roundings, of 6 and then of its slope, three times as many.
TEST_BOTH(cuda_classifier) {
    Random r(1);
    for (Shape s : SHAPES)
    for (float cap : {0.0f, 6.0f}) {
        const size_t n = s.N * (size_t)s.Vp;
        std::vector<F> logits = normal_values<F>(r, n, 3);
        for (size_t i = 0; i < s.N; i++) for (int v = s.V; v < s.Vp; v++) logits[i * (size_t)s.Vp + (size_t)v] = F(1e30f);  // must not count
        std::vector<int> targets;
        for (size_t i = 0; i < s.N; i++) targets.push_back(i % 3 == 2 ? -1 : r.between(0, s.V - 1));
        targets[0] = s.V - 1;
        std::vector<F> dlogits = logits;
        std::vector<float> losses(s.N), got_losses;
        const float dloss = 1.0f / (float)s.N;
        cpu::fused_classifier(dlogits.data(), losses.data(), targets.data(), dloss, s.N, s.V, s.Vp, {.write_dlogits = true, .softcap = cap}, {});
        auto got = for_schedules([&] {
            OnDevice<F> l(logits);
            OnDevice<float> out(s.N), out2(s.N);
            OnDevice<int> t(targets);
            TestStream stream;
            fused_classifier(l.data(), out2.data(), t.data(), dloss, s.N, s.V, s.Vp, {.softcap = cap}, stream);
            EXPECT(same_bits(l.written(), logits));  // nothing is written without a gradient
            fused_classifier(l.data(), out.data(), t.data(), dloss, s.N, s.V, s.Vp, {.write_dlogits = true, .softcap = cap}, stream);
            got_losses = out.written();
            EXPECT(same_bits(got_losses, out2.written()));
            return l.written();
        });
        const double bound = (20 + 4 + 60 + 10 + (cap > 0) * (6 * 12 + 3 * 8)) * 0x1p-24;
        EXPECT_NEAR(got_losses.data(), losses.data(), s.N, bound * std::sqrt((double)s.N) + 0x1p-23 * norm(losses));
        EXPECT_CLOSE(got.data(), dlogits.data(), n, 2 * half_ulp<F>() + 2 * bound);
        for (size_t i = 0; i < s.N; i++) {
            for (int v = s.V; v < s.Vp; v++) EXPECT_EQ((float)got[i * (size_t)s.Vp + (size_t)v], 0.0f);
            if (targets[i] < 0) EXPECT_EQ(got_losses[i], 0.0f);
        }
    }
}

// A sure prediction has loss 0 and a gradient of 0, however large the logits are; a NaN is not lost.
TEST_BOTH(cuda_classifier_extremes) {
    const int V = 70, Vp = 128;
    std::vector<F> logits((size_t)Vp * 3, F(-1e4f));
    logits[5] = F(1e4f), logits[(size_t)Vp + 5] = F(1e4f), logits[2 * (size_t)Vp + 69] = F(NAN);
    OnDevice<F> l(logits);
    OnDevice<float> losses(3);
    OnDevice<int> targets(std::vector<int>{5, 6, 7});
    TestStream stream;
    fused_classifier(l.data(), losses.data(), targets.data(), 1.0f, 3, V, Vp, {.write_dlogits = true}, stream);
    std::vector<float> x = losses.written();
    std::vector<F> d = l.written();
    EXPECT_EQ(x[0], 0.0f);
    EXPECT_EQ((float)d[5], 0.0f);
    EXPECT(std::fabs(x[1] - ((float)F(1e4f) - (float)F(-1e4f))) < 1);
    EXPECT_EQ((float)d[(size_t)Vp + 6], -1.0f);
    EXPECT_EQ((float)d[(size_t)Vp + 5], 1.0f);
    EXPECT(std::isnan(x[2]));
    for (int v = 0; v < Vp; v++) EXPECT(v < V ? std::isnan((float)d[2 * (size_t)Vp + (size_t)v]) : (float)d[2 * (size_t)Vp + (size_t)v] == 0);
}
