// table.h: what the parts of the exercise on the loop must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
constexpr uint64_t SEED = 4;
constexpr int STEPS = 16;

inline void grade_row(Trial& t, Size) {
    const size_t n = 3 * ROWS;
    float* got = t.result("row", n);
    t.run([&] { for (size_t i = 0; i < n; i++) got[i] = (float)row_of(i, SEED); });
    auto with = [&](auto f) { Doubles x; for (uint64_t i = 0; i < n; i++) x.push_back((double)f(i)); return x; };
    t.expect("row", with([](uint64_t i) { return permute(i % ROWS, ROWS, SEED, (uint32_t)(i / ROWS)); }), 0.1,
             {{"every epoch has the same order", with([](uint64_t i) { return permute(i % ROWS, ROWS, SEED, 0); })}, {"the rows are not shuffled", with([](uint64_t i) { return i % ROWS; })},
              {"epochs are counted from 1: from 0", with([](uint64_t i) { return permute(i % ROWS, ROWS, SEED, (uint32_t)(i / ROWS) + 1); })}, {"the place in the epoch is position % ROWS, not position", with([](uint64_t i) { return permute(i, ROWS, SEED, (uint32_t)(i / ROWS)); })},
              {"every row has an order of its own: the epoch is position / ROWS", with([](uint64_t i) { return permute(i % ROWS, ROWS, SEED, (uint32_t)i); })}});
}

enum Mistake { NONE, NOT_MEAN, MEAN_OF_MICRO, ACCUMULATES, LAST_MICRO, LAST_ROW, SAME_MICRO, NO_POSITION };
inline Doubles gradients_of(const Training& t, uint64_t position, int B, int micros, const Doubles& before, Mistake mistake = NONE) {
    Doubles sum(W), loss(1);
    for (int k = 0; k < B * micros; k++) {
        float g[W];
        const uint64_t at = (mistake == NO_POSITION ? 0 : position) + (uint64_t)(mistake == SAME_MICRO ? k % B : k);
        gradient(g, t.weights, permute(at % ROWS, ROWS, SEED, (uint32_t)(at / ROWS)), 1, false);
        if ((mistake == LAST_MICRO && k % B == 0) || mistake == LAST_ROW) sum = Doubles(W);
        for (size_t i = 0; i < W; i++) sum[i] += g[i] / (mistake == NOT_MEAN ? 1.0 : mistake == MEAN_OF_MICRO ? B : B * micros);
    }
    if (mistake == ACCUMULATES) for (size_t i = 0; i < W; i++) sum[i] += before[i];
    return sum;
}
inline void grade_gradients(Trial& t, Size s) {
    const int B = s.N, micros = s.C;
    const Training start_of = start(SEED);
    const uint64_t position = 7;
    double loss = 0;
    for (int k = 0; k < B * micros; k++) { float g[W]; loss += gradient(g, start_of.weights, permute((position + (uint64_t)k) % ROWS, ROWS, SEED, (uint32_t)((position + (uint64_t)k) / ROWS)), 1, false) / (B * micros); }
    float* got_loss = t.result("loss", 1);
    const Doubles before = t.normal(W);
    float* grads = t.changed("grads", before);
    t.run([&] { *got_loss = step_gradients(grads, start_of.weights, position, B, micros, SEED); });
    auto with = [&](Mistake m) { return gradients_of(start_of, position, B, micros, before, m); };
    // B * micros roundings of terms below 8
    t.expect("grads", with(NONE), B * micros * 0x1p-24 * 8, {{"they are added up, not averaged: dloss is 1 over all rows of the step", with(NOT_MEAN)}, {"each micro-batch is a mean of its own: dloss is 1 / (B * micros)", with(MEAN_OF_MICRO)}, {"the first row adds to what grads held before", with(ACCUMULATES)},
             {"each micro-batch overwrites those before it", with(LAST_MICRO)}, {"each row overwrites those before it", with(LAST_ROW)}, {"every micro-batch has the same rows: it is micro * B + b", with(SAME_MICRO)}, {"the step's rows begin at `position`", with(NO_POSITION)}});
    t.expect("loss", {loss}, 0x1p-22 * std::fmax(1, loss), {});
}

// In floats, as bits are what it is about: the tree by recursion; or one after the other; or pairs of leaves that are far apart.
inline float tree(const std::vector<float>& x, size_t begin, size_t end) {
    if (end - begin == 1) return x[begin];
    size_t half = 1;
    while (2 * half < end - begin) half *= 2;
    return tree(x, begin, begin + half) + tree(x, begin + half, end);
}
// add_leaf with a mistake, for one number: 1: at most one addition after a leaf; 2: nothing more after the last leaf; 3: all that waits is added after every leaf.
inline float with_mistake(const std::vector<float>& x, int mistake) {
    float buffers[8] = {};
    for (int leaf = 0; leaf < (int)x.size(); leaf++) {
        int buffer = __builtin_popcount((unsigned)leaf);
        buffers[buffer] = x[(size_t)leaf];
        const bool last = mistake != 2 && leaf + 1 == (int)x.size();
        for (int bits = leaf; buffer > 0 && (last || mistake == 3 || bits & 1); bits = mistake == 1 ? 0 : bits >> 1, buffer = mistake == 1 ? 0 : buffer - 1) buffers[buffer - 1] += buffers[buffer];
    }
    return buffers[0];
}
inline void grade_tree(Trial& t, Size s) {
    const int leaves = s.N, n = s.C;
    const Doubles values = t.normal((size_t)(leaves * n), 0, 100);
    float* sum = t.result("sum", (size_t)n);
    t.run([&] {
        std::vector<std::vector<float>> memory(8, std::vector<float>((size_t)n, NAN));
        float* buffers[8];
        for (int b = 0; b < 8; b++) buffers[b] = memory[(size_t)b].data();
        for (int leaf = 0; leaf < leaves; leaf++) {
            for (int i = 0; i < n; i++) buffers[ones(leaf)][i] = (float)values[(size_t)(leaf * n + i)];
            add_leaf(buffers, leaf, leaves, n);
        }
        memcpy(sum, buffers[0], (size_t)n * 4);
    });
    Doubles right, in_turn, first, last, mistakes[3];
    for (int i = 0; i < n; i++) {
        std::vector<float> x;
        for (int leaf = 0; leaf < leaves; leaf++) x.push_back((float)values[(size_t)(leaf * n + i)]);
        float sequential = x[0];
        for (int leaf = 1; leaf < leaves; leaf++) sequential += x[(size_t)leaf];
        right.push_back((double)tree(x, 0, x.size())), in_turn.push_back((double)sequential), first.push_back((double)x[0]), last.push_back((double)x.back());
        for (int m = 0; m < 3; m++) mistakes[m].push_back((double)with_mistake(x, m + 1));
    }
    t.expect("sum", right, 1e-30, {{"the leaves are added one after the other: right but for its last bits, and the bits are what it is about", in_turn}, {"at most one addition follows a leaf: as many as its number has ones at its end", mistakes[0]},
             {"subtrees still wait after the last leaf: all are added then", mistakes[1]}, {"after every leaf all that waits is added: only what is complete", mistakes[2]}, {"nothing is added: it is leaf 0", first}, {"it is the last leaf", last}});
}

// ---- a run ---------------------------------------------------------------------------------------------------------------------
enum Loop { GOOD, NO_GUARD, T_FROM_0, POSITION_STANDS, POSITION_BY_B, FORGETS, FORGETS_SPIKES, NOT_ROUNDED };
inline void reference_step(Training& t, Loop m = GOOD) {
    float grads[W];
    double loss = 0;
    for (int k = 0; k < B * MICROS; k++) { const uint64_t at = t.position + (uint64_t)k; loss += gradient(grads, t.weights, permute(at % ROWS, ROWS, SEED, (uint32_t)(at / ROWS)), 1.0f / (B * MICROS), k > 0) / (B * MICROS); }
    const bool spike = is_spike(t.losses, (float)loss);
    const int number = m == T_FROM_0 && t.step > 0 ? t.step : t.step + 1;
    if (!spike || m == NO_GUARD) {
        adamw_step(t.master, t.m, t.v, grads, number);
        if (m == NOT_ROUNDED) memcpy(t.weights, t.master, sizeof t.weights); else round_weights(t.weights, t.master, SEED, number);
    }
    if (m != FORGETS && !(spike && m == FORGETS_SPIKES)) remember(t.losses, (float)loss);
    t.step++, t.position += m == POSITION_STANDS ? 0 : m == POSITION_BY_B ? B : B * MICROS;
}
inline Doubles weights_of(const Training& t) { Doubles x(t.master, t.master + W); x.insert(x.end(), t.weights, t.weights + W); return x; }
inline Training run_of(Loop m) {
    Training t = start(SEED);
    for (int i = 0; i < STEPS; i++) reference_step(t, m);
    return t;
}
// The step in which row 17 comes, whose loss is a spike; a run that is killed before it and has lost its history does not see it.
inline int spike_step() {
    for (int step = 4; step < STEPS; step++)
        for (uint64_t k = 0; k < (uint64_t)(B * MICROS); k++)
            if (const uint64_t at = (uint64_t)(step * B * MICROS) + k; permute(at % ROWS, ROWS, SEED, (uint32_t)(at / ROWS)) == 17) return step;
    die("table.h: no step after the fourth has row 17");
}
inline void grade_step(Trial& t, Size) {
    float *got = t.result("master, then weights", 2 * W), *counted = t.result("step, position", 2), *losses = t.result("losses", 4);
    t.run([&] {
        Training a = start(SEED);
        for (int i = 0; i < STEPS; i++) train_step(a, SEED);
        const Doubles x = weights_of(a);
        for (size_t i = 0; i < x.size(); i++) got[i] = (float)x[i];
        counted[0] = (float)a.step, counted[1] = (float)a.position;
        for (size_t i = 0; i < 4; i++) losses[i] = i < a.losses.size() ? a.losses[i] : 0;
    });
    const double rows = STEPS * B * MICROS;
    t.expect("step, position", {STEPS, rows}, 0.1, {{"position does not move on", {STEPS, 0}}, {"position moves on by B: by all rows of the step", {STEPS, STEPS * B}}, {"step does not move on", {0, rows}}, {"a step that is skipped does not move on: the next one reads the same rows, for ever", {(double)spike_step(), (double)spike_step() * B * MICROS}}});
    const Doubles right = weights_of(run_of(GOOD));
    std::vector<Cause> causes;
    auto cause = [&](Loop m, const char* what) { const Doubles x = weights_of(run_of(m)); CHECK(x != right, "table.h: this mistake changes nothing: %s", what); causes.push_back({what, x}); };
    cause(NO_GUARD, "a spike is not skipped"), cause(T_FROM_0, "the update is step t.step + 1: t is counted from 1"), cause(FORGETS, "losses are not remembered"), cause(NOT_ROUNDED, "weights are the masters, not rounded");
    t.expect("master, then weights", right, 1e-30, causes);
    auto losses_of = [](Loop m) { Doubles x; for (float l : run_of(m).losses) x.push_back((double)l); x.resize(4); return x; };
    t.expect("losses", losses_of(GOOD), 1e-4, {{"the loss of a step that is skipped is not remembered", losses_of(FORGETS_SPIKES)}, {"losses are not remembered", losses_of(FORGETS)}});
}
// Killed after N steps and resumed from what save() kept, into memory that holds anything.
inline void grade_resume(Trial& t, Size s) {
    const int kill = s.N;
    CHECK(spike_step() == 4, "table.h: the spike is in step %d, must be 4: PARTS kills before it", spike_step());
    float* got = t.result("master, then weights", 2 * W);
    Training undisturbed = start(SEED), at_kill = undisturbed;
    for (int i = 0; i < STEPS; i++) {
        if (i == kill) at_kill = undisturbed;
        reference_step(undisturbed);
    }
    t.run([&] {
        Training a = start(SEED);
        for (int i = 0; i < kill; i++) train_step(a, SEED);
        const Checkpoint c = save(a);
        Training b;
        for (int i = 0; i < W; i++) b.weights[i] = b.master[i] = b.m[i] = b.v[i] = 123.0f + (float)i;
        b.step = 77, b.position = 12345, b.losses = {5e5f};
        load(b, c);
        for (int i = kill; i < STEPS; i++) train_step(b, SEED);
        const Doubles x = weights_of(b);
        for (size_t i = 0; i < x.size(); i++) got[i] = (float)x[i];
    });
    std::vector<Cause> causes;
    auto cause = [&](const char* what, auto spoil) {
        Training x = at_kill, garbage{};
        for (int i = 0; i < W; i++) garbage.weights[i] = garbage.master[i] = garbage.m[i] = garbage.v[i] = 123.0f + (float)i;
        garbage.step = 77, garbage.position = 12345, garbage.losses = {5e5f};
        spoil(x, garbage);
        for (int i = kill; i < STEPS; i++) reference_step(x);
        causes.push_back({what, weights_of(x)});
    };
    auto copy = [](float (&to)[W], const float (&from)[W]) { memcpy(to, from, sizeof to); };
    const float zeros[W] = {};
    cause("m is not kept", [&](Training& x, Training& g) { copy(x.m, g.m); }), cause("m begins at 0 again", [&](Training& x, Training&) { copy(x.m, zeros); });
    cause("v is not kept", [&](Training& x, Training& g) { copy(x.v, g.v); }), cause("v begins at 0 again", [&](Training& x, Training&) { copy(x.v, zeros); });
    cause("masters are not kept", [&](Training& x, Training& g) { copy(x.master, g.master); }), cause("masters are made from the weights: they have lost their lower bits", [&](Training& x, Training&) { copy(x.master, x.weights); });
    cause("weights are not kept, and not made from the masters as they were", [&](Training& x, Training& g) { copy(x.weights, g.weights); });
    cause("weights are the masters, not rounded", [&](Training& x, Training&) { copy(x.weights, x.master); });
    cause("step is not kept: bias correction and rounding depend on it", [&](Training& x, Training& g) { x.step = g.step; }), cause("step begins at 0 again", [&](Training& x, Training&) { x.step = 0; });
    cause("position is not kept: other rows are read", [&](Training& x, Training& g) { x.position = g.position; }), cause("position begins at 0 again: the same rows once more", [&](Training& x, Training&) { x.position = 0; });
    cause("the losses of the last steps are not kept: the step guard compares with them", [&](Training& x, Training& g) { x.losses = g.losses; });
    cause("the losses begin empty: the step guard sees no spike until there are four", [&](Training& x, Training&) { x.losses.clear(); });
    t.expect("master, then weights", weights_of(undisturbed), 1e-30, causes);
}

// The power is cut before each operation, and after the last. bad: how often something else is found than the old or the new contents; lost: it has returned, and the old ones are found.
inline void grade_file(Trial& t, Size) {
    float *bad = t.result("torn", 1), *lost = t.result("old after return", 1), *missing = t.result("missing", 1);
    t.run([&] {
        *bad = *lost = *missing = 0;
        for (int operations = 0; operations < 20; operations++) {
            Disk disk(operations);
            disk.was_there("state", "old");
            bool returned = false;
            try { write_file(disk, "state", "new"), returned = true; } catch (PowerCut) {}
            for (const std::string& found : disk.found("state")) *bad += found == "torn", *missing += found == "missing", *lost += returned && found == "old";
            if (returned) break;
        }
    });
    // how often: of mistakes in these four lines
    auto causes = [](std::vector<Cause> list) { return list; };
    t.expect("torn", {0}, 0.1, causes({{"what is found there was never synced: written in place, or renamed before its contents are on the disk", {1}}, {"what is found there was never synced: written in place, or renamed before its contents are on the disk", {2}}, {"what is found there was never synced: written in place, or renamed before its contents are on the disk", {3}}}));
    t.expect("missing", {0}, 0.1, {});
    t.expect("old after return", {0}, 0.1, causes({{"the folder is not synced after the rename: the new name is lost with the power", {1}}}));
}

inline const std::vector<Part> PARTS = {{grade_row, {{1, 1}}}, {grade_gradients, {{2, 2}, {3, 1}, {1, 4}}}, {grade_tree, {{8, 5}, {1, 3}, {2, 3}, {6, 3}, {16, 3}}}, {grade_step, {{1, 1}}}, {grade_resume, {{4, 1}, {3, 1}, {11, 1}}}, {grade_file, {{1, 1}}}};
}  // namespace learn
