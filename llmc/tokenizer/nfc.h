// nfc.h: Unicode's normalisation form C (UAX 15): 1. decompose  2. order combining marks by class  3. compose. A byte that begins no
// valid UTF-8 stays as it is, and stands between characters as a letter would.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>
#include "nfc_table.h"
#include "unicode.h"

class Nfc {
    // Hangul syllables are computed: UAX 15, section 10
    static constexpr uint32_t S = 0xAC00, L = 0x1100, V = 0x1161, T = 0x11A7, NL = 19, NV = 21, NT = 28, NS = NL * NV * NT;
    std::vector<uint8_t> class_ = std::vector<uint8_t>(0x110000);   // canonical combining class
    std::vector<uint8_t> touched_ = std::vector<uint8_t>(0x110000); // may change, or change what stands before it
    std::unordered_map<uint32_t, std::pair<uint32_t, uint32_t>> decomposed_;  // second is 0 for a single
    std::unordered_map<uint64_t, uint32_t> composed_;

    struct Item { uint32_t code; uint8_t combining; };  // a code of 0x110000 + b is the byte b, no valid UTF-8
    static uint64_t key(uint32_t a, uint32_t b) { return (uint64_t)a << 32 | b; }

    void decompose(uint32_t c, std::vector<Item>& out) const {
        if (c - S < NS) {
            out.push_back({L + (c - S) / (NV * NT), 0}), out.push_back({V + (c - S) % (NV * NT) / NT, 0});
            if ((c - S) % NT) out.push_back({T + (c - S) % NT, 0});
            return;
        }
        auto found = decomposed_.find(c);
        if (found == decomposed_.end()) { out.push_back({c, c < 0x110000 ? class_[c] : (uint8_t)0}); return; }
        decompose(found->second.first, out);
        if (found->second.second) decompose(found->second.second, out);
    }
    uint32_t compose(uint32_t a, uint32_t b) const {  // 0: they do not
        if (a - L < NL && b - V < NV) return S + ((a - L) * NV + (b - V)) * NT;
        if (a - S < NS && (a - S) % NT == 0 && b - T - 1 < NT - 1) return a + (b - T);
        auto found = composed_.find(key(a, b));
        return found == composed_.end() ? 0 : found->second;
    }
    Nfc() {
        constexpr size_t n = sizeof COMBINING_RUNS / sizeof *COMBINING_RUNS;
        for (size_t i = 0; i < n; i++)
            for (uint32_t c = COMBINING_RUNS[i] >> 8, end = i + 1 < n ? COMBINING_RUNS[i + 1] >> 8 : 0x110000; c < end; c++)
                touched_[c] = class_[c] = (uint8_t)(COMBINING_RUNS[i] & 255);
        for (const CanonicalSingle& s : CANONICAL_SINGLES) decomposed_[s.code] = {s.becomes, 0}, touched_[s.code] = 1;
        for (const CanonicalPair& p : CANONICAL_PAIRS) {
            decomposed_[p.code] = {p.first, p.second};
            if (p.composes) composed_[key(p.first, p.second)] = p.code, touched_[p.second] = 1;
            else touched_[p.code] = 1;
        }
        for (uint32_t i = 0; i < NV; i++) touched_[V + i] = 1;
        for (uint32_t i = 1; i < NT; i++) touched_[T + i] = 1;
    }

  public:
    static const Nfc& tables() { static const Nfc nfc; return nfc; }

    // true: the text is in NFC. false: it may not be.
    bool is_normalized(std::string_view text) const {
        const unsigned char *p = (const unsigned char*)text.data(), *end = p + text.size();
        while (p < end) {
            if (*p < 0xCC) { p++; continue; }  // nothing below U+0300 changes; a continuation byte here is one of them
            Character c = decode_utf8(p, end);
            if (c.code != INVALID && touched_[c.code]) return false;
            p += c.bytes;
        }
        return true;
    }

    std::string normalize(std::string_view text) const {
        std::vector<Item> items;
        const unsigned char *p = (const unsigned char*)text.data(), *end = p + text.size();
        while (p < end) {  // 1. decompose
            Character c = decode_utf8(p, end);
            if (c.code == INVALID && c.bytes == 1) items.push_back({0x110000u + *p, 0});
            else decompose(c.code, items);
            p += c.bytes;
        }
        for (size_t i = 0; i < items.size();) {  // 2. order
            size_t begin = i;
            while (i < items.size() && items[i].combining) i++;
            std::stable_sort(items.begin() + (long)begin, items.begin() + (long)i, [](const Item& a, const Item& b) { return a.combining < b.combining; });
            if (i == begin) i++;
        }
        std::vector<Item> out;  // 3. compose: a character joins the last starter unless one of its class or above, or a starter, is between
        size_t starter = SIZE_MAX;
        for (const Item& item : items) {
            if (starter != SIZE_MAX) {
                bool blocked = out.size() - 1 > starter && (out.back().combining == 0 || out.back().combining >= item.combining);
                if (uint32_t c = blocked ? 0 : compose(out[starter].code, item.code)) { out[starter].code = c; continue; }
            }
            if (item.combining == 0) starter = out.size();
            out.push_back(item);
        }
        std::string result;
        for (const Item& item : out) {
            uint32_t c = item.code;
            if (c >= 0x110000) result += (char)(c - 0x110000);
            else if (c < 0x80) result += (char)c;
            else if (c < 0x800) result += (char)(0xC0 | c >> 6), result += (char)(0x80 | (c & 63));
            else if (c < 0x10000) result += (char)(0xE0 | c >> 12), result += (char)(0x80 | (c >> 6 & 63)), result += (char)(0x80 | (c & 63));
            else result += (char)(0xF0 | c >> 18), result += (char)(0x80 | (c >> 12 & 63)), result += (char)(0x80 | (c >> 6 & 63)), result += (char)(0x80 | (c & 63));
        }
        return result;
    }
};
