// text.h: text files -> a token shard in a cache. In a .txt the literal <|endoftext|> stands between documents; in a
// .jsonl each line is an object and its "text" a document. The end-of-text token is written in front of each document.
// Bytes are kept as they are, but for a byte order mark at the start of a file; documents of nothing but white space are left out.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include "../base/stop.h"
#include "../base/threads.h"
#include "../io/files.h"
#include "documents.h"
#include "jsonl.h"
#include "shards.h"
#include "../tokenizer/tokenizer.h"

// How a text is read.
struct TextOptions {
    bool special = false;  // special tokens that are written in a text, as <|im_start|>, are taken as such; otherwise as plain text
    int skip_bad = 0;      // so many lines of a .jsonl that are no document are left out; one more is an error
};
// What was met in a text that its reader should know of.
struct TextReport { int bad = 0; std::string first_bad; uint64_t specials = 0; std::string special; };

namespace text_detail {
// A part of a document; or a line of a .jsonl that is still to be parsed, which whoever works on it does, all cores at once.
struct Piece { std::string text; bool starts_document; int line = 0; };
struct TextBatch { std::vector<Piece> pieces; uint64_t read = 0; };  // read: bytes of the file so far, compressed ones if it is

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

// Hands out the documents of a text file in batches, the next of which is read meanwhile. The same file gives the same
// batches. Returns the error, or "".
inline std::string each_batch(const std::string& path, const std::function<void(TextBatch&)>& use) {
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<TextBatch> waiting;
    bool ended = false;
    std::string error;
    std::thread thread([&] {
        DocumentReader reader(path);
        TextBatch batch;
        size_t bytes = 0, before = 0;  // in this batch, and before it
        auto hand_over = [&] {
            std::unique_lock<std::mutex> lock(mutex);
            changed.wait(lock, [&] { return !waiting; });
            batch.read = reader.offset();
            waiting = std::exchange(batch, {}), before += bytes, bytes = 0;
            changed.notify_all();
        };
        auto add = [&](std::string_view text, bool starts_document, int line) {
            batch.pieces.push_back({std::string(text), starts_document, line});
            bytes += text.size() + sizeof(Piece);
            if (bytes >= std::clamp(before / 16, LEAST_BATCH, BATCH)) hand_over();
        };
        int number = 0;
        if (is_jsonl(path)) reader.lines([&](std::string_view line) { number++; if (!is_blank(line)) add(line, true, number); });
        else reader.documents([&](std::string_view text, bool starts_document) { add(text, starts_document, 0); });
        hand_over();
        std::lock_guard<std::mutex> lock(mutex);
        error = reader.error(), ended = true;
        changed.notify_all();
    });
    for (;;) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return waiting || ended; });
        if (!waiting) break;
        TextBatch batch = std::move(*waiting);
        waiting.reset();
        changed.notify_all();
        lock.unlock();
        use(batch);
    }
    thread.join();
    return error.empty() ? "" : path + ": " + error;
}

// The text of a line of a .jsonl takes its place. Returns the error, or "".
inline std::string parse_line(Piece& piece) {
    if (piece.text.size() > LONGEST_LINE) return format("line %d: longer than %zu bytes, which no document should be", piece.line, LONGEST_LINE);
    std::string text, error = read_jsonl_text(piece.text, piece.line, text);
    piece.text = error.empty() && !is_blank(text) ? std::move(text) : "";
    return error;
}

// work(text, i) on the text of each piece, all cores at once; not on documents of nothing but white space. Lines that are no documents
// are counted and left out. Returns the error of the first one that is too many, or "".
inline std::string each_text(TextBatch& batch, const TextOptions& options, TextReport& report, const std::function<void(std::string_view, size_t)>& work) {
    std::vector<std::pair<int, std::string>> bad;
    std::mutex lines;
    parallel_for(batch.pieces.size(), [&](size_t i) {
        Piece& piece = batch.pieces[i];
        std::string wrong = piece.line ? parse_line(piece) : "";
        if (wrong.empty() && !piece.text.empty()) work(piece.text, i);
        if (wrong.empty()) return;
        std::lock_guard<std::mutex> lock(lines);
        bad.push_back({piece.line, wrong});
    });
    std::sort(bad.begin(), bad.end());
    for (const auto& [line, wrong] : bad) {
        if (report.bad++ == 0) report.first_bad = wrong;
        if (report.bad > options.skip_bad)
            return options.skip_bad ? wrong + format("; %d lines are no documents, --skip-bad is %d", report.bad, options.skip_bad)
                                    : wrong + "; --skip-bad N leaves out up to N such lines of a file";
    }
    return "";
}

// use(i, tokens) for what piece i is in tokens, in order, of a long one part after part; the end-of-text token is in front of each document.
// What is in memory is one batch in tokens, and of a long document, which is a batch alone, a few parts. Returns the error, or "".
inline std::string encode_batch(TextBatch& batch, const Tokenizer& tokenizer, const TextOptions& options, TextReport& report,
                                const std::function<void(size_t, const std::vector<int>&)>& use) {
    std::vector<std::vector<int>> tokens(batch.pieces.size());
    std::vector<char> is_long(batch.pieces.size());
    std::mutex mutex;
    std::string error = each_text(batch, options, report, [&](std::string_view text, size_t i) {
        std::string special;
        if (size_t n = options.special ? 0 : tokenizer.count_specials(text, &special)) {
            std::lock_guard<std::mutex> lock(mutex);
            report.specials += n;
            if (report.special.empty()) report.special = special;
        }
        if (batch.pieces[i].starts_document) tokens[i].push_back(tokenizer.eot());
        is_long[i] = text.size() > LEAST_BATCH;
        for (size_t n; !is_long[i] && !text.empty(); text.remove_prefix(n)) tokenizer.encode(text.substr(0, n = part_length(text)), tokens[i], options.special);
    });
    if (!error.empty()) return error;
    for (size_t i = 0; i < tokens.size(); i++) {
        if (!tokens[i].empty()) use(i, tokens[i]);
        for (std::string_view rest = is_long[i] ? std::string_view(batch.pieces[i].text) : ""; !rest.empty();) {
            std::vector<std::string_view> parts;
            for (size_t bytes = 0; bytes < LEAST_BATCH && !rest.empty(); rest.remove_prefix(parts.back().size()))
                parts.push_back(rest.substr(0, part_length(rest))), bytes += parts.back().size();
            std::vector<std::vector<int>> of_parts(parts.size());
            parallel_for(parts.size(), [&](size_t k) { tokenizer.encode(parts[k], of_parts[k], options.special); });
            for (const std::vector<int>& t : of_parts) use(i, t);
        }
    }
    return "";
}

// One line on stderr for each thing that a text's reader should know of.
inline void say(const std::string& path, const TextReport& report, const char* special_option) {
    if (report.bad) fprintf(stderr, "%s: %d lines are no documents and were left out, the first: %s\n", on_one_line(path).c_str(), report.bad, on_one_line(report.first_bad).c_str());
    if (report.specials) fprintf(stderr, "%s: special tokens, as %s, are written in it %llu times and taken as plain text; %s 1 takes them as special tokens\n", on_one_line(path).c_str(),
                                 report.special.c_str(), (unsigned long long)report.specials, special_option);
}
}

inline bool is_text_file(const std::string& path) {
    for (const char* end : {".txt", ".jsonl", ".txt.gz", ".jsonl.gz"}) if (text_detail::ends_with(path, end)) return true;
    return false;
}

// Tokenises a text file into CACHE/NAME-FINGERPRINT.bin, unless that is there and sound, and returns its path. The fingerprint
// covers the text, the tokenizer and how the text is read.
inline std::string tokenize_to_cache(const std::string& path, const Tokenizer& tokenizer, const std::string& cache, const TextOptions& options = {}) {
    using namespace text_detail;
    constexpr uint64_t VERSION_OF_READING = 3;  // 2: no byte order mark; 3: LONGEST is 256 KB
    uint64_t prints[4] = {fingerprint(path), tokenizer.fingerprint(), VERSION_OF_READING << 1 | options.special, is_jsonl(path) ? (uint64_t)options.skip_bad : 0};
    std::string name = path.substr(path.rfind('/') + 1);  // npos + 1 == 0: the whole path
    std::string shard = cache + "/" + name + format("-%016llx.bin", (unsigned long long)xxh64(prints, sizeof prints));
    CHECK(!cache.empty(), "%s: there is no place for its tokens: name one by -o or XDG_CACHE_HOME", path.c_str());
    make_folders(parent_folder(cache));
    if (const std::string why = private_folder(cache); !why.empty()) die("%s", why.c_str());
    struct stat info;
    if (is_sound_shard(shard)) return shard;
    if (lstat(shard.c_str(), &info) == 0) fprintf(stderr, "%s: is damaged: %s is tokenized again\n", shard.c_str(), path.c_str());
    remove_leftovers_of(shard);

    CHECK(tokenizer.eot() >= 0, "%s: the tokenizer has no end-of-text token to put between documents", path.c_str());
    ShardWriter writer(shard, tokenizer.vocab_size());
    auto look_for_stop = [&] { if (stop_requested()) writer.fail(path + ": interrupted while it was tokenized", stop_exit_code()); };
    TextReport report;
    std::string error = each_batch(path, [&](TextBatch& batch) {
        look_for_stop();
        std::string wrong = encode_batch(batch, tokenizer, options, report, [&](size_t, const std::vector<int>& t) { writer.add(t.data(), t.size()); });
        if (!wrong.empty()) writer.fail(path + ": " + wrong);
    });
    look_for_stop();  // before the error: Ctrl-C ends gzip too
    if (error.empty() && fingerprint(path) != prints[0]) writer.fail(path + ": has changed while it was tokenized");
    if (!error.empty()) writer.fail(error);
    if (writer.count() == 0) writer.fail(path + ": no text in it");
    writer.finish();
    say(path, report, "--text-special");
    return shard;
}

// Learns a tokenizer from text files.
inline Tokenizer train_tokenizer(const std::vector<std::string>& paths, int vocab_size, SplitPattern split = SplitPattern::GPT2, const TextOptions& options = {}) {
    using namespace text_detail;
    std::mutex mutex;
    std::unordered_map<std::thread::id, PieceCounts> counts;  // of each thread
    for (const std::string& path : paths) {
        CHECK(is_text_file(path), "%s: a tokenizer is learnt from .txt and .jsonl files", path.c_str());
        TextReport report;
        std::string error = each_batch(path, [&](TextBatch& batch) {
            exit_if_stopping("while a tokenizer was learned from " + path);
            std::string wrong = each_text(batch, options, report, [&](std::string_view text, size_t) {
                mutex.lock();
                PieceCounts& mine = counts[std::this_thread::get_id()];
                mutex.unlock();
                mine.add_text(text, split);
            });
            CHECK(wrong.empty(), "%s: %s", path.c_str(), wrong.c_str());
        });
        exit_if_stopping("while a tokenizer was learned from " + path);
        CHECK(error.empty(), "%s", error.c_str());
        say(path, report, "");
    }
    CHECK(!counts.empty(), "%s: no text in it%s", paths[0].c_str(), paths.size() > 1 ? ", nor in the others" : "");
    PieceCounts all;
    for (auto& [thread, mine] : counts) all.add_all(mine), mine = {};
    return Tokenizer::train(all, vocab_size, split);
}

// a:0.7,b:0.3 names sources with weights; anything else is one source. A comma inside {} belongs to a pattern.
struct SourceName { std::string pattern; double weight; };
inline std::vector<SourceName> parse_sources(const std::string& text) {
    std::vector<SourceName> sources;
    size_t weighted = 0;
    int depth = 0;
    for (size_t begin = 0, at = 0; at <= text.size(); at++) {
        if (at < text.size() && text[at] == '{') depth++;
        if (at < text.size() && text[at] == '}') depth--;
        if (at < text.size() && (text[at] != ',' || depth > 0)) continue;
        std::string part = text.substr(begin, at - begin);
        begin = at + 1;
        size_t colon = part.rfind(':');
        char* end = nullptr;
        double weight = colon == part.npos || colon + 1 == part.size() ? NAN : strtod(part.c_str() + colon + 1, &end);
        bool has_weight = end && !*end;
        if (has_weight && !(weight > 0 && std::isfinite(weight)))
            die_with(EXIT_USAGE, "--train-data: '%s' given, the weight behind the colon must be a number above 0", part.c_str());
        sources.push_back(has_weight ? SourceName{part.substr(0, colon), weight} : SourceName{part, 1});
        weighted += has_weight;
    }
    const auto is_there = [](const std::string& path) { struct stat info; return stat(path.c_str(), &info) == 0; };
    const bool means_several = sources.size() > 1 && std::all_of(sources.begin(), sources.end(), [&](const SourceName& source) { return is_there(source.pattern); });
    if (is_there(text) || (weighted == 0 && !means_several)) return {{text, 1}};
    if (weighted < sources.size()) die_with(EXIT_USAGE, "--train-data: '%s' given, must have a weight for each source, as a:0.7,b:0.3", text.c_str());
    double all = 0;
    for (const SourceName& source : sources) all += source.weight;
    for (const SourceName& source : sources)
        if (source.weight * 65536 < all) die_with(EXIT_USAGE, "--train-data: %s: the weight %g is less than 1/65536 of all weights, %g", source.pattern.c_str(), source.weight, all);
    return sources;
}
// All files of all sources.
inline std::vector<std::string> list_source_files(const std::string& text) {
    std::vector<std::string> paths;
    for (const SourceName& source : parse_sources(text))
        for (const std::string& path : list_files(source.pattern)) paths.push_back(path);
    return paths;
}
// Are the files of a pattern texts, or token shards? Not some of each: a tenth of a text is held out, and nothing of a shard.
inline bool names_text(const std::string& pattern) {
    const std::vector<std::string> paths = list_files(pattern);
    const bool text = is_text_file(paths[0]);
    for (const std::string& path : paths)
        if (is_text_file(path) != text)
            die_with(EXIT_USAGE, "%s: names token shards and texts, %s and %s, must name one kind: -i a:0.7,b:0.3 takes several patterns", pattern.c_str(),
                     text ? path.c_str() : paths[0].c_str(), text ? paths[0].c_str() : path.c_str());
    return text;
}

// What -i and -j name: shards, text files, or a pattern for one kind. Text goes through the cache, a folder that is this user's alone.
inline Shards open_data(const std::string& pattern, const Tokenizer& tokenizer, const std::string& cache, const TextOptions& options = {}) {
    Shards shards;
    const bool text = names_text(pattern);
    for (const std::string& path : list_files(pattern))
        shards.push_back(open_shard(text ? tokenize_to_cache(path, tokenizer, cache, options) : path));
    return shards;
}
