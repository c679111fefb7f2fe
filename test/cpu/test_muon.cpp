#include "../../llmc/cpu/muon.h"
#include "../layers.h"

namespace {
using Matrix = std::vector<double>;

// C = A B, of (n, k) and (k, m)
Matrix times(const Matrix& a, const Matrix& b, size_t n, size_t k, size_t m) {
    Matrix c(n * m);
    for (size_t i = 0; i < n; i++) for (size_t l = 0; l < k; l++) for (size_t j = 0; j < m; j++) c[i * m + j] += a[i * k + l] * b[l * m + j];
    return c;
}
Matrix transposed(const Matrix& a, size_t n, size_t m) {
    Matrix t(n * m);
    for (size_t i = 0; i < n; i++) for (size_t j = 0; j < m; j++) t[j * n + i] = a[i * m + j];
    return t;
}

// Singular value decomposition by one-sided Jacobi rotations (Golub and Van Loan, 8.6.3) of the rows of a (r, c), r <= c: rows become orthogonal, U gathers
// the rotations: a = U diag(s) V^T.
struct Svd { Matrix u, s, vt; };
Svd svd(Matrix a, size_t r, size_t c) {
    Matrix ut(r * r);
    for (size_t i = 0; i < r; i++) ut[i * r + i] = 1;
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0;
        for (size_t p = 0; p < r; p++)
            for (size_t q = p + 1; q < r; q++) {
                double pp = 0, qq = 0, pq = 0;
                for (size_t j = 0; j < c; j++) pp += a[p * c + j] * a[p * c + j], qq += a[q * c + j] * a[q * c + j], pq += a[p * c + j] * a[q * c + j];
                if (std::fabs(pq) <= 1e-15 * std::sqrt(pp * qq) || pq == 0) continue;
                off = std::max(off, std::fabs(pq) / std::sqrt(pp * qq));
                const double zeta = (qq - pp) / (2 * pq), t = (zeta >= 0 ? 1 : -1) / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta)), cs = 1 / std::sqrt(1 + t * t), sn = cs * t;
                const auto rotate = [&](Matrix& x, size_t n) {
                    for (size_t j = 0; j < n; j++) {
                        const double xp = x[p * n + j], xq = x[q * n + j];
                        x[p * n + j] = cs * xp - sn * xq, x[q * n + j] = sn * xp + cs * xq;
                    }
                };
                rotate(a, c), rotate(ut, r);
            }
        if (off < 1e-14) break;
    }
    Matrix s(r);
    for (size_t i = 0; i < r; i++) {
        for (size_t j = 0; j < c; j++) s[i] += a[i * c + j] * a[i * c + j];
        s[i] = std::sqrt(s[i]);
        for (size_t j = 0; j < c; j++) a[i * c + j] /= s[i];
    }
    return {transposed(ut, r, r), s, a};
}
// Of U: U V^T with f(singular value, |U|) in the middle; tall matrices too.
template <class Function> Matrix with_singular_values(const Matrix& x, size_t rows, size_t cols, Function f) {
    const bool tall = rows > cols;
    const size_t r = std::min(rows, cols), c = std::max(rows, cols);
    Svd d = svd(tall ? transposed(x, rows, cols) : x, r, c);
    double norm = 0;
    for (double s : d.s) norm += s * s;
    for (size_t i = 0; i < r; i++) for (size_t j = 0; j < c; j++) d.vt[i * c + j] *= f(d.s[i], std::sqrt(norm));
    const Matrix o = times(d.u, d.vt, r, r, c);
    return tall ? transposed(o, r, c) : o;
}
// The composition of the five polynomials, in double.
double polar_express(double s, double norm) {
    double x = s / (1.02 * norm + 1e-6);
    for (const PolarExpress& p : POLAR_EXPRESS) x = (double)p.a * x + (double)p.b * x * x * x + (double)p.c * x * x * x * x * x;
    return x;
}

// The iterations as they stand, sums in double, each X, A and B rounded to F.
template <class F> Matrix iterate(const Matrix& u, size_t rows, size_t cols) {
    const bool tall = rows > cols;
    const size_t r = std::min(rows, cols), c = std::max(rows, cols);
    const auto rounded = [](Matrix x) {
        for (double& e : x) e = (double)(float)F((float)e);
        return x;
    };
    double norm = 0;
    for (double e : u) norm += e * e;
    Matrix x = tall ? transposed(u, rows, cols) : u;
    for (double& e : x) e /= 1.02 * std::sqrt(norm) + 1e-6;
    x = rounded(x);
    for (const PolarExpress& p : POLAR_EXPRESS) {
        const Matrix a = rounded(times(x, transposed(x, r, c), r, c, r));
        Matrix b = times(a, a, r, r, r);
        for (size_t i = 0; i < b.size(); i++) b[i] = (double)p.b * a[i] + (double)p.c * b[i];
        Matrix y = times(rounded(b), x, r, r, c);
        for (size_t i = 0; i < y.size(); i++) y[i] += (double)p.a * x[i];
        x = rounded(y);
    }
    return tall ? transposed(x, r, c) : x;
}

constexpr float SCALE = 0.7f;
StepStats go() { return {.loss = 3, .norm = 1 / 0.7, .z = NAN, .scale = SCALE, .skip = APPLIED}; }

// So many matrices of one shape, with gaps between them, in four buffers in which they lie at other places.
template <class F> struct Case {
    size_t n, rows, cols, size;
    std::vector<MuonMatrix> matrices;
    std::vector<F> params;
    std::vector<float> grads, m, master;
    Case(Random& r, size_t count, size_t rows_, size_t cols_) : n(count), rows(rows_), cols(cols_), size(rows_ * cols_) {
        for (size_t k = 0; k < n; k++) matrices.push_back({k * (size + 64) + 64, k * (size + 7) + 3, k * (size + 5), k * (size + 1) + 9});
        const size_t all = n * (size + 64) + 64;
        params = normal_values<F>(r, all), grads = normal_values<float>(r, all, 0.01f), m = normal_values<float>(r, all, 0.003f);
        for (const F& p : params) master.push_back((float)p);
    }
    // Updates copies; returns the params.
    struct After { std::vector<F> params; std::vector<float> m, master; StepStats stats; };
    After update(const Muon& h, bool has_master, StepStats stats = go()) const {
        Guarded<F> p(params);
        Guarded<float> mm(m), ma(master);
        Guarded<char> scratch(MuonScratch(n, (int)rows, (int)cols).bytes(sizeof(F)) + 64);
        muon_update(p.data(), has_master ? ma.data() : nullptr, grads.data(), mm.data(), matrices.data(), scratch.data(), &stats, n, (int)rows, (int)cols, h, stream_t{});
        EXPECT(p.untouched() && mm.untouched() && ma.untouched() && scratch.untouched());
        return {p.values(), mm.values(), ma.values(), stats};
    }
};
Muon hyper(int t = 1) { return {.lr = 0.05f, .momentum = 0.9f, .weight_decay = 0.3f, .t = t, .seed = 99}; }

// Nesterov's U of matrix k, in double.
template <class F> Matrix nesterov(const Case<F>& s, size_t k, double mu) {
    Matrix u;
    for (size_t i = 0; i < s.size; i++) {
        const double g = (double)s.grads[s.matrices[k].grad + i] * (double)SCALE, before = (double)s.m[s.matrices[k].state + i], after = before + (1 - mu) * (g - before);
        u.push_back(g + mu * (after - g));
    }
    return u;
}
struct Shape { size_t rows, cols; };
const Shape SHAPES[] = {{1, 1}, {1, 40}, {40, 1}, {7, 7}, {16, 48}, {48, 16}, {31, 7}, {19, 76}, {130, 50}};

// fp32 products of singular values that stay of the order of 1: their derivative by the input is at most that of the first iterations, 8.2 x 4.0 x 3.9 x 3.3
// x 2.3 = 1000, of what is near 0; the rest is less sensitive. An error of 2^-24 x some sqrt(c) a product, times that: 5e-4 of a whole matrix is generous
// for the smallest singular values and would still see a wrong digit in the fourth place of a coefficient.
template <class F> void check_formula(double tolerance, bool master) {
    Random r(5);
    for (const Shape& shape : SHAPES) {
        const Case<F> s(r, 3, shape.rows, shape.cols);
        const Muon h = hyper();
        const auto after = s.update(h, master);
        for (size_t k = 0; k < s.n; k++) {
            const Matrix u = nesterov(s, k, (double)h.momentum), o = std::is_same_v<F, float> ? with_singular_values(u, s.rows, s.cols, polar_express) : iterate<F>(u, s.rows, s.cols);
            const double factor = std::sqrt(std::max(1.0, (double)s.rows / (double)s.cols));
            Matrix moved, expected;
            for (size_t i = 0; i < s.size; i++) {
                const double before = (double)(float)s.params[s.matrices[k].weight + i], start = master ? (double)s.master[s.matrices[k].state + i] : before;
                const double now = master ? (double)after.master[s.matrices[k].state + i] : (double)(float)after.params[s.matrices[k].weight + i];
                moved.push_back(start - now);
                expected.push_back((double)h.lr * (factor * o[i] + (double)h.weight_decay * start));
            }
            EXPECT_CLOSE(moved.data(), expected.data(), s.size, tolerance);
        }
        // all else is as it was
        std::vector<char> inside(s.params.size());
        for (const MuonMatrix& at : s.matrices) for (size_t i = 0; i < s.size; i++) inside[at.weight + i] = 1;
        for (size_t i = 0; i < inside.size(); i++) if (!inside[i] && memcmp(&after.params[i], &s.params[i], sizeof(F))) FAIL("weight %zu is in no matrix", i);
    }
}
}  // namespace

// A step's difference is of weights of 1 and steps of 0.05: their fp32 bits are 1e-6 of it.
TEST(muon_fp32_against_the_singular_values) { check_formula<float>(5e-4, false); }
// Where every X, A and B is rounded to bf16 the result is not that of the singular values: a rounding of 2^-9 early is 2^-9 times up to 1000 late. It is that
// of the same roundings, but where an fp32 sum is on the other side of one: one in some 2^15 / sqrt(c) numbers, by 2^-8 times what becomes of it.
TEST(muon_bf16_against_the_same_roundings) { check_formula<bf16>(0.02, true); }

// As published: singular values from 1e-3 of the norm on come to [0.846, 1.142]; bf16 adds its rounding.
template <class F> static void check_orthogonality(double least, double most) {
    Random r(6);
    for (const Shape& shape : {Shape{16, 48}, {64, 20}, {33, 100}, {1, 40}}) {
        Case<F> s(r, 1, shape.rows, shape.cols);
        std::fill(s.m.begin(), s.m.end(), 0.0f);
        Muon h = hyper();
        h.lr = 1, h.weight_decay = 0;
        std::fill(s.params.begin(), s.params.end(), F(0)), std::fill(s.master.begin(), s.master.end(), 0.0f);
        const auto after = s.update(h, true);
        Matrix x;
        for (size_t i = 0; i < s.size; i++) x.push_back(-(double)after.master[s.matrices[0].state + i] / std::sqrt(std::max(1.0, (double)s.rows / (double)s.cols)));
        const bool tall = s.rows > s.cols;
        for (double value : svd(tall ? transposed(x, s.rows, s.cols) : x, std::min(s.rows, s.cols), std::max(s.rows, s.cols)).s)
            if (value < least || value > most) FAIL("(%zu, %zu): a singular value of %g", s.rows, s.cols, value);
        // and X is near U V^T: within what its singular values are from 1
        const Matrix u = nesterov(s, 0, (double)h.momentum), exact = with_singular_values(u, s.rows, s.cols, [](double, double) { return 1.0; });
        EXPECT_CLOSE(x.data(), exact.data(), s.size, std::max(most - 1, 1 - least));
    }
}
TEST(muon_orthogonality_fp32) { check_orthogonality<float>(0.846, 1.142); }
TEST(muon_orthogonality_bf16) { check_orthogonality<bf16>(0.82, 1.18); }

// A matrix's bits are its own: alone, among others, by any number of threads.
template <class F> static void check_alone() {
    Random r(7);
    for (const Shape& shape : {Shape{19, 76}, {130, 50}}) {
        Case<F> s(r, 4, shape.rows, shape.cols);
        const auto all = s.update(hyper(), true);
        std::vector<F> params = s.params;
        std::vector<float> master = s.master;
        for (int k = 3; k >= 0; k--) {
            Case<F> one = s;
            one.n = 1, one.matrices = {s.matrices[(size_t)k]};
            const auto after = one.update(hyper(), true);
            std::copy_n(&after.params[one.matrices[0].weight], s.size, &params[one.matrices[0].weight]);
            std::copy_n(&after.master[one.matrices[0].state], s.size, &master[one.matrices[0].state]);
        }
        EXPECT(same_bits(params, all.params) && same_bits(master, all.master));
    }
}
TEST(muon_matrices_are_independent) { check_alone<float>(), check_alone<bf16>(); }

// bf16 parameters are their master, rounded with the bits that rounding_bits names for the element's place in the whole model.
TEST(muon_rounds_the_master) {
    Random r(8);
    const Case<bf16> s(r, 2, 13, 21);
    const Muon h = hyper(5);
    const auto after = s.update(h, true), alone = s.update(h, false);
    for (const MuonMatrix& at : s.matrices)
        for (size_t i = 0; i < s.size; i++) {
            EXPECT_EQ(after.params[at.weight + i].bits, round_stochastic(after.master[at.state + i], rounding_bits(h.seed, h.t, at.first + i)).bits);
            EXPECT(std::fabs((float)alone.params[at.weight + i] - (float)s.params[at.weight + i]) < 1);
        }
}

// The step guard's skip changes nothing; a NaN or an infinity in gradients or momentum is told; a gradient of 0 moves nothing but the decay; one whose square
// is no float is orthogonalised like any.
TEST(muon_step_guard) {
    Random r(9);
    const Case<float> s(r, 2, 8, 24);
    StepStats skip = go();
    skip.skip = NOT_FINITE;
    const auto skipped = s.update(hyper(), false, skip);
    EXPECT(same_bits(skipped.params, s.params) && same_bits(skipped.m, s.m) && !skipped.stats.not_finite);
    EXPECT(!s.update(hyper(), false).stats.not_finite);
    for (float bad : {NAN, INFINITY}) {
        Case<float> g = s, m = s, w = s;
        g.grads[g.matrices[1].grad + 5] = bad, m.m[m.matrices[1].state + 5] = bad, w.params[w.matrices[0].weight + 5] = bad;
        for (const Case<float>& x : {g, m, w}) EXPECT(x.update(hyper(), false).stats.not_finite);
    }
    Case<float> none = s, huge = s;
    std::fill(none.grads.begin(), none.grads.end(), 0.0f), std::fill(none.m.begin(), none.m.end(), 0.0f);
    const auto still = none.update(hyper(), false);
    for (const MuonMatrix& at : s.matrices)
        for (size_t i = 0; i < s.size; i++) EXPECT(std::fabs(still.params[at.weight + i] - s.params[at.weight + i] * (1 - 0.05f * 0.3f)) < 1e-6f);
    for (float& g : huge.grads) g *= 1e30f;
    for (float& m : huge.m) m *= 1e30f;
    const auto far = huge.update(hyper(), false), near = s.update(hyper(), false);
    EXPECT_CLOSE(far.params.data(), near.params.data(), s.params.size(), 1e-3);
}
