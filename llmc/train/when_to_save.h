// when_to_save.h: of which steps a run leaves checkpoints: those that --checkpoint-every names, the last one, the best validation (--patience), one for
// SIGUSR1, the one at which it is interrupted; and why a step has none. What a checkpoint is made of, and how training goes on meanwhile: save.h.
#pragma once
#include <cmath>
#include <optional>
#include <string>
#include "../base/stop.h"
#include "../comm/flight_recorder.h"
#include "../data/data.h"
#include "../io/checkpoint.h"
#include "../model/model.h"
#include "../model/verify.h"
#include "best.h"
#include "confirm.h"
#include "log.h"
#include "run.h"
#include "save.h"
#include "step_reporter.h"
#include "validate.h"

// All ranks call its functions, in the same steps.
template <class F> class Saves {
    Run& run_;
    Model<F>& model_;
    std::optional<DataLoader>&data_, &val_data_;
    Log& log_;
    Confirmation& confirmation_;
    const StepReporter<F>& reporter_;
    Saver<F> saver_;
    const bool resaves_;       // -x 0 -o OUT: what was loaded, as a folder of ours
    bool is_asked_ = false;    // by SIGUSR1 to one rank, for all
    int asked_step_ = -1;      // of which that was saved last
    bool is_owed_ = false;     // a checkpoint that was due in a streak of steps that did not pass
    // the step at hand
    int step_ = 0;
    bool is_last_ = false, is_saved_ = false;
    std::string refused_, ruined_;  // why there is no checkpoint of it; why it, which is saved all the same as it is the last one, is not good
    Log::Position logged_;          // before its validation, which a run that goes on from there makes again
    Best best_;                     // likewise

    bool may_save(int step) const { return (step > run_.first_step || resaves_) && run_.opt.checkpoint_every; }

    void save() {
        if (!may_save(step_) || is_saved_ || !refused_.empty()) return;
        finish(step_);  // the signal to stop may have come since
        if (!confirmation_.failed().empty() && !is_last_) refused_ = confirmation_.failed();
        else if (const double loss = probe(run_, model_, data_, val_data_); is_ruined(loss, run_.config.V)) (is_last_ && std::isfinite(loss) ? ruined_ : refused_) = "of a batch: " + why_ruined(loss, run_.config.V);
        if (!refused_.empty() && !is_owed_) log_.say(format("step %d: no checkpoint: %s", step_, refused_.c_str()));
        if (is_owed_ = !refused_.empty(); is_owed_) return;
        verify_before_saving(model_, step_);
        saver_.begin({step_, data_ ? data_->position() : 0, logged_, best_, ruined_});
        is_saved_ = true;
        if (is_last_ || !saver_.is_async()) finish(step_);
        if (is_last_) confirmation_.is_last(step_);  // before what comes at the end of a run, which may take long
    }

public:
    Saves(Run& run, Model<F>& model, std::optional<DataLoader>& data, std::optional<DataLoader>& val_data, Log& log, Confirmation& confirmation, const StepReporter<F>& reporter)
        : run_(run), model_(model), data_(data), val_data_(val_data), log_(log), confirmation_(confirmation), reporter_(reporter), saver_(run, model, log, confirmation),
          resaves_(run.steps == 0 && !run.out.empty() && !run.resumed) {}

    bool is_writing() const { return saver_.is_writing(); }  // of this rank
    bool is_asked() const { return is_asked_; }
    bool confirms(int step) const { return confirmation_.is_due(step) && !saver_.is_on_its_way(); }
    bool are_due(int step, bool last) const { return may_save(step) && (is_owed_ || is_asked_ || every(run_.opt.checkpoint_every, step, last)); }
    void forget_owed() { is_owed_ = false; }  // the run is back at an earlier step

    // SIGUSR1 has come: a checkpoint is to be made, or why not is said. Ranks get one after the other what a launcher sends to all: the checkpoint that was
    // asked for is that of all of them while it is on its way.
    void ask() {
        const std::string why = run_.opt.checkpoint_every == 0 ? "--checkpoint-every 0 saves none" : run_.opt.steps == 0 ? "--steps 0 trains nothing"
                              : saver_.is_on_its_way() && saver_.step() == asked_step_ ? format("that of step %d is being written", asked_step_) : "";
        if (!why.empty()) log_.say("SIGUSR1: no checkpoint: " + why);
        is_asked_ = why.empty();
    }
    // The checkpoint on its way, if there is one, is waited for. All steps to `passed` have.
    void finish(int passed) {
        if (!saver_.is_on_its_way()) return;
        const double of_a_step = flight_recorder().deadline;
        flight_recorder().deadline = reporter_.deadline_between_steps();
        saver_.finish(passed);
        flight_recorder().deadline = of_a_step;
    }
    void finish_written() {
        if (saver_.is_on_its_way() && !run_.comm.any(saver_.is_writing())) finish(step_);
    }
    // What is saved from here on is of this step, which has passed and was not validated yet.
    void begin_step(int step, bool last) {
        saver_.confirm(step);
        step_ = step, is_last_ = last, is_saved_ = false;
        refused_.clear(), ruined_.clear();
        logged_ = log_.position(), best_ = run_.best;
    }
    void save_due() {
        save();
        if (!is_asked_) return;
        log_.say(is_saved_ ? format("SIGUSR1: saved after step %d, and goes on", step_) : format("SIGUSR1: no checkpoint of step %d: %s", step_, refused_.c_str()));
        is_asked_ = false, asked_step_ = step_;
    }
    // --patience: a validation that is the best so far has its checkpoint saved, and the one that was goes when it is known to be good. True: the run has
    // waited long enough for a better one, and ends.
    bool keep_best(double loss) {
        if (!confirmation_.failed().empty()) return false;
        run_.best.look(step_, loss);
        if (run_.best.step == step_) save();
        if (is_last_ || !run_.best.gives_up(run_.opt.patience)) return false;
        log_.say(format("ends after step %d: %d validations in a row were no better than that of step %d", step_, run_.best.since, run_.best.step));
        save();
        return is_last_ = true;
    }
    // True: it ends here, saved. Else there is no checkpoint of this step, as it did not pass: the run goes on to one that does, which is saved.
    bool interrupt() {
        save(), finish(step_);
        if (may_save(step_) && !is_saved_ && !is_last_ && !confirmation_.failed().empty()) return false;
        saver_.end(step_, true);
        log_.say(format("interrupted after step %d", step_));
        return true;
    }
    void end() {
        CHECK(refused_.empty(), "step %d: ends without a checkpoint: %s; an earlier one is resumed by --resume 1", step_, refused_.c_str());
        saver_.end(step_, false);
        if (run_.opt.patience && run_.opt.steps != 0 && has_checkpoint(run_.out, run_.best.step)) log_.say(format("best     loss %.4f at step %d: %s", run_.best.loss, run_.best.step, checkpoint_path(run_.out, run_.best.step).c_str()));
    }
};
