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

__global__ void reverse(int* out) {
    __shared__ int tile[70];
    const int t = (int)threadIdx.x;
    tile[t] = t * (int)(blockIdx.x + 1);
    __syncthreads();
    out[blockIdx.x * 70 + threadIdx.x] = tile[69 - t];
}
TEST(blocks_have_their_own_shared_memory) {
    for (int seed = 1; seed <= 20; seed++) {
        emu::set_seed((uint64_t)seed);
        Buffer<int> out(9 * 70);
        OK(run(reverse, 9, 70, 0, nullptr, out.p));
        std::vector<int> v = out.values();
        for (int b = 0; b < 9; b++) for (int t = 0; t < 70; t++) EXPECT_EQ(v[(size_t)(b * 70 + t)], (69 - t) * (b + 1));
    }
}
// A block writes some lines of its static shared memory, others than its neighbours, one of them with what was there before. It begins as 0xff in every block of every
// launch, whatever blocks and kernels have left there, and stays while others run.
template <int N> __global__ void some_lines(int* wrong) {
    __shared__ int wide[N];
    const int t = (int)threadIdx.x, own = (int)blockIdx.x, first = own * 37 % (N - 64);
    if (!emu::watched()) for (int i = t; i < N; i += 32) atomicAdd(wrong, wide[i] != -1);  // watched, nobody may read them
    __syncthreads();
    for (int round = 0; round < 3; round++) {
        wide[first + 2 * t] = own + 1 - round;
        if (t < 2) wide[N - 1 - t] = own;
        __syncthreads();
        atomicAdd(wrong, wide[first + 2 * t] != own + 1 - round || wide[N - 1] != own || wide[N - 2] != own);
        if (!emu::watched() && first + 2 * t + 1 < N - 2) atomicAdd(wrong, wide[first + 2 * t + 1] != -1);
        __syncthreads();
    }
}
TEST(static_shared_memory_is_the_blocks_own) {
    const Outcome first = run_child([] {  // the first kernel of a thread of the device's
        Buffer<int> wrong(std::vector<int>{0});
        OK(run(some_lines<1000>, 1, 32, 0, nullptr, wrong.p));
        _exit(wrong.values()[0] != 0);
    });
    EXPECT_EQ(first.code, 0);
    for (int seed = 1; seed <= 20; seed++) {
        emu::set_seed((uint64_t)seed);
        for (auto kernel : {some_lines<1000>, some_lines<77>, some_lines<1000>}) {
            Buffer<int> wrong(std::vector<int>{0});
            OK(run(kernel, 13, 32, 0, nullptr, wrong.p));
            EXPECT_EQ(wrong.values()[0], 0);
        }
    }
}
// A thread has the stack of one that has ended: what that one left there, ASan's red zones among it, is no mistake of its own.
template <int N> __global__ void fills_its_stack(int* x) {
    volatile char local[N];
    for (int i = 0; i < N; i++) local[i] = (char)i;
    __syncthreads();
    x[threadIdx.x] = local[N - 1];
}
TEST(stacks_serve_again) {
    Buffer<int> x(std::vector<int>(64, 0));
    for (auto kernel : {fills_its_stack<8>, fills_its_stack<3000>, fills_its_stack<120>, fills_its_stack<1000>}) OK(run(kernel, 1, 64, 0, nullptr, x.p));
    EXPECT_EQ(x.values()[63], (char)999);
}



__global__ void lanes(int* out) {
    const int l = (int)threadIdx.x;
    int* o = out + l * 12;
    o[0] = __shfl_sync(~0u, l * 10, 5), o[1] = __shfl_xor_sync(~0u, l, 3), o[2] = __shfl_down_sync(~0u, l, 4, 8), o[3] = __shfl_up_sync(~0u, l, 4, 8);
    o[4] = (int)__ballot_sync(~0u, l % 3 == 0), o[5] = __any_sync(~0u, l == 7), o[6] = __all_sync(~0u, l < 32);
    o[7] = (int)__match_any_sync(~0u, l % 4), o[8] = __reduce_add_sync(~0u, l), o[9] = __reduce_max_sync(~0u, (l * 7) % 32);
    o[10] = o[11] = -1;
    if (l % 2) o[10] = __shfl_sync(0xaaaaaaaa, l, 31);            // the odd lanes alone
    else if (l < 8) o[11] = __reduce_add_sync(0x55, l);           // 0, 2, 4, 6
}
TEST(lanes_of_a_warp) {
    for (int seed = 1; seed <= 20; seed++) {
        emu::set_seed((uint64_t)seed);
        Buffer<int> out(32 * 12);
        OK(run(lanes, 1, 32, 0, nullptr, out.p));
        std::vector<int> v = out.values();
        for (int l = 0; l < 32; l++) {
            const int* o = &v[(size_t)l * 12];
            EXPECT_EQ(o[0], 50); EXPECT_EQ(o[1], l ^ 3); EXPECT_EQ(o[2], l % 8 < 4 ? l + 4 : l); EXPECT_EQ(o[3], l % 8 >= 4 ? l - 4 : l);
            EXPECT_EQ((unsigned)o[4], 0x49249249u); EXPECT_EQ(o[5], 1); EXPECT_EQ(o[6], 1); EXPECT_EQ((unsigned)o[7], 0x11111111u << l % 4);
            EXPECT_EQ(o[8], 496); EXPECT_EQ(o[9], 31); EXPECT_EQ(o[10], l % 2 ? 31 : -1); EXPECT_EQ(o[11], l % 2 == 0 && l < 8 ? 12 : -1);
        }
    }
}

__global__ void votes(int* out) {
    const int t = (int)threadIdx.x;
    if (t == 60) return;  // a thread that has left does not count
    const int count = __syncthreads_count(t % 2), any = __syncthreads_or(t == 50), all = __syncthreads_and(t < 63);
    out[t] = count * 100 + any * 10 + all;
}
TEST(barriers_count_those_who_are_left) {
    Buffer<int> out(std::vector<int>(64, 0));
    OK(run(votes, 1, 64, 0, nullptr, out.p));
    std::vector<int> v = out.values();
    for (int t = 0; t < 64; t++) EXPECT_EQ(v[(size_t)t], t == 60 ? 0 : 32 * 100 + 10 + 0);
}

__global__ void count(int* total, int* last, int* order) {
    atomicAdd(total, 1);
    if (threadIdx.x == 0) order[atomicAdd(last, 1)] = (int)blockIdx.x;
}
TEST(atomics_and_the_order_of_blocks) {
    std::vector<std::vector<int>> orders;
    for (int seed = 1; seed <= 6; seed++) {
        emu::set_seed((uint64_t)seed);
        Buffer<int> total(std::vector<int>{0}), last(std::vector<int>{0}), order(40);
        OK(run(count, 40, 33, 0, nullptr, total.p, last.p, order.p));
        EXPECT_EQ(total.values()[0], 40 * 33);
        orders.push_back(order.values());
    }
    int different = 0;
    for (size_t i = 1; i < orders.size(); i++) different += orders[i] != orders[0];
    EXPECT(different >= 4);
}

// A block does not keep the processor until it ends: two that wait for each other both see the other one.
__global__ void wait_for_the_other(int* here, int* seen) {
    atomicExch(&here[blockIdx.x], 1);
    for (int i = 0; i < 10000 && !seen[blockIdx.x]; i++) seen[blockIdx.x] = atomicAdd(&here[1 - blockIdx.x], 0);
}
TEST(blocks_overtake_each_other) {
    for (int seed = 1; seed <= 20; seed++) {
        emu::set_seed((uint64_t)seed);
        Buffer<int> here(std::vector<int>{0, 0}), seen(std::vector<int>{0, 0});
        OK(run(wait_for_the_other, 2, 1, 0, nullptr, here.p, seen.p));
        EXPECT(seen.values() == std::vector<int>({1, 1}));
    }
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

__global__ void diverging(int* x) {
    if (threadIdx.x < 16) __syncthreads();
    else
        __syncthreads();
    x[0] = 1;
}
__global__ void waiting(int* x) { if (threadIdx.x != 3) x[__shfl_sync(~0u, 0, 0)] = 1; }
__global__ void not_named(int* x) { x[0] = __shfl_sync(0x1, 0, 0); }
__global__ void other_masks(int* x) { x[threadIdx.x] = threadIdx.x % 2 ? __shfl_sync(~0u, 1, 0) : __shfl_sync(0x55555555, 1, 0); }
__global__ void other_operations(int* x) { x[threadIdx.x] = threadIdx.x % 2 ? __shfl_sync(~0u, 1, 0) : __any_sync(~0u, 1); }
__global__ void trapping(int*) { if (threadIdx.x == 2) __trap(); }
template <int WHEN> __global__ void in_turn(int* x) {  // 0: before it touches memory, 1: after, 2: not all threads
    if (WHEN == 2 && threadIdx.x == 0) return;
    if (WHEN != 1) cudaGridDependencySynchronize();
    x[threadIdx.x] = 1;
    if (WHEN == 1) cudaGridDependencySynchronize();
}
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
TEST(threads_that_do_not_meet) {
    Buffer<int> x(std::vector<int>(64, 0));
    auto found = [&](const char* text, void (*kernel)(int*)) { expect_found(text, text, [&] { OK(run(kernel, 1, 32, 0, nullptr, x.p)); }); };
    found("divergent __syncthreads", diverging);
    found("waits for ever for the other lanes", waiting);
    found("does not name its caller", not_named);
    found("different masks", other_masks);
    found("different operations", other_operations);
    found("__trap", trapping);
}

TEST(errors_stick) {
    Buffer<int> x(std::vector<int>(64, 0));
    Outcome o = run_child([&] {
        OK(run(not_named, 1, 32, 0, nullptr, x.p));
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
__global__ void overrun_shared(int* x, char* (*shared)()) { ((int*)shared())[threadIdx.x] = 1; x[0] = 1; }
TEST(overruns) {
    Buffer<int> x(30);  // red zones under AddressSanitizer, a word of its own when watched, else the page behind it
    const char* text = emu::watched() ? "outside of every allocation" :
#ifdef EMU_ASAN
        "AddressSanitizer";
#else
        "outside of every allocation";
    (void)x;
    expect_found("overrun", text, [&] { Buffer<int> y(1024); OK(run(overrun, 1, 1024, 0, nullptr, y.p + 1)); });
    return;
#endif
    expect_found("overrun", text, [&] { OK(run(overrun, 1, 32, 0, nullptr, x.p)); });
    if (emu::watched()) text = "dynamic shared memory";
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

// ---- mistakes that only the watched build sees -----------------------------------------------------------------------------

template <bool BARRIER> __global__ void neighbours(int* out) {
    __shared__ int tile[64];
    tile[threadIdx.x] = 0;
    __syncthreads();
    tile[threadIdx.x] = (int)threadIdx.x;
    if (BARRIER) __syncthreads();
    out[threadIdx.x] = tile[(threadIdx.x + 33) % 64];
}
template <bool SYNC> __global__ void neighbour_lanes(int* out) {
    __shared__ int tile[32];
    tile[threadIdx.x] = 0;
    __syncwarp();
    tile[threadIdx.x] = (int)threadIdx.x;
    if (SYNC) __syncwarp();
    else __shfl_sync(~0u, 0, 0);  // orders no memory
    out[threadIdx.x] = tile[31 - threadIdx.x];
    if (SYNC) __syncwarp();
    tile[threadIdx.x] = 0;
}
// Lane 0 reads what lane 5 reads, too, reads again and overwrites.
template <bool SYNC> __global__ void read_again(int* x) {
    const int seen = x[threadIdx.x] + (threadIdx.x == 0 ? x[5] : 0);
    if (SYNC) __syncwarp();
    x[threadIdx.x] = x[threadIdx.x] + seen;
}
template <bool OWN> __global__ void between_blocks(int* out) { out[OWN ? blockIdx.x : 0] = 1; }
template <bool FENCE> __global__ void last_block_adds(int* out, int* parts, int* done) {
    __shared__ int last;
    parts[blockIdx.x * blockDim.x + threadIdx.x] = 1;
    if (FENCE) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(done, 1) == (int)gridDim.x - 1;
    __syncthreads();
    if (last && threadIdx.x == 0) {
        out[0] = 0;
        for (unsigned i = 0; i < gridDim.x * blockDim.x; i++) out[0] += parts[i];
    }
}
template <bool WRITE> __global__ void unwritten(int* out) {
    __shared__ int tile[32];
    if (WRITE || threadIdx.x != 7) tile[threadIdx.x] = 1;
    out[threadIdx.x] = tile[threadIdx.x];
}
// Four elements an access, written by as many threads. 1: nobody has written the last one of them, 2: another thread writes it, 3: and here in device memory.
template <int WRONG> __global__ void fours(int4* out) {
    alignas(16) __shared__ int4 tile[64];
    const int t = (int)threadIdx.x;
    for (int k = 0; k < 4; k++) if (WRONG != 1 || t != 7 || k != 3) ((int*)&tile[(t + k) % 64])[k] = t;
    __syncthreads();
    if (WRONG == 2 && t == 9) ((int*)&tile[40])[3] = 1;
    if (WRONG == 3 && t == 9) ((int*)&out[7])[3] = 1;
    out[t] = tile[(t + 33) % 64];
}
// Written at once, when lane 3 may still read the last of them; what lane 0 has read behind it is all that the four differ in. A shuffle orders no memory.
template <bool WRONG> __global__ void four_that_are_read(int4* x, int* seen) {
    const int t = (int)threadIdx.x;
    if (t == 20) x[0] = x[1];
    __syncwarp();
    int sum = WRONG && t == 3 ? ((int*)x)[3] : 0;
    __shfl_sync(~0u, 0, 0);
    if (t == 0) {
        for (int k = 0; k < 4; k++) sum += ((int*)x)[k];
        x[0] = x[1];
    }
    seen[t] = sum;
}
__global__ void unwritten_global(int* out, const int* in) { out[threadIdx.x] = in[threadIdx.x]; }
TEST(watched_mistakes) {
    if (!emu::watched()) SKIP("this build does not watch accesses");
    Buffer<int> x(std::vector<int>(64, 0)), parts(std::vector<int>(320, 0)), done(std::vector<int>{0}), fresh(64);
    auto clean = [&](const char* name, auto body) {
        Outcome o = run_child([&] { body(); if (cudaDeviceSynchronize() != cudaSuccess) _exit(1); });
        if (o.code) FAIL("%s: not clean: %s", name, o.output.c_str());
    };
    auto found = [&](const char* text, auto body) { expect_found(text, text, body); };
    clean("barrier", [&] { OK(run(neighbours<true>, 1, 64, 0, nullptr, parts.p)); });
    found("race in", [&] { OK(run(neighbours<true>, 3, 64, 0, nullptr, x.p)); });  // three blocks write the same 64
    found("race in shared memory", [&] { OK(run(neighbours<false>, 1, 64, 0, nullptr, x.p)); });
    clean("syncwarp", [&] { OK(run(neighbour_lanes<true>, 1, 32, 0, nullptr, x.p)); });
    found("race in shared memory", [&] { OK(run(neighbour_lanes<false>, 1, 32, 0, nullptr, x.p)); });
    clean("read again", [&] { OK(run(read_again<true>, 1, 32, 0, nullptr, x.p)); });
    found("race in device memory", [&] { OK(run(read_again<false>, 1, 32, 0, nullptr, x.p)); });
    clean("own", [&] { OK(run(between_blocks<true>, 5, 1, 0, nullptr, x.p)); });
    found("race in device memory", [&] { OK(run(between_blocks<false>, 5, 1, 0, nullptr, x.p)); });
    clean("last block", [&] { OK(run(last_block_adds<true>, 5, 64, 0, nullptr, x.p, parts.p, done.p)); });
    found("race in device memory", [&] { OK(run(last_block_adds<false>, 5, 64, 0, nullptr, x.p, parts.p, done.p)); });
    clean("in turn", [&] { OK(run_early(in_turn<0>, 1, 32, x.p)); });
    found("before cudaGridDependencySynchronize", [&] { OK(run_early(in_turn<1>, 1, 32, x.p)); });
    clean("written", [&] { OK(run(unwritten<true>, 1, 32, 0, nullptr, x.p)); });
    found("nobody has written", [&] { OK(run(unwritten<false>, 1, 32, 0, nullptr, x.p)); });
    found("nobody has written", [&] { OK(run(unwritten_global, 1, 64, 0, nullptr, x.p, (const int*)fresh.p)); });
    Buffer<int4> y(64);
    clean("four at once", [&] { OK(run(fours<0>, 1, 64, 0, nullptr, y.p)); });
    found("nobody has written", [&] { OK(run(fours<1>, 1, 64, 0, nullptr, y.p)); });
    found("race in shared memory", [&] { OK(run(fours<2>, 1, 64, 0, nullptr, y.p)); });
    found("race in device memory", [&] { OK(run(fours<3>, 1, 64, 0, nullptr, y.p)); });
    clean("four, read", [&] { OK(run(fours<0>, 1, 64, 0, nullptr, y.p)); OK(run(four_that_are_read<false>, 1, 32, 0, nullptr, y.p, x.p)); });
    found("race in device memory", [&] { OK(run(fours<0>, 1, 64, 0, nullptr, y.p)); OK(run(four_that_are_read<true>, 1, 32, 0, nullptr, y.p, x.p)); });
    OK(run(fours<0>, 1, 64, 0, nullptr, y.p));
    OK(cudaDeviceSynchronize());
    EXPECT_EQ(emu::traffic().written, 1024u); EXPECT_EQ(emu::traffic().distinct_written, 1024u);
    OK(run(add, 1, 64, 0, nullptr, x.p, 50, 1));
    OK(cudaDeviceSynchronize());
    EXPECT_EQ(emu::traffic().read, 200u); EXPECT_EQ(emu::traffic().distinct_written, 200u);
}

// The variable is what set_seed() is; without it the order is always the same one.
TEST(a_seed_by_the_environment) {
    EXPECT(emu::first_state("7") == emu::state_of_seed(7) && emu::first_state("7") != emu::first_state("8"));
    EXPECT(emu::first_state(nullptr) == 0x9E3779B97F4A7C15);
    emu::set_seed(7);
    const uint32_t x = emu::random();
    emu::random_state() = emu::first_state("7");
    EXPECT_EQ(emu::random(), x);
}

TEST(the_example_of_the_readme) {
    std::string text = run_command("sed -n '/^```c++/,/^```$/p' test/emu/README.md | grep -v '^```'").output;
    FILE* file = fopen(BUILD "/tmp/saxpy.cu", "w");
    if (!file) SKIP("cannot write to " BUILD "/tmp");
    fputs(text.c_str(), file), fclose(file);
    Outcome o = run_command(COMPILER " -std=c++20 -O1 -pthread -rdynamic -Itest/emu -x c++ " BUILD "/tmp/saxpy.cu -o " BUILD "/tmp/saxpy && EMU_SEED=7 " BUILD "/tmp/saxpy");
    EXPECT_STR(o.output, "3 cudaSuccess\n");
}
