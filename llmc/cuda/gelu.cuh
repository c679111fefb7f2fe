// gelu.cuh: the activation of the MLP, when it is not fused into the matmul before or after it: GELU, or ReLU squared (So et al. 2021, "Primer"), which never is.
#pragma once
#include "gelu_kernels.cuh"

// out = gelu(inp)
template <class F>
void gelu_forward(F* out, const F* inp, size_t n, stream_t stream) { gelu_detail::forward(out, inp, n, stream); }

// dinp = dout * gelu'(inp);  dinp may be dout
template <class F>
void gelu_backward(F* dinp, const F* dout, const F* inp, size_t n, stream_t stream) { gelu_detail::backward(dinp, dout, inp, n, stream); }

// out = max(inp, 0)^2
template <class F>
void relu2_forward(F* out, const F* inp, size_t n, stream_t stream) { gelu_detail::forward<gelu_detail::Relu2>(out, inp, n, stream); }

// dinp = dout * 2 max(inp, 0);  dinp may be dout
template <class F>
void relu2_backward(F* dinp, const F* dout, const F* inp, size_t n, stream_t stream) { gelu_detail::backward<gelu_detail::Relu2>(dinp, dout, inp, n, stream); }
