// start_deadline.h: a deadline for what has none of its own and is no operation yet: the start of MPI, in which a rank waits for all others, also for one that
// is stopped or has never begun.
#pragma once
#include <unistd.h>
#include <atomic>
#include <memory>
#include <thread>
#include "flight_recorder.h"

class StartDeadline {
    const std::shared_ptr<std::atomic<bool>> done_ = std::make_shared<std::atomic<bool>>(false);

public:
    static constexpr double SECONDS = 300;  // as by tcp and fs: batch systems start the ranks of a large run minutes apart
    explicit StartDeadline(const char* what, double limit = SECONDS) {
        std::thread([what, limit, done = done_] {
            const double end = flight_recorder().seconds() + limit;
            while (!*done && flight_recorder().seconds() < end) usleep(20'000);
            if (!*done) die_with(EXIT_COMM, "%s: not all ranks have come within %.4g s: is one of them stopped, or has it never begun?", what, limit);
        }).detach();
    }
    ~StartDeadline() { *done_ = true; }
    StartDeadline(const StartDeadline&) = delete;
};
