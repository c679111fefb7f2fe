// Softmax with cross-entropy in C++ and in CUDA, part by part: doc/learn/softmax.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-softmax` says how far it is.
//     p = softmax(row): p[i] = exp(row[i]) / sum of exp(row[j]),   loss = -log p[target]     each row of C logits by itself
// logits is (N, C), targets and losses are (N); C is the vocabulary's size.
#include <cfloat>

// ---- 1. forward in C++, in two passes
void losses_cpp(float* losses, const float* logits, const int* targets, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* row = logits + n * C;
        float row_max = BLANK;  // the row's largest logit: exp of a number above 88.7 is infinite in a float
        float row_sum = BLANK;  // the sum of exp(row[i] - row_max)
        losses[n] = BLANK;  // -log softmax(row)[targets[n]], without a division and without an exp
    }
}

// ---- 2. backward in C++, in place
// logits becomes its gradient: dlogits = (softmax(row) - onehot(target)) * dloss. losses are computed on the way.
void classifier_cpp(float* logits, float* losses, const int* targets, float dloss, int N, int C) {
    losses_cpp(losses, logits, targets, N, C);
    for (int n = 0; n < N; n++) {
        float* row = logits + n * C;
        BLANK;  // row_max and row_sum again, as in part 1; then every entry of the row
    }
}

// ---- 3. online softmax: maximum and sum in one pass
struct Softmax { float row_max, row_sum; };
constexpr Softmax NOTHING = {-FLT_MAX, 0};  // not -infinity: -infinity - -infinity is NaN
// What s becomes when x is seen, too.
__host__ __device__ Softmax seen(Softmax s, float x) {
    const float row_max = BLANK;  // the larger of both
    return {row_max, BLANK};  // a larger maximum rescales the sum so far
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
    return {BLANK, BLANK};  // first the common maximum, then the sums, each rescaled to it
}
// Of what all threads of the block have seen together; every thread gets it.
__device__ Softmax over_block(Softmax mine) {
    __shared__ float maxima[WARPS], sums[WARPS];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    return {BLANK, BLANK};  // over the warp, and one lane puts that into maxima[warp] and sums[warp]; when all warps have, each of them puts the WARPS pairs together, a lane having one or NOTHING
}
__global__ void classifier_kernel(float* logits, float* losses, const int* targets, float dloss, int C) {
    const int n = blockIdx.x, target = targets[n];
    float* row = logits + n * C;
    Softmax s = NOTHING;
    BLANK;  // what this thread sees of the row, neighbouring threads neighbouring logits; then over the block
    BLANK;  // the loss, by one thread; none may overwrite the target's logit before it has been read
    BLANK;  // the gradient
}
void classifier_cuda(float* logits, float* losses, const int* targets, float dloss, int N, int C, stream_t stream) {
    launch(classifier_kernel, {(unsigned)N, THREADS}, stream, logits, losses, targets, dloss, C);
}
