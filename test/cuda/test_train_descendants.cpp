// Llama, Qwen3 and modern models by the CUDA trainer, beside the CPU trainer: the same losses, the same bits however it computes, the same text.
#include "train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train_descendants";
// heads of queries and keys in ratios of 3 and 2, head sizes of which one is no multiple of 16, an MLP that is none of 64
const char *const LLAMA_3 = "-e llama:d2c48h6k2f40", *const QWEN_3 = "-e qwen3:d2c48h4k2s24f56", *const MODERN_6 = "-e modern:d2c48h6 --init-std 0.1", *const MODERN_W = "-e modern:d3c48h6w7 --init-std 0.1", *const MODERN_LEARNED = "-e modern:d2c48h2-rope-rmsnorm-zero_init";
}  // namespace

TEST(descendants_losses_are_the_cpu_builds) {
    prepare();
    for (std::string options : kinds({std::string(LLAMA_3) + " --precision fp32", std::string(QWEN_3) + " --precision fp32 --doc-mask 1", std::string(LLAMA_3) + " --precision bf16", std::string(MODERN_6) + " --precision fp32", std::string(MODERN_LEARNED) + " --precision bf16 --doc-mask 1", std::string(QWEN_3) + " --precision bf16", std::string(MODERN_W) + " --precision fp32 --doc-mask 1", std::string(MODERN_W) + " --precision bf16"})) {
        train(TRAINER, "cpu", options + " -x 10 -n 0");
        train(CUDA_TRAINER, "cuda", options + " -x 10 -n 0 --tf32 0 --attention ours");
        expect_same_losses("cuda", "cpu", options.find("fp32") != std::string::npos ? 1e-5 : 0x1p-8);
        remove_tree(SCRATCH + "/cpu"), remove_tree(SCRATCH + "/cuda");
    }
}

// SwiGLU and ReLU squared are in no product's epilogue: each level of recomputation has the same bits. So have two GPUs, and whatever they divide.
TEST(descendants_bits_stay) {
    prepare();
    setenv("EMU_GPUS", "2", 1);
    const bool has_two = strstr(CUDA_TRAINER, "emu");
    for (const std::string& all : kinds({std::string(LLAMA_3) + " --precision fp32 -x 2 -b 1 -t 24 -d 48 --leaves 2", std::string(MODERN_6) + " --precision bf16 -x 2 -b 1 -t 24 -d 48 --leaves 2", std::string(MODERN_W) + " --precision bf16 -x 2 -b 1 -t 24 -d 48 --leaves 2", std::string(QWEN_3) + " --precision bf16 -x 2 -b 1 -t 24 -d 48 --leaves 2"})) {
        const std::string model = all + " --attention ours ";
        train(CUDA_TRAINER, "a", model);
        std::vector<std::string> others = {"-r 1", "-r 2 --verify-steps 1", "-r 3"};
        if (has_two) others.insert(others.end(), {"--gpus 2", "--gpus 2 -z 3 -r 3"});
        for (const std::string& options : kinds(others)) {
            train(CUDA_TRAINER, "b", model + options);
            for (const char* file : {"/step_00000002/model.safetensors", "/step_00000002/state-00000.safetensors", "/main.log"})
                if (!same_file(format("a%s", file), format("b%s", file))) FAIL("%s%s: %s differs", model.c_str(), options.c_str(), file);
            remove_tree(SCRATCH + "/b");
        }
        remove_tree(SCRATCH + "/a");
    }
    unsetenv("EMU_GPUS");
}

TEST(descendants_write_the_same) {
    for (const std::string& model : kinds({LLAMA_3, MODERN_6, QWEN_3, MODERN_W})) {
        prepare();
        expect_same_text(model);
    }
}

// Refused before anything is allocated or written.
TEST(descendants_of_sizes_that_kernels_lack) {
    prepare();
    const Outcome o = run_command(train_command(CUDA_TRAINER, "c", "-e llama:d2c48h6k2f44 -x 1"));
    EXPECT(o.code == 2 && o.output.find("which has an MLP of 44, must be a multiple of 8 on a GPU") != std::string::npos);
}
