// config_names.h: models by name. `d12`, `gpt2:d48`, `gpt3:c768`, `smollm2:135m`, `qwen3:0.6b` and so on have the published sizes; `dN`, `llama:dN`, `qwen3:dN`, `modern:dN`
// and `d4c128h4` are of any size.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>
#include "../base/check.h"
#include "../base/nearest.h"
#include "../io/checkpoint.h"
#include "../io/files.h"
#include "config.h"

namespace config_detail {
struct Gpt2Size { int depth, width, heads; };
constexpr Gpt2Size GPT2_SIZES[] = {{24, 1024, 16}, {36, 1280, 20}, {48, 1600, 25}, {60, 1920, 30}, {72, 2880, 30}, {84, 3456, 36}};
// "Language Models are Few-Shot Learners", table 2.1; 13B has width 5140 there, which its 40 heads of 128 do not divide
struct Gpt3Size { int width, depth, head_size; };
constexpr Gpt3Size GPT3_SIZES[] = {{384, 6, 64},    {768, 12, 64},   {1024, 24, 64},   {1536, 24, 96},   {2048, 24, 128},
                             {2560, 32, 80},  {4096, 32, 128}, {5120, 40, 128},  {12288, 96, 128}};
// Published sizes, as the config.json of their weights has them. The vocabulary holds where no tokenizer says another.
struct PublishedSize {
    std::string_view name;
    Family family;
    int L, C, NH, NKV, HS, FF, V, max_T;
    double theta, eps;
    bool tied;
    double scaled;  // rope_scaling's factor
    int document;   // the token in front of each document
};
constexpr PublishedSize PUBLISHED_SIZES[] = {
//   name           family L   C     NH  NKV HS   FF     V       max_T   theta eps   tied   scaled document
    {"smollm2:135m", LLAMA, 30, 576,  9,  3,  64,  1536,  49152,  8192,   1e5, 1e-5, true,  1,      0},
    {"llama3.2:1b",  LLAMA, 16, 2048, 32, 8,  64,  8192,  128256, 131072, 5e5, 1e-5, true,  32,     128000},
    {"llama3.2:3b",  LLAMA, 28, 3072, 24, 8,  128, 8192,  128256, 131072, 5e5, 1e-5, true,  32,     128000},
    {"llama3.1:8b",  LLAMA, 32, 4096, 32, 8,  128, 14336, 128256, 131072, 5e5, 1e-5, false, 8,      128000},
    {"qwen3:0.6b",   QWEN3, 28, 1024, 16, 8,  128, 3072,  151936, 40960,  1e6, 1e-6, true,  1,      151643},
};
inline const PublishedSize* find_published(const std::string& name) {
    for (const PublishedSize& p : PUBLISHED_SIZES) if (p.name == name) return &p;
    return nullptr;
}
// A name without what people write differently: Llama-3.2-1B is llama321b.
inline std::string bare_name(std::string_view name) {
    std::string bare;
    for (char c : name) if (isalnum((unsigned char)c)) bare += (char)tolower((unsigned char)c);
    return bare;
}
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
    const std::string bare = bare_name(plain);
    for (const Published& p : PUBLISHED)
        if (bare == bare_name(p.name) || bare == "gpt2" + bare_name(p.name)) return format(": GPT-2 %s is %s, which begins untrained; for its published weights name a folder that holds config.json and model.safetensors", p.size, p.means);
    for (const PublishedSize& p : PUBLISHED_SIZES)  // meta-llama/Llama-3.2-1B-Instruct
        if (bare_name(plain).starts_with(bare_name(p.name)) && access(name.c_str(), F_OK))
            return format(": %s begins untrained; for published weights name a folder that holds config.json and model.safetensors", p.name.data());
    if (access(name.c_str(), F_OK) == 0) {
        const size_t slash = name.rfind('/');
        return format(": that is a file; the model is the folder it lies in, %s, or a .bin file", slash == name.npos ? "." : name.substr(0, slash).c_str());
    }
    std::vector<std::string> names;
    for (const PublishedSize& p : PUBLISHED_SIZES) names.push_back(std::string(p.name));
    if (const std::string size = nearest(name, names); !size.empty()) return ": is it " + size + "?";
    std::string family;  // llama, qwen3: its name alone
    for (const std::string& n : names)
        if (bare.size() > 3 && bare_name(n).starts_with(bare)) family += (family.empty() ? "" : " or ") + n;
    if (!family.empty()) return ": is it " + family + "?";
    const std::string near = nearest_folder(name);
    if (!near.empty()) return ": no such folder; is it " + near + "?";
    return name.find('/') == name.npos ? "" : ": no such folder";
}

// The vocabulary that belongs to a name, 0 if none does: then it is that of the tokenizer or of the shards.
inline int published_vocabulary(const std::string& name) {
    const config_detail::PublishedSize* p = config_detail::find_published(name);
    return p ? p->V : 0;
}
// The token in front of each document in its shards, -1 if the name says none.
inline int published_document_token(const std::string& name) {
    const config_detail::PublishedSize* p = config_detail::find_published(name);
    return p ? p->document : -1;
}

namespace config_detail {
inline void leave_out(Arch& arch, const std::string& ingredient, const std::string& name) {
    const Arch before = arch;
    std::string known;
    for (const Ingredient& i : INGREDIENTS) {
        if (i.name == ingredient) i.leave_out(arch);
        known += (known.empty() ? "" : ", ") + std::string(i.name);
    }
    if (arch == before) die_with(EXIT_USAGE, "--model: '%s' given: '%s' cannot be left out, must be one of %s, each once", name.c_str(), ingredient.c_str(), known.c_str());
}

// Sizes as letters and numbers: d4c128h4 is {d 4, c 128, h 4}; d stands first. False if the text is anything else.
struct Letters {
    int depth = -1, width = -1, heads = -1, kv_heads = -1, head_size = -1, mlp = -1, window = -1;
    bool read(const std::string& text) {
        for (size_t at = 0, end; at < text.size(); at = end) {
            end = std::min(text.find_first_not_of("0123456789", at + 1), text.size());
            int* number = at == 0 ? (text[0] == 'd' ? &depth : nullptr) : text[at] == 'c' ? &width : text[at] == 'h' ? &heads : text[at] == 'k' ? &kv_heads : text[at] == 's' ? &head_size : text[at] == 'f' ? &mlp : text[at] == 'w' ? &window : nullptr;
            if (!number || *number >= 0 || (*number = whole_number(text.substr(at + 1, end - at - 1))) < 0) return false;
        }
        return depth >= 0;
    }
};
}  // namespace config_detail

// d12, gpt2:d12: width and heads as published, else 64 N wide with N heads, T = 1024. d4c128h4: depth, width and heads of your own. gpt3:c768: T = 2048.
// modern:dN: 64 N wide with N heads, T = 2048; modern:d12-softcap-rope: without some of INGREDIENTS. llama:dN, qwen3:dN: 64 N wide with N heads and an MLP of 8/3 of the width, so that a block has GPT-2's number of weights; T = 2048. More letters may follow:
// k, the number of heads of keys and values; s, the head size; f, the MLP's width; w, of a modern model, the sliding window of the short layers: modern:d12w512.
inline Config config_by_name(const std::string& name, int vocabulary) {
    using namespace config_detail;
    const auto in_range = [&](const char* what, int value, int most) {
        if (value < 1 || value > most) die_with(EXIT_USAGE, "--model: '%s' given: %s must be from 1 to %d", name.c_str(), what, most);
    };
    if (const PublishedSize* p = find_published(name)) {
        Config c{.arch = FAMILIES[p->family], .max_T = p->max_T, .V = vocabulary, .L = p->L, .NH = p->NH, .C = p->C, .NKV = p->NKV, .HS = p->HS, .FF = p->FF, .eps = p->eps, .theta = p->theta};
        c.arch.tied = p->tied, c.rope_scaling.factor = p->scaled;
        return c;
    }
    Arch arch = FAMILIES[GPT2];
    std::string sizes = name;
    for (const Arch& a : FAMILIES)
        if (name.starts_with(std::string(a.model_type) + ":")) arch = a, sizes = name.substr(a.model_type.size() + 1);
    const bool is_gpt2 = arch.is_gpt2();
    for (size_t dash; arch.model_type == FAMILIES[MODERN].model_type && (dash = sizes.rfind('-')) != sizes.npos; sizes.resize(dash)) leave_out(arch, sizes.substr(dash + 1), name);
    Letters has;
    const bool is_sizes = has.read(sizes);
    if (is_sizes && (has.width < 0) == (has.heads < 0)) {
        in_range("the depth", has.depth, 1024);
        int width = 64 * has.depth, heads = has.depth;
        if (is_gpt2) for (const Gpt2Size& s : GPT2_SIZES) if (s.depth == has.depth) width = s.width, heads = s.heads;
        if (has.width >= 0) width = has.width, heads = has.heads;
        in_range("the width", width, 65536), in_range("the number of heads", heads, width);
        if (has.kv_heads >= 0) in_range("the number of heads of keys and values", has.kv_heads, heads);
        if (has.head_size >= 0) in_range("the head size", has.head_size, 65536);
        if (has.mlp >= 0) in_range("the MLP's width", has.mlp, 4 * 65536);
        const int max_T = is_gpt2 ? 1024 : 2048;
        if (has.window >= 0) in_range("the sliding window", has.window, max_T - 1);
        if (has.window >= 0 && has.depth == 1) die_with(EXIT_USAGE, "--model: '%s' given: a sliding window, but the last layer has none, and is the only one", name.c_str());
        if (width % heads && has.head_size < 0) die_with(EXIT_USAGE, "--model: '%s' given: width %d is not a multiple of %d heads", name.c_str(), width, heads);
        const int mlp = has.mlp >= 0 ? has.mlp : arch.mlp != SWIGLU ? 4 * width : (8 * width / 3 + 63) / 64 * 64, head_size = has.head_size >= 0 ? has.head_size : width / heads;
        const Config c{.arch = arch, .max_T = max_T, .V = vocabulary, .L = has.depth, .NH = heads, .C = width,
                       .NKV = has.kv_heads >= 0 ? has.kv_heads : heads, .HS = head_size, .FF = mlp, .eps = arch.eps, .theta = arch.theta, .sliding_window = std::max(has.window, 0)};
        if (const std::string error = config_error(c); !error.empty()) die_with(EXIT_USAGE, "--model: '%s' given: %s", name.c_str(), error.c_str());
        return c;
    }
    if (is_sizes && has.depth > 0 && has.width < 0) die_with(EXIT_USAGE, "--model: '%s' given: the width is missing: c%d is %d heads of 64", name.c_str(), 64 * std::max(has.heads, 1), std::max(has.heads, 1));
    if (is_sizes && has.depth > 0 && has.width > 0)
        die_with(EXIT_USAGE, "--model: '%s' given: the number of heads is missing: %sh%d has heads of 64", name.c_str(), name.c_str(), std::max(has.width / 64, 1));
    if (int width = number_after(name, "gpt3:c"))
        for (const Gpt3Size& s : GPT3_SIZES)
            if (s.width == width) return {.max_T = 2048, .V = vocabulary, .L = s.depth, .NH = width / s.head_size, .C = width};
    if (const std::string meant = meant_by(name); !meant.empty()) die_with(EXIT_USAGE, "--model: '%s' given%s", name.c_str(), meant.c_str());
    std::string published;
    for (const PublishedSize& p : PUBLISHED_SIZES) published += std::string(p.name) + ", ";
    die_with(EXIT_USAGE, "--model: '%s' given, must be dN (d12), gpt2:dN, llama:dN, qwen3:dN, modern:dN, dNcWhH (d4c128h4: depth, width, heads; kN, sN, fN, wN: heads of keys and values, head size, MLP, sliding window), gpt3:cN with N one of 384 768 1024 1536 2048 2560 "
             "4096 5120 12288, %sa checkpoint folder, or a .bin model file", name.c_str(), published.c_str());
}
