// plain_output.h: what a model says, for a terminal.
#pragma once
#include <cstdio>
#include <string>
#include <string_view>
#include "../base/check.h"
#include "unicode.h"

// Text to a terminal that may hold anything: control characters, which could move the cursor or worse, are written as \x1b; newline and tab are as they
// are. U+0080 to U+009F are control characters too, and so are their bytes alone where a terminal does not take UTF-8: what is no character is written
// as bytes, so that all that is printed is UTF-8. A character may come in several calls.
class PlainOutput {
    std::string held_;  // the beginning of a character

    // Whether a sequence that begins so may become a character.
    static bool is_beginning(const unsigned char* p, const unsigned char* end) {
        const long whole = *p >= 0xF0 ? 4 : *p >= 0xE0 ? 3 : 2;
        if (*p < 0xC2 || *p > 0xF4 || end - p >= whole) return false;
        for (const unsigned char* next = p + 1; next < end; next++) if ((*next & 0xC0) != 0x80) return false;
        return true;
    }

  public:
    // Of `held` and `text` all but what is held for the next call.
    static std::string escaped(std::string_view text, std::string& held, bool ends) {
        held += text;
        std::string out;
        const unsigned char *p = (const unsigned char*)held.data(), *end = p + held.size();
        for (Character c; p < end && (ends || !is_beginning(p, end)); p += c.bytes) {
            c = decode_utf8(p, end);
            const bool wrong = *p >= 0x80 && c.bytes == 1, control = (c.code < 0x20 && c.code != '\n' && c.code != '\t') || (c.code >= 0x7F && c.code < 0xA0);
            for (uint32_t i = 0; i < c.bytes; i++)
                if (wrong || control) out += format("\\x%02x", p[i]);
                else out += (char)p[i];
        }
        held.erase(0, held.size() - (size_t)(end - p));
        return out;
    }
    void write(std::string_view text, bool ends = false) {
        const std::string out = escaped(text, held_, ends);
        fwrite(out.data(), 1, out.size(), stdout);
        fflush(stdout);
    }
    void end() { write("", true); }
};
