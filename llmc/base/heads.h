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
