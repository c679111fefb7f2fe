// Runs of several ranks, as users start them: --ranks. Equal batch, total batch and leaves: equal bits.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <filesystem>
#include "../../llmc/comm/flight_recorder.h"
#include "rank_runs_test.h"

namespace {
const std::string SCRATCH = "build/tmp/ranks";

// A run in the background, both streams to SCRATCH/said; its ranks are its children.
class Background {
    pid_t pid;
    int status = 0;
    bool ended = false;

public:
    explicit Background(const std::string& command) {
        fflush(nullptr);
        unlink((SCRATCH + "/said").c_str());  // an earlier run's
        pid = fork();
        if (pid) return;
        const int said = open((SCRATCH + "/said").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(said, 1), dup2(said, 2);
        execl("/bin/sh", "sh", "-c", ("exec " + command.substr(command.find(TRAINER))).c_str(), (char*)nullptr);
        _exit(127);
    }
    ~Background() { if (!ended) kill(pid, SIGKILL), waitpid(pid, &status, 0); }
    pid_t rank(int r) const {
        std::string text;
        long children[8] = {};
        (void)try_read_file(format("/proc/%d/task/%d/children", (int)pid, (int)pid), text);
        sscanf(text.c_str(), "%ld %ld %ld %ld", children, children + 1, children + 2, children + 3);
        return (pid_t)children[r];
    }
    void send(int signal) const { kill(pid, signal); }
    bool says(const char* part) {
        for (int i = 0; i < 3000; i++, usleep(10000)) {
            std::string text;
            (void)try_read_file(SCRATCH + "/said", text);
            if (has(text, part)) return true;
            if (waitpid(pid, &status, WNOHANG) == pid) { ended = true; return has(contents("said"), part); }
        }
        return false;
    }
    int code() {
        if (!ended) waitpid(pid, &status, 0), ended = true;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
};
}  // namespace

// Pairwise: each world with each stage, each precision and recompute level with some of them.
TEST(ranks_make_the_same_bits) {
    prepare();
    const struct { const char *name, *options; std::vector<const char*> worlds; } kinds[] = {
        {"fp32", "", {"--ranks 2", "--ranks 4 -z 1"}},
        {"bf16", "--precision bf16 -r 3", {"--ranks 2 -z 1", "--ranks 4"}},
        {"alone", "--precision bf16 -w 0 -r 1", {"--ranks 4 -z 1"}},
        {"three", "--leaves 3 -d 192", {"--ranks 3 -z 1", "--ranks 3"}},  // three leaves of two micro-batches
        {"spike", "-sg 0.1 --grad-clip 0.5 --bos-align 1", {"--ranks 2 -z 1"}},
        {"muon", "--optimizer muon --precision bf16", {"--ranks 2", "--ranks 4 -z 1"}},  // whole matrices, of which some ranks have none
        {"gated", "--optimizer muon -e llama:d3c32h4k2f40 --leaves 3 -d 192", {"--ranks 3 -z 1"}},
    };
    for (auto& kind : kinds) {
        must(trainer(kind.name, FOUR_STEPS + kind.options));
        for (const char* world : kind.worlds) {
            const std::string out = std::string(kind.name) + "." + std::to_string(world[8] - '0') + (has(world, "-z") ? "z" : "");
            must(trainer(out, FOUR_STEPS + kind.options + " " + world));
            same_run(kind.name, out);
        }
    }
    EXPECT(contents("fp32/main.log") != contents("three/main.log"));
}

// Stages 2 and 3, in which ranks take turns at the micro-batches, each of which is a leaf; four layers, of which two are in memory at a time.
TEST(ranks_that_shard_gradients_and_weights_make_the_same_bits) {
    prepare();
    const struct { const char *name, *options; std::vector<const char*> worlds; } kinds[] = {
        {"fp32", "-e d4c32h2 --leaves 8", {"--ranks 2 -z 2", "--ranks 4 -z 3", "--ranks 2 -z 1", "--ranks 4"}},
        {"bf16", "-e d4c32h2 --leaves 8 --precision bf16 -r 3", {"--ranks 2 -z 3", "--ranks 4 -z 2"}},
        {"alone", "-e d3c32h2 --leaves 4 -d 128 --precision bf16 -w 0 -r 1", {"--ranks 4 -z 3"}},  // one micro-batch each
        {"three", "-e d4c32h2 --leaves 3 -d 96 -r 2", {"--ranks 3 -z 2", "--ranks 3 -z 3"}},
        {"turns", "-e d4c32h2 --leaves 12 -d 384", {"--ranks 3 -z 2", "--ranks 3 -z 3", "--ranks 3", "--ranks 6 -z 3"}},  // of three ranks four micro-batches each, of six two
        {"turns_of_bf16", "-e d3c32h2 --leaves 9 -d 288 -r 3 --precision bf16 --optimizer muon", {"--ranks 3 -z 3"}},
        {"muon", "-e d4c32h2 --leaves 8 --optimizer muon --precision bf16", {"--ranks 2 -z 3", "--ranks 4 -z 2"}},
        {"two", "--leaves 6 -d 192 -sg 0.1 --grad-clip 0.5 --bos-align 1", {"--ranks 2 -z 3"}},  // two layers, three micro-batches each
    };
    for (auto& kind : kinds) {
        must(trainer(kind.name, FOUR_STEPS + kind.options));
        for (size_t i = 0; i < kind.worlds.size(); i++) {
            const std::string out = std::string(kind.name) + "." + std::to_string(i);
            must(trainer(out, FOUR_STEPS + kind.options + " " + kind.worlds[i]));
            same_run(kind.name, out);
        }
    }
}

// Gradients travel rounded: half the bytes, other bits, losses that are near; all ranks have the same weights, which is looked at before a save.
TEST(ranks_exchange_in_bf16) {
    prepare();
    must(trainer("fp32", FOUR_STEPS + "--leaves 8"));
    const std::vector<double> whole = metrics_of(SCRATCH + "/fp32", "loss");
    for (const char* options : {"--ranks 2", "--ranks 4 -z 1", "--ranks 2 --leaves 8 -z 3"}) {
        remove_tree(SCRATCH + "/bf16");
        must(trainer("bf16", FOUR_STEPS + "--exchange bf16 " + options));
        const std::vector<double> losses = metrics_of(SCRATCH + "/bf16", "loss");
        EXPECT(whole.size() == 4 && losses.size() == 4 && losses != whole);
        // a step of AdamW is lr 1e-2 of an element whatever its size; 2^-9 of a gradient is that of its step, and few elements' signs are in doubt
        for (size_t i = 0; i < losses.size(); i++) if (!(std::fabs(losses[i] - whole[i]) <= 2e-3 * whole[i])) FAIL("%s: loss %zu: %.9g, with fp32 %.9g", options, i, losses[i], whole[i]);
    }
}

// Where no rank has all weights: validation, questions, completions, a sample and the exported file are those of one rank.
TEST(ranks_that_shard_weights_do_everything_else) {
    prepare();
    const auto run = [](const std::string& out, const std::string& rest) {
        must(trainer(out, format("-e d3c32h2 --leaves 8 -x 3 -v 1 -m 3 -s 2 -g 9 -n 2 --eval q=%s/items.jsonl --export-bin %s/%s.bin %s", SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str())));
    };
    const auto sample = [](const std::string& out) {
        const std::string text = contents(out + "/metrics.jsonl");
        const size_t at = text.find("\"sample\": ");
        return at == text.npos ? "" : text.substr(at, text.find('\n', at) - at);
    };
    run("one", "");
    for (const char* world : {"--ranks 2 -z 3", "--ranks 4 -z 3"}) {
        run("many", world);
        same_run("one", "many", 3);
        EXPECT_STR(contents("one/eval_q.jsonl"), contents("many/eval_q.jsonl"));
        EXPECT(sample("one").size() > 20 && sample("one") == sample("many"));
        EXPECT(contents("one.bin") == contents("many.bin"));
        must(format("timeout -s KILL 100 %s -e %s/many/step_00000003 -i %s/text.txt -b 2 -t 16 -x 0 -o %s/again %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), SCRATCH.c_str(), world));
        EXPECT(contents("one/step_00000003/model.safetensors") == contents("again/step_00000000/model.safetensors"));
        remove_tree(SCRATCH + "/many"), remove_tree(SCRATCH + "/again");
    }
}

// --plan says what each rank takes, whatever is divided: a row so long that the scratch of one thread more would be seen.
TEST(ranks_take_what_was_planned) {
    prepare();
    const auto table = [](const std::string& output) { return output.substr(output.find("memory of the device"), output.find("memory of the host") - output.find("memory of the device")); };
    std::string before;
    for (int zero = 0; zero <= 3; zero++) {
        const std::string options = format("-i %s/text.txt -e d4c32h1 -b 1 -t 512 -d 2048 --tokenizer bytes -v 0 -s 0 -n 0 -x 1 -z %d ", SCRATCH.c_str(), zero);
        const std::string planned = table(must(format("timeout -s KILL 100 %s --plan -pn 2 %s", TRAINER, options.c_str())).output);
        EXPECT_STR(table(must(format("timeout -s KILL 100 %s --plan --ranks 2 %s", TRAINER, options.c_str())).output), planned);
        EXPECT_STR(table(must(format("timeout -s KILL 100 %s --ranks 2 -o %s/z%d %s", TRAINER, SCRATCH.c_str(), zero, options.c_str())).output), planned);
        EXPECT(has(planned, "AdamW moments") && planned != before);
        before = planned;
    }
}

// By default there are as many leaves as ranks, and one rank that adds in as many gives the same.
TEST(ranks_leaves_by_default) {
    prepare();
    const std::string plain = format("timeout -s KILL 100 %s -i %s/text.txt -e d1c16h1 -b 2 -t 16 --tokenizer bytes -s 0 -v 0 -x 3 ", TRAINER, SCRATCH.c_str());
    must(plain + "-d 128 --ranks 2 -o " + SCRATCH + "/two");
    must(plain + "-d 128 --ranks 2 -z 2 -o " + SCRATCH + "/sharded");  // each micro-batch is a leaf
    must(plain + "-d 128 --leaves 4 -o " + SCRATCH + "/four");
    EXPECT(contents("sharded/step_00000003/model.safetensors") == contents("four/step_00000003/model.safetensors"));
    must(plain + "-d 128 --leaves 2 -o " + SCRATCH + "/one");
    must(plain + "-d 128 -o " + SCRATCH + "/other");
    EXPECT(contents("two/step_00000003/model.safetensors") == contents("one/step_00000003/model.safetensors"));
    EXPECT(contents("two/step_00000003/model.safetensors") != contents("other/step_00000003/model.safetensors"));
    // auto chooses a batch that leaves two of them a step, and makes of it what the number makes
    const auto with = [&](const char* batch, const char* out) { return std::string(plain).replace(plain.find("-b 2"), 4, batch) + "-d 128 --leaves 2 -o " + SCRATCH + out; };
    EXPECT(has(must(with("-b auto", "/auto")).output, "--batch auto: 4 sequences, 2 times a step"));
    must(with("-b 4", "/larger"));
    EXPECT(contents("auto/step_00000003/model.safetensors") == contents("larger/step_00000003/model.safetensors"));
}

// N ranks' checkpoint on M ranks: bits as if nothing had happened, also where the command says neither total batch nor leaves.
TEST(ranks_resume_on_other_ranks) {
    prepare();
    const char* worlds[] = {"--ranks 4 -z 1", "", "", "--ranks 2 -z 1"};
    for (int i = 0; i < 4; i++) {
        const Outcome o = must(format("timeout -s KILL 100 %s -i %s/text.txt -o %s/parts -e d2c32h2 -b 2 -t 16 --tokenizer bytes -s 0 -l 1e-2 -q 0.1 -k constant -x %d -v 2 -n 2 -y 1 %s %s", TRAINER,
                                      SCRATCH.c_str(), SCRATCH.c_str(), 2 * i + 2, i == 0 ? "-d 256 --leaves 4" : "", worlds[i]));
        EXPECT_EQ(has(o.output, "--total-batch 256, as it was on "), i == 1 || i == 3);
        EXPECT(!has(o.output, "resume   --total-batch 0"));
    }
    must(format("timeout -s KILL 100 %s -i %s/text.txt -o %s/constant -e d2c32h2 -b 2 -t 16 -d 256 --leaves 4 --tokenizer bytes -s 0 -l 1e-2 -q 0.1 -k constant -x 8 -v 2 -n 8", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    same_run("constant", "parts", 8);
}

// The files are the same in every stage, and any stage goes on from them; of Muon's matrices they have one moment.
static void resume_in_other_stages(const std::string& optimizer) {
    prepare();
    const std::string run = "-e d3c32h2 --leaves 8 -q 0.1 -k constant -v 2 -n 2 -y 1 --precision bf16 " + optimizer;
    const char* worlds[] = {"--ranks 4 -z 3", "", "--ranks 2 -z 2", "--ranks 2 -z 3", "--ranks 4 -z 1", "--ranks 4 -z 2"};
    for (int i = 0; i < 6; i++) must(trainer("parts", run + format("-x %d ", i + 1) + worlds[i]));
    must(trainer("whole", run + "-x 6"));
    same_run("whole", "parts", 6);
    // in fp32 the weights are the masters of the checkpoint, of which each rank reads its own
    for (const char* world : {"", "--ranks 2 -z 3"}) {
        must(trainer("parts", run + "--precision fp32 -x 7 " + world));
        EXPECT(rename((SCRATCH + "/parts/step_00000007").c_str(), (SCRATCH + (*world ? "/many" : "/alone")).c_str()) == 0);
        unlink((SCRATCH + "/parts/DONE_00000007").c_str());
    }
    EXPECT(contents("alone/model.safetensors") == contents("many/model.safetensors"));
    for (const char* kind : {"exp_avg/", "exp_avg_sq/"})
        EXPECT_EQ(has(contents("whole/step_00000006/state-00000.safetensors"), std::string(kind) + "h.2.mlp.c_fc.weight@"), optimizer.empty() || kind == std::string("exp_avg/"));
    // the other optimizer's state is nobody's
    for (const char* other : {"--optimizer adamw ", "--optimizer muon ", ""}) {
        const bool same = other == optimizer || (!*other && optimizer.empty()) || (optimizer.empty() && other == std::string("--optimizer adamw "));
        if (same) continue;
        const Outcome o = run_command(trainer("whole", run.substr(0, run.size() - optimizer.size()) + "-x 8 " + other));
        EXPECT(o.code == 2 && has(o.output, "error: --optimizer: '") && has(o.output, "/whole/step_00000006 has\n"));
    }
}
TEST(ranks_resume_in_other_stages) { resume_in_other_stages(""); }
TEST(ranks_resume_in_other_stages_muon) { resume_in_other_stages("--optimizer muon "); }

// What as many ranks did, one repeats; and several what one did.
TEST(ranks_are_replayed_by_others) {
    prepare();
    const std::string run = format("timeout -s KILL 100 %s -i %s/text.txt -e d1c16h1 -b 2 -t 16 --tokenizer bytes -s 0 -v 0 -x 3 ", TRAINER, SCRATCH.c_str());
    must(run + "--ranks 2 -o " + SCRATCH + "/two");
    must(run + "--leaves 2 -d 64 -o " + SCRATCH + "/one");
    must(format("timeout -s KILL 100 %s --replay %s/two -o %s/again", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    must(format("timeout -s KILL 100 %s --replay %s/one -o %s/together --ranks 2", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    for (const char* out : {"one", "again", "together"}) EXPECT(contents("two/step_00000003/model.safetensors") == contents(std::string(out) + "/step_00000003/model.safetensors"));
}

// A text alone: rank 0 measures and chooses, for all, and each rank has its part of the batch that one would have.
TEST(ranks_choose_together) {
    prepare();
    const std::string run = format("timeout -s KILL 100 %s -i %s/text.txt -x 2 -n 2 -s 0 -v 0 --ranks 2 -o %s/chosen", TRAINER, SCRATCH.c_str(), SCRATCH.c_str());
    const Outcome o = must(run);
    EXPECT(has(o.output, "chosen   for ") && has(o.output, " -d ") && has(o.output, " x 2 ranks = "));
}

// Validation, questions and completions: the ranks share the work, the numbers are those of one.
TEST(ranks_evaluate_alike) {
    prepare();
    must(trainer("one", format("-x 2 -v 1 -m 0 -n 0 --eval q=%s/items.jsonl", SCRATCH.c_str())));
    for (const char* world : {"--ranks 2", "--ranks 4"}) {
        must(trainer("many", format("-x 2 -v 1 -m 0 -n 0 --eval q=%s/items.jsonl %s", SCRATCH.c_str(), world)));
        EXPECT_STR(contents("one/main.log"), contents("many/main.log"));
        EXPECT_STR(contents("one/eval_q.jsonl"), contents("many/eval_q.jsonl"));
        remove_tree(SCRATCH + "/many");
    }
}

// Ranks of one machine have equal shares of its memory: for the batch that is chosen, and for one that is refused.
TEST(ranks_share_the_memory_of_a_machine) {
    prepare();
    const auto gib_of = [](const std::string& command, const char* before, const char* after) {
        const std::string said = run_command(command).output;
        const size_t end = said.find(after), at = end == said.npos ? end : said.rfind(before, end);
        if (at == said.npos) FAIL("%s: said \"%s\"", command.c_str(), said.c_str());
        return at == said.npos ? 0 : atof(said.c_str() + at + strlen(before));
    };
    std::vector<std::pair<int, std::string>> worlds = {{1, "--ranks 1"}, {2, "--ranks 2"}, {4, "--ranks 4"}};
    if (!mpirun(1).empty()) worlds.push_back({2, ""});
    double all[2] = {};
    for (auto& [n, ranks] : worlds) {
        const std::string start = ranks.empty() ? mpirun(n) : "", plain = format("timeout -s KILL 100 %s -i %s/text.txt -o %s/share -t 16 --tokenizer bytes -s 0 -v 0 -n 0 -x 1 %s ", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), ranks.c_str());
        const double share[2] = {gib_of(start + plain + "-e d1c16h1 -d 256 -b auto", " of ", " GiB\n"), gib_of(start + plain + "-e d48 -b 65536", "the device has ", " to give")};
        for (int i = 0; i < 2; i++) {
            if (n == 1) all[i] = share[i];
            if (std::fabs(share[i] - all[i] / n) > 0.1) FAIL("%d ranks%s: a share of %.1f GiB of %.1f", n, start.empty() ? "" : " by mpirun", share[i], all[i]);  // of numbers with one digit
        }
    }
    EXPECT(all[0] == all[1] && all[0] > 0.5);
}

// A run that has ended is finished for any number of ranks. Rank 0 looks whether its last validation was made; another rank may see an older metrics.jsonl.
TEST(ranks_restart_beside_a_stale_log) {
    prepare();
    const std::string options = "-x 4 -v 2 -m 5 -n 2 -y 1 ";
    must(trainer("out", options + "--ranks 4"));
    const std::string log = contents("out/main.log"), metrics = contents("out/metrics.jsonl"), stale = metrics.substr(0, metrics.rfind('\n', metrics.size() - 2) + 1);
    EXPECT(has(metrics.substr(stale.size()), "val_loss") && !has(metrics.substr(stale.size()), "\"ms\""));
    const std::string path = SCRATCH + "/out/metrics.jsonl", other = SCRATCH + "/other.jsonl";
    // as a rank of another machine sees it, whose cache of the file system is behind, or ahead of rank 0's
    const bool mounts = !mpirun(1).empty() && run_command("unshare -rm true").code == 0;
    for (const char* ranks : {"--ranks 2", "", "behind", "ahead"}) {
        const bool here = *ranks == 0 || *ranks == '-', ahead = !strcmp(ranks, "ahead");
        if (!here && !mounts) SKIP("no mpirun, or unshare of mounts is not permitted: all ranks saw the same file");
        for (bool validated : {true, false}) {
            if (!here && validated == ahead) continue;
            write_file_atomically(path, validated ? metrics : stale);
            write_file_atomically(SCRATCH + "/out/main.log", validated ? log : log.substr(0, log.rfind("s:4 tel")));
            write_file_atomically(other, ahead ? metrics : stale);
            const std::string one = trainer("out", options + (here ? ranks : ""));
            const Outcome o = must(here ? one : mpirun(1) + one + " : -np 1 unshare -rm sh -c 'mount --bind " + other + " " + path + " && exec " + one + "'");
            if (has(o.output, "nothing to do: the run is finished") != validated) FAIL("%s, %s: said \"%s\"", ranks, validated ? "validated" : "not validated", o.output.c_str());
            EXPECT_STR(contents("out/main.log"), log);
            EXPECT_EQ(has(contents("out/metrics.jsonl").substr(stale.size()), "val_loss"), true);
        }
    }
}

TEST(ranks_stop_together_on_a_signal) {
    prepare();
    for (int signal : {SIGINT, SIGTERM}) {
        const std::string out = std::to_string(signal), stage = signal == SIGINT ? "" : "--leaves 8 -z 3 ";
        Background run(trainer(out, stage + "-x 100000 -v 0 -n 0 --ranks 2 --schedule constant -n 100000"));
        EXPECT(run.says(" 3/100000 "));
        run.send(signal);
        EXPECT_EQ(run.code(), 0);
        EXPECT(has(contents("said"), "interrupted after step "));
        EXPECT_EQ(list_checkpoints(SCRATCH + "/" + out).size(), (size_t)1);
    }
}

// A rank that is killed takes the others with it; the last checkpoint is there.
TEST(ranks_end_when_one_is_killed) {
    prepare();
    Background run(trainer("out", "-x 100000 -v 0 -n 2 -nk 2 --ranks 3 -d 192 --leaves 3"));
    EXPECT(run.says(" 5/100000 "));
    const pid_t victim = run.rank(1), witness = run.rank(2);
    EXPECT(victim > 0 && witness > 0);
    kill(victim, SIGKILL);
    EXPECT_EQ(run.code(), 128 + SIGKILL);
    EXPECT(has(contents("said"), format("error: rank 1 (process %d) was killed by signal 9 (Killed)", (int)victim)));
    EXPECT(kill(witness, 0) != 0);
    EXPECT(find_newest_checkpoint(SCRATCH + "/out", [](const std::string&) {}).step >= 2);
    must(trainer("out", "-x 8 -v 0 -n 2 -nk 2 -y 1 -d 192 --leaves 3 --schedule constant"));
}

// A rank that hangs is named, with the step and the operation, and nobody waits for long.
TEST(ranks_name_one_that_hangs) {
    prepare();
    Background run(trainer("out", "-x 100000 -v 0 -n 0 --ranks 2 --comm-timeout 1"));
    EXPECT(run.says(" 3/100000 "));
    const pid_t victim = run.rank(1);
    EXPECT(victim > 0);
    kill(victim, SIGSTOP);
    EXPECT_EQ(run.code(), EXIT_COMM);
    EXPECT(has(contents("said"), format("error: rank 0: rank 1 (process %d) has not come within 1 s: it is at step ", (int)victim)));
    EXPECT(has(contents("said"), "; the last operations: " + SCRATCH + "/out/flight-00000.txt\n"));
    const std::string record = contents("out/flight-00000.txt");
    EXPECT(has(record, " exchange bytes ") && record.ends_with(" open\n"));
    EXPECT(kill(victim, 0) != 0);
}

TEST(ranks_refuse) {
    prepare();
    const struct { const char *options, *says; } cases[] = {
        {"--ranks 3", "--total-batch: 256 given, must be a multiple of batch x seq x ranks = 2 x 16 x 3 = 96"},
        {"--ranks 2 --leaves 3", "--leaves: 3 given, must be a multiple of the 2 ranks that divides the 8 micro-batches of a step"},
        {"--ranks 2 --leaves 6 -d 384", "--leaves: 6 given, which are 3 of each of 2 ranks, must be 1, 2, 4, 8, ... of each"},
        {"--leaves 16", "--leaves: 16 given, must be a multiple of the 1 ranks that divides the 8 micro-batches of a step"},
        {"--ranks 2 -z 2", "--leaves: 4 given, must be the 8 micro-batches of a step with --zero 2: where no rank keeps whole gradients, each micro-batch is a leaf"},
        {"--ranks 3 -d 192 --leaves 3 -z 3", "--leaves: 3 given, must be the 6 micro-batches of a step with --zero 3: where no rank keeps whole gradients, each micro-batch is a leaf"},
        {"--ranks 3 -d 288 --leaves 9", "--leaves: 9 given, which are 3 of each of 3 ranks, must be 1, 2, 4, 8, ... of each: else the sums are no part of the tree that one rank makes; --zero 2 takes them"},
        {"--ranks 2 --reduce nccl --exchange bf16", "--exchange: 'bf16' given, must be fp32 with --reduce nccl: the library would add in bf16"},
        {"--exchange bf16", "--exchange: 'bf16' given, must be fp32 or left out: it has no effect in a run of one process"},
        {"--ranks 2 --reduce nccl", "--reduce: 'nccl' given, must be tree: ranks that share memory (--ranks) only carry bytes; GPUs, and ranks of mpirun, have sums of their own"},
        {"--reduce nccl", "--reduce: 'nccl' given, must be tree or left out: it has no effect in a run of one process"},
        {"--ranks 65", "--ranks: '65' given, must be a whole number in 1..64"},
        {"--ranks 2 -pn 1", "--ranks: 2 given, but --nproc is 1"},
        {"-pn 2 -pr 0 -pi tcp", "--init: 'tcp' given, must be left out: it is for GPUs; ranks on a CPU are started by mpirun or --ranks"},
        {"--secret-file x", "--secret-file: 'x' given, must be left out: it has no effect in a run of one process"},
    };
    for (auto& c : cases) {
        Outcome o = run_command(trainer("out", FOUR_STEPS + c.options));
        // a rank that rank 0 is 0.3 s behind says it too: where the machine is that busy, once more
        for (int again = 0; again < 3 && std::count(o.output.begin(), o.output.end(), '\n') > 1; again++) o = run_command(trainer("out", FOUR_STEPS + c.options));
        if (o.code != EXIT_USAGE || !has(o.output, c.says) || o.output.find('\n') != o.output.size() - 1) FAIL("%s: exit code %d, said \"%s\"", c.options, o.code, o.output.c_str());
    }
    EXPECT(access((SCRATCH + "/out").c_str(), F_OK) != 0);
}

// A launcher that has started one process has no ranks of its own: `srun --pty bash` and `mpirun -np 1` leave their variables to what is started there.
TEST(ranks_where_a_launcher_started_one) {
    prepare();
    for (const char* by : {"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1"}) {
        const Outcome o = must(format("env %s ", by) + trainer("out", "-x 1 -v 0 -n 0 --ranks 2"));
        if (!has(o.output, " x 2 ranks = ")) FAIL("%s: %s", by, o.output.c_str());
        EXPECT(has(must(format("env %s ", by) + trainer("one", "-x 1 -v 0 -n 0")).output, " x 1 ranks = "));
    }
}
