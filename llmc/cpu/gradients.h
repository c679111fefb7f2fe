// gradients.h: sums of gradients in a fixed order, and the sums of their squares that give the global gradient norm.
//
// What micro-batches and ranks contribute is added as a binary tree: 0 + 1, 2 + 3, then (0 + 1) + (2 + 3), ...; the last ones of a number that is no
// power of two wait until there is nobody else. A subtree that one rank has made is a node of the tree whoever makes the rest.
#pragma once
#include <cstddef>
#include "../base/check.h"
#include "../layers/gradients.h"
#include "device.h"
#include "vec.h"

namespace gradients_detail {
constexpr int DEEPEST = 32;  // of the tree

// out = parts[0] + ... + parts[world - 1] as a tree; out may be one of them
inline void add_tree(float* out, const float* const* parts, int world, size_t count) {
    for (size_t i = 0; i < count; i += W) {  // W divides 64
        vfloat waiting[DEEPEST];  // subtrees, each of twice as many parts as the one behind it or more
        int depth = 0;
        for (int r = 0; r < world; r++) {
            vfloat sum = load(parts[r] + i);
            for (int bits = r; bits & 1; bits >>= 1) sum = waiting[--depth] + sum;
            waiting[depth++] = sum;
        }
        for (; depth > 1; depth--) waiting[depth - 2] += waiting[depth - 1];
        store(out + i, waiting[0]);
    }
}

inline double sum_of_squares(const float* x, size_t count) {
    constexpr int H = W / 2;  // a vector of doubles holds half as many
    typedef float vhalf_float __attribute__((vector_size(H * 4)));
    typedef double vdouble __attribute__((vector_size(H * 8)));
    vdouble total[4] = {};
    for (size_t i = 0; i < count; i += 4 * H)
        for (int j = 0; j < 4; j++) {
            vhalf_float g;
            memcpy(&g, x + i + (size_t)(j * H), sizeof g);
            const vdouble d = __builtin_convertvector(g, vdouble);
            total[j] += d * d;
        }
    total[0] += total[1], total[2] += total[3], total[0] += total[2];
    double sum = 0;
    for (int j = 0; j < H; j++) sum += total[0][j];
    return sum;
}

inline void add_block(float* sum, const float* other, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i += W) store(sum + i, load(sum + i) + load(other + i));
}

template <class Out, class In> void cast_block(Out* out, const In* in, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i += W) store(out + i, load(in + i));
}

inline void sum_chunk(float* grads, double* squares, const float* received, int rank, int world, const Chunk* chunk, size_t first, size_t n) {
    float* sum = grads + (chunk->offset - first);
    if (world > 1) {
        const float* parts[1 << 10];
        for (int r = 0; r < world; r++) parts[r] = r == rank ? sum : received + (size_t)(r < rank ? r : r - 1) * n + (chunk->offset - first);
        add_tree(sum, parts, world, chunk->count);
    }
    if (squares) *squares = sum_of_squares(sum, chunk->count);
}
}  // namespace gradients_detail

// sum += other, a node of the tree
inline void add_gradients(float* sum,          // (n)
                          const float* other,  // (n)
                          size_t n, stream_t) {
    CHECK(n % 64 == 0, "add_gradients: %zu elements, must be a multiple of 64", n);
    parallel_blocks(n, 1 << 15, [=](size_t begin, size_t end) { gradients_detail::add_block(sum, other, begin, end); });
}

// out = in, rounded to nearest: float to bf16, or back
template <class Out, class In>
void cast_gradients(Out* out,      // (n)
                    const In* in,  // (n)
                    size_t n, stream_t) {
    CHECK(n % 64 == 0, "cast_gradients: %zu elements, must be a multiple of 64", n);
    parallel_blocks(n, 1 << 15, [=](size_t begin, size_t end) { gradients_detail::cast_block(out, in, begin, end); });
}

// Elements first .. first + n of the gradients = their sum over the ranks, of which this one's own are in place and the others' in `received`;
// squares = the sum of g^2 of each of their chunks, in double, so that nothing overflows; NaN and infinity propagate. Null: none are made.
inline void sum_gradients(float* grads,            // (n)
                          double* squares,         // (n_chunks)
                          const float* received,   // (world - 1, n), in the order of the ranks
                          int rank, int world,
                          const Chunk* chunks, size_t n_chunks,  // those of the elements
                          size_t first, size_t n, stream_t) {
    CHECK(world <= 1 << 10, "sum_gradients: %d ranks, must be at most 1024", world);
    parallel_blocks(n_chunks, 8, [=](size_t begin, size_t end) {
        for (size_t c = begin; c < end; c++) gradients_detail::sum_chunk(grads, squares ? squares + c : nullptr, received, rank, world, chunks + c, first, n);
    });
}
