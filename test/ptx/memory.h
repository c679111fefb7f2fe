// memory.h: loads, stores, atomics and asynchronous copies, each after a look at its address. Generic and global addresses are those of the host; shared
// ones count from SHARED_BASE. Behind a block's shared memory is as much again: which of its bytes somebody has written (0: written).
#pragma once
#include "machine.h"

namespace ptx {
constexpr int WRITTEN = 0, NOBODY = 0xff;  // as the emulator fills shared memory
inline char* shared_memory() { return emu::machine().block->shared; }
inline bool is_shared(const Lane& lane, const char* p) { return p >= shared_memory() && p < shared_memory() + lane.launch->shared_bytes; }

// ld.global.nc: through a cache that does not see what the launch writes.
inline void look_at_read_only(Lane& lane, const Instruction& i, const char* p, size_t bytes, bool write) {
    for (uint64_t at = (uint64_t)p; at < (uint64_t)p + bytes; at++) {
        if ((write ? lane.launch->read_only : lane.launch->written).count(at)) fault(i, "memory that one thread reads by ld.global.nc, another writes");
        if (write || i.read_only) (write ? lane.launch->written : lane.launch->read_only).insert(at);
    }
}
inline void look_at_global(Lane& lane, const Instruction& i, const char* p, size_t bytes, bool write) {
    if (!emu::machine().thread->waited)
        fault(i, "global memory before griddepcontrol.wait: the kernel was launched early, and those before it may still write there");
    if (!emu::memory().in_region(p) && !emu::is_pinned(p)) fault(i, "the address is not one of global memory");
    if (lane.launch->kernel->has_read_only && (write || i.read_only)) look_at_read_only(lane, i, p, bytes, write);
}
inline void look_at_shared(Lane& lane, const Instruction& i, const char* p, size_t bytes, bool write) {
    const size_t size = lane.launch->shared_bytes;
    if (p < shared_memory() || p + bytes > shared_memory() + size) fault(i, "an address outside of the block's shared memory");
    if (write) memset(const_cast<char*>(p) + size, WRITTEN, bytes);
    else if (memchr(p + size, NOBODY, bytes)) fault(i, "shared memory that nobody has written");
}

// The memory that an instruction means by the address in a register.
inline char* place(Lane& lane, const Instruction& i, unsigned at, Space space, size_t bytes, bool write) {
    const uint64_t address = lane.r[at] + (uint64_t)(int64_t)i.offset;
    if (address % bytes) fault(i, "an address is not a multiple of " + std::to_string(bytes));
    if (space == PARAM) {
        if (address + bytes > lane.launch->params.size()) fault(i, "behind the parameters");
        return lane.launch->params.data() + address;
    }
    char* p = (char*)address;
    if (space == SHARED) p = shared_memory() + (uint32_t)address - SHARED_BASE;
    if (space == SHARED || (space == GENERIC && is_shared(lane, p))) look_at_shared(lane, i, p, bytes, write);
    else if (space == GLOBAL || (space == GENERIC && emu::memory().in_region(p))) look_at_global(lane, i, p, bytes, write);
    return p;
}

inline void load(Lane& lane, const Instruction& i) {  // d..., address
    const char* p = place(lane, i, i.r[i.count], i.space, (size_t)i.bytes * i.count, false);
    for (unsigned k = 0; k < i.count; k++, p += i.bytes) {
        uint64_t x = 0;
        memcpy(&x, p, i.bytes);
        const int unused = 64 - 8 * i.bytes;
        lane.r[i.r[k]] = i.is_signed ? (uint64_t)((int64_t)(x << unused) >> unused) : x;
    }
}
inline void store(Lane& lane, const Instruction& i) {  // address, values...
    char* p = place(lane, i, i.r[0], i.space, (size_t)i.bytes * i.count, true);
    for (unsigned k = 0; k < i.count; k++, p += i.bytes) memcpy(p, &lane.r[i.r[k + 1]], i.bytes);
}

// cvta.shared: generic from shared, cvta.to.shared: back. The other spaces' addresses are generic.
inline void define_addresses() {
    for (const char* space : {".global", ".local", ".const", ".param"})
        for (const char* to : {"", ".to"}) define<uint64_t, uint64_t>(std::string("cvta") + to + space + ".u64", [](uint64_t a) { return a; });
    define<uint64_t, uint64_t>("cvta.shared.u64", [](uint64_t a) { return (uint64_t)shared_memory() + a - SHARED_BASE; });
    define<uint64_t, uint64_t>("cvta.to.shared.u64", [](uint64_t a) { return a - (uint64_t)shared_memory() + SHARED_BASE; });
}

// Atomic operations d = *p, *p = f(*p, a) as one; others may go first.
template <class T, class F> void define_atomic(const std::string& name, F) {
    for (int space : {GENERIC, GLOBAL, SHARED}) {
        const std::string in = space == GLOBAL ? ".global" : space == SHARED ? ".shared" : "";
        table()["atom" + in + name] = [](Lane& lane, const Instruction& i) {
            if (emu::random(4) == 0) emu::pause();
            T* p = (T*)place(lane, i, i.r[1], i.space, sizeof(T), true);
            const T old = *p;
            *p = F{}(old, get<T>(lane, i.r[2]), [&] { return get<T>(lane, i.r[3]); });
            set<T>(lane, i.r[0], old);
        };
    }
}
inline void define_atomics() {
    const auto arithmetic = []<class T>(const std::string& type) {
        define_atomic<T>(".add" + type, [](T old, T a, auto) { return canonical((T)(old + a)); });
        define_atomic<T>(".min" + type, [](T old, T a, auto) { return std::min(old, a); });
        define_atomic<T>(".max" + type, [](T old, T a, auto) { return std::max(old, a); });
    };
    const auto bitwise = []<class T>(const std::string& type) {
        define_atomic<T>(".exch" + type, [](T, T a, auto) { return a; });
        define_atomic<T>(".and" + type, [](T old, T a, auto) { return (T)(old & a); });
        define_atomic<T>(".or" + type, [](T old, T a, auto) { return (T)(old | a); });
        define_atomic<T>(".cas" + type, [](T old, T a, auto b) { return old == a ? b() : old; });
    };
    for_integers(arithmetic), for_floats(arithmetic), for_bits(bitwise);
}

// ---- asynchronous copies -------------------------------------------------------------------------------------------------------------------
inline void async_copy(Lane& lane, const Instruction& i) {  // [shared], [global], bytes to fill, bytes to read
    const unsigned bytes = get<uint32_t>(lane, i.r[2]), read = std::min(get<uint32_t>(lane, i.r[3]), bytes);
    if (bytes != 16 && (bytes != 4 || i.text->name.find(".cg") != std::string::npos) && bytes != 8) fault(i, "copies " + std::to_string(bytes) + " bytes");
    char* to = place(lane, i, i.r[0], SHARED, bytes, true);
    memset(to + lane.launch->shared_bytes, NOBODY, bytes);  // WRITTEN, 0, comes as the bytes do
    const uint64_t from = lane.r[i.r[1]];
    if (from % bytes) fault(i, "the address to copy from is not a multiple of " + std::to_string(bytes));
    if (read) look_at_global(lane, i, (const char*)from, read, false);
    emu::async_copy(to, (const void*)from, read, bytes - read);
    emu::async_copy(to + lane.launch->shared_bytes, nullptr, 0, bytes);
}
inline void define_async_copies() {
    for (const char* name : {"cp.async.cg.shared.global", "cp.async.ca.shared.global"}) table()[name] = async_copy;
    table()["cp.async.commit_group"] = [](Lane&, const Instruction&) { emu::async_commit(); };
    table()["cp.async.wait_group"] = [](Lane& lane, const Instruction& i) { emu::async_wait(get<int>(lane, i.r[0])); };
    table()["cp.async.wait_all"] = [](Lane&, const Instruction&) { emu::async_wait(0); };
}
}  // namespace ptx
