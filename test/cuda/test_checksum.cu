#include <atomic>
#include "../../llmc/base/threads.h"
#include "../../llmc/cuda/checksum.cuh"
#include "../gradients_test.h"
#include "device_test.h"
namespace cpu {
#include "../../llmc/cpu/checksum.h"
}

// Bitwise the CPU's, of chunks of every length, and the first one that has changed.
template <class F> static void check_checksums() {
    Random r(3);
    const std::vector<F> data = normal_values<F>(r, 64 * 300);
    std::vector<Chunk> chunks;
    for (size_t at = 640, n = 64; at + n <= 640 + data.size(); at += n, n = std::min(CHUNK, n + 192)) chunks.push_back({at, n});
    std::vector<uint64_t> expected(chunks.size());
    cpu::checksum_chunks(expected.data(), data.data(), chunks.data(), chunks.size(), 640, cpu::stream_t{});
    std::vector<F> other = data;
    const size_t second = chunks[1].offset - 640 + 17, last = chunks.back().offset - 640 + chunks.back().count - 1;
    for (size_t i : {last, second}) ((unsigned char*)&other[i])[0] ^= 1;
    std::vector<uint64_t> found;
    for_schedules([&] {
        OnDevice<F> values(data), changed_values(other);
        OnDevice<Chunk> list(chunks);
        OnDevice<uint64_t> sums(chunks.size()), changed(std::vector<uint64_t>{UNCHANGED}), same(std::vector<uint64_t>{UNCHANGED});
        TestStream stream;
        checksum_chunks(sums.data(), values.data(), list.data(), chunks.size(), 640, stream);
        compare_chunks(same.data(), sums.data(), values.data(), list.data(), chunks.size(), 640, 1000, stream);
        compare_chunks(changed.data(), sums.data(), changed_values.data(), list.data(), chunks.size(), 640, 1000, stream);
        found = sums.written();
        EXPECT(same.values()[0] == UNCHANGED && changed.values()[0] == 1001);
        return found;
    });
    EXPECT(found == expected);
}
TEST(cuda_checksums) { check_checksums<float>(), check_checksums<bf16>(); }

// The first chunk that holds a value which is not finite, wherever in it: as the CPU finds it.
template <class F> static void check_not_finite() {
    std::vector<F> data(64 * 100, F(3e38f));
    const std::vector<Chunk> chunks = {{640, 64}, {704, CHUNK}, {704 + CHUNK, 192}};
    const size_t last = 64 + CHUNK + 191;
    for (auto [at, chunk] : std::vector<std::pair<size_t, int>>{{last + 1, -1}, {0, 0}, {63, 0}, {64, 1}, {64 + CHUNK - 1, 1}, {64 + CHUNK, 2}, {last, 2}})
        for (float bad : {NAN, INFINITY, -INFINITY}) {
            data[at] = F(bad);
            uint64_t expected = UNCHANGED;
            cpu::find_not_finite(&expected, data.data(), chunks.data(), chunks.size(), 640, 1000, cpu::stream_t{});
            EXPECT(expected == (chunk < 0 ? UNCHANGED : 1000 + (uint64_t)chunk));
            for_schedules([&] {
                OnDevice<F> values(data);
                OnDevice<Chunk> list(chunks);
                OnDevice<uint64_t> found(std::vector<uint64_t>{UNCHANGED});
                TestStream stream;
                find_not_finite(found.data(), values.data(), list.data(), chunks.size(), 640, 1000, stream);
                EXPECT(found.values()[0] == expected);
                return found.values();
            });
            data[at] = F(3e38f);
        }
}
TEST(cuda_values_that_are_not_finite) { check_not_finite<float>(), check_not_finite<bf16>(); }
