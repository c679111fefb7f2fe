// flight_recorder.h: what this rank asked of the others: the last 100 operations, for the moment when one of them does not answer.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>
#include "../base/check.h"

constexpr int EXIT_COMM = 3;  // another rank is gone, hangs, or is at something else: a restart may help

// One operation between ranks. Every rank has the same ones in the same order, so that `sequence` names an operation of the run.
struct Operation {
    uint64_t sequence = 0;
    const char* what = "";  // "exchange", "all_gather", ...
    size_t bytes = 0;       // of this rank
    int step = -1;          // of training; -1: before it
    double began = 0, ended = -1;  // seconds since the recorder was made; -1: not yet
};

class FlightRecorder {
    using Clock = std::chrono::steady_clock;
    static constexpr size_t KEPT = 100;
    Operation last_[KEPT];
    uint64_t count_ = 0;
    const Clock::time_point start_ = Clock::now();

public:
    int step = -1;           // that is being made
    std::string path;        // of the file that save() writes
    double deadline = 3600;  // seconds that an operation may take; between steps and before them: data are tokenized, weights saved, questions answered
    double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
    const Operation& begin(const char* what, size_t bytes) {
        count_++;
        return last_[count_ % KEPT] = {count_, what, bytes, step, seconds()};
    }
    void end() { last_[count_ % KEPT].ended = seconds(); }
    // It was only asked for: the GPU has not done it yet.
    void reopen(uint64_t sequence) {
        Operation& o = last_[sequence % KEPT];
        if (o.sequence == sequence) o.ended = -1;
    }
    const Operation& now() const { return last_[count_ % KEPT]; }

    // A line for each operation, oldest first.
    std::string text() const {
        std::string lines;
        for (uint64_t n = count_ > KEPT ? count_ - KEPT + 1 : 1; n <= count_; n++) {
            const Operation& o = last_[n % KEPT];
            lines += ::format("rank %d step %d operation %llu %s bytes %zu began %.6f %s\n", g_rank, o.step, (unsigned long long)o.sequence, o.what, o.bytes, o.began,
                              o.ended < 0 ? "open" : ::format("ended %.6f", o.ended).c_str());
        }
        return lines;
    }
    // As well as it can: it is called when something else has failed. What to say of it at the end of a line.
    std::string save() const {
        FILE* file = path.empty() ? nullptr : fopen(path.c_str(), "w");
        if (!file) return "";
        fputs(text().c_str(), file);
        fclose(file);
        return "; the last operations: " + path;
    }
};

// The deadline of operations within steps, by how long steps take.
class StepDeadline {
    double given_;               // --comm-timeout; 0: by the steps
    std::vector<double> steps_;  // seconds of the last ones

public:
    explicit StepDeadline(double given) : given_(given) {}
    void step_took(double seconds) {
        if (steps_.size() == 32) steps_.erase(steps_.begin());
        steps_.push_back(seconds);
    }
    double seconds() const {
        if (given_ > 0) return given_;
        if (steps_.empty()) return 600;  // kernels are loaded, memory is touched for the first time
        std::vector<double> sorted = steps_;
        std::nth_element(sorted.begin(), sorted.begin() + (long)(sorted.size() / 2), sorted.end());
        return std::max(10.0, 5 * sorted[sorted.size() / 2]);
    }
    // Of those between steps: weights are saved, questions answered.
    double between_steps() const { return given_ > 0 ? 10 * given_ : FlightRecorder().deadline; }
};

// Of this process.
inline FlightRecorder& flight_recorder() {
    static FlightRecorder one;
    return one;
}
