// The embedding in C++ and in CUDA, part by part: doc/learn/embedding.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-embedding` says how far it is.
//     out[b, t] = wte[inp[b, t]] + wpe[t]
// inp is (B, T), token numbers in 0 .. V-1; wte is (V, C), wpe (T, C), out (B, T, C). dwte, dwpe and dout have the shapes of wte, wpe and out. N = B * T rows of out: row n is b = n / T, t = n % T.

// ---- 1. forward in C++
void forward_cpp(float* out, const int* inp, const float* wte, const float* wpe, int B, int T, int C) {
    for (int n = 0; n < B * T; n++) {
        BLANK;  // row n of out: the token's row of wte plus the position's row of wpe
    }
}

// ---- 2. backward in C++
// dwte +=   dwpe +=      whoever calls it has set both to 0, or wants to add
void backward_cpp(float* dwte, float* dwpe, const float* dout, const int* inp, int B, int T, int C) {
    for (int n = 0; n < B * T; n++) {
        BLANK;  // row n of dout is added to one row of dwte and to one of dwpe
    }
}

// ---- 3. CUDA, forward: a warp a row, 16-byte loads
// C is a multiple of 4. load_floats(x, p) fills float x[4] from p on, store_floats(p, x) stores it.
constexpr int WARPS = 4;  // rows a block
__global__ void forward_kernel(float* out, const int* inp, const float* wte, const float* wpe, int N, int T, int C) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, n = blockIdx.x * WARPS + warp;
    if (n >= N) return;  // the whole warp
    BLANK;  // row n: a lane takes four columns, then four that are 4 * WARP further on
}
void forward_cuda(float* out, const int* inp, const float* wte, const float* wpe, int B, int T, int C, stream_t stream) {
    launch(forward_kernel, {(unsigned)ceil_div(B * T, WARPS), WARPS * WARP}, stream, out, inp, wte, wpe, B * T, T, C);
}

// ---- 4. CUDA, the gradient of positions: a thread an element
// dwpe +=      element i of dwpe, seen as T * C numbers, is the same place in each of the B rows of the batch
__global__ void positions_kernel(float* dwpe, const float* dout, int B, int T, int C) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= T * C) return;
    BLANK;  // the sum over b, in its order, is added to dwpe[i]
}
void positions_cuda(float* dwpe, const float* dout, int B, int T, int C, stream_t stream) {
    launch(positions_kernel, over((size_t)T * C, 64), stream, dwpe, dout, B, T, C);
}

// ---- 5. sort: the rows of each token, side by side (C++)
// order (N) holds the numbers n = 0 .. N-1: those with inp[n] == 0 first, then those with inp[n] == 1, and so on; within a token the smaller n first. first (V + 1): where in `order`
// the rows of token v begin; they end where those of v + 1 begin, so first[V] = N. What order and first hold before is not said.
void sort_tokens(int* order, int* first, const int* inp, int N, int V) {
    BLANK;  // count the tokens, add the counts up, then place each n: a counting sort
}

// ---- 6. CUDA, the gradient of tokens: a warp a token, over its sorted rows
// dwte +=      order and first are those of part 5, in the GPU's memory
__global__ void tokens_kernel(float* dwte, const float* dout, const int* order, const int* first, int V, int C) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, v = blockIdx.x * WARPS + warp;
    if (v >= V) return;  // the whole warp
    const int begin = first[v], end = first[v + 1];
    if (begin == end) return;  // the token does not occur: its row stays as it is
    for (int c = lane; c < C; c += WARP) {
        BLANK;  // the sum over this token's rows of dout, in their order, is added to dwte
    }
}
void tokens_cuda(float* dwte, const float* dout, const int* order, const int* first, int V, int C, stream_t stream) {
    launch(tokens_kernel, {(unsigned)ceil_div(V, WARPS), WARPS * WARP}, stream, dwte, dout, order, first, V, C);
}
