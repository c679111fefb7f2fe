// Attention against its definition in double, and against the CPU backend.
#include <limits>
#include "../../llmc/cuda/attention.cuh"
#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/attention.h"
}

namespace {
using Doubles = std::vector<double>;
using Ints = std::vector<int>;
using attention_detail::AttentionShape;

struct Case : AttentionShape {
    Ints starts;  // of documents; none: all of a row is one
    size_t tokens() const { return (size_t)B * T; }
    size_t C() const { return (size_t)NH * HS; }
    size_t q(size_t token, int h) const { return token * width() + (size_t)h * HS; }
    size_t k(size_t token, int h) const { return q(token, NH + h / group()); }
    size_t v(size_t token, int h) const { return q(token, NH + NKV + h / group()); }
    int start(size_t token) const { return starts.empty() ? 0 : starts[token]; }
    double scale() const { return 1 / std::sqrt((double)HS); }
};

// The definition. `size` is what a sum would be were none of its terms negative: what errors of its terms are measured by.
struct Oracle { Doubles lse, out, out_size, d, d_size; };
double dot(const double* a, const double* b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}
void weights(Doubles& p, double& lse, const Case& c, const Doubles& qkv, size_t row, int t, int h) {
    double largest = -1e300, sum = 0;
    for (int u = c.start(row + t); u <= t; u++)
        largest = std::fmax(largest, p[u] = dot(&qkv[c.q(row + t, h)], &qkv[c.k(row + u, h)], c.HS) * c.scale());
    for (int u = c.start(row + t); u <= t; u++) sum += p[u] = std::exp(p[u] - largest);
    for (int u = c.start(row + t); u <= t; u++) p[u] /= sum;
    lse = largest + std::log(sum);
}
Oracle attention_oracle(const Case& c, const Doubles& qkv, const Doubles& dout = {}, const Doubles& out = {}) {
    const Doubles none(c.tokens() * c.C()), nothing(qkv.size());
    Oracle y{Doubles(c.tokens() * c.NH), none, none, nothing, nothing};
    Doubles p((size_t)c.T);
    for (int b = 0; b < c.B; b++)
        for (int h = 0; h < c.NH; h++)
            for (int t = 0; t < c.T; t++) {
                const size_t row = (size_t)b * c.T, o = (row + t) * c.C() + (size_t)h * c.HS, q = c.q(row + t, h);
                weights(p, y.lse[((size_t)b * c.NH + h) * c.T + t], c, qkv, row, t, h);
                const double D = dout.empty() ? 0 : dot(&dout[o], &out[o], c.HS);
                for (int u = c.start(row + t); u <= t; u++) {
                    const size_t k = c.k(row + u, h), v = c.v(row + u, h);
                    for (int i = 0; i < c.HS; i++) y.out[o + i] += p[u] * qkv[v + i];
                    for (int i = 0; i < c.HS; i++) y.out_size[o + i] += p[u] * std::fabs(qkv[v + i]);
                    if (dout.empty()) continue;
                    const double ds = p[u] * (dot(&dout[o], &qkv[v], c.HS) - D) * c.scale();
                    const auto add = [&](size_t at, double x) { y.d[at] += x, y.d_size[at] += std::fabs(x); };
                    for (int i = 0; i < c.HS; i++)
                        add(q + i, ds * qkv[k + i]), add(k + i, ds * qkv[q + i]), add(v + i, p[u] * dout[o + i]);
                }
            }
    return y;
}

// One after the other on the device: out, lse, dqkv.
template <class F> struct Results {
    std::vector<F> out, dqkv;
    std::vector<float> lse;
    std::vector<F> all() const {  // for a comparison of bits
        std::vector<F> x = out;
        x.insert(x.end(), dqkv.begin(), dqkv.end());
        x.insert(x.end(), (const F*)lse.data(), (const F*)(lse.data() + lse.size()));
        return x;
    }
};
template <class F> Results<F> run(const Case& c, const std::vector<F>& qkv, const std::vector<F>& dout) {
    TestStream stream;
    OnDevice<F> out(c.tokens() * c.C()), dqkv(dout.empty() ? 0 : qkv.size()), dqkv_in(qkv), ddout(dout);
    OnDevice<float> lse(c.tokens() * c.NH), scratch(attention_scratch(c.B, c.T, (int)c.C(), c.NH));
    OnDevice<int> starts(c.starts);
    const int* given = c.starts.empty() ? nullptr : starts.data();
    attention_detail::forward(out.data(), lse.data(), dqkv_in.data(), given, c, stream);
    if (!dout.empty())
        attention_detail::backward(dqkv.data(), ddout.data(), out.data(), lse.data(), dqkv_in.data(), given, scratch.data(), c, stream);
    scratch.values();  // looks at the margins
    return {out.written(), dqkv.written(), lse.written()};
}

// fp32: a score is a sum of HS products scaled by 1/sqrt(HS); the tests' scores reach about 6, and e^s turns 6 * 2^-24 * (a few
// roundings) into a relative error of the weight; ex2.approx adds 4 * 2^-24. 64 bound a row; sums over T terms add sqrt(T) < 20.
constexpr double ROUNDINGS = 84;
// bf16: weights and their gradients are rounded to bf16 before they are multiplied again, each of them off by up to 2^-8 of
// itself: a sum by up to 2^-8 of its size. In fp32 they are not.
template <class F> constexpr double FACTORS = std::is_same_v<F, float> ? 0 : 0x1p-8;

template <class F> void expect_right(const Case& c, const std::vector<F>& qkv, const std::vector<F>& dout, const Results<F>& y,
                                     double scores = 1) {  // how many times larger than 6 they are
    const double fp32 = ROUNDINGS * scores * 0x1p-24;
    const Doubles x = in_double(qkv);
    const Oracle exact = attention_oracle(c, x, in_double(dout), in_double(y.out));
    const int before = g_failures;
    EXPECT_NEAR(y.lse.data(), exact.lse.data(), y.lse.size(), fp32 * std::sqrt((double)y.lse.size()));
    EXPECT_NEAR(y.out.data(), exact.out.data(), y.out.size(),
                half_ulp<F>() * norm(exact.out) + (FACTORS<F> + fp32) * norm(exact.out_size));
    if (!dout.empty()) {
        // ds = p (dp - D) is a difference: its error is measured against the terms before they cancel, |dout| |v| |k|
        const double rms = norm(x) / std::sqrt((double)x.size());
        const double terms = norm(exact.d) + norm(dout) * rms * rms * std::sqrt((double)c.HS);
        EXPECT_NEAR(y.dqkv.data(), exact.d.data(), exact.d.size(),
                    half_ulp<F>() * norm(exact.d) + FACTORS<F> * norm(exact.d_size) + fp32 * terms);
    }
    if (g_failures > before)
        printf("    with B %d, T %d, NH %d, NKV %d, HS %d%s\n", c.B, c.T, c.NH, c.NKV, c.HS, c.starts.empty() ? "" : ", documents");
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
template <class F> void check_case(Random& r, Case c) {
    set_schedule(c.T + c.HS);
    auto qkv = normal_values<F>(r, c.tokens() * c.width()), dout = normal_values<F>(r, c.tokens() * c.C());
    expect_right(c, qkv, dout, run(c, qkv, dout));
}
// Where a tile has its chunks, in units of 16 bytes; one thread a row.
template <class F, int D> __global__ void chunks_kernel(int* places) {  // (blockDim, chunks)
    pdl_wait();
    const Tile<F, D> tile{(F*)dynamic_shared()};
    const int row = (int)threadIdx.x;
    for (int c = 0; c < tile.CHUNKS; c++) places[row * tile.CHUNKS + c] = (int)(tile.chunk(row, c) - tile.at) / tile.PER_CHUNK;
}
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
    Case c{{1, 200, 1, 1, 16}, Ints(200)};  // a border in front of, at and behind those of tiles
    for (int at : {63, 64, 65, 127, 128, 129, 192}) for (int t = at; t < 200; t++) c.starts[t] = at;
    check_case<F>(r, c);
}

TEST_BOTH(attention_with_fewer_heads_of_keys) {
    Random r(3);
    check_case<F>(r, {{2, 9, 4, 2, 16}, {}});
    check_case<F>(r, {{1, 70, 3, 1, 64}, {}});
    check_case<F>(r, {{1, 40, 4, 2, 136}, random_starts(r, 1, 40)});
    check_case<F>(r, {{2, 33, 6, 3, 128}, random_starts(r, 2, 33)});
}

// The same bits for any order of threads and blocks; the sizes cross borders of tiles of queries and of keys.
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
        // the row alone, and no longer than t, gives the same bits too
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
}

// The CPU backend computes the same; both are off by no more than the bound of each.
TEST_BOTH(attention_of_both_backends) {
    Random r(8);
    const int B = 2, T = 75, C = 96, NH = 4;
    Case c{{B, T, NH, NH, C / NH}, random_starts(r, B, T)};
    auto qkv = normal_values<F>(r, c.tokens() * c.width()), dout = normal_values<F>(r, c.tokens() * c.C());
    std::vector<F> out(c.tokens() * c.C()), d(qkv.size());
    std::vector<float> lse(c.tokens() * c.NH), scratch(cpu::attention_scratch(B, T, C, NH));
    cpu::attention_forward(out.data(), lse.data(), qkv.data(), c.starts.data(), B, T, C, NH, cpu::stream_t{});
    cpu::attention_backward(d.data(), dout.data(), out.data(), lse.data(), qkv.data(), c.starts.data(), scratch.data(), B, T, C, NH,
                            cpu::stream_t{});
    TestStream stream;
    OnDevice<F> x(qkv), dy(dout), y(out.size()), dx(d.size());
    OnDevice<float> l(lse.size()), dots(attention_scratch(B, T, C, NH));
    OnDevice<int> starts(c.starts);
    attention_forward(y.data(), l.data(), x.data(), starts.data(), B, T, C, NH, stream);
    attention_backward(dx.data(), dy.data(), y.data(), l.data(), x.data(), starts.data(), dots.data(), B, T, C, NH, stream);
    const double tolerance = std::is_same_v<F, float> ? 4 * ROUNDINGS * 0x1p-24 : 4 * 0x1p-8;
    EXPECT_CLOSE(y.written().data(), in_double(out).data(), out.size(), tolerance);
    EXPECT_CLOSE(l.written().data(), in_double(lse).data(), lse.size(), ROUNDINGS * 0x1p-24);
    EXPECT_CLOSE(dx.written().data(), in_double(d).data(), d.size(), tolerance);
}

#ifdef LLMC_CUDNN
// The GPUs and versions that a test is for: the stand-in is each in turn, a GPU is what it is. sm 0: as it was found.
struct CudnnOn { int sm; size_t version; bool ordered = true; };  // does it have a backward in order?
#ifdef CUDNN_STAND_IN
const std::vector<CudnnOn> CUDNN_ON = {{90, 92500}, {103, 92300}, {100, 92200}, {100, 91600, false}, {0, 0}};
static void become(CudnnOn on) {
    emu::cudnn_sm() = on.sm ? on.sm : 90, emu::cudnn_version() = on.version ? on.version : 91900;
    attention_cudnn::state().sm = on.sm, attention_cudnn::state().plans.clear();
}
#else
const std::vector<CudnnOn> CUDNN_ON = {{0, 0}};
static void become(CudnnOn) {}
#endif

// Asked for by a stream's options, cuDNN's forward and backward are as right as ours and go with ours; in order, they have the same bits
// each time. What the cuDNN that is here does not take (the stand-in takes all) is left out, and said.
TEST(attention_by_cudnn) {
    Random r(12);
    for (AttentionShape shape : std::vector<AttentionShape>{{2, 128, 3, 3, 64}, {1, 256, 2, 2, 128}, {3, 70, 2, 2, 64}, {1, 33, 1, 1, 24}, {2, 1, 2, 2, 64}}) {
        const Case c{shape, {}};
        const int B = c.B, T = c.T, NH = c.NH, C = (int)c.C();
        auto qkv = normal_values<bf16>(r, c.tokens() * c.width()), dout = normal_values<bf16>(r, c.tokens() * c.C());
        for (const CudnnOn& on : CUDNN_ON) for (int who = 0; who < (on.sm ? 1 : 4); who++) {  // forward and backward by: cuDNN; cuDNN in any order; cuDNN and ours; ours and cuDNN
            const bool theirs[2] = {who != 3, who != 2};
            bool taken = true;
            if (on.sm && T != 70 && T != 1) continue;  // the engines differ, not the shapes
            become(on);
            for (bool backward : both()) {
                const std::string refused = attention_cudnn::plan_for({B, T, NH, c.HS, backward, attention_cudnn::dq_sums(who != 1, attention_cudnn::sm(), cudnnGetVersion())}).builder.refused;
                if (!refused.empty() && on.sm == 0) printf("    left out: T %d, HS %d: %s\n", T, c.HS, refused.c_str());
#ifdef CUDNN_STAND_IN
                EXPECT_EQ(refused.empty(), T > 1 && (!backward || on.ordered));
#endif
                taken &= refused.empty();
            }
            if (!taken) continue;
            Results<bf16> y;
            const auto once = [&] {
                TestStream stream(4096);
                stream.stream.kernels.attention = AttentionBackend::CUDNN, stream.stream.kernels.deterministic = who != 1;
                OnDevice<bf16> x(qkv), dy(dout), out(c.tokens() * c.C()), dx(qkv.size());
                OnDevice<float> lse(c.tokens() * c.NH), scratch(attention_scratch(B, T, C, NH, stream.stream));
                const auto by = [&](bool cudnn) { stream.stream.kernels.attention = cudnn ? AttentionBackend::CUDNN : AttentionBackend::OURS; };
                by(theirs[0]), attention_forward(out.data(), lse.data(), x.data(), nullptr, B, T, C, NH, stream);
                by(theirs[1]), attention_backward(dx.data(), dy.data(), out.data(), lse.data(), x.data(), nullptr, scratch.data(), B, T, C, NH, stream);
                scratch.values();  // looks at the margins
                y = {out.written(), dx.written(), lse.written()};
                return y.all();
            };
            if (who == 0) for_schedules(once); else once();
            expect_right(c, qkv, dout, y);
        }
    }
}

// What a plan sets apart holds what any GPU takes that the plan may be for, and without the matrix it is less.
TEST(cudnn_memory) {
    using namespace attention_graph;
    const std::vector<Problem> problems = {{8, 1024, 12, 64}, {1, 33, 2, 256}, {2, 100, 3, 64}, {1, 128, 1, 8}};
    for (Problem p : problems) for (size_t version : {91600, 91900, 92500}) {
        const size_t any = backward_bytes(p, true, 0, version), atomic = backward_bytes(p, false, 0, version);
        p.backward = true;
        for (int sm : {80, 90, 100, 103, 120}) for (bool deterministic : {false, true}) {
            p.dq = dq_sums(deterministic, sm, version);
            const size_t bytes = backward_bytes(p, deterministic, sm, version);
            EXPECT_EQ(bytes, delta_bytes(p) + dq_accum_bytes(p) + attention_graph::workspace_bytes(p));
            EXPECT(bytes <= (deterministic ? any : atomic));
            if (p.T == 1024 && (p.dq == IN_TURN || p.dq == SM100)) EXPECT(bytes < any / 5);
        }
    }
    StreamOptions here, anywhere;
    anywhere.any_gpu = true;
    EXPECT(attention_scratch(1, 33, 512, 2, here) <= attention_scratch(1, 33, 512, 2, anywhere));
    EXPECT_EQ(attention_scratch(1, 33, 512, 2, anywhere) * sizeof(float), backward_bytes({1, 33, 2, 256}, true, 0, cudnnGetVersion()));
}

// Which versions are asked at all: 9.10.0 and 9.10.1 not, and on sm_100 an older one not for a backward in order.
TEST(cudnn_by_version) {
#ifdef CUDNN_STAND_IN
    const auto expect = [](const char* refusal, CudnnOn on, bool backward, int T, int HS, bool deterministic = true) {
        become(on);
        const std::string said = attention_cudnn::plan_for({1, T, 1, HS, backward, attention_cudnn::dq_sums(deterministic, on.sm, on.version)}).builder.refused;
        if (*refusal ? said.find(refusal) == std::string::npos : !said.empty()) FAIL("sm_%d, %zu: '%s', expected '%s'", on.sm, on.version, said.c_str(), refusal);
    };
    for (bool backward : both()) {
        for (size_t version : {91000, 91001}) expect("9.10.0 and 9.10.1", {90, version}, backward, 128, 64);
        for (size_t version : {90800, 90900, 91002, 92800}) expect("", {90, version}, backward, 128, 64);
        expect("too old", {90, 90700}, backward, 128, 64), expect(backward ? "too old" : "", {90, 91500}, backward, 100, 64), expect("", {90, 91600}, backward, 100, 64);
    }
    for (size_t version : {91600, 91800}) for (int sm : {100, 103}) {
        expect("no backward", {sm, version}, true, 128, 64), expect("", {sm, version}, false, 128, 64);
        expect("", {sm, version}, true, 128, 64, false);
    }
    expect("", {100, 91801}, true, 128, 128), expect("no backward", {100, 91801}, true, 128, 136), expect("no backward", {110, 92800}, true, 128, 64);
    become({0, 0});
#else
    SKIP("the stand-in alone is of any version");
#endif
}

// While a stream tunes, the faster of the two is found, and kept; it is measured once. Who makes it is said, and why.
TEST(attention_by_the_faster) {
    const int B = 1, T = 128, NH = 1, C = 64;
    OnDevice<bf16> x(std::vector<bf16>((size_t)T * 3 * C, bf16(0.5f))), out((size_t)T * C);
    OnDevice<float> lse(T);
    auto& state = attention_cudnn::state();
    const auto forward = [&](bool autotuning, AttentionBackend by) {
        TestStream stream(4096);
        stream.stream.autotuning = autotuning, stream.stream.kernels.attention = by;
        attention_forward(out.data(), lse.data(), x.data(), nullptr, B, T, C, NH, stream);
        out.written();
        return attention_path<bf16>(stream.stream);
    };
    state.cache.known.clear(), state.plans.clear(), state.cache.measured = 0, state.said[0] = state.said[1] = "";
    // the only choice that there is; with none the test has failed, and goes on
    const auto only_choice = [&] {
        EXPECT_EQ(state.cache.known.size(), (size_t)1);
        return state.cache.known.empty() ? attention_cudnn::Choice{} : state.cache.known.begin()->second;
    };
    EXPECT_STR(forward(false, AttentionBackend::FASTEST), "");  // nobody has measured: ours
    EXPECT_EQ(state.plans.size(), (size_t)0);              // nor built a plan for it
    state.cache.known[{B, T, NH, C / NH}] = {false, 1, 2};
    EXPECT(forward(true, AttentionBackend::FASTEST).starts_with("forward by ours, 1.000 ms"));
    EXPECT_EQ(state.plans.size(), (size_t)0);  // nor where it is known that ours is faster
    state.cache.known.clear();
    EXPECT(forward(true, AttentionBackend::FASTEST).starts_with("forward by "));
    const attention_cudnn::Choice choice = only_choice();
    EXPECT(choice.ours_ms > 0 && choice.cudnn_ms > 0 && choice.cudnn == (choice.cudnn_ms < choice.ours_ms));
    forward(true, AttentionBackend::FASTEST);
    EXPECT_EQ(state.cache.measured, 1);
    EXPECT(forward(false, AttentionBackend::CUDNN).find("as asked") != std::string::npos);
    EXPECT_STR(forward(false, AttentionBackend::OURS), "by ours");
#ifdef CUDNN_STAND_IN
    for (double ms : {1e-6, 1e6}) {
        state.cache.known.clear(), emu::cudnn_ticks() = ms;
        const std::string said = forward(true, AttentionBackend::FASTEST);
        EXPECT_EQ(only_choice().cudnn, ms < 1);
        EXPECT(said.starts_with(ms < 1 ? "forward by cuDNN" : "forward by ours"));
    }
    emu::cudnn_ticks() = 1000;
    // what the library does not take is made by ours, and the line says why; asked for all the same, it ends the run
    state.plans.clear(), state.cache.known.clear(), emu::cudnn_refuses() = true;
    EXPECT(forward(true, AttentionBackend::FASTEST).find("cuDNN knows no way") != std::string::npos);
    EXPECT_REFUSED("--attention cudnn: B 1, T 128, 1 heads of 64: cuDNN knows no way", forward(false, AttentionBackend::CUDNN));
    emu::cudnn_refuses() = false;
    state.plans.clear();
#endif
    // the file: what it says is believed, and what cannot be read of it is not there
    const std::string folder = BUILD "/tmp/attention";
    remove_tree(folder), make_folders(folder);
    state.cache.known.clear();
    forward(true, AttentionBackend::FASTEST);
    const attention_cudnn::Choice kept = only_choice();
    attention_cudnn::save_autotune_cache(folder);
    state.cache.known.clear();
    attention_cudnn::load_autotune_cache(folder);
    EXPECT_EQ(only_choice().cudnn, kept.cudnn);
    const std::string path = state.cache.path(folder), text = access(path.c_str(), R_OK) ? "" : read_file(path);
    EXPECT(text.size() > 9);
    for (std::string broken : {std::string(), text.substr(0, 9), "none\n" + text.substr(0, text.size() - 1) + " 1\n"}) {
        write_file_atomically(path, broken);
        state.cache.known.clear();
        attention_cudnn::load_autotune_cache(folder);
        EXPECT(state.cache.known.empty());
    }
    state.cache.known.clear(), state.cache.measured = 0;
}
#endif

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
    for (AttentionShape shape : std::vector<AttentionShape>{{1, 67, 1, 1, 16}, {1, 5, 2, 2, 64}, {1, 6, 4, 2, 72}, {1, 9, 1, 1, 256}, {1, 1, 1, 1, 128}}) {
        const Case c{shape, {}};
        auto qkv = normal_values<F>(r, c.tokens() * c.width());
        const size_t KC = (size_t)c.NKV * c.HS;
        std::vector<F> once;
        for (int way = 0; way < 3; way++) {  // all at once, one by one, and as it comes
            TestStream stream;
            OnDevice<F> out(c.tokens() * c.C()), kcache(c.tokens() * KC), vcache(c.tokens() * KC), x(qkv);
            for (int pos = 0, n; pos < c.T; pos += n) {
                n = std::min(c.T - pos, way == 0 ? c.T : way == 1 ? 1 : r.between(1, 9));
                attention_detail::cached(out.data() + (size_t)pos * c.C(), kcache.data(), vcache.data(),
                                         x.data() + (size_t)pos * c.width(), n, pos, c, stream);
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
    EXPECT_REFUSED("10 channels", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, 10, 3, stream));
    EXPECT_REFUSED("head size 264", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, 264, 1, stream));
    EXPECT_REFUSED("head size 12", attention_forward(x.data(), x.data(), x.data(), nullptr, 1, 1, 24, 2, stream));
}
