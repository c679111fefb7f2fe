// shared_memory.h: ranks on one machine that share memory: --ranks N, for trying many ranks without MPI. The memory is a descriptor without a name,
// which every rank inherits from the process that started them: nothing is left behind, however they end.
//
// An exchange goes in rounds: each rank puts as much for each other one as fits into its outbox, all meet, each takes what is for it. There are two
// outboxes a rank, taken in turn, so that one meeting a round is enough.
#pragma once
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <string>
#include "failure.h"
#include "transport.h"

namespace shared_memory_detail {
constexpr size_t OUTBOX = 4 << 20;  // bytes; a meeting costs some microseconds, and these some 400 to copy
constexpr size_t VALUES = 4096;     // bytes of host values a rank gives at a time
constexpr int MOST_RANKS = 64;

// What a rank tells the others; each on cache lines of its own.
struct alignas(128) RankState {
    std::atomic<uint32_t> meetings;   // to which it has come: what the others wait for
    std::atomic<int> process;
    std::atomic<int> step;
    std::atomic<int> speaker;         // rank 0's: the rank that says who is late, from 1; 0: nobody was
    Operation operation;              // that it is at; written before it comes, read by who has waited for it
    char what[32];                    // its name: a pointer means nothing to another process
    uint64_t sends[MOST_RANKS];       // bytes for each other rank in this exchange
    char values[VALUES];
};
inline size_t bytes(int world) { return (size_t)world * (sizeof(RankState) + 2 * OUTBOX); }
}  // namespace shared_memory_detail

// Of the memory that ranks of this transport share.
inline size_t shared_memory_bytes(int world) { return shared_memory_detail::bytes(world); }
constexpr int MOST_SHARED_MEMORY_RANKS = shared_memory_detail::MOST_RANKS;

class SharedMemoryTransport : public Transport {
    using RankState = shared_memory_detail::RankState;
    const int rank, world;
    char* const memory;
    uint32_t meetings = 0;  // to which this rank has come

    RankState& state(int r) const { return ((RankState*)memory)[r]; }
    char* outbox(int r, uint64_t round) const { return memory + (size_t)world * sizeof(RankState) + ((size_t)r * 2 + round % 2) * shared_memory_detail::OUTBOX; }
    size_t room() const { return shared_memory_detail::OUTBOX / (size_t)(world - 1) / 64 * 64; }  // of an outbox for one other rank
    // Of the outbox of `from` the part for `to`.
    char* slot(int from, int to, uint64_t round) const { return outbox(from, round) + (size_t)(to - (to > from)) * room(); }

    static void sleep_on(std::atomic<uint32_t>& word, uint32_t value) {  // at most 50 ms: the deadline is looked at in between
        const timespec most{.tv_sec = 0, .tv_nsec = 50'000'000};
        syscall(SYS_futex, &word, FUTEX_WAIT, value, &most, nullptr, 0);  // shared between processes, which std::atomic's is not
    }

    // Every rank has come so often; who is late is named.
    void meet() {
        std::atomic<uint32_t>& mine = state(rank).meetings;
        mine.store(++meetings, std::memory_order_release);
        syscall(SYS_futex, &mine, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
        for (int r = 0; r < world; r++) {
            std::atomic<uint32_t>& theirs = state(r).meetings;
            const double start = flight_recorder().seconds();
            for (int look = 0;; look++) {
                const uint32_t now = theirs.load(std::memory_order_acquire);
                if ((int32_t)(now - meetings) >= 0) break;
                if (look < 2000) { threads_detail::pause(); continue; }
                sleep_on(theirs, now);
                if (flight_recorder().seconds() - start > flight_recorder().deadline) fail_late(r);
            }
        }
    }
    // Who has waited too long first speaks, for all that wait.
    [[noreturn]] void fail_late(int late) const {
        int nobody = 0;
        if (!state(0).speaker.compare_exchange_strong(nobody, rank + 1)) (void)flight_recorder().save(), end_silently(EXIT_COMM);
        comm_failed("rank %d (process %d) has not come within %.4g s: it is at step %d", late, (int)state(late).process, flight_recorder().deadline, (int)state(late).step);
    }
    // Announces the operation; after the meeting every rank must be at the same one.
    void announce() {
        RankState& mine = state(rank);
        mine.operation = flight_recorder().now(), mine.step = flight_recorder().step;
        snprintf(mine.what, sizeof mine.what, "%s", mine.operation.what);
    }
    void compare(bool same_bytes) const {
        const Operation& mine = state(rank).operation;
        for (int r = 0; r < world; r++) {
            const Operation& theirs = state(r).operation;
            if (theirs.sequence != mine.sequence || strcmp(state(r).what, mine.what) || (same_bytes && theirs.bytes != mine.bytes))
                comm_failed("rank %d is at operation %llu, %s of %zu bytes, rank %d at %llu, %s of %zu: they do not make the same run", r,
                            (unsigned long long)theirs.sequence, state(r).what, theirs.bytes, rank, (unsigned long long)mine.sequence, mine.what, mine.bytes);
        }
    }

public:
    // memory: shared_memory_bytes(world), zeros at first, shared by the ranks
    SharedMemoryTransport(int rank_, int world_, void* shared) : rank(rank_), world(world_), memory((char*)shared) {
        state(rank).process = (int)getpid(), state(rank).step = -1;
    }

    void all_gather_host(void* all, size_t bytes) override {
        using namespace shared_memory_detail;
        announce();
        for (size_t at = 0; at < bytes || at == 0; at += VALUES) {
            const size_t n = std::min(VALUES, bytes - at);
            memcpy(state(rank).values, (char*)all + (size_t)rank * bytes + at, n);
            meet();
            compare(true);
            for (int r = 0; r < world; r++) if (r != rank) memcpy((char*)all + (size_t)r * bytes + at, state(r).values, n);
            meet();  // before the values are overwritten
        }
    }

    void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t stream) override {
        RankState& mine = state(rank);
        std::fill_n(mine.sends, world, 0);
        std::vector<size_t> wanted((size_t)world);
        for (const Message& m : sends) mine.sends[m.peer] += m.bytes;
        for (const Message& m : receives) wanted[(size_t)m.peer] += m.bytes;
        announce();
        meet();
        compare(false);
        size_t most = 0;
        for (int from = 0; from < world; from++) {
            const size_t here = state(from).sends[rank];
            if (here != wanted[(size_t)from]) comm_failed("rank %d sends %zu bytes, rank %d expects %zu: they do not make the same run", from, here, rank, wanted[(size_t)from]);
            for (int to = 0; to < world; to++) most = std::max(most, (size_t)state(from).sends[to]);
        }
        if (world < 2 || most == 0) return meet();
        const size_t rounds = (most + room() - 1) / room();
        for (size_t round = 0; round <= rounds; round++) {  // puts those of this round, takes those of the round before
            for (int peer = 0; peer < world; peer++) {
                if (peer == rank) continue;
                if (round > 0) copy_part(receives, peer, round - 1, [&](void* data, char* box, size_t n) { copy_to_device(data, box, n, stream); }, slot(peer, rank, round - 1));
                if (round < rounds) copy_part(sends, peer, round, [&](void* data, char* box, size_t n) { copy_to_device(box, data, n, stream); }, slot(rank, peer, round));
            }
            meet();
        }
    }

    void all_gather(void* all, size_t bytes, stream_t stream) override {
        std::vector<Message> sends, receives;
        for (int r = 0; r < world; r++) {
            if (r == rank) continue;
            sends.push_back({r, (char*)all + (size_t)rank * bytes, bytes});
            receives.push_back({r, (char*)all + (size_t)r * bytes, bytes});
        }
        exchange(sends, receives, stream);
    }

    void leave() override {
        flight_recorder().begin("leave", 0);
        announce();
        meet();
        flight_recorder().end();
    }

private:
    // Of all messages with a peer, one behind the other, the bytes of that round: copy(data, box, n) for what lies together.
    template <class Copy> void copy_part(const std::vector<Message>& messages, int peer, size_t round, Copy copy, char* box) const {
        size_t begin = round * room(), end = begin + room(), at = 0;
        for (const Message& m : messages) {
            if (m.peer != peer) continue;
            const size_t from = std::max(begin, at), to = std::min(end, at + m.bytes);
            if (from < to) copy((char*)m.data + (from - at), box + (from - begin), to - from);
            at += m.bytes;
        }
    }
};
