// The files that a tokenizer comes from and goes to, and whether two tokenizers are one.
#include "../../llmc/tokenizer/compare.h"
#include "tokenizer_test.h"

namespace {
const std::string SCRATCH = "build/tmp/tokenizer_files";
}

// ---- files ---------------------------------------------------------------------------------------------------------

TEST(json_round_trip) {
    std::string text = random_text(7, 4000);
    for (SplitPattern p : PATTERNS) {
        Tokenizer t = trained(p, 500, text), again = Tokenizer::load(scratch("t.json", t.to_json()));
        EXPECT(again.fingerprint() == t.fingerprint());
        EXPECT(again.pattern() == p);
        EXPECT(again.encode(text) == t.encode(text));
        EXPECT_STR(again.to_json(), t.to_json());
    }
    Tokenizer bytes = Tokenizer::bytes();
    EXPECT(Tokenizer::load(scratch("t.json", bytes.to_json())).fingerprint() == bytes.fingerprint());
}

namespace {
std::string replaced(std::string text, const std::string& from, const std::string& to) {
    size_t at = text.find(from);
    if (at == text.npos) FAIL("the text has no %s", from.c_str());
    else text.replace(at, from.size(), to);
    return text;
}
std::string base64(std::string_view bytes) {
    const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t bits = 0;
        for (size_t j = 0; j < 3; j++) bits = bits << 8 | (i + j < bytes.size() ? (unsigned char)bytes[i + j] : 0);
        for (size_t j = 0; j < 4; j++) out += i + j > bytes.size() ? '=' : digits[bits >> (18 - 6 * j) & 63];
    }
    return out;
}
std::string rank_file(const Tokenizer& t) {
    std::string out;
    for (int id = 0; id + 1 < t.vocab_size(); id++) out += base64(t.token_bytes(id)) + " " + std::to_string(id) + "\n";
    return out;
}
}

TEST(json_errors) {
    Tokenizer t = trained(SplitPattern::LLAMA3, 300, random_text(8, 1000));
    std::string json = t.to_json();
    auto load = [](const std::string& text) { Tokenizer::load(scratch("bad.json", text)); };
    EXPECT_DIES("bad.json: line 1", load("{"));
    EXPECT_DIES("\"model\" is missing", load("{}"));
    EXPECT_DIES("only BPE", load(replaced(json, "\"type\":\"BPE\"", "\"type\":\"Unigram\"")));
    EXPECT_DIES("normalizer", load(replaced(json, "\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}")));
    EXPECT_DIES("the split pattern", load(replaced(json, "{1,3}", "{1,2}")));
    EXPECT_DIES("Isolated", load(replaced(json, "Isolated", "Removed")));
    EXPECT_DIES("pre_tokenizer is not one of those", load(replaced(json, "\"type\":\"Sequence\"", "\"type\":\"Whitespace\"")));
    EXPECT_DIES("add_prefix_space", load(replaced(json, "\"add_prefix_space\":false", "\"add_prefix_space\":true")));
    EXPECT_DIES("lstrip", load(replaced(json, "\"lstrip\":false", "\"lstrip\":true")));
    EXPECT_DIES("model.dropout", load(replaced(json, "\"dropout\":null", "\"dropout\":0.1")));
    EXPECT_DIES("two tokens have the id 1", load(replaced(json, "\"!\":0,", "\"!\":1,")));
    EXPECT_DIES("no token for the byte 33", load(replaced(json, "\"!\":0,", "")));
    EXPECT_DIES("not written in GPT-2's byte characters", load(replaced(json, "\"!\":0", "\"\u4f60\":0")));
    EXPECT_DIES("from 0 to", load(replaced(json, "\"!\":0", "\"!\":-1")));
    EXPECT_DIES("merge 0: the merge of", load(replaced(json, "\"merges\":[", "\"merges\":[[\"!\",\"!\"],")));
    EXPECT_DIES("merge 0", load(replaced(json, "\"merges\":[", "\"merges\":[[\"!\"],")));
    EXPECT_DIES("merge 0", load(replaced(json, "\"merges\":[", "\"merges\":[\"!!\",")));
    EXPECT_DIES("two added tokens have the id", load(replaced(json, "\"added_tokens\":[", "\"added_tokens\":[{\"id\":299,\"content\":\"z\",\"special\":true},")));
    EXPECT_DIES("absent.json", Tokenizer::load(SCRATCH + "/absent.json"));
    EXPECT_DIES("no tokenizer.json", Tokenizer::load("test"));
}

TEST(gpt2_files) {
    Tokenizer t = trained(SplitPattern::GPT2, 300, random_text(8, 1000));
    Json json = json_parse(t.to_json(), "t");
    std::string merges = "#version: 0.2\n";
    for (const Json& m : json.find("model")->find("merges")->items) merges += m.items[0].as_string("") + " " + m.items[1].as_string("") + "\r\n";
    remove_tree(SCRATCH + "/folder");
    make_folders(SCRATCH + "/folder");
    scratch("folder/vocab.json", json_dump(*json.find("model")->find("vocab")));
    scratch("folder/merges.txt", merges);
    EXPECT(Tokenizer::load(SCRATCH + "/folder").fingerprint() == t.fingerprint());
    scratch("folder/merges.txt", merges + "a\n");
    EXPECT_DIES("folder/merges.txt: line 45: the merge \"a\" is not two tokens", Tokenizer::load(SCRATCH + "/folder"));
    scratch("folder/merges.txt", merges + "! !\n");
    EXPECT_DIES("is not in the vocabulary", Tokenizer::load(SCRATCH + "/folder/merges.txt"));
    unlink((SCRATCH + "/folder/vocab.json").c_str());
    EXPECT_DIES("vocab.json", Tokenizer::load(SCRATCH + "/folder"));
}

TEST(rank_files) {
    std::string text = random_text(9, 4000);
    Tokenizer t = trained(SplitPattern::CL100K, 500, text);
    Tokenizer ranks = Tokenizer::load(scratch("my_cl100k.tiktoken", rank_file(t)));
    EXPECT(ranks.pattern() == SplitPattern::CL100K);
    EXPECT_EQ(ranks.vocab_size(), 100277);
    EXPECT_EQ(ranks.eot(), 100257);
    EXPECT(ranks.encode("<|endofprompt|>", true) == std::vector<int>{100276});
    EXPECT(ranks.decode(ranks.encode(text)) == text);
    // a piece that is a token is that token, also where no merges lead to it
    Tokenizer odd = Tokenizer::load(scratch("gpt2.tiktoken", rank_file(Tokenizer::train({}, 257, SplitPattern::GPT2)) + base64("xyz") + " 256\n"));
    EXPECT(odd.encode("xyz") == std::vector<int>{256});
    EXPECT_EQ(odd.encode("xyzx").size(), (size_t)4);
    Tokenizer llama = Tokenizer::load(scratch("llama3.model", rank_file(t)));
    EXPECT(llama.pattern() == SplitPattern::LLAMA3 && llama.eot() == 128000 && llama.vocab_size() == 128256);
    EXPECT(llama.encode("<|end_of_text|><|start_header_id|><|eot_id|><|reserved_special_token_250|>", true) ==
           (std::vector<int>{128001, 128006, 128009, 128255}));
    // through tokenizer.json and back
    EXPECT(Tokenizer::load(scratch("ranks.json", ranks.to_json())).encode(text) == ranks.encode(text));

    auto load = [](const std::string& content) { Tokenizer::load(scratch("cl100k.bad", content)); };
    EXPECT_DIES("neither the name nor the number", Tokenizer::load(scratch("unknown", rank_file(t))));
    EXPECT_DIES("cl100k.bad: line 1: expected base64 and a rank", load("hello\n"));
    EXPECT_DIES("line 1: expected base64 and a rank", load("IQ== x\n"));
    EXPECT_DIES("line 1: expected base64 and a rank", load("I*== 0\n"));
    EXPECT_DIES("line 1: expected base64 and a rank", load("IQ== 99999999999\n"));
    EXPECT_DIES("line 2: the rank 0 comes twice", load("IQ== 0\nIg== 0\n"));
    EXPECT_DIES("no token for the byte", load("IQ== 0\n"));
    EXPECT_DIES("the rank 100257 is taken", load(rank_file(t) + base64("xyz") + " 100257\n"));
}

TEST(older_bin_files) {
    std::string text = random_text(10, 1000);
    Tokenizer t = trained(SplitPattern::GPT2, 300, text);
    int32_t header[256] = {20240328, 2, 300, 299};
    std::string file((const char*)header, sizeof header);
    for (int id = 0; id < 300; id++) file += (char)t.token_bytes(id).size(), file += t.token_bytes(id);
    Tokenizer bin = Tokenizer::load(scratch("t.bin", file));
    EXPECT(bin.encode(text) == t.encode(text));
    EXPECT_EQ(bin.eot(), 299);
    EXPECT_STR(bin.decode({299}), "<|endoftext|>");
    EXPECT_DIES("ends inside token 299", Tokenizer::load(scratch("t.bin", file.substr(0, file.size() - 1))));
    EXPECT_DIES("1 bytes after the last token", Tokenizer::load(scratch("t.bin", file + "x")));
    EXPECT_DIES("truncated?", Tokenizer::load(scratch("t.bin", file.substr(0, 1000))));
    EXPECT_DIES("starts with 0", Tokenizer::load(scratch("t.bin", std::string(2000, '\0'))));
}

// What models' tokenizer.json say beside tokens and merges.
TEST(json_normalizers_and_digits) {
    Tokenizer t = trained(SplitPattern::GPT2, 300, random_text(8, 1000));
    const std::string json = t.to_json(), none = "\"normalizer\":null", byte_level = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}";
    auto load = [](const std::string& text) { return Tokenizer::load(scratch("options.json", text)); };
    for (const char* same : {"\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]}", "\"other\":1"})
        EXPECT(load(replaced(json, none, same)).fingerprint() == t.fingerprint());
    EXPECT(load(replaced(json, "\"dropout\":null", "\"dropout\":0.0")).fingerprint() == t.fingerprint());
    EXPECT(load(replaced(json, "\"dropout\":null", "\"dropout\":0")).fingerprint() == t.fingerprint());
    EXPECT_DIES("\"Lowercase\", only NFC or none", load(replaced(json, none, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]}")));

    for (const char* written : {"{\"type\":\"NFC\"}", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}"}) {
        Tokenizer nfc = load(replaced(json, none, std::string("\"normalizer\":") + written));
        EXPECT(nfc.encode("cafe\u0301 q\xff") == t.encode("caf\u00e9 q\xff") && nfc.encode("cafe\u0301") != t.encode("cafe\u0301"));
        EXPECT(nfc.fingerprint() != t.fingerprint() && load(nfc.to_json()).fingerprint() == nfc.fingerprint());
    }
    for (bool each : {true, false}) {
        std::string digits = std::string("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":") + (each ? "true" : "false") + "}," + byte_level + "]}";
        Tokenizer d = load(replaced(json, byte_level, digits));
        EXPECT(d.vocabulary().digits == (each ? DigitSplit::EACH : DigitSplit::RUNS) && load(d.to_json()).fingerprint() == d.fingerprint());
    }
    using List = std::vector<std::string>;
    auto digit_pieces = [](SplitPattern pattern, DigitSplit digits, std::string_view text) {
        List out;
        std::string_view piece;
        for (Splitter splitter(pattern, text, digits); splitter.next(piece);) out.emplace_back(piece);
        return out;
    };
    EXPECT(digit_pieces(SplitPattern::GPT2, DigitSplit::EACH, "12 a  34b\xd9\xa1 ") == (List{"1", "2", " a", "  ", "3", "4", "b", "\xd9\xa1", " "}));
    EXPECT(digit_pieces(SplitPattern::GPT2, DigitSplit::RUNS, "12 a  34b") == (List{"12", " a", "  ", "34", "b"}));
    EXPECT(digit_pieces(SplitPattern::LLAMA3, DigitSplit::RUNS, "1234!5") == (List{"1234", "!", "5"}));
    EXPECT(digit_pieces(SplitPattern::GPT2, DigitSplit::EACH, "") == List{});
    EXPECT(pieces(SplitPattern::QWEN2, "a 1234 b") == (List{"a", " ", "1", "2", "3", "4", " b"}));
    EXPECT(pieces(SplitPattern::NANOCHAT, "a 12345 b") == (List{"a", " ", "12", "34", "5", " b"}));
}

// ---- are two tokenizers one? ---------------------------------------------------------------------------------------

TEST(tokenizer_differences) {
    std::string text = random_text(9, 4000);
    Tokenizer t = trained(SplitPattern::GPT2, 400, text);
    const std::string json = t.to_json();
    auto difference = [&](const std::string& other) { return tokenizer_difference(t, Tokenizer::load(scratch("other.json", other))); };
    auto differs = [&](const std::string& from, const std::string& to, const char* says) {
        std::string d = difference(replaced(json, from, to));
        if (d.empty() || d.find(says) == d.npos) FAIL("%s -> %s: said \"%s\", expected \"%s\"", from.c_str(), to.c_str(), d.c_str(), says);
    };
    EXPECT_STR(difference(json), "");
    differs("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", "NFC");
    differs("\"special\":true", "\"special\":false", "is special in one of them");
    differs("\"ignore_merges\":false", "\"ignore_merges\":true", "ignore_merges");
    // as many tokens, two of them changed round: all else is the same
    Json parsed = json_parse(json, "t");
    const Json& vocab = *parsed.find("model")->find("vocab");
    std::string a = json_quote(vocab.items[300].key), b = json_quote(vocab.items[301].key), first = a + ":300", second = b + ":301";
    EXPECT(!difference(replaced(replaced(json, first, a + ":301"), second, b + ":300")).empty());
    // the same tokens, but merges in another order
    Vocabulary v = t.vocabulary();
    std::swap(v.merges[10], v.merges[11]);
    EXPECT(difference(vocabulary_to_json(v)).starts_with("merge 10 is "));
    v = t.vocabulary(), v.pattern = SplitPattern::LLAMA3;
    EXPECT_STR(difference(vocabulary_to_json(v)), "text is split by gpt2, there by llama3");
    v = t.vocabulary(), v.digits = DigitSplit::EACH;
    EXPECT_STR(difference(vocabulary_to_json(v)), "text is split by gpt2, there by gpt2 and digits");
    v = t.vocabulary(), v.added[0].text = "<|other|>";
    EXPECT_STR(difference(vocabulary_to_json(v)), "token 399 is \"<|endoftext|>\", there \"<|other|>\"");
    v = t.vocabulary(), v.merges.pop_back();
    EXPECT_STR(difference(vocabulary_to_json(v)), "143 merges, there 142");
    EXPECT_STR(tokenizer_difference(t, Tokenizer::bytes()), "400 tokens, there 257");
    EXPECT(tokenizer_difference(trained(SplitPattern::GPT2, 257, ""), Tokenizer::bytes()).starts_with("token 0 is \"!\", there"));
    // one tokenizer in other files: added tokens in another order; a rank file, which has every pair that makes a token
    v = t.vocabulary(), v.added.push_back({"<|im_end|>", 401, true}), v.added.push_back({"<|im_start|>", 400, true});
    Tokenizer some = Tokenizer::load(scratch("some.json", vocabulary_to_json(v)));
    std::swap(v.added[1], v.added[2]);
    EXPECT_STR(tokenizer_difference(some, Tokenizer::load(scratch("other.json", vocabulary_to_json(v)))), "");
    if (!exists(gpt2_folder() + "/vocab.bpe")) SKIP("%s is absent: GPT-2's files and its rank file were not compared", gpt2_folder().c_str());
    Tokenizer gpt2 = Tokenizer::load(gpt2_folder()), ranks = Tokenizer::load(scratch("gpt2.tiktoken", rank_file(gpt2)));
    EXPECT(gpt2.fingerprint() != ranks.fingerprint());
    EXPECT_STR(tokenizer_difference(gpt2, ranks), "");
    EXPECT_STR(tokenizer_difference(ranks, gpt2), "");
    EXPECT_STR(tokenizer_difference(Tokenizer::load(scratch("again.json", ranks.to_json())), gpt2), "");
}

TEST(special_tokens_are_counted) {
    Vocabulary v = Tokenizer::bytes().vocabulary();
    v.added = {{"<|endoftext|>", 256, true}, {"<|im|>", 257, true}, {"<tool>", 258, false}};
    Tokenizer t = Tokenizer::load(scratch("special.json", vocabulary_to_json(v)));
    std::string first;
    EXPECT_EQ(t.count_specials("a<|im|><|im|<tool><|endoftext|>", &first), (size_t)2);
    EXPECT_STR(first, "<|im|>");
    EXPECT_EQ(t.count_specials("<tool>"), (size_t)0);
    EXPECT(t.encode("<tool><|im|>", true) == (std::vector<int>{258, 257}) && t.encode("<tool><|im|>").size() == 7);
    EXPECT(t.has_other_specials() && !Tokenizer::bytes().has_other_specials());
}
