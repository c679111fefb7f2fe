// text_defaults.h: what a new run on texts takes where its command does not say: tokenizer, model, batch, learning rate, steps, ... from the size
// of the texts and the speed of the machine, such that it takes about five minutes, or less where the text is too short to learn from for so long.
// Whoever names a --model chooses the rest too: then the defaults of the table of options hold. Figures: dev/LOG.md, 41.
#pragma once
#include <sys/stat.h>
#include <algorithm>
#include <cmath>
#include <string>
#include "../base/text_format.h"
#include "../data/text.h"
#include "../model/config_names.h"
#include "../model/flops.h"
#include "options.h"
#include "peak.h"

// Options of these names.
struct TextDefaults { int vocabulary, depth, width, T, B, steps, most_steps; double lr, weight_decay; int warmup, val_every, val_batches; };

namespace text_defaults_detail {
constexpr double SECONDS = 300, SHARE_OF_PEAK = 0.42;  // small matrices, and what comes between steps
constexpr double MOST_EPOCHS = 6;                      // then it learns by heart
constexpr double TOKENS_PER_PARAMETER = 3;             // at least; more parameters would see too little in the time
constexpr double PARAMETERS_PER_BYTE = 2;              // at most

// What a token of a byte-level BPE stands for that was learned from an English text of its size (tinyshakespeare: 1.9, 2.4, 2.9).
inline double bytes_per_token(int vocabulary) { return vocabulary <= 257 ? 1 : 1.9 + 0.5 * std::log2(vocabulary / 512.0); }

inline int power_of_2_below(double x) { return x < 2 ? 1 : 1 << (int)std::fmin(std::log2(x), 30); }
}  // namespace text_defaults_detail

// For `bytes` of text to train on, of which a tenth may be held out, and `flops`, FLOP/s at best. Of what is 0 in `given`, a choice.
struct TextLimits { double bytes, val_bytes, flops, seconds; int vocabulary, T, B; int64_t total; };
inline TextDefaults choose_text_defaults(const TextLimits& given) {
    using namespace text_defaults_detail;
    constexpr struct { double bytes; int vocabulary; } VOCABULARIES[] = {{0, 257}, {30e3, 512}, {300e3, 1024}, {10e6, 2048}, {50e6, 4096}, {1e9, 16384}};
    constexpr struct { int depth, width; } SIZES[] = {{2, 64}, {3, 96}, {4, 128}, {4, 192}, {6, 256}, {6, 384}, {8, 512}, {12, 768}};
    const double bytes = given.bytes;
    TextDefaults d{};
    d.vocabulary = given.vocabulary;
    if (!d.vocabulary) for (const auto& v : VOCABULARIES) if (bytes >= v.bytes) d.vocabulary = v.vocabulary;
    const double epoch = 0.9 * bytes / bytes_per_token(d.vocabulary);
    double tokens = 0;  // to train on in all
    for (const auto& size : SIZES) {
        const Config config{.V = d.vocabulary, .L = size.depth, .NH = size.width / 32, .C = size.width};
        const int T = given.T ? given.T : size.width <= 192 ? 64 : size.width <= 256 ? 128 : 256;
        const double parameters = matmul_parameters(config), affordable = given.seconds * SHARE_OF_PEAK * given.flops / flops_per_token(config, T);
        if (d.width && (parameters > PARAMETERS_PER_BYTE * bytes || affordable < TOKENS_PER_PARAMETER * parameters)) break;
        d.depth = size.depth, d.width = size.width, d.T = T, tokens = std::min(affordable, MOST_EPOCHS * epoch);
    }
    while (!given.T && d.T > 8 && d.T * 8 > epoch) d.T /= 2;
    while (!given.T && d.T > 1 && given.total % d.T) d.T /= 2;
    const int step = std::clamp(power_of_2_below(tokens / 8000), std::min(512, power_of_2_below(epoch / 16)), 65536);
    d.B = given.B ? given.B : std::max(step / d.T, 1);
    while (!given.B && d.B > 1 && given.total % (d.B * d.T)) d.B--;
    const double tokens_a_step = given.total ? (double)given.total : (double)d.B * d.T, steps = tokens / tokens_a_step;
    d.steps = steps < 100 ? std::max((int)steps, 1) : (int)steps / 100 * 100;
    d.most_steps = std::max((int)std::min(MOST_EPOCHS * epoch / tokens_a_step, 1e9), 1);
    d.lr = std::round(1e5 * std::min(3e-3, 3e-3 * 128 / d.width)) / 1e5;
    d.weight_decay = tokens > 2 * epoch ? 0.5 : 0.1;  // against learning by heart
    d.warmup = std::min(100, d.steps / 10);
    // eight validations, all of the held out text if they take no more than a twelfth of the time; without gradients a token costs a third
    d.val_every = std::max(d.steps / 8, 1);
    const double batches = d.steps / 12.0 * 3 / 8;
    d.val_batches = given.val_bytes / bytes_per_token(d.vocabulary) <= batches * tokens_a_step ? 0 : std::max((int)(batches * tokens_a_step / (d.B * d.T)), 1);
    return d;
}

namespace text_defaults_detail {
inline double size_of(const std::vector<std::string>& files) {
    double bytes = 0;
    for (const std::string& path : files) {
        struct stat info;
        if (stat(path.c_str(), &info) == 0) bytes += (double)info.st_size * (path.ends_with(".gz") ? 3 : 1);  // about what text is compressed by
    }
    return bytes;
}
// Of three measurements, as other processes may have been in the way of one.
template <class F> double best_peak(const Options& opt) {
    double best = 0;
    for (int i = 0; i < 3; i++) best = std::max(best, find_peak<F>(opt).flops);
    return best;
}
}  // namespace text_defaults_detail

// The command that says every option which this one says or was chosen for it, but for the recipe's rate of a head: the models that are chosen here have none of their own.
inline std::string command_of(const Options& opt) {
    std::string command = quoted(opt.program);
    for (const options_detail::OptionRow& row : options_detail::TABLE)
        if (was_given(opt, row.field) && !(was_chosen(opt, row.field) && !strcmp(row.field, "head_lr"))) command += " " + (*row.short_name ? std::string("-") + row.short_name : row.name()) + " " + quoted(row.text(opt));
    return command;
}

// A new run on texts without --model: chooses what is not given, as if it were; `said` is for the banner.
inline void choose_for_text(Options& opt) {
    using namespace text_defaults_detail;
    if (was_given(opt, "model") || opt.train_data.empty() || opt.steps == 0 || !opt.chat.empty()) return;
    const std::vector<std::string> files = list_source_files(opt.train_data);
    if (!std::all_of(files.begin(), files.end(), is_text_file)) return;
    const double bytes = size_of(files), fp32 = best_peak<float>(opt), bf16s = best_peak<bf16>(opt);
    const bool fast_bf16 = bf16s > 1.2 * fp32;  // elsewhere it would only be rounded
    const double flops = opt.precision == "bf16" || (fast_bf16 && !was_given(opt, "precision")) ? bf16s : fp32;
    const int vocabulary = !was_given(opt, "tokenizer") ? 0 : opt.tokenizer == "bytes" ? 257 : opt.tokenizer.starts_with("bpe:") ? atoi(opt.tokenizer.c_str() + 4) : 50257;
    const int B = !was_given(opt, "batch") || opt.batch == "auto" ? 0 : config_detail::whole_number(opt.batch);
    const TextDefaults d = choose_text_defaults({bytes, opt.val_data.empty() ? bytes / 10 : size_of(list_files(opt.val_data)), flops, opt.minutes > 0 ? 60 * opt.minutes : SECONDS, std::clamp(vocabulary, 0, 1 << 20), opt.seq, B, opt.total_batch});
    const auto choose = [&](const char* field, const std::string& value) {
        for (const options_detail::OptionRow& row : options_detail::TABLE)
            if (!strcmp(row.field, field) && !was_given(opt, field)) row.set(opt, value), opt.given.push_back(field), opt.chosen.push_back(field);
    };
    const int steps = opt.steps > 0 ? opt.steps : d.steps, every = std::max(steps / 8, 1);
    const std::vector<std::string> validation = opt.val_data.empty() ? std::vector<std::string>() : list_files(opt.val_data);
    if (std::all_of(validation.begin(), validation.end(), is_text_file))  // token shards have theirs
        choose("tokenizer", d.vocabulary == 257 ? "bytes" : format("bpe:%d", d.vocabulary));
    choose("model", format("d%dc%dh%d", d.depth, d.width, d.width / 32));
    choose("init_std", format("%.3f", 1 / std::sqrt(d.width)));
    choose("precision", fast_bf16 ? "bf16" : "fp32");
    choose("seq", std::to_string(d.T));
    const int of_rank = std::max(d.B / opt.nproc, 1);  // each has its part of the batch; of more ranks than sequences a step has more tokens
    choose("batch", std::to_string(of_rank));
    if ((opt.batch == "auto" || opt.nproc > 1) && opt.total_batch == 0) choose("total_batch", std::to_string(of_rank * opt.nproc * d.T));
    choose("steps", std::to_string(opt.minutes > 0 ? d.most_steps : d.steps));  // by the clock: at most
    choose("lr", format("%g", d.lr));
    choose("warmup", std::to_string(std::min(d.warmup, steps / 10)));
    choose("weight_decay", format("%g", d.weight_decay));
    choose("schedule", "linear"), choose("final_lr_frac", "0");
    choose("val_every", std::to_string(every)), choose("val_batches", std::to_string(d.val_batches));
    choose("sample_every", std::to_string(2 * every)), choose("checkpoint_every", std::to_string(2 * every));
    if (opt.val_every > 0 && !opt.overfit) choose("patience", "3");
    opt.said += format("chosen   for %s bytes of text and %sFLOP/s; %s\n         %s\n", human(bytes).c_str(), human(flops).c_str(),
                      opt.minutes > 0 ? "as a command (--replay repeats a run by the clock)" : "the same again is", command_of(opt).c_str());
}
