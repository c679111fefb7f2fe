// nccl.h: NCCL carries the bytes between ranks that are GPUs, one process a GPU. Nothing here waits for another rank without an end: communicators do
// not block (ncclConfig_t.blocking = 0), and whoever waits, the trainer for an event too, asks again and again whether the GPU is there, whether a
// communicator has failed, and whether the deadline is over. (NCCL user guide, "Fault Tolerance")
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>
#include "../backend.h"
#include "../base/check.h"
#include "flight_recorder.h"
#include "transport.h"
#ifdef LLMC_NCCL
#include <dlfcn.h>
#include <nccl.h>
#endif

// By which the ranks of a run find each other: rank 0 makes it, and something else than NCCL carries it to the others.
struct NcclId { char bytes[128]; };

#ifndef LLMC_NCCL
constexpr bool NCCL_HERE = false;
[[noreturn]] inline void refuse_nccl() {
    die_with(EXIT_USAGE, "several GPUs need NCCL, and this program was built without it: make found no nccl.h and libnccl.so of 2.18 or newer (CUDA_INCLUDE, CUDA_LIB), or was told NCCL=0");
}
inline NcclId new_nccl_id() { refuse_nccl(); }
inline std::shared_ptr<Transport> open_nccl(int, int, const NcclId&) { refuse_nccl(); }
#else
constexpr bool NCCL_HERE = true;
static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 1), "NCCL 2.18 or newer");
static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));

namespace nccl_detail {
inline std::string version_text(int version) { return format("%d.%d.%d", version / 10000, version / 100 % 100, version % 100); }
inline int loaded_version() {
    int version = 0;
    const ncclResult_t result = ncclGetVersion(&version);
    CHECK(result == ncclSuccess, "ncclGetVersion: %s", ncclGetErrorString(result));
    if (version < NCCL_VERSION(2, 18, 1))
        die_with(EXIT_USAGE, "NCCL %s is loaded, must be 2.18.1 or newer, which splits communicators: is there an older libnccl.so.2 in LD_LIBRARY_PATH?", version_text(version).c_str());
    return version;
}
// Windows: memory that all ranks have registered, which the library's collectives then read and write on other GPUs, each at the place where it is on its own.
// Below 2.28.7 small or grouped ones could come out wrong (release notes of 2.28.7). A program that was built by newer headers must start with an older library,
// which has no such functions: they are looked up.
constexpr int FIRST_WITH_WINDOWS = NCCL_VERSION(2, 28, 7);
#ifdef NCCL_WIN_COLL_SYMMETRIC
using Window = ncclWindow_t;
#else
using Window = struct OpaqueWindow*;
#define NCCL_WIN_COLL_SYMMETRIC 0x01
#endif
struct WindowCalls {
    ncclResult_t (*allocate)(void** memory, size_t bytes);
    ncclResult_t (*add)(ncclComm_t, void* memory, size_t bytes, Window*, int flags);
    ncclResult_t (*remove)(ncclComm_t, Window);
};
template <class F> void find_function(F*& function, const char* name) {
    void* at = dlsym(RTLD_DEFAULT, name);
    CHECK(at, "the NCCL that is loaded has no %s", name);
    memcpy(&function, &at, sizeof at);
}
inline WindowCalls window_calls() {
    WindowCalls calls;
    find_function(calls.allocate, "ncclMemAlloc"), find_function(calls.add, "ncclCommWindowRegister"), find_function(calls.remove, "ncclCommWindowDeregister");
    return calls;
}
// Whether `work` came back within some seconds: a call that may hang. It may go on where it does not.
template <class Work> bool within(double seconds, Work work) {
    const auto done = std::make_shared<std::atomic<bool>>(false);
    std::thread([=] { work(), *done = true; }).detach();
    const double began = flight_recorder().seconds();
    while (!*done && flight_recorder().seconds() - began < seconds) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return *done;
}
}  // namespace nccl_detail

// One a process, made, used and left by one thread.
class NcclTransport : public Transport {
public:
    NcclTransport(int rank, int world, const NcclId& id) : rank_(rank), world_(world), version_(nccl_detail::loaded_version()) {
        CHECK(!one_, "a process is one rank");
        one_ = this;
        flight_recorder().begin("start of NCCL", 0);
        ncclUniqueId unique;
        memcpy(&unique, &id, sizeof unique);
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        const ncclResult_t begun = ncclCommInitRankConfig(&data_, world, unique, rank, &config);  // writes data_, in whichever order arguments are made
        call(data_, begun, "ncclCommInitRankConfig");
        // a block of one SM carries what ranks agree about; it runs beside what the gradients' communicator has on the GPU
        config.minCTAs = config.maxCTAs = 1;
        split(&config);
        stream_ = open_stream({});
        done_ = make_event();
        for (InFlight& f : in_flight_) f.done = make_event();
        pinned_ = (char*)pinned_alloc(PIECE * (size_t)world);
        device_ = (char*)device_alloc(PIECE * (size_t)world);
        g_while_waiting = while_waiting;
        connect();
        flight_recorder().end();
    }
    ~NcclTransport() override { if (one_ == this) one_ = nullptr, g_while_waiting = nullptr; }

    // By a communicator and a stream of its own: it does not wait for what is under way on the other.
    void all_gather_host(void* all, size_t bytes) override {
        for (size_t at = 0; at < bytes; at += PIECE) {
            const size_t n = std::min(PIECE, bytes - at);
            memcpy(pinned_, (char*)all + (size_t)rank_ * bytes + at, n);
            copy_to_device(device_ + (size_t)rank_ * n, pinned_, n, stream_);
            call(host_, ncclAllGather(device_ + (size_t)rank_ * n, device_, n, ncclUint8, host_, stream_), "ncclAllGather");
            copy_to_host(pinned_, device_, n * (size_t)world_, stream_);
            record(done_, stream_);
            waits_for_all_ = true;
            wait(done_);
            waits_for_all_ = false;
            for (int r = 0; r < world_; r++) memcpy((char*)all + (size_t)r * bytes + at, pinned_ + (size_t)r * n, n);
        }
    }
    void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t stream) override {
        std::vector<int> peers;
        for (const std::vector<Message>& messages : {sends, receives})
            for (const Message& m : messages) {
                CHECK(m.peer >= 0 && m.peer < world_ && m.peer != rank_, "exchange: a message of rank %d to or from rank %d of %d", rank_, m.peer, world_);
                if (m.bytes > 0) peers.push_back(m.peer);
            }
        if (peers.empty()) return;
        queued(ncclGroupStart(), "ncclGroupStart");  // a group: one kernel, in which no message waits for another
        for (const Message& m : sends) if (m.bytes > 0) queued(ncclSend(m.data, m.bytes, ncclUint8, m.peer, data_, stream), "ncclSend");
        for (const Message& m : receives) if (m.bytes > 0) queued(ncclRecv(m.data, m.bytes, ncclUint8, m.peer, data_, stream), "ncclRecv");
        call(data_, ncclGroupEnd(), "ncclGroupEnd");
        remember(std::move(peers), stream);
    }
    void all_gather(void* all, size_t bytes, stream_t stream) override {
        if (bytes == 0) return;
        call(data_, ncclAllGather((char*)all + (size_t)rank_ * bytes, all, bytes, ncclUint8, data_, stream), "ncclAllGather");
        remember({}, stream);
    }
    bool adds() const override { return true; }
    void reduce_scatter(float* all, size_t n, size_t rest, stream_t stream) override {
        float* behind = all + (size_t)world_ * n;
        queued(ncclGroupStart(), "ncclGroupStart");  // a group: one kernel
        if (n > 0) queued(ncclReduceScatter(all, all + (size_t)rank_ * n, n, ncclFloat32, ncclSum, data_, stream), "ncclReduceScatter");
        if (rest > 0) queued(ncclAllReduce(behind, behind, rest, ncclFloat32, ncclSum, data_, stream), "ncclAllReduce");  // a few, and no call gives one rank more
        call(data_, ncclGroupEnd(), "ncclGroupEnd");
        remember({}, stream);
    }
    void all_reduce(float* all, size_t n, stream_t stream) override {
        call(data_, ncclAllReduce(all, all, n, ncclFloat32, ncclSum, data_, stream), "ncclAllReduce");
        remember({}, stream);
    }
    // By ncclMemAlloc, with one symmetric window over it, where all ranks can have one; else by cudaMalloc. (NCCL user guide, "Window Registration")
    // What is not in it, weights, is sent and received, which no rank may do from a window while another does not.
    void* memory_of_collectives(size_t bytes, uint64_t places, bool one_machine) override {
        struct Rank { uint64_t places; bool one_machine; };
        std::vector<Rank> ranks((size_t)world_);
        ranks[(size_t)rank_] = {places, one_machine};
        all_gather_host(ranks.data(), sizeof(Rank));
        if (version_ < nccl_detail::FIRST_WITH_WINDOWS) windows_ = format("none: NCCL %s is loaded, must be %s or newer, as windows of older ones may corrupt sums", nccl_detail::version_text(version_).c_str(), nccl_detail::version_text(nccl_detail::FIRST_WITH_WINDOWS).c_str());
        else if (!std::all_of(ranks.begin(), ranks.end(), [](const Rank& r) { return r.one_machine; })) windows_ = "none: they are for ranks of one machine";
        else if (!std::all_of(ranks.begin(), ranks.end(), [&](const Rank& r) { return r.places == places; })) windows_ = "none: not all ranks have gradients and sums at the same places of their memory";
        else return memory_in_window(bytes);
        return device_alloc(bytes);
    }
    std::string windows() const override { return windows_; }
    // Graphs with operations of a rank in them are destroyed before: NCCL waits for that.
    void leave() override {
        flight_recorder().begin("end of NCCL", 0);
        for (InFlight& f : in_flight_) wait(f.done);
        std::vector<char> all((size_t)world_);
        all_gather_host(all.data(), 1);
        g_while_waiting = nullptr;
        if (window_) in_time([data = data_, window = std::exchange(window_, nullptr)] { return nccl_detail::window_calls().remove(data, window); }, "ncclCommWindowDeregister");
        for (ncclComm_t* comm : {&host_, &data_}) {
            call(*comm, ncclCommFinalize(*comm), "ncclCommFinalize");
            in_time([finalized = std::exchange(*comm, nullptr)] { return ncclCommDestroy(finalized); }, "ncclCommDestroy");
        }
        flight_recorder().end();
    }

private:
    static constexpr size_t PIECE = 4096;  // bytes of each rank that are gathered at once
    static constexpr double ABORT = 2;     // seconds that ncclCommAbort may take
    // What was asked of the data communicator: to be able to say what is not done.
    struct InFlight {
        event_t done = nullptr;
        Operation operation = {};
        std::vector<int> peers = {};  // empty: all
    };

    // The first use of a communicator connects, and allocates: here, and not in the middle of a step or in a capture.
    void connect() {
        std::vector<int> versions((size_t)world_, version_);
        all_gather_host(versions.data(), sizeof(int));
        for (int r = 0; r < world_; r++)
            if (versions[(size_t)r] != version_)
                die_with(EXIT_USAGE, "NCCL %s here, %s on rank %d: all ranks must load the same", nccl_detail::version_text(version_).c_str(), nccl_detail::version_text(versions[(size_t)r]).c_str(), r);
        std::vector<Message> sends, receives;
        for (int r = 0; r < world_; r++)
            if (r != rank_) sends.push_back({r, device_ + rank_, 1}), receives.push_back({r, device_ + r, 1});
        exchange(sends, receives, stream_);
        all_gather(device_, 1, stream_);
        synchronize(stream_);
    }

    void* memory_in_window(size_t bytes) {
        const nccl_detail::WindowCalls calls = nccl_detail::window_calls();
        void* memory = nullptr;
        if (const ncclResult_t result = calls.allocate(&memory, bytes); result != ncclSuccess) fail(result, "ncclMemAlloc");
        CUDA_CHECK(cudaMemsetAsync(memory, 0, bytes, stream_));
        synchronize(stream_);
        call(data_, calls.add(data_, memory, bytes, &window_, NCCL_WIN_COLL_SYMMETRIC), "ncclCommWindowRegister");
        const std::string version = nccl_detail::version_text(version_);
        windows_ = window_ ? format("%.1f MiB of gradients and sums, registered by all ranks (NCCL %s)", (double)bytes / (1 << 20), version.c_str())
                           : format("none: NCCL %s gives none here: it wants GPUs that all reach each other, and neither NCCL_WIN_ENABLE=0 nor NCCL_CUMEM_ENABLE=0", version.c_str());
        return memory;
    }

    // ---- calls that may be in progress -----------------------------------------------------------------------------------
    // Until the communicator is no longer in progress: then what was asked for is in its stream. A call may be back with ncclSuccess although it has only begun:
    // of a communicator that splits 2.28.3 does so, of one that registers a window 2.28.9 (an H200, LOG 49 and 102). So its state is asked for in any case.
    void call(ncclComm_t comm, ncclResult_t result, const char* what) {
        queued(result, what);
        const double began = flight_recorder().seconds();
        while ((result = state(comm)) == ncclInProgress) {
            if (flight_recorder().seconds() - began > flight_recorder().deadline) fail_late(what);
            pause();
        }
        if (result != ncclSuccess) fail(result, what);
    }
    // One that may block, by another thread.
    template <class Call> void in_time(Call one, const char* what) {
        const auto result = std::make_shared<std::atomic<ncclResult_t>>(ncclInProgress);
        if (!nccl_detail::within(flight_recorder().deadline, [=] { *result = one(); })) fail_late(what);
        if (*result != ncclSuccess) fail(*result, what);
    }
    // data_ may be without an error before a thread of the library has written host_.
    void split(ncclConfig_t* config) {
        queued(ncclCommSplit(data_, 0, rank_, &host_, config), "ncclCommSplit");
        const double began = flight_recorder().seconds();
        while (!std::atomic_ref<ncclComm_t>(host_).load()) {
            const ncclResult_t now = state(data_);
            if (now != ncclSuccess && now != ncclInProgress) fail(now, "ncclCommSplit");
            if (flight_recorder().seconds() - began > flight_recorder().deadline) fail_late("ncclCommSplit");
            pause();
        }
        call(data_, ncclSuccess, "ncclCommSplit");
        call(host_, ncclSuccess, "ncclCommSplit");
    }
    // Within a group nothing happens yet; elsewhere it may have only begun.
    void queued(ncclResult_t result, const char* what) {
        if (result != ncclSuccess && result != ncclInProgress) fail(result, what);
    }
    static ncclResult_t state(ncclComm_t comm) {
        ncclResult_t state = ncclSuccess;
        const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
        return asked == ncclSuccess ? state : asked;
    }
    static void pause() { std::this_thread::sleep_for(std::chrono::microseconds(20)); }

    // ---- while somebody waits for the GPU --------------------------------------------------------------------------------
    static void while_waiting(double seconds) {
        if (one_ && std::this_thread::get_id() == one_->owner_) one_->look(seconds);
        pause();
    }
    void look(double seconds) {
        for (ncclComm_t comm : {data_, host_}) {
            const ncclResult_t now = state(comm);
            if (now != ncclSuccess && now != ncclInProgress) fail(now, "NCCL");
        }
        if (seconds > flight_recorder().deadline) fail_late("the GPU");
    }
    void remember(std::vector<int> peers, stream_t stream) {
        cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
        CUDA_CHECK(cudaStreamIsCapturing(stream, &capture));
        if (capture != cudaStreamCaptureStatusNone) return;  // it is asked for when the graph is launched, without us
        InFlight& f = in_flight_[next_++ % std::size(in_flight_)];
        f.operation = flight_recorder().now(), f.peers = std::move(peers);
        record(f.done, stream);
    }

    // ---- when something breaks -------------------------------------------------------------------------------------------
    // The oldest operation that is not done, and whom it waits for.
    std::string waits_for() {
        const InFlight* oldest = nullptr;
        for (size_t i = 0; i < std::size(in_flight_); i++) {
            const InFlight& f = in_flight_[(next_ + i) % std::size(in_flight_)];
            if (!f.done || cudaEventQuery(f.done) != cudaErrorNotReady) continue;
            flight_recorder().reopen(f.operation.sequence);
            if (!oldest) oldest = &f;
        }
        if (waits_for_all_) return name(flight_recorder().now()) + ", with all ranks";  // whatever else is under way
        if (!oldest) return name(flight_recorder().now());
        std::string ranks;
        for (int r = 0; r < world_; r++)
            if (std::count(oldest->peers.begin(), oldest->peers.end(), r)) ranks += (ranks.empty() ? ", with rank " : " or ") + std::to_string(r);
        return name(oldest->operation) + (ranks.empty() ? ", with all ranks" : ranks);
    }
    static std::string name(const Operation& o) {
        return format("operation %llu, %s%s, step %d", (unsigned long long)o.sequence, o.what, o.bytes ? format(" of %zu bytes", o.bytes).c_str() : "", o.step);
    }
    [[noreturn]] void fail(ncclResult_t result, const char* what) {
        std::string words = ncclGetLastError(nullptr);
        for (char& c : words) if (c == '\n') c = ' ';
        if (!words.empty()) words = ": " + words;
        end(format("%s: %s%s", what, ncclGetErrorString(result), words.c_str()));
    }
    [[noreturn]] void fail_late(const char* what) {
        end(format("%s: not there after %.1f s: another rank is gone, hangs, or is at something else", what, flight_recorder().deadline));
    }
    [[noreturn]] void end(const std::string& why) {
        const std::string what = waits_for(), record = flight_recorder().save();
        before_ = std::exchange(g_before_death, abort);
        die_with(EXIT_COMM, "%s: %s%s", what.c_str(), why.c_str(), record.c_str());
    }
    // So that no kernel of ours keeps the GPU, and others see their connections end.
    static void abort() {
        if (before_) before_();
        const ncclComm_t host = one_->host_, data = one_->data_;
        nccl_detail::within(ABORT, [=] { for (ncclComm_t comm : {host, data}) if (comm) ncclCommAbort(comm); });
    }

    static inline NcclTransport* one_ = nullptr;
    static inline void (*before_)() = nullptr;
    const int rank_, world_, version_;
    const std::thread::id owner_ = std::this_thread::get_id();
    ncclComm_t data_ = nullptr, host_ = nullptr;
    nccl_detail::Window window_ = nullptr;  // of data_
    std::string windows_ = "none: they serve the library's own sums (--reduce nccl); the tree's are sent and received";
    stream_t stream_;  // of host_
    event_t done_ = nullptr;
    char *pinned_ = nullptr, *device_ = nullptr;  // (world, PIECE)
    InFlight in_flight_[512];  // of more than a micro-batch, and below stage 2 a step: of 48 layers either has some 100 to 200, in two levels twice as many
    size_t next_ = 0;
    bool waits_for_all_ = false;
};

inline NcclId new_nccl_id() {
    nccl_detail::loaded_version();
    ncclUniqueId unique;
    const ncclResult_t result = ncclGetUniqueId(&unique);
    if (result != ncclSuccess) die_with(EXIT_COMM, "ncclGetUniqueId: %s: %s", ncclGetErrorString(result), ncclGetLastError(nullptr));
    NcclId id;
    memcpy(&id, &unique, sizeof id);
    return id;
}
inline std::shared_ptr<Transport> open_nccl(int rank, int world, const NcclId& id) { return std::make_shared<NcclTransport>(rank, world, id); }
#endif
