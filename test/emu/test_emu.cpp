// The emulator's own tests: what CUDA guarantees holds, and each kind of mistake that it can find is found in a kernel that makes it.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <ptx_on_cpu.h>
#include "emu_test.h"

// ---- what CUDA promises ------------------------------------------------------------------------------------------------

__global__ void indices(int* out) {
    const int i = (int)((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x);
    const int t = (int)((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x);
    out[i * 12 + t] = i * 100 + t;
}
TEST(every_thread_of_every_block_runs_once) {
    Buffer<int> out(2 * 3 * 2 * 12);
    OK(run(indices, dim3(2, 3, 2), dim3(3, 2, 2), 0, nullptr, out.p));
    std::vector<int> v = out.values();
    for (int i = 0; i < 12; i++) for (int t = 0; t < 12; t++) EXPECT_EQ(v[(size_t)(i * 12 + t)], i * 100 + t);
}

TEST(numbers_round_to_nearest_even) {
    EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(1.00390625f)), 0x3f80);  // half way: to even
    EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(1.01171875f)), 0x3f82);
    EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(NAN)), 0x7fff);
    EXPECT_EQ((float)__half(65504.0f), 65504.0f); EXPECT((float)__half(65520.0f) == INFINITY); EXPECT_EQ((float)__half(0x1p-24f), 0x1p-24f);
    EXPECT_EQ(__half_as_ushort(__half(0x1p-25f)), 0); EXPECT_EQ(__half_as_ushort(__half(2049.0f)), __half_as_ushort(__half(2048.0f)));
    EXPECT_EQ((float)__nv_fp8_e4m3(448.0f), 448.0f); EXPECT_EQ((float)__nv_fp8_e4m3(1e9f), 448.0f); EXPECT_EQ((float)__nv_fp8_e4m3(0x1p-9f), 0x1p-9f);
    EXPECT_EQ((float)__nv_fp8_e5m2(57344.0f), 57344.0f); EXPECT_EQ((float)__nv_fp8_e5m2(1e9f), 57344.0f);
    // every value of 8 bits survives, and of two neighbours the middle goes to the even one
    for (unsigned b = 0; b < 0x7e; b++) {
        EXPECT_EQ(emu::E4M3::from_float(emu::E4M3::to_float(b), true), b);
        const float low = emu::E4M3::to_float(b), high = emu::E4M3::to_float(b + 1);
        EXPECT_EQ(emu::E4M3::from_float((low + high) / 2, true), b + (b & 1));
    }
    for (unsigned b = 0; b < 0x7c00; b++) EXPECT_EQ(emu::Half::from_float(emu::Half::to_float(b), false), b);
}

__global__ void add(int* x, int n, int by) { if (blockIdx.x * blockDim.x + threadIdx.x < (unsigned)n) x[blockIdx.x * blockDim.x + threadIdx.x] += by; }
__global__ void doubled(int* x, int n) { if (blockIdx.x * blockDim.x + threadIdx.x < (unsigned)n) x[blockIdx.x * blockDim.x + threadIdx.x] *= 2; }

TEST(graphs_are_done_anew_at_each_launch) {
    cudaStream_t s = nullptr, side = nullptr;
    cudaEvent_t fork = nullptr, join = nullptr;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking)); OK(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    OK(cudaEventCreate(&fork)); OK(cudaEventCreate(&join));
    Buffer<int> a(std::vector<int>(50, 1)), b(std::vector<int>(50, 1));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    OK(run(add, 1, 64, 0, s, a.p, 50, 2));
    OK(cudaEventRecord(fork, s)); OK(cudaStreamWaitEvent(side, fork));
    OK(run(doubled, 1, 64, 0, side, b.p, 50));
    OK(cudaEventRecord(join, side)); OK(cudaStreamWaitEvent(s, join));
    OK(run(doubled, 1, 64, 0, s, a.p, 50));
    OK(cudaStreamEndCapture(s, &graph)); OK(cudaGraphInstantiate(&exec, graph));
    EXPECT_EQ(a.values()[0], 1);  // nothing was done yet
    OK(cudaGraphLaunch(exec, s)); OK(cudaGraphLaunch(exec, s)); OK(cudaStreamSynchronize(s));
    EXPECT_EQ(a.values()[49], 16); EXPECT_EQ(b.values()[49], 4);
    OK(cudaGraphExecDestroy(exec)); OK(cudaGraphDestroy(graph)); OK(cudaEventDestroy(fork)); OK(cudaEventDestroy(join));
    OK(cudaStreamDestroy(s)); OK(cudaStreamDestroy(side));
}

// In whatever order: what a stream did before a capture, and what it waits for, comes before the graph is launched there.
TEST(graphs_keep_their_place_in_a_stream) {
    cudaStream_t s = nullptr, other = nullptr;
    cudaEvent_t event = nullptr;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking)); OK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    OK(cudaEventCreate(&event));
    for (int seed = 0; seed < 20; seed++) {
        emu::set_seed((uint64_t)seed);
        Buffer<int> a(std::vector<int>(50, 1)), b(std::vector<int>(50, 1));
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t exec = nullptr;
        OK(run(add, 1, 64, 0, s, a.p, 50, 2));
        OK(run(add, 1, 64, 0, other, b.p, 50, 2));
        OK(cudaEventRecord(event, other)); OK(cudaStreamWaitEvent(s, event));
        OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
        OK(run(doubled, 1, 64, 0, s, a.p, 50)); OK(run(doubled, 1, 64, 0, s, b.p, 50));
        OK(cudaStreamEndCapture(s, &graph)); OK(cudaGraphInstantiate(&exec, graph));
        OK(cudaGraphLaunch(exec, s));
        OK(run(add, 1, 64, 0, s, a.p, 50, 1));
        OK(cudaStreamSynchronize(s));
        EXPECT_EQ(a.values()[7], 7); EXPECT_EQ(b.values()[7], 6);
        OK(cudaGraphExecDestroy(exec)); OK(cudaGraphDestroy(graph));
    }
    OK(cudaEventDestroy(event)); OK(cudaStreamDestroy(s)); OK(cudaStreamDestroy(other));
}

TEST(launches_that_no_device_takes) {
    Buffer<int> x(std::vector<int>(8, 0));
    EXPECT_EQ(run(add, 1, 1025, 0, nullptr, x.p, 8, 1), cudaErrorInvalidConfiguration);
    EXPECT_EQ(run(add, dim3(1, 65536), 32, 0, nullptr, x.p, 8, 1), cudaErrorInvalidConfiguration);
    EXPECT_EQ(run(add, 0, 32, 0, nullptr, x.p, 8, 1), cudaErrorInvalidConfiguration);
    EXPECT_EQ(run(add, 1, 32, 50000, nullptr, x.p, 8, 1), cudaErrorInvalidValue);  // must be asked for
    OK(cudaFuncSetAttribute((const void*)add, cudaFuncAttributeMaxDynamicSharedMemorySize, 50000));
    EXPECT_EQ(run(add, 1, 32, 50000, nullptr, x.p, 8, 1), cudaSuccess);
    EXPECT_EQ(cudaFuncSetAttribute((const void*)add, cudaFuncAttributeMaxDynamicSharedMemorySize, 300000), cudaErrorInvalidValue);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue); EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    EXPECT_STR(cudaGetErrorName(cudaErrorInvalidConfiguration), "cudaErrorInvalidConfiguration");
}

// ---- mistakes that show in what comes out ------------------------------------------------------------------------------

// A result that is right in every schedule only if the event is waited for.
static bool right_without_event(uint64_t seed, bool wait) {
    emu::set_seed(seed);
    cudaStream_t a = nullptr, b = nullptr;
    cudaEvent_t e = nullptr;
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking)); OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking)); OK(cudaEventCreate(&e));
    Buffer<int> x(std::vector<int>(50, 1));
    OK(run(add, 1, 64, 0, a, x.p, 50, 2));
    OK(cudaEventRecord(e, a));
    if (wait) OK(cudaStreamWaitEvent(b, e));
    OK(run(doubled, 1, 64, 0, b, x.p, 50));
    const bool right = x.values()[0] == 6;
    OK(cudaStreamDestroy(a)); OK(cudaStreamDestroy(b)); OK(cudaEventDestroy(e));
    return right;
}
TEST(a_missing_event_shows) {
    int with = 0, without = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) with += right_without_event(seed, true), without += right_without_event(seed, false);
    EXPECT_EQ(with, 20);
    EXPECT(without < 20);
}
TEST(pinned_memory_is_read_and_written_late) {
    int *from, *to;
    OK(cudaMallocHost(&from, 4)); OK(cudaMallocHost(&to, 4));
    Buffer<int> x(1);
    cudaStream_t s = nullptr;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    *from = 5, *to = 0;
    OK(cudaMemcpyAsync(x.p, from, 4, cudaMemcpyHostToDevice, s)); OK(cudaMemcpyAsync(to, x.p, 4, cudaMemcpyDeviceToHost, s));
    EXPECT_EQ(*to, 0);
    *from = 6;  // too early: the copy has not been waited for
    OK(cudaStreamSynchronize(s));
    EXPECT_EQ(*to, 6);
    OK(cudaStreamDestroy(s)); OK(cudaFreeHost(from)); OK(cudaFreeHost(to));
}

// Pageable memory is read and written some time between the call and its end. (CUDA Runtime API, "API synchronization behavior")
TEST(pageable_memory_is_read_and_written_late_or_at_once) {
    int read_late = 0, written_late = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        emu::set_seed(seed);
        Buffer<int> x(1);
        int from = 7, to = 0;
        OK(cudaMemcpyAsync(x.p, &from, 4, cudaMemcpyHostToDevice));
        from = 8;  // too early
        OK(cudaDeviceSynchronize());
        const int came = x.values()[0];
        EXPECT(came == 7 || came == 8);
        read_late += came == 8;
        OK(cudaMemcpyAsync(&to, x.p, 4, cudaMemcpyDeviceToHost));
        written_late += to == 0;
        OK(cudaDeviceSynchronize());
        EXPECT_EQ(to, came);
    }
    EXPECT(read_late > 0 && read_late < 20);
    EXPECT(written_late > 0 && written_late < 20);
}
// cudaMemcpy does not wait for a copy on the device, nor for the transfer of staged pageable memory to it: a non-blocking stream may be earlier.
TEST(not_every_cudaMemcpy_waits) {
    int on_device = 0, to_device = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        emu::set_seed(seed);
        Buffer<int> one(std::vector<int>(50, 1)), three(std::vector<int>(50, 3)), x(std::vector<int>(50, 1)), y(std::vector<int>(50, 1));
        const std::vector<int> five(50, 5);
        cudaStream_t s = nullptr;
        OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
        OK(cudaMemcpy(x.p, three.p, 200, cudaMemcpyDeviceToDevice)); OK(run(doubled, 1, 64, 0, s, x.p, 50));
        OK(cudaMemcpy(y.p, five.data(), 200, cudaMemcpyHostToDevice)); OK(run(doubled, 1, 64, 0, s, y.p, 50));
        on_device += x.values()[0] != 6, to_device += y.values()[0] != 10;
        OK(cudaStreamDestroy(s));
    }
    EXPECT(on_device > 0);
    EXPECT(to_device > 0);
}

__global__ void staged(int* out, const int* in, int wait) {
    __shared__ int tile[64];
    emu::async_copy(&tile[threadIdx.x], &in[threadIdx.x], 4, 0);
    emu::async_commit();
    if (wait) emu::async_wait(0);
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
    emu::async_wait(0);
}
TEST(a_missing_wait_for_a_copy_shows) {
    if (emu::watched()) SKIP("the watched build ends at the read of what was not written");
    std::vector<int> values(64);
    for (int i = 0; i < 64; i++) values[(size_t)i] = i;
    for (int wait = 0; wait < 2; wait++) {
        Buffer<int> in(values), out(64);
        OK(run(staged, 1, 64, 0, nullptr, out.p, (const int*)in.p, wait));
        std::vector<int> v = out.values();
        int wrong = 0;
        for (int i = 0; i < 64; i++) wrong += v[(size_t)i] != 63 - i;
        EXPECT((wrong == 0) == (wait == 1));
    }
}

// ---- mistakes that end the program ---------------------------------------------------------------------------------------

TEST(kernels_that_are_launched_early) {
    Buffer<int> x(std::vector<int>(32, 0));
    OK(run_early(in_turn<0>, 1, 32, x.p));
    EXPECT_EQ(x.values()[31], 1);
    expect_found("not all threads wait", "ends without cudaGridDependencySynchronize", [&] { OK(run_early(in_turn<2>, 1, 32, x.p)); });
    OK(run(in_turn<2>, 1, 32, 0, nullptr, x.p));  // launched as ever, nobody has to
    OK(cudaDeviceSynchronize());
}
// A kernel compiled for sm_80 has no wait, whatever its source says, also where the driver compiles its PTX for an sm_90.
template <int N> __global__ void turned(int* x) { griddepcontrol_wait(), x[threadIdx.x] = N; }
TEST(code_for_older_gpus_has_no_wait) {
    Buffer<int> x(std::vector<int>(32, 0));
    cudaFuncAttributes a = {};
    OK(cudaFuncGetAttributes(&a, (const void*)turned<1>));
    EXPECT_EQ(a.ptxVersion, 90); EXPECT_EQ(a.binaryVersion, 90);
    OK(run_early(turned<1>, 1, 32, x.p));
    OK(cudaDeviceSynchronize());
    expect_found("all kernels", "kernel was launched early", [&] { emu::code_version() = 80; OK(run_early(turned<1>, 1, 1, x.p)); });
    emu::code_versions()[(const void*)turned<1>] = 80;
    OK(cudaFuncGetAttributes(&a, (const void*)turned<1>));
    EXPECT_EQ(a.ptxVersion, 80);
    OK(cudaFuncGetAttributes(&a, (const void*)turned<2>));
    EXPECT_EQ(a.ptxVersion, 90);
    expect_found("one kernel", "kernel was launched early", [&] { OK(run_early(turned<1>, 1, 1, x.p)); });
    OK(run_early(turned<2>, 1, 32, x.p)); OK(run(turned<1>, 1, 32, 0, nullptr, x.p));
    EXPECT_EQ(x.values()[31], 1);
    emu::code_versions().clear();
}
__global__ void fails(int* x) { x[0] = __shfl_sync(0x1, 0, 0); }
TEST(errors_stick) {
    Buffer<int> x(std::vector<int>(64, 0));
    Outcome o = run_child([&] {
        OK(run(fails, 1, 32, 0, nullptr, x.p));
        int codes[4] = {cudaDeviceSynchronize(), cudaGetLastError(), cudaStreamSynchronize(nullptr), run(add, 1, 1, 0, nullptr, x.p, 1, 1)};
        for (int code : codes) if (code != cudaErrorLaunchFailure) _exit(1);
    });
    EXPECT_EQ(o.code, 0);
}

TEST(misuse_of_memory) {
    expect_found("double free", "freed before", [] { void* p = nullptr; OK(cudaMalloc(&p, 8)); OK(cudaFree(p)); OK(cudaFree(p)); });
    expect_found("no allocation", "no allocation begins there", [] { Buffer<int> x(4); OK(cudaFree(x.p + 1)); });
    expect_found("copy too long", "not within one allocation", [] { Buffer<int> x(4); std::vector<int> v(5); OK(cudaMemcpy(x.p, v.data(), 20, cudaMemcpyHostToDevice)); });
    expect_found("host touches", "host code touched device memory", [] { emu::protects() = true; Buffer<int> x(std::vector<int>(4, 1)); x.p[1] = 2; });
    expect_found("leak", "leak: 12 bytes of device memory", [] {
        setenv("EMU_LEAKS", "1", 1);
        int* p;
        emu::memory().region = nullptr;  // as in a new program
        OK(cudaMalloc(&p, 12));
        exit(1);
    });
    expect_found("fails on request", "cudaMemset", [] { Buffer<int> x(4); emu::fail_call(2); OK(cudaGetLastError()); cudaDeviceSynchronize(); if (cudaMemset(x.p, 0, 4) == cudaErrorUnknown) _exit(1); });
}

__global__ void overrun(int* x) { x[threadIdx.x] = 1; }
__global__ void overrun_shared(int* x, char* (*shared)()) {
    ((int*)shared())[threadIdx.x] = 1;
    if (threadIdx.x == 0) x[0] = 1;
}
TEST(overruns) {
    Buffer<int> x(30);  // red zones under AddressSanitizer, a word of its own when watched, else the page behind it
#ifdef EMU_ASAN
    const char* text = "AddressSanitizer";
    expect_found("overrun", text, [&] { OK(run(overrun, 1, 32, 0, nullptr, x.p)); });
#else
    const char* text = "dynamic shared memory";
    expect_found("overrun", "outside of every allocation", [&] { Buffer<int> y(1024); OK(run(overrun, 1, 1024, 0, nullptr, y.p + 1)); });
    if (!emu::watched()) return;
#endif
    expect_found("overrun of shared memory", text, [&] { OK(run(overrun_shared, 1, 32, 124, nullptr, x.p, emu::dynamic_shared)); });
}

__global__ void misaligned(int* out) { *(int4*)(out + 1) = int4{1, 2, 3, 4}; }
TEST(misaligned_vectors) {
#ifdef EMU_ASAN
    Buffer<int> x(std::vector<int>(64, 0));
    expect_found("misaligned", "misaligned address", [&] { OK(run(misaligned, 1, 1, 0, nullptr, x.p)); });
#else
    SKIP("UBSan sees them, in the sanitized build");
#endif
}

TEST(the_example_of_the_readme) {
    std::string text = run_command("sed -n '/^```c++/,/^```$/p' test/emu/README.md | grep -v '^```'").output;
    FILE* file = fopen(BUILD "/tmp/saxpy.cu", "w");
    if (!file) SKIP("cannot write to " BUILD "/tmp");
    fputs(text.c_str(), file), fclose(file);
    Outcome o = run_command(COMPILER " -std=c++20 -O1 -pthread -rdynamic -Itest/emu -x c++ " BUILD "/tmp/saxpy.cu -o " BUILD "/tmp/saxpy && EMU_SEED=7 " BUILD "/tmp/saxpy");
    EXPECT_STR(o.output, "3 cudaSuccess\n");
}
