// steps.cpp: the trainer from end to end: GPT-2 124M on random tokens, the program itself started as a user starts it. The
// rate, the memory that it took beside the memory that it planned, and the seconds from its start to its first step.
//     build/bench_steps RESULTS.jsonl [steps a run]
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../llmc/cpu/device.h"
#include "../../llmc/rng.h"
#include "../../llmc/shards.h"
#include "results.h"

static const std::string FOLDER = "build/bench";

// What a finished run said of itself, and what the operating system says of it.
struct Finished { double start_s, planned_mib = 0, peak_mib; std::vector<double> ms, mfu; };

// Runs the command; the clock of start_s stops where the first step begins.
static Finished run_trainer(const std::string& command) {
    int fd[2];
    CHECK(!pipe(fd), "no pipe: %s", strerror(errno));
    Clock::time_point start = Clock::now();
    pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], 1), close(fd[0]), close(fd[1]);
        execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), (char*)nullptr);
        _exit(127);
    }
    close(fd[1]);
    FILE* out = fdopen(fd[0], "r");
    Finished run{};
    char line[1024];
    double first_line = 0, mib;
    while (fgets(line, sizeof line, out)) {
        if (sscanf(line, " total %lf MiB", &mib) == 1) run.planned_mib += mib;
        if (!first_line && !strncmp(line, "step ", 5) && strstr(line, "loss")) first_line = seconds_since(start);
    }
    fclose(out);
    int status;
    struct rusage usage;
    wait4(child, &status, 0, &usage);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "this command failed: %s", command.c_str());
    run.peak_mib = (double)usage.ru_maxrss / 1024;
    const std::string metrics = FOLDER + "/out/metrics.jsonl", text = read_file(metrics);
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = text.find('\n', at);
        Json json = json_parse(std::string_view(text).substr(at, end - at), metrics);
        if (const Json* ms = json.find("ms")) run.ms.push_back(ms->as_double(metrics)), run.mfu.push_back(json.at("mfu", metrics).as_double(metrics));
    }
    run.start_s = first_line - run.ms.at(0) / 1e3;
    return run;
}

int main(int argc, char** argv) {
    const int steps = argc > 2 ? atoi(argv[2]) : 7;
    if (argc < 2 || steps < 3) die_with(EXIT_USAGE, "usage: bench_steps RESULTS.jsonl [steps a run, at least 3]");
    Results results(argv[1], max_threads());
    make_folders(FOLDER);
    std::vector<int> tokens(100000);
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = (int)(philox(1, RNG_TEST, 0, i).x[0] % 50257);
    ShardWriter shard(FOLDER + "/random.bin", 50257);
    shard.add(tokens.data(), tokens.size());
    shard.finish();
    struct Shape { int B, T; };
    for (const char* precision : {"fp32", "bf16"})
        for (Shape shape : {Shape{4, 64}, Shape{8, 256}}) {
            remove_tree(FOLDER + "/out");
            Finished run = run_trainer(format("./train_gpt2 -i %s/random.bin -o %s/out -e d12 -b %d -t %d -x %d -v 0 -s 0 -n 0 --precision %s",
                                              FOLDER.c_str(), FOLDER.c_str(), shape.B, shape.T, steps, precision));
            std::vector<double> ms(run.ms.begin() + 2, run.ms.end()), mfu(run.mfu.begin() + 2, run.mfu.end());  // caches and pages are warm
            const double step = median(ms), rate = shape.B * shape.T / step * 1e3;
            printf("124M %s B=%d T=%-3d  %6.1f tokens/s  %7.1f ms a step  %2.0f%% of peak  %6.0f MiB, planned %6.0f (%.3f)  first step after %.2f s\n",
                   precision, shape.B, shape.T, rate, step, 100 * median(mfu), run.peak_mib, run.planned_mib, run.peak_mib / run.planned_mib, run.start_s);
            fflush(stdout);
            results.add(format("\"model\": \"d12\", \"precision\": \"%s\", \"batch\": %d, \"seq\": %d, \"tokens_per_s\": %.1f, \"ms\": %.2f, \"mfu\": %.4f, "
                               "\"gib\": %.3f, \"planned_gib\": %.3f, \"first_step_s\": %.2f", precision, shape.B, shape.T, rate, step, median(mfu),
                               run.peak_mib / 1024, run.planned_mib / 1024, run.start_s));
        }
}
