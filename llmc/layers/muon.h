// muon.h: Muon's coefficients and hyperparameters (Jordan et al. 2024), for both backends.
//
//     M = lerp(M, G, 1 - momentum),  U = lerp(G, M, momentum)           Nesterov's momentum
//     X = U / (1.02 |U| + 1e-6), wide: rows <= columns, else U^T        singular values of at most 1
//     five times  A = X X^T,  X = a X + (b A + c A A) X                 a s + b s^3 + c s^5 of each singular value s: all become nearly 1
//     W -= lr (max(1, rows / columns)^0.5 X + weight_decay W)
//
// Polar Express (Amsel et al. 2025, arXiv 2505.16932): each iteration is the best polynomial of its degree for what the one before leaves of [1e-3, 1]. The
// safety factor 1.02 is in the norm and in the coefficients of all iterations but the last, as in the paper; dev/reference/muon.py derives them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include "adamw.h"

struct PolarExpress { float a, b, c; };
constexpr PolarExpress POLAR_EXPRESS[] = {{8.156554524902461f, -22.48329292557795f, 15.878769915207462f},
                                          {4.042929935166739f, -2.808917465908714f, 0.5000178451051316f},
                                          {3.8916678022926607f, -2.772484153217685f, 0.5060648178503393f},
                                          {3.285753657755655f, -2.3681294933425376f, 0.46449024233003106f},
                                          {2.3465413258596377f, -1.7097828382687081f, 0.42323551169305323f}};
constexpr double MUON_SAFETY = 1.02, MUON_EPS = 1e-6;

struct Muon {
    float lr, momentum, weight_decay;
    int t;          // step, from 1
    uint64_t seed;  // of the rounding
};

// Where a matrix begins, in elements: in the whole model, in the weights' buffer, in that of gradients, in those of moments and masters.
struct MuonMatrix { size_t first, weight, grad, state; };

// Wide neural layers' matrices move as far a row as others.
inline float muon_scale(int rows, int cols) { return (float)std::sqrt(std::max(1.0, (double)rows / cols)); }

// Scratch for so many matrices of one shape: X, its transpose twice, A, B, and the sums of a matrix's norm.
constexpr size_t MUON_SUMS = 64;
struct MuonScratch {
    size_t r, c, n;
    MuonScratch(size_t count, int rows, int cols) : r((size_t)std::min(rows, cols)), c((size_t)std::max(rows, cols)), n(count) {}
    size_t elements() const { return n * (3 * r * c + 2 * r * r); }
    size_t bytes(size_t element) const { return n * std::max(MUON_SUMS, c) * sizeof(double) + elements() * element; }
};
