// bpe.h: byte pair encoding of one piece of text: the symbols start as bytes, and the adjacent pair of lowest rank is
// merged, the leftmost first, until no pair has a rank (Sennrich et al. 2016, on bytes as in GPT-2).
#pragma once
#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <mutex>
#include <queue>
#include <unordered_map>
#include "../base/check.h"
#include "split.h"

// All that makes a tokenizer what it is.
struct Merge { int left, right, id; uint32_t rank; };
struct AddedToken { std::string text; int id; bool special; };  // found in text before anything is split
struct Vocabulary {
    std::vector<std::string> tokens;  // the bytes of each id; an id that does not exist, or an added one, has none
    std::vector<AddedToken> added;
    std::vector<Merge> merges;
    SplitPattern pattern = SplitPattern::GPT2;
    DigitSplit digits = DigitSplit::NONE;
    bool nfc = false;                 // text is brought to Unicode's form C first
    bool whole_pieces = false;        // a piece that is a token becomes it without merging (Hugging Face: ignore_merges)
    std::string post_processor = "null";  // as tokenizer.json has it
    std::vector<int> front;               // what that puts in front of a text
};

class Bpe {
    static constexpr uint32_t NO_RANK = UINT32_MAX;
    static constexpr int NO_TOKEN = -1;
    struct Entry { uint64_t pair; uint32_t rank; int id; };
    std::vector<Entry> table_;  // open addressing, at most half full; rank NO_RANK: empty
    int shift_ = 0;             // 64 - log2(size)
    int byte_id_[256];
    bool whole_pieces_;
    std::unordered_map<std::string, int> token_id_;  // only for whole_pieces

    // Fibonacci hashing: the upper bits of a product with 2^64 / phi
    size_t slot(uint64_t pair) const { return (size_t)(pair * 0x9E3779B97F4A7C15 >> shift_); }
    const Entry* find(int left, int right) const {
        uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
        for (size_t i = slot(pair);; i = (i + 1) & (table_.size() - 1))
            if (table_[i].rank == NO_RANK || table_[i].pair == pair) return &table_[i];
    }
    uint32_t rank(int left, int right) const { return find(left, right)->rank; }

    // Few symbols: look at all ranks for each merge.
    void encode_short(std::string_view piece, std::vector<int>& out) const {
        int ids[SHORT];
        uint32_t ranks[SHORT];  // of the pair (i, i + 1)
        size_t n = piece.size();
        for (size_t i = 0; i < n; i++) ids[i] = byte_id_[(unsigned char)piece[i]];
        for (size_t i = 0; i + 1 < n; i++) ranks[i] = rank(ids[i], ids[i + 1]);
        while (n > 1) {
            size_t best = 0;
            for (size_t i = 1; i + 1 < n; i++) if (ranks[i] < ranks[best]) best = i;
            if (ranks[best] == NO_RANK) break;
            ids[best] = find(ids[best], ids[best + 1])->id;
            n--;
            for (size_t i = best + 1; i < n; i++) ids[i] = ids[i + 1];
            for (size_t i = best; i + 1 < n; i++) ranks[i] = ranks[i + 1];
            if (best > 0) ranks[best - 1] = rank(ids[best - 1], ids[best]);
            if (best + 1 < n) ranks[best] = rank(ids[best], ids[best + 1]);
        }
        out.insert(out.end(), ids, ids + n);
    }

    // Places where a pair of one rank begins, lowest first. They come in rising order but for a few, so that a queue does for
    // them what takes a heap log n.
    class Places {
        std::vector<uint32_t> rising_;
        size_t next_ = 0;
        std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<uint32_t>> others_;

      public:
        void push(uint32_t at) {
            if (rising_.empty() || at > rising_.back()) rising_.push_back(at);
            else others_.push(at);
        }
        bool empty() const { return next_ == rising_.size() && others_.empty(); }
        uint32_t pop() {
            if (others_.empty() || (next_ < rising_.size() && rising_[next_] < others_.top())) return rising_[next_++];
            uint32_t at = others_.top();
            others_.pop();
            return at;
        }
    };

    // Many: a linked list of symbols and the places of each rank. Time grows with the text and the log of the number of ranks.
    void encode_long(std::string_view piece, std::vector<int>& out) const {
        constexpr uint32_t END = UINT32_MAX;
        CHECK(piece.size() < END, "a piece of %zu bytes without a place to split it", piece.size());
        uint32_t n = (uint32_t)piece.size();
        // lists and places take some 24 bytes a byte: of pieces that no text has, one at a time
        static std::mutex mutex;
        std::unique_lock<std::mutex> lock(mutex, std::defer_lock);
        if (n > 1 << 16) lock.lock();
        struct Symbol { int id; uint32_t previous, next, rank; };  // rank of the pair that begins here
        std::vector<Symbol> symbols(n);
        std::map<uint32_t, Places> waiting;
        for (uint32_t i = 0; i < n; i++)
            symbols[i] = {byte_id_[(unsigned char)piece[i]], i == 0 ? END : i - 1, i + 1 == n ? END : i + 1, NO_RANK};
        auto update = [&](uint32_t i) {
            Symbol& s = symbols[i];
            s.rank = s.next == END ? NO_RANK : rank(s.id, symbols[s.next].id);
            if (s.rank != NO_RANK) waiting[s.rank].push(i);
        };
        for (uint32_t i = 0; i < n; i++) update(i);
        while (!waiting.empty()) {
            auto lowest = waiting.begin();
            if (lowest->second.empty()) { waiting.erase(lowest); continue; }
            uint32_t at = lowest->second.pop();
            Symbol& s = symbols[at];
            if (s.rank != lowest->first) continue;  // merged since it was pushed
            Symbol& gone = symbols[s.next];
            s.id = find(s.id, gone.id)->id;
            s.next = gone.next, gone.rank = NO_RANK, gone.id = NO_TOKEN;
            if (s.next != END) symbols[s.next].previous = at;
            if (s.previous != END) update(s.previous);
            update(at);
        }
        for (const Symbol& s : symbols) if (s.id != NO_TOKEN) out.push_back(s.id);
    }

  public:
    static constexpr size_t SHORT = 48;  // 48^2 / 2 steps of a scan take about as long as the lists for 48

    explicit Bpe(const Vocabulary& v) : whole_pieces_(v.whole_pieces) {
        std::fill(byte_id_, byte_id_ + 256, NO_TOKEN);
        for (size_t id = 0; id < v.tokens.size(); id++) {
            const std::string& token = v.tokens[id];
            if (token.size() == 1) byte_id_[(unsigned char)token[0]] = (int)id;
            if (whole_pieces_ && !token.empty()) token_id_.emplace(token, (int)id);
        }
        size_t size = 1024;
        while (size < 2 * v.merges.size()) size *= 2;
        shift_ = 64 - std::bit_width(size - 1);
        table_.assign(size, Entry{0, NO_RANK, 0});
        for (const Merge& m : v.merges) {
            Entry* entry = const_cast<Entry*>(find(m.left, m.right));
            *entry = {(uint64_t)(uint32_t)m.left << 32 | (uint32_t)m.right, m.rank, m.id};
        }
    }

    bool has_byte(int b) const { return byte_id_[b] != NO_TOKEN; }
    int byte_id(unsigned char b) const { return byte_id_[b]; }

    void encode_piece(std::string_view piece, std::vector<int>& out) const {
        if (whole_pieces_)
            if (auto found = token_id_.find(std::string(piece)); found != token_id_.end()) return out.push_back(found->second);
        if (piece.size() <= SHORT) encode_short(piece, out);
        else encode_long(piece, out);
    }
};

inline uint64_t hash_piece(std::string_view piece) {
    uint64_t hash = piece.size();
    for (char c : piece) hash = (hash ^ (unsigned char)c) * 0x9E3779B97F4A7C15, hash ^= hash >> 29;
    return hash;
}

// Words come again: the tokens of recent short pieces, one cache line each, the newest piece in its slot.
class WordCache {
    struct Slot { uint8_t bytes, count; char piece[22]; int ids[10]; };
    static_assert(sizeof(Slot) == 64);
    static constexpr size_t SLOTS = 1 << 15;  // 2 MB: the words of a book, and still in a core's L2 cache
    std::vector<Slot> slots_ = std::vector<Slot>(SLOTS);

  public:
    void encode(const Bpe& bpe, std::string_view piece, std::vector<int>& out) {
        if (piece.size() > sizeof Slot::piece) return bpe.encode_piece(piece, out);
        Slot& slot = slots_[hash_piece(piece) % SLOTS];
        if (slot.bytes == piece.size() && memcmp(slot.piece, piece.data(), piece.size()) == 0) {
            out.insert(out.end(), slot.ids, slot.ids + slot.count);
            return;
        }
        size_t before = out.size();
        bpe.encode_piece(piece, out);
        size_t count = out.size() - before;
        if (count > sizeof slot.ids / sizeof *slot.ids) return;
        slot.bytes = (uint8_t)piece.size(), slot.count = (uint8_t)count;
        memcpy(slot.piece, piece.data(), piece.size());
        memcpy(slot.ids, out.data() + before, count * sizeof(int));
    }
};
