// attention.h: causal multi-head attention, a tile of queries against a tile of keys at a time, so that no T x T matrix
// exists (Dao et al. 2022, "FlashAttention").
//
// A tile of scores is kept transposed, keys by queries: a vector then holds one key's scores of W queries, the softmax
// runs down the columns without a sum across a vector, and every product of tiles is "broadcast an element of the left
// factor, multiply a row of the right one".  q, k, v stand side by side in a row of qkv (B, T, 3C), heads of HS = C / NH.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstddef>
#include "../base/check.h"
#include "device.h"
#include "vec.h"

namespace attention_detail {
constexpr int TILE = 64;               // queries, keys of a tile: a tile of 64 x 64 floats is a third of an L1 cache
constexpr int GROUP = 4;               // query tiles that share one reading of the keys and values
constexpr int ROWS = 4;                // rows that a product works on at once ...
constexpr int WIDE = W == 16 ? 4 : 2;  // ... and vectors of each: ROWS x WIDE sums fit in the registers (32 or 16)
constexpr int MAX_HS = 256;            // tiles are on the stack: 0.7 MB at this head size
constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f;
static_assert(TILE % (WIDE * W) == 0 && TILE % (2 * ROWS) == 0 && W % ROWS == 0);

inline int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// c[i][n] = or +=  sum over k < K of a(i, k) * b[k][n],  a(i, k) = a[i * row + k * step],  for R rows of V vectors.
// TRIANGLE: row i also gets the i terms after K.
template <int R, int V, bool TRIANGLE = false>
inline void product(float* c, int ldc, const float* a, int row, int step, const float* b, int ldb, int K, bool add) {
    vfloat sums[R][V];
    #pragma GCC unroll 8
    for (int i = 0; i < R; i++)
        #pragma GCC unroll 8
        for (int v = 0; v < V; v++) sums[i][v] = add ? load(c + i * ldc + v * W) : vfloat{};
    for (int k = 0; k < K; k++) {
        #pragma GCC unroll 8
        for (int i = 0; i < R; i++)
            #pragma GCC unroll 8
            for (int v = 0; v < V; v++) sums[i][v] += a[i * row + k * step] * load(b + k * ldb + v * W);
    }
    if constexpr (TRIANGLE) {
        #pragma GCC unroll 8
        for (int k = 0; k < R - 1; k++)
            #pragma GCC unroll 8
            for (int i = k + 1; i < R; i++)
                #pragma GCC unroll 8
                for (int v = 0; v < V; v++) sums[i][v] += a[i * row + (K + k) * step] * load(b + (K + k) * ldb + v * W);
    }
    #pragma GCC unroll 8
    for (int i = 0; i < R; i++)
        #pragma GCC unroll 8
        for (int v = 0; v < V; v++) store(c + i * ldc + v * W, sums[i][v]);
}

// The same for ROWS rows of any multiple of W columns.
template <bool TRIANGLE = false>
inline void product_rows(float* c, int ldc, const float* a, int row, int step, const float* b, int ldb, int columns, int K,
                         bool add) {
    int n = 0;
    for (; n + WIDE * W <= columns; n += WIDE * W) product<ROWS, WIDE, TRIANGLE>(c + n, ldc, a, row, step, b + n, ldb, K, add);
    if constexpr (WIDE > 2)
        for (; n + 2 * W <= columns; n += 2 * W) product<ROWS, 2, TRIANGLE>(c + n, ldc, a, row, step, b + n, ldb, K, add);
    for (; n < columns; n += W) product<ROWS, 1, TRIANGLE>(c + n, ldc, a, row, step, b + n, ldb, K, add);
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
// How many keys of the tile that begins at key `key` a query sees, from the tile's first ...
inline int visible(int query, int key) { return clamp_to_tile(query + 1 - key); }

// ... or, with documents, from the first of its own: starts[i] is where query i's document begins, as a position of the row.
// It never falls from one query to the next. No starts: all of the row is one document.
struct Starts {
    const int* at;  // of the tile's first query; null: none
    int n;          // queries of the tile
    int first(int i) const { return at ? at[i < n ? i : n - 1] : 0; }  // the padding behind the last query is like it
    int hidden(int i, int key) const { return clamp_to_tile(first(i) - key); }
    // the same of a vector of queries
    vint hidden_of(int i, int key) const {
        vint h = {};
        if (at) for (int lane = 0; lane < W; lane++) h[lane] = first(i + lane) - key;
        return h;
    }
};

// scores[j][q] = key j . query q, for every vector of queries of which the last sees key j.
inline void multiply_scores(float* scores, const float* keys, const float* queries_t, int queries, int HS, int width,
                            int query, int key) {
    for (int j = 0; j < visible(query + queries - 1, key); j += 2 * ROWS) {
        const float* a = keys + j * width;
        int q = key + j < query ? 0 : (key + j - query) / W * W;
        for (; q + WIDE * W <= queries; q += WIDE * W)
            for (int half = 0; half < 2 * ROWS; half += ROWS)
                product<ROWS, WIDE>(scores + (j + half) * TILE + q, TILE, a + half * width, width, 1, queries_t + q, TILE, HS, false);
        if constexpr (WIDE > 2)
            for (; q + 2 * W <= queries; q += 2 * W)
                product<2 * ROWS, 2>(scores + j * TILE + q, TILE, a, width, 1, queries_t + q, TILE, HS, false);
        for (; q < queries; q += W) product<2 * ROWS, 1>(scores + j * TILE + q, TILE, a, width, 1, queries_t + q, TILE, HS, false);
    }
}

// A tile of queries on its way along the keys.
struct Queries {
    alignas(64) float transposed[MAX_HS * TILE];  // (HS, TILE), in units of log 2: softmax is 2^(s - max) / sum of the same
    alignas(64) float sums[TILE * MAX_HS];        // (TILE, width) of weight * value
    alignas(64) float largest[TILE], total[TILE]; // score so far, sum of weights so far
    int n, query;                                 // how many, position of the first
    Starts starts;
};

template <class F>
inline void begin_queries(Queries& t, const F* q, size_t stride, int n, int query, const int* starts, int HS, int width) {
    t.n = n, t.query = query, t.starts = {starts, n};
    load_tile(t.sums, q, stride, n, HS, width);
    transpose_tile(t.transposed, t.sums, round_up(n, W), width, LOG2E / std::sqrt((float)HS));
    for (int i = 0; i < TILE * width; i += W) store(t.sums + i, vfloat{});
    for (int i = 0; i < TILE; i++) t.largest[i] = -FLT_MAX, t.total[i] = 0;  // not -infinity: minus itself it is a NaN
}

// The queries meet the tile of keys that begins at position `key`.
inline void attend_tile(Queries& t, const float* keys, const float* values, int key, int HS, int width) {
    alignas(64) float scores[TILE * TILE], shrink[TILE];
    const int queries = round_up(t.n, W);
    // 1. scores
    multiply_scores(scores, keys, t.transposed, queries, HS, width, t.query, key);
    // 2. the running maximum, the weights 2^(score - maximum), their running sum
    for (int i = 0; i < queries; i += W) {
        const int whole = visible(t.query + i, key), count = visible(t.query + i + W - 1, key);
        const int begin = t.starts.hidden(i, key), all = t.starts.hidden(i + W - 1, key);  // keys that none, and that all see
        const vint last = lane_numbers() + (t.query + i - key);  // the last key that each query sees
        float* column = scores + i;
        vfloat m = load(t.largest + i);
        auto hide = [&](int from, int to, auto seen) {
            for (int j = from; j < to; j++) {
                vfloat s = select(seen(j), load(column + j * TILE), splat(-__builtin_inff()));
                store(column + j * TILE, s);
                m = vmax(s, m);
            }
        };
        if (begin < all) {
            const vint first = t.starts.hidden_of(i, key);
            hide(begin, all < count ? all : count, [&](int j) { return (first <= j) & (last >= j); });
        }
        for (int j = all; j < whole; j++) m = vmax(load(column + j * TILE), m);
        hide(whole > all ? whole : all, count, [&](int j) { return last >= j; });
        vfloat fade = vexp2(load(t.largest + i) - m), sum = load(t.total + i) * fade;
        for (int j = begin; j < count; j++) {
            vfloat p = vexp2(load(column + j * TILE) - m);
            store(column + j * TILE, p);
            sum += p;
        }
        store(t.largest + i, m), store(t.total + i, sum), store(shrink + i, fade);
    }
    // 3. sums = sums * shrink + weights @ values
    for (int i = 0; i < t.n; i++)
        if (shrink[i] != 1)
            for (int d = 0; d < width; d += W) store(t.sums + i * width + d, load(t.sums + i * width + d) * shrink[i]);
    for (int i = 0; i < t.n; i += ROWS) {
        // A query must not even multiply what it does not see by zero: 0 * infinity is not 0.
        float* rows = t.sums + i * width;
        const int count = visible(t.query + i, key), begin = t.starts.hidden(i, key), from = begin * TILE + i;
        const float* seen = values + begin * width;
        const bool alike = begin == t.starts.hidden(i + ROWS - 1, key) && begin < count;
        if (alike && count == TILE)
            product_rows(rows, width, scores + from, 1, TILE, seen, width, width, TILE - begin, true);
        else if (alike && count + ROWS - 1 <= TILE)
            product_rows<true>(rows, width, scores + from, 1, TILE, seen, width, width, count - begin, true);
        else  // the edge of the tile, when the queries do not begin at a multiple of ROWS, or the edge of a document
            for (int r = 0; r < ROWS; r++)
                for (int d = 0; d < width; d += W) {
                    const int first = t.starts.hidden(i + r, key), n = visible(t.query + i + r, key) - first;
                    product<1, 1>(rows + r * width + d, width, scores + first * TILE + i + r, 1, TILE, values + first * width + d, width,
                                  n > 0 ? n : 0, true);
                }
    }
}

// Attention of n <= GROUP * TILE queries, the first at position `query`, to all keys at positions up to their own. starts:
// where each query's document begins, or null.
template <class F>
void attend(F* out, size_t out_stride, float* lse, const F* q, size_t q_stride, const F* k, const F* v, size_t kv_stride,
            const int* starts, int n, int query, int HS) {
    const int width = round_up(HS, W), n_keys = query + n;
    Queries tiles[GROUP];
    alignas(64) float keys[TILE * MAX_HS], values[TILE * MAX_HS];
    for (int i = 0; i < n; i += TILE)
        begin_queries(tiles[i / TILE], q + (size_t)i * q_stride, q_stride, n - i < TILE ? n - i : TILE, query + i,
                      starts ? starts + i : nullptr, HS, width);
    for (int key = starts ? starts[0] / TILE * TILE : 0; key < n_keys; key += TILE) {
        const int rows = n_keys - key < TILE ? n_keys - key : TILE;
        load_tile(keys, k + (size_t)key * kv_stride, kv_stride, rows, HS, width);
        load_tile(values, v + (size_t)key * kv_stride, kv_stride, rows, HS, width);
        for (int i = 0; i < n; i += TILE)
            if (query + i + TILE > key && tiles[i / TILE].starts.first(0) < key + TILE) attend_tile(tiles[i / TILE], keys, values, key, HS, width);
    }
    for (int i = 0; i < n; i++) {
        const Queries& t = tiles[i / TILE];
        const int r = i % TILE;
        if (lse) lse[i] = t.largest[r] * LN2 + std::log(t.total[r]);
        store_tile(out + (size_t)i * out_stride, 0, t.sums + r * width, 1, HS, width, 1 / t.total[r]);
    }
}

inline void check_heads(int C, int NH) {
    CHECK(NH > 0 && C % NH == 0, "attention: %d channels do not divide into %d heads", C, NH);
    CHECK(C / NH <= MAX_HS, "attention: head size %d, at most %d", C / NH, MAX_HS);
}
}  // namespace attention_detail

// Sizes that the kernels have no code for end here, before anything begins.
inline void check_model(int C, int NH, AttentionBackend) { attention_detail::check_heads(C, NH); }

// starts[b][t] = position of the last `eot` in row b up to t: an end-of-text token stands in front of each document, and is
// the first that the document sees. 0 before the first one: the row began inside a document.
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

// out[t] = sum over start <= u <= t of p[t][u] v[u],  p[t][u] = exp(q[t] . k[u] / sqrt(HS) - lse[t]),  head by head
template <class F>
void attention_forward(F* out,       // (B, T, C)
                       float* lse,   // (B, NH, T) log of the sum of e^score, for the backward
                       const F* qkv, // (B, T, 3C)
                       const int* starts,  // (B, T) where each token's document begins in its row, or null: all is one
                       int B, int T, int C, int NH, stream_t) {
    using namespace attention_detail;
    check_heads(C, NH);
    constexpr int AT_ONCE = GROUP * TILE;
    const int HS = C / NH, groups = (T + AT_ONCE - 1) / AT_ONCE;
    #pragma omp parallel for schedule(dynamic, 1)
    for (int task = 0; task < B * NH * groups; task++) {
        const int b = task / NH % B, h = task % NH, query = (groups - 1 - task / (B * NH)) * AT_ONCE;  // the longest first
        const int n = T - query < AT_ONCE ? T - query : AT_ONCE;
        const size_t row = (size_t)b * T, C3 = 3 * (size_t)C;
        const F* q = qkv + row * C3 + (size_t)h * HS;
        attend(out + (row + query) * C + (size_t)h * HS, C, lse + ((size_t)b * NH + h) * T + query,
               q + query * C3, C3, q + C, q + 2 * C, C3, starts ? starts + row + query : nullptr, n, query, HS);
    }
}

// For generating: appends the keys and values of n new tokens, at positions pos.., to the caches, and attends each of
// them to everything before it and itself.
template <class F>
void attention_cached(F* out,       // (n, C)
                      F* kcache,    // (Tmax, C)
                      F* vcache,    // (Tmax, C)
                      const F* qkv, // (n, 3C)
                      int n, int pos, int C, int NH, stream_t) {
    using namespace attention_detail;
    check_heads(C, NH);
    constexpr int AT_ONCE = GROUP * TILE;
    const int HS = C / NH, groups = (n + AT_ONCE - 1) / AT_ONCE;
    const size_t C3 = 3 * (size_t)C;
    for (int i = 0; i < n; i++) {
        memcpy(kcache + (size_t)(pos + i) * C, qkv + (size_t)i * C3 + C, (size_t)C * sizeof(F));
        memcpy(vcache + (size_t)(pos + i) * C, qkv + (size_t)i * C3 + 2 * C, (size_t)C * sizeof(F));
    }
    #pragma omp parallel for schedule(dynamic, 1)
    for (int task = 0; task < NH * groups; task++) {
        const int first = task / NH * AT_ONCE, h = task % NH, count = n - first < AT_ONCE ? n - first : AT_ONCE;
        const size_t head = (size_t)h * HS;
        attend(out + (size_t)first * C + head, C, nullptr, qkv + first * C3 + head, C3, kcache + head, vcache + head, C,
               nullptr, count, pos + first, HS);
    }
}

// Who makes attention, where there is a choice.
template <class F> std::string attention_path(const StreamOptions&) { return ""; }

// Floats of scratch for the backward: k, v, dk and dv of one head in each thread.
inline size_t attention_scratch(int, int T, int C, int NH, const StreamOptions& = {}) {
    using namespace attention_detail;
    return (size_t)max_threads() * 4 * (size_t)round_up(T, TILE) * (size_t)round_up(C / NH, W);
}

namespace attention_detail {
// p = 2^(p - shift), 0 for a key that the query does not see;  ds = p (ds - D).  A vector holds W queries.
inline void differentiate_softmax(float* p, float* ds, const float* shift, const float* D, const Starts& starts, int queries,
                                  int query, int key) {
    for (int i = 0; i < queries; i += W) {
        const int whole = visible(query + i, key), count = visible(query + i + W - 1, key);
        const int all = starts.hidden(i + W - 1, key);  // from here on all queries see the keys, before it some or none
        const vint last = lane_numbers() + (query + i - key);  // the last key that each query sees
        const vint first = starts.hidden_of(i, key);
        const vfloat s = load(shift + i), Di = load(D + i);
        for (int j = 0; j < count; j++) {
            float *pj = p + j * TILE + i, *dsj = ds + j * TILE + i;
            vfloat weight = vexp2(load(pj) - s);
            if (j >= whole) weight = select(last >= j, weight, vfloat{});
            if (j < all) weight = select(first <= j, weight, vfloat{});
            store(pj, weight);
            store(dsj, weight * (load(dsj) - Di));
        }
    }
}
}  // namespace attention_detail

// dqkv =      dq[t] = scale * sum over u <= t of ds[t][u] k[u],   dk[u] = scale * sum over t >= u of ds[t][u] q[t],
//             dv[u] = sum over t >= u of p[t][u] dout[t],  each sum within a document,
//             ds[t][u] = p[t][u] (dout[t] . v[u] - D[t]),  D[t] = dout[t] . out[t],  scale = 1 / sqrt(HS)
template <class F>
void attention_backward(F* dqkv,          // (B, T, 3C)
                        const F* dout,    // (B, T, C)
                        const F* out,     // (B, T, C)
                        const float* lse, // (B, NH, T)
                        const F* qkv,     // (B, T, 3C)
                        const int* starts, // (B, T) as in the forward, or null
                        float* scratch,   // (attention_scratch())
                        int B, int T, int C, int NH, stream_t) {
    using namespace attention_detail;
    check_heads(C, NH);
    const int HS = C / NH, width = round_up(HS, W);
    const float scale = 1 / std::sqrt((float)HS);
    const size_t C3 = 3 * (size_t)C, head_floats = (size_t)round_up(T, TILE) * (size_t)width;
    #pragma omp parallel for schedule(dynamic, 1)
    for (int task = 0; task < B * NH; task++) {
        const size_t row = (size_t)(task / NH) * T, head = (size_t)(task % NH) * HS;
        const F *q = qkv + row * C3 + head, *k = q + C, *v = k + C;
        F *dq = dqkv + row * C3 + head, *dk = dq + C, *dv = dk + C;
        float *keys = scratch + (size_t)thread_number() * 4 * head_floats, *values = keys + head_floats;
        float *dkeys = values + head_floats, *dvalues = dkeys + head_floats;
        alignas(64) float queries[TILE * MAX_HS], queries_t[MAX_HS * TILE], dqueries[TILE * MAX_HS];
        alignas(64) float douts[TILE * MAX_HS], douts_t[MAX_HS * TILE];
        alignas(64) float p[TILE * TILE], ds[TILE * TILE], shift[TILE], D[TILE];
        for (int key = 0; key < T; key += TILE) {
            const int rows = T - key < TILE ? T - key : TILE;
            load_tile(keys + (size_t)key * width, k + key * C3, C3, rows, HS, width);
            load_tile(values + (size_t)key * width, v + key * C3, C3, rows, HS, width);
        }
        for (int query = 0; query < T; query += TILE) {
            const int n = T - query < TILE ? T - query : TILE, padded = round_up(n, W);
            const Starts documents = {starts ? starts + row + query : nullptr, n};
            // 1. the queries' side of the tile. Rows below n are zero and have weight 2^-infinity = 0.
            load_tile(dqueries, out + (row + query) * C + head, C, n, HS, width);
            load_tile(douts, dout + (row + query) * C + head, C, n, HS, width);
            load_tile(queries, q + query * C3, C3, n, HS, width);
            transpose_tile(queries_t, queries, padded, width, scale * LOG2E);
            transpose_tile(douts_t, douts, padded, width, 1);
            for (int i = 0; i < padded; i++) {
                vfloat dot{};
                for (int d = 0; d < width; d += W) dot += load(dqueries + i * width + d) * load(douts + i * width + d);
                D[i] = sum(dot);
                shift[i] = i < n ? lse[(size_t)task * T + query + i] * LOG2E : __builtin_inff();
            }
            for (int i = 0; i < TILE * width; i += W) store(dqueries + i, vfloat{});

            for (int key = documents.first(0) / TILE * TILE; key <= query; key += TILE) {
                const bool diagonal = key == query;
                const int rows = diagonal ? n : TILE;
                const size_t at = (size_t)key * width;
                // 2. p and ds, keys by queries
                multiply_scores(p, keys + at, queries_t, padded, HS, width, query, key);
                multiply_scores(ds, values + at, douts_t, padded, HS, width, query, key);
                differentiate_softmax(p, ds, shift, D, documents, padded, query, key);
                // 3. dv += p dout,  dk += ds q: key j's first query is j on the diagonal
                for (int j = 0; j < rows; j += ROWS) {
                    const int first = diagonal ? j : 0, from = j * TILE + first;
                    product_rows(dvalues + at + j * width, width, p + from, TILE, 1, douts + first * width, width, width,
                                 n - first, !diagonal);
                    product_rows(dkeys + at + j * width, width, ds + from, TILE, 1, queries + first * width, width, width,
                                 n - first, !diagonal);
                }
                // 4. dq += ds^T k
                for (int i = 0; i < n; i += ROWS)
                    product_rows(dqueries + i * width, width, ds + i, 1, TILE, keys + at, width, width,
                                 visible(query + i + ROWS - 1, key), true);
            }
            store_tile(dq + query * C3, C3, dqueries, n, HS, width, scale);
        }
        store_tile(dk, C3, dkeys, T, HS, width, scale);
        store_tile(dv, C3, dvalues, T, HS, width, 1);
    }
}
