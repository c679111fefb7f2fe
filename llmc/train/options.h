// options.h: the one table of options. Each row yields the field, its parsing, its line in --help, the header
// of metrics.jsonl and the "options" of a checkpoint.
#pragma once
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cctype>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>
#include "../base/check.h"
#include "../base/nearest.h"
#include "../base/stop.h"
#include "../base/wrap.h"

// group, type, field (its long name is --field with dashes), short name, default, allowed, help
// allowed: "" anything | "a|b|c" one of these | "lo.." at least lo | "lo..hi" | ">lo.." more than lo
#define OPTIONS(O) \
    O("Data", std::string, train_data, "i", "", "", "training data: token shards (a glob), or a .txt or .jsonl file; a mixture by weight: a:0.7,b:0.3") \
    O("Data", std::string, val_data, "j", "", "", "validation data, likewise; without it 10 % of a text file is held out") \
    O("Data", std::string, tokenizer, "", "", "", "bytes, bpe:N (N tokens, learned from the text), tokenizer.json, or a folder with vocab.bpe and encoder.json; without it the one beside the model, else beside the token shards, else bytes for a new model") \
    O("Data", int, text_special, "", 0, "0..1", "1: special tokens written in training and validation text, as <|im_start|>, are taken as such; 0: as plain text") \
    O("Data", int, skip_bad, "", 0, "0..", "lines of a .jsonl file that are no documents are left out, up to so many a file") \
    O("Data", int, bos_align, "", 0, "0..1", "1: every sequence begins at the start of a document") \
    O("Data", int, doc_mask, "", 0, "0..1", "1: attention stays within a document") \
    O("Data", int, overfit, "a", 0, "0..1", "1: train on the first batch of the training data, over and over") \
    O("Model", std::string, model, "e", "d6", "", "d12, gpt2:d12, gpt3:c768 ..., smollm2:135m, qwen3:0.6b, llama3.2:1b ..., llama:d12, modern:d12, modern:d12w512 (sliding window), d4c128h4 (depth, width, heads), a checkpoint folder, or a .bin model file; without it a new run on texts chooses whatever is not given, and prints it as a command") \
    O("Model", double, init_std, "", 0.02, ">0..1", "standard deviation of the initial weights; a narrow model learns sooner from 1 / sqrt(width)") \
    O("Model", double, embed_std, "", 0, "0..10", "standard deviation of the initial vectors of tokens; 0: that of --init-std; a narrow Llama learns better from some six times that") \
    O("Model", std::string, precision, "", "fp32", "fp32|bf16", "type of weights and activations") \
    O("Model", int, recompute, "r", 0, "0..3", "activation recomputation in the backward pass, to save memory: 1 GELU or SwiGLU, 2 norms too, 3 all of a block but its input") \
    O("Model", int, master_weights, "w", 1, "0..1", "keep fp32 master weights beside bf16 ones") \
    O("Batch", std::string, batch, "b", "8", "", "sequences in a micro-batch of each rank, or auto: the most that fits in memory") \
    O("Batch", int, seq, "t", 0, "0..", "tokens in a sequence; 0: the model's context, at most 256, of --chat at most 8192") \
    O("Batch", int64_t, total_batch, "d", 0, "0..", "tokens in a step over all ranks, by gradient accumulation; 0: one micro-batch of each rank") \
    O("Batch", int, leaves, "", 0, "0..", "a step's micro-batches are added in so many runs of equal length, and those as a binary tree: for equal batch, total batch and leaves, runs on 1, 2, 4, 8, ... ranks are bitwise identical; 0: the number of ranks, from ZeRO stage 2 on that of the micro-batches, or the checkpoint's") \
    O("Batch", int, classifier_rows, "", 0, "0..", "rows of a micro-batch whose logits are in memory at a time; more move less memory, and add up other bits; 0: the checkpoint's, else on a GPU up to 8192, by its memory") \
    O("Optimizer", std::string, recipe, "", "gpt2", "gpt2|modern", "names a whole set of the options below, of which others that are given hold; gpt2: their defaults; modern: Muon, rates for each group, a trapezoidal schedule, and weight decay that follows it; the model is --model's matter: modern:dN") \
    O("Optimizer", int, steps, "x", -1, "-1..", "end after so many steps in all; -1: one epoch, 0: validate and stop") \
    O("Optimizer", double, lr, "l", 6e-4, "0..3.4e38", "peak learning rate") \
    O("Optimizer", int, warmup, "u", 0, "0..", "warm-up: steps in which the learning rate rises linearly from 0") \
    O("Optimizer", double, final_lr_frac, "q", 0.1, "0..1", "learning rate at the end, as a fraction of the peak") \
    O("Optimizer", std::string, schedule, "k", "cosine", "cosine|linear|constant|wsd|trapezoidal", "decay of the learning rate after the warm-up; wsd and trapezoidal: constant, then falling by 1 - sqrt or linearly") \
    O("Optimizer", double, cooldown, "", 0.2, ">0..1", "of wsd and trapezoidal: the last part of the steps, in which the rate falls") \
    O("Optimizer", double, minutes, "", 0, "0..", "train by the clock: the learning rate follows the time left of so many minutes in all, --steps is the most it makes of them; 0: by --steps") \
    O("Optimizer", std::string, replay, "", "", "", "the --out folder of a run: repeat it bit for bit, with the options, learning rates and last step that its metrics.jsonl records; on a GPU with the autotune cache that it had") \
    O("Optimizer", std::string, optimizer, "", "adamw", "adamw|muon", "muon: matrices of blocks by Muon, the rest by AdamW") \
    O("Optimizer", double, muon_lr, "", 0.02, ">0..3.4e38", "with --optimizer muon: peak learning rate of the blocks' matrices") \
    O("Optimizer", double, muon_momentum, "", 0.95, "0..0.9999999", "likewise: their momentum, Nesterov's") \
    O("Optimizer", int, muon_momentum_warmup, "", 0, "0..", "likewise: steps in which the momentum rises linearly from 0.85") \
    O("Optimizer", double, muon_weight_decay, "", 0.05, "0..3.4e38", "likewise: their decoupled weight decay") \
    O("Optimizer", double, embed_lr, "", 0, "0..3.4e38", "likewise: peak learning rate of embeddings; 0: --lr") \
    O("Optimizer", double, head_lr, "", 0, "0..3.4e38", "likewise: of a head that is not tied; 0: --lr") \
    O("Optimizer", double, weight_decay, "c", 0.1, "0..3.4e38", "decoupled weight decay of matrices and embeddings; biases and LayerNorms have none") \
    O("Optimizer", std::string, decay_schedule, "", "constant", "constant|lr", "weight decay over the steps; lr: it follows the learning rate, as a part of its peak") \
    O("Optimizer", double, grad_clip, "", 1, "0..", "clip the gradient to this global norm; 0: no clipping") \
    O("Optimizer", double, beta1, "", 0.9, "0..0.9999999", "AdamW's decay rate of the first moment") \
    O("Optimizer", double, beta2, "", 0.95, "0..0.9999999", "AdamW's decay rate of the second moment") \
    O("Optimizer", double, eps, "", 1e-8, "1.2e-38..3.4e38", "AdamW's epsilon") \
    O("Optimizer", double, skip_loss_z, "sl", 0, "0..", "step guard: skip an update whose loss lies more than so many standard deviations above the mean of the last 128; 0: never") \
    O("Optimizer", double, skip_grad_z, "sg", 0, "0..", "step guard: likewise for the norm of the gradient") \
    O("Optimizer", int, verify_steps, "", 0, "0..", "compute the gradients of every so many steps twice, and end where they differ by a bit: processors that compute wrongly now and then; 0: never") \
    O("Optimizer", std::string, on_spike, "", "skip", "skip|rollback", "after a step that does not pass the step guard: its update is skipped, or the run goes back to its last good checkpoint, and on behind the data that led there") \
    O("Optimizer", int, rollbacks, "", 3, "0..", "with --on-spike rollback: at most so many in a run; further updates are skipped") \
    O("Optimizer", uint64_t, seed, "", 42, "0..", "seed of the initial weights, the order of the data, stochastic rounding and sampling") \
    O("Output", std::string, out, "o", "", "", "folder for logs and checkpoints; without it out, out2, ...: the first that is free") \
    O("Output", int, val_every, "v", 250, "0..", "validate every so many steps; 0: never") \
    O("Output", int, val_batches, "m", 20, "0..", "batches in a validation; 0: all of the data") \
    O("Output", int, patience, "", 0, "0..", "end when so many validations in a row were no better than the best one, whose checkpoint is kept; 0: never") \
    O("Output", int, sample_every, "s", 250, "0..", "print a sample every so many steps; 0: never") \
    O("Output", int, sample_tokens, "g", 200, "1..", "tokens in a sample") \
    O("Output", int, checkpoint_every, "n", 1000, "0..", "checkpoint every so many steps and at the end; 0: never") \
    O("Output", int, async_save, "", 1, "0..1", "1: a checkpoint is copied to memory of the host, which the plan shows, and written while training goes on; 0: training waits until it is written, and needs no such memory") \
    O("Output", int, confirm, "", 10, "0..", "a checkpoint is good, and earlier ones may go for it, when so many steps after it have passed the step guard, or the run ends well") \
    O("Output", int, keep, "nk", 0, "0..", "keep the newest so many good checkpoints; 0: all") \
    O("Output", int, major, "nm", 0, "0..", "with --keep: also keep those whose step is a multiple of this; 0: none") \
    O("Output", int, resume, "y", 0, "0..1", "1: go on from the newest good checkpoint in --out") \
    O("Output", std::string, export_bin, "", "", "", "write the model as a .bin file (llm.c's format) at the end") \
    O("Output", int, hellaswag, "h", 0, "0..1", "1: evaluate HellaSwag with each validation: dev/data/hellaswag/hellaswag_val.jsonl or .bin") \
    O("Output", std::string, eval, "", "", "", "NAME=FILE,NAME=FILE...: questions (.jsonl, .bin; llmc/train/eval_sets.h) or texts to evaluate with each validation; answers to complete at the end") \
    O("Sampling", std::string, prompt, "", "", "", "text that samples begin with; \"\": the end-of-text token alone") \
    O("Sampling", int, special, "", 1, "0..1", "1: special tokens written in a prompt or a line of --chat, as <|im_start|>, are taken as such; 0: as plain text") \
    O("Sampling", std::string, chat, "", "", "", "a checkpoint folder or .bin file: continue each line of standard input with it, up to --sample-tokens") \
    O("Sampling", double, temperature, "", 0.8, "0..", "temperature of sampling; 0: greedy, always the most likely token") \
    O("Sampling", int, top_k, "", 0, "0..", "sample among the k most likely tokens; 0: all") \
    O("Sampling", double, top_p, "", 1, ">0..1", "nucleus sampling: among the most likely tokens that together have this probability") \
    O("Machine", int, threads, "", 0, "0..1024", "CPU threads, at most the cores that affinity and control group allow; 0: all of them") \
    O("Machine", int, ranks, "", 1, "1..64", "on a CPU: start so many ranks, processes that share this machine's cores and the work of each step; mpirun starts them on many machines") \
    O("Machine", int, gpus, "", 0, "0..64", "on GPUs: start so many ranks on this machine, one process a GPU; 0: as many as GPUs are visible") \
    O("Machine", int, zero, "z", 0, "0..3", "ZeRO stage, what is divided over the ranks instead of held by each: 1 optimizer state, 2 gradients too, 3 weights too; of N micro-batches each, 2 and 3 keep log2(N) + 1 shards of gradients, of ranks that are no power of two some more: a larger --batch takes less") \
    O("Machine", std::string, reduce, "", "tree", "tree|nccl", "sum of gradients over the ranks; tree: our own, in a fixed order; nccl: by the library, NCCL or MPI, in whatever order: then bits depend on the number of ranks, and may on the run") \
    O("Machine", std::string, exchange, "", "fp32", "fp32|bf16", "type in which gradients travel between ranks; bf16: half the bytes; they are added in fp32 all the same, but bits depend on the number of ranks") \
    O("Machine", double, comm_timeout, "", 0, "0..", "seconds after which a rank that does not come to an exchange has failed, ten times as many between steps; 0: 5 median steps, 10 at least, an hour between steps") \
    O("Machine", int, nproc, "pn", 1, "1..65536", "number of ranks on all machines, where no launcher says it; with --plan of the run that is planned") \
    O("Machine", std::string, cache, "", "", "", "folder of the autotune cache: the algorithms that were fastest on this GPU, so that later runs begin sooner and are bitwise identical; without it ~/.cache/llmc") \
    O("Machine", int, tf32, "f", 1, "0..1", "TF32 matrix products on GPUs that have them") \
    O("Machine", int, gelu_fusion, "ge", -1, "-1..2", "on a GPU, GELU of the forward pass in the epilogue of its GEMM where the warm-up measures that it is faster: -1: with --recompute 0 and 3, which leave equal bits; 1 and 2 recompute GELU alone, from rounded inputs, and leave others, equal to each other; 0: never, so that all four leave equal bits; 1, 2: with all four") \
    O("Machine", std::string, attention, "", "fastest", "fastest|ours|cudnn", "attention kernels on a GPU in bf16; fastest: autotuned when a run begins") \
    O("Machine", int, deterministic, "", 1, "0..1", "0: cuDNN may add up attention's gradients in any order: faster, but runs are no longer bitwise identical") \
    O("Machine", int, pdl, "", 1, "0..1", "programmatic dependent launch (sm_90 and newer): blocks are scheduled while the previous kernel drains") \
    O("Machine", int, separate_buffers, "", 0, "0..1", "1: an allocation for each buffer of the plan, for compute-sanitizer") \
    O("Machine", std::string, plan, "", "", "", "print what the run that the other options describe takes in memory and time, on this machine or a named GPU (--plan H100, or --plan --gpu H100), and exit: nothing is written") \
    O("Machine", std::string, gpu, "", "", "", "with --plan: the GPU of the run that is planned, one of llmc/model/gpus.h") \
    O("Machine", int, nodes, "", 0, "0..1048576", "with --plan: machines, each with --gpus-per-node GPUs; 0: as many as --nproc needs") \
    O("Machine", double, net, "", 400, ">0..", "with --plan: network, Gb/s for each GPU, each way") \
    O("Machine", double, gpu_price, "", 3.5, "0..", "with --plan: dollars for a GPU and hour; 3.5: 8 H100 for 24 hours at 672, as llm.c published") \
    O("Machine", int, rank, "pr", 0, "0..", "number of this process among --nproc, where no launcher says it") \
    O("Machine", int, gpus_per_node, "pg", 8, "1..", "ranks on each machine, likewise; with --plan of each of --nodes") \
    O("Machine", std::string, init, "pi", "mpi", "mpi|tcp|fs", "how GPUs of several machines find each other: by MPI, at rank 0's port (under torchrun unless told), or in a shared folder") \
    O("Machine", std::string, server, "ps", "", "", "with --init tcp: host[:port] of rank 0") \
    O("Machine", std::string, secret_file, "", "", "", "with --init tcp: file with what all must know to be let in, readable by its owner alone; without it LLMC_SECRET of the environment") \
    O("Machine", std::string, fs_path, "pf", "", "", "with --init fs: the folder") \
    O("Not yet", int, gpu_stats_every, "lg", -1, "-1..", "log the GPU's clocks every so many steps") \
    O("Not yet", std::string, dtype_grads, "", "fp32", "fp32", "type in which weight gradients are accumulated")

struct Options {
#define FIELD(group, type, field, shortname, fallback, ...) type field = fallback;
    OPTIONS(FIELD)
#undef FIELD
    std::string program = "./train_gpt2";
    std::vector<std::string> given;   // fields that the command line names, or that were chosen as if it did
    std::vector<std::string> chosen;  // fields that were chosen: text_defaults.h
    std::string said;                 // of them, for the banner
};
inline bool was_given(const Options& opt, const std::string& field) { return std::find(opt.given.begin(), opt.given.end(), field) != opt.given.end(); }
inline bool was_chosen(const Options& opt, const std::string& field) { return std::find(opt.chosen.begin(), opt.chosen.end(), field) != opt.chosen.end(); }

namespace options_detail {
// A row is data, and the few functions below read it: code for each row would cost a second of compile time.
struct OptionRow {
    const char *group, *field, *short_name, *allowed, *help;
    int Options::* as_int = nullptr;  // the row's field, in one of these
    int64_t Options::* as_int64 = nullptr;
    uint64_t Options::* as_uint64 = nullptr;
    double Options::* as_double = nullptr;
    std::string Options::* as_string = nullptr;
    constexpr void point_to(int Options::* p) { as_int = p; }
    constexpr void point_to(int64_t Options::* p) { as_int64 = p; }
    constexpr void point_to(uint64_t Options::* p) { as_uint64 = p; }
    constexpr void point_to(double Options::* p) { as_double = p; }
    constexpr void point_to(std::string Options::* p) { as_string = p; }
    template <class Field> constexpr OptionRow(const char* g, const char* f, const char* s, const char* a, const char* h, Field Options::* p)
        : group(g), field(f), short_name(s), allowed(a), help(h) { point_to(p); }

    std::string name() const {
        std::string s = std::string("--") + field;
        for (char& c : s) if (c == '_') c = '-';
        return s;
    }
    static std::string exact(double x) {  // short where that reads back as the same number, as what people write does
        const std::string short_one = format("%.10g", x);
        return strtod(short_one.c_str(), nullptr) == x ? short_one : format("%.17g", x);
    }
    std::string text(const Options& o) const {
        return as_string ? o.*as_string : as_double ? exact(o.*as_double) : as_int ? std::to_string(o.*as_int)
             : as_int64 ? std::to_string(o.*as_int64) : std::to_string(o.*as_uint64);
    }
    void set(Options& o, const std::string& text) const {
        if (as_string) o.*as_string = text;
        if (as_double) o.*as_double = strtod(text.c_str(), nullptr);
        if (as_int) o.*as_int = (int)strtoll(text.c_str(), nullptr, 10);
        if (as_int64) o.*as_int64 = strtoll(text.c_str(), nullptr, 10);
        if (as_uint64) o.*as_uint64 = strtoull(text.c_str(), nullptr, 10);
    }
};

constexpr OptionRow TABLE[] = {
#define ROW(group, type, field, shortname, fallback, allowed, help) {group, #field, shortname, allowed, help, &Options::field},
    OPTIONS(ROW)
#undef ROW
};

// Empty if `text` is a value the row allows, else what would be right.
inline std::string check_value(const OptionRow& row, const std::string& text) {
    std::string allowed = row.allowed;
    if (row.as_string) {
        if (allowed.empty()) return "";
        for (size_t at = 0; at <= allowed.size();) {
            size_t bar = std::min(allowed.find('|', at), allowed.size());
            if (allowed.substr(at, bar - at) == text) return "";
            at = bar + 1;
        }
        return "one of " + allowed;
    }
    const size_t dots = allowed.find("..");
    std::string low = allowed.substr(0, dots), high = allowed.substr(dots + 2);
    if (!row.as_double) {  // compared as whole numbers: a double holds 53 bits of one
        const uint64_t most = high.empty() ? row.as_int ? INT_MAX : row.as_int64 ? INT64_MAX : UINT64_MAX : strtoull(high.c_str(), nullptr, 10);
        const std::string right = format("a whole number in %s..%llu", low.c_str(), (unsigned long long)most);
        const bool negative = text[0] == '-';
        const std::string digits = text.substr(negative || text[0] == '+');
        if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos) return right;
        errno = 0;
        const uint64_t size = strtoull(digits.c_str(), nullptr, 10);
        if (errno) return right;
        if (negative) return size <= strtoull(low.c_str() + (low[0] == '-'), nullptr, 10) && (low[0] == '-' || size == 0) ? "" : right;
        return size <= most && (low[0] == '-' || size >= strtoull(low.c_str(), nullptr, 10)) ? "" : right;
    }
    char* end;
    errno = 0;
    double value = strtod(text.c_str(), &end);
    const std::string right = "a number" + (allowed.empty() ? "" : " in " + allowed);
    if (text.empty() || *end || errno || !std::isfinite(value) || text.find_first_of("xX ") != std::string::npos) return right;
    bool above = low[0] == '>' ? value > atof(low.c_str() + 1) : value >= atof(low.c_str());
    bool below = high.empty() || (high[0] == '<' ? value < atof(high.c_str() + 1) : value <= atof(high.c_str()));
    return above && below ? "" : right;
}

inline void print_help() {
    const Options defaults;
    const size_t width = terminal_width();
    printf("usage: train_gpt2 -i DATA [option value]...\n");
    const char* group = "";
    std::string not_yet;
    for (const OptionRow& row : TABLE) {
        if (!strcmp(row.group, "Not yet")) {  // one entry for all: they do nothing
            not_yet += (not_yet.empty() ? "" : ", ") + row.name() + (*row.short_name ? std::string(" (-") + row.short_name + ")" : "");
            continue;
        }
        if (strcmp(group, row.group)) printf("\n%s\n", group = row.group);
        std::string left = row.name() + (*row.short_name ? std::string(", -") + row.short_name : "");
        std::string fallback = row.text(defaults).empty() ? "" : " (" + row.text(defaults) + ")";
        std::string choices = strchr(row.allowed, '|') ? std::string(": ") + row.allowed : "";
        printf("%s", wrapped(left, row.help + choices + fallback, width).c_str());
    }
    printf("\n%s", wrapped("not yet", not_yet + ": taken where a run script's value means one process, refused otherwise", width).c_str());
    printf("\n%s%s", wrapped("--help", "this page", width).c_str(), wrapped("--version", "the version", width).c_str());
}

// What other trainers call it.
constexpr struct { const char *word, *field; } SYNONYMS[] = {{"block", "seq"}, {"context", "seq"}, {"ctx", "seq"}, {"iters", "steps"}, {"iterations", "steps"}, {"epochs", "steps"}, {"epoch", "steps"},
    {"data", "train_data"}, {"input", "train_data"}, {"dataset", "train_data"}, {"dir", "out"}, {"wd", "weight_decay"}, {"learning", "lr"}, {"dtype", "precision"}, {"fp16", "precision"}, {"device", "threads"}, {"accumulation", "total_batch"},
    {"save every", "checkpoint_every"}, {"save interval", "checkpoint_every"}, {"eval interval", "val_every"}, {"min lr", "final_lr_frac"}, {"n layer", "model"}, {"n head", "model"}, {"n embd", "model"}};

// The line about a name that is no option: the nearest one: by its case and its beginning, its letters, a word of it, and what other trainers call it.
inline std::string unknown_option(const std::string& name, const OptionRow* behind) {  // behind: the option before it
    const bool trains = behind && !strcmp(behind->field, "train_data"), validates = behind && !strcmp(behind->field, "val_data");
    if (name[0] != '-' && (trains || validates)) {
        const size_t file = name.rfind('/') + 1, dot = name.rfind('.');  // npos + 1 is 0
        const std::string pattern = name.substr(0, file) + "*" + (dot != name.npos && dot > file ? name.substr(dot) : "");
        return format("'%s' is not an option: one name follows %s; of several files a pattern in quotes, as '%s'%s", name.c_str(), behind->name().c_str(), pattern.c_str(),
                      trains ? ", or a mixture, as a:0.7,b:0.3" : "");
    }
    if (name[0] != '-') return format("'%s' is not an option%s", name.c_str(), access(name.c_str(), F_OK) == 0 ? format("; -i %s trains on it", name.c_str()).c_str() : "; --help lists them");
    std::string plain = "--" + name.substr(std::min(name.find_first_not_of('-'), name.size()));
    for (char& c : plain) c = c == '_' ? '-' : (char)tolower(c);
    std::vector<std::string> names = {"--help", "--version"};
    for (const OptionRow& row : TABLE) names.push_back(row.name());
    const auto is_named = [&](const std::string& n) { return std::find(names.begin(), names.end(), n) != names.end(); };
    std::string near = is_named(plain) ? plain : "", words = plain.substr(2);
    for (char& c : words) if (c == '-') c = ' ';
    for (const auto& [word, field] : SYNONYMS)  // the whole of it
        if (near.empty() && words == word) near = "--" + std::string(field);
    for (const std::string& n : names)  // what it begins (--temp)
        if (near.empty() && plain.size() > 4 && n.starts_with(plain)) near = n;
    if (near.empty() && plain.size() > 4) near = nearest(plain, names);
    for (const std::string& n : names)  // no word is near: what begins like it (--batchsize)
        if (near.empty() && plain.starts_with(n)) near = n;
    for (const OptionRow& row : TABLE)  // or is described so (--learning-rate)
        if (near.empty() && words.size() > 4 && strstr(row.help, words.c_str())) near = row.name();
    for (size_t at = 0, end; near.empty() && at < words.size(); at = end + 1) {  // or one of its words (--max-steps, --block-size)
        end = std::min(words.find(' ', at), words.size());
        const std::string word = words.substr(at, end - at);
        if (is_named("--" + word)) near = "--" + word;
        for (const auto& [synonym, field] : SYNONYMS) if (near.empty() && word == synonym) near = "--" + std::string(field);
    }
    std::replace(near.begin(), near.end(), '_', '-');
    return name + ": unknown option; " + (near.empty() ? "" : "is it " + near + "? ") + "--help lists them";
}
}  // namespace options_detail

constexpr const char* VERSION = "0.1";

// What is for many processes does nothing in one: a value is refused unless it means one process.
inline void refuse_without_effect(const Options& opt) {
    const auto refuse = [](const char* option, const std::string& value, const char* allowed) {
        die_with(EXIT_USAGE, "%s: '%s' given, must be %s: it has no effect in a run of one process", option, value.c_str(), allowed);
    };
    if (!opt.plan.empty() || was_given(opt, "nproc")) return;  // one process if it is there: scripts name the rest for any number
    if (opt.gpus_per_node != Options().gpus_per_node && opt.gpus_per_node != 1) refuse("--gpus-per-node", std::to_string(opt.gpus_per_node), "1 or left out");
    if (opt.reduce != Options().reduce) refuse("--reduce", opt.reduce, "tree or left out");
    if (opt.exchange != Options().exchange) refuse("--exchange", opt.exchange, "fp32 or left out");
    if (opt.init != Options().init) refuse("--init", opt.init, "left out");
    if (!opt.server.empty()) refuse("--server", opt.server, "left out");
    if (!opt.secret_file.empty()) refuse("--secret-file", opt.secret_file, "left out");
    if (!opt.fs_path.empty()) refuse("--fs-path", opt.fs_path, "left out");
    if (opt.gpu_stats_every > 0) refuse("--gpu-stats-every", std::to_string(opt.gpu_stats_every), "0, -1 or left out");
}

// --plan --gpu H100 is --plan H100; --nodes 2 of eight GPUs are --nproc 16, and so are --gpus 16.
inline void settle_plan(Options& opt) {
    for (const char* field : {"gpu", "nodes", "net", "gpu_price"})
        if (std::string name = field; opt.plan.empty() && was_given(opt, field)) {
            std::replace(name.begin(), name.end(), '_', '-');
            die_with(EXIT_USAGE, "--%s: given without --plan, which alone uses it", name.c_str());
        }
    if (!opt.gpu.empty() && opt.plan != "here" && opt.plan != opt.gpu) die_with(EXIT_USAGE, "--gpu: '%s' given, but --plan names '%s'", opt.gpu.c_str(), opt.plan.c_str());
    if (!opt.gpu.empty()) opt.plan = opt.gpu;
    if (const int started = std::max(opt.ranks, opt.gpus); !opt.plan.empty() && started > 1) {
        const char* option = opt.ranks > 1 ? "ranks" : "gpus";
        if (opt.nodes) die_with(EXIT_USAGE, "--%s: %d given with --nodes %d, must be left out: --gpus-per-node says how many ranks a machine has", option, started, opt.nodes);
        if (was_given(opt, "nproc") && opt.nproc != started) die_with(EXIT_USAGE, "--%s: %d given, but --nproc is %d", option, started, opt.nproc);
        opt.nproc = started;
    }
    if (opt.nodes == 0) return;
    const int64_t ranks = (int64_t)opt.nodes * opt.gpus_per_node;
    if (ranks > INT_MAX) die_with(EXIT_USAGE, "--nodes: %d given, with %d GPUs each more than can be counted", opt.nodes, opt.gpus_per_node);
    if (was_given(opt, "nproc") && opt.nproc != ranks)
        die_with(EXIT_USAGE, "--nodes: %d given, with %d GPUs each, but --nproc is %d", opt.nodes, opt.gpus_per_node, opt.nproc);
    opt.nproc = (int)ranks;
}

inline bool has_cooldown(const std::string& schedule) { return schedule == "wsd" || schedule == "trapezoidal"; }

// The choice by which this option does nothing; "": none.
inline std::string idle_by(const Options& opt, const std::string& field) {
    for (const char* of_muon : {"muon_lr", "muon_momentum", "muon_momentum_warmup", "muon_weight_decay", "embed_lr", "head_lr"})
        if (field == of_muon && opt.optimizer != "muon") return "--optimizer " + opt.optimizer;
    return field == "cooldown" && !has_cooldown(opt.schedule) ? "--schedule " + opt.schedule : "";
}

// What --recipe modern names; gpt2 is the default of each. Rates of tokens by dev/LOG.md, 83; of the head, at a width of 768, and the rest of AdamW as
// modded-nanogpt has them (records/track_3_optimization, result 36).
constexpr struct { const char *field, *modern; } RECIPE[] = {
    {"optimizer", "muon"}, {"schedule", "trapezoidal"}, {"cooldown", "0.7"}, {"warmup", "0"}, {"final_lr_frac", "0"}, {"lr", "0.003"}, {"muon_lr", "0.02"}, {"embed_lr", "0.008"},
    {"head_lr", "0.004"}, {"muon_weight_decay", "0.05"}, {"weight_decay", "0.001"}, {"decay_schedule", "lr"}, {"beta1", "0.8"}, {"beta2", "0.95"}, {"eps", "1e-10"}};

// Chooses what the command leaves open; `said` is for the banner.
inline void follow_recipe(Options& opt) {
    if (!was_given(opt, "recipe")) return;
    const Options defaults;
    opt.said = "recipe   " + opt.recipe + ":";
    for (const auto& [field, modern] : RECIPE)
        for (const options_detail::OptionRow& row : options_detail::TABLE) {
            if (strcmp(row.field, field) || was_given(opt, field) || !idle_by(opt, field).empty()) continue;
            row.set(opt, opt.recipe == "modern" ? modern : row.text(defaults));
            opt.given.push_back(field), opt.chosen.push_back(field), opt.said += format(" %s %s", row.name().c_str(), row.text(opt).c_str());
        }
    opt.said += "\n";
}

// An option that another one makes do nothing. Those of llm.c's run scripts are left alone: they name all of theirs.
inline void refuse_idle(const Options& opt) {
    const char* samples[] = {"prompt", "special", "temperature", "top_k", "top_p"};
    for (const options_detail::OptionRow& row : options_detail::TABLE) {
        if (!was_given(opt, row.field)) continue;
        if (const std::string by = idle_by(opt, row.field); !by.empty()) die_with(EXIT_USAGE, "%s: given, but %s does not use it", row.name().c_str(), by.c_str());
        const bool sampling = std::any_of(std::begin(samples), std::end(samples), [&](const char* field) { return !strcmp(field, row.field); });
        if (sampling && opt.sample_every == 0 && opt.chat.empty()) die_with(EXIT_USAGE, "%s: given, but --sample-every 0 prints no samples", row.name().c_str());
    }
    if (was_given(opt, "rollbacks") && opt.on_spike != "rollback") die_with(EXIT_USAGE, "--rollbacks: %d given, but --on-spike %s makes none", opt.rollbacks, opt.on_spike.c_str());
    if (opt.on_spike == "rollback" && opt.checkpoint_every == 0) die_with(EXIT_USAGE, "--on-spike: 'rollback' given, but --checkpoint-every 0 makes no checkpoint to go back to");
    if (was_given(opt, "async_save") && opt.async_save && opt.checkpoint_every == 0) die_with(EXIT_USAGE, "--async-save: 1 given, but --checkpoint-every 0 saves nothing");
    if (opt.decay_schedule == "lr" && opt.lr == 0) die_with(EXIT_USAGE, "--lr: 0 given, but with --decay-schedule lr weight decay follows it: must be above 0");
    if (opt.optimizer == "muon" && opt.lr == 0) die_with(EXIT_USAGE, "--lr: 0 given, but with --optimizer muon every learning rate follows its schedule: must be above 0");
    if (opt.optimizer == "muon" && opt.reduce == "nccl") die_with(EXIT_USAGE, "--reduce: 'nccl' given, must be tree with --optimizer muon: a library's equal pieces cut matrices");
    if (opt.temperature == 0 && opt.top_k > 0) die_with(EXIT_USAGE, "--top-k: %d given, but --temperature 0 takes the most likely token", opt.top_k);
    if (opt.temperature == 0 && opt.top_p < 1) die_with(EXIT_USAGE, "--top-p: %g given, but --temperature 0 takes the most likely token", opt.top_p);
}

// Parses the command line. Anything wrong is one line on stderr and exit code 2.
inline Options parse_options(int argc, char** argv) {
    using namespace options_detail;
    Options opt;
    if (argc > 0) opt.program = argv[0];
    const OptionRow* behind = nullptr;
    for (int i = 1; i < argc; i++) {
        std::string name = argv[i];
        bool value_follows = i + 1 < argc && (argv[i + 1][0] != '-' || strchr("0123456789.", argv[i + 1][1] ? argv[i + 1][1] : 'x'));
        if (name == "--help" || (name == "-h" && !value_follows)) { print_help(); exit(exit_code_of_output()); }
        if (name == "--version") { printf("train_gpt2 %s\n", VERSION); exit(exit_code_of_output()); }
        std::string value;
        bool has_value = false;
        if (size_t equals = name.find('='); name.starts_with("--") && equals != std::string::npos)
            value = name.substr(equals + 1), name.resize(equals), has_value = true;
        const OptionRow* row = nullptr;
        for (const OptionRow& r : TABLE) if (name == r.name() || (*r.short_name && name == std::string("-") + r.short_name)) row = &r;
        if (!row) die_with(EXIT_USAGE, "%s", unknown_option(name, behind).c_str());
        if (!has_value && !strcmp(row->field, "plan") && !value_follows) value = "here", has_value = true;
        if (!has_value) {
            if (i + 1 >= argc) die_with(EXIT_USAGE, "%s: a value must follow: %s", name.c_str(), row->help);
            value = argv[++i];
        }
        std::string right = check_value(*row, value);
        if (!right.empty()) die_with(EXIT_USAGE, "%s: '%s' given, must be %s", name.c_str(), value.c_str(), right.c_str());
        row->set(opt, value);
        opt.given.push_back(row->field);
        behind = row;
    }
    settle_plan(opt);
    follow_recipe(opt);
    refuse_idle(opt);
    return opt;
}

// Every option as `"name": "value"` pairs, for the metrics and the checkpoint.
inline std::vector<std::pair<std::string, std::string>> describe(const Options& opt) {
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const options_detail::OptionRow& row : options_detail::TABLE) pairs.push_back({row.field, row.text(opt)});
    return pairs;
}
