#include "../../llmc/cpu/rope.h"
#include "../rope_test.h"

template <class F> static void forward(const RopeCase<F>& s, F* out, const F* inp) {
    rope_forward(out, inp, s.weighted ? s.qw.data() : nullptr, s.weighted ? s.kw.data() : nullptr, s.cos_sin.data(), s.B, s.T, s.pos, s.heads, s.eps, stream_t{});
}
template <class F> static void backward(const RopeCase<F>& s, F* dinp, float* dq, float* dk, const F* dout, bool accumulate) {
    rope_backward(dinp, s.weighted ? dq : nullptr, s.weighted ? dk : nullptr, dout, s.normed ? s.inp.data() : nullptr, s.weighted ? s.qw.data() : nullptr, s.weighted ? s.kw.data() : nullptr,
                  s.cos_sin.data(), s.B, s.T, s.heads, s.eps, accumulate, stream_t{});
}

// q cos + rotate_half(q) sin with rotate_half((a, b)) = (-b, a), halves a and b of a head, is what the weights of Llama and Qwen are made for.
TEST(rope_by_hand) {
    const std::vector<float> x = {1, 2, 3, 4, 10, 20, 30, 40, 5, 6, 7, 8}, quarter_turn_and_none = {0, 1, 1, 0};
    std::vector<float> y(12);
    rope_forward(y.data(), x.data(), (const float*)nullptr, (const float*)nullptr, quarter_turn_and_none.data(), 1, 1, 0, Heads{1, 1, 4}, 0, stream_t{});
    EXPECT(same_bits(y, {-3, 2, 1, 4, -30, 20, 10, 40, 5, 6, 7, 8}));
}

TEST_BOTH(rope_forward) {
    Random r(1);
    for (const RopeSize& size : rope_sizes())
        for (int norm : {0, 1, 2}) {
            RopeCase<F> s(r, size, norm);
            Guarded<F> out(s.inp.size()), in_place(s.inp);
            forward(s, out.data(), s.inp.data());
            EXPECT_WHOLE(out);
            s.check_forward(out.values());
            forward(s, in_place.data(), in_place.data());
            EXPECT(same_bits(in_place.all, out.all));
        }
}

TEST_BOTH(rope_backward_is_the_derivative) {
    Random r(2);
    for (const RopeSize& size : rope_sizes())
        for (int norm : {0, 1, 2})
            for (bool accumulate : {false, true}) {
                RopeCase<F> s(r, size, norm);
                Guarded<F> dx(s.dout.size()), in_place(s.dout);
                Guarded<float> dq(s.qw.size()), dk(s.kw.size()), dq2(s.dqw), dk2(s.dkw);
                if (accumulate) dq = Guarded<float>(s.dqw), dk = Guarded<float>(s.dkw);
                backward(s, dx.data(), dq.data(), dk.data(), s.dout.data(), accumulate);
                EXPECT_WHOLE(dx);
                EXPECT(dq.untouched() && dk.untouched() && (norm == 1 || accumulate || Guarded<float>::poisoned(dq[0])));
                s.check_backward(dx.values(), dq.values(), dk.values(), accumulate);
                backward(s, in_place.data(), dq2.data(), dk2.data(), in_place.data(), accumulate);
                EXPECT(same_bits(in_place.all, dx.all));
                if (norm == 1) EXPECT(same_bits(dq2.all, dq.all) && same_bits(dk2.all, dk.all));
            }
}

TEST_BOTH(rope_for_any_threads) {
    Random r(3);
    RopeCase<F> s(r, {2, 600, 4, {3, 1, 24}}, true);
    EXPECT(same_bits_for_any_threads([&] {
        std::vector<F> out(s.inp.size()), dx(s.inp.size());
        std::vector<float> all(2 * s.qw.size());
        forward(s, out.data(), s.inp.data());
        backward(s, dx.data(), all.data(), all.data() + s.qw.size(), s.dout.data(), false);
        for (size_t i = 0; i < out.size(); i++) all.push_back((float)out[i]), all.push_back((float)dx[i]);
        return all;
    }));
}

// A whole head of zeros has no direction: it stays zero, and its gradient is finite. NaN reaches its own head alone.
TEST_BOTH(rope_of_zero_and_nan) {
    Random r(4);
    RopeCase<F> s(r, {1, 1, 0, {2, 1, 24}}, true);
    s.eps = 1e-6f;
    for (int i = 0; i < 24; i++) s.inp[(size_t)i] = F(0.0f);
    s.inp[30] = F(NAN);
    std::vector<F> out(s.inp.size()), dx(s.inp.size());
    std::vector<float> dq(24), dk(24);
    forward(s, out.data(), s.inp.data());
    backward(s, dx.data(), dq.data(), dk.data(), s.dout.data(), false);
    for (size_t i = 0; i < out.size(); i++) {
        EXPECT_EQ(std::isnan((float)out[i]), i / 24 == 1);
        EXPECT_EQ(std::isnan((float)dx[i]), i / 24 == 1);
        if (i < 24) EXPECT_EQ((float)out[i], 0.0f);
    }
    for (size_t i = 0; i < 24; i++) EXPECT(std::isnan(dq[i]) && !std::isnan(dk[i]));
}

TEST(rope_refuses) {
    EXPECT_DIES("but no norm", float x[12] = {}; rope_forward(x, x, x, x, x, 1, 1, 0, Heads{1, 1, 4}, 0, stream_t{}));
    EXPECT_DIES("must be even", float x[9] = {}; rope_forward(x, x, (const float*)nullptr, (const float*)nullptr, x, 1, 1, 0, Heads{1, 1, 3}, 0, stream_t{}));
}
