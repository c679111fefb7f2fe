#include <set>
#include "../../llmc/cuda/embedding.cuh"
#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/embedding.h"
}

static std::vector<int> tokens_between(Random& r, size_t n, int low, int high) {
    std::vector<int> x(n);
    for (int& t : x) t = r.between(low, high);
    return x;
}

// A sum of two, rounded once: bitwise identical to the CPU's.
TEST_BOTH(cuda_embedding_forward) {
    Random r(1);
    struct Shape { int B, T, C, V, Tmax, pos0; };
    for (Shape s : std::vector<Shape>{{1, 1, 8, 1, 1, 0}, {3, 7, 48, 131, 9, 2}, {2, 5, 264, 50, 6, 1}, {1, 9, 520, 3, 9, 0},
                    {5, 1, 768, 17, 8, 7}}) {
        const size_t N = (size_t)s.B * s.T;
        auto inp = tokens_between(r, N, 0, s.V - 1);
        inp[N - 1] = s.V - 1;
        auto wte = normal_values<F>(r, (size_t)s.V * s.C), wpe = normal_values<F>(r, (size_t)s.Tmax * s.C);
        std::vector<F> expected(N * s.C);
        cpu::embedding_forward(expected.data(), inp.data(), wte.data(), wpe.data(), s.B, s.T, s.C, s.pos0, cpu::stream_t{});
        EXPECT(same_bits(expected, for_schedules([&] {
            OnDevice<F> out(N * s.C), w(wte), p(wpe);
            OnDevice<int> tokens(inp);
            TestStream stream;
            embedding_forward(out.data(), tokens.data(), w.data(), p.data(), s.B, s.T, s.C, s.pos0, stream);
            return out.written();
        })));
    }
}

using Floats = std::vector<float>;
struct Gradients { Floats dwte, dwpe; };
struct Batch {
    int B, T, C, V, Tmax;
    std::vector<int> inp;
    size_t N() const { return (size_t)B * T; }
};

template <class F>
static Gradients on_cpu(const Batch& s, const std::vector<F>& dout, const Floats& dwte, const Floats& dwpe, bool accumulate) {
    Gradients g{dwte, dwpe};
    cpu::embedding_backward(g.dwte.data(), g.dwpe.data(), dout.data(), s.inp.data(), s.B, s.T, s.C, s.Tmax, accumulate,
                            cpu::stream_t{});
    return g;
}
// dwpe is not written first where it does not accumulate.
template <class F>
static Gradients on_device(const Batch& s, const std::vector<F>& dout, const Floats& dwte, const Floats& dwpe, bool accumulate) {
    OnDevice<float> te(dwte), pe(dwpe.size());
    OnDevice<F> d(dout);
    OnDevice<int> tokens(s.inp);
    if (accumulate) pe.set(dwpe);
    TestStream stream(embedding_workspace(s.N(), s.C, s.V));
    embedding_backward(te.data(), pe.data(), d.data(), tokens.data(), s.B, s.T, s.C, s.Tmax, accumulate, stream);
    return {te.written(), pe.written()};
}

static std::vector<Batch> batches(Random& r) {
    std::vector<Batch> list{{1, 1, 8, 1, 1, {0}}, {2, 3, 48, 7, 6, {}}, {1, 31, 16, 131, 33, {}}, {4, 8, 264, 5, 8, {}},
                            {7, 13, 40, 131, 15, {}}};
    for (Batch& b : list) b.inp = tokens_between(r, b.N(), 0, b.V - 1);
    Batch one{3, 111, 264, 9, 120, {}};  // one run over 11 slices; two blocks of columns
    one.inp.assign(one.N(), 8);
    list.push_back(one);
    Batch edges{2, 64, 24, 50, 64, {}};  // runs that end and begin where slices do
    for (int n = 0; n < 128; n++) edges.inp.push_back(n < 32 ? 7 : n < 64 ? 9 : n < 95 ? 10 : n < 96 ? 11 : 40);
    std::swap(edges.inp[3], edges.inp[100]), std::swap(edges.inp[33], edges.inp[95]);
    list.push_back(edges);
    Batch frequent{5, 210, 8, 5001, 210, tokens_between(r, 1050, 0, 5000)};  // three tiles; some ids often
    const int often[] = {0, 1, 63, 64, 65, 4096, 5000, 5000, 5000};
    for (int& token : frequent.inp) if (r.between(0, 2)) token = often[r.between(0, 8)];
    list.push_back(frequent);
    return list;
}

// Sums of whole numbers are exact in any order, so results are bitwise identical to the CPU's; sums of random ones too while a batch is one
// slice, for tokens are then added to dwte one by one in their order, as on a CPU.
TEST_BOTH(cuda_embedding_backward_exact) {
    Random r(2);
    for (const Batch& s : batches(r))
        for (bool whole : both()) {
            if (!whole && s.N() > 32) continue;
            auto dout = whole ? small_integers<F>(r, s.N() * s.C) : normal_values<F>(r, s.N() * s.C);
            auto dwte = whole ? small_integers<float>(r, (size_t)s.V * s.C) : normal_values<float>(r, (size_t)s.V * s.C);
            auto dwpe = whole ? small_integers<float>(r, (size_t)s.Tmax * s.C) : normal_values<float>(r, (size_t)s.Tmax * s.C);
            const bool accumulate = !whole;
            const Gradients expected = on_cpu(s, dout, dwte, dwpe, accumulate);
            for_schedules([&] {
                Gradients got = on_device(s, dout, dwte, dwpe, accumulate);
                EXPECT(same_bits(got.dwte, expected.dwte));
                EXPECT(same_bits(got.dwpe, expected.dwpe));
                return got.dwte;
            });
        }
}

// Of k terms of size 1 a sum in fp32 is off by k / sqrt(2) halves of an ulp of 1 as a rule, whatever the order, and its size
// is sqrt(k): with k up to 333 that is 13 half ulps of the sum.
TEST_BOTH(cuda_embedding_backward) {
    Random r(3);
    for (const Batch& s : batches(r)) {
        auto dout = normal_values<F>(r, s.N() * s.C);
        auto dwte = normal_values<float>(r, (size_t)s.V * s.C), dwpe = normal_values<float>(r, (size_t)s.Tmax * s.C);
        auto exact = in_double(dwte);
        for (size_t n = 0; n < s.N(); n++)
            for (int c = 0; c < s.C; c++) exact[(size_t)s.inp[n] * s.C + c] += (double)(float)dout[n * s.C + c];
        const Gradients expected = on_cpu(s, dout, dwte, dwpe, true);
        auto got = for_schedules([&] {
            Gradients g = on_device(s, dout, dwte, dwpe, true);
            EXPECT(same_bits(g.dwpe, expected.dwpe));  // its terms are added in the order of the CPU
            return g.dwte;
        });
        std::vector<float> changed;  // rows of the batch's tokens alone: the others would hide an error
        std::vector<double> changed_exact;
        const std::set<int> tokens(s.inp.begin(), s.inp.end());
        for (size_t i = 0; i < exact.size(); i++)
            if (tokens.contains((int)(i / s.C))) changed.push_back(got[i]), changed_exact.push_back(exact[i]);
            else EXPECT(got[i] == dwte[i]);
        EXPECT_CLOSE(changed.data(), changed_exact.data(), changed.size(), tolerance<float>(13));
    }
}

// More tokens than 4096 slices of 32 hold, and more tiles than a warp scans in one iteration; ids of all 18 bits.
TEST(cuda_embedding_backward_of_many) {
    Random r(4);
    Batch s{4, 33000, 8, 1 << 18, 33000, {}};
    s.inp = tokens_between(r, s.N(), 0, s.V - 1);
    for (size_t n = 0; n < s.N(); n++) if (n % 7) s.inp[n] = s.V - 2 + r.between(0, 1);
    auto dout = small_integers<bf16>(r, s.N() * s.C);
    auto dwte = small_integers<float>(r, (size_t)s.V * s.C), dwpe = small_integers<float>(r, (size_t)s.Tmax * s.C);
    const Gradients expected = on_cpu(s, dout, dwte, dwpe, true), got = on_device(s, dout, dwte, dwpe, true);
    EXPECT(same_bits(got.dwte, expected.dwte));
    EXPECT(same_bits(got.dwpe, expected.dwpe));
}

TEST(cuda_embedding_refuses) {
    OnDevice<float> x(64);
    OnDevice<int> tokens({1});
    TestStream stream(64);
    EXPECT_REFUSED("C = 12", embedding_forward(x.data(), tokens.data(), x.data(), x.data(), 1, 1, 12, 0, stream));
    EXPECT_REFUSED("C = 12", embedding_backward(x.data(), x.data(), x.data(), tokens.data(), 1, 1, 12, 1, false, stream));
    EXPECT_REFUSED("64 bytes of work", embedding_backward(x.data(), x.data(), x.data(), tokens.data(), 1, 1, 8, 1, false, stream));
    EXPECT_REFUSED("V = 262145", embedding_workspace(1, 8, (1 << 18) + 1));
}
