// A block and the backward that mirrors it, from layers that are given: doc/learn/block.md explains each part. Fill in what says BLANK, in as many lines as you like; `make learn-block` says how far it is.
// The layers are in dev/learn/block/layers.h, each with its shapes and with what it does to its outputs, = or +=. One row of T tokens; the width is C; attention has one head.
#include "layers.h"

// F is const float for weights and float for their gradients, which have the same shapes: w.qkvw and g.qkvw.
template <class F> struct Tensors {
    F *ln1w, *ln1b;          // (C), (C)
    F *qkvw, *qkvb;          // (3C, C), (3C)
    F *attprojw, *attprojb;  // (C, C), (C)
    F *ln2w, *ln2b;          // (C), (C)
    F *fcw, *fcb;            // (4C, C), (4C)
    F *fcprojw, *fcprojb;    // (C, 4C), (C)
};
using Weights = Tensors<const float>;
using Gradients = Tensors<float>;

// What the forward writes and the backward reads.
struct Activations {
    float *ln1, *ln1_mean, *ln1_rstd;  // (T, C), (T), (T)
    float *qkv, *atty;                 // (T, 3C), (T, C)
    float *residual2;                  // (T, C) after attention
    float *ln2, *ln2_mean, *ln2_rstd;  // (T, C), (T), (T)
    float *fch, *fch_gelu;             // (T, 4C), (T, 4C)
    float *residual3;                  // (T, C) after the MLP: what the block gives to the next
};
// Memory that a function may use as it likes; what stands in it is not kept.
struct Scratch {
    float *branch;  // (T, C) what a branch adds to the residual stream
    float *dln;     // (T, C) of ln1 or ln2
    float *datty;   // (T, C)
    float *dqkv;    // (T, 3C)
    float *dfch;    // (T, 4C) of fch_gelu, then of fch
};

// ---- 1. the block, forward
// residual (T, C) is what comes in: it is not changed.
//     ln1 = norm(residual)     qkv = linear(ln1)   atty = attention(qkv)      residual2 = residual + linear(atty)
//     ln2 = norm(residual2)    fch = linear(ln2)   fch_gelu = gelu(fch)       residual3 = residual2 + linear(fch_gelu)
void block_forward(const Activations& a, const Scratch& s, const float* residual, const Weights& w, int T, int C) {
    norm_forward(a.ln1, a.ln1_mean, a.ln1_rstd, residual, w.ln1w, w.ln1b, T, C);
    linear_forward(a.qkv, a.ln1, w.qkvw, w.qkvb, T, C, 3 * C);
    BLANK;  // the rest of the first line: atty, what it adds (in s.branch), residual2
    BLANK;  // the second line: ln2, fch, fch_gelu, residual3
}

// ---- 2. the block, backward
// dresidual (T, C) comes in as the gradient of residual3 and goes out as that of residual.  g's tensors +=: whoever calls it has set them to 0, or wants to add.
void block_backward(float* dresidual, const Gradients& g, const Scratch& s, const float* residual, const Activations& a, const Weights& w, int T, int C) {
    BLANK;  // the MLP, from its end: dresidual becomes the gradient of residual2
    BLANK;  // attention, from its end: dresidual becomes the gradient of residual
}

// ---- 3. L blocks, one behind the other
// encoded (T, C) goes into block 0, a[l].residual3 into block l + 1. a, w and g are arrays of L.
void trunk_forward(const Activations* a, const Scratch& s, const float* encoded, const Weights* w, int L, int T, int C) {
    for (int l = 0; l < L; l++) {
        BLANK;  // block l
    }
}
// dresidual comes in as the gradient of the last block's residual3 and goes out as that of encoded.
void trunk_backward(float* dresidual, const Gradients* g, const Scratch& s, const float* encoded, const Activations* a, const Weights* w, int L, int T, int C) {
    BLANK;  // all blocks, in the order that a backward has
}

// ---- 4. recomputing: memory for one block's activations instead of L
// kept (L, T, C): kept + l * T * C is for what goes into block l. `a` is the memory of one block, which all blocks use in turn.
void lean_forward(float* kept, const Activations& a, const Scratch& s, const float* encoded, const Weights* w, int L, int T, int C) {
    for (int l = 0; l < L; l++) {
        BLANK;  // keep a copy of what goes into block l, then run it
    }
}
// As trunk_backward; `a` holds what the last block has left in it.
void lean_backward(float* dresidual, const Gradients* g, const Scratch& s, const float* kept, const Activations& a, const Weights* w, int L, int T, int C) {
    BLANK;  // each block's activations are made again before they are read
}
