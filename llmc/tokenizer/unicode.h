// unicode.h: the class of the character at a place in UTF-8 text. A byte that begins no valid sequence is a character of
// its own, of class OTHER, so that any bytes can be split and put together again.
#pragma once
#include <cstddef>
#include <vector>
#include "unicode_table.h"

// The class of every code point, unfolded from the runs at the first call. (A named function, not a lambda: lambdas are
// implicitly constexpr, and the compiler would spend seconds on trying to run it.)
inline std::vector<uint8_t> unfold_unicode_runs() {
    std::vector<uint8_t> table(0x110000, U_OTHER);
    constexpr size_t n = sizeof UNICODE_RUNS / sizeof *UNICODE_RUNS;
    for (size_t i = 0; i < n; i++)
        for (uint32_t c = UNICODE_RUNS[i] >> 3, end = i + 1 < n ? UNICODE_RUNS[i + 1] >> 3 : 0x110000; c < end; c++)
            table[c] = UNICODE_RUNS[i] & 7;
    return table;
}
inline const uint8_t* unicode_classes() {
    static const std::vector<uint8_t> classes = unfold_unicode_runs();
    return classes.data();
}

struct Character { uint32_t code; uint32_t bytes; };  // code: INVALID if the byte begins no valid sequence
constexpr uint32_t INVALID = 0x10FFFF;                // a noncharacter, of class OTHER like any invalid byte

// Unicode 16, table 3-7: no overlong forms, no surrogates, nothing above 10FFFF
[[gnu::noinline]] inline Character decode_long_utf8(const unsigned char* p, const unsigned char* end) {
    uint32_t a = p[0];
    uint32_t n = a >= 0xF0 ? 4 : a >= 0xE0 ? 3 : 2;
    if (a < 0xC2 || a > 0xF4 || (size_t)(end - p) < n) return {INVALID, 1};
    uint32_t code = a & (0x7Fu >> n);
    for (uint32_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) return {INVALID, 1};
        code = code << 6 | (p[i] & 0x3F);
    }
    bool bad = (n == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) || (n == 4 && (code < 0x10000 || code > 0x10FFFF));
    return bad ? Character{INVALID, 1} : Character{code, n};
}
// Decodes the character at p < end.
inline Character decode_utf8(const unsigned char* p, const unsigned char* end) {
    return *p < 0x80 ? Character{*p, 1} : decode_long_utf8(p, end);
}
