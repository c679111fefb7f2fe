// The program trains: it learns, repeats itself, goes on where it was, keeps what it should; on shards, texts and mixtures; and as one file.
#include <signal.h>
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/train/log.h"
#include "cli_test.h"

namespace {
const std::string SCRATCH = "build/tmp/runs";
}

TEST(trains_and_learns) {
    prepare();
    Outcome o = run_small("a", "-x 60 -l 3e-3 -n 60");
    EXPECT(has(o.output, "step 60/60") && has(o.output, "bits/byte") && has(o.output, "tok/s") && has(o.output, "% of peak"));
    std::vector<double> loss = series("a", "loss");
    EXPECT_EQ(loss.size(), 60u);
    EXPECT(loss.front() > 5.4 && loss.front() < 5.7 && loss.back() < 2.0);  // ln 257 = 5.55 knows nothing
    EXPECT(has(contents("a/main.log"), "s:60 tel:") && has(contents("a/main.log"), "s:1 trl:"));
    EXPECT_STR(verify_checkpoint(SCRATCH + "/a/step_00000060"), "");
}

// A coarse clock may say that a step took no time, and then its rate is no number: JSON has a word for that.
TEST(a_step_without_time_is_a_line_of_json) {
    prepare(), make_folders(SCRATCH + "/log");
    Log log(SCRATCH + "/log", true, {});
    log.step({.step = 1, .steps = 2, .loss = 3, .norm = 1, .lr = 1e-3, .seconds = 0, .tokens = 64, .flops = 1e9, .peak = 1e12, .seconds_left = 0, .skipped = ""});
    log.step({.step = 2, .steps = 2, .loss = NAN, .norm = INFINITY, .lr = 1e-3, .seconds = 0.5, .tokens = 64, .flops = 1e9, .peak = 1e12, .seconds_left = 0, .skipped = "a \"reason\""});
    const std::vector<std::string> lines = lines_of(contents("log/metrics.jsonl"));
    if (lines.size() != 2) return FAIL("%zu lines", lines.size());
    for (const std::string& line : lines) json_parse(line, "metrics.jsonl");
    EXPECT(has(lines[0], "\"ms\": 0.000, \"tokens_per_s\": null, \"flops_per_s\": null, \"mfu\": null}"));
    EXPECT(has(lines[1], "\"tokens_per_s\": 128.0, \"flops_per_s\": 2000000000, \"mfu\": 0.0020, \"skipped\": \"a \\\"reason\\\"\"}"));
}

TEST(same_options_same_bits) {
    prepare();
    for (const char* precision : {"fp32", "bf16"}) {
        run_small("a", format("-x 6 -n 6 --precision %s", precision));
        run_small("b", format("-x 6 -n 6 --threads 2 --precision %s", precision));
        for (const char* file : {"model.safetensors", "state-00000.safetensors", "config.json", "tokenizer.json"})
            EXPECT(contents(format("a/step_00000006/%s", file)) == contents(format("b/step_00000006/%s", file)));
        EXPECT(contents("a/main.log") == contents("b/main.log"));
        remove_tree(SCRATCH + "/a"), remove_tree(SCRATCH + "/b");
    }
}

// A run of 10 steps; and one that is ended after 4 and 7 and resumed: the same weights, state and logs.
TEST(resume_is_the_undisturbed_run) {
    prepare();
    for (const char* options : {"", "--precision bf16 --recompute 2 -d 128 -sl 3", "--precision bf16 -w 0 --bos-align 1", "--doc-mask 1"}) {
        std::string common = format("%s -n 1 -s 3 -g 8 ", options);
        run_small("a", common + "-x 10");
        // ended by -x would change the schedule; ended by removing what came later is what a crash does
        run_small("b", common + "-x 10");
        for (int step : {5, 6, 7, 8, 9, 10}) remove_tree(SCRATCH + format("/b/step_%08d", step));
        Outcome o = run_small("b", common + "-x 10 -y 1");
        EXPECT(has(o.output, "step  5/10") && !has(o.output, "step  4/10"));
        for (const char* file : {"model.safetensors", "state-00000.safetensors"})
            EXPECT(contents(format("a/step_00000010/%s", file)) == contents(format("b/step_00000010/%s", file)));
        EXPECT(contents("a/main.log") == contents("b/main.log"));
        EXPECT(metrics("a") == metrics("b"));
        remove_tree(SCRATCH + "/a"), remove_tree(SCRATCH + "/b");
    }
}

TEST(resume_skips_damage) {
    prepare();
    run_small("a", "-x 6 -n 2");
    std::string weights = contents("a/step_00000006/model.safetensors");
    weights[weights.size() / 2] ^= 1;
    FILE* file = fopen((SCRATCH + "/a/step_00000006/model.safetensors").c_str(), "w");
    fwrite(weights.data(), 1, weights.size(), file);
    fclose(file);
    Outcome o = run_small("a", "-x 6 -n 2 -y 1");
    EXPECT(has(o.output, "skipped " + SCRATCH + "/a/step_00000006: model.safetensors") && has(o.output, "step 5/6"));
    EXPECT_STR(verify_checkpoint(SCRATCH + "/a/step_00000006"), "");
    rename_file(SCRATCH + "/a/step_00000006", SCRATCH + "/a/step_00000100");  // it would stay the newest whatever is saved after it
    o = run_command(small("a", "-x 8 -n 2 -y 1"));
    EXPECT(o.code == 1 && has(o.output, "step_00000100/trainer.json: step is 6, must be that of the folder's name, 100: was it renamed?\n") && access((SCRATCH + "/a/step_00000008").c_str(), F_OK));
}

TEST(keep_and_major) {
    prepare();
    run_small("a", "-x 12 -n 2 -nk 2 -nm 4");
    std::string steps;
    for (const Checkpoint& c : list_checkpoints(SCRATCH + "/a")) steps += std::to_string(c.step) + " ";
    EXPECT_STR(steps, "4 8 10 12 ");
}

TEST(sigterm_saves_and_exits_0) {
    prepare();
    std::string command = "exec " + small("a", "-x 1000000 -n 1000000 > " + SCRATCH + "/said");
    pid_t pid = fork();
    if (pid == 0) { execl("/bin/sh", "sh", "-c", command.c_str(), (char*)nullptr); _exit(127); }
    for (int i = 0; i < 600; i++) {  // until it has made a step, a minute at most
        usleep(100000);
        if (has(contents("said"), "step       1/")) break;
    }
    kill(pid, SIGTERM);
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    std::vector<Checkpoint> list = list_checkpoints(SCRATCH + "/a");
    EXPECT_EQ(list.size(), 1u);
    if (!list.empty()) EXPECT_STR(verify_checkpoint(list[0].path), "");
    EXPECT(has(contents("said"), "interrupted after step"));
}

TEST(sample_from_checkpoint) {
    prepare();
    run_small("a", "-x 150 -l 3e-3 -n 150 -v 0");
    std::string command = format("%s -e %s/a/step_00000150 --prompt 'Anna ' -x 0 -g 24 --temperature 0 --threads 1", TRAINER, SCRATCH.c_str());
    Outcome o = run_command(command);
    EXPECT_EQ(o.code, 0);
    auto sample = [](const std::string& output) { size_t at = output.find("---\n"); return at == output.npos ? "" : output.substr(at); };
    EXPECT(has(sample(o.output), "---\nAnna ") && (has(o.output, "\nAnna h") || has(o.output, "\nAnna s")));
    EXPECT_STR(sample(run_command(command).output), sample(o.output));
    Outcome warm = run_command(command + " --temperature 1 --top-k 3 --top-p 0.9 --seed 5");
    EXPECT_EQ(warm.code, 0);
    EXPECT_EQ(access("out", F_OK), -1);  // nothing is written where nothing is trained
}

TEST(a_checkpoint_saved_again_is_the_same) {
    prepare();
    for (const char* precision : {"fp32", "bf16"}) {
        run_small("a", format("-x 3 -n 3 -v 0 --precision %s", precision));
        std::string from = SCRATCH + "/a/step_00000003", command = format("%s -e %s -x 0 --precision %s -o %s/", TRAINER, from.c_str(), precision, SCRATCH.c_str());
        EXPECT_EQ(run_command(command + "b").code, 0);
        for (const char* file : {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"})
            EXPECT(contents(format("a/step_00000003/%s", file)) == contents(format("b/step_00000000/%s", file)));
        // without this transformers splits text as GPT-2 does, whatever tokenizer.json says: hf_check.py
        EXPECT(has(contents("a/step_00000003/tokenizer_config.json"), "\"tokenizer_class\": \"PreTrainedTokenizerFast\""));
        EXPECT(has(contents("a/step_00000003/tokenizer_config.json"), "\"eos_token\": \"<|endoftext|>\""));
        EXPECT_STR(verify_checkpoint(SCRATCH + "/b/step_00000000"), "");
        EXPECT_EQ(run_command(command + "none -n 0").code, 0);
        EXPECT(list_checkpoints(SCRATCH + "/none").empty());
        // a run that is only looked at keeps its state
        EXPECT_EQ(run_command(small("a", format("-x 0 -y 1 --precision %s", precision))).code, 0);
        EXPECT(!contents("a/step_00000003/state-00000.safetensors").empty());
        EXPECT_EQ(list_checkpoints(SCRATCH + "/a").size(), 1u);
        remove_tree(SCRATCH + "/a"), remove_tree(SCRATCH + "/b");
    }
}

TEST(overfit_and_switches) {
    prepare();
    Outcome o = run_small("a", "-a 1 -x 40 -l 5e-3 -v 0 -n 0 --grad-clip 0");
    EXPECT(!has(o.output, "val ") && list_checkpoints(SCRATCH + "/a").empty());
    EXPECT(has(o.output, "step 40/40  loss 0."));
    o = run_small("b", "-x 0");
    EXPECT(has(o.output, "val ") && !has(o.output, "step 1"));
}

TEST(not_finite_is_skipped_then_stops) {
    prepare();
    Outcome o = run_command(small("a", "-x 100 -l 1e30 --grad-clip 0 -n 0 -v 0"));
    EXPECT_EQ(o.code, 1);
    EXPECT(has(o.output, "update skipped: loss or norm is not finite") && has(o.output, "10 updates in a row were skipped"));
    EXPECT(has(contents("a/metrics.jsonl"), ", \"skipped\": \"loss or norm is not finite\"}\n"));
}

TEST(accumulation_and_jsonl) {
    prepare();
    std::string text;
    for (int i = 0; i < 300; i++) text += format("{\"id\": %d, \"text\": \"Line %d says \\u00e9\\n\"}\n", i, i % 7);
    write_file_atomically(SCRATCH + "/text.jsonl", text);
    Outcome o = run_command(format("%s -i %s/text.jsonl -o %s/a -e d1 -b 1 -t 16 -d 64 -x 3 -n 0 -s 0", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(o.code == 0 && has(o.output, "4 micro-batches") && has(o.output, "step 3/3"));
}

TEST(documents_and_mixtures) {
    prepare();
    std::string other;
    for (int i = 0; i < 300; i++) other += format("%d and %d make %d.<|endoftext|>", i, i, 2 * i);
    write_file_atomically(SCRATCH + "/sums.txt", other);
    run_small("plain", "-x 2 -n 2 -t 256"), run_small("masked", "-x 2 -n 2 -t 256 --doc-mask 1");  // at the start the loss hardly shows it
    EXPECT(contents("plain/step_00000002/model.safetensors") != contents("masked/step_00000002/model.safetensors"));
    auto mixed = [](const std::string& out, const std::string& rest) {
        return run_command(format("%s -i '%s/text.txt:0.75,%s/sums.txt:0.25' -o %s/%s -e d1 -b 2 -t 32 -v 0 -s 0 --threads 1 %s", TRAINER, SCRATCH.c_str(),
                                  SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str()));
    };
    EXPECT_EQ(mixed("mix", "-x 8 -n 4 --doc-mask 1").code, 0);
    EXPECT_EQ(mixed("again", "-x 8 -n 4 --doc-mask 1").code, 0);
    remove_tree(SCRATCH + "/again/step_00000008");
    EXPECT_EQ(mixed("again", "-x 8 -n 4 --doc-mask 1 -y 1").code, 0);
    EXPECT(contents("mix/step_00000008/model.safetensors") == contents("again/step_00000008/model.safetensors"));
    EXPECT_EQ(mixed("bpe", "-x 1 -n 0 --tokenizer bpe:300").code, 0);
}

// The one-file trainer, copied to another place and compiled there, is the same program.
TEST(single_file_compiles_and_trains) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("the file is compiled without sanitizers: the plain build looks at it");
#endif
    prepare();
    write_file_atomically(SCRATCH + "/elsewhere.cpp", read_file("build/train_gpt2_single.cpp"));
    Outcome o = run_command(format("cd %s && %s -std=c++20 -O0 -pthread elsewhere.cpp -o elsewhere", SCRATCH.c_str(), COMPILER));
    EXPECT_EQ(o.code, 0);
    EXPECT_STR(o.output, "");
    run_small("a", "-x 3 -n 0");
    std::string options = small("b", "-x 3 -n 0");
    o = run_command(SCRATCH + "/elsewhere" + options.substr(strlen(TRAINER)));
    EXPECT_EQ(o.code, 0);
    // Compiled for any CPU, its sums run in another order: 1e-6 relative in a gradient, but AdamW's first steps turn that into up
    // to 2 lr in a weight whose gradient is nothing but rounding. 1e-4 in the loss is far above both and far below a mistake.
    for (const char* field : {"loss", "grad_norm", "val_loss"}) {
        std::vector<double> here = series("a", field), there = series("b", field);
        EXPECT(here.size() >= 2 && here.size() == there.size());
        for (size_t i = 0; i < here.size() && i < there.size(); i++) EXPECT(std::fabs(there[i] / here[i] - 1) < 1e-4);
    }
}
