// tokenizer_files.h: the vocabulary of a tokenizer from the files the field uses, and tokenizer.json from a vocabulary.
#pragma once
#include <algorithm>
#include <charconv>
#include "bpe.h"
#include "post_processor.h"
#include "../io/files.h"
#include "../io/json.h"

namespace tokenizer_files_detail {
constexpr int MAX_TOKENS = 1 << 24;  // no tokenizer comes near; a larger id in a file is damage
// So that memory is in proportion to a file: published ones leave out some ids, never as many as they have; 2^18 ids are 8 MB and more than most have.
inline int most_ids(size_t entries) { return (int)std::min<size_t>(std::max<size_t>(2 * entries, 1 << 18), MAX_TOKENS); }

// GPT-2 writes bytes as printable characters: those that are printable in Latin-1 as themselves, the others, in order, as
// U+0100 and following. Code point of each byte:
inline const std::vector<uint32_t>& byte_characters() {
    static const std::vector<uint32_t> characters = [] {
        std::vector<uint32_t> c(256);
        uint32_t next = 0x100;
        for (uint32_t b = 0; b < 256; b++) {
            bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
            c[b] = printable ? b : next++;
        }
        return c;
    }();
    return characters;
}
inline std::string to_characters(std::string_view bytes) {
    std::string text;
    for (char b : bytes) json_detail::append_utf8(text, byte_characters()[(unsigned char)b]);
    return text;
}
// false: text has a character that stands for no byte
inline bool to_bytes(std::string_view text, std::string& bytes) {
    static const std::vector<int> byte_of = [] {
        std::vector<int> table(0x200, -1);
        for (int b = 0; b < 256; b++) table[byte_characters()[(size_t)b]] = b;
        return table;
    }();
    const unsigned char *p = (const unsigned char*)text.data(), *end = p + text.size();
    bytes.clear();
    while (p < end) {
        Character c = decode_utf8(p, end);
        if (c.code >= byte_of.size() || byte_of[c.code] < 0) return false;
        bytes += (char)byte_of[c.code];
        p += c.bytes;
    }
    return true;
}

inline void set_token(Vocabulary& v, int id, std::string bytes) {
    if ((size_t)id >= v.tokens.size()) v.tokens.resize((size_t)id + 1);
    v.tokens[(size_t)id] = std::move(bytes);
}

// "vocab": {"token": id, ...}. Fills the tokens and returns id by token as written. `added` are not bytes but text.
using Ids = std::unordered_map<std::string, int>;
inline Ids read_vocab(Vocabulary& v, const Json& vocab, const std::string& where) {
    Ids ids;
    Ids added;
    for (const AddedToken& a : v.added) added.emplace(a.text, a.id);
    std::vector<bool> taken;
    const int most = most_ids(vocab.as_object(where).size() + v.added.size());
    for (const AddedToken& a : v.added)
        CHECK(a.id < most, "%s: %s has the id %d, %zu entries allow ids below %d", where.c_str(), json_shown(a.text).c_str(), a.id, vocab.items.size() + v.added.size(), most);
    for (const Json& item : vocab.items) {
        int id = (int)item.as_int(where, 0, most - 1);
        if ((size_t)id >= taken.size()) taken.resize((size_t)id + 1);
        CHECK(!taken[(size_t)id], "%s: line %d: two tokens have the id %d", where.c_str(), item.line, id);
        taken[(size_t)id] = true;
        ids.emplace(item.key, id);
        std::string bytes;
        if (added.count(item.key)) set_token(v, id, "");
        else if (to_bytes(item.key, bytes)) set_token(v, id, bytes);
        else die("%s: line %d: the token %s is not written in GPT-2's byte characters: not a byte-level tokenizer", where.c_str(),
                 item.line, json_shown(item.key).c_str());
    }
    return ids;
}

inline void add_merge(Vocabulary& v, const Ids& ids, const std::string& left, const std::string& right, const std::string& where) {
    auto l = ids.find(left), r = ids.find(right), whole = ids.find(left + right);
    CHECK(l != ids.end() && r != ids.end() && whole != ids.end(), "%s: the merge of %s and %s is not in the vocabulary",
          where.c_str(), json_shown(left).c_str(), json_shown(right).c_str());
    v.merges.push_back({l->second, r->second, whole->second, (uint32_t)v.merges.size()});
}
inline void add_merge_line(Vocabulary& v, const Ids& ids, const std::string& line, const std::string& where) {
    size_t space = line.find(' ');
    CHECK(space != line.npos && space > 0 && space + 1 < line.size() && line.find(' ', space + 1) == line.npos,
          "%s: the merge %s is not two tokens with a space between", where.c_str(), json_shown(line).c_str());
    add_merge(v, ids, line.substr(0, space), line.substr(space + 1), where);
}

// GPT-2's own files, and the same under their later names.
inline Vocabulary load_gpt2(const std::string& merges_path, const std::string& vocab_path) {
    Vocabulary v;
    Json vocab = json_parse(read_file(vocab_path), vocab_path);
    if (const Json* eot = vocab.find("<|endoftext|>"))
        v.added.push_back({"<|endoftext|>", (int)eot->as_int(vocab_path, 0, MAX_TOKENS), true});
    Ids ids = read_vocab(v, vocab, vocab_path);
    std::string merges = read_file(merges_path);
    int number = 0;
    for (size_t begin = 0, end; begin < merges.size(); begin = end + 1) {
        end = std::min(merges.find('\n', begin), merges.size());
        std::string line = merges.substr(begin, end - begin);
        number++;
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty() || (number == 1 && line.rfind("#version", 0) == 0)) continue;
        add_merge_line(v, ids, line, format("%s: line %d", merges_path.c_str(), number));
    }
    return v;
}

inline SplitPattern pattern_of_regex(const std::string& regex, const std::string& where) {
    for (const NamedPattern& p : SPLIT_PATTERNS) if (regex == p.regex) return p.pattern;
    die("%s: the split pattern %s is not one of those built in (%s)", where.c_str(), json_shown(regex).c_str(), split_pattern_names().c_str());
}

// "normalizer": none, NFC, or a Sequence of at most that.
inline bool read_normalizer(const Json& json, const std::string& where) {
    if (json.type == Json::NUL) return false;
    const std::string& type = json.at("type", where).as_string(where);
    if (type == "NFC") return true;
    if (type != "Sequence") die("%s: the normalizer is %s, only NFC or none is supported", where.c_str(), json_shown(type).c_str());
    bool nfc = false;
    for (const Json& part : json.at("normalizers", where).as_array(where)) nfc |= read_normalizer(part, where);
    return nfc;
}

// "pre_tokenizer": ByteLevel with its own regex (GPT-2's), or a Sequence of one Split and a ByteLevel without one; in front of
// either may stand Digits.
inline SplitPattern read_pre_tokenizer(DigitSplit& digits, const Json& json, const std::string& where) {
    auto kind = [&](const Json& j) { return j.at("type", where).as_string(where); };
    auto flag = [&](const Json& j, const char* name, bool otherwise) {
        const Json* found = j.find(name);
        return found ? found->as_bool(where) : otherwise;
    };
    auto check_byte_level = [&](const Json& j) {
        CHECK(!flag(j, "add_prefix_space", true), "%s: pre_tokenizer: add_prefix_space is not supported", where.c_str());
    };
    if (json.type == Json::OBJECT && kind(json) == "ByteLevel" && flag(json, "use_regex", true)) {
        check_byte_level(json);
        return SplitPattern::GPT2;
    }
    if (json.type == Json::OBJECT && kind(json) == "Sequence") {
        const JsonItems& all = json.at("pretokenizers", where).as_array(where);
        const Json* parts = all.begin();
        size_t count = all.size();
        if (count > 0 && kind(parts[0]) == "Digits") {
            digits = flag(parts[0], "individual_digits", false) ? DigitSplit::EACH : DigitSplit::RUNS;
            parts++, count--;
        }
        if (count == 1 && kind(parts[0]) == "ByteLevel" && flag(parts[0], "use_regex", true)) {
            check_byte_level(parts[0]);
            return SplitPattern::GPT2;
        }
        if (count == 2 && kind(parts[0]) == "Split" && kind(parts[1]) == "ByteLevel" && !flag(parts[1], "use_regex", true)) {
            check_byte_level(parts[1]);
            CHECK(kind(parts[0]) == "Split" && parts[0].at("behavior", where).as_string(where) == "Isolated" && !flag(parts[0], "invert", false),
                  "%s: pre_tokenizer: only a Split that is Isolated and not inverted is supported", where.c_str());
            return pattern_of_regex(parts[0].at("pattern", where).at("Regex", where).as_string(where), where);
        }
    }
    die("%s: pre_tokenizer is not one of those supported: ByteLevel, or a Sequence of Split and ByteLevel, or Digits and these", where.c_str());
}

// Hugging Face tokenizer.json
inline Vocabulary parse_tokenizer_json(const std::string& text, const std::string& path) {
    Json json = json_parse(text, path);
    const Json& model = json.at("model", path);
    const Json* type = model.find("type");
    CHECK(!type || type->as_string(path) == "BPE", "%s: the model is %s, only BPE is supported", path.c_str(), type->shown().c_str());
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix", "dropout"})
        if (const Json* x = model.find(name); x && x->type != Json::NUL && !(x->type == Json::STRING && x->text.empty()) &&
            !(x->type == Json::NUMBER && x->as_double(path) == 0))
            die("%s: model.%s is %s: not supported", path.c_str(), name, x->shown().c_str());

    Vocabulary v;
    if (const Json* normalizer = json.find("normalizer")) v.nfc = read_normalizer(*normalizer, path);
    v.pattern = read_pre_tokenizer(v.digits, json.at("pre_tokenizer", path), path);
    if (const Json* ignore = model.find("ignore_merges")) v.whole_pieces = ignore->as_bool(path);
    if (const Json* added = json.find("added_tokens"))
        for (const Json& a : added->as_array(path)) {
            for (const char* name : {"lstrip", "rstrip", "single_word"})
                if (const Json* x = a.find(name); x && x->as_bool(path))
                    die("%s: line %d: an added token with %s is not supported", path.c_str(), a.line, name);
            v.added.push_back({a.at("content", path).as_string(path), (int)a.at("id", path).as_int(path, 0, MAX_TOKENS),
                               a.at("special", path).as_bool(path)});
        }
    if (const Json* post = json.find("post_processor")) v.post_processor = json_dump(*post), v.front = read_post_processor(*post, path);
    Ids ids = read_vocab(v, model.at("vocab", path), path);
    int number = 0;
    for (const Json& merge : model.at("merges", path).as_array(path)) {
        std::string where = path + ": merge " + std::to_string(number++);
        if (merge.type == Json::STRING) { add_merge_line(v, ids, merge.text, where); continue; }
        CHECK(merge.as_array(path).size() == 2, "%s: expected two tokens", where.c_str());
        add_merge(v, ids, merge.items[0].as_string(path), merge.items[1].as_string(path), where);
    }
    return v;
}

inline Vocabulary load_tokenizer_json(const std::string& path) { return parse_tokenizer_json(read_file(path), path); }

// Of each token the longest other one that it begins with (ends with, if from_end), or -1. Of equal ones the first id stands for all. In their order a
// token comes behind those that it begins with, and nothing else is between but what begins with them too; so a walk finds all in linear time.
inline std::vector<int> longest_inside(const std::vector<std::string>& tokens, bool from_end) {
    std::vector<int> order, longest(tokens.size(), -1), open;  // open: each begins with the one before it
    for (size_t id = 0; id < tokens.size(); id++) if (!tokens[id].empty()) order.push_back((int)id);
    const auto text = [&](int id) -> const std::string& { return tokens[(size_t)id]; };
    std::sort(order.begin(), order.end(), [&](int a, int b) {
        if (!from_end) { const int c = text(a).compare(text(b)); return c != 0 ? c < 0 : a < b; }
        const auto unlike = std::mismatch(text(a).rbegin(), text(a).rend(), text(b).rbegin(), text(b).rend());
        if (unlike.first == text(a).rend() && unlike.second == text(b).rend()) return a < b;
        if (unlike.first == text(a).rend() || unlike.second == text(b).rend()) return unlike.first == text(a).rend();
        return (unsigned char)*unlike.first < (unsigned char)*unlike.second;
    });
    for (int id : order) {
        while (!open.empty() && !(from_end ? text(id).ends_with(text(open.back())) : text(id).starts_with(text(open.back())))) open.pop_back();
        const bool again = !open.empty() && text(open.back()) == text(id);
        longest[(size_t)id] = again ? longest[(size_t)open.back()] : open.empty() ? -1 : open.back();
        if (!again) open.push_back(id);
    }
    return longest;
}

// tiktoken merges any two tokens whose bytes together are a token, by that token's rank: all such pairs of each token
inline void merges_from_ranks(Vocabulary& v) {
    const std::vector<int> prefix = longest_inside(v.tokens, false), suffix = longest_inside(v.tokens, true);
    std::vector<int> lefts, rights;  // of one token, the longest first
    for (size_t id = 0; id < v.tokens.size(); id++) {
        lefts.clear(), rights.clear();
        for (int left = prefix[id]; left >= 0; left = prefix[(size_t)left]) lefts.push_back(left);
        for (int right = suffix[id]; right >= 0; right = suffix[(size_t)right]) rights.push_back(right);
        size_t r = 0;
        for (size_t l = lefts.size(); l-- > 0;) {  // a longer left one has a shorter right one
            const size_t rest = v.tokens[id].size() - v.tokens[(size_t)lefts[l]].size();
            while (r < rights.size() && v.tokens[(size_t)rights[r]].size() > rest) r++;
            if (r < rights.size() && v.tokens[(size_t)rights[r]].size() == rest) v.merges.push_back({lefts[l], rights[r], (int)id, (uint32_t)id});
        }
    }
    v.whole_pieces = true;
}

inline bool decode_base64(std::string_view text, std::string& out) {
    constexpr std::string_view DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0, held = 0;
    out.clear();
    while (!text.empty() && text.back() == '=') text.remove_suffix(1);
    for (char c : text) {
        size_t digit = DIGITS.find(c);
        if (digit == DIGITS.npos) return false;
        bits = bits << 6 | (uint32_t)digit, held += 6;
        if (held >= 8) held -= 8, out += (char)(bits >> held & 0xFF);
    }
    return held < 6;
}

// The rank file says neither how to split nor which special tokens follow: known by name or by the number of ranks.
struct RankFile { const char* name; int ranks; SplitPattern pattern; };
constexpr RankFile RANK_FILES[] = {{"gpt2", 50256, SplitPattern::GPT2}, {"r50k", 50256, SplitPattern::GPT2}, {"p50k", 50280, SplitPattern::GPT2},
    {"cl100k", 100256, SplitPattern::CL100K}, {"o200k", 199998, SplitPattern::O200K}, {"llama3", 128000, SplitPattern::LLAMA3}};
struct RankFileSpecial { const char* file; const char* text; int id; };
constexpr RankFileSpecial RANK_FILE_SPECIALS[] = {
    {"gpt2", "<|endoftext|>", 50256}, {"r50k", "<|endoftext|>", 50256}, {"p50k", "<|endoftext|>", 50256},
    {"cl100k", "<|endoftext|>", 100257}, {"cl100k", "<|fim_prefix|>", 100258}, {"cl100k", "<|fim_middle|>", 100259},
    {"cl100k", "<|fim_suffix|>", 100260}, {"cl100k", "<|endofprompt|>", 100276},
    {"o200k", "<|endoftext|>", 199999}, {"o200k", "<|endofprompt|>", 200018},
    {"llama3", "<|begin_of_text|>", 128000}, {"llama3", "<|end_of_text|>", 128001}, {"llama3", "<|start_header_id|>", 128006},
    {"llama3", "<|end_header_id|>", 128007}, {"llama3", "<|eot_id|>", 128009}};  // and the reserved ones between and after

inline void add_rank_file_specials(Vocabulary& v, const RankFile& file) {
    for (const RankFileSpecial& s : RANK_FILE_SPECIALS)
        if (!strcmp(s.file, file.name)) v.added.push_back({s.text, s.id, true});
    if (file.pattern != SplitPattern::LLAMA3) return;
    int reserved = 0;
    for (int id = 128000; id < 128256; id++) {
        bool named = false;
        for (const RankFileSpecial& s : RANK_FILE_SPECIALS) named |= s.id == id;
        if (!named) v.added.push_back({format("<|reserved_special_token_%d|>", reserved++), id, true});
    }
}

inline Vocabulary load_tiktoken(const std::string& path) {
    Vocabulary v;
    std::string text = read_file(path);
    const int most = most_ids((size_t)std::count(text.begin(), text.end(), '\n') + 1);
    int number = 0;
    int ranks = 0;
    for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
        end = std::min(text.find('\n', begin), text.size());
        std::string_view line = std::string_view(text).substr(begin, end - begin);
        number++;
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (line.empty()) continue;
        std::string bytes;
        size_t space = line.find(' ');
        bool good = space != line.npos && decode_base64(line.substr(0, space), bytes) && !bytes.empty();
        int id = -1;
        const char* end_of_line = line.data() + line.size();
        good = good && std::from_chars(line.data() + space + 1, end_of_line, id).ptr == end_of_line;
        CHECK(good && id >= 0, "%s: line %d: expected base64 and a rank, found %s", path.c_str(), number, json_shown(line).c_str());
        CHECK(id < most, "%s: line %d: the rank %d, so many lines allow ranks below %d", path.c_str(), number, id, most);
        CHECK((size_t)id >= v.tokens.size() || v.tokens[(size_t)id].empty(), "%s: line %d: the rank %d comes twice", path.c_str(), number, id);
        set_token(v, id, bytes);
        ranks++;
    }
    std::string name = path.substr(path.rfind('/') + 1);
    const RankFile* found = nullptr;
    for (const RankFile& file : RANK_FILES) if (!found && name.find(file.name) != name.npos) found = &file;
    for (const RankFile& file : RANK_FILES) if (!found && ranks == file.ranks) found = &file;
    CHECK(found, "%s: %d ranks: neither the name nor the number is one of gpt2, r50k, p50k, cl100k, o200k, llama3, so how it "
          "splits text is not known", path.c_str(), ranks);
    v.pattern = found->pattern;
    add_rank_file_specials(v, *found);
    for (const AddedToken& a : v.added)
        CHECK((size_t)a.id >= v.tokens.size() || v.tokens[(size_t)a.id].empty(), "%s: the rank %d is taken, expected %s there: %d ranks, "
              "%s has %d", path.c_str(), a.id, a.text.c_str(), ranks, found->name, found->ranks);
    merges_from_ranks(v);
    return v;
}

// Tokens of the older trainer: header of 256 int32 (magic, version, size, end-of-text token), then length and bytes of
// each. Ids in them are GPT-2's, which are ranks.
inline Vocabulary load_bin(const std::string& path) {
    std::string file = read_file(path);
    int32_t header[256];
    CHECK(file.size() >= sizeof header, "%s: %zu bytes, the header alone is %zu: truncated?", path.c_str(), file.size(), sizeof header);
    memcpy(header, file.data(), sizeof header);
    CHECK(header[0] == 20240328, "%s: not a tokenizer: starts with %d, expected 20240328", path.c_str(), header[0]);
    CHECK(header[1] == 1 || header[1] == 2, "%s: version %d of a tokenizer, expected 1 or 2", path.c_str(), header[1]);
    int size = header[2], eot = header[1] == 2 ? header[3] : 50256;
    CHECK(size > 0 && size < MAX_TOKENS && eot >= 0 && eot < size, "%s: %d tokens, end of text %d", path.c_str(), size, eot);
    Vocabulary v;
    size_t at = sizeof header;
    for (int id = 0; id < size; id++) {
        size_t length = at < file.size() ? (unsigned char)file[at] : 0;
        CHECK(at < file.size() && file.size() - at - 1 >= length, "%s: ends inside token %d of %d: truncated?", path.c_str(), id, size);
        set_token(v, id, id == eot ? "" : file.substr(at + 1, length));
        at += 1 + length;
    }
    CHECK(at == file.size(), "%s: %zu bytes after the last token", path.c_str(), file.size() - at);
    v.added = {{"<|endoftext|>", eot, true}};
    merges_from_ranks(v);
    return v;
}
}  // namespace tokenizer_files_detail

// A folder, one of GPT-2's two files in it, tokenizer.json, a tiktoken rank file, or a .bin of the older trainer.
inline Vocabulary load_vocabulary(const std::string& path) {
    using namespace tokenizer_files_detail;
    struct stat info;
    CHECK(stat(path.c_str(), &info) == 0, "%s", errno_text(path).c_str());
    auto exists = [](const std::string& p) { struct stat s; return stat(p.c_str(), &s) == 0; };
    auto ends = [&](const char* end) { return path.size() >= strlen(end) && path.compare(path.size() - strlen(end), strlen(end), end) == 0; };
    if (S_ISDIR(info.st_mode)) {
        if (exists(path + "/tokenizer.json")) return load_tokenizer_json(path + "/tokenizer.json");
        if (exists(path + "/vocab.bpe")) return load_gpt2(path + "/vocab.bpe", path + "/encoder.json");
        if (exists(path + "/merges.txt")) return load_gpt2(path + "/merges.txt", path + "/vocab.json");
        die("%s: no tokenizer.json, no vocab.bpe and encoder.json, no merges.txt and vocab.json in it", path.c_str());
    }
    std::string folder = parent_folder(path);
    if (ends("vocab.bpe") || ends("encoder.json")) return load_gpt2(folder + "/vocab.bpe", folder + "/encoder.json");
    if (ends("merges.txt") || ends("vocab.json")) return load_gpt2(folder + "/merges.txt", folder + "/vocab.json");
    if (ends(".json")) return load_tokenizer_json(path);
    if (ends(".bin")) return load_bin(path);
    return load_tiktoken(path);
}

// tokenizer.json that Hugging Face `tokenizers` reads.
inline std::string vocabulary_to_json(const Vocabulary& v) {
    using namespace tokenizer_files_detail;
    std::string out = "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[";
    for (const AddedToken& a : v.added)
        out += format("%s{\"id\":%d,\"content\":%s,\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
                      &a == &v.added[0] ? "" : ",", a.id, json_quote(a.text).c_str(), a.special ? "true" : "false");
    out += v.nfc ? "],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":" : "],\"normalizer\":null,\"pre_tokenizer\":";
    const char* byte_level = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":%s}";
    std::string digits = v.digits == DigitSplit::NONE ? "" :
        format("{\"type\":\"Digits\",\"individual_digits\":%s},", v.digits == DigitSplit::EACH ? "true" : "false");
    if (v.pattern == SplitPattern::GPT2 && digits.empty()) out += format(byte_level, "true");
    else if (v.pattern == SplitPattern::GPT2) out += "{\"type\":\"Sequence\",\"pretokenizers\":[" + digits + format(byte_level, "true") + "]}";
    else out += "{\"type\":\"Sequence\",\"pretokenizers\":[" + digits + "{\"type\":\"Split\",\"pattern\":{\"Regex\":" + json_quote(split_regex(v.pattern)) +
                "},\"behavior\":\"Isolated\",\"invert\":false}," + format(byte_level, "false") + "]}";
    out += ",\"post_processor\":" + v.post_processor + ",\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
           "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
           "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":";
    out += v.whole_pieces ? "true" : "false";
    out += ",\"vocab\":{";
    const char* comma = "";
    for (size_t id = 0; id < v.tokens.size(); id++) {
        if (v.tokens[id].empty()) continue;
        out += comma + json_quote(to_characters(v.tokens[id])) + ":" + std::to_string(id);
        comma = ",";
    }
    for (const AddedToken& a : v.added) out += comma + json_quote(a.text) + ":" + std::to_string(a.id), comma = ",";
    out += "},\"merges\":[";
    comma = "";
    for (const Merge& m : v.merges) {
        out += comma + ("[" + json_quote(to_characters(v.tokens[(size_t)m.left]))) + "," + json_quote(to_characters(v.tokens[(size_t)m.right])) + "]";
        comma = ",";
    }
    return out + "]}}\n";
}
