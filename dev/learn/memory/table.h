// table.h: what the parts of the exercise on the memory plan must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
using Buffers = std::vector<::Buffer>;
// The page's five, and others: phases 0 to 3.
inline Buffers of_page() { return {{1, 0b0011}, {2, 0b1110}, {2, 0b0011}, {5, 0b0100}, {3, 0b0001}}; }
// A ring: each shares a phase with the next, the last, which is needed over the end of a step, with the first. No phase needs more than two, and no plan does with two.
inline Buffers ring() { return {{1, 0b00011}, {1, 0b00110}, {1, 0b01100}, {1, 0b11000}, {1, 0b10001}}; }
inline Buffers random_buffers(uint64_t number, size_t n) {
    Buffers b;
    for (size_t i = 0; i < n; i++) {
        const Random4 r = philox(5, RNG_TEST, (uint32_t)number, i);
        const unsigned first = r.x[0] % 4, last = std::min(3u, first + r.x[1] % 3);
        b.push_back({1 + r.x[2] % 5, (2u << last) - (1u << first)});
    }
    return b;
}
inline std::vector<Buffers> cases(size_t n = 6) {
    std::vector<Buffers> all = {of_page(), ring()};
    for (uint64_t i = 0; i < 12; i++) all.push_back(random_buffers(i, n - i % 2));
    return all;
}

enum Mistake { NONE, TIME_IGNORED, BEHIND_LAST, SHARES_ALL, TOUCHING, FIRST_ALONE };
inline size_t place(const ::Buffer& b, const std::vector<Placed>& placed, Mistake m = NONE) {
    size_t offset = 0;
    for (const Placed& o : placed) {
        const bool together = m == TIME_IGNORED || (b.live & o.live), overlaps = m == BEHIND_LAST || (m == FIRST_ALONE ? o.offset <= offset && offset < o.offset + o.bytes
                            : m == TOUCHING ? offset <= o.offset + o.bytes && o.offset <= offset + b.bytes : offset < o.offset + o.bytes && o.offset < offset + b.bytes);
        if (m != SHARES_ALL && together && overlaps) offset = std::max(offset, o.offset + o.bytes);
    }
    return offset;
}
struct Plan { std::vector<size_t> offsets; size_t total = 0, sum = 0; };
inline Plan plan_of(const Buffers& buffers, const std::vector<int>& order) {
    Plan p{std::vector<size_t>(buffers.size())};
    std::vector<Placed> placed;
    for (int i : order) {
        const ::Buffer& b = buffers[(size_t)i];
        p.offsets[(size_t)i] = place(b, placed);
        placed.push_back({p.offsets[(size_t)i], b.bytes, b.live});
        std::stable_sort(placed.begin(), placed.end(), [](const Placed& x, const Placed& y) { return x.offset < y.offset; });
        p.total = std::max(p.total, p.offsets[(size_t)i] + b.bytes), p.sum += b.bytes;
    }
    return p;
}
enum Order { LARGEST, NUMBERS, SMALLEST, TIES_LAST };
inline std::vector<int> order_of(const Buffers& buffers, Order how) {
    std::vector<int> order;
    for (int i = 0; i < (int)buffers.size(); i++) order.push_back(i);
    if (how == TIES_LAST) std::reverse(order.begin(), order.end());
    if (how != NUMBERS) std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return how == SMALLEST ? buffers[(size_t)a].bytes < buffers[(size_t)b].bytes : buffers[(size_t)a].bytes > buffers[(size_t)b].bytes; });
    return order;
}
inline size_t best_of(const Buffers& buffers) {
    std::vector<int> order = order_of(buffers, NUMBERS);
    size_t best = (size_t)-1;
    do best = std::min(best, plan_of(buffers, order).total); while (std::next_permutation(order.begin(), order.end()));
    return best;
}
inline size_t peak_of(const Buffers& buffers) {
    size_t most = 0;
    for (unsigned p = 0; p < 32; p++) {
        size_t sum = 0;
        for (const ::Buffer& b : buffers) sum += b.live >> p & 1 ? b.bytes : 0;
        most = std::max(most, sum);
    }
    return most;
}

inline void grade_live(Trial& t, Size) {
    const std::vector<std::vector<int>> uses = {{1, 3}, {3, 1}, {2}, {0, 4, 1}, {5, 5, 8}, {31, 30}, {0}};
    float* live = t.result("live", uses.size());
    t.run([&] { for (size_t i = 0; i < uses.size(); i++) live[i] = (float)live_range(uses[i].data(), (int)uses[i].size()); });
    Doubles right, holes, without_last, count, ordered;
    for (const auto& u : uses) {
        double all = 0, touched = 0;
        const int first = *std::min_element(u.begin(), u.end()), last = *std::max_element(u.begin(), u.end());
        for (int p = first; p <= last; p++) all += std::exp2(p), touched += std::count(u.begin(), u.end(), p) ? std::exp2(p) : 0;
        double by_order = 0;
        for (int p = u.front(); p <= u.back(); p++) by_order += std::exp2(p);
        right.push_back(all), holes.push_back(touched), without_last.push_back(all - std::exp2(last)), count.push_back(last - first + 1), ordered.push_back(by_order);
    }
    t.expect("live", right, 0.1, {{"phases between the first and the last are not in it: what is written in 1 and read in 3 must be there in 2", holes}, {"the last phase is not in it", without_last}, {"it is the number of phases, not a mask of them", count},
                                  {"the phases are taken to be sorted", ordered}});
}
inline void grade_peak(Trial& t, Size) {
    const auto all = cases();
    float* got = t.result("peak", all.size());
    t.run([&] { for (size_t i = 0; i < all.size(); i++) got[i] = (float)peak(all[i]); });
    Doubles right, sums, largest, phase0;
    for (const Buffers& b : all) {
        double sum = 0, most = 0, begin = 0;
        for (const ::Buffer& x : b) sum += (double)x.bytes, most = std::fmax(most, (double)x.bytes), begin += x.live & 1 ? (double)x.bytes : 0;
        right.push_back((double)peak_of(b)), sums.push_back(sum), largest.push_back(most), phase0.push_back(begin);
    }
    t.expect("peak", right, 0.1, {{"all buffers are added up: of each phase only those that it needs", sums}, {"it is the largest buffer", largest}, {"only phase 0 is looked at", phase0}});
}
inline void grade_place(Trial& t, Size) {
    std::vector<std::pair<::Buffer, std::vector<Placed>>> all = {
        {{2, 0b01}, {}}, {{2, 0b01}, {{0, 4, 0b10}}}, {{2, 0b01}, {{0, 4, 0b11}}}, {{2, 0b01}, {{0, 1, 0b01}, {3, 2, 0b01}}}, {{3, 0b01}, {{0, 1, 0b01}, {3, 2, 0b01}}}, {{2, 0b01}, {{2, 2, 0b01}}}, {{3, 0b01}, {{2, 2, 0b01}}},
        {{1, 0b01}, {{0, 5, 0b01}, {1, 1, 0b10}}}, {{2, 0b01}, {{0, 1, 0b01}, {4, 2, 0b01}}}};
    for (const Buffers& b : cases()) {
        std::vector<Placed> placed;
        for (size_t i = 0; i + 1 < b.size(); i++) {
            placed.push_back({place(b[i], placed), b[i].bytes, b[i].live});
            std::stable_sort(placed.begin(), placed.end(), [](const Placed& x, const Placed& y) { return x.offset < y.offset; });
        }
        all.push_back({b.back(), placed});
    }
    float* got = t.result("offset", all.size());
    t.run([&] { for (size_t i = 0; i < all.size(); i++) got[i] = (float)lowest_place(all[i].first, all[i].second); });
    auto with = [&](Mistake m) { Doubles x; for (auto& [b, placed] : all) x.push_back((double)place(b, placed, m)); return x; };
    t.expect("offset", with(NONE), 0.1, {{"buffers that share no phase may share bytes: live is not looked at", with(TIME_IGNORED)}, {"it goes behind the last that shares a phase, even where there is a gap before", with(BEHIND_LAST)}, {"it may not share bytes with one that it shares a phase with", with(SHARES_ALL)},
             {"b may begin where the other ends, and end where it begins", with(TOUCHING)}, {"only where b begins is looked at: a gap may be too small for it", with(FIRST_ALONE)}});
}

// Pairs that share a byte and a phase; or a total that is less than where the last buffer ends.
inline int conflicts_of(const Buffers& b, const std::vector<size_t>& offsets, size_t total) {
    int conflicts = 0;
    for (size_t i = 0; i < b.size(); i++) {
        conflicts += offsets[i] + b[i].bytes > total;
        for (size_t k = 0; k < i; k++) conflicts += (b[i].live & b[k].live) && offsets[i] < offsets[k] + b[k].bytes && offsets[k] < offsets[i] + b[i].bytes;
    }
    return conflicts;
}
inline void grade_plan(Trial& t, Size) {
    const auto all = cases();
    size_t n = 0;
    for (const Buffers& b : all) n += b.size();
    float *order = t.result("order", n), *offsets = t.result("offsets", n), *total = t.result("total", all.size());
    t.run([&] {
        size_t k = 0, c = 0;
        for (const Buffers& b : all) {
            const std::vector<int> largest = largest_first(b);
            std::vector<size_t> at(b.size(), 999);
            total[c++] = (float)plan_in_order(at, b, largest);
            for (size_t i = 0; i < b.size(); i++) order[k] = (float)(i < largest.size() ? largest[i] : -1), offsets[k++] = (float)at[i];
        }
    });
    auto orders = [&](Order how) { Doubles x; for (const Buffers& b : all) for (int i : order_of(b, how)) x.push_back(i); return x; };
    auto totals = [&](int which) {  // 0: right; 1: the sum of all; 2: the end of the last that is placed
        Doubles x;
        for (const Buffers& b : all) {
            const Plan p = plan_of(b, order_of(b, LARGEST));
            const size_t last = (size_t)order_of(b, LARGEST).back();
            x.push_back((double)(which == 0 ? p.total : which == 1 ? p.sum : p.offsets[last] + b[last].bytes));
        }
        return x;
    };
    t.expect("order", orders(LARGEST), 0.1, {{"they are not sorted", orders(NUMBERS)}, {"it is the smallest first", orders(SMALLEST)}, {"of equal ones the larger number comes first", orders(TIES_LAST)}});
    Doubles right, alone, as_numbers;
    for (const Buffers& b : all)
        for (size_t i = 0; i < b.size(); i++)
            right.push_back((double)plan_of(b, order_of(b, LARGEST)).offsets[i]), alone.push_back(0), as_numbers.push_back((double)plan_of(b, order_of(b, NUMBERS)).offsets[i]);
    t.expect("offsets", right, 0.1, {{"nothing is put into placed", alone}, {"the order is not used: it is buffers[i] for each i of it", as_numbers}});
    t.expect("total", totals(0), 0.1, {{"it is the sum of all bytes: it is where the last one ends", totals(1)}, {"it is the end of the buffer that was placed last: another one may end behind it", totals(2)}});
}
inline void grade_fewest(Trial& t, Size) {
    const auto all = cases();
    float *total = t.result("total", all.size()), *conflicts = t.result("conflicts", all.size());
    t.run([&] {
        for (size_t c = 0; c < all.size(); c++) {
            std::vector<size_t> offsets(all[c].size(), 0);
            const size_t bytes = fewest(offsets, all[c]);
            total[c] = (float)bytes, conflicts[c] = (float)conflicts_of(all[c], offsets, bytes);
        }
    });
    Doubles best, largest, peaks, numbers;
    for (const Buffers& b : all) best.push_back((double)best_of(b)), largest.push_back((double)plan_of(b, order_of(b, LARGEST)).total), peaks.push_back((double)peak_of(b)), numbers.push_back((double)plan_of(b, order_of(b, NUMBERS)).total);
    t.expect("total", best, 0.1, {{"it is the plan of one order, as the largest first: another needs less", largest}, {"it is the peak: no plan need reach it", peaks}, {"only the order of numbers is tried", numbers}});
    t.expect("conflicts", Doubles(all.size()), 0.1, {});
}

inline const std::vector<Part> PARTS = {{grade_live, {{1, 1}}}, {grade_peak, {{1, 1}}}, {grade_place, {{1, 1}}}, {grade_plan, {{1, 1}}}, {grade_fewest, {{1, 1}}}};
}  // namespace learn
