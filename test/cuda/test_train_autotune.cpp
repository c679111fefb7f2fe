// What a run autotuned stays the run's: on another machine, and on ranks of other machines. Emulated machines prefer other algorithms, which add in
// another order; each has an autotune cache of its own.
#include "../../llmc/io/checkpoint.h"
#include "train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train_autotune";

// fastest: of cuBLASLt's two algorithms
struct Machine { const char* name; int fastest; const char* gpu = "emulated GPU"; };
const Machine HOME{"home", 1}, AWAY{"away", 3}, OTHER{"other", 3, "other GPU"};

std::string command_on(const Machine& m, const std::string& out, const std::string& rest) {
    make_folders(SCRATCH + "/" + m.name);
    return format("EMU_FASTEST=%d EMU_GPU_NAME='%s' XDG_CACHE_HOME=%s/%s timeout -s KILL 100 %s -i %s/text.txt -o %s/%s -e d1c32h2 -b 1 -t 16 -d 32 --leaves 2 -v 0 -s 0 -l 3e-3 --schedule constant "
                  "--precision bf16 %s", m.fastest, m.gpu, SCRATCH.c_str(), m.name, CUDA_TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str());
}
std::string run_on(const Machine& m, const std::string& out, const std::string& rest) {
    const Outcome o = run_command(command_on(m, out, rest));
    if (o.code) FAIL("%s: %s: exit code %d: %s", m.name, out.c_str(), o.code, o.output.c_str());
    return o.output;
}
// Of bf16 weights the last bits are in the master weights.
std::string weights(const std::string& out, int step) {
    const std::string folder = out + format("/step_%08d/", step);
    return contents(folder + "model.safetensors") + contents(folder + "state-00000.safetensors");
}
std::vector<std::string> choices(const std::string& out, int step) {
    std::vector<std::string> lines;
    const Json trainer = json_parse(contents(out + format("/step_%08d/trainer.json", step)), "trainer.json");
    for (const Json& line : trainer.at("autotuned", "trainer.json").as_array("trainer.json")) lines.push_back(line.as_string("trainer.json"));
    return lines;
}
void copy(const std::string& from, const std::string& to) { run_command(format("rm -rf %s/%s && cp -r %s/%s %s/%s", SCRATCH.c_str(), to.c_str(), SCRATCH.c_str(), from.c_str(), SCRATCH.c_str(), to.c_str())); }
std::string cache_of(const Machine& m) {
    std::string all;
    for (const std::string& name : list_folder(SCRATCH + "/" + m.name + "/llmc")) all += name + "\n" + contents(std::string(m.name) + "/llmc/" + name);
    return all;
}
// The lines of `said` that say what may change.
std::string warnings(const std::string& said) {
    std::string found;
    for (const std::string& line : lines_of(said)) if (line.find("bits may change") != std::string::npos) found += line + "\n";
    return found;
}
#define NEEDS_MACHINES() do { if (!strstr(CUDA_TRAINER, "emu")) SKIP("machines that prefer other algorithms are there in the emulator only"); if (SLOW) SKIP("it is about choices, and the plain build looks at them"); } while (0)
}  // namespace

// Resumed where another algorithm is faster, and another is in the cache: the bits of the run that never moved. Nor does the cache there change.
TEST(choices_move_with_the_checkpoint) {
    NEEDS_MACHINES();
    prepare();
    EXPECT_STR(warnings(run_on(HOME, "a", "-x 2 -n 2")), "");
    copy("a", "b"), copy("a", "c"), copy("a", "d");
    run_on(HOME, "a", "-x 4 -n 2 -y 1");
    run_on(AWAY, "fresh", "-x 4 -n 4");
    EXPECT(weights("fresh", 4) != weights("a", 4));  // or the test could not fail
    const std::string before = cache_of(AWAY);
    for (const std::string& line : choices("a", 4)) EXPECT(before.find(line.substr(line.find(' ') + 1)) == std::string::npos || line.starts_with("attention-"));
    const std::string said = run_on(AWAY, "b", "-x 4 -n 2 -y 1");
    EXPECT_STR(warnings(said), "");
    EXPECT(said.find("shapes measured") == std::string::npos);
    EXPECT(weights("b", 4) == weights("a", 4));
    EXPECT_STR(cache_of(AWAY), before);
    // what is stored again is what was used, none more and none less
    EXPECT(choices("a", 2).size() > 12 && choices("a", 4) == choices("a", 2) && choices("b", 4) == choices("a", 2) && choices("fresh", 4) != choices("a", 2));
    // another GPU: its own are used, which is said, and stored from then on
    const size_t n = choices("a", 2).size();
    EXPECT_STR(warnings(run_on(OTHER, "c", "-x 4 -n 2 -y 1")),
               format("resume   autotuned choices of the checkpoint: %zu of %zu are of attention-91900-emulated-GPU, here is cublaslt-130000-other-GPU and attention-91900-other-GPU: "
                      "this machine's own are used, bits may change\n", n, n));
    EXPECT(weights("c", 4) != weights("a", 4) && choices("c", 4).size() == n && choices("c", 4)[0].starts_with("cublaslt-130000-other-GPU "));
    EXPECT_STR(warnings(run_on(OTHER, "c", "-x 5 -n 5 -y 1")), "");
    // what the run had no need to choose, and now has
    run_on(HOME, "e", "-x 2 -n 2 --attention ours");
    const size_t fewer = choices("e", 2).size(), own = n - fewer;
    EXPECT(own > 0);
    EXPECT_STR(warnings(run_on(HOME, "e", "-x 3 -n 3 -y 1 --attention fastest")), format("resume   autotuned choices of the checkpoint: %zu of this run's are not among the %zu: this machine's own are used, bits may change\n", own, fewer));
    // without a GPU
    const Outcome o = run_command(format("%s -i %s/text.txt -o %s/d -x 3 -n 1 -b 1 -t 16 -d 32 --leaves 2 -v 0 -s 0 -l 3e-3 --schedule constant --precision bf16 -y 1", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT_EQ(o.code, 0);
    EXPECT_STR(warnings(o.output), format("resume   autotuned choices of the checkpoint: all %zu are of cublaslt-130000-emulated-GPU, here is a CPU: this machine's own are used, bits may change\n", n));
    EXPECT(choices("d", 3).empty());
}

// GELU in the epilogue is such a choice: whoever resumes keeps it where his cache has it otherwise; and one that cuBLASLt refuses is said.
TEST(gelu_moves_with_the_checkpoint) {
    NEEDS_MACHINES();
    prepare();
    run_on(HOME, "a", "-x 4 -n 2");
    for (const char* name : {"b", "c"}) copy("a", name), run_command(format("rm -r %s/%s/*00000004", SCRATCH.c_str(), name));
    // the epilogue's choice has become "none"
    const auto is_gelu = [](const std::string& line) { return line.find(" 164 ") != std::string::npos; };  // CUBLASLT_EPILOGUE_GELU_AUX_BIAS
    const std::string path = SCRATCH + "/home/llmc/cublaslt-130000-emulated-GPU.txt";
    std::string cache;
    int changed = 0;
    for (std::string line : lines_of(read_file(path))) {
        if (is_gelu(line)) line.replace(line.rfind(' ') + 1, std::string::npos, "none"), changed++;
        cache += line + "\n";
    }
    EXPECT_EQ(changed, 1);
    write_file_atomically(path, cache);
    run_on(HOME, "fresh", "-x 4 -n 4"), run_on(HOME, "never", "-x 4 -n 4 -ge 0");
    EXPECT(weights("fresh", 4) != weights("a", 4));  // or the test could not fail
    EXPECT(weights("fresh", 4) == weights("never", 4));
    const std::string before = read_file(path);
    EXPECT_STR(warnings(run_on(HOME, "b", "-x 4 -n 2 -y 1")), "");
    EXPECT(weights("b", 4) == weights("a", 4) && read_file(path) == before);
    // an algorithm of another problem
    const std::string folder = SCRATCH + "/c/step_00000002";
    std::string trainer = read_file(folder + "/trainer.json");
    for (const std::string& line : choices("c", 2)) if (is_gelu(line)) {
        std::string other = line;
        other[other.rfind(' ') + 1 + 2 * 8] ^= 1;
        trainer.replace(trainer.find(line), line.size(), other);
    }
    std::vector<checkpoint_detail::ManifestLine> manifest;
    EXPECT_STR(checkpoint_detail::read_manifest(folder, manifest), "");
    for (auto& line : manifest) if (line.name == "trainer.json") line.sum = {trainer.size(), xxh64(trainer.data(), trainer.size())};
    write_file_atomically(folder + "/trainer.json", trainer), write_file_atomically(folder + "/MANIFEST", checkpoint_detail::manifest_text(manifest));
    EXPECT_STR(warnings(run_on(HOME, "c", "-x 4 -n 2 -y 1")), format("resume   autotuned choices of the checkpoint: 1 of %zu are refused by cublaslt-130000-emulated-GPU and attention-91900-emulated-GPU: "
                                                                      "this machine's own are used, bits may change\n", choices("a", 2).size()));
    EXPECT(choices("c", 4).size() == choices("a", 2).size());
}

// Ranks of machines that prefer other algorithms: rank 0 measures, and the bits are those of one rank on its machine.
TEST(ranks_of_other_machines_take_the_choices_of_rank_0) {
    NEEDS_MACHINES();
    prepare();
    run_on(HOME, "one", "-x 3 -n 3");
    run_on(AWAY, "other", "-x 3 -n 3");
    EXPECT(weights("one", 3) != weights("other", 3));
    const auto together = [](const char* out, const Machine& zero, const Machine& one) {
        const std::string ranks = format("-x 3 -n 3 -pn 2 -pg 1 -pi fs -pf %s/meet", SCRATCH.c_str());
        return run_command("(" + command_on(zero, out, ranks + " -pr 0") + ") & p=$!; (" + command_on(one, out, ranks + " -pr 1") + "); code=$?; wait $p && exit $code");
    };
    const std::string cache = cache_of(AWAY);
    Outcome o = together("ranks", HOME, AWAY);
    if (o.code) FAIL("exit code %d: %s", o.code, o.output.c_str());
    EXPECT_STR(warnings(o.output), "");
    EXPECT(weights("ranks", 3) == weights("one", 3) && choices("ranks", 3) == choices("one", 3));
    o = together("turned", AWAY, HOME);
    EXPECT(o.code == 0 && weights("turned", 3) == weights("other", 3) && choices("turned", 3) == choices("other", 3));
    EXPECT_STR(cache_of(AWAY), cache);
    // rank 1 has another GPU
    o = together("mixed", HOME, OTHER);
    EXPECT_EQ(o.code, 0);
    const size_t n = choices("one", 3).size();
    EXPECT_STR(warnings(o.output), format("rank 1: autotuned choices of rank 0: %zu of %zu are of attention-91900-emulated-GPU, here is cublaslt-130000-other-GPU and attention-91900-other-GPU: "
                                          "its own are used, bits may change with the number of ranks\n", n, n));
    EXPECT(choices("mixed", 3) == choices("one", 3));
}
