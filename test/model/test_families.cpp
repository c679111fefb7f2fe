// test_families.cpp: the families' rows in the table of tensors: what exists, how large it is, what files call it, how ranks divide it.
#include "../../llmc/backend.h"
#include "../../llmc/model/flops.h"
#include "../../llmc/model/model_files.h"
#include "../test.h"

namespace {
const Config LLAMA_TINY{.arch = FAMILIES[LLAMA], .max_T = 16, .V = 67, .L = 2, .NH = 4, .C = 24, .NKV = 2, .HS = 8, .FF = 40};
std::string fresh(const std::string& name) {
    std::string path = "build/tmp/families_test/" + name;
    remove_tree(path), make_folders(path);
    return path;
}
Config with_own_head(Config c) { c.arch.tied = false; return c; }

std::vector<std::string> file_names(const Config& c) {
    std::vector<std::string> names;
    for (const Parameter& p : ParameterList(c).all)
        for (const FileTensor& t : p.files) names.push_back(t.name);
    return names;
}
}  // namespace

// The numbers of parameters that the models' published files hold.
TEST(families_parameter_counts) {
    const Config smollm2{.arch = FAMILIES[LLAMA], .max_T = 8192, .V = 49152, .L = 30, .NH = 9, .C = 576, .NKV = 3, .HS = 64, .FF = 1536};
    const Config llama1b{.arch = FAMILIES[LLAMA], .max_T = 131072, .V = 128256, .L = 16, .NH = 32, .C = 2048, .NKV = 8, .HS = 64, .FF = 8192};
    const Config llama8b{.arch = FAMILIES[LLAMA], .max_T = 131072, .V = 128256, .L = 32, .NH = 32, .C = 4096, .NKV = 8, .HS = 128, .FF = 14336};
    const Config qwen3{.arch = FAMILIES[QWEN3], .max_T = 40960, .V = 151936, .L = 28, .NH = 16, .C = 1024, .NKV = 8, .HS = 128, .FF = 3072};
    EXPECT_EQ(ParameterList(Config()).count(), (size_t)124439808);
    // every named GPT: its heads make up its width, and each count is the formula's, 12 L C^2 + 13 L C + (V + T + 2) C; 355M to 1558M as published
    for (const char* name : {"d1", "d12", "d24", "d36", "d48", "d60", "d72", "d84", "gpt2:d48", "d4c128h4", "gpt3:c384", "gpt3:c768", "gpt3:c1024", "gpt3:c1536",
                             "gpt3:c2048", "gpt3:c2560", "gpt3:c4096", "gpt3:c5120", "gpt3:c12288"}) {
        const Config c = config_by_name(name, 50257);
        check_config(c, name);
        if (c.NKV != c.NH || c.NH * c.HS != c.C || c.QKV() != 3 * c.C || c.FF != 4 * c.C) FAIL("%s: heads %d %d of %d, FF %d, width %d", name, c.NH, c.NKV, c.HS, c.FF, c.C);
        const size_t L = (size_t)c.L, C = (size_t)c.C;
        EXPECT_EQ(ParameterList(c).count(), 12 * L * C * C + 13 * L * C + (size_t)(c.V + c.max_T + 2) * C);
    }
    EXPECT_EQ(ParameterList(config_by_name("d24", 50257)).count(), (size_t)354823168);
    EXPECT_EQ(ParameterList(config_by_name("d36", 50257)).count(), (size_t)774030080);
    EXPECT_EQ(ParameterList(config_by_name("d48", 50257)).count(), (size_t)1557611200);
    EXPECT_EQ(ParameterList(smollm2).count(), (size_t)134515008);
    EXPECT_EQ(ParameterList(llama1b).count(), (size_t)1235814400);
    EXPECT_EQ(ParameterList(with_own_head(llama8b)).count(), (size_t)8030261248);
    EXPECT_EQ(ParameterList(qwen3).count(), (size_t)596049920);
    // what multiplies each token: all of them but the norms' weights: 2 a layer and the last, of C; for Qwen3 2 a layer of HS
    EXPECT_EQ(matmul_parameters(smollm2), 134515008.0 - 61 * 576);
    EXPECT_EQ(matmul_parameters(qwen3), 596049920.0 - 57 * 1024 - 56 * 128);
}

TEST(families_names_in_files) {
    Config qwen3 = with_own_head(LLAMA_TINY);
    qwen3.L = 1, qwen3.arch.qk_norm = true;
    const std::vector<std::string> names = {
        "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.k_norm.weight", "model.layers.0.self_attn.o_proj.weight", "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight",
        "model.norm.weight", "lm_head.weight"};
    EXPECT(file_names(qwen3) == names);
    EXPECT_EQ(file_names(LLAMA_TINY).size(), 2 * 9 + 2u);
}

// Llama's files hold q, k, v, gate and up apart, (out, in); memory holds them one behind the other. What is written is read again.
TEST(families_merged_matrices_are_parts_in_files) {
    const Config c = with_own_head(LLAMA_TINY);
    const std::string out = fresh("round_trip");
    Model<float> model(c, {.B = 1, .T = 8, .train = false}), again(c, {.B = 1, .T = 8, .train = false});
    model.allocate(), again.allocate();
    initialize(model, 0.02, 3);
    CheckpointWriter checkpoint(out, 1);
    save_weights(model, checkpoint, "");
    checkpoint.commit();
    const std::string folder = out + "/step_00000001";
    const SafetensorsModel files(folder);
    size_t first = 0;
    const Block<float>& b = model.block(1);
    for (auto [name, rows] : {std::pair{"q", 4 * 8}, {"k", 2 * 8}, {"v", 2 * 8}}) {
        const auto place = files.find(std::string("model.layers.1.self_attn.") + name + "_proj.weight");
        if (!place.tensor) return FAIL("%s_proj is missing", name);
        EXPECT((place.tensor->shape == std::vector<size_t>{(size_t)rows, 24}));
        std::vector<float> values(place.tensor->count());
        place.file->read_as_float(*place.tensor, values.data(), 0, values.size());
        EXPECT(!memcmp(values.data(), b.qkvw + first * 24, values.size() * sizeof(float)));
        first += (size_t)rows;
    }
    EXPECT_STR(load_folder(again, folder), "");
    for (const Parameter& p : model.parameters.all)
        if (memcmp(model.params + p.offset, again.params + p.offset, p.size() * sizeof(float))) FAIL("%s is not what was saved", p.name.c_str());
    EXPECT(b.headw && !b.wpe && !b.ln1b && !b.qnormw && !b.fcb && b.fcprojw);  // what a family lacks is null
}

// Every element has one rank; shares are equal to a multiple of 64, and where Muon is the optimizer, to one matrix, none of which is cut.
TEST(families_shards) {
    for (const Config& c : {Config(), Config{.V = 131, .L = 3, .NH = 3, .C = 48}, LLAMA_TINY}) {
        const ParameterList list(c);
        for (int ranks : {1, 2, 3, 8, 64}) {
            for (Update optimizer : {ADAMW, MUON}) {
                const std::vector<size_t> bounds = list.shard_bounds(ranks, optimizer);
                EXPECT_EQ(bounds.size(), (size_t)ranks + 1);
                EXPECT(bounds.front() == 0 && bounds.back() == list.elements);
                EXPECT(std::is_sorted(bounds.begin(), bounds.end()));
                size_t largest_matrix = 0;
                for (const Parameter& p : list.all) if (p.update == MUON) largest_matrix = std::max(largest_matrix, p.size() + 63);
                const size_t share = (list.elements + (size_t)ranks - 1) / (size_t)ranks + 63;
                for (size_t r = 1; r < bounds.size(); r++) {
                    EXPECT(bounds[r] % 64 == 0);
                    EXPECT(bounds[r] - bounds[r - 1] <= share + (optimizer == MUON ? largest_matrix : 0));
                }
                if (optimizer == MUON)
                    for (const Parameter& p : list.all)
                        for (size_t bound : bounds)
                            if (p.update == MUON && bound > p.offset && bound < p.offset + p.size()) FAIL("%s is cut over %d ranks", p.name.c_str(), ranks);
            }
        }
    }
}
