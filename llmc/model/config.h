// config.h: what a model is: the family that it belongs to, and its sizes. Their names: config_names.h; config.json: config_json.h.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include "../base/check.h"
#include "../base/heads.h"

enum Norm { LAYERNORM, RMSNORM };
enum Positions { LEARNED, ROTARY };
enum Mlp { GELU, SWIGLU, RELU2 };
inline constexpr const char* MLP_NAMES[] = {"GELU", "SwiGLU", "ReLU squared"};
enum Names { GPT2_NAMES, LLAMA_NAMES };  // the columns of names in tensors.h

// A family of models, whole: what its blocks compute, and how its files are written.
struct Arch {
    std::string_view name;                      // for people
    std::string_view model_type, architecture;  // in config.json; a model's name may begin with the first: llama:d12
    Names names;
    std::string_view trunk;                     // what stands before the names of all tensors but the head, in files that have it too
    std::string_view block;                     // what stands before the layer's number in the names of a block's tensors
    bool conv1d;                                // files hold the blocks' matrices (in, out); in memory they are (out, in)
    Norm norm;
    Positions positions;
    Mlp mlp;
    bool bias;                                  // of linear layers and LayerNorms
    bool norm_weights;                          // norms have them
    bool qk_norm;                               // queries and keys are normalised over a head
    bool tied;                                  // the head is wte again
    bool zero_init;                             // what adds to the residual stream, and a head that is not tied, begin at 0
    double softcap;                             // logits z become softcap z / sqrt(z^2 + softcap^2); 0: z stays
    double eps, theta;                          // of norms and of rotary positions, of a new model
    bool operator==(const Arch&) const = default;
    bool is_gpt2() const { return model_type == "gpt2"; }
    bool norm_bias() const { return bias && norm == LAYERNORM; }
    bool qk_weights() const { return qk_norm && norm_weights && norm == RMSNORM; }
    bool turns_heads() const { return positions == ROTARY || qk_norm; }  // queries and keys are not what their product yields
};
enum Family { GPT2, LLAMA, QWEN3, MODERN };
inline constexpr Arch FAMILIES[] = {
//   name      model_type architecture       names        trunk           block      conv1d norm       positions mlp     bias   norm_w qk_norm tied   zero   softcap eps   theta
    {"GPT-2",  "gpt2",    "GPT2LMHeadModel",  GPT2_NAMES,  "transformer.", "h.",      true,  LAYERNORM, LEARNED,  GELU,   true,  true,  false,  true,  false, 0,      1e-5, 1e4},
    {"Llama",  "llama",   "LlamaForCausalLM", LLAMA_NAMES, "model.",       "layers.", false, RMSNORM,   ROTARY,   SWIGLU, false, true,  false,  true,  false, 0,      1e-5, 1e4},
    {"Qwen3",  "qwen3",   "Qwen3ForCausalLM", LLAMA_NAMES, "model.",       "layers.", false, RMSNORM,   ROTARY,   SWIGLU, false, true,  true,   true,  false, 0,      1e-6, 1e6},
    {"modern", "modern",  "ModernForCausalLM", GPT2_NAMES, "transformer.", "h.",      false, RMSNORM,   ROTARY,   RELU2,  false, false, true,   false, true,  15,     1e-6, 1e4},
};

// What a modern model has beyond GPT-2, by the names in dev/reference/modern.py, and what it has without: modern:d12-softcap-rope.
struct Ingredient { std::string_view name; void (*leave_out)(Arch&); };
inline constexpr Ingredient INGREDIENTS[] = {
    {"rmsnorm", [](Arch& a) { a.norm = LAYERNORM, a.norm_weights = true; }}, {"rope", [](Arch& a) { a.positions = LEARNED; }},
    {"qk_norm", [](Arch& a) { a.qk_norm = false; }}, {"relu2", [](Arch& a) { a.mlp = GELU; }}, {"no_bias", [](Arch& a) { a.bias = true; }},
    {"untied", [](Arch& a) { a.tied = true; }}, {"zero_init", [](Arch& a) { a.zero_init = false; }}, {"softcap", [](Arch& a) { a.softcap = 0; }},
};
// "Llama", "modern-softcap": a family, and what of it is left out.
inline std::string family_name(const Arch& arch) {
    std::string name(arch.name);
    if (arch.model_type != FAMILIES[MODERN].model_type) return name;
    for (const Ingredient& i : INGREDIENTS) {
        Arch without = arch;
        i.leave_out(without);
        if (without == arch) name += "-" + std::string(i.name);
    }
    return name;
}

// Of a model that was trained on `original` positions and is to read `factor` times as many: slow rotations become slower (rope_table.h). factor 1: none.
struct RopeScaling {
    double factor = 1, low = 1, high = 4;  // wavelengths above original / low are scaled whole, below original / high not at all
    int original = 8192;
    bool operator==(const RopeScaling&) const = default;
};

struct Config {
    Arch arch = FAMILIES[GPT2];
    int max_T = 1024;  // context; the number of positions if they are learned
    int V = 50257;     // vocabulary
    int L = 12;        // layers
    int NH = 12;       // heads of queries
    int C = 768;       // width of the residual stream
    // what follows from C and NH where nothing else is given. Like them it is given when a Config is made: a change of C or NH does not reach it
    int NKV = NH;      // heads of keys and values; fewer than NH: grouped queries
    int HS = NH > 0 ? C / NH : 0;        // head size
    int FF = (int)(4u * (unsigned)C);    // width of the MLP's hidden layer; unsigned: sizes are checked later
    double eps = 1e-5;                   // of the norms
    double theta = 10000;                // of rotary positions: the base of their wavelengths
    RopeScaling rope_scaling{};
    int sliding_window = 0;              // tokens that a token of a short layer attends to, itself among them; 0: all layers are long
    // Short, short, short, long; the last layer is long.
    int window_of(int l) const { return l % 4 != 3 && l != L - 1 ? sliding_window : 0; }
    Heads heads() const { return {NH, NKV, HS}; }
    int QKV() const { return heads().qkv(); }
    bool gated() const { return arch.mlp == SWIGLU; }
    float qk_eps() const { return arch.qk_norm ? (float)eps : 0; }  // of the norm of queries and keys; 0: they have none
    int hidden() const { return gated() ? 2 * FF : FF; }  // what the MLP's first product makes: of a gated one gate and value
    // Rows of chats and of evaluations: a context of 131072 tokens would be planned in gigabytes.
    int longest_row() const { return max_T < 8192 ? max_T : 8192; }
    // The vocabulary inside: a multiple of 64 keeps the classifier's rows aligned. Padding never reaches a file or a loss.
    int Vp() const { return (V + 63) / 64 * 64; }
    bool operator==(const Config&) const = default;
};

// "" if two are one, else the first field in which they differ, with both values: "heads 4, there 2".
inline std::string config_difference(const Config& a, const Config& b) {
    struct Size { const char* name; int Config::* field; };
    constexpr Size SIZES[] = {{"layers", &Config::L}, {"width", &Config::C}, {"heads", &Config::NH}, {"context", &Config::max_T}, {"vocabulary", &Config::V},
                              {"width of the MLP", &Config::FF}, {"heads of keys and values", &Config::NKV}, {"head size", &Config::HS}};
    for (const Size& s : SIZES) if (a.*s.field != b.*s.field) return format("%s %d, there %d", s.name, a.*s.field, b.*s.field);
    if (a.eps != b.eps) return format("epsilon of the norms %g, there %g", a.eps, b.eps);
    if (a.theta != b.theta) return format("rope_theta %g, there %g", a.theta, b.theta);
    if (a.rope_scaling != b.rope_scaling) return format("rope_scaling by %g, there %g", a.rope_scaling.factor, b.rope_scaling.factor);
    if (a.sliding_window != b.sliding_window) return format("sliding window %d, there %d", a.sliding_window, b.sliding_window);
    if (a.arch.tied != b.arch.tied) return format("head %s, there %s", a.arch.tied ? "tied" : "not tied", b.arch.tied ? "tied" : "not tied");
    return a == b ? "" : format("family %s, there %s", family_name(a.arch).c_str(), family_name(b.arch).c_str());
}

// "" if the sizes make a model, else which one does not.
inline std::string config_error(const Config& c) {
    struct Size { const char* name; int value; };
    const Size sizes[] = {{"context", c.max_T}, {"vocabulary", c.V}, {"layers", c.L}, {"heads", c.NH}, {"width", c.C}}, parts[] = {{"heads of keys and values", c.NKV}, {"head size", c.HS}};
    for (const Size& s : sizes) if (s.value <= 0) return format("%s is %d, must be at least 1", s.name, s.value);
    if (c.arch.names == GPT2_NAMES && c.C % c.NH != 0) return format("width %d is not a multiple of %d heads", c.C, c.NH);
    for (const Size& s : parts) if (s.value <= 0) return format("%s is %d, must be at least 1", s.name, s.value);
    if (c.arch.names == GPT2_NAMES && (c.NKV != c.NH || (int64_t)c.NH * c.HS != c.C))
        return format("%d heads of %d and %d of keys and values, must be %d heads of %d: width %d", c.NH, c.HS, c.NKV, c.NH, c.C / c.NH, c.C);
    if (c.C > 65536 || c.L > 1024 || c.max_T > 1 << 20 || c.V > 1 << 24)
        return format("layers %d, width %d, context %d, vocabulary %d: larger than anything that can be trained (1024, 65536, 1048576, 16777216)", c.L, c.C, c.max_T, c.V);
    if (c.NH % c.NKV != 0) return format("%d heads are not a multiple of %d heads of keys and values", c.NH, c.NKV);
    if (c.arch.turns_heads() && c.HS % 2 != 0) return format("head size %d, must be even: rotary positions turn pairs", c.HS);
    if ((int64_t)c.NH * c.HS > 65536) return format("%d heads of %d are wider than anything that can be trained (65536)", c.NH, c.HS);
    if (c.arch.qk_norm && !((float)c.eps > 0)) return format("norms of heads with an eps of %g, must be above 0", c.eps);
    if (c.sliding_window && c.arch.model_type != FAMILIES[MODERN].model_type) return "a sliding window, which only modern models have";
    if (c.sliding_window < 0) return format("the sliding window is %d, must be at least 0", c.sliding_window);
    if (c.arch.softcap < 0) return format("the logits' softcap is %g, must be at least 0", c.arch.softcap);
    if (c.FF < 1 || c.FF > 4 * 65536) return format("the MLP's width is %d, must be from 1 to %d", c.FF, 4 * 65536);
    if (c.arch.is_gpt2() && c.FF != 4 * c.C && c.FF % 8 != 0) return format("the MLP's width is %d, must be a multiple of 8, or 4 times the width", c.FF);
    return "";
}
// One clear line if they do not; `where` names the file or option they came from.
inline void check_config(const Config& c, const std::string& where) {
    const std::string error = config_error(c);
    CHECK(error.empty(), "%s: %s", where.c_str(), error.c_str());
}
