// Runs of several ranks by mpirun, where it is installed: the bits of --ranks, and what a launcher adds to what can go wrong.
#include <unistd.h>
#include <chrono>
#include <filesystem>
#include <string>
#include "rank_runs_test.h"

namespace {
const std::string SCRATCH = "build/tmp/ranks_mpi";
}  // namespace

TEST(ranks_by_mpirun_make_the_same_bits) {
    if (mpirun(2).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    must(trainer("one", FOUR_STEPS));
    for (int ranks : {2, 4}) {
        must(mpirun(ranks) + trainer("many" + std::to_string(ranks), FOUR_STEPS + "-z 1"));
        same_run("one", "many" + std::to_string(ranks));
    }
}

// Two nodes of two ranks, as the launcher would say of two machines: they add in two levels, and the bits are those of one rank.
TEST(ranks_by_mpirun_of_two_nodes_make_the_same_bits) {
    if (mpirun(4).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    const struct { const char *name, *options; } kinds[] = {{"fp32", "-z 1"}, {"bf16", "--precision bf16"}, {"leaves", "-e d4c32h2 --leaves 8 -z 3"}};
    for (auto& kind : kinds) {
        const std::string out = std::string(kind.name) + ".4", one = trainer(out, FOUR_STEPS + kind.options);
        must(trainer(kind.name, FOUR_STEPS + kind.options));
        const Outcome o = must(mpirun(4) + "sh -c 'OMPI_COMM_WORLD_LOCAL_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=$((OMPI_COMM_WORLD_RANK % 2)) exec " + one + "'");
        EXPECT(has(o.output, "exchange in two levels: among the 2 ranks of a machine, then between 2 machines\n"));
        same_run(kind.name, out);
    }
}

// --reduce nccl is MPI's own sum: the losses are the tree's to its rounding; that all ranks have the same weights is looked at before a save.
TEST(ranks_by_mpirun_add_by_mpi) {
    if (mpirun(2).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    must(trainer("tree", FOUR_STEPS + "--leaves 8"));
    const std::vector<double> ours = metrics_of(SCRATCH + "/tree", "loss");
    const struct { int ranks; const char* options; } runs[] = {{4, "-z 1"}, {2, ""}, {2, "--leaves 8 -z 3"}};
    for (auto& run : runs) {
        remove_tree(SCRATCH + "/mpi");
        must(mpirun(run.ranks) + trainer("mpi", FOUR_STEPS + "--reduce nccl " + run.options));
        const std::vector<double> theirs = metrics_of(SCRATCH + "/mpi", "loss");
        EXPECT(ours.size() == 4 && theirs.size() == 4);
        for (size_t i = 0; i < theirs.size(); i++) if (!(std::fabs(ours[i] - theirs[i]) <= 1e-5 * ours[i])) FAIL("%d ranks %s: loss %zu: %.9g by the tree, %.9g by MPI", run.ranks, run.options, i, ours[i], theirs[i]);
    }
}

// A rank that stops within a sum is not named by MPI's collective, but by those that wait for it, within the deadline.
TEST(ranks_by_mpirun_do_not_wait_for_a_sum) {
    if (mpirun(1).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    std::string rank = trainer("out", "-x 100000 -v 0 -n 0 --comm-timeout 1 --reduce nccl");
    rank = rank.substr(rank.find(TRAINER));
    const std::string log = SCRATCH + "/out/metrics.jsonl";
    const std::string waits = "while [ $(grep -c '\"ms\"' " + log + " 2>/dev/null || true)0 -lt 30 ]; do kill -0 $p || exit 1; sleep 0.1; done";  // for the third step
    const Outcome o = run_command(mpirun(1) + rank + " : -np 1 sh -c '" + rank + " & p=$!; trap \"kill -KILL $p\" TERM EXIT; " + waits + "; kill -STOP $p; sleep 20'");
    if (o.code == 0 || !has(o.output, "error: rank 0: nothing has come within 1 s from rank 1 (step ")) FAIL("exit code %d, said \"%s\"", o.code, o.output.c_str());
    EXPECT(run_command("pgrep -f '[o]ut.*-x 100000 -v 0 -n 0 --comm-timeout 1 --reduce'").code != 0);  // nobody is left
}

// Who waits for whom differs, but one of them speaks, whoever is gone, and names that one alone.
TEST(ranks_by_mpirun_say_once_who_is_gone) {
    if (mpirun(1).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    std::string rank = trainer("out", "-x 100000 -v 0 -n 0 --leaves 3 -d 96 --comm-timeout 2");
    rank = rank.substr(rank.find(TRAINER));
    const std::string log = SCRATCH + "/out/metrics.jsonl";
    const std::string stopped = "sh -c '" + rank + " & p=$!; trap \"kill -KILL $p\" TERM EXIT; while [ $(grep -c '\"ms\"' " + log + " 2>/dev/null || true)0 -lt 30 ]; do kill -0 $p || exit 1; sleep 0.1; done; kill -STOP $p; sleep 20'";
    for (int gone : {0, 2}) {
        remove_tree(SCRATCH + "/out");
        const std::string others = "-np 2 " + rank;
        const Outcome o = run_command(mpirun(gone ? 2 : 1) + (gone ? rank + " : -np 1 " + stopped : stopped + " : " + others));
        size_t errors = 0;
        for (size_t at = 0; (at = o.output.find("error: ", at)) != std::string::npos; at++) errors++;
        if (o.code == 0 || errors != 1 || !has(o.output, format("error: rank %d: nothing has come within 2 s from rank %d (step ", gone ? 0 : 1, gone))) FAIL("rank %d: exit code %d, said \"%s\"", gone, o.code, o.output.c_str());
    }
    EXPECT(run_command("pgrep -f '[o]ut.*-x 100000 -v 0 -n 0 --leaves 3 -d 96 --comm-timeout 2'").code != 0);  // nobody is left
}

// Other options, or other data under the same name, on one rank: a line that says whose, before a step is made.
TEST(ranks_by_mpirun_must_agree) {
    if (mpirun(1).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    const std::string one = trainer("out", FOUR_STEPS), colon = " : -np 1 ";
    Outcome o = run_command(mpirun(1) + one + colon + trainer("out", FOUR_STEPS + "-l 2e-2"));
    EXPECT_EQ(o.code, EXIT_USAGE);
    EXPECT(has(o.output, "error: rank 1: --lr: rank 1 has '0.02', rank 0 has '0.01': they must be the same on every rank\n"));
    make_folders(SCRATCH + "/elsewhere");
    const std::string here = std::string(getenv("PWD") ? getenv("PWD") : ".");
    const auto from = [&](const std::string& folder) {
        return format("sh -c 'cd %s/%s && exec %s/%s -i text.txt -o %s/%s/data -e d1c16h1 -b 2 -t 16 --tokenizer bytes -x 1 -v 0 -s 0 -n 0'", here.c_str(), folder.c_str(), here.c_str(), TRAINER,
                      here.c_str(), SCRATCH.c_str());
    };
    std::string as_long = contents("text.txt");
    as_long[as_long.size() / 2] = '!';
    for (const std::string& text : {contents("text.txt") + "and more\n", as_long}) {
        write_file_atomically(SCRATCH + "/elsewhere/text.txt", text);
        o = run_command(mpirun(1) + from(SCRATCH) + colon + from(SCRATCH + "/elsewhere"));
        EXPECT_EQ(o.code, EXIT_USAGE);
        EXPECT(has(o.output, "error: rank 1: the data: rank 1 has "));
    }
}

// A folder of the same name that is another one for each machine is found before anything is written into either.
TEST(ranks_by_mpirun_write_to_one_folder) {
    if (mpirun(1).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    const std::string here = std::string(getenv("PWD") ? getenv("PWD") : ".");
    const auto from = [&](const std::string& folder) {
        make_folders(SCRATCH + "/" + folder);
        return format("sh -c 'cd %s/%s/%s && exec %s/%s -i %s/%s/text.txt -o out -e d1c16h1 -b 2 -t 16 --tokenizer bytes -x 1 -v 0 -s 0'", here.c_str(), SCRATCH.c_str(), folder.c_str(), here.c_str(),
                      TRAINER, here.c_str(), SCRATCH.c_str());
    };
    const Outcome o = run_command(mpirun(1) + from("a") + " : -np 1 " + from("b"));
    if (o.code != EXIT_USAGE || !has(o.output, "error: rank 1: --out: out of rank 1 is not the folder of rank 0: it must be one that all machines share\n")) FAIL("exit code %d, said \"%s\"", o.code, o.output.c_str());
    for (const char* folder : {"/a", "/b"}) EXPECT(list_folder(SCRATCH + folder).empty());
    must(mpirun(1) + from("a") + " : -np 1 " + from("a"));
}

TEST(ranks_by_mpirun_end_when_one_is_killed) {
    if (mpirun(2).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    std::string rank = trainer("out", "-x 100000 -v 0 -n 0");
    rank = rank.substr(rank.find(TRAINER));  // of timeout mpirun would not know its child
    const std::string mark = SCRATCH + "/killed";
    const Outcome o = run_command(mpirun(1) + rank + " : -np 1 sh -c '" + rank + " & p=$!; sleep 2; touch " + mark + "; kill -9 $p; wait $p'");
    const auto now = std::filesystem::file_time_type::clock::now();
    EXPECT(o.code != 0 && now - std::filesystem::last_write_time(mark) < std::chrono::seconds(30));
    EXPECT(run_command("pgrep -f '[o]ut.*-x 100000 -v 0 -n 0'").code != 0);  // nobody is left
}

// One rank's disk is full: its line is the one that counts, and what the others write is not taken away under them.
TEST(ranks_by_mpirun_say_whose_disk_is_full) {
    if (mpirun(1).empty()) SKIP("no mpirun, or the trainer was built without MPI");
    prepare();
    const std::string run = trainer("out", "-x 2 -v 0 -n 2"), plain = run.substr(run.find(TRAINER));
    const Outcome o = run_command(mpirun(1) + plain + " : -np 1 sh -c 'trap \"\" XFSZ; ulimit -f 0; exec " + plain + "'");
    EXPECT(o.code != 0 && has(o.output, "error: rank 1: ") && has(o.output, "File too large") && !has(o.output, "error: rank 0: "));
    EXPECT(list_checkpoints(SCRATCH + "/out").empty());
}
