#include <bit>
#include <limits>
#include "../../llmc/cuda/adamw.cuh"
#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/adamw.h"
}

constexpr float SCALE = 0.7f;
static StepStats GO{.loss = 3, .norm = 1 / 0.7, .z = NAN, .scale = SCALE, .skip = APPLIED};

static AdamW hyper(int t, uint64_t first = 0) {
    return {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .t = t, .seed = 1234567890123,
            .first = first};
}

// What a step works on; `inside` are the elements that lie in a segment.
template <class F> struct State {
    std::vector<F> params;
    std::vector<float> master, m, v, grads;
    size_t n() const { return params.size(); }
    State(Random& r, size_t n) : params(normal_values<F>(r, n)), master(normal_values<float>(r, n, 0.02f)),
                                 m(normal_values<float>(r, n, 0.1f)), v(normal_values<float>(r, n, 0.3f)),
                                 grads(normal_values<float>(r, n)) {
        for (float& x : v) x *= x;
    }
    std::vector<float> all() const {
        std::vector<float> list(master);
        for (F x : params) list.push_back((float)x);
        list.insert(list.end(), m.begin(), m.end()), list.insert(list.end(), v.begin(), v.end());
        return list;
    }
};

using Segments = std::vector<Segment>;

template <class F>
static State<F> on_device(State<F> s, bool has_master, const Segments& segments, const StepStats& step_stats, const AdamW& h) {
    OnDevice<F> params(s.params);
    OnDevice<float> master(s.master), m(s.m), v(s.v), grads(s.grads);
    OnDevice<Segment> list(segments);
    OnDevice<StepStats> decision({step_stats});
    TestStream stream;
    adamw_update(params.data(), has_master ? master.data() : nullptr, grads.data(), m.data(), v.data(), list.data(),
                 (int)segments.size(), decision.data(), s.n(), h, stream);
    s.params = params.values(), s.master = master.values(), s.m = m.values(), s.v = v.values();
    return s;
}

// The same in plain C++, rounded where the kernel rounds.
template <class F>
static State<F> one_by_one(State<F> s, bool has_master, const Segments& segments, const StepStats& step_stats, const AdamW& h) {
    const float mhat = (float)(1 / (1 - std::pow((double)h.beta1, h.t)));
    const float vhat = (float)(1 / (1 - std::pow((double)h.beta2, h.t)));
    for (const Segment& segment : segments)
        for (size_t i = segment.offset; i < segment.offset + segment.count; i++) {
            const volatile float g = s.grads[i] * step_stats.scale;  // volatile: a sum of its own
            float &m = s.m[i], &v = s.v[i], p = has_master ? s.master[i] : (float)s.params[i];
            m = std::fmaf(1 - h.beta1, g - m, m), v = std::fmaf(1 - h.beta2, std::fmaf(g, g, -v), v);
            p = std::fmaf(-h.lr, std::fmaf(segment.decay * h.weight_decay, p, m * mhat / (std::sqrt(v * vhat) + h.eps)), p);
            if (has_master) s.master[i] = p;
            if constexpr (std::is_same_v<F, float>) s.params[i] = p;
            else s.params[i] = round_stochastic(p, rounding_bits(h.seed, h.t, h.first + i));
        }
    return s;
}
template <class F> static bool same_state(const State<F>& a, const State<F>& b) {
    return same_bits(a.params, b.params) && same_bits(a.master, b.master) && same_bits(a.m, b.m) && same_bits(a.v, b.v);
}

// Segments of any lengths, none too, that begin anywhere, with gaps between them; the last may end where everything ends.
static Segments random_segments(Random& r, int count, int max_length, size_t& n) {
    Segments list;
    n = 0;
    for (int s = 0; s < count; s++) {
        n += (size_t)(r.between(0, 2) ? 0 : r.between(1, 19));
        list.push_back({n, (size_t)r.between(0, max_length), (float)r.between(0, 1)});
        n += list.back().count;
    }
    n += (size_t)r.between(0, 9);
    return list;
}

// To the bit: every element in a segment as one_by_one() has it, every other one as it was, wherever segments begin.
TEST_BOTH(cuda_adamw) {
    Random r(1);
    for (auto [count, length] : std::vector<std::pair<int, int>>{{1, 9}, {4, 40}, {3, 3000}, {600, 25}, {40, 200}, {0, 0}})
        for (uint64_t first : {0ull, 8ull * 12345, (1ull << 35) - 129}) {  // indices beyond 32 bits, and no multiple of 8
            size_t n;
            auto segments = random_segments(r, count, length, n);
            for (bool has_master : both()) {
                State<F> s(r, n);
                const AdamW h = hyper(r.between(1, 9), first);
                const State<F> expected = one_by_one(s, has_master, segments, GO, h);
                for_schedules([&] {
                    State<F> got = on_device(s, has_master, segments, GO, h);
                    EXPECT(same_state(got, expected));
                    return got.all();
                });
            }
        }
}

// Beside the CPU backend. Its compiler may round a product before it adds where the kernel rounds once: after three steps each
// of m, v and p has taken 12 roundings at most, each half an ulp. Where sums are fused (-O2 on x86-64-v3) all bits are the same.
TEST_BOTH(cuda_adamw_beside_the_cpu) {
    Random r(2);
    size_t n;
    auto segments = random_segments(r, 20, 300, n);
    State<F> s(r, n);
    for (int t = 1; t <= 3; t++) {
        State<F> got = on_device(s, true, segments, GO, hyper(t));
        cpu::adamw_update(s.params.data(), s.master.data(), s.grads.data(), s.m.data(), s.v.data(), segments.data(),
                          (int)segments.size(), &GO, n, hyper(t), cpu::stream_t{});
        EXPECT_CLOSE(got.m.data(), s.m.data(), n, tolerance<float>(12));
        EXPECT_CLOSE(got.v.data(), s.v.data(), n, tolerance<float>(12));
        EXPECT_CLOSE(got.master.data(), s.master.data(), n, tolerance<float>(12));
        int wrong = 0;  // the parameters are rounded as the CPU rounds its own
        for (const Segment& segment : segments)
            for (size_t i = segment.offset; i < segment.offset + segment.count && !std::is_same_v<F, float>; i++)
                wrong += got.master[i] == s.master[i] && (float)got.params[i] != (float)s.params[i];
        EXPECT_EQ(wrong, 0);
    }
}

TEST_BOTH(cuda_adamw_skips) {
    Random r(3);
    for (Skip why : {NOT_FINITE, LOSS_SPIKE, NORM_SPIKE}) {
        State<F> s(r, 1000);
        s.grads[500] = std::numeric_limits<float>::quiet_NaN();
        StepStats step_stats = GO;
        step_stats.skip = why;
        for_schedules([&] {
            State<F> got = on_device(s, true, {{0, 700, 1}, {703, 290, 0}}, step_stats, hyper(1));
            EXPECT(same_state(got, s));
            return got.all();
        });
    }
}

// Shards round as the whole does, wherever they are cut.
TEST_BOTH(cuda_adamw_in_pieces) {
    Random r(4);
    const size_t n = 3003;
    State<F> s(r, n);
    const State<F> whole = on_device(s, true, {{0, n, 1}}, GO, hyper(7, 4321));
    for (size_t at = 0, count; at < n; at += count) {
        count = std::min((size_t)r.between(1, 900), n - at);
        State<F> piece(r, 0);
        auto cut = [&](auto& to, const auto& from) { to.assign(from.begin() + (long)at, from.begin() + (long)(at + count)); };
        cut(piece.params, s.params), cut(piece.master, s.master), cut(piece.m, s.m), cut(piece.v, s.v), cut(piece.grads, s.grads);
        State<F> got = on_device(piece, true, {{0, count, 1}}, GO, hyper(7, 4321 + at));
        cut(piece.params, whole.params), cut(piece.master, whole.master), cut(piece.m, whole.m), cut(piece.v, whole.v);
        EXPECT(same_state(got, piece));
    }
}

// With lr = 0 the master weight is unchanged, and the parameter is its rounding. A value is rounded up exactly if its lower 16 bits plus
// the random ones reach 2^16, checked on both sides of that threshold for each of 65536 random numbers, and for all 65536 fractions:
// P(up) = fraction / 2^16.
TEST(cuda_stochastic_rounding) {
    Random r(5);
    const size_t n = 65536;
    AdamW h = hyper(3, 8 * 77);
    h.lr = 0;
    std::vector<uint32_t> upper(n), random(n);
    for (size_t i = 0; i < n; i++) {
        do upper[i] = r.word() & 0xffff0000; while ((upper[i] & 0x7f800000) == 0x7f800000);  // numbers, denormal ones too
        random[i] = rounding_bits(h.seed, h.t, h.first + i);
    }
    enum Fraction { EACH, NONE, UP, JUST_NOT };
    for (Fraction kind : {EACH, NONE, UP, JUST_NOT}) {
        State<bf16> s(r, n);
        s.grads.assign(n, 0), s.m.assign(n, 0), s.v.assign(n, 0);
        for (size_t i = 0; i < n; i++) {
            const uint32_t threshold = 65536 - random[i];  // 65536 where no fraction goes up
            const uint32_t reaches = kind == UP && threshold < 65536 ? threshold : threshold - 1;
            const uint32_t fraction = kind == EACH ? (uint32_t)i : kind == NONE ? 0 : reaches;
            s.master[i] = std::bit_cast<float>(upper[i] | fraction);
        }
        State<bf16> got = on_device(s, true, {{0, n, 1}}, GO, h);
        EXPECT(same_bits(got.master, s.master));
        int wrong = 0;
        for (size_t i = 0; i < n; i++) {
            const bool up = kind == UP && random[i] > 0;
            const uint16_t expected = (uint16_t)((upper[i] >> 16) + up);
            wrong += got.params[i].bits != round_stochastic(s.master[i], random[i]).bits;
            wrong += kind != EACH && got.params[i].bits != expected;
        }
        EXPECT_EQ(wrong, 0);
    }
}

// NaN stays NaN, what overflows is infinite, and what rounds beyond the largest number too.
TEST(cuda_stochastic_rounding_of_special_values) {
    Random r(6);
    const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
    for (size_t n : {64, 5}) {  // eight at a time, and one by one
        State<bf16> s(r, n);
        AdamW h = hyper(1);
        h.lr = 3e38f, h.weight_decay = 0;
        s.m.assign(n, 0), s.v.assign(n, 0), s.grads.assign(n, 1);  // mhat / sqrt(vhat) = 1: p -= 3e38
        const float values[] = {-3.4e38f, nan, std::bit_cast<float>(0xff800001), 1, 1};
        for (size_t i = 0; i < n; i++) s.master[i] = values[i % 5];
        State<bf16> got = on_device(s, true, {{0, n, 0}}, GO, h);
        for (size_t i = 0; i < n; i++) {
            const float p = (float)got.params[i];
            if (i % 5 == 0) EXPECT(p == -infinity && got.master[i] == -infinity);
            else EXPECT(i % 5 <= 2 ? p != p : p <= -2.98e38f && p >= -3.02e38f);
        }
        h.lr = 0;
        const uint32_t largest = 0x7f7fffff;  // up in 65535 of 65536 cases: to infinity
        s.master.assign(n, std::bit_cast<float>(largest));
        got = on_device(s, true, {{0, n, 0}}, GO, h);
        for (size_t i = 0; i < n; i++)
            EXPECT_EQ(got.params[i].bits, round_stochastic(s.master[i], rounding_bits(h.seed, h.t, i)).bits);
    }
}

// One value that is not finite, in whatever an update reads, at any place: it says so.
TEST_BOTH(cuda_adamw_says_what_is_not_finite) {
    Random r(7);
    const Segments segments = {{0, 700, 1}, {703, 290, 0}};
    const auto is_said = [&](State<F> s, bool has_master) {
        OnDevice<F> params(s.params);
        OnDevice<float> master(s.master), m(s.m), v(s.v), grads(s.grads);
        OnDevice<Segment> list(segments);
        OnDevice<StepStats> stats({GO});
        TestStream stream;
        adamw_update(params.data(), has_master ? master.data() : nullptr, grads.data(), m.data(), v.data(), list.data(), (int)segments.size(), stats.data(), s.n(), hyper(3), stream);
        EXPECT_EQ(stats.values()[0].skip, (int)APPLIED);
        return stats.values()[0].not_finite == 1;
    };
    for (bool has_master : both())
        for (size_t i : {0, 5, 699, 700, 703, 992}) {  // in a group of eight, at the ends, and between segments
            const State<F> s(r, 1000);
            State<F> large = s;
            large.m.assign(1000, 3e37f), large.v.assign(1000, 3e38f), large.master.assign(1000, 3e38f);
            EXPECT(!is_said(s, has_master) && !is_said(large, has_master));
            for (float x : {NAN, INFINITY, -INFINITY}) {
                State<F> in_m = s, in_v = s, in_p = s;
                in_m.m[i] = x, in_v.v[i] = x, in_p.master[i] = x, in_p.params[i] = F(x);
                EXPECT(is_said(in_m, has_master) == (i != 700) && is_said(in_v, has_master) == (i != 700) && is_said(in_p, has_master) == (i != 700));
            }
        }
}
