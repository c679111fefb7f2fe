// kernel_options.h: how kernels do what can be done in several ways, and what a stream gives them while they run.
#pragma once
#include <cstddef>

enum class AttentionBackend { FASTEST, OURS, CUDNN };  // by whom, where there is a choice

// What a stream's kernels may use while they run: `workspace`, where what one leaves the next overwrites. How they do what can be
// done in several ways, and whether this is the time to find out which is fastest: results do not matter then.
struct StreamOptions {
    void* workspace = nullptr;
    size_t workspace_bytes = 0;
    bool tf32 = false, gelu_fusion = false, deterministic = true, pdl = true, autotuning = false;
    AttentionBackend attention = AttentionBackend::FASTEST;
    bool any_gpu = false;  // memory for any GPU, not for the one that is here: --plan names another
};
