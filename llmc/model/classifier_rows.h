// classifier_rows.h: the rows of a micro-batch whose logits are in memory at a time. dwte is read and written once a chunk of rows, in fp32: 8 C bytes
// for 10 of a row's logits, so that few long chunks move less than many that fit in a cache. How many there are decides bits, as dwte is added chunk by
// chunk: the choice is made of sizes and of the card alone, so that neither ranks, nor a ZeRO stage, nor recomputation change it, and a checkpoint keeps it.
#pragma once
#include <algorithm>
#include <cstddef>

namespace classifier_rows_detail {
inline size_t alike(size_t N, size_t turns) { return std::min(N, ((N - 1) / turns + 128) / 128 * 128); }
}

// About as many rows as fit where dfch will be, which costs no memory, or 26 M logits, all chunks alike. LOG 23
inline size_t least_classifier_rows(size_t N, size_t Vp, size_t hidden) {
    return classifier_rows_detail::alike(N, (N * Vp - 1) / std::max(N * hidden, (size_t)26 << 20) + 1);
}

// On a card of so many bytes (0: no card) 8192, of which more would save little, halved until their logits take a thirty-second of it at most: that is less
// than what is left between --batch auto's 90 % and the 95 % that a plan may take. LOG 64
inline size_t choose_classifier_rows(size_t N, size_t Vp, size_t hidden, size_t bytes_of_logit, double card) {
    size_t most = 8192;
    while ((double)(most * Vp * bytes_of_logit) > card / 32) most /= 2;
    const size_t least = least_classifier_rows(N, Vp, hidden);
    return most > least ? std::max(least, classifier_rows_detail::alike(N, (N - 1) / most + 1)) : least;
}
