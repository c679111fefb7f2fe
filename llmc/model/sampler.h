// sampler.h: from logits to the next token. Temperature, top-k, top-p; the random number comes from the caller.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

struct SamplerOptions { double temperature = 1; int top_k = 0; double top_p = 1; };

// logits (V); coin uniform in [0, 1). Temperature 0 takes the likeliest token, the lowest id among equals.
inline int sample(const float* logits, int V, const SamplerOptions& options, float coin) {
    int best = (int)(std::max_element(logits, logits + V) - logits);
    if (options.temperature == 0) return best;
    std::vector<double> prob((size_t)V);  // probabilities, unnormalised: times `total`
    std::vector<int> order((size_t)V);
    double total = 0;
    for (int i = 0; i < V; i++) {
        order[(size_t)i] = i;
        total += prob[(size_t)i] = std::exp(((double)logits[i] - logits[best]) / options.temperature);
    }
    size_t kept = (size_t)V;
    if (options.top_k > 0 || options.top_p < 1) {
        // likeliest first, ids in order among equals: top-k keeps k of them, then top-p the fewest that reach probability p
        std::sort(order.begin(), order.end(), [&](int a, int b) {
            return prob[(size_t)a] != prob[(size_t)b] ? prob[(size_t)a] > prob[(size_t)b] : a < b;
        });
        if (options.top_k > 0) kept = std::min(kept, (size_t)options.top_k);
        double mass = 0, kept_total = 0;
        for (size_t i = 0; i < kept; i++) kept_total += prob[(size_t)order[i]];
        for (size_t i = 0; i < kept; i++)
            if ((mass += prob[(size_t)order[i]]) >= options.top_p * kept_total) { kept = i + 1; break; }
        total = 0;
        for (size_t i = 0; i < kept; i++) total += prob[(size_t)order[i]];
    }
    double threshold = coin * total, sum = 0;
    for (size_t i = 0; i < kept; i++)
        if ((sum += prob[(size_t)order[i]]) > threshold) return order[i];
    return order[kept - 1];
}
