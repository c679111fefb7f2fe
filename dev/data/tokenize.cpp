// tokenize.cpp: text files -> token shards that the trainer reads; or text files -> a tokenizer.
//     ./tokenize -i 'texts/*.{txt,jsonl,jsonl.gz}' -o dir --tokenizer data/gpt2 --shard-tokens 100M --val 1%
//     ./tokenize --train 32768 -i 'texts/*.txt' -o tokenizer.json --pattern llama3
//
// The texts stream through: what is in memory is two batches of 8 MB and their tokens. Which documents are held out for
// validation depends on their number alone, so the same files give the same bytes with any number of cores, and a run that was
// killed goes on where it last noted its position: in dataset.part.json, beside the shards it is filling, train.part and
// val.part. Shards that it finished after that note are cut back to it and filled again.
#include <chrono>
#include <csignal>
#include "../../llmc/cpu/device.h"
#include "../../llmc/base/nearest.h"
#include "../../llmc/base/stop.h"
#include "../../llmc/base/text_format.h"
#include "../../llmc/base/wrap.h"
#include "../../llmc/base/rng.h"
#include "../../llmc/data/text.h"
#include "../../llmc/io/run_lock.h"

namespace {
// The option that is named so, and what it says in --help. only: the word for which alone it does something, --train or shards.
enum Serves { BOTH, LEARNING, SHARDS };
struct Row { const char *name, *short_name, *value, *help; Serves serves; };
constexpr Row ROWS[] = {
    {"--input", "-i", "FILES...", "names or patterns of .txt, .jsonl, .txt.gz, .jsonl.gz. In a .txt, <|endoftext|> stands between documents; a line of a .jsonl is a document, {\"text\": \"...\"}", BOTH},
    {"--out", "-o", "PATH", "folder for shards, or the file to write with --train", BOTH},
    {"--tokenizer", "", "T", "tokenizer.json, a folder with vocab.bpe and encoder.json, a tiktoken rank file, or bytes (bytes)", SHARDS},
    {"--shard-tokens", "", "N", "tokens a shard, as 100M; a shard ends with the document that fills it (100M)", SHARDS},
    {"--val", "", "PART", "held out for validation, as 1% or 0.01: of one file its end, of several such a part of the documents (0)", SHARDS},
    {"--skip-bad", "", "N", "leave out up to N lines of a .jsonl that are no documents (0)", BOTH},
    {"--special", "", "0|1", "1: special tokens written in the text, as <|im_start|>, are taken as such; 0: as plain text (0)", SHARDS},
    {"--save-every", "", "SECONDS", "note the position for a run that goes on after a kill (10)", SHARDS},
    {"--train", "", "N", "learn a tokenizer of N tokens: 256 bytes, merges, and the end of text", LEARNING},
    {"--pattern", "", "P", "how it splits text: gpt2, llama3, cl100k, o200k, qwen2, nanochat (gpt2)", LEARNING},
    {"--threads", "", "N", "CPU threads, at most the cores that this process may use; 0: all of them (0)", BOTH},
    {"--help", "-h", "", "this page", BOTH}};

void print_help() {
    const size_t width = terminal_width();
    printf("tokenize: text -> token shards, or text -> a tokenizer\n\n%s%s\n",
           wrapped("./tokenize -i 'texts/*.{txt,jsonl,jsonl.gz}' -o DIR --tokenizer T", "writes DIR/train_000000.bin ..., DIR/val_000000.bin ...", width).c_str(),
           wrapped("./tokenize --train 32768 -i 'texts/*.txt' -o tokenizer.json", "learns a tokenizer from the texts", width).c_str());
    for (const Row& row : ROWS) printf("%s", wrapped(std::string(row.name) + (*row.short_name ? std::string(", ") + row.short_name : "") + " " + row.value, row.help, width).c_str());
    printf("\nThe end-of-text token stands in front of each document.\nStarted again, the command goes on where it was killed.\n");
}

struct Options {
    std::vector<std::string> input;
    std::string out, tokenizer = "bytes", pattern = "gpt2";
    uint64_t shard_tokens = 100000000;
    double val = 0, save_every = 10;
    int train = 0, threads = 0;
    TextOptions reading;
};

[[noreturn]] void bad_value(const char* option, const std::string& value, const char* right) {
    die_with(EXIT_USAGE, "%s: '%s' given, must be %s", option, value.c_str(), right);
}
// 100M, 2.5G, 1% -> a number; NaN if the text is anything else
double number(const std::string& text) {
    char* end;
    double x = strtod(text.c_str(), &end);
    if (end == text.c_str() || text.find_first_of("xXnN") != text.npos) return NAN;
    for (auto [unit, factor] : {std::pair{'K', 1e3}, {'M', 1e6}, {'G', 1e9}, {'%', 0.01}}) if (*end == unit) return end[1] ? NAN : x * factor;
    return *end ? NAN : x;
}
double number_in(const char* option, const std::string& value, double low, double high, const char* right) {
    double x = number(value);
    if (!(x >= low && x <= high)) bad_value(option, value, right);
    return x;
}

Options parse(int argc, char** argv) {
    Options o;
    std::vector<const Row*> given;
    for (int i = 1; i < argc; i++) {
        std::string name = argv[i], value;
        const size_t equals = name.starts_with("--") ? name.find('=') : name.npos;
        const bool has_value = equals != name.npos;
        if (has_value) value = name.substr(equals + 1), name.resize(equals);
        const Row* row = nullptr;
        std::vector<std::string> names;
        for (const Row& r : ROWS) {
            names.push_back(r.name);
            if (name == r.name || (*r.short_name && name == r.short_name)) row = &r;
        }
        if (!row) {
            std::string near = name.starts_with("--") ? nearest(name, names) : "";
            for (const std::string& n : names) if (near.empty() && name.starts_with(n)) near = n;
            die_with(EXIT_USAGE, "%s: unknown option; %s--help lists them", name.c_str(), near.empty() ? "" : ("is it " + near + "? ").c_str());
        }
        const std::string option = row->name;
        given.push_back(row);
        if (option == "--help") { print_help(); exit(0); }
        if (option == "--input" && !has_value) {
            const size_t before = o.input.size();
            while (i + 1 < argc && argv[i + 1][0] != '-') o.input.push_back(argv[++i]);
            if (o.input.size() == before) die_with(EXIT_USAGE, "%s: names of text files must follow", name.c_str());
            continue;
        }
        if (!has_value && i + 1 >= argc) die_with(EXIT_USAGE, "%s: a value must follow: %s", name.c_str(), row->help);
        if (!has_value) value = argv[++i];
        if (option == "--input") o.input.push_back(value);
        auto whole = [&](double low, double high, const char* right) {
            double x = number_in(name.c_str(), value, low, high, right);
            if (x != std::floor(x)) bad_value(name.c_str(), value, right);
            return x;
        };
        if (option == "--out") o.out = value;
        if (option == "--tokenizer") o.tokenizer = value;
        if (option == "--pattern") o.pattern = value;
        if (option == "--shard-tokens") o.shard_tokens = (uint64_t)whole(1, 1e12, "a whole number from 1 to 1000000M, as 100M");
        if (option == "--val") o.val = number_in("--val", value, 0, 0.999, "from 0 to below 1, as 1% or 0.01");
        if (option == "--save-every") o.save_every = number_in("--save-every", value, 0, 1e9, "a number of seconds from 0 to 1e9");
        if (option == "--train") o.train = (int)whole(257, 1 << 24, "a whole number from 257, 256 bytes and the end of text, to 16777216");
        if (option == "--skip-bad") o.reading.skip_bad = (int)whole(0, 1e9, "a whole number from 0 to 1000000000");
        if (option == "--special") o.reading.special = whole(0, 1, "0 or 1") != 0;
        if (option == "--threads") o.threads = (int)whole(0, 1024, "a whole number from 0 to 1024");
    }
    if (o.tokenizer != "bytes" && access(o.tokenizer.c_str(), F_OK))
        die_with(EXIT_USAGE, "--tokenizer: '%s' given: %s; must be bytes, a tokenizer.json, or a folder with vocab.bpe and encoder.json", o.tokenizer.c_str(), strerror(errno));
    if (o.input.empty()) die_with(EXIT_USAGE, "--input: missing; name text files: -i 'texts/*.jsonl'; --help says more");
    if (o.out.empty()) die_with(EXIT_USAGE, "--out: missing; name a %s", o.train ? "file: -o tokenizer.json" : "folder for the shards");
    for (const Row* row : given)
        if (row->serves == (o.train ? SHARDS : LEARNING)) die_with(EXIT_USAGE, "%s: given, but %s", row->name, o.train ? "--train, which learns a tokenizer, has no use for it" : "only --train, which learns a tokenizer, has a use for it");
    struct stat there;
    if (stat(o.out.c_str(), &there) == 0 && !(o.train ? S_ISREG(there.st_mode) : S_ISDIR(there.st_mode)))
        die_with(EXIT_USAGE, "--out: %s is a %s, must be a %s", o.out.c_str(), S_ISDIR(there.st_mode) ? "folder" : S_ISREG(there.st_mode) ? "file" : "pipe or a device", o.train ? "file, as tokenizer.json" : "folder for the shards");
    if (o.train && access(parent_folder(o.out).c_str(), W_OK)) die_with(EXIT_USAGE, "--out: cannot write %s: %s", o.out.c_str(), strerror(errno));
    return o;
}

// The files that the patterns name, each once.
std::vector<std::string> list_inputs(const Options& o) {
    std::vector<std::string> paths;
    for (const std::string& pattern : o.input)
        for (const std::string& path : list_files(pattern)) {
            CHECK(is_text_file(path), "%s: must be named .txt, .jsonl, .txt.gz or .jsonl.gz", path.c_str());
            if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
        }
    return paths;
}
double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
uint64_t file_size(const std::string& path) {
    struct stat info;
    CHECK(stat(path.c_str(), &info) == 0, "%s", errno_text(path).c_str());
    return (uint64_t)info.st_size;
}
bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

void learn(const Options& o) {
    SplitPattern pattern = SplitPattern::GPT2;
    bool known = false;
    for (const NamedPattern& p : SPLIT_PATTERNS) if (o.pattern == p.name) pattern = p.pattern, known = true;
    if (!known) bad_value("--pattern", o.pattern, ("one of " + split_pattern_names()).c_str());
    double start = seconds(), bytes = 0;
    std::vector<std::string> paths = list_inputs(o);
    for (const std::string& path : paths) bytes += (double)file_size(path);
    Tokenizer tokenizer = train_tokenizer(paths, o.train, pattern, o.reading);
    write_file_atomically(o.out, tokenizer.to_json());
    printf("%s: %d tokens from %sB in %s\n", o.out.c_str(), tokenizer.vocab_size(), human(bytes).c_str(), clock_text(seconds() - start).c_str());
    if (tokenizer.vocab_size() < o.train) printf("fewer than %d: no pair of tokens was left that comes twice\n", o.train);
    printf("next: ./tokenize -i %s -o tokens --tokenizer %s --val 1%%\n", quoted(o.input[0]).c_str(), quoted(o.out).c_str());
}

// The shards DIR/NAME_000000.bin, DIR/NAME_000001.bin ... Documents are whole: a shard ends with the one that fills it.
class ShardSet {
    std::string folder_, name_;
    int vocabulary_;
    uint64_t limit_, total_ = 0, shards_ = 0;
    std::optional<ShardWriter> open_;

    std::string path(uint64_t shard) const { return folder_ + format("/%s_%06llu.bin", name_.c_str(), (unsigned long long)shard); }
    std::string part() const { return folder_ + "/" + name_ + ".part"; }

  public:
    ShardSet(const std::string& folder, const std::string& name, int vocabulary, uint64_t limit)
        : folder_(folder), name_(name), vocabulary_(vocabulary), limit_(limit) {}

    uint64_t shards() const { return shards_; }  // finished
    uint64_t total() const { return total_; }    // tokens in all of them and the open one
    void add(const std::vector<int>& tokens, bool starts_document) {
        if (starts_document && open_ && open_->count() >= limit_) finish();
        if (!open_) open_.emplace(path(shards_), vocabulary_, part());
        open_->add(tokens.data(), tokens.size());
        total_ += tokens.size();
    }
    void finish() {
        if (!open_) return;
        open_->finish();
        open_.reset();
        shards_++;
    }
    // What a run that goes on must know; all tokens before are on the disk.
    Json save() {
        if (open_) open_->sync();
        return Json::object().add("shards", shards_).add("open_tokens", open_ ? open_->count() : 0).add("tokens", total_);
    }
    void restore(const Json& json, const std::string& where) {
        shards_ = (uint64_t)json.at("shards", where).as_int(where, 0), total_ = (uint64_t)json.at("tokens", where).as_int(where, 0);
        uint64_t keep = (uint64_t)json.at("open_tokens", where).as_int(where, 0);
        if (exists(path(shards_))) rename_file(path(shards_), part());  // it was finished after that note
        remove_after(shards_);
        if (keep) open_.emplace(path(shards_), vocabulary_, part(), keep);
    }
    void remove_after(uint64_t shard) { while (exists(path(shard))) unlink(path(shard++).c_str()); }
    void remove() { unlink(part().c_str()), remove_after(0); }
};

// Where a run is: files done, batches done of the next one.
struct Position { uint64_t file = 0, batches = 0, documents = 0, bytes = 0, bad = 0; };  // bad: lines of that file left out

// Where the validation data of a single file begins, in bytes of the pieces that each_batch hands out: `part` from its end. Of a .txt it is a
// document start near by, as hold_out in shards.h has it, or inside a document; of a .jsonl, whose lines are never cut, the nearest document
// start that holds out no more than half, or than `part` if that is more.
uint64_t start_of_held_out(const std::string& path, double part) {
    std::vector<uint64_t> starts;  // of documents; thinned out, so that memory has a bound: exact up to a million of them
    uint64_t total = 0, documents = 0, every = 1;
    std::string error = text_detail::each_batch(path, [&](text_detail::TextBatch& batch) {
        exit_if_stopping("while the place to cut " + path + " was looked for");
        for (const text_detail::Piece& piece : batch.pieces) {
            if (piece.starts_document && documents++ % every == 0) starts.push_back(total);
            if (starts.size() > 1 << 20) {
                for (size_t i = 0; 2 * i < starts.size(); i++) starts[i] = starts[2 * i];
                starts.resize((starts.size() + 1) / 2), every *= 2;
            }
            total += piece.text.size();
        }
    });
    exit_if_stopping("while the place to cut " + path + " was looked for");  // before the error: Ctrl-C ends gzip too
    CHECK(error.empty(), "%s", error.c_str());
    const uint64_t held = (uint64_t)((double)total * part), cut = total - held;
    const auto after = std::upper_bound(starts.begin(), starts.end(), cut);
    const bool lines = text_detail::is_jsonl(path);
    const uint64_t most_back = lines ? std::max(total / 2, held) - held : held / 2, most_on = lines ? held : held / 2;
    const uint64_t back = after != starts.begin() && after[-1] > 0 ? cut - after[-1] : UINT64_MAX, on = after != starts.end() ? *after - cut : UINT64_MAX;
    if (back <= most_back && (back <= on || !lines)) return cut - back;
    if (on <= most_on) return cut + on;
    CHECK(!lines, "%s: --val given, but its last document is %.0f %% of it, and no more than half is held out: give more documents, or --val 0", path.c_str(),
          100 * (double)(total - (starts.empty() ? 0 : starts.back())) / (double)std::max<uint64_t>(total, 1));
    return cut;
}

// The piece that begins at byte `at` and holds the byte `cut` becomes two, so that the second starts a document.
void cut_piece(text_detail::TextBatch& batch, size_t i, uint64_t at, uint64_t cut) {
    const std::string text = batch.pieces[i].text;
    const std::string_view head = std::string_view(text).substr(0, (size_t)(cut - at));
    size_t n = text_detail::safe_cut(head);
    if (n < head.size() / 2) n = text_detail::start_of_character(text, head.size());
    batch.pieces[i].text = text.substr(0, n);
    batch.pieces.insert(batch.pieces.begin() + (long)i + 1, {text.substr(n), true, 0});
}

class Progress {
    double start_ = seconds(), shown_ = start_;
    uint64_t total_, first_;
    bool terminal_ = isatty(2);

  public:
    Progress(uint64_t total, uint64_t first) : total_(total), first_(first) {}
    void show(uint64_t bytes, uint64_t tokens, bool last = false) {
        double now = seconds();
        if (!last && now - shown_ < (terminal_ ? 0.2 : 10)) return;
        shown_ = now;
        double part = total_ ? (double)bytes / (double)total_ : 1, rate = (double)(bytes - first_) / (now - start_ + 1e-9);
        char bar[31] = "..............................";
        for (int i = 0; i < (int)(30 * part); i++) bar[i] = '#';
        fprintf(stderr, "%s[%s] %5.1f%%  %sB of %sB  %s tokens  %sB/s  %s left%s", terminal_ ? "\r" : "", bar, 100 * part, human((double)bytes).c_str(),
                human((double)total_).c_str(), human((double)tokens).c_str(), human(rate).c_str(),
                clock_text(rate > 0 ? (double)(total_ - bytes) / rate : 0).c_str(), terminal_ && !last ? "   " : "\n");
    }
};

void write_shards(const Options& o) {
    std::vector<std::string> paths = list_inputs(o);
    Tokenizer tokenizer = o.tokenizer == "bytes" ? Tokenizer::bytes() : Tokenizer::load(o.tokenizer);
    CHECK(tokenizer.eot() >= 0, "%s: has no end-of-text token to put between documents", o.tokenizer.c_str());
    const std::string part = o.out + "/dataset.part.json", done = o.out + "/dataset.json";

    // 1. what decides the bytes of the shards
    Json made = Json::object(), files = Json::array();
    uint64_t total = 0;
    made.add("tokenizer", format("%016llx", (unsigned long long)tokenizer.fingerprint())).add("vocab_size", tokenizer.vocab_size());
    made.add("eot", tokenizer.eot()).add("shard_tokens", o.shard_tokens).add("val", o.val);
    if (o.reading.skip_bad) made.add("skip_bad", o.reading.skip_bad);
    if (o.reading.special) made.add("special", 1);
    std::vector<uint64_t> bytes;
    for (const std::string& path : paths) {
        total += bytes.emplace_back(file_size(path));
        files.push(Json::object().add("name", path).add("bytes", bytes.back()).add("fingerprint", format("%016llx", (unsigned long long)text_detail::fingerprint(path))));
    }
    made.add("files", files);
    auto check_same = [&](const Json& earlier, const std::string& where) {
        CHECK(json_dump(earlier.at("made_from", where)) == json_dump(made), "%s: begun with other options, another tokenizer or other files; choose "
              "another --out, or remove %s", where.c_str(), o.out.c_str());
    };

    // 2. done already, or begun, or new
    if (exists(done)) {
        check_same(json_parse(read_file(done), done), done);
        unlink(part.c_str());
        printf("%s: done already\n", o.out.c_str());
        return;
    }
    RunLock lock;
    if (std::string holder = lock.take(o.out); !holder.empty()) die_with(EXIT_USAGE, "--out: %s", holder.c_str());
    const bool by_place = paths.size() == 1 && o.val > 0;  // of one file the end is held out
    const uint64_t val_start = by_place ? start_of_held_out(paths[0], o.val) : 0;  // before anything is written: it may be refused
    ShardSet sets[] = {{o.out, "train", tokenizer.vocab_size(), o.shard_tokens}, {o.out, "val", tokenizer.vocab_size(), o.shard_tokens}};
    ShardSet &train = sets[0], &val = sets[1];
    Position at, saved;
    auto save = [&] {
        Json state = Json::object();
        state.add("made_from", made).add("batch", text_detail::LEAST_BATCH).add("file", at.file).add("batches", at.batches).add("documents", at.documents).add("bytes", at.bytes).add("bad", at.bad);
        for (ShardSet& set : sets) state.add(&set == &train ? "train" : "val", set.save());
        write_file_atomically(part, json_dump(state) + "\n");
        saved = at;
    };
    if (exists(part)) {
        Json state = json_parse(read_file(part), part);
        check_same(state, part);
        const Json* batch = state.find("batch");  // positions are counted in them
        CHECK(batch && batch->as_int(part) == (int64_t)text_detail::LEAST_BATCH, "%s: begun by another version; remove %s", part.c_str(), o.out.c_str());
        auto read = [&](const char* name) { return (uint64_t)state.at(name, part).as_int(part, 0); };
        at = saved = {read("file"), read("batches"), read("documents"), read("bytes"), state.find("bad") ? read("bad") : 0};
        for (ShardSet& set : sets) set.restore(state.at(&set == &train ? "train" : "val", part), part);
        for (const std::string& name : list_folder(o.out))  // what a kill left while the position was written
            if (name.find(".json.tmp-") != name.npos) unlink((o.out + "/" + name).c_str());
        fprintf(stderr, "%s: goes on after %llu documents\n", o.out.c_str(), (unsigned long long)at.documents);
    } else {
        make_folders(o.out);
        for (const std::string& name : list_folder(o.out))
            CHECK(!text_detail::ends_with(name, ".bin"), "%s/%s: a shard of something else; choose another --out", o.out.c_str(), name.c_str());
        save();
    }

    // 3. documents -> shards
    auto fail = [&](const std::string& error) {
        if (saved.documents == 0) unlink(part.c_str()), train.remove(), val.remove();  // nothing that is worth going on with
        die("%s", error.c_str());
    };
    auto stop = [&] {
        save();
        die_with(stop_exit_code(), "%s: interrupted after %llu documents; the same command goes on from there", o.out.c_str(), (unsigned long long)at.documents);
    };
    Progress progress(total, at.bytes);
    const uint32_t held_out = (uint32_t)(o.val * 4294967296.0);
    auto in_validation = [&](uint64_t document, uint64_t place) { return by_place ? place >= val_start : philox(0, RNG_HOLD_OUT, 0, document).x[0] < held_out; };
    double last_save = seconds();
    for (bool in_val = false; at.file < paths.size();) {
        const std::string& path = paths[at.file];
        const uint64_t skip = at.batches;
        uint64_t number = 0, before = 0, place = 0;
        TextReport report{.bad = (int)at.bad, .first_bad = "before this run went on", .specials = 0, .special = {}};
        for (uint64_t i = 0; i < at.file; i++) before += bytes[i];
        std::string error = text_detail::each_batch(path, [&](text_detail::TextBatch& batch) {
            if (stop_requested()) stop();
            if (number++ < skip) {  // a document may go on in the next batch: it must go on in its shard
                for (const text_detail::Piece& piece : batch.pieces) {
                    if (by_place && piece.starts_document) in_val = in_validation(0, place);
                    place += piece.text.size();
                    if (by_place && place > val_start) in_val = true;
                }
                if (number == skip && !by_place) in_val = at.documents && in_validation(at.documents - 1, 0);
                return;
            }
            std::vector<uint64_t> places;  // of pieces; the texts of lines change when they are parsed
            for (size_t i = 0; i < batch.pieces.size(); i++) {
                const uint64_t size = batch.pieces[i].text.size();
                if (by_place && place == val_start) batch.pieces[i].starts_document = true;
                if (by_place && !text_detail::is_jsonl(path) && place < val_start && val_start < place + size) {
                    cut_piece(batch, i, place, val_start);
                    places.push_back(place), places.push_back(val_start), i++;
                } else places.push_back(place);
                place += size;
            }
            size_t last = SIZE_MAX;
            std::string wrong = text_detail::encode_batch(batch, tokenizer, o.reading, report, [&](size_t i, const std::vector<int>& tokens) {
                const bool starts = batch.pieces[i].starts_document && i != last;  // a long one comes part after part
                if (starts) in_val = in_validation(at.documents++, places[i]);
                sets[in_val].add(tokens, starts), last = i;
            });
            if (!wrong.empty()) fail(path + ": " + wrong);
            at.bad = (uint64_t)report.bad;
            at.batches++, at.bytes = before + batch.read;
            progress.show(at.bytes, train.total() + val.total());
            if (seconds() - last_save >= o.save_every) save(), last_save = seconds();
        });
        if (stop_requested()) stop();  // before the error: Ctrl-C ends gzip too
        if (!error.empty()) fail(error);
        text_detail::say(path, report, "--special");
        at.file++, at.batches = 0, at.bad = 0;
    }
    if (at.documents == 0) fail(paths[0] + ": no text in it" + (paths.size() > 1 ? ", nor in the others" : ""));
    progress.show(total, train.total() + val.total(), true);

    // 4. all shards, then the tokenizer, and dataset.json last: where it is, everything is
    save();
    for (ShardSet& set : sets) set.finish();
    write_file_atomically(o.out + "/tokenizer.json", tokenizer.to_json());
    Json data = Json::object();
    data.add("made_from", made).add("documents", at.documents).add("train_tokens", train.total()).add("val_tokens", val.total());
    write_file_atomically(done, json_dump(data.add("train_shards", train.shards()).add("val_shards", val.shards()), 2) + "\n");
    unlink(part.c_str());
    printf("%s: %llu documents, %s tokens in %llu shards to train on, %s in %llu to validate on\n", o.out.c_str(), (unsigned long long)at.documents,
           human((double)train.total()).c_str(), (unsigned long long)train.shards(), human((double)val.total()).c_str(), (unsigned long long)val.shards());
    // of several files documents are drawn, and a few long ones may be all or nothing of a part
    if (o.val > 0 && (val.total() == 0 || (!by_place && o.val <= 0.5 && val.total() > train.total())))
        fprintf(stderr, "%s: %s of the %llu documents came to be held out by --val: name validation data of its own\n", o.out.c_str(),
                val.total() == 0 ? "none" : "more than half of the tokens", (unsigned long long)at.documents);
    std::string val_option = val.total() ? " -j " + quoted(o.out + "/val_*.bin") : "";
    printf("next: ./train_gpt2 -i %s%s\n", quoted(o.out + "/train_*.bin").c_str(), val_option.c_str());
}
}  // namespace

int main(int argc, char** argv) {
    open_standard_files();
    die_when_memory_ends();
    Options o = parse(argc, argv);
    choose_threads(o.threads);
    catch_signals();
    if (o.train) learn(o);
    else write_shards(o);
}
