// kept_files.h: files of a model's folder that a checkpoint of a run from it has unchanged, and what they say of its tokens.
#pragma once
#include <unistd.h>
#include <string>
#include <vector>
#include "../base/child.h"
#include "../io/files.h"
#include "../io/json.h"
#include "../tokenizer/tokenizer.h"
#include "named_files.h"

struct KeptFile { std::string name, text; };

namespace kept_files_detail {
constexpr const char* NAMES[] = {"generation_config.json", "special_tokens_map.json", "tokenizer_config.json", "chat_template.jinja"};

// An id, several, or the text of a token, alone or as {"content": ...}. What is not in the vocabulary is left out: a small model's config.json may have
// kept the ids of a large one.
inline void add_tokens(std::vector<int>& ids, const Json& json, const Tokenizer& tokenizer, const std::string& where) {
    if (json.type == Json::ARRAY) for (const Json& one : json.items) add_tokens(ids, one, tokenizer, where);
    if (json.type == Json::NUMBER) if (const int64_t id = json.as_int(where); id >= 0 && id < tokenizer.vocab_size()) ids.push_back((int)id);
    if (json.type == Json::STRING) if (const int id = tokenizer.special_id(json.text); id >= 0) ids.push_back(id);
    if (json.type == Json::OBJECT) if (const Json* content = json.find("content")) add_tokens(ids, *content, tokenizer, where);
}
}  // namespace kept_files_detail

// folder: of the model; if it is none, there are no files.
inline std::vector<KeptFile> read_kept_files(const std::string& folder) {
    std::vector<KeptFile> files;
    if (!run_detail::is_folder(folder)) return files;
    for (const char* name : kept_files_detail::NAMES)
        if (const std::string path = folder + "/" + name; run_detail::is_file(path)) files.push_back({name, read_file(path)});
    return files;
}

// The tokens that end a text, by the first file that names some, as transformers takes them.
inline std::vector<int> end_tokens(const std::string& folder, const Tokenizer& tokenizer) {
    std::vector<int> ids;
    if (!run_detail::is_folder(folder)) return ids;
    for (const char* name : {"generation_config.json", "config.json", "tokenizer_config.json", "special_tokens_map.json"}) {
        const std::string path = folder + "/" + name;
        if (!run_detail::is_file(path)) continue;
        const auto read = [&] {
            const Json json = json_parse(read_file(path), path);
            for (const char* key : {"eos_token_id", "eos_token"}) if (const Json* found = json.find(key)) kept_files_detail::add_tokens(ids, *found, tokenizer, path);
        };
        if (const std::string error = error_of(read); !error.empty()) printf("%s: not used\n", on_one_line(error).c_str());
        else read();
        if (!ids.empty()) break;
    }
    return ids;
}
