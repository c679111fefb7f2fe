// checksum.h: what a word of memory adds to the checksum of its chunk, for both backends.
#pragma once
#include <cstdint>
#include "../base/host_device.h"

// Word i times an odd number of its own, which no two words of a chunk have alike: a word that has changed always changes the sum modulo 2^64, and two
// that have changed places do. The sum is the same in any order.
HOST_DEVICE inline uint64_t weighted_word(uint32_t word, uint32_t i) { return (uint64_t)word * ((2 * i + 1) * 2654435769u); }

constexpr uint64_t UNCHANGED = ~(uint64_t)0;  // no chunk has changed
