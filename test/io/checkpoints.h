// checkpoints.h: small checkpoints for the tests of checkpoints, which are true to a seed.
#pragma once
#include <algorithm>
#include <string>
#include <vector>
#include "../../llmc/io/checkpoint_writer.h"
#include "../../llmc/io/json.h"
#include "../test.h"

[[maybe_unused]] static std::string fresh(const std::string& name) {
    std::string path = "build/tmp/checkpoint/" + name;
    remove_tree(path), make_folders(path);
    return path;
}
[[maybe_unused]] static void put_file(const std::string& path, const std::string& text) {
    FileWriter file(path);
    file.write(text.data(), text.size()), file.close();
}
[[maybe_unused]] static std::string names(const std::string& folder) {
    std::string all;
    for (const std::string& name : list_folder(folder)) all += name + " ";
    return all;
}
// A small checkpoint whose every file depends on `seed`.
[[maybe_unused]] static void save(const std::string& out, int step, int seed = 0, size_t n = 37) {
    CheckpointWriter writer(out, step);
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)(seed + step) + (float)i / 64;
    writer.add_text("config.json", "{\"seed\": " + std::to_string(seed) + "}\n");
    writer.add_tensors("model.safetensors", {{"wte", Dtype::F32, {n}}}, {{"format", "pt"}}, [&](TensorSink& file) { file.write(x.data(), n * 4); });
    writer.commit();
}
[[maybe_unused]] static int seed_of(const std::string& path) {
    std::string config = path + "/config.json";
    return (int)json_parse(read_file(config), config).at("seed", config).as_int(config);
}
[[maybe_unused]] static Checkpoint newest(const std::string& out, std::string* log = nullptr) {
    return find_newest_checkpoint(out, [&](const std::string& line) { if (log) *log += line + "\n"; });
}
// Each DONE has its checkpoint.
[[maybe_unused]] static void expect_done_is_true(const std::string& out) {
    const std::vector<Checkpoint> list = list_checkpoints(out);
    for (const std::string& name : list_folder(out))
        if (name.starts_with("DONE_")) EXPECT(std::any_of(list.begin(), list.end(), [&](const Checkpoint& c) { return done_path(out, c.step) == out + "/" + name; }));
}
