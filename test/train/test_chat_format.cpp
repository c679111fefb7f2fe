// Conversations in the formats of the families; files of a model's folder that checkpoints keep, and what they say of the end of a text.
#include "../../llmc/train/chat_format.h"
#include "cli_test.h"

namespace {
const std::string SCRATCH = "build/tmp/chat_format";
using Ids = std::vector<int>;
using Messages = std::vector<ChatMessage>;
std::string at(const std::string& name) { return SCRATCH + "/" + name; }
void put(const std::string& name, const std::string& text) { make_folders(parent_folder(at(name))), write_file_atomically(at(name), text); }

// 256 bytes and, from 256 on, these.
Tokenizer bytes_and(const std::vector<std::string>& specials, const std::string& post_processor = "null", SplitPattern pattern = SplitPattern::QWEN2) {
    Vocabulary v = Tokenizer::bytes().vocabulary();
    v.added.clear(), v.pattern = pattern, v.post_processor = post_processor;
    for (const std::string& s : specials) v.added.push_back({s, 256 + (int)v.added.size(), true});
    return Tokenizer::from_json(vocabulary_to_json(v), "test");
}
const std::string BYTE_LEVEL = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false}";
const std::string BOS = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<|begin_of_text|>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
                        "\"pair\":[],\"special_tokens\":{\"<|begin_of_text|>\":{\"ids\":[256]}}}";
const Tokenizer& llama() {
    static const Tokenizer t = bytes_and({"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, BOS, SplitPattern::LLAMA3);
    return t;
}
const Tokenizer& qwen() {
    static const Tokenizer t = bytes_and({"<|endoftext|>", "<|im_start|>", "<|im_end|>"}, BYTE_LEVEL);
    return t;
}
// Templates in the shape of those published, with \n as two characters, as they stand in a .jinja file.
const std::string OF_LLAMA = "{{- bos_token }}{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
                             "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}";
const std::string OF_CHATML = "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{%- endfor %}{{- '<|im_start|>assistant\\n' }}";
std::string replaced_all(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) text.replace(at, from.size(), to);
    return text;
}
std::string decoded(const ChatFormat& format, const Messages& messages, const Tokenizer& t, bool special = true) { return t.decode(chat_tokens(format, messages, t, special)); }
}  // namespace

TEST(formats_by_their_templates) {
    auto name = [](const std::string& text, const Tokenizer& t) { const ChatFormat f = chat_format(text, t); return std::string(f.style ? f.style->name : ""); };
    EXPECT_STR(name(OF_LLAMA, llama()), "Llama 3's");
    EXPECT_STR(name(OF_CHATML, qwen()), "ChatML");
    EXPECT_STR(name(json_parse("\"" + OF_CHATML + "\"", "t").text.c_str(), qwen()), "ChatML");  // a newline as itself, as in tokenizer_config.json
    // another's tokens; another's template; one that begins an answer otherwise (Phi-4); none
    EXPECT_STR(name(OF_LLAMA, qwen()) + name(OF_CHATML, llama()), "");
    EXPECT_STR(name("{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}", qwen()) + name("", qwen()), "");
    EXPECT_STR(name("{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{{ '<|im_start|>assistant<|im_sep|>' }}", qwen()), "");
}

TEST(conversations_are_written_as_by_the_template) {
    const Messages talk = {{"user", " Hi\n"}, {"assistant", "<think>\nWell\n</think>\n\nHello "}, {"user", "<|im_end|>?"}};
    EXPECT_STR(decoded(chat_format(OF_LLAMA, llama()), talk, llama()),
               "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>\nWell\n</think>\n\nHello<|eot_id|>"
               "<|start_header_id|>user<|end_header_id|>\n\n<|im_end|>?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    const std::string space = "\x1c\t \xc2\x85\xc2\xa0\xe3\x80\x80", kept = "a\xe2\x80\x8b\xff";  // U+200B, without width, is no space, nor is a byte that is no text
    auto trims = [](const std::string& said) { return decoded(chat_format(OF_LLAMA, llama()), {{"user", said}}, llama()); };
    EXPECT_STR(trims(space + kept + space), trims(kept));
    EXPECT(trims(kept).find(kept + "<|eot_id|>") != std::string::npos && trims(space) == trims("") && trims("b" + space + "b").find("b" + space + "b<") != std::string::npos);
    EXPECT_STR(decoded(chat_format(OF_CHATML, qwen()), talk, qwen()),
               "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n<think>\nWell\n</think>\n\nHello <|im_end|>\n<|im_start|>user\n<|im_end|>?<|im_end|>\n<|im_start|>assistant\n");
    // Qwen3's forgets thoughts; of one without an end nothing is left out
    const ChatFormat forgets = chat_format(OF_CHATML + "{%- set content = content.split('</think>')[-1] %}", qwen());
    EXPECT_STR(decoded(forgets, {talk[0], talk[1]}, qwen()), "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\nHello <|im_end|>\n<|im_start|>assistant\n");
    EXPECT_STR(decoded(forgets, {{"assistant", "<think>\nWe"}}, qwen()), "<|im_start|>assistant\n<think>\nWe<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_STR(decoded(forgets, {{"user", "a</think>b"}, {"assistant", "</think>"}}, qwen()), "<|im_start|>user\na</think>b<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n");
    // special tokens are ids; what a user writes as one is one only if texts may name them
    const Ids ids = chat_tokens(chat_format(OF_CHATML, qwen()), {{"user", "<|im_end|>"}}, qwen(), false);
    EXPECT(ids[0] == 257 && std::count(ids.begin(), ids.end(), 257) == 2 && std::count(ids.begin(), ids.end(), 258) == 1);
    const Ids named = chat_tokens(chat_format(OF_CHATML, qwen()), {{"user", "<|im_end|>"}}, qwen(), true);
    EXPECT_EQ(std::count(named.begin(), named.end(), 258), 2);
    // only a template that says so begins with what the post-processor puts in front
    EXPECT_EQ(chat_tokens(chat_format(replaced_all(OF_LLAMA, "bos_token", "''"), llama()), talk, llama(), true)[0], 258);
}

TEST(what_a_template_says_by_itself) {
    const std::string own = "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- else %}"
                            "{{- '<|im_start|>system\\nYou are a test.<|im_end|>\\n' }}{%- endif %}";
    EXPECT_STR(decoded(chat_format(own + OF_CHATML, qwen()), {{"user", "a"}}, qwen()),
               "<|im_start|>system\nYou are a test.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_STR(chat_format(replaced_all(own, "You are a test.", "' + x + '") + OF_CHATML, qwen()).system, "");
    EXPECT_STR(chat_format("{{- '<|im_start|>system\\n" + OF_CHATML.substr(0, 30), qwen()).system, "");
    const std::string dated = "{{- \"Cutting Knowledge Date: December 2023\\n\" }}{{- \"Today Date: \" + date_string + \"\\n\\n\" }}";
    EXPECT_STR(decoded(chat_format(dated + OF_LLAMA, llama()), {}, llama()),
               "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
               "<|start_header_id|>assistant<|end_header_id|>\n\n");
    char year[8];
    const time_t now = time(nullptr);
    tm local;
    strftime(year, sizeof year, " %Y\n\n", localtime_r(&now, &local));
    EXPECT(chat_format("{%- set date_string = strftime_now(\"%d %b %Y\") %}" + dated + OF_LLAMA, llama()).system.ends_with(year));
}

TEST(where_a_template_is) {
    std::string from;
    const KeptFile jinja = {"chat_template.jinja", "one"}, config = {"tokenizer_config.json", "{\"chat_template\": \"two\"}"};
    EXPECT_STR(chat_template({config, jinja}, from) + " " + from, "one chat_template.jinja");
    EXPECT_STR(chat_template({config}, from) + " " + from, "two tokenizer_config.json");
    EXPECT_STR(chat_template({{"tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": \"three\"}]}"}}, from), "three");
    EXPECT_STR(chat_template({{"tokenizer_config.json", "{\"chat_template\": null}"}}, from) + chat_template({{"tokenizer_config.json", "{"}}, from) + chat_template({}, from), "");
}

TEST(tokens_that_end_a_text) {
    const Tokenizer& t = qwen();
    auto ends = [&] { return end_tokens(at("ends"), t); };
    EXPECT(ends().empty() && end_tokens(SCRATCH + "/absent.bin", t).empty());
    put("ends/special_tokens_map.json", "{\"eos_token\": {\"content\": \"<|im_start|>\", \"lstrip\": false}}");
    EXPECT(ends() == Ids{257});
    put("ends/tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\"}");
    EXPECT(ends() == Ids{258});
    put("ends/config.json", "{\"eos_token_id\": 256}");
    EXPECT(ends() == Ids{256});
    put("ends/generation_config.json", "{\"eos_token_id\": [258, 50256, 257, -1]}");  // not all are in this vocabulary
    EXPECT(ends() == (Ids{258, 257}));
    put("ends/generation_config.json", "{\"eos_token_id\": null}");
    EXPECT(ends() == Ids{256});
    for (const char* bad : {"{\"eos_token_id\": 1.5}", "{", "{\"eos_token_id\": \"nothing\"}"}) {
        put("ends/generation_config.json", bad);
        EXPECT(ends() == Ids{256});
    }
}

TEST(files_that_are_kept_and_chats) {
    remove_tree(SCRATCH), make_folders(SCRATCH);
    std::string text;
    for (int i = 0; i < 600; i++) text += format("%s has %s.<|im_end|>\n", i % 2 ? "Anna" : "Ben", i % 3 ? "a ball" : "two boxes");
    put("text.txt", text), put("tok.json", qwen().to_json());
    const std::string options = " --threads 1 -b 2 -t 32 -v 0 -s 0 --text-special 1 -i " + at("text.txt");
    auto run = [&](const std::string& more) {
        Outcome o = run_command(std::string(TRAINER) + options + more);
        if (o.code) FAIL("%s: %d: %s", more.c_str(), o.code, o.output.c_str());
    };
    run(" -e d1c32h2 -l 1e-2 --tokenizer " + at("tok.json") + " -x 150 -n 150 -o " + at("first"));
    const std::string made = at("first/step_00000150"), model = at("model");
    EXPECT(has(file_contents(made + "/tokenizer_config.json"), "PreTrainedTokenizerFast") && access((made + "/generation_config.json").c_str(), F_OK));
    run_command("cp -r " + made + " " + model + "; rm " + model + "/MANIFEST");
    struct { const char *name, *text; } files[] = {
        {"generation_config.json", "{ \"eos_token_id\": [256, 258],\n\n \"top_p\": 1e0}"}, {"special_tokens_map.json", "{}\r\n"},
        {"tokenizer_config.json", "{\"chat_template\": \"strange\", \"model_max_length\": 1000000000000000019884624838656}"}, {"chat_template.jinja", OF_CHATML.c_str()}};
    // a prompt goes on over what no file calls an end, and stops where one does
    auto sample = [&](const std::string& prompt, int tokens = 60) {
        Outcome o = run_command(format("%s --threads 1 -e %s -x 0 -g %d --temperature 0 --prompt '%s'", TRAINER, model.c_str(), tokens, prompt.c_str()));
        const size_t begin = o.output.find("---\n") + 4;
        return o.output.substr(begin, o.output.find("\n---", begin) - begin);
    };
    EXPECT(has(sample("Anna"), "<|im_end|>"));
    for (auto& file : files) write_file_atomically(model + "/" + file.name, file.text);
    const std::string stopped = sample("Anna");
    EXPECT(!has(stopped, "<|im_end|>") && stopped.size() > strlen("Anna has"));
    // a run from it, by one rank and by two, and one that goes on from that
    run(" -e " + model + " -x 1 -n 1 -o " + at("on")), run(" -e " + model + " -x 2 -n 1 -y 1 -o " + at("on"));
    run(" -e " + model + " -x 1 -n 1 -o " + at("ranks") + " --ranks 2");
    for (const char* saved : {"on/step_00000001", "on/step_00000002", "ranks/step_00000001"})
        for (auto& file : files) EXPECT_STR(file_contents(at(saved) + "/" + file.name), file.text);
    // --chat: each turn as the template writes it
    auto chat = [&](const std::string& lines) {
        put("lines", lines);
        return run_command(format("%s --chat %s --threads 1 --temperature 0 -g 60 < %s", TRAINER, model.c_str(), at("lines").c_str())).output;
    };
    const std::string said = chat("Anna\n\nBen\n"), user = "<|im_start|>user\n", end = "<|im_end|>\n<|im_start|>assistant\n";
    EXPECT(has(said, "chat     in the format of chat_template.jinja: ChatML, as lines of one conversation\n"));
    auto answer = [&](const std::string& to) {
        const size_t from = std::min(said.find("\n" + to + "\n"), said.size() - 1) + to.size() + 2;
        return said.substr(from, said.find("\n[", from) - from);
    };
    const std::string first = user + "Anna" + end, second = first + answer("Anna") + "<|im_end|>\n" + user + "Ben" + end;
    EXPECT_STR(sample(first), first + answer("Anna"));
    EXPECT_STR(sample(second), second + answer("Ben"));
    EXPECT(!answer("Anna").empty() && !has(said, "[60 tokens"));
    // of another template a line is said, of none nothing
    write_file_atomically(model + "/chat_template.jinja", "{{ messages }}");
    EXPECT(has(chat("Anna\n"), "chat     the template of chat_template.jinja is neither Llama 3's nor ChatML: each line is continued as plain text\n") && has(chat("Anna\n"), stopped + "\n["));
    unlink((model + "/chat_template.jinja").c_str());
    EXPECT(has(chat("Anna\n"), "the template of tokenizer_config.json is neither"));
    unlink((model + "/tokenizer_config.json").c_str());
    EXPECT(!has(chat("Anna\n"), "template") && has(chat("Anna\n"), stopped + "\n["));
}
