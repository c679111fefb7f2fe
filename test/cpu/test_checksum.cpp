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
