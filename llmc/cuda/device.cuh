// device.cuh: what a backend must offer besides layers: memory, copies, streams, events, graphs, kernel launches.
#pragma once
#include <cuda_runtime.h>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>
#include "../base/arena.h"
#include "../base/bf16.h"
#include "../base/check.h"
#include "../layers/kernel_options.h"
#include "../base/threads.h"
#include "warp.cuh"

// An error names the failed call and quotes CUDA's message.
#define CUDA_CHECK(call) cuda_check(call, #call, __FILE__, __LINE__)
inline void cuda_check(cudaError_t error, const char* call, const char* file, int line) {
    const bool no_gpu = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
    CHECK(error == cudaSuccess, "%s:%d: %.*s: %s: %s%s", file, line, (int)strcspn(call, "("), call, cudaGetErrorName(error),
          cudaGetErrorString(error), no_gpu ? ": is there an NVIDIA GPU with its driver? ./train_gpt2 trains on the CPU" : "");
}

struct CudaStream : StreamOptions {
    cudaStream_t handle = nullptr;
    operator cudaStream_t() const { return handle; }
};
using stream_t = CudaStream;
inline stream_t open_stream(StreamOptions options) {
    stream_t stream;
    (StreamOptions&)stream = options;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream.handle, cudaStreamNonBlocking));
    int device = 0, major = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    stream.kernels.pdl = stream.kernels.pdl && major >= 9;
    return stream;
}
// What the host does while it waits for the GPU, again and again, given for how many seconds it has waited; null: it sleeps until the GPU is done.
// For work that another GPU may never let it finish. (comm/nccl.h)
inline void (*g_while_waiting)(double seconds) = nullptr;
template <class Reached> void wait_until(Reached is_reached) {
    const auto began = std::chrono::steady_clock::now();
    while (!is_reached()) g_while_waiting(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
}
inline bool is_done(cudaError_t error) {
    if (error != cudaErrorNotReady) CUDA_CHECK(error);
    return error == cudaSuccess;
}
inline void synchronize(stream_t stream) {
    if (!g_while_waiting) CUDA_CHECK(cudaStreamSynchronize(stream));
    else wait_until([&] { return is_done(cudaStreamQuery(stream)); });
}

// An event marks a place in a stream's order of work.
using event_t = cudaEvent_t;
inline event_t make_event() {
    event_t event = nullptr;
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}
inline void record(event_t event, stream_t stream) { CUDA_CHECK(cudaEventRecord(event, stream)); }
// What the stream does from here on comes after the event as it was last recorded, if it was; the host does not wait.
inline void wait(stream_t stream, event_t event) { CUDA_CHECK(cudaStreamWaitEvent(stream, event, 0)); }
// Whether it has been reached; never waits.
inline bool reached(event_t event) { return is_done(cudaEventQuery(event)); }
inline void wait(event_t event) {
    if (!g_while_waiting) CUDA_CHECK(cudaEventSynchronize(event));
    else wait_until([&] { return reached(event); });
}

// An event of each step, and the time between two of them on the GPU's clock. The host is ahead by as much as the launch queue holds, and
// in a large step learns of a step's end when the next one's is near: its own clock gave the first of 16 steps twice its time and the last a fifth.
class StepEvent {
public:
    void create() { for (event_t& e : events_) CUDA_CHECK(cudaEventCreate(&e)); }
    void begin(stream_t stream) { ::record(events_[now_], stream); }        // what comes before is not part of the next step
    void record(stream_t stream) { ::record(events_[now_ ^= 1], stream); }
    void wait() const { ::wait(events_[now_]); }
    bool reached() const { return ::reached(events_[now_]); }
    // Between the last two, when the last has been reached.
    double seconds() const {
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, events_[now_ ^ 1], events_[now_]));
        return 1e-3 * (double)ms;
    }

private:
    event_t events_[2] = {};
    int now_ = 0;
};

// CUDA graphs: work that is the same each time is captured at the first call and launched as a graph from then on, one call of the host for
// any number of kernels. The work must not synchronize, and its pointers must stay valid. (CUDA programming guide, "CUDA Graphs")
using graph_t = cudaGraphExec_t;
template <class Work> void replay(graph_t& graph, stream_t stream, Work work) {
    if (!graph) {
        cudaGraph_t recorded = nullptr;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        work();
        CUDA_CHECK(cudaStreamEndCapture(stream, &recorded));
        CUDA_CHECK(cudaGraphInstantiate(&graph, recorded, 0));
        CUDA_CHECK(cudaGraphDestroy(recorded));
    }
    CUDA_CHECK(cudaGraphLaunch(graph, stream));
}
// NCCL does not let go of a communicator as long as there are graphs that it is in.
inline void destroy(graph_t& graph) {
    if (graph) CUDA_CHECK(cudaGraphExecDestroy(graph));
    graph = nullptr;
}

// ---- memory ------------------------------------------------------------------------------------------------------------

constexpr const char* BACKEND = "cuda";
constexpr bool RANKS_ARE_GPUS = true;

// Of the GPUs that this process sees, the one with that number; before anything else of CUDA.
inline void use_device(int number) {
    int count = 0;
    CUDA_CHECK(cudaGetDeviceCount(&count));
    if (number >= count) die_with(EXIT_USAGE, "rank %d of this machine, but %d GPU%s visible: one process a GPU", number, count, count == 1 ? " is" : "s are");
    CUDA_CHECK(cudaSetDevice(number));
}

inline cudaDeviceProp device_properties() {
    int device = 0;
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    return properties;
}
inline std::string device_name() { return device_properties().name; }

// Part of the name of an autotune cache: the version of a library and the GPU on which it was measured.
inline std::string gpu_and_version(size_t version) {
    std::string gpu = device_name();
    for (char& c : gpu) if (!isalnum((unsigned char)c)) c = '-';
    return std::to_string(version) + "-" + gpu;
}

// Bytes that are free now of this rank's GPU.
constexpr double KEPT_FREE = GPU_KEPT_FREE;
inline double device_memory(int) {
    size_t available = 0, all = 0;
    CUDA_CHECK(cudaMemGetInfo(&available, &all));
    return (double)available;
}
// Bytes of it in all, whoever uses them.
inline size_t card_memory() { return device_properties().totalGlobalMem; }

// Memory of the arenas: zeroed, never freed before the run ends.
inline void* device_alloc(size_t bytes) {
    void* p = nullptr;
    CUDA_CHECK(cudaMalloc(&p, bytes > 0 ? bytes : 1));
    CUDA_CHECK(cudaMemset(p, 0, bytes));
    CUDA_CHECK(cudaDeviceSynchronize());  // a non-blocking stream does not wait for the memset
    return p;
}
inline void* pinned_alloc(size_t bytes) {
    void* p = nullptr;
    CUDA_CHECK(cudaMallocHost(&p, bytes > 0 ? bytes : 1));
    memset(p, 0, bytes);
    return p;
}

inline void copy_to_device(void* device, const void* host, size_t bytes, stream_t stream) {
    CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream));
}
inline void copy_to_host(void* host, const void* device, size_t bytes, stream_t stream) {
    CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream));
}
inline void copy_on_device(void* to, const void* from, size_t bytes, stream_t stream) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}
inline void zero(void* device, size_t bytes, stream_t stream) { CUDA_CHECK(cudaMemsetAsync(device, 0, bytes, stream)); }

// ---- launching ---------------------------------------------------------------------------------------------------------

struct Grid { dim3 blocks, threads; size_t shared = 0; };  // shared: bytes of dynamic shared memory

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

// A grid of one thread an item.
inline Grid over(size_t n, unsigned threads) {
    CHECK(ceil_div(n, threads) < (size_t)1 << 31, "%zu items are too many for one launch", n);
    return {(unsigned)ceil_div(n, threads), threads};
}

// Whether a kernel contains griddepcontrol.wait: not if its PTX is for a GPU before sm_90, even where the driver compiled it for a newer one. Asked
// once a kernel.
inline std::map<const void*, bool>& kernels_with_pdl_wait() { static std::map<const void*, bool> known; return known; }
inline bool has_pdl_wait(const void* kernel) {
    auto [at, fresh] = kernels_with_pdl_wait().try_emplace(kernel);
    if (fresh) {
        cudaFuncAttributes code = {};
        CUDA_CHECK(cudaFuncGetAttributes(&code, kernel));
        at->second = code.ptxVersion >= 90 && code.binaryVersion >= 90;
    }
    return at->second;
}

// launch(gelu_kernel<F>, over(n, 256), stream, out, inp, n);   An empty grid is not launched.
// With programmatic dependent launch (sm_90 and newer) its blocks are scheduled while the previous kernel drains and wait in pdl_wait() for
// its end, so every kernel begins with pdl_wait(). (CUDA programming guide, "Programmatic Dependent Launch")
template <class... P, class... A> void launch(void (*kernel)(P...), Grid grid, stream_t stream, A... arguments) {
    if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
    if (grid.shared > 48 * 1024)  // above 48 KB a kernel must opt in
        CUDA_CHECK(cudaFuncSetAttribute((const void*)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)grid.shared));
    cudaLaunchConfig_t config = {};
    config.gridDim = grid.blocks, config.blockDim = grid.threads, config.dynamicSmemBytes = grid.shared, config.stream = stream;
    cudaLaunchAttribute pdl = {};
    pdl.id = cudaLaunchAttributeProgrammaticStreamSerialization, pdl.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &pdl, config.numAttrs = stream.kernels.pdl && has_pdl_wait((const void*)kernel);
    CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, P(arguments)...));
}

// ---- measurements ------------------------------------------------------------------------------------------------------

// The sum is used, so the compiler keeps the loads; it is never equal to the constant.
template <class Word>  // int4; a template, as several files include this one
__global__ void read_kernel(const Word* x, size_t n, int* out) {
    pdl_wait();
    int sum = 0;
    for (size_t i = thread_index(); i < n; i += (size_t)gridDim.x * blockDim.x) {
        const Word v = x[i];
        sum += v.x + v.y + v.z + v.w;
    }
    if (sum == 0x7badbad7) *out = sum;
}

// Milliseconds that the work takes, the fastest of `times` repetitions, by events.
template <class Work> float fastest_ms(int times, stream_t stream, Work work) {
    cudaEvent_t begin = nullptr, end = nullptr;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    float fastest = INFINITY;
    for (int i = 0; i < times; i++) {
        record(begin, stream);
        work();
        record(end, stream);
        wait(end);
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
        fastest = fminf(fastest, ms);
    }
    CUDA_CHECK(cudaEventDestroy(begin));
    CUDA_CHECK(cudaEventDestroy(end));
    return fastest;
}

// Memory bandwidth, bytes a second read.
inline double measure_bandwidth(const void* memory, size_t bytes) {
    stream_t stream = open_stream({});
    // 4 blocks of 512 threads are full occupancy of an SM. device_properties() is called before the timing: it may take longer than the kernel.
    const Grid grid = {(unsigned)device_properties().multiProcessorCount * 4, 512};
    const float ms = fastest_ms(10, stream, [&] { launch(read_kernel<int4>, grid, stream, (const int4*)memory, bytes / 16, (int*)memory); });
    CUDA_CHECK(cudaStreamDestroy(stream));
    return ms > 0 ? 1e3 * (double)bytes / ms : 0;
}
