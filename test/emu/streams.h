// streams.h: streams, events and graphs. A call puts work into a graph of what must come after what, and nothing happens until
// somebody waits: then the work is done in an order drawn from the seed among those that the graph allows.
#pragma once
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>
#include "memory.h"

enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2, cudaEventRecordDefault = 0 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive, cudaStreamCaptureStatusInvalidated };

namespace emu {
struct Op {
    std::string name;
    std::function<void()> run;
    std::vector<std::shared_ptr<Op>> after;
    bool done = false;
    double finished = 0;  // on the emulated clock, in ms
};
using OpPtr = std::shared_ptr<Op>;
}  // namespace emu
struct EmuGraph { std::vector<emu::OpPtr> nodes; };
struct EmuStream {
    bool blocking;
    emu::OpPtr last;
    std::vector<emu::OpPtr> also;   // events that the next operation waits for
    EmuGraph* capture = nullptr;    // what is enqueued goes there
    EmuStream* origin = nullptr;    // of the capture that an event has drawn this stream into
    emu::OpPtr before = nullptr;    // the last operation before the capture: what is enqueued after it comes after that
};
struct EmuEvent { emu::OpPtr op; bool recorded = false; EmuStream* captured_in = nullptr; };
struct EmuGraphExec { std::vector<emu::OpPtr> nodes; };
using cudaStream_t = EmuStream*;
using cudaEvent_t = EmuEvent*;
using cudaGraph_t = EmuGraph*;
using cudaGraphExec_t = EmuGraphExec*;
struct cudaGraphExecUpdateResultInfo { int result; };

namespace emu {
struct Queue {
    std::vector<OpPtr> pending;         // in the order of the calls
    std::set<EmuStream*> streams;
    EmuStream null_stream{true, nullptr, {}, nullptr, nullptr};
    double clock = 0;
};
inline Queue& queue() { static Queue q; return q; }
inline EmuStream* stream_of(cudaStream_t s) { return s ? s : &queue().null_stream; }

inline bool may_run(const Op& op) {
    for (const OpPtr& before : op.after) if (!before->done) return false;
    return true;
}
// Does one of the operations that may come next.
inline void step() {
    Queue& q = queue();
    std::vector<size_t> ready;
    for (size_t i = 0; i < q.pending.size(); i++) if (may_run(*q.pending[i])) ready.push_back(i);
    const size_t pick = ready[random((uint32_t)ready.size())];
    const OpPtr op = q.pending[pick];
    q.pending.erase(q.pending.begin() + (long)pick);
    if (!g_fault()) {
        set_hidden(false);
        op->run();
        set_hidden(true);
    }
    op->done = true, op->finished = q.clock += 0.01, op->after.clear(), op->run = nullptr;
}
// The host waits, though it may be for nothing.
inline void run_until(const OpPtr& op) {
    tell({Event::WAIT, op ? op->name : "nothing"});
    while (op && !op->done) step();
}
inline void run_all() {
    tell({Event::WAIT, "everything"});
    while (!queue().pending.empty()) step();
}

// `run` in the order of the stream. Work on the default stream and work on streams that are not "non-blocking" wait for each other.
inline void enqueue(cudaStream_t s, const char* name, std::function<void()> run) {
    Queue& q = queue();
    EmuStream* stream = stream_of(s);
    OpPtr op = std::make_shared<Op>(Op{name, std::move(run), {}, false, 0});
    if (stream->last) op->after.push_back(stream->last);
    for (const OpPtr& event : stream->also) op->after.push_back(event);
    stream->also.clear();
    stream->last = op;
    if (stream->capture) { stream->capture->nodes.push_back(op); return; }
    if (stream == &q.null_stream) {
        for (EmuStream* other : q.streams) if (other->blocking && other->last) op->after.push_back(other->last);
    } else if (stream->blocking && q.null_stream.last) op->after.push_back(q.null_stream.last);
    q.pending.push_back(op);
}
inline cudaError_t finish() { return g_fault() ? failed(cudaErrorLaunchFailure) : cudaSuccess; }
}  // namespace emu

// ---- streams ----------------------------------------------------------------------------------------------------------
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags) {
    EMU_ENTER();
    *s = new EmuStream{!(flags & cudaStreamNonBlocking), nullptr, {}, nullptr, nullptr};
    emu::queue().streams.insert(*s);
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithFlags(s, 0); }
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int) { return cudaStreamCreateWithFlags(s, flags); }
inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
    EMU_ENTER();
    if (!emu::queue().streams.erase(s)) return emu::failed(cudaErrorInvalidResourceHandle);
    delete s;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    EMU_ENTER();
    if (emu::stream_of(s)->capture) return emu::failed(cudaErrorStreamCaptureUnsupported);
    emu::run_until(emu::stream_of(s)->last);
    return emu::finish();
}
inline cudaError_t cudaDeviceSynchronize() {
    EMU_ENTER();
    emu::run_all();
    return emu::finish();
}
inline cudaError_t cudaStreamQuery(cudaStream_t s) {
    EMU_ENTER();
    for (uint32_t n = emu::random(3); n && !emu::queue().pending.empty(); n--) emu::step();
    const emu::OpPtr& last = emu::stream_of(s)->last;
    return !last || last->done ? emu::finish() : cudaErrorNotReady;
}
inline cudaError_t cudaLaunchHostFunc(cudaStream_t s, void (*f)(void*), void* data) {
    EMU_ENTER();
    emu::enqueue(s, "host function", [=] { f(data); });
    return cudaSuccess;
}

// ---- events -----------------------------------------------------------------------------------------------------------
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { EMU_ENTER(); *e = new EmuEvent; return cudaSuccess; }
inline cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
inline cudaError_t cudaEventDestroy(cudaEvent_t e) { EMU_ENTER(); delete e; return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = nullptr) {
    EMU_ENTER();
    emu::enqueue(s, "event", [] {});
    e->op = emu::stream_of(s)->last, e->recorded = true, e->captured_in = emu::stream_of(s)->capture ? emu::stream_of(s) : nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned = 0) {
    EMU_ENTER();
    EmuStream* stream = emu::stream_of(s);
    if (!e->op) return cudaSuccess;  // never recorded: nothing to wait for
    if (e->captured_in && !stream->capture) stream->capture = e->captured_in->capture, stream->origin = e->captured_in, stream->before = stream->last, stream->last = nullptr;
    stream->also.push_back(e->op);
    return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t e) { EMU_ENTER(); emu::run_until(e->op); return emu::finish(); }
inline cudaError_t cudaEventQuery(cudaEvent_t e) {
    EMU_ENTER();
    for (uint32_t n = emu::random(3); n && !emu::queue().pending.empty(); n--) emu::step();
    return !e->op || e->op->done ? emu::finish() : cudaErrorNotReady;
}
inline cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
    EMU_ENTER();
    if (!from->op || !to->op) return emu::failed(cudaErrorInvalidResourceHandle);
    if (!from->op->done || !to->op->done) return cudaErrorNotReady;
    *ms = (float)(to->op->finished - from->op->finished);
    return cudaSuccess;
}

// ---- copies: from pageable memory the bytes are taken at once, into it the call waits; pinned memory is touched late ---------
namespace emu {
inline cudaError_t copy(const char* call, void* dst, const void* src, size_t bytes, cudaStream_t s, bool waits) {
    if (!copy_fits(call, dst, bytes) || !copy_fits(call, src, bytes)) return failed(cudaErrorInvalidValue);
    if (bytes == 0) return cudaSuccess;
    const bool from_host = !memory().in_region(src), to_host = !memory().in_region(dst);
    std::shared_ptr<std::vector<char>> staged;
    if (from_host && !is_pinned(src)) staged = std::make_shared<std::vector<char>>((const char*)src, (const char*)src + bytes);
    enqueue(s, call, [=, tag = label()] {
        memmove(dst, staged ? staged->data() : src, bytes);
        EMU_WATCH(written(dst, bytes));
        tell({Event::WORK, call, once(from_host ? 0 : bytes, to_host ? 0 : bytes), tag});
    });
    if (waits || (to_host && !is_pinned(dst))) {
        if (stream_of(s)->capture) return failed(cudaErrorStreamCaptureUnsupported);
        run_until(stream_of(s)->last);
    }
    return finish();
}
}  // namespace emu
inline cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind, cudaStream_t s = nullptr) {
    EMU_ENTER();
    return emu::copy(__func__, dst, src, bytes, s, false);
}
inline cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind) {
    EMU_ENTER();
    return emu::copy(__func__, dst, src, bytes, nullptr, true);
}
inline cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t s = nullptr) {
    EMU_ENTER();
    if (!emu::copy_fits(__func__, dst, bytes)) return emu::failed(cudaErrorInvalidValue);
    if (bytes) emu::enqueue(s, __func__, [=, call = __func__, tag = emu::label()] {
        memset(dst, value, bytes);
        EMU_WATCH(written(dst, bytes));
        emu::tell({emu::Event::WORK, call, emu::once(0, bytes), tag});
    });
    return cudaSuccess;
}
inline cudaError_t cudaMemset(void* dst, int value, size_t bytes) { return cudaMemsetAsync(dst, value, bytes, nullptr); }
inline cudaError_t cudaFree(void* p) {
    EMU_ENTER();
    if (!p) return cudaSuccess;
    emu::run_all();
    return emu::device_give((char*)p);
}
inline cudaError_t cudaFreeHost(void* p) {
    EMU_ENTER();
    emu::run_all();
    if (p && !emu::memory().pinned.erase((char*)p)) {
        fprintf(stderr, "emulator: cudaFreeHost(%p): no allocation begins there: freed before?\n", p);
        return emu::failed(cudaErrorInvalidValue);
    }
    free(p);
    return cudaSuccess;
}

// ---- graphs: what is captured is done anew at each launch, again in any order that its edges allow -----------------------
inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    EMU_ENTER();
    if (!s || s->capture) return emu::failed(cudaErrorStreamCaptureUnsupported);
    if (!s->also.empty()) emu::enqueue(s, "event", [] {});  // what the stream waits for stays before the graph
    s->capture = new EmuGraph, s->before = s->last, s->last = nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
    EMU_ENTER();
    if (!s || !s->capture) return emu::failed(cudaErrorStreamCaptureInvalidated);
    *graph = s->capture;
    for (EmuStream* other : emu::queue().streams)
        if (other == s || other->origin == s) other->capture = nullptr, other->origin = nullptr, other->last = other->before, other->before = nullptr, other->also.clear();
    return cudaSuccess;
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
    EMU_ENTER();
    *status = emu::stream_of(s)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long = 0) {
    EMU_ENTER();
    *exec = new EmuGraphExec{graph->nodes};
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* info) {
    EMU_ENTER();
    if (exec->nodes.size() != graph->nodes.size()) { info->result = 1; return cudaErrorUnknown; }
    exec->nodes = graph->nodes, info->result = 0;
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
    EMU_ENTER();
    auto nodes = std::make_shared<std::vector<emu::OpPtr>>(exec->nodes);
    emu::enqueue(s, "graph", [nodes] {
        std::vector<size_t> left;
        for (size_t i = 0; i < nodes->size(); i++) left.push_back(i);
        std::set<const emu::Op*> done;
        while (!left.empty()) {
            std::vector<size_t> ready;
            for (size_t i = 0; i < left.size(); i++) {
                bool may = true;
                for (const emu::OpPtr& before : (*nodes)[left[i]]->after) may &= before->done || done.count(before.get()) > 0;
                if (may) ready.push_back(i);
            }
            const size_t pick = ready[emu::random((uint32_t)ready.size())];
            const emu::Op& op = *(*nodes)[left[pick]];
            left.erase(left.begin() + (long)pick);
            if (!emu::g_fault()) op.run();
            done.insert(&op);
        }
    });
    return cudaSuccess;
}
inline cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void**, size_t* n) { EMU_ENTER(); *n = graph->nodes.size(); return cudaSuccess; }
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { EMU_ENTER(); delete graph; return cudaSuccess; }
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { EMU_ENTER(); delete exec; return cudaSuccess; }
