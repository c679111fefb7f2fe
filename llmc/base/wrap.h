// wrap.h: pages of help, wrapped at the width of the terminal.
#pragma once
#include <sys/ioctl.h>
#include <unistd.h>
#include <algorithm>
#include <cstdlib>
#include <string>

// Columns of the terminal, COLUMNS where the output is none, else 100.
inline size_t terminal_width() {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    const char* columns = getenv("COLUMNS");
    const int width = columns ? atoi(columns) : 0;
    return width > 0 ? (size_t)width : 100;
}

// `left`, and beside it `text` in lines of at most `width` columns, cut between words; below it where a terminal has no room beside.
inline std::string wrapped(const std::string& left, const std::string& text, size_t width) {
    constexpr size_t BESIDE = 29, LEAST = 40;  // the longest word, a path, has 38
    const size_t indent = width >= BESIDE + LEAST ? BESIDE : 6;
    std::string out, line = "  " + left;
    if (line.size() + 1 > indent) out = line + "\n", line.clear();
    line.resize(indent, ' ');
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find(' ', at), text.size());
        const std::string word = text.substr(at, end - at);
        if (line.size() > indent && line.size() + 1 + word.size() > width) out += line + "\n", line.assign(indent, ' ');
        line += (line.size() > indent ? " " : "") + word;
    }
    return out + line + "\n";
}
