// resume.h: what is said about a run that goes on: where, what differs from the command that began it, and when there is nothing to do.
#pragma once
#include <algorithm>
#include <string>
#include <vector>
#include "../io/json.h"
#include "options.h"

// Options that do not change what is computed or written: this machine's matter, or the word to resume itself.
inline bool is_of_this_machine(const std::string& field) {
    const char* fields[] = {"resume", "threads", "async_save", "cache", "separate_buffers", "pdl", "gpu_stats_every", "gpus_per_node", "init", "server", "secret_file", "fs_path", "plan", "rank", "ranks", "gpus", "nproc", "zero", "comm_timeout"};
    return std::find(std::begin(fields), std::end(fields), field) != std::end(fields);
}

// A folder's name may end with a slash.
inline bool is_same_name(const std::string& a, const std::string& b) { return a.substr(0, a.find_last_not_of('/') + 1) == b.substr(0, b.find_last_not_of('/') + 1); }

// A checkpoint is a file like any other: what it says of an option must be allowed.
inline void set_from(const std::string& path, const options_detail::OptionRow& row, const std::string& value, Options& opt) {
    const std::string right = options_detail::check_value(row, value);
    CHECK(right.empty(), "%s: the option \"%s\" is %s, must be %s", path.c_str(), row.field, json_shown(value).c_str(), right.c_str());
    row.set(opt, value);
}

// What was chosen for the run, by its texts or its recipe, stays so.
inline void keep_chosen(Options& opt, const Json& trainer, const std::string& path) {
    const Json *saved = trainer.find("options"), *chosen = trainer.find("chosen");
    if (!saved || !chosen) return;
    for (const Json& field : chosen->as_array(path))
        for (const options_detail::OptionRow& row : options_detail::TABLE)
            if (const Json* value = saved->find(row.field); value && field.as_string(path) == row.field && !was_given(opt, row.field))
                set_from(path, row, value->as_string(path), opt), opt.given.push_back(row.field), opt.chosen.push_back(row.field);
}

// The checkpoint's options against ours: a line each. The model is the checkpoint's, whatever the command names; so is the tokenizer where the
// command names none, or if `has_tokenizer`: then it lies in the checkpoint and is taken from there.
inline std::vector<std::string> compare_options(Options& opt, const Json& trainer, bool has_tokenizer, const std::string& path) {
    std::vector<std::string> lines;
    const Json* saved = trainer.find("options");
    if (!saved) return lines;
    for (const options_detail::OptionRow& row : options_detail::TABLE) {
        const Json* value = saved->find(row.field);
        if (!value || is_of_this_machine(row.field)) continue;
        const std::string was = value->as_string(path), now = row.text(opt);
        const bool given = was_given(opt, row.field), is_model = !strcmp(row.field, "model"), is_tokenizer = !strcmp(row.field, "tokenizer");
        if (was == now || ((is_model || !strcmp(row.field, "out")) && is_same_name(was, now))) continue;
        if (!strcmp(row.field, "total_batch") && !given && now != "0") continue;  // kept, and said: progress.h
        if (!strcmp(row.field, "recipe") && !given) { set_from(path, row, was, opt); continue; }  // what it names is kept, or said below
        if (!strcmp(row.field, "leaves") && (!given || now == "0")) { set_from(path, row, was, opt); continue; }  // the sums stay in their order, whatever the number of ranks
        if (!strcmp(row.field, "classifier_rows") && (!given || now == "0")) {  // likewise; of another micro-batch they are chosen anew, as bits are others anyway
            const auto is_as_it_was = [&](const char* field, const std::string& is) { const Json* text = saved->find(field); return text && text->as_string(path) == is; };
            if (is_as_it_was("batch", opt.batch) && is_as_it_was("seq", std::to_string(opt.seq))) set_from(path, row, was, opt);
            continue;
        }
        const bool ignored = is_model || (is_tokenizer && has_tokenizer);
        if (ignored || (!given && is_tokenizer)) set_from(path, row, was, opt);
        if (!given && row.text(opt) == was) continue;
        lines.push_back(format("%s %s%s, was %s", row.name().c_str(), now.empty() ? "''" : now.c_str(), !given ? " (not given)" : !ignored ? "" :
                               is_model ? ": the checkpoint's weights are used" : ": ignored, the checkpoint has its own", was.empty() ? "''" : was.c_str()));
    }
    return lines;
}
