// text.h: text files -> a token shard in a cache. In a .txt the literal <|endoftext|> stands between documents; in a
// .jsonl each line is an object and its "text" a document. The end-of-text token is written in front of each document.
// Bytes are kept as they are; documents of nothing but white space are left out.
#pragma once
#include <functional>
#include "files.h"
#include "json.h"
#include "shards.h"
#include "tokenizer.h"

namespace text_detail {
constexpr std::string_view SEPARATOR = "<|endoftext|>";
constexpr size_t BLOCK = 1 << 20;  // bytes; a longer document is cut into pieces about as long

inline bool ends_with(std::string_view s, std::string_view end) {
    return s.size() >= end.size() && s.substr(s.size() - end.size()) == end;
}
inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_blank(std::string_view s) { return s.find_first_not_of(" \t\r\n\v\f") == s.npos; }

// Where a long text can be cut so that both parts have the tokens of the whole: between a letter and a single space with
// a letter behind it, which every split pattern takes apart. 0: nowhere.
inline size_t safe_cut(std::string_view s) {
    for (size_t i = s.size(); i-- > 2;)
        if (s[i - 1] == ' ' && is_letter(s[i]) && is_letter(s[i - 2])) return i - 1;
    return 0;
}

struct Piece { std::string text; bool starts_document; };

// Reads a file in blocks and hands out pieces of documents; `piece(text, starts_document)`. What ends with .gz is read
// through the command gzip.
class DocumentReader {
    const std::string& path_;
    FILE* file_;
    bool compressed_;
    std::string buffer_;

    bool read_more(size_t bytes) {
        size_t before = buffer_.size();
        buffer_.resize(before + bytes);
        size_t n = fread(buffer_.data() + before, 1, bytes, file_);
        if (ferror(file_)) die("%s: cannot read: %s", path_.c_str(), strerror(errno));
        buffer_.resize(before + n);
        if (n == 0 && compressed_) CHECK(pclose(std::exchange(file_, nullptr)) == 0, "%s: gzip cannot read it", path_.c_str());
        return n > 0;
    }
    static FILE* open_compressed(const std::string& path) {
        std::string quoted;
        for (char c : path) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
        return popen(("gzip -dc < '" + quoted + "'").c_str(), "r");
    }

  public:
    explicit DocumentReader(const std::string& path) : path_(path), compressed_(ends_with(path, ".gz")) {
        close(shards_detail::open_file(path));  // says why if it cannot be read
        file_ = compressed_ ? open_compressed(path) : fopen(path.c_str(), "rb");
        CHECK(file_, "%s: cannot open: %s", path.c_str(), strerror(errno));
    }
    DocumentReader(const DocumentReader&) = delete;
    DocumentReader& operator=(const DocumentReader&) = delete;
    ~DocumentReader() { if (file_) compressed_ ? pclose(file_) : fclose(file_); }

    void documents(const std::function<void(std::string_view, bool)>& piece) {
        bool at_start = true, more = true;
        size_t begin = 0, searched = 0, wanted = BLOCK;  // begin: of the document's rest in the buffer
        while (more) {
            buffer_.erase(0, begin), searched -= begin, begin = 0;
            more = read_more(wanted);
            auto hand_out = [&](size_t end) {
                std::string_view text(buffer_.data() + begin, end - begin);
                if (!text.empty() && !(at_start && is_blank(text))) piece(text, at_start), at_start = false;
            };
            for (size_t at; (at = buffer_.find(SEPARATOR, searched)) != buffer_.npos;) {
                hand_out(at);
                begin = searched = at + SEPARATOR.size(), at_start = true;
            }
            if (!more) { hand_out(buffer_.size()); break; }
            // a separator may lie across the end of the block
            searched = std::max(begin, buffer_.size() - std::min(buffer_.size(), SEPARATOR.size() - 1));
            size_t cut = safe_cut(std::string_view(buffer_).substr(begin));
            if (cut) hand_out(begin + cut), begin += cut;
            searched = std::max(searched, begin);
            wanted = std::max(BLOCK, buffer_.size() - begin);  // nowhere to cut: double, so that the work stays linear
        }
    }

    void lines(const std::function<void(std::string_view)>& line) {
        size_t begin = 0, searched = 0, wanted = BLOCK;
        for (bool more = true; more;) {
            buffer_.erase(0, begin), searched -= begin, begin = 0;
            more = read_more(wanted);
            for (size_t at; (at = buffer_.find('\n', searched)) != buffer_.npos;) {
                line(std::string_view(buffer_).substr(begin, at - begin));
                begin = searched = at + 1;
            }
            if (!more && begin < buffer_.size()) line(std::string_view(buffer_).substr(begin));
            searched = buffer_.size();
            wanted = std::max(BLOCK, buffer_.size() - begin);
        }
    }
};

// Of all bytes up to 64 MB; of larger files of 1024 blocks of 4 KB spread over it, the size and the time of last change.
inline uint64_t fingerprint(const std::string& path) {
    int fd = shards_detail::open_file(path);
    struct stat info;
    if (fstat(fd, &info)) die("%s: %s", path.c_str(), strerror(errno));
    uint64_t size = (uint64_t)info.st_size;
    Xxh64 hash;
    bool whole = size <= 64 << 20;
    std::vector<char> block(whole ? 1 << 20 : 4096);
    uint64_t stride = whole ? block.size() : (size - block.size()) / 1023;
    for (uint64_t at = 0; at < size; at += stride) {
        size_t n = std::min<uint64_t>(block.size(), size - at);
        shards_detail::read_fully(fd, path, at, n, block.data());
        hash.update(block.data(), n);
    }
    close(fd);
    hash.update(&size, sizeof size);
    if (!whole) {
        int64_t changed[2] = {(int64_t)info.st_mtim.tv_sec, (int64_t)info.st_mtim.tv_nsec};
        hash.update(changed, sizeof changed);
    }
    return hash.digest();
}

// Hands out the documents of a text file, long ones in several pieces, each as use(text, starts_document); pieces come in
// batches so that the caller can work on them in parallel. Returns the error, or "".
inline std::string each_batch(const std::string& path, const std::function<void(const std::vector<Piece>&)>& use) {
    constexpr size_t BATCH = 16 << 20;  // bytes: work for all cores, little memory
    std::vector<Piece> batch;
    size_t bytes = 0;
    auto add = [&](std::string_view text, bool starts_document) {
        batch.push_back({std::string(text), starts_document});
        bytes += text.size() + sizeof(Piece);
        if (bytes >= BATCH) use(batch), batch.clear(), bytes = 0;
    };
    DocumentReader reader(path);
    std::string error;
    if (ends_with(path, ".jsonl") || ends_with(path, ".jsonl.gz")) {
        int number = 0;
        reader.lines([&](std::string_view line) {
            number++;
            if (!error.empty() || is_blank(line)) return;
            Json document;
            error = json_try_parse(document, line, number);
            const Json* text = document.find("text");
            if (error.empty() && (!text || text->type != Json::STRING))
                error = format("line %d: expected an object with a \"text\" that is a string", number);
            if (error.empty() && !is_blank(text->text)) add(text->text, true);
        });
    } else reader.documents(add);
    if (error.empty()) use(batch);
    return error.empty() ? "" : path + ": " + error;
}
}

inline bool is_text_file(const std::string& path) {
    for (const char* end : {".txt", ".jsonl", ".txt.gz", ".jsonl.gz"}) if (text_detail::ends_with(path, end)) return true;
    return false;
}

// Tokenises a text file into CACHE/NAME-FINGERPRINT.bin, unless that exists, and returns its path. The fingerprint
// covers the text and the tokenizer.
inline std::string tokenize_to_cache(const std::string& path, const Tokenizer& tokenizer, const std::string& cache) {
    using namespace text_detail;
    uint64_t prints[2] = {fingerprint(path), tokenizer.fingerprint()};
    std::string name = path.substr(path.rfind('/') + 1);  // npos + 1 == 0: the whole path
    std::string shard = cache + "/" + name + format("-%016llx.bin", (unsigned long long)xxh64(prints, sizeof prints));
    struct stat info;
    if (stat(shard.c_str(), &info) == 0) return shard;

    CHECK(tokenizer.eot() >= 0, "%s: the tokenizer has no end-of-text token to put between documents", path.c_str());
    make_folders(cache);
    ShardWriter writer(shard, tokenizer.vocab_size());
    std::vector<std::vector<int>> tokens;
    std::string error = each_batch(path, [&](const std::vector<Piece>& batch) {
        tokens.resize(std::max(tokens.size(), batch.size()));
        #pragma omp parallel for schedule(dynamic) if (batch.size() > 1)
        for (size_t i = 0; i < batch.size(); i++) {
            tokens[i].clear();
            if (batch[i].starts_document) tokens[i].push_back(tokenizer.eot());
            tokenizer.encode(batch[i].text, tokens[i], false);
        }
        for (size_t i = 0; i < batch.size(); i++) writer.add(tokens[i].data(), tokens[i].size());
    });
    if (!error.empty()) writer.fail(error);
    if (writer.count() == 0) writer.fail(path + ": no text in it");
    writer.finish();
    return shard;
}

// Learns a tokenizer from the text files that a pattern names.
inline Tokenizer train_tokenizer(const std::string& pattern, int vocab_size, SplitPattern split = SplitPattern::GPT2) {
    using namespace text_detail;
    PieceCounts all;
    for (const std::string& path : list_files(pattern)) {
        CHECK(is_text_file(path), "%s: a tokenizer is learnt from .txt and .jsonl files", path.c_str());
        std::string error = each_batch(path, [&](const std::vector<Piece>& batch) {
            #pragma omp parallel if (batch.size() > 1)
            {
                PieceCounts mine;
                #pragma omp for schedule(dynamic)
                for (size_t i = 0; i < batch.size(); i++) mine.add_text(batch[i].text, split);
                #pragma omp critical
                all.add_all(mine);
            }
        });
        CHECK(error.empty(), "%s", error.c_str());
    }
    return Tokenizer::train(all, vocab_size, split);
}

// What -i and -j name: shards, text files, or a pattern for either. Text goes through the cache.
inline Shards open_data(const std::string& pattern, const Tokenizer& tokenizer, const std::string& cache) {
    Shards shards;
    for (const std::string& path : list_files(pattern))
        shards.push_back(open_shard(is_text_file(path) ? tokenize_to_cache(path, tokenizer, cache) : path));
    return shards;
}
