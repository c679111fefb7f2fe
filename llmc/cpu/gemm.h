// gemm.h: C = A B^T at (nearly) the speed of the FMA units.
//
// A product of n x n matrices does n^3 multiply-adds on n^2 numbers, so it need not wait for memory: each number must
// only be used many times wherever it has been brought, and so the loops are blocked once for every level:
// - registers: a tile of ROWS x COLUMNS sums stays in registers while k runs. One step of k loads ROWS + COLUMNS numbers
//   and does ROWS * COLUMNS multiply-adds: a vector of B's columns times one number of A's row, broadcast.
// - L1: the ROWS rows of A under work, copied together ("packed": consecutive, zero-padded, no gaps of a whole matrix
//   row that would fall on the same few cache sets). They meet all columns of the block of B before the next rows come.
// - L2: a block of B, at most WIDTH columns by DEPTH steps of k, packed in panels of COLUMNS so that the kernel reads it
//   front to back. All rows of the task meet it before it is replaced. And the task's sums, in fp32.
// - a task is a rectangle of C. Threads take tasks; nobody ever shares a sum.
// Every sum runs over k from first to last in one chain, whatever the blocks, the edges or the threads: the bits of an
// element of C depend on its row of A and its row of B and on nothing else.
#pragma once
#include <sys/mman.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include "device.h"
#include "vec.h"

// A matrix as the product sees it: element (i, k) is data[i * stride + k], or data[k * stride + i] if !k_inner.
template <class F> struct Operand {
    const F* data;
    size_t stride;
    bool k_inner;
    Operand at(size_t i, size_t k) const { return {data + (k_inner ? i * stride + k : k * stride + i), stride, k_inner}; }
};

// Memory that will be needed soon, brought to L2 a line at a time while the FMA units are at work. (Asked for all at once
// it would keep the kernel's own loads waiting.)
class Prefetcher {
    struct Region { const char* at; size_t stride, pieces, lines; bool write; };
    Region regions[2] = {};
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

// What becomes of a finished block of C: rows i0..i0+ni, columns j0..j0+nj at c[i * ldc + j], i and j from 0. Rows and
// columns of c up to the next multiple of W exist and hold nothing of value.  `want` names the memory that it will write.
struct Patch { size_t i0, j0; int ni, nj; };
struct Epilogue {
    const void* self;
    void (*call)(const void* self, const float* c, int ldc, Patch at);
    void (*want)(const void* self, Prefetcher& soon, Patch at);
    template <class Body> static Epilogue with(const Body& body) {
        return {&body, [](const void* b, const float* c, int ldc, Patch at) { ((const Body*)b)->call(c, ldc, at); },
                [](const void* b, Prefetcher& soon, Patch at) { ((const Body*)b)->want(soon, at); }};
    }
};

namespace gemm_detail {

constexpr int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// A unit is the 4 bytes that a lane of the multiplier takes in one step of k: a float, or a pair of bf16.
struct Float {};
struct Pair {};
template <class Unit> constexpr int K_PER_UNIT = std::is_same_v<Unit, Pair> ? 2 : 1;

// W consecutive units of k, which lie side by side; and one unit of k for W rows, where k runs with a stride.
template <class F> inline vfloat load_along_k(Float, const F* p) { return load(p); }
template <class F> inline vfloat load_across_k(Float, const F* p, size_t) { return load(p); }
inline vfloat load_along_k(Pair, const bf16* p) {
    vfloat v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline vfloat load_across_k(Pair, const bf16* p, size_t stride) {
    return (vfloat)((vuint)load(p) >> 16 | (vuint)load(p + stride));  // a bf16 is the upper half of the float that load makes
}

// Packs W x W units: to[row * ld + unit] if ALONG_K, to[unit * ld + row] otherwise.
template <class Unit, bool ALONG_K, class F> inline void pack_square(float* to, size_t ld, Operand<F> a) {
    vfloat x[W];
    if (a.k_inner) {
        #pragma GCC unroll 16
        for (int r = 0; r < W; r++) x[r] = load_along_k(Unit{}, a.data + r * a.stride);
        if (!ALONG_K) transpose(x);
    } else {
        #pragma GCC unroll 16
        for (int u = 0; u < W; u++) x[u] = load_across_k(Unit{}, a.data + u * K_PER_UNIT<Unit> * a.stride, a.stride);
        if (ALONG_K) transpose(x);
    }
    #pragma GCC unroll 16
    for (int q = 0; q < W; q++) store(to + q * ld, x[q]);
}
// Packs `rows` by `units`, both multiples of W, of which ni rows and nk elements along k exist: the rest becomes 0. A's rows
// (ALONG_K) are LD units apart; B's come in panels of LD rows, one after the other. Memory is read in the order in which it
// lies. A square at the edge is copied into a matrix of its own first.
template <class Unit, bool ALONG_K, int LD, class F>
void pack(float* to, int rows, int units, Operand<F> a, size_t ni, size_t nk) {
    constexpr int STEP = K_PER_UNIT<Unit>;
    constexpr size_t SIDE = W * STEP;  // of a square along k, in elements
    int inner = a.k_inner ? units : rows, outer = a.k_inner ? rows : units;
    for (int y = 0; y < outer; y += W)
        for (int x = 0; x < inner; x += W) {
            int r = a.k_inner ? y : x, u = a.k_inner ? x : y;
            size_t k = (size_t)u * STEP;
            float* target = to + (ALONG_K ? r * LD + u : (r / LD * units + u) * LD + r % LD);
            Operand<F> corner = a.at(r, k);
            if ((size_t)r + W <= ni && k + SIDE <= nk) {
                pack_square<Unit, ALONG_K>(target, LD, corner);
                continue;
            }
            F edge[W * SIDE] = {};
            for (size_t i = 0; i < W && r + i < ni; i++)
                for (size_t q = 0; q < SIDE && k + q < nk; q++) edge[i * SIDE + q] = *corner.at(i, q).data;
            pack_square<Unit, ALONG_K>(target, LD, Operand<F>{edge, SIDE, true});
        }
}

// fp32: fused multiply-adds on vectors. 6 rows x 4 vectors of accumulators, 4 vectors of B and one broadcast number of A fit in 32
// registers, 6 x 2 in 16; 12 or more accumulators hide the latency of an FMA (4 cycles, 2 a cycle), and a step of k takes 10
// loads for 24 multiply-adds.
struct Fma {
    using Unit = Float;
    static constexpr const char* NAME = W == 16 ? "AVX-512 fp32" : W == 8 ? "AVX2 fp32" : "128-bit fp32";
    static constexpr int ROWS = 6, VECTORS = W == 8 ? 2 : 4, COLUMNS = VECTORS * W;
    static constexpr int DEPTH = 256, L1_DEPTH = 128, WIDTH = 256, RUN = 384, BLOCK = 48, STEP = 8;
    static constexpr int LD = DEPTH + 16;  // rows of A 1088 bytes apart: not a power of two, all cache sets take part
    static bool usable() { return true; }
    static void begin() {}
    static void end() {}
    template <int V> static void tile_of(float* c, const float* a, const float* b, int units, bool first, Prefetcher& soon, Prefetcher& dest) {
        vfloat sum[ROWS][V] = {};
        for (int k = 0; k < units; k++) {
            if (k % 8 == 0) soon.step(), dest.step();
            vfloat y[V];
            #pragma GCC unroll 4
            for (int v = 0; v < V; v++) y[v] = load(b + k * COLUMNS + v * W);
            #pragma GCC unroll 6
            for (int r = 0; r < ROWS; r++) {
                vfloat x = splat(a[r * LD + k]);
                #pragma GCC unroll 4
                for (int v = 0; v < V; v++) sum[r][v] += x * y[v];
            }
        }
        #pragma GCC unroll 6
        for (int r = 0; r < ROWS; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                float* to = c + r * COLUMNS + v * W;
                store(to, first ? sum[r][v] : sum[r][v] + load(to));
            }
    }
    // One unit of k of a single column: the same multiply-adds, and a chain that begins anew at every L1_DEPTH.
    static constexpr bool ONE_COLUMN = true, ONE_CHAIN = false;
    static void add_unit(vfloat& sum, vfloat row_units, vfloat x) { sum += row_units * x; }
    // All of a panel, or a vector at a time of the last.
    static void tile(float* c, const float* a, const float* b, int columns, int units, bool first, Prefetcher& soon, Prefetcher& dest) {
        if (columns > (VECTORS - 1) * W) return tile_of<VECTORS>(c, a, b, units, first, soon, dest);
        for (; columns > 0; columns -= W, c += W, b += W) tile_of<1>(c, a, b, units, first, soon, dest);
    }
};

// Each thread's packed operands and sums, one allocation for all, kept: 0.8 MB a thread (0.9 with AMX), in L2.
struct Workspace {
    static constexpr size_t B_SIZE = 384 * 256, A_SIZE = 64 * 512, C_SIZE = (512 + 48) * 256;
    static constexpr size_t FLOATS = B_SIZE + A_SIZE + C_SIZE;
    float *b, *a, *c;
    static float* all(int threads) {  // called outside of parallel regions only
        static float* memory = nullptr;
        static int has = 0;
        if (threads > has) {
            if (has) munmap(memory, has * FLOATS * sizeof(float));
            size_t bytes = threads * FLOATS * sizeof(float);
            void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(p != MAP_FAILED, "no memory for the workspace of the matrix product: %zu bytes", bytes);
            madvise(p, bytes, MADV_HUGEPAGE);
            memory = (float*)p, has = threads;
        }
        return memory;
    }
    static Workspace of_thread(float* all) {
        all += thread_number() * FLOATS;
        return {all, all + B_SIZE, all + B_SIZE + A_SIZE};
    }
};

// How C is partitioned: tasks of at most `rows` x `columns`, numbered down the columns, so that neighbours share their part of B.
struct Partition {
    size_t ni, nj, rows, columns, down, tasks;
    size_t i(size_t t) const { return t % down * rows; }
    size_t j(size_t t) const { return t / down * columns; }
    int height(size_t t) const { return (int)std::min(rows, ni - i(t)); }
    int width(size_t t) const { return (int)std::min(columns, nj - j(t)); }
};
// Packing costs as much as some 8 columns for each row of A and 8 rows for each row of B, and a thread that finishes last
// may be late by a fifth of a task; of all cuts, take the one with the least of that.
template <class Engine> Partition partition(size_t ni, size_t nj, int threads) {
    size_t groups = (ni + Engine::ROWS - 1) / Engine::ROWS, panels = (nj + Engine::COLUMNS - 1) / Engine::COLUMNS;
    Partition best = {};
    double least = 1e300;
    for (size_t c = std::min<size_t>(panels, Engine::WIDTH / Engine::COLUMNS); c > 0; c--)
        for (size_t r = std::min<size_t>(groups, Engine::RUN / Engine::ROWS); r > 0; r--) {
            size_t down = (groups + r - 1) / r, tasks = down * ((panels + c - 1) / c), turns = (tasks + threads - 1) / threads;
            double rows = (double)r * Engine::ROWS, columns = (double)c * Engine::COLUMNS;
            double cost = ((double)turns + 0.2) * (rows * columns + 8 * rows + 8 * columns);
            if (cost < least) least = cost, best = {ni, nj, r * Engine::ROWS, c * Engine::COLUMNS, down, tasks};
        }
    return best;
}

template <class Engine, class F> struct Worker {
    using Unit = typename Engine::Unit;
    static constexpr int ROWS = Engine::ROWS, COLUMNS = Engine::COLUMNS, BLOCK = Engine::BLOCK;
    static constexpr size_t DEPTH = (size_t)Engine::DEPTH * K_PER_UNIT<Unit>;
    Workspace ws;
    Operand<F> a, b;
    size_t K;
    const Partition& by;
    const Epilogue& epilogue;
    size_t packed_j = ~(size_t)0;

    void task(size_t t, size_t next) {
        size_t i0 = by.i(t), j0 = by.j(t);
        int ni = by.height(t), nj = by.width(t), panels = (nj + COLUMNS - 1) / COLUMNS;
        for (size_t k = 0; k < K; k += DEPTH) {
            size_t nk = std::min(DEPTH, K - k);
            bool last = k + nk == K;
            int units = round_up((int)((nk + K_PER_UNIT<Unit> - 1) / K_PER_UNIT<Unit>), W);
            if (K > DEPTH || j0 != packed_j)
                pack<Unit, false, COLUMNS>(ws.b, panels * COLUMNS, units, b.at(j0, k), nj, nk);
            packed_j = j0;
            size_t next_t = last ? (next < by.tasks ? next : t) : t, next_k = last ? 0 : k + nk, next_nk = std::min(DEPTH, K - next_k);
            bool new_b = K > DEPTH || by.j(next_t) != j0;
            Prefetcher soon;
            if (new_b) want(soon, b.at(by.j(next_t), next_k), by.width(next_t), next_nk);
            want(soon, a.at(by.i(next_t), next_k), by.height(next_t), next_nk);
            soon.start((size_t)(ni + ROWS - 1) / ROWS * panels * units / Engine::STEP);
            for (int i = 0; i < ni; i += BLOCK) {
                int rows = std::min(BLOCK, ni - i);
                Operand<F> block = a.at(i0 + i, k);
                pack<Unit, true, Engine::LD>(ws.a, round_up(rows, W), units, block, by.ni - i0 - i, nk);
                for (int j = 0; j < nj; j += COLUMNS) {
                    float* c = ws.c + (K > DEPTH ? (i * panels + j / COLUMNS * BLOCK) * COLUMNS : 0);
                    Patch at = {i0 + i, j0 + j, rows, std::min(COLUMNS, nj - j)};
                    Prefetcher dest;
                    if (last) epilogue.want(epilogue.self, dest, at), dest.start((rows + ROWS - 1) / ROWS * units / Engine::STEP);
                    for (int u = 0; u < units; u += Engine::L1_DEPTH)
                        for (int r = 0; r < rows; r += ROWS)
                            Engine::tile(c + r * COLUMNS, ws.a + r * Engine::LD + u, ws.b + j * units + u * COLUMNS, nj - j,
                                         std::min(Engine::L1_DEPTH, units - u), k + u == 0, soon, dest);
                    if (last) epilogue.call(epilogue.self, c, COLUMNS, at);
                }
            }
        }
    }
    static void want(Prefetcher& soon, Operand<F> a, size_t ni, size_t nk) {
        soon.add(a.data, a.stride * sizeof(F), a.k_inner ? ni : nk, (a.k_inner ? nk : ni) * sizeof(F), false);
    }
};

// epilogue(A B^T), A of ni rows, B of nj rows, both K long. How C is partitioned into tasks and who takes them does not change a bit.
template <class Engine, class F>
void run(Operand<F> a, size_t ni, Operand<F> b, size_t nj, size_t K, Epilogue epilogue) {
    int threads = max_threads();
    Partition by = partition<Engine>(ni, nj, threads);
    float* memory = Workspace::all(threads);
    std::atomic<size_t> taken = 0;
    #pragma omp parallel if (by.tasks > 1)
    {
        Worker<Engine, F> worker = {Workspace::of_thread(memory), a, b, K, by, epilogue};
        Engine::begin();
        for (size_t t = taken++, next; t < by.tasks; t = next) {
            next = taken++;  // in advance: its operands are fetched while the task before is worked on
            worker.task(t, next);
        }
        Engine::end();
    }
}

// The sums of W rows of A with one column, of `units` units, a multiple of W: the rows are turned around in registers, W units
// at a time. Each sum has the chain, and so the bits, that Engine::tile gives it.
template <class Engine, class F> vfloat column_sums(Operand<F> a, size_t rows, size_t K, const float* x, int units) {
    using Unit = typename Engine::Unit;
    constexpr size_t SIDE = W * K_PER_UNIT<Unit>;
    vfloat sum = {}, total = {};
    for (int u = 0; u < units; u += W) {
        const size_t k = (size_t)u * K_PER_UNIT<Unit>;
        alignas(64) float edge[W * W];
        vfloat w[W];
        if (rows >= W && k + SIDE <= K) {
            #pragma GCC unroll 16
            for (size_t r = 0; r < W; r++) {
                const F* from = a.data + r * a.stride + k;
                __builtin_prefetch(from + W * a.stride, 0, 2);  // the next W rows: W streams are too many for the hardware to foresee
                w[r] = load_along_k(Unit{}, from);
            }
            transpose(w);
        } else {
            pack<Unit, false, W>(edge, W, W, a.at(0, k), rows, K - k);
            for (int i = 0; i < W; i++) w[i] = load(edge + i * W);
        }
        #pragma GCC unroll 16
        for (int i = 0; i < W; i++) Engine::add_unit(sum, w[i], splat(x[u + i]));
        if (!Engine::ONE_CHAIN && ((u + W) % Engine::L1_DEPTH == 0 || u + W == units))
            total = u < Engine::L1_DEPTH ? sum : sum + total, sum = vfloat{};
    }
    return Engine::ONE_CHAIN ? sum : total;
}

// epilogue(A b) for a single column b: each number of A is used once, so that nothing is worth packing and memory is the limit.
template <class Engine, class F>
void run_column(Operand<F> a, size_t ni, Operand<F> b, size_t K, Epilogue epilogue) {
    using Unit = typename Engine::Unit;
    const int units = round_up((int)((K + K_PER_UNIT<Unit> - 1) / K_PER_UNIT<Unit>), W);
    float* x = Workspace::of_thread(Workspace::all(max_threads())).a;
    for (int u = 0; u < units; u += W) {
        const size_t k = (size_t)u * K_PER_UNIT<Unit>, n = std::min<size_t>(K - k, W * K_PER_UNIT<Unit>);
        F part[W * K_PER_UNIT<Unit>] = {};
        memcpy(part, b.data + k, n * sizeof(F));
        store(x + u, load_along_k(Unit{}, part));
    }
    const size_t groups = (ni + W - 1) / W;
    #pragma omp parallel for schedule(dynamic, 8)  // 8 groups of 768 bf16 are 196 KB: 10 us of memory
    for (size_t g = 0; g < groups; g++) {
        const size_t i = g * W, rows = std::min<size_t>(W, ni - i);
        alignas(64) float c[W * W];
        float sums[W];
        store(sums, column_sums<Engine>(a.at(i, 0), rows, K, x, units));
        for (int r = 0; r < W; r++) c[r * W] = sums[r];
        epilogue.call(epilogue.self, c, W, {i, 0, (int)rows, 1});
    }
}

template <class Engine> double measure_peak(double seconds) {
    using clock = std::chrono::steady_clock;
    constexpr int UNITS = 128;  // rows and one panel together: at most 32 KB
    constexpr double FLOPS = 2.0 * Engine::ROWS * Engine::COLUMNS * UNITS * K_PER_UNIT<typename Engine::Unit>;
    int threads = max_threads();
    float* memory = Workspace::all(threads);
    double total = 0;
    #pragma omp parallel reduction(+ : total)
    {
        Workspace ws = Workspace::of_thread(memory);
        std::fill_n(ws.a, Engine::LD * Engine::BLOCK, 0.0f);
        std::fill_n(ws.b, UNITS * Engine::COLUMNS, 0.0f);
        Engine::begin();
        Prefetcher soon;
        double best = 0;
        for (int slice = 0; slice < 20; slice++) {
            auto start = clock::now();
            double elapsed = 0, flops = 0;
            while (elapsed < seconds / 20) {
                for (int i = 0; i < 64; i++, flops += FLOPS)
                    Engine::tile(ws.c, ws.a, ws.b, Engine::COLUMNS, UNITS, i == 0, soon, soon);
                elapsed = std::chrono::duration<double>(clock::now() - start).count();
            }
            best = std::max(best, flops / elapsed);
        }
        Engine::end();
        total += best;
    }
    return total;
}

}  // namespace gemm_detail
