// device.h: what a backend must offer besides layers: memory, copies, streams, events, graphs. On a CPU the device is the host, work is
// done when the call returns, and streams, events and graphs are empty.
#pragma once
#include <sys/mman.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>
#include "../base/check.h"
#include "../base/limits.h"
#include "../layers/autotune.h"
#include "../layers/kernel_options.h"
#include "../base/threads.h"

#ifndef MADV_HUGEPAGE  // of Linux alone
#define MADV_HUGEPAGE MADV_NORMAL
#endif

struct CpuStream {};
using stream_t = CpuStream;
struct CpuEvent {};
using event_t = CpuEvent;
constexpr const char* BACKEND = "cpu";
constexpr bool RANKS_ARE_GPUS = false;
inline void use_device(int) {}

// Memory of the one arena: zeroed, never freed before the run ends. Huge pages where the system has them: the first touch of a
// gigabyte then takes a fifth of the time.
inline void* device_alloc(size_t bytes) {
    constexpr size_t HUGE = 2 << 20;
    size_t reserve = bytes + HUGE;
    char* p = (char*)mmap(nullptr, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED, "out of memory: %.1f MiB for the arena; a smaller --batch or a higher --recompute takes less",
          (double)bytes / (1 << 20));
    p += HUGE - (size_t)p % HUGE;
    madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}
inline void* pinned_alloc(size_t bytes) { return device_alloc(bytes); }

// By all threads: the first touch of a page costs more than the copy.
inline void copy_to_device(void* device, const void* host, size_t bytes, stream_t) {
    constexpr size_t PIECE = 1 << 20;
    parallel_blocks(bytes, PIECE, [=](size_t begin, size_t end) { memcpy((char*)device + begin, (const char*)host + begin, end - begin); });
}
inline void copy_to_host(void* host, const void* device, size_t bytes, stream_t stream) { copy_to_device(host, device, bytes, stream); }
inline void copy_on_device(void* to, const void* from, size_t bytes, stream_t stream) { copy_to_device(to, from, bytes, stream); }
inline void zero(void* device, size_t bytes, stream_t) { memset(device, 0, bytes); }
inline void synchronize(stream_t) {}

// Kernels here need no workspace and have no options: temporaries are on the stack.
inline stream_t open_stream(StreamOptions) { return {}; }
inline size_t workspace_bytes(size_t, int, int, int) { return 0; }

// An event marks a place in a stream's order of work; here that place has been reached when the call returns.
inline event_t make_event() { return {}; }
inline void record(event_t, stream_t) {}
inline void wait(event_t) {}
inline void wait(stream_t, event_t) {}
inline bool reached(event_t) { return true; }

// An event of each step, and the time between two of them.
class StepEvent {
public:
    void create() {}
    void begin(stream_t) { now_ = std::chrono::steady_clock::now(); }  // what comes before is not part of the next step
    void record(stream_t) { before_ = std::exchange(now_, std::chrono::steady_clock::now()); }
    void wait() const {}
    bool reached() const { return true; }
    // Between the last two.
    double seconds() const { return std::chrono::duration<double>(now_ - before_).count(); }

private:
    std::chrono::steady_clock::time_point before_, now_;
};

// On a GPU work that is the same each time is captured once, as a graph, and replayed; here it is done anew.
struct CpuGraph {};
using graph_t = CpuGraph;
template <class Work> void replay(graph_t, stream_t, Work work) { work(); }
inline void destroy(graph_t) {}

// No kernels to load, nothing to autotune.
template <class Work> std::string warm_up_and_autotune(stream_t, const Autotune& from, Work) {
    return from.given.empty() ? "" : format("all %zu are of %s, here is a CPU", from.given.size(), from.given[0].substr(0, from.given[0].find(' ')).c_str());
}
inline std::vector<std::string> autotuned_choices() { return {}; }

inline std::string device_name() { return format("cpu, %d threads", max_threads()); }

// Bytes of this machine's memory for each of so many ranks.
constexpr double KEPT_FREE = 0;  // share of it that a plan leaves free
inline double device_memory(int ranks) { return usable_memory(ranks); }
inline size_t card_memory() { return 0; }  // there is no card

// Memory bandwidth, bytes a second that all threads together read: the fastest of ten passes over memory that is already allocated.
inline double measure_bandwidth(const void* memory, size_t bytes) {
    const uint64_t* words = (const uint64_t*)memory;
    double best = 0;
    std::atomic<uint64_t> used = 0;  // or else the compiler leaves the loads out
    for (int pass = 0; pass < 10; pass++) {
        auto start = std::chrono::steady_clock::now();
        parallel_blocks(bytes / 8, 1 << 17, [&](size_t begin, size_t end) {
            uint64_t sum = 0;
            for (size_t i = begin; i < end; i += 8) sum += words[i];  // a word of each cache line
            used += sum;
        });
        best = std::max(best, (double)bytes / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}
