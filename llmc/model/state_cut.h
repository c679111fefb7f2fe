// state_cut.h: which parameters' optimizer state each file of a checkpoint has, and how many bytes of tensors each rank writes in all.
#pragma once
#include <cstddef>
#include <vector>
#include "partition.h"
#include "tensors.h"

// Bytes of state in a file, at least, if there are more files: enough for a disk to be busy, and for 8 ranks to share 2 GB.
constexpr size_t STATE_FILE_BYTES = 256 << 20;

// Of a parameter, in so many kinds: Muon's matrices have no second moments.
inline size_t state_bytes(const Parameter& p, size_t kinds, Update optimizer) { return p.size() * sizeof(float) * (kinds - (optimizer == MUON && p.update == MUON)); }

// Consecutive parameters, whole; of each the state of so many kinds.
inline std::vector<Range> cut_of_state(const ParameterList& parameters, size_t kinds, Update optimizer) {
    std::vector<Range> files;
    const std::vector<Parameter>& all = parameters.all;
    for (size_t i = 0, end; i < all.size(); i = end) {
        size_t bytes = 0;
        for (end = i; end < all.size() && (end == i || bytes < STATE_FILE_BYTES); end++) bytes += state_bytes(all[end], kinds, optimizer);
        files.push_back({i, end});
    }
    return files;
}

// Rank 0 writes the weights, of `width` bytes each, and each rank every world'th file of the state.
inline size_t checkpoint_bytes(const ParameterList& parameters, int rank, int world, size_t kinds, Update optimizer, size_t width) {
    size_t bytes = 0;
    if (rank == 0) for (const Parameter& p : parameters.all) bytes += p.size() * width;
    const std::vector<Range> files = cut_of_state(parameters, kinds, optimizer);
    for (size_t f = (size_t)rank; f < files.size(); f += (size_t)world)
        for (size_t p = files[f].begin; p < files[f].end; p++) bytes += state_bytes(parameters.all[p], kinds, optimizer);
    return bytes;
}
