// Softmax with cross-entropy in C++ and in CUDA, part by part: doc/learn/softmax.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-softmax` says how far it is.
//     p = softmax(row): p[i] = exp(row[i]) / sum of exp(row[j]),   loss = -log p[target]     each row of C logits by itself
// logits is (N, C), targets and losses are (N); C is the vocabulary's size.
#include <cfloat>

// ---- 1. forward in C++, in two passes
void losses_cpp(float* losses, const float* logits, const int* targets, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* row = logits + n * C;
        //{ the row's largest logit: exp of a number above 88.7 is infinite in a float
        float row_max = row[0];
        for (int i = 1; i < C; i++) row_max = fmaxf(row_max, row[i]);
        //} float row_max = BLANK;
        //{ the sum of exp(row[i] - row_max)
        float row_sum = 0;
        for (int i = 0; i < C; i++) row_sum += expf(row[i] - row_max);
        //} float row_sum = BLANK;
        //{ -log softmax(row)[targets[n]], without a division and without an exp
        losses[n] = logf(row_sum) + row_max - row[targets[n]];
        //} losses[n] = BLANK;
    }
}

// ---- 2. backward in C++, in place
// logits becomes its gradient: dlogits = (softmax(row) - onehot(target)) * dloss. losses are computed on the way.
void classifier_cpp(float* logits, float* losses, const int* targets, float dloss, int N, int C) {
    losses_cpp(losses, logits, targets, N, C);
    for (int n = 0; n < N; n++) {
        float* row = logits + n * C;
        //{ row_max and row_sum again, as in part 1; then every entry of the row
        float row_max = row[0], row_sum = 0;
        for (int i = 1; i < C; i++) row_max = fmaxf(row_max, row[i]);
        for (int i = 0; i < C; i++) row_sum += expf(row[i] - row_max);
        for (int i = 0; i < C; i++) row[i] = (expf(row[i] - row_max) / row_sum - (i == targets[n])) * dloss;
        //} BLANK;
    }
}

// ---- 3. online softmax: maximum and sum in one pass
struct Softmax { float row_max, row_sum; };
constexpr Softmax NOTHING = {-FLT_MAX, 0};  // not -infinity: -infinity - -infinity is NaN
// What s becomes when x is seen, too.
__host__ __device__ Softmax seen(Softmax s, float x) {
    //{ the larger of both
    const float row_max = fmaxf(s.row_max, x);
    //} const float row_max = BLANK;
    //{ a larger maximum rescales the sum so far
    return {row_max, s.row_sum * expf(s.row_max - row_max) + expf(x - row_max)};
    //} return {row_max, BLANK};
}
void online_cpp(float* maxima, float* sums, const float* logits, int N, int C) {
    for (int n = 0; n < N; n++) {
        Softmax s = NOTHING;
        for (int i = 0; i < C; i++) s = seen(s, logits[n * C + i]);
        maxima[n] = s.row_max, sums[n] = s.row_sum;
    }
}

// ---- 4. CUDA, fused: a block a row, loss and gradient
constexpr int WARPS = 8, THREADS = WARPS * WARP;  // of a block, which has a row
// The softmax of what all lanes have seen together. warp_max(x) and warp_sum(x) give every lane the largest and the sum of the lanes' x.
__device__ Softmax over_warp(Softmax mine) {
    //{ first the common maximum, then the sums, each rescaled to it
    const float row_max = warp_max(mine.row_max);
    return {row_max, warp_sum(mine.row_sum * expf(mine.row_max - row_max))};
    //} return {BLANK, BLANK};
}
// Of what all threads of the block have seen together; every thread gets it.
__device__ Softmax over_block(Softmax mine) {
    __shared__ float maxima[WARPS], sums[WARPS];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    //{ over the warp, and one lane puts that into maxima[warp] and sums[warp]; when all warps have, each of them puts the WARPS pairs together, a lane having one or NOTHING
    mine = over_warp(mine);
    if (lane == 0) maxima[warp] = mine.row_max, sums[warp] = mine.row_sum;
    __syncthreads();  // sync: every warp reads what all warps have left
    return over_warp(lane < WARPS ? Softmax{maxima[lane], sums[lane]} : NOTHING);
    //} return {BLANK, BLANK};
}
__global__ void classifier_kernel(float* logits, float* losses, const int* targets, float dloss, int C) {
    const int n = blockIdx.x, target = targets[n];
    float* row = logits + n * C;
    Softmax s = NOTHING;
    //{ what this thread sees of the row, neighbouring threads neighbouring logits; then over the block
    for (int i = threadIdx.x; i < C; i += THREADS) s = seen(s, row[i]);
    s = over_block(s);
    //} BLANK;
    //{ the loss, by one thread; none may overwrite the target's logit before it has been read
    if (threadIdx.x == 0) losses[n] = logf(s.row_sum) + s.row_max - row[target];
    __syncthreads();  // sync: below a thread overwrites the target's logit, which thread 0 reads
    //} BLANK;
    //{ the gradient
    for (int i = threadIdx.x; i < C; i += THREADS) row[i] = (expf(row[i] - s.row_max) / s.row_sum - (i == target)) * dloss;
    //} BLANK;
}
void classifier_cuda(float* logits, float* losses, const int* targets, float dloss, int N, int C, stream_t stream) {
    launch(classifier_kernel, {(unsigned)N, THREADS}, stream, logits, losses, targets, dloss, C);
}
