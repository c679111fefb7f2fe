// backend.cuh: the CUDA backend: every layer, and what a model's kernels need together.
#pragma once
#include "adamw.cuh"
#include "attention.cuh"
#include "classifier.cuh"
#include "device.cuh"
#include "embedding.cuh"
#include "gelu.cuh"
#include "global_norm.cuh"
#include "layernorm.cuh"
#include "matmul.cuh"
#include "verdict.cuh"

// Bytes of a stream's workspace for batches of N tokens: what the hungriest layer takes.
inline size_t workspace_bytes(size_t N, int C, int V) {
    size_t bytes = matmul_workspace(N, C, V);
    for (size_t other : {layernorm_workspace(C), embedding_workspace(N, V), global_norm_workspace()})
        if (other > bytes) bytes = other;
    return bytes;
}
