// The CUDA trainer as a user meets it, emulated or on a GPU, beside the CPU trainer: the same options, the same losses.
#include "train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train";

// Where cuDNN's stand-in is linked in, which takes what it is asked for.
std::vector<std::string> with_cudnn([[maybe_unused]] std::string options, std::vector<std::string> others) {
#ifdef LLMC_CUDNN
    if (strstr(CUDA_TRAINER, "emu")) others.insert(others.begin(), options + " --attention cudnn");
#endif
    return others;
}
}  // namespace

// fell on the other side of a rounding boundary; the loss by no more than both together, as it is a mean over many such numbers.
TEST(losses_are_the_cpu_builds) {
    prepare();
    for (std::string options : kinds(with_cudnn("--precision bf16", {"--precision fp32", "--precision bf16 -w 0", "--precision fp32 --doc-mask 1", "--precision bf16"}))) {
        train(TRAINER, "cpu", options + " -x 10 -n 0");
        train(CUDA_TRAINER, "cuda", options + " -x 10 -n 0 --tf32 0");
        expect_same_losses("cuda", "cpu", options.find("fp32") != std::string::npos ? 1e-5 : 0x1p-8);
        remove_tree(SCRATCH + "/cpu"), remove_tree(SCRATCH + "/cuda");
    }
}

// Recomputation, an allocation for each row, and running again leave every bit, but that GELU in the epilogue of its product, which levels 0 and 3 have, does not
// round what it is made of, as levels 1 and 2 do: two classes of equal bits, one with -ge 0.
TEST(bits_stay) {
    prepare();
    for (std::string precision : kinds(with_cudnn("--precision bf16 -x 3", {"--precision fp32 -x 3", "--precision bf16 -x 3"}))) {
        train(CUDA_TRAINER, "fused", precision), train(CUDA_TRAINER, "alone", precision + " -ge 0");
        if (strstr(CUDA_TRAINER, "emu")) EXPECT(!same_file("fused/step_00000003/model.safetensors", "alone/step_00000003/model.safetensors"));  // where it is faster
        const auto expect_the_bits_of = [&](const std::string& a, const std::vector<std::string>& all) {
            for (const std::string& options : kinds(all)) {
                train(CUDA_TRAINER, "b", precision + " " + options);
                for (const char* file : {"/step_00000003/model.safetensors", "/step_00000003/state-00000.safetensors", "/main.log"})
                    if (!same_file(a + file, "b" + std::string(file))) FAIL("%s %s: %s of %s differs", precision.c_str(), options.c_str(), file, a.c_str());
                remove_tree(SCRATCH + "/b");
            }
        };
        expect_the_bits_of("fused", {"", "-r 3", "-r 3 --separate-buffers 1"});
        expect_the_bits_of("alone", {"-r 3 -ge 0", "-r 1", "-r 2 --verify-steps 1"});
        remove_tree(SCRATCH + "/fused"), remove_tree(SCRATCH + "/alone");
    }
}

TEST(writes_the_same) {
    prepare();
    expect_same_text("");
}

// One step from T = 1, B = 1 and a width of 8 on, heads of sizes that are not tuned, 257 tokens.
TEST(sizes) {
    prepare();
    for (std::string model : kinds({"-e d1c8h1 -b 1 -t 1", "-e d1c88h1 -b 1 -t 9", "-e d2c80h2 -b 3 -t 70", "-e d1c256h1 -b 2 -t 17"}))
        for (std::string precision : kinds({"fp32", "bf16"})) {
            for (const char* trainer : {TRAINER, CUDA_TRAINER}) {
                const std::string command = format("%s -i %s/text.txt --cache %s/cache -o %s/%s %s --precision %s --tf32 0 -x 1 -v 0 -s 0 -n 0", trainer, SCRATCH.c_str(),
                                                   SCRATCH.c_str(), SCRATCH.c_str(), trainer == std::string(TRAINER) ? "cpu" : "cuda", model.c_str(), precision.c_str());
                Outcome o = run_command(command);
                if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
            }
            const std::vector<double> a = series("cuda", "loss"), b = series("cpu", "loss"), c = series("cuda", "grad_norm"), d = series("cpu", "grad_norm");
            const double bound = precision == "fp32" ? 1e-5 : 0x1p-7;  // of a norm: twice what a loss may be off by
            if (a.size() != 1 || b.size() != 1 || c.size() != 1 || d.size() != 1) FAIL("%s %s: not one loss and norm of each", model.c_str(), precision.c_str());
            else if (!(std::fabs(a[0] - b[0]) <= bound * b[0]) || !(std::fabs(c[0] - d[0]) <= 2 * bound * d[0]))
                FAIL("%s %s: loss %.7f and %.7f, norm %.7f and %.7f", model.c_str(), precision.c_str(), a[0], b[0], c[0], d[0]);
        }
}
