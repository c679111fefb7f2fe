#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/rope.h"
}
#include "../../llmc/cuda/rope.cuh"
#include "../rope_test.h"

namespace {
// A case on the device, and the two functions of it.
template <class F> struct OnGpu {
    const RopeCase<F>& s;
    OnDevice<F> inp, dout, qw, kw;
    OnDevice<float> cos_sin;
    TestStream stream;
    explicit OnGpu(const RopeCase<F>& c) : s(c), inp(c.inp), dout(c.dout), qw(c.qw), kw(c.kw), cos_sin(c.cos_sin), stream(c.weighted ? rope_workspace(c.heads.HS) : 0) {}
    F* q() { return s.weighted ? qw.data() : nullptr; }
    F* k() { return s.weighted ? kw.data() : nullptr; }
    void forward(F* out, const F* x) { rope_forward(out, x, q(), k(), cos_sin.data(), s.B, s.T, s.pos, s.heads, s.eps, stream); }
    void backward(F* dinp, float* dq, float* dk, const F* d, bool accumulate) {
        rope_backward(dinp, s.weighted ? dq : nullptr, s.weighted ? dk : nullptr, d, s.normed ? inp.data() : nullptr, q(), k(), cos_sin.data(), s.B, s.T, s.heads, s.eps, accumulate, stream);
    }
};
// On a CPU fewer schedules for the large ones, and those of bf16 whose lanes are all in use beside them.
std::vector<RopeSize> sizes() {
    std::vector<RopeSize> all = rope_sizes();
    all.push_back({1, 2, 0, {2, 1, 256}}), all.push_back({1, 3, 0, {1, 1, 48}}), all.push_back({1, 2, 0, {1, 1, 248}});
    return all;
}
}  // namespace

TEST_BOTH(cuda_rope_forward) {
    Random r(1);
    for (const RopeSize& size : sizes())
        for (int norm : {0, 1, 2}) {
            const RopeCase<F> s(r, size, norm);
            s.check_forward(for_schedules([&] {
                OnGpu<F> gpu(s);
                OnDevice<F> out(s.inp.size());
                gpu.forward(out.data(), gpu.inp.data());
                const std::vector<F> y = out.written();
                gpu.forward(gpu.inp.data(), gpu.inp.data());
                EXPECT(same_bits(gpu.inp.written(), y));
                return y;
            }));
        }
}

TEST_BOTH(cuda_rope_backward) {
    Random r(2);
    for (const RopeSize& size : sizes())
        for (int norm : {0, 1, 2})
            for (bool accumulate : both()) {
                if (size.T > 300 && !accumulate) continue;  // long, and only the size is new
                const RopeCase<F> s(r, size, norm);
                std::vector<F> dx;
                const std::vector<float> dw = for_schedules([&] {
                    OnGpu<F> gpu(s);
                    OnDevice<F> dinp(s.inp.size());
                    OnDevice<float> dq(s.dqw.size()), dk(s.dkw.size()), dq2(s.dqw), dk2(s.dkw);
                    if (accumulate) dq.set(s.dqw), dk.set(s.dkw);
                    gpu.backward(dinp.data(), dq.data(), dk.data(), gpu.dout.data(), accumulate);
                    dx = dinp.written();
                    std::vector<float> both = norm == 1 ? dq.written() : dq.values(), k = norm == 1 ? dk.written() : dk.values();
                    gpu.backward(gpu.dout.data(), dq2.data(), dk2.data(), gpu.dout.data(), accumulate);
                    EXPECT(same_bits(gpu.dout.written(), dx));
                    if (norm == 1) EXPECT(same_bits(dq2.values(), both) && same_bits(dk2.values(), k));
                    both.insert(both.end(), k.begin(), k.end());
                    return both;
                });
                const long HS = size.heads.HS;
                s.check_backward(dx, std::vector<float>(dw.begin(), dw.begin() + HS), std::vector<float>(dw.begin() + HS, dw.end()), accumulate);
            }
}

// More heads than all blocks take at once, of both kinds, beside the CPU's gradients. Sums of 4100 terms of the size of 1 in two orders, and dx as there.
TEST(cuda_rope_backward_many_tokens) {
    Random r(3);
    const RopeCase<float> s(r, {2, 2050, 0, {1, 1, 248}}, true);
    OnGpu<float> gpu(s);
    OnDevice<float> dinp(s.inp.size()), dq(248), dk(248);
    gpu.backward(dinp.data(), dq.data(), dk.data(), gpu.dout.data(), false);
    std::vector<float> dx(s.inp.size()), q(248), k(248);
    cpu::rope_backward(dx.data(), q.data(), k.data(), s.dout.data(), s.inp.data(), s.qw.data(), s.kw.data(), s.cos_sin.data(), s.B, s.T, s.heads, s.eps, false, {});
    EXPECT_CLOSE(dinp.written().data(), dx.data(), dx.size(), 8 * (s.roundings() + 5) * 0x1p-24);
    const double bound = (2 * 4100 + s.roundings()) * 0x1p-24 * std::sqrt(4100.0) * std::sqrt(248.0);  // sums of random signs grow as the root
    EXPECT_NEAR(dq.written().data(), q.data(), 248, bound);
    EXPECT_NEAR(dk.written().data(), k.data(), 248, bound);
}

// A quarter turn and none, without a norm: exact, and the CPU's bits.
TEST(cuda_rope_by_hand) {
    std::vector<float> x(24), cos_sin, y(24);
    for (int i = 0; i < 24; i++) x[(size_t)i] = (float)(i * i + 1);
    for (int i = 0; i < 8; i++) cos_sin.push_back((float)(i < 4 ? i % 2 : 1 - i % 2));
    cpu::rope_forward(y.data(), x.data(), (const float*)nullptr, (const float*)nullptr, cos_sin.data(), 1, 1, 0, Heads{1, 1, 8}, 0, {});
    OnDevice<float> inp(x), angles(cos_sin), out(24);
    TestStream stream;
    rope_forward(out.data(), inp.data(), (const float*)nullptr, (const float*)nullptr, angles.data(), 1, 1, 0, Heads{1, 1, 8}, 0, stream);
    EXPECT(same_bits(out.written(), y));
    EXPECT_EQ(y[0], -x[4]);
    rope_backward(out.data(), (float*)nullptr, (float*)nullptr, out.data(), (const float*)nullptr, (const float*)nullptr, (const float*)nullptr, angles.data(), 1, 1, Heads{1, 1, 8}, 0, false, stream);
    EXPECT(same_bits(out.written(), x));
}

TEST(cuda_rope_refuses) {
    TestStream stream;
    const float x[8] = {};
    EXPECT_REFUSED("multiple of 8", rope_forward<float>(nullptr, nullptr, nullptr, nullptr, nullptr, 1, 1, 0, Heads{1, 1, 12}, 0, stream));
    EXPECT_REFUSED("up to 256", rope_forward<float>(nullptr, nullptr, nullptr, nullptr, nullptr, 1, 1, 0, Heads{1, 1, 264}, 0, stream));
    EXPECT_REFUSED("bytes of workspace", rope_backward<float>(nullptr, nullptr, nullptr, nullptr, x, x, x, x, 1, 1, Heads{1, 1, 8}, 1e-5f, false, stream));
    EXPECT_REFUSED("but no norm", rope_forward<float>(nullptr, nullptr, x, x, nullptr, 1, 1, 0, Heads{1, 1, 8}, 0, stream));
}
