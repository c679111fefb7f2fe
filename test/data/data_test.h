// data_test.h: what the tests of data share: files in a folder of their own, shards made by hand, and what a text is in tokens of bytes. Who includes it has a
// SCRATCH of its own, as files of tests run at the same time.
#pragma once
#include "../../llmc/data/data.h"
#include "../../llmc/data/text.h"
#include "../test.h"

namespace {
extern const std::string SCRATCH;

inline std::string folder() {  // empty when the first test asks for it
    static const bool is_new = (remove_tree(SCRATCH), make_folders(SCRATCH), true);
    return is_new ? SCRATCH : "";
}
inline std::string write_text(const std::string& name, const std::string& text) {
    write_file_atomically(folder() + "/" + name, text);
    return folder() + "/" + name;
}
// A shard made by hand, so that ShardWriter is tested too. version 1: uint16, 7: uint32
inline std::string write_shard(const std::string& name, const std::vector<int>& tokens, int version = 1) {
    int32_t header[256] = {version == 1 ? 20240520 : 20240801, version, (int32_t)tokens.size()};
    std::string bytes((const char*)header, sizeof header);
    for (int t : tokens) bytes.append((const char*)&t, version == 1 ? 2 : 4);
    return write_text(name, bytes);
}
inline std::vector<int> read_shard(const std::string& path) {
    Shard shard = open_shard(path);
    std::vector<int> tokens(shard.size());
    ShardReader().read(shard, 0, tokens.size(), tokens.data());
    return tokens;
}
inline std::vector<int> numbers(int from, int n) {
    std::vector<int> v;
    for (int i = 0; i < n; i++) v.push_back(from + i);
    return v;
}
inline std::vector<int> slots_for(const DataOptions& o, int n) { return std::vector<int>((size_t)n * 2 * (size_t)o.B * (size_t)o.T); }

// Documents as tokens of bytes, each behind an end-of-text token.
constexpr int E = 256;
inline std::vector<int> with_ends(const std::vector<std::string>& documents) {
    std::vector<int> tokens;
    for (const std::string& d : documents) {
        tokens.push_back(E);
        for (char c : d) tokens.push_back((unsigned char)c);
    }
    return tokens;
}
}  // namespace
