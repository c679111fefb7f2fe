// save.h: a checkpoint of the run: what every rank writes of it, and what trainer.json says.
#pragma once
#include <string>
#include <type_traits>
#include "../data/shards.h"
#include "../io/checkpoint.h"
#include "../io/json.h"
#include "../model/model.h"
#include "../model/model_files.h"
#include "../model/same_weights.h"
#include "../model/state_files.h"
#include "best.h"
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

// `log`, `best`: as they were before this step's validation, which a run that goes on from here makes again.
template <class F> void save_checkpoint(Run& run, Model<F>& model, int step, uint64_t position, Log& log, Log::Position logged, const Best& best) {
    const Comm& comm = run.comm;
    check_same_weights(model, comm, step);  // damaged ones are not saved
    CheckpointWriter checkpoint(run.out, step, {comm.rank, comm.world, [&] { comm.barrier(); }});
    const History& history = get_history(model);
    Json trainer = Json::object();
    trainer.add("version", VERSION).add("step", step).add("position", position);
    trainer.add("seconds", run.seconds).add("main_log", logged.main_log).add("metrics", logged.metrics).add("rollbacks", run.rollbacks);
    trainer.add("train_tokens", count_tokens(run.train)).add("val_tokens", count_tokens(run.val)).add("data_checksum", run.data_checksum).add("best", best_to_json(best));
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
                                                          std::is_same_v<F, float> ? "float32" : "bfloat16"));
        if (run.has_tokenizer) checkpoint.add_text("tokenizer.json", run.tokenizer.to_json());
        if (run.has_tokenizer) checkpoint.add_text("tokenizer_config.json", run.tokenizer.config_json());
    }
    save_weights(model, checkpoint, run.prefix);
    if (model.options.train) save_state(model, checkpoint, comm);
    log.sync();  // before the checkpoint has its name: it counts on what they hold
    checkpoint.commit();
}
