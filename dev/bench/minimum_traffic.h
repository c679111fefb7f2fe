// minimum_traffic.h: the memory traffic that the roofline of a layer begins with: what its formula needs is read once, what it yields is
// written once, in bytes; what only lies between two of its kernels is neither. A function for each function of a layer, with the same
// arguments; a layer that has none here is "not counted" (emulated.cpp).
#pragma once
#include "../../llmc/backend.h"

namespace minimum_traffic {
// Different tokens in a batch: so many rows of wte are looked up, and get a gradient. Whoever has the batch says it.
inline double g_tokens = 0;

inline double copy_to_device(void*, const void*, size_t bytes, stream_t) { return (double)bytes; }
inline double copy_to_host(void*, const void*, size_t bytes, stream_t) { return (double)bytes; }

template <class F> double embedding_forward(F*, const int*, const F*, const F*, int B, int T, int C, int, stream_t) {
    const double N = (double)B * T;
    return (g_tokens + T + N) * C * sizeof(F) + 4 * N;
}
template <class F> double embedding_backward(float*, float*, const F*, const int*, int B, int T, int C, int Tmax, bool accumulate, stream_t) {
    const double N = (double)B * T;
    return N * C * sizeof(F) + 4 * N + 8 * g_tokens * C + (accumulate ? 8.0 * T : 4.0 * Tmax) * C;
}
template <class F> double layernorm_forward(F*, float* mean, float*, const F*, const F* weight, const F* bias, size_t N, int C, float, stream_t) {
    return (2.0 * (double)N + (bias != nullptr) + (weight != nullptr)) * C * sizeof(F) + (mean ? 8.0 : 4.0) * (double)N;
}
template <class F> double residual_layernorm_forward(F*, F*, float* mean, float*, const F*, const F*, const F* weight, const F* bias, size_t N, int C, float, stream_t) {
    return (4.0 * (double)N + (bias != nullptr) + (weight != nullptr)) * C * sizeof(F) + (mean ? 8.0 : 4.0) * (double)N;
}
template <class F>
double layernorm_backward(F*, float* dweight, float* dbias, const F*, const F*, const float* mean, const float*, const F*, size_t N, int C, LayernormBackward how, stream_t) {
    const double rows = (how.add_to_dinp ? 4 : 3) * (double)N, gradients = ((dbias != nullptr) + (dweight != nullptr)) * (how.accumulate ? 8.0 : 4.0);
    return (rows + (dweight != nullptr)) * C * sizeof(F) + (mean ? 8.0 : 4.0) * (double)N + gradients * C;
}
template <class F> double matmul_forward(F*, const F*, const F*, const F* bias, size_t N, int C, int OC, MatmulForward<F> also, stream_t) {
    return ((double)OC * C + (double)N * C + (also.pre_gelu ? 2 : 1) * (double)N * OC + (bias ? OC : 0)) * sizeof(F);
}
template <class F> double matmul_backward_input(F*, const F*, const F*, size_t N, int C, int OC, MatmulBackwardInput<F> also, stream_t) {
    return ((double)OC * C + (double)N * OC + (also.pre_gelu || also.accumulate ? 2 : 1) * (double)N * C) * sizeof(F);
}
template <class F> double matmul_backward_weight(float*, float* dbias, const F*, const F*, size_t N, int C, int OC, bool accumulate, stream_t) {
    return (double)N * (C + OC) * sizeof(F) + ((double)OC * C + (dbias ? OC : 0)) * (accumulate ? 8 : 4);
}
template <class F> double gelu_forward(F*, const F*, size_t n, stream_t) { return 2.0 * (double)n * sizeof(F); }
template <class F> double gelu_backward(F*, const F*, const F*, size_t n, stream_t) { return 3.0 * (double)n * sizeof(F); }
template <class F> double relu2_forward(F*, const F*, size_t n, stream_t) { return 2.0 * (double)n * sizeof(F); }
template <class F> double relu2_backward(F*, const F*, const F*, size_t n, stream_t) { return 3.0 * (double)n * sizeof(F); }
template <class F> double attention_forward(F*, float*, const F*, Seen seen, int B, int T, const Heads& heads, stream_t) {
    return (double)B * T * ((heads.qkv() + heads.q()) * (double)sizeof(F) + 4.0 * heads.NH + (seen.starts ? 4 : 0));
}
template <class F>
double attention_backward(F*, const F*, const F*, const float*, const F*, Seen seen, float*, int B, int T, const Heads& heads, stream_t) {
    return (double)B * T * (2.0 * (heads.qkv() + heads.q()) * sizeof(F) + 4.0 * heads.NH + (seen.starts ? 4 : 0));
}
// Queries and keys, and values where they are copied; the angles of T positions; weights of the norms of heads, and their gradients.
template <class F> double rope_forward(F* out, const F* inp, const F* qnormw, const F*, const float*, int B, int T, int, const Heads& heads, float, stream_t) {
    const double N = (double)B * T, row = heads.q() + (out == inp ? 1 : 2) * heads.kv();
    return 2 * N * row * sizeof(F) + 4.0 * T * heads.HS + (qnormw ? 2.0 * heads.HS * sizeof(F) : 0);
}
template <class F>
double rope_backward(F* dinp, float*, float*, const F* dout, const F*, const F* qnormw, const F*, const float*, int B, int T, const Heads& heads, float eps, bool accumulate, stream_t) {
    const double N = (double)B * T, rotated = heads.q() + heads.kv(), copied = dinp == dout ? 0 : heads.kv();
    return N * ((eps > 0 ? 3 : 2) * rotated + 2 * copied) * sizeof(F) + 4.0 * T * heads.HS + (qnormw ? 2.0 * heads.HS * ((double)sizeof(F) + (accumulate ? 8 : 4)) : 0);
}
template <class F> double swiglu_forward(F*, const F*, size_t N, int FF, stream_t) { return 3.0 * (double)N * FF * sizeof(F); }
template <class F> double swiglu_backward(F*, const F*, const F*, size_t N, int FF, stream_t) { return 5.0 * (double)N * FF * sizeof(F); }
template <class F> double fused_classifier(F*, float*, const int*, float, size_t N, int V, int Vp, Classifier how, stream_t) {
    return (double)N * ((V + (how.write_dlogits ? Vp : 0)) * (double)sizeof(F) + 8);
}
inline double sum_losses(double*, const float*, size_t N, bool accumulate, stream_t) { return 4.0 * (double)N + (accumulate ? 16 : 8); }
inline double add_gradients(float*, const float*, size_t n, stream_t) { return 12.0 * (double)n; }
inline double sum_gradients(float*, double*, const float*, int, int world, const Chunk*, size_t n_chunks, size_t, size_t n, stream_t) {
    return 4.0 * (double)n * (world + (world > 1)) + (double)n_chunks * (8 + sizeof(Chunk));
}
// Of the history the newest entry and the number of them; it is looked at as a whole only when it is full.
inline double guard_step(StepStats*, History*, const double*, const unsigned*, size_t leaves, size_t chunks, double, StepLimits, stream_t) {
    return sizeof(StepStats) + 12.0 * (double)(leaves + chunks) + 2 * (8 + 2 * 4);
}
// Gradients are read; moments and what is updated, in fp32, are read and written; parameters that have a master are written.
template <class F>
double adamw_update(F*, float* master, const float*, float*, float*, const Segment*, int, StepStats*, size_t n, AdamW, stream_t) {
    return (double)n * (4 + 16 + (master ? 8 + sizeof(F) : 2 * sizeof(F)));
}
}  // namespace minimum_traffic
