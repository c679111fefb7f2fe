// gelu_math.h: the tanh GELU of GPT-2 and its derivative on one vector. Apart from gelu.h because the epilogues of
// matmul.h use it too, and both must be bitwise identical.
#pragma once
#include "../layers/gelu.h"
#include "vec.h"

// gelu(x) = x s, s as in llmc/layers/gelu.h.  Below -100 the result is -0 whatever x is: the clamp is for -infinity, where x s would be a NaN.
inline vfloat gelu(vfloat x) {
    vfloat c = vmax(splat(-100.0f), x);  // in this order, so that a NaN stays one
    vfloat minus_2u = -c * (GELU_A + GELU_B * (c * c));
    return c / (1.0f + vexp(minus_2u));
}

// gelu'(x) = s + x s (1 - s) (2u)',  (2u)' = A + 3 B x^2,  1 - s = e s  with e = e^-2u.
// Beyond |x| = 10 the derivative is 0 or 1 to the last bit that a float can hold beside 1; the clamp keeps e finite. Of an infinity it is NaN, which
// the gradient's norm shows: 0 or 1 would hide it.
inline vfloat gelu_grad(vfloat x) {
    vfloat c = vmin(splat(10.0f), vmax(splat(-10.0f), x));
    vfloat square = c * c;
    vfloat e = vexp(-c * (GELU_A + GELU_B * square));
    vfloat s = 1.0f / (1.0f + e);
    return s + c * (e * s) * s * (GELU_A + 3 * GELU_B * square) + 0.0f * x;
}
