// What must hold for any weights and any tokens, whatever the right values are.
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"
#include "../test.h"

namespace {
const Config TINY{.max_T = 24, .V = 131, .L = 2, .NH = 3, .C = 48};

struct Tokens {
    std::vector<int> inputs, targets;
    Tokens(int B, int T, int V, uint64_t seed) {
        for (uint64_t i = 0; i < (uint64_t)B * T; i++) {
            Random4 r = philox(seed, RNG_TEST, 0, i);
            inputs.push_back((int)(r.x[0] % (uint32_t)V)), targets.push_back((int)(r.x[1] % (uint32_t)V));
        }
    }
    Batch batch() const { return {inputs.data(), targets.data(), 0}; }
    Batch rows(int first, int T) const { return {&inputs[(size_t)first * T], &targets[(size_t)first * T], 0}; }
};

template <class F> std::unique_ptr<Model<F>> make_model(ModelOptions options, const Config& c = TINY) {
    auto model = std::make_unique<Model<F>>(c, options);
    model->allocate();
    initialize(*model, 0.02, 7);
    // weights ten times as large and biases that are not 0, so that attention and GELU leave their linear beginnings
    for (const Parameter& p : model->parameters.all)
        for (size_t i = 0; i < p.size(); i++) {
            float noise = 0.2f * (uniform(philox(3, RNG_TEST, 1, p.offset + i).x[0]) - 0.5f);
            F& w = model->params[p.offset + i];
            w = F((float)w * (p.decays ? 5.0f : 1.0f) + noise);
            if (model->master) model->master[p.offset + i] = (float)w;
        }
    return model;
}

template <class F> std::vector<F> logits_of(Model<F>& model, const Tokens& tokens) {
    const size_t N = (size_t)model.options.B * model.options.T;
    const int V = model.config.V;
    upload(model, tokens.batch());
    forward(model);
    std::vector<F> logits(N * (size_t)V);
    matmul_forward(logits.data(), model.tensors().lnf, model.tensors().wte, (const F*)nullptr, N, model.config.C, V, {}, model.stream);
    return logits;
}

// Mean loss of the step so far.
template <class F> double loss_of(const Model<F>& model) { return *model.loss_sum / ((double)model.N() * model.options.grad_accum); }

// Bits of every gradient and of the loss of one micro-batch, then of the weights after an update.
template <class F> std::string step_bits(ModelOptions options, const Tokens& tokens) {
    auto model = make_model<F>(options);
    forward_backward(*model, tokens.batch(), 0);
    std::string bits((const char*)model->grads, model->parameters.elements * sizeof(float));
    bits.append((const char*)model->loss_sum, sizeof(double));
    Options opt = {};
    opt.beta1 = 0.9, opt.beta2 = 0.95, opt.eps = 1e-8, opt.weight_decay = 0.1, opt.grad_clip = 1;
    update(*model, opt, 1e-3, 0);
    return bits.append((const char*)model->params, model->parameters.elements * sizeof(F));
}

template <class F> void check_recompute() {
    Tokens tokens(3, 17, TINY.V, 1);
    std::string bits[4];
    size_t bytes[4];
    for (int r = 0; r < 4; r++) {
        ModelOptions options{.B = 3, .T = 17, .recompute = r};
        bits[r] = step_bits<F>(options, tokens);
        bytes[r] = Model<F>({.max_T = 256, .V = 500, .L = 4, .NH = 4, .C = 128}, {.B = 8, .T = 256, .recompute = r}).device.bytes();
    }
    EXPECT(bits[0] == bits[1] && bits[0] == bits[2] && bits[0] == bits[3]);
    EXPECT(bytes[1] < bytes[0] && bytes[2] < bytes[1] && bytes[3] < bytes[2]);
}

template <class F> void check_causality() {
    auto model = make_model<F>({.B = 2, .T = 24});
    Tokens tokens(2, 24, TINY.V, 2);
    std::vector<F> before = logits_of(*model, tokens);
    const size_t V = (size_t)TINY.V;
    for (size_t t : {0, 1, 7, 15, 16, 23}) {
        Tokens changed = tokens;
        changed.inputs[t] = (changed.inputs[t] + 1) % TINY.V;
        std::vector<F> after = logits_of(*model, changed);
        EXPECT(!memcmp(&before[0], &after[0], t * V * sizeof(F)));                          // all before t: bitwise identical
        EXPECT(memcmp(&before[t * V], &after[t * V], V * sizeof(F)));                       // t itself: not
        EXPECT(!memcmp(&before[24 * V], &after[24 * V], 24 * V * sizeof(F)));               // the other row: the same
    }
}

// Attention within documents: what another document of the row says leaves every bit of this one's logits; without the option
// it does not. Generation reads its prompt as one text.
template <class F> void check_documents() {
    const int T = 24, EOT = 7;
    auto masked = make_model<F>({.B = 2, .T = T, .mask_eot = EOT}), open = make_model<F>({.B = 2, .T = T});
    Tokens tokens(2, T, TINY.V, 12);
    for (int& t : tokens.inputs) if (t == EOT) t++;
    for (size_t at : {5, 13, 14, T + 9}) tokens.inputs[at] = EOT;
    Tokens changed = tokens;
    for (size_t at : {1, 6, 12, T + 3}) changed.inputs[at] = (changed.inputs[at] + 9) % (TINY.V - 20) + 10;
    const size_t V = (size_t)TINY.V;
    std::vector<F> before = logits_of(*masked, tokens), after = logits_of(*masked, changed);
    auto same = [&](const std::vector<F>& x, const std::vector<F>& y, size_t from, size_t to) { return !memcmp(&x[from * V], &y[from * V], (to - from) * V * sizeof(F)); };
    EXPECT(same(before, after, 0, 1) && same(before, after, 5, 6) && same(before, after, 13, T + 3) && same(before, after, T + 9, 2 * T));
    for (size_t t : {1, 4, 6, 12, T + 3, T + 8}) EXPECT(!same(before, after, t, t + 1));
    std::vector<F> x = logits_of(*open, tokens), y = logits_of(*open, changed);
    for (size_t t : {5, 13, 23, T + 9}) EXPECT(!same(x, y, t, t + 1));
    EXPECT(same(x, before, 0, 5) && same(x, before, T, T + 9));  // the first document of a row sees what it always saw
    EXPECT(prefill_or_decode(*masked, tokens.inputs.data(), T, 0) == prefill_or_decode(*open, tokens.inputs.data(), T, 0));
}

template <class F> void check_batch_permutation() {
    const int B = 5, T = 13;
    auto model = make_model<F>({.B = B, .T = T});
    Tokens tokens(B, T, TINY.V, 3), turned = tokens;
    const size_t row = (size_t)T * (size_t)TINY.V;
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++) turned.inputs[(size_t)((b + 2) % B * T + t)] = tokens.inputs[(size_t)(b * T + t)];
    std::vector<F> x = logits_of(*model, tokens), y = logits_of(*model, turned);
    for (int b = 0; b < B; b++) EXPECT(!memcmp(&x[(size_t)b * row], &y[(size_t)((b + 2) % B) * row], row * sizeof(F)));
}

// Eight rows as one micro-batch, and as four of two. Only the order of the sums differs. fp32: as gradients against
// PyTorch, 1e-5. bf16: dlogits differ by their scale alone, a power of two, so the products are the same numbers and the
// fp32 sums again differ in order.
template <class F> void check_accumulation() {
    const int T = 16;
    Tokens tokens(8, T, TINY.V, 4);
    auto whole = make_model<F>({.B = 8, .T = T});
    auto parts = make_model<F>({.B = 2, .T = T, .grad_accum = 4});
    forward_backward(*whole, tokens.batch(), 0);
    for (int micro = 0; micro < 4; micro++) forward_backward(*parts, tokens.rows(2 * micro, T), micro);
    EXPECT_CLOSE(parts->grads, whole->grads, whole->parameters.elements, 1e-5);
    EXPECT(std::fabs(loss_of(*parts) - loss_of(*whole)) < 1e-6);
}

// The columns V .. Vp-1 take no part: whatever their weights are, losses and gradients keep their bits.
template <class F> void check_padding() {
    Tokens tokens(2, 16, TINY.V, 5);
    auto model = make_model<F>({.B = 2, .T = 16});
    forward_backward(*model, tokens.batch(), 0);
    std::vector<float> grads(model->grads, model->grads + model->parameters.elements);
    double loss = loss_of(*model);
    const size_t begin = (size_t)TINY.V * (size_t)TINY.C, end = (size_t)TINY.Vp() * (size_t)TINY.C;
    for (size_t i = begin; i < end; i++) {
        EXPECT_EQ(grads[i], 0.0f);
        model->params[i] = F(100.0f);
    }
    forward_backward(*model, tokens.batch(), 0);
    EXPECT_EQ(loss_of(*model), loss);
    EXPECT(!memcmp(grads.data(), model->grads, grads.size() * sizeof(float)));
}

// Prefill in chunks, or decode token by token, through the KV cache gives the logits of the whole sequence. The two attentions sum in another order:
// fp32: 1e-5; bf16: another order may round each of the 8L + 3 stored tensors the other way, u sqrt(n/3) of that.
template <class F> void check_cache() {
    const int T = 24;
    auto model = make_model<F>({.B = 1, .T = T});
    Tokens tokens(1, T, TINY.V, 6);
    std::vector<F> expected = logits_of(*model, tokens);
    double bound = std::is_same_v<F, float> ? 1e-5 : 0x1p-9 * std::sqrt((8 * TINY.L + 3) / 3.0);
    for (int chunks : {1, 5, 24})  // one prefill, a chunked prefill, decode
        for (int at = 0, n; at < T; at += n) {
            n = std::min((T + chunks - 1) / chunks, T - at);
            std::vector<float> logits = prefill_or_decode(*model, &tokens.inputs[(size_t)at], n, at);
            EXPECT_CLOSE(logits.data(), &expected[(size_t)(at + n - 1) * (size_t)TINY.V], TINY.V, bound);
        }
}

template <class F> void check_sizes() {  // nothing is special about the sizes of GPT-2
    for (Config c : {Config{.max_T = 1, .V = 1, .L = 1, .NH = 1, .C = 1}, Config{.max_T = 3, .V = 70, .L = 1, .NH = 1, .C = 7},
                     Config{.max_T = 9, .V = 64, .L = 3, .NH = 5, .C = 35}, Config{.max_T = 70, .V = 259, .L = 1, .NH = 2, .C = 130},
                     Config{.max_T = 9, .V = 64, .L = 2, .NH = 3, .C = 24, .FF = 200}, Config{.max_T = 9, .V = 64, .L = 2, .NH = 3, .C = 24, .FF = 8}}) {
        auto model = make_model<F>({.B = 2, .T = c.max_T, .recompute = 2}, c);
        Tokens tokens(2, c.max_T, c.V, 8);
        forward_backward(*model, tokens.batch(), 0);
        update(*model, Options(), 1e-3, 0);
        const double norm = model->host_step_stats->norm, loss = model->host_step_stats->loss;
        EXPECT(std::isfinite(norm) && std::isfinite(loss) && loss >= 0);
        EXPECT((c.V > 1) == (loss > 0));
    }
}
}  // namespace

TEST(recompute_bits)    { check_recompute<float>(), check_recompute<bf16>(); }
TEST(causality)         { check_causality<float>(), check_causality<bf16>(); }
TEST(documents)         { check_documents<float>(), check_documents<bf16>(); }
TEST(batch_permutation) { check_batch_permutation<float>(), check_batch_permutation<bf16>(); }
TEST(accumulation)      { check_accumulation<float>(), check_accumulation<bf16>(); }
TEST(padding)           { check_padding<float>(), check_padding<bf16>(); }
TEST(cache)             { check_cache<float>(), check_cache<bf16>(); }
TEST(odd_sizes)         { check_sizes<float>(), check_sizes<bf16>(); }

TEST(same_bits_for_any_threads) {
    Tokens tokens(3, 17, TINY.V, 9);
    int before = max_threads();
    std::string bits[3];
    for (int n = 1; n <= 3; n++) set_threads(n), bits[n - 1] = step_bits<float>({.B = 3, .T = 17}, tokens);
    set_threads(before);
    EXPECT(bits[0] == bits[1] && bits[0] == bits[2]);
}

// N(0, init_std), and over sqrt(2L) where it adds to the residual stream; tokens N(0, embed_std), if there is one, positions N(0, 0.02). A tensor
// of n numbers has its standard deviation within 5 / sqrt(2n), its mean within 5 of it / sqrt(n): five of their own deviations.
TEST(initial_values) {
    Config c{.max_T = 64, .V = 300, .L = 3, .NH = 4, .C = 64};
    c.arch.tied = false;  // a head of its own is no table of tokens
    Model<float> model(c, {.B = 1, .T = 64});
    model.allocate();
    for (double tokens : {0.0, 0.7}) {
        initialize(model, 0.05, 1, tokens);
        for (const Parameter& p : model.parameters.all) {
            double mean = 0, square = 0, n = (double)p.size();
            for (size_t i = 0; i < p.size(); i++) mean += model.params[p.offset + i] / n, square += std::pow(model.params[p.offset + i], 2) / n;
            if (p.init == ONE) { EXPECT_EQ(mean, 1.0); continue; }
            if (p.init == ZERO) { EXPECT_EQ(square, 0.0); continue; }
            const bool adds = p.row == P_attprojw || p.row == P_fcprojw;
            double stddev = adds ? 0.05 / std::sqrt(6.0) : p.row == P_wpe ? 0.02 : p.row == P_wte && tokens > 0 ? tokens : 0.05;
            EXPECT(std::fabs(std::sqrt(square) / stddev - 1) < 5 / std::sqrt(2 * n));
            EXPECT(std::fabs(mean) < 5 * stddev / std::sqrt(n));
        }
    }
    EXPECT_EQ(model.parameters.count(), (size_t)(2 * 300 * 64 + 64 * 64 + 3 * (12 * 64 * 64 + 13 * 64) + 2 * 64));
}

// What a tensor begins with does not depend on which others there are: models with and without biases, positions, a head or a layer begin as pairs.
TEST(initial_values_are_a_tensors_own) {
    const auto begun = [](const Config& c) {
        Model<float> model(c, {.B = 1, .T = 8});
        model.allocate();
        initialize(model, 0.05, 1);
        std::map<std::pair<int, int>, std::vector<float>> values;
        for (const Parameter& p : model.parameters.all) values[{p.row, p.layer}].assign(model.params + p.offset, model.params + p.offset + p.size());
        return values;
    };
    const Config gpt2{.max_T = 8, .V = 40, .L = 3, .NH = 2, .C = 16};
    const auto all = begun(gpt2);
    Config no_bias = gpt2, rotary = gpt2, own_head = gpt2, shallow = gpt2, heads = gpt2;
    no_bias.arch.bias = false, rotary.arch.positions = ROTARY, own_head.arch.tied = false, shallow.L = 2, heads.arch = FAMILIES[QWEN3], heads.arch.mlp = GELU;
    for (const Config& other : {no_bias, rotary, own_head, shallow, heads}) {
        int random = 0;
        for (const auto& [tensor, values] : begun(other)) {
            const auto same = all.find(tensor);
            if (same == all.end() || same->second.size() != values.size()) continue;
            random += values[0] != 0 && values[0] != 1;
            const float factor = other.L == gpt2.L || (tensor.first != P_attprojw && tensor.first != P_fcprojw) ? 1 : std::sqrt(1.5f);  // 1 / sqrt(2L): within a rounding or two
            for (size_t i = 0; i < values.size(); i++)
                if (!(std::fabs(values[i] - factor * same->second[i]) <= (factor == 1 ? 0 : 0x1p-22f * std::fabs(values[i])))) { FAIL("row %d of layer %d begins with other values", tensor.first, tensor.second); break; }
        }
        EXPECT(random >= 1 + 4 * other.L);
    }
    // what adds to a modern model's stream, and its head, begin at 0 unless that is left out; nothing else does
    const auto modern = begun(config_by_name("modern:d3c16h2", 40)), whole = begun(config_by_name("modern:d3c16h2-zero_init", 40));
    EXPECT(modern.size() == whole.size() && modern.size() == 2 + 3 * 4);
    for (const auto& [tensor, values] : whole) {
        const bool zero = tensor.first == P_attprojw || tensor.first == P_fcprojw || tensor.first == P_headw;
        EXPECT(modern.at(tensor) == (zero ? std::vector<float>(values.size()) : values));
        EXPECT(std::any_of(values.begin(), values.end(), [](float x) { return x != 0; }));
        if (all.count(tensor) && tensor.first != P_wpe) EXPECT(values == all.at(tensor));
    }
    std::set<uint32_t> numbers;  // and no two begin alike
    const ParameterList list(own_head);
    for (const Parameter& p : list.all) numbers.insert(p.number);
    EXPECT_EQ(numbers.size(), list.all.size());
}

// Box and Muller's formula in double on Philox's words, for odd counts too; a tensor in pieces has the numbers of the whole.
// log, cos and sin are good to 2e-7 of 1, the root halves the first, and radius and product round: 1e-6 of the radius, at most 5.8.
TEST(normal_numbers) {
    const size_t n = 1001;
    std::vector<float> whole(n), pieces(n);
    normal_fill(whole.data(), n, 0.5f, 7, 3, 0);
    normal_fill(pieces.data(), 130, 0.5f, 7, 3, 0);
    normal_fill(pieces.data() + 130, n - 130, 0.5f, 7, 3, 130);
    EXPECT(whole == pieces);
    for (size_t i = 0; i < n; i++) {
        Random4 r = philox(7, RNG_INIT, 3, i / 2);
        double radius = std::sqrt(-2 * std::log(1 - (double)uniform(r.x[0]))), angle = 2 * M_PI * r.x[1] / 4294967296.0;
        EXPECT(std::fabs(whole[i] - 0.5 * radius * (i % 2 ? std::sin(angle) : std::cos(angle))) < 0.5 * 5.8e-6);
    }
}
