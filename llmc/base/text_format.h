// text_format.h: numbers as people read them, names as a shell does.
#pragma once
#include <string>
#include "check.h"

// 1234567 -> "1.23M"
inline std::string human(double x) {
    const char* unit = "";
    for (const char* u : {"K", "M", "G", "T", "P", "E", "Z", "Y"}) if (x >= 999.5) x /= 1000, unit = u;
    if (x >= 1e6) return format("%.2e%s", x, unit);  // beyond the last of them
    return format(x >= 99.95 || !*unit ? "%.0f%s" : x >= 9.995 ? "%.1f%s" : "%.2f%s", x, unit);
}
// seconds -> "1:02:03" or "2:03"; of more than 100 days "412 days", of more than 100 years "2.74K years"
inline std::string clock_text(double seconds) {
    const double days = seconds / 86400;
    if (days > 36525) return human(days / 365.25) + " years";
    if (days > 100) return format("%.0f days", days);
    long s = (long)(seconds + 0.5);
    return s >= 3600 ? format("%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60) : format("%ld:%02ld", s / 60, s % 60);
}
// As a shell reads it.
inline std::string quoted(const std::string& text) {
    if (!text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%") == text.npos) return text;
    std::string out = "'";
    for (char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
    return out + "'";
}
