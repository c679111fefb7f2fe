// model.h: the smallest model that a training loop can be written for: W weights, ROWS rows of data; and what a run on a disk can meet. All of it is given.
#pragma once
#include <cmath>
#include <map>
#include <string>
#include <vector>
#include "../../../llmc/base/bf16.h"
#include "../../../llmc/data/permute.h"
#include "../../../llmc/layers/adamw.h"

constexpr int W = 8;
constexpr uint64_t ROWS = 40;

// All that a run is. weights are what the model computes with: masters that have been rounded to bf16.
struct Training {
    float weights[W], master[W], m[W], v[W];
    int step;                   // steps that are done
    uint64_t position;          // rows that have been read
    std::vector<float> losses;  // of the last four steps, the oldest first
};

// ---- data and layers: no state of their own ---------------------------------------------------------------------------------
// A row's loss, (weights . x - y)^2 / 2; its gradient times dloss is grads = or += (accumulate). One row in forty has a y that fits to nothing.
[[gnu::noinline]] inline float gradient(float* grads, const float* weights, uint64_t row, float dloss, bool accumulate) {
    float x[W], error = 0;
    for (int i = 0; i < W; i++) x[i] = uniform(philox(11, RNG_TEST, (uint32_t)i, row).x[0]) - 0.5f, error += (weights[i] - 0.25f * (float)i) * x[i];
    if (row == 17) error += 40;
    for (int i = 0; i < W; i++) grads[i] = (accumulate ? grads[i] : 0) + error * x[i] * dloss;
    return error * error / 2;
}
// t: the step, from 1
[[gnu::noinline]] inline void adamw_step(float* master, float* m, float* v, const float* grads, int t) {
    const float beta1 = 0.9f, beta2 = 0.95f, m_factor = (float)(1 / (1 - std::pow(0.9, t))), v_factor = (float)(1 / (1 - std::pow(0.95, t)));
    for (int i = 0; i < W; i++) {
        m[i] += (1 - beta1) * (grads[i] - m[i]), v[i] += (1 - beta2) * (grads[i] * grads[i] - v[i]);
        master[i] -= 0.01f * (m[i] * m_factor / (std::sqrt(v[i] * v_factor) + 1e-8f) + 0.1f * master[i]);
    }
}
// weights = masters, rounded stochastically by bits that depend on (seed, t, element) alone
[[gnu::noinline]] inline void round_weights(float* weights, const float* master, uint64_t seed, int t) {
    for (int i = 0; i < W; i++) weights[i] = round_stochastic(master[i], rounding_bits(seed, t, (uint64_t)i));
}
// The step guard: is this loss far above those of the last four steps? Until there are four nothing is.
inline bool is_spike(const std::vector<float>& losses, float loss) {
    float mean = 0;
    for (float x : losses) mean += x / 4;
    return losses.size() == 4 && loss > 4 * mean;
}
inline void remember(std::vector<float>& losses, float loss) {
    if (losses.size() == 4) losses.erase(losses.begin());
    losses.push_back(loss);
}
inline Training start(uint64_t seed) {
    Training t{};
    for (int i = 0; i < W; i++) t.master[i] = uniform(philox(seed, RNG_INIT, 0, (uint64_t)i).x[0]) - 0.5f;
    round_weights(t.weights, t.master, seed, 0);
    return t;
}

// ---- a checkpoint in memory: lists of floats and numbers, by name -------------------------------------------------------------
struct Checkpoint {
    std::map<std::string, std::vector<float>> lists;
    std::map<std::string, uint64_t> numbers;
};

// ---- a disk that can lose its power ---------------------------------------------------------------------------------------------
// Written is in the machine's memory first: sync() brings a file's contents to the disk, sync_folder() the names. A kill or a power cut comes before any operation.
struct PowerCut {};
class Disk {
public:
    explicit Disk(int operations) : left_(operations) {}
    void write(const std::string& name, const std::string& contents) { next(), files_[name] = {contents, false}; }  // a new file, or in place of what it held
    void sync(const std::string& name) { next(), files_.at(name).synced = true; }
    void rename(const std::string& from, const std::string& to) { next(), renames_.push_back({from, to}); }  // what `to` held is replaced at once
    void sync_folder() { next(), synced_renames_ = renames_.size(); }
    // What may be found under a name afterwards: of each number of renames that reached the disk one possibility. "torn" stands for contents that were not synced.
    std::vector<std::string> found(const std::string& name) const {
        std::vector<std::string> all;
        for (size_t n = synced_renames_; n <= renames_.size(); n++) {
            std::map<std::string, std::string> here = old_;
            for (const auto& [file, f] : files_) here[file] = f.synced ? f.contents : "torn";
            for (size_t i = 0; i < n; i++) here[renames_[i].second] = here[renames_[i].first], here.erase(renames_[i].first);
            all.push_back(here.count(name) ? here.at(name) : "missing");
        }
        return all;
    }
    void was_there(const std::string& name, const std::string& contents) { old_[name] = contents; }

private:
    struct File { std::string contents; bool synced; };
    void next() { if (left_-- == 0) throw PowerCut(); }
    int left_;
    std::map<std::string, std::string> old_;
    std::map<std::string, File> files_;
    std::vector<std::pair<std::string, std::string>> renames_;
    size_t synced_renames_ = 0;
};
