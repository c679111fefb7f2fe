// arena.h: plans every buffer of a run before the first byte is allocated, prints the plan, allocates once.
// A row says in which phases of a step it is needed; rows that are never needed together may share the same bytes.
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
    struct Row { std::string name; const char* category; size_t bytes; unsigned phases; size_t offset = 0; char* memory = nullptr; };
    static constexpr size_t ALIGN = 256;  // what every vector load, TMA and cuBLASLt are content with

    // Under AddressSanitizer every row has its own bytes and poisoned red zones, so that an overrun inside the arena is
    // seen like any other. Separate rows, each an allocation of its own, are for tools that watch allocations.
    explicit Arena(bool separate_rows = false, bool red_zones = ARENA_RED_ZONES) : separate(separate_rows), red_zone(red_zones ? 4096 : 0) {}
    ~Arena() { arena_unpoison(base, base ? total : 0); }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    // Returns the row's number. Zero bytes are allowed: pointer() is then null.
    size_t add(std::string name, const char* category, size_t bytes, unsigned phases) {
        rows.push_back({std::move(name), category, bytes, phases});
        return rows.size() - 1;
    }

    // First fit, largest first: each row takes the lowest place that no row alive in the same phase uses.
    void plan() {
        std::vector<size_t> order(rows.size());
        for (size_t i = 0; i < order.size(); i++) order[i] = i;
        std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
            return rows[a].bytes != rows[b].bytes ? rows[a].bytes > rows[b].bytes : a < b;
        });
        std::vector<const Row*> placed;  // sorted by offset
        total = red_zone;
        for (size_t i : order) {
            Row& row = rows[i];
            row.offset = red_zone;
            for (const Row* other : placed) {
                bool together = (row.phases & other->phases) || red_zone || separate;
                bool overlaps = row.offset < end_of(*other) && other->offset < end_of(row);
                if (together && overlaps) row.offset = end_of(*other);
            }
            placed.insert(std::upper_bound(placed.begin(), placed.end(), &row,
                          [](const Row* a, const Row* b) { return a->offset < b->offset; }), &row);
            total = std::max(total, end_of(row));
        }
    }

    size_t bytes() const { return total; }

    // Takes the planned memory: all at once by one call of take(bytes), or row by row.
    template <class Take> void allocate(Take take) {
        if (!separate) base = (char*)take(total);
        for (Row& row : rows) if (row.bytes) row.memory = separate ? (char*)take(row.bytes) : base + row.offset;
        if (!red_zone || separate) return;
        arena_poison(base, total);
        for (const Row& row : rows) arena_unpoison(base + row.offset, row.bytes);
    }
    template <class X> X* pointer(size_t row) const { return (X*)rows[row].memory; }

    // The plan by category, in MiB. A category may be smaller than its rows: those that share.
    void print(const char* title) const {
        printf("%s\n", title);
        std::vector<const char*> seen;
        size_t sum = 0;
        for (const Row& row : rows) {
            if (std::find(seen.begin(), seen.end(), row.category) != seen.end()) continue;
            seen.push_back(row.category);
            size_t category = 0;
            std::string names;
            for (const Row& r : rows) if (r.category == row.category && r.bytes) {
                category += r.bytes;
                if (names.size() < 60) names += (names.empty() ? "" : " ") + r.name;
                else if (!names.ends_with("...")) names += " ...";
            }
            if (category) printf("  %-20s %10.1f MiB  %s\n", row.category, (double)category / (1 << 20), names.c_str());
            sum += category;
        }
        if (sum > total) printf("  %-20s %10.1f MiB\n", "shared", -(double)(sum - total) / (1 << 20));
        printf("  %-20s %10.1f MiB\n", "total", (double)total / (1 << 20));
    }

private:
#ifdef ARENA_ASAN
    static constexpr bool ARENA_RED_ZONES = true;
#else
    static constexpr bool ARENA_RED_ZONES = false;
#endif
    size_t end_of(const Row& row) const { return row.offset + (row.bytes + ALIGN - 1) / ALIGN * ALIGN + red_zone; }
    std::vector<Row> rows;
    bool separate;
    size_t red_zone, total = 0;
    char* base = nullptr;
};
