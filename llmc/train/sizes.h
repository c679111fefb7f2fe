// sizes.h: how much a run takes at a time: the model's sizes, tokens of a row, sequences of a batch, micro-batches of a step and the leaves that they form.
#pragma once
#include <algorithm>
#include <climits>
#include <cstdint>
#include <string>
#include "../base/check.h"
#include "../model/config.h"
#include "../model/config_names.h"
#include "named_files.h"
#include "options.h"
#include "run.h"

inline int parse_batch(const Options& opt) {  // 0: auto
    if (opt.batch == "auto") return 0;
    constexpr int MOST = 1 << 20;
    const int B = config_detail::whole_number(opt.batch);
    if (B < 1 || B > MOST) die_with(EXIT_USAGE, "--batch: '%s' given, must be a whole number in 1..%d, or auto", opt.batch.c_str(), MOST);
    return B;
}

namespace run_detail {
// The model's sizes but for the vocabulary, and T: what can be wrong here is found before anything is written.
inline void choose_sizes(Run& run) {
    const Options& opt = run.opt;
    if (run.weights.empty()) run.config = config_by_name(opt.model, 1);
    else run.config = config_of_files(run.weights);
    if (!run.weights.empty() && !is_bin_model(run.weights)) run.config_text = read_file(run.weights + "/config.json");
    run.T = opt.seq ? opt.seq : opt.chat.empty() ? std::min(run.config.max_T, 256) : run.config.longest_row();
    if (run.T > run.config.max_T) die_with(EXIT_USAGE, "--seq: %d given, the model's context is %d", run.T, run.config.max_T);
    if (run.weights.empty() && run.config.sliding_window >= run.T)
        die_with(EXIT_USAGE, "--model: '%s' given: a sliding window of %d, which must be shorter than the %d tokens of a sequence (--seq)", opt.model.c_str(), run.config.sliding_window, run.T);
}

// By default as many as ranks; where no rank keeps whole gradients each micro-batch is one.
inline int leaves_of_step(const Options& opt, int grad_accum) {
    return opt.leaves ? opt.leaves : opt.zero < 2 || opt.nproc == 1 ? opt.nproc : std::min(grad_accum, INT_MAX / opt.nproc) * opt.nproc;
}

// --batch, --total-batch, --leaves and --steps, once the batch is known.
inline void count_steps(Run& run) {
    const Options& opt = run.opt;
    constexpr int64_t MOST_TOKENS = 1 << 30, MOST_MICRO_BATCHES = 1 << 20;  // tokens are counted in 32 bits; a plan of more makes no sense
    if (const int64_t tokens = (int64_t)run.B * run.T; tokens > MOST_TOKENS)
        die_with(EXIT_USAGE, "--batch: %d sequences of %d tokens are %lld tokens, must be at most %lld", run.B, run.T, (long long)tokens, (long long)MOST_TOKENS);
    const int64_t micro = (int64_t)run.B * run.T * opt.nproc, total = opt.total_batch ? opt.total_batch : micro;
    const char* from = was_given(opt, "total_batch") || !run.resumed ? "given" : "of the checkpoint";
    if (total % micro)
        die_with(EXIT_USAGE, "--total-batch: %lld %s, must be a multiple of batch x seq x ranks = %d x %d x %d = %lld",
                 (long long)total, from, run.B, run.T, opt.nproc, (long long)micro);
    if (total / micro > MOST_MICRO_BATCHES)
        die_with(EXIT_USAGE, "--total-batch: %lld given, which is %lld micro-batches of %lld tokens, must be at most %lld of them", (long long)total,
                 (long long)(total / micro), (long long)micro, (long long)MOST_MICRO_BATCHES);
    run.grad_accum = (int)(total / micro);
    const int64_t micro_batches = (int64_t)run.grad_accum * opt.nproc;
    run.leaves = leaves_of_step(opt, run.grad_accum);
    if (opt.zero >= 2 && opt.nproc > 1 && run.leaves != micro_batches)
        die_with(EXIT_USAGE, "--leaves: %d %s, must be the %lld micro-batches of a step with --zero %d: where no rank keeps whole gradients, each micro-batch is a leaf", run.leaves,
                 was_given(opt, "leaves") ? "given" : "of the checkpoint", (long long)micro_batches, opt.zero);
    if (run.leaves % opt.nproc || micro_batches % run.leaves)
        die_with(EXIT_USAGE, "--leaves: %d %s, must be a multiple of the %d ranks that divides the %lld micro-batches of a step", run.leaves,
                 was_given(opt, "leaves") ? "given" : "of the checkpoint", opt.nproc, (long long)micro_batches);
    if (const int of_rank = run.leaves / opt.nproc; opt.nproc > 1 && opt.zero < 2 && (of_rank & (of_rank - 1)))
        die_with(EXIT_USAGE, "--leaves: %d %s, which are %d of each of %d ranks, must be 1, 2, 4, 8, ... of each: else the sums are no part of the tree that one rank makes%s", run.leaves,
                 was_given(opt, "leaves") ? "given" : "of the checkpoint", of_rank, opt.nproc, run.leaves == micro_batches ? "; --zero 2 takes them" : "");
    run.opt.leaves = run.leaves;  // for the checkpoint
    run.steps = opt.steps;
}
}  // namespace run_detail
