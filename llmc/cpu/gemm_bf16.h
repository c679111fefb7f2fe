// gemm_bf16.h: micro-kernels for bf16 operands: instructions that add the products of k-pairs to fp32 accumulators. A product of two
// bf16 is exact in fp32; accumulators are fp32 over the whole of K. Both instructions treat denormals as 0 and round to nearest even.
#pragma once
#include <sys/syscall.h>
#include <unistd.h>
#include <atomic>
#include "gemm.h"
#include "gemv.h"
#if defined(__AVX512BF16__) || defined(__AMX_BF16__)
#include <immintrin.h>
#endif

namespace gemm_detail {

#if defined(__AMX_BF16__) && defined(__AMX_TILE__)

// AMX: tile registers of 16 rows of 64 bytes. One instruction adds a 16 x 32 by 32 x 16 product to a tile of 16 x 16 accumulators;
// with 2 x 2 tiles of accumulators each loaded tile of A and B is used twice.
struct Amx {
    using KStep = KPair;
    static constexpr const char* NAME = "AMX bf16";
    static constexpr bool HAS_GEMV = false, READS_ROWS = false;
    static constexpr int MR = 32, NR = 32;
    static constexpr int KC = 384, KC_L1 = KC, NC = 256, MC = 32;
    static constexpr double LAST_TURN = 0.2, COST_B = 8;
    static constexpr int TASK_ROWS = 512, PREFETCH_EVERY = 16;
    static constexpr int LD = KC + 16;
    static bool usable() {  // Linux grants the tile registers on request, once a process
        static const bool granted = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
        return granted;
    }
    static void begin() {
        struct alignas(64) Config { uint8_t palette, start, reserved[14]; uint16_t row_bytes[16]; uint8_t rows[16]; };
        static const Config config = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
        _tile_loadconfig(&config);
    }
    static void end() { _tile_release(); }
    static void micro_kernel(float* c, const float* a, size_t lda, const float* b, int, int ksteps, bool first, Prefetcher& inputs, Prefetcher& output) {
        float* c2 = c + 16 * NR;
        // A compiler barrier: the tile-load intrinsics of some compilers do not say that they read memory, and what was packed must be stored before them.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (first) {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        } else {
            _tile_loadd(0, c, NR * 4);
            _tile_loadd(1, c + 16, NR * 4);
            _tile_loadd(2, c2, NR * 4);
            _tile_loadd(3, c2 + 16, NR * 4);
        }
        for (int k = 0; k < ksteps; k += 16) {
            inputs.step(), output.step();
            _tile_loadd(4, a + k, lda * 4);
            _tile_loadd(5, a + 16 * lda + k, lda * 4);
            _tile_loadd(6, b + k * NR, NR * 4);
            _tile_loadd(7, b + k * NR + 16, NR * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, c, NR * 4);
        _tile_stored(1, c + 16, NR * 4);
        _tile_stored(2, c2, NR * 4);
        _tile_stored(3, c2 + 16, NR * 4);
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
};
using Bf16Kernel = Amx;

#elif defined(__AVX512BF16__)

// AVX-512: a lane of vdpbf16ps adds the products of a k-pair to its accumulator. Otherwise as Fma, but one accumulator over all of K.
struct Dot : Fma {
    using KStep = KPair;
    static constexpr const char* NAME = "AVX-512 bf16";
    // All of k where it is 768 or less, as in most products of GPT-2 124M: then a packed block of B serves the tasks that follow. A micro-panel of B comes from
    // L2, 4 loads for 24 multiply-adds: in L1 it would have to end after 128 k-steps (LOG 91). A task of longer k has its accumulators, up to 1 MB, in L3: 3 KB for 4,608
    // cycles. More rows a task, less packing of B.
    static constexpr int KC = 384, KC_L1 = KC, TASK_ROWS = 1056, LD = KC + 16;
    static constexpr double LAST_TURN = 0.1, COST_B = 10;
    static constexpr bool ONE_ACCUMULATOR = true;
    static void add_kstep(vfloat& acc, vfloat row, vfloat x) {
        acc = (vfloat)_mm512_dpbf16_ps((__m512)acc, (__m512bh)row, (__m512bh)x);
    }
    // On an Intel CPU whose AMX a virtual machine hides (family 6, model 207) a core does 79 GFLOP/s by this instruction and 171 by fp32's multiply-adds: Fma is faster
    // there (LOG 105). Cooper Lake has no AMX to hide, and this instruction is what it is for. By name, not by a measurement: results depend on it.
    static bool usable() { return !__builtin_cpu_is("intel") || __builtin_cpu_is("cooperlake"); }
    static void micro_kernel(float* c, const float* a, size_t lda, const float* b, int, int ksteps, bool first, Prefetcher& inputs, Prefetcher& output) {
        __m512 acc[MR][VECTORS];
        #pragma GCC unroll 6
        for (int r = 0; r < MR; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) acc[r][v] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + r * NR + v * W);
        for (int k = 0; k < ksteps; k++) {
            if (k % 8 == 0) inputs.step(), output.step();
            __m512bh y[VECTORS];
            #pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) y[v] = (__m512bh)load(b + k * NR + v * W);
            #pragma GCC unroll 6
            for (int r = 0; r < MR; r++) {
                __m512bh x = (__m512bh)splat_kstep(a + r * lda + k);
                #pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], x, y[v]);
            }
        }
        #pragma GCC unroll 6
        for (int r = 0; r < MR; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(c + r * NR + v * W, acc[r][v]);
    }
};
using Bf16Kernel = Dot;

#else

using Bf16Kernel = Fma;  // widened to fp32 while packing

#endif

// One row of A, as in decode, has a path of its own without packing; results are bitwise identical.
template <class Kernel, class F> void gemm_by(Operand<F> a, size_t ni, Operand<F> b, size_t nj, size_t K, Epilogue epilogue) {
    if constexpr (Kernel::HAS_GEMV)
        if (ni == 1 && a.k_inner && b.k_inner && K <= Workspace::A_SIZE) return run_gemv<Kernel>(a, b, nj, K, epilogue);
    run<Kernel>(a, ni, b, nj, K, epilogue);
}
template <class F> void gemm(Operand<F> a, size_t ni, Operand<F> b, size_t nj, size_t K, Epilogue epilogue) {
    if constexpr (std::is_same_v<F, bf16> && !std::is_same_v<Bf16Kernel, Fma>) {
        if (Bf16Kernel::usable()) return gemm_by<Bf16Kernel>(a, ni, b, nj, K, epilogue);
    }
    gemm_by<Fma>(a, ni, b, nj, K, epilogue);
}

// The last elements of a row may be fewer than a vector.
template <class F> inline vfloat load_most(const F* p, int n) { return n >= W ? load(p) : load_part(p, n); }
template <class F> inline void store_most(F* p, vfloat v, int n) { if (n >= W) store(p, v); else store_part(p, v, n); }

}  // namespace gemm_detail
