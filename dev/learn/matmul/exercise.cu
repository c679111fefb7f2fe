// The matrix products of a linear layer in C++ and in CUDA, part by part: doc/learn/matmul.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-matmul` says how far it is.
//     out[n][o] = bias[o] + sum over c of inp[n][c] * weight[o][c]
// inp is (N, C), weight (OC, C), bias (OC), out (N, OC), row after row: element c of row n of inp is inp[n * C + c]. A gradient has the shape of what it is the gradient of.

// ---- 1. forward in C++
void forward_cpp(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC) {
    for (int n = 0; n < N; n++)
        for (int o = 0; o < OC; o++) {
            out[n * OC + o] = BLANK;  // bias and a dot product of two rows
        }
}

// ---- 2. backward in C++
// dinp = (nobody has set it to 0);   dweight += and dbias +=, as other micro-batches have added to them
void backward_cpp(float* dinp, float* dweight, float* dbias, const float* dout, const float* inp, const float* weight, int N, int C, int OC) {
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++) {
            dinp[n * C + c] = BLANK;  // a sum over o
        }
    for (int o = 0; o < OC; o++) {
        BLANK;  // dweight's row o and dbias[o]: sums over n
    }
}

// ---- 3. CUDA, naive: a thread an element of out
__global__ void naive_kernel(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;  // of out's N * OC elements: neighbouring threads have neighbouring columns
    BLANK;  // row n and column o of this thread's element; a thread behind the last one returns; then part 1's dot product
}
void forward_naive(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC, stream_t stream) {
    const unsigned threads = 128;
    const unsigned blocks = BLANK;  // enough of them for N * OC elements
    launch(naive_kernel, {blocks, threads}, stream, out, inp, weight, bias, N, C, OC);
}

// ---- 4. CUDA, coalesced: dinp, a thread an element
__global__ void dinp_kernel(float* dinp, const float* dout, const float* weight, int N, int C, int OC) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    BLANK;  // row and column so that neighbouring lanes read neighbouring floats of weight and write neighbouring floats of dinp
}
void dinp_cuda(float* dinp, const float* dout, const float* weight, int N, int C, int OC, stream_t stream) {
    launch(dinp_kernel, {(unsigned)ceil_div(N * C, 128), 128}, stream, dinp, dout, weight, N, C, OC);
}

// ---- 5. CUDA, tiles in shared memory
constexpr int TILE = 16;    // a block of TILE x TILE threads computes as many elements of out, a thread each
constexpr int DEPTH = WARP;  // columns of inp and of weight that are in shared memory at once
// A tile of x, which has `rows` rows of C floats: to[r * stride + k] = x[first + r][c + k] for r < ROWS and k < DEPTH; 0 where x has no such row or column. All THREADS threads of the block call it.
template <int ROWS, int THREADS> __device__ void load_tile(float* to, int stride, const float* x, int first, int c, int rows, int C) {
    BLANK;  // thread i takes elements i, i + THREADS, ... of ROWS * DEPTH: neighbouring threads neighbouring floats of a row
}
__global__ void tile_kernel(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC) {
    constexpr int STRIDE = BLANK;  // floats from one row of a tile to the next: 16 lanes that read column k of 16 rows of b must not meet in one bank
    __shared__ float a[TILE * STRIDE], b[TILE * STRIDE];  // a tile of inp, a tile of weight
    const int tx = threadIdx.x % TILE, ty = threadIdx.x / TILE;                       // this thread's column and row in the block's tile of out
    const int n0 = blockIdx.y * TILE, o0 = blockIdx.x * TILE, n = n0 + ty, o = o0 + tx;  // the tile's first row and column, and this thread's
    float sum = 0;
    for (int c = 0; c < C; c += DEPTH) {
        BLANK;  // both tiles, with the barriers that they need, each with its why
        BLANK;  // what these DEPTH columns add to this thread's sum
    }
    BLANK;  // bias is added, and the sum is stored, if the element is there
}
void forward_tile(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC, stream_t stream) {
    const dim3 blocks = {(unsigned)BLANK, (unsigned)BLANK};  // blocks: {along OC, along N}
    launch(tile_kernel, {blocks, TILE * TILE}, stream, out, inp, weight, bias, N, C, OC);
}

// ---- 6. CUDA, register blocking: a thread 4 x 4 elements
constexpr int R = 4, BLOCK = R * TILE;  // a block of TILE x TILE threads computes BLOCK x BLOCK elements of out
// Thread (tx, ty) has rows ty, ty + TILE, ... and columns tx, tx + TILE, ... of the block's tile: sum[i][j] is that of row ty + i * TILE, column tx + j * TILE.
__global__ void register_kernel(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC) {
    constexpr int STRIDE = DEPTH + 1;
    __shared__ float a[BLOCK * STRIDE], b[BLOCK * STRIDE];  // BLOCK rows of DEPTH columns of inp, and of weight
    const int tx = threadIdx.x % TILE, ty = threadIdx.x / TILE, n0 = blockIdx.y * BLOCK, o0 = blockIdx.x * BLOCK;
    float sum[R][R] = {};
    for (int c = 0; c < C; c += DEPTH) {
        BLANK;  // both tiles, as in part 5
        for (int k = 0; k < DEPTH; k++) {
            float x[R], y[R];  // column k of this thread's rows of a, and of b: 2 R reads for R * R multiplications
            BLANK;  // x, y, and sum[i][j] += x[i] * y[j]
        }
    }
    BLANK;  // all that are there are stored
}
void forward_register(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC, stream_t stream) {
    launch(register_kernel, {dim3((unsigned)ceil_div(OC, BLOCK), (unsigned)ceil_div(N, BLOCK)), TILE * TILE}, stream, out, inp, weight, bias, N, C, OC);
}

// ---- 7. CUDA, tensor cores: tiles in bf16, a warp 16 x 32 elements
// N is a multiple of 16, OC of 8, C of 16. cvt_bf16x2(low, high) rounds two floats to bf16 and puts them into one uint32_t, a pair.
// mma_m16n8k16_bf16(sum, a, b0, b1) is called by all lanes: A (16, 16) times B (16, 8) is added to the warp's sums (16, 8). With g = lane / 4 and t = lane % 4 a lane gives and gets
//     sum[0], sum[1]: row g, columns 2t, 2t + 1         sum[2], sum[3]: the same of row g + 8
//     a[0]: row g, k = 2t, 2t + 1    a[1]: row g + 8    a[2]: row g, k = 2t + 8, 2t + 9    a[3]: row g + 8
//     b0: k = 2t, 2t + 1 of column g                    b1: k = 2t + 8, 2t + 9
constexpr int PAIRS = DEPTH / 2, PAIR_STRIDE = PAIRS + 4;  // of a tile's row, and from one row to the next: lanes read pair t of rows g = 0 to 7, which are in banks 20 g + t, all different
// As load_tile, BLOCK rows, but in bf16: to[r * PAIR_STRIDE + p] is the pair of x[first + r][c + 2p] and the float behind it; 0 where x has none.
__device__ void load_pairs(uint32_t* to, const float* x, int first, int c, int rows, int C) {
    BLANK;  // thread i takes pairs i, i + TILE * TILE, ... of BLOCK * PAIRS
}
// A block of TILE * TILE threads, 8 warps, computes BLOCK x BLOCK elements: each warp 16 rows and 32 columns, four tiles of 16 x 8.
__global__ void mma_kernel(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC) {
    __shared__ uint32_t inps[BLOCK * PAIR_STRIDE], weights[BLOCK * PAIR_STRIDE];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
    const int n0 = blockIdx.y * BLOCK, o0 = blockIdx.x * BLOCK, row = warp / 2 * 16, column = warp % 2 * 32;  // the block's first row and column of out, and the warp's in the block's tile
    float sum[4][4] = {};  // of each of the four tiles, those of columns column + 8 * j and up
    for (int c = 0; c < C; c += DEPTH) {
        __syncthreads();  // sync: others still read the tiles before these
        load_pairs(inps, inp, n0, c, N, C);
        load_pairs(weights, weight, o0, c, OC, C);
        __syncthreads();  // sync: both tiles are there
        for (int k = 0; k < PAIRS; k += 8) {  // 16 of c
            uint32_t a[4];
            BLANK;  // A's row r is row `row` + r of inps; its k begin at pair k
            for (int j = 0; j < 4; j++) {
                BLANK;  // B's column g is row column + 8 * j + g of weights; b and mma
            }
        }
    }
    BLANK;  // this lane's sums, four of each tile, each with its column's bias, where out has the row and column
}
void forward_mma(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC, stream_t stream) {
    launch(mma_kernel, {dim3((unsigned)ceil_div(OC, BLOCK), (unsigned)ceil_div(N, BLOCK)), TILE * TILE}, stream, out, inp, weight, bias, N, C, OC);
}
