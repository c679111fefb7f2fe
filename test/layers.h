// layers.h: what the tests of layers share: random inputs, buffers that notice a stray or a missing write, tolerances.
#pragma once
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <vector>
#include "../llmc/base/bf16.h"
#include "../llmc/base/threads.h"
#include "../llmc/base/rng.h"
#include "test.h"

// Numbers of a test depend on its seed alone.
struct Random {
    uint64_t seed, count = 0;
    explicit Random(uint64_t s) : seed(s) {}
    uint32_t word() { return philox(seed, RNG_TEST, 0, count++).x[0]; }
    int between(int low, int high) { return low + (int)(word() % (uint32_t)(high - low + 1)); }  // both included
    float normal() {
        Random4 r = philox(seed, RNG_TEST, 1, count++);
        float a, b;
        normal_pair(r.x[0], r.x[1], a, b);
        return a;
    }
};

// Values are rounded to F first and the oracle starts from the rounded ones, so an error is the layer's alone.
template <class F> std::vector<F> normal_values(Random& random, size_t n, float stddev = 1, float mean = 0) {
    std::vector<F> x(n);
    for (F& e : x) e = F(mean + stddev * random.normal());
    return x;
}
template <class F> std::vector<double> in_double(const std::vector<F>& x) {
    std::vector<double> y;
    for (const F& e : x) y.push_back((double)(float)e);
    return y;
}

// A buffer with margins. Poisoned at first: every byte 0xff, a NaN that no arithmetic produces.
template <class F> struct Guarded {
    static constexpr size_t MARGIN = 64;
    std::vector<F> all;
    explicit Guarded(size_t n) : all(n + 2 * MARGIN) { memset((void*)all.data(), 0xff, all.size() * sizeof(F)); }
    explicit Guarded(const std::vector<F>& values) : Guarded(values.size()) {
        if (!values.empty()) memcpy((void*)data(), values.data(), values.size() * sizeof(F));
    }
    size_t size() const { return all.size() - 2 * MARGIN; }
    F* data() { return all.data() + MARGIN; }
    F& operator[](size_t i) { return data()[i]; }
    std::vector<F> values() { return std::vector<F>(data(), data() + size()); }
    static bool poisoned(const F& e) {
        unsigned char bytes[sizeof(F)], poison[sizeof(F)];
        memcpy(bytes, &e, sizeof(F)), memset(poison, 0xff, sizeof(F));
        return !memcmp(bytes, poison, sizeof(F));
    }
    bool written() {   // no element was left out
        for (size_t i = 0; i < size(); i++) if (poisoned(data()[i])) return false;
        return true;
    }
    bool untouched() { // nothing was written beside it
        for (size_t i = 0; i < MARGIN; i++) if (!poisoned(all[i]) || !poisoned(all[all.size() - 1 - i])) return false;
        return true;
    }
};
#define EXPECT_WHOLE(buffer) do { EXPECT((buffer).written()); EXPECT((buffer).untouched()); } while (0)

template <class F> bool same_bits(const std::vector<F>& a, const std::vector<F>& b) {
    return a.size() == b.size() && (a.empty() || !memcmp((const void*)a.data(), (const void*)b.data(), a.size() * sizeof(F)));
}

// A stored F is off by at most half a unit in the last of its 24 or 8 bits.
template <class F> constexpr double half_ulp() { return std::is_same_v<F, float> ? 0x1p-24 : 0x1p-8; }
// Relative error of a result that took `roundings` roundings in fp32 and one to F.
template <class F> constexpr double tolerance(double roundings) { return half_ulp<F>() + roundings * 0x1p-24; }

template <class A> double norm(const A& a) {
    double sum = 0;
    for (auto& e : a) sum += (double)(float)e * (double)(float)e;
    return std::sqrt(sum);
}
template <class A, class B> double distance(const A* a, const B* b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return std::sqrt(sum);
}
// ||a - b|| <= bound, for results whose size is not that of what they were computed from (differences that cancel).
#define EXPECT_NEAR(a, b, n, bound) do { double d_ = distance(a, b, n); \
    if (!(d_ <= (bound))) FAIL("%s: distance %.3g > %.3g", #a, d_, (double)(bound)); } while (0)

// d[i] = (f(x with x[i] + h) - f(x with x[i] - h)) / 2h.  In double with h = 1e-5 it is right to about 1e-9: the series
// breaks off at h^2, and the difference of two values loses 2^-53 / h.
template <class Function> std::vector<double> central_differences(std::vector<double> x, Function f) {
    constexpr double h = 1e-5;
    std::vector<double> d(x.size());
    for (size_t i = 0; i < x.size(); i++) {
        const double at = x[i];
        x[i] = at + h;
        const double above = f(x);
        x[i] = at - h;
        d[i] = (above - f(x)) / (2 * h);
        x[i] = at;
    }
    return d;
}

// Runs body with 1, 2 and 3 threads; it returns a vector whose bits must not change.
template <class Body> bool same_bits_for_any_threads(Body body) {
    const int before = max_threads();
    set_threads(1);
    const auto expected = body();
    bool same = true;
    for (int threads : {2, 3}) {
        set_threads(threads);
        same = same && same_bits(body(), expected);
    }
    set_threads(before);
    return same;
}

// TEST_BOTH(name) { ... F ... } runs its body for F = float and F = bf16.
#define TEST_BOTH(name) \
    template <class F> static void name##_for(); \
    TEST(name) { name##_for<float>(), name##_for<bf16>(); } \
    template <class F> static void name##_for()
