// nccl.h: a stand-in for NCCL: ranks are processes, which meet in memory that they share (nccl_world.h); operations are work of the emulated streams
// (nccl_operations.h). A communicator that does not block is in progress after a call for some polls, and only then has its work been put
// into the stream: what is recorded or launched before is not behind it. What the library leaves undefined or hangs at is refused here:
// other calls on another rank, areas that overlap, buffers that are freed or touched too early.
//     EMU_NCCL_DELAY_SEED=n           every rank takes its time, now and then
//     EMU_NCCL_DIE=rank:operation     the rank is killed when it begins its n-th operation; STOP: it gets SIGSTOP; HANG: the operation
//                                     never ends; ERROR: it fails, later, as an asynchronous error
//     EMU_NCCL_NOTICE=0 or 1          whether ranks notice that one they wait for is dead; else they do or do not
//     EMU_NCCL_MISMATCH=hang          calls that do not fit another rank's hang, as the library's do
//     EMU_NCCL_ABORT=hang             ncclCommAbort does not come back
//     EMU_NCCL_VERSION=21803          what ncclGetVersion says
//     EMU_NCCL_WINDOWS=0              no windows (nccl_windows.h)
#pragma once
#include <algorithm>
#include <climits>
#include "nccl_operations.h"

#define NCCL_MAJOR 2
#define NCCL_MINOR 28
#define NCCL_PATCH 9
#define NCCL_VERSION(X, Y, Z) (((X) <= 2 && (Y) <= 8) ? (X) * 1000 + (Y) * 100 + (Z) : (X) * 10000 + (Y) * 100 + (Z))
#define NCCL_VERSION_CODE NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH)
#define NCCL_CONFIG_UNDEF_INT INT_MIN
#define NCCL_CONFIG_UNDEF_PTR nullptr
#define NCCL_SPLIT_NOCOLOR -1
struct ncclConfig_t {  // as of 2.18
    size_t size;
    unsigned magic, version;
    int blocking, cgaClusterSize, minCTAs, maxCTAs;
    const char* netName;
    int splitShare;
};
#define NCCL_CONFIG_INITIALIZER {sizeof(ncclConfig_t), 0xcafebeef, NCCL_VERSION_CODE, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, \
                                 NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_PTR, NCCL_CONFIG_UNDEF_INT}

namespace emu {
inline ncclResult_t refuse_nccl(ncclResult_t result, const char* call, const std::string& why) {
    last_words() = std::string(call) + " : " + why;
    fprintf(stderr, "emulator: %s\n", last_words().c_str());
    return result;
}
#define EMU_NCCL_ENTER() do { if (emu::enter(__func__) != cudaSuccess) return ncclUnhandledCudaError; emu::delay(); } while (0)

struct NcclGroup {
    struct Call { ncclComm_t comm; NcclTask task; cudaStream_t stream; };
    int depth = 0;
    std::vector<Call> calls;
    ncclResult_t error = ncclSuccess;  // of a call within it
};
inline NcclGroup& group() { static NcclGroup g; return g; }

// A handle that was destroyed is one that was never made.
inline CommPtr find_comm(const char* call, ncclComm_t c, ncclResult_t& result) {
    auto found = comms().find(c);
    if (found != comms().end()) return found->second;
    result = refuse_nccl(ncclInvalidArgument, call, c ? "no such communicator: destroyed before?" : "comm argument is NULL");
    return nullptr;
}
#define EMU_NCCL_COMM(c) ncclResult_t result_ = ncclSuccess; const emu::CommPtr comm_ = emu::find_comm(__func__, c, result_); if (!comm_) return result_

inline ncclResult_t async_error(ncclComm& c) {
    if (g_fault()) return ncclUnhandledCudaError;
    if (c.error == ncclSuccess && c.area().error) c.error = (ncclResult_t)(int)c.area().error, last_words() = c.area().why;
    return c.error;
}
// A call finds the one before it at its end.
inline ncclResult_t check_ready(const char* call, ncclComm& c) {
    if (ncclResult_t e = async_error(c); e != ncclSuccess) return e;
    if (c.busy) return refuse_nccl(ncclInvalidArgument, call, "Attempt to use communicator before the previous operation returned ncclSuccess");
    if (c.finalized) return refuse_nccl(ncclInvalidArgument, call, "the communicator was finalized");
    return ncclSuccess;
}
// Looks at what is in progress; the device does something meanwhile.
inline ncclResult_t poll(ncclComm& c) {
    run_some();
    if (ncclResult_t e = async_error(c); e != ncclSuccess) return e;
    if (!c.busy) return ncclSuccess;
    if (c.polls > 0) { c.polls--; return ncclInProgress; }
    if (!c.busy()) return async_error(c) != ncclSuccess ? c.error : ncclInProgress;
    c.busy = nullptr;
    return async_error(c);
}
// The communicator has something to do that may wait for others. To one that blocks the caller stays with it; to another the call may be back with ncclSuccess
// although it has only begun: on an H200 that is what ncclCommSplit of 2.28.3 and ncclCommWindowRegister of 2.28.9 always say.
inline ncclResult_t in_progress(ncclComm& c, std::function<bool()> work) {
    c.busy = std::move(work), c.polls = (int)random(4);
    if (!c.blocking) return random(4) == 0 ? ncclInProgress : ncclSuccess;
    ncclResult_t result;
    while ((result = poll(c)) == ncclInProgress) usleep(50);
    return result;
}

inline ncclResult_t check_config(const char* call, const ncclConfig_t* config) {
    if (!config) return ncclSuccess;
    const auto given = [](int value) { return value != NCCL_CONFIG_UNDEF_INT; };
    const ncclConfig_t& k = *config;
    if (k.magic != 0xcafebeef || k.size != sizeof k) return refuse_nccl(ncclInvalidArgument, call, "ncclConfig_t argument not initialized via NCCL_CONFIG_INITIALIZER");
    if (given(k.blocking) && k.blocking != 0 && k.blocking != 1) return refuse_nccl(ncclInvalidArgument, call, "Invalid config blocking attribute value");
    if (given(k.cgaClusterSize) && (k.cgaClusterSize < 0 || k.cgaClusterSize > 8)) return refuse_nccl(ncclInvalidArgument, call, "Invalid config cgaClusterSize attribute value");
    if ((given(k.minCTAs) && k.minCTAs <= 0) || (given(k.maxCTAs) && k.maxCTAs <= 0) || (given(k.minCTAs) && given(k.maxCTAs) && k.minCTAs > k.maxCTAs))
        return refuse_nccl(ncclInvalidArgument, call, "Invalid config min/max channels attribute value");
    if (given(k.splitShare) && k.splitShare != 0 && k.splitShare != 1) return refuse_nccl(ncclInvalidArgument, call, "Invalid config splitShare attribute value");
    return ncclSuccess;
}
inline bool blocks(const ncclConfig_t* config, bool otherwise) { return config && config->blocking != NCCL_CONFIG_UNDEF_INT ? config->blocking == 1 : otherwise; }
inline CommPtr new_comm(const OpenWorld& open, int index, int rank, int world, bool blocking) {
    const long notice = told("EMU_NCCL_NOTICE", -1);
    CommPtr c(new ncclComm{.open = open, .index = index, .rank = rank, .world = world, .blocking = blocking, .notices = notice < 0 ? random(2) == 1 : notice == 1});
    comms()[c.get()] = c;
    return c;
}
// This rank is there; true when all are.
inline bool join(ncclComm& c) {
    Area& a = c.area();
    int nobody = 0;
    if (!a.world.compare_exchange_strong(nobody, c.world) && nobody != c.world) {
        a.fail(ncclInternalError, "rank " + std::to_string(c.rank) + " says " + std::to_string(c.world) + " ranks, another " + std::to_string(nobody));
        return false;
    }
    int nothing = 0;
    if (!a.pid[c.rank].compare_exchange_strong(nothing, getpid()) && nothing != getpid()) {
        a.fail(ncclInternalError, "rank " + std::to_string(c.rank) + " is there twice");
        return false;
    }
    if (nothing == 0) say_alive(c.open, c.index, c.rank);
    for (int r = 0; r < c.world; r++) if (!a.pid[r]) return false;
    return true;
}

// Operations of this communicator that are not done, and graphs that could still be launched: it is not destroyed before they are.
inline bool has_work(const ncclComm& c) {
    for (const OpPtr& op : queue().pending) if (op->owner == &c) return true;
    return false;
}
inline bool in_a_graph(const ncclComm& c) {
    for (EmuGraph* g : graphs().graphs) for (const OpPtr& op : g->nodes) if (op->owner == &c) return true;
    for (EmuGraphExec* g : graphs().execs) for (const OpPtr& op : g->nodes) if (op->owner == &c) return true;
    return false;
}

// Puts a kernel into the stream. Kernels of one communicator come one after another, whatever their streams.
inline bool enqueue_work(const CommPtr& c, const std::vector<NcclTask>& tasks, cudaStream_t stream) {
    const auto work = std::make_shared<NcclWork>(c, tasks);
    if (enqueue(stream, "nccl", [work] { work->begin(); }) != cudaSuccess) { c->error = ncclUnhandledCudaError; return false; }
    EmuStream* s = stream_of(stream);
    const OpPtr op = s->last;
    op->go_on = [work] { return work->go_on(); }, op->owner = c.get();
    if (!s->capture) {
        if (c->last && !c->last->done) op->after.push_back(c->last);
        c->last = op;
    } else {
        if (c->last_captured && c->capture == s->capture) op->after.push_back(c->last_captured);
        c->last_captured = op, c->capture = s->capture;
    }
    return true;
}
inline ncclResult_t check_areas(const char* call, const ncclComm& c, const std::vector<NcclTask>& tasks) {
    std::vector<Span> in, out;
    for (const NcclTask& t : tasks) {
        for (const Span& s : inputs(t, c)) in.push_back(s);
        for (const Span& s : outputs(t, c)) {
            for (const Span& o : out) if (s.overlaps(o)) return refuse_nccl(ncclInvalidUsage, call, "two areas that are received overlap");
            out.push_back(s);
        }
    }
    for (const Span& s : out) for (const Span& i : in) if (s.overlaps(i)) return refuse_nccl(ncclInvalidUsage, call, "an area that is received overlaps one that is sent");
    return ncclSuccess;
}
inline ncclResult_t launch_group(const char* call) {
    const std::vector<NcclGroup::Call> calls = std::move(group().calls);
    const ncclResult_t failed_within = group().error;
    group() = {};
    if (failed_within != ncclSuccess) return failed_within;
    struct Kernel { CommPtr comm; std::vector<NcclTask> tasks; cudaStream_t stream; };
    std::vector<Kernel> kernels;
    for (const NcclGroup::Call& one : calls) {
        auto at = std::find_if(kernels.begin(), kernels.end(), [&](const Kernel& k) { return k.comm.get() == one.comm; });
        if (at == kernels.end()) at = kernels.insert(at, {comms().at(one.comm), {}, one.stream});
        if (at->stream != one.stream) return refuse_nccl(ncclInvalidUsage, call, "the emulator wants a communicator's calls in a group on one stream");
        at->tasks.push_back(one.task);
    }
    for (const Kernel& k : kernels) if (ncclResult_t e = check_areas(call, *k.comm, k.tasks); e != ncclSuccess) return e;
    bool in_progress_now = false;
    for (const Kernel& k : kernels) {
        if (k.comm->blocking || random(4) == 0) { if (!enqueue_work(k.comm, k.tasks, k.stream)) return k.comm->error; }
        else in_progress(*k.comm, [k] { return enqueue_work(k.comm, k.tasks, k.stream); }), in_progress_now = true;
    }
    return in_progress_now ? ncclInProgress : ncclSuccess;
}
// What every call that moves data checks.
inline ncclResult_t communicate(const char* call, ncclComm_t handle, NcclTask task, cudaStream_t stream) {
    const auto bad = [&](ncclResult_t e) { if (group().depth) group().error = e; return e; };
    ncclResult_t result = ncclSuccess;
    const CommPtr c = find_comm(call, handle, result);
    if (!c) return bad(result);
    if (ncclResult_t e = check_ready(call, *c); e != ncclSuccess) return bad(e);
    const bool pair = task.call == NcclCall::SEND || task.call == NcclCall::RECV;
    if ((pair || task.call == NcclCall::BROADCAST) && (task.peer < 0 || task.peer >= c->world))
        return bad(refuse_nccl(ncclInvalidArgument, call, "invalid root " + std::to_string(task.peer) + " (root should be in the 0.." + std::to_string(c->world) + " range)"));
    if ((int)task.type < 0 || task.type >= ncclNumTypes) return bad(refuse_nccl(ncclInvalidArgument, call, "invalid type " + std::to_string(task.type)));
    if (task.op < 0 || task.op >= ncclNumOps) return bad(refuse_nccl(ncclInvalidArgument, call, "invalid reduction operation " + std::to_string(task.op)));
    if ((task.call == NcclCall::ALL_REDUCE || task.call == NcclCall::REDUCE_SCATTER) && !can_reduce(task.type, task.op))
        return bad(refuse_nccl(ncclInvalidUsage, call, "the emulator knows ncclSum and ncclMax, and not of ncclFloat16"));
    if (task.count > ((size_t)1 << 48)) return bad(refuse_nccl(ncclInvalidArgument, call, "a count beyond all memory"));
    if (check_stream(call, stream) != cudaSuccess) return bad(ncclUnhandledCudaError);
    for (const std::vector<Span>& spans : {inputs(task, *c), outputs(task, *c)})
        for (const Span& s : spans) {
            if (!s.n) continue;
            if (!s.p || place_of(s.p) == PAGEABLE) return bad(refuse_nccl(ncclInvalidArgument, call, "a buffer is no memory of the device"));
            if (!copy_fits(call, s.p, s.n)) return bad(ncclInvalidArgument);
        }
    if (!pair && task.count == 0) return ncclSuccess;
    if (task.in) task.reads = place_in_window(task, *c, false);
    if (task.out) task.writes = place_in_window(task, *c, true);
    group().calls.push_back({handle, task, stream});
    return group().depth ? ncclSuccess : launch_group(call);
}
}  // namespace emu

// ---- communicators -------------------------------------------------------------------------------------------------------
inline ncclResult_t ncclGetVersion(int* version) {
    if (!version) return ncclInvalidArgument;
    *version = (int)emu::told("EMU_NCCL_VERSION", NCCL_VERSION_CODE);
    return ncclSuccess;
}
inline const char* ncclGetErrorString(ncclResult_t result) {
#define R(name, number, text) if (result == name) return text;
    EMU_NCCL_RESULTS(R)
#undef R
    return "unknown result code";
}
inline const char* ncclGetLastError(ncclComm_t) { return emu::last_words().c_str(); }
inline ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    EMU_NCCL_ENTER();
    if (!id) return emu::refuse_nccl(ncclInvalidArgument, __func__, "out argument is NULL");
    return emu::make_world(*id) ? ncclSuccess : emu::refuse_nccl(ncclSystemError, __func__, "no memory to share");
}
inline ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
    EMU_NCCL_ENTER();
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    if (!comm) return emu::refuse_nccl(ncclInvalidArgument, __func__, "newcomm argument is NULL");
    if (nranks < 1 || rank < 0 || rank >= nranks) return emu::refuse_nccl(ncclInvalidArgument, __func__, "Invalid rank requested : " + std::to_string(rank) + "/" + std::to_string(nranks));
    if (ncclResult_t e = emu::check_config(__func__, config); e != ncclSuccess) return e;
    if (emu::group().depth) return emu::refuse_nccl(ncclInvalidUsage, __func__, "the emulator makes no communicator in a group");
    if (nranks > emu::NCCL_RANKS) return emu::refuse_nccl(ncclInvalidUsage, __func__, "the emulator has at most 16 ranks");
    *comm = nullptr;
    const emu::OpenWorld open = emu::open_world(id);
    if (!open.world) return emu::refuse_nccl(ncclSystemError, __func__, "nobody answers at the address of the id");
    if (open.world->area[0].pid[rank]) return emu::refuse_nccl(ncclInvalidUsage, __func__, "an id serves once");
    emu::world_rank() = rank;
    emu::random_state() = emu::state_of_seed(emu::random_state() + (uint64_t)rank);  // each rank has an order of its own
    const emu::CommPtr c = emu::new_comm(open, 0, rank, nranks, emu::blocks(config, true));
    *comm = c.get();
    return emu::in_progress(*c, [c = c.get()] { return emu::join(*c); });
}
// The new handle is there when the old communicator is no longer in progress, not before. (NCCL, issue 1472)
inline ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* newcomm, ncclConfig_t* config) {
    EMU_NCCL_ENTER();
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    EMU_NCCL_COMM(comm);
    if (!newcomm) return emu::refuse_nccl(ncclInvalidArgument, __func__, "newcomm argument is NULL");
    if (color < NCCL_SPLIT_NOCOLOR) return emu::refuse_nccl(ncclInvalidArgument, __func__, "Color must be nonnegative or NCCL_SPLIT_NOCOLOR");
    if (ncclResult_t e = emu::check_ready(__func__, *comm_); e != ncclSuccess) return e;
    if (ncclResult_t e = emu::check_config(__func__, config); e != ncclSuccess) return e;
    if (emu::group().depth) return emu::refuse_nccl(ncclInvalidUsage, __func__, "the emulator makes no communicator in a group");
    if (comm_->splits == emu::NCCL_SPLITS) return emu::refuse_nccl(ncclInvalidUsage, __func__, "the emulator splits a communicator 4 times");
    *newcomm = nullptr;
    const int number = comm_->splits++;
    emu::Split& mine = comm_->area().splits[number][comm_->rank];
    mine.color = color, mine.key = key, mine.said = true;
    return emu::in_progress(*comm_, [c = comm_.get(), number, color, newcomm, blocking = emu::blocks(config, comm_->blocking), made = emu::CommPtr()]() mutable {
        emu::Area& a = c->area();
        for (int r = 0; r < c->world; r++) if (!a.splits[number][r].said) return false;
        if (color == NCCL_SPLIT_NOCOLOR) return true;
        if (!made) {
            std::vector<int> members;  // by key, then by rank
            for (int r = 0; r < c->world; r++) if (a.splits[number][r].color == color) members.push_back(r);
            std::stable_sort(members.begin(), members.end(), [&](int x, int y) { return a.splits[number][x].key < a.splits[number][y].key; });
            std::atomic<int>& child = a.child[number][members[0]];
            if (members[0] == c->rank) {
                const int taken = c->open.world->areas++;
                if (taken >= emu::NCCL_AREAS) { a.fail(ncclInvalidUsage, "the emulator has no more communicators"); return false; }
                child = taken;
            }
            if (!child) return false;
            const int rank = (int)(std::find(members.begin(), members.end(), c->rank) - members.begin());
            made = emu::new_comm(c->open, child, rank, (int)members.size(), blocking);
        }
        if (!emu::join(*made)) return false;
        *newcomm = made.get();
        return true;
    });
}
inline ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
    EMU_NCCL_ENTER();
    EMU_NCCL_COMM(comm);
    if (!error) return emu::refuse_nccl(ncclInvalidArgument, __func__, "asyncError argument is NULL");
    *error = emu::poll(*comm_);
    return ncclSuccess;
}
// Done when the device has done all of it, and no graph can do more. That others have come as far is not promised.
inline ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    EMU_NCCL_ENTER();
    if (!comm) return ncclSuccess;
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    EMU_NCCL_COMM(comm);
    if (ncclResult_t e = emu::check_ready(__func__, *comm_); e != ncclSuccess) return e;
    for (const auto& [handle, w] : emu::nccl_windows()) if (w->comm == comm) return emu::refuse_nccl(ncclInvalidUsage, __func__, "ncclCommWindowDeregister first: the emulator wants it");
    comm_->finalized = true;
    return emu::in_progress(*comm_, [c = comm_.get()] {
        if (emu::has_work(*c)) { emu::step(); return false; }
        if (emu::in_a_graph(*c)) return false;
        return c->area().finalized[c->rank] = true;
    });
}
inline ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    EMU_NCCL_ENTER();
    if (!comm) return ncclSuccess;
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    EMU_NCCL_COMM(comm);
    if (comm_->busy) return emu::refuse_nccl(ncclInvalidArgument, __func__, "the communicator is in progress");
    if (!comm_->finalized) return emu::refuse_nccl(ncclInvalidUsage, __func__, "ncclCommFinalize first: the emulator wants it");
    comm_->gone = true;
    emu::comms().erase(comm);
    return ncclSuccess;
}
// From any thread; what is on the device ends, and has written whatever it has.
inline ncclResult_t ncclCommAbort(ncclComm_t comm) {
    if (!comm) return ncclSuccess;
    const char* told = getenv("EMU_NCCL_ABORT");
    if (told && !strcmp(told, "hang")) while (true) pause();
    EMU_NCCL_COMM(comm);
    comm_->gone = true, comm_->busy = nullptr;
    std::erase_if(emu::nccl_windows(), [comm](const auto& w) { return w.second->comm == comm; });
    emu::comms().erase(comm);
    return ncclSuccess;
}
inline ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
    EMU_NCCL_COMM(comm);
    if (!count) return emu::refuse_nccl(ncclInvalidArgument, __func__, "count argument is NULL");
    if (ncclResult_t e = emu::check_ready(__func__, *comm_); e != ncclSuccess) return e;
    *count = comm_->world;
    return ncclSuccess;
}
inline ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
    EMU_NCCL_COMM(comm);
    if (!rank) return emu::refuse_nccl(ncclInvalidArgument, __func__, "rank argument is NULL");
    if (ncclResult_t e = emu::check_ready(__func__, *comm_); e != ncclSuccess) return e;
    *rank = comm_->rank;
    return ncclSuccess;
}

// ---- what moves data -----------------------------------------------------------------------------------------------------
inline ncclResult_t ncclGroupStart() { EMU_NCCL_ENTER(); emu::group().depth++; return ncclSuccess; }
inline ncclResult_t ncclGroupEnd() {
    EMU_NCCL_ENTER();
    if (emu::group().depth == 0) return emu::refuse_nccl(ncclInvalidUsage, __func__, "not in a group call.");
    return --emu::group().depth ? ncclSuccess : emu::launch_group(__func__);
}
inline ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
    EMU_NCCL_ENTER();
    return emu::communicate(__func__, comm, {emu::NcclCall::SEND, (const char*)send, nullptr, count, type, ncclSum, peer}, stream);
}
inline ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
    EMU_NCCL_ENTER();
    return emu::communicate(__func__, comm, {emu::NcclCall::RECV, nullptr, (char*)receive, count, type, ncclSum, peer}, stream);
}
inline ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
    EMU_NCCL_ENTER();
    return emu::communicate(__func__, comm, {emu::NcclCall::ALL_GATHER, (const char*)send, (char*)receive, count, type}, stream);
}
inline ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    EMU_NCCL_ENTER();
    return emu::communicate(__func__, comm, {emu::NcclCall::ALL_REDUCE, (const char*)send, (char*)receive, count, type, op}, stream);
}
inline ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    EMU_NCCL_ENTER();
    return emu::communicate(__func__, comm, {emu::NcclCall::REDUCE_SCATTER, (const char*)send, (char*)receive, count, type, op}, stream);
}
inline ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
    EMU_NCCL_ENTER();
    return emu::communicate(__func__, comm, {emu::NcclCall::BROADCAST, (const char*)send, (char*)receive, count, type, ncclSum, root}, stream);
}
#include "nccl_windows.h"
