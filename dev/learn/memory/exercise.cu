// The memory plan, part by part: doc/learn/memory.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-memory` says how far it is.
// A step has phases 0, 1, 2, ..., at most 32. A buffer's live range is a mask: bit p is set if what stands in it is needed in phase p. Two buffers may share bytes if no phase needs both:
// if (a.live & b.live) == 0. Offsets and bytes are counted from the beginning of one allocation. Everything runs on the host.
#include <algorithm>
#include <vector>

struct Buffer { size_t bytes; unsigned live; };
struct Placed { size_t offset, bytes; unsigned live; };  // it has the bytes offset .. offset + bytes - 1

// ---- 1. the live range of a buffer
// phases holds n numbers, at least one, in any order: the phases that write or read the buffer.
unsigned live_range(const int* phases, int n) {
    return BLANK;  // a bit for each phase from the first to the last: what is written in 1 and read in 3 must be there in 2
}

// ---- 2. the peak: the bytes that no plan can do without
size_t peak(const std::vector<Buffer>& buffers) {
    return BLANK;  // of all phases, the largest sum of the bytes that it needs
}

// ---- 3. first fit: the lowest place for one more buffer
// `placed` is sorted by offset; those in it that share no phase may overlap each other.
size_t lowest_place(const Buffer& b, const std::vector<Placed>& placed) {
    size_t offset = 0;
    for (const Placed& other : placed) {
        BLANK;  // if b, at `offset`, would share a byte and a phase with the other: b goes behind it
    }
    return offset;
}

// ---- 4. a plan: largest first
// Puts one more into `placed`, which stays sorted.
void insert_sorted(std::vector<Placed>& placed, const Placed& x) {
    placed.insert(std::upper_bound(placed.begin(), placed.end(), x, [](const Placed& a, const Placed& b) { return a.offset < b.offset; }), x);
}
// offsets[i] is to be that of buffers[i]; gives the bytes of the whole allocation. Each buffer of `order` in turn gets the lowest place that those before it leave.
size_t plan_in_order(std::vector<size_t>& offsets, const std::vector<Buffer>& buffers, const std::vector<int>& order) {
    std::vector<Placed> placed;
    size_t total = 0;
    for (int i : order) {
        const Buffer& b = buffers[i];
        BLANK;  // its offset; it is placed; the allocation ends where the last buffer ends
    }
    return total;
}
// The buffers' numbers, the largest first; of equal ones the smaller number first.
std::vector<int> largest_first(const std::vector<Buffer>& buffers) {
    std::vector<int> order(buffers.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
    BLANK;  // sort them
    return order;
}

// ---- 5. the fewest bytes
// offsets of a plan with the fewest bytes that are possible, and these bytes. There are at most 6 buffers.
size_t fewest(std::vector<size_t>& offsets, const std::vector<Buffer>& buffers) {
    return BLANK;  // first fit in every order: one of them gives the best plan
}
