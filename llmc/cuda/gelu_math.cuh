// gelu_math.cuh: the tanh GELU of GPT-2 and its derivative of one number. Apart from gelu.cuh because matmul.cuh uses it too.
#pragma once
#include "../layers.h"
#include "device.cuh"

constexpr float LOG2E = 1.44269504f;

// gelu(x) = x s, s as in llmc/layers.h.  Below -100 the result is -0 whatever x is: the clamp is for -infinity, where x s would
// be a NaN. Comparisons with a NaN are false, so it stays one (fmaxf would lose it).
__device__ inline float gelu(float x) {
    const float c = x < -100.0f ? -100.0f : x;
    const float e = ex2_approx(-LOG2E * c * (GELU_A + GELU_B * (c * c)));  // e^-2u: 0 or infinity at worst
    return __fdividef(c, 1.0f + e);
}

// gelu'(x) = s + x s (1 - s) (2u)',  (2u)' = A + 3 B x^2,  1 - s = e s  with e = e^-2u.
// Beyond |x| = 10 the derivative is 0 or 1 to the last bit that a float can hold beside 1; the clamp keeps e below 2^126,
// from where on __fdividef gives 0 (CUDA C++ Programming Guide, intrinsic functions).
__device__ inline float gelu_grad(float x) {
    const float c = x < -10.0f ? -10.0f : x > 10.0f ? 10.0f : x;
    const float square = c * c;
    const float e = ex2_approx(-LOG2E * c * (GELU_A + GELU_B * square));
    const float s = __fdividef(1.0f, 1.0f + e);
    return s + c * (e * s) * s * (GELU_A + 3 * GELU_B * square);
}
