// The CUDA trainer's step before the cuBLASLt that is installed: in a folder of its own, as make test-cublaslt runs beside test-emu.
#include "train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train_cublaslt";
}  // namespace

// Every product of a step is one that the cuBLASLt which is installed takes, with every epilogue that the trainer knows.
TEST(cublaslt_takes_a_step) {
    if (!getenv("EMU_CUBLASLT")) SKIP("no libcublasLt.so is asked (make test-cublaslt)");
    prepare();
    for (const char* options : {"--precision bf16 -ge 1", "--precision fp32 -ge 1", "--precision bf16 -r 3"}) {
        Outcome o = run_command(train_command(CUDA_TRAINER, "asked", format("%s -x 1 -n 0", options)));
        if (o.code || o.output.find("refuse") != std::string::npos) FAIL("%s: code %d: %s", options, o.code, o.output.c_str());
        remove_tree(SCRATCH + "/asked");
    }
}
