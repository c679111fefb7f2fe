// generate.h: autoregressive generation with a KV cache: a prefill of the prompt, then a decode step of one token for each new token.
#pragma once
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>
#include "../base/rng.h"
#include "../base/stop.h"
#include "../layers/softcap.h"
#include "gather.h"
#include "model.h"
#include "sampler.h"
#include "../tokenizer/plain_output.h"
#include "../tokenizer/tokenizer.h"

// Prefill (n tokens) or decode (one): appends the keys and values of tokens at positions pos.. to the KV cache; returns the logits (V)
// after the last of them.
template <class F> std::vector<float> prefill_or_decode(Model<F>& model, const int* tokens, int n, int pos) {
    const Block<F>& b = model.tensors();
    const int C = model.config.C, V = model.config.V, Vp = model.config.Vp();
    copy_to_device(model.tokens, tokens, (size_t)n * sizeof(int), model.stream);
    forward_trunk(model, model.tokens, {.B = 1, .T = n, .cached = true, .pos = pos});
    matmul_forward(b.logits, b.lnf + (size_t)(n - 1) * C, b.head(), (const F*)nullptr, 1, C, Vp, {}, model.stream);
    std::vector<F> logits((size_t)V);
    copy_to_host(logits.data(), b.logits, logits.size() * sizeof(F), model.stream);
    synchronize(model.stream);
    std::vector<float> values(logits.begin(), logits.end());
    if (const float cap = (float)model.config.arch.softcap; cap > 0) for (float& z : values) z = softcap(z, cap);
    return values;
}

// Continues `prompt` by up to n tokens; on_token gets each and says whether to go on. When the context is full, its
// second half is kept and prefilled again. The random numbers depend on (seed, step, token) alone.
template <class F>
void generate(Model<F>& model, const std::vector<int>& prompt, int n, const SamplerOptions& sampler, uint64_t seed, int step,
              const std::function<bool(int)>& on_token, int context = 0 /* 0: the run's T */) {
    const int T = context ? context : model.options.T;
    std::vector<int> text = prompt;
    int cached = 0;  // tokens of the window that are in the KV cache
    size_t window = text.size() > (size_t)T ? text.size() - (size_t)T : 0;
    for (int i = 0; i < n; i++) {
        if (text.size() - window > (size_t)T) window = text.size() - (size_t)(T + 1) / 2, cached = 0;
        int n_new = (int)(text.size() - window) - cached;
        std::vector<float> logits = prefill_or_decode(model, text.data() + window + cached, n_new, cached);
        cached += n_new;
        float coin = uniform(philox(seed, RNG_SAMPLING, (uint32_t)step, (uint64_t)i).x[0]);
        int token = sample(logits.data(), model.config.V, sampler, coin);
        if (model.options.zero >= 3) token = model.comm.broadcast(token);  // all go on with the same, also where one computes differently
        text.push_back(token);
        if (!on_token(token)) return;
    }
}

// What a model continues: what a prompt begins with (an empty one with the end of text), unless it is written there, and the prompt. special: it may name
// special tokens.
inline std::vector<int> prompt_tokens(const Tokenizer& tokenizer, std::string_view prompt, bool special) {
    std::vector<int> tokens;
    tokenizer.encode(prompt, tokens, special);
    const std::vector<int> start = tokenizer.start();
    if (tokens.size() < start.size() || !std::equal(start.begin(), start.end(), tokens.begin())) tokens.insert(tokens.begin(), start.begin(), start.end());
    if (tokens.empty() && tokenizer.eot() >= 0) tokens = {tokenizer.eot()};
    return tokens;
}

// Prints prompt and continuation as they are generated, up to a token that ends a text. Returns both.
template <class F>
std::string print_sample(Model<F>& model, const Tokenizer& tokenizer, const std::string& prompt, bool special, int n, const SamplerOptions& sampler,
                  uint64_t seed, int step) {
    const std::vector<int> tokens = prompt_tokens(tokenizer, prompt, special);
    CHECK(!tokens.empty(), "--prompt: the tokenizer has no end-of-text token to begin with; give a prompt");
    PlainOutput out;
    std::string text = prompt;
    if (const int T = model.options.T; tokens.size() > (size_t)T)
        printf("prompt   %zu tokens, of which the model sees the last %d: --seq, at most %d\n", tokens.size(), T, model.config.max_T);
    printf("---\n");
    out.write(prompt);
    generate(model, tokens, n, sampler, seed, step, [&](int token) {
        if (tokenizer.is_end(token) || asked_to_stop(model)) return false;
        out.write(tokenizer.token_bytes(token));
        text += tokenizer.token_bytes(token);
        return true;
    });
    out.end();
    printf("\n---\n");
    fflush(stdout);
    return text;
}
