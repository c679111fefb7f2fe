// GELU in C++ and in CUDA, part by part: doc/learn/gelu.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-gelu` says how far it is.
//     gelu(x) = x/2 * (1 + tanh(u)),   u = sqrt(2/pi) * (x + 0.044715 x^3)     each element by itself
constexpr float ROOT_2_PI = 0.7978845608f;  // sqrt(2/pi)
constexpr float CUBIC = 0.044715f;

// ---- 1. forward in C++
__host__ __device__ float gelu(float x) {
    return BLANK;  // by the formula above
}
void forward_cpp(float* out, const float* inp, int n) {
    for (int i = 0; i < n; i++) out[i] = gelu(inp[i]);
}

// ---- 2. backward in C++
// The derivative of gelu at x: the product rule, then the chain rule through tanh(u), whose derivative is 1 - tanh(u)^2.
__host__ __device__ float gelu_grad(float x) {
    const float t = tanhf(ROOT_2_PI * (x + CUBIC * x * x * x));
    const float du = BLANK;  // du/dx, the derivative of u
    return BLANK;  // the derivative
}
// dinp = dout * gelu'(inp)
void backward_cpp(float* dinp, const float* dout, const float* inp, int n) {
    BLANK;  // the chain rule, element by element
}

// ---- 3. CUDA, an element a thread
__global__ void gelu_kernel(float* out, const float* inp, int n) {
    BLANK;  // this thread's element; a thread behind the last one has nothing to do
}
void forward_cuda(float* out, const float* inp, int n, stream_t stream) {
    launch(gelu_kernel, over(n, 256), stream, out, inp, n);
}

// ---- 4. CUDA, 16-byte loads, and the tail
__global__ void gelu_pack_kernel(float* out, const float* inp, int n) {
    const int begin = BLANK;  // the first of this thread's four elements
    BLANK;  // four at once by load_floats(x, p) and store_floats(p, x), where all four are there; else those that are left, one by one
}
void forward_pack(float* out, const float* inp, int n, stream_t stream) {
    const size_t items = BLANK;  // how many items there are: a thread takes four elements
    launch(gelu_pack_kernel, over(items, 256), stream, out, inp, n);
}

// ---- 5. CUDA, backward in place
// What the forward keeps is inp alone. dinp may be dout: each thread reads its own elements before it writes them. 16-byte loads; n is a multiple of 4.
__global__ void gelu_backward_kernel(float* dinp, const float* dout, const float* inp, int n) {
    const int begin = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    BLANK;  // as in part 4, with two inputs
}
void backward_cuda(float* dinp, const float* dout, const float* inp, int n, stream_t stream) {
    launch(gelu_backward_kernel, over(ceil_div(n, 4), 256), stream, dinp, dout, inp, n);
}
