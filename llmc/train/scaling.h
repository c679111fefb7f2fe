// scaling.h: what a step takes on one GPU and on many: a roofline of the kernels, an alpha-beta model of the exchanges, and a timeline of
// both, on which what is not hidden is what is exposed. Functions of sizes and rates alone: nothing is measured, nothing is read or written.
//
//     compute   a kernel takes its FLOPs over the FLOP/s that products reach, plus its bytes over the B/s of device memory
//     exchange  alpha + beta: a latency, plus the bytes that a GPU sends over the B/s of its link
//     step      micro-batches, exchanges beside them on a stream of their own, then the norm and AdamW
//
// Symbols: W = G M ranks, G of a node, M nodes; N = B T tokens of a micro-batch; P parameters, p of a block; s bytes of a weight.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>
#include "../model/config.h"
#include "../model/flops.h"
#include "../model/tensors.h"

namespace scaling_detail {
// What is reached of a data sheet's figure. PRODUCTS: 780 of an H100's 989 TFLOP/s is the best that a search over sizes found
// (gist.github.com/Chillee/2ec89696db8b7ed1c24461159e325405). LINK: NVLink's protocol takes a fifth, 370 of 450 GB/s (a maintainer of NCCL,
// github.com/NVIDIA/nccl-tests/issues/212). NET: 340 of 400 GB/s of a node (github.com/NVIDIA/nccl/issues/1218).
constexpr double PRODUCTS = 0.80, LINK = 0.82, NET = 0.85;
// Assumed, so that the model gives the count of LOG 23 as it was corrected (124M, 32k tokens, H100: LayerNorm 3.8 ms, GELU 1.7, classifier
// 2.5, AdamW and norm 1.6; attention 9 ms by cuDNN, 16.5 ours). MEMORY: of kernels that only move bytes. ATTENTION_*: of the peak.
constexpr double MEMORY = 0.80, ATTENTION_CUDNN = 0.21, ATTENTION_OURS = 0.114;
// Of the peak without tensor cores: on an H200 (dev/bench/results/nvidia-h200-check.json) forward and backward of 12 heads of 64, B=32, T=1024, take 9.58 ms for 154.6 GFLOP.
constexpr double ATTENTION_FP32 = 0.24;
// Seconds between two kernels of a graph, and kernels of a block, forward and backward: some 230 in 12 blocks (LOG 23).
constexpr double GAP = 1e-6, KERNELS_FORWARD = 7, KERNELS_BACKWARD = 12;
// Seconds. NCCL's own constants (github.com/NVIDIA/nccl, src/graph/tuning.cc, ring with the protocol Simple): a call, a hop over NVLink, a hop
// over the network. MESSAGE: assumed for each further node that a rank sends to, as a host thread posts and completes its message.
constexpr double CALL = 8.4e-6, LINK_HOP = 3.4e-6, NET_HOP = 9.6e-6, MESSAGE = 1e-6;
}  // namespace scaling_detail

// Seconds of a rank, by kind of kernel.
struct Kernels {
    double products = 0, attention = 0, layernorm = 0, gelu = 0, classifier = 0, embedding = 0, gaps = 0;
    double sum() const { return products + attention + layernorm + gelu + classifier + embedding + gaps; }
};
// What kernels reach of a data sheet's figures: products and attention of FLOP/s, the rest of B/s. As assumed above, or where they were measured: measured_kernels.h.
struct Reached {
    Kernels of{.products = scaling_detail::PRODUCTS, .layernorm = scaling_detail::MEMORY, .gelu = scaling_detail::MEMORY, .classifier = scaling_detail::MEMORY, .embedding = scaling_detail::MEMORY};  // attention 0: as assumed of its kernel
    double update = scaling_detail::MEMORY;  // norm and AdamW
};

// One GPU, by its data sheet, and how many there are.
struct Cluster {
    double flops;        // FLOP/s of dense products
    double fp32 = 0;     // of them without tensor cores, as attention in fp32 makes them
    double memory;       // B/s of device memory
    double link, net;    // B/s that it sends while it receives as much: to its own node, to other nodes
    int per_node = 1, nodes = 1;
    double latency = 1;  // times the latencies above; 0: an exchange takes its bytes alone
    Reached reached = {};
    double ranks() const { return (double)per_node * nodes; }
    bool two_levels() const { return nodes > 1 && (per_node & (per_node - 1)) == 0; }  // else what a node adds is no node of the tree
};

// What a rank does in a step.
struct Workload {
    Config config;
    int B, T;
    double grad_accum = 1;  // a whole number, of which a plan may have more than an int holds
    int zero = 0, recompute = 0;
    double size = 2;      // s, bytes of a weight or an activation
    bool master = true;   // fp32 master weights beside them
    bool muon = false;    // the optimizer of the blocks' matrices
    bool cudnn = true;    // its attention, else ours
    double chunks = 1;    // of the classifier
    bool library_adds = false;  // gradients over the ranks, while it carries them; else our kernel, behind that
    double exchanged = 4;       // bytes of a gradient that travels; 2: in bf16, rounded and widened by kernels of ours
    double N() const { return (double)B * T; }
};

// ---- kernels ------------------------------------------------------------------------------------------------------------

inline Kernels operator+(const Kernels& a, const Kernels& b) {
    return {a.products + b.products, a.attention + b.attention, a.layernorm + b.layernorm, a.gelu + b.gelu, a.classifier + b.classifier,
            a.embedding + b.embedding, a.gaps + b.gaps};
}
inline Kernels operator*(double x, const Kernels& k) {
    return {x * k.products, x * k.attention, x * k.layernorm, x * k.gelu, x * k.classifier, x * k.embedding, x * k.gaps};
}

// Weights of a block's matrices.
inline double block_matrices(const Config& c) { return (matmul_parameters(c) - (double)c.V * c.C) / c.L; }
inline double norm_parameters(const Config& c) { return (double)c.C * (c.arch.norm_weights + c.arch.norm_bias()); }
// Weights of a block, its norms and biases too, and of the rest: embeddings, last norm, head.
inline double block_parameters(const Config& c) {
    const double biases = c.arch.bias ? c.QKV() + c.C + c.hidden() + c.C : 0;
    return block_matrices(c) + biases + 2 * norm_parameters(c) + (c.arch.qk_weights() ? 2.0 * c.HS : 0);
}
inline double other_parameters(const Config& c) {
    return (double)c.V * c.C * (c.arch.tied ? 1 : 2) + (c.arch.positions == LEARNED ? (double)c.max_T * c.C : 0) + norm_parameters(c);
}
inline double all_parameters(const Config& c) { return c.L * block_parameters(c) + other_parameters(c); }

// What one kernel computes and moves. doc/step_time.md is a table of them, which dev/scaling_tables.sh writes.
struct KernelCount {
    const char* name;
    double Kernels::*kind;  // null: it only moves bytes
    double flops, bytes;
    const char *flops_are, *bytes_are;  // the formulas
};
using KernelCounts = std::vector<KernelCount>;

// Of a product FLOPs and bytes are added, as if none of its loads were hidden; attention's rate is of its FLOPs alone.
inline double kernel_seconds(const KernelCount& k, const Workload& w, const Cluster& on) {
    using namespace scaling_detail;
    if (k.kind == &Kernels::products) return k.flops / (on.reached.of.products * on.flops) + k.bytes / on.memory;
    const bool fp32 = w.size == 4;
    const double peak = fp32 ? on.fp32 : on.flops, ours = (fp32 ? ATTENTION_FP32 : ATTENTION_OURS) * peak, measured = on.reached.of.attention * peak;
    if (k.kind == &Kernels::attention) return k.flops / (measured > 0 && (fp32 || w.cudnn) ? measured : w.cudnn ? ATTENTION_CUDNN * on.flops : ours);
    return k.flops / ours + k.bytes / ((k.kind ? on.reached.of.*k.kind : on.reached.update) * on.memory);  // Muon's products are made by attention's tiles
}
inline Kernels seconds_of(const KernelCounts& list, const Workload& w, const Cluster& on, double kernels) {
    Kernels sum{.gaps = kernels * scaling_detail::GAP};
    for (const KernelCount& k : list) sum.*k.kind += kernel_seconds(k, w, on);
    return sum;
}

namespace scaling_detail {
// The four linear layers of a block.
struct Linear { double in, out; const char *forward, *dinp, *dweight, *flops_are, *forward_bytes, *dweight_bytes; };
inline std::vector<Linear> linears(const Config& c) {
    const double heads = (double)c.NH * c.HS, hidden = c.hidden();
    return {{(double)c.C, (double)c.QKV(), "qkv", "dln1", "dqkvw", "2 N C QKV", "s (N (C + QKV) + C QKV)", "s N (C + QKV) + a C QKV"},
            {heads, (double)c.C, "attproj", "datty", "dattprojw", "2 N C C", "s (2 N C + C C)", "2 s N C + a C C"},
            {(double)c.C, hidden, "fc", "dln2", "dfcw", "2 N C FF", "s (N (C + FF) + C FF)", "s N (C + FF) + a C FF"},
            {(double)c.FF, (double)c.C, "fcproj", "dfch", "dfcprojw", "2 N FF C", "s (N (FF + C) + FF C)", "s N (FF + C) + a FF C"}};
}
}  // namespace scaling_detail

// Reads and writes queries and keys; with a norm of heads values too, as they go elsewhere.
inline KernelCount rope_kernel(const char* name, const Workload& w) {
    const Heads heads = w.config.heads();
    if (w.config.arch.qk_norm) return {name, &Kernels::embedding, 0, 2.0 * w.size * w.N() * heads.qkv(), "", "2 s N QKV"};
    return {name, &Kernels::embedding, 0, 2.0 * w.size * w.N() * (heads.q() + heads.kv()), "", "2 s N (QKV - V)"};
}
inline KernelCounts forward_kernels(const Workload& w) {
    const Config& c = w.config;
    const double N = w.N(), s = w.size, heads = (double)c.NH * c.HS;
    KernelCounts list;
    for (const auto& l : scaling_detail::linears(c))  // reads input and weight, writes output
        list.push_back({l.forward, &Kernels::products, 2 * N * l.in * l.out, s * (N * (l.in + l.out) + l.in * l.out), l.flops_are, l.forward_bytes});
    // 2 products of 2 N NH HS for each key that is seen: causally T / 2, in windows fewer; the mean over the layers
    list.push_back({"attention", &Kernels::attention, 4 * N * heads * keys_seen(c, w.T) / c.L, s * N * (c.QKV() + heads), "2 N C T", "4 s N C"});
    for (const char* name : {"ln1", "ln2"}) list.push_back({name, &Kernels::layernorm, 0, 4 * s * N * c.C, "", "4 s N C"});  // reads residual and branch, writes their sum and its norm
    if (c.gated()) list.push_back({"swiglu", &Kernels::gelu, 0, 3 * s * N * c.FF, "", "3 s N FF"});
    else list.push_back({c.arch.mlp == RELU2 ? "relu2" : "gelu", &Kernels::gelu, 0, 2 * s * N * c.FF, "", "2 s N FF"});
    if (c.arch.turns_heads()) list.push_back(rope_kernel("rope", w));
    return list;
}

// Inputs' and weights' gradients: twice the FLOPs and the bytes of the forward, and dw in fp32, which is read too where it accumulates (a = 8, else 4). GELU's
// derivative is in a product's epilogue. What --recompute makes again is the forward's.
inline KernelCounts backward_kernels(const Workload& w) {
    const Config& c = w.config;
    const double N = w.N(), s = w.size, heads = (double)c.NH * c.HS, a = w.grad_accum > 1 ? 8 : 4;
    KernelCounts list;
    for (const auto& l : scaling_detail::linears(c)) {
        list.push_back({l.dinp, &Kernels::products, 2 * N * l.in * l.out, s * (N * (l.in + l.out) + l.in * l.out), l.flops_are, l.forward_bytes});
        list.push_back({l.dweight, &Kernels::products, 2 * N * l.in * l.out, s * N * (l.in + l.out) + a * l.in * l.out, l.flops_are, l.dweight_bytes});
    }
    list.push_back({"attention backward", &Kernels::attention, 8 * N * heads * keys_seen(c, w.T) / c.L, s * N * (2 * c.QKV() + 2 * heads), "4 N C T", "8 s N C"});
    for (const char* name : {"ln1 backward", "ln2 backward"}) list.push_back({name, &Kernels::layernorm, 0, 4 * s * N * c.C, "", "4 s N C"});  // reads dout, its input and dresidual, writes dresidual
    if (c.gated()) list.push_back({"swiglu backward", &Kernels::gelu, 0, 5 * s * N * c.FF, "", "5 s N FF"});
    if (c.arch.mlp == RELU2) list.push_back({"relu2 backward", &Kernels::gelu, 0, 3 * s * N * c.FF, "", "3 s N FF"});
    if (c.arch.turns_heads()) list.push_back(rope_kernel("rope backward", w));
    if (c.arch.qk_norm && w.recompute < RECOMPUTE_BLOCK) list.push_back(rope_kernel("rope, again", w));
    if (w.recompute == RECOMPUTE_BLOCK) {
        const KernelCounts again = forward_kernels(w);
        list.insert(list.end(), again.begin(), again.end());
    } else if (w.recompute >= RECOMPUTE_GELU) {
        list.push_back({c.gated() ? "swiglu, again" : c.arch.mlp == RELU2 ? "relu2, again" : "gelu, again", &Kernels::gelu, 0, (c.gated() ? 3 : 2) * s * N * c.FF, "", c.gated() ? "3 s N FF" : "2 s N FF"});
        if (w.recompute >= RECOMPUTE_LAYERNORM)  // without the sums
            for (const char* name : {"ln1, again", "ln2, again"}) list.push_back({name, &Kernels::layernorm, 0, 2 * s * N * c.C, "", "2 s N C"});
    }
    return list;
}

// Last norm, classifier with its three products and their logits (written once, read twice; by the classifier itself read and written),
// the head's gradient read and written once a chunk; and the embedding, forward and backward.
inline KernelCounts other_kernels(const Workload& w) {
    const Config& c = w.config;
    const double N = w.N(), s = w.size, head = (double)c.V * c.C, product = 2 * N * head, logits = s * N * c.V;
    return {{"logits", &Kernels::products, product, logits + w.chunks * s * head, "2 N C V", "s N V + chunks s V C"},
            {"dlnf", &Kernels::products, product, logits + w.chunks * s * head, "2 N C V", "s N V + chunks s V C"},
            {"dwte", &Kernels::products, product, logits + w.chunks * 8 * head, "2 N C V", "s N V + chunks 8 V C"},
            {"lnf", &Kernels::layernorm, 0, 4 * s * N * c.C, "", "4 s N C"},
            {"lnf backward", &Kernels::layernorm, 0, 4 * s * N * c.C, "", "4 s N C"},
            {"classifier", &Kernels::classifier, 0, 2 * logits, "", "2 s N V"},
            {"embedding", &Kernels::embedding, 0, 3 * s * N * c.C, "", "3 s N C"},                  // wte, wpe, their sum
            {"embedding backward", &Kernels::embedding, 0, (2 * s + 8) * N * c.C, "", "(2 s + 8) N C"}};    // dout twice, a row of dwte read and written in fp32
}

// Of the parameters that a rank updates: dw read for each of the two, m and v read and written; master read and written and the weight written, or the weight
// read and written. Muon of its matrices: dw twice, m three times, master or weight likewise; X and its transpose made once, and 5 s an iteration.
inline KernelCounts update_kernels(const Workload& w, const Cluster& on) {
    const double ranks = w.zero ? on.ranks() : 1, P = all_parameters(w.config) / ranks, matrices = w.muon * w.config.L * block_matrices(w.config) / ranks;
    KernelCounts list{{"norm", nullptr, 0, 4 * P, "", "4 P"},
            {"AdamW", nullptr, 0, (4 + 16 + (w.master ? 8 + w.size : 2 * w.size)) * (P - matrices), "", w.master ? "(28 + s) P" : "(20 + 2 s) P"}};
    if (w.muon) list.push_back({"Muon", nullptr, muon_flops(w.config) / ranks, (20 + (w.master ? 8 + 29 * w.size : 30 * w.size)) * matrices, "20 r r c + 10 r r r", w.master ? "(28 + 29 s) P" : "(20 + 30 s) P"});
    return list;
}

// Launches of a block: rotary positions or norms of heads are one more; but for GELU an activation and its derivative are in no product's epilogue.
inline double launches_forward(const Config& c) { return scaling_detail::KERNELS_FORWARD + c.arch.turns_heads() + (c.arch.mlp != GELU); }
inline double launches_backward(const Workload& w) {
    const Config& c = w.config;
    const bool whole = w.recompute == RECOMPUTE_BLOCK;
    return scaling_detail::KERNELS_BACKWARD + c.arch.turns_heads() + (c.arch.mlp != GELU) + (whole ? launches_forward(c) : c.arch.qk_norm);
}
inline Kernels block_forward(const Workload& w, const Cluster& on) { return seconds_of(forward_kernels(w), w, on, launches_forward(w.config)); }
inline Kernels block_backward(const Workload& w, const Cluster& on) { return seconds_of(backward_kernels(w), w, on, launches_backward(w)); }
inline Kernels classify_and_embed(const Workload& w, const Cluster& on) { return seconds_of(other_kernels(w), w, on, 4 * w.chunks + 8); }
inline Kernels micro_batch(const Workload& w, const Cluster& on) {
    return w.config.L * (block_forward(w, on) + block_backward(w, on)) + classify_and_embed(w, on);
}
inline double update_seconds(const Workload& w, const Cluster& on) {
    double sum = 0;
    for (const KernelCount& k : update_kernels(w, on)) sum += kernel_seconds(k, w, on);
    return sum;
}

// ---- exchanges ----------------------------------------------------------------------------------------------------------

// Of a tensor of so many bytes, scattered (each rank sends each other one its share) or gathered (each sends all its own): in two levels, inside
// the node, then between ranks of equal local number; gathered in the other order. A rank sends (G - 1) / G of the tensor over its link, and
// (M - 1) / M of its G-th over the network. All peers of a node are reached at once. In one level it sends each other rank a W-th, over link and network
// at the same time.
inline double exchange_seconds(double bytes, const Cluster& on) {
    using namespace scaling_detail;
    const double G = on.per_node, M = on.nodes;
    double seconds = 0;
    if (M > 1 && G > 1 && !on.two_levels())
        return on.latency * (CALL + NET_HOP + (M - 1) * G * MESSAGE) + bytes / on.ranks() * std::max((G - 1) / (LINK * on.link), (M - 1) * G / (NET * on.net));
    if (G > 1) seconds += on.latency * (CALL + LINK_HOP) + (G - 1) / G * bytes / (LINK * on.link);
    if (M > 1) seconds += on.latency * (CALL + NET_HOP + (M - 1) * MESSAGE) + (M - 1) / M * bytes / G / (NET * on.net);
    return seconds;
}
// Reduce-scatter of n gradients: they are exchanged, and our kernel adds them: reads G shards of n / G, writes one; then M of n / W. The
// library's moves as much, in as many levels. In bf16 what is sent is rounded before, and what comes is widened behind: 6 bytes each.
inline double reduce_seconds(double n, const Workload& w, const Cluster& on) {
    if (w.library_adds) return exchange_seconds(4 * n, on);
    const double G = on.per_node, M = on.nodes;
    if (M > 1 && G > 1 && !on.two_levels())
        return exchange_seconds(w.exchanged * n, on) + (4 * (n + n / (G * M)) + (w.exchanged == 2) * 6 * (2 * n - n / (G * M))) / (scaling_detail::MEMORY * on.memory);
    const double added = (G > 1 ? n + n / G : 0) + (M > 1 ? n / G + n / G / M : 0);
    const double cast = w.exchanged == 2 ? (G > 1 ? n + n * (G - 1) / G : 0) + (M > 1 ? n / G + n / G * (M - 1) / M : 0) : 0;
    return exchange_seconds(w.exchanged * n, on) + (4 * added + 6 * cast) / (scaling_detail::MEMORY * on.memory);
}
// All-gather of their sums: stage 0.
inline double gather_sums_seconds(double n, const Workload& w, const Cluster& on) {
    const double cast = w.exchanged == 2 && on.ranks() > 1 ? n + n / on.ranks() : 0;
    return exchange_seconds(w.exchanged * n, on) + 6 * cast / (scaling_detail::MEMORY * on.memory);
}
// The sum over ranks of a few numbers: the norm's.
inline double small_reduce_seconds(const Cluster& on) { return exchange_seconds(0, on); }

// ---- the timeline of a step ---------------------------------------------------------------------------------------------

struct Step {
    double seconds;        // all of it
    double compute;        // kernels of all micro-batches
    double update;         // norm and AdamW
    double communication;  // the exchanges' own time, hidden or not
    double exposed;        // seconds - compute - update
};

namespace scaling_detail {
// Two streams, each busy until then; and when the weights that were gathered last are there.
struct Streams {
    double compute = 0, exchange = 0, weights = 0, communication = 0;
    void compute_for(double seconds) { compute += seconds; }
    void gather(double seconds) { exchange += seconds, communication += seconds, weights = exchange; }
    void reduce(double seconds) { exchange = std::max(exchange, compute) + seconds, communication += seconds; }  // of what was just computed
    void wait_for_weights() { compute = std::max(compute, weights); }
    void not_before_compute() { exchange = std::max(exchange, compute); }
};

// What a rank computes and exchanges of a block and of the rest, once for all micro-batches.
struct Parts {
    double forward = 0, backward = 0, rest = 0;    // of kernels
    double gather_block = 0, gather_rest = 0;      // weights
    double reduce_block = 0, reduce_rest = 0;      // gradients
};
inline Parts parts_of(const Workload& w, const Cluster& on) {
    const double block = block_parameters(w.config), rest = other_parameters(w.config);
    // stage 0: every rank updates everything, so the sums are gathered too
    const auto reduce = [&](double n) { return reduce_seconds(n, w, on) + (w.zero == 0 ? gather_sums_seconds(n, w, on) : 0); };
    const auto gather = [&](double n) { return exchange_seconds(w.size * n, on); };
    return {block_forward(w, on).sum(), block_backward(w, on).sum(), classify_and_embed(w, on).sum(),
            gather(block), gather(rest), reduce(block), reduce(rest)};
}

// Stage 1, 2: the weights that the other ranks have updated arrive in the first micro-batch, embeddings first, then block after block, while the
// blocks before them are computed. Stage 3: in every micro-batch, a block ahead and no further, and again in the backward pass; what was used
// last is still there. A block's gradients leave when its backward pass is done: of stage 0 and 1 in the last micro-batch, of stage 2 and 3,
// where no rank holds all, in each. Those of the embeddings are complete last, and nothing is left to hide them behind.
inline void add_micro_batch(Streams& at, const Parts& p, const Workload& w, bool first, bool last) {
    const int L = w.config.L;
    const bool drops = w.zero == 3, gathers = drops || (w.zero && first), reduces = last || w.zero >= 2;
    if (gathers && first) at.gather(p.gather_rest), at.gather(p.gather_block);
    for (int l = 0; l < L; l++) {
        at.wait_for_weights();
        if (drops) at.not_before_compute();
        if (gathers && l + 1 < L) at.gather(p.gather_block);
        at.compute_for(p.forward);
    }
    at.compute_for(p.rest);  // of which the embedding's small part comes at both ends
    for (int l = L - 1; l >= 0; l--) {
        at.wait_for_weights();
        if (drops && l > 0) at.not_before_compute(), at.gather(p.gather_block);
        at.compute_for(p.backward);
        if (reduces) at.reduce(p.reduce_block);
    }
    if (reduces) at.reduce(p.reduce_rest);
}
inline Streams all_micro_batches(const Parts& p, const Workload& w, int count) {
    Streams at;
    for (int i = 0; i < count; i++) add_micro_batch(at, p, w, i == 0, i == count - 1);
    return at;
}
}  // namespace scaling_detail

inline Step step_time(const Workload& w, const Cluster& on) {
    using namespace scaling_detail;
    const Parts parts = parts_of(w, on);
    // from the fourth on each micro-batch adds the same
    const int count = (int)std::min(w.grad_accum, 5.0);
    const Streams all = all_micro_batches(parts, w, count), less = all_micro_batches(parts, w, count - 1);
    const double more = w.grad_accum - count, end = std::max(all.compute, all.exchange);
    Step step{};
    step.compute = w.grad_accum * (w.config.L * (parts.forward + parts.backward) + parts.rest);
    step.update = update_seconds(w, on);
    step.communication = all.communication + more * (all.communication - less.communication) + small_reduce_seconds(on);
    step.seconds = end + more * (end - std::max(less.compute, less.exchange)) + small_reduce_seconds(on) + step.update;
    step.exposed = step.seconds - step.compute - step.update;
    if (step.exposed < 1e-9 * step.seconds) step.exposed = 0;  // sums in another order
    return step;
}

// ---- what limits, and where more GPUs stop to help ----------------------------------------------------------------------

// Seconds of the step that would not be lost: the same tokens in micro-batches of at least 32k, and nothing exposed.
inline double best_compute(const Workload& w, const Cluster& on) {
    Workload large = w;
    const double times = std::max(1.0, 32768 / w.N());
    large.B = (int)std::min(std::ceil(w.B * times), 1e6);
    return w.grad_accum * w.N() / large.N() * micro_batch(large, on).sum();
}
// One word: what costs most of a tenth of the step or more. network: bytes that are exposed, of links or network; latency: what of the exposed time
// would be there without bytes; batch: a micro-batch too small for the kernels; else compute, and more GPUs do more.
inline const char* limit_of(const Workload& w, const Cluster& on) {
    Cluster instant = on;
    instant.latency = 0;
    const Step step = step_time(w, on);
    const double network = step_time(w, instant).exposed, latency = step.exposed - network, batch = step.compute - best_compute(w, on);
    if (network + latency + batch < 0.1 * step.seconds) return "compute";
    return network >= std::max(latency, batch) ? "network" : latency >= batch ? "latency" : "batch";
}

// The most GPUs, of 1, 2, 4 ... to a node and then 2, 4, 8 ... nodes, that share this step's tokens and each still do four fifths of what one does;
// and what limits twice as many, or "batch" if there is no whole sequence for each of them. Each rank's micro-batch is the largest up to B.
struct Stop { int ranks; const char* why; };
inline Stop where_it_stops(const Workload& w, const Cluster& on) {
    constexpr double ENOUGH = 0.8;
    const double sequences = (double)w.B * w.grad_accum * on.ranks();
    double alone = 0;
    Stop stop{0, "batch"};
    for (double ranks = 1; ranks <= 1 << 20; ranks *= 2) {
        Cluster more = on;
        more.per_node = (int)std::min(ranks, (double)on.per_node), more.nodes = (int)std::ceil(ranks / more.per_node);
        const double each = sequences / more.ranks();
        if (each < 1 || each != std::floor(each)) return stop;
        Workload share = w;
        share.B = (int)std::min((double)w.B, each);
        while (std::fmod(each, share.B) != 0) share.B--;
        share.grad_accum = each / share.B;
        const double seconds = step_time(share, more).seconds * more.ranks();
        if (ranks == 1) alone = seconds;
        if (alone < ENOUGH * seconds) return {stop.ranks, limit_of(share, more)};
        stop.ranks = (int)more.ranks();
    }
    return {stop.ranks, "compute"};  // not found
}
