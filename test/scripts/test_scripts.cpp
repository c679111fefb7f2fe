// What a first user runs: the Makefile's choice of code for a GPU where there is none, scripts/gpu_check.sh with programs that fail, and
// scripts/quickstart.sh with a trainer that ends in any way.
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/scripts";
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

void program(const std::string& path, const std::string& body) {
    const std::string at = SCRATCH + "/" + path;
    make_folders(at.substr(0, at.rfind('/')));
    write_file_atomically(at, "#!/bin/sh\n" + body + "\n");
    chmod(at.c_str(), 0755);
}
std::string contents(const std::string& path) {  // empty if there is no such file
    return access((SCRATCH + "/" + path).c_str(), R_OK) ? "" : read_file(SCRATCH + "/" + path);
}
void prepare() { remove_tree(SCRATCH), make_folders(SCRATCH); }

// ---- the Makefile ---------------------------------------------------------------------------------------------------------------

// The command that would build the CUDA trainer where nvidia-smi prints this and the toolkit knows these.
std::string command_for(const std::string& smi, const std::string& known) {
    program("bin/nvidia-smi", "printf '" + smi + "'");
    program("toolkit/bin/nvcc", "for a in " + known + "; do echo compute_$a; done");
    Outcome o = run_command("env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u ARCH -u CUDA_LIB -u CUDA_INCLUDE PATH=$PWD/" + SCRATCH + "/bin:$PATH make -nB CXX=true NVCC=$PWD/" +
                            SCRATCH + "/toolkit/bin/nvcc train_gpt2cu");
    EXPECT_EQ(o.code, 0);
    return o.output;
}
const char *CUDA_12_4 = "50 75 80 86 87 89 90", *CUDA_12_8 = "75 80 86 87 89 90 100 101 120", *CUDA_13_0 = "75 80 86 87 88 89 90 100 110 103 120 121";
// "sm_80 compute_80 ": code and PTX in the order in which nvcc is told of them
std::string targets(const std::string& smi, const char* known) {
    const std::string command = command_for(smi, known);
    std::string all;
    for (size_t at = command.find(",code="), end; at != command.npos; at = command.find(",code=", end)) {
        end = command.find(' ', at);
        all += command.substr(at + 6, end - at - 6) + " ";
    }
    return all;
}
}  // namespace

// `make && ./plot OUT`: side by side, by as many jobs as -j says if it is given.
TEST(make_builds_the_trainer_and_plot) {
    for (const char* jobs : {"", "-j4"}) {
        const Outcome o = run_command(format("env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -nB %s V=1 CXX=true NVCC= MPI=0", jobs));
        EXPECT(o.code == 0 && has(o.output, " train_gpt2.cu -o train_gpt2") && has(o.output, " dev/plot.cpp -o plot") && !has(o.output, "warning"));
        EXPECT_EQ(has(o.output, "-j2 train_gpt2 plot"), !*jobs);
    }
}

TEST(code_for_the_gpu_at_hand) {
    prepare();
    EXPECT_STR(targets("9.0\\n9.0\\n", CUDA_13_0), "sm_90 compute_90 ");
    EXPECT_STR(targets("10.0\\n8.9\\n", CUDA_13_0), "sm_89 compute_89 sm_100 compute_100 ");
    EXPECT_STR(targets("10.3\\n", CUDA_13_0), "sm_103 compute_103 ");
    EXPECT_STR(targets("12.1\\n", CUDA_13_0), "sm_121 compute_121 ");
    // unknown to the toolkit: code of the same major version, not that of the Jetson between them, or PTX
    EXPECT_STR(targets("10.3\\n", CUDA_12_8), "sm_100 compute_100 ");
    EXPECT_STR(targets("12.1\\n", CUDA_12_8), "sm_120 compute_120 ");
    EXPECT_STR(targets("11.0\\n", CUDA_12_8), "compute_100 ");
    EXPECT_STR(targets("10.3\\n", CUDA_12_4), "compute_90 ");
}

// No GPU: code for all that the project knows, and for each PTX, so that 8.7, 10.3, 11.0, 12.1 and 13.0 find some that is not newer than they are.
TEST(code_for_every_gpu) {
    prepare();
    const std::string all = "sm_80 compute_80 sm_86 compute_86 sm_89 compute_89 sm_90 compute_90 ";
    for (const char* smi : {"", "No devices were found\\n", "NVIDIA-SMI has failed because it could not communicate with the driver 550.54\\n", "[N/A]\\n"})
        EXPECT_STR(targets(smi, CUDA_12_4), all);
    EXPECT_STR(targets("", CUDA_13_0), all + "sm_100 compute_100 sm_120 compute_120 ");
}

TEST(the_toolkits_libraries_are_found_at_run_time) {
    prepare();
    char here[PATH_MAX];
    EXPECT(realpath(SCRATCH.c_str(), here));
    EXPECT(!has(command_for("9.0\\n", CUDA_13_0), "/toolkit/lib64"));
    program("toolkit/targets/sbsa-linux/lib/libcublasLt.so.13", "");
    EXPECT(has(command_for("9.0\\n", CUDA_13_0), "-rpath=" + std::string(here) + "/toolkit/targets/sbsa-linux/lib "));
    program("toolkit/lib64/libcublasLt.so", "");
    EXPECT(has(command_for("9.0\\n", CUDA_13_0), "-rpath=" + std::string(here) + "/toolkit/lib64 "));
}

// build/tests --list and --only, by which gpu_check.sh gives each test a process of its own
TEST(tests_one_by_one) {
    if (getenv("TEST_SKIPS")) SKIP("as told");
    char self[PATH_MAX] = "";
    EXPECT(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    const std::string tests = self;
    EXPECT_STR(run_command(tests + " --list scripts.tests_one").output, "test_scripts.tests_one_by_one\n");
    EXPECT_EQ(run_command("TEST_SKIPS=1 " + tests + " --only test_scripts.tests_one_by_one").code, 77);
    EXPECT_EQ(run_command("TEST_SKIPS=1 " + tests + " --only test_scripts.tests_one").code, 1);
}

// ---- scripts/gpu_check.sh -------------------------------------------------------------------------------------------------------

namespace {
// A machine whose programs do nothing, some of them badly.
void prepare_machine() {
    prepare();
    make_folders(SCRATCH + "/scripts");
    run_command("cp scripts/gpu_check.sh " + SCRATCH + "/scripts");
    program("bin/nvidia-smi", "case $* in -L) echo 'GPU 0: Some (UUID: 1)' ;; *name*) echo Some GPU ;; *clocks.sm*) ;; *) echo 1 ;; esac");
    program("bin/make", "exit 0");
    program("toolkit/bin/nvcc", "echo release 13.0,");
    program("build/stories", "for out; do :; done; echo text > $out");
    program("build/bench_steps", "echo tokens > $2");
    program("build/gpu/tests",
            "[ $1 = --list ] && { echo test_ptx.a test_matmul.crash test_matmul.wrong test_matmul.b test_attention.c test_gelu.d test_train.e | tr ' ' '\\n'; exit; }\n"
            "case $2 in\n"
            "*crash) kill -SEGV $$ ;;\n"
            "*wrong) echo '[2026-01-02 03:04:05][cublasLt][77][Error][cublasLtMatmul] The Bias pointer is NOT allowed' > $(echo $CUBLASLT_LOG_FILE | sed s/%i/$$/)\n"
            "        echo 'test_matmul.cu:9: expected right'; exit 1 ;;\n"
            "*slow) echo $$ > slow; exec sleep 300 ;;\n"
            "esac; echo ok");
    program("train_gpt2cu",
            "echo \"$*\" >> calls\n"
            "case $* in *'--attention cudnn'*) echo 'error: attention: CUDNN_STATUS_EXECUTION_FAILED' >&2\n"
            "    printf 'E! CuDNN function cudnnBackendExecute() called:\\ne!   Reason: no such engine\\ne! Time: 1\\n' > $(echo $CUDNN_LOGDEST_DBG | sed s/%i/$$/); exit 1 ;; esac\n"
            "while [ $# -gt 0 ]; do case $1 in -o) out=$2 ;; --cache) cache=$2 ;; esac; shift; done\n"
            "mkdir -p $out/step_00000005 $cache; echo weights > $out/step_00000005/model.safetensors\n"
            "echo '3072 8192 768 1 0 14 14 164 0 16 2a00000001020304' > $cache/cublaslt-some.txt; echo '3072 64 768 1 0 14 14 164 0 16 none' >> $cache/cublaslt-some.txt\n"
            "echo '8 1024 12 64 1 1 1 0.5000 0.2500' > $cache/attention-some.txt");
}
std::string check(const std::string& arguments) {
    return "cd " + SCRATCH + " || exit; OUT=out NVCC=$PWD/toolkit/bin/nvcc PATH=$PWD/bin:/usr/bin:/bin; export OUT NVCC PATH; exec bash scripts/gpu_check.sh " + arguments;
}
// The table's verdict of a step.
std::string verdict(const std::string& output, const std::string& step) {
    size_t at = output.rfind("\n" + step + " ");
    if (at == output.npos) return "none";
    at = output.find_first_not_of(' ', at + 1 + step.size());
    return output.substr(at, 4);
}
}  // namespace

TEST(gpu_check_no_failure_hides_the_next) {
    prepare_machine();
    Outcome o = run_command(check("--first"));
    EXPECT_EQ(o.code, 1);
    for (const char* line : {"PASS  test_ptx.a", "FAIL  test_matmul.crash", "exit code 139, SEGV", "FAIL  test_matmul.wrong", "test_matmul.cu:9: expected right",
                             "cuBLASLt: [Error][cublasLtMatmul] The Bias pointer is NOT allowed", "PASS  test_matmul.b", "PASS  test_attention.c",
                             "CUDNN_STATUS_EXECUTION_FAILED", "cuDNN:   Reason: no such engine",
                             "product (3072, 768) x (768, 8192) TN bf16 to bf16, epilogue GELU+aux+bias, alignment 16: algorithm 2a00000001020304",
                             "alignment 16: separate kernels", "attention B 8, T 1024, 12 heads of 64, backward, deterministic: cuDNN; ours takes 0.5000 ms, cuDNN 0.2500"})
        if (!has(o.output, line)) FAIL("'%s' is not in: %s", line, o.output.c_str());
    struct Row { const char *step, *verdict; };
    for (Row r : {Row{"build", "PASS"}, {"ptx", "PASS"}, {"products", "SKIP"}, {"matmul", "FAIL"}, {"attention", "PASS"}, {"plain", "PASS"}, {"early-launch", "PASS"},
                  {"cudnn", "FAIL"}, {"124M-twice", "PASS"}, {"chosen", "PASS"}, {"kernels", "none"}, {"losses", "none"}})
        if (verdict(o.output, r.step) != r.verdict) FAIL("%s: %s, expected %s: %s", r.step, verdict(o.output, r.step).c_str(), r.verdict, o.output.c_str());
    const std::string table = contents("out/table.txt");
    EXPECT(verdict("\n" + table, "matmul") == "FAIL" && has(contents("out/logs/test_matmul.wrong.log"), "expected right"));

    // from the smallest thing to the largest, and a user's own choices are neither used nor changed
    const std::string calls = contents("calls");
    const size_t plain = calls.find("--pdl 0 --attention ours"), early = calls.find("--pdl 1 --attention ours"), cudnn = calls.find("--attention cudnn"), large = calls.find("-e d12 ");
    EXPECT(plain < early && early < cudnn && cudnn < large && large != calls.npos);
    EXPECT(std::count(calls.begin(), calls.end(), '\n') == 7);
    size_t cached = 0;
    for (size_t at = 0; (at = calls.find("--cache build/gpu_check/cache ", at)) != calls.npos; at++) cached++;
    EXPECT_EQ(cached, 7u);

    program("build/gpu/products", "echo 'PASS qkv'; echo 'FAIL logits: CUBLAS_STATUS_INVALID_VALUE'; exit 1");
    o = run_command(check("products"));
    EXPECT(o.code == 1 && has(o.output, "\nFAIL logits: CUBLAS_STATUS_INVALID_VALUE\n") && verdict(o.output, "products") == "FAIL");
    EXPECT_STR(verdict(o.output, "ptx"), "none");
}

// Files of tests run beside each other, the tests of one file in turn; a file is late if it waits for one that has not begun.
TEST(gpu_check_files_beside_each_other) {
    prepare_machine();
    program("build/gpu/tests",
            "[ $1 = --list ] && { echo test_matmul.a test_matmul.b test_matmul_more.c | tr ' ' '\\n'; exit; }\n"
            "case $2 in\n"
            "*.a) touch a_runs; for i in $(seq 400); do [ -e c_ran ] && break; sleep 0.05; done; sleep 0.5; rm a_runs; [ -e c_ran ] ;;\n"
            "*.b) sleep 0.3; [ ! -e a_runs ] ;;\n"
            "*.c) touch c_ran ;;\n"
            "esac");
    Outcome o = run_command(check("matmul"));
    EXPECT(o.code == 0 && has(o.output, "PASS  test_matmul.a") && has(o.output, "PASS  test_matmul.b") && has(o.output, "3 tests, 0 failed"));
}

// The exercises' solutions: what each says of the GPU stands behind its name; one that is wrong there has failed.
TEST(gpu_check_times_the_exercises) {
    prepare_machine();
    for (const char* name : {"gelu", "softmax"}) {
        make_folders(SCRATCH + "/dev/learn/" + name);
        program(std::string("dev/learn/") + name + "/solution.cu", "__global__");
    }
    const auto graded = [](const char* softmax) {
        program("dev/learn/learn.sh", std::string("echo graded; echo 'on Some GPU, median of 21 runs'; case $1 in gelu) echo '3. naive  12.0 us  100 GB/s' ;; *) ") + softmax + " ;; esac");
        return run_command(check("learn"));
    };
    Outcome o = graded("echo '4. fused  7.0 us'");
    EXPECT(o.code == 0 && has(o.output, "\ngelu: 3. naive  12.0 us  100 GB/s\n") && has(o.output, "\nsoftmax: 4. fused  7.0 us\n") && !has(o.output, "graded") && has(o.output, "2 exercises, 0 failed"));
    o = graded("echo '4. fused  WRONG on the GPU'; exit 1");
    EXPECT(o.code == 1 && has(o.output, "\ngelu: 3. naive") && has(o.output, "\nsoftmax: 4. fused  WRONG on the GPU\n") && verdict(o.output, "learn") == "FAIL");
}

// Where nothing can be built, nothing is: programs are taken as they are, and a failure of make is none.
TEST(gpu_check_of_what_was_built_elsewhere) {
    prepare_machine();
    program("bin/make", "echo made >> made; exit 1");
    make_folders(SCRATCH + "/dev/learn/gelu");
    program("dev/learn/gelu/solution.cu", "__global__");
    program("dev/learn/learn.sh", "exit 1");
    program("build/learn/gelu-solution-gpu", "echo 'on Some GPU'; echo '3. naive  12.0 us'");
    setenv("BUILT", "1", 1);
    const Outcome o = run_command(check("l"));  // plain, early-launch, learn, losses, layers
    unsetenv("BUILT");
    EXPECT(has(o.output, "\ngelu: 3. naive  12.0 us\n") && verdict(o.output, "learn") == "PASS" && verdict(o.output, "plain") == "PASS");
    EXPECT_STR(verdict(o.output, "build"), "none");
    EXPECT(contents("made").empty());
}

// Interrupted, it ends what runs and writes down what it knows.
TEST(gpu_check_interrupted) {
    prepare_machine();
    program("build/gpu/tests", "[ $1 = --list ] && { echo test_ptx.a; echo test_matmul.slow; exit; }; case $2 in *slow) echo $$ > slow; exec sleep 300 ;; esac");
    pid_t pid = fork();
    if (pid == 0) { execl("/bin/sh", "sh", "-c", check("--first > said 2>&1").c_str(), (char*)nullptr); _exit(127); }
    std::string slow;
    for (int i = 0; i < 300 && slow.empty(); i++) usleep(100000), slow = contents("slow");
    kill(pid, SIGTERM);
    int status = 0;
    auto start = std::chrono::steady_clock::now();
    waitpid(pid, &status, 0);
    EXPECT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 20);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    const std::string said = contents("said");
    EXPECT(verdict(said, "ptx") == "PASS" && verdict(said, "matmul") == "FAIL" && has(said, "interrupted") && verdict(said, "attention") == "none");
    EXPECT(verdict("\n" + contents("out/table.txt"), "matmul") == "FAIL");
    for (int i = 0; i < 1000 && !slow.empty() && kill(atoi(slow.c_str()), 0) == 0; i++) usleep(10000);  // who inherits it may take a moment to bury it
    EXPECT(!slow.empty() && kill(atoi(slow.c_str()), 0) != 0);
}

// compute-sanitizer stands beside nvcc; what the libraries do is not judged, but by initcheck, which must see what they write.
TEST(gpu_check_sanitizer) {
    prepare_machine();
    program("toolkit/compute-sanitizer/compute-sanitizer", "echo \"$*\" >> sanitized; case $* in *racecheck*test_adamw*) exit 9 ;; esac");
    Outcome o = run_command(check("compute-sanitizer"));
    EXPECT(o.code == 1 && has(o.output, "FAIL  racecheck.test_adamw") && has(o.output, "PASS  racecheck.test_embedding"));
    EXPECT(verdict(o.output, "compute-sanitizer-memcheck") == "PASS" && verdict(o.output, "compute-sanitizer-racecheck") == "FAIL" &&
           verdict(o.output, "compute-sanitizer-initcheck") == "PASS");
    const std::string calls = contents("sanitized");
    int lines = 0, memcheck_trainer = 0;
    for (size_t at = 0, end; at < calls.size(); at = end + 1, lines++) {
        end = calls.find('\n', at);
        const std::string line = calls.substr(at, end - at);
        const bool initcheck = has(line, "--tool initcheck");
        EXPECT(has(line, "--report-api-errors no") && has(line, "--error-exitcode 9"));
        EXPECT(has(line, "--kernel-name-exclude regex=cublas|") == !initcheck && !(initcheck && has(line, "matmul")));
        EXPECT(has(line, "--racecheck-detect-level error") == has(line, "racecheck "));
        memcheck_trainer += has(line, "train_gpt2cu --cache build/gpu_check/cache ");
    }
    EXPECT_EQ(lines, 9 * 3 + 8 + 1);
    EXPECT_EQ(memcheck_trainer, 1);
}

// bench_steps: a model whose plan does not fit the card is left out; a call that runs out of memory all the same has failed.
TEST(models_that_do_not_fit_are_left_out) {
    prepare();
    program("some_trainer_cu", "case $* in *'-e d24'*) echo 'error: out of memory: the plan takes 30.1 GiB, the device has 23.5; --batch 8 --recompute 0 would fit' >&2 ;; "
                               "*) echo 'error: cudaMalloc: out of memory' >&2 ;; esac; exit 1");
    const std::string bench = "bench=$PWD/" BUILD "/bench_steps; cd " + SCRATCH + " && $bench lines.jsonl ./some_trainer_cu ";
    if (access(BUILD "/bench_steps", X_OK)) SKIP("%s is not built", BUILD "/bench_steps");
    Outcome o = run_command(bench + "d24");
    EXPECT(o.code == 77 && has(o.output, "d24 bf16 B=32 T=1024  left out: out of memory: the plan takes 30.1 GiB, the device has 23.5"));
    o = run_command(bench + "d36");
    EXPECT(o.code == 1 && has(o.output, "error: cudaMalloc: out of memory"));
    EXPECT_EQ(run_command(bench).code, 1);
}

// ---- the benchmarks' results --------------------------------------------------------------------------------------------------

// Named by the threads that the programs had, which may be fewer than the machine's cores or than what a variable asks for.
TEST(results_are_named_by_the_threads_that_ran) {
    prepare();
    for (const char* name : {"layers", "steps"}) program(std::string("build/bench_") + name, "echo '{\"machine\": \"Some CPU (TM)\", \"threads\": 3, \"date\": \"2026-01-01\"}' >> $1");
    program("dev/bench/run.sh", read_file("dev/bench/run.sh"));
    Outcome o = run_command("env OMP_NUM_THREADS=7 " + SCRATCH + "/dev/bench/run.sh");
    EXPECT(o.code == 0 && has(o.output, "written: dev/bench/results/some-cpu-tm-3-threads.json\n"));
    EXPECT_STR(contents("dev/bench/results/some-cpu-tm-3-threads.json"), "[\n{\"machine\": \"Some CPU (TM)\", \"threads\": 3, \"date\": \"2026-01-01\"},\n{\"machine\": \"Some CPU (TM)\", \"threads\": 3, \"date\": \"2026-01-01\"}\n]\n");
}

// ---- scripts/quickstart.sh ------------------------------------------------------------------------------------------------------

TEST(quickstart_shows_steps_and_says_when_it_was_not_enough) {
    prepare();
    make_folders(SCRATCH + "/scripts");
    run_command("cp scripts/quickstart.sh " + SCRATCH + "/scripts");
    program("build/stories", "for out; do :; done; echo text > $out");
    program("plot", "echo plotted $1");
    const auto trainer = [](const std::string& bits, int code, const char* products = "AVX-512 bf16") {
        program("train_gpt2", "case \"$*\" in *build/quickstart/probe) echo 'machine  cpu, 2 threads, " + std::string(products) + ", peak 145GFLOP/s measured'; exit 0 ;; esac\n"
                "echo \"$*\" >> calls; out=build/quickstart/out; mkdir -p $out/step_00000100; echo 'memory of the host'\n"
                "for s in 1 2 3 4 5 6 7 8 9 10; do echo \"step $s  loss 2.0000  norm 1.000  lr 1.00e-03  1000 ms  1K tok/s  1GFLOP/s  5% of peak  0:0$s left\"; done\n"
                "echo '{\"step\": 0, \"val_loss\": 9, \"val_bits_per_byte\": 2.7, \"floor_bits_per_byte\": 0.361}' > $out/metrics.jsonl\n"
                "echo '{\"step\": 100, \"val_loss\": 2, \"val_bits_per_byte\": " + bits + ", \"floor_bits_per_byte\": 0.361}' >> $out/metrics.jsonl\n"
                "echo last line; exit " + std::to_string(code));
    };
    trainer("0.722", 0);
    Outcome o = run_command("sh " + SCRATCH + "/scripts/quickstart.sh");
    EXPECT_EQ(o.code, 0);
    for (int step = 1; step <= 10; step++)
        if (const bool shown = has(o.output, format("\nstep %d  loss 2.0000  norm 1.000  lr 1.00e-03  1000 ms", step)); shown != (step % 3 == 1)) FAIL("step %d: %d", step, shown);
    EXPECT(has(o.output, "\nlast line\nplotted build/quickstart/out\n") && has(o.output, "-e build/quickstart/out/step_00000100 -x 0"));
    const size_t at = o.output.find("2.000x of perfect: 100 steps in 1.7 minutes were not enough for 1.10x; to go on, to 45 minutes in all:\n./train_gpt2 -i build/quickstart/train.txt ");
    EXPECT(at != o.output.npos && o.output.ends_with(" -y 1 --minutes 45\n"));
    // what it says to type is the call that it made, and goes on
    const std::string call = contents("calls"), typed = o.output.substr(o.output.rfind("./train_gpt2 ") + 13);
    EXPECT_STR(typed.substr(0, typed.find(" -y 1")), call.substr(0, call.find(" --minutes")));
    EXPECT(has(call, " --precision bf16 "));
    trainer("0.397", 0, "AVX-512 fp32");
    remove_tree(SCRATCH + "/calls");
    o = run_command("sh " + SCRATCH + "/scripts/quickstart.sh");
    EXPECT(o.code == 0 && !has(o.output, "not enough") && has(contents("calls"), " --precision fp32 "));  // where bf16 would only be rounded
    trainer("0.397", 3);
    o = run_command("sh " + SCRATCH + "/scripts/quickstart.sh");
    EXPECT(o.code == 3 && has(o.output, "last line\n") && !has(o.output, "plotted"));
}
