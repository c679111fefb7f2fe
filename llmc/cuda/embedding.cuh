// embedding.cuh: a token becomes the vector of its id plus the vector of its position.
#pragma once
#include <cstddef>
#include "device.cuh"
#include "radix_sort.cuh"

namespace embedding_detail {
// A warp takes a row, a lane 16 bytes of it at a time.
template <class F>
__global__ void forward_kernel(F* out,          // (N, C)
                               const int* inp,  // (N)
                               const F* wte,    // (V, C)
                               const F* wpe,    // (Tmax, C)
                               size_t N, int T, int C, int pos0) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    const size_t n = thread_index() / WARP;
    if (n >= N) return;
    const F* token = wte + (size_t)inp[n] * C;
    const F* position = wpe + ((size_t)pos0 + n % T) * C;
    for (int c = threadIdx.x % WARP * SIZE; c < C; c += WARP * SIZE) {
        float a[SIZE], b[SIZE];
        load_floats(a, token + c);
        load_floats(b, position + c);
        for (int i = 0; i < SIZE; i++) a[i] += b[i];
        store_floats(out + n * C + c, a);
    }
}

// ---- sums over the places ------------------------------------------------------------------------------------------------
// The sorted places are cut into pieces of the same length. Each piece adds the runs (places of one token) that begin in it
// to dwte, as far as they lie in it. What goes on in later pieces is summed up there, and joined in their order afterwards:
// a row of dwte has one writer at a time, and no thread walks a run of any length.

constexpr size_t MIN_PIECE = 32;     // rows a thread meets one after the other
constexpr size_t MAX_PIECES = 4096;  // 31 for each SM of an H100; as many rows of sums are kept: 12.6 MB for C = 768

inline size_t piece_length(size_t N) { return N > MIN_PIECE * MAX_PIECES ? ceil_div(N, MAX_PIECES) : MIN_PIECE; }

// dwte[token] += sum over the places of the run.  A block a piece, a thread 16 bytes of the row.
template <class F>
__global__ void __launch_bounds__(256) sum_runs_kernel(float* dwte,          // (V, C)
                                                       float* sums,          // (pieces, C) where a piece begins inside a run
                                                       const F* dout,        // (N, C)
                                                       const Occurrence* places,  // (N) sorted
                                                       int N, int length, int C) {
    pdl_wait();
    constexpr int SIZE = Pack<F>::SIZE;
    constexpr int AHEAD = 4;  // rows on their way at once
    const int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * SIZE;
    if (c >= C) return;
    const int begin = (int)blockIdx.x * length, end = min(begin + length, N);
    int token = begin > 0 ? places[begin - 1].token : -1;
    float* row = places[begin].token == token ? sums + (size_t)blockIdx.x * C + c : nullptr;  // where `sum` goes
    float sum[SIZE] = {};
    for (int i = begin; i < end; i += AHEAD) {
        // 1. rows of dout, and where a run begins, what dwte holds
        bool begins[AHEAD];
        int tokens[AHEAD];
        float d[AHEAD][SIZE], old[AHEAD][SIZE];
        for (int j = 0; j < AHEAD; j++) {
            if (i + j >= end) continue;
            const Occurrence p = places[i + j];
            begins[j] = p.token != token;
            token = tokens[j] = p.token;
            load_floats<ONCE>(d[j], dout + (size_t)p.n * C + c);
            if (begins[j]) load_floats(old[j], dwte + (size_t)token * C + c);
        }
        // 2. add them up in their order
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

// dwte[token] += the sums of the pieces that begin inside its run.  A block the first such piece, 128 columns.
constexpr int JOIN_WARPS = 8;
__global__ void __launch_bounds__(JOIN_WARPS* WARP) join_pieces_kernel(float* dwte,          // (V, C)
                                                                       const float* sums,    // (pieces, C)
                                                                       const Occurrence* places,  // (N) sorted
                                                                       int pieces, int length, int C) {
    pdl_wait();
    __shared__ Pack<float> shared[JOIN_WARPS][WARP];
    constexpr int SIZE = Pack<float>::SIZE;
    // 1. is it a piece that begins inside a run, and the first of them?
    const int first = (int)blockIdx.x + 1, token = places[(size_t)first * length].token;
    if (places[(size_t)first * length - 1].token != token) return;
    if (first > 1 && places[(size_t)(first - 1) * length - 1].token == token) return;
    // 2. each warp takes every eighth of the pieces
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, c = ((int)blockIdx.y * WARP + lane) * SIZE;
    float sum[SIZE] = {}, more[SIZE];
    for (int p = first + warp; p < pieces && places[(size_t)p * length].token == token && c < C; p += JOIN_WARPS) {
        load_floats<ONCE>(more, sums + (size_t)p * C + c);
        for (int k = 0; k < SIZE; k++) sum[k] += more[k];
    }
    store_floats(shared[warp][lane].x, sum);
    __syncthreads();  // the sums of all warps are there
    // 3. one adds up what they have
    if (warp > 0 || c >= C) return;
    float* row = dwte + (size_t)token * C + c;
    for (int w = 1; w < JOIN_WARPS; w++)
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
    #pragma unroll 4  // 64 bytes on their way at once
    for (int b = 0; b < batches; b++) {
        load_floats(d, dout + b * TC + i);
        for (int k = 0; k < SIZE; k++) sum[k] += d[k];
    }
    store_floats(dwpe + i, sum);
}

// What the backward pass keeps in the stream's workspace.
struct Workspace {
    Occurrence* places[2];  // (N) each: a round reads one and writes the other
    int* counts;       // (DIGITS, tiles)
    int* totals;       // (DIGITS)
    float* sums;       // (pieces, C)
    size_t bytes;
    Workspace(void* memory, size_t N, int C) {
        size_t at = 0;
        auto take = [&]<class X>(X*& p, size_t n) { p = (X*)((uintptr_t)memory + at), at += ceil_div(n * sizeof(X), 256) * 256; };
        take(places[0], N), take(places[1], N);
        take(counts, DIGITS * ceil_div(N, TILE)), take(totals, DIGITS);
        take(sums, ceil_div(N, piece_length(N)) * C);
        bytes = at;
    }
};
}  // namespace embedding_detail

// Bytes that embedding_backward needs for N tokens.
inline size_t embedding_workspace(size_t N, int C, int V) {
    using namespace embedding_detail;
    CHECK(V <= MAX_V, "V = %d: %d rounds of %d bits sort ids up to %d", V, ROUNDS, DIGIT_BITS, MAX_V - 1);
    return Workspace(nullptr, N, C).bytes;
}

// out[b, t] = wte[inp[b, t]] + wpe[pos0 + t]
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
// dwpe[t] = or += sum over b of dout[b, t]  (positions 0..T-1; the rows T..Tmax-1 become 0 unless accumulating)
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
    CHECK(N <= 1 << 30, "%d x %d tokens: places are counted in an int", B, T);
    CHECK(work.bytes <= stream.workspace_bytes, "embedding: %zu bytes of workspace, %zu needed", stream.workspace_bytes,
          work.bytes);
    if (N == 0) return;

    const int tiles = (int)ceil_div(N, TILE), length = (int)piece_length(N), pieces = (int)ceil_div(N, (size_t)length);
    Occurrence* sorted = nullptr;
    for (int round = 0; round < ROUNDS; round++) {
        const Occurrence* from = sorted;  // none at first: the batch itself
        sorted = work.places[round % 2];
        launch(histogram_kernel, over((size_t)tiles * WARP, WARP), stream, work.counts, from, inp, (int)N, round);
        launch(scan_kernel, over(DIGITS * WARP, 256), stream, work.counts, work.totals, tiles);
        launch(scatter_kernel, over((size_t)tiles * WARP, WARP), stream, sorted, from, inp, work.counts, work.totals, (int)N, round);
    }
    const unsigned threads = C / SIZE < 256 ? (unsigned)(ceil_div(C / SIZE, WARP) * WARP) : 256;
    const dim3 sum_blocks((unsigned)pieces, (unsigned)ceil_div(C / SIZE, threads));
    launch(sum_runs_kernel<F>, Grid{sum_blocks, threads}, stream, dwte, work.sums, dout, sorted, (int)N, length, C);
    const dim3 join_blocks((unsigned)pieces - 1, (unsigned)ceil_div((size_t)C, WARP * Pack<float>::SIZE));
    launch(join_pieces_kernel, Grid{join_blocks, JOIN_WARPS * WARP}, stream, dwte, work.sums, sorted, pieces, length, C);
    launch(positions_kernel<F>, over(end / SIZE, 256), stream, dwpe, dout, B, TC, end, accumulate);
}
