// kernel_options.h: switches of kernels that have more than one implementation, and what a stream gives kernels: workspace, these switches.
#pragma once
#include <cstddef>

enum class AttentionBackend { FASTEST, OURS, CUDNN };  // whose implementation, where there is a choice

// A new switch is a field here, a row in llmc/train/options.h and a line in kernel_options().
struct KernelOptions {
    bool tf32 = false;          // fp32 products in TF32
    bool gelu_fusion = false;   // GELU in its product's epilogue
    bool deterministic = true;  // attention's gradients are accumulated in a fixed order
    bool pdl = true;            // programmatic dependent launch, where the GPU has it
    AttentionBackend attention = AttentionBackend::FASTEST;
};

// What a stream gives its kernels. `workspace` is scratch memory that each kernel may overwrite.
struct StreamOptions {
    void* workspace = nullptr;
    size_t workspace_bytes = 0;
    KernelOptions kernels{};
    bool autotuning = false;  // warm-up: kernels measure which algorithm is fastest, and results are discarded
    bool any_gpu = false;     // sizes are the most that any GPU needs, not what this one does: --plan names another
};
