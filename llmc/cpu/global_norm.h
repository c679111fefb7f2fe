// global_norm.h: the square of the global gradient norm: the L2 norm of all gradients as one vector.
#pragma once
#include <cstddef>
#include "device.h"
#include "vec.h"

// out = sum of grads[i]^2, in double, so that nothing overflows; NaN and infinity propagate. Partial sums are of
// the same elements whatever the number of threads.
inline void global_norm_squared(double* out,         // (1)
                                const float* grads,  // (n)
                                size_t n, stream_t) {
    constexpr int PARTIALS = 256, H = W / 2;  // a vector of doubles holds half as many
    typedef float vhalf_float __attribute__((vector_size(H * 4)));
    typedef double vdouble __attribute__((vector_size(H * 8)));
    const size_t part = (n / PARTIALS / (4 * H) + 1) * (4 * H);
    double partials[PARTIALS];
    parallel_for(PARTIALS, [=, to = partials](size_t p) {
        size_t i = p * part < n ? p * part : n, end = n - i < part ? n : i + part;
        vdouble total[4] = {};
        for (; i + 4 * H <= end; i += 4 * H)
            for (int j = 0; j < 4; j++) {
                vhalf_float g;
                memcpy(&g, grads + i + j * H, sizeof g);
                vdouble d = __builtin_convertvector(g, vdouble);
                total[j] += d * d;
            }
        total[0] += total[1], total[2] += total[3], total[0] += total[2];
        double sum = 0;
        for (int j = 0; j < H; j++) sum += total[0][j];
        for (; i < end; i++) sum += (double)grads[i] * (double)grads[i];
        to[p] = sum;
    });
    double sum = 0;
    for (int p = 0; p < PARTIALS; p++) sum += partials[p];
    *out = sum;
}
