// The rules of the CUDA runtime: each call that a GPU's runtime refuses, or whose result nothing promises, is refused here too.
#include <ptx_on_cpu.h>
#include <thread>
#include "emu_test.h"

namespace {
#define REFUSED(call, error) do { const cudaError_t e_ = (call), x_ = (error); if (e_ != x_) \
    FAIL("%s: %s, expected %s", #call, cudaGetErrorName(e_), cudaGetErrorName(x_)); } while (0)

cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) { cudaStream_t s = nullptr; OK(cudaStreamCreateWithFlags(&s, flags)); return s; }
cudaEvent_t new_event(unsigned flags = 0) { cudaEvent_t e = nullptr; OK(cudaEventCreateWithFlags(&e, flags)); return e; }
}  // namespace

__global__ void one_more(int* x) { x[threadIdx.x] += 1; }
__global__ void twice(int* x) { x[threadIdx.x] *= 2; }

// ---- what may not be called while a stream is captured ---------------------------------------------------------------------

namespace {
// `call` is refused in a capture, which is invalid from then on, and its stream is as before when it has ended.
template <class Call> void refused_in_capture(const char* what, cudaStreamCaptureMode mode, unsigned flags, cudaError_t error, Call call) {
    Buffer<int> x(std::vector<int>(32, 1));
    cudaStream_t s = new_stream(flags);
    OK(cudaStreamBeginCapture(s, mode));
    OK(run(one_more, 1, 32, 0, s, x.p));
    const cudaError_t e = call(s);
    if (e != error) FAIL("%s in mode %d: %s, expected %s", what, mode, cudaGetErrorName(e), cudaGetErrorName(error));
    cudaStreamCaptureStatus status;
    if (error != cudaSuccess) {
        OK(cudaStreamIsCapturing(s, &status));
        if (status != cudaStreamCaptureStatusInvalidated) FAIL("%s in mode %d: the capture's status is %d", what, mode, status);
        REFUSED(run(one_more, 1, 32, 0, s, x.p), cudaErrorStreamCaptureInvalidated);
    }
    cudaGraph_t graph = (cudaGraph_t)1;
    REFUSED(cudaStreamEndCapture(s, &graph), error == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
    EXPECT((graph == nullptr) == (error != cudaSuccess));
    if (graph) OK(cudaGraphDestroy(graph));
    OK(cudaStreamIsCapturing(s, &status)); EXPECT_EQ(status, cudaStreamCaptureStatusNone);
    OK(run(one_more, 1, 32, 0, s, x.p)); OK(cudaStreamSynchronize(s));
    EXPECT_EQ(x.values()[0], 2);
    OK(cudaStreamDestroy(s));
}
constexpr cudaStreamCaptureMode GLOBAL = cudaStreamCaptureModeGlobal, THREAD = cudaStreamCaptureModeThreadLocal, RELAXED = cudaStreamCaptureModeRelaxed;
}  // namespace

TEST(captures_forbid_what_happens_at_once) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        int host[32], *device = nullptr, *pinned = nullptr, *managed = nullptr;
        cudaStream_t other = new_stream();
        cudaEvent_t before = new_event();
        OK(cudaEventRecord(before, other));
        for (cudaStreamCaptureMode mode : {GLOBAL, THREAD, RELAXED}) {
            auto refused = [&](const char* what, auto call) {
                refused_in_capture(what, mode, cudaStreamNonBlocking, mode == RELAXED ? cudaSuccess : cudaErrorStreamCaptureUnsupported, [&](cudaStream_t) { return call(); });
            };
            refused("cudaMalloc", [&] { return cudaMalloc(&device, 4); });
            refused("cudaMallocHost", [&] { return cudaMallocHost(&pinned, 4); });
            refused("cudaMallocManaged", [&] { return cudaMallocManaged(&managed, 4); });
            refused("cudaFree", [&] { return cudaFree(device); });
            refused("cudaFreeHost", [&] { return cudaFreeHost(pinned); });
            refused("cudaMemcpy", [&] { return cudaMemcpy(host, x.p, 128, cudaMemcpyDeviceToHost); });
            refused("cudaMemset", [&] { return cudaMemset(x.p, 0, 128); });
            refused("cudaEventQuery", [&] { const cudaError_t e = cudaEventQuery(before); return e == cudaErrorNotReady ? cudaSuccess : e; });
            refused("cudaEventSynchronize", [&] { return cudaEventSynchronize(before); });
            refused("cudaStreamQuery", [&] { const cudaError_t e = cudaStreamQuery(other); return e == cudaErrorNotReady ? cudaSuccess : e; });
            refused("cudaStreamSynchronize", [&] { return cudaStreamSynchronize(other); });
            refused_in_capture("another thread", mode, cudaStreamNonBlocking, mode == GLOBAL ? cudaErrorStreamCaptureUnsupported : cudaSuccess, [&](cudaStream_t) {
                cudaError_t e = cudaSuccess;
                std::thread([&] { e = cudaMalloc(&device, 4); }).join();
                return e;
            });
        }
    });
}
TEST(captures_forbid_asking_what_is_captured) {
    quietly([] {
        cudaEvent_t e = new_event(), other = new_event();
        float ms;
        OK(cudaEventRecord(other)); OK(cudaDeviceSynchronize());
        for (cudaStreamCaptureMode mode : {GLOBAL, THREAD, RELAXED}) {
            auto refused = [&](const char* what, cudaError_t error, auto call) { refused_in_capture(what, mode, cudaStreamNonBlocking, error, call); };
            refused("cudaStreamSynchronize", cudaErrorStreamCaptureUnsupported, [](cudaStream_t s) { return cudaStreamSynchronize(s); });
            refused("cudaStreamQuery", cudaErrorStreamCaptureUnsupported, [](cudaStream_t s) { return cudaStreamQuery(s); });
            refused("cudaDeviceSynchronize", cudaErrorStreamCaptureUnsupported, [](cudaStream_t) { return cudaDeviceSynchronize(); });
            refused("cudaStreamDestroy", cudaErrorStreamCaptureUnsupported, [](cudaStream_t s) { return cudaStreamDestroy(s); });
            refused("cudaStreamBeginCapture", cudaErrorIllegalState, [](cudaStream_t s) { return cudaStreamBeginCapture(s, RELAXED); });
            refused("cudaEventQuery", cudaErrorCapturedEvent, [&](cudaStream_t s) { OK(cudaEventRecord(e, s)); return cudaEventQuery(e); });
            refused("cudaEventSynchronize", cudaErrorCapturedEvent, [&](cudaStream_t s) { OK(cudaEventRecord(e, s)); return cudaEventSynchronize(e); });
            refused("cudaEventElapsedTime", cudaErrorCapturedEvent, [&](cudaStream_t s) { OK(cudaEventRecord(e, s)); return cudaEventElapsedTime(&ms, other, e); });
        }
        REFUSED(cudaEventQuery(e), cudaErrorCapturedEvent);  // and when the capture has ended
        OK(cudaEventRecord(e)); OK(cudaEventSynchronize(e));
    });
}
// A stream that is not "non-blocking" and the legacy default stream wait for each other; and cudaMemcpy uses that one.
TEST(captures_of_blocking_streams_forbid_the_default_stream) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0)), y(std::vector<int>(32, 0));
        int host[32];
        cudaEvent_t e = new_event();
        auto refused = [&](const char* what, auto call) { refused_in_capture(what, RELAXED, cudaStreamDefault, cudaErrorStreamCaptureImplicit, [&](cudaStream_t) { return call(); }); };
        refused("a kernel", [&] { return run(one_more, 1, 32, 0, nullptr, y.p); });
        refused("cudaMemcpyAsync", [&] { return cudaMemcpyAsync(x.p, y.p, 128, cudaMemcpyDeviceToDevice); });
        refused("cudaMemsetAsync", [&] { return cudaMemsetAsync(x.p, 0, 128); });
        refused("cudaMemcpy", [&] { return cudaMemcpy(host, x.p, 128, cudaMemcpyDeviceToHost); });
        refused("cudaMemset", [&] { return cudaMemset(x.p, 0, 128); });
        refused("cudaEventRecord", [&] { return cudaEventRecord(e); });
        refused("cudaStreamWaitEvent", [&] { return cudaStreamWaitEvent(nullptr, e); });
        refused("cudaStreamSynchronize", [&] { return cudaStreamSynchronize(cudaStreamLegacy); });
        refused("cudaStreamQuery", [&] { return cudaStreamQuery(nullptr); });
        // to ask whether it is captured is refused too, but breaks nothing
        refused_in_capture("cudaStreamIsCapturing", GLOBAL, cudaStreamDefault, cudaSuccess, [](cudaStream_t) {
            cudaStreamCaptureStatus status;
            REFUSED(cudaStreamIsCapturing(nullptr, &status), cudaErrorStreamCaptureImplicit);
            return cudaSuccess;
        });
        // other streams may be used
        cudaStream_t s = new_stream();
        refused_in_capture("another stream", GLOBAL, cudaStreamDefault, cudaSuccess, [&](cudaStream_t) { return run(one_more, 1, 32, 0, s, x.p); });
        REFUSED(cudaStreamBeginCapture(nullptr, GLOBAL), cudaErrorStreamCaptureUnsupported);
        REFUSED(cudaStreamBeginCapture(s, (cudaStreamCaptureMode)3), cudaErrorInvalidValue);
    });
}
TEST(captures_keep_their_dependencies_to_themselves) {
    quietly([] {
        cudaStream_t other = new_stream();
        cudaEvent_t before = new_event(), e = new_event();
        OK(cudaEventRecord(before, other));
        auto refused = [&](const char* what, cudaError_t error, auto call) { refused_in_capture(what, RELAXED, cudaStreamNonBlocking, error, call); };
        refused("to wait for what is not captured", cudaErrorStreamCaptureIsolation, [&](cudaStream_t s) { return cudaStreamWaitEvent(s, before); });
        refused("the default stream joins", cudaErrorStreamCaptureImplicit, [&](cudaStream_t s) { OK(cudaEventRecord(e, s)); return cudaStreamWaitEvent(nullptr, e); });
        // two captures do not merge
        cudaGraph_t graph;
        refused("two captures", cudaErrorStreamCaptureMerge, [&](cudaStream_t s) {
            OK(cudaEventRecord(e, s)); OK(cudaStreamBeginCapture(other, RELAXED));
            const cudaError_t error = cudaStreamWaitEvent(other, e);
            REFUSED(cudaStreamEndCapture(other, &graph), cudaErrorStreamCaptureInvalidated);
            return error;
        });
        REFUSED(cudaStreamWaitEvent(other, e), cudaErrorCapturedEvent);  // of a capture that has ended
    });
}
TEST(captures_end_where_they_began_and_with_what_was_forked) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        cudaStream_t side = new_stream();
        cudaEvent_t fork = new_event(), join = new_event();
        cudaGraph_t graph = nullptr;
        auto forked = [&](cudaStream_t s) { OK(cudaEventRecord(fork, s)); OK(cudaStreamWaitEvent(side, fork)); return run(one_more, 1, 32, 0, side, x.p); };
        // not on the stream that was drawn into it, nor by another thread unless relaxed
        refused_in_capture("another stream", RELAXED, cudaStreamNonBlocking, cudaErrorStreamCaptureUnmatched, [&](cudaStream_t s) { OK(forked(s)); return cudaStreamEndCapture(side, &graph); });
        for (cudaStreamCaptureMode mode : {GLOBAL, THREAD})
            refused_in_capture("another thread", mode, cudaStreamNonBlocking, cudaErrorStreamCaptureWrongThread, [&](cudaStream_t s) {
                cudaError_t e = cudaSuccess;
                std::thread([&] { e = cudaStreamEndCapture(s, &graph); }).join();
                return e;
            });
        REFUSED(cudaStreamEndCapture(side, &graph), cudaErrorIllegalState);  // no capture
        cudaStream_t s = new_stream();
        OK(cudaStreamBeginCapture(s, GLOBAL)); OK(forked(s));
        REFUSED(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureUnjoined);
        EXPECT(graph == nullptr);
        OK(cudaStreamBeginCapture(s, GLOBAL)); OK(forked(s));
        OK(cudaEventRecord(join, side)); OK(cudaStreamWaitEvent(s, join));
        OK(run(one_more, 1, 32, 0, side, x.p));  // after the join
        REFUSED(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureUnjoined);
        OK(cudaStreamBeginCapture(s, GLOBAL)); OK(forked(s));
        OK(cudaEventRecord(join, side)); OK(cudaStreamWaitEvent(s, join));
        OK(cudaStreamEndCapture(s, &graph));
        OK(run(one_more, 1, 32, 0, side, x.p)); OK(cudaStreamSynchronize(side));  // is free again
        EXPECT_EQ(x.values()[0], 1);
    });
}
TEST(captures_take_no_pageable_memory) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        int host[32], *pinned = nullptr;
        OK(cudaMallocHost(&pinned, 128));
        auto refused = [&](const char* what, cudaError_t error, auto call) { refused_in_capture(what, RELAXED, cudaStreamNonBlocking, error, call); };
        refused("from pageable", cudaErrorStreamCaptureUnsupported, [&](cudaStream_t s) { return cudaMemcpyAsync(x.p, host, 128, cudaMemcpyHostToDevice, s); });
        refused("to pageable", cudaErrorStreamCaptureUnsupported, [&](cudaStream_t s) { return cudaMemcpyAsync(host, x.p, 128, cudaMemcpyDeviceToHost, s); });
        refused("pinned", cudaSuccess, [&](cudaStream_t s) { return cudaMemcpyAsync(x.p, pinned, 128, cudaMemcpyHostToDevice, s); });
    });
}
// What is known to be allowed: attributes of kernels are asked for and set, events are made, occupancy is computed.
TEST(captures_allow_the_rest) {
    refused_in_capture("attributes", GLOBAL, cudaStreamNonBlocking, cudaSuccess, [](cudaStream_t s) {
        cudaFuncAttributes a = {};
        int blocks;
        OK(cudaFuncGetAttributes(&a, (const void*)twice)); OK(cudaFuncSetAttribute((const void*)twice, cudaFuncAttributeMaxDynamicSharedMemorySize, 50000));
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, (const void*)twice, 64, 0));
        cudaEvent_t e = new_event();
        OK(cudaEventRecord(e, s)); OK(cudaEventDestroy(e));
        return cudaSuccess;
    });
}

// ---- graphs ----------------------------------------------------------------------------------------------------------------

namespace {
template <class Work> cudaGraph_t captured(cudaStream_t s, Work work) {
    cudaGraph_t graph = nullptr;
    OK(cudaStreamBeginCapture(s, GLOBAL));
    work();
    OK(cudaStreamEndCapture(s, &graph));
    return graph;
}
template <class Work> cudaGraphExec_t executable(cudaStream_t s, Work work) {
    cudaGraphExec_t exec = nullptr;
    cudaGraph_t graph = captured(s, work);
    OK(cudaGraphInstantiate(&exec, graph)); OK(cudaGraphDestroy(graph));
    return exec;
}
}  // namespace

TEST(graphs_are_updated_by_their_like) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0)), y(std::vector<int>(32, 0));
        int* pinned = nullptr;
        OK(cudaMallocHost(&pinned, 128));
        cudaStream_t s = new_stream(), side = new_stream();
        cudaEvent_t fork = new_event(), join = new_event();
        cudaGraphExec_t exec = executable(s, [&] { OK(run(one_more, 1, 32, 0, s, x.p)); OK(cudaMemcpyAsync(y.p, x.p, 128, cudaMemcpyDeviceToDevice, s)); });
        auto update = [&](cudaGraphExecUpdateResult expected, auto work) {
            cudaGraph_t graph = captured(s, work);
            cudaGraphExecUpdateResultInfo info = {};
            REFUSED(cudaGraphExecUpdate(exec, graph, &info), expected == cudaGraphExecUpdateSuccess ? cudaSuccess : cudaErrorGraphExecUpdateFailure);
            EXPECT_EQ(info.result, expected);
            OK(cudaGraphDestroy(graph));
        };
        update(cudaGraphExecUpdateSuccess, [&] { OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemcpyAsync(y.p, x.p, 64, cudaMemcpyDeviceToDevice, s)); });
        update(cudaGraphExecUpdateErrorTopologyChanged, [&] { OK(run(twice, 1, 16, 0, s, x.p)); });
        update(cudaGraphExecUpdateErrorNodeTypeChanged, [&] { OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemsetAsync(y.p, 0, 128, s)); });
        update(cudaGraphExecUpdateErrorParametersChanged, [&] { OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemcpyAsync(pinned, x.p, 64, cudaMemcpyDeviceToHost, s)); });
        update(cudaGraphExecUpdateErrorTopologyChanged, [&] {  // side by side, no longer one after the other
            OK(cudaEventRecord(fork, s)); OK(cudaStreamWaitEvent(side, fork));
            OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemcpyAsync(y.p, x.p, 64, cudaMemcpyDeviceToDevice, side));
            OK(cudaEventRecord(join, side)); OK(cudaStreamWaitEvent(s, join));
        });
        OK(cudaGraphExecDestroy(exec));
        REFUSED(cudaGraphLaunch(exec, s), cudaErrorInvalidValue); REFUSED(cudaGraphExecDestroy(exec), cudaErrorInvalidValue);
        cudaGraph_t none = nullptr;
        REFUSED(cudaGraphInstantiate(&exec, none), cudaErrorInvalidValue); REFUSED(cudaGraphDestroy(none), cudaErrorInvalidValue);
        REFUSED(cudaGraphLaunch(nullptr, s), cudaErrorInvalidValue);
    });
}
TEST(graphs_have_a_node_for_each_piece_of_work) {
    Buffer<int> x(std::vector<int>(32, 0));
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    cudaGraph_t graph = captured(s, [&] { OK(run(one_more, 1, 32, 0, s, x.p)); OK(cudaEventRecord(e, s)); OK(run(twice, 1, 32, 0, s, x.p)); });
    size_t n = 0, room = 3;
    cudaGraphNode_t nodes[3];
    OK(cudaGraphGetNodes(graph, nullptr, &n)); EXPECT_EQ(n, 2u);  // an event is none
    OK(cudaGraphGetNodes(graph, nodes, &room)); EXPECT_EQ(room, 2u); EXPECT(nodes[0] && nodes[1] && !nodes[2]);
    OK(cudaGraphDestroy(graph)); OK(cudaStreamDestroy(s)); OK(cudaEventDestroy(e));
}
// One launch of a graph comes after the last one, also on other streams; other graphs and other streams' work may come between its nodes.
TEST(graphs_run_one_launch_at_a_time_beside_other_streams) {
    int between = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        emu::set_seed(seed);
        Buffer<int> x(std::vector<int>(32, 1)), y(std::vector<int>(32, 1));
        cudaStream_t s = new_stream(), other = new_stream();
        cudaGraphExec_t a = executable(s, [&] { OK(run(one_more, 1, 32, 0, s, x.p)); OK(run(twice, 1, 32, 0, s, x.p)); });
        OK(cudaGraphLaunch(a, s)); OK(cudaGraphLaunch(a, other));
        EXPECT_EQ(x.values()[0], 10);
        cudaGraphExec_t b = executable(s, [&] { OK(run(one_more, 1, 32, 0, s, y.p)); OK(run(one_more, 1, 32, 0, s, y.p)); });
        OK(cudaGraphLaunch(b, s)); OK(run(twice, 1, 32, 0, other, y.p));  // 6 or 4 if one comes before the other
        between += y.values()[0] == 5;
        OK(cudaGraphExecDestroy(a)); OK(cudaGraphExecDestroy(b)); OK(cudaStreamDestroy(s)); OK(cudaStreamDestroy(other));
    }
    EXPECT(between > 0);
}
TEST(graphs_need_their_memory) {
    cudaStream_t s = new_stream();
    int *device = nullptr, *pinned = nullptr;
    OK(cudaMalloc(&device, 128)); OK(cudaMallocHost(&pinned, 128));
    cudaGraphExec_t exec = executable(s, [&] { OK(cudaMemcpyAsync(device, pinned, 128, cudaMemcpyHostToDevice, s)); });
    OK(cudaGraphLaunch(exec, s)); OK(cudaStreamSynchronize(s));
    expect_found("pinned memory", "pinned memory was freed before", [&] { OK(cudaFreeHost(pinned)); OK(cudaGraphLaunch(exec, s)); });
    expect_found("device memory", "memory outside of every allocation", [&] { OK(cudaFree(device)); OK(cudaGraphLaunch(exec, s)); });
    OK(cudaGraphExecDestroy(exec)); OK(cudaFree(device)); OK(cudaFreeHost(pinned)); OK(cudaStreamDestroy(s));
}

// ---- kernels that are launched early -----------------------------------------------------------------------------------------

__global__ void never_waits(int* x) { x[threadIdx.x] = 3; }
__global__ void waits_at_once(int* x) { griddepcontrol_wait(), x[threadIdx.x] = 4; }
static void nothing(void*) {}
// Only a kernel right behind a kernel may be early, in a graph as in a stream.
TEST(kernels_are_early_behind_kernels_only) {
    Buffer<int> x(std::vector<int>(32, 0)), y(std::vector<int>(32, 0));
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    const char* text = "kernel was launched early";
    auto in_stream = [&](auto work) { work(); OK(run_programmatic(never_waits, 1, 1, s, x.p)); };
    auto in_graph = [&](auto work) {
        cudaGraphExec_t exec = executable(s, [&] { in_stream(work); });
        OK(cudaGraphLaunch(exec, s));
    };
    auto late = [&](const char* what, auto work) {
        quietly([&] { in_stream(work); OK(cudaStreamSynchronize(s)); if (g_failures) printf("%s, in a stream\n", what); });
        quietly([&] { in_graph(work); OK(cudaStreamSynchronize(s)); if (g_failures) printf("%s, in a graph\n", what); });
    };
    auto early = [&](const char* what, auto work) { expect_found(what, text, [&] { in_stream(work); }), expect_found(what, text, [&] { in_graph(work); }); };
    auto kernel = [&] { OK(run(one_more, 1, 32, 0, s, y.p)); };
    quietly([&] { in_graph([] {}); OK(cudaStreamSynchronize(s)); });  // the first of a graph is late, that of a stream taken to be early
    expect_found("behind nothing", text, [&] { in_stream([] {}); });
    late("behind a memset", [&] { kernel(); OK(cudaMemsetAsync(y.p, 0, 128, s)); });
    late("behind a copy", [&] { kernel(); OK(cudaMemcpyAsync(x.p, y.p, 128, cudaMemcpyDeviceToDevice, s)); });
    late("behind a host function", [&] { kernel(); OK(cudaLaunchHostFunc(s, nothing, nullptr)); });
    early("behind a kernel", kernel);
    early("behind a kernel and an event", [&] { kernel(); OK(cudaEventRecord(e, s)); });
    OK(run(one_more, 1, 32, 0, s, y.p)); OK(run_programmatic(waits_at_once, 1, 32, s, x.p)); OK(cudaStreamSynchronize(s));
    EXPECT_EQ(x.values()[5], 4);
    if (emu::watched()) {  // what it may read before it waits: behind a copy everything, behind a kernel nothing
        const char* before = "before cudaGridDependencySynchronize";
        expect_found("reads early", before, [&] { kernel(); OK(run_programmatic(one_more, 1, 32, s, x.p)); });
        quietly([&] { kernel(); OK(cudaMemsetAsync(x.p, 0, 128, s)); OK(run_programmatic(one_more, 1, 32, s, x.p)); OK(cudaStreamSynchronize(s)); });
    }
}

// ---- launches --------------------------------------------------------------------------------------------------------------------

TEST(launches_with_attributes_that_do_not_fit) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        auto launch = [&](std::vector<cudaLaunchAttribute> attributes, unsigned n) {
            cudaLaunchConfig_t config = {};
            config.gridDim = 2, config.blockDim = 32, config.attrs = attributes.data(), config.numAttrs = n;
            if (attributes.empty()) config.attrs = nullptr;
            return cudaLaunchKernelEx(&config, one_more, x.p);
        };
        auto attribute = [](cudaLaunchAttributeID id, int value = 1) { cudaLaunchAttribute a = {}; a.id = id, a.val.priority = value; return a; };
        auto cluster = [](unsigned n) { cudaLaunchAttribute a = {}; a.id = cudaLaunchAttributeClusterDimension, a.val.clusterDim = {n, 1, 1}; return a; };
        const cudaLaunchAttribute early = attribute(cudaLaunchAttributeProgrammaticStreamSerialization);
        OK(launch({early, attribute(cudaLaunchAttributePriority)}, 2));
        REFUSED(launch({}, 1), cudaErrorInvalidValue);
        REFUSED(launch({early, early}, 2), cudaErrorInvalidValue);
        REFUSED(launch({attribute(cudaLaunchAttributeSynchronizationPolicy)}, 1), cudaErrorInvalidValue);  // is one of streams
        REFUSED(launch({attribute((cudaLaunchAttributeID)15)}, 1), cudaErrorInvalidValue);
        REFUSED(launch({cluster(3)}, 1), cudaErrorInvalidValue); OK(launch({cluster(1)}, 1));
        REFUSED(launch({cluster(2)}, 1), cudaErrorNotSupported);  // by the emulator
        REFUSED(launch({attribute(cudaLaunchAttributeCooperative)}, 1), cudaErrorNotSupported);
        void (*none)(int*) = nullptr;
        REFUSED(run(none, 1, 1, 0, nullptr, x.p), cudaErrorInvalidDeviceFunction);
    });
}
__global__ void with_shared(int* x) { x[threadIdx.x] = dynamic_shared()[0]; }
TEST(launches_with_shared_memory_and_attributes_of_kernels) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        const void* kernel = (const void*)with_shared;
        const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
        int blocks = -1;
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 100 << 10)); EXPECT_EQ(blocks, 0);  // it must be asked for
        OK(cudaFuncSetAttribute(kernel, most, 227 << 10)); REFUSED(cudaFuncSetAttribute(kernel, most, (227 << 10) + 1), cudaErrorInvalidValue);
        REFUSED(cudaFuncSetAttribute(kernel, most, -1), cudaErrorInvalidValue);
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 100 << 10)); EXPECT_EQ(blocks, 2);
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 33, 0)); EXPECT_EQ(blocks, 32);     // by blocks
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 65, 0)); EXPECT_EQ(blocks, 21);     // whole warps
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 1025, 0)); EXPECT_EQ(blocks, 0);
        OK(cudaFuncSetAttribute(kernel, most, 1000)); OK(run(with_shared, 1, 1, 1000, nullptr, x.p));
        REFUSED(run(with_shared, 1, 1, 1001, nullptr, x.p), cudaErrorInvalidValue);  // a lower limit is one too
        REFUSED(cudaFuncSetAttribute(kernel, (cudaFuncAttribute)3, 1), cudaErrorInvalidValue);
        REFUSED(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 101), cudaErrorInvalidValue);
        OK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutDefault));
        const void* none = nullptr;
        cudaFuncAttributes a = {};
        REFUSED(cudaFuncGetAttributes(&a, none), cudaErrorInvalidDeviceFunction); REFUSED(cudaFuncSetAttribute(none, most, 1), cudaErrorInvalidDeviceFunction);
    });
}
TEST(launches_with_pointers_of_the_host) {
    Buffer<int> x(std::vector<int>(32, 0));
    int *pinned = nullptr, pageable[32] = {};
    OK(cudaMallocHost(&pinned, 128));
    for (int i = 0; i < 32; i++) pinned[i] = i;
    OK(run(one_more, 1, 32, 0, nullptr, pinned)); OK(cudaDeviceSynchronize());  // the device may use it
    EXPECT_EQ(pinned[7], 8);
    expect_found("pageable memory", "one_more: an argument points to memory of the host that is not pinned", [&] { OK(run(one_more, 1, 32, 0, nullptr, (int*)pageable)); });
    OK(cudaFreeHost(pinned));
}
TEST(launches_that_do_not_compile) {
    struct Odd { char c[3]; };
    EXPECT_EQ((emu::parameter_bytes<int, double, Odd, int*>()), 32u);  // 4, 8 at 8, 3 at 16, 8 at 24
    FILE* file = fopen(BUILD "/tmp/parameters.cu", "w");
    if (!file) SKIP("cannot write to " BUILD "/tmp");
    fputs("#include <cuda_runtime.h>\n#include <string>\n"
          "struct Large { int x[8191]; }; struct Deep { Deep(); Deep(const Deep&); };\n"
          "__global__ void a(int&) {} __global__ void b(Large, int) {} __global__ void c(Deep) {} __global__ void fits(Large) {}\n"
          "int main() { cudaLaunchConfig_t f = {}; int n = 0; Large l; Deep d; cudaDeviceProp p;\n"
          "cudaLaunchKernelEx(&f, fits, l); cudaLaunchKernelEx(&f, a, n); cudaLaunchKernelEx(&f, b, l, 1); cudaLaunchKernelEx(&f, c, d); return p.clockRate + p.memoryClockRate; }\n", file), fclose(file);
    const std::string said = run_command(COMPILER " -std=c++20 -fsyntax-only -Itest/emu -x c++ " BUILD "/tmp/parameters.cu").output;
    for (const char* text : {"parameters are not references", "parameters are too large", "copied as bytes", "clockRate", "memoryClockRate"})
        if (said.find(text) == said.npos) FAIL("'%s' is not in what the compiler says:\n%s", text, said.c_str());
}

// ---- handles, copies, memory, errors ----------------------------------------------------------------------------------------------

TEST(handles_that_are_gone) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        cudaStream_t s = new_stream(), live = new_stream();
        cudaEvent_t e = new_event();
        cudaGraph_t graph;
        cudaStreamCaptureStatus status;
        OK(cudaStreamDestroy(s)); OK(cudaEventDestroy(e));
        const cudaError_t gone = cudaErrorInvalidResourceHandle;
        REFUSED(cudaStreamDestroy(s), gone); REFUSED(cudaStreamDestroy(nullptr), gone); REFUSED(cudaStreamSynchronize(s), gone); REFUSED(cudaStreamQuery(s), gone);
        REFUSED(cudaEventDestroy(e), gone); REFUSED(cudaEventDestroy(nullptr), gone); REFUSED(cudaEventRecord(e, live), gone); REFUSED(cudaEventQuery(e), gone);
        REFUSED(cudaEventSynchronize(nullptr), gone); REFUSED(cudaStreamWaitEvent(live, e), gone); REFUSED(cudaStreamBeginCapture(s, GLOBAL), gone);
        REFUSED(cudaStreamEndCapture(s, &graph), gone); REFUSED(cudaStreamIsCapturing(s, &status), gone); REFUSED(run(one_more, 1, 32, 0, s, x.p), gone);
        REFUSED(cudaMemcpyAsync(x.p, x.p + 16, 64, cudaMemcpyDeviceToDevice, s), gone); REFUSED(cudaMemsetAsync(x.p, 0, 64, s), gone);
        REFUSED(cudaLaunchHostFunc(s, nothing, nullptr), gone); REFUSED(cudaLaunchHostFunc(live, nullptr, nullptr), cudaErrorInvalidValue);
        REFUSED(cudaStreamWaitEvent(live, new_event(), 2), cudaErrorInvalidValue); REFUSED(cudaStreamCreateWithFlags(&s, 2), cudaErrorInvalidValue); REFUSED(cudaEventCreateWithFlags(&e, 8), cudaErrorInvalidValue);
        REFUSED(cudaEventCreateWithFlags(&e, cudaEventInterprocess), cudaErrorInvalidValue);
        REFUSED(cudaStreamCreate(nullptr), cudaErrorInvalidValue); REFUSED(cudaEventCreate(nullptr), cudaErrorInvalidValue);
    });
}
TEST(events_without_time) {
    quietly([] {
        cudaEvent_t timed = new_event(), never = new_event(), plain = new_event(cudaEventDisableTiming);
        float ms = 0;
        cudaGetLastError();
        OK(cudaEventRecord(timed)); OK(cudaEventRecord(plain));
        REFUSED(cudaEventElapsedTime(&ms, timed, timed), cudaErrorNotReady);
        REFUSED(cudaGetLastError(), cudaErrorNotReady);  // which is kept like every error
        OK(cudaDeviceSynchronize());
        REFUSED(cudaEventElapsedTime(&ms, timed, plain), cudaErrorInvalidResourceHandle); REFUSED(cudaEventElapsedTime(&ms, never, timed), cudaErrorInvalidResourceHandle);
        REFUSED(cudaEventElapsedTime(nullptr, timed, timed), cudaErrorInvalidValue);
        OK(cudaEventElapsedTime(&ms, timed, timed)); OK(cudaEventQuery(never)); OK(cudaEventSynchronize(never)); OK(cudaStreamWaitEvent(nullptr, never));
    });
}
TEST(copies_that_do_not_fit_their_pointers) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        int host[64], *pinned = nullptr;
        OK(cudaMallocHost(&pinned, 128));
        const cudaError_t bad = cudaErrorInvalidValue;
        REFUSED(cudaMemcpy(host, x.p, 128, cudaMemcpyHostToDevice), bad); REFUSED(cudaMemcpy(x.p, host, 128, cudaMemcpyDeviceToHost), bad);
        REFUSED(cudaMemcpy(x.p, host, 128, cudaMemcpyDeviceToDevice), bad); REFUSED(cudaMemcpy(host, x.p, 128, cudaMemcpyHostToHost), bad);
        REFUSED(cudaMemcpy(x.p, host, 128, (cudaMemcpyKind)5), cudaErrorInvalidMemcpyDirection);
        REFUSED(cudaMemcpyAsync(nullptr, x.p, 128, cudaMemcpyDeviceToHost), bad); REFUSED(cudaMemcpyAsync(x.p, nullptr, 128, cudaMemcpyHostToDevice), bad);
        REFUSED(cudaMemcpyAsync(x.p, pinned, 132, cudaMemcpyHostToDevice), bad); REFUSED(cudaMemcpyAsync(pinned + 16, x.p, 128, cudaMemcpyDeviceToHost), bad);
        REFUSED(cudaMemcpyAsync(x.p, x.p + 8, 64, cudaMemcpyDeviceToDevice), bad);  // they overlap
        OK(cudaMemcpyAsync(x.p, x.p + 16, 64, cudaMemcpyDeviceToDevice)); OK(cudaMemcpy(host, x.p, 128, cudaMemcpyDefault)); OK(cudaMemcpy(x.p, pinned, 128, cudaMemcpyHostToDevice));
        REFUSED(cudaMemset(host, 0, 4), bad); REFUSED(cudaMemsetAsync(nullptr, 0, 4), bad); REFUSED(cudaMemset(x.p + 31, 0, 8), bad);
        OK(cudaMemset(pinned, 0, 128)); EXPECT_EQ(pinned[31], 0);  // waits: the memory is pinned
        OK(cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyHostToDevice)); OK(cudaMemset(nullptr, 0, 0));
    });
}
TEST(allocations_that_are_none) {
    quietly([] {
        Buffer<int> x(32);
        int *p = (int*)1, *pinned = nullptr, host = 0;
        cudaPointerAttributes a = {};
        void** nowhere = nullptr;
        OK(cudaMallocHost(&p, 0)); EXPECT(p == nullptr);
        OK(cudaMalloc(&p, 0)); EXPECT(p == nullptr);
        REFUSED(cudaMallocManaged(&p, 0), cudaErrorInvalidValue); REFUSED(cudaMallocManaged(&p, 4, 3), cudaErrorInvalidValue);
        REFUSED(cudaMalloc(nowhere, 4), cudaErrorInvalidValue); REFUSED(cudaMallocHost(nowhere, 4), cudaErrorInvalidValue);
        OK(cudaMallocHost(&pinned, 4)); REFUSED(cudaHostAlloc((void**)&p, 4, 8), cudaErrorInvalidValue);
        REFUSED(cudaFree(pinned), cudaErrorInvalidValue); REFUSED(cudaFreeHost(x.p), cudaErrorInvalidValue);
        OK(cudaPointerGetAttributes(&a, x.p)); EXPECT(a.devicePointer == x.p && a.hostPointer == nullptr);
        OK(cudaPointerGetAttributes(&a, &host)); EXPECT(a.devicePointer == nullptr && a.type == cudaMemoryTypeUnregistered);
    });
}
static void calls_cuda(void* result) { *(cudaError_t*)result = cudaGetDevice((int*)result + 1); }
TEST(host_functions_call_nothing) {
    quietly([] {
        int result[2] = {};
        OK(cudaLaunchHostFunc(nullptr, calls_cuda, result)); OK(cudaDeviceSynchronize());
        REFUSED((cudaError_t)result[0], cudaErrorNotPermitted);
    });
}
TEST(the_last_error) {
    quietly([] {
        cudaStream_t s = new_stream();
        cudaGetLastError();  // that of a test before
        emu::set_seed(1);
        Buffer<int> x(std::vector<int>(32, 0));
        for (int i = 0; i < 20; i++) OK(run(one_more, 1, 32, 0, s, x.p));
        REFUSED(cudaStreamQuery(s), cudaErrorNotReady);
        REFUSED(cudaPeekAtLastError(), cudaErrorNotReady); REFUSED(cudaGetLastError(), cudaErrorNotReady);
        OK(cudaGetLastError());
        REFUSED(cudaSetDevice(1), cudaErrorInvalidDevice);
        OK(cudaStreamSynchronize(s));
        REFUSED(cudaPeekAtLastError(), cudaErrorInvalidDevice); REFUSED(cudaGetLastError(), cudaErrorInvalidDevice);  // a success clears nothing
    });
}
