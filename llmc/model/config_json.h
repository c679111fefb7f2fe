// config_json.h: config.json of a Hugging Face folder, read and written: GPT-2's, Llama's, Qwen3's, and that of the modern family. What is not known here, or has no part in what is
// computed, survives: what is written is what was read, with this model's values.
#pragma once
#include <unistd.h>
#include <iterator>
#include <string>
#include "../base/check.h"
#include "../io/files.h"
#include "../io/json.h"
#include "config.h"
#include "config_names.h"

namespace config_detail {
// An object to write: what was read, where something was, else empty.
struct Fields {
    Json json = Json::object();
    void set(std::string_view name, Json value) {
        for (Json& item : json.items)
            if (item.key == name) { value.key = name, item = std::move(value); return; }
        json.add(name, std::move(value));
    }
    void set_number(std::string_view name, double x) {  // as it was written, if it is the same
        const Json* found = json.find(name);
        if (!found || found->type != Json::NUMBER || found->as_double("config.json") != x) set(name, x);
    }
    void set_if_missing(std::string_view name, Json value) {
        const Json* found = json.find(name);
        if (!found || (found->type == Json::NUL && value.type != Json::NUL)) set(name, std::move(value));
    }
    void remove(std::string_view name) {
        Json kept = Json::object();
        for (Json& item : json.items) if (!(item.key == name)) kept.push(std::move(item));
        json = std::move(kept);
    }
};

inline void write_gpt2(Fields& f, const Config& c) {
    f.set("vocab_size", c.V), f.set("n_positions", c.max_T), f.set("n_ctx", c.max_T), f.set("n_embd", c.C), f.set("n_layer", c.L), f.set("n_head", c.NH);
    if (c.FF != 4 * c.C || f.json.find("n_inner")) f.set("n_inner", c.FF != 4 * c.C ? Json(c.FF) : Json());
    f.set_if_missing("activation_function", "gelu_new"), f.set_number("layer_norm_epsilon", c.eps), f.set_if_missing("initializer_range", 0.02);
    for (const char* dropout : {"embd_pdrop", "attn_pdrop", "resid_pdrop"}) f.set_if_missing(dropout, 0);
}

// As transformers 4 writes it; 5 reads it too.
inline void write_llama(Fields& f, const Config& c) {
    f.set("vocab_size", c.V), f.set("hidden_size", c.C), f.set("intermediate_size", c.FF), f.set("num_hidden_layers", c.L);
    f.set("num_attention_heads", c.NH), f.set("num_key_value_heads", c.NKV), f.set("head_dim", c.HS), f.set("max_position_embeddings", c.max_T);
    f.set_if_missing("hidden_act", "silu"), f.set_number("rms_norm_eps", c.eps), f.set_number("rope_theta", c.theta);
    // what either form says besides stays
    const RopeScaling& s = c.rope_scaling;
    Fields scaling;
    for (const char* form : {"rope_parameters", "rope_scaling"})
        if (const Json* was = f.json.find(form); was && was->type == Json::OBJECT) scaling.json = *was;
    scaling.remove("rope_theta");
    if (s.factor != 1) {
        scaling.set_number("factor", s.factor), scaling.set_number("high_freq_factor", s.high), scaling.set_number("low_freq_factor", s.low);
        scaling.set("original_max_position_embeddings", s.original), scaling.set("rope_type", "llama3"), scaling.remove("type");
    }
    const bool says_nothing = scaling.json.items.size() == 0 || (scaling.json.items.size() == 1 && scaling.json.find("rope_type") && s.factor == 1);
    f.set("rope_scaling", says_nothing ? Json() : scaling.json);
    f.remove("rope_parameters");
    f.set_if_missing("attention_bias", false), f.set_if_missing("attention_dropout", 0), f.set_if_missing("initializer_range", 0.02);
    if (c.arch.model_type == FAMILIES[LLAMA].model_type) f.set_if_missing("mlp_bias", false);
}

inline Json layer_types(const Config& c) {
    Json types = Json::array();
    for (int l = 0; l < c.L; l++) types.push(c.window_of(l) ? "sliding_attention" : "full_attention");
    return types;
}

// Each choice by a name that transformers has for it, or torchvision (zero_init_residual).
inline void write_modern(Fields& f, const Config& c) {
    const Arch& a = c.arch;
    f.set("vocab_size", c.V), f.set("hidden_size", c.C), f.set("intermediate_size", c.FF), f.set("num_hidden_layers", c.L);
    f.set("num_attention_heads", c.NH), f.set("max_position_embeddings", c.max_T);
    f.set("norm_type", a.norm == RMSNORM ? "rms_norm" : "layer_norm"), f.set_number("norm_eps", c.eps), f.set("use_qk_norm", a.qk_norm), f.set("use_bias", a.bias);
    f.set("position_embedding_type", a.positions == ROTARY ? "rope" : "absolute"), f.set_number("rope_theta", c.theta);
    f.set("hidden_act", a.mlp == RELU2 ? "relu2" : "gelu_pytorch_tanh"), f.set_number("logit_softcap", a.softcap), f.set("zero_init_residual", a.zero_init);
    if (c.sliding_window) f.set("sliding_window", c.sliding_window), f.set("layer_types", layer_types(c));
    f.set("auto_map", Json::object().add("AutoConfig", "modeling_modern.ModernConfig").add("AutoModelForCausalLM", "modeling_modern.ModernForCausalLM"));
}
}  // namespace config_detail

// read: the text of the config.json that the model came with, or empty. eot: for a model that says nothing of its special tokens; -1: none.
inline std::string config_to_json(const Config& c, int eot, const char* dtype, const std::string& read = "") {
    config_detail::Fields f;
    if (!read.empty()) f.json = json_parse(read, "config.json");
    f.set("architectures", Json::array().push(std::string(c.arch.architecture))), f.set("model_type", std::string(c.arch.model_type));
    if (c.arch.is_gpt2()) config_detail::write_gpt2(f, c);
    else if (c.arch.names == GPT2_NAMES) config_detail::write_modern(f, c);
    else config_detail::write_llama(f, c);
    f.set("tie_word_embeddings", c.arch.tied);
    for (const char* token : {"bos_token_id", "eos_token_id"}) if (!f.json.find(token)) f.set(token, eot >= 0 ? Json(eot) : Json());
    f.remove("dtype"), f.set("torch_dtype", dtype);
    return json_dump(f.json, 2) + "\n";
}

namespace config_detail {
// The fields of a config.json, each checked as it is read.
struct ConfigReader {
    std::string path;
    Json json;

    // a field that is there and is not null
    const Json* find(const char* field) const {
        const Json* found = json.find(field);
        return found && found->type != Json::NUL ? found : nullptr;
    }
    [[noreturn]] void refuse(const char* field, const Json& value, const std::string& must) const { die("%s: %s is %s, %s", path.c_str(), field, value.shown().c_str(), must.c_str()); }
    // what this model computes, where the file says it; null says nothing
    void must_be(const char* field, bool value) const {
        if (const Json* found = find(field); found && (found->type != Json::BOOL || found->truth != value)) refuse(field, *found, value ? "must be true" : "must be false");
    }
    void must_be(const char* field, double value) const {
        if (const Json* found = find(field); found && (found->type != Json::NUMBER || found->as_double(path) != value)) refuse(field, *found, format("must be %g", value));
    }
    void must_be_absent(const char* field, const char* because) const {
        if (const Json* found = find(field)) refuse(field, *found, because);
    }
    int size(const char* field) const { return (int)json.at(field, path).as_int(path, 1, 1 << 24); }
    int size_or(const char* field, int otherwise) const { return find(field) ? size(field) : otherwise; }
    double number(const Json& value, const char* field, double above, double below) const {
        const double x = value.as_double(path);
        if (!(x > above && x < below)) refuse(field, value, format("must be above %g and below %g", above, below));
        return x;
    }
    double number_or(const char* field, double otherwise, double above, double below) const {
        const Json* found = find(field);
        return found ? number(*found, field, above, below) : otherwise;
    }
};

inline Config read_gpt2(const ConfigReader& in, const Arch& arch) {
    if (const Json* gelu = in.json.find("activation_function")) {  // transformers' three names of the form with tanh; "gelu" is that with erf
        const std::string& name = gelu->as_string(in.path);
        if (name != "gelu_new" && name != "gelu_pytorch_tanh" && name != "gelu_fast") in.refuse("activation_function", *gelu, "must be \"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu_fast\"");
    }
    in.must_be("scale_attn_weights", true);
    in.must_be("scale_attn_by_inverse_layer_idx", false);
    in.must_be("add_cross_attention", false);
    in.must_be_absent("quantization_config", "but quantized weights are not read");  // nor written: what is saved would be taken for quantized
    Config c{.arch = arch, .max_T = in.size("n_positions"), .V = in.size("vocab_size"), .L = in.size("n_layer"), .NH = in.size("n_head"), .C = in.size("n_embd")};
    if (const Json* inner = in.find("n_inner")) {
        c.FF = (int)inner->as_int(in.path, 1, 4 * 65536);
        if (c.FF != 4 * c.C && c.FF % 8 != 0) in.refuse("n_inner", *inner, "must be a multiple of 8");
    }
    c.eps = in.number_or("layer_norm_epsilon", c.eps, 0, 1);
    return c;
}

// transformers 4: rope_theta, and rope_scaling, null or an object; 5: both in rope_parameters.
inline void read_rope(Config& c, const ConfigReader& in) {
    if (in.find("rope_parameters") && in.find("rope_scaling")) die("%s: rope_parameters and rope_scaling are both there: which one holds is not said", in.path.c_str());
    const char* field = in.find("rope_parameters") ? "rope_parameters" : "rope_scaling";
    const Json* rope = in.find(field);
    c.theta = in.number_or("rope_theta", c.theta, 1, 1e12);
    in.must_be("partial_rotary_factor", 1.0);
    if (!rope) return;
    const ConfigReader inside{in.path, *rope};
    inside.json.as_object(in.path);
    c.theta = inside.number_or("rope_theta", c.theta, 1, 1e12);
    inside.must_be("partial_rotary_factor", 1.0);
    const Json* type = inside.find("rope_type") ? inside.find("rope_type") : inside.find("type");
    const std::string name = type ? type->as_string(in.path) : "default";
    if (name == "default") return;
    if (name != "llama3") in.refuse(format("%s: rope_type", field).c_str(), *type, "must be \"default\" or \"llama3\"");
    RopeScaling& s = c.rope_scaling;
    for (const char* needed : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) inside.json.at(needed, in.path);
    s.factor = inside.number_or("factor", 1, 0, 1e6), s.low = inside.number_or("low_freq_factor", 1, 0, 1e6), s.high = inside.number_or("high_freq_factor", 4, 0, 1e6);
    s.original = inside.size("original_max_position_embeddings");
    if (!(s.low < s.high)) in.refuse(format("%s: low_freq_factor", field).c_str(), *inside.find("low_freq_factor"), format("must be below high_freq_factor, %g", s.high));
    in.must_be("original_max_position_embeddings", (double)s.original);
}

inline Config read_llama(const ConfigReader& in, const Arch& arch) {
    if (const Json* act = in.json.find("hidden_act"); act && act->as_string(in.path) != "silu" && act->as_string(in.path) != "swish") in.refuse("hidden_act", *act, "must be \"silu\"");
    for (const char* bias : {"attention_bias", "mlp_bias", "use_sliding_window"}) in.must_be(bias, false);
    if (!in.json.find("use_sliding_window")) in.must_be_absent("sliding_window", "but attention within a window is not computed");
    for (const char* experts : {"num_experts", "num_local_experts", "n_routed_experts"}) in.must_be_absent(experts, "but mixtures of experts are not computed");
    in.must_be_absent("quantization_config", "but quantized weights are not read");
    if (const Json* types = in.find("layer_types"))
        for (const Json& type : types->as_array(in.path))
            if (type.as_string(in.path) != "full_attention") in.refuse("layer_types", type, "must be \"full_attention\" for each layer");
    const int NH = in.size("num_attention_heads"), C = in.size("hidden_size");
    const bool is_qwen3 = arch.qk_norm;  // whose fields have other defaults
    if (!in.find("head_dim") && !is_qwen3 && C % NH != 0) in.refuse("hidden_size", in.json.at("hidden_size", in.path), format("must be a multiple of the %d heads where there is no head_dim", NH));
    Config c{.arch = arch, .max_T = in.size_or("max_position_embeddings", is_qwen3 ? 32768 : 2048), .V = in.size("vocab_size"), .L = in.size("num_hidden_layers"), .NH = NH, .C = C,
             .NKV = in.size_or("num_key_value_heads", is_qwen3 && !in.json.find("num_key_value_heads") ? 32 : NH), .HS = in.size_or("head_dim", is_qwen3 ? 128 : C / NH), .FF = in.size("intermediate_size"), .eps = in.number_or("rms_norm_eps", 1e-6, 0, 1)};
    c.arch.tied = false;  // transformers' default
    read_rope(c, in);
    return c;
}

inline Config read_modern(const ConfigReader& in, const Arch& arch) {
    Arch a = arch;
    const auto is_first = [&](const char* field, const std::string& first, const std::string& second) {  // where the file says nothing: the first
        const Json* found = in.find(field);
        if (found && found->as_string(in.path) != first && found->as_string(in.path) != second) in.refuse(field, *found, format("must be \"%s\" or \"%s\"", first.c_str(), second.c_str()));
        return !found || found->text == first;
    };
    for (const char* unknown : {"quantization_config", "rope_scaling", "num_key_value_heads"}) in.must_be_absent(unknown, "but a modern model has none");
    if (!is_first("norm_type", "rms_norm", "layer_norm")) a.norm = LAYERNORM, a.norm_weights = true;
    if (!is_first("position_embedding_type", "rope", "absolute")) a.positions = LEARNED;
    if (!is_first("hidden_act", "relu2", "gelu_pytorch_tanh")) a.mlp = GELU;
    const auto read_bool = [&](const char* field, bool& flag) { if (const Json* found = in.find(field)) flag = found->as_bool(in.path); };
    read_bool("use_qk_norm", a.qk_norm), read_bool("use_bias", a.bias), read_bool("zero_init_residual", a.zero_init);
    a.softcap = in.number_or("logit_softcap", a.softcap, -1e6, 1e6);
    const int C = in.size("hidden_size");
    const Config c{.arch = a, .max_T = in.size("max_position_embeddings"), .V = in.size("vocab_size"), .L = in.size("num_hidden_layers"), .NH = in.size("num_attention_heads"), .C = C,
                   .FF = in.size_or("intermediate_size", 4 * C), .eps = in.number_or("norm_eps", a.eps, 0, 1), .theta = in.number_or("rope_theta", a.theta, 1, 1e12), .sliding_window = in.size_or("sliding_window", 0)};
    if (const Json* types = in.find("layer_types"); types && json_dump(*types) != json_dump(layer_types(c)))
        in.refuse("layer_types", *types, c.sliding_window ? "must be \"sliding_attention\" thrice, \"full_attention\", and so on, the last \"full_attention\"" : "must be \"full_attention\" for each layer where there is no sliding_window");
    return c;
}
}  // namespace config_detail

inline Config config_from_json(const std::string& path) {
    using namespace config_detail;
    if (const std::string folder = path.substr(0, path.rfind('/')); access(path.c_str(), F_OK) && is_a_folder(folder))
        die_with(EXIT_USAGE, "%s %s", folder.c_str(), what_is_in_folder(folder).c_str());
    const ConfigReader in{path, json_parse(read_file(path), path)};
    const Json& type = in.json.at("model_type", path);
    const std::string name = type.as_string(path);
    const Arch* arch = nullptr;
    std::string known;
    for (const Arch& a : FAMILIES) {
        if (name == a.model_type) arch = &a;
        known += (known.empty() ? "" : &a == std::end(FAMILIES) - 1 ? " or " : ", ") + json_shown(a.model_type);
    }
    if (!arch) in.refuse("model_type", type, "must be " + known);
    Config c = arch->is_gpt2() ? read_gpt2(in, *arch) : arch->names == GPT2_NAMES ? read_modern(in, *arch) : read_llama(in, *arch);
    if (const Json* tied = in.json.find("tie_word_embeddings")) c.arch.tied = tied->as_bool(path);
    check_config(c, path);
    return c;
}

// The token in front of each document, of a model whose tokenizer is not known, as its config.json says; -1: it does not.
inline int document_token(const std::string& config_text) {
    if (config_text.empty()) return -1;
    const Json json = json_parse(config_text, "config.json");
    for (const char* field : {"bos_token_id", "eos_token_id"}) {
        const Json* found = json.find(field);
        if (found && found->type == Json::ARRAY && found->items.size() > 0) found = found->items.begin();
        if (size_t id; found && found->as_size(id) && id < (1 << 24)) return (int)id;
    }
    return -1;
}
