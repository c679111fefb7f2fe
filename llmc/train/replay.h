// replay.h: --replay OUT repeats the run that wrote OUT, bit for bit: OUT/metrics.jsonl has its options, the learning rate of each step and the
// last step, which is all that a run by the clock decides while it runs.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include "../io/files.h"
#include "../io/json.h"
#include "options.h"
#include "resume.h"

// Losses and norms as they are written, to be compared. position: where the data went on before the step, if the run had rolled back to there; else -1.
struct RecordedStep { double lr; std::string loss, grad_norm; int64_t position; int rollbacks; };
using Record = std::vector<RecordedStep>;                         // of step 1, 2, ...

namespace replay_detail {
using options_detail::OptionRow, options_detail::TABLE;
inline bool is_one_of(const char* field, std::initializer_list<const char*> fields) {
    return std::any_of(fields.begin(), fields.end(), [&](const char* f) { return !strcmp(f, field); });
}
// The rest is what a run says and writes beside its weights, and this machine's matter.
inline bool changes_weights(const OptionRow& row) {
    return !is_one_of(row.group, {"Output", "Sampling"}) && !is_of_this_machine(row.field) && strcmp(row.field, "replay");
}
// All that these decide are learning rates, the last step and where the data go on, which are recorded; but what follows the rate, groups' rates and decay, is a part of the peak, which is not.
inline bool is_schedule(const OptionRow& row, bool follows) { return !(follows && !strcmp(row.field, "lr")) && is_one_of(row.field, {"steps", "minutes", "lr", "warmup", "final_lr_frac", "schedule", "cooldown", "on_spike", "rollbacks"}); }
inline const OptionRow* find_row(const std::string& field) {
    for (const OptionRow& row : TABLE) if (field == row.field) return &row;
    return nullptr;
}
}  // namespace replay_detail

// Puts the options of the recorded run into `opt`, for a run of as many steps. Whatever is wrong is said before anything is written. Nothing
// without --replay.
inline Record open_record(Options& opt) {
    using namespace replay_detail;
    Record record;
    if (opt.replay.empty()) return record;
    for (const OptionRow& row : TABLE)
        if (changes_weights(row) && was_given(opt, row.field))
            die_with(EXIT_USAGE, "%s: given beside --replay, which takes it from the run that it repeats: leave one of them out", row.name().c_str());

    const std::string path = opt.replay + "/metrics.jsonl";
    std::string text;
    if (std::string error = try_read_file(path, text); !error.empty()) die_with(EXIT_USAGE, "--replay: no record of a run: %s", error.c_str());
    int number = 0;
    const auto refuse = [&](const std::string& what) { die_with(EXIT_USAGE, "--replay: %s: line %d: %s", path.c_str(), number, what.c_str()); };
    Json first, run;  // options of the run that began, and of the one that the steps below belong to
    bool compared = false;
    int64_t position = -1;
    int rollbacks = 0;
    if (const size_t whole = text.rfind('\n') + 1; whole < text.size()) {  // rfind: npos + 1 is 0
        printf("replay   %s: its last line is not whole, and not used\n", on_one_line(path).c_str());
        text.resize(whole);
    }
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size()), number++;
        Json line;
        if (std::string error = json_try_parse(line, std::string_view(text).substr(at, end - at), number); !error.empty())
            die_with(EXIT_USAGE, "--replay: %s: %s", path.c_str(), error.c_str());
        if (const Json* options = line.find("run")) {
            run = *options, compared = false;
            if (const Json* batch = line.find("batch"))  // what --batch auto chose
                for (Json& option : run.items) if (option.key == "batch") option.text = batch->text;
            const Json *tokens = line.find("tokens_per_step"), *ranks = run.find("nproc");
            if (tokens && ranks && ranks->text != "1")  // what as many ranks make of one micro-batch each
                for (Json& option : run.items) if (option.key == "total_batch" && option.text == "0") option.text = tokens->text;
        }
        if (run.type != Json::OBJECT) refuse("is not the beginning of a run");
        if (const Json* rollback = line.find("rollback")) {
            if (line.at("step", path).as_int(path, 0) != (int64_t)record.size()) refuse(format("a rollback to step %zu must be here", record.size()));
            position = rollback->at("position", path).as_int(path, 0), rollbacks = (int)rollback->at("count", path).as_int(path, 0);
        }
        const Json *lr = line.find("lr"), *step = line.find("step"), *loss = line.find("loss"), *norm = line.find("grad_norm");
        if (!lr) continue;
        if (!step || step->text != std::to_string(record.size() + 1) || lr->type != Json::NUMBER || !loss || !norm)
            refuse(format("step %zu with its learning rate must be here", record.size() + 1));
        if (record.empty()) first = run;
        if (!compared) for (const Json& option : run.items) {
            const OptionRow* row = find_row(option.key);
            const Json* was = first.find(option.key);
            const Json *optimizer = first.find("optimizer"), *decay = first.find("decay_schedule");
            const bool follows = (optimizer && optimizer->text == "muon") || (decay && decay->text == "lr");
            if (row && was && was->text != option.text && changes_weights(*row) && !is_schedule(*row, follows) && !is_one_of(row->field, {"model", "tokenizer", "recipe"}))  // the checkpoint's; other options
                refuse(format("from step %zu on the run had %s %s, was %s: such a run cannot be repeated", record.size() + 1, row->name().c_str(), option.text.c_str(), was->text.c_str()));
        }
        compared = true;
        if (!std::isfinite((float)lr->as_double(path))) refuse(format("lr is %s, must be a number that a float holds", lr->text.c_str()));
        record.push_back({lr->as_double(path), json_dump(*loss), json_dump(*norm), std::exchange(position, -1), rollbacks});
    }
    if (record.empty()) die_with(EXIT_USAGE, "--replay: %s: no step is recorded", path.c_str());

    for (const Json& option : first.items) {
        const OptionRow* row = find_row(option.key);
        if (!row || option.type != Json::STRING || !check_value(*row, option.text).empty())
            die_with(EXIT_USAGE, "--replay: %s: %s %s is no option of this version", path.c_str(), option.key.c_str(), option.shown().c_str());
        if (was_given(opt, row->field) || is_of_this_machine(row->field) || is_one_of(row->field, {"out", "export_bin", "replay"})) continue;
        row->set(opt, option.text);
        if (changes_weights(*row)) opt.given.push_back(row->field);
    }
    if (opt.reduce == "nccl") die_with(EXIT_USAGE, "--replay: %s: its gradients were added by the library (--reduce nccl), in an order that nothing records: such a run cannot be repeated", path.c_str());
    opt.steps = (int)record.size(), opt.minutes = 0;
    if (opt.patience && !was_given(opt, "patience")) opt.patience = INT_MAX;  // the best is kept, and the last step is the recorded one
    return record;
}

// Empty, or what shows that this step is not the recorded one.
inline std::string compare_with_record(const Record& record, int step, const std::string& loss, const std::string& grad_norm) {
    const RecordedStep& was = record[(size_t)step - 1];
    if (loss == was.loss && grad_norm == was.grad_norm) return "";
    return format("step %d is not the recorded one: loss %s, norm %s, were %s, %s: other data, or another machine?", step, loss.c_str(), grad_norm.c_str(), was.loss.c_str(), was.grad_norm.c_str());
}
