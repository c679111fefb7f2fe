// gpu_sizes.h: sizes that the kernels for GPUs have code for; --plan asks on a machine without one, too.
#pragma once
#include <string>
#include "../base/check.h"
#include "../base/heads.h"

constexpr int GPU_MAX_HEAD = 256;

// "" if there is code for them.
inline std::string gpu_size_error(int C, int FF, const Heads& heads) {
    if (C % 8) return format("a width of %d, must be a multiple of 8 on a GPU: kernels load 16 bytes at a time", C);
    if (FF % 8) return format("an MLP of %d, must be a multiple of 8 on a GPU: kernels load 16 bytes at a time", FF);
    if (heads.HS % 8 || heads.HS > GPU_MAX_HEAD) return format("%d heads of %d, must be of a multiple of 8 up to %d on a GPU", heads.NH, heads.HS, GPU_MAX_HEAD);
    return "";
}
