// Mistakes that only the watched build sees: each is found in a kernel that makes it, and not in one that does not.
#include <ptx_on_cpu.h>
#include "emu_test.h"

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
// Rows of a matrix, read by the warp together, each by the lane that names it. 1: nobody has written one of them, 2: another lane writes one meanwhile.
template <int WRONG> __global__ void rows_of_a_matrix(int* out) {
    alignas(16) __shared__ uint16_t tile[32][8];
    const int t = (int)threadIdx.x;
    for (int j = 0; j < 8; j++) if (WRONG != 1 || t != 9) tile[t][j] = (uint16_t)t;
    __syncwarp();
    if (WRONG == 2 && t == 9) tile[t][7] = 1;
    uint32_t x[4];
    ldmatrix_x4(x, tile[31 - t]);
    out[t] = (int)(x[0] + x[1] + x[2] + x[3]);
}
__global__ void add_one(int* x, int n) { if ((int)threadIdx.x < n) x[threadIdx.x] += 1; }
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
    clean("rows of a matrix", [&] { OK(run(rows_of_a_matrix<0>, 1, 32, 0, nullptr, x.p)); });
    found("nobody has written", [&] { OK(run(rows_of_a_matrix<1>, 1, 32, 0, nullptr, x.p)); });
    found("race in shared memory", [&] { OK(run(rows_of_a_matrix<2>, 1, 32, 0, nullptr, x.p)); });
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
    OK(run(add_one, 1, 64, 0, nullptr, x.p, 50));
    OK(cudaDeviceSynchronize());
    EXPECT_EQ(emu::traffic().read, 200u); EXPECT_EQ(emu::traffic().distinct_written, 200u);
}
