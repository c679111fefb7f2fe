// tokenizer.h: byte-level BPE. Text to ids and back, exact for every sequence of bytes (but where a tokenizer.json asks for NFC:
// then what comes back is the text in Unicode's form C).
//     Tokenizer tokenizer = Tokenizer::load("gpt2/");
//     tokenizer.encode("Once upon a time", ids);
#pragma once
#include <atomic>
#include <memory>
#include "bpe_train.h"
#include "nfc.h"
#include "tokenizer_files.h"

class Tokenizer {
    static constexpr size_t LONGEST_ADDED = 1024;  // bytes; no tokenizer comes near, and a search for one looks at as many at each place
    Vocabulary v_;
    std::shared_ptr<const Bpe> bpe_;    // shared by copies: 2 MB for GPT-2
    std::vector<int> added_;            // of each id: the index of its added token, or -1
    bool starts_added_[256] = {};       // bytes with which one of them begins
    std::vector<int> added_order_;      // added tokens by their text
    std::vector<int> added_inside_;     // of each the longest other one that it begins with, or -1
    int eot_ = -1;
    std::vector<int> ends_;             // tokens that end a text beside eot_
    uint64_t fingerprint_ = 0;

    explicit Tokenizer(Vocabulary vocabulary, const std::string& where) : v_(std::move(vocabulary)) {
        for (const AddedToken& a : v_.added) {
            CHECK(!a.text.empty(), "%s: an added token is empty", where.c_str());
            CHECK(a.text.size() <= LONGEST_ADDED, "%s: an added token has %zu bytes, must have at most %zu", where.c_str(), a.text.size(), LONGEST_ADDED);
            if ((size_t)a.id >= v_.tokens.size()) v_.tokens.resize((size_t)a.id + 1);
            v_.tokens[(size_t)a.id].clear();
            added_.resize(std::max(added_.size(), (size_t)a.id + 1), -1);
            CHECK(added_[(size_t)a.id] < 0, "%s: two added tokens have the id %d", where.c_str(), a.id);
            added_[(size_t)a.id] = (int)(&a - v_.added.data());
            starts_added_[(unsigned char)a.text[0]] = true;
        }
        added_.resize(v_.tokens.size(), -1);
        order_added(where);
        // Llama 3's shards put begin_of_text in front of documents
        for (const char* name : {"<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "</s>", "<|bos|>"})
            for (const AddedToken& a : v_.added) if (eot_ < 0 && a.text == name) eot_ = a.id;
        for (int id : v_.front) CHECK(id < vocab_size(), "%s: the post-processor puts the token %d in front of a text, the vocabulary has %d", where.c_str(), id, vocab_size());
        bpe_ = std::make_shared<const Bpe>(v_);
        for (int b = 0; b < 256; b++) CHECK(bpe_->has_byte(b), "%s: no token for the byte %d: not a byte-level tokenizer", where.c_str(), b);
        Xxh64 hash;
        auto add = [&](const std::string& s) { uint64_t n = s.size(); hash.update(&n, sizeof n), hash.update(s.data(), s.size()); };
        for (const std::string& token : v_.tokens) add(token);
        for (const AddedToken& a : v_.added) {
            add(a.text), hash.update(&a.id, sizeof a.id);
            if (!a.special) add("not special");
        }
        hash.update(v_.merges.data(), v_.merges.size() * sizeof(Merge));
        hash.update(&v_.pattern, sizeof v_.pattern), hash.update(&v_.whole_pieces, sizeof v_.whole_pieces);
        if (v_.digits != DigitSplit::NONE || v_.nfc) hash.update(&v_.digits, sizeof v_.digits), hash.update(&v_.nfc, sizeof v_.nfc);
        fingerprint_ = hash.digest();
    }

    const AddedToken* added(int id) const {
        int index = id >= 0 && id < vocab_size() ? added_[(size_t)id] : -1;
        return index < 0 ? nullptr : &v_.added[(size_t)index];
    }

    void order_added(const std::string& where) {
        std::vector<std::string> texts;
        for (const AddedToken& a : v_.added) added_order_.push_back((int)texts.size()), texts.push_back(a.text);
        std::sort(added_order_.begin(), added_order_.end(), [&](int a, int b) { return texts[(size_t)a] < texts[(size_t)b]; });
        for (size_t i = 1; i < added_order_.size(); i++) {
            const std::string& text = texts[(size_t)added_order_[i]];
            CHECK(text != texts[(size_t)added_order_[i - 1]], "%s: the added token %s comes twice", where.c_str(), json_shown(text).c_str());
        }
        added_inside_ = tokenizer_files_detail::longest_inside(texts, false);
    }

    // The longest added token that is written at a place of the text, or null. The last one in order that does not come behind the text there begins with
    // all that are written there, so they are that one and those inside it.
    const AddedToken* added_at(std::string_view text, size_t at, bool special, bool plain) const {
        if (!starts_added_[(unsigned char)text[at]]) return nullptr;
        const std::string_view here = text.substr(at, LONGEST_ADDED);
        auto behind = std::upper_bound(added_order_.begin(), added_order_.end(), here, [&](std::string_view s, int i) { return s < v_.added[(size_t)i].text; });
        if (behind == added_order_.begin()) return nullptr;
        const std::string_view last = v_.added[(size_t)*--behind].text;
        const size_t common = (size_t)(std::mismatch(here.begin(), here.end(), last.begin(), last.end()).first - here.begin());
        for (int i = *behind; i >= 0; i = added_inside_[(size_t)i]) {
            const AddedToken& a = v_.added[(size_t)i];
            if (a.text.size() <= common && (a.special ? special : plain)) return &a;
        }
        return nullptr;
    }

    void encode_ordinary(std::string_view text, std::vector<int>& out) const {
        if (v_.nfc && !Nfc::tables().is_normalized(text)) encode_normalized(Nfc::tables().normalize(text), out);
        else encode_normalized(text, out);
    }
    void encode_normalized(std::string_view text, std::vector<int>& out) const {
        if (v_.merges.empty() && !v_.whole_pieces) {
            for (char c : text) out.push_back(bpe_->byte_id((unsigned char)c));
            return;
        }
        // The cache holds words of the tokenizer that this thread used last.
        thread_local uint64_t owner = 0;
        thread_local std::unique_ptr<WordCache> cache;
        if (!cache || owner != fingerprint_) cache = std::make_unique<WordCache>(), owner = fingerprint_;
        std::string_view piece;
        for (Splitter splitter(v_.pattern, text, v_.digits); splitter.next(piece);) cache->encode(*bpe_, piece, out);
    }

  public:
    // 256 bytes and the end of text: needs no file and no training.
    static Tokenizer bytes() {
        Vocabulary v;
        for (int b = 0; b < 256; b++) v.tokens.push_back(std::string(1, (char)b));
        v.added = {{"<|endoftext|>", 256, true}};
        return Tokenizer(std::move(v), "bytes");
    }
    static Tokenizer load(const std::string& path) { return Tokenizer(load_vocabulary(path), path); }
    static Tokenizer from_json(const std::string& text, const std::string& where) { return Tokenizer(tokenizer_files_detail::parse_tokenizer_json(text, where), where); }

    // Learns from counted pieces; train_tokenizer in text.h does it from a file.
    static Tokenizer train(const PieceCounts& pieces, int vocab_size, SplitPattern pattern) {
        return Tokenizer(BpeTrainer::train(pieces, vocab_size, pattern), "trained");
    }

    int vocab_size() const { return (int)v_.tokens.size(); }
    int eot() const { return eot_; }                          // stands in front of each document; -1: there is none
    // Tokens at which generation ends: a model's files may list several. Where no name told which token stands in front of documents, the first does.
    bool is_end(int id) const { return id == eot_ || std::find(ends_.begin(), ends_.end(), id) != ends_.end(); }
    const std::vector<int>& ends() const { return ends_; }
    void set_ends(const std::vector<int>& ids) {
        ends_ = ids;
        if (eot_ < 0 && !ids.empty()) eot_ = ids[0];
    }
    // What the post-processor puts in front of a text: <|begin_of_text|> of Llama 3, often nothing.
    const std::vector<int>& front() const { return v_.front; }
    // What a prompt begins with: that; without a post-processor the end of text, as documents do. A post-processor that puts nothing there says so, as Qwen's
    // and SmolLM2's, but for GPT-2's own: its prompts have begun here with the end of text from the start.
    std::vector<int> start() const {
        const bool of_gpt2 = v_.pattern == SplitPattern::GPT2 && v_.digits == DigitSplit::NONE && !v_.nfc;
        if (!v_.front.empty() || (v_.post_processor != "null" && !of_gpt2)) return v_.front;
        return eot_ >= 0 ? std::vector<int>{eot_} : std::vector<int>{};
    }
    // The id of a special token, -1 if there is none of that name.
    int special_id(std::string_view text) const {
        for (const AddedToken& a : v_.added) if (a.special && a.text == text) return a.id;
        return -1;
    }
    uint64_t fingerprint() const { return fingerprint_; }     // of all that decides which ids a text gets
    SplitPattern pattern() const { return v_.pattern; }
    const Vocabulary& vocabulary() const { return v_; }
    std::string to_json() const { return vocabulary_to_json(v_); }
    // tokenizer_config.json: tells transformers that tokenizer.json is all there is. By the model's name alone it takes GPT-2's
    // way of splitting text, whatever tokenizer.json says.
    std::string config_json() const {
        Json json = Json::object();
        json.add("tokenizer_class", "PreTrainedTokenizerFast").add("clean_up_tokenization_spaces", false);
        if (eot_ >= 0) json.add("bos_token", added(eot_)->text).add("eos_token", added(eot_)->text);
        return json_dump(json, 2) + "\n";
    }

    // Appends the ids of text to out. Special tokens are found in text only if it is trusted to name them; added tokens
    // that are not special always are.
    void encode(std::string_view text, std::vector<int>& out, bool allow_special = false) const {
        size_t begin = 0;
        bool search = false;
        for (const AddedToken& a : v_.added) search |= allow_special || !a.special;
        for (size_t at = 0; search && at < text.size(); at++) {
            const AddedToken* found = added_at(text, at, allow_special, true);
            if (!found) continue;
            encode_ordinary(text.substr(begin, at - begin), out);
            out.push_back(found->id);
            begin = at + found->text.size(), at = begin - 1;
        }
        encode_ordinary(text.substr(begin), out);
    }
    std::vector<int> encode(std::string_view text, bool allow_special = false) const {
        std::vector<int> ids;
        encode(text, ids, allow_special);
        return ids;
    }

    bool is_special(int id) const {
        const AddedToken* a = added(id);
        return a && a->special;
    }
    bool is_added(int id) const { return added(id); }
    // Special tokens beside the end of text, as <|im_start|>: those that a text may name.
    bool has_other_specials() const {
        for (const AddedToken& a : v_.added) if (a.special && a.id != eot_) return true;
        return false;
    }
    // How often special tokens are written in a text, and the first one that is.
    size_t count_specials(std::string_view text, std::string* first = nullptr) const {
        size_t n = 0;
        for (size_t at = 0; at < text.size(); at++) {
            const AddedToken* found = added_at(text, at, true, false);
            if (!found) continue;
            if (n++ == 0 && first) *first = found->text;
            at += found->text.size() - 1;
        }
        return n;
    }
    // What the id stands for; of an added token its name. Nothing for an id that does not exist.
    std::string_view token_bytes(int id) const {
        if (id < 0 || id >= vocab_size()) return {};
        const AddedToken* a = added(id);
        return a ? a->text : v_.tokens[(size_t)id];
    }
    std::string decode(const int* ids, size_t n) const {
        std::string text;
        for (size_t i = 0; i < n; i++) text += token_bytes(ids[i]);
        return text;
    }
    std::string decode(const std::vector<int>& ids) const { return decode(ids.data(), ids.size()); }

    // Bytes of text that each id stands for, special ones 0: for bits per byte.
    std::vector<int> byte_lengths() const {
        std::vector<int> lengths;
        for (int id = 0; id < vocab_size(); id++) lengths.push_back(is_special(id) ? 0 : (int)token_bytes(id).size());
        return lengths;
    }
};
