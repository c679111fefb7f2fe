#include <bit>
#include <limits>
#include "../../llmc/cpu/adamw.h"
#include "../layers.h"

constexpr int SHAPES = 60;

static AdamW hyper(int t) {
    return {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .t = t, .seed = 1234567890123};
}
constexpr float SCALE = 0.7f;
static StepStats VERDICT{.loss = 3, .norm = 1 / 0.7, .z = NAN, .scale = SCALE, .skip = APPLIED};

// Segments of odd lengths that begin anywhere, with gaps between them.
struct AdamWCase {
    std::vector<Segment> segments;
    size_t n = 0;
    std::vector<float> grads, m, v, p;
    std::vector<bool> inside;
    AdamWCase(Random& r, int max_count) {
        for (int s = r.between(1, 5); s > 0; s--) {
            n += (size_t)r.between(0, 3) * 7;
            segments.push_back({n, (size_t)r.between(0, max_count), (float)r.between(0, 1)});
            n += segments.back().count;
        }
        n += 5;
        grads = normal_values<float>(r, n), m = normal_values<float>(r, n, 0.1f), p = normal_values<float>(r, n, 0.02f);
        for (size_t i = 0; i < n; i++) v.push_back(std::fabs(r.normal()) * 0.1f);
        inside.resize(n);
        for (Segment s : segments) for (size_t i = s.offset; i < s.offset + s.count; i++) inside[i] = true;
    }
};

// Three steps against the formula in double. Each of m, v, p is one fused sum a step, and the update lr * (...) is small
// beside p: 4 roundings a step bound the sums.
TEST(adamw_fp32) {
    Random r(1);
    for (int shape = 0; shape < SHAPES; shape++) {
        AdamWCase s(r, shape % 4 ? 200 : 20000);
        Guarded<float> p(s.p), m(s.m), v(s.v);
        auto pd = in_double(s.p), md = in_double(s.m), vd = in_double(s.v);
        for (int t = 1; t <= 3; t++) {
            AdamW h = hyper(t);
            adamw_update(p.data(), (float*)nullptr, s.grads.data(), m.data(), v.data(), s.segments.data(), (int)s.segments.size(), &VERDICT, s.n, h, stream_t{});
            for (Segment segment : s.segments)
                for (size_t i = segment.offset; i < segment.offset + segment.count; i++) {
                    double g = (double)s.grads[i] * (double)SCALE, b1 = (double)h.beta1, b2 = (double)h.beta2;
                    md[i] = b1 * md[i] + (1 - b1) * g, vd[i] = b2 * vd[i] + (1 - b2) * g * g;
                    double mhat = md[i] / (1 - std::pow(b1, t)), vhat = vd[i] / (1 - std::pow(b2, t));
                    pd[i] -= (double)h.lr * (mhat / (std::sqrt(vhat) + (double)h.eps) +
                                             (double)segment.decay * (double)h.weight_decay * pd[i]);
                }
        }
        EXPECT_WHOLE(p);
        EXPECT_WHOLE(m);
        EXPECT_WHOLE(v);
        EXPECT_CLOSE(m.data(), md.data(), s.n, tolerance<float>(12));
        EXPECT_CLOSE(v.data(), vd.data(), s.n, tolerance<float>(12));
        EXPECT_CLOSE(p.data(), pd.data(), s.n, tolerance<float>(12));
        int touched = 0;
        for (size_t i = 0; i < s.n; i++) touched += !s.inside[i] && (p[i] != s.p[i] || m[i] != s.m[i] || v[i] != s.v[i]);
        EXPECT_EQ(touched, 0);
    }
}

// The master follows fp32 to the bit; the parameter is its rounding with the bits that rounding_bits names.
TEST(adamw_bf16_rounds_the_master) {
    Random r(2);
    for (int shape = 0; shape < SHAPES; shape++) {
        AdamWCase s(r, shape % 4 ? 300 : 20000);
        AdamW h = hyper(shape + 1);
        h.first = shape % 3 == 0 ? 0 : shape % 3 == 1 ? 8ull * 12345 : (1ull << 35) - 129;  // indices beyond 32 bits
        Guarded<float> p(s.p), m(s.m), v(s.v), m2(s.m), v2(s.v), master(s.p), m3(s.m), v3(s.v);
        std::vector<bf16> start = normal_values<bf16>(r, s.n);
        Guarded<bf16> params(start), alone(std::vector<bf16>(s.p.begin(), s.p.end()));
        std::vector<float> widened(alone.data(), alone.data() + s.n);
        const int n = (int)s.segments.size();
        adamw_update(p.data(), (float*)nullptr, s.grads.data(), m.data(), v.data(), s.segments.data(), n, &VERDICT, s.n, h, stream_t{});
        adamw_update(params.data(), master.data(), s.grads.data(), m2.data(), v2.data(), s.segments.data(), n, &VERDICT, s.n, h, stream_t{});
        adamw_update(alone.data(), (float*)nullptr, s.grads.data(), m3.data(), v3.data(), s.segments.data(), n, &VERDICT, s.n, h, stream_t{});
        EXPECT(same_bits(master.all, p.all));
        EXPECT(same_bits(m.all, m2.all) && same_bits(v.all, v2.all) && same_bits(m.all, m3.all));
        EXPECT_WHOLE(params);
        EXPECT_WHOLE(alone);
        std::vector<float> m4 = s.m, v4 = s.v;
        adamw_update(widened.data(), (float*)nullptr, s.grads.data(), m4.data(), v4.data(), s.segments.data(), n, &VERDICT, s.n, h, stream_t{});
        int wrong = 0;
        for (size_t i = 0; i < s.n; i++) {
            uint32_t random = rounding_bits(h.seed, h.t, h.first + i);
            wrong += params[i].bits != (s.inside[i] ? round_stochastic(p[i], random) : start[i]).bits;
            wrong += s.inside[i] && alone[i].bits != round_stochastic(widened[i], random).bits;
        }
        EXPECT_EQ(wrong, 0);
    }
}

// A skipped update changes no bit, whatever the gradients are.
TEST_BOTH(adamw_skips) {
    Random r(6);
    for (Skip why : {NOT_FINITE, LOSS_SPIKE, NORM_SPIKE}) {
        AdamWCase s(r, 3000);
        s.grads[s.n / 2] = std::numeric_limits<float>::quiet_NaN();
        Guarded<F> p(normal_values<F>(r, s.n));
        Guarded<float> m(s.m), v(s.v), master(s.p);
        const auto p0 = p.all;
        const auto m0 = m.all, v0 = v.all, master0 = master.all;
        StepStats step_stats = VERDICT;
        step_stats.skip = why;
        adamw_update(p.data(), master.data(), s.grads.data(), m.data(), v.data(), s.segments.data(), (int)s.segments.size(), &step_stats, s.n,
                     hyper(1), stream_t{});
        EXPECT(same_bits(p.all, p0) && same_bits(m.all, m0) && same_bits(v.all, v0) && same_bits(master.all, master0));
    }
}

// Cut into any segments, with any shard's index of element 0: bitwise identical to the whole.
TEST_BOTH(adamw_in_pieces) {
    Random r(3);
    for (int shape = 0; shape < SHAPES; shape++) {
        const size_t n = (size_t)r.between(1, 9000);
        auto grads = normal_values<float>(r, n), m = normal_values<float>(r, n), v = normal_values<float>(r, n), master = normal_values<float>(r, n);
        for (float& e : v) e = e * e;
        auto m2 = m, v2 = v, master2 = master;
        Guarded<F> whole(n), pieces(n);
        AdamW h = hyper(7);
        h.first = r.word();
        const Segment all{0, n, 1};
        adamw_update(whole.data(), master.data(), grads.data(), m.data(), v.data(), &all, 1, &VERDICT, n, h, stream_t{});
        for (size_t at = 0; at < n;) {
            size_t count = (size_t)r.between(1, shape % 2 ? 40 : 4000);
            if (count > n - at) count = n - at;
            AdamW shard = h;
            shard.first += at;
            const Segment segment{0, count, 1};
            adamw_update(pieces.data() + at, &master2[at], &grads[at], &m2[at], &v2[at], &segment, 1, &VERDICT, count, shard, stream_t{});
            at += count;
        }
        EXPECT_WHOLE(whole);
        EXPECT(same_bits(whole.all, pieces.all) && same_bits(master, master2) && same_bits(m, m2) && same_bits(v, v2));
    }
}

// Over all 2^16 random words a value goes up exactly (its dropped fraction) times: P(up) = fraction / 2^16 exactly.
TEST(stochastic_rounding_probability) {
    const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> values{0.0f, -0.0f, 1.0f, 1.0f + 0x1p-23f, -1.0f - 0x1p-10f, 3.14159265f, -1e-3f, 0x1.fffffep0f, 1e-40f, -0x1p-149f,
                              0x1.fffffep-127f, 3.3e38f, 3.4028234e38f, -3.4028234e38f, infinity, -infinity, nan, -nan};
    Random r(4);
    for (int i = 0; i < 50; i++) values.push_back(std::bit_cast<float>(r.word()));
    for (float x : values) {
        const uint32_t bits = std::bit_cast<uint32_t>(x), fraction = bits & 0xffff;
        const bool finite = (bits & 0x7f800000) != 0x7f800000;
        uint32_t up = 0, wrong = 0;
        for (uint32_t random = 0; random < 65536; random += W) {
            vhalf lanes;
            for (int i = 0; i < W; i++) lanes[i] = (uint16_t)(random + (uint32_t)i);
            vhalf rounded = round_stochastic(splat(x), lanes);
            for (int i = 0; i < W; i++) {
                uint16_t y = rounded[i];
                wrong += y != round_stochastic(x, random + (uint32_t)i).bits;
                wrong += y != round_stochastic(x, (random + (uint32_t)i) | 0xabcd0000).bits;  // only 16 bits of it count
                if (!finite) wrong += x != x ? !std::isnan((float)bf16::from_bits(y)) : y != bits >> 16;
                else if (y == (bits >> 16) + 1) up++;  // away from zero: in size, the next bf16 (or infinity)
                else wrong += y != bits >> 16;
            }
        }
        EXPECT_EQ(wrong, 0u);
        EXPECT_EQ(up, finite ? fraction : 0u);
    }
}

// The generator's halves are what the header says: word (i % 8) / 2 of call i / 8, the low half first.
TEST(rounding_bits_definition) {
    for (uint64_t i : {0ull, 1ull, 7ull, 8ull, 1000003ull, (1ull << 35) + 6}) {
        Random4 words = philox(42, RNG_ROUNDING, 9, i / 8);
        EXPECT_EQ(rounding_bits(42, 9, i), words.x[(i % 8) / 2] >> (16 * (i % 2)) & 0xffff);
    }
    double mean = 0;  // uniform over 16 bits: standard deviation of the mean of 65536 draws is 65536 / sqrt(12) / 256 = 74
    for (uint64_t i = 0; i < 65536; i++) mean += rounding_bits(42, 9, i) / 65536.0;
    EXPECT(std::fabs(mean - 32767.5) < 5 * 74);
}

TEST_BOTH(adamw_same_bits_for_any_threads) {
    Random r(5);
    AdamWCase s(r, 30000);
    EXPECT(same_bits_for_any_threads([&] {
        auto m = s.m, v = s.v, master = s.p;
        std::vector<F> p(s.n, F(0.0f));
        adamw_update(p.data(), master.data(), s.grads.data(), m.data(), v.data(), s.segments.data(), (int)s.segments.size(), &VERDICT, s.n,
                     hyper(3), stream_t{});
        for (F e : p) master.push_back((float)e);
        master.insert(master.end(), m.begin(), m.end()), master.insert(master.end(), v.begin(), v.end());
        return master;
    }));
}

// One value that is not finite, in whatever an update reads, at any place: it says so. Large ones are none: no sum of them is made.
TEST_BOTH(adamw_says_what_is_not_finite) {
    Random r(8);
    const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
    for (int shape = 0; shape < SHAPES; shape++) {
        AdamWCase s(r, shape % 4 ? 200 : 40000);
        const auto is_said = [&](bool has_master, const auto& plant) {
            AdamWCase at = s;
            std::vector<F> params(at.p.begin(), at.p.end());
            StepStats stats = VERDICT;
            plant(at, params);
            adamw_update(params.data(), has_master ? at.p.data() : nullptr, at.grads.data(), at.m.data(), at.v.data(), at.segments.data(), (int)at.segments.size(), &stats, at.n, hyper(3), stream_t{});
            return stats.not_finite == 1;
        };
        size_t i = 0;  // of a segment; the first one, the last one and others
        for (size_t tries = r.word() % s.n + s.n; tries-- && !s.inside[i = tries % s.n];) {}
        for (bool has_master : {true, false}) {
            EXPECT(!is_said(has_master, [](AdamWCase&, std::vector<F>&) {}));
            EXPECT(!is_said(has_master, [&](AdamWCase& at, std::vector<F>&) { at.v.assign(at.n, 3e38f), at.m.assign(at.n, 3e37f), at.p.assign(at.n, 3e38f); }));
            for (size_t out = 0; out < s.n; out++)
                if (!s.inside[out]) { EXPECT(!is_said(has_master, [&](AdamWCase& at, std::vector<F>& params) { at.m[out] = at.v[out] = at.p[out] = NAN, params[out] = F(NAN); })); break; }
            if (!s.inside[i]) continue;
            for (float x : bad) {
                EXPECT(is_said(has_master, [&](AdamWCase& at, std::vector<F>&) { at.m[i] = x; }));
                EXPECT(is_said(has_master, [&](AdamWCase& at, std::vector<F>&) { at.v[i] = x; }));
                EXPECT(is_said(has_master, [&](AdamWCase& at, std::vector<F>&) { at.grads[i] = x; }));
                EXPECT(is_said(has_master, [&](AdamWCase& at, std::vector<F>& params) { (has_master ? at.p[i] = x : x), params[i] = F(x); }));
            }
        }
    }
}
