// prepare.h: from the options to a run. Everything a user can get wrong is found here, before memory is taken: what contradicts what, then one thing
// after the other: the folder, where the run was, sizes, tokenizer, data.
#pragma once
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include "../comm/comm.h"
#include "../comm/flight_recorder.h"
#include "../comm/open.h"
#include "../io/checkpoint.h"
#include "../io/files.h"
#include "../model/bin_model.h"
#include "agree.h"
#include "named_files.h"
#include "options.h"
#include "place.h"
#include "progress.h"
#include "run.h"
#include "run_data.h"
#include "run_folder.h"
#include "sizes.h"
#include "text_defaults.h"

// Everything but memory and the batch (which --batch auto chooses by memory). evaluates_text: what --eval names needs a tokenizer.
inline Run prepare(Options given, const Comm& comm, bool evaluates_text) {
    using namespace run_detail;
    Run run;
    run.opt = std::move(given), run.comm = comm;
    must_agree_on_options(comm, run.opt);
    const Options& opt = run.opt;
    const bool planning = !opt.plan.empty();
    parse_batch(opt);
    if (opt.patience && opt.val_every == 0 && was_given(opt, "patience")) die_with(EXIT_USAGE, "--patience: %d given, but --val-every 0 validates nothing", opt.patience);
    if (opt.minutes > 0 && opt.steps == 0 && opt.chat.empty()) die_with(EXIT_USAGE, "--minutes: %g given, but --steps 0 trains nothing", opt.minutes);
    if (const char* differs = !opt.deterministic ? "--deterministic 0" : opt.reduce == "nccl" ? "--reduce nccl" : nullptr; opt.verify_steps && differs)
        die_with(EXIT_USAGE, "--verify-steps: %d given, which compares bits, but %s lets them differ", opt.verify_steps, differs);
    if (opt.reduce == "nccl" && opt.exchange == "bf16") die_with(EXIT_USAGE, "--exchange: 'bf16' given, must be fp32 with --reduce nccl: the library would add in bf16");
    if (opt.reduce == "nccl" && comm.world > 1 && !comm.transport->adds())
        die_with(EXIT_USAGE, "--reduce: 'nccl' given, must be tree: ranks that share memory (--ranks) only carry bytes; GPUs, and ranks of mpirun, have sums of their own");
    if (!planning && opt.zero > 0 && comm.world == 1) run.opt.zero = 0;  // of one rank there is nothing to divide
    if (opt.reduce == "tree") run.per_node = planning ? planned_ranks_of_each_node(opt) : ranks_of_each_node(comm);
    choose_out(run);
    if (opt.resume && !run.out.empty()) find_checkpoint(run), read_trainer_state(run);
    if (planning) find_planned_data(run);
    if (!run.resumed && comm.rank == 0) choose_for_text(run.opt);
    share_choices(comm, run.opt);
    run.B = parse_batch(opt);
    if (run.weights.empty() && (is_folder(opt.model) || is_bin_model(opt.model))) run.weights = opt.model;
    if (!planning && !run.resumed) in_turn(comm, [&, first = comm.rank == 0] { if (first) verify_model_folder(run.weights); });  // one that is resumed was verified when it was found
    const struct { const char *field, *option; double value; } deviations[] = {{"init_std", "--init-std", opt.init_std}, {"embed_std", "--embed-std", opt.embed_std}};
    for (const auto& d : deviations)
        if (was_given(opt, d.field) && !run.weights.empty() && !run.resumed) die_with(EXIT_USAGE, "%s: %g given, but the weights are those of %s", d.option, d.value, run.weights.c_str());
    if (!opt.export_bin.empty() && access(parent_folder(opt.export_bin).c_str(), W_OK))
        die_with(EXIT_USAGE, "--export-bin: cannot write %s: %s", opt.export_bin.c_str(), strerror(errno));
    if (const std::string is = kind_of_no_file(opt.export_bin); !is.empty()) die_with(EXIT_USAGE, "--export-bin: %s is a %s, must be a file", opt.export_bin.c_str(), is.c_str());
    if (opt.attention == "cudnn" && (opt.precision != "bf16" || opt.doc_mask))
        die_with(EXIT_USAGE, "--attention: 'cudnn' given, which makes attention in bf16 (--precision bf16) and not within documents (--doc-mask 0)");
    choose_sizes(run);
    if (opt.head_lr > 0 && run.config.arch.tied && !was_chosen(opt, "head_lr")) die_with(EXIT_USAGE, "--head-lr: %g given, but this model's head is its embedding: --embed-lr", opt.head_lr);
    if (!opt.export_bin.empty()) check_bin_export(run.config);
    if (run.B) count_steps(run);
    if (planning) plan_files(run, evaluates_text);
    else find_files(opt), open_tokenizer(run, evaluates_text), make_out(run), in_turn(comm, [&] { open_files(run); });
    choose_vocabulary(run);
    const int document = end_of_text(run);
    if (opt.doc_mask && document < 0) die_with(EXIT_USAGE, "--doc-mask: 1 given, but the tokenizer has no end-of-text token");
    if (const char* asks = opt.doc_mask ? "--doc-mask" : opt.bos_align ? "--bos-align" : nullptr; asks && document >= run.config.V)
        die_with(EXIT_USAGE, "%s: 1 given, but documents would begin with token %d, and the vocabulary has %d", asks, document, run.config.V);
    return run;
}

// After the batch is known: the data is cut in training and validation, steps are counted.
inline void finish_preparing(Run& run) {
    run_detail::count_steps(run);
    run_detail::hold_out_validation(run);
    run_detail::compare_data(run);
    if (run.opt.patience && run.opt.plan.empty() && (run.val.empty() || run.opt.val_every == 0)) {
        if (was_given(run.opt, "patience") && !was_chosen(run.opt, "patience")) die_with(EXIT_USAGE, "--patience: %d given, but there is nothing to validate: it needs --val-data or text", run.opt.patience);
        run.opt.patience = 0;
    }
    const Options& opt = run.opt;
    const bool validates = !run.val.empty() && opt.val_every, evaluates = !opt.eval.empty() || opt.hellaswag, samples = was_given(opt, "prompt"), writes = !run.out.empty() || !opt.export_bin.empty();
    if (opt.steps == 0 && opt.chat.empty() && opt.plan.empty() && !validates && !evaluates && !samples && !writes)
        die_with(EXIT_USAGE, "--steps: 0 given, and nothing else that is to be done: --val-data, --eval and --prompt look at the model, --export-bin and --out write it");
    if (!run.out.empty() && run.comm.rank == 0) make_folders(run.out);
    if (!run.out.empty()) flight_recorder().path = run.out + format("/flight-%05d.txt", run.comm.rank);
    if (run.comm.world == 1) return;
    must_agree(run.comm, "the data", format("%llu tokens to train on, %llu to validate on, vocabulary %d, checksum of samples %s", (unsigned long long)count_tokens(run.train),
                                            (unsigned long long)count_tokens(run.val), run.config.V, run.data_checksum.c_str()));
}
