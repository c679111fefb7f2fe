// gpus.h: the GPUs that a plan can be made for: what they can do, and how much memory they have.
#pragma once
#include <strings.h>
#include <algorithm>
#include <string>

// Dense peak rates without sparsity, tera-FLOP/s, and memory, as the makers' data sheets and architecture papers give them (often the
// doubled rate of 2:4 sparsity alone). bf16 is what is summed in fp32: on a GeForce half of what is said of fp16 summed in fp16.
// GeForce, RTX and A30: multiprocessors x boost clock x rate gives the same. Not yet compared with a sheet: A10G, H100NVL, H200NVL.
// Left out: what has no bf16 (V100, T4), and cards whose dense rates were not found; those are measured.
// The last two columns, GB/s: device memory; and what a GPU sends to the others of its node while it receives as much, which is half of
// what data sheets give (both directions, 900 of an H100): NVLink where a switch joins all GPUs of a node, else the PCIe slot, 32 of 16 lanes
// of generation 4, 64 of 5. Bridges that join only two or four (PCIe, NVL, RTX A6000, 3090) do not count.
struct Gpu { const char* name; double bf16, tf32, fp32, gib, memory, link; };
constexpr Gpu GPUS[] = {
    // Ampere
    {"A100", 312, 156, 19.5, 80, 2039, 300}, {"A100PCIe", 312, 156, 19.5, 80, 1935, 32}, {"A30", 165, 82, 10.3, 24, 933, 32},
    {"A40", 149.7, 74.8, 37.4, 48, 696, 32}, {"A10", 125, 62.5, 31.2, 24, 600, 32}, {"A10G", 70, 35, 31.5, 24, 600, 32},
    {"RTXA6000", 154.8, 77.4, 38.7, 48, 768, 32}, {"RTX3080", 59.5, 29.8, 29.8, 10, 760, 32},
    {"RTX3090", 71, 35.6, 35.6, 24, 936, 32}, {"RTX3090Ti", 80, 40, 40, 24, 1008, 32},
    // Ada
    {"L4", 121, 60, 30.3, 24, 300, 32}, {"L40", 181, 90.5, 90.5, 48, 864, 32}, {"L40S", 362, 183, 91.6, 48, 864, 32},
    {"RTX6000Ada", 364.2, 182.1, 91.1, 48, 960, 32}, {"RTX4070", 58.3, 29.1, 29.1, 12, 504, 32},
    {"RTX4070SUPER", 71, 35.5, 35.5, 12, 504, 32},
    {"RTX4070Ti", 80.2, 40.1, 40.1, 12, 504, 32}, {"RTX4070TiSUPER", 88.2, 44.1, 44.1, 16, 672, 32},
    {"RTX4080", 97.5, 48.7, 48.7, 16, 717, 32},
    {"RTX4080SUPER", 104.4, 52.2, 52.2, 16, 736, 32}, {"RTX4090", 165.2, 82.6, 82.6, 24, 1008, 32},
    // Hopper
    {"H100", 989.4, 494.7, 66.9, 80, 3350, 450}, {"H100PCIe", 756, 378, 51.2, 80, 2039, 64},
    {"H100NVL", 835.5, 417.5, 60, 94, 3938, 64},
    {"H200", 989.4, 494.7, 66.9, 141, 4800, 450}, {"H200NVL", 835.5, 417.5, 60, 141, 4800, 64},
    {"GH200", 989.4, 494.7, 66.9, 96, 4000, 450},
    // Blackwell
    {"B200", 2250, 1125, 75, 180, 8000, 900}, {"GB200", 2500, 1250, 80, 186, 8000, 900}, {"B300", 2250, 1125, 75, 270, 8000, 900},
    {"GB300", 2500, 1250, 80, 279, 8000, 900},
    {"RTX5070", 61.7, 30.9, 30.9, 12, 672, 64}, {"RTX5070Ti", 87.9, 43.9, 43.9, 16, 896, 64},
    {"RTX5080", 112.6, 56.3, 56.3, 16, 960, 64},
    {"RTX5090", 209.5, 104.8, 104.8, 32, 1792, 64}, {"RTXPRO6000Workstation", 503.8, 251.9, 126, 96, 1792, 64},
    {"RTXPRO6000MaxQWorkstation", 438.9, 219.4, 109.7, 96, 1792, 64},
};

inline const Gpu* find_gpu(const std::string& name) {
    for (const Gpu& gpu : GPUS) if (name == gpu.name) return &gpu;
    return nullptr;
}
// The one that a driver calls so ("NVIDIA H100 80GB HBM3"): without the maker, the socket and the memory it must be a name of the table,
// so that no laptop's GPU, no slice of one (MIG) and no variant is taken for the card that it is called after.
inline const Gpu* find_gpu_of_device(const std::string& device) {
    std::string name;
    for (size_t at = 0, end; at < device.size(); at = end + 1) {
        end = std::min(device.find_first_of(" -", at), device.size());
        const std::string word = device.substr(at, end - at);
        const size_t digits = std::min(word.find_first_not_of("0123456789"), word.size());
        const bool memory = digits > 0 && (word.substr(digits) == "GB" || word.substr(digits) == "G");
        bool says_nothing = memory || word.starts_with("SXM");
        for (const char* w : {"NVIDIA", "GeForce", "Generation", "Blackwell", "Edition", "AC", "HBM3", "HBM3e"}) says_nothing |= word == w;
        if (!says_nothing) name += word;
    }
    for (const Gpu& gpu : GPUS) if (!strcasecmp(name.c_str(), gpu.name)) return &gpu;  // PCIe, PCIE: drivers write both
    return nullptr;
}
inline std::string gpu_names() {
    std::string names;
    for (const Gpu& gpu : GPUS) names += std::string(names.empty() ? "" : " ") + gpu.name;
    return names;
}
