// bpe_train.h: learns merges from text. 1. count the pieces that the split pattern finds  2. over and over give the most
// frequent pair of adjacent symbols an id of its own. Ties go to the pair with the smaller ids, as in Hugging Face's
// trainer, and the 256 bytes have GPT-2's ids, so that the result depends on nothing but the text and the pattern.
#pragma once
#include "../base/stop.h"
#include "bpe.h"

// How often each piece occurs: open addressing over one arena of bytes.
class PieceCounts {
    struct Entry { uint64_t hash; size_t begin; uint32_t bytes; uint64_t count; };
    std::vector<Entry> entries_ = std::vector<Entry>(1 << 12);
    std::string arena_;
    size_t used_ = 0;

    void grow() {
        std::vector<Entry> old(entries_.size() * 2);
        old.swap(entries_);
        for (const Entry& e : old) {
            if (!e.count) continue;
            size_t i = e.hash & (entries_.size() - 1);
            while (entries_[i].count) i = (i + 1) & (entries_.size() - 1);
            entries_[i] = e;
        }
    }

  public:
    void add(std::string_view piece, uint64_t count = 1) {
        uint64_t hash = hash_piece(piece);
        for (size_t i = hash & (entries_.size() - 1);; i = (i + 1) & (entries_.size() - 1)) {
            Entry& e = entries_[i];
            if (e.count == 0) {
                e = {hash, arena_.size(), (uint32_t)piece.size(), count};
                arena_ += piece;
                if (++used_ > entries_.size() / 2) grow();
                return;
            }
            if (e.hash == hash && e.bytes == piece.size() && memcmp(arena_.data() + e.begin, piece.data(), piece.size()) == 0) {
                e.count += count;
                return;
            }
        }
    }
    void add_text(std::string_view text, SplitPattern pattern) {
        std::string_view piece;
        for (Splitter splitter(pattern, text); splitter.next(piece);) add(piece);
    }
    // use(piece, count) for each, in an order that means nothing
    template <class Use> void each(Use use) const {
        for (const Entry& e : entries_) if (e.count) use(std::string_view(arena_).substr(e.begin, e.bytes), e.count);
    }
    void add_all(const PieceCounts& other) { other.each([&](std::string_view piece, uint64_t count) { add(piece, count); }); }
};

class BpeTrainer {
    static constexpr uint32_t END = UINT32_MAX;
    struct Symbol { int id; uint32_t previous, next, piece; };  // all pieces one after the other, each a linked list
    struct Pair {
        uint64_t count = 0;
        std::vector<uint32_t> at;  // left symbols, some of them merged away since
        size_t grown = 0;          // the merge that made it last
    };
    struct Candidate {
        uint64_t count, pair;
        bool operator<(const Candidate& o) const { return count != o.count ? count < o.count : pair > o.pair; }
    };
    std::vector<Symbol> symbols_;
    std::vector<uint64_t> counts_;  // of each piece
    std::unordered_map<uint64_t, Pair> pairs_;
    std::vector<uint64_t> grown_;   // pairs that the current merge has made
    size_t merges_ = 0;

    static uint64_t key(int left, int right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }
    void gain(uint32_t left) {
        const Symbol& s = symbols_[left];
        uint64_t pair = key(s.id, symbols_[s.next].id);
        Pair& p = pairs_[pair];
        p.count += counts_[s.piece];
        p.at.push_back(left);
        if (p.grown != merges_) grown_.push_back(pair), p.grown = merges_;
    }
    void lose(uint32_t left) {
        const Symbol& s = symbols_[left];
        auto p = pairs_.find(key(s.id, symbols_[s.next].id));
        if (p != pairs_.end()) p->second.count -= counts_[s.piece];  // the pair that is being merged is not there any more
    }

    bool is_pair(uint32_t i, int left, int right) const {
        return i != END && symbols_[i].id == left && symbols_[i].next != END && symbols_[symbols_[i].next].id == right;
    }
    // Every (left, right) becomes `id`. In a run of equal symbols pairs overlap: from its start, a a a -> aa a.
    void merge(const std::vector<uint32_t>& at, int left, int right, int id) {
        merges_++;
        grown_.clear();
        for (uint32_t i : at) {
            while (left == right && is_pair(i, left, right) && is_pair(symbols_[i].previous, left, right)) i = symbols_[i].previous;
            for (; is_pair(i, left, right); i = symbols_[i].next) {
                Symbol &s = symbols_[i], &gone = symbols_[s.next];
                if (s.previous != END) lose(s.previous);
                if (gone.next != END) lose(s.next), symbols_[gone.next].previous = i;
                s.id = id, s.next = gone.next, gone.id = -1;
                if (s.previous != END) gain(s.previous);
                if (s.next != END) gain(i);
            }
        }
    }

  public:
    // vocab_size counts the 256 bytes and the end-of-text token, which gets the last id. A pair seen less often than
    // min_count is not merged, so that a small text may give a smaller vocabulary.
    static Vocabulary train(const PieceCounts& pieces, int vocab_size, SplitPattern pattern, uint64_t min_count = 2) {
        CHECK(vocab_size >= 257, "a vocabulary of %d tokens: 256 bytes and the end of text make 257 at least", vocab_size);
        Vocabulary v;
        v.pattern = pattern;
        std::vector<int> byte_ids(256);
        std::unordered_map<std::string, int> ids;  // two pairs of different symbols may be the same bytes
        for (bool printable : {true, false})       // GPT-2's order
            for (int b = 0; b < 256; b++)
                if (((b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD)) == printable) {
                    byte_ids[(size_t)b] = (int)v.tokens.size();
                    ids.emplace(std::string(1, (char)b), byte_ids[(size_t)b]);
                    v.tokens.push_back(std::string(1, (char)b));
                }

        BpeTrainer t;
        pieces.each([&](std::string_view piece, uint64_t count) {
            size_t first = t.symbols_.size(), n = piece.size();
            CHECK(first + n < END, "too many different pieces to learn from: use less text");
            for (size_t i = 0; i < n; i++)
                t.symbols_.push_back({byte_ids[(unsigned char)piece[i]], i == 0 ? END : (uint32_t)(first + i - 1),
                                      i + 1 == n ? END : (uint32_t)(first + i + 1), (uint32_t)t.counts_.size()});
            t.counts_.push_back(count);
        });
        t.merges_ = 1;
        for (size_t i = 0; i < t.symbols_.size(); i++) if (t.symbols_[i].next != END) t.gain((uint32_t)i);

        std::priority_queue<Candidate> queue;
        for (const auto& [pair, p] : t.pairs_) queue.push({p.count, pair});
        while ((int)v.tokens.size() + 1 < vocab_size && !queue.empty()) {
            exit_if_stopping("while a tokenizer was learned");
            Candidate best = queue.top();
            queue.pop();
            auto found = t.pairs_.find(best.pair);
            if (found == t.pairs_.end()) continue;
            if (found->second.count != best.count) {  // other merges took some of it since
                if (found->second.count < best.count && found->second.count >= min_count) queue.push({found->second.count, best.pair});
                continue;
            }
            if (best.count < min_count) break;
            int left = (int)(best.pair >> 32), right = (int)(uint32_t)best.pair;
            std::string bytes = v.tokens[(size_t)left] + v.tokens[(size_t)right];
            auto [known, is_new] = ids.emplace(bytes, (int)v.tokens.size());
            if (is_new) v.tokens.push_back(bytes);
            v.merges.push_back({left, right, known->second, (uint32_t)v.merges.size()});
            std::vector<uint32_t> at = std::move(found->second.at);
            t.pairs_.erase(found);
            t.merge(at, left, right, known->second);
            for (uint64_t pair : t.grown_) queue.push({t.pairs_[pair].count, pair});
        }
        v.added = {{"<|endoftext|>", (int)v.tokens.size(), true}};
        return v;
    }
};
