// test_config.cpp: models by name, and the config.json of Llama's and Qwen3's folders: both forms in which transformers writes them, what is refused, and
// that what is written is what was read. GPT-2's: test_formats.cpp.
#include "../../llmc/model/config_json.h"
#include "../../llmc/model/config_names.h"
#include "../../llmc/model/tensors.h"
#include "../test.h"

namespace {
const std::string PATH = "build/tmp/config_test/config.json";
Config read_config(const std::string& text) {
    make_folders("build/tmp/config_test");
    write_file_atomically(PATH, text);
    return config_from_json(PATH);
}
// as transformers 4 writes Llama 3.2 1B's, and 5
const char* const LLAMA_4 = R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": [128001, 128008],
 "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
 "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
 "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
 "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256})";
const char* const LLAMA_5 = R"({"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192,
 "max_position_embeddings": 131072, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
 "rope_parameters": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_theta": 500000.0, "rope_type": "llama3"},
 "tie_word_embeddings": true, "vocab_size": 128256})";
const char* const QWEN3_06B = R"({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
 "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
 "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 151936})";
std::string with(std::string text, const std::string& was, const std::string& is) {
    const size_t at = text.find(was);
    if (at == text.npos) return FAIL("%s is not there", was.c_str()), text;
    return text.replace(at, was.size(), is);
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
// A document of one line, to compare without the order of the members or the spaces.
std::string member(const std::string& text, const char* name) {
    const Json json = json_parse(text, "text");
    const Json* found = json.find(name);
    return found ? json_dump(*found) : "absent";
}
}  // namespace

TEST(config_of_both_forms) {
    const Config named = config_by_name("llama3.2:1b", 128256);
    EXPECT_STR(config_difference(read_config(LLAMA_4), named), "");
    EXPECT(read_config(LLAMA_4) == named && read_config(LLAMA_5) == named);
    EXPECT(read_config(QWEN3_06B) == config_by_name("qwen3:0.6b", 151936));
    EXPECT(named.theta == 500000 && named.rope_scaling.factor == 32 && named.rope_scaling.original == 8192);
    // "type" is what older files call it; the default is no scaling
    EXPECT(read_config(with(LLAMA_4, "\"rope_type\"", "\"type\"")) == named);
    Config plain = named;
    plain.rope_scaling = {};
    EXPECT(read_config(with(LLAMA_5, "\"llama3\"", "\"default\"")) == plain);
    EXPECT(read_config(with(LLAMA_5, ", \"rope_type\": \"llama3\"", "")) == plain);
    // null says nothing; of a number of heads, that there are no groups
    EXPECT(read_config(with(LLAMA_4, "\"attention_bias\": false", "\"attention_bias\": null, \"partial_rotary_factor\": 1")) == named);
    EXPECT_EQ(read_config(with(QWEN3_06B, "\"num_key_value_heads\": 8", "\"num_key_value_heads\": null")).NKV, 16);
    EXPECT_EQ(read_config(with(with(QWEN3_06B, "\"num_key_value_heads\": 8, ", ""), "\"num_attention_heads\": 16", "\"num_attention_heads\": 64")).NKV, 32);
    // transformers' defaults where a file says nothing
    Config old = read_config(R"({"model_type": "llama", "hidden_size": 48, "intermediate_size": 40, "num_attention_heads": 6, "num_hidden_layers": 2, "vocab_size": 67})");
    EXPECT(old.NKV == 6 && old.HS == 8 && old.theta == 10000 && old.eps == 1e-6 && old.max_T == 2048 && !old.arch.tied && old.rope_scaling.factor == 1);
}

// What is read and written again has the same values, and all that is not known here; what is new says it in the older form.
TEST(config_survives_a_round_trip) {
    const std::string odd = with(LLAMA_4, "\"use_cache\": true", "\"use_cache\": true, \"of_its_own\": {\"a\": [1, 2.50]}");
    const std::string written = config_to_json(read_config(odd), 5, "float32", odd);
    for (const char* name : {"of_its_own", "use_cache", "bos_token_id", "eos_token_id", "pretraining_tp", "rope_scaling", "rope_theta", "hidden_act"})
        EXPECT_STR(member(written, name), member(odd, name));
    EXPECT_STR(member(written, "torch_dtype"), "\"float32\"");
    EXPECT_STR(config_to_json(read_config(written), 5, "float32", written), written);
    const std::string newer = config_to_json(read_config(LLAMA_5), -1, "bfloat16", LLAMA_5);
    EXPECT_STR(member(newer, "rope_parameters"), "absent");
    EXPECT_STR(member(newer, "dtype"), "absent");
    EXPECT_STR(member(newer, "torch_dtype"), "\"bfloat16\"");
    EXPECT_STR(member(newer, "rope_theta"), "5e+05");
    EXPECT(read_config(newer) == config_by_name("llama3.2:1b", 128256));
    for (const char* name : {"smollm2:135m", "qwen3:0.6b", "llama3.1:8b", "llama:d2", "qwen3:d3c48h6k2s24f40", "d12", "gpt3:c768", "modern:d12", "modern:d2c48h6f40", "modern:d2-softcap-rope", "modern:d2-no_bias-rmsnorm-untied", "modern:d2-qk_norm-relu2-zero_init", "modern:d6w512", "modern:d2c48h6f40w7-rope"}) {
        const Config c = config_by_name(name, 1000);
        const std::string fresh = config_to_json(c, 7, "float32");
        EXPECT_STR(config_difference(read_config(fresh), c), "");
        EXPECT_STR(config_to_json(read_config(fresh), 7, "float32", fresh), fresh);
        EXPECT_STR(member(fresh, "eos_token_id"), "7");
    }
    const std::string more = with(LLAMA_5, "\"rope_type\": \"llama3\"", "\"rope_type\": \"default\", \"attention_factor\": 1.0"), again = config_to_json(read_config(more), -1, "bfloat16", more);
    EXPECT(has(member(again, "rope_scaling"), "\"attention_factor\":1.0") && member(again, "rope_theta") == "5e+05" && member(again, "rope_parameters") == "absent");
    EXPECT_STR(config_to_json(read_config(again), -1, "bfloat16", again), again);
    const std::string no_bos = with(LLAMA_4, "\"bos_token_id\": 128000", "\"bos_token_id\": null");
    EXPECT_STR(member(config_to_json(read_config(no_bos), 5, "float32", no_bos), "bos_token_id"), "null");
    EXPECT(document_token(LLAMA_4) == 128000 && document_token(no_bos) == 128001 && document_token(QWEN3_06B) == -1 && document_token("") == -1);
    // GPT-2's too
    const std::string gpt2 = with(config_to_json(Config(), 50256, "float32"), "\"n_head\": 12,", "\"n_head\": 12, \"task_specific_params\": {\"x\": 1},");
    EXPECT_STR(member(config_to_json(read_config(gpt2), 3, "float32", gpt2), "task_specific_params"), "{\"x\":1}");
    EXPECT_STR(member(config_to_json(read_config(gpt2), 3, "float32", gpt2), "eos_token_id"), "50256");
}

TEST(config_refuses_by_name) {
    struct Refused { const char *base, *was, *is, *says; };
    const Refused list[] = {
        {LLAMA_4, "\"llama3\"", "\"yarn\"", "rope_scaling: rope_type is \"yarn\", must be \"default\" or \"llama3\""},
        {LLAMA_4, "\"llama3\"", "\"linear\"", "rope_type is \"linear\", must be"},
        {LLAMA_5, "\"llama3\"", "\"dynamic\"", "rope_parameters: rope_type is \"dynamic\", must be"},
        {LLAMA_5, "\"llama3\"", "\"longrope\"", "rope_type is \"longrope\", must be"},
        {LLAMA_4, "\"use_cache\": true", "\"rope_parameters\": {\"rope_type\": \"yarn\"}", "rope_parameters and rope_scaling are both there"},
        {LLAMA_4, "\"use_cache\": true", "\"partial_rotary_factor\": 0.5", "partial_rotary_factor is 0.5, must be 1"},
        {LLAMA_4, "\"use_cache\": true", "\"original_max_position_embeddings\": 4096", "original_max_position_embeddings is 4096, must be 8192"},
        {LLAMA_4, "\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0", "rope_scaling: low_freq_factor is 4.0, must be below high_freq_factor, 4"},
        {LLAMA_4, "\"original_max_position_embeddings\": 8192, ", "", "\"original_max_position_embeddings\" is missing"},
        {LLAMA_4, "\"factor\": 32.0", "\"factor\": 0", "factor is 0, must be above 0"},
        {LLAMA_4, "500000.0", "\"x\"", "rope_theta"},
        {LLAMA_5, "\"rope_theta\"", "\"partial_rotary_factor\": 0.5, \"rope_theta\"", "partial_rotary_factor is 0.5, must be 1"},
        {LLAMA_4, "\"attention_bias\": false", "\"attention_bias\": true", "attention_bias is true, must be false"},
        {LLAMA_4, "\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias is true, must be false"},
        {LLAMA_4, "\"silu\"", "\"gelu\"", "hidden_act is \"gelu\", must be \"silu\""},
        {LLAMA_4, "\"use_cache\": true", "\"sliding_window\": 4096", "sliding_window is 4096, but attention within a window is not computed"},
        {LLAMA_4, "\"use_cache\": true", "\"num_local_experts\": 8", "num_local_experts is 8, but mixtures of experts are not computed"},
        {LLAMA_4, "\"use_cache\": true", "\"quantization_config\": {}", "quantization_config is an object, but quantized weights are not read"},
        {LLAMA_4, "\"model_type\": \"llama\"", "\"model_type\": \"mixtral\"", "model_type is \"mixtral\", must be \"gpt2\", \"llama\", \"qwen3\" or \"modern\""},
        {QWEN3_06B, "\"use_sliding_window\": false", "\"use_sliding_window\": true", "use_sliding_window is true, must be false"},
        {QWEN3_06B, "\"rope_scaling\": null", "\"layer_types\": [\"full_attention\", \"sliding_attention\"]", "layer_types is \"sliding_attention\", must be \"full_attention\" for each layer"},
        {QWEN3_06B, "\"num_key_value_heads\": 8", "\"num_key_value_heads\": 3", "16 heads are not a multiple of 3 heads of keys and values"},
        {QWEN3_06B, "\"head_dim\": 128", "\"head_dim\": 7", "head size 7, must be even: rotary positions turn pairs"},
        {QWEN3_06B, "\"num_attention_heads\": 16", "\"num_attention_heads\": 16777216", "are wider than anything that can be trained"},
        {LLAMA_5, "\"head_dim\": 64, \"hidden_act\": \"silu\", \"hidden_size\": 2048", "\"head_dim\": null, \"hidden_act\": \"silu\", \"hidden_size\": 100", "hidden_size is 100, must be a multiple of the 32 heads where there is no head_dim"},
    };
    for (const Refused& r : list) EXPECT_DIES(r.says, read_config(with(r.base, r.was, r.is)));
}

// Each choice of a modern model is a field by itself, and says what it may be.
TEST(config_of_a_modern_model) {
    const Config all = config_by_name("modern:d12", 50257);
    const std::string text = config_to_json(all, 7, "float32");
    EXPECT_STR(member(text, "auto_map"), R"({"AutoConfig":"modeling_modern.ModernConfig","AutoModelForCausalLM":"modeling_modern.ModernForCausalLM"})");
    EXPECT_STR(member(text, "logit_softcap"), "15.0");
    struct Choice { const char *ingredient, *was, *is; };
    const Choice choices[] = {{"rmsnorm", "\"rms_norm\"", "\"layer_norm\""}, {"rope", "\"rope\"", "\"absolute\""}, {"qk_norm", "\"use_qk_norm\": true", "\"use_qk_norm\": false"},
                              {"relu2", "\"relu2\"", "\"gelu_pytorch_tanh\""}, {"no_bias", "\"use_bias\": false", "\"use_bias\": true"},
                              {"untied", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"},
                              {"zero_init", "\"zero_init_residual\": true", "\"zero_init_residual\": false"}, {"softcap", "\"logit_softcap\": 15.0", "\"logit_softcap\": 0.0"}};
    EXPECT_EQ(std::size(choices), std::size(INGREDIENTS));
    for (const Choice& c : choices) {
        const Config without = config_by_name(std::string("modern:d12-") + c.ingredient, 50257);
        EXPECT(!(without == all) && read_config(with(text, c.was, c.is)) == without);
        EXPECT_STR(family_name(without.arch), std::string("modern-") + c.ingredient);
        EXPECT_STR(config_difference(without, all), without.arch.tied ? "head tied, there not tied" : "family modern-" + std::string(c.ingredient) + ", there modern");
    }
    EXPECT_STR(family_name(config_by_name("llama:d2", 9).arch) + family_name(Arch(FAMILIES[GPT2])), "LlamaGPT-2");
    struct Refused { const char *was, *is, *says; };
    const Refused list[] = {{"\"relu2\"", "\"gelu\"", "hidden_act is \"gelu\", must be \"relu2\" or \"gelu_pytorch_tanh\""}, {"\"rope\"", "\"alibi\"", "position_embedding_type is \"alibi\", must be"},
                            {"\"rms_norm\"", "true", "\"norm_type\" is true, expected a string"}, {"\"logit_softcap\": 15.0", "\"logit_softcap\": -1", "softcap is -1, must be at least 0"},
                            {"\"use_bias\": false", "\"use_bias\": 0", "\"use_bias\" is 0, expected true or false"},
                            {"\"use_bias\"", "\"num_key_value_heads\": 4, \"use_bias\"", "num_key_value_heads is 4, but"}, {"\"norm_eps\": 1e-06", "\"norm_eps\": 1e-60", "norms of heads with an eps of 1e-60, must be above 0"}, {"\"hidden_size\": 768", "\"hidden_size\": 764", "width 764 is not a multiple of 12 heads"}};
    for (const Refused& r : list) EXPECT_DIES(r.says, read_config(with(text, r.was, r.is)));
    // by name: 12 x 12 x 768^2 and twice 50257 x 768; the width does not follow GPT-2's published sizes
    EXPECT_EQ(ParameterList(all).count(), (size_t)(12 * 12 * 768 * 768 + 2 * 50257 * 768));
    EXPECT(all.max_T == 2048 && all.FF == 3072 && all.NH == 12 && all.arch == FAMILIES[MODERN] && config_by_name("modern:d24", 9).C == 1536);
    EXPECT_DIES("--model: 'modern:d2-tanh' given: 'tanh' cannot be left out, must be one of rmsnorm, rope, qk_norm", config_by_name("modern:d2-tanh", 9));
    EXPECT_DIES("'rope' cannot be left out, must be one of", config_by_name("modern:d2-rope-softcap-rope", 9));
    EXPECT_DIES("'' cannot be left out", config_by_name("modern:d2-", 9));
    EXPECT_DIES("given, must be dN", config_by_name("llama:d2-rope", 9));
    // windows
    const Config windows = config_by_name("modern:d6w512", 9);
    EXPECT(windows.sliding_window == 512 && config_by_name("modern:d6", 9).sliding_window == 0);
    int of_layers[6];
    for (int l = 0; l < 6; l++) of_layers[l] = windows.window_of(l);
    const int expected[] = {512, 512, 512, 0, 512, 0};
    EXPECT(!memcmp(of_layers, expected, sizeof expected));
    const std::string with_windows = config_to_json(windows, 7, "float32"), types = "[\"sliding_attention\",\"sliding_attention\",\"sliding_attention\",\"full_attention\",\"sliding_attention\",\"full_attention\"]";
    EXPECT(member(with_windows, "sliding_window") == "512" && member(with_windows, "layer_types") == types);
    EXPECT(member(text, "sliding_window") == "absent" && member(text, "layer_types") == "absent");
    EXPECT(read_config(with(config_to_json(config_by_name("modern:d6", 9), 7, "float32"), "\"use_bias\"", "\"sliding_window\": 512, \"use_bias\"")) == windows);
    EXPECT(read_config(with(text, "\"use_bias\"", "\"sliding_window\": null, \"layer_types\": null, \"use_bias\"")) == read_config(text));
    EXPECT_STR(config_difference(windows, config_by_name("modern:d6", 9)), "sliding window 512, there 0");
    const Refused of_windows[] = {{"512", "511.5", "sliding_window"}, {"512", "0", "sliding_window"}, {"512", "null", "layer_types is an array, must be \"full_attention\" for each layer where there is no sliding_window"},
                                  {"\"full_attention\"", "\"sliding_attention\"", "layer_types is an array, must be \"sliding_attention\" thrice, \"full_attention\""}, {"\"sliding_attention\",", "", "layer_types is an array, must be \"sliding"}};
    for (const Refused& r : of_windows) EXPECT_DIES(r.says, read_config(with(with_windows, r.was, r.is)));
    EXPECT_DIES("--model: 'd4c128h4w16' given: a sliding window, which only modern models have", config_by_name("d4c128h4w16", 9));
    EXPECT_DIES("a sliding window, which only modern models have", config_by_name("llama:d4w16", 9));
    EXPECT_DIES("the sliding window must be from 1 to 2047", config_by_name("modern:d4w2048", 9));
    EXPECT_DIES("the sliding window must be from 1 to 2047", config_by_name("modern:d4w0", 9));
    EXPECT_DIES("'modern:d1w16' given: a sliding window, but the last layer has none, and is the only one", config_by_name("modern:d1w16", 9));
    EXPECT_DIES("head size 15, must be even", config_by_name("modern:d2c60h4-rope", 9));
}

TEST(config_by_names) {
    EXPECT_EQ(ParameterList(config_by_name("smollm2:135m", published_vocabulary("smollm2:135m"))).count(), (size_t)134515008);
    EXPECT_EQ(ParameterList(config_by_name("qwen3:0.6b", published_vocabulary("qwen3:0.6b"))).count(), (size_t)596049920);
    EXPECT_EQ(ParameterList(config_by_name("llama3.2:1b", published_vocabulary("llama3.2:1b"))).count(), (size_t)1235814400);
    EXPECT_EQ(ParameterList(config_by_name("llama3.2:3b", published_vocabulary("llama3.2:3b"))).count(), (size_t)3212749824);
    EXPECT_EQ(ParameterList(config_by_name("llama3.1:8b", published_vocabulary("llama3.1:8b"))).count(), (size_t)8030261248);
    EXPECT_EQ(published_vocabulary("d12"), 0);
    const Config c = config_by_name("qwen3:d4c48h6k2s24f40", 100), d = config_by_name("llama:d2", 100), wide = config_by_name("d4c128h4f512", 100);
    EXPECT(c.L == 4 && c.C == 48 && c.NH == 6 && c.NKV == 2 && c.HS == 24 && c.FF == 40 && c.arch.qk_norm && c.heads().q() == 144);
    EXPECT(d.L == 2 && d.C == 128 && d.NH == 2 && d.NKV == 2 && d.HS == 64 && d.FF == 384 && d.arch == FAMILIES[LLAMA]);  // 8/3 of 128, in multiples of 64
    EXPECT(wide == config_by_name("gpt2:d4c128h4", 100));
    EXPECT_DIES("--model: 'd4c128h4k2' given: 4 heads of 32 and 2 of keys and values, must be 4 heads of 32: width 128", config_by_name("d4c128h4k2", 100));
    EXPECT_DIES("--model: 'llama:d4c128h4k3' given: 4 heads are not a multiple of 3 heads of keys and values", config_by_name("llama:d4c128h4k3", 100));
    EXPECT_DIES("--model: 'llama:d4c128h4k8' given: the number of heads of keys and values must be from 1 to 4", config_by_name("llama:d4c128h4k8", 100));
    EXPECT_DIES("--model: 'llama:d4c120h8' given: head size 15, must be even", config_by_name("llama:d4c120h8", 100));
    EXPECT_DIES("--model: 'llama3:8b' given: is it llama3.1:8b?", config_by_name("llama3:8b", 100));
    EXPECT_DIES("--model: 'mamba' given, must be dN (d12), gpt2:dN, llama:dN, qwen3:dN", config_by_name("mamba", 100));
    EXPECT(config_by_name("llama:d2f352c128k2h4s24", 100) == config_by_name("llama:d2c128h4k2s24f352", 100));
    EXPECT_DIES("--model: 'd1c65536h65536s65536' given: 65536 heads of 65536", config_by_name("d1c65536h65536s65536", 100));
    EXPECT_DIES("given: the width is missing: c256 is 4 heads of 64", config_by_name("qwen3:d4h4", 100));
    EXPECT_DIES("--model: 'meta-llama/Llama-3.2-1B' given: llama3.2:1b begins untrained", config_by_name("meta-llama/Llama-3.2-1B", 100));
    EXPECT_DIES("--model: 'HuggingFaceTB/SmolLM2-135M-Instruct' given: smollm2:135m begins untrained", config_by_name("HuggingFaceTB/SmolLM2-135M-Instruct", 100));
    EXPECT_DIES("--model: 'qwen3:06b' given: qwen3:0.6b begins untrained", config_by_name("qwen3:06b", 100));
    EXPECT_DIES("--model: 'llama3.2:1c' given: is it llama3.2:1b?", config_by_name("llama3.2:1c", 100));
    EXPECT_DIES("the number of heads is missing: llama:d4c128h2 has heads of 64", config_by_name("llama:d4c128", 100));
}
