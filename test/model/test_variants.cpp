// test_variants.cpp: GPT-2s that differ from the published ones in what config.json may say: a head of its own (tie_word_embeddings false), an MLP
// of another width (n_inner), another layer_norm_epsilon. Against the whole model in double, and its gradients by central differences.
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
const Config VARIANTS[] = {variant(false, 64, 1e-5), variant(true, 40, 1e-5), variant(true, 64, 0.3), variant(false, 24, 0.3)};

// The parameters of a model, in double, by name; matrices as in memory, (out, in).
struct Oracle {
    Config c;
    ParameterList list;
    Doubles p;  // flat, as in memory
    template <class F> explicit Oracle(const Model<F>& model) : c(model.config), list(model.config), p(model.parameters.elements) {
        for (size_t i = 0; i < p.size(); i++) p[i] = (double)(float)model.params[i];
    }
    const double* of(ParameterRow row, int l = 0) const { return p.data() + list.first[row] + (size_t)l * list.stride[row]; }

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
    Doubles norm(const Doubles& x, const double* w, const double* b) const {
        const size_t C = (size_t)c.C;
        Doubles y(x.size());
        for (size_t n = 0; n < x.size() / C; n++) {
            double mean = 0, variance = 0;
            for (size_t i = 0; i < C; i++) mean += x[n * C + i] / (double)C;
            for (size_t i = 0; i < C; i++) variance += std::pow(x[n * C + i] - mean, 2) / (double)C;
            for (size_t i = 0; i < C; i++) y[n * C + i] = (x[n * C + i] - mean) / std::sqrt(variance + c.eps) * w[i] + b[i];
        }
        return y;
    }
    // Sum of the losses of one row of tokens.
    double loss(const int* inputs, const int* targets, size_t T) const {
        const size_t C = (size_t)c.C, HS = C / (size_t)c.NH, V = (size_t)c.V;
        Doubles x(T * C);
        for (size_t t = 0; t < T; t++) for (size_t i = 0; i < C; i++) x[t * C + i] = of(P_wte)[(size_t)inputs[t] * C + i] + of(P_wpe)[t * C + i];
        for (int l = 0; l < c.L; l++) {
            const Doubles qkv = linear(norm(x, of(P_ln1w, l), of(P_ln1b, l)), of(P_qkvw, l), of(P_qkvb, l), C, 3 * C);
            Doubles y(T * C);
            for (size_t h = 0; h < (size_t)c.NH; h++)
                for (size_t t = 0; t < T; t++) {
                    Doubles s(t + 1);
                    double sum = 0;
                    for (size_t u = 0; u <= t; u++) {
                        double dot = 0;
                        for (size_t i = 0; i < HS; i++) dot += qkv[t * 3 * C + h * HS + i] * qkv[u * 3 * C + C + h * HS + i];
                        sum += s[u] = std::exp(dot / std::sqrt((double)HS));
                    }
                    for (size_t u = 0; u <= t; u++) for (size_t i = 0; i < HS; i++) y[t * C + h * HS + i] += s[u] / sum * qkv[u * 3 * C + 2 * C + h * HS + i];
                }
            const Doubles a = linear(y, of(P_attprojw, l), of(P_attprojb, l), C, C);
            for (size_t i = 0; i < x.size(); i++) x[i] += a[i];
            Doubles h = linear(norm(x, of(P_ln2w, l), of(P_ln2b, l)), of(P_fcw, l), of(P_fcb, l), C, (size_t)c.FF);
            for (double& v : h) v = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
            const Doubles m = linear(h, of(P_fcprojw, l), of(P_fcprojb, l), (size_t)c.FF, C);
            for (size_t i = 0; i < x.size(); i++) x[i] += m[i];
        }
        const Doubles logits = linear(norm(x, of(P_lnfw), of(P_lnfb)), of(c.arch.tied ? P_wte : P_headw), nullptr, C, V);
        double sum = 0;
        for (size_t t = 0; t < T; t++) {
            double total = 0;
            for (size_t v = 0; v < V; v++) total += std::exp(logits[t * V + v]);
            sum += std::log(total) - logits[t * V + (size_t)targets[t]];
        }
        return sum;
    }
};

// Weights far from the usual 0.02, so that eps, attention and GELU show.
template <class F> std::unique_ptr<Model<F>> make_model(const Config& c, const ModelOptions& options) {
    auto model = std::make_unique<Model<F>>(c, options);
    model->allocate();
    initialize(*model, 0.3, 5);
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
        auto model = make_model<float>(c, {.B = B, .T = T, .recompute = 3, .grad_accum = ACCUM});
        std::vector<int> inputs[3], targets[3];
        for (int micro = 0; micro < 3; micro++)
            for (uint64_t i = 0; i < (uint64_t)(B * T); i++) {
                const Random4 r = philox(6, RNG_TEST, (uint32_t)micro, i);
                inputs[micro].push_back((int)(r.x[0] % (uint32_t)c.V)), targets[micro].push_back((int)(r.x[1] % (uint32_t)c.V));
            }
        forward_backward(*model, {inputs[2].data(), targets[2].data(), 0}, 0);
        for (int micro = 0; micro < ACCUM; micro++) forward_backward(*model, {inputs[micro].data(), targets[micro].data(), 0}, micro);

        Oracle oracle(*model);
        const auto mean_loss = [&] {
            double sum = 0;
            for (int micro = 0; micro < ACCUM; micro++)
                for (int b = 0; b < B; b++) sum += oracle.loss(&inputs[micro][(size_t)(b * T)], &targets[micro][(size_t)(b * T)], (size_t)T);
            return sum / (B * T * ACCUM);
        };
        const double loss = mean_loss(), ours = *model->loss_sum / (B * T * ACCUM);
        if (!(std::fabs(ours / loss - 1) < 1e-6)) FAIL("tied %d, MLP %d, eps %g: loss %.9f, expected %.9f", c.arch.tied, c.FF, c.eps, ours, loss);
        for (const Parameter& p : model->parameters.all) {
            if (p.name.ends_with("attn.c_attn.bias")) continue;  // the key's third of it is 0 but for rounding
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
            if (!(error < 2e-5)) FAIL("tied %d, MLP %d, eps %g: gradient of %s: relative error %.3g", c.arch.tied, c.FF, c.eps, p.name.c_str(), error);
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
            EXPECT((files.find("transformer.wte.weight").tensor != nullptr) == (prefix == "transformer." || !c.arch.tied));
            const std::string found = load_folder(*again, folder);
            EXPECT_STR(found, c.arch.tied ? prefix : "transformer.");
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
    check_bin_export(variant(true, 64, 1e-5));
}

// What an evaluation's rows need of memory is planned: nothing more where a micro-batch holds them, else enough for the longest.
TEST(variants_of_the_plan_for_evaluations) {
    const Config c{.max_T = 64, .V = 131, .L = 2, .NH = 3, .C = 48};
    const auto bytes = [&](int B, int T, int eval_T) { return Model<float>(c, {.B = B, .T = T, .eval_T = eval_T}).device.bytes(); };
    EXPECT_EQ(bytes(4, 16, 64), bytes(4, 16, 0));
    EXPECT(bytes(2, 16, 64) > bytes(2, 16, 0));
    EXPECT_EQ(bytes(2, 16, 32), bytes(2, 16, 0));
}
