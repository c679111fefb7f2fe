// embedding.h: token embedding plus position embedding.
#pragma once
#include <cstddef>
#include <cstring>
#include "device.h"
#include "vec.h"

// out[b, t] = wte[inp[b, t]] + wpe[pos0 + t]    wpe null: positions are not learned, and not added here
template <class F>
void embedding_forward(F* out,          // (B, T, C)
                       const int* inp,  // (B, T)
                       const F* wte,    // (V, C)
                       const F* wpe,    // (Tmax, C)
                       int B, int T, int C, int pos0, stream_t) {
    parallel_rows((size_t)B * T, C, [=](size_t n) {
        const F* token = wte + (size_t)inp[n] * C;
        F* row = out + n * C;
        if (!wpe) return (void)memcpy(row, token, (size_t)C * sizeof(F));
        const F* position = wpe + ((size_t)pos0 + n % T) * C;
        each_vector(C, [=](int c, int k) { store_first(row + c, load_first(token + c, k) + load_first(position + c, k), k); });
    });
}

// dwte[inp[b, t]] += dout[b, t]             always +=: the classifier, which shares the matrix, has written it first
// dwpe[t] = or += sum over b of dout[b, t]  (positions 0..T-1; the rows T..Tmax-1 become 0 unless accumulating; dwpe null: there is none)
template <class F>
void embedding_backward(float* dwte,      // (V, C)
                        float* dwpe,      // (Tmax, C)
                        const F* dout,    // (B, T, C)
                        const int* inp,   // (B, T)
                        int B, int T, int C, int Tmax, bool accumulate, stream_t) {
    // Tokens repeat, so threads share out the columns of dwte, not its rows: no two write to one element, and the order of additions is fixed.
    constexpr size_t COLUMNS = 64;  // 4 cache lines of a row of dwte at a time
    parallel_blocks((size_t)C, COLUMNS, [=](size_t begin, size_t end) {
        const int width = (int)(end - begin);
        for (size_t n = 0; n < (size_t)B * T; n++) {
            float* row = dwte + (size_t)inp[n] * C + begin;
            const F* d = dout + n * C + begin;
            each_vector(width, [=](int c, int k) { store_first(row + c, load_first(row + c, k) + load_first(d + c, k), k); });
        }
    });
    if (!dwpe) return;
    parallel_rows((size_t)T, B * C, [=](size_t t) {
        float* row = dwpe + t * C;
        each_vector(C, [=](int c, int k) {
            vfloat total = accumulate ? load_first(row + c, k) : splat(0);
            for (int b = 0; b < B; b++) total += load_first(dout + ((size_t)b * T + t) * C + c, k);
            store_first(row + c, total, k);
        });
    });
    if (!accumulate && Tmax > T) memset(dwpe + (size_t)T * C, 0, (size_t)(Tmax - T) * C * sizeof(float));
}
