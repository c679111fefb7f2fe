// The tokenize command, killed, full and misused.
#include "data_test.h"

namespace { const std::string SCRATCH = "build/tmp/data_tokenize"; }

namespace {
const std::string TOKENIZE = TOKENIZE_PROGRAM;
std::vector<std::string> names_in(const std::string& dir) {  // but for the lock, which a kill between the last file and the end leaves
    std::vector<std::string> names = list_folder(dir);
    std::erase(names, ".lock");
    return names;
}
bool same_folders(const std::string& a, const std::string& b) {
    if (names_in(a) != names_in(b) || names_in(a).empty()) return false;
    for (const std::string& name : names_in(a)) if (read_file(a + "/" + name) != read_file(b + "/" + name)) return false;
    return true;
}
bool has_suffix(const std::string& s, const std::string& end) { return text_detail::ends_with(s, end); }
std::string replaced_once(std::string text, const std::string& from, const std::string& to) {
    size_t at = text.find(from);
    return at == text.npos ? text : text.replace(at, from.size(), to);
}
}

TEST(tokenize_command) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    make_folders(folder() + "/other_set");
    std::string dir = folder() + "/set", in = " -i " + folder() + "/one.txt '" + folder() + "/t*o.jsonl'";
    std::string one, two;
    for (int i = 0; i < 300; i++) {
        one += (i ? "<|endoftext|>" : "") + std::string("document ") + std::to_string(i);
        two += "{\"text\": \"line " + std::to_string(i) + "\"}\n";
    }
    write_text("one.txt", one), write_text("two.jsonl", two);
    Outcome made = run_command(TOKENIZE + in + " --val 10% --shard-tokens 1K -o " + dir + " 2>&1");
    EXPECT_EQ(made.code, 0);
    EXPECT(made.output.find("600 documents") != std::string::npos);
    // each document is in one shard, whole; the order within train and within val is that of the files
    std::vector<int> train, val;
    for (const std::string& path : list_files(dir + "/train_*.bin")) {
        std::vector<int> tokens = read_shard(path);
        EXPECT(tokens[0] == E && tokens.size() < 1000 + 20);
        train.insert(train.end(), tokens.begin(), tokens.end());
    }
    val = read_shard(dir + "/val_000000.bin");
    std::vector<std::string> documents;
    for (int i = 0; i < 600; i++) documents.push_back((i < 300 ? "document " : "line ") + std::to_string(i % 300));
    size_t in_train = 0, in_val = 0, at_train = 0, at_val = 0;
    for (const std::string& d : documents) {
        std::vector<int> tokens = with_ends({d});
        auto here = [&](const std::vector<int>& all, size_t at) {  // and then another document, or the end
            return all.size() >= at + tokens.size() && std::equal(tokens.begin(), tokens.end(), all.begin() + (long)at) &&
                   (all.size() == at + tokens.size() || all[at + tokens.size()] == E);
        };
        if (here(train, at_train)) in_train++, at_train += tokens.size();
        else if (here(val, at_val)) in_val++, at_val += tokens.size();
    }
    EXPECT(in_train + in_val == 600 && at_train == train.size() && at_val == val.size());
    EXPECT(in_val > 35 && in_val < 90);  // 60 +- 7.3: more than three standard deviations on both sides

    // the same again, with one thread: the same files
    EXPECT_EQ(run_command(TOKENIZE + in + " --val 10% --shard-tokens 1K --threads 1 -o " + dir + "2 2>&1").code, 0);
    EXPECT(same_folders(dir, dir + "2"));
    EXPECT(run_command(TOKENIZE + in + " --val 10% --shard-tokens 1K -o " + dir).output.find("done already") != std::string::npos);
    EXPECT(run_command(TOKENIZE + " -i " + folder() + "/one.txt -o " + dir).output.find("other options") != std::string::npos);
    write_shard("other_set/train_000000.bin", numbers(0, 10));
    EXPECT(run_command(TOKENIZE + " -i " + folder() + "/one.txt -o " + folder() + "/other_set").output.find("a shard of something else") != std::string::npos);
    Shards shards = open_data(dir + "/train_*.bin", Tokenizer::bytes(), dir);
    EXPECT_EQ(count_tokens(shards), train.size());
    EXPECT(Tokenizer::load(dir + "/tokenizer.json").fingerprint() == Tokenizer::bytes().fingerprint());
}

// Killed again and again, and started again each time: the bytes of the undisturbed run. Between two notes of the position
// lies a file here; documents go on from one batch to the next and are spread over train and val.
TEST(tokenize_goes_on_after_a_kill) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string dir = folder() + "/kill", long_one;
    make_folders(dir);
    for (int i = 0; i < 40; i++) {
        std::string text;
        for (int d = 0; d < 50; d++) text += format("document %d of file %d<|endoftext|>", d, i);
        write_text(format("kill/%02d.txt", i), text);
    }
    while (long_one.size() < (20 << 20)) long_one += "one document of several batches " + std::to_string(long_one.size());
    write_text("kill/20.txt", "a first one<|endoftext|>" + long_one + "<|endoftext|>and a last");
    std::string command = TOKENIZE + " -i '" + dir + "/*.txt' --val 50% --shard-tokens 5K --save-every 0 -o " + dir;
    EXPECT_EQ(run_command(command + "/whole").code, 0);
    int killed = 0;
    for (int i = 0; i < 200; i++) {
        Outcome o = run_command(format("timeout -s KILL 0.%02d ", 2 + i % 17) + command + "/parts 2>&1");
        killed += o.code != 0;
        if (o.code == 0) break;
    }
    EXPECT(killed > 0);
    EXPECT(run_command(command + "/parts").code == 0 && same_folders(dir + "/whole", dir + "/parts"));
    // a limit on the size of files stands for a full disk: the error names the file, and the work goes on afterwards
    Outcome full = run_command("ulimit -f 20; " + command + "/full 2>&1");
    EXPECT(full.code == 1 && full.output.find("cannot write") != std::string::npos);
    EXPECT(run_command(command + "/full").code == 0 && same_folders(dir + "/whole", dir + "/full"));
    // the position, damaged by hand
    Outcome o = run_command("timeout -s KILL 0.05 " + command + "/bad 2>&1");
    if (o.code != 0 && !access((dir + "/bad/dataset.part.json").c_str(), F_OK)) {
        write_text("kill/bad/dataset.part.json", "{\"made_from\": ");
        EXPECT(run_command(command + "/bad").output.find("dataset.part.json: line 1") != std::string::npos);
    }
}

// Of a single file the end is held out: at a document near by, or inside the only one; also where the run was killed.
TEST(tokenize_holds_out_the_end_of_a_file) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    const std::string dir = folder() + "/end";
    auto parts = [&](const std::string& name, const std::string& text, const std::string& options) {
        write_text(name, text);
        remove_tree(dir);
        Outcome o = run_command(TOKENIZE + " -i " + folder() + "/" + name + " -o " + dir + " " + options + " 2>&1");
        if (o.code) FAIL("%s: %s", name.c_str(), o.output.c_str());
        return std::pair{read_shard(dir + "/train_000000.bin"), read_shard(dir + "/val_000000.bin")};
    };
    std::string one, lines;
    for (int i = 0; i < 1000; i++) one += format("word %04d ", i);
    auto [train, val] = parts("one_document.txt", one, "--val 10%");
    EXPECT(train[0] == E && val[0] == E && val.size() > 995 && val.size() < 1015);
    train.insert(train.end(), val.begin() + 1, val.end());
    EXPECT(train == with_ends({one}));
    std::vector<std::string> documents;
    for (int i = 0; i < 200; i++) documents.push_back(format("document %03d", i)), lines += "{\"text\": \"" + documents.back() + "\"}\n";
    std::string text;
    for (const std::string& d : documents) text += d + "<|endoftext|>";
    for (const char* name : {"documents.txt", "documents.jsonl"}) {
        auto [t, v] = parts(name, has_suffix(name, "txt") ? text : lines, "--val 5%");
        EXPECT(v == with_ends({documents.begin() + 190, documents.end()}) && t == with_ends({documents.begin(), documents.begin() + 190}));
    }
    // two documents of a .jsonl: the second, though it is more than a tenth
    auto [t, v] = parts("two.jsonl", "{\"text\": \"aaa\"}\n{\"text\": \"bbb\"}\n", "--val 10%");
    EXPECT(t == with_ends({"aaa"}) && v == with_ends({"bbb"}));
    // the nearest to the part that is wished, from either side; never more than half, however long the documents are
    auto line = [](char letter, int n) { return "{\"text\": \"" + std::string((size_t)n, letter) + "\"}\n"; };
    auto held = [&](const std::string& text_of_lines, const char* options) { return parts("long.jsonl", text_of_lines, options).second; };
    std::string ten;
    for (char c = 'a'; c < 'k'; c++) ten += line(c, 100);
    EXPECT(held(ten, "--val 14%") == with_ends({std::string(100, 'j')}));
    EXPECT(held(ten, "--val 16%") == with_ends({std::string(100, 'i'), std::string(100, 'j')}));
    EXPECT(held(line('a', 900) + line('b', 50) + line('c', 40), "--val 1%") == with_ends({std::string(40, 'c')}));
    EXPECT(held(line('a', 50) + line('b', 900) + line('c', 40), "--val 30%") == with_ends({std::string(40, 'c')}));
    EXPECT(held(line('a', 50) + line('b', 900) + line('c', 40), "--val 80%") == with_ends({std::string(40, 'c')}));
    for (const std::string& texts : {line('a', 100), line('a', 100) + line('b', 2000)}) {
        write_text("single.jsonl", texts);
        remove_tree(dir);
        Outcome o = run_command(TOKENIZE + " -i " + folder() + "/single.jsonl -o " + dir + " --val 1%");
        if (o.code != 1 || o.output.find("single.jsonl: --val given, but its last document is ") == o.output.npos || o.output.find('\n') != o.output.size() - 1) FAIL("%d: %s", o.code, o.output.c_str());
        EXPECT(list_folder(dir).empty());
    }
    // of several files documents are drawn, of these three one: where that is the long one it is said
    int said = 0;
    for (int i = 0; i < 3; i++) {
        write_text("drawn1.jsonl", line('a', i == 0 ? 3000 : 10)), write_text("drawn2.jsonl", line('b', i == 1 ? 3000 : 10) + line('c', i == 2 ? 3000 : 10));
        remove_tree(dir);
        const Outcome o = run_command(TOKENIZE + " -i " + folder() + "/drawn1.jsonl " + folder() + "/drawn2.jsonl -o " + dir + " --val 30%");
        EXPECT(o.code == 0 && access((dir + "/val_000000.bin").c_str(), F_OK) == 0);
        said += o.output.find("more than half of the tokens of the 3 documents came to be held out") != o.output.npos;
    }
    EXPECT_EQ(said, 1);

    std::string large;
    while (large.size() < (30 << 20)) large += "one document of several batches " + std::to_string(large.size());
    write_text("large.txt", large);
    const std::string command = TOKENIZE + " -i " + folder() + "/large.txt --val 40% --shard-tokens 5M --save-every 0 -o " + folder();
    EXPECT_EQ(run_command(command + "/end_whole").code, 0);
    for (int i = 0; i < 100; i++) if (run_command(format("timeout -s KILL 0.%02d ", 20 + i % 60) + command + "/end_parts 2>&1").code == 0) break;
    EXPECT(run_command(command + "/end_parts").code == 0 && same_folders(folder() + "/end_whole", folder() + "/end_parts"));
    remove_tree(folder() + "/end_whole"), remove_tree(folder() + "/end_parts"), unlink((folder() + "/large.txt").c_str());
}

TEST(tokenize_leaves_out_bad_lines) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    const std::string dir = folder() + "/skip", command = TOKENIZE + " -i " + write_text("skip.jsonl", "{\"text\": \"a\"}\n{\n{\"text\": \"b<|endoftext|>\"}\n") + " -o " + dir;
    Outcome o = run_command(command + " --skip-bad 1 2>&1");
    EXPECT(o.code == 0 && o.output.find("skip.jsonl: 1 lines are no documents and were left out, the first: line 2 column 2") != o.output.npos);
    EXPECT(o.output.find("special tokens, as <|endoftext|>, are written in it 1 times and taken as plain text; --special 1") != o.output.npos);
    EXPECT(read_shard(dir + "/train_000000.bin") == with_ends({"a", "b<|endoftext|>"}));
    remove_tree(dir);
    EXPECT_EQ(run_command(command + " --skip-bad 1 --special 1").code, 0);
    EXPECT(read_shard(dir + "/train_000000.bin") == with_ends({"a", "b", ""}));
    remove_tree(dir);
    o = run_command(command);
    EXPECT(o.code == 1 && o.output.find("skip.jsonl: line 2 column 2") != o.output.npos && o.output.find("--skip-bad") != o.output.npos && list_folder(dir).empty());
}

TEST(tokenize_mistakes_are_one_line) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string out = folder() + "/mistake";
    write_text("one.txt", "text");
    write_shard("good.bin", numbers(0, 10));
    write_text("wide.txt", std::string("\xff\xfe" "a\0b\0", 6));
    write_text("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
    write_text("bad.jsonl.gz", "certainly not compressed");
    write_text("blank.txt", " \n<|endoftext|>\n");
    write_text("packed.txt", std::string("\x1F\x8B\x08\0\0\0\0\0", 8)), write_text("cut.txt.gz", std::string("\x1F\x8B\x08\0\0\0\0\0", 8)), write_text("zst.txt", "\x28\xB5\x2F\xFD and so on");
    for (const char* name : {"dangling.txt", "loop.txt", "pipe", "socket.txt"}) unlink((folder() + "/" + name).c_str());  // of an earlier run
    EXPECT(symlink("absent", (folder() + "/dangling.txt").c_str()) == 0 && symlink("loop.txt", (folder() + "/loop.txt").c_str()) == 0 && mkfifo((folder() + "/pipe").c_str(), 0600) == 0);
    EXPECT(mknod((folder() + "/socket.txt").c_str(), S_IFSOCK | 0600, 0) == 0);
    write_text("no_eot.json", replaced_once(Tokenizer::bytes().to_json(), "<|endoftext|>", "<|other|>"));
    struct Mistake { const char* options; int code; const char* says; };
    for (Mistake m : {
             Mistake{"", 2, "--input: missing"},
             {"-i", 2, "-i: names of text files must follow"},
             {"-i IN/one.txt", 2, "--out: missing"},
             {"-i IN/one.txt -o OUT --val 2", 2, "--val: '2' given, must be from 0 to below 1"},
             {"-i IN/one.txt -o OUT --val 1%%", 2, "--val: '1%%' given"},
             {"-i IN/one.txt -o OUT --val nan", 2, "--val: 'nan' given"},
             {"-i IN/one.txt -o OUT --shard-tokens 0", 2, "--shard-tokens: '0' given"},
             {"-i IN/one.txt -o OUT --shard-tokens 1.5", 2, "--shard-tokens: '1.5' given"},
             {"-i IN/one.txt -o OUT --shard-tokens 1X", 2, "--shard-tokens: '1X' given"},
             {"-i IN/one.txt -o OUT --what 1", 2, "--what: unknown option"},
             {"-i IN/one.txt -o", 2, "-o: a value must follow"},
             {"--train 256 -i IN/one.txt -o OUT", 2, "--train: '256' given"},
             {"--train 1000000000 -i IN/one.txt -o OUT", 2, "--train: '1000000000' given, must be a whole number from 257, 256 bytes and the end of text, to 16777216"},
             {"--train 300 -i IN/blank.txt -o OUT", 1, "blank.txt: no text in it"},
             {"-i IN/one.txt -o OUT --skip-bad 2000000000", 2, "--skip-bad: '2000000000' given, must be a whole number from 0 to 1000000000"},
             {"--train 300 -i IN/one.txt -o OUT --pattern gpt5", 2, "--pattern: 'gpt5' given, must be one of gpt2, llama3, cl100k, o200k"},
             {"-i IN/absent*.txt -o OUT", 1, "absent*.txt: no such file"},
             {"-i IN/good.bin -o OUT", 1, "good.bin: must be named .txt"},
             {"-i IN/blank.txt -o OUT", 1, "blank.txt: no text in it"},
             {"-i IN/bad.jsonl -o OUT", 1, "bad.jsonl: line 2: expected an object with a \"text\""},
             {"-i IN/wide.txt -o OUT", 1, "wide.txt: begins with the byte order mark of UTF-16"},
             {"-i IN/one.txt -o OUT --skip-bad -1", 2, "--skip-bad: '-1' given"},
             {"-i IN/one.txt -o OUT --special 2", 2, "--special: '2' given, must be 0 or 1"},
             {"-i IN/bad.jsonl.gz -o OUT", 1, "bad.jsonl.gz: is not compressed by gzip, though its name ends with .gz"},
             {"-i IN/cut.txt.gz -o OUT", 1, "cut.txt.gz: gzip cannot read it: damaged or cut short?"},
             {"-i IN/packed.txt -o OUT", 1, "packed.txt: is compressed by gzip: its name must end with .gz"},
             {"-i IN/zst.txt -o OUT", 1, "zst.txt: is compressed by zstd: zstd -d unpacks it"},
             {"-i IN/dangling.txt -o OUT", 1, "dangling.txt: is a link to a file that is not there"},
             {"-i IN/loop.txt -o OUT", 1, "loop.txt: Too many levels of symbolic links"},
             {"-i IN/socket.txt -o OUT", 1, "socket.txt: cannot open: is a socket, must be a file"},
             // what does nothing is refused, and so is what would be found wrong after the work
             {"-i IN/one.txt -o OUT --pattern llama3", 2, "--pattern: given, but only --train, which learns a tokenizer, has a use for it"},
             {"--train 300 -i IN/one.txt -o OUT --val 1%", 2, "--val: given, but --train, which learns a tokenizer, has no use for it"},
             {"--train 300 -i IN/one.txt -o OUT --tokenizer bytes", 2, "--tokenizer: given, but --train"},
             {"--train 300 -i IN/one.txt -o OUT --shard-tokens 9", 2, "--shard-tokens: given, but --train"},
             {"--train 300 -i IN/one.txt -o OUT --special 1", 2, "--special: given, but --train"},
             {"--train 300 -i IN/one.txt -o IN/", 2, "is a folder, must be a file"},
             {"--train 300 -i IN/one.txt -o IN/no/t.json", 2, "no/t.json: No such file or directory"},
             {"--train 300 -i IN/one.txt -o IN/pipe", 2, "pipe is a pipe or a device, must be a file"},
             {"-i IN/one.txt -o OUT --tokeniser bytes", 2, "--tokeniser: unknown option; is it --tokenizer? --help lists them"},
             {"-i IN/one.txt --output OUT", 2, "--output: unknown option; is it --out? --help lists them"},
             {"-i IN/one.txt -o OUT --vall=1%", 2, "--vall: unknown option; is it --val?"},
             {"-i IN/one.txt -o OUT -i", 2, "-i: names of text files must follow"},
             {"-i IN/one.txt -o OUT --val=2", 2, "--val: '2' given, must be from 0 to below 1"},
             {"-i IN/one.txt -o OUT --tokenizer IN/absent", 2, "absent' given: No such file or directory; must be bytes, a tokenizer.json, or a folder with vocab.bpe and encoder.json"},
             {"-i IN/one.txt -o OUT --tokenizer IN/no_eot.json", 1, "no end-of-text token"},
             {"--train 300 -i IN/bad.jsonl -o OUT", 1, "bad.jsonl: line 2"},
             {"-i IN/one.txt -o IN/one.txt", 2, "one.txt is a file, must be a folder for the shards"},
         }) {
        std::string options = m.options;
        for (size_t at; (at = options.find("IN/")) != options.npos;) options.replace(at, 2, folder());
        for (size_t at; (at = options.find("OUT")) != options.npos;) options.replace(at, 3, out);
        Outcome o = run_command(TOKENIZE + " " + options + " 2>&1");
        if (o.code != m.code || o.output.find(m.says) == o.output.npos || o.output.find('\n') != o.output.size() - 1)
            FAIL("%s: exit code %d, said \"%s\", expected %d, one line with \"%s\"", options.c_str(), o.code, o.output.c_str(), m.code, m.says);
        EXPECT(list_folder(out).empty());
    }
    for (int width : {60, 80, 200})  // the page is wrapped, and names every option once
        for (const std::string& line : [&] { std::vector<std::string> lines; std::string o = run_command(format("COLUMNS=%d ", width) + TOKENIZE + " --help < /dev/null | cat").output; for (size_t at = 0, end; at < o.size(); at = end + 1) end = std::min(o.find('\n', at), o.size()), lines.push_back(o.substr(at, end - at)); return lines; }())
            if ((int)line.size() > width && line.find("./tokenize") == line.npos) FAIL("--help of %d columns has a line of %zu: %s", width, line.size(), line.c_str());
    EXPECT(run_command(TOKENIZE + " --help").code == 0);
}

TEST(tokenize_learns) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string text;
    for (int i = 0; i < 3000; i++) text += format("the number %d isn't the number %d\n", i * i, i);
    write_text("learn.txt", text);
    for (const char* pattern : {"gpt2", "llama3", "cl100k"}) {
        std::string out = folder() + "/learnt.json";
        Outcome o = run_command(TOKENIZE + " --train 400 -i " + folder() + "/learn.txt -o " + out + " --pattern " + pattern);
        EXPECT_EQ(o.code, 0);
        Tokenizer t = Tokenizer::load(out);
        EXPECT_EQ(t.vocab_size(), 400);
        EXPECT_STR(split_regex(t.pattern()), split_regex(strcmp(pattern, "gpt2") ? strcmp(pattern, "llama3") ? SplitPattern::CL100K : SplitPattern::LLAMA3 : SplitPattern::GPT2));
    }
    // what is said to come next can be pasted
    const std::string blank = folder() + "/it's new";
    make_folders(blank);
    write_text("it's new/a b.txt", "ab ab ab");
    const Outcome learned = run_command(TOKENIZE + " --train 258 -i \"" + blank + "/a b.txt\" -o \"" + blank + "/t.json\"");
    EXPECT(learned.code == 0 && learned.output.find("next: ./tokenize -i '" + folder() + "/it'\\''s new/a b.txt' -o tokens --tokenizer '" + folder() + "/it'\\''s new/t.json' --val 1%\n") != learned.output.npos);
    Outcome few = run_command(TOKENIZE + " --train 300 -i " + write_text("few.txt", "ab") + " -o " + folder() + "/few.json");
    EXPECT(few.code == 0 && few.output.find("fewer than 300") != few.output.npos);
}

// A text of one character, or of anything, takes memory that does not grow with it: 40 MB are five times what is in flight.
TEST(tokenize_memory_has_a_bound) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("AddressSanitizer's own memory comes on top");
#endif
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string json = folder() + "/bound.json";
    PieceCounts counts;
    counts.add_text(std::string(100, 'a') + " " + std::string(100, 'a'), SplitPattern::GPT2);
    write_file_atomically(json, Tokenizer::train(counts, 262, SplitPattern::GPT2).to_json());
    write_text("bound.txt", std::string(40 << 20, 'a'));
    Outcome o = run_command(TOKENIZE + " -i " + folder() + "/bound.txt -o " + folder() + "/bound --tokenizer " + json + " 2>&1");
    EXPECT_EQ(o.code, 0);
    if (o.peak_mib > 600) FAIL("the peak was %.0f MiB", o.peak_mib);
    remove_tree(folder() + "/bound"), unlink((folder() + "/bound.txt").c_str());
}
