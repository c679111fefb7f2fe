// classifier.h: softmax and cross entropy, forward and backward fused; the logits are overwritten with their gradient.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstddef>
#include "../base/check.h"
#include "device.h"
#include "vec.h"

namespace classifier_detail {
// Online softmax (Milakov and Gimelshein 2018): row_max and row_sum = sum of e^(x - row_max) in one pass over memory. A block is read
// for its maximum and, from the cache, for its sum; when row_max grows, row_sum is rescaled.
struct Softmax { float row_max; double row_sum; };

template <class F> inline Softmax softmax(const F* x, int V) {
    constexpr int BLOCK = 1024;  // elements: a tenth of an L1 cache
    Softmax s{-FLT_MAX, 0};      // not -infinity: -infinity - -infinity is NaN
    for (int begin = 0; begin < V; begin += BLOCK) {
        const F* block = x + begin;
        int n = V - begin < BLOCK ? V - begin : BLOCK, whole = n - n % W;
        vfloat m[2] = {splat(s.row_max), splat(s.row_max)};
        for (int i = 0; i < whole; i += W) m[i / W % 2] = vmax(load(block + i), m[i / W % 2]);
        float row_max = max(vmax(m[0], m[1]));
        for (int i = whole; i < n; i++) row_max = (float)block[i] > row_max ? (float)block[i] : row_max;
        vfloat acc[2] = {};
        for (int i = 0; i < whole; i += W) {
            __builtin_prefetch(block + BLOCK + i);  // memory would be idle during the exponentials
            acc[i / W % 2] += vexp(load(block + i) - row_max);
        }
        if (whole < n) {
            float rest[W];
            store(rest, vexp(load_part(block + whole, n - whole) - row_max));
            acc[0] += load_part(rest, n - whole);
        }
        s.row_sum = s.row_sum * std::exp((double)s.row_max - (double)row_max) + (double)sum(acc[0] + acc[1]);
        s.row_max = row_max;
    }
    return s;
}
}  // namespace classifier_detail

// losses = -log softmax(logits[:V])[target];  if write_dlogits: logits = (softmax - onehot) * dloss, columns V..Vp-1 = 0.
// A target below 0 is ignored: loss 0, gradient 0.
template <class F>
void fused_classifier(F* logits,           // (N, Vp) becomes its gradient
                      float* losses,       // (N)
                      const int* targets,  // (N)
                      float dloss,         // gradient of each loss
                      size_t N, int V, int Vp, bool write_dlogits, stream_t) {
    parallel_rows(N, Vp, [=](size_t n) {
        F* x = logits + n * Vp;
        const int target = targets[n];
        CHECK(target < V, "classifier: target %d of a vocabulary of %d", target, V);
        const classifier_detail::Softmax softmax = classifier_detail::softmax(x, V);
        const float row_max = softmax.row_max;
        const double row_sum = softmax.row_sum;
        const float correct = target < 0 ? 0 : (float)x[target];
        losses[n] = target < 0 ? 0 : (float)(std::log(row_sum) + ((double)row_max - (double)correct));
        if (!write_dlogits) return;

        const float scale = target < 0 ? 0 : (float)((double)dloss / row_sum);
        each_vector(V, [&](int i, int k) { store_first(x + i, vexp(load_first(x + i, k) - row_max) * scale, k); });
        // The target's own entry: p - 1 from the logit, not from p rounded to F.
        if (target >= 0) x[target] = (float)((std::exp((double)correct - (double)row_max) / row_sum - 1) * (double)dloss);
        for (int i = V; i < Vp; i++) x[i] = 0.0f;
    });
}
