// gradients_test.h: what the tests of both backends' gradients.h share: the tree as a recursion, cases of ranks and chunks.
#pragma once
#include <vector>
#include "../llmc/layers/gradients.h"
#include "layers.h"

// The sum of parts first .. end - 1 of an element, as the tree has it: halves of a power of two, the rest on the right.
inline float tree_sum(const std::vector<std::vector<float>>& parts, size_t first, size_t end, size_t i) {
    if (end - first == 1) return parts[first][i];
    size_t half = 1;
    while (half * 2 < end - first) half *= 2;
    const float left = tree_sum(parts, first, first + half, i), right = tree_sum(parts, first + half, end, i);
    return left + right;
}

// Gradients of `world` ranks, of which elements first .. first + n are summed in chunks of odd numbers of 64 elements.
struct GradientsCase {
    static constexpr size_t BEFORE = 192, AFTER = 128;
    std::vector<Chunk> chunks;
    size_t first = BEFORE, n = 0;
    std::vector<std::vector<float>> ranks;  // (world, BEFORE + n + AFTER)
    GradientsCase(Random& r, int world) {
        for (size_t count : {(size_t)64, CHUNK, (size_t)r.between(1, 64) * 64, (size_t)r.between(1, 30) * 64}) chunks.push_back({first + n, count}), n += count;
        for (int w = 0; w < world; w++) ranks.push_back(normal_values<float>(r, BEFORE + n + AFTER));
    }
    // what that rank gets from the others, in their order
    std::vector<float> received(int rank) const {
        std::vector<float> all;
        for (int r = 0; r < (int)ranks.size(); r++) if (r != rank) all.insert(all.end(), ranks[(size_t)r].begin() + (long)first, ranks[(size_t)r].begin() + (long)(first + n));
        return all;
    }
    std::vector<float> expected() const {
        std::vector<float> sums;
        for (size_t i = first; i < first + n; i++) sums.push_back(tree_sum(ranks, 0, ranks.size(), i));
        return sums;
    }
    // Squares of floats are exact in double; a sum of k of them is off by k 2^-53 of itself at most.
    bool squares_are_right(const std::vector<double>& squares) const {
        const std::vector<float> sums = expected();
        for (size_t c = 0; c < chunks.size(); c++) {
            double exact = 0;
            for (size_t i = chunks[c].offset - first; i < chunks[c].offset - first + chunks[c].count; i++) exact += (double)sums[i] * (double)sums[i];
            if (!(std::fabs(squares[c] - exact) <= exact * (double)chunks[c].count * 0x1p-53)) return false;
        }
        return true;
    }
};
