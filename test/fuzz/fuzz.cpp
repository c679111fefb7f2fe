// fuzz.cpp: every parser of files that may come from someone else, under libFuzzer, AddressSanitizer and UBSan: `make fuzz`. FUZZ names the parser.
// An input must be read, or end in one line; within memory and time in proportion to its size. What ends a process there is an exception here: this
// file alone replaces what check.h calls, before it is included, so that the product is as it is.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <string>

namespace {
struct Ended { int code; };
std::string g_said;

[[noreturn]] void end_by_exception(int code) { throw Ended{code}; }
[[gnu::format(printf, 2, 3)]] int print_error(FILE*, const char* pattern, ...) {
    char text[8192];
    va_list args;
    va_start(args, pattern);
    const int n = vsnprintf(text, sizeof text, pattern, args);
    va_end(args);
    g_said = text;
    return n;
}
}  // namespace
#define _Exit end_by_exception
#define exit end_by_exception
#define fprintf print_error
#include "../../llmc/backend.h"
#include "../../llmc/train/eval_sets.h"
#include "../../llmc/train/progress.h"
#include "../../llmc/train/run.h"
#undef _Exit
#undef exit
#undef fprintf

extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, size_t), void (*)(const volatile void*));
extern "C" size_t __sanitizer_get_allocated_size(const volatile void*);

namespace {
// Live bytes since an input began, and the most there have been.
size_t g_live, g_peak;
void on_malloc(const volatile void*, size_t n) { g_live += n, g_peak = std::max(g_peak, g_live); }
void on_free(const volatile void* p) {
    const size_t n = p ? __sanitizer_get_allocated_size(p) : 0;
    g_live -= std::min(g_live, n);
}

constexpr int REPORT = 9;  // standard error, which libFuzzer closes for us
std::string g_folder;
std::string put(const char* name, std::string_view bytes) {
    const std::string path = g_folder + "/" + name;
    FILE* file = fopen(path.c_str(), "wb");
    if (!file || fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || fclose(file)) abort();
    return path;
}
void must(bool good, const char* what) {
    if (good) return;
    dprintf(REPORT, "fuzz: does not hold: %s; said %s\n", what, g_said.c_str());
    abort();
}

void json(std::string_view in) {
    Json a, b;
    if (!json_try_parse(a, in).empty()) return;
    const std::string text = json_dump(a);
    must(json_try_parse(b, text).empty() && json_dump(b) == text, "what is written is read again");
}
void safetensors(std::string_view in) {
    SafetensorsFile file(put("a.safetensors", in));
    std::vector<char> bytes;
    for (const TensorInfo& t : file.tensors()) {
        must(file.find(t.name) == &t, "a tensor is found by its name");
        bytes.resize(t.end - t.begin);
        file.read(t, bytes.data(), 0, bytes.size());
    }
}
void shard(std::string_view in) {
    const std::string path = put("a.bin", in);
    is_sound_shard(path);
    const Shard s = open_shard(path);
    std::vector<int> tokens(s.size());
    ShardReader().read(s, 0, tokens.size(), tokens.data());
    if (s.size() > 20) hold_out({s}, 256);
}
void bin_model(std::string_view in) {
    BinModel model(put("m.bin", in));
    float x;
    model.read_as_float(&x, 0, 1);
}
void evaluate(const char* name, std::string_view in) {
    static const Tokenizer bytes = Tokenizer::bytes();
    std::vector<EvalSet> sets = open_eval_sets("set=" + put(name, in), false);
    encode_eval_set(sets[0], &bytes, 64, 70000);
    std::vector<int> row;
    for (const EvalItem& item : sets[0].items)
        for (const EvalRow& r : item.rows) row.resize(item.size(r)), item.copy_row(r, row.begin());
}
void eval_bin(std::string_view in) { evaluate("e.bin", in); }
void eval_jsonl(std::string_view in) { evaluate("e.jsonl", in); }
void eval_text(std::string_view in) { evaluate("e.txt", in); }
void text(const char* name, std::string_view in) {
    static const Tokenizer bytes = Tokenizer::bytes();
    text_detail::DocumentReader reader(put(name, in));
    std::vector<int> tokens;
    text_detail::TextBatch batch;
    int number = 0;
    if (text_detail::is_jsonl(name)) reader.lines([&](std::string_view line) { if (!text_detail::is_blank(line)) batch.pieces.push_back({std::string(line), true, ++number}); });
    else reader.documents([&](std::string_view piece, bool starts) { batch.pieces.push_back({std::string(piece), starts, 0}); });
    TextReport report;
    const std::string wrong = text_detail::encode_batch(batch, bytes, {.skip_bad = 1}, report, [&](size_t, const std::vector<int>& t) { tokens.insert(tokens.end(), t.begin(), t.end()); });
    must(wrong.find('\n') == wrong.npos, "an error is one line");
    must(tokens.size() <= in.size() * 3 + 16, "a byte is a token");
}
void text_jsonl(std::string_view in) { text("t.jsonl", in); }
void text_txt(std::string_view in) { text("t.txt", in); }

void use(const Tokenizer& t) {
    const std::string sample = "A word, 123 \xe4\xbd\xa0 <|endoftext|>\n\xff";
    if (!t.vocabulary().nfc) must(t.decode(t.encode(sample, true)) == sample, "what is encoded is decoded");
    const std::string again = t.to_json();
    must(Tokenizer::from_json(again, "again").to_json() == again, "a tokenizer that is written is read again");
}
void tokenizer_json(std::string_view in) { use(Tokenizer::load(put("tokenizer.json", in))); }
void tiktoken(std::string_view in) { Tokenizer::load(put("gpt2.tiktoken", in)).encode("A word, 123 <|endoftext|>\n\xff", true); }
void tokenizer_bin(std::string_view in) { Tokenizer::load(put("tok.bin", in)).encode("A word, 123 <|endoftext|>\n\xff", true); }
void gpt2_files(std::string_view in) {  // vocab.bpe, a byte 0, encoder.json
    const size_t cut = std::min(in.find('\0'), in.size());
    put("encoder.json", in.substr(std::min(cut + 1, in.size())));
    use(Tokenizer::load(put("vocab.bpe", in.substr(0, cut))));
}
void manifest(std::string_view in) {
    std::vector<checkpoint_detail::ManifestLine> lines;
    const std::string wrong = checkpoint_detail::parse_manifest(std::string(in), lines);
    must(!wrong.empty() || checkpoint_detail::manifest_text(lines) == in, "a MANIFEST that is taken is as it is written");
    must(wrong.find('\n') == wrong.npos, "an error is one line");
}
void options(std::string_view in) {  // an argument a line
    std::vector<std::string> words = {"train_gpt2"};
    for (size_t at = 0, end; at < in.size(); at = end + 1) end = std::min(in.find('\n', at), in.size()), words.emplace_back(in.substr(at, end - at));
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data() + 0);
    const Options opt = parse_options((int)argv.size(), argv.data());
    for (const options_detail::OptionRow& row : options_detail::TABLE)
        if (was_given(opt, row.field) && strcmp(row.field, "plan") && strcmp(row.field, "nproc")) must(options_detail::check_value(row, row.text(opt)).empty(), "what is taken is allowed");
}
void config(std::string_view in) {
    const Config c = config_from_json(put("config.json", in));
    must(config_from_json(put("config.json", config_to_json(c, -1, "float32", std::string(in)))) == c, "what is written of a model is read as that model");
}
void trainer_json(std::string_view in) {
    Run run;
    put("trainer.json", in);
    run.resumed = true, run.weights = g_folder;
    run_detail::read_trainer_state(run);
    for (const options_detail::OptionRow& row : options_detail::TABLE)
        if (strcmp(row.field, "total_batch")) must(options_detail::check_value(row, row.text(run.opt)).empty(), "what a checkpoint says is allowed, too");
}

struct Parser { const char* name; void (*parse)(std::string_view); double times; };  // memory: times the input, and 16 MiB
const Parser PARSERS[] = {{"json", json, 64}, {"safetensors", safetensors, 64}, {"shard", shard, 16}, {"bin_model", bin_model, 16}, {"eval_bin", eval_bin, 64}, {"eval_jsonl", eval_jsonl, 64},
                          {"eval_text", eval_text, 64}, {"text_jsonl", text_jsonl, 64}, {"text_txt", text_txt, 64}, {"tokenizer_json", tokenizer_json, 256}, {"tiktoken", tiktoken, 256},
                          {"tokenizer_bin", tokenizer_bin, 256}, {"gpt2_files", gpt2_files, 256}, {"manifest", manifest, 64}, {"options", options, 64}, {"config", config, 64},
                          {"trainer_json", trainer_json, 64}};
const Parser* g_parser;
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerInitialize(int*, char***) {
    const char* name = getenv("FUZZ");
    for (const Parser& p : PARSERS) if (name && !strcmp(name, p.name)) g_parser = &p;
    if (!g_parser) {
        for (const Parser& p : PARSERS) printf("%s\n", p.name);  // no FUZZ: the list
        ::exit(name != nullptr);
    }
    choose_threads(1);
    g_folder = format("%s/llmc-fuzz-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    mkdir(g_folder.c_str(), 0700);
    atexit([] { try_remove_tree(g_folder); });
    fcntl(STDERR_FILENO, F_DUPFD, REPORT);
    LLVMFuzzerTestOneInput((const uint8_t*)"{}", 2);  // tables that are made once
    return __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free), 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view in((const char*)data, size);
    g_said.clear(), g_live = g_peak = 0;
    g_dying.clear(), g_dies_here = false;  // of the input before it
    timespec begin, end;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    bool ended = false;
    int code = 0;
    try {
        g_parser->parse(in);
    } catch (const Ended& e) { ended = true, code = e.code; }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    if (ended && code) must((code == EXIT_FAILED || code == EXIT_USAGE) && g_said.starts_with("error: ") && g_said.find('\n') + 1 == g_said.size(), "an error is one line");
    must((double)g_peak <= g_parser->times * (double)size + (16 << 20), "memory is in proportion to the input");
    const double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    must(seconds < 0.5 + 20e-6 * (double)size, "time is in proportion to the input");  // the sanitizers take 20 times what the product takes
    close_range(10, ~0u, 0);  // what was open when an exception came
    return 0;
}
