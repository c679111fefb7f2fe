// autotune_cache.cuh: what was autotuned: which algorithm is the fastest, measured in this run or in an earlier one. The autotune cache is a file for each
// GPU and version of a library, a line a key, so that the next run starts sooner and is bitwise identical. A run that goes on, and the ranks of a run
// beside rank 0, are given the choices that the run began with instead, as other algorithms round differently.
#pragma once
#include <algorithm>
#include <map>
#include <string>
#include <vector>
#include "../io/files.h"
#include "device.cuh"

template <class Key, class Value> class AutotuneCache {
public:
    // parse: false if the line cannot be read; it is then ignored, and its key is measured again. print: without the newline.
    struct File { const char* library; size_t (*version)(); bool (*parse)(const std::string& line, Key&, Value&); std::string (*print)(const Key&, const Value&); };
    explicit AutotuneCache(File f) : file(f) {}

    enum Origin { CACHED, GIVEN, MEASURED };
    struct Choice { Value value; Origin origin = CACHED; bool used = false; };
    std::map<Key, Choice> known;
    int measured = 0;     // in this run
    double seconds = 0;   // spent measuring
    bool stored = false;  // saved in the file
    int refused = 0;      // of the given choices

    bool comparing = false;  // what is done now is done to measure it

    const Value* find(const Key& key) const {  // null: not known
        const auto at = known.find(key);
        return at == known.end() ? nullptr : &at->second.value;
    }
    const Value& store(const Key& key, Value value) {
        measured++;
        return known.insert_or_assign(key, Choice{std::move(value), MEASURED}).first->second.value;
    }
    // The run computes by what is known for a key, if anything is.
    void use(const Key& key) {
        const auto at = known.find(key);
        if (at != known.end() && !comparing) at->second.used = true;
    }
    // The library does not take what is known for a key.
    void refuse(const Key& key) {
        const auto at = known.find(key);
        if (at == known.end()) return;
        refused += at->second.origin == GIVEN;
        known.erase(at);
    }
    // Choices by which the run computes and that it was not given.
    int own() const { return (int)std::count_if(known.begin(), known.end(), [](const auto& entry) { return entry.second.used && entry.second.origin != GIVEN; }); }
    // Of other shapes nothing is known from here on, whatever other runs have left in the file: on every rank the library's first choice.
    void keep_used() { std::erase_if(known, [](const auto& entry) { return !entry.second.used; }); }
    void clear() { known.clear(), measured = 0, seconds = 0, stored = false, refused = 0; }

    // The library, its version and the GPU.
    std::string name() const { return file.library + ("-" + gpu_and_version(file.version())); }
    std::string path(const std::string& folder) const { return folder + "/" + name() + ".txt"; }
    // Keys that are known already keep their values. Without a folder nothing is loaded and nothing saved.
    void load(const std::string& folder) {
        for_each_choice(folder, [&](const Key& key, const Value& value) { known.emplace(key, Choice{value}); });
    }
    // What was measured is merged with what other runs have saved meanwhile; of two that save at the same time the last wins.
    void save(const std::string& folder) {
        if (folder.empty() || !measured) return;
        std::map<Key, Value> all;
        for_each_choice(folder, [&](const Key& key, const Value& value) { all.emplace(key, value); });
        for (const auto& [key, choice] : known) if (choice.origin == MEASURED) all.insert_or_assign(key, choice.value);
        std::string text;
        for (const auto& [key, value] : all) text += file.print(key, value) + '\n';
        make_folders(folder);
        write_file_atomically(path(folder), text);
        stored = true;
    }

    // The choices that the run computes by, as lines that begin with name(): for its checkpoints and other ranks.
    void list(std::vector<std::string>& lines) const {
        for (const auto& [key, choice] : known) if (choice.used) lines.push_back(name() + " " + file.print(key, choice.value));
    }
    // Takes such a line over whatever is known; false if it is not of this library, version and GPU.
    bool give(const std::string& line) {
        Key key{};
        Value value{};
        const std::string mine = name() + " ";
        if (!line.starts_with(mine) || !file.parse(line.substr(mine.size()), key, value)) return false;
        known.insert_or_assign(key, Choice{std::move(value), GIVEN});
        return true;
    }

private:
    File file;
    template <class Body> void for_each_choice(const std::string& folder, Body body) const {
        if (!folder.empty()) for_each_line(path(folder), [&](const std::string& line) {
            Key key{};
            Value value{};
            if (file.parse(line, key, value)) body(key, value);
        });
    }
};
