// permute.h: the order of an epoch without a table: a bijection of 0 .. n-1 that is computed one index at a time.
#pragma once
#include <bit>
#include "../base/rng.h"

// A Feistel network over 2h bits (Luby and Rackoff 1988) permutes 0 .. 4^h - 1 whatever its round function is; where it
// leaves 0 .. n-1 it is applied again until it comes back (cycle walking, Black and Rogaway 2002): a permutation of
// n <= 4^h elements, in at most 4 turns on average because n > 4^(h-1).
inline uint64_t permute(uint64_t index, uint64_t n, uint64_t seed, uint32_t epoch) {
    if (n <= 1) return index;
    constexpr int ROUNDS = 7;  // 4 make it pseudo-random for large halves; more for halves of 1 and 2 bits
    int half = (std::bit_width(n - 1) + 1) / 2;
    uint64_t mask = (uint64_t(1) << half) - 1;
    do {
        uint64_t left = index >> half, right = index & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t mixed = philox(seed, RNG_SHUFFLE, epoch, round << 32 | right).x[0];
            uint64_t next = (left ^ mixed) & mask;
            left = right, right = next;
        }
        index = left << half | right;
    } while (index >= n);
    return index;
}
