// memory.h: device memory, a region of its own in which every allocation stands between pages that nobody may touch; pinned
// memory; and who may touch what.
#pragma once
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include "capture.h"

enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes { cudaMemoryType type; int device; void *devicePointer, *hostPointer; };

namespace emu {
struct Allocation { size_t bytes; bool managed; };
struct Memory {
    static constexpr size_t REGION = (size_t)1 << 40, PAGE = 4096;
    char* region = nullptr;
    size_t top = 0, in_use = 0;
    std::map<char*, Allocation> device, pinned;
    bool hidden = false;  // from the host, now

    size_t capacity() const {  // EMU_MEMORY: GiB of the device, 4 unless told
        const char* told = getenv("EMU_MEMORY");
        return (size_t)((told ? atof(told) : 4) * (1 << 30));
    }
    // The allocation that p lies in, or null.
    const std::pair<char* const, Allocation>* find(const std::map<char*, Allocation>& in, const void* p) const {
        auto next = in.upper_bound((char*)p);
        if (next == in.begin()) return nullptr;
        --next;
        return (char*)p < next->first + std::max<size_t>(next->second.bytes, 1) ? &*next : nullptr;
    }
    bool in_region(const void* p) const { return region && (char*)p >= region && (char*)p < region + REGION; }
};
inline Memory& memory() { static Memory m; return m; }
inline size_t pages(size_t bytes) { return (bytes + Memory::PAGE - 1) / Memory::PAGE * Memory::PAGE; }

// EMU_PROTECT=1 or protect(true): outside of the device's work the host cannot touch device memory.
inline bool& protects() { static bool p = getenv("EMU_PROTECT") && atoi(getenv("EMU_PROTECT")); return p; }
inline void on_segv(int, siginfo_t* info, void*) {
    const char* p = (const char*)info->si_addr;
    char line[256];
    const bool device = memory().in_region(p);
    const int n = snprintf(line, sizeof line, "emulator: %s at %p%s\n",
                           !device ? "segmentation fault" : memory().hidden && !machine().thread ? "host code touched device memory"
                                   : "device code touched memory outside of every allocation", (const void*)p,
                           machine().thread ? (" in " + machine().kernel).c_str() : "");
    if (write(2, line, (size_t)n) < 0) {}
    _exit(99);
}
inline char* first_page(char* p, size_t bytes) { return p - (pages(std::max<size_t>(bytes, 1)) - bytes) / 256 * 256; }
inline void set_hidden(bool hidden) {
    Memory& m = memory();
    if (!protects() || m.hidden == hidden) return;
    m.hidden = hidden;
    for (auto& [p, a] : m.device) if (!a.managed) mprotect(first_page(p, a.bytes), pages(std::max<size_t>(a.bytes, 1)), hidden ? PROT_NONE : PROT_READ | PROT_WRITE);
}

// EMU_LEAKS=1: what is still allocated at the end is reported.
inline void report_leaks() {
    for (auto& [p, a] : memory().device) fprintf(stderr, "emulator: leak: %zu bytes of device memory\n", a.bytes);
    for (auto& [p, a] : memory().pinned) fprintf(stderr, "emulator: leak: %zu bytes of pinned memory\n", a.bytes);
}

inline char* device_take(size_t bytes, bool managed) {
    Memory& m = memory();
    if (m.in_use + bytes > m.capacity()) return nullptr;
    if (!m.region) {
        m.region = (char*)mmap(nullptr, Memory::REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m.region == MAP_FAILED) { m.region = nullptr; return nullptr; }
        struct sigaction action = {};
        action.sa_sigaction = on_segv, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &action, nullptr);
        if (getenv("EMU_LEAKS") && atoi(getenv("EMU_LEAKS"))) atexit(report_leaks);
    }
    // as near to the page behind it as the alignment of 256 bytes allows
    const size_t whole = pages(std::max<size_t>(bytes, 1)), slack = (whole - bytes) / 256 * 256;
    char* page = m.region + m.top + Memory::PAGE;
    if (m.top + whole + 2 * Memory::PAGE > Memory::REGION || mprotect(page, whole, PROT_READ | PROT_WRITE)) return nullptr;
    m.top += whole + Memory::PAGE;
    memset(page, 0xff, whole);  // nobody has written it: a NaN
    char* p = page + slack;
#ifdef EMU_ASAN
    __asan_poison_memory_region(page, slack);
    __asan_poison_memory_region(p + bytes, whole - slack - bytes);
#endif
    m.device[p] = {bytes, managed}, m.in_use += bytes;
    if (m.hidden && !managed) mprotect(page, whole, PROT_NONE);
    else set_hidden(true);
    return p;
}
inline cudaError_t device_give(char* p) {
    Memory& m = memory();
    auto found = m.device.find(p);
    if (found == m.device.end()) {
        fprintf(stderr, "emulator: cudaFree(%p): no allocation begins there: freed before?\n", (void*)p);
        return failed(cudaErrorInvalidValue);
    }
    const size_t bytes = found->second.bytes, whole = pages(std::max<size_t>(bytes, 1));
    char* page = first_page(p, bytes);
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(page, whole);
#endif
    mprotect(page, whole, PROT_READ | PROT_WRITE);
    for (char* c = p + bytes; c < page + whole; c++)
        if (*c != (char)0xff) { fprintf(stderr, "emulator: something was written behind an allocation of %zu bytes\n", bytes); g_fault() = true; break; }
    for (char* c = page; c < p; c++)
        if (*c != (char)0xff) { fprintf(stderr, "emulator: something was written before an allocation of %zu bytes\n", bytes); g_fault() = true; break; }
    EMU_WATCH(freed(page, whole));
    madvise(page, whole, MADV_DONTNEED);
#ifdef EMU_ASAN
    size_t scale, offset;  // and its shadow
    __asan_get_shadow_mapping(&scale, &offset);
    char *first = (char*)(((size_t)page >> scale) + offset), *last = (char*)(((size_t)(page + whole) >> scale) + offset);
    first += (Memory::PAGE - (size_t)first % Memory::PAGE) % Memory::PAGE, last -= (size_t)last % Memory::PAGE;
    if (last > first) madvise(first, (size_t)(last - first), MADV_DONTNEED);
#endif
    mprotect(page, whole, PROT_NONE);  // for ever: what still points there is found
    m.device.erase(found), m.in_use -= bytes;
    return cudaSuccess;
}

inline bool is_pinned(const void* p) { return memory().find(memory().pinned, p) != nullptr; }
// Does [p, p + bytes) lie within one allocation, if it begins in device or pinned memory at all?
inline bool copy_fits(const char* call, const void* p, size_t bytes) {
    Memory& m = memory();
    if ((!m.in_region(p) && !is_pinned(p)) || bytes == 0) return true;
    auto* a = m.find(m.in_region(p) ? m.device : m.pinned, p);
    if (a && (char*)p + bytes <= a->first + a->second.bytes) return true;
    fprintf(stderr, "emulator: %s: %zu bytes at %p are not within one allocation\n", call, bytes, p);
    return false;
}
}  // namespace emu

enum { cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2, cudaHostAllocWriteCombined = 4, cudaMemAttachGlobal = 1, cudaMemAttachHost = 2 };
// No bytes are no memory: a null pointer, except of cudaMallocManaged, which refuses them.
inline cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned flags) {
    EMU_ENTER();
    EMU_UNSAFE();
    if (!p || flags > 7) return emu::failed(cudaErrorInvalidValue);
    if (bytes == 0) { *p = nullptr; return cudaSuccess; }
    *p = aligned_alloc(4096, emu::pages(bytes));
    if (!*p) return emu::failed(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    emu::memory().pinned[(char*)*p] = {bytes, false};
    return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** p, size_t bytes) { return cudaHostAlloc(p, bytes, 0); }
template <class X> cudaError_t cudaMallocHost(X** p, size_t bytes, unsigned flags = 0) { return cudaHostAlloc((void**)p, bytes, flags); }
inline cudaError_t cudaMalloc(void** p, size_t bytes) {
    EMU_ENTER();
    EMU_UNSAFE();
    if (!p) return emu::failed(cudaErrorInvalidValue);
    if (bytes == 0) { *p = nullptr; return cudaSuccess; }
    *p = emu::device_take(bytes, false);
    return *p ? cudaSuccess : emu::failed(cudaErrorMemoryAllocation);
}
template <class X> cudaError_t cudaMalloc(X** p, size_t bytes) { return cudaMalloc((void**)p, bytes); }
inline cudaError_t cudaMallocManaged(void** p, size_t bytes, unsigned flags = cudaMemAttachGlobal) {
    EMU_ENTER();
    EMU_UNSAFE();
    if (!p || bytes == 0 || (flags != cudaMemAttachGlobal && flags != cudaMemAttachHost)) return emu::failed(cudaErrorInvalidValue);
    *p = emu::device_take(bytes, true);
    return *p ? cudaSuccess : emu::failed(cudaErrorMemoryAllocation);
}
template <class X> cudaError_t cudaMallocManaged(X** p, size_t bytes, unsigned flags = cudaMemAttachGlobal) { return cudaMallocManaged((void**)p, bytes, flags); }
inline cudaError_t cudaMemGetInfo(size_t* available, size_t* all) {
    EMU_ENTER();
    if (!available || !all) return emu::failed(cudaErrorInvalidValue);
    *all = emu::memory().capacity(), *available = *all - emu::memory().in_use;
    return cudaSuccess;
}
// A pointer that the device (the host) cannot use is null.
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
    EMU_ENTER();
    if (!a) return emu::failed(cudaErrorInvalidValue);
    emu::Memory& m = emu::memory();
    auto* device = m.find(m.device, p);
    a->type = device ? (device->second.managed ? cudaMemoryTypeManaged : cudaMemoryTypeDevice) : emu::is_pinned(p) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    a->device = a->type == cudaMemoryTypeUnregistered ? -2 : 0;
    a->devicePointer = a->type == cudaMemoryTypeUnregistered ? nullptr : (void*)p;
    a->hostPointer = a->type == cudaMemoryTypeDevice ? nullptr : (void*)p;
    return cudaSuccess;
}
