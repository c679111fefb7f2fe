// config.h: what a model is: the family that it belongs to, and its sizes. `d12`, `gpt2:d12` and `gpt3:c768` name the published ones.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>
#include "../base/check.h"
#include "../base/heads.h"
#include "../base/nearest.h"
#include "../io/checkpoint.h"
#include "../io/files.h"
#include "../io/json.h"

enum Norm { LAYERNORM, RMSNORM };
enum Positions { LEARNED, ROTARY };
enum Mlp { GELU, SWIGLU };
enum Names { GPT2_NAMES, LLAMA_NAMES };  // the columns of names in tensors.h

// A family of models, whole: what its blocks compute, and how its files are written.
struct Arch {
    std::string_view name;                      // for people
    std::string_view model_type, architecture;  // in config.json
    Names names;
    std::string_view block;                     // what stands before the layer's number in the names of a block's tensors
    bool conv1d;                                // files hold the blocks' matrices (in, out); in memory they are (out, in)
    Norm norm;
    Positions positions;
    Mlp mlp;
    bool bias;                                  // of norms and linear layers
    bool qk_norm;                               // queries and keys are normalised over a head
    bool tied;                                  // the head is wte again
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
    // what follows C and NH where nothing else is given; like these to be given when a Config is made, never changed afterwards
    int NKV = NH;      // heads of keys and values; fewer than NH: grouped queries
    int HS = NH > 0 ? C / NH : 0;        // head size
    int FF = (int)(4u * (unsigned)C);    // width of the MLP's hidden layer; unsigned: sizes are checked later
    double eps = 1e-5;                   // of the norms
    Heads heads() const { return {NH, NKV, HS}; }
    int QKV() const { return heads().qkv(); }
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
    if (a.arch.tied != b.arch.tied) return format("head %s, there %s", a.arch.tied ? "tied" : "not tied", b.arch.tied ? "tied" : "not tied");
    return a == b ? "" : format("family %s, there %s", std::string(a.arch.name).c_str(), std::string(b.arch.name).c_str());
}

// One clear line if the sizes do not make a model; `where` names the file or option they came from.
inline void check_config(const Config& c, const std::string& where) {
    auto positive = [&](const char* field, int value) {
        CHECK(value > 0, "%s: %s is %d, must be at least 1", where.c_str(), field, value);
    };
    positive("context", c.max_T), positive("vocabulary", c.V), positive("layers", c.L);
    positive("heads", c.NH), positive("width", c.C);
    CHECK(c.arch.names != GPT2_NAMES || c.C % c.NH == 0, "%s: width %d is not a multiple of %d heads", where.c_str(), c.C, c.NH);
    CHECK(c.arch.names != GPT2_NAMES || (c.NKV == c.NH && c.NH * c.HS == c.C), "%s: %d heads of %d and %d of keys and values, must be %d heads of %d: width %d",
          where.c_str(), c.NH, c.HS, c.NKV, c.NH, c.C / c.NH, c.C);
    CHECK(c.C <= 65536 && c.L <= 1024 && c.max_T <= (1 << 20) && c.V <= (1 << 24),
          "%s: layers %d, width %d, context %d, vocabulary %d: larger than anything that can be trained (1024, 65536, 1048576, 16777216)", where.c_str(),
          c.L, c.C, c.max_T, c.V);
    CHECK(c.FF > 0 && c.FF <= 4 * 65536, "%s: the MLP's width is %d, must be from 1 to %d", where.c_str(), c.FF, 4 * 65536);
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
inline bool is_a_folder(const std::string& path) {
    struct stat info;
    return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}
// The whole number that the text is, -1 if it is none; of more than nine digits 999999999, which every bound refuses.
inline int whole_number(const std::string& text) {
    if (text.empty() || text.find_first_not_of("0123456789") != text.npos) return -1;
    return text.size() > 9 ? 999999999 : std::stoi(text);
}
// The folder whose name is nearest to one that does not exist; empty if none is near.
inline std::string nearest_folder(const std::string& path) {
    std::string parent = path.substr(0, path.find_last_not_of('/') + 1);
    const size_t slash = parent.rfind('/');
    const std::string name = parent.substr(slash == parent.npos ? 0 : slash + 1);
    parent = slash == parent.npos ? "" : parent.substr(0, slash + 1);
    std::vector<std::string> names;
    for (const std::string& entry : list_folder(parent.empty() ? "." : parent))
        if (entry[0] != '.' && (is_a_folder(parent + entry) || entry.ends_with(".bin"))) names.push_back(entry);
    std::sort(names.begin(), names.end());
    const std::string near = nearest(name, names);
    return near.empty() ? "" : parent + near;
}
}  // namespace config_detail

// A run's folder holds checkpoints, and is none: the newest in it, and what else a folder without config.json may be.
inline std::string what_is_in_folder(const std::string& folder) {
    const std::vector<Checkpoint> list = list_checkpoints(folder.substr(0, folder.find_last_not_of('/') + 1));
    if (!list.empty()) return format("is a run's folder: the newest checkpoint in it is %s", list.back().path.c_str());
    return "holds no config.json, so it is no checkpoint";
}

// What a name that is no model may have meant; begins with ": ", or is empty. The published names are those of the hub.
inline std::string meant_by(const std::string& name) {
    using namespace config_detail;
    struct Published { const char *name, *size, *means; };
    constexpr Published PUBLISHED[] = {{"gpt2", "124M", "d12"}, {"gpt2-small", "124M", "d12"}, {"gpt2-medium", "350M", "d24"}, {"gpt2-large", "774M", "d36"},
                                       {"gpt2-xl", "1558M", "d48"}, {"124M", "124M", "d12"}, {"350M", "350M", "d24"}, {"355M", "350M", "d24"}, {"774M", "774M", "d36"},
                                       {"1558M", "1558M", "d48"}, {"1.5B", "1558M", "d48"}};
    std::string plain = name.substr(name.rfind('/') + 1);  // npos + 1 is 0; openai-community/gpt2
    for (const Published& p : PUBLISHED)
        if (plain == p.name) return format(": GPT-2 %s is %s, which begins untrained; for its published weights name a folder that holds config.json and model.safetensors", p.size, p.means);
    if (access(name.c_str(), F_OK) == 0) {
        const size_t slash = name.rfind('/');
        return format(": that is a file; the model is the folder it lies in, %s, or a .bin file", slash == name.npos ? "." : name.substr(0, slash).c_str());
    }
    const std::string near = nearest_folder(name);
    if (!near.empty()) return ": no such folder; is it " + near + "?";
    return name.find('/') == name.npos ? "" : ": no such folder";
}

// d12, gpt2:d12: width and heads as published, else 64 N wide with N heads, T = 1024. d4c128h4: depth, width and heads of your
// own. gpt3:c768: T = 2048.
inline Config config_by_name(const std::string& name, int vocabulary) {
    using namespace config_detail;
    const auto in_range = [&](const char* what, int value, int most) {
        if (value < 1 || value > most) die_with(EXIT_USAGE, "--model: '%s' given: %s must be from 1 to %d", name.c_str(), what, most);
    };
    const std::string gpt2 = name.starts_with("gpt2:") ? name.substr(5) : name;
    if (const int depth = gpt2.starts_with("d") ? whole_number(gpt2.substr(1)) : -1; depth >= 0) {
        in_range("the depth", depth, 1024);
        int width = 64 * depth, heads = depth;
        for (const Gpt2Size& s : GPT2_SIZES) if (s.depth == depth) width = s.width, heads = s.heads;
        return {.max_T = 1024, .V = vocabulary, .L = depth, .NH = heads, .C = width};
    }
    const size_t width_at = name.find('c'), heads_at = name.find('h');
    if (name.starts_with("d") && width_at < heads_at && heads_at != name.npos) {
        const int depth = whole_number(name.substr(1, width_at - 1)), width = whole_number(name.substr(width_at + 1, heads_at - width_at - 1)),
                  heads = whole_number(name.substr(heads_at + 1));
        if (depth >= 0 && width >= 0 && heads >= 0) {
            in_range("the depth", depth, 1024), in_range("the width", width, 65536), in_range("the number of heads", heads, width);
            if (width % heads) die_with(EXIT_USAGE, "--model: '%s' given: width %d is not a multiple of %d heads", name.c_str(), width, heads);
            return {.max_T = 1024, .V = vocabulary, .L = depth, .NH = heads, .C = width};
        }
    }
    if (const size_t c = name.find('c'); name.starts_with("d") && c != name.npos && whole_number(name.substr(1, c - 1)) > 0 && whole_number(name.substr(c + 1)) > 0)
        die_with(EXIT_USAGE, "--model: '%s' given: the number of heads is missing: %sh%d has heads of 64", name.c_str(), name.c_str(),
                 std::max(whole_number(name.substr(c + 1)) / 64, 1));
    if (int width = number_after(name, "gpt3:c"))
        for (const Gpt3Size& s : GPT3_SIZES)
            if (s.width == width) return {.max_T = 2048, .V = vocabulary, .L = s.depth, .NH = width / s.head_size, .C = width};
    if (const std::string meant = meant_by(name); !meant.empty()) die_with(EXIT_USAGE, "--model: '%s' given%s", name.c_str(), meant.c_str());
    die_with(EXIT_USAGE, "--model: '%s' given, must be dN (d12), gpt2:dN, dNcWhH (d4c128h4: depth, width, heads), gpt3:cN with N one of 384 768 1024 1536 2048 2560 "
             "4096 5120 12288, a checkpoint folder, or a .bin model file", name.c_str());
}

// ---- config.json of a Hugging Face folder ------------------------------------------------------------------------------

inline std::string config_to_json(const Config& c, int eot, const char* dtype) {
    Json json = Json::object();
    json.add("architectures", Json::array().push(std::string(c.arch.architecture))).add("model_type", std::string(c.arch.model_type));
    json.add("vocab_size", c.V).add("n_positions", c.max_T).add("n_ctx", c.max_T).add("n_embd", c.C).add("n_layer", c.L).add("n_head", c.NH);
    if (c.FF != 4 * c.C) json.add("n_inner", c.FF);
    json.add("activation_function", "gelu_new").add("layer_norm_epsilon", c.eps).add("initializer_range", 0.02);
    json.add("embd_pdrop", 0).add("attn_pdrop", 0).add("resid_pdrop", 0).add("tie_word_embeddings", c.arch.tied);
    json.add("bos_token_id", eot >= 0 ? Json(eot) : Json()).add("eos_token_id", eot >= 0 ? Json(eot) : Json());
    json.add("torch_dtype", dtype);
    return json_dump(json, 2) + "\n";
}

inline Config config_from_json(const std::string& path) {
    if (const std::string folder = path.substr(0, path.rfind('/')); access(path.c_str(), F_OK) && config_detail::is_a_folder(folder))
        die_with(EXIT_USAGE, "%s %s", folder.c_str(), what_is_in_folder(folder).c_str());
    Json json = json_parse(read_file(path), path);
    auto must_be = [&](const char* field, const std::string& value) {  // what this model computes, where the file says it
        const Json* found = json.find(field);
        CHECK(!found || json_dump(*found) == value, "%s: %s is %s, must be %s", path.c_str(), field, found->shown().c_str(), value.c_str());
    };
    CHECK(json.at("model_type", path).as_string(path) == "gpt2", "%s: model_type is %s, must be \"gpt2\"", path.c_str(),
          json.at("model_type", path).shown().c_str());
    if (const Json* gelu = json.find("activation_function")) {  // transformers' three names of the form with tanh; "gelu" is that with erf
        const std::string& name = gelu->as_string(path);
        CHECK(name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast",
              "%s: activation_function is %s, must be \"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu_fast\"", path.c_str(), gelu->shown().c_str());
    }
    must_be("scale_attn_weights", "true");
    must_be("scale_attn_by_inverse_layer_idx", "false");
    must_be("add_cross_attention", "false");
    auto size = [&](const char* field) { return (int)json.at(field, path).as_int(path, 1, 1 << 24); };
    Config c{.max_T = size("n_positions"), .V = size("vocab_size"), .L = size("n_layer"), .NH = size("n_head"), .C = size("n_embd")};
    if (const Json* inner = json.find("n_inner"); inner && inner->type != Json::NUL) {
        c.FF = (int)inner->as_int(path, 1, 4 * 65536);
        CHECK(c.FF == 4 * c.C || c.FF % 8 == 0, "%s: n_inner is %d, must be a multiple of 8", path.c_str(), c.FF);
    }
    if (const Json* eps = json.find("layer_norm_epsilon")) {
        c.eps = eps->as_double(path);
        CHECK(c.eps > 0 && c.eps < 1, "%s: layer_norm_epsilon is %s, must be above 0 and below 1", path.c_str(), eps->shown().c_str());
    }
    if (const Json* tied = json.find("tie_word_embeddings")) c.arch.tied = tied->as_bool(path);
    check_config(c, path);
    return c;
}
