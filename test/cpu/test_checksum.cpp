#include "../../llmc/cpu/checksum.h"
#include "../gradients_test.h"
#include "../test.h"

// Beside the sum written out; the chunk before and the one behind do not matter.
TEST(checksum_of_chunks) {
    Random r(1);
    std::vector<uint32_t> words(64 * 40);
    for (uint32_t& w : words) w = (uint32_t)r.between(0, 0xffff) << 16 | (uint32_t)r.between(0, 0xffff);
    const std::vector<Chunk> chunks = {{1024, 64}, {1088, 0}, {1088, 1024}};
    uint64_t sums[3];
    checksum_chunks(sums, (const float*)words.data(), chunks.data(), chunks.size(), 1024, stream_t{});
    for (size_t c = 0; c < chunks.size(); c++) {
        uint64_t expected = 0;
        for (size_t i = 0; i < chunks[c].count; i++) expected += (uint64_t)words[chunks[c].offset - 1024 + i] * (uint32_t)((2 * i + 1) * 2654435769u);
        EXPECT(sums[c] == expected);
    }
    uint64_t changed = UNCHANGED;
    words[1024 + 1023 - 960] ^= 1u << 31, words[63] ^= 4;
    compare_chunks(&changed, sums, (const float*)words.data(), chunks.data(), chunks.size(), 1024, 70, stream_t{});
    EXPECT(changed == 70);
    words[63] ^= 4;
    changed = UNCHANGED;
    compare_chunks(&changed, sums, (const float*)words.data(), chunks.data(), chunks.size(), 1024, 70, stream_t{});
    EXPECT(changed == 72);
    changed = 5;  // what was found before counts
    compare_chunks(&changed, sums, (const float*)words.data(), chunks.data(), chunks.size(), 1024, 70, stream_t{});
    EXPECT(changed == 5);
}

// The chunk that holds a value which is not finite, wherever in it; large ones are none, and what lies between chunks does not matter.
template <class F> static void check_not_finite() {
    std::vector<F> data(64 * 40, F(3e38f));
    const std::vector<Chunk> chunks = {{1024, 64}, {1088, 0}, {1152, 1024}, {2176, 64}};
    const auto found = [&] {
        uint64_t first = UNCHANGED;
        find_not_finite(&first, data.data(), chunks.data(), chunks.size(), 1024, 70, stream_t{});
        return first;
    };
    EXPECT(found() == UNCHANGED);
    for (float bad : {NAN, INFINITY, -INFINITY})
        for (auto [at, chunk] : {std::pair(0, 0), {63, 0}, {64, -1}, {128, 2}, {1151, 2}, {700, 2}, {1152, 3}, {1215, 3}, {1216, -1}}) {
            data[(size_t)at] = F(bad);
            EXPECT(found() == (chunk < 0 ? UNCHANGED : 70 + (uint64_t)chunk));
            data[(size_t)at] = F(0.0f);
        }
    data[1152] = data[200] = F(NAN);
    EXPECT(found() == 72);
    uint64_t before = 5;  // what was found before counts
    find_not_finite(&before, data.data(), chunks.data(), chunks.size(), 1024, 70, stream_t{});
    EXPECT(before == 5);
}
TEST(values_that_are_not_finite) { check_not_finite<float>(), check_not_finite<bf16>(); }
