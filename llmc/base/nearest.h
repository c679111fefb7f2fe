// nearest.h: of some words, the one that a mistyped word was meant to be.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

// Damerau-Levenshtein distance: letters that were left out, added, replaced, or swapped with their neighbour.
inline int edit_distance(const std::string& a, const std::string& b) {
    std::vector<int> before2(b.size() + 1), before(b.size() + 1), now(b.size() + 1);
    for (size_t j = 0; j <= b.size(); j++) before[j] = (int)j;
    for (size_t i = 1; i <= a.size(); i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= b.size(); j++) {
            now[j] = std::min({before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before2[j - 2] + 1);
        }
        before2 = before, before = now;
    }
    return before[b.size()];
}

// The nearest word; of equally near ones the first. Empty if more than a third of the letters would have to change: then it is a guess.
inline std::string nearest(const std::string& word, const std::vector<std::string>& words) {
    std::string found;
    int least = std::max((int)word.size() / 3, 1) + 1;
    for (const std::string& w : words)
        if (const int distance = edit_distance(word, w); distance < least) least = distance, found = w;
    return found;
}
