// progress.h: where a run was: the checkpoint that it goes on from, what trainer.json says of it, and whether there is anything left to do.
#pragma once
#include <climits>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include "../base/check.h"
#include "../io/checkpoint.h"
#include "../io/files.h"
#include "../io/json.h"
#include "../io/state_pieces.h"
#include "../layers/step_stats.h"
#include "../model/config.h"
#include "../model/config_names.h"
#include "best.h"
#include "named_files.h"
#include "options.h"
#include "resume.h"
#include "run.h"

namespace run_detail {
// The newest checkpoint that verifies, if there is one; it says what it does. Rank 0 looks, for all.
inline void find_checkpoint(Run& run) {
    Checkpoint newest;
    if (run.lock && is_folder(run.out)) clean_up_checkpoints(run.out);
    if (run.comm.rank == 0) newest = find_newest_checkpoint(run.out);
    newest.step = run.comm.broadcast(newest.step), newest.path = run.comm.broadcast(newest.path);
    if (newest.step < 0 && !list_checkpoints(run.out).empty())
        die("%s: none of its checkpoints can be resumed, which is said of each above; one that is whole, but not good, is resumed when its BAD_ file is removed; to start afresh move them away, or give another --out", run.out.c_str());
    if (newest.step < 0 && run.opt.steps == 0) die_with(EXIT_USAGE, "%s: no checkpoint to resume, and --steps 0 trains none", run.out.c_str());
    if (newest.step < 0) {
        if (run.lock) repair_done(run.out, -1);
        return (void)printf("%s: no checkpoint: starts afresh\n", on_one_line(run.out).c_str());
    }
    if (run.opt.steps != 0 && !is_file(newest.path + "/" + state_file(0)))
        die_with(EXIT_USAGE, "%s: has no optimizer state, as --steps 0 writes none: -e %s with another --out trains it", newest.path.c_str(), newest.path.c_str());
    if (run.lock) repair_done(run.out, newest.step);
    run.weights = newest.path, run.resumed = true;
}

inline void read_window(Window& window, const Json& json, const char* name, const std::string& path) {
    for (const Json& x : json.at(name, path).as_array(path)) {
        CHECK(window.count < Window::SIZE, "%s: %s has more than %d numbers", path.c_str(), name, Window::SIZE);
        window.values[window.count++] = x.as_double(path);
    }
}

// A run that goes on has its checkpoint's model. What the run began with may be gone by now, or be another; anything else that is named must at
// least have the checkpoint's sizes.
inline void check_named_model(const Run& run, const Json& trainer, const std::string& path) {
    const Json *saved = trainer.find("options"), *began_with = saved ? saved->find("model") : nullptr;
    const std::string& named = run.opt.model;
    if (!was_given(run.opt, "model") || (began_with && is_same_name(named, began_with->as_string(path)))) return;
    const Config is = config_of_files(run.weights);
    const std::string difference = config_difference(is_folder(named) || is_bin_model(named) ? config_of_files(named) : config_by_name(named, is.V), is);
    if (!difference.empty()) die_with(EXIT_USAGE, "--model: '%s' given, is not the model of %s: %s", named.c_str(), run.weights.c_str(), difference.c_str());
}

}  // namespace run_detail

// Where a run was, by trainer.json of its checkpoint.
inline Json read_progress(Run& run, const std::string& checkpoint) {
    using namespace run_detail;
    const std::string path = checkpoint + "/trainer.json";
    Json json = json_parse(read_file(path), path);
    run.history = {}, run.best = {};
    run.first_step = (int)json.at("step", path).as_int(path, 0, INT_MAX);
    run.position = (uint64_t)json.at("position", path).as_int(path, 0);
    read_window(run.history.losses, json, "losses", path);
    read_window(run.history.norms, json, "norms", path);
    run.log_position.main_log = json.at("main_log", path).as_int(path, 0);
    run.log_position.metrics = json.at("metrics", path).as_int(path, 0);
    if (const Json* best = json.find("best")) run.best = best_from_json(*best, path);
    if (const Json* rollbacks = json.find("rollbacks")) run.rollbacks = (int)rollbacks->as_int(path, 0, INT_MAX);
    return json;
}

namespace run_detail {
// trainer.json of the checkpoint that is resumed.
inline void read_trainer_state(Run& run) {
    if (!run.resumed) return;
    const std::string path = run.weights + "/trainer.json";
    const Json json = read_progress(run, run.weights);
    const int of_name = checkpoint_detail::step_of(run.weights.substr(run.weights.rfind('/') + 1));  // what follows is saved by the step, and is the newest by its name
    CHECK(of_name == run.first_step, "%s: step is %d, must be that of the folder's name, %d: was it renamed?", path.c_str(), run.first_step, of_name);
    if (const Json* choices = json.find("autotuned"))
        for (const Json& line : choices->as_array(path)) run.autotuned.push_back(line.as_string(path));
    if (const Json* seconds = json.find("seconds")) run.seconds = seconds->as_double(path);
    if (const Json* n = json.find("train_tokens")) run.train_tokens = n->as_int(path, 0);
    if (const Json* n = json.find("val_tokens")) run.val_tokens = n->as_int(path, 0);
    if (const Json* sum = json.find("data_checksum")) run.data_checksum = sum->as_string(path);
    check_named_model(run, json, path);
    keep_chosen(run.opt, json, path);
    const Json *options = json.find("options"), *named = options ? options->find("optimizer") : nullptr;
    const std::string optimizer = named ? named->as_string(path) : "adamw";
    if (run.opt.optimizer != optimizer && run.opt.steps != 0)
        die_with(EXIT_USAGE, "--optimizer: '%s'%s, must be %s, whose state %s has", run.opt.optimizer.c_str(), was_given(run.opt, "optimizer") ? " given" : " where it is left out", on_one_line(optimizer).c_str(), run.weights.c_str());
    printf("resume   %s: goes on after step %d\n", on_one_line(run.weights).c_str(), run.first_step);
    const Json *saved = json.find("options"), *ranks = saved ? saved->find("nproc") : nullptr, *tokens = json.find("tokens_per_step");
    const Json* leaves = saved ? saved->find("leaves") : nullptr;
    const bool of_ranks = leaves && leaves->as_string(path) != "1";  // now or before: the tokens of a step are not a matter of how many there are
    if (ranks && tokens && run.opt.total_batch == 0 && (of_ranks || run.opt.nproc > 1)) {
        run.opt.total_batch = tokens->as_int(path, 1);
        if (ranks->as_string(path) != std::to_string(run.opt.nproc))
            printf("resume   --total-batch %lld, as it was on %s rank%s\n", (long long)run.opt.total_batch, ranks->as_string(path).c_str(), ranks->as_string(path) == "1" ? "" : "s");
    }
    for (const std::string& line : compare_options(run.opt, json, is_file(run.weights + "/tokenizer.json"), path)) {
        printf("resume   %s\n", on_one_line(line).c_str());
        if (line.starts_with("--val-data ") || line.starts_with("--val-batches ")) run.best = {};  // its loss was another's
        if (line.starts_with("--train-data ") || line.starts_with("--val-data ")) run.train_tokens = run.val_tokens = -1, run.data_checksum.clear();  // other data, which is said
    }
}
}  // namespace run_detail

// Whole lines behind the first `from` bytes of a file that have one of two words in them.
inline size_t count_lines(const std::string& path, int64_t from, const char* word, const char* other) {
    std::string text;
    if (!try_read_file(path, text).empty()) return 0;
    size_t count = 0;
    for (size_t at = (size_t)from, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
        const std::string_view line = std::string_view(text).substr(at, end - at);
        count += line.find(word) != line.npos || line.find(other) != line.npos;
    }
    return count;
}
// The checkpoint is of the last step, or of a later one: true, and said; unless the run was ended before the `due` validations and evaluations that
// follow its last step had their lines in both logs, one of which may have lost them with the power: then they are made.
inline bool is_finished(const Run& run, size_t due) {
    if (!run.resumed || run.opt.steps == 0 || run.first_step < run.steps) return false;
    if (run.first_step == run.steps && (count_lines(run.out + "/metrics.jsonl", run.log_position.metrics, "\"val_loss\": ", "\"eval\": ") < due ||
                                        count_lines(run.out + "/main.log", run.log_position.main_log, " tel:", " eval:") < due)) return false;
    const bool by_clock = run.opt.minutes > 0 && run.opt.steps != run.steps;
    printf("step %d of %d: nothing to do%s; a larger %s goes on, -x 0 validates\n", run.first_step, run.steps,
           run.first_step == run.steps ? ": the run is finished" : "", by_clock ? "--minutes" : "--steps");
    return true;
}

// Rank 0 decides: another one may see an older file.
inline bool nothing_to_do(const Run& run, size_t due) { return run.comm.broadcast(run.comm.rank == 0 && is_finished(run, due)); }
