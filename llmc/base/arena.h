// arena.h: plans every buffer of a run before the first byte is allocated, prints the plan, allocates once.
// A buffer has a live range, the phases of a step in which it is needed; buffers whose live ranges do not overlap may share the same bytes.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>
#include "check.h"
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
inline void arena_poison(void* p, size_t n) { __asan_poison_memory_region(p, n); }
inline void arena_unpoison(void* p, size_t n) { __asan_unpoison_memory_region(p, n); }
#else
inline void arena_poison(void*, size_t) {}
inline void arena_unpoison(void*, size_t) {}
#endif

// Of a GPU's memory, what a plan leaves: modules, graphs and libraries take theirs later, from what is outside of the arena.
constexpr double GPU_KEPT_FREE = 0.05;

// What happens in a step, in order; GENERATE and validation happen between steps.
enum Phase : unsigned { FORWARD = 1, CLASSIFY = 2, BACKWARD_MLP = 4, BACKWARD_ATTENTION = 8, UPDATE = 16, GENERATE = 32,
                        BACKWARD = BACKWARD_MLP | BACKWARD_ATTENTION, ALWAYS = 63 };

class Arena {
public:
    struct Buffer { std::string name; const char* category; size_t bytes; unsigned live_range; bool apart; size_t offset = 0; char* memory = nullptr; };
    static constexpr size_t ALIGN = 256;  // what every vector load, TMA and cuBLASLt are content with

    // Under AddressSanitizer every buffer has its own bytes and poisoned red zones, so that an overrun inside the arena is
    // seen like any other. Separate buffers, each an allocation of its own, are for tools that watch allocations.
    explicit Arena(bool separate_buffers = false, bool red_zones = ARENA_RED_ZONES) : separate(separate_buffers), red_zone(red_zones ? 4096 : 0) {}
    ~Arena() { arena_unpoison(base, base ? total - apart_end : 0), arena_unpoison(apart_base, apart_base ? apart_end : 0); }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    // Returns the buffer's number. Zero bytes are allowed: pointer() is then null. What is apart shares nothing, and lies in an allocation of its own.
    size_t add(std::string name, const char* category, size_t bytes, unsigned live_range, bool apart = false) {
        CHECK(!apart || live_range == ALWAYS, "%s: apart, and not needed always", name.c_str());
        buffers.push_back({std::move(name), category, bytes, live_range, apart});
        return buffers.size() - 1;
    }

    // First fit, what is apart first, then the largest: each buffer takes the lowest place that no buffer with an overlapping live range uses.
    void plan() {
        std::vector<size_t> order(buffers.size());
        for (size_t i = 0; i < order.size(); i++) order[i] = i;
        std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
            if (buffers[a].apart != buffers[b].apart) return buffers[a].apart;
            return buffers[a].bytes != buffers[b].bytes ? buffers[a].bytes > buffers[b].bytes : a < b;
        });
        std::vector<const Buffer*> placed;  // sorted by offset
        total = red_zone, apart_end = 0;
        for (size_t i : order) {
            Buffer& buffer = buffers[i];
            buffer.offset = red_zone;
            for (const Buffer* other : placed) {
                bool together = (buffer.live_range & other->live_range) || red_zone || separate;
                bool overlaps = buffer.offset < end_of(*other) && other->offset < end_of(buffer);
                if (together && overlaps) buffer.offset = end_of(*other);
            }
            placed.insert(std::upper_bound(placed.begin(), placed.end(), &buffer,
                          [](const Buffer* a, const Buffer* b) { return a->offset < b->offset; }), &buffer);
            total = std::max(total, end_of(buffer));
            if (buffer.apart) apart_end = total;
        }
    }

    size_t bytes() const { return total; }
    size_t bytes_of(const std::string& category) const {  // of its buffers, whatever they share
        size_t sum = 0;
        for (const Buffer& buffer : buffers) sum += category == buffer.category ? buffer.bytes : 0;
        return sum;
    }

    // Names and places of what is apart: whoever looks into another process's memory must find there what is here.
    std::string places_apart() const {
        std::string text;
        for (const Buffer& buffer : buffers) if (buffer.apart) text += buffer.name + " " + std::to_string(buffer.offset) + " " + std::to_string(buffer.bytes) + "\n";
        return text;
    }

    // Takes the planned memory: all at once by one call of take(bytes), or one by one; what is apart at once by take_apart(bytes).
    template <class Take> void allocate(Take take) { allocate(take, take); }
    template <class Take, class TakeApart> void allocate(Take take, TakeApart take_apart) {
        if (apart_end) apart_base = (char*)take_apart(apart_end);
        if (!separate) base = (char*)take(total - apart_end);
        for (Buffer& buffer : buffers)
            if (buffer.bytes) buffer.memory = buffer.apart ? apart_base + buffer.offset : separate ? (char*)take(buffer.bytes) : base + (buffer.offset - apart_end);
        if (!red_zone || separate) return;
        arena_poison(base, total - apart_end), arena_poison(apart_base, apart_end);
        for (const Buffer& buffer : buffers) arena_unpoison(buffer.memory, buffer.bytes);
    }
    template <class X> X* pointer(size_t buffer) const { return (X*)buffers[buffer].memory; }

    // The plan by category, in MiB. A category may be smaller than its buffers: those that share memory.
    void print(const char* title) const {
        printf("%s\n", title);
        std::vector<const char*> seen;
        size_t sum = 0;
        for (const Buffer& buffer : buffers) {
            if (std::find(seen.begin(), seen.end(), buffer.category) != seen.end()) continue;
            seen.push_back(buffer.category);
            size_t category = 0;
            std::string names;
            for (const Buffer& r : buffers) if (r.category == buffer.category && r.bytes) {
                category += r.bytes;
                if (names.size() < 60) names += (names.empty() ? "" : " ") + r.name;
                else if (!names.ends_with("...")) names += " ...";
            }
            if (category) printf("  %-20s %10.1f MiB  %s\n", buffer.category, (double)category / (1 << 20), names.c_str());
            sum += category;
        }
        if (sum >= total + (1 << 20) / 20) printf("  %-20s %10.1f MiB  of buffers that are not needed at the same time\n", "saved by sharing", -(double)(sum - total) / (1 << 20));
        printf("  %-20s %10.1f MiB\n", "total", (double)total / (1 << 20));
    }

private:
#ifdef ARENA_ASAN
    static constexpr bool ARENA_RED_ZONES = true;
#else
    static constexpr bool ARENA_RED_ZONES = false;
#endif
    size_t end_of(const Buffer& buffer) const { return buffer.offset + (buffer.bytes + ALIGN - 1) / ALIGN * ALIGN + red_zone; }
    std::vector<Buffer> buffers;
    bool separate;
    size_t red_zone, total = 0, apart_end = 0;
    char *base = nullptr, *apart_base = nullptr;
};
