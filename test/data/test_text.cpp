// Text that becomes shards.
#include "data_test.h"

namespace { const std::string SCRATCH = "build/tmp/data_text"; }

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
    EXPECT(tokenised("t.txt", "\1\xff\x80") == with_ends({"\1\xff\x80"}));  // Latin-1 and what else is no UTF-8 stays as it is
    EXPECT_DIES("t.txt: no text in it", tokenised("t.txt", ""));
    EXPECT_DIES("t.txt: no text in it", tokenised("t.txt", " \n<|endoftext|>\n"));
    for (const std::string& name : list_folder(folder() + "/cache")) EXPECT(name.find(".tmp") == name.npos);
    EXPECT_DIES("absent.txt", tokenize_to_cache(folder() + "/absent.txt", Tokenizer::bytes(), folder() + "/cache"));
}

TEST(txt_longer_than_a_block) {
    // blocks of 1 MB: documents and separators across their boundaries, a document with no place to cut, and one with many
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
    for (SplitPattern pattern : {SplitPattern::GPT2, SplitPattern::LLAMA3, SplitPattern::CL100K, SplitPattern::O200K, SplitPattern::QWEN2, SplitPattern::NANOCHAT}) {
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
    EXPECT_DIES("t.jsonl: line 3 column 10: this string never ends; --skip-bad N leaves out up to N such lines of a file", tokenised("t.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b}\n"));
    EXPECT_DIES("t.jsonl: line 2: expected an object with a \"text\"", tokenised("t.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n"));
    EXPECT_DIES("t.jsonl: line 1: expected an object with a \"text\"", tokenised("t.jsonl", "{\"text\": 5}"));
    EXPECT_DIES("t.jsonl: line 1: expected an object with a \"text\"", tokenised("t.jsonl", "[1]"));
    EXPECT_DIES("t.jsonl: no text in it", tokenised("t.jsonl", "\n"));
}

// Python writes NaN; other writers may write anything: what is not "text" decides nothing.
TEST(jsonl_members_that_are_not_text) {
    for (const char* other : {"NaN", "-Infinity", "\"\\ud800\"", "\"a \\\" b\"", "{\"text\": [1, \"}\"]}", "[[{}], \"]\"]", "01.e", "\"\x01\xff\"", "[]", "{}"})
        for (const char* line : {"{\"score\": OTHER, \"text\": \"a\"}", "{\"text\":\"a\",\"score\":OTHER}", " { \"text\" : \"a\" , \"\" : OTHER , \"more\": OTHER } \r"}) {
            std::string text = line;
            for (size_t at; (at = text.find("OTHER")) != text.npos;) text.replace(at, 5, other);
            EXPECT(tokenised("o.jsonl", text + "\n") == with_ends({"a"}));
        }
    const std::string deep = std::string(100000, '[') + std::string(100000, ']');
    EXPECT(tokenised("o.jsonl", "{\"x\":" + deep + ",\"text\":\"a\"}") == with_ends({"a"}));
    for (const char* bad : {"{\"text\":\"a\",\"x\":}", "{\"text\":\"a\",\"x\":[}", "{\"text\":\"a\",\"x\":[}]}", "{\"text\":\"a\",\"x\":{", "{\"text\":\"a\",\"x\":\"", "{\"text\":\"a\",}",
                            "{\"text\":\"a\"}}", "{\"text\":\"a\" \"x\":1}", "{\"text\":\"a\",\"text\":\"b\"}", "{\"text\":\"a\"", "{\"text\":NaN}", "{\"text\":\"\\x\"}", "\"text\"", "{\"a\":1 2,\"text\":\"a\"}",
                            "{\"x\":\"\\", "{"})
        EXPECT_DIES("o.jsonl: line 1", tokenised("o.jsonl", bad));
    // half a surrogate pair is U+FFFD, and what follows it is itself; a pair is one character
    EXPECT(tokenised("o.jsonl", "{\"text\": \"\\ud83d|\\ude00|\\ud83d\\n|\\ud83d\\u0041|\\ud83d\\ud83d\\ude00\"}") ==
           with_ends({"\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd\n|\xef\xbf\xbd" "A|\xef\xbf\xbd\xf0\x9f\x98\x80"}));
}

TEST(bad_lines_are_counted) {
    std::string lines = "\n{\"text\": \"b\n{\"txt\": \"c\"}\n" + std::string("\0\0\0\n", 4) + "{\"text\": \"d\"}\n";
    auto read = [&](int skip) { return read_shard(tokenize_to_cache(write_text("bad.jsonl", lines), Tokenizer::bytes(), folder() + "/cache", {.skip_bad = skip})); };
    EXPECT(read(3) == with_ends({"d"}));
    EXPECT_DIES("bad.jsonl: line 2 column 10: this string never ends; --skip-bad N", read(0));
    EXPECT_DIES("bad.jsonl: line 4: expected an object with a \"text\" that is a string; 3 lines are no documents, --skip-bad is 2", read(2));
    Outcome o = run_child([&] { lines += "\n"; read(7); });
    EXPECT(o.code == 0 && o.output.find("bad.jsonl: 3 lines are no documents and were left out, the first: line 2 column 10") != std::string::npos);
    // a tokenizer is learned from what is left
    EXPECT(train_tokenizer({folder() + "/bad.jsonl"}, 257, SplitPattern::GPT2, {.skip_bad = 3}).vocab_size() == 257);
    EXPECT_DIES("line 2", train_tokenizer({folder() + "/bad.jsonl"}, 257));
    // a line that is too long is one bad line, and the next one is read
    lines = "{\"text\": \"" + std::string(text_detail::LONGEST_LINE + (5 << 20), 'x') + "\"}\n{\"text\": \"d\"}\n";
    EXPECT(read(1) == with_ends({"d"}));
    unlink((folder() + "/bad.jsonl").c_str());
}

TEST(what_is_no_utf8_text) {
    const std::string mark = "\xef\xbb\xbf";
    EXPECT(tokenised("mark.txt", mark + "a" + mark) == with_ends({"a" + mark}));
    EXPECT(tokenised("mark.jsonl", mark + "{\"text\": \"a\"}\n") == with_ends({"a"}));
    EXPECT_DIES("mark.txt: no text in it", tokenised("mark.txt", mark));
    auto utf16 = [](const std::string& text, int first) {
        std::string out;
        for (char c : text) out += first ? std::string{'\0', c} : std::string{c, '\0'};
        return out;
    };
    for (const char* name : {"wide.txt", "wide.jsonl"})
        for (int big : {0, 1}) {
            const std::string text = utf16("{\"text\": \"Once upon a time\"}\n", big);
            EXPECT_DIES("begins with the byte order mark of UTF-16, must be UTF-8: iconv -f UTF-16 -t UTF-8 converts it", tokenised(name, (big ? "\xfe\xff" : "\xff\xfe") + text));
            // of the other order iconv makes Chinese, which is UTF-8 and would be trained on
            EXPECT_DIES(big ? "every second byte is 0: UTF-16? Must be UTF-8: iconv -f UTF-16BE -t UTF-8" : "every second byte is 0: UTF-16? Must be UTF-8: iconv -f UTF-16LE -t UTF-8", tokenised(name, text));
        }
    for (const std::string& text : {std::string("\0\0\xfe\xff\0\0\0a", 8), std::string("\xff\xfe\0\0a\0\0\0", 8)})
        EXPECT_DIES("wide.txt: begins with the byte order mark of UTF-32, must be UTF-8: iconv -f UTF-32 -t UTF-8 converts it", tokenised("wide.txt", text));
    EXPECT_DIES("binary.txt: byte 3 is 0: not a text file", tokenised("binary.txt", std::string("abc\0def", 7)));
    std::string far(900000, 'x');  // of few pieces: a test's child has no threads for more
    for (size_t i = 0; i < far.size(); i += 100) far[i] = ' ';
    far[700001] = '\0';
    EXPECT_DIES("binary.txt: byte 700001 is 0", tokenised("binary.txt", far));
    EXPECT_DIES("binary.txt: byte 0 is 0", tokenised("binary.txt", std::string(1000, '\0')));
}

// Latin-1; two bytes a character without a 0 among them, as Chinese has in UTF-16 and in GBK; a few wrong bytes in a text that is UTF-8, or its end cut, are let be.
TEST(text_in_another_encoding_is_refused) {
    std::string latin, wide, gbk, mixed;
    for (int i = 0; i < 40; i++) {
        latin += "Le caf\xe9 \xe9tait ferm\xe9. ";
        for (int j = 0; j < 40; j++) wide += {(char)(1 + (i * 40 + j) * 7 % 255), (char)(0x4e + (i + j) % 80)}, gbk += {(char)(0xb0 + (i + j) % 70), (char)(0xa1 + (i * 7 + j) % 90)};
        mixed += "Le caf\xc3\xa9 \xc3\xa9tait ferm\xe9. \xe4\xb8\x96";
    }
    EXPECT_DIES("latin.txt: byte 6 is 0xE9, which is not UTF-8, as 119 of the first 120 bytes above 127 are not: another encoding?", tokenised("latin.txt", latin));
    EXPECT_DIES("which is not UTF-8", tokenised("wide.txt", wide));
    EXPECT_DIES("which is not UTF-8", tokenised("gbk.txt", gbk));
    EXPECT_DIES("which is not UTF-8", tokenised("random.txt", [] { std::string s; for (unsigned i = 1; i < 4000; i++) s += (char)(1 + i * 2654435761u / 7919 % 255); return s; }()));
    EXPECT_EQ(tokenised("mixed.txt", mixed).size(), mixed.size() + 1);
    EXPECT_EQ(tokenised("three.txt", "a\xe9 b\xe9 c\xe9 d").size(), 11u);
    std::string cut = "\xe4\xb8\x96\xe4\xb8";  // a document's end, or what a block ends with
    EXPECT_EQ(tokenised("cut.txt", cut).size(), 6u);
}

// Descriptors of one digit may be taken, by a shell's `exec 3<...` or a batch system: dash takes none above 9 in a redirection.
TEST(compressed_text_where_descriptors_are_taken) {
    const std::string text = write_text("taken.txt", "one"), compressed = text + ".gz";
    if (run_command("gzip -kf " + text).code) SKIP("there is no gzip");
    Outcome o = run_child([&] {
        while (open("/dev/null", O_RDONLY) < 30) {}
        read_shard(tokenize_to_cache(compressed, Tokenizer::bytes(), folder() + "/cache")) == with_ends({"one"}) ? _exit(0) : _exit(3);
    });
    if (o.code) FAIL("%d: %s", o.code, o.output.c_str());
}

// A program that is not there is not a damaged file.
TEST(gzip_is_not_installed) {
    write_text("g.txt.gz", "\x1F\x8B and whatever");
    EXPECT_DIES("g.txt.gz: cannot read it: the program gzip is not installed", setenv("PATH", "/nonexistent", 1); tokenize_to_cache(folder() + "/g.txt.gz", Tokenizer::bytes(), folder() + "/cache"));
    EXPECT_DIES("g.txt.gz: gzip cannot read it: damaged or cut short?", tokenize_to_cache(folder() + "/g.txt.gz", Tokenizer::bytes(), folder() + "/cache"));
    for (const std::string& name : list_folder(folder() + "/cache")) EXPECT(name.find(".tmp") == name.npos);
}

// A program that lies where the run is started is not run, whatever PATH says.
TEST(gzip_from_here_is_not_run) {
    write_text("g.txt.gz", "\x1F\x8B and whatever"), write_text("gzip", "#!/bin/sh\n: > ${0%/*}/run\n");
    chmod((folder() + "/gzip").c_str(), 0755);
    for (const char* path : {".", ":", "", "/nonexistent:", ":/nonexistent", "./", "x/.."})
        EXPECT_DIES("g.txt.gz: cannot read it: the program gzip is not installed", if (chdir(folder().c_str())) _exit(3); setenv("PATH", path, 1); tokenize_to_cache("g.txt.gz", Tokenizer::bytes(), "cache"));
    EXPECT(access((folder() + "/run").c_str(), F_OK) != 0);
    run_child([&] { setenv("PATH", format(".:%s/%s", getcwd(nullptr, 0), folder().c_str()).c_str(), 1), tokenize_to_cache(folder() + "/g.txt.gz", Tokenizer::bytes(), folder() + "/cache"); });
    EXPECT(access((folder() + "/run").c_str(), F_OK) == 0);  // by its path from the root it is
}

TEST(special_tokens_in_text) {
    Vocabulary v;
    for (int b = 0; b < 256; b++) v.tokens.push_back(std::string(1, (char)b));
    v.added = {{"<|endoftext|>", 256, true}, {"<|im_start|>", 257, true}, {"<|im_end|>", 258, true}};
    Tokenizer tokenizer = Tokenizer::load(write_text("special.json", vocabulary_to_json(v)));
    auto read = [&](const std::string& name, const std::string& text, bool special) {
        return read_shard(tokenize_to_cache(write_text(name, text), tokenizer, folder() + "/cache", {.special = special}));
    };
    EXPECT(read("s.txt", "a<|im_start|>b", true) == (std::vector<int>{256, 'a', 257, 'b'}));
    EXPECT(read("s.txt", "a<|im_start|>b", false) == with_ends({"a<|im_start|>b"}));
    EXPECT(read("s.jsonl", "{\"text\": \"<|im_end|><|endoftext|>\"}", true) == (std::vector<int>{256, 258, 256}));
    Outcome o = run_child([&] { read("said.txt", "a<|im_start|>b<|im_end|><|im_", false); });
    if (o.output.find("said.txt: special") == o.output.npos) FAIL("%d: %s", o.code, o.output.c_str());
    EXPECT(o.code == 0 && o.output.find("said.txt: special tokens, as <|im_start|>, are written in it 2 times and taken as plain text; --text-special 1") != o.output.npos);
    o = run_child([&] { read("said.txt", "a<|im_start|>b<|im_end|>!", true); });
    EXPECT(o.code == 0 && o.output.empty());
    // long documents are cut in parts, but not inside such a token
    std::string text;
    size_t n = 0;
    while (text.size() < (3 << 20)) text += "word<|im_start|>user says<|im_end|>", n++;
    std::vector<int> ids = read("s.txt", text, true);
    EXPECT_EQ((size_t)std::count(ids.begin(), ids.end(), 257), n);
    EXPECT_EQ((size_t)std::count(ids.begin(), ids.end(), 258), n);
}

TEST(cache_is_used_again) {
    std::string path = write_text("c.txt", "some text"), cache = folder() + "/cache2";
    std::string shard = tokenize_to_cache(path, Tokenizer::bytes(), cache);
    struct stat before, after;
    stat(shard.c_str(), &before);
    EXPECT_STR(tokenize_to_cache(path, Tokenizer::bytes(), cache), shard);
    stat(shard.c_str(), &after);
    EXPECT(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
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

// Whatever is not as it was written is made again, and said: each bit of it, its length, a shard of someone else, a link.
TEST(a_damaged_cache_is_made_again) {
    const std::string path = write_text("d.txt", "some text"), cache = folder() + "/cache3", shard = tokenize_to_cache(path, Tokenizer::bytes(), cache), good = read_file(shard);
    EXPECT(open_shard(shard).checksum != 0);
    const auto made_again = [&](const char* what) {
        Outcome o = run_child([&] { tokenize_to_cache(path, Tokenizer::bytes(), cache); });
        if (o.code || o.output != shard + ": is damaged: " + path + " is tokenized again\n" || read_file(shard) != good) FAIL("%s: %s", what, o.output.c_str());
    };
    const auto put = [&](const std::string& bytes) { write_file_atomically(shard, bytes); };
    for (size_t at : {0, 4, 8, 12, 16, 23, 24, 1023, 1024, 1043}) {
        std::string bytes = good;
        bytes[at] = (char)(bytes[at] ^ 4);
        put(bytes), made_again(format("byte %zu", at).c_str());
    }
    for (size_t n : {(size_t)0, (size_t)1000, (size_t)1024, good.size() - 2}) put(good.substr(0, n)), made_again(format("cut at %zu", n).c_str());
    put(good + "ab"), made_again("longer");
    write_shard("cache3/" + shard.substr(shard.rfind('/') + 1), {1, 2, 3}), made_again("planted");
    // a link, to a shard that is good and to a file of the victim's
    write_text("elsewhere.bin", good), write_text("victim", "precious");
    for (const char* to : {"elsewhere.bin", "victim"}) {
        unlink(shard.c_str());
        EXPECT(symlink(("../" + std::string(to)).c_str(), shard.c_str()) == 0);
        made_again(to);
        struct stat s;
        EXPECT(lstat(shard.c_str(), &s) == 0 && S_ISREG(s.st_mode));
    }
    EXPECT(read_file(folder() + "/elsewhere.bin") == good && read_file(folder() + "/victim") == "precious");
    // links under the names that are written next
    unlink(shard.c_str());
    for (int n = 0; n < 3; n++) EXPECT(symlink("../victim", format("%s.%d-%d.tmp", shard.c_str(), (int)getpid(), n).c_str()) == 0);
    EXPECT(read_shard(tokenize_to_cache(path, Tokenizer::bytes(), cache)) == with_ends({"some text"}));
    EXPECT(read_file(folder() + "/victim") == "precious");
    for (int n = 0; n < 3; n++) unlink(format("%s.%d-%d.tmp", shard.c_str(), (int)getpid(), n).c_str());
    // what kills left
    const std::string left = shard + ".4194399-0.tmp", fresh = shard + ".4194398-0.tmp";
    for (const std::string& name : {left, fresh}) write_text("cache3" + name.substr(name.rfind('/')), "half");
    const timespec old[2] = {{1, 0}, {1, 0}};
    utimensat(AT_FDCWD, left.c_str(), old, 0);
    unlink(shard.c_str());
    tokenize_to_cache(path, Tokenizer::bytes(), cache);
    EXPECT(access(left.c_str(), F_OK) != 0 && access(fresh.c_str(), F_OK) == 0);
}

// What others may write to decides nothing.
TEST(caches_are_folders_of_this_user_alone) {
    const std::string path = write_text("p.txt", "some text"), cache = folder() + "/cache4";
    tokenize_to_cache(path, Tokenizer::bytes(), cache);
    struct stat s;
    EXPECT(stat(cache.c_str(), &s) == 0 && (s.st_mode & 0777) == 0700);
    for (const unsigned mode : {0777u, 0770u, 01777u, 0702u}) {
        chmod(cache.c_str(), mode);
        EXPECT_DIES(format("cache4: others may write to it (mode %04o): chmod go-w", mode).c_str(), tokenize_to_cache(path, Tokenizer::bytes(), cache));
    }
    chmod(cache.c_str(), 0700);
    EXPECT(symlink("cache4", (folder() + "/link").c_str()) == 0);
    EXPECT_DIES("link: is no folder, must be one, and no link", tokenize_to_cache(path, Tokenizer::bytes(), folder() + "/link"));
    EXPECT_DIES("p.txt: there is no place for its tokens", tokenize_to_cache(path, Tokenizer::bytes(), ""));
    if (geteuid() == 0) {
        EXPECT(chown(cache.c_str(), 12345, (gid_t)-1) == 0);
        EXPECT_DIES("cache4: belongs to user 12345, must be this user's, 0", tokenize_to_cache(path, Tokenizer::bytes(), cache));
    }
    // the same function finds the place
    const auto found = [](const char* xdg, const char* home, std::string given = "") {
        Outcome o = run_child([&] {
            xdg ? setenv("XDG_CACHE_HOME", xdg, 1) : unsetenv("XDG_CACHE_HOME");
            home ? setenv("HOME", home, 1) : unsetenv("HOME");
            printf("%s", cache_folder(given).c_str());
        });
        return o.output;
    };
    const std::string base = folder();
    EXPECT_STR(found((base + "/xdg").c_str(), "/nowhere"), base + "/xdg/llmc");
    EXPECT_STR(found(nullptr, base.c_str()), base + "/.cache/llmc");
    EXPECT_STR(found("", base.c_str()), base + "/.cache/llmc");
    EXPECT_STR(found(nullptr, base.c_str(), base + "/a/b"), base + "/a/b");
    EXPECT(stat((base + "/.cache/llmc").c_str(), &s) == 0 && (s.st_mode & 0777) == 0700);
    EXPECT(stat((base + "/a/b").c_str(), &s) == 0 && (s.st_mode & 0777) == 0700);
    EXPECT_STR(found(nullptr, nullptr), "neither XDG_CACHE_HOME nor HOME says where: no cache is used\n");
    chmod((base + "/.cache/llmc").c_str(), 0777);
    EXPECT_STR(found(nullptr, base.c_str()), base + "/.cache/llmc: others may write to it (mode 0777): chmod go-w lets only this user: no cache is used\n");
    chmod((base + "/a/b").c_str(), 0775);
    EXPECT_DIES("/a/b: others may write to it (mode 0775)", cache_folder(base + "/a/b"));
}

TEST(data_from_either_kind_of_file) {
    const std::string shard = write_shard("m1.bin", numbers(0, 100)), text = write_text("m2.txt", "text"), cache = folder() + "/cache";
    EXPECT_EQ(open_data(shard, Tokenizer::bytes(), cache)[0].size(), 100u);
    EXPECT_EQ(open_data(text, Tokenizer::bytes(), cache)[0].size(), 5u);
    for (const char* pattern : {"/m?.*", "/m{2.txt,1.bin}"})  // whichever comes first
        EXPECT_DIES(format("%s%s: names token shards and texts, %s and %s, must name one kind", folder().c_str(), pattern, shard.c_str(), text.c_str()).c_str(), open_data(folder() + pattern, Tokenizer::bytes(), cache));
    EXPECT_DIES("text must be named .txt or .jsonl", open_data(write_text("m3.md", "# text"), Tokenizer::bytes(), folder()));
}
