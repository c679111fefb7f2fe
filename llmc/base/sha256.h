// sha256.h: SHA-256 (FIPS 180-4) and HMAC (RFC 2104) with it: proves knowledge of a secret without sending it.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

class Sha256 {
    static constexpr uint32_t K[64] = {  // the first 32 bits of the fractions of the cube roots of the first 64 primes
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
        0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
        0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
        0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
        0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint64_t length = 0;
    unsigned char block[64];  // the last length % 64 bytes

    void compress(const unsigned char* p) {
        uint32_t w[64], s[8];
        for (int t = 0; t < 16; t++) w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 | (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
        for (int t = 16; t < 64; t++) {
            const uint32_t s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
            const uint32_t s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        memcpy(s, state, sizeof s);
        for (int t = 0; t < 64; t++) {
            const uint32_t a = s[0], b = s[1], c = s[2], e = s[4], f = s[5], g = s[6];
            const uint32_t t1 = s[7] + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + K[t] + w[t];
            const uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            memmove(s + 1, s, 7 * sizeof *s);
            s[0] = t1 + t2, s[4] += t1;
        }
        for (int i = 0; i < 8; i++) state[i] += s[i];
    }

  public:
    void update(std::string_view data) {
        for (size_t at = 0; at < data.size();) {
            const size_t held = length % 64, n = std::min(64 - held, data.size() - at);
            memcpy(block + held, data.data() + at, n);
            at += n, length += n;
            if (held + n == 64) compress(block);
        }
    }
    // 32 bytes. Once only.
    std::string digest() {
        const uint64_t bits = length * 8;
        std::string padding(1 + (119 - length % 64) % 64, '\0');  // 0x80, then zeros until 8 bytes are left in a block
        padding[0] = (char)0x80;
        for (int i = 7; i >= 0; i--) padding += (char)(bits >> 8 * i);
        update(padding);
        std::string out;
        for (uint32_t word : state)
            for (int i = 3; i >= 0; i--) out += (char)(word >> 8 * i);
        return out;
    }
};

inline std::string sha256(std::string_view data) {
    Sha256 hash;
    hash.update(data);
    return hash.digest();
}

inline std::string hmac_sha256(std::string_view key, std::string_view message) {
    std::string inner(key.size() > 64 ? sha256(key) : key);
    inner.resize(64, '\0');
    std::string outer = inner;
    for (char& c : inner) c ^= 0x36;
    for (char& c : outer) c ^= 0x5c;
    return sha256(outer + sha256(inner.append(message)));
}

// Takes as long for the first byte that differs as for the last: an attacker who measures learns nothing about how much of a guess is right.
inline bool equal_in_constant_time(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < a.size(); i++) difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

inline std::string hex_of(std::string_view bytes) {
    std::string text;
    for (unsigned char c : bytes) text += "0123456789abcdef"[c >> 4], text += "0123456789abcdef"[c & 15];
    return text;
}
