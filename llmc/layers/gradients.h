// gradients.h: the pieces in which gradients are added and their norm is taken, for both backends.
#pragma once
#include <cstddef>

// Elements of a tensor, the last chunk of a tensor may have fewer. Sums of squares are made chunk by chunk, so that the norm does not depend on
// which rank holds which chunk. 16 KB: small enough that a layer divides among 8 ranks, 8 bytes of sums for each.
constexpr size_t CHUNK = 4096;
struct Chunk { size_t offset, count; };  // of the flat gradients; multiples of 64
