// graphs.h: what is captured is done anew at each launch, again in any order that its edges allow, and beside what other streams do.
#pragma once
#include <map>
#include "copies.h"

struct EmuGraph { std::vector<emu::OpPtr> nodes; };
struct EmuGraphExec { std::vector<emu::OpPtr> nodes; emu::OpPtr last; };  // last: the end of its latest launch
using cudaGraph_t = EmuGraph*;
using cudaGraphExec_t = EmuGraphExec*;
using cudaGraphNode_t = emu::Op*;
enum cudaGraphExecUpdateResult { cudaGraphExecUpdateSuccess, cudaGraphExecUpdateError, cudaGraphExecUpdateErrorTopologyChanged,
                                 cudaGraphExecUpdateErrorNodeTypeChanged, cudaGraphExecUpdateErrorFunctionChanged,
                                 cudaGraphExecUpdateErrorParametersChanged };
struct cudaGraphExecUpdateResultInfo { cudaGraphExecUpdateResult result; cudaGraphNode_t errorNode, errorFromNode; };

namespace emu {
struct Graphs { std::set<EmuGraph*> graphs; std::set<EmuGraphExec*> execs; };
inline Graphs& graphs() { static Graphs g; return g; }
inline cudaError_t check_graph(const char* call, cudaGraph_t g) { return check_alive(graphs().graphs, g, cudaErrorInvalidValue, call, "graph"); }
inline cudaError_t check_exec(const char* call, cudaGraphExec_t g) { return check_alive(graphs().execs, g, cudaErrorInvalidValue, call, "executable graph"); }
#define EMU_GRAPH(g) do { if (cudaError_t e_ = emu::check_graph(__func__, g); e_ != cudaSuccess) return e_; } while (0)
#define EMU_EXEC(g) do { if (cudaError_t e_ = emu::check_exec(__func__, g); e_ != cudaSuccess) return e_; } while (0)

inline void add_to_graph(EmuGraph& graph, const OpPtr& op) { graph.nodes.push_back(op); }

// Does everything in the capture come before what its origin has come to?
inline bool joined(const Capture& capture) {
    std::set<const Op*> known;
    std::vector<OpPtr> next = ends(*capture.origin);
    while (!next.empty()) {
        const OpPtr op = next.back();
        next.pop_back();
        if (known.insert(op.get()).second) next.insert(next.end(), op->after.begin(), op->after.end());
    }
    for (const OpPtr& op : capture.graph->nodes) if (!known.count(op.get())) return false;
    return true;
}
// Its streams are as before it.
inline void end_capture(const CapturePtr& capture) {
    for (EmuStream* s : queue().streams)
        if (s->capture == capture) s->capture = nullptr, s->last = s->before, s->before = nullptr, s->also.clear();
    std::erase(captures(), capture);
    capture->ended = true;
}
// Why a graph cannot take the place of the one that `exec` was made of; and at which of its nodes.
inline cudaGraphExecUpdateResultInfo compare(const EmuGraphExec& exec, const EmuGraph& graph) {
    std::map<const Op*, size_t> theirs, ours;
    if (exec.nodes.size() != graph.nodes.size()) return {cudaGraphExecUpdateErrorTopologyChanged, nullptr, nullptr};
    for (size_t i = 0; i < exec.nodes.size(); i++) {
        const Op &was = *exec.nodes[i], &is = *graph.nodes[i];
        theirs[&was] = ours[&is] = i;
        if (was.kind != is.kind) return {cudaGraphExecUpdateErrorNodeTypeChanged, graph.nodes[i].get(), nullptr};
        bool same = was.after.size() == is.after.size();
        for (size_t k = 0; same && k < is.after.size(); k++) same = theirs[was.after[k].get()] == ours[is.after[k].get()];
        if (!same) return {cudaGraphExecUpdateErrorTopologyChanged, graph.nodes[i].get(), nullptr};
        if (was.places != is.places) return {cudaGraphExecUpdateErrorParametersChanged, graph.nodes[i].get(), nullptr};
    }
    return {cudaGraphExecUpdateSuccess, nullptr, nullptr};
}
}  // namespace emu

inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
    EMU_ENTER();
    EMU_STREAM(s);
    if ((unsigned)mode > cudaStreamCaptureModeRelaxed) return emu::failed(cudaErrorInvalidValue);
    if (emu::is_legacy(s)) return emu::refuse(cudaErrorStreamCaptureUnsupported, __func__, "the legacy default stream cannot be captured");
    if (s->capture) return emu::invalidate(*s->capture, cudaErrorIllegalState, __func__, "the stream is captured already");
    if (!s->also.empty()) emu::enqueue(s, "event", [] {}, emu::EVENT);  // what the stream waits for stays before the graph
    s->capture = std::make_shared<emu::Capture>(emu::Capture{new EmuGraph, s, mode, std::this_thread::get_id(), s->blocking});
    s->before = s->last, s->last = nullptr;
    emu::captures().push_back(s->capture);
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
    EMU_ENTER();
    EMU_STREAM(s);
    if (!graph) return emu::failed(cudaErrorInvalidValue);
    *graph = nullptr;
    if (emu::is_legacy(s) || !s->capture) return emu::refuse(cudaErrorIllegalState, __func__, "the stream is not captured");
    const emu::CapturePtr capture = s->capture;
    if (capture->origin != s) return emu::invalidate(*capture, cudaErrorStreamCaptureUnmatched, __func__, "the capture began on another stream");
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
        return emu::invalidate(*capture, cudaErrorStreamCaptureWrongThread, __func__, "the capture was begun by another thread");
    const bool joined = emu::joined(*capture);
    emu::end_capture(capture);
    if (capture->invalid || !joined) {
        delete capture->graph;
        if (capture->invalid) return emu::refuse(cudaErrorStreamCaptureInvalidated, __func__, "the capture is invalid");
        return emu::refuse(cudaErrorStreamCaptureUnjoined, __func__, "a stream that was drawn into the capture has work that its origin does not wait for");
    }
    emu::graphs().graphs.insert(*graph = capture->graph);
    return cudaSuccess;
}
// Asking does not invalidate the capture of a blocking stream, unlike other uses of the legacy stream.
inline cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
    EMU_ENTER();
    EMU_STREAM(s);
    if (!status) return emu::failed(cudaErrorInvalidValue);
    if (emu::is_legacy(s) && emu::legacy_is_blocked()) return emu::failed(cudaErrorStreamCaptureImplicit);
    const emu::CapturePtr capture = emu::stream_of(s)->capture;
    *status = !capture ? cudaStreamCaptureStatusNone : capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0) {
    EMU_ENTER();
    EMU_GRAPH(graph);
    if (!exec || flags > 15) return emu::failed(cudaErrorInvalidValue);
    if (flags & 7) return emu::refuse(cudaErrorNotSupported, __func__, "the emulator knows no flags but cudaGraphInstantiateFlagUseNodePriority");
    *exec = new EmuGraphExec{graph->nodes, nullptr};
    emu::graphs().execs.insert(*exec);
    return cudaSuccess;
}
// The new graph must be the old one but for what its nodes are given.
inline cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* info) {
    EMU_ENTER();
    EMU_EXEC(exec);
    EMU_GRAPH(graph);
    if (!info) return emu::failed(cudaErrorInvalidValue);
    *info = emu::compare(*exec, *graph);
    if (info->result != cudaGraphExecUpdateSuccess) return emu::failed(cudaErrorGraphExecUpdateFailure);
    exec->nodes = graph->nodes;
    return cudaSuccess;
}
// After what the stream has done and after earlier launches of the same graph, on whatever stream.
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
    EMU_ENTER();
    EMU_EXEC(exec);
    EMU_ENQUEUE(s);
    EmuStream* stream = emu::stream_of(s);
    emu::enqueue(s, "graph", [] {}, emu::GRAPH);
    const emu::OpPtr begin = stream->last;
    if (!stream->capture && exec->last) begin->after.push_back(exec->last);
    std::map<const emu::Op*, emu::OpPtr> now;
    for (const emu::OpPtr& node : exec->nodes) {
        const emu::OpPtr op = now[node.get()] = std::make_shared<emu::Op>(*node);
        op->after = {begin};
        for (const emu::OpPtr& before : node->after) op->after.push_back(now.at(before.get()));
        stream->also.push_back(op);
        if (stream->capture) emu::add_to_graph(*stream->capture->graph, op);
        else emu::queue().pending.push_back(op);
    }
    emu::enqueue(s, "graph", [] {}, emu::GRAPH);
    if (!stream->capture) exec->last = stream->last;
    return cudaSuccess;
}
// Where `nodes` is null only their number is asked for.
inline cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* n) {
    EMU_ENTER();
    EMU_GRAPH(graph);
    if (!n) return emu::failed(cudaErrorInvalidValue);
    const size_t all = graph->nodes.size();
    for (size_t i = 0; nodes && i < *n; i++) nodes[i] = i < all ? graph->nodes[i].get() : nullptr;
    *n = nodes ? std::min(*n, all) : all;
    return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    EMU_ENTER();
    EMU_GRAPH(graph);
    emu::graphs().graphs.erase(graph);
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    EMU_ENTER();
    EMU_EXEC(exec);
    emu::graphs().execs.erase(exec);
    delete exec;
    return cudaSuccess;
}
