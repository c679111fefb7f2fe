// Sixty bad files of each format, and each has its own message: one line that names the file and what is wrong in it.
#include <set>
#include "../../llmc/base/stop.h"
#include "../../llmc/data/text.h"
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/io/safetensors.h"
#include "../../llmc/model/bin_model.h"
#include "../../llmc/model/config_json.h"
#include "../../llmc/train/eval_sets.h"
#include "../test.h"

namespace {
const std::string SCRATCH = "build/tmp/bad_files";
struct Bad { std::string bytes, expected; };
using Bads = std::vector<Bad>;

std::string put(const std::string& name, const std::string& bytes) {
    make_folders(SCRATCH);
    FILE* file = fopen((SCRATCH + "/" + name).c_str(), "wb");
    if (!file || fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || fclose(file)) abort();
    return SCRATCH + "/" + name;
}
void check(const char* name, const std::string& good, const Bads& bads, void (*read)(const std::string&)) {
    const auto read_it = [&](const std::string& bytes) {
        const std::string path = put(name, bytes);
        return run_child([&] { read(path); });
    };
    const Outcome fine = read_it(good);
    if (fine.code) FAIL("the good %s: %s", name, fine.output.c_str());
    std::set<std::string> said;
    for (const Bad& bad : bads) {
        const Outcome o = read_it(bad.bytes);
        const std::string shown = bad.bytes.size() < 2000 ? json_quote(bad.bytes) : format("%zu bytes", bad.bytes.size());
        if ((o.code != 1 && o.code != 2) || o.output.find('\n') + 1 != o.output.size() || o.output.size() > 1000 || o.output.find(SCRATCH) == o.output.npos || o.output.find(bad.expected) == o.output.npos)
            FAIL("%s %s: %d, \"%s\", expected one line with \"%s\"", name, shown.c_str(), o.code, o.output.c_str(), bad.expected.c_str());
        if (!said.insert(o.output).second) FAIL("%s %s: another one has the message \"%s\", too", name, shown.c_str(), o.output.c_str());
    }
    if (bads.size() < 60) FAIL("%s: %zu bad files", name, bads.size());
}

// An object by its members, one of which is replaced, left out ("") or added.
struct Member { std::string name, value; };
std::string object(std::vector<Member> members, const std::string& name = "", const std::string& value = "") {
    bool known = name.empty();
    std::string text = "{";
    for (Member& m : members) if (m.name == name) m.value = value, known = true;
    if (!known) members.push_back({name, value});
    for (const Member& m : members) if (!m.value.empty()) text += (text.size() > 1 ? ", \"" : "\"") + m.name + "\": " + m.value;
    return text + "}";
}
const char* const NO_NUMBERS[] = {"\"x\"", "null", "true", "[]", "{}", "1.5", "1e3", "-7", "99999999999999999999"};
// The member as each of what it must not be, and missing if it is needed.
void wrong_values(Bads& bads, const std::vector<Member>& members, const std::string& name, const std::vector<std::string>& values, bool needed = true) {
    for (const std::string& value : values) bads.push_back({object(members, name, value), "\"" + name + "\""});
    if (needed) bads.push_back({object(members, name, ""), "\"" + name + "\" is missing"});
}
std::vector<std::string> no_numbers() { return {std::begin(NO_NUMBERS), std::end(NO_NUMBERS)}; }
void bad_json(Bads& bads, const std::string& good) {
    const Bads all = {{"", "expected a value, found the end"}, {good.substr(0, good.size() - 1), "found the end of the text"}, {good + "x", "expected the end of the text"}, {"\xEF\xBB\xBF" + good, "byte order mark"},
                      {"\xFF" + good, "the byte 0xff"}, {"{\"a\": 1, \"a\": 2}", "\"a\" twice"}, {"{\"a\": 01}", "cannot begin with 0"}, {"{\"a\": NaN}", "no NaN"}, {"{\"a\": 'x'}", "found \"'\""},
                      {"{a: 1}", "a name in"}, {"{\"a\": 1,}", "a name in"}, {"{\"a\": [1,]}", "expected a value, found \"]\""}, {std::string(200, '['), "more than 128 arrays"}, {"{\"a\": \"\\q\"}", "unknown escape"},
                      {"{\"a\": \"\n\"}", "control character"}, {"{\"a\": \"\\ud800\"}", "the first half"}};
    bads.insert(bads.end(), all.begin(), all.end());
}
std::string words(const std::vector<int32_t>& first, size_t bytes = 1024) {
    std::string text((const char*)first.data(), first.size() * 4);
    return text.append(std::max(bytes, text.size()) - text.size(), '\0');
}
std::string with_length(const std::string& header, const std::string& data) {
    const uint64_t n = header.size();
    return std::string((const char*)&n, 8) + header + data;
}
std::string bytes_vocabulary() {
    std::string text;
    for (int b = 0; b < 256; b++) text += json_quote(tokenizer_files_detail::to_characters(std::string(1, (char)b))) + ":" + std::to_string(b) + ",";
    return text;
}
void load_tokenizer(const std::string& path) { Tokenizer::load(path); }
void evaluate(const std::string& path) {
    static const Tokenizer bytes = Tokenizer::bytes();
    EvalSet set = std::move(open_eval_sets("set=" + path, false)[0]);
    encode_eval_set(set, &bytes, 8, 257);
}
}  // namespace

TEST(bad_config) {
    const std::vector<Member> good = {{"model_type", "\"gpt2\""}, {"n_positions", "8"}, {"vocab_size", "257"}, {"n_layer", "1"}, {"n_head", "2"}, {"n_embd", "16"}};
    Bads bads;
    for (const char* name : {"n_positions", "vocab_size", "n_layer", "n_head", "n_embd"}) wrong_values(bads, good, name, no_numbers());
    for (const char* value : {"\"mixtral\"", "7", "null", ""}) bads.push_back({object(good, "model_type", value), "model_type"});
    for (const Bad& bad : Bads{{"activation_function", "\"gelu\""}, {"activation_function", "3"}, {"scale_attn_weights", "false"}, {"scale_attn_by_inverse_layer_idx", "true"}, {"add_cross_attention", "true"},
                               {"quantization_config", "{}"}, {"n_inner", "0"}, {"n_inner", "63"}, {"n_inner", "\"x\""}, {"layer_norm_epsilon", "0"}, {"layer_norm_epsilon", "1"}, {"layer_norm_epsilon", "\"x\""}, {"tie_word_embeddings", "1"}})
        bads.push_back({object(good, bad.bytes, bad.expected), bad.bytes});
    bads.push_back({object(good, "n_head", "3"), "width 16 is not a multiple of 3 heads"}), bads.push_back({object(good, "n_layer", "1025"), "layers 1025"});
    bad_json(bads, object(good));
    check("config.json", object(good), bads, [](const std::string& path) { config_from_json(path); });
}

TEST(bad_safetensors) {
    const std::vector<Member> good = {{"dtype", "\"F32\""}, {"shape", "[2,3]"}, {"data_offsets", "[0,24]"}};
    const std::string data(24, 'x');
    Bads bads;
    const auto tensor = [&](const std::string& t, const std::string& expected, size_t n = 24) { bads.push_back({with_length("{\"a\": " + t + "}", data.substr(0, n)), expected}); };
    for (const char* t : {"7", "null", "[]", "\"x\"", "true"}) tensor(t, "\"a\": is ");
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
        tensor(object(good, field, ""), std::string(field) + " is missing");
        for (const char* value : {"7", "null", "{}", "true", "\"f32\""}) tensor(object(good, field, value), std::string(field) + " is ");
    }
    tensor(object(good, "shape", "\"[2]\""), "shape is"), tensor(object(good, "extra", "1"), "unknown field \"extra\"");
    for (const char* d : {"-1", "1.5", "1e1", "\"2\"", "null", "[2]", "18446744073709551616"}) tensor(object(good, "shape", "[" + std::string(d) + "]"), "shape holds"), tensor(object(good, "data_offsets", "[0," + std::string(d) + "]"), "data_offsets holds");
    for (const char* s : {"[]", "[2]", "[2,3,2]", "[0]", "[5]"}) tensor(object(good, "shape", s), "data_offsets [0, 24] hold 24");
    tensor(object(good, "shape", "[4294967296,4294967296]"), "overflows"), tensor("{\"dtype\": \"F4\", \"shape\": [3], \"data_offsets\": [0,24]}", "ends inside a byte");
    for (const char* o : {"[]", "[0]", "[0,24,24]"}) tensor(object(good, "data_offsets", o), "numbers, expected 2");
    for (const char* o : {"[24,0]", "[0,23]", "[0,28]", "[1,25]"}) tensor(object(good, "data_offsets", o), "data_offsets");
    for (size_t n : {0, 1, 23}) tensor(object(good), format("the file holds %zu bytes of data", n), n);
    const std::string a = object(good);
    for (const char* meta : {"7", "[]", "null", "\"x\"", "{\"k\": 1}", "{\"k\": null}", "{\"k\": {}}"}) bads.push_back({with_length("{\"a\": " + a + ", \"__metadata__\": " + meta + "}", data), "__metadata__"});
    bads.push_back({with_length("{\"a\": " + a + "}", data + "y"), "1 bytes follow"}), bads.push_back({with_length("{\"a\": " + a + ", \"b\": " + a + "}", data), "an overlap"});
    bads.push_back({with_length("{\"a\": {\"dtype\": \"U8\", \"shape\": [20], \"data_offsets\": [4,24]}}", data), "a hole"});
    bads.push_back({"", "holds 0 bytes"}), bads.push_back({"1234567", "holds 7 bytes"}), bads.push_back({std::string(8, '\0') + "{}", "claims 0 bytes"}), bads.push_back({with_length("[]", ""), "begins with \"[\""});
    bads.push_back({with_length("", "").replace(0, 1, "\x09") + "{}", "claims 9 bytes, the file holds 2"}), bads.push_back({std::string(8, '\xff') + "{}", "the format allows"});
    Bads json;
    bad_json(json, "{\"a\": " + a + "}");
    for (const Bad& bad : json) if (bad.bytes[0] == '{') bads.push_back({with_length(bad.bytes, data), bad.expected});
    check("a.safetensors", with_length("{\"a\": " + a + "}", data), bads, [](const std::string& path) { SafetensorsFile file(path); });
}

TEST(bad_shards) {
    Bads bads;
    const std::string good = words({20240520, 1, 3}) + std::string(6, 'x');
    for (int magic : {0, 1, -1, 20240519, 20240521, 20240326, 20240522, 20240328, 0x20545847, INT32_MAX, INT32_MIN}) bads.push_back({words({magic, 1, 3}) + std::string(6, 'x'), format("starts with %d", magic)});
    for (int version : {0, 2, 7, -1, 1 << 24, INT32_MAX}) bads.push_back({words({20240520, version, 3}) + std::string(6, 'x'), format("version %d", version)});
    for (int version : {0, 1, 3, 8}) bads.push_back({words({20240801, version, 3}) + std::string(12, 'x'), format("version %d", version)});
    for (int count : {0, 1, 2, 4, 5, 100, 1 << 30, INT32_MAX, -1, -3, INT32_MIN}) bads.push_back({words({20240520, 1, count}) + std::string(6, 'x'), format("header says %d tokens, the file holds 3", count)});
    for (int count : {0, 1, 4, INT32_MAX, -1}) bads.push_back({words({20240801, 7, count}) + std::string(8, 'x'), format("header says %d tokens, the file holds 2", count)});
    for (size_t n : {12, 13, 100, 512, 1000, 1022, 1023}) bads.push_back({good.substr(0, n), format("%zu bytes, a token shard's header alone", n)});
    for (size_t n = 0; n < 6; n++) bads.push_back({good.substr(0, 1024 + n), n % 2 ? "the file holds" : format("the file holds %zu", n / 2)}), n++;
    for (size_t n = 1; n < 16; n++) bads.push_back({good + std::string(2 * n, 'x'), format("the file holds %zu", 3 + n)});
    bads.push_back({good + "x", "ends in the middle of a token"}), bads.push_back({"", "starts with 0, expected"});
    bads.erase(std::find_if(bads.begin(), bads.end(), [](const Bad& b) { return b.expected == "starts with 0"; }));
    bads.push_back({std::string("text\n") + std::string(2000, ' '), "not a token shard: starts with 1954047348"});
    check("shard.bin", good, bads, [](const std::string& path) { open_shard(path); });
}

TEST(bad_bin_models) {
    const std::vector<int32_t> good = {BIN_MAGIC, 3, 1, 2, 1, 1, 1, 2};
    const size_t floats = 30;
    const auto file = [&](size_t word, int32_t value, size_t bytes) {
        std::vector<int32_t> header = good;
        header[word] = value;
        return words(header, 1024) + std::string(bytes, '\0');
    };
    Bads bads;
    for (int32_t magic : {0, 1, -1, 20240325, 20240520, 20240522, INT32_MAX}) bads.push_back({file(0, magic, 4 * floats), format("starts with %d", magic)});
    for (int32_t version : {0, 1, 2, 4, 6, -3, INT32_MAX}) bads.push_back({file(1, version, 4 * floats), format("version %d", version)});
    const char* const names[] = {"", "", "context", "vocabulary", "layers", "heads", "width"};
    for (size_t word = 2; word < 7; word++)
        for (int32_t value : {0, -1, INT32_MIN}) bads.push_back({file(word, value, 4 * floats), format("%s is %d, must be at least 1", names[word], value)});
    for (size_t word : {2, 4, 6}) bads.push_back({file(word, INT32_MAX, 4 * floats), format("%s %d", names[word], INT32_MAX)});
    for (int32_t heads : {2, 3, INT32_MAX}) bads.push_back({file(5, heads, 4 * floats), format("not a multiple of %d heads", heads)});
    for (int32_t rows : {0, 1, -1, (1 << 25) + 1, INT32_MAX}) bads.push_back({file(7, rows, 4 * floats), format("%d rows of wte", rows)});
    for (int32_t rows : {3, 64, 128, 1 << 25}) bads.push_back({file(7, rows, 4 * floats), "its header promises"});
    for (size_t n : {0, 1, 4, 31, 32, 1000, 1023}) bads.push_back({file(0, BIN_MAGIC, 0).substr(0, n), format("%zu bytes, a model file's header alone", n)});
    for (size_t n : {0, 1, 2, 4, 60, 62, 123, 125, 128, 248, 1000}) bads.push_back({file(0, BIN_MAGIC, n), format("holds %zu bytes, its header promises", 1024 + n)});
    bads.push_back({file(1, 5, 4 * floats), "its header promises 1084"});
    check("model.bin", file(0, BIN_MAGIC, 4 * floats), bads, [](const std::string& path) { BinModel model(path); });
}

TEST(bad_eval_bins) {
    const std::vector<uint16_t> good = {65535, 28, 0, 1, 2, 2, 97, 98, 1, 99, 3, 100, 101, 102, 65535, 24, 1, 0, 2, 1, 103, 1, 104, 2, 105, 106};
    const auto file = [](const std::vector<uint16_t>& tokens, int questions = 2, int magic = 20240522, int version = 1) { return words({magic, version, questions}) + std::string((const char*)tokens.data(), 2 * tokens.size()); };
    const std::string all = file(good);
    Bads bads;
    for (int magic : {0, -1, 20240520, 20240521, 20240326, INT32_MAX}) bads.push_back({file(good, 2, magic), format("starts with %d", magic)});
    for (int version : {0, 2, -1, 7}) bads.push_back({file(good, 2, 20240522, version), format("version %d", version)});
    for (int count : {0, 1, 3, -1, INT32_MAX}) bads.push_back({file(good, count), format("header says %d questions", count)});
    for (size_t n : {0, 1, 100, 1023}) bads.push_back({all.substr(0, n), format("%zu bytes, an eval file's header alone", n)});
    for (size_t n = 1; n < 26; n++) if (n != 14) bads.push_back({all.substr(0, 1024 + 2 * n), n < 14 ? "question 0" : "question 1"});
    bads.push_back({all.substr(0, 1024 + 28), "header says 2 questions, the file holds 1"}), bads.push_back({all + "x", "ends in the middle of a token"});
    struct Wrong { size_t at; int value; const char* says; };
    const Wrong wrongs[] = {{0, 5, "question 0 begins with 5"}, {0, 0, "question 0 begins with 0"}, {14, 7, "question 1 begins with 7"}, {1, 26, "question 0 ends before its choices"}, {1, 30, "claims 30 bytes, has 28"},
                            {1, 0, "claims 0 bytes"}, {1, 2, "question 0 claims 2 bytes"}, {15, 26, "claims 26 bytes, the file holds 24"}, {2, 1, "question 0 has the number 1"}, {16, 5, "question 1 has the number 5"}, {3, 2, "answer 2 of 2 choices"},
                            {3, 65535, "answer 65535"}, {4, 1, "answer 1 of 1"}, {4, 0, "answer 1 of 0"}, {17, 2, "question 1: answer 2 of 2"}, {5, 0, "question 0 has no context"}, {5, 60000, "ends before its context"}, {19, 0, "question 1 has no context"},
                            {8, 0, "question 0: choice 0 is empty"}, {21, 0, "question 1: choice 0 is empty"}, {6, 257, "holds token 257"}, {7, 300, "holds token 300"}, {25, 65534, "holds token 65534"}, {23, 1, "question 1 claims"}};
    for (const Wrong& w : wrongs) {
        std::vector<uint16_t> tokens = good;
        tokens[w.at] = (uint16_t)w.value;
        bads.push_back({file(tokens), w.says});
    }
    // cuts of one question have one message where the length is all that is wrong; those that have the same are one case
    std::set<std::string> texts;
    std::erase_if(bads, [&](const Bad& bad) { return !texts.insert(bad.bytes).second; });
    check("questions.bin", all, bads, evaluate);
}

TEST(bad_eval_lines) {
    const std::vector<Member> plain = {{"context", "\"c\""}, {"choices", "[\"a\", \"b\"]"}, {"answer", "0"}}, swag = {{"ctx", "\"c\""}, {"endings", "[\"a\", \"b\"]"}, {"label", "0"}},
                              mmlu = {{"question", "\"q\""}, {"choices", "[\"a\", \"b\"]"}, {"answer", "0"}};
    Bads bads;
    const std::vector<std::string> no_index = {"-1", "2", "1.5", "null", "[]", "true"}, no_list = {"7", "\"x\"", "null", "[1, 2]", "[\"a\", []]"};
    wrong_values(bads, plain, "answer", no_index), wrong_values(bads, swag, "label", no_index);
    for (const std::string& value : {std::string("7"), std::string("null"), std::string("{}"), std::string("[1, 2]")}) bads.push_back({object(plain, "context", value), ""});
    for (const std::string& value : {std::string("7"), std::string("{}")}) bads.push_back({object(swag, "ctx", value), "\"ctx\""});
    bads.push_back({object(plain, "context", "[\"a\", \"b\", \"c\"]"), "3 contexts for 2 choices"}), bads.push_back({object(plain, "answer", "\"z\""), "\"z\" is not among the choices"});
    bads.push_back({object(plain, "choices", "[\"a\", \"\"]"), "an empty choice"}), bads.push_back({object(plain, "choices", "[\"a\"]"), "1 choices, must be at least 2"});
    bads.push_back({object(plain, "choices", "[]"), "0 choices, must be at least 2"}), bads.push_back({object(plain, "choices", "[\"a\", \"123456789\"]"), "a choice of 10 tokens, the model's context is 8"});
    for (const std::string& value : {std::string("7"), std::string("null"), std::string("[]")}) bads.push_back({"{\"text\": " + value + "}", "\"text\""});
    bads.push_back({"{}", "needs \"context\""}), bads.push_back({"7", "line 1"}), bads.push_back({"{\"text\": \"a\"}\n" + object(plain), "line 2: a question among documents"});
    bads.push_back({object(plain) + "\n{\"text\": \"a\"}", "line 2: a document among questions"});
    std::string many;
    for (int i = 0; i < 27; i++) many += format("%s\"%d\"", i ? ", " : "", i);
    bads.push_back({object(mmlu, "choices", "[" + many + "]"), "27 choices, there are 26 letters"});
    bads.push_back({object(mmlu, "answer", "\"C\""), "\"answer\" is \"C\""}), bads.push_back({object(mmlu, "answer", "\"AB\""), "\"AB\""}), bads.push_back({object(mmlu, "subject", "8"), "\"subject\""});
    bads.push_back({object(mmlu, "question", "9"), "\"question\" is 9"}), bads.push_back({object(swag, "activity_label", "9"), "\"activity_label\""});
    wrong_values(bads, plain, "choices", no_list), wrong_values(bads, swag, "endings", {"7", "\"x\"", "null", "[3, 4]"}, false);
    Bads json;
    bad_json(json, object(plain));
    std::erase_if(json, [](const Bad& bad) { return bad.expected == "no NaN" || bad.expected == "the first half"; });  // Python writes them: test_eval
    for (const Bad& bad : json) if (!bad.bytes.empty()) bads.push_back({"\n" + bad.bytes, bad.expected == "control character" ? "line 2" : "line 2"});
    // "7" has no member, like {}; a list that is none is said of its first element, whichever list it is
    std::erase_if(bads, [](const Bad& bad) { return bad.bytes == "7"; });
    check("questions.jsonl", object(plain), bads, evaluate);
}

TEST(bad_tokenizers) {
    const std::string bytes = bytes_vocabulary();
    const std::string vocab = "{" + bytes + "\"ab\":256,\"<|e|>\":257}";
    const std::vector<Member> model = {{"type", "\"BPE\""}, {"vocab", vocab}, {"merges", "[\"a b\"]"}}, split = {{"type", "\"ByteLevel\""}, {"add_prefix_space", "false"}},
                              token = {{"id", "257"}, {"content", "\"<|e|>\""}, {"special", "true"}};
    const std::vector<Member> good = {{"added_tokens", "[" + object(token) + "]"}, {"pre_tokenizer", object(split)}, {"model", object(model)}};
    Bads bads;
    const auto in = [&](const char* member, const std::vector<Member>& members, const char* name, const std::string& value, const std::string& expected) {
        const std::string changed = object(members, name, value);
        bads.push_back({object(good, member, *member == 'a' ? "[" + changed + "]" : changed), expected});
    };
    wrong_values(bads, good, "model", {"7", "[]", "\"x\""}), wrong_values(bads, good, "pre_tokenizer", {}, true);
    for (const char* name : {"id", "content", "special"}) in("added_tokens", token, name, "", format("\"%s\" is missing", name));
    for (const char* value : NO_NUMBERS) in("added_tokens", token, "id", value, "\"id\"");
    for (const char* value : {"7", "null", "[]"}) in("added_tokens", token, "content", value, "\"content\""), in("added_tokens", token, "special", value, "\"special\"");
    in("added_tokens", token, "content", "\"\"", "an added token is empty"), in("added_tokens", token, "content", "\"" + std::string(1025, 'x') + "\"", "an added token has 1025 bytes");
    for (const char* name : {"lstrip", "rstrip", "single_word"}) in("added_tokens", token, name, "true", name);
    in("added_tokens", token, "id", "16777217", "\"id\" is"), in("added_tokens", token, "id", "1000000", "has the id 1000000");
    bads.push_back({object(good, "added_tokens", "7"), "\"added_tokens\" is 7"}), bads.push_back({object(good, "added_tokens", "[" + object(token) + "," + object(token) + "]"), "257"});
    in("model", model, "type", "\"Unigram\"", "the model is \"Unigram\""), in("model", model, "type", "7", "\"type\" is 7"), in("model", model, "vocab", "", "\"vocab\" is missing"), in("model", model, "merges", "", "\"merges\" is missing");
    for (const char* value : {"7", "[]", "null"}) in("model", model, "vocab", value, "\"vocab\"");
    for (const char* value : {"7", "{}", "null"}) in("model", model, "merges", value, "\"merges\"");
    for (const char* merge : {"ab", "a  b", " a", "a ", "a b c", "a c", "x y"}) in("model", model, "merges", format("[\"%s\"]", merge), "merge 0");
    in("model", model, "merges", "[[\"a\"]]", "merge 0: expected two tokens"), in("model", model, "merges", "[[\"a\", 7]]", "is 7"), in("model", model, "merges", "[\"a b\", [\"a\", \"z\"]]", "\"z\" is not in");
    in("model", model, "vocab", "{" + bytes + "\"ab\":256,\"a\\u4e00\":258}", "not a byte-level tokenizer"), in("model", model, "vocab", "{" + bytes + "\"ab\":5}", "two tokens have the id 5");
    for (const char* id : NO_NUMBERS) in("model", model, "vocab", "{" + bytes + "\"ab\":" + id + "}", "\"ab\"");
    in("model", model, "vocab", "{\"ab\":256}", "merge 0"), in("model", model, "ignore_merges", "7", "\"ignore_merges\"");
    for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) in("model", model, name, "\"x\"", format("model.%s is", name));
    in("pre_tokenizer", split, "add_prefix_space", "true", "add_prefix_space is not supported"), in("pre_tokenizer", split, "type", "\"Metaspace\"", "pre_tokenizer is not one");
    for (const char* n : {"{\"type\":\"NFKC\"}", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}", "{}"}) bads.push_back({object(good, "normalizer", n), ""});
    bad_json(bads, object(good));
    std::set<std::string> texts;
    std::erase_if(bads, [&](const Bad& bad) { return !texts.insert(bad.bytes).second; });
    check("tokenizer.json", object(good), bads, load_tokenizer);
}

TEST(bad_rank_files) {
    std::string good;
    constexpr char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int b = 0; b < 256; b++) good += format("%c%c== %d\n", DIGITS[b >> 2], DIGITS[(b & 3) << 4], b);
    Bads bads;
    for (const char* line : {"YWI=", "YWI= ", " 256", "YWI=256", "YWI= x", "YWI= -1", "YWI= 1.5", "YWI= 256 ", "YWI= 256x", "YWI=  256", "Y*I= 256", "Y 256", "= 256", "== 256", "YWI= 99999999999", "YWI= 0x10", "\xff 256", "YWI=\t256", "a b c", "YWI= +256",
                             "-WI= 256", "_WI= 256", "YW\\= 256", "YWI= 2 56", "YWI= NaN", "{\"a\": 1}", "#version: 0.2", "YWI= 256,", "YWI=,256", "Y= 256", "YWJjZ 256", "YWI= \"256\"", "YWI= 256\tx", "Y.I= 256", "Y:I= 256", "Y;I= 256"})
        bads.push_back({good + line + "\n", "line 257: expected base64 and a rank"});
    for (int id : {0, 1, 7, 100, 254, 255}) bads.push_back({good + format("YWI= %d\n", id), format("the rank %d comes twice", id)});
    for (int id : {262144, 300000, 16777215, INT32_MAX}) bads.push_back({good + format("YWI= %d\n", id), format("the rank %d", id)});
    bads.push_back({good + "YWI= 50256\n", "the rank 50256 is taken"});
    for (int b = 0; b < 16; b++) {
        std::string without = good;
        const size_t at = b == 0 ? 0 : without.find(format(" %d\n", b - 1)) + format(" %d\n", b - 1).size();
        bads.push_back({without.erase(at, without.find('\n', at) + 1 - at), format("no token for the byte %d", b)});
    }
    check("gpt2.tiktoken", good, bads, load_tokenizer);
}

TEST(bad_gpt2_files) {
    const std::string bytes = bytes_vocabulary();
    put("encoder.json", "{" + bytes + "\"ab\":256,\"abc\":258,\"<|endoftext|>\":257}");
    Bads bads;
    const std::string good = "#version: 0.2\na b\nab c\n";
    for (const char* line : {"a", "a ", " a", "a  b", "a b c", "a b ", " a b", "ab", "a\tb", "x y", "a z", "z a", "aa b", "b a", "abc a", "a abc", "ab ab", "abc abc", "\xff \xfe", "a \xff", "#version: 0.2", "# x", "\xc4\xa0 a", "\xc4\xa0 \xc4\xa0", "a \xe4\xbd\xa0", "0 1",
                             "1 0", "! !", "<|endoftext|> a", "a <|endoftext|>", "{ }", "\"a\" \"b\"", "c c", "d d", "e e", "f f", "g g", "h h", "i i", "j j", "k k", "l l", "m m", "n n", "o o", "p p", "q q", "r r", "s s", "t t", "u u", "v v", "w w", "x x", "y y", "z z",
                             "A A", "B B", "C C", "D D"})
        bads.push_back({good + line + "\n", "line 4: the merge"});
    for (int line : {2, 3, 9}) bads.push_back({"#version: 0.2\n" + std::string((size_t)line - 2, '\n') + "q r\n", format("line %d", line)});
    check("vocab.bpe", good, bads, load_tokenizer);
}

TEST(bad_bin_tokenizers) {
    std::string tokens;
    for (int b = 0; b < 256; b++) tokens += std::string(1, 1) + (char)b;
    const std::string good = words({20240328, 2, 257, 256}) + tokens + std::string(1, 0);
    Bads bads;
    for (int magic : {0, 1, -1, 20240327, 20240520}) bads.push_back({words({magic, 2, 257, 256}) + tokens + std::string(1, 0), format("starts with %d", magic)});
    for (int version : {0, 3, -1, INT32_MAX}) bads.push_back({words({20240328, version, 257, 256}) + tokens + std::string(1, 0), format("version %d", version)});
    for (int size : {0, -1, 1 << 24, INT32_MAX, 256}) bads.push_back({words({20240328, 2, size, 256}) + tokens + std::string(1, 0), format("%d tokens, end of text 256", size)});
    for (int eot : {-1, 257, INT32_MAX}) bads.push_back({words({20240328, 2, 257, eot}) + tokens + std::string(1, 0), format("257 tokens, end of text %d", eot)});
    for (int size : {258, 300, 1000, 1 << 23}) bads.push_back({words({20240328, 2, size, 256}) + tokens + std::string(1, 0), format("ends inside token 257 of %d", size)});
    for (size_t n : {0, 1, 100, 1000, 1023}) bads.push_back({good.substr(0, n), format("%zu bytes, the header alone is 1024", n)});
    for (size_t id = 0; id < 257; id += 10) bads.push_back({good.substr(0, 1024 + 2 * id), format("ends inside token %zu of 257", id)});
    for (size_t n = 1; n < 6; n++) bads.push_back({good + std::string(n, 'x'), format("%zu bytes after the last token", n)});
    for (int b : {0, 9, 65, 200, 255}) {
        std::string doubled = good;
        doubled[1024 + 2 * (size_t)b + 1] = (char)(b == 1 ? 2 : 1);
        bads.push_back({doubled, format("no token for the byte %d", b)});
    }
    check("tok.bin", good, bads, load_tokenizer);
}

TEST(bad_manifests) {
    using namespace checkpoint_detail;
    const std::string a = "hello", b = "world!";
    put("a.json", a), put("b.bin", b);
    const ManifestLine line_a = {"a.json", {a.size(), xxh64(a.data(), a.size())}}, line_b = {"b.bin", {b.size(), xxh64(b.data(), b.size())}};
    const std::string good = manifest_text({line_a, line_b}), first = manifest_line("a.json", line_a.sum);
    const auto signed_by = [](const std::string& lines) { return lines + manifest_line("MANIFEST", {lines.size(), xxh64(lines.data(), lines.size())}); };
    Bads bads;
    for (const char* name : {"../a.json", "/a.json", ".a.json", "a b", "a/b", "", "a\xff", "a%s", "a:b", "a*", "-", "~", "a,b", "a=b", "a;b", "a\\b", "a'b", "a(b", "a[b", "a{b"})
        if (*name != '-') bads.push_back({signed_by(first + manifest_line(name, line_b.sum)), "line 2 is"});
    for (const char* line : {"\n", "x\n", "b.bin\n", "b.bin 6\n", "b.bin x 0123456789abcdef\n", "b.bin -6 0123456789abcdef\n", "b.bin 6 x\n", "b.bin 6 0123456789ABCDEF\n", "b.bin 6 123456789abcdef\n", "b.bin 06 0123456789abcdef\n", "b.bin  6 0123456789abcdef\n",
                             "b.bin 6 0123456789abcdef \n", " b.bin 6 0123456789abcdef\n", "b.bin 6 0123456789abcdef0\n", "b.bin\t6 0123456789abcdef\n", "b.bin 6 0123456789abcdef\r\n", "b.bin +6 0123456789abcdef\n", "b.bin 6.0 0123456789abcdef\n",
                             "b.bin 0x6 0123456789abcdef\n", "b.bin 99999999999999999999 0123456789abcdef\n", "b.bin 6,0123456789abcdef\n", "6 b.bin 0123456789abcdef\n", "b.bin 6 0x23456789abcdef\n", "b.bin 6 -123456789abcdef\n"})
        bads.push_back({signed_by(first + line), "line 2 is"});
    bads.push_back({"", "the last line is missing"}), bads.push_back({good.substr(0, good.size() - 1), "line 3 is"}), bads.push_back({good + "x", "line 4 is \"x\""}), bads.push_back({signed_by(first + first), "a.json is listed twice"});
    bads.push_back({first + manifest_line("b.bin", line_b.sum) + manifest_line("MANIFEST", {1, 1}), "the lines do not have the checksum"});
    for (uint64_t n : {(uint64_t)0, (uint64_t)5, (uint64_t)7, (uint64_t)1000, UINT64_MAX}) bads.push_back({manifest_text({line_a, {"b.bin", {n, line_b.sum.checksum}}}), "b.bin: holds 6 bytes, expected"});
    for (uint64_t sum : {(uint64_t)0, (uint64_t)1, UINT64_MAX, line_b.sum.checksum + 1}) bads.push_back({manifest_text({line_a, {"b.bin", {6, sum}}}), "b.bin: has the checksum"});
    for (const char* name : {"c.json", "model.safetensors", "state-00000.safetensors", "x", "A"}) bads.push_back({manifest_text({line_a, {name, line_b.sum}}), std::string(name) + ": No such file"});
    for (size_t n : {1, 5, 10, 20}) bads.push_back({good.substr(0, n), "line 1 is"});
    check("MANIFEST", good, bads, [](const std::string& path) {
        const std::string wrong = verify_checkpoint(parent_folder(path));
        CHECK(wrong.empty(), "%s: %s", parent_folder(path).c_str(), wrong.c_str());
    });
}
