// streams.h: streams and events. A call puts work into a graph of what must come after what, and nothing happens until somebody
// waits: then the work is done in an order drawn from the seed among those that the graph allows.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>
#include "memory.h"
#include "timeline.h"

enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2, cudaEventInterprocess = 4, cudaEventRecordDefault = 0,
       cudaEventWaitDefault = 0, cudaEventWaitExternal = 1 };

namespace emu {
enum Kind { KERNEL, COPY, SET, HOST, EVENT, GRAPH };
enum class Moved { NOTHING, SOME, ALL };
struct Op {
    std::string name;
    std::function<void()> run;
    std::vector<std::shared_ptr<Op>> after;
    Kind kind = KERNEL;
    int places = 0;             // of a copy: where from and to
    bool behind_kernel = false; // of an event: whether a kernel behind it may come early
    bool done = false;
    double finished = 0;        // on the emulated clock, in ms
    const void* stream = nullptr;
    double ends = 0;            // on the timeline: timeline.h
    // of what other processes have a part in (nccl.h): called after `run`, until it has moved all that it has to
    std::function<Moved()> go_on = nullptr;
    const void* owner = nullptr;  // its communicator
    bool begun = false;
};
using OpPtr = std::shared_ptr<Op>;
}  // namespace emu
struct EmuStream {
    bool blocking;
    emu::OpPtr last = nullptr;
    std::vector<emu::OpPtr> also = {};   // events that the next operation waits for
    emu::CapturePtr capture = nullptr;   // what is enqueued goes to its graph
    emu::OpPtr before = nullptr;         // the last operation before the capture: what is enqueued after it comes after that
};
struct EmuEvent {
    bool timing = true, recorded = false;
    std::vector<emu::OpPtr> ops = {};    // what it stands for; of a capture: the nodes that its stream had come to
    emu::CapturePtr capture = nullptr;   // that it was last recorded in
};
using cudaStream_t = EmuStream*;
using cudaEvent_t = EmuEvent*;
#define cudaStreamLegacy ((cudaStream_t)0x1)

namespace emu {
struct Queue {
    std::vector<OpPtr> pending;         // in the order of the calls
    std::set<EmuStream*> streams;
    std::set<EmuEvent*> events;
    EmuStream null_stream{true};
    double clock = 0;
};
inline Queue& queue() { static Queue q; return q; }
inline bool is_legacy(cudaStream_t s) { return s == nullptr || s == cudaStreamLegacy; }
inline EmuStream* stream_of(cudaStream_t s) { return is_legacy(s) ? &queue().null_stream : s; }

// What has been destroyed may not be used: on a GPU anything may happen then.
template <class Handle> cudaError_t check_alive(const std::set<Handle>& alive, Handle handle, cudaError_t e, const char* call, const char* what) {
    if (alive.count(handle)) return cudaSuccess;
    return refuse(e, call, handle ? std::string("no such ") + what + ": destroyed before?" : std::string("the ") + what + " is null");
}
inline cudaError_t check_stream(const char* call, cudaStream_t s) {
    return is_legacy(s) ? cudaSuccess : check_alive(queue().streams, s, cudaErrorInvalidResourceHandle, call, "stream");
}
inline cudaError_t check_event(const char* call, cudaEvent_t e) { return check_alive(queue().events, e, cudaErrorInvalidResourceHandle, call, "event"); }
#define EMU_STREAM(s) do { if (cudaError_t e_ = emu::check_stream(__func__, s); e_ != cudaSuccess) return e_; } while (0)
#define EMU_EVENT(e) do { if (cudaError_t e_ = emu::check_event(__func__, e); e_ != cudaSuccess) return e_; } while (0)

inline bool may_run(const Op& op) {
    for (const OpPtr& before : op.after) if (!before->done) return false;
    return true;
}
// Does something of an operation: all of it, unless other processes have a part in it.
inline Moved go(Op& op) {
    if (g_fault()) return Moved::ALL;
    set_hidden(false);
    if (!op.begun) op.begun = true, op.run();
    const Moved moved = op.go_on && !g_fault() ? op.go_on() : Moved::ALL;
    set_hidden(true);
    return moved;
}
// Does one of the operations that may come next, or something of it; false if all of them wait for other processes.
inline bool step() {
    Queue& q = queue();
    std::vector<OpPtr> ready;
    for (const OpPtr& op : q.pending) if (may_run(*op)) ready.push_back(op);
    while (!ready.empty()) {
        const size_t pick = random((uint32_t)ready.size());
        const OpPtr op = ready[pick];
        const Moved moved = go(*op);
        if (moved == Moved::NOTHING) { ready.erase(ready.begin() + (long)pick); continue; }
        if (moved == Moved::SOME) return true;
        std::erase(q.pending, op);
        double begin = 0;
        for (const OpPtr& before : op->after) begin = std::max(begin, before->ends);
        op->ends = put_on_timeline(begin, op->kind == KERNEL || op->kind == COPY || op->kind == SET, op->stream, op->name);
        op->done = true, op->finished = q.clock += 0.01, op->after.clear(), op->run = nullptr, op->go_on = nullptr;
        return true;
    }
    return false;
}
inline void step_or_sleep() { if (!step()) usleep(50); }
// The host waits, though it may be for nothing.
inline void run_until(const OpPtr& op) {
    tell({Event::WAIT, op ? op->name : "nothing"});
    while (op && !op->done) step_or_sleep();
}
inline void run_all() {
    tell({Event::WAIT, "everything"});
    while (!queue().pending.empty()) step_or_sleep();
}
inline void run_some() { for (uint32_t n = random(3); n && !queue().pending.empty() && step(); n--) {} }

// What the stream's next operation comes after: of its own.
inline std::vector<OpPtr> ends(const EmuStream& stream) {
    std::vector<OpPtr> all = stream.also;
    if (stream.last) all.insert(all.begin(), stream.last);
    return all;
}
// May a kernel that is launched with programmatic serialization come early? Behind a kernel it may, and behind anything else not: an edge
// of this type is between two kernel nodes (cudaGraphDependencyTypeProgrammatic). An event between them is taken to be none: in a
// capture it is no node, and outside of one nothing promises more. The first kernel of a stream may, as if one had been before it: that
// its tests launch it alone does not mean that it need not wait; the first of a graph may not.
inline bool may_be_early(const EmuStream& stream) {
    auto kernel = [](const OpPtr& op) { return op->kind == KERNEL || (op->kind == EVENT && op->behind_kernel); };
    if (!stream.capture) return !stream.last || kernel(stream.last);
    for (const OpPtr& op : ends(stream)) if (kernel(op)) return true;
    return false;
}

// May work be enqueued there?
inline cudaError_t check_enqueue(const char* call, cudaStream_t s) {
    if (cudaError_t e = check_stream(call, s); e != cudaSuccess) return e;
    if (is_legacy(s)) return legacy(call);
    return s->capture && s->capture->invalid ? refuse(cudaErrorStreamCaptureInvalidated, call, "the capture of this stream is invalid") : cudaSuccess;
}
#define EMU_ENQUEUE(s) do { if (cudaError_t e_ = emu::check_enqueue(__func__, s); e_ != cudaSuccess) return e_; } while (0)

void add_to_graph(EmuGraph& graph, const OpPtr& op);  // graphs.h

// `run` in the order of the stream. Work on the default stream and work on streams that are not "non-blocking" wait for each other.
inline cudaError_t enqueue(cudaStream_t s, const char* name, std::function<void()> run, Kind kind = KERNEL, int places = 0) {
    if (cudaError_t e = check_enqueue(name, s); e != cudaSuccess) { g_fault() |= e == cudaErrorInvalidResourceHandle; return e; }
    Queue& q = queue();
    EmuStream* stream = stream_of(s);
    OpPtr op = std::make_shared<Op>(Op{name, std::move(run), ends(*stream), kind, places, may_be_early(*stream)});
    op->stream = stream;
    stream->also.clear();
    stream->last = op;
    if (stream->capture) { add_to_graph(*stream->capture->graph, op); return cudaSuccess; }
    if (stream == &q.null_stream) {
        for (EmuStream* other : q.streams) if (other->blocking && !other->capture && other->last) op->after.push_back(other->last);
    } else if (stream->blocking && q.null_stream.last) op->after.push_back(q.null_stream.last);
    q.pending.push_back(op);
    return cudaSuccess;
}
inline cudaError_t finish() { return g_fault() ? failed(cudaErrorLaunchFailure) : cudaSuccess; }

// A captured stream has nothing that could be waited for or asked about.
inline cudaError_t check_wait(const char* call, cudaStream_t s) {
    if (cudaError_t e = check_stream(call, s); e != cudaSuccess) return e;
    if (is_legacy(s)) { if (cudaError_t e = legacy(call); e != cudaSuccess) return e; }
    else if (s->capture) return invalidate(*s->capture, cudaErrorStreamCaptureUnsupported, call, "the stream is captured");
    return unsafe(call);
}
inline cudaError_t check_wait(const char* call, cudaEvent_t e) {
    if (cudaError_t error = check_event(call, e); error != cudaSuccess) return error;
    if (e->capture) return invalidate(*e->capture, cudaErrorCapturedEvent, call, "the event was last recorded in a capture");
    return unsafe(call);
}
#define EMU_WAIT(handle) do { if (cudaError_t e_ = emu::check_wait(__func__, handle); e_ != cudaSuccess) return e_; } while (0)
}  // namespace emu

// ---- streams ----------------------------------------------------------------------------------------------------------
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags) {
    EMU_ENTER();
    if (!s || flags > cudaStreamNonBlocking) return emu::failed(cudaErrorInvalidValue);
    *s = new EmuStream{!(flags & cudaStreamNonBlocking)};
    emu::queue().streams.insert(*s);
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithFlags(s, 0); }
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int) { return cudaStreamCreateWithFlags(s, flags); }
inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
    EMU_ENTER();
    if (emu::is_legacy(s)) return emu::failed(cudaErrorInvalidResourceHandle);
    EMU_STREAM(s);
    if (s->capture) return emu::invalidate(*s->capture, cudaErrorStreamCaptureUnsupported, __func__, "the stream is captured");
    emu::queue().streams.erase(s);
    delete s;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    EMU_ENTER();
    EMU_WAIT(s);
    emu::run_until(emu::stream_of(s)->last);
    return emu::finish();
}
// Of the device: forbidden in every mode of capture, as its streams are among what it would wait for.
inline cudaError_t cudaDeviceSynchronize() {
    EMU_ENTER();
    if (!emu::captures().empty()) return emu::invalidate_all(cudaErrorStreamCaptureUnsupported, __func__, "a stream is captured");
    emu::run_all();
    return emu::finish();
}
inline cudaError_t cudaStreamQuery(cudaStream_t s) {
    EMU_ENTER();
    EMU_WAIT(s);
    emu::run_some();
    const emu::OpPtr& last = emu::stream_of(s)->last;
    return !last || last->done ? emu::finish() : emu::failed(cudaErrorNotReady);
}
inline cudaError_t cudaLaunchHostFunc(cudaStream_t s, void (*f)(void*), void* data) {
    EMU_ENTER();
    EMU_ENQUEUE(s);
    if (!f) return emu::failed(cudaErrorInvalidValue);
    return emu::enqueue(s, "host function", [=] {
        emu::in_host_function() = true;
        f(data);
        emu::in_host_function() = false;
    }, emu::HOST);
}

// ---- events -----------------------------------------------------------------------------------------------------------
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags) {
    EMU_ENTER();
    if (!e || flags > 7 || ((flags & cudaEventInterprocess) && !(flags & cudaEventDisableTiming))) return emu::failed(cudaErrorInvalidValue);
    *e = new EmuEvent{!(flags & cudaEventDisableTiming)};
    emu::queue().events.insert(*e);
    return cudaSuccess;
}
inline cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
inline cudaError_t cudaEventDestroy(cudaEvent_t e) {
    EMU_ENTER();
    EMU_EVENT(e);
    emu::queue().events.erase(e);
    delete e;
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = nullptr) {
    EMU_ENTER();
    EMU_EVENT(e);
    EMU_ENQUEUE(s);
    EmuStream* stream = emu::stream_of(s);
    if (!stream->capture) emu::enqueue(s, "event", [] {}, emu::EVENT);
    e->recorded = true, e->capture = stream->capture, e->ops = stream->capture ? emu::ends(*stream) : std::vector<emu::OpPtr>{stream->last};
    return cudaSuccess;
}
// What is captured depends on nothing that is not, nor on another capture; what is not captured joins the capture that it waits for.
inline cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags = 0) {
    EMU_ENTER();
    EMU_EVENT(e);
    EMU_ENQUEUE(s);
    if (flags > cudaEventWaitExternal) return emu::failed(cudaErrorInvalidValue);
    if (flags) return emu::refuse(cudaErrorNotSupported, __func__, "the emulator has no external events");
    EmuStream* stream = emu::stream_of(s);
    if (e->capture) {
        emu::Capture& theirs = *e->capture;
        if (theirs.ended) return emu::refuse(cudaErrorCapturedEvent, __func__, "the event was last recorded in a capture that has ended");
        if (theirs.invalid) return emu::refuse(cudaErrorStreamCaptureInvalidated, __func__, "the event's capture is invalid");
        if (emu::is_legacy(s)) return emu::invalidate(theirs, cudaErrorStreamCaptureImplicit, __func__, "the legacy default stream cannot be captured");
        if (stream->capture && stream->capture != e->capture) {
            stream->capture->invalid = true;
            return emu::invalidate(theirs, cudaErrorStreamCaptureMerge, __func__, "the event and the stream belong to two captures");
        }
        if (!stream->capture) stream->capture = e->capture, stream->before = stream->last, stream->last = nullptr, theirs.blocking |= stream->blocking;
    } else if (stream->capture)
        return emu::invalidate(*stream->capture, cudaErrorStreamCaptureIsolation, __func__, "a captured stream cannot wait for an event from outside of the capture");
    stream->also.insert(stream->also.end(), e->ops.begin(), e->ops.end());
    return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    EMU_ENTER();
    EMU_WAIT(e);
    emu::run_until(e->recorded ? e->ops[0] : nullptr);
    return emu::finish();
}
inline cudaError_t cudaEventQuery(cudaEvent_t e) {
    EMU_ENTER();
    EMU_WAIT(e);
    emu::run_some();
    return !e->recorded || e->ops[0]->done ? emu::finish() : emu::failed(cudaErrorNotReady);
}
inline cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
    EMU_ENTER();
    EMU_EVENT(from);
    EMU_EVENT(to);
    if (!ms) return emu::failed(cudaErrorInvalidValue);
    for (cudaEvent_t e : {from, to}) {
        if (!e->timing) return emu::refuse(cudaErrorInvalidResourceHandle, __func__, "an event was created with cudaEventDisableTiming");
        if (!e->recorded) return emu::refuse(cudaErrorInvalidResourceHandle, __func__, "an event was never recorded");
        if (e->capture) return emu::invalidate(*e->capture, cudaErrorCapturedEvent, __func__, "an event was last recorded in a capture");
    }
    if (!from->ops[0]->done || !to->ops[0]->done) return emu::failed(cudaErrorNotReady);
    *ms = (float)(to->ops[0]->finished - from->ops[0]->finished);
    return cudaSuccess;
}
