// blocks.h: runs the threads of a kernel: several blocks at a time, in an order drawn from the seed; a thread runs until it
// reaches a barrier or a warp operation, waits there for the threads it synchronizes with, and continues when all have arrived.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>
#include "fiber.h"
#include "language.h"
#include "seed.h"
#include "statics.h"
#include "watch.h"

namespace emu {
using Where = std::source_location;

// ---- what runs ------------------------------------------------------------------------------------------------------
struct Rendezvous {            // lanes of a warp that synchronize in an operation
    const void* kind;          // of the operation
    unsigned mask, arrived;
    const void* in[32];        // of those that have arrived; others are not set
    void* out[32];
};
struct Warp { unsigned n = 0; Rendezvous open[32]; };  // each was opened by another lane, which waits in it
struct AsyncCopy { void* dst; const void* src; unsigned bytes, zeros; int group; };
struct Thread {
    Fiber fiber;
    uint3 index;
    unsigned linear;
    const char* waits_for;     // null: it may run
    unsigned in_line;          // of the barrier
    std::vector<AsyncCopy> copies;
    int groups;                // commits so far
    bool waited;               // for the kernels before, of a kernel that was launched early
};
constexpr unsigned MOST_THREADS = 1024;
struct Block {  // arrays: a switch looks at them a dozen times, and where a look is compiled in, each call for a vector costs more than the switch
    uint3 index;
    unsigned number;
    Thread* threads[MOST_THREADS];
    unsigned made = 0;                   // as many as it ever had: those beyond the block's own are done
    unsigned ready[MOST_THREADS], n_ready = 0;
    unsigned alive, at_barrier;
    const char* barrier_file;
    unsigned barrier_line;
    int any, all, count;                 // of the predicates of the barrier at which threads wait now
    int met_any, met_all, met_count;     // ... and of the last one
    Warp warps[MOST_THREADS / 32];
    char* shared = nullptr;              // dynamic
    Kept statics;                        // its static shared memory while another block runs
    ~Block() { while (made) delete threads[--made]; }
};
struct Machine {
    Block* block = nullptr;    // that runs now
    Thread* thread = nullptr;  // null: the scheduler or the host
    Thread* next = nullptr;    // of the turn behind this one: its stack comes to the cache meanwhile (LOG 76)
    size_t turns = 0;          // that the block has left before another one has the processor
    const std::function<void()>* body = nullptr;
    std::string kernel;
    size_t shared_bytes = 0;
    bool early = false;        // launched before those that it depends on have ended (programmatic dependent launch)
    int code = 90;             // the architecture that the kernel's code was made for (launch.h)
    bool failed = false;
    std::vector<std::unique_ptr<Block>> pool;
};
constinit inline Machine the_machine;
EMU_OWN inline Machine& machine() { return the_machine; }  // without a guard: it is asked a dozen times a switch

// A mistake in a kernel: one line; the kernel is given up, and every later call returns an error, as on a GPU.
inline bool& g_fault() { static bool f = false; return f; }
inline void (*on_fault)(const Thread&) = nullptr;  // who wants to see the stack of the thread that made it, or that waits for ever
inline void fault(const std::string& what, const Thread* of = machine().thread) {
    Machine& m = machine();
    if (of && on_fault) on_fault(*of);
    fflush(stdout);
    if (m.block) {
        fprintf(stderr, "emulator: %s: block (%u,%u,%u) thread %u: %s\n", m.kernel.c_str(), m.block->index.x, m.block->index.y,
                m.block->index.z, m.thread ? m.thread->linear : 0, what.c_str());
    } else fprintf(stderr, "emulator: %s\n", what.c_str());
    fflush(stderr);
    g_fault() = m.failed = true;
    if (m.thread) suspend(m.thread->fiber);  // never comes back
}

// ---- waiting -----------------------------------------------------------------------------------------------------------
// One of the threads that may run, at random; none: null.
EMU_OWN inline Thread* take_ready(Block& b) {
    if (b.n_ready == 0) return nullptr;
    const unsigned pick = random(b.n_ready), number = b.ready[pick];
    b.ready[pick] = b.ready[--b.n_ready];
    return b.threads[number];
}
EMU_OWN inline Thread* next_turn(Block& b) {
    Machine& m = machine();
    Thread* t = m.next ? m.next : take_ready(b);
    m.next = take_ready(b);
    for (int line = 0; m.next && line < 4; line++) __builtin_prefetch((char*)m.next->fiber.sp + 64 * line);
    if (t) m.thread = t, threadIdx = t->index;
    return t;
}
// The end of the turn of the thread that runs: the next one goes on from here, and the scheduler when the block's turns are over or nobody may run.
EMU_OWN inline void give_way() {
    Machine& m = machine();
    Block& b = *m.block;
    Thread *me = m.thread, *t = nullptr;
    EMU_WATCH(thread_runs(-1));
    if (--m.turns && b.alive && !m.failed) t = next_turn(b);
    if (!t) return suspend(me->fiber);
    EMU_WATCH(thread_runs((int)t->linear));
    if (t != me) switch_to(me->fiber, t->fiber);
}
EMU_OWN inline void wait_for(const char* what, unsigned line) {
    Thread* t = machine().thread;
    t->waits_for = what, t->in_line = line;
    give_way();
}
EMU_OWN inline void make_ready(Block& b, const Thread& t) { b.ready[b.n_ready++] = t.linear; }
EMU_OWN inline void wake(Block& b, Thread& t) { t.waits_for = nullptr, make_ready(b, t); }
EMU_OWN inline void pause() {  // lets others go first, now and then
    make_ready(*machine().block, *machine().thread);
    give_way();
}

constexpr const char* BARRIER = "__syncthreads";
EMU_OWN inline void release_barrier(Block& b) {
    b.met_any = b.any, b.met_all = b.all, b.met_count = b.count;
    b.any = 0, b.all = 1, b.count = 0, b.at_barrier = 0, b.barrier_file = nullptr;
    EMU_WATCH(barrier(b.number));
    for (unsigned i = 0; i < b.made; i++) if (Thread& t = *b.threads[i]; t.waits_for == BARRIER) wake(b, t);
}
EMU_OWN inline void barrier(int predicate, Where where) {
    Block& b = *machine().block;
    if (b.barrier_file && (b.barrier_line != where.line() || (b.barrier_file != where.file_name() && strcmp(b.barrier_file, where.file_name()))))
        fault(std::string("divergent __syncthreads: this one in line ") + std::to_string(where.line()) + ", that of other threads in line " + std::to_string(b.barrier_line));
    b.barrier_file = where.file_name(), b.barrier_line = where.line();
    b.any |= predicate != 0, b.all &= predicate != 0, b.count += predicate != 0;
    Thread* me = machine().thread;
    me->waits_for = BARRIER, me->in_line = where.line();
    if (++b.at_barrier == b.alive) release_barrier(b);
    give_way();
}

// Synchronizes the lanes of `mask`, and only them; compute(in, out), over arrays of 32, runs once, in the last lane to arrive.
template <class Out, class In, class Compute> EMU_OWN Out warp_collective(unsigned mask, const In& mine, Compute compute) {
    static const char kind = 0;  // one address for each operation
    Machine& m = machine();
    Block& b = *m.block;
    const unsigned lane = m.thread->linear % 32, first = m.thread->linear - lane;
    if (!(mask >> lane & 1)) fault("the mask of a warp operation does not name its caller");
    Out result{};
    Warp& w = b.warps[first / 32];
    unsigned i = 0;
    while (i < w.n && !(w.open[i].mask >> lane & 1)) i++;
    Rendezvous& r = w.open[i];
    if (i == w.n) r.kind = &kind, r.mask = mask, r.arrived = 0, w.n++;
    if (r.kind != &kind) fault("lanes of a warp synchronize in different operations");
    if (r.mask != mask) fault("lanes of a warp synchronize with different masks");
    r.arrived |= 1u << lane, r.in[lane] = &mine, r.out[lane] = &result;
    if (r.arrived != mask) {
        wait_for("the other lanes of a warp operation", 0);
        return result;
    }
    In in[32]{};
    Out out[32]{};
    for (unsigned l = 0; l < 32; l++) if (mask >> l & 1) in[l] = *(const In*)r.in[l];
    compute((const In*)in, (Out*)out);
    for (unsigned l = 0; l < 32; l++) if (mask >> l & 1) {
        *(Out*)r.out[l] = out[l];
        if (l != lane) wake(b, *b.threads[first + l]);
    }
    if (i + 1 < w.n) r = w.open[w.n - 1];
    w.n--;
    return result;
}

// ---- a kernel ----------------------------------------------------------------------------------------------------------
inline void thread_entry() {
    first_entry();
    Machine& m = machine();
    (*m.body)();
    Thread* me = m.thread;
    Block& b = *m.block;
    if (!me->copies.empty()) fault("a thread ends with asynchronous copies in flight");
    if (!me->waited) fault("a kernel was launched early, and a thread ends without cudaGridDependencySynchronize");
    me->fiber.done = true;
    b.alive--;
    if (b.alive && b.at_barrier == b.alive) release_barrier(b);
    m.turns--;
    suspend(me->fiber);  // the scheduler goes on: give_way never returned here, and ASan's red zones of its frame would stay on the stack of the next thread
}

inline char* shared_alloc(size_t bytes) {  // red zones of 4 KB around it
    char* p = (char*)aligned_alloc(4096, (bytes + 4095) / 4096 * 4096 + 8192);
    memset(p, 0xff, bytes + 8192);
#ifdef EMU_ASAN
    __asan_poison_memory_region(p, 4096);
    __asan_poison_memory_region(p + 4096 + bytes, (bytes + 4095) / 4096 * 4096 + 4096 - bytes);
#endif
    return p + 4096;
}
inline void shared_free(char* p, [[maybe_unused]] size_t bytes) {
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(p - 4096, (bytes + 4095) / 4096 * 4096 + 8192);
#endif
    free(p - 4096);
}

inline std::unique_ptr<Block> begin_block(unsigned number) {
    Machine& m = machine();
    std::unique_ptr<Block> b;
    if (!m.pool.empty()) b = std::move(m.pool.back()), m.pool.pop_back();
    else b.reset(new Block);  // half a megabyte, not cleared
    const unsigned n = blockDim.x * blockDim.y * blockDim.z;
    b->number = number;
    b->index = {number % gridDim.x, number / gridDim.x % gridDim.y, number / gridDim.x / gridDim.y};
    b->alive = n, b->at_barrier = 0, b->any = 0, b->all = 1, b->count = 0, b->barrier_file = nullptr;
    while (b->made < n) b->threads[b->made++] = new Thread;
    for (unsigned i = 0; i < n; i++) {
        Thread& t = *b->threads[i];
        t.linear = i, t.waits_for = nullptr, t.copies.clear(), t.groups = 0, t.waited = !m.early;
        t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        prepare(t.fiber, thread_entry);
        make_ready(*b, t);
    }
    b->shared = shared_alloc(m.shared_bytes);
    b->statics.lines.clear(), b->statics.bytes.clear();
    EMU_WATCH(block_begins(number, n, b->shared, m.shared_bytes));
    return b;
}

// All blocks of a grid, on the device's thread.
inline void run_grid(const std::string& kernel, dim3 grid, dim3 block, size_t shared_bytes, bool early, int code, const std::function<void()>& body) {
    constexpr size_t RESIDENT = 4;
    Machine& m = machine();
    m.kernel = kernel, m.body = &body, m.shared_bytes = shared_bytes, m.early = early, m.code = code, m.failed = false;
    gridDim = grid, blockDim = block;
    const Statics statics = find_statics();
    const unsigned blocks = grid.x * grid.y * grid.z;
    EMU_WATCH(kernel_begins(blocks));
    std::vector<std::unique_ptr<Block>> resident;
    Block* held = nullptr;  // whose static shared memory is where the code looks for it
    if (statics.size) memset(statics.begin, 0xff, statics.size);
    unsigned next = 0;
    while ((next < blocks || !resident.empty()) && !m.failed) {
        while (next < blocks && resident.size() < RESIDENT) resident.push_back(begin_block(next++));
        const size_t which = random((uint32_t)resident.size());
        Block& b = *resident[which];
        m.block = &b, blockIdx = b.index;
        if (held != &b) {
            if (held) put_away(statics, held->statics);
            put_back(statics, b.statics), held = &b;
        }
        EMU_WATCH(block_moves(b.number, b.shared, shared_bytes));
        // a block keeps the processor for a while: now and then only for a few threads, so that blocks overtake each other
        m.turns = 1 + random(random(4) ? 16 * b.alive : 8);
        while (m.turns && b.alive && !m.failed) {
            Thread* t = next_turn(b);
            if (!t) {
                for (unsigned i = 0; i < b.made; i++) if (Thread* waiting = b.threads[i]; !waiting->fiber.done) {
                    const std::string what = waiting->waits_for + (waiting->in_line ? " in line " + std::to_string(waiting->in_line) : std::string());
                    m.thread = nullptr;
                    fault("thread " + std::to_string(waiting->linear) + " waits for ever for " + what, waiting);
                    break;
                }
                break;
            }
            EMU_WATCH(thread_runs((int)t->linear));
            resume(t->fiber);
            EMU_WATCH(thread_runs(-1));
            m.thread = nullptr;
        }
        if (m.next) make_ready(b, *m.next), m.next = nullptr;
        m.block = nullptr;
        if (b.alive && !m.failed) continue;
        EMU_WATCH(block_ends(b.number));
        put_away(statics, b.statics), held = nullptr;  // nobody has it: 0xff
        shared_free(b.shared, shared_bytes);
        if (!m.failed) m.pool.push_back(std::move(resident[which]));
        resident.erase(resident.begin() + (long)which);
    }
    for (auto& b : resident) shared_free(b->shared, shared_bytes);
    EMU_WATCH(kernel_ends());
}

// ---- asynchronous copies to shared memory: they happen some time between their commit and the wait for it --------------
inline void copy_now(const AsyncCopy& c) {
    EMU_WATCH(read(c.src, c.bytes));
    memcpy(c.dst, c.src, c.bytes);
    memset((char*)c.dst + c.bytes, 0, c.zeros);
    EMU_WATCH(written(c.dst, c.bytes + c.zeros));
}
inline void async_copy(void* dst, const void* src, unsigned bytes, unsigned zeros) {
    Thread& t = *machine().thread;
    t.copies.push_back({dst, src, bytes, zeros, t.groups});
    if (random(8) == 0) copy_now(t.copies.back()), t.copies.pop_back();  // the earliest; most come as late as they may
}
inline void async_commit() { machine().thread->groups++; }
inline void async_wait(int pending) {  // all but the last `pending` groups
    Thread& t = *machine().thread;
    std::erase_if(t.copies, [&](const AsyncCopy& c) {
        if (c.group >= t.groups - pending) return false;
        copy_now(c);
        return true;
    });
}
inline char* dynamic_shared() { return machine().block->shared; }

}  // namespace emu

// Of a kernel that is launched early: every thread must come here, and may not touch device memory before (watch.cpp sees it).
inline void cudaGridDependencySynchronize() { emu::machine().thread->waited = true; }
inline void cudaTriggerProgrammaticLaunchCompletion() {}
