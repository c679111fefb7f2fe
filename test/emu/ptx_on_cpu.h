// ptx_on_cpu.h: the functions of llmc/cuda/ptx.cuh on a CPU, each made of what the PTX ISA says of its instruction. That these
// are the layouts that a GPU has is tested by the same tests there (test/cuda/test_ptx.cu).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include "cuda_bf16.h"
#include "cuda_runtime.h"

inline char* dynamic_shared() { return emu::dynamic_shared(); }

// ---- kernels that are launched early: in code for GPUs before sm_90 both are empty (ptx.cuh), also where an sm_90 runs it ----

inline void griddepcontrol_wait() { if (emu::machine().code >= 90) cudaGridDependencySynchronize(); }
inline void griddepcontrol_launch_dependents() { cudaTriggerProgrammaticLaunchCompletion(); }

// ---- asynchronous copies: what is copied is there once the copying thread has waited, and not before ---------------------

inline void cp_async_16(void* dst, const void* src, int bytes) { emu::async_copy(dst, src, (unsigned)bytes, 16u - (unsigned)bytes); }
inline void cp_async_4(void* dst, const void* src, int bytes) { emu::async_copy(dst, src, (unsigned)bytes, 4u - (unsigned)bytes); }
inline void cp_async_commit_group() { emu::async_commit(); }
template <int PENDING> void cp_async_wait_group() { emu::async_wait(PENDING); }

// ---- products of matrices by a warp ------------------------------------------------------------------------------------

namespace ptx_detail {
struct Fragments { uint32_t a[4], b[2]; float c[4]; };
struct Four { uint32_t x[4]; };
struct FourFloats { float x[4]; };
inline float low(uint32_t pair) { return __builtin_bit_cast(float, pair << 16); }
inline float high(uint32_t pair) { return __builtin_bit_cast(float, pair & 0xffff0000); }

// The whole matrices are put together from the lanes' parts, multiplied, and handed out again.
inline void multiply(const Fragments* in, FourFloats* out) {
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, t = lane % 4;
        const Fragments& f = in[lane];
        for (int i = 0; i < 4; i++) {
            const int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
            a[row][column] = low(f.a[i]), a[row][column + 1] = high(f.a[i]);
            c[g + i / 2 * 8][2 * t + i % 2] = f.c[i];
        }
        for (int i = 0; i < 2; i++) b[2 * t + i * 8][g] = low(f.b[i]), b[2 * t + 1 + i * 8][g] = high(f.b[i]);
    }
    for (int k = 0; k < 16; k++)
        for (int m = 0; m < 16; m++)
            for (int n = 0; n < 8; n++) c[m][n] += a[m][k] * b[k][n];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) out[lane].x[i] = c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
}

// Each lane reads the row that it names, and every lane gets its part of all.
struct Row { uint16_t x[8]; };
inline Four load_matrices(const void* row, bool transposed) {
    if ((uintptr_t)row % 16) emu::fault("ldmatrix: a row is not 16-byte aligned");
    const Row mine = *(const Row*)row;  // here, where it is looked at
    return emu::warp_collective<Four>(0xffffffff, mine, [=](const Row* rows, Four* out) {
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++) {
                const int g = lane / 4, t = lane % 4;
                const Row* matrix = rows + 8 * i;
                const uint32_t first = transposed ? matrix[2 * t].x[g] : matrix[g].x[2 * t];
                const uint32_t second = transposed ? matrix[2 * t + 1].x[g] : matrix[g].x[2 * t + 1];
                out[lane].x[i] = first | second << 16;
            }
    });
}
}  // namespace ptx_detail

inline void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    ptx_detail::Fragments mine{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
    memcpy(c, emu::warp_collective<ptx_detail::FourFloats>(0xffffffff, mine, ptx_detail::multiply).x, sizeof c);
}
inline void ldmatrix_x4(uint32_t (&x)[4], const void* row) { memcpy(x, ptx_detail::load_matrices(row, false).x, sizeof x); }
inline void ldmatrix_x4_trans(uint32_t (&x)[4], const void* row) { memcpy(x, ptx_detail::load_matrices(row, true).x, sizeof x); }

// ---- arithmetic --------------------------------------------------------------------------------------------------------

inline float ex2_approx(float x) {
    if (std::fabs(x) < 0x1p-126f) x = 0;  // .ftz: neither a subnormal argument nor a subnormal result
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0 : y;
}
inline uint32_t cvt_bf16x2(float low, float high) {
    return (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(low)) | (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}
inline void compiler_barrier(int4&) {}
