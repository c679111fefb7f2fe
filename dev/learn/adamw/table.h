// table.h: what the parts of AdamW's exercise must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
enum Mistake { NONE, NO_CORRECTION, NO_CORRECTION_V, FROM_0, ONE_CORRECTION, COUPLED, NO_DECAY, DECAY_WITHOUT_LR, EPS_INSIDE, NO_ROOT, NO_EPS, NOT_SQUARED, ADDED, OLD_MOMENTS, DECAYS_ALL, DECAYS_BY_FOUR, NO_SCALE, SCALED_UPDATE };
constexpr uint64_t SEED = 7;
// eps is large, so that its place shows; t is small, so that the corrections do.
inline Hyper hyper() { return {.lr = 0.1f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 0.05f, .weight_decay = 0.3f, .t = 2}; }

struct State { Doubles p, m, v, g; };
// v is at least m^2, as of the same gradients.
inline State state_of(Trial& t, Size s) {
    const size_t n = (size_t)s.N * (size_t)s.C;
    State x{t.normal(n), t.normal(n, 0, 0.3), t.normal(n), t.normal(n)};
    for (size_t i = 0; i < t.filled(n); i++) x.v[i] = (float)(x.m[i] * x.m[i] + 0.1 * x.v[i] * x.v[i]);
    return x;
}
inline State oracle(State x, double scale, size_t decayed, Mistake m = NONE) {
    const Hyper h = hyper();
    const double b1 = h.beta1, b2 = h.beta2, lr = h.lr, eps = h.eps;
    const int t = m == FROM_0 ? h.t - 1 : h.t;
    const double c1 = m == NO_CORRECTION ? 1 : 1 / (1 - std::pow(b1, t)), c2 = m == NO_CORRECTION || m == NO_CORRECTION_V ? 1 : m == ONE_CORRECTION ? c1 : 1 / (1 - std::pow(b2, t));
    for (size_t i = 0; i < x.p.size(); i++) {
        const double decay = (m == DECAYS_BY_FOUR ? i / 4 * 4 : i) < decayed || m == DECAYS_ALL ? (double)h.weight_decay : 0;
        double g = x.g[i] * (m == NO_SCALE || m == SCALED_UPDATE ? 1 : scale);
        if (m == COUPLED) g += decay * x.p[i];
        const double m0 = x.m[i], v0 = x.v[i];
        x.m[i] = b1 * m0 + (1 - b1) * g, x.v[i] = b2 * v0 + (1 - b2) * (m == NOT_SQUARED ? g : g * g);
        const double mhat = c1 * (m == OLD_MOMENTS ? m0 : x.m[i]), vhat = c2 * (m == OLD_MOMENTS ? v0 : x.v[i]);
        double step = m == EPS_INSIDE ? mhat / std::sqrt(vhat + eps) : m == NO_ROOT ? mhat / (vhat + eps) : mhat / (std::sqrt(vhat) + (m == NO_EPS ? 0 : eps));
        if (m == SCALED_UPDATE) step *= scale;
        const double shrink = m == COUPLED || m == NO_DECAY ? 0 : decay * x.p[i];
        if (m == DECAY_WITHOUT_LR) x.p[i] -= lr * step + shrink;
        else x.p[i] -= (m == ADDED ? -lr : lr) * (step + shrink);
    }
    return x;
}
// Some ten roundings of numbers below 8; what is divided by sqrt(vhat) + eps is at most 1 / sqrt(1 - beta2) of it.
constexpr double BOUND = 10 * 0x1p-24 * 8;

inline void expect_state(Trial& t, const char* name, const State& before, double scale, size_t decayed) {
    auto with = [&](Mistake m) { return t.wants(m) ? oracle(before, scale, decayed, m) : State(); };
    const State right = with(NONE), coupled = with(COUPLED), unscaled = with(NO_SCALE);
    const Cause is_coupled = {"weight decay is part of the gradient: AdamW's is decoupled, and only p has it", coupled.m};
    t.expect("m", right.m, BOUND, {is_coupled, {"the gradient is not multiplied by scale", unscaled.m}, {"m has not changed", before.m}});
    t.expect("v", right.v, BOUND, {{"the gradient is not squared", with(NOT_SQUARED).v}, {is_coupled.what, coupled.v}, {"the gradient is not multiplied by scale", unscaled.v}, {"v has not changed", before.v}});
    t.expect(name, right.p, BOUND, {{"there is no bias correction", with(NO_CORRECTION).p}, {"vhat has no bias correction", with(NO_CORRECTION_V).p}, {"steps are counted from 0: t is from 1", with(FROM_0).p}, {"both moments have beta1's correction", with(ONE_CORRECTION).p},
             {"weight decay is missing", with(NO_DECAY).p}, {"weight decay is not multiplied by lr", with(DECAY_WITHOUT_LR).p}, {"eps stands under the root", with(EPS_INSIDE).p}, {"the root of vhat is missing", with(NO_ROOT).p},
             {"eps is missing", with(NO_EPS).p}, {"the update is added: it goes against the gradient", with(ADDED).p}, {"the moments of the step before are used: they are updated first", with(OLD_MOMENTS).p},
             {"all elements have weight decay, not the first `decayed` alone", with(DECAYS_ALL).p}, {"all four elements of a thread have weight decay if the first has: it is begin + k < decayed", with(DECAYS_BY_FOUR).p}, {"the update is scaled, not the gradient", with(SCALED_UPDATE).p}, {"it has not changed", before.p}});
}

inline void grade_cpp(Trial& t, Size s) {
    const State x = state_of(t, s);
    const size_t n = x.p.size();
    float *p = t.changed("p", x.p), *m = t.changed("m", x.m), *v = t.changed("v", x.v);
    const float* g = t.given("grads", x.g);
    t.run([&] { adamw_cpp(p, m, v, g, n, hyper()); });
    expect_state(t, "p", x, 1, n);
}

// Three cases: a norm that is too large, one that is small enough, gradients of 0.
inline void grade_clip(Trial& t, Size s) {
    const size_t n = (size_t)s.N * (size_t)s.C;
    const Doubles g = t.normal(n, 0, 2), zeros(n);
    double sum = 0, total = 0;
    for (double x : g) sum += x * x, total += std::fabs(x);
    const double norm = std::sqrt(sum);
    const float *grads = t.given("grads", g), *none = t.given("zeros", zeros), large = (float)(norm / 2), small = (float)(norm * 2);
    float *scale = t.result("scale", 2), *of_zeros = t.result("scale_of_zeros", 1);
    t.run([&] { scale[0] = clip_scale(grads, n, large), scale[1] = clip_scale(grads, n, small), *of_zeros = clip_scale(none, n, 1); });
    t.expect("scale", {large / norm, 1}, 4 * 0x1p-24, {{"a norm below max_norm is scaled up: it is left as it is", {large / norm, small / norm}}, {"the root is missing: it is the sum of squares", {std::fmin(1, large / sum), std::fmin(1, small / sum)}},
             {"absolute values are added, not squares", {std::fmin(1, large / total), std::fmin(1, small / total)}}, {"nothing is clipped: is it the mean of the squares, not their sum?", {std::fmin(1, large / (norm / std::sqrt((double)n))), 1}}, {"it is the other way round: norm / max_norm", {norm / large, 1}}});
    t.expect("scale_of_zeros", {1}, 1e-30);
}

inline void grade_rounding(Trial& t, Size s) {
    const size_t n = (size_t)s.N * (size_t)s.C;
    const Doubles x = t.normal(n);
    float* rounded = t.result("rounded", n);
    auto random_of = [](size_t i) { return philox(3, RNG_TEST, 1, i).x[0]; };  // of all 32 bits
    t.run([&] { for (size_t i = 0; i < n; i++) rounded[i] = round_to_bf16((float)x[i], random_of(i)); });
    auto with = [&](auto f) { Doubles y; for (size_t i = 0; i < n; i++) y.push_back((double)std::bit_cast<float>((uint32_t)f(std::bit_cast<uint32_t>((float)x[i]), random_of(i)))); return y; };
    t.expect("rounded", with([](uint32_t b, uint32_t r) { return (b + (r & 0xffff)) & 0xffff0000; }), 1e-30,
             {{"it is rounded to the nearest: random has no part in it", with([](uint32_t b, uint32_t) { return (b + 0x8000) & 0xffff0000; })}, {"it is cut off: random has no part in it", with([](uint32_t b, uint32_t) { return b & 0xffff0000; })},
              {"the lower 16 bits are still there", with([](uint32_t b, uint32_t r) { return b + (r & 0xffff); })}, {"the upper bits of random are added, too", with([](uint32_t b, uint32_t r) { return (b + r) & 0xffff0000; })},
              {"random's upper 16 bits are used, not its lower ones", with([](uint32_t b, uint32_t r) { return (b + (r >> 16)) & 0xffff0000; })}});
}

inline void grade_scale(Trial& t, Size s) {
    const size_t n = (size_t)s.N * (size_t)s.C;
    const Doubles g = t.normal(n);
    double sum = 0;
    for (size_t i = 0; i < t.filled(n); i++) sum += g[i] * g[i];
    const double norm = std::sqrt(sum), max_norm = (float)(s.C % 2 ? norm / 2 : norm * 2), right = std::fmin(1, max_norm / norm);
    float *scale = t.result("scale", 1), *partials = t.scratch("partials", MAX_BLOCKS);
    const float* grads = t.given("grads", g);
    t.run([&] { scale_cuda(scale, partials, grads, (float)max_norm, n, t.stream); });
    // half of the roundings of a sum of squares: of a thread 1 for a square, n / threads or 4, over two blocks 20, of a thread of the last one 5; then root and quotient
    t.expect("scale", {right}, (double)(n / (size_t)(MAX_BLOCKS * THREADS) + 32) * 0x1p-24, {{"a norm below max_norm is scaled up: it is left as it is", {max_norm / norm}}, {"the root is missing: it is the sum of squares", {std::fmin(1, max_norm / sum)}}});
}

inline size_t decayed_of(size_t n) { return n * 2 / 3; }
constexpr double SCALE = 0.3f;
inline void grade_element(Trial& t, Size s) {
    const State x = state_of(t, s);
    const size_t n = x.p.size(), decayed = decayed_of(n);
    float *p = t.changed("p", x.p), *m = t.changed("m", x.m), *v = t.changed("v", x.v);
    const float *g = t.given("grads", x.g), *scale = t.given("scale", Doubles{SCALE});
    t.run([&] { element_cuda(p, m, v, g, scale, n, decayed, hyper(), t.stream); });
    expect_state(t, "p", x, SCALE, decayed);
}
inline void grade_fused(Trial& t, Size s) {
    const State x = state_of(t, s);
    const size_t n = x.p.size(), decayed = decayed_of(n);
    float *params = t.result("params", n), *master = t.changed("master", x.p), *m = t.changed("m", x.m), *v = t.changed("v", x.v);
    const float *g = t.given("grads", x.g), *scale = t.given("scale", Doubles{SCALE});
    t.run([&] { fused_cuda(params, master, m, v, g, scale, n, decayed, hyper(), SEED, t.stream); });
    expect_state(t, "master", x, SCALE, decayed);
    // rounded is what master holds, whose last bit may be another one than the oracle's
    const float* now = t.values("master");
    auto with = [&](auto random) { Doubles y; for (size_t i = 0; i < n; i++) y.push_back((double)std::bit_cast<float>((std::bit_cast<uint32_t>(now[i]) + random(i)) & 0xffff0000)); return y; };
    const int step = hyper().t;
    t.expect("params", with([=](size_t i) { return rounding_bits(SEED, step, i); }), 1e-30,
             {{"it is rounded to the nearest", with([](size_t) { return 0x8000u; })}, {"it is cut off", with([](size_t) { return 0u; })}, {"it is master's copy, not rounded", Doubles(now, now + n)}, {"the random bits of all elements of a thread are those of its first", with([=](size_t i) { return rounding_bits(SEED, step, i / 4 * 4); })},
              {"the random bits are numbered within a thread: it is the element's number, begin + k", with([=](size_t i) { return rounding_bits(SEED, step, i % 4); })}});
}

inline const std::vector<Size> ODD = {{3, 7}, {1, 1}, {5, 131}, {32, 128}};
constexpr Size LARGE = {4096, 2048};  // 32 MB an array, of which there are up to five
inline const std::vector<Part> PARTS = {
    {grade_cpp, {{3, 7}, {1, 1}, {5, 131}}},
    {grade_clip, {{3, 7}, {5, 131}}},
    {grade_rounding, {{3, 7}, {5, 131}}},
    {grade_scale, {{3, 7}, {1, 1}, {17, 131}, {64, 512}}, true, {.sectors = 1.1, .launches = 2, .threads = true, .turns = 4}, {LARGE}},  // 32 partial sums
    {grade_element, ODD, true, {.sectors = 1.1, .launches = 1, .threads = true}, {LARGE}},
    {grade_fused, ODD, true, {.asked = 1.05, .touched = 1.05, .sectors = 1.1, .access = 14, .launches = 1, .threads = true}, {LARGE}},
};
}  // namespace learn
