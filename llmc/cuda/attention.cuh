// attention.cuh: causal multi-head attention by flash attention: an online softmax over tiles of keys, so that no T x T matrix exists (Dao
// et al. 2022, "FlashAttention"); ours, or cuDNN's where that is faster.
//
// q, k, v are views of qkv (B, T, QKV), heads of HS (heads.h), a multiple of 8 up to 256. Masked keys and values in a tile that a query sees in part
// are multiplied by P = 0: they must be finite, as 0 * infinity is NaN.
#pragma once
#include "../base/heads.h"
#include "attention_backward.cuh"
#include "attention_cached.cuh"
#include "attention_cudnn.cuh"
#include "attention_forward.cuh"

namespace attention_detail {
inline AttentionShape shape_of(int B, int T, const Heads& heads) { return {B, T, heads.NH, heads.NKV, heads.HS}; }
inline void check(const AttentionShape& shape) {
    const int NH = shape.NH, NKV = shape.NKV, HS = shape.HS;
    CHECK(HS % 8 == 0 && HS <= MAX_HS, "attention: head size %d, must be a multiple of 8 up to %d on a GPU", HS, MAX_HS);
    CHECK(NKV > 0 && NH % NKV == 0, "attention: %d heads do not divide among %d of keys and values", NH, NKV);
}

template <class F> void forward(F* out, float* lse, const F* qkv, const int* starts, AttentionShape shape, stream_t stream) {
    check(shape);
    for_padded(shape.HS, [&](auto padded) {
        constexpr int D = padded;
        constexpr TileShape tile_shape = forward_tile_shape<F, D>();
        constexpr size_t bytes = tile_bytes<F, D>(tile_shape, 1);
        static_assert(bytes <= MAX_SHARED);
        launch_tiles(attention_forward_kernel<F, D>, tile_shape, (size_t)shape.B * shape.NH, shape.T, 1, bytes, stream,
                     out, lse, qkv, starts, shape, LOG2E / std::sqrt((float)shape.HS));
    });
}

template <class F>
void backward(F* dqkv, const F* dout, const F* out, const float* lse, const F* qkv, const int* starts, float* scratch, AttentionShape shape,
              stream_t stream) {
    check(shape);
    const size_t heads = (size_t)shape.B * shape.NH;
    launch(attention_delta_kernel<F>, over(heads * shape.T * 8, 256), stream, scratch, dout, out, lse, shape);
    for_padded(shape.HS, [&](auto padded) {
        constexpr int D = padded;
        constexpr TileShape tile_shape = backward_tile_shape<F, D>();
        constexpr size_t bytes = tile_bytes<F, D>(tile_shape, 2), dkv_bytes = bytes + statistics_bytes<F, D>();
        static_assert(dkv_bytes <= MAX_SHARED);
        const float scale = 1 / std::sqrt((float)shape.HS);
        launch_tiles(attention_dkv_kernel<F, D>, tile_shape, (size_t)shape.B * shape.NKV, shape.T, D / part_columns<D>(),
                     dkv_bytes, stream, dqkv, dout, lse, scratch, qkv, starts, shape, scale);
        launch_tiles(attention_dq_kernel<F, D>, tile_shape, heads, shape.T, 1, bytes, stream,
                     dqkv, dout, lse, scratch, qkv, starts, shape, scale);
    });
}

// kcache, vcache: (Tmax, NKV * HS)
template <class F> void cached(F* out, F* kcache, F* vcache, const F* qkv, int n, int pos, int window, AttentionShape shape, stream_t stream) {
    check(shape);
    const size_t KC = (size_t)shape.NKV * shape.HS, blocks = (size_t)n * shape.NH;
    CHECK(blocks < (size_t)1 << 31, "attention: %zu queries are too many for one launch", blocks);
    launch(append_kernel<F>, over(n * KC / Pack<F>::SIZE, 256), stream, kcache + pos * KC, vcache + pos * KC, qkv, n, shape);
    launch(attention_cached_kernel<F>, Grid{(unsigned)blocks, CACHED_THREADS}, stream, out, kcache, vcache, qkv, pos, window, shape,
           LOG2E / std::sqrt((float)shape.HS));
}

// A warp a sequence, 32 tokens at a time; `start` carries over from one 32 to the next.
template <class = void>  // a template, as several files include this one
__global__ void document_starts_kernel(int* starts, const int* tokens, int eot, int B, int T) {
    pdl_wait();
    const size_t row = thread_index() / WARP, lane = threadIdx.x % WARP;
    if (row >= (size_t)B) return;
    int start = 0;
    for (int first = 0; first < T; first += WARP) {
        const int t = first + lane;
        const unsigned begins = lanes_where(t < T && tokens[row * T + t] == eot), before = begins & 0xffffffff >> (WARP - 1 - lane);
        if (t < T) starts[row * T + t] = before ? first + 31 - __clz((int)before) : start;
        if (begins) start = first + 31 - __clz((int)begins);
    }
}

template <class = void>
__global__ void window_starts_kernel(int* starts, const int* documents, int window, int B, int T) {
    pdl_wait();
    const size_t i = thread_index();
    if (i < (size_t)B * T) starts[i] = max(documents ? documents[i] : 0, (int)(i % T) - window + 1);
}
}  // namespace attention_detail

// starts[b][t] = position of the last `eot` in sequence b up to t: an end-of-text token stands in front of each document, and is
// the first that the document sees. 0 before the first one: the sequence began inside a document.
inline void document_starts(int* starts,        // (B, T)
                            const int* tokens,  // (B, T)
                            int eot, int B, int T, stream_t stream) {
    launch(attention_detail::document_starts_kernel<>, over((size_t)B * WARP, 128), stream, starts, tokens, eot, B, T);
}

// starts[b][t] = the first token that t sees: of a window of so many tokens, t the last among them, those within its document
inline void window_starts(int* starts,           // (B, T)
                          const int* documents,  // (B, T) document_starts(), or null: all is one
                          int window, int B, int T, stream_t stream) {
    launch(attention_detail::window_starts_kernel<>, over((size_t)B * T, 256), stream, starts, documents, window, B, T);
}

// out[t] = sum over start <= u <= t of p[t][u] v[u],  p[t][u] = exp(q[t] . k[u] / sqrt(HS) - lse[t]),  head by head
template <class F>
void attention_forward(F* out,             // (B, T, NH * HS)
                       float* lse,         // (B, NH, T) log of the sum of e^score, for the backward
                       const F* qkv,       // (B, T, QKV)
                       Seen seen,          // heads.h
                       int B, int T, const Heads& heads, stream_t stream) {
    auto ours = [&] { attention_detail::forward(out, lse, qkv, seen.starts, attention_detail::shape_of(B, T, heads), stream); };
    if constexpr (std::is_same_v<F, bf16>)
        if ((!seen.starts || seen.window) && stream.kernels.attention != AttentionBackend::OURS && attention_cudnn::forward(out, lse, qkv, seen.window, B, T, heads, stream, ours)) return;
    ours();
}

// Attention with a KV cache, for prefill and decode: appends the keys and values of n new tokens, at positions pos.., to the
// cache; each new token attends to itself and to all tokens before it, or in a window of so many to the last ones of them; 0: no window.
template <class F>
void attention_cached(F* out,        // (n, NH * HS)
                      F* kcache,     // (Tmax, NKV * HS)
                      F* vcache,     // (Tmax, NKV * HS)
                      const F* qkv,  // (n, QKV)
                      int n, int pos, int window, const Heads& heads, stream_t stream) {
    attention_detail::cached(out, kcache, vcache, qkv, n, pos, window, attention_detail::shape_of(1, n, heads), stream);
}

// Floats of scratch for the backward: delta, or what cuDNN needs where a stream with these options may use it.
inline size_t attention_scratch(int B, int T, const Heads& heads, const StreamOptions& how = {}) {
    const size_t delta = (size_t)B * T * heads.NH;
    if (how.kernels.attention == AttentionBackend::OURS) return delta;
    return std::max(delta, ceil_div(attention_cudnn::scratch_bytes(B, T, heads, how.kernels.deterministic, how.any_gpu), sizeof(float)));
}

// Whose implementation computes attention here, and why, for the banner.
template <class F> std::string attention_path(const StreamOptions& how) {
    if (how.kernels.attention == AttentionBackend::OURS || !std::is_same_v<F, bf16>) return "by ours";
    return attention_cudnn::path();
}

// dqkv =      dq[t] = scale * sum over u <= t of ds[t][u] k[u],   dk[u] = scale * sum over t >= u of ds[t][u] q[t],
//             dv[u] = sum over t >= u of p[t][u] dout[t],  each sum within a document, those of dk and dv over the query heads of the group, too;
//             ds[t][u] = p[t][u] (dout[t] . v[u] - delta[t]),  delta = rowsum(dout * out),  scale = 1 / sqrt(HS)
template <class F>
void attention_backward(F* dqkv,            // (B, T, QKV)
                        const F* dout,      // (B, T, NH * HS)
                        const F* out,       // (B, T, NH * HS)
                        const float* lse,   // (B, NH, T)
                        const F* qkv,       // (B, T, QKV)
                        Seen seen,          // as in the forward
                        float* scratch,     // (attention_scratch())
                        int B, int T, const Heads& heads, stream_t stream) {
    auto ours = [&] { attention_detail::backward(dqkv, dout, out, lse, qkv, seen.starts, scratch, attention_detail::shape_of(B, T, heads), stream); };
    if constexpr (std::is_same_v<F, bf16>)
        if ((!seen.starts || seen.window) && stream.kernels.attention != AttentionBackend::OURS && attention_cudnn::backward(dqkv, dout, out, lse, qkv, seen.window, scratch, B, T, heads, stream, ours)) return;
    ours();
}
