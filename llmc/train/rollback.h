// rollback.h: --on-spike rollback: a run whose step did not pass the step guard goes back to its last good checkpoint, and on from there behind the data
// that led to the spike (Chowdhery et al. 2022, "PaLM", section 5.1: a spike is of data and weights together, and does not come again with other data).
//
// Which checkpoint that is depends on steps alone, so that a run that is killed and resumed comes to the same spike and goes back likewise. metrics.jsonl
// records where the data go on, which is all that --replay needs.
#pragma once
#include <cstdint>
#include <string>
#include "../data/data.h"
#include "../io/json.h"
#include "../model/gather.h"
#include "../model/model.h"
#include "confirm.h"
#include "log.h"
#include "progress.h"
#include "run.h"
#include "save.h"

namespace rollback_detail {
inline void record(Log& log, int step, uint64_t position, int count, const StepVerdict& spike) {
    Json json = Json::object(), rollback = Json::object();
    rollback.add("position", position).add("count", count);
    if (spike.step >= 0) rollback.add("spike", spike.step).add("why", spike.failed);
    log.record(json_dump(json.add("step", step).add("rollback", rollback)));
}
}  // namespace rollback_detail

// True: the run is at run.first_step again. `position`: of the data behind the spike. All ranks call it, after the same step.
template <class F> bool roll_back(Run& run, Model<F>& model, DataLoader& data, Log& log, Confirmation& confirmation, const StepVerdict& spike, uint64_t position) {
    const Options& opt = run.opt;
    const Comm& comm = run.comm;
    if (opt.on_spike != "rollback" || !run.record.empty()) return false;  // a replay has its rollbacks from the record
    Checkpoint to;
    if (comm.rank == 0 && run.rollbacks < opt.rollbacks) {
        to = confirmation.before_spike(spike.step);
        if (to.step >= 0)
            if (const std::string error = verify_checkpoint(to.path); !error.empty()) die("step %d: %s: cannot roll back to %s: %s", spike.step, spike.failed.c_str(), to.path.c_str(), error.c_str());
    }
    to.step = comm.broadcast(to.step), to.path = comm.broadcast(to.path);
    if (to.step < 0) {
        log.say(format("step %d: no rollback: %s", spike.step, run.rollbacks < opt.rollbacks ? "there is no good checkpoint yet" : format("%d were made, --rollbacks allows no more", run.rollbacks).c_str()));
        return false;
    }
    await_weights(model);  // what is on its way would come after what is loaded
    synchronize(model.stream), synchronize(model.comm_stream);
    const int rollbacks = run.rollbacks + 1;
    confirmation.goes_back(to, spike);
    read_progress(run, to.path);
    run.rollbacks = rollbacks;
    load_training_state(run, model, to.path);
    if (opt.zero >= 3) gather_weights(model);
    data.seek(position);
    log.cut(run.log_position);
    rollback_detail::record(log, to.step, position, rollbacks, spike);
    log.say(format("rollback %d of %d: step %d: %s: back to %s, and on behind the data of steps %d to %d", rollbacks, opt.rollbacks, spike.step, spike.failed.c_str(), to.path.c_str(), to.step + 1, spike.step));
    return true;
}

// Where the run that is replayed rolled back, its data went on elsewhere.
inline void follow_record(const Run& run, int step, DataLoader& data, Log& log) {
    if (run.record.empty() || run.record[(size_t)step].position < 0) return;
    const RecordedStep& recorded = run.record[(size_t)step];
    data.seek((uint64_t)recorded.position);
    rollback_detail::record(log, step, (uint64_t)recorded.position, recorded.rollbacks, {});
}
