// The trainer as a user meets it: files in and out, evaluations, a chat, what --help says, and what is said of mistakes.
#include <fcntl.h>
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/io/safetensors.h"
#include "cli_test.h"

namespace {
const std::string SCRATCH = "build/tmp/cli";
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
    EXPECT(o.code == 1 && has(o.output, "absent.jsonl: cannot open: No such file") && access((SCRATCH + "/c").c_str(), F_OK) != 0);
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

// A validation of what is trained on is said to be one: by one name, by a link, by a pattern that takes in both.
TEST(data_that_are_in_both_are_said) {
    prepare();
    const std::string says = " is trained on and validated on: the validation loss says nothing of other text\n", text = SCRATCH + "/text.txt", run = "-e d1c16h1 -x 0 -n 0 -j ";
    EXPECT_EQ(run_command(format("%s -i %s -o %s/both --val 10%%", TOKENIZE_PROGRAM, text.c_str(), SCRATCH.c_str())).code, 0);
    EXPECT(symlink("val_000000.bin", (SCRATCH + "/both/link.bin").c_str()) == 0);
    const std::string shards = std::string(TRAINER) + " -e d1c16h1 -b 2 -t 16 -x 1 -v 0 -s 0 -n 0 -o " + SCRATCH + "/o -i '" + SCRATCH + "/both/*_0*.bin' -j " + SCRATCH + "/both/";
    EXPECT(has(run_small("a", run + text).output, "data     " + text + says) && has(run_command(shards + "val_000000.bin").output, "data     " + SCRATCH + "/both/val_000000.bin" + says) && has(run_command(shards + "link.bin").output, says));
    write_file_atomically(SCRATCH + "/other.txt", read_file(text) + "Anna.\n");
    EXPECT(!has(run_small("b", run + SCRATCH + "/other.txt").output, says) && !has(run_small("c", "-e d1c16h1 -x 0 -n 0").output, says));
    EXPECT(!has(run_command(format("%s -e d1c16h1 -b 2 -t 16 -x 1 -v 0 -s 0 -n 0 -o %s/o2 -i '%s/both/train_*.bin' -j '%s/both/val_*.bin'", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), SCRATCH.c_str())).output, says));
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
             {"-i SCRATCH/text.txt -e d1c4096h1", "--model: 'd1c4096h1' given, which has 1 heads of 4096, must be of at most 256"},
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
             {"--LR 3", "is it --lr?"},
             {"-lr 3", "is it --lr?"},
             {"--lrate 3", "is it --lr?"},
             {"--temp 1", "is it --temperature?"},
             {"--max-steps 3", "is it --steps?"},
             {"--max_iters 3", "is it --steps?"},
             {"--num-train-epochs 3", "is it --steps?"},
             {"--block_size 3", "is it --seq?"},
             {"--n-ctx 3", "is it --seq?"},
             {"--data x", "is it --train-data?"},
             {"--input x", "is it --train-data?"},
             {"--dataset x", "is it --train-data?"},
             {"--out_dir x", "is it --out?"},
             {"--wd 1", "is it --weight-decay?"},
             {"--dtype bf16", "is it --precision?"},
             {"--save-every 3", "is it --checkpoint-every?"},
             {"--eval_interval 3", "is it --val-every?"},
             {"--min_lr 3", "is it --final-lr-frac?"},
             {"--n_layer 3", "is it --model?"},
             {"-i SCRATCH/text.txt SCRATCH/other.txt", "SCRATCH/other.txt' is not an option: one name follows --train-data; of several files a pattern in quotes, as 'SCRATCH/*.txt', or a mixture, as a:0.7,b:0.3"},
             {"--val-data=a.b/x y.b/z", "'y.b/z' is not an option: one name follows --val-data; of several files a pattern in quotes, as 'y.b/*'\n"},
             {"-i SCRATCH/text.txt,SCRATCH/text.txt", "must have a weight for each source, as a:0.7,b:0.3"},
             {"-e GPT2", "'GPT2' given: GPT-2 124M is d12, which begins untrained"},
             {"-e gpt-2", "'gpt-2' given: GPT-2 124M is d12"},
             {"-e gpt2:124M", "'gpt2:124M' given: GPT-2 124M is d12"},
             {"-e gpt2-1.5b", "'gpt2-1.5b' given: GPT-2 1558M is d48"},
             {"-e qwen3", "'qwen3' given: is it qwen3:0.6b"},
             {"-e llama3.2", "'llama3.2' given: is it llama3.2:1b or llama3.2:3b?"},
             {"-e smollm", "'smollm' given: is it smollm2:135m"},
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
    const int32_t header[256] = {20240520, 1, 0};
    write_file_atomically(SCRATCH + "/zero.bin", std::string((const char*)header, sizeof header));
    const std::string nowhere = SCRATCH + "/nowhere";
    EXPECT(access(nowhere.c_str(), F_OK) && symlink("away", nowhere.c_str()) == 0);
    run_small("model_run", "-e d1c32h2 -t 8 -x 1 -n 1 -v 0 -s 0");
    rename_file(SCRATCH + "/model_run/step_00000001", SCRATCH + "/model");
    const std::vector<std::string> of_model = list_folder(SCRATCH + "/model");
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
             {"-k zigzag", 2, "one of cosine|linear|constant|wsd|trapezoidal"},
             {"-k linear --cooldown 0.5", 2, "--cooldown: given, but --schedule linear does not use it"},
             {"-k wsd --cooldown 0", 2, "--cooldown: '0' given, must be a number in >0..1"},
             {"-e modern:d2-tanh", 2, "'tanh' cannot be left out, must be one of rmsnorm, rope"},
             {"--optimizer sgd", 2, "one of adamw|muon"},
             {"--muon-lr 0.1", 2, "--muon-lr: given, but --optimizer adamw does not use it"},
             {"--muon-momentum 0.9", 2, "--muon-momentum: given, but"},
             {"--muon-weight-decay 0", 2, "--muon-weight-decay: given, but"},
             {"--embed-lr 0.1 --optimizer adamw", 2, "--embed-lr: given, but"},
             {"--head-lr 0.1", 2, "--head-lr: given, but"},
             {"TEXT --optimizer muon --head-lr 0.1", 2, "--head-lr: 0.1 given, but this model's head is its embedding: --embed-lr"},
             {"--optimizer muon -l 0", 2, "--lr: 0 given, but with --optimizer muon"},
             {"--optimizer muon --reduce nccl", 2, "--reduce: 'nccl' given, must be tree with --optimizer muon"},
             {"--precision fp16", 2, "one of fp32|bf16"},
             {"-e d0", 2, "--model: 'd0' given"},
             {"-e gpt3:c100", 2, "--model: 'gpt3:c100' given"},
             {"-e d4c130h4", 2, "--model: 'd4c130h4' given"},
             {"-e d4c128h", 2, "--model: 'd4c128h' given"},
             {"--init-std 0", 2, "--init-std: '0' given, must be a number in >0..1"},
             {"TEXT -t 2000", 2, "--seq: 2000 given, the model's context is 1024"},
             {"TEXT -b 4 -t 32 -d 100", 2, "--total-batch: 100 given, must be a multiple"},
             {"-i SCRATCH/text.txt:0.5,SCRATCH/short.txt", 2, "must have a weight for each source, as a:0.7,b:0.3"},
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
             {"-i SCRATCH/short.txt", 1, "SCRATCH/short.txt: 3 tokens, too few to train on"},
             {"-x 0 -e SCRATCH/model --eval a=SCRATCH/empty.txt", 1, "empty.txt: nothing in it to evaluate"},
             {"TEXT -o SCRATCH/model", 2, "--out: SCRATCH/model is a model, or a checkpoint, must be the folder of a run, as SCRATCH is"},
             {"TEXT -o SCRATCH/model/ -y 1", 2, "--out: SCRATCH/model is a model, or a checkpoint"},
             {"-i SCRATCH/not.bin", 1, "not a token shard"},
             {"-i SCRATCH/zero.bin --tokenizer bytes -e d1c32h2 -t 8", 1, "SCRATCH/zero.bin: 0 tokens to train on, a row takes 2 at least"},
             {"-i SCRATCH/model", 1, "SCRATCH/model: is a folder, must be a file; what is in it by a pattern, as 'SCRATCH/model/*.txt'"},
             {"TEXT -e d1c32h2 -t 8 -o SCRATCH/nowhere", 1, "SCRATCH/nowhere: is a link to what is not there, must be a folder"},
             {"TEXT -e d1c32h2 -t 8 -o SCRATCH/short.txt/x", 1, "SCRATCH/short.txt: is a file, must be a folder"},
             {"-i 'SCRATCH/{not.bin,short.txt}'", 2, "SCRATCH/{not.bin,short.txt}: names token shards and texts, SCRATCH/not.bin and SCRATCH/short.txt, must name one kind"},
             {"TEXT -j 'SCRATCH/{short.txt,not.bin}'", 2, "names token shards and texts, SCRATCH/not.bin and SCRATCH/short.txt, must name one kind"},
             {"TEXT -j SCRATCH/not.bin", 1, "not a token shard"},
             {"TEXT -e SCRATCH", 2, "config.json"},
             {"TEXT -e d1c32h2f100", 2, "--model: 'd1c32h2f100' given: the MLP's width is 100, must be a multiple of 8"},  // its checkpoint could not be loaded
             {"TEXT --tokenizer gpt2", 2, "--tokenizer: 'gpt2' given: there is no such file or folder; must be bytes, bpe:N, a tokenizer.json"},
             {"TEXT --skip-bad 1", 2, "--skip-bad: 1 given, but the data hold no .jsonl"},
             {"TEXT -e d1c32h2 -t 8 -o SCRATCH/not.bin", 2, "--out: SCRATCH/not.bin is a file, must be a folder"},
             {"TEXT -e d1c32h2 -t 8 -o /dev/null", 2, "--out: /dev/null is a device, must be a folder"},
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
    EXPECT(list_folder(SCRATCH + "/model") == of_model);
}

// An option that does nothing is refused, by its name and why.
// What is printed is the result, unless a run is trained, whose logs have it all.
TEST(output_that_is_lost_is_said) {
    prepare();
    run_small("lost", "-e d1c32h2 -x 1 -n 1 -v 0");
    const std::string model = SCRATCH + "/lost/step_00000001";
    for (const std::string& options : {std::string("--help"), std::string("--version"), std::string("--plan -e d1c32h2"), "-e " + model + " -x 0 -g 4 --prompt a", "--chat " + model + " -g 4"}) {
        const std::string command = format("echo a | %s %s", TRAINER, options.c_str());
        const Outcome full = run_command(command + " 2>&1 >/dev/full"), closed = run_command(command + " 2>&1 >&-"), read = run_command("(" + command + "; echo rc $? >&2) 2>&1 | cat");
        const bool said_why = full.output == "error: standard output: cannot write: No space left on device: what was printed is not whole\n";
        const bool said = full.output == "error: standard output: cannot write: what was printed is not whole\n";  // where it was flushed before, of which errno is gone
        if (full.code != 1 || (!said_why && !said)) FAIL("%s: %d, %s", options.c_str(), full.code, full.output.c_str());
        if (closed.code || !closed.output.empty() || !has(read.output, "rc 0\n")) FAIL("%s: %d, %s, %s", options.c_str(), closed.code, closed.output.c_str(), read.output.c_str());
    }
    const Outcome run = run_command(small("lost2", "-e d1c32h2 -x 2 -n 2") + " 2>&1 >/dev/full");
    EXPECT(run.code == 0 && has(run.output, "what was printed is not whole") && series("lost2", "loss").size() >= 2);
}

TEST(a_prompt_that_is_cut_is_said) {
    prepare();
    run_small("cut", "-e d1c32h2 -x 1 -n 1 -v 0");
    const std::string run = format("%s -e %s/cut/step_00000001 -x 0 -g 2 -t 16 --prompt ", TRAINER, SCRATCH.c_str()), chat = format("%s --chat %s/cut/step_00000001 -g 2 -t 16 <<< ", TRAINER, SCRATCH.c_str());
    const std::string fits(15, 'a'), cut(40, 'a');  // and the end of text in front
    EXPECT(!has(run_command(run + fits).output, "of which"));
    EXPECT(!has(run_command(format("%s -e %s/cut/step_00000001 -x 0 -g 2 --prompt a", TRAINER, SCRATCH.c_str())).output, "-0.0 MiB"));  // of sharing, where there is next to none
    EXPECT(has(run_command(run + cut).output, "prompt   41 tokens, of which the model sees the last 16: --seq, at most 1024\n---\n"));
    EXPECT(has(run_command("bash -c '" + chat + cut + "'").output, "[2 tokens behind the last 16 of 41, ") && !has(run_command("bash -c '" + chat + fits + "'").output, "behind"));
}

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
                             {text + "-x 1 -e " + model + " --embed-std 0.1", "--embed-std: 0.1 given, but the weights are those of " + model},
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
