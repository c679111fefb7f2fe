// Threads take turns: what they share, who waits for whom, whose memory is whose, and the seed that says who comes next.
#include "emu_test.h"

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
    const int l = (int)threadIdx.x % 32;
    int* o = out + threadIdx.x * 12;
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
        Buffer<int> out(96 * 12);  // of three warps
        OK(run(lanes, 1, 96, 0, nullptr, out.p));
        std::vector<int> v = out.values();
        for (int t = 0, l = 0; t < 96; t++, l = t % 32) {
            const int* o = &v[(size_t)t * 12];
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

// ---- threads that do not meet ------------------------------------------------------------------------------------------

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

// The variable is what set_seed() is; without it the order is always the same one.
TEST(a_seed_by_the_environment) {
    EXPECT(emu::first_state("7") == emu::state_of_seed(7) && emu::first_state("7") != emu::first_state("8"));
    EXPECT(emu::first_state(nullptr) == 0x9E3779B97F4A7C15);
    emu::set_seed(7);
    const uint32_t x = emu::random();
    emu::random_state() = emu::first_state("7");
    EXPECT_EQ(emu::random(), x);
}
