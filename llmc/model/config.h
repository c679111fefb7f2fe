// config.h: what a model is: the family that it belongs to, and its sizes. `d12`, `gpt2:d12` and `gpt3:c768` name the published ones.
#pragma once
#include <string>
#include "../base/check.h"
#include "../io/files.h"
#include "../io/json.h"

enum Norm { LAYERNORM, RMSNORM };
enum Positions { LEARNED, ROTARY };
enum Mlp { GELU, SWIGLU };
enum Names { GPT2_NAMES, LLAMA_NAMES };  // the columns of names in tensors.h

// A family of models, whole: what its blocks compute, and how its files are written.
struct Arch {
    const char* name;                       // for people
    const char *model_type, *architecture;  // in config.json
    Names names;
    const char* block;                      // what stands before the layer's number in the names of a block's tensors
    bool conv1d;                            // files hold the blocks' matrices (in, out); in memory they are (out, in)
    Norm norm;
    Positions positions;
    Mlp mlp;
    bool bias;                              // of norms and linear layers
    bool qk_norm;                           // queries and keys are normalised over a head
    bool tied;                              // the head is wte again
    bool operator==(const Arch&) const = default;
};
enum Family { GPT2, LLAMA, QWEN3 };
inline constexpr Arch FAMILIES[] = {
//   name     model_type architecture      names        block            conv1d norm       positions mlp     bias   qk_norm tied
    {"GPT-2", "gpt2",  "GPT2LMHeadModel",  GPT2_NAMES,  "h.",            true,  LAYERNORM, LEARNED,  GELU,   true,  false,  true},
    {"Llama", "llama", "LlamaForCausalLM", LLAMA_NAMES, "model.layers.", false, RMSNORM,   ROTARY,   SWIGLU, false, false,  true},
    {"Qwen3", "qwen3", "Qwen3ForCausalLM", LLAMA_NAMES, "model.layers.", false, RMSNORM,   ROTARY,   SWIGLU, false, true,   true},
};

struct Config {
    Arch arch = FAMILIES[GPT2];
    int max_T = 1024;  // context; the number of positions if they are learned
    int V = 50257;     // vocabulary
    int L = 12;        // layers
    int NH = 12;       // heads of queries
    int C = 768;       // width of the residual stream
    int NKV = NH;      // heads of keys and values; fewer than NH: grouped queries
    int HS = NH > 0 ? C / NH : 0;        // head size
    int FF = (int)(4u * (unsigned)C);    // width of the MLP's hidden layer; unsigned: sizes are checked later
    int QKV() const { return (NH + 2 * NKV) * HS; }
    // The vocabulary inside: a multiple of 64 keeps the classifier's rows aligned. Padding never reaches a file or a loss.
    int Vp() const { return (V + 63) / 64 * 64; }
    bool operator==(const Config&) const = default;
};

// One clear line if the sizes do not make a model; `where` names the file or option they came from.
inline void check_config(const Config& c, const std::string& where) {
    auto positive = [&](const char* field, int value) {
        CHECK(value > 0, "%s: %s is %d, must be at least 1", where.c_str(), field, value);
    };
    positive("context", c.max_T), positive("vocabulary", c.V), positive("layers", c.L);
    positive("heads", c.NH), positive("width", c.C);
    CHECK(c.arch != FAMILIES[GPT2] || c.C % c.NH == 0, "%s: width %d is not a multiple of %d heads", where.c_str(), c.C, c.NH);
    CHECK(c.C <= 65536 && c.L <= 1024 && c.max_T <= (1 << 20) && c.V <= (1 << 24),
          "%s: layers %d, width %d, context %d, vocabulary %d: larger than anything that can be trained", where.c_str(),
          c.L, c.C, c.max_T, c.V);
}

namespace config_detail {
struct Gpt2Size { int depth, width, heads; };
constexpr Gpt2Size GPT2_SIZES[] = {{24, 1024, 16}, {36, 1280, 20}, {48, 1600, 25}, {60, 1920, 30}, {72, 2880, 30}, {84, 3456, 36}};
// "Language Models are Few-Shot Learners", table 2.1; 13B has width 5140 there, which its 40 heads of 128 do not divide
struct Gpt3Size { int width, depth, head_size; };
constexpr Gpt3Size GPT3_SIZES[] = {{384, 6, 64},    {768, 12, 64},   {1024, 24, 64},   {1536, 24, 96},   {2048, 24, 128},
                             {2560, 32, 80},  {4096, 32, 128}, {5120, 40, 128},  {12288, 96, 128}};
// The number after the prefix, 0 if the text is anything else.
inline int number_after(const std::string& text, const std::string& prefix) {
    if (!text.starts_with(prefix) || text.size() == prefix.size() || text.size() > prefix.size() + 5) return 0;
    if (text.find_first_not_of("0123456789", prefix.size()) != std::string::npos) return 0;
    return std::stoi(text.substr(prefix.size()));
}
}  // namespace config_detail

// d12, gpt2:d12: width and heads as published, else 64 N wide with N heads, T = 1024. d4c128h4: depth, width and heads of your
// own. gpt3:c768: T = 2048.
inline Config config_by_name(const std::string& name, int vocabulary) {
    using namespace config_detail;
    int depth = number_after(name, "d") + number_after(name, "gpt2:d");
    if (depth > 0 && depth <= 1024) {
        Config c{.max_T = 1024, .V = vocabulary, .L = depth, .NH = depth, .C = 64 * depth};
        for (const Gpt2Size& s : GPT2_SIZES) if (s.depth == depth) c.C = s.width, c.NH = s.heads;
        return c;
    }
    size_t width_at = name.find('c'), heads_at = name.find('h');
    if (width_at < heads_at && heads_at != name.npos) {
        Config c{.max_T = 1024, .V = vocabulary, .L = number_after(name.substr(0, width_at), "d"),
                 .NH = number_after(name.substr(heads_at), "h"), .C = number_after(name.substr(width_at, heads_at - width_at), "c")};
        if (c.L > 0 && c.L <= 1024 && c.C > 0 && c.NH > 0 && c.C % c.NH == 0) return c;
    }
    if (int width = number_after(name, "gpt3:c"))
        for (const Gpt3Size& s : GPT3_SIZES)
            if (s.width == width) return {.max_T = 2048, .V = vocabulary, .L = s.depth, .NH = width / s.head_size, .C = width};
    die_with(EXIT_USAGE, "--model: '%s' given, must be dN (d12), gpt2:dN, dNcWhH (d4c128h4: depth, width, heads), gpt3:cN with N one of 384 768 1024 1536 2048 2560 "
             "4096 5120 12288, a checkpoint folder, or a .bin model file", name.c_str());
}

// ---- config.json of a Hugging Face folder ------------------------------------------------------------------------------

inline std::string config_to_json(const Config& c, int eot, const char* dtype) {
    Json json = Json::object();
    json.add("architectures", Json::array().push(c.arch.architecture)).add("model_type", c.arch.model_type);
    json.add("vocab_size", c.V).add("n_positions", c.max_T).add("n_embd", c.C).add("n_layer", c.L).add("n_head", c.NH);
    json.add("activation_function", "gelu_new").add("layer_norm_epsilon", 1e-5).add("initializer_range", 0.02);
    json.add("embd_pdrop", 0).add("attn_pdrop", 0).add("resid_pdrop", 0).add("tie_word_embeddings", true);
    json.add("bos_token_id", eot >= 0 ? Json(eot) : Json()).add("eos_token_id", eot >= 0 ? Json(eot) : Json());
    json.add("torch_dtype", dtype);
    return json_dump(json, 2) + "\n";
}

inline Config config_from_json(const std::string& path) {
    Json json = json_parse(read_file(path), path);
    auto must_be = [&](const char* field, const std::string& value) {  // what this model computes, where the file says it
        const Json* found = json.find(field);
        CHECK(!found || json_dump(*found) == value, "%s: %s is %s, must be %s", path.c_str(), field, found->shown().c_str(), value.c_str());
    };
    CHECK(json.at("model_type", path).as_string(path) == "gpt2", "%s: model_type is %s, must be \"gpt2\"", path.c_str(),
          json.at("model_type", path).shown().c_str());
    must_be("activation_function", "\"gelu_new\"");
    must_be("tie_word_embeddings", "true");
    must_be("scale_attn_weights", "true");
    must_be("scale_attn_by_inverse_layer_idx", "false");
    must_be("add_cross_attention", "false");
    if (const Json* eps = json.find("layer_norm_epsilon"))
        CHECK(eps->as_double(path) == 1e-5, "%s: layer_norm_epsilon is %s, must be 1e-05", path.c_str(), eps->shown().c_str());
    auto size = [&](const char* field) { return (int)json.at(field, path).as_int(path, 1, 1 << 24); };
    Config c{.max_T = size("n_positions"), .V = size("vocab_size"), .L = size("n_layer"), .NH = size("n_head"), .C = size("n_embd")};
    if (const Json* inner = json.find("n_inner"); inner && inner->type != Json::NUL)
        CHECK(inner->as_int(path) == 4 * c.C, "%s: n_inner is %s, must be 4 n_embd = %d", path.c_str(), inner->shown().c_str(), 4 * c.C);
    check_config(c, path);
    return c;
}
