// The loop, determinism and resuming, part by part: doc/learn/loop.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-loop` says how far it is.
// The model, its data and its optimizer are given, in dev/learn/loop/model.h: read struct Training and the headers of the functions there. Everything runs on the host.
#include "model.h"

// ---- 1. which row comes next, without a state
// The number of the row that a run reads as its position-th, from 0: each epoch has all ROWS rows once, in an order of its own. permute(index, n, seed, epoch) is the one of 0 .. n-1
// that stands at place `index` of that epoch's order.
uint64_t row_of(uint64_t position, uint64_t seed) {
    //{ the epoch and the place in it follow from position
    return permute(position % ROWS, ROWS, seed, (uint32_t)(position / ROWS));
    //} return BLANK;
}

// ---- 2. a step's gradient, from micro-batches
// grads = the mean over the step's B * micros rows, from `position` on; gives the mean of their losses. What grads held before does not matter.
float step_gradients(float* grads, const float* weights, uint64_t position, int B, int micros, uint64_t seed) {
    double sum = 0;
    for (int micro = 0; micro < micros; micro++)
        for (int b = 0; b < B; b++) {
            //{ gradient() of one row: its place, its part of the mean, whether it is the first
            const int k = micro * B + b;
            sum += gradient(grads, weights, row_of(position + (uint64_t)k, seed), 1.0f / (float)(B * micros), k > 0);
            //} BLANK;
        }
    return (float)(sum / (B * micros));
}

// ---- 3. leaves, added as a binary tree
// The step's rows are cut into `leaves` leaves. Their gradients, of n numbers each, are made one after the other: leaf 0, 1, 2, ...; that of `leaf` is in buffers[ones(leaf)] when this is called,
// behind the sums of subtrees that wait in buffers[0] to buffers[ones(leaf) - 1]. ones(x): how many bits of x are 1. After the last leaf the sum of all is in buffers[0].
int ones(int x) { return __builtin_popcount((unsigned)x); }
void add_leaf(float* const* buffers, int leaf, int leaves, int n) {
    int buffer = ones(leaf);  // the last that is in use
    //{ one addition of two neighbouring buffers for each bit that is 1 at the end of leaf's number; after the last leaf until one is left
    for (int bits = leaf; buffer > 0 && (leaf + 1 == leaves || bits & 1); bits >>= 1, buffer--)
        for (int i = 0; i < n; i++) buffers[buffer - 1][i] += buffers[buffer][i];
    //} BLANK;
}

// ---- 4. a step
constexpr int B = 2, MICROS = 2;
void train_step(Training& t, uint64_t seed) {
    float grads[W];
    //{ 1. gradients and loss  2. unless the loss is a spike: masters are updated and rounded, as step t.step + 1  3. the loss is remembered  4. step and position move on
    const float loss = step_gradients(grads, t.weights, t.position, B, MICROS, seed);
    if (!is_spike(t.losses, loss)) {
        adamw_step(t.master, t.m, t.v, grads, t.step + 1);
        round_weights(t.weights, t.master, seed, t.step + 1);
    }
    remember(t.losses, loss);
    t.step++, t.position += B * MICROS;
    //} BLANK;
}

// ---- 5. what a checkpoint must hold
// save(t) and then, in another process, load(that) must give a run whose every later step has the bits of the undisturbed one. c.lists["m"] = list(t.m) keeps W floats. N in what the grader says is the step after which it killed the run.
std::vector<float> list(const float* p) { return std::vector<float>(p, p + W); }
Checkpoint save(const Training& t) {
    Checkpoint c;
    //{ all that is not computed anew
    c.lists["weights"] = list(t.weights), c.lists["master"] = list(t.master), c.lists["m"] = list(t.m), c.lists["v"] = list(t.v), c.lists["losses"] = t.losses;
    c.numbers["step"] = (uint64_t)t.step, c.numbers["position"] = t.position;
    //} BLANK;
    return c;
}
// t holds anything.
void load(Training& t, const Checkpoint& c) {
    auto get = [&](float* to, const char* name) { for (int i = 0; i < W; i++) to[i] = c.lists.at(name)[(size_t)i]; };
    //{ and back: get(t.m, "m")
    get(t.weights, "weights"), get(t.master, "master"), get(t.m, "m"), get(t.v, "v"), t.losses = c.lists.at("losses");
    t.step = (int)c.numbers.at("step"), t.position = c.numbers.at("position");
    //} BLANK;
}

// ---- 6. a file that is whole or not there
// Whenever the power is cut, also right after this has returned: under `name` are the old contents or the new ones, whole; after it has returned, the new ones.
// disk.write(name, contents), disk.sync(name), disk.rename(from, to), disk.sync_folder()
void write_file(Disk& disk, const std::string& name, const std::string& contents) {
    //{ another name first
    disk.write(name + ".tmp", contents);
    disk.sync(name + ".tmp");
    disk.rename(name + ".tmp", name);
    disk.sync_folder();
    //} BLANK;
}
