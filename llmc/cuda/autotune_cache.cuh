// autotune_cache.cuh: the autotune cache: which algorithm was the fastest, measured in this run or in an earlier one. A file for each GPU and version
// of a library, a line a key, so that the next run starts sooner and is bitwise identical.
#pragma once
#include <map>
#include <string>
#include "../io/files.h"
#include "device.cuh"

template <class Key, class Value> class AutotuneCache {
public:
    // parse: false if the line cannot be read; it is then ignored, and its key is measured again. print: without the newline.
    struct File { const char* library; size_t (*version)(); bool (*parse)(const std::string& line, Key&, Value&); std::string (*print)(const Key&, const Value&); };
    explicit AutotuneCache(File f) : file(f) {}

    std::map<Key, Value> known;
    int measured = 0;     // in this run
    double seconds = 0;   // spent measuring
    bool stored = false;  // saved in the file

    void store(const Key& key, Value value) { known.insert_or_assign(key, std::move(value)), measured++; }
    void clear() { known.clear(), measured = 0, seconds = 0, stored = false; }

    std::string path(const std::string& folder) const { return folder + "/" + file.library + "-" + gpu_and_version(file.version()) + ".txt"; }
    // Keys that are known already keep their values. Without a folder nothing is loaded and nothing saved.
    void load(const std::string& folder) {
        if (!folder.empty()) for_each_line(path(folder), [&](const std::string& line) {
            Key key{};
            Value value{};
            if (file.parse(line, key, value)) known.emplace(key, value);
        });
    }
    // Merged with what other runs have saved meanwhile; of two that save at the same time the last wins.
    void save(const std::string& folder) {
        if (folder.empty() || !measured) return;
        load(folder);
        std::string text;
        for (const auto& [key, value] : known) text += file.print(key, value) + '\n';
        make_folders(folder);
        write_file_atomically(path(folder), text);
        stored = true;
    }

private:
    File file;
};
