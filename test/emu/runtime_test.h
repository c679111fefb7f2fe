// runtime_test.h: what the tests of the runtime's rules share: calls that must be refused, streams, events, kernels and graphs in a line.
#pragma once
#include "emu_test.h"

namespace {
#define REFUSED(call, error) do { const cudaError_t e_ = (call), x_ = (error); if (e_ != x_) \
    FAIL("%s: %s, expected %s", #call, cudaGetErrorName(e_), cudaGetErrorName(x_)); } while (0)

inline cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) { cudaStream_t s = nullptr; OK(cudaStreamCreateWithFlags(&s, flags)); return s; }
inline cudaEvent_t new_event(unsigned flags = 0) { cudaEvent_t e = nullptr; OK(cudaEventCreateWithFlags(&e, flags)); return e; }
constexpr cudaStreamCaptureMode GLOBAL = cudaStreamCaptureModeGlobal, THREAD = cudaStreamCaptureModeThreadLocal, RELAXED = cudaStreamCaptureModeRelaxed;

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

__global__ void one_more(int* x) { x[threadIdx.x] += 1; }
__global__ void twice(int* x) { x[threadIdx.x] *= 2; }
inline void nothing(void*) {}
