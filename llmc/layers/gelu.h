// gelu.h: GELU's constants, for both backends.
#pragma once

//   gelu(x) = x/2 * (1 + tanh(u)),  u = sqrt(2/pi) * (x + 0.044715 x^3)
// and (1 + tanh(u)) / 2 = 1 / (1 + e^-2u) = s, the logistic sigmoid of 2u: one exponential and no cancellation, neither near
// 0 nor in the tail.
constexpr float GELU_A = 1.5957691216f;              // 2 sqrt(2/pi)
constexpr float GELU_B = 1.5957691216f * 0.044715f;  // so that 2u = x (A + B x^2)
