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
//     NAME=FILE         any other file: text, documents separated by <|endoftext|>; bits per byte. Texts and .jsonl may be gzipped (.gz)
#pragma once
#include <deque>
#include <functional>
#include "../io/files.h"
#include "../io/json.h"
#include "../base/stop.h"
#include "../data/shards.h"
#include "../data/text.h"
#include "../tokenizer/tokenizer.h"

// A row of tokens of which the last `scored` are scored, each behind all before it: the last ones of those that the item's rows share, of which there are
// many in a long context, and then the row's own: both lie in the item's tokens.
struct EvalRow {
    uint32_t begin = 0, own = 0, scored = 0;  // begin: of its own
    uint32_t length = 0;                      // what acc_norm divides by: characters of the choice (without the space before it), or tokens
};

struct EvalItem {
    int line = 0;                       // where it was in its file, or its number
    std::vector<std::string> contexts;  // one, or one for each choice
    std::vector<std::string> choices;   // as they follow the context, with the space between; of a document none
    int answer = 0;
    bool greedy = false;                // the answer was given as text: the context is also completed greedily
    std::string text;                   // of a document
    std::vector<EvalRow> rows;          // one for each choice, or the windows of a document
    std::vector<int> tokens;            // of all rows; first the `shared` ones
    uint32_t shared = 0, most = UINT32_MAX;  // most: tokens of a row; the beginning of longer ones is cut off

    size_t size(const EvalRow& row) const { return std::min((size_t)shared + row.own, (size_t)most); }
    // out[0 .. size(row)) = the row's tokens
    template <class Out> void copy_row(const EvalRow& row, Out out) const {
        const size_t n = size(row), own = std::min((size_t)row.own, n);
        out = std::copy_n(tokens.begin() + (long)(shared - (n - own)), n - own, out);
        std::copy_n(tokens.begin() + (long)(row.begin + row.own - own), own, out);
    }
};

struct EvalSet {
    std::string name, path;
    std::deque<EvalItem> items = {};  // a vector that grows would hold them twice
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
inline std::string replace(std::string_view s, std::string_view from, std::string_view to) {
    std::string out;
    size_t at = 0;
    for (size_t found; (found = s.find(from, at)) != s.npos; at = found + from.size()) out.append(s, at, found - at).append(to);
    return out.append(s, at);
}
inline uint32_t characters(std::string_view s) {
    uint32_t n = 0;
    for (char c : s) n += ((unsigned char)c & 0xC0) != 0x80;
    return n;
}

// HellaSwag's texts come from WikiHow with its marks: [title] begins a sentence, the others are noise.
inline std::string clean_hellaswag(const std::string& text) {
    const std::string s = replace(strip(text), " [title]", ". ");
    std::string kept;
    for (size_t at = 0, open; at < s.size();) {
        kept.append(s, at, (open = std::min(s.find('[', at), s.size())) - at);
        const size_t end = s.find_first_of("]\n", open);
        const bool closed = end != s.npos && s[end] == ']';  // on its line; what is not closed stays, up to there
        if (!closed) kept.append(s, open, end == s.npos ? end : end - open);
        at = closed ? end + 1 : std::min(end, s.size());
    }
    return replace(kept, "  ", " ");
}
inline std::string capitalize(std::string s) {  // the first letter large, the others small; letters beyond ASCII as they are
    for (size_t i = 0; i < s.size(); i++) {
        char c = s[i];
        if (i == 0 && c >= 'a' && c <= 'z') s[i] = (char)(c - 32);
        if (i > 0 && c >= 'A' && c <= 'Z') s[i] = (char)(c + 32);
    }
    return s;
}

// Before the answer is looked at, which is one of them.
inline void check_choices(const EvalItem& item, size_t choices, const std::string& where) {
    CHECK(choices > 1, "%s: line %d: %zu choices, must be at least 2", where.c_str(), item.line, choices);
}

// An index, as a number or in quotes.
inline int index_of(const Json& json, const std::string& where, size_t choices) {
    Json number = json;
    if (json.type == Json::STRING && !json.text.empty() && json.text.view().find_first_not_of("0123456789") == std::string::npos) number.type = Json::NUMBER;
    return (int)number.as_int(where, 0, (int64_t)choices - 1);
}

// An element of a list of strings.
inline std::string element(const Json& list, const Json& item, const std::string& where) {
    CHECK(item.type == Json::STRING, "%s: line %d: %s holds %s, must hold strings", where.c_str(), item.line, json_shown(list.key).c_str(), item.shown().c_str());
    return item.text;
}
inline std::vector<std::string> strings(const Json& json, const std::string& where) {
    std::vector<std::string> all;
    for (const Json& item : json.as_array(where)) all.push_back(element(json, item, where));
    return all;
}

// `choice` as it follows the context, its length without the space between.
inline void add_choice(EvalItem& item, const std::string& space, const std::string& choice) {
    item.choices.push_back(space + choice);
    item.rows.push_back({.length = characters(choice)});
}

inline void read_plain(EvalItem& item, const Json& json, const std::string& where) {
    const Json &context = json.at("context", where), &answer = json.at("answer", where);
    const Json& list = json.at("choices", where);
    const JsonItems& choices = list.as_array(where);
    item.contexts = context.type == Json::ARRAY ? strings(context, where) : std::vector<std::string>{context.as_string(where)};
    CHECK(item.contexts.size() == 1 || item.contexts.size() == choices.size(), "%s: line %d: %zu contexts for %zu choices, must be one, or one for each",
          where.c_str(), item.line, item.contexts.size(), choices.size());
    check_choices(item, choices.size(), where);
    item.greedy = answer.type == Json::STRING;
    if (item.greedy) {
        const Json* found = std::find_if(choices.begin(), choices.end(), [&](const Json& c) { return c.type == Json::STRING && c.text == answer.text; });
        CHECK(found != choices.end(), "%s: line %d: the answer %s is not among the choices", where.c_str(), item.line, json_shown(answer.text).c_str());
        item.answer = (int)(found - choices.begin());
    } else item.answer = index_of(answer, where, choices.size());
    item.choices.reserve(choices.size()), item.rows.reserve(choices.size());
    for (size_t i = 0; i < choices.size(); i++) {
        const std::string c = element(list, choices[i], where), &before = item.contexts[item.contexts.size() > 1 ? i : 0];
        bool space = !before.empty() && BLANK.find(before.back()) == BLANK.npos && !c.empty() && BLANK.find(c[0]) == BLANK.npos;
        add_choice(item, space ? " " : "", c);
    }
}

inline void read_hellaswag(EvalItem& item, const Json& json, const std::string& where) {
    const Json *a = json.find("ctx_a"), *b = json.find("ctx_b"), *label = json.find("activity_label");
    std::string context = a && b ? a->as_string(where) + " " + capitalize(b->as_string(where)) : json.at("ctx", where).as_string(where);
    item.contexts = {clean_hellaswag((label ? label->as_string(where) + ": " : "") + context)};
    for (const std::string& ending : strings(json.at("endings", where), where)) add_choice(item, " ", clean_hellaswag(ending));
    check_choices(item, item.choices.size(), where);
    item.answer = index_of(json.at("label", where), where, item.choices.size());
}

inline void read_mmlu(EvalItem& item, const Json& json, const std::string& where) {
    const std::vector<std::string> choices = strings(json.at("choices", where), where);
    check_choices(item, choices.size(), where);
    CHECK(choices.size() <= 26, "%s: line %d: %zu choices, there are 26 letters", where.c_str(), item.line, choices.size());
    std::string& context = item.contexts.emplace_back();
    if (const Json* subject = json.find("subject"))
        context = "The following are multiple choice questions (with answers) about " + replace(subject->as_string(where), "_", " ") + ".\n\n";
    context += strip(json.at("question", where).as_string(where)) + "\n";
    for (size_t i = 0; i < choices.size(); i++) {
        const std::string letter(1, (char)('A' + i));
        context += letter + ". " + choices[i] + "\n";
        add_choice(item, " ", letter);
    }
    context += "Answer:";
    const Json& answer = json.at("answer", where);
    bool is_letter = answer.type == Json::STRING && answer.text.size() == 1 && answer.text[0] >= 'A' && answer.text[0] < 'A' + (char)choices.size();
    item.answer = is_letter ? answer.text[0] - 'A' : index_of(answer, where, choices.size());
}

// Files of evaluations are read as training texts are: a byte order mark is no text, gzip is read through, and what is no text is an error.
inline void must_be_read(const text_detail::DocumentReader& reader, const std::string& path) {
    exit_if_stopping("while " + path + " was read");  // before the error: Ctrl-C ends gzip too
    CHECK(reader.error().empty(), "%s: %s", path.c_str(), reader.error().c_str());
}

inline void read_jsonl(EvalSet& set) {
    const std::string& where = set.path;
    int number = 0;
    text_detail::DocumentReader reader(where);
    reader.lines([&](std::string_view line) {
        number++;
        exit_if_stopping("while " + where + " was read");
        CHECK(line.size() <= text_detail::LONGEST_LINE, "%s: line %d: longer than %zu bytes, which no question should be", where.c_str(), number, text_detail::LONGEST_LINE);
        if (text_detail::is_blank(line)) return;
        Json json = json_parse(line, where, number, true);
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
        if (document && text_detail::is_blank(item.text)) set.items.pop_back();  // as training leaves it out
        if (document) return;
        for (const EvalRow& row : item.rows) CHECK(row.length > 0, "%s: line %d: an empty choice", where.c_str(), number);
        set.greedy |= item.greedy;
    });
    must_be_read(reader, where);
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
    const struct {  // the tokens where they lie
        const char* bytes;
        size_t count;
        size_t size() const { return count; }
        uint16_t operator[](size_t i) const { uint16_t x; memcpy(&x, bytes + 2 * i, 2); return x; }
    } stream = {bytes.data() + SHARD_HEADER, (bytes.size() - SHARD_HEADER) / 2};
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
        take_tokens("context", item.tokens);
        item.shared = (uint32_t)item.tokens.size();
        CHECK(item.shared > 0, "%s: question %zu has no context", path, number);
        item.rows.reserve(std::min<size_t>((size_t)choices, end - at));
        for (int i = 0; i < choices; i++) {
            const uint32_t begin_of_row = (uint32_t)item.tokens.size();
            take_tokens("choices", item.tokens);
            const uint32_t own = (uint32_t)item.tokens.size() - begin_of_row;
            CHECK(own > 0, "%s: question %zu: choice %d is empty", path, number, i);
            item.rows.push_back({begin_of_row, own, own, own});
        }
        CHECK(at == end, "%s: question %zu claims %zu bytes, has %zu", path, number, 2 * (end - begin), 2 * (at - begin));
    }
    CHECK(bytes.size() % 2 == 0, "%s: ends in the middle of a token: truncated?", path);
    CHECK((size_t)header[2] == number, "%s: header says %d questions, the file holds %zu", path, header[2], number);
}

inline void read_text(EvalSet& set) {
    set.documents = true;
    text_detail::DocumentReader reader(set.path);
    reader.documents([&](std::string_view text, bool starts_document) {
        exit_if_stopping("while " + set.path + " was read");
        if (starts_document) set.items.emplace_back(), set.items.back().line = (int)set.items.size() - 1;
        set.items.back().text += text;
    });
    must_be_read(reader, set.path);
}

// Context and choice are encoded together, and the choice is what comes after as many tokens as the context alone has. White
// space at the context's end belongs to the choice, where tokenizers have it. What the choices cannot change, the context up to its last place to
// cut, is encoded once and shared: a question of many choices takes no more time and memory than its file is long. A context whose end
// has no place to cut is a part of each choice, unless its choices would so take more than 64 KB and four times its length: then it is cut where it is.
// In front of all stands what the tokenizer's post-processor puts there.
inline void encode_choices(EvalItem& item, const Tokenizer& tokenizer) {
    std::string_view tail, white;  // of the context
    size_t before = 0;             // tokens that the context alone has
    bool empty = false;            // an end of text is its context, unless the choice brings one
    const std::vector<int>& front = tokenizer.front();
    const auto set_context = [&](std::string_view context, bool share) {
        const size_t kept = context.find_last_not_of(BLANK) + 1;  // npos + 1 is 0
        white = context.substr(kept), context = context.substr(0, kept);
        size_t cut = 0;
        if (share) item.tokens = front;
        const size_t most = (4 * kept + (64 << 10)) / std::max<size_t>(item.choices.size(), 1);
        for (size_t length = 256; share && cut == 0 && length < kept; length *= 2) {
            const size_t at = text_detail::safe_cut(context.substr(kept - length));
            if (at) cut = kept - length + at;
            else if (length > most) cut = text_detail::start_of_character(context, kept - length);
        }
        for (size_t at = 0, n; at < cut; at += n) n = text_detail::part_length(context.substr(at, cut - at)), tokenizer.encode(context.substr(at, n), item.tokens);
        empty = context.empty() && front.empty() && tokenizer.eot() >= 0;
        if (share) item.shared = (uint32_t)item.tokens.size();
        tail = context.substr(cut);
        before = (share ? item.shared : front.size()) + tokenizer.encode(tail).size() + empty;
    };
    const bool one = item.contexts.size() == 1;
    if (one) set_context(item.contexts[0], true);
    for (size_t i = 0; i < item.choices.size(); i++) {
        if (!one) set_context(item.contexts[i], false);
        EvalRow& row = item.rows[i];
        row.begin = (uint32_t)item.tokens.size();
        if (!one) item.tokens.insert(item.tokens.end(), front.begin(), front.end());
        if (empty) item.tokens.push_back(tokenizer.eot());
        const size_t first = item.tokens.size();
        tokenizer.encode(std::string(tail).append(white).append(item.choices[i]), item.tokens);
        if (empty && first < item.tokens.size() && item.tokens[first] == tokenizer.eot()) item.tokens.erase(item.tokens.begin() + (long)first);
        row.own = (uint32_t)item.tokens.size() - row.begin;
        row.scored = (uint32_t)std::max<int64_t>((int64_t)item.shared + row.own - (int64_t)std::max<size_t>(before, 1), 0);
    }
}

// What a completion begins with.
inline std::vector<int> prompt_of(const Tokenizer& tokenizer, const std::string& context) {
    std::vector<int> tokens = tokenizer.start();
    tokenizer.encode(context, tokens);
    if (tokens.empty() && tokenizer.eot() >= 0) tokens = {tokenizer.eot()};
    return tokens;
}

// A document of n tokens behind an end of text, or what the post-processor puts there, in windows of T: each token is scored once, and the last window reaches back
// so that it is as long as the others. It may be a whole file, so it is encoded in parts, between which the run can be stopped.
inline void cut_document(EvalItem& item, const Tokenizer& tokenizer, int T, const std::string& path) {
    std::vector<int>& tokens = item.tokens;
    tokens = {tokenizer.front().empty() ? tokenizer.eot() : tokenizer.front().back()};
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
        item.rows.push_back({(uint32_t)begin, (uint32_t)(end + 1 - begin), (uint32_t)(end - done)});
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
        if (text_detail::is_jsonl(set.path)) eval_detail::read_jsonl(set);
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
        else if (!item.choices.empty()) eval_detail::encode_choices(item, *tokenizer);
        bool cut = false;
        item.most = (uint32_t)T + 1;  // of a context that is too long its end counts
        for (const EvalRow& row : item.rows) {
            CHECK(row.scored > 0, "%s: %d: nothing of a choice is left to score behind its context", set.path.c_str(), item.line);
            CHECK(row.scored <= (uint32_t)T, "%s: %d: a choice of %u tokens, the model's context is %d", set.path.c_str(), item.line, row.scored, T);
            cut |= item.shared + row.own > item.most;
            set.longest = std::max(set.longest, (int)item.size(row) - 1);
        }
        set.cut += cut;
        if (set.greedy) {
            const size_t prompt = eval_detail::prompt_of(*tokenizer, item.contexts[0]).size(), answer = item.choices[(size_t)item.answer].size();
            set.longest_completion = (int)std::max((size_t)set.longest_completion, std::min(prompt + answer, (size_t)T));
        }
    }
}
