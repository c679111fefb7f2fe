// A damaged checkpoint is noticed, whatever the damage is: BITS=100000 (make test-bits) of it, less in `make test`.
#include "../../llmc/base/rng.h"
#include "../../llmc/io/checkpoint_writer.h"
#include "../../llmc/io/state_pieces.h"
#include "../test.h"

namespace {
const std::string OUT = "build/tmp/damage";

struct File { std::string name, bytes; };
std::string path_of(const File& file) { return checkpoint_path(OUT, 1) + "/" + file.name; }
void put(const std::string& path, std::string_view bytes) {
    FILE* file = fopen(path.c_str(), "wb");  // not synced: it is put back in a moment
    if (!file || fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || fclose(file)) abort();
}
// A checkpoint with a file of each kind, small, so that a random place is often in a header.
std::vector<File> save() {
    remove_tree(OUT);
    CheckpointWriter writer(OUT, 1);
    std::vector<float> x(61);
    for (size_t i = 0; i < x.size(); i++) x[i] = (float)i / 7;
    writer.add_text("config.json", "{\"model_type\": \"gpt2\", \"n_layer\": 1}\n");
    writer.add_text("trainer.json", "{\"step\": 1, \"position\": 64, \"losses\": [5.5, 5.25]}\n");
    writer.add_tensors("model.safetensors", {{"wte", Dtype::F32, {40}}, {"wpe", Dtype::F32, {21}}}, {{"format", "pt"}}, [&](TensorSink& f) { f.write(x.data(), 61 * 4); });
    for (int n : {0, 1})
        writer.add_tensors(state_file(n), {state_spec({"exp_avg", "wte", (size_t)n * 20, 20})}, {}, [&](TensorSink& f) { f.write(x.data() + 20 * n, 80); });
    writer.commit();
    std::vector<File> files;
    for (const std::string& name : list_folder(checkpoint_path(OUT, 1))) files.push_back({name, read_file(checkpoint_path(OUT, 1) + "/" + name)});
    return files;
}
int damages() {
    const char* bits = getenv("BITS");
    return bits ? atoi(bits) : 1500;
}
}  // namespace

TEST(every_byte_of_headers_counts) {
    const std::vector<File> files = save();
    EXPECT_STR(verify_checkpoint(checkpoint_path(OUT, 1)), "");
    int noticed = 0;
    for (const File& file : files)
        for (size_t at = 0; at < file.bytes.size(); at++)
            for (int bit = 0; bit < 8; bit += damages() > 10000 || at % 16 == 0 ? 1 : 8) {  // in `make test` all bits of each 16th byte, one of the others
                std::string bytes = file.bytes;
                bytes[at] = (char)(bytes[at] ^ 1 << (bit + (int)at) % 8);
                put(path_of(file), bytes);
                const std::string wrong = verify_checkpoint(checkpoint_path(OUT, 1));
                if (wrong.find(file.name == "MANIFEST" ? "" : file.name) == wrong.npos || wrong.empty() || wrong.find('\n') != wrong.npos)
                    FAIL("%s, bit %d of byte %zu: \"%s\"", file.name.c_str(), (bit + (int)at) % 8, at, wrong.c_str());
                noticed++;
                put(path_of(file), file.bytes);
            }
    EXPECT(noticed > 1000);
    EXPECT_STR(verify_checkpoint(checkpoint_path(OUT, 1)), "");
}

// Flips, cuts, longer files, places and files exchanged, files that are gone, empty, folders, links to nothing.
TEST(random_damage_is_noticed) {
    const std::vector<File> files = save();
    int kinds[10] = {};
    for (int i = 0; i < damages(); i++) {
        uint64_t draw = 0;
        auto below = [&](size_t n) { return (size_t)philox(11, RNG_TEST, (uint32_t)i, draw++).x[0] % n; };
        const File& file = files[below(files.size())];
        const File& other = files[below(files.size())];
        std::string bytes = file.bytes;
        const size_t kind = below(10), at = below(bytes.size()), n = 1 + below(std::min<size_t>(bytes.size() - at, 40)), to = below(bytes.size() - n + 1);
        bool two = false;
        if (kind == 0) bytes[at] = (char)(bytes[at] ^ 1 << below(8));
        if (kind == 1) for (size_t k = 0; k < n; k++) bytes[below(bytes.size())] = (char)below(256);
        if (kind == 2) bytes.resize(at);
        if (kind == 3) bytes += file.bytes.substr(at, n);
        if (kind == 4) bytes.erase(at, n);
        if (kind == 5) bytes.insert(at, n, '\0');
        if (kind == 6) std::fill_n(bytes.begin() + (long)at, n, '\0');
        if (kind == 7) bytes.replace(to, n, file.bytes.substr(at, n));
        if (kind == 8) bytes = other.bytes, two = true;
        if (kind < 9 && bytes == file.bytes) continue;
        put(path_of(file), bytes);
        if (two) put(path_of(other), file.bytes);
        if (kind == 9) {
            unlink(path_of(file).c_str());
            if (n % 3 == 1) mkdir(path_of(file).c_str(), 0777);
            if (n % 3 == 2 && symlink("nowhere", path_of(file).c_str())) abort();
        }
        const std::string wrong = verify_checkpoint(checkpoint_path(OUT, 1));
        if (wrong.empty() || wrong.find('\n') != wrong.npos) FAIL("damage %d of kind %zu to %s: \"%s\"", i, kind, file.name.c_str(), wrong.c_str());
        kinds[kind]++;
        if (kind == 9) remove_tree(path_of(file));
        put(path_of(file), file.bytes);
        if (two) put(path_of(other), other.bytes);
    }
    for (int n : kinds) EXPECT(n > damages() / 40);
    EXPECT_STR(verify_checkpoint(checkpoint_path(OUT, 1)), "");
    if (damages() > 10000) printf("  %d damages, none unnoticed\n", damages());
}
