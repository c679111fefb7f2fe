// errors.h: what a call returns, calls that fail on request, and what is reported when the program ends.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>
#include "blocks.h"
#include "listen.h"

#define EMU_ERRORS(E)                                                                                             \
    E(cudaSuccess, 0, "no error") E(cudaErrorInvalidValue, 1, "invalid argument")                                 \
    E(cudaErrorMemoryAllocation, 2, "out of memory") E(cudaErrorInitializationError, 3, "initialization error")   \
    E(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                         \
    E(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")                                   \
    E(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version")            \
    E(cudaErrorInvalidDeviceFunction, 98, "invalid device function")                                              \
    E(cudaErrorNoDevice, 100, "no CUDA-capable device is detected") E(cudaErrorInvalidDevice, 101, "invalid device ordinal") \
    E(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                             \
    E(cudaErrorIllegalState, 401, "the operation cannot be performed in the present state") E(cudaErrorNotReady, 600, "device not ready") \
    E(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                                   \
    E(cudaErrorLaunchFailure, 719, "unspecified launch failure") E(cudaErrorNotPermitted, 800, "operation not permitted") \
    E(cudaErrorNotSupported, 801, "operation not supported")                                                      \
    E(cudaErrorStreamCaptureUnsupported, 900, "operation not permitted when stream is capturing")                 \
    E(cudaErrorStreamCaptureInvalidated, 901, "operation failed due to a previous error during capture")          \
    E(cudaErrorStreamCaptureMerge, 902, "operation would result in a merge of separate capture sequences")        \
    E(cudaErrorStreamCaptureUnmatched, 903, "capture was not ended in the same stream as it began")               \
    E(cudaErrorStreamCaptureUnjoined, 904, "capturing stream has unjoined work")                                  \
    E(cudaErrorStreamCaptureIsolation, 905, "dependency created on uncaptured work in another stream")            \
    E(cudaErrorStreamCaptureImplicit, 906, "operation would make the legacy stream depend on a capturing blocking stream") \
    E(cudaErrorCapturedEvent, 907, "operation not permitted on an event last recorded in a capturing stream")     \
    E(cudaErrorStreamCaptureWrongThread, 908, "attempt to terminate a thread-local capture sequence from another thread") \
    E(cudaErrorGraphExecUpdateFailure, 910, "the graph update was not performed because it included changes which violated constraints") \
    E(cudaErrorUnknown, 999, "unknown error")
enum cudaError_t {
#define E(name, number, text) name = number,
    EMU_ERRORS(E)
#undef E
};
inline const char* cudaGetErrorName(cudaError_t error) {
#define E(name, number, text) if (error == name) return #name;
    EMU_ERRORS(E)
#undef E
    return "unrecognized error code";
}
inline const char* cudaGetErrorString(cudaError_t error) {
#define E(name, number, text) if (error == name) return text;
    EMU_ERRORS(E)
#undef E
    return "unrecognized error code";
}

namespace emu {
inline cudaError_t& last_error() { static cudaError_t e = cudaSuccess; return e; }
// Every error is the last error, cudaErrorNotReady too: who asks and goes on must clear it. (PyTorch's CUDAEvent::query does.)
inline cudaError_t failed(cudaError_t e) { last_error() = e; return e; }
inline cudaError_t refuse(cudaError_t e, const char* call, const std::string& why) {
    fprintf(stderr, "emulator: %s: %s\n", call, why.c_str());
    return failed(e);
}

// A host function in a stream must not make a CUDA call. (cudaLaunchHostFunc)
inline bool& in_host_function() { static bool in = false; return in; }

// EMU_FAIL=n or fail_call(n): the n-th call from now on returns an error; who it was is printed.
inline long& calls_to_failure() {
    static long n = getenv("EMU_FAIL") ? atol(getenv("EMU_FAIL")) : 0;
    return n;
}
inline void fail_call(long n) { calls_to_failure() = n; }

// Every call begins with it. A mistake in a kernel is for ever.
inline cudaError_t enter(const char* call) {
    tell({Event::CALL, call});
    if (g_fault()) return failed(cudaErrorLaunchFailure);
    if (in_host_function()) return refuse(cudaErrorNotPermitted, call, "called by a host function of a stream");
    if (calls_to_failure() > 0 && --calls_to_failure() == 0) {
        fprintf(stderr, "emulator: %s fails on request\n", call);
        return failed(cudaErrorUnknown);
    }
    return cudaSuccess;
}
#define EMU_ENTER() do { if (cudaError_t e_ = emu::enter(__func__); e_ != cudaSuccess) return e_; } while (0)
}  // namespace emu
inline cudaError_t cudaGetLastError() {
    const cudaError_t e = emu::g_fault() ? cudaErrorLaunchFailure : emu::last_error();
    emu::last_error() = cudaSuccess;
    return e;
}
inline cudaError_t cudaPeekAtLastError() { return emu::g_fault() ? cudaErrorLaunchFailure : emu::last_error(); }
