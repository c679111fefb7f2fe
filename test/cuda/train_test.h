// train_test.h: what the tests of the CUDA trainer share. Who includes it has a SCRATCH of its own, as files of tests run at the same time.
#pragma once
#include "../trainer_runs.h"

namespace {
extern const std::string SCRATCH;

// Where every access is looked at, a run takes minutes: the last of several kinds of run, bf16 with what it needs, stands for all.
const bool SLOW = strstr(BUILD, "asan") || strstr(BUILD, "watch");
[[maybe_unused]] std::vector<std::string> kinds(std::vector<std::string> all) {
    if (SLOW) all.erase(all.begin(), all.end() - 1);
    return all;
}

// Half of the tokens where a run is slow: 12 a row are still no whole tile.
std::string train_command(const char* trainer, const std::string& out, const std::string& rest) {
    return format("%s -i %s/text.txt -o %s/%s -e d2c48h3 -b 2 -t %d -d %d -v 5 -m 2 -s 0 -l 3e-3 -u 2 --cache %s/cache %s", trainer, SCRATCH.c_str(),
                  SCRATCH.c_str(), out.c_str(), SLOW ? 12 : 24, SLOW ? 48 : 96, SCRATCH.c_str(), rest.c_str());
}
[[maybe_unused]] void train(const char* trainer, const std::string& out, const std::string& rest) {
    Outcome outcome = run_command(train_command(trainer, out, rest));
    if (outcome.code) FAIL("%s %s: exit code %d: %s", trainer, rest.c_str(), outcome.code, outcome.output.c_str());
}
[[maybe_unused]] void prepare() { prepare_text(SCRATCH, 400); }
std::string contents(const std::string& path) { return file_contents(SCRATCH + "/" + path); }
std::vector<double> series(const std::string& out, const char* field) { return metrics_of(SCRATCH + "/" + out, field); }
[[maybe_unused]] bool same_file(const std::string& a, const std::string& b) { return contents(a) == contents(b); }

// What a model writes greedily, through the cache of keys and values, is the CPU trainer's text.
[[maybe_unused]] void expect_same_text(const std::string& options) {
    train(TRAINER, "cpu", options + " -x 10 -n 10");
    std::string text[2];
    for (int i = 0; i < 2; i++) {
        Outcome o = run_command(format("%s -e %s/cpu/step_00000010 -x 0 --tf32 0 --prompt Anna --temperature 0 -g 12", i ? CUDA_TRAINER : TRAINER, SCRATCH.c_str()));
        EXPECT_EQ(o.code, 0);
        text[i] = o.output.substr(std::min(o.output.rfind("Anna"), o.output.size()));
    }
    EXPECT(text[0].size() > 8);
    EXPECT_STR(text[1], text[0]);
}

[[maybe_unused]] void expect_same_losses(const std::string& a, const std::string& b, double tolerance) {
    for (const char* field : {"loss", "val_loss"}) {
        std::vector<double> x = series(a, field), y = series(b, field);
        EXPECT(x.size() == y.size() && x.size() >= 3);
        for (size_t i = 0; i < x.size() && i < y.size(); i++)
            if (!(std::fabs(x[i] - y[i]) <= tolerance * std::fabs(y[i])))
                FAIL("%s and %s: %s %zu: %.7f and %.7f", a.c_str(), b.c_str(), field, i, x[i], y[i]);
    }
    const std::vector<double> losses = series(a, "loss");
    EXPECT(!losses.empty() && losses.back() < 0.95 * losses.front());  // they have learnt
}
}  // namespace
