// tile.cuh: matrix products of tiles in shared memory, the building blocks of flash attention. A warp multiplies 16 or 32 rows; its
// accumulator fragment stays in registers, and can be the A operand of another product without leaving them. bf16 by tensor cores
// (mma.m16n8k16), fp32 by FMAs; a lane holds the same elements of the accumulator in both, so a kernel is written once for both types:
//
//     Accumulator<2, 64> s{};              2 x 16 rows, 64 columns
//     multiply_transposed(s, Q, row, K);   s += Q[row ..] K^T
//     s.scale(2);
//     multiply(o, s, V);                   o += s V
#pragma once
#include "device.cuh"

// ---- in shared memory --------------------------------------------------------------------------------------------------

// Rows of D elements in chunks of 16 bytes, stored with an XOR swizzle against bank conflicts: chunk c of row r is stored at chunk c ^ (r % 8).
// A row is a multiple of 128 bytes, all 32 banks: without the swizzle the same chunk of eight rows would be in the same four banks, and
// ldmatrix reads just these eight: an 8-way bank conflict. With it each of the eight is in four banks of its own.
template <class F, int D> struct Tile {
    static constexpr int PER_CHUNK = 16 / sizeof(F), CHUNKS = D / PER_CHUNK, ROW_BYTES = D * sizeof(F);
    static_assert(ROW_BYTES % 128 == 0, "the XOR swizzle needs rows of whole 128 bytes");
    F* at;
    __device__ F* chunk(int row, int c) const { return at + row * D + ((c & ~7) + ((c ^ row) & 7)) * PER_CHUNK; }
};

// Starts the cp.async copies of `rows` rows of HS elements, `stride` apart, into a tile of ROWS rows, and fills the rest of the tile with zeros. HS is a
// multiple of 8. Each of the block's THREADS copies a part, in its current cp.async group.
template <int ROWS, int THREADS, class F, int D>
__device__ inline void async_copy_tile(Tile<F, D> tile, const F* x, size_t stride, int rows, int HS) {
    using Tile = Tile<F, D>;
    static_assert(THREADS % Tile::CHUNKS == 0, "a thread stays in its column");
    constexpr int STEP = THREADS / Tile::CHUNKS;
    static_assert(ROWS % STEP == 0, "all threads copy as many rows");  // STEP is a multiple of 8 where rows have up to 256 bytes: then chunks of a thread are a constant apart
    const int c = threadIdx.x % Tile::CHUNKS, first = threadIdx.x / Tile::CHUNKS, there = c * Tile::PER_CHUNK < HS ? rows : 0;
    if (first < there) x += first * stride + c * Tile::PER_CHUNK;
    #pragma unroll 4  // of the wide rows' tiles not more, as a thread has up to 32 rows
    for (int row = 0; row < ROWS; row += STEP) {
        if (row > 0 && first + row < there) x += STEP * stride;  // else it stays where there is something
        cp_async_16(tile.chunk(first + row, c), x, first + row < there ? 16 : 0);
    }
}

// Two neighbours, stored together.
template <class F> struct alignas(2 * sizeof(F)) Pair { F x[2]; };
template <class F> __device__ inline Pair<F> make_pair(float a, float b);
template <> __device__ inline Pair<float> make_pair<float>(float a, float b) { return {{a, b}}; }
template <> __device__ inline Pair<bf16> make_pair<bf16>(float a, float b) {
    return __builtin_bit_cast(Pair<bf16>, cvt_bf16x2(a, b));
}

// ---- in registers ------------------------------------------------------------------------------------------------------

// The accumulator fragment of a warp: 16 M rows and N columns. With g = lane / 4 and t = lane % 4, a lane holds in x[m][n] rows 16m + g and, from [2] on,
// + 8, of columns 8n + 2t, + 1: a row is in four neighbouring lanes.
template <int M, int N> struct Accumulator {
    static constexpr int ROWS = 16 * M;
    float x[M][N / 8][4];
    __device__ static int row(int m, int i) { return 16 * m + threadIdx.x % WARP / 4 + i / 2 * 8; }
    __device__ static int column(int n, int i) { return 8 * n + threadIdx.x % 4 * 2 + i % 2; }
    // f(m, n, i) for each element that a lane holds. A lane has 2 M rows; values of rows are in arrays [M][2]: [m][i / 2]
    template <class Function> __device__ static void each(Function f) {
        #pragma unroll
        for (int n = 0; n < N / 8; n++)
            #pragma unroll
            for (int m = 0; m < M; m++)
                #pragma unroll
                for (int i = 0; i < 4; i++) f(m, n, i);
    }
    __device__ void scale(float by) { each([&](int m, int n, int i) { x[m][n][i] *= by; }); }
    __device__ void scale_rows(const float (&by)[M][2]) { each([&](int m, int n, int i) { x[m][n][i] *= by[m][i / 2]; }); }
};
// f(m, half) for each row of which a lane holds elements.
template <int M, class Function> __device__ inline void each_row(Function f) {
    #pragma unroll
    for (int m = 0; m < M; m++)
        #pragma unroll
        for (int half = 0; half < 2; half++) f(m, half);
}

// s += a b^T: M * 16 rows of a from `row` on, and N rows of b, each of D elements. ldmatrix loads mma's A operand, a[16][16], as
// four 8 x 8 matrices, and the columns of its B operand as rows of b.
template <int M, int N, int D>
__device__ inline void multiply_transposed(Accumulator<M, N>& s, Tile<bf16, D> a, int row, Tile<bf16, D> b) {
    const int lane = threadIdx.x % WARP;
    #pragma unroll 2
    for (int k = 0; k < D / 16; k++) {
        uint32_t frag_a[M][4];
        #pragma unroll
        for (int m = 0; m < M; m++) ldmatrix_x4(frag_a[m], a.chunk(row + 16 * m + lane % 16, 2 * k + lane / 16));
        #pragma unroll
        for (int n = 0; n < N / 8; n += 2) {
            uint32_t frag_b[4];  // k halves of columns n, then of n + 1
            ldmatrix_x4(frag_b, b.chunk(8 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            #pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16_bf16(s.x[m][n], frag_a[m], frag_b[0], frag_b[1]);
                mma_m16n8k16_bf16(s.x[m][n + 1], frag_a[m], frag_b[2], frag_b[3]);
            }
        }
    }
}

// s += p b: the N columns of b from `first` on, p rounded to bf16. The layout of 16 columns of an accumulator fragment is that of an
// A operand of 16 columns, so p stays in registers.
template <int M, int N, int K, int D>
__device__ inline void multiply(Accumulator<M, N>& s, const Accumulator<M, K>& p, Tile<bf16, D> b, int first = 0) {
    const int lane = threadIdx.x % WARP;
    #pragma unroll
    for (int k = 0; k < K / 16; k++) {
        uint32_t frag_a[M][4];
        #pragma unroll
        for (int m = 0; m < M; m++)
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                const float (&pair)[4] = p.x[m][2 * k + i / 2];
                frag_a[m][i] = cvt_bf16x2(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
            }
        #pragma unroll
        for (int n = 0; n < N / 8; n += 2) {
            uint32_t frag_b[4];  // k halves of columns n, then of n + 1
            ldmatrix_x4_trans(frag_b, b.chunk(16 * k + lane % 16, first / 8 + n + lane / 16));
            #pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16_bf16(s.x[m][n], frag_a[m], frag_b[0], frag_b[1]);
                mma_m16n8k16_bf16(s.x[m][n + 1], frag_a[m], frag_b[2], frag_b[3]);
            }
        }
    }
}

// The same in fp32, four k at a time. The lanes of a warp read eight rows of a and eight of b, a chunk of each.
template <int M, int N, int D>
__device__ inline void multiply_transposed(Accumulator<M, N>& s, Tile<float, D> a, int row, Tile<float, D> b) {
    #pragma unroll 1
    for (int k = 0; k < D / 4; k++) {
        Pack<float> frag_a[M][2];
        each_row<M>([&](int m, int half) { frag_a[m][half] = load_pack(a.chunk(row + s.row(m, 2 * half), k)); });
        #pragma unroll
        for (int n = 0; n < N / 8; n++)
            #pragma unroll
            for (int i = 0; i < 2; i++) {
                const Pack<float> frag_b = load_pack(b.chunk(s.column(n, i), k));
                each_row<M>([&](int m, int half) {
                    #pragma unroll
                    for (int j = 0; j < 4; j++) s.x[m][n][2 * half + i] += frag_a[m][half][j] * frag_b[j];
                });
            }
    }
}

// A row of p is in four lanes, two of each eight elements in one: each lane in turn broadcasts its elements by a shuffle.
template <int M, int N, int K, int D>
__device__ inline void multiply(Accumulator<M, N>& s, const Accumulator<M, K>& p, Tile<float, D> b, int first = 0) {
    const int lane = threadIdx.x % WARP;
    #pragma unroll 1
    for (int j = 0; j < 8; j++)
        #pragma unroll
        for (int k = 0; k < K / 8; k++) {
            float frag_a[M][2];
            each_row<M>([&](int m, int half) {
                const float (&four)[4] = p.x[m][k];
                frag_a[m][half] = from_lane(j % 2 ? four[2 * half + 1] : four[2 * half], lane / 4 * 4 + j / 2);
            });
            #pragma unroll
            for (int n = 0; n < N / 8; n++) {
                const int column = first + s.column(n, 0);
                const Pair<float> frag_b = *(const Pair<float>*)(b.chunk(8 * k + j, column / 4) + column % 4);
                each_row<M>([&](int m, int half) {
                    s.x[m][n][2 * half] += frag_a[m][half] * frag_b.x[0], s.x[m][n][2 * half + 1] += frag_a[m][half] * frag_b.x[1];
                });
            }
        }
}

// x[r * stride + first + c] = s, for rows r < rows and columns first + c < HS, 16 bytes a lane: staged in the 16 M rows of `tile`
// from `row` on, which no other warp may read any more.
template <int M, int N, class F, int D>
__device__ inline void store(F* x, size_t stride, int rows, int HS, const Accumulator<M, N>& s, Tile<F, D> tile, int row, int first = 0) {
    using Tile = Tile<F, D>;
    constexpr int CHUNKS = N / Tile::PER_CHUNK;
    __syncwarp();  // sync: other lanes may still read these rows
    #pragma unroll
    for (int n = 0; n < N / 8; n++)
        each_row<M>([&](int m, int half) {
            const int c = s.column(n, 0);
            F* at = tile.chunk(row + s.row(m, 2 * half), c / Tile::PER_CHUNK) + c % Tile::PER_CHUNK;
            *(Pair<F>*)at = make_pair<F>(s.x[m][n][2 * half], s.x[m][n][2 * half + 1]);
        });
    __syncwarp();  // sync: a chunk is written by two lanes or four
    for (int i = threadIdx.x % WARP; i < s.ROWS * CHUNKS; i += WARP) {
        const int r = i / CHUNKS, c = i % CHUNKS;
        if (r < rows && first + c * Tile::PER_CHUNK < HS)
            store_pack(x + r * stride + first + c * Tile::PER_CHUNK, load_pack(tile.chunk(row + r, c)));
    }
}
