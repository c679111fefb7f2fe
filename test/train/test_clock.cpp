// Training by the clock: the learning rate follows the time left, whatever the pace does; what a run decided is recorded, and repeats it.
#include "../../llmc/train/clock.h"
#include "../../llmc/train/log.h"
#include "../../llmc/train/schedule.h"
#include "../trainer_runs.h"

namespace {
const std::string SCRATCH = "build/tmp/clock";

// ---- a clock of the test's own: a run of `minutes` whose step s takes pace(s, time) seconds ----------------------------------------

struct Simulated { std::vector<double> rates, times; double end; };  // a rate and the time before it for each step; the time after the last
template <class Pace> Simulated simulate(double minutes, Pace pace, int given_warmup = 0, const char* schedule = "linear") {
    Simulated run{};
    StepClock clock(minutes, 0);
    for (int step = 0;; step++) {
        const double steps = clock.steps(step, run.end, {});
        if (step >= steps) return run;
        if (step > 100000) return FAIL("the run does not end"), run;
        run.times.push_back(run.end);
        run.rates.push_back(learning_rate(schedule, 1, step, clock.warmup(given_warmup, steps), steps, 0.1, 0.2));
        run.end += pace(step, run.end);
    }
}
// Each rate is the one of its time: 1 in the beginning, 0.1 after 100 seconds.
void expect_by_time(const Simulated& run) {
    for (size_t i = 0; i < run.rates.size(); i++)
        if (std::fabs(run.rates[i] - (1 - 0.9 * run.times[i] / 100)) > 1e-9) return FAIL("after %g s the rate is %g", run.times[i], run.rates[i]);
}
void expect_falls(const std::vector<double>& rates, double least, double most_at_once) {
    for (size_t i = 1; i < rates.size(); i++)
        if (rates[i] > rates[i - 1] + 1e-9 || rates[i] < rates[i - 1] - most_at_once) return FAIL("step %zu: from %g to %g", i + 1, rates[i - 1], rates[i]);
    if (rates.empty() || rates.back() > least) FAIL("the last rate is %g, must be at most %g", rates.empty() ? NAN : rates.back(), least);
}
}  // namespace

TEST(a_steady_pace_is_the_schedule_of_as_many_steps) {
    for (const char* schedule : {"linear", "cosine", "wsd", "trapezoidal"})
        for (int given : {0, 50}) {
            const Simulated run = simulate(100.0 / 60, [](int, double) { return 0.1; }, given, schedule);
            EXPECT_EQ(run.rates.size(), (size_t)1000);
            for (int step = 0; step < 1000 && step < (int)run.rates.size(); step++) {
                const double by_steps = learning_rate(schedule, 1, step, given, 1000, 0.1, 0.2), rate = run.rates[(size_t)step];
                if (std::fabs(rate - by_steps) > 1e-9) return FAIL("%s: step %d: %g, expected %g", schedule, step + 1, rate, by_steps);
            }
        }
}

// By hand: of 100 steps and a warm-up of 10, to a tenth.
TEST(cooldowns) {
    const auto rate = [](const char* schedule, int step, double cooldown, double warmup = 10, double steps = 100) { return learning_rate(schedule, 2, step, warmup, steps, 0.1, cooldown); };
    for (const char* schedule : {"wsd", "trapezoidal"}) {
        EXPECT_EQ(rate(schedule, 4, 0.4), 1.0);
        for (int step : {9, 10, 59, 60}) EXPECT_EQ(rate(schedule, step, 0.4), 2.0);
        EXPECT_EQ(rate(schedule, 1000, 0.4, 0, INFINITY), 2.0);  // by the clock, before it is known how many there will be
        EXPECT(std::fabs(rate(schedule, 100, 0.4) - 0.2) < 1e-15);
    }
    EXPECT(std::fabs(rate("trapezoidal", 80, 0.4) - 2 * (0.1 + 0.5 * 0.9)) < 1e-15 && std::fabs(rate("wsd", 70, 0.4) - 2 * (0.1 + 0.5 * 0.9)) < 1e-15);
    EXPECT(std::fabs(rate("trapezoidal", 55, 1) - 2 * (0.1 + 0.5 * 0.9)) < 1e-15 && rate("trapezoidal", 10, 1) == 2);  // all of it falls: from the warm-up on
}

TEST(the_rate_follows_the_time_left) {
    // slower and faster by half-time, a validation of 3 s every 50 steps, a stall of 30 s
    const Simulated slower = simulate(100.0 / 60, [](int, double t) { return t < 50 ? 0.1 : 0.5; });
    const Simulated faster = simulate(100.0 / 60, [](int, double t) { return t < 50 ? 0.5 : 0.1; });
    const Simulated validates = simulate(100.0 / 60, [](int step, double) { return step % 50 == 49 ? 3.1 : 0.1; });
    const Simulated stalls = simulate(100.0 / 60, [](int step, double) { return step == 300 ? 30 : 0.1; });
    expect_by_time(slower), expect_by_time(faster), expect_by_time(validates);
    EXPECT(slower.rates.size() > 590 && slower.rates.size() < 602 && faster.rates.size() > 590 && faster.rates.size() < 602);
    expect_falls(slower.rates, 0.105, 0.01), expect_falls(faster.rates, 0.105, 0.01), expect_falls(validates.rates, 0.15, 0.06);
    expect_falls(stalls.rates, 0.105, 0.9 / 15 + 1e-9);
    for (const Simulated& run : {slower, faster, validates, stalls})
        if (run.end < 99 || run.end > 101) FAIL("the run took %g s of 100", run.end);
}

TEST(after_a_stall_beyond_the_end_the_rate_comes_down) {
    const Simulated run = simulate(100.0 / 60, [](int step, double) { return step == 400 ? 1000 : 0.1; });
    EXPECT_EQ(run.rates.size(), (size_t)413);  // the 0.6 of the time that were left are 12 steps, of 20 for all
    expect_falls(run.rates, 0.15, 0.9 / 20 + 1e-9);
    const Simulated soon = simulate(100.0 / 60, [](int step, double) { return step == 2 ? 1000 : 0.1; });
    EXPECT_EQ(soon.rates.size(), (size_t)12);
    expect_falls(soon.rates, 0.2, 0.9 / 10 + 1e-9);
}

TEST(a_step_longer_than_all_the_time) {
    for (double minutes : {1.0, 1e-9}) {
        const Simulated run = simulate(minutes, [](int, double) { return 100; });
        EXPECT_EQ(run.rates.size(), (size_t)10);
        for (int step = 0; step < (int)run.rates.size(); step++)
            if (const double by_steps = learning_rate("linear", 1, step, 0, 10, 0.1, 0.2); std::fabs(run.rates[(size_t)step] - by_steps) > 1e-9)
                FAIL("step %d: %g, expected %g", step + 1, run.rates[(size_t)step], by_steps);
    }
}

TEST(warmup_leaves_time_to_come_down) {
    const Simulated run = simulate(100.0 / 60, [](int, double) { return 2; }, 100);  // 50 steps fit
    EXPECT_EQ(run.rates.size(), (size_t)50);
    EXPECT(*std::max_element(run.rates.begin(), run.rates.end()) > 0.95 && run.rates.back() < 0.13);
    EXPECT(run.rates[0] < 0.02 && run.rates[1] < 0.5 && run.rates[3] < 0.9);
}

TEST(a_resumed_clock_goes_on) {
    StepClock clock(2, 0);
    for (int step = 0; step <= 600; step++) clock.steps(step, 0.1 * step, {});
    EXPECT(std::fabs(clock.seconds() - 60) < 1e-9);
    StepClock same(2, clock.seconds()), longer(4, clock.seconds()), shorter(1, clock.seconds());
    EXPECT_EQ(same.steps(600, 0, {}), 1200.0);
    EXPECT_EQ(same.steps(601, 0.1, {}), 1200.0);
    EXPECT_EQ(longer.steps(600, 0, {}), 2400.0);
    EXPECT_EQ(shorter.steps(600, 0, {}), 600.0);
    EXPECT(std::fabs(longer.seconds_left() - 180) < 1e-9 && shorter.seconds_left() == 0);
    // of a run that no clock decided the time counts too
    StepClock none(0, 10), slow(1, 0);
    EXPECT(std::isinf(none.seconds_left()) && slow.seconds_left() == 60);
    slow.steps(0, 0, {}), slow.steps(1, 100, {});
    EXPECT(std::fabs(slow.seconds_left() - 900) < 1e-9);  // nine steps more, whatever was given
    EXPECT(std::isinf(none.steps(100, 5, {})));
    EXPECT_EQ(none.seconds(), 15.0);
    EXPECT_EQ(none.warmup(100, 20), 100.0);
}

// What rank 0 gives, whatever this rank's clock says.
TEST(another_ranks_clock_is_not_looked_at) {
    struct Rank0 : Transport {
        void all_gather_host(void* all, size_t bytes) override {
            const double now = 12;
            EXPECT_EQ(bytes, sizeof now);
            memcpy(all, &now, sizeof now);
        }
        void exchange(const std::vector<Message>&, const std::vector<Message>&, stream_t) override {}
        void all_gather(void*, size_t, stream_t) override {}
        void leave() override {}
    };
    StepClock clock(1, 0), alone(1, 0);
    Comm comm;
    comm.rank = 1, comm.world = 2, comm.transport = std::make_shared<Rank0>();
    EXPECT_EQ(clock.steps(5, 1000, comm), alone.steps(5, 12, {}));
    EXPECT_EQ(clock.seconds(), alone.seconds());
}

TEST(recorded_rates_give_back_the_update) {
    remove_tree(SCRATCH), make_folders(SCRATCH);
    std::vector<double> rates;
    for (int step = 0; step < 2000; step++) rates.push_back(learning_rate("cosine", 3e-3 / 7, step, 100, 2000, 0.1, 0.2));
    run_child([&] {  // which prints a line each
        Log log(SCRATCH, true, {});
        for (int step = 0; step < 2000; step++) log.step({.step = step + 1, .steps = 2000, .loss = 1, .norm = 1, .lr = rates[(size_t)step], .seconds = 1, .tokens = 1, .flops = 1, .peak = 1, .seconds_left = 1, .skipped = ""});
    });
    const std::vector<double> read = metrics_of(SCRATCH, "lr");
    EXPECT_EQ(read.size(), rates.size());
    for (size_t i = 0; i < read.size(); i++) if ((float)read[i] != (float)rates[i]) return FAIL("step %zu: %.17g, was %.17g", i + 1, read[i], rates[i]);
}

// ---- runs ------------------------------------------------------------------------------------------------------------------------

namespace {
void prepare() { prepare_text(SCRATCH, 3000); }
std::string trainer(const std::string& rest) { return std::string(TRAINER) + " --threads 1 " + rest; }
std::string text_run(const std::string& out, const std::string& rest) {
    return trainer(format("-i %s/text.txt -o %s/%s -e d1c16h1 -b 2 -t 16 -v 50 -m 2 -s 0 -k linear -l 3e-3 --seed 5 %s", SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str()));
}
std::string replay(const std::string& of, const std::string& out, const std::string& rest = "") {
    return trainer(format("--replay %s/%s -o %s/%s %s", SCRATCH.c_str(), of.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str()));
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
Outcome must(const std::string& command) {
    Outcome o = run_command("timeout -s KILL 60 " + command);
    if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
    return o;
}
// Starts it, sends it the signal once its log has the line, and waits for its end.
void interrupt(const std::string& out, const std::string& command, const std::string& line, const char* signal) {
    run_command(format("%s > %s/said 2>&1 & pid=$!; until grep -q '%s' %s/%s/main.log 2> /dev/null || ! kill -0 $pid 2> /dev/null; do sleep 0.02; done; kill -%s $pid; wait $pid",
                       command.c_str(), SCRATCH.c_str(), line.c_str(), SCRATCH.c_str(), out.c_str(), signal));
}
std::string file(const std::string& path) { return file_contents(SCRATCH + "/" + path); }
int last_step(const std::string& out) {
    const std::vector<double> steps = metrics_of(SCRATCH + "/" + out, "lr");
    return (int)steps.size();
}
// What the two runs computed: logs but for times, and the last weights and their optimizer's state.
void expect_same(const std::string& a, const std::string& b) {
    const int step = last_step(a);
    EXPECT_STR(file(a + "/main.log"), file(b + "/main.log"));
    for (const char* field : {"lr", "loss", "grad_norm", "val_loss"}) EXPECT(metrics_of(SCRATCH + "/" + a, field) == metrics_of(SCRATCH + "/" + b, field));
    for (const char* name : {"model.safetensors", "state-00000.safetensors"}) {
        const std::string path = format("/step_%08d/%s", step, name), weights = file(a + path);
        if (weights.empty() || weights != file(b + path)) FAIL("%s%s and %s's are not the same", a.c_str(), path.c_str(), b.c_str());
    }
}
double seconds_of(const std::string& out, int step) {
    const std::string path = format("%s/%s/step_%08d/trainer.json", SCRATCH.c_str(), out.c_str(), step);
    return json_parse(file_contents(path), path).at("seconds", path).as_double(path);
}
}  // namespace

TEST(a_run_by_the_clock_is_repeated_bit_for_bit) {
    prepare();
    for (const char* precision : {"fp32", "bf16"}) {
        for (const char* out : {"a", "b", "c"}) remove_tree(SCRATCH + "/" + out);
        Outcome o = must(text_run("a", format("--minutes 0.01 -u 20 --precision %s -n 1000000", precision)));
        const std::vector<double> rates = metrics_of(SCRATCH + "/a", "lr");
        EXPECT(rates.size() >= 10 && rates.back() < 0.25 * 3e-3);
        EXPECT(has(o.output, "step 1  loss") && has(o.output, "0:01 left") && !has(o.output, "days"));
        EXPECT(std::fabs(seconds_of("a", (int)rates.size()) - 0.6) <= 0.5 * 0.6 / (double)rates.size() + 1e-9);
        o = must(replay("a", "b", "--threads 2"));
        EXPECT(has(o.output, format("step %zu/%zu", rates.size(), rates.size())) && !has(o.output, "not the recorded one"));
        expect_same("a", "b");
        must(replay("b", "c", "-v 0 -n 0"));  // what is validated and saved is ours to choose
        EXPECT(metrics_of(SCRATCH + "/c", "loss") == metrics_of(SCRATCH + "/a", "loss") && metrics_of(SCRATCH + "/c", "lr") == rates);
        EXPECT(metrics_of(SCRATCH + "/c", "val_loss").empty() && list_folder(SCRATCH + "/c").size() == 3);  // logs and tokens
    }
}

TEST(an_interrupted_run_trains_for_what_is_left_and_is_repeated) {
    prepare();
    const std::string options = "-n 20 -nk 1 --precision bf16 -y 1 ", run = text_run("a", options + "--minutes 0.03");
    interrupt("a", run, "s:30 trl", "TERM");
    interrupt("a", run, "s:75 trl", "KILL");  // the steps after the last checkpoint are made again, at other rates
    must(run);
    const std::vector<double> rates = metrics_of(SCRATCH + "/a", "lr");
    for (size_t i = 1; i < rates.size(); i++) if (rates[i] > rates[i - 1]) FAIL("step %zu: the rate rises from %g to %g", i + 1, rates[i - 1], rates[i]);
    EXPECT(!rates.empty() && rates.back() < 0.2 * 3e-3);
    EXPECT(has(must(run).output, "nothing to do: the run is finished; a larger --minutes goes on"));
    must(replay("a", "b"));
    expect_same("a", "b");

    must(text_run("a", options + "--minutes 0.04"));  // a finished run goes on, at the rate of its time
    const std::vector<double> more = metrics_of(SCRATCH + "/a", "lr");
    EXPECT(more.size() > rates.size() && std::fabs(more[rates.size()] - 3e-3 * (1 - 0.9 * 0.75)) < 0.15 * 3e-3);
    // and so does its replay, interrupted
    interrupt("c", replay("a", "c"), "s:30 trl", "TERM");
    must(replay("a", "c", "-y 1"));
    expect_same("a", "c");
}

TEST(steps_are_the_most_that_the_clock_makes) {
    prepare();
    must(text_run("a", "--minutes 100 -x 40"));
    const std::vector<double> rates = metrics_of(SCRATCH + "/a", "lr");
    EXPECT(rates.size() == 40 && std::fabs(rates[20] - 3e-3 * 0.55) < 1e-8 && rates.back() < 0.13 * 3e-3);
    EXPECT(has(must(text_run("a", "--minutes 100 -x 40 -y 1")).output, "a larger --steps goes on"));
}

TEST(a_run_without_a_clock_is_repeated_too) {
    prepare();
    must(text_run("a", "-x 30 -n 10 -u 5 --beta2 0.93333333333333335")), must(text_run("a", "-x 40 -n 10 -u 3 -l 1.23456789012e-3 --beta2 0.93333333333333335 -y 1"));  // its schedule changed
    must(replay("a", "b"));
    expect_same("a", "b");
    EXPECT(has(file("b/metrics.jsonl"), "\"beta2\":\"0.93333333333333335\""));
    // groups' rates follow the recorded one
    must(text_run("m", "-x 8 -n 8 -u 3 --optimizer muon --muon-lr 0.013 --embed-lr 0.0071"));
    must(replay("m", "n"));
    expect_same("m", "n");
    // the batch that was chosen is recorded
    must(text_run("auto", "-x 2 -b auto -d 64"));
    EXPECT(has(must(replay("auto", "c")).output, "4 x 16 tokens x 1 micro-batches") && has(file("c/metrics.jsonl"), "\"batch\":\"4\""));
}

TEST(a_replay_that_is_another_run_says_so) {
    prepare();
    must(text_run("a", "-x 10 -n 0"));
    std::string text = file("text.txt");
    for (size_t i = 0; i < text.size(); i += 7) text[i] = 'x';
    write_file_atomically(SCRATCH + "/text.txt", text);
    const std::string output = must(replay("a", "b", "-n 0")).output;
    EXPECT(has(output, "step 1 is not the recorded one: loss ") && !has(output, "step 2 is not"));
}

TEST(mistakes_of_clock_and_replay_are_one_line) {
    prepare();
    must(text_run("a", "-x 4 -n 2"));
    const std::string record = file("a/metrics.jsonl");
    const std::vector<std::string> lines = lines_of(record);
    const auto refused = [](const std::string& command, const std::string& says) {
        const std::string names = run_command("ls -A " + SCRATCH).output;
        Outcome o = run_command("timeout -s KILL 60 " + command);
        if (o.code != 2 || !has(o.output, says) || o.output.find('\n') != o.output.size() - 1) FAIL("%s: exit code %d: %s, expected '%s'", command.c_str(), o.code, o.output.c_str(), says.c_str());
        EXPECT_STR(run_command("ls -A " + SCRATCH).output, names);
    };
    const auto damaged = [&](const std::string& text, const std::string& says) {
        make_folders(SCRATCH + "/d");
        write_file_atomically(SCRATCH + "/d/metrics.jsonl", text);
        refused(replay("d", "b"), says);
    };
    refused(text_run("b", "--minutes -1"), "--minutes: '-1' given, must be a number in 0..");
    refused(text_run("b", "--minutes soon"), "--minutes: 'soon' given, must be a number in 0..");
    refused(text_run("b", "--minutes 1 -x 0"), "--minutes: 1 given, but --steps 0 trains nothing");
    for (const char* given : {"-l 1e-3", "--minutes 1", "-x 3", "-b 2", "-e d2", "--seed 3", "--precision bf16", "-i x.txt", "-k cosine", "-f 0"})
        refused(replay("a", "b", given), "given beside --replay, which takes it from the run that it repeats");
    refused(replay("none", "b"), "--replay: no record of a run: build/tmp/clock/none/metrics.jsonl: ");
    refused(replay("a", "a"), "--out: build/tmp/clock/a is the run that --replay repeats, must be another folder");
    refused(replay("a", "a", "-y 1"), "is the run that --replay repeats");
    damaged("", "d/metrics.jsonl: no step is recorded");
    damaged(lines[0] + "\n", "no step is recorded");
    damaged(record.substr(lines[0].size() + 1), "line 1: is not the beginning of a run");
    damaged("not JSON\n", "line 1 column 1: expected");
    size_t second = record.find("{\"step\": 2,"), third = record.find("{\"step\": 3,");
    damaged(record.substr(0, second) + record.substr(third), "step 2 with its learning rate must be here");
    damaged(record.substr(0, third) + record.substr(second), "step 3 with its learning rate must be here");
    damaged(record.substr(0, second + 30) + "\n" + record.substr(third), "column");
    std::string no_rate = record, other = record;
    no_rate.insert(no_rate.find("\"lr\": ", second) + 6, "null, \"was\": ");
    damaged(no_rate, "step 2 with its learning rate must be here");
    other.insert(other.find("\"seed\":\"5\"") + 9, "x");
    damaged(other, "seed \"5x\" is no option of this version");
    std::string by_library = record;
    by_library.replace(by_library.find("\"reduce\":\"tree\"") + 10, 4, "nccl");
    damaged(by_library, "added by the library (--reduce nccl), in an order that nothing records");
    must(text_run("e", "-x 1 -n 0 -pn 1 --reduce nccl"));  // a script's, which here is one rank
    remove_tree(SCRATCH + "/e");
    must(text_run("m", "-x 2 -n 2 --optimizer muon")), must(text_run("m", "-x 4 -n 2 -y 1 --optimizer muon -l 1.5e-3"));  // the recorded rate says nothing of the others
    refused(replay("m", "b"), "from step 3 on the run had --lr 0.0015, was ");
    must(text_run("t", "-x 4 -n 4 -k trapezoidal")), must(text_run("t", "-x 8 -n 4 -y 1 -k trapezoidal --cooldown 0.5"));  // but of its own cool-down
    must(replay("t", "u"));
    must(text_run("a", "-x 6 -y 1 --seed 7"));
    refused(replay("a", "b"), "from step 5 on the run had --seed 7, was 5: such a run cannot be repeated");
    must("cp -r " + SCRATCH + "/a " + SCRATCH + "/e"), must(text_run("e", "-x 6 -y 1"));  // nothing came of it
    write_file_atomically(SCRATCH + "/e/metrics.jsonl", record + lines[0] + "\n");
    must(replay("e", "b"));
}
