// attention.h: causal multi-head attention, out = softmax(q k^T / sqrt(HS), masked) v, and its backward. A tile of
// queries loops over the tiles of keys with an online softmax, so that no T x T matrix exists: Dao et al. 2022, "FlashAttention",
// section 3.1; the loop over queries is the outer one, as in the forward of Dao 2023, "FlashAttention-2", section 3.1.
//
// A tile of scores S is stored transposed, keys by queries: a vector holds the scores of W queries for one key, so row_max and
// row_sum need no reduction across a vector, and every micro-kernel broadcasts an element of A and multiplies a row of B by it.
// q, k, v are views of qkv (B, T, QKV), heads of HS (heads.h). Grouped queries: a head of keys and values serves all the query heads of its group.
#pragma once
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include "../base/check.h"
#include "../base/heads.h"
#include "device.h"
#include "vec.h"

namespace attention_detail {
constexpr int TILE = 64;               // queries, keys of a tile: a tile of 64 x 64 floats is a third of an L1 cache
constexpr int GROUP = 4;               // query tiles that share one load of the keys and values
constexpr int MR = 4;                  // the micro-kernel's rows, by BLIS's name ...
constexpr int VECTORS = W == 16 ? 4 : 2;  // ... and its vectors in a row: MR x VECTORS accumulators fit in the registers (32 or 16)
constexpr int MAX_HS = 256;            // tiles are on the stack: 0.7 MB at this head size
constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f;
static_assert(TILE % (VECTORS * W) == 0 && TILE % (2 * MR) == 0 && W % MR == 0);

inline int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// The micro-kernel: c[i][n] = or +=  sum over k < K of a(i, k) * b[k][n],  a(i, k) = a[i * rs_a + k * cs_a],  for R rows of V
// vectors. TRIANGLE: row i also gets the i terms after K, as on the diagonal of the causal mask.
template <int R, int V, bool TRIANGLE = false>
inline void micro_kernel(float* c, int ldc, const float* a, int rs_a, int cs_a, const float* b, int ldb, int K, bool accumulate) {
    vfloat acc[R][V];
    #pragma GCC unroll 8
    for (int i = 0; i < R; i++)
        #pragma GCC unroll 8
        for (int v = 0; v < V; v++) acc[i][v] = accumulate ? load(c + i * ldc + v * W) : vfloat{};
    for (int k = 0; k < K; k++) {
        vfloat y[V];
        #pragma GCC unroll 8
        for (int v = 0; v < V; v++) y[v] = load(b + k * ldb + v * W);
        // A compiler barrier: g++ would load y again for each row, and 20 loads for 16 multiply-adds, two of either a cycle, are then the limit.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        #pragma GCC unroll 8
        for (int i = 0; i < R; i++)
            #pragma GCC unroll 8
            for (int v = 0; v < V; v++) acc[i][v] += a[i * rs_a + k * cs_a] * y[v];
    }
    if constexpr (TRIANGLE) {
        #pragma GCC unroll 8
        for (int k = 0; k < R - 1; k++)
            #pragma GCC unroll 8
            for (int i = k + 1; i < R; i++)
                #pragma GCC unroll 8
                for (int v = 0; v < V; v++) acc[i][v] += a[i * rs_a + (K + k) * cs_a] * load(b + (K + k) * ldb + v * W);
    }
    #pragma GCC unroll 8
    for (int i = 0; i < R; i++)
        #pragma GCC unroll 8
        for (int v = 0; v < V; v++) store(c + i * ldc + v * W, acc[i][v]);
}

// The same for MR rows of any multiple of W columns.
template <bool TRIANGLE = false>
inline void multiply_rows(float* c, int ldc, const float* a, int rs_a, int cs_a, const float* b, int ldb, int columns, int K,
                          bool accumulate) {
    int n = 0;
    for (; n + VECTORS * W <= columns; n += VECTORS * W)
        micro_kernel<MR, VECTORS, TRIANGLE>(c + n, ldc, a, rs_a, cs_a, b + n, ldb, K, accumulate);
    if constexpr (VECTORS > 2)
        for (; n + 2 * W <= columns; n += 2 * W) micro_kernel<MR, 2, TRIANGLE>(c + n, ldc, a, rs_a, cs_a, b + n, ldb, K, accumulate);
    for (; n < columns; n += W) micro_kernel<MR, 1, TRIANGLE>(c + n, ldc, a, rs_a, cs_a, b + n, ldb, K, accumulate);
}

// tile[r][d] = x[r * stride + d], widened to float, with zeros to the right up to width and below up to TILE.
template <class F> inline void load_tile(float* tile, const F* x, size_t stride, int rows, int HS, int width) {
    for (int r = 0; r < rows; r++)
        each_vector(HS, [=](int d, int k) { store(tile + r * width + d, load_first(x + (size_t)r * stride + d, k)); });
    for (int i = rows * width; i < TILE * width; i += W) store(tile + i, vfloat{});
}

// x[r * stride + d] = tile[r][d] * factor
template <class F> inline void store_tile(F* x, size_t stride, const float* tile, int rows, int HS, int width, float factor) {
    for (int r = 0; r < rows; r++)
        each_vector(HS, [=](int d, int k) { store_first(x + (size_t)r * stride + d, load(tile + r * width + d) * factor, k); });
}

// out[d][r] = tile[r][d] * factor
inline void transpose_tile(float* out, const float* tile, int rows, int width, float factor) {
    for (int r = 0; r < rows; r += W)
        for (int d = 0; d < width; d += W) {
            vfloat x[W];
            for (int i = 0; i < W; i++) x[i] = load(tile + (r + i) * width + d);
            transpose(x);
            for (int i = 0; i < W; i++) store(out + (d + i) * TILE + r, x[i] * factor);
        }
}

inline vint lane_numbers() { vint n = {}; for (int i = 0; i < W; i++) n[i] = i; return n; }

inline int clamp_to_tile(int n) { return n < 0 ? 0 : n < TILE ? n : TILE; }
// The causal mask: of the tile of keys that begins at position `key`, a query sees the first so many ...
inline int visible(int query, int key) { return clamp_to_tile(query + 1 - key); }

// ... and the first so many of them are hidden: starts[i] is the position of the first key that query i sees, where its document or its window
// begins, and never falls from one query to the next. No starts: each sees the whole sequence up to itself.
struct Starts {
    const int* at;  // of the tile's first query; null: none
    int n;          // queries of the tile
    int first(int i) const { return at ? at[i < n ? i : n - 1] : 0; }  // the padding repeats the last query
    int masked(int i, int key) const { return clamp_to_tile(first(i) - key); }
    // the same of each of W queries
    vint masked_of(int i, int key) const {
        vint h = {};
        if (at) for (int lane = 0; lane < W; lane++) h[lane] = first(i + lane) - key;
        return h;
    }
    // Of so many queries in whole vectors, those up to the last that sees the key at `position`; counted on from `i`, as it never falls from one key to the next.
    int seeing(int position, int i, int queries) const {
        if (!at) return queries;
        while (i < queries && first(i) <= position) i += W;
        return i;
    }
};

// scores[j][q] = key j . query q, or S^T = K Q^T, for every vector of queries of which one sees key j.
inline void compute_scores(float* scores, const float* keys, const float* queries_t, const Starts& starts, int all_queries, int HS, int width,
                           int query, int key) {
    for (int j = 0, queries = 0; j < visible(query + all_queries - 1, key); j += 2 * MR) {
        const float* a = keys + j * width;
        queries = starts.seeing(key + j + 2 * MR - 1, queries, all_queries);
        int q = key + j < query ? 0 : (key + j - query) / W * W;
        for (; q + VECTORS * W <= queries; q += VECTORS * W)
            for (int half = 0; half < 2 * MR; half += MR)
                micro_kernel<MR, VECTORS>(scores + (j + half) * TILE + q, TILE, a + half * width, width, 1, queries_t + q, TILE, HS, false);
        if constexpr (VECTORS > 2)
            for (; q + 2 * W <= queries; q += 2 * W)
                micro_kernel<2 * MR, 2>(scores + j * TILE + q, TILE, a, width, 1, queries_t + q, TILE, HS, false);
        for (; q < queries; q += W) micro_kernel<2 * MR, 1>(scores + j * TILE + q, TILE, a, width, 1, queries_t + q, TILE, HS, false);
    }
}

// A tile of queries and the state of its online softmax over the keys so far.
struct QueryTile {
    alignas(64) float transposed[MAX_HS * TILE];     // (HS, TILE), times log2(e) / sqrt(HS): softmax is 2^(s - row_max) / row_sum
    alignas(64) float o[TILE * MAX_HS];              // (TILE, width) accumulators of P V, not yet divided by row_sum
    alignas(64) float row_max[TILE], row_sum[TILE];  // of each query's row of S: maximum, sum of 2^(s - row_max)
    int n, query;                                    // how many, position of the first
    Starts starts;
};

template <class F>
inline void load_queries(QueryTile& t, const F* q, size_t stride, int n, int query, const int* starts, int HS, int width) {
    t.n = n, t.query = query, t.starts = {starts, n};
    load_tile(t.o, q, stride, n, HS, width);
    transpose_tile(t.transposed, t.o, round_up(n, W), width, LOG2E / std::sqrt((float)HS));
    for (int i = 0; i < TILE * width; i += W) store(t.o + i, vfloat{});
    for (int i = 0; i < TILE; i++) t.row_max[i] = -FLT_MAX, t.row_sum[i] = 0;  // not -infinity: -infinity - -infinity is NaN
}

// One step of the online softmax: the queries attend to the tile of keys that begins at position `key`.
inline void attend_tile(QueryTile& t, const float* keys, const float* values, int key, int HS, int width) {
    alignas(64) float scores[TILE * TILE], rescale[TILE];
    const int queries = round_up(t.n, W);
    // 1. scores
    compute_scores(scores, keys, t.transposed, t.starts, queries, HS, width, t.query, key);
    // 2. row_max, the unnormalised probabilities P = 2^(score - row_max), row_sum; rescale what an older row_max scaled
    for (int i = 0; i < queries; i += W) {
        const int whole = visible(t.query + i, key), count = visible(t.query + i + W - 1, key);
        const int begin = t.starts.masked(i, key), all = t.starts.masked(i + W - 1, key);  // by starts: keys before `begin` are masked for all queries, from `all` on for none
        const vint last = lane_numbers() + (t.query + i - key);  // the last key that each query sees
        float* column = scores + i;
        vfloat m = load(t.row_max + i);
        auto mask = [&](int from, int to, auto seen) {
            for (int j = from; j < to; j++) {
                vfloat s = select(seen(j), load(column + j * TILE), splat(-__builtin_inff()));
                store(column + j * TILE, s);
                m = vmax(s, m);
            }
        };
        if (begin < all) {
            const vint first = t.starts.masked_of(i, key);
            mask(begin, all < count ? all : count, [&](int j) { return (first <= j) & (last >= j); });
        }
        for (int j = all; j < whole; j++) m = vmax(load(column + j * TILE), m);
        mask(whole > all ? whole : all, count, [&](int j) { return last >= j; });
        vfloat factor = vexp2(load(t.row_max + i) - m), sum = load(t.row_sum + i) * factor;
        for (int j = begin; j < count; j++) {
            vfloat p = vexp2(load(column + j * TILE) - m);
            store(column + j * TILE, p);
            sum += p;
        }
        store(t.row_max + i, m), store(t.row_sum + i, sum), store(rescale + i, factor);
    }
    // 3. o = o * rescale + P V
    for (int i = 0; i < t.n; i++)
        if (rescale[i] != 1)
            for (int d = 0; d < width; d += W) store(t.o + i * width + d, load(t.o + i * width + d) * rescale[i]);
    for (int i = 0; i < t.n; i += MR) {
        // Masked values are left out, not multiplied by P = 0: 0 * infinity is NaN.
        float* rows = t.o + i * width;
        const int count = visible(t.query + i, key), begin = t.starts.masked(i + MR - 1, key), from = begin * TILE + i;  // from `begin` on all rows see the keys
        const float* seen = values + begin * width;
        const auto by_rows = [&](int end) {  // of each row the keys up to `end` that it sees
            for (int r = 0; r < MR; r++)
                for (int d = 0; d < width; d += W) {
                    const int first = t.starts.masked(i + r, key), last = visible(t.query + i + r, key), n = (last < end ? last : end) - first;
                    micro_kernel<1, 1>(rows + r * width + d, width, scores + first * TILE + i + r, 1, TILE, values + first * width + d, width,
                                       n > 0 ? n : 0, true);
                }
        };
        if (begin < count && t.starts.masked(i, key) < begin) by_rows(begin);
        if (begin < count && count == TILE)
            multiply_rows(rows, width, scores + from, 1, TILE, seen, width, width, TILE - begin, true);
        else if (begin < count && count + MR - 1 <= TILE)
            multiply_rows<true>(rows, width, scores + from, 1, TILE, seen, width, width, count - begin, true);
        else by_rows(TILE);  // the edge of the tile, when the queries do not begin at a multiple of MR, or of a document or a window shorter than MR
    }
}

// Attention of n <= GROUP * TILE queries, the first at position `query`, to all keys at positions up to their own. starts:
// the first that each query sees, or null.
template <class F>
void attend(F* out, size_t out_stride, float* lse, const F* q, size_t q_stride, const F* k, const F* v, size_t kv_stride,
            const int* starts, int n, int query, int HS) {
    const int width = round_up(HS, W), n_keys = query + n;
    QueryTile tiles[GROUP];
    alignas(64) float keys[TILE * MAX_HS], values[TILE * MAX_HS];
    for (int i = 0; i < n; i += TILE)
        load_queries(tiles[i / TILE], q + (size_t)i * q_stride, q_stride, n - i < TILE ? n - i : TILE, query + i,
                     starts ? starts + i : nullptr, HS, width);
    for (int key = starts ? starts[0] / TILE * TILE : 0; key < n_keys; key += TILE) {
        const int rows = n_keys - key < TILE ? n_keys - key : TILE;
        load_tile(keys, k + (size_t)key * kv_stride, kv_stride, rows, HS, width);
        load_tile(values, v + (size_t)key * kv_stride, kv_stride, rows, HS, width);
        for (int i = 0; i < n; i += TILE)
            if (query + i + TILE > key && tiles[i / TILE].starts.first(0) < key + TILE) attend_tile(tiles[i / TILE], keys, values, key, HS, width);
    }
    // finalise: divide by row_sum
    for (int i = 0; i < n; i++) {
        const QueryTile& t = tiles[i / TILE];
        const int r = i % TILE;
        if (lse) lse[i] = t.row_max[r] * LN2 + std::log(t.row_sum[r]);
        store_tile(out + (size_t)i * out_stride, 0, t.o + r * width, 1, HS, width, 1 / t.row_sum[r]);
    }
}

inline void check_heads(const Heads& heads) {
    CHECK(heads.NKV > 0 && heads.NH % heads.NKV == 0, "attention: %d heads do not divide among %d of keys and values", heads.NH, heads.NKV);
    CHECK(heads.HS <= MAX_HS, "attention: head size %d, at most %d", heads.HS, MAX_HS);
}
// Where in a row of qkv the keys are that query head h reads.
inline size_t key_head(const Heads& heads, int h) { return (size_t)(heads.NH + h / heads.group()) * (size_t)heads.HS; }
}  // namespace attention_detail

// "" if there is code for these sizes.
inline std::string size_error(int, int, const Heads& heads) {
    using attention_detail::MAX_HS;
    return heads.HS > MAX_HS ? format("%d heads of %d, must be of at most %d", heads.NH, heads.HS, MAX_HS) : "";
}
inline bool has_attention(AttentionBackend) { return true; }

// starts[b][t] = position of the last `eot` in sequence b up to t: an end-of-text token stands in front of each document, and is
// the first that the document sees. 0 before the first one: the sequence began inside a document.
inline void document_starts(int* starts,        // (B, T)
                            const int* tokens,  // (B, T)
                            int eot, int B, int T, stream_t) {
    for (int b = 0; b < B; b++)
        for (int t = 0, start = 0; t < T; t++) {
            const size_t at = (size_t)b * T + t;
            if (tokens[at] == eot) start = t;
            starts[at] = start;
        }
}

// starts[b][t] = the first token that t sees: of a window of so many tokens, t the last among them, those within its document
inline void window_starts(int* starts,           // (B, T)
                          const int* documents,  // (B, T) document_starts(), or null: all is one
                          int window, int B, int T, stream_t) {
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++) {
            const size_t at = (size_t)b * T + t;
            const int document = documents ? documents[at] : 0, first = t - window + 1;
            starts[at] = document > first ? document : first;
        }
}

// out[t] = sum over start <= u <= t of p[t][u] v[u],  p[t][u] = exp(q[t] . k[u] / sqrt(HS) - lse[t]),  head by head
template <class F>
void attention_forward(F* out,       // (B, T, NH * HS)
                       float* lse,   // (B, NH, T) log of the sum of e^score, for the backward
                       const F* qkv, // (B, T, QKV)
                       Seen seen,    // heads.h
                       int B, int T, const Heads& heads, stream_t) {
    using namespace attention_detail;
    const int* starts = seen.starts;
    check_heads(heads);
    constexpr int AT_ONCE = GROUP * TILE;
    const int NH = heads.NH, HS = heads.HS, tiles = (T + AT_ONCE - 1) / AT_ONCE;
    const size_t width = (size_t)heads.q(), row = (size_t)heads.qkv();
    parallel_for((size_t)(B * NH * tiles), [=](size_t number) {
        const int task = (int)number;
        const int b = task / NH % B, h = task % NH, query = (tiles - 1 - task / (B * NH)) * AT_ONCE;  // the longest first
        const int n = T - query < AT_ONCE ? T - query : AT_ONCE;
        const size_t token = (size_t)b * T, head = (size_t)h * HS;
        const F *q = qkv + token * row + head, *k = qkv + token * row + key_head(heads, h), *v = k + heads.kv();
        attend(out + (token + query) * width + head, width, lse + ((size_t)b * NH + h) * T + query,
               q + query * row, row, k, v, row, starts ? starts + token + query : nullptr, n, query, HS);
    });
}

// Attention with a KV cache, for prefill and decode: appends the keys and values of n new tokens, at positions pos.., to the
// cache; each new token attends to itself and to all tokens before it, or in a window of so many to the last ones of them; 0: no window.
template <class F>
void attention_cached(F* out,       // (n, NH * HS)
                      F* kcache,    // (Tmax, NKV * HS)
                      F* vcache,    // (Tmax, NKV * HS)
                      const F* qkv, // (n, QKV)
                      int n, int pos, int window, const Heads& heads, stream_t) {
    using namespace attention_detail;
    check_heads(heads);
    constexpr int AT_ONCE = GROUP * TILE;
    const int NH = heads.NH, HS = heads.HS, tiles = (n + AT_ONCE - 1) / AT_ONCE;
    const size_t width = (size_t)heads.q(), cached = (size_t)heads.kv(), row = (size_t)heads.qkv();
    for (int i = 0; i < n; i++) {
        const F* k = qkv + (size_t)i * row + width;
        memcpy(kcache + (size_t)(pos + i) * cached, k, cached * sizeof(F));
        memcpy(vcache + (size_t)(pos + i) * cached, k + cached, cached * sizeof(F));
    }
    parallel_for((size_t)(NH * tiles), [=](size_t number) {
        const int task = (int)number;
        const int first = task / NH * AT_ONCE, h = task % NH, count = n - first < AT_ONCE ? n - first : AT_ONCE;
        const size_t head = (size_t)h * HS, of_keys = key_head(heads, h) - width;
        int starts[AT_ONCE];
        for (int i = 0; window && i < count; i++) starts[i] = pos + first + i >= window ? pos + first + i - window + 1 : 0;
        attend(out + (size_t)first * width + head, width, nullptr, qkv + first * row + head, row, kcache + of_keys, vcache + of_keys, cached,
               window ? starts : nullptr, count, pos + first, HS);
    });
}

// Which implementation computes attention, where there is a choice.
template <class F> std::string attention_path(const StreamOptions&) { return ""; }

namespace attention_detail {
// Floats of one head's keys, or values, or their gradients.
inline size_t head_floats(int T, int HS) { return (size_t)round_up(T, TILE) * (size_t)round_up(HS, W); }
}  // namespace attention_detail

// Floats of scratch for the backward: k, v, dk and dv of one head in each thread; in a plan for a GPU what our attention takes there.
inline size_t attention_scratch(int B, int T, const Heads& heads, const StreamOptions& how = {}) {
    using namespace attention_detail;
    if (how.any_gpu) return (size_t)B * T * heads.NH;
    return (size_t)max_threads() * 4 * head_floats(T, heads.HS);
}

namespace attention_detail {
// From scores and dP to P and dS:  p = 2^(p - lse_log2), 0 where masked;  ds = p (ds - delta).  A vector holds W queries.
inline void softmax_backward(float* p, float* ds, const float* lse_log2, const float* delta, const Starts& starts, int queries,
                             int query, int key) {
    for (int i = 0; i < queries; i += W) {
        const int whole = visible(query + i, key), count = visible(query + i + W - 1, key);
        const int all = starts.masked(i + W - 1, key);  // from here on all queries see the keys, before it some or none
        const vint last = lane_numbers() + (query + i - key);  // the last key that each query sees
        const vint first = starts.masked_of(i, key);
        const vfloat lse = load(lse_log2 + i), delta_i = load(delta + i);
        const int begin = starts.masked(i, key);  // before it none does, and no score was computed
        for (int j = 0; j < begin; j++) store(p + j * TILE + i, vfloat{}), store(ds + j * TILE + i, vfloat{});
        for (int j = begin; j < count; j++) {
            float *pj = p + j * TILE + i, *dsj = ds + j * TILE + i;
            vfloat prob = vexp2(load(pj) - lse);
            if (j >= whole) prob = select(last >= j, prob, vfloat{});
            if (j < all) prob = select(first <= j, prob, vfloat{});
            store(pj, prob);
            store(dsj, prob * (load(dsj) - delta_i));
        }
    }
}
// One head of keys and values in fp32, and their gradients: (T, width) each.
struct KeyHead { float *keys, *values, *dkeys, *dvalues; };

// What query head h of sequence b adds to its keys' and values' gradients, and its dq.
template <class F>
void backward_query_head(F* dqkv, const KeyHead& kv, const F* dout, const F* out, const float* lse, const F* qkv, const int* starts, int b, int h, int T,
                         const Heads& heads) {
    const int HS = heads.HS, width = round_up(HS, W);
    const bool first_head = h % heads.group() == 0;  // nothing was added before
    const float scale = 1 / std::sqrt((float)HS);
    const size_t row = (size_t)heads.qkv(), C = (size_t)heads.q(), token = (size_t)b * T, head = (size_t)h * HS;
    const F* q = qkv + token * row + head;
    F* dq = dqkv + token * row + head;
    alignas(64) float queries[TILE * MAX_HS], queries_t[MAX_HS * TILE], dqueries[TILE * MAX_HS];
    alignas(64) float douts[TILE * MAX_HS], douts_t[MAX_HS * TILE];
    alignas(64) float p[TILE * TILE], ds[TILE * TILE], lse_log2[TILE], delta[TILE];
    for (int query = 0; query < T; query += TILE) {
        const int n = T - query < TILE ? T - query : TILE, padded = round_up(n, W);
        const Starts documents = {starts ? starts + token + query : nullptr, n};
        // 1. q, dout, delta, lse of the tile's queries. The rows from n on are zero, and their P is 2^-infinity = 0.
        load_tile(dqueries, out + (token + query) * C + head, C, n, HS, width);
        load_tile(douts, dout + (token + query) * C + head, C, n, HS, width);
        load_tile(queries, q + query * row, row, n, HS, width);
        transpose_tile(queries_t, queries, padded, width, scale * LOG2E);
        transpose_tile(douts_t, douts, padded, width, 1);
        for (int i = 0; i < padded; i++) {
            vfloat dot{};
            for (int d = 0; d < width; d += W) dot += load(dqueries + i * width + d) * load(douts + i * width + d);
            const float log_sum = i < n ? lse[((size_t)b * heads.NH + h) * T + query + i] : 0;
            delta[i] = sum(dot) + 0.0f * log_sum;  // an infinite lse would make P zero, and the row's gradients in silence: now they are NaN
            lse_log2[i] = i < n ? log_sum * LOG2E : __builtin_inff();
        }
        for (int i = 0; i < TILE * width; i += W) store(dqueries + i, vfloat{});

        for (int key = documents.first(0) / TILE * TILE; key <= query; key += TILE) {
            const bool diagonal = key == query, accumulate = !diagonal || !first_head;
            const int rows = diagonal ? n : TILE;
            const size_t at = (size_t)key * width;
            // 2. p = P^T and ds = dS^T, keys by queries
            compute_scores(p, kv.keys + at, queries_t, documents, padded, HS, width, query, key);
            compute_scores(ds, kv.values + at, douts_t, documents, padded, HS, width, query, key);
            softmax_backward(p, ds, lse_log2, delta, documents, padded, query, key);
            // 3. dv += P^T dout,  dk += dS^T q: on the diagonal, key j's first query is j
            for (int j = 0, seeing = 0; j < rows; j += MR) {
                seeing = documents.seeing(key + j + MR - 1, seeing, padded);
                const int first = diagonal ? j : 0, from = j * TILE + first, count = (seeing < n ? seeing : n) - first;
                multiply_rows(kv.dvalues + at + j * width, width, p + from, TILE, 1, douts + first * width, width, width, count, accumulate);
                multiply_rows(kv.dkeys + at + j * width, width, ds + from, TILE, 1, queries + first * width, width, width, count, accumulate);
            }
            // 4. dq += dS k
            for (int i = 0; i < n; i += MR) {
                const int begin = documents.masked(i, key), count = visible(query + i + MR - 1, key) - begin;
                multiply_rows(dqueries + i * width, width, ds + begin * TILE + i, 1, TILE, kv.keys + at + begin * width, width, width, count, true);
            }
        }
        store_tile(dq + query * row, row, dqueries, n, HS, width, scale);
    }
}
// The backward of one head of keys and values of one sequence, task = b * NKV + that head, and of its group's query heads, one after another: dk and dv
// are added up in their order, in fp32. `scratch` is this thread's: 4 head_floats.
template <class F>
void backward_group(F* dqkv, const F* dout, const F* out, const float* lse, const F* qkv, const int* starts, float* scratch, int task, int T, const Heads& heads) {
    const int HS = heads.HS, width = round_up(HS, W), b = task / heads.NKV, first = task % heads.NKV * heads.group();
    const size_t row = (size_t)heads.qkv(), floats = head_floats(T, HS), k = (size_t)b * T * row + key_head(heads, first), v = k + (size_t)heads.kv();
    const KeyHead kv{scratch, scratch + floats, scratch + 2 * floats, scratch + 3 * floats};
    for (int key = 0; key < T; key += TILE) {
        const int rows = T - key < TILE ? T - key : TILE;
        load_tile(kv.keys + (size_t)key * width, qkv + k + key * row, row, rows, HS, width);
        load_tile(kv.values + (size_t)key * width, qkv + v + key * row, row, rows, HS, width);
    }
    for (int h = first; h < first + heads.group(); h++) backward_query_head(dqkv, kv, dout, out, lse, qkv, starts, b, h, T, heads);
    store_tile(dqkv + k, row, kv.dkeys, T, HS, width, 1 / std::sqrt((float)HS));
    store_tile(dqkv + v, row, kv.dvalues, T, HS, width, 1);
}
}  // namespace attention_detail

// dqkv =      dq[t] = scale * sum over u <= t of ds[t][u] k[u],   dk[u] = scale * sum over t >= u of ds[t][u] q[t],
//             dv[u] = sum over t >= u of p[t][u] dout[t],  each sum within a document, those of dk and dv over the query heads of the group, too;
//             ds[t][u] = p[t][u] (dout[t] . v[u] - delta[t]),  delta = rowsum(dout * out),  scale = 1 / sqrt(HS)
// p is recomputed from lse (Dao 2023, "FlashAttention-2", algorithm 2, where delta is D; here the outer loop is over queries).
template <class F>
void attention_backward(F* dqkv,          // (B, T, QKV)
                        const F* dout,    // (B, T, NH * HS)
                        const F* out,     // (B, T, NH * HS)
                        const float* lse, // (B, NH, T)
                        const F* qkv,     // (B, T, QKV)
                        Seen seen,        // as in the forward
                        float* scratch,   // (attention_scratch())
                        int B, int T, const Heads& heads, stream_t) {
    using namespace attention_detail;
    const int* starts = seen.starts;
    check_heads(heads);
    parallel_for((size_t)(B * heads.NKV), [=](size_t task) {
        backward_group(dqkv, dout, out, lse, qkv, starts, scratch + (size_t)thread_number() * 4 * head_floats(T, heads.HS), (int)task, T, heads);
    });
}
