// eval_sets.h: files of questions -> rows of tokens to score. What is scored, and how, is lm-evaluation-harness's: a choice
// is as likely as the sum of the log-probabilities of its tokens behind its context.
//
//     NAME=FILE.jsonl   one question a line, of one of three kinds that its fields tell apart:
//       {"context", "choices", "answer"}      answer: the index of the right choice, or the choice itself; that file's contexts are
//                                             also completed greedily. context may be an array, one for each choice. A space
//                                             stands between context and choice unless one of them brings white space.
//       {"activity_label", "ctx_a", "ctx_b", "endings", "label"}   HellaSwag
//       {"question", "choices", "answer", "subject"}               MMLU: the letters are the choices
//       {"text"}                              no question: a document, whose bits per byte are measured
//     NAME=FILE.bin     the older format: 256 int32 of header, then uint16 tokens; acc_norm counts tokens, for there is no text
//     NAME=FILE         any other file: text, documents separated by <|endoftext|>; bits per byte
#pragma once
#include <functional>
#include "../io/files.h"
#include "../io/json.h"
#include "../base/stop.h"
#include "../data/shards.h"
#include "../data/text.h"
#include "../tokenizer/tokenizer.h"

// tokens[0 .. n) of which the last `scored` are scored, each behind all before it.
struct EvalRow { std::vector<int> tokens; int scored = 0; };

struct EvalItem {
    int line = 0;                       // where it was in its file, or its number
    std::vector<std::string> contexts;  // one, or one for each choice
    std::vector<std::string> choices;   // as they follow the context, with the space between; of a document none
    std::vector<double> lengths;        // what acc_norm divides by: characters of the choice (without that space), or tokens
    int answer = 0;
    bool greedy = false;                // the answer was given as text: the context is also completed greedily
    std::string text;                   // of a document
    std::vector<EvalRow> rows;          // one for each choice, or the windows of a document
};

struct EvalSet {
    std::string name, path;
    std::vector<EvalItem> items = {};
    bool documents = false, greedy = false;
    int longest = 0, longest_completion = 0;  // inputs of a row, and context and answer of a completion: what the model must hold
    int cut = 0;                              // items whose beginning did not fit
    int vocabulary = 0;   // the least that a model needs for tokens that came as tokens
};

namespace eval_detail {
constexpr std::string_view BLANK = " \t\n\r\v\f";

inline std::string strip(const std::string& s) {
    size_t begin = s.find_first_not_of(BLANK), end = s.find_last_not_of(BLANK);
    return begin == s.npos ? "" : s.substr(begin, end + 1 - begin);
}
inline std::string replace(std::string s, std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = s.find(from, at)) != s.npos; at += to.size()) s.replace(at, from.size(), to);
    return s;
}
inline double characters(const std::string& s) {
    double n = 0;
    for (char c : s) n += ((unsigned char)c & 0xC0) != 0x80;
    return n;
}

// HellaSwag's texts come from WikiHow with its marks: [title] begins a sentence, the others are noise.
inline std::string clean_hellaswag(const std::string& text) {
    std::string s = replace(strip(text), " [title]", ". ");
    for (size_t at = 0; (at = s.find('[', at)) != s.npos;) {
        size_t end = s.find_first_of("]\n", at);
        if (end == s.npos || s[end] == '\n') at++;  // a bracket that is not closed on its line stays
        else s.erase(at, end + 1 - at);
    }
    return replace(s, "  ", " ");
}
inline std::string capitalize(std::string s) {  // the first letter large, the others small; letters beyond ASCII as they are
    for (size_t i = 0; i < s.size(); i++) {
        char c = s[i];
        if (i == 0 && c >= 'a' && c <= 'z') s[i] = (char)(c - 32);
        if (i > 0 && c >= 'A' && c <= 'Z') s[i] = (char)(c + 32);
    }
    return s;
}

// An index, as a number or in quotes.
inline int index_of(const Json& json, const std::string& where, size_t choices) {
    Json number = json;
    if (json.type == Json::STRING && !json.text.empty() && json.text.find_first_not_of("0123456789") == std::string::npos) number.type = Json::NUMBER;
    return (int)number.as_int(where, 0, (int64_t)choices - 1);
}

inline std::vector<std::string> strings(const Json& json, const std::string& where) {
    std::vector<std::string> all;
    for (const Json& item : json.as_array(where)) all.push_back(item.as_string(where));
    return all;
}

inline void read_plain(EvalItem& item, const Json& json, const std::string& where) {
    const Json &context = json.at("context", where), &answer = json.at("answer", where);
    const std::vector<std::string> choices = strings(json.at("choices", where), where);
    item.contexts = context.type == Json::ARRAY ? strings(context, where) : std::vector<std::string>{context.as_string(where)};
    CHECK(item.contexts.size() == 1 || item.contexts.size() == choices.size(), "%s: line %d: %zu contexts for %zu choices, must be one, or one for each",
          where.c_str(), item.line, item.contexts.size(), choices.size());
    item.greedy = answer.type == Json::STRING;
    if (item.greedy) {
        auto found = std::find(choices.begin(), choices.end(), answer.text);
        CHECK(found != choices.end(), "%s: line %d: the answer %s is not among the choices", where.c_str(), item.line, json_shown(answer.text).c_str());
        item.answer = (int)(found - choices.begin());
    } else item.answer = index_of(answer, where, choices.size());
    for (size_t i = 0; i < choices.size(); i++) {
        const std::string &c = choices[i], &before = item.contexts[item.contexts.size() > 1 ? i : 0];
        bool space = !before.empty() && BLANK.find(before.back()) == BLANK.npos && !c.empty() && BLANK.find(c[0]) == BLANK.npos;
        item.choices.push_back((space ? " " : "") + c), item.lengths.push_back(characters(c));
    }
}

inline void read_hellaswag(EvalItem& item, const Json& json, const std::string& where) {
    const Json *a = json.find("ctx_a"), *b = json.find("ctx_b"), *label = json.find("activity_label");
    std::string context = a && b ? a->as_string(where) + " " + capitalize(b->as_string(where)) : json.at("ctx", where).as_string(where);
    item.contexts = {clean_hellaswag((label ? label->as_string(where) + ": " : "") + context)};
    for (const std::string& ending : strings(json.at("endings", where), where)) {
        std::string clean = clean_hellaswag(ending);
        item.choices.push_back(" " + clean), item.lengths.push_back(characters(clean));
    }
    item.answer = index_of(json.at("label", where), where, item.choices.size());
}

inline void read_mmlu(EvalItem& item, const Json& json, const std::string& where) {
    const std::vector<std::string> choices = strings(json.at("choices", where), where);
    CHECK(choices.size() <= 26, "%s: line %d: %zu choices, there are 26 letters", where.c_str(), item.line, choices.size());
    std::string& context = item.contexts.emplace_back();
    if (const Json* subject = json.find("subject"))
        context = "The following are multiple choice questions (with answers) about " + replace(subject->as_string(where), "_", " ") + ".\n\n";
    context += strip(json.at("question", where).as_string(where)) + "\n";
    for (size_t i = 0; i < choices.size(); i++) {
        const std::string letter(1, (char)('A' + i));
        context += letter + ". " + choices[i] + "\n";
        item.choices.push_back(" " + letter), item.lengths.push_back(1);
    }
    context += "Answer:";
    const Json& answer = json.at("answer", where);
    bool is_letter = answer.type == Json::STRING && answer.text.size() == 1 && answer.text[0] >= 'A' && answer.text[0] < 'A' + (char)choices.size();
    item.answer = is_letter ? answer.text[0] - 'A' : index_of(answer, where, choices.size());
}

inline void read_jsonl(EvalSet& set) {
    const std::string text = read_file(set.path), &where = set.path;
    int number = 0;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size());
        number++;
        exit_if_stopping("while " + where + " was read");
        std::string_view line(text.data() + at, end - at);
        if (line.find_first_not_of(" \t\r") == line.npos) continue;
        Json json = json_parse(line, where, number);
        EvalItem& item = set.items.emplace_back();
        item.line = number;
        if (json.find("context")) read_plain(item, json, where);
        else if (json.find("endings")) read_hellaswag(item, json, where);
        else if (json.find("question")) read_mmlu(item, json, where);
        else if (json.find("text")) item.text = json.at("text", where).as_string(where);
        else die("%s: line %d: needs \"context\", \"endings\" (HellaSwag), \"question\" (MMLU) or \"text\"", where.c_str(), number);
        const bool document = item.contexts.empty();
        if (set.items.size() == 1) set.documents = document;
        CHECK(document == set.documents, "%s: line %d: %s among %s", where.c_str(), number, document ? "a document" : "a question",
              document ? "questions" : "documents");
        if (document) continue;
        CHECK(item.choices.size() > 1, "%s: line %d: %zu choices, must be at least 2", where.c_str(), number, item.choices.size());
        for (double n : item.lengths) CHECK(n > 0, "%s: line %d: an empty choice", where.c_str(), number);
        set.greedy |= item.greedy;
    }
}

// A question: 65535, its bytes, its number, the right choice, how many choices; then the context and each choice: count, tokens.
inline void read_bin(EvalSet& set) {
    const std::string bytes = read_file(set.path);
    const char* path = set.path.c_str();
    CHECK(bytes.size() >= SHARD_HEADER, "%s: %zu bytes, an eval file's header alone is %zu: truncated?", path, bytes.size(), SHARD_HEADER);
    int32_t header[3];
    memcpy(header, bytes.data(), sizeof header);
    CHECK(header[0] == 20240522, "%s: starts with %d, an eval file with 20240522", path, header[0]);
    CHECK(header[1] == 1, "%s: version %d, must be 1", path, header[1]);
    std::vector<uint16_t> stream((bytes.size() - SHARD_HEADER) / 2);
    if (!stream.empty()) memcpy(stream.data(), bytes.data() + SHARD_HEADER, stream.size() * 2);
    size_t at = 0, number = 0, end = 0;
    auto take = [&](const char* what) {
        CHECK(at < end, "%s: question %zu ends before its %s", path, number, what);
        return (int)stream[at++];
    };
    auto take_tokens = [&](const char* what, std::vector<int>& out) {
        for (int n = take(what); n > 0; n--) out.push_back(take(what)), set.vocabulary = std::max(set.vocabulary, out.back() + 1);
    };
    for (; at < stream.size(); number++) {
        const size_t begin = at;
        CHECK(stream[at] == 65535, "%s: question %zu begins with %d, must be 65535", path, number, stream[at]);
        end = begin + 2 <= stream.size() ? begin + stream[begin + 1] / 2 : stream.size() + 1;
        CHECK(end <= stream.size() && end >= begin + 2, "%s: question %zu claims %zu bytes, the file holds %zu: truncated?", path, number,
              2 * (end - begin), 2 * (stream.size() - begin));
        at += 2;
        EvalItem& item = set.items.emplace_back();
        item.line = (int)number;
        CHECK(take("number") == (int)(number % 65536), "%s: question %zu has the number %d", path, number, stream[at - 1]);
        item.answer = take("answer");
        const int choices = take("choices");
        CHECK(choices > 1 && item.answer < choices, "%s: question %zu: answer %d of %d choices", path, number, item.answer, choices);
        std::vector<int> context;
        take_tokens("context", context);
        CHECK(!context.empty(), "%s: question %zu has no context", path, number);
        for (int i = 0; i < choices; i++) {
            EvalRow& row = item.rows.emplace_back(EvalRow{context, 0});
            take_tokens("choices", row.tokens);
            row.scored = (int)(row.tokens.size() - context.size());
            CHECK(row.scored > 0, "%s: question %zu: choice %d is empty", path, number, i);
            item.lengths.push_back(row.scored);
        }
        CHECK(at == end, "%s: question %zu claims %zu bytes, has %zu", path, number, 2 * (end - begin), 2 * (at - begin));
    }
    CHECK(bytes.size() % 2 == 0, "%s: ends in the middle of a token: truncated?", path);
    CHECK((size_t)header[2] == number, "%s: header says %d questions, the file holds %zu", path, header[2], number);
}

inline void read_text(EvalSet& set) {
    constexpr std::string_view SEPARATOR = "<|endoftext|>";
    const std::string text = read_file(set.path);
    set.documents = true;
    for (size_t at = 0, end; at <= text.size(); at = end + SEPARATOR.size()) {
        end = std::min(text.find(SEPARATOR, at), text.size());
        std::string document = text.substr(at, end - at);
        if (!strip(document).empty()) set.items.emplace_back().text = document, set.items.back().line = (int)set.items.size() - 1;
    }
}

// Context and choice are encoded together, and the choice is what comes after as many tokens as the context alone has. White
// space at the context's end belongs to the choice, where tokenizers have it.
inline EvalRow encode_choice(const Tokenizer& tokenizer, std::string context, std::string choice) {
    const size_t kept = context.find_last_not_of(BLANK) + 1;  // npos + 1 is 0
    choice = context.substr(kept) + choice, context.resize(kept);
    EvalRow row{tokenizer.encode(context + choice), 0};
    size_t before = tokenizer.encode(context).size();
    if (context.empty() && tokenizer.eot() >= 0 && row.tokens[0] != tokenizer.eot()) row.tokens.insert(row.tokens.begin(), tokenizer.eot()), before = 1;
    row.scored = (int)row.tokens.size() - (int)std::max<size_t>(before, 1);
    return row;
}

// What a completion begins with.
inline std::vector<int> prompt_of(const Tokenizer& tokenizer, const std::string& context) {
    std::vector<int> tokens;
    if (tokenizer.eot() >= 0) tokens.push_back(tokenizer.eot());
    tokenizer.encode(context, tokens);
    return tokens;
}

// A document of n tokens behind an end of text, in windows of T: each token is scored once, and the last window reaches back
// so that it is as long as the others. It may be a whole file, so it is encoded in parts, between which the run can be stopped.
inline void cut_document(EvalItem& item, const Tokenizer& tokenizer, int T, const std::string& path) {
    std::vector<int> tokens = {tokenizer.eot()};
    for (std::string_view text = item.text; !text.empty();) {
        exit_if_stopping("while " + path + " was encoded");
        const size_t part = text_detail::part_length(text);
        tokenizer.encode(text.substr(0, part), tokens);
        text.remove_prefix(part);
    }
    const size_t n = tokens.size() - 1, t = (size_t)T;
    for (size_t done = 0, end; done < n; done = end) {
        end = std::min(done + t, n);
        size_t begin = end > t ? end - t : 0;
        item.rows.push_back({{tokens.begin() + (long)begin, tokens.begin() + (long)end + 1}, (int)(end - done)});
    }
}
}  // namespace eval_detail

// --eval NAME=FILE,NAME=FILE...  and --hellaswag 1. Files are read and checked; they are encoded when the tokenizer is there.
inline std::vector<EvalSet> open_eval_sets(const std::string& option, bool hellaswag) {
    std::vector<EvalSet> sets;
    for (size_t at = 0, end; at < option.size(); at = end + 1) {
        end = std::min(option.find(',', at), option.size());
        const std::string one = option.substr(at, end - at);
        const size_t equals = std::min(one.find('='), one.size());
        EvalSet set{.name = one.substr(0, equals), .path = one.substr(std::min(equals + 1, one.size()))};
        bool is_new = std::none_of(sets.begin(), sets.end(), [&](const EvalSet& s) { return s.name == set.name; });
        if (!is_plain_name(set.name) || set.path.empty() || !is_new || (hellaswag && set.name == "hellaswag"))
            die_with(EXIT_USAGE, "--eval: '%s' given, must be NAME=FILE, or several with commas between, each with a name of its own", one.c_str());
        sets.push_back(set);
    }
    if (hellaswag) {
        const std::string folder = "dev/data/hellaswag/hellaswag_val";
        auto there = [&](const char* end) { return access((folder + end).c_str(), R_OK) == 0; };
        if (!there(".jsonl") && !there(".bin")) die_with(EXIT_USAGE, "--hellaswag: needs %s.jsonl or .bin", folder.c_str());
        sets.push_back({.name = "hellaswag", .path = folder + (there(".jsonl") ? ".jsonl" : ".bin")});
    }
    for (EvalSet& set : sets) {
        if (set.path.ends_with(".jsonl")) eval_detail::read_jsonl(set);
        else if (set.path.ends_with(".bin")) eval_detail::read_bin(set);
        else eval_detail::read_text(set);
        CHECK(!set.items.empty(), "%s: nothing in it to evaluate", set.path.c_str());
    }
    return sets;
}

// Fills in the rows. T: the model's context, as lm-evaluation-harness has it, whatever --seq is; V: its vocabulary.
inline void encode_eval_set(EvalSet& set, const Tokenizer* tokenizer, int T, int V) {
    CHECK(set.vocabulary <= V, "%s: holds token %d, the model's vocabulary has %d: made with another tokenizer?", set.path.c_str(), set.vocabulary - 1, V);
    if (set.vocabulary == 0 && !tokenizer) die_with(EXIT_USAGE, "--eval: %s is text, and there is no tokenizer: --tokenizer must name one", set.path.c_str());
    if (set.documents) CHECK(tokenizer->eot() >= 0, "%s: the tokenizer has no end-of-text token for a document to begin with", set.path.c_str());
    for (EvalItem& item : set.items) {
        exit_if_stopping("while " + set.path + " was encoded");
        if (set.documents) eval_detail::cut_document(item, *tokenizer, T, set.path);
        for (size_t i = 0; i < item.choices.size(); i++)
            item.rows.push_back(eval_detail::encode_choice(*tokenizer, item.contexts[item.contexts.size() > 1 ? i : 0], item.choices[i]));
        bool cut = false;
        for (EvalRow& row : item.rows) {
            CHECK(row.scored > 0, "%s: %d: nothing of a choice is left to score behind its context", set.path.c_str(), item.line);
            CHECK(row.scored <= T, "%s: %d: a choice of %d tokens, the model's context is %d", set.path.c_str(), item.line, row.scored, T);
            const size_t most = (size_t)T + 1;  // of a context that is too long its end counts
            cut |= row.tokens.size() > most;
            if (row.tokens.size() > most) row.tokens.erase(row.tokens.begin(), row.tokens.end() - (long)most);
            set.longest = std::max(set.longest, (int)row.tokens.size() - 1);
        }
        set.cut += cut;
        if (set.greedy) {
            const size_t prompt = eval_detail::prompt_of(*tokenizer, item.contexts[0]).size(), answer = item.choices[(size_t)item.answer].size();
            set.longest_completion = (int)std::max((size_t)set.longest_completion, std::min(prompt + answer, (size_t)T));
        }
    }
}
