// embedding.cuh: token embedding plus position embedding. The backward of the token embedding is a reduction by key: tokens are sorted by id
// (radix_sort.cuh), and the rows of dout of each run of equal tokens are added up. No atomics, so the order of additions is fixed.
#pragma once
#include <cstddef>
#include "device.cuh"
#include "radix_sort.cuh"

namespace embedding_detail {
// A warp a row, 16 bytes a lane at a time.
template <class F>
__global__ void forward_kernel(F* out,          // (N, C)
                               const int* inp,  // (N)
                               const F* wte,    // (V, C)
                               const F* wpe,    // (Tmax, C) or null
                               size_t N, int T, int C, int pos0) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t n = thread_index() / WARP;
    if (n >= N) return;
    const F* token = wte + (size_t)inp[n] * C;
    const F* position = wpe ? wpe + ((size_t)pos0 + n % T) * C : nullptr;
    for (int c = threadIdx.x % WARP * SIZE; c < C; c += WARP * SIZE) {
        float a[SIZE], b[SIZE];
        load_floats(a, token + c);
        if (position) {
            load_floats(b, position + c);
            for (int i = 0; i < SIZE; i++) a[i] += b[i];
        }
        store_floats(out + n * C + c, a);
    }
}

// ---- reduction by key ----------------------------------------------------------------------------------------------------
// The sorted occurrences are cut into slices of equal length, a block each. A run is the occurrences of one token. A block adds the runs that
// begin in its slice to dwte, as far as they lie in it. The part of a run that was begun in an earlier slice is a partial sum, and a second
// kernel adds the partial sums in the order of the slices: a row of dwte has one writer at a time, and long runs are shared by many blocks.

constexpr size_t MIN_SLICE = 32;     // rows that a thread adds one after another
constexpr size_t MAX_SLICES = 4096;  // 31 for each SM of an H100; as many rows of partial sums: 12.6 MB for C = 768

inline size_t slice_length(size_t N) { return N > MIN_SLICE * MAX_SLICES ? ceil_div(N, MAX_SLICES) : MIN_SLICE; }

// dwte[token] += sum over the occurrences of the run.  A block a slice, a thread 16 bytes of the row.
template <class F>
__global__ void __launch_bounds__(256) sum_runs_kernel(float* dwte,                    // (V, C)
                                                       float* partials,                // (slices, C) where a slice begins inside a run
                                                       const F* dout,                  // (N, C)
                                                       const Occurrence* occurrences,  // (N) sorted
                                                       int N, int length, int C) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    constexpr int AHEAD = 4;  // rows in flight
    const int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * SIZE;
    if (c >= C) return;
    const int begin = (int)blockIdx.x * length, end = min(begin + length, N);
    int token = begin > 0 ? occurrences[begin - 1].token : -1;
    float* row = occurrences[begin].token == token ? partials + (size_t)blockIdx.x * C + c : nullptr;  // where `sum` will be stored
    float sum[SIZE] = {};
    for (int i = begin; i < end; i += AHEAD) {
        // 1. rows of dout, and where a run begins, what dwte holds
        bool begins[AHEAD];
        int tokens[AHEAD];
        float d[AHEAD][SIZE], old[AHEAD][SIZE];
        for (int j = 0; j < AHEAD; j++) {
            if (i + j >= end) continue;
            const Occurrence p = occurrences[i + j];
            begins[j] = p.token != token;
            token = tokens[j] = p.token;
            load_floats<ONCE>(d[j], dout + (size_t)p.n * C + c);
            if (begins[j]) load_floats(old[j], dwte + (size_t)token * C + c);
        }
        // 2. add them in the order of the batch
        for (int j = 0; j < AHEAD; j++) {
            if (i + j >= end) continue;
            if (begins[j]) {
                if (row) store_floats(row, sum);
                row = dwte + (size_t)tokens[j] * C + c;
                for (int k = 0; k < SIZE; k++) sum[k] = old[j][k];
            }
            for (int k = 0; k < SIZE; k++) sum[k] += d[j][k];
        }
    }
    store_floats(row, sum);
}

// dwte[token] += the partial sums of the slices that begin inside its run.  A block for the first such slice and 128 columns.
constexpr int REDUCE_WARPS = 8;
template <class = void>  // a template, as several files include this one
__global__ void __launch_bounds__(REDUCE_WARPS* WARP) add_partials_kernel(float* dwte,                    // (V, C)
                                                                          const float* partials,          // (slices, C)
                                                                          const Occurrence* occurrences,  // (N) sorted
                                                                          int slices, int length, int C) {
    pdl_wait();
    __shared__ Pack<float> shared[REDUCE_WARPS][WARP];
    constexpr int SIZE = Pack<float>::SIZE;
    // 1. only the first slice of those that begin inside a run
    const int first = (int)blockIdx.x + 1, token = occurrences[(size_t)first * length].token;
    if (occurrences[(size_t)first * length - 1].token != token) return;
    if (first > 1 && occurrences[(size_t)(first - 1) * length - 1].token == token) return;
    // 2. each warp adds every eighth partial sum
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, c = ((int)blockIdx.y * WARP + lane) * SIZE;
    float sum[SIZE] = {}, more[SIZE];
    for (int p = first + warp; p < slices && occurrences[(size_t)p * length].token == token && c < C; p += REDUCE_WARPS) {
        load_floats<ONCE>(more, partials + (size_t)p * C + c);
        for (int k = 0; k < SIZE; k++) sum[k] += more[k];
    }
    store_floats(shared[warp][lane].x, sum);
    __syncthreads();  // sync: the first warp reads the sums of all warps
    // 3. the first warp adds their sums to dwte
    if (warp > 0 || c >= C) return;
    float* row = dwte + (size_t)token * C + c;
    for (int w = 1; w < REDUCE_WARPS; w++)
        for (int k = 0; k < SIZE; k++) sum[k] += shared[w][lane][k];
    load_floats(more, row);
    for (int k = 0; k < SIZE; k++) sum[k] += more[k];
    store_floats(row, sum);
}

// dwpe[t] = or += sum over b of dout[b, t].  A thread 16 bytes of a row.
template <class F>
__global__ void positions_kernel(float* dwpe,    // (Tmax, C)
                                 const F* dout,  // (B, T, C)
                                 int B, size_t TC, size_t end, bool accumulate) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t i = thread_index() * SIZE;
    if (i >= end) return;
    float sum[SIZE] = {}, d[SIZE];
    if (accumulate) load_floats(sum, dwpe + i);
    const int batches = i < TC ? B : 0;
    #pragma unroll 4  // 64 bytes in flight
    for (int b = 0; b < batches; b++) {
        load_floats(d, dout + b * TC + i);
        for (int k = 0; k < SIZE; k++) sum[k] += d[k];
    }
    store_floats(dwpe + i, sum);
}

// What the backward pass keeps in the stream's workspace.
struct Workspace {
    Occurrence* occurrences[2];  // (N) each: a pass reads one and writes the other
    int* histograms;             // (DIGITS, tiles)
    int* totals;                 // (DIGITS)
    float* partials;             // (slices, C)
    size_t bytes;
    Workspace(void* memory, size_t N, int C) {
        size_t at = 0;
        auto take = [&]<class X>(X*& p, size_t n) { p = (X*)((uintptr_t)memory + at), at += ceil_div(n * sizeof(X), 256) * 256; };
        take(occurrences[0], N), take(occurrences[1], N);
        take(histograms, DIGITS * ceil_div(N, TILE)), take(totals, DIGITS);
        take(partials, ceil_div(N, slice_length(N)) * C);
        bytes = at;
    }
};
}  // namespace embedding_detail

// Bytes that embedding_backward needs for N tokens.
inline size_t embedding_workspace(size_t N, int C, int V) {
    using namespace embedding_detail;
    CHECK(V <= MAX_V, "V = %d: %d passes of %d bits sort ids up to %d", V, PASSES, DIGIT_BITS, MAX_V - 1);
    return Workspace(nullptr, N, C).bytes;
}

// out[b, t] = wte[inp[b, t]] + wpe[pos0 + t]    wpe null: positions are not learned, and not added here
template <class F>
void embedding_forward(F* out,          // (B, T, C)
                       const int* inp,  // (B, T)
                       const F* wte,    // (V, C)
                       const F* wpe,    // (Tmax, C)
                       int B, int T, int C, int pos0, stream_t stream) {
    CHECK(C % 8 == 0, "C = %d: 16-byte loads need a multiple of 8", C);
    const size_t N = (size_t)B * T;
    launch(embedding_detail::forward_kernel<F>, over(N * WARP, 256), stream, out, inp, wte, wpe, N, T, C, pos0);
}

// dwte[inp[b, t]] += dout[b, t]             always +=: the classifier, which shares the matrix, has written it first
// dwpe[t] = or += sum over b of dout[b, t]  (positions 0..T-1; the rows T..Tmax-1 become 0 unless accumulating; dwpe null: there is none)
template <class F>
void embedding_backward(float* dwte,      // (V, C)
                        float* dwpe,      // (Tmax, C)
                        const F* dout,    // (B, T, C)
                        const int* inp,   // (B, T)
                        int B, int T, int C, int Tmax, bool accumulate, stream_t stream) {
    using namespace embedding_detail;
    constexpr size_t SIZE = Pack<F>::SIZE;
    const size_t N = (size_t)B * T, TC = (size_t)T * C, end = accumulate ? TC : (size_t)Tmax * C;
    const Workspace work(stream.workspace, N, C);
    CHECK(C % 8 == 0, "C = %d: 16-byte loads need a multiple of 8", C);
    CHECK(N <= 1 << 30, "%d x %d tokens: indices are ints", B, T);
    CHECK(work.bytes <= stream.workspace_bytes, "embedding: %zu bytes of workspace, %zu needed", stream.workspace_bytes,
          work.bytes);
    if (N == 0) return;

    const int tiles = (int)ceil_div(N, TILE), length = (int)slice_length(N), slices = (int)ceil_div(N, (size_t)length);
    Occurrence* sorted = nullptr;
    for (int pass = 0; pass < PASSES; pass++) {
        const Occurrence* from = sorted;  // null in the first pass: the batch itself
        sorted = work.occurrences[pass % 2];
        launch(histogram_kernel<>, over((size_t)tiles * WARP, WARP), stream, work.histograms, from, inp, (int)N, pass);
        launch(scan_kernel<>, over(DIGITS * WARP, 256), stream, work.histograms, work.totals, tiles);
        launch(scatter_kernel<>, over((size_t)tiles * WARP, WARP), stream, sorted, from, inp, work.histograms, work.totals, (int)N, pass);
    }
    const unsigned threads = C / SIZE < 256 ? (unsigned)(ceil_div(C / SIZE, WARP) * WARP) : 256;
    const dim3 sum_blocks((unsigned)slices, (unsigned)ceil_div(C / SIZE, threads));
    launch(sum_runs_kernel<F>, Grid{sum_blocks, threads}, stream, dwte, work.partials, dout, sorted, (int)N, length, C);
    const dim3 add_blocks((unsigned)slices - 1, (unsigned)ceil_div((size_t)C, WARP * Pack<float>::SIZE));
    launch(add_partials_kernel<>, Grid{add_blocks, REDUCE_WARPS * WARP}, stream, dwte, work.partials, sorted, slices, length, C);
    if (dwpe) launch(positions_kernel<F>, over(end / SIZE, 256), stream, dwpe, dout, B, TC, end, accumulate);
}
