// steps.cpp: the trainer from end to end: GPT-2 and a modern model of its depth and width, by AdamW, on random tokens, the program itself started as a user starts it. The rate, the
// memory that it took beside the memory that it planned, and the seconds from the start of the process to the beginning and to the
// end of its first step; on a GPU these are of a cold start: nothing is known yet of what is fastest there (gpu.py: the same names).
//     build/bench_steps RESULTS.jsonl [TRAINER [MODEL]]   ./train_gpt2, or ./train_gpt2cu: on a GPU larger models, 0.5M tokens a step
//     build/bench_steps --tokens SHARD                    random tokens alone
// A model whose plan the device has no memory for is left out; exit code 77: all were.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../llmc/cpu/device.h"
#include "../../llmc/base/rng.h"
#include "../../llmc/data/shards.h"
#include "results.h"

static const std::string FOLDER = "build/bench";

// What a finished run said of itself, and what the operating system says of it.
struct Finished { double first_step_begin_s, first_step_end_s, planned_mib = 0, peak_mib; std::vector<double> ms, mfu; std::string too_large; };

static Finished run_trainer(const std::string& command, bool gpu) {
    int fd[2];
    CHECK(!pipe(fd), "no pipe: %s", strerror(errno));
    Clock::time_point start = Clock::now();
    pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], 1), dup2(fd[1], 2), close(fd[0]), close(fd[1]);
        execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), (char*)nullptr);
        _exit(127);
    }
    close(fd[1]);
    FILE* out = fdopen(fd[0], "r");
    Finished run{};
    char line[1024], last[1024] = "";
    double mib;
    bool counts = true;  // of a GPU's run, the host's pinned memory does not
    while (fgets(line, sizeof line, out)) {
        if (!strncmp(line, "memory of the ", 14)) counts = !gpu || strstr(line, "device");
        if (counts && sscanf(line, " total %lf MiB", &mib) == 1) run.planned_mib += mib;
        if (const char* why = strstr(line, "out of memory: the plan takes")) run.too_large.assign(why, strcspn(why, "\n"));
        memcpy(last, line, sizeof last);
        if (!run.first_step_end_s && !strncmp(line, "step ", 5) && strstr(line, "loss")) run.first_step_end_s = seconds_since(start);
    }
    fclose(out);
    int status;
    struct rusage usage;
    wait4(child, &status, 0, &usage);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        if (run.too_large.empty()) printf("this command failed: %s\n%s", command.c_str(), last);
        run.ms.clear();
        return run;
    }
    run.peak_mib = (double)usage.ru_maxrss / 1024;
    const std::string metrics = FOLDER + "/out/metrics.jsonl", text = read_file(metrics);
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = text.find('\n', at);
        Json json = json_parse(std::string_view(text).substr(at, end - at), metrics);
        if (const Json* ms = json.find("ms")) run.ms.push_back(ms->as_double(metrics)), run.mfu.push_back(json.at("mfu", metrics).as_double(metrics));
    }
    run.first_step_begin_s = run.first_step_end_s - run.ms.at(0) / 1e3;
    return run;
}

static void write_tokens(const std::string& path, size_t n) {
    std::vector<int> tokens(n);
    for (size_t i = 0; i < n; i++) tokens[i] = (int)(philox(1, RNG_TEST, 0, i).x[0] % 50257);
    ShardWriter shard(path, 50257);
    shard.add(tokens.data(), n);
    shard.finish();
}

int main(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "--tokens") return write_tokens(argv[2], 1 << 18), 0;
    if (argc < 2) die_with(EXIT_USAGE, "usage: bench_steps RESULTS.jsonl [TRAINER [MODEL]]");
    const std::string trainer = argc > 2 ? argv[2] : "./train_gpt2";
    const bool gpu = trainer.ends_with("cu");
    const char* gpu_name = getenv("GPU_NAME");
    Results results(argv[1], gpu ? gpu_name ? gpu_name : "unknown GPU" : cpu_name());
    make_folders(FOLDER);
    write_tokens(FOLDER + "/random.bin", gpu ? 8 << 20 : 100000);
    struct Case { const char *model, *precision; int B, T, total_batch, steps; };
    const std::vector<Case> on_cpu = {{"d12", "fp32", 4, 64, 0, 7}, {"d12", "fp32", 8, 256, 0, 7}, {"d12", "bf16", 4, 64, 0, 7}, {"d12", "bf16", 8, 256, 0, 7},
                                      {"modern:d12", "fp32", 8, 256, 0, 7}, {"modern:d12", "bf16", 4, 64, 0, 7}, {"modern:d12", "bf16", 8, 256, 0, 7}};
    // batches that leave some of 80 GB free
    const std::vector<Case> on_gpu = {{"d12", "bf16", 64, 1024, 1 << 19, 10}, {"d24", "bf16", 32, 1024, 1 << 19, 8}, {"d36", "bf16", 16, 1024, 1 << 19, 6},
                                      {"modern:d12", "bf16", 64, 1024, 1 << 19, 10}, {"d48", "bf16", 8, 1024, 1 << 19, 5}, {"d12", "fp32", 32, 1024, 1 << 19, 6}, {"d12", "bf16", 4, 64, 0, 40}};
    int failed = 0, measured = 0;
    for (const Case& c : gpu ? on_gpu : on_cpu) {
        if (argc > 3 && std::string(argv[3]) != c.model) continue;
        remove_tree(FOLDER + "/out"), remove_tree(FOLDER + "/plans");
        const std::string batch = c.total_batch ? format("-d %d", c.total_batch) : "";
        Finished run = run_trainer(format("%s -i %s/random.bin -o %s/out -e %s -b %d -t %d %s -x %d -v 0 -s 0 -n 0 --precision %s --cache %s/plans", trainer.c_str(),
                                          FOLDER.c_str(), FOLDER.c_str(), c.model, c.B, c.T, batch.c_str(), c.steps, c.precision, FOLDER.c_str()), gpu);
        if (!run.too_large.empty()) { printf("%s %s B=%d T=%-4d  left out: %s\n", c.model, c.precision, c.B, c.T, run.too_large.c_str()); continue; }
        if (run.ms.size() < 3) { failed++; continue; }
        measured++;
        std::vector<double> ms(run.ms.begin() + 2, run.ms.end()), mfu(run.mfu.begin() + 2, run.mfu.end());  // caches and pages are warm
        const double step = median(ms), rate = (c.total_batch ? c.total_batch : c.B * c.T) / step * 1e3;
        const double taken = gpu ? run.planned_mib : run.peak_mib;  // of a GPU's memory the plan is all
        printf("%s %s B=%d T=%-4d  %8.1f tokens/s  %7.1f ms a step  %2.0f%% of peak  %6.0f MiB, planned %6.0f (%.3f)  first step from %.2f to %.2f s\n", c.model,
               c.precision, c.B, c.T, rate, step, 100 * median(mfu), taken, run.planned_mib, taken / run.planned_mib,
               run.first_step_begin_s, run.first_step_end_s);
        fflush(stdout);
        const char* cold = gpu ? "cold_" : "";
        results.add(format("\"model\": \"%s\", \"precision\": \"%s\", \"batch\": %d, \"seq\": %d, \"tokens_per_s\": %.1f, \"ms\": %.2f, \"mfu\": %.4f, "
                           "\"gib\": %.3f, \"planned_gib\": %.3f, \"first_step_%sbegin_s\": %.2f, \"first_step_%send_s\": %.2f",
                           c.model, c.precision, c.B, c.T, rate, step, median(mfu), taken / 1024, run.planned_mib / 1024, cold, run.first_step_begin_s,
                           cold, run.first_step_end_s));
    }
    return failed ? 1 : measured ? 0 : 77;
}
