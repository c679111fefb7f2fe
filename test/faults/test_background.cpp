// Checkpoints that are written while training goes on (--async-save 1): the same files as without, whatever comes meanwhile. The thread that writes is held up
// in front of its first write for as long as a test needs, so that "meanwhile" is no matter of luck.
#include <signal.h>
#include <atomic>
#include "../../llmc/base/background.h"
#include "../../llmc/io/safetensors.h"
#include "runs.h"
#include "tracer.h"

namespace {
std::string SCRATCH;

std::string out(const std::string& name) { return SCRATCH + "/" + name; }
// Saves at step 4, and then not before 8.
std::string rare_saves(const std::string& name, const std::string& rest = "") { return small_run(SCRATCH, name, 1, "-n 4 -x 8 -nk 0 " + rest); }
std::string log_of(const std::string& name) { return text_of(out(name) + "/main.log"); }
std::string trainer_of(const std::string& name, int step) { return text_of(checkpoint_path(out(name), step) + "/trainer.json"); }
std::string must_run(const std::string& command) {
    const Outcome o = run_command(command);
    if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
    return o.output;
}
std::string list_of(const std::string& folder) {
    std::string text;
    for (const std::string& name : list_folder(folder)) text += name + " ";
    return text;
}

// The thread that writes the checkpoint of a step is held up as long as is_held() says.
struct Held {
    Tracer tracer{SCRATCH};
    bool came = false;  // to it
    Held(int step, std::function<bool()> is_held) {
        tracer.on_entry = [this, step](const Call& call, int) {
            if (came || !has(call.path, format("/.step_%08d.new/", step)) || !call.is(Does::WRITES)) return Order{};
            return came = true, Order{Order::HOLD};
        };
        tracer.is_held = std::move(is_held);
    }
    Tracer::Ended run(const std::string& command) { return tracer.run(command, SCRATCH + ".said"); }
};

// "", or what differs of two runs' folders: names, logs and every file of every checkpoint, but for times and what trainer.json says of them.
std::string difference(const std::string& a, const std::string& b) {
    if (list_of(a) != list_of(b)) return a + " holds " + list_of(a) + ", " + b + " " + list_of(b);
    if (text_of(a + "/main.log") != text_of(b + "/main.log")) return a + "/main.log differs";
    if (without_times(text_of(a + "/metrics.jsonl")) != without_times(text_of(b + "/metrics.jsonl"))) return a + "/metrics.jsonl differs";
    for (const std::string& name : list_folder(a)) {
        if ((name.starts_with("GOOD_") || name.starts_with("BAD_")) && text_of(a + "/" + name) != text_of(b + "/" + name)) return a + "/" + name + " differs";
        if (!name.starts_with("step_")) continue;
        if (const std::string error = verify_checkpoint(a + "/" + name); !error.empty()) return a + "/" + name + ": " + error;
        for (const std::string& file : list_folder(a + "/" + name)) {
            const std::string in_a = text_of(a + "/" + name + "/" + file), in_b = text_of(b + "/" + name + "/" + file);
            if (file == "trainer.json" ? without_place(in_a) != without_place(in_b) : file != "MANIFEST" && in_a != in_b) return a + "/" + name + "/" + file + " differs";
        }
    }
    return "";
}
}  // namespace

TEST(files_are_those_of_saves_that_training_waits_for) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    struct Way { const char* rest; int ranks; };
    // transposed and not, two precisions, divided state; best ones, those that are dropped, spikes; more files of state than one has no test: they take 256 MB
    for (const Way& way : {Way{"", 1}, {"--precision bf16", 1}, {"--precision bf16 -w 0", 1}, {"-z 1", 2}, {"-z 2", 2}, {"-z 3 --precision bf16", 2}, {"-nk 1 --patience 2 -x 20", 1},
                           {"-x 180 -n 10 --confirm 9 -nk 2 -v 0 -sg 1.5 -l 1e-5", 1}, {"-x 180 -n 10 --confirm 9 -v 0 -sg 1.5 --on-spike rollback -l 1e-5", 2}}) {
        for (const char* async : {"1", "0"}) {
            remove_tree(out(async));
            must_run(small_run(SCRATCH, async, way.ranks, format("%s --async-save %s", way.rest, async)));
        }
        if (const std::string error = difference(out("1"), out("0")); !error.empty()) FAIL("%s: %s", way.rest, error.c_str());
    }
}

// What is saved is of its step, however far training has come: of weights, of the lengths of logs.
TEST(training_goes_on_while_a_checkpoint_is_written) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    must_run(rare_saves("waits", "--async-save 0"));
    bool was_there = false;
    Held held(4, [&] { was_there |= has_checkpoint(out("a"), 4); return !has(log_of("a"), "s:7 trl:"); });
    const Tracer::Ended ended = held.run(rare_saves("a"));
    EXPECT_EQ(ended.code, 0);
    EXPECT(held.came && !was_there);
    EXPECT(ended.said.find("step 7/8") < ended.said.find("saved    step 4: training waited "));
    EXPECT_STR(difference(out("a"), out("waits")), "");
    const auto logged = [](const std::string& name) { return json_parse(trainer_of(name, 4), name).at("main_log", name).as_int(name, 0); };
    EXPECT_EQ(logged("a"), logged("waits"));
    // killed before it was there, after steps that came later
    remove_tree(out("a"));
    Held killed(4, [&] {
        if (!has(log_of("a"), "s:6 trl:")) return true;
        kill(killed.tracer.first_process, SIGKILL);
        return true;
    });
    EXPECT_EQ(killed.run(rare_saves("a")).code, 128 + SIGKILL);
    EXPECT(killed.came && !has_checkpoint(out("a"), 4) && has(list_of(out("a")), ".step_00000004.new "));
    must_run(rare_saves("a", "-y 1"));
    EXPECT_STR(difference(out("a"), out("waits")), "");
}

// The one on its way is finished first, then the step is saved at which it ends: between steps, or within a validation (every second step).
TEST(a_signal_while_a_checkpoint_is_written) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    must_run(rare_saves("waits", "-n 20 -x 60 --async-save 0"));
    for (const char* when : {"s:21 trl:", "s:22 trl:", "s:22 tel:", "s:24 tel:", "s:25 trl:", "s:26 tel:"}) {
        remove_tree(out("a"));
        int asked = 0;
        Held held(20, [&] { return !asked || asked++ < 200; });  // some more steps may come, if it does not wait for it
        const auto hold = held.tracer.on_entry;
        held.tracer.on_entry = [&](const Call& call, int n) {  // in the write that says when: who asks from outside finds later steps where the machine is busy
            const bool is_time = call.is(Does::WRITES) && call.path.ends_with("/main.log") && has(tracee_bytes(call.process, call.arguments[1], call.bytes), when);
            if (is_time && !asked) asked = kill(held.tracer.first_process, SIGTERM) == 0;
            return hold(call, n);
        };
        const Tracer::Ended ended = held.run(rare_saves("a", "-n 20 -x 60"));
        EXPECT_EQ(ended.code, 0);
        if (!held.came || !has(ended.said, "interrupted after step ")) return FAIL("said %s", ended.said.c_str());
        const std::vector<Checkpoint> saved = list_checkpoints(out("a"));
        if (saved.size() != 2 || saved[0].step != 20 || saved[1].step >= 40) return FAIL("%s: %s", when, list_of(out("a")).c_str());
        for (const Checkpoint& c : saved) EXPECT_STR(verify_checkpoint(c.path), "");
        must_run(rare_saves("a", "-n 20 -x 60 -y 1"));
        EXPECT(text_of(checkpoint_path(out("a"), 60) + "/model.safetensors") == text_of(checkpoint_path(out("waits"), 60) + "/model.safetensors"));
        EXPECT_STR(log_of("a"), log_of("waits"));
    }
}

// What the step guard has against a later step, it has against the one on its way too.
TEST(a_spike_while_a_checkpoint_is_written) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    const auto run = [](const std::string& name, const char* async) { return small_run(SCRATCH, name, 1, format("-x 180 -n 10 --confirm 9 -nk 0 -v 0 -sg 1.5 -l 1e-5 --async-save %s", async)); };
    must_run(run("waits", "0"));
    int spike = 0;  // the first one against which a checkpoint counts
    for (const std::string& line : lines_of(text_of(out("waits") + "/metrics.jsonl")))
        if (const Json json = json_parse(line, "metrics"); !spike && json.find("skipped"))
            if (const int step = (int)json.at("step", "metrics").as_int("metrics", 0); step % 10 && has(why_bad(out("waits"), step / 10 * 10), format("step %d after it", step))) spike = step;
    if (!spike) return FAIL("no spike soon after a checkpoint");
    Held held(spike / 10 * 10, [&] { return !has(text_of(out("a") + "/metrics.jsonl"), format("{\"step\": %d, ", spike)); });
    EXPECT_EQ(held.run(run("a", "1")).code, 0);
    EXPECT(held.came);
    EXPECT_STR(difference(out("a"), out("waits")), "");
}

// No earlier best one goes for one that is not there yet: step 4 was the best, 8 is better, and 6 becomes good while 8 is written.
TEST(the_best_one_stays_until_a_better_one_is_there) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    const auto run = [](const std::string& name, const char* async) { return small_run(SCRATCH, name, 1, format("-n 6 -v 4 --patience 9 -nk 1 --confirm 3 -x 14 --async-save %s", async)); };
    must_run(run("waits", "0"));
    bool was_there = true;
    Held held(8, [&] { was_there &= has_checkpoint(out("a"), 4); return !has(log_of("a"), "s:11 trl:"); });
    EXPECT_EQ(held.run(run("a", "1")).code, 0);
    EXPECT(held.came && was_there && !has_checkpoint(out("a"), 4));
    EXPECT_STR(difference(out("a"), out("waits")), "");
}

// Told as if training had waited: one line that names the file, the folder goes, and what was there stays.
TEST(a_disk_that_fails_while_training_goes_on) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    must_run(rare_saves("waits", "--async-save 0"));
    for (const int error : {ENOSPC, EIO}) {
        remove_tree(out("a"));
        Tracer tracer(SCRATCH);
        int phase = 0;  // held up, then failed
        tracer.on_entry = [&](const Call& call, int) {
            if (!has(call.path, ".step_00000008.new/model.safetensors") || !call.is(phase ? Does::SYNCS : Does::WRITES)) return Order{};
            return phase++ ? Order{Order::FAIL, error} : Order{Order::HOLD};
        };
        tracer.is_held = [&] { return !has(log_of("a"), "s:9 trl:"); };
        const Tracer::Ended ended = tracer.run(rare_saves("a", "-x 12"), SCRATCH + ".said");
        EXPECT_EQ(ended.code, 1);
        EXPECT(has(ended.said, format("error: %s/a/.step_00000008.new/model.safetensors: %s\n", SCRATCH.c_str(), strerror(error))));
        EXPECT(!has(list_of(out("a")), ".step") && has_checkpoint(out("a"), 4) && !has_checkpoint(out("a"), 8));
        must_run(rare_saves("a", "-y 1"));
        EXPECT_STR(difference(out("a"), out("waits")), "");
    }
}

// Of a disk that is full both may find out at once.
TEST(of_threads_that_die_at_once_one_says_why) {
    for (int i = 0; i < 20; i++) {
        const Outcome o = run_child([] {
            g_before_death = [] { usleep(20'000); };  // which leaves the other one time to speak
            Background other;
            std::atomic<int> ready = 0;
            const auto dies = [&](const char* who) {
                for (ready++; ready < 2;) {}
                die("%s", who);
            };
            other.start([&] { dies("the thread"); });
            dies("the loop");
        });
        EXPECT_EQ(o.code, 1);
        if (lines_of(o.output).size() != 1) return FAIL("said %s", o.output.c_str());
    }
}

TEST(the_plan_shows_the_copy) {
    // d1c8h1, 256 tokens and the context's positions, each padded to nothing: what the files of its tensors hold is what is copied
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    must_run(small_run(SCRATCH, "a", 1));
    const std::string folder = checkpoint_path(out("a"), LAST_STEP);
    double bytes = 0;
    for (const char* file : {"/model.safetensors", "/state-00000.safetensors"}) {
        const SafetensorsFile f(folder + file);
        for (const TensorInfo& t : f.tensors()) bytes += (double)(t.end - t.begin);
    }
    EXPECT(has(must_run(small_run(SCRATCH, "b", 1, "--plan")), format("\n  copy for checkpoints %10.1f MiB  snapshot\n", bytes / (1 << 20))));
    for (const char* none : {"--async-save 0", "-n 0"}) EXPECT(!has(must_run(small_run(SCRATCH, "b", 1, std::string("--plan ") + none)), "copy for checkpoints"));
    EXPECT(has(run_command(small_run(SCRATCH, "b", 1, "-n 0 --async-save 1")).output, "--async-save: 1 given, but --checkpoint-every 0 saves nothing\n"));
}

// Where the copy finds no room, training waits for saves as with --async-save 0, and it is said; it is an error if the copy was asked for.
TEST(without_room_for_the_copy_training_waits) {
    if (strcmp(BUILD, "build")) SKIP("a sanitizer takes more addresses than any limit");
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    // some 20 M parameters: 300 MB for the model, 230 MB for the copy; the program itself has some 200 MB of addresses
    const auto run = [](const char* name, int mb, const char* rest) {
        return run_command(format("ulimit -v %d; %s -i %s/text.txt --tokenizer bytes -e d6c512h8 -b 1 -t 8 -x 1 -v 0 -s 0 --threads 1 -n 1 -o %s/%s %s", mb << 10, TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), name, rest));
    };
    const Outcome waits = run("a", 600, ""), copies = run("b", 1200, ""), asked = run("c", 600, "--async-save 1");
    const char* says = "--async-save 0: there is no room for a copy of ";
    if (waits.code || !has(waits.output, says) || has(waits.output, "written in")) return FAIL("exit code %d: %s", waits.code, waits.output.c_str());
    if (copies.code || has(copies.output, says) || !has(copies.output, "written in")) return FAIL("exit code %d: %s", copies.code, copies.output.c_str());
    EXPECT(asked.code == 1 && has(asked.output, "error: --async-save: 1 given, but there is no room for the copy of "));
    for (const char* file : {"/model.safetensors", "/state-00000.safetensors"}) EXPECT(text_of(checkpoint_path(out("a"), 1) + file) == text_of(checkpoint_path(out("b"), 1) + file));
}

// ---- SIGUSR1 ---------------------------------------------------------------------------------------------------------

namespace {
// The last of the processes that a process has started; itself if there is none.
pid_t last_child(pid_t pid) {
    const std::string children = text_of(format("/proc/%d/task/%d/children", (int)pid, (int)pid));
    for (size_t at = 0, end; (end = children.find(' ', at)) != children.npos; at = end + 1) pid = (pid_t)atoi(children.c_str() + at);
    return pid;
}
// Runs, and sends the signal to its last rank once `is_time`. What it said.
std::string signalled(const std::string& command, int signal, const std::function<bool()>& is_time, const std::function<bool()>& is_over) {
    fflush(nullptr);
    const std::string said = SCRATCH + ".said";
    unlink(said.c_str());
    const pid_t pid = fork();
    if (pid == 0) execl("/bin/sh", "sh", "-c", ("exec " + command + " > " + said + " 2>&1").c_str(), (char*)nullptr), _exit(127);
    int status = -1, sent = 0;
    for (int i = 0; i < 60000 && waitpid(pid, &status, WNOHANG) == 0; i++, usleep(1000)) {
        if (sent == 0 && is_time()) sent = 1, kill(last_child(pid), signal);
        if (sent == 1 && is_over()) sent = 2, kill(pid, SIGTERM);
    }
    EXPECT_EQ(status, 0);
    return text_of(said);
}
}  // namespace

TEST(sigusr1_saves_and_goes_on) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    const auto says = [](const char* what) { return has(text_of(SCRATCH + ".said"), what); };
    for (const char* way : {"--async-save 1", "--async-save 0", "--ranks 2"}) {
        remove_tree(out("a"));
        const std::string said = signalled(small_run(SCRATCH, "a", 1, std::string("-x 1000000 -n 1000000 -nk 0 -v 0 --confirm 1000000 ") + way), SIGUSR1, [&] { return has(log_of("a"), "s:3 trl:"); },
                                           [&] { return says("saved    step") && says("and goes on"); });
        int step = -1;
        const size_t at = said.find("SIGUSR1: saved after step ");
        if (at == said.npos || sscanf(said.c_str() + at, "SIGUSR1: saved after step %d, and goes on\n", &step) != 1) return FAIL("%s: %s", way, said.c_str());
        EXPECT(said.find("step ", at + 40) < said.find("interrupted after step "));
        const std::vector<Checkpoint> saved = list_checkpoints(out("a"));
        EXPECT(saved.size() == 2 && saved[0].step == step);
        for (const Checkpoint& c : saved) EXPECT_STR(verify_checkpoint(c.path), "");
        // of its step: a run that ends there has the same
        remove_tree(out("b"));
        must_run(small_run(SCRATCH, "b", 1, format("-x %d -n 1000000 -v 0 ", step)));
        for (const char* file : {"model.safetensors", "state-00000.safetensors"}) EXPECT(text_of(checkpoint_path(out("a"), step) + "/" + file) == text_of(checkpoint_path(out("b"), step) + "/" + file));
    }
    remove_tree(out("a"));
    std::string said = signalled(small_run(SCRATCH, "a", 1, "-x 1000000 -n 0 -nk 0 -v 0"), SIGUSR1, [&] { return has(log_of("a"), "s:3 trl:"); }, [&] { return says("SIGUSR1: no"); });
    EXPECT(has(said, "SIGUSR1: no checkpoint: --checkpoint-every 0 saves none\n") && list_checkpoints(out("a")).empty());
}

// One that comes when the ranks have hardly been started waits until they can take it.
TEST(sigusr1_to_ranks_that_have_just_been_started) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    for (int i = 0; i < 10; i++) {
        remove_tree(out("a"));
        fflush(nullptr);
        const pid_t pid = fork();
        if (pid == 0) execl("/bin/sh", "sh", "-c", ("exec " + small_run(SCRATCH, "a", 2) + " > " + SCRATCH + ".said 2>&1").c_str(), (char*)nullptr), _exit(127);
        int status = -1;
        while (last_child(pid) == pid && waitpid(pid, &status, WNOHANG) == 0) {}
        for (int j = 0; j < i * 4; j++) sched_yield();
        kill(pid, SIGUSR1);  // to the launcher, which hands it on
        waitpid(pid, &status, 0);
        if (status || !has_checkpoint(out("a"), LAST_STEP)) return FAIL("status %d: %s", status, text_of(SCRATCH + ".said").c_str());
    }
}

// And so does one that comes before the options are known: a record to replay is read before the handlers are there.
TEST(sigusr1_to_a_process_that_has_just_been_started) {
    const Scratch scratch("background");
    SCRATCH = scratch.path;
    run_command(small_run(SCRATCH, "a", 1));
    Tracer tracer(SCRATCH);
    bool sent = false;
    tracer.on_entry = [&](const Call& call, int) {
        if (!sent && call.is(Does::OPENS) && call.path.ends_with("a/metrics.jsonl")) sent = kill(call.process, SIGUSR1) == 0;
        return Order{};
    };
    const Tracer::Ended ended = tracer.run(format("%s --replay %s -o %s", absolute_path(TRAINER).c_str(), out("a").c_str(), out("b").c_str()), SCRATCH + ".said");
    EXPECT(sent);
    if (ended.code || !has(ended.said, "SIGUSR1: ") || !has_checkpoint(out("b"), LAST_STEP)) FAIL("it ended with %d: %s", ended.code, ended.said.c_str());
}
