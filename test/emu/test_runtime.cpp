// Rules of handles, copies, memory and errors: each call that a GPU's runtime refuses, or whose result nothing promises, is refused here too.
#include "runtime_test.h"

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
