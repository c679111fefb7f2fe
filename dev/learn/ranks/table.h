// table.h: what the parts of the exercise on many GPUs must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
// What each rank has, (world, n), in floats whose sums are exact in any order: parts 1 and 2 are about who has what.
struct Given { std::vector<Floats> x; Doubles sums; };
inline Given given_ranks(int world, size_t n) {
    Given g{std::vector<Floats>((size_t)world, Floats(n)), Doubles(n)};
    for (int r = 0; r < world; r++) for (size_t i = 0; i < n; i++) g.x[(size_t)r][i] = (float)((r + 1) * (r + 1) + 100 * (int)(i + 1)), g.sums[i] += g.x[(size_t)r][i];
    return g;
}
// A ring as somebody may write it: in step s rank r sends piece r + way * s + first and takes what comes for piece r + way * s + got.
struct Way { int way, first, got; bool adds; bool at_begin = false, at_once = false; int got_way = 0; };  // got_way: that of what comes, where it differs
inline std::vector<Floats> went(std::vector<Floats> x, Way w) {
    const int world = (int)x.size();
    const size_t n = x[0].size();
    Ring ring(world);
    auto piece = [&](int r, int way, int s, int from) { return ((r + way * s + from) % world + world) % world; };
    for (int s = 0; s < world - 1; s++) {
        auto take = [&](int r) {
            const size_t begin = w.at_begin ? 0 : begin_of(piece(r, w.got_way ? w.got_way : w.way, s, w.got), world, n);
            for (size_t i = 0; i < ring.received(r).size() && begin + i < n; i++) x[(size_t)r][begin + i] = ring.received(r)[i] + (w.adds ? x[(size_t)r][begin + i] : 0);
        };
        for (int r = 0; r < world; r++) {
            const int p = piece(r, w.way, s, w.first);
            ring.send(r, x[(size_t)r].data() + begin_of(p, world, n), begin_of(p + 1, world, n) - begin_of(p, world, n));
            if (w.at_once) take(r);
        }
        for (int r = 0; r < world && !w.at_once; r++) take(r);
    }
    return x;
}
// N is the number of ranks, C how many floats each has.
inline void grade_scatter(Trial& t, Size s) {
    const int world = s.N;
    const size_t n = (size_t)s.C;
    Given g = given_ranks(world, n);
    const std::vector<Floats> before = g.x;
    float *out = t.result("piece", n), *bytes = t.result("bytes", 1);
    Ring ring(world);
    t.run([&] {
        reduce_scatter(g.x, ring);
        for (int r = 0; r < world; r++) for (size_t i = begin_of(r, world, n); i < begin_of(r + 1, world, n); i++) out[i] = g.x[(size_t)r][i];
        *bytes = (float)ring.bytes;
    });
    auto with = [&](Way w) {
        Doubles y(n);
        const std::vector<Floats> x = went(before, w);
        for (int r = 0; r < world; r++) for (size_t i = begin_of(r, world, n); i < begin_of(r + 1, world, n); i++) y[i] = x[(size_t)r][i];
        return y;
    };
    const char *up = "the number of the piece that is sent grows with the step: what a rank has just got is the next lower one";
    Doubles unchanged(n);
    for (int r = 0; r < world; r++) for (size_t i = begin_of(r, world, n); i < begin_of(r + 1, world, n); i++) unchanged[i] = before[(size_t)r][i];
    t.expect("piece", g.sums, 1e-30, {{"piece r of rank r is what it was: nobody's sum has come to it. The first that rank r sends is piece r - 1, the next one is the next lower", unchanged}, {"what is received is stored, not added", with({-1, -1, -2, false})}, {"rank r begins with piece r, which must end at rank r: it begins with piece r - 1", with({-1, 0, -2, true})},
        {"what comes is taken for the piece that was sent: it is the left neighbour's, one lower", with({-1, -1, -1, true})}, {up, with({1, 1, -2, true, false, false, -1})}, {up, with({1, 1, 0, true})}, {"what is received is added from the array's begin on: its place is begin_of(piece, world, n)", with({-1, -1, -2, true, true})}, {"a rank takes what has come before all have sent", with({-1, -1, -2, true, false, true})}});
    // every piece but the one that ends there is sent by each rank
    t.expect("bytes", {4.0 * (double)n * (world - 1)}, 0.5, {{"whole arrays are sent: a step sends one piece", {4.0 * (double)n * world * (world - 1)}}, {"there is one step too many", {4.0 * (double)n * world}}});
}
inline void grade_gather(Trial& t, Size s) {
    const int world = s.N;
    const size_t n = (size_t)s.C;
    Given g = given_ranks(world, n);
    Doubles right;
    for (int r = 0; r < world; r++) for (size_t i = 0; i < n; i++) {
        const bool own = begin_of(r, world, n) <= i && i < begin_of(r + 1, world, n);
        if (own) g.x[(size_t)r][i] = (float)g.sums[i];
        right.push_back(g.sums[i]);
    }
    float *out = t.result("x", right.size(), s.C), *bytes = t.result("bytes", 1);
    const std::vector<Floats> before = g.x;
    auto with = [&](Way w) { Doubles y; for (const Floats& x : went(before, w)) y.insert(y.end(), x.begin(), x.end()); return y; };
    Ring ring(world);
    t.run([&] {
        all_gather(g.x, ring);
        for (int r = 0; r < world; r++) for (size_t i = 0; i < n; i++) out[(size_t)r * n + i] = g.x[(size_t)r][i];
        *bytes = (float)ring.bytes;
    });
    t.expect("x", right, 1e-30, {{"what is received is added: here it is copied", with({-1, 0, -1, true})}, {"the number of the piece that is sent grows with the step: what a rank has just got is the next lower one", with({1, 0, -1, false})},
        {"rank r begins with a piece that is not its own", with({-1, -1, -2, false})}, {"what comes is taken for the piece that was sent: it is the left neighbour's, one lower", with({-1, 0, 0, false})}, {"what is received is stored from the array's begin on: its place is begin_of(piece, world, n)", with({-1, 0, -1, false, true})},
        {"a rank takes what has come before all have sent", with({-1, 0, -1, false, false, true})}});
    t.expect("bytes", {4.0 * (double)n * (world - 1)}, 0.5, {{"whole arrays are sent: a step sends one piece", {4.0 * (double)n * world * (world - 1)}}, {"there is one step too many", {4.0 * (double)n * world}}});
}

inline void grade_zero(Trial& t, Size) {
    struct Run { double P, world, micro; };
    const Run runs[] = {{124e6, 8, 4}, {1558e6, 64, 1}, {1000, 2, 3}};
    float *held = t.result("held", 12, 4), *sent = t.result("sent", 12, 4);
    t.run([&] { for (int i = 0; i < 12; i++) held[i] = (float)bytes_held(runs[i / 4].P, runs[i / 4].world, i % 4), sent[i] = (float)bytes_sent(runs[i / 4].P, runs[i / 4].world, i % 4, runs[i / 4].micro); });
    // bytes a parameter, divided or not; how often each thing is sent by a stage
    auto held_by = [&](double weights, double gradients, double state, int first) {
        Doubles y;
        for (const Run& r : runs) for (int stage = 0; stage < 4; stage++) y.push_back(r.P * (weights / (stage >= first + 2 ? r.world : 1) + gradients / (stage >= first + 1 ? r.world : 1) + state / (stage >= first ? r.world : 1)));
        return y;
    };
    Doubles early, sooner;  // the state divided from stage 0 on; gradients and weights a stage too early
    for (const Run& r : runs) for (int stage = 0; stage < 4; stage++) sooner.push_back(r.P * (2 / (stage >= 2 ? r.world : 1) + 16 / (stage >= 1 ? r.world : 1)));
    for (const Run& r : runs) for (int stage = 0; stage < 4; stage++) early.push_back(r.P * (2 / (stage >= 3 ? r.world : 1) + 4 / (stage >= 2 ? r.world : 1) + 12 / r.world));
    auto sent_by = [&](auto count, bool share = true) {
        Doubles y;
        for (const Run& r : runs) for (int stage = 0; stage < 4; stage++) y.push_back(r.P * (share ? (r.world - 1) / r.world : 1) * count(stage, r.micro));
        return y;
    };
    auto right = [](int stage, double micro) { return stage == 0 ? 8 : stage == 1 ? 6 : stage == 2 ? 4 * micro + 2 : 8 * micro; };
    auto bounds = [](const Doubles& y) { Doubles b; for (double v : y) b.push_back(1e-6 * v); return b; };  // a float's rounding, and some
    const Doubles h = held_by(2, 4, 12, 1), b = sent_by(right);
    t.expect("held", h, bounds(h), {{"the master weights are missing", held_by(2, 4, 8, 1)}, {"gradients have 4 bytes", held_by(2, 2, 12, 1)}, {"stages are counted from 0: stage 0 divides nothing", held_by(2, 4, 12, 0)}, {"stage 0 divides nothing, the optimizer's state either", early}, {"gradients are divided from stage 2 on, weights in stage 3", sooner}});
    t.expect("sent", b, bounds(b), {{"the factor (world - 1) / world is missing: a rank sends itself nothing", sent_by(right, false)}, {"stage 2 exchanges gradients in each micro-batch", sent_by([](int s, double m) { return s == 0 ? 8 : s < 3 ? 6 : 8 * m; })},
        {"stage 3 gathers weights twice in a micro-batch", sent_by([&](int s, double m) { return s == 3 ? 6 * m : s == 2 ? 4 * m + 2 : s == 1 ? 6 : 8; })}, {"gradients travel in 4 bytes", sent_by([](int s, double m) { return s < 2 ? 4 : s == 2 ? 2 * m + 2 : 6 * m; })},
        {"stage 0 gathers sums of gradients in 4 bytes, not weights", sent_by([&](int s, double m) { return s == 0 ? 6 : s == 1 ? 6 : s == 2 ? 4 * m + 2 : 8 * m; })}});
}

// L leaves of n floats, and their sums in floats in several orders.
inline std::vector<Floats> leaves_of(Trial& t, int L, int n) {
    std::vector<Floats> leaves;
    for (int l = 0; l < L; l++) { const Doubles v = t.normal((size_t)n); leaves.emplace_back(v.begin(), v.end()); }
    return leaves;
}
inline Floats tree_of(const std::vector<Floats>& leaves, size_t begin, size_t end) {
    if (end - begin == 1) return leaves[begin];
    size_t half = 1;
    while (2 * half < end - begin) half *= 2;
    Floats left = tree_of(leaves, begin, begin + half);
    const Floats right = tree_of(leaves, begin + half, end);
    for (size_t i = 0; i < left.size(); i++) left[i] += right[i];
    return left;
}
inline Floats in_order(const std::vector<Floats>& leaves, size_t begin, size_t end) {
    Floats sum = leaves[begin];
    for (size_t l = begin + 1; l < end; l++) for (size_t i = 0; i < sum.size(); i++) sum[i] += leaves[l][i];
    return sum;
}
inline Doubles doubles(const Floats& x) { return Doubles(x.begin(), x.end()); }
// N leaves of C floats.
inline void grade_tree(Trial& t, Size s) {
    const std::vector<Floats> leaves = leaves_of(t, s.N, s.C);
    float *waiting_now = t.result("waiting", (size_t)s.N), *out = t.result("sum", (size_t)s.C);
    t.run([&] {
        std::vector<Floats> waiting;
        for (int i = 0; i < s.N; i++) add_leaf(waiting, i, leaves[(size_t)i]), waiting_now[i] = (float)waiting.size();
        const Floats sum = all_of(waiting);
        for (size_t i = 0; i < sum.size() && i < (size_t)s.C; i++) out[i] = sum[i];
    });
    Doubles right, all, one, once;
    for (int i = 0; i < s.N; i++) once.push_back(i % 2 ? once.back() : i ? once.back() + 1 : 1), right.push_back(__builtin_popcount((unsigned)i + 1)), all.push_back(i + 1), one.push_back(1);
    t.expect("waiting", right, 0.5, {{"no pair is added: all leaves wait", all}, {"one pair is added at most: what two leaves make may complete another pair", once}, {"each leaf is added at once to the sum of all before: that is no tree", one}});
    Doubles last(doubles(leaves.back())), bound;
    std::vector<Floats> wait;  // from the first on instead of from the last
    for (size_t begin = 0, n = (size_t)s.N; n;) { size_t half = 1; while (2 * half <= n) half *= 2; wait.push_back(tree_of(leaves, begin, begin + half)), begin += half, n -= half; }
    t.expect("sum", doubles(tree_of(leaves, 0, (size_t)s.N)), 1e-30, {{"leaves are added one after the other: equal but for roundings, which is what matters here", doubles(in_order(leaves, 0, (size_t)s.N))}, {"it is the last leaf", last}, {"it is the first that waits: the others are not added", doubles(wait[0])},
        {"what waits is added from the first on: equal but for roundings, which is what matters here", doubles(in_order(wait, 0, wait.size()))}});
}
// N leaves of C floats, on 1, 2, 4, ... N ranks.
inline void grade_same(Trial& t, Size s) {
    const std::vector<Floats> leaves = leaves_of(t, s.N, s.C);
    std::vector<int> worlds;
    for (int w = 1; w <= s.N; w *= 2) worlds.push_back(w);
    float* out = t.result("sum", worlds.size() * (size_t)s.C, s.C);
    t.run([&] { for (size_t w = 0; w < worlds.size(); w++) { const Floats sum = gradient_of(leaves, worlds[w]); for (size_t i = 0; i < sum.size() && i < (size_t)s.C; i++) out[w * (size_t)s.C + i] = sum[i]; } });
    auto with = [&](auto of_rank, auto over_ranks) {
        Doubles y;
        for (int w : worlds) {
            std::vector<Floats> ranks;
            for (int r = 0; r < w; r++) ranks.push_back(of_rank(leaves, (size_t)(r * s.N / w), (size_t)((r + 1) * s.N / w)));
            for (float v : over_ranks(ranks, 0, ranks.size())) y.push_back(v);
        }
        return y;
    };
    auto first = [](const std::vector<Floats>& x, size_t begin, size_t) { return x[begin]; };
    Doubles by_turns;
    for (int w : worlds) {
        std::vector<Floats> order;
        for (int r = 0; r < w; r++) for (int i = 0; i < s.N / w; i++) order.push_back(leaves[(size_t)(i * w + r)]);
        for (float v : tree_of(order, 0, order.size())) by_turns.push_back(v);
    }
    t.expect("sum", with(tree_of, tree_of), 1e-30, {{"rank r has leaves r, r + world, ...: its leaves are neighbours", by_turns}, {"ranks are added one after the other: row w has other roundings for each number of ranks", with(tree_of, in_order)}, {"a rank's leaves are added one after the other: row w has other roundings for each number of ranks", with(in_order, tree_of)},
        {"all is added one after the other: row w has other roundings for each number of ranks", with(in_order, in_order)}, {"only rank 0's sum is there", with(tree_of, first)}});
}

inline const std::vector<Part> PARTS = {
    {grade_scatter, {{3, 7}, {2, 8}, {1, 5}, {8, 64}}},
    {grade_gather, {{3, 7}, {2, 8}, {1, 5}, {8, 64}}},
    {grade_zero, {{1, 1}}},
    {grade_tree, {{7, 5}, {8, 3}, {1, 2}, {13, 40}}},
    {grade_same, {{8, 40}, {2, 3}, {1, 1}}},
};
}  // namespace learn
