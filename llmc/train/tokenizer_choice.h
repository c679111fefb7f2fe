// tokenizer_choice.h: which tokenizer a run has. It lies beside the model, beside the token shards, or --tokenizer names it; where several
// are in play they must be one. Wrong pairs train without a word and never get good, so anything that does not fit ends the run here. A file
// that merely lies there and cannot be read is not in play: that is said, and the run goes on unless it needs a tokenizer.
#pragma once
#include <sys/stat.h>
#include <optional>
#include <string>
#include <vector>
#include "../base/child.h"
#include "../data/shards.h"
#include "../data/text.h"
#include "../io/files.h"
#include "../io/json.h"
#include "../model/config_names.h"
#include "../tokenizer/compare.h"
#include "options.h"

// from: for the banner, as "tok/tokenizer.json, beside the token shards: 368 tokens"; to_learn: the size of one that --plan does not learn
struct TokenizerChoice { std::optional<Tokenizer> tokenizer; std::string from; int to_learn = 0; };

inline TextOptions text_options(const Options& opt) { return {.special = opt.text_special != 0, .skip_bad = opt.skip_bad}; }

namespace tokenizer_choice_detail {
// A tokenizer in play: what it is, where it lies ("beside the model").
struct Candidate { Tokenizer tokenizer; std::string path, place; };

// The first tokenizer in a folder that can be read. gpt2_tokenizer.bin is what llm.c puts beside its models. A reader ends the process at the
// first thing that is wrong with a file, so a child process reads it first; not_used: "tok/tokenizer.json: why".
inline std::optional<Candidate> tokenizer_in(const std::string& folder, const char* place, std::vector<std::string>& not_used) {
    for (const char* name : {"tokenizer.json", "vocab.bpe", "merges.txt", "gpt2_tokenizer.bin"}) {
        const std::string path = folder + "/" + name;
        if (access(path.c_str(), F_OK)) continue;
        const std::string error = error_of([&] { Tokenizer::load(path); });
        if (error.empty()) return Candidate{Tokenizer::load(path), path, place};
        not_used.push_back(error.starts_with(path + ":") ? error : path + ": " + error);
    }
    return {};
}
// Is a tokenizer's vocabulary a model's? Models may have a few rows more, by padding (Phi-2: 51200 for 50295 tokens), never fewer.
inline bool fits(int tokens, int V) { return tokens <= V && V - tokens <= V / 32; }

inline std::optional<Candidate> beside_model(const std::string& weights, int V, std::vector<std::string>& not_used) {
    struct stat info;
    const bool folder = stat(weights.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    std::optional<Candidate> found = tokenizer_in(folder ? weights : parent_folder(weights), "beside the model", not_used);
    if (!found) return found;
    const int tokens = found->tokenizer.vocab_size();
    if (folder ? tokens <= V : fits(tokens, V)) return found;
    // beside a .bin anything may lie; a model's own folder is the model's
    if (folder) not_used.push_back(format("%s: %d tokens, but the model beside it has a vocabulary of %d", found->path.c_str(), tokens, V));
    return {};
}

inline void must_be_same(const Candidate& a, const Candidate& b) {
    if (std::string difference = tokenizer_difference(b.tokenizer, a.tokenizer); !difference.empty())
        die_with(EXIT_USAGE, "%s, %s, is not the tokenizer %s, %s: %s", b.path.c_str(), b.place.c_str(), a.path.c_str(), a.place.c_str(), difference.c_str());
}

// All files of --train-data and --val-data.
inline std::vector<std::string> data_files(const Options& opt) {
    std::vector<std::string> files;
    if (!opt.train_data.empty()) files = list_source_files(opt.train_data);
    if (!opt.val_data.empty()) for (const std::string& path : list_files(opt.val_data)) files.push_back(path);
    return files;
}

// The tokenizer beside the token shards among the files, which must all be made with it.
inline std::optional<Candidate> beside_shards(const std::vector<std::string>& files, std::vector<std::string>& not_used) {
    std::optional<Candidate> found;
    std::vector<std::string> folders;
    for (const std::string& path : files) {
        const std::string folder = parent_folder(path);
        if (is_text_file(path) || std::find(folders.begin(), folders.end(), folder) != folders.end()) continue;
        folders.push_back(folder);
        std::optional<Candidate> next = tokenizer_in(folder, "beside the token shards", not_used);
        if (found && next) must_be_same(*found, *next);
        else if (next) found = std::move(next);
    }
    return found;
}

// What --tokenizer says, but for bpe:N, which is learned when it is known that nothing else is in play.
inline Candidate named(const std::string& option) {
    if (struct stat info; option != "bytes" && stat(option.c_str(), &info) && errno == ENOENT)
        die_with(EXIT_USAGE, "--tokenizer: '%s' given: there is no such file or folder; must be bytes, bpe:N, a tokenizer.json, or a folder with vocab.bpe and encoder.json", option.c_str());
    return {option == "bytes" ? Tokenizer::bytes() : Tokenizer::load(option), option, "named by --tokenizer"};
}
}  // namespace tokenizer_choice_detail

// weights: folder or .bin file that the model is loaded from, with a vocabulary of V; empty: a new model. Ends with EXIT_USAGE where
// tokenizers differ, or where there is text, as data or to evaluate, and nothing says what its tokens are.
inline TokenizerChoice choose_tokenizer(const Options& opt, const std::string& weights, int V, bool resumed, bool evaluates_text, const TextOptions& reading) {
    using namespace tokenizer_choice_detail;
    const std::vector<std::string> files = data_files(opt);
    const size_t texts = (size_t)std::count_if(files.begin(), files.end(), is_text_file), shards = files.size() - texts;
    std::vector<std::string> not_used;
    std::optional<Candidate> of_model, of_shards = beside_shards(files, not_used), chosen;
    if (!weights.empty()) of_model = beside_model(weights, V, not_used);
    if (of_model && of_shards) must_be_same(*of_model, *of_shards);
    chosen = of_model ? std::move(of_model) : std::move(of_shards);

    const std::string option = resumed && chosen && chosen->place == "beside the model" ? "" : opt.tokenizer;  // a checkpoint has its own
    const bool learns = option.starts_with("bpe:");
    if (learns) {
        const int size = config_detail::number_after(option, "bpe:");
        if (size < 257) die_with(EXIT_USAGE, "--tokenizer: '%s' given, must be bpe:N with N from 257 to 99999", option.c_str());
        if (chosen) die_with(EXIT_USAGE, "--tokenizer: '%s' given, but there is %s, %s", option.c_str(), chosen->path.c_str(), chosen->place.c_str());
        else if (!weights.empty()) die_with(EXIT_USAGE, "--tokenizer: '%s' given, but %s was trained with another: --tokenizer must name that", option.c_str(), weights.c_str());
        else if (!opt.plan.empty()) return {{}, format("%s, to be learned from the text", option.c_str()), size};
        else if (opt.train_data.empty()) die_with(EXIT_USAGE, "--tokenizer: %s learns from text: --train-data must name some", option.c_str());
        else chosen = Candidate{train_tokenizer(list_source_files(opt.train_data), size, SplitPattern::GPT2, reading), option, "learned from the text"};
    } else if (!option.empty()) {
        Candidate asked = named(option);
        if (chosen) must_be_same(*chosen, asked);
        chosen = std::move(asked);
    }

    if (!chosen && (texts || evaluates_text || was_given(opt, "prompt") || !opt.chat.empty())) {
        if (!not_used.empty()) die_with(EXIT_USAGE, "%s; --tokenizer must name one", not_used[0].c_str());
        if (!opt.chat.empty()) die_with(EXIT_USAGE, "--chat: no tokenizer.json beside the model: --tokenizer must name one");
        if (!weights.empty()) die_with(EXIT_USAGE, "%s: no tokenizer beside the model: --tokenizer must name one", weights.c_str());
        if (shards) {
            const std::string& shard = *std::find_if_not(files.begin(), files.end(), is_text_file);
            open_shard(shard);  // or is it none?
            die_with(EXIT_USAGE, "%s: no tokenizer beside the token shards: --tokenizer must name one", shard.c_str());
        }
    }
    for (const std::string& why : not_used) printf("%s: not used\n", on_one_line(why).c_str());
    // a new model: bytes are as good as any
    if (!chosen && weights.empty() && !shards) chosen = Candidate{Tokenizer::bytes(), "bytes", "as none is named"};
    if (!chosen) return {{}, format("none: token ids, vocabulary %s", weights.empty() ? "by the format of the shards" : "of the model")};
    const int tokens = chosen->tokenizer.vocab_size();
    if (!weights.empty() && (tokens > V || (chosen->place != "beside the model" && !fits(tokens, V))))
        die_with(EXIT_USAGE, "--tokenizer: %s has %d tokens, but %s has a vocabulary of %d", chosen->path.c_str(), tokens, weights.c_str(), V);
    std::string special = texts && chosen->tokenizer.has_other_specials() ? opt.text_special ? "; special tokens in the text are taken as such" :
                          "; special tokens in the text are taken as plain text (--text-special)" : "";
    return {std::move(chosen->tokenizer), format("%s, %s: %d tokens%s", chosen->path.c_str(), chosen->place.c_str(), tokens, special.c_str())};
}
