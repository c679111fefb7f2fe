// run.h: what a run is, as it goes from the options to the loop: prepare.h fills it. And what its options mean to data, kernels and sampler.
#pragma once
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>
#include "../comm/comm.h"
#include "../data/data.h"
#include "../data/text.h"
#include "../io/json.h"
#include "../io/run_lock.h"
#include "../layers/kernel_options.h"
#include "../layers/step_stats.h"
#include "../model/config_json.h"
#include "../model/sampler.h"
#include "../tokenizer/tokenizer.h"
#include "best.h"
#include "kept_files.h"
#include "log.h"
#include "options.h"
#include "replay.h"

struct Run {
    Options opt;
    Comm comm;
    std::string out;           // folder for logs and checkpoints; empty: nothing is written
    std::shared_ptr<RunLock> lock;  // of that folder, to the end of the run
    std::string weights;       // folder or .bin file to load weights from; empty: initialise
    std::string config_text;   // of the config.json in `weights`; empty: there is none
    std::string prefix;        // of the names of the tensors in files: as it was in `weights`
    bool resumed = false;      // weights is a checkpoint of this run: its optimizer state and position are loaded too
    Tokenizer tokenizer = Tokenizer::bytes();
    bool has_tokenizer = true; // false: token ids without a tokenizer
    int to_learn = 0;          // --plan, which learns none: the size of the tokenizer that the run would learn
    std::string assumed;       // --plan: lines of what it cannot know
    std::string tokenizer_is;  // for the banner: which one, and why
    std::vector<KeptFile> kept;  // of the model's folder, on rank 0: they go into each checkpoint
    Mixture train;
    Shards val;
    double floor = NAN;        // bits per byte that no model can beat on the validation data, where it is known
    Config config;
    int B = 0, T = 0, grad_accum = 1, leaves = 0;
    int per_node = 0;          // ranks of each of several nodes, if they add gradients among themselves first; else 0
    int eval_T = 0, complete_T = 0;  // the longest row that evaluations score, and complete
    int first_step = 0, steps = 0;
    Record record;             // of the run that is replayed
    // what a checkpoint carries besides tensors
    uint64_t position = 0;     // rows of the training data that all ranks have taken
    History history{};
    Best best;                 // with --patience
    Log::Position log_position;
    double seconds = 0;        // of training so far
    int rollbacks = 0;         // so far: --on-spike
    std::vector<std::string> autotuned;  // choices of algorithms, as other ones round differently
    int64_t train_tokens = -1, val_tokens = -1;  // of the data that the resumed run had; -1: not known
    std::string data_checksum;                   // likewise, of all its data: of texts of all tokens, of shards of samples
};

inline std::string options_json(const Options& opt) {
    Json json = Json::object();
    for (auto& [name, value] : describe(opt)) json.add(name, value);
    return json_dump(json);
}

// The token in front of each document; without a tokenizer that of the model, or else of the shards' format, as for the vocabulary.
inline int end_of_text(const Run& run) {
    if (run.has_tokenizer) return run.tokenizer.eot();
    if (const int token = run.weights.empty() ? published_document_token(run.opt.model) : document_token(run.config_text); token >= 0) return token;
    const Shards& shards = run.train.empty() ? run.val : run.train[0].shards;
    return !shards.empty() && shards[0].width == 4 ? 128000 : 50256;
}

inline DataOptions data_options(const Run& run, bool training) {
    const Options& opt = run.opt;
    DataOptions data{.B = run.B, .T = run.T, .rank = run.comm.rank, .world = run.comm.world, .seed = opt.seed};
    data.shuffle = training && !opt.overfit;
    data.only_first = training && opt.overfit ? (uint64_t)run.B * run.grad_accum * run.comm.world : 0;
    data.bos_align = opt.bos_align;
    data.repeats = training, data.once = !training;
    if (training && opt.zero < 2) data.step_batches = run.grad_accum;  // from stage 2 on ranks take turns at the micro-batches
    data.eot = end_of_text(run);
    data.vocab_size = run.config.V;
    return data;
}

// true once every n steps and at the last; n = 0: never.
inline bool every(int n, int step, bool last) { return n > 0 && (last || step % n == 0); }

inline AttentionBackend attention_backend(const Options& opt) {
    return opt.attention == "ours" ? AttentionBackend::OURS : opt.attention == "cudnn" ? AttentionBackend::CUDNN : AttentionBackend::FASTEST;
}
inline KernelOptions kernel_options(const Options& opt) {
    // levels 1 and 2 recompute GELU from its input as it was rounded, and so without the product of whose epilogue it could be
    const bool recomputes_gelu_alone = opt.recompute == RECOMPUTE_GELU || opt.recompute == RECOMPUTE_LAYERNORM;
    return {.tf32 = opt.tf32 != 0, .gelu_fusion = opt.gelu_fusion > 0 || (opt.gelu_fusion < 0 && opt.steps != 0 && !recomputes_gelu_alone), .deterministic = opt.deterministic != 0, .pdl = opt.pdl != 0, .attention = attention_backend(opt)};
}

// Those that the command line gives, of those that were given or chosen as if.
inline std::vector<std::string> given_options(const Options& opt) {
    std::vector<std::string> names;
    for (auto& [name, value] : describe(opt)) if (was_given(opt, name) && !was_chosen(opt, name)) names.push_back(name);
    return names;
}
inline SamplerOptions sampler_options(const Options& opt) { return {opt.temperature, opt.top_k, opt.top_p}; }
