// What a file of questions asks is what the model is asked, and what it is asked is scored as a sum of log-probabilities.
#include <sys/time.h>
#include <csignal>
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"
#include "../test.h"

namespace {
std::string put(const std::string& name, const std::string& text) {
    std::string path = "build/tmp/eval_test/" + name;
    make_folders("build/tmp/eval_test");
    FileWriter file(path);
    file.write(text.data(), text.size()), file.close();
    return path;
}
EvalSet open_one(const std::string& name, const std::string& text, int T = 64) {
    static const Tokenizer bytes = Tokenizer::bytes();
    EvalSet set = open_eval_sets("set=" + put(name, text), false)[0];
    encode_eval_set(set, &bytes, T, 257);
    return set;
}
std::vector<int> tokens_of(const EvalItem& item, const EvalRow& row) {
    std::vector<int> tokens(item.size(row));
    item.copy_row(row, tokens.begin());
    return tokens;
}
// "context|scored" of each row, as text; <256> is the end of text
std::string shown(const EvalItem& item) {
    std::string out;
    for (const EvalRow& row : item.rows) {
        if (!out.empty()) out += " / ";
        const std::vector<int> tokens = tokens_of(item, row);
        for (size_t i = 0; i < tokens.size(); i++) {
            if (i + row.scored == tokens.size()) out += "|";
            out += tokens[i] == 256 ? "<256>" : std::string(1, (char)tokens[i]);
        }
    }
    return out;
}
std::string texts_of(const std::string& name, const std::string& text) {
    std::string out;
    for (const EvalItem& item : open_one(name, text).items) out += "[" + item.text + "]";
    return out;
}
std::string one_item(const std::string& line, int T = 64) {
    EvalSet set = open_one("one.jsonl", line + "\n", T);
    std::string lengths;
    for (const EvalRow& row : set.items[0].rows) lengths += format(" %u", row.length);
    return shown(set.items[0]) + format(" -> %d,", set.items[0].answer) + lengths;
}
}  // namespace

// Between items, and within a document that may be a whole file: the encoding of 16 MB takes longer than 2 ms.
// As a training text is: a byte order mark is no text, gzip is read through, what is no text is refused, and what a line holds beside what is asked is not looked at.
TEST(files_are_read_as_training_texts_are) {
    const std::string mark = "\xEF\xBB\xBF", utf16("\xFF\xFEh\0i\0", 6), lines = "{\"text\": \"one\", \"score\": NaN, \"all\": [Infinity, -Infinity]}\n{\"text\": \"\"}\n{\"text\": \"t\\ud83dwo\"}\n";
    EXPECT_STR(texts_of("mark.txt", mark + "one<|endoftext|> \n<|endoftext|>two"), "[one][two]");
    EXPECT_STR(texts_of("mark.jsonl", mark + lines), "[one][t\xEF\xBF\xBDwo]");
    EvalSet set = open_one("question.jsonl", mark + "{\"context\": \"a\", \"choices\": [\"b\", \"c\\udc00\"], \"answer\": 1, \"score\": NaN}\n");
    EXPECT_STR(shown(set.items[0]), "a| b / a| c\xEF\xBF\xBD");
    EXPECT_DIES("question.jsonl: line 1: \"answer\" is null", open_one("question.jsonl", "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": NaN}\n"));
    for (const char* name : {"wide.txt", "wide.jsonl", "wide"}) EXPECT_DIES("begins with the byte order mark of UTF-16", open_one(name, utf16));
    EXPECT_DIES("byte 3 is 0: not a text file", open_one("zero.txt", std::string("abc\0def", 7)));
    EXPECT_DIES("packed.txt: is compressed by gzip: its name must end with .gz", open_one("packed.txt", std::string("\x1F\x8B\x08\0", 4)));
    EXPECT_DIES("plain.txt.gz: is not compressed by gzip, though its name ends with .gz", open_one("plain.txt.gz", "abc"));
    EXPECT_DIES("empty.jsonl: nothing in it to evaluate", open_one("empty.jsonl", "{\"text\": \" \"}\n"));
    for (const char* name : {"whole.jsonl", "whole.txt"}) {
        const std::string path = put(name, lines);
        if (run_command("gzip -kf " + path).code) SKIP("there is no gzip");
        const std::string found = open_eval_sets("set=" + path + ".gz", false)[0].items[0].text;
        EXPECT_STR(found, name[6] == 'j' ? "one" : lines);
    }
}

TEST(encoding_can_be_stopped) {
    std::string text, lines;
    while (text.size() < 16 << 20) text += "one long document of many words ";
    for (int i = 0; i < 20; i++) lines += "{\"text\": \"a document\"}\n";
    for (const bool one : {true, false}) {
        const std::string path = put(one ? "one.txt" : "many.jsonl", one ? text : lines);
        Outcome o = run_child([&] {
            EvalSet set = open_eval_sets("a=" + path, false)[0];
            const Tokenizer bytes = Tokenizer::bytes();
            std::signal(SIGALRM, [](int) { g_stop_signal = SIGTERM; });
            const itimerval soon = {{0, 0}, {0, 2000}};
            if (one) setitimer(ITIMER_REAL, &soon, nullptr);
            else g_stop_signal = SIGTERM;
            encode_eval_set(set, &bytes, 1024, 257);
        });
        if (o.code != 128 + SIGTERM || o.output.find("interrupted while " + path + " was encoded") == o.output.npos) FAIL("%s: %d: %s", path.c_str(), o.code, o.output.c_str());
        unlink(path.c_str());
    }
}

// Context and choice are encoded together however long the context's last word is: pairs of letters are tokens here, and a cut of 256 bytes would part one.
TEST(long_words_are_not_cut) {
    std::string pairs;
    for (int i = 0; i < 4000; i++) pairs += "ab";
    const Tokenizer tokenizer = train_tokenizer({put("pairs.txt", pairs)}, 258);
    const std::string word = "ab" + pairs.substr(0, 598) + "a";
    EvalSet set = open_eval_sets("set=" + put("word.jsonl", "{\"context\": \"" + word + "\", \"choices\": [\"one\", \"two\"], \"answer\": 1}\n"), false)[0];
    encode_eval_set(set, &tokenizer, 1024, tokenizer.vocab_size());
    for (size_t i = 0; i < 2; i++) EXPECT(tokens_of(set.items[0], set.items[0].rows[i]) == tokenizer.encode(word + (i ? " two" : " one")));
}

TEST(plain_questions) {
    EXPECT_STR(one_item("{\"context\": \"a b\", \"choices\": [\"cd\", \"e\"], \"answer\": 1}"), "a b| cd / a b| e -> 1, 2 1");
    EXPECT_STR(one_item("{\"context\": \"a b\", \"choices\": [\"cd\", \"e\"], \"answer\": \"cd\"}"), "a b| cd / a b| e -> 0, 2 1");
    // in quotes it is the choice, even if it is a number
    EXPECT_STR(one_item("{\"context\": \"1 +\", \"choices\": [\"1\", \"0\"], \"answer\": \"0\", \"id\": 7}"), "1 +| 1 / 1 +| 0 -> 1, 1 1");
}
TEST(where_white_space_goes) {
    // brought by the choice, by the context: then it is the choice's, and no other is added; lengths count the choice alone
    EXPECT_STR(one_item("{\"context\": \"a\", \"choices\": [\" c\", \"d\"], \"answer\": 0}"), "a| c / a| d -> 0, 2 1");
    EXPECT_STR(one_item("{\"context\": \"a \\n\", \"choices\": [\"c\", \" d\"], \"answer\": 0}"), "a| \nc / a| \n d -> 0, 1 2");
    EXPECT_STR(one_item("{\"context\": \"\", \"choices\": [\"c\", \"\xC3\xA9\"], \"answer\": 0}"), "<256>|c / <256>|\xC3\xA9 -> 0, 1 1");
    EXPECT_STR(one_item("{\"context\": [\"x a\", \"y b\"], \"choices\": [\"is\", \"is\"], \"answer\": 1}"), "x a| is / y b| is -> 1, 2 2");
}
TEST(long_contexts_lose_their_beginning) {
    EXPECT_STR(one_item("{\"context\": \"abcdefgh\", \"choices\": [\"x\", \"yz\"], \"answer\": 0}", 6), "defgh| x / efgh| yz -> 0, 1 2");
}
TEST(hellaswag_questions) {
    using namespace eval_detail;
    EXPECT_STR(clean_hellaswag("  a [title] b [step] c [x"), "a. b c [x");
    EXPECT_STR(clean_hellaswag("[header] How to [a[b] c]"), " How to c]");
    EXPECT_STR(clean_hellaswag("a [x\ny] b [z] c"), "a [x\ny] b c");
    EXPECT_STR(clean_hellaswag("a   b    c"), "a  b  c");
    EXPECT_STR(capitalize("he Then SAT"), "He then sat");
    EXPECT_STR(capitalize(""), "");
    std::string rest = "\"endings\": [\"x.\", \"[step] y\"], \"label\": ";
    EXPECT_STR(one_item("{\"activity_label\": \"Cat\", \"ctx_a\": \"A cat.\", \"ctx_b\": \"the Cat\", \"ctx\": \"no\", " + rest + "\"1\"}"),
               "Cat: A cat. The cat| x. / Cat: A cat. The cat|  y -> 1, 2 2");
    EXPECT_STR(one_item("{\"ctx\": \"A cat\", " + rest + "0}"), "A cat| x. / A cat|  y -> 0, 2 2");
}
TEST(mmlu_questions) {
    std::string line = "{\"question\": \" Who? \", \"choices\": [\"I\", \"you\"], \"answer\": ";
    EXPECT_STR(one_item(line + "1}"), "Who?\nA. I\nB. you\nAnswer:| A / Who?\nA. I\nB. you\nAnswer:| B -> 1, 1 1");
    EXPECT(one_item(line + "\"A\"}").ends_with("B -> 0, 1 1") && one_item(line + "\"1\"}").ends_with("B -> 1, 1 1"));
    EXPECT_STR(one_item(line + "0, \"subject\": \"high_school\"}", 200).substr(0, 90),
               "The following are multiple choice questions (with answers) about high school.\n\nWho?\nA. I\nB");
}
TEST(documents_are_scored_once) {
    for (int T : {1, 2, 7, 64})
        for (int n : {1, 2, 6, 7, 8, 13, 14, 15, 63, 64, 65, 200}) {
            std::string text;
            for (int i = 0; i < n; i++) text += (char)('a' + i * 7 % 26);
            EvalSet set = open_one("text.txt", text, T);
            std::string scored;
            for (const EvalRow& row : set.items[0].rows) {
                const std::vector<int> tokens = tokens_of(set.items[0], row);
                EXPECT(tokens.size() <= (size_t)T + 1 && (tokens.size() == (size_t)T + 1 || n < T));
                for (size_t i = tokens.size() - row.scored; i < tokens.size(); i++) scored += (char)tokens[i];
            }
            EXPECT_STR(scored, text);
        }
    EvalSet set = open_one("text.txt", "one<|endoftext|> \n<|endoftext|>two");
    EXPECT_EQ(set.items.size(), 2u);
    EXPECT_STR(shown(set.items[0]) + shown(set.items[1]), "<256>|one<256>|two");
    set = open_one("text.jsonl", "{\"text\": \"ab\"}\n\n{\"text\": \"c\"}\n");
    EXPECT_STR(shown(set.items[0]) + shown(set.items[1]), "<256>|ab<256>|c");
}

namespace {
using Stream = std::vector<uint16_t>;
std::string bin(const Stream& tokens, int count, int magic = 20240522, int version = 1) {
    int32_t header[256] = {magic, version, count};
    return std::string((const char*)header, sizeof header) + std::string((const char*)tokens.data(), tokens.size() * 2);
}
}  // namespace

TEST(old_eval_files) {
    const Stream good = {65535, 28, 0, 1, 2, 2, 'a', 'b', 1, 'c', 3, 'd', 'e', 'f', 65535, 24, 1, 0, 2, 1, 'g', 1, 'h', 2, 'i', 'j'};
    EvalSet set = open_one("old.bin", bin(good, 2));
    EXPECT_STR(shown(set.items[0]) + ", " + shown(set.items[1]), "ab|c / ab|def, g|h / g|ij");
    EXPECT(set.items[0].answer == 1 && set.items[1].answer == 0 && set.items[0].rows[0].length == 1 && set.items[0].rows[1].length == 3);
    struct Wrong { size_t at; int value; const char* says; };
    for (Wrong w : {Wrong{0, 5, "old.bin: question 0 begins with 5, must be 65535"}, {14, 0, "question 1 begins with 0"},
                    {1, 26, "question 0 ends before its choices"}, {1, 30, "question 0 claims 30 bytes, has 28"}, {1, 0, "question 0 claims 0 bytes"},
                    {15, 26, "question 1 claims 26 bytes, the file holds 24: truncated?"}, {2, 1, "question 0 has the number 1"},
                    {3, 2, "question 0: answer 2 of 2 choices"}, {4, 1, "question 0: answer 1 of 1 choices"}, {4, 3, "question 0 ends before its choices"},
                    {5, 0, "question 0 has no context"}, {5, 60000, "question 0 ends before its context"}, {8, 0, "question 0: choice 0 is empty"},
                    {6, 257, "old.bin: holds token 257, the model's vocabulary has 257"}}) {
        Stream s = good;
        s[w.at] = (uint16_t)w.value;
        EXPECT_DIES(w.says, open_one("old.bin", bin(s, 2)));
    }
    EXPECT_DIES("old.bin: header says 3 questions, the file holds 2", open_one("old.bin", bin(good, 3)));
    EXPECT_DIES("old.bin: starts with 20240520, an eval file with 20240522", open_one("old.bin", bin(good, 2, 20240520)));
    EXPECT_DIES("old.bin: version 2, must be 1", open_one("old.bin", bin(good, 2, 20240522, 2)));
    EXPECT_DIES("old.bin: ends in the middle of a token", open_one("old.bin", bin(good, 2) + "x"));
    EXPECT_DIES("old.bin: 5 bytes, an eval file's header alone is 1024: truncated?", open_one("old.bin", "12345"));
    EXPECT_DIES("old.bin: nothing in it to evaluate", open_one("old.bin", bin({}, 0)));
    for (size_t n = 1; n < good.size(); n++)  // cut anywhere it is refused, in one line
        if (n != 14) EXPECT_DIES("old.bin: ", open_one("old.bin", bin({good.begin(), good.begin() + (long)n}, 2)));
}

TEST(questions_that_are_wrong) {
    struct Wrong { const char *text, *says; };
    for (Wrong w : {Wrong{"", "bad.jsonl: nothing in it to evaluate"},
                    {"{\"contexts\": 1}", "bad.jsonl: line 1: needs \"context\", \"endings\" (HellaSwag), \"question\" (MMLU) or \"text\""},
                    {"\n{\"context\": \"a\", \"choices\": [\"b\", \"c\"]}", "bad.jsonl: line 2: \"answer\" is missing"},
                    {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}", "\"answer\" is 2, expected from 0 to 1"},
                    {"{\"ctx\": \"a\", \"endings\": [], \"label\": 0}", "line 1: 0 choices, must be at least 2"},
                    {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": -1}", "\"answer\" is -1, expected from 0 to 1"},
                    {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": \"d\"}", "line 1: the answer \"d\" is not among the choices"},
                    {"{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}", "line 1: 1 choices, must be at least 2"},
                    {"{\"context\": \"a\", \"choices\": [], \"answer\": 0}", "line 1: 0 choices, must be at least 2"},
                    {"{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": \"b\"}", "line 1: 1 choices, must be at least 2"},
                    {"{\"question\": \"a\", \"choices\": [\"b\"], \"answer\": \"A\"}", "line 1: 1 choices, must be at least 2"},
                    {"{\"context\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}", "line 1: an empty choice"},
                    {"{\"context\": \"a\", \"choices\": [\"b\", 3], \"answer\": 0}", "\"choices\" holds 3, must hold strings"},
                    {"{\"context\": \"a\", \"choices\": \"bc\", \"answer\": 0}", "\"choices\" is \"bc\", expected an array"},
                    {"{\"context\": [\"a\", \"b\", \"c\"], \"choices\": [\"b\", \"c\"], \"answer\": 0}", "3 contexts for 2 choices, must be one, or one for each"},
                    {"{\"context\": [\"a\"], \"choices\": [\"b\", \"c\"], \"answer\": 0", "bad.jsonl: line 1 column"},
                    {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": \"\"}", "\"label\" is \"\", expected an integer"},
                    {"{\"ctx_a\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 0}", "\"ctx\" is missing"},
                    {"{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": \"C\"}", "\"answer\" is \"C\", expected an integer"},
                    {"{\"text\": 5}", "\"text\" is 5, expected a string"},
                    {"{\"text\": \"a\"}\n{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}", "line 2: a question among documents"},
                    {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}\n{\"text\": \"a\"}", "line 2: a document among questions"}})
        EXPECT_DIES(w.says, open_one("bad.jsonl", w.text));
    EXPECT_DIES("one.jsonl: 1: a choice of 9 tokens, the model's context is 8", one_item("{\"context\": \"a\", \"choices\": [\"12345678\", \"c\"], \"answer\": 0}", 8));
    EXPECT_DIES("text.txt: nothing in it to evaluate", open_one("text.txt", " \n"));
    EXPECT_DIES("nothere.jsonl: cannot open: No such file", open_eval_sets("a=build/tmp/nothere.jsonl", false));
    std::string good = put("one.jsonl", "{\"text\": \"a\"}");
    for (std::string option : std::vector<std::string>{"what", "=x", "a=", "a b=x", "../a=x", "a=" + good + ",a=" + good, ",", "a=" + good + ",,"})
        EXPECT_DIES("must be NAME=FILE", open_eval_sets(option, false));
    EXPECT_DIES("must be NAME=FILE", open_eval_sets("hellaswag=" + good, true));
    EXPECT_DIES("--hellaswag: needs dev/data/hellaswag/hellaswag_val.jsonl or .bin", if (chdir("build/tmp/eval_test")) abort(); open_eval_sets("", true));
    EXPECT_DIES("is text, and there is no tokenizer", EvalSet set = open_eval_sets("a=" + good, false)[0]; encode_eval_set(set, nullptr, 8, 257));
    EXPECT_EQ(open_eval_sets("a=" + good + ",b=" + good, false).size(), 2u);
}

// The sums against each row's own logits, softmax in double. The logits are bitwise identical on both sides, so that only the
// softmax in fp32 differs: a token's loss, of a sum of 131 numbers below e^16, is good to 2^-20 of its size, at most 8.
template <class F> static void check_sums() {
    const Config c{.max_T = 24, .V = 131, .L = 2, .NH = 3, .C = 48};
    Model<F> model(c, {.B = 2, .T = 24, .train = false});
    model.allocate();
    initialize(model, 0.2, 7);
    EvalItem item;
    for (int i = 0; i < 23; i++) {  // of all lengths, in no order
        const int n = i == 0 ? 2 : i == 1 ? 25 : 2 + i * 11 % 24;
        for (int t = 0; t < n; t++) item.tokens.push_back((int)(philox(5, RNG_TEST, (uint32_t)i, (uint64_t)t).x[0] % 131));
        item.rows.push_back({(uint32_t)item.tokens.size() - (uint32_t)n, (uint32_t)n, (uint32_t)(1 + i * 5 % std::min(n - 1, 20))});
    }
    std::vector<ItemRow> all, turned;
    for (const EvalRow& row : item.rows) all.push_back({&item, &row});
    const std::vector<double> sums = score_rows(model, all);
    for (size_t i = 0; i < all.size(); i++) {
        const EvalRow& row = item.rows[i];
        const std::vector<int> tokens = tokens_of(item, row);
        const size_t T = tokens.size() - 1, V = (size_t)c.V;
        forward_trunk(model, tokens.data(), {.B = 1, .T = (int)T, .by_document = false});
        std::vector<F> logits(T * V);
        matmul_forward(logits.data(), model.tensors().lnf, model.tensors().wte, (const F*)nullptr, T, c.C, c.V, {}, model.stream);
        double expected = 0, largest = 0;
        for (size_t t = T - (size_t)row.scored; t < T; t++) {
            double total = 0;
            for (size_t v = 0; v < V; v++) total += std::exp((double)(float)logits[t * V + v]), largest = std::max(largest, std::fabs((double)(float)logits[t * V + v]));
            expected += (double)(float)logits[t * V + (size_t)tokens[t + 1]] - std::log(total);
        }
        EXPECT(largest < 8 && largest > 0.1);
        if (!(std::fabs(sums[i] - expected) <= row.scored * 8 * 0x1p-20)) FAIL("row %zu: %.9f, expected %.9f", i, sums[i], expected);
    }
    for (size_t i = all.size(); i-- > 0;) turned.push_back(all[i]);  // neighbours change nothing
    std::vector<double> again = score_rows(model, turned);
    std::reverse(again.begin(), again.end());
    EXPECT(again == sums);
}
TEST(sums_of_log_probabilities) { check_sums<float>(), check_sums<bf16>(); }

// Rows are as long as the model's context, not the run's: in a model planned for short micro-batches the sums have the bits that a model
// planned for the whole context gives, and so has a completion. What does not fit even there is counted.
template <class F> static void check_long_rows() {
    const Config c{.max_T = 48, .V = 257, .L = 2, .NH = 3, .C = 48};
    const Tokenizer bytes = Tokenizer::bytes();
    const std::string line = "{\"context\": \"one two three four five six\", \"choices\": [\"seven\", \"eight\"], \"answer\": \"seven\"}\n";
    EvalSet set = open_eval_sets("set=" + put("long.jsonl", line), false)[0];
    encode_eval_set(set, &bytes, c.max_T, c.V);
    EXPECT_EQ(set.cut, 0);
    EXPECT_EQ(set.longest, 32);             // 27 bytes of context, 6 of the choice, and the last is a target only
    EXPECT_EQ(set.longest_completion, 34);  // an end of text before the context
    std::vector<std::vector<double>> sums;
    std::vector<std::vector<int>> said;
    for (int T : {8, 48}) {
        Model<F> model(c, {.B = 1, .T = T, .train = T == 8, .eval_T = set.longest, .complete_T = set.longest_completion});
        model.allocate();
        initialize(model, 0.2, 7);
        std::vector<ItemRow> rows;
        for (const EvalRow& row : set.items[0].rows) rows.push_back({&set.items[0], &row});
        sums.push_back(score_rows(model, rows));
        said.emplace_back();
        generate(model, eval_detail::prompt_of(bytes, set.items[0].contexts[0]), 6, {.temperature = 0}, 0, 0,
                 [&](int token) { return said.back().push_back(token), true; }, std::max(model.options.T, model.options.complete_T));
    }
    EXPECT(sums[0] == sums[1]);
    EXPECT(said[0] == said[1]);
}
TEST(rows_are_as_long_as_the_models_context) { check_long_rows<float>(), check_long_rows<bf16>(); }
TEST(what_does_not_fit_is_counted) {
    const Tokenizer bytes = Tokenizer::bytes();
    std::string lines;
    for (const char* context : {"short", "a context that is far longer", "also one that is longer than that"})
        lines += format("{\"context\": \"%s\", \"choices\": [\"x\", \"y\"], \"answer\": 0}\n", context);
    EvalSet set = open_eval_sets("set=" + put("cut.jsonl", lines), false)[0];
    encode_eval_set(set, &bytes, 16, 257);
    EXPECT_EQ(set.cut, 2);
    EXPECT_EQ(set.longest, 16);
}
