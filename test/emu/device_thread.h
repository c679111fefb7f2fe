// device_thread.h: the device's thread: kernels run there, so that their static shared memory is nobody else's.
#pragma once
#include <unistd.h>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace emu {
class DeviceThread {
public:
    DeviceThread() : thread([this] { loop(); }) {}
    ~DeviceThread() {
        { std::lock_guard<std::mutex> lock(mutex); stop = true; }
        changed.notify_all();
        thread.join();
    }
    void run(const std::function<void()>& work) {
        std::unique_lock<std::mutex> lock(mutex);
        job = &work;
        changed.notify_all();
        changed.wait(lock, [&] { return !job; });
    }

private:
    void loop() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return job || stop; });
            if (stop) return;
            (*job)();
            job = nullptr;
            changed.notify_all();
        }
    }
    std::mutex mutex;
    std::condition_variable changed;
    const std::function<void()>* job = nullptr;
    bool stop = false;
    std::thread thread;
};
inline DeviceThread& device_thread() {
    static DeviceThread* thread = nullptr;
    static pid_t owner = 0;  // a forked child has no threads but its own: it gets a new one
    if (owner != getpid()) thread = new DeviceThread, owner = getpid();
    return *thread;
}
}  // namespace emu
