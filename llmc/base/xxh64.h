// xxh64.h: XXH64 (xxHash specification 0.1.1): not against forgery, but it finds every damaged byte at memory speed.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

class Xxh64 {
    static constexpr uint64_t P1 = 0x9E3779B185EBCA87, P2 = 0xC2B2AE3D27D4EB4F, P3 = 0x165667B19E3779F9,
                              P4 = 0x85EBCA77C2B2AE63, P5 = 0x27D4EB2F165667C5;
    uint64_t seed, lanes[4], length = 0;
    unsigned char tail[32];  // the last length % 32 bytes: less than a stripe

    static uint64_t load8(const unsigned char* p) { uint64_t x; memcpy(&x, p, 8); return x; }
    static uint32_t load4(const unsigned char* p) { uint32_t x; memcpy(&x, p, 4); return x; }
    static uint64_t round(uint64_t lane, uint64_t input) { return std::rotl(lane + input * P2, 31) * P1; }

    void stripes(const unsigned char* p, size_t count) {
        uint64_t a = lanes[0], b = lanes[1], c = lanes[2], d = lanes[3];  // in registers: four independent chains
        for (; count > 0; count--, p += 32)
            a = round(a, load8(p)), b = round(b, load8(p + 8)), c = round(c, load8(p + 16)), d = round(d, load8(p + 24));
        lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d;
    }

public:
    explicit Xxh64(uint64_t seed_ = 0) : seed(seed_), lanes{seed + P1 + P2, seed + P2, seed, seed - P1} {}

    void update(const void* data, size_t bytes) {
        const unsigned char* p = (const unsigned char*)data;
        size_t held = length % 32;
        length += bytes;
        if (held > 0) {
            size_t n = std::min(bytes, 32 - held);
            if (n > 0) memcpy(tail + held, p, n);
            if (held + n < 32) return;
            stripes(tail, 1), p += n, bytes -= n;
        }
        stripes(p, bytes / 32);
        if (bytes % 32 > 0) memcpy(tail, p + bytes / 32 * 32, bytes % 32);
    }

    uint64_t digest() const {
        uint64_t h = seed + P5;
        if (length >= 32) {
            h = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) + std::rotl(lanes[3], 18);
            for (uint64_t lane : lanes) h = (h ^ round(0, lane)) * P1 + P4;
        }
        h += length;
        const unsigned char *p = tail, *end = tail + length % 32;
        for (; end - p >= 8; p += 8) h = std::rotl(h ^ round(0, load8(p)), 27) * P1 + P4;
        if (end - p >= 4) h = std::rotl(h ^ load4(p) * P1, 23) * P2 + P3, p += 4;
        for (; p < end; p++) h = std::rotl(h ^ *p * P5, 11) * P1;
        h = (h ^ h >> 33) * P2;
        h = (h ^ h >> 29) * P3;
        return h ^ h >> 32;
    }
};

inline uint64_t xxh64(const void* data, size_t bytes, uint64_t seed = 0) {
    Xxh64 hash(seed);
    hash.update(data, bytes);
    return hash.digest();
}
