// trainer_runs.h: what the tests that start the trainer share: a text that a model can learn something from, and what a run leaves behind.
#pragma once
#include <algorithm>
#include "../llmc/io/files.h"
#include "../llmc/io/json.h"
#include "test.h"

// A clean folder with text.txt in it, of so many sentences.
inline void prepare_text(const std::string& folder, int sentences) {
    remove_tree(folder);
    make_folders(folder);
    std::string text;
    const char* who[] = {"Anna", "Ben", "Clara", "David"};
    const char* what[] = {"the red ball", "a small box", "an old book"};
    for (int i = 0; i < sentences; i++) text += format("%s %s %s.\n", who[i * 7 % 4], i % 3 ? "has" : "sees", what[i * 5 % 11 % 3]) + (i % 10 ? "" : "<|endoftext|>");
    write_file_atomically(folder + "/text.txt", text);
}
inline std::string file_contents(const std::string& path) {  // empty, and a failure, if there is no such file
    if (!access(path.c_str(), R_OK)) return read_file(path);
    FAIL("%s: no such file", path.c_str());
    return "";
}
inline std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t at = 0, end; at < text.size(); at = end + 1) end = std::min(text.find('\n', at), text.size()), lines.push_back(text.substr(at, end - at));
    return lines;
}
// All values that a run's metrics.jsonl has of a field, in order.
inline std::vector<double> metrics_of(const std::string& folder, const char* field) {
    std::vector<double> values;
    for (const std::string& line : lines_of(file_contents(folder + "/metrics.jsonl"))) {
        Json json = json_parse(line, "metrics.jsonl");
        if (const Json* value = json.find(field)) values.push_back(value->as_double("metrics.jsonl"));
    }
    return values;
}
