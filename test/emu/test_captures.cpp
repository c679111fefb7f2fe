// What may not be called while a stream is captured, and what ends a capture.
#include <thread>
#include "runtime_test.h"

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
