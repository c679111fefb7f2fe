// threads.h: how many threads a launch must put on a GPU so that its memory is busy. doc/learn/gpu.md, section 6, explains it.
//     bytes under way = the memory's rate x the time until a load is back;   a thread is taken to have 4 loads under way
// It is a rough number: nvcc 13 unrolls a sum with a constant step up to 16 times; where a store stands between loads one is under way; and where memory is busy a load takes longer.
#pragma once
#include <algorithm>

namespace learn {
// An H100: 132 multiprocessors (SM); what an SM has room for: CUDA programming guide, "Compute Capabilities", 9.0; the rate: data sheet.
constexpr double MULTIPROCESSORS = 132, THREADS_OF_SM = 2048, BLOCKS_OF_SM = 32, SHARED_OF_SM = 228 << 10, SHARED_OF_SYSTEM = 1 << 10, MEMORY_RATE = 3.35e12;
// Seconds from a load to its number: on an H200 384 threads, each of which waits for one load at a time, took 15850 us for 2^24 elements: 43691 turns (LOG 103).
constexpr double LATENCY = 363e-9;
constexpr double LOADS = 4;
// Seconds that a launch and its end cost anyway, about: what is done within them needs no more threads.
constexpr double LAUNCH = 4e-6;

inline double threads_at_once(double blocks, double threads, double shared) {
    const double of_sm = std::min({THREADS_OF_SM / threads, BLOCKS_OF_SM, SHARED_OF_SM / (shared + SHARED_OF_SYSTEM)});
    return threads * std::min(blocks, MULTIPROCESSORS * (double)(int)of_sm);
}
inline double threads_needed(double bytes_of_load) { return MEMORY_RATE * LATENCY / (LOADS * bytes_of_load); }
// Seconds that so many threads take to load so many bytes.
inline double seconds_of(double threads, double bytes_of_load, double bytes) { return bytes * LATENCY / (threads * LOADS * bytes_of_load); }
}  // namespace learn
