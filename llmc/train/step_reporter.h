// step_reporter.h: logs a step when its statistics have arrived from the device: on a GPU that is while the next step runs.
#pragma once
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include "../comm/flight_recorder.h"
#include "../layers/step_stats.h"
#include "../model/model.h"
#include "../model/verify.h"
#include "confirm.h"
#include "log.h"
#include "replay.h"

inline std::string why_skipped(const StepStats& v) {
    return v.skip == NOT_FINITE ? "loss or norm is not finite"
                                : format("%s is %.1f deviations above the last 128", v.skip == LOSS_SPIKE ? "loss" : "norm", v.z);
}

template <class F> class StepReporter {
public:
    struct Rates { int steps; double tokens, flops, peak; };  // of the run; a step's; the machine's FLOP/s
    StepReporter(Model<F>& m, Log& l, Rates r, const Record& rec, double comm_timeout) : model(m), log(l), rates(r), record(rec), step_deadline(comm_timeout) { restart_clock(); }

    // The update of a step has been launched and is in flight. The next step's statistics will overwrite this one's.
    // seconds_left: INFINITY where the number of steps decides, not the clock.
    void launched(int step, double lr, double seconds_left) { in_flight = {step, lr, seconds_left}; }
    // What comes between steps is not part of one.
    void restart_clock() { last_report = Clock::now(), model.step_checked.begin(model.stream); }
    double deadline() const { return step_deadline.seconds(); }  // of what ranks do together within a step
    double deadline_between_steps() const { return step_deadline.between_steps(); }
    // Waits for the step in flight, if there is one, and reports it. Ten skipped updates in a row end the run.
    void report() {
        if (!in_flight) return;
        model.step_checked.wait();
        const StepStats stats = *model.host_step_stats;
        const int step = in_flight->step + 1;
        if (const std::string changed = what_changed(model); !changed.empty()) die("step %d: %s; nothing of this step is saved", step, changed.c_str());
        if (stats.not_finite) die("step %d: %s; nothing of this step is saved", step, what_is_not_finite(model).c_str());
        const double seconds = model.step_checked.seconds();
        step_deadline.step_took(seconds_since(last_report));  // ranks wait for each other by the host's clock
        last_report = Clock::now();
        seconds_a_step = seconds_a_step ? 0.9 * seconds_a_step + 0.1 * seconds : seconds;
        Log::Step line = {};  // field by field: CUDA 12.4's front end loses their names in a member of a class template
        line.step = step, line.steps = std::isinf(in_flight->seconds_left) ? rates.steps : 0, line.loss = stats.loss, line.norm = stats.norm, line.lr = in_flight->lr, line.seconds = seconds;
        line.tokens = rates.tokens, line.flops = rates.flops, line.peak = rates.peak, line.seconds_left = std::min(in_flight->seconds_left, seconds_a_step * (rates.steps - step));
        if (stats.skip) line.skipped = why_skipped(stats);
        log.step(line);
        in_flight.reset();
        if (!record.empty() && is_recorded) {
            const std::string other = compare_with_record(record, step, Log::number(stats.loss), Log::number(stats.norm));
            if (is_recorded = other.empty(); !is_recorded) log.say(other);
        }
        verdict = {step, stats.skip ? line.skipped : is_ruined(stats.loss, model.config.V) ? why_ruined(stats.loss, model.config.V) : ""};
        skipped_in_a_row = stats.skip ? skipped_in_a_row + 1 : 0;
        if (stats.skip) log.say(format("step %d: update skipped: %s", step, line.skipped.c_str()));
        CHECK(skipped_in_a_row < 10, "step %d: 10 updates in a row were skipped: %s; try a lower --lr or an earlier checkpoint", step, why_skipped(stats).c_str());
    }
    // On the step that was reported last; of each once, then its step is -1.
    StepVerdict take_verdict() { return std::exchange(verdict, {}); }
    // The run is back at an earlier step.
    void forget() { skipped_in_a_row = 0, restart_clock(); }

private:
    struct InFlight { int step; double lr, seconds_left; };
    Model<F>& model;
    Log& log;
    const Rates rates;
    const Record& record;  // that is replayed; empty: none
    bool is_recorded = true;
    StepDeadline step_deadline;
    std::optional<InFlight> in_flight;
    int skipped_in_a_row = 0;
    StepVerdict verdict;
    double seconds_a_step = 0;
    Clock::time_point last_report = Clock::now();
};
