// nccl_operations.h: what an operation of an emulated communicator does: its calls become messages between pairs of ranks, which move piece by piece
// while the operation is on the device. Nothing is written before all has come: until then the buffers that are to be written are NaN, and those
// that are read must stay as they are.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include "cuda_bf16.h"
#include "graphs.h"
#include "nccl_world.h"

#define EMU_NCCL_RESULTS(R)                                                                                                                   \
    R(ncclSuccess, 0, "no error") R(ncclUnhandledCudaError, 1, "unhandled cuda error (run with NCCL_DEBUG=INFO for details)")                 \
    R(ncclSystemError, 2, "unhandled system error (run with NCCL_DEBUG=INFO for details)")                                                    \
    R(ncclInternalError, 3, "internal error - please report this issue to the NCCL developers")                                               \
    R(ncclInvalidArgument, 4, "invalid argument (run with NCCL_DEBUG=WARN for details)")                                                      \
    R(ncclInvalidUsage, 5, "invalid usage (run with NCCL_DEBUG=WARN for details)")                                                            \
    R(ncclRemoteError, 6, "remote process exited or there was a network error") R(ncclInProgress, 7, "NCCL operation in progress")
enum ncclResult_t : int {
#define R(name, number, text) name = number,
    EMU_NCCL_RESULTS(R)
#undef R
    ncclNumResults = 8
};
#define EMU_NCCL_TYPES(T)                                                                                                                     \
    T(ncclInt8, 0, 1) T(ncclUint8, 1, 1) T(ncclInt32, 2, 4) T(ncclUint32, 3, 4) T(ncclInt64, 4, 8) T(ncclUint64, 5, 8) T(ncclFloat16, 6, 2)   \
    T(ncclFloat32, 7, 4) T(ncclFloat64, 8, 8) T(ncclBfloat16, 9, 2)
enum ncclDataType_t : int {
#define T(name, number, bytes) name = number,
    EMU_NCCL_TYPES(T)
#undef T
    ncclNumTypes = 10, ncclChar = 0, ncclInt = 2, ncclHalf = 6, ncclFloat = 7, ncclDouble = 8
};
enum ncclRedOp_t : int { ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg, ncclNumOps };
using ncclComm_t = struct ncclComm*;
using ncclWindow_t = struct ncclWindow_vidmem*;

namespace emu {
inline const char* type_name(int type) {
#define T(name, number, bytes) if (type == number) return #name;
    EMU_NCCL_TYPES(T)
#undef T
    return "a type that is none";
}
inline size_t type_bytes(int type) {
#define T(name, number, bytes) if (type == number) return bytes;
    EMU_NCCL_TYPES(T)
#undef T
    return 0;
}

// In which window of its communicator a buffer lies (-1: in none), and where.
struct InWindow { int window = -1; uint64_t at = 0; bool operator==(const InWindow&) const = default; };
struct NcclWindow { ncclComm_t comm; char* p; size_t bytes; int number; };
inline std::map<ncclWindow_t, std::shared_ptr<NcclWindow>>& nccl_windows() { static std::map<ncclWindow_t, std::shared_ptr<NcclWindow>> all; return all; }

enum class NcclCall { SEND, RECV, ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, BROADCAST };
struct NcclTask {
    NcclCall call;
    const char* in;
    char* out;
    size_t count;
    ncclDataType_t type;
    int op = ncclSum, peer = -1;  // peer: of send and receive; the root of a broadcast
    InWindow reads = {}, writes = {};
    size_t bytes() const { return count * type_bytes(type); }
};
inline std::string describe(NcclCall call, int type, uint64_t count) {
    const char* names[] = {"ncclSend", "ncclRecv", "ncclAllGather", "ncclAllReduce", "ncclReduceScatter", "ncclBroadcast"};
    return std::string(names[(int)call]) + " of " + std::to_string(count) + " " + type_name(type);
}

struct MessageHeader { NcclCall call; int type, op, root; uint64_t count; InWindow reads, writes; };
struct NcclFlow {
    MessageHeader header;
    const char* from = nullptr;   // of what is sent
    std::vector<char> into = {};  // of what comes
    size_t bytes = 0, at = 0;     // at: header included
    uint64_t end = 0;             // where the ring stands when all has been written
    MessageHeader came = {};
};

}  // namespace emu
struct ncclComm {
    emu::OpenWorld open;
    int index, rank, world;               // index: of its area
    bool blocking, notices;               // notices: that a rank it waits for has died
    ncclResult_t error = ncclSuccess;     // asynchronous
    std::function<bool()> busy = nullptr; // what is in progress; true at its end
    int polls = 0;                        // that find it in progress, at least
    int splits = 0, registrations = 0;
    uint64_t begun = 0;                   // operations
    bool on_device = false, finalized = false, gone = false;
    emu::OpPtr last = nullptr, last_captured = nullptr;
    emu::CapturePtr capture = nullptr;    // that last_captured is in
    emu::Area& area() { return open.world->area[index]; }
};
namespace emu {
using CommPtr = std::shared_ptr<ncclComm>;
inline std::map<ncclComm_t, CommPtr>& comms() { static std::map<ncclComm_t, CommPtr> all; return all; }
inline std::string& last_words() { static std::string text; return text; }
inline long& operations_begun() { static long n = 0; return n; }

struct Span {
    char* p;
    size_t n;
    bool overlaps(const Span& o) const { return n && o.n && p < o.p + o.n && o.p < p + n; }
};
// What a task reads and writes. Where the input of a collective lies in its output, in the one place where it may, it is no output.
inline std::vector<Span> inputs(const NcclTask& t, const ncclComm& c) {
    switch (t.call) {
        case NcclCall::RECV: return {};
        case NcclCall::REDUCE_SCATTER: return {{(char*)t.in, (size_t)c.world * t.bytes()}};
        case NcclCall::BROADCAST: if (t.peer != c.rank) return {}; [[fallthrough]];
        default: return {{(char*)t.in, t.bytes()}};
    }
}
inline std::vector<Span> outputs(const NcclTask& t, const ncclComm& c) {
    const size_t n = t.bytes();
    std::vector<Span> all;
    switch (t.call) {
        case NcclCall::SEND: break;
        case NcclCall::ALL_GATHER:
            for (int r = 0; r < c.world; r++) if (t.out + (size_t)r * n != t.in || r != c.rank) all.push_back({t.out + (size_t)r * n, n});
            break;
        case NcclCall::REDUCE_SCATTER: if (t.out != t.in + (size_t)c.rank * n) all.push_back({t.out, n}); break;
        default: if (t.out != t.in) all.push_back({t.out, n});
    }
    return all;
}
inline bool is_window(ncclComm_t comm, int number) {
    for (const auto& [handle, w] : nccl_windows()) if (w->comm == comm && w->number == number) return true;
    return false;
}
// Where all ranks must have it: of what each reads or writes a block of its own in place, where the whole is.
inline InWindow place_in_window(const NcclTask& t, const ncclComm& c, bool writes) {
    const size_t n = t.bytes(), own = (size_t)c.rank * n;
    const bool in_place = t.call == NcclCall::ALL_GATHER ? t.in == t.out + own : t.call == NcclCall::REDUCE_SCATTER && t.out == t.in + own;
    const bool block = in_place && writes == (t.call == NcclCall::REDUCE_SCATTER);
    const char* p = (writes ? t.out : t.in) - (block ? own : 0);
    const size_t whole = block || (writes ? t.call == NcclCall::ALL_GATHER : t.call == NcclCall::REDUCE_SCATTER) ? (size_t)c.world * n : n;
    for (const auto& [handle, w] : nccl_windows()) if (w->comm == &c && p >= w->p && p + whole <= w->p + w->bytes) return {w->number, (uint64_t)(p - w->p)};
    return {};
}
inline uint64_t checksum(const Span& s) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * 1099511628211u;
    return h;
}

// out = the sum of the ranks' parts, piece by piece of 64 elements in an order of its own, each addition rounded, as by a ring of GPUs or a switch:
// the same on all ranks.
template <class X, class Add> void add_parts(char* out, const std::vector<const char*>& parts, size_t n, uint64_t seed, Add add) {
    for (size_t begin = 0; begin < n; begin += 64) {
        std::vector<size_t> order(parts.size());
        for (size_t i = 0; i < order.size(); i++) order[i] = i;
        uint64_t x = state_of_seed(seed + begin);
        for (size_t i = order.size(); i > 1; i--) x = next_state(x), std::swap(order[i - 1], order[(x >> 32) % i]);
        for (size_t i = begin; i < std::min(begin + 64, n); i++) {
            X sum, one;
            memcpy((void*)&sum, parts[order[0]] + i * sizeof(X), sizeof(X));
            for (size_t k = 1; k < order.size(); k++) memcpy((void*)&one, parts[order[k]] + i * sizeof(X), sizeof(X)), sum = add(sum, one);
            memcpy(out + i * sizeof(X), (void*)&sum, sizeof(X));
        }
    }
}
inline bool can_reduce(int type, int op) { return (op == ncclSum || op == ncclMax) && type != ncclFloat16; }
inline void reduce(char* out, const std::vector<const char*>& parts, size_t n, int type, int op, uint64_t seed) {
    const auto go = [&](auto zero) {
        using X = decltype(zero);
        if (op == ncclMax) add_parts<X>(out, parts, n, seed, [](X a, X b) { return a < b ? b : a; });
        else add_parts<X>(out, parts, n, seed, [](X a, X b) { return X(a + b); });
    };
    switch (type) {
        case ncclInt8: return go((int8_t)0);
        case ncclUint8: return go((uint8_t)0);
        case ncclInt32: return go((int32_t)0);
        case ncclUint32: return go((uint32_t)0);
        case ncclInt64: return go((int64_t)0);
        case ncclUint64: return go((uint64_t)0);
        case ncclFloat32: return go(0.0f);
        case ncclFloat64: return go(0.0);
        case ncclBfloat16:
            return add_parts<__nv_bfloat16>(out, parts, n, seed, [=](__nv_bfloat16 a, __nv_bfloat16 b) {
                return __nv_bfloat16(op == ncclMax ? std::max((float)a, (float)b) : (float)a + (float)b);
            });
    }
}

// All calls of a group on one communicator: one kernel.
class NcclWork {
public:
    NcclWork(CommPtr comm, std::vector<NcclTask> tasks) : comm_(std::move(comm)), tasks_(std::move(tasks)) {}

    // On the device, in the order of the stream; once for each launch of a graph.
    void begin() {
        done_ = started_ = stuck_ = false;
    }
    Moved go_on() {
        ncclComm& c = *comm_;
        if (done_) return Moved::ALL;
        if (c.gone) {
            if (!started_) fault("an operation of a communicator that was destroyed or aborted is begun");
            c.on_device = false;
            return Moved::ALL;
        }
        if (!started_) {
            if (c.on_device) return Moved::NOTHING;  // another operation of this communicator, of a graph or beside one
            start();
            if (g_fault()) return Moved::ALL;
        }
        if (stuck_ || c.error != ncclSuccess || c.area().error) return Moved::NOTHING;  // until it is aborted
        delay();
        bool moved = false, all = true;
        for (auto& [peer, queue] : sends_) moved |= send(peer, queue);
        for (auto& [peer, queue] : receives_) moved |= receive(peer, queue);
        for (auto& [peer, queue] : sends_) all &= queue.empty();
        for (auto& [peer, queue] : receives_) all &= queue.empty();
        for (auto& [peer, end] : wait_read_) all &= c.area().rings[c.rank][peer].read >= end;
        if (all) { finish(); return Moved::ALL; }
        if (!moved) look_for_the_dead();
        return moved ? Moved::SOME : Moved::NOTHING;
    }

private:
    void start() {
        ncclComm& c = *comm_;
        started_ = c.on_device = true, number_ = ++c.begun;
        sends_.clear(), receives_.clear(), arrived_.clear(), wait_read_.clear(), sums_.clear();
        const long n = ++operations_begun();
        if (asked_for("EMU_NCCL_DIE", n)) kill(getpid(), SIGKILL);
        if (asked_for("EMU_NCCL_STOP", n)) raise(SIGSTOP);
        stuck_ = asked_for("EMU_NCCL_HANG", n);
        if (asked_for("EMU_NCCL_ERROR", n)) c.error = ncclSystemError, last_words() = "an error on request";
        rendezvous_ = random(2);
        for (const NcclTask& t : tasks_) {
            for (const std::vector<Span>& spans : {inputs(t, c), outputs(t, c)})
                for (const Span& s : spans)
                    if (s.n && !is_alive(s)) return fault(describe(t.call, t.type, t.count) + ": its memory was freed before");
            for (const InWindow& place : {t.reads, t.writes})
                if (place.window >= 0 && !is_window(&c, place.window)) return fault(describe(t.call, t.type, t.count) + ": its window was deregistered before");
            for (const Span& s : inputs(t, c)) { EMU_WATCH(read(s.p, s.n)); sums_.push_back({s, checksum(s)}); }
            for (const Span& s : outputs(t, c)) if (s.n) memset(s.p, 0xff, s.n);  // the library may write them from now on
            lower(t);
        }
    }
    static bool is_alive(const Span& s) {
        auto* a = memory().find(memory().in_region(s.p) ? memory().device : memory().pinned, s.p);
        return a && s.p + s.n <= a->first + a->second.bytes;
    }
    void lower(const NcclTask& t) {
        ncclComm& c = *comm_;
        const bool pair = t.call == NcclCall::SEND || t.call == NcclCall::RECV;
        MessageHeader header{pair ? NcclCall::SEND : t.call, t.type, t.op, t.call == NcclCall::BROADCAST ? t.peer : -1, t.count, t.reads, t.writes};
        if (pair) header.reads = {std::max(t.reads.window, t.writes.window), 0}, header.writes = {};  // either both are registered or neither
        const auto out = [&](int peer, const char* from, size_t n) { sends_[peer].push_back({.header = header, .from = from, .bytes = n}); };
        const auto in = [&](int peer, size_t n) { receives_[peer].push_back({.header = header, .into = std::vector<char>(n), .bytes = n}); };
        const auto block = [&](int r) { return t.call == NcclCall::REDUCE_SCATTER ? t.in + (size_t)r * t.bytes() : t.in; };
        if (t.call == NcclCall::SEND) return out(t.peer, t.in, t.bytes());
        if (t.call == NcclCall::RECV) return in(t.peer, t.bytes());
        for (int r = 0; r < c.world; r++) {
            if (r == c.rank) continue;
            // a broadcast too says to everyone that it is one
            out(r, block(r), t.call == NcclCall::BROADCAST && t.peer != c.rank ? 0 : t.bytes());
            in(r, t.call == NcclCall::BROADCAST && t.peer != r ? 0 : t.bytes());
        }
    }

    bool send(int peer, std::deque<NcclFlow>& queue) {
        if (queue.empty()) return false;
        Ring& ring = comm_->area().rings[comm_->rank][peer];
        NcclFlow& f = queue.front();
        const size_t before = f.at, H = sizeof f.header;
        if (f.at < H) f.at += ring.put((const char*)&f.header + f.at, H - f.at);
        if (f.at >= H && f.at < H + f.bytes) f.at += ring.put(f.from + (f.at - H), H + f.bytes - f.at);
        const bool moved = f.at > before;
        if (f.at == H + f.bytes) {
            if (rendezvous_) wait_read_[peer] = ring.written;
            queue.pop_front();
            return true;
        }
        return moved;
    }
    bool receive(int peer, std::deque<NcclFlow>& queue) {
        for (NcclFlow& f : queue) {
            const size_t H = sizeof f.header;
            if (f.at == H + f.bytes) continue;
            Ring& ring = comm_->area().rings[peer][comm_->rank];
            const size_t before = f.at;
            if (f.at < H) {
                f.at += ring.take((char*)&f.came + f.at, H - f.at);
                if (f.at == H && !fits(f, peer)) { f.at = 0, stuck_ = true; return false; }
            }
            if (f.at >= H && f.at < H + f.bytes) f.at += ring.take(f.into.data() + (f.at - H), H + f.bytes - f.at);
            if (&f == &queue.back() && f.at == H + f.bytes) {
                for (NcclFlow& whole : queue) arrived_[peer].push_back(std::move(whole.into));
                queue.clear();
                return true;
            }
            return f.at > before;
        }
        return false;
    }
    // Does what a peer has sent belong to what this rank calls? The library does not ask: it hangs, or writes something.
    bool fits(const NcclFlow& f, int peer) {
        const MessageHeader &mine = f.header, &came = f.came;
        if (mine.call == came.call && mine.type == came.type && mine.op == came.op && mine.root == came.root && mine.count == came.count && mine.reads == came.reads && mine.writes == came.writes) return true;
        ncclComm& c = *comm_;
        const char* told = getenv("EMU_NCCL_MISMATCH");
        if (told && !strcmp(told, "hang")) return false;
        const std::string text = "rank " + std::to_string(c.rank) + " calls " + describe(mine.call == NcclCall::SEND ? NcclCall::RECV : mine.call, mine.type, mine.count) +
            " where rank " + std::to_string(peer) + " calls " + describe(came.call, came.type, came.count) +
            (mine.reads.window != came.reads.window || mine.writes.window != came.writes.window ? ", of which one lies in a window and the other does not" :
             mine.call == came.call && !(mine.reads == came.reads && mine.writes == came.writes) ? ", at another place of the window" :
             mine.call == came.call && mine.root != came.root ? ", of another root" : mine.call == came.call && mine.op != came.op ? ", by another operator" : "");
        fprintf(stderr, "emulator: NCCL: %s\n", text.c_str());
        c.area().fail(ncclInvalidUsage, text);
        return false;
    }
    // A dead rank is noticed where a connection to it breaks: always between machines, within one often not.
    void look_for_the_dead() {
        ncclComm& c = *comm_;
        if (!c.notices || ++looks_ % 64) return;
        for (auto* queues : {&sends_, &receives_})
            for (auto& [peer, queue] : *queues)
                if (!queue.empty() && is_dead(c.open, c.index, peer)) {
                    c.error = ncclRemoteError, last_words() = "connection closed by remote peer: rank " + std::to_string(peer);
                    return;
                }
    }
    void finish() {
        ncclComm& c = *comm_;
        size_t read = 0, written = 0;
        for (auto& [span, sum] : sums_) {
            read += span.n;
            if (checksum(span) != sum) fault("NCCL: a buffer was written while it was being sent: no event between?");
        }
        for (const NcclTask& t : tasks_)
            for (const Span& s : outputs(t, c))
                for (size_t i = 0; i < s.n; i++)
                    if (s.p[i] != (char)0xff) { fault("NCCL: a buffer was written by others while it was being received: no event between?"); break; }
        std::map<int, size_t> taken;
        const auto next = [&](int peer) -> std::vector<char>& { return arrived_[peer][taken[peer]++]; };
        for (const NcclTask& t : tasks_) {
            const size_t n = t.bytes();
            std::vector<std::vector<char>> parts((size_t)c.world);  // of a collective
            if (t.call == NcclCall::RECV) { const auto& x = next(t.peer); if (n) memcpy(t.out, x.data(), n); }
            else if (t.call != NcclCall::SEND) for (int r = 0; r < c.world; r++) if (r != c.rank) parts[(size_t)r] = std::move(next(r));
            if (!n) continue;
            const char* own = t.call == NcclCall::REDUCE_SCATTER ? t.in + (size_t)c.rank * n : t.in;
            const auto part = [&](int r) { return r == c.rank ? own : parts[(size_t)r].data(); };
            if (t.call == NcclCall::ALL_GATHER) for (int r = 0; r < c.world; r++) memmove(t.out + (size_t)r * n, part(r), n);
            if (t.call == NcclCall::BROADCAST) memmove(t.out, part(t.peer), n);
            if (t.call == NcclCall::ALL_REDUCE || t.call == NcclCall::REDUCE_SCATTER) {
                std::vector<const char*> all;
                for (int r = 0; r < c.world; r++) all.push_back(part(r));
                std::vector<char> sum(n);
                reduce(sum.data(), all, t.count, t.type, t.op, c.open.world->seed * 977 + number_);
                memcpy(t.out, sum.data(), n);
            }
            for (const Span& s : outputs(t, c)) { EMU_WATCH(written(s.p, s.n)); written += s.n; }
        }
        tell({Event::WORK, "nccl", once(read, written)});
        done_ = true, c.on_device = false;
    }

    CommPtr comm_;
    std::vector<NcclTask> tasks_;
    bool done_ = false, started_ = false, stuck_ = false, rendezvous_ = false;
    uint64_t number_ = 0, looks_ = 0;
    std::map<int, std::deque<NcclFlow>> sends_, receives_;
    std::map<int, std::vector<std::vector<char>>> arrived_;  // whole, in order
    std::map<int, uint64_t> wait_read_;                      // until the peer has read so much
    std::vector<std::pair<Span, uint64_t>> sums_;
};
}  // namespace emu
