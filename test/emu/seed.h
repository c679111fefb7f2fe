// seed.h: the emulator's randomness: one seed decides every order.
#pragma once
#include <cstdint>
#include <cstdlib>
#include "watch.h"

namespace emu {
EMU_OWN inline uint64_t next_state(uint64_t x) { x ^= x << 13, x ^= x >> 7, x ^= x << 17; return x; }
inline uint64_t state_of_seed(uint64_t n) {
    uint64_t x = (n + 1) * 0x9E3779B97F4A7C15;
    for (int i = 0; i < 8; i++) x = next_state(x);
    return x;
}
// EMU_SEED=n, as set_seed(n).
inline uint64_t first_state(const char* told) { return told ? state_of_seed(strtoull(told, nullptr, 10)) : 0x9E3779B97F4A7C15; }
inline uint64_t the_random_state = first_state(getenv("EMU_SEED"));
inline uint64_t& random_state() { return the_random_state; }
EMU_OWN inline uint32_t random() {
    the_random_state = next_state(the_random_state);
    return (uint32_t)(the_random_state >> 32);
}
EMU_OWN inline uint32_t random(uint32_t below) { return (uint32_t)((uint64_t)random() * below >> 32); }
inline void set_seed(uint64_t n) { random_state() = state_of_seed(n); }
}  // namespace emu
