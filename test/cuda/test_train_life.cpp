// The life of a run of the CUDA trainer, emulated or on a GPU: what it keeps, resumes and refuses, and calls that fail.
#include "../../llmc/io/checkpoint.h"
#include "train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train_life";
}  // namespace

// that cannot be read is ignored.
TEST(choices_are_kept) {
    if (SLOW) SKIP("it is about files, and the plain build looks at them");
    prepare();
    auto run = [](const char* out, bool measures) {
        Outcome o = run_command(train_command(CUDA_TRAINER, out, "--precision bf16 -x 2"));
        if (o.code || (o.output.find("shapes measured") != std::string::npos) != measures) FAIL("%s: exit code %d: %s", out, o.code, o.output.c_str());
    };
    auto file = [] {
        for (const std::string& name : list_folder(SCRATCH + "/cache")) if (name.starts_with("cublaslt-")) return SCRATCH + "/cache/" + name;
        return SCRATCH + "/no choices";
    };
    run("a", true);
    const std::string chosen = read_file(file());
    EXPECT(std::count(chosen.begin(), chosen.end(), '\n') >= (strstr(CUDA_TRAINER, "emu") ? 14 : 1));  // a real library may propose one algorithm only
    run("b", false);
    EXPECT(same_file("a/step_00000002/model.safetensors", "b/step_00000002/model.safetensors"));
    for (const std::string& broken : {std::string(), std::string("none\n"), std::string("1 2 3 0 0 14 14 1 1 16 zz\n"), chosen.substr(0, chosen.size() / 2)}) {
        write_file_atomically(file(), broken);
        remove_tree(SCRATCH + "/b");
        run("b", true);
        if (strstr(CUDA_TRAINER, "emu")) EXPECT_STR(read_file(file()), chosen);  // a GPU's clock has an opinion of its own
    }
    write_file_atomically(SCRATCH + "/file", "");
    Outcome o = run_command(train_command(CUDA_TRAINER, "c", "-x 1 --cache " + SCRATCH + "/file/cache"));
    EXPECT(o.code == 1 && o.output.find("/file/cache") != std::string::npos);
}

// Killed after step 3 and resumed: the run that was never stopped. And a checkpoint of one build goes on in the other.
TEST(checkpoints_move) {
    HOST_ALONE();
    prepare();
    for (std::string precision : kinds({"--precision fp32 -x 6 -n 3", "--precision bf16 -x 6 -n 3"})) {
        train(TRAINER, "cpu", precision);
        train(CUDA_TRAINER, "cuda", precision + " --tf32 0");
        std::string weights = contents("cuda/step_00000006/model.safetensors"), log = contents("cuda/main.log");
        for (const char* out : {"cpu", "cuda"}) remove_tree(SCRATCH + "/" + out + "/step_00000006");
        run_command(format("cp -r %s/cuda %s/moved", SCRATCH.c_str(), SCRATCH.c_str()));
        train(CUDA_TRAINER, "cuda", precision + " --tf32 0 -y 1");
        EXPECT(contents("cuda/step_00000006/model.safetensors") == weights);
        EXPECT(contents("cuda/main.log") == log);
        train(TRAINER, "moved", precision + " -y 1");
        train(CUDA_TRAINER, "cpu", precision + " --tf32 0 -y 1");
        expect_same_losses("moved", "cpu", precision.find("fp32") != std::string::npos ? 1e-5 : 0x1p-8);
        for (const char* out : {"cpu", "cuda", "moved"}) remove_tree(SCRATCH + "/" + out);
    }
}

// What does not fit the kernels or the device is refused before anything begins.
TEST(refusals) {
    prepare();
    auto expect = [](const std::string& rest, int code, const char* line) {
        Outcome o = run_command(format("%s -i %s/text.txt -o %s/no -b 1 -t 16 -x 1 %s", CUDA_TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), rest.c_str()));
        if (o.code != code || o.output.find(line) == std::string::npos) FAIL("%s: exit code %d: %s", rest.c_str(), o.code, o.output.c_str());
        EXPECT(access((SCRATCH + "/no/main.log").c_str(), R_OK) != 0);
    };
    expect("-e d1c36h3", 2, "multiple of 8");
    expect("-e d1c520h2", 2, "256");
    expect("-e d1c64h1 --attention cudnn", 2, "--precision bf16");
    expect("-e d48 -b 4096 -t 1024", 1, "out of memory: the plan takes");
}

// refused, one that needs 94 % runs.
TEST(a_batch_leaves_memory_to_libraries) {
    if (!strstr(CUDA_TRAINER, "emu")) SKIP("a device of any size is there in the emulator only");
    prepare();
    auto run = [](double gib) {
        remove_tree(SCRATCH + "/out");
        return run_command(format("EMU_MEMORY=%.6f %s -i %s/text.txt -o %s/out --cache %s/cache -e d1c64h1 -b 2 -t 16 -x 1 -v 0 -s 0 -n 0", gib, CUDA_TRAINER, SCRATCH.c_str(),
                                  SCRATCH.c_str(), SCRATCH.c_str()));
    };
    const std::string plan = run(1).output;
    const size_t at = plan.find("  total");
    double mib = 0;
    if (at == std::string::npos || sscanf(plan.c_str() + at, " total %lf", &mib) != 1) return FAIL("%s", plan.c_str());
    const Outcome more = run(mib / 1024 / 0.97), less = run(mib / 1024 / 0.94);
    if (more.code != 1 || more.output.find("out of memory: the plan takes") == std::string::npos) FAIL("97 %%: code %d: %s", more.code, more.output.c_str());
    if (less.code != 0) FAIL("94 %%: code %d: %s", less.code, less.output.c_str());
}

// The host never touches device memory but by copies, and whatever call fails is said in one line, with its name.
TEST(calls_that_fail) {
    HOST_ALONE();
    if (!strstr(CUDA_TRAINER, "emu")) SKIP("calls fail on request in the emulator only");
    prepare();
    const std::string run = train_command(CUDA_TRAINER, "x", "-x 1 -n 1");
    EXPECT_EQ(run_command("EMU_PROTECT=1 " + run).code, 0);
    int without = 0;
    for (int n : {1, 8, 21, 55, 90, 170}) {
        remove_tree(SCRATCH + "/x");
        Outcome o = run_command(format("EMU_FAIL=%d %s 2>&1 >/dev/null", n, run.c_str()));
        // an algorithm that fails while it is tried is one that the run does without
        const bool tried = o.code == 0 && o.output.find("emulator: cublasLtMatmul fails on request") != std::string::npos;
        if (tried) {
            EXPECT(access((SCRATCH + "/x/step_00000001").c_str(), F_OK) == 0);
            without++;
            continue;
        }
        const size_t error = o.output.find("error: ");
        if (o.code != 1 || error == std::string::npos || o.output.find('\n', error) != o.output.size() - 1) FAIL("call %d: exit code %d: %s", n, o.code, o.output.c_str());
        EXPECT(o.output.find(": cuda") != std::string::npos || o.output.find("cublasLt") != std::string::npos);
        EXPECT(access((SCRATCH + "/x/step_00000001").c_str(), F_OK) != 0);
    }
    EXPECT(without <= 1);
}
