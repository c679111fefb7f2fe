// kernel_options.h: how kernels do what can be done in several ways, and what a stream gives them while they run.
#pragma once
#include <cstddef>

enum class AttentionBackend { FASTEST, OURS, CUDNN };  // by whom, where there is a choice

// How kernels do what can be done in several ways. A new switch is a field here, a row in llmc/train/options.h and a line in kernel_options().
struct KernelOptions {
    bool tf32 = false;          // fp32 products in TF32
    bool gelu_fusion = false;   // GELU in its product's epilogue
    bool deterministic = true;  // attention's gradients are added up in a fixed order
    bool pdl = true;            // programmatic dependent launch, where the GPU has it
    AttentionBackend attention = AttentionBackend::FASTEST;
};

// What a stream's kernels may use while they run: `workspace`, where what one leaves the next overwrites.
struct StreamOptions {
    void* workspace = nullptr;
    size_t workspace_bytes = 0;
    KernelOptions kernels{};
    bool autotuning = false;  // this is the time to find out what is fastest: results are discarded
    bool any_gpu = false;     // memory for any GPU, not for the one that is here: --plan names another
};
