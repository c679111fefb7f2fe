// chat_format.h: how a conversation is written for a model that was trained on conversations. Its folder holds a template in a language of its own
// (Jinja); here two formats are known, Llama 3's and ChatML (Qwen, SmolLM2), and a template is one of them if it writes an answer's beginning as they do.
#pragma once
#include <ctime>
#include <string>
#include <string_view>
#include <vector>
#include "../io/json.h"
#include "../tokenizer/tokenizer.h"
#include "../tokenizer/unicode.h"
#include "kept_files.h"

struct ChatMessage { std::string role, text; };

// A turn is OPEN role CLOSE text END, and AFTER behind it: <|im_start|>user\nHello<|im_end|>\n.
struct ChatStyle {
    const char* name;
    const char *open, *close_token, *close_text, *end, *after;  // open, close_token and end are special tokens; there may be no close_token
    bool trims;                                                 // texts lose white space at both ends
};
inline constexpr ChatStyle CHAT_STYLES[] = {
    {"Llama 3's", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>", "", true},
    {"ChatML", "<|im_start|>", "", "\n", "<|im_end|>", "\n", false},
};

struct ChatFormat {
    const ChatStyle* style = nullptr;  // null: plain text
    bool begins = false;               // with what the post-processor puts in front of a text
    bool forgets_thoughts = false;     // of earlier answers what is in front of </think> is left out
    std::string system;                // what the template puts in front of a conversation by itself
};

namespace chat_format_detail {
// In a template \n is written as two characters or as itself.
inline std::string unescaped(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++)
        if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == 'n') out += '\n', i++;
        else out += text[i];
    return out;
}
// White space as Python's strip() has it, which is what a template's `trim` means: Unicode's, and four separators of ASCII.
inline std::string_view trimmed(std::string_view text) {
    const unsigned char *p = (const unsigned char*)text.data(), *end = p + text.size(), *from = end, *to = end;
    while (p < end) {
        const Character c = decode_utf8(p, end);
        const bool space = unicode_classes()[c.code] == U_SPACE || (c.code >= 0x1C && c.code <= 0x1F);
        if (!space && from == end) from = p;
        p += c.bytes;
        if (!space) to = p;
    }
    return std::string_view((const char*)from, from < end ? (size_t)(to - from) : 0);
}
// Llama 3.1's and 3.2's template tells the date; ChatML's may hold a text between quotes that stands there if the conversation brings none.
inline std::string own_system(const ChatStyle& style, const std::string& text) {
    const std::string open = std::string(style.open) + "system" + style.close_token + style.close_text;
    if (const std::string cut = "Cutting Knowledge Date: December 2023\n"; text.find(cut) != text.npos) {
        char today[32] = "26 Jul 2024";
        const time_t now = time(nullptr);
        if (tm local; text.find("strftime_now") != text.npos && localtime_r(&now, &local)) strftime(today, sizeof today, "%d %b %Y", &local);
        return cut + "Today Date: " + today + "\n\n";
    }
    for (size_t at = text.find(open); at != text.npos; at = text.find(open, at + 1)) {
        const size_t from = at + open.size(), end = text.find(style.end, from);
        if (end == text.npos) break;
        const std::string own = text.substr(from, end - from);
        if (own.find_first_of("'\"{}") == own.npos) return own;  // else there is code between
    }
    return "";
}
}  // namespace chat_format_detail

// Of a folder's files: chat_template.jinja, else tokenizer_config.json's chat_template, which may be a list with names. from: the file's name.
inline std::string chat_template(const std::vector<KeptFile>& files, std::string& from) {
    for (const KeptFile& file : files) if (file.name == "chat_template.jinja") return from = file.name, file.text;
    for (const KeptFile& file : files) {
        if (file.name != "tokenizer_config.json" || !error_of([&] { json_parse(file.text, file.name); }).empty()) continue;
        const Json json = json_parse(file.text, file.name);
        const Json* found = json.find("chat_template");
        from = file.name;
        if (found && found->type == Json::STRING) return std::string(found->text);
        if (found && found->type == Json::ARRAY)
            for (const Json& one : found->items)
                if (const Json *name = one.find("name"), *text = one.find("template"); name && text && name->text == std::string_view("default")) return std::string(text->text);
    }
    return "";
}

// No style if the template is neither, or the tokenizer lacks a token of it.
inline ChatFormat chat_format(const std::string& written, const Tokenizer& tokenizer) {
    using namespace chat_format_detail;
    const std::string text = unescaped(written);
    for (const ChatStyle& style : CHAT_STYLES) {
        bool fits = text.find(std::string(style.open) + "assistant" + style.close_token + style.close_text) != text.npos;
        for (const char* token : {style.open, style.close_token, style.end}) fits = fits && (!*token || tokenizer.special_id(token) >= 0);
        if (fits) return {&style, text.find("bos_token") != text.npos, text.find("</think>") != text.npos, own_system(style, text)};
    }
    return {};
}

// The tokens of a conversation and of the beginning of an answer to it. special: texts may name special tokens. A text between two special tokens is
// encoded as one, whatever wrote its parts.
inline std::vector<int> chat_tokens(const ChatFormat& format, const std::vector<ChatMessage>& messages, const Tokenizer& tokenizer, bool special) {
    using namespace chat_format_detail;
    const ChatStyle& style = *format.style;
    std::vector<int> tokens;
    std::string text;  // since the last special token
    if (format.begins) tokens = tokenizer.front();
    const auto put = [&](const char* token) {
        tokenizer.encode(text, tokens, special), text.clear();
        if (*token) tokens.push_back(tokenizer.special_id(token));
    };
    const auto open = [&](const std::string& role) { put(style.open), text += role, *style.close_token ? put(style.close_token) : void(), text += style.close_text; };
    const auto turn = [&](const std::string& role, std::string_view said) { open(role), text += said, put(style.end), text += style.after; };
    if (!format.system.empty()) turn("system", format.system);
    for (const ChatMessage& m : messages) {
        std::string_view said = m.text;
        if (const size_t thought = said.rfind("</think>"); format.forgets_thoughts && m.role == "assistant" && thought != said.npos)
            said.remove_prefix(thought + strlen("</think>")), said.remove_prefix(std::min(said.find_first_not_of('\n'), said.size()));
        turn(m.role, style.trims ? trimmed(said) : said);
    }
    open("assistant");
    put("");
    return tokens;
}
