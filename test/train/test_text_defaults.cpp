// What a run on a text takes where nothing is said, the command that says it, and early stopping.
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/train/text_defaults.h"
#include "../../llmc/train/best.h"
#include "../test.h"
#include "../trainer_runs.h"

namespace {
const std::string SCRATCH = "build/tmp/text_defaults";
std::string run_on(const std::string& out, const std::string& rest) {
    return format("%s -i %s/text.txt -o %s/%s %s 2>&1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str());
}
std::string must(const std::string& command, int code = 0) {
    Outcome o = run_command(command);
    if (o.code != code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
    return o.output;
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
// The command that a run printed as the one that repeats it.
std::string chosen_command(const std::string& output) {
    const std::vector<std::string> lines = lines_of(output);
    for (size_t i = 0; i + 1 < lines.size(); i++)
        if (lines[i].starts_with("chosen ")) return lines[i + 1].substr(lines[i + 1].find_first_not_of(' '));
    FAIL("no command in \"%s\"", output.c_str());
    return "false";
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    if (at == text.npos) FAIL("%s is not in \"%s\"", from.c_str(), text.c_str());
    return at == text.npos ? text : text.replace(at, from.size(), to);
}
std::vector<int> steps_of(const std::string& out) {
    std::vector<int> steps;
    for (const Checkpoint& c : list_checkpoints(SCRATCH + "/" + out)) steps.push_back(c.step);
    return steps;
}
// Losses and weights of two runs.
void expect_same(const std::string& a, const std::string& b, const char* checkpoint) {
    for (const char* field : {"loss", "val_loss", "lr"}) {
        const std::vector<double> of_a = metrics_of(SCRATCH + "/" + a, field), of_b = metrics_of(SCRATCH + "/" + b, field);
        EXPECT(!of_a.empty() && of_a == of_b);
    }
    const std::string weights = std::string("/") + checkpoint + "/model.safetensors";
    EXPECT(file_contents(SCRATCH + "/" + a + weights) == file_contents(SCRATCH + "/" + b + weights));
}
double parameters(const TextDefaults& d) {
    return matmul_parameters({.V = d.vocabulary, .L = d.depth, .NH = d.width / 32, .C = d.width});
}
}  // namespace

// From one letter to a library, from a slow core to a node of GPUs.
TEST(what_is_chosen_can_be_trained) {
    for (double bytes : {40.0, 300.0, 3e3, 3e4, 3e5, 1.1e6, 1e7, 1e8, 1e10, 1e12}) {
        double before = 0;
        for (double flops : {1e9, 2e10, 2e11, 2e12, 3e13, 1e15, 1e16}) {
            const TextDefaults d = choose_text_defaults({bytes, bytes / 10, flops, 300, 0, 0, 0, 0});
            const double tokens = (double)d.steps * d.B * d.T, text = 0.9 * bytes / text_defaults_detail::bytes_per_token(d.vocabulary);
            EXPECT(d.depth >= 1 && d.width % 32 == 0 && d.T >= 8 && d.B >= 1 && d.steps >= 1 && d.lr > 0 && d.lr <= 3e-3);
            EXPECT(d.warmup <= d.steps / 10 && d.val_every >= 1 && d.val_every <= d.steps);
            EXPECT(bytes < 300 || d.T * 4 <= text);                              // rows fill an epoch
            EXPECT(tokens <= 6 * text + d.B * d.T);                             // no learning by heart
            const Config c{.V = d.vocabulary, .L = d.depth, .NH = d.width / 32, .C = d.width};
            EXPECT(tokens * flops_per_token(c, d.T) <= 300 * flops || d.steps == 1);
            EXPECT(parameters(d) >= before);                                     // a faster machine has no smaller model
            before = parameters(d);
            // all validations together: a third of a training token's cost for each; at most a tenth of the time
            if (d.val_batches) EXPECT(8.0 * d.val_batches * d.B * d.T / 3 <= 0.1 * tokens + 8.0 * d.B * d.T);
        }
    }
}

TEST(what_is_given_stays) {
    const TextDefaults d = choose_text_defaults({1.1e6, 1.1e5, 2e11, 300, 700, 96, 0, 0});
    EXPECT_EQ(d.vocabulary, 700);
    EXPECT_EQ(d.T, 96);
    // tokens in a step that are given make fewer steps of the same epochs
    const double epoch = 0.9 * 1.1e6 / text_defaults_detail::bytes_per_token(1024);
    for (const TextLimits& limits : {TextLimits{1.1e6, 1.1e5, 2e11, 300, 0, 0, 256, 0}, TextLimits{1.1e6, 1.1e5, 2e11, 300, 0, 0, 0, 1 << 16}, TextLimits{1.1e6, 1.1e5, 2e11, 300, 0, 8, 8, 0},
                                     TextLimits{1.1e6, 1.1e5, 2e11, 300, 0, 0, 0, 96}}) {
        const TextDefaults e = choose_text_defaults(limits);
        const double step = limits.total ? (double)limits.total : (double)e.B * e.T, tokens = step * e.steps;
        EXPECT(!limits.B || e.B == limits.B);
        EXPECT(limits.total % (e.B * e.T) == 0);
        EXPECT(tokens <= 6 * epoch && tokens > 3 * epoch && e.steps <= e.most_steps);
    }
    prepare_text(SCRATCH, 150);
    const std::string command = chosen_command(must(run_on("given", "-x 3 -b 1 -t 20 -l 1e-4 --tokenizer bpe:280 --patience 0 -v 0 -s 0 -n 0 --seed 5")));
    for (const char* part : {" -x 3 ", " -b 1 ", " -t 20 ", " -l 0.0001 ", " --tokenizer bpe:280 ", " --patience 0 ", " -v 0 ", " -n 0 ", " --seed 5"}) EXPECT(has(command + " ", part));
    // by the clock too it ends after so many epochs, with the rate that belongs to the end
    EXPECT(has(chosen_command(must(run_on("clock", "--minutes 0.01 -v 0 -s 0 -n 0"))), " -x "));
    must(run_on("split", "-x 2 -d 96 -v 0 -s 0 -n 0")), must(run_on("auto", "-x 2 -b auto -v 0 -s 0 -n 0"));
    EXPECT(!has(must(run_on("same", "-x 2 -a 1 -s 0 -n 0")), "--patience"));  // the first batch, over and over
    // what the command line gave and what was chosen are told apart
    const Json begin = json_parse(lines_of(file_contents(SCRATCH + "/given/metrics.jsonl"))[0], "metrics.jsonl");
    const auto lists = [&](const char* list, const char* name) {
        for (const Json& j : begin.at(list, "metrics.jsonl").items) if (j.text == name) return true;
        return false;
    };
    EXPECT(lists("given", "lr") && !lists("chosen", "lr") && !lists("given", "model") && lists("chosen", "model") && !lists("given", "beta1") && !lists("chosen", "beta1"));
    EXPECT(!has(must(run_on("named", "-e d1c16h1 -x 1 -t 16 -b 1 -v 0 -s 0 -n 0")), "chosen"));  // who names a model chooses the rest
}

// Before any data, and with data that are not there.
TEST(plan_of_what_is_chosen) {
    prepare_text(SCRATCH, 150);
    const std::string plan = must(run_on("planned", "--plan"));
    EXPECT(has(plan, "chosen ") && has(plan, "time     at half the peak") && access((SCRATCH + "/planned").c_str(), F_OK) != 0);
    EXPECT(has(must(replaced(run_on("planned", "--plan"), "text.txt", "none.txt")), "planned without data"));
}

TEST(the_printed_command_repeats_the_run) {
    prepare_text(SCRATCH, 150);
    write_file_atomically(SCRATCH + "/it's a text.txt", read_file(SCRATCH + "/text.txt"));
    const std::string output = must(replaced(run_on("a", "-x 24"), SCRATCH + "/text.txt", "\"" + SCRATCH + "/it's a text.txt\""));
    const std::string command = replaced(chosen_command(output), SCRATCH + "/a", SCRATCH + "/b");
    EXPECT(!has(must(command), "chosen"));
    expect_same("a", "b", "step_00000024");
}

// Killed after its first checkpoints, the run goes on as it was chosen.
TEST(resuming_keeps_what_was_chosen) {
    prepare_text(SCRATCH, 150);
    must(run_on("a", "-x 24"));
    must("cp -r " + SCRATCH + "/a " + SCRATCH + "/b");
    EXPECT(steps_of("b") == (std::vector<int>{6, 12, 18, 24}));
    must("rm -r " + SCRATCH + "/b/step_00000024 " + SCRATCH + "/b/step_00000018");
    const std::string said = must(run_on("b", "-x 24 -y 1"));
    EXPECT(has(said, "goes on after step 12") && !has(said, "chosen"));
    for (const std::string& line : lines_of(said)) EXPECT(!has(line, ", was ") || line.starts_with("resume   --out "));
    expect_same("a", "b", "step_00000024");
    // what was recorded holds, not what this machine would choose now: another seed is said and taken, a width stays
    must(run_on("b", "-x 26 -y 1 -v 0"));  // a chosen --patience gives way
    const std::string other = must(run_on("a", "-x 30 -y 1 --seed 7"));
    EXPECT(has(other, "--seed 7, was 42") && !has(other, "--lr") && !has(other, "--batch"));
}

TEST(best_is_the_lowest) {
    Best best;
    EXPECT(!best.gives_up(1));
    best.look(0, 5), best.look(10, 4), best.look(20, NAN);
    EXPECT(best.step == 10 && best.loss == 4 && best.since == 1 && best.gives_up(1) && !best.gives_up(2) && !best.gives_up(0));
    best.look(30, 4);  // no better
    EXPECT(best.step == 10 && best.since == 2);
    best.look(40, 3.999);
    EXPECT(best.step == 40 && best.since == 0);
    const Best again = best_from_json(json_parse(json_dump(best_to_json(best)), "best"), "best");
    EXPECT(again.step == 40 && again.loss == 3.999 && again.since == 0);
    const Best none = best_from_json(best_to_json({}), "best");
    EXPECT(none.step == -1 && none.improves(1e30));
}

// A model that learns its few sentences by heart gets worse on what it has not seen: the run ends, the best checkpoint is kept, and each resume sees so.
TEST(ends_when_validation_gets_worse) {
    prepare_text(SCRATCH, 30);
    std::string unlike;
    for (int i = 0; i < 60; i++) unlike += format("%d zebras quarrel %c.\n", i * 37 % 90, 'a' + i * 7 % 26);
    write_file_atomically(SCRATCH + "/unlike.txt", unlike);
    const std::string options = "-j " + SCRATCH + "/unlike.txt -e d1c32h1 -t 16 -b 2 -l 1e-2 -x 400 -v 5 -s 0 -n 1000 --patience 3 --tokenizer bytes";
    const std::string said = must(run_on("a", options));
    const std::vector<double> losses = metrics_of(SCRATCH + "/a", "val_loss");
    const size_t best = (size_t)(std::min_element(losses.begin(), losses.end()) - losses.begin());
    EXPECT(losses.size() >= 5 && losses.size() < 81 && best + 4 == losses.size());  // three more, and no further
    const int step = 5 * (int)best, end = step + 15;
    EXPECT(has(said, format("ends after step %d: 3 validations in a row were no better than that of step %d", end, step)));
    EXPECT(has(said, format("at step %d: %s/a/step_%08d", step, SCRATCH.c_str(), step)));
    EXPECT(steps_of("a") == (std::vector<int>{step, end}));
    EXPECT(file_contents(SCRATCH + "/a/DONE_" + format("%08d", step)).empty());
    // resumed at its end it ends again, and trains nothing
    EXPECT(has(must(run_on("a", options + " -y 1")), format("ends after step %d", end)));
    EXPECT(metrics_of(SCRATCH + "/a", "val_loss") == losses);
    // resumed at its best it counts as the undisturbed run did
    must(format("rm -r %s/a/step_%08d", SCRATCH.c_str(), end));
    must(run_on("a", options + " -y 1"));
    EXPECT(metrics_of(SCRATCH + "/a", "val_loss") == losses && steps_of("a") == (std::vector<int>{step, end}));
    // with --keep 1 the best one stays beside the newest
    must(run_on("kept", options + " -nk 1"));
    EXPECT(steps_of("kept") == (std::vector<int>{step, end}));
    // -nm keeps former best ones too: every validation up to the best was the best of its time
    must(run_on("major", options + " -nm 5"));
    EXPECT(best > 1 && steps_of("major").size() > 2 && steps_of("major").back() == end);
    // the end has its sample, at whatever step it comes
    std::string sampled = options;
    must(run_on("sampled", sampled.replace(sampled.find("-s 0"), 4, "-s 400 -g 4")));
    EXPECT(has(file_contents(SCRATCH + "/sampled/metrics.jsonl"), format("{\"step\": %d, \"sample\": ", end)));
    // validating alone, by another measure, leaves the best one where it is
    must(run_on("kept", options + " -nk 1 -y 1 -m 1").replace(run_on("kept", options + " -nk 1 -y 1 -m 1").find("-x 400"), 6, "-x 0  "));
    EXPECT(steps_of("kept") == (std::vector<int>{step, end}));
    // going on without checkpoints leaves the best that there is
    const std::string learns = "-e d1c32h1 -t 16 -b 2 -v 5 -s 0 --patience 9 --tokenizer bytes ";
    must(run_on("learns", learns + "-x 10 -n 1000")), must(run_on("learns", learns + "-x 20 -n 0 -y 1"));
    EXPECT(steps_of("learns") == (std::vector<int>{10}));
    // other validation data have losses of their own: the best of the first, which is lower than any of these, is no longer the best
    must(run_on("other", learns + "-x 60 -n 20"));
    const std::string other = must(run_on("other", learns + "-x 80 -n 20 -y 1 -j " + SCRATCH + "/unlike.txt"));
    const std::vector<double> all = metrics_of(SCRATCH + "/other", "val_loss");
    double kept = 0;
    EXPECT(sscanf(other.substr(std::min(other.rfind("best     loss "), other.size())).c_str(), "best     loss %lf", &kept) == 1);
    EXPECT(kept > *std::min_element(all.begin(), all.end()) + 0.1);
    // a replay takes the recorded steps, whatever it validates
    must(format("%s --replay %s/a -o %s/replayed -v 1 -s 0 2>&1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(metrics_of(SCRATCH + "/replayed", "loss") == metrics_of(SCRATCH + "/a", "loss"));
    EXPECT(has(must(format("%s --replay %s/a -o %s/unvalidated -v 0 -s 0 -n 0 2>&1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str())), format("step %d/%d", end, end)));
    // the last step, validated beside the others' grid: a longer run has its best where its folder is
    must(run_on("longer", "-e d1c32h1 -t 16 -b 2 -x 12 -v 8 -s 0 -n 1000 --patience 9 --tokenizer bytes"));
    const std::string longer = must(run_on("longer", "-e d1c32h1 -t 16 -b 2 -x 16 -v 8 -s 0 -n 1000 --patience 9 --tokenizer bytes -l 100 -k constant -y 1"));
    const size_t at = longer.rfind("at step ");
    EXPECT(at != longer.npos && access(longer.substr(longer.find(": ", at) + 2, longer.find('\n', at) - longer.find(": ", at) - 2).c_str(), F_OK) == 0);
    const std::string refused = must(run_on("none", "-e d1c32h1 -t 16 -x 4 -v 0 --patience 3"), 2);
    EXPECT(has(refused, "--patience: 3 given, but --val-every 0 validates nothing") && access((SCRATCH + "/none").c_str(), F_OK) != 0);
}
