// rank_runs_test.h: runs of the trainer by several ranks, for tests, which write to SCRATCH.
#pragma once
#include <string>
#include "../../llmc/io/checkpoint.h"
#include "../test.h"
#include "../trainer_runs.h"

namespace {
extern const std::string SCRATCH;

inline void prepare() {
    remove_tree(SCRATCH), make_folders(SCRATCH);
    std::string text;
    for (int i = 0; i < 3000; i++) text += format("Line %d says %d.\n", i % 97, i * 7 % 13) + (i % 10 ? "" : "<|endoftext|>");
    write_file_atomically(SCRATCH + "/text.txt", text);
    std::string items;
    for (int i = 0; i < 7; i++)
        items += format("{\"context\": \"Line %d says\", \"choices\": [\" %d.\", \" yes\", \" and so on\"], \"answer\": \" %d.\"}\n", i, i, i);
    write_file_atomically(SCRATCH + "/items.jsonl", items);
}
inline std::string contents(const std::string& path) {
    std::string text;
    CHECK(try_read_file(SCRATCH + "/" + path, text).empty(), "%s is missing", path.c_str());
    return text;
}
inline bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
// 8 micro-batches of 2 x 16 tokens a step, in 4 leaves
inline std::string trainer(const std::string& out, const std::string& rest) {
    return format("timeout -s KILL 100 %s -i %s/text.txt -o %s/%s -e d2c32h2 -b 2 -t 16 -d 256 --leaves 4 --tokenizer bytes -s 0 -l 1e-2 %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str());
}
const std::string FOUR_STEPS = "-x 4 -v 2 -m 5 -n 4 ";
inline Outcome must(const std::string& command) {
    Outcome o = run_command(command);
    if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
    return o;
}
// Weights, optimizer state and log of the two are the same, byte for byte.
inline void same_run(const std::string& a, const std::string& b, int step = 4) {
    const std::string folder = "/" + checkpoint_path("", step).substr(1) + "/";
    for (const char* file : {"model.safetensors", "state-00000.safetensors", "config.json", "tokenizer.json"})
        if (contents(a + folder + file) != contents(b + folder + file)) FAIL("%s of %s and of %s differ", file, a.c_str(), b.c_str());
    EXPECT_STR(contents(a + "/main.log"), contents(b + "/main.log"));
    EXPECT_STR(verify_checkpoint(SCRATCH + "/" + b + "/" + checkpoint_path("", step).substr(1)), "");
}
// "" where mpirun cannot be asked
inline std::string mpirun(int ranks) {
    static const bool works = run_command("mpirun --version").code == 0 && has(run_command(std::string("ldd ") + TRAINER).output, "libmpi");
    // under LeakSanitizer OpenMPI's own leaks would be the exit code
    return works ? format("env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ASAN_OPTIONS=detect_leaks=0 mpirun --oversubscribe -np %d ", ranks) : "";
}
}  // namespace
