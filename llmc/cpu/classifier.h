// classifier.h: softmax and cross entropy, forward and backward fused; the logits are overwritten with their gradient.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstddef>
#include "../base/check.h"
#include "../layers/arguments.h"
#include "device.h"
#include "vec.h"

namespace classifier_detail {
// Online softmax (Milakov and Gimelshein 2018): row_max and row_sum = sum of e^(x - row_max) in one pass over memory. A block is read
// for its maximum and, from the cache, for its sum; when row_max grows, row_sum is rescaled.
struct Softmax { float row_max; double row_sum; };

// What the softmax sees of a logit z, and d, a gradient of that, as one of z: softcap.h. It is monotonic: row_max is the largest z.
template <bool CAPPED> struct Cap {
    float cap;
    static vfloat root(vfloat t) { return 1.0f / vsqrt(1.0f + t * t); }
    vfloat value(vfloat z) const { if constexpr (CAPPED) return z * root(z * (1 / cap)); else return z; }
    float value(float z) const { return value(splat(z))[0]; }
    vfloat gradient(vfloat d, vfloat z) const {
        if constexpr (!CAPPED) return d;
        const vfloat r = root(z * (1 / cap));
        return d * (r * r * r);
    }
};

template <class F, bool CAPPED> inline Softmax softmax(const F* x, int V, Cap<CAPPED> cap) {
    constexpr int BLOCK = 1024;  // elements: a tenth of an L1 cache
    Softmax s{-FLT_MAX, 0};      // not -infinity: -infinity - -infinity is NaN
    for (int begin = 0; begin < V; begin += BLOCK) {
        const F* block = x + begin;
        int n = V - begin < BLOCK ? V - begin : BLOCK, whole = n - n % W;
        vfloat m[2] = {splat(s.row_max), splat(s.row_max)};
        for (int i = 0; i < whole; i += W) m[i / W % 2] = vmax(load(block + i), m[i / W % 2]);
        float row_max = max(vmax(m[0], m[1]));
        for (int i = whole; i < n; i++) row_max = (float)block[i] > row_max ? (float)block[i] : row_max;
        const float most = cap.value(row_max);
        vfloat acc[2] = {};
        for (int i = 0; i < whole; i += W) {
            __builtin_prefetch(block + BLOCK + i);  // memory would be idle during the exponentials
            acc[i / W % 2] += vexp(cap.value(load(block + i)) - most);
        }
        if (whole < n) {
            float rest[W];
            store(rest, vexp(cap.value(load_part(block + whole, n - whole)) - most));
            acc[0] += load_part(rest, n - whole);
        }
        s.row_sum = s.row_sum * std::exp((double)cap.value(s.row_max) - (double)most) + (double)sum(acc[0] + acc[1]);
        s.row_max = row_max;
    }
    return s;
}

template <class F, bool CAPPED> inline void classify_row(F* x, float* loss, int target, float dloss, int V, int Vp, bool write_dlogits, Cap<CAPPED> cap) {
    const Softmax s = softmax(x, V, cap);
    const float row_max = cap.value(s.row_max), logit = target < 0 ? 0 : (float)x[target], correct = cap.value(logit);
    *loss = target < 0 ? 0 : (float)(std::log(s.row_sum) + ((double)row_max - (double)correct));
    if (!write_dlogits) return;

    const float scale = target < 0 ? 0 : (float)((double)dloss / s.row_sum);
    each_vector(V, [&](int i, int k) {
        const vfloat z = load_first(x + i, k);
        store_first(x + i, cap.gradient(vexp(cap.value(z) - row_max) * scale, z), k);
    });
    // The target's own entry: p - 1 from the logit, not from p rounded to F.
    if (target >= 0) x[target] = cap.gradient(splat((float)((std::exp((double)correct - (double)row_max) / s.row_sum - 1) * (double)dloss)), splat(logit))[0];
    for (int i = V; i < Vp; i++) x[i] = 0.0f;
}
}  // namespace classifier_detail

// losses = -log softmax(logits[:V])[target];  if write_dlogits: logits = (softmax - onehot) * dloss, columns V..Vp-1 = 0.
// With a softcap the softmax is of softcap(logits), and their gradient is one of the logits again. A target below 0 is ignored: loss 0, gradient 0.
template <class F>
void fused_classifier(F* logits,           // (N, Vp) becomes its gradient
                      float* losses,       // (N)
                      const int* targets,  // (N)
                      float dloss,         // gradient of each loss
                      size_t N, int V, int Vp, Classifier how, stream_t) {
    parallel_rows(N, Vp, [=](size_t n) {
        CHECK(targets[n] < V, "classifier: target %d of a vocabulary of %d", targets[n], V);
        F* row = logits + n * Vp;
        if (how.softcap > 0) classifier_detail::classify_row<F, true>(row, losses + n, targets[n], dloss, V, Vp, how.write_dlogits, {how.softcap});
        else classifier_detail::classify_row<F, false>(row, losses + n, targets[n], dloss, V, Vp, how.write_dlogits, {});
    });
}
