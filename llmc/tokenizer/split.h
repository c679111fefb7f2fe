// split.h: cuts text into the pieces that BPE then works on one at a time. The published split patterns are regular
// expressions; each is written out here as a function that finds the end of the first piece, in linear time.
#pragma once
#include <string>
#include <string_view>
#include "unicode.h"

enum class SplitPattern { GPT2, LLAMA3, CL100K, O200K, QWEN2, NANOCHAT };
// Digits that are cut out before the pattern sees the text (Hugging Face: Digits): each for itself, or runs of them.
enum class DigitSplit { NONE, EACH, RUNS };

// The expressions, as they stand in tokenizer files. The first of each pattern is the one that is written.
struct NamedPattern { SplitPattern pattern; const char* name; const char* regex; };
constexpr NamedPattern SPLIT_PATTERNS[] = {
    {SplitPattern::GPT2, "gpt2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitPattern::GPT2, "gpt2", R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitPattern::GPT2, "gpt2", R"('(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s)"},
    {SplitPattern::LLAMA3, "llama3", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitPattern::LLAMA3, "llama3", R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"},
    // tiktoken writes {1,3}+, which Hugging Face's engine reads as ({1,3})+
    {SplitPattern::CL100K, "cl100k", R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s)"},
    {SplitPattern::O200K, "o200k", R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    // Llama 3's with numbers of one digit (Qwen 2, 2.5 and 3) and of two (nanochat)
    {SplitPattern::QWEN2, "qwen2", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitPattern::NANOCHAT, "nanochat", R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"},
};
// The names of the patterns: "gpt2, llama3, ..."
inline std::string split_pattern_names() {
    std::string names;
    for (const NamedPattern& p : SPLIT_PATTERNS) if (names.find(p.name) == names.npos) names += (names.empty() ? "" : ", ") + std::string(p.name);
    return names;
}
inline const char* split_pattern_name(SplitPattern pattern) {
    for (const NamedPattern& p : SPLIT_PATTERNS) if (p.pattern == pattern) return p.name;
    return "";
}
inline const char* split_regex(SplitPattern pattern) {
    for (const NamedPattern& p : SPLIT_PATTERNS) if (p.pattern == pattern) return p.regex;
    return "";
}

// for (Splitter splitter(pattern, text); splitter.next(piece);) ...
class Splitter {
    using Byte = unsigned char;
    const Byte* at_;
    const Byte* end_;        // of the text; with DigitSplit, of the part between digits
    const Byte* text_end_;
    SplitPattern pattern_;
    DigitSplit digits_;
    int longest_number_;     // {1,3} of the patterns that have it
    const uint8_t* classes_ = unicode_classes();

    // sets of classes
    static constexpr unsigned SPACE = 1 << U_SPACE, NUMBER = 1 << U_NUMBER, REST = 1 << U_OTHER | 1 << U_MARK,
        LETTER = 1 << U_UPPER | 1 << U_LOWER | 1 << U_LETTER,
        UPPER = 1 << U_UPPER | 1 << U_LETTER | 1 << U_MARK,   // o200k's first half of a word
        LOWER = 1 << U_LOWER | 1 << U_LETTER | 1 << U_MARK;   // and its second

    static bool is_newline(Byte c) { return c == '\n' || c == '\r'; }

    // Is the character at p in the set? Moves p behind it if so.
    bool take(const Byte*& p, unsigned classes) const {
        if (p == end_) return false;
        Character c = decode_utf8(p, end_);
        if (!(classes >> classes_[c.code] & 1)) return false;
        p += c.bytes;
        return true;
    }
    const Byte* run(const Byte* p, unsigned classes) const {
        while (take(p, classes)) {}
        return p;
    }

    // 's 't 'm 'd 're 've 'll at p, or p. Without regard to case, U+017F is an s too.
    const Byte* contraction(const Byte* p, bool any_case) const {
        if (p == end_ || *p != '\'' || end_ - p < 2) return p;
        auto lower = [&](const Byte* c) { return any_case && *c >= 'A' && *c <= 'Z' ? *c + 32 : *c; };
        int a = lower(p + 1), b = end_ - p > 2 ? lower(p + 2) : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
        if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
        if (any_case && a == 0xC5 && end_ - p > 2 && p[2] == 0xBF) return p + 3;
        return p;
    }

    // ` ?[classes]+` at p, or p
    const Byte* spaced_run(const Byte* p, unsigned classes) const {
        const Byte* start = p + (*p == ' ');
        const Byte* end = run(start, classes);
        return end > start ? end : p;
    }

    // White space that no word took: up to its last newline (not GPT-2), or up to the end of the text, or all but the last
    // character, which goes with what follows.
    const Byte* white_space(const Byte* p) const {
        const Byte *q = p, *last = p, *newline = nullptr;
        for (const Byte* next = q; take(next, SPACE); q = next) {
            last = q;
            if (is_newline(*q)) newline = next;
        }
        if (pattern_ == SplitPattern::CL100K && q == end_) return q;
        if (pattern_ != SplitPattern::GPT2 && newline) return newline;
        return q == end_ || last == p ? q : last;
    }

    const Byte* gpt2(const Byte* p) const {
        if (const Byte* q = contraction(p, false); q > p) return q;
        for (unsigned classes : {LETTER, NUMBER, REST})
            if (const Byte* q = spaced_run(p, classes); q > p) return q;
        return white_space(p);
    }

    // `[^\r\n\p{L}\p{N}]?`: the one character that may stand in front of a word
    const Byte* prefix(const Byte* p) const {
        if (!is_newline(*p)) take(p, SPACE | REST);
        return p;
    }
    // `\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|white space`, o200k with a slash among the newlines
    const Byte* no_word(const Byte* p) const {
        const Byte* q = p;
        for (int digits = 0; digits < longest_number_ && take(q, NUMBER); digits++) {}
        if (q > p) return q;
        q = spaced_run(p, REST);
        if (q == p) return white_space(p);
        while (q < end_ && (is_newline(*q) || (*q == '/' && pattern_ == SplitPattern::O200K))) q++;
        return q;
    }
    const Byte* llama3(const Byte* p) const {
        if (const Byte* q = contraction(p, true); q > p) return q;
        const Byte* word = prefix(p);
        if (const Byte* q = run(word, LETTER); q > word) return q;
        return no_word(p);
    }

    // `UPPER*LOWER+` at p, or p: as much UPPER as leaves a LOWER behind it, giving back what is needed
    const Byte* lower_word(const Byte* p) const {
        const Byte *q = p, *both = p;  // both: behind the last character that is in UPPER and in LOWER
        for (const Byte* next = q; take(next, UPPER); q = next)
            if (const Byte* again = q; take(again, LOWER)) both = next;
        const Byte* end = run(q, LOWER);
        return end > q ? end : both;
    }
    const Byte* o200k(const Byte* p) const {
        const Byte* starts[] = {prefix(p), p};
        for (const Byte* word : starts)
            if (const Byte* q = lower_word(word); q > word) return contraction(q, true);
        for (const Byte* word : starts)
            if (const Byte* q = run(word, UPPER); q > word) return contraction(run(q, LOWER), true);
        return no_word(p);
    }

    // Between digits the text is split as if nothing came before and after: where it stands in front of a digit, the end is moved.
    const Byte* next_part() {
        end_ = text_end_;
        const Byte* p = at_;
        if (take(p, NUMBER)) return digits_ == DigitSplit::RUNS ? run(p, NUMBER) : p;
        for (const Byte* next = p; next < text_end_ && !take(next, NUMBER); next = p) p += decode_utf8(p, text_end_).bytes;
        end_ = p;
        return nullptr;
    }

  public:
    Splitter(SplitPattern pattern, std::string_view text, DigitSplit digits = DigitSplit::NONE)
        : at_((const Byte*)text.data()), end_(at_ + text.size()), text_end_(end_), pattern_(pattern), digits_(digits),
          longest_number_(pattern == SplitPattern::QWEN2 ? 1 : pattern == SplitPattern::NANOCHAT ? 2 : 3) {
        if (digits_ != DigitSplit::NONE) end_ = at_;
    }

    [[gnu::noinline]] bool next(std::string_view& piece) {
        if (at_ == text_end_) return false;
        const Byte* number = at_ == end_ && digits_ != DigitSplit::NONE ? next_part() : nullptr;
        const Byte* end = number ? number : pattern_ == SplitPattern::GPT2 ? gpt2(at_) : pattern_ == SplitPattern::O200K ? o200k(at_) : llama3(at_);
        piece = std::string_view((const char*)at_, (size_t)(end - at_));
        at_ = end;
        if (number) end_ = end;
        return true;
    }
};
