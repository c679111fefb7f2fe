// Text that becomes shards.
#include "data_test.h"

namespace {
std::vector<int> tokenised(const std::string& name, const std::string& text, const Tokenizer& tokenizer = Tokenizer::bytes()) {
    return read_shard(tokenize_to_cache(write_text(name, text), tokenizer, folder() + "/cache"));
}
}

TEST(txt_documents) {
    EXPECT(tokenised("t.txt", "Hello") == with_ends({"Hello"}));  // no newline at the end, one document
    EXPECT(tokenised("t.txt", "one\r\n<|endoftext|>two\n") == with_ends({"one\r\n", "two\n"}));
    EXPECT(tokenised("t.txt", "<|endoftext|>one<|endoftext|><|endoftext|>two<|endoftext|>\n") == with_ends({"one", "two"}));
    EXPECT(tokenised("t.txt", "a<|endoftext|") == with_ends({"a<|endoftext|"}));
    EXPECT(tokenised("t.txt", std::string("\0\xff\x80", 3)) == with_ends({std::string("\0\xff\x80", 3)}));
    EXPECT_DIES("t.txt: no text in it", tokenised("t.txt", ""));
    EXPECT_DIES("t.txt: no text in it", tokenised("t.txt", " \n<|endoftext|>\n"));
    for (const std::string& name : list_folder(folder() + "/cache")) EXPECT(name.find(".tmp") == name.npos);
    EXPECT_DIES("absent.txt", tokenize_to_cache(folder() + "/absent.txt", Tokenizer::bytes(), folder() + "/cache"));
}

TEST(txt_longer_than_a_block) {
    // blocks of 1 MB: documents and separators across their borders, a document with no place to cut, and one with many
    std::vector<std::string> documents = {std::string((1 << 20) - 5, 'x'), std::string(3 << 20, 'y'), "short"};
    std::string words;
    while (words.size() < (5 << 20) / 2) words += "word " + std::to_string(words.size()) + " and more  words\n";
    documents.push_back(words);
    std::string text;
    for (const std::string& d : documents) text += (text.empty() ? "" : "<|endoftext|>") + d;
    EXPECT(tokenised("long.txt", text) == with_ends(documents));

    // cutting changes no token
    PieceCounts counts;
    counts.add_text(words.substr(0, 100000), SplitPattern::LLAMA3);
    Tokenizer tokenizer = Tokenizer::train(counts, 400, SplitPattern::LLAMA3);
    std::vector<int> expected = {tokenizer.eot()};
    tokenizer.encode(words, expected);
    EXPECT(tokenised("words.txt", words, tokenizer) == expected);
}

// Every cut that is called safe keeps the tokens, in every pattern and in text of any kind.
TEST(safe_cuts) {
    const char* parts[] = {"word", " ", "  ", "\n", "'", "'s", "'S", "12", "!", "\xe4\xbd\xa0", "\xe3\x80\x82", "\xcc\x81", "A", "aB", "\xc5\xbf", "\xff", "\t", "/", "\xd9\xa1"};
    for (SplitPattern pattern : {SplitPattern::GPT2, SplitPattern::LLAMA3, SplitPattern::CL100K, SplitPattern::O200K}) {
        int cuts = 0;
        for (uint32_t trial = 0; trial < 3000; trial++) {
            std::string text, joined;
            for (uint32_t i = 0; i < 14; i++) text += parts[philox(5, RNG_TEST, trial, i).x[0] % (sizeof parts / sizeof *parts)];
            size_t seen = text.size() * 2 / 3, cut = text_detail::safe_cut(std::string_view(text).substr(0, seen));
            if (!cut) continue;
            cuts++;
            auto pieces = [&](std::string_view s) {
                std::string out;
                std::string_view piece;
                for (Splitter splitter(pattern, s); splitter.next(piece);) out += std::string(piece) + "|";
                return out;
            };
            std::string_view whole = text;
            if (pieces(whole.substr(0, cut)) + pieces(whole.substr(cut)) != pieces(whole)) FAIL("%s cut at %zu", json_quote(text).c_str(), cut);
        }
        EXPECT(cuts > 1500);
    }
    EXPECT_EQ(text_detail::part_length(std::string(text_detail::BLOCK, 'x')), text_detail::BLOCK);
    EXPECT_EQ(text_detail::part_length(std::string(9 << 20, 'x')), text_detail::LONGEST);
    std::string three;  // a character of three bytes is not cut through
    while (three.size() < (5 << 20)) three += "\xe4\xbd\xa0";
    EXPECT(text_detail::part_length(three) % 3 == 0);
}

TEST(compressed_text) {
    std::string text = write_text("z.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n"), name = folder() + "/it's a \"name\" $HOME.jsonl.gz";
    rename_file(text, folder() + "/z2.jsonl");
    FILE* pipe = popen(("gzip -c < " + folder() + "/z2.jsonl > " + folder() + "/z.gz").c_str(), "r");
    if (pclose(pipe)) SKIP("there is no gzip");
    rename_file(folder() + "/z.gz", name);
    EXPECT(read_shard(tokenize_to_cache(name, Tokenizer::bytes(), folder() + "/cache")) == with_ends({"one", "two"}));
    std::string bytes = read_file(name);
    write_text("cut.jsonl.gz", bytes.substr(0, bytes.size() - 9));
    EXPECT_DIES("cut.jsonl.gz: gzip cannot read it", tokenize_to_cache(folder() + "/cut.jsonl.gz", Tokenizer::bytes(), folder() + "/cache"));
    for (const std::string& n : list_folder(folder() + "/cache")) EXPECT(n.find(".tmp") == n.npos);
}

TEST(jsonl_documents) {
    std::string lines = "{\"text\": \"caf\\u00e9 \\ud83d\\ude00\\n\\\"q\\\"\", \"id\": 1}\r\n"
                        "\n"
                        "{\"id\": 2, \"text\": \"\"}\n"
                        "{\"meta\": {\"text\": \"no\"}, \"text\": \"<|endoftext|>\"}";
    EXPECT(tokenised("t.jsonl", lines) == with_ends({"caf\xc3\xa9 \xf0\x9f\x98\x80\n\"q\"", "<|endoftext|>"}));
    EXPECT_DIES("t.jsonl: line 3 column", tokenised("t.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b}\n"));
    EXPECT_DIES("t.jsonl: line 2: expected an object with a \"text\"", tokenised("t.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n"));
    EXPECT_DIES("t.jsonl: line 1: expected an object with a \"text\"", tokenised("t.jsonl", "{\"text\": 5}"));
    EXPECT_DIES("t.jsonl: line 1: expected an object with a \"text\"", tokenised("t.jsonl", "[1]"));
    EXPECT_DIES("t.jsonl: no text in it", tokenised("t.jsonl", "\n"));
}

TEST(cache_is_used_again) {
    std::string path = write_text("c.txt", "some text"), cache = folder() + "/cache2";
    std::string shard = tokenize_to_cache(path, Tokenizer::bytes(), cache);
    write_text("cache2/" + shard.substr(shard.rfind('/') + 1), read_file(shard) + "mark");  // would be lost if written again
    EXPECT_STR(tokenize_to_cache(path, Tokenizer::bytes(), cache), shard);
    EXPECT(read_file(shard).find("mark") != std::string::npos);
    // another text of the same length, another tokenizer, another name
    write_text("c.txt", "same text");
    EXPECT(tokenize_to_cache(path, Tokenizer::bytes(), cache) != shard);
    write_text("c.txt", "some text");
    EXPECT_STR(tokenize_to_cache(path, Tokenizer::bytes(), cache), shard);
    PieceCounts counts;
    counts.add_text("some some some", SplitPattern::GPT2);
    EXPECT(tokenize_to_cache(path, Tokenizer::train(counts, 300, SplitPattern::GPT2), cache) != shard);
    EXPECT(list_folder(cache).size() == 3);
}

TEST(data_from_any_kind_of_file) {
    std::string shard = write_shard("m1.bin", numbers(0, 100)), text = write_text("m2.txt", "text");
    Shards shards = open_data(folder() + "/m?.*", Tokenizer::bytes(), folder() + "/cache");
    EXPECT(shards.size() == 2 && shards[0].size() == 100 && shards[1].size() == 5);
    EXPECT_DIES("text must be named .txt or .jsonl", open_data(write_text("m3.md", "# text"), Tokenizer::bytes(), folder()));
}
