// The three products of a linear layer against an oracle in double, and what must be bitwise identical.
#include <sys/mman.h>
#include <algorithm>
#include <memory>
#include "../../llmc/cpu/gelu.h"
#include "../../llmc/cpu/matmul.h"
#include "../layers.h"

// ---- tolerances, for operands of zero mean
// A sum of K products in one chain of fused multiply-adds: step k rounds a partial sum of size sqrt(k) s with a relative
// error of at most 2^-24. The errors add like a random walk, to 2^-24 s K / sqrt(2), relative to sqrt(K) s: 2^-24 sqrt(K / 2);
// blocks of a chain added up give less. Adding bias, old value or a factor: at most 3 roundings more. sqrt(K) s is the size
// that the terms have, not the sum that is left of them, which may have cancelled: it is `size` below.
static double sum_error(size_t K) { return 0x1p-24 * (3 + std::sqrt((double)K / 2)); }
// Rounding to bf16 moves a number m 2^e by at most 2^(e-8): 2^-8 relative at the worst (few numbers), and in the mean of many
// 2^(e-7) / sqrt(12) against an rms of m of 1.5: 1.5 * 2^-10, below 2^-9.
template <class F> double stored_error(size_t n) {
    return std::is_same_v<F, bf16> ? (n < 1000 ? 0x1p-8 : 0x1p-9) : 0;
}

// ||a - b|| <= of_size * terms + of_value * ||b||,  b in double
#define EXPECT_SUM(a, b, terms, of_size, of_value) do { double e_ = distance(a, (b).data(), (b).size()), b_ = (of_size) * (terms) + (of_value) * norm(b); \
    if (!(e_ <= b_)) FAIL("%s: error %.3g > %.3g", #a, e_, b_); } while (0)

static float pseudo_random(uint64_t i, uint32_t seed) {  // uniform in (-1, 1)
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull, x = (x ^ (x >> 27)) * 0x94d049bb133111ebull, x ^= x >> 31;
    return (float)((int64_t)(x >> 40) - (1 << 23)) / (1 << 23);
}
template <class F> std::vector<F> random_values(size_t n, uint32_t seed) {
    std::vector<F> v(n);
    for (size_t i = 0; i < n; i++) v[i] = F(pseudo_random(i, seed));
    return v;
}

// An output filled with NaN, and NaN on both sides that must still be there at the end.
template <class F> struct Output {
    static constexpr size_t ZONE = 80;
    size_t n;
    std::vector<F> memory;
    explicit Output(size_t count) : n(count), memory(n + 2 * ZONE, F(NAN)) {}
    explicit Output(const std::vector<F>& old) : Output(old.size()) { for (size_t i = 0; i < n; i++) data()[i] = old[i]; }
    F* data() { return memory.data() + ZONE; }
    ~Output() {
        bool intact = true;
        for (size_t i = 0; i < ZONE; i++) intact &= std::isnan((float)memory[i]) && std::isnan((float)memory[ZONE + n + i]);
        EXPECT(intact);
    }
};

// c[i][j] = sum_k a(i, k) b(j, k) in double;  size = the norm of all its terms
template <class F> std::vector<double> oracle(const F* a, size_t ai, size_t ak, size_t I, const F* b, size_t bj, size_t bk, size_t J, size_t K, double& size) {
    std::vector<double> c(I * J), column(K);
    double squares = 0;
    for (size_t j = 0; j < J; j++) {
        for (size_t k = 0; k < K; k++) column[k] = (double)(float)b[j * bj + k * bk];
        for (size_t i = 0; i < I; i++) {
            double sum = 0;
            for (size_t k = 0; k < K; k++) {
                double term = (double)(float)a[i * ai + k * ak] * column[k];
                sum += term, squares += term * term;
            }
            c[i * J + j] = sum;
        }
    }
    size = std::sqrt(squares);
    return c;
}
static double gelu_exact(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
static double gelu_slope(double x) { return (gelu_exact(x + 1e-5) - gelu_exact(x - 1e-5)) / 2e-5; }

template <class F> static void against_oracle(size_t N, int C, int OC) {
    size_t c = C, oc = OC;
    auto inp = random_values<F>(N * c, 1), weight = random_values<F>(oc * c, 2), bias = random_values<F>(oc, 3);
    auto dout = random_values<F>(N * oc, 4), pre = random_values<F>(N * c, 5), old = random_values<F>(N * c, 6);
    auto old_dw = random_values<float>(oc * c, 7), old_db = random_values<float>(oc, 8);

    double size;
    auto expected = oracle(inp.data(), c, 1, N, weight.data(), c, 1, oc, c, size);
    Output<F> plain(N * oc), biased(N * oc);
    matmul_forward<F>(plain.data(), inp.data(), weight.data(), nullptr, N, C, OC, {}, {});
    EXPECT_SUM(plain.data(), expected, size, sum_error(c), stored_error<F>(N * oc));
    for (size_t i = 0; i < N * oc; i++) expected[i] += (double)(float)bias[i % oc];
    matmul_forward<F>(biased.data(), inp.data(), weight.data(), bias.data(), N, C, OC, {}, {});
    EXPECT_SUM(biased.data(), expected, size + norm(expected), sum_error(c), stored_error<F>(N * oc));
    // the fused GELU: bitwise identical to matmul, then gelu_forward
    Output<F> fused_pre(N * oc), fused(N * oc), apart(N * oc);
    matmul_forward<F>(fused.data(), inp.data(), weight.data(), bias.data(), N, C, OC, {.pre_gelu = fused_pre.data()}, {});
    gelu_forward(apart.data(), biased.data(), N * oc, {});
    EXPECT(memcmp(fused_pre.data(), biased.data(), N * oc * sizeof(F)) == 0);
    EXPECT(memcmp(fused.data(), apart.data(), N * oc * sizeof(F)) == 0);

    expected = oracle(dout.data(), oc, 1, N, weight.data(), 1, c, c, oc, size);
    Output<F> dinp(N * c), through(N * c), more(old), both(old);
    matmul_backward_input<F>(dinp.data(), dout.data(), weight.data(), N, C, OC, {}, {});
    EXPECT_SUM(dinp.data(), expected, size, sum_error(oc), stored_error<F>(N * c));
    auto sum = expected, slope = expected, slope_sum = expected;
    for (size_t i = 0; i < N * c; i++) {
        sum[i] += (double)(float)old[i];
        slope[i] *= gelu_slope((float)pre[i]);
        slope_sum[i] = slope[i] + (double)(float)old[i];
    }
    matmul_backward_input<F>(more.data(), dout.data(), weight.data(), N, C, OC, {.accumulate = true}, {});
    EXPECT_SUM(more.data(), sum, size + norm(sum), sum_error(oc), stored_error<F>(N * c));
    // gelu' is good to 16 * 2^-24 absolute (test_gelu.cpp), its mean square over pre in (-1, 1) is 0.4: 2^-19 relative
    matmul_backward_input<F>(through.data(), dout.data(), weight.data(), N, C, OC, {.pre_gelu = pre.data()}, {});
    EXPECT_SUM(through.data(), slope, size, 2 * sum_error(oc), 0x1p-19 + stored_error<F>(N * c));
    matmul_backward_input<F>(both.data(), dout.data(), weight.data(), N, C, OC, {.pre_gelu = pre.data(), .accumulate = true}, {});
    EXPECT_SUM(both.data(), slope_sum, size + norm(slope_sum), 2 * sum_error(oc) + 0x1p-19, 0x1p-19 + stored_error<F>(N * c));

    // weight gradients are fp32: products of bf16 are exact, so bf16 has the error of the fp32 sum only
    expected = oracle(dout.data(), 1, oc, oc, inp.data(), 1, c, c, N, size);
    Output<float> dw(oc * c), dw_more(old_dw), db(oc), db_more(old_db), dw_only(oc * c);
    matmul_backward_weight<F>(dw.data(), db.data(), dout.data(), inp.data(), N, C, OC, false, {});
    EXPECT_SUM(dw.data(), expected, size, sum_error(N), 0);
    matmul_backward_weight<F>(dw_only.data(), nullptr, dout.data(), inp.data(), N, C, OC, false, {});
    EXPECT(memcmp(dw_only.data(), dw.data(), oc * c * sizeof(float)) == 0);
    std::vector<double> dbias(oc);
    for (size_t n = 0; n < N; n++) for (size_t o = 0; o < oc; o++) dbias[o] += (double)(float)dout[n * oc + o];
    EXPECT_SUM(db.data(), dbias, std::sqrt((double)(N * oc)), sum_error(N), 0);
    matmul_backward_weight<F>(dw_more.data(), db_more.data(), dout.data(), inp.data(), N, C, OC, true, {});
    for (size_t i = 0; i < oc * c; i++) if (dw_more.data()[i] != old_dw[i] + dw.data()[i]) { FAIL("dweight[%zu] is not old + new", i); break; }
    for (size_t i = 0; i < oc; i++) if (db_more.data()[i] != old_db[i] + db.data()[i]) { FAIL("dbias[%zu] is not old + new", i); break; }
}

// The backward against central differences of the forward in double: loss = sum of dout * gelu?(x w^T + b). The products are
// linear in each operand, so the differences are right to the 2^-53 / h that the subtraction loses: 1e-10 of the loss.
TEST(backward_against_central_differences) {
    Random r(11);
    for (int shape = 0; shape < 60; shape++) {
        const int N = r.between(1, 9), C = r.between(1, 21), OC = r.between(1, 19);
        const size_t n = (size_t)N, c = (size_t)C, oc = (size_t)OC;
        const bool gelu = shape % 2;  // x = gelu(pre), and the gradient goes through to pre
        auto pre = normal_values<float>(r, n * c), weight = normal_values<float>(r, oc * c), dout = normal_values<float>(r, n * oc);
        std::vector<double> all = in_double(pre), w = in_double(weight);
        all.insert(all.end(), w.begin(), w.end()), all.resize(all.size() + oc);  // x, w, b; b = 0
        auto input = [&](double x) { return gelu ? gelu_exact(x) : x; };
        auto exact = central_differences(all, [&](const std::vector<double>& v) {
            double loss = 0;
            for (size_t i = 0; i < n; i++)
                for (size_t o = 0; o < oc; o++) {
                    double sum = v[n * c + oc * c + o];
                    for (size_t k = 0; k < c; k++) sum += input(v[i * c + k]) * v[n * c + o * c + k];
                    loss += (double)dout[i * oc + o] * sum;
                }
            return loss;
        });
        std::vector<float> x = pre;
        if (gelu) gelu_forward(x.data(), pre.data(), n * c, {});
        std::vector<float> dx(n * c), dw(oc * c), db(oc);
        matmul_backward_input<float>(dx.data(), dout.data(), weight.data(), n, C, OC, {.pre_gelu = gelu ? pre.data() : nullptr}, {});
        matmul_backward_weight<float>(dw.data(), db.data(), dout.data(), x.data(), n, C, OC, false, {});
        // 9 terms at the most in db, 21 in a row of dx, each rounded once and of the size of a product of two N(0, 1) numbers
        const double size = std::sqrt((double)(n * c * oc)), bound = size * 8 * sum_error(21);
        EXPECT_NEAR(dx.data(), exact.data(), n * c, bound);
        EXPECT_NEAR(dw.data(), exact.data() + n * c, oc * c, bound);
        EXPECT_NEAR(db.data(), exact.data() + n * c + oc * c, oc, bound);
    }
}
TEST(odd_sizes_fp32) {
    for (size_t N : {1, 3, 7, 48, 131}) for (int C : {1, 3, 7, 48, 131}) for (int OC : {1, 7, 48, 131}) against_oracle<float>(N, C, OC);
}
TEST(odd_sizes_bf16) {
    for (size_t N : {1, 3, 7, 48, 131}) for (int C : {1, 3, 7, 48, 131}) for (int OC : {1, 7, 48, 131}) against_oracle<bf16>(N, C, OC);
}
// Every one longer than a block of the product in at least one direction, and not a multiple of it.
TEST(many_blocks_fp32) { against_oracle<float>(259, 261, 521), against_oracle<float>(70, 1030, 300), against_oracle<float>(1030, 70, 65); }
TEST(many_blocks_bf16) { against_oracle<bf16>(259, 261, 521), against_oracle<bf16>(70, 1030, 300), against_oracle<bf16>(1030, 70, 65); }
// Rows that are read in place, more than a task has, with one and with several blocks along k; odd numbers of rows and of k beside even ones.
TEST(rows_in_place_fp32) { against_oracle<float>(1100, 832, 72), against_oracle<float>(1083, 64, 257), against_oracle<float>(53, 97, 544); }
TEST(rows_in_place_bf16) { against_oracle<bf16>(1100, 832, 72), against_oracle<bf16>(1083, 64, 257), against_oracle<bf16>(53, 97, 544); }

// Nothing is read behind the last row, nor behind the last element: there the memory ends.
template <class F> static void operands_end_with_the_memory() {
    const size_t page = 4096, room = 256 * page;
    char* end = (char*)mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + room;
    EXPECT(mprotect(end, page, PROT_NONE) == 0);
    for (size_t N : {1, 5, 6, 48, 50, 99})
        for (size_t C : {1, 31, 32, 64, 96, 97, 768, 800}) {
            const size_t OC = 64;
            auto inp = random_values<F>(N * C, 1), weight = random_values<F>(OC * C, 2), dinp = inp, dinp2 = inp;
            std::vector<F> out(N * OC), out2(N * OC);
            F* last = (F*)end - N * C;
            std::copy(inp.begin(), inp.end(), last);
            matmul_forward<F>(out.data(), inp.data(), weight.data(), nullptr, N, (int)C, (int)OC, {}, {});
            matmul_forward<F>(out2.data(), last, weight.data(), nullptr, N, (int)C, (int)OC, {}, {});
            EXPECT(memcmp(out.data(), out2.data(), N * OC * sizeof(F)) == 0);
            auto dout = random_values<F>(N * OC, 4);
            F* dlast = (F*)end - N * OC;
            matmul_backward_input<F>(dinp.data(), dout.data(), weight.data(), N, (int)C, (int)OC, {}, {});
            std::copy(dout.begin(), dout.end(), dlast);
            matmul_backward_input<F>(dinp2.data(), dlast, weight.data(), N, (int)C, (int)OC, {}, {});
            EXPECT(memcmp(dinp.data(), dinp2.data(), N * C * sizeof(F)) == 0);
        }
    munmap(end - room, room + page);
}
TEST(operands_end_with_the_memory_fp32) { operands_end_with_the_memory<float>(); }
TEST(operands_end_with_the_memory_bf16) { operands_end_with_the_memory<bf16>(); }
TEST(gpt2_sizes_fp32) { against_oracle<float>(64, 768, 2304), against_oracle<float>(64, 3072, 768); }
TEST(gpt2_sizes_bf16) { against_oracle<bf16>(64, 768, 2304), against_oracle<bf16>(64, 3072, 768); }

// All outputs of one layer in one buffer, for comparing bits.
template <class F> static std::vector<char> all_bits(size_t N, int C, int OC) {
    size_t c = C, oc = OC;
    auto inp = random_values<F>(N * c, 1), weight = random_values<F>(oc * c, 2), bias = random_values<F>(oc, 3), dout = random_values<F>(N * oc, 4);
    std::vector<F> out(N * oc), pre(N * oc), dinp(N * c);
    std::vector<float> dw(oc * c), db(oc);
    matmul_forward<F>(out.data(), inp.data(), weight.data(), bias.data(), N, C, OC, {.pre_gelu = pre.data()}, {});
    matmul_backward_input<F>(dinp.data(), dout.data(), weight.data(), N, C, OC, {.pre_gelu = inp.data()}, {});
    matmul_backward_weight<F>(dw.data(), db.data(), dout.data(), inp.data(), N, C, OC, false, {});
    std::vector<char> bits;
    auto append = [&](const auto& v) { bits.insert(bits.end(), (const char*)v.data(), (const char*)(v.data() + v.size())); };
    append(out), append(pre), append(dinp), append(dw), append(db);
    return bits;
}
template <class F> static void any_number_of_threads() {
    for (auto [N, C, OC] : {std::array{70, 131, 261}, {300, 520, 100}, {5, 48, 1030}, {259, 768, 260}, {700, 769, 300}}) {
        auto one = all_bits<F>((size_t)N, C, OC);
        int before = max_threads();
        for (int threads : {1, 2, 3, 5}) {
            set_threads(threads);
            EXPECT(all_bits<F>((size_t)N, C, OC) == one);
        }
        set_threads(before);
    }
}
TEST(threads_fp32) { any_number_of_threads<float>(); }
TEST(threads_bf16) { any_number_of_threads<bf16>(); }

// A row of out and dinp is bitwise identical alone, in another batch, at another place and beside rows of NaN and infinity.
template <class F> static void rows_are_independent() {
    for (std::array<int, 3> sizes : {std::array{67, 131, 97}, {150, 530, 263}, {300, 48, 1030}, {16, 768, 768}, {700, 768, 300}, {700, 769, 300}}) {
        const int C = sizes[1], OC = sizes[2];
        size_t N = (size_t)sizes[0], c = (size_t)C, oc = (size_t)OC;
        auto inp = random_values<F>(N * c, 1), weight = random_values<F>(oc * c, 2), bias = random_values<F>(oc, 3), dout = random_values<F>(N * oc, 4);
        std::vector<F> out(N * oc), dinp(N * c), out2(N * oc), dinp2(N * c);
        matmul_forward<F>(out.data(), inp.data(), weight.data(), bias.data(), N, C, OC, {}, {});
        matmul_backward_input<F>(dinp.data(), dout.data(), weight.data(), N, C, OC, {}, {});
        auto same = [&](const char* what, size_t from, size_t to) {
            if (memcmp(out.data() + from * oc, out2.data() + to * oc, oc * sizeof(F)) || memcmp(dinp.data() + from * c, dinp2.data() + to * c, c * sizeof(F)))
                FAIL("N = %zu, C = %d, OC = %d: row %zu %s", N, C, OC, from, what);
        };
        auto again = [&](const std::vector<F>& x, const std::vector<F>& dy, size_t rows) {
            matmul_forward<F>(out2.data(), x.data(), weight.data(), bias.data(), rows, C, OC, {}, {});
            matmul_backward_input<F>(dinp2.data(), dy.data(), weight.data(), rows, C, OC, {}, {});
        };
        for (size_t rows : {(size_t)1, (size_t)5, (size_t)16, (size_t)17, N / 2}) {  // the last rows, as a batch of their own
            if (rows == 0 || rows > N) continue;
            again({inp.end() - (long)(rows * c), inp.end()}, {dout.end() - (long)(rows * oc), dout.end()}, rows);
            for (size_t r = 0; r < rows; r++) same("depends on the size of the batch", N - rows + r, r);
        }
        std::vector<F> turned = inp, dturned = dout;  // every row at another place
        for (size_t r = 0; r < N; r++) {
            std::copy_n(inp.begin() + (long)(r * c), C, turned.begin() + (long)((r * 7 + 3) % N * c));
            std::copy_n(dout.begin() + (long)(r * oc), OC, dturned.begin() + (long)((r * 7 + 3) % N * oc));
        }
        again(turned, dturned, N);
        if (N % 7) for (size_t r = 0; r < N; r++) same("depends on its place", r, (r * 7 + 3) % N);
        std::vector<F> spoiled = inp, dspoiled = dout;
        for (size_t r = 1; r < N; r += 2) for (size_t i = 0; i < std::max(c, oc); i++) {
            if (i < c) spoiled[r * c + i] = F(i % 2 ? NAN : INFINITY);
            if (i < oc) dspoiled[r * oc + i] = F(i % 2 ? NAN : -INFINITY);
        }
        again(spoiled, dspoiled, N);
        for (size_t r = 0; r < N; r += 2) same("depends on its neighbours", r, r);
        for (size_t i = 0; i < oc; i++) EXPECT(!std::isfinite((float)out2[oc + i]));
    }
}
TEST(independent_rows_fp32) { rows_are_independent<float>(); }
TEST(independent_rows_bf16) { rows_are_independent<bf16>(); }

// A single row takes the path without packing (GEMV): bitwise identical to the same row among three, at every edge of the blocks along
// k (KC_L1 and KC, 128 and 256 k-steps) and of a group of rows, and where K is too long for that path (40000).
template <class F> static void one_row_alone() {
    int before = max_threads();
    for (int C : {1, 2, 15, 16, 17, 31, 33, 127, 128, 129, 255, 256, 257, 383, 511, 512, 513, 768, 3072, 40000})
        for (int OC : {1, 15, 16, 17, 131, 300}) {
            size_t c = (size_t)C, oc = (size_t)OC;
            auto inp = random_values<F>(3 * c, 1), weight = random_values<F>(oc * c, 2), bias = random_values<F>(oc, 3);
            std::vector<F> out(3 * oc), pre(3 * oc), plain(3 * oc);
            matmul_forward<F>(out.data(), inp.data(), weight.data(), bias.data(), 3, C, OC, {.pre_gelu = pre.data()}, {});
            matmul_forward<F>(plain.data(), inp.data(), weight.data(), nullptr, 3, C, OC, {}, {});
            for (int threads : {1, 3}) {
                set_threads(threads);
                Output<F> out1(oc), pre1(oc), plain1(oc);
                matmul_forward<F>(out1.data(), inp.data() + 2 * c, weight.data(), bias.data(), 1, C, OC, {.pre_gelu = pre1.data()}, {});
                matmul_forward<F>(plain1.data(), inp.data() + 2 * c, weight.data(), nullptr, 1, C, OC, {}, {});
                bool same = !memcmp(out1.data(), out.data() + 2 * oc, oc * sizeof(F)) && !memcmp(pre1.data(), pre.data() + 2 * oc, oc * sizeof(F)) &&
                            !memcmp(plain1.data(), plain.data() + 2 * oc, oc * sizeof(F));
                if (!same) FAIL("C = %d, OC = %d, %d threads: a row alone has other bits", C, OC, threads);
            }
            set_threads(before);
        }
}
TEST(one_row_alone_fp32) { one_row_alone<float>(); }
TEST(one_row_alone_bf16) { one_row_alone<bf16>(); }

TEST(an_infinite_weight_reaches_its_channel_only) {
    auto inp = random_values<float>(7 * 48, 1), weight = random_values<float>(131 * 48, 2);
    weight[100 * 48 + 5] = INFINITY;
    std::vector<float> out(7 * 131);
    matmul_forward<float>(out.data(), inp.data(), weight.data(), nullptr, 7, 48, 131, {}, {});
    for (size_t i = 0; i < out.size(); i++) EXPECT(std::isfinite(out[i]) == (i % 131 != 100));
}

TEST(peak_is_plausible) {
    std::vector<char> memory(64 << 20, 'x');
    double bandwidth = measure_bandwidth(memory.data(), memory.size());
    EXPECT(bandwidth > 1e7 && bandwidth < 1e14);
    EXPECT(!gemm_path<float>().empty() && !gemm_path<bf16>().empty());
    for (double flops : {measure_peak_flops<float>(0.02), measure_peak_flops<bf16>(0.02)}) EXPECT(flops > 1e8 && flops < 1e15);
}

// On one kind of CPU the bf16 instruction has less than half of the rate of fp32's, on others twice as much: what is chosen must not be the slower one.
// Others on the machine take from a measurement and add nothing, so one good one of each is enough.
TEST(bf16_is_multiplied_no_slower_than_fp32) {
    double fp32 = 0, bf16s = 0;
    for (int i = 0; i < 50 && (fp32 == 0 || bf16s < 0.75 * fp32); i++)
        fp32 = std::max(fp32, measure_peak_flops<float>(0.02)), bf16s = std::max(bf16s, measure_peak_flops<bf16>(0.02));
    if (bf16s < 0.75 * fp32) FAIL("%s: %.0f GFLOP/s, %s: %.0f", gemm_path<bf16>().c_str(), bf16s / 1e9, gemm_path<float>().c_str(), fp32 / 1e9);
}

// However short the time, or whoever else has the cores: what divides by it must not find 0.
TEST(the_peak_is_never_0) {
    for (double seconds : {1e-9, 1e-7, 1e-4}) EXPECT(measure_peak_flops<float>(seconds) > 1e6 && measure_peak_flops<bf16>(seconds) > 1e6);
}
