// scripts/run_*.sh and scripts/multi_node: each is dry-run. A shim in place of the program (BIN) replaces only the values of -e -b -t -d -x -i -j
// and the number of ranks, and starts the real trainer. Then shims that fail in every way; and the options of llm.c's own scripts.
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include "../trainer_runs.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/run_scripts";
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
std::string absolute(const std::string& path) {
    char real[PATH_MAX] = "";
    return realpath(path.c_str(), real) ? real : path;
}
bool has_bash() { return run_command("command -v bash").code == 0; }

void program(const std::string& path, const std::string& body) {
    const std::string at = SCRATCH + "/" + path;
    make_folders(at.substr(0, at.rfind('/')));
    write_file_atomically(at, "#!/bin/sh\n" + body + "\n");
    chmod(at.c_str(), 0755);
}
std::string contents(const std::string& path) { return access((SCRATCH + "/" + path).c_str(), R_OK) ? "" : read_file(SCRATCH + "/" + path); }
int calls() {
    const std::string text = contents("calls");
    return (int)std::count(text.begin(), text.end(), '\n');
}

const std::string REPLACE =
    "for option; do\n"
    "    shift\n"
    "    case $before in\n"
    "    -e) option=d1c16h1 ;; -b) option=2 ;; -t) option=16 ;; -d) option=64 ;; -x) option=${STEPS:-4} ;;\n"
    "    -i) option=$TINY/fineweb_train_000001.bin ;; -j) option=$TINY/fineweb_val_000000.bin ;; -pn) option=1 ;; -pr) option=0 ;;\n"
    "    esac\n"
    "    before=$option\n"
    "    set -- \"$@\" \"$option\"\n"
    "done\n";
// A project's folder with the scripts, tiny data of a tokenizer of bytes, two questions, and programs that launch one process for sixteen.
void prepare() {
    prepare_text(SCRATCH, 120);
    run_command("cp -r scripts " + SCRATCH);
    EXPECT_EQ(run_command(format("%s -i %s/text.txt -o %s/data --tokenizer bytes", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str())).code, 0);
    run_command(format("cd %s/data && for f in *.bin; do cp $f fineweb_train_000001.bin; cp $f fineweb_val_000000.bin; cp $f edu_fineweb_train_000001.bin; rm $f; done", SCRATCH.c_str()));
    make_folders(SCRATCH + "/dev/data/hellaswag");
    const std::string row = "{\"ctx\": \"Anna has\", \"label\": 0, \"endings\": [\"a box\", \"a ball\", \"a book\", \"an egg\"]}\n";
    write_file_atomically(SCRATCH + "/dev/data/hellaswag/hellaswag_val.jsonl", row + row);
    program("shim", "echo \"$*\" >> calls\n" + REPLACE + "exec " + absolute(TRAINER) + " \"$@\"");
    program("bin/mpirun", "echo \"mpirun $*\" >> launched; while [ $# -gt 0 ]; do case $1 in -np|--host) shift 2 ;; *) break ;; esac; done; exec \"$@\"");
    program("bin/srun", "echo \"srun $*\" >> launched; shift; exec \"$@\"");
    program("bin/scontrol", "echo node1; echo node2");
}
// As a user calls it, from another folder; what he may set in front.
Outcome run_script(const std::string& script, const std::string& environment = "") {
    return run_command(format("cd %s && PATH=$PWD/bin:$PATH TINY=$PWD/data BIN=./shim DATA=data OUT=out PAUSE=0 SLURM_SUBMIT_DIR=$PWD %s bash %s", SCRATCH.c_str(),
                              environment.c_str(), script.c_str()));
}
struct Script { const char *path, *environment, *launched; };
const Script SCRIPTS[] = {{"run_gpt2_124M.sh", "", ""}, {"run_gpt2_350M.sh", "", ""}, {"run_gpt2_774M.sh", "", ""}, {"run_gpt2_1558M.sh", "", ""}, {"run_gpt3_125M.sh", "", ""}, {"run_modern_124M.sh", "", ""},
                          {"multi_node/run_mpirun.sh", "HOSTS=h1:8,h2:8", "mpirun -np 16 --host h1:8,h2:8 ./shim -o out "},
                          {"multi_node/run_slurm_fs.sbatch", "SLURM_JOB_ID=7 SLURM_NTASKS=16 SLURM_NTASKS_PER_NODE=8", "srun --kill-on-bad-exit ./shim -o out "},
                          {"multi_node/run_slurm_tcp.sbatch", "SLURM_JOB_ID=7 SLURM_NTASKS=16 SLURM_NTASKS_PER_NODE=8", "srun --kill-on-bad-exit ./shim -o out "}};
}  // namespace

TEST(every_run_script_ends) {
    if (!has_bash()) SKIP("no bash");
    prepare();
    for (const Script& s : SCRIPTS) {
        remove_tree(SCRATCH + "/out"), unlink((SCRATCH + "/calls").c_str()), unlink((SCRATCH + "/launched").c_str());
        const Outcome o = run_script(std::string("scripts/") + s.path, s.environment);
        if (o.code != 0 || access((SCRATCH + "/out/DONE_00000004").c_str(), R_OK)) FAIL("%s: exit code %d: %s", s.path, o.code, o.output.c_str());
        EXPECT(has(o.output, "done: newest checkpoint 00000004"));
        EXPECT_EQ(calls(), 1);
        if (const std::string launched = contents("launched"); s.launched[0] ? !launched.starts_with(s.launched) : !launched.empty()) FAIL("%s: %s", s.path, launched.c_str());
        EXPECT(has(contents("out/main.log"), " eval:") && has(contents("calls"), " -y 1 "));
    }
    // processes by mpirun on one machine too
    EXPECT_EQ(run_script("scripts/run_gpt2_124M.sh", "RANKS=8 OUT=out2").code, 0);
    EXPECT(contents("launched").starts_with("srun") && has(contents("launched"), "\nmpirun -np 8 ./shim -o out2 "));
    // the server is the first machine of the job
    EXPECT(has(contents("launched"), " -pn 16 -pg 8 -pi tcp -ps node1 "));
    // without questions there is no HellaSwag
    remove_tree(SCRATCH + "/dev/data/hellaswag");
    Outcome o = run_script("scripts/run_gpt2_124M.sh", "OUT=out3");
    EXPECT(o.code == 0 && has(o.output, "without HellaSwag: dev/data/hellaswag.py makes it") && access((SCRATCH + "/out3/DONE_00000004").c_str(), R_OK) == 0);
}

// The figures at the head of each script are those of --plan; and GPT-2 1558M is trained as it was published.
TEST(run_scripts_say_what_is_planned) {
    if (!has_bash()) SKIP("no bash");
    for (const Script& s : SCRIPTS) {
        const std::string path = std::string("scripts/") + s.path, text = read_file(path);
        const size_t at = text.find("\n#     ") + 7;
        const std::string said = text.substr(at, text.find('\n', at) - at);
        const Outcome o = run_command(format("PLAN=H100 BIN=%s SLURM_SUBMIT_DIR= bash %s", absolute(TRAINER).c_str(), path.c_str()));
        EXPECT_EQ(o.code, 0);
        if (!has(o.output, "; " + said + "\n") || !has(said, " steps: ") || !has(said, "FLOP, ") || !has(said, " tokens, $")) FAIL("%s says '%s', --plan: %s", s.path, said.c_str(), o.output.c_str());
#ifndef __SANITIZE_ADDRESS__  // under which buffers share nothing
        if (has(o.output, "does not fit")) FAIL("%s: %s", s.path, o.output.c_str());
#endif
        EXPECT(has(o.output, s.launched[0] ? "16 x H100" : "8 x H100") && has(o.output, "ZeRO stage 1"));
    }
    const std::string modern = read_file("scripts/run_modern_124M.sh"), one = modern.substr(modern.find("\n#     3250", modern.find("\n#     3250") + 1) + 7);
    const Outcome o = run_command(format("PLAN=H100 PLAN_GPUS=1 BIN=%s bash scripts/run_modern_124M.sh", absolute(TRAINER).c_str()));
    EXPECT(o.code == 0 && has(o.output, "; " + one.substr(0, one.find('\n')) + "\n") && has(o.output, "1 x H100") && !has(o.output, "does not fit"));
    EXPECT(has(o.output, "recipe   modern: --optimizer muon"));
    const std::string xl = read_file("scripts/run_gpt2_1558M.sh");
    for (const char* part : {"train 32000 -e d48 ", " -b 16 -t 1024 -d 1048576 -z 1 ", " -l 0.0006 -u 700 -k cosine -q 0.1 -c 0.1 "}) EXPECT(has(xl, part));
}

TEST(a_run_script_restarts_stops_and_gives_up) {
    if (!has_bash()) SKIP("no bash");
    const std::string script = "scripts/run_gpt2_124M.sh", trainer = absolute(TRAINER);
    const auto fresh = [](const std::string& body) { prepare(), program("shim", "echo \"$*\" >> calls; n=$(wc -l < calls)\n" + body); };

    fresh("exit 2");  // a configuration error: one try
    Outcome o = run_script(script);
    EXPECT_EQ(o.code, 2);
    EXPECT_EQ(calls(), 1);
    EXPECT(has(o.output, "a configuration error"));

    // it crashes after two steps and their checkpoint, then at once, then no more: goes on after step 2
    fresh("[ $n = 2 ] && exit 1; [ $n = 1 ] && STEPS=2\n" + REPLACE + "[ $n = 3 ] && exec " + trainer + " \"$@\"; " + trainer + " \"$@\"; exit 1");
    o = run_script(script);
    EXPECT_EQ(o.code, 0);
    EXPECT_EQ(calls(), 3);
    EXPECT(has(o.output, "goes on after step 2") && has(o.output, "exit code 1: goes on from checkpoint 00000002 in 0 s, restart 1 of 5") && has(o.output, "restart 2 of 5"));
    EXPECT(access((SCRATCH + "/out/DONE_00000004").c_str(), R_OK) == 0);

    fresh("exit 1");  // never better: as many restarts as allowed, and no success
    o = run_script(script, "RETRIES=2");
    EXPECT_EQ(o.code, 1);
    EXPECT_EQ(calls(), 3);
    EXPECT(has(o.output, "gives up, exit code 1: 2 restarts without a new checkpoint"));

    fresh("kill -SEGV $$");  // killed by a signal that nobody sent to stop it
    EXPECT(run_script(script, "RETRIES=1").code == 1 && calls() == 2);

    // each time a new checkpoint: those restarts are not counted together
    fresh("mkdir -p out; touch out/DONE_0000000$n; [ $n = 5 ] && exit 0; exit 1");
    o = run_script(script, "RETRIES=1");
    EXPECT_EQ(o.code, 0);
    EXPECT_EQ(calls(), 5);
}

// Asked to stop, a script hands that to the trainer and starts no other.
TEST(a_run_script_is_stopped) {
    if (!has_bash()) SKIP("no bash");
    for (const int signal : {SIGTERM, SIGINT}) {
        prepare();
        program("shim", "echo call >> calls; sleep 30 & trap \"echo saved >> calls; kill $!; exit 3\" TERM; wait");
        const std::string command = format("cd %s && BIN=./shim DATA=data OUT=out PAUSE=0 exec bash scripts/run_gpt2_124M.sh > said 2>&1", SCRATCH.c_str());
        const pid_t pid = fork();
        if (pid == 0) { execl("/bin/sh", "sh", "-c", command.c_str(), (char*)nullptr); _exit(127); }
        for (int i = 0; i < 200 && calls() < 1; i++) usleep(50000);
        kill(pid, signal);
        int status = 0;
        const auto start = std::chrono::steady_clock::now();
        waitpid(pid, &status, 0);
        EXPECT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 10);
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 3);
        EXPECT_STR(contents("calls"), "call\nsaved\n");
        EXPECT(has(contents("said"), "stopped, exit code 3: run it again to go on"));
    }
}

// By mpirun it is handed on as the signal that mpirun hands on, so that there is a checkpoint. Of SIGTERM mpirun makes SIGKILL in a second.
TEST(a_run_script_by_mpirun_is_stopped) {
    if (!has_bash()) SKIP("no bash");
    if (run_command("mpirun --version").code || !has(run_command(std::string("ldd ") + TRAINER).output, "libmpi")) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    program("shim", "STEPS=1000000\n" + REPLACE + "exec " + absolute(TRAINER) + " \"$@\" -v 0 -h 0 -k constant");
    const std::string command = format("cd %s && TINY=$PWD/data BIN=./shim DATA=data OUT=out PAUSE=0 RANKS=2 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
                                       "ASAN_OPTIONS=detect_leaks=0 exec bash scripts/run_gpt2_124M.sh > said 2>&1", SCRATCH.c_str());
    const pid_t pid = fork();
    if (pid == 0) { execl("/bin/sh", "sh", "-c", command.c_str(), (char*)nullptr); _exit(127); }
    for (int i = 0; i < 600 && !has(contents("said"), " 3/1000000 "); i++) usleep(50000);
    kill(pid, SIGTERM);
    int status = 0;
    waitpid(pid, &status, 0);
    const std::string said = contents("said"), end = said.substr(said.size() - std::min<size_t>(said.size(), 1000));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !has(said, "interrupted after step ") || run_command("ls " + SCRATCH + "/out/DONE_*").code) FAIL("status %d: %s", status, end.c_str());
}

TEST(a_run_script_says_what_is_missing) {
    if (!has_bash()) SKIP("no bash");
    prepare();
    struct Wrong { const char *script, *environment, *says; };
    for (const Wrong& w : {Wrong{"run_gpt2_124M.sh", "DATA=nowhere", "no nowhere/fineweb_train_*.bin: dev/data/fineweb.py --size 10B --tokenized makes them"},
                           {"run_gpt2_1558M.sh", "DATA=nowhere", "dev/data/fineweb_edu.py --size 100B --tokenized makes them"},
                           {"run_gpt2_124M.sh", "BIN=./absent", "./absent is not there: make train_gpt2cu"},
                           {"multi_node/run_mpirun.sh", "", "HOSTS is not set"},
                           {"multi_node/run_slurm_fs.sbatch", "SLURM_JOB_ID=", "not in a job of Slurm"},
                           {"multi_node/run_slurm_tcp.sbatch", "SLURM_JOB_ID=", "not in a job of Slurm"}}) {
        const Outcome o = run_script(std::string("scripts/") + w.script, w.environment);
        if (o.code != 2 || !has(o.output, w.says)) FAIL("%s %s: exit code %d: %s", w.environment, w.script, o.code, o.output.c_str());
    }
    EXPECT_EQ(calls(), 0);
}

// The options that llm.c's own scripts give, each with the values that people have: parsed, run on one rank, ended.
TEST(scripts_of_llm_c_run_unchanged) {
    prepare();
    const std::string fineweb = "-i dev/data/fineweb10B/fineweb_train_*.bin -j dev/data/fineweb10B/fineweb_val_*.bin ",
                      nodes = fineweb + "-v 250 -s 20000 -g 144 -h 1 -b 64 -t 1024 -d 2097152 -r 0 -z 1 -c 0.1 -l 0.0006 -u 700 -e d12 ";
    const std::string lines[] = {
        fineweb + "-v 250 -s 20000 -g 144 -h 1 -b 64 -t 1024 -d 524288 -r 0 -z 1 -c 0.1 -l 0.0006 -q 0.0 -u 700 -n 5000 -y 1 -e d12",
        fineweb + "-v 250 -s 100000 -g 144 -h 1 -b 64 -t 1024 -d 524288 -r 0 -z 1 -c 0.1 -l 0.0003 -q 0.0 -u 700 -n 2000 -x 60000 -y 1 -e d24",
        fineweb + "-v 250 -s 300000 -g 144 -h 1 -b 32 -t 1024 -d 524288 -r 0 -z 1 -c 0.1 -l 0.00025 -q 0.0 -u 700 -n 4000 -x 286102 -y 1 -e d36",
        fineweb + "-v 250 -s 300000 -g 384 -h 1 -b 16 -t 1024 -d 1048576 -r 0 -z 1 -c 0.1 -k cosine -l 0.0006 -q 0.1 -u 700 -n 2000 -x 32000 -ge 1 -y 1 -e d48",
        fineweb + "-v 250 -s 20000 -g 144 -h 1 -b 32 -t 2048 -d 524288 -r 0 -z 1 -c 0.1 -l 0.0006 -q 0.1 -u 700 -n 10000 -nk 5 -nm 50000 -ge 1 -sl 7.0 -sg 7.0 -y 1 -x 572204 -e gpt3:c768",
        nodes + "-q 0.1 -n 1000 -y 0 -pi mpi",
        nodes + "-q 0.0 -n 5000 -y 1 -pn 16 -pr 3 -pg 8 -pf out -pi fs",
        nodes + "-q 0.0 -n 5000 -y 1 -pn 16 -pr 0 -pg 8 -ps 10.0.1.220 -pi tcp",
    };
    for (const std::string& line : lines) {
        remove_tree(SCRATCH + "/out");
        // without -x they train one epoch of what is tiny here
        const Outcome o = run_command(format("cd %s && set -f && TINY=$PWD/data ./shim -o out %s", SCRATCH.c_str(), line.c_str()));
        if (o.code != 0 || run_command("ls " + SCRATCH + "/out/DONE_*").code != 0) FAIL("%s: exit code %d: %s", line.c_str(), o.code, o.output.c_str());
        EXPECT(!has(line, " -x ") || access((SCRATCH + "/out/DONE_00000004").c_str(), R_OK) == 0);
    }
    // of more than one process they are not taken for one
    EXPECT_EQ(run_command(format("%s -i %s/text.txt -e d1c16h1 -pn 16 -pr 0 -pi fs -pf out", TRAINER, SCRATCH.c_str())).code, 2);
}

// The page's tables are what the script that makes them prints today.
TEST(tables_of_scaling_are_those_of_the_plan) {
    if (!has_bash()) SKIP("no bash");
#ifdef __SANITIZE_ADDRESS__
    SKIP("memory is planned without sharing under AddressSanitizer");
#endif
    const std::string page = read_file("doc/scaling.md"), begin = "<!-- tables -->\n", end = "\n<!-- end of tables -->\n";
    const size_t at = page.find(begin) + begin.size();
    const Outcome o = run_command("dev/scaling_tables.sh " TRAINER);
    EXPECT_EQ(o.code, 0);
    EXPECT(std::count(o.output.begin(), o.output.end(), '\n') > 100);
    if (page.substr(at, page.find(end) - at) != o.output) FAIL("doc/scaling.md: not what dev/scaling_tables.sh prints: dev/scaling_tables.sh --write");
}
