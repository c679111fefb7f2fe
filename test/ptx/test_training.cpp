// A training step of the whole trainer by nvcc's code, beside the CPU trainer: one step of a tiny model, as an instruction takes some nanoseconds here.
#include "../cuda/train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/training";

void step(const char* trainer, const std::string& out, const std::string& options) {
    const char* run = "%s -i %s/text.txt --cache %s/cache -o %s/%s -e d2c48h3 -b 1 -t 24 -d 24 -x 1 -v 0 -s 0 -n 1 -l 3e-3 --tf32 0 %s";
    const std::string command = format(run, trainer, SCRATCH.c_str(), SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), options.c_str());
    const Outcome o = run_command(command);
    if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
}
void expect_near(const std::string& options, const char* field, double bound) {
    const std::vector<double> a = series("cuda", field), b = series("cpu", field);
    if (a.size() != 1 || b.size() != 1) FAIL("%s: not one %s of each", options.c_str(), field);
    else if (!(std::fabs(a[0] - b[0]) <= bound * b[0])) FAIL("%s: %s %.7f and %.7f", options.c_str(), field, a[0], b[0]);
}

// Losses and norms as near to the CPU's as test_train has them; each level of recomputation leaves the same bits, GELU being a kernel of its own.
void compare(const std::string& options, const std::vector<int>& levels) {
    const double bound = options.find("fp32") != options.npos ? 1e-5 : 0x1p-7;
    step(TRAINER, "cpu", options);
    step(CUDA_TRAINER, "cuda", options + " --attention ours -ge 0");
    expect_near(options, "loss", bound), expect_near(options, "grad_norm", 2 * bound);
    for (int level : levels) {
        step(CUDA_TRAINER, "again", format("%s --attention ours -ge 0 -r %d", options.c_str(), level));
        for (std::string file : {"/step_00000001/model.safetensors", "/step_00000001/state-00000.safetensors"})
            if (!same_file("cuda" + file, "again" + file)) FAIL("%s -r %d: %s differs", options.c_str(), level, file.c_str());
        remove_tree(SCRATCH + "/again");
    }
    remove_tree(SCRATCH + "/cuda"), remove_tree(SCRATCH + "/cpu");
}
}  // namespace

TEST(step_of_every_recompute_level) {
    prepare();
    compare("--precision fp32", {1, 2, 3}), compare("--precision bf16", {1, 2, 3});
}

TEST(step_of_llama_and_qwen3) {
    prepare();
    compare("-e llama:d2c48h6k2f40 --precision fp32", {}), compare("-e llama:d2c48h6k2f40 --precision bf16", {3});
    compare("-e modern:d2c48h6w7 --init-std 0.1 --precision fp32", {}), compare("-e modern:d2c48h6w7 --init-std 0.1 --precision bf16 --doc-mask 1", {3});
    compare("-e qwen3:d2c48h4k2s24f56 --precision fp32", {}), compare("-e qwen3:d2c48h4k2s24f56 --precision bf16", {2});
}
