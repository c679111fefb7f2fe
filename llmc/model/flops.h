// flops.h: how much arithmetic a token costs.
#pragma once
#include <algorithm>
#include "config.h"
#include "tensors.h"

// Parameters that multiply every token: the blocks' matrices and the head, tied or not; embeddings are only looked up.
inline double matmul_parameters(const Config& c) {
    const double attention = (double)c.C * c.QKV() + (double)c.NH * c.HS * c.C, mlp = (c.arch.mlp == SWIGLU ? 3.0 : 2.0) * c.C * c.FF;
    return c.L * (attention + mlp) + (double)c.V * c.C;
}

// Keys that a token of T sees on average, causally, summed over the layers: T / 2 each, in a window of W W (1 - W / 2T), as the first W tokens see fewer.
inline double keys_seen(const Config& c, int T) {
    double keys = 0;
    for (int l = 0; l < c.L; l++) {
        const double seen = c.window_of(l) ? std::min(c.window_of(l), T) : T;
        keys += seen * (1 - seen / (2.0 * T));
    }
    return keys;
}
// Forward and backward of one token: 6 FLOPs a parameter (Kaplan et al. 2020), and for causal attention 6 L NH HS T: scores
// and values are 2 products of 2 NH HS T / 2 FLOPs forward, twice that backward; in windows fewer.
inline double flops_per_token(const Config& c, int T) { return 6 * matmul_parameters(c) + 12.0 * c.NH * c.HS * keys_seen(c, T); }

// A step of Muon: five iterations, of a matrix (r, c) with r <= c X X^T and B X of 2 r r c each, A A of 2 r r r.
inline double muon_flops(const Config& c) {
    double flops = 0;
    for (const Parameter& p : ParameterList(c).all)
        for (size_t rows : p.parts) {
            const double r = (double)std::min(rows, p.cols), cols = (double)std::max(rows, p.cols);
            if (p.update == MUON) flops += 5 * (4 * r * r * cols + 2 * r * r * r);
        }
    return flops;
}
