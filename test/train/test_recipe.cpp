// test_recipe.cpp: --recipe is the options that it names; and weight decay and momentum that change with the step.
#include "../../llmc/train/schedule.h"
#include "../trainer_runs.h"
#include "life_test.h"

namespace {
const std::string SCRATCH = "build/tmp/recipe";
std::string weights_of(const std::string& out, int step) { return contents(out + format("/step_%08d/model.safetensors", step)); }
std::string modern_run(const std::string& out, const std::string& rest) { return text_run(out, "-e modern:d1c16h2 " + rest); }

Options parsed(std::vector<std::string> words) {
    std::vector<char*> arguments = {(char*)"train_gpt2"};
    for (std::string& word : words) arguments.push_back(word.data());
    return parse_options((int)arguments.size(), arguments.data());
}
// The options that are not as without a recipe, but the recipe itself.
std::string differing(const Options& a, const Options& b) {
    std::string all;
    for (const auto& row : options_detail::TABLE) if (row.text(a) != row.text(b) && strcmp(row.field, "recipe")) all += row.name() + " " + row.text(a) + " ";
    return all;
}
// --recipe modern, by hand, in the order of --help.
const std::string BY_HAND = "--lr 0.003 --final-lr-frac 0 --schedule trapezoidal --cooldown 0.7 --optimizer muon --embed-lr 0.008 --head-lr 0.004 --weight-decay 0.001 --decay-schedule lr --beta1 0.8 --eps 1e-10 ";
}  // namespace

TEST(a_recipe_names_options) {
    const Options none = parsed({}), gpt2 = parsed({"--recipe", "gpt2"}), modern = parsed({"--recipe", "modern"});
    EXPECT(none.given.empty() && none.said.empty());
    EXPECT_STR(differing(gpt2, none), "");
    EXPECT(was_chosen(gpt2, "lr") && was_chosen(gpt2, "schedule") && was_chosen(gpt2, "weight_decay") && !was_chosen(gpt2, "muon_lr") && !was_chosen(gpt2, "cooldown"));  // what would do nothing is not named
    EXPECT_STR(differing(modern, none), BY_HAND);
    for (const auto& row : RECIPE) EXPECT(was_given(modern, row.field) && was_chosen(modern, row.field));
    EXPECT(!was_chosen(modern, "recipe") && modern.said.starts_with("recipe   modern: --optimizer muon --schedule trapezoidal --cooldown 0.7") && modern.said.ends_with("\n"));
    // what else is given holds, wherever it stands; what it makes idle is not named
    const Options other = parsed({"-k", "linear", "--recipe", "modern", "--muon-lr", "0.01"});
    EXPECT_STR(differing(other, modern), "--schedule linear --cooldown 0.2 --muon-lr 0.01 ");
    EXPECT(!was_chosen(other, "schedule") && !was_chosen(other, "muon_lr") && !has(other.said, "--schedule") && !has(other.said, "--muon-lr") && has(other.said, "--embed-lr"));
    EXPECT(!was_given(parsed({"--recipe", "modern", "--optimizer", "adamw"}), "muon_weight_decay"));
    // each value is one that its option may have
    for (const auto& [field, value] : RECIPE)
        for (const auto& row : options_detail::TABLE) if (!strcmp(row.field, field)) EXPECT_STR(options_detail::check_value(row, value), "");
    for (const char* wrong : {"--recipe muon", "--recipe modern --reduce nccl", "--recipe modern --lr 0", "--lr 0 --decay-schedule lr", "--muon-momentum-warmup 5", "--recipe modern -k linear --cooldown 0.5"})
        EXPECT_EQ(run_command(format("%s -i no.txt %s", TRAINER, wrong)).code, 2);
}

// By hand: they rise and fall with the rate; and what a step makes of them.
TEST(decay_follows_the_rate_and_momentum_rises) {
    Options opt = parsed({"-l", "0.5"});
    EXPECT(scheduled_decay(opt, 0.3, 0.125) == 0.3 && muon_momentum(opt, 0) == 0.95);
    opt.decay_schedule = "lr", opt.muon_momentum_warmup = 4;
    EXPECT(scheduled_decay(opt, 0.3, 0.125) == 0.25 * 0.3 && scheduled_decay(opt, 0.3, 0.5) == 0.3);
    for (int step : {0, 1, 2, 3, 4, 400}) EXPECT(std::fabs(muon_momentum(opt, step) - std::min(0.85 + 0.025 * step, 0.95)) < 1e-15);
    opt.muon_momentum = 0.5;  // it never falls
    for (int step : {0, 1, 4}) EXPECT_EQ(muon_momentum(opt, step), 0.5);

    prepare();
    const auto is_the_same = [](const std::string& options, const std::string& as, const std::string& unlike) {
        must(modern_run("a", "-x 1 -n 1 " + options)), must(modern_run("b", "-x 1 -n 1 " + as)), must(modern_run("c", "-x 1 -n 1 " + unlike));
        EXPECT(!weights_of("a", 1).empty() && weights_of("a", 1) == weights_of("b", 1) && weights_of("a", 1) != weights_of("c", 1));
        for (const char* out : {"a", "b", "c"}) remove_tree(SCRATCH + "/" + out);
    };
    const std::string adamw = "-l 0.1 -u 4 --init-std 0.3 ", muon = "--optimizer muon --muon-lr 0.4 " + adamw;  // the first step's rate is a quarter of the peak
    is_the_same(adamw + "-c 4 --decay-schedule lr", adamw + "-c 1", adamw + "-c 4");
    is_the_same(muon + "-c 0 --muon-weight-decay 4 --decay-schedule lr", muon + "-c 0 --muon-weight-decay 1", muon + "-c 0 --muon-weight-decay 4");
    // a momentum that rises so slowly is 0.85; the first step's is of no matter, as the product's size is none
    for (auto [out, options] : {std::pair{"a", "--muon-momentum-warmup 100000000"}, {"b", "--muon-momentum 0.85"}, {"c", ""}}) must(modern_run(out, "-x 5 -n 0 " + muon + options));
    const double rising = metrics_of(SCRATCH + "/a", "loss").back(), low = metrics_of(SCRATCH + "/b", "loss").back(), high = metrics_of(SCRATCH + "/c", "loss").back();
    if (!(std::fabs(rising - low) < 1e-3 * std::fabs(high - low))) FAIL("losses %.9g, %.9g at 0.85, %.9g at 0.95", rising, low, high);
}

// A run of a recipe has the bits of one that is told its options; a resumed one needs no word of it, and a replay repeats it.
TEST(a_recipe_is_stored) {
    prepare();
    Outcome o = must(modern_run("a", "--recipe modern -x 6 -n 3"));
    EXPECT(has(o.output, parsed({"--recipe", "modern"}).said + "model    modern, "));
    must(modern_run("b", BY_HAND + "-x 6 -n 6"));
    EXPECT(!weights_of("a", 6).empty() && weights_of("a", 6) == weights_of("b", 6) && weights_of("a", 6) != weights_of("a", 3));
    EXPECT(has(contents("a/metrics.jsonl"), "\"recipe\":\"modern\"") && has(contents("a/metrics.jsonl"), "\"chosen\": [\"optimizer\""));
    must("cp -r " + SCRATCH + "/a " + SCRATCH + "/c"), remove_tree(SCRATCH + "/c/step_00000006"), remove_tree(SCRATCH + "/c/DONE_00000006");
    o = must(modern_run("c", "-x 6 -n 3 -y 1"));
    EXPECT(has(o.output, "goes on after step 3") && weights_of("c", 6) == weights_of("a", 6));
    for (const char* option : {"--recipe", "--lr", "--optimizer", "--schedule"}) EXPECT(!has(o.output, std::string("resume   ") + option));
    EXPECT(has(contents("c/step_00000006/trainer.json"), "\"recipe\": \"modern\"") || has(contents("c/step_00000006/trainer.json"), "\"recipe\":\"modern\""));
    const std::string replay = format("%s --replay %s/a -o %s/d", TRAINER, SCRATCH.c_str(), SCRATCH.c_str());
    must(replay + " -n 6");
    EXPECT(weights_of("d", 6) == weights_of("a", 6));
    one_line(replay + "2 --recipe gpt2", 2, "--recipe: given beside --replay");
    // another recipe is another optimizer, whose state is not there
    o = run_command(modern_run("c", "--recipe gpt2 -x 9 -n 3 -y 1"));
    EXPECT(o.code == 2 && has(o.output, "--optimizer: 'adamw' given, must be muon"));
    // a peak of its own changes what follows it, which the recorded rates do not tell
    must(modern_run("e", "-x 2 -n 2 --decay-schedule lr")), must(modern_run("e", "-x 4 -n 2 -y 1 --decay-schedule lr -l 1.5e-3"));
    one_line(format("%s --replay %s/e -o %s/f", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()), 2, "from step 3 on the run had --lr 0.0015, was 0.0006");
    // what a text leaves open is chosen beside it, not against it
    o = must(format("%s -i %s/text.txt -o %s/t --recipe modern -x 2 -t 16 -b 2 --threads 1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(has(o.output, parsed({"--recipe", "modern"}).said + "chosen   for ") && has(o.output, " --recipe modern -x 2 -l 0.003 -u 0 -q 0 -k trapezoidal --cooldown 0.7 --optimizer muon"));
    // and the command that it prints can be given, and is the same again
    const size_t begin = o.output.find("the same again is\n") + strlen("the same again is\n");
    std::string printed = o.output.substr(begin, o.output.find('\n', begin) - begin);
    const std::string out = " -o " + SCRATCH + "/t ";
    EXPECT(has(printed, " --recipe modern ") && has(printed, out));
    if (has(printed, out)) must(printed.replace(printed.find(out), out.size(), " -o " + SCRATCH + "/u "));
    EXPECT(!weights_of("t", 2).empty() && weights_of("t", 2) == weights_of("u", 2));
    // a head that is the embedding has no rate, and a recipe is of any model
    must(text_run("g", "--recipe modern -x 1 -n 0"));
    one_line(text_run("h", "--recipe modern --head-lr 0.1 -x 1 -n 0"), 2, "--head-lr: 0.1 given, but this model's head is its embedding");
}
