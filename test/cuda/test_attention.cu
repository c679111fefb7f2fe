// Attention against its definition in double, and against the CPU backend.
#include <limits>
#include "attention_test.h"
namespace cpu {
#include "../../llmc/cpu/attention.h"
}

namespace {
// One after the other on the device: out, lse, dqkv.
template <class F> Results<F> run(const Case& c, const std::vector<F>& qkv, const std::vector<F>& dout) {
    TestStream stream;
    OnDevice<F> out(c.tokens() * c.C()), dqkv(dout.empty() ? 0 : qkv.size()), dqkv_in(qkv), ddout(dout);
    OnDevice<float> lse(c.tokens() * c.NH), scratch(attention_scratch(c.B, c.T, c.heads()));
    OnDevice<int> starts(c.starts);
    const int* given = c.starts.empty() ? nullptr : starts.data();
    attention_detail::forward(out.data(), lse.data(), dqkv_in.data(), given, c, stream);
    if (!dout.empty())
        attention_detail::backward(dqkv.data(), ddout.data(), out.data(), lse.data(), dqkv_in.data(), given, scratch.data(), c, stream);
    scratch.values();  // looks at the margins
    return {out.written(), dqkv.written(), lse.written()};
}

// Documents of random lengths: of one token, of many tiles, one a row.
Ints random_starts(Random& r, int B, int T) {
    Ints starts;
    const int longest = r.between(1, 2 * T);
    for (int b = 0; b < B; b++)
        for (int t = 0, start = 0, next = r.between(1, longest); t < T; t++) {
            if (t == next) start = t, next += r.between(1, longest);
            starts.push_back(start);
        }
    return starts;
}
// Of the last W tokens those of the document.
Ints windows(const Ints& documents, int B, int T, int W) {
    Ints starts;
    for (int i = 0; i < B * T; i++) starts.push_back(std::max(documents.empty() ? 0 : documents[(size_t)i], i % T - (W - 1)));
    return starts;
}
template <class F> void check_case(Random& r, Case c) {
    set_schedule(c.T + c.HS);
    auto qkv = normal_values<F>(r, c.tokens() * c.width()), dout = normal_values<F>(r, c.tokens() * c.C());
    expect_right(c, qkv, dout, run(c, qkv, dout));
}
}  // namespace
namespace attention_kernels {  // a name that the linker keeps: make test-ptx finds nvcc's code of a kernel by it
// Where a tile has its chunks, in units of 16 bytes; one thread a row.
template <class F, int D> __global__ void chunks_kernel(int* places) {  // (blockDim, chunks)
    pdl_wait();
    const Tile<F, D> tile{(F*)dynamic_shared()};
    const int row = (int)threadIdx.x;
    for (int c = 0; c < tile.CHUNKS; c++) places[row * tile.CHUNKS + c] = (int)(tile.chunk(row, c) - tile.at) / tile.PER_CHUNK;
}
}  // namespace attention_kernels
namespace {
using namespace attention_kernels;
template <class F, int D> void expect_no_conflict() {
    constexpr int ROWS = 32, CHUNKS = Tile<F, D>::CHUNKS;
    TestStream stream;
    OnDevice<int> device(ROWS * CHUNKS);
    launch(chunks_kernel<F, D>, Grid{1, ROWS, 16}, stream, device.data());
    const auto places = device.written();
    std::vector<int> times(places.size());
    for (int place : places) times[(size_t)place]++;
    for (int n : times) EXPECT_EQ(n, 1);  // every chunk has a place of its own
    for (int row = 0; row < ROWS; row += 8)
        for (int c = 0; c < CHUNKS; c++) {  // the same chunk of eight rows: the eight groups of four banks, each once
            unsigned groups = 0;
            for (int r = row; r < row + 8; r++) groups |= 1u << places[(size_t)(r * CHUNKS + c)] % 8;
            EXPECT_EQ(groups, 0xffu);
        }
}
}  // namespace

TEST(tiles_are_read_without_bank_conflicts) {
    expect_no_conflict<bf16, 64>(), expect_no_conflict<bf16, 128>(), expect_no_conflict<bf16, 256>();
    expect_no_conflict<float, 64>(), expect_no_conflict<float, 128>(), expect_no_conflict<float, 256>();
}

TEST_BOTH(attention_of_every_size) {
    Random r(1);
    for (int HS : {8, 16, 40, 64, 72, 128, 136, 256})
        for (int T : {1, 7, 65}) check_case<F>(r, {{T < 65 ? 2 : 1, T, T < 65 ? 3 : 1, T < 65 ? 3 : 1, HS}, {}});
    for (int T : {16, 32, 64, 128, 129}) check_case<F>(r, {{1, T, 1, 1, 64}, {}});
    check_case<F>(r, {{1, 130, 1, 1, 128}, {}});
    check_case<F>(r, {{1, 131, 1, 1, 256}, {}});
    check_case<F>(r, {{1, 270, 1, 1, 8}, {}});
}

TEST_BOTH(attention_within_documents) {
    Random r(2);
    for (int HS : {8, 64, 128, 256})
        for (int i = 0; i < 4; i++) {
            const int T = i == 3 ? 150 : r.between(2, 90), B = i == 3 ? 1 : 2;
            check_case<F>(r, {{B, T, 1, 1, HS}, random_starts(r, B, T)});
        }
    Case c{{1, 200, 1, 1, 16}, Ints(200)};  // document starts in front of, at and behind tile boundaries
    for (int at : {63, 64, 65, 127, 128, 129, 192}) for (int t = at; t < 200; t++) c.starts[t] = at;
    check_case<F>(r, c);
}

// Windows of one token, of tiles (8, 16, 32, 64 keys or queries) with one more or less, of all and more; and within documents.
TEST_BOTH(attention_in_windows) {
    Random r(12);
    for (int W : {1, 2, 31, 33, 64, 65, 100, 170, 200}) check_case<F>(r, {{1, 170, 1, 1, 64}, windows({}, 1, 170, W)});
    for (int HS : {8, 128, 256})
        for (int W : {1, 9, 40}) check_case<F>(r, {{2, 75, 2, 1, HS}, windows(W == 9 ? random_starts(r, 2, 75) : Ints(), 2, 75, W)});
}

// Grouped queries are query heads that each have a copy of their group's keys and values: out, lse and dq in the same bits. dk and dv are the copies'
// added up: of those each is rounded when it is stored, here only the sum, and in fp32 it is another order.
TEST_BOTH(attention_of_grouped_queries) {
    Random r(3);
    for (AttentionShape shape : std::vector<AttentionShape>{{2, 9, 4, 2, 16}, {1, 40, 4, 2, 136}, {1, 70, 3, 1, 64}, {2, 33, 6, 3, 128}, {1, 65, 9, 3, 24}, {2, 7, 6, 2, 8},
                                                            {1, 1, 9, 3, 64}, {1, 130, 2, 1, 64}}) {
        const Case c{shape, shape.T % 4 ? Ints() : random_starts(r, shape.B, shape.T)}, copies{{c.B, c.T, c.NH, c.NH, c.HS}, c.starts};
        const auto qkv = normal_values<F>(r, c.tokens() * c.width()), dout = normal_values<F>(r, c.tokens() * c.C());
        std::vector<F> repeated(c.tokens() * copies.width());
        const auto each = [&](auto body) { for (size_t t = 0; t < c.tokens(); t++) for (int h = 0; h < c.NH; h++) for (int i = 0; i < c.HS; i++) body(t, h, i); };
        each([&](size_t t, int h, int i) {
            repeated[copies.q(t, h) + i] = qkv[c.q(t, h) + i], repeated[copies.k(t, h) + i] = qkv[c.k(t, h) + i], repeated[copies.v(t, h) + i] = qkv[c.v(t, h) + i];
        });
        set_schedule(c.T + c.HS);
        const Results<F> y = run(c, qkv, dout), z = run(copies, repeated, dout);
        expect_right(c, qkv, dout, y);
        EXPECT(same_bits(y.out, z.out) && same_bits(y.lse, z.lse));
        Doubles sum(qkv.size()), magnitude(qkv.size());
        bool same_dq = true;
        each([&](size_t t, int h, int i) {
            const auto add = [&](size_t at, F x) { sum[at] += (float)x, magnitude[at] += std::fabs((float)x); };
            same_dq &= !memcmp((void*)&y.dqkv[c.q(t, h) + i], (void*)&z.dqkv[copies.q(t, h) + i], sizeof(F));
            add(c.q(t, h) + i, z.dqkv[copies.q(t, h) + i]), add(c.k(t, h) + i, z.dqkv[copies.k(t, h) + i]), add(c.v(t, h) + i, z.dqkv[copies.v(t, h) + i]);
        });
        EXPECT(same_dq);
        // P and dS are the same; sums of group * T < 400 terms in another order are off by some 20 * 2^-24 of what they would be were no term negative
        const Doubles terms = attention_oracle(c, in_double(qkv), in_double(dout), in_double(y.out)).d_size;
        EXPECT_NEAR(y.dqkv.data(), sum.data(), sum.size(), half_ulp<F>() * (norm(sum) + norm(magnitude)) + ROUNDINGS * 0x1p-24 * norm(terms));
    }
}

// Bitwise identical for any order of threads and blocks; the sizes cross tile boundaries of queries and of keys.
TEST_BOTH(attention_is_deterministic) {
    Random r(4);
    for (Case c : std::vector<Case>{{{1, 130, 2, 1, 64}, {}}, {{2, 37, 1, 1, 128}, random_starts(r, 2, 37)}}) {
        auto qkv = normal_values<F>(r, c.tokens() * c.width()), dout = normal_values<F>(r, c.tokens() * c.C());
        Results<F> y;
        for_schedules([&] { return (y = run(c, qkv, dout)).all(); });
        expect_right(c, qkv, dout, y);
    }
}

// Scores of up to 4 times those of the others, and growing along the keys: maxima are left behind, and sums scaled, again and again.
TEST_BOTH(attention_of_growing_scores) {
    Random r(11);
    for (int HS : {32, 64, 128, 256}) {
        Case c{{1, 140, 1, 1, HS}, {}};
        auto qkv = normal_values<F>(r, c.tokens() * c.width()), dout = normal_values<F>(r, c.tokens() * c.C());
        for (size_t t = 0; t < c.tokens(); t++)
            for (int i = 0; i < HS; i++) qkv[c.k(t, 0) + i] = F((float)qkv[c.k(t, 0) + i] * 4 * (float)(t + 1) / (float)c.T);
        expect_right(c, qkv, dout, run(c, qkv, dout), 4);
    }
}

// Tokens after t, the rest of the batch and other documents do not reach the result of t in any bit; nor does T.
TEST_BOTH(attention_sees_no_future_and_no_neighbour) {
    Random r(5);
    for (int HS : {24, 64, 128, 256}) {
        Case c{{2, 139, 1, 1, HS}, {}};
        auto qkv = normal_values<F>(r, c.tokens() * c.width()), other = qkv;
        const Results<F> y = run(c, qkv, std::vector<F>());
        const int t = HS == 64 ? 63 : r.between(0, c.T - 1);
        for (size_t n = (size_t)t + 1; n < c.tokens(); n++)
            for (size_t i = 0; i < c.width(); i++) other[n * c.width() + i] = F(1000 * r.normal());
        const Results<F> z = run(c, other, std::vector<F>());
        EXPECT(!memcmp((void*)y.out.data(), (void*)z.out.data(), (size_t)(t + 1) * c.C() * sizeof(F)));
        EXPECT(!memcmp(y.lse.data(), z.lse.data(), (size_t)(t + 1) * sizeof(float)));
        // the row alone, and no longer than t, is bitwise identical too
        const Case shorter{{1, t + 1, 1, 1, HS}, {}};
        const Results<F> s = run(shorter, std::vector<F>(qkv.begin(), qkv.begin() + (long)(shorter.tokens() * c.width())), std::vector<F>());
        EXPECT(!memcmp((void*)y.out.data(), (void*)s.out.data(), s.out.size() * sizeof(F)));
        // a document alone, at the same positions
        Case documents{{1, 139, 1, 1, HS}, Ints(139)};
        for (int u = 50; u < 139; u++) documents.starts[u] = u < 101 ? 50 : 101;
        std::vector<F> first(qkv.begin(), qkv.begin() + (long)(documents.tokens() * c.width())), second = first;
        for (size_t n = 0; n < documents.tokens(); n++)
            if (n < 50 || n > 100) for (size_t i = 0; i < c.width(); i++) second[n * c.width() + i] = F(1000 * r.normal());
        const Results<F> a = run(documents, first, std::vector<F>()), b = run(documents, second, std::vector<F>());
        EXPECT(!memcmp((void*)&a.out[50 * c.C()], (void*)&b.out[50 * c.C()], 51 * c.C() * sizeof(F)));
        EXPECT(!memcmp(&a.lse[50], &b.lse[50], 51 * sizeof(float)));
    }
}

// With q of zeros all weights of t are 1 / (t + 1): out is a mean of small integers, of which nothing is rounded before it is stored
// where t + 1 is a power of 2. dk is zero, as ds is multiplied by q.
TEST_BOTH(attention_of_equal_weights_is_exact) {
    Random r(6);
    for (int HS : {16, 64, 128, 256}) {
        Case c{{1, 128, 1, 1, HS}, {}};
        auto qkv = small_integers<F>(r, c.tokens() * c.width()), dout = small_integers<F>(r, c.tokens() * c.C());
        for (size_t t = 0; t < c.tokens(); t++)
            for (int i = 0; i < HS; i++)
                qkv[c.q(t, 0) + i] = F(0.0f);
        const Results<F> y = run(c, qkv, dout);
        const Oracle exact = attention_oracle(c, in_double(qkv), in_double(dout), in_double(y.out));
        for (int t = 0; t < c.T; t = 2 * t + 1)
            for (int i = 0; i < HS; i++) EXPECT_EQ((float)y.out[t * c.C() + i], (float)F((float)exact.out[t * c.C() + i]));
        for (int t = 0; t < c.T; t++)
            for (int i = 0; i < HS; i++) EXPECT_EQ((float)y.dqkv[c.k(t, 0) + i], 0.0f);
    }
}

// Scores of hundreds do not overflow; a NaN anywhere in what a query sees reaches it, so that the loss shows it.
TEST_BOTH(attention_survives_large_scores_and_passes_nan_on) {
    Random r(7);
    Case c{{1, 70, 1, 1, 16}, {}};
    auto qkv = normal_values<F>(r, c.tokens() * c.width(), 30), dout = normal_values<F>(r, c.tokens() * c.C());
    const Results<F> y = run(c, qkv, dout);
    for (F e : y.all()) EXPECT(std::isfinite((float)e));
    // scores of s = 30^2 sqrt(HS) = 3600 times a few are off by s * 2^-24 * (a few), and weights by that of themselves
    const Oracle exact = attention_oracle(c, in_double(qkv));
    const double bound = (2 * half_ulp<F>() + 16 * 3600 * 0x1p-24) * norm(exact.out_size);
    EXPECT_NEAR(y.out.data(), exact.out.data(), y.out.size(), bound);
    for (int part = 0; part < 3; part++) {
        auto bad = qkv;
        bad[(size_t)(40 * 3 + part) * 16 + 5] = F(std::numeric_limits<float>::quiet_NaN());
        EXPECT(std::isnan((float)run(c, bad, std::vector<F>()).out[40 * 16 + 5]));
    }
    // All scores of the last query are -128: e^-lse alone would be infinite, and there are rows of padding behind that query in its tile.
    Case low{{1, 70, 1, 1, 64}, {}};
    auto far = normal_values<F>(r, low.tokens() * low.width());
    for (int i = 0; i < 64; i++) {
        for (int t = 0; t < 70; t++) far[(size_t)(t * 3 + 1) * 64 + i] = F(4);
        far[(size_t)69 * 3 * 64 + i] = F(-4);
    }
    for (F e : run(low, far, normal_values<F>(r, low.tokens() * low.C())).dqkv) EXPECT(std::isfinite((float)e));
}

// The CPU backend computes the same; both are off by no more than the bound of each.
TEST_BOTH(attention_of_both_backends) {
    Random r(8);
    const int B = 2, T = 75;
    for (const Heads& heads : std::vector<Heads>{{4, 4, 24}, {4, 2, 24}, {3, 1, 64}}) {
        Case c{{B, T, heads.NH, heads.NKV, heads.HS}, random_starts(r, B, T)};
        auto qkv = normal_values<F>(r, c.tokens() * c.width()), dout = normal_values<F>(r, c.tokens() * c.C());
        std::vector<F> out(c.tokens() * c.C()), d(qkv.size());
        std::vector<float> lse(c.tokens() * c.NH), scratch(cpu::attention_scratch(B, T, heads));
        cpu::attention_forward(out.data(), lse.data(), qkv.data(), c.starts.data(), B, T, heads, cpu::stream_t{});
        cpu::attention_backward(d.data(), dout.data(), out.data(), lse.data(), qkv.data(), c.starts.data(), scratch.data(), B, T, heads,
                                cpu::stream_t{});
        TestStream stream;
        OnDevice<F> x(qkv), dy(dout), y(out.size()), dx(d.size());
        OnDevice<float> l(lse.size()), dots(attention_scratch(B, T, heads));
        OnDevice<int> starts(c.starts);
        attention_forward(y.data(), l.data(), x.data(), starts.data(), B, T, heads, stream);
        attention_backward(dx.data(), dy.data(), y.data(), l.data(), x.data(), starts.data(), dots.data(), B, T, heads, stream);
        const double tolerance = std::is_same_v<F, float> ? 4 * ROUNDINGS * 0x1p-24 : 4 * 0x1p-8;
        EXPECT_CLOSE(y.written().data(), in_double(out).data(), out.size(), tolerance);
        EXPECT_CLOSE(l.written().data(), in_double(lse).data(), lse.size(), ROUNDINGS * 0x1p-24);
        EXPECT_CLOSE(dx.written().data(), in_double(d).data(), d.size(), tolerance);
    }
}

TEST(starts_of_windows) {
    Random r(13);
    for (int T : {1, 7, 130})
        for (int W : {1, 5, 64, 129, 130, 500}) {
            const Ints documents = W % 2 ? random_starts(r, 3, T) : Ints();
            TestStream stream;
            OnDevice<int> y((size_t)3 * T), of(documents);
            window_starts(y.data(), documents.empty() ? nullptr : of.data(), W, 3, T, stream);
            EXPECT(same_bits(y.written(), windows(documents, 3, T, W)));
        }
}

TEST(starts_of_documents) {
    Random r(9);
    for (int T : {1, 6, 31, 32, 33, 100, 257}) {
        const int B = 3;
        std::vector<int> tokens((size_t)B * T), expected(tokens.size());
        for (int& token : tokens) token = r.between(0, T < 50 ? 4 : 40);
        cpu::document_starts(expected.data(), tokens.data(), 2, B, T, cpu::stream_t{});
        const auto starts = for_schedules([&] {
            TestStream stream;
            OnDevice<int> y(tokens.size()), x(tokens);
            document_starts(y.data(), x.data(), 2, B, T, stream);
            return y.written();
        });
        EXPECT(same_bits(starts, expected));
    }
}

// Fed in pieces of any size: the bits do not depend on the pieces, and are the forward's but for roundings.
TEST_BOTH(attention_cached) {
    Random r(10);
    for (AttentionShape shape : std::vector<AttentionShape>{{1, 67, 1, 1, 16}, {1, 5, 2, 2, 64}, {1, 6, 4, 2, 72}, {1, 7, 9, 3, 24}, {1, 9, 1, 1, 256}, {1, 1, 1, 1, 128}, {1, 139, 1, 1, 8}})
    for (int W : shape.T == 139 ? std::vector<int>{66} : shape.T == 67 ? std::vector<int>{0, 1, 9} : std::vector<int>{0, 4}) {
        const Case c{shape, windows({}, 1, shape.T, W ? W : shape.T)};
        auto qkv = normal_values<F>(r, c.tokens() * c.width());
        const size_t KC = (size_t)c.NKV * c.HS;
        std::vector<F> once;
        for (int way = 0; way < 3; way++) {  // all at once, one by one, and as it comes
            TestStream stream;
            OnDevice<F> out(c.tokens() * c.C()), kcache(c.tokens() * KC), vcache(c.tokens() * KC), x(qkv);
            for (int pos = 0, n; pos < c.T; pos += n) {
                n = std::min(c.T - pos, way == 0 ? c.T : way == 1 ? 1 : r.between(1, 9));
                attention_cached(out.data() + (size_t)pos * c.C(), kcache.data(), vcache.data(), x.data() + (size_t)pos * c.width(), n, pos, W, c.heads(), stream);
            }
            const auto y = out.written(), k = kcache.written(), v = vcache.written();
            for (size_t t = 0; t < c.tokens(); t++) {
                EXPECT(!memcmp((void*)&k[t * KC], (void*)&qkv[c.k(t, 0)], KC * sizeof(F)));
                EXPECT(!memcmp((void*)&v[t * KC], (void*)&qkv[c.v(t, 0)], KC * sizeof(F)));
            }
            if (way == 0) once = y;
            EXPECT(same_bits(y, once));
        }
        const Oracle exact = attention_oracle(c, in_double(qkv));  // in fp32 throughout: bf16 only as it is stored
        EXPECT_NEAR(once.data(), exact.out.data(), once.size(), half_ulp<F>() * norm(exact.out) + ROUNDINGS * 0x1p-24 * norm(exact.out_size));
    }
}

TEST(attention_says_no_to_heads_that_do_not_fit) {
    TestStream stream;
    OnDevice<float> x(100);
    EXPECT_REFUSED("3 heads do not divide among 2 of keys", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, {3, 2, 8}, stream));
    EXPECT_REFUSED("head size 264", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, {1, 1, 264}, stream));
    EXPECT_REFUSED("head size 12", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, {2, 2, 12}, stream));
}

// An lse that is not finite is not taken for a row without weight: dq of that row, and what it adds to dk, are NaN.
TEST_BOTH(cuda_attention_backward_passes_on_a_lse_that_is_not_finite) {
    Random r(9);
    const int T = 70, C = 64;
    const auto qkv = normal_values<F>(r, (size_t)T * 3 * C), dout = normal_values<F>(r, (size_t)T * C);
    TestStream stream;
    OnDevice<F> out((size_t)T * C), dqkv((size_t)T * 3 * C), inp(qkv), ddout(dout);
    OnDevice<float> lse((size_t)T), scratch(attention_scratch(1, T, {1, 1, C}));
    const AttentionShape shape = attention_detail::shape_of(1, T, {1, 1, C});
    attention_detail::forward(out.data(), lse.data(), inp.data(), nullptr, shape, stream);
    const std::vector<float> right = lse.values();
    for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> with = right;
        with[41] = bad;
        lse.set(with);
        attention_detail::backward(dqkv.data(), ddout.data(), out.data(), lse.data(), inp.data(), nullptr, scratch.data(), shape, stream);
        const std::vector<F> got = dqkv.values();
        EXPECT(std::isnan((float)got[41 * 3 * C]) && std::isnan((float)got[40 * 3 * C + C]) && std::isfinite((float)got[40 * 3 * C]));
    }
}
