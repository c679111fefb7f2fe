// gemm_bf16.h: the FMA units for bf16 operands, which add products of bf16 pairs to fp32 sums. Products of two bf16 are
// exact in fp32; the sums are fp32 over the whole of K. Both instructions treat denormals as 0 and round only to nearest.
#pragma once
#include <sys/syscall.h>
#include <unistd.h>
#include <atomic>
#include "gemm.h"
#if defined(__AVX512BF16__) || defined(__AMX_BF16__)
#include <immintrin.h>
#endif

namespace gemm_detail {

#if defined(__AMX_BF16__) && defined(__AMX_TILE__)

// AMX: tile registers of 16 rows of 64 bytes. One instruction adds a 16 x 32 by 32 x 16 product to 16 x 16 sums: 2 x 2
// tiles of sums reuse each loaded tile twice.
struct Amx {
    using Unit = Pair;
    static constexpr const char* NAME = "AMX bf16";
    static constexpr bool ONE_COLUMN = false;
    static constexpr int ROWS = 32, COLUMNS = 32;
    static constexpr int DEPTH = 384, L1_DEPTH = 384, WIDTH = 256, RUN = 512, BLOCK = 32, STEP = 16;
    static constexpr int LD = DEPTH + 16;
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
    static void tile(float* c, const float* a, const float* b, int, int units, bool first, Prefetcher& soon, Prefetcher& dest) {
        float* c2 = c + 16 * COLUMNS;
        // The tile loads of some compilers do not say that they read memory: what was packed must be there.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (first) {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        } else {
            _tile_loadd(0, c, COLUMNS * 4);
            _tile_loadd(1, c + 16, COLUMNS * 4);
            _tile_loadd(2, c2, COLUMNS * 4);
            _tile_loadd(3, c2 + 16, COLUMNS * 4);
        }
        for (int k = 0; k < units; k += 16) {
            soon.step(), dest.step();
            _tile_loadd(4, a + k, LD * 4);
            _tile_loadd(5, a + 16 * LD + k, LD * 4);
            _tile_loadd(6, b + k * COLUMNS, COLUMNS * 4);
            _tile_loadd(7, b + k * COLUMNS + 16, COLUMNS * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, c, COLUMNS * 4);
        _tile_stored(1, c + 16, COLUMNS * 4);
        _tile_stored(2, c2, COLUMNS * 4);
        _tile_stored(3, c2 + 16, COLUMNS * 4);
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
};
using Bf16Engine = Amx;

#elif defined(__AVX512BF16__)

// AVX-512: a lane of vdpbf16ps adds the products of a pair to its sum. Otherwise as Fma.
struct Dot : Fma {
    using Unit = Pair;
    static constexpr const char* NAME = "AVX-512 bf16";
    static constexpr bool ONE_CHAIN = true;
    static void add_unit(vfloat& sum, vfloat row_units, vfloat x) {
        sum = (vfloat)_mm512_dpbf16_ps((__m512)sum, (__m512bh)row_units, (__m512bh)x);
    }
    static bool usable() { return true; }
    static void tile(float* c, const float* a, const float* b, int, int units, bool first, Prefetcher& soon, Prefetcher& dest) {
        __m512 sum[ROWS][VECTORS];
        #pragma GCC unroll 6
        for (int r = 0; r < ROWS; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sum[r][v] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + r * COLUMNS + v * W);
        for (int k = 0; k < units; k++) {
            if (k % 8 == 0) soon.step(), dest.step();
            __m512bh y[VECTORS];
            #pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) y[v] = (__m512bh)load(b + k * COLUMNS + v * W);
            #pragma GCC unroll 6
            for (int r = 0; r < ROWS; r++) {
                __m512bh x = (__m512bh)splat(a[r * LD + k]);
                #pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, y[v]);
            }
        }
        #pragma GCC unroll 6
        for (int r = 0; r < ROWS; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(c + r * COLUMNS + v * W, sum[r][v]);
    }
};
using Bf16Engine = Dot;

#else

using Bf16Engine = Fma;  // widened to fp32 while packing

#endif

}  // namespace gemm_detail
