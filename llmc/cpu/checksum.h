// checksum.h: checksums of memory, chunk by chunk, what has changed since they were taken, and what in it is not finite.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstring>
#include "../layers/checksum.h"
#include "../layers/gradients.h"
#include "device.h"
#include "vec.h"
#include "../base/threads.h"

namespace checksum_detail {
template <class X> uint64_t checksum_of(const X* data, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count * sizeof(X) / sizeof(uint32_t); i++) {
        uint32_t word;
        memcpy(&word, (const char*)data + i * sizeof word, sizeof word);
        sum += weighted_word(word, (uint32_t)i);
    }
    return sum;
}
template <class X> bool is_finite(const X* data, size_t count) {
    vfloat taint{};  // 0 times what is not finite is NaN
    for (size_t i = 0; i < count; i += W) taint += 0.0f * load(data + i);  // W divides 64
    return sum(taint) == 0;
}
inline void keep_least(uint64_t* least, uint64_t value) {
    std::atomic_ref<uint64_t> shared(*least);
    for (uint64_t now = shared; value < now && !shared.compare_exchange_weak(now, value);) {}
}
}  // namespace checksum_detail

// sums[c] = the checksum of the bits of chunk c
template <class X>
void checksum_chunks(uint64_t* sums,   // (n_chunks)
                     const X* data,    // elements `first` and those after it
                     const Chunk* chunks, size_t n_chunks, size_t first, stream_t) {
    parallel_blocks(n_chunks, 8, [=](size_t begin, size_t end) {
        for (size_t c = begin; c < end; c++) sums[c] = checksum_detail::checksum_of(data + (chunks[c].offset - first), chunks[c].count);
    });
}

// *changed = the least `base` + c whose checksum is not sums[c], if that is less than *changed
template <class X>
void compare_chunks(uint64_t* changed,     // (1)
                    const uint64_t* sums,  // (n_chunks)
                    const X* data,         // elements `first` and those after it
                    const Chunk* chunks, size_t n_chunks, size_t first, uint64_t base, stream_t) {
    parallel_blocks(n_chunks, 8, [=](size_t begin, size_t end) {
        for (size_t c = begin; c < end; c++)
            if (checksum_detail::checksum_of(data + (chunks[c].offset - first), chunks[c].count) != sums[c]) checksum_detail::keep_least(changed, base + c);
    });
}

// *not_finite = the least `base` + c that holds a value which is not finite, if that is less than *not_finite
template <class X>
void find_not_finite(uint64_t* not_finite,  // (1)
                     const X* data,         // elements `first` and those after it
                     const Chunk* chunks, size_t n_chunks, size_t first, uint64_t base, stream_t) {
    parallel_blocks(n_chunks, 8, [=](size_t begin, size_t end) {
        for (size_t c = begin; c < end; c++)
            if (!checksum_detail::is_finite(data + (chunks[c].offset - first), chunks[c].count)) checksum_detail::keep_least(not_finite, base + c);
    });
}
