// table.h: what the parts of the exercise on softmax with cross-entropy must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
enum Mistake { NONE, NO_LOG, NO_MAX_ADDED, PROBABILITY, NO_ONEHOT, NO_DLOSS, NOT_DIVIDED, NO_RESCALE, MAX_FROM_0, REVERSED, FIRST_THREAD, FIRST_WARP };
struct Rows { Doubles losses, dlogits, maxima, sums; };
inline Rows oracle(const Doubles& x, const std::vector<int>& targets, double dloss, size_t N, size_t C, Mistake m = NONE) {
    Rows r{Doubles(N), Doubles(N * C), Doubles(N), Doubles(N)};
    for (size_t n = 0; n < N; n++) {
        const double* row = x.data() + n * C;
        double row_max = m == MAX_FROM_0 ? 0 : row[0], so_far = -INFINITY;
        auto seen_by_it = [&](size_t i) { return i % THREADS < (m == FIRST_THREAD ? 1 : m == FIRST_WARP ? WARP : THREADS); };
        for (size_t i = 0; i < C; i++) if (seen_by_it(i)) row_max = std::fmax(row_max, row[i]);
        for (size_t i = 0; i < C; i++) if (seen_by_it(i)) so_far = std::fmax(so_far, row[i]), r.sums[n] += std::exp(row[i] - (m == NO_RESCALE ? so_far : row_max));
        const double correct = row[targets[n]], log_sum = m == NO_LOG ? r.sums[n] : std::log(m == MAX_FROM_0 ? (float)r.sums[n] : r.sums[n]);  // where it is 0 in a float
        r.maxima[n] = row_max;
        r.losses[n] = m == PROBABILITY ? std::exp(correct - row_max) / r.sums[n] : log_sum + (m == NO_MAX_ADDED ? 0 : row_max) - correct;
        for (size_t i = 0; i < C; i++)
            r.dlogits[n * C + i] = (std::exp(row[i] - row_max) / (m == NOT_DIVIDED ? 1 : r.sums[n]) - (m != NO_ONEHOT && ((int)i == targets[n]) != (m == REVERSED))) * (m == NO_DLOSS ? 1 : dloss);
    }
    return r;
}

struct Batch { Doubles logits; std::vector<int> targets; double dloss; };
// Some rows lie far from 0: exp of them is infinite or 0 in floats. Targets are anywhere.
inline Batch batch_of(Trial& t, Size s) {
    Batch b{t.normal((size_t)s.N * (size_t)s.C, 0, 3), {}, (float)(1.0 / s.N)};
    for (size_t i = 0; i < t.filled(b.logits.size()); i++) b.logits[i] = (float)(b.logits[i] + (i / (size_t)s.C % 3 == 1 ? 100 : i / (size_t)s.C % 3 == 2 ? -200 : 0));
    for (int n = 0; n < s.N; n++) b.targets.push_back((n * 7 + 3) % s.C);
    return b;
}
// Of logits near 200, whose last bit is 2^-16, differences to the maximum are exact; C roundings of the sum's size, and a loss has a rounding of row_max's.
inline double sum_bound(Size s) { return (s.C + 16) * 0x1p-24; }
inline Doubles loss_bounds(const Rows& r, Size s) {
    Doubles bounds;
    for (size_t n = 0; n < r.losses.size(); n++) bounds.push_back(sum_bound(s) + 2 * 0x1p-24 * (std::fabs(r.maxima[n]) + std::fabs(r.losses[n]) + 8));
    return bounds;
}
inline void expect_losses(Trial& t, const Batch& b, const Rows& right, Size s) {
    auto with = [&](Mistake m) { return t.wants(m) ? oracle(b.logits, b.targets, b.dloss, (size_t)s.N, (size_t)s.C, m).losses : Doubles(); };
    t.expect("losses", right.losses, loss_bounds(right, s), {{"the logarithm of the sum is missing", with(NO_LOG)}, {"row_max is subtracted in the sum, but not added to its logarithm", with(NO_MAX_ADDED)}, {"it is the probability, not -log of it", with(PROBABILITY)}, {"the maximum begins at 0, which no logit of some rows reaches", with(MAX_FROM_0)}, {"it is what thread 0 has seen: over_block() gives what all have", with(FIRST_THREAD)}, {"it is what the first warp has seen: over_block() puts all warps' pairs together", with(FIRST_WARP)}});
}
inline void expect_gradient(Trial& t, const Batch& b, const Rows& right, Size s) {
    auto with = [&](Mistake m) { return t.wants(m) ? oracle(b.logits, b.targets, b.dloss, (size_t)s.N, (size_t)s.C, m).dlogits : Doubles(); };
    t.expect("logits", right.dlogits, 2 * sum_bound(s) * b.dloss, {{"1 is not subtracted at the target", with(NO_ONEHOT)}, {"the factor dloss is missing", with(NO_DLOSS)}, {"exp is not divided by row_sum", with(NOT_DIVIDED)}, {"1 is subtracted everywhere but at the target", with(REVERSED)}});
}

inline void grade_losses(Trial& t, Size s) {
    const Batch b = batch_of(t, s);
    float* losses = t.result("losses", (size_t)s.N);
    const float* logits = t.given("logits", b.logits, s.C);
    const int* targets = t.given("targets", b.targets);
    t.run([&] { losses_cpp(losses, logits, targets, s.N, s.C); });
    expect_losses(t, b, oracle(b.logits, b.targets, b.dloss, (size_t)s.N, (size_t)s.C), s);
}
inline void grade_online(Trial& t, Size s) {
    const Batch b = batch_of(t, s);
    float *maxima = t.result("maxima", (size_t)s.N), *sums = t.result("sums", (size_t)s.N);
    const float* logits = t.given("logits", b.logits, s.C);
    t.run([&] { online_cpp(maxima, sums, logits, s.N, s.C); });
    const Rows right = oracle(b.logits, b.targets, b.dloss, (size_t)s.N, (size_t)s.C);
    t.expect("maxima", right.maxima, 1e-30);
    Doubles bounds;
    for (double x : right.sums) bounds.push_back(2 * sum_bound(s) * x);
    t.expect("sums", right.sums, bounds, {{"the sum so far is not rescaled when the maximum grows", oracle(b.logits, b.targets, b.dloss, (size_t)s.N, (size_t)s.C, NO_RESCALE).sums}});
}
inline void classifier_on_host(float* logits, float* losses, const int* targets, float dloss, int N, int C, stream_t) { classifier_cpp(logits, losses, targets, dloss, N, C); }
using Classifier = void (*)(float*, float*, const int*, float, int, int, stream_t);
template <Classifier classifier> void grade_classifier(Trial& t, Size s) {
    const Batch b = batch_of(t, s);
    float *logits = t.changed("logits", b.logits, s.C), *losses = t.result("losses", (size_t)s.N);
    const int* targets = t.given("targets", b.targets);
    t.run([&] { classifier(logits, losses, targets, (float)b.dloss, s.N, s.C, t.stream); });
    const Rows right = oracle(b.logits, b.targets, b.dloss, (size_t)s.N, (size_t)s.C);
    expect_losses(t, b, right, s);
    expect_gradient(t, b, right, s);
}

inline const std::vector<Size> SIZES = {{3, 7}, {1, 1}, {9, 131}, {5, 1021}};
inline const std::vector<Part> PARTS = {
    {grade_losses, SIZES},
    {grade_classifier<classifier_on_host>, SIZES},
    {grade_online, SIZES},
    {grade_classifier<classifier_cuda>, {{3, 7}, {1, 1}, {9, 531}, {8, 2048}}, true, {.asked = 1.6, .touched = 1.05, .sectors = 1.1, .launches = 1, .threads = true}, {{1024, 16384}}},  // 64 MB of logits
};
}  // namespace learn
