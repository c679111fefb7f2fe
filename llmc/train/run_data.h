// run_data.h: the files of a run: its tokenizer, the data to train and to validate on, and whether they are those that it began with.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>
#include "../base/child.h"
#include "../data/data.h"
#include "../data/shards.h"
#include "../data/text.h"
#include "../io/json.h"
#include "../model/config_names.h"
#include "../tokenizer/tokenizer.h"
#include "kept_files.h"
#include "named_files.h"
#include "options.h"
#include "run.h"
#include "text_defaults.h"
#include "tokenizer_choice.h"

namespace run_detail {
// The tokenizer, and where it is from: tokenizer_choice.h. Rank 0 chooses, and learns it if it is to be learned, for all. Of the model's folder also the
// files that are kept, and which tokens end a text.
inline void open_tokenizer(Run& run, bool evaluates_text) {
    const Options& opt = run.opt;
    if (run.comm.rank != 0) {
        run.has_tokenizer = run.comm.broadcast(false);
        if (!run.has_tokenizer) return;
        run.tokenizer = Tokenizer::from_json(run.comm.broadcast(std::string()), "rank 0's tokenizer");
        std::vector<int> ends((size_t)run.comm.broadcast(0));
        for (int& id : ends) id = run.comm.broadcast(0);
        run.tokenizer.set_ends(ends);
        return;
    }
    TokenizerChoice choice = choose_tokenizer(opt, run.weights, run.weights.empty() ? 0 : run.config.V, run.resumed, evaluates_text, text_options(opt));
    run.has_tokenizer = choice.tokenizer.has_value();
    if (choice.tokenizer) run.tokenizer = std::move(*choice.tokenizer), run.tokenizer.set_ends(end_tokens(run.weights, run.tokenizer));
    run.kept = read_kept_files(run.weights);
    run.tokenizer_is = choice.from, run.to_learn = choice.to_learn;
    if (run.comm.world == 1) return;
    run.comm.broadcast(run.has_tokenizer);
    if (!run.has_tokenizer) return;
    run.comm.broadcast(run.tokenizer.to_json());
    run.comm.broadcast((int)run.tokenizer.ends().size());
    for (int id : run.tokenizer.ends()) run.comm.broadcast(id);
}

// Dies if one cannot be read, before anything is written.
inline void find_files(const Options& opt) {
    if (opt.train_data.empty() && opt.steps != 0)
        die_with(EXIT_USAGE, "--train-data: missing; give a text file (-i my.txt) or token shards (-i 'data/*_train_*.bin')");
    std::vector<std::string> patterns;
    if (!opt.train_data.empty()) for (const SourceName& source : parse_sources(opt.train_data)) patterns.push_back(source.pattern);
    if (!opt.val_data.empty()) patterns.push_back(opt.val_data);
    bool text = false, lines = false;
    for (const std::string& pattern : patterns) {
        text |= names_text(pattern);
        for (const std::string& path : list_files(pattern)) close(shards_detail::open_file(path)), lines |= text_detail::is_jsonl(path);
    }
    if (!lines && opt.skip_bad) die_with(EXIT_USAGE, "--skip-bad: %d given, but the data hold no %s", opt.skip_bad, text ? ".jsonl" : "text");
    if (!text && opt.text_special) die_with(EXIT_USAGE, "--text-special: 1 given, but the data hold no text");
}

// One file may be named twice, by a pattern as data/*.bin too.
inline void say_what_is_in_both(const Run& run) {
    const auto is = [](const Shard& shard) { struct stat s; return stat(shard.path.c_str(), &s) == 0 ? std::pair<dev_t, ino_t>(s.st_dev, s.st_ino) : std::pair<dev_t, ino_t>(); };
    std::set<std::pair<dev_t, ino_t>> trained;
    for (const Source& source : run.train) for (const Shard& shard : source.shards) trained.insert(is(shard));
    const auto both = std::find_if(run.val.begin(), run.val.end(), [&](const Shard& shard) { return trained.count(is(shard)); });
    if (both != run.val.end()) printf("data     %s is trained on and validated on: the validation loss says nothing of other text\n", on_one_line(names_text(run.opt.val_data) ? run.opt.val_data : both->path).c_str());
}

inline void open_files(Run& run) {
    const Options& opt = run.opt;
    if (opt.train_data.empty() && opt.val_data.empty()) return;
    const std::vector<std::string> files = tokenizer_choice_detail::data_files(opt);
    const bool text = std::any_of(files.begin(), files.end(), is_text_file);
    const std::string folder = !run.out.empty() ? run.out : text ? cache_folder("") : "", cache = folder.empty() ? "" : folder + "/tokens";
    if (!opt.val_data.empty()) {
        run.val = open_data(opt.val_data, run.tokenizer, cache, text_options(opt));
        if (const std::string side = opt.val_data + ".floor"; is_file(side)) {
            const std::string error = error_of([&] { json_parse(read_file(side), side).at("bits_per_byte", side).as_double(side); });
            if (error.empty()) run.floor = json_parse(read_file(side), side).at("bits_per_byte", side).as_double(side);
            else printf("%s: not used\n", on_one_line(error).c_str());
        }
    }
    if (opt.train_data.empty()) return;
    for (const SourceName& source : parse_sources(opt.train_data))
        run.train.push_back({source.pattern, open_data(source.pattern, run.tokenizer, cache, text_options(opt)), source.weight});
    if (run.comm.rank == 0) say_what_is_in_both(run);
}

// --plan: data that are not there are planned without.
inline void find_planned_data(Run& run) {
    Options& opt = run.opt;
    if (opt.train_data.empty() && opt.val_data.empty()) return;
    if (const std::string error = error_of([&] { find_files(opt); }); !error.empty()) {
        run.assumed += format("plan     %s: planned without data\n", error.c_str());
        opt.train_data = opt.val_data = "";
    }
}
// --plan reads what is there, learns and tokenizes nothing, and does without data that are not on this machine.
inline void plan_files(Run& run, bool evaluates_text) {
    const Options& opt = run.opt;
    const std::vector<std::string> files = tokenizer_choice_detail::data_files(opt);
    run.has_tokenizer = false;
    if (!files.empty() || !opt.tokenizer.empty() || !run.weights.empty()) open_tokenizer(run, evaluates_text);
    if (std::none_of(files.begin(), files.end(), is_text_file)) open_files(run);
    run.out.clear();
}

// The vocabulary is the tokenizer's; without one the shard's format says it: GPT-2's in 16 bits, Llama 3's in 32.
inline void choose_vocabulary(Run& run) {
    if (!run.weights.empty()) return;
    const Shards& shards = run.train.empty() ? run.val : run.train[0].shards;
    const int published = published_vocabulary(run.opt.model);
    run.config.V = run.has_tokenizer ? run.tokenizer.vocab_size() : run.to_learn ? run.to_learn : published ? published : !shards.empty() && shards[0].width == 4 ? 128256 : 50257;
    if (run.has_tokenizer || !shards.empty()) return;
    run.assumed += format("plan     vocabulary %d assumed: %s\n", run.config.V, run.to_learn ? "the run learns a tokenizer of at most so many tokens"
                          : published ? "the published one, as there are no data and no --tokenizer" : "GPT-2's, as there are no data and no --tokenizer");
}

// Without --val-data the last tenth of each text is for validation, whatever the batch. Each source must fill a row.
inline void hold_out_validation(Run& run) {
    for (Source& source : run.train) {
        if (run.opt.val_data.empty() && names_text(source.name)) {
            TrainVal split = hold_out(source.shards, end_of_text(run), source.name);
            source.shards = split.train;
            run.val.insert(run.val.end(), split.val.begin(), split.val.end());
        }
        uint64_t longest = 0;
        for (const Shard& shard : source.shards) longest = std::max(longest, shard.size());
        if (longest < 2) die("%s: %llu tokens to train on, a row takes 2 at least", source.name.c_str(), (unsigned long long)longest);
        if (longest <= (uint64_t)run.T)
            die_with(EXIT_USAGE, "--seq: a row takes %d + 1 tokens, but %s has %llu to train on: use a --seq of at most %llu, or more data", run.T,
                     source.name.c_str(), (unsigned long long)longest, (unsigned long long)(longest - 1));
    }
}
// A file may have changed under its name since the run began: then the order of the data is another, and of a text what was trained on may be
// validated on.
inline void compare_data(Run& run) {
    bool said = false;
    const auto compare = [&](const char* option, int64_t was, uint64_t now) {
        if (was >= 0 && (uint64_t)was != now) said = true, printf("resume   %s: the data have changed: %llu tokens, were %lld\n", option, (unsigned long long)now, (long long)was);
    };
    if (!run.train.empty()) compare("--train-data", run.train_tokens, count_tokens(run.train));
    if (!run.val.empty()) compare("--val-data", run.val_tokens, count_tokens(run.val));
    uint64_t sum = sample_checksum(run.val);
    for (const Source& source : run.train) sum = 31 * sum + sample_checksum(source.shards);
    const std::string checksum = format("%016llx", (unsigned long long)sum);
    if (!run.data_checksum.empty() && run.data_checksum != checksum && !said) printf("resume   the data have changed: as many tokens as before, but others\n");
    run.data_checksum = checksum;
}
}  // namespace run_detail
