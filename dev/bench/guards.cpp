// guards.cpp: what the guards cost at their defaults, as a share of a step: the step guard, the checksums of weights and moments every 100 steps, what is
// looked at before a save. Each of a guard's passes is timed beside a whole step, in turns, so that what else the machine does meets both; of the ratios the
// median is told, and the interval that holds it in 95 of 100 cases (order statistics, no assumption on how times are distributed).
//     build/bench_guards [MODEL ...]   d6 and d12 if none are named; 4 rows of 64 tokens a step: the smallest steps pay the most
// AdamW's look at its own results is part of its pass (dev/LOG.md, 59); the sums of squares are there for clipping too.
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"
#include <functional>
#include "results.h"

namespace {
struct Pass { const char* name; double every; bool is_guard; std::function<void()> work; std::vector<double> shares = {}; };

double seconds_of(const std::function<void()>& work) {
    const Clock::time_point start = Clock::now();
    work();
    return seconds_since(start);
}

// Of n sorted values, counted from 0, the median lies below value k as often as at most k of n coins fall heads: the largest k for which that is at most 2.5 %.
size_t lower_bound_of_median(size_t n) {
    double chance = std::pow(0.5, (double)n), at_most = chance;  // of k heads; of at most k
    for (size_t k = 1;; k++)
        if (chance *= (double)(n - k + 1) / (double)k, at_most += chance, at_most > 0.025) return k - 1;
}

void measure(const std::string& name) {
    const Config config = config_by_name(name, 50257);
    Model<float> model(config, {.B = 4, .T = 64});
    model.allocate();
    initialize(model, 0.02, 42);
    const Options opt;
    std::vector<int> tokens(2 * model.N());
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = (int)(philox(1, RNG_TEST, 0, i).x[0] % (uint32_t)config.V);
    const Batch batch{&tokens[0], &tokens[model.N()], 0};
    int step = 1;  // not one at which the state is looked at
    const auto whole_step = [&] { forward_backward(model, batch, 0), update(model, opt, 1e-4, step); };
    const size_t n = model.partition.chunks;
    std::vector<Pass> passes;
    passes.push_back({"loss and norm checked", 1, true, [&] {
        sum_losses(model.loss_sum, model.tensors().losses, model.N(), false, model.stream);
        guard_step(model.step_stats, model.history, model.sums, model.sums_order, 1, n, (double)model.N(), {.grad_clip = 1, .skip_loss_z = 0, .skip_grad_z = 0}, model.stream);
    }});
    passes.push_back({"sums of squares of the gradients", 1, false, [&] { sum_gradients(model.gradients(0), model.own_sums() + 1, nullptr, 0, 1, model.chunks, n, 0, model.parameters.elements, model.stream); }});
    passes.push_back({"checksums kept", VERIFY_STATE_EVERY, true, [&] { keep_sums_of_state(model); }});
    passes.push_back({"checksums compared", VERIFY_STATE_EVERY, true, [&] { verify_state(model); }});
    passes.push_back({"finite before a save", (double)opt.checkpoint_every, true, [&] { find_not_finite_state(model); }});
    passes.push_back({"a batch before a save", (double)opt.checkpoint_every, true, [&] { batch_loss(model, batch, {}); }});
    std::vector<double> all, steps;
    whole_step(), keep_sums_of_state(model);
    const size_t rounds = name == "d12" ? 7 : 21;
    for (size_t round = 0; round < rounds; round++) {
        const double before = seconds_of(whole_step);
        keep_sums_of_state(model);
        std::vector<double> took;
        for (Pass& pass : passes) took.push_back(seconds_of(pass.work));
        const double after = seconds_of(whole_step), one = (before + after) / 2;  // on both sides of the passes
        double sum = 0;
        for (size_t i = 0; i < passes.size(); i++) passes[i].shares.push_back(took[i] / passes[i].every / one), sum += passes[i].is_guard ? passes[i].shares.back() : 0;
        all.push_back(sum), steps.push_back(one);
    }
    CHECK(what_changed(model).empty(), "%s", what_changed(model).c_str());
    const auto print = [&](const char* what, double every, std::vector<double> shares, const char* note) {
        std::sort(shares.begin(), shares.end());
        const size_t low = lower_bound_of_median(rounds);
        printf("%-4s %-34s every %4.0f steps  %8.4f %% of a step [%.4f, %.4f]%s\n", name.c_str(), what, every, 100 * median(shares), 100 * shares[low], 100 * shares[rounds - 1 - low], note);
    };
    printf("%-4s a step of 256 tokens: %.1f ms, %zu rounds\n", name.c_str(), 1e3 * median(steps), rounds);
    for (const Pass& pass : passes) print(pass.name, pass.every, pass.shares, pass.is_guard ? "" : "  (for clipping, not counted)");
    print("all guards", 1, all, "");
    fflush(stdout);
}
}  // namespace

int main(int argc, char** argv) {
    for (int i = 1; i < argc; i++) measure(argv[i]);
    if (argc == 1) measure("d6"), measure("d12");
}
