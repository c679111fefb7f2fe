// save.h: a checkpoint of the run: what every rank writes of it, and what trainer.json says; and how training goes on while it is written.
#pragma once
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include "../base/background.h"
#include "../data/shards.h"
#include "../io/checkpoint_writer.h"
#include "../io/json.h"
#include "../model/config_json.h"
#include "../model/model.h"
#include "../model/modeling_modern.h"
#include "../model/model_files.h"
#include "../model/same_weights.h"
#include "../model/state_files.h"
#include "best.h"
#include "confirm.h"
#include "log.h"
#include "run.h"

// The losses and norms against which the next ones are checked.
template <class F> void set_history(Model<F>& model, const History& history) {
    *model.host_history = history;
    copy_to_device(model.history, model.host_history, sizeof(History), model.stream);
    synchronize(model.stream);
}
template <class F> const History& get_history(Model<F>& model) {
    copy_to_host(model.host_history, model.history, sizeof(History), model.stream);
    synchronize(model.stream);
    return *model.host_history;
}

// Weights, optimizer state and history of a checkpoint of the run, whose progress was read.
template <class F> void load_training_state(Run& run, Model<F>& model, const std::string& folder) {
    run.prefix = load_folder(model, folder);
    if (std::string done = load_state(model, folder); !done.empty()) printf("resume   %s\n", done.c_str());
    set_history(model, run.history);
}

// Of a step that is to be saved. position: of the data. logged, best: as they were before its validation, which a run that goes on from here makes again.
// ruined: why its weights are, empty if they are not.
struct SavedStep { int step; uint64_t position; Log::Position logged; Best best; std::string ruined; };

// What this rank has of the checkpoint is given to the writer: copied to the model's snapshot if there is one, else written.
template <class F> void add_files(const Run& run, Model<F>& model, const SavedStep& now, CheckpointWriter& checkpoint) {
    const Comm& comm = run.comm;
    const History& history = get_history(model);
    Json trainer = Json::object();
    trainer.add("version", VERSION).add("step", now.step).add("position", now.position);
    trainer.add("seconds", run.seconds).add("main_log", now.logged.main_log).add("metrics", now.logged.metrics).add("rollbacks", run.rollbacks);
    trainer.add("train_tokens", count_tokens(run.train)).add("val_tokens", count_tokens(run.val)).add("data_checksum", run.data_checksum).add("best", best_to_json(now.best));
    Json losses = Json::array(), norms = Json::array(), options = Json::object(), chosen = Json::array(), autotuned = Json::array();
    for (int i = 0; i < history.losses.count; i++) losses.push(history.losses.values[i]), norms.push(history.norms.values[i]);
    for (auto& [name, value] : describe(run.opt)) options.add(name, value);
    for (const std::string& field : run.opt.chosen) chosen.push(field);
    for (const std::string& line : run.autotuned) autotuned.push(line);
    trainer.add("losses", losses).add("norms", norms).add("options", options).add("chosen", chosen).add("autotuned", autotuned);
    trainer.add("tokens_per_step", (int64_t)run.B * run.T * run.grad_accum * comm.world);
    if (comm.rank == 0) {
        checkpoint.add_text("trainer.json", json_dump(trainer, 2) + "\n");
        checkpoint.add_text("config.json", config_to_json(run.config, run.has_tokenizer ? run.tokenizer.eot() : -1,
                                                          std::is_same_v<F, float> ? "float32" : "bfloat16", run.config_text));
        if (run.has_tokenizer) checkpoint.add_text("tokenizer.json", run.tokenizer.to_json());
        if (run.config.arch.model_type == FAMILIES[MODERN].model_type) checkpoint.add_text("modeling_modern.py", MODELING_MODERN);
        for (const KeptFile& file : run.kept) checkpoint.add_text(file.name, file.text);
        const bool kept = std::any_of(run.kept.begin(), run.kept.end(), [](const KeptFile& file) { return file.name == "tokenizer_config.json"; });
        if (run.has_tokenizer && !kept) checkpoint.add_text("tokenizer_config.json", run.tokenizer.config_json());
    }
    save_weights(model, checkpoint, run.prefix);
    if (model.options.train) save_state(model, checkpoint, comm);
}

// A save has three parts, so that training waits for little of it (--async-save):
// 1. begin: the state is copied to the host's memory, which takes less than a step
// 2. a thread writes and syncs the files from this copy; it touches neither ranks, nor the device, nor anything that training changes
// 3. finish: the loop's thread gives the checkpoint its name, at the end of a step in which the threads of all ranks are done, and it begins to be confirmed
// Every rank begins and finishes it in the same steps. At most one is on its way; whatever must find it there, or changes what it counts on, finishes it before:
// the next save, a step that did not pass, a rollback, the end of the run. A process that is killed meanwhile leaves what one leaves that is killed while it saves.
template <class F> class Saver {
    const Run& run_;
    Model<F>& model_;
    Log& log_;
    Confirmation& confirmation_;
    std::unique_ptr<CheckpointWriter> writer_;  // of the one on its way
    SavedStep now_{};
    double waited_ = 0, written_ = 0;           // seconds: by training, by the thread
    std::optional<Background> thread_;          // last: it ends before what it reads

public:
    Saver(const Run& run, Model<F>& model, Log& log, Confirmation& confirmation) : run_(run), model_(model), log_(log), confirmation_(confirmation) {
        if (!is_async()) return;
        thread_.emplace();
        confirmation.files = Files::LEFT;  // to the thread
    }

    bool is_async() const { return model_.options.copy_to_save; }
    bool is_on_its_way() const { return writer_ != nullptr; }
    bool is_writing() const { return thread_ && thread_->is_busy(); }  // of this rank
    int step() const { return now_.step; }

    void begin(const SavedStep& now) {
        CHECK(!writer_, "step %d: the checkpoint of step %d is not finished", now.step, now_.step);
        const Clock::time_point start = Clock::now();
        const Comm& comm = run_.comm;
        if (thread_) thread_->wait();  // it may still remove files
        check_same_weights(model_, comm, now.step);  // damaged ones are not saved
        now_ = now;
        writer_ = std::make_unique<CheckpointWriter>(run_.out, now.step, SaveRanks{comm.rank, comm.world, [this] { run_.comm.barrier(); }}, SnapshotMemory{model_.snapshot, model_.snapshot_bytes()});
        add_files(run_, model_, now, *writer_);
        CHECK(writer_->copy_is_full(), "step %d: fewer bytes of a checkpoint than the %zu that were planned", now.step, model_.snapshot_bytes());
        written_ = 0;
        if (thread_) thread_->start([this] {
            const Clock::time_point began = Clock::now();
            writer_->write_files();
            written_ = seconds_since(began);
        });
        waited_ = seconds_since(start);
    }
    // passed: all steps to this one have.
    void finish(int passed) {
        if (!writer_) return;
        const Clock::time_point start = Clock::now();
        if (thread_) thread_->wait();
        log_.sync();  // before the checkpoint has its name: it counts on what they hold
        writer_->commit();
        writer_.reset();
        waited_ += seconds_since(start);
        log_.say(format("saved    step %d: training waited %.2f s", now_.step, waited_) + (is_async() ? format(", written in %.2f s", written_) : ""));
        confirmation_.saved(now_.step, now_.ruined);
        confirm(passed);
    }
    // Not while one is on its way: no earlier one goes before it is there.
    void confirm(int passed) {
        if (writer_ || !confirmation_.is_due(passed)) return;
        confirmation_.confirm(passed);
        if (thread_ && run_.comm.rank == 0 && !thread_->is_busy()) thread_->start([this] { remove_dropped(run_.out); });
    }
    // The run ends. One that was interrupted goes on, and prunes nothing.
    void end(int step, bool interrupted) {
        finish(step);
        confirmation_.ends(step, interrupted);
        if (!thread_) return;
        thread_->wait();
        if (run_.comm.rank == 0 && !run_.out.empty()) remove_dropped(run_.out);
    }
};
