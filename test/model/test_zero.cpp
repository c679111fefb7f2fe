// What a rank exchanges in a step by ZeRO's stages, in which order, and beside which part of the computation. The other rank sends nothing but zeros.
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"
#include "../test.h"

namespace {
const Config FOUR{.max_T = 16, .V = 131, .L = 4, .NH = 2, .C = 32};

// Says of every exchange what comes by it: gradients of a layer in memory slot 0 or 1 are "g0", weights "w0", sums of
// gradients "s0"; those of the whole model's tensors "g", "w", "s".
struct Listener : Transport {
    Model<float>& model;
    std::vector<std::string> said;
    int beside = 0;  // exchanges of a layer's gradients before those of the layer before it were made
    explicit Listener(Model<float>& m) : model(m) {}

    void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t) override {
        for (const Message& m : receives) memset(m.data, 0, m.bytes);
        if (sends.empty() || receives.empty()) return;  // of a tensor so small that one rank has it all
        const bool gradients = receives[0].data == model.received;
        for (const OwnPiece& own : model.own_pieces) {
            const size_t theirs = model.partition.piece(own.bucket, 1).begin;
            const bool sums = receives[0].data == model.made_at(theirs), weights = receives[0].data == model.weights_at(theirs);
            if (gradients ? sends[0].data != model.made_at(theirs) : !sums && !weights) continue;
            const int l = own.bucket.layer;
            add(gradients ? "g" : sums ? "s" : "w", l);
            if (gradients && l > 0 && model.options.zero < 2) beside += model.block(l - 1).dqkvw[7] == 0 && model.block(l).dqkvw[7] != 0;
            return;
        }
        FAIL("an exchange of nothing that is known");
    }
    // Of the whole model's tensors, which are several buckets, once.
    void add(std::string name, int l) {
        if (l >= 0) name += std::to_string(l % 2);
        const bool again = std::find(said.size() < 2 ? said.begin() : said.end() - 2, said.end(), name) != said.end();
        if (l >= 0 || !again) said.push_back(name);
    }
    void all_gather(void*, size_t, stream_t) override { said.push_back("sums"); }
    void all_gather_host(void*, size_t) override {}
    void leave() override {}
};

// A step of a rank of two, from loaded weights on.
std::string exchanges(int zero, int grad_accum, int expected_beside = 0) {
    std::vector<int> tokens(16 * (size_t)grad_accum);
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = (int)(i * i % 131);
    Model<float> model(FOUR, {.B = 2, .T = 8, .grad_accum = grad_accum, .rank = 0, .world = 2, .zero = zero, .leaves = zero < 2 ? 2 : 2 * grad_accum});
    const auto listener = std::make_shared<Listener>(model);
    model.comm.world = 2, model.comm.transport = listener;
    model.allocate();
    initialize(model, 0.02, 7);
    if (zero >= 3) gather_weights(model);
    for (int micro = 0; micro < grad_accum; micro++) forward_backward(model, {tokens.data() + 16 * micro, tokens.data() + 16 * micro, 0}, micro);
    Options opt = {};
    opt.beta1 = 0.9, opt.beta2 = 0.95, opt.eps = 1e-8;
    update(model, opt, 1e-3, 0);
    EXPECT_EQ(listener->beside, expected_beside);
    EXPECT(std::isfinite(*model.loss_sum) && *model.loss_sum > 0);
    std::string said;
    for (const std::string& name : listener->said) said += " " + name;
    return said;
}
}  // namespace

// Layer by layer, the last one first, beside the backward pass of the layers before it; in the last micro-step alone.
TEST(zero_0_and_1_exchange_beside_the_backward_pass) {
    EXPECT_STR(exchanges(0, 1, 3), " g1 s1 g0 s0 g1 s1 g0 s0 g s sums");
    EXPECT_STR(exchanges(1, 1, 3), " g1 g0 g1 g0 g sums w w0 w1 w0 w1");
    EXPECT_STR(exchanges(1, 3), " g1 g0 g1 g0 g sums w w0 w1 w0 w1");
}

// Gradients leave in every micro-step.
TEST(zero_2_exchanges_in_every_micro_step) { EXPECT_STR(exchanges(2, 2), " g1 g0 g1 g0 g g1 g0 g1 g0 g sums w w0 w1 w0 w1"); }

// A layer's weights come when the layer before it begins, and those of two layers that are still there, the last ones before the
// backward pass and the first ones behind it, are not gathered again.
TEST(zero_3_gathers_a_layer_ahead) {
    const std::string step = " w0 w1 w0 w1 g1 w1 g0 w0 g1 g0 g";
    EXPECT_STR(exchanges(3, 1), " w" + step + " sums w w0 w1");
    EXPECT_STR(exchanges(3, 2), " w" + step + " w0 w1" + step.substr(12) + " sums w w0 w1");
}

// Where the two layers in use lie: behind one another in turn, and everything else as in the flat parameters.
TEST(zero_two_layers) {
    for (int L : {1, 2, 3, 6}) {
        Config c = FOUR;
        c.L = L;
        const ParameterList list(c);
        const TwoLayers two(list, L);
        std::vector<int> taken(two.elements, -3);
        for (const Parameter& p : list.all)
            for (size_t i = 0; i < p.size(); i++) {
                const size_t at = two.at(p.offset + i);
                if (at >= two.elements) { FAIL("%s[%zu] lies at %zu of %zu", p.name.c_str(), i, at, two.elements); break; }
                if (taken[at] != -3 && (p.layer < 0 || taken[at] != p.layer - 2)) { FAIL("%s[%zu] lies where layer %d is", p.name.c_str(), i, taken[at]); break; }
                taken[at] = p.layer;
            }
        EXPECT(two.elements <= list.elements && (L > 2) == (two.elements < list.elements));
    }
}

// A rank's share of what is divided, in bytes: of AdamW's state from stage 1 on, of gradients from 2, of weights from 3, with what is in use beside them.
TEST(zero_memory_by_stage) {
    Config c = FOUR;
    c.L = 10;
    const ParameterList list(c);
    const size_t n = list.elements, in_use = TwoLayers(list, 10).elements;
    for (int world : {2, 8})
        for (int zero = 0; zero <= 3; zero++) {
            const Model<bf16> model(c, {.B = 2, .T = 8, .rank = 0, .world = world, .zero = zero, .leaves = world});
            const size_t shard = model.partition.most_owned_elements();
            EXPECT(shard >= n / (size_t)world && shard <= n / (size_t)world + model.own_pieces.size() * CHUNK);
            EXPECT_EQ(model.device.bytes_of("AdamW moments"), 8 * (zero >= 1 ? shard : n));
            EXPECT_EQ(model.device.bytes_of("master weights"), 4 * (zero >= 1 ? shard : n));
            EXPECT_EQ(model.device.bytes_of("gradients"), 4 * (zero >= 2 ? shard + in_use : n));
            EXPECT_EQ(model.device.bytes_of("parameters"), 2 * (zero >= 3 ? shard + in_use : n));
        }
}
