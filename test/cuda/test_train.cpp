// The CUDA trainer as a user meets it, emulated or on a GPU, beside the CPU trainer: the same options, the same losses.
#include "../../llmc/io/checkpoint.h"
#include "../trainer_runs.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train";

// Where every access is looked at, a run takes minutes: the last of several kinds of run, bf16 with what it needs, stands for all.
const bool SLOW = strstr(BUILD, "asan") || strstr(BUILD, "watch");
std::vector<std::string> kinds(std::vector<std::string> all) {
    if (SLOW) all.erase(all.begin(), all.end() - 1);
    return all;
}

// Where cuDNN's stand-in is linked in, which takes what it is asked for.
std::vector<std::string> with_cudnn([[maybe_unused]] std::string options, std::vector<std::string> others) {
#ifdef LLMC_CUDNN
    if (strstr(CUDA_TRAINER, "emu")) others.insert(others.begin(), options + " --attention cudnn");
#endif
    return others;
}

std::string train_command(const char* trainer, const std::string& out, const std::string& rest) {
    return format("%s -i %s/text.txt -o %s/%s -e d2c48h3 -b 2 -t 24 -d 96 -v 5 -m 2 -s 0 -l 3e-3 -u 2 --cache %s/cache %s", trainer, SCRATCH.c_str(),
                  SCRATCH.c_str(), out.c_str(), SCRATCH.c_str(), rest.c_str());
}
void train(const char* trainer, const std::string& out, const std::string& rest) {
    Outcome outcome = run_command(train_command(trainer, out, rest));
    if (outcome.code) FAIL("%s %s: exit code %d: %s", trainer, rest.c_str(), outcome.code, outcome.output.c_str());
}
void prepare() { prepare_text(SCRATCH, 400); }
std::string contents(const std::string& path) { return file_contents(SCRATCH + "/" + path); }
std::vector<double> series(const std::string& out, const char* field) { return metrics_of(SCRATCH + "/" + out, field); }
bool same_file(const std::string& a, const std::string& b) { return contents(a) == contents(b); }

void expect_same_losses(const std::string& a, const std::string& b, double tolerance) {
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

// fp32: the sums differ in order only. bf16: a stored number is off by up to 2^-9 of itself in either build, wherever a sum
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

// Recomputation, an allocation for each row, and running again leave every bit.
TEST(bits_stay) {
    prepare();
    for (std::string precision : kinds(with_cudnn("--precision bf16 -x 3", {"--precision fp32 -x 3", "--precision bf16 -x 3"}))) {
        train(CUDA_TRAINER, "a", precision);
        for (std::string options : kinds({"", "-r 1", "-r 2", "-r 3", "-r 3 --separate-buffers 1"})) {
            train(CUDA_TRAINER, "b", precision + " " + options);
            for (const char* file : {"model.safetensors", "state-00000.safetensors"})
                if (!same_file("a/step_00000003/" + std::string(file), "b/step_00000003/" + std::string(file))) FAIL("%s %s: %s differs", precision.c_str(), options.c_str(), file);
            EXPECT(same_file("a/main.log", "b/main.log"));
            remove_tree(SCRATCH + "/b");
        }
        remove_tree(SCRATCH + "/a");
    }
}

// The first run on a GPU autotunes the matrix products and saves the autotune cache; the next run loads it and is bitwise identical. A file
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

// What a model writes greedily, through the cache of keys and values, is the same text.
TEST(writes_the_same) {
    prepare();
    train(TRAINER, "cpu", "-x 10 -n 10");
    std::string text[2];
    for (int i = 0; i < 2; i++) {
        Outcome o = run_command(format("%s -e %s/cpu/step_00000010 -x 0 --tf32 0 --prompt Anna --temperature 0 -g 12", i ? CUDA_TRAINER : TRAINER, SCRATCH.c_str()));
        EXPECT_EQ(o.code, 0);
        text[i] = o.output.substr(std::min(o.output.rfind("Anna"), o.output.size()));
    }
    EXPECT(text[0].size() > 8);
    EXPECT_STR(text[1], text[0]);
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

// Of the device's free memory 5 % stay free, for what modules, graphs and libraries take after the arena: a plan that needs 97 % of it is
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

// The host never touches device memory but by copies, and whatever call fails is said in one line, with its name.
TEST(calls_that_fail) {
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
