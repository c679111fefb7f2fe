// autotune_cache.cuh: which way was the fastest, measured in this run or in another one: kept in a file of one GPU and one version of a library,
// a line a key, so that the next run begins sooner and is bitwise identical.
#pragma once
#include <map>
#include <string>
#include "../io/files.h"
#include "device.cuh"

template <class Key, class Value> class AutotuneCache {
public:
    // parse: false if the line cannot be read; it is then as if it were not there, and its key is measured again. print: without the line's end.
    struct File { const char* library; size_t (*version)(); bool (*parse)(const std::string& line, Key&, Value&); std::string (*print)(const Key&, const Value&); };
    explicit AutotuneCache(File f) : file(f) {}

    std::map<Key, Value> known;
    int measured = 0;     // in this run
    double seconds = 0;   // that it took
    bool stored = false;  // in the file

    void store(const Key& key, Value value) { known.insert_or_assign(key, std::move(value)), measured++; }
    void clear() { known.clear(), measured = 0, seconds = 0, stored = false; }

    std::string path(const std::string& folder) const { return folder + "/" + file.library + "-" + gpu_and_version(file.version()) + ".txt"; }
    // What is known already stays. Without a folder nothing is loaded and nothing saved.
    void load(const std::string& folder) {
        if (!folder.empty()) for_each_line(path(folder), [&](const std::string& line) {
            Key key{};
            Value value{};
            if (file.parse(line, key, value)) known.emplace(key, value);
        });
    }
    // With what other runs have added meanwhile; of those that chose at the same time one wins.
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
