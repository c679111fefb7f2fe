// Splitting, byte pair encoding, learning. The files that a tokenizer comes from and goes to: test_tokenizer_files.cpp.
#include <map>
#include <thread>
#include "../../llmc/tokenizer/plain_output.h"
#include "tokenizer_test.h"

namespace {
const std::string SCRATCH = "build/tmp/tokenizer";

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
    EXPECT(cases["llama3"] > 300 && cases["cl100k"] > 300 && cases["o200k"] > 300 && cases["qwen2"] > 300 && cases["nanochat"] > 300);
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

// Against a map: more pieces than its table begins with places for.
TEST(pieces_are_counted) {
    PieceCounts counts, sum;
    std::map<std::string, uint64_t> expected, got;
    for (uint64_t i = 0; i < 20000; i++) {
        const std::string piece = std::to_string(i * i % 9973);
        counts.add(piece, i % 3 + 1), expected[piece] += i % 3 + 1;
    }
    sum.add("7", 5), sum.add_all(counts), expected["7"] += 5;
    sum.each([&](std::string_view piece, uint64_t count) { EXPECT(got.emplace(piece, count).second); });
    EXPECT(expected.size() > 4096 && got == expected);
}

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

// ---- NFC -----------------------------------------------------------------------------------------------------------

TEST(nfc) {
    const Nfc& nfc = Nfc::tables();
    struct Case { const char *text, *expected; };
    for (Case c : {Case{"", ""}, {"plain", "plain"}, {"caf\u00e9", "caf\u00e9"}, {"cafe\u0301", "caf\u00e9"},
                   {"\u212b", "\u00c5"}, {"\u2126", "\u03a9"}, {"\u1e9b\u0323", "\u1e9b\u0323"},              // singles; UAX 15, table 4
                   {"s\u0323\u0307", "\u1e69"}, {"s\u0307\u0323", "\u1e69"}, {"\u1e0b\u0323", "\u1e0d\u0307"},  // order of marks
                   {"q\u0307\u0323", "q\u0323\u0307"}, {"a\u0315\u0300\u05ae\u0300b", "\u00e0\u05ae\u0300\u0315" "b"},
                   {"\u0958", "\u0915\u093c"}, {"\u2adc", "\u2add\u0338"}, {"\u0344", "\u0308\u0301"},      // excluded from composition
                   {"\u1112\u1161\u11ab", "\ud55c"}, {"\ud558\u11ab", "\ud55c"}, {"\uac00\u11a7", "\uac00\u11a7"}, {"\u1100\u1161\u1161", "\uac00\u1161"},
                   {"\uac01\u11a8", "\uac01\u11a8"}, {"\u11a8\u11a8", "\u11a8\u11a8"},
                   {"e\u0334\u0301", "\u00e9\u0334"}, {"e\u0301\u0301", "\u00e9\u0301"}, {"\u0301e", "\u0301e"}, {"a\u030d\u0301", "a\u030d\u0301"},  // one of its class is between
                   {"\u0b47\u0300\u0b3e", "\u0b47\u0300\u0b3e"}, {"\u0b47\u0b3e", "\u0b4b"},                  // two starters, and one with a mark between
                   {"e\xff\u0301", "e\xff\u0301"}, {"e\u0301\xcc", "\u00e9\xcc"}, {"\U0001d15e", "\U0001d157\U0001d165"}, {"\ufb1d", "\u05d9\u05b4"},
                   {"\uf900", "\u8c48"}, {"\u01d5", "\u01d5"}, {"U\u0308\u0304", "\u01d5"}}) {
        EXPECT_STR(nfc.normalize(c.text), c.expected);
        EXPECT(nfc.is_normalized(c.expected) || nfc.normalize(c.expected) == c.expected);
        if (std::string(c.text) != c.expected) EXPECT(!nfc.is_normalized(c.text));
    }
    // every character that is composed comes back from its parts; every one that is not in NFC is found to be so
    for (const CanonicalPair& p : CANONICAL_PAIRS) {
        std::string whole, parts;
        json_detail::append_utf8(whole, p.code), json_detail::append_utf8(parts, p.first), json_detail::append_utf8(parts, p.second);
        if (p.composes) EXPECT(nfc.normalize(parts) == whole && nfc.is_normalized(whole) && !nfc.is_normalized(parts));
        else EXPECT(nfc.normalize(whole) != whole && !nfc.is_normalized(whole));
    }
    for (uint32_t c = 0xAC00; c < 0xD7A4; c++) {
        std::string syllable;
        json_detail::append_utf8(syllable, c);
        EXPECT(nfc.normalize(syllable) == syllable);
    }
    // any bytes: twice is once, and what is said to be normalized is
    for (uint32_t seed = 0; seed < 3000; seed++) {
        std::string text;
        for (uint32_t i = 0; i < 12; i++) {
            uint32_t kind = random_word(seed, 2 * i) % 5, x = random_word(seed, 2 * i + 1);
            if (kind == 0) text += (char)x;
            else json_detail::append_utf8(text, kind == 1 ? 'a' + x % 26 : kind == 2 ? 0x300 + x % 0x70 : kind == 3 ? 0x1100 + x % 0x100 : 0xC0 + x % 0x2F00);
        }
        std::string once = nfc.normalize(text);
        EXPECT(nfc.normalize(once) == once);
        if (nfc.is_normalized(text)) EXPECT(once == text);
    }
}

TEST(control_characters_are_escaped) {
    auto escaped = [](std::vector<std::string> parts) {
        std::string out, held;
        for (const std::string& part : parts) out += PlainOutput::escaped(part, held, false);
        return out + PlainOutput::escaped("", held, true);
    };
    EXPECT_STR(escaped({"a\tb\n caf\u00e9 \u4f60 \U0001F600"}), "a\tb\n caf\u00e9 \u4f60 \U0001F600");
    EXPECT_STR(escaped({std::string("\0\x1b[2J\r\x7f", 7)}), "\\x00\\x1b[2J\\x0d\\x7f");
    EXPECT_STR(escaped({"\u009b" "1m \u00a0"}), "\\xc2\\x9b1m \u00a0");
    EXPECT_STR(escaped({"\xc2", "\x9b", "\xc2", "\xa9", "\xc2", "\xc2", "x", "\xc2"}), "\\xc2\\x9b\u00a9\\xc2\\xc2x\\xc2");
    EXPECT_STR(escaped({"\xe4\xbd", "\xa0 \xf0", "\x9f", "\x98", "\x80"}), "\u4f60 \U0001F600");
    // bytes that are no character: 0x9b alone begins a control sequence on a terminal of 8 bits
    EXPECT_STR(escaped({"\xff\xe4\xbd", "x \x9b" "1m \xe9t\xe9"}), "\\xff\\xe4\\xbdx \\x9b1m \\xe9t\\xe9");
    EXPECT_STR(escaped({"\xed\xa0", "\x80 \xc0\xaf \xf4\x90\x80\x80"}), "\\xed\\xa0\\x80 \\xc0\\xaf \\xf4\\x90\\x80\\x80");
    std::string held;
    EXPECT_STR(PlainOutput::escaped("a\xe4\xbd", held, false), "a");  // what is whole is not held back
    EXPECT_STR(PlainOutput::escaped("\xa0" "b\xc3", held, false), "\u4f60" "b");
}
