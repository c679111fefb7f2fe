// confirm.h: which checkpoints are good: those whose step and the --confirm steps after it passed the step guard; of the last one of a run, its own.
// Damage shows in the steps that follow, so nothing is pruned for a checkpoint before it is known to be good, and --resume 1 goes back behind one that is not.
// Every rank comes to the same verdicts, rank 0 writes them down.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>
#include "../io/checkpoint.h"
#include "run.h"

// A model that knows nothing has the loss ln V. One that is twice as bad is sure of what is wrong: its weights are ruined. NaN is too.
inline bool is_ruined(double loss, int V) { return !(loss <= 2 * std::log((double)V)); }
inline std::string why_ruined(double loss, int V) { return format("loss %.4g, must be below %.4g, twice that of a model that knows nothing: its weights are ruined", loss, 2 * std::log((double)V)); }

// Of a step. failed: why it did not pass the step guard, empty if it did.
struct StepVerdict { int step = -1; std::string failed; };

class Confirmation {
    const Run& run_;
    std::deque<int> pending_;  // checkpoints of which nothing is known yet, oldest first
    int newest_good_ = -1;
    std::string failed_;       // why the last step did not pass

    bool writes() const { return run_.comm.rank == 0; }
    void mark(int step, void (*good)(const std::string&, int)) {
        if (writes()) good(run_.out, step);
        newest_good_ = std::max(newest_good_, step);
    }
    // Saved for its validation alone, and another one is the best by now. Unless that is a last step beside the others, which is not validated again if the
    // run is made longer: then this one is the best again.
    bool is_superseded(int step) const {
        const Options& opt = run_.opt;
        const int known = opt.on_spike == "rollback" ? before_spike(newest_good_ + 1).step : newest_good_;  // what the run does not go back behind
        return opt.patience > 0 && step != run_.best.step && run_.best.step <= known && !every(opt.checkpoint_every, step, false) && !(opt.major > 0 && step % opt.major == 0) && every(opt.val_every, step, false) && every(opt.val_every, run_.best.step, false);
    }

  public:
    Files files = Files::REMOVED;  // of what it prunes

    // What was not known when the run was interrupted is found out after all.
    explicit Confirmation(const Run& run) : run_(run) {
        if (run.resumed && run.opt.steps != 0 && writes() && is_good(run.out, run.first_step)) newest_good_ = run.first_step;
        std::vector<int> unknown;
        if (run.resumed && run.opt.steps != 0 && writes())
            for (const Checkpoint& c : list_checkpoints(run.out))
                if (c.step <= run.first_step && c.step + (int64_t)run.opt.confirm > run.first_step && !is_confirmed(run.out, c.step) && why_bad(run.out, c.step).empty()) unknown.push_back(c.step);
        unknown.resize((size_t)run.comm.broadcast((int)unknown.size()));
        for (int step : unknown) pending_.push_back(run.comm.broadcast(step));
    }

    const std::string& failed() const { return failed_; }
    bool is_due(int step) const { return !pending_.empty() && pending_.front() + (int64_t)run_.opt.confirm <= step; }

    void look(const StepVerdict& verdict) {
        failed_ = verdict.failed;
        if (failed_.empty()) return;
        for (int step : pending_)  // where the run began with one, it may be by other options that it came to this
            if (writes() && !(run_.resumed && step == run_.first_step)) mark_bad(run_.out, step, format("step %d after it: %s", verdict.step, failed_.c_str()));
        pending_.clear();
    }
    // ruined: why its weights are, empty if they are not.
    void saved(int step, const std::string& ruined) {
        if (failed_.empty() && ruined.empty()) pending_.push_back(step);
        else if (writes()) mark_bad(run_.out, step, failed_.empty() ? ruined : "its own step: " + failed_);
    }
    // All steps to this one have passed.
    void confirm(int step) {
        if (!is_due(step)) return;
        for (; is_due(step); pending_.pop_front()) mark(pending_.front(), mark_good);
        prune(step);
    }
    // If the last step passed and was saved, that is all that can be known of its checkpoint.
    void is_last(int step) {
        if (!pending_.empty() && pending_.back() == step && (step > run_.first_step || !run_.resumed)) mark(step, mark_last), pending_.pop_back();
    }
    // The run ends after this step. One that was interrupted goes on, and will know more: it prunes nothing.
    void ends(int step, bool interrupted) {
        is_last(step);
        if (!interrupted) prune(step);
    }
    // To which a spike in this step leads back: the newest of those that --checkpoint-every makes and later steps confirmed, so that an interrupted run
    // returns to where the undisturbed one does.
    Checkpoint before_spike(int spike) const {
        Checkpoint found;
        for (const Checkpoint& c : list_checkpoints(run_.out))
            if (every(run_.opt.checkpoint_every, c.step, false) && c.step < spike && is_confirmed(run_.out, c.step)) found = c;
        return found;
    }
    // The run goes back there: what it saved since is of a course that it leaves.
    void goes_back(const Checkpoint& to, const StepVerdict& spike) {
        if (writes())
            for (const Checkpoint& c : list_checkpoints(run_.out))
                if (c.step > to.step && c.step <= spike.step) mark_bad(run_.out, c.step, format("step %d after it: %s: the run went back to step %d", spike.step, spike.failed.c_str(), to.step));
        pending_.clear(), failed_.clear(), newest_good_ = to.step;
    }

    void prune(int step) {
        const Options& opt = run_.opt;
        if (!writes() || newest_good_ < 0) return;
        std::vector<int> spared;
        if (opt.patience) spared.push_back(run_.best.step);
        if (opt.on_spike == "rollback") spared = {run_.best.step, before_spike(step + 1).step}, spared.insert(spared.end(), pending_.begin(), pending_.end());
        prune_checkpoints(run_.out, opt.keep, opt.major, newest_good_, spared, files);
        std::vector<Checkpoint> list;
        say_not_pruned(try_list_checkpoints(run_.out, list));
        for (const Checkpoint& c : list)
            if (c.step < newest_good_ && is_superseded(c.step)) drop_checkpoint(run_.out, c.step, files);
    }
};
