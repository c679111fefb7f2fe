// parse.h: PTX text to statements: a guard, a name and operands, still as words. (PTX ISA, "Syntax", "State Spaces, Types, and Variables")
#pragma once
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace ptx {
struct Statement {
    int line = 0;
    std::string guard;                  // a predicate, or nothing
    bool negated = false;               // @!%p
    std::string name;                   // ld.global.v4.u32
    std::vector<std::string> operands;  // %r1   {%f1, %f2}   [%rd4+16]   %r2|%p3   0f3F800000
};
struct Variable { std::string name; size_t alignment, bytes; };  // 0 bytes: extern, as large as the launch says
struct Function {
    std::string name;
    std::vector<Variable> params, shared, local;
    std::vector<Statement> code;
    std::map<std::string, int> labels;  // the statement behind it
    unsigned max_threads = 1024;        // .maxntid
};
struct Module {
    int target = 0;                     // 80: .target sm_80
    std::vector<Variable> shared;       // static shared memory that belongs to no kernel alone
    std::map<std::string, Function> entries;
};

// What cannot be read is a mistake of the interpreter or of its user: one line, and the end.
[[noreturn]] inline void refuse(int line, const std::string& what) {
    fprintf(stderr, "ptx: line %d: %s\n", line, what.c_str());
    exit(1);
}

inline std::string trimmed(const std::string& s) {
    const size_t begin = s.find_first_not_of(" \t\n"), end = s.find_last_not_of(" \t\n");
    return begin == std::string::npos ? "" : s.substr(begin, end - begin + 1);
}
inline std::vector<std::string> split(const std::string& s, const std::string& at) {
    std::vector<std::string> words;
    for (size_t from = 0, end; (from = s.find_first_not_of(at, from)) != std::string::npos; from = end) {
        end = std::min(s.find_first_of(at, from), s.size());
        words.push_back(s.substr(from, end - from));
    }
    return words;
}
// At the commas that are not within braces or brackets.
inline std::vector<std::string> split_operands(const std::string& s) {
    std::vector<std::string> operands;
    std::string now;
    int depth = 0;
    for (char c : s) {
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        if (c == ',' && depth == 0) operands.push_back(trimmed(now)), now.clear();
        else now += c;
    }
    if (!trimmed(now).empty()) operands.push_back(trimmed(now));
    return operands;
}
inline std::string without_comments(std::string s) {
    for (size_t at = 0; (at = s.find('/', at)) != std::string::npos; at++) {
        const bool line = s.compare(at, 2, "//") == 0;
        if (!line && s.compare(at, 2, "/*") != 0) continue;
        const size_t end = line ? s.find('\n', at) : s.find("*/", at) + 2;
        for (; at < std::min(end, s.size()); at++) if (s[at] != '\n') s[at] = ' ';
    }
    return s;
}

// b8 u16 s32 f64 pred: bytes of a type, 0 if it is none.
inline size_t type_bytes(const std::string& type) {
    if (type.size() < 2 || !strchr("busf", type[0]) || type.find_first_not_of("0123456789", 1) != std::string::npos) return 0;
    return (size_t)atoi(type.c_str() + 1) / 8;
}
// .shared .align 16 .b8 name[512]
inline Variable parse_variable(const std::string& s, int line) {
    Variable v{"", 0, 0};
    size_t element = 0;
    const std::vector<std::string> words = split(s, " \t\n");
    for (size_t i = 0; i < words.size(); i++) {
        if (words[i] == ".align") v.alignment = (size_t)atoi(words[++i].c_str());
        else if (words[i][0] == '.') element = std::max(element, type_bytes(words[i].substr(1)));
        else if (v.name.empty()) v.name = words[i];
        else refuse(line, "a variable with a value is not known: " + s);
    }
    if (v.name.empty() || element == 0) refuse(line, "not a variable: " + s);
    const size_t bracket = v.name.find('[');
    v.bytes = bracket == std::string::npos ? element : element * strtoull(v.name.c_str() + bracket + 1, nullptr, 10);
    v.name = v.name.substr(0, bracket);
    if (v.alignment == 0) v.alignment = element;
    return v;
}

inline Statement parse_statement(std::string s, int line) {
    Statement statement;
    statement.line = line;
    if (s[0] == '@') {
        const size_t end = s.find_first_of(" \t\n");
        statement.negated = s[1] == '!';
        statement.guard = s.substr(1 + statement.negated, end - 1 - statement.negated);
        s = trimmed(s.substr(end));
    }
    const size_t end = std::min(s.find_first_of(" \t\n"), s.size());
    statement.name = s.substr(0, end), statement.operands = split_operands(s.substr(end));
    return statement;
}

// Reads a text piece by piece, each up to one of the characters that end it. Those of a statement do not within the braces of its operands.
class Reader {
public:
    explicit Reader(const std::string& text) : text_(without_comments(text)) {}
    char end = 0;       // what ended the piece: ; { } ( ) : or 0
    int line = 1;       // on which it begins

    std::string next(const char* ends, bool statement = false) {
        std::string piece;
        int depth = 0;
        while (at_ < text_.size()) {
            const char c = text_[at_++];
            newlines_ += c == '\n';
            if (piece.empty() && isspace((unsigned char)c)) continue;
            if (piece.empty()) line = newlines_;
            const bool operand = statement && ((c == '{' && !piece.empty()) || (c == '}' && depth > 0));
            const bool twice = c == ':' && (text_[at_] == ':' || piece.ends_with(":"));  // L1::evict_last
            if (operand) depth += c == '{' ? 1 : -1;
            else if (!twice && strchr(ends, c)) return end = c, trimmed(piece);
            piece += c;
        }
        end = 0;
        return trimmed(piece);
    }

private:
    std::string text_;
    size_t at_ = 0;
    int newlines_ = 1;
};

inline void parse_body(Reader& reader, Function& f) {
    for (int scopes = 1; scopes > 0;) {  // inline assembly opens scopes of its own; their registers' names are as good as the function's
        const std::string piece = reader.next(";{}:", true);
        if (reader.end == 0) refuse(reader.line, "the end of " + f.name + " is missing");
        if (reader.end == '{') scopes++;
        else if (reader.end == '}') scopes--;
        else if (reader.end == ':') f.labels[piece] = (int)f.code.size();
        else if (piece.starts_with(".shared")) f.shared.push_back(parse_variable(piece, reader.line));
        else if (piece.starts_with(".local")) f.local.push_back(parse_variable(piece, reader.line));
        else if (piece.starts_with(".reg") || piece.starts_with(".pragma") || piece.empty()) continue;
        else f.code.push_back(parse_statement(piece, reader.line));
    }
}

inline Module parse(const std::string& text) {
    Module m;
    Reader reader(text);
    for (;;) {
        std::string piece = reader.next(";{(");
        if (reader.end == 0) return m;
        // .version and .target end with their line
        if (size_t at = piece.find(".target sm_"); at != std::string::npos) m.target = atoi(piece.c_str() + at + 11);
        if (size_t at = piece.rfind(".address_size"); at != std::string::npos) piece = trimmed(piece.substr(std::min(piece.find('\n', at), piece.size())));
        if (reader.end == ';') {
            if (piece.find(".shared") == std::string::npos) refuse(reader.line, "not known outside of functions: " + piece);
            m.shared.push_back(parse_variable(piece, reader.line));
            continue;
        }
        const size_t at = piece.find(".entry ");
        if (at == std::string::npos) refuse(reader.line, "a function that is no kernel is not known: " + piece);
        Function f;
        f.name = trimmed(piece.substr(at + 7));
        if (reader.end == '(')
            for (const std::string& param : split_operands(reader.next(")"))) f.params.push_back(parse_variable(param, reader.line));
        if (reader.end != '{') piece = reader.next("{");
        if (size_t most = piece.find(".maxntid"); most != std::string::npos) {
            f.max_threads = 1;
            for (const std::string& n : split(piece.substr(most + 8, piece.find('\n', most) - most - 8), ", \t")) f.max_threads *= (unsigned)atoi(n.c_str());
        }
        parse_body(reader, f);
        m.entries[f.name] = std::move(f);
    }
}
}  // namespace ptx
