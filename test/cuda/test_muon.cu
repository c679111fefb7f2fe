#include <limits>
#include "../../llmc/cuda/muon.cuh"
#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/muon.h"
}

constexpr float SCALE = 0.7f;
static StepStats GO{.loss = 3, .norm = 1 / 0.7, .z = NAN, .scale = SCALE, .skip = APPLIED};
static Muon hyper(int t = 1) { return {.lr = 0.05f, .momentum = 0.9f, .weight_decay = 0.3f, .t = t, .seed = 99}; }

// So many matrices of one shape, with gaps between them, in buffers in which they lie at other places.
template <class F> struct State {
    size_t n;
    int rows, cols;
    size_t size, at = 0;
    std::vector<MuonMatrix> matrices;
    std::vector<F> params;
    std::vector<float> master, grads, m;
    StepStats stats = GO;
    State(Random& r, size_t count, int rows_, int cols_) : n(count), rows(rows_), cols(cols_), size((size_t)rows_ * (size_t)cols_) {
        for (size_t k = 0; k < n; k++) matrices.push_back({k * (size + 8) + 24, k * (size + 64) + 8, k * (size + 40) + 16, k * (size + 16)});
        const size_t all = n * (size + 64) + 64;
        params = normal_values<F>(r, all), grads = normal_values<float>(r, all, 0.01f), m = normal_values<float>(r, all, 0.003f);
        for (const F& p : params) master.push_back((float)p);
    }
    std::vector<float> all() const {
        std::vector<float> list(master);
        for (F x : params) list.push_back((float)x);
        list.insert(list.end(), m.begin(), m.end());
        return list;
    }
};
template <class F> static State<F> on_device(State<F> s, bool has_master, const Muon& h) {
    OnDevice<F> params(s.params);
    OnDevice<float> master(s.master), m(s.m), grads(s.grads);
    OnDevice<MuonMatrix> list(s.matrices);
    OnDevice<char> scratch(MuonScratch(s.n, s.rows, s.cols).bytes(sizeof(F)));
    OnDevice<StepStats> stats({s.stats});
    TestStream stream;
    muon_update(params.data(), has_master ? master.data() : nullptr, grads.data(), m.data(), list.data(), scratch.data(), stats.data(), s.n, s.rows, s.cols, h, stream);
    scratch.check_margins();
    s.params = params.values(), s.master = master.values(), s.m = m.values(), s.stats = stats.values()[0];
    return s;
}
template <class F> static State<F> on_cpu(State<F> s, bool has_master, const Muon& h) {
    std::vector<double> scratch(MuonScratch(s.n, s.rows, s.cols).bytes(sizeof(F)) / 8 + 8);
    cpu::muon_update(s.params.data(), has_master ? s.master.data() : nullptr, s.grads.data(), s.m.data(), s.matrices.data(), (char*)scratch.data(), &s.stats, s.n, s.rows, s.cols, h, cpu::stream_t{});
    return s;
}
struct Shape { size_t n; int rows, cols; };
static const Shape SHAPES[] = {{1, 8, 8}, {3, 24, 72}, {2, 72, 24}, {2, 8, 200}, {1, 136, 80}};  // beyond a stage of k, and a tile each way

// The CPU's weights: test/cpu/test_muon.cpp says what products in another order are worth, and roundings to bf16 that fall the other way.
TEST_BOTH(cuda_muon_beside_the_cpu) {
    Random r(1);
    for (const Shape& shape : SHAPES)
        for (bool has_master : both()) {
            if (!has_master && !std::is_same_v<F, float>) continue;  // below: a rounded weight hides what moved
            const State<F> s(r, shape.n, shape.rows, shape.cols), expected = on_cpu(s, has_master, hyper());
            for_schedules([&] {
                const State<F> got = on_device(s, has_master, hyper());
                EXPECT_CLOSE(got.m.data(), expected.m.data(), s.m.size(), tolerance<float>(4));
                std::vector<float> moved, should;
                for (const MuonMatrix& at : s.matrices)
                    for (size_t i = 0; i < s.size; i++) {
                        const auto difference = [&](const State<F>& x) { return has_master ? x.master[at.state + i] - s.master[at.state + i] : (float)x.params[at.weight + i] - (float)s.params[at.weight + i]; };
                        moved.push_back(difference(got)), should.push_back(difference(expected));
                    }
                EXPECT_CLOSE(moved.data(), should.data(), moved.size(), (std::is_same_v<F, float>) ? 5e-4 : 0.02);
                // what is in no matrix is as it was
                State<F> outside = got;
                for (const MuonMatrix& at : s.matrices) std::copy_n(&s.params[at.weight], s.size, &outside.params[at.weight]), std::copy_n(&s.master[at.state], s.size, &outside.master[at.state]);
                EXPECT(same_bits(outside.params, s.params) && same_bits(outside.master, s.master));
                return got.all();
            });
        }
}

// A matrix's bits are its own, however many others of its shape there are.
TEST_BOTH(cuda_muon_matrices_are_independent) {
    Random r(2);
    const State<F> s(r, 4, 24, 136), all = on_device(s, true, hyper());
    for (const MuonMatrix& at : s.matrices) {
        State<F> one = s;
        one.n = 1, one.matrices = {at};
        one = on_device(one, true, hyper());
        EXPECT(!memcmp(&one.params[at.weight], &all.params[at.weight], s.size * sizeof(F)) && !memcmp(&one.master[at.state], &all.master[at.state], s.size * sizeof(float)));
    }
}

// The parameter is the master, rounded with the bits that rounding_bits names for its place in the whole model; without a master from where it was.
TEST(cuda_muon_rounds_the_master) {
    Random r(3);
    const State<bf16> s(r, 2, 16, 24), with = on_device(s, true, hyper(5)), without = on_device(s, false, hyper(5));
    for (const MuonMatrix& at : s.matrices)
        for (size_t i = 0; i < s.size; i++) {
            EXPECT_EQ(with.params[at.weight + i].bits, round_stochastic(with.master[at.state + i], rounding_bits(99, 5, at.first + i)).bits);
            EXPECT(std::fabs((float)without.params[at.weight + i] - (float)s.params[at.weight + i]) < 1);
        }
    EXPECT(same_bits(without.master, s.master));
}

TEST_BOTH(cuda_muon_step_guard) {
    Random r(4);
    const State<F> s(r, 2, 16, 24);
    State<F> skipped = s;
    skipped.stats.skip = LOSS_SPIKE;
    EXPECT(same_bits(on_device(skipped, true, hyper()).all(), s.all()));
    EXPECT(!on_device(s, true, hyper()).stats.not_finite);
    for (float bad : {NAN, INFINITY}) {
        State<F> g = s, m = s, w = s;
        g.grads[g.matrices[1].grad + 5] = bad, m.m[m.matrices[1].state + 5] = bad, w.master[w.matrices[0].state + 5] = bad;
        for (const State<F>& x : {g, m, w}) EXPECT(on_device(x, true, hyper()).stats.not_finite);
    }
    State<F> huge = s;
    for (float& g : huge.grads) g *= 1e30f;
    for (float& m : huge.m) m *= 1e30f;
    EXPECT_CLOSE(on_device(huge, true, hyper()).master.data(), on_device(s, true, hyper()).master.data(), s.master.size(), 5e-3);
}
