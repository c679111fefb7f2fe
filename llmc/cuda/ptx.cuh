// ptx.cuh: one function a PTX instruction, named after it; no other file contains asm. (PTX ISA 8.4, sm_80 and newer)
// On a CPU test/emu/ptx_on_cpu.h replaces it: the same functions in C++, written from the PTX manual.
#pragma once
#include <cstdint>

// The block's dynamic shared memory, as many bytes as its launch asked for.
__device__ inline char* dynamic_shared() {
    extern __shared__ __align__(128) char dynamic_shared_memory[];  // 128: all banks once
    return dynamic_shared_memory;
}

// ---- programmatic dependent launch (sm_90 and newer; a no-op before) -----------------------------------------------------
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
// Waits until the kernels that this one depends on have completed and their writes are visible.
__device__ inline void griddepcontrol_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
// Kernels that depend on this one may be launched once all of its blocks have executed this or exited.
__device__ inline void griddepcontrol_launch_dependents() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
#else
__device__ inline void griddepcontrol_wait() {}
__device__ inline void griddepcontrol_launch_dependents() {}
#endif

// ---- asynchronous copies from global to shared memory ------------------------------------------------------------------

// Copies `bytes` (16 or 0; 4 or 0) and fills the rest of the 16 or 4 with zeros. Both pointers are aligned to 16 or 4 bytes. With 0 nothing is
// read, but src must still be a valid address. cg: bypasses L1, as the bytes are read only once.
__device__ inline void cp_async_16(void* dst, const void* src, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(dst)), "l"(src), "r"(bytes) : "memory");
}
__device__ inline void cp_async_4(void* dst, const void* src, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(dst)), "l"(src), "r"(bytes) : "memory");
}
// Commits a group: the thread's copies since the last commit.
__device__ inline void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most PENDING of the thread's own groups are in flight. Other threads see the bytes after a barrier.
template <int PENDING> __device__ inline void cp_async_wait_group() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

// ---- matrix multiply-accumulate (mma) ----------------------------------------------------------------------------------
// Fragments: with g = lane / 4 and t = lane % 4, a lane holds of
//   a (16, 16)   a[0]: row g, columns 2t, 2t+1;  a[1]: row g + 8;  a[2]: row g, columns 2t + 8, +9;  a[3]: row g + 8, these
//   b (16, 8)    b0: rows 2t, 2t+1 of column g;  b1: rows 2t + 8, +9
//   c (16, 8)    c[0], c[1]: row g, columns 2t, 2t+1;  c[2], c[3]: row g + 8
// two bf16 a register, that of the lower column (a) or row (b) in the lower half.

// c += a b
__device__ inline void mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Loads four 8 x 8 matrices of 16-bit elements from shared memory: lane 8i + r gives the address of row r of matrix i, aligned to 16 bytes.
// A lane gets in x[i] columns 2t, 2t+1 of row g of matrix i ...
__device__ inline void ldmatrix_x4(uint32_t (&x)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
}
// ... or, transposed, rows 2t, 2t+1 of column g.
__device__ inline void ldmatrix_x4_trans(uint32_t (&x)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
}

// ---- arithmetic --------------------------------------------------------------------------------------------------------

// 2^x with a relative error of 2^-22; 0 for -infinity, and where the result is below 2^-126.
__device__ inline float ex2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two floats to two bf16, rounded to nearest even; `low` in the lower half.
__device__ inline uint32_t cvt_bf16x2(float low, float high) {
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

// A compiler barrier: x is unchanged, but the compiler must assume otherwise, so it recomputes values derived from x instead of keeping them in
// registers.
__device__ inline void compiler_barrier(int4& x) { asm volatile("" : "+r"(x.x), "+r"(x.y), "+r"(x.z), "+r"(x.w)); }
