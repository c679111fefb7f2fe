// plain_output.h: what a model says, for a terminal.
#pragma once
#include <cstdio>
#include <string>
#include <string_view>
#include "../base/check.h"

// Text to a terminal that may hold anything: control characters, which could move the cursor or worse, are written as \x1b; newline and
// tab are as they are. U+0080 to U+009F are control characters too, of two bytes that may come in two calls.
class PlainOutput {
    bool held_ = false;  // 0xC2, the first of the two

  public:
    static std::string escaped(std::string_view text, bool& held) {
        std::string out;
        for (char c : text) {
            unsigned char b = (unsigned char)c;
            bool control = (b < 0x20 && c != '\n' && c != '\t') || b == 0x7F, second = held && b >= 0x80 && b < 0xA0;
            if (held) out += second ? "\\xc2" : "\xC2";
            held = b == 0xC2;
            if (control || second) out += format("\\x%02x", b);
            else if (!held) out += c;
        }
        return out;
    }
    void write(std::string_view text) {
        const std::string out = escaped(text, held_);
        fwrite(out.data(), 1, out.size(), stdout);
        fflush(stdout);
    }
    void end() { if (held_) fputc(0xC2, stdout), held_ = false; }
};
