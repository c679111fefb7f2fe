// same_weights.h: whether all ranks have the same weights, to the bit: they start alike and are updated alike, so that another one has been damaged.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>
#include "../base/xxh64.h"
#include "../comm/comm.h"
#include "gather.h"
#include "model.h"
#include "model_files.h"

constexpr int WEIGHTS_EVERY = 100;  // steps: at 124M some 40 ms of copying and hashing in 6 s on an H100, by 25 and 10 GB/s

// XXH64 of a parameter.
template <class F> uint64_t checksum_of(Model<F>& model, const Parameter& p) {
    Xxh64 hash;
    for_each_piece(model, p, [&](size_t row, size_t rows) {
        copy_to_host(model.staging, model.weights_at(p.offset) + row * p.cols, rows * p.cols * sizeof(F), model.stream);
        synchronize(model.stream);
        hash.update((const char*)model.staging, rows * p.cols * sizeof(F));
    });
    return hash.digest();
}

// Ends the run with the rank and the tensor that differ from rank 0's. In ZeRO stage 3 each element of a layer is on one rank alone.
template <class F> void check_same_weights(Model<F>& model, const Comm& comm, int step) {
    if (comm.world == 1) return;
    await_weights(model);
    std::vector<uint64_t> sums, all((size_t)comm.world);
    for (const Parameter& p : model.parameters.all) sums.push_back(model.options.zero >= 3 && p.layer != WHOLE_MODEL ? 0 : checksum_of(model, p));
    const auto differs = [&](uint64_t mine) {  // the first rank that does; 0: none
        all[(size_t)comm.rank] = mine;
        comm.all_gather(all);
        return (int)((std::find_if(all.begin(), all.end(), [&](uint64_t sum) { return sum != all[0]; }) - all.begin()) % comm.world);
    };
    if (!differs(xxh64(sums.data(), sums.size() * sizeof(uint64_t)))) return;
    for (size_t i = 0; i < sums.size(); i++)
        if (const int rank = differs(sums[i]); rank && comm.rank == 0)
            die("the weights of rank %d are not those of rank 0: %s has the checksum %016llx, here %016llx, after step %d: memory of one of them is damaged, or their machines compute differently", rank,
                model.parameters.all[i].name.c_str(), (unsigned long long)all[(size_t)rank], (unsigned long long)all[0], step);
        else if (rank) end_silently(EXIT_FAILED);  // rank 0 says it
}
