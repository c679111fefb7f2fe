// background.h: one thread that does one job at a time beside its owner, and sleeps between them. It is started with its owner: what is begun days later
// needs nothing that may have run out by then.
#pragma once
#include <atomic>
#include <functional>
#include <thread>
#include <utility>

class Background {
    enum State { IDLE, BUSY, ENDS };
    std::atomic<int> state_{IDLE};
    std::function<void()> job_;
    std::thread thread_{[this] {
        for (;;) {
            state_.wait(IDLE, std::memory_order_acquire);
            if (state_.load(std::memory_order_acquire) == ENDS) return;
            job_();
            change(IDLE);
        }
    }};
    void change(State to) { state_.store(to, std::memory_order_release), state_.notify_all(); }

public:
    Background() = default;
    Background(const Background&) = delete;
    ~Background() { wait(), change(ENDS), thread_.join(); }

    void start(std::function<void()> job) { wait(), job_ = std::move(job), change(BUSY); }
    bool is_busy() const { return state_.load(std::memory_order_acquire) == BUSY; }
    // What the job wrote is there when this returns, or when is_busy() is false.
    void wait() const { state_.wait(BUSY, std::memory_order_acquire); }
};
