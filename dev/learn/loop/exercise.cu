// The loop, determinism and resuming, part by part: doc/learn/loop.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-loop` says how far it is.
// The model, its data and its optimizer are given, in dev/learn/loop/model.h: read struct Training and the headers of the functions there. Everything runs on the host.
#include "model.h"

// ---- 1. which row comes next, without a state
// The number of the row that a run reads as its position-th, from 0: each epoch has all ROWS rows once, in an order of its own. permute(index, n, seed, epoch) is the one of 0 .. n-1
// that stands at place `index` of that epoch's order.
uint64_t row_of(uint64_t position, uint64_t seed) {
    return BLANK;  // the epoch and the place in it follow from position
}

// ---- 2. a step's gradient, from micro-batches
// grads = the mean over the step's B * micros rows, from `position` on; gives the mean of their losses. What grads held before does not matter.
float step_gradients(float* grads, const float* weights, uint64_t position, int B, int micros, uint64_t seed) {
    double sum = 0;
    for (int micro = 0; micro < micros; micro++)
        for (int b = 0; b < B; b++) {
            BLANK;  // gradient() of one row: its place, its part of the mean, whether it is the first
        }
    return (float)(sum / (B * micros));
}

// ---- 3. leaves, added as a binary tree
// The step's rows are cut into `leaves` leaves. Their gradients, of n numbers each, are made one after the other: leaf 0, 1, 2, ...; that of `leaf` is in buffers[ones(leaf)] when this is called,
// behind the sums of subtrees that wait in buffers[0] to buffers[ones(leaf) - 1]. ones(x): how many bits of x are 1. After the last leaf the sum of all is in buffers[0].
int ones(int x) { return __builtin_popcount((unsigned)x); }
void add_leaf(float* const* buffers, int leaf, int leaves, int n) {
    int buffer = ones(leaf);  // the last that is in use
    BLANK;  // one addition of two neighbouring buffers for each bit that is 1 at the end of leaf's number; after the last leaf until one is left
}

// ---- 4. a step
constexpr int B = 2, MICROS = 2;
void train_step(Training& t, uint64_t seed) {
    float grads[W];
    BLANK;  // 1. gradients and loss  2. unless the loss is a spike: masters are updated and rounded, as step t.step + 1  3. the loss is remembered  4. step and position move on
}

// ---- 5. what a checkpoint must hold
// save(t) and then, in another process, load(that) must give a run whose every later step has the bits of the undisturbed one. c.lists["m"] = list(t.m) keeps W floats. N in what the grader says is the step after which it killed the run.
std::vector<float> list(const float* p) { return std::vector<float>(p, p + W); }
Checkpoint save(const Training& t) {
    Checkpoint c;
    BLANK;  // all that is not computed anew
    return c;
}
// t holds anything.
void load(Training& t, const Checkpoint& c) {
    auto get = [&](float* to, const char* name) { for (int i = 0; i < W; i++) to[i] = c.lists.at(name)[(size_t)i]; };
    BLANK;  // and back: get(t.m, "m")
}

// ---- 6. a file that is whole or not there
// Whenever the power is cut, also right after this has returned: under `name` are the old contents or the new ones, whole; after it has returned, the new ones.
// disk.write(name, contents), disk.sync(name), disk.rename(from, to), disk.sync_folder()
void write_file(Disk& disk, const std::string& name, const std::string& contents) {
    BLANK;  // another name first
}
