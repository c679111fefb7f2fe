// nccl_world.h: where the ranks of an emulated communicator meet: memory that they share, and who of them is alive. The memory has no name:
// whoever makes a unique id keeps a file that is in no folder (memfd_create), and the id says which of which process; the others open it as
// /proc/PID/fd/N. When the last process that has it is gone, however it went, so is the memory.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <atomic>
#include <cstring>
#include <new>
#include <string>
#include "copies.h"

#define NCCL_UNIQUE_ID_BYTES 128
struct ncclUniqueId { char internal[NCCL_UNIQUE_ID_BYTES]; };

namespace emu {
constexpr int NCCL_RANKS = 16, NCCL_SPLITS = 4, NCCL_WINDOWS = 4, NCCL_AREAS = 1 + 2 * NCCL_SPLITS;
constexpr size_t NCCL_RING = 16 << 10;  // less than most messages, so that they come in pieces

// Bytes from one rank to another, in order. One process writes, the other reads.
struct Ring {
    std::atomic<uint64_t> written, read;
    char bytes[NCCL_RING];

    size_t put(const char* from, size_t n) {
        const uint64_t at = written, room = NCCL_RING - (at - read);
        n = std::min<size_t>(n, room);
        for (size_t i = 0; i < n; i++) bytes[(at + i) % NCCL_RING] = from[i];
        written = at + n;
        return n;
    }
    size_t take(char* to, size_t n) {
        const uint64_t at = read, there = written - at;
        n = std::min<size_t>(n, there);
        for (size_t i = 0; i < n; i++) to[i] = bytes[(at + i) % NCCL_RING];
        read = at + n;
        return n;
    }
};
// What a rank says when it splits a communicator.
struct Split { std::atomic<bool> said; int color, key; };
// What a rank registers.
struct Registration { std::atomic<bool> said; size_t bytes; };
// A communicator, as all of its ranks see it; zero bytes are one that nobody has joined.
struct Area {
    std::atomic<int> world, claimed_error;
    std::atomic<int> pid[NCCL_RANKS];           // of the process that is this rank
    std::atomic<bool> finalized[NCCL_RANKS];    // it has no more to do here
    std::atomic<int> error;                     // of all ranks; 0: none
    char why[256];
    Split splits[NCCL_SPLITS][NCCL_RANKS];
    Registration registrations[NCCL_WINDOWS][NCCL_RANKS];
    std::atomic<int> child[NCCL_SPLITS][NCCL_RANKS];  // the area of the new communicator whose first rank this is
    Ring rings[NCCL_RANKS][NCCL_RANKS];         // [from][to]

    // The first one to find it says why; every rank gets it as an asynchronous error.
    void fail(int result, const std::string& text) {
        if (claimed_error.exchange(1)) return;
        snprintf(why, sizeof why, "%s", text.c_str());
        error = result;
    }
};
struct World {
    std::atomic<uint64_t> nonce;
    uint64_t seed;                   // of the order in which sums are made
    std::atomic<int> areas;          // taken so far
    Area area[NCCL_AREAS];           // pages that nobody touches take no memory
};
// An open world. It stays open as long as the process lives: a closed file would give up the locks by which others see that it does.
struct OpenWorld { World* world; int fd; };

struct IdContents { char magic[8]; int pid, fd; uint64_t nonce; };
inline OpenWorld map_world(int fd) {
    void* p = mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return {nullptr, -1};
    return {(World*)p, fd};
}
inline bool make_world(ncclUniqueId& id) {
    const int fd = memfd_create("nccl", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)sizeof(World))) return false;
    const OpenWorld open = map_world(fd);
    if (!open.world) return false;
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    open.world->nonce = (uint64_t)now.tv_nsec * 0x9E3779B97F4A7C15 ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid() << 32;
    open.world->seed = random(), open.world->areas = 1;
    const IdContents contents{{'e', 'm', 'u', 'n', 'c', 'c', 'l'}, getpid(), fd, open.world->nonce};
    memset(&id, 0, sizeof id);
    memcpy(&id, &contents, sizeof contents);
    munmap(open.world, sizeof(World));
    return true;
}
// Null where whoever made the id is gone, as nobody answers at its address then, or where it is no id at all.
inline OpenWorld open_world(const ncclUniqueId& id) {
    IdContents contents;
    memcpy(&contents, &id, sizeof contents);
    if (memcmp(contents.magic, "emunccl", 8)) return {nullptr, -1};
    const std::string path = "/proc/" + std::to_string(contents.pid) + "/fd/" + std::to_string(contents.fd);
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return {nullptr, -1};
    if (lseek(fd, 0, SEEK_END) != (off_t)sizeof(World)) return {nullptr, -1};
    const OpenWorld open = map_world(fd);
    return open.world && open.world->nonce == contents.nonce ? open : OpenWorld{nullptr, -1};
}

// A rank's process holds a lock on a byte of the file, which the kernel takes back when the process ends, also before its parent has waited for it.
inline struct flock lock_of(int area, int rank, short type) {
    struct flock lock = {};
    lock.l_type = type, lock.l_whence = SEEK_SET, lock.l_start = area * NCCL_RANKS + rank, lock.l_len = 1;
    return lock;
}
inline void say_alive(const OpenWorld& open, int area, int rank) {
    struct flock lock = lock_of(area, rank, F_WRLCK);
    fcntl(open.fd, F_SETLK, &lock);
}
inline bool is_dead(const OpenWorld& open, int area, int rank) {
    const Area& a = open.world->area[area];
    if (!a.pid[rank] || a.pid[rank] == getpid() || a.finalized[rank]) return false;
    struct flock lock = lock_of(area, rank, F_WRLCK);
    return fcntl(open.fd, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

// What a test wants to go wrong: "rank:operation" in a variable; operations are those of all communicators that the process begins, from 1.
// Ranks are those of the first communicator, the world's.
inline int& world_rank() { static int r = -1; return r; }
inline bool asked_for(const char* variable, long operation) {
    const char* told = getenv(variable);
    int rank = -1;
    long which = -1;
    return told && sscanf(told, "%d:%ld", &rank, &which) == 2 && rank == world_rank() && which == operation;
}
inline long told(const char* variable, long otherwise) { const char* t = getenv(variable); return t ? atol(t) : otherwise; }
// EMU_NCCL_DELAY_SEED: each rank takes its time, each in a way of its own.
inline void delay() {
    static uint64_t x = state_of_seed((uint64_t)told("EMU_NCCL_DELAY_SEED", 0) * 64 + (uint64_t)world_rank());
    if (!getenv("EMU_NCCL_DELAY_SEED")) return;
    x = next_state(x);
    if ((x >> 40) % 8 == 0) usleep((unsigned)((x >> 20) % 2000));
}
}  // namespace emu
