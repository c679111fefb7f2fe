// watch.cpp: looks at every access of device code to memory. The code is compiled with -fsanitize=thread and linked without
// it: the functions that the compiler calls are those below. They find races, reads of what nobody has written, accesses
// outside of allocations and vector accesses that are not aligned, and count bytes.
//
// Two accesses to the same place, one of them a write, must be ordered: by a barrier of the block, by __syncwarp among lanes of
// a warp (shuffles do not order memory), by a fence and an atomic between blocks. (CUDA C++ Programming Guide, memory fence
// functions and warp-level primitives)
#include <map>
#include <memory>
#include <vector>
#include "memory.h"

namespace emu {
namespace {
constexpr size_t GRAIN = 2;  // bytes of a cell: the smallest element that kernels write beside each other is a bf16

struct Access { uint32_t launch = 0, block, barrier, fences, warp_clock; int thread = -1; };
struct alignas(64) Cell {
    Access write, read;          // the last ones
    uint32_t readers = 0;        // lanes of the warp of `read` that have read since its barrier
    bool many = false;           // more than one warp or block has
    bool written = false;
    uint16_t no_hole = 0;        // so that cells are compared byte by byte
    uint32_t counted_read = 0, counted_written = 0;  // the launch in which it was counted
};
bool same(const Cell& a, const Cell& b) {
    typedef long long Bytes __attribute__((vector_size(sizeof(Cell)), may_alias));
    const Bytes differs = *(const Bytes*)&a ^ *(const Bytes*)&b;
    long long any = 0;
    for (int i = 0; i < 8; i++) any |= differs[i];
    return !any;
}
struct Released { uint32_t fences, barrier; int thread; uint32_t acquired_barrier; int acquired_thread; };
struct Warp { uint32_t clock[32][32] = {}; };  // clock[a][b]: what lane a knows of lane b
struct SideBySide { Cell* first; size_t n; };
// Of a block's shared memory; made where it comes, as most of the static one is of other kernels.
class Cells {
public:
    SideBySide from(size_t i) {  // the i-th, and those behind it that lie beside it
        if (i / MANY >= cells.size()) cells.resize(i / MANY + 1);
        std::unique_ptr<Cell[]>& some = cells[i / MANY];
        if (!some) some = std::make_unique<Cell[]>(MANY);
        return {&some[i % MANY], MANY - i % MANY};
    }

private:
    static constexpr size_t MANY = 64;
    std::vector<std::unique_ptr<Cell[]>> cells;
};
struct WatchedBlock {
    uint32_t barrier = 1, fences = 0;
    std::vector<Warp> warps;
    Cells shared, statics;
    std::map<unsigned, Released> acquired;  // from other blocks
};
struct Page {
    std::unique_ptr<Cell[]> cells;  // made when a kernel comes here
    bool written = false;           // all of it, by the host, before that
};

bool busy = false, on = false;   // on: a thread of a kernel runs
int thread = -1;
const char* stack = nullptr;     // the running thread's
uint32_t launch = 0;
unsigned block_number;
WatchedBlock* block;
char *shared, *statics, *region;  // region: of device memory
size_t shared_bytes, statics_bytes, region_bytes;
std::map<unsigned, std::unique_ptr<WatchedBlock>> blocks;
std::map<const void*, std::map<unsigned, Released>> released;  // at an atomic
std::vector<Page> device_pages;  // an address is given away once: what is freed is never seen again
Traffic traffic_now;

Page& page_of(const char* p) {
    const size_t number = (size_t)(p - memory().region) / Memory::PAGE;
    if (number >= device_pages.size()) device_pages.resize(number + 1);
    return device_pages[number];
}
SideBySide device_cells(const char* p) {
    constexpr size_t CELLS = Memory::PAGE / GRAIN;
    Page& page = page_of(p);
    if (!page.cells) {
        page.cells = std::make_unique<Cell[]>(CELLS);
        for (size_t i = 0; i < CELLS; i++) page.cells[i].written = page.written;
    }
    const size_t i = (size_t)(p - memory().region) % Memory::PAGE / GRAIN;
    return {&page.cells[i], CELLS - i};
}
Cell& device_cell(const char* p) { return *device_cells(p).first; }
void host_wrote(const char* p, size_t bytes) {
    for (const char* end = p + bytes; p < end;) {
        const char* next = memory().region + ((size_t)(p - memory().region) / Memory::PAGE + 1) * Memory::PAGE;
        if (Page& page = page_of(p); next - p == (long)Memory::PAGE && next <= end && !page.cells) page.written = true, p = next;
        else for (; p < end && p < next; p += GRAIN) device_cell(p).written = true;
    }
}

Access now() {
    const unsigned lane = (unsigned)thread % 32;
    return {launch, block_number, block->barrier, block->fences, block->warps[(size_t)thread / 32].clock[lane][lane], thread};
}

// Is `before` ordered before what the running thread does now?
bool ordered(const Access& before) {
    if (before.launch != launch || (before.block == block_number && before.thread == thread)) return true;
    if (before.block != block_number) {
        auto found = block->acquired.find(before.block);
        if (found == block->acquired.end()) return false;
        const Released& r = found->second;
        return before.fences < r.fences && (before.barrier < r.barrier || before.thread == r.thread) &&
               (block->barrier > r.acquired_barrier || thread == r.acquired_thread);
    }
    if (before.barrier != block->barrier) return true;
    if (before.thread / 32 != thread / 32) return false;
    return block->warps[(size_t)thread / 32].clock[thread % 32][before.thread % 32] > before.warp_clock;
}

// Are the reads by lanes of this thread's warp?
bool all_ordered(const Cell& cell) {
    Access reader = cell.read;
    for (int lane = 0; lane < 32; lane++)
        if (cell.readers >> lane & 1) if (reader.thread = cell.read.thread / 32 * 32 + lane; !ordered(reader)) return false;
    return true;
}

std::string who(const Access& a) { return "block " + std::to_string(a.block) + " thread " + std::to_string(a.thread); }
void report(const std::string& what, const void* caller) {
    Dl_info info;
    std::string at = dladdr(caller, &info) && info.dli_sname ? info.dli_sname : "?";
    busy = on = false;
    fault(what + " (" + at + ")");
}

void look(Cell& cell, size_t bytes, bool write, bool is_shared, const void* caller) {
    const char* place = is_shared ? "shared memory" : "device memory";
    if (write) {
        if (!ordered(cell.write)) report(std::string("race in ") + place + ": " + who(cell.write) + " wrote there, this one writes", caller);
        if (cell.read.launch == launch) {
            Access reader = cell.read;
            bool clash = cell.many && cell.read.barrier == block->barrier && cell.read.block == block_number;
            if (cell.many && cell.read.block != block_number) clash = !ordered(reader);
            for (int lane = 0; lane < 32 && !clash; lane++)
                if (cell.readers >> lane & 1) reader.thread = cell.read.thread / 32 * 32 + lane, clash = !ordered(reader);
            if (clash) report(std::string("race in ") + place + ": " + who(cell.read) + " reads there, this one writes", caller);
        }
        cell.write = now(), cell.written = true, cell.readers = 0, cell.many = false, cell.read.launch = 0;
    } else {
        if (!cell.written) report(std::string("read of ") + std::to_string(bytes) + " bytes of " + place + " that nobody has written", caller);
        if (!ordered(cell.write)) report(std::string("race in ") + place + ": " + who(cell.write) + " writes there, this one reads", caller);
        const Access a = now();
        const bool same_time = cell.read.launch == launch && cell.read.block == a.block && cell.read.barrier == a.barrier;
        if (!same_time) {
            cell.many = cell.read.launch == launch && cell.read.block != a.block && cell.readers;
            cell.readers = 0;
        } else if (cell.read.thread / 32 != thread / 32) cell.many = true, cell.readers = 0;
        else if (cell.read.warp_clock < a.warp_clock && all_ordered(cell)) cell.readers = 0;  // who is ordered behind this read is behind theirs
        cell.readers |= 1u << thread % 32;
        cell.read = a;
    }
    if (!is_shared) (write ? cell.counted_written : cell.counted_read) = launch;
}
// What a look at the first cell finds, and leaves there, holds for each that was as the first: for all of them, as a rule. left: bytes of the access, of which these
// cells have `bytes`.
void look_at(const SideBySide& cells, size_t bytes, size_t left, bool write, bool is_shared, const void* caller) {
    const Cell before = *cells.first;
    for (size_t i = 0; i * GRAIN < bytes; i++) {
        Cell& cell = cells.first[i];
        if (!is_shared && (write ? cell.counted_written : cell.counted_read) != launch)
            (write ? traffic_now.distinct_written : traffic_now.distinct_read) += std::min(left - i * GRAIN, GRAIN);
        if (i && same(cell, before)) cell = *cells.first;
        else look(cell, left - i * GRAIN, write, is_shared, caller);
    }
}

bool within(const void* p, const char* begin, size_t bytes) { return (size_t)((const char*)p - begin) < bytes; }
bool in_shared(const void* p) { return within(p, shared - 4096, shared_bytes + 8192); }

[[gnu::noinline]] void access_elsewhere(const void* address, size_t bytes, bool write, const void* caller, bool aligned) {
    char* p = (char*)address;
    const bool device = within(p, region, region_bytes), dynamic = !device && in_shared(p);
    busy = true;
    if (device && machine().thread && !machine().thread->waited)
        report("an access to device memory before cudaGridDependencySynchronize: the kernel was launched early, and those before it may still write there", caller);
    if (aligned && (bytes & (bytes - 1)) == 0 && bytes <= 16 && (size_t)p % bytes) report("an access of " + std::to_string(bytes) + " bytes is not aligned", caller);
    if (dynamic && (p < shared || p + bytes > shared + shared_bytes)) report("an access outside of the block's dynamic shared memory", caller);
    if (device) {
        auto* a = memory().find(memory().device, p);
        if (!a || p + bytes > a->first + a->second.bytes) report("an access of " + std::to_string(bytes) + " bytes outside of every allocation", caller);
        (write ? traffic_now.written : traffic_now.read) += bytes;
    }
    for (size_t at = 0, n; at < bytes; at += n) {
        const SideBySide cells = device ? device_cells(p + at) : dynamic ? block->shared.from((size_t)(p + at - shared) / GRAIN) : block->statics.from((size_t)(p + at - statics) / GRAIN);
        n = std::min(bytes - at, cells.n * GRAIN);
        look_at(cells, n, bytes - at, write, !device, caller);
    }
    busy = false;
}

// Most accesses are the host's, a thread's to its own stack, or the emulator's to what it keeps: none of the three places.
inline void access(const void* p, size_t bytes, bool write, const void* caller, bool aligned = true) {
    if (!on || busy || bytes == 0 || within(p, stack, STACK)) return;
    if (within(p, region, region_bytes) || in_shared(p) || within(p, statics, statics_bytes)) access_elsewhere(p, bytes, write, caller, aligned);
}

const Watcher WATCHER = {
    .kernel_begins = [](unsigned) {
        launch++, blocks.clear(), released.clear(), traffic_now = {};
        const Statics s = find_statics();
        statics = s.begin, statics_bytes = s.size, region = memory().region, region_bytes = region ? Memory::REGION : 0;
    },
    .kernel_ends = [] { on = false; },
    .block_begins = [](unsigned number, unsigned threads, char*, size_t) {
        auto b = std::make_unique<WatchedBlock>();
        b->warps.resize((threads + 31) / 32);
        for (Warp& w : b->warps) for (int l = 0; l < 32; l++) w.clock[l][l] = 1;
        blocks[number] = std::move(b);
    },
    .block_moves = [](unsigned number, char* p, size_t bytes) {
        block_number = number, block = blocks[number].get(), shared = p, shared_bytes = bytes;
    },
    .block_ends = [](unsigned number) { blocks.erase(number); },
    .thread_runs = [](int t) { thread = t, on = t >= 0, busy = false, stack = on ? machine().thread->fiber.stack : nullptr; },
    .barrier = [](unsigned number) { blocks[number]->barrier++; },
    .warp_sync = [](unsigned number, unsigned warp, unsigned mask) {
        Warp& w = blocks[number]->warps[warp];
        uint32_t all[32] = {};
        for (int l = 0; l < 32; l++) if (mask >> l & 1) for (int k = 0; k < 32; k++) all[k] = std::max(all[k], w.clock[l][k]);
        for (int l = 0; l < 32; l++) if (mask >> l & 1) {
            for (int k = 0; k < 32; k++) w.clock[l][k] = all[k] + (mask >> k & 1);
        }
    },
    .fence = [] { if (on) block->fences++; },
    .atomic = [](const void* p, size_t bytes) {
        if (!on || busy) return;
        if (memory().in_region(p)) {
            auto* a = memory().find(memory().device, p);
            if (!a || (char*)p + bytes > a->first + a->second.bytes) report("an atomic outside of every allocation", __builtin_return_address(0));
            if (!device_cell((char*)p).written) report("an atomic on device memory that nobody has written", __builtin_return_address(0));
            traffic_now.read += bytes, traffic_now.written += bytes;
        }
        auto& at = released[p];
        for (auto& [from, r] : at) if (from != block_number) {
            Released taken = r;
            taken.acquired_barrier = block->barrier, taken.acquired_thread = thread;
            block->acquired[from] = taken;
        }
        for (auto& [from, r] : block->acquired) if (from != block_number && !at.count(from)) at[from] = r;
        at[block_number] = {block->fences, block->barrier, thread, 0, -1};
    },
    .freed = [](const void* p, size_t bytes) {
        for (const char* q = (const char*)p; q < (const char*)p + bytes; q += Memory::PAGE) page_of(q).cells.reset();
    },
    .read = [](const void* p, size_t bytes) { access(p, bytes, false, __builtin_return_address(0), false); },
    .written = [](const void* p, size_t bytes) {
        if (on) return access(p, bytes, true, __builtin_return_address(0), false);
        if (memory().in_region(p)) host_wrote((const char*)p, bytes);
    },
    .traffic = [] { return traffic_now; },
};
[[gnu::constructor]] void install() { g_watcher = &WATCHER; }
}  // namespace
}  // namespace emu

// ---- what the compiler calls -------------------------------------------------------------------------------------------
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
#define ACCESS(n) \
    void __tsan_read##n(void* p) { emu::access(p, n, false, __builtin_return_address(0)); } \
    void __tsan_write##n(void* p) { emu::access(p, n, true, __builtin_return_address(0)); } \
    void __tsan_unaligned_read##n(void* p) { emu::access(p, n, false, __builtin_return_address(0), false); } \
    void __tsan_unaligned_write##n(void* p) { emu::access(p, n, true, __builtin_return_address(0), false); }
ACCESS(1) ACCESS(2) ACCESS(4) ACCESS(8) ACCESS(16)
void __tsan_read_range(void* p, size_t n) { emu::access(p, n, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { emu::access(p, n, true, __builtin_return_address(0)); }
// The host's own atomics: they are what they were.
#define ATOMICS(bits, T) \
    T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); } \
    void __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_xor(volatile T* p, T v, int) { return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST); } \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* c, T v, int, int) { return __atomic_compare_exchange_n(p, c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); } \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* c, T v, int, int) { return __atomic_compare_exchange_n(p, c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
ATOMICS(8, unsigned char) ATOMICS(16, unsigned short) ATOMICS(32, unsigned) ATOMICS(64, unsigned long)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
}
