// What a tokenizer.json's post-processor puts in front of a text, what prompts and evaluated texts begin with, and which tokens end one.
#include "../../llmc/model/generate.h"
#include "../../llmc/train/eval_sets.h"
#include "tokenizer_test.h"

namespace {
const std::string SCRATCH = "build/tmp/post_processor";
using Ids = std::vector<int>;

const std::string BYTE_LEVEL = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false,\"use_regex\":true}";
// {"type": "TemplateProcessing"} of these pieces; special_tokens knows <|bos|>, 256, and <two>, which is 258 and 257.
std::string template_of(const std::string& single) {
    return "{\"type\":\"TemplateProcessing\",\"single\":[" + single + "],\"pair\":[],\"special_tokens\":{\"<|bos|>\":{\"id\":\"<|bos|>\",\"ids\":[256],\"tokens\":[\"<|bos|>\"]},"
           "\"<two>\":{\"id\":\"<two>\",\"ids\":[258,257],\"tokens\":[\"<b>\",\"<a>\"]}}}";
}
std::string special(const std::string& name) { return "{\"SpecialToken\":{\"id\":\"" + name + "\",\"type_id\":0}}"; }
const std::string TEXT = "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}";

Tokenizer with(const std::string& post_processor, SplitPattern pattern = SplitPattern::LLAMA3) {
    Vocabulary v = Tokenizer::bytes().vocabulary();
    v.pattern = pattern;
    v.added = {{"<|bos|>", 256, true}, {"<a>", 257, true}, {"<b>", 258, true}};
    v.post_processor = post_processor;
    return Tokenizer::load(scratch("post.json", vocabulary_to_json(v)));
}
}  // namespace

TEST(what_stands_in_front) {
    const std::string bos = template_of(special("<|bos|>") + "," + TEXT);
    EXPECT(with(bos).front() == Ids{256});
    EXPECT(with("{\"type\":\"Sequence\",\"processors\":[" + BYTE_LEVEL + "," + bos + "]}").front() == Ids{256});  // Llama 3's
    EXPECT(with(template_of(TEXT + "," + special("<|bos|>"))).front().empty());  // behind the text
    EXPECT(with(template_of(special("<two>") + "," + special("<|bos|>") + "," + TEXT + "," + special("<two>"))).front() == (Ids{258, 257, 256}));
    EXPECT(with("{\"type\":\"Sequence\",\"processors\":[" + bos + "," + template_of(special("<two>") + "," + TEXT) + "]}").front() == (Ids{258, 257, 256}));
    EXPECT(with("{\"type\":\"RobertaProcessing\",\"sep\":[\"<b>\",258],\"cls\":[\"<a>\",257],\"trim_offsets\":true,\"add_prefix_space\":false}").front() == Ids{257});
    for (const std::string& nothing : {std::string("null"), BYTE_LEVEL, template_of(TEXT), std::string("{\"type\":\"Sequence\",\"processors\":[]}")}) EXPECT(with(nothing).front().empty());
    // written as it was read; the ids of a text are the same
    for (const std::string& post : {bos, BYTE_LEVEL, std::string("null")}) {
        const Tokenizer t = with(post), again = Tokenizer::load(scratch("again.json", t.to_json()));
        EXPECT(again.front() == t.front() && again.start() == t.start() && json_parse(t.to_json(), "t").find("post_processor") && again.to_json() == t.to_json());
        EXPECT_STR(json_dump(*json_parse(t.to_json(), "t").find("post_processor")), json_dump(json_parse(post, "p")));
        EXPECT(t.encode("<|bos|>a") == with("null").encode("<|bos|>a") && t.fingerprint() == with("null").fingerprint());
    }
    EXPECT_DIES("the post-processor is \"Strange\"", with("{\"type\":\"Strange\"}"));
    EXPECT_DIES("\"<no>\" is missing", with(template_of(special("<no>") + "," + TEXT)));
    EXPECT_DIES("puts the token 259 in front of a text, the vocabulary has 259", with("{\"type\":\"BertProcessing\",\"sep\":[\"b\",1],\"cls\":[\"x\",259]}"));
    EXPECT_DIES("cls is not a token and its id", with("{\"type\":\"BertProcessing\",\"sep\":[\"b\",1],\"cls\":[]}"));
}

TEST(what_prompts_begin_with) {
    auto prompt = [](const Tokenizer& t, const char* text, bool special = true) { return prompt_tokens(t, text, special); };
    EXPECT_EQ(with("null").eot(), 256);  // by its name
    const std::string two = "{\"type\":\"TemplateProcessing\",\"single\":[" + special("<a>") + "," + TEXT + "],\"special_tokens\":{\"<a>\":{\"ids\":[257]}}}";
    const Tokenizer none = with("null"), a = with(two), silent = with(BYTE_LEVEL), gpt2 = with(BYTE_LEVEL, SplitPattern::GPT2);
    EXPECT(prompt(none, "x") == (Ids{256, 'x'}) && prompt(none, "") == Ids{256} && prompt(none, "<|bos|>x") == (Ids{256, 'x'}));
    EXPECT(prompt(a, "x") == (Ids{257, 'x'}) && prompt(a, "") == Ids{257} && prompt(a, "<a>x") == (Ids{257, 'x'}) && prompt(a, "<|bos|>x") == (Ids{257, 256, 'x'}));
    EXPECT_EQ(prompt(a, "<a>", false).size(), 4u);
    EXPECT(prompt(silent, "x") == Ids{'x'} && prompt(silent, "") == Ids{256});   // as Qwen's
    EXPECT(prompt(gpt2, "x") == (Ids{256, 'x'}) && prompt(gpt2, "") == Ids{256});  // GPT-2's own file, and nothing changes
    Vocabulary v = gpt2.vocabulary();
    v.digits = DigitSplit::EACH;                                                  // SmolLM2's
    EXPECT(prompt(Tokenizer::load(scratch("digits.json", vocabulary_to_json(v))), "x") == Ids{'x'});
    v.digits = DigitSplit::NONE, v.nfc = true;
    EXPECT(prompt(Tokenizer::load(scratch("nfc.json", vocabulary_to_json(v))), "x") == Ids{'x'});
}

TEST(what_ends_a_text) {
    Tokenizer t = with("null");
    EXPECT(t.is_end(256) && !t.is_end(257) && !t.is_end(-1) && t.ends().empty());
    t.set_ends({258, 257});
    EXPECT(t.eot() == 256 && t.is_end(256) && t.is_end(257) && t.is_end(258) && !t.is_end('a'));
    // no name tells: the first that a file lists
    Vocabulary v = t.vocabulary();
    v.added = {{"<one>", 256, true}, {"<a>", 257, true}};
    Tokenizer unnamed = Tokenizer::load(scratch("unnamed.json", vocabulary_to_json(v)));
    EXPECT(unnamed.eot() == -1 && !unnamed.is_end(-2) && unnamed.start().empty());
    unnamed.set_ends({});
    EXPECT_EQ(unnamed.eot(), -1);
    unnamed.set_ends({257, 256});
    EXPECT(unnamed.eot() == 257 && unnamed.is_end(256) && unnamed.start() == Ids{257});
    EXPECT(unnamed.special_id("<a>") == 257 && unnamed.special_id("<b>") == -1 && unnamed.special_id("a") == -1);
}

namespace {
// "context|scored" of each row of a question or document, as text
std::string evaluated(const Tokenizer& t, const std::string& file, const std::string& text) {
    EvalSet set = open_eval_sets("set=" + scratch(file, text), false)[0];
    encode_eval_set(set, &t, 4096, t.vocab_size());
    std::string out;
    for (const EvalItem& item : set.items)
        for (const EvalRow& row : item.rows) {
            Ids tokens(item.size(row));
            item.copy_row(row, tokens.begin());
            out += (out.empty() ? "" : " / ") + t.decode(tokens.data(), tokens.size() - row.scored) + "|" + t.decode(tokens.data() + tokens.size() - row.scored, row.scored);
        }
    return out;
}
}  // namespace

TEST(what_evaluated_texts_begin_with) {
    const std::string two = "{\"type\":\"TemplateProcessing\",\"single\":[" + special("<a>") + "," + special("<b>") + "," + TEXT + "],\"special_tokens\":{\"<a>\":{\"ids\":[257]},\"<b>\":{\"ids\":[258]}}}";
    const Tokenizer none = with("null"), ab = with(two), silent = with(BYTE_LEVEL);
    auto question = [](const std::string& context) { return "{\"context\": " + context + ", \"choices\": [\"cd\", \"e\"], \"answer\": 1}\n"; };
    auto asked = [&](const Tokenizer& t, const std::string& context) { return evaluated(t, "q.jsonl", question(context)); };
    EXPECT_STR(asked(ab, "\"x y\""), "<a><b>x y| cd / <a><b>x y| e");
    EXPECT_STR(asked(ab, "\"\""), "<a><b>|cd / <a><b>|e");
    EXPECT_STR(asked(ab, "[\"x\", \"\"]"), "<a><b>x| cd / <a><b>|e");
    const std::string words(700, 'w'), spaced = words + " " + words;  // shared by the choices, up to its last place to cut
    EXPECT_STR(asked(ab, "\"" + spaced + "\""), "<a><b>" + spaced + "| cd / <a><b>" + spaced + "| e");
    EXPECT_STR(asked(none, "\"x y\""), "x y| cd / x y| e");
    EXPECT_STR(asked(none, "\"\"") + asked(silent, "\"\""), "<|bos|>|cd / <|bos|>|e<|bos|>|cd / <|bos|>|e");
    EXPECT_STR(evaluated(ab, "d.txt", "one<|endoftext|>two") + ", " + evaluated(none, "d.txt", "one"), "<b>|one / <b>|two, <|bos|>|one");
    EXPECT_STR(ab.decode(eval_detail::prompt_of(ab, "x")) + " " + ab.decode(eval_detail::prompt_of(none, "x")) + " " + ab.decode(eval_detail::prompt_of(silent, "x")), "<a><b>x <|bos|>x x");
    EXPECT_STR(silent.decode(eval_detail::prompt_of(silent, "")), "<|bos|>");
}
