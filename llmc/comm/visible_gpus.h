// visible_gpus.h: how many GPUs a run on this machine has, asked without starting CUDA: the process that starts one rank a GPU must not hold one.
#pragma once
#include <dirent.h>
#include <algorithm>
#include <cstdlib>
#include <string>

// `visible` is CUDA_VISIBLE_DEVICES, null if it is not set: numbers or names, of which those behind a -1 do not count (CUDA programming guide, "CUDA
// Environment Variables"); `folder` has an entry for each GPU of the machine.
inline int count_visible_gpus(const char* visible, const std::string& folder) {
    int count = 0;
    if (visible) {
        const std::string list = visible;
        for (size_t at = 0, end; at < list.size(); at = end + 1) {
            end = std::min(list.find(',', at), list.size());
            if (end == at || list[at] == '-') break;
            count++;
        }
        return count;
    }
    DIR* gpus = opendir(folder.c_str());
    while (const dirent* entry = gpus ? readdir(gpus) : nullptr) count += entry->d_name[0] != '.';
    if (gpus) closedir(gpus);
    return count;
}
inline int visible_gpus() { return count_visible_gpus(getenv("CUDA_VISIBLE_DEVICES"), "/proc/driver/nvidia/gpus"); }
