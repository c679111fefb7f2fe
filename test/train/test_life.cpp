// The life of a run beside others: signals, pipes that close, two runs in one folder, what resuming says, DONE files.
#include <fcntl.h>
#include <signal.h>
#include <tuple>
#include "../../llmc/data/shards.h"
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/io/state_pieces.h"
#include "../test.h"

namespace {
const std::string SCRATCH = "build/tmp/life";

void prepare() {
    remove_tree(SCRATCH);
    make_folders(SCRATCH);
    std::string text;
    for (int i = 0; i < 3000; i++) text += format("Line %d says %d.\n", i % 97, i * 7 % 13) + (i % 10 ? "" : "<|endoftext|>");
    write_file_atomically(SCRATCH + "/text.txt", text);
}
std::string absolute(const std::string& path) {
    char* real = realpath(path.c_str(), nullptr);
    std::string copy = real ? real : path;
    free(real);
    return copy;
}
std::string trainer(const std::string& rest) { return std::string(TRAINER) + " -b 2 -t 16 -v 0 -s 0 --threads 1 " + rest; }
std::string text_run(const std::string& out, const std::string& rest) {
    return trainer(format("-i %s/text.txt -o %s/%s -e d1c16h1 %s", SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str()));
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
bool exists(const std::string& path) { return access((SCRATCH + "/" + path).c_str(), F_OK) == 0; }
std::string contents(const std::string& path) {
    std::string text;
    try_read_file(SCRATCH + "/" + path, text);
    return text;
}
Outcome must(const std::string& command) {
    Outcome o = run_command(command);
    if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
    return o;
}
Outcome one_line(const std::string& command, int code, const std::string& says) {
    Outcome o = run_command("timeout -s KILL 60 " + command);
    if (o.code != code || !has(o.output, says) || o.output.find('\n') != o.output.size() - 1)
        FAIL("%s: exit code %d, said \"%s\", expected %d, one line with \"%s\"", command.c_str(), o.code, o.output.c_str(), code, says.c_str());
    return o;
}

// A command in the background, both streams to SCRATCH/said unless they go to `out_fd`. Killed at the end, by its id.
class Process {
    pid_t pid;
    int status = 0;
    bool ended = false;

  public:
    explicit Process(const std::string& command, int out_fd = -1, void (*hup)(int) = SIG_DFL) {
        fflush(nullptr);
        unlink((SCRATCH + "/said").c_str());  // an earlier process's
        pid = fork();
        if (pid) return;
        int said = out_fd >= 0 ? out_fd : open((SCRATCH + "/said").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(said, 1), dup2(said, 2);
        for (int fd = 3; fd < 64; fd++) close(fd);
        signal(SIGHUP, hup);
        execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), (char*)nullptr);
        _exit(127);
    }
    ~Process() { if (!ended) kill(pid, SIGKILL), waitpid(pid, &status, 0); }
    long id() const { return pid; }
    void send(int signal) const { kill(pid, signal); }
    bool runs() {
        if (!ended) ended = waitpid(pid, &status, WNOHANG) == pid;
        return !ended;
    }
    bool wait_for(const std::function<bool()>& condition, double seconds = 60) {
        for (int i = 0; i < (int)(seconds * 50) && runs(); i++) {
            if (condition()) return true;
            usleep(20000);
        }
        return condition();
    }
    bool says(const std::string& part) { return wait_for([&] { return has(contents("said"), part); }); }
    int code(double seconds = 30) {  // -1: it still runs
        for (int i = 0; i < (int)(seconds * 50) && runs(); i++) usleep(20000);
        if (runs()) return -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
};
// One checkpoint is there, whole and done.
void expect_saved(const std::string& out) {
    std::vector<Checkpoint> list = list_checkpoints(SCRATCH + "/" + out);
    if (list.size() != 1) return FAIL("%s: %zu checkpoints", out.c_str(), list.size());
    EXPECT_STR(verify_checkpoint(list[0].path), "");
    EXPECT(access(done_path(SCRATCH + "/" + out, list[0].step).c_str(), F_OK) == 0);
}
const std::string FOREVER = "-x 1000000 -n 1000000 ";

// A gzip that never ends: what reads a .gz through it tokenises for ever.
std::string endless_gzip() {
    make_folders(SCRATCH + "/bin");
    write_file_atomically(SCRATCH + "/bin/gzip", "#!/bin/sh\nwhile cat " + absolute(SCRATCH + "/text.txt") + "; do :; done\n");
    chmod((SCRATCH + "/bin/gzip").c_str(), 0755);
    write_file_atomically(SCRATCH + "/endless.txt.gz", "not looked at");
    return "env PATH=" + absolute(SCRATCH + "/bin") + ":$PATH ";
}
}  // namespace

// ---- signals and pipes ---------------------------------------------------------------------------------------------

TEST(signals_save_and_exit_0) {
    prepare();
    for (int signal : {SIGTERM, SIGHUP, SIGINT}) {
        Process run(text_run("a", FOREVER));
        EXPECT(run.says("step       1/"));
        run.send(signal);
        EXPECT_EQ(run.code(), 0);
        EXPECT(has(contents("said"), "interrupted after step"));
        expect_saved("a");
        remove_tree(SCRATCH + "/a");
    }
    Process run(text_run("a", FOREVER), -1, SIG_IGN);  // nohup
    EXPECT(run.says("step       1/"));
    run.send(SIGHUP);
    EXPECT_EQ(run.code(1), -1);
    run.send(SIGTERM);
    EXPECT_EQ(run.code(), 0);
}

TEST(a_closed_pipe_saves_and_exits_0) {
    prepare();
    for (bool control_c : {false, true}) {  // | head; Ctrl-C that ends `tee` too
        int fd[2];
        EXPECT(pipe2(fd, O_CLOEXEC) == 0);
        Process run(text_run("a", FOREVER), fd[1]);
        close(fd[1]);
        std::string said;
        char buffer[4096];
        while (!has(said, "step       1/")) {
            ssize_t n = read(fd[0], buffer, sizeof buffer);
            if (n <= 0) break;
            said.append(buffer, (size_t)n);
        }
        EXPECT(has(said, "step       1/"));
        close(fd[0]);
        if (control_c) run.send(SIGINT);
        EXPECT_EQ(run.code(), 0);
        expect_saved("a");
        remove_tree(SCRATCH + "/a");
    }
}

TEST(a_second_sigint_ends_at_once) {
    prepare();
    Process run(text_run("a", "-x 2 -n 2 -d 33554400"));  // a step of minutes
    EXPECT(run.wait_for([] { return exists("a/main.log"); }));
    usleep(300000);
    for (int signal : {SIGTERM, SIGTERM, SIGHUP, SIGINT}) {  // these come twice by themselves: `timeout` signals the process and its group
        run.send(signal);
        EXPECT_EQ(run.code(0.3), -1);
    }
    run.send(SIGINT);
    EXPECT_EQ(run.code(10), 130);
    EXPECT(list_checkpoints(SCRATCH + "/a").empty());
}

TEST(stops_within_validation_sampling_and_evaluation) {
    prepare();
    std::string text = contents("text.txt"), much;
    for (int i = 0; i < 200; i++) much += text;  // 12 MB: hours of it
    write_file_atomically(SCRATCH + "/much.txt", much);
    struct Case { const char *options, *begun; bool saves; };
    for (Case c : {Case{"-v 1 -m 0 -j build/tmp/life/much.txt", nullptr, false}, {"-s 1 -g 100000000 --prompt Line --temperature 0", "---\nLine", false},
                   {"-v 1 -m 1 --eval text=build/tmp/life/much.txt", "step       1/", true}}) {
        Process run(text_run("a", FOREVER + c.options));
        EXPECT(c.begun ? run.says(c.begun) : run.wait_for([] { return exists("a/main.log"); }));
        usleep(500000);
        run.send(SIGTERM);
        if (int code = run.code(20); code != 0) FAIL("%s: %d", c.options, code);
        if (!has(contents("said"), format("interrupted after step %d\n", c.saves))) FAIL("%s: %s", c.options, contents("said").c_str());
        EXPECT(!has(contents("said"), "text: "));  // half an evaluation is none
        if (c.saves) expect_saved("a");
        else EXPECT(list_checkpoints(SCRATCH + "/a").empty());
        remove_tree(SCRATCH + "/a");
    }
}

// What came between the last step and the signal is done, and logged, once: by the run that goes on.
TEST(interrupted_between_steps_and_resumed_is_the_undisturbed_run) {
    prepare();
    std::string text = contents("text.txt"), much;
    for (int i = 0; i < 200; i++) much += text;
    write_file_atomically(SCRATCH + "/much.txt", much);
    const std::string options = "-x 4 -n 4 -v 2 -m 2 ";
    {
        Process run(text_run("a", options + "--eval text=" + SCRATCH + "/much.txt"));
        EXPECT(run.wait_for([] { return has(contents("a/main.log"), "s:2 tel:"); }));  // it has validated, and evaluates now
        run.send(SIGTERM);
        EXPECT_EQ(run.code(20), 0);
        EXPECT(has(contents("said"), "interrupted after step 2\n"));
    }
    expect_saved("a");
    must(text_run("a", options + "-y 1")), must(text_run("b", options));
    EXPECT_STR(contents("a/main.log"), contents("b/main.log"));
    EXPECT(contents("a/step_00000004/model.safetensors") == contents("b/step_00000004/model.safetensors"));
}

TEST(stops_while_tokenizing) {
    prepare();
    const std::string path = endless_gzip();
    for (const char* tokenizer : {"", "--tokenizer bpe:300"}) {
        Process run(path + trainer(format("-i %s/endless.txt.gz -o %s/a -e d1c16h1 -x 1 %s", SCRATCH.c_str(), SCRATCH.c_str(), tokenizer)));
        usleep(1500000);
        run.send(SIGTERM);
        EXPECT_EQ(run.code(20), 128 + SIGTERM);
        EXPECT(has(contents("said"), "error: ") && has(contents("said"), "interrupted"));
        EXPECT(list_folder(SCRATCH + "/a/tokens").empty());
        remove_tree(SCRATCH + "/a");
    }
    {
        Process run(path + format("%s -i %s/endless.txt.gz -o %s/cut --val 1%%", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str()));  // looks for the place to cut
        usleep(1500000);
        run.send(SIGTERM);
        EXPECT_EQ(run.code(20), 128 + SIGTERM);
        EXPECT(has(contents("said"), "interrupted") && !exists("cut"));
    }
    Process run(path + format("%s -i %s/endless.txt.gz -o %s/tokens --save-every 1000000", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(run.wait_for([] { return exists("tokens/dataset.part.json"); }));
    usleep(1500000);
    run.send(SIGHUP);
    EXPECT_EQ(run.code(20), 128 + SIGHUP);
    EXPECT(has(contents("said"), "the same command goes on from there") && !has(contents("tokens/dataset.part.json"), "\"documents\":0"));
}

TEST(closed_standard_output) {
    prepare();
    must(text_run("a", "-x 3 -n 0"));
    for (const char* closed : {">&-", ">&- 2>&-", "<&- >&- 2>&-"}) {
        must(text_run("b", "-x 3 -n 0 " + std::string(closed)));
        EXPECT_STR(contents("b/main.log"), contents("a/main.log"));
        EXPECT(!has(contents("b/metrics.jsonl"), "step 1/"));
        must(format("%s -i %s/text.txt -o %s/tokens %s", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str(), closed));
        EXPECT(open_shard(SCRATCH + "/tokens/train_000000.bin").size() > 1000);
        remove_tree(SCRATCH + "/b"), remove_tree(SCRATCH + "/tokens");
    }
}

// A pipe without a writer is opened for ever, one with a writer is read once, and all of these are read twice.
TEST(pipes_and_devices_are_refused) {
    prepare();
    must(text_run("a", "-x 1 -n 1"));
    const std::string folder = SCRATCH + "/folder";
    make_folders(folder), make_folders(SCRATCH + "/vocabulary");
    for (const char* name : {"/p.txt", "/p.bin", "/p.json", "/p.jsonl", "/folder/model.safetensors", "/vocabulary/tokenizer.json"})
        EXPECT(mkfifo((SCRATCH + name).c_str(), 0666) == 0);
    write_file_atomically(folder + "/config.json", contents("a/step_00000001/config.json"));
    EXPECT(symlink("/dev/zero", (SCRATCH + "/zero.txt").c_str()) == 0 && symlink("/dev/zero", (SCRATCH + "/zero.bin").c_str()) == 0);
    auto refused = [](const std::string& options, const std::string& says) {
        one_line(trainer("-o " + SCRATCH + "/c -x 1 " + options), 1, says);
    };
    const std::string text = "-e d1c16h1 -i " + SCRATCH + "/text.txt ", s = SCRATCH;
    refused("-e d1c16h1 -i " + s + "/p.txt", "p.txt: cannot open: is a pipe, must be a file");
    refused("-e d1c16h1 --tokenizer bpe:300 -i " + s + "/p.txt", "p.txt: cannot open: is a pipe, must be a file");
    refused("-e d1c16h1 -i " + s + "/p.bin", "p.bin: cannot open: is a pipe, must be a file");
    refused("-e d1c16h1 -i " + s + "/zero.txt", "zero.txt: cannot open: is a device, must be a file");
    refused("-e d1c16h1 -i " + s + "/zero.bin", "zero.bin: cannot open: is a device, must be a file");
    refused(text + "-j " + s + "/p.txt", "p.txt: cannot open: is a pipe");
    refused(text + "-j " + s + "/p.bin", "p.bin: cannot open: is a pipe");
    refused(text + "--tokenizer " + s + "/p.json", "p.json: is a pipe");
    refused(text + "--tokenizer " + s + "/vocabulary", "tokenizer.json: is a pipe");
    refused(text + "--eval x=" + s + "/p.jsonl", "p.jsonl: is a pipe");
    refused("-i " + s + "/text.txt -e " + s + "/zero.bin", "zero.bin: cannot open: is a device");
    refused("-i " + s + "/text.txt -e " + s + "/p.bin", "p.bin: cannot open: is a pipe");
    EXPECT(!exists("c"));
    Outcome o = run_command("timeout -s KILL 60 " + trainer("-x 1 -n 0 -i " + s + "/text.txt -o " + s + "/d --tokenizer bytes -e " + folder));  // the banner comes first
    EXPECT(o.code == 1 && has(o.output, "model.safetensors: is a pipe, must be a file"));
    for (const char* name : {"/p.txt", "/zero.txt"}) {
        one_line(format("%s -i %s%s -o %s/tokens", TOKENIZE_PROGRAM, s.c_str(), name, s.c_str()), 1, "must be a file");
        one_line(format("%s -i %s%s -o %s/t.json --train 300", TOKENIZE_PROGRAM, s.c_str(), name, s.c_str()), 1, "must be a file");
    }
}

// ---- two runs ------------------------------------------------------------------------------------------------------

TEST(one_run_a_folder) {
    prepare();
    const std::string again = text_run("a", "-x 2 -n 1 ");
    {
        Process run(text_run("a", FOREVER));
        EXPECT(run.says("step       1/"));
        const std::string says = format("--out: %s/a: in use by process %ld on ", SCRATCH.c_str(), run.id());
        const std::string names = run_command("ls -A " + SCRATCH + "/a").output;
        one_line(again, 2, says), one_line(again + "-y 1", 2, says), one_line(again + "-x 0", 2, says);
        EXPECT_STR(run_command("ls -A " + SCRATCH + "/a").output, names);
        EXPECT(run.runs());
    }  // and is killed: that leaves no lock
    must(again);
    EXPECT(!exists("a/.lock"));
    one_line(again, 2, "holds checkpoints of an earlier run");
    EXPECT(!exists("a/.lock"));
    one_line(text_run("new", "-x 1 -j " + SCRATCH + "/absent.txt"), 1, "absent.txt");
    EXPECT(!exists("new"));
}

TEST(two_runs_without_a_name_have_two_folders) {
    prepare();
    const std::string run = format("(cd %s; timeout -s KILL 60 %s -i text.txt -e d1c16h1 -b 2 -t 16 -v 0 -s 0 -n 0 --threads 1 -x 20 | grep ^out)", SCRATCH.c_str(), absolute(TRAINER).c_str());
    std::string all = must(run + "& " + run + "& " + run + "& wait").output;
    for (const char* out : {"out      out\n", "out      out2\n", "out      out3\n"}) EXPECT(has(all, out));
    EXPECT(has(must(run).output, "out      out4\n"));  // in order, and never one that was used
    must("rm -r " + SCRATCH + "/out3/main.log");
    EXPECT(has(must(run).output, "out      out3\n"));
}

TEST(two_tokenizers_in_one_folder) {
    prepare();
    const std::string command = format("%s -i %s/endless.txt.gz -o %s/tokens", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str());
    Process run(endless_gzip() + command);
    EXPECT(run.wait_for([] { return exists("tokens/dataset.part.json"); }));
    one_line(command, 2, format("--out: %s/tokens: in use by process %ld on ", SCRATCH.c_str(), run.id()));
}

// One of several processes, that no communicator joins: not as many runs in one folder. With MPI built in it is asked, and knows of no other.
TEST(one_of_many_is_no_run_of_its_own) {
    prepare();
    const std::string run = text_run("a", "-x 1 -n 0");
    one_line("env OMPI_COMM_WORLD_SIZE=8 " + run, 2, "OMPI_COMM_WORLD_SIZE: 8 set, but not OMPI_COMM_WORLD_RANK: which of them is this process?");
    for (const char* set : {"OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_RANK=0", "PMI_SIZE=8 PMI_RANK=1", "SLURM_STEP_NUM_TASKS=8 SLURM_PROCID=0", "WORLD_SIZE=8 RANK=3"})
        one_line(std::string("env ASAN_OPTIONS=detect_leaks=0 ") + set + " " + run, 2, "8");
    EXPECT(!exists("a"));
    for (const char* set : {"OMPI_COMM_WORLD_SIZE=1", "PMI_SIZE=", "SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=1", "WORLD_SIZE=8", "WORLD_SIZE=1 RANK=0"})
        must(std::string("env ") + set + " " + run);
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
