// watch.h: what the scheduler tells the watcher of memory (watch.cpp), which is linked only into the watched build. There the
// compiler calls a function for each access (-fsanitize=thread, linked without it); elsewhere all of this is nothing.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emu {
struct Traffic { uint64_t read = 0, written = 0, distinct_read = 0, distinct_written = 0; };  // bytes of device memory

struct Watcher {
    void (*kernel_begins)(unsigned blocks);
    void (*kernel_ends)();
    void (*block_begins)(unsigned block, unsigned threads, char* shared, size_t shared_bytes);
    void (*block_moves)(unsigned block, char* shared, size_t shared_bytes);  // another block has the processor
    void (*block_ends)(unsigned block);
    void (*thread_runs)(int thread);                                         // -1: none
    void (*barrier)(unsigned block);                                         // all threads of the block have met
    void (*warp_sync)(unsigned block, unsigned warp, unsigned mask);
    void (*fence)();                                                         // of the thread that runs
    void (*atomic)(const void* p, size_t bytes);
    void (*freed)(const void* p, size_t bytes);
    void (*read)(const void* p, size_t bytes);                               // by a copy, a library, or for a thread
    void (*written)(const void* p, size_t bytes);
    Traffic (*traffic)();
};
inline const Watcher* g_watcher = nullptr;  // set by watch.cpp before main

// Of a function whose accesses are to what the emulator keeps for itself: the compiler adds no calls for them.
#define EMU_OWN __attribute__((no_sanitize("thread")))
// Of a lambda that such a function calls: it is inlined there, as no other is into one that is compiled differently.
#define EMU_INLINE __attribute__((always_inline))

#define EMU_WATCH(call) do { if (emu::g_watcher) emu::g_watcher->call; } while (0)
}  // namespace emu
