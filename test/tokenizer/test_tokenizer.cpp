// Splitting, byte pair encoding, learning, and the files a tokenizer comes from and goes to.
#include <map>
#include <thread>
#include "../../llmc/base/rng.h"
#include "../../llmc/tokenizer/tokenizer.h"
#include "../test.h"

namespace {
const SplitPattern PATTERNS[] = {SplitPattern::GPT2, SplitPattern::LLAMA3, SplitPattern::CL100K, SplitPattern::O200K};

std::string scratch(const std::string& name, const std::string& text) {
    make_folders("build/tmp/tokenizer");
    write_file_atomically("build/tmp/tokenizer/" + name, text);
    return "build/tmp/tokenizer/" + name;
}
std::string gpt2_folder() {
    const char* set = getenv("LLMC_TEST_DATA");
    return (set ? std::string(set) : "../shared/data") + "/gpt2";
}
bool exists(const std::string& path) { return access(path.c_str(), R_OK) == 0; }
std::vector<std::string> pieces(SplitPattern pattern, std::string_view text) {
    std::vector<std::string> out;
    std::string_view piece;
    for (Splitter splitter(pattern, text); splitter.next(piece);) out.emplace_back(piece);
    return out;
}
uint32_t random_word(uint32_t step, uint64_t i) { return philox(11, RNG_TEST, step, i).x[0]; }
// Text of few different words, so that there is something to learn, with white space, digits, other scripts and bytes that
// are no UTF-8
std::string random_text(uint32_t seed, size_t words) {
    const char* parts[] = {"the", " the", " there", " hat", " that", "'s", "THE", " 1234567", "\n\n", "  ", "\t", "!?", " caf\xc3\xa9", "\xe4\xbd\xa0\xe5\xa5\xbd",
                           "\xff\xfe", "\xc3", "aaaa", "aaaaa", " \xf0\x9f\x98\x80", "\xcc\x81", "banana", " bandana", "/", "\r\n", "\xf0\x9f\x98"};
    std::string text;
    for (size_t i = 0; i < words; i++) text += parts[random_word(seed, i) % (sizeof parts / sizeof *parts)];
    return text;
}
Tokenizer trained(SplitPattern pattern, int size, const std::string& text) {
    PieceCounts counts;
    counts.add_text(text, pattern);
    return Tokenizer::train(counts, size, pattern);
}
std::string hexadecimal(std::string_view digits) {
    std::string bytes;
    for (size_t i = 0; i + 1 < digits.size(); i += 2) bytes += (char)strtol(std::string(digits.substr(i, 2)).c_str(), nullptr, 16);
    return bytes;
}
}

// ---- splitting -----------------------------------------------------------------------------------------------------

TEST(utf8_decoding) {
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string s;
        json_detail::append_utf8(s, c);
        const unsigned char* p = (const unsigned char*)s.data();
        Character got = decode_utf8(p, p + s.size());
        EXPECT(got.code == c && got.bytes == s.size());
        if (s.size() > 1) EXPECT(decode_utf8(p, p + s.size() - 1).bytes == 1);
    }
    // what is no UTF-8 is one byte: lone continuation, overlong, surrogate, beyond, bytes that never occur, bad continuation
    for (const char* bad : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
                            "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3\x28", "\xe2\x82\x28", "\xf0\x9f\x98\x28"}) {
        const unsigned char* p = (const unsigned char*)bad;
        Character got = decode_utf8(p, p + strlen(bad));
        EXPECT(got.code == INVALID && got.bytes == 1);
    }
}

TEST(unicode_classes) {
    std::map<int, int> count;
    for (uint32_t c = 0; c < 0x110000; c++) count[unicode_classes()[c]]++;
    // numbers of code points in Unicode 16.0: L = 141028, N = 1911, M = 2501, White_Space = 25; Ll = 2258, Lu + Lt = 1858 + 31
    EXPECT_EQ(count[U_UPPER] + count[U_LOWER] + count[U_LETTER], 141028);
    EXPECT_EQ(count[U_NUMBER], 1911);
    EXPECT_EQ(count[U_MARK], 2501);
    EXPECT_EQ(count[U_SPACE], 25);
    EXPECT_EQ(count[U_LOWER], 2258);
    EXPECT_EQ(count[U_UPPER], 1889);
    EXPECT(unicode_classes()[0x1C] == U_OTHER && unicode_classes()[0x85] == U_SPACE && unicode_classes()[0x200B] == U_OTHER);
}

TEST(split_examples) {
    using List = std::vector<std::string>;
    EXPECT(pieces(SplitPattern::GPT2, "I'm he'LL  go\n\n x1234! ") == (List{"I", "'m", " he", "'", "LL", " ", " go", "\n\n", " x", "1234", "!", " "}));
    EXPECT(pieces(SplitPattern::LLAMA3, "I'm he'LL  go\n\n x1234! ") == (List{"I", "'m", " he", "'LL", " ", " go", "\n\n", " x", "123", "4", "!", " "}));
    EXPECT(pieces(SplitPattern::LLAMA3, "a \n  ") == (List{"a", " \n", "  "}));
    EXPECT(pieces(SplitPattern::CL100K, "a \n  ") == (List{"a", " \n  "}));
    EXPECT(pieces(SplitPattern::O200K, "camelCaseHTTP'S x/\n/") == (List{"camel", "Case", "HTTP'S", " x", "/\n/"}));
    EXPECT(pieces(SplitPattern::LLAMA3, "it'\xc5\xbf") == (List{"it", "'\xc5\xbf"}));
    EXPECT(pieces(SplitPattern::GPT2, "") == List{});
}

TEST(golden_cases) {
    std::string golden = read_file("test/golden/tokenizer.txt"), line;
    bool have_gpt2 = exists(gpt2_folder() + "/vocab.bpe");
    Tokenizer gpt2 = have_gpt2 ? Tokenizer::load(gpt2_folder()) : Tokenizer::bytes();
    std::map<std::string, int> cases;
    for (size_t begin = 0, end; begin < golden.size(); begin = end + 1) {
        end = golden.find('\n', begin);
        line = golden.substr(begin, end - begin);
        if (line[0] == '#') continue;
        size_t first = line.find(' '), second = line.find(' ', first + 1);
        std::string name = line.substr(0, first), text = hexadecimal(line.substr(first + 1, second - first - 1));
        std::vector<int> expected, got;
        for (const char* p = line.c_str() + second; *p;) expected.push_back((int)strtol(p, const_cast<char**>(&p), 10));
        if (name == "gpt2" && !have_gpt2) continue;
        if (name == "gpt2") got = gpt2.encode(text);
        else for (const NamedPattern& p : SPLIT_PATTERNS)
            if (name == p.name && got.empty()) for (const std::string& piece : pieces(p.pattern, text)) got.push_back((int)piece.size());
        if (got != expected) FAIL("%s", line.c_str());
        cases[name]++;
    }
    EXPECT(cases["llama3"] > 300 && cases["cl100k"] > 300 && cases["o200k"] > 300);
    if (!have_gpt2) SKIP("%s is absent: GPT-2's ids were not compared, the other patterns were", gpt2_folder().c_str());
    EXPECT(cases["gpt2"] > 300);
}

// ---- encoding ------------------------------------------------------------------------------------------------------

namespace {
// The definition: over and over look at all pairs, and merge the leftmost of the lowest rank.
std::vector<int> naive_encode(const Tokenizer& tokenizer, const Vocabulary& v, std::string_view piece) {
    std::vector<int> ids;
    for (char c : piece) ids.push_back(tokenizer.encode(std::string_view(&c, 1))[0]);
    for (;;) {
        const Merge* best = nullptr;
        size_t at = 0;
        for (size_t i = 0; i + 1 < ids.size(); i++)
            for (const Merge& m : v.merges)
                if (m.left == ids[i] && m.right == ids[i + 1] && (!best || m.rank < best->rank)) best = &m, at = i;
        if (!best) return ids;
        ids[at] = best->id;
        ids.erase(ids.begin() + (long)at + 1);
    }
}
}

TEST(short_and_long_pieces_against_the_definition) {
    PieceCounts counts;
    counts.add_text(random_text(1, 3000), SplitPattern::GPT2);
    Vocabulary v = BpeTrainer::train(counts, 340, SplitPattern::GPT2);
    Tokenizer tokenizer = Tokenizer::train(counts, 340, SplitPattern::GPT2);
    Bpe bpe(v);
    for (uint32_t trial = 0; trial < 150; trial++) {
        std::string piece = random_text(100 + trial, 30).substr(0, 1 + trial % 7 + (trial % 3) * Bpe::SHORT / 2);
        if (trial % 10 == 0) piece = std::string(Bpe::SHORT - 1 + (size_t)trial / 40, 'a');  // around the length where the way changes
        std::vector<int> got;
        bpe.encode_piece(piece, got);
        EXPECT(got == naive_encode(tokenizer, v, piece));
    }
}

TEST(any_bytes_come_back) {
    std::vector<Tokenizer> all = {Tokenizer::bytes()};
    for (SplitPattern p : PATTERNS) all.push_back(trained(p, 600, random_text(2, 5000)));
    for (const Tokenizer& tokenizer : all) {
        EXPECT(tokenizer.encode("").empty());
        for (uint32_t trial = 0; trial < 200; trial++) {
            std::string text = random_text(trial, trial % 50);
            for (size_t i = 0; i < trial % 40; i++) text += (char)random_word(trial, 1000 + i);
            EXPECT(tokenizer.decode(tokenizer.encode(text)) == text);
            std::vector<std::string> parts = pieces(tokenizer.pattern(), text);
            std::string joined;
            for (const std::string& part : parts) {
                EXPECT(!part.empty());
                joined += part;
            }
            EXPECT(joined == text);
        }
    }
}

TEST(long_runs_take_no_time) {  // with quadratic work these would take minutes
    for (SplitPattern p : PATTERNS) {
        Tokenizer tokenizer = trained(p, 400, random_text(3, 5000));
        for (const char* unit : {"a", "A", "7", " ", "\n", "!", "\xe4\xbd\xa0", "\xcc\x81", "\xff", "aA", " a", "\n "}) {
            std::string text;
            while (text.size() < 100000) text += unit;
            EXPECT(tokenizer.decode(tokenizer.encode(text)) == text);
        }
    }
}

TEST(byte_tokenizer) {
    Tokenizer t = Tokenizer::bytes();
    EXPECT_EQ(t.vocab_size(), 257);
    EXPECT_EQ(t.eot(), 256);
    EXPECT(t.encode("a\xff") == (std::vector<int>{97, 255}));
    std::vector<int> lengths = t.byte_lengths();
    EXPECT(lengths.size() == 257 && lengths[0] == 1 && lengths[255] == 1 && lengths[256] == 0);
    EXPECT(t.token_bytes(257).empty() && t.token_bytes(-1).empty());
}

TEST(special_tokens) {
    std::string json = Tokenizer::bytes().to_json();
    std::string more = "{\"id\":300,\"content\":\"<|x|>\",\"special\":true},{\"id\":301,\"content\":\"<|x|><|y|>\",\"special\":true},"
                       "{\"id\":302,\"content\":\"    \",\"special\":false},";
    json.insert(json.find("[") + 1, more);
    Tokenizer t = Tokenizer::load(scratch("special.json", json));
    EXPECT_EQ(t.vocab_size(), 303);
    EXPECT_EQ(t.eot(), 256);
    using Ids = std::vector<int>;
    EXPECT(t.encode("a<|x|>b<|endoftext|>", true) == (Ids{'a', 300, 'b', 256}));
    EXPECT(t.encode("<|x|><|y|><|x|><|x", true) == (Ids{301, 300, '<', '|', 'x'}));  // the longest
    EXPECT_EQ(t.encode("<|x|>", false).size(), (size_t)5);
    EXPECT(t.encode("a     b", false) == (Ids{'a', 302, ' ', 'b'}));  // added, but not special
    EXPECT_STR(t.decode({300, 302, 256, 299, 'a'}), "<|x|>    <|endoftext|>a");
    EXPECT(t.is_special(300) && !t.is_special(302) && !t.is_special('a') && !t.is_special(-5));
    EXPECT(t.byte_lengths()[302] == 4 && t.byte_lengths()[300] == 0 && t.byte_lengths()[299] == 0);
}

TEST(threads_share_a_tokenizer) {
    std::string text = random_text(4, 20000);
    Tokenizer a = trained(SplitPattern::GPT2, 500, text), b = trained(SplitPattern::O200K, 700, text);
    std::vector<int> ids_a = a.encode(text), ids_b = b.encode(text);
    bool same[4] = {};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] { same[i] = a.encode(text) == ids_a && b.encode(text) == ids_b && a.encode(text) == ids_a; });
    for (std::thread& t : threads) t.join();
    EXPECT(same[0] && same[1] && same[2] && same[3]);
}

TEST(gpt2_ids) {
    if (!exists(gpt2_folder() + "/vocab.bpe")) SKIP("%s is absent", gpt2_folder().c_str());
    Tokenizer t = Tokenizer::load(gpt2_folder());
    EXPECT_EQ(t.vocab_size(), 50257);
    EXPECT_EQ(t.eot(), 50256);
    EXPECT(t.encode("Hello world!<|endoftext|>", true) == (std::vector<int>{15496, 995, 0, 50256}));
    EXPECT_EQ(t.encode("<|endoftext|>").size(), (size_t)7);
    Tokenizer again = Tokenizer::load(scratch("gpt2.json", t.to_json()));
    EXPECT(again.fingerprint() == t.fingerprint());
    EXPECT(Tokenizer::load(gpt2_folder() + "/encoder.json").fingerprint() == t.fingerprint());
}

// ---- learning ------------------------------------------------------------------------------------------------------

namespace {
// The definition: count all pairs anew for each merge. Ties: the smaller pair of ids.
std::vector<std::pair<int, int>> naive_train(const PieceCounts& counts, const Tokenizer& alphabet, int merges, uint64_t min_count) {
    std::vector<std::pair<std::vector<int>, uint64_t>> words;
    counts.each([&](std::string_view piece, uint64_t count) { words.push_back({alphabet.encode(piece), count}); });
    std::map<std::string, int> ids;
    std::vector<std::string> tokens;
    for (int id = 0; id < 256; id++) tokens.emplace_back(alphabet.token_bytes(id)), ids[tokens.back()] = id;
    std::vector<std::pair<int, int>> out;
    while ((int)tokens.size() < 256 + merges) {
        std::map<std::pair<int, int>, uint64_t> pairs;
        for (auto& [word, count] : words)
            for (size_t i = 0; i + 1 < word.size(); i++) pairs[{word[i], word[i + 1]}] += count;
        std::pair<int, int> best;
        uint64_t most = 0;
        for (auto& [pair, count] : pairs) if (count > most) best = pair, most = count;
        if (most < min_count) break;
        out.push_back(best);
        std::string bytes = tokens[(size_t)best.first] + tokens[(size_t)best.second];
        if (!ids.count(bytes)) ids[bytes] = (int)tokens.size(), tokens.push_back(bytes);
        for (auto& [word, count] : words) {
            std::vector<int> merged;
            for (size_t i = 0; i < word.size(); i++) {
                bool here = i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second;
                merged.push_back(here ? ids[bytes] : word[i]);
                i += here;
            }
            word = merged;
        }
    }
    return out;
}
}

TEST(learning_against_the_definition) {
    PieceCounts none;
    Tokenizer alphabet = Tokenizer::train(none, 257, SplitPattern::GPT2);
    EXPECT_EQ(alphabet.vocab_size(), 257);
    EXPECT(alphabet.encode("!\xa1\n") == (std::vector<int>{0, 94, 198}));  // GPT-2's ids of bytes
    for (uint32_t trial = 0; trial < 12; trial++) {
        PieceCounts counts;
        counts.add_text(random_text(trial, 20 + 40 * trial), PATTERNS[trial % 4]);
        uint64_t min_count = 1 + trial % 3;
        Vocabulary v = BpeTrainer::train(counts, 257 + 60, PATTERNS[trial % 4], min_count);
        std::vector<std::pair<int, int>> expected = naive_train(counts, alphabet, 60, min_count), got;
        for (const Merge& m : v.merges) got.push_back({m.left, m.right});
        EXPECT(got == expected);
    }
    // letters by chance: many ties, many ways to the same bytes, overlaps
    for (uint32_t trial = 0; trial < 20; trial++) {
        std::string text;
        for (size_t i = 0; i < 400; i++) text += "aab "[random_word(50 + trial, i) % 4];
        PieceCounts counts;
        counts.add_text(text, SplitPattern::GPT2);
        Vocabulary v = BpeTrainer::train(counts, 257 + 100, SplitPattern::GPT2, 1);
        std::vector<std::pair<int, int>> got;
        for (const Merge& m : v.merges) got.push_back({m.left, m.right});
        EXPECT(got == naive_train(counts, alphabet, 100, 1));
    }
    EXPECT_DIES("a vocabulary of 256 tokens", Tokenizer::train(none, 256, SplitPattern::GPT2));
}

TEST(learning_does_not_depend_on_how_pieces_were_counted) {
    std::string text = random_text(6, 4000);
    PieceCounts one, other, both;
    size_t half = text.find(" the", text.size() / 2);
    one.add_text(text.substr(0, half), SplitPattern::GPT2);
    other.add_text(text.substr(half), SplitPattern::GPT2);
    both.add_all(other), both.add_all(one);
    EXPECT(Tokenizer::train(both, 400, SplitPattern::GPT2).fingerprint() == trained(SplitPattern::GPT2, 400, text).fingerprint());
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
    EXPECT_DIES("normalizer", load(replaced(json, "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}")));
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
    EXPECT_DIES("absent.json", Tokenizer::load("build/tmp/tokenizer/absent.json"));
    EXPECT_DIES("no tokenizer.json", Tokenizer::load("test"));
}

TEST(gpt2_files) {
    Tokenizer t = trained(SplitPattern::GPT2, 300, random_text(8, 1000));
    Json json = json_parse(t.to_json(), "t");
    std::string merges = "#version: 0.2\n";
    for (const Json& m : json.find("model")->find("merges")->items) merges += m.items[0].text + " " + m.items[1].text + "\r\n";
    remove_tree("build/tmp/tokenizer/folder");
    make_folders("build/tmp/tokenizer/folder");
    scratch("folder/vocab.json", json_dump(*json.find("model")->find("vocab")));
    scratch("folder/merges.txt", merges);
    EXPECT(Tokenizer::load("build/tmp/tokenizer/folder").fingerprint() == t.fingerprint());
    scratch("folder/merges.txt", merges + "a\n");
    EXPECT_DIES("folder/merges.txt: line 45: the merge \"a\" is not two tokens", Tokenizer::load("build/tmp/tokenizer/folder"));
    scratch("folder/merges.txt", merges + "! !\n");
    EXPECT_DIES("is not in the vocabulary", Tokenizer::load("build/tmp/tokenizer/folder/merges.txt"));
    unlink("build/tmp/tokenizer/folder/vocab.json");
    EXPECT_DIES("vocab.json", Tokenizer::load("build/tmp/tokenizer/folder"));
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
