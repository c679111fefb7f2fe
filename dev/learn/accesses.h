// accesses.h: what a kernel asks of memory, access by access, beside what the emulator says of it: which lines of the source race, how many 32-byte sectors a
// warp's request needs, how many words of one bank it wants at once. In memory that the grader and the child that runs the kernel share.
#pragma once
#include <cstddef>
#include <cstdint>

namespace accesses {
struct Access {
    const void* code;  // where in the program
    const char* p;
    unsigned bytes, block;
    int thread;
    bool write;
};
inline const char ASYNC_COPY = 0;  // its address is the code of what cp.async writes, which no call of the compiler announces
// The place in the program where most is lost: sectors asked for by its warps, and the fewest that hold the bytes; or ways of its worst bank conflict.
struct Place { const void* code = nullptr; uint64_t asked = 0, fewest = 0, requests = 0; };
struct Record {
    Access now, wrote, read;  // the access that happens, and the last write and read before it of the same four bytes
    uint64_t accesses, bytes, sectors, fewest_sectors, conflicts, overlapped;  // overlapped: reads of shared memory while an asynchronous copy of the same thread was in flight
    bool copies;  // there have been asynchronous copies, or some are in flight
    Place worst_sectors, worst_banks, longest;  // longest: asked for by one thread, of device memory, between two barriers
    const void *stack[16], *waiting[16];  // where functions were called, the innermost first: of the thread with the mistake, and of another lane of its warp that waits
};
extern Record* record;  // null: nothing is recorded
void begin();           // before the first kernel
void kernel_ends();     // counts what the kernel's warps asked for; forgets its accesses
}  // namespace accesses
