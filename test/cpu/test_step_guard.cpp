#include <deque>
#include <limits>
#include "../../llmc/cpu/step_guard.h"
#include "../layers.h"

constexpr double INFINITE = std::numeric_limits<double>::infinity(), NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();
constexpr StepLimits NO_GUARD{.grad_clip = 0, .skip_loss_z = 0, .skip_grad_z = 0};

// 128 values, half of them center - 1 and half center + 1: their mean is center, their deviation 1, both exactly.
static Window even_window(double center) {
    Window w{};
    for (int i = 0; i < Window::SIZE; i++) w.z_score(i % 2 ? center + 1 : center - 1);
    return w;
}
template <class X> static bool same(const X& a, const X& b) { return !memcmp(&a, &b, sizeof(X)); }

// Against mean and deviation in long double over a list that is kept plainly. Sums of 128 terms of size `largest` are off by
// d = 130 * 2^-53 * largest at most; that moves x - mean by d and the deviation by as much, and so do the roundings of the
// variance's own sum.
TEST(window_z_scores) {
    Random r(1);
    for (double level : {0.0, 3.0, 1e6}) {
        Window w{};
        std::deque<double> last;
        for (int i = 0; i < 700; i++) {
            const double x = level + r.normal() * (i % 50 == 49 ? 20 : 0.5), z = w.z_score(x);
            if (i < Window::SIZE) EXPECT(std::isnan(z));
            else {
                long double mean = 0, variance = 0, largest = 0;
                for (double v : last) mean += v, largest = std::max(largest, std::abs((long double)v));
                mean /= 128;
                for (double v : last) variance += (v - mean) * (v - mean);
                const long double deviation = std::sqrt(variance / 128), exact = (x - mean) / deviation;
                EXPECT(std::abs(z - exact) <= 130 * 0x1p-53L * (largest / deviation * (1 + std::abs(exact)) + std::abs(exact)));
                last.pop_front();
            }
            last.push_back(x);
            EXPECT_EQ(w.count, (int)last.size());
            EXPECT(std::equal(last.begin(), last.end(), w.values));
        }
    }
    Window same_value{};  // no deviation: nothing is unusual
    for (int i = 0; i < 128; i++) same_value.z_score(2.5);
    EXPECT_EQ(same_value.z_score(99), 0.0);
    EXPECT(same_value.z_score(99) > 10);  // the first 99 is one of the 128 now: (99 - m) / s = sqrt(127)
}

TEST(step_guard_clips) {
    struct Case { double norm, clip; float scale; };
    for (Case c : {Case{4, 1, 0.25f}, {1.25, 1, 0.8f}, {0.5, 1, 1}, {1, 1, 1}, {1e30, 0, 1}, {0, 1, 1}, {1e30, 1, 1e-30f},
                   {3, 0.3, (float)(0.3 / 3)}}) {
        History h{};
        const StepStats v = check_step(h, 2, c.norm, {.grad_clip = c.clip, .skip_loss_z = 0, .skip_grad_z = 0});
        EXPECT_EQ(v.scale, c.scale);
        EXPECT_EQ(v.skip, (int)APPLIED);
        EXPECT(v.loss == 2 && v.norm == c.norm && std::isnan(v.z));
    }
}

// Nothing is skipped for a z-score before there are 128 values, nor where the limit is 0.
TEST(step_guard_waits_for_its_window) {
    for (bool limited : {true, false}) {
        History h{};
        const StepLimits limits{.grad_clip = 0, .skip_loss_z = limited ? 3.0 : 0, .skip_grad_z = limited ? 3.0 : 0};
        for (int i = 0; i < 128; i++)
            EXPECT_EQ(check_step(h, i == 100 ? 1e9 : 2 + i % 2, i == 101 ? 1e9 : i % 2, limits).skip, (int)APPLIED);
        EXPECT(h.losses.count == 128 && h.norms.count == 128);
        const int skip = check_step(h, 1e12, 1, limits).skip;
        EXPECT_EQ(skip, limited ? (int)LOSS_SPIKE : (int)APPLIED);
        EXPECT(h.losses.count == 128 && h.losses.values[127] == 1e12);  // what was skipped belongs to the history too
    }
}

TEST(step_guard_skips_spikes) {
    const History even{even_window(5), even_window(1)};
    struct Case { double loss, norm, loss_limit, norm_limit; Skip skip; double z; };
    for (Case c : {Case{5, 1, 3, 3, APPLIED, NOT_A_NUMBER},
                   {8, 4, 3, 3, APPLIED, NOT_A_NUMBER},   // 3 deviations are not above 3
                   {9, 1, 3, 3, LOSS_SPIKE, 4},
                   {5, 9, 3, 3, NORM_SPIKE, 8},
                   {9, 9, 3, 3, LOSS_SPIKE, 4},           // both: the loss is told
                   {9, 9, 0, 3, NORM_SPIKE, 8},
                   {9, 9, 3, 0, LOSS_SPIKE, 4},
                   {9, 9, 0, 0, APPLIED, NOT_A_NUMBER},
                   {9, 9, 5, 9, APPLIED, NOT_A_NUMBER},
                   {-90, 0, 3, 3, APPLIED, NOT_A_NUMBER}}) {  // far below is no spike
        History h = even;
        const StepStats v = check_step(h, c.loss, c.norm, {.grad_clip = 2, .skip_loss_z = c.loss_limit, .skip_grad_z = c.norm_limit});
        EXPECT_EQ(v.skip, (int)c.skip);
        EXPECT(std::isnan(c.z) ? std::isnan(v.z) : v.z == c.z);
        EXPECT_EQ(v.scale, c.norm > 2 ? (float)(2 / c.norm) : 1.0f);
        EXPECT(h.losses.values[127] == c.loss && h.norms.values[127] == c.norm && h.losses.values[0] == even.losses.values[1]);
    }
}

TEST(step_guard_leaves_out_what_is_not_finite) {
    for (bool full : {true, false})
        for (double bad : {NOT_A_NUMBER, INFINITE, -INFINITE})
            for (bool in_norm : {true, false}) {
                if (in_norm && bad == -INFINITE) continue;  // a length is not negative
                History h{}, before;
                if (full) h = {even_window(5), even_window(1)};
                memcpy(&before, &h, sizeof h);
                const StepStats v = check_step(h, in_norm ? 5 : bad, in_norm ? bad : 1,
                                        {.grad_clip = 1, .skip_loss_z = 3, .skip_grad_z = 3});
                EXPECT_EQ(v.skip, (int)NOT_FINITE);
                EXPECT(same(h, before));
            }
    History h{};  // the largest numbers are numbers
    EXPECT_EQ(check_step(h, -std::numeric_limits<double>::max(), std::numeric_limits<double>::max(), NO_GUARD).skip, (int)APPLIED);
}

// Floats are exact in double; a sum of N of them is off by N 2^-53 of the sum of their sizes at most.
TEST(sum_losses) {
    Random r(2);
    for (size_t N : {1, 2, 7, 1000, 4097}) {
        const auto losses = normal_values<float>(r, N, 3, 10);
        double exact = 0, size = 0;
        for (float l : losses) exact += (double)l, size += std::fabs((double)l);
        Guarded<double> sum(1);
        sum_losses(sum.data(), losses.data(), N, false, stream_t{});
        EXPECT_WHOLE(sum);
        EXPECT(std::fabs(sum[0] - exact) <= (double)N * 0x1p-53 * size);
        sum_losses(sum.data(), losses.data(), N, true, stream_t{});
        EXPECT(std::fabs(sum[0] - 2 * exact) <= 3 * (double)N * 0x1p-53 * size);
        const auto whole = std::vector<float>(N, 3);
        sum[0] = 17;
        sum_losses(sum.data(), whole.data(), N, true, stream_t{});
        EXPECT_EQ(sum[0], 17.0 + 3.0 * (double)N);
    }
    Guarded<double> sum(1);
    const float bad[] = {1, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
    sum_losses(sum.data(), bad, 2, false, stream_t{});
    EXPECT_EQ(sum[0], INFINITE);
    sum_losses(sum.data(), bad, 3, false, stream_t{});
    EXPECT(std::isnan(sum[0]));
}

TEST(guard_step) {
    Random r(3);
    History h{}, expected_h{};
    const StepLimits limits{.grad_clip = 1, .skip_loss_z = 2, .skip_grad_z = 2};
    int skipped = 0;
    for (int i = 0; i < 300; i++) {
        const double loss_sum = 24 * (3 + r.normal()), norm = std::fabs(1 + r.normal());
        const double squared = i == 200 ? INFINITE : norm * norm;
        StepStats v;
        memset((void*)&v, 0xff, sizeof v);
        // two leaves and three chunks of two ranks, in whatever order they lie
        const double sums[] = {loss_sum / 4, squared / 2, squared / 4, loss_sum * 3 / 4, squared / 4, NAN};
        const unsigned order[] = {0, 3, 1, 2, 4};
        guard_step(&v, &h, sums, order, 2, 3, 24, limits, stream_t{});
        const StepStats expected = check_step(expected_h, (sums[0] + sums[3]) / 24, std::sqrt(sums[1] + sums[2] + sums[4]), limits);
        EXPECT(v.loss == expected.loss && v.norm == expected.norm && v.scale == expected.scale && v.skip == expected.skip);
        EXPECT(std::isnan(expected.z) ? std::isnan(v.z) : v.z == expected.z);
        EXPECT(same(h, expected_h));
        skipped += v.skip != APPLIED;
    }
    EXPECT(skipped > 1);  // 172 steps of which one in 44 lies two deviations above, in loss or norm
}
