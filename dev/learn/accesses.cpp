// accesses.cpp: meets each access on its way to the emulator's watcher. Kernels are compiled with -fsanitize=thread, so the compiler calls __tsan_read4(p) and the
// like; linked with --wrap, that call comes here first and goes on to test/emu/watch.cpp.
//
// The lanes of a warp run one after the other here. The k-th time since the last barrier that a lane comes to an instruction belongs to the k-th time that the
// other lanes of its warp do: together they are one request, as long as lanes go round loops equally often or leave them for good.
#include "accesses.h"
#include <algorithm>
#include <set>
#include <unordered_map>
#include <vector>
#include <cuda_on_cpu.h>

namespace accesses {
Record* record = nullptr;

namespace {
constexpr uintptr_t SECTOR = 32, BANKS = 32, WORD = 4;
struct Lane { int thread; uintptr_t p; };
struct Request { const void* code; bool shared; unsigned bytes; std::vector<Lane> lanes; };
struct Before { Access wrote, read, read_by_another; };  // of the reads the last one, and the last one of a thread that is not its
bool same_thread(const Access& a, const Access& b) { return a.code && a.block == b.block && a.thread == b.thread; }
uint64_t mix(uint64_t a, uint64_t b) { return (a ^ b * 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 + (a >> 29); }
std::unordered_map<uint64_t, uint32_t> times;        // that a thread has been at an instruction
std::unordered_map<uint64_t, Request> requests;
std::unordered_map<uint64_t, Before> cells;
std::unordered_map<unsigned, uint64_t> barriers;     // that a block has passed

bool statics_known = false;  // of this run: a child has a device thread of its own
bool is_static_shared(const char* p) {
    static emu::Statics statics;
    if (!statics_known) statics = emu::find_statics(), statics_known = true;
    return p >= statics.begin && p < statics.begin + statics.size;
}

void note_of_a_thread(const emu::Machine& m, const char* p, size_t bytes, bool write, const void* code) {
    const bool device = emu::memory().in_region(p);
    const bool shared = !device && ((p >= m.block->shared - 4096 && p < m.block->shared + m.shared_bytes + 4096) || is_static_shared(p));  // and beside it, where it must not
    if (!device && !shared) return;  // the thread's own
    const unsigned block = m.block->number, thread = m.thread->linear;
    const Access a{code, p, (unsigned)bytes, block, (int)thread, write};
    Access wrote{}, read{};
    for (uintptr_t word = (uintptr_t)p / WORD; word * WORD < (uintptr_t)p + bytes; word++) {
        Before& before = cells[mix(word, shared ? block + 1 : 0)];
        if (before.wrote.code) wrote = before.wrote;
        if (const Access& last = same_thread(before.read, a) ? before.read_by_another : before.read; last.code) read = last;
        if (write) before = {a, {}, {}};
        else {
            if (!same_thread(before.read, a)) before.read_by_another = before.read;
            before.read = a;
        }
    }
    record->now = a, record->wrote = wrote, record->read = read;
    record->copies |= code == &ASYNC_COPY || !m.thread->copies.empty();
    if (code == &ASYNC_COPY) return;
    record->overlapped += shared && !write && !m.thread->copies.empty();
    const uint64_t since = mix((uintptr_t)code, barriers[block]), k = times[mix(since, (uint64_t)block << 32 | thread)]++;
    if (!shared && k + 1 > record->longest.asked) record->longest = {code, k + 1};
    Request& request = requests[mix(mix(since, (uint64_t)block << 32 | thread / 32), k)];
    request.code = code, request.shared = shared, request.bytes = (unsigned)bytes, request.lanes.push_back({(int)thread, (uintptr_t)p});
}

void note(const void* address, size_t bytes, bool write, const void* code) {
    static bool busy = false;  // the emulator's own functions are compiled with -fsanitize=thread, too
    const emu::Machine& m = emu::machine();
    if (!record || !m.thread || bytes == 0 || busy) return;
    busy = true;
    note_of_a_thread(m, (const char*)address, bytes, write, code);
    busy = false;
}

void count_sectors(const Request& r, std::unordered_map<const void*, Place>& places) {
    std::set<uintptr_t> sectors, words;
    for (auto [thread, p] : r.lanes) {
        for (uintptr_t s = p / SECTOR; s * SECTOR < p + r.bytes; s++) sectors.insert(s);
        for (uintptr_t w = p / WORD; w * WORD < p + r.bytes; w++) words.insert(w);
    }
    const uint64_t fewest = (words.size() * WORD + SECTOR - 1) / SECTOR;
    record->sectors += sectors.size(), record->fewest_sectors += fewest;
    record->accesses += r.lanes.size(), record->bytes += r.lanes.size() * r.bytes;
    Place& place = places[r.code];
    place.code = r.code, place.asked += sectors.size(), place.fewest += fewest, place.requests++;
}

// Shared memory gives each of its 32 banks' four bytes at a time: of 8-byte accesses half of a warp is served at once, of 16-byte accesses a quarter. Lanes that
// want the same word share it.
void count_conflicts(const Request& r) {
    const size_t at_once = r.bytes <= WORD ? 32 : r.bytes <= 8 ? 16 : 8;
    for (size_t first = 0; first < r.lanes.size(); first += at_once) {
        std::set<uintptr_t> words[BANKS];
        for (size_t l = first; l < std::min(first + at_once, r.lanes.size()); l++)
            for (uintptr_t w = r.lanes[l].p / WORD; w * WORD < r.lanes[l].p + r.bytes; w++) words[w % BANKS].insert(w);
        size_t ways = 1;
        for (auto& bank : words) ways = std::max(ways, bank.size());
        record->conflicts += ways - 1;
        if (ways > record->worst_banks.asked) record->worst_banks = {r.code, ways, 1, 1};
    }
}

// The watcher, told of barriers and of asynchronous copies by way of this file.
emu::Watcher with_barriers;
const emu::Watcher* watcher;

// Frames are a list: all of this is compiled with -fno-omit-frame-pointer. A thread that waits has its frame where emu_switch has put it.
void keep_stack(const void* (&stack)[16], const emu::Thread& t) {
#if defined(__x86_64__)
    constexpr int FRAME = 5;
#else
    constexpr int FRAME = 10;
#endif
    void** frame = &t == emu::machine().thread ? (void**)__builtin_frame_address(0) : (void**)t.fiber.sp + FRAME;
    for (const void*& code : stack) {
        if ((char*)frame < t.fiber.stack || (char*)(frame + 2) > t.fiber.stack + emu::STACK) break;
        code = frame[1], frame = (void**)frame[0];
    }
}
}  // namespace

void begin() {
    statics_known = false;
    emu::on_fault = [](const emu::Thread& t) {
        if (!record) return;
        keep_stack(record->stack, t);
        const emu::Block& block = *emu::machine().block;
        for (unsigned i = 0; i < block.made; i++)
            if (const emu::Thread* lane = block.threads[i]; lane != &t && lane->linear / 32 == t.linear / 32 && lane->waits_for && !lane->fiber.done) return keep_stack(record->waiting, *lane);
    };
    if (watcher) return;
    watcher = emu::g_watcher, with_barriers = *watcher, emu::g_watcher = &with_barriers;
    with_barriers.barrier = [](unsigned block) { barriers[block]++, watcher->barrier(block); };
    with_barriers.written = [](const void* p, size_t bytes) { note(p, bytes, true, &ASYNC_COPY), watcher->written(p, bytes); };
}
void kernel_ends() {
    if (!record) return;
    std::unordered_map<const void*, Place> places;
    for (auto& [key, r] : requests) {
        std::sort(r.lanes.begin(), r.lanes.end(), [](const Lane& a, const Lane& b) { return a.thread < b.thread; });
        if (r.shared) count_conflicts(r); else count_sectors(r, places);
    }
    for (auto& [code, place] : places)
        if (place.asked - place.fewest > record->worst_sectors.asked - record->worst_sectors.fewest) record->worst_sectors = place;
    times.clear(), requests.clear(), cells.clear(), barriers.clear();
}
}  // namespace accesses

// The last call of each is a jump, so that the watcher finds the kernel's return address as if it had been called by it: this file is compiled with -O2.
#define MEET(name, bytes, write)                                      \
    extern "C" void __real_##name(void*);                             \
    extern "C" void __wrap_##name(void* p) {                          \
        accesses::note(p, bytes, write, __builtin_return_address(0)); \
        return __real_##name(p);                                      \
    }
#define MEET_SIZE(n) MEET(__tsan_read##n, n, false) MEET(__tsan_write##n, n, true) \
    MEET(__tsan_unaligned_read##n, n, false) MEET(__tsan_unaligned_write##n, n, true)
MEET_SIZE(1) MEET_SIZE(2) MEET_SIZE(4) MEET_SIZE(8) MEET_SIZE(16)
#define MEET_RANGE(name, write)                                       \
    extern "C" void __real_##name(void*, size_t);                     \
    extern "C" void __wrap_##name(void* p, size_t n) {                \
        accesses::note(p, n, write, __builtin_return_address(0));     \
        return __real_##name(p, n);                                   \
    }
MEET_RANGE(__tsan_read_range, false) MEET_RANGE(__tsan_write_range, true)
