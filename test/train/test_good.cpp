// Nothing lost, nothing let in: what is loaded is verified, what is ruined is not saved, what is good stays, and a run goes back behind a spike.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <functional>
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/io/json.h"
#include "../../llmc/io/safetensors.h"
#include "life_test.h"

namespace {
const std::string SCRATCH = "build/tmp/good";

void put(const std::string& path, const std::string& text) { write_file_atomically(SCRATCH + "/" + path, text); }
// Ends with this exit code, and the last line says so.
std::string fails(const std::string& command, int code, const std::string& says) {
    Outcome o = run_command(command);
    const size_t end = o.output.rfind("error: ");
    if (o.code != code || end == o.output.npos || !has(o.output.substr(end), says)) FAIL("%s: exit code %d, said \"%s\", expected %d and \"%s\"", command.c_str(), o.code, o.output.c_str(), code, says.c_str());
    return o.output;
}
std::string listed(const std::string& out, const char* what) { return run_command(format("cd %s/%s; ls | grep %s | tr '\\n' ' '", SCRATCH.c_str(), out.c_str(), what)).output; }
std::string weights(const std::string& out, int step) { return contents(out + format("/step_%08d/model.safetensors", step)); }
// Runs the command, both streams to SCRATCH/said, and sends it the signal once `is_time`; a signal that comes too late is none.
void signalled(const std::string& command, int signal, const std::function<bool()>& is_time) {
    fflush(nullptr);
    const std::string said = SCRATCH + "/said", line = "exec " + command + " > " + said + " 2>&1";
    unlink(said.c_str());
    const pid_t pid = fork();
    if (pid == 0) execl("/bin/sh", "sh", "-c", line.c_str(), (char*)nullptr), _exit(127);
    int status = 0;
    bool sent = false;
    for (int i = 0; i < 60000 && waitpid(pid, &status, WNOHANG) == 0; i++, usleep(1000))
        if (!sent && is_time()) sent = kill(pid, signal) == 0;
    if (kill(pid, 0) == 0) kill(pid, SIGKILL), waitpid(pid, &status, 0);
}
int rollbacks(const std::string& output) {
    int n = 0;
    for (size_t at = 0; (at = output.find("\nrollback ", at)) != output.npos; at++) n++;
    return n;
}
}  // namespace

// ---- what is loaded is verified ----------------------------------------------------------------------------------------

TEST(damaged_folders_are_loaded_by_nobody) {
    prepare();
    must(text_run("a", "-x 2 -n 2"));
    const std::string folder = SCRATCH + "/a/step_00000002", f = "a/step_00000002/";
    const std::string loads[] = {trainer("-x 0 -n 0 -i " + SCRATCH + "/text.txt -o " + SCRATCH + "/b -e " + folder), trainer("-x 0 -n 0 -e " + folder + " --export-bin " + SCRATCH + "/b.bin"),
                                 "echo Line | " + std::string(TRAINER) + " --threads 1 -g 4 --chat " + folder, text_run("a", "-x 3 -y 1")};
    for (const std::string& load : {loads[0], loads[1], loads[2]}) must(load);
    struct Damage { std::string name, bytes, says; };
    std::string model = contents(f + "model.safetensors"), tokenizer = contents(f + "tokenizer.json"), config = contents(f + "config.json"), manifest = contents(f + "MANIFEST"), state = contents(f + "state-00000.safetensors");
    const auto flipped = [](std::string text, size_t at) { return text[at] = (char)(text[at] ^ 1), text; };
    for (const Damage& d : {Damage{"model.safetensors", flipped(model, model.size() - 5), "model.safetensors: has the checksum"}, {"tokenizer.json", tokenizer + " ", "tokenizer.json: holds"},
                            {"config.json", config + "\n", "config.json: holds"}, {"MANIFEST", manifest.substr(1), "MANIFEST: the lines do not have the checksum in the last one"}, {"state-00000.safetensors", flipped(state, state.size() - 1), "state-00000.safetensors: has the checksum"}}) {
        const std::string before = contents(f + d.name);
        put(f + d.name, d.bytes);
        for (int i = 0; i < 3; i++) fails(loads[i], 1, folder + "/" + d.says);
        EXPECT(has(fails(loads[3], 1, "none of its checkpoints can be resumed"), d.says));
        put(f + d.name, before);
    }
    // what the MANIFEST does not list is no part of it
    using namespace checkpoint_detail;
    std::vector<ManifestLine> lines, fewer;
    EXPECT_STR(parse_manifest(manifest, lines), "");
    for (const ManifestLine& line : lines) if (line.name != "model.safetensors") fewer.push_back(line);
    put(f + "MANIFEST", manifest_text(fewer));
    fails(loads[0], 1, folder + "/MANIFEST: does not list model.safetensors");
    put(f + "MANIFEST", manifest);
    put(f + "state-00007.safetensors", "of another run");
    must(loads[0]), must(loads[3]);
}

TEST(weights_that_are_not_finite_are_named) {
    prepare();
    must(text_run("a", "-x 2 -n 2 --export-bin " + SCRATCH + "/a.bin"));
    const std::string f = "a/step_00000002/", file = contents(f + "model.safetensors"), bin = contents("a.bin");
    unlink((SCRATCH + "/" + f + "MANIFEST").c_str());  // a folder of another program
    SafetensorsFile opened(SCRATCH + "/" + f + "model.safetensors");
    const size_t header = 8 + *(const uint64_t*)file.data();
    const std::string folder = SCRATCH + "/a/step_00000002";
    for (const TensorInfo& t : opened.tensors()) {
        std::string bad = file;
        const float value = t.begin % 8 ? NAN : -INFINITY;
        memcpy(&bad[header + t.end - 4], &value, 4);
        put(f + "model.safetensors", bad);
        fails(trainer("-x 0 -n 0 -i " + SCRATCH + "/text.txt -o " + SCRATCH + "/b -e " + folder), 1, format("model.safetensors: \"%s\" is %g at element %zu: weights must be finite", t.name.c_str(), value, t.count() - 1));
    }
    put(f + "model.safetensors", file);
    const float nan = NAN;
    for (auto [at, says] : {std::pair{(size_t)1024 + 4 * 5, "a.bin: wte.weight is nan at element 5: "}, {bin.size() - 4, "a.bin: ln_f.bias is nan at element 15: "}}) {
        std::string bad = bin;
        memcpy(&bad[at], &nan, 4);
        put("a.bin", bad);
        fails(trainer("-x 0 -n 0 --tokenizer bytes -i " + SCRATCH + "/text.txt -o " + SCRATCH + "/b -e " + SCRATCH + "/a.bin"), 1, says);
    }
}

// ---- what is good stays ------------------------------------------------------------------------------------------------

// lr 1e35 makes NaN of the weights in one step, 1e4 finite ones whose loss is a billion.
TEST(ruined_weights_push_out_no_good_ones) {
    prepare();
    for (const char* lr : {"1e35", "1e4"}) {
        remove_tree(SCRATCH + "/a");
        must(text_run("a", "-x 20 -n 10 -nk 1"));
        EXPECT_STR(listed("a", "step"), "step_00000020 ");
        const std::string good = weights("a", 20), says = fails(text_run("a", format("-x 60 -n 1 -nk 1 -y 1 -l %s", lr)), 1, "10 updates in a row were skipped");
        EXPECT(has(says, "no checkpoint: of a batch: loss ") && has(says, "its weights are ruined"));
        EXPECT_STR(listed("a", "step"), "step_00000020 ");
        EXPECT(weights("a", 20) == good);
        EXPECT(has(must(text_run("a", "-x 30 -n 10 -nk 1 -y 1")).output, "step_00000020: goes on after step 20\n"));
        EXPECT_STR(listed("a", "step"), "step_00000030 ");
    }
    // at the end of a run too
    fails(text_run("b", "-x 1 -n 1 -l 1e35"), 1, "step 1: ends without a checkpoint: of a batch: loss inf");
    EXPECT(list_checkpoints(SCRATCH + "/b").empty());
    // finite, but ruined: saved, as it is the last one, and not good
    must(text_run("c", "-x 20 -n 10 -nk 1")), must(text_run("c", "-x 21 -n 1 -nk 1 -y 1 -l 1e4"));
    EXPECT(is_good(SCRATCH + "/c", 20) && has_checkpoint(SCRATCH + "/c", 20) && has(why_bad(SCRATCH + "/c", 21), "of a batch: loss "));
    EXPECT(has(must(text_run("c", "-x 30 -n 10 -nk 1 -y 1")).output, "step_00000020: goes on after step 20\n"));
    fails(text_run("b", "-x 1 -l 1e39"), 2, "-l: '1e39' given, must be a number in 0..3.4e38");
    fails(text_run("b", "-x 1 --eps 1e-50"), 2, "--eps: '1e-50' given, must be a number in 1.2e-38..3.4e38");
    fails(text_run("b", "-x 1 --beta2 0.99999999999"), 2, "must be a number in 0..0.9999999");
}

// -x 40 -n 4, K = 10: 4 is good after step 14, and the last one at once.
TEST(a_checkpoint_is_good_when_later_steps_have_passed) {
    prepare();
    must(text_run("a", "-x 40 -n 4"));
    EXPECT_STR(listed("a", "GOOD"), "GOOD_00000004 GOOD_00000008 GOOD_00000012 GOOD_00000016 GOOD_00000020 GOOD_00000024 GOOD_00000028 GOOD_00000040 ");
    EXPECT_STR(contents("a/GOOD_00000028"), "");
    EXPECT_STR(contents("a/GOOD_00000040"), "the last one of a run\n");
    must(text_run("b", "-x 8 -n 4 --confirm 0"));
    EXPECT_STR(listed("b", "GOOD"), "GOOD_00000004 GOOD_00000008 ");
    // killed before anything was known of 32 and 36: the newest good one is older
    const std::string out = SCRATCH + "/a";
    remove_tree(out + "/step_00000040");
    Outcome o = must(text_run("a", "-x 41 -n 0 -y 1"));
    EXPECT(has(o.output, "skipped " + out + "/step_00000036: not known to be good") && has(o.output, "skipped " + out + "/step_00000032: ") && has(o.output, "step_00000028: goes on after"));
    EXPECT_STR(listed("a", "'GOOD_.*4[0-9]'"), "");  // what is said of a checkpoint goes with it
    // none is good yet: the newest of which nothing is known
    for (const char* name : {"04", "08", "12", "16", "20", "24", "28"}) unlink((out + "/GOOD_000000" + name).c_str());
    mark_bad(out, 36, "step 37 after it: loss or norm is not finite");
    o = must(text_run("a", "-x 44 -n 0 -y 1"));
    EXPECT(has(o.output, "skipped " + out + "/step_00000036: step 37 after it: loss or norm is not finite\n") && has(o.output, "step_00000032: goes on after"));
    // and none at all that is not bad: each is said, nothing is written
    for (const Checkpoint& c : list_checkpoints(out)) mark_bad(out, c.step, format("reason %d", c.step));
    const std::string log = contents("a/main.log"), says = fails(text_run("a", "-x 44 -n 1 -y 1"), 1, "none of its checkpoints can be resumed");
    for (int step : {4, 8, 12, 16, 20, 24, 28, 32, 36}) EXPECT(has(says, format("step_%08d: reason %d\n", step, step)));
    EXPECT_STR(contents("a/main.log"), log);
}

// Pruned is for a checkpoint that is good, not for one that is new: with -nk 1 the good one stays beside those that are not known yet.
TEST(pruning_waits_until_a_checkpoint_is_good) {
    prepare();
    must(text_run("a", "-x 40 -n 10 -nk 1"));
    EXPECT_STR(listed("a", "step"), "step_00000040 ");
    remove_tree(SCRATCH + "/a");
    // Killed with 40 there. A checkpoint is good 25 steps after its own, and written within 10: whenever the kill comes, one to three newer ones are there.
    signalled(text_run("a", "-x 1000000 -n 10 -nk 1 --confirm 25"), SIGKILL, [] { return has_checkpoint(SCRATCH + "/a", 40); });
    const Checkpoint good = find_newest_checkpoint(SCRATCH + "/a", [](const std::string&) {});
    EXPECT(good.step >= 10 && is_good(SCRATCH + "/a", good.step));
    const std::vector<Checkpoint> list = list_checkpoints(SCRATCH + "/a");
    for (const Checkpoint& c : list) if (c.step > good.step) EXPECT(!is_good(SCRATCH + "/a", c.step));
    EXPECT(list.size() <= 4 && list.back().step > good.step);
}

// The guard's thresholds skip now and then: a checkpoint that such a step follows is not good, one due in it is made after it.
TEST(no_checkpoint_in_a_streak) {
    prepare();
    must(text_run("a", "-x 135 -n 135 -sg 1.6 -l 1e-5"));  // a spike is one beside 128 steps
    Outcome o = must(text_run("a", "-x 170 -n 1 -sg 1.6 -l 1e-5 --confirm 3 -y 1"));
    std::vector<int> skipped;
    for (size_t at = 0; (at = o.output.find(": update skipped", at)) != o.output.npos; at++) skipped.push_back(atoi(o.output.c_str() + o.output.rfind("step ", at) + 5));
    EXPECT(skipped.size() > 2);
    for (int s : skipped) {
        if (s < 170) EXPECT(!has_checkpoint(SCRATCH + "/a", s) && has(o.output, format("step %d: no checkpoint: norm is ", s)) );
        for (int c = s - 3; c < s; c++) if (has_checkpoint(SCRATCH + "/a", c) && is_good(SCRATCH + "/a", c)) FAIL("%d is good, but step %d was skipped", c, s);
    }
    EXPECT(why_bad(SCRATCH + "/a", skipped[0] - 1) == format("step %d after it: ", skipped[0]) + o.output.substr(o.output.find("norm is "), o.output.find("128", o.output.find("norm is ")) + 3 - o.output.find("norm is ")));
}

// ---- a run goes back behind a spike ------------------------------------------------------------------------------------

TEST(rollbacks_are_repeated_by_resuming_and_replaying) {
    prepare();
    const std::string run = "-x 180 -n 20 -nk 1 -sg 2.2 -l 1e-5 --on-spike rollback --rollbacks 2 ";
    const std::string said = must(text_run("a", run)).output;
    EXPECT_EQ(rollbacks(said), 2);
    EXPECT(has(said, "no rollback: 2 were made, --rollbacks allows no more"));
    const std::string log = contents("a/main.log"), model = weights("a", 180);
    EXPECT(has(contents("a/metrics.jsonl"), "\"rollback\":{\"position\":"));
    EXPECT(weights("a", 180) != (must(text_run("s", "-x 180 -n 180 -sg 2.2 -l 1e-5")), weights("s", 180)));
    // killed and interrupted behind the first rollback and behind the second, and again at once
    for (int signal : {SIGKILL, SIGTERM}) {
        remove_tree(SCRATCH + "/b");
        for (int nth : {1, 2}) signalled(text_run("b", run + "-y 1"), signal, [&] { return rollbacks(contents("said")) >= nth; });
        must(text_run("b", run + "-y 1"));
        EXPECT(weights("b", 180) == model);
        EXPECT_STR(contents("b/main.log"), log);
    }
    must(format("%s --replay %s/a -o %s/c --threads 1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(weights("c", 180) == model);
    EXPECT_STR(contents("c/main.log"), log);
    fails(text_run("d", "-x 1 --rollbacks 2"), 2, "--rollbacks: 2 given, but --on-spike skip makes none");
    fails(text_run("d", "-x 1 -n 0 --on-spike rollback"), 2, "--on-spike: 'rollback' given, but --checkpoint-every 0 makes no checkpoint to go back to");
}

TEST(ranks_roll_back_together) {
    prepare();
    const std::string run = "-d 64 -x 170 -n 20 -sg 2.2 -l 1e-5 --leaves 2 --on-spike rollback --rollbacks 2 ";
    const std::string said = must(text_run("a", run)).output;
    EXPECT(rollbacks(said) >= 1);
    for (int zero : {0, 1, 3}) {
        remove_tree(SCRATCH + "/b");
        EXPECT_EQ(rollbacks(must(text_run("b", run + format("--ranks 2 -z %d", zero))).output), rollbacks(said));
        EXPECT(weights("b", 170) == weights("a", 170));
        EXPECT_STR(contents("b/main.log"), contents("a/main.log"));
    }
}

// ---- power loss, leftovers, names --------------------------------------------------------------------------------------

TEST(a_shorter_log_is_taken_as_far_as_it_goes) {
    prepare();
    must(text_run("a", "-x 6 -n 3"));
    must("cp -r " + SCRATCH + "/a " + SCRATCH + "/b");
    const std::string log = contents("a/main.log"), metrics = contents("a/metrics.jsonl");
    const size_t third = log.find("s:4 ");
    put("b/main.log", log.substr(0, third - 3));  // in the middle of the line of step 3
    unlink((SCRATCH + "/b/metrics.jsonl").c_str());
    Outcome o = must(text_run("b", "-x 8 -n 3 -y 1"));
    EXPECT(has(o.output, format("b/main.log: holds whole lines up to byte %zu, must hold them up to %zu: goes on from there, what is missing is lost\n", log.rfind('\n', third - 3) + 1, log.size())));
    EXPECT(has(o.output, "b/metrics.jsonl: holds whole lines up to byte 0, must hold them up to "));
    must(text_run("a", "-x 8 -n 3 -y 1"));
    EXPECT_STR(contents("b/main.log"), log.substr(0, log.rfind('\n', third - 3) + 1) + contents("a/main.log").substr(log.size()));
    EXPECT(weights("b", 8) == weights("a", 8));
    // a replay counts on whole lines too
    put("a/metrics.jsonl", contents("a/metrics.jsonl") + "{\"step\": 9, \"lo");
    o = must(format("%s --replay %s/a -o %s/c --threads 1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(has(o.output, "a/metrics.jsonl: its last line is not whole, and not used\n") && weights("c", 8) == weights("a", 8));
}

TEST(what_killed_processes_left_is_removed) {
    prepare();
    must(text_run("a", "-x 2 -n 2"));
    const std::string stays[] = {"a/.ranks.tmp", "a/x.tmp-", "a/x.tmp-12a", "a/.tmp-77", "a/tmp-77.txt"}, goes[] = {"a/.ranks.tmp-4194399", "a/tokens/x.bin.4194399.tmp", "a/x.tmp-1"};
    for (const std::string& name : stays) put(name, "");
    for (const std::string& name : goes) put(name, "");
    must(text_run("a", "-x 3 -n 2 -y 1"));
    for (const std::string& name : stays) if (access((SCRATCH + "/" + name).c_str(), F_OK)) FAIL("%s is gone", name.c_str());
    for (const std::string& name : goes) if (!access((SCRATCH + "/" + name).c_str(), F_OK)) FAIL("%s is there", name.c_str());
    // elsewhere, of the same file alone, of a process that is gone, and old
    const std::string old = SCRATCH + "/a.bin.tmp-4194399", young = SCRATCH + "/a.bin.tmp-4194398", other = SCRATCH + "/b.bin.tmp-4194399", ours = SCRATCH + format("/a.bin.tmp-%d", (int)getpid());
    for (const std::string& name : {old, young, other, ours}) {
        write_file_atomically(name, "");
        const timespec times[] = {{1000000000, 0}, {1000000000, 0}};
        if (name != young) EXPECT(utimensat(AT_FDCWD, name.c_str(), times, 0) == 0);
    }
    must(trainer("-x 0 -n 0 -e " + SCRATCH + "/a/step_00000003 --export-bin " + SCRATCH + "/a.bin"));
    EXPECT(access(old.c_str(), F_OK) != 0 && access(young.c_str(), F_OK) == 0 && access(other.c_str(), F_OK) == 0 && access(ours.c_str(), F_OK) == 0);
}

TEST(export_bin_replaces_files_alone) {
    prepare();
    EXPECT(symlink("/dev/null", (SCRATCH + "/null").c_str()) == 0 && mkfifo((SCRATCH + "/pipe").c_str(), 0666) == 0);
    make_folders(SCRATCH + "/folder");
    for (auto [name, is] : {std::pair{"/dev/null", "device"}, {"build/tmp/good/null", "device"}, {"build/tmp/good/pipe", "pipe"}, {"build/tmp/good/folder", "folder"}, {"build/tmp/good/new/", "folder"}}) {
        if (std::string(name) == "build/tmp/good/new/") make_folders(SCRATCH + "/new");
        const std::string says = fails(text_run("a", std::string("-x 1 -n 0 --export-bin ") + name), 2, format("--export-bin: %s is a %s, must be a file", name, is));
        EXPECT(!has(says, "step "));
    }
    struct stat s;
    EXPECT(lstat("/dev/null", &s) == 0 && S_ISCHR(s.st_mode));
}

TEST(control_bytes_in_names_are_shown) {
    prepare();
    const std::string out = SCRATCH + "/o\nu\x1b[2Jt\xc2\x9b", shown = SCRATCH + "/o\\nu\\x1b[2Jt\\xc2\\x9b";
    const auto run = [&](const std::string& rest) { return trainer("-e d1c16h1 -o '" + out + "' " + rest); };
    std::string said = must(run("-x 2 -n 2 -i " + SCRATCH + "/text.txt")).output;
    said += must(run("-x 3 -n 2 -y 1 -i " + SCRATCH + "/text.txt")).output;
    EXPECT(has(said, "out      " + shown + "\n") && has(said, "resume   " + shown + "/step_00000002: goes on") && !has(said, "\x1b") && !has(said, "\xc2\x9b"));
    Outcome o = run_command(run("-x 1 -y 1 -i '" + SCRATCH + "/no\nne.txt'"));
    EXPECT(o.code == 1 && has(o.output, "no\\nne.txt") && has(o.output, "error: "));
    char line[8];
    show_on_one_line(line, sizeof line, "ab\ncdefgh");
    EXPECT_STR(line, "ab\\ncde");
    show_on_one_line(line, sizeof line, "\xc2");
    EXPECT_STR(line, "\xc2");
}
