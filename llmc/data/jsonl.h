// jsonl.h: the "text" of a line of a .jsonl. Its other members are stepped over and not looked at: whatever stands there, NaN as Python
// writes it included, decides nothing. Half a surrogate pair in the text is U+FFFD.
#pragma once
#include <string>
#include <string_view>
#include "../io/json.h"

namespace jsonl_detail {
// Moves the parser behind a value: a string to its closing quote, an array or object to the bracket that closes it, anything else to where
// the member ends. false, with an error, where the line ends before.
inline bool step_over_value(json_detail::Parser& p) {
    const auto string = [&] {
        size_t begin = p.at++;
        while (p.at < p.text.size() && p.text[p.at] != '"') p.at += p.text[p.at] == '\\' ? 2 : 1;
        if (p.at >= p.text.size()) return p.at = begin, p.fail("this string never ends");
        p.at++;
        return true;
    };
    if (p.peek() == '"') return string();
    if (p.peek() == '{' || p.peek() == '[') {
        size_t begin = p.at;
        std::string closing;
        do {
            char c = p.peek();
            if (p.at >= p.text.size()) return p.at = begin, p.fail("this %s never ends", p.text[begin] == '{' ? "object" : "array");
            if (c == '"') { if (!string()) return false; continue; }
            if (c == '{' || c == '[') closing += c == '{' ? '}' : ']';
            if (c == '}' || c == ']') {
                if (closing.back() != c) return p.expected(closing.back() == '}' ? "}" : "]");
                closing.pop_back();
            }
            p.at++;
        } while (!closing.empty());
        return true;
    }
    size_t begin = p.at;
    while (p.at < p.text.size() && !strchr(",}] \t\r\n", p.text[p.at])) p.at++;
    return p.at > begin || p.expected("a value");
}

inline bool read_members(json_detail::Parser& p, std::string& text, bool& found) {
    const auto space = [&] { p.skip_space(); };
    space();
    if (p.peek() != '{') return true;  // no object: not found
    p.at++, space();
    for (bool first = true; p.peek() != '}' || !first; first = false) {
        space();
        if (p.peek() != '"') return p.expected("a name in \"\"");
        std::string name;
        if (!p.string(name)) return false;
        space();
        if (!p.eat(":")) return p.expected(": after a name");
        space();
        if (name != "text") { if (!step_over_value(p)) return false; }
        else {
            if (found) return p.fail("this object has \"text\" twice");
            if (p.peek() != '"') return true;
            if (!p.string(text)) return false;
            found = true;
        }
        space();
        if (p.peek() == '}') break;
        if (!p.eat(",")) return found = false, p.expected(", or } in an object");
    }
    p.at++, space();
    return p.at == p.text.size() || p.expected("the end of the line");
}
}  // namespace jsonl_detail

// The document of line `number`. Returns the error, "line L column C: what is wrong", or "".
inline std::string read_jsonl_text(std::string_view line, int number, std::string& text) {
    json_detail::Parser p{.text = line, .line = number, .as_python = true};
    bool found = false;
    text.clear();
    if (!jsonl_detail::read_members(p, text, found)) return p.place(number);
    return found ? "" : format("line %d: expected an object with a \"text\" that is a string", number);
}
