// text.h: text and numbers in a page.
#pragma once
#include <string>
#include <string_view>
#include "../../llmc/base/check.h"
#include "../../llmc/base/text_format.h"
#include "../../llmc/io/json.h"

// Text as HTML shows it, whatever bytes it has: what a model writes may be a tag, half a character or a control character.
inline std::string html(std::string_view text) {
    std::string out;
    for (size_t i = 0, n; i < text.size(); i += n) {
        const unsigned char c = (unsigned char)text[i];
        n = json_detail::utf8_length(&text[i], text.size() - i);
        const bool c1 = n == 2 && c == 0xC2 && (unsigned char)text[i + 1] < 0xA0;  // U+0080 to U+009F
        if (n == 0 || c1) out += "\xEF\xBF\xBD", n = c1 ? 2 : 1;
        else if (c == '&') out += "&amp;";
        else if (c == '<') out += "&lt;";
        else if (c == '>') out += "&gt;";
        else if (c == '"') out += "&quot;";
        else if (c == 0x7F || (c < 0x20 && c != '\n' && c != '\t')) json_detail::append_utf8(out, c == 0x7F ? 0x2421 : 0x2400 + c);  // their pictures
        else out.append(text, i, n);
    }
    return out;
}

// At most so many bytes, without half a character at the end.
inline std::string shortened(const std::string& text, size_t most) {
    if (text.size() <= most) return text;
    size_t end = most;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80) end--;
    return text.substr(0, end) + format(" [... %zu more bytes]", text.size() - end);
}

// Four significant digits, as a reader of a curve needs: 3.142, 0.0006, 12350
inline std::string number_text(double v) {
    if (!std::isfinite(v)) return "not finite";
    return std::fabs(v) >= 1000 && std::fabs(v) < 1e9 ? format("%.0f", v) : format("%.4g", v);
}
inline std::string tag(const std::string& name, const std::string& inside) { return "<" + name + ">" + inside + "</" + name.substr(0, name.find(' ')) + ">"; }
