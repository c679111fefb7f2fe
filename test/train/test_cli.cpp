// The trainer as a user meets it: the program itself, started with options, on small text.
#include <fcntl.h>
#include <signal.h>
#include "../../llmc/io/checkpoint.h"
#include "../trainer_runs.h"

namespace {
const std::string SCRATCH = "build/tmp/cli";

void prepare() { prepare_text(SCRATCH, 1500); }
std::string small(const std::string& out, const std::string& rest) {
    return format("%s -i %s/text.txt -o %s/%s -e d1 -b 2 -t 32 -v 4 -m 2 -s 0 --threads 1 %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(),
                  out.c_str(), rest.c_str());
}
Outcome run_small(const std::string& out, const std::string& rest) {
    Outcome outcome = run_command(small(out, rest));
    if (outcome.code) FAIL("%s: exit code %d: %s", rest.c_str(), outcome.code, outcome.output.c_str());
    return outcome;
}
std::string contents(const std::string& path) { return file_contents(SCRATCH + "/" + path); }
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// metrics.jsonl without what a clock decides and without the lines that say a run began
std::vector<std::string> metrics(const std::string& out) {
    std::vector<std::string> lines;
    for (const std::string& line : lines_of(contents(out + "/metrics.jsonl"))) {
        json_parse(line, "metrics.jsonl");
        if (!has(line, "\"run\"")) lines.push_back(line.substr(0, line.find(", \"ms\"")));
    }
    return lines;
}
std::vector<double> series(const std::string& out, const char* field) { return metrics_of(SCRATCH + "/" + out, field); }
}  // namespace

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

TEST(bin_files_in_and_out) {
    prepare();
    for (const char* precision : {"fp32", "bf16"}) {
        run_small("a", format("-x 3 -n 3 -v 0 --precision %s --export-bin %s/a.bin", precision, SCRATCH.c_str()));  // at the end of a run
        std::string from = SCRATCH + "/a.bin", again = format("%s -x 0 --precision %s --export-bin %s/b.bin -e ", TRAINER, precision, SCRATCH.c_str());
        for (std::string model : {SCRATCH + "/a/step_00000003", from}) {  // of a checkpoint, of another file
            EXPECT_EQ(run_command(again + model).code, 0);
            EXPECT(contents("a.bin") == contents("b.bin"));
            unlink((SCRATCH + "/b.bin").c_str());
        }
        // and back to a folder; trained on, and resumed
        EXPECT_EQ(run_command(format("%s -x 0 --precision %s -e %s -o %s/b", TRAINER, precision, from.c_str(), SCRATCH.c_str())).code, 0);
        EXPECT(contents("a/step_00000003/model.safetensors") == contents("b/step_00000000/model.safetensors"));
        run_small("c", format("-e %s --tokenizer bytes -x 2 -n 1 --precision %s", from.c_str(), precision));
        remove_tree(SCRATCH + "/c/step_00000002");
        EXPECT(has(run_small("c", format("-e %s -x 2 -y 1 --precision %s", from.c_str(), precision)).output, "step 2/2"));
        for (const char* out : {"/a", "/b", "/c"}) remove_tree(SCRATCH + out);
    }
}

TEST(evaluations) {
    prepare();
    write_file_atomically(SCRATCH + "/q.jsonl", "{\"context\": \"Anna\", \"choices\": [\" has\", \" was\", \" qxz\"], \"answer\": \" has\"}\n"
                                                "{\"context\": \"Ben has \", \"choices\": [\"xxx xxx xxx\", \"the red ball\"], \"answer\": \"the red ball\"}\n");
    write_file_atomically(SCRATCH + "/choices.jsonl", "{\"context\": \"Anna\", \"choices\": [\"qqq\", \"has\"], \"answer\": 1}\n");
    // documents shorter than -t: the positions behind it, which evaluations use where a row is that long, are not trained
    std::string lines;
    for (const char* line : {"Anna has the red ball.", "Ben sees a small box.", "Clara has an old book."}) lines += std::string(line) + "\n<|endoftext|>";
    write_file_atomically(SCRATCH + "/lines.txt", lines);
    std::string eval = format("--eval q=%s/q.jsonl,one=%s/choices.jsonl,text=%s/lines.txt", SCRATCH.c_str(), SCRATCH.c_str(), SCRATCH.c_str());
    Outcome o = run_small("a", "-x 200 -v 100 -l 3e-3 -n 200 " + eval);
    EXPECT(has(o.output, "one: 1 questions: acc 100.0% (chance 50.0%), acc_norm 100.0% (chance 50.0%)\n") && has(o.output, "text: ") && has(o.output, " bits/byte"));
    EXPECT(has(o.output, "q: 2 questions: acc 100.0% (chance 41.7%), acc_norm 100.0% (chance 41.7%), completions ") && has(o.output, "0% (chance 0%)\n"));
    EXPECT(has(contents("a/metrics.jsonl"), "\"acc_norm\": 1.000000, \"completions\": "));
    std::string log = contents("a/metrics.jsonl");
    EXPECT(has(log, "{\"step\": 100, \"eval\": \"one\"") && has(log, "{\"step\": 200, \"eval\": \"one\"") && has(log, "{\"step\": 100, \"eval\": \"text\""));
    EXPECT(!has(log, "{\"step\": 0, \"eval\"") && !has(log, "{\"step\": 100, \"eval\": \"q\"") && has(log, "{\"step\": 200, \"eval\": \"q\""));
    EXPECT(has(contents("a/main.log"), "s:200 eval:1.000000\n"));
    EXPECT(has(contents("a/eval_q.jsonl"), "\"item\":2,") && has(contents("a/eval_q.jsonl"), "\"greedy\":") && has(contents("a/eval_text.jsonl"), "\"bytes\":"));
    // bits per byte of a text, in windows: near the loss on such text, and the same from a checkpoint alone
    double bits = series("a", "bits_per_byte").back(), loss = series("a", "loss").back() / std::log(2.0);
    EXPECT(bits > 0.5 * loss && bits < 2 * loss);
    o = run_command(format("%s -e %s/a/step_00000200 -t 32 -b 2 -x 0 -n 0 -o %s/b %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), eval.c_str()));
    EXPECT_EQ(o.code, 0);
    for (const char* file : {"eval_q.jsonl", "eval_one.jsonl", "eval_text.jsonl"})
        EXPECT(contents(format("a/%s", file)) == contents(format("b/%s", file)));
    // a longer one is not cut to -t, and that the run does not train its positions is said
    write_file_atomically(SCRATCH + "/long.txt", std::string(200, 'x'));
    o = run_small("long", "-x 1 -n 0 --eval long=" + SCRATCH + "/long.txt");
    EXPECT(has(o.output, "eval     rows of up to 200 tokens, as the model's context is 1024; this run trains the first 32 positions\n"));
    const std::string whole = contents("long/eval_long.jsonl");
    EXPECT(!has(run_small("short", "-x 1 -n 0 --eval text=" + SCRATCH + "/lines.txt").output, "eval     rows"));
    EXPECT(has(whole, "\"bytes\":200"));
    // and what is longer than the context is counted
    write_file_atomically(SCRATCH + "/over.jsonl", format("{\"context\": \"%s\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n", std::string(1100, 'x').c_str()));
    o = run_small("over", "-x 1 -n 0 --eval over=" + SCRATCH + "/over.jsonl");
    EXPECT(has(o.output, "over: the beginning of 1 of 2 items was cut: the model's context is 1024\n") && has(contents("over/metrics.jsonl"), ", \"cut\": 1}"));
    o = run_command(small("c", "-x 1 -n 0 --eval one=" + SCRATCH + "/absent.jsonl"));
    EXPECT(o.code == 1 && has(o.output, "absent.jsonl: No such file") && access((SCRATCH + "/c").c_str(), F_OK) != 0);
}

TEST(chat) {
    prepare();
    run_small("a", "-x 150 -l 3e-3 -n 150 -v 0");
    const std::string model = SCRATCH + "/a/step_00000150", options = " --temperature 0 -g 24 --threads 1 ";
    auto says = [&](const std::string& lines, const std::string& more) {
        write_file_atomically(SCRATCH + "/lines", lines);
        return run_command(format("%s --chat %s%s%s < %s/lines", TRAINER, model.c_str(), options.c_str(), more.c_str(), SCRATCH.c_str()));
    };
    // what --prompt writes, for each line, by itself
    std::string expected;
    for (const char* prompt : {"Anna ", "Ben"}) {
        std::string sample = run_command(format("%s -e %s -x 0 --prompt '%s' -t 1024%s", TRAINER, model.c_str(), prompt, options.c_str())).output;
        size_t from = sample.find("---\n") + 4;
        expected += sample.substr(from, sample.find("\n---", from) - from) + "\n[";
    }
    Outcome o = says("Anna \nBen", "");
    EXPECT_EQ(o.code, 0);
    std::string answers;
    for (size_t at = o.output.find('\n') + 1, open; (open = o.output.find("\n[", at)) != o.output.npos; at = o.output.find("]\n", open) + 2)
        answers += o.output.substr(at, open + 2 - at);
    EXPECT_STR(answers, expected);
    EXPECT(has(o.output, "[24 tokens, ") && has(o.output, " tokens/s, ") && has(o.output, "% of what memory allows]\n"));
    EXPECT(has(says("", "").output, "parameters in fp32, context 1024, 1 threads; memory reads ") && says("", "").code == 0);
    // nothing typed, bytes that are no text, a line longer than the context, Windows' line ends
    for (std::string lines : {std::string("\n\n"), std::string("\xff\xfe\0\n", 4), std::string(3000, 'x'), std::string("Ben\r\n")})
        for (const char* more : {"", "-t 16", "--precision bf16"}) {
            o = says(lines, more);
            if (o.code || !has(o.output, " tokens/s, ")) FAIL("%s: exit code %d: %s", more, o.code, o.output.c_str());
        }
    EXPECT(has(says("Ben\n", "-g 1").output, "\n[1 tokens]\n"));
    EXPECT_EQ(access("out", F_OK), -1);
    unlink((model + "/tokenizer.json").c_str());
    o = says("Ben\n", "");
    EXPECT(o.code == 1 && has(o.output, "tokenizer.json: No such file or directory"));  // its MANIFEST lists one
    unlink((model + "/MANIFEST").c_str());
    o = says("Ben\n", "");
    EXPECT(o.code == 2 && has(o.output, "--chat: no tokenizer.json beside the model: --tokenizer must name one"));
    EXPECT_EQ(says("Ben\n", "--tokenizer bytes").code, 0);
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

TEST(plan) {
    Outcome o = run_command(format("%s --plan H100 -e d12 -b 64 -t 1024 -d 524288 -pn 8 -z 1 -x 19560 --precision bf16", TRAINER));
    EXPECT_EQ(o.code, 0);
    EXPECT(has(o.output, "124M parameters") && has(o.output, "8 x H100") && has(o.output, "AdamW moments") && has(o.output, "10.3G tokens"));
    EXPECT_EQ(run_command(format("%s --plan", TRAINER)).code, 0);
    EXPECT(has(run_command(format("%s --plan -e d4c128h8", TRAINER)).output, "4 layers, width 128, 8 heads"));
    EXPECT_EQ(run_command(format("%s --plan -e gpt3:c12288 -b 1", TRAINER)).code, 0);  // far beyond this machine: only planned
    EXPECT(has(run_command(format("%s --plan -e d1 -t 64", TRAINER)).output, "context 64 of the model's 1024,"));
    EXPECT(has(run_command(format("%s --plan -e d1 -t 1024", TRAINER)).output, "context 1024,"));
#ifndef __SANITIZE_ADDRESS__  // under which buffers share nothing
    EXPECT(has(run_command(format("%s --plan -e d1 -t 64", TRAINER)).output, "  saved by sharing "));
#endif
    // 2^39 tokens a step, 1.18e21 in all: 64 bits hold the one, a double the other. 6 (12 * 48 * 1600^2 + 50257 * 1600) + 6 * 48 * 1600 * 1024 =
    // 9.80 GFLOP a token at 50.2 % of 494.7 TFLOP/s: 1.48e9 years
    o = run_command(format("%s --plan H100 -e d48 -b 512 -t 1024 -d 549755813888 -x 2147483647", TRAINER));
    EXPECT(o.code == 0 && has(o.output, "512 x 1024 tokens x 1048576 micro-batches x 1 ranks = 550G tokens") && has(o.output, "1.48G years") && has(o.output, "1.18Z tokens"));
    o = run_command(format("%s --plan H100 -e d1024 -b 1048576 -t 1024 -pn 4096 -x 2147483647", TRAINER));
    EXPECT(o.code == 0 && !has(o.output, "nan") && !has(o.output, "inf") && has(o.output, "59.5G years"));
    EXPECT(has(run_command(format("%s --plan -b auto -e d1 -t 64 -d 256", TRAINER)).output, "--batch auto: 4 sequences, 1 times a step"));
}

// Of many GPUs: what scaling.h says is tested in test_scaling.cpp; here that options reach it, and that nothing else is said of a machine without one.
TEST(plan_of_many_gpus) {
    const auto plan = [](const std::string& rest) {
        Outcome o = run_command(format("%s --plan %s -e d12 -b 4 -t 1024 --precision bf16 -x 1000", TRAINER, rest.c_str()));
        EXPECT_EQ(o.code, 0);
        return o.output;
    };
    const auto line = [](const std::string& output, const std::string& begin) {
        const size_t at = output.find("\n" + begin);
        return at == output.npos ? "" : output.substr(at + 1, output.find('\n', at + 1) - at - 1);
    };
    const std::string all = plan("--gpu H100 --nodes 128 --gpus-per-node 8 --net 400 -z 1");
    EXPECT_STR(line(all, "cluster"), "cluster  128 x 8 H100, 450 GB/s each way in a node and 400 Gb/s of network for each, ZeRO stage 1");
    for (const char* part : {"1024 x H100", "x 1024 ranks = 4.19M tokens", "\nkernels  by roofline", "\nstep     ms: compute ", " exposed ", "\nscaling  limit: network; ",
                             "\ntime     by these, not measured: ", " MFU ", "; 1000 steps: ", "4.19G tokens, $", " at 3.5 a GPU hour\n"})
        if (!has(all, part)) FAIL("'%s' is not in: %s", part, all.c_str());
    // every way to name the same
    EXPECT_STR(plan("H100 -pn 1024 -z 1"), all);
    EXPECT_STR(plan("H100 --gpu H100 --nodes 128 -pn 1024 -pg 8 -z 1"), all);
    // ranks of one node that is not full; nodes of one GPU
    EXPECT(has(plan("H100 -pn 4"), "cluster  1 x 4 H100,") && has(plan("H100 -pn 4 -pg 1"), "cluster  4 x 1 H100,") && has(plan("H100"), "cluster  1 x 1 H100,"));
    // memory of stage 1, GiB: 124.4M parameters in bf16, gradients in fp32, 12 bytes over 1024 ranks: 0.23 + 0.46 + 0.00
    EXPECT(has(all, "\n         1*   0.23 +   0.46 +   0.00 + ") && has(all, "\n         0:   0.23 +   0.46 +   1.39 + "));
    // 100 Gb/s are slower, and money is what is asked for
    const auto seconds = [&](const std::string& output) { return atof(line(output, "time").c_str() + strlen("time     by these, not measured: ")); };
    EXPECT(seconds(plan("--gpu H100 --nodes 128 --net 100 -z 1")) > 1.5 * seconds(all));
    // dollars by hand from the printed step: 1000 steps of 1024 GPUs; the step has four digits, the money is a whole number
    const std::string time = line(all, "time");
    const double dollars = seconds(all) * 1000 * 1024 / 3600 * 3.5;
    EXPECT(std::fabs(atof(time.c_str() + time.find('$') + 1) - dollars) <= 1 + 5e-4 * dollars);
    const std::string free = line(plan("--gpu H100 --nodes 128 -z 1 --gpu-price 0"), "time");
    EXPECT(free.ends_with(", $0 at 0 a GPU hour"));
    // a machine that is not in the table
    const std::string here = plan("");
    EXPECT(has(here, "time     at half the peak: ") && !has(here, "cluster") && !has(here, "$"));
}

// --plan of a run that goes on is the checkpoint's, of data that of their tokenizer; what cannot be known is said, and nothing is written.
TEST(plan_is_of_the_run) {
    prepare();
    run_small("a", "-e d2c32h2 --tokenizer bpe:280 -x 4 -n 4");
    const std::string names = run_command("cd " + SCRATCH + "; find . | sort").output;
    auto plan = [](const std::string& options) {
        Outcome o = run_command(format("%s --plan H100 -t 32 %s", TRAINER, options.c_str()));
        if (o.code) FAIL("%s: exit code %d: %s", options.c_str(), o.code, o.output.c_str());
        return o.output;
    };
    const std::string text = " -i " + SCRATCH + "/text.txt ", a = " -o " + SCRATCH + "/a ";
    std::string said = plan(text + a + "-y 1 -x 10 -e d2c32h2");
    EXPECT(has(said, "goes on after step 4\n") && has(said, "2 layers, width 32, 2 heads, context 32 of the model's 1024, vocabulary 280:") && has(said, "; 6 steps: ") && !has(said, "assumed"));
    EXPECT(has(plan(text + a + "-y 1"), "2 layers, width 32") && has(plan(a + "-y 1"), "vocabulary 280:"));
    EXPECT(has(plan("-e " + SCRATCH + "/a/step_00000004"), "vocabulary 280:"));
    EXPECT(has(plan(text + "-e d1"), "tokenizer bytes, as none is named: 257 tokens\n") && has(plan(text + "-e d1"), "vocabulary 257:"));
    said = plan(text + "-e d1 --tokenizer bpe:5000");
    EXPECT(has(said, "plan     vocabulary 5000 assumed: the run learns a tokenizer of at most so many tokens\n") && has(said, "vocabulary 5000:"));
    EXPECT(has(plan("-e d1 --tokenizer bpe:5000"), "vocabulary 5000:") && has(plan("-e d1 --tokenizer bytes"), "vocabulary 257:"));
    EXPECT(has(plan("-e d12"), "plan     vocabulary 50257 assumed: GPT-2's, as there are no data and no --tokenizer\n"));
    said = plan("-e d12 -i " + SCRATCH + "/absent.bin");
    EXPECT(has(said, "plan     " + SCRATCH + "/absent.bin: no such file: planned without data\n") && has(said, "vocabulary 50257 assumed"));
    // the rows of an evaluation are encoded where there is a tokenizer, else they are as long as they can be
    write_file_atomically(SCRATCH + "/q.txt", std::string(100, 'x'));
    const std::string eval = " --eval q=" + SCRATCH + "/q.txt";
    EXPECT(has(plan(text + "-e d1" + eval), "eval     rows of up to 100 tokens") && has(plan("-e d1" + eval), "eval     rows of up to 1024 tokens"));
    unlink((SCRATCH + "/q.txt").c_str());
    EXPECT(has(plan(text + "-e d1 -y 1 -o " + SCRATCH + "/new"), "new: no checkpoint: starts afresh\n"));
    EXPECT_STR(run_command("cd " + SCRATCH + "; find . | sort").output, names);
    // shards: the tokenizer's beside them, or their format's
    EXPECT_EQ(run_command(format("%s -i %s/text.txt -o %s/shards --tokenizer bytes", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str())).code, 0);
    const std::string shards = " -e d1 -i '" + SCRATCH + "/shards/*.bin'";
    EXPECT(has(plan(shards), "beside the token shards: 257 tokens\n") && has(plan(shards), "vocabulary 257:") && has(plan(shards), " tokens to train on, 0 to validate on"));
    const int32_t header[256 + 40] = {20240801, 7, 40};
    write_file_atomically(SCRATCH + "/wide.bin", std::string_view((const char*)header, sizeof header));
    EXPECT(has(plan("-e d1 -i " + SCRATCH + "/wide.bin"), "vocabulary 128256:"));
}

// Half a gigabyte of plan; the program itself, its stacks and the text come on top.
TEST(memory_is_as_planned) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("AddressSanitizer's own memory comes on top");
#endif
    prepare();
    for (const char* rest : {"--precision fp32", "--precision bf16 -r 2"}) {
        Outcome o = run_command(format("%s -i %s/text.txt -e d6 -b 8 -t 512 -x 1 -n 0 -s 0 -v 0 -o %s/memory %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), rest));
        EXPECT_EQ(o.code, 0);
        double planned = 0, mib;
        for (size_t at = 0; (at = o.output.find("\n  total ", at)) != o.output.npos; at++)
            if (sscanf(o.output.c_str() + at, " total %lf", &mib) == 1) planned += mib;
        if (!(planned > 250 && o.peak_mib > 0.95 * planned - 64 && o.peak_mib < 1.05 * planned + 64))
            FAIL("%s: planned %.0f MiB, the peak was %.0f MiB", rest, planned, o.peak_mib);
        remove_tree(SCRATCH + "/memory");
    }
}

// The one-file trainer, copied to another place and compiled there, is the same program.
TEST(single_file_compiles_and_trains) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("the file is compiled without sanitizers: the plain build looks at it");
#endif
    prepare();
    write_file_atomically(SCRATCH + "/elsewhere.cpp", read_file("build/train_gpt2_single.cpp"));
    Outcome o = run_command(format("cd %s && %s -std=c++20 -O1 -pthread elsewhere.cpp -o elsewhere", SCRATCH.c_str(), COMPILER));
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

TEST(help_lists_every_option) {
    Outcome o = run_command(format("%s --help", TRAINER));
    EXPECT_EQ(o.code, 0);
    for (const char* option : {"--train-data, -i", "--total-batch, -d", "--skip-grad-z, -sg", "--checkpoint-every, -n", "--top-p", "--plan", "--rank, -pr", "--init, -pi", "--ranks", "--gpus"})
        EXPECT(has(o.output, option));
    // what this build only takes or refuses is one entry
    const size_t begin = std::min(o.output.find("  not yet "), o.output.size()), end = o.output.find("\n\n", begin);
    const std::string not_yet = o.output.substr(begin, end - begin);
    for (const char* option : {"--gpu-stats-every", "--dtype-grads"})
        if (!has(not_yet, option) || has(o.output, std::string("\n  ") + option + ", ")) FAIL("%s is not among the options that do nothing yet", option);
}

// Lines end at the terminal's width, between words; here the output is a pipe, so COLUMNS says it.
TEST(help_is_as_wide_as_the_terminal) {
    std::string words[3];
    const int widths[] = {60, 100, 160};
    for (int i = 0; i < 3; i++) {
        const std::string before = i == 1 ? "env -u COLUMNS" : format("COLUMNS=%d", widths[i]);  // 100 where nothing says it
        Outcome o = run_command(format("%s %s --help", before.c_str(), TRAINER));
        EXPECT_EQ(o.code, 0);
        size_t longest = 0;
        for (size_t at = 0, end; at < o.output.size(); at = end + 1) {
            end = o.output.find('\n', at);
            longest = std::max(longest, end - at);
        }
        if (longest > (size_t)widths[i] || longest + 20 < (size_t)widths[i]) FAIL("COLUMNS %d: the longest line has %zu", widths[i], longest);
        bool blank = true;
        for (char c : o.output) if (c != ' ' && c != '\n') words[i] += c, blank = false; else if (!blank) words[i] += ' ', blank = true;
    }
    EXPECT(words[0] == words[1] && words[1] == words[2]);
}

// A program that may use instructions which this CPU lacks says so before it uses one. FMA4 is of AMD alone, and of none since 2017.
TEST(cpu_without_a_feature) {
#ifndef __x86_64__
    SKIP("the features are x86's");
#endif
    prepare();
    const std::string source = format("%s/main.cpp", SCRATCH.c_str()), program = SCRATCH + "/program";
    write_file_atomically(source, "#include \"../../../llmc/base/cpu_features.h\"\n#include <cstdio>\nint main() { printf(\"runs\\n\"); }\n");
    for (const char* flags : {"-march=native", "-march=native -mfma4"}) {
        Outcome o = run_command(format("%s -std=c++20 -O2 %s %s -o %s && %s", COMPILER, flags, source.c_str(), program.c_str(), program.c_str()));
        if (!strstr(flags, "fma4") || has(read_file("/proc/cpuinfo"), " fma4")) EXPECT(o.code == 0 && o.output == "runs\n");
        else EXPECT(o.code == 1 && has(o.output, "error: this CPU has no fma4, which this program was compiled to use: build it on this machine") && o.output.find('\n') + 1 == o.output.size());
    }
}

// A model whose config.json differs from GPT-2's where it may: trained from a folder, resumed, and not exported.
TEST(an_own_head_another_mlp_another_eps) {
    prepare();
    run_small("a", "-e d2c48h3 -x 0 -n 1");
    const std::string folder = SCRATCH + "/a/step_00000000", other = SCRATCH + "/other";
    std::string config = contents("a/step_00000000/config.json");
    for (auto [from, to] : {std::pair{"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"}, {"1e-05", "0.001"}}) config.replace(config.find(from), strlen(from), to);
    // the head is written as transformers writes it: lm_head.weight beside transformer.*
    const SafetensorsFile file(folder + "/model.safetensors");
    std::vector<TensorSpec> specs = {{"lm_head.weight", Dtype::F32, file.find("wte.weight")->shape}};
    for (const TensorInfo& t : file.tensors()) specs.push_back({"transformer." + t.name, t.dtype, t.shape});
    make_folders(other);
    write_file_atomically(other + "/config.json", config), write_file_atomically(other + "/tokenizer.json", contents("a/step_00000000/tokenizer.json"));
    SafetensorsWriter writer(other + "/model.safetensors", specs, {{"format", "pt"}});
    for (const TensorSpec& spec : specs) {
        const TensorInfo* t = file.find(spec.name == "lm_head.weight" ? "wte.weight" : spec.name.substr(12));
        std::vector<float> values(t->count());
        file.read_as_float(*t, values.data(), 0, values.size());
        writer.write(values.data(), values.size() * sizeof(float));
    }
    writer.close();
    for (const char* precision : {"fp32", "bf16"}) {
        const std::string rest = format("-e %s -x 4 -n 2 -d 128 --precision %s", other.c_str(), precision);
        run_small("whole", rest), run_small("cut", rest);
        remove_tree(SCRATCH + "/cut/step_00000004");
        run_small("cut", rest + " -y 1");
        for (const char* name : {"model.safetensors", "state-00000.safetensors", "config.json"})
            EXPECT(contents(format("whole/step_00000004/%s", name)) == contents(format("cut/step_00000004/%s", name)));
        EXPECT(has(contents("whole/step_00000004/config.json"), "\"tie_word_embeddings\": false") && has(contents("whole/step_00000004/config.json"), "\"layer_norm_epsilon\": 0.001"));
        EXPECT(has(contents("whole/step_00000004/model.safetensors"), "\"lm_head.weight\"") && has(contents("whole/step_00000004/model.safetensors"), "\"transformer.wte.weight\""));
        remove_tree(SCRATCH + "/whole"), remove_tree(SCRATCH + "/cut");
    }
    Outcome o = run_command(small("no", "-e " + other + " -x 4 --export-bin " + SCRATCH + "/no.bin"));
    EXPECT(o.code == 2 && has(o.output, "--export-bin: a .bin file cannot hold this model: its head is not tied") && access((SCRATCH + "/no").c_str(), F_OK) != 0);
}

// What was meant, where it can be known.
TEST(mistakes_name_what_was_meant) {
    prepare();
    run_small("run", "-e d1c16h1 -x 2 -n 1");
    struct Mistake { const char *options, *says; };
    for (Mistake m : {
             Mistake{"-e gpt2", "--model: 'gpt2' given: GPT-2 124M is d12, which begins untrained; for its published weights name a folder"},
             {"-e openai-community/gpt2-xl", "GPT-2 1558M is d48"},
             {"-e SCRATCH/run", "SCRATCH/run is a run's folder: the newest checkpoint in it is SCRATCH/run/step_00000002"},
             {"--chat SCRATCH/run", "SCRATCH/run is a run's folder: the newest checkpoint in it is SCRATCH/run/step_00000002"},
             {"-e SCRATCH/rum", "SCRATCH/rum' given: no such folder; is it SCRATCH/run?"},
             {"-e SCRATCH/run/", "the newest checkpoint in it is SCRATCH/run/step_00000002"},
             {"-e SCRATCH/run/step_00000003", "no such folder; is it SCRATCH/run/step_00000001?"},
             {"-e SCRATCH/nothing/like/it", "SCRATCH/nothing/like/it' given: no such folder"},
             {"-e SCRATCH/run/step_00000002/model.safetensors", "that is a file; the model is the folder it lies in, SCRATCH/run/step_00000002,"},
             {"-e SCRATCH", "SCRATCH holds no config.json, so it is no checkpoint"},
             {"-e d12c100h7", "--model: 'd12c100h7' given: width 100 is not a multiple of 7 heads"},
             {"-e d12c768", "the number of heads is missing: d12c768h12 has heads of 64"},
             {"-e d2000", "'d2000' given: the depth must be from 1 to 1024"},
             {"-e d2c70000h1", "the width must be from 1 to 65536"},
             {"-i SCRATCH/text.txt -e d1c4096h1", "--model: width 4096 with 1 heads gives heads of 4096, must be at most 256"},
             {"-e d2c8h9", "the number of heads must be from 1 to 8"},
             {"-b 2000000", "--batch: '2000000' given, must be a whole number in 1..1048576, or auto"},
             {"-b 99999999999999999999", "must be a whole number in 1..1048576, or auto"},
             {"-i SCRATCH/text.txt -b 1048576 -t 1025 -e gpt3:c384", "--batch: 1048576 sequences of 1025 tokens are 1074790400 tokens, must be at most 1073741824"},
             {"-x 99999999999999", "-x: '99999999999999' given, must be a whole number in -1..2147483647"},
             {"--seed 18446744073709551616", "--seed: '18446744073709551616' given, must be a whole number in 0..18446744073709551615"},
             {"--seed -1", "must be a whole number in 0..18446744073709551615"},
             {"-x -2", "must be a whole number in -1..2147483647"},
             {"-d 9223372036854775808", "-d: '9223372036854775808' given, must be a whole number in 0..9223372036854775807"},
             {"-d 9000000000000000000 -b 1 -t 1", "which is 9000000000000000000 micro-batches of 1 tokens, must be at most 1048576 of them"},
             {"--plan -b auto -d 10", "--total-batch: 10 given, must be a multiple of seq x ranks = 256 x 1 = 256"},
             {"--val-evry 3", "--val-evry: unknown option; is it --val-every? --help lists them"},
             {"--warm-up 3", "is it --warmup?"},
             {"--batch_size 3", "is it --batch?"},
             {"--batchsize 3", "is it --batch?"},
             {"--learning-rate 1", "is it --lr?"},
             {"--Setps 3", "is it --steps?"},
             {"--zzzzzzzz 3", "--zzzzzzzz: unknown option; --help lists them"},
             {"SCRATCH/text.txt", "text.txt' is not an option; -i SCRATCH/text.txt trains on it"},
         }) {
        std::string options = m.options, says = m.says;
        for (std::string* text : {&options, &says}) for (size_t at; (at = text->find("SCRATCH")) != text->npos;) text->replace(at, 7, SCRATCH);
        Outcome o = run_command(format("%s -o %s/mistake %s", TRAINER, SCRATCH.c_str(), options.c_str()));
        if (o.code != 2 || !has(o.output, says) || o.output.find('\n') != o.output.size() - 1)
            FAIL("%s: exit code %d, said \"%s\", expected 2, one line with \"%s\"", options.c_str(), o.code, o.output.c_str(), says.c_str());
    }
    // the host's memory holds the batches that wait
    Outcome many = run_command(small("many", "-e d1c16h1 -b 64 -t 1024 -d 68719476736"));
    EXPECT(many.code == 1 && has(many.output, "out of memory: 1048576 micro-batches a step take ") && has(many.output, ": a larger --batch or a smaller --total-batch"));
    Outcome o = run_small("seed", "-e d1c16h1 -x 1 -n 0 --seed 18446744073709551615");
    EXPECT(has(contents("seed/metrics.jsonl"), "\"seed\":\"18446744073709551615\""));
}

TEST(mistakes_are_one_line) {
    prepare();
    write_file_atomically(SCRATCH + "/empty.txt", "");
    write_file_atomically(SCRATCH + "/short.txt", "ab");
    write_file_atomically(SCRATCH + "/not.bin", "certainly not tokens");
    struct Mistake { const char* options; int code; const char* says; };
    const std::string text = "-i " + SCRATCH + "/text.txt ";
    for (Mistake m : {
             Mistake{"", 2, "--train-data: missing"},
             {"--nonsense 3", 2, "--nonsense: unknown option"},
             {"-b 0", 2, "--batch: '0' given, must be"},
             {"-b", 2, "-b: a value must follow"},
             {"-t -5", 2, "-t: '-5' given, must be a whole number in 0..2147483647"},
             {"-l fast", 2, "-l: 'fast' given, must be a number"},
             {"-l nan", 2, "-l: 'nan' given"},
             {"-x 1.5", 2, "-x: '1.5' given, must be a whole number"},
             {"-x 99999999999", 2, "-x: '99999999999' given"},
             {"--attention cudnn", 2, "--precision bf16"},
             {"-r 7", 2, "must be a whole number in 0..3"},
             {"-k zigzag", 2, "one of cosine|linear|constant|wsd"},
             {"--precision fp16", 2, "one of fp32|bf16"},
             {"-e d0", 2, "--model: 'd0' given"},
             {"-e gpt3:c100", 2, "--model: 'gpt3:c100' given"},
             {"-e d4c130h4", 2, "--model: 'd4c130h4' given"},
             {"-e d4c128h", 2, "--model: 'd4c128h' given"},
             {"--init-std 0", 2, "--init-std: '0' given, must be a number in >0..1"},
             {"TEXT -t 2000", 2, "--seq: 2000 given, the model's context is 1024"},
             {"TEXT -b 4 -t 32 -d 100", 2, "--total-batch: 100 given, must be a multiple"},
             {"-i SCRATCH/text.txt:0.5,SCRATCH/short.txt", 2, "must have a weight for each source or for none"},
             {"-i SCRATCH/text.txt:0.5,SCRATCH/short.txt:0", 2, "short.txt:0' given, the weight behind the colon must be a number above 0"},
             {"-i SCRATCH/text.txt:1,SCRATCH/text.txt:1e-9", 2, "text.txt: the weight 1e-09 is less than 1/65536"},
             {"-i SCRATCH/text.txt:1,SCRATCH/absent.txt:1", 1, "absent.txt: no such file"},
             {"--doc-mask 2", 2, "--doc-mask: '2' given"},
             {"TEXT --tokenizer bpe:12", 2, "--tokenizer: 'bpe:12' given"},
             {"TEXT -pn 2", 2, "--nproc: 2 given, but not --rank, and no launcher says which of them this process is"},
             {"TEXT -pg 4", 2, "--gpus-per-node: '4' given, must be 1 or left out: it has no effect in a run of one process"},
             {"TEXT -pi fs", 2, "--init: 'fs' given, must be left out"},
             {"TEXT -ps 127.0.0.1", 2, "--server: '127.0.0.1' given, must be left out"},
             {"TEXT -pf SCRATCH", 2, "given, must be left out: it has no effect"},
             {"TEXT -lg 5", 2, "--gpu-stats-every: '5' given, must be 0, -1 or left out"},
             {"TEXT --eval what", 2, "--eval: 'what' given, must be NAME=FILE"},
             {"--chat SCRATCH/absent", 2, "absent' given: no such folder"},
             {"--chat absent", 2, "absent' given, must be a checkpoint folder or a .bin model file"},
             {"--chat SCRATCH", 2, "config.json"},
             {"--plan H9000", 2, "--plan: 'H9000' given"},
             {"--plan --gpu H9000", 2, "--gpu: 'H9000' given"},
             {"--plan A100 --gpu H100", 2, "--gpu: 'H100' given, but --plan names 'A100'"},
             {"TEXT --gpu H100", 2, "--gpu: given without --plan"},
             {"TEXT --gpu-price 1", 2, "--gpu-price: given without --plan"},
             {"--plan H100 --nodes 2 -pn 8", 2, "--nodes: 2 given, with 8 GPUs each, but --nproc is 8"},
             {"--plan H100 --gpus 4 -pn 8", 2, "--gpus: 4 given, but --nproc is 8"},
             {"--plan H100 --gpus 8 --nodes 2", 2, "--gpus: 8 given with --nodes 2, must be left out"},
             {"--plan H100 --nodes 1048576 -pg 2147483647", 2, "--nodes: 1048576 given"},
             {"--plan H100 --net 0", 2, "--net: '0' given, must be a number in >0.."},
             {"-i SCRATCH/absent.txt", 1, "absent.txt"},
             {"-i SCRATCH/empty.txt", 1, "empty.txt"},
             {"-i SCRATCH/short.txt", 1, "short.txt"},
             {"-i SCRATCH/not.bin", 1, "not a token shard"},
             {"-i 'SCRATCH/{not.bin,short.txt}'", 2, "SCRATCH/{not.bin,short.txt}: names token shards and texts, SCRATCH/not.bin and SCRATCH/short.txt, must name one kind"},
             {"TEXT -j 'SCRATCH/{short.txt,not.bin}'", 2, "names token shards and texts, SCRATCH/not.bin and SCRATCH/short.txt, must name one kind"},
             {"TEXT -j SCRATCH/not.bin", 1, "not a token shard"},
             {"TEXT -e SCRATCH", 2, "config.json"},
             {"TEXT -e SCRATCH/absent.bin", 1, "absent.bin: cannot open"},
             {"TEXT -e SCRATCH/not.bin", 1, "not.bin: 20 bytes, a model file's header alone is 1024"},
             {"TEXT --export-bin SCRATCH/no/model.bin", 2, "--export-bin: cannot write"},
         }) {
        std::string options = m.options, says = m.says;
        if (size_t at = options.find("TEXT "); at != options.npos) options.replace(at, 5, text);
        for (std::string* text_of : {&options, &says}) for (size_t at; (at = text_of->find("SCRATCH")) != text_of->npos;) text_of->replace(at, 7, SCRATCH);
        Outcome o = run_command(format("%s -o %s/mistake %s", TRAINER, SCRATCH.c_str(), options.c_str()));
        if (o.code != m.code || !has(o.output, says) || o.output.find('\n') != o.output.size() - 1)
            FAIL("%s: exit code %d, said \"%s\", expected %d, one line with \"%s\"", options.c_str(), o.code, o.output.c_str(), m.code, says.c_str());
    }
}

// An option that does nothing is refused, by its name and why.
TEST(options_that_do_nothing) {
    prepare();
    run_small("a", "-x 1 -n 1");
    const std::string model = SCRATCH + "/a/step_00000001", text = "-i " + SCRATCH + "/text.txt ", chat = "--chat " + model + " ";
    write_file_atomically(SCRATCH + "/lines", "Anna\n");
    EXPECT_EQ(run_command(format("%s -i %s/text.txt -o %s/shards", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str())).code, 0);
    const std::string no_use = ": given, but --chat has no use for it: it trains and writes nothing", no_samples = ": given, but --sample-every 0 prints no samples",
                      shards = "-e d1 -x 1 -i '" + SCRATCH + "/shards/*.bin' -o " + SCRATCH + "/no ";
    struct Idle { std::string options, says; };
    for (const Idle& idle : {Idle{chat + "--export-bin " + SCRATCH + "/x.bin", "--export-bin" + no_use}, {chat + "-o " + SCRATCH + "/b", "--out" + no_use}, {chat + "-x 3", "--steps" + no_use},
                             {chat + text, "--train-data" + no_use}, {chat + "-j x", "--val-data" + no_use}, {chat + "-e d12", "--model" + no_use}, {chat + "-y 1", "--resume" + no_use},
                             {chat + "--prompt x", "--prompt" + no_use}, {chat + "--eval a=b", "--eval" + no_use}, {chat + "-l 1", "--lr" + no_use}, {chat + "-b 4", "--batch" + no_use},
                             {text + "-s 0 --prompt x", "--prompt" + no_samples}, {text + "-s 0 --temperature 1", "--temperature" + no_samples}, {text + "-s 0 --top-p 0.5", "--top-p" + no_samples},
                             {text + "--temperature 0 --top-k 3", "--top-k: 3 given, but --temperature 0 takes the most likely token"},
                             {chat + "--temperature 0 --top-p 0.5", "--top-p: 0.5 given, but --temperature 0 takes the most likely token"},
                             {text + "-x 1 -e " + model + " --init-std 0.1", "--init-std: 0.1 given, but the weights are those of " + model},
                             {shards + "--skip-bad 2", "--skip-bad: 2 given, but the data hold no text"}, {shards + "--text-special 1", "--text-special: 1 given, but the data hold no text"}}) {
        Outcome o = run_command(format("%s %s < /dev/null", TRAINER, idle.options.c_str()));
        if (o.code != 2 || !has(o.output, idle.says) || o.output.find('\n') != o.output.size() - 1) FAIL("%s: exit code %d, said \"%s\", expected 2 and \"%s\"", idle.options.c_str(), o.code, o.output.c_str(), idle.says.c_str());
    }
    EXPECT(access((SCRATCH + "/no").c_str(), F_OK) != 0 && access((SCRATCH + "/x.bin").c_str(), F_OK) != 0);
    // what --chat does take; what llm.c's run scripts name without use
    EXPECT_EQ(run_command(format("%s %s --tokenizer bytes --precision bf16 -t 32 -g 3 --seed 3 --temperature 1 --top-k 3 --top-p 0.9 --special 0 --threads 1 -f 0 < %s/lines", TRAINER, chat.c_str(), SCRATCH.c_str())).code, 0);
    EXPECT_EQ(run_command(format("%s %s -j %s/text.txt -o %s/b -e d1 -b 2 -t 32 -d 64 -r 0 -z 1 -c 0.1 -l 0.0006 -q 0.0 -u 0 -n 0 -nk 5 -nm 50 -v 0 -s 0 -h 0 -m 2 -g 144 -w 1 -ge 0 -sl 0 -sg 0 -y 0 -x 1 -a 0 -f 1 -k cosine", TRAINER,
                                 text.c_str(), SCRATCH.c_str(), SCRATCH.c_str())).code, 0);
}

// What scripts for many processes say of one process is taken.
TEST(one_process_by_any_name) {
    prepare();
    Outcome o = run_command(format("%s -i %s/text.txt -o %s/one -e d1c16h1 -b 1 -t 16 -x 1 -v 0 -s 0 -n 0 -pn 1 -pr 0 -pg 1 -pi mpi -lg 0 -z 1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    if (o.code) FAIL("exit code %d: %s", o.code, o.output.c_str());
}

TEST(an_earlier_run_is_not_overwritten) {
    prepare();
    run_small("a", "-x 2 -n 2");
    Outcome o = run_command(small("a", "-x 2 -n 2"));
    EXPECT_EQ(o.code, 2);
    EXPECT(has(o.output, "holds checkpoints of an earlier run"));
    EXPECT_STR(verify_checkpoint(SCRATCH + "/a/step_00000002"), "");
}
