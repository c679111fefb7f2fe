// gemm.h: the matrix product (GEMM) C = A B^T at nearly the peak FLOP/s of the CPU.
//
// A product of n x n matrices does n^3 multiply-adds on n^2 numbers, so memory need not be the limit if each number is used
// many times in each level of the cache. The loops are blocked and the operands packed as in Goto and van de Geijn 2008, "Anatomy
// of High-Performance Matrix Multiplication"; the names are BLIS's:
// - registers: the micro-kernel keeps MR x NR accumulators in registers while k runs. One step of k loads MR + NR numbers and does
//   MR * NR multiply-adds: vectors of B's micro-panel times one number of each row of A, broadcast.
// - L1: KC_L1 steps of a micro-panel of B, NR columns. All MC rows of the block of A are multiplied by it before the next is loaded.
// - L2: the packed block of B, at most NC columns by KC steps of k, and a block of A, MC x KC. Packed is: copied so that the
//   micro-kernel reads it front to back, padded with zeros, without the gaps of a whole matrix row that would map to the same few
//   cache sets. A is packed too, unless its k-steps lie in memory as the micro-kernel takes them: then its rows are read in place.
// - a task is a rectangle of C, with accumulators in fp32 where K is longer than KC. Threads take tasks; no two threads add to the
//   same accumulator.
// Every element of C is accumulated over k from first to last in one order, whatever the blocks, the edges or the threads: it
// depends on its row of A and its row of B and on nothing else, bitwise.
#pragma once
#include <sys/mman.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>
#include "device.h"
#include "vec.h"

// A matrix as the product sees it: element (i, k) is data[i * stride + k], or data[k * stride + i] if !k_inner.
template <class F> struct Operand {
    const F* data;
    size_t stride;
    bool k_inner;
    Operand at(size_t i, size_t k) const { return {data + (k_inner ? i * stride + k : k * stride + i), stride, k_inner}; }
};

// Software prefetch into L2, a cache line at a time between the FMAs of the micro-kernel. (Issued all at once, they would
// delay the micro-kernel's own loads.)
class Prefetcher {
    struct Region { const char* at; size_t stride, pieces, lines; bool write; };
    Region regions[3] = {};
    int count = 0, current = 0;
    const char* line = nullptr;
    size_t left = 0, total = 0, due = 0, slots = 1;
    void next_piece() {
        while (current < count && regions[current].pieces == 0) current++;
        if (current == count) { total = 0, due = 0; return; }
        Region& r = regions[current];
        line = r.at, left = r.lines, r.at += r.stride, r.pieces--;
    }

public:
    void add(const void* at, size_t stride, size_t pieces, size_t bytes, bool write) {
        size_t lines = ((size_t)at % 64 + bytes + 63) / 64;
        if (pieces == 0 || bytes == 0) return;
        regions[count++] = {(const char*)at, stride, pieces, lines, write}, total += pieces * lines;
    }
    void start(size_t steps) { slots = steps ? steps : 1, next_piece(); }
    void step() {
        for (due += total; due >= slots; due -= slots) {
            if (regions[current].write) __builtin_prefetch(line, 1, 2); else __builtin_prefetch(line, 0, 2);
            line += 64;
            if (--left == 0) next_piece();
            if (total == 0) return;
        }
    }
};

// What is done with a finished tile of C: rows i0..i0+ni, columns j0..j0+nj at c[i * ldc + j], i and j from 0. Rows and
// columns of c up to the next multiple of W are padding.  `prefetch` names the memory that the epilogue will write.
struct OutputTile { size_t i0, j0; int ni, nj; };
struct Epilogue {
    const void* self;
    void (*call)(const void* self, const float* c, int ldc, OutputTile at);
    void (*prefetch)(const void* self, Prefetcher& output, OutputTile at);
    template <class Body> static Epilogue with(const Body& body) {
        return {&body, [](const void* b, const float* c, int ldc, OutputTile at) { ((const Body*)b)->call(c, ldc, at); },
                [](const void* b, Prefetcher& output, OutputTile at) { ((const Body*)b)->prefetch(output, at); }};
    }
};

namespace gemm_detail {

constexpr int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// A k-step is what a lane of the micro-kernel's multiply-add takes of k at a time, 4 bytes: a float, or a k-pair, two bf16 with
// neighbouring k (oneDNN's VNNI layout).
struct Float {};
struct KPair {};
template <class KStep> constexpr int K_PER_STEP = std::is_same_v<KStep, KPair> ? 2 : 1;

// W consecutive k-steps of a row, k contiguous; and one k-step of W rows, where k has a stride.
template <class F> inline vfloat load_along_k(Float, const F* p) { return load(p); }
template <class F> inline vfloat load_across_k(Float, const F* p, size_t) { return load(p); }
inline vfloat load_along_k(KPair, const bf16* p) {
    vfloat v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline vfloat load_across_k(KPair, const bf16* p, size_t stride) {
    return (vfloat)((vuint)load(p) >> 16 | (vuint)load(p + stride));  // a bf16 is the upper half of the float that load makes
}

// A k-step in all lanes.
inline vfloat splat_kstep(const float* p) { float x; memcpy(&x, p, sizeof x); return splat(x); }

// Packs W rows by W k-steps: to[row * ld + kstep] if ALONG_K, to[kstep * ld + row] otherwise.
template <class KStep, bool ALONG_K, class F> inline void pack_square(float* to, size_t ld, Operand<F> a) {
    vfloat x[W];
    if (a.k_inner) {
        #pragma GCC unroll 16
        for (int r = 0; r < W; r++) x[r] = load_along_k(KStep{}, a.data + r * a.stride);
        if (!ALONG_K) transpose(x);
    } else {
        #pragma GCC unroll 16
        for (int u = 0; u < W; u++) x[u] = load_across_k(KStep{}, a.data + u * K_PER_STEP<KStep> * a.stride, a.stride);
        if (ALONG_K) transpose(x);
    }
    #pragma GCC unroll 16
    for (int q = 0; q < W; q++) store(to + q * ld, x[q]);
}
// Packs `rows` by `ksteps`, both multiples of W, of which ni rows and nk elements along k exist: the rest is padded with 0. A's rows
// (ALONG_K) are ld k-steps apart; B's come in micro-panels of ld rows, one after the other. Memory is read contiguously. A square
// at the edge is first copied into a zero-padded square.
template <class KStep, bool ALONG_K, class F>
void pack(float* to, int ld, int rows, int ksteps, Operand<F> a, size_t ni, size_t nk) {
    constexpr size_t SIDE = W * K_PER_STEP<KStep>;  // of a square along k, in elements
    int inner = a.k_inner ? ksteps : rows, outer = a.k_inner ? rows : ksteps;
    for (int y = 0; y < outer; y += W)
        for (int x = 0; x < inner; x += W) {
            int r = a.k_inner ? y : x, u = a.k_inner ? x : y;
            size_t k = (size_t)u * K_PER_STEP<KStep>;
            float* target = to + (ALONG_K ? (size_t)r * ld + u : (size_t)(r / ld * ksteps + u) * ld + r % ld);
            Operand<F> corner = a.at(r, k);
            if ((size_t)r + W <= ni && k + SIDE <= nk) {
                pack_square<KStep, ALONG_K>(target, ld, corner);
                continue;
            }
            F edge[W * SIDE] = {};
            for (size_t i = 0; i < W && r + i < ni; i++)
                for (size_t q = 0; q < SIDE && k + q < nk; q++) edge[i * SIDE + q] = *corner.at(i, q).data;
            pack_square<KStep, ALONG_K>(target, ld, Operand<F>{edge, SIDE, true});
        }
}

// The fp32 micro-kernel: fused multiply-adds on vectors. 6 rows x 4 vectors of accumulators, 4 vectors of B and one broadcast number of
// A fit in 32 registers, 6 x 2 in 16; 12 or more accumulators hide the latency of an FMA (4 cycles, 2 a cycle), and a k-step takes
// 10 loads for 24 multiply-adds.
struct Fma {
    using KStep = Float;
    static constexpr const char* NAME = W == 16 ? "AVX-512 fp32" : W == 8 ? "AVX2 fp32" : "128-bit fp32";
    static constexpr int MR = 6, VECTORS = W == 8 ? 2 : 4, NR = VECTORS * W;
    static constexpr int KC = 256, KC_L1 = 128, NC = 256, MC = 48;  // KC, KC_L1: k-steps
    static constexpr double LAST_TURN = 0.2, COST_B = 8;            // see partition()
    static constexpr int TASK_ROWS = 384, PREFETCH_EVERY = 8;       // the most rows of a task; k-steps from one prefetch to the next
    static constexpr int LD = KC + 16;  // rows of A 1088 bytes apart: not a power of two, so that they map to all cache sets
    static bool usable() { return true; }
    static void begin() {}
    static void end() {}
    template <int V> static void micro_kernel_of(float* c, const float* a, size_t lda, const float* b, int ksteps, bool first,
                                                 Prefetcher& inputs, Prefetcher& output) {
        vfloat acc[MR][V] = {};
        for (int k = 0; k < ksteps; k++) {
            if (k % 8 == 0) inputs.step(), output.step();
            vfloat y[V];
            #pragma GCC unroll 4
            for (int v = 0; v < V; v++) y[v] = load(b + k * NR + v * W);
            #pragma GCC unroll 6
            for (int r = 0; r < MR; r++) {
                vfloat x = splat_kstep(a + r * lda + k);
                #pragma GCC unroll 4
                for (int v = 0; v < V; v++) acc[r][v] += x * y[v];
            }
        }
        #pragma GCC unroll 6
        for (int r = 0; r < MR; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                float* to = c + r * NR + v * W;
                store(to, first ? acc[r][v] : acc[r][v] + load(to));
            }
    }
    // One k-step of a matrix-vector product (GEMV): the same multiply-adds; each KC_L1 k-steps have an accumulator of their own.
    static constexpr bool HAS_GEMV = true, ONE_ACCUMULATOR = false, READS_ROWS = true;
    static void add_kstep(vfloat& acc, vfloat row, vfloat x) { acc += row * x; }
    // All of a micro-panel, or a vector at a time of the last one.
    static void micro_kernel(float* c, const float* a, size_t lda, const float* b, int columns, int ksteps, bool first, Prefetcher& inputs, Prefetcher& output) {
        if (columns > (VECTORS - 1) * W) return micro_kernel_of<VECTORS>(c, a, lda, b, ksteps, first, inputs, output);
        for (; columns > 0; columns -= W, c += W, b += W) micro_kernel_of<1>(c, a, lda, b, ksteps, first, inputs, output);
    }
};

// Each thread's packed blocks of A and B and its accumulators of C, one allocation for all, kept: 1.7 MB a thread, of which the blocks are in L2.
struct Workspace {
    static constexpr size_t B_SIZE = 384 * 256, A_SIZE = 64 * 512, C_SIZE = (1056 + 48) * 256;
    static constexpr size_t FLOATS = B_SIZE + A_SIZE + C_SIZE;
    float *b, *a, *c;
    static float* all(int threads) {  // called outside of tasks only
        static float* memory = nullptr;
        static int has = 0;
        if (threads > has) {
            if (has) munmap(memory, has * FLOATS * sizeof(float));
            memory = (float*)device_alloc(threads * FLOATS * sizeof(float)), has = threads;
        }
        return memory;
    }
    static Workspace of_thread(float* all) {
        all += thread_number() * FLOATS;
        return {all, all + B_SIZE, all + B_SIZE + A_SIZE};
    }
};

// How C is partitioned: tasks of at most `rows` x `columns`, numbered down the columns, so that consecutive tasks share a packed block of B.
struct Partition {
    size_t ni, nj, rows, columns, down, tasks;
    size_t i(size_t t) const { return t % down * rows; }
    size_t j(size_t t) const { return t / down * columns; }
    int height(size_t t) const { return (int)std::min(rows, ni - i(t)); }
    int width(size_t t) const { return (int)std::min(columns, nj - j(t)); }
};
// The partition of least estimated cost: packing a row of A costs as much as multiplying some 8 columns, reading it in place 4; packing a row of B as
// COST_B rows; and the last thread may finish LAST_TURN of a task after the others.
template <class Kernel> Partition partition(size_t ni, size_t nj, int threads, bool direct) {
    size_t groups = (ni + Kernel::MR - 1) / Kernel::MR, panels = (nj + Kernel::NR - 1) / Kernel::NR;
    Partition best = {};
    double least = 1e300;
    for (size_t c = std::min<size_t>(panels, Kernel::NC / Kernel::NR); c > 0; c--)
        for (size_t r = std::min<size_t>(groups, Kernel::TASK_ROWS / Kernel::MR); r > 0; r--) {
            size_t down = (groups + r - 1) / r, tasks = down * ((panels + c - 1) / c), turns = (tasks + threads - 1) / threads;
            double rows = (double)r * Kernel::MR, columns = (double)c * Kernel::NR;
            double cost = ((double)turns + Kernel::LAST_TURN) * (rows * columns + (direct ? 4 : 8) * rows + Kernel::COST_B * columns);
            if (cost < least) least = cost, best = {ni, nj, r * Kernel::MR, c * Kernel::NR, down, tasks};
        }
    return best;
}

template <class Kernel, class F> struct Worker {
    using KStep = typename Kernel::KStep;
    static constexpr int MR = Kernel::MR, NR = Kernel::NR, MC = Kernel::MC;
    static constexpr bool DIRECT = Kernel::READS_ROWS && sizeof(F) * K_PER_STEP<KStep> == sizeof(float);  // a k-step in memory is one in the micro-kernel
    static_assert(Kernel::KC <= Kernel::LD && Kernel::KC * Kernel::NC <= (int)Workspace::B_SIZE
                  && round_up(MC, W) * Kernel::LD <= (int)Workspace::A_SIZE && (Kernel::TASK_ROWS + MC) * Kernel::NC <= (int)Workspace::C_SIZE, "the thread's workspace");
    Workspace ws;
    Operand<F> a, b;
    size_t K;
    const Partition& by;
    const Epilogue& epilogue;
    static constexpr size_t KC = (size_t)Kernel::KC * K_PER_STEP<KStep>;
    size_t packed_j = ~(size_t)0;

    void task(size_t t, size_t next) {
        size_t i0 = by.i(t), j0 = by.j(t);
        int ni = by.height(t), nj = by.width(t), panels = (nj + NR - 1) / NR;
        for (size_t k = 0; k < K; k += KC) {
            size_t nk = std::min(KC, K - k);
            bool last = k + nk == K;
            int ksteps = round_up((int)((nk + K_PER_STEP<KStep> - 1) / K_PER_STEP<KStep>), W);
            if (K > KC || j0 != packed_j)
                pack<KStep, false>(ws.b, NR, panels * NR, ksteps, b.at(j0, k), nj, nk);
            packed_j = j0;
            size_t next_t = last ? (next < by.tasks ? next : t) : t, next_k = last ? 0 : k + nk, next_nk = std::min(KC, K - next_k);
            bool new_b = K > KC || by.j(next_t) != j0;
            const bool whole_squares = nk % (W * K_PER_STEP<KStep>) == 0;
            const size_t blocks = (ni + MC - 1) / MC;
            for (int i = 0; i < ni; i += MC) {
                int rows = std::min(MC, ni - i);
                Prefetcher inputs;
                if (i + MC < ni) prefetch(inputs, a.at(i0 + i + MC, k), std::min(MC, ni - i - MC), nk, 0, 1);
                else prefetch(inputs, a.at(by.i(next_t), next_k), std::min(MC, by.height(next_t)), next_nk, 0, 1);
                if (new_b) prefetch(inputs, b.at(by.j(next_t), next_k), by.width(next_t), next_nk, i / MC, blocks);
                inputs.start((size_t)(rows + MR - 1) / MR * panels * ksteps / Kernel::PREFETCH_EVERY);
                Operand<F> block = a.at(i0 + i, k);
                const bool direct = DIRECT && a.k_inner && whole_squares && rows % MR == 0 && a.stride % K_PER_STEP<KStep> == 0;
                const float* rows_of_a = direct ? (const float*)block.data : ws.a;
                const size_t lda = direct ? a.stride / K_PER_STEP<KStep> : (size_t)Kernel::LD;
                if (!direct) pack<KStep, true>(ws.a, Kernel::LD, round_up(rows, W), ksteps, block, by.ni - i0 - i, nk);
                for (int j = 0; j < nj; j += NR) {
                    float* c = ws.c + (K > KC ? (i * panels + j / NR * MC) * NR : 0);
                    OutputTile at = {i0 + i, j0 + j, rows, std::min(NR, nj - j)};
                    Prefetcher output;
                    if (K > KC) output.add(c + MC * NR, 0, 1, MC * NR * sizeof(float), true);
                    if (last) epilogue.prefetch(epilogue.self, output, at);
                    output.start((rows + MR - 1) / MR * ksteps / Kernel::PREFETCH_EVERY);
                    for (int u = 0; u < ksteps; u += Kernel::KC_L1)
                        for (int r = 0; r < rows; r += MR)
                            Kernel::micro_kernel(c + r * NR, rows_of_a + r * lda + u, lda, ws.b + j * ksteps + u * NR, nj - j,
                                                 std::min(Kernel::KC_L1, ksteps - u), k + u == 0, inputs, output);
                    if (last) epilogue.call(epilogue.self, c, NR, at);
                }
            }
        }
    }
    // The part'th of so many parts of a block of ni rows, nk long.
    static void prefetch(Prefetcher& inputs, Operand<F> a, size_t ni, size_t nk, size_t part, size_t parts) {
        const size_t pieces = a.k_inner ? ni : nk, begin = pieces * part / parts, end = pieces * (part + 1) / parts;
        inputs.add(a.data + begin * a.stride, a.stride * sizeof(F), end - begin, (a.k_inner ? nk : ni) * sizeof(F), false);
    }
};

// epilogue(A B^T), A of ni rows, B of nj rows, both K long. The result is bitwise identical for any partition and any number of threads.
template <class Kernel, class F>
void run(Operand<F> a, size_t ni, Operand<F> b, size_t nj, size_t K, Epilogue epilogue) {
    int threads = max_threads();
    Partition by = partition<Kernel>(ni, nj, threads, Worker<Kernel, F>::DIRECT && a.k_inner);
    float* memory = Workspace::all(threads);
    std::atomic<size_t> taken = 0;
    parallel_for(std::min((size_t)threads, by.tasks), [&](size_t) {  // a thread takes one task after the other and keeps what it has packed
        Worker<Kernel, F> worker = {Workspace::of_thread(memory), a, b, K, by, epilogue};
        Kernel::begin();
        // what is prefetched during a task is a guess: that each of the other threads takes one meanwhile
        for (size_t t = taken++; t < by.tasks; t = taken++) worker.task(t, t + (size_t)threads);
        Kernel::end();
    });
}

// FLOP/s of all threads at once: the best of SLICES windows of time, which are the same for all. 0: none of them was long enough, or others had the cores.
template <class Kernel> double measure_peak_once(double seconds) {
    using clock = std::chrono::steady_clock;
    constexpr int KSTEPS = 128;  // rows and one micro-panel together: at most 32 KB
    constexpr double FLOPS = 2.0 * Kernel::MR * Kernel::NR * KSTEPS * K_PER_STEP<typename Kernel::KStep>;
    constexpr int SLICES = 20, AT_ONCE = 16;
    const size_t threads = (size_t)max_threads();
    float* memory = Workspace::all((int)threads);
    const std::chrono::duration<double> slice(seconds / SLICES);
    std::vector<double> flops(SLICES * threads);
    const auto start = clock::now();
    const auto window = [&] { return (int)std::min<double>((clock::now() - start) / slice, SLICES); };
    parallel_for(threads, [&](size_t number) {  // who comes too late finds that the windows are over
        Workspace ws = Workspace::of_thread(memory);
        std::fill_n(ws.a, Kernel::LD * Kernel::MC, 0.0f);
        std::fill_n(ws.b, KSTEPS * Kernel::NR, 0.0f);
        Kernel::begin();
        Prefetcher inputs;
        for (int before = window(); before < SLICES;) {
            for (int i = 0; i < AT_ONCE; i++) Kernel::micro_kernel(ws.c, ws.a, Kernel::LD, ws.b, Kernel::NR, KSTEPS, i == 0, inputs, inputs);
            const int now = window();
            if (now == before) flops[(size_t)now * threads + number] += AT_ONCE * FLOPS;
            before = now;
        }
        Kernel::end();
    });
    double best = 0;
    for (size_t s = 0; s < SLICES; s++) {
        double sum = 0;
        for (size_t t = 0; t < threads; t++) sum += flops[s * threads + t];
        best = std::max(best, sum / slice.count());
    }
    return best;
}
template <class Kernel> double measure_peak(double seconds) {
    for (;; seconds *= 2) if (const double flops = measure_peak_once<Kernel>(seconds); flops > 0) return flops;
}

}  // namespace gemm_detail
