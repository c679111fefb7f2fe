// backend.cuh: the CUDA backend: every layer, the warm-up, and the workspace that the layers share.
#pragma once
#include "adamw.cuh"
#include "attention.cuh"
#include "classifier.cuh"
#include "device.cuh"
#include "embedding.cuh"
#include "gelu.cuh"
#include "gradients.cuh"
#include "layernorm.cuh"
#include "matmul.cuh"
#include "peak.cuh"
#include "step_guard.cuh"

// Refuses sizes that the kernels have no code for, before anything is allocated or written.
inline void check_model(int C, int NH, AttentionBackend attention) {
    if (C % 8) die_with(EXIT_USAGE, "--model: width %d, must be a multiple of 8 on a GPU: kernels load 16 bytes at a time", C);
    if (C % NH || C / NH % 8 || C / NH > 256)
        die_with(EXIT_USAGE, "--model: width %d with %d heads, must give heads of a multiple of 8 up to 256 on a GPU", C, NH);
    if (attention == AttentionBackend::CUDNN && !attention_cudnn::HERE)
        die_with(EXIT_USAGE, "--attention: 'cudnn' given, but this program was built without cuDNN, whose header cudnn_graph.h make did not find: fastest or ours");
}

// Warm-up: runs `work`, whose results are discarded, so that kernels are loaded, and the fastest algorithms are known: from the autotune cache
// in the folder `cache` (~/.cache/llmc if empty), or measured now and saved there.
template <class Work> void warm_up_and_autotune(stream_t& stream, const std::string& cache, Work work) {
    const std::string folder = cache_folder(cache);
    matmul_detail::autotune_cache().load(folder);
    attention_cudnn::load_autotune_cache(folder);
    stream.autotuning = true;
    work();
    synchronize(stream);
    stream.autotuning = false;
    matmul_detail::autotune_cache().save(folder);
    attention_cudnn::save_autotune_cache(folder);
}

// Bytes of a stream's workspace for batches of N tokens, a residual stream of width C, linear layers of at most OC outputs with a bias and a
// vocabulary of V: the most that one layer needs.
inline size_t workspace_bytes(size_t N, int C, int OC, int V) {
    size_t bytes = matmul_workspace(OC);
    for (size_t other : {layernorm_workspace(C), embedding_workspace(N, C, V)})
        if (other > bytes) bytes = other;
    return bytes;
}
