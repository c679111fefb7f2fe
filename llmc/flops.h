// flops.h: how much arithmetic a token costs, and what machines can do.
#pragma once
#include <cstdio>
#include <cstring>
#include <string>
#include "config.h"

// Parameters that multiply every token: all but the embeddings' look-ups; the tied head counts once.
inline double matmul_parameters(const Config& c) { return 12.0 * c.L * c.C * c.C + (double)c.V * c.C; }

// Forward and backward of one token: 6 FLOPs a parameter (Kaplan et al. 2020), and for causal attention 6 L C T: scores
// and values are 2 products of 2 C T / 2 FLOPs forward, twice that backward.
inline double flops_per_token(const Config& c, int T) { return 6 * matmul_parameters(c) + 6.0 * c.L * c.C * T; }

// Dense peak rates without sparsity, tera-FLOP/s, and memory in GiB, from the makers' data sheets.
struct Gpu { const char* name; double bf16, tf32, fp32; double gib; };
constexpr Gpu GPUS[] = {
    {"A100", 312, 156, 19.5, 80},      {"A10G", 70, 35, 31.2, 24},     {"A6000", 154.8, 77.4, 38.7, 48},
    {"L4", 121, 60, 30.3, 24},         {"L40S", 362, 183, 91.6, 48},   {"H100", 989.4, 494.7, 66.9, 80},
    {"H100PCIe", 756, 378, 51, 80},
    {"H200", 989.4, 494.7, 66.9, 141}, {"B200", 2250, 1125, 75, 180},  {"GB200", 2500, 1250, 80, 186},
    {"RTX3090", 71, 35.6, 35.6, 24},   {"RTX4090", 165.2, 82.6, 82.6, 24}, {"RTX5090", 209.5, 104.8, 104.8, 32},
};

inline const Gpu* find_gpu(const std::string& name) {
    for (const Gpu& gpu : GPUS) if (name == gpu.name) return &gpu;
    return nullptr;
}
// The one that a driver's name for the device ("NVIDIA GeForce RTX 4090") holds, the longest if several.
inline const Gpu* find_gpu_of_device(std::string device) {
    std::erase(device, ' ');
    const Gpu* found = nullptr;
    for (const Gpu& gpu : GPUS)
        if (device.find(gpu.name) != std::string::npos && (!found || strlen(gpu.name) > strlen(found->name))) found = &gpu;
    return found;
}
inline std::string gpu_names() {
    std::string names;
    for (const Gpu& gpu : GPUS) names += std::string(names.empty() ? "" : " ") + gpu.name;
    return names;
}

// 1234567 -> "1.23M"
inline std::string human(double x) {
    const char* unit = "";
    for (const char* u : {"K", "M", "G", "T", "P", "E"}) if (x >= 999.5) x /= 1000, unit = u;
    return format(x >= 99.95 || !*unit ? "%.0f%s" : x >= 9.995 ? "%.1f%s" : "%.2f%s", x, unit);
}
// seconds -> "1:02:03" or "2:03"
inline std::string clock_text(double seconds) {
    long s = (long)(seconds + 0.5);
    return s >= 3600 ? format("%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60) : format("%ld:%02ld", s / 60, s % 60);
}
