// gemv.h: one row times a matrix, as in decode, without packing.
#pragma once
#include "gemm.h"

namespace gemm_detail {
// W rows of a matrix times a vector x of `ksteps` k-steps, a multiple of W: W rows x W k-steps are transposed in registers. Each element
// is accumulated in the order of Kernel::micro_kernel, and so bitwise identical.
template <class Kernel, class F> vfloat gemv_rows(Operand<F> a, size_t rows, size_t K, const float* x, int ksteps) {
    using KStep = typename Kernel::KStep;
    constexpr size_t SIDE = W * K_PER_STEP<KStep>;
    vfloat acc = {}, total = {};
    for (int u = 0; u < ksteps; u += W) {
        const size_t k = (size_t)u * K_PER_STEP<KStep>;
        alignas(64) float edge[W * W];
        vfloat w[W];
        if (rows >= W && k + SIDE <= K) {
            #pragma GCC unroll 16
            for (size_t r = 0; r < W; r++) {
                const F* from = a.data + r * a.stride + k;
                __builtin_prefetch(from + W * a.stride, 0, 2);  // the next W rows: W streams are too many for the hardware prefetcher
                w[r] = load_along_k(KStep{}, from);
            }
            transpose(w);
        } else {
            pack<KStep, false>(edge, W, W, W, a.at(0, k), rows, K - k);
            for (int i = 0; i < W; i++) w[i] = load(edge + i * W);
        }
        #pragma GCC unroll 16
        for (int i = 0; i < W; i++) Kernel::add_kstep(acc, w[i], splat(x[u + i]));
        if (!Kernel::ONE_ACCUMULATOR && ((u + W) % Kernel::KC_L1 == 0 || u + W == ksteps))
            total = u < Kernel::KC_L1 ? acc : acc + total, acc = vfloat{};
    }
    return Kernel::ONE_ACCUMULATOR ? acc : total;
}

// epilogue(a B^T), a one row, B of nj rows: a matrix-vector product (GEMV). Each number of B is used once, so packing does not pay, and memory bandwidth is the
// limit.
template <class Kernel, class F>
void run_gemv(Operand<F> a, Operand<F> b, size_t nj, size_t K, Epilogue epilogue) {
    using KStep = typename Kernel::KStep;
    const int ksteps = round_up((int)((K + K_PER_STEP<KStep> - 1) / K_PER_STEP<KStep>), W);
    float* x = Workspace::of_thread(Workspace::all(max_threads())).a;
    for (int u = 0; u < ksteps; u += W) {
        const size_t k = (size_t)u * K_PER_STEP<KStep>, n = std::min<size_t>(K - k, W * K_PER_STEP<KStep>);
        F part[W * K_PER_STEP<KStep>] = {};
        memcpy(part, a.data + k, n * sizeof(F));
        store(x + u, load_along_k(KStep{}, part));
    }
    const size_t groups = (nj + W - 1) / W;
    parallel_blocks(groups, 8, [=](size_t begin, size_t end) {  // 8 groups of 768 bf16 are 196 KB: 10 us of memory
        for (size_t j = begin * W; j < end * W; j += W) {
            const size_t rows = std::min<size_t>(W, nj - j);
            alignas(64) float c[W];
            store(c, gemv_rows<Kernel>(b.at(j, 0), rows, K, x, ksteps));
            epilogue.call(epilogue.self, c, W, {0, j, 1, (int)rows});
        }
    });
}

}  // namespace gemm_detail
