// clock.h: training by the clock (--minutes): how many steps the run will have, estimated anew before each of them, so that the learning
// rate follows the time that is left whatever the pace is and becomes.
#pragma once
#include <algorithm>
#include <cmath>
#include "../comm/comm.h"

// Time runs from the first step on: validations, samples and checkpoints between steps are in it, what comes before the first step and after
// the last is not. A machine that sleeps stops the clock, a process that is stopped does not.
class StepClock {
    double budget;        // seconds; INFINITY: no clock decides
    double before;        // seconds that the run had when it was resumed
    double seconds_used;  // of which the schedule knows
    double left;          // at the pace so far: more than is left of the budget, where a step takes longer than all of it

  public:
    StepClock(double minutes, double seconds_before) : budget(minutes > 0 ? 60 * minutes : INFINITY), before(seconds_before), seconds_used(seconds_before), left(budget) {}

    // To be called before each step, `elapsed` seconds after training began. The number of steps that the run will have in all, at the pace
    // it had so far; `step` itself when the time is up, to half a step.
    // After a stall beyond the end the rate must still come down, over several steps: one stands for no more of the time than twenty average ones
    // and than a tenth of all. So a run has ten steps even where none fits.
    double steps(int step, double elapsed, const Comm& comm) {
        if (std::isinf(budget)) return seconds_used = before + elapsed, INFINITY;
        if (step == 0) return INFINITY;
        const double now = comm.broadcast(before + elapsed);  // one clock decides: ranks that disagree would wait for each other for ever
        if (now <= 0) return INFINITY;  // resumed from a checkpoint that knows no time
        seconds_used = std::min({now, budget, seconds_used + budget / std::max(10.0, step / 20.0)});
        const double all = step * (budget / seconds_used);
        left = (all - step) * (now / step);
        return all < step + 0.5 ? step : all;
    }

    // Warm-up is a matter of steps, but where few fit it takes no more than a tenth of them.
    double warmup(int given, double steps) const { return std::isinf(budget) ? given : std::min<double>(given, std::floor(steps / 10)); }

    double seconds() const { return seconds_used; }  // for the checkpoint: a resumed run trains for what is left
    double seconds_left() const { return left; }     // INFINITY: no clock decides
};
