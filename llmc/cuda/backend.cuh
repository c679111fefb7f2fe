// backend.cuh: the CUDA backend: every layer, the warm-up, and the workspace that the layers share.
#pragma once
#include <string>
#include <vector>
#include "../layers/autotune.h"
#include "../layers/gpu_sizes.h"
#include "adamw.cuh"
#include "attention.cuh"
#include "checksum.cuh"
#include "classifier.cuh"
#include "device.cuh"
#include "embedding.cuh"
#include "gelu.cuh"
#include "gradients.cuh"
#include "layernorm.cuh"
#include "matmul.cuh"
#include "muon.cuh"
#include "peak.cuh"
#include "rope.cuh"
#include "step_guard.cuh"
#include "swiglu.cuh"

// "" if the kernels have code for these sizes.
inline std::string size_error(int C, int FF, const Heads& heads) { return gpu_size_error(C, FF, heads); }
inline bool has_attention(AttentionBackend attention) { return attention != AttentionBackend::CUDNN || attention_cudnn::HERE; }

// body(cache) for each of the autotune caches.
template <class Body> void for_each_autotune_cache(Body body) {
    body(matmul_detail::autotune_cache());
    attention_cudnn::with_autotune_cache(body);
}

// Warm-up: runs `work`, whose results are discarded, so that kernels are loaded, and the fastest algorithms are known: those that are given, else
// those of the autotune cache, else measured now and saved there. Returns how many of those given are not used, and why.
template <class Work> std::string warm_up_and_autotune(stream_t& stream, const Autotune& from, Work work) {
    std::string other, here;
    int others = 0, refused = 0, own = 0;
    for (const std::string& line : from.given) {
        bool taken = false;
        for_each_autotune_cache([&](auto& cache) { taken |= cache.give(line); });
        if (!taken) others++, other = line.substr(0, line.find(' '));
    }
    const std::string folder = from.complete && !others ? "" : cache_folder(from.cache);
    for_each_autotune_cache([&](auto& cache) { cache.load(folder); });
    stream.autotuning = true;
    work();
    synchronize(stream);
    stream.autotuning = false;
    for_each_autotune_cache([&](auto& cache) {
        cache.save(folder);
        cache.keep_used();
        refused += cache.refused, own += cache.own(), here += (here.empty() ? "" : " and ") + cache.name();
    });
    if (others) return format("%d of %zu are of %s, here is %s", others, from.given.size(), other.c_str(), here.c_str());
    if (refused) return format("%d of %zu are refused by %s", refused, from.given.size(), here.c_str());
    if (own && !from.given.empty()) return format("%d of this run's are not among the %zu", own, from.given.size());
    return "";
}

// What the warm-up chose, a line each, by which another run or rank chooses the same.
inline std::vector<std::string> autotuned_choices() {
    std::vector<std::string> lines;
    for_each_autotune_cache([&](const auto& cache) { cache.list(lines); });
    return lines;
}

// Bytes of a stream's workspace for batches of N tokens, a residual stream of width C, linear layers of at most OC outputs with a bias and a
// vocabulary of V: the most that one layer needs.
inline size_t workspace_bytes(size_t N, int C, int OC, int V) {
    size_t bytes = matmul_workspace(OC);
    for (size_t other : {layernorm_workspace(C), embedding_workspace(N, C, V), rope_workspace(rope_detail::MAX_HS)})
        if (other > bytes) bytes = other;
    return bytes;
}
