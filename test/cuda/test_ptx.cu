// What the PTX ISA says of the instructions in ptx.cuh. On a GPU these tests ask the hardware, on a CPU the functions that stand
// for it: kernels tested with the latter are right on the former only as far as both pass here.
#include "device_test.h"

namespace ptx_kernels {  // a name that the linker keeps: make test-ptx finds nvcc's code of a kernel by it
// One warp. x: 16 rows of 16 a, 16 rows of 8 b, 16 rows of 8 c, all in shared memory as a reader would lay them out; c += a b.
__global__ void mma_kernel(float* out,       // (16, 8)
                           const bf16* a,    // (16, 16)
                           const bf16* b,    // (16, 8)
                           const float* c) { // (16, 8)
    pdl_wait();
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    const auto pair = [](bf16 low, bf16 high) { return (uint32_t)low.bits | (uint32_t)high.bits << 16; };
    uint32_t left[4], right[2];
    float sums[4];
    for (int i = 0; i < 4; i++) {
        const bf16* at = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
        left[i] = pair(at[0], at[1]);
        sums[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    }
    for (int i = 0; i < 2; i++) right[i] = pair(b[(2 * t + i * 8) * 8 + g], b[(2 * t + 1 + i * 8) * 8 + g]);
    mma_m16n8k16_bf16(sums, left, right[0], right[1]);
    for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

// x[lane][i], of four 8 x 8 matrices one below the other in shared memory, of which the rows are in another order than the lanes.
__global__ void ldmatrix_kernel(uint32_t* plain, uint32_t* transposed, const uint16_t* matrices) {
    pdl_wait();
    uint16_t* rows = (uint16_t*)dynamic_shared();
    for (int i = 0; i < 8; i++) rows[(threadIdx.x ^ 5) * 8 + i] = matrices[threadIdx.x * 8 + i];
    __syncwarp();  // each lane reads what others wrote
    uint32_t x[4], y[4];
    ldmatrix_x4(x, rows + (threadIdx.x ^ 5) * 8);
    ldmatrix_x4_trans(y, rows + (threadIdx.x ^ 5) * 8);
    for (int i = 0; i < 4; i++) plain[threadIdx.x * 4 + i] = x[i], transposed[threadIdx.x * 4 + i] = y[i];
}

// Two groups of copies; the first is waited for alone, then the second. What a copy of fewer bytes leaves out is zero.
__global__ void cp_async_kernel(int* first, int* second, const int* inp) {  // (32 * 4 each)
    pdl_wait();
    int* shared = (int*)dynamic_shared();
    const int i = threadIdx.x;
    cp_async_16(shared + 4 * i, inp + 4 * i, i % 3 ? 16 : 0);
    cp_async_commit_group();
    for (int j = 0; j < 4; j++) cp_async_4(shared + 128 + 4 * i + j, inp + 4 * i + j, (i + j) % 3 ? 4 : 0);
    cp_async_commit_group();
    cp_async_wait_group<1>();
    __syncthreads();  // each thread reads what another has copied
    for (int j = 0; j < 4; j++) first[4 * i + j] = shared[(4 * i + j) ^ 64];
    cp_async_wait_group<0>();
    __syncthreads();  // as above
    for (int j = 0; j < 4; j++) second[4 * i + j] = shared[128 + ((4 * i + j) ^ 64)];
}

__global__ void arithmetic_kernel(float* powers, uint32_t* pairs, const float* x, int n) {
    pdl_wait();
    const int i = (int)thread_index();
    if (i < n) powers[i] = ex2_approx(x[i]), pairs[i] = cvt_bf16x2(x[i], x[n - 1 - i]);
}
}  // namespace ptx_kernels
using namespace ptx_kernels;

// Products and sums of small integers are exact in any order.
TEST(mma_multiplies_matrices) {
    Random r(1);
    for (int round = 0; round < 4; round++) {
        auto a = small_integers<bf16>(r, 256, -9, 9), b = small_integers<bf16>(r, 128, -9, 9);
        auto c = small_integers<float>(r, 128, -99, 99);
        auto out = for_schedules([&] {
            TestStream stream;
            OnDevice<float> y(128), dc(c);
            OnDevice<bf16> da(a), db(b);
            launch(mma_kernel, Grid{1, 32}, stream, y.data(), da.data(), db.data(), dc.data());
            return y.written();
        });
        for (int m = 0; m < 16; m++)
            for (int n = 0; n < 8; n++) {
                float sum = c[(size_t)m * 8 + n];
                for (int k = 0; k < 16; k++) sum += (float)a[(size_t)m * 16 + k] * (float)b[(size_t)k * 8 + n];
                EXPECT_EQ(out[(size_t)m * 8 + n], sum);
            }
    }
}

TEST(ldmatrix_hands_out_matrices) {
    std::vector<uint16_t> matrices(256);
    for (size_t i = 0; i < 256; i++) matrices[i] = (uint16_t)(i * 257 + 1);
    std::vector<uint32_t> plain, transposed;
    for_schedules([&] {
        TestStream stream;
        OnDevice<uint32_t> x(128), y(128);
        OnDevice<uint16_t> inp(matrices);
        launch(ldmatrix_kernel, Grid{1, 32, 512}, stream, x.data(), y.data(), inp.data());
        transposed = y.written();
        return plain = x.written();
    });
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t i = 0; i < 4; i++) {
            const auto at = [&](uint32_t row, uint32_t column) { return (uint32_t)matrices[i * 64 + row * 8 + column]; };
            const uint32_t g = lane / 4, t = lane % 4;
            EXPECT_EQ(plain[lane * 4 + i], at(g, 2 * t) | at(g, 2 * t + 1) << 16);
            EXPECT_EQ(transposed[lane * 4 + i], at(2 * t, g) | at(2 * t + 1, g) << 16);
        }
}

TEST(asynchronous_copies_arrive) {
    std::vector<int> inp(128), first, second;
    for (int i = 0; i < 128; i++) inp[(size_t)i] = i + 1000;
    for_schedules([&] {
        TestStream stream;
        OnDevice<int> x(128), y(128), from(inp);
        launch(cp_async_kernel, Grid{1, 32, 1024}, stream, x.data(), y.data(), from.data());
        second = y.written();
        return first = x.written();
    });
    for (int i = 0; i < 128; i++) {
        const int from = i ^ 64;
        EXPECT_EQ(first[(size_t)i], from / 4 % 3 ? inp[(size_t)from] : 0);
        EXPECT_EQ(second[(size_t)i], (from / 4 + from % 4) % 3 ? inp[(size_t)from] : 0);
    }
}

// ex2.approx: 2 ulp, as the programming guide has it of exp2f(), which is this instruction where nothing is subnormal; twice that is allowed,
// 2^-21 of 2^x. No NaN but from NaN; results below 2^-126 are 0.
TEST(arithmetic_of_single_instructions) {
    std::vector<float> x;
    for (int i = -126; i <= 127; i++) x.push_back((float)i), x.push_back((float)i + 0.3f), x.push_back((float)i * 0.0137f);
    for (float special : {-INFINITY, INFINITY, NAN, 0.0f, -0.0f, -126.5f, -1e30f, 129.0f, 1e-40f}) x.push_back(special);
    const size_t n = x.size();
    std::vector<float> powers;
    auto pairs = for_schedules([&] {
        TestStream stream;
        OnDevice<float> y(n), inp(x);
        OnDevice<uint32_t> z(n);
        launch(arithmetic_kernel, over(n, 64), stream, y.data(), z.data(), inp.data(), (int)n);
        powers = y.written();
        return z.written();
    });
    for (size_t i = 0; i < n; i++) {
        const double exact = std::exp2((double)x[i]);
        if (std::isnan(x[i])) EXPECT(std::isnan(powers[i]));
        else if (exact < 0x1p-126) EXPECT_EQ(powers[i], 0.0f);
        else if (exact > FLT_MAX) EXPECT_EQ(powers[i], INFINITY);
        else if (!(std::fabs(powers[i] - exact) <= 0x1p-21 * exact)) FAIL("2^%g is %.9g", (double)x[i], (double)powers[i]);
        if (std::isnan(x[i]) || std::isnan(x[n - 1 - i])) continue;
        EXPECT_EQ(pairs[i], (uint32_t)bf16(x[i]).bits | (uint32_t)bf16(x[n - 1 - i]).bits << 16);
    }
}
