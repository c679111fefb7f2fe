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
    //{ a bit for each phase from the first to the last: what is written in 1 and read in 3 must be there in 2
    const int first = *std::min_element(phases, phases + n), last = *std::max_element(phases, phases + n);
    unsigned live = 0;
    for (int p = first; p <= last; p++) live |= 1u << p;
    return live;
    //} return BLANK;
}

// ---- 2. the peak: the bytes that no plan can do without
size_t peak(const std::vector<Buffer>& buffers) {
    //{ of all phases, the largest sum of the bytes that it needs
    size_t most = 0;
    for (int p = 0; p < 32; p++) {
        size_t sum = 0;
        for (const Buffer& b : buffers) if (b.live >> p & 1) sum += b.bytes;
        most = std::max(most, sum);
    }
    return most;
    //} return BLANK;
}

// ---- 3. first fit: the lowest place for one more buffer
// `placed` is sorted by offset; those in it that share no phase may overlap each other.
size_t lowest_place(const Buffer& b, const std::vector<Placed>& placed) {
    size_t offset = 0;
    for (const Placed& other : placed) {
        //{ if b, at `offset`, would share a byte and a phase with the other: b goes behind it
        const bool together = b.live & other.live, overlaps = offset < other.offset + other.bytes && other.offset < offset + b.bytes;
        if (together && overlaps) offset = other.offset + other.bytes;
        //} BLANK;
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
        //{ its offset; it is placed; the allocation ends where the last buffer ends
        offsets[i] = lowest_place(b, placed);
        insert_sorted(placed, {offsets[i], b.bytes, b.live});
        total = std::max(total, offsets[i] + b.bytes);
        //} BLANK;
    }
    return total;
}
// The buffers' numbers, the largest first; of equal ones the smaller number first.
std::vector<int> largest_first(const std::vector<Buffer>& buffers) {
    std::vector<int> order(buffers.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
    //{ sort them
    std::sort(order.begin(), order.end(), [&](int a, int b) { return buffers[a].bytes != buffers[b].bytes ? buffers[a].bytes > buffers[b].bytes : a < b; });
    //} BLANK;
    return order;
}

// ---- 5. the fewest bytes
// offsets of a plan with the fewest bytes that are possible, and these bytes. There are at most 6 buffers.
size_t fewest(std::vector<size_t>& offsets, const std::vector<Buffer>& buffers) {
    //{ first fit in every order: one of them gives the best plan
    std::vector<int> order(buffers.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
    std::vector<size_t> here(buffers.size());
    size_t best = (size_t)-1;
    do {
        const size_t total = plan_in_order(here, buffers, order);
        if (total < best) best = total, offsets = here;
    } while (std::next_permutation(order.begin(), order.end()));
    return best;
    //} return BLANK;
}
