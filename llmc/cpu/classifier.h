// classifier.h: softmax and cross entropy in one go; the logits are overwritten with their gradient.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstddef>
#include "../base/check.h"
#include "device.h"
#include "vec.h"

namespace classifier_detail {
// Maximum of a row and sum of e^(x - maximum), reading memory once: a block is read for its maximum and, from the cache,
// for its sum; when the maximum grows, the sum so far shrinks. (Milakov and Gimelshein 2018)
struct Softmax { float max; double sum; };

template <class F> inline Softmax softmax(const F* x, int V) {
    constexpr int BLOCK = 1024;  // elements: a tenth of an L1 cache
    Softmax s{-FLT_MAX, 0};      // not -infinity, which minus itself is a NaN
    for (int begin = 0; begin < V; begin += BLOCK) {
        const F* block = x + begin;
        int n = V - begin < BLOCK ? V - begin : BLOCK, whole = n - n % W;
        vfloat m[2] = {splat(s.max), splat(s.max)};
        for (int i = 0; i < whole; i += W) m[i / W % 2] = vmax(load(block + i), m[i / W % 2]);
        float largest = max(vmax(m[0], m[1]));
        for (int i = whole; i < n; i++) largest = (float)block[i] > largest ? (float)block[i] : largest;
        vfloat total[2] = {};
        for (int i = 0; i < whole; i += W) {
            __builtin_prefetch(block + BLOCK + i);  // or else memory would idle while this computes
            total[i / W % 2] += vexp(load(block + i) - largest);
        }
        if (whole < n) {
            float rest[W];
            store(rest, vexp(load_part(block + whole, n - whole) - largest));
            total[0] += load_part(rest, n - whole);
        }
        s.sum = s.sum * std::exp((double)s.max - (double)largest) + (double)sum(total[0] + total[1]);
        s.max = largest;
    }
    return s;
}
}  // namespace classifier_detail

// losses = -log softmax(logits[:V])[target];  if write_dlogits: logits = (softmax - onehot) * dloss, columns V..Vp-1 = 0.
// A target below 0 does not count: loss 0, gradient 0.
template <class F>
void fused_classifier(F* logits,           // (N, Vp) becomes its gradient
                      float* losses,       // (N)
                      const int* targets,  // (N)
                      float dloss,         // gradient of each loss
                      size_t N, int V, int Vp, bool write_dlogits, stream_t) {
    #pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++) {
        F* x = logits + n * Vp;
        const int target = targets[n];
        CHECK(target < V, "classifier: target %d of a vocabulary of %d", target, V);
        const classifier_detail::Softmax softmax = classifier_detail::softmax(x, V);
        const float largest = softmax.max;
        const double total = softmax.sum;
        const float correct = target < 0 ? 0 : (float)x[target];
        losses[n] = target < 0 ? 0 : (float)(std::log(total) + ((double)largest - (double)correct));
        if (!write_dlogits) continue;

        const float scale = target < 0 ? 0 : (float)((double)dloss / total);
        each_vector(V, [&](int i, int k) { store_first(x + i, vexp(load_first(x + i, k) - largest) * scale, k); });
        // The target's own entry from its logit, not from the stored probability: p - 1 must not see F's rounding of p.
        if (target >= 0) x[target] = (float)((std::exp((double)correct - (double)largest) / total - 1) * (double)dloss);
        for (int i = V; i < Vp; i++) x[i] = 0.0f;
    }
}
