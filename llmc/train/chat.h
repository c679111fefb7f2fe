// chat.h: reads lines from standard input; the model continues each, or answers it where its folder has a chat template, and tokens are printed as they
// are generated.
#pragma once
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include "../base/stop.h"
#include "../model/generate.h"
#include "../tokenizer/plain_output.h"
#include "chat_format.h"
#include "log.h"
#include "named_files.h"
#include "options.h"
#include "run.h"

// What --chat is beside other options: no data, no run, one sequence as long as the model's context. It trains and writes nothing, so options of
// sampling and of the machine are all that it takes, and what says how the model is read.
inline void set_chat_options(Options& opt) {
    if (opt.chat.empty()) return;
    constexpr const char* READING[] = {"tokenizer", "precision", "seq", "sample_tokens", "seed"};
    if (!run_detail::is_folder(opt.chat) && !is_bin_model(opt.chat))
        die_with(EXIT_USAGE, "--chat: '%s' given%s", opt.chat.c_str(), meant_by(opt.chat).empty() ? ", must be a checkpoint folder or a .bin model file" : meant_by(opt.chat).c_str());
    run_detail::config_of_files(opt.chat);  // or is it no model?
    for (const options_detail::OptionRow& row : options_detail::TABLE) {
        const bool takes = !strcmp(row.group, "Machine") || (!strcmp(row.group, "Sampling") && strcmp(row.field, "prompt")) ||
                           std::any_of(std::begin(READING), std::end(READING), [&](const char* field) { return !strcmp(field, row.field); });
        if (!takes && was_given(opt, row.field)) die_with(EXIT_USAGE, "%s: given, but --chat has no use for it: it trains and writes nothing", row.name().c_str());
    }
    opt.model = opt.chat, opt.batch = "1", opt.steps = 0;
}

// Decode is limited by memory bandwidth: a token reads all weights (one row of the position embedding) and the KV cache of every token before
// it. After each answer the rate is printed, and its share of this limit. The time is from the first new token to the last, without
// the prefill of the line.
template <class F> void chat(Model<F>& model, const Run& run) {
    if (!run.has_tokenizer) die_with(EXIT_USAGE, "--chat: no tokenizer.json beside the model: --tokenizer must name one");
    restore_signals();  // there is nothing to finish
    const Config& c = model.config;
    const Tokenizer& tokenizer = run.tokenizer;
    const double bandwidth = measure_bandwidth(model.params, model.parameters.elements * sizeof(F));
    const size_t looked_up = (c.arch.positions == LEARNED ? (size_t)c.max_T : 0) + (c.arch.tied ? 0 : (size_t)c.V);  // rows, of which a token reads one
    const double weights = (double)(model.parameters.elements - looked_up * (size_t)c.C) * sizeof(F);
    const double position = 2.0 * c.L * c.heads().kv() * sizeof(F);
    const bool typed = isatty(STDIN_FILENO);
    printf("%s: %s parameters in %s, context %d, %d threads; memory reads %.1f GB/s: at most %.0f tokens/s\n", on_one_line(run.weights).c_str(),
           human((double)model.parameters.count()).c_str(), run.opt.precision.c_str(), model.options.T, max_threads(), bandwidth / 1e9, bandwidth / weights);
    std::string from;
    const std::string text_of_template = chat_template(run.kept, from);
    const ChatFormat format = chat_format(text_of_template, tokenizer);
    if (format.style) printf("chat     in the format of %s: %s, as lines of one conversation\n", from.c_str(), format.style->name);
    else if (!text_of_template.empty()) printf("chat     the template of %s is neither Llama 3's nor ChatML: each line is continued as plain text\n", from.c_str());
    const int turn_end = format.style ? tokenizer.special_id(format.style->end) : -1;
    std::vector<ChatMessage> messages;  // so far; of what is longer than the context its end counts
    char* line = nullptr;
    size_t size = 0;
    for (int number = 0;; number++) {
        if (typed) printf("> ");
        fflush(stdout);
        ssize_t n = getline(&line, &size, stdin);
        if (n < 0 && ferror(stdin)) die("standard input: cannot read: %s", strerror(errno));
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        const std::string_view said(line, (size_t)n);
        if (format.style && said.empty()) continue;
        if (format.style) messages.push_back({"user", std::string(said)});
        const std::vector<int> tokens = format.style ? chat_tokens(format, messages, tokenizer, run.opt.special != 0) : prompt_tokens(tokenizer, said, run.opt.special != 0);
        if (tokens.empty()) continue;
        PlainOutput out;
        std::string answer;
        if (!typed) out.write(said);
        if (!typed && format.style) out.write("\n");
        int count = 0;
        double seconds = 0, bytes = 0;
        Clock::time_point first;
        generate(model, tokens, run.opt.sample_tokens, sampler_options(run.opt), run.opt.seed, number, [&](int token) {
            if (count++ == 0) first = Clock::now();
            else seconds = seconds_since(first), bytes += weights + position * std::min(tokens.size() + (size_t)count, (size_t)model.options.T);
            if (tokenizer.is_end(token) || token == turn_end) return false;
            out.write(tokenizer.token_bytes(token));
            answer += tokenizer.token_bytes(token);
            return true;
        });
        out.end();
        if (format.style) messages.push_back({"assistant", answer});
        printf("\n[%d tokens", count);
        if (tokens.size() > (size_t)model.options.T) printf(" behind the last %d of %zu", model.options.T, tokens.size());
        if (count > 1) printf(", %.1f tokens/s, %.0f%% of what memory allows", (count - 1) / seconds, 100 * bytes / seconds / bandwidth);
        printf("]\n");
    }
    free(line);
}
