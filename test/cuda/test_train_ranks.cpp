// The CUDA trainer on several GPUs by NCCL: emulated ones, or those that are here.
#include <unistd.h>
#include "../../llmc/comm/visible_gpus.h"
#include "../free_port.h"
#include "train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train_ranks";
#if __has_include(<cuda_on_cpu.h>)
constexpr bool ON_EMULATOR = true;
const int GPUS = 4;
#else
constexpr bool ON_EMULATOR = false;
const int GPUS = visible_gpus();
#endif
// 4 micro-batches a step, in 4 leaves; four layers, of which two are in memory at a time where they are sharded
std::string on_gpus(const std::string& rest) { return "-e d4c16h2 -b 1 -t 16 -d 64 -x 2 -v 2 -m 2 -n 2 --leaves 4 " + rest; }
}  // namespace

// Equal leaves: equal bits, whatever the number of GPUs, the stage, and whoever loads the checkpoint.
TEST(gpus_make_the_same_bits) {
    if (GPUS < 2) SKIP("%d GPU here", GPUS);
    prepare();
    setenv("EMU_GPUS", "4", 1);
    // pairwise: each world with each stage, each recompute level and precision with some of them
    const struct { const char *name, *options; std::vector<const char*> gpus; } kinds[] = {
        {"bf16", "--precision bf16 --attention ours", {"--gpus 2 -z 1", "--gpus 2 -z 3 --verify-steps 2", "--gpus 4", "--gpus 4 -z 2"}},
        {"fp32", "-r 3 -f 0", {"--gpus 4 -z 1", "--gpus 2 -z 2", "--gpus 4 -z 3"}},
        {"accumulated", "-r 2 -f 0 -d 128", {"--gpus 2", "--gpus 2 -z 1"}},  // two micro-batches a leaf, two leaves a rank
        {"three", "-r 1 -d 48 --leaves 3 --precision bf16 --attention ours", {"--gpus 3", "--gpus 3 -z 3"}},
        {"turns", "-d 96 --leaves 6 -f 0", {"--gpus 3 -z 3"}}};  // two micro-batches each, of which a round is two nodes of the tree
    for (auto& kind : kinds) {
        if (SLOW && strcmp(kind.name, "bf16")) continue;
        const std::string alone = std::string(kind.name) + "1";
        train(CUDA_TRAINER, alone, on_gpus(kind.options) + " --gpus 1");
        for (size_t i = 0; i < kind.gpus.size(); i++) {
            const char* gpus = kind.gpus[i];
            if (atoi(gpus + 7) > (SLOW ? 2 : GPUS)) continue;
            const std::string out = std::string(kind.name) + "." + std::to_string(i);
            train(CUDA_TRAINER, out, on_gpus(kind.options) + " " + gpus);
            for (const char* file : {"/step_00000002/model.safetensors", "/step_00000002/state-00000.safetensors", "/main.log"})
                if (!same_file(alone + file, out + file)) FAIL("%s of %s and of %s differ", file, alone.c_str(), out.c_str());
        }
    }
    unsetenv("EMU_GPUS");
}

// Every world, stage, recompute level, precision and length of a leaf with every other: WORLDS=all, as it takes half an hour of two cores. Equal leaves have the
// bits of one GPU, three leaves on three GPUs too.
TEST(gpus_of_every_world_and_stage) {
    if (!getenv("WORLDS")) SKIP("it takes half an hour of two cores: make test-worlds");
    if (!ON_EMULATOR) SKIP("a machine of 8 GPUs and one of 3 are there in the emulator only");
    prepare();
    setenv("EMU_GPUS", "8", 1);
    int same = 0, refused = 0;
    for (const char* precision : {"--precision fp32 -f 0", "--precision bf16 --attention ours"})
        for (int recompute = 0; recompute < 4; recompute++)
            for (int in_leaf : {1, 2})  // micro-batches
                for (int leaves : {8, 3, 6}) {
                    const std::string options = format("-e d4c16h2 -b 1 -t 16 -d %d -x 2 -v 2 -m 2 -n 2 --comm-timeout 120 --leaves %d -r %d %s", 16 * leaves * in_leaf, leaves, recompute, precision);
                    train(CUDA_TRAINER, "alone", options + " --gpus 1");
                    for (int gpus : {2, 4, 8, 3})
                        for (int stage = 0; stage < 4 && leaves % gpus == 0 && (leaves != 6 || gpus == 3); stage++) {  // six: two of each of three
                            const std::string more = format(" --gpus %d -z %d", gpus, stage);
                            const Outcome o = run_command(train_command(CUDA_TRAINER, "ranks", options + more));
                            if (stage >= 2 && in_leaf == 2) {  // no rank keeps whole gradients there, in which a leaf of two micro-batches could be added up
                                refused++;
                                if (o.code != EXIT_USAGE) FAIL("%s%s: exit code %d: %s", options.c_str(), more.c_str(), o.code, o.output.c_str());
                                continue;
                            }
                            same++;
                            if (o.code) FAIL("%s%s: exit code %d: %s", options.c_str(), more.c_str(), o.code, o.output.c_str());
                            for (const char* file : {"/step_00000002/model.safetensors", "/step_00000002/state-00000.safetensors", "/main.log"})
                                if (!same_file(std::string("alone") + file, std::string("ranks") + file)) FAIL("%s%s: %s differs", options.c_str(), more.c_str(), file);
                            remove_tree(SCRATCH + "/ranks");
                        }
                    remove_tree(SCRATCH + "/alone");
                }
    unsetenv("EMU_GPUS");
    printf("  %d runs with the bits of one GPU, %d refused\n", same, refused);
}

// Two nodes of two GPUs, each process started as by hand, or as by torchrun: they add in two levels, and the bits are those of one GPU.
TEST(gpus_of_two_nodes_make_the_same_bits) {
    if (!ON_EMULATOR) SKIP("two nodes are two machines");
    prepare();
    setenv("EMU_GPUS", "2", 1);
    train(CUDA_TRAINER, "one", on_gpus("-f 0 --gpus 1"));
    const int port = free_port();
    for (const char* stage : {"-z 1", "-z 3"}) {
        if (SLOW && strcmp(stage, "-z 1")) continue;
        std::string all;
        remove_tree(SCRATCH + "/nodes");
        for (int rank = 3; rank >= 0; rank--) {
            std::string options = format("-pn 4 -pr %d -pg 2 --init fs -pf %s/meeting", rank, SCRATCH.c_str());
            if (!strcmp(stage, "-z 3")) {
                all += format("RANK=%d WORLD_SIZE=4 LOCAL_RANK=%d LOCAL_WORLD_SIZE=2 TORCHELASTIC_RUN_ID=x MASTER_ADDR=127.0.0.1 MASTER_PORT=%d ", rank, rank % 2, port);
                options = "--secret-file " + SCRATCH + "/secret";  // others may not read it
            }
            all += train_command(CUDA_TRAINER, "nodes", on_gpus(format("-f 0 %s %s", options.c_str(), stage))) + (rank ? " & " : "; code=$?; wait; exit $code");
        }
        const Outcome o = run_command("export LLMC_RUN_ID=nodes" + std::string(stage + 3) + "; mkdir -p " + SCRATCH + "/meeting; umask 077; echo sesame > " + SCRATCH + "/secret; " + all);
        if (o.code || o.output.find("exchange in two levels: among the 2 ranks of a machine, then between 2 machines") == std::string::npos) FAIL("%s: exit code %d: %s", stage, o.code, o.output.c_str());
        for (const char* file : {"/step_00000002/model.safetensors", "/step_00000002/state-00000.safetensors", "/main.log"})
            if (!same_file(std::string("one") + file, std::string("nodes") + file)) FAIL("%s: %s differs", stage, file);
    }
    unsetenv("EMU_GPUS");
}

// --reduce nccl: the losses are the tree's, to the rounding of sums in another order; that all ranks have the same weights is looked at before each save.
// The stand-in's order is another with another seed, and so are the bits.
TEST(gpus_add_as_the_library_likes) {
    if (GPUS < 3) SKIP("%d GPUs here", GPUS);
    prepare();
    setenv("EMU_GPUS", "4", 1);
    const std::string options = on_gpus("-f 0 -d 48 --leaves 3 --comm-timeout 60 ");  // three ranks: pieces of many sizes
    train(CUDA_TRAINER, "tree", options + "--gpus 1");
    for (const char* gpus : {"--gpus 3", "--gpus 3 -z 1", "--gpus 3 -z 3"}) {
        if (SLOW && strcmp(gpus, "--gpus 3 -z 1")) continue;
        std::string bits[3];
        for (int seed = 1; seed <= (strcmp(gpus, "--gpus 3") ? 1 : 2); seed++) {
            remove_tree(SCRATCH + "/library");
            setenv("EMU_SEED", std::to_string(seed).c_str(), 1);
            train(CUDA_TRAINER, "library", options + gpus + " --reduce nccl");
            bits[seed] = contents("library/step_00000002/model.safetensors");
            if (seed == 1) {  // with windows and without: the stand-in adds in the same order; by the tree there are none
                const auto says = [&](const std::string& more, const char* text) {
                    const Outcome o = run_command(train_command(CUDA_TRAINER, "again", options + gpus + more));
                    if (o.code || o.output.find(text) == std::string::npos) FAIL("%s%s: code %d, expected '%s': %s", gpus, more.c_str(), o.code, text, o.output.c_str());
                    EXPECT(!ON_EMULATOR || more.empty() || contents("again/step_00000002/model.safetensors") == bits[1]);
                    remove_tree(SCRATCH + "/again");
                };
                if (ON_EMULATOR) says(" --reduce nccl", "windows  0.1 MiB of gradients and sums, registered by all ranks (NCCL 2.28.9)");
                setenv("EMU_NCCL_WINDOWS", "0", 1);
                if (ON_EMULATOR) says(" --reduce nccl", "windows  none: NCCL 2.28.9 gives none here");
                unsetenv("EMU_NCCL_WINDOWS");
                says("", "windows  none: they serve the library's own sums (--reduce nccl)");
            }
            for (const char* field : {"loss", "val_loss", "grad_norm"}) {
                const std::vector<double> ours = series("tree", field), theirs = series("library", field);
                EXPECT(ours.size() == theirs.size() && !ours.empty());
                for (size_t i = 0; i < ours.size(); i++) if (!(std::fabs(ours[i] - theirs[i]) <= 1e-5 * ours[i])) FAIL("%s: %s %zu: %.9g by the tree, %.9g by the library", gpus, field, i, ours[i], theirs[i]);
            }
        }
        EXPECT(!ON_EMULATOR || bits[1] != bits[2]);
    }
    unsetenv("EMU_SEED"), unsetenv("EMU_GPUS");
    const Outcome alone = run_command(train_command(CUDA_TRAINER, "refused", "--gpus 1 -x 1 --reduce nccl"));
    EXPECT(alone.code == EXIT_USAGE && alone.output.find("--reduce: 'nccl' given, must be tree or left out: it has no effect in a run of one process") != std::string::npos);
}

// Gradients that travel in bf16: near the losses of those in fp32, the same for any schedule, the same weights on all ranks.
TEST(gpus_exchange_in_bf16) {
    if (GPUS < 2) SKIP("%d GPU here", GPUS);
    prepare();
    setenv("EMU_GPUS", "4", 1);
    train(CUDA_TRAINER, "fp32", on_gpus("-f 0 --gpus 2"));
    for (const char* out : {"bf16", "again"}) {
        setenv("EMU_SEED", *out == 'b' ? "1" : "2", 1);
        train(CUDA_TRAINER, out, on_gpus("-f 0 --gpus 2 --exchange bf16"));
        if (SLOW) break;
    }
    unsetenv("EMU_SEED"), unsetenv("EMU_GPUS");
    const std::vector<double> whole = series("fp32", "loss"), losses = series("bf16", "loss");
    EXPECT(whole.size() == 2 && losses.size() == 2);
    for (size_t i = 0; i < losses.size(); i++) EXPECT(std::fabs(losses[i] - whole[i]) <= 2e-3 * whole[i]);
    const char* weights = "/step_00000002/model.safetensors";
    EXPECT(!same_file(std::string("fp32") + weights, std::string("bf16") + weights));
    EXPECT(SLOW || same_file(std::string("again") + weights, std::string("bf16") + weights));
}

namespace {
struct Work { double begin, end; std::string stream, name; };
// Of each rank's process.
std::vector<std::vector<Work>> read_timelines(const std::string& path) {
    std::vector<std::vector<Work>> all;
    for (const std::string& file : lines_of(run_command("ls " + path + ".*").output)) {
        std::vector<Work> works;
        for (const std::string& line : lines_of(read_file(file))) {
            Work w{};
            char stream[32] = "";
            int at = 0;
            if (sscanf(line.c_str(), "%lf %lf %31s %n", &w.begin, &w.end, stream, &at) == 3) w.stream = stream, w.name = line.substr((size_t)at), works.push_back(w);
        }
        if (!works.empty()) all.push_back(works);
    }
    return all;
}
// Of a rank's last step, in units of a kernel's time: exchanges of gradients that have ended with the backward pass, and those that have not; how long all of
// them take, and how much of it the update waits for; how long the backward pass waits.
struct Overlap { int hidden = 0, behind = 0; double exchanged = 0, exposed = 0, waited = 0; };
Overlap overlap_of(const std::vector<Work>& works) {
    const auto last = [&](const char* name) {
        Work found{-1, -1, "", ""};
        for (const Work& w : works) if (w.name.find(name) != w.name.npos && w.end > found.end) found = w;
        EXPECT(found.end >= 0);
        return found;
    };
    const Work classifier = last("classifier_detail::classifier_kernel"), embedding = last("embedding_detail::positions_kernel"), sum = last("gradients_detail::sum_kernel"), guard = last("step_guard_detail::guard_step_kernel");
    Overlap o{.exposed = guard.begin - embedding.end, .waited = embedding.end - classifier.end};
    bool in_step = false;  // what was autotuned before has times and addresses of streams that are gone
    for (const Work& w : works) {
        in_step |= w.name == classifier.name && w.end == classifier.end;
        if (!in_step || w.begin < classifier.end || w.end > guard.begin) continue;
        if (w.stream == embedding.stream && w.end <= embedding.end) o.waited -= w.end - w.begin;
        if (w.stream != sum.stream || w.name != "nccl") continue;
        (w.end <= embedding.end ? o.hidden : o.behind)++;
        o.exchanged += w.end - w.begin;
    }
    return o;
}
}  // namespace

// On a timeline of streams that run side by side, on which a block's exchange takes no longer than its backward pass: that waits for nothing, and
// when it ends all but the first block's gradients have been exchanged. Behind it are those of the whole model's four tensors, and the norm's sums.
TEST(gpus_exchange_beside_the_backward_pass) {
    if (!ON_EMULATOR || SLOW) SKIP("the stand-in's timeline, by its plain build");
    prepare();
    setenv("EMU_GPUS", "2", 1), setenv("EMU_TIMELINE_NCCL", "7", 1);
    for (int zero : {0, 1}) {
        const std::string path = SCRATCH + format("/timeline%d", zero);
        setenv("EMU_TIMELINE", path.c_str(), 1);
        train(CUDA_TRAINER, format("overlap%d", zero), on_gpus(format("-v 0 -n 0 -f 0 --pdl 0 --gpus 2 -z %d", zero)));
        const std::vector<std::vector<Work>> ranks = read_timelines(path);
        EXPECT_EQ(ranks.size(), (size_t)2);
        for (const std::vector<Work>& works : ranks) {
            const Overlap o = overlap_of(works);
            printf("stage %d: %d exchanges hidden by the backward pass, %d not; of %g units of communication %g are exposed; the backward pass waits for %g\n", zero, o.hidden, o.behind, o.exchanged,
                   o.exposed, o.waited);
            const int each = zero == 0 ? 2 : 1;  // in stage 0 sums come back
            EXPECT_EQ(o.waited, 0.0);
            EXPECT(o.hidden >= 3 * each && o.hidden + o.behind == 8 * each + 1 && o.exposed > 0);
        }
    }
    for (const char* name : {"EMU_GPUS", "EMU_TIMELINE", "EMU_TIMELINE_NCCL"}) unsetenv(name);
}

TEST(more_ranks_than_gpus_are_refused) {
    prepare();
    const Outcome o = run_command(train_command(CUDA_TRAINER, "many", format("-b 1 -x 1 -d 1536 --gpus %d", 64)));
    EXPECT_EQ(o.code, EXIT_USAGE);
    if (o.output.find("of this machine, but ") == std::string::npos) FAIL("said \"%s\"", o.output.c_str());
}
