// softcap.h: logits bounded smoothly, as their classifier does it and whoever samples from them: z becomes y = cap z / sqrt(z^2 + cap^2) = z r.
#pragma once
#include <cmath>

//   r = 1 / sqrt(1 + (z / cap)^2),  dy/dz = r^3.  Of an infinity y is NaN, as a loss shall show it.
inline float softcap(float z, float cap) {
    const float t = z * (1 / cap);
    return z / sqrtf(1 + t * t);
}
