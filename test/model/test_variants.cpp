// test_variants.cpp: GPT-2s that differ from the published ones in what config.json may say: a head of its own (tie_word_embeddings false), an MLP
// of another width (n_inner), another layer_norm_epsilon. And Llama and Qwen3: RMSNorm, rotary positions, also scaled, grouped queries, SwiGLU, norms of heads.
// And modern models, of all ingredients and without some.
// Against the whole model in double, and its gradients by central differences.
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"
#include "../test.h"

namespace {
using Doubles = std::vector<double>;
Config variant(bool tied, int FF, double eps) {
    Config c{.max_T = 12, .V = 67, .L = 2, .NH = 2, .C = 16, .FF = FF, .eps = eps};
    c.arch.tied = tied;
    return c;
}
Config descendant(Family family, int C, int NH, int NKV, int FF, bool tied, double scaled, double eps) {
    Config c{.arch = FAMILIES[family], .max_T = 12, .V = 67, .L = 2, .NH = NH, .C = C, .NKV = NKV, .HS = 8, .FF = FF, .eps = eps, .theta = 100};
    c.arch.tied = tied;
    if (scaled != 1) c.rope_scaling = {.factor = scaled, .low = 0.5, .high = 1.5, .original = 12};  // wavelengths 6.3, 20, 63, 199: one below 8, one between 8 and 24, two above
    return c;
}
Config modern(const std::string& left_out, double eps) {
    Config c = config_by_name("modern:d2c16h2f40" + left_out, 67);
    c.max_T = 12, c.eps = eps, c.theta = 100;
    if (c.arch.softcap > 0) c.arch.softcap = 2;  // logits here are up to 4
    return c;
}
const Config VARIANTS[] = {variant(false, 64, 1e-5), variant(true, 40, 1e-5), variant(true, 64, 0.3), variant(false, 24, 0.3),
                           descendant(LLAMA, 16, 4, 2, 88, true, 1, 1e-5), descendant(LLAMA, 16, 3, 1, 24, false, 4, 0.3), descendant(QWEN3, 24, 4, 4, 24, true, 1, 1e-6), descendant(QWEN3, 16, 6, 2, 64, false, 8, 0.3),
                           modern("", 1e-6), modern("-rope-no_bias", 0.3), modern("-qk_norm-untied", 1e-6), modern("-rmsnorm-relu2-softcap", 1e-5), modern("-rmsnorm-rope-qk_norm-no_bias", 0.3), modern("w3", 1e-6), modern("w1-rope-softcap", 1e-6)};
std::string named(const Config& c) { return format("%s, tied %d, %d/%d heads, MLP %d, eps %g, window %d", family_name(c.arch).c_str(), c.arch.tied, c.NH, c.NKV, c.FF, c.eps, c.sliding_window); }

// The parameters of a model, in double, by name; matrices as in memory, (out, in).
struct Oracle {
    Config c;
    ParameterList list;
    Doubles p;  // flat, as in memory
    int eot = -1;  // documents begin with it, and see nothing before it
    template <class F> explicit Oracle(const Model<F>& model) : c(model.config), list(model.config), p(model.parameters.elements) {
        for (size_t i = 0; i < p.size(); i++) p[i] = (double)(float)model.params[i];
    }
    const double* of(ParameterRow row, int l = 0) const { return list.first[row] == list.NONE ? nullptr : p.data() + list.first[row] + (size_t)l * list.stride[row]; }

    static Doubles linear(const Doubles& x, const double* w, const double* b, size_t in, size_t out) {
        Doubles y(x.size() / in * out);
        for (size_t n = 0; n < x.size() / in; n++)
            for (size_t o = 0; o < out; o++) {
                double sum = b ? b[o] : 0;
                for (size_t i = 0; i < in; i++) sum += x[n * in + i] * w[o * in + i];
                y[n * out + o] = sum;
            }
        return y;
    }
    // LayerNorm or RMSNorm of each row of `width`, as the family has it; w null: 1; b null: nothing is added.
    Doubles norm(const Doubles& x, const double* w, const double* b, size_t width, bool centered) const {
        Doubles y(x.size());
        for (size_t n = 0; n < x.size() / width; n++) {
            double mean = 0, variance = 0;
            if (centered) for (size_t i = 0; i < width; i++) mean += x[n * width + i] / (double)width;
            for (size_t i = 0; i < width; i++) variance += std::pow(x[n * width + i] - mean, 2) / (double)width;
            for (size_t i = 0; i < width; i++) y[n * width + i] = (x[n * width + i] - mean) / std::sqrt(variance + c.eps) * (w ? w[i] : 1) + (b ? b[i] : 0);
        }
        return y;
    }
    Doubles norm(const Doubles& x, const double* w, const double* b) const { return norm(x, w, b, (size_t)c.C, c.arch.norm == LAYERNORM); }
    // A head at position t, turned: dimensions i and i + HS / 2 are a pair.
    void rotate(double* head, size_t t) const {
        const RopeScaling& s = c.rope_scaling;
        const size_t half = (size_t)c.HS / 2;
        for (size_t i = 0; i < half; i++) {
            double w = std::pow(c.theta, -2.0 * (double)i / c.HS);
            if (s.factor != 1) {
                const double stays = std::clamp((s.original / (2 * M_PI / w) - s.low) / (s.high - s.low), 0.0, 1.0);
                w = (1 - stays) * w / s.factor + stays * w;
            }
            const double a = head[i], b = head[i + half], angle = w * (double)t;
            head[i] = a * std::cos(angle) - b * std::sin(angle), head[i + half] = b * std::cos(angle) + a * std::sin(angle);
        }
    }
    // Queries and keys as attention reads them.
    void position_heads(Doubles& qkv, int l, size_t T) const {
        const size_t HS = (size_t)c.HS, QKV = (size_t)c.QKV();
        for (size_t t = 0; t < T; t++)
            for (size_t h = 0; h < (size_t)(c.NH + c.NKV); h++) {
                double* head = qkv.data() + t * QKV + h * HS;
                if (c.arch.qk_norm) {
                    const Doubles y = norm(Doubles(head, head + HS), of(h < (size_t)c.NH ? P_qnormw : P_knormw, l), nullptr, HS, false);
                    std::copy(y.begin(), y.end(), head);
                }
                if (c.arch.positions == ROTARY) rotate(head, t);
            }
    }
    // Sum of the losses of one row of tokens.
    double loss(const int* inputs, const int* targets, size_t T) const {
        const size_t C = (size_t)c.C, HS = (size_t)c.HS, NH = (size_t)c.NH, NKV = (size_t)c.NKV, QKV = (size_t)c.QKV(), V = (size_t)c.V, FF = (size_t)c.FF;
        const double* wpe = of(P_wpe);
        Doubles x(T * C);
        for (size_t t = 0; t < T; t++) for (size_t i = 0; i < C; i++) x[t * C + i] = of(P_wte)[(size_t)inputs[t] * C + i] + (wpe ? wpe[t * C + i] : 0);
        for (int l = 0; l < c.L; l++) {
            Doubles qkv = linear(norm(x, of(P_ln1w, l), of(P_ln1b, l)), of(P_qkvw, l), of(P_qkvb, l), C, QKV);
            position_heads(qkv, l, T);
            Doubles y(T * NH * HS);
            for (size_t h = 0; h < NH; h++)
                for (size_t t = 0, document = 0; t < T; t++) {
                    if (inputs[t] == eot) document = t;
                    const size_t key = NH + h / (NH / NKV), value = key + NKV;  // heads of a row of qkv
                    Doubles s(t + 1);
                    double sum = 0;
                    const size_t window = c.sliding_window && l == 0 ? (size_t)c.sliding_window : T, from = std::max(document, t < window ? 0 : t + 1 - window);  // of two layers the first is short
                    for (size_t u = from; u <= t; u++) {
                        double dot = 0;
                        for (size_t i = 0; i < HS; i++) dot += qkv[t * QKV + h * HS + i] * qkv[u * QKV + key * HS + i];
                        sum += s[u] = std::exp(dot / std::sqrt((double)HS));
                    }
                    for (size_t u = 0; u <= t; u++) for (size_t i = 0; i < HS; i++) y[t * NH * HS + h * HS + i] += s[u] / sum * qkv[u * QKV + value * HS + i];
                }
            const Doubles a = linear(y, of(P_attprojw, l), of(P_attprojb, l), NH * HS, C);
            for (size_t i = 0; i < x.size(); i++) x[i] += a[i];
            Doubles h = linear(norm(x, of(P_ln2w, l), of(P_ln2b, l)), of(P_fcw, l), of(P_fcb, l), C, (size_t)c.hidden());
            if (c.arch.mlp == SWIGLU) {
                Doubles gated(T * FF);
                for (size_t t = 0; t < T; t++)
                    for (size_t i = 0; i < FF; i++) {
                        const double gate = h[t * 2 * FF + i], up = h[t * 2 * FF + FF + i];
                        gated[t * FF + i] = gate / (1 + std::exp(-gate)) * up;
                    }
                h = gated;
            } else if (c.arch.mlp == RELU2) {
                for (double& v : h) v = v > 0 ? v * v : 0;
            } else {
                for (double& v : h) v = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
            }
            const Doubles m = linear(h, of(P_fcprojw, l), of(P_fcprojb, l), FF, C);
            for (size_t i = 0; i < x.size(); i++) x[i] += m[i];
        }
        Doubles logits = linear(norm(x, of(P_lnfw), of(P_lnfb)), of(c.arch.tied ? P_wte : P_headw), nullptr, C, V);
        if (const double cap = c.arch.softcap; cap > 0) for (double& z : logits) z = cap * z / std::sqrt(z * z + cap * cap);
        double sum = 0;
        for (size_t t = 0; t < T; t++) {
            double total = 0;
            for (size_t v = 0; v < V; v++) total += std::exp(logits[t * V + v]);
            sum += std::log(total) - logits[t * V + (size_t)targets[t]];
        }
        return sum;
    }
};

// Weights far from the usual 0.02, so that eps, attention and the MLP show; those of norms are not 1, nor are biases 0, nor what begins at 0.
template <class F> std::unique_ptr<Model<F>> make_model(const Config& c, const ModelOptions& options) {
    auto model = std::make_unique<Model<F>>(c, options);
    model->allocate();
    initialize(*model, 0.3, 5);
    for (const Parameter& p : model->parameters.all) {
        if (!p.vector && p.init != ZERO) continue;
        std::vector<float> noise(p.size());
        normal_fill(noise.data(), p.size(), 0.3f, 7, (uint32_t)p.offset, 0);
        for (size_t i = 0; i < p.size(); i++) model->params[p.offset + i] = F((float)model->params[p.offset + i] + noise[i]);
    }
    return model;
}
std::string fresh(const std::string& name) {
    std::string path = "build/tmp/variants_test/" + name;
    remove_tree(path), make_folders(path);
    return path;
}
template <class F> std::string save(Model<F>& model, const std::string& out, int step, const std::string& prefix) {
    CheckpointWriter checkpoint(out, step);
    checkpoint.add_text("config.json", config_to_json(model.config, -1, "float32"));
    save_weights(model, checkpoint, prefix);
    checkpoint.commit();
    return out + "/" + checkpoint_detail::step_name(step);
}
}  // namespace

// The mean loss of two micro-batches of two rows, and its gradient, after a step that left other numbers there. fp32 as against PyTorch
// (test_golden.cpp): 1e-6 of the loss, 1e-5 of a gradient; central differences with h = 1e-4 add their h^2 and 1e-16 / h.
TEST(variants_against_double) {
    const int B = 2, T = 7, ACCUM = 2;
    for (const Config& c : VARIANTS) {
        const int eot = c.sliding_window == 3 ? 66 : -1;  // windows and documents together: of 7 tokens the third begins one
        auto model = make_model<float>(c, {.B = B, .T = T, .recompute = 3, .grad_accum = ACCUM, .mask_eot = eot});
        std::vector<int> inputs[3], targets[3];
        for (int micro = 0; micro < 3; micro++)
            for (uint64_t i = 0; i < (uint64_t)(B * T); i++) {
                const Random4 r = philox(6, RNG_TEST, (uint32_t)micro, i);
                inputs[micro].push_back((int)(r.x[0] % (uint32_t)c.V)), targets[micro].push_back((int)(r.x[1] % (uint32_t)c.V));
            }
        if (eot >= 0) for (std::vector<int>& row : inputs) row[2] = row[T + 2] = eot;
        forward_backward(*model, {inputs[2].data(), targets[2].data(), 0}, 0);
        for (int micro = 0; micro < ACCUM; micro++) forward_backward(*model, {inputs[micro].data(), targets[micro].data(), 0}, micro);

        Oracle oracle(*model);
        oracle.eot = eot;
        const auto mean_loss = [&] {
            double sum = 0;
            for (int micro = 0; micro < ACCUM; micro++)
                for (int b = 0; b < B; b++) sum += oracle.loss(&inputs[micro][(size_t)(b * T)], &targets[micro][(size_t)(b * T)], (size_t)T);
            return sum / (B * T * ACCUM);
        };
        const double loss = mean_loss(), ours = *model->loss_sum / (B * T * ACCUM);
        if (!(std::fabs(ours / loss - 1) < 1e-6)) FAIL("%s: loss %.9f, expected %.9f", named(c).c_str(), ours, loss);
        for (const Parameter& p : model->parameters.all) {
            if (p.row == P_qkvb && !c.arch.turns_heads()) continue;  // the key's third of it is 0 but for rounding
            std::vector<float> got;
            Doubles expected;
            for (size_t i = 0; i < p.size(); i += std::max<size_t>(p.size() / 13, 1)) {
                double& x = oracle.p[p.offset + i];
                const double before = x, h = 1e-4;
                x = before + h;
                const double above = mean_loss();
                x = before - h;
                const double below = mean_loss();
                x = before;
                got.push_back(model->grads[p.offset + i]), expected.push_back((above - below) / (2 * h));
            }
            const double error = relative_error(got.data(), expected.data(), got.size());
            if (!(error < 2e-5)) FAIL("%s: gradient of %s: relative error %.3g", named(c).c_str(), p.name.c_str(), error);
        }
    }
}

// What is made again in the backward pass is what was there, bit for bit, also where it accumulates, and buffers that share memory are not needed at the same time.
TEST(variants_recompute_the_same_bits) {
    for (const Config& c : VARIANTS) {
        Config deep = c;
        deep.L = 3;
        std::vector<float> expected;
        for (bool separate : {true, false})
            for (int recompute = 0; recompute < 4; recompute++) {
                auto model = make_model<float>(deep, {.B = 8, .T = 12, .recompute = recompute, .grad_accum = 2, .separate_buffers = separate});
                std::vector<int> tokens;
                for (uint64_t i = 0; i < 98; i++) tokens.push_back((int)(philox(6, RNG_TEST, 0, i).x[0] % (uint32_t)c.V));
                for (int micro = 0; micro < 2; micro++) forward_backward(*model, {tokens.data() + micro, tokens.data() + micro + 1, 0}, micro);
                const std::vector<float> grads(model->grads, model->grads + model->parameters.elements);
                if (expected.empty()) expected = grads;
                if (memcmp(grads.data(), expected.data(), grads.size() * sizeof(float))) FAIL("%s: --recompute %d gives other gradients", named(c).c_str(), recompute);
            }
    }
}

// Padding has no gradient, with a head of its own too, whatever a step left there.
TEST(variants_padding_has_no_gradient) {
    for (const Config& c : VARIANTS) {
        auto model = make_model<float>(c, {.B = 1, .T = 8});
        for (size_t i = 0; i < model->parameters.elements; i++) model->grads[i] = 7;
        std::vector<int> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9};
        forward_backward(*model, {tokens.data(), tokens.data() + 1, 0}, 0);
        const size_t begin = (size_t)c.V * (size_t)c.C, end = (size_t)c.Vp() * (size_t)c.C;
        for (size_t i = begin; i < end; i++) {
            EXPECT_EQ(model->tensors().dwte[i], 0.0f);
            if (!c.arch.tied) EXPECT_EQ(model->tensors().dheadw[i], 0.0f);
        }
    }
}

// A token decoded through the cache has the logits of the whole sequence: the same head on both ways.
TEST(variants_decode_by_the_same_head) {
    for (const Config& c : VARIANTS) {
        auto model = make_model<float>(c, {.B = 1, .T = 8});
        std::vector<int> tokens = {3, 1, 4, 1, 5, 9, 2, 6};
        std::vector<float> logits;
        for (int t = 0; t < 8; t++) logits = prefill_or_decode(*model, &tokens[(size_t)t], 1, t);
        Oracle oracle(*model);
        double total = 0;
        for (float x : logits) total += std::exp((double)x);
        for (int v : {0, 5, 66}) {
            std::vector<int> targets(8, 0);
            targets[7] = v;
            const double last = oracle.loss(tokens.data(), targets.data(), 8) - oracle.loss(tokens.data(), targets.data(), 7);
            EXPECT(std::fabs(std::log(total) - (double)logits[(size_t)v] - last) < 1e-4);
        }
    }
}

// Written and read again: the same weights, the same sizes, names that transformers finds: the head of GPT2LMHeadModel has no prefix, all else has.
TEST(variants_round_trip) {
    for (const Config& c : VARIANTS)
        for (std::string prefix : {"", "transformer."}) {
            const std::string out = fresh("round_trip");
            auto model = make_model<float>(c, {.B = 1, .T = 8, .train = false}), again = make_model<float>(c, {.B = 1, .T = 8, .train = false});
            for (size_t i = 0; i < again->parameters.elements; i++) again->params[i] = 9;
            const std::string folder = save(*model, out, 1, prefix);
            EXPECT(config_from_json(folder + "/config.json") == c);
            const SafetensorsModel files(folder);
            EXPECT((files.find("lm_head.weight").tensor != nullptr) == !c.arch.tied);
            EXPECT(!files.find("transformer.lm_head.weight").tensor);
            const bool whole = !c.arch.is_gpt2() || prefix == "transformer." || !c.arch.tied;  // the head's model, of which the trunk is a part
            EXPECT((files.find(std::string(c.arch.trunk) + model->parameters.of(P_wte).name).tensor != nullptr) == whole);
            const std::string found = load_folder(*again, folder);
            EXPECT_STR(found, whole ? std::string(c.arch.trunk) : prefix);
            for (const Parameter& p : model->parameters.all)
                if (memcmp(model->params + p.offset, again->params + p.offset, p.size() * sizeof(float))) FAIL("%s is not what was saved", p.name.c_str());
            EXPECT(read_file(save(*again, out, 2, found) + "/model.safetensors") == read_file(folder + "/model.safetensors"));
        }
}

// A .bin file has no place for any of it.
TEST(variants_are_not_exported) {
    EXPECT_DIES("--export-bin: a .bin file cannot hold this model: its head is not tied (tie_word_embeddings false)", check_bin_export(VARIANTS[0]));
    EXPECT_DIES("its MLP is not 4 times as wide as the model (n_inner)", check_bin_export(VARIANTS[1]));
    EXPECT_DIES("its layer_norm_epsilon is not 1e-05", check_bin_export(VARIANTS[2]));
    EXPECT_DIES("--export-bin: a .bin file cannot hold this model: it is no GPT-2", check_bin_export(VARIANTS[4]));
    EXPECT_DIES("it is no GPT-2", check_bin_export(modern("", 1e-5)));
    check_bin_export(variant(true, 64, 1e-5));
}

// What an evaluation's rows need of memory is planned: nothing more where a micro-batch holds them, else enough for the longest.
TEST(variants_of_the_plan_for_evaluations) {
    const Config c{.max_T = 64, .V = 131, .L = 2, .NH = 3, .C = 48};
    const auto bytes = [&](int B, int T, int eval_T) { return Model<float>(c, {.B = B, .T = T, .eval_T = eval_T}).device.bytes(); };
    EXPECT_EQ(bytes(4, 16, 64), bytes(4, 16, 0));
    EXPECT(bytes(2, 16, 64) > bytes(2, 16, 0));
    EXPECT_EQ(bytes(2, 16, 32), bytes(2, 16, 0));
    // where nothing is trained a layer leaves its sum of the residual stream and its norms' statistics, nothing else
    const auto activations = [&](int L, bool train) { Config deep = c; deep.L = L; return Model<float>(deep, {.B = 2, .T = 16, .train = train}).device.bytes_of("activations"); };
    EXPECT_EQ(activations(8, false) - activations(2, false), 6 * sizeof(float) * (32 * 48 + 4 * 64));  // 32 statistics take 64
    EXPECT(activations(8, true) - activations(2, true) > 6 * sizeof(float) * 32 * (6 * 48 + 2 * 192));
    Config far = c;
    far.max_T = 131072;
    EXPECT(far.longest_row() == 8192 && c.longest_row() == 64);
}
