// flops.h: how much arithmetic a token costs.
#pragma once
#include "config.h"

// Parameters that multiply every token: all but the embeddings' look-ups; the tied head counts once.
inline double matmul_parameters(const Config& c) { return 12.0 * c.L * c.C * c.C + (double)c.V * c.C; }

// Forward and backward of one token: 6 FLOPs a parameter (Kaplan et al. 2020), and for causal attention 6 L C T: scores
// and values are 2 products of 2 C T / 2 FLOPs forward, twice that backward.
inline double flops_per_token(const Config& c, int T) { return 6 * matmul_parameters(c) + 6.0 * c.L * c.C * T; }
