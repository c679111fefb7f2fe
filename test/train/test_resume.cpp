// A run that goes on: it says what differs, and what is done is said by DONE files.
#include <tuple>
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/io/state_pieces.h"
#include "life_test.h"

namespace {
const std::string SCRATCH = "build/tmp/resume";
}

// ---- resuming says what it does ---------------------------------------------------------------------------------------

TEST(resuming_says_what_differs) {
    prepare();
    write_file_atomically(SCRATCH + "/other.txt", contents("text.txt") + "and more\n");
    must(text_run("a", "-x 4 -n 2 -l 1e-3"));
    Outcome o = must(trainer(format("-i %s/other.txt -o %s/a -x 6 -n 2 -y 1 --seed 7 --tokenizer bpe:300 --threads 2", SCRATCH.c_str(), SCRATCH.c_str())));
    std::string lines;
    for (size_t at = 0; (at = o.output.find("resume   ", at)) != o.output.npos;) {
        size_t end = o.output.find('\n', at);
        lines += o.output.substr(at + 9, end + 1 - at - 9), at = end;
    }
    EXPECT_STR(lines, format("%s/a/step_00000004: goes on after step 4\n--train-data %s/other.txt, was %s/text.txt\n--tokenizer bpe:300: ignored, the "
                             "checkpoint has its own, was ''\n--steps 6, was 4\n--lr 0.0006 (not given), was 0.001\n--seed 7, was 42\n",
                             SCRATCH.c_str(), SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(has(o.output, "1 layers, width 16, 1 heads"));  // the checkpoint's model
    // what the checkpoint had is remembered as its own
    o = must(text_run("a", "-i " + SCRATCH + "/other.txt -x 7 -n 2 -y 1 --seed 7"));
    EXPECT(!has(o.output, "--tokenizer") && !has(o.output, "--model") && !has(o.output, "--lr") && has(o.output, "--steps 7, was 6"));
}

// The checkpoint's model counts: what the run began with may be gone, and what else is named has its sizes or is refused by the field that differs.
TEST(resuming_has_the_checkpoints_model) {
    prepare();
    auto run = [](const std::string& out, const std::string& rest) { return trainer(format("-i %s/text.txt -o %s/%s %s", SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str())); };
    const std::string base = SCRATCH + "/base/step_00000000", other = SCRATCH + "/other/step_00000000";
    must(run("base", "-e d2c32h2 -x 0 -n 1")), must(run("other", "-e d2c32h2 -x 0 -n 1 --seed 7")), must(run("bin", "-e d2c32h2 -x 0 -n 0 --export-bin " + SCRATCH + "/other.bin"));
    must(run("a", "-e " + base + " -x 2 -n 2"));
    const std::string says = ": the checkpoint's weights are used, was " + base + "\n";
    const auto weights = [](const std::string& name) { return contents(name + "/model.safetensors"); };
    for (const std::string& named : {other, SCRATCH + "/other.bin", std::string("d2c32h2")}) {
        Outcome o = must(run("a", "-e " + named + " -x 2 -n 2 -y 1"));
        EXPECT(has(o.output, "resume   --model " + named + says));
    }
    Outcome o = must(run("a", "-e " + other + " -x 3 -n 3 -y 1 -l 0"));  // a step that changes nothing
    EXPECT(has(o.output, "weights  " + SCRATCH + "/a/step_00000002\n") && weights("a/step_00000003") == weights("a/step_00000002"));
    EXPECT(!has(must(run("a", "-e " + base + "/ -x 4 -n 4 -y 1")).output, "--model"));  // as it began, also after it was called otherwise
    // of other sizes: the field and both values, in one line
    const std::string refused = "--model: 'NAME' given, is not the model of " + SCRATCH + "/a/step_00000004: ";
    auto is_refused = [&](const std::string& named, const std::string& why) {
        std::string line = refused;
        one_line(run("a", "-e " + named + " -x 6 -y 1"), 2, line.replace(line.find("NAME"), 4, named) + why + "\n");
    };
    is_refused("d2c32h4", "heads 4, there 2"), is_refused("d3c32h2", "layers 3, there 2"), is_refused("d2c64h2", "width 64, there 32");
    for (auto [from, to, why] : {std::tuple{"\"n_positions\": 1024", "\"n_positions\": 512", "context 512, there 1024"}, {"\"n_embd\"", "\"n_inner\": 64, \"n_embd\"", "width of the MLP 64, there 128"},
                                 {"\"vocab_size\": 257", "\"vocab_size\": 258", "vocabulary 258, there 257"}, {"1e-05", "0.001", "epsilon of the norms 0.001, there 1e-05"},
                                 {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "head not tied, there tied"}}) {
        std::string config = contents("other/step_00000000/config.json");
        make_folders(SCRATCH + "/changed");
        write_file_atomically(SCRATCH + "/changed/config.json", config.replace(config.find(from), strlen(from), to));
        is_refused(SCRATCH + "/changed", why);
    }
    remove_tree(SCRATCH + "/base");
    EXPECT(has(must(run("a", "-e " + base + " -x 5 -n 5 -y 1")).output, "step 5/5"));
    EXPECT(has(must(run("a", "-x 6 -n 6 -y 1")).output, "step 6/6"));
    o = run_command(run("a", "-e " + SCRATCH + "/absent -x 7 -n 5 -y 1"));
    EXPECT(o.code == 2 && has(o.output, "no such folder"));
}

TEST(resuming_says_when_nothing_is_left_or_there) {
    prepare();
    must(text_run("a", "-x 4 -n 2"));
    const std::string log = contents("a/main.log"), names = run_command("ls -A " + SCRATCH + "/a").output;
    EXPECT(has(must(text_run("a", "-x 3 -n 2 -y 1")).output, "step 4 of 3: nothing to do"));
    EXPECT(has(must(text_run("a", "-x 4 -n 2 -y 1")).output, "step 4 of 4: nothing to do: the run is finished"));
    EXPECT_STR(contents("a/main.log"), log);
    EXPECT_STR(run_command("ls -A " + SCRATCH + "/a").output, names);
    must(text_run("a", "-x 4 -n 2 -y 1 --export-bin " + SCRATCH + "/a.bin"));
    EXPECT(exists("a.bin"));
    Outcome o = must(text_run("typo", "-x 1 -n 0 -y 1"));
    EXPECT(has(o.output, "typo: no checkpoint: starts afresh\n") && has(o.output, "step 1/1"));
}

// With --lr 0 a step changes nothing: the masters in the next checkpoint are those that the run began with.
TEST(resuming_in_another_precision) {
    prepare();
    must(text_run("a", "-x 2 -n 2"));
    std::vector<float> weights, masters;
    auto weights_of = [](const std::string& path) {
        SafetensorsFile file(SCRATCH + path + "/model.safetensors");
        const TensorInfo* t = file.find("transformer.wte.weight") ? file.find("transformer.wte.weight") : file.find("wte.weight");
        std::vector<float> x(t ? t->count() : 0);
        if (t) file.read_as_float(*t, x.data(), 0, x.size());
        EXPECT(t != nullptr);
        return x;
    };
    weights = weights_of("/a/step_00000002");
    masters.resize(weights.size());
    Outcome o = must(text_run("a", "-x 3 -n 1 -y 1 -l 0 --precision bf16"));
    EXPECT(has(o.output, "master weights made from the checkpoint's weights") && has(o.output, "--precision bf16, was fp32"));
    { StateReader state(SCRATCH + "/a/step_00000003"); state.read("master", "wte.weight", 0, masters.size(), masters.data()); }
    EXPECT(masters == weights);
    must("cp -r " + SCRATCH + "/a " + SCRATCH + "/b");
    must(text_run("b", "-x 4 -n 1 -y 1 --precision bf16"));  // masters are now finer than any bf16
    { StateReader state(SCRATCH + "/b/step_00000004"); state.read("master", "wte.weight", 0, masters.size(), masters.data()); }
    o = must(text_run("b", "-x 5 -n 1 -y 1 -l 0"));
    EXPECT(has(o.output, "fp32 weights taken from the checkpoint's master weights") && weights_of("/b/step_00000005") == masters);
    o = must(text_run("b", "-x 6 -n 1 -y 1"));
    EXPECT(!has(o.output, "master weights") && !has(o.output, "fp32 weights"));
    // bf16 without masters, and masters from there
    must(text_run("c", "-x 2 -n 2 --precision bf16 -w 0")), must(text_run("c", "-x 3 -n 1 -y 1 --precision bf16 -w 1")), must(text_run("c", "-x 4 -n 1 -y 1"));
}

// ---- DONE ----------------------------------------------------------------------------------------------------------

TEST(done_files) {
    prepare();
    auto done = [] { return run_command("cd " + SCRATCH + "/a; ls | grep DONE | tr '\\n' ' '").output; };
    must(text_run("a", "-x 9 -n 2 -nk 2 -nm 4"));
    EXPECT_STR(done(), "DONE_00000004 DONE_00000008 DONE_00000009 ");
    EXPECT_STR(contents("a/DONE_00000009"), "");
    // a crash between the checkpoint and its DONE: the script's next run puts it right, or it would start for ever
    unlink((SCRATCH + "/a/DONE_00000009").c_str());
    must(text_run("a", "-x 9 -n 2 -y 1"));
    EXPECT_STR(done(), "DONE_00000004 DONE_00000008 DONE_00000009 ");
    // a checkpoint that is gone or damaged is not done
    remove_tree(SCRATCH + "/a/step_00000009");
    truncate((SCRATCH + "/a/step_00000008/model.safetensors").c_str(), 100) == 0 ? (void)0 : FAIL("truncate");
    must(text_run("a", "-x 5 -n 0 -y 1"));
    EXPECT_STR(done(), "DONE_00000004 ");
    remove_tree(SCRATCH + "/a/step_00000004"), remove_tree(SCRATCH + "/a/step_00000008");
    must(text_run("a", "-x 1 -n 0"));
    EXPECT_STR(done(), "");
}

// A run whose checkpoints are all damaged is no new run: they stay, and nothing is trained over them.
TEST(damaged_checkpoints_are_not_none) {
    prepare();
    must(text_run("a", "-x 4 -n 2 -nk 1"));
    const std::string weights = SCRATCH + "/a/step_00000004/model.safetensors", log = contents("a/main.log");
    FILE* file = fopen(weights.c_str(), "r+");
    if (!file) return FAIL("no checkpoint");
    fseek(file, -1, SEEK_END), fputc('x', file), fclose(file);
    const Outcome o = run_command(text_run("a", "-x 6 -n 2 -nk 1 -y 1"));
    if (o.code != 1 || !has(o.output, "none of its checkpoints can be resumed")) FAIL("code %d: %s", o.code, o.output.c_str());
    EXPECT(exists("a/step_00000004/model.safetensors") && exists("a/DONE_00000004") && !exists("a/step_00000006"));
    EXPECT_STR(contents("a/main.log"), log);
}

// The checkpoint has its tokenizer: the file that the run was begun with may be gone.
TEST(resuming_needs_no_other_tokenizer) {
    prepare();
    const std::string json = SCRATCH + "/t.json";
    must(format("%s -i %s/text.txt -o %s --train 300", TOKENIZE_PROGRAM, SCRATCH.c_str(), json.c_str()));
    must(text_run("a", "-x 2 -n 2 --tokenizer " + json));
    EXPECT(rename(json.c_str(), (json + ".moved").c_str()) == 0);
    EXPECT(has(must(text_run("a", "-x 3 -n 2 -y 1")).output, "step 3/3"));
    EXPECT(has(must(text_run("a", "-x 4 -n 2 -y 1 --tokenizer " + json + ".moved")).output, "step 4/4"));
}

// Ended after its last checkpoint and before what follows the last step, a run is not finished: resumed, it ends as the undisturbed one.
TEST(resuming_makes_the_last_validation) {
    prepare();
    must(trainer(format("-i %s/text.txt -o %s/a -e d1c16h1 -x 2 -n 2 -v 2 -m 2", SCRATCH.c_str(), SCRATCH.c_str())));
    const std::string log = contents("a/main.log"), metrics = contents("a/metrics.jsonl"), trainer_json = contents("a/step_00000002/trainer.json");
    const Json state = json_parse(trainer_json, "trainer.json");
    const long at_log = (long)state.at("main_log", "trainer.json").as_int("", 0), at_metrics = (long)state.at("metrics", "trainer.json").as_int("", 0);
    EXPECT(at_log < (long)log.size() && at_metrics < (long)metrics.size());
    EXPECT(truncate((SCRATCH + "/a/main.log").c_str(), at_log) == 0 && truncate((SCRATCH + "/a/metrics.jsonl").c_str(), at_metrics) == 0);
    const std::string again = "-x 2 -n 2 -v 2 -m 2 -y 1";
    EXPECT(!has(must(trainer(format("-i %s/text.txt -o %s/a -e d1c16h1 %s", SCRATCH.c_str(), SCRATCH.c_str(), again.c_str()))).output, "nothing to do"));
    EXPECT_STR(contents("a/main.log"), log);
    EXPECT(has(must(trainer(format("-i %s/text.txt -o %s/a -e d1c16h1 %s", SCRATCH.c_str(), SCRATCH.c_str(), again.c_str()))).output, "nothing to do: the run is finished"));
    EXPECT_STR(contents("a/main.log"), log);
    // a sample is none of what is due: of validation, sample and evaluation the last is missing
    const std::string evaluates = format("-i %s/text.txt -o %s/e -e d1c16h1 -x 2 -n 2 -v 2 -m 2 -s 2 -g 4 --eval text=%s/text.txt", SCRATCH.c_str(), SCRATCH.c_str(), SCRATCH.c_str());
    must(trainer(evaluates));
    for (const char* file : {"e/main.log", "e/metrics.jsonl"}) {
        const std::string all = contents(file);
        write_file_atomically(SCRATCH + "/" + file, all.substr(0, all.rfind('\n', all.size() - 2) + 1));
    }
    EXPECT(!has(contents("e/metrics.jsonl"), "\"eval\": ") && has(contents("e/metrics.jsonl"), "\"sample\": "));
    EXPECT(!has(must(trainer(evaluates + " -y 1")).output, "nothing to do") && has(contents("e/metrics.jsonl"), "\"eval\": "));
    EXPECT(has(must(trainer(evaluates + " -y 1")).output, "nothing to do: the run is finished"));
}

TEST(resuming_says_that_the_data_changed) {
    prepare();
    must(text_run("a", "-x 2 -n 2"));
    EXPECT(!has(must(text_run("a", "-x 3 -n 3 -y 1")).output, "have changed"));
    const std::string text = contents("text.txt");
    write_file_atomically(SCRATCH + "/text.txt", text.substr(0, text.size() / 2));
    const std::string output = must(text_run("a", "-x 4 -n 4 -y 1")).output;
    EXPECT(has(output, "resume   --train-data: the data have changed: ") && has(output, "resume   --val-data: the data have changed: "));
}

// What only validates keeps the lines of the logs, adds its own, and if it is interrupted it has no result to exit 0 with.
TEST(validating_a_run_keeps_its_logs) {
    prepare();
    must(text_run("a", "-x 4 -n 2 -v 2 -m 2"));
    remove_tree(SCRATCH + "/a/step_00000004");  // as of a run that was killed after its last checkpoint
    const std::string log = contents("a/main.log"), metrics = contents("a/metrics.jsonl");
    must(text_run("a", "-x 0 -v 2 -m 2 -y 1"));
    EXPECT(contents("a/main.log").starts_with(log) && contents("a/main.log").size() > log.size());
    EXPECT(contents("a/metrics.jsonl").starts_with(metrics));
    std::string big;
    for (int i = 0; i < 200; i++) big += contents("text.txt");
    write_file_atomically(SCRATCH + "/big.txt", big);
    Process validating(text_run("b", "-x 0 -v 1 -m 0 -j " + SCRATCH + "/big.txt"));
    EXPECT(validating.says("parameters"));
    validating.send(SIGTERM);
    EXPECT_EQ(validating.code(20), 128 + SIGTERM);
}
