// The life of a run beside others: signals, pipes that close, two runs in one folder.
#include "../../llmc/data/shards.h"
#include "../../llmc/io/checkpoint.h"
#include "life_test.h"

namespace {
const std::string SCRATCH = "build/tmp/life";

std::string absolute(const std::string& path) {
    char* real = realpath(path.c_str(), nullptr);
    std::string copy = real ? real : path;
    free(real);
    return copy;
}
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
    write_file_atomically(SCRATCH + "/endless.txt.gz", "\x1F\x8B, and no more of it is looked at");
    return "env PATH=" + absolute(SCRATCH + "/bin") + ":$PATH ";
}
}  // namespace

// ---- signals and pipes ---------------------------------------------------------------------------------------------

TEST(signals_save_and_exit_0) {
    prepare();
    for (int signal : {SIGTERM, SIGHUP, SIGINT, SIGXCPU, SIGUSR2}) {
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
    refused(text + "--eval x=" + s + "/p.jsonl", "p.jsonl: cannot open: is a pipe, must be a file");
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
