// heads.h: the heads of attention.
#pragma once

// A token's row of qkv: the queries of NH heads of HS, then the keys of NKV heads, then their values. Fewer heads of keys and values than of queries:
// grouped queries (Ainslie et al. 2023, "GQA"), where query head h reads key and value head h / (NH / NKV).
struct Heads {
    int NH, NKV, HS;
    int q() const { return NH * HS; }
    int kv() const { return NKV * HS; }
    int qkv() const { return (NH + 2 * NKV) * HS; }
    int group() const { return NH / NKV; }
};

// Which of the tokens before it a token sees.
struct Seen {
    const int* starts;  // (B, T) the first: document_starts() or window_starts(); null: all
    int window;         // starts are those of windows of so many tokens, and of no documents; 0: of others
    Seen(const int* from, int of_window = 0) : starts(from), window(of_window) {}
};
