// json.h: strict JSON (RFC 8259): a value, a parser that says where it stopped, a writer.
//     Json config = json_parse(read_file(path), path);
//     int C = (int)config.at("n_embd", path).as_int(path, 1, 1 << 20);
#pragma once
#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>
#include "../base/check.h"
#include "json_parts.h"

inline std::string json_quote(std::string_view text);
inline std::string json_shown(std::string_view text);
inline std::string json_number(double x);
inline std::string json_number(float x);
inline std::string json_dump(const Json& json, int indent = 0);

// `where` in an accessor is the file it came from: the message is "where: line 12: "n_head" is "x", expected an integer".
struct Json {
    enum Type : uint8_t { NUL, BOOL, NUMBER, STRING, ARRAY, OBJECT };
    Type type = NUL;
    bool truth = false;
    int line = 0;             // where it began in its file; 0: it was not read from one
    JsonText key;             // its name, if it is a member of an object
    JsonText text;            // the characters of a string (UTF-8); a number as it was written, so that nothing is lost
    JsonItems items;          // the elements of an array, the members of an object in file order

    Json() = default;
    Json(bool x) : type(BOOL), truth(x) {}
    Json(double x) : type(std::isfinite(x) ? NUMBER : NUL), text(json_number(x)) {}  // JSON has no NaN: null stands for it
    Json(float x) : type(std::isfinite(x) ? NUMBER : NUL), text(json_number(x)) {}
    Json(const char* x) : type(STRING), text(std::string_view(x)) {}
    Json(const std::string& x) : type(STRING), text(x) {}
    template <class I> requires(std::is_integral_v<I> && !std::is_same_v<I, bool>)
    Json(I x) : type(NUMBER), text(std::is_signed_v<I> ? format("%lld", (long long)x) : format("%llu", (unsigned long long)x)) {}
    static Json array() { Json j; j.type = ARRAY; return j; }
    static Json object() { Json j; j.type = OBJECT; return j; }
    Json& push(Json value) { items.push_back(std::move(value)); return *this; }
    Json& add(std::string_view name, Json value) {  // a new member: the caller knows that the name is new
        value.key = name;
        return push(std::move(value));
    }

    // A walk over the members: right for a config, not for looking up every word of a vocabulary (loop over `items`).
    const Json* find(std::string_view name) const {
        if (type == OBJECT) for (const Json& item : items) if (item.key == name) return &item;
        return nullptr;
    }
    const Json& at(std::string_view name, const std::string& where) const {
        as_object(where);
        const Json* found = find(name);
        CHECK(found, "%s: %s is missing", place(where).c_str(), json_shown(name).c_str());
        return *found;
    }
    bool as_bool(const std::string& where) const { expect(type == BOOL, where, "true or false"); return truth; }
    std::string as_string(const std::string& where) const { expect(type == STRING, where, "a string"); return text; }
    const JsonItems& as_array(const std::string& where) const {
        expect(type == ARRAY, where, "an array");
        return items;
    }
    const JsonItems& as_object(const std::string& where) const {
        expect(type == OBJECT, where, "an object");
        return items;
    }
    double as_double(const std::string& where) const {
        double x = type == NUMBER ? strtod(text.c_str(), nullptr) : 0;
        expect(type == NUMBER && std::isfinite(x), where, "a number");
        return x;
    }
    int64_t as_int(const std::string& where, int64_t low = INT64_MIN, int64_t high = INT64_MAX) const {
        uint64_t size = 0;
        bool minus = type == NUMBER && text[0] == '-', whole = type == NUMBER && parse_digits(minus, size);
        expect(whole && size <= (uint64_t)INT64_MAX + minus, where, "an integer");
        int64_t x = (int64_t)(minus ? 0 - size : size);
        if (x < low || x > high) expect(false, where, format("from %lld to %lld", (long long)low, (long long)high).c_str());
        return x;
    }
    // For sizes: true if it is written as digits alone (no fraction, exponent or minus) and fits.
    bool as_size(size_t& x) const {
        uint64_t size = 0;
        bool good = type == NUMBER && parse_digits(0, size);
        x = size;
        return good;
    }
    std::string shown() const {  // for messages: short, and on one line
        return type == ARRAY ? "an array" : type == OBJECT ? "an object" : type == STRING ? json_shown(text) :
               json_dump(*this).substr(0, 80);
    }

private:
    bool parse_digits(size_t from, uint64_t& x) const {
        for (char c : text.view().substr(from))
            if (c < '0' || c > '9' || __builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, c - '0', &x)) return false;
        return true;
    }
    std::string place(const std::string& where) const {
        return line > 0 ? format("%s: line %d", where.c_str(), line) : where;
    }
    void expect(bool good, const std::string& where, const char* what) const {
        CHECK(good, "%s: %s is %s, expected %s", place(where).c_str(), key.empty() ? "the value" : json_shown(key).c_str(),
              shown().c_str(), what);
    }
};

inline JsonItems::JsonItems(const JsonItems& o) { for (const Json& item : o) push_back(item); }
inline JsonItems::~JsonItems() {
    for (Json& item : *this) item.~Json();
    free(block);
}
inline Json* JsonItems::end() { return begin() + size(); }
inline const Json* JsonItems::end() const { return begin() + size(); }
inline Json& JsonItems::operator[](size_t i) { return first()[i]; }
inline const Json& JsonItems::operator[](size_t i) const { return first()[i]; }
inline Json& JsonItems::back() { return first()[size() - 1]; }
inline Json& JsonItems::emplace_back() {
    const size_t count = size();
    if (!block || count == block->capacity) {
        CHECK(count < UINT_MAX / 2, "more than %u values in one JSON array", UINT_MAX / 2);
        const size_t capacity = std::max<size_t>(2 * count, 1);
        block = (Block*)json_detail::resize_block(block, sizeof(Block) + capacity * sizeof(Json));
        *block = {(uint32_t)count, (uint32_t)capacity};
    }
    block->count++;
    return *new (first() + count) Json();
}
inline void JsonItems::push_back(Json value) { emplace_back() = std::move(value); }

namespace json_detail {
// The length of the UTF-8 sequence at p, 0 if it is not one: stray or missing continuation, overlong, a surrogate, > 10FFFF.
inline size_t utf8_length(const char* text, size_t left) {
    const unsigned char* p = (const unsigned char*)text;
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0;
    if (n > left) return 0;
    for (size_t i = 1; i < n; i++) if ((p[i] & 0xC0) != 0x80) return 0;
    if (n == 3 && ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F))) return 0;
    if (n == 4 && ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))) return 0;
    return n;
}

inline void append_utf8(std::string& out, unsigned c) {
    if (c < 0x80) out += (char)c;
    else if (c < 0x800) out += (char)(0xC0 | c >> 6), out += (char)(0x80 | (c & 63));
    else if (c < 0x10000) out += (char)(0xE0 | c >> 12), out += (char)(0x80 | (c >> 6 & 63)), out += (char)(0x80 | (c & 63));
    else out += (char)(0xF0 | c >> 18), out += (char)(0x80 | (c >> 12 & 63)), out += (char)(0x80 | (c >> 6 & 63)),
         out += (char)(0x80 | (c & 63));
}

constexpr int MAX_DEPTH = 128;  // far deeper than any honest file, far from the end of the stack; as the format of safetensors has it

// Recursive descent. Each function leaves `at` behind what it read, or sets `error` and leaves `at` at the fault.
struct Parser {
    std::string_view text;
    int line = 1;
    size_t at = 0;
    std::string error = {};
    std::string scratch = {};  // of the string that is being read
    bool as_python = false;    // half a surrogate pair is U+FFFD, NaN and Infinity, which Python writes, are null; otherwise errors

    [[gnu::format(printf, 2, 3)]] bool fail(const char* pattern, ...) {
        char message[512];
        va_list args;
        va_start(args, pattern);
        vsnprintf(message, sizeof message, pattern, args);
        va_end(args);
        error = message;
        return false;
    }
    bool expected(const char* what) { return fail("expected %s, found %s", what, found().c_str()); }
    char peek() const { return at < text.size() ? text[at] : '\0'; }
    bool digit() const { return at < text.size() && text[at] >= '0' && text[at] <= '9'; }
    bool eat(std::string_view word) {
        if (text.substr(at, word.size()) != word) return false;
        at += word.size();
        return true;
    }
    void skip_space() {
        for (; at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r'); at++)
            line += text[at] == '\n';
    }
    std::string found() const {  // what stands here, for a message
        if (at >= text.size()) return "the end of the text";
        size_t n = utf8_length(&text[at], text.size() - at);
        return n == 0 ? format("the byte 0x%02x", (unsigned char)text[at]) : json_quote(text.substr(at, n));
    }

    // The error with its place: "line L column C: what is wrong". The column is counted in characters, as an editor does: bytes that do not
    // continue one.
    std::string place(int first_line) const {
        size_t line_begin = at == 0 ? 0 : text.rfind('\n', at - 1) + 1, column = 1;  // npos + 1 is 0
        for (size_t i = line_begin; i < at; i++) column += ((unsigned char)text[i] & 0xC0) != 0x80;
        int number = first_line;
        for (char c : text.substr(0, at)) number += c == '\n';
        return format("line %d column %zu: %s", number, column, error.c_str());
    }

    bool value(Json& out, int depth) {
        out.line = line;
        if (peek() == '"') { out.type = Json::STRING; return string(out.text); }
        if (depth > MAX_DEPTH && (peek() == '{' || peek() == '['))
            return fail("more than %d arrays and objects inside each other", MAX_DEPTH);
        if (peek() == '{') return object(out, depth);
        if (peek() == '[') return array(out, depth);
        if (as_python && eat("-Infinity")) return true;
        if (peek() == '-' || digit()) return number(out);
        if (eat("null")) return true;
        if (eat("true")) { out.type = Json::BOOL, out.truth = true; return true; }
        if (eat("false")) { out.type = Json::BOOL; return true; }
        if (as_python && (eat("NaN") || eat("Infinity"))) return true;
        if (text.substr(at, 3) == "NaN" || text.substr(at, 3) == "Inf") return fail("JSON has no NaN and no Infinity");
        return expected("a value");
    }

    bool number(Json& out) {
        size_t begin = at;
        if (peek() == '-') at++;
        if (peek() == 'I') return at = begin, fail("JSON has no NaN and no Infinity");
        if (!digit()) return expected("a digit");
        if (peek() == '0' && ++at > 0 && digit()) return at--, fail("a number cannot begin with 0");
        while (digit()) at++;
        if (peek() == '.') {
            if (at++; !digit()) return expected("a digit after the point");
            while (digit()) at++;
        }
        if (peek() == 'e' || peek() == 'E') {
            if (at++; peek() == '+' || peek() == '-') at++;
            if (!digit()) return expected("a digit in the exponent");
            while (digit()) at++;
        }
        out.type = Json::NUMBER;
        out.text = text.substr(begin, at - begin);
        return true;
    }

    bool hex4(unsigned& out) {
        out = 0;
        for (int i = 0; i < 4; i++, at++) {
            char c = peek();
            int nibble = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
                         c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
            if (nibble < 0) return expected("four hexadecimal digits after \\u");
            out = out * 16 + (unsigned)nibble;
        }
        return true;
    }

    bool escape(std::string& out) {
        static constexpr char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        size_t begin = at++;
        if (const char* name = peek() ? strchr(names, peek()) : nullptr) { out += meanings[name - names], at++; return true; }
        if (peek() != 'u') { std::string what = found(); return at = begin, fail("unknown escape: \\ before %s", what.c_str()); }
        unsigned c, low = 0;
        if (at++; !hex4(c)) return false;
        if (as_python && c >= 0xD800 && c <= 0xDFFF) {
            size_t second = at;
            bool pair = c <= 0xDBFF && eat("\\u") && hex4(low) && low >= 0xDC00 && low <= 0xDFFF;
            if (!error.empty()) return false;
            if (!pair) at = second;  // what follows it stands for itself
            append_utf8(out, pair ? 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00) : 0xFFFD);
            return true;
        }
        if (c >= 0xDC00 && c <= 0xDFFF) return at = begin, fail("the second half of a surrogate pair without the first");
        if (c >= 0xD800 && c <= 0xDBFF) {  // beyond the 16 bits of \u: two halves
            if (eat("\\u") && !hex4(low)) return false;
            if (low < 0xDC00 || low > 0xDFFF) return at = begin, fail("the first half of a surrogate pair without the second");
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        }
        append_utf8(out, c);
        return true;
    }

    bool string(std::string& out) {
        size_t begin = at++;
        for (;;) {
            size_t run = at;  // plain bytes are copied in one go
            while (at < text.size() && (unsigned char)text[at] - 0x20u < 0x60 && text[at] != '"' && text[at] != '\\') at++;
            out.append(text, run, at - run);
            if (at >= text.size()) return at = begin, fail("this string never ends");
            if (text[at] == '"') { at++; return true; }
            if (text[at] == '\\') { if (!escape(out)) return false; continue; }
            if ((unsigned char)text[at] < 0x20) return fail("a control character in a string: %s", found().c_str());
            size_t n = utf8_length(&text[at], text.size() - at);
            if (n == 0) return fail("invalid UTF-8: %s", found().c_str());
            out.append(text, at, n), at += n;
        }
    }

    bool string(JsonText& out) {
        scratch.clear();
        const bool good = string(scratch);
        out = std::string_view(scratch);
        return good;
    }

    bool array(Json& out, int depth) {
        out.type = Json::ARRAY;
        at++, skip_space();
        for (bool first = true; peek() != ']' || !first; first = false) {
            skip_space();
            out.items.emplace_back();
            if (!value(out.items.back(), depth + 1)) return false;
            skip_space();
            if (peek() == ']') break;
            if (!eat(",")) return expected(", or ] in an array");
        }
        at++;
        return true;
    }

    bool object(Json& out, int depth) {
        out.type = Json::OBJECT;
        size_t begin = at;
        at++, skip_space();
        for (bool first = true; peek() != '}' || !first; first = false) {
            skip_space();
            if (peek() != '"') return expected("a name in \"\"");
            Json& item = out.items.emplace_back();
            if (!string(item.key)) return false;
            skip_space();
            if (!eat(":")) return expected(": after a name");
            skip_space();
            if (!value(item, depth + 1)) return false;
            skip_space();
            if (peek() == '}') break;
            if (!eat(",")) return expected(", or } in an object");
        }
        at++;
        return unique_names(out, begin);
    }

    // Two members of one name: readers differ in which they take, so neither can be meant.
    bool unique_names(const Json& object, size_t begin) {
        std::vector<std::pair<size_t, uint32_t>> sorted;  // (hash, member): a vocabulary has 100,000 names
        sorted.reserve(object.items.size());
        for (const Json& item : object.items) sorted.push_back({std::hash<std::string_view>()(item.key), (uint32_t)sorted.size()});
        // those of one hash by name: whoever makes names for that gains nothing
        std::sort(sorted.begin(), sorted.end(), [&](const auto& x, const auto& y) {
            if (x.first != y.first) return x.first < y.first;
            const int order = object.items[x.second].key.view().compare(object.items[y.second].key);
            return order != 0 ? order < 0 : x.second < y.second;
        });
        for (size_t i = 1; i < sorted.size(); i++) {
            const Json &a = object.items[sorted[i - 1].second], &b = object.items[sorted[i].second];
            if (sorted[i].first != sorted[i - 1].first || a.key != b.key) continue;
            at = begin;
            return fail("this object has %s twice, on lines %d and %d", json_shown(a.key).c_str(), a.line, b.line);
        }
        return true;
    }
};
}  // namespace json_detail

// Parses the whole text into `out`. Returns "" or "line L column C: what is wrong". `first_line` is the number of the
// text's first line in its file, for files of one value a line.
inline std::string json_try_parse(Json& out, std::string_view text, int first_line = 1, bool as_python = false) {
    json_detail::Parser parser{.text = text, .line = first_line, .as_python = as_python};
    out = Json();
    if (text.substr(0, 3) == "\xEF\xBB\xBF") parser.fail("the text begins with a byte order mark");
    else {
        parser.skip_space();
        bool good = parser.value(out, 1);
        if (good) parser.skip_space();
        if (good && parser.at < text.size()) parser.expected("the end of the text");
    }
    if (parser.error.empty()) return "";
    out = Json();
    return parser.place(first_line);
}

inline Json json_parse(std::string_view text, const std::string& where, int first_line = 1, bool as_python = false) {
    Json out;
    std::string error = json_try_parse(out, text, first_line, as_python);
    CHECK(error.empty(), "%s: %s", where.c_str(), error.c_str());
    return out;
}

// ---- writing -------------------------------------------------------------------------------------------------------

// Always valid JSON on one line: control characters are escaped, bytes that are not UTF-8 become U+FFFD.
inline std::string json_quote(std::string_view text) {
    std::string out = "\"";
    for (size_t i = 0; i < text.size();) {
        unsigned char c = (unsigned char)text[i];
        size_t n = json_detail::utf8_length(&text[i], text.size() - i);
        if (c == '"' || c == '\\') out += '\\', out += (char)c;
        else if (c == '\n') out += "\\n";
        else if (c == '\t') out += "\\t";
        else if (c == '\r') out += "\\r";
        else if (c < 0x20 || c == 0x7F) out += format("\\u%04x", c);
        else if (n == 0) out += "\\ufffd";
        else out.append(text, i, n);
        i += n == 0 ? 1 : n;
    }
    return out + '"';
}
inline std::string json_shown(std::string_view text) {  // for messages: a name from a file may be a megabyte long
    return text.size() <= 80 ? json_quote(text) : json_quote(text.substr(0, 80)) + "...";
}

namespace json_detail {
template <class X> std::string shortest(X x) {  // the fewest digits that read back as the same bits
    if (!std::isfinite(x)) return "null";
    char digits[64];
    std::string out(digits, std::to_chars(digits, digits + sizeof digits, x).ptr);
    return out.find_first_of(".e") == out.npos ? out + ".0" : out;  // stays a fraction for readers that tell them apart
}

inline void dump(std::string& out, const Json& json, int indent, int depth) {
    bool object = json.type == Json::OBJECT;
    if (json.type == Json::NUL) out += "null";
    if (json.type == Json::BOOL) out += json.truth ? "true" : "false";
    if (json.type == Json::NUMBER) out += json.text;
    if (json.type == Json::STRING) out += json_quote(json.text);
    if (json.type != Json::ARRAY && !object) return;
    auto new_line = [&](int d) { if (indent > 0 && !json.items.empty()) out += '\n', out.append((size_t)(indent * d), ' '); };
    out += object ? '{' : '[';
    for (size_t i = 0; i < json.items.size(); i++) {
        if (i > 0) out += ',';
        new_line(depth + 1);
        if (object) out += json_quote(json.items[i].key) + (indent > 0 ? ": " : ":");
        dump(out, json.items[i], indent, depth + 1);
    }
    new_line(depth);
    out += object ? '}' : ']';
}
}  // namespace json_detail

inline std::string json_number(double x) { return json_detail::shortest(x); }
inline std::string json_number(float x) { return json_detail::shortest(x); }

// indent 0: all on one line; otherwise one value a line, `indent` spaces a level.
inline std::string json_dump(const Json& json, int indent) {
    std::string out;
    json_detail::dump(out, json, indent, 0);
    return out;
}
