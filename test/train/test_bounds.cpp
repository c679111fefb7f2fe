// What a file of n bytes may cost, whoever made it: memory and time in proportion to n. And what is no file, and a machine without memory, end in one line.
#include <malloc.h>
#include <sys/resource.h>
#include <atomic>
#include <cerrno>
#include <ctime>
#include "../../llmc/data/text.h"
#include "../../llmc/io/safetensors.h"
#include "../../llmc/model/bin_model.h"
#include "../../llmc/model/config_json.h"
#include "../../llmc/train/eval_sets.h"
#include "../test.h"

// What the test program has of malloc, by glibc's own functions of other names. Counted here and not as the system counts pages: how many of what was
// given back stays resident depends on malloc's thresholds, on threads and on the machine (one saw 24 MiB where its twin saw 39).
namespace {
std::atomic<size_t> g_taken{0}, g_peak{0};
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
constexpr bool COUNTED = true;
#else
constexpr bool COUNTED = false;
#endif
[[maybe_unused]] void* count(void* p) {
    const size_t taken = g_taken += malloc_usable_size(p);
    for (size_t peak = g_peak; peak < taken && !g_peak.compare_exchange_weak(peak, taken);) {}
    return p;
}
}  // namespace
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
extern "C" {
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void*, size_t), *__libc_memalign(size_t, size_t);
void __libc_free(void*);
void* malloc(size_t n) { return count(__libc_malloc(n)); }
void* calloc(size_t n, size_t size) { return count(__libc_calloc(n, size)); }
void* memalign(size_t alignment, size_t n) { return count(__libc_memalign(alignment, n)); }
void* aligned_alloc(size_t alignment, size_t n) { return count(__libc_memalign(alignment, n)); }
int posix_memalign(void** p, size_t alignment, size_t n) { return (*p = count(__libc_memalign(alignment, n))) ? 0 : ENOMEM; }
void free(void* p) {
    g_taken -= malloc_usable_size(p);
    __libc_free(p);
}
// While a small block is moved, there are two; the pages of a large one are moved as they are, by mremap.
void* realloc(void* p, size_t n) {
    const size_t before = malloc_usable_size(p), copied = before < 1 << 20 ? before : 0;
    void* const moved = __libc_realloc(p, n);
    if (!moved && n) return nullptr;
    g_taken -= before - copied;
    count(moved);
    g_taken -= copied;
    return moved;
}
}
#endif

namespace {
const std::string SCRATCH = "build/tmp/bounds";
constexpr double MIB = 1 << 20;

std::string put(const std::string& name, const std::string& bytes) {
    make_folders(parent_folder(SCRATCH + "/" + name));
    FILE* file = fopen((SCRATCH + "/" + name).c_str(), "wb");  // not synced: it need not survive
    if (!file || fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || fclose(file)) abort();
    return SCRATCH + "/" + name;
}
// `piece` over and over, at least n bytes; # in it counts.
std::string repeat(std::string_view piece, size_t n, const char* begin = "", const char* end = "") {
    std::string text = begin;
    const bool counts = piece.find('#') != piece.npos;
    for (size_t i = 0; text.size() < n; i++)
        if (!counts) text += piece;
        else for (char c : piece) c == '#' ? text += std::to_string(i) : text += c;
    if (*end) while (text.back() == ',') text.pop_back();
    return text + end;
}
std::string with_length(const std::string& header) {
    const uint64_t n = header.size();
    return std::string((const char*)&n, 8) + header;
}
// The peak of memory that `body` adds, in bytes. It may die.
double peak_of(const std::function<void()>& body) {
    int fd[2];
    if (pipe(fd)) abort();
    run_child([&] {
        static int out;
        static size_t before;
        out = fd[1], before = g_taken, g_peak = before;
        g_before_death = [] { const double bytes = (double)(g_peak - before); if (write(out, &bytes, sizeof bytes) < 0) abort(); };
        body();
        g_before_death();
    });
    close(fd[1]);
    double bytes = NAN;
    if (read(fd[0], &bytes, sizeof bytes) != sizeof bytes) bytes = NAN;
    close(fd[0]);
    return bytes;
}
// Processor time of `body`, in seconds; the least of three, or the first that is below `enough`.
double seconds_of(double enough, const std::function<void()>& body) {
    double least = INFINITY;
    for (int i = 0; i < 3 && least > enough; i++) {
        rusage before, after;
        getrusage(RUSAGE_CHILDREN, &before);
        const Outcome o = run_child(body);
        getrusage(RUSAGE_CHILDREN, &after);
        if (o.code > 2) FAIL("ended with %d: %s", o.code, o.output.c_str());
        const auto of = [](const rusage& u) { return (double)u.ru_utime.tv_sec + 1e-6 * (double)u.ru_utime.tv_usec; };
        least = std::min(least, of(after) - of(before));
    }
    return least;
}

const std::string BYTES_256 = [] {  // a vocabulary's members for all bytes, ids 0 .. 255
    std::string text;
    for (int b = 0; b < 256; b++) text += json_quote(tokenizer_files_detail::to_characters(std::string(1, (char)b))) + ":" + std::to_string(b) + ",";
    return text;
}();
std::string tokenizer_json(const std::string& added, const std::string& vocab, const std::string& merges) {
    return "{\"added_tokens\":[" + added + "],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{" + BYTES_256 + vocab +
           "\"<|endoftext|>\":256},\"merges\":[" + merges + "]}}";
}
const char* const EOT = "{\"id\":256,\"content\":\"<|endoftext|>\",\"special\":true}";
std::string ranks_of_bytes() {
    std::string text;
    for (int b = 0; b < 256; b++) {
        constexpr char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        text += format("%c%c== %d\n", DIGITS[b >> 2], DIGITS[(b & 3) << 4], b);
    }
    return text;
}
std::string eval_bin(const std::vector<uint16_t>& tokens, int questions) {
    const int32_t header[256] = {20240522, 1, questions};
    return std::string((const char*)header, sizeof header) + std::string((const char*)tokens.data(), 2 * tokens.size());
}
std::string many_questions(size_t n, int context, int choices) {
    std::vector<uint16_t> all;
    int number = 0;
    for (; 2 * all.size() < n; number++) {
        const size_t begin = all.size();
        all.insert(all.end(), {65535, 0, (uint16_t)number, 0, (uint16_t)choices, (uint16_t)context});
        all.resize(all.size() + (size_t)context, 7);
        for (int c = 0; c < choices; c++) all.push_back(1), all.push_back(9);
        all[begin + 1] = (uint16_t)(2 * (all.size() - begin));
    }
    return eval_bin(all, number);
}
void evaluate(const std::string& path) {
    static const Tokenizer bytes = Tokenizer::bytes();
    EvalSet set = std::move(open_eval_sets("set=" + path, false)[0]);
    encode_eval_set(set, &bytes, 1024, 60000);
}
const Tokenizer& trained() {
    static const Tokenizer t = [] {
        PieceCounts counts;
        counts.add_text(repeat("these are the words # of a text, xxxxxxxx!!!!!!!! ", 20000), SplitPattern::GPT2);
        return Tokenizer::train(counts, 700, SplitPattern::GPT2);
    }();
    return t;
}
void tokenize_text(const std::string& path) {
    remove_tree(SCRATCH + "/cache");
    set_threads(2);  // whatever tests before used: each further thread works on a part of its own
    tokenize_to_cache(path, trained(), SCRATCH + "/cache");
}

// What reads a file, by kind; each is given the file's path. A file of many bytes for each, of which `make` makes n.
struct Hostile { const char* name; std::string (*make)(size_t n); void (*read)(const std::string& path); };
void read_json(const std::string& path) { json_parse(read_file(path), path); }
void read_safetensors(const std::string& path) { SafetensorsFile file(path); }
void read_tokenizer(const std::string& path) { Tokenizer::load(path); }
void read_text_by(const std::string& path) {  // a line of options, then the text: the tokenizer is beside it
    Tokenizer::load(path + ".tokenizer.json").encode(read_file(path), true);
}
std::string index_of_names(size_t n) {
    const std::string names = repeat("\"t#\":\"a.safetensors\",", n, "{\"weight_map\":{", "}}");
    std::string header;
    for (size_t i = 0, count = (size_t)std::count(names.begin(), names.end(), ',') + 1; i < count; i++) header += format("%s\"t%zu\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "{", i);
    put("index/a.safetensors", with_length(header + "}"));
    return names;
}

const Hostile JSON[] = {
    {"a.json", [](size_t n) { return repeat("1,", n, "[", "]"); }, read_json},
    {"b.json", [](size_t n) { return repeat("\"a\",", n, "[", "]"); }, read_json},
    {"c.json", [](size_t n) { return repeat("[],", n, "[", "]"); }, read_json},
    {"d.json", [](size_t n) { return repeat("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],", n, "[", "]"); }, read_json},
    {"e.json", [](size_t n) { return repeat("{\"a\":{\"\":[1]}},", n, "[", "]"); }, read_json},
    {"f.json", [](size_t n) { return repeat("\"#\":1,", n, "{", "}"); }, read_json},
    {"g.json", [](size_t n) { return repeat("1234567,", n, "[", "]"); }, read_json},
    {"h.json", [](size_t n) { return repeat("\\u00e9", n, "\"", "\""); }, read_json},
    {"i.json", [](size_t n) { return repeat("[1,2,3],", n, "[", "]"); }, read_json},
    {"j.json", [](size_t n) { return repeat("1,", n, "["); }, read_json},  // cut short
    {"a.safetensors", [](size_t n) { return with_length(repeat("\"#\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},", n, "{", "}")); }, read_safetensors},
    {"b.safetensors", [](size_t n) { return with_length(repeat("1,", n, "{\"a\":{\"dtype\":\"U8\",\"shape\":[0,", "],\"data_offsets\":[0,0]}}")); }, read_safetensors},
    {"c.safetensors", [](size_t n) { return with_length(repeat("\"#\":\"\",", n, "{\"__metadata__\":{", "}}")); }, read_safetensors},
    {"a.jsonl", [](size_t n) { return repeat("\"a\",", n, "{\"context\":\"x\",\"answer\":0,\"choices\":[", "]}"); }, evaluate},
    {"b.jsonl", [](size_t n) { return repeat("\"a\",", n, ("{\"context\":\"" + repeat("word ", n / 2) + "\",\"answer\":0,\"choices\":[").c_str(), "]}"); }, evaluate},
    {"c.jsonl", [](size_t n) { return repeat("{\"text\":\"a\"}\n", n); }, evaluate},
    {"d.jsonl", [](size_t n) { return repeat("{\"question\":\"\",\"choices\":[\"\",\"\"],\"answer\":0}\n", n); }, evaluate},
    {"e.jsonl", [](size_t n) { return repeat("{\"context\":[\"a\",\"b\"],\"choices\":[\"a\",\"b\"],\"answer\":0}\n", n); }, evaluate},
    {"a.bin", [](size_t n) { return many_questions(n, 1, 2); }, evaluate},
    {"b.bin", [](size_t n) { return many_questions(n, 16000, 8000); }, evaluate},
    {"a.txt", [](size_t n) { return repeat("word ", n); }, evaluate},
};
// A tokenizer is strings: as much again.
const Hostile TOKENIZERS[] = {
    {"tokenizer.json", [](size_t n) { return tokenizer_json(EOT, repeat("\"a#\":1#,", n), ""); }, read_tokenizer},
    {"ids.json", [](size_t) { return tokenizer_json(EOT, "\"ab\":16777215,", ""); }, read_tokenizer},
    {"added.json", [](size_t) { return tokenizer_json(std::string(EOT) + ",{\"id\":16777215,\"content\":\"x\",\"special\":true}", "", ""); }, read_tokenizer},
    {"gpt2.tiktoken", [](size_t) { return ranks_of_bytes() + "YWI= 16777215\n"; }, read_tokenizer},
    {"gpt2.short", [](size_t n) { return ranks_of_bytes() + repeat("A# #\n", n); }, read_tokenizer},
    {"long.bin", [](size_t n) {
        const int32_t header[256] = {20240328, 2, (int32_t)n, 0};
        return std::string((const char*)header, sizeof header) + std::string(n, 0);
    }, read_tokenizer},
};
const Hostile TEXTS[] = {
    {"a.txt", [](size_t n) { return repeat("word # ", n); }, tokenize_text},
    {"b.txt", [](size_t n) { return std::string(n, 'x'); }, tokenize_text},
    {"c.txt", [](size_t n) { return std::string(n, '\n'); }, tokenize_text},
    {"d.txt", [](size_t n) { return repeat("a<|endoftext|>", n); }, tokenize_text},
    {"a.jsonl", [](size_t n) { return repeat("x", n, "{\"text\":\"", "\"}"); }, tokenize_text},
    {"b.jsonl", [](size_t n) { return repeat("word # ", n, "{\"text\":\"", "\"}"); }, tokenize_text},
    {"c.jsonl", [](size_t n) { return repeat("{\"text\":\"a\"}\n", n); }, tokenize_text},
    {"d.jsonl", [](size_t n) { return repeat("{\"text\":\"" + std::string(900000, 'x') + "\"}\n", n); }, tokenize_text},
};

template <size_t N> void check_memory(const char* what, const Hostile (&files)[N], size_t n, double times) {
    if (!COUNTED) SKIP("no measure of memory here");
    for (const Hostile& h : files) {
        const std::string bytes = h.make(n), path = put(h.name, bytes);
        const double size = (double)bytes.size(), peak = peak_of([&] { h.read(path); }), most = times * size + 16 * MIB;
        if (!(peak <= most)) FAIL("%s %s: %.1f MiB took %.1f MiB, at most %g times and 16 MiB are %.1f", what, h.name, size / MIB, peak / MIB, times, most / MIB);
        if (getenv("BOUNDS")) printf("  %s %-16s %6.1f MiB: %7.1f MiB, %5.1f times\n", what, h.name, size / MIB, peak / MIB, peak / size);
        unlink(path.c_str());
    }
}
}  // namespace

TEST(json_takes_no_more_memory_than_32_times_its_file) { check_memory("JSON", JSON, 2 << 20, 32); }
TEST(a_tokenizer_takes_no_more_memory_than_64_times_its_file) { check_memory("tokenizer", TOKENIZERS, 2 << 20, 64); }
TEST(a_text_takes_no_more_memory_than_4_times_its_file) {
    trained();
    check_memory("text", TEXTS, 4 << 20, 4);
}
TEST(a_long_document_streams) {
    trained();
    const Hostile document[] = {{"long.jsonl", [](size_t n) { return repeat("word # ", n, "{\"text\":\"", "\"}"); }, tokenize_text}};
    check_memory("text", document, 24 << 20, 4);
}

// Eight times the bytes take no more than 24 times the time (64 of what is quadratic), and no more than a second a MB.
TEST(no_file_takes_more_than_a_second_a_megabyte) {
    trained();
    std::vector<Hostile> files(std::begin(JSON), std::end(JSON));
    files.insert(files.end(), std::begin(TEXTS), std::end(TEXTS));
    for (const Hostile& h : TOKENIZERS) if (h.make(1000).size() != h.make(9000).size()) files.push_back(h);
    const Hostile more[] = {
        {"index/model.safetensors.index.json", index_of_names, [](const std::string& path) { SafetensorsModel model(parent_folder(path)); }},
        {"gpt2.one", [](size_t n) { return ranks_of_bytes() + std::string(n / 4 * 4, 'Y') + " 256\n"; }, read_tokenizer},
        {"gpt2.all", [](size_t n) {  // tokens that begin and end with others
            std::string text = ranks_of_bytes();
            for (size_t i = 1; text.size() < n; i++) text += std::string(4 * i, 'Y') + format(" %zu\n", 255 + i);
            return text;
        }, read_tokenizer},
        {"brackets.jsonl", [](size_t n) { return repeat("[a]", n, "{\"ctx\":\"x", "\",\"endings\":[\"a\",\"b\"],\"label\":0}"); }, evaluate},
        {"open.jsonl", [](size_t n) { return repeat("[a", n, "{\"ctx\":\"x", "\",\"endings\":[\"a\",\"b\"],\"label\":0}"); }, evaluate},
        {"titles.jsonl", [](size_t n) { return repeat(" [title]", n, "{\"ctx\":\"x", "\",\"endings\":[\"a\",\"b\"],\"label\":0}"); }, evaluate},
        {"spaces.jsonl", [](size_t n) { return "{\"ctx\":\"x" + std::string(n, ' ') + "y\",\"endings\":[\"a\",\"b\"],\"label\":0}"; }, evaluate},
        {"spaces.txt", [](size_t n) { return "x" + std::string(n, ' ') + "y"; }, evaluate},
        {"uncut.jsonl", [](size_t n) { return repeat("\"a\",", n, ("{\"context\":\"" + std::string(n / 2, '!') + "\",\"answer\":0,\"choices\":[").c_str(), "]}"); }, evaluate},
        {"subject.jsonl", [](size_t n) { return repeat("_", n, "{\"question\":\"\",\"choices\":[\"a\",\"b\"],\"answer\":0,\"subject\":\"", "\"}"); }, evaluate},
        {"hash.json", [](size_t n) { return repeat("\"\":1,", n, "{", "}"); }, read_json},  // one name over and over: an error
        {"deep.json", [](size_t n) { return std::string(n, '['); }, read_json},
        {"added.txt", [](size_t n) {  // many added tokens that begin alike, and a text of their beginning
            std::string added = EOT;
            for (size_t i = 0; added.size() < n; i++) added += format(",{\"id\":%zu,\"content\":\"<|x%zu|>\",\"special\":true}", 257 + i, i);
            put("added.txt.tokenizer.json", tokenizer_json(added, "", ""));
            return repeat("<|x", n);
        }, read_text_by},
        {"MANIFEST", [](size_t n) { return repeat("a# 1 0000000000000001\n", n); }, [](const std::string& path) {
            std::vector<checkpoint_detail::ManifestLine> lines;
            checkpoint_detail::parse_manifest(read_file(path), lines);
        }},
    };
    files.insert(files.end(), std::begin(more), std::end(more));
    for (const Hostile& h : files) {
        const size_t n = SANITIZED ? 1 << 14 : 1 << 17;
        double seconds[2], megabytes[2];
        for (int i = 0; i < 2; i++) {
            const std::string bytes = h.make(i ? 8 * n : n), path = put(h.name, bytes);
            megabytes[i] = (double)bytes.size() / 1e6;
            seconds[i] = seconds_of(i ? std::min(megabytes[1], 24 * std::max(seconds[0], 0.004)) : 0.02, [&] { h.read(path); });
        }
        if (!SANITIZED && seconds[1] > megabytes[1]) FAIL("%s: %.2f MB take %.2f s", h.name, megabytes[1], seconds[1]);
        if (seconds[1] > 24 * std::max(seconds[0], 0.004)) FAIL("%s: %.2f MB take %.3f s, %.2f MB %.3f s", h.name, megabytes[0], seconds[0], megabytes[1], seconds[1]);
        if (getenv("BOUNDS")) printf("  %-36s %5.2f MB %6.3f s, %5.2f MB %6.3f s\n", h.name, megabytes[0], seconds[0], megabytes[1], seconds[1]);
    }
}

// A device, a pipe or a folder in place of any file that is read: at once, one line, nothing read.
TEST(only_files_are_read) {
    const std::string folder = SCRATCH + "/kinds";
    struct Reader { const char* name; std::function<void(const std::string&)> read; };
    const Reader readers[] = {
        {"config.json", [](const std::string& p) { config_from_json(p); }},
        {"model.safetensors", [](const std::string& p) { SafetensorsModel model(parent_folder(p)); }},
        {"model.safetensors.index.json", [](const std::string& p) { SafetensorsModel model(parent_folder(p)); }},
        {"model.bin", [](const std::string& p) { BinModel model(p); }},
        {"tokenizer.json", [](const std::string& p) { Tokenizer::load(p); }},
        {"encoder.json", [](const std::string& p) { put("kinds/vocab.bpe", ""), Tokenizer::load(p); }},
        {"vocab.bpe", [](const std::string& p) { put("kinds/encoder.json", "{}"), Tokenizer::load(p); }},
        {"gpt2.tiktoken", [](const std::string& p) { Tokenizer::load(p); }},
        {"gpt2_tokenizer.bin", [](const std::string& p) { Tokenizer::load(p); }},
        {"shard.bin", [](const std::string& p) { open_shard(p); }},
        {"text.txt", [](const std::string& p) { tokenize_to_cache(p, Tokenizer::bytes(), SCRATCH + "/cache"); }},
        {"text.jsonl", [](const std::string& p) { tokenize_to_cache(p, Tokenizer::bytes(), SCRATCH + "/cache"); }},
        {"text.txt.gz", [](const std::string& p) { tokenize_to_cache(p, Tokenizer::bytes(), SCRATCH + "/cache"); }},
        {"questions.jsonl", evaluate}, {"questions.bin", evaluate}, {"questions.txt", evaluate},
        {"MANIFEST", [](const std::string& p) {
            const std::string wrong = verify_checkpoint(parent_folder(p));
            CHECK(wrong.empty(), "%s: %s", parent_folder(p).c_str(), wrong.c_str());
        }},
    };
    for (const Reader& r : readers)
        for (const char* kind : {"device", "pipe", "folder", "lfs"}) {
            remove_tree(folder), make_folders(folder);
            const std::string path = folder + "/" + r.name;
            if (*kind == 'd') EXPECT(symlink("/dev/zero", path.c_str()) == 0);
            if (*kind == 'p') EXPECT(mkfifo(path.c_str(), 0600) == 0);
            if (*kind == 'f') make_folders(path);
            if (*kind == 'l') write_file_atomically(path, "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') + "\nsize 548105171\n");
            const Outcome o = run_child([&] {
                alarm(20);
                if (!SANITIZED) { const rlimit most = {1 << 30, 1 << 30}; setrlimit(RLIMIT_AS, &most); }
                r.read(path);
            });
            const std::string& said = o.output;
            if ((o.code != 1 && o.code != 2) || said.find(*kind == 'f' ? r.name : format("%s: ", r.name)) == said.npos || std::count(said.begin(), said.end(), '\n') != 1 ||
                (*kind != 'f' && said.find(*kind == 'l' ? "is a pointer of Git LFS and not the file" : format("is a %s, must be a file", kind)) == said.npos))
                FAIL("%s as a %s: %d, %s", r.name, kind, o.code, said.c_str());
        }
}

// With any amount of memory the programs work, or end with one line and no core.
TEST(one_line_when_memory_ends) {
    if (SANITIZED) SKIP("the sanitizer's shadow takes more than any limit here");
    const std::string text = put("memory.txt", repeat("some words # of a text. ", 100000)), sparse = put("sparse.json", "");
    EXPECT(truncate(sparse.c_str(), (off_t)1 << 40) == 0);
    int ended = 0, done = 0;
    for (const char* command : {TRAINER " -i %s -o build/tmp/bounds/out -e d2c64h2 -b 4 -t 32 -x 1 -s 0 --threads 2", TOKENIZE_PROGRAM " -i %s -o build/tmp/bounds/out --threads 2",
                                TOKENIZE_PROGRAM " --train 1000 -i %s -o build/tmp/bounds/t.json --threads 2"})
        for (int mib : {20, 40, 70, 110, 400}) {
            remove_tree(SCRATCH + "/out");
            const Outcome o = run_command(format("ulimit -c 0; ulimit -v %d; exec ", mib * 1024) + format(command, text.c_str()) + " 2>&1 >/dev/null");
            const size_t error = o.output.find("error: ");
            const bool loaded = o.output.find("error while loading shared libraries") == o.output.npos && o.output.find("failed to map") == o.output.npos;
            if (o.code == 0) done++;
            else if (loaded && o.code < 100) ended++;
            if (loaded && o.code && (o.code != 1 || error == o.output.npos || o.output.find("terminate") != o.output.npos || o.output.find('\n', error) + 1 != o.output.size()))
                FAIL("%s in %d MiB: %d, %s", command, mib, o.code, o.output.c_str());
        }
    EXPECT(ended >= 3 && done >= 3);
    const Outcome o = run_command(format("ulimit -v 2000000; %s -i %s -o build/tmp/bounds/out --tokenizer %s 2>&1 >/dev/null", TRAINER, text.c_str(), sparse.c_str()));
    if (o.code != 1 || o.output != "error: out of memory\n") FAIL("a file larger than memory: %d, %s", o.code, o.output.c_str());
    unlink(sparse.c_str());
    for (int kb : {256, 512, 1024, 2048}) {  // the frames of -O3 here; the check is the same anywhere
        const Outcome s = run_command(format("ulimit -c 0; ulimit -s %d; %s -i %s -o build/tmp/bounds/out -e d2c64h2 -b 2 -t 32 -x 1 -n 0 -s 1 -g 2 --threads 2 2>&1 >/dev/null", kb, TRAINER, text.c_str()));
        const std::string expected = kb < 1024 ? format("error: ulimit -s: the stack is %d KB, must be at least 1024\n", kb) : "";
        if (s.code != (kb < 1024 ? 2 : 0) || s.output != expected) FAIL("a stack of %d KB: %d, %s", kb, s.code, s.output.c_str());
    }
}

// The text under the name of -i was edited, and has as many tokens as before.
TEST(a_text_that_changed_before_a_resume_is_noticed) {
    std::string words = repeat("some words # of a text. ", 20000);
    const std::string text = put("changed.txt", words), command = format("%s -i %s -o build/tmp/bounds/run -e d1c32h1 -b 2 -t 16 -s 0 -v 0 --tokenizer bytes ", TRAINER, text.c_str());
    remove_tree(SCRATCH + "/run");
    EXPECT_EQ(run_command(command + "-x 1").code, 0);
    EXPECT(run_command(command + "-x 2 -y 1").output.find("have changed") == std::string::npos);
    words[words.size() / 2] = '~', put("changed.txt", words);
    const Outcome o = run_command(command + "-x 3 -y 1");
    if (o.code || o.output.find("resume   the data have changed: as many tokens as before, but others\n") == o.output.npos) FAIL("%d: %s", o.code, o.output.c_str());
}
