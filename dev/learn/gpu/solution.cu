// A GPU, part by part: doc/learn/gpu.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-gpu` says how far it is.
// Everything is fp32 but the operands of part 5. Thread (x, y) of a block is threadIdx.x, threadIdx.y; x runs fastest, so a warp is 32 neighbours in x where blockDim.x is a multiple of 32.

// ---- 1. a coalesced copy by a grid that fills a GPU once
// out = factor * inp, n elements. Where there are fewer threads than elements each takes several.
constexpr unsigned THREADS = 128, MAX_BLOCKS = 132 * 2048 / THREADS;  // as many as an H100 holds at once: 132 multiprocessors, 2048 threads each
__global__ void scale_kernel(float* out, const float* inp, float factor, int n) {
    //{ a loop: from this thread's first element on, as far at a time as the grid has threads, so that neighbours in a warp have neighbours in memory
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) out[i] = factor * inp[i];
    //} BLANK;
}
void scale(float* out, const float* inp, float factor, int n, stream_t stream) {
    //{ MAX_BLOCKS of them, or where n is small as many as leave each thread four elements; ceil_div(n, k) is n / k rounded up, a size_t
    const unsigned blocks = (unsigned)std::min((size_t)MAX_BLOCKS, ceil_div((size_t)n, 4 * THREADS));
    //} const unsigned blocks = BLANK;
    launch(scale_kernel, {blocks, THREADS}, stream, out, inp, factor, n);
}

// ---- 2. a reduction by shuffles: the sums of rows
// The sum of x over the 32 lanes of a warp; every lane gets it. __shfl_xor_sync(0xffffffff, x, offset) is the x of lane (lane ^ offset); all 32 lanes call it.
__device__ float sum_over_warp(float x) {
    //{ five exchanges, with offsets 16, 8, 4, 2, 1
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffff, x, offset);
    return x;
    //} return BLANK;
}
// out[n] = the sum of row n of inp (N, C), a block of THREADS threads a row
__global__ void sum_kernel(float* out, const float* inp, int C) {
    __shared__ float sums[THREADS / WARP];  // of each warp
    const int n = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const float* row = inp + n * C;
    //{ this thread's share: every THREADS-th element of the row, neighbouring threads neighbouring elements
    float x = 0;
    for (int c = threadIdx.x; c < C; c += THREADS) x += row[c];
    //} float x = BLANK;
    //{ its warp's sum, which one lane puts into sums[warp]; when all warps have, one thread adds the four and stores out[n]
    x = sum_over_warp(x);
    if (lane == 0) sums[warp] = x;
    __syncthreads();  // sync: thread 0 reads what lanes 0 of all warps wrote
    if (threadIdx.x == 0) out[n] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    //} BLANK;
}
void sum_rows(float* out, const float* inp, int N, int C, stream_t stream) {
    launch(sum_kernel, {(unsigned)N, THREADS}, stream, out, inp, C);
}

// ---- 3. a transpose without bank conflicts
// out (C, N) = inp (N, C) transposed. A block has 32 x 8 threads and takes a tile of 32 x 32: rows row0 .. row0 + 31 and columns column0 .. column0 + 31 of inp, as far as there are such.
constexpr int TILE = 32, TILE_ROWS = 8;
//{ floats of a row of the tile in shared memory: 32, or more
constexpr int WIDTH = TILE + 1;
//} constexpr int WIDTH = BLANK;
__global__ void transpose_kernel(float* out, const float* inp, int N, int C) {
    __shared__ float tile[TILE][WIDTH];
    const int row0 = blockIdx.y * TILE, column0 = blockIdx.x * TILE, x = threadIdx.x, y = threadIdx.y;
    //{ from inp to the tile, coalesced: a warp (one y) copies row y of the tile, then y + 8, y + 16, y + 24; element (r, c) of the tile is inp's (row0 + r, column0 + c)
    for (int r = y; r < TILE; r += TILE_ROWS)
        if (row0 + r < N && column0 + x < C) tile[r][x] = inp[(row0 + r) * C + column0 + x];
    //} BLANK;
    //{ from the tile to out, coalesced too: a warp writes 32 neighbours of a row of out, which are a column of the tile; out's element (column0 + c, row0 + r) is the tile's (r, c)
    __syncthreads();  // sync: a column of the tile was written by all warps
    for (int c = y; c < TILE; c += TILE_ROWS)
        if (column0 + c < C && row0 + x < N) out[(column0 + c) * N + row0 + x] = tile[x][c];
    //} BLANK;
}
void transpose(float* out, const float* inp, int N, int C, stream_t stream) {
    launch(transpose_kernel, {dim3((unsigned)ceil_div(C, TILE), (unsigned)ceil_div(N, TILE)), dim3(TILE, TILE_ROWS)}, stream, out, inp, N, C);
}

// ---- 4. double buffering with asynchronous copies
// out[i] = sum over j of (x[i] - y[j])^2, for x (N) and y (M); M is a multiple of 4. A thread has one i, and y comes through shared memory, 256 floats at a time, which the whole block reads.
constexpr int PAIR_THREADS = 64, Y_TILE = 4 * PAIR_THREADS;
// Starts the copy of y[begin] .. y[begin + 255] to tile, as one group; of those behind the end of y nothing is copied.
__device__ void start_copy(float* tile, const float* y, int begin, int M) {
    //{ four floats a thread: cp_async_16(to, from, 16); where there are none, cp_async_16(to, y, 0), as `from` must be a valid address. Then cp_async_commit_group()
    const int at = 4 * threadIdx.x, j = begin + at;
    cp_async_16(tile + at, j < M ? y + j : y, j < M ? 16 : 0);
    cp_async_commit_group();
    //} BLANK;
}
__global__ void pairs_kernel(float* out, const float* x, const float* y, int N, int M) {
    alignas(16) __shared__ float tiles[2][Y_TILE];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const float mine = i < N ? x[i] : 0;
    float sum = 0;
    start_copy(tiles[0], y, 0, M);
    for (int begin = 0, now = 0; begin < M; begin += Y_TILE, now ^= 1) {
        //{ start the copy of the next tile into the other buffer (behind the last one: of nothing); then wait for this tile's: cp_async_wait_group<1>() lets the thread's last group be in flight; then for all threads'
        start_copy(tiles[now ^ 1], y, begin + Y_TILE, M);
        cp_async_wait_group<1>();
        __syncthreads();  // sync: a thread has waited for its own copies, and reads those of all
        //} BLANK;
        for (int j = 0; j < Y_TILE && begin + j < M; j++) {
            const float d = mine - tiles[now][j];
            sum += d * d;
        }
        //{ what must be between this and the next round, whose copy goes to tiles[now]
        __syncthreads();  // sync: the next round's copy overwrites what other threads may still read
        //} BLANK;
    }
    cp_async_wait_group<0>();  // the last group, of nothing: a thread must not end with one in flight
    if (i < N) out[i] = sum;
}
void pairs(float* out, const float* x, const float* y, int N, int M, stream_t stream) {
    launch(pairs_kernel, over(N, PAIR_THREADS), stream, out, x, y, N, M);
}

// ---- 5. a tile of a matrix product by a tensor core
// out (N, 8) = inp (N, C) weight (8, C)^T, N and C multiples of 16, inputs rounded to bf16. A block has 16 rows; its warps take 16 columns of inp each, 16 * K_WARPS further on the next ones, and so on (split-K), as
// rows / 16 warps would leave a GPU nearly empty. For each 16 columns one instruction, c += A B, with
//     A (16, 16) = its rows of inp, columns k .. k + 15        B (16, 8) = columns k .. k + 15 of weight, transposed: B[i][j] = weight[j][k + i]
// cvt_bf16x2(low, high) rounds two floats to bf16 and puts them into one register, `low` in the lower half.
constexpr int K_WARPS = 8;
__global__ void mma_kernel(float* out, const float* inp, const float* weight, int C) {
    __shared__ float sums[K_WARPS][16 * 8];  // of each warp
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
    const float* rows = inp + blockIdx.x * 16 * C;
    float c[4] = {};
    for (int k = 16 * warp; k < C; k += 16 * K_WARPS) {
        uint32_t a[4], b[2];
        //{ this lane's parts of A, two neighbouring columns a register: a[0] row g, columns 2t, 2t + 1; a[1] row g + 8, the same columns; a[2] row g, columns 2t + 8, 2t + 9; a[3] row g + 8, those
        for (int i = 0; i < 4; i++) {
            const float* p = rows + (g + i % 2 * 8) * C + k + 2 * t + i / 2 * 8;
            a[i] = cvt_bf16x2(p[0], p[1]);
        }
        //} BLANK;
        //{ and of B: b[0] rows 2t, 2t + 1 of column g; b[1] rows 2t + 8, 2t + 9 of column g
        for (int i = 0; i < 2; i++) {
            const float* p = weight + g * C + k + 2 * t + i * 8;
            b[i] = cvt_bf16x2(p[0], p[1]);
        }
        //} BLANK;
        mma_m16n8k16_bf16(c, a, b[0], b[1]);
    }
    //{ to sums[warp], as (16, 8): c[0], c[1] are row g, columns 2t, 2t + 1; c[2], c[3] row g + 8, the same columns
    for (int i = 0; i < 4; i++) sums[warp][(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
    //} BLANK;
    //{ when all warps have, thread i adds their sums of element i, in their order, and stores it: the block's 16 rows of out are 128 floats, one after the other
    __syncthreads();  // sync: a thread reads what all warps have written
    for (int i = threadIdx.x; i < 16 * 8; i += K_WARPS * WARP) {
        float sum = 0;
        for (int w = 0; w < K_WARPS; w++) sum += sums[w][i];
        out[blockIdx.x * 16 * 8 + i] = sum;
    }
    //} BLANK;
}
void product(float* out, const float* inp, const float* weight, int N, int C, stream_t stream) {
    launch(mma_kernel, {(unsigned)N / 16, K_WARPS * WARP}, stream, out, inp, weight, C);
}

// ---- 6. two streams and one buffer
// out (N, C) = 2 inp + 1, row by row: stream `fills` puts 2 * row into `buffer` (C), stream `drains` adds 1 and stores it; the next row goes through the same buffer. Streams know nothing of each other.
//     record(event, stream) marks the place where the stream is now; wait(stream, event) lets what the stream does from here on come after it. The host waits for neither.
__global__ void double_kernel(float* buffer, const float* row, int C) {
    for (int c = threadIdx.x; c < C; c += blockDim.x) buffer[c] = 2 * row[c];
}
__global__ void increment_kernel(float* row, const float* buffer, int C) {
    for (int c = threadIdx.x; c < C; c += blockDim.x) row[c] = buffer[c] + 1;
}
void two_streams(float* out, float* buffer, const float* inp, int N, int C, stream_t fills, stream_t drains) {
    const event_t filled = make_event(), drained = make_event();
    for (int n = 0; n < N; n++) {
        launch(double_kernel, {1, 64}, fills, buffer, inp + n * C, C);
        //{ the buffer is drained after it is filled
        record(filled, fills), wait(drains, filled);
        //} BLANK;
        launch(increment_kernel, {1, 64}, drains, out + n * C, buffer, C);
        //{ and filled again after it is drained
        record(drained, drains), wait(fills, drained);
        //} BLANK;
    }
}
