#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/step_guard.h"
}
#include "../../llmc/cuda/step_guard.cuh"

// Sums of small whole numbers are exact: bitwise identical in any order.
TEST(cuda_sum_of_losses) {
    Random r(1);
    for (size_t n : {1, 31, 1024, 5000}) {
        std::vector<float> losses = small_integers<float>(r, n, 0, 9);
        double sum = 7;
        cpu::sum_losses(&sum, losses.data(), n, true, {});
        for (bool accumulate : both()) {
            auto got = for_schedules([&] {
                OnDevice<float> l(losses);
                OnDevice<double> s(1);
                if (accumulate) s.set({7.0});
                TestStream stream;
                sum_losses(s.data(), l.data(), n, accumulate, stream);
                return s.written();
            });
            EXPECT_EQ(got[0], accumulate ? sum : sum - 7);
        }
    }
}

// 300 steps with a spike, a NaN and a large gradient: statistics and history as on the CPU.
TEST(cuda_step_guard) {
    Random r(2);
    const StepLimits limits{.grad_clip = 1, .skip_loss_z = 4, .skip_grad_z = 4};
    History history{};
    OnDevice<History> device_history(std::vector<History>(1, history));
    OnDevice<StepStats> step_stats(1);
    // two leaves and 1500 chunks, more than the block has threads, of two ranks, in whatever order they lie
    constexpr size_t LEAVES = 2, CHUNKS = 1500;
    std::vector<unsigned> order(LEAVES + CHUNKS);
    for (size_t i = 0; i < order.size(); i++) order[i] = (unsigned)((i * 7 + 5) % order.size());  // 7 does not divide 1502
    std::vector<double> sums(order.size());
    OnDevice<double> device_sums(sums.size());
    OnDevice<unsigned> device_order(order);
    TestStream stream;
    int skips[4] = {};
    for (int step = 0; step < 300; step++) {
        double l = 3 + 0.1 * (double)r.normal(), n = 1.1 + 0.1 * (double)r.normal();
        if (step == 150) l = 9;
        if (step == 160) n = 30;
        if (step == 170) l = NAN;
        if (step == 180) n = INFINITY;
        l = std::round(l * 1024) / 1024, n = std::round(n * 1024) / 1024;  // whole numbers of 2^-20: their sums are exact in any order
        for (size_t i = 0; i < order.size(); i++) sums[order[i]] = i < LEAVES ? l * 8 : i == LEAVES + 1234 ? n * n - 1499.0 / 2048 : 1.0 / 2048;
        device_sums.set(sums);
        StepStats expected;
        cpu::guard_step(&expected, &history, sums.data(), order.data(), LEAVES, CHUNKS, 16, limits, {});
        guard_step(step_stats.data(), device_history.data(), device_sums.data(), device_order.data(), LEAVES, CHUNKS, 16, limits, stream);
        const StepStats got = step_stats.values()[0];
        EXPECT_EQ(got.skip, expected.skip);
        EXPECT_EQ(got.scale, expected.scale);
        if (std::isfinite(l) && std::isfinite(n)) {
            EXPECT_EQ(got.loss, expected.loss);
            EXPECT_EQ(got.norm, expected.norm);
        }
        if (got.skip == LOSS_SPIKE || got.skip == NORM_SPIKE) EXPECT(std::fabs(got.z - expected.z) < 1e-9 * expected.z);
        skips[got.skip]++;
    }
    EXPECT_EQ(skips[NOT_FINITE], 2);
    EXPECT(skips[LOSS_SPIKE] >= 1 && skips[NORM_SPIKE] >= 1 && skips[APPLIED] > 290);
    const History end = device_history.values()[0];
    EXPECT_EQ(end.losses.count, history.losses.count);
    for (int i = 0; i < end.losses.count; i++) EXPECT_EQ(end.losses.values[i], history.losses.values[i]);
}
