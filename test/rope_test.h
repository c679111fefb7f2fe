// rope_test.h: what the tests of both backends' rope share: cases, and the oracle in double, a head at a time.
#pragma once
#include <algorithm>
#include <vector>
#include "../llmc/base/heads.h"
#include "layers.h"

struct RopeSize { int B, T, pos; Heads heads; };

// The angles of a position are theta^(-2i/HS) times it, here as any other numbers would do; rows before pos and after the last are there.
template <class F> struct RopeCase {
    int B, T, pos;
    Heads heads;
    bool normed, weighted;
    float eps;  // 0 without norm; a model's, or as large as the mean square, so that a misplaced one shows
    std::vector<F> inp, dout, qw, kw;
    std::vector<float> cos_sin, dqw, dkw;  // dqw, dkw: what gradients are added to
    // norm: 0 none, 1 with weights, 2 without
    RopeCase(Random& r, const RopeSize& s, int norm) : B(s.B), T(s.T), pos(s.pos), heads(s.heads), normed(norm > 0), weighted(norm == 1), eps(!norm ? 0 : s.T % 2 ? 1e-6f : 0.7f) {
        const size_t n = (size_t)B * (size_t)T * (size_t)heads.qkv(), HS = (size_t)heads.HS;
        inp = normal_values<F>(r, n, 1, 0.5f), dout = normal_values<F>(r, n);
        qw = normal_values<F>(r, HS, 0.3f, 1), kw = normal_values<F>(r, HS, 0.3f, 1);
        if (normed && !weighted) qw.assign(HS, F(1.0f)), kw = qw;
        dqw = normal_values<float>(r, HS), dkw = normal_values<float>(r, HS);
        for (int p = 0; p <= pos + T; p++)
            for (int part = 0; part < 2; part++)
                for (int i = 0; i < heads.HS / 2; i++) {
                    const double angle = p * std::pow(100.0, -2.0 * i / heads.HS);
                    cos_sin.push_back((float)(part ? std::sin(angle) : std::cos(angle)));
                }
    }
    size_t N() const { return (size_t)B * (size_t)T; }
    size_t rotated() const { return (size_t)(heads.NH + heads.NKV); }  // heads of a token
    size_t at(size_t n, size_t head) const { return n * (size_t)heads.qkv() + head * (size_t)heads.HS; }
    const F* weight(size_t head) const { return head < (size_t)heads.NH ? qw.data() : kw.data(); }
    const float* angles(size_t n, int first) const { return cos_sin.data() + ((size_t)first + n % (size_t)T) * (size_t)heads.HS; }
    // The head at x, whose weights follow it in v if it is normed.
    std::vector<double> exact_head(const std::vector<double>& v, const float* angle) const {
        const size_t HS = (size_t)heads.HS, half = HS / 2;
        std::vector<double> x(v.begin(), v.begin() + (long)HS), y(HS);
        if (normed) {
            double mean = 0;
            for (double e : x) mean += e * e / (double)HS;
            for (size_t i = 0; i < HS; i++) x[i] *= v[HS + i] / std::sqrt(mean + (double)eps);
        }
        for (size_t i = 0; i < half; i++) {
            const double c = angle[i], s = angle[half + i];
            y[i] = x[i] * c - x[half + i] * s, y[half + i] = x[half + i] * c + x[i] * s;
        }
        return y;
    }
    std::vector<double> head_and_weights(size_t n, size_t head) const {
        std::vector<double> v;
        for (int i = 0; i < heads.HS; i++) v.push_back((double)(float)inp[at(n, head) + (size_t)i]);
        for (int i = 0; normed && i < heads.HS; i++) v.push_back((double)(float)weight(head)[i]);
        return v;
    }
    // Sums of squares: HS / 4 additions one after the other or fewer, half of whose error the root leaves; root, quotient, products.
    double roundings() const { return heads.HS / 8.0 + 10; }

    // What is written: values as they were. Of a rotated pair (a, b) an element is off by three roundings of hypot(a, b) at most.
    void check_forward(const std::vector<F>& out) const {
        std::vector<double> exact, got;
        double size = 0;
        for (size_t n = 0; n < N(); n++) {
            for (size_t h = 0; h < rotated(); h++) {
                const std::vector<double> v = head_and_weights(n, h), y = exact_head(v, angles(n, pos));
                exact.insert(exact.end(), y.begin(), y.end());
                for (int i = 0; i < heads.HS; i++) got.push_back((double)(float)out[at(n, h) + (size_t)i]);
            }
            if (memcmp((const void*)(out.data() + at(n, rotated())), (const void*)(inp.data() + at(n, rotated())), (size_t)heads.kv() * sizeof(F))) FAIL("values of token %zu", n);
        }
        size = norm(exact);  // a rotation does not change it
        EXPECT_NEAR(got.data(), exact.data(), got.size(), half_ulp<F>() * size + (normed ? roundings() + 5 : 5) * 0x1p-24 * size);
    }

    // Against central differences of sum(out * dout) by the head's elements and weights. g, dout rotated back, is off by three roundings of its pair's
    // size; dx is a difference of terms of the size rstd * g * weight; dw sums g * n over tokens and heads.
    void check_backward(const std::vector<F>& dx, const std::vector<float>& dq, const std::vector<float>& dk, bool accumulate) const {
        const size_t HS = (size_t)heads.HS;
        std::vector<double> exact, got, dw[2], dw_size(HS);
        for (int k = 0; k < 2; k++) dw[k].assign(HS, 0);
        double size = 0;
        for (size_t n = 0; n < N(); n++) {
            for (size_t h = 0; h < rotated(); h++) {
                const std::vector<double> v = head_and_weights(n, h);
                const std::vector<double> d = central_differences(v, [&](const std::vector<double>& u) {
                    const std::vector<double> y = exact_head(u, angles(n, 0));
                    double sum = 0;
                    for (size_t i = 0; i < HS; i++) sum += y[i] * (double)(float)dout[at(n, h) + i];
                    return sum;
                });
                double squares = 0;
                for (size_t i = 0; i < HS; i++) squares += v[i] * v[i] / (double)HS;
                const double rstd = normed ? 1 / std::sqrt(squares + (double)eps) : 1;
                for (size_t i = 0; i < HS; i++) {
                    const double pair = std::hypot((double)(float)dout[at(n, h) + i], (double)(float)dout[at(n, h) + (i + HS / 2) % HS]), w = normed ? v[HS + i] : 1;
                    size += std::pow(rstd * pair * w, 2), dw_size[i] += pair * std::fabs(v[i]) * rstd;
                    if (normed) dw[h >= (size_t)heads.NH][i] += d[HS + i];
                    exact.push_back(d[i]), got.push_back((double)(float)dx[at(n, h) + i]);
                }
            }
            if (memcmp((const void*)(dx.data() + at(n, rotated())), (const void*)(dout.data() + at(n, rotated())), (size_t)heads.kv() * sizeof(F))) FAIL("gradients of values of token %zu", n);
        }
        EXPECT_NEAR(got.data(), exact.data(), got.size(), half_ulp<F>() * norm(exact) + (4 * (roundings() + 5) * 0x1p-24 + 1e-9) * std::sqrt(size));
        if (!weighted) return;
        for (int k = 0; k < 2; k++) {
            const std::vector<float>&before = k ? dkw : dqw, &after = k ? dk : dq;
            for (size_t i = 0; accumulate && i < HS; i++) dw[k][i] += (double)before[i];
            EXPECT_NEAR(after.data(), dw[k].data(), HS, (((double)(N() * rotated()) + roundings() + 5) * 0x1p-24 + 1e-9) * (norm(dw_size) + accumulate * norm(before)));
        }
    }
};

// Every number of heads with every size of them; the last has more tokens than the chunks that are in flight at a time.
inline std::vector<RopeSize> rope_sizes() {
    std::vector<RopeSize> sizes;
    for (int HS : {8, 24, 64, 128}) sizes.insert(sizes.end(), {{1, 7, 0, {1, 1, HS}}, {2, 2, 5, {6, 2, HS}}, {2, 3, 1, {9, 3, HS}}});
    sizes.push_back({1, 1, 3, {2, 1, 16}}), sizes.push_back({3, 350, 0, {2, 1, 8}});
    return sizes;
}
