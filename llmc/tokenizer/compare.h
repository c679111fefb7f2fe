// compare.h: are two tokenizers one? A fingerprint says whether two are the same file's; this says whether every text gets the same ids,
// wherever they were read from (GPT-2's own files, tokenizer.json, a tiktoken rank file), and what the first difference is.
#pragma once
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include "tokenizer.h"

namespace compare_detail {
// Merges in the order of their ranks. Rank files have several pairs for a token: all that make it.
inline std::vector<Merge> ranked(const Vocabulary& v) {
    std::vector<Merge> merges = v.merges;
    std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    return merges;
}
inline std::vector<int> made(const std::vector<Merge>& merges) {  // tokens in the order in which merges make them
    std::vector<int> ids;
    std::set<int> seen;
    for (const Merge& m : merges) if (seen.insert(m.id).second) ids.push_back(m.id);
    return ids;
}
inline std::string merge_text(const Vocabulary& v, const Merge& m) {
    return json_shown(v.tokens[(size_t)m.left]) + " " + json_shown(v.tokens[(size_t)m.right]);
}

inline std::string merges_differ(const Vocabulary& a, const Vocabulary& b) {
    std::vector<Merge> x = ranked(a), y = ranked(b);
    if (x.size() == y.size()) {
        for (size_t i = 0; i < x.size(); i++)
            if (x[i].left != y[i].left || x[i].right != y[i].right || x[i].id != y[i].id)
                return format("merge %zu is %s, there %s", i, merge_text(a, x[i]).c_str(), merge_text(b, y[i]).c_str());
        return a.whole_pieces == b.whole_pieces ? "" : "ignore_merges differs";
    }
    // one of them from ranks: its pairs hold those of the other, and the tokens come in one order
    if (x.size() > y.size()) x.swap(y);
    std::set<std::pair<int, int>> pairs;
    for (const Merge& m : y) pairs.insert({m.left, m.right});
    bool same = made(x) == made(y);
    for (const Merge& m : x) same = same && pairs.count({m.left, m.right});
    return same ? "" : format("%zu merges, there %zu", a.merges.size(), b.merges.size());
}
}

// "" if a and b give every text the same ids; else what differs first: "token 300 is " the", there " a"".
inline std::string tokenizer_difference(const Tokenizer& one, const Tokenizer& other) {
    if (one.fingerprint() == other.fingerprint()) return "";
    const Vocabulary &a = one.vocabulary(), &b = other.vocabulary();
    if (one.vocab_size() != other.vocab_size()) return format("%d tokens, there %d", one.vocab_size(), other.vocab_size());
    for (int id = 0; id < one.vocab_size(); id++)
        if (one.token_bytes(id) != other.token_bytes(id))
            return format("token %d is %s, there %s", id, json_shown(one.token_bytes(id)).c_str(), json_shown(other.token_bytes(id)).c_str());
    for (int id = 0; id < one.vocab_size(); id++)
        if (one.is_added(id) != other.is_added(id) || one.is_special(id) != other.is_special(id))
            return format("token %d, %s, is special in one of them", id, json_shown(one.token_bytes(id)).c_str());
    if (a.pattern != b.pattern || a.digits != b.digits)
        return format("text is split by %s%s, there by %s%s", split_pattern_name(a.pattern), a.digits == DigitSplit::NONE ? "" : " and digits",
                      split_pattern_name(b.pattern), b.digits == DigitSplit::NONE ? "" : " and digits");
    if (a.nfc != b.nfc) return "only one of them normalizes text to NFC";
    return compare_detail::merges_differ(a, b);
}
