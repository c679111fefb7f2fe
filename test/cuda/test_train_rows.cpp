// The rows of logits that are in memory at a time, on emulated cards of 4 GiB, where all 544 of a micro-batch are, and of 1, where there are the fewest.
#include "train_test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/train_rows";

void prepare_shard() {
    remove_tree(SCRATCH), make_folders(SCRATCH);
    std::string shard(1024, '\0');
    const int header[3] = {20240520, 1, 4000};
    memcpy(shard.data(), header, sizeof header);
    for (unsigned i = 0, token = 1; i < 4000; i++) token = token * 1103515245 + 12345, shard += (char)(token >> 16 & 255), shard += (char)(token >> 24 & 127);  // below 32768, of 50257
    write_file_atomically(SCRATCH + "/train.bin", shard);
}
std::string command_on(int gib, const std::string& out, const std::string& rest) {
    return format("EMU_MEMORY=%d timeout -s KILL 900 %s -i %s/train.bin -o %s/%s --cache %s/cache -e d1c8h1 -b 1 -t 544 -v 0 -s 0 -l 3e-3 --schedule constant --precision bf16 --attention ours %s",
                  gib, CUDA_TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), SCRATCH.c_str(), rest.c_str());
}
std::string run_on(int gib, const std::string& out, const std::string& rest) {
    const Outcome o = run_command(command_on(gib, out, rest));
    if (o.code) FAIL("%d GiB: %s: exit code %d: %s", gib, out.c_str(), o.code, o.output.c_str());
    return o.output;
}
std::string weights(const std::string& out, int step) {
    const std::string folder = out + format("/step_%08d/", step);
    return contents(folder + "model.safetensors") + contents(folder + "state-00000.safetensors");
}
std::string kept(const std::string& out, int step) {
    const std::string path = out + format("/step_%08d/trainer.json", step);
    return json_parse(contents(path), path).at("options", path).at("classifier_rows", path).as_string(path);
}
}  // namespace

TEST(classifier_rows_move_with_the_checkpoint) {
    if (!strstr(CUDA_TRAINER, "emu")) SKIP("cards of other sizes are there in the emulator only");
    if (SLOW || !getenv("CARDS")) SKIP("it takes two minutes of a core, plain: CARDS=1 make test-emu-plain");
    prepare_shard();
    EXPECT(run_on(4, "large", "-x 2 -n 1").find("\nclassifier ") == std::string::npos);
    EXPECT(run_on(1, "small", "-x 1 -n 1").find("\nclassifier 384 rows of logits at a time, of 544: ") != std::string::npos);
    EXPECT(weights("large", 1) != weights("small", 1));  // or the test could not fail
    EXPECT(kept("large", 2) == "544" && kept("small", 1) == "384");
    // goes on where the card is smaller
    run_command(format("cp -r %s/large %s/moved && rm -r %s/moved/*00000002", SCRATCH.c_str(), SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(run_on(1, "moved", "-x 2 -n 1 -y 1").find("\nclassifier ") == std::string::npos);
    EXPECT(weights("moved", 2) == weights("large", 2) && kept("moved", 2) == "544");
    // ranks on cards of both sizes take what all have room for, and rank 0 says which
    const std::string ranks = format("-x 1 -n 1 -pn 2 -pg 1 -pi fs -pf %s/meet ", SCRATCH.c_str());
    const Outcome o = run_command("(" + command_on(4, "ranks", ranks + "-pr 0") + ") & p=$!; (" + command_on(1, "ranks", ranks + "-pr 1") + "); code=$?; wait $p && exit $code");
    if (o.code) FAIL("exit code %d: %s", o.code, o.output.c_str());
    EXPECT(kept("ranks", 1) == "384" && o.output.find("\nclassifier 384 rows of logits at a time, of 544: ") != std::string::npos);
}
